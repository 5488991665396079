/* The read probe: a rate that no machine exceeds and none stays under, an odd size, cancelling. */
#include "test.h"

#include "base/bandwidth.h"

static void test_rate_is_plausible(void **state)
{
    static const size_t sizes[] = {1, 3 << 20, (5 << 20) + 1};
    mlxr_pool *pool;
    mlxr_error err;

    assert_int_equal(mlxr_pool_create(&pool, 2, &err), MLXR_OK);
    for (size_t i = 0; i < MLXR_COUNT(sizes); i++) {
        double rate = 0;
        assert_int_equal(mlxr_read_bandwidth(&rate, pool, sizes[i], 3, NULL, &err), MLXR_OK);
        assert_true(rate > 1e7 && rate < 1e14);
    }
    mlxr_pool_free(pool);
}

static void test_cancel_ends_it(void **state)
{
    volatile int cancel = 1;
    double rate;
    mlxr_pool *pool;
    mlxr_error err;

    assert_int_equal(mlxr_pool_create(&pool, 1, &err), MLXR_OK);
    assert_int_equal(mlxr_read_bandwidth(&rate, pool, 1 << 20, 1000000, &cancel, &err), MLXR_E_CANCELLED);
    assert_non_null(strstr(err.message, "cancelled"));
    mlxr_pool_free(pool);
}

static void test_a_buffer_that_cannot_be(void **state)
{
    double rate;
    mlxr_pool *pool;
    mlxr_error err;

    assert_int_equal(mlxr_pool_create(&pool, 1, &err), MLXR_OK);
    assert_int_equal(mlxr_read_bandwidth(&rate, pool, SIZE_MAX / 2, 1, NULL, &err), MLXR_E_NOMEM);
    assert_int_equal(mlxr_read_bandwidth(&rate, pool, ((size_t)1 << 30) + 1, 1, NULL, &err), MLXR_E_NOMEM);
    assert_int_equal(mlxr_read_bandwidth(&rate, pool, SIZE_MAX, 1, NULL, &err), MLXR_E_NOMEM);
    mlxr_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rate_is_plausible),
        cmocka_unit_test(test_cancel_ends_it),
        cmocka_unit_test(test_a_buffer_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
