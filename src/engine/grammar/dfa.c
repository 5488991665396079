/* Automata over bytes: their canonical form, makers of the simple languages, and questions.
 *
 * Canonical: states by breadth first search from the start, bytes in rising order; classes by their first byte. So equal
 * languages have equal tables. */
#include <stdlib.h>

#include "engine/grammar/lang_build.h"

mlxr_lang_limits mlxr_lang_limits_default(void)
{
    return (mlxr_lang_limits){.max_states = 20000, .max_steps = 4000000};
}

/* The analyzer's macros of them. */
#undef lang_nomem
#undef lang_too_many_states
#undef lang_too_many_steps

lang_work lang_begin(const char *what, const mlxr_lang_limits *limits, mlxr_error *err)
{
    return (lang_work){
        .limits = limits ? *limits : mlxr_lang_limits_default(), .n_steps = 0, .what = what, .err = err};
}

mlxr_status lang_nomem(lang_work *w)
{
    return mlxr_fail_nomem(w->err, w->what);
}

mlxr_status lang_too_many_states(lang_work *w)
{
    return mlxr_fail(w->err, MLXR_E_LIMIT, "%s: needs an automaton of more than %zu states (max_states)",
                     w->what, w->limits.max_states);
}

mlxr_status lang_too_many_steps(lang_work *w)
{
    return mlxr_fail(w->err, MLXR_E_LIMIT, "%s: takes more than %zu steps to build (max_steps)", w->what,
                     w->limits.max_steps);
}

/* ---- small tools ---- */

bool lang_list_grow(lang_list *l, size_t n_more)
{
    size_t cap = l->cap ? l->cap * 2 : 64;
    uint32_t *v;
    if (cap < l->n + n_more) cap = l->n + n_more;
    v = mlxr_realloc_array(l->v, cap, sizeof *v);
    if (!v) return false;
    l->v = v;
    l->cap = cap;
    return true;
}

static int number_order(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

void lang_sort(uint32_t *v, size_t n)
{
    if (n > 24) {
        qsort(v, n, sizeof *v, number_order);
        return;
    }
    for (size_t i = 1; i < n; i++) {
        uint32_t x = v[i];
        size_t j = i;
        for (; j > 0 && v[j - 1] > x; j--) v[j] = v[j - 1];
        v[j] = x;
    }
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 31;
    x *= 0x9e3779b97f4a7c15u;
    x ^= x >> 29;
    x *= 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

uint32_t lang_pairs_get(lang_pairs *p, uint32_t a, uint32_t b, bool *is_new)
{
    uint64_t key = (uint64_t)a << 32 | b;
    size_t at;

    if (p->n * 2 >= p->n_slots) {
        size_t n_slots = p->n_slots ? p->n_slots * 4 : 64;
        uint32_t *slots = mlxr_malloc_array(n_slots, sizeof *slots);
        if (!slots) return LANG_NONE;
        memset(slots, 0xff, n_slots * sizeof *slots);
        for (size_t i = 0; i < p->n; i++) {
            for (at = mix(p->keys[i]) & (n_slots - 1); slots[at] != LANG_NONE;
                 at = (at + 1) & (n_slots - 1)) {
            }
            slots[at] = (uint32_t)i;
        }
        free(p->slots);
        p->slots = slots;
        p->n_slots = n_slots;
    }
    for (at = mix(key) & (p->n_slots - 1); p->slots[at] != LANG_NONE; at = (at + 1) & (p->n_slots - 1))
        if (p->keys[p->slots[at]] == key) {
            *is_new = false;
            return p->slots[at];
        }
    if (p->n == p->cap) {
        size_t cap = p->cap ? p->cap * 2 : 32;
        uint64_t *keys = mlxr_realloc_array(p->keys, cap, sizeof *keys);
        if (!keys) return LANG_NONE;
        p->keys = keys;
        p->cap = cap;
    }
    p->keys[p->n] = key;
    p->slots[at] = (uint32_t)p->n;
    *is_new = true;
    return (uint32_t)p->n++;
}

void lang_pairs_clear(lang_pairs *p)
{
    free(p->keys);
    free(p->slots);
    *p = (lang_pairs){0};
}

mlxr_status lang_raw_add(uint32_t *state, lang_raw *r, bool accepts, lang_work *w)
{
    mlxr_status st;
    if (r->n >= w->limits.max_states) return lang_too_many_states(w);
    if ((st = lang_steps(w, r->n_symbols)) != MLXR_OK) return st;
    if (r->n == r->cap) {
        uint32_t cap = r->cap ? r->cap * 2 : 32;
        uint32_t *next;
        uint8_t *acc;
        size_t n;
        if (!mlxr_mul_size(&n, cap, r->n_symbols)) return lang_nomem(w);
        if (!(next = mlxr_realloc_array(r->next, n, sizeof *next))) return lang_nomem(w);
        r->next = next;
        if (!(acc = mlxr_realloc_array(r->accepts, cap, 1))) return lang_nomem(w);
        r->accepts = acc;
        r->cap = cap;
    }
    memset(r->next + (size_t)r->n * r->n_symbols, 0xff, r->n_symbols * sizeof *r->next);
    r->accepts[r->n] = accepts;
    *state = r->n++;
    return MLXR_OK;
}

void lang_raw_clear(lang_raw *r)
{
    free(r->next);
    free(r->accepts);
    *r = (lang_raw){0};
}

/* ---- the object ---- */

mlxr_dfa *mlxr_dfa_ref(mlxr_dfa *d)
{
    if (d) __atomic_fetch_add(&d->n_refs, 1, __ATOMIC_RELAXED);
    return d;
}

void mlxr_dfa_unref(mlxr_dfa *d)
{
    if (d && __atomic_sub_fetch(&d->n_refs, 1, __ATOMIC_ACQ_REL) == 0) free(d);
}

/* One block: the struct, next, accepts. */
static mlxr_dfa *dfa_alloc(uint32_t n_states, uint32_t n_classes)
{
    size_t cells, bytes;
    mlxr_dfa *d;
    if (!mlxr_mul_size(&cells, n_states, n_classes) || !mlxr_mul_size(&bytes, cells, sizeof *d->next) ||
        !mlxr_add_size(&bytes, bytes, sizeof *d + n_states))
        return NULL;
    if (!(d = malloc(bytes))) return NULL;
    *d = (mlxr_dfa){.n_states = n_states, .n_classes = n_classes, .n_refs = 1};
    d->next = (uint32_t *)(d + 1);
    d->accepts = (uint8_t *)(d->next + cells);
    return d;
}

static void dfa_set_hash(mlxr_dfa *d)
{
    size_t cells = (size_t)d->n_states * d->n_classes;
    uint64_t h = mix(((uint64_t)d->n_states << 16) + d->n_classes);
    for (size_t at = 0; at < 256; at += 8) {
        uint64_t v;
        memcpy(&v, d->class_of + at, 8);
        h = mix(h ^ v);
    }
    size_t i = 0;
    for (; i + 4 <= cells; i += 4) { /* two products that do not wait for each other */
        uint64_t a = d->next[i] | (uint64_t)d->next[i + 1] << 32,
                 b = d->next[i + 2] | (uint64_t)d->next[i + 3] << 32;
        h = (h ^ a) * 0x9e3779b97f4a7c15u + (b ^ (b >> 29)) * 0xd6e8feb86659fd93u;
        h ^= h >> 32;
    }
    for (; i < cells; i++) h = (h ^ d->next[i]) * 0x9e3779b97f4a7c15u + (h >> 47);
    for (i = 0; i < d->n_states; i++) h = (h ^ d->accepts[i]) * 0xd6e8feb86659fd93u + (h >> 47);
    d->hash = mix(h);
}

static mlxr_status finish_empty(mlxr_dfa **out, lang_work *w)
{
    mlxr_dfa *d = dfa_alloc(0, 1);
    *out = NULL;
    if (!d) return lang_nomem(w);
    dfa_set_hash(d);
    *out = d;
    return MLXR_OK;
}

static bool columns_equal(const lang_raw *r, uint32_t a, uint32_t b)
{
    for (uint32_t s = 0; s < r->n; s++)
        if (r->next[(size_t)s * r->n_symbols + a] != r->next[(size_t)s * r->n_symbols + b]) return false;
    return true;
}

/* Symbols with one column get one group: group[symbol]. Symbols without edges: LANG_NO_SYMBOL. */
static bool merge_columns(uint16_t *group, const lang_raw *r)
{
    uint32_t k = r->n_symbols, n_slots = 1;
    uint64_t *hash = mlxr_malloc_array(k, sizeof *hash);
    uint16_t *slots;

    while (n_slots < 2 * k) n_slots *= 2;
    slots = mlxr_malloc_array(n_slots, sizeof *slots);
    if (!hash || !slots) {
        free(hash);
        free(slots);
        return false;
    }
    memset(slots, 0xff, n_slots * sizeof *slots);
    for (uint32_t c = 0; c < k; c++) hash[c] = 0;
    for (uint32_t s = 0; s < r->n; s++) {
        const uint32_t *row = r->next + (size_t)s * k;
        for (uint32_t c = 0; c < k; c++) /* + 1: a column of LANG_NONE alone has hash 0 */
            hash[c] = hash[c] * 0x9e3779b97f4a7c15u + (uint64_t)(uint32_t)(row[c] + 1) * 0xd6e8feb86659fd93u;
    }
    for (uint32_t c = 0; c < k; c++) {
        uint32_t at;
        if (hash[c] == 0) {
            bool any = false;
            for (uint32_t s = 0; s < r->n && !any; s++) any = r->next[(size_t)s * k + c] != LANG_NONE;
            if (!any) {
                group[c] = LANG_NO_SYMBOL;
                continue;
            }
        }
        for (at = (uint32_t)mix(hash[c]) & (n_slots - 1); slots[at] != LANG_NO_SYMBOL;
             at = (at + 1) & (n_slots - 1))
            if (hash[slots[at]] == hash[c] && columns_equal(r, slots[at], c)) break;
        if (slots[at] == LANG_NO_SYMBOL) slots[at] = (uint16_t)c;
        group[c] = slots[at];
    }
    free(hash);
    free(slots);
    return true;
}

mlxr_status lang_finish(mlxr_dfa **out, lang_raw *r, uint32_t start, const uint16_t symbol_of[256],
                        bool minimal, lang_work *w)
{
    mlxr_status st;
    mlxr_dfa *d = NULL;
    uint16_t *group = NULL, *class_of_group = NULL, symbol_of_class[256];
    uint32_t *number = NULL, *order, n_classes = 0, dead_class = LANG_NONE, n = 0;

    *out = NULL;
    if (start == LANG_NONE || r->n == 0) return finish_empty(out, w);
    if (!minimal && (st = lang_minimise(r, &start, 1, w)) != MLXR_OK) return st;
    if (start == LANG_NONE) return finish_empty(out, w);

    st = MLXR_E_NOMEM;
    if (!(group = mlxr_malloc_array(r->n_symbols + 1, 2 * sizeof *group))) goto done;
    class_of_group = group + r->n_symbols;
    if (!merge_columns(group, r)) goto done;
    memset(class_of_group, 0xff, r->n_symbols * sizeof *group);
    if (!(number = mlxr_malloc_array(r->n, 2 * sizeof *number))) goto done;
    order = number + r->n;

    uint8_t class_of[256];
    for (unsigned b = 0; b < 256; b++) {
        uint16_t g = symbol_of[b] == LANG_NO_SYMBOL ? LANG_NO_SYMBOL : group[symbol_of[b]];
        if (g == LANG_NO_SYMBOL) {
            if (dead_class == LANG_NONE) {
                dead_class = n_classes;
                symbol_of_class[n_classes++] = LANG_NO_SYMBOL;
            }
            class_of[b] = (uint8_t)dead_class;
        } else {
            if (class_of_group[g] == LANG_NO_SYMBOL) {
                class_of_group[g] = (uint16_t)n_classes;
                symbol_of_class[n_classes++] = g;
            }
            class_of[b] = (uint8_t)class_of_group[g];
        }
    }
    memset(number, 0xff, r->n * sizeof *number);
    number[start] = 0;
    order[n++] = start;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t *row = r->next + (size_t)order[i] * r->n_symbols;
        for (uint32_t c = 0; c < n_classes; c++) {
            uint32_t to = symbol_of_class[c] == LANG_NO_SYMBOL ? LANG_NONE : row[symbol_of_class[c]];
            if (to != LANG_NONE && number[to] == LANG_NONE) {
                number[to] = n;
                order[n++] = to;
            }
        }
    }
    if (!(d = dfa_alloc(n, n_classes))) goto done;
    memcpy(d->class_of, class_of, sizeof class_of);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t *row = r->next + (size_t)order[i] * r->n_symbols;
        uint32_t *to_row = d->next + (size_t)i * n_classes;
        d->accepts[i] = r->accepts[order[i]];
        for (uint32_t c = 0; c < n_classes; c++) {
            uint32_t to = symbol_of_class[c] == LANG_NO_SYMBOL ? LANG_NONE : row[symbol_of_class[c]];
            to_row[c] = to == LANG_NONE ? MLXR_DFA_NONE : number[to];
        }
    }
    dfa_set_hash(d);
    *out = d;
    st = MLXR_OK;
done:
    free(group);
    free(number);
    return st == MLXR_E_NOMEM ? lang_nomem(w) : st;
}

/* ---- makers ---- */

mlxr_status mlxr_dfa_empty(mlxr_dfa **out, mlxr_error *err)
{
    lang_work w = lang_begin("empty language", NULL, err);
    return finish_empty(out, &w);
}

/* A tree of texts; its nodes lie in the order of the texts, so what is below a node comes behind it. */
typedef struct tree_node {
    uint32_t first, last, sibling; /* LANG_NONE: none */
    uint32_t same;                 /* the node that stands for it: has the same texts below it */
    uint8_t byte, accepts;
} tree_node;

static int text_order(const void *a, const void *b)
{
    const mlxr_text *x = a, *y = b;
    size_t n = x->n < y->n ? x->n : y->n;
    int c = n ? memcmp(x->bytes, y->bytes, n) : 0;
    return c ? c : (x->n > y->n) - (x->n < y->n);
}

static uint32_t tree_add(tree_node *tree, uint32_t *n, uint32_t parent, uint8_t byte)
{
    tree[*n] = (tree_node){LANG_NONE, LANG_NONE, LANG_NONE, *n, byte, 0};
    if (parent != LANG_NONE) {
        if (tree[parent].first == LANG_NONE)
            tree[parent].first = *n;
        else
            tree[tree[parent].last].sibling = *n;
        tree[parent].last = *n;
    }
    return (*n)++;
}

static bool tree_same(const tree_node *tree, uint32_t a, uint32_t b)
{
    if (tree[a].accepts != tree[b].accepts) return false;
    for (a = tree[a].first, b = tree[b].first; a != LANG_NONE && b != LANG_NONE;
         a = tree[a].sibling, b = tree[b].sibling)
        if (tree[a].byte != tree[b].byte || tree[a].same != tree[b].same) return false;
    return a == b;
}

/* Sets `same` from the leaves up. */
static bool tree_merge(tree_node *tree, uint32_t n)
{
    size_t n_slots = 64;
    uint32_t *slots;
    while (n_slots < (size_t)2 * n) n_slots *= 2;
    if (!(slots = mlxr_malloc_array(n_slots, sizeof *slots))) return false;
    memset(slots, 0xff, n_slots * sizeof *slots);
    for (uint32_t i = n; i-- > 0;) {
        uint64_t h = tree[i].accepts;
        size_t at;
        for (uint32_t c = tree[i].first; c != LANG_NONE; c = tree[c].sibling)
            h = mix(h * 257 + tree[c].byte) + tree[c].same;
        for (at = mix(h) & (n_slots - 1); slots[at] != LANG_NONE && !tree_same(tree, slots[at], i);
             at = (at + 1) & (n_slots - 1)) {
        }
        if (slots[at] == LANG_NONE) slots[at] = i;
        tree[i].same = slots[at];
    }
    free(slots);
    return true;
}

static mlxr_status tree_finish(mlxr_dfa **out, tree_node *tree, uint32_t n, lang_work *w)
{
    mlxr_status st = MLXR_OK;
    uint16_t symbol_of[256];
    uint32_t n_symbols = 0, *state = mlxr_malloc_array(n, sizeof *state);
    lang_raw r = {0};

    if (!state) return lang_nomem(w);
    memset(symbol_of, 0xff, sizeof symbol_of);
    for (uint32_t i = 1; i < n; i++) symbol_of[tree[i].byte] = 0;
    for (unsigned b = 0; b < 256; b++)
        if (symbol_of[b] == 0) symbol_of[b] = (uint16_t)n_symbols++;
    r = lang_raw_init(n_symbols ? n_symbols : 1);
    for (uint32_t i = 0; i < n; i++)
        if (tree[i].same == i && (st = lang_raw_add(&state[i], &r, tree[i].accepts, w)) != MLXR_OK) goto done;
    for (uint32_t i = 0; i < n; i++) {
        if (tree[i].same != i) continue;
        for (uint32_t c = tree[i].first; c != LANG_NONE; c = tree[c].sibling)
            r.next[(size_t)state[i] * r.n_symbols + symbol_of[tree[c].byte]] = state[tree[c].same];
    }
    st = lang_finish(out, &r, state[tree[0].same], symbol_of, true, w);
done:
    lang_raw_clear(&r);
    free(state);
    return st;
}

mlxr_status mlxr_dfa_literal(mlxr_dfa **out, const void *bytes, size_t n, mlxr_error *err)
{
    mlxr_text t = {bytes, n};
    return mlxr_dfa_literals(out, &t, 1, err);
}

mlxr_status mlxr_dfa_literals(mlxr_dfa **out, const mlxr_text *texts, size_t n_texts, mlxr_error *err)
{
    enum { MAX_BYTES = 4 << 20 };
    lang_work w = lang_begin("texts", NULL, err);
    mlxr_status st = MLXR_E_NOMEM;
    mlxr_text *sorted = NULL;
    tree_node *tree = NULL;
    uint32_t *path = NULL, n = 0;
    size_t n_bytes = 0, longest = 0;

    *out = NULL;
    if (n_texts == 0) return finish_empty(out, &w);
    for (size_t i = 0; i < n_texts; i++) {
        if (!mlxr_add_size(&n_bytes, n_bytes, texts[i].n) || n_bytes > MAX_BYTES)
            return mlxr_fail(err, MLXR_E_LIMIT, "texts: more than %d bytes in one language", MAX_BYTES);
        if (texts[i].n > longest) longest = texts[i].n;
    }
    tree = mlxr_malloc_array(n_bytes + 1, sizeof *tree);
    path = mlxr_malloc_array(longest + 1, sizeof *path); /* of the last text, by length */
    sorted = mlxr_malloc_array(n_texts, sizeof *sorted);
    if (!tree || !path || !sorted) goto done;
    memcpy(sorted, texts, n_texts * sizeof *sorted);
    if (n_texts > 1) qsort(sorted, n_texts, sizeof *sorted, text_order);
    path[0] = tree_add(tree, &n, LANG_NONE, 0);
    for (size_t i = 0; i < n_texts; i++) {
        const mlxr_text *t = &sorted[i];
        size_t at = 0;
        if (i > 0)
            while (at < t->n && at < sorted[i - 1].n && t->bytes[at] == sorted[i - 1].bytes[at]) at++;
        for (; at < t->n; at++) path[at + 1] = tree_add(tree, &n, path[at], (uint8_t)t->bytes[at]);
        tree[path[t->n]].accepts = 1;
    }
    if (n_texts > 1 && !tree_merge(tree, n)) goto done;
    st = tree_finish(out, tree, n, &w);
done:
    free(sorted);
    free(path);
    free(tree);
    return st == MLXR_E_NOMEM ? lang_nomem(&w) : st;
}

/* Characters of UTF-8 as edges from one state to another: the states between are shared by all characters. Symbols:
 * the ranges of bytes that well-formed UTF-8 tells apart (Unicode 15, table 3-7). */
enum { U_ASCII, U_80, U_90, U_A0, U_C2, U_E0, U_E1, U_ED, U_F0, U_F1, U_F4, U_COUNT };

static void utf8_symbols(uint16_t symbol_of[256])
{
    for (unsigned b = 0; b < 256; b++)
        symbol_of[b] = b < 0x80    ? U_ASCII
                       : b < 0x90  ? U_80
                       : b < 0xa0  ? U_90
                       : b < 0xc0  ? U_A0
                       : b < 0xc2  ? LANG_NO_SYMBOL
                       : b < 0xe0  ? U_C2
                       : b == 0xe0 ? U_E0
                       : b == 0xed ? U_ED
                       : b < 0xf0  ? U_E1
                       : b == 0xf0 ? U_F0
                       : b < 0xf4  ? U_F1
                       : b == 0xf4 ? U_F4
                                   : LANG_NO_SYMBOL;
}

/* The states between: one, two, three more bytes to `to`; behind E0, ED, F0, F4. */
static mlxr_status utf8_tails(uint32_t tail[7], lang_raw *r, uint32_t to, lang_work *w)
{
    mlxr_status st;
    for (int i = 0; i < 7; i++)
        if ((st = lang_raw_add(&tail[i], r, false, w)) != MLXR_OK) return st;
#define EDGE(a, symbol, b) r->next[(size_t)(a)*U_COUNT + (symbol)] = (b)
    for (int c = U_80; c <= U_A0; c++) {
        EDGE(tail[0], c, to);
        EDGE(tail[1], c, tail[0]);
        EDGE(tail[2], c, tail[1]);
    }
    EDGE(tail[3], U_A0, tail[0]);
    EDGE(tail[4], U_80, tail[0]);
    EDGE(tail[4], U_90, tail[0]);
    EDGE(tail[5], U_90, tail[1]);
    EDGE(tail[5], U_A0, tail[1]);
    EDGE(tail[6], U_80, tail[1]);
    return MLXR_OK;
}

static void utf8_leads(lang_raw *r, uint32_t from, const uint32_t tail[7], uint32_t to)
{
    EDGE(from, U_ASCII, to);
    EDGE(from, U_C2, tail[0]);
    EDGE(from, U_E0, tail[3]);
    EDGE(from, U_E1, tail[1]);
    EDGE(from, U_ED, tail[4]);
    EDGE(from, U_F0, tail[5]);
    EDGE(from, U_F1, tail[2]);
    EDGE(from, U_F4, tail[6]);
#undef EDGE
}

mlxr_status mlxr_dfa_length(mlxr_dfa **out, size_t min, size_t max, const mlxr_lang_limits *limits,
                            mlxr_error *err)
{
    lang_work w = lang_begin("length", limits, err);
    lang_raw r = lang_raw_init(U_COUNT);
    uint16_t symbol_of[256];
    mlxr_status st;
    uint32_t at, to, tail[7];
    size_t n = max == SIZE_MAX ? min : max; /* characters that are counted */

    *out = NULL;
    if (min > max) return finish_empty(out, &w);
    if (n > w.limits.max_states) return lang_too_many_states(&w);
    if ((st = lang_raw_add(&at, &r, min == 0, &w)) != MLXR_OK) goto done;
    if (n == 0 && max == SIZE_MAX && (st = utf8_tails(tail, &r, at, &w)) != MLXR_OK) goto done;
    for (size_t i = 0; i < n; i++) {
        if ((st = lang_raw_add(&to, &r, i + 1 >= min, &w)) != MLXR_OK) goto done;
        if ((st = utf8_tails(tail, &r, to, &w)) != MLXR_OK) goto done;
        utf8_leads(&r, at, tail, to);
        at = to;
    }
    if (max == SIZE_MAX) utf8_leads(&r, at, tail, at);
    utf8_symbols(symbol_of);
    st = lang_finish(out, &r, 0, symbol_of, true, &w); /* no two states have one language */
done:
    lang_raw_clear(&r);
    return st;
}

mlxr_status mlxr_dfa_any(mlxr_dfa **out, mlxr_error *err)
{
    return mlxr_dfa_length(out, 0, SIZE_MAX, NULL, err);
}

/* ---- questions ---- */

bool mlxr_dfa_has(const mlxr_dfa *d, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    uint32_t s = 0;
    if (d->n_states == 0) return false;
    for (size_t i = 0; i < n; i++)
        if ((s = mlxr_dfa_step(d, s, p[i])) == MLXR_DFA_NONE) return false;
    return d->accepts[s];
}

bool mlxr_dfa_equal(const mlxr_dfa *a, const mlxr_dfa *b)
{
    return a == b || (a->hash == b->hash && a->n_states == b->n_states && a->n_classes == b->n_classes &&
                      memcmp(a->class_of, b->class_of, sizeof a->class_of) == 0 &&
                      memcmp(a->accepts, b->accepts, a->n_states) == 0 &&
                      memcmp(a->next, b->next, (size_t)a->n_states * a->n_classes * sizeof *a->next) == 0);
}

static uint64_t add_sat(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* Bytes of one class. */
static void class_sizes(uint32_t size[256], const mlxr_dfa *d)
{
    memset(size, 0, 256 * sizeof *size);
    for (unsigned b = 0; b < 256; b++) size[d->class_of[b]]++;
}

/* Depth first: a state is done when all it leads to is. One from which a circle can be reached has no end of texts, since each
 * state leads to one. */
static bool count_all(uint64_t *counts, const mlxr_dfa *d)
{
    enum { UNSEEN = 0 }; /* no count is 0 */
    uint32_t size[256], n = 0;
    struct frame {
        uint32_t state, i_class;
        uint64_t sum;
    } *stack = mlxr_malloc_array(d->n_states, sizeof *stack);
    uint8_t *open = mlxr_calloc_array(d->n_states, 1);
    bool ok = stack && open;

    if (!ok) goto done;
    class_sizes(size, d);
    for (uint32_t s = 0; s < d->n_states; s++) counts[s] = UNSEEN;
    if (d->n_states) {
        stack[n++] = (struct frame){0, 0, d->accepts[0]};
        open[0] = 1;
    }
    while (n) {
        struct frame *f = &stack[n - 1];
        const uint32_t *row = d->next + (size_t)f->state * d->n_classes;
        for (; f->i_class < d->n_classes; f->i_class++) {
            uint32_t to = row[f->i_class];
            if (to == MLXR_DFA_NONE) continue;
            if (open[to]) {
                f->sum = UINT64_MAX;
            } else if (counts[to] == UNSEEN) {
                break;
            } else {
                uint64_t product;
                if (__builtin_mul_overflow(counts[to], size[f->i_class], &product)) product = UINT64_MAX;
                f->sum = add_sat(f->sum, product);
            }
        }
        if (f->i_class < d->n_classes) {
            uint32_t to = row[f->i_class];
            open[to] = 1;
            stack[n++] = (struct frame){to, 0, d->accepts[to]};
        } else {
            counts[f->state] = f->sum;
            open[f->state] = 0;
            n--;
        }
    }
done:
    free(stack);
    free(open);
    return ok;
}

void mlxr_dfa_counts(uint64_t *counts, const mlxr_dfa *d)
{
    if (count_all(counts, d)) return;
    for (uint32_t s = 0; s < d->n_states; s++) counts[s] = UINT64_MAX;
}

/* false: out of memory. */
static bool count_texts(uint64_t *count, const mlxr_dfa *d)
{
    uint64_t *counts = mlxr_malloc_array(d->n_states, sizeof *counts);
    bool ok = counts && count_all(counts, d);
    if (ok) *count = d->n_states ? counts[0] : 0;
    free(counts);
    return ok;
}

uint64_t mlxr_dfa_count(const mlxr_dfa *d)
{
    uint64_t count;
    return count_texts(&count, d) ? count : UINT64_MAX;
}

mlxr_status mlxr_dfa_each(const mlxr_dfa *d, size_t max_texts,
                          bool (*fn)(const char *text, size_t n, void *ud), void *ud, mlxr_error *err)
{
    uint64_t count;
    struct frame {
        uint32_t state, byte;
    } * stack;
    char *text;
    size_t n = 0; /* of the text, too */

    if (!count_texts(&count, d)) return mlxr_fail_nomem(err, "texts of a language");
    if (count > max_texts)
        return count == UINT64_MAX ? mlxr_fail(err, MLXR_E_LIMIT,
                                               "language: its texts are not to be listed: there are too many")
                                   : mlxr_fail(err, MLXR_E_LIMIT, "language: has %llu texts, more than %zu",
                                               (unsigned long long)count, max_texts);
    if (d->n_states == 0) return MLXR_OK;
    stack = mlxr_malloc_array(d->n_states, sizeof *stack); /* no text is longer: there is no circle */
    text = mlxr_malloc_array(d->n_states, 1);
    if (!stack || !text) {
        free(stack);
        free(text);
        return mlxr_fail_nomem(err, "texts of a language");
    }
    stack[0] = (struct frame){0, 0};
    if (d->accepts[0] && !fn(text, 0, ud)) goto done;
    for (;;) {
        struct frame *f = &stack[n];
        uint32_t to = MLXR_DFA_NONE;
        while (f->byte < 256 && (to = mlxr_dfa_step(d, f->state, (uint8_t)f->byte)) == MLXR_DFA_NONE)
            f->byte++;
        if (f->byte == 256) {
            if (n-- == 0) break;
            continue;
        }
        text[n++] = (char)f->byte++;
        stack[n] = (struct frame){to, 0};
        if (d->accepts[to] && !fn(text, n, ud)) break;
    }
done:
    free(stack);
    free(text);
    return MLXR_OK;
}
