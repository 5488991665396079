/* The cpu device with every allocation failing in turn: MLXR_E_NOMEM, nothing leaked (LeakSanitizer sees it in the
 * asan build), and an executable that was there before serves the next step. The linker sends the library's own
 * allocations through the wrappers here (--wrap). */
#include "device/made_experts.h"
#include "model/model.h"
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

enum { MOST = 70 };

static mlxr_status run(mlxr_executable *e, mlxr_state *s, size_t n, float *logits, mlxr_error *err)
{
    static const uint32_t blocks[] = {0, 1, 2}, seqs[MOST];
    static int32_t ids[MOST];
    static uint32_t positions[MOST];
    mlxr_block_table table = {.blocks = blocks, .n_blocks = 3};
    uint32_t row = (uint32_t)n - 1;
    mlxr_batch batch = {n, ids, positions, seqs, &table, 1, &row, 1};
    for (size_t i = 0; i < MOST; i++) {
        ids[i] = (int32_t)(i % 50);
        positions[i] = (uint32_t)i;
    }
    return mlxr_run(e, s, &batch, NULL, logits, err);
}

static void fail_each(const mlxr_program *p)
{
    size_t V = p->vocab_size, n_failed = 0;
    float *want = malloc(V * sizeof *want), *got = malloc(V * sizeof *got);
    mlxr_error err;
    bool done = false;

    assert_non_null(want);
    assert_non_null(got);
    for (size_t k = 0; !done; k++) {
        mlxr_device_options options = {.n_threads = 2};
        mlxr_device *d = NULL;
        mlxr_executable *e = NULL;
        mlxr_state *s = NULL;
        mlxr_status st;
        n_calls = 0;
        fail_at = k ? k : SIZE_MAX;
        st = mlxr_device_open(&d, "cpu", &options, &err);
        if (st == MLXR_OK) st = mlxr_device_compile(&e, d, p, &err);
        if (st == MLXR_OK) st = mlxr_state_create(&s, e, 3, 4, &err);
        if (st == MLXR_OK) st = run(e, s, 1, got, &err);
        if (st == MLXR_OK) st = run(e, s, MOST, got, &err);
        done = k > 0 && n_calls < fail_at;
        fail_at = SIZE_MAX;
        if (k == 0) {
            assert_int_equal(st, MLXR_OK);
            memcpy(want, got, V * sizeof *want);
        } else if (!done) {
            assert_int_equal(st, MLXR_E_NOMEM);
            assert_non_null(strstr(err.message, "out of memory"));
            n_failed++;
        }
        if (s) {
            assert_ok(run(e, s, MOST, got, &err), &err);
            assert_memory_equal(got, want, V * sizeof *want);
        }
        mlxr_state_free(s);
        mlxr_executable_free(e);
        mlxr_device_close(d);
    }
    assert_true(n_failed > 20);
    free(want);
    free(got);
}

static void every_allocation_may_fail(void **state)
{
    char path[4096];
    mlxr_model *m;
    mlxr_error err;

    (void)state;
    snprintf(path, sizeof path, "%s/tests/model/models/f16_bias", MLXR_SOURCE_DIR);
    assert_ok(mlxr_model_open(&m, path, &err), &err);
    fail_each(mlxr_model_program(m));
    mlxr_model_close(m);
}

static void every_allocation_of_experts_may_fail(void **state)
{
    spec s = plain(5, 2, 50, 20);
    mlxr_program *p;

    (void)state;
    s.biases = s.expert_weights = true;
    p = experts_program(&s, false);
    fail_each(p);
    mlxr_program_free(p);
    s.stored = (storage){MLXR_QUANT_AFFINE, 4, 32, MLXR_F16};
    s.D = s.n_ids = 64;
    s.F = 32;
    p = experts_program(&s, false);
    fail_each(p);
    mlxr_program_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(every_allocation_of_experts_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
