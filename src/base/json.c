/* JSON glue over jansson. */
#include "base/json.h"

#include <math.h>

#include "base/fs.h"

mlxr_status mlxr_json_parse(json_t **out, const char *text, size_t n, const char *what, mlxr_error *err)
{
    json_error_t je;

    *out = json_loadb(text ? text : "", n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &je);
    if (*out) return MLXR_OK;
    /* jansson does not always say so when it runs out of memory; every other failure has a text. */
    if (json_error_code(&je) == json_error_out_of_memory || !je.text[0]) return mlxr_fail_nomem(err, what);
    return mlxr_fail(err, MLXR_E_FORMAT, "%s: not valid JSON: line %d column %d: %s", what, je.line,
                     je.column, je.text);
}

mlxr_status mlxr_json_read(json_t **out, const char *path, size_t max_bytes, mlxr_error *err)
{
    mlxr_buf text = {0};
    mlxr_status st;

    *out = NULL;
    st = mlxr_file_read(&text, path, max_bytes, err);
    if (st == MLXR_OK) st = mlxr_json_parse(out, text.data, text.len, path, err);
    mlxr_buf_clear(&text);
    return st;
}

static const char *type_name(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "a list";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a real number";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    case JSON_NULL: break;
    }
    return "null";
}

/* The value to read, or NULL when there is none and the default stays. */
static const json_t *present(const json_t *obj, const char *key)
{
    const json_t *v = json_object_get(obj, key);
    return v && !json_is_null(v) ? v : NULL;
}

static mlxr_status wrong_type(mlxr_error *err, const char *what, const char *key, const json_t *v,
                              const char *want)
{
    return mlxr_fail(err, MLXR_E_FORMAT, "%s: \"%s\" is %s, wanted %s", what, key, type_name(v), want);
}

mlxr_status mlxr_json_get_int(int64_t *out, const json_t *obj, const char *key, int64_t min, int64_t max,
                              const char *what, mlxr_error *err)
{
    const json_t *v = present(obj, key);
    int64_t x;

    if (!v) return MLXR_OK;
    if (json_is_integer(v)) {
        x = json_integer_value(v);
    } else if (json_is_real(v) && floor(json_real_value(v)) == json_real_value(v) &&
               fabs(json_real_value(v)) < 9007199254740992.0) {
        x = (int64_t)json_real_value(v);
    } else {
        return wrong_type(err, what, key, v, "an integer");
    }
    if (x < min || x > max)
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: \"%s\" is %lld, wanted %lld to %lld", what, key,
                         (long long)x, (long long)min, (long long)max);
    *out = x;
    return MLXR_OK;
}

mlxr_status mlxr_json_get_real(double *out, const json_t *obj, const char *key, double min, double max,
                               const char *what, mlxr_error *err)
{
    const json_t *v = present(obj, key);
    double x;

    if (!v) return MLXR_OK;
    if (!json_is_number(v)) return wrong_type(err, what, key, v, "a number");
    x = json_number_value(v);
    if (!(x >= min && x <= max))
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: \"%s\" is %g, wanted %g to %g", what, key, x, min, max);
    *out = x;
    return MLXR_OK;
}

mlxr_status mlxr_json_get_bool(bool *out, const json_t *obj, const char *key, const char *what,
                               mlxr_error *err)
{
    const json_t *v = present(obj, key);
    if (!v) return MLXR_OK;
    if (!json_is_boolean(v)) return wrong_type(err, what, key, v, "true or false");
    *out = json_is_true(v);
    return MLXR_OK;
}

mlxr_status mlxr_json_get_str(const char **out, const json_t *obj, const char *key, const char *what,
                              mlxr_error *err)
{
    const json_t *v = present(obj, key);
    if (!v) return MLXR_OK;
    if (!json_is_string(v)) return wrong_type(err, what, key, v, "a string");
    if (strlen(json_string_value(v)) != json_string_length(v)) /* as a C string it would be another one */
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: \"%s\" has a NUL character in it", what, key);
    *out = json_string_value(v);
    return MLXR_OK;
}

void mlxr_json_escape(mlxr_buf *out, const char *s, size_t n)
{
    size_t start = 0;

    mlxr_buf_char(out, '"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) continue;
        mlxr_buf_append(out, s + start, i - start);
        start = i + 1;
        switch (c) {
        case '"': mlxr_buf_str(out, "\\\""); break;
        case '\\': mlxr_buf_str(out, "\\\\"); break;
        case '\n': mlxr_buf_str(out, "\\n"); break;
        case '\r': mlxr_buf_str(out, "\\r"); break;
        case '\t': mlxr_buf_str(out, "\\t"); break;
        default: mlxr_buf_printf(out, "\\u%04x", c);
        }
    }
    mlxr_buf_append(out, s + start, n - start);
    mlxr_buf_char(out, '"');
}
