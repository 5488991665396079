/* schema_object: the rule of one object.
 *
 * Members that are known by name come in their order, each there or not; behind them come others, in any order, each name once.
 * The automaton's states are (which member is next, how many are written, which "some member ..." conditions are met); the last two
 * only where a schema asks. */
#include <stdlib.h>

#include "engine/grammar/schema_parts.h"

/* Names that are not listed, all of one formula. */
typedef struct atom {
    mlxr_dfa *d;
    mlxr_sc_formula f;
    unsigned some; /* the conditions that speak of these names */
} atom;

typedef struct writer {
    mlxr_sc *s;
    const mlxr_sc_object *o;
    mlxr_sc_graph g;
    mlxr_sc_member *members; /* with their whole formulas */
    unsigned *some;          /* of each member, as of an atom */
    size_t n_members, cap_members;
    atom *atoms;
    size_t n_atoms, cap_atoms;
    size_t n_flags, n_counts; /* flags: 2 to the number of conditions; counts: 1 where they do not matter */
    bool repeats;             /* others are counted by a repeat, not by states */
} writer;

static bool speaks_of_others(const mlxr_sc_names *n)
{
    return !n->d && n->n_not_in == 0; /* names that it leaves out are members */
}

static mlxr_status add_member(writer *w, mlxr_sc_member m, unsigned some)
{
    if (w->n_members == w->cap_members) {
        size_t cap = w->cap_members ? w->cap_members * 2 : 16;
        mlxr_sc_member *more = mlxr_realloc_array(w->members, cap, sizeof *more);
        unsigned *more_some;
        if (more) w->members = more;
        more_some = mlxr_realloc_array(w->some, cap, sizeof *more_some);
        if (more_some) w->some = more_some;
        if (!more || !more_some) return mlxr_sc_nomem(w->s);
        w->cap_members = cap;
    }
    w->members[w->n_members] = m;
    w->some[w->n_members++] = some;
    return MLXR_OK;
}

/* Declared members first, then those that are only required; *never: one that is required cannot be. */
static mlxr_status list_members(writer *w, bool *never)
{
    const mlxr_sc_object *o = w->o;
    mlxr_status st;

    for (int declared = 1; declared >= 0; declared--) {
        for (size_t i = 0; i < o->n_members; i++) {
            mlxr_sc_member m = o->members[i];
            unsigned some = 0;
            if (m.declared != (declared == 1)) continue;
            if ((st = mlxr_sc_member_formula(&m.f, w->s, o, &o->members[i])) != MLXR_OK) return st;
            if (m.f == MLXR_SC_FALSE) {
                *never = *never || m.required;
                continue;
            }
            for (size_t k = 0; k < o->n_some; k++)
                if (mlxr_sc_names_has(w->s, &o->some[k].names, m.name)) some |= 1u << k;
            if ((st = add_member(w, m, some)) != MLXR_OK) return st;
        }
    }
    return MLXR_OK;
}

/* ---- other names ---- */

static mlxr_status add_atom(writer *w, atom a)
{
    if (a.f == MLXR_SC_FALSE || mlxr_dfa_is_empty(a.d)) return MLXR_OK;
    if (w->n_atoms == w->cap_atoms) {
        size_t cap = w->cap_atoms ? w->cap_atoms * 2 : 8;
        atom *more = mlxr_realloc_array(w->atoms, cap, sizeof *more);
        if (!more) return mlxr_sc_nomem(w->s);
        w->atoms = more;
        w->cap_atoms = cap;
    }
    w->atoms[w->n_atoms++] = a;
    return MLXR_OK;
}

/* Splits all atoms by a language: names in it get the formula and the condition besides. */
static mlxr_status split(writer *w, const mlxr_sc_names *names, mlxr_sc_formula f, unsigned some)
{
    mlxr_sc *s = w->s;
    atom *old = w->atoms;
    size_t n_old = w->n_atoms;
    mlxr_dfa *d;
    mlxr_status st = mlxr_sc_names_dfa(&d, s, names);

    w->atoms = NULL;
    w->n_atoms = w->cap_atoms = 0;
    for (size_t i = 0; i < n_old && st == MLXR_OK; i++) {
        atom in = old[i], out = old[i];
        if ((st = mlxr_sc_op(&in.d, s, mlxr_dfa_intersect, old[i].d, d)) != MLXR_OK) break;
        if (mlxr_dfa_is_empty(in.d)) {
            st = add_atom(w, old[i]);
            continue;
        }
        in.some |= some;
        if ((st = mlxr_sc_both(&in.f, s, in.f, f)) != MLXR_OK || (st = add_atom(w, in)) != MLXR_OK) break;
        if ((st = mlxr_sc_op(&out.d, s, mlxr_dfa_minus, old[i].d, d)) == MLXR_OK) st = add_atom(w, out);
    }
    free(old);
    return st;
}

typedef struct listing {
    writer *w;
    const atom *a;
    mlxr_status st;
} listing;

static bool list_name(const char *text, size_t n, void *ud)
{
    listing *l = ud;
    mlxr_sc *s = l->w->s;
    mlxr_sc_member m = {.f = l->a->f};
    char *copy = mlxr_arena_strndup(&s->arena, text, n);

    l->st = copy ? mlxr_sc_name(&m.name, s, copy, n) : mlxr_sc_nomem(s);
    if (l->st == MLXR_OK) l->st = add_member(l->w, m, l->a->some);
    return l->st == MLXR_OK;
}

static mlxr_status list_others(writer *w)
{
    const mlxr_sc_object *o = w->o;
    mlxr_sc *s = w->s;
    mlxr_sc_formula all = MLXR_SC_TRUE;
    unsigned some = 0;
    uint32_t *names;
    atom first = {0};
    size_t kept = 0;
    mlxr_status st;

    for (size_t i = 0; i < o->n_rules; i++)
        if (speaks_of_others(&o->rules[i].names) &&
            (st = mlxr_sc_both(&all, s, all, o->rules[i].f)) != MLXR_OK)
            return st;
    if (all == MLXR_SC_FALSE) return MLXR_OK;
    for (size_t i = 0; i < o->n_some; i++)
        if (speaks_of_others(&o->some[i].names)) some |= 1u << i;
    if (!(names = mlxr_arena_calloc(&s->arena, o->n_members + 1, sizeof *names))) return mlxr_sc_nomem(s);
    for (size_t i = 0; i < o->n_members; i++) names[i] = o->members[i].name;
    first.f = all;
    first.some = some;
    st = mlxr_sc_names_dfa(&first.d, s, &(mlxr_sc_names){.not_names = names, .n_not_names = o->n_members});
    if (st != MLXR_OK || (st = add_atom(w, first)) != MLXR_OK) return st;
    /* What is forbidden first: it leaves the fewest parts. */
    for (int forbidden = 1; forbidden >= 0; forbidden--)
        for (size_t i = 0; i < o->n_rules; i++)
            if (!speaks_of_others(&o->rules[i].names) &&
                (o->rules[i].f == MLXR_SC_FALSE) == (forbidden == 1) &&
                (st = split(w, &o->rules[i].names, o->rules[i].f, 0)) != MLXR_OK)
                return st;
    for (size_t i = 0; i < o->n_some; i++)
        if (!speaks_of_others(&o->some[i].names) &&
            (st = split(w, &o->some[i].names, MLXR_SC_TRUE, 1u << i)) != MLXR_OK)
            return st;
    for (size_t i = 0; i < w->n_atoms; i++) {
        listing l = {.w = w, .a = &w->atoms[i]};
        if (mlxr_dfa_count(w->atoms[i].d) > MLXR_SC_LISTED_NAMES) {
            w->atoms[kept++] = w->atoms[i];
            continue;
        }
        st = mlxr_dfa_each(w->atoms[i].d, MLXR_SC_LISTED_NAMES, list_name, &l, s->err);
        if (st != MLXR_OK || l.st != MLXR_OK) return st != MLXR_OK ? st : l.st;
    }
    w->n_atoms = kept;
    return MLXR_OK;
}

/* ---- the automaton ---- */

enum { MEMBER, DONE, KINDS }; /* a member comes next; one is written */
enum { BEGIN, OPEN, CLOSE, END, N_FIXED };

static size_t state(const writer *w, int kind, size_t i, size_t count, size_t flags)
{
    return N_FIXED + (((i * KINDS + (size_t)kind) * w->n_counts + count) * w->n_flags + flags);
}

/* The count after one more; the highest stands for itself and more. */
static size_t next_count(const writer *w, size_t count)
{
    return count + 1 < w->n_counts ? count + 1 : w->n_counts - 1;
}

/* A value from `from`, to the state that `flags` becomes by it: the conditions that it meets are a choice. */
static mlxr_status add_values(writer *w, size_t from, size_t i, size_t count, size_t flags, mlxr_sc_formula f,
                              unsigned some)
{
    mlxr_sc *s = w->s;
    mlxr_status st;

    some &= ~(unsigned)flags;
    for (unsigned set = 0; set < w->n_flags; set++) {
        mlxr_sc_formula with = f;
        mlxr_expr e;
        if (set & ~some) continue;
        for (size_t k = 0; k < w->o->n_some; k++)
            if (set >> k & 1 && (st = mlxr_sc_both(&with, s, with, w->o->some[k].f)) != MLXR_OK) return st;
        if (with == MLXR_SC_FALSE) continue;
        if ((st = mlxr_sc_value(&e, s, with)) != MLXR_OK) return st;
        mlxr_sc_edge(&w->g, from, state(w, DONE, i, count, flags | set), e);
    }
    return MLXR_OK;
}

static mlxr_expr key_of(mlxr_sc *s, mlxr_expr name)
{
    mlxr_expr e[3] = {name, mlxr_gb_text(s->b, ":", 1), mlxr_sc_colon(s)};

    return mlxr_gb_seq(s->b, e, 3);
}

static mlxr_status key_text(mlxr_expr *out, mlxr_sc *s, uint32_t name)
{
    mlxr_value v = {.type = MLXR_VALUE_STRING, .text = s->names[name].bytes, .n_text = s->names[name].n};
    mlxr_buf text = {0};

    if (mlxr_sc_is_bare_name(s, v.text, v.n_text)) {
        *out = key_of(s, mlxr_gb_text(s->b, v.text, v.n_text));
        return MLXR_OK;
    }
    if (s->notation == MLXR_SC_BRACED) {
        *out = key_of(s, mlxr_sc_quoted(s, mlxr_gb_text(s->b, v.text, v.n_text)));
        return MLXR_OK;
    }
    mlxr_value_write(&text, &v);
    if (text.failed) {
        mlxr_buf_clear(&text);
        return mlxr_sc_nomem(s);
    }
    *out = key_of(s, mlxr_gb_text(s->b, text.data, text.len));
    mlxr_buf_clear(&text);
    return MLXR_OK;
}

static mlxr_status other_key(mlxr_expr *out, mlxr_sc *s, const atom *a)
{
    mlxr_dfa *json;
    mlxr_status st = mlxr_sc_json_text(&json, s, a->d);

    if (st == MLXR_OK) *out = key_of(s, mlxr_sc_quoted(s, mlxr_gb_unique(s->b, mlxr_dfa_ref(json))));
    return st;
}

/* One other member, of any atom: for repeats. */
static mlxr_status other_member(mlxr_expr *out, writer *w)
{
    mlxr_sc *s = w->s;
    mlxr_expr *e = mlxr_arena_calloc(&s->arena, w->n_atoms + 1, sizeof *e);
    mlxr_status st;

    if (!e) return mlxr_sc_nomem(s);
    for (size_t i = 0; i < w->n_atoms; i++) {
        mlxr_expr pair[2];
        if ((st = other_key(&pair[0], s, &w->atoms[i])) != MLXR_OK ||
            (st = mlxr_sc_value(&pair[1], s, w->atoms[i].f)) != MLXR_OK)
            return st;
        e[i] = mlxr_gb_seq(s->b, pair, 2);
    }
    *out = w->n_atoms == 1 ? e[0] : mlxr_gb_alt(s->b, e, w->n_atoms);
    return MLXR_OK;
}

/* Others behind the last member, when `count` are written: from the state where a member comes next. */
static mlxr_status add_others(writer *w, size_t count, size_t flags, size_t *n_states, uint64_t most)
{
    mlxr_sc *s = w->s;
    size_t next = state(w, MEMBER, w->n_members, count, flags), at;
    size_t lo, hi;
    mlxr_expr e, more[2];
    mlxr_status st;

    if (!w->repeats) {
        for (size_t i = 0; i < w->n_atoms; i++) {
            if (w->o->max != SIZE_MAX && count + 1 > w->o->max) return MLXR_OK;
            if ((st = other_key(&e, s, &w->atoms[i])) != MLXR_OK) return st;
            at = (*n_states)++;
            mlxr_sc_edge(&w->g, next, at, e);
            st = add_values(w, at, w->n_members, next_count(w, count), flags, w->atoms[i].f,
                            w->atoms[i].some);
            if (st != MLXR_OK) return st;
        }
        return MLXR_OK;
    }
    lo = w->o->min > count ? w->o->min - count : 0;
    hi = w->o->max == SIZE_MAX ? SIZE_MAX : w->o->max - count;
    if (hi > most) hi = (size_t)most;
    if (hi == 0 || lo > hi) return MLXR_OK;
    if ((st = other_member(&e, w)) != MLXR_OK) return st;
    at = (*n_states)++;
    mlxr_sc_edge(&w->g, next, at, e);
    if (hi == 1) {
        mlxr_sc_skip(&w->g, at, CLOSE);
        return MLXR_OK;
    }
    more[0] = mlxr_sc_comma(s);
    if ((st = other_member(&more[1], w)) != MLXR_OK) return st;
    e = mlxr_gb_repeat(s->b, mlxr_gb_seq(s->b, more, 2), lo ? lo - 1 : 0, hi == SIZE_MAX ? SIZE_MAX : hi - 1);
    mlxr_sc_edge(&w->g, at, CLOSE, e);
    return MLXR_OK;
}

static mlxr_status build(writer *w, const mlxr_sc_case *c, mlxr_expr *out)
{
    const mlxr_sc_object *o = w->o;
    mlxr_sc *s = w->s;
    size_t n = w->n_members, n_required = 0, n_states, last_required = 0;
    uint64_t n_others = 0;
    bool counted;
    mlxr_expr e = MLXR_EXPR_NONE;
    mlxr_status st;

    for (size_t i = 0; i < n; i++) {
        n_required += w->members[i].required;
        if (w->members[i].required) last_required = i + 1;
    }
    for (size_t i = 0; i < w->n_atoms; i++) {
        uint64_t one = mlxr_dfa_count(w->atoms[i].d);
        n_others = n_others > UINT64_MAX - one ? UINT64_MAX : n_others + one;
    }
    w->n_flags = (size_t)1 << o->n_some;
    /* Names run out one by one: up to their number there is always one left, and then no comma may be written. */
    counted = o->min > n_required || o->max < n || (w->n_atoms && o->max != SIZE_MAX) ||
              (w->n_atoms && n_others != UINT64_MAX && w->n_flags == 1);
    w->repeats = w->n_flags == 1 && counted;
    w->n_counts = 1;
    if (counted) {
        size_t most = w->repeats || w->n_atoms == 0 ? n
                      : o->max != SIZE_MAX          ? o->max
                      : o->min > n                  ? o->min
                                                    : n;
        w->n_counts = most + 1;
    }
    if (!mlxr_mul_size(&n_states, (n + 1) * KINDS * w->n_flags, w->n_counts) ||
        n_states > MLXR_SC_MAX_STATES * 2)
        return mlxr_sc_fail(s, c->where, NULL, MLXR_E_LIMIT,
                            "counting the members of this object takes more than %d states",
                            MLXR_SC_MAX_STATES * 2);
    if ((st = mlxr_sc_step(s, n_states)) != MLXR_OK) return st;
    n_states += N_FIXED;
    mlxr_sc_edge(&w->g, BEGIN, OPEN, mlxr_gb_text(s->b, "{", 1));
    mlxr_sc_edge(&w->g, OPEN, state(w, MEMBER, 0, 0, 0), mlxr_sc_use(s, s->space));
    if (n_required == 0 && o->min == 0 && o->n_some == 0)
        mlxr_sc_edge(&w->g, OPEN, END, mlxr_sc_close(s, '}'));
    for (size_t i = 0; i <= n; i++) {
        for (size_t count = 0; count < w->n_counts && (count <= i || !w->repeats); count++) {
            for (size_t flags = 0; flags < w->n_flags; flags++) {
                size_t next = state(w, MEMBER, i, count, flags), done = state(w, DONE, i, count, flags),
                       value;
                bool enough = (!counted || count >= o->min) && flags + 1 == w->n_flags;
                if (counted && count > o->max) continue;
                if (w->n_counts > 1 && count > i && w->n_atoms == 0) continue;
                if (count > i && i < n && w->n_counts > 1) continue; /* never so many by then */
                if (i >= last_required && enough) mlxr_sc_skip(&w->g, done, CLOSE);
                if ((i < n || w->n_atoms)) mlxr_sc_edge(&w->g, done, next, mlxr_sc_comma(s));
                if (i == n) {
                    if (w->n_atoms && (st = add_others(w, count, flags, &n_states, n_others)) != MLXR_OK)
                        return st;
                    continue;
                }
                if (!w->members[i].required) mlxr_sc_skip(&w->g, next, state(w, MEMBER, i + 1, count, flags));
                if (counted && o->max != SIZE_MAX && count >= o->max) continue;
                if ((st = key_text(&e, s, w->members[i].name)) != MLXR_OK) return st;
                value = n_states++;
                mlxr_sc_edge(&w->g, next, value, e);
                st = add_values(w, value, i + 1, next_count(w, count), flags, w->members[i].f, w->some[i]);
                if (st != MLXR_OK) return st;
            }
        }
    }
    mlxr_sc_edge(&w->g, CLOSE, END, mlxr_sc_close(s, '}'));
    *out = mlxr_sc_graph_done(&w->g, n_states, END);
    return MLXR_OK;
}

/* Names that a language of names leaves out become members, if they are none yet, so that the language is one of other names
 * alone. */
static mlxr_status add_left_out(mlxr_sc_object *o, mlxr_sc *s)
{
    const mlxr_sc_name_rule *lists[2] = {o->rules, o->some};
    const size_t n_lists[2] = {o->n_rules, o->n_some};
    mlxr_sc_member *members;
    size_t n = o->n_members;

    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < n_lists[k]; i++) n += lists[k][i].names.n_not_names;
    if (n == o->n_members) return MLXR_OK;
    if (!(members = mlxr_arena_calloc(&s->arena, n, sizeof *members))) return mlxr_sc_nomem(s);
    n = o->n_members;
    if (n) memcpy(members, o->members, n * sizeof *members);
    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < n_lists[k]; i++) {
            const mlxr_sc_names *names = &lists[k][i].names;
            for (size_t j = 0; j < names->n_not_names; j++) {
                size_t at = 0;
                while (at < n && members[at].name != names->not_names[j]) at++;
                if (at == n) members[n++] = (mlxr_sc_member){.name = names->not_names[j], .f = MLXR_SC_TRUE};
            }
        }
    o->members = members;
    o->n_members = n;
    return mlxr_sc_step(s, n);
}

mlxr_status mlxr_sc_define_object(mlxr_sc *s, mlxr_rule r, const mlxr_sc_case *c)
{
    mlxr_sc_object object = c->object;
    writer w = {.s = s, .o = &object, .g = {.s = s}};
    mlxr_text *names = NULL;
    mlxr_expr e = MLXR_EXPR_NONE;
    bool never = c->object.min > c->object.max;
    mlxr_status st;

    if (c->object.n_some > MLXR_SC_MAX_FLAGS) {
        st = mlxr_sc_fail(
            s, c->where, NULL, MLXR_E_LIMIT,
            "more than %d conditions that some member has to meet (from what not and oneOf rule out)",
            MLXR_SC_MAX_FLAGS);
        goto done;
    }
    if ((st = add_left_out(&object, s)) != MLXR_OK) goto done;
    if ((st = list_members(&w, &never)) != MLXR_OK || (st = list_others(&w)) != MLXR_OK) goto done;
    if (never)
        e = mlxr_gb_never(s->b);
    else if ((st = build(&w, c, &e)) != MLXR_OK)
        goto done;
    mlxr_gb_define(s->b, r, e);
    if (!(names = mlxr_malloc_array(w.n_members, sizeof *names))) {
        st = mlxr_sc_nomem(s);
        goto done;
    }
    for (size_t i = 0; i < w.n_members; i++) names[i] = s->names[w.members[i].name];
    mlxr_gb_members(s->b, r, names, w.n_members);
done:
    free(names);
    free(w.members);
    free(w.some);
    free(w.atoms);
    mlxr_sc_graph_clear(&w.g);
    return st;
}
