/* RMS_NORM (arXiv 1910.07467) and LAYER_NORM (arXiv 1607.06450). */
#include <math.h>

#include "device/ref/ref.h"

/* For each run of `width` values: dst = a / sqrt(mean(a^2) + eps) * (offset + weight); without a weight, times 1. */
void mlxr_ref_rms_norm(const ref_step *s, const mlxr_op *op)
{
    const mlxr_matrix *w = op->weight == MLXR_NONE ? NULL : &s->p->weights[op->weight].m;
    size_t width = op->u.norm.width, n_runs = s->n * s->p->regs[op->dst].width / width;
    size_t n_weights = w ? w->n_cols : width;

    for (size_t r = 0; r < n_runs; r++) {
        const float *a = s->regs[op->a] + r * width;
        float *dst = s->regs[op->dst] + r * width;
        double sum = 0;
        float inverse;

        for (size_t i = 0; i < width; i++) sum += (double)a[i] * a[i];
        inverse = (float)(1 / sqrt(sum / (double)width + op->u.norm.eps));
        for (size_t i = 0; i < width; i++)
            dst[i] = a[i] * inverse *
                     (w ? op->u.norm.offset + mlxr_load_float(w->data, w->dtype, (r * width + i) % n_weights)
                        : 1);
    }
}

/* For each run of `width` values: dst = (a - mean(a)) / sqrt(var(a) + eps) * weight + bias */
void mlxr_ref_layer_norm(const ref_step *s, const mlxr_op *op)
{
    const mlxr_matrix *w = &s->p->weights[op->weight].m;
    const mlxr_matrix *bias = op->bias == MLXR_NONE ? NULL : &s->p->weights[op->bias].m;
    size_t width = op->u.norm.width, n_runs = s->n * s->p->regs[op->dst].width / width;

    for (size_t r = 0; r < n_runs; r++) {
        const float *a = s->regs[op->a] + r * width;
        float *dst = s->regs[op->dst] + r * width;
        double mean = 0, var = 0, inverse;

        for (size_t i = 0; i < width; i++) mean += a[i];
        mean /= (double)width;
        for (size_t i = 0; i < width; i++) var += (a[i] - mean) * (a[i] - mean);
        inverse = 1 / sqrt(var / (double)width + op->u.norm.eps);
        for (size_t i = 0; i < width; i++) {
            size_t at = (r * width + i) % w->n_cols;
            double v = (a[i] - mean) * inverse * mlxr_load_float(w->data, w->dtype, at);
            dst[i] = (float)(bias ? v + mlxr_load_float(bias->data, bias->dtype, at) : v);
        }
    }
}
