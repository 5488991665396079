/* Integer products with AVX-512 VNNI for some tokens: four rows at a time, unpacked once for all tokens.
 *
 * As for few tokens (ints_vnni_few.c) a step is four groups of four rows, whose sums are added across in one small
 * transposition; but 16 vectors of weights stay in registers while the tokens pass by, and the tokens' sums wait in memory.
 * Without a panel to make, two tokens are enough to win, and memory is read as for one. */
#include "device/cpu/ints_vnni.h"

enum { MOST = 16 }; /* tokens that pass by together */

typedef struct sums {
    _Alignas(64) float acc[MOST][16];
    int32_t dot[MOST][3][16]; /* of the rows before, where a step's weights take the registers row by row */
} sums;

INLINE __m512i add_products(__m512i sum, __m512i a, __m512i b)
{
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}

/* The dot products of a step's four groups for n_rows rows, before they are added across: dot[r]. */
INLINE void step_dots(unsigned n_units, unsigned n_rows, __m512i w[][4][4], const int16_t *x, __m512i *dot)
{
    __m512i sum[4][4];

    UNROLL
    for (unsigned u = 0; u < n_units; u++) {
        UNROLL
        for (unsigned r = 0; r < n_rows; r++) sum[r][u] = _mm512_setzero_si512();
        UNROLL
        for (unsigned i = 0; i < 4; i++) {
            __m512i v = _mm512_loadu_si512(x + u * MLXR_INTS_UNIT + i * 32);
            UNROLL
            for (unsigned r = 0; r < n_rows; r++) sum[r][u] = add_products(sum[r][u], w[r][u][i], v);
        }
    }
    UNROLL
    for (unsigned r = 0; r < n_rows; r++) {
        if (n_units == 1) dot[r] = sum[r][0];
        if (n_units == 2) dot[r] = add_lanes(sum[r][0], sum[r][1]);
        if (n_units == 4)
            dot[r] = add_lanes(add_lanes(sum[r][0], sum[r][1]), add_lanes(sum[r][2], sum[r][3]));
    }
}

/* One step of four rows, or four times one. n_bytes: of each row, from here to the end. */
INLINE void some_step(scheme s, const mlxr_ints *x, unsigned n_tok, const uint8_t *w_row, size_t next,
                      size_t step, __m512 scale, __m512 bias, sums *to, size_t n_bytes, bool whole)
{
    const unsigned n_units = s.group / 32, together = 4 / n_units;
    const size_t unit_bytes = 16 * s.bits;

    UNROLL
    for (unsigned first = 0; first < 4; first += together) {
        __m512i w[4][4][4];
        UNROLL
        for (unsigned r = 0; r < together; r++) {
            const uint8_t *p = w_row + (first + r) * next;
            UNROLL
            for (unsigned u = 0; u < n_units; u++) {
                size_t before = u * unit_bytes;
                unpack(s, w[r][u], p + before, n_bytes > before ? n_bytes - before : 0, whole);
            }
        }
        for (unsigned t = 0; t < n_tok; t++) {
            __m512i dot[4];
            __m512 x_scale, acc;
            step_dots(n_units, together, w, x[t].x + step * 4 * s.group, dot + first);
            if (first + together < 4) {
                UNROLL
                for (unsigned r = 0; r < together; r++)
                    _mm512_store_si512(to->dot[t][first + r], dot[first + r]);
                continue;
            }
            UNROLL
            for (unsigned r = 0; r < first; r++) dot[r] = _mm512_load_si512(to->dot[t][r]);
            x_scale = _mm512_loadu_ps(x[t].scales + step * 16);
            acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(add_across(dot)), _mm512_mul_ps(scale, x_scale),
                                  _mm512_load_ps(to->acc[t]));
            if (s.dtype != MLXR_U8) acc = _mm512_fmadd_ps(bias, _mm512_loadu_ps(x[t].sums + step * 16), acc);
            _mm512_store_ps(to->acc[t], acc);
        }
    }
}

INLINE void some_rows(scheme s, const mlxr_linear_ints *a, size_t row, size_t n_rows, size_t first,
                      unsigned n_tok)
{
    const mlxr_matrix *m = a->m;
    const mlxr_ints *x = a->x + first;
    const size_t n_groups = m->n_cols / s.group, size = s.dtype == MLXR_F32 ? 4 : s.dtype == MLXR_U8 ? 1 : 2;
    const size_t step_bytes = s.group / 2 * s.bits, next = n_rows == 4 ? m->row_bytes : 0;
    const size_t next_scale = n_rows == 4 ? n_groups * size : 0;
    const uint8_t *w = (const uint8_t *)m->data + row * m->row_bytes;
    const uint8_t *scales = (const uint8_t *)m->scales + row * n_groups * size;
    const uint8_t *biases = m->biases ? (const uint8_t *)m->biases + row * n_groups * size : scales;
    mlxr_stream ahead = ahead_of(a, row, n_groups * size);
    sums to;

    for (unsigned t = 0; t < n_tok; t++) _mm512_store_ps(to.acc[t], _mm512_setzero_ps());
    for (size_t g = 0; g < n_groups; g += 4) {
        const size_t n = n_groups - g < 4 ? n_groups - g : 4;
        __m512 scale = n == 4 ? load_scales(scales, next_scale, 4, s.dtype)
                              : load_scales(scales, next_scale, n, s.dtype);
        __m512 bias = scale;
        if (s.dtype != MLXR_U8)
            bias = n == 4 ? load_scales(biases, next_scale, 4, s.dtype)
                          : load_scales(biases, next_scale, n, s.dtype);
        prefetch(ahead.w, 4 * step_bytes);
        prefetch(ahead.scales, 16 * size);
        prefetch(ahead.biases, 16 * size);
        ahead.w += 4 * step_bytes;
        ahead.scales += 16 * size;
        ahead.biases += 16 * size;
        if (n == 4)
            some_step(s, x, n_tok, w, next, g / 4, scale, bias, &to, step_bytes, true);
        else
            some_step(s, x, n_tok, w, next, g / 4, scale, bias, &to, n * s.group / 8 * s.bits, false);
        w += step_bytes;
        scales += 4 * size;
        biases += 4 * size;
    }
    for (unsigned t = 0; t < n_tok; t++) {
        __m256 half = _mm256_add_ps(_mm256_load_ps(to.acc[t]), _mm256_load_ps(to.acc[t] + 8));
        __m128 y = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
        __mmask8 keep = n_rows == 4 ? 15 : 1;
        if (a->bias) y = _mm_add_ps(y, _mm_maskz_loadu_ps(keep, a->bias + row));
        _mm_mask_storeu_ps(a->y[first + t] + row, keep, y);
    }
}

INLINE void some_tokens(scheme s, const mlxr_linear_ints *a, size_t begin, size_t end, void *scratch)
{
    (void)scratch;
    for (size_t t = 0, n; t < a->n_tokens; t += n) {
        n = a->n_tokens - t < MOST ? a->n_tokens - t : MOST;
        for (size_t row = begin, rows; row < end; row += rows) {
            rows = end - row >= 4 ? 4 : 1;
            some_rows(s, a, row, rows, t, (unsigned)n);
        }
    }
}

INTS_KERNELS(some_tokens)

mlxr_linear_ints_fn mlxr_ints_vnni_some(const mlxr_matrix *m)
{
    return find_kernel(m);
}
