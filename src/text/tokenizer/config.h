/* Reading a tokenizer's configuration: a JSON value and the way to it, which every message names. */
#ifndef MLXR_TOKENIZER_CONFIG_H
#define MLXR_TOKENIZER_CONFIG_H

#include "text/tokenizer/tokenizer.h"

typedef struct tok_cfg {
    const json_t *j; /* NULL: absent */
    const char *file;
    unsigned depth;
    char path[160]; /* "pre_tokenizer.pretokenizers[1].pattern"; a longer one loses its start */
} tok_cfg;

tok_cfg tok_cfg_root(const json_t *j, const char *file, const char *path);
tok_cfg tok_cfg_get(const tok_cfg *c, const char *key);
tok_cfg tok_cfg_at(const tok_cfg *c, size_t index);
static inline bool tok_cfg_is_null(const tok_cfg *c)
{
    return !c->j || json_is_null(c->j);
}
/* MLXR_E_FORMAT: "FILE: PATH: is a string, must be WANT". */
mlxr_status tok_cfg_wrong(const tok_cfg *c, const char *want, mlxr_error *err);
mlxr_status tok_cfg_object(const tok_cfg *c, mlxr_error *err);
mlxr_status tok_cfg_array(const tok_cfg *c, size_t *n, mlxr_error *err);

/* Of c[key]. Absent: required ones fail, others keep *out. The strings are borrowed from the JSON. */
mlxr_status tok_cfg_str(tok_str *out, const tok_cfg *c, const char *key, bool required, mlxr_error *err);
mlxr_status tok_cfg_bool(bool *out, const tok_cfg *c, const char *key, bool required, mlxr_error *err);
mlxr_status tok_cfg_size(size_t *out, const tok_cfg *c, const char *key, bool required, mlxr_error *err);
/* A string of exactly one character. */
mlxr_status tok_cfg_char(uint32_t *out, const tok_cfg *c, const char *key, mlxr_error *err);
/* One of names[n]; the result is its index. */
mlxr_status tok_cfg_choice(size_t *out, const tok_cfg *c, const char *key, const char *const *names, size_t n,
                           bool required, mlxr_error *err);
/* {"String": ...} or {"Regex": ...}. */
mlxr_status tok_cfg_pattern(tok_pattern **out, const tok_cfg *c, const char *key, mlxr_error *err);
/* c["type"] as one of names; an unknown one is MLXR_E_UNSUPPORTED. */
mlxr_status tok_cfg_type(size_t *out, const tok_cfg *c, const char *what, const char *const *names, size_t n,
                         mlxr_error *err);

static inline bool tok_str_eq(tok_str a, const char *b)
{
    return a.s && a.n == strlen(b) && memcmp(a.s, b, a.n) == 0;
}

#endif
