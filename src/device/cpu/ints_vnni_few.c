/* Integer products with AVX-512 VNNI for few tokens: four rows at a time.
 *
 * After four vpdpwssd a unit's 128-bit lane has its block's sum in four parts. Four rows' sums are then added across in one
 * small transposition, which leaves lane 4 c + r with row r's dot product of the step's group c: a step is four groups. */
#include "device/cpu/ints_vnni.h"

enum { FEW = 4 };

/* The dot products of a step's four groups, of one row, before they are added across. */
INLINE __m512i step_dot(scheme s, __m512i w[][4], const int16_t *x)
{
    __m512i sum[4];
    unsigned n_units = s.group / 32;

    UNROLL
    for (unsigned u = 0; u < n_units; u++) {
        sum[u] = _mm512_setzero_si512();
        UNROLL
        for (unsigned i = 0; i < 4; i++)
            sum[u] = _mm512_dpwssd_epi32(sum[u], w[u][i],
                                         _mm512_loadu_si512(x + u * MLXR_INTS_UNIT + i * 32));
    }
    if (n_units == 1) return sum[0];
    if (n_units == 2) return add_lanes(sum[0], sum[1]);
    return add_lanes(add_lanes(sum[0], sum[1]), add_lanes(sum[2], sum[3]));
}

/* One step of n_rows (4 or 1: then four times the same) rows for n_tok tokens. n_left: groups from here to the end. */
INLINE void few_step(scheme s, const mlxr_linear_ints *a, const uint8_t *w_row, size_t next, size_t step,
                     size_t t, unsigned n_tok, __m512 scale, __m512 bias, __m512 *acc, size_t n_bytes,
                     bool whole)
{
    const unsigned n_units = s.group / 32;
    const size_t unit_bytes = 16 * s.bits, step_bytes = n_units * unit_bytes;
    const size_t at = step * 4 * s.group;
    __m512i dot[FEW][4];

    UNROLL
    for (unsigned r = 0; r < 4; r++) {
        __m512i w[4][4];
        const uint8_t *p = w_row + r * next + step * step_bytes;
        UNROLL
        for (unsigned u = 0; u < n_units; u++) {
            size_t before = u * unit_bytes;
            unpack(s, w[u], p + before, n_bytes > before ? n_bytes - before : 0, whole);
        }
        UNROLL
        for (unsigned j = 0; j < n_tok; j++) dot[j][r] = step_dot(s, w, a->x[t + j].x + at);
    }
    UNROLL
    for (unsigned j = 0; j < n_tok; j++) {
        __m512 x_scale = _mm512_loadu_ps(a->x[t + j].scales + step * 16);
        __m512 product = _mm512_cvtepi32_ps(add_across(dot[j]));
        acc[j] = _mm512_fmadd_ps(product, _mm512_mul_ps(scale, x_scale), acc[j]);
        if (s.dtype != MLXR_U8)
            acc[j] = _mm512_fmadd_ps(bias, _mm512_loadu_ps(a->x[t + j].sums + step * 16), acc[j]);
    }
}

INLINE void few_rows(scheme s, const mlxr_linear_ints *a, size_t row, size_t n_rows, size_t t, unsigned n_tok)
{
    const mlxr_matrix *m = a->m;
    const size_t n_groups = m->n_cols / s.group, size = s.dtype == MLXR_F32 ? 4 : s.dtype == MLXR_U8 ? 1 : 2;
    const size_t step_bytes = s.group / 2 * s.bits, next = n_rows == 4 ? m->row_bytes : 0;
    const size_t next_scale = n_rows == 4 ? n_groups * size : 0, n_whole = n_groups / 4;
    const uint8_t *w = (const uint8_t *)m->data + row * m->row_bytes;
    const uint8_t *scales = (const uint8_t *)m->scales + row * n_groups * size;
    const uint8_t *biases = m->biases ? (const uint8_t *)m->biases + row * n_groups * size : scales;
    mlxr_stream ahead = ahead_of(a, row, n_groups * size);
    __m512 acc[FEW];

    UNROLL
    for (unsigned j = 0; j < n_tok; j++) acc[j] = _mm512_setzero_ps();
    for (size_t step = 0; step < n_whole; step++) {
        prefetch(ahead.w, 4 * step_bytes);
        prefetch(ahead.scales, 16 * size);
        prefetch(ahead.biases, 16 * size);
        ahead.w += 4 * step_bytes;
        ahead.scales += 16 * size;
        ahead.biases += 16 * size;
        __m512 scale = load_scales(scales + step * 4 * size, next_scale, 4, s.dtype);
        __m512 bias = s.dtype == MLXR_U8 ? scale
                                         : load_scales(biases + step * 4 * size, next_scale, 4, s.dtype);
        few_step(s, a, w, next, step, t, n_tok, scale, bias, acc, step_bytes, true);
    }
    if (n_whole * 4 < n_groups) {
        size_t n = n_groups - n_whole * 4;
        __m512 scale = load_scales(scales + n_whole * 4 * size, next_scale, n, s.dtype);
        __m512 bias = s.dtype == MLXR_U8 ? scale
                                         : load_scales(biases + n_whole * 4 * size, next_scale, n, s.dtype);
        few_step(s, a, w, next, n_whole, t, n_tok, scale, bias, acc, n * s.group / 8 * s.bits, false);
    }
    for (unsigned j = 0; j < n_tok; j++) {
        __m256 half = _mm256_add_ps(_mm512_castps512_ps256(acc[j]), _mm512_extractf32x8_ps(acc[j], 1));
        __m128 y = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
        __mmask8 keep = n_rows == 4 ? 15 : 1;
        if (a->bias) y = _mm_add_ps(y, _mm_maskz_loadu_ps(keep, a->bias + row));
        _mm_mask_storeu_ps(a->y[t + j] + row, keep, y);
    }
}

INLINE void few_tokens(scheme s, const mlxr_linear_ints *a, size_t begin, size_t end, void *scratch)
{
    (void)scratch;
    for (size_t t = 0, n; t < a->n_tokens; t += n) {
        n = a->n_tokens - t >= FEW ? FEW : 1;
        for (size_t row = begin, rows; row < end; row += rows) {
            rows = end - row >= 4 ? 4 : 1;
            if (n == FEW)
                few_rows(s, a, row, rows, t, FEW);
            else
                few_rows(s, a, row, rows, t, 1);
        }
    }
}

INTS_KERNELS(few_tokens)

mlxr_linear_ints_fn mlxr_ints_vnni_few(const mlxr_matrix *m)
{
    return find_kernel(m);
}
