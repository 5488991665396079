/* report: see report.h. */
#include "report.h"

#include <stdio.h>
#include <stdlib.h>

void report_clean(mlxr_buf *out, const char *s)
{
    size_t n = strlen(s);

    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t k = mlxr_utf8_decode(s + i, n - i, &cp);
        if (k == 0 || cp < 0x20 || (cp >= 0x7f && cp < 0xa0))
            mlxr_buf_char(out, '?');
        else
            mlxr_buf_append(out, s + i, k);
        i += k ? k : 1;
    }
}

json_t *report_string(const char *s)
{
    mlxr_buf text = {0};
    json_t *j = NULL;

    if (s) {
        mlxr_buf_str(&text, "");
        report_clean(&text, s);
        if (!text.failed) j = json_stringn(text.data ? text.data : "", text.len);
    }
    mlxr_buf_clear(&text);
    return j;
}

json_t *report_put(report_json *r, json_t *obj, const char *key, json_t *value)
{
    if (!obj || !value || json_object_set(obj, key, value) != 0) r->failed = true;
    json_decref(value);
    return obj ? json_object_get(obj, key) : NULL;
}

json_t *report_add(report_json *r, json_t *list, json_t *value)
{
    if (!list || !value || json_array_append(list, value) != 0) r->failed = true;
    json_decref(value);
    return list ? json_array_get(list, json_array_size(list) - 1) : NULL;
}

void report_put_count(report_json *r, json_t *obj, const char *key, uint64_t n)
{
    report_put(r, obj, key, json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n));
}

static mlxr_status write_all(const char *text, size_t n, mlxr_error *err)
{
    if (fwrite(text, 1, n, stdout) != n || fflush(stdout) != 0)
        return mlxr_fail(err, MLXR_E_IO, "the answer could not be written");
    return MLXR_OK;
}

mlxr_status report_write_json(const report_json *r, mlxr_error *err)
{
    char *text = r->failed ? NULL : json_dumps(r->root, JSON_ENSURE_ASCII | JSON_REAL_PRECISION(9));
    mlxr_status st = text ? write_all(text, strlen(text), err) : mlxr_fail_nomem(err, "JSON");

    if (st == MLXR_OK) st = write_all("\n", 1, err);
    free(text);
    return st;
}

mlxr_status report_write_text(const mlxr_buf *text, mlxr_error *err)
{
    mlxr_status st = mlxr_buf_check(text, "report", err);
    return st == MLXR_OK ? write_all(text->data ? text->data : "", text->len, err) : st;
}
