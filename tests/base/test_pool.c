/* The pool: every item once, every thread once, whatever the machine is doing. Run it under TSan too. */
#include "test.h"

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/pool.h"

enum { MOST = 8 };

static mlxr_pool *open_pool(size_t n)
{
    mlxr_pool *p;
    mlxr_error err;
    assert_int_equal(mlxr_pool_create(&p, n, &err), MLXR_OK);
    assert_non_null(p);
    return p;
}

typedef struct visits {
    size_t *count; /* plain: TSan tells if two threads touch one without the pool between them */
    size_t n, grain;
    atomic_int bad;
} visits;

static void visit(void *arg, size_t begin, size_t end, size_t i_thread)
{
    visits *v = arg;
    if (end > v->n || begin >= end || end - begin > v->grain || begin % v->grain != 0)
        atomic_store(&v->bad, 1);
    if (i_thread >= MOST) atomic_store(&v->bad, 1);
    for (size_t i = begin; i < end; i++) v->count[i]++;
}

static void test_for_covers_every_item_once(void **state)
{
    static const size_t sizes[] = {1, 2, 3, 7, 64, 65, 1000}, grains[] = {1, 3, 16, 2000};
    size_t *count = calloc(1000, sizeof *count);

    assert_non_null(count);
    for (size_t n_threads = 1; n_threads <= MOST; n_threads++) {
        mlxr_pool *p = open_pool(n_threads);
        assert_int_equal(mlxr_pool_n_threads(p), n_threads);
        for (size_t i = 0; i < MLXR_COUNT(sizes); i++) {
            for (size_t j = 0; j < MLXR_COUNT(grains); j++) {
                visits v = {.count = count, .n = sizes[i], .grain = grains[j]};
                memset(count, 0, 1000 * sizeof *count);
                mlxr_pool_for(p, v.n, v.grain, visit, &v);
                for (size_t k = 0; k < 1000; k++) assert_int_equal(count[k], k < v.n ? 1 : 0);
                assert_int_equal(atomic_load(&v.bad), 0);
            }
        }
        mlxr_pool_free(p);
    }
    free(count);
}

typedef struct shares {
    size_t *count, *next; /* next: where a thread's own share goes on */
    size_t n, unit, n_threads;
    atomic_int bad;
} shares;

static void visit_share(void *arg, size_t begin, size_t end, size_t i_thread)
{
    shares *s = arg;
    size_t share = mlxr_pool_share(s->n, s->unit, i_thread, s->n_threads);
    size_t share_end = mlxr_pool_share(s->n, s->unit, i_thread + 1, s->n_threads);

    if (begin >= end || end > s->n || begin % s->unit != 0 || i_thread >= s->n_threads) {
        atomic_store(&s->bad, 1);
        return;
    }
    if (s->n_threads > 1 && begin >= share && begin < share_end) { /* in order, whole */
        if (begin != s->next[i_thread] || end > share_end) atomic_store(&s->bad, 1);
        s->next[i_thread] = end;
    }
    for (size_t i = begin; i < end; i++) s->count[i]++;
}

static void test_split_covers_every_item_once(void **state)
{
    static const size_t sizes[] = {1, 2, 7, 64, 65, 1000}, units[] = {1, 4, 16}, grains[] = {1, 16, 50, 2000};
    size_t count[1000], next[MOST];

    for (size_t n_threads = 1; n_threads <= MOST; n_threads++) {
        mlxr_pool *p = open_pool(n_threads);
        for (size_t i = 0; i < MLXR_COUNT(sizes) * MLXR_COUNT(units) * MLXR_COUNT(grains); i++) {
            size_t unit = units[i / MLXR_COUNT(sizes) % MLXR_COUNT(units)];
            shares s = {.count = count, .next = next, .n = sizes[i % MLXR_COUNT(sizes)], .unit = unit};
            s.n_threads = s.n > unit ? n_threads : 1; /* one unit is not shared out */
            for (size_t t = 0; t < n_threads; t++) next[t] = mlxr_pool_share(s.n, unit, t, n_threads);
            memset(count, 0, sizeof count);
            mlxr_pool_split(p, s.n, unit, grains[i / MLXR_COUNT(sizes) / MLXR_COUNT(units)], visit_share, &s);
            for (size_t k = 0; k < 1000; k++) assert_int_equal(count[k], k < s.n ? 1 : 0);
            assert_int_equal(atomic_load(&s.bad), 0);
        }
        mlxr_pool_split(p, 0, 4, 4, visit_share, NULL);
        mlxr_pool_free(p);
    }
}

typedef struct stalled {
    atomic_size_t n_done;
} stalled;

/* Whoever takes item 99 waits until all others are done. */
static void stall_at_99(void *arg, size_t begin, size_t end, size_t i_thread)
{
    stalled *s = arg;
    (void)i_thread;
    if (begin <= 99 && 99 < end)
        while (atomic_load(&s->n_done) < 200 - (end - begin)) sched_yield();
    atomic_fetch_add(&s->n_done, end - begin);
}

/* A thread that does not come forward holds up nothing but the piece it has. */
static void test_split_of_a_stalled_thread_is_taken(void **state)
{
    for (size_t n_threads = 2; n_threads <= MOST; n_threads++) {
        mlxr_pool *p = open_pool(n_threads);
        stalled s = {0};
        mlxr_pool_split(p, 200, 1, 4, stall_at_99, &s);
        assert_int_equal(atomic_load(&s.n_done), 200);
        mlxr_pool_free(p);
    }
}

static void count_items(void *arg, size_t begin, size_t end, size_t i_thread)
{
    atomic_size_t *n = arg;
    (void)i_thread;
    atomic_fetch_add_explicit(n, end - begin, memory_order_relaxed);
}

/* The number of a split job has 16 bits. */
static void test_split_jobs_beyond_their_numbers(void **state)
{
    mlxr_pool *p = open_pool(2);
    atomic_size_t n = 0;
    for (size_t i = 0; i < 70000; i++) mlxr_pool_split(p, 6, 1, 1, count_items, &n);
    assert_int_equal(atomic_load(&n), 6 * 70000);
    mlxr_pool_free(p);
}

static void test_for_nothing_calls_nothing(void **state)
{
    visits v = {0};
    mlxr_pool *p = open_pool(2);
    mlxr_pool_for(p, 0, 4, visit, &v);
    assert_int_equal(atomic_load(&v.bad), 0);
    mlxr_pool_free(p);
}

typedef struct each {
    size_t calls[MOST];
    size_t n_threads;
    atomic_int bad;
} each;

static void once(void *arg, size_t i_thread, size_t n_threads)
{
    each *e = arg;
    if (i_thread >= MOST || n_threads != e->n_threads) {
        atomic_store(&e->bad, 1);
        return;
    }
    e->calls[i_thread]++;
}

static void test_run_reaches_every_thread_once(void **state)
{
    for (size_t n = 1; n <= MOST; n++) {
        mlxr_pool *p = open_pool(n);
        each e = {.n_threads = n};
        for (size_t i = 1; i <= 200; i++) {
            mlxr_pool_run(p, once, &e);
            for (size_t k = 0; k < MOST; k++) assert_int_equal(e.calls[k], k < n ? i : 0);
        }
        assert_int_equal(atomic_load(&e.bad), 0);
        mlxr_pool_free(p);
    }
}

/* Each call reads what the one before wrote, so a barrier that leaks shows as a wrong sum (or to TSan). */
typedef struct chain {
    uint64_t *from, *to;
    size_t n;
} chain;

static void chain_step(void *arg, size_t begin, size_t end, size_t i_thread)
{
    chain *c = arg;
    (void)i_thread;
    for (size_t i = begin; i < end; i++) c->to[i] = c->from[(i + 1) % c->n] + 1;
}

static void run_chain(size_t n_threads, size_t n_steps, useconds_t nap_us)
{
    enum { N = 37 };
    uint64_t a[N] = {0}, b[N] = {0};
    mlxr_pool *p = open_pool(n_threads);
    chain c = {a, b, N};

    for (size_t s = 0; s < n_steps; s++) {
        uint64_t *t;
        if (s % 2)
            mlxr_pool_for(p, N, 2, chain_step, &c);
        else
            mlxr_pool_split(p, N, 2, 4, chain_step, &c);
        t = c.from;
        c.from = c.to;
        c.to = t;
        if (nap_us && s % 8 == 0) usleep(nap_us);
    }
    for (size_t i = 0; i < N; i++) assert_int_equal(c.from[i], n_steps);
    mlxr_pool_free(p);
}

static void test_many_barriers(void **state)
{
    for (size_t n = 1; n <= MOST; n++) run_chain(n, n <= 2 ? 20000 : 2000, 0);
}

/* Naps longer than the spin: every worker is parked when the next job comes. */
static void test_wakes_parked_workers(void **state)
{
    run_chain(2, 200, 300);
    run_chain(5, 100, 300);
}

static void slow_on_workers(void *arg, size_t i_thread, size_t n_threads)
{
    atomic_size_t *done = arg;
    (void)n_threads;
    if (i_thread > 0) usleep(2000); /* the owner parks */
    atomic_fetch_add(done, 1);
}

static void test_owner_parks_and_is_woken(void **state)
{
    mlxr_pool *p = open_pool(3);
    atomic_size_t done = 0;
    for (int i = 0; i < 20; i++) mlxr_pool_run(p, slow_on_workers, &done);
    assert_int_equal(atomic_load(&done), 60);
    mlxr_pool_free(p);
}

static void test_default_is_the_cpus_allowed(void **state)
{
    mlxr_pool *p = open_pool(0);
    size_t n = mlxr_pool_n_threads(p);
    mlxr_pool_free(p);
    assert_in_range(n, 1, MLXR_POOL_MAX_THREADS);
#ifdef __linux__
    cpu_set_t old, one;
    int cpu = 0;
    assert_int_equal(sched_getaffinity(0, sizeof old, &old), 0);
    assert_int_equal(n, CPU_COUNT(&old));
    while (!CPU_ISSET(cpu, &old)) cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    p = open_pool(0);
    n = mlxr_pool_n_threads(p);
    mlxr_pool_free(p);
    assert_int_equal(n, 1);
    /* More threads than CPUs still finish. */
    run_chain(4, 300, 0);
    assert_int_equal(sched_setaffinity(0, sizeof old, &old), 0);
#endif
}

#ifdef __linux__
static void spin_a_little(void *arg, size_t begin, size_t end, size_t i_thread)
{
    atomic_size_t *n = arg;
    uint64_t start = mlxr_now_ns();
    while (mlxr_now_ns() - start < 2000 * (end - begin)) continue;
    count_items(n, begin, end, i_thread);
}

/* Four threads on one CPU: after a while the owner works alone; a job for every thread still reaches every thread. */
static void test_threads_without_cpus_are_left_out(void **state)
{
    enum { JOBS = 4000 };
    cpu_set_t old, one;
    mlxr_pool *p;
    atomic_size_t n = 0;
    each e = {.n_threads = 4};
    int cpu = 0;

    assert_int_equal(sched_getaffinity(0, sizeof old, &old), 0);
    while (!CPU_ISSET(cpu, &old)) cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    p = open_pool(4);
    for (size_t i = 0; i < JOBS; i++) {
        if (i % 2)
            mlxr_pool_split(p, 24, 2, 4, spin_a_little, &n);
        else
            mlxr_pool_for(p, 24, 2, spin_a_little, &n);
        if (i % 500 == 0) mlxr_pool_run(p, once, &e);
    }
    assert_int_equal(atomic_load(&n), 24 * JOBS);
    for (size_t k = 0; k < 4; k++) assert_int_equal(e.calls[k], JOBS / 500);
    mlxr_pool_free(p);
    assert_int_equal(sched_setaffinity(0, sizeof old, &old), 0);
}
#endif

static void test_too_many_threads(void **state)
{
    mlxr_pool *p = (mlxr_pool *)&p;
    mlxr_error err;
    assert_int_equal(mlxr_pool_create(&p, MLXR_POOL_MAX_THREADS + 1, &err), MLXR_E_INVALID_ARGUMENT);
    assert_null(p);
    assert_non_null(strstr(err.message, "1025"));
    mlxr_pool_free(NULL);
}

static void read_mask(void *arg, size_t i_thread, size_t n_threads)
{
    sigset_t *sets = arg;
    (void)n_threads;
    pthread_sigmask(SIG_SETMASK, NULL, &sets[i_thread]);
}

static void test_workers_block_signals(void **state)
{
    sigset_t sets[3];
    mlxr_pool *p = open_pool(3);
    mlxr_pool_run(p, read_mask, sets);
    mlxr_pool_free(p);
    assert_false(sigismember(&sets[0], SIGINT));
    for (int i = 1; i < 3; i++) assert_true(sigismember(&sets[i], SIGINT));
}

static void test_a_forked_child_can_free(void **state)
{
    mlxr_pool *p = open_pool(3);
    pid_t pid = fork();
    int status = -1;
    if (pid == 0) {
        mlxr_pool_free(p);
        _exit(7);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    mlxr_pool_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_for_covers_every_item_once),
        cmocka_unit_test(test_for_nothing_calls_nothing),
        cmocka_unit_test(test_split_covers_every_item_once),
        cmocka_unit_test(test_split_of_a_stalled_thread_is_taken),
        cmocka_unit_test(test_split_jobs_beyond_their_numbers),
        cmocka_unit_test(test_run_reaches_every_thread_once),
        cmocka_unit_test(test_many_barriers),
        cmocka_unit_test(test_wakes_parked_workers),
        cmocka_unit_test(test_owner_parks_and_is_woken),
        cmocka_unit_test(test_default_is_the_cpus_allowed),
#ifdef __linux__
        cmocka_unit_test(test_threads_without_cpus_are_left_out),
#endif
        cmocka_unit_test(test_too_many_threads),
        cmocka_unit_test(test_workers_block_signals),
        cmocka_unit_test(test_a_forked_child_can_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
