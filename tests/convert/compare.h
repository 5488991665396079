/* What the tests of conversion share: reading fixtures, and comparing a folder's tensors with digests. */
#ifndef COMPARE_H
#define COMPARE_H

#include "test.h"

#include "base/json.h"
#include "convert/plan.h"
#include "format/temp_dir.h"

static inline json_t *read_json(const char *path)
{
    mlxr_error err = {0};
    json_t *j = NULL;

    assert_ok(mlxr_json_read(&j, path, 64 << 20, &err), &err);
    return j;
}

static inline mlxr_dtype dtype_of(const json_t *word)
{
    const char *s = json_string_value(word);
    if (!s) return MLXR_DTYPE_COUNT;
    return strcmp(s, "float16") == 0 ? MLXR_F16 : strcmp(s, "bfloat16") == 0 ? MLXR_BF16 : MLXR_F32;
}

/* The arguments of mlx_lm.convert.convert as options. */
static inline mlxr_convert_options options_of(const json_t *o)
{
    mlxr_convert_options options = mlxr_convert_options_default();
    const char *mode = json_string_value(json_object_get(o, "q_mode"));
    const json_t *bits = json_object_get(o, "q_bits"), *group_size = json_object_get(o, "q_group_size");

    options.dtype = dtype_of(json_object_get(o, "dtype"));
    options.quantize = json_is_true(json_object_get(o, "quantize")) ||
                       json_is_true(json_object_get(o, "dequantize"));
    if (json_is_true(json_object_get(o, "quantize"))) {
        options.quant = mlxr_quant_default(mlxr_quant_mode_from_name(mode ? mode : "affine"));
        if (bits) options.quant.bits = (unsigned)json_integer_value(bits);
        if (group_size) options.quant.group_size = (unsigned)json_integer_value(group_size);
    }
    return options;
}

/* "F16 [96, 64] 0123456789ab" */
static inline void describe(char text[256], const mlxr_tensor *t)
{
    char digest[65];
    int n = snprintf(text, 256, "%s [", mlxr_dtype_name(t->dtype));

    for (unsigned i = 0; i < t->n_dims; i++)
        n += snprintf(text + n, 256 - (size_t)n, i ? ", %zu" : "%zu", t->shape[i]);
    assert_int_equal(mlxr_sha256_hex(digest, t->data, t->n_bytes, NULL), MLXR_OK);
    snprintf(text + n, 256 - (size_t)n, "] %.12s", digest);
}

static inline bool is_listed(const json_t *names, const char *name)
{
    for (size_t i = 0; i < json_array_size(names); i++)
        if (strcmp(json_string_value(json_array_get(names, i)), name) == 0) return true;
    return false;
}

/* The number of tensors that are not as wanted, each of them told. others: names that may be there too; NULL: none. */
static inline size_t compare_tensors(const char *what, const char *dir, const json_t *wanted,
                                     const json_t *others)
{
    mlxr_checkpoint *c = NULL;
    mlxr_error err = {0};
    const json_t *value;
    const char *name;
    char text[256];
    size_t n_bad = 0;

    assert_ok(mlxr_checkpoint_open(&c, dir, &err), &err);
    json_object_foreach((json_t *)(uintptr_t)wanted, name, value)
    {
        const mlxr_tensor *t = mlxr_checkpoint_find(c, name);
        if (t) describe(text, t);
        if (t && strcmp(text, json_string_value(value)) == 0) continue;
        print_message("%s: %s is %s, wanted %s\n", what, name, t ? text : "not there",
                      json_string_value(value));
        n_bad++;
    }
    for (size_t i = 0; i < mlxr_checkpoint_count(c); i++) {
        name = mlxr_checkpoint_get(c, i)->name;
        if (json_object_get(wanted, name) || is_listed(others, name)) continue;
        print_message("%s: %s is one too many\n", what, name);
        n_bad++;
    }
    mlxr_checkpoint_close(c);
    return n_bad;
}

#endif
