/* schema_lang: what is regular of a schema: strings, names of members and numbers, as automata that the maker owns. */
#include <stdlib.h>

#include "engine/grammar/schema_parts.h"

mlxr_status mlxr_sc_own(mlxr_sc *s, mlxr_dfa *d)
{
    if (s->n_dfas == s->cap_dfas) {
        size_t cap = s->cap_dfas ? s->cap_dfas * 2 : 32;
        mlxr_dfa **more = mlxr_realloc_array(s->dfas, cap, sizeof(mlxr_dfa *));
        if (!more) {
            mlxr_dfa_unref(d);
            return mlxr_sc_nomem(s);
        }
        s->dfas = more;
        s->cap_dfas = cap;
    }
    s->dfas[s->n_dfas++] = d;
    return MLXR_OK;
}

mlxr_status mlxr_sc_op(mlxr_dfa **out, mlxr_sc *s, mlxr_sc_dfa_op op, const mlxr_dfa *a, const mlxr_dfa *b)
{
    mlxr_status st = mlxr_sc_step(s, 1 + a->n_states + b->n_states);

    if (st == MLXR_OK) st = op(out, a, b, s->limits, s->err);
    return st == MLXR_OK ? mlxr_sc_own(s, *out) : st;
}

mlxr_status mlxr_sc_any_text(mlxr_dfa **out, mlxr_sc *s)
{
    mlxr_status st;

    if (!s->any_text) {
        if ((st = mlxr_dfa_any(&s->any_text, s->err)) != MLXR_OK) return st;
        if ((st = mlxr_sc_own(s, s->any_text)) != MLXR_OK) {
            s->any_text = NULL;
            return st;
        }
    }
    *out = s->any_text;
    return MLXR_OK;
}

static mlxr_status literals(mlxr_dfa **out, mlxr_sc *s, const mlxr_text *t, size_t n)
{
    mlxr_status st = mlxr_dfa_literals(out, t, n, s->err);

    return st == MLXR_OK ? mlxr_sc_own(s, *out) : st;
}

/* ---- languages that are made once ---- */

static mlxr_status find_language(mlxr_dfa **out, mlxr_sc *s, char kind, const void *bytes, size_t n,
                                 const char **key)
{
    char *k = mlxr_arena_alloc(&s->arena, n + 1);
    size_t at;

    *out = NULL;
    *key = k;
    if (!k) return mlxr_sc_nomem(s);
    k[0] = kind;
    memcpy(k + 1, bytes, n);
    at = mlxr_strtab_get(&s->languages, k, n + 1);
    if (at != SIZE_MAX) *out = s->dfas[at];
    return MLXR_OK;
}

static mlxr_status keep_language(mlxr_sc *s, const char *key, size_t n, mlxr_dfa *d)
{
    mlxr_status st = mlxr_sc_own(s, d);

    if (st == MLXR_OK && !mlxr_strtab_put(&s->languages, key, n + 1, s->n_dfas - 1, NULL))
        return mlxr_sc_nomem(s);
    return st;
}

mlxr_status mlxr_sc_pattern(mlxr_dfa **out, mlxr_sc *s, const char *pattern, size_t n)
{
    const char *key;
    mlxr_status st = find_language(out, s, 'p', pattern, n, &key);

    if (st != MLXR_OK || *out) return st;
    st = mlxr_dfa_regex(out, pattern, n, false, s->limits, s->err);
    return st == MLXR_OK ? keep_language(s, key, n, *out) : st;
}

mlxr_status mlxr_sc_format(mlxr_dfa **out, mlxr_sc *s, const char *format)
{
    const char *key;
    size_t n = strlen(format);
    mlxr_status st = find_language(out, s, 'f', format, n, &key);

    if (st != MLXR_OK || *out) return st;
    st = mlxr_dfa_format(out, format, s->limits, s->err);
    return st == MLXR_OK ? keep_language(s, key, n, *out) : st;
}

/* Those of d without the text to avoid. */
static mlxr_status without_avoided(mlxr_dfa **out, mlxr_sc *s, const mlxr_dfa *d)
{
    mlxr_text mark = {s->avoid, strlen(s->avoid)};
    mlxr_dfa *any, *marked;
    mlxr_status st;

    if ((st = mlxr_sc_any_text(&any, s)) != MLXR_OK || (st = literals(&marked, s, &mark, 1)) != MLXR_OK ||
        (st = mlxr_sc_op(&marked, s, mlxr_dfa_concat, any, marked)) != MLXR_OK ||
        (st = mlxr_sc_op(&marked, s, mlxr_dfa_concat, marked, any)) != MLXR_OK)
        return st;
    return mlxr_sc_op(out, s, mlxr_dfa_minus, d, marked);
}

mlxr_status mlxr_sc_json_text(mlxr_dfa **out, mlxr_sc *s, mlxr_dfa *d)
{
    const char *key;
    mlxr_dfa *bare = d;
    mlxr_status st = find_language(out, s, 'j', &d, sizeof d, &key);

    if (st != MLXR_OK || *out) return st;
    if ((st = mlxr_sc_step(s, 1 + d->n_states)) != MLXR_OK) return st;
    if (s->avoid && (st = without_avoided(&bare, s, d)) != MLXR_OK) return st;
    if (s->notation == MLXR_SC_BRACED)
        *out = mlxr_dfa_ref(bare);
    else
        st = mlxr_dfa_json_string(out, bare, s->limits, s->err);
    return st == MLXR_OK ? keep_language(s, key, sizeof d, *out) : st;
}

/* ---- strings ---- */

static size_t n_chars(const char *text, size_t n)
{
    size_t chars = 0;

    for (size_t i = 0; i < n; i++) chars += ((unsigned char)text[i] & 0xc0) != 0x80;
    return chars;
}

bool mlxr_sc_string_has(const mlxr_sc_string *c, const char *text, size_t n)
{
    size_t chars = n_chars(text, n);

    if (chars < c->min || chars > c->max) return false;
    if (c->dfa && !mlxr_dfa_has(c->dfa, text, n)) return false;
    if (!c->among.has) return true;
    for (size_t i = 0; i < c->among.n; i++)
        if (c->among.t[i].n == n && memcmp(c->among.t[i].bytes, text, n) == 0) return true;
    return false;
}

/* How many characters the texts of d have at most; SIZE_MAX: there is no longest one, or it is not found out. */
static mlxr_status longest(size_t *out, mlxr_sc *s, const mlxr_dfa *d)
{
    size_t *n_in = mlxr_calloc_array(d->n_states, sizeof *n_in),
           *most = mlxr_calloc_array(d->n_states, sizeof *most);
    uint32_t *order = mlxr_malloc_array(d->n_states, sizeof *order);
    uint8_t first[256] = {0}; /* of each class: whether its bytes begin a character */
    size_t head = 0, n = 0;
    mlxr_status st = MLXR_OK;

    *out = SIZE_MAX;
    if (!n_in || !most || !order) {
        st = mlxr_sc_nomem(s);
        goto done;
    }
    for (int c = 0; c < 256; c++)
        if ((c & 0xc0) != 0x80) first[d->class_of[c]] = 1;
    for (size_t i = 0; i < (size_t)d->n_states * d->n_classes; i++)
        if (d->next[i] != MLXR_DFA_NONE) n_in[d->next[i]]++;
    if (!n_in[0]) order[n++] = 0; /* all other states are reached from the first */
    while (head < n) {
        uint32_t at = order[head++];
        for (uint32_t c = 0; c < d->n_classes; c++) {
            uint32_t to = d->next[(size_t)at * d->n_classes + c];
            if (to == MLXR_DFA_NONE) continue;
            if (most[at] + first[c] > most[to]) most[to] = most[at] + first[c];
            if (--n_in[to] == 0) order[n++] = to;
        }
    }
    if (n < d->n_states) goto done; /* a circle */
    *out = 0;
    for (size_t i = 0; i < d->n_states; i++)
        if (d->accepts[i] && most[i] > *out) *out = most[i];
done:
    free(n_in);
    free(most);
    free(order);
    return st;
}

mlxr_status mlxr_sc_string_dfa(mlxr_dfa **out, mlxr_sc *s, const mlxr_sc_string *c)
{
    mlxr_dfa *length;
    size_t max = c->max;
    mlxr_status st;

    if (c->among.has) return literals(out, s, c->among.t, c->among.n);
    if (c->dfa && c->max != SIZE_MAX) { /* a bound that the language has by itself costs nothing */
        size_t most;
        if ((st = longest(&most, s, c->dfa)) != MLXR_OK) return st;
        if (most <= c->max) max = SIZE_MAX;
    }
    if (c->min == 0 && max == SIZE_MAX) {
        if (!c->dfa) return mlxr_sc_any_text(out, s);
        *out = c->dfa;
        return MLXR_OK;
    }
    if ((st = mlxr_dfa_length(&length, c->min, max, s->limits, s->err)) != MLXR_OK) return st;
    if ((st = mlxr_sc_own(s, length)) != MLXR_OK) return st;
    *out = length;
    return c->dfa ? mlxr_sc_op(out, s, mlxr_dfa_intersect, c->dfa, length) : MLXR_OK;
}

mlxr_status mlxr_sc_strings_of(mlxr_dfa **out, mlxr_sc *s, const mlxr_sc_norm *n)
{
    mlxr_dfa *sum = NULL, *one = NULL;
    mlxr_status st = MLXR_OK;

    for (size_t i = 0; i < n->n && st == MLXR_OK; i++) {
        const mlxr_sc_case *c = n->cases[i];
        if (c->type != MLXR_VALUE_STRING) continue;
        st = c->free ? mlxr_sc_any_text(&one, s) : mlxr_sc_string_dfa(&one, s, &c->string);
        if (st == MLXR_OK && sum)
            st = mlxr_sc_op(&sum, s, mlxr_dfa_union, sum, one);
        else
            sum = one;
    }
    if (st == MLXR_OK && !sum) {
        if ((st = mlxr_dfa_empty(&sum, s->err)) == MLXR_OK) st = mlxr_sc_own(s, sum);
    }
    *out = sum;
    return st;
}

/* ---- names ---- */

bool mlxr_sc_names_has(const mlxr_sc *s, const mlxr_sc_names *names, uint32_t name)
{
    const mlxr_text *t = &s->names[name];

    if (names->d) return mlxr_dfa_has(names->d, t->bytes, t->n);
    for (size_t i = 0; i < names->n_not_names; i++)
        if (names->not_names[i] == name) return false;
    for (size_t i = 0; i < names->n_not_in; i++)
        if (mlxr_dfa_has(names->not_in[i], t->bytes, t->n)) return false;
    return true;
}

mlxr_status mlxr_sc_names_dfa(mlxr_dfa **out, mlxr_sc *s, const mlxr_sc_names *names)
{
    mlxr_text *t;
    mlxr_dfa *d, *less;
    mlxr_status st;

    if (names->d) {
        *out = names->d;
        return MLXR_OK;
    }
    if ((st = mlxr_sc_any_text(&d, s)) != MLXR_OK) return st;
    if (names->n_not_names) {
        if (!(t = mlxr_malloc_array(names->n_not_names, sizeof *t))) return mlxr_sc_nomem(s);
        for (size_t i = 0; i < names->n_not_names; i++) t[i] = s->names[names->not_names[i]];
        st = literals(&less, s, t, names->n_not_names);
        free(t);
        if (st == MLXR_OK) st = mlxr_sc_op(&d, s, mlxr_dfa_minus, d, less);
    }
    for (size_t i = 0; i < names->n_not_in && st == MLXR_OK; i++)
        st = mlxr_sc_op(&d, s, mlxr_dfa_minus, d, names->not_in[i]);
    *out = d;
    return st;
}

/* ---- numbers ---- */

static void as_set(mlxr_number_set *out, const mlxr_sc_number *c)
{
    *out = (mlxr_number_set){.min = c->min,
                             .max = c->max,
                             .min_exclusive = c->min_exclusive,
                             .max_exclusive = c->max_exclusive,
                             .integer = c->integer,
                             .fraction = c->fraction,
                             .multiple_of = c->multiple_of.t,
                             .n_multiple_of = c->multiple_of.n,
                             .not_multiple_of = c->not_multiple_of.t,
                             .n_not_multiple_of = c->not_multiple_of.n,
                             .except = c->except.t,
                             .n_except = c->except.n};
}

static mlxr_status machine_numbers(mlxr_dfa **d, mlxr_sc *s)
{
    static const char held[] = "-?(0|[1-9][0-9]{0,17})(\\.[0-9]{1,20})?([eE][-+]?[0-9]{1,2})?";
    mlxr_status st = MLXR_OK;

    if (!s->machine_number) {
        st = mlxr_dfa_regex(&s->machine_number, held, sizeof held - 1, true, s->limits, s->err);
        if (st == MLXR_OK && (st = mlxr_sc_own(s, s->machine_number)) != MLXR_OK) s->machine_number = NULL;
    }
    return st == MLXR_OK ? mlxr_sc_op(d, s, mlxr_dfa_intersect, *d, s->machine_number) : st;
}

mlxr_status mlxr_sc_number_dfa(mlxr_dfa **out, mlxr_sc *s, const mlxr_sc_number *c)
{
    mlxr_number_set set;
    mlxr_status st;

    if (c->among.has) {
        mlxr_text *t = mlxr_malloc_array(c->among.n, sizeof *t);
        if (!t) return mlxr_sc_nomem(s);
        for (size_t i = 0; i < c->among.n; i++) t[i] = (mlxr_text){c->among.t[i], strlen(c->among.t[i])};
        st = literals(out, s, t, c->among.n);
        free(t);
        return st;
    }
    as_set(&set, c);
    st = mlxr_sc_step(s, 1 + set.n_multiple_of + set.n_not_multiple_of + set.n_except);
    if (st == MLXR_OK) st = mlxr_dfa_number(out, &set, s->limits, s->err);
    if (st == MLXR_OK) st = mlxr_sc_own(s, *out);
    return st == MLXR_OK && s->options.machine_numbers ? machine_numbers(out, s) : st;
}

/* The conditions that need no automaton. */
static bool in_bounds(const mlxr_sc_number *c, const char *v)
{
    bool whole = !strchr(v, '.');
    int o;

    if ((c->integer && !whole) || (c->fraction && whole)) return false;
    if (c->min && ((o = mlxr_number_compare(v, c->min)) < 0 || (o == 0 && c->min_exclusive))) return false;
    if (c->max && ((o = mlxr_number_compare(v, c->max)) > 0 || (o == 0 && c->max_exclusive))) return false;
    for (size_t i = 0; i < c->except.n; i++)
        if (strcmp(c->except.t[i], v) == 0) return false;
    if (!c->among.has) return true;
    for (size_t i = 0; i < c->among.n; i++)
        if (strcmp(c->among.t[i], v) == 0) return true;
    return false;
}

mlxr_status mlxr_sc_number_keep(mlxr_sc_plains *out, mlxr_sc *s, const mlxr_sc_number *c,
                                const mlxr_sc_plains *among)
{
    const char **kept = mlxr_arena_calloc(&s->arena, among->n + 1, sizeof *kept);
    mlxr_dfa *multiples = NULL;
    size_t n = 0;
    mlxr_status st;

    if (!kept) return mlxr_sc_nomem(s);
    if ((st = mlxr_sc_step(s, 1 + among->n * (1 + c->except.n + (c->among.has ? c->among.n : 0)))) != MLXR_OK)
        return st;
    if (c->multiple_of.n || c->not_multiple_of.n) {
        mlxr_sc_number only = {.multiple_of = c->multiple_of, .not_multiple_of = c->not_multiple_of};
        if ((st = mlxr_sc_number_dfa(&multiples, s, &only)) != MLXR_OK) return st;
    }
    for (size_t i = 0; i < among->n; i++) {
        const char *v = among->t[i];
        if (in_bounds(c, v) && (!multiples || mlxr_dfa_has(multiples, v, strlen(v)))) kept[n++] = v;
    }
    *out = (mlxr_sc_plains){kept, n, true};
    return MLXR_OK;
}
