/* mask: which tokens may come next.
 *
 * A mask is the sum over a matcher's configurations, and for each a chain of entries. The first entry is made for the
 * configuration on a stack that is not known (GM_FRAME_OPEN): the tokens that stay above it, and the leaves: nodes of the
 * vocabulary's trie at which the frame ends. The next entry is made for these leaves and the frame that the real stack has there,
 * and so on until no leaf is left. Entries are kept under what they depend on and nothing else: the place, the frames that
 * tokens reach, counts as far as a token can reach a bound, used names only when they mattered.
 *
 * Making an entry is a walk through the trie for one configuration at a time: what a place leads to without reading (calls,
 * returns) is put aside as another configuration at that node. Since a mask is a sum, nothing has to be kept together. */
#include <stdlib.h>

#include "engine/grammar/vocabulary.h"

typedef struct gm_leaf {
    uint32_t node, used;
} gm_leaf;

typedef struct gm_entry {
    uint64_t key[5];
    uint64_t uid;
    struct gm_entry *next; /* in its slot */
    bool depends;    /* on the used names: the key is to be completed with them, nothing else is in here */
    bool once;       /* not kept */
    uint32_t *dense; /* [n_words] or NULL: then */
    uint32_t *list;  /* ids */
    gm_leaf *leaves;
    uint32_t n_list, n_leaves;
    uint64_t tick; /* last used */
} gm_entry;

typedef struct gm_pending {
    uint32_t node, slot;
    gm_config c;
} gm_pending;

typedef struct gm_memo {
    gm_entry **slots;
    size_t n_slots, n_entries, bytes;
    uint64_t tick;
    gm_entry *once; /* of this mask alone */
    uint32_t *bits, *result;
    uint32_t *state, *name; /* [max_bytes + 1] of the walk, by depth */
    const uint32_t **rows;
    uint64_t *count;
    gm_pending *pending;
    size_t n_pending, cap_pending;
    gm_pending *seen; /* all that were pending in this walk, for the table */
    size_t n_seen, cap_seen;
    uint32_t *table; /* [n_table] index + 1 */
    size_t n_table;
    gm_leaf *leaves;
    size_t n_leaves, cap_leaves;
    bool names_matter; /* the names used at a leaf live on: the body of a counted repeat ends there */
    uint32_t **same;   /* [n_dfas, GM_UNIVERSES]: see compare */
    bool *compared;
    bool keeps_names; /* leaves hold names that are objects */
} gm_memo;

static void nomem(mlxr_masker *k)
{
    gm_fail(k, MLXR_E_NOMEM, "grammar: out of memory");
}

/* ---- entries ---- */

static size_t entry_bytes(const mlxr_masker *k, const gm_entry *e)
{
    return sizeof *e + (e->dense ? k->v->n_words * sizeof *e->dense : 0) + e->n_list * sizeof *e->list +
           e->n_leaves * sizeof *e->leaves;
}

static void entry_free(gm_entry *e)
{
    if (!e) return;
    free(e->dense);
    free(e->list);
    free(e->leaves);
    free(e);
}

static size_t slot_of(const gm_memo *m, const uint64_t key[5])
{
    uint64_t h = 0x243f6a8885a308d3u;
    for (int i = 0; i < 5; i++) {
        h = (h ^ key[i]) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    return (size_t)(h ^ h >> 32) & (m->n_slots - 1);
}

static gm_entry *find(gm_memo *m, const uint64_t key[5])
{
    for (gm_entry *e = m->slots[slot_of(m, key)]; e; e = e->next)
        if (!memcmp(e->key, key, sizeof e->key)) {
            e->tick = ++m->tick;
            return e;
        }
    return NULL;
}

static bool grow_slots(gm_memo *m)
{
    gm_entry **old = m->slots, **slots;
    size_t n = m->n_slots;
    slots = mlxr_calloc_array(2 * n, sizeof *slots);
    if (!slots) return false;
    m->slots = slots;
    m->n_slots = 2 * n;
    for (size_t i = 0; i < n; i++)
        for (gm_entry *e = old[i], *next; e; e = next) {
            size_t at = slot_of(m, e->key);
            next = e->next;
            e->next = slots[at];
            slots[at] = e;
        }
    free(old);
    return true;
}

static void keep(mlxr_masker *k, gm_entry *e)
{
    gm_memo *m = k->memo;
    size_t at;
    if (m->n_entries >= m->n_slots) (void)grow_slots(m); /* without memory longer slots will do */
    at = slot_of(m, e->key);
    e->next = m->slots[at];
    e->tick = ++m->tick;
    m->slots[at] = e;
    m->n_entries++;
    m->bytes += entry_bytes(k, e);
}

static bool memo_init(mlxr_masker *k)
{
    const mlxr_vocabulary *v = k->v;
    gm_memo *m = calloc(1, sizeof *m);
    if (!m) return false;
    k->memo = m;
    m->n_slots = 256;
    m->n_table = 1024;
    m->slots = mlxr_calloc_array(m->n_slots, sizeof *m->slots);
    m->table = mlxr_calloc_array(m->n_table, sizeof *m->table);
    m->bits = mlxr_calloc_array(v->n_words + 1, sizeof *m->bits);
    m->result = mlxr_calloc_array(v->n_words + 1, sizeof *m->result);
    m->state = mlxr_calloc_array(v->max_bytes + 1, sizeof *m->state);
    m->rows = mlxr_calloc_array(v->max_bytes + 1, sizeof *m->rows);
    m->name = mlxr_calloc_array(v->max_bytes + 1, sizeof *m->name);
    m->count = mlxr_calloc_array(v->max_bytes + 1, sizeof *m->count);
    m->same = mlxr_calloc_array((size_t)k->g->n_dfas * GM_UNIVERSES, sizeof *m->same);
    m->compared = mlxr_calloc_array((size_t)k->g->n_dfas * GM_UNIVERSES, sizeof *m->compared);
    if (m->same && m->compared && m->slots && m->table && m->bits && m->result && m->state && m->rows &&
        m->name && m->count)
        return true;
    gm_memo_free(k);
    return false;
}

void gm_memo_free(mlxr_masker *k)
{
    gm_memo *m = k->memo;
    if (!m) return;
    if (m->slots) gm_memo_trim(k, 0);
    for (size_t i = 0; m->same && i < (size_t)k->g->n_dfas * GM_UNIVERSES; i++) free(m->same[i]);
    free(m->same);
    free(m->compared);
    free(m->slots);
    free(m->table);
    free(m->bits);
    free(m->result);
    free(m->state);
    free(m->rows);
    free(m->name);
    free(m->count);
    free(m->pending);
    free(m->seen);
    free(m->leaves);
    free(m);
    k->memo = NULL;
}

size_t gm_memo_bytes(const mlxr_masker *k)
{
    return k->memo ? k->memo->bytes + k->memo->n_slots * sizeof(gm_entry *) : 0;
}

static int by_tick(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The oldest go. An entry whose predecessor is gone is found by nobody and grows old. */
void gm_memo_trim(mlxr_masker *k, size_t bytes)
{
    gm_memo *m = k->memo;
    uint64_t *ticks, limit = UINT64_MAX;
    size_t n = 0, kept = m ? m->bytes : 0;
    if (!m || m->bytes <= bytes) return;
    ticks = bytes ? mlxr_malloc_array(2 * m->n_entries, sizeof *ticks) : NULL;
    if (ticks) {
        for (size_t i = 0; i < m->n_slots; i++)
            for (gm_entry *e = m->slots[i]; e; e = e->next, n++) {
                ticks[2 * n] = e->tick;
                ticks[2 * n + 1] = entry_bytes(k, e);
            }
        qsort(ticks, n, 2 * sizeof *ticks, by_tick);
        for (size_t i = 0; i < n; i++) {
            limit = ticks[2 * i];
            if (kept <= bytes) break;
            kept -= ticks[2 * i + 1];
            limit++;
        }
        free(ticks);
    }
    for (size_t i = 0; i < m->n_slots; i++)
        for (gm_entry **p = &m->slots[i], *e; (e = *p) != NULL;) {
            if (e->tick >= limit) {
                p = &e->next;
                continue;
            }
            *p = e->next;
            m->bytes -= entry_bytes(k, e);
            m->n_entries--;
            entry_free(e);
        }
}

/* ---- the walk ---- */

/* Without a branch for nodes at which no token ends, which nobody can predict: bits has a word more. */
static inline void emit(const mlxr_vocabulary *v, uint32_t *bits, uint32_t node)
{
    uint32_t bit = v->emits[node];
    if (__builtin_expect(bit != GM_SEVERAL, 1)) {
        bits[bit >> 5] |= (uint32_t)1 << (bit & 31);
        return;
    }
    for (uint32_t t = v->first[node], end = v->first[node + 1]; t < end; t++)
        gm_set_bit(bits, (uint32_t)v->tokens[t]);
}

static inline bool has_children(const mlxr_vocabulary *v, uint32_t node)
{
    return v->skip[node] > node + 1;
}

static void leaf(mlxr_masker *k, uint32_t node, uint32_t used)
{
    gm_memo *m = k->memo;
    if (m->n_leaves == m->cap_leaves &&
        !gm_grow(&m->leaves, &m->cap_leaves, m->n_leaves, 1, sizeof *m->leaves)) {
        nomem(k);
        return;
    }
    if (!m->names_matter) used = GM_USED_NONE;
    if (used >= GM_OBJ_FIRST) m->keeps_names = true;
    m->leaves[m->n_leaves++] = (gm_leaf){node, used};
}

static size_t pending_hash(const gm_pending *p)
{
    uint64_t h = (uint64_t)p->node << 32 | p->c.at;
    h = (h ^ ((uint64_t)p->c.frame << 32 | p->c.used)) * 0x9e3779b97f4a7c15u;
    h ^= h >> 31;
    h = (h ^ ((uint64_t)p->c.state << 32 | p->c.name)) * 0x9e3779b97f4a7c15u;
    h ^= h >> 31;
    h = (h ^ (p->c.count << 4 | p->c.kind)) * 0x9e3779b97f4a7c15u;
    return (size_t)(h ^ h >> 32);
}

static bool same_pending(const gm_pending *a, const gm_pending *b)
{
    return a->node == b->node && a->c.at == b->c.at && a->c.frame == b->c.frame && a->c.used == b->c.used &&
           a->c.kind == b->c.kind && a->c.state == b->c.state && a->c.name == b->c.name &&
           a->c.count == b->c.count;
}

/* The configuration is to be walked from the node on, once. */
static void pend(mlxr_masker *k, uint32_t node, const gm_config *c)
{
    gm_memo *m = k->memo;
    gm_pending p = {.node = node, .c = *c};
    size_t at;
    if (!has_children(k->v, node)) return;
    if (m->n_seen * 2 >= m->n_table) {
        uint32_t *table = mlxr_calloc_array(2 * m->n_table, sizeof *table);
        if (!table) {
            nomem(k);
            return;
        }
        free(m->table);
        m->table = table;
        m->n_table *= 2;
        for (size_t i = 0; i < m->n_seen; i++) {
            for (at = pending_hash(&m->seen[i]) & (m->n_table - 1); table[at];)
                at = (at + 1) & (m->n_table - 1);
            table[at] = (uint32_t)i + 1;
            m->seen[i].slot = (uint32_t)at;
        }
    }
    for (at = pending_hash(&p) & (m->n_table - 1); m->table[at]; at = (at + 1) & (m->n_table - 1))
        if (same_pending(&m->seen[m->table[at] - 1], &p)) return;
    if (!gm_grow(&m->seen, &m->cap_seen, m->n_seen, 1, sizeof *m->seen) ||
        !gm_grow(&m->pending, &m->cap_pending, m->n_pending, 1, sizeof *m->pending)) {
        nomem(k);
        return;
    }
    p.slot = (uint32_t)at;
    m->seen[m->n_seen++] = p;
    m->table[at] = (uint32_t)m->n_seen;
    m->pending[m->n_pending++] = p;
}

/* What the place leads to without reading is put aside, and with itself the place too. */
static void branch(mlxr_masker *k, uint32_t node, uint32_t place, uint32_t frame, uint32_t used, bool itself)
{
    gm_config c = {.kind = GM_PLACE, .at = place, .frame = frame, .used = used};
    gm_set *s = &k->set[2];
    const gm_place *p = &k->places[place];
    if (!has_children(k->v, node)) return;
    if (itself && p->n_reading) pend(k, node, &c);
    if (p->simple) return;
    if (frame < GM_OBJ_FIRST && !p->n_exits && !p->has_special) { /* nothing but an end */
        if (frame == GM_FRAME_OPEN) leaf(k, node, used);
        return;
    }
    gm_set_clear(s);
    k->n_left = 0;
    gm_set_add(k, s, &c, 0);
    if (!gm_pardon(k)) return;
    for (size_t i = 0; i < k->n_left; i++) leaf(k, node, k->left[i]);
    for (size_t i = 1; i < s->n; i++) /* the first is c */
        if (gm_reads(k, &s->c[i])) pend(k, node, &s->c[i]);
}

/* From place `from` by the byte of the node, beside the main line of a walk. */
static void step_aside(mlxr_masker *k, uint32_t node, uint32_t from, uint32_t frame, uint32_t used)
{
    uint32_t to = gm_place_next(k, from, k->v->byte[node]);
    if (to == GM_DEAD) return;
    emit(k->v, k->memo->bits, node);
    branch(k, node, to, frame, used, true);
}

/* The long walk: half a million nodes for a place that takes any text. What one node needs of the one before is kept short: the row of
 * a place, by depth. */
static void walk_place(mlxr_masker *k, uint32_t start, const gm_config *c)
{
    const mlxr_vocabulary *v = k->v;
    const uint8_t *class_of = k->g->class_of, *byte = v->byte;
    const uint16_t *depth = v->depth;
    const uint32_t **rows = k->memo->rows;
    uint32_t *state = k->memo->state, *bits = k->memo->bits, end = v->skip[start];
    state[depth[start]] = c->at;
    rows[depth[start]] = gm_place_row(k, c->at);
    if (!rows[depth[start]]) return;
    for (uint32_t i = start + 1; i < end;) {
        uint32_t d = depth[i], q = rows[d - 1][class_of[byte[i]]];
        const gm_place *p;
        if (q == GM_DEAD) {
            i = v->skip[i];
            continue;
        }
        if (q == GM_UNKNOWN) {
            q = gm_place_next(k, state[d - 1], byte[i]);
            if (k->status != MLXR_OK && !gm_pardon(k)) return;
            if (q == GM_DEAD) {
                i = v->skip[i];
                continue;
            }
        }
        emit(v, bits, i);
        p = &k->places[q];
        if (!p->simple) {
            branch(k, i, q, c->frame, c->used, false);
            p = &k->places[q];
            if (!p->n_reading) {
                i = v->skip[i];
                continue;
            }
        }
        state[d] = q;
        rows[d] = p->next ? p->next : gm_place_row(k, q);
        if (!rows[d]) return;
        i++;
    }
}

static bool has_byte(const uint64_t first[4], uint8_t b)
{
    return first[b >> 6] >> (b & 63) & 1;
}

static void walk_chars(mlxr_masker *k, uint32_t start, const gm_config *c)
{
    const mlxr_vocabulary *v = k->v;
    const gm_node *n = &k->g->nodes[c->at];
    gm_bounds b = k->g->bounds[n->b];
    gm_memo *m = k->memo;
    uint32_t base = v->depth[start], end = v->skip[start], out = gm_place_behind(k, n, c->used);
    uint64_t first[4];
    bool simple;
    if (k->status != MLXR_OK) return;
    gm_place_first(k, out);
    simple = out != GM_DEAD && k->places[out].simple;
    memcpy(first, k->places[out].first, sizeof first);
    m->state[base] = c->state;
    m->count[base] = c->count;
    for (uint32_t i = start + 1; i < end;) {
        uint32_t d = v->depth[i], s = m->state[d - 1];
        uint64_t count = m->count[d - 1];
        if (simple && s == 0 && count >= b.min && d - 1 > base && has_byte(first, v->byte[i]))
            step_aside(k, i, out, c->frame, c->used);
        s = s == 0 && count >= b.max ? GM_CHARS_DEAD : gm_chars_step((uint8_t)s, v->byte[i]);
        if (k->status != MLXR_OK) return;
        if (s == GM_CHARS_DEAD) {
            i = v->skip[i];
            /* The children of a node that has come to the bound still may leave: they come one by one. */
            continue;
        }
        emit(v, m->bits, i);
        m->state[d] = s;
        m->count[d] = count + (s == 0);
        if (!simple && s == 0 && m->count[d] >= b.min && out != GM_DEAD)
            branch(k, i, out, c->frame, c->used, true);
        i++;
    }
}

/* The name at depth d of the walk that begins with c->name at `base`, and whose nodes are in m->count. */
static uint32_t name_at(mlxr_masker *k, uint32_t base, uint32_t d)
{
    gm_memo *m = k->memo;
    uint32_t from = d;
    while (from > base && m->name[from] == GM_NONE) from--;
    for (; from < d; from++) {
        uint32_t n = gm_obj_make(k, GM_NAME, m->name[from], k->v->byte[m->count[from + 1]], 0, 0);
        if (n == GM_NONE) return n;
        m->name[from + 1] = n;
    }
    return m->name[d];
}

static void walk_unique(mlxr_masker *k, uint32_t start, const gm_config *c)
{
    const mlxr_vocabulary *v = k->v;
    const gm_node *n = &k->g->nodes[c->at];
    const gm_dfa *dfa = &k->g->dfas[n->a];
    gm_memo *m = k->memo;
    uint32_t base = v->depth[start], end = v->skip[start], out = gm_place_of_node(k, n->out, 0);
    uint64_t first[4];
    bool simple;
    if (k->status != MLXR_OK) return;
    gm_place_first(k, out);
    simple = out != GM_DEAD && k->places[out].simple && !k->g->rules[k->g->rules[n->rule].owner].n_needs;
    memcpy(first, k->places[out].first, sizeof first);
    m->state[base] = c->state;
    m->name[base] = c->name;
    for (uint32_t i = start + 1; i < end;) {
        uint32_t d = v->depth[i], s = m->state[d - 1], name, used, behind;
        m->count[d] = i;
        m->name[d] = GM_NONE;
        if (simple && d - 1 > base && dfa->d->accepts[s] && has_byte(first, v->byte[i])) {
            name = name_at(k, base, d - 1);
            if (name != GM_NONE && !gm_is_used(k, c->used, name)) {
                used = gm_obj_make(k, GM_USED, c->used, name, 0, 0);
                if (used != GM_NONE) step_aside(k, i, out, c->frame, used);
            }
        }
        s = gm_dfa_step(dfa, s, v->byte[i]);
        if (k->status != MLXR_OK) return;
        if (s == MLXR_DFA_NONE) {
            i = v->skip[i];
            continue;
        }
        if ((!simple && dfa->d->accepts[s]) || dfa->counts[s] != UINT64_MAX) {
            bool may_end, may_go_on;
            name = name_at(k, base, d);
            if (name == GM_NONE) return;
            may_end = dfa->d->accepts[s] && !gm_is_used(k, c->used, name);
            may_go_on = dfa->goes_on[s] && gm_unique_open(k, n, s, name, c->used);
            if (may_end && !simple) {
                used = gm_obj_make(k, GM_USED, c->used, name, 0, 0);
                behind = used == GM_NONE ? GM_DEAD : gm_place_behind(k, n, used);
                if (behind == GM_DEAD)
                    may_end = false;
                else
                    branch(k, i, behind, c->frame, used, true);
            }
            if (k->status != MLXR_OK) return;
            if (!may_end && !may_go_on) {
                i = v->skip[i];
                continue;
            }
        }
        emit(v, m->bits, i);
        m->state[d] = s;
        i++;
    }
}

/* A piece of a language and what comes behind it, no name used: the walk for GM_UNIQUE where nothing is known yet. What comes
 * behind is simple (start_piece). */
static void walk_piece(mlxr_masker *k, const gm_dfa *dfa, uint32_t from, uint32_t out, const gm_config *c)
{
    const mlxr_vocabulary *v = k->v;
    gm_memo *m = k->memo;
    uint64_t first[4];
    memcpy(first, k->places[out].first, sizeof first);
    m->state[0] = from;
    for (uint32_t i = 1; i < v->n_nodes && k->status == MLXR_OK;) {
        uint32_t d = v->depth[i], s = m->state[d - 1];
        if (d > 1 && dfa->d->accepts[s] && has_byte(first, v->byte[i]))
            step_aside(k, i, out, c->frame, c->used);
        s = gm_dfa_step(dfa, s, v->byte[i]);
        if (s == MLXR_DFA_NONE) {
            i = v->skip[i];
            continue;
        }
        emit(v, m->bits, i);
        m->state[d] = s;
        i++;
    }
}

static void walk_pending(mlxr_masker *k)
{
    gm_memo *m = k->memo;
    while (m->n_pending && k->status == MLXR_OK) {
        gm_pending p = m->pending[--m->n_pending];
        if (p.c.kind == GM_PLACE)
            walk_place(k, p.node, &p.c);
        else if (p.c.kind == GM_CHARS)
            walk_chars(k, p.node, &p.c);
        else
            walk_unique(k, p.node, &p.c);
    }
}

/* ---- from the root, where what the vocabulary knows saves the walk ---- */

/* Whether only a quote comes at out, by positions that read; nothing at all is fine too. */
static bool only_quote(mlxr_masker *k, uint32_t out)
{
    if (out == GM_DEAD) return true;
    gm_place_first(k, out);
    for (int i = 0; i < 4; i++)
        if (k->places[out].first[i] & ~((uint64_t)(i == '"' >> 6) << ('"' & 63))) return false;
    return k->places[out].simple;
}

/* The quotes that end a string, behind at least min and at most max characters of which the piece accepts the text. */
static void leave_by_quotes(mlxr_masker *k, const gm_universe *u, const gm_dfa *piece, uint32_t from,
                            uint64_t min, uint64_t max, uint32_t out, const gm_config *c)
{
    const mlxr_vocabulary *v = k->v;
    uint32_t to = out == GM_DEAD ? GM_DEAD : gm_place_next(k, out, '"');
    for (size_t i = 0; to != GM_DEAD && i < u->n_quotes; i++) {
        const gm_quote *q = &u->quotes[i];
        uint32_t d = v->depth[q->node];
        if (d == 1 || q->n_chars < min || q->n_chars > max) continue;
        if (piece) {
            const uint8_t *text = v->bytes + v->offset[v->tokens[v->first[q->node]]];
            uint32_t s = from;
            for (uint32_t j = 0; j + 1 < d && s != MLXR_DFA_NONE; j++) s = gm_dfa_step(piece, s, text[j]);
            if (s == MLXR_DFA_NONE || !piece->d->accepts[s]) continue;
        }
        emit(v, k->memo->bits, q->node);
        branch(k, q->node, to, c->frame, c->used, true);
    }
}

/* Between two characters, with at least `min` and at most `max` more of them to come. */
static bool start_chars(mlxr_masker *k, uint64_t min, uint64_t max, uint32_t out, const gm_config *c)
{
    const mlxr_vocabulary *v = k->v;
    const gm_universe *u = &v->universe[GM_ANY_ESCAPES];
    uint32_t *bits = k->memo->bits;
    const uint32_t *from = max && max <= GM_NEAR ? u->near[max - 1] : u->stay;
    if (!only_quote(k, out)) return false;
    for (size_t i = 0; max && i < v->n_words; i++) bits[i] |= from[i];
    if (max > GM_NEAR)
        for (size_t i = 0; i < u->n_longer && u->longer_chars[i] > max; i++) gm_clear_bit(bits, u->longer[i]);
    leave_by_quotes(k, u, NULL, 0, min, max, out, c);
    return true;
}

/* Where a piece's states are as those of a universe: same[n_states], MLXR_DFA_NONE elsewhere. A pair is followed until it has
 * shown a difference or has come around. */
static uint32_t *compare(const mlxr_dfa *d, const mlxr_dfa *u)
{
    uint32_t *same = mlxr_malloc_array(d->n_states, sizeof *same), *queue, head, tail;
    queue = mlxr_malloc_array(d->n_states, sizeof *queue);
    if (!same || !queue) {
        free(same);
        free(queue);
        return NULL;
    }
    memset(same, 0xff, d->n_states * sizeof *same);
    for (uint32_t s = 0; s < d->n_states; s++) {
        bool equal = true;
        if (same[s] != MLXR_DFA_NONE) continue;
        head = tail = 0;
        same[s] = 0;
        queue[tail++] = s;
        while (head < tail && equal) {
            uint32_t a = queue[head++], b = same[a];
            equal = d->accepts[a] == u->accepts[b];
            for (unsigned byte = 0; byte < 256 && equal; byte++) {
                uint32_t x = mlxr_dfa_step(d, a, (uint8_t)byte), y = mlxr_dfa_step(u, b, (uint8_t)byte);
                if (x == MLXR_DFA_NONE || y == MLXR_DFA_NONE) {
                    equal = x == y;
                } else if (same[x] == MLXR_DFA_NONE) {
                    same[x] = y;
                    queue[tail++] = x;
                } else {
                    equal = same[x] == y;
                }
            }
        }
        if (!equal)
            while (tail) same[queue[--tail]] = MLXR_DFA_NONE;
    }
    free(queue);
    return same;
}

/* The states of a piece as a universe's, found out once; NULL: there are none. */
static const uint32_t *same_states(mlxr_masker *k, uint32_t dfa, int universe)
{
    gm_memo *m = k->memo;
    size_t at = (size_t)dfa * GM_UNIVERSES + (size_t)universe;
    const mlxr_dfa *d = k->g->dfas[dfa].d;
    bool some = false;
    if (!m->compared[at]) {
        m->compared[at] = true;
        m->same[at] = compare(d, k->v->universe[universe].dfa);
        for (uint32_t s = 0; m->same[at] && s < d->n_states; s++) some = some || m->same[at][s] == 0;
        if (!some) {
            free(m->same[at]);
            m->same[at] = NULL;
        } else {
            m->bytes += d->n_states * sizeof(uint32_t);
        }
    }
    return m->same[at];
}

/* Whether the walk from a state is nearly the universe's: most bytes lead to where it goes too. */
static bool is_close(const gm_dfa *piece, const uint32_t *same, const gm_universe *u, uint32_t from)
{
    unsigned n = 0, n_same = 0;
    if (same[from] != MLXR_DFA_NONE) return same[from] == 0;
    for (unsigned b = 0; b < 256; b++) {
        uint32_t x = gm_dfa_step(piece, from, (uint8_t)b), y = mlxr_dfa_step(u->dfa, 0, (uint8_t)b);
        n += y != MLXR_DFA_NONE;
        n_same += x != MLXR_DFA_NONE && same[x] == y;
    }
    return n_same * 2 > n;
}

/* From a state of a piece that is as a universe but for some texts (names that are listed elsewhere, say): the universe's mask,
 * and a walk through the part of the trie where they differ. */
static bool start_piece(mlxr_masker *k, uint32_t dfa, uint32_t from, uint32_t out, const gm_config *c)
{
    const mlxr_vocabulary *v = k->v;
    const gm_dfa *piece = &k->g->dfas[dfa];
    gm_memo *m = k->memo;
    const gm_universe *u = NULL;
    const uint32_t *same = NULL;
    uint32_t *there = m->name; /* the universe's states by depth */
    if (!v || !only_quote(k, out)) return false;
    for (int i = 0; i < GM_UNIVERSES && !u; i++) {
        same = same_states(k, dfa, i);
        if (same && is_close(piece, same, &v->universe[i], from)) u = &v->universe[i];
    }
    if (!u) return false;
    for (size_t i = 0; i < v->n_words; i++) m->bits[i] |= u->stay[i];
    m->state[0] = from;
    there[0] = 0;
    for (uint32_t i = 1; same[from] != 0 && i < v->n_nodes;) {
        uint32_t d = v->depth[i], x = gm_dfa_step(piece, m->state[d - 1], v->byte[i]), y = there[d - 1];
        if (y != MLXR_DFA_NONE) y = mlxr_dfa_step(u->dfa, y, v->byte[i]);
        if (x == MLXR_DFA_NONE) {
            for (uint32_t t = v->first[i]; y != MLXR_DFA_NONE && t < v->first[v->skip[i]]; t++)
                gm_clear_bit(m->bits, (uint32_t)v->tokens[t]);
            i = v->skip[i];
        } else if (y != MLXR_DFA_NONE && same[x] == y) {
            i = v->skip[i];
        } else {
            emit(v, m->bits, i);
            m->state[d] = x;
            there[d] = y;
            i++;
        }
    }
    leave_by_quotes(k, u, same[from] == 0 ? NULL : piece, from, 0, UINT64_MAX, out, c);
    return true;
}

static void start_place(mlxr_masker *k, const gm_config *c)
{
    const mlxr_grammar *g = k->g;
    gm_config rest = *c;
    for (uint32_t i = 0; i < k->places[rest.at].n_items; i++) {
        uint64_t item = k->places[rest.at].items[i];
        const gm_node *n = &g->nodes[item >> 32];
        uint32_t out, without;
        if (n->kind != GM_DFA) continue;
        out = gm_place_of_node(k, n->out, k->places[rest.at].variant);
        if (k->status != MLXR_OK || !start_piece(k, n->a, (uint32_t)item, out, c)) continue;
        without = gm_place_without(k, rest.at, item);
        if (without == GM_DEAD) return;
        rest.at = without;
        i--;
        /* Bits that were cleared are the piece's own: a second one would clear those of the first. */
        break;
    }
    if (k->status == MLXR_OK) walk_place(k, 0, &rest);
}

static void begin(mlxr_masker *k, uint32_t rule)
{
    gm_memo *m = k->memo;
    memset(m->bits, 0, k->v->n_words * sizeof *m->bits);
    for (size_t i = 0; i < m->n_seen; i++) m->table[m->seen[i].slot] = 0;
    m->names_matter = k->g->rules[rule].counted && k->g->rules[rule].has_unique;
    m->n_seen = m->n_pending = m->n_leaves = 0;
    m->keeps_names = false;
}

static int by_node(const void *a, const void *b)
{
    const gm_leaf *x = a, *y = b;
    if (x->node != y->node) return x->node < y->node ? -1 : 1;
    return x->used < y->used ? -1 : x->used > y->used;
}

/* The walk's bits and leaves as an entry. */
static gm_entry *finish(mlxr_masker *k, const uint64_t key[5])
{
    const mlxr_vocabulary *v = k->v;
    gm_memo *m = k->memo;
    gm_entry *e;
    size_t count = 0, n = 0;
    if (k->status != MLXR_OK) return NULL;
    e = calloc(1, sizeof *e);
    if (!e) goto failed;
    memcpy(e->key, key, sizeof e->key);
    e->uid = k->next_uid++;
    for (size_t i = 0; i < v->n_words; i++) count += (size_t)__builtin_popcount(m->bits[i]);
    if (count > v->n_words / 2) {
        e->dense = mlxr_malloc_array(v->n_words, sizeof *e->dense);
        if (!e->dense) goto failed;
        memcpy(e->dense, m->bits, v->n_words * sizeof *e->dense);
    } else {
        e->list = mlxr_malloc_array(count, sizeof *e->list);
        if (!e->list) goto failed;
        for (size_t i = 0; i < v->n_words; i++)
            for (uint32_t w = m->bits[i]; w; w &= w - 1)
                e->list[e->n_list++] = (uint32_t)(i * 32) + (uint32_t)__builtin_ctz(w);
    }
    if (m->n_leaves) {
        qsort(m->leaves, m->n_leaves, sizeof *m->leaves, by_node);
        for (size_t i = 0; i < m->n_leaves; i++)
            if (!n || m->leaves[n - 1].node != m->leaves[i].node ||
                m->leaves[n - 1].used != m->leaves[i].used)
                m->leaves[n++] = m->leaves[i];
        e->leaves = mlxr_malloc_array(n, sizeof *e->leaves);
        if (!e->leaves) goto failed;
        memcpy(e->leaves, m->leaves, n * sizeof *e->leaves);
        e->n_leaves = (uint32_t)n;
    }
    return e;
failed:
    entry_free(e);
    nomem(k);
    return NULL;
}

/* ---- the chain ---- */

/* What a token can tell of a distance to a bound. */
static uint64_t near(const mlxr_vocabulary *v, uint64_t count, uint64_t bound)
{
    uint64_t left = bound > count ? bound - count : 0;
    return left > v->max_bytes + 1 ? v->max_bytes + 1 : left;
}

static void make_first(mlxr_masker *k, const gm_config *c, uint32_t start, bool unchecked)
{
    begin(k, c->kind == GM_PLACE ? k->places[c->at].rule : k->g->nodes[c->at].rule);
    if (c->kind == GM_PLACE) {
        if (start)
            walk_place(k, start, c);
        else
            start_place(k, c);
    } else if (c->kind == GM_CHARS) {
        const gm_node *n = &k->g->nodes[c->at];
        gm_bounds b = k->g->bounds[n->b];
        uint32_t out = gm_place_behind(k, n, c->used);
        if (k->status != MLXR_OK) return;
        if (start || c->state ||
            !start_chars(k, b.min > c->count ? b.min - c->count : 0,
                         b.max == UINT64_MAX ? UINT64_MAX : b.max - c->count, out, c))
            walk_chars(k, start, c);
    } else if (!unchecked) {
        walk_unique(k, start, c);
    } else {
        const gm_node *n = &k->g->nodes[c->at];
        uint32_t out = gm_place_of_node(k, n->out, 0);
        if (k->status == MLXR_OK && !start_piece(k, n->a, c->state, out, c))
            walk_piece(k, &k->g->dfas[n->a], c->state, out, c);
    }
    walk_pending(k);
}

static uint64_t used_uid(const mlxr_masker *k, uint32_t used)
{
    return used >= GM_OBJ_FIRST ? k->objs[used].uid : 0;
}

/* The key of what depends on the used names, and on the name that is being read. */
static void complete_key(const mlxr_masker *k, uint64_t key[5], const gm_config *c)
{
    key[4] = used_uid(k, k->open_used) + 1;
    if (c && c->kind == GM_UNIQUE) key[2] = k->objs[c->name].uid + 1;
}

/* The entry of a key; complete or not. */
static gm_entry *look_up(mlxr_masker *k, uint64_t key[5], const gm_config *c)
{
    gm_entry *e = find(k->memo, key);
    if (!e || !e->depends) return e;
    complete_key(k, key, c);
    return find(k->memo, key);
}

/* Keeps what the walk has found, under what it depends on. */
static gm_entry *settle(mlxr_masker *k, uint64_t key[5], const gm_config *c, bool once)
{
    gm_memo *m = k->memo;
    gm_entry *e = finish(k, key);
    if (!e) return NULL;
    if (once || m->keeps_names) { /* its leaves hold objects that may be collected: for this time alone */
        e->once = true;
        e->next = m->once;
        m->once = e;
        return e;
    }
    if (k->open_consulted && !key[4]) {
        gm_entry *mark = calloc(1, sizeof *mark);
        if (!mark) {
            entry_free(e);
            nomem(k);
            return NULL;
        }
        memcpy(mark->key, key, sizeof mark->key);
        mark->depends = true;
        keep(k, mark);
        complete_key(k, key, c);
        memcpy(e->key, key, sizeof e->key);
    }
    keep(k, e);
    return e;
}

static bool has_end(const mlxr_masker *k, uint32_t name, uint32_t prefix)
{
    uint32_t n = k->objs[prefix].depth;
    if (k->objs[name].depth < n) return false;
    while (k->objs[name].depth > n) name = k->objs[name].parent;
    return name == prefix;
}

/* Whether the mask inside a GM_UNIQUE can be had from the one that is made as if no name was used: a used name that begins like
 * this one must be so that it takes away the tokens that end it, and nothing else. fixes: these tokens' nodes, when e is
 * that mask's entry. */
static bool is_fixable(mlxr_masker *k, const gm_config *c, const gm_entry *e, uint32_t *fixes,
                       size_t max_fixes, size_t *n_fixes)
{
    const mlxr_vocabulary *v = k->v;
    const gm_node *n = &k->g->nodes[c->at];
    const gm_dfa *d = &k->g->dfas[n->a];
    uint32_t out = gm_place_of_node(k, n->out, 0);
    *n_fixes = 0;
    if (k->status != MLXR_OK || out == GM_DEAD || !k->places[out].simple ||
        d->counts[c->state] != UINT64_MAX || k->g->rules[k->g->rules[n->rule].owner].n_needs)
        return false;
    for (uint32_t used = c->used; used >= GM_OBJ_FIRST; used = k->objs[used].parent) {
        uint32_t name = k->objs[used].a, length, node = 0, s = c->state, at;
        if (!has_end(k, name, c->name)) continue;
        length = k->objs[name].depth - k->objs[c->name].depth;
        k->bytes.len = 0;
        if (!mlxr_buf_reserve(&k->bytes, length + 1)) return false;
        for (uint32_t i = length; i > 0; i--, name = k->objs[name].parent)
            k->bytes.data[i - 1] = (char)k->objs[name].a;
        if (!only_quote(k, out)) return false;
        for (uint32_t i = 0; i < length; i++) {
            uint8_t byte = (uint8_t)k->bytes.data[i];
            s = gm_dfa_step(d, s, byte);
            if (s == MLXR_DFA_NONE) break;
            if (d->counts[s] != UINT64_MAX) return false;
            at = node + 1;
            while (node != GM_NONE && at < v->skip[node] && v->byte[at] != byte) at = v->skip[at];
            if (node != GM_NONE) node = at < v->skip[node] ? at : GM_NONE;
        }
        if (!length || s == MLXR_DFA_NONE || node == GM_NONE) continue;
        if (gm_dfa_step(d, s, '"') != MLXR_DFA_NONE) return false;
        for (at = node + 1; at < v->skip[node] && v->byte[at] != '"';) at = v->skip[at];
        if (at >= v->skip[node]) continue;
        for (uint32_t i = 0; e && i < e->n_leaves; i++)
            if (e->leaves[i].node >= at && e->leaves[i].node < v->skip[at]) return false;
        if (*n_fixes == max_fixes) return false;
        fixes[(*n_fixes)++] = at;
    }
    return true;
}

/* The entry of a configuration by itself, from a node of the trie on. unchecked: of a GM_UNIQUE as if no name was used; NULL
 * when that does not do. */
static gm_entry *first_entry(mlxr_masker *k, const gm_config *config, uint32_t start, bool unchecked)
{
    const mlxr_vocabulary *v = k->v;
    gm_config c = *config;
    uint32_t rule = c.kind == GM_PLACE ? k->places[c.at].rule : k->g->nodes[c.at].rule;
    uint64_t key[5] = {c.kind | (uint64_t)start << 8, 0, 0, 0, 0};
    gm_entry *e;

    if (c.frame >= GM_OBJ_FIRST) c.frame = GM_FRAME_OPEN;
    key[0] |= (uint64_t)c.frame << 48;
    k->open_used = c.used;
    k->open_consulted = false;
    if (k->g->rules[rule].has_unique) c.used = GM_USED_OPEN;
    if (c.kind == GM_PLACE) {
        key[1] = k->places[c.at].uid;
    } else if (c.kind == GM_CHARS) {
        gm_bounds b = k->g->bounds[k->g->nodes[c.at].b];
        key[1] = (uint64_t)c.at << 32 | c.state;
        key[2] = near(v, c.count, b.min);
        key[3] = near(v, c.count, b.max);
    } else {
        key[1] = (uint64_t)c.at << 32 | c.state;
        if (unchecked) {
            e = find(k->memo, key);
            if (e) return e->depends ? NULL : e;
            make_first(k, &c, start, true);
            if (k->open_consulted && k->status == MLXR_OK) {
                e = calloc(1, sizeof *e); /* as a mark: there is a second name within a token */
                if (!e) {
                    nomem(k);
                    return NULL;
                }
                memcpy(e->key, key, sizeof e->key);
                e->depends = true;
                keep(k, e);
                return NULL;
            }
            return settle(k, key, &c, false);
        }
        complete_key(k, key, &c);
    }
    if ((e = look_up(k, key, &c)) != NULL) return e;
    make_first(k, &c, start, false);
    return settle(k, key, &c, false);
}

/* What the leaves of e lead to on a stack that has frame there. */
static gm_entry *next_entry(mlxr_masker *k, gm_entry *e, uint32_t frame)
{
    const mlxr_vocabulary *v = k->v;
    const mlxr_grammar *g = k->g;
    const gm_obj f = k->objs[frame];
    bool call = f.kind == GM_FRAME_CALL;
    uint32_t below = f.parent >= GM_OBJ_FIRST ? GM_FRAME_OPEN : f.parent;
    uint32_t rule = call ? k->places[f.a].rule : g->nodes[f.a].rule;
    uint64_t key[5] = {0x80 | (uint64_t)below << 48, e->uid, 0, 0, 0};
    gm_entry *found;
    gm_set *s = &k->set[1];

    if (call) {
        key[2] = k->places[f.a].uid;
        k->open_used = f.b;
    } else {
        gm_bounds b = g->bounds[g->nodes[f.a].b];
        key[0] |= 1;
        key[2] = f.a;
        key[3] = near(v, f.n, b.min) << 32 | near(v, f.n, b.max);
    }
    k->open_consulted = false;
    if ((found = look_up(k, key, NULL)) != NULL) return found;
    begin(k, rule);
    for (uint32_t i = 0; i < e->n_leaves && k->status == MLXR_OK; i++) {
        gm_leaf at = e->leaves[i];
        if (!i || !call) { /* behind a call it is the same at all leaves */
            gm_set_clear(s);
            k->n_left = 0;
            if (call) {
                gm_config c = {.kind = GM_PLACE, .at = f.a, .frame = below};
                if (g->rules[rule].has_unique) c.used = GM_USED_OPEN;
                gm_set_add(k, s, &c, 0);
            } else {
                gm_add_run(k, s, &f, below, at.used);
            }
            if (!gm_pardon(k)) break;
        }
        for (size_t j = 0; below == GM_FRAME_OPEN && j < k->n_left; j++) leaf(k, at.node, k->left[j]);
        for (size_t j = 0; j < s->n; j++)
            if (gm_reads(k, &s->c[j])) pend(k, at.node, &s->c[j]);
    }
    walk_pending(k);
    return settle(k, key, NULL, e->once);
}

static void sum(const mlxr_vocabulary *v, uint32_t *mask, const gm_entry *e)
{
    if (e->dense)
        for (size_t i = 0; i < v->n_words; i++) mask[i] |= e->dense[i];
    for (uint32_t i = 0; i < e->n_list; i++) gm_set_bit(mask, e->list[i]);
}

/* The first entry of a GM_UNIQUE from the one that all states of used names share; NULL: that does not do here. Into a
 * result that is empty yet, so that what is taken away is this entry's own. */
static gm_entry *add_unique(mlxr_masker *k, const gm_config *c, bool *first)
{
    const mlxr_vocabulary *v = k->v;
    uint32_t fixes[64];
    size_t n_fixes;
    gm_entry *e;
    if (!is_fixable(k, c, NULL, fixes, MLXR_COUNT(fixes), &n_fixes) || (n_fixes && !*first)) return NULL;
    e = first_entry(k, c, 0, true);
    if (!e || (n_fixes && !is_fixable(k, c, e, fixes, MLXR_COUNT(fixes), &n_fixes))) return NULL;
    sum(v, k->memo->result, e);
    for (size_t i = 0; i < n_fixes; i++)
        for (uint32_t t = v->first[fixes[i]]; t < v->first[v->skip[fixes[i]]]; t++)
            gm_clear_bit(k->memo->result, (uint32_t)v->tokens[t]);
    *first = false;
    return e;
}

static void add_config(mlxr_masker *k, const gm_config *c, uint32_t start, bool *first)
{
    gm_entry *e = c->kind == GM_UNIQUE && !start ? add_unique(k, c, first) : NULL;
    uint32_t frame = c->frame;
    if (!e && k->status == MLXR_OK) {
        e = first_entry(k, c, start, false);
        if (e) sum(k->v, k->memo->result, e);
        *first = false;
    }
    while (e && e->n_leaves && frame >= GM_OBJ_FIRST) {
        e = next_entry(k, e, frame);
        if (e) sum(k->v, k->memo->result, e);
        frame = k->objs[frame].parent;
    }
}

mlxr_status mlxr_matcher_mask(const uint32_t **mask, mlxr_matcher *m, mlxr_error *err)
{
    mlxr_masker *k = m->k;
    bool first = true;
    *mask = NULL;
    if (!k->v)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "grammar: a masker without a vocabulary has no masks");
    gm_safe_point(k);
    if (!k->memo && !memo_init(k)) return mlxr_fail_nomem(err, "grammar: masks");
    memset(k->memo->result, 0, k->v->n_words * sizeof *k->memo->result);
    k->lenient = true;
    for (int pass = 0; pass < 2; pass++) /* names first: see add_unique */
        for (size_t i = 0; i < m->set.n && k->status == MLXR_OK; i++)
            if (gm_reads(k, &m->set.c[i]) && (m->set.c[i].kind == GM_UNIQUE) == (pass == 0))
                add_config(k, &m->set.c[i], 0, &first);
    if (m->at_start && k->v->space && k->status == MLXR_OK) {
        emit(k->v, k->memo->result, k->v->space);
        for (size_t i = 0; i < m->set.n && k->status == MLXR_OK; i++)
            if (gm_reads(k, &m->set.c[i])) add_config(k, &m->set.c[i], k->v->space, &first);
    }
    k->lenient = false;
    while (k->memo->once) {
        gm_entry *e = k->memo->once;
        k->memo->once = e->next;
        entry_free(e);
    }
    *mask = k->memo->result;
    return gm_told(k, err);
}

mlxr_status mlxr_matcher_accept(mlxr_matcher *m, int32_t id, mlxr_error *err)
{
    const mlxr_vocabulary *v = m->k->v;
    bool fits = false;
    mlxr_status st;
    if (!v)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "grammar: a masker without a vocabulary takes no ids");
    if (id >= 0 && (size_t)id < v->vocab_size && v->offset[id + 1] > v->offset[id]) {
        st = gm_accept_bytes(m, v->bytes + v->offset[id], v->offset[id + 1] - v->offset[id], &fits, err);
        if (st != MLXR_OK) return st;
    }
    if (fits) return MLXR_OK;
    return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "grammar: token %d does not fit here", (int)id);
}
