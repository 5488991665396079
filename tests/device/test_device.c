/* Single operations on every device, against the formulas in program.h worked out here in double; and what device.c
 * refuses. Fixtures of whole models are in test_reference.c. */
#include <math.h>

#include "device/device.h"
#include "test.h"

/* Appended by each device that computes in float32. */
static const char *const devices[] = {"ref", "cpu"};

/* Vocabulary and register width of the programs here: EMBED with an id loads row id of a table as the input. */
enum { V = 8, MAX_T = 48 };

/* A program of one operation, or a few, from an embedded row to the logits. */
typedef struct tiny {
    mlxr_builder *b;
    mlxr_program *p;
    mlxr_device *device;
    mlxr_executable *executable;
    mlxr_state *state;
} tiny;

static void start(tiny *t)
{
    mlxr_error err;
    *t = (tiny){0};
    assert_ok(mlxr_builder_create(&t->b, "tiny", &err), &err);
}

static mlxr_op embed(tiny *t, const char *table, const char *reg, size_t width, float scale)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_EMBED, -1);
    op.dst = mlxr_build_reg(t->b, reg, width);
    op.weight = mlxr_build_matrix(t->b, V, width, "%s", table);
    op.u.embed.scale = scale;
    mlxr_build_op(t->b, &op);
    return op;
}

/* Binds every weight to floats of a fixed pattern: at(name's first letter, row, column). */
static float value_of(const char *name, size_t i)
{
    return (float)sin((double)(i + 1) * 1.37 + name[0]) * 1.5f;
}

static void finish(tiny *t, const char *device)
{
    mlxr_device_options options = {.precision = MLXR_PRECISION_EXACT, .n_threads = 1};
    mlxr_reg_id logits = mlxr_build_reg(t->b, "logits", V);
    mlxr_error err;

    assert_ok(mlxr_builder_finish(&t->p, t->b, V, V, 1, 64, logits, &err), &err);
    mlxr_builder_free(t->b);
    for (size_t i = 0; i < t->p->n_weights; i++) {
        mlxr_weight *w = &t->p->weights[i];
        size_t n = w->n_rows * w->n_cols;
        float *data = mlxr_arena_calloc(&t->p->arena, n, sizeof *data);
        assert_non_null(data);
        for (size_t j = 0; j < n; j++) data[j] = value_of(w->name, j);
        w->m = (mlxr_matrix){.dtype = MLXR_F32,
                             .n_rows = w->n_rows,
                             .n_cols = w->n_cols,
                             .row_bytes = w->n_cols * sizeof *data,
                             .data = data};
        w->bound = true;
    }
    assert_ok(mlxr_device_open(&t->device, device, &options, &err), &err);
    assert_true(strlen(mlxr_device_description(t->device)) > 0);
    assert_ok(mlxr_device_compile(&t->executable, t->device, t->p, &err), &err);
    assert_ok(mlxr_state_create(&t->state, t->executable, 4, 4, &err), &err);
}

static void end(tiny *t)
{
    mlxr_state_free(t->state);
    mlxr_executable_free(t->executable);
    mlxr_device_close(t->device);
    mlxr_program_free(t->p);
}

/* Tokens with ids i % V at positions 0, 1, ...; out: [n, V]. */
static void run(tiny *t, size_t n, size_t first_position, float *out)
{
    static const uint32_t blocks[] = {2, 1};
    mlxr_block_table table = {.blocks = blocks, .n_blocks = 2};
    int32_t ids[MAX_T];
    uint32_t positions[MAX_T], seqs[MAX_T] = {0}, rows[MAX_T];
    mlxr_batch batch = {n, ids, positions, seqs, &table, 1, rows, n};
    mlxr_error err;

    assert_true(n <= MAX_T);
    for (size_t i = 0; i < n; i++) {
        ids[i] = (int32_t)(i % V);
        positions[i] = (uint32_t)(first_position + i);
        rows[i] = (uint32_t)i;
    }
    assert_ok(mlxr_run(t->executable, t->state, &batch, NULL, out, &err), &err);
}

static void assert_near(float got, double want)
{
    if (!(fabs((double)got - want) <= 2e-6 * (1 + fabs(want))))
        fail_msg("got %.9g, wanted %.9g", (double)got, want);
}

static void embed_scales_a_row(void **state)
{
    (void)state;
    for (size_t d = 0; d < MLXR_COUNT(devices); d++) {
        tiny t;
        float out[3 * V];
        start(&t);
        embed(&t, "table", "logits", V, 2.5f);
        finish(&t, devices[d]);
        run(&t, 3, 0, out);
        for (size_t i = 0; i < 3 * V; i++) assert_near(out[i], 2.5 * (double)value_of("table", i));
        end(&t);
    }
}

static void linear_adds_its_bias(void **state)
{
    (void)state;
    for (size_t d = 0; d < MLXR_COUNT(devices); d++) {
        enum { K = 5 };
        tiny t;
        float out[2 * V];
        mlxr_op op = mlxr_op_init(MLXR_OP_LINEAR, 0);
        start(&t);
        op.a = embed(&t, "table", "h", K, 1).dst;
        op.dst = mlxr_build_reg(t.b, "logits", V);
        op.weight = mlxr_build_matrix(t.b, V, K, "weight");
        op.bias = mlxr_build_vector(t.b, V, ".bias", "bias");
        mlxr_build_op(t.b, &op);
        finish(&t, devices[d]);
        run(&t, 2, 0, out);
        for (size_t i = 0; i < 2 * V; i++) {
            double want = (double)value_of("bias", i % V);
            for (size_t k = 0; k < K; k++)
                want += (double)value_of("weight", i % V * K + k) * (double)value_of("table", i / V * K + k);
            assert_near(out[i], want);
        }
        end(&t);
    }
}

/* Over the whole register, and over each half of it (a norm of heads), with and without gemma's offset. */
static void rms_norm_takes_width_and_offset(void **state)
{
    static const struct {
        size_t width;
        float offset, eps;
    } cases[] = {{V, 0, 1e-5f}, {V / 2, 0, 0.5f}, {V / 2, 1, 1e-6f}};
    (void)state;
    for (size_t d = 0; d < MLXR_COUNT(devices); d++) {
        for (size_t c = 0; c < MLXR_COUNT(cases); c++) {
            tiny t;
            float out[3 * V];
            mlxr_op op = mlxr_op_init(MLXR_OP_RMS_NORM, 0);
            size_t width = cases[c].width;
            start(&t);
            op.a = embed(&t, "table", "h", V, 1).dst;
            op.dst = mlxr_build_reg(t.b, "logits", V);
            op.weight = mlxr_build_vector(t.b, width, ".weight", "weight");
            op.u.norm.eps = cases[c].eps;
            op.u.norm.offset = cases[c].offset;
            op.u.norm.width = width;
            mlxr_build_op(t.b, &op);
            finish(&t, devices[d]);
            run(&t, 3, 0, out);
            for (size_t i = 0; i < 3 * V; i++) {
                double mean = 0;
                size_t begin = i - i % width;
                for (size_t k = 0; k < width; k++)
                    mean += pow((double)value_of("table", begin + k), 2) / (double)width;
                assert_near(out[i], (double)value_of("table", i) / sqrt(mean + (double)cases[c].eps) *
                                        ((double)cases[c].offset + (double)value_of("weight", i % width)));
            }
            end(&t);
        }
    }
}

/* Both pairings; a head whose last values stay as they are; pairs with frequency 0 that do so though they count as
 * rotated; a scale on the rotated part alone. */
static void rope_rotates_pairs_by_position(void **state)
{
    static const struct {
        mlxr_rope_pairing pairing;
        size_t n_heads, n_rot, n_turning; /* pairs with a frequency */
        float scale;
    } cases[] = {
        {MLXR_ROPE_HALF, 1, 8, 4, 1},        {MLXR_ROPE_HALF, 2, 4, 2, 1},
        {MLXR_ROPE_INTERLEAVED, 2, 4, 2, 1}, {MLXR_ROPE_HALF, 1, 6, 3, 1.25f},
        {MLXR_ROPE_HALF, 2, 2, 1, 1.25f},    {MLXR_ROPE_HALF, 4, 2, 1, 1},
        {MLXR_ROPE_INTERLEAVED, 1, 6, 3, 1}, {MLXR_ROPE_INTERLEAVED, 2, 2, 1, 0.75f},
        {MLXR_ROPE_HALF, 1, 8, 1, 1},        {MLXR_ROPE_INTERLEAVED, 1, 8, 3, 1},
        {MLXR_ROPE_HALF, 1, 6, 0, 1},
    };
    static const float frequencies[] = {1, 0.31f, 0.077f, 0.01f};
    (void)state;
    for (size_t d = 0; d < MLXR_COUNT(devices); d++) {
        for (size_t c = 0; c < MLXR_COUNT(cases); c++) {
            tiny t;
            float out[3 * V];
            mlxr_op op = mlxr_op_init(MLXR_OP_ROPE, 0);
            size_t Dh = V / cases[c].n_heads, n_rot = cases[c].n_rot, half = n_rot / 2;
            float inv_freq[MLXR_COUNT(frequencies)] = {0};
            memcpy(inv_freq, frequencies, cases[c].n_turning * sizeof *inv_freq);
            start(&t);
            op.dst = op.a = embed(&t, "table", "logits", V, 1).dst;
            op.u.rope.n_heads = cases[c].n_heads;
            op.u.rope.head_dim = Dh;
            op.u.rope.n_rot = n_rot;
            op.u.rope.pairing = cases[c].pairing;
            op.u.rope.inv_freq = mlxr_build_floats(t.b, inv_freq, half);
            op.u.rope.scale = cases[c].scale;
            mlxr_build_op(t.b, &op);
            finish(&t, devices[d]);
            run(&t, 3, 5, out);
            for (size_t i = 0; i < 3 * V; i++) {
                size_t j = i % Dh; /* within its head */
                bool split = cases[c].pairing == MLXR_ROPE_HALF;
                size_t pair = split ? j % half : j / 2;
                bool second = split ? j >= half : j % 2;
                size_t partner = split ? (second ? i - half : i + half) : (second ? i - 1 : i + 1);
                double angle = (double)(5 + i / V) * (double)inv_freq[j < n_rot ? pair : 0];
                double x = (double)value_of("table", i);
                if (j < n_rot) {
                    double y = (double)value_of("table", partner);
                    x = (double)cases[c].scale * (x * cos(angle) + (second ? y : -y) * sin(angle));
                }
                assert_near(out[i], x);
                if (j >= n_rot || (pair >= cases[c].n_turning && cases[c].scale == 1))
                    assert_true(out[i] == value_of("table", i));
            }
            end(&t);
        }
    }
}

static void pointwise_operations(void **state)
{
    (void)state;
    for (size_t d = 0; d < MLXR_COUNT(devices); d++) {
        for (int kind = MLXR_OP_ACT_MUL; kind <= MLXR_OP_SCALE; kind++) {
            tiny t;
            float out[2 * V];
            mlxr_op op = mlxr_op_init((mlxr_op_kind)kind, 0);
            start(&t);
            op.a = embed(&t, "table", "h", V, 1).dst;
            op.b = embed(&t, "other", "g", V, 1).dst;
            op.dst = mlxr_build_reg(t.b, "logits", V);
            if (kind == MLXR_OP_ACT_MUL)
                op.u.act.act = MLXR_ACT_SILU;
            else if (kind == MLXR_OP_SCALE)
                op.u.scale.factor = -0.125f;
            mlxr_build_op(t.b, &op);
            finish(&t, devices[d]);
            run(&t, 2, 0, out);
            for (size_t i = 0; i < 2 * V; i++) {
                double a = (double)value_of("table", i), b = (double)value_of("other", i);
                assert_near(out[i], kind == MLXR_OP_ACT_MUL ? a / (1 + exp(-a)) * b
                                    : kind == MLXR_OP_ADD   ? a + b
                                                            : -0.125 * a);
            }
            end(&t);
        }
    }
}

/* Grouped heads, keys and values of different widths, windows; 40 tokens, so that a block border lies between. */
static void attend_sees_its_window(void **state)
{
    static const size_t windows[] = {0, 1, 3, 33, 100};
    enum { Hq = 4, Hkv = 2, Dk = 3, Dv = 2, T = 40 };
    (void)state;
    for (size_t d = 0; d < MLXR_COUNT(devices); d++) {
        for (size_t c = 0; c < MLXR_COUNT(windows); c++) {
            tiny t;
            float out[T * V];
            mlxr_op op = mlxr_op_init(MLXR_OP_ATTEND, 0), copy = mlxr_op_init(MLXR_OP_SCALE, -1);
            start(&t);
            op.a = embed(&t, "q", "q", Hq * Dk, 1).dst;
            op.b = embed(&t, "k", "k", Hkv * Dk, 1).dst;
            op.c = embed(&t, "v", "v", Hkv * Dv, 1).dst;
            op.dst = mlxr_build_reg(t.b, "a", Hq * Dv);
            op.u.attend.slot = mlxr_build_slot(t.b, "kv", Hkv, Dk, Dv, windows[c]);
            op.u.attend.n_heads = Hq;
            op.u.attend.scale = 0.6f;
            mlxr_build_op(t.b, &op);
            copy.a = op.dst;
            copy.dst = mlxr_build_reg(t.b, "logits", V);
            copy.u.scale.factor = 1;
            mlxr_build_op(t.b, &copy);
            finish(&t, devices[d]);
            run(&t, T, 0, out);
            for (size_t i = 0; i < T * V; i++) {
                size_t pos = i / V, h = i % V / Dv, kv = h / (Hq / Hkv), j = i % Dv;
                size_t begin = windows[c] && pos + 1 > windows[c] ? pos + 1 - windows[c] : 0;
                double total = 0, sum = 0;
                for (size_t p = begin; p <= pos; p++) {
                    double dot = 0, e;
                    for (size_t k = 0; k < Dk; k++)
                        dot += (double)value_of("q", pos % V * Hq * Dk + h * Dk + k) *
                               (double)value_of("k", p % V * Hkv * Dk + kv * Dk + k);
                    e = exp(dot * (double)0.6f);
                    total += e;
                    sum += e * (double)value_of("v", p % V * Hkv * Dv + kv * Dv + j);
                }
                assert_near(out[i], sum / total);
            }
            end(&t);
        }
    }
}

/* ---- what is refused ---- */

static void unknown_devices_are_named(void **state)
{
    mlxr_device *device;
    mlxr_error err;

    (void)state;
    assert_int_equal(mlxr_device_open(&device, "abacus", NULL, &err), MLXR_E_DEVICE);
    assert_null(device);
    assert_non_null(strstr(err.message, "abacus"));
    assert_non_null(strstr(err.message, "ref"));
}

static void unbound_weights_are_refused(void **state)
{
    (void)state;
    for (size_t d = 0; d < MLXR_COUNT(devices); d++) {
        tiny t;
        mlxr_executable *again;
        mlxr_error err;
        start(&t);
        embed(&t, "table", "logits", V, 1);
        finish(&t, devices[d]);
        t.p->weights[0].bound = false;
        assert_int_equal(mlxr_device_compile(&again, t.device, t.p, &err), MLXR_E_INVALID_ARGUMENT);
        assert_null(again);
        assert_non_null(strstr(err.message, "table.weight"));
        end(&t);
    }
}

static void bad_batches_are_refused(void **state)
{
    static const uint32_t good_blocks[] = {0, 1}, bad_blocks[] = {0, 4};
    static const int32_t good_ids[] = {1, 2, 3}, low_ids[] = {1, -1, 3}, high_ids[] = {1, 2, V};
    static const uint32_t good_positions[] = {0, 1, 2}, jump[] = {0, 2, 3}, far[] = {62, 63, 64};
    static const uint32_t good_seqs[] = {0, 0, 0}, bad_seqs[] = {0, 0, 1};
    static const uint32_t good_rows[] = {0, 2}, falling[] = {2, 0}, twice[] = {1, 1}, beyond[] = {0, 3};
    static const mlxr_block_table good = {.blocks = good_blocks, .n_blocks = 2}, bad = {.blocks = bad_blocks, .n_blocks = 2};
    static const mlxr_batch batches[] = {
        {3, low_ids, good_positions, good_seqs, &good, 1, good_rows, 2},
        {3, high_ids, good_positions, good_seqs, &good, 1, good_rows, 2},
        {3, good_ids, jump, good_seqs, &good, 1, good_rows, 2},
        {3, good_ids, far, good_seqs, &good, 1, good_rows, 2},
        {3, good_ids, good_positions, bad_seqs, &good, 1, good_rows, 2},
        {3, good_ids, good_positions, good_seqs, &bad, 1, good_rows, 2},
        {3, good_ids, good_positions, good_seqs, &good, 1, falling, 2},
        {3, good_ids, good_positions, good_seqs, &good, 1, twice, 2},
        {3, good_ids, good_positions, good_seqs, &good, 1, beyond, 2},
    };
    static const mlxr_batch fine = {3, good_ids, good_positions, good_seqs, &good, 1, good_rows, 2};
    (void)state;
    for (size_t d = 0; d < MLXR_COUNT(devices); d++) {
        tiny t;
        float out[3 * V];
        mlxr_error err;
        start(&t);
        embed(&t, "table", "logits", V, 1);
        finish(&t, devices[d]);
        for (size_t i = 0; i < MLXR_COUNT(batches); i++) {
            err.message[0] = '\0';
            if (mlxr_run(t.executable, t.state, &batches[i], NULL, out, &err) != MLXR_E_INVALID_ARGUMENT)
                fail_msg("batch %zu passed", i);
            assert_true(strncmp(err.message, "device: ", 8) == 0);
        }
        assert_ok(mlxr_run(t.executable, t.state, &fine, NULL, out, &err), &err);
        end(&t);
    }
}

static void too_large_a_state_is_out_of_memory(void **state)
{
    (void)state;
    for (size_t d = 0; d < MLXR_COUNT(devices); d++) {
        enum { W = V };
        tiny t;
        mlxr_state *s;
        mlxr_op op = mlxr_op_init(MLXR_OP_ATTEND, 0), copy = mlxr_op_init(MLXR_OP_SCALE, -1);
        mlxr_error err;
        start(&t);
        op.a = embed(&t, "q", "q", W, 1).dst;
        op.b = embed(&t, "k", "k", W, 1).dst;
        op.c = embed(&t, "v", "v", W, 1).dst;
        op.dst = mlxr_build_reg(t.b, "a", W);
        op.u.attend.slot = mlxr_build_slot(t.b, "kv", 1, W, W, 0);
        op.u.attend.n_heads = 1;
        op.u.attend.scale = 1;
        mlxr_build_op(t.b, &op);
        copy.a = op.dst;
        copy.dst = mlxr_build_reg(t.b, "logits", V);
        copy.u.scale.factor = 1;
        mlxr_build_op(t.b, &copy);
        finish(&t, devices[d]);
        assert_true(mlxr_executable_block_bytes(t.executable) >= MLXR_KV_BLOCK * 2 * W * 2);
        assert_int_equal(mlxr_state_create(&s, t.executable, SIZE_MAX / 4, 4, &err), MLXR_E_NOMEM);
        assert_null(s);
        end(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embed_scales_a_row),
        cmocka_unit_test(linear_adds_its_bias),
        cmocka_unit_test(rms_norm_takes_width_and_offset),
        cmocka_unit_test(rope_rotates_pairs_by_position),
        cmocka_unit_test(pointwise_operations),
        cmocka_unit_test(attend_sees_its_window),
        cmocka_unit_test(unknown_devices_are_named),
        cmocka_unit_test(unbound_weights_are_refused),
        cmocka_unit_test(bad_batches_are_refused),
        cmocka_unit_test(too_large_a_state_is_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
