/* The scheduler with every allocation failing in turn: MLXR_E_NOMEM, nothing leaked (LeakSanitizer sees it in the asan build),
 * nothing moved: the step is taken again and all texts are what they should be. The linker sends the library's own
 * allocations through the wrappers here (--wrap). */
#include "engine/fake_device.h"
#include "test.h"

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
int __real_posix_memalign(void **p, size_t align, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
int __wrap_posix_memalign(void **p, size_t align, size_t n);

static size_t n_calls, fail_at = SIZE_MAX; /* the allocation that fails; those after it succeed again */

static bool fails(void)
{
    return ++n_calls == fail_at;
}

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}
void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}
int __wrap_posix_memalign(void **p, size_t align, size_t n)
{
    return fails() ? 12 : __real_posix_memalign(p, align, n);
}

enum { N = 5, N_NEW = 70 };

struct text {
    int32_t ids[FAKE_CONTEXT];
    size_t n_prompt, n;
    uint64_t seed;
    bool done;
};

static mlxr_error err;
static struct text texts[N];

static mlxr_status add_all(mlxr_scheduler *s, mlxr_sequence **first)
{
    mlxr_fork_params f = {.sampling = mlxr_sampling_default(), .seed = N - 1, .ud = &texts[N - 1]};
    mlxr_sequence *q;
    mlxr_status st = MLXR_OK;

    for (size_t i = 0; i + 1 < N && st == MLXR_OK; i++) {
        mlxr_sequence_params p = mlxr_sequence_params_default();
        p.ids = texts[i].ids;
        p.n_ids = texts[i].n_prompt;
        p.max_tokens = N_NEW;
        p.seed = texts[i].seed;
        p.logprobs = i == 2;
        p.n_top_logprobs = i;
        p.ud = &texts[i];
        st = mlxr_scheduler_add(&q, s, &p, &err);
        if (i == 0) *first = q;
    }
    return st == MLXR_OK ? mlxr_scheduler_fork(&q, s, *first, &f, &err) : st;
}

/* Steps to the end; one that fails for memory is taken again. */
static mlxr_status run(mlxr_scheduler *s)
{
    mlxr_status failed = MLXR_OK;

    for (bool idle = false; !idle;) {
        const mlxr_step_result *r;
        size_t n;
        mlxr_status st = mlxr_scheduler_step(s, NULL, &r, &n, &idle, &err);
        size_t kept = fail_at;
        if (st != MLXR_OK) {
            assert_int_equal(st, MLXR_E_NOMEM);
            assert_int_equal(n, 0);
            failed = st;
        }
        for (size_t i = 0; i < n; i++) {
            struct text *t = r[i].ud;
            if (r[i].id >= 0) t->ids[t->n++] = r[i].id;
            t->done = r[i].done;
            assert_int_equal(r[i].status, MLXR_OK);
            if (r[i].done) mlxr_scheduler_remove(s, r[i].sequence);
        }
        fail_at = SIZE_MAX;
        assert_ok(mlxr_scheduler_check(s, &err), &err);
        fail_at = kept;
        n_calls -= 1; /* that check's own */
    }
    return failed;
}

static void fail_each(bool recurrent)
{
    const mlxr_sampling sampling = mlxr_sampling_default();
    size_t n_failed = 0;
    bool finished = false;

    for (size_t k = 1; !finished; k++) {
        mlxr_scheduler_options o = mlxr_scheduler_options_default();
        mlxr_sequence *first = NULL;
        mlxr_scheduler *s = NULL;
        fake_device d;
        mlxr_status st;

        fake_init(&d, recurrent, true);
        o.max_tokens_per_step = 40;
        o.max_kv_tokens = 13 * MLXR_KV_BLOCK;
        o.snapshot_blocks = 1;
        memset(texts, 0, sizeof texts);
        for (size_t i = 0; i < N; i++) {
            texts[i].seed = i;
            texts[i].n_prompt = texts[i].n = i + 1 < N ? 20 + 30 * i : 20;
            for (size_t j = 0; j < texts[i].n; j++)
                texts[i].ids[j] = (int32_t)((i % (N - 1) * 5 + j * j) % FAKE_VOCAB);
        }
        n_calls = 0;
        fail_at = k;
        st = mlxr_scheduler_open(&s, &d.base, &d.program, &o, &err);
        if (st == MLXR_OK) st = add_all(s, &first);
        if (st == MLXR_OK) {
            st = run(s);
            finished = n_calls < fail_at;
            fail_at = SIZE_MAX;
            for (size_t i = 0; i < N; i++) {
                int32_t want[N_NEW];
                assert_true(texts[i].done);
                assert_int_equal(texts[i].n, texts[i].n_prompt + N_NEW);
                fake_answer(want, NULL, texts[i].ids, texts[i].n_prompt, N_NEW, recurrent, &sampling,
                            texts[i].seed);
                assert_memory_equal(texts[i].ids + texts[i].n_prompt, want, sizeof want);
            }
        } else {
            assert_int_equal(st, MLXR_E_NOMEM);
        }
        n_failed += st != MLXR_OK;
        fail_at = SIZE_MAX;
        mlxr_scheduler_close(s);
    }
    assert_true(n_failed > 30);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    fail_each(false);
}

static void every_allocation_with_snapshots_may_fail(void **state)
{
    (void)state;
    fail_each(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(every_allocation_with_snapshots_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
