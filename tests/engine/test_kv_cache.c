/* Names, holders, eviction and snapshots of blocks, without a scheduler. */
#include "engine/kv_cache.h"
#include "test.h"

enum { TOKENS = 4, N_BLOCKS = 6 };

static mlxr_error err;

static mlxr_kv_cache *create(size_t max_cached_bytes)
{
    mlxr_kv_options o = {.n_blocks = N_BLOCKS,
                         .block_tokens = TOKENS,
                         .block_bytes = 100,
                         .snapshot_bytes = 30,
                         .max_cached_bytes = max_cached_bytes,
                         .salt = 7};
    mlxr_kv_cache *c;
    assert_ok(mlxr_kv_create(&c, &o, &err), &err);
    return c;
}

/* A chain of n named blocks of ids that begin with `first`, held. */
static void chain(mlxr_kv_cache *c, uint32_t *blocks, size_t n, int32_t first)
{
    for (size_t i = 0; i < n; i++) {
        const int32_t ids[TOKENS] = {first, (int32_t)i, 2, 3};
        uint32_t b = mlxr_kv_take(c);
        assert_int_not_equal(b, MLXR_KV_NONE);
        blocks[i] = mlxr_kv_name(c, b, i ? blocks[i - 1] : MLXR_KV_NONE, ids);
    }
}

static void release(mlxr_kv_cache *c, const uint32_t *blocks, size_t n)
{
    while (n-- > 0) mlxr_kv_release(c, blocks[n]);
    assert_ok(mlxr_kv_check(c, NULL, &err), &err);
}

static size_t found(const mlxr_kv_cache *c, size_t n, int32_t first)
{
    uint32_t parent = MLXR_KV_NONE;
    for (size_t i = 0; i < n; i++) {
        const int32_t ids[TOKENS] = {first, (int32_t)i, 2, 3};
        if ((parent = mlxr_kv_find(c, parent, ids)) == MLXR_KV_NONE) return i;
    }
    return n;
}

static void one_name_is_one_block(void **state)
{
    mlxr_kv_cache *c = create(SIZE_MAX);
    uint32_t a[2], b[2];
    const int32_t ids[TOKENS] = {1, 1, 2, 3};
    (void)state;
    chain(c, a, 2, 1);
    chain(c, b, 2, 1);
    assert_memory_equal(a, b, sizeof a);
    assert_int_equal(mlxr_kv_n_holders(c, a[1]), 2);
    assert_int_equal(mlxr_kv_get_stats(c).n_held, 2);
    assert_int_equal(mlxr_kv_find(c, MLXR_KV_NONE, ids), MLXR_KV_NONE); /* the same ids elsewhere */
    assert_int_equal(mlxr_kv_find(c, a[0], ids), a[1]);
    assert_int_equal(mlxr_kv_find(c, a[1], ids), MLXR_KV_NONE);
    release(c, a, 2);
    assert_int_equal(mlxr_kv_get_stats(c).n_held, 2);
    release(c, b, 2);
    assert_int_equal(mlxr_kv_get_stats(c).n_cached, 2);
    assert_int_equal(found(c, 2, 1), 2);
    mlxr_kv_free(c);
}

static void the_least_recently_used_goes_first(void **state)
{
    mlxr_kv_cache *c = create(SIZE_MAX);
    uint32_t a[3], b[3], taken[N_BLOCKS];
    (void)state;
    chain(c, a, 3, 1);
    chain(c, b, 3, 2);
    assert_int_equal(mlxr_kv_take(c), MLXR_KV_NONE);
    assert_int_equal(mlxr_kv_n_available(c), 0);
    release(c, a, 3);
    release(c, b, 3);
    for (size_t i = 0; i < 2; i++) mlxr_kv_hold(c, a[i]); /* used again */
    release(c, a, 2);
    assert_int_equal(mlxr_kv_n_available(c), N_BLOCKS);
    for (size_t i = 0; i < 4; i++) taken[i] = mlxr_kv_take(c);
    assert_int_equal(found(c, 3, 2), 0);
    assert_int_equal(found(c, 3, 1), 2); /* its leaf was the oldest of all */
    assert_int_equal(mlxr_kv_get_stats(c).n_evicted, 4);
    release(c, taken, 4);
    assert_int_equal(mlxr_kv_get_stats(c).n_free, 4);
    mlxr_kv_clear(c);
    assert_int_equal(found(c, 3, 1), 0);
    assert_int_equal(mlxr_kv_get_stats(c).n_free, N_BLOCKS);
    mlxr_kv_free(c);
}

static void bytes_are_a_limit(void **state)
{
    mlxr_kv_cache *c = create(250);
    uint32_t a[3], b[2];
    (void)state;
    chain(c, a, 3, 1);
    assert_non_null(mlxr_kv_add_snapshot(c, a[0]));
    assert_null(mlxr_kv_add_snapshot(c, a[0])); /* it has one */
    assert_non_null(mlxr_kv_snapshot(c, a[0]));
    assert_int_equal(mlxr_kv_get_stats(c).cached_bytes, 30);
    release(c, a, 3); /* 330 bytes: the leaf goes */
    assert_int_equal(found(c, 3, 1), 2);
    assert_int_equal(mlxr_kv_get_stats(c).cached_bytes, 230);
    chain(c, b, 2, 2);
    assert_non_null(mlxr_kv_add_snapshot(c, b[1])); /* which pushes out another block */
    assert_int_equal(found(c, 3, 1), 1);
    release(c, b, 2);
    assert_true(mlxr_kv_get_stats(c).cached_bytes <= 250);
    mlxr_kv_free(c);

    c = create(0); /* nothing is kept, but what lives is shared */
    chain(c, a, 2, 1);
    assert_int_equal(found(c, 2, 1), 2);
    assert_null(mlxr_kv_add_snapshot(c, a[0]));
    release(c, a, 2);
    assert_int_equal(found(c, 2, 1), 0);
    assert_int_equal(mlxr_kv_get_stats(c).n_free, N_BLOCKS);
    mlxr_kv_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_name_is_one_block),
        cmocka_unit_test(the_least_recently_used_goes_first),
        cmocka_unit_test(bytes_are_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
