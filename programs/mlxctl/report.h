/* report: what show and doctor print with: texts of model folders made harmless for terminals, and JSON that is built
 * first and checked for memory once. */
#ifndef MLXCTL_REPORT_H
#define MLXCTL_REPORT_H

#include "base/json.h"

/* Appends s; control characters and bytes that are no UTF-8 become '?'. */
void report_clean(mlxr_buf *out, const char *s);
/* The same as a JSON string; NULL when out of memory or s is NULL. */
json_t *report_string(const char *s);

/* An object under construction. A value that is NULL (out of memory) or does not fit makes `failed` true. */
typedef struct report_json {
    json_t *root;
    bool failed;
} report_json;

/* obj[key] = value, which is taken. obj may be NULL after a failure. Returns value, borrowed. */
json_t *report_put(report_json *r, json_t *obj, const char *key, json_t *value);
/* The same at a list's end. */
json_t *report_add(report_json *r, json_t *list, json_t *value);
/* "key": an integer of any size that fits 63 bits; larger ones are the largest. */
void report_put_count(report_json *r, json_t *obj, const char *key, uint64_t n);

/* Writes the object and a newline to stdout, or text. */
mlxr_status report_write_json(const report_json *r, mlxr_error *err);
mlxr_status report_write_text(const mlxr_buf *text, mlxr_error *err);

#endif
