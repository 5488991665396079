/* matcher: configurations and how bytes move them.
 *
 * A set holds every configuration that the text so far can be in, those that only lead on (a call, an end of a body) with
 * those that read: all of them are found when a set is made, so that a step looks at nothing but the next byte. */
#include <stdlib.h>

#include "engine/grammar/machine.h"

/* ---- sets ---- */

void gm_set_clear(gm_set *s)
{
    s->n = 0;
    s->n_slots = 0;
    s->ends = false;
}

void gm_set_free(gm_set *s)
{
    free(s->c);
    free(s->fresh);
    free(s->slots);
    *s = (gm_set){0};
}

static bool reserve(gm_set *s, size_t n)
{
    size_t cap = s->cap;
    uint32_t *fresh;
    if (n <= s->cap) return true;
    if (!gm_grow(&s->c, &cap, 0, n, sizeof *s->c)) return false;
    fresh = mlxr_realloc_array(s->fresh, cap, sizeof *fresh);
    if (!fresh) return false;
    s->fresh = fresh;
    s->cap = cap;
    return true;
}

bool gm_set_copy(gm_set *to, const gm_set *from)
{
    gm_set_clear(to);
    if (!reserve(to, from->n)) return false;
    if (from->n) {
        memcpy(to->c, from->c, from->n * sizeof *to->c);
        memcpy(to->fresh, from->fresh, from->n * sizeof *to->fresh);
    }
    to->n = from->n;
    to->ends = from->ends;
    return true;
}

static size_t config_hash(const gm_config *c)
{
    uint64_t h = (uint64_t)c->at << 32 | c->frame;
    h = (h ^ ((uint64_t)c->used << 32 | c->state)) * 0x9e3779b97f4a7c15u;
    h ^= h >> 31;
    h = (h ^ ((uint64_t)c->name << 3 | c->kind)) * 0x9e3779b97f4a7c15u;
    h ^= h >> 31;
    h = (h ^ c->count) * 0x9e3779b97f4a7c15u;
    return (size_t)(h ^ h >> 32);
}

static bool same(const gm_config *a, const gm_config *b)
{
    return a->at == b->at && a->frame == b->frame && a->used == b->used && a->kind == b->kind &&
           a->state == b->state && a->name == b->name && a->count == b->count;
}

enum { SMALL_SET = 12 }; /* up to here looking at all is quicker than a table */

/* The index of c in s, added when it is new; SIZE_MAX: out of memory. */
static size_t insert(gm_set *s, const gm_config *c, bool *is_new)
{
    size_t at;
    *is_new = false;
    if (s->n <= SMALL_SET) {
        for (size_t i = 0; i < s->n; i++)
            if (same(&s->c[i], c)) return i;
    } else {
        if (s->n * 2 > s->n_slots) {
            size_t n = s->n_slots ? 2 * s->n_slots : 64;
            while (n < s->n * 3) n *= 2;
            free(s->slots);
            s->slots = mlxr_calloc_array(n, sizeof *s->slots);
            s->n_slots = s->slots ? n : 0;
            if (!s->slots) return SIZE_MAX;
            for (size_t i = 0; i < s->n; i++) {
                for (at = config_hash(&s->c[i]) & (n - 1); s->slots[at];) at = (at + 1) & (n - 1);
                s->slots[at] = (uint32_t)i + 1;
            }
        }
        for (at = config_hash(c) & (s->n_slots - 1); s->slots[at]; at = (at + 1) & (s->n_slots - 1))
            if (same(&s->c[s->slots[at] - 1], c)) return s->slots[at] - 1;
        s->slots[at] = (uint32_t)s->n + 1;
    }
    if (!reserve(s, s->n + 1)) return SIZE_MAX;
    s->c[s->n] = *c;
    *is_new = true;
    return s->n++;
}

/* ---- what a configuration leads to without reading ---- */

static bool put(mlxr_masker *k, gm_set *s, const gm_config *c, uint32_t fresh)
{
    bool is_new;
    size_t i = insert(s, c, &is_new);
    if (i == SIZE_MAX) {
        gm_fail(k, MLXR_E_NOMEM, "grammar: out of memory");
        return false;
    }
    if (++k->n_steps / GM_STEPS >= k->g->limits.max_configurations) {
        k->lenient = false; /* of the whole call, not of one way */
        gm_fail(k, MLXR_E_LIMIT, "grammar: the text can be read in so many ways that a step takes too long");
        return false;
    }
    if (!is_new && (!k->g->has_nullable_repeat || fresh >= s->fresh[i])) return true;
    s->fresh[i] = fresh;
    if (s->n > k->g->limits.max_configurations) {
        gm_fail(k, MLXR_E_LIMIT, "grammar: the text can be read in more ways at once than the limit allows");
        return false;
    }
    if (k->n_work == k->cap_work && !gm_grow(&k->work, &k->cap_work, k->n_work, 1, sizeof *k->work)) {
        gm_fail(k, MLXR_E_NOMEM, "grammar: out of memory");
        return false;
    }
    k->work[k->n_work++] = (uint32_t)i;
    return true;
}

static bool put_place(mlxr_masker *k, gm_set *s, uint32_t place, uint32_t frame, uint32_t used,
                      uint32_t fresh)
{
    gm_config c = {.kind = GM_PLACE, .at = place, .frame = frame, .used = used};
    if (k->status != MLXR_OK) return false;
    return place == GM_DEAD || put(k, s, &c, fresh);
}

/* Behind a node, with these names used. */
static bool put_behind(mlxr_masker *k, gm_set *s, const gm_node *n, uint32_t frame, uint32_t used,
                       uint32_t fresh)
{
    return put_place(k, s, gm_place_behind(k, n, used), frame, used, fresh);
}

static bool put_chars(mlxr_masker *k, gm_set *s, uint32_t node, uint32_t state, uint64_t count,
                      const gm_config *at, uint32_t fresh)
{
    const gm_node *n = &k->g->nodes[node];
    const gm_bounds *b = &k->g->bounds[n->b];
    gm_config c = {.kind = GM_CHARS, .at = node, .frame = at->frame, .used = at->used, .state = state};
    c.count = b->max == UINT64_MAX && count > b->min ? b->min : count;
    if (state == 0 && count >= b->min && !put_behind(k, s, n, at->frame, at->used, fresh)) return false;
    return (state == 0 && count >= b->max) || put(k, s, &c, fresh);
}

static bool put_unique(mlxr_masker *k, gm_set *s, uint32_t node, uint32_t state, uint32_t name,
                       const gm_config *at, uint32_t fresh)
{
    const gm_node *n = &k->g->nodes[node];
    const gm_dfa *d = &k->g->dfas[n->a];
    gm_config c = {.kind = GM_UNIQUE, .at = node, .frame = at->frame, .used = at->used, .state = state};
    c.name = name;
    gm_consult(k, at->used);
    if (d->d->accepts[state] && !gm_is_used(k, at->used, name)) {
        uint32_t used = gm_obj_make(k, GM_USED, at->used, name, 0, 0);
        if (used == GM_NONE || !put_behind(k, s, n, at->frame, used, fresh)) return false;
    }
    if (!d->goes_on[state] || !gm_unique_open(k, n, state, name, at->used)) return k->status == MLXR_OK;
    return put(k, s, &c, fresh);
}

/* Into the body of a counted repeat, for the run behind `count` ones. */
static bool put_run(mlxr_masker *k, gm_set *s, uint32_t node, uint64_t count, uint32_t parent, uint32_t used,
                    uint32_t fresh)
{
    const gm_node *n = &k->g->nodes[node];
    const gm_bounds *b = &k->g->bounds[n->b];
    uint32_t frame;
    if (count >= b->max || !gm_enough_for_run(k, n, count, used)) return true;
    if (b->max == UINT64_MAX && count > b->min) count = b->min;
    frame = gm_obj_make(k, GM_FRAME_REPEAT, parent, node, 0, count);
    if (frame == GM_NONE) return false;
    return put_place(k, s, gm_place_of_node(k, k->g->rules[n->a].entry, gm_variant_of(k, n->rule, used)),
                     frame, used, fresh + 1);
}

/* The end of what a mask is made for, once for all of the same names. */
static bool note_left(mlxr_masker *k, uint32_t used)
{
    for (size_t i = 0; i < k->n_left; i++)
        if (k->left[i] == used) return true;
    if (!gm_grow(&k->left, &k->cap_left, k->n_left, 1, sizeof *k->left)) {
        gm_fail(k, MLXR_E_NOMEM, "grammar: out of memory");
        return false;
    }
    k->left[k->n_left++] = used;
    return true;
}

static bool end_run(mlxr_masker *k, gm_set *s, const gm_obj *f, uint32_t below, uint32_t used)
{
    const gm_node *n = &k->g->nodes[f->a];
    uint64_t count = f->n + 1;
    if (count >= k->g->bounds[n->b].min && !put_behind(k, s, n, below, used, 0)) return false;
    return put_run(k, s, f->a, count, below, used, 0);
}

/* The end of a body. */
static bool leave(mlxr_masker *k, gm_set *s, const gm_config *c, uint32_t fresh)
{
    const gm_obj f = k->objs[c->frame];
    if (c->frame < GM_OBJ_FIRST) {
        s->ends = true;
        return c->frame != GM_FRAME_OPEN || note_left(k, c->used);
    }
    if (f.kind == GM_FRAME_CALL) return put_place(k, s, f.a, f.parent, f.b, fresh ? fresh - 1 : 0);
    /* A run that reads nothing does not count: it would only use up the others. */
    return fresh || end_run(k, s, &f, f.parent, c->used);
}

static bool call(mlxr_masker *k, gm_set *s, const gm_config *c, uint32_t i_exit, uint32_t fresh)
{
    uint32_t rule = k->places[c->at].exits[i_exit].rule;
    uint32_t ret = gm_exit_return(k, c->at, i_exit), frame = c->frame;
    uint32_t entry = gm_place_of_node(k, k->g->rules[rule].entry, gm_variant_of(k, rule, GM_USED_NONE));
    if (k->status != MLXR_OK) return false;
    if (ret == GM_DEAD || entry == GM_DEAD) return true;
    /* Nothing comes behind the call: its end is the end of this body too. In a counted body the names used so far live on. */
    if (k->places[ret].only_accepts && !k->g->rules[k->places[c->at].rule].counted)
        return put_place(k, s, entry, frame, GM_USED_NONE, fresh);
    frame = gm_obj_make(k, GM_FRAME_CALL, c->frame, ret, c->used, 0);
    return frame != GM_NONE && put_place(k, s, entry, frame, GM_USED_NONE, fresh + 1);
}

static bool expand(mlxr_masker *k, gm_set *s, uint32_t i)
{
    const gm_config c = s->c[i];
    uint32_t fresh = s->fresh[i], n_exits, n_items;
    if (c.kind != GM_PLACE || k->places[c.at].simple) return true;
    if (k->places[c.at].accepts && !leave(k, s, &c, fresh)) return false;
    n_exits = k->places[c.at].n_exits;
    for (uint32_t e = 0; e < n_exits; e++)
        if (!call(k, s, &c, e, fresh)) return false;
    if (!k->places[c.at].has_special) return true;
    n_items = k->places[c.at].n_items;
    for (uint32_t j = 0; j < n_items; j++) {
        uint32_t at = (uint32_t)(k->places[c.at].items[j] >> 32);
        const gm_node *n = &k->g->nodes[at];
        if (n->kind == GM_CHARS) {
            if (!put_chars(k, s, at, 0, 0, &c, fresh)) return false;
        } else if (n->kind == GM_UNIQUE) {
            if (!put_unique(k, s, at, 0, GM_NAME_EMPTY, &c, fresh)) return false;
        } else if (n->kind == GM_REPEAT) {
            if (!k->g->bounds[n->b].min && !put_behind(k, s, n, c.frame, c.used, fresh)) return false;
            if (!put_run(k, s, at, 0, c.frame, c.used, fresh)) return false;
        }
    }
    return true;
}

static bool expand_all(mlxr_masker *k, gm_set *s)
{
    while (k->n_work)
        if (!expand(k, s, k->work[--k->n_work])) return false;
    return k->status == MLXR_OK;
}

bool gm_set_add(mlxr_masker *k, gm_set *s, const gm_config *c, uint32_t fresh)
{
    k->n_work = 0;
    return put(k, s, c, fresh) && expand_all(k, s);
}

bool gm_add_run(mlxr_masker *k, gm_set *s, const gm_obj *f, uint32_t below, uint32_t used)
{
    k->n_work = 0;
    return end_run(k, s, f, below, used) && expand_all(k, s);
}

bool gm_step_config(mlxr_masker *k, gm_set *s, const gm_config *c, uint8_t byte)
{
    const mlxr_grammar *g = k->g;
    uint32_t state, name;
    k->n_work = 0;
    if (c->kind == GM_PLACE) {
        if (!k->places[c->at].n_reading) return true;
        if (!put_place(k, s, gm_place_next(k, c->at, byte), c->frame, c->used, 0)) return false;
    } else if (c->kind == GM_CHARS) {
        state = gm_chars_step((uint8_t)c->state, byte);
        if (state == GM_CHARS_DEAD) return true;
        if (!put_chars(k, s, c->at, state, c->count + (state == 0), c, 0)) return false;
    } else {
        state = gm_dfa_step(&g->dfas[g->nodes[c->at].a], c->state, byte);
        if (state == MLXR_DFA_NONE) return true;
        name = gm_obj_make(k, GM_NAME, c->name, byte, 0, 0);
        if (name == GM_NONE || !put_unique(k, s, c->at, state, name, c, 0)) return false;
    }
    return expand_all(k, s);
}

bool gm_step(mlxr_masker *k, gm_set *to, const gm_set *from, uint8_t byte)
{
    gm_set_clear(to);
    for (size_t i = 0; i < from->n; i++)
        if (!gm_step_config(k, to, &from->c[i], byte) && !gm_pardon(k)) return false;
    return true;
}

bool gm_start(mlxr_masker *k, gm_set *s)
{
    uint32_t entry = k->g->rules[k->g->root].entry;
    gm_set_clear(s);
    k->n_work = 0;
    return put_place(k, s, gm_place_of_node(k, entry, gm_variant_of(k, k->g->root, GM_USED_NONE)),
                     GM_FRAME_BOTTOM, GM_USED_NONE, 0) &&
           expand_all(k, s);
}

void gm_config_first(mlxr_masker *k, const gm_config *c, uint64_t first[4])
{
    if (c->kind == GM_PLACE) {
        gm_place_first(k, c->at);
        for (int i = 0; i < 4; i++) first[i] |= k->places[c->at].first[i];
        return;
    }
    for (unsigned b = 0; b < 256; b++) {
        bool goes = c->kind == GM_CHARS ? gm_chars_step((uint8_t)c->state, (uint8_t)b) != GM_CHARS_DEAD
                                        : gm_dfa_step(&k->g->dfas[k->g->nodes[c->at].a], c->state,
                                                      (uint8_t)b) != MLXR_DFA_NONE;
        if (goes) first[b >> 6] |= (uint64_t)1 << (b & 63);
    }
}

/* ---- matchers ---- */

static void link_in(mlxr_matcher *m, mlxr_masker *k)
{
    m->k = k;
    m->next = k->matchers;
    if (m->next) m->next->prev = m;
    k->matchers = m;
}

mlxr_status mlxr_matcher_create(mlxr_matcher **out, mlxr_masker *k, mlxr_error *err)
{
    mlxr_matcher *m = calloc(1, sizeof *m);
    *out = NULL;
    if (!m) return mlxr_fail_nomem(err, "grammar: matcher");
    link_in(m, k);
    k->n_steps = 0;
    gm_start(k, &m->set);
    if (k->status != MLXR_OK) {
        mlxr_matcher_free(m);
        return gm_told(k, err);
    }
    m->at_start = k->v && gm_vocabulary_strips(k->v);
    *out = m;
    return MLXR_OK;
}

mlxr_status mlxr_matcher_clone(mlxr_matcher **out, const mlxr_matcher *m, mlxr_error *err)
{
    mlxr_matcher *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c) return mlxr_fail_nomem(err, "grammar: matcher");
    link_in(c, m->k);
    c->at_start = m->at_start;
    if (!gm_set_copy(&c->set, &m->set)) {
        mlxr_matcher_free(c);
        return mlxr_fail_nomem(err, "grammar: matcher");
    }
    *out = c;
    return MLXR_OK;
}

void mlxr_matcher_free(mlxr_matcher *m)
{
    if (!m) return;
    if (m->prev)
        m->prev->next = m->next;
    else if (m->k)
        m->k->matchers = m->next;
    if (m->next) m->next->prev = m->prev;
    gm_set_free(&m->set);
    free(m);
}

bool mlxr_matcher_may_end(const mlxr_matcher *m)
{
    return m->set.ends;
}

bool gm_reads(const mlxr_masker *k, const gm_config *c)
{
    return c->kind != GM_PLACE || k->places[c->at].n_reading;
}

bool mlxr_matcher_must_end(const mlxr_matcher *m)
{
    if (!m->set.ends || m->at_start) return false;
    for (size_t i = 0; i < m->set.n; i++)
        if (gm_reads(m->k, &m->set.c[i])) return false;
    return true;
}

/* Something a text can still become. */
static bool alive(const mlxr_masker *k, const gm_set *s)
{
    if (s->ends) return true;
    for (size_t i = 0; i < s->n; i++)
        if (gm_reads(k, &s->c[i])) return true;
    return false;
}

static void swap(gm_set *a, gm_set *b)
{
    gm_set t = *a;
    *a = *b;
    *b = t;
}

void gm_safe_point(mlxr_masker *k)
{
    bool places = k->n_alive > k->g->limits.max_places;
    k->n_steps = 0;
    if (places || k->n_objs - k->n_free_objs > k->collect_at) gm_collect(k, places);
    if (gm_memo_bytes(k) > GM_MEMO_BYTES) gm_memo_trim(k, GM_MEMO_BYTES / 2);
}

/* From m's set over k->set[0]; how many bytes fit. The set behind them is in k->set[0]. */
static size_t run(mlxr_matcher *m, const uint8_t *bytes, size_t n, bool *at_start)
{
    mlxr_masker *k = m->k;
    size_t i;
    if (!gm_set_copy(&k->set[0], &m->set)) {
        gm_fail(k, MLXR_E_NOMEM, "grammar: out of memory");
        return 0;
    }
    for (i = 0; i < n; i++) {
        if (!gm_step(k, &k->set[1], &k->set[0], bytes[i])) break;
        if (*at_start && bytes[i] == ' ') { /* the one that is not shown */
            for (size_t j = 0; j < k->set[0].n; j++)
                if (!gm_set_add(k, &k->set[1], &k->set[0].c[j], 0)) return i;
            k->set[1].ends |= k->set[0].ends;
        }
        if (!alive(k, &k->set[1])) break;
        swap(&k->set[0], &k->set[1]);
        *at_start = false;
    }
    return i;
}

mlxr_status mlxr_matcher_push(size_t *n_taken, mlxr_matcher *m, const void *bytes, size_t n, mlxr_error *err)
{
    mlxr_masker *k = m->k;
    *n_taken = 0;
    gm_safe_point(k);
    *n_taken = run(m, bytes, n, &m->at_start);
    swap(&m->set, &k->set[0]);
    return gm_told(k, err);
}

mlxr_status gm_accept_bytes(mlxr_matcher *m, const uint8_t *bytes, size_t n, bool *fits, mlxr_error *err)
{
    bool at_start = m->at_start;
    gm_safe_point(m->k);
    m->k->lenient = true; /* as masks are made */
    m->k->left_out = false;
    *fits = run(m, bytes, n, &at_start) == n && m->k->status == MLXR_OK;
    m->k->lenient = false;
    if (!*fits && m->k->left_out && m->k->status == MLXR_OK)
        m->k->status = MLXR_E_LIMIT; /* and its message */
    if (*fits) {
        swap(&m->set, &m->k->set[0]);
        m->at_start = at_start;
    }
    return gm_told(m->k, err);
}

void mlxr_matcher_next_bytes(bool out[256], const mlxr_matcher *m)
{
    mlxr_masker *k = m->k;
    uint64_t first[4] = {0};
    k->n_steps = 0;
    for (size_t i = 0; i < m->set.n; i++) {
        const gm_config *c = &m->set.c[i];
        if (c->kind == GM_UNIQUE) { /* may lead to a name that is used up */
            for (unsigned b = 0; b < 256; b++) {
                gm_set_clear(&k->set[1]);
                if (gm_step_config(k, &k->set[1], c, (uint8_t)b) && alive(k, &k->set[1]))
                    first[b >> 6] |= (uint64_t)1 << (b & 63);
            }
        } else {
            gm_config_first(k, c, first);
        }
    }
    if (m->at_start) first[' ' >> 6] |= (uint64_t)1 << (' ' & 63);
    for (unsigned b = 0; b < 256; b++) out[b] = first[b >> 6] >> (b & 63) & 1;
    k->status = MLXR_OK;
}

mlxr_status mlxr_matcher_merge(mlxr_matcher *m, const mlxr_matcher *other, mlxr_error *err)
{
    mlxr_masker *k = m->k;
    if (k != other->k)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "grammar: matchers of two maskers cannot be merged");
    k->n_steps = 0;
    if (!gm_set_copy(&k->set[0], &m->set))
        gm_fail(k, MLXR_E_NOMEM, "grammar: out of memory");
    else
        for (size_t i = 0; i < other->set.n && k->status == MLXR_OK; i++)
            gm_set_add(k, &k->set[0], &other->set.c[i], other->set.fresh[i]);
    if (k->status == MLXR_OK) {
        k->set[0].ends = m->set.ends || other->set.ends;
        swap(&m->set, &k->set[0]);
        m->at_start = m->at_start || other->at_start;
    }
    return gm_told(k, err);
}

void mlxr_matcher_member_orders(const mlxr_matcher *m,
                                void (*fn)(mlxr_rule rule, const mlxr_text *names, size_t n, void *ud),
                                void *ud)
{
    const mlxr_masker *k = m->k;
    for (size_t i = 0; i < m->set.n; i++) {
        const gm_config *c = &m->set.c[i];
        uint32_t owner, prior;
        const gm_rule *r;
        size_t j;
        owner = k->g->rules[c->kind == GM_PLACE ? k->places[c->at].rule : k->g->nodes[c->at].rule].owner;
        r = &k->g->rules[owner];
        if (!r->members) continue;
        for (j = 0; j < i; j++) { /* each once */
            const gm_config *d = &m->set.c[j];
            prior = k->g->rules[d->kind == GM_PLACE ? k->places[d->at].rule : k->g->nodes[d->at].rule].owner;
            if (prior == owner) break;
        }
        if (j == i) fn(r->from, r->members, r->n_members, ud);
    }
}
