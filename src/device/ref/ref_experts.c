/* ROUTE and EXPERTS: a mixture of experts (arXiv 1701.06538), one token after the other. Only the experts that a
 * token's list names are read for it. */
#include <math.h>

#include "device/ref/ref.h"

/* ---- ROUTE ---- */

/* Whether a goes before b; NaN goes behind all numbers, so that there is an order whatever the scores are. */
static bool better(float a, float b)
{
    return a > b || (isnan(b) && !isnan(a));
}

/* The k best of scores [E], the best first, as numbers. */
static void choose(float *best, size_t k, const float *scores, size_t n_experts)
{
    for (size_t j = 0; j < k; j++) {
        size_t at = n_experts;
        for (size_t i = 0; i < n_experts; i++) {
            bool taken = false;
            for (size_t l = 0; l < j; l++) taken = taken || (size_t)best[l] == i;
            if (!taken && (at == n_experts || better(scores[i], scores[at]))) at = i;
        }
        best[j] = (float)at;
    }
}

/* weights[j] = exp(scores[best[j]]) / sum, the sum over the k best or over all */
static void weigh(float *weights, const float *best, size_t k, const float *scores, size_t n_experts,
                  bool over_best)
{
    double max = scores[(size_t)best[0]], sum = 0;

    if (over_best) {
        for (size_t j = 0; j < k; j++) sum += exp(scores[(size_t)best[j]] - max);
    } else {
        for (size_t i = 0; i < n_experts; i++) sum += exp(scores[i] - max);
    }
    for (size_t j = 0; j < k; j++) weights[j] = (float)(exp(scores[(size_t)best[j]] - max) / sum);
}

/* dst[t, 2 k]: numbers, then weights. A softmax over all whose k best are divided by their sum is the softmax over
 * those k. */
void mlxr_ref_route(const ref_step *s, const mlxr_op *op)
{
    const mlxr_matrix *w = op->weight == MLXR_NONE ? NULL : &s->p->weights[op->weight].m;
    size_t k = op->u.route.k, n_experts = s->p->regs[op->a].width;
    bool over_best = op->u.route.router == MLXR_ROUTER_TOPK_SOFTMAX || op->u.route.normalize;

    for (size_t t = 0; t < s->n; t++) {
        const float *scores = s->regs[op->a] + t * n_experts;
        float *best = s->regs[op->dst] + t * 2 * k, *weights = best + k;
        choose(best, k, scores, n_experts);
        weigh(weights, best, k, scores, n_experts, over_best);
        for (size_t j = 0; j < k; j++) {
            weights[j] *= op->u.route.scale;
            if (w) weights[j] *= mlxr_load_float(w->data, w->dtype, (size_t)best[j]);
        }
    }
}

/* ---- EXPERTS ---- */

/* An expert's number, which only a ROUTE writes: but nothing outside the stack is read, whatever is there. */
static size_t expert_of(float number, size_t n_experts)
{
    return number >= 0 && number < (float)n_experts ? (size_t)number : 0;
}

/* Row `row` of expert e times x, + bias[e, row]. */
static double dot(const ref_step *s, mlxr_weight_id stack, mlxr_weight_id bias, size_t e, size_t row,
                  const float *x)
{
    const mlxr_matrix *m = &s->p->weights[stack].experts[e];
    double sum = 0;

    mlxr_matrix_row(m, row, s->e->row);
    for (size_t i = 0; i < m->n_cols; i++) sum += (double)s->e->row[i] * x[i];
    if (bias != MLXR_NONE) {
        const mlxr_matrix *b = &s->p->weights[bias].m;
        sum += mlxr_load_float((const char *)b->data + e * b->row_bytes, b->dtype, row);
    }
    return sum;
}

/* hidden[F] of expert e */
static void gate_and_up(const ref_step *s, const mlxr_op *op, size_t e, const float *x, float *hidden)
{
    bool apart = op->u.experts.gate_up == MLXR_GATE_UP_APART;
    mlxr_weight_id gate = op->u.experts.gate, gate_bias = op->u.experts.gate_bias;
    mlxr_weight_id up = apart ? op->u.experts.up : gate;
    mlxr_weight_id up_bias = apart ? op->u.experts.up_bias : gate_bias;
    size_t F = op->u.experts.width;

    for (size_t i = 0; i < F; i++) {
        size_t gate_row = i, up_row = i;
        float g, u;
        if (op->u.experts.gate_up == MLXR_GATE_UP_HALVES) up_row = F + i;
        if (op->u.experts.gate_up == MLXR_GATE_UP_INTERLEAVED) gate_row = 2 * i, up_row = 2 * i + 1;
        g = (float)dot(s, gate, gate_bias, e, gate_row, x);
        u = (float)dot(s, up, up_bias, e, up_row, x);
        hidden[i] = mlxr_ref_gated(op->u.experts.act, op->u.experts.alpha, op->u.experts.limit, g, u);
    }
}

/* dst[t, i] = sum over j < k of weight_j * (down_e hidden_j)[i], e the j-th expert of the token's list */
void mlxr_ref_experts(const ref_step *s, const mlxr_op *op)
{
    size_t k = op->u.experts.k, F = op->u.experts.width,
           n_experts = s->p->weights[op->u.experts.gate].n_experts;
    size_t a_width = s->p->regs[op->a].width, D = s->p->regs[op->dst].width;

    for (size_t t = 0; t < s->n; t++) {
        const float *x = s->regs[op->a] + t * a_width;
        const float *numbers = s->regs[op->b] + t * 2 * k, *weights = numbers + k;
        float *dst = s->regs[op->dst] + t * D;
        for (size_t j = 0; j < k; j++) {
            gate_and_up(s, op, expert_of(numbers[j], n_experts), x, s->e->hidden + j * F);
        }
        for (size_t i = 0; i < D; i++) {
            double sum = 0;
            for (size_t j = 0; j < k; j++) {
                sum += weights[j] * dot(s, op->u.experts.down, op->u.experts.down_bias,
                                        expert_of(numbers[j], n_experts), i, s->e->hidden + j * F);
            }
            dst[i] = (float)sum;
        }
    }
}

mlxr_status mlxr_ref_prepare_experts(ref_executable *e, const mlxr_op *op, size_t i_op, mlxr_error *err)
{
    const mlxr_program *p = e->base.program;
    mlxr_weight_id weights[MLXR_OP_MAX_WEIGHTS];
    size_t n = mlxr_op_weights(op, weights), n_hidden;

    for (size_t i = 0; i < n; i++) {
        const mlxr_weight *w = &p->weights[weights[i]];
        size_t other = mlxr_stack_unlike(w);
        if (w->n_experts == 0 && w->m.quant.mode != MLXR_QUANT_NONE)
            return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                             "device ref: operation %zu (EXPERTS, layer %d): %s%s: a bias "
                             "that is quantized",
                             i_op, (int)op->i_layer, w->name, w->suffix);
        if (other < w->n_experts)
            return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                             "device ref: operation %zu (EXPERTS, layer %d): %s%s: expert "
                             "%zu is not stored as expert 0 is",
                             i_op, (int)op->i_layer, w->name, w->suffix, other);
    }
    if (!mlxr_mul_size(&n_hidden, op->u.experts.k, op->u.experts.width))
        return mlxr_fail_nomem(err, "device ref");
    if (n_hidden > e->n_hidden) e->n_hidden = n_hidden;
    return MLXR_OK;
}
