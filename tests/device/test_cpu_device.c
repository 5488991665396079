/* What the cpu device adds to the contract that test_reference.c checks on every device: threads and passes that do
 * not show, shapes its kernels cut differently than the tiny models do, and what it refuses. */
#include <math.h>

#include "base/fs.h"
#include "device/cpu/kernels.h"
#include "device/device.h"
#include "model/model.h"
#include "test.h"

typedef struct session {
    mlxr_device *device;
    mlxr_executable *executable;
    mlxr_state *state;
} session;

static session open_session_kv(const char *name, const char *isa, size_t n_threads, mlxr_kv_type kv_type,
                               const mlxr_program *p, size_t n_blocks)
{
    mlxr_device_options options = {
        .precision = MLXR_PRECISION_EXACT, .n_threads = n_threads, .isa = isa, .kv_type = kv_type};
    session s;
    mlxr_error err;
    assert_ok(mlxr_device_open(&s.device, name, &options, &err), &err);
    assert_ok(mlxr_device_compile(&s.executable, s.device, p, &err), &err);
    assert_ok(mlxr_state_create(&s.state, s.executable, n_blocks, 4, &err), &err);
    return s;
}

static session open_session(const char *name, const char *isa, size_t n_threads, const mlxr_program *p,
                            size_t n_blocks)
{
    return open_session_kv(name, isa, n_threads, MLXR_KV_DEFAULT, p, n_blocks);
}

static void close_session(session *s)
{
    mlxr_state_free(s->state);
    mlxr_executable_free(s->executable);
    mlxr_device_close(s->device);
}

/* Tokens [from, to) of a made-up text in one step; logits of those t with (t + 1) % every == 0, [.., V]. */
static size_t step(session *s, size_t from, size_t to, size_t every, float *logits)
{
    const mlxr_program *p = s->executable->program;
    size_t n = to - from, n_rows = 0;
    uint32_t *u = mlxr_calloc_array(3 * n + s->state->n_blocks, sizeof *u);
    uint32_t *positions = u, *seqs = u + n, *rows = u + 2 * n, *blocks = u + 3 * n;
    int32_t *ids = mlxr_calloc_array(n, sizeof *ids);
    mlxr_block_table table = {.blocks = blocks, .n_blocks = s->state->n_blocks};
    mlxr_batch batch = {n, ids, positions, seqs, &table, 1, rows, 0};
    mlxr_error err;

    assert_non_null(u);
    assert_non_null(ids);
    for (size_t i = 0; i < s->state->n_blocks; i++) blocks[i] = (uint32_t)(s->state->n_blocks - 1 - i);
    for (size_t i = 0; i < n; i++) {
        ids[i] = (int32_t)((from + i) * 37 % p->vocab_size);
        positions[i] = (uint32_t)(from + i);
        if ((from + i + 1) % every == 0) rows[n_rows++] = (uint32_t)i;
    }
    batch.n_rows = n_rows;
    assert_ok(mlxr_run(s->executable, s->state, &batch, NULL, logits, &err), &err);
    free(u);
    free(ids);
    return n_rows;
}

static mlxr_model *open_model(const char *name)
{
    char *path = mlxr_asprintf("%s/tests/model/models/%s", MLXR_SOURCE_DIR, name);
    mlxr_model *m;
    mlxr_error err;
    assert_non_null(path);
    assert_ok(mlxr_model_open(&m, path, &err), &err);
    free(path);
    return m;
}

static const char *const models[] = {"q4_g32", "mixed", "f16_bias", "bf16_sliding"};

static void threads_change_no_bit(void **state)
{
    enum { N = 75 };
    const mlxr_cpu_kernels *k;

    (void)state;
    for (size_t i_isa = 0; (k = mlxr_cpu_kernels_at(i_isa)) != NULL; i_isa++) {
        for (size_t i = 0; i < MLXR_COUNT(models); i++) {
            mlxr_model *m = open_model(models[i]);
            const mlxr_program *p = mlxr_model_program(m);
            size_t bytes = N * p->vocab_size * sizeof(float);
            float *first = malloc(bytes), *other = malloc(bytes);
            assert_non_null(first);
            assert_non_null(other);
            for (size_t n_threads = 1; n_threads <= 5; n_threads++) {
                float *out = n_threads == 1 ? first : other;
                session s = open_session("cpu", k->isa, n_threads, p, 4);
                step(&s, 0, 70, 1, out);
                for (size_t t = 70; t < N; t++) step(&s, t, t + 1, 1, out + t * p->vocab_size);
                if (n_threads > 1) assert_memory_equal(first, other, bytes);
                close_session(&s);
            }
            free(first);
            free(other);
            mlxr_model_close(m);
        }
    }
}

/* 1,100 tokens are three passes; wanted rows fall into each of them, into one's end, and into none. */
static void passes_change_no_bit(void **state)
{
    enum { N = 1100 };
    static const size_t every[] = {1, 64, 300, 512, 2000};

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(models); i++) {
        mlxr_model *m = open_model(models[i]);
        const mlxr_program *p = mlxr_model_program(m);
        size_t V = p->vocab_size;
        float *parts = malloc(N * V * sizeof *parts), *whole = malloc(N * V * sizeof *whole);
        session s = open_session("cpu", NULL, 2, p, N / MLXR_KV_BLOCK + 1);
        assert_non_null(parts);
        assert_non_null(whole);
        for (size_t t = 0; t < N; t += 100) step(&s, t, t + 100, 1, parts + t * V);
        for (size_t j = 0; j < MLXR_COUNT(every); j++) {
            size_t n_rows;
            for (size_t x = 0; x < N * V; x++) whole[x] = NAN;
            n_rows = step(&s, 0, N, every[j], whole);
            assert_int_equal(n_rows, N / every[j]);
            for (size_t r = 0; r < n_rows; r++) {
                assert_memory_equal(whole + r * V, parts + ((r + 1) * every[j] - 1) * V, V * sizeof *whole);
            }
            for (size_t x = n_rows * V; x < N * V; x++) assert_true(isnan(whole[x]));
        }
        close_session(&s);
        free(parts);
        free(whole);
        mlxr_model_close(m);
    }
}

/* ---- programs made here ---- */

enum { V = 11 };

static mlxr_reg_id build_embed(mlxr_builder *b, const char *name, size_t width)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_EMBED, -1);
    op.dst = mlxr_build_reg(b, name, width);
    op.weight = mlxr_build_matrix(b, V, width, "%s", name);
    op.u.embed.scale = 0.8f;
    mlxr_build_op(b, &op);
    return op.dst;
}

/* q [heads, Dk], k, v -> ATTEND -> LINEAR to the logits; weights dense f32 in the program's arena. With extras: sinks, a
 * softcap, queries scaled by position; and the result is attention again, as a query of the same keys and values. */
static mlxr_program *attend_program(size_t heads, size_t kv_heads, size_t Dk, size_t Dv, size_t window,
                                    float scale, bool extras)
{
    mlxr_builder *b;
    mlxr_program *p;
    mlxr_op op = mlxr_op_init(MLXR_OP_ATTEND, 3), out = mlxr_op_init(MLXR_OP_LINEAR, 4);
    mlxr_error err;
    uint32_t x = 12345;

    assert_ok(mlxr_builder_create(&b, "made", &err), &err);
    op.a = build_embed(b, "q", heads * Dk);
    op.b = build_embed(b, "k", kv_heads * Dk);
    op.c = build_embed(b, "v", kv_heads * Dv);
    op.dst = mlxr_build_reg(b, "mixed", heads * Dv);
    op.u.attend.slot = mlxr_build_slot(b, "kv", kv_heads, Dk, Dv, window);
    op.u.attend.n_heads = heads;
    op.u.attend.scale = scale;
    mlxr_build_op(b, &op);
    if (extras) {
        op.a = op.dst;
        op.b = op.c = MLXR_NONE;
        op.dst = mlxr_build_reg(b, "again", heads * Dv);
        op.weight = mlxr_build_vector(b, heads, "", "sinks");
        op.u.attend.softcap = 1.5f;
        op.u.attend.position_beta = 0.3f;
        op.u.attend.position_span = 100;
        mlxr_build_op(b, &op);
    }
    out.a = op.dst;
    out.dst = mlxr_build_reg(b, "logits", V);
    out.weight = mlxr_build_matrix(b, V, heads * Dv, "out");
    mlxr_build_op(b, &out);
    assert_ok(mlxr_builder_finish(&p, b, V, V, 1, 4096, out.dst, &err), &err);
    mlxr_builder_free(b);
    for (size_t i = 0; i < p->n_weights; i++) {
        mlxr_weight *w = &p->weights[i];
        float *data = mlxr_arena_calloc(&p->arena, w->n_rows * w->n_cols, sizeof *data);
        assert_non_null(data);
        for (size_t j = 0; j < w->n_rows * w->n_cols; j++) {
            x = x * 1664525u + 1013904223u;
            data[j] = (float)(int32_t)x / 2147483648.0f;
        }
        w->m = (mlxr_matrix){.dtype = MLXR_F32,
                             .n_rows = w->n_rows,
                             .n_cols = w->n_cols,
                             .row_bytes = w->n_cols * sizeof *data,
                             .data = data};
        w->bound = true;
    }
    return p;
}

static const mlxr_kv_type kv_types[] = {MLXR_KV_F32, MLXR_KV_F16, MLXR_KV_INT8};

static void attention_shapes_equal_ref(void **state)
{
    static const struct {
        size_t heads, kv_heads, Dk, Dv, window;
        bool extras;
    } shapes[] = {
        {40, 1, 16, 24, 0, false},  /* more queries a token than one call takes */
        {33, 1, 8, 8, 7, false},    /* the same with one left over */
        {32, 2, 64, 64, 50, false}, /* two tokens a tile */
        {6, 3, 20, 5, 300, false},  /* nothing a multiple of a vector */
        {3, 3, 128, 128, 0, false}, {2, 1, 512, 512, 60, false}, {4, 2, 257, 300, 100, false},
        {40, 1, 16, 16, 0, true},   {6, 3, 20, 20, 300, true},   {4, 2, 64, 64, 5, true},
    };
    enum { N = 530 }; /* over a pass and two spans of the softmax */
    const mlxr_cpu_kernels *k;

    (void)state;
    for (size_t c = 0; c < MLXR_COUNT(shapes) * MLXR_COUNT(kv_types); c++) {
        size_t i_shape = c / MLXR_COUNT(kv_types);
        mlxr_kv_type kv = kv_types[c % MLXR_COUNT(kv_types)];
        mlxr_program *p = attend_program(shapes[i_shape].heads, shapes[i_shape].kv_heads, shapes[i_shape].Dk,
                                         shapes[i_shape].Dv, shapes[i_shape].window, 0.9f,
                                         shapes[i_shape].extras);
        float *want = malloc(N * V * sizeof *want), *got = malloc(N * V * sizeof *got);
        float *again = malloc(N * V * sizeof *again);
        session s = open_session_kv("ref", NULL, 1, kv, p, N / MLXR_KV_BLOCK + 1);
        assert_non_null(want);
        assert_non_null(got);
        assert_non_null(again);
        step(&s, 0, N, 1, want);
        close_session(&s);
        for (size_t i_isa = 0; (k = mlxr_cpu_kernels_at(i_isa)) != NULL; i_isa++) {
            s = open_session_kv("cpu", k->isa, 3, kv, p, N / MLXR_KV_BLOCK + 1);
            step(&s, 0, N, 1, got);
            for (size_t i = 0; i < N * V; i++) {
                /* Sums of up to 384 terms below 1, or of up to 1200. */
                if (!(fabsf(got[i] - want[i]) <= (shapes[i_shape].Dk > 128 ? 8e-5f : 2e-5f))) {
                    fail_msg("shape %zu, %s, kv %d: [%zu] is %.9g, wanted %.9g", i_shape, k->isa, (int)kv, i,
                             (double)got[i], (double)want[i]);
                }
            }
            close_session(&s);
            /* Other chunks, other threads: one token at a time is cut into spans, a hundred are not. */
            for (size_t n_threads = 1; n_threads <= 3; n_threads++) {
                s = open_session_kv("cpu", k->isa, n_threads, kv, p, N / MLXR_KV_BLOCK + 1);
                for (size_t t = 0; t < N;) {
                    size_t n = t < 400 ? 100 : t < 500 ? 7 : 1, to = t + n < N ? t + n : N;
                    step(&s, t, to, 1, again + t * V);
                    t = to;
                }
                assert_memory_equal(again, got, N * V * sizeof *got);
                close_session(&s);
            }
        }
        free(again);
        free(want);
        free(got);
        mlxr_program_free(p);
    }
}

/* Blocks of the state are used again: what an earlier sequence left there, NaN too, must not reach a later one. */
static void old_state_does_not_leak(void **state)
{
    const mlxr_cpu_kernels *k;
    enum { N = 37 };
    float want[N * V], got[N * V];

    (void)state;
    for (size_t i = 0; (k = mlxr_cpu_kernels_at(i / MLXR_COUNT(kv_types))) != NULL; i++) {
        mlxr_program *p = attend_program(4, 2, 16, 8, 0, 0.5f, false);
        float *q = (float *)(uintptr_t)p->weights[0].m.data, *key = (float *)(uintptr_t)p->weights[1].m.data,
              *v = (float *)(uintptr_t)p->weights[2].m.data;
        session s = open_session_kv("cpu", k->isa, 2, kv_types[i % MLXR_COUNT(kv_types)], p, 3);
        float kept_q = q[5], kept_k = key[5], kept_v = v[5];
        step(&s, 0, N, 1, want);
        q[5] = key[5] = v[5] = NAN;
        step(&s, 0, 96, 1000, got);
        q[5] = kept_q;
        key[5] = kept_k;
        v[5] = kept_v;
        for (size_t t = 0; t < N; t += 5) step(&s, t, t + 5 < N ? t + 5 : N, 1, got + t * V);
        assert_memory_equal(got, want, sizeof want);
        close_session(&s);
        mlxr_program_free(p);
    }
}

/* A block has what the type needs; and the default follows the precision. */
static void kv_types_have_their_size(void **state)
{
    enum { NUMBERS = MLXR_KV_BLOCK * 2 * (16 + 32), SCALES = MLXR_KV_BLOCK * 2 * 2 * 4 };
    static const struct {
        const char *device;
        mlxr_precision precision;
        mlxr_kv_type type;
        size_t bytes;
        const char *name;
    } cases[] = {
        {"cpu", MLXR_PRECISION_EXACT, MLXR_KV_DEFAULT, 4 * NUMBERS, "f32"},
        {"cpu", MLXR_PRECISION_FAST, MLXR_KV_DEFAULT, 2 * NUMBERS, "f16"},
        {"cpu", MLXR_PRECISION_DEFAULT, MLXR_KV_DEFAULT, 2 * NUMBERS, "f16"},
        {"cpu", MLXR_PRECISION_FAST, MLXR_KV_F32, 4 * NUMBERS, "f32"},
        {"cpu", MLXR_PRECISION_EXACT, MLXR_KV_F16, 2 * NUMBERS, "f16"},
        {"cpu", MLXR_PRECISION_EXACT, MLXR_KV_INT8, NUMBERS + SCALES, "int8"},
        {"ref", MLXR_PRECISION_FAST, MLXR_KV_DEFAULT, 4 * NUMBERS, "f32"},
    };
    mlxr_program *p = attend_program(4, 2, 16, 32, 0, 0.5f, false);

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        mlxr_device_options options = {
            .precision = cases[i].precision, .kv_type = cases[i].type, .n_threads = 1};
        mlxr_device *d;
        mlxr_executable *e;
        mlxr_error err;
        assert_ok(mlxr_device_open(&d, cases[i].device, &options, &err), &err);
        assert_ok(mlxr_device_compile(&e, d, p, &err), &err);
        assert_int_equal(mlxr_executable_block_bytes(e), cases[i].bytes);
        assert_string_equal(mlxr_device_kv(d), cases[i].name);
        mlxr_executable_free(e);
        mlxr_device_close(d);
    }
    mlxr_program_free(p);
}

/* ---- what is refused ---- */

static void bad_options_are_refused(void **state)
{
    mlxr_device_options options = {.isa = "sse9"};
    mlxr_device *d;
    mlxr_error err;

    (void)state;
    assert_fails(mlxr_device_open(&d, "cpu", &options, &err), MLXR_E_DEVICE, "\"sse9\"", &err);
    assert_null(d);
    assert_non_null(strstr(err.message, "baseline"));
    options = (mlxr_device_options){.kv_type = MLXR_KV_F16};
    assert_fails(mlxr_device_open(&d, "mlx", &options, &err), MLXR_E_UNSUPPORTED, "keys and values", &err);
    assert_null(d);
    options = (mlxr_device_options){.n_threads = 100000};
    assert_fails(mlxr_device_open(&d, "cpu", &options, &err), MLXR_E_INVALID_ARGUMENT, "100000", &err);
    assert_null(d);
}

static void the_description_names_isa_and_threads(void **state)
{
    mlxr_device_options options = {.isa = "baseline", .n_threads = 1};
    mlxr_device *d;
    mlxr_error err;

    (void)state;
    assert_ok(mlxr_device_open(&d, "cpu", &options, &err), &err);
    assert_string_equal(mlxr_device_description(d), "cpu baseline, 1 thread");
    mlxr_device_close(d);
}

static void unsupported_operations_are_named(void **state)
{
    mlxr_device_options options = {.n_threads = 1};
    mlxr_program *p = attend_program(2, 1, 8, 8, 0, 1.0f, false);
    mlxr_device *d;
    mlxr_executable *e;
    mlxr_error err;

    (void)state;
    assert_ok(mlxr_device_open(&d, "cpu", &options, &err), &err);
    assert_int_equal(p->ops[3].kind, MLXR_OP_ATTEND);
    p->ops[3].kind = MLXR_OP_COUNT;
    assert_fails(mlxr_device_compile(&e, d, p, &err), MLXR_E_UNSUPPORTED, "operation 3 (?, layer 3)", &err);
    assert_null(e);
    mlxr_program_free(p);

    p = attend_program(4, 1, 8, 8, 0, 1.0f, false);
    p->weights[3].m.quant = (mlxr_quant){MLXR_QUANT_AFFINE, 7, 32};
    assert_fails(mlxr_device_compile(&e, d, p, &err), MLXR_E_UNSUPPORTED, "out.weight", &err);
    assert_non_null(strstr(err.message, "7 bits"));
    assert_null(e);
    mlxr_program_free(p);

    p = attend_program(2, 1, 8, 8, 0, 1.0f, false);
    p->ops[0].kind = MLXR_OP_COUNT;
    assert_fails(mlxr_device_compile(&e, d, p, &err), MLXR_E_UNSUPPORTED, "operation 0", &err);
    assert_null(e);
    mlxr_program_free(p);
    mlxr_device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(passes_change_no_bit),
        cmocka_unit_test(attention_shapes_equal_ref),
        cmocka_unit_test(old_state_does_not_leak),
        cmocka_unit_test(kv_types_have_their_size),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(the_description_names_isa_and_threads),
        cmocka_unit_test(unsupported_operations_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
