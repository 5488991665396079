/* EMBED and LINEAR: the two operations that read matrices. A row is dequantized once for all tokens of the step. */
#include "device/ref/ref.h"

/* dst[t, :] = scale * weight[ids[t], :] */
void mlxr_ref_embed(const ref_step *s, const mlxr_op *op)
{
    const mlxr_matrix *w = &s->p->weights[op->weight].m;

    for (size_t t = 0; t < s->n; t++) {
        float *dst = s->regs[op->dst] + t * w->n_cols;
        mlxr_matrix_row(w, (size_t)s->ids[t], dst);
        for (size_t i = 0; i < w->n_cols; i++) dst[i] *= op->u.embed.scale;
    }
}

/* dst[t, i] = sum over j of weight[i, j] * a[t, j], + bias[i] */
void mlxr_ref_linear(const ref_step *s, const mlxr_op *op)
{
    const mlxr_matrix *w = &s->p->weights[op->weight].m;
    const mlxr_matrix *bias = op->bias == MLXR_NONE ? NULL : &s->p->weights[op->bias].m;
    size_t N = w->n_rows, K = w->n_cols;

    for (size_t i = 0; i < N; i++) {
        const float *row = s->e->row;
        mlxr_matrix_row(w, i, s->e->row);
        for (size_t t = 0; t < s->n; t++) {
            const float *a = s->regs[op->a] + t * K;
            double sum = 0;
            for (size_t j = 0; j < K; j++) sum += (double)row[j] * a[j];
            if (bias) sum += mlxr_load_float(bias->data, bias->dtype, i);
            s->regs[op->dst][t * N + i] = (float)sum;
        }
    }
}
