/* Eight processes add, replace, copy, view, remove and gc at random in one store, some of them killed; afterwards every name stands for a whole
 * model. Then threads of one process on one store do the same. */
#include "test.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "made.h"

enum { N_PROCESSES = 8, N_THREADS = 6, SECONDS = 3, N_MODELS = 5, N_NAMES = 6 };

static uint64_t next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed >> 11;
}

static const char *a_name(uint64_t *seed)
{
    static const char *const names[N_NAMES] = {"a", "A", "org/b:v1", "org/b:v2", "Org/C", "localhost:5000/d"};
    return names[next(seed) % N_NAMES];
}

/* What may be told while others work on the same names. */
static bool is_fine(mlxr_status st)
{
    return st == MLXR_OK || st == MLXR_E_NOT_FOUND;
}

/* One call; false: it failed with something else than that the others explain. */
static bool step(mlxr_store *s, uint64_t *seed)
{
    const char *name = a_name(seed);
    mlxr_store_entry *entries;
    mlxr_status st;
    char *path;
    size_t n;

    switch (next(seed) % 8) {
    case 0:
    case 1:
    case 2: return make_model(NULL, s, name, (unsigned)(next(seed) % N_MODELS), &err) == MLXR_OK;
    case 3: return is_fine(mlxr_store_remove(s, name, NULL, &err));
    case 4: return mlxr_store_gc(NULL, s, NULL, &err) == MLXR_OK;
    case 5: return is_fine(mlxr_store_copy(s, name, a_name(seed), &err));
    case 6:
        st = mlxr_store_model_path(&path, s, name, &err);
        mlxr_free(path);
        return is_fine(st);
    default:
        if (mlxr_store_list(&entries, &n, s, &err) != MLXR_OK) return false;
        mlxr_store_entries_free(entries, n);
        return true;
    }
}

static int work(uint64_t seed, uint64_t until_ns)
{
    mlxr_store_options o = mlxr_store_options_default();
    mlxr_store *s;

    o.grace_seconds = 0;
    if (mlxr_store_open(&s, in_dir("s"), &o, &err) != MLXR_OK) return 1;
    while (mlxr_now_ns() < until_ns) {
        *err.message = '\0';
        if (step(s, &seed)) continue;
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    mlxr_store_close(s);
    return 0;
}

static void check_after(void)
{
    mlxr_store_options o = mlxr_store_options_default();
    mlxr_store_gc_result gc;
    const char *bad;
    mlxr_store *s;

    o.grace_seconds = 0;
    s = open_made(&o);
    if ((bad = inconsistent(s)) != NULL) fail_msg("%s", bad);
    assert_ok(mlxr_store_gc(&gc, s, NULL, &err), &err);
    if ((bad = inconsistent(s)) != NULL) fail_msg("after gc: %s", bad);
    assert_int_equal(gc.n_kept, 0);
    assert_int_equal(count_in(in_dir("s/sessions")), 0);
    mlxr_store_close(s);
}

/* kill_every_ms 0: nobody is killed. */
static void processes(unsigned kill_every_ms)
{
    pid_t pids[N_PROCESSES];
    uint64_t until = mlxr_now_ns() + (uint64_t)SECONDS * 1000000000, seed = 99 + kill_every_ms;
    unsigned n_started = 0;

    for (int i = 0; i < N_PROCESSES; i++) pids[i] = 0;
    while (mlxr_now_ns() < until) {
        for (int i = 0; i < N_PROCESSES; i++) {
            if (pids[i]) continue;
            pids[i] = fork();
            assert_true(pids[i] >= 0);
            if (pids[i] == 0) _exit(work(1234567 * (uint64_t)++n_started + kill_every_ms, until));
            n_started++;
        }
        if (!kill_every_ms) break;
        usleep(kill_every_ms * 1000);
        int victim = (int)(next(&seed) % N_PROCESSES), status;
        kill(pids[victim], SIGKILL);
        assert_int_equal(waitpid(pids[victim], &status, 0), pids[victim]);
        assert_false(WIFEXITED(status) && WEXITSTATUS(status) != 0);
        pids[victim] = 0;
    }
    for (int i = 0; i < N_PROCESSES; i++) {
        int status;
        if (!pids[i]) continue;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    printf("%u processes\n", n_started);
    check_after();
}

static void eight_processes(void **state)
{
    processes(0);
}

static void eight_processes_some_of_them_killed(void **state)
{
    processes(7);
}

struct thread {
    mlxr_store *store;
    uint64_t seed, until_ns;
    bool ok;
};

static void *thread_work(void *arg)
{
    struct thread *t = arg;
    mlxr_error e;

    while (t->ok && mlxr_now_ns() < t->until_ns) {
        const char *name = a_name(&t->seed);
        char *path;
        mlxr_status st;
        switch (next(&t->seed) % 5) {
        case 0:
        case 1:
            t->ok = make_model(NULL, t->store, name, (unsigned)(next(&t->seed) % N_MODELS), &e) == MLXR_OK;
            break;
        case 2: t->ok = is_fine(mlxr_store_remove(t->store, name, NULL, &e)); break;
        case 3: t->ok = mlxr_store_gc(NULL, t->store, NULL, &e) == MLXR_OK; break;
        default:
            st = mlxr_store_model_path(&path, t->store, name, &e);
            t->ok = is_fine(st);
            mlxr_free(path);
        }
        if (!t->ok) fprintf(stderr, "%s\n", e.message);
    }
    return NULL;
}

static void threads_share_a_store(void **state)
{
    mlxr_store_options o = mlxr_store_options_default();
    struct thread threads[N_THREADS];
    pthread_t ids[N_THREADS];
    mlxr_store *s;

    o.grace_seconds = 0;
    s = open_made(&o);
    for (unsigned i = 0; i < N_THREADS; i++) {
        threads[i] = (struct thread){s, 77 + i * 1000, mlxr_now_ns() + 1000000000, true};
        assert_int_equal(pthread_create(&ids[i], NULL, thread_work, &threads[i]), 0);
    }
    for (unsigned i = 0; i < N_THREADS; i++) pthread_join(ids[i], NULL);
    for (unsigned i = 0; i < N_THREADS; i++) assert_true(threads[i].ok);
    mlxr_store_close(s);
    check_after();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(eight_processes, made_begin, made_end),
        cmocka_unit_test_setup_teardown(eight_processes_some_of_them_killed, made_begin, made_end),
        cmocka_unit_test_setup_teardown(threads_share_a_store, made_begin, made_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
