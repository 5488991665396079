/* Any text as a recipe in YAML or JSON. A failure says where it is; of what is one mlxr.json is JSON, and a Modelfile that is written
 * from it says the same. */
#include <stdlib.h>

#include "store/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* As json_equal, with numbers as they are written. */
static bool same_json(const json_t *a, const json_t *b)
{
    char *s = a ? json_dumps(a, JSON_SORT_KEYS | JSON_REAL_PRECISION(15)) : NULL;
    char *t = b ? json_dumps(b, JSON_SORT_KEYS | JSON_REAL_PRECISION(15)) : NULL;
    bool same = same_text(s, t);
    free(s);
    free(t);
    return same;
}

static void check(const mlxr_recipe *r)
{
    mlxr_recipe again;
    mlxr_buf out = {0};
    json_t *doc;
    mlxr_error err;

    if (mlxr_recipe_folder_json(&out, r, NULL) != MLXR_OK) abort();
    if (out.len) {
        if (mlxr_json_parse(&doc, out.data, out.len, "mlxr.json", NULL) != MLXR_OK) abort();
        json_decref(doc);
    }
    out.len = 0;
    if (mlxr_modelfile_write(&out, r, "base", NULL) == MLXR_OK && out.len <= MLXR_RECIPE_MAX_BYTES) {
        if (mlxr_modelfile_parse(&again, out.data, out.len, "written", &err) != MLXR_OK) abort();
        if (!same_text(again.system, r->system) || !same_text(again.template_text, r->template_text) ||
            !same_text(again.adapter, r->adapter) || again.n_licenses != r->n_licenses ||
            !same_json(again.messages, r->messages))
            abort();
        if (json_object_size(r->defaults) && !same_json(again.defaults, r->defaults)) {
            /* lists without a text are no parameters of a Modelfile */
            const char *name;
            json_t *value;
            json_object_foreach(r->defaults, name, value)
            {
                if (json_is_array(value) && json_array_size(value) == 0) continue;
                if (!same_json(json_object_get(again.defaults, name), value)) {
                    if (json_is_number(value) &&
                        json_number_value(json_object_get(again.defaults, name)) == json_number_value(value))
                        continue; /* 1e2 of a whole range comes back as 100.0 */
                    abort();
                }
            }
        }
        mlxr_recipe_clear(&again);
    }
    mlxr_buf_clear(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mlxr_recipe r;
    mlxr_error err = {0};

    if (mlxr_recipe_parse(&r, (const char *)data, size, "fuzz", &err) == MLXR_OK)
        check(&r);
    else if (err.code == MLXR_OK || strncmp(err.message, "fuzz:", 5) != 0)
        abort();
    mlxr_recipe_clear(&r);
    return 0;
}
