/* SHORT_CONV and GATED_DELTA: what a sequence has beside its keys and values moves on token by token.
 *
 * The delta rule with decay: arXiv 2412.06464, in the order of gated_delta_ops of mlx-lm's gated_delta.py. */
#include <math.h>

#include "device/ref/ref.h"

/* The slot's floats of a sequence, in the version that this step writes. */
static float *state_of(const ref_step *s, mlxr_slot_id slot, uint32_t seq, unsigned version)
{
    return s->state->sequences + (s->tables[seq].sequence * (size_t)2 + version) * s->p->n_sequence_floats +
           s->p->slots[slot].offset;
}

/* For each sequence of the batch: the version that this step writes begins as the one before it. */
static void bring_over(const ref_step *s, mlxr_slot_id slot)
{
    size_t n_bytes = s->p->slots[slot].n_floats * sizeof(float);

    for (size_t t = 0; t < s->n; t++) {
        uint32_t seq = s->seqs[t];
        const mlxr_sequence_step *step = &s->steps[seq];
        float *to = state_of(s, slot, seq, step->to);
        if (t > 0 && seq == s->seqs[t - 1]) continue;
        if (step->fresh)
            memset(to, 0, n_bytes);
        else
            memcpy(to, state_of(s, slot, seq, step->from), n_bytes);
    }
}

/* dst[t, c] = act(sum over j < K of weight[c, j] * a[t - (K - 1 - j), c] + bias[c]); of the tokens before this batch
 * the slot holds the last K - 1, the oldest first. */
void mlxr_ref_short_conv(const ref_step *s, const mlxr_op *op)
{
    const mlxr_slot *sl = &s->p->slots[op->u.conv.slot];
    const mlxr_matrix *w = &s->p->weights[op->weight].m;
    const mlxr_matrix *bias = op->bias == MLXR_NONE ? NULL : &s->p->weights[op->bias].m;
    size_t C = sl->n_channels, n_taps = sl->n_taps;

    bring_over(s, op->u.conv.slot);
    for (size_t c = 0; c < C; c++) {
        const float *row = s->e->row;
        mlxr_matrix_row(w, c, s->e->row);
        for (size_t t = 0; t < s->n; t++) {
            float *taps = state_of(s, op->u.conv.slot, s->seqs[t], s->steps[s->seqs[t]].to) + c;
            float x = s->regs[op->a][t * C + c];
            double sum = 0;
            for (size_t j = 0; j < n_taps; j++) sum += (double)row[j] * taps[j * C];
            sum += (double)row[n_taps] * x;
            if (bias) sum += mlxr_load_float(bias->data, bias->dtype, c);
            s->regs[op->dst][t * C + c] = mlxr_ref_gated(op->u.conv.act, 0, 0, (float)sum, 1);
            for (size_t j = 0; j + 1 < n_taps; j++) taps[j * C] = taps[(j + 1) * C];
            taps[(n_taps - 1) * C] = x;
        }
    }
}

static double softplus(double x)
{
    return fmax(x, 0) + log1p(exp(-fabs(x)));
}

/* One head at one token: state [Dv, Dk], q, k [Dk], v, dst [Dv].
 *     state = decay * state;  state += beta * (v - state k) k^T;  dst = state q */
static void delta_head(float *state, size_t Dk, size_t Dv, const float *q, const float *k, const float *v,
                       double decay, double beta, float *dst)
{
    for (size_t i = 0; i < Dv; i++) {
        float *row = state + i * Dk;
        double remembered = 0, delta, sum = 0;

        for (size_t j = 0; j < Dk; j++) remembered += decay * row[j] * k[j];
        delta = (v[i] - remembered) * beta;
        for (size_t j = 0; j < Dk; j++) {
            row[j] = (float)(decay * row[j] + delta * k[j]);
            sum += (double)row[j] * q[j];
        }
        dst[i] = (float)sum;
    }
}

/* a: q [T, Hk * Dk], b: k [T, Hk * Dk], c: v [T, H * Dv], d and e: [T, H]; head h reads head h / (H / Hk) of q and k.
 * decay = exp(-exp(weight[h]) * softplus(d + bias[h])), beta = sigmoid(e). */
void mlxr_ref_gated_delta(const ref_step *s, const mlxr_op *op)
{
    const mlxr_slot *sl = &s->p->slots[op->u.delta.slot];
    const mlxr_matrix *w = &s->p->weights[op->weight].m, *bias = &s->p->weights[op->bias].m;
    size_t H = sl->n_kv_heads, Hk = op->u.delta.n_k_heads, Dk = sl->k_head_dim, Dv = sl->v_head_dim;

    bring_over(s, op->u.delta.slot);
    for (size_t t = 0; t < s->n; t++) {
        float *state = state_of(s, op->u.delta.slot, s->seqs[t], s->steps[s->seqs[t]].to);
        for (size_t h = 0; h < H; h++) {
            size_t at = (t * Hk + h / (H / Hk)) * Dk;
            double rate = exp((double)mlxr_load_float(w->data, w->dtype, h));
            double step = softplus((double)s->regs[op->d][t * H + h] +
                                   mlxr_load_float(bias->data, bias->dtype, h));
            delta_head(state + h * Dv * Dk, Dk, Dv, s->regs[op->a] + at, s->regs[op->b] + at,
                       s->regs[op->c] + (t * H + h) * Dv, exp(-rate * step),
                       1 / (1 + exp(-(double)s->regs[op->e][t * H + h])),
                       s->regs[op->dst] + (t * H + h) * Dv);
        }
    }
}
