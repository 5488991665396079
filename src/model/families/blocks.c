/* blocks: what decoder layers are made of: attention, feed-forward networks, experts, recurrent mixers. */
#include <stdio.h>

#include "model/families/decoder.h"

/* ---- attention ---- */

static const char *or_else(const char *part, const char *fallback)
{
    return part ? part : fallback;
}

/* q and, where the layer has its own, k and v; with `gated` the gate too. */
typedef struct projections {
    mlxr_reg_id q, k, v, gate;
    size_t q_width, kv_width;
} projections;

static void project_q(mlxr_decoder *d, projections *p, mlxr_reg_id x, const mlxr_attention *a)
{
    const char *part = or_else(a->q, "self_attn.q_proj");
    mlxr_reg_id both;

    if (!a->gated) {
        mlxr_decoder_linear(d, p->q, x, a->qkv_bias, part);
        return;
    }
    both = mlxr_decoder_reg(d, "q_gate", 2 * p->q_width);
    p->gate = mlxr_decoder_reg(d, "q_gates", p->q_width);
    mlxr_decoder_linear(d, both, x, a->qkv_bias, part);
    mlxr_decoder_slice(d, p->q, both, 0, a->head_dim, 2 * a->head_dim);
    mlxr_decoder_slice(d, p->gate, both, a->head_dim, a->head_dim, 2 * a->head_dim);
}

static void project(mlxr_decoder *d, projections *p, mlxr_reg_id x, const mlxr_attention *a)
{
    mlxr_reg_id all;

    if (a->qkv) {
        all = mlxr_decoder_reg(d, "qkv", p->q_width + 2 * p->kv_width);
        mlxr_decoder_linear(d, all, x, a->qkv_bias, a->qkv);
        mlxr_decoder_slice(d, p->q, all, 0, p->q_width, 0);
        mlxr_decoder_slice(d, p->k, all, p->q_width, p->kv_width, 0);
        mlxr_decoder_slice(d, p->v, all, p->q_width + p->kv_width, p->kv_width, 0);
        return;
    }
    project_q(d, p, x, a);
    if (a->looks_at) return;
    mlxr_decoder_linear(d, p->k, x, a->qkv_bias, or_else(a->k, "self_attn.k_proj"));
    if (a->k_is_v)
        mlxr_decoder_scale(d, p->v, p->k, 1);
    else
        mlxr_decoder_linear(d, p->v, x, a->qkv_bias, or_else(a->v, "self_attn.v_proj"));
}

static void head_norm(mlxr_decoder *d, mlxr_reg_id r, const char *part, const mlxr_attention *a)
{
    if (!part) return;
    if (a->norms_by_head)
        mlxr_decoder_norm_by_run(d, r, r, a->head_dim, part);
    else
        mlxr_decoder_norm(d, r, r, a->head_dim, part);
}

mlxr_slot_id mlxr_decoder_attention(mlxr_decoder *d, mlxr_reg_id r, mlxr_reg_id x, const mlxr_attention *a)
{
    projections p = {
        .q_width = a->n_heads * a->head_dim, .kv_width = a->n_kv_heads * a->head_dim, .gate = MLXR_NONE};
    mlxr_reg_id out = mlxr_decoder_reg(d, "a", p.q_width);
    mlxr_op op;
    char name[32];

    p.q = mlxr_decoder_reg(d, "q", p.q_width);
    p.k = a->looks_at ? MLXR_NONE : mlxr_decoder_reg(d, "k", p.kv_width);
    p.v = a->looks_at ? MLXR_NONE : mlxr_decoder_reg(d, "v", p.kv_width);
    project(d, &p, x, a);
    head_norm(d, p.q, a->q_norm, a);
    if (a->rope) mlxr_decoder_rotate(d, p.q, a->n_heads, a->head_dim, a->rope);
    if (!a->looks_at) {
        head_norm(d, p.k, a->k_norm, a);
        if (a->v_norm) mlxr_decoder_norm(d, p.v, p.v, a->head_dim, NULL);
        if (a->rope) mlxr_decoder_rotate(d, p.k, a->n_kv_heads, a->head_dim, a->rope);
    }

    op = mlxr_decoder_op_init(d, MLXR_OP_ATTEND, out, p.q);
    op.b = p.k;
    op.c = p.v;
    op.u.attend.n_heads = a->n_heads;
    op.u.attend.scale = (float)(a->scale != 0 ? a->scale : 1 / sqrt((double)a->head_dim));
    op.u.attend.softcap = (float)a->softcap;
    op.u.attend.position_beta = (float)a->position_beta;
    op.u.attend.position_span = a->position_span;
    if (a->sinks) op.weight = mlxr_decoder_vector(d, a->n_heads, "", a->sinks);
    snprintf(name, sizeof name, "kv.%d", (int)d->layer);
    op.u.attend.slot = a->looks_at ? a->slot
                       : mlxr_decoder_failed(d)
                           ? MLXR_NONE
                           : mlxr_build_slot(d->b, name, a->n_kv_heads, a->head_dim, a->head_dim, a->window);
    mlxr_decoder_op(d, op);
    if (a->gated) mlxr_decoder_act_mul(d, out, MLXR_ACT_SIGMOID, p.gate, out);
    mlxr_decoder_linear(d, r, out, a->o_bias, or_else(a->o, "self_attn.o_proj"));
    return op.u.attend.slot;
}

/* ---- feed-forward ---- */

void mlxr_decoder_mlp(mlxr_decoder *d, mlxr_reg_id r, mlxr_reg_id x, const mlxr_mlp *m)
{
    mlxr_reg_id up = mlxr_decoder_reg(d, "up", m->width), gate;

    if (m->plain) {
        mlxr_decoder_linear(d, up, x, m->bias, or_else(m->up, "mlp.up_proj"));
        mlxr_decoder_act_mul(d, up, m->act, up, MLXR_NONE);
        mlxr_decoder_linear(d, r, up, m->bias, or_else(m->down, "mlp.down_proj"));
        return;
    }
    gate = mlxr_decoder_reg(d, "gate", m->width);
    if (m->gate_up) {
        mlxr_reg_id both = mlxr_decoder_reg(d, "gate_up", 2 * m->width);
        mlxr_decoder_linear(d, both, x, m->bias, m->gate_up);
        mlxr_decoder_slice(d, gate, both, 0, m->width, 0);
        mlxr_decoder_slice(d, up, both, m->width, m->width, 0);
    } else {
        mlxr_decoder_linear(d, gate, x, m->bias, or_else(m->gate, "mlp.gate_proj"));
        mlxr_decoder_linear(d, up, x, m->bias, or_else(m->up, "mlp.up_proj"));
    }
    mlxr_decoder_act_mul(d, gate, m->act, gate, up);
    mlxr_decoder_linear(d, r, gate, m->bias, or_else(m->down, "mlp.down_proj"));
}

/* ---- experts ---- */

mlxr_reg_id mlxr_decoder_route(mlxr_decoder *d, mlxr_reg_id x, const mlxr_moe *m)
{
    mlxr_reg_id scores = mlxr_decoder_reg(d, "scores", m->n_experts);
    mlxr_reg_id route = mlxr_decoder_reg(d, "route", 2 * m->k);
    mlxr_op op = mlxr_decoder_op_init(d, MLXR_OP_ROUTE, route, scores);

    mlxr_decoder_linear(d, scores, x, m->gate_bias, m->gate);
    op.u.route.router = m->router;
    op.u.route.k = m->k;
    op.u.route.normalize = m->normalize;
    if (m->expert_scale) op.weight = mlxr_decoder_vector(d, m->n_experts, "", m->expert_scale);
    mlxr_decoder_op(d, op);
    return route;
}

/* Module names of one layer's experts, from its number on. */
static const char *expert_module(mlxr_decoder *d, const char *group, const char *module)
{
    const char *name = mlxr_arena_printf(&d->arena, "%slayers.%d.%s.%s", d->model, (int)d->layer, group,
                                         module);
    if (!name) mlxr_decoder_fail(d, MLXR_E_NOMEM, "out of memory");
    return name;
}

static mlxr_weight_id stack(mlxr_decoder *d, size_t n_experts, size_t n_rows, size_t n_cols,
                            const char *suffix, const char *group, const char *module)
{
    const char *name = mlxr_decoder_failed(d) ? NULL : expert_module(d, group, module);
    return name ? mlxr_build_stack(d->b, n_experts, n_rows, n_cols, suffix, "%s", name) : MLXR_NONE;
}

static mlxr_weight_id bias_rows(mlxr_decoder *d, size_t n_experts, size_t n, const char *suffix,
                                const char *group, const char *module)
{
    const char *name = mlxr_decoder_failed(d) ? NULL : expert_module(d, group, module);
    return name ? mlxr_build_matrix_as(d->b, n_experts, n, suffix, "%s", name) : MLXR_NONE;
}

static bool has(mlxr_decoder *d, const char *group, const char *module, const char *suffix)
{
    return mlxr_decoder_has(d, "%slayers.%d.%s.%s%s", d->model, (int)d->layer, group, module, suffix);
}

static void fused_experts(mlxr_decoder *d, mlxr_op *op, const mlxr_moe *m, size_t D, bool blocks)
{
    const char *suffix = blocks ? "_blocks" : "";
    size_t E = m->n_experts, F = m->width;

    op->u.experts.gate_up = m->fused_interleaved ? MLXR_GATE_UP_INTERLEAVED : MLXR_GATE_UP_HALVES;
    op->u.experts.gate = stack(d, E, 2 * F, D, suffix, m->fused, "gate_up_proj");
    op->u.experts.down = stack(d, E, D, F, suffix, m->fused, "down_proj");
    if (!m->bias) return;
    op->u.experts.gate_bias = bias_rows(d, E, 2 * F, "_bias", m->fused, "gate_up_proj");
    op->u.experts.down_bias = bias_rows(d, E, D, "_bias", m->fused, "down_proj");
}

static void separate_experts(mlxr_decoder *d, mlxr_op *op, const mlxr_moe *m, size_t D, const char *group,
                             const char *const names[3])
{
    size_t E = m->n_experts, F = m->width;

    op->u.experts.gate_up = MLXR_GATE_UP_APART;
    op->u.experts.gate = stack(d, E, F, D, ".weight", group, names[0]);
    op->u.experts.up = stack(d, E, F, D, ".weight", group, names[1]);
    op->u.experts.down = stack(d, E, D, F, ".weight", group, names[2]);
    if (!m->bias) return;
    op->u.experts.gate_bias = bias_rows(d, E, F, ".bias", group, names[0]);
    op->u.experts.up_bias = bias_rows(d, E, F, ".bias", group, names[1]);
    op->u.experts.down_bias = bias_rows(d, E, D, ".bias", group, names[2]);
}

void mlxr_decoder_experts(mlxr_decoder *d, mlxr_reg_id r, mlxr_reg_id x, mlxr_reg_id route, const mlxr_moe *m)
{
    static const char *const stack_names[] = {"gate_proj", "up_proj", "down_proj"};
    mlxr_op op = mlxr_decoder_op_init(d, MLXR_OP_EXPERTS, r, x);
    size_t D = mlxr_decoder_width(d, x);
    bool stacked = d->config->mlx_layout || has(d, m->stacks, "gate_proj", ".weight");

    op.b = route;
    op.u.experts.k = m->k;
    op.u.experts.width = m->width;
    op.u.experts.act = m->act;
    op.u.experts.alpha = m->alpha;
    op.u.experts.limit = m->limit;
    if (!stacked && m->fused &&
        (has(d, m->fused, "gate_up_proj", "") || has(d, m->fused, "gate_up_proj", "_blocks")))
        fused_experts(d, &op, m, D, has(d, m->fused, "gate_up_proj", "_blocks"));
    else if (!stacked && m->each && d->config->checkpoint)
        separate_experts(d, &op, m, D, m->each, m->each_names ? m->each_names : stack_names);
    else
        separate_experts(d, &op, m, D, m->stacks, stack_names);
    mlxr_decoder_op(d, op);
}

void mlxr_decoder_moe(mlxr_decoder *d, mlxr_reg_id r, mlxr_reg_id x, const mlxr_moe *m)
{
    mlxr_reg_id shared = mlxr_decoder_reg(d, "shared", d->hidden_size),
                gate = mlxr_decoder_reg(d, "shared_gate", 1);

    mlxr_decoder_experts(d, r, x, mlxr_decoder_route(d, x, m), m);
    if (!m->shared) return;
    mlxr_decoder_mlp(d, shared, x, m->shared);
    mlxr_decoder_linear(d, gate, x, false, m->shared_gate);
    mlxr_decoder_act_mul(d, shared, MLXR_ACT_SIGMOID, gate, shared);
    mlxr_decoder_add(d, r, r, shared);
}

/* ---- recurrent mixers ---- */

/* A module under a mixer's own. */
static const char *under(mlxr_decoder *d, const char *part, const char *module)
{
    const char *name = mlxr_arena_printf(&d->arena, "%s.%s", part, module);

    if (name) return name;
    mlxr_decoder_fail(d, MLXR_E_NOMEM, "out of memory");
    return module;
}

static void short_conv(mlxr_decoder *d, mlxr_reg_id dst, mlxr_reg_id a, size_t kernel, mlxr_act act,
                       bool bias, const char *part)
{
    mlxr_op op = mlxr_decoder_op_init(d, MLXR_OP_SHORT_CONV, dst, a);
    size_t n_channels = mlxr_decoder_width(d, a);
    char name[32];

    snprintf(name, sizeof name, "conv.%d", (int)d->layer);
    op.weight = mlxr_decoder_matrix(d, n_channels, kernel, part);
    if (bias) op.bias = mlxr_decoder_vector(d, n_channels, ".bias", part);
    if (!mlxr_decoder_failed(d)) op.u.conv.slot = mlxr_build_conv_slot(d->b, name, n_channels, kernel - 1);
    op.u.conv.act = act;
    mlxr_decoder_op(d, op);
}

/* x / |x| * factor for each head, as mlx-lm's normalize_qk takes it: eps counts on the sum of squares. */
static void l2_norm(mlxr_decoder *d, mlxr_reg_id x, size_t head_dim, double factor)
{
    mlxr_op op = mlxr_decoder_op_init(d, MLXR_OP_RMS_NORM, x, x);

    op.u.norm.width = head_dim;
    op.u.norm.eps = (float)(1e-6 / (double)head_dim);
    mlxr_decoder_op(d, op);
    mlxr_decoder_scale(d, x, x, factor);
}

void mlxr_decoder_delta_net(mlxr_decoder *d, mlxr_reg_id r, mlxr_reg_id x, const mlxr_delta_net *m)
{
    size_t k_width = m->n_k_heads * m->k_head_dim, v_width = m->n_v_heads * m->v_head_dim;
    mlxr_reg_id in = mlxr_decoder_reg(d, "qkv_in", 2 * k_width + v_width);
    mlxr_reg_id qkv = mlxr_decoder_reg(d, "qkv", 2 * k_width + v_width);
    mlxr_reg_id q = mlxr_decoder_reg(d, "q", k_width), k = mlxr_decoder_reg(d, "k", k_width);
    mlxr_reg_id v = mlxr_decoder_reg(d, "v", v_width), z = mlxr_decoder_reg(d, "z", v_width);
    mlxr_reg_id a = mlxr_decoder_reg(d, "decay", m->n_v_heads), b = mlxr_decoder_reg(d, "beta", m->n_v_heads);
    mlxr_reg_id out = mlxr_decoder_reg(d, "a", v_width);
    double inverse = 1 / sqrt((double)m->k_head_dim);
    mlxr_op op;
    char name[32];

    mlxr_decoder_linear(d, in, x, false, under(d, m->part, "in_proj_qkv"));
    mlxr_decoder_linear(d, z, x, false, under(d, m->part, "in_proj_z"));
    mlxr_decoder_linear(d, b, x, false, under(d, m->part, "in_proj_b"));
    mlxr_decoder_linear(d, a, x, false, under(d, m->part, "in_proj_a"));
    short_conv(d, qkv, in, m->kernel, MLXR_ACT_SILU, false, under(d, m->part, "conv1d"));
    mlxr_decoder_slice(d, q, qkv, 0, k_width, 0);
    mlxr_decoder_slice(d, k, qkv, k_width, k_width, 0);
    mlxr_decoder_slice(d, v, qkv, 2 * k_width, v_width, 0);
    l2_norm(d, q, m->k_head_dim, inverse * inverse); /* with the 1 / sqrt(Dk) of the read-out */
    l2_norm(d, k, m->k_head_dim, inverse);

    op = mlxr_decoder_op_init(d, MLXR_OP_GATED_DELTA, out, q);
    op.b = k;
    op.c = v;
    op.d = a;
    op.e = b;
    op.weight = mlxr_decoder_vector(d, m->n_v_heads, "", under(d, m->part, "A_log"));
    op.bias = mlxr_decoder_vector(d, m->n_v_heads, "", under(d, m->part, "dt_bias"));
    snprintf(name, sizeof name, "delta.%d", (int)d->layer);
    if (!mlxr_decoder_failed(d))
        op.u.delta.slot = mlxr_build_delta_slot(d->b, name, m->n_v_heads, m->k_head_dim, m->v_head_dim);
    op.u.delta.n_k_heads = m->n_k_heads;
    mlxr_decoder_op(d, op);

    op = mlxr_decoder_op_init(d, MLXR_OP_RMS_NORM, out, out); /* its weight is whole where others are w - 1 */
    op.weight = mlxr_decoder_vector(d, m->v_head_dim, ".weight", under(d, m->part, "norm"));
    op.u.norm.width = m->v_head_dim;
    op.u.norm.eps = d->eps;
    mlxr_decoder_op(d, op);
    mlxr_decoder_act_mul(d, out, MLXR_ACT_SILU, z, out);
    mlxr_decoder_linear(d, r, out, false, under(d, m->part, "out_proj"));
}

void mlxr_decoder_conv_mixer(mlxr_decoder *d, mlxr_reg_id r, mlxr_reg_id x, const mlxr_conv_mixer *m)
{
    size_t D = d->hidden_size;
    mlxr_reg_id all = mlxr_decoder_reg(d, "conv_in", 3 * D), b = mlxr_decoder_reg(d, "conv_b", D);
    mlxr_reg_id c = mlxr_decoder_reg(d, "conv_c", D), in = mlxr_decoder_reg(d, "conv_x", D);
    mlxr_reg_id out = mlxr_decoder_reg(d, "conv_out", D);

    mlxr_decoder_linear(d, all, x, m->bias, under(d, m->part, "in_proj"));
    mlxr_decoder_slice(d, b, all, 0, D, 0);
    mlxr_decoder_slice(d, c, all, D, D, 0);
    mlxr_decoder_slice(d, in, all, 2 * D, D, 0);
    mlxr_decoder_act_mul(d, in, MLXR_ACT_NONE, b, in);
    short_conv(d, out, in, m->kernel, MLXR_ACT_NONE, m->bias, under(d, m->part, "conv"));
    mlxr_decoder_act_mul(d, out, MLXR_ACT_NONE, c, out);
    mlxr_decoder_linear(d, r, out, m->bias, under(d, m->part, "out_proj"));
}

/* ---- a layer ---- */

static void add_residual(mlxr_decoder *d, mlxr_reg_id h, mlxr_reg_id r, const char *norm, const mlxr_layer *l)
{
    if (norm) mlxr_decoder_norm(d, r, r, 0, norm);
    if (l->residual_multiplier != 0) mlxr_decoder_scale(d, r, r, l->residual_multiplier);
    mlxr_decoder_add(d, h, h, r);
}

mlxr_slot_id mlxr_decoder_layer(mlxr_decoder *d, mlxr_reg_id h, const mlxr_layer *l)
{
    mlxr_reg_id x = mlxr_decoder_reg(d, "x", d->hidden_size), r = mlxr_decoder_reg(d, "r", d->hidden_size);
    mlxr_slot_id slot = MLXR_NONE;

    mlxr_decoder_norm(d, x, h, 0, or_else(l->mixer_norm, "input_layernorm"));
    if (l->attention)
        slot = mlxr_decoder_attention(d, r, x, l->attention);
    else if (l->delta_net)
        mlxr_decoder_delta_net(d, r, x, l->delta_net);
    else
        mlxr_decoder_conv_mixer(d, r, x, l->conv_mixer);
    add_residual(d, h, r, l->post_mixer_norm, l);

    if (!l->parallel) mlxr_decoder_norm(d, x, h, 0, or_else(l->ffn_norm, "post_attention_layernorm"));
    if (l->moe)
        mlxr_decoder_moe(d, r, x, l->moe);
    else
        mlxr_decoder_mlp(d, r, x, l->mlp);
    add_residual(d, h, r, l->post_ffn_norm, l);
    return slot;
}
