/* ROPE (RoFormer, arXiv 2104.09864): pairs of a head's values turn by position * inv_freq. */
#include <math.h>

#include "device/ref/ref.h"
#include "model/rope.h"

/* [n_rot / 2] of one position. */
static const float *frequencies_at(const ref_step *s, const mlxr_op *op, size_t position)
{
    if (!op->u.rope.dynamic_context || position < op->u.rope.dynamic_context) return op->u.rope.inv_freq;
    mlxr_rope_frequencies_at(s->e->row, op->u.rope.n_rot, op->u.rope.dynamic_theta, op->u.rope.dynamic_factor,
                             op->u.rope.dynamic_context, position);
    return s->e->row;
}

void mlxr_ref_rope(const ref_step *s, const mlxr_op *op)
{
    size_t Dh = op->u.rope.head_dim, half = op->u.rope.n_rot / 2, width = op->u.rope.n_heads * Dh;
    bool neighbours = op->u.rope.pairing == MLXR_ROPE_INTERLEAVED;

    for (size_t t = 0; t < s->n; t++) {
        const float *inv_freq = frequencies_at(s, op, s->positions[t]);
        for (size_t h = 0; h < op->u.rope.n_heads; h++) {
            float *x = s->regs[op->a] + t * width + h * Dh;
            for (size_t i = 0; i < half; i++) {
                float angle = (float)s->positions[t] * inv_freq[i];
                float c = cosf(angle) * op->u.rope.scale, d = sinf(angle) * op->u.rope.scale;
                float *first = neighbours ? &x[2 * i] : &x[i];
                float *second = neighbours ? &x[2 * i + 1] : &x[i + half];
                float u = *first, v = *second;
                *first = u * c - v * d;
                *second = u * d + v * c;
            }
        }
    }
}
