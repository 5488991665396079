/* Fuzz entry: a template and its context in one input, the first NUL byte between them. */
#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mlxr_template_limits limits = {
        .max_steps = 20000, .max_output_bytes = 1 << 16, .max_memory_bytes = 4 << 20, .max_depth = 40};
    const uint8_t *cut = size ? memchr(data, 0, size) : NULL;
    size_t n_source = cut ? (size_t)(cut - data) : size;
    const char *context = cut ? (const char *)cut + 1 : "{}";
    size_t n_context = cut ? size - n_source - 1 : 2, n;
    mlxr_template *t;
    mlxr_error err;
    char *text;

    if (mlxr_template_create(&t, (const char *)data, n_source, "fuzz", &err) != MLXR_OK) return 0;
    if (mlxr_template_render(&text, &n, t, context, n_context, 0, &limits, &err) == MLXR_OK) {
        if (mlxr_utf8_valid(text, n) != n) __builtin_trap();
        mlxr_free(text);
    }
    mlxr_template_free(t);
    return 0;
}
