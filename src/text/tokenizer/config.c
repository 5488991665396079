/* Typed reads of a tokenizer's configuration. */
#include "text/tokenizer/config.h"

#include <stdio.h>

static void join(char *out, size_t cap, const char *up, const char *rest)
{
    size_t n_up = strlen(up), n_rest = strlen(rest);
    if (n_rest >= cap) {
        rest += n_rest - (cap - 1);
        n_rest = cap - 1;
    }
    if (n_up + n_rest >= cap) {
        up += n_up + n_rest - (cap - 1);
        n_up = cap - 1 - n_rest;
    }
    memmove(out, up, n_up);
    memcpy(out + n_up, rest, n_rest);
    out[n_up + n_rest] = '\0';
}

tok_cfg tok_cfg_root(const json_t *j, const char *file, const char *path)
{
    tok_cfg c = {.j = j, .file = file};
    join(c.path, sizeof c.path, "", path);
    return c;
}

tok_cfg tok_cfg_get(const tok_cfg *c, const char *key)
{
    tok_cfg r = {.j = json_is_object(c->j) ? json_object_get(c->j, key) : NULL,
                 .file = c->file,
                 .depth = c->depth + 1};
    char part[sizeof r.path];
    snprintf(part, sizeof part, "%s%s", c->path[0] ? "." : "", key);
    join(r.path, sizeof r.path, c->path, part);
    return r;
}

tok_cfg tok_cfg_at(const tok_cfg *c, size_t index)
{
    tok_cfg r = {.j = json_array_get(c->j, index), .file = c->file, .depth = c->depth + 1};
    char part[32];
    snprintf(part, sizeof part, "[%zu]", index);
    join(r.path, sizeof r.path, c->path, part);
    return r;
}

static const char *type_name(const json_t *j)
{
    if (!j) return "missing";
    switch (json_typeof(j)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a real";
    case JSON_NULL: return "null";
    default: return "a boolean";
    }
}

mlxr_status tok_cfg_wrong(const tok_cfg *c, const char *want, mlxr_error *err)
{
    return mlxr_fail(err, MLXR_E_FORMAT, "tokenizer: %s: %s is %s, must be %s", c->file, c->path,
                     type_name(c->j), want);
}

mlxr_status tok_cfg_object(const tok_cfg *c, mlxr_error *err)
{
    return json_is_object(c->j) ? MLXR_OK : tok_cfg_wrong(c, "an object", err);
}

mlxr_status tok_cfg_array(const tok_cfg *c, size_t *n, mlxr_error *err)
{
    *n = 0;
    if (!json_is_array(c->j)) return tok_cfg_wrong(c, "an array", err);
    *n = json_array_size(c->j);
    return MLXR_OK;
}

mlxr_status tok_cfg_str(tok_str *out, const tok_cfg *c, const char *key, bool required, mlxr_error *err)
{
    tok_cfg v = tok_cfg_get(c, key);
    if (tok_cfg_is_null(&v) && !required) return MLXR_OK;
    if (!json_is_string(v.j)) return tok_cfg_wrong(&v, "a string", err);
    *out = (tok_str){json_string_value(v.j), json_string_length(v.j)};
    return MLXR_OK;
}

mlxr_status tok_cfg_bool(bool *out, const tok_cfg *c, const char *key, bool required, mlxr_error *err)
{
    tok_cfg v = tok_cfg_get(c, key);
    if (tok_cfg_is_null(&v) && !required) return MLXR_OK;
    if (!json_is_boolean(v.j)) return tok_cfg_wrong(&v, "true or false", err);
    *out = json_is_true(v.j);
    return MLXR_OK;
}

mlxr_status tok_cfg_size(size_t *out, const tok_cfg *c, const char *key, bool required, mlxr_error *err)
{
    tok_cfg v = tok_cfg_get(c, key);
    if (tok_cfg_is_null(&v) && !required) return MLXR_OK;
    if (!json_is_integer(v.j) || json_integer_value(v.j) < 0)
        return tok_cfg_wrong(&v, "an integer of 0 or more", err);
    *out = (size_t)json_integer_value(v.j);
    return MLXR_OK;
}

mlxr_status tok_cfg_char(uint32_t *out, const tok_cfg *c, const char *key, mlxr_error *err)
{
    tok_cfg v = tok_cfg_get(c, key);
    const char *s = json_string_value(v.j);
    size_t n = json_is_string(v.j) ? json_string_length(v.j) : 0;
    if (n == 0 || tok_char_len(s) != n) return tok_cfg_wrong(&v, "a string of one character", err);
    *out = tok_next(&s);
    return MLXR_OK;
}

mlxr_status tok_cfg_choice(size_t *out, const tok_cfg *c, const char *key, const char *const *names, size_t n,
                           bool required, mlxr_error *err)
{
    tok_cfg v = tok_cfg_get(c, key);
    tok_str s = {0};
    mlxr_status st = tok_cfg_str(&s, c, key, required, err);
    if (st != MLXR_OK || !s.s) return st;
    for (size_t i = 0; i < n; i++) {
        if (tok_str_eq(s, names[i])) {
            *out = i;
            return MLXR_OK;
        }
    }
    return mlxr_fail(err, MLXR_E_UNSUPPORTED, "tokenizer: %s: %s is \"%.80s\", which is not known here",
                     c->file, v.path, s.s);
}

mlxr_status tok_cfg_pattern(tok_pattern **out, const tok_cfg *c, const char *key, mlxr_error *err)
{
    tok_cfg v = tok_cfg_get(c, key), s = tok_cfg_get(&v, "String"), r = tok_cfg_get(&v, "Regex");
    const json_t *j = s.j ? s.j : r.j;
    char what[480];
    if (!json_is_object(v.j) || json_object_size(v.j) != 1 || !json_is_string(j))
        return tok_cfg_wrong(&v, "an object with \"String\" or \"Regex\" and a text", err);
    snprintf(what, sizeof what, "%.300s: %s", c->file, v.path);
    return tok_pattern_create(out, json_string_value(j), json_string_length(j), j == r.j, what, err);
}

mlxr_status tok_cfg_type(size_t *out, const tok_cfg *c, const char *what, const char *const *names, size_t n,
                         mlxr_error *err)
{
    tok_cfg v = tok_cfg_get(c, "type");
    mlxr_status st = tok_cfg_object(c, err);
    if (st != MLXR_OK) return st;
    if (c->depth > TOK_MAX_DEPTH)
        return mlxr_fail(err, MLXR_E_LIMIT, "tokenizer: %s: %s: nested deeper than %d", c->file, c->path,
                         TOK_MAX_DEPTH);
    if (!json_is_string(v.j)) return tok_cfg_wrong(&v, "a string", err);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(json_string_value(v.j), names[i]) == 0) {
            *out = i;
            return MLXR_OK;
        }
    }
    return mlxr_fail(err, MLXR_E_UNSUPPORTED, "tokenizer: %s: %s: %s of type \"%.80s\" is not known here",
                     c->file, c->path, what, json_string_value(v.j));
}
