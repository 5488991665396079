/* Minimising: trims an automaton to the states that are reached and lead to a text, then merges those with one language.
 *
 * The merging is Valmari and Lehtinen's (Efficient minimization of DFAs with partial transition functions, 2008): blocks of
 * states and bundles of edges are refined by each other until neither splits, in O(edges * log edges), with no dead state. */
#include <stdlib.h>

#include "engine/grammar/lang_build.h"

/* A partition of 0..n-1 that is only ever refined. */
typedef struct partition {
    uint32_t n_sets, n_touched;
    uint32_t *elem;        /* [n] the elements, set by set */
    uint32_t *at;          /* [n] where an element stands in elem */
    uint32_t *set;         /* [n] its set */
    uint32_t *first, *end; /* [n] of a set in elem */
    uint32_t *n_marked;    /* [n] of a set: its marked elements come first */
    uint32_t *touched;     /* [n] sets with marked elements */
} partition;

enum { PARTITION_ARRAYS = 7 };

static uint32_t *partition_init(partition *p, uint32_t *block, uint32_t n)
{
    *p = (partition){.elem = block,
                     .at = block + n,
                     .set = block + (size_t)2 * n,
                     .first = block + (size_t)3 * n,
                     .end = block + (size_t)4 * n,
                     .n_marked = block + (size_t)5 * n,
                     .touched = block + (size_t)6 * n};
    for (uint32_t i = 0; i < n; i++) {
        p->elem[i] = p->at[i] = i;
        p->set[i] = 0;
        p->n_marked[i] = 0;
    }
    if (n) {
        p->n_sets = 1;
        p->first[0] = 0;
        p->end[0] = n;
    }
    return block + (size_t)PARTITION_ARRAYS * n;
}

static void mark(partition *p, uint32_t e)
{
    uint32_t s = p->set[e], i = p->at[e], j = p->first[s] + p->n_marked[s];
    if (i < j) return; /* is marked */
    p->elem[i] = p->elem[j];
    p->at[p->elem[i]] = i;
    p->elem[j] = e;
    p->at[e] = j;
    if (p->n_marked[s]++ == 0) p->touched[p->n_touched++] = s;
}

/* Every set with marked elements becomes two; the smaller part is the new one. */
static void split(partition *p)
{
    while (p->n_touched) {
        uint32_t s = p->touched[--p->n_touched], middle = p->first[s] + p->n_marked[s], z = p->n_sets;
        uint32_t n_marked = p->n_marked[s];
        p->n_marked[s] = 0;
        if (middle == p->end[s]) continue;
        if (n_marked <= p->end[s] - middle) {
            p->first[z] = p->first[s];
            p->end[z] = p->first[s] = middle;
        } else {
            p->end[z] = p->end[s];
            p->first[z] = p->end[s] = middle;
        }
        for (uint32_t i = p->first[z]; i < p->end[z]; i++) p->set[p->elem[i]] = z;
        p->n_marked[z] = 0;
        p->n_sets++;
    }
}

/* The edges of an automaton, by symbol. */
typedef struct edges {
    uint32_t n;
    uint32_t *tail, *head;  /* [n] */
    uint32_t *into;         /* [n] edges, by head */
    uint32_t *into_first;   /* [n_states + 1] */
    uint32_t *symbol_first; /* [n_symbols + 1] */
} edges;

static void edges_fill(edges *e, const lang_raw *r)
{
    uint32_t k = r->n_symbols, *fill = e->symbol_first;
    memset(fill, 0, ((size_t)k + 1) * sizeof *fill);
    memset(e->into_first, 0, ((size_t)r->n + 1) * sizeof *e->into_first);
    for (uint32_t s = 0; s < r->n; s++) {
        const uint32_t *row = r->next + (size_t)s * k;
        for (uint32_t c = 0; c < k; c++)
            if (row[c] != LANG_NONE) {
                fill[c]++;
                e->into_first[row[c]]++;
            }
    }
    for (uint32_t c = 0, sum = 0; c <= k; c++) {
        uint32_t n = c < k ? fill[c] : 0;
        fill[c] = sum;
        sum += n;
    }
    for (uint32_t s = 0, sum = 0; s <= r->n; s++) {
        uint32_t n = s < r->n ? e->into_first[s] : 0;
        e->into_first[s] = sum;
        sum += n;
    }
    for (uint32_t s = 0; s < r->n; s++) {
        const uint32_t *row = r->next + (size_t)s * k;
        for (uint32_t c = 0; c < k; c++)
            if (row[c] != LANG_NONE) {
                uint32_t i = fill[c]++;
                e->tail[i] = s;
                e->head[i] = row[c];
            }
    }
    for (uint32_t c = k; c > 0; c--) fill[c] = fill[c - 1];
    fill[0] = 0;
    for (uint32_t i = 0; i < e->n; i++) e->into[e->into_first[e->head[i]]++] = i;
    for (uint32_t s = r->n; s > 0; s--) e->into_first[s] = e->into_first[s - 1];
    e->into_first[0] = 0;
}

static uint32_t count_edges(const lang_raw *r)
{
    size_t cells = (size_t)r->n * r->n_symbols;
    uint32_t n = 0;
    for (size_t i = 0; i < cells; i++) n += r->next[i] != LANG_NONE;
    return n;
}

/* Keeps the states whose number is not LANG_NONE, under it; numbers are in rising order. */
static void keep(lang_raw *r, const uint32_t *number, uint32_t *starts, size_t n_starts)
{
    uint32_t n = 0, k = r->n_symbols;
    for (uint32_t s = 0; s < r->n; s++) {
        const uint32_t *row = r->next + (size_t)s * k;
        uint32_t *to = r->next + (size_t)n * k;
        if (number[s] != n) continue; /* dropped, or stands for none but its like */
        for (uint32_t c = 0; c < k; c++) to[c] = row[c] == LANG_NONE ? LANG_NONE : number[row[c]];
        r->accepts[n++] = r->accepts[s];
    }
    for (size_t i = 0; i < n_starts; i++)
        if (starts[i] != LANG_NONE) starts[i] = number[starts[i]];
    r->n = n;
}

/* States that are not reached, or lead to no text, go. */
static mlxr_status trim(lang_raw *r, uint32_t *starts, size_t n_starts, uint32_t *number, uint32_t *stack,
                        const edges *e)
{
    uint32_t n = 0, n_states = 0;
    uint8_t *seen = mlxr_calloc_array(r->n, 1);
    enum { REACHED = 1, LIVE = 2 };

    if (!seen) return MLXR_E_NOMEM;
    for (size_t i = 0; i < n_starts; i++)
        if (starts[i] != LANG_NONE && !(seen[starts[i]] & REACHED)) {
            seen[starts[i]] |= REACHED;
            stack[n++] = starts[i];
        }
    while (n) {
        const uint32_t *row = r->next + (size_t)stack[--n] * r->n_symbols;
        for (uint32_t c = 0; c < r->n_symbols; c++)
            if (row[c] != LANG_NONE && !(seen[row[c]] & REACHED)) {
                seen[row[c]] |= REACHED;
                stack[n++] = row[c];
            }
    }
    for (uint32_t s = 0; s < r->n; s++)
        if (r->accepts[s]) {
            seen[s] |= LIVE;
            stack[n++] = s;
        }
    while (n) {
        uint32_t s = stack[--n];
        for (uint32_t i = e->into_first[s]; i < e->into_first[s + 1]; i++) {
            uint32_t from = e->tail[e->into[i]];
            if (!(seen[from] & LIVE)) {
                seen[from] |= LIVE;
                stack[n++] = from;
            }
        }
    }
    for (uint32_t s = 0; s < r->n; s++) number[s] = seen[s] == (REACHED | LIVE) ? n_states++ : LANG_NONE;
    free(seen);
    if (n_states < r->n) keep(r, number, starts, n_starts);
    return MLXR_OK;
}

/* Merges states of one language; e fits r. */
static void merge(lang_raw *r, uint32_t *starts, size_t n_starts, uint32_t *number, uint32_t *block,
                  const edges *e)
{
    partition states, bundles;
    uint32_t i_block = 1, i_bundle = 0, *rep, n = 0;

    block = partition_init(&states, block, r->n);
    partition_init(&bundles, block, e->n);
    for (uint32_t s = 0; s < r->n; s++)
        if (r->accepts[s]) mark(&states, s);
    split(&states);
    bundles.n_sets = 0;
    for (uint32_t c = 0; c < r->n_symbols; c++) {
        if (e->symbol_first[c] == e->symbol_first[c + 1]) continue;
        bundles.first[bundles.n_sets] = e->symbol_first[c];
        bundles.end[bundles.n_sets] = e->symbol_first[c + 1];
        for (uint32_t i = e->symbol_first[c]; i < e->symbol_first[c + 1]; i++)
            bundles.set[i] = bundles.n_sets;
        bundles.n_sets++;
    }
    for (; i_bundle < bundles.n_sets; i_bundle++) {
        for (uint32_t i = bundles.first[i_bundle]; i < bundles.end[i_bundle]; i++)
            mark(&states, e->tail[bundles.elem[i]]);
        split(&states);
        for (; i_block < states.n_sets; i_block++) {
            for (uint32_t i = states.first[i_block]; i < states.end[i_block]; i++) {
                uint32_t s = states.elem[i];
                for (uint32_t j = e->into_first[s]; j < e->into_first[s + 1]; j++) mark(&bundles, e->into[j]);
            }
            split(&bundles);
        }
    }
    if (states.n_sets == r->n) return;
    /* The first state of each block stands for it, in the order of the states. */
    rep = states.n_marked;
    memset(rep, 0xff, states.n_sets * sizeof *rep);
    for (uint32_t s = 0; s < r->n; s++) {
        uint32_t b = states.set[s];
        if (rep[b] == LANG_NONE) rep[b] = n++;
        number[s] = rep[b];
    }
    keep(r, number, starts, n_starts);
}

mlxr_status lang_minimise(lang_raw *r, uint32_t *starts, size_t n_starts, lang_work *w)
{
    mlxr_status st;
    edges e = {.n = count_edges(r)};
    uint32_t *block = NULL, *number, *work, n_before = r->n;
    size_t n_work, n;

    if (r->n == 0) return MLXR_OK;
    if ((st = lang_steps(w, e.n)) != MLXR_OK) return st;
    /* partitions of states and of edges, then the arrays of `edges` */
    n_work = PARTITION_ARRAYS * ((size_t)r->n + e.n);
    n = n_work + (size_t)3 * e.n + (size_t)2 * r->n + 1 + r->n_symbols + 1;
    if (!(block = mlxr_malloc_array(n, sizeof *block))) return lang_nomem(w);
    work = block;
    number = block + n_work;
    e.into_first = number + r->n;
    e.symbol_first = e.into_first + r->n + 1;
    e.tail = e.symbol_first + r->n_symbols + 1;
    e.head = e.tail + e.n;
    e.into = e.head + e.n;
    edges_fill(&e, r);
    if ((st = trim(r, starts, n_starts, number, work, &e)) != MLXR_OK) {
        st = lang_nomem(w);
        goto done;
    }
    if (r->n < n_before) {
        e.n = count_edges(r);
        edges_fill(&e, r);
    }
    if (r->n > 1) merge(r, starts, n_starts, number, work, &e);
done:
    free(block);
    return st;
}
