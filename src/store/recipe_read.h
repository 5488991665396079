/* recipe_read: what the readers of both forms of a recipe have in common. Private to recipe.c and modelfile.c. */
#ifndef MLXR_STORE_RECIPE_READ_H
#define MLXR_STORE_RECIPE_READ_H

#include "store/recipe.h"

/* Where faults go: the first into err, all to on_fault. */
typedef struct recipe_reader {
    const char *what;
    mlxr_error *err;
    mlxr_recipe_on_fault on_fault;
    void *ud;
    mlxr_status status; /* of the first fault */
    mlxr_recipe *out;
} recipe_reader;

/* A place in the text, from 1. */
typedef struct recipe_place {
    size_t line, column;
} recipe_place;

void mlxr_recipe_fault(recipe_reader *r, mlxr_status code, recipe_place at, const char *fmt, ...)
    MLXR_PRINTF(4, 5);
void mlxr_recipe_nomem(recipe_reader *r);
/* Copies to *to, freeing what was there. */
void mlxr_recipe_set(recipe_reader *r, char **to, const char *text, size_t n);
/* Takes value. from_text: numbers may be texts. again: a list's texts are added to those that are there. */
void mlxr_recipe_set_parameter(recipe_reader *r, const char *name, json_t *value, recipe_place at,
                               bool from_text);
void mlxr_recipe_add_message(recipe_reader *r, const char *role, const char *content, recipe_place at);
void mlxr_recipe_add_license(recipe_reader *r, const char *text, size_t n);
/* Sets template_text. */
void mlxr_recipe_set_template(recipe_reader *r, const char *text, size_t n, recipe_place at);
/* A name of a store, or a path, into base_repo or base_path. */
void mlxr_recipe_set_base(recipe_reader *r, const char *text, size_t n);

/* Every fault of a Modelfile, into r. */
void mlxr_modelfile_read(recipe_reader *r, const char *text, size_t n);

#endif
