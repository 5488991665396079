/* schema_array: the rule of one array.
 *
 * Without conditions on how many items are of a kind: first items, each there only behind those before it, then the rest, counted by
 * a repeat. With them (contains): states are (how many items, how many of each kind). Items that must differ are scalars, each
 * written in one way only, so different texts are different values. */
#include <stdlib.h>

#include "engine/grammar/schema_parts.h"

enum { BEGIN, OPEN, CLOSE, END, N_FIXED };
enum { MOST_CONTAINS = 4 };

typedef struct writer {
    mlxr_sc *s;
    const mlxr_sc_case *c;
    const mlxr_sc_array *a;
    mlxr_sc_graph g;
    bool unique;
} writer;

static mlxr_sc_formula item_formula(const mlxr_sc_array *a, size_t i)
{
    return i < a->n_prefix ? a->prefix[i] : a->rest;
}

static mlxr_status unique_dfa(mlxr_dfa **out, const writer *w, mlxr_sc_formula f)
{
    const mlxr_sc_norm *n;
    mlxr_status st = mlxr_sc_norm_formula(&n, w->s, f);

    if (st == MLXR_OK) st = mlxr_sc_scalar_dfa(out, w->s, n);
    if (st == MLXR_OK && !*out)
        return mlxr_sc_fail(w->s, w->a->unique, "uniqueItems", MLXR_E_UNSUPPORTED,
                            "items that are arrays or objects cannot be held apart");
    return st;
}

static mlxr_status item(mlxr_expr *out, const writer *w, mlxr_sc_formula f)
{
    mlxr_dfa *d;
    mlxr_status st;

    if (!w->unique) return mlxr_sc_value(out, w->s, f);
    if ((st = unique_dfa(&d, w, f)) == MLXR_OK) *out = mlxr_gb_unique(w->s->b, mlxr_dfa_ref(d));
    return st;
}

/* Behind any item that may be written there is one left that differs: otherwise the writer would stand before nothing. */
static mlxr_status bound_unique(const writer *w, mlxr_sc_array *a)
{
    mlxr_dfa *d;
    mlxr_status st;

    for (size_t i = 0; i < a->n_prefix; i++) {
        if ((st = unique_dfa(&d, w, a->prefix[i])) != MLXR_OK) return st;
        if (mlxr_dfa_count(d) <= i)
            return mlxr_sc_fail(w->s, a->unique, "uniqueItems", MLXR_E_UNSUPPORTED,
                                "item %zu has no more than %zu values, which the items before it may take", i,
                                i);
    }
    if (a->max > a->n_prefix) {
        if ((st = unique_dfa(&d, w, a->rest)) != MLXR_OK) return st;
        if (mlxr_dfa_count(d) < a->max) {
            size_t most = (size_t)mlxr_dfa_count(d);
            a->max = most > a->n_prefix ? most : a->n_prefix;
            if (a->min > a->max && a->n_prefix)
                return mlxr_sc_fail(w->s, a->unique, "uniqueItems", MLXR_E_UNSUPPORTED,
                                    "there are too few values for %zu items", a->min);
        }
    }
    return MLXR_OK;
}

static void begin(writer *w, size_t first, bool may_be_empty)
{
    mlxr_sc *s = w->s;

    mlxr_sc_edge(&w->g, BEGIN, OPEN, mlxr_gb_text(s->b, "[", 1));
    if (first) mlxr_sc_edge(&w->g, OPEN, first, mlxr_sc_use(s, s->space));
    if (may_be_empty) mlxr_sc_edge(&w->g, OPEN, END, mlxr_sc_close(s, ']'));
    mlxr_sc_edge(&w->g, CLOSE, END, mlxr_sc_close(s, ']'));
}

static mlxr_status plain_array(mlxr_expr *out, writer *w, const mlxr_sc_array *a)
{
    mlxr_sc *s = w->s;
    size_t n = a->n_prefix < a->max ? a->n_prefix : a->max;
    size_t end, lo, hi; /* item i: state before it N_FIXED + 2 i, behind it the next one */
    mlxr_expr e, more[2];
    mlxr_status st;

    begin(w, a->max ? N_FIXED : 0, a->min == 0);
    for (size_t i = 0; i < n; i++) {
        size_t before = N_FIXED + 2 * i, behind = before + 1;
        if ((st = item(&e, w, a->prefix[i])) != MLXR_OK) return st;
        mlxr_sc_edge(&w->g, before, behind, e);
        if (i + 1 >= a->min) mlxr_sc_skip(&w->g, behind, CLOSE);
        if (i + 1 < a->max) mlxr_sc_edge(&w->g, behind, before + 2, mlxr_sc_comma(s));
    }
    end = N_FIXED + 2 * n;
    if (n < a->max) {
        lo = a->min > n + 1 ? a->min - n - 1 : 0;
        hi = a->max == SIZE_MAX ? SIZE_MAX : a->max - n - 1;
        if ((st = item(&e, w, a->rest)) != MLXR_OK) return st;
        mlxr_sc_edge(&w->g, end, end + 1, e);
        if (lo == 0 && hi == SIZE_MAX) {
            mlxr_sc_edge(&w->g, end + 1, end, mlxr_sc_comma(s));
            mlxr_sc_skip(&w->g, end + 1, CLOSE);
        } else if (hi == 0) {
            mlxr_sc_skip(&w->g, end + 1, CLOSE);
        } else {
            more[0] = mlxr_sc_comma(s);
            if ((st = item(&more[1], w, a->rest)) != MLXR_OK) return st;
            mlxr_sc_edge(&w->g, end + 1, CLOSE, mlxr_gb_repeat(s->b, mlxr_gb_seq(s->b, more, 2), lo, hi));
        }
    }
    *out = mlxr_sc_graph_done(&w->g, end + 2, END);
    return MLXR_OK;
}

/* ---- contains ---- */

/* One item from a state: each choice of kinds that it is of, as far as that is counted. */
static mlxr_status counted_item(writer *w, const mlxr_sc_array *a, size_t i, size_t n_places,
                                const size_t *caps, const size_t *counts)
{
    mlxr_sc *s = w->s;
    size_t here = 0, next_i = i + 1 < n_places ? i + 1 : n_places - 1;
    mlxr_status st;

    for (size_t k = a->n_contains; k-- > 0;) here = here * (caps[k] + 1) + counts[k];
    here = here * n_places + i;
    for (unsigned set = 0; set < 1u << a->n_contains; set++) {
        mlxr_sc_formula f = item_formula(a, i);
        size_t to = 0, next[MOST_CONTAINS];
        bool possible = true;
        mlxr_expr e;
        for (size_t k = 0; k < a->n_contains && possible; k++) {
            const mlxr_sc_contains *c = &a->contains[k];
            bool exact = c->max != SIZE_MAX, in = set >> k & 1;
            next[k] = counts[k];
            if (i < c->from && i + 1 < n_places) {
                possible = !in;
                continue;
            }
            if (in && counts[k] == caps[k]) {
                possible = false; /* too many; or enough, and then nobody asks */
            } else if (in) {
                next[k]++;
                if ((st = mlxr_sc_both(&f, s, f, c->yes)) != MLXR_OK) return st;
            } else if (exact && (st = mlxr_sc_both(&f, s, f, c->no)) != MLXR_OK) {
                return st;
            }
        }
        if (!possible || f == MLXR_SC_FALSE) continue;
        for (size_t k = a->n_contains; k-- > 0;) to = to * (caps[k] + 1) + next[k];
        to = to * n_places + next_i;
        if ((st = mlxr_sc_step(s, 1)) != MLXR_OK) return st;
        if ((st = item(&e, w, f)) != MLXR_OK) return st;
        mlxr_sc_edge(&w->g, N_FIXED + 2 * here, N_FIXED + 2 * to + 1, e);
    }
    return MLXR_OK;
}

static mlxr_status counted_array(mlxr_expr *out, writer *w, const mlxr_sc_array *a)
{
    mlxr_sc *s = w->s;
    size_t caps[MOST_CONTAINS], counts[MOST_CONTAINS], n_places = a->n_prefix, min = a->min, n_states;
    bool fits = true, empty = true;
    mlxr_status st;

    if (a->n_contains > MOST_CONTAINS)
        return mlxr_sc_fail(s, w->c->where, NULL, MLXR_E_LIMIT, "more than %d kinds of items are counted",
                            MOST_CONTAINS);
    /* What contains asks for by itself needs no count of all items. */
    for (size_t k = 0; k < a->n_contains; k++)
        if (a->contains[k].from == 0 && a->contains[k].min >= min) min = 0;
    for (size_t k = 0; k < a->n_contains; k++) {
        const mlxr_sc_contains *c = &a->contains[k];
        caps[k] = c->max == SIZE_MAX ? c->min : c->max;
        if (c->from > n_places) n_places = c->from;
        empty = empty && c->min == 0;
    }
    if (min > n_places) n_places = min;
    if (a->max != SIZE_MAX) n_places = a->max;
    fits = mlxr_add_size(&n_places, n_places, 1);
    n_states = n_places;
    for (size_t k = 0; k < a->n_contains && fits; k++)
        fits = mlxr_mul_size(&n_states, n_states, caps[k] + 1) && n_states <= MLXR_SC_MAX_STATES;
    if (!fits || n_states > MLXR_SC_MAX_STATES)
        return mlxr_sc_fail(s, w->c->where, NULL, MLXR_E_LIMIT,
                            "counting the items that contains asks for takes more than %d states",
                            MLXR_SC_MAX_STATES);
    if ((st = mlxr_sc_step(s, n_states)) != MLXR_OK) return st;
    begin(w, a->max ? N_FIXED : 0, empty && a->min == 0);
    for (size_t at = 0; at < n_states; at++) {
        size_t i = at % n_places, rest = at / n_places;
        bool enough = i >= min;
        for (size_t k = 0; k < a->n_contains; k++) {
            counts[k] = rest % (caps[k] + 1);
            rest /= caps[k] + 1;
            enough = enough && counts[k] >= a->contains[k].min;
        }
        if (enough) mlxr_sc_skip(&w->g, N_FIXED + 2 * at + 1, CLOSE);
        if (a->max != SIZE_MAX && i >= a->max) continue;
        mlxr_sc_edge(&w->g, N_FIXED + 2 * at + 1, N_FIXED + 2 * at, mlxr_sc_comma(s));
        if ((st = counted_item(w, a, i, n_places, caps, counts)) != MLXR_OK) return st;
    }
    *out = mlxr_sc_graph_done(&w->g, N_FIXED + 2 * n_states, END);
    return MLXR_OK;
}

mlxr_status mlxr_sc_define_array(mlxr_sc *s, mlxr_rule r, const mlxr_sc_case *c)
{
    writer w = {.s = s, .c = c, .a = &c->array, .g = {.s = s}};
    mlxr_sc_array a = c->array;
    mlxr_expr e = MLXR_EXPR_NONE;
    bool empty = false, counted = false;
    mlxr_status st = MLXR_OK;

    mlxr_sc_tidy_array(&a, &empty);
    for (size_t i = 0; i < a.n_contains; i++)
        counted = counted || a.contains[i].min || a.contains[i].max != SIZE_MAX;
    w.unique = a.unique && a.max > 1;
    if (empty) {
        e = mlxr_gb_never(s->b);
    } else if (w.unique && counted) {
        st = mlxr_sc_fail(s, a.unique, "uniqueItems", MLXR_E_UNSUPPORTED,
                          "cannot be enforced together with contains");
    } else if (counted) {
        st = counted_array(&e, &w, &a);
    } else {
        if (w.unique) st = bound_unique(&w, &a);
        if (st == MLXR_OK && a.min > a.max)
            e = mlxr_gb_never(s->b);
        else if (st == MLXR_OK)
            st = plain_array(&e, &w, &a);
    }
    if (st == MLXR_OK) mlxr_gb_define(s->b, r, e);
    mlxr_sc_graph_clear(&w.g);
    return st;
}
