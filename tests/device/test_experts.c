/* ROUTE and EXPERTS: ref against arithmetic in double written here, cpu against ref, and what must not show in the
 * bits: how gate and up lie in the checkpoint, the tokens beside one, the number of threads. */
#include <math.h>

#include "device/cpu/kernels.h"
#include "device/device.h"
#include "test.h"

/* How matrices are stored: dense in dtype, or quantized with scales of it. */
typedef struct storage {
    mlxr_quant_mode mode;
    unsigned bits, group_size;
    mlxr_dtype dtype;
} storage;

static const storage f32 = {MLXR_QUANT_NONE, 0, 0, MLXR_F32};

typedef struct spec {
    size_t E, k, D, F, n_ids; /* n_ids: tokens that differ, the logits' width */
    storage stored;
    mlxr_gate_up gate_up;
    mlxr_act act;
    mlxr_router router;
    bool normalize, biases, expert_weights;
    float scale;
    bool attends; /* an ATTEND behind, which needs every token's result */
} spec;

static spec plain(size_t E, size_t k, size_t D, size_t F)
{
    return (spec){.E = E,
                  .k = k,
                  .D = D,
                  .F = F,
                  .n_ids = D,
                  .stored = f32,
                  .act = MLXR_ACT_SILU,
                  .normalize = true,
                  .scale = 1.0f};
}

enum { ALPHA_TENTHS = 17, LIMIT = 1 }; /* of SWIGLU_OAI; inputs are about 1, so that the limit counts */

/* ---- values made from what they are of, so that a row is the same wherever it lies ---- */

enum { OF_X = 1, OF_SCORES, OF_EXPERT_WEIGHTS, OF_GATE, OF_UP, OF_DOWN, OF_BIAS = 16 };

static uint64_t mixed(uint64_t what, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t x = (((what * 1000003 + a) * 1000003 + b) * 1000003 + c) * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* In [-1, 1). */
static float unit(uint64_t what, uint64_t a, uint64_t b, uint64_t c)
{
    return (float)(int32_t)(uint32_t)mixed(what, a, b, c) / 2147483648.0f;
}

static void *take(mlxr_program *p, size_t n, size_t size)
{
    void *v = mlxr_arena_calloc(&p->arena, n, size);
    assert_non_null(v);
    return v;
}

static mlxr_matrix new_matrix(mlxr_program *p, storage s, size_t n_rows, size_t n_cols)
{
    mlxr_matrix m = {
        .quant = {s.mode, s.bits, s.group_size}, .dtype = s.dtype, .n_rows = n_rows, .n_cols = n_cols};

    m.row_bytes = s.mode == MLXR_QUANT_NONE ? n_cols * mlxr_dtype_bits(s.dtype) / 8 : n_cols * s.bits / 8;
    m.data = take(p, n_rows, m.row_bytes);
    if (s.mode != MLXR_QUANT_NONE) {
        size_t n_groups = n_cols / s.group_size;
        m.scales = take(p, n_rows * n_groups, mlxr_dtype_bits(s.dtype) / 8);
        m.biases = take(p, n_rows * n_groups, mlxr_dtype_bits(s.dtype) / 8);
    }
    return m;
}

/* Row `row` of m becomes that of (what, e, i), of values about 1 / sqrt(n_cols). */
static void fill_row(mlxr_matrix *m, size_t row, uint64_t what, size_t e, size_t i)
{
    uint8_t *data = (uint8_t *)(uintptr_t)m->data + row * m->row_bytes;
    float size = 1.5f / sqrtf((float)m->n_cols);
    size_t n_groups;

    if (m->quant.mode == MLXR_QUANT_NONE) {
        for (size_t j = 0; j < m->n_cols; j++) {
            mlxr_store_float(data, m->dtype, j, size * unit(what, e, i, j));
        }
        return;
    }
    n_groups = m->n_cols / m->quant.group_size;
    for (size_t j = 0; j < m->row_bytes; j++) data[j] = (uint8_t)mixed(what, e, i, j);
    for (size_t g = 0; g < n_groups; g++) {
        float scale = size * (1.5f + unit(what + 100, e, i, g)) / (float)(1u << m->quant.bits);
        mlxr_store_float((void *)(uintptr_t)m->scales, m->dtype, row * n_groups + g, scale);
        mlxr_store_float((void *)(uintptr_t)m->biases, m->dtype, row * n_groups + g,
                         -scale * (float)(1u << (m->quant.bits - 1)));
    }
}

/* Rows [n] of gate and up as the layout has them; which: the row is up's. */
static size_t laid_row(const spec *s, bool up, size_t i)
{
    if (s->gate_up == MLXR_GATE_UP_INTERLEAVED) return 2 * i + up;
    return s->gate_up == MLXR_GATE_UP_HALVES && up ? s->F + i : i;
}

/* ---- a program: x and scores of a token's id, ROUTE, EXPERTS ---- */

static mlxr_reg_id build_embed(mlxr_builder *b, const char *name, size_t n_ids, size_t width)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_EMBED, -1);
    op.dst = mlxr_build_reg(b, name, width);
    op.weight = mlxr_build_matrix(b, n_ids, width, "%s", name);
    op.u.embed.scale = 1.0f;
    mlxr_build_op(b, &op);
    return op.dst;
}

static mlxr_weight *weight_named(mlxr_program *p, const char *name)
{
    for (size_t i = 0; i < p->n_weights; i++) {
        if (strcmp(p->weights[i].name, name) == 0) return &p->weights[i];
    }
    return NULL;
}

static void bind_stack(mlxr_program *p, const spec *s, const char *name)
{
    mlxr_weight *w = weight_named(p, name);
    mlxr_matrix *stack;

    if (!w) return;
    stack = take(p, w->n_experts, sizeof *stack);
    for (size_t e = 0; e < w->n_experts; e++) {
        stack[e] = new_matrix(p, s->stored, w->n_rows, w->n_cols);
        if (strcmp(name, "down") == 0) {
            for (size_t i = 0; i < w->n_rows; i++) fill_row(&stack[e], i, OF_DOWN, e, i);
        } else if (strcmp(name, "up") == 0) {
            for (size_t i = 0; i < s->F; i++) fill_row(&stack[e], i, OF_UP, e, i);
        } else {
            for (size_t i = 0; i < s->F; i++) {
                fill_row(&stack[e], laid_row(s, false, i), OF_GATE, e, i);
                if (s->gate_up != MLXR_GATE_UP_APART) {
                    fill_row(&stack[e], laid_row(s, true, i), OF_UP, e, i);
                }
            }
        }
    }
    w->experts = stack;
    w->m = stack[0];
}

static float bias_of(uint64_t what, size_t e, size_t i)
{
    float b = 0.5f * unit(what + OF_BIAS, e, i, 0);
    uint16_t half[1];
    mlxr_store_float(half, MLXR_BF16, 0, b);
    return mlxr_load_float(half, MLXR_BF16, 0);
}

static void bind_bias(mlxr_program *p, const spec *s, const char *name)
{
    mlxr_weight *w = weight_named(p, name);
    static const storage bf16 = {MLXR_QUANT_NONE, 0, 0, MLXR_BF16};

    if (!w) return;
    w->m = new_matrix(p, bf16, w->n_rows, w->n_cols);
    for (size_t e = 0; e < s->E; e++) {
        void *row = (uint8_t *)(uintptr_t)w->m.data + e * w->m.row_bytes;
        if (strcmp(name, "down_bias") == 0) {
            for (size_t i = 0; i < s->D; i++) {
                mlxr_store_float(row, MLXR_BF16, i, bias_of(OF_DOWN, e, i));
            }
        } else if (strcmp(name, "up_bias") == 0) {
            for (size_t i = 0; i < s->F; i++) mlxr_store_float(row, MLXR_BF16, i, bias_of(OF_UP, e, i));
        } else {
            for (size_t i = 0; i < s->F; i++) {
                mlxr_store_float(row, MLXR_BF16, laid_row(s, false, i), bias_of(OF_GATE, e, i));
                if (s->gate_up != MLXR_GATE_UP_APART) {
                    mlxr_store_float(row, MLXR_BF16, laid_row(s, true, i), bias_of(OF_UP, e, i));
                }
            }
        }
    }
}

static void bind_dense(mlxr_program *p, const char *name, uint64_t what, float size)
{
    mlxr_weight *w = weight_named(p, name);

    if (!w) return;
    w->m = new_matrix(p, f32, w->n_rows, w->n_cols);
    for (size_t i = 0; i < w->n_rows; i++) {
        for (size_t j = 0; j < w->n_cols; j++) {
            mlxr_store_float((void *)(uintptr_t)w->m.data, MLXR_F32, i * w->n_cols + j,
                             size * unit(what, i, j, 0));
        }
    }
}

static float *floats_of(mlxr_program *p, const char *name)
{
    return (float *)(uintptr_t)weight_named(p, name)->m.data;
}

static void build_route(mlxr_builder *b, const spec *s, mlxr_reg_id scores, mlxr_reg_id dst)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_ROUTE, 0);
    op.a = scores;
    op.dst = dst;
    if (s->expert_weights) op.weight = mlxr_build_vector(b, s->E, "", "expert_weights");
    op.u.route.router = s->router;
    op.u.route.k = s->k;
    op.u.route.normalize = s->normalize;
    op.u.route.scale = s->scale;
    mlxr_build_op(b, &op);
}

static void build_experts(mlxr_builder *b, const spec *s, mlxr_reg_id x, mlxr_reg_id route, mlxr_reg_id dst)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_EXPERTS, 5);
    bool apart = s->gate_up == MLXR_GATE_UP_APART;
    size_t gate_rows = apart ? s->F : 2 * s->F;

    op.a = x;
    op.b = route;
    op.dst = dst;
    op.u.experts.k = s->k;
    op.u.experts.width = s->F;
    op.u.experts.gate_up = s->gate_up;
    op.u.experts.act = s->act;
    op.u.experts.alpha = ALPHA_TENTHS / 10.0f;
    op.u.experts.limit = LIMIT;
    op.u.experts.up = op.u.experts.gate_bias = op.u.experts.up_bias = op.u.experts.down_bias = MLXR_NONE;
    op.u.experts.gate = mlxr_build_stack(b, s->E, gate_rows, s->D, ".weight", "gate");
    if (apart) op.u.experts.up = mlxr_build_stack(b, s->E, s->F, s->D, ".weight", "up");
    op.u.experts.down = mlxr_build_stack(b, s->E, s->D, s->F, ".weight", "down");
    if (s->biases) {
        op.u.experts.gate_bias = mlxr_build_matrix_as(b, s->E, gate_rows, ".bias", "gate_bias");
        if (apart) op.u.experts.up_bias = mlxr_build_matrix_as(b, s->E, s->F, ".bias", "up_bias");
        op.u.experts.down_bias = mlxr_build_matrix_as(b, s->E, s->D, ".bias", "down_bias");
    }
    mlxr_build_op(b, &op);
}

/* The result of EXPERTS, or an ATTEND over it, as the logits. given_route: the list is a token's own, no ROUTE. */
static mlxr_program *experts_program(const spec *s, bool given_route)
{
    mlxr_builder *b;
    mlxr_program *p;
    mlxr_reg_id x, route, out;
    mlxr_error err;

    assert_ok(mlxr_builder_create(&b, "made", &err), &err);
    x = build_embed(b, "x", s->n_ids, s->D);
    if (given_route) {
        route = build_embed(b, "route", s->n_ids, 2 * s->k);
    } else {
        mlxr_reg_id scores = build_embed(b, "scores", s->n_ids, s->E);
        route = mlxr_build_reg(b, "route", 2 * s->k);
        build_route(b, s, scores, route);
    }
    out = mlxr_build_reg(b, "out", s->D);
    build_experts(b, s, x, route, out);
    if (s->attends) {
        mlxr_op op = mlxr_op_init(MLXR_OP_ATTEND, 6), sum = mlxr_op_init(MLXR_OP_ADD, 7);
        op.a = x;
        op.b = op.c = out;
        op.dst = mlxr_build_reg(b, "mixed", s->D);
        op.u.attend.slot = mlxr_build_slot(b, "kv", 1, s->D, s->D, 0);
        op.u.attend.n_heads = 1;
        op.u.attend.scale = 0.1f;
        mlxr_build_op(b, &op);
        sum.a = op.dst;
        sum.b = x;
        sum.dst = out = mlxr_build_reg(b, "sum", s->D);
        mlxr_build_op(b, &sum);
    }
    assert_ok(mlxr_builder_finish(&p, b, s->D, s->D, 1, 4096, out, &err), &err);
    mlxr_builder_free(b);
    bind_dense(p, "x", OF_X, 1.7f);
    bind_dense(p, "scores", OF_SCORES, 3.0f);
    bind_dense(p, "route", OF_SCORES, 3.0f);
    bind_dense(p, "expert_weights", OF_EXPERT_WEIGHTS, 1.0f);
    bind_stack(p, s, "gate");
    bind_stack(p, s, "up");
    bind_stack(p, s, "down");
    bind_bias(p, s, "gate_bias");
    bind_bias(p, s, "up_bias");
    bind_bias(p, s, "down_bias");
    for (size_t i = 0; i < p->n_weights; i++) {
        assert_non_null(p->weights[i].m.data);
        p->weights[i].bound = true;
    }
    return p;
}

/* ROUTE alone; its list is the logits. */
static mlxr_program *route_program(const spec *s)
{
    mlxr_builder *b;
    mlxr_program *p;
    mlxr_reg_id scores, out;
    mlxr_error err;

    assert_ok(mlxr_builder_create(&b, "made", &err), &err);
    scores = build_embed(b, "scores", s->n_ids, s->E);
    out = mlxr_build_reg(b, "route", 2 * s->k);
    build_route(b, s, scores, out);
    assert_ok(mlxr_builder_finish(&p, b, 2 * s->k, 2 * s->k, 1, 4096, out, &err), &err);
    mlxr_builder_free(b);
    bind_dense(p, "scores", OF_SCORES, 3.0f);
    bind_dense(p, "expert_weights", OF_EXPERT_WEIGHTS, 1.0f);
    for (size_t i = 0; i < p->n_weights; i++) p->weights[i].bound = true;
    return p;
}

/* ---- running ---- */

enum { MOST_TOKENS = 1100, N_BLOCKS = MOST_TOKENS / MLXR_KV_BLOCK + 1 };

typedef struct session {
    mlxr_device *device;
    mlxr_executable *executable;
    mlxr_state *state;
} session;

static session open_session(const char *name, const char *isa, size_t n_threads, const mlxr_program *p)
{
    mlxr_device_options options = {.precision = MLXR_PRECISION_EXACT, .n_threads = n_threads, .isa = isa};
    session s;
    mlxr_error err;
    assert_ok(mlxr_device_open(&s.device, name, &options, &err), &err);
    assert_ok(mlxr_device_compile(&s.executable, s.device, p, &err), &err);
    assert_ok(mlxr_state_create(&s.state, s.executable, N_BLOCKS, 1, &err), &err);
    return s;
}

static void close_session(session *s)
{
    mlxr_state_free(s->state);
    mlxr_executable_free(s->executable);
    mlxr_device_close(s->device);
}

/* Tokens [from, to), their ids their positions modulo n_ids; the rows of those at a multiple of `every`. */
static size_t step(session *s, const spec *sp, size_t from, size_t to, size_t every, float *logits)
{
    static uint32_t positions[MOST_TOKENS], seqs[MOST_TOKENS], rows[MOST_TOKENS], blocks[N_BLOCKS];
    static int32_t ids[MOST_TOKENS];
    mlxr_block_table table = {.blocks = blocks, .n_blocks = N_BLOCKS};
    mlxr_batch batch = {.n_tokens = to - from,
                        .ids = ids,
                        .positions = positions,
                        .seqs = seqs,
                        .tables = &table,
                        .n_seqs = 1,
                        .rows = rows};
    mlxr_error err;

    assert_true(to <= MOST_TOKENS);
    for (size_t i = 0; i < N_BLOCKS; i++) blocks[i] = (uint32_t)i;
    for (size_t i = from; i < to; i++) {
        ids[i - from] = (int32_t)(i % sp->n_ids);
        positions[i - from] = (uint32_t)i;
        if (i % every == 0) rows[batch.n_rows++] = (uint32_t)(i - from);
    }
    assert_ok(mlxr_run(s->executable, s->state, &batch, NULL, logits, &err), &err);
    return batch.n_rows;
}

static float *new_floats(size_t n)
{
    float *v = malloc(n * sizeof *v);
    assert_non_null(v);
    for (size_t i = 0; i < n; i++) v[i] = NAN;
    return v;
}

/* All n tokens at once; [n, width of the logits], the caller's. */
static float *run_on(const char *device, const char *isa, size_t n_threads, const mlxr_program *p,
                     const spec *sp, size_t n)
{
    float *out = new_floats(n * p->vocab_size);
    session s = open_session(device, isa, n_threads, p);
    assert_int_equal(step(&s, sp, 0, n, 1, out), n);
    close_session(&s);
    return out;
}

/* Relative to the largest value of a row: sums of values of both signs have no better. */
static void assert_rows_close(const char *what, const float *got, const double *want, size_t n, size_t width,
                              double tolerance)
{
    for (size_t t = 0; t < n; t++) {
        double most = 0;
        for (size_t i = 0; i < width; i++) most = fmax(most, fabs(want[t * width + i]));
        for (size_t i = 0; i < width; i++) {
            double g = got[t * width + i], w = want[t * width + i];
            if (!(fabs(g - w) <= tolerance * most)) {
                fail_msg("%s: token %zu [%zu] is %.9g, wanted %.9g", what, t, i, g, w);
            }
        }
    }
}

/* ---- the same in double ---- */

static void route_in_double(const spec *s, mlxr_program *p, size_t id, size_t *numbers, double *weights)
{
    const float *scores = floats_of(p, "scores") + id * s->E;
    bool *taken = calloc(s->E, sizeof *taken);
    double all = 0, of_best = 0;

    assert_non_null(taken);
    for (size_t j = 0; j < s->k; j++) {
        size_t best = s->E;
        for (size_t i = 0; i < s->E; i++) {
            if (!taken[i] && (best == s->E || scores[i] > scores[best])) best = i;
        }
        taken[best] = true;
        numbers[j] = best;
        of_best += exp(scores[best]);
    }
    for (size_t i = 0; i < s->E; i++) all += exp(scores[i]);
    for (size_t j = 0; j < s->k; j++) {
        double e = exp(scores[numbers[j]]), best_part = of_best / all;
        if (s->router == MLXR_ROUTER_TOPK_SOFTMAX) {
            weights[j] = e / of_best;
        } else {
            weights[j] = s->normalize ? e / all / best_part : e / all;
        }
        weights[j] *= s->scale;
        if (s->expert_weights) weights[j] *= floats_of(p, "expert_weights")[numbers[j]];
    }
    free(taken);
}

static double activated(const spec *s, double g, double u)
{
    const double pi = 3.14159265358979323846, alpha = (float)(ALPHA_TENTHS / 10.0f);
    switch (s->act) {
    case MLXR_ACT_SILU: return g / (1 + exp(-g)) * u;
    case MLXR_ACT_GELU: return g * erfc(-g / sqrt(2.0)) / 2 * u;
    case MLXR_ACT_GELU_TANH: return g / 2 * (1 + tanh(sqrt(2 / pi) * (g + 0.044715 * pow(g, 3)))) * u;
    case MLXR_ACT_SIGMOID: return 1 / (1 + exp(-g)) * u;
    case MLXR_ACT_SWIGLU_OAI:
        g = fmin(g, LIMIT);
        return (fmax(fmin(u, LIMIT), -LIMIT) + 1) * g / (1 + exp(-alpha * g));
    default: return g * u;
    }
}

static double dot_in_double(const mlxr_matrix *m, size_t row, const double *x)
{
    float *w = new_floats(m->n_cols);
    double sum = 0;

    mlxr_matrix_row(m, row, w);
    for (size_t i = 0; i < m->n_cols; i++) sum += w[i] * x[i];
    free(w);
    return sum;
}

static void experts_in_double(const spec *s, mlxr_program *p, size_t id, double *out)
{
    double *x = calloc(s->D, sizeof *x), *h = calloc(s->F, sizeof *h),
           *weights = calloc(s->k, sizeof *weights);
    size_t *numbers = calloc(s->k, sizeof *numbers);
    const mlxr_weight *gate = weight_named(p, "gate"), *up = weight_named(p, "up");

    assert_true(x && h && weights && numbers);
    route_in_double(s, p, id, numbers, weights);
    for (size_t i = 0; i < s->D; i++) {
        out[i] = 0;
        x[i] = floats_of(p, "x")[id * s->D + i];
    }
    for (size_t j = 0; j < s->k; j++) {
        size_t e = numbers[j];
        for (size_t i = 0; i < s->F; i++) {
            double g = dot_in_double(&gate->experts[e], laid_row(s, false, i), x);
            double u = dot_in_double(up ? &up->experts[e] : &gate->experts[e], laid_row(s, true, i), x);
            if (s->biases) g += bias_of(OF_GATE, e, i), u += bias_of(OF_UP, e, i);
            h[i] = activated(s, g, u);
        }
        for (size_t i = 0; i < s->D; i++) {
            double y = dot_in_double(&weight_named(p, "down")->experts[e], i, h);
            if (s->biases) y += bias_of(OF_DOWN, e, i);
            out[i] += weights[j] * y;
        }
    }
    free(x);
    free(h);
    free(weights);
    free(numbers);
}

/* ---- the cases ---- */

static const storage stores[] = {
    {MLXR_QUANT_NONE, 0, 0, MLXR_F32},     {MLXR_QUANT_NONE, 0, 0, MLXR_F16},
    {MLXR_QUANT_NONE, 0, 0, MLXR_BF16},    {MLXR_QUANT_AFFINE, 4, 32, MLXR_F16},
    {MLXR_QUANT_AFFINE, 8, 64, MLXR_BF16}, {MLXR_QUANT_AFFINE, 3, 32, MLXR_F32},
};
static const mlxr_act acts[] = {MLXR_ACT_SILU,    MLXR_ACT_GELU,       MLXR_ACT_GELU_TANH,
                                MLXR_ACT_SIGMOID, MLXR_ACT_SWIGLU_OAI, MLXR_ACT_NONE};

/* Every storage, layout, activation and router, biases or none, k from 1 to E; what one case has follows from its
 * number. false: no such case. */
static bool nth_case(size_t i, spec *s)
{
    static const size_t shapes[][4] = {
        /* E, k, D, F; dense ones are odd */
        {1, 1, 7, 3},  {4, 1, 33, 17}, {4, 2, 50, 41},  {5, 5, 31, 65}, {8, 3, 97, 33},
        {16, 4, 5, 9}, {64, 8, 37, 5}, {64, 64, 9, 12}, {3, 2, 130, 1},
    };
    const size_t *shape = shapes[i % MLXR_COUNT(shapes)];

    if (i >= 4 * MLXR_COUNT(shapes) * MLXR_COUNT(stores)) return false;
    *s = plain(shape[0], shape[1], shape[2], shape[3]);
    s->stored = stores[i / MLXR_COUNT(shapes) % MLXR_COUNT(stores)];
    if (s->stored.mode != MLXR_QUANT_NONE) {
        s->D = mlxr_round_up(s->D, s->stored.group_size);
        s->F = mlxr_round_up(s->F, s->stored.group_size);
    }
    s->n_ids = s->D;
    s->gate_up = (mlxr_gate_up)(i % 3 + i / 9) % 3;
    s->act = acts[(i + i / 11) % MLXR_COUNT(acts)];
    s->router = i % 2 ? MLXR_ROUTER_TOPK_SOFTMAX : MLXR_ROUTER_SOFTMAX_TOPK;
    s->normalize = i / 2 % 2;
    s->biases = i / 3 % 2;
    s->expert_weights = i / 5 % 2;
    s->scale = i % 4 ? 1.0f : 2.5f;
    return true;
}

static void ref_equals_double(void **state)
{
    enum { N = 7 };
    spec s;

    (void)state;
    for (size_t i = 0; nth_case(i, &s); i++) {
        mlxr_program *p = experts_program(&s, false);
        float *got = run_on("ref", NULL, 1, p, &s, N);
        double *want = calloc(N * s.D, sizeof *want);
        char what[64];
        assert_non_null(want);
        snprintf(what, sizeof what, "ref, case %zu", i);
        for (size_t t = 0; t < N; t++) experts_in_double(&s, p, t % s.n_ids, want + t * s.D);
        /* gate, up, what comes of them, and the weights are rounded to float32 */
        assert_rows_close(what, got, want, N, s.D, 1e-6);
        free(got);
        free(want);
        mlxr_program_free(p);
    }
}

static void layouts_are_the_same_on_ref(void **state)
{
    enum { N = 5 };
    spec s;

    (void)state;
    for (size_t i = 0; nth_case(i, &s); i += 5) {
        float *first = NULL;
        for (size_t layout = 0; layout < 3; layout++) {
            mlxr_program *p;
            float *out;
            s.gate_up = (mlxr_gate_up)layout;
            p = experts_program(&s, false);
            out = run_on("ref", NULL, 1, p, &s, N);
            if (first) {
                assert_memory_equal(out, first, N * s.D * sizeof *out);
                free(out);
            } else {
                first = out;
            }
            mlxr_program_free(p);
        }
        free(first);
    }
}

/* ---- ROUTE ---- */

static void run_route(const char *device, const char *isa, const mlxr_program *p, const spec *s, size_t n,
                      float *out)
{
    session se = open_session(device, isa, 1, p);
    assert_int_equal(step(&se, s, 0, n, 1, out), n);
    close_session(&se);
}

/* i: 0 is ref, then cpu with each of its instruction sets. */
static bool nth_device(size_t i, const char **device, const char **isa)
{
    const mlxr_cpu_kernels *k = i ? mlxr_cpu_kernels_at(i - 1) : NULL;

    *device = i ? "cpu" : "ref";
    *isa = k ? k->isa : NULL;
    return i == 0 || k;
}

static void routes_equal_double(void **state)
{
    enum { N = 9 };
    const char *device, *isa;

    (void)state;
    for (size_t i_device = 0; nth_device(i_device, &device, &isa); i_device++) {
        for (size_t E = 1; E <= 64; E += E < 6 ? 1 : 29) {
            for (size_t k = 1; k <= E; k += E < 6 ? 1 : 9) {
                for (size_t variant = 0; variant < 8; variant++) {
                    spec s = plain(E, k, 1, 1);
                    mlxr_program *p;
                    float *got = new_floats(N * 2 * k);
                    size_t *numbers = calloc(k, sizeof *numbers);
                    double *weights = calloc(k, sizeof *weights);
                    assert_true(numbers && weights);
                    s.n_ids = 2 * k;
                    s.router = variant & 1 ? MLXR_ROUTER_TOPK_SOFTMAX : MLXR_ROUTER_SOFTMAX_TOPK;
                    s.normalize = variant & 2;
                    s.expert_weights = variant & 4;
                    s.scale = variant & 4 ? 0.3f : 1.0f;
                    p = route_program(&s);
                    bind_dense(p, "scores", OF_SCORES + 1000 * variant, 3.0f);
                    run_route(device, isa, p, &s, N, got);
                    for (size_t t = 0; t < N; t++) {
                        route_in_double(&s, p, t % s.n_ids, numbers, weights);
                        for (size_t j = 0; j < k; j++) {
                            assert_true(got[t * 2 * k + j] == (float)numbers[j]);
                            assert_true(fabs(got[t * 2 * k + k + j] - weights[j]) <= 1e-6 * fabs(weights[j]));
                        }
                    }
                    free(got);
                    free(numbers);
                    free(weights);
                    mlxr_program_free(p);
                }
            }
        }
    }
}

/* Equal scores, infinite ones, and NaN: what is chosen is in an order, and always k experts of the E. */
static void routes_have_an_order(void **state)
{
    enum { E = 6, K = 4, N = 8 };
    static const float scores[N][E] = {
        {1, 2, 2, 1, 2, 1},
        {0, 0, 0, 0, 0, 0},
        {NAN, 1, NAN, 3, 2, NAN},
        {NAN, NAN, NAN, NAN, NAN, NAN},
        {-INFINITY, INFINITY, 0, NAN, INFINITY, -INFINITY},
        {-INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY},
        {3e38f, -3e38f, 0, 1, 2, 3},
        {-0.0f, 0.0f, -0.0f, 0.0f, -1.0f, 1.0f},
    };
    static const float want[N][K] = {
        {1, 2, 4, 0}, {0, 1, 2, 3}, {3, 4, 1, 0}, {0, 1, 2, 3},
        {1, 4, 2, 0}, {0, 1, 2, 3}, {0, 5, 4, 3}, {5, 0, 1, 2},
    };
    const char *device, *isa;

    (void)state;
    for (size_t i_device = 0; nth_device(i_device, &device, &isa); i_device++) {
        for (size_t variant = 0; variant < 4; variant++) {
            spec s = plain(E, K, 1, 1);
            float got[N * 2 * K];
            mlxr_program *p;
            s.n_ids = 2 * K;
            s.router = variant & 1 ? MLXR_ROUTER_TOPK_SOFTMAX : MLXR_ROUTER_SOFTMAX_TOPK;
            s.normalize = variant & 2;
            p = route_program(&s);
            memcpy(floats_of(p, "scores"), scores, sizeof scores);
            run_route(device, isa, p, &s, N, got);
            for (size_t t = 0; t < N; t++) assert_memory_equal(got + t * 2 * K, want[t], sizeof want[t]);
            /* of equal scores equal weights; of one far above the others all the weight */
            assert_true(got[2 * K + K] == got[2 * K + K + 3] && got[2 * K + K] > 0);
            assert_true(got[6 * 2 * K + K] == 1 && got[6 * 2 * K + K + 1] == 0);
            mlxr_program_free(p);
        }
    }
}

/* What no ROUTE writes: an expert is read all the same, and one that is there. */
static void numbers_out_of_range_are_harmless(void **state)
{
    static const float numbers[] = {-1, 3, 1e9f, -1e30f, INFINITY, NAN, 2.9f, -0.5f};
    const char *device, *isa;
    enum { N = 16 };

    (void)state;
    for (size_t i_device = 0; nth_device(i_device, &device, &isa); i_device++) {
        spec s = plain(3, 2, 24, 10);
        mlxr_program *p = experts_program(&s, true);
        float *route = floats_of(p, "route"), *out;
        for (size_t t = 0; t < N; t++) {
            route[4 * t] = numbers[t % MLXR_COUNT(numbers)];
            route[4 * t + 1] = numbers[t * 3 % MLXR_COUNT(numbers)];
        }
        out = run_on(device, isa, 1, p, &s, N);
        for (size_t i = 0; i < N * s.D; i++) assert_true(isfinite(out[i]));
        free(out);
        mlxr_program_free(p);
    }
}

/* ---- cpu ---- */

static double *to_double(const float *v, size_t n)
{
    double *d = calloc(n, sizeof *d);
    assert_non_null(d);
    for (size_t i = 0; i < n; i++) d[i] = v[i];
    return d;
}

/* Tokens in batches of 1, 2, 3, ... and all of them at once: against ref, and the same bits either way. */
static void cpu_equals_ref(void **state)
{
    enum { N = 40 };
    const mlxr_cpu_kernels *k;
    spec s;

    (void)state;
    for (size_t i = 0; nth_case(i, &s); i++) {
        mlxr_program *p = experts_program(&s, false);
        float *ref = run_on("ref", NULL, 1, p, &s, N);
        double *want = to_double(ref, N * s.D);
        for (size_t i_isa = 0; (k = mlxr_cpu_kernels_at(i_isa)) != NULL; i_isa++) {
            float *got = run_on("cpu", k->isa, 1, p, &s, N), *parts = new_floats(N * s.D);
            session se = open_session("cpu", k->isa, 1, p);
            char what[64];
            snprintf(what, sizeof what, "%s, case %zu", k->isa, i);
            assert_rows_close(what, got, want, N, s.D, 1e-5);
            for (size_t t = 0, n = 1; t < N; t += n, n++) {
                size_t to = t + n < N ? t + n : N;
                step(&se, &s, t, to, 1, parts + t * s.D);
            }
            assert_memory_equal(got, parts, N * s.D * sizeof *got);
            close_session(&se);
            free(got);
            free(parts);
        }
        free(ref);
        free(want);
        mlxr_program_free(p);
    }
}

/* Shapes that are cut into several ranges, of one token and of many. */
static spec large(size_t i)
{
    static const spec shapes[] = {
        {.E = 12, .k = 3, .D = 192, .F = 320, .stored = {MLXR_QUANT_AFFINE, 4, 32, MLXR_F16}},
        {.E = 6, .k = 2, .D = 515, .F = 231, .stored = {MLXR_QUANT_NONE, 0, 0, MLXR_BF16}},
    };
    spec s = shapes[i % MLXR_COUNT(shapes)];
    s.n_ids = s.D;
    s.gate_up = (mlxr_gate_up)(i % 3);
    s.act = i % 2 ? MLXR_ACT_SWIGLU_OAI : MLXR_ACT_SILU;
    s.normalize = s.biases = true;
    s.scale = 1.0f;
    return s;
}

static void threads_and_company_change_no_bit(void **state)
{
    enum { N = 90 };
    const mlxr_cpu_kernels *k;

    (void)state;
    for (size_t i = 0; i < 6; i++) {
        spec s = large(i);
        mlxr_program *p = experts_program(&s, false);
        float *ref = run_on("ref", NULL, 1, p, &s, 3);
        double *want = to_double(ref, 3 * s.D);
        for (size_t i_isa = 0; (k = mlxr_cpu_kernels_at(i_isa)) != NULL; i_isa++) {
            float *first = run_on("cpu", k->isa, 1, p, &s, N);
            assert_rows_close(k->isa, first, want, 3, s.D, 1e-5);
            for (size_t n_threads = 1; n_threads <= 5; n_threads += n_threads == 2 ? 3 : 1) {
                float *other = new_floats(N * s.D);
                session se = open_session("cpu", k->isa, n_threads, p);
                step(&se, &s, 0, 60, 1, other);
                step(&se, &s, 60, 63, 1, other + 60 * s.D);
                for (size_t t = 63; t < N; t++) step(&se, &s, t, t + 1, 1, other + t * s.D);
                assert_memory_equal(first, other, N * s.D * sizeof *first);
                close_session(&se);
                free(other);
            }
            free(first);
        }
        free(ref);
        free(want);
        mlxr_program_free(p);
    }
}

/* Three passes; EXPERTS for every token, the ATTEND over them for the wanted ones. All tokens choose one expert in
 * one case: a group of a whole pass. */
static void passes_and_wanted_rows_change_no_bit(void **state)
{
    enum { N = MOST_TOKENS };
    static const size_t every[] = {1, 7, 600};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        spec s = plain(i ? 5 : 1, i ? 2 : 1, 40, 36);
        mlxr_program *p;
        float *parts, *whole;
        session se;
        s.attends = i < 2;
        p = experts_program(&s, false);
        parts = new_floats(N * s.D);
        whole = new_floats(N * s.D);
        se = open_session("cpu", NULL, 2, p);
        for (size_t t = 0; t < N; t += 20) step(&se, &s, t, t + 20, 1, parts + t * s.D);
        for (size_t j = 0; j < MLXR_COUNT(every); j++) {
            size_t n_rows = step(&se, &s, 0, N, every[j], whole);
            assert_int_equal(n_rows, (N + every[j] - 1) / every[j]);
            for (size_t r = 0; r < n_rows; r++) {
                assert_memory_equal(whole + r * s.D, parts + r * every[j] * s.D, s.D * sizeof *whole);
            }
        }
        close_session(&se);
        free(parts);
        free(whole);
        mlxr_program_free(p);
    }
}

/* One token's NaN stays its own. */
static void nan_stays_with_its_token(void **state)
{
    enum { N = 24 };
    const mlxr_cpu_kernels *k;

    (void)state;
    for (size_t i_isa = 0; (k = mlxr_cpu_kernels_at(i_isa)) != NULL; i_isa++) {
        spec s = plain(4, 2, N, 18);
        mlxr_program *p = experts_program(&s, false);
        float *before = run_on("cpu", k->isa, 1, p, &s, N), *after;
        for (size_t i = 0; i < s.E; i++) floats_of(p, "scores")[5 * s.E + i] = NAN;
        floats_of(p, "x")[7 * s.D + 3] = NAN;
        after = run_on("cpu", k->isa, 1, p, &s, N);
        for (size_t t = 0; t < N; t++) {
            if (t != 5 && t != 7) {
                assert_memory_equal(before + t * s.D, after + t * s.D, s.D * sizeof *after);
            } else {
                for (size_t i = 0; i < s.D; i++) assert_true(isnan(after[t * s.D + i]));
            }
        }
        free(before);
        free(after);
        mlxr_program_free(p);
    }
}

/* ---- what is refused ---- */

static void assert_refused(const mlxr_program *p, const char *text)
{
    static const char *const devices[] = {"ref", "cpu"};

    for (size_t i = 0; i < MLXR_COUNT(devices); i++) {
        mlxr_device_options options = {.n_threads = 1};
        mlxr_device *d;
        mlxr_executable *e;
        mlxr_error err;
        assert_ok(mlxr_device_open(&d, devices[i], &options, &err), &err);
        assert_fails(mlxr_device_compile(&e, d, p, &err), MLXR_E_UNSUPPORTED, text, &err);
        assert_null(e);
        mlxr_device_close(d);
    }
}

static void unlike_experts_are_refused(void **state)
{
    spec s = plain(4, 2, 64, 32);
    mlxr_program *p;
    mlxr_matrix *stack;

    (void)state;
    s.biases = true;
    p = experts_program(&s, false);
    stack = (mlxr_matrix *)(uintptr_t)weight_named(p, "down")->experts;
    stack[2].dtype = MLXR_F16;
    stack[2].row_bytes /= 2;
    assert_refused(p, "down.weight: expert 2");
    stack[2] = stack[1];
    for (size_t e = 0; e < s.E; e++) stack[e].quant = (mlxr_quant){MLXR_QUANT_AFFINE, 7, 32};
    weight_named(p, "down")->m = stack[0];
    assert_refused(p, "down.weight");
    mlxr_program_free(p);

    p = experts_program(&s, false);
    weight_named(p, "up_bias")->m.quant = (mlxr_quant){MLXR_QUANT_AFFINE, 4, 32};
    assert_refused(p, "up_bias.bias");
    mlxr_program_free(p);

    s.act = (mlxr_act)(MLXR_ACT_SWIGLU_OAI + 1);
    p = experts_program(&s, false);
    assert_refused(p, "EXPERTS, layer 5): no such activation");
    mlxr_program_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ref_equals_double),
        cmocka_unit_test(layouts_are_the_same_on_ref),
        cmocka_unit_test(routes_equal_double),
        cmocka_unit_test(routes_have_an_order),
        cmocka_unit_test(numbers_out_of_range_are_harmless),
        cmocka_unit_test(cpu_equals_ref),
        cmocka_unit_test(threads_and_company_change_no_bit),
        cmocka_unit_test(passes_and_wanted_rows_change_no_bit),
        cmocka_unit_test(nan_stays_with_its_token),
        cmocka_unit_test(unlike_experts_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
