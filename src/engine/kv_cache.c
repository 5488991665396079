/* kv_cache: see kv_cache.h. Blocks are elements of arrays and lists are numbers, so nothing is allocated after create
 * but snapshots. */
#include "engine/kv_cache.h"

#include <stdlib.h>

#define NONE MLXR_KV_NONE

struct block {
    uint32_t n_holders;
    uint32_t next, prev; /* in the list of cached ones; next: in that of free ones */
    uint32_t chain_next; /* in its bucket */
    uint32_t parent;
    bool named;
    uint64_t hash; /* of the ids from the root on */
    void *snapshot;
};

struct mlxr_kv_cache {
    mlxr_kv_options o;
    struct block *blocks; /* [n_blocks] */
    int32_t *ids;         /* [n_blocks, block_tokens], of named ones */
    uint32_t *buckets;    /* [n_buckets], a power of two */
    size_t n_buckets;
    uint32_t free_first;
    uint32_t oldest, newest; /* named and held by nobody */
    size_t n_free, n_cached, n_snapshots;
    uint64_t n_evicted;
};

mlxr_status mlxr_kv_create(mlxr_kv_cache **out, const mlxr_kv_options *options, mlxr_error *err)
{
    mlxr_kv_cache *c = calloc(1, sizeof *c);
    size_t n = options->n_blocks, n_ids;

    *out = NULL;
    if (n >= NONE) {
        free(c);
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "kv cache: %zu blocks are too many", n);
    }
    if (!c) return mlxr_fail_nomem(err, "kv cache");
    c->o = *options;
    c->n_buckets = 16;
    while (c->n_buckets < 2 * n) c->n_buckets *= 2;
    c->blocks = mlxr_calloc_array(n, sizeof *c->blocks);
    c->ids = mlxr_mul_size(&n_ids, n, options->block_tokens) ? mlxr_malloc_array(n_ids, sizeof *c->ids)
                                                             : NULL;
    c->buckets = mlxr_malloc_array(c->n_buckets, sizeof *c->buckets);
    if (!c->blocks || !c->ids || !c->buckets) {
        mlxr_kv_free(c);
        return mlxr_fail_nomem(err, "kv cache");
    }
    for (size_t i = 0; i < c->n_buckets; i++) c->buckets[i] = NONE;
    for (size_t i = 0; i < n; i++) c->blocks[i].next = i + 1 < n ? (uint32_t)i + 1 : NONE;
    c->free_first = n ? 0 : NONE;
    c->n_free = n;
    c->oldest = c->newest = NONE;
    *out = c;
    return MLXR_OK;
}

void mlxr_kv_free(mlxr_kv_cache *c)
{
    if (!c) return;
    for (size_t i = 0; c->blocks && i < c->o.n_blocks; i++) free(c->blocks[i].snapshot);
    free(c->blocks);
    free(c->ids);
    free(c->buckets);
    free(c);
}

/* ---- lists ---- */

static size_t cached_bytes(const mlxr_kv_cache *c)
{
    return c->n_cached * c->o.block_bytes + c->n_snapshots * c->o.snapshot_bytes;
}

static void cached_append(mlxr_kv_cache *c, uint32_t i)
{
    c->blocks[i].next = NONE;
    c->blocks[i].prev = c->newest;
    if (c->newest == NONE)
        c->oldest = i;
    else
        c->blocks[c->newest].next = i;
    c->newest = i;
    c->n_cached++;
}

static void cached_remove(mlxr_kv_cache *c, uint32_t i)
{
    struct block *b = &c->blocks[i];

    if (b->prev == NONE)
        c->oldest = b->next;
    else
        c->blocks[b->prev].next = b->next;
    if (b->next == NONE)
        c->newest = b->prev;
    else
        c->blocks[b->next].prev = b->prev;
    c->n_cached--;
}

static void free_push(mlxr_kv_cache *c, uint32_t i)
{
    c->blocks[i].next = c->free_first;
    c->free_first = i;
    c->n_free++;
}

static uint32_t *bucket_of(const mlxr_kv_cache *c, uint64_t hash)
{
    return &c->buckets[hash & (c->n_buckets - 1)];
}

static void evict_oldest(mlxr_kv_cache *c)
{
    uint32_t i = c->oldest;
    struct block *b = &c->blocks[i];
    uint32_t *at = bucket_of(c, b->hash);

    while (*at != i) at = &c->blocks[*at].chain_next;
    *at = b->chain_next;
    cached_remove(c, i);
    mlxr_kv_drop_snapshot(c, i);
    b->named = false;
    free_push(c, i);
    c->n_evicted++;
}

/* ---- holding ---- */

uint32_t mlxr_kv_take(mlxr_kv_cache *c)
{
    uint32_t i;

    if (c->n_free == 0 && c->n_cached > 0) evict_oldest(c);
    if (c->n_free == 0) return NONE;
    i = c->free_first;
    c->free_first = c->blocks[i].next;
    c->n_free--;
    c->blocks[i].n_holders = 1;
    return i;
}

void mlxr_kv_hold(mlxr_kv_cache *c, uint32_t block)
{
    if (c->blocks[block].n_holders++ == 0) cached_remove(c, block);
}

void mlxr_kv_release(mlxr_kv_cache *c, uint32_t block)
{
    if (--c->blocks[block].n_holders > 0) return;
    if (!c->blocks[block].named) {
        free_push(c, block);
        return;
    }
    cached_append(c, block);
    while (c->n_cached > 0 && cached_bytes(c) > c->o.max_cached_bytes) evict_oldest(c);
}

size_t mlxr_kv_n_holders(const mlxr_kv_cache *c, uint32_t block)
{
    return c->blocks[block].n_holders;
}

size_t mlxr_kv_n_available(const mlxr_kv_cache *c)
{
    return c->n_free + c->n_cached;
}

/* ---- names ---- */

static uint64_t hash_of(const mlxr_kv_cache *c, uint32_t parent, const int32_t *ids)
{
    return mlxr_hash_bytes(ids, c->o.block_tokens * sizeof *ids,
                           parent == NONE ? c->o.salt : c->blocks[parent].hash);
}

static uint32_t find(const mlxr_kv_cache *c, uint64_t hash, uint32_t parent, const int32_t *ids)
{
    uint32_t i = *bucket_of(c, hash);

    while (i != NONE && (c->blocks[i].hash != hash || c->blocks[i].parent != parent ||
                         memcmp(c->ids + i * c->o.block_tokens, ids, c->o.block_tokens * sizeof *ids) != 0))
        i = c->blocks[i].chain_next;
    return i;
}

uint32_t mlxr_kv_find(const mlxr_kv_cache *c, uint32_t parent, const int32_t *ids)
{
    return find(c, hash_of(c, parent, ids), parent, ids);
}

uint32_t mlxr_kv_name(mlxr_kv_cache *c, uint32_t block, uint32_t parent, const int32_t *ids)
{
    uint64_t hash = hash_of(c, parent, ids);
    uint32_t same = find(c, hash, parent, ids), *bucket = bucket_of(c, hash);
    struct block *b = &c->blocks[block];

    if (same != NONE) {
        mlxr_kv_hold(c, same);
        mlxr_kv_release(c, block);
        return same;
    }
    b->named = true;
    b->parent = parent;
    b->hash = hash;
    memcpy(c->ids + block * c->o.block_tokens, ids, c->o.block_tokens * sizeof *ids);
    b->chain_next = *bucket;
    *bucket = block;
    return block;
}

/* ---- snapshots ---- */

const void *mlxr_kv_snapshot(const mlxr_kv_cache *c, uint32_t block)
{
    return c->blocks[block].snapshot;
}

void *mlxr_kv_add_snapshot(mlxr_kv_cache *c, uint32_t block)
{
    size_t n = c->o.snapshot_bytes, of_others = c->n_snapshots * n;

    if (n == 0 || c->blocks[block].snapshot || n > c->o.max_cached_bytes) return NULL;
    /* Snapshots of cached blocks may go; those of held ones stay. */
    for (uint32_t i = c->oldest; i != NONE; i = c->blocks[i].next)
        if (c->blocks[i].snapshot) of_others -= n;
    if (of_others > c->o.max_cached_bytes - n) return NULL;
    if (c->blocks[block].n_holders == 0) return NULL; /* it might be what has to go */
    while (c->n_cached > 0 && cached_bytes(c) > c->o.max_cached_bytes - n) evict_oldest(c);
    c->blocks[block].snapshot = malloc(n);
    if (c->blocks[block].snapshot) c->n_snapshots++;
    return c->blocks[block].snapshot;
}

void mlxr_kv_drop_snapshot(mlxr_kv_cache *c, uint32_t block)
{
    if (!c->blocks[block].snapshot) return;
    free(c->blocks[block].snapshot);
    c->blocks[block].snapshot = NULL;
    c->n_snapshots--;
}

void mlxr_kv_clear(mlxr_kv_cache *c)
{
    while (c->n_cached > 0) evict_oldest(c);
    for (size_t i = 0; i < c->o.n_blocks; i++) mlxr_kv_drop_snapshot(c, (uint32_t)i);
}

mlxr_kv_stats mlxr_kv_get_stats(const mlxr_kv_cache *c)
{
    return (mlxr_kv_stats){.n_held = c->o.n_blocks - c->n_free - c->n_cached,
                           .n_cached = c->n_cached,
                           .n_free = c->n_free,
                           .n_snapshots = c->n_snapshots,
                           .cached_bytes = cached_bytes(c),
                           .n_evicted = c->n_evicted};
}

/* ---- for tests ---- */

mlxr_status mlxr_kv_check(const mlxr_kv_cache *c, const uint32_t *holders, mlxr_error *err)
{
    size_t n_free = 0, n_cached = 0, n_named = 0, n_in_buckets = 0, n_snapshots = 0, n_held = 0;

    for (uint32_t i = c->free_first; i != NONE && n_free <= c->o.n_blocks; i = c->blocks[i].next) {
        n_free++;
        if (c->blocks[i].named || c->blocks[i].n_holders || c->blocks[i].snapshot)
            return mlxr_fail(err, MLXR_E_INTERNAL, "kv cache: block %u is among the free ones", i);
    }
    for (uint32_t i = c->oldest; i != NONE && n_cached <= c->o.n_blocks; i = c->blocks[i].next) {
        n_cached++;
        if (!c->blocks[i].named || c->blocks[i].n_holders)
            return mlxr_fail(err, MLXR_E_INTERNAL, "kv cache: block %u is among the cached ones", i);
        /* Its children have gone before it. */
        for (uint32_t j = c->blocks[i].next; j != NONE; j = c->blocks[j].next)
            if (c->blocks[j].parent == i)
                return mlxr_fail(err, MLXR_E_INTERNAL, "kv cache: block %u is older than its child %u", i, j);
    }
    for (uint32_t i = 0; i < c->o.n_blocks; i++) {
        const struct block *b = &c->blocks[i];
        n_named += b->named;
        n_snapshots += b->snapshot != NULL;
        n_held += b->n_holders > 0;
        if (holders && b->n_holders != holders[i])
            return mlxr_fail(err, MLXR_E_INTERNAL, "kv cache: block %u has %u holders, %u are known", i,
                             b->n_holders, holders[i]);
        if (b->named && (find(c, b->hash, b->parent, c->ids + i * c->o.block_tokens) != i ||
                         (b->parent != NONE && !c->blocks[b->parent].named)))
            return mlxr_fail(err, MLXR_E_INTERNAL, "kv cache: block %u is not found by its name", i);
        if (b->named && b->n_holders && b->parent != NONE && c->blocks[b->parent].n_holders == 0)
            return mlxr_fail(err, MLXR_E_INTERNAL, "kv cache: block %u is held, its parent is not", i);
    }
    for (size_t k = 0; k < c->n_buckets; k++)
        for (uint32_t i = c->buckets[k]; i != NONE && n_in_buckets <= n_named; i = c->blocks[i].chain_next)
            n_in_buckets++;
    if (n_free != c->n_free || n_cached != c->n_cached || n_snapshots != c->n_snapshots ||
        n_in_buckets != n_named || n_free + n_cached + n_held != c->o.n_blocks)
        return mlxr_fail(err, MLXR_E_INTERNAL,
                         "kv cache: %zu blocks are free (%zu counted), %zu cached (%zu), %zu held of %zu; "
                         "%zu snapshots (%zu), %zu names (%zu)",
                         n_free, c->n_free, n_cached, c->n_cached, n_held, c->o.n_blocks, n_snapshots,
                         c->n_snapshots, n_named, n_in_buckets);
    return MLXR_OK;
}
