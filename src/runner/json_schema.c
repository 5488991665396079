/* json_schema: the schemas of mlxr.h, over the grammars that answers are held to. */
#include <stdlib.h>

#include "engine/grammar/schema.h"

struct mlxr_json_schema {
    mlxr_grammar *grammar;
    mlxr_schema_checker *checker;
};

mlxr_status mlxr_json_schema_create(mlxr_json_schema **out, const char *text, size_t n_text, const char *name,
                                    mlxr_error *err)
{
    mlxr_json_schema *s = calloc(1, sizeof *s);
    mlxr_status st;

    *out = NULL;
    if (!s) return mlxr_fail_nomem(err, name);
    st = mlxr_grammar_from_schema(&s->grammar, text, n_text, name, NULL, NULL, err);
    if (st == MLXR_OK) st = mlxr_schema_checker_create(&s->checker, s->grammar, err);
    if (st == MLXR_OK) {
        *out = s;
        s = NULL;
    }
    mlxr_json_schema_free(s);
    return st;
}

void mlxr_json_schema_free(mlxr_json_schema *s)
{
    if (!s) return;
    mlxr_schema_checker_free(s->checker);
    mlxr_grammar_unref(s->grammar);
    free(s);
}

mlxr_status mlxr_json_schema_check(bool *valid, char **why, mlxr_json_schema *s, const char *json,
                                   size_t n_json, mlxr_error *err)
{
    mlxr_value_doc doc = {0};
    mlxr_schema_verdict verdict;
    mlxr_status st;

    *valid = false;
    if (why) *why = NULL;
    if ((st = mlxr_value_parse(&doc, json, n_json, "instance", err)) != MLXR_OK) goto done;
    if ((st = mlxr_schema_check(&verdict, s->checker, doc.root, err)) != MLXR_OK) goto done;
    *valid = verdict.valid;
    if (!verdict.valid && why &&
        !(*why = mlxr_asprintf("%s: wanted %s", verdict.at[0] ? verdict.at : "the value", verdict.expected)))
        st = mlxr_fail_nomem(err, "instance");
done:
    mlxr_value_clear(&doc);
    return st;
}
