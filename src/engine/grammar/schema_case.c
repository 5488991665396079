/* schema_case: cases of one JSON type each: what is in both of two, what is a given value or is not, and whether anything is.
 *
 * Cases are immutable and share their parts. A case that is seen to be empty is dropped where it would be made. */
#include <stdlib.h>

#include "engine/grammar/schema_parts.h"

enum { STEPS_A_CASE = 200 };

/* Work is bounded besides what it leaves: a product of unions may be empty and cost much. */
mlxr_status mlxr_sc_step(mlxr_sc *s, size_t n)
{
    if (!mlxr_add_size(&s->n_steps, s->n_steps, n) || s->n_steps / STEPS_A_CASE > s->options.max_cases + 1000)
        return mlxr_fail(s->err, MLXR_E_LIMIT,
                         "%s: combining its parts takes more steps than %zu cases may (max_cases)", s->name,
                         s->options.max_cases);
    return MLXR_OK;
}

mlxr_status mlxr_sc_new_case(mlxr_sc_case **out, mlxr_sc *s, mlxr_value_type type, const mlxr_sc_node *where)
{
    mlxr_sc_case *c;

    if (s->n_cases++ >= s->options.max_cases)
        return mlxr_fail(s->err, MLXR_E_LIMIT, "%s: more than %zu cases (max_cases)", s->name,
                         s->options.max_cases);
    if (!(c = mlxr_arena_calloc(&s->arena, 1, sizeof *c))) return mlxr_sc_nomem(s);
    c->type = type;
    c->where = where;
    if (type == MLXR_VALUE_STRING) c->string.max = SIZE_MAX;
    if (type == MLXR_VALUE_ARRAY) c->array.max = SIZE_MAX;
    if (type == MLXR_VALUE_OBJECT) c->object.max = SIZE_MAX;
    *out = c;
    return MLXR_OK;
}

mlxr_status mlxr_sc_add(mlxr_sc *s, mlxr_sc_list *l, const mlxr_sc_case *c)
{
    size_t kept = 0;

    /* A free case swallows the others of its type, unless they tell what is evaluated. */
    for (size_t i = 0; i < l->n; i++)
        if (l->cases[i] == c || (!s->n_tracking && l->cases[i]->free && l->cases[i]->type == c->type))
            return MLXR_OK;
    if (c->free && !s->n_tracking) {
        for (size_t i = 0; i < l->n; i++)
            if (l->cases[i]->type != c->type) l->cases[kept++] = l->cases[i];
        l->n = kept;
    }
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 8;
        const mlxr_sc_case **more = mlxr_arena_calloc(&s->arena, cap, sizeof *more);
        if (!more) return mlxr_sc_nomem(s);
        if (l->n) memcpy((void *)more, (const void *)l->cases, l->n * sizeof *more);
        l->cases = more;
        l->cap = cap;
    }
    l->cases[l->n++] = c;
    return mlxr_sc_step(s, 1 + l->n / 16);
}

mlxr_status mlxr_sc_add_norm(mlxr_sc *s, mlxr_sc_list *l, const mlxr_sc_norm *n)
{
    mlxr_status st;

    for (size_t i = 0; i < n->n; i++)
        if ((st = mlxr_sc_add(s, l, n->cases[i])) != MLXR_OK) return st;
    return MLXR_OK;
}

mlxr_status mlxr_sc_done(const mlxr_sc_norm **out, mlxr_sc *s, const mlxr_sc_list *l)
{
    mlxr_sc_norm *n = mlxr_arena_calloc(&s->arena, 1, sizeof *n);

    if (!n) return mlxr_sc_nomem(s);
    n->cases = l->cases;
    n->n = l->n;
    *out = n;
    return MLXR_OK;
}

/* ---- both of two ---- */

static mlxr_status both_plains(mlxr_sc_plains *out, mlxr_sc *s, const mlxr_sc_plains *a,
                               const mlxr_sc_plains *b)
{
    if (a->n == 0 || b->n == 0) {
        *out = a->n ? *a : *b;
        return MLXR_OK;
    }
    out->t = mlxr_arena_calloc(&s->arena, a->n + b->n, sizeof *out->t);
    if (!out->t) return mlxr_sc_nomem(s);
    memcpy((void *)out->t, (const void *)a->t, a->n * sizeof *a->t);
    out->n = a->n;
    for (size_t i = 0; i < b->n; i++) {
        bool known = false;
        for (size_t j = 0; j < a->n && !known; j++) known = strcmp(a->t[j], b->t[i]) == 0;
        if (!known) out->t[out->n++] = b->t[i];
    }
    return mlxr_sc_step(s, a->n * b->n);
}

static mlxr_status both_numbers(mlxr_sc_number *out, bool *empty, mlxr_sc *s, const mlxr_sc_number *a,
                                const mlxr_sc_number *b)
{
    mlxr_status st;
    int o;

    if (a->among.has || b->among.has) {
        const mlxr_sc_number *list = a->among.has ? a : b, *other = list == a ? b : a;
        st = mlxr_sc_number_keep(&out->among, s, other, &list->among);
        *empty = st == MLXR_OK && out->among.n == 0;
        return st;
    }
    *out = *a;
    if (b->min) {
        o = out->min ? mlxr_number_compare(b->min, out->min) : 1;
        if (o > 0) {
            out->min = b->min;
            out->min_exclusive = b->min_exclusive;
        } else if (o == 0) {
            out->min_exclusive = out->min_exclusive || b->min_exclusive;
        }
    }
    if (b->max) {
        o = out->max ? mlxr_number_compare(b->max, out->max) : -1;
        if (o < 0) {
            out->max = b->max;
            out->max_exclusive = b->max_exclusive;
        } else if (o == 0) {
            out->max_exclusive = out->max_exclusive || b->max_exclusive;
        }
    }
    out->integer = a->integer || b->integer;
    out->fraction = a->fraction || b->fraction;
    if ((st = both_plains(&out->multiple_of, s, &a->multiple_of, &b->multiple_of)) != MLXR_OK ||
        (st = both_plains(&out->not_multiple_of, s, &a->not_multiple_of, &b->not_multiple_of)) != MLXR_OK ||
        (st = both_plains(&out->except, s, &a->except, &b->except)) != MLXR_OK)
        return st;
    *empty = out->integer && out->fraction;
    if (out->min && out->max) {
        o = mlxr_number_compare(out->min, out->max);
        *empty = *empty || o > 0 || (o == 0 && (out->min_exclusive || out->max_exclusive));
    }
    return MLXR_OK;
}

static mlxr_status both_strings(mlxr_sc_string *out, bool *empty, mlxr_sc *s, const mlxr_sc_string *a,
                                const mlxr_sc_string *b)
{
    mlxr_status st;

    if (a->among.has || b->among.has) {
        const mlxr_sc_string *list = a->among.has ? a : b, *other = list == a ? b : a;
        mlxr_text *kept = mlxr_arena_calloc(&s->arena, list->among.n + 1, sizeof *kept);
        size_t n = 0;
        if (!kept) return mlxr_sc_nomem(s);
        st = mlxr_sc_step(s, list->among.n * (1 + (other->among.has ? other->among.n : 0)));
        if (st != MLXR_OK) return st;
        for (size_t i = 0; i < list->among.n; i++)
            if (mlxr_sc_string_has(other, list->among.t[i].bytes, list->among.t[i].n))
                kept[n++] = list->among.t[i];
        *out = (mlxr_sc_string){.max = SIZE_MAX, .among = {kept, n, true}};
        *empty = n == 0;
        return MLXR_OK;
    }
    out->min = a->min > b->min ? a->min : b->min;
    out->max = a->max < b->max ? a->max : b->max;
    out->dfa = a->dfa ? a->dfa : b->dfa;
    if (a->dfa && b->dfa && a->dfa != b->dfa &&
        (st = mlxr_sc_op(&out->dfa, s, mlxr_dfa_intersect, a->dfa, b->dfa)) != MLXR_OK)
        return st;
    *empty = out->min > out->max || (out->dfa && mlxr_dfa_is_empty(out->dfa));
    return MLXR_OK;
}

/* Lowers what a FALSE part leaves; *empty when nothing is left. */
void mlxr_sc_tidy_array(mlxr_sc_array *a, bool *empty)
{
    for (size_t i = 0; i < a->n_prefix && i < a->max; i++)
        if (a->prefix[i] == MLXR_SC_FALSE) a->max = i;
    if (a->rest == MLXR_SC_FALSE && a->max > a->n_prefix) a->max = a->n_prefix;
    if (a->n_prefix > a->max) a->n_prefix = a->max;
    for (size_t i = 0; i < a->n_contains; i++) {
        const mlxr_sc_contains *c = &a->contains[i];
        size_t need;
        if (c->min && mlxr_add_size(&need, c->from, c->min) && need > a->min) a->min = need;
        if (c->min > c->max || (c->min && c->yes == MLXR_SC_FALSE)) *empty = true;
    }
    if (a->min > a->max) *empty = true;
}

static mlxr_status both_arrays(mlxr_sc_array *out, bool *empty, mlxr_sc *s, const mlxr_sc_array *a,
                               const mlxr_sc_array *b)
{
    size_t n = a->n_prefix > b->n_prefix ? a->n_prefix : b->n_prefix;
    mlxr_sc_formula *prefix = mlxr_arena_calloc(&s->arena, n + 1, sizeof *prefix);
    mlxr_sc_contains *contains = mlxr_arena_calloc(&s->arena, a->n_contains + b->n_contains + 1,
                                                   sizeof *contains);
    mlxr_status st;

    if (!prefix || !contains) return mlxr_sc_nomem(s);
    if ((st = mlxr_sc_step(s, n)) != MLXR_OK) return st;
    for (size_t i = 0; i < n; i++) {
        st = mlxr_sc_both(&prefix[i], s, i < a->n_prefix ? a->prefix[i] : a->rest,
                          i < b->n_prefix ? b->prefix[i] : b->rest);
        if (st != MLXR_OK) return st;
    }
    if ((st = mlxr_sc_both(&out->rest, s, a->rest, b->rest)) != MLXR_OK) return st;
    if (a->n_contains) memcpy(contains, a->contains, a->n_contains * sizeof *contains);
    out->n_contains = a->n_contains;
    for (size_t i = 0; i < b->n_contains; i++) {
        bool known = false;
        for (size_t j = 0; j < a->n_contains && !known; j++)
            known = memcmp(&contains[j], &b->contains[i], sizeof *contains) == 0;
        if (!known) contains[out->n_contains++] = b->contains[i];
    }
    out->prefix = prefix;
    out->n_prefix = n;
    out->contains = contains;
    out->min = a->min > b->min ? a->min : b->min;
    out->max = a->max < b->max ? a->max : b->max;
    out->unique = a->unique ? a->unique : b->unique;
    out->n_evaluated = a->n_evaluated > b->n_evaluated ? a->n_evaluated : b->n_evaluated;
    mlxr_sc_tidy_array(out, empty);
    return MLXR_OK;
}

mlxr_status mlxr_sc_member_formula(mlxr_sc_formula *out, mlxr_sc *s, const mlxr_sc_object *o,
                                   const mlxr_sc_member *m)
{
    mlxr_status st;

    *out = m->f;
    for (size_t i = 0; i < o->n_rules; i++)
        if (mlxr_sc_names_has(s, &o->rules[i].names, m->name) &&
            (st = mlxr_sc_both(out, s, *out, o->rules[i].f)) != MLXR_OK)
            return st;
    return mlxr_sc_step(s, o->n_rules);
}

/* Where the last object that was looked at has each name. */
static mlxr_status index_members(uint32_t **out, mlxr_sc *s, const mlxr_sc_object *o)
{
    uint32_t *at = mlxr_malloc_array(s->n_names, sizeof *at);

    *out = at;
    if (!at) return mlxr_sc_nomem(s);
    memset(at, 0xff, s->n_names * sizeof *at);
    for (size_t i = 0; i < o->n_members; i++) at[o->members[i].name] = (uint32_t)i;
    return mlxr_sc_step(s, 1 + s->n_names / 64 + o->n_members);
}

static mlxr_status join(const void **out, size_t *n, mlxr_sc *s, size_t size, const void *a, size_t n_a,
                        const void *b, size_t n_b)
{
    char *both;

    if (n_a == 0 || n_b == 0) {
        *out = n_a ? a : b;
        *n = n_a + n_b;
        return MLXR_OK;
    }
    if (!(both = mlxr_arena_calloc(&s->arena, n_a + n_b, size))) return mlxr_sc_nomem(s);
    memcpy(both, a, n_a * size);
    memcpy(both + n_a * size, b, n_b * size);
    *out = both;
    *n = n_a + n_b;
    return mlxr_sc_step(s, 1 + (n_a + n_b) / 16);
}

static bool same_names(const mlxr_sc_names *a, const mlxr_sc_names *b)
{
    return a->d == b->d && a->n_not_names == b->n_not_names && a->n_not_in == b->n_not_in &&
           (!a->n_not_names || !memcmp(a->not_names, b->not_names, a->n_not_names * sizeof *a->not_names)) &&
           (!a->n_not_in ||
            !memcmp((const void *)a->not_in, (const void *)b->not_in, a->n_not_in * sizeof *a->not_in));
}

/* Each condition once. */
static mlxr_status shorten_some(mlxr_sc_object *o, mlxr_sc *s)
{
    mlxr_sc_name_rule *kept;
    size_t n = 0;

    if (o->n_some < 2) return MLXR_OK;
    if (!(kept = mlxr_arena_calloc(&s->arena, o->n_some, sizeof *kept))) return mlxr_sc_nomem(s);
    for (size_t i = 0; i < o->n_some; i++) {
        bool known = false;
        for (size_t j = 0; j < n && !known; j++)
            known = kept[j].f == o->some[i].f && same_names(&kept[j].names, &o->some[i].names);
        if (!known) kept[n++] = o->some[i];
    }
    o->some = kept;
    o->n_some = n;
    return mlxr_sc_step(s, n);
}

static mlxr_status both_objects(mlxr_sc_object *out, bool *empty, mlxr_sc *s, const mlxr_sc_object *a,
                                const mlxr_sc_object *b)
{
    mlxr_sc_member *members = mlxr_arena_calloc(&s->arena, a->n_members + b->n_members + 1, sizeof *members);
    uint32_t *at = NULL;
    size_t n = a->n_members;
    const void *joined;
    mlxr_status st;

    if (!members) return mlxr_sc_nomem(s);
    if (n) memcpy(members, a->members, n * sizeof *members);
    if (b->n_members && (st = index_members(&at, s, a)) != MLXR_OK) goto done;
    for (size_t i = 0; i < b->n_members; i++) {
        const mlxr_sc_member *m = &b->members[i];
        mlxr_sc_member *known = at[m->name] == UINT32_MAX ? NULL : &members[at[m->name]];
        if (!known) {
            members[n++] = *m;
            continue;
        }
        if ((st = mlxr_sc_both(&known->f, s, known->f, m->f)) != MLXR_OK) goto done;
        known->required = known->required || m->required;
        known->declared = known->declared || m->declared;
    }
    out->members = members;
    out->n_members = n;
#define JOIN(list, count)                                                                              \
    if ((st = join(&joined, &out->count, s, sizeof *a->list, a->list, a->count, b->list, b->count)) != \
        MLXR_OK)                                                                                       \
        goto done;                                                                                     \
    out->list = joined
    JOIN(rules, n_rules);
    JOIN(some, n_some);
    JOIN(evaluated, n_evaluated);
    JOIN(evaluated_in, n_evaluated_in);
#undef JOIN
    if ((st = shorten_some(out, s)) != MLXR_OK) goto done;
    out->all_evaluated = a->all_evaluated || b->all_evaluated;
    out->min = a->min > b->min ? a->min : b->min;
    out->max = a->max < b->max ? a->max : b->max;
    /* Branches that a member tells apart end here. */
    for (size_t i = 0; i < n && !*empty; i++) {
        mlxr_sc_formula f;
        if (!members[i].required) continue;
        if ((st = mlxr_sc_member_formula(&f, s, out, &members[i])) != MLXR_OK) goto done;
        if (f == MLXR_SC_FALSE)
            *empty = true;
        else if (i >= a->n_members || f != a->members[i].f)
            if ((st = mlxr_sc_is_empty(empty, s, f, 1)) != MLXR_OK) goto done;
    }
    if (out->min > out->max) *empty = true;
    st = MLXR_OK;
done:
    free(at);
    return st;
}

static mlxr_status both_cases(const mlxr_sc_case **out, mlxr_sc *s, const mlxr_sc_case *a,
                              const mlxr_sc_case *b)
{
    mlxr_sc_case *c;
    bool empty = false;
    mlxr_status st;

    *out = NULL;
    if (a == b || b->free || a->free || a->type < MLXR_VALUE_NUMBER) {
        *out = a->free ? b : a;
        return MLXR_OK;
    }
    if ((st = mlxr_sc_new_case(&c, s, a->type, a->where)) != MLXR_OK) return st;
    switch (a->type) {
    case MLXR_VALUE_NUMBER: st = both_numbers(&c->number, &empty, s, &a->number, &b->number); break;
    case MLXR_VALUE_STRING: st = both_strings(&c->string, &empty, s, &a->string, &b->string); break;
    case MLXR_VALUE_ARRAY: st = both_arrays(&c->array, &empty, s, &a->array, &b->array); break;
    default: st = both_objects(&c->object, &empty, s, &a->object, &b->object); break;
    }
    if (st == MLXR_OK && !empty) *out = c;
    return st;
}

mlxr_status mlxr_sc_and(const mlxr_sc_norm **out, mlxr_sc *s, const mlxr_sc_norm *a, const mlxr_sc_norm *b)
{
    mlxr_sc_list l = {0};
    mlxr_status st;

    if (a == b || b == s->any || a == s->any) {
        *out = a == s->any ? b : a;
        return MLXR_OK;
    }
    for (size_t i = 0; i < a->n; i++) {
        for (size_t j = 0; j < b->n; j++) {
            const mlxr_sc_case *c;
            if ((st = mlxr_sc_step(s, 1)) != MLXR_OK) return st;
            if (a->cases[i]->type != b->cases[j]->type) continue;
            if ((st = both_cases(&c, s, a->cases[i], b->cases[j])) != MLXR_OK) return st;
            if (c && (st = mlxr_sc_add(s, &l, c)) != MLXR_OK) return st;
        }
    }
    return mlxr_sc_done(out, s, &l);
}

/* ---- is there any ---- */

mlxr_status mlxr_sc_case_is_empty(bool *out, mlxr_sc *s, const mlxr_sc_case *c, unsigned depth)
{
    mlxr_dfa *d;
    mlxr_status st;

    *out = false;
    if (c->free || c->type < MLXR_VALUE_NUMBER) return MLXR_OK;
    switch (c->type) {
    case MLXR_VALUE_NUMBER:
        if (c->number.among.has) {
            *out = c->number.among.n == 0;
        } else if (c->number.multiple_of.n || c->number.except.n || (c->number.min && c->number.max)) {
            if ((st = mlxr_sc_number_dfa(&d, s, &c->number)) != MLXR_OK)
                return mlxr_sc_at(s, c->where, NULL, st);
            *out = mlxr_dfa_is_empty(d);
        }
        return MLXR_OK;
    case MLXR_VALUE_STRING:
        if (c->string.among.has) {
            *out = c->string.among.n == 0;
        } else if (c->string.min > c->string.max) {
            *out = true;
        } else if (c->string.dfa && mlxr_dfa_is_empty(c->string.dfa)) {
            *out = true;
        } else if (c->string.dfa && (c->string.min || c->string.max != SIZE_MAX)) {
            if ((st = mlxr_sc_string_dfa(&d, s, &c->string)) != MLXR_OK)
                return mlxr_sc_at(s, c->where, NULL, st);
            *out = mlxr_dfa_is_empty(d);
        }
        return MLXR_OK;
    case MLXR_VALUE_ARRAY: {
        const mlxr_sc_array *a = &c->array;
        *out = a->min > a->max;
        for (size_t i = 0; i < a->min && i <= a->n_prefix && !*out; i++)
            if ((st = mlxr_sc_is_empty(out, s, i < a->n_prefix ? a->prefix[i] : a->rest, depth)) != MLXR_OK)
                return st;
        for (size_t i = 0; i < a->n_contains && !*out; i++)
            if (a->contains[i].min && (st = mlxr_sc_is_empty(out, s, a->contains[i].yes, depth)) != MLXR_OK)
                return st;
        return MLXR_OK;
    }
    default: {
        const mlxr_sc_object *o = &c->object;
        *out = o->min > o->max;
        for (size_t i = 0; i < o->n_members && !*out; i++) {
            mlxr_sc_formula f;
            if (!o->members[i].required) continue;
            if ((st = mlxr_sc_member_formula(&f, s, o, &o->members[i])) != MLXR_OK ||
                (st = mlxr_sc_is_empty(out, s, f, depth)) != MLXR_OK)
                return st;
        }
        for (size_t i = 0; i < o->n_some && !*out; i++)
            if ((st = mlxr_sc_is_empty(out, s, o->some[i].f, depth)) != MLXR_OK) return st;
        return MLXR_OK;
    }
    }
}

/* ---- values ---- */

static mlxr_status value_formula(mlxr_sc_formula *out, mlxr_sc *s, const mlxr_sc_node *parent,
                                 const mlxr_value *v, bool negated)
{
    const mlxr_sc_node *n;
    mlxr_status st = mlxr_sc_value_node(&n, s, v, parent);

    return st == MLXR_OK ? mlxr_sc_formula_of(out, s, n, negated) : st;
}

static mlxr_status array_value(mlxr_sc_array *a, mlxr_sc *s, const mlxr_sc_node *parent, const mlxr_value *v)
{
    mlxr_sc_formula *prefix = mlxr_arena_calloc(&s->arena, v->n + 1, sizeof *prefix);
    mlxr_status st;

    if (!prefix) return mlxr_sc_nomem(s);
    for (size_t i = 0; i < v->n; i++)
        if ((st = value_formula(&prefix[i], s, parent, v->items[i], false)) != MLXR_OK) return st;
    a->prefix = prefix;
    a->n_prefix = a->min = a->max = v->n;
    a->rest = MLXR_SC_FALSE;
    return MLXR_OK;
}

/* The names of an object's members, and "all others". */
static mlxr_status value_names(uint32_t **names, mlxr_sc_name_rule **others, mlxr_sc *s, const mlxr_value *v)
{
    mlxr_status st;

    *names = mlxr_arena_calloc(&s->arena, v->n + 1, sizeof **names);
    *others = mlxr_arena_calloc(&s->arena, 1, sizeof **others);
    if (!*names || !*others) return mlxr_sc_nomem(s);
    for (size_t i = 0; i < v->n; i++)
        if ((st = mlxr_sc_name(&(*names)[i], s, v->names[i].text, v->names[i].n_text)) != MLXR_OK) return st;
    (*others)->names.not_names = *names;
    (*others)->names.n_not_names = v->n;
    return MLXR_OK;
}

static mlxr_status object_value(mlxr_sc_object *o, mlxr_sc *s, const mlxr_sc_node *parent,
                                const mlxr_value *v)
{
    mlxr_sc_member *members = mlxr_arena_calloc(&s->arena, v->n + 1, sizeof *members);
    mlxr_sc_name_rule *others;
    uint32_t *names;
    mlxr_status st;

    if (!members) return mlxr_sc_nomem(s);
    if ((st = value_names(&names, &others, s, v)) != MLXR_OK) return st;
    for (size_t i = 0; i < v->n; i++) {
        members[i] = (mlxr_sc_member){.name = names[i], .required = true, .declared = true};
        if ((st = value_formula(&members[i].f, s, parent, v->items[i], false)) != MLXR_OK) return st;
    }
    others->f = MLXR_SC_FALSE;
    o->members = members;
    o->n_members = v->n;
    o->rules = others;
    o->n_rules = 1;
    return MLXR_OK;
}

static mlxr_status plain_of(const char **out, mlxr_sc *s, const mlxr_sc_node *parent, const mlxr_value *v)
{
    if (!(*out = v->plain))
        return mlxr_sc_fail(s, parent, NULL, MLXR_E_LIMIT, "a number of more than %d digits",
                            MLXR_VALUE_MAX_DIGITS);
    return MLXR_OK;
}

/* Scalars of one type together: a long enum is one case. */
static mlxr_status scalar_lists(mlxr_text **texts, size_t *n_texts, const char ***plains, size_t *n_plains,
                                mlxr_sc *s, const mlxr_sc_node *parent, const mlxr_value *const *values,
                                size_t n)
{
    mlxr_status st;

    *texts = mlxr_arena_calloc(&s->arena, n + 1, sizeof **texts);
    *plains = mlxr_arena_calloc(&s->arena, n + 1, sizeof **plains);
    *n_texts = *n_plains = 0;
    if (!*texts || !*plains) return mlxr_sc_nomem(s);
    for (size_t i = 0; i < n; i++) {
        if (values[i]->type == MLXR_VALUE_STRING)
            (*texts)[(*n_texts)++] = (mlxr_text){values[i]->text, values[i]->n_text};
        if (values[i]->type == MLXR_VALUE_NUMBER &&
            (st = plain_of(&(*plains)[(*n_plains)++], s, parent, values[i])) != MLXR_OK)
            return st;
    }
    return mlxr_sc_step(s, n);
}

mlxr_status mlxr_sc_values(mlxr_sc *s, mlxr_sc_list *out, const mlxr_sc_node *parent,
                           const mlxr_value *const *values, size_t n)
{
    mlxr_text *texts;
    const char **plains;
    size_t n_texts, n_plains;
    bool had_text = false, had_number = false;
    mlxr_status st;

    if ((st = scalar_lists(&texts, &n_texts, &plains, &n_plains, s, parent, values, n)) != MLXR_OK) return st;
    for (size_t i = 0; i < n; i++) {
        const mlxr_value *v = values[i];
        mlxr_sc_case *c;
        if ((v->type == MLXR_VALUE_STRING && had_text) || (v->type == MLXR_VALUE_NUMBER && had_number))
            continue;
        if (v->type < MLXR_VALUE_NUMBER) {
            if ((st = mlxr_sc_add(s, out, s->any->cases[v->type])) != MLXR_OK) return st;
            continue;
        }
        if ((st = mlxr_sc_new_case(&c, s, v->type, parent)) != MLXR_OK) return st;
        switch (v->type) {
        case MLXR_VALUE_NUMBER:
            c->number.among = (mlxr_sc_plains){plains, n_plains, true};
            had_number = true;
            break;
        case MLXR_VALUE_STRING:
            c->string.among = (mlxr_sc_texts){texts, n_texts, true};
            had_text = true;
            break;
        case MLXR_VALUE_ARRAY: st = array_value(&c->array, s, parent, v); break;
        default: st = object_value(&c->object, s, parent, v); break;
        }
        if (st != MLXR_OK || (st = mlxr_sc_add(s, out, c)) != MLXR_OK) return st;
    }
    return MLXR_OK;
}

/* Arrays that are not v: shorter, longer, or one item is another. */
static mlxr_status not_array(mlxr_sc *s, mlxr_sc_list *out, const mlxr_sc_node *parent, const mlxr_value *v)
{
    mlxr_sc_case *c;
    mlxr_status st;

    if (v->n) {
        if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_ARRAY, parent)) != MLXR_OK) return st;
        c->array.max = v->n - 1;
        if ((st = mlxr_sc_add(s, out, c)) != MLXR_OK) return st;
    }
    if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_ARRAY, parent)) != MLXR_OK) return st;
    c->array.min = v->n + 1;
    if ((st = mlxr_sc_add(s, out, c)) != MLXR_OK) return st;
    for (size_t i = 0; i < v->n; i++) {
        mlxr_sc_formula *prefix = mlxr_arena_calloc(&s->arena, i + 1, sizeof *prefix);
        if (!prefix) return mlxr_sc_nomem(s);
        if ((st = mlxr_sc_step(s, i)) != MLXR_OK) return st;
        if ((st = value_formula(&prefix[i], s, parent, v->items[i], true)) != MLXR_OK) return st;
        if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_ARRAY, parent)) != MLXR_OK) return st;
        c->array.prefix = prefix;
        c->array.n_prefix = c->array.min = i + 1;
        if ((st = mlxr_sc_add(s, out, c)) != MLXR_OK) return st;
    }
    return MLXR_OK;
}

/* Objects that are not v: a member is not there, is another, or there is one more. */
static mlxr_status not_object(mlxr_sc *s, mlxr_sc_list *out, const mlxr_sc_node *parent, const mlxr_value *v)
{
    mlxr_sc_name_rule *others;
    uint32_t *names;
    mlxr_sc_case *c;
    mlxr_status st;

    if ((st = value_names(&names, &others, s, v)) != MLXR_OK) return st;
    for (size_t i = 0; i < v->n; i++) {
        mlxr_sc_member *m = mlxr_arena_calloc(&s->arena, 1, sizeof *m);
        if (!m) return mlxr_sc_nomem(s);
        m->name = names[i]; /* optional: not there, or another */
        if ((st = value_formula(&m->f, s, parent, v->items[i], true)) != MLXR_OK) return st;
        if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_OBJECT, parent)) != MLXR_OK) return st;
        c->object.members = m;
        c->object.n_members = 1;
        if ((st = mlxr_sc_add(s, out, c)) != MLXR_OK) return st;
    }
    if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_OBJECT, parent)) != MLXR_OK) return st;
    c->object.some = others;
    c->object.n_some = 1;
    return mlxr_sc_add(s, out, c);
}

mlxr_status mlxr_sc_not_values(const mlxr_sc_norm **out, mlxr_sc *s, const mlxr_sc_node *parent,
                               const mlxr_value *const *values, size_t n)
{
    mlxr_text *texts;
    const char **plains;
    size_t n_texts, n_plains;
    mlxr_sc_list l = {0};
    mlxr_sc_case *c;
    mlxr_status st;

    if ((st = scalar_lists(&texts, &n_texts, &plains, &n_plains, s, parent, values, n)) != MLXR_OK) return st;
    for (int t = MLXR_VALUE_NULL; t <= MLXR_VALUE_OBJECT; t++) {
        bool out_of = false;
        for (size_t i = 0; i < n; i++) out_of = out_of || (int)values[i]->type == t;
        if (!out_of || t >= MLXR_VALUE_ARRAY) {
            if ((st = mlxr_sc_add(s, &l, s->any->cases[t])) != MLXR_OK) return st;
        } else if (t == MLXR_VALUE_NUMBER) {
            if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_NUMBER, parent)) != MLXR_OK) return st;
            c->number.except = (mlxr_sc_plains){plains, n_plains, false};
            if ((st = mlxr_sc_add(s, &l, c)) != MLXR_OK) return st;
        } else if (t == MLXR_VALUE_STRING) {
            mlxr_dfa *any, *these;
            if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_STRING, parent)) != MLXR_OK) return st;
            if ((st = mlxr_sc_any_text(&any, s)) != MLXR_OK) return st;
            if ((st = mlxr_dfa_literals(&these, texts, n_texts, s->err)) != MLXR_OK) return st;
            if ((st = mlxr_sc_own(s, these)) != MLXR_OK) return st;
            if ((st = mlxr_sc_op(&c->string.dfa, s, mlxr_dfa_minus, any, these)) != MLXR_OK) return st;
            if ((st = mlxr_sc_add(s, &l, c)) != MLXR_OK) return st;
        }
    }
    if ((st = mlxr_sc_done(out, s, &l)) != MLXR_OK) return st;
    for (size_t i = 0; i < n; i++) {
        mlxr_sc_list one = {0};
        const mlxr_sc_norm *norm = NULL;
        bool array = values[i]->type == MLXR_VALUE_ARRAY;
        if (!array && values[i]->type != MLXR_VALUE_OBJECT) continue;
        for (int t = MLXR_VALUE_NULL; t <= MLXR_VALUE_OBJECT; t++)
            if (t != (int)values[i]->type && (st = mlxr_sc_add(s, &one, s->any->cases[t])) != MLXR_OK)
                return st;
        st = array ? not_array(s, &one, parent, values[i]) : not_object(s, &one, parent, values[i]);
        if (st != MLXR_OK || (st = mlxr_sc_done(&norm, s, &one)) != MLXR_OK ||
            (st = mlxr_sc_and(out, s, *out, norm)) != MLXR_OK)
            return st;
    }
    return MLXR_OK;
}
