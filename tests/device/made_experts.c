/* See made_experts.h. */
#include "device/made_experts.h"

#include <math.h>

#include "test.h"

static const storage f32 = {MLXR_QUANT_NONE, 0, 0, MLXR_F32};

spec plain(size_t E, size_t k, size_t D, size_t F)
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

static uint64_t mixed(uint64_t what, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t x = (((what * 1000003 + a) * 1000003 + b) * 1000003 + c) * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

float unit(uint64_t what, uint64_t a, uint64_t b, uint64_t c)
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
        m.scales = take(p, n_rows * (n_cols / s.group_size), mlxr_dtype_bits(s.dtype) / 8);
    }
    if (s.mode == MLXR_QUANT_AFFINE) {
        m.biases = take(p, n_rows * (n_cols / s.group_size), mlxr_dtype_bits(s.dtype) / 8);
    }
    return m;
}

/* Codes at random, none of them NaN; scales so that values are about `size`. */
static void fill_fp_row(mlxr_matrix *m, size_t row, uint64_t what, size_t e, size_t i, float size)
{
    uint8_t *data = (uint8_t *)(uintptr_t)m->data + row * m->row_bytes;
    size_t n_groups = m->n_cols / m->quant.group_size;
    uint8_t *scales = (uint8_t *)(uintptr_t)m->scales + row * n_groups;
    int two_to = ilogbf(size) - (m->quant.mode == MLXR_QUANT_MXFP4);

    for (size_t j = 0; j < m->row_bytes; j++) {
        data[j] = (uint8_t)mixed(what, e, i, j);
        if (m->quant.mode == MLXR_QUANT_MXFP8) data[j] &= 0xbf; /* below 2 */
    }
    for (size_t g = 0; g < n_groups; g++) {
        unsigned any = (unsigned)mixed(what + 100, e, i, g);
        scales[g] = m->quant.mode == MLXR_QUANT_NVFP4 ? (uint8_t)(0x38 + any % 16) /* 1 to 3.75 */
                                                      : (uint8_t)(127 + two_to - (int)(any % 2));
    }
    if (m->quant.mode == MLXR_QUANT_NVFP4) m->global_scale = 2688 * size / (float)(4 + e % 4);
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
    if (mlxr_quant_is_fp(m->quant.mode)) {
        fill_fp_row(m, row, what, e, i, size);
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

size_t laid_row(const spec *s, bool up, size_t i)
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

mlxr_weight *weight_named(mlxr_program *p, const char *name)
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

static void bind_first_stack(mlxr_program *p, const spec *s, const char *name, uint64_t what)
{
    mlxr_weight *w = weight_named(p, name);
    mlxr_matrix *stack;

    if (!w) return;
    stack = take(p, w->n_experts, sizeof *stack);
    for (size_t e = 0; e < w->n_experts; e++) {
        stack[e] = new_matrix(p, s->stored, w->n_rows, w->n_cols);
        for (size_t i = 0; i < w->n_rows; i++) fill_row(&stack[e], i, what, e, i);
    }
    w->experts = stack;
    w->m = stack[0];
}

float bias_of(uint64_t what, size_t e, size_t i)
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

void bind_dense(mlxr_program *p, const char *name, uint64_t what, float size)
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

float *floats_of(mlxr_program *p, const char *name)
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

static mlxr_reg_id build_first_experts(mlxr_builder *b, const spec *s, mlxr_reg_id x)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_EXPERTS, 4);
    mlxr_reg_id scores = build_embed(b, "first_scores", s->n_ids, s->E);

    op.a = x;
    op.b = mlxr_build_reg(b, "first_route", 2 * s->k);
    op.dst = mlxr_build_reg(b, "first", s->D);
    build_route(b, s, scores, op.b);
    op.u.experts.k = s->k;
    op.u.experts.width = s->first_F;
    op.u.experts.gate_up = MLXR_GATE_UP_HALVES;
    op.u.experts.up = op.u.experts.gate_bias = op.u.experts.up_bias = op.u.experts.down_bias = MLXR_NONE;
    op.u.experts.gate = mlxr_build_stack(b, s->E, 2 * s->first_F, s->D, ".weight", "first_gate");
    op.u.experts.down = mlxr_build_stack(b, s->E, s->D, s->first_F, ".weight", "first_down");
    mlxr_build_op(b, &op);
    return op.dst;
}

mlxr_program *experts_program(const spec *s, bool given_route)
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
    if (s->first_F) x = build_first_experts(b, s, x);
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
    bind_dense(p, "first_scores", OF_FIRST_SCORES, 3.0f);
    bind_dense(p, "route", OF_SCORES, 3.0f);
    bind_dense(p, "expert_weights", OF_EXPERT_WEIGHTS, 1.0f);
    bind_first_stack(p, s, "first_gate", OF_FIRST_GATE);
    bind_first_stack(p, s, "first_down", OF_FIRST_DOWN);
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

mlxr_program *route_program(const spec *s)
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

session open_session(how h, size_t n_threads, const mlxr_program *p)
{
    mlxr_device_options options = {.precision = h.fast ? MLXR_PRECISION_FAST : MLXR_PRECISION_EXACT,
                                   .n_threads = n_threads,
                                   .isa = h.isa};
    session s;
    mlxr_error err;
    assert_ok(mlxr_device_open(&s.device, h.device, &options, &err), &err);
    assert_ok(mlxr_device_compile(&s.executable, s.device, p, &err), &err);
    assert_ok(mlxr_state_create(&s.state, s.executable, N_BLOCKS, 1, &err), &err);
    return s;
}

void close_session(session *s)
{
    mlxr_state_free(s->state);
    mlxr_executable_free(s->executable);
    mlxr_device_close(s->device);
}

size_t step(session *s, const spec *sp, size_t from, size_t to, size_t every, float *logits)
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

float *new_floats(size_t n)
{
    float *v = malloc(n * sizeof *v);
    assert_non_null(v);
    for (size_t i = 0; i < n; i++) v[i] = NAN;
    return v;
}

float *run_on(how h, size_t n_threads, const mlxr_program *p, const spec *sp, size_t n)
{
    float *out = new_floats(n * p->vocab_size);
    session s = open_session(h, n_threads, p);
    assert_int_equal(step(&s, sp, 0, n, 1, out), n);
    close_session(&s);
    return out;
}
