/* From characters to bytes. A pattern's sets of characters cut all characters into symbols; automata are built over those and
 * written out as UTF-8 last.
 *
 * The symbols of all characters are a tree over their bytes, whose equal parts are one:
 *
 *   lead byte -> node of 64 continuation bytes -> node -> node -> symbol
 *
 * A state of the automaton over symbols becomes a state over bytes, and each node that it can enter one more, its image:
 * the node with the state's targets in place of the symbols. Equal images are one state, so what comes out is minimal. */
#include <stdlib.h>

#include "engine/grammar/lang_chars.h"

enum { N_CHARS = 0x110000 };

static int range_order(const void *a, const void *b)
{
    const mlxr_char_range *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

size_t lang_ranges_tidy(mlxr_char_range *ranges, size_t n)
{
    size_t kept = 0;
    bool sorted = true;
    for (size_t i = 1; i < n && sorted; i++) sorted = ranges[i - 1].first <= ranges[i].first;
    if (!sorted) qsort(ranges, n, sizeof *ranges, range_order);
    for (size_t i = 0; i < n; i++) {
        if (ranges[i].first > ranges[i].last) continue;
        if (kept && ranges[i].first <= ranges[kept - 1].last + 1) {
            if (ranges[i].last > ranges[kept - 1].last) ranges[kept - 1].last = ranges[i].last;
        } else {
            ranges[kept++] = ranges[i];
        }
    }
    return kept;
}

static uint32_t interval_of(const lang_alphabet *a, uint32_t cp)
{
    uint32_t low = 0, high = a->n_intervals;
    while (high - low > 1) {
        uint32_t mid = low + (high - low) / 2;
        if (a->intervals[mid].first <= cp)
            low = mid;
        else
            high = mid;
    }
    return low;
}

/* Cuts at every end of a range. */
static mlxr_status make_intervals(lang_alphabet *a, mlxr_arena *arena, const lang_chars *sets,
                                  uint32_t n_sets, lang_work *w)
{
    size_t n = 4;
    uint32_t *cuts, n_cuts = 0;
    mlxr_status st;

    for (uint32_t i = 0; i < n_sets; i++) n += (size_t)2 * sets[i].n;
    if ((st = lang_steps(w, n)) != MLXR_OK) return st;
    if (!(cuts = mlxr_malloc_array(n, sizeof *cuts))) return lang_nomem(w);
    cuts[n_cuts++] = 0;
    cuts[n_cuts++] = 0xd800;
    cuts[n_cuts++] = 0xe000;
    cuts[n_cuts++] = N_CHARS;
    for (uint32_t i = 0; i < n_sets; i++)
        for (uint32_t j = 0; j < sets[i].n; j++) {
            cuts[n_cuts++] = sets[i].ranges[j].first;
            cuts[n_cuts++] = sets[i].ranges[j].last + 1;
        }
    lang_sort(cuts, n_cuts);
    a->intervals = mlxr_arena_calloc(arena, n_cuts, sizeof *a->intervals);
    if (!a->intervals) {
        free(cuts);
        return lang_nomem(w);
    }
    for (uint32_t i = 0; i < n_cuts; i++) {
        if (cuts[i] >= N_CHARS || (i && cuts[i] == cuts[i - 1])) continue;
        a->intervals[a->n_intervals++] = (struct lang_interval){
            cuts[i], cuts[i] >= 0xd800 && cuts[i] < 0xe000 ? LANG_NONE : 0};
    }
    free(cuts);
    return MLXR_OK;
}

/* Numbers the symbols in use by the first character of each: how many. */
static uint32_t renumber(lang_alphabet *a, uint32_t *map, size_t n_map)
{
    uint32_t n = 0;
    memset(map, 0xff, n_map * sizeof *map);
    for (uint32_t k = 0; k < a->n_intervals; k++) {
        uint32_t *s = &a->intervals[k].symbol;
        if (*s == LANG_NONE) continue;
        if (map[*s] == LANG_NONE) map[*s] = n++;
        *s = map[*s];
    }
    return n;
}

mlxr_status lang_alphabet_make(lang_alphabet *out, mlxr_arena *arena, const lang_chars *sets, uint32_t n_sets,
                               lang_work *w)
{
    lang_alphabet a = {0};
    mlxr_status st;
    uint32_t *map = NULL, *stamp, n = 1, n_symbols;
    size_t max;

    if ((st = make_intervals(&a, arena, sets, n_sets, w)) != MLXR_OK) return st;
    /* Each set splits the symbols it has a part of. Numbers that are left behind are given out again now and then. */
    max = (size_t)3 * a.n_intervals + 2;
    if (!(map = mlxr_calloc_array(max, 2 * sizeof *map))) return lang_nomem(w);
    stamp = map + max;
    for (uint32_t i = 0; i < n_sets; i++) {
        if (n > 2 * a.n_intervals) {
            n = renumber(&a, map, max);
            memset(stamp, 0, max * sizeof *stamp);
        }
        for (uint32_t j = 0; j < sets[i].n; j++) {
            uint32_t k = interval_of(&a, sets[i].ranges[j].first);
            for (; k < a.n_intervals && a.intervals[k].first <= sets[i].ranges[j].last; k++) {
                uint32_t old = a.intervals[k].symbol;
                if ((st = lang_steps(w, 1)) != MLXR_OK) goto done;
                if (old == LANG_NONE) continue;
                if (stamp[old] != i + 1) {
                    stamp[old] = i + 1;
                    map[old] = n++;
                }
                a.intervals[k].symbol = map[old];
            }
        }
    }
    n_symbols = renumber(&a, map, max);
    if (n_symbols >= LANG_NO_SYMBOL) {
        st = mlxr_fail(w->err, MLXR_E_LIMIT, "%s: tells apart more than %d kinds of characters", w->what,
                       LANG_NO_SYMBOL - 1);
        goto done;
    }
    a.n_symbols = n_symbols;
    st = MLXR_E_NOMEM;
    if (!(a.labels = mlxr_arena_calloc(arena, n_sets, sizeof *a.labels))) goto done;
    memset(stamp, 0, max * sizeof *stamp);
    for (uint32_t i = 0; i < n_sets; i++) {
        uint32_t n_of = 0, n_runs = 0, *of = map; /* symbols of the set */
        lang_nfa_edge *runs;
        for (uint32_t j = 0; j < sets[i].n; j++) {
            uint32_t k = interval_of(&a, sets[i].ranges[j].first);
            for (; k < a.n_intervals && a.intervals[k].first <= sets[i].ranges[j].last; k++) {
                uint32_t s = a.intervals[k].symbol;
                if (s == LANG_NONE || stamp[s] == i + 1) continue;
                stamp[s] = i + 1;
                of[n_of++] = s;
            }
        }
        lang_sort(of, n_of);
        for (uint32_t j = 0; j < n_of; j++) n_runs += j == 0 || of[j] != of[j - 1] + 1;
        if (!(runs = mlxr_arena_calloc(arena, n_runs, sizeof *runs))) goto done;
        a.labels[i] = (lang_label){runs, n_runs};
        for (uint32_t j = 0, at = 0; j < n_of; j++) {
            if (j && of[j] == of[j - 1] + 1)
                runs[at - 1].last = (uint16_t)of[j];
            else
                runs[at++] = (lang_nfa_edge){(uint16_t)of[j], (uint16_t)of[j], 0};
        }
    }
    *out = a;
    st = MLXR_OK;
done:
    free(map);
    return st == MLXR_E_NOMEM ? lang_nomem(w) : st;
}

/* ---- the tree ---- */

/* A hash table's slots: pairs of a number, LANG_NONE where it is free, and the low half of its hash. */
typedef struct slots {
    uint32_t *v; /* [n, 2] */
    uint32_t n;
} slots;

static bool slots_grow(slots *s)
{
    uint32_t n = s->n ? s->n * 4 : 64, at, *v = mlxr_malloc_array(n, 2 * sizeof *v);
    if (!v) return false;
    memset(v, 0xff, n * 2 * sizeof *v);
    for (uint32_t i = 0; i < s->n; i++) {
        const uint32_t *old = s->v + (size_t)2 * i;
        if (old[0] == LANG_NONE) continue;
        for (at = old[1] & (n - 1); v[2 * at] != LANG_NONE; at = (at + 1) & (n - 1)) {
        }
        v[2 * at] = old[0];
        v[2 * at + 1] = old[1];
    }
    free(s->v);
    *s = (slots){v, n};
    return true;
}

typedef struct node {
    uint32_t child[64]; /* nodes, on the last level symbols; LANG_NONE: no character */
    uint32_t level;     /* bytes below: 1 to 3 */
} node;

typedef struct tree {
    const lang_alphabet *alphabet;
    node *nodes;
    uint32_t n, cap;
    slots slots;      /* by content */
    uint32_t cursor;  /* interval in hand: blocks are visited in rising order */
    uint32_t *all_of; /* [3, n_symbols] the node of a level that has one symbol alone */
    lang_work *w;
} tree;

static mlxr_status tree_intern(uint32_t *id, tree *t, const node *n)
{
    uint64_t h = n->level;
    size_t at;
    bool any = false;

    for (int i = 0; i < 64; i++) {
        h = (h ^ n->child[i]) * 0x9e3779b97f4a7c15u + (h >> 47);
        any |= n->child[i] != LANG_NONE;
    }
    *id = LANG_NONE;
    if (!any) return MLXR_OK;
    if (t->n * 2 >= t->slots.n && !slots_grow(&t->slots)) return lang_nomem(t->w);
    h ^= h >> 32;
    for (at = h & (t->slots.n - 1); t->slots.v[2 * at] != LANG_NONE; at = (at + 1) & (t->slots.n - 1)) {
        const node *o = &t->nodes[t->slots.v[2 * at]];
        if (o->level == n->level && memcmp(o->child, n->child, sizeof n->child) == 0) {
            *id = t->slots.v[2 * at];
            return MLXR_OK;
        }
    }
    if (t->n == t->cap) {
        uint32_t cap = t->cap ? t->cap * 2 : 16;
        node *nodes = mlxr_realloc_array(t->nodes, cap, sizeof *nodes);
        if (!nodes) return lang_nomem(t->w);
        t->nodes = nodes;
        t->cap = cap;
    }
    t->nodes[t->n] = *n;
    t->slots.v[2 * at] = t->n;
    t->slots.v[2 * at + 1] = (uint32_t)h;
    *id = t->n++;
    return MLXR_OK;
}

static mlxr_status tree_block(uint32_t *id, tree *t, uint32_t base, uint32_t level, uint32_t from);

/* One node for all blocks of a level that have one symbol alone. */
static mlxr_status tree_uniform(uint32_t *id, tree *t, uint32_t symbol, uint32_t base, uint32_t level)
{
    uint32_t *known = &t->all_of[(size_t)(level - 1) * t->alphabet->n_symbols + symbol];
    mlxr_status st;
    if (*known == LANG_NONE && (st = tree_block(known, t, base, level, 0)) != MLXR_OK) return st;
    *id = *known;
    return MLXR_OK;
}

/* The symbol at `first`; *end: where another one begins. */
static uint32_t tree_symbol(tree *t, uint32_t first, uint32_t *end)
{
    const lang_alphabet *a = t->alphabet;
    while (t->cursor + 1 < a->n_intervals && a->intervals[t->cursor + 1].first <= first) t->cursor++;
    *end = t->cursor + 1 < a->n_intervals ? a->intervals[t->cursor + 1].first : N_CHARS;
    return a->intervals[t->cursor].symbol;
}

/* The node for the 64^level characters from base on, without those before `from`. Level: 1 to 3. */
static mlxr_status tree_block(uint32_t *id, tree *t, uint32_t base, uint32_t level, uint32_t from)
{
    uint32_t width = 1u << (6 * (level - 1));
    mlxr_status st;
    node n = {.level = level};

    if ((st = lang_steps(t->w, 64)) != MLXR_OK) return st;
    for (uint32_t i = 0; i < 64; i++) {
        uint32_t first = base + i * width, end, symbol;
        n.child[i] = LANG_NONE;
        if (first < from || first >= N_CHARS) continue;
        symbol = tree_symbol(t, first, &end);
        if (level == 1) {
            n.child[i] = symbol;
        } else if (end >= first + width) {
            if (symbol != LANG_NONE &&
                (st = tree_uniform(&n.child[i], t, symbol, first, level - 1)) != MLXR_OK)
                return st;
        } else if ((st = tree_block(&n.child[i], t, first, level - 1, 0)) != MLXR_OK) {
            return st;
        }
    }
    return tree_intern(id, t, &n);
}

/* The node behind a lead byte. */
static mlxr_status tree_lead(uint32_t *id, tree *t, unsigned byte)
{
    uint32_t level = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3, width = 1u << (6 * level), end, symbol;
    uint32_t base = (byte - (level == 1 ? 0xc0u : level == 2 ? 0xe0u : 0xf0u)) * width;
    uint32_t from = byte == 0xe0 ? 0x800 : byte == 0xf0 ? 0x10000 : 0;

    symbol = tree_symbol(t, base, &end);
    if (from == 0 && end >= base + width && symbol != LANG_NONE)
        return tree_uniform(id, t, symbol, base, level);
    return tree_block(id, t, base, level, from);
}

/* ---- the automaton over bytes ---- */

typedef struct utf8_builder {
    const lang_raw *in;
    lang_raw out;
    tree tree;
    uint32_t lead[256];         /* node of a lead byte */
    uint16_t symbol_of[256];    /* of a byte, in out */
    uint16_t ascii_symbol[256]; /* [n of out's] the symbol of a character, LANG_NO_SYMBOL for other bytes */
    uint32_t lead_of[256];      /* [n of out's] the node, LANG_NONE */
    uint8_t tail_first[64];     /* [n_tails] one of the continuation bytes of a kind, from 0 */
    uint16_t tail_symbol[64];   /* [n_tails] */
    uint32_t n_tails;
    uint32_t *image, *image_of; /* [nodes] of the state image_of */
    slots slots;                /* of images, by their edges */
    uint32_t n_images;
    uint32_t *wide, n_wide;   /* symbols of characters beyond ASCII */
    uint32_t *alike, n_alike; /* slots of states, by where those lead */
    lang_work *w;
} utf8_builder;

/* Kinds of bytes: those with one symbol or one node each, continuation bytes by what they mean in all nodes. */
static void number_bytes(utf8_builder *b)
{
    const lang_alphabet *a = b->tree.alphabet;
    uint32_t n = 0, k = 0, kind[64] = {0}, n_kinds = 1;

    memset(b->symbol_of, 0xff, sizeof b->symbol_of);
    memset(b->ascii_symbol, 0xff, sizeof b->ascii_symbol);
    memset(b->lead_of, 0xff, sizeof b->lead_of);
    for (unsigned byte = 0; byte < 0x80; byte++) {
        uint32_t s, i = 0;
        while (k + 1 < a->n_intervals && a->intervals[k + 1].first <= byte) k++;
        s = a->intervals[k].symbol;
        while (i < n && b->ascii_symbol[i] != s) i++;
        if (i == n) b->ascii_symbol[n++] = (uint16_t)s;
        b->symbol_of[byte] = (uint16_t)i;
    }
    for (unsigned byte = 0xc2; byte <= 0xf4; byte++) {
        uint32_t i = 0;
        if (b->lead[byte] == LANG_NONE) continue;
        while (i < n && b->lead_of[i] != b->lead[byte]) i++;
        if (i == n) b->lead_of[n++] = b->lead[byte];
        b->symbol_of[byte] = (uint16_t)i;
    }
    for (uint32_t i = 0; i < b->tree.n && n_kinds < 64; i++) {
        const uint32_t *child = b->tree.nodes[i].child;
        uint32_t now[64], n_now = 0;
        for (uint32_t c = 0; c < 64; c++) {
            uint32_t d = 0;
            if (c && kind[c] == kind[c - 1] && child[c] == child[c - 1])
                d = c - 1;
            else
                while (d < c && (kind[d] != kind[c] || child[d] != child[c])) d++;
            now[c] = d < c ? now[d] : n_now++;
        }
        memcpy(kind, now, sizeof kind);
        n_kinds = n_now;
    }
    for (uint32_t c = 0; c < 64; c++) {
        if (kind[c] == b->n_tails) {
            b->tail_first[b->n_tails] = (uint8_t)c;
            b->tail_symbol[b->n_tails++] = (uint16_t)n++;
        }
        b->symbol_of[0x80 + c] = b->tail_symbol[kind[c]];
    }
    b->out = lang_raw_init(n);
}

/* The state with these edges on continuation bytes. */
static mlxr_status image_state(uint32_t *state, utf8_builder *b, const uint32_t *row)
{
    uint64_t h = 0;
    size_t at;
    uint32_t k = b->out.n_symbols, first = b->tail_symbol[0];
    bool any = false;
    mlxr_status st;

    for (uint32_t i = 0; i < b->n_tails; i++) {
        h = (h ^ row[i]) * 0x9e3779b97f4a7c15u + (h >> 47);
        any |= row[i] != LANG_NONE;
    }
    *state = LANG_NONE;
    if (!any) return MLXR_OK;
    if (b->n_images * 2 >= b->slots.n && !slots_grow(&b->slots)) return lang_nomem(b->w);
    h ^= h >> 32;
    for (at = h & (b->slots.n - 1); b->slots.v[2 * at] != LANG_NONE; at = (at + 1) & (b->slots.n - 1))
        if (memcmp(b->out.next + (size_t)b->slots.v[2 * at] * k + first, row, b->n_tails * sizeof *row) ==
            0) {
            *state = b->slots.v[2 * at];
            return MLXR_OK;
        }
    if ((st = lang_raw_add(state, &b->out, false, b->w)) != MLXR_OK) return st;
    memcpy(b->out.next + (size_t)*state * k + first, row, b->n_tails * sizeof *row);
    b->slots.v[2 * at] = *state;
    b->slots.v[2 * at + 1] = (uint32_t)h;
    b->n_images++;
    return MLXR_OK;
}

/* The state for being in a node on the way from `from`. Three levels deep at most. */
static mlxr_status image_of(uint32_t *state, utf8_builder *b, uint32_t i_node, uint32_t from)
{
    const node *n = &b->tree.nodes[i_node];
    uint32_t row[64];
    mlxr_status st;

    if (b->image_of[i_node] == from) {
        *state = b->image[i_node];
        return MLXR_OK;
    }
    if ((st = lang_steps(b->w, b->n_tails)) != MLXR_OK) return st;
    for (uint32_t i = 0; i < b->n_tails; i++) {
        uint32_t child = n->child[b->tail_first[i]];
        if (child == LANG_NONE)
            row[i] = LANG_NONE;
        else if (n->level == 1)
            row[i] = b->in->next[(size_t)from * b->in->n_symbols + child];
        else if ((st = image_of(&row[i], b, child, from)) != MLXR_OK)
            return st;
    }
    if ((st = image_state(state, b, row)) != MLXR_OK) return st;
    b->image[i_node] = *state;
    b->image_of[i_node] = from;
    return MLXR_OK;
}

/* Symbols that characters beyond ASCII have, and room to look states up by where these lead. */
static bool wide_init(utf8_builder *b)
{
    const lang_alphabet *a = b->tree.alphabet;
    uint8_t *seen = mlxr_calloc_array(a->n_symbols, 1);

    b->n_alike = 16;
    while (b->n_alike < 2 * b->in->n) b->n_alike *= 2;
    b->wide = mlxr_malloc_array(a->n_symbols, sizeof *b->wide);
    b->alike = mlxr_malloc_array(b->n_alike, sizeof *b->alike);
    if (!seen || !b->wide || !b->alike) {
        free(seen);
        return false;
    }
    memset(b->alike, 0xff, b->n_alike * sizeof *b->alike);
    for (uint32_t i = 0; i < a->n_intervals; i++) {
        uint32_t symbol = a->intervals[i].symbol,
                 end = i + 1 < a->n_intervals ? a->intervals[i + 1].first : N_CHARS;
        if (end <= 0x80 || symbol == LANG_NONE || seen[symbol]) continue;
        seen[symbol] = 1;
        b->wide[b->n_wide++] = symbol;
    }
    free(seen);
    return true;
}

/* The first state whose characters beyond ASCII lead where those of s do: s itself where there was none. LANG_NONE: they
 * lead nowhere. */
static uint32_t state_alike(utf8_builder *b, uint32_t s)
{
    uint32_t k = b->in->n_symbols, i;
    const uint32_t *row = b->in->next + (size_t)s * k;
    uint64_t h = 0;
    bool any = false;
    size_t at;

    for (i = 0; i < b->n_wide; i++) {
        uint32_t to = row[b->wide[i]];
        h = (h ^ to) * 0x9e3779b97f4a7c15u + (h >> 47);
        any |= to != LANG_NONE;
    }
    if (!any) return LANG_NONE;
    h ^= h >> 32;
    for (at = h & (b->n_alike - 1); b->alike[at] != LANG_NONE; at = (at + 1) & (b->n_alike - 1)) {
        const uint32_t *other = b->in->next + (size_t)b->alike[at] * k;
        for (i = 0; i < b->n_wide && other[b->wide[i]] == row[b->wide[i]]; i++) {
        }
        if (i == b->n_wide) return b->alike[at];
    }
    b->alike[at] = s;
    return s;
}

mlxr_status lang_utf8_finish(mlxr_dfa **out, const lang_raw *r, uint32_t start, const lang_alphabet *alphabet,
                             lang_work *w)
{
    utf8_builder b = {.in = r, .w = w, .tree = {.alphabet = alphabet, .w = w}};
    size_t n_all = (size_t)3 * alphabet->n_symbols;
    mlxr_status st = MLXR_E_NOMEM;
    uint32_t id;

    *out = NULL;
    if (start == LANG_NONE || r->n == 0) return mlxr_dfa_empty(out, w->err);
    if (!(b.tree.all_of = mlxr_malloc_array(n_all, sizeof *b.tree.all_of))) goto done;
    memset(b.tree.all_of, 0xff, n_all * sizeof *b.tree.all_of);
    for (unsigned byte = 0; byte < 256; byte++) b.lead[byte] = LANG_NONE;
    for (unsigned byte = 0xc2; byte <= 0xf4; byte++)
        if ((st = tree_lead(&b.lead[byte], &b.tree, byte)) != MLXR_OK) goto done;
    number_bytes(&b);
    st = MLXR_E_NOMEM;
    if (!wide_init(&b)) goto done;
    if (!(b.image = mlxr_malloc_array(b.tree.n, 2 * sizeof *b.image))) goto done;
    b.image_of = b.image + b.tree.n;
    memset(b.image_of, 0xff, b.tree.n * sizeof *b.image_of);
    for (uint32_t s = 0; s < r->n; s++)
        if ((st = lang_raw_add(&id, &b.out, r->accepts[s], w)) != MLXR_OK) goto done;
    for (uint32_t s = 0; s < r->n; s++) {
        uint32_t alike = state_alike(&b, s), k = b.out.n_symbols;
        for (uint32_t c = 0; c < k; c++) {
            uint32_t to = LANG_NONE;
            if (b.ascii_symbol[c] != LANG_NO_SYMBOL)
                to = r->next[(size_t)s * r->n_symbols + b.ascii_symbol[c]];
            else if (b.lead_of[c] == LANG_NONE || alike == LANG_NONE)
                continue;
            else if (alike < s)
                to = b.out.next[(size_t)alike * k + c];
            else if ((st = image_of(&to, &b, b.lead_of[c], s)) != MLXR_OK)
                goto done;
            if (to != LANG_NONE) b.out.next[(size_t)s * k + c] = to;
        }
    }
    st = lang_finish(out, &b.out, start, b.symbol_of, true, w);
done:
    free(b.tree.all_of);
    free(b.tree.nodes);
    free(b.tree.slots.v);
    free(b.image);
    free(b.slots.v);
    free(b.wide);
    free(b.alike);
    lang_raw_clear(&b.out);
    return st == MLXR_E_NOMEM ? lang_nomem(w) : st;
}

mlxr_status mlxr_dfa_ranges(mlxr_dfa **out, const mlxr_char_range *ranges, size_t n, mlxr_error *err)
{
    lang_work w = lang_begin("ranges", NULL, err);
    mlxr_arena arena = {0};
    mlxr_char_range *tidy;
    lang_chars set;
    lang_alphabet alphabet;
    lang_raw r = {0};
    mlxr_status st;
    uint32_t from, to, start;

    *out = NULL;
    if (!(tidy = mlxr_arena_calloc(&arena, n, sizeof *tidy))) {
        st = lang_nomem(&w);
        goto done;
    }
    for (size_t i = 0; i < n; i++) {
        tidy[i] = ranges[i];
        if (tidy[i].last >= N_CHARS) tidy[i].last = N_CHARS - 1;
    }
    set = (lang_chars){tidy, (uint32_t)lang_ranges_tidy(tidy, n)};
    if ((st = lang_alphabet_make(&alphabet, &arena, &set, 1, &w)) != MLXR_OK) goto done;
    r = lang_raw_init(alphabet.n_symbols);
    if ((st = lang_raw_add(&from, &r, false, &w)) != MLXR_OK) goto done;
    if ((st = lang_raw_add(&to, &r, true, &w)) != MLXR_OK) goto done;
    for (uint32_t i = 0; i < alphabet.labels[0].n; i++)
        for (uint32_t c = alphabet.labels[0].runs[i].first; c <= alphabet.labels[0].runs[i].last; c++)
            r.next[(size_t)from * r.n_symbols + c] = to;
    start = from;
    if ((st = lang_minimise(&r, &start, 1, &w)) != MLXR_OK) goto done;
    st = lang_utf8_finish(out, &r, start, &alphabet, &w);
done:
    lang_raw_clear(&r);
    mlxr_arena_clear(&arena);
    return st;
}
