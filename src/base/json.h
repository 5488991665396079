/* JSON glue over jansson, the one JSON parser (tokenizer.json apart). Texts are checked for UTF-8, duplicate
 * keys, depth and trailing garbage; messages name the text, the line and the column. */
#ifndef MLXR_JSON_H
#define MLXR_JSON_H

#include <jansson.h>

#include "base/base.h"

/* what: how messages call the text ("config.json", a path, "request"). *out: json_decref it. */
mlxr_status mlxr_json_parse(json_t **out, const char *text, size_t n, const char *what, mlxr_error *err);
mlxr_status mlxr_json_read(json_t **out, const char *path, size_t max_bytes, mlxr_error *err);

/* Typed reads of obj[key]. Absent or null: *out keeps its value (the default the caller put there) and the
 * result is MLXR_OK. A wrong type or a value outside [min, max] is MLXR_E_FORMAT naming what, key and value.
 * Integers are also taken from reals without a fraction (4096.0), as Python writers produce them. */
mlxr_status mlxr_json_get_int(int64_t *out, const json_t *obj, const char *key, int64_t min, int64_t max,
                              const char *what, mlxr_error *err);
mlxr_status mlxr_json_get_real(double *out, const json_t *obj, const char *key, double min, double max,
                               const char *what, mlxr_error *err);
mlxr_status mlxr_json_get_bool(bool *out, const json_t *obj, const char *key, const char *what,
                               mlxr_error *err);
/* Borrowed from obj. A string with a NUL character in it is MLXR_E_FORMAT. */
mlxr_status mlxr_json_get_str(const char **out, const json_t *obj, const char *key, const char *what,
                              mlxr_error *err);

/* Appends s as a JSON string with its quotes. s is valid UTF-8. */
void mlxr_json_escape(mlxr_buf *out, const char *s, size_t n);

#endif
