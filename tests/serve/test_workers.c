/* Workers: everything posted runs, in order where there is one thread, on no more threads than allowed; the end waits. */
#include <pthread.h>

#include "serve/workers.h"
#include "serving.h"

static int n_run, n_now, n_most;
static int order[1000];

static void count(void *ud)
{
    int now = __atomic_add_fetch(&n_now, 1, __ATOMIC_SEQ_CST),
        most = __atomic_load_n(&n_most, __ATOMIC_SEQ_CST);

    while (now > most &&
           !__atomic_compare_exchange_n(&n_most, &most, now, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    sleep_ms(1);
    order[__atomic_fetch_add(&n_run, 1, __ATOMIC_SEQ_CST)] = (int)(intptr_t)ud;
    __atomic_sub_fetch(&n_now, 1, __ATOMIC_SEQ_CST);
}

static void run(size_t n_threads, int n)
{
    mlxr_workers *w;

    n_run = n_now = n_most = 0;
    assert_ok(mlxr_workers_create(&w, n_threads, &err), &err);
    for (int i = 0; i < n; i++) assert_true(mlxr_workers_post(w, count, (void *)(intptr_t)i));
    mlxr_workers_free(w);
    assert_int_equal(n_run, n);
    assert_in_range(n_most, 1, n_threads);
}

static void test_in_order(void **state)
{
    run(1, 50);
    for (int i = 0; i < 50; i++) assert_int_equal(order[i], i);
}

static void test_at_once(void **state)
{
    run(8, 400);
    assert_in_range(n_most, 2, 8);
}

static mlxr_workers *shared;

static void again(void *ud)
{
    intptr_t left = (intptr_t)ud;

    __atomic_add_fetch(&n_run, 1, __ATOMIC_SEQ_CST);
    if (left > 0 && !mlxr_workers_post(shared, again, (void *)(left - 1))) abort();
}

static void *post_many(void *ud)
{
    for (int i = 0; i < 100; i++)
        if (!mlxr_workers_post(shared, again, (void *)3)) abort();
    return NULL;
}

/* Tasks that post others, from many threads. */
static void test_posts_from_anywhere(void **state)
{
    pthread_t t[4];

    n_run = 0;
    assert_ok(mlxr_workers_create(&shared, 3, &err), &err);
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&t[i], NULL, post_many, NULL), 0);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    mlxr_workers_free(shared);
    assert_int_equal(n_run, 4 * 100 * 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_order),
        cmocka_unit_test(test_at_once),
        cmocka_unit_test(test_posts_from_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
