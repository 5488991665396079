/* Rows of weights as they are written: read in the old layout, dequantized, merged with an adapter's change, rounded, quantized.
 *
 * Rounding is MLX's, which works in the type of the array throughout: mx.dequantize (affine_dequantize in mlx/ops.cpp) rounds the
 * product and the sum to the type of the scales, and the changes are added in the type of the weight as fuse in mlx-lm's
 * tuner/lora.py and dora.py does. A sum of two halves in float32 is exact enough to be rounded once more. */
#include <math.h>
#include <stdlib.h>

#include "convert/plan.h"

/* ---- rounding ---- */

/* f rounded to a float type and widened again. */
static inline float rounded(float f, mlxr_dtype dtype)
{
    switch (dtype) {
    case MLXR_F16: return mlxr_f16_to_f32(mlxr_f32_to_f16(f));
    case MLXR_BF16: return mlxr_bf16_to_f32(mlxr_f32_to_bf16(f));
    default: return f;
    }
}

static void round_values(float *w, size_t n, mlxr_dtype dtype)
{
    if (dtype == MLXR_F32) return;
    for (size_t i = 0; i < n; i++) w[i] = rounded(w[i], dtype);
}

static void load_values(float *out, const void *p, mlxr_dtype dtype, size_t n)
{
    const uint8_t *b = p;
    uint16_t h;

    switch (dtype) {
    case MLXR_F16:
        for (size_t i = 0; i < n; i++) {
            memcpy(&h, b + 2 * i, sizeof h);
            out[i] = mlxr_f16_to_f32(h);
        }
        break;
    case MLXR_BF16:
        for (size_t i = 0; i < n; i++) {
            memcpy(&h, b + 2 * i, sizeof h);
            out[i] = mlxr_bf16_to_f32(h);
        }
        break;
    default: memcpy(out, p, n * sizeof *out); break;
    }
}

static void store_values(void *p, mlxr_dtype dtype, const float *w, size_t n)
{
    if (dtype == MLXR_F32)
        memcpy(p, w, n * sizeof *w);
    else
        for (size_t i = 0; i < n; i++) mlxr_store_float(p, dtype, i, w[i]);
}

/* n values of one type as those of another; plain bytes where the types agree. */
static void convert_values(void *to, mlxr_dtype to_dtype, const void *from, mlxr_dtype from_dtype, size_t n)
{
    if (to_dtype == from_dtype)
        memcpy(to, from, n * (mlxr_dtype_bits(to_dtype) / 8));
    else
        for (size_t i = 0; i < n; i++)
            mlxr_store_float(to, to_dtype, i, mlxr_load_float(from, from_dtype, i));
}

/* ---- reading ---- */

/* Row i of an affine matrix, computed in `dtype`. */
static void affine_row(const mlxr_matrix *m, size_t i, mlxr_dtype dtype, float *out)
{
    const size_t group_size = m->quant.group_size, n_groups = m->n_cols / group_size;
    const unsigned bits = m->quant.bits;
    const uint64_t mask = ((uint64_t)1 << bits) - 1;
    const uint8_t *p = (const uint8_t *)m->data + i * m->row_bytes;

    for (size_t g = 0; g < n_groups; g++) {
        const float scale = rounded(mlxr_load_float(m->scales, m->dtype, i * n_groups + g), dtype);
        const float bias = rounded(mlxr_load_float(m->biases, m->dtype, i * n_groups + g), dtype);
        for (size_t j = 0; j < group_size; j += 8) {
            uint64_t run = 0;
            memcpy(&run, p, bits);
            p += bits;
            for (unsigned k = 0; k < 8; k++)
                *out++ = rounded(rounded(scale * (float)(run >> (k * bits) & mask), dtype) + bias, dtype);
        }
    }
}

static const mlxr_matrix *matrix_of(const mlxr_target *t, size_t i, size_t *row)
{
    *row = t->first_row + i % t->w->n_rows * t->row_step;
    return t->from->n_experts ? &t->from->experts[i / t->w->n_rows] : &t->from->m;
}

/* Row i in the target's type; scratch holds a row of the old layout. */
static void read_row(const mlxr_target *t, size_t i, float *w, float *scratch)
{
    const size_t n = t->w->n_cols;
    const bool gathers = t->col_step != 1 || t->from->n_cols != n;
    size_t row;
    const mlxr_matrix *m = matrix_of(t, i, &row);
    float *read = gathers ? scratch : w;

    if (t->whole) {
        load_values(w, (const uint8_t *)t->whole->data + i * n * (mlxr_dtype_bits(t->whole->dtype) / 8),
                    t->whole->dtype, n);
        round_values(w, n, t->dtype);
        return;
    }
    if (m->quant.mode == MLXR_QUANT_AFFINE)
        affine_row(m, row, t->dtype, read);
    else if (m->quant.mode != MLXR_QUANT_NONE)
        mlxr_matrix_row(m, row, read);
    else
        load_values(read, (const uint8_t *)m->data + row * m->row_bytes, m->dtype, m->n_cols);
    if (gathers)
        for (size_t j = 0; j < n; j++) w[j] = read[t->first_col + j * t->col_step];
    if (t->add != 0)
        for (size_t j = 0; j < n; j++) w[j] = rounded(w[j] + t->add, m->dtype);
    round_values(w, n, t->dtype);
}

/* ---- merging ---- */

static mlxr_status merge_part(struct mlxr_merge_part *p, const mlxr_target *t, const mlxr_low_rank *c,
                              mlxr_error *err)
{
    const size_t n_rows = t->w->n_rows, n_cols = t->w->n_cols, rank = c->rank;

    p->left = mlxr_malloc_array(n_rows, rank * sizeof *p->left);
    p->right = mlxr_malloc_array(n_cols, rank * sizeof *p->right);
    p->magnitude = c->magnitude ? mlxr_malloc_array(n_rows, sizeof *p->magnitude) : NULL;
    if (!p->left || !p->right || (c->magnitude && !p->magnitude))
        return mlxr_fail_nomem(err, "convert: adapter");
    for (size_t i = 0; i < n_rows; i++) {
        for (size_t k = 0; k < rank; k++)
            p->left[i * rank + k] = rounded(
                c->scale * mlxr_load_float(c->left.tensor->data, c->left.tensor->dtype,
                                           c->left.first + i * c->left.step + k * c->left.rank_step),
                c->rounding);
        if (c->magnitude) p->magnitude[i] = mlxr_load_float(c->magnitude->data, c->magnitude->dtype, i);
    }
    for (size_t k = 0; k < rank; k++)
        for (size_t j = 0; j < n_cols; j++)
            p->right[k * n_cols + j] = mlxr_load_float(c->right.tensor->data, c->right.tensor->dtype,
                                                       c->right.first + j * c->right.step +
                                                           k * c->right.rank_step);
    return MLXR_OK;
}

mlxr_status mlxr_merge_init(mlxr_merge *m, const mlxr_target *t, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;

    *m = (mlxr_merge){0};
    if (!t->low_rank) return MLXR_OK;
    m->n = t->w->n_experts ? t->w->n_experts : 1;
    m->parts = mlxr_calloc_array(m->n, sizeof *m->parts);
    if (!m->parts) return mlxr_fail_nomem(err, "convert: adapter");
    for (size_t i = 0; i < m->n && st == MLXR_OK; i++)
        if (t->low_rank[i].rank) st = merge_part(&m->parts[i], t, &t->low_rank[i], err);
    return st;
}

void mlxr_merge_clear(mlxr_merge *m)
{
    for (size_t i = 0; m->parts && i < m->n; i++) {
        free(m->parts[i].left);
        free(m->parts[i].right);
        free(m->parts[i].magnitude);
    }
    free(m->parts);
    *m = (mlxr_merge){0};
}

static void merge_row(const mlxr_target *t, const mlxr_merge *merge, size_t i, float *w, float *delta)
{
    const size_t n = t->w->n_cols, part = i / t->w->n_rows, row = i % t->w->n_rows;
    const mlxr_low_rank *c = &t->low_rank[part];
    const struct mlxr_merge_part *p = &merge->parts[part];
    double sum = 0;
    float factor;

    if (!c->rank) return;
    memset(delta, 0, n * sizeof *delta);
    for (size_t k = 0; k < c->rank; k++) {
        const float f = p->left[row * c->rank + k], *right = p->right + k * n;
        for (size_t j = 0; j < n; j++) delta[j] += f * right[j];
    }
    for (size_t j = 0; j < n; j++)
        w[j] = rounded(w[j] + rounded(rounded(delta[j], c->rounding), t->dtype), t->dtype);
    if (!p->magnitude) return;
    for (size_t j = 0; j < n; j++) sum += (double)w[j] * (double)w[j];
    if (sum == 0) return; /* of any length it is zeros */
    factor = (float)((double)p->magnitude[row] / sqrt(sum));
    for (size_t j = 0; j < n; j++) w[j] = rounded(factor * w[j], t->dtype);
}

/* ---- writing ---- */

size_t mlxr_target_row_bytes(const mlxr_target *t)
{
    return t->w->n_cols * (t->quant.mode == MLXR_QUANT_NONE ? mlxr_dtype_bits(t->dtype) : t->quant.bits) / 8;
}

size_t mlxr_target_scale_bytes(const mlxr_target *t)
{
    if (t->quant.mode == MLXR_QUANT_NONE) return 0;
    return t->w->n_cols / t->quant.group_size *
           (mlxr_quant_is_fp(t->quant.mode) ? 1 : mlxr_dtype_bits(t->dtype) / 8);
}

bool mlxr_target_has_biases(const mlxr_target *t)
{
    return t->quant.mode == MLXR_QUANT_AFFINE;
}

size_t mlxr_target_scratch(const mlxr_target *t)
{
    return t->w->n_cols + (t->from->n_cols > t->w->n_cols ? t->from->n_cols : t->w->n_cols);
}

/* Whether a row's bytes are those it has, but for the type of plain values, scales and biases. */
static bool only_copies(const mlxr_target *t)
{
    const mlxr_quant a = t->quant, b = t->from->m.quant;

    return !t->whole && !t->low_rank && t->add == 0 && t->col_step == 1 && t->from->n_cols == t->w->n_cols &&
           a.mode == b.mode && a.bits == b.bits && a.group_size == b.group_size;
}

static void copy_row(const mlxr_target *t, size_t i, void *values, void *scales, void *biases)
{
    size_t row, n_groups;
    const mlxr_matrix *m = matrix_of(t, i, &row);
    const uint8_t *data = (const uint8_t *)m->data + row * m->row_bytes;

    if (m->quant.mode == MLXR_QUANT_NONE) {
        convert_values(values, t->dtype, data, m->dtype, m->n_cols);
        return;
    }
    memcpy(values, data, m->row_bytes);
    n_groups = m->n_cols / m->quant.group_size;
    if (mlxr_quant_is_fp(m->quant.mode)) {
        memcpy(scales, (const uint8_t *)m->scales + row * n_groups, n_groups);
        return;
    }
    row *= n_groups * (mlxr_dtype_bits(m->dtype) / 8);
    convert_values(scales, t->dtype, (const uint8_t *)m->scales + row, m->dtype, n_groups);
    convert_values(biases, t->dtype, (const uint8_t *)m->biases + row, m->dtype, n_groups);
}

void mlxr_target_row(const mlxr_target *t, const mlxr_merge *merge, size_t i, void *values, void *scales,
                     void *biases, float *scratch)
{
    const size_t n = t->w->n_cols;
    float *w = scratch, *other = scratch + n;

    if (only_copies(t)) {
        copy_row(t, i, values, scales, biases);
        return;
    }
    read_row(t, i, w, other);
    if (t->low_rank) merge_row(t, merge, i, w, other);
    if (t->quant.mode == MLXR_QUANT_NONE)
        store_values(values, t->dtype, w, n);
    else if (mlxr_quant_is_fp(t->quant.mode))
        mlxr_fp_quantize_row(w, n, t->quant, t->dtype, values, scales);
    else
        mlxr_affine_quantize_row(w, n, t->quant, t->dtype, values, scales, biases);
}
