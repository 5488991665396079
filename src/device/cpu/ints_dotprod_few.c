/* Integer products with sdot and udot for few tokens: one token after the other, two rows at a time.
 *
 * A group's two sums have four parts each. Those of four groups are added across together, which leaves lane c with the dot
 * product of group c: the four classes of ints.h, whose scales lie beside each other in the file. */
#include "device/cpu/ints_dotprod.h"

enum { ROWS = 2 };

/* Lane c: all four lanes of v[c]. */
INLINE int32x4_t add_across(const int32x4_t v[4])
{
    return vpaddq_s32(vpaddq_s32(v[0], v[1]), vpaddq_s32(v[2], v[3]));
}

typedef struct rows {
    const uint8_t *w[ROWS], *scales[ROWS], *biases[ROWS];
} rows;

/* Groups g to g + 3, of which n are there. */
INLINE void few_step(scheme s, const mlxr_matrix *m, const mlxr_ints *x, const rows *at, unsigned n_rows,
                     size_t g, size_t n, float32x4_t *acc)
{
    const size_t per_group = s.group / 32, size = scale_bytes(m);
    const float32x4_t x_scale = vld1q_f32(x->scales + g), x_sum = vld1q_f32(x->sums + g);
    int32x4_t upper[ROWS][4], lower[ROWS][4];

    UNROLL
    for (size_t c = 0; c < 4; c++) {
        uint32x4_t low[ROWS];
        UNROLL
        for (unsigned r = 0; r < n_rows; r++) {
            upper[r][c] = vdupq_n_s32(0);
            low[r] = vdupq_n_u32(0);
        }
        UNROLL
        for (size_t b = 0; b < per_group; b++) {
            const size_t block = (g + c) * per_group + b;
            const uint8_t *p = block_of(x, block);
            int8x16_t x_upper[2];
            uint8x16_t x_lower[2];
            if (c >= n) break;
            UNROLL
            for (unsigned i = 0; i < 2; i++) {
                x_upper[i] = vreinterpretq_s8_u8(vld1q_u8(p + i * 16));
                x_lower[i] = vld1q_u8(p + 32 + i * 16);
            }
            UNROLL
            for (unsigned r = 0; r < n_rows; r++) {
                const uint8x16x2_t w = weights_of(s, at->w[r] + block * 4 * s.bits);
                UNROLL
                for (unsigned i = 0; i < 2; i++) {
                    upper[r][c] = vdotq_s32(upper[r][c], with_sign(s, w.val[i]), x_upper[i]);
                    low[r] = vdotq_u32(low[r], w.val[i], x_lower[i]);
                }
            }
        }
        UNROLL
        for (unsigned r = 0; r < n_rows; r++) lower[r][c] = vreinterpretq_s32_u32(low[r]);
    }
    UNROLL
    for (unsigned r = 0; r < n_rows; r++) {
        const float32x4_t scale = load_scales(s.fp4, at->scales[r] + g * size, n, m->dtype);
        int32x4_t dot = vaddq_s32(vshlq_n_s32(add_across(upper[r]), 8), add_across(lower[r]));
        float32x4_t sum;
        if (has_rest(s)) dot = vaddq_s32(dot, vld1q_s32(rests_of(x, m->n_cols, s.group) + g));
        sum = vfmaq_f32(acc[r], vcvtq_f32_s32(dot), vmulq_f32(scale, x_scale));
        if (!s.fp4) sum = vfmaq_f32(sum, load_scales(s.fp4, at->biases[r] + g * size, n, m->dtype), x_sum);
        if (n < 4) { /* a class without a group keeps its bits */
            static const uint32_t lanes[4] = {0, 1, 2, 3};
            sum = vbslq_f32(vcltq_u32(vld1q_u32(lanes), vdupq_n_u32((uint32_t)n)), sum, acc[r]);
        }
        acc[r] = sum;
    }
}

INLINE void few_rows(scheme s, const mlxr_linear_ints *a, size_t row, unsigned n_rows, size_t t)
{
    const mlxr_matrix *m = a->m;
    const size_t n_groups = m->n_cols / s.group, scale_row = n_groups * scale_bytes(m);
    float32x4_t acc[ROWS];
    size_t g = 0;
    rows at;

    UNROLL
    for (unsigned r = 0; r < n_rows; r++) {
        at.w[r] = (const uint8_t *)m->data + (row + r) * m->row_bytes;
        at.scales[r] = (const uint8_t *)m->scales + (row + r) * scale_row;
        at.biases[r] = s.fp4 ? NULL : (const uint8_t *)m->biases + (row + r) * scale_row;
        acc[r] = vdupq_n_f32(0.0f);
    }
    for (; g + 4 <= n_groups; g += 4) few_step(s, m, &a->x[t], &at, n_rows, g, 4, acc);
    if (g < n_groups) few_step(s, m, &a->x[t], &at, n_rows, g, n_groups - g, acc);
    UNROLL
    for (unsigned r = 0; r < n_rows; r++) {
        const float y = vpadds_f32(vadd_f32(vget_low_f32(acc[r]), vget_high_f32(acc[r])));
        a->y[t][row + r] = a->bias ? y + a->bias[row + r] : y;
    }
}

/* The weights of two rows stay in the first cache from token to token. */
INLINE void few_tokens(scheme s, const mlxr_linear_ints *a, size_t begin, size_t end, void *scratch)
{
    size_t row = begin;

    (void)scratch;
    for (; row + ROWS <= end; row += ROWS)
        for (size_t t = 0; t < a->n_tokens; t++) few_rows(s, a, row, ROWS, t);
    for (; row < end; row++)
        for (size_t t = 0; t < a->n_tokens; t++) few_rows(s, a, row, 1, t);
}

DOTPROD_KERNELS(few_tokens)

mlxr_linear_ints_fn mlxr_ints_dotprod_few(const mlxr_matrix *m)
{
    return find_kernel(m);
}
