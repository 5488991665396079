/* The cpu device with every allocation failing in turn: MLXR_E_NOMEM, nothing leaked (LeakSanitizer sees it in the
 * asan build), and an executable that was there before serves the next step. The linker sends the library's own
 * allocations through the wrappers here (--wrap). */
#include "device/device.h"
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

static mlxr_status step(mlxr_executable *e, mlxr_state *s, size_t n, float *logits, mlxr_error *err)
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

static void check(const mlxr_program *p)
{
    mlxr_error err;
    float *want = malloc(p->vocab_size * sizeof *want), *got = malloc(p->vocab_size * sizeof *got);
    size_t n_failed = 0;
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
        if (st == MLXR_OK) st = step(e, s, 1, got, &err);
        if (st == MLXR_OK) st = step(e, s, MOST, got, &err);
        done = k > 0 && n_calls < fail_at;
        fail_at = SIZE_MAX;
        if (k == 0) {
            assert_int_equal(st, MLXR_OK);
            memcpy(want, got, p->vocab_size * sizeof *want);
        } else if (!done) {
            assert_int_equal(st, MLXR_E_NOMEM);
            assert_non_null(strstr(err.message, "out of memory"));
            n_failed++;
        }
        if (s) {
            assert_ok(step(e, s, MOST, got, &err), &err);
            assert_memory_equal(got, want, p->vocab_size * sizeof *want);
        }
        mlxr_state_free(s);
        mlxr_executable_free(e);
        mlxr_device_close(d);
    }
    assert_true(n_failed > 20);
    free(want);
    free(got);
}

static void every_allocation_of_a_model_may_fail(void **state)
{
    char path[4096];
    mlxr_model *m;
    mlxr_error err;

    (void)state;
    snprintf(path, sizeof path, "%s/tests/model/models/f16_bias", MLXR_SOURCE_DIR);
    assert_ok(mlxr_model_open(&m, path, &err), &err);
    check(mlxr_model_program(m));
    mlxr_model_close(m);
}

/* What the model above has not: states of sequences, sinks, a norm with a bias, and vectors that fill the arena's
 * chunks, so that each of them is an allocation. */
static void every_allocation_of_a_state_may_fail(void **state)
{
    enum { V = 50, D = 9000, H = 3000, DK = 3 };
    mlxr_op embed = mlxr_op_init(MLXR_OP_EMBED, -1), conv = mlxr_op_init(MLXR_OP_SHORT_CONV, 0);
    mlxr_op delta = mlxr_op_init(MLXR_OP_GATED_DELTA, 0), attend = mlxr_op_init(MLXR_OP_ATTEND, 1);
    mlxr_op norm = mlxr_op_init(MLXR_OP_LAYER_NORM, 1), slice = mlxr_op_init(MLXR_OP_SLICE, 0);
    mlxr_op bare = mlxr_op_init(MLXR_OP_RMS_NORM, 1);
    mlxr_builder *b;
    mlxr_program *p;
    mlxr_error err;

    (void)state;
    assert_ok(mlxr_builder_create(&b, "made", &err), &err);
    embed.dst = conv.a = mlxr_build_reg(b, "x", D);
    embed.weight = mlxr_build_matrix(b, V, D, "embed");
    mlxr_build_op(b, &embed);
    conv.dst = mlxr_build_reg(b, "c", D);
    conv.weight = mlxr_build_matrix(b, D, 3, "conv");
    conv.bias = mlxr_build_vector(b, D, ".bias", "conv");
    conv.u.conv.slot = mlxr_build_conv_slot(b, "conv", D, 2);
    mlxr_build_op(b, &conv);
    slice.a = conv.dst;
    slice.dst = delta.d = delta.e = mlxr_build_reg(b, "gates", H);
    slice.u.slice.run = H;
    mlxr_build_op(b, &slice);
    delta.a = delta.b = delta.c = conv.dst;
    delta.dst = bare.dst = bare.a = norm.dst = norm.a = mlxr_build_reg(b, "y", D);
    delta.weight = mlxr_build_vector(b, H, "", "A_log");
    delta.bias = mlxr_build_vector(b, H, "", "dt_bias");
    delta.u.delta.slot = mlxr_build_delta_slot(b, "delta", H, DK, DK);
    delta.u.delta.n_k_heads = H;
    mlxr_build_op(b, &delta);
    norm.weight = mlxr_build_vector(b, D, ".weight", "norm");
    norm.bias = mlxr_build_vector(b, D, ".bias", "norm");
    norm.u.norm.width = bare.u.norm.width = D;
    norm.u.norm.eps = bare.u.norm.eps = 1;
    mlxr_build_op(b, &norm);
    mlxr_build_op(b, &bare);
    attend.a = attend.b = attend.c = norm.dst;
    attend.dst = slice.a = mlxr_build_reg(b, "mixed", D);
    attend.weight = mlxr_build_vector(b, H, "", "sinks");
    attend.u.attend.slot = mlxr_build_slot(b, "kv", H, DK, DK, 2);
    attend.u.attend.n_heads = H;
    attend.u.attend.scale = 1;
    mlxr_build_op(b, &attend);
    slice.dst = mlxr_build_reg(b, "logits", V);
    slice.u.slice.run = V;
    mlxr_build_op(b, &slice);
    assert_ok(mlxr_builder_finish(&p, b, V, V, 2, 128, slice.dst, &err), &err);
    mlxr_builder_free(b);
    for (size_t i = 0; i < p->n_weights; i++) {
        mlxr_weight *w = &p->weights[i];
        size_t n = w->n_rows * w->n_cols;
        float *data = mlxr_arena_calloc(&p->arena, n, sizeof *data);
        assert_non_null(data);
        for (size_t j = 0; j < n; j++) data[j] = (float)(j % 17) / 17.0f - 0.5f;
        w->m = (mlxr_matrix){.dtype = MLXR_F32,
                             .n_rows = w->n_rows,
                             .n_cols = w->n_cols,
                             .row_bytes = w->n_cols * sizeof *data,
                             .data = data};
        w->bound = true;
    }
    check(p);
    mlxr_program_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_of_a_model_may_fail),
        cmocka_unit_test(every_allocation_of_a_state_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
