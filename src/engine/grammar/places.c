/* places: sets of positions that the same bytes lead to (the subset construction, done as it is needed), and the objects that
 * configurations share: frames of stacks, sets of used names, names. */
#include <stdlib.h>

#include "engine/grammar/machine.h"

mlxr_status gm_fail(mlxr_masker *k, mlxr_status st, const char *message)
{
    if (k->status == MLXR_OK) k->status = mlxr_fail(&k->error, st, "%s", message);
    return k->status;
}

bool gm_pardon(mlxr_masker *k)
{
    if (k->status == MLXR_E_LIMIT && k->lenient) {
        k->status = MLXR_OK;
        k->left_out = true;
    }
    return k->status == MLXR_OK;
}

mlxr_status gm_told(mlxr_masker *k, mlxr_error *err)
{
    mlxr_status st = k->status;
    if (st != MLXR_OK) mlxr_fail(err, st, "%s", k->error.message);
    k->status = MLXR_OK;
    return st;
}

static void nomem(mlxr_masker *k)
{
    gm_fail(k, MLXR_E_NOMEM, "grammar: out of memory");
}

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

bool gm_tables_init(mlxr_masker *k)
{
    size_t n = k->g->n_nodes;
    k->node_place = mlxr_malloc_array(n, sizeof *k->node_place);
    k->stamp = mlxr_calloc_array(n, sizeof *k->stamp);
    k->n_place_slots = 256;
    k->place_slots = mlxr_malloc_array(k->n_place_slots, sizeof *k->place_slots);
    k->n_obj_slots = 1024;
    k->obj_slots = mlxr_calloc_array(k->n_obj_slots, sizeof *k->obj_slots);
    if (!k->node_place || !k->stamp || !k->place_slots || !k->obj_slots ||
        !gm_grow(&k->places, &k->cap_places, 0, 16, sizeof *k->places) ||
        !gm_grow(&k->objs, &k->cap_objs, 0, 256, sizeof *k->objs) ||
        !gm_grow(&k->variants, &k->cap_variants, 0, 4, sizeof *k->variants))
        return false;
    memset(k->node_place, 0xff, n * sizeof *k->node_place);
    memset(k->place_slots, 0xff, k->n_place_slots * sizeof *k->place_slots);
    memset(&k->places[0], 0, sizeof k->places[0]);
    memset(k->objs, 0, GM_OBJ_FIRST * sizeof *k->objs);
    k->variants[0] = (gm_variant){0};
    k->n_variants = 1;
    k->n_places = 1;
    k->n_objs = GM_OBJ_FIRST;
    k->free_place = k->free_obj = GM_NONE;
    k->collect_at = 1 << 16;
    k->next_uid = 1;
    return true;
}

static void place_free(mlxr_masker *k, gm_place *p)
{
    k->table_bytes -= sizeof *p + p->n_items * sizeof *p->items + p->n_exits * sizeof *p->exits +
                      (p->next ? k->g->n_classes * sizeof *p->next : 0);
    free(p->items);
    free(p->next);
    free(p->exits);
    *p = (gm_place){0};
}

void gm_tables_free(mlxr_masker *k)
{
    for (size_t i = 1; i < k->n_places; i++)
        if (k->places[i].alive) place_free(k, &k->places[i]);
    for (size_t i = 1; i < k->n_variants; i++) free(k->variants[i].left);
    free(k->variants);
    free(k->places);
    free(k->place_slots);
    free(k->node_place);
    free(k->objs);
    free(k->obj_slots);
    free(k->stamp);
    free(k->stack);
    free(k->items);
    free(k->left);
    mlxr_buf_clear(&k->bytes);
}

/* ---- closures: k->items becomes what can be reached from the nodes on k->stack ---- */

static void begin(mlxr_masker *k)
{
    k->n_items = k->n_stack = 0;
    if (++k->now == 0) {
        memset(k->stamp, 0, k->g->n_nodes * sizeof *k->stamp);
        k->now = 1;
    }
}

static bool item(mlxr_masker *k, uint32_t node, uint32_t state)
{
    if (k->n_items == k->cap_items && !gm_grow(&k->items, &k->cap_items, k->n_items, 1, sizeof *k->items)) {
        nomem(k);
        return false;
    }
    k->items[k->n_items++] = (uint64_t)node << 32 | state;
    return true;
}

static bool push(mlxr_masker *k, uint32_t node)
{
    if (k->n_stack == k->cap_stack && !gm_grow(&k->stack, &k->cap_stack, k->n_stack, 1, sizeof *k->stack)) {
        nomem(k);
        return false;
    }
    k->stack[k->n_stack++] = node;
    return true;
}

/* Whether enough names are left for all that comes from the node on. */
static bool enough(const mlxr_masker *k, uint32_t variant, uint32_t node)
{
    const gm_variant *v = &k->variants[variant];
    const gm_rule *r = &k->g->rules[v->owner];
    for (uint32_t i = 0; i < r->n_needs; i++) {
        const gm_need *need = &k->g->needs[r->first_need + i];
        if (need->least[node - need->first] > v->left[i]) return false;
    }
    return true;
}

static bool close_stack(mlxr_masker *k, uint32_t variant)
{
    const mlxr_grammar *g = k->g;
    while (k->n_stack) {
        uint32_t i = k->stack[--k->n_stack];
        const gm_node *n = &g->nodes[i];
        if (k->stamp[i] == k->now) continue;
        k->stamp[i] = k->now;
        if (variant && !enough(k, variant, i)) continue;
        if (n->kind == GM_SPLIT) {
            for (uint32_t e = 0; e < n->a; e++)
                if (!push(k, g->edges[n->out + e])) return false;
        } else if (n->kind == GM_DFA) {
            const gm_dfa *d = &g->dfas[n->a];
            if (d->goes_on[0] && !item(k, i, 0)) return false;
            if (d->d->accepts[0] && !push(k, n->out)) return false;
        } else if (!item(k, i, 0)) {
            return false;
        }
    }
    return true;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static bool is_reading(uint8_t kind)
{
    return kind == GM_TEXT || kind == GM_DFA;
}

static bool grow_place_slots(mlxr_masker *k)
{
    size_t n = k->n_place_slots * 2;
    uint32_t *slots = mlxr_malloc_array(n, sizeof *slots);
    if (!slots) return false;
    memset(slots, 0xff, n * sizeof *slots);
    for (size_t i = 1; i < k->n_places; i++) {
        gm_place *p = &k->places[i];
        uint64_t h = p->variant;
        if (!p->alive) continue;
        for (uint32_t j = 0; j < p->n_items; j++) h = mix(h, p->items[j]);
        h ^= h >> 32;
        p->hash_next = slots[h & (n - 1)];
        slots[h & (n - 1)] = (uint32_t)i;
    }
    free(k->place_slots);
    k->place_slots = slots;
    k->n_place_slots = n;
    return true;
}

static int by_rule(const void *a, const void *b)
{
    const gm_exit *x = a, *y = b;
    return x->rule < y->rule ? -1 : x->rule > y->rule;
}

/* What the items say of a new place. */
static bool describe(mlxr_masker *k, gm_place *p)
{
    const mlxr_grammar *g = k->g;
    uint32_t n_calls = 0;
    for (uint32_t i = 0; i < p->n_items; i++) {
        uint8_t kind = g->nodes[p->items[i] >> 32].kind;
        if (is_reading(kind)) p->n_reading++;
        if (kind == GM_ACCEPT) p->accepts = true;
        if (kind == GM_CALL) n_calls++;
        if (kind == GM_CHARS || kind == GM_UNIQUE || kind == GM_REPEAT) p->has_special = true;
    }
    p->rule = g->nodes[p->items[0] >> 32].rule;
    p->simple = p->n_reading == p->n_items;
    p->only_accepts = p->accepts && p->n_items == 1;
    if (n_calls) {
        uint32_t n = 0;
        p->exits = mlxr_malloc_array(n_calls, sizeof *p->exits);
        if (!p->exits) return false;
        for (uint32_t i = 0; i < p->n_items; i++) {
            const gm_node *m = &g->nodes[p->items[i] >> 32];
            if (m->kind == GM_CALL) p->exits[n++] = (gm_exit){.rule = m->a, .ret = GM_UNKNOWN};
        }
        qsort(p->exits, n, sizeof *p->exits, by_rule);
        for (uint32_t i = 0; i < n; i++)
            if (!p->n_exits || p->exits[p->n_exits - 1].rule != p->exits[i].rule)
                p->exits[p->n_exits++] = p->exits[i];
    }
    return true;
}

/* The place of k->items, made if it is new. */
static uint32_t place_of_items(mlxr_masker *k, uint32_t variant)
{
    size_t n = 0;
    uint64_t h = variant;
    uint32_t id;
    gm_place *p;
    if (!k->n_items) return GM_DEAD;
    if (k->n_items > 1) {
        bool sorted = true;
        for (size_t i = 1; i < k->n_items && sorted; i++) sorted = k->items[i - 1] < k->items[i];
        if (!sorted) qsort(k->items, k->n_items, sizeof *k->items, by_value);
    }
    for (size_t i = 0; i < k->n_items; i++)
        if (!n || k->items[n - 1] != k->items[i]) k->items[n++] = k->items[i];
    for (size_t i = 0; i < n; i++) h = mix(h, k->items[i]);
    h ^= h >> 32;
    for (id = k->place_slots[h & (k->n_place_slots - 1)]; id != GM_NONE; id = p->hash_next) {
        p = &k->places[id];
        if (p->n_items == n && p->variant == variant && !memcmp(p->items, k->items, n * sizeof *p->items))
            return id;
    }
    if (k->n_alive > 4 * k->g->limits.max_places + 1000) {
        gm_fail(k, MLXR_E_LIMIT, "grammar: more places are in use at once than the limit allows");
        return GM_DEAD;
    }
    if (k->n_alive >= k->n_place_slots && !grow_place_slots(k)) {
        nomem(k);
        return GM_DEAD;
    }
    if (k->free_place != GM_NONE) {
        id = k->free_place;
        k->free_place = k->places[id].hash_next;
    } else {
        if (!gm_grow(&k->places, &k->cap_places, k->n_places, 1, sizeof *k->places)) {
            nomem(k);
            return GM_DEAD;
        }
        id = (uint32_t)k->n_places++;
    }
    p = &k->places[id];
    *p = (gm_place){.n_items = (uint32_t)n, .variant = variant, .uid = k->next_uid++};
    p->items = mlxr_malloc_array(n, sizeof *p->items);
    if (!p->items || (memcpy(p->items, k->items, n * sizeof *p->items), !describe(k, p))) {
        free(p->items);
        *p = (gm_place){.hash_next = k->free_place};
        k->free_place = id;
        nomem(k);
        return GM_DEAD;
    }
    k->table_bytes += sizeof *p + n * sizeof *p->items + p->n_exits * sizeof *p->exits;
    p->alive = true;
    p->hash_next = k->place_slots[h & (k->n_place_slots - 1)];
    k->place_slots[h & (k->n_place_slots - 1)] = id;
    k->n_alive++;
    return id;
}

uint32_t gm_place_of_node(mlxr_masker *k, uint32_t node, uint32_t variant)
{
    struct gm_recent *r = &k->recent[(node * 31 + variant) % MLXR_COUNT(k->recent)];
    uint32_t id;
    if (!variant && k->node_place[node] != GM_UNKNOWN) return k->node_place[node];
    if (variant && r->variant == variant && r->node == node) return r->place;
    begin(k);
    if (!push(k, node) || !close_stack(k, variant)) return GM_DEAD;
    id = place_of_items(k, variant);
    if (k->status != MLXR_OK) return GM_DEAD;
    if (variant)
        *r = (struct gm_recent){node, variant, id};
    else
        k->node_place[node] = id;
    return id;
}

uint32_t gm_place_without(mlxr_masker *k, uint32_t place, uint64_t item)
{
    const gm_place *p = &k->places[place];
    if (!gm_grow(&k->items, &k->cap_items, 0, p->n_items, sizeof *k->items)) {
        nomem(k);
        return GM_DEAD;
    }
    k->n_items = 0;
    for (uint32_t i = 0; i < p->n_items; i++)
        if (p->items[i] != item) k->items[k->n_items++] = p->items[i];
    return place_of_items(k, p->variant);
}

uint32_t gm_place_behind(mlxr_masker *k, const gm_node *n, uint32_t used)
{
    return gm_place_of_node(k, n->out, gm_variant_of(k, n->rule, used));
}

uint32_t gm_exit_return(mlxr_masker *k, uint32_t place, uint32_t i_exit)
{
    gm_place *p = &k->places[place];
    uint32_t rule = p->exits[i_exit].rule, id;
    if (p->exits[i_exit].ret != GM_UNKNOWN) return p->exits[i_exit].ret;
    begin(k);
    for (uint32_t i = 0; i < p->n_items; i++) {
        const gm_node *n = &k->g->nodes[p->items[i] >> 32];
        if (n->kind == GM_CALL && n->a == rule && !push(k, n->out)) return GM_DEAD;
    }
    if (!close_stack(k, p->variant)) return GM_DEAD;
    id = place_of_items(k, p->variant);
    if (k->status == MLXR_OK) k->places[place].exits[i_exit].ret = id;
    return id;
}

uint32_t *gm_place_row(mlxr_masker *k, uint32_t place)
{
    gm_place *p = &k->places[place];
    if (p->next) return p->next;
    p->next = mlxr_malloc_array(k->g->n_classes, sizeof *p->next);
    if (!p->next) {
        nomem(k);
        return NULL;
    }
    memset(p->next, 0xff, k->g->n_classes * sizeof *p->next);
    k->table_bytes += k->g->n_classes * sizeof *p->next;
    return p->next;
}

uint32_t gm_place_next(mlxr_masker *k, uint32_t place, uint8_t byte)
{
    const mlxr_grammar *g = k->g;
    unsigned class = g->class_of[byte];
    uint32_t *row = gm_place_row(k, place), id;
    const gm_place *p = &k->places[place];
    if (!row) return GM_DEAD;
    if (row[class] != GM_UNKNOWN) return row[class];
    begin(k);
    for (uint32_t i = 0; i < p->n_items; i++) {
        uint32_t at = (uint32_t)(p->items[i] >> 32), state = (uint32_t)p->items[i];
        const gm_node *n = &g->nodes[at];
        if (n->kind == GM_TEXT) {
            if ((uint8_t)g->texts[n->a + state] != byte) continue;
            if (state + 1 == n->b ? !push(k, n->out) : !item(k, at, state + 1)) return GM_DEAD;
        } else if (n->kind == GM_DFA) {
            const gm_dfa *d = &g->dfas[n->a];
            state = gm_dfa_step(d, state, byte);
            if (state == MLXR_DFA_NONE) continue;
            if (d->goes_on[state] && !item(k, at, state)) return GM_DEAD;
            if (d->d->accepts[state] && !push(k, n->out)) return GM_DEAD;
        }
    }
    if (!close_stack(k, p->variant)) return GM_DEAD;
    id = place_of_items(k, p->variant);
    if (k->status == MLXR_OK) row[class] = id;
    return id;
}

void gm_place_first(mlxr_masker *k, uint32_t place)
{
    const mlxr_grammar *g = k->g;
    gm_place *p = &k->places[place];
    if (p->knows_first) return;
    for (uint32_t i = 0; i < p->n_items; i++) {
        uint32_t state = (uint32_t)p->items[i];
        const gm_node *n = &g->nodes[p->items[i] >> 32];
        if (n->kind == GM_TEXT) {
            uint8_t b = (uint8_t)g->texts[n->a + state];
            p->first[b >> 6] |= (uint64_t)1 << (b & 63);
        } else if (n->kind == GM_DFA) {
            const gm_dfa *d = &g->dfas[n->a];
            for (unsigned b = 0; b < 256; b++)
                if (gm_dfa_step(d, state, (uint8_t)b) != MLXR_DFA_NONE)
                    p->first[b >> 6] |= (uint64_t)1 << (b & 63);
        }
    }
    p->knows_first = true;
}

/* ---- objects ---- */

static uint64_t obj_hash(const gm_obj *o)
{
    uint64_t h = mix(o->kind, o->parent);
    h = mix(h, (uint64_t)o->a << 32 | o->b);
    h = mix(h, o->n);
    return h ^ h >> 32;
}

static bool grow_obj_slots(mlxr_masker *k, size_t n)
{
    uint32_t *slots = mlxr_calloc_array(n, sizeof *slots);
    if (!slots) return false;
    for (size_t i = GM_OBJ_FIRST; i < k->n_objs; i++) {
        gm_obj *o = &k->objs[i];
        uint64_t h;
        if (o->kind == GM_FREE) continue;
        h = obj_hash(o) & (n - 1);
        o->next = slots[h];
        slots[h] = (uint32_t)i;
    }
    free(k->obj_slots);
    k->obj_slots = slots;
    k->n_obj_slots = n;
    return true;
}

uint32_t gm_obj_make(mlxr_masker *k, gm_obj_kind kind, uint32_t parent, uint32_t a, uint32_t b, uint64_t n)
{
    gm_obj o = {.kind = (uint8_t)kind, .parent = parent, .a = a, .b = b, .n = n};
    uint64_t h = obj_hash(&o);
    uint32_t id;
    for (id = k->obj_slots[h & (k->n_obj_slots - 1)]; id; id = k->objs[id].next) {
        const gm_obj *p = &k->objs[id];
        if (p->kind == o.kind && p->parent == parent && p->a == a && p->b == b && p->n == n) return id;
    }
    o.depth = k->objs[parent].depth + 1;
    if (o.depth > k->g->limits.max_depth && (kind == GM_FRAME_CALL || kind == GM_FRAME_REPEAT)) {
        gm_fail(k, MLXR_E_LIMIT, "grammar: rules call each other deeper than the limit allows");
        return GM_NONE;
    }
    if (k->n_objs - k->n_free_objs >= k->n_obj_slots && !grow_obj_slots(k, 2 * k->n_obj_slots)) {
        nomem(k);
        return GM_NONE;
    }
    if (k->free_obj != GM_NONE) {
        id = k->free_obj;
        k->free_obj = k->objs[id].next;
        k->n_free_objs--;
    } else {
        if (k->n_objs > UINT32_MAX / 4 || !gm_grow(&k->objs, &k->cap_objs, k->n_objs, 1, sizeof *k->objs)) {
            nomem(k);
            return GM_NONE;
        }
        id = (uint32_t)k->n_objs++;
    }
    h &= k->n_obj_slots - 1;
    o.next = k->obj_slots[h];
    o.uid = k->next_uid++;
    k->objs[id] = o;
    k->obj_slots[h] = id;
    return id;
}

/* The next link of a chain of used names, GM_USED_NONE at its end. */
static uint32_t follow(mlxr_masker *k, uint32_t used)
{
    if (used != GM_USED_OPEN) return used;
    k->open_consulted = true;
    return k->open_used;
}

void gm_consult(mlxr_masker *k, uint32_t used)
{
    while (used >= GM_OBJ_FIRST) used = k->objs[used].parent;
    if (used == GM_USED_OPEN) k->open_consulted = true;
}

bool gm_is_used(mlxr_masker *k, uint32_t used, uint32_t name)
{
    for (used = follow(k, used); used; used = follow(k, k->objs[used].parent))
        if (k->objs[used].a == name) return true;
    return false;
}

static bool begins_with(const mlxr_masker *k, uint32_t name, uint32_t prefix)
{
    uint32_t n = k->objs[prefix].depth;
    while (k->objs[name].depth > n) name = k->objs[name].parent;
    return name == prefix;
}

static bool has_name(mlxr_masker *k, const gm_dfa *d, uint32_t name)
{
    size_t n = k->objs[name].depth;
    k->bytes.len = 0;
    if (!mlxr_buf_reserve(&k->bytes, n + 1)) {
        nomem(k);
        return false;
    }
    for (size_t i = n; i > 0; i--) {
        k->bytes.data[i - 1] = (char)k->objs[name].a;
        name = k->objs[name].parent;
    }
    return mlxr_dfa_has(d->d, k->bytes.data, n);
}

bool gm_unique_open(mlxr_masker *k, const gm_node *node, uint32_t state, uint32_t name, uint32_t used)
{
    const gm_dfa *d = &k->g->dfas[node->a];
    uint64_t n_used = 0;
    if (d->counts[state] == UINT64_MAX) return true;
    for (used = follow(k, used); used; used = follow(k, k->objs[used].parent))
        if (begins_with(k, k->objs[used].a, name) && has_name(k, d, k->objs[used].a)) n_used++;
    return n_used < d->counts[state];
}

uint32_t gm_variant_of(mlxr_masker *k, uint32_t rule, uint32_t used)
{
    const mlxr_grammar *g = k->g;
    uint32_t owner = g->rules[rule].owner, n = g->rules[owner].n_needs, first = g->rules[owner].first_need,
             at;
    uint64_t *left;
    bool all = true;
    if (!n || used == GM_USED_NONE) return 0;
    left = mlxr_malloc_array(n, sizeof *left);
    if (!left) {
        nomem(k);
        return 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        const gm_need *need = &g->needs[first + i];
        uint64_t n_used = 0;
        for (at = follow(k, used); at; at = follow(k, k->objs[at].parent))
            n_used += has_name(k, &g->dfas[need->dfa], k->objs[at].a);
        left[i] = need->count > n_used ? need->count - n_used : 0;
        if (left[i] >= need->max)
            left[i] = need->max;
        else
            all = false;
    }
    for (uint32_t i = 1; !all && i < k->n_variants; i++)
        if (k->variants[i].owner == owner && !memcmp(k->variants[i].left, left, n * sizeof *left)) {
            free(left);
            return i;
        }
    if (all || !gm_grow(&k->variants, &k->cap_variants, k->n_variants, 1, sizeof *k->variants)) {
        if (!all) nomem(k);
        free(left);
        return 0;
    }
    k->variants[k->n_variants] = (gm_variant){.owner = owner, .left = left};
    return (uint32_t)k->n_variants++;
}

bool gm_enough_for_run(mlxr_masker *k, const gm_node *node, uint64_t count, uint32_t used)
{
    const mlxr_grammar *g = k->g;
    const gm_rule *r = &g->rules[g->rules[node->rule].owner];
    uint64_t min = g->bounds[node->b].min, more = min > count + 1 ? min - count - 1 : 0;
    const gm_variant *v;
    uint32_t variant;
    if (!r->n_needs || !more) return true; /* the place's own positions tell */
    variant = gm_variant_of(k, node->rule, used);
    v = &k->variants[variant];
    for (uint32_t i = 0; variant && i < r->n_needs; i++) {
        const gm_need *need = &g->needs[r->first_need + i];
        uint64_t entry = need->least[g->rules[node->a].entry - need->first];
        uint64_t behind = need->least[node->out - need->first];
        if (entry != UINT32_MAX && entry > behind &&
            (v->left[i] < entry || (v->left[i] - entry) / (entry - behind) < more))
            return false;
    }
    return true;
}

/* ---- collecting ---- */

static void mark_chain(mlxr_masker *k, uint32_t id)
{
    while (id >= GM_OBJ_FIRST && !k->objs[id].mark) {
        gm_obj *o = &k->objs[id];
        o->mark = 1;
        if (o->kind == GM_FRAME_CALL) {
            k->places[o->a].mark = true;
            mark_chain(k, o->b); /* used names: and these their name: no deeper */
        } else if (o->kind == GM_USED) {
            mark_chain(k, o->a);
        }
        id = o->parent;
    }
}

static void mark_set(mlxr_masker *k, const gm_set *s)
{
    for (size_t i = 0; i < s->n; i++) {
        const gm_config *c = &s->c[i];
        mark_chain(k, c->frame);
        mark_chain(k, c->used);
        if (c->kind == GM_UNIQUE) mark_chain(k, c->name);
        if (c->kind == GM_PLACE) k->places[c->at].mark = true;
    }
}

static void collect_places(mlxr_masker *k)
{
    memset(k->place_slots, 0xff, k->n_place_slots * sizeof *k->place_slots);
    for (size_t i = 1; i < k->n_places; i++) {
        gm_place *p = &k->places[i];
        if (p->alive && !p->mark) {
            place_free(k, p);
            p->hash_next = k->free_place;
            k->free_place = (uint32_t)i;
            k->n_alive--;
        } else if (p->alive) {
            uint64_t h = p->variant;
            for (uint32_t j = 0; j < p->n_items; j++) h = mix(h, p->items[j]);
            h = (h ^ h >> 32) & (k->n_place_slots - 1);
            p->hash_next = k->place_slots[h];
            k->place_slots[h] = (uint32_t)i;
            if (p->next) k->table_bytes -= k->g->n_classes * sizeof *p->next;
            free(p->next);
            p->next = NULL;
            for (uint32_t e = 0; e < p->n_exits; e++) p->exits[e].ret = GM_UNKNOWN;
        }
    }
    memset(k->node_place, 0xff, k->g->n_nodes * sizeof *k->node_place);
    memset(k->recent, 0, sizeof k->recent);
}

void gm_collect(mlxr_masker *k, bool places_too)
{
    size_t live = 0;
    for (mlxr_matcher *m = k->matchers; m; m = m->next) mark_set(k, &m->set);
    memset(k->obj_slots, 0, k->n_obj_slots * sizeof *k->obj_slots);
    k->free_obj = GM_NONE;
    k->n_free_objs = 0;
    for (size_t i = k->n_objs; i-- > GM_OBJ_FIRST;) {
        gm_obj *o = &k->objs[i];
        if (!o->mark) {
            *o = (gm_obj){.next = k->free_obj};
            k->free_obj = (uint32_t)i;
            k->n_free_objs++;
        } else {
            uint64_t h = obj_hash(o) & (k->n_obj_slots - 1);
            o->mark = 0;
            o->next = k->obj_slots[h];
            k->obj_slots[h] = (uint32_t)i;
            live++;
        }
    }
    if (places_too) collect_places(k);
    for (size_t i = 1; i < k->n_places; i++) k->places[i].mark = false;
    k->collect_at = live * 2 > (1 << 16) ? live * 2 : 1 << 16;
}
