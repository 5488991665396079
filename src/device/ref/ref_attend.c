/* ATTEND: keys and values go to the cache, then each head of each token looks at the positions it may see. */
#include <math.h>

#include "device/kv.h"
#include "device/ref/ref.h"

/* Keys of one cached position: [Hkv * Dk], the values [Hkv * Dv] of its block after all its keys.
 *
 *     block:  slot 0: K of 32 positions, V of 32 positions; slot 1: ... */
static float *keys_at(const ref_step *s, mlxr_slot_id slot, uint32_t seq, size_t position)
{
    const mlxr_slot *sl = &s->p->slots[slot];
    size_t block = s->tables[seq].blocks[position / MLXR_KV_BLOCK];

    return s->state->blocks + block * s->e->block_floats + s->e->slot_offset[slot] +
           position % MLXR_KV_BLOCK * sl->n_kv_heads * sl->k_head_dim;
}

static float *values_at(const ref_step *s, mlxr_slot_id slot, uint32_t seq, size_t position)
{
    const mlxr_slot *sl = &s->p->slots[slot];
    size_t block = s->tables[seq].blocks[position / MLXR_KV_BLOCK];

    return s->state->blocks + block * s->e->block_floats + s->e->slot_offset[slot] +
           MLXR_KV_BLOCK * sl->n_kv_heads * sl->k_head_dim +
           position % MLXR_KV_BLOCK * sl->n_kv_heads * sl->v_head_dim;
}

/* What the scores of a query at this position are multiplied by. */
static double score_scale(const mlxr_op *op, size_t position)
{
    size_t span = op->u.attend.position_span, n_spans = span ? position / span : 0;

    return op->u.attend.scale * (1 + op->u.attend.position_beta * log(1 + (double)n_spans));
}

/* dst[Dv] = sum over positions of softmax(scale * q K^T) V, for one head at the last of the positions. A sink is one
 * more score, with no value. */
static void attend_head(const ref_step *s, const mlxr_op *op, uint32_t seq, size_t position, size_t i_kv_head,
                        double sink, const float *q, float *dst)
{
    mlxr_slot_id slot = op->u.attend.slot;
    const mlxr_slot *sl = &s->p->slots[slot];
    size_t Dk = sl->k_head_dim, Dv = sl->v_head_dim;
    size_t begin = sl->window && position >= sl->window ? position + 1 - sl->window : 0;
    double scale = score_scale(op, position), cap = op->u.attend.softcap;
    float *scores = s->e->scores;
    double max = sink, total, *sum = s->e->sum;

    for (size_t p = begin; p <= position; p++) {
        const float *k = keys_at(s, slot, seq, p) + i_kv_head * Dk;
        double dot = 0;
        for (size_t i = 0; i < Dk; i++) dot += (double)q[i] * k[i];
        dot *= scale;
        if (cap > 0) dot = cap * tanh(dot / cap);
        scores[p - begin] = (float)dot;
        max = fmax(max, scores[p - begin]);
    }
    total = isinf(sink) ? 0 : exp(sink - max);
    for (size_t i = 0; i < Dv; i++) sum[i] = 0;
    for (size_t p = begin; p <= position; p++) {
        const float *v = values_at(s, slot, seq, p) + i_kv_head * Dv;
        double weight = exp(scores[p - begin] - max);
        total += weight;
        for (size_t i = 0; i < Dv; i++) sum[i] += weight * v[i];
    }
    for (size_t i = 0; i < Dv; i++) dst[i] = (float)(sum[i] / total);
}

/* dst[n_heads, dim] = src as the device keeps it. */
static void round_heads(mlxr_kv_type type, float *dst, const float *src, size_t n_heads, size_t dim)
{
    for (size_t h = 0; h < n_heads; h++, dst += dim, src += dim) {
        float scale = type == MLXR_KV_INT8 ? mlxr_kv_int8_scale(src, dim) : 0;
        float inverse = mlxr_kv_int8_inverse(scale);
        for (size_t i = 0; i < dim; i++) {
            switch (type) {
            case MLXR_KV_F16: dst[i] = mlxr_f16_to_f32(mlxr_kv_to_f16(src[i])); break;
            case MLXR_KV_INT8: dst[i] = (float)mlxr_kv_to_int8(src[i], inverse) * scale; break;
            default: dst[i] = src[i]; break;
            }
        }
    }
}

/* a: q [T, Hq * Dk], b: k [T, Hkv * Dk], c: v [T, Hkv * Dv]; head h of q reads head h / (Hq / Hkv) of k and v.
 * Without b and c an earlier operation has put this batch's keys and values into the slot. */
void mlxr_ref_attend(const ref_step *s, const mlxr_op *op)
{
    const mlxr_slot *sl = &s->p->slots[op->u.attend.slot];
    const mlxr_matrix *sinks = op->weight == MLXR_NONE ? NULL : &s->p->weights[op->weight].m;
    size_t Hq = op->u.attend.n_heads, Hkv = sl->n_kv_heads, Dk = sl->k_head_dim, Dv = sl->v_head_dim;
    mlxr_kv_type kv_type = s->e->base.device->kv_type;

    for (size_t t = 0; t < s->n && op->b != MLXR_NONE; t++) {
        round_heads(kv_type, keys_at(s, op->u.attend.slot, s->seqs[t], s->positions[t]),
                    s->regs[op->b] + t * Hkv * Dk, Hkv, Dk);
        round_heads(kv_type, values_at(s, op->u.attend.slot, s->seqs[t], s->positions[t]),
                    s->regs[op->c] + t * Hkv * Dv, Hkv, Dv);
    }
    for (size_t t = 0; t < s->n; t++)
        for (size_t h = 0; h < Hq; h++)
            attend_head(s, op, s->seqs[t], s->positions[t], h / (Hq / Hkv),
                        sinks ? mlxr_load_float(sinks->data, sinks->dtype, h) : -INFINITY,
                        s->regs[op->a] + (t * Hq + h) * Dk, s->regs[op->dst] + (t * Hq + h) * Dv);
}
