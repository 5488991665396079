/* yaml: a text as a tree of nodes, each with its place. libyaml reads the text; which plain scalars are numbers, booleans or
 * null is decided here by the core schema of YAML 1.2 (chapter 10.3): "yes" and "0777" are no boolean and no octal number.
 *
 * Refused with its place: text that is no UTF-8 or has control characters, more than one document, keys that are no scalars or
 * twice there, tags other than !!str, an alias inside what its anchor names, ".inf" and ".nan", more nodes or depth than
 * the limits. Aliases share a node; each use counts as many nodes as it stands for. */
#ifndef MLXR_STORE_YAML_H
#define MLXR_STORE_YAML_H

#include "base/json.h"

typedef enum mlxr_yaml_kind {
    MLXR_YAML_NULL,
    MLXR_YAML_BOOL,
    MLXR_YAML_INT,
    MLXR_YAML_REAL,
    MLXR_YAML_TEXT,
    MLXR_YAML_LIST,
    MLXR_YAML_MAP
} mlxr_yaml_kind;

typedef struct mlxr_yaml {
    mlxr_yaml_kind kind;
    size_t line, column; /* from 1; columns are characters */
    const char *text;    /* scalars: as written, without quotes; NUL-terminated, has no NUL in it */
    size_t n_text;
    bool boolean;
    int64_t integer;
    double real;
    struct mlxr_yaml **keys, **items; /* keys: of a map, all scalars */
    size_t n;
    size_t n_nodes, n_bytes, cap; /* it and all below, and their texts, aliases counted out */
    unsigned height;              /* levels, 1 for a scalar */
} mlxr_yaml;

/* what: how messages call the text. *out lies in arena, which the caller clears in either case. */
mlxr_status mlxr_yaml_parse(mlxr_yaml **out, mlxr_arena *arena, const char *text, size_t n, const char *what,
                            mlxr_error *err);
/* "a list" and the like. */
const char *mlxr_yaml_kind_name(mlxr_yaml_kind kind);
/* A new JSON value of the same; NULL: out of memory. */
json_t *mlxr_yaml_to_json(const mlxr_yaml *node);

#endif
