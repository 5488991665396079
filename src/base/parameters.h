/* parameters: what chooses an answer's tokens and ends it, by the names that recipes, Modelfiles and mlxr.json give it: kind,
 * range, and where in a request it goes. One table for those who check such files and those who apply them; the options of
 * the programs have the same names and ranges (tests/programs/test_parameters.c). */
#ifndef MLXR_PARAMETERS_TABLE_H
#define MLXR_PARAMETERS_TABLE_H

#include "base/json.h"

typedef enum mlxr_parameter_kind {
    MLXR_PARAMETER_REAL,     /* a float of mlxr_sampling */
    MLXR_PARAMETER_INT,      /* an int32_t of mlxr_sampling */
    MLXR_PARAMETER_REQUEST,  /* an int32_t of mlxr_request */
    MLXR_PARAMETER_SEED,     /* int64_t */
    MLXR_PARAMETER_CONTEXT,  /* tokens of context to open a model with */
    MLXR_PARAMETER_OVERFLOW, /* "error", "truncate" or "shift" */
    MLXR_PARAMETER_STOP,     /* lists of texts: these three. One text is a list of one */
    MLXR_PARAMETER_BREAKERS, /* dry_sequence_breakers */
    MLXR_PARAMETER_BIASES,   /* "ID=NUMBER" */
    MLXR_PARAMETER_OTHER /* Ollama's, about how its runner works: a number or a boolean, without meaning here */
} mlxr_parameter_kind;

typedef struct mlxr_parameter {
    const char *name;
    mlxr_parameter_kind kind;
    size_t offset;     /* of the field, for the first three */
    double min, max;   /* numbers */
    const char *wants; /* "a number from 0 to 1" */
} mlxr_parameter;

enum { MLXR_PARAMETER_MAX_TEXTS = 64, MLXR_PARAMETER_MAX_TEXT_BYTES = 4096 };

/* NULL: there is none of this name. */
const mlxr_parameter *mlxr_parameter_find(const char *name);
/* By index, NULL past the end. */
const mlxr_parameter *mlxr_parameter_at(size_t i);
/* Whether the value fits, which is put into its own form: a list for a text alone, an integer for 4.0, and with from_text a
 * number or boolean for its text. NULL: it does; else what it wants, or "out of memory". */
const char *mlxr_parameter_check(const mlxr_parameter *p, json_t **value, bool from_text);
/* "123=-1.5", "123=-inf" */
bool mlxr_parameter_bias(mlxr_logit_bias *out, const char *text);

/* Of those without effect here: whether it is on or off; the others are numbers. */
bool mlxr_parameter_is_switch(const mlxr_parameter *p);

#endif
