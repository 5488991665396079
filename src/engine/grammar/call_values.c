/* call_values: the value of one argument, where arguments are written one by one.
 *
 *   BARE    strings as they are, up to the marker that closes the value; all else as JSON. What a text is, a string or JSON, the reader
 *           tells from what the tool's schema says at first sight (string_bits); so a string that it would take for something
 *           else is not written, nor one with the closing marker in it.
 *   JSON, PYTHON, BRACED   as the schema's rules write it, in that notation.
 *
 * A format that says beside the value what it is ($S, $T) has one alternative for each. */
#include "engine/grammar/call_arguments.h"

/* ---- what a schema says at first sight: the reader's rule (answers), bit for bit ---- */

enum {
    T_STRING = 1,
    T_INTEGER = 2,
    T_NUMBER = 4,
    T_BOOLEAN = 8,
    T_NULL = 16,
    T_OBJECT = 32,
    T_ARRAY = 64,
    T_ANY = 127
};
enum { MAX_REFS = 16 };

static bool is_text(const mlxr_value *v, const char *text)
{
    return v->n_text == strlen(text) && !memcmp(v->text, text, v->n_text);
}

static unsigned bits_of_name(const mlxr_value *v)
{
    static const struct {
        const char *name;
        unsigned bits;
    } types[] = {{"string", T_STRING},   {"integer", T_INTEGER}, {"number", T_NUMBER | T_INTEGER},
                 {"boolean", T_BOOLEAN}, {"null", T_NULL},       {"object", T_OBJECT},
                 {"array", T_ARRAY}};
    for (size_t i = 0; i < MLXR_COUNT(types); i++)
        if (is_text(v, types[i].name)) return types[i].bits;
    return T_ANY;
}

static unsigned bits_of_value(const mlxr_value *v)
{
    switch (v->type) {
    case MLXR_VALUE_NULL: return T_NULL;
    case MLXR_VALUE_FALSE:
    case MLXR_VALUE_TRUE: return T_BOOLEAN;
    case MLXR_VALUE_NUMBER: return memchr(v->text, '.', v->n_text) ? T_NUMBER : T_INTEGER | T_NUMBER;
    case MLXR_VALUE_STRING: return T_STRING;
    case MLXR_VALUE_ARRAY: return T_ARRAY;
    case MLXR_VALUE_OBJECT: return T_OBJECT;
    }
    return T_ANY;
}

/* "#/$defs/name", as it is written. */
static const mlxr_value *resolve(const mlxr_value *root, const mlxr_value *ref)
{
    const char *s = ref->text, *end = ref->text + ref->n_text;
    if (s == end || *s != '#') return NULL;
    for (s++; s < end && *s == '/' && root;) {
        const char *from = ++s;
        while (s < end && *s != '/') s++;
        root = mlxr_value_get_n(root, from, (size_t)(s - from));
    }
    return root;
}

static unsigned type_bits(const mlxr_value *schema, const mlxr_value *root, int depth)
{
    static const char *const any_of[] = {"anyOf", "oneOf"};
    unsigned bits = T_ANY, some;
    const mlxr_value *v;
    size_t i;

    if (!schema || schema->type != MLXR_VALUE_OBJECT || depth > MAX_REFS) return T_ANY;
    v = mlxr_value_get(schema, "$ref");
    if (v && v->type == MLXR_VALUE_STRING) bits &= type_bits(resolve(root, v), root, depth + 1);
    v = mlxr_value_get(schema, "type");
    if (v && v->type == MLXR_VALUE_STRING) bits &= bits_of_name(v);
    if (v && v->type == MLXR_VALUE_ARRAY) {
        for (some = 0, i = 0; i < v->n; i++)
            if (v->items[i]->type == MLXR_VALUE_STRING) some |= bits_of_name(v->items[i]);
        if (some) bits &= some;
    }
    v = mlxr_value_get(schema, "enum");
    if (v && v->type == MLXR_VALUE_ARRAY && v->n) {
        for (some = 0, i = 0; i < v->n; i++) some |= bits_of_value(v->items[i]);
        bits &= some;
    }
    if ((v = mlxr_value_get(schema, "const"))) bits &= bits_of_value(v);
    for (size_t k = 0; k < MLXR_COUNT(any_of); k++) {
        v = mlxr_value_get(schema, any_of[k]);
        if (!v || v->type != MLXR_VALUE_ARRAY || !v->n) continue;
        for (some = 0, i = 0; i < v->n; i++) some |= type_bits(v->items[i], root, depth + 4);
        bits &= some;
    }
    v = mlxr_value_get(schema, "allOf");
    if (v && v->type == MLXR_VALUE_ARRAY)
        for (i = 0; i < v->n; i++) bits &= type_bits(v->items[i], root, depth + 4);
    return bits;
}

/* ---- a formula held to some types ---- */

/* {"type": [names]} as a schema. */
static mlxr_status types_schema(const mlxr_value **out, mlxr_sc *s, const char *const *names, size_t n)
{
    mlxr_value *v = mlxr_arena_calloc(&s->arena, n + 2, sizeof *v);
    const mlxr_value **items = mlxr_arena_calloc(&s->arena, n + 1, sizeof(*items));
    struct mlxr_value_name *name = mlxr_arena_calloc(&s->arena, 1, sizeof *name);

    if (!v || !items || !name) return mlxr_sc_nomem(s);
    for (size_t i = 0; i < n; i++) {
        v[2 + i] = (mlxr_value){.type = MLXR_VALUE_STRING, .text = names[i], .n_text = strlen(names[i])};
        items[1 + i] = &v[2 + i];
    }
    v[1] = (mlxr_value){.type = MLXR_VALUE_ARRAY, .items = items + 1, .n = n};
    items[0] = &v[1];
    name->text = "type";
    name->n_text = 4;
    v[0] = (mlxr_value){.type = MLXR_VALUE_OBJECT, .items = items, .names = name, .n = 1};
    *out = v;
    return MLXR_OK;
}

/* *empty: no value of f is of these types. */
static mlxr_status of_types(mlxr_sc_formula *out, bool *empty, mlxr_arguments *a, mlxr_sc_formula f,
                            const char *const *names, size_t n)
{
    const mlxr_value *v = NULL;
    const mlxr_sc_node *node;
    mlxr_sc_formula g;
    mlxr_status st;

    if ((st = types_schema(&v, a->s, names, n)) != MLXR_OK) return st;
    if ((st = mlxr_sc_node_at(&node, a->s, v, a->root, "")) != MLXR_OK) return st;
    if ((st = mlxr_sc_formula_of(&g, a->s, node, false)) != MLXR_OK) return st;
    if ((st = mlxr_sc_both(out, a->s, f, g)) != MLXR_OK) return st;
    return mlxr_sc_is_empty(empty, a->s, *out, 2);
}

static const char *const others[] = {"null", "boolean", "number", "array", "object"};

/* ---- bare strings ---- */

static mlxr_status regex(mlxr_dfa **out, mlxr_sc *s, const char *pattern, bool whole)
{
    mlxr_status st = mlxr_dfa_regex(out, pattern, strlen(pattern), whole, s->limits, s->err);
    return st == MLXR_OK ? mlxr_sc_own(s, *out) : st;
}

static mlxr_status without(mlxr_dfa **d, mlxr_sc *s, const char *pattern, bool whole)
{
    mlxr_dfa *x;
    mlxr_status st = regex(&x, s, pattern, whole);
    return st == MLXR_OK ? mlxr_sc_op(d, s, mlxr_dfa_minus, *d, x) : st;
}

/* Texts with the marker in them. */
static mlxr_status with_marker(mlxr_dfa **out, mlxr_sc *s, const char *marker)
{
    mlxr_dfa *any, *one;
    mlxr_status st;

    if ((st = mlxr_sc_any_text(&any, s)) != MLXR_OK) return st;
    if ((st = mlxr_dfa_literal(&one, marker, strlen(marker), s->err)) != MLXR_OK) return st;
    if ((st = mlxr_sc_own(s, one)) != MLXR_OK) return st;
    if ((st = mlxr_sc_op(&one, s, mlxr_dfa_concat, any, one)) != MLXR_OK) return st;
    return mlxr_sc_op(out, s, mlxr_dfa_concat, one, any);
}

/* bits: what the reader takes the schema for; T_STRING alone, and it takes every text for a string. */
static mlxr_status bare_strings(mlxr_dfa **out, mlxr_arguments *a, mlxr_sc_formula f, unsigned bits)
{
    static const char *const string[] = {"string"};
    mlxr_sc *s = a->s;
    const mlxr_sc_norm *norm;
    mlxr_sc_formula g;
    mlxr_dfa *d, *x;
    bool empty;
    mlxr_status st;

    *out = NULL;
    if ((st = of_types(&g, &empty, a, f, string, 1)) != MLXR_OK || empty) return st;
    if ((st = mlxr_sc_norm_formula(&norm, s, g)) != MLXR_OK) return st;
    if ((st = mlxr_sc_strings_of(&d, s, norm)) != MLXR_OK) return st;
    if ((st = with_marker(&x, s, a->f->value_close)) != MLXR_OK) return st;
    if ((st = mlxr_sc_op(&d, s, mlxr_dfa_minus, d, x)) != MLXR_OK) return st;
    /* The reader takes a carriage return before the marker's line end for a part of that, and no text holds NUL. */
    if ((st = without(&d, s, "\\u0000|\\r$", false)) != MLXR_OK) return st;
    if (bits != T_STRING) {
        if ((bits & (T_NUMBER | T_INTEGER)) &&
            (st = without(&d, s, "[ \\t\\r\\n]*-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][-+]?[0-9]+)?[ \\t\\r\\n]*",
                          true)) != MLXR_OK)
            return st;
        if ((bits & T_BOOLEAN) &&
            (st = without(&d, s, "[ \\t\\r\\n]*([Tt]rue|[Ff]alse)[ \\t\\r\\n]*", true)) != MLXR_OK)
            return st;
        if ((bits & T_NULL) &&
            (st = without(&d, s, "[ \\t\\r\\n]*(null|None)[ \\t\\r\\n]*", true)) != MLXR_OK)
            return st;
        if ((bits & (T_OBJECT | T_ARRAY)) && (st = without(&d, s, "^[ \\t\\r\\n]*[\\[{]", false)) != MLXR_OK)
            return st;
    }
    if (mlxr_dfa_is_empty(d)) return MLXR_OK;
    *out = d;
    return MLXR_OK;
}

/* ---- alternatives ---- */

/* value_open with its hole filled. */
static mlxr_expr open_text(mlxr_arguments *a, const char *said)
{
    const char *open = a->f->layout.value_open, *hole = strchr(open, '$');
    mlxr_buf b = {0};
    mlxr_expr e = MLXR_EXPR_NONE;

    if (!hole) return mlxr_call_marker(a->w, open);
    mlxr_buf_append(&b, open, (size_t)(hole - open));
    mlxr_buf_str(&b, said);
    mlxr_buf_str(&b, hole + 2);
    if (b.failed)
        mlxr_call_nomem(a->b);
    else
        e = mlxr_call_marker(a->w, b.data);
    mlxr_buf_clear(&b);
    return e;
}

static mlxr_expr framed(mlxr_arguments *a, const char *said, mlxr_expr value)
{
    mlxr_expr e[3] = {open_text(a, said), value, mlxr_call_marker(a->w, a->f->layout.value_close)};
    return mlxr_gb_seq(a->b, e, 3);
}

static mlxr_status bare_value(mlxr_expr *out, mlxr_arguments *a, mlxr_sc_formula f, const mlxr_value *schema)
{
    bool says_string = strstr(a->f->layout.value_open, "$S") != NULL,
         says_type = strstr(a->f->layout.value_open, "$T") != NULL;
    unsigned bits = says_string || says_type ? T_STRING : type_bits(schema, a->t->parameters, 0);
    mlxr_expr e[1 + MLXR_COUNT(others)], value;
    mlxr_sc_formula g;
    mlxr_dfa *d;
    bool empty;
    size_t n = 0;
    mlxr_status st;

    if ((st = bare_strings(&d, a, f, bits)) != MLXR_OK) return st;
    if (d) e[n++] = framed(a, says_string ? "true" : "string", mlxr_gb_dfa(a->b, mlxr_dfa_ref(d)));
    if (says_type) {
        for (size_t i = 0; i < MLXR_COUNT(others); i++) {
            if ((st = of_types(&g, &empty, a, f, &others[i], 1)) != MLXR_OK) return st;
            if (empty) continue;
            if ((st = mlxr_sc_value(&value, a->s, g)) != MLXR_OK) return st;
            e[n++] = framed(a, others[i], value);
        }
    } else {
        if ((st = of_types(&g, &empty, a, f, others, MLXR_COUNT(others))) != MLXR_OK) return st;
        if (!empty) {
            if ((st = mlxr_sc_value(&value, a->s, g)) != MLXR_OK) return st;
            e[n++] = framed(a, "false", value);
        }
    }
    *out = mlxr_gb_alt(a->b, e, n);
    return MLXR_OK;
}

mlxr_status mlxr_call_value(mlxr_expr *out, mlxr_arguments *a, mlxr_sc_formula f, const mlxr_value *schema)
{
    mlxr_expr value;
    mlxr_status st;

    *out = MLXR_EXPR_NONE;
    if (a->f->values == MLXR_VALUES_BARE) return bare_value(out, a, f, schema);
    if ((st = mlxr_sc_value(&value, a->s, f)) == MLXR_OK) *out = framed(a, "", value);
    return st;
}
