/* value: JSON as it was written. jansson rounds numbers; here each keeps its text, so that bounds, constants and instances
 * compare exactly. For schemas and the instances that are held against them. Immutable once parsed; freed as a whole. */
#ifndef MLXR_GRAMMAR_VALUE_H
#define MLXR_GRAMMAR_VALUE_H

#include "base/base.h"

typedef enum mlxr_value_type {
    MLXR_VALUE_NULL,
    MLXR_VALUE_FALSE,
    MLXR_VALUE_TRUE,
    MLXR_VALUE_NUMBER,
    MLXR_VALUE_STRING,
    MLXR_VALUE_ARRAY,
    MLXR_VALUE_OBJECT
} mlxr_value_type;

typedef struct mlxr_value mlxr_value;
struct mlxr_value {
    mlxr_value_type type;
    /* STRING: its characters (UTF-8, may hold NUL, NUL-terminated). NUMBER: as it was written. */
    const char *text;
    size_t n_text;
    const char *plain; /* NUMBER: mlxr_number_plain of it; NULL: longer than MLXR_VALUE_MAX_DIGITS */
    /* ARRAY: items[n]. OBJECT: the member names[i] has the value items[i], in the order they were written. */
    const mlxr_value *const *items;
    const struct mlxr_value_name {
        const char *text;
        size_t n_text;
    } * names;
    size_t n;
    /* OBJECT of many members that was parsed: the indices of the members in the order of their names. NULL else. */
    const uint32_t *by_name;
    uint32_t line; /* where it began, from 1 */
};
enum { MLXR_VALUE_MAX_DIGITS = 1100, MLXR_VALUE_MAX_DEPTH = 512 };

typedef struct mlxr_value_doc {
    mlxr_arena arena;
    const mlxr_value *root;
} mlxr_value_doc;

/* what: how messages call the text. Strict RFC 8259, UTF-8 checked, unpaired surrogate escapes and names that are there
 * twice refused; MLXR_E_FORMAT with line and column. MLXR_E_LIMIT: nested deeper than MLXR_VALUE_MAX_DEPTH, or 4 GiB and
 * more. On failure *out is empty. */
mlxr_status mlxr_value_parse(mlxr_value_doc *out, const char *text, size_t n, const char *what,
                             mlxr_error *err);
void mlxr_value_clear(mlxr_value_doc *d); /* {0} is fine */

/* NULL when v is no object or has no such member. */
const mlxr_value *mlxr_value_get(const mlxr_value *v, const char *name);
const mlxr_value *mlxr_value_get_n(const mlxr_value *v, const char *name, size_t n_name);
/* As JSON Schema compares: numbers by value, objects whatever the order. */
bool mlxr_value_equal(const mlxr_value *a, const mlxr_value *b);
/* Compact JSON, strings as mlxr_dfa_json_string writes them, numbers plain where they have a plain form. */
void mlxr_value_write(mlxr_buf *out, const mlxr_value *v);

#endif
