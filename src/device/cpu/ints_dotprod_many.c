/* Integer products with sdot and udot for many tokens: eight rows unpacked to a panel of bytes, four tokens over it at a time.
 *
 * A vector of the panel has four columns of four rows, so that these instructions, which multiply it by four bytes of a token
 * in all its lanes, leave each row's sum in its lane. The panel of 8 rows of 4096 columns, 32 KiB, fits a first cache. */
#include "device/cpu/ints_dotprod.h"

enum { ROWS = 8, QUADS = ROWS / 4, TOKENS = 4 };

typedef struct panel {
    uint8_t *w;             /* [n_cols / 16, QUADS, 4, 16]: columns 4 k .. 4 k + 3 of the 16, of a row each */
    float *scales, *biases; /* [n_groups padded, ROWS] */
} panel;

/* Lane j of v[i] and lane i of v[j] change places. */
INLINE void transpose4(uint32x4_t v[4])
{
    const uint64x2_t a = vreinterpretq_u64_u32(vtrn1q_u32(v[0], v[1]));
    const uint64x2_t b = vreinterpretq_u64_u32(vtrn2q_u32(v[0], v[1]));
    const uint64x2_t c = vreinterpretq_u64_u32(vtrn1q_u32(v[2], v[3]));
    const uint64x2_t d = vreinterpretq_u64_u32(vtrn2q_u32(v[2], v[3]));
    v[0] = vreinterpretq_u32_u64(vtrn1q_u64(a, c));
    v[1] = vreinterpretq_u32_u64(vtrn1q_u64(b, d));
    v[2] = vreinterpretq_u32_u64(vtrn2q_u64(a, c));
    v[3] = vreinterpretq_u32_u64(vtrn2q_u64(b, d));
}

/* Rows beyond n_rows are the first one again. */
INLINE size_t row_of(size_t r, size_t n_rows)
{
    return r < n_rows ? r : 0;
}

INLINE void fill_weights(scheme s, const mlxr_matrix *m, size_t row, size_t n_rows, uint8_t *out)
{
    const size_t n_blocks = m->n_cols / 32;
    const uint8_t *w = (const uint8_t *)m->data + row * m->row_bytes;

    for (size_t b = 0; b < n_blocks; b++) {
        UNROLL
        for (size_t q = 0; q < QUADS; q++) {
            uint32x4_t v[2][4];
            UNROLL
            for (size_t r = 0; r < 4; r++) {
                const uint8x16x2_t codes = weights_of(s, w + row_of(q * 4 + r, n_rows) * m->row_bytes +
                                                             b * 4 * s.bits);
                v[0][r] = vreinterpretq_u32_u8(codes.val[0]);
                v[1][r] = vreinterpretq_u32_u8(codes.val[1]);
            }
            UNROLL
            for (size_t i = 0; i < 2; i++) {
                transpose4(v[i]);
                UNROLL
                for (size_t k = 0; k < 4; k++)
                    vst1q_u8(out + ((b * 2 + i) * QUADS + q) * 64 + k * 16, vreinterpretq_u8_u32(v[i][k]));
            }
        }
    }
}

static void fill_scales(const mlxr_matrix *m, const void *from, size_t row, size_t n_rows, float *out)
{
    const size_t n_groups = m->n_cols / m->quant.group_size, size = scale_bytes(m);
    const uint8_t *p = (const uint8_t *)from + row * n_groups * size;

    for (size_t g = 0; g < n_groups; g += 4) {
        for (size_t q = 0; q < QUADS; q++) {
            uint32x4_t v[4];
            for (size_t r = 0; r < 4; r++)
                v[r] = vreinterpretq_u32_f32(
                    load_scales(m->dtype == MLXR_U8, p + (row_of(q * 4 + r, n_rows) * n_groups + g) * size,
                                min_size(4, n_groups - g), m->dtype));
            transpose4(v);
            for (size_t c = 0; c < 4; c++)
                vst1q_f32(out + (g + c) * ROWS + q * 4, vreinterpretq_f32_u32(v[c]));
        }
    }
}

/* Sixteen columns: four of them, by their number among the token's, times all rows. */
#define FOUR_COLUMNS(k)                                                                      \
    UNROLL                                                                                   \
    for (size_t q = 0; q < QUADS; q++) {                                                     \
        const uint8x16_t weight = vld1q_u8(w + q * 64 + (k)*16);                             \
        UNROLL                                                                               \
        for (unsigned j = 0; j < n_tok; j++) {                                               \
            upper[j][q] = vdotq_laneq_s32(upper[j][q], with_sign(s, weight), x_upper[j], k); \
            lower[j][q] = vdotq_laneq_u32(lower[j][q], weight, x_lower[j], k);               \
        }                                                                                    \
    }

/* A group's dot products of all rows for n_tok tokens. */
INLINE void group_dots(scheme s, const uint8_t *w, const mlxr_ints *x, size_t block, size_t n_blocks,
                       unsigned n_tok, int32x4_t (*upper)[QUADS], uint32x4_t (*lower)[QUADS])
{
    for (size_t b = block * 2; b < (block + n_blocks) * 2; b++, w += QUADS * 64) {
        int8x16_t x_upper[TOKENS];
        uint8x16_t x_lower[TOKENS];
        UNROLL
        for (unsigned j = 0; j < n_tok; j++) {
            const uint8_t *p = block_of(&x[j], b / 2) + b % 2 * 16;
            x_upper[j] = vreinterpretq_s8_u8(vld1q_u8(p));
            x_lower[j] = vld1q_u8(p + 32);
        }
        FOUR_COLUMNS(0)
        FOUR_COLUMNS(1)
        FOUR_COLUMNS(2)
        FOUR_COLUMNS(3)
    }
}

/* Of the scheme only what the panel does not say already counts: bits == 8, and fp4. */
INLINE void panel_tile(scheme s, const mlxr_linear_ints *a, size_t row, size_t n_rows, size_t t,
                       unsigned n_tok, const panel *p)
{
    const size_t group = a->m->quant.group_size, n_groups = a->m->n_cols / group, per_group = group / 32;
    const mlxr_ints *x = a->x + t;
    float32x4_t acc[4][TOKENS][QUADS];

    for (size_t c = 0; c < 4; c++)
        for (unsigned j = 0; j < n_tok; j++)
            for (size_t q = 0; q < QUADS; q++) acc[c][j][q] = vdupq_n_f32(0.0f);
    for (size_t g = 0; g < n_groups; g++) {
        int32x4_t upper[TOKENS][QUADS];
        uint32x4_t lower[TOKENS][QUADS];
        UNROLL
        for (unsigned j = 0; j < n_tok; j++) {
            const int32_t rest = has_rest(s) ? rests_of(&x[j], a->m->n_cols, (unsigned)group)[g] : 0;
            UNROLL
            for (size_t q = 0; q < QUADS; q++) {
                upper[j][q] = vdupq_n_s32(0);
                lower[j][q] = vdupq_n_u32((uint32_t)rest);
            }
        }
        group_dots(s, p->w + g * group * ROWS, x, g * per_group, per_group, n_tok, upper, lower);
        UNROLL
        for (unsigned j = 0; j < n_tok; j++) {
            UNROLL
            for (size_t q = 0; q < QUADS; q++) {
                const int32x4_t dot = vaddq_s32(vshlq_n_s32(upper[j][q], 8),
                                                vreinterpretq_s32_u32(lower[j][q]));
                const float32x4_t scale = vmulq_n_f32(vld1q_f32(p->scales + g * ROWS + q * 4),
                                                      x[j].scales[g]);
                float32x4_t sum = vfmaq_f32(acc[g % 4][j][q], vcvtq_f32_s32(dot), scale);
                if (!s.fp4)
                    sum = vfmaq_f32(sum, vld1q_f32(p->biases + g * ROWS + q * 4), vdupq_n_f32(x[j].sums[g]));
                acc[g % 4][j][q] = sum;
            }
        }
    }
    for (unsigned j = 0; j < n_tok; j++) {
        float y[ROWS];
        for (size_t q = 0; q < QUADS; q++)
            vst1q_f32(y + q * 4, vaddq_f32(vaddq_f32(acc[0][j][q], acc[2][j][q]),
                                           vaddq_f32(acc[1][j][q], acc[3][j][q])));
        for (size_t r = 0; r < n_rows; r++) a->y[t + j][row + r] = a->bias ? y[r] + a->bias[row + r] : y[r];
    }
}

INLINE void panel_tokens(scheme s, const mlxr_linear_ints *a, size_t row, size_t n_rows, const panel *p)
{
    size_t t = 0;

    for (; t + TOKENS <= a->n_tokens; t += TOKENS) panel_tile(s, a, row, n_rows, t, TOKENS, p);
    switch (a->n_tokens - t) {
    case 1: panel_tile(s, a, row, n_rows, t, 1, p); break;
    case 2: panel_tile(s, a, row, n_rows, t, 2, p); break;
    case 3: panel_tile(s, a, row, n_rows, t, 3, p); break;
    default: break;
    }
}

/* Compiled once for all schemes that the panel makes equal. */
static void panel_plain(const mlxr_linear_ints *a, size_t row, size_t n_rows, const panel *p)
{
    panel_tokens((scheme){0}, a, row, n_rows, p);
}

static void panel_of_8(const mlxr_linear_ints *a, size_t row, size_t n_rows, const panel *p)
{
    panel_tokens((scheme){.bits = 8}, a, row, n_rows, p);
}

static void panel_fp4(const mlxr_linear_ints *a, size_t row, size_t n_rows, const panel *p)
{
    panel_tokens((scheme){.fp4 = true}, a, row, n_rows, p);
}

INLINE void many_tokens(scheme s, const mlxr_linear_ints *a, size_t begin, size_t end, void *scratch)
{
    const mlxr_matrix *m = a->m;
    const size_t n_padded = mlxr_ints_groups(m->n_cols, s.group);
    panel p = {.w = scratch};

    p.scales = (float *)(void *)(p.w + n_padded * s.group * ROWS);
    p.biases = p.scales + n_padded * ROWS;
    for (size_t row = begin; row < end; row += ROWS) {
        const size_t n_rows = min_size(ROWS, end - row);
        fill_weights(s, m, row, n_rows, p.w);
        fill_scales(m, m->scales, row, n_rows, p.scales);
        if (!s.fp4) fill_scales(m, m->biases, row, n_rows, p.biases);
        if (s.fp4)
            panel_fp4(a, row, n_rows, &p);
        else if (s.bits == 8)
            panel_of_8(a, row, n_rows, &p);
        else
            panel_plain(a, row, n_rows, &p);
    }
}

DOTPROD_KERNELS(many_tokens)

mlxr_linear_ints_fn mlxr_ints_dotprod_many(const mlxr_matrix *m)
{
    return find_kernel(m);
}
