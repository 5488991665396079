/* fields: what a request's body may hold, as one table an endpoint, from which it is read, checked, described (OpenAPI) and documented.
 *
 * Nothing is dropped silently: a field is taken, or answered with 400 by its name, or listed in the answer's "warnings". null is the same
 * as absent. */
#ifndef MLXR_SERVE_FIELDS_H
#define MLXR_SERVE_FIELDS_H

#include "base/json.h"

/* JSON types, or'ed. An integer is also taken from a real without a fraction. */
enum {
    MLXR_FIELD_STRING = 1,
    MLXR_FIELD_BOOL = 2,
    MLXR_FIELD_INT = 4,
    MLXR_FIELD_REAL = 8, /* integers too */
    MLXR_FIELD_OBJECT = 16,
    MLXR_FIELD_LIST = 32,
    MLXR_FIELD_ANY = 63
};

typedef enum mlxr_field_use {
    MLXR_FIELD_TAKEN,
    MLXR_FIELD_WARNED, /* no effect here, which the answer's warnings say */
    MLXR_FIELD_REFUSED /* 400, unless the value is `neutral` */
} mlxr_field_use;

typedef struct mlxr_field mlxr_field;
struct mlxr_field {
    const char *name;
    unsigned types;
    mlxr_field_use use;
    bool required;
    double min, max;   /* numbers; 0, 0: any */
    bool filled;       /* strings: not "" */
    const char *words; /* strings: one of "a|b|c"; NULL: any */
    const char *
        neutral; /* REFUSED: JSON of the value that asks for nothing ("1", "false", "\"none\""); NULL: none does */
    const char *fallback; /* for people and OpenAPI: what it is when absent, as JSON; NULL: nothing */
    const char *help;
    const char *schema; /* JSON Schema of the value where types, bounds and words do not say all: {"$ref":
                           "#/components/schemas/Message"} of schemas.json; NULL: they do */
    /* Where a plain value goes in the struct given to mlxr_fields_read: by types STRING const char * (borrowed from the body), BOOL
     * bool, INT int64_t, REAL double (with INT too), all others and more than one const json_t *. SIZE_MAX: nowhere. */
    size_t offset;
    /* Instead, for what is more than that. */
    mlxr_status (*take)(void *into, const mlxr_field *field, const json_t *value, mlxr_error *err);
};
#define MLXR_FIELD_NOWHERE SIZE_MAX

typedef struct mlxr_fields {
    const mlxr_field *fields;
    size_t n;
    const char *what; /* how messages call the object: "request", "options" */
} mlxr_fields;

/* Values of object (a JSON object) into `into`, in the table's order. warnings (may be NULL: then unknown fields are refused): a JSON list, to
 * which a text is added for each field without effect and each that is unknown, with the nearest known name, 32 at most. Failures are
 * MLXR_E_INVALID_ARGUMENT and name the field, what it is and what it should be; *field (may be NULL): its name, borrowed. */
mlxr_status mlxr_fields_read(void *into, const mlxr_fields *fields, const json_t *object, json_t *warnings,
                             const char **field, mlxr_error *err);
/* Types, bounds and words of those members of an object that the table has; what else it holds is somebody else's. Members that are null
 * are taken out: templates tell null from absent. what: how messages call the object, "messages[3]". */
mlxr_status mlxr_fields_check(const mlxr_fields *fields, const char *what, json_t *object, mlxr_error *err);
/* A field's value as a JSON Schema, null included unless it is required; of a refused one what is still taken. NULL: out of memory, or
 * JSON in the table that is none (which tests/serve/test_describe_api.c finds). */
json_t *mlxr_field_schema(const mlxr_field *field);
/* The table as a JSON Schema of an object; closed: without unknown fields. */
json_t *mlxr_fields_schema(const mlxr_fields *fields, bool closed);

/* Whether v is a whole number of int64_t: an integer, or a real without a fraction (1e2, 3.0) that a double holds exactly. */
bool mlxr_field_whole(int64_t *out, const json_t *v);

/* A body as a JSON object; the messages of Ollama's API for none. Integers that int64_t does not hold are reals; a text with a NUL
 * character anywhere is refused. */
mlxr_status mlxr_body_object(json_t **out, const char *body, size_t n, mlxr_error *err);

#endif
