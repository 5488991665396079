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

/* Tokens with ids first_id, first_id + 1, ... % V at positions from first_position; out: [n, V]. */
static void run_ids(tiny *t, size_t n, size_t first_position, size_t first_id, float *out)
{
    static const uint32_t blocks[] = {2, 1};
    mlxr_block_table table = {.blocks = blocks, .n_blocks = 2};
    int32_t ids[MAX_T];
    uint32_t positions[MAX_T], seqs[MAX_T] = {0}, rows[MAX_T];
    mlxr_batch batch = {n, ids, positions, seqs, &table, 1, rows, n};
    mlxr_error err;

    assert_true(n <= MAX_T);
    for (size_t i = 0; i < n; i++) {
        ids[i] = (int32_t)((first_id + i) % V);
        positions[i] = (uint32_t)(first_position + i);
        rows[i] = (uint32_t)i;
    }
    assert_ok(mlxr_run(t->executable, t->state, &batch, NULL, out, &err), &err);
}

static void run(tiny *t, size_t n, size_t first_position, float *out)
{
    run_ids(t, n, first_position, 0, out);
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

/* Over the whole register, and over each half of it (a norm of heads), with and without gemma's offset; with a weight for
 * all halves and with one for each. */
static void rms_norm_takes_width_and_offset(void **state)
{
    static const struct {
        size_t width, n_weights;
        float offset, eps;
    } cases[] = {{V, V, 0, 1e-5f}, {V / 2, V / 2, 0, 0.5f}, {V / 2, V / 2, 1, 1e-6f}, {V / 2, V, 1, 1e-6f}};
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
            op.weight = mlxr_build_vector(t.b, cases[c].n_weights, ".weight", "weight");
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
                                        ((double)cases[c].offset +
                                         (double)value_of("weight", i % cases[c].n_weights)));
            }
            end(&t);
        }
    }
}

static void rms_norm_without_a_weight(void **state)
{
    (void)state;
    for (size_t d = 0; d < MLXR_COUNT(devices); d++) {
        tiny t;
        float out[3 * V];
        mlxr_op op = mlxr_op_init(MLXR_OP_RMS_NORM, 0);
        start(&t);
        op.dst = op.a = embed(&t, "table", "logits", V, 1).dst;
        op.u.norm.eps = 0.25f;
        op.u.norm.offset = 1; /* of a weight that is not there */
        op.u.norm.width = V / 2;
        mlxr_build_op(t.b, &op);
        finish(&t, devices[d]);
        run(&t, 3, 0, out);
        for (size_t i = 0; i < 3 * V; i++) {
            double mean = 0;
            for (size_t k = 0; k < V / 2; k++)
                mean += pow((double)value_of("table", i - i % (V / 2) + k), 2) / (V / 2);
            assert_near(out[i], (double)value_of("table", i) / sqrt(mean + 0.25));
        }
        end(&t);
    }
}

/* The last two have weights of their own for each half. */
static void layer_norm_takes_width_and_bias(void **state)
{
    static const struct {
        size_t width, n_weights;
        bool bias;
    } cases[] = {{V, V, true}, {V, V, false}, {V / 2, V / 2, true}, {V / 2, V, true}, {V / 4, V, false}};
    (void)state;
    for (size_t d = 0; d < MLXR_COUNT(devices); d++) {
        for (size_t c = 0; c < MLXR_COUNT(cases); c++) {
            tiny t;
            float out[3 * V];
            mlxr_op op = mlxr_op_init(MLXR_OP_LAYER_NORM, 0);
            size_t width = cases[c].width;
            start(&t);
            op.a = embed(&t, "table", "h", V, 1).dst;
            op.dst = mlxr_build_reg(t.b, "logits", V);
            op.weight = mlxr_build_vector(t.b, cases[c].n_weights, ".weight", "weight");
            if (cases[c].bias) op.bias = mlxr_build_vector(t.b, cases[c].n_weights, ".bias", "bias");
            op.u.norm.eps = 1e-3f;
            op.u.norm.width = width;
            mlxr_build_op(t.b, &op);
            finish(&t, devices[d]);
            run(&t, 3, 0, out);
            for (size_t i = 0; i < 3 * V; i++) {
                double mean = 0, var = 0;
                size_t begin = i - i % width;
                for (size_t k = 0; k < width; k++)
                    mean += (double)value_of("table", begin + k) / (double)width;
                for (size_t k = 0; k < width; k++)
                    var += pow((double)value_of("table", begin + k) - mean, 2) / (double)width;
                assert_near(out[i],
                            ((double)value_of("table", i) - mean) / sqrt(var + (double)1e-3f) *
                                    (double)value_of("weight", i % cases[c].n_weights) +
                                (cases[c].bias ? (double)value_of("bias", i % cases[c].n_weights) : 0));
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

/* From dynamic_context on a position has frequencies of its own; those that are 0 leave their pair as it is. */
static void rope_has_dynamic_and_zero_frequencies(void **state)
{
    enum { CONTEXT = 8, T = 20 };
    static const float inv_freq[] = {1, 0.1f, 0.01f, 0}, theta = 10000, factor = 4;
    (void)state;
    for (size_t d = 0; d < MLXR_COUNT(devices); d++) {
        for (int dynamic = 0; dynamic < 2; dynamic++) {
            tiny t;
            float out[T * V];
            mlxr_op op = mlxr_op_init(MLXR_OP_ROPE, 0);
            start(&t);
            op.dst = op.a = embed(&t, "table", "logits", V, 1).dst;
            op.u.rope.n_heads = 1;
            op.u.rope.head_dim = op.u.rope.n_rot = V;
            op.u.rope.pairing = MLXR_ROPE_HALF;
            op.u.rope.inv_freq = mlxr_build_floats(t.b, inv_freq, V / 2);
            if (dynamic) {
                op.u.rope.dynamic_context = CONTEXT;
                op.u.rope.dynamic_theta = theta;
                op.u.rope.dynamic_factor = factor;
            }
            mlxr_build_op(t.b, &op);
            finish(&t, devices[d]);
            run(&t, T, 0, out);
            for (size_t i = 0; i < T * V; i++) {
                size_t pos = i / V, pair = i % (V / 2), row = pos % V * V;
                bool second = i % V >= V / 2;
                double x = (double)value_of("table", row + pair);
                double y = (double)value_of("table", row + pair + V / 2), f = (double)inv_freq[pair], angle,
                       want;
                if (dynamic && pos >= CONTEXT) {
                    double base = theta *
                                  pow(factor * (double)(pos + 1) / CONTEXT - (factor - 1), V / (V - 2.0));
                    f = pow(base, -2.0 * (double)pair / V);
                }
                angle = (double)pos * f;
                want = second ? x * sin(angle) + y * cos(angle) : x * cos(angle) - y * sin(angle);
                /* Frequencies in float32, times 20 */
                if (!(fabs((double)out[i] - want) <= 2e-5))
                    fail_msg("[%zu] got %.9g, wanted %.9g", i, (double)out[i], want);
                if (!dynamic && pair == V / 2 - 1) assert_true(out[i] == value_of("table", row + i % V));
            }
            end(&t);
        }
    }
}

static double activated(mlxr_act act, double x)
{
    double inner = sqrt(2 / acos(-1.0)) * (x + 0.044715 * pow(x, 3));

    switch (act) {
    case MLXR_ACT_SILU: return x / (1 + exp(-x));
    case MLXR_ACT_GELU: return x * erfc(-x / sqrt(2)) / 2;
    case MLXR_ACT_GELU_TANH: return x / (1 + exp(-2 * inner));
    case MLXR_ACT_SIGMOID: return 1 / (1 + exp(-x));
    default: return x;
    }
}

/* act(a) * b; act(a); and with one value of a for a whole row of b. The inputs reach from -6 to 6. */
static void act_mul_knows_every_activation(void **state)
{
    enum { T = V };
    (void)state;
    for (size_t d = 0; d < MLXR_COUNT(devices); d++) {
        for (int act = MLXR_ACT_NONE; act <= MLXR_ACT_SWIGLU_OAI; act++) {
            for (int form = 0; form < 3; form++) {
                tiny t;
                float out[T * V];
                mlxr_op op = mlxr_op_init(MLXR_OP_ACT_MUL, 0);
                bool narrow = form == 2, alone = form == 1, oai = act == MLXR_ACT_SWIGLU_OAI;
                if (alone && oai) continue;
                start(&t);
                op.a = embed(&t, "table", "h", narrow ? 1 : V, 4).dst;
                op.b = alone ? MLXR_NONE : embed(&t, "other", "logits", V, 4).dst;
                op.dst = mlxr_build_reg(t.b, "logits", V); /* in place but for `alone` */
                op.u.act.act = (mlxr_act)act;
                op.u.act.alpha = 1.702f;
                op.u.act.limit = 3;
                mlxr_build_op(t.b, &op);
                finish(&t, devices[d]);
                run(&t, T, 0, out);
                for (size_t i = 0; i < T * V; i++) {
                    double a = 4 * (double)value_of("table", narrow ? i / V : i);
                    double b = alone ? 1 : 4 * (double)value_of("other", i);
                    double g = fmin(a, 3), clamped = fmax(-3, fmin(b, 3));
                    assert_near(out[i], oai ? (clamped + 1) * g / (1 + exp(-(double)1.702f * g))
                                            : activated((mlxr_act)act, a) * b);
                }
                end(&t);
            }
        }
    }
}

static void scale_takes_a_weight(void **state)
{
    (void)state;
    for (size_t d = 0; d < MLXR_COUNT(devices); d++) {
        tiny t;
        float out[V];
        mlxr_op op = mlxr_op_init(MLXR_OP_SCALE, 0);
        start(&t);
        op.dst = op.a = embed(&t, "table", "logits", V, 1).dst;
        op.weight = mlxr_build_vector(t.b, 1, "", "scalar");
        op.u.scale.factor = 0.5f;
        mlxr_build_op(t.b, &op);
        finish(&t, devices[d]);
        run(&t, 1, 0, out);
        for (size_t i = 0; i < V; i++)
            assert_near(out[i], 0.5 * (double)value_of("scalar", 0) * (double)value_of("table", i));
        end(&t);
    }
}

static void softcap_is_a_tanh(void **state)
{
    static const float caps[] = {0.01f, 1, 30, 1e6f};
    (void)state;
    for (size_t d = 0; d < MLXR_COUNT(devices); d++) {
        for (size_t c = 0; c < MLXR_COUNT(caps); c++) {
            tiny t;
            float out[V * V];
            mlxr_op op = mlxr_op_init(MLXR_OP_SOFTCAP, 0);
            start(&t);
            op.dst = op.a = embed(&t, "table", "logits", V, 10).dst;
            op.u.softcap.cap = caps[c];
            mlxr_build_op(t.b, &op);
            finish(&t, devices[d]);
            run(&t, V, 0, out);
            for (size_t i = 0; i < (size_t)V * V; i++)
                assert_near(out[i],
                            (double)caps[c] * tanh((double)(value_of("table", i) * 10) / (double)caps[c]));
            end(&t);
        }
    }
}

/* A piece; every head's second half; the same value again and again; runs that overlap. */
static void slice_takes_runs(void **state)
{
    static const struct {
        size_t first, run, step;
    } cases[] = {{3, 8, 0}, {2, 2, 4}, {5, 1, 0}, {0, 4, 2}, {11, 8, 100}, {1, 1, 2}};
    enum { W = 19 };
    (void)state;
    for (size_t d = 0; d < MLXR_COUNT(devices); d++) {
        for (size_t c = 0; c < MLXR_COUNT(cases); c++) {
            tiny t;
            float out[2 * V];
            mlxr_op op = mlxr_op_init(MLXR_OP_SLICE, 0);
            start(&t);
            op.a = embed(&t, "table", "h", W, 1).dst;
            op.dst = mlxr_build_reg(t.b, "logits", V);
            op.u.slice.first = cases[c].first;
            op.u.slice.run = cases[c].run;
            op.u.slice.step = cases[c].step;
            mlxr_build_op(t.b, &op);
            finish(&t, devices[d]);
            run(&t, 2, 0, out);
            for (size_t i = 0; i < 2 * V; i++)
                assert_true(out[i] == value_of("table", i / V * W + cases[c].first +
                                                            i % V / cases[c].run * cases[c].step +
                                                            i % V % cases[c].run));
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

/* The same with softcap, sinks, queries scaled by position; over a slot that another ATTEND has filled; with scales
 * that are 1, 0 or negative. Tokens run twice, as 40 and one by one. */
static void attend_has_caps_sinks_and_shared_slots(void **state)
{
    static const struct {
        float scale, cap, beta;
        size_t span, window;
        bool sinks, shared;
    } cases[] = {
        {1, 0, 0, 0, 0, false, false},    {0.6f, 2.5f, 0, 0, 0, false, false},
        {0.6f, 0, 0, 0, 5, true, false},  {0.6f, 0, 0.4f, 7, 0, false, false},
        {0.6f, 0, 0, 0, 33, false, true}, {-0.8f, 0, 0, 0, 0, false, false},
        {0, 0, 0, 0, 0, true, false},     {-0.8f, 1.5f, -0.2f, 9, 11, true, true},
        {40, 0, 0, 0, 0, true, false},    /* sinks far below the largest score */
        {0.01f, 0, 0, 0, 2, true, false}, /* and above it */
    };
    enum { Hq = 4, Hkv = 2, Dk = 3, Dv = 2, T = 40 };
    (void)state;
    for (size_t d = 0; d < MLXR_COUNT(devices); d++) {
        for (size_t c = 0; c < MLXR_COUNT(cases); c++) {
            tiny t;
            float out[T * V], again[T * V];
            mlxr_op op = mlxr_op_init(MLXR_OP_ATTEND, 0), copy = mlxr_op_init(MLXR_OP_SCALE, -1);
            start(&t);
            op.a = embed(&t, "x", "q", Hq * Dk, 1).dst;
            op.b = embed(&t, "k", "k", Hkv * Dk, 1).dst;
            op.c = embed(&t, "v", "v", Hkv * Dv, 1).dst;
            op.dst = mlxr_build_reg(t.b, "a", Hq * Dv);
            op.u.attend.slot = mlxr_build_slot(t.b, "kv", Hkv, Dk, Dv, cases[c].window);
            op.u.attend.n_heads = Hq;
            op.u.attend.scale = 0.6f;
            if (cases[c].shared) {
                mlxr_build_op(t.b, &op);
                op.b = op.c = MLXR_NONE;
            }
            op.a = embed(&t, "q", "q", Hq * Dk, 1).dst;
            op.u.attend.scale = cases[c].scale;
            op.u.attend.softcap = cases[c].cap;
            op.u.attend.position_beta = cases[c].beta;
            op.u.attend.position_span = cases[c].span;
            if (cases[c].sinks) op.weight = mlxr_build_vector(t.b, Hq, "", "sinks");
            mlxr_build_op(t.b, &op);
            copy.a = op.dst;
            copy.dst = mlxr_build_reg(t.b, "logits", V);
            mlxr_build_op(t.b, &copy);
            finish(&t, devices[d]);
            run(&t, T, 0, out);
            for (size_t i = 0; i < T; i++) run_ids(&t, 1, i, i % V, again + i * V);
            assert_memory_equal(out, again, sizeof out);
            for (size_t i = 0; i < T * V; i++) {
                size_t pos = i / V, h = i % V / Dv, kv = h / (Hq / Hkv), j = i % Dv, window = cases[c].window;
                size_t begin = window && pos + 1 > window ? pos + 1 - window : 0;
                double factor = cases[c].span ? 1 + (double)cases[c].beta *
                                                        log(1 + floor((double)pos / (double)cases[c].span))
                                              : 1;
                double total = cases[c].sinks ? exp((double)value_of("sinks", h)) : 0, sum = 0;
                for (size_t p = begin; p <= pos; p++) {
                    double score = 0, e;
                    for (size_t k = 0; k < Dk; k++)
                        score += factor * (double)value_of("q", pos % V * Hq * Dk + h * Dk + k) *
                                 (double)value_of("k", p % V * Hkv * Dk + kv * Dk + k);
                    score *= (double)cases[c].scale;
                    if (cases[c].cap > 0) score = (double)cases[c].cap * tanh(score / (double)cases[c].cap);
                    e = exp(score);
                    total += e;
                    sum += e * (double)value_of("v", p % V * Hkv * Dv + kv * Dv + j);
                }
                /* A score of 200 is rounded at 2^-17. */
                if (!(fabs((double)out[i] - sum / total) <= (cases[c].scale > 1 ? 4e-5 : 3e-6)))
                    fail_msg("case %zu: got %.9g, wanted %.9g", c, (double)out[i], sum / total);
            }
            end(&t);
        }
    }
}

static void short_conv_looks_back(void **state)
{
    static const struct {
        size_t n_taps;
        mlxr_act act;
        bool bias;
    } cases[] = {{1, MLXR_ACT_NONE, false},
                 {2, MLXR_ACT_NONE, true},
                 {3, MLXR_ACT_SILU, false},
                 {7, MLXR_ACT_SIGMOID, true}};
    enum { T = 12 };
    (void)state;
    for (size_t d = 0; d < MLXR_COUNT(devices); d++) {
        for (size_t c = 0; c < MLXR_COUNT(cases); c++) {
            tiny t;
            float out[T * V];
            size_t n_taps = cases[c].n_taps;
            mlxr_op op = mlxr_op_init(MLXR_OP_SHORT_CONV, 0), copy = mlxr_op_init(MLXR_OP_SCALE, -1);
            start(&t);
            op.a = embed(&t, "table", "h", V, 1).dst;
            op.dst = mlxr_build_reg(t.b, "c", V);
            op.weight = mlxr_build_matrix(t.b, V, n_taps + 1, "weight");
            if (cases[c].bias) op.bias = mlxr_build_vector(t.b, V, ".bias", "bias");
            op.u.conv.slot = mlxr_build_conv_slot(t.b, "conv", V, n_taps);
            op.u.conv.act = cases[c].act;
            mlxr_build_op(t.b, &op);
            copy.a = op.dst;
            copy.dst = mlxr_build_reg(t.b, "logits", V);
            mlxr_build_op(t.b, &copy);
            finish(&t, devices[d]);
            assert_int_equal(mlxr_executable_block_bytes(t.executable), 0);
            assert_int_equal(mlxr_executable_sequence_bytes(t.executable), 2 * V * n_taps * sizeof(float));
            run(&t, T, 0, out);
            for (size_t i = 0; i < T * V; i++) {
                size_t pos = i / V, channel = i % V;
                double sum = cases[c].bias ? (double)value_of("bias", channel) : 0;
                for (size_t back = 0; back <= n_taps && back <= pos; back++)
                    sum += (double)value_of("weight", channel * (n_taps + 1) + n_taps - back) *
                           (double)value_of("table", (pos - back) % V * V + channel);
                assert_near(out[i], activated(cases[c].act, sum));
            }
            end(&t);
        }
    }
}

/* Each key head serves two heads of the state. The formula of program.h, S in double. */
static void gated_delta_follows_its_rule(void **state)
{
    enum { H = 4, Hk = 2, Dk = 3, Dv = 2, T = 40 };
    (void)state;
    for (size_t d = 0; d < MLXR_COUNT(devices); d++) {
        tiny t;
        float out[T * V];
        double S[H][Dv][Dk] = {{{0}}};
        mlxr_op op = mlxr_op_init(MLXR_OP_GATED_DELTA, 0), copy = mlxr_op_init(MLXR_OP_SCALE, -1);
        start(&t);
        op.a = embed(&t, "q", "q", Hk * Dk, 1).dst;
        op.b = embed(&t, "k", "k", Hk * Dk, 0.5f).dst;
        op.c = embed(&t, "v", "v", H * Dv, 1).dst;
        op.d = embed(&t, "step", "step", H, 1).dst;
        op.e = embed(&t, "beta", "beta", H, 1).dst;
        op.dst = mlxr_build_reg(t.b, "y", H * Dv);
        op.weight = mlxr_build_vector(t.b, H, "", "A_log");
        op.bias = mlxr_build_vector(t.b, H, "", "dt_bias");
        op.u.delta.slot = mlxr_build_delta_slot(t.b, "delta", H, Dk, Dv);
        op.u.delta.n_k_heads = Hk;
        mlxr_build_op(t.b, &op);
        copy.a = op.dst;
        copy.dst = mlxr_build_reg(t.b, "logits", V);
        mlxr_build_op(t.b, &copy);
        finish(&t, devices[d]);
        assert_int_equal(mlxr_executable_block_bytes(t.executable), 0);
        run(&t, T, 0, out);
        for (size_t pos = 0; pos < T; pos++) {
            for (size_t h = 0; h < H; h++) {
                size_t id = pos % V;
                double x = (double)value_of("step", id * H + h) + (double)value_of("dt_bias", h);
                double decay = exp(-exp((double)value_of("A_log", h)) * log(1 + exp(x)));
                double beta = 1 / (1 + exp(-(double)value_of("beta", id * H + h)));
                for (size_t v = 0; v < Dv; v++) {
                    double error = (double)value_of("v", (id * H + h) * Dv + v), y = 0;
                    for (size_t k = 0; k < Dk; k++) {
                        S[h][v][k] *= decay;
                        error -= S[h][v][k] * 0.5 * (double)value_of("k", (id * Hk + h / 2) * Dk + k);
                    }
                    for (size_t k = 0; k < Dk; k++) {
                        S[h][v][k] += beta * error * 0.5 * (double)value_of("k", (id * Hk + h / 2) * Dk + k);
                        y += S[h][v][k] * (double)value_of("q", (id * Hk + h / 2) * Dk + k);
                    }
                    assert_near(out[pos * V + h * Dv + v], y);
                }
            }
        }
        end(&t);
    }
}

/* ---- what is refused ---- */

static void unknown_activations_are_named(void **state)
{
    (void)state;
    for (size_t d = 0; d < MLXR_COUNT(devices); d++) {
        tiny t;
        mlxr_executable *again;
        mlxr_error err;
        mlxr_op op = mlxr_op_init(MLXR_OP_ACT_MUL, 7);
        start(&t);
        op.dst = op.a = embed(&t, "table", "logits", V, 1).dst;
        op.u.act.act = MLXR_ACT_SILU;
        mlxr_build_op(t.b, &op);
        finish(&t, devices[d]);
        t.p->ops[1].u.act.act = (mlxr_act)99;
        assert_fails(mlxr_device_compile(&again, t.device, t.p, &err), MLXR_E_UNSUPPORTED, "ACT_MUL, layer 7",
                     &err);
        assert_null(again);
        end(&t);
    }
}

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
    static const mlxr_block_table good = {.blocks = good_blocks, .n_blocks = 2},
                                  bad = {.blocks = bad_blocks, .n_blocks = 2};
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
        cmocka_unit_test(rms_norm_without_a_weight),
        cmocka_unit_test(layer_norm_takes_width_and_bias),
        cmocka_unit_test(rope_rotates_pairs_by_position),
        cmocka_unit_test(rope_has_dynamic_and_zero_frequencies),
        cmocka_unit_test(act_mul_knows_every_activation),
        cmocka_unit_test(scale_takes_a_weight),
        cmocka_unit_test(softcap_is_a_tanh),
        cmocka_unit_test(slice_takes_runs),
        cmocka_unit_test(pointwise_operations),
        cmocka_unit_test(attend_sees_its_window),
        cmocka_unit_test(attend_has_caps_sinks_and_shared_slots),
        cmocka_unit_test(short_conv_looks_back),
        cmocka_unit_test(gated_delta_follows_its_rule),
        cmocka_unit_test(unknown_devices_are_named),
        cmocka_unit_test(unknown_activations_are_named),
        cmocka_unit_test(unbound_weights_are_refused),
        cmocka_unit_test(bad_batches_are_refused),
        cmocka_unit_test(too_large_a_state_is_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
