/* schema: the calls of schema.h that make grammars: of a JSON Schema, of any JSON, of a regular expression. */
#include <stdlib.h>

#include "engine/grammar/schema_parts.h"

mlxr_schema_options mlxr_schema_options_default(void)
{
    return (mlxr_schema_options){.white_space = true, .max_cases = 20000};
}

mlxr_status mlxr_sc_begin(mlxr_sc *s, mlxr_grammar_builder *b, const char *name,
                          const mlxr_schema_options *options, mlxr_error *err)
{
    static const mlxr_value_type types[] = {MLXR_VALUE_NULL,   MLXR_VALUE_FALSE,  MLXR_VALUE_TRUE,
                                            MLXR_VALUE_NUMBER, MLXR_VALUE_STRING, MLXR_VALUE_ARRAY,
                                            MLXR_VALUE_OBJECT};
    mlxr_sc_list l = {0};
    mlxr_status st;

    *s = (mlxr_sc){.err = err, .name = name, .b = b};
    s->options = options ? *options : mlxr_schema_options_default();
    s->limits = &mlxr_grammar_builder_limits(b)->lang;
    for (size_t i = 0; i < MLXR_COUNT(types); i++) {
        mlxr_sc_case *c;
        if ((st = mlxr_sc_new_case(&c, s, types[i], NULL)) != MLXR_OK) return st;
        c->free = true;
        if ((st = mlxr_sc_add(s, &l, c)) != MLXR_OK) return st;
    }
    return mlxr_sc_done(&s->any, s, &l);
}

void mlxr_sc_end(mlxr_sc *s)
{
    for (size_t i = 0; i < s->n_dfas; i++) mlxr_dfa_unref(s->dfas[i]);
    free(s->dfas);
    free((void *)s->nodes);
    free(s->formulas);
    free(s->names);
    free(s->queue);
    free(s->text_rules);
    mlxr_strtab_clear(&s->node_of);
    mlxr_strtab_clear(&s->resources);
    mlxr_strtab_clear(&s->dynamic_names);
    mlxr_strtab_clear(&s->formula_of);
    mlxr_strtab_clear(&s->name_of);
    mlxr_strtab_clear(&s->case_rules);
    mlxr_strtab_clear(&s->languages);
    mlxr_arena_clear(&s->arena);
}

/* A failure of the builder that has happened so far: only finishing tells it in words, so it is left there. */
static mlxr_status make(mlxr_rule *out, mlxr_sc *s, const mlxr_value *schema)
{
    const mlxr_sc_node *root;
    mlxr_sc_formula f;
    bool empty;
    mlxr_status st;

    if ((st = mlxr_sc_read(s, schema, &root)) != MLXR_OK ||
        (st = mlxr_sc_formula_of(&f, s, root, false)) != MLXR_OK ||
        (st = mlxr_sc_is_empty(&empty, s, f, 2)) != MLXR_OK)
        return st;
    if (empty) return mlxr_sc_fail(s, root, NULL, MLXR_E_INVALID_ARGUMENT, "no value is accepted");
    return mlxr_sc_emit(out, s, f);
}

mlxr_status mlxr_gb_schema(mlxr_rule *out, mlxr_grammar_builder *b, const mlxr_value *schema,
                           const char *name, const mlxr_schema_options *options, mlxr_error *err)
{
    mlxr_error own;
    mlxr_sc s;
    mlxr_status st;

    *out = 0;
    if (!err) err = &own;
    st = mlxr_sc_begin(&s, b, name, options, err);
    if (st == MLXR_OK) st = make(out, &s, schema);
    if (st == MLXR_SC_UNKNOWN) st = mlxr_fail(err, MLXR_E_INTERNAL, "%s: a probe was left open", name);
    mlxr_sc_end(&s);
    return st;
}

mlxr_rule mlxr_gb_json(mlxr_grammar_builder *b, bool object_only, const mlxr_schema_options *options)
{
    mlxr_error err = {0};
    mlxr_rule r = 0;
    mlxr_sc s;
    mlxr_status st = mlxr_sc_begin(&s, b, "json", options, &err);

    if (st == MLXR_OK) st = mlxr_sc_prepare(&s);
    if (st == MLXR_OK) {
        r = mlxr_sc_json(&s);
        if (object_only) r = s.json_object;
    } else {
        mlxr_gb_fail(b, st, err.message);
    }
    mlxr_sc_end(&s);
    return r;
}

/* ---- whole grammars ---- */

mlxr_status mlxr_grammar_from_schema(mlxr_grammar **out, const char *text, size_t n, const char *name,
                                     const mlxr_schema_options *options, const mlxr_grammar_limits *limits,
                                     mlxr_error *err)
{
    mlxr_grammar_builder *b = NULL;
    mlxr_value_doc doc = {0};
    mlxr_error own;
    mlxr_rule r;
    mlxr_status st;

    *out = NULL;
    if (!err) err = &own;
    if ((st = mlxr_value_parse(&doc, text, n, name, err)) != MLXR_OK ||
        (st = mlxr_grammar_builder_create(&b, limits, err)) != MLXR_OK ||
        (st = mlxr_gb_schema(&r, b, doc.root, name, options, err)) != MLXR_OK)
        goto done;
    st = mlxr_grammar_finish(out, b, r, err);
    if (st == MLXR_E_INVALID_ARGUMENT) mlxr_fail(err, st, "%s#: no value is accepted", name);
done:
    mlxr_grammar_builder_free(b);
    mlxr_value_clear(&doc);
    return st;
}

mlxr_status mlxr_grammar_json(mlxr_grammar **out, bool object_only, const mlxr_grammar_limits *limits,
                              mlxr_error *err)
{
    mlxr_grammar_builder *b;
    mlxr_error own;
    mlxr_status st;

    *out = NULL;
    if (!err) err = &own;
    if ((st = mlxr_grammar_builder_create(&b, limits, err)) != MLXR_OK) return st;
    st = mlxr_grammar_finish(out, b, mlxr_gb_json(b, object_only, NULL), err);
    mlxr_grammar_builder_free(b);
    return st;
}

mlxr_status mlxr_grammar_from_regex(mlxr_grammar **out, const char *pattern, size_t n,
                                    const mlxr_grammar_limits *limits, mlxr_error *err)
{
    mlxr_grammar_builder *b = NULL;
    mlxr_dfa *d = NULL;
    mlxr_rule root;
    mlxr_status st;

    *out = NULL;
    if ((st = mlxr_dfa_regex(&d, pattern, n, true, limits ? &limits->lang : NULL, err)) != MLXR_OK) return st;
    if (mlxr_dfa_is_empty(d)) {
        st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "regex: no text matches the expression");
        goto done;
    }
    if ((st = mlxr_grammar_builder_create(&b, limits, err)) != MLXR_OK) goto done;
    root = mlxr_gb_rule(b, "regex");
    mlxr_gb_define(b, root, mlxr_gb_dfa(b, mlxr_dfa_ref(d)));
    st = mlxr_grammar_finish(out, b, root, err);
done:
    mlxr_grammar_builder_free(b);
    mlxr_dfa_unref(d);
    return st;
}
