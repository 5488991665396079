/* Speed of EXPERTS on the cpu device, beside plain linear operations that read as many bytes and do as many
 * products:
 *
 *     bench_experts [-t THREADS] [-e EXPERTS] [-k K] [-D WIDTH] [-F EXPERT_WIDTH] [-b BITS | -m MODE] [-g GROUP]
 *                   [-p PROMPT] [-s STACKS] [-l LAYERS] [-P exact|fast] [-B]
 *
 * Both programs have 32 LAYERS of about the same memory in all, more than caches hold: in one each layer chooses k of
 * the experts of one of four STACKS, in the other gate and up have k F rows. BITS 16: bf16; groups of 64. MODE: mxfp4,
 * nvfp4, mxfp8. -B: experts with biases. Medians of 40 steps of one token, and of 5 of PROMPT tokens. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "device/device.h"

enum { N_IDS = 512 };

typedef struct shape {
    size_t n_threads, E, k, D, F, bits, n_prompt, group, n_stacks, n_layers;
    mlxr_quant_mode mode;
    bool biases;
} shape;

static uint64_t seed = 88172645463325252u;

static uint64_t next(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static int fail(const mlxr_error *err)
{
    fprintf(stderr, "bench_experts: %s\n", err->message);
    return 1;
}

/* Any values that stay finite through the layers. */
static bool make_matrix(mlxr_program *p, mlxr_matrix *m, size_t n_rows, size_t n_cols, mlxr_quant q)
{
    size_t n_words, n_groups;
    uint64_t *data;
    uint8_t *scales, *biases = NULL;

    *m = (mlxr_matrix){.dtype = MLXR_BF16, .n_rows = n_rows, .n_cols = n_cols, .quant = q};
    m->row_bytes = n_cols * (q.mode == MLXR_QUANT_NONE ? 16 : q.bits) / 8;
    n_words = n_rows * m->row_bytes / 8 + 1;
    m->data = data = mlxr_arena_calloc(&p->arena, n_words, sizeof *data);
    if (!data) return false;
    if (q.mode == MLXR_QUANT_NONE) { /* 0.0078 to 0.0156 */
        for (size_t i = 0; i < n_words; i++) data[i] = 0x3c003c003c003c00 | (next() & 0x807f807f807f807f);
        return true;
    }
    for (size_t i = 0; i < n_words; i++) data[i] = next();
    n_groups = n_rows * (n_cols / q.group_size);
    m->scales = scales = mlxr_arena_calloc(&p->arena, n_groups, 2);
    if (!scales) return false;
    if (mlxr_quant_is_fp(q.mode)) {
        m->dtype = MLXR_U8;
        for (size_t i = 0; i < n_words && q.mode == MLXR_QUANT_MXFP8; i++) data[i] &= 0xbfbfbfbfbfbfbfbf;
        memset(scales, q.mode == MLXR_QUANT_NVFP4 ? 0x08 : 121, n_groups); /* 0.016 */
        return true;
    }
    m->biases = biases = mlxr_arena_calloc(&p->arena, n_groups, 2);
    if (!biases) return false;
    for (size_t i = 0; i < n_groups; i++) {
        mlxr_store_float(scales, MLXR_BF16, i, 0.02f / (float)(1u << q.bits));
        mlxr_store_float(biases, MLXR_BF16, i, -0.01f);
    }
    return true;
}

static bool bind(mlxr_program *p, const shape *s)
{
    static const mlxr_quant dense;

    for (size_t i = 0; i < p->n_weights; i++) {
        mlxr_weight *w = &p->weights[i];
        /* The table of inputs, the routers and the biases are small, and dense. */
        mlxr_quant q = strncmp(w->name, "dense", 5) == 0 || s->mode == MLXR_QUANT_NONE
                           ? dense
                           : (mlxr_quant){s->mode, (unsigned)s->bits, (unsigned)s->group};
        if (w->n_experts) {
            mlxr_matrix *stack = mlxr_arena_calloc(&p->arena, w->n_experts, sizeof *stack);
            if (!stack) return false;
            for (size_t e = 0; e < w->n_experts; e++) {
                if (!make_matrix(p, &stack[e], w->n_rows, w->n_cols, q)) return false;
            }
            w->experts = stack;
            w->m = stack[0];
        } else if (!make_matrix(p, &w->m, w->n_rows, w->n_cols, q)) {
            return false;
        }
        w->bound = true;
    }
    return true;
}

static mlxr_op linear(mlxr_reg_id a, mlxr_reg_id dst, mlxr_weight_id weight)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_LINEAR, 0);
    op.a = a;
    op.dst = dst;
    op.weight = weight;
    return op;
}

static void build_experts(mlxr_builder *b, const shape *s, int i_stack, mlxr_reg_id x, mlxr_reg_id y)
{
    mlxr_reg_id scores = mlxr_build_reg(b, "scores", s->E), list = mlxr_build_reg(b, "list", 2 * s->k);
    mlxr_op op = linear(x, scores, mlxr_build_matrix(b, s->E, s->D, "dense.%d", i_stack));

    mlxr_build_op(b, &op);
    op = mlxr_op_init(MLXR_OP_ROUTE, 0);
    op.a = scores;
    op.dst = list;
    op.u.route.k = s->k;
    op.u.route.normalize = true;
    op.u.route.scale = 1.0f;
    mlxr_build_op(b, &op);
    op = mlxr_op_init(MLXR_OP_EXPERTS, 0);
    op.a = x;
    op.b = list;
    op.dst = y;
    op.u.experts.k = s->k;
    op.u.experts.width = s->F;
    op.u.experts.act = MLXR_ACT_SILU;
    op.u.experts.gate = mlxr_build_stack(b, s->E, s->F, s->D, ".weight", "gate.%d", i_stack);
    op.u.experts.up = mlxr_build_stack(b, s->E, s->F, s->D, ".weight", "up.%d", i_stack);
    op.u.experts.down = mlxr_build_stack(b, s->E, s->D, s->F, ".weight", "down.%d", i_stack);
    op.u.experts.gate_bias = op.u.experts.up_bias = op.u.experts.down_bias = MLXR_NONE;
    if (s->biases) {
        op.u.experts.gate_bias = mlxr_build_matrix_as(b, s->E, s->F, ".bias", "dense.gate.%d", i_stack);
        op.u.experts.up_bias = mlxr_build_matrix_as(b, s->E, s->F, ".bias", "dense.up.%d", i_stack);
        op.u.experts.down_bias = mlxr_build_matrix_as(b, s->E, s->D, ".bias", "dense.down.%d", i_stack);
    }
    mlxr_build_op(b, &op);
}

static void build_linears(mlxr_builder *b, const shape *s, int i_layer, mlxr_reg_id x, mlxr_reg_id y)
{
    size_t width = s->k * s->F;
    mlxr_reg_id gate = mlxr_build_reg(b, "gate", width), up = mlxr_build_reg(b, "up", width);
    mlxr_op op = linear(x, gate, mlxr_build_matrix(b, width, s->D, "gate.%d", i_layer));

    mlxr_build_op(b, &op);
    op = linear(x, up, mlxr_build_matrix(b, width, s->D, "up.%d", i_layer));
    mlxr_build_op(b, &op);
    op = mlxr_op_init(MLXR_OP_ACT_MUL, 0);
    op.a = gate;
    op.b = up;
    op.dst = gate;
    op.u.act.act = MLXR_ACT_SILU;
    mlxr_build_op(b, &op);
    op = linear(gate, y, mlxr_build_matrix(b, s->D, width, "down.%d", i_layer));
    mlxr_build_op(b, &op);
}

static mlxr_status build(mlxr_program **out, const shape *s, bool experts, mlxr_error *err)
{
    mlxr_builder *b;
    mlxr_status st = mlxr_builder_create(&b, "bench", err);
    mlxr_op op = mlxr_op_init(MLXR_OP_EMBED, 0);
    mlxr_reg_id x, y;

    if (st != MLXR_OK) return st;
    x = mlxr_build_reg(b, "x", s->D);
    y = mlxr_build_reg(b, "y", s->D);
    op.dst = x;
    op.weight = mlxr_build_matrix(b, s->D > N_IDS ? s->D : N_IDS, s->D, "dense");
    op.u.embed.scale = 100.0f;
    mlxr_build_op(b, &op);
    for (int i = 0; i < (int)s->n_layers; i++) {
        if (experts) {
            build_experts(b, s, i % (int)s->n_stacks, x, y);
        } else {
            build_linears(b, s, i, x, y);
        }
        op = mlxr_op_init(MLXR_OP_ADD, 0);
        op.a = op.dst = x;
        op.b = y;
        mlxr_build_op(b, &op);
    }
    st = mlxr_builder_finish(out, b, s->D, s->D, s->n_layers, 4096, x, err);
    mlxr_builder_free(b);
    if (st == MLXR_OK && !bind(*out, s)) st = mlxr_fail_nomem(err, "bench_experts");
    return st;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Milliseconds of a layer, the median of n steps of n_tokens; below 0 when one failed. */
static double measure(mlxr_executable *e, mlxr_state *state, size_t n_layers, size_t n_tokens, size_t n,
                      float *out, mlxr_error *err)
{
    static int32_t ids[N_IDS];
    static uint32_t u[N_IDS], seqs[N_IDS], blocks[N_IDS / MLXR_KV_BLOCK];
    double ms[64];

    for (uint32_t i = 0; i < N_IDS; i++) u[i] = i;
    for (size_t i = 0; i < n; i++) {
        mlxr_block_table table = {.blocks = blocks, .n_blocks = MLXR_COUNT(blocks)};
        mlxr_batch batch = {.n_tokens = n_tokens,
                            .ids = ids,
                            .positions = u,
                            .seqs = seqs,
                            .tables = &table,
                            .n_seqs = 1,
                            .rows = u,
                            .n_rows = n_tokens};
        uint64_t start;
        for (size_t t = 0; t < n_tokens; t++) ids[t] = (int32_t)(next() % N_IDS);
        start = mlxr_now_ns();
        if (mlxr_run(e, state, &batch, NULL, out, err) != MLXR_OK) return -1;
        ms[i] = (double)(mlxr_now_ns() - start) / 1e6 / (double)n_layers;
    }
    qsort(ms, n, sizeof *ms, by_value);
    return ms[n / 2];
}

static bool options_of(int argc, char **argv, shape *s, mlxr_device_options *options)
{
    int c;

    while ((c = getopt(argc, argv, "t:e:k:D:F:b:m:g:p:s:l:P:B")) != -1) {
        size_t *of = c == 't'   ? &s->n_threads
                     : c == 'e' ? &s->E
                     : c == 'k' ? &s->k
                     : c == 'D' ? &s->D
                     : c == 'F' ? &s->F
                     : c == 'b' ? &s->bits
                     : c == 'g' ? &s->group
                     : c == 'p' ? &s->n_prompt
                     : c == 's' ? &s->n_stacks
                     : c == 'l' ? &s->n_layers
                                : NULL;
        if (of) {
            *of = strtoul(optarg, NULL, 10);
        } else if (c == 'B') {
            s->biases = true;
        } else if (c == 'm' && mlxr_quant_is_fp(mlxr_quant_mode_from_name(optarg))) {
            mlxr_quant q = mlxr_quant_default(mlxr_quant_mode_from_name(optarg));
            s->mode = q.mode;
            s->bits = q.bits;
            s->group = q.group_size;
        } else if (c == 'P') {
            options->precision = strcmp(optarg, "fast") == 0 ? MLXR_PRECISION_FAST : MLXR_PRECISION_EXACT;
        } else {
            return false;
        }
    }
    if (s->bits == 16) s->mode = MLXR_QUANT_NONE;
    s->n_prompt = s->n_prompt < 1 ? 1 : s->n_prompt > N_IDS ? N_IDS : s->n_prompt;
    options->n_threads = s->n_threads;
    return s->n_stacks > 0 && s->n_layers > 0;
}

int main(int argc, char **argv)
{
    shape s = {.E = 64,
               .k = 8,
               .D = 1024,
               .F = 512,
               .bits = 4,
               .n_prompt = 512,
               .group = 64,
               .n_stacks = 4,
               .n_layers = 32,
               .mode = MLXR_QUANT_AFFINE};
    mlxr_device_options options = {.precision = MLXR_PRECISION_EXACT};
    mlxr_device *d;
    mlxr_error err;
    double bytes, products;
    float *out;

    if (!options_of(argc, argv, &s, &options)) return 2;
    out = mlxr_malloc_array(s.n_prompt, s.D * sizeof *out);
    if (!out) return 1;
    if (mlxr_device_open(&d, "cpu", &options, &err) != MLXR_OK) return fail(&err);
    products = 3.0 * (double)(s.k * s.F * s.D);
    bytes = products *
            ((double)s.bits + (s.mode == MLXR_QUANT_NONE     ? 0
                               : s.mode == MLXR_QUANT_AFFINE ? 32.0 / (double)s.group
                                                             : 8.0 / (double)s.group)) /
            8;
    printf("%s; %zu of %zu experts, D = %zu, F = %zu, %zu bits: %.2f MB a layer and token\n",
           mlxr_device_description(d), s.k, s.E, s.D, s.F, s.bits, bytes / 1e6);
    for (int experts = 0; experts < 2; experts++) {
        mlxr_program *p;
        mlxr_executable *e;
        mlxr_state *state;
        double one, many;
        if (build(&p, &s, experts, &err) != MLXR_OK || mlxr_device_compile(&e, d, p, &err) != MLXR_OK ||
            mlxr_state_create(&state, e, N_IDS / MLXR_KV_BLOCK, 1, &err) != MLXR_OK) {
            return fail(&err);
        }
        one = measure(e, state, s.n_layers, 1, 40, out, &err);
        many = one < 0 ? -1 : measure(e, state, s.n_layers, s.n_prompt, 5, out, &err);
        if (many < 0) return fail(&err);
        printf("%-8s one token %7.3f ms a layer, %6.2f GB/s;  %zu tokens %8.3f ms, %6.1f GFLOP/s\n",
               experts ? "experts" : "linears", one, bytes / one / 1e6, s.n_prompt, many,
               2 * products * (double)s.n_prompt / many / 1e6);
        mlxr_state_free(state);
        mlxr_executable_free(e);
        mlxr_program_free(p);
    }
    mlxr_device_close(d);
    free(out);
    return 0;
}
