/* parameters: what chooses an answer's tokens and ends it, as one table that is options of the command line ("--top-k") and
 * parameters of a conversation ("/set parameter top_k"). A parameter that was not given leaves what it is applied to as
 * it was. */
#ifndef MLXR_PARAMETERS_H
#define MLXR_PARAMETERS_H

#include <jansson.h>

#include "cli.h"

enum { PARAMETERS_N = 29 };

struct parameters {
    union {
        int64_t i; /* INT64_MIN: not given */
        double r;  /* NAN: not given */
        const char *s;
    } values[PARAMETERS_N];
    struct cli_list stop, logit_bias, breakers;
    /* What the last apply filled for its request. */
    mlxr_logit_bias biases[64];
};

void parameters_init(struct parameters *p);
/* Appends their options to table, which has room for PARAMETERS_N. */
void parameters_options(struct cli_option *table, struct parameters *p);

/* Sets one by name ("top_k" or "top-k"); text is borrowed as long as p is used. For lists it is added. false: an error
 * line is in err. */
bool parameters_set(struct parameters *p, const char *name, const char *text, mlxr_error *err);
/* The same as not given. */
bool parameters_unset(struct parameters *p, const char *name, mlxr_error *err);

/* Over what the request has, whose arrays are then p's. */
mlxr_status parameters_apply(struct parameters *p, mlxr_request *r, mlxr_error *err);

/* Sets one that is not given. */
void parameters_default(struct parameters *p, const char *name, const char *text);
/* Those that are given, into "options" of a request to a daemon; *overflow: that word, which is not among them, or NULL. false:
 * *missing is one that the API does not have, or NULL when memory is out. */
bool parameters_to_options(json_t *options, const struct parameters *p, const char **overflow,
                           const char **missing);

/* Those that are given, as an object: name to text, or to a list of texts. NULL: out of memory. */
json_t *parameters_to_json(const struct parameters *p);
/* The i-th one's name, and its value as text when it is given ("" else; lists joined by spaces, quoted); false past the end. */
bool parameters_at(const struct parameters *p, size_t i, const char **name, const char **help,
                   mlxr_buf *value);

#endif
