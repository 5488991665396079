/* ACT_MUL, ADD, SCALE: one value at a time. */
#include <math.h>

#include "device/ref/ref.h"

static float activate(mlxr_act act, float x)
{
    switch (act) {
    case MLXR_ACT_SILU: return x / (1 + expf(-x)); /* arXiv 1702.03118 */
    default: break;
    }
    return x;
}

/* dst = act(a) * b */
void mlxr_ref_act_mul(const ref_step *s, const mlxr_op *op)
{
    const float *a = s->regs[op->a], *b = s->regs[op->b];
    size_t n = s->n * s->p->regs[op->dst].width;

    for (size_t i = 0; i < n; i++) s->regs[op->dst][i] = activate(op->u.act.act, a[i]) * b[i];
}

/* dst = a + b */
void mlxr_ref_add(const ref_step *s, const mlxr_op *op)
{
    const float *a = s->regs[op->a], *b = s->regs[op->b];
    size_t n = s->n * s->p->regs[op->dst].width;

    for (size_t i = 0; i < n; i++) s->regs[op->dst][i] = a[i] + b[i];
}

/* dst = factor * a */
void mlxr_ref_scale(const ref_step *s, const mlxr_op *op)
{
    const float *a = s->regs[op->a];
    size_t n = s->n * s->p->regs[op->dst].width;

    for (size_t i = 0; i < n; i++) s->regs[op->dst][i] = op->u.scale.factor * a[i];
}
