/* call_arguments: the arguments of a call as the format writes them.
 *
 * JSON styles have one JSON object, which the schema's own rule writes. The others write a member at a time, with text of
 * their own around name and value. There the object is taken apart in the normal form of schema_parts.h:
 *
 *   members that the schema lists, in its order, then those that it only requires: all that are required, any of the others
 *   members that it does not list, where it asks for such or lists none: names that are plain words, each once
 *
 * Which value may stand where is the schema's; how it is written is the format's (call_values.c). */
#include "engine/grammar/call_arguments.h"

#include <ctype.h>
#include <stdlib.h>

/* ---- names ---- */

static bool is_python(const mlxr_answer_format *f)
{
    return f->style == MLXR_CALLS_PYTHONIC;
}

/* What a member may be called so that the name can be read back. In XML almost anything, but no part of a tag. */
static bool name_fits(const mlxr_answer_format *f, const mlxr_text *name)
{
    bool xml = f->style == MLXR_CALLS_XML;
    if (name->n == 0) return false;
    for (size_t i = 0; i < name->n; i++) {
        unsigned char c = (unsigned char)name->bytes[i];
        if (isalnum(c) || c == '_' || (is_python(f) && c >= 0x80)) {
            if (i == 0 && isdigit(c) && is_python(f)) return false;
            continue;
        }
        if (is_python(f)) return false;
        if (c >= 0x80 || strchr("-.$@", c)) continue;
        if (!xml || !strchr(" /:[]()", c) || i == 0 || i + 1 == name->n) return false;
    }
    return true;
}

/* ---- members ---- */

/* The schema of the name in the tool's own "properties". */
static const mlxr_value *listed(const mlxr_arguments *a, const mlxr_text *name)
{
    const mlxr_value *v = a->t->parameters ? mlxr_value_get(a->t->parameters, "properties") : NULL;
    return v ? mlxr_value_get_n(v, name->bytes, name->n) : NULL;
}

typedef struct member {
    mlxr_rule rule; /* key and value */
    bool required;
} member;

/* Members that are not listed: names of a language, with values of a formula. */
typedef struct other {
    mlxr_dfa *names; /* the maker's */
    mlxr_rule value; /* all behind the name */
} other;

typedef struct object {
    mlxr_arguments *a;
    const mlxr_sc_object *o;
    member *members; /* [n_members], those that can be there */
    size_t n_members;
    other *others;
    size_t n_others;
    bool never; /* a member that is required cannot be */
} object;

static mlxr_status make_member(object *x, const mlxr_sc_member *m)
{
    mlxr_arguments *a = x->a;
    const mlxr_text *name = &a->s->names[m->name];
    mlxr_sc_formula f;
    bool empty;
    mlxr_expr e[3];
    mlxr_status st;

    if ((st = mlxr_sc_member_formula(&f, a->s, x->o, m)) != MLXR_OK) return st;
    if ((st = mlxr_sc_is_empty(&empty, a->s, f, 2)) != MLXR_OK) return st;
    if (empty) {
        x->never = x->never || m->required;
        return MLXR_OK;
    }
    if (!name_fits(a->f, name))
        return mlxr_fail(
            a->err, MLXR_E_UNSUPPORTED,
            "%s#/properties/%.*s: a member of this name cannot be written in calls of the format %s",
            a->t->label, (int)(name->n < 200 ? name->n : 200), name->bytes, a->f->name);
    x->members[x->n_members].required = m->required;
    x->members[x->n_members].rule = mlxr_gb_rule(a->b, "argument");
    e[0] = mlxr_call_marker(a->w, a->f->layout.key_open);
    e[1] = mlxr_gb_text(a->b, name->bytes, name->n);
    if ((st = mlxr_call_value(&e[2], a, f, listed(a, name))) != MLXR_OK) return st;
    mlxr_gb_define(a->b, x->members[x->n_members++].rule, mlxr_gb_seq(a->b, e, 3));
    return MLXR_OK;
}

/* Whether members that are not listed are offered. JSON Schema allows them unless it is told not to; models that see a list of
 * parameters do not want any. */
static bool offers_others(const mlxr_arguments *a, const mlxr_sc_object *o)
{
    static const char *const asks[] = {"additionalProperties", "patternProperties", "propertyNames"};
    const mlxr_value *v;

    if (o->n_members == 0) return true;
    for (size_t i = 0; i < MLXR_COUNT(asks); i++)
        if ((v = mlxr_value_get(a->t->parameters, asks[i])) && v->type != MLXR_VALUE_FALSE) return true;
    return false;
}

static mlxr_status add_other(object *x, mlxr_dfa *names, mlxr_sc_formula f)
{
    mlxr_arguments *a = x->a;
    bool empty;
    mlxr_expr e;
    mlxr_status st;

    if (mlxr_dfa_is_empty(names)) return MLXR_OK;
    if ((st = mlxr_sc_is_empty(&empty, a->s, f, 2)) != MLXR_OK || empty) return st;
    if ((st = mlxr_call_value(&e, a, f, NULL)) != MLXR_OK) return st;
    x->others[x->n_others].names = names;
    x->others[x->n_others].value = mlxr_gb_rule(a->b, "value of an argument");
    mlxr_gb_define(a->b, x->others[x->n_others++].value, e);
    return MLXR_OK;
}

/* A name that two rules are about is left out: what is left is still all the schema's. */
static mlxr_status make_others(object *x)
{
    static const char words[] = "[A-Za-z_][A-Za-z0-9_]{0,63}";
    mlxr_sc *s = x->a->s;
    const mlxr_sc_object *o = x->o;
    mlxr_text *listed;
    mlxr_dfa *base, *rest, *d, *names;
    mlxr_status st;

    if ((st = mlxr_dfa_regex(&base, words, strlen(words), true, s->limits, s->err)) != MLXR_OK) return st;
    if ((st = mlxr_sc_own(s, base)) != MLXR_OK) return st;
    if (o->n_members) {
        if (!(listed = mlxr_arena_calloc(&s->arena, o->n_members, sizeof *listed))) return mlxr_sc_nomem(s);
        for (size_t i = 0; i < o->n_members; i++) listed[i] = s->names[o->members[i].name];
        if ((st = mlxr_dfa_literals(&d, listed, o->n_members, s->err)) != MLXR_OK) return st;
        if ((st = mlxr_sc_own(s, d)) != MLXR_OK) return st;
        if ((st = mlxr_sc_op(&base, s, mlxr_dfa_minus, base, d)) != MLXR_OK) return st;
    }
    rest = base;
    for (size_t i = 0; i < o->n_rules; i++) {
        if ((st = mlxr_sc_names_dfa(&d, s, &o->rules[i].names)) != MLXR_OK) return st;
        if ((st = mlxr_sc_op(&rest, s, mlxr_dfa_minus, rest, d)) != MLXR_OK) return st;
        if ((st = mlxr_sc_op(&names, s, mlxr_dfa_intersect, base, d)) != MLXR_OK) return st;
        for (size_t j = 0; j < o->n_rules; j++) {
            if (j == i) continue;
            if ((st = mlxr_sc_names_dfa(&d, s, &o->rules[j].names)) != MLXR_OK) return st;
            if ((st = mlxr_sc_op(&names, s, mlxr_dfa_minus, names, d)) != MLXR_OK) return st;
        }
        if ((st = add_other(x, names, o->rules[i].f)) != MLXR_OK) return st;
    }
    return add_other(x, rest, MLXR_SC_TRUE);
}

/* ---- the order: state (i, c) is before member i with c members written, c up to where it makes no difference ---- */

typedef struct graph {
    mlxr_gb_edge *edges;
    size_t n, cap;
} graph;

static bool add_edge(graph *g, uint32_t from, uint32_t to, mlxr_expr e)
{
    if (g->n == g->cap) {
        size_t cap = g->cap ? g->cap * 2 : 64;
        mlxr_gb_edge *more = mlxr_realloc_array(g->edges, cap, sizeof *more);
        if (!more) return false;
        g->edges = more;
        g->cap = cap;
    }
    g->edges[g->n++] = (mlxr_gb_edge){from, to, e};
    return true;
}

static mlxr_expr between(mlxr_arguments *a, size_t c, mlxr_expr e)
{
    mlxr_expr two[2];
    if (c == 0 || !a->f->layout.value_between[0]) return e;
    two[0] = mlxr_call_marker(a->w, a->f->layout.value_between);
    two[1] = e;
    return mlxr_gb_seq(a->b, two, 2);
}

static mlxr_expr other_expr(mlxr_arguments *a, const other *t)
{
    mlxr_expr e[3];
    e[0] = mlxr_call_marker(a->w, a->f->layout.key_open);
    e[1] = mlxr_gb_unique(a->b, mlxr_dfa_ref(t->names));
    e[2] = mlxr_gb_call(a->b, t->value);
    return mlxr_gb_seq(a->b, e, 3);
}

static mlxr_status object_graph(mlxr_expr *out, object *x)
{
    mlxr_arguments *a = x->a;
    const mlxr_sc_object *o = x->o;
    size_t cap = o->max != SIZE_MAX && o->max > o->min ? o->max : o->min, most = x->n_members, c, i,
           n_accepting = 0;
    uint32_t *accepting = NULL;
    graph g = {0};
    mlxr_status st = MLXR_OK;

    /* No more members can come than there are, without others. */
    if (!x->n_others && o->min > most) {
        *out = mlxr_gb_never(a->b);
        return MLXR_OK;
    }
    if (!x->n_others && cap > most) cap = most;
    if (cap < 1) cap = 1;
    if (cap > 64 || (x->n_members + 1) * (cap + 1) > 20000)
        return mlxr_fail(a->err, MLXR_E_LIMIT, "%s: too many members to count in calls of the format %s",
                         a->t->label, a->f->name);
    accepting = mlxr_calloc_array(cap + 1, sizeof *accepting);
    if (!accepting) return mlxr_sc_nomem(a->s);
    for (c = 0; c <= cap; c++) {
        size_t next = c < cap ? c + 1 : cap;
        bool full = o->max != SIZE_MAX && c >= o->max, ok = true;
        for (i = 0; i <= x->n_members && ok; i++) {
            uint32_t here = (uint32_t)(i * (cap + 1) + c);
            if (i == x->n_members) {
                for (size_t k = 0; k < x->n_others && !full && ok; k++)
                    ok = add_edge(&g, here, (uint32_t)(i * (cap + 1) + next),
                                  between(a, c, other_expr(a, &x->others[k])));
                if (c >= o->min) accepting[n_accepting++] = here;
                continue;
            }
            if (!full)
                ok = add_edge(&g, here, (uint32_t)((i + 1) * (cap + 1) + next),
                              between(a, c, mlxr_gb_call(a->b, x->members[i].rule)));
            if (ok && !x->members[i].required)
                ok = add_edge(&g, here, (uint32_t)((i + 1) * (cap + 1) + c), mlxr_gb_empty(a->b));
        }
        if (!ok) {
            st = mlxr_sc_nomem(a->s);
            goto done;
        }
    }
    *out = mlxr_gb_graph(a->b, (uint32_t)((x->n_members + 1) * (cap + 1)), g.edges, g.n, accepting,
                         n_accepting);
done:
    free(g.edges);
    free(accepting);
    return st;
}

static mlxr_status object_expr(mlxr_expr *out, mlxr_arguments *a, const mlxr_sc_case *c)
{
    static const mlxr_sc_object any = {.max = SIZE_MAX};
    object x = {.a = a, .o = c->free ? &any : &c->object};
    mlxr_status st;

    if (x.o->n_some)
        return mlxr_sc_fail(a->s, c->where, NULL, MLXR_E_UNSUPPORTED,
                            "a condition that some member must meet cannot be held in calls of the format %s",
                            a->f->name);
    x.members = mlxr_arena_calloc(&a->s->arena, x.o->n_members + 1, sizeof *x.members);
    x.others = mlxr_arena_calloc(&a->s->arena, x.o->n_rules + 1, sizeof *x.others);
    if (!x.members || !x.others) return mlxr_sc_nomem(a->s);
    for (int declared = 1; declared >= 0; declared--)
        for (size_t i = 0; i < x.o->n_members; i++)
            if (x.o->members[i].declared == (declared == 1) &&
                (st = make_member(&x, &x.o->members[i])) != MLXR_OK)
                return st;
    if (x.never) {
        *out = mlxr_gb_never(a->b);
        return MLXR_OK;
    }
    if (offers_others(a, x.o) && (st = make_others(&x)) != MLXR_OK) return st;
    return object_graph(out, &x);
}

/* ---- the arguments ---- */

static mlxr_status members_expr(mlxr_expr *out, mlxr_arguments *a)
{
    static const mlxr_value any = {.type = MLXR_VALUE_OBJECT};
    const mlxr_sc_norm *norm;
    mlxr_sc_formula f;
    mlxr_expr *e;
    size_t n = 0;
    mlxr_status st;

    if ((st = mlxr_sc_read(a->s, a->t->parameters ? a->t->parameters : &any, &a->root)) != MLXR_OK) return st;
    if ((st = mlxr_sc_formula_of(&f, a->s, a->root, false)) != MLXR_OK) return st;
    if ((st = mlxr_sc_norm_formula(&norm, a->s, f)) != MLXR_OK) return st;
    if (!(e = mlxr_arena_calloc(&a->s->arena, norm->n + 1, sizeof *e))) return mlxr_sc_nomem(a->s);
    for (size_t i = 0; i < norm->n; i++) {
        if (norm->cases[i]->type != MLXR_VALUE_OBJECT) continue;
        if ((st = object_expr(&e[n++], a, norm->cases[i])) != MLXR_OK) return st;
    }
    if (!n) return mlxr_fail(a->err, MLXR_E_INVALID_ARGUMENT, "%s: no arguments are accepted", a->t->label);
    *out = mlxr_gb_alt(a->b, e, n);
    return MLXR_OK;
}

static mlxr_status keyed(mlxr_rule *out, mlxr_call_writer *w, const mlxr_tool *t, mlxr_error *err)
{
    mlxr_schema_options options = mlxr_schema_options_default();
    mlxr_arguments *a = calloc(1, sizeof *a);
    mlxr_expr e = MLXR_EXPR_NONE;
    mlxr_status st;

    if (!a) return mlxr_fail_nomem(err, "tools");
    *a = (mlxr_arguments){.w = w, .b = w->b, .f = w->f, .t = t, .s = &a->maker, .err = err};
    options.white_space = w->f->values != MLXR_VALUES_BRACED;
    options.machine_numbers = true;
    if ((st = mlxr_sc_begin(a->s, w->b, t->label, &options, err)) != MLXR_OK) goto done;
    a->s->notation = w->f->values == MLXR_VALUES_PYTHON   ? MLXR_SC_PYTHON
                     : w->f->values == MLXR_VALUES_BRACED ? MLXR_SC_BRACED
                                                          : MLXR_SC_JSON;
    if (w->f->values == MLXR_VALUES_BARE) a->s->avoid = w->f->value_close;
    if (w->f->values == MLXR_VALUES_BRACED) a->s->avoid = MLXR_SC_MARK;
    if ((st = mlxr_sc_prepare(a->s)) != MLXR_OK) goto done;
    if ((st = members_expr(&e, a)) != MLXR_OK) goto done;
    *out = mlxr_gb_rule(w->b, "arguments");
    mlxr_gb_define(w->b, *out, e);
    st = mlxr_sc_flush(a->s);
done:
    if (st == MLXR_SC_UNKNOWN) st = mlxr_fail(err, MLXR_E_INTERNAL, "%s: a probe was left open", t->label);
    mlxr_sc_end(a->s);
    free(a);
    return st;
}

static bool is_keyed(const mlxr_answer_format *f)
{
    return f->style == MLXR_CALLS_XML || f->style == MLXR_CALLS_PYTHONIC || f->style == MLXR_CALLS_BRACED;
}

mlxr_rule mlxr_call_arguments(mlxr_call_writer *w, const mlxr_tool *t)
{
    mlxr_schema_options options = mlxr_schema_options_default();
    mlxr_rule r = 0;
    mlxr_error err = {0};
    mlxr_status st;

    /* Whoever reads the call has to make numbers of them. */
    options.machine_numbers = true;
    if (!is_keyed(w->f) && !t->parameters) return mlxr_gb_json(w->b, true, &options);
    if (is_keyed(w->f))
        st = keyed(&r, w, t, &err);
    else
        st = mlxr_gb_schema(&r, w->b, t->parameters, t->label, &options, &err);
    if (st != MLXR_OK) mlxr_gb_fail(w->b, st, err.message);
    return r;
}
