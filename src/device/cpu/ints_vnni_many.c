/* Integer products with AVX-512 VNNI for many tokens: 16 rows unpacked to a panel, eight tokens over it at a time. */
#include "device/cpu/ints_vnni.h"

enum { ROWS = 16, TOKENS = 8 };

/* rows[r]'s sixteen dwords become column r. */
INLINE void transpose16(__m512i v[16])
{
    __m512i a[16];

    UNROLL
    for (unsigned i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
    UNROLL
    for (unsigned i = 0; i < 16; i += 4) {
        v[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
        v[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
        v[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    UNROLL
    for (unsigned i = 0; i < 4; i++) {
        a[i] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0x88);
        a[i + 4] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0xdd);
        a[i + 8] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0x88);
        a[i + 12] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0xdd);
    }
    UNROLL
    for (unsigned i = 0; i < 4; i++) {
        v[i] = _mm512_shuffle_i32x4(a[i], a[i + 8], 0x88);
        v[i + 8] = _mm512_shuffle_i32x4(a[i], a[i + 8], 0xdd);
        v[i + 4] = _mm512_shuffle_i32x4(a[i + 4], a[i + 12], 0x88);
        v[i + 12] = _mm512_shuffle_i32x4(a[i + 4], a[i + 12], 0xdd);
    }
}

/* Scales or biases of 16 rows, [n_groups, 16]; beyond n_rows the first row's again. */
INLINE void fill_scales(float *out, const uint8_t *p, size_t n_groups, size_t n_rows, mlxr_dtype dtype)
{
    const size_t size = dtype == MLXR_F32 ? 4 : dtype == MLXR_U8 ? 1 : 2, row_bytes = n_groups * size;

    for (size_t r = 0; r < ROWS; r += 4) {
        /* Rows go in fours; a last four that is not whole takes one row four times, for each of its rows. */
        size_t whole = n_rows >= r + 4 ? 1 : 4;
        for (size_t i = 0; i < whole; i++) {
            const uint8_t *row = p + (r + i < n_rows ? r + i : 0) * row_bytes;
            for (size_t g = 0; g < n_groups; g += 4) {
                size_t n = n_groups - g < 4 ? n_groups - g : 4;
                __m512 v = load_scales(row + g * size, whole == 1 ? row_bytes : 0, n, dtype);
                float lanes[16];
                _mm512_storeu_ps(lanes, v);
                for (size_t c = 0; c < n; c++)
                    memcpy(out + (g + c) * ROWS + r + i, lanes + 4 * c, (whole == 1 ? 4 : 1) * sizeof *out);
            }
        }
    }
}

/* The panel of up to 16 rows: dword (unit, m, D) of row r at [(unit * 64 + m * 16 + D) * 16 + r]. */
INLINE void fill_panel(scheme s, const mlxr_matrix *m, size_t row, size_t n_rows, int32_t *panel)
{
    const size_t n_units = mlxr_ints_groups(m->n_cols, s.group) * s.group / MLXR_INTS_UNIT;
    const uint8_t *w = (const uint8_t *)m->data + row * m->row_bytes;

    for (size_t u = 0; u < n_units; u++) {
        size_t before = u * 16 * s.bits, there = m->row_bytes > before ? m->row_bytes - before : 0;
        bool whole = there >= 16 * s.bits;
        __m512i v[4][ROWS];
        for (size_t r = 0; r < ROWS; r++) {
            const uint8_t *p = w + (r < n_rows ? r : 0) * m->row_bytes + (there ? before : 0);
            __m512i one[4];
            if (whole)
                unpack(s, one, p, there, true);
            else
                unpack(s, one, p, there, false);
            for (unsigned i = 0; i < 4; i++) v[i][r] = one[i];
        }
        for (unsigned i = 0; i < 4; i++) {
            transpose16(v[i]);
            for (unsigned k = 0; k < 16; k++)
                _mm512_storeu_si512(panel + ((u * 64 + i * 16 + k) * 16), v[i][k]);
        }
    }
}

INLINE __m512i pair(const int16_t *x)
{
    int32_t both;
    memcpy(&both, x, sizeof both);
    return _mm512_set1_epi32(both);
}

/* A group's dot products of 16 rows for n_tok tokens. */
INLINE void group_dots(scheme s, size_t g, const int32_t *panel, const mlxr_ints *x, unsigned n_tok,
                       __m512i *dot)
{
    UNROLL
    for (unsigned j = 0; j < n_tok; j++) dot[j] = _mm512_setzero_si512();
    for (unsigned b = 0; b < s.group / 32; b++) {
        size_t block = g * (s.group / 32) + b, at = block / 4 * 64 + block % 4 * 4;
        for (unsigned i = 0; i < 4; i++) {
            UNROLL
            for (unsigned k = 0; k < 4; k++) {
                size_t p = at + i * 16 + k;
                __m512i w = _mm512_loadu_si512(panel + p * 16);
                UNROLL
                for (unsigned j = 0; j < n_tok; j++)
                    dot[j] = _mm512_dpwssd_epi32(dot[j], w, pair(x[j].x + 2 * p));
            }
        }
    }
}

INLINE void panel_tokens(scheme s, const mlxr_linear_ints *a, size_t row, size_t n_rows, size_t t,
                         unsigned n_tok, const int32_t *panel, const float *scales, const float *biases)
{
    const size_t n_groups = a->m->n_cols / s.group;
    const mlxr_ints *x = a->x + t;
    __mmask16 keep = (__mmask16)((1u << n_rows) - 1);
    __m512 part[4][TOKENS];

    for (size_t c = 0; c < 4; c++) {
        __m512 acc[TOKENS];
        UNROLL
        for (unsigned j = 0; j < n_tok; j++) acc[j] = _mm512_setzero_ps();
        for (size_t g = c; g < n_groups; g += 4) {
            __m512 scale = _mm512_loadu_ps(scales + g * 16), bias = _mm512_loadu_ps(biases + g * 16);
            __m512i dot[TOKENS];
            group_dots(s, g, panel, x, n_tok, dot);
            UNROLL
            for (unsigned j = 0; j < n_tok; j++) {
                __m512 x_scale = _mm512_set1_ps(x[j].scales[g * 4]);
                acc[j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[j]), _mm512_mul_ps(scale, x_scale), acc[j]);
                if (s.dtype != MLXR_U8)
                    acc[j] = _mm512_fmadd_ps(bias, _mm512_set1_ps(x[j].sums[g * 4]), acc[j]);
            }
        }
        UNROLL
        for (unsigned j = 0; j < n_tok; j++) part[c][j] = acc[j];
    }
    UNROLL
    for (unsigned j = 0; j < n_tok; j++) {
        __m512 y = _mm512_add_ps(_mm512_add_ps(part[0][j], part[2][j]),
                                 _mm512_add_ps(part[1][j], part[3][j]));
        if (a->bias) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(keep, a->bias + row));
        _mm512_mask_storeu_ps(a->y[t + j] + row, keep, y);
    }
}

INLINE void many_tokens(scheme s, const mlxr_linear_ints *a, size_t begin, size_t end, void *scratch)
{
    const size_t n_groups = mlxr_ints_groups(a->m->n_cols, s.group);
    int32_t *panel = scratch;
    float *scales = (float *)(void *)(panel + n_groups * s.group / 2 * ROWS),
          *biases = scales + n_groups * ROWS;

    for (size_t row = begin; row < end; row += ROWS) {
        size_t n_rows = end - row < ROWS ? end - row : ROWS, t = 0;
        const size_t n = a->m->n_cols / s.group;
        const size_t scale_bytes = row * n * (s.dtype == MLXR_F32 ? 4 : s.dtype == MLXR_U8 ? 1 : 2);
        fill_panel(s, a->m, row, n_rows, panel);
        fill_scales(scales, (const uint8_t *)a->m->scales + scale_bytes, n, n_rows, s.dtype);
        if (s.dtype != MLXR_U8)
            fill_scales(biases, (const uint8_t *)a->m->biases + scale_bytes, n, n_rows, s.dtype);
        for (; t + TOKENS <= a->n_tokens; t += TOKENS)
            panel_tokens(s, a, row, n_rows, t, TOKENS, panel, scales, biases);
        for (; t < a->n_tokens; t++) panel_tokens(s, a, row, n_rows, t, 1, panel, scales, biases);
    }
}

INTS_KERNELS(many_tokens)

mlxr_linear_ints_fn mlxr_ints_vnni_many(const mlxr_matrix *m)
{
    return find_kernel(m);
}
