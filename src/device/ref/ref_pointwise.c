/* ACT_MUL, ADD, SCALE, SOFTCAP, SLICE: one value at a time. */
#include <math.h>

#include "device/ref/ref.h"

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

float mlxr_ref_gated(mlxr_act act, float alpha, float limit, float a, float b)
{
    double x = a, y = b;

    switch (act) {
    case MLXR_ACT_NONE: break;
    case MLXR_ACT_SILU: x *= sigmoid(x); break; /* arXiv 1702.03118 */
    case MLXR_ACT_GELU:
        x *= (1 + erf(x * 0.70710678118654752)) / 2;
        break; /* arXiv 1606.08415, as the next */
    case MLXR_ACT_GELU_TANH: x *= (1 + tanh(0.79788456080286536 * (x + 0.044715 * x * x * x))) / 2; break;
    case MLXR_ACT_SIGMOID: x = sigmoid(x); break;
    case MLXR_ACT_SWIGLU_OAI:
        x = fmin(x, limit);
        x *= sigmoid(alpha * x);
        y = fmax(fmin(y, limit), -limit) + 1;
        break;
    }
    return (float)(x * y);
}

/* dst = act(a) * b; a may be one value a token for all of b's, b may be absent. */
void mlxr_ref_act_mul(const ref_step *s, const mlxr_op *op)
{
    const float *a = s->regs[op->a], *b = op->b == MLXR_NONE ? NULL : s->regs[op->b];
    size_t width = s->p->regs[op->dst].width, a_width = s->p->regs[op->a].width;

    for (size_t i = 0; i < s->n * width; i++)
        s->regs[op->dst][i] = mlxr_ref_gated(op->u.act.act, op->u.act.alpha, op->u.act.limit,
                                             a_width == width ? a[i] : a[i / width], b ? b[i] : 1);
}

/* dst = a + b */
void mlxr_ref_add(const ref_step *s, const mlxr_op *op)
{
    const float *a = s->regs[op->a], *b = s->regs[op->b];
    size_t n = s->n * s->p->regs[op->dst].width;

    for (size_t i = 0; i < n; i++) s->regs[op->dst][i] = a[i] + b[i];
}

/* dst = factor * weight[0] * a */
void mlxr_ref_scale(const ref_step *s, const mlxr_op *op)
{
    const float *a = s->regs[op->a];
    size_t n = s->n * s->p->regs[op->dst].width;
    float factor = op->u.scale.factor;

    if (op->weight != MLXR_NONE) {
        const mlxr_matrix *w = &s->p->weights[op->weight].m;
        factor *= mlxr_load_float(w->data, w->dtype, 0);
    }
    for (size_t i = 0; i < n; i++) s->regs[op->dst][i] = factor * a[i];
}

/* dst = cap * tanh(a / cap) */
void mlxr_ref_softcap(const ref_step *s, const mlxr_op *op)
{
    const float *a = s->regs[op->a];
    size_t n = s->n * s->p->regs[op->dst].width;
    double cap = op->u.softcap.cap;

    for (size_t i = 0; i < n; i++) s->regs[op->dst][i] = (float)(cap * tanh(a[i] / cap));
}

/* dst[i] = a[first + (i / run) * step + i % run] */
void mlxr_ref_slice(const ref_step *s, const mlxr_op *op)
{
    size_t width = s->p->regs[op->dst].width, a_width = s->p->regs[op->a].width, run = op->u.slice.run;

    for (size_t t = 0; t < s->n; t++)
        for (size_t i = 0; i < width; i++)
            s->regs[op->dst][t * width + i] =
                s->regs[op->a][t * a_width + op->u.slice.first + i / run * op->u.slice.step + i % run];
}
