/* kv_cache: which block holds what. It owns numbers of blocks, not the memory behind them.
 *
 * A block is free, or it is held: by sequences (counted), by the cache, or both. A full block can be named, by the
 * block before it and its own token ids; those of one name are one block. So a chain of named blocks is a prefix, and
 * the names form a tree:
 *
 *   (root) -- [ids 0..31] -- [32..63] -- [64..95]
 *                       \--- [32..63]'
 *
 * A hash finds a name; the parent's number and the ids themselves prove it. A named block that nobody holds stays in a
 * list, least recently used first, until its place is wanted. A sequence lets go of its last block first, so a parent
 * never stands before its children in that list, and what is taken from its front is always a leaf.
 *
 * A snapshot is what a model keeps of a sequence beside its blocks, as it is after a block's last position. It lies
 * with the block and goes with it.
 *
 * One thread owns it. */
#ifndef MLXR_KV_CACHE_H
#define MLXR_KV_CACHE_H

#include "base/base.h"

typedef struct mlxr_kv_cache mlxr_kv_cache;
#define MLXR_KV_NONE UINT32_MAX

typedef struct mlxr_kv_options {
    size_t n_blocks, block_tokens;
    size_t block_bytes, snapshot_bytes; /* what each weighs in max_cached_bytes */
    size_t max_cached_bytes;            /* of named blocks that nobody holds, and of all snapshots */
    uint64_t salt;                      /* of the hashes */
} mlxr_kv_options;

mlxr_status mlxr_kv_create(mlxr_kv_cache **out, const mlxr_kv_options *options, mlxr_error *err);
void mlxr_kv_free(mlxr_kv_cache *c);

/* A block of one's own, held once; from the free ones, else the least recently used prefix goes. MLXR_KV_NONE: all
 * are held. O(1) */
uint32_t mlxr_kv_take(mlxr_kv_cache *c);
/* One more who holds a block; a cached one comes back into use. */
void mlxr_kv_hold(mlxr_kv_cache *c, uint32_t block);
/* One less; of a sequence's blocks the last first. */
void mlxr_kv_release(mlxr_kv_cache *c, uint32_t block);
size_t mlxr_kv_n_holders(const mlxr_kv_cache *c, uint32_t block);
/* How many takes would succeed. */
size_t mlxr_kv_n_available(const mlxr_kv_cache *c);

/* Names a held, full block of one's own: `parent` (MLXR_KV_NONE: it is a sequence's first) and ids [block_tokens].
 * Returns the block of that name: itself, or one that had it before; that is then held instead and `block` is released.
 * MLXR_KV_NONE parents of unnamed blocks do not come: the caller names in order. */
uint32_t mlxr_kv_name(mlxr_kv_cache *c, uint32_t block, uint32_t parent, const int32_t *ids);
/* The block of that name, or MLXR_KV_NONE. Holds nothing. */
uint32_t mlxr_kv_find(const mlxr_kv_cache *c, uint32_t parent, const int32_t *ids);

/* The snapshot at a named block; NULL when it has none. Borrowed until the next call that may evict (take, release, name,
 * add_snapshot). */
const void *mlxr_kv_snapshot(const mlxr_kv_cache *c, uint32_t block);
/* Room for a snapshot at a named block for the caller to fill [snapshot_bytes]; NULL when it has one, when the limit has
 * no room for it even with all that may be evicted gone, or without memory: it is then left out. */
void *mlxr_kv_add_snapshot(mlxr_kv_cache *c, uint32_t block);
void mlxr_kv_drop_snapshot(mlxr_kv_cache *c, uint32_t block);

/* Lets go of every cached block and every snapshot. */
void mlxr_kv_clear(mlxr_kv_cache *c);

typedef struct mlxr_kv_stats {
    size_t n_held, n_cached, n_free, n_snapshots, cached_bytes;
    uint64_t n_evicted;
} mlxr_kv_stats;
mlxr_kv_stats mlxr_kv_get_stats(const mlxr_kv_cache *c);

/* For tests: holders [n_blocks], as the caller counts them; whether all agrees. */
mlxr_status mlxr_kv_check(const mlxr_kv_cache *c, const uint32_t *holders, mlxr_error *err);

#endif
