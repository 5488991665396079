/* Fuzz entry: any bytes as a template source, compiled and rendered with a fixed context under small bounds. */
#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char context[] = "{\"messages\": [{\"role\": \"system\", \"content\": \" be brief \"}, "
                              "{\"role\": \"user\", \"content\": \"h\\u00e9 \\u65e5\"},"
                              " {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"function\": "
                              "{\"name\": \"f\", \"arguments\": {\"a\": [1, 2.5,"
                              " true]}}}]}], \"tools\": [{\"type\": \"function\", \"function\": {\"name\": "
                              "\"f\", \"parameters\": {}}}],"
                              " \"add_generation_prompt\": true, \"bos_token\": \"<s>\", \"s\": \"a b\", "
                              "\"n\": 3, \"f\": 0.1, \"l\": [3, 1, 2],"
                              " \"d\": {\"a\": 1, \"b\": [2]}, \"x\": null}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mlxr_template_limits limits = {
        .max_steps = 20000, .max_output_bytes = 1 << 16, .max_memory_bytes = 4 << 20, .max_depth = 40};
    mlxr_template *t;
    mlxr_error err;
    char *text;
    size_t n;

    if (mlxr_template_create(&t, (const char *)data, size, "fuzz", &err) != MLXR_OK) return 0;
    if (mlxr_template_render(&text, &n, t, context, sizeof context - 1, 1741503903, &limits, &err) ==
        MLXR_OK) {
        if (mlxr_utf8_valid(text, n) != n) __builtin_trap(); /* text in, text out */
        mlxr_free(text);
    }
    mlxr_template_free(t);
    return 0;
}
