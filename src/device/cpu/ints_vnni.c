/* Integer products with AVX-512 VNNI: see ints.h for what is computed and in which order.
 *
 * A unit of 128 weights of a row becomes four vectors of 32 int16, the i-th 128-bit lane of each from the i-th block of
 * 32 columns, so that after four vpdpwssd a lane has its block's sum in four parts. Four rows' sums are then added
 * across in one small transposition, which leaves lane 4 c + r with row r's dot product of the step's group c: a step is
 * four groups. */
#include <immintrin.h>
#include <math.h>

#include "device/cpu/ints.h"

#define INLINE static inline __attribute__((always_inline))
#ifdef MLXR_NO_UNROLL
#define UNROLL
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* How one scheme's rows are read: constants in every call, so that each kernel is compiled for its own. */
typedef struct scheme {
    unsigned bits, group;
    mlxr_dtype dtype; /* of scales and biases; U8: mxfp4 */
} scheme;

enum { ROWS = 16, TOKENS = 8, FEW = 4 };

/* ---- weights: 128 columns from p to four vectors of int16 ---- */

/* n_bytes: what of the unit's bytes is there; the rest are zeros. */
INLINE __m512i load_masked(const uint8_t *p, size_t n_bytes)
{
    return _mm512_maskz_loadu_epi8(n_bytes >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << n_bytes) - 1, p);
}

INLINE void unpack4(__m512i w[4], const uint8_t *p, size_t n_bytes, bool whole)
{
    const __m512i low = _mm512_set1_epi16(15);
    __m512i v = whole ? _mm512_loadu_si512(p) : load_masked(p, n_bytes);

    w[0] = _mm512_and_si512(v, low);
    w[1] = _mm512_and_si512(_mm512_srli_epi16(v, 4), low);
    w[2] = _mm512_and_si512(_mm512_srli_epi16(v, 8), low);
    w[3] = _mm512_srli_epi16(v, 12);
}

/* Twice the values of e2m1. */
INLINE void unpack_fp4(__m512i w[4], const uint8_t *p, size_t n_bytes, bool whole)
{
    static const int16_t values[32] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12,
                                       0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    const __m512i table = _mm512_loadu_si512(values);
    __m512i v = whole ? _mm512_loadu_si512(p) : load_masked(p, n_bytes);

    UNROLL
    for (int i = 0; i < 4; i++) /* the index is the low five bits, and the fifth does not matter */
        w[i] = _mm512_permutexvar_epi16(_mm512_srli_epi16(v, 4 * (unsigned)i), table);
}

/* For each pair of octets m, m + 1 of the four blocks: the bytes that have their bits, eight to a qword; then each
 * value's own shift. */
INLINE void unpack_bits(__m512i w[4], unsigned bits, const uint8_t *p, size_t n_bytes, bool whole)
{
    uint8_t at[2][64], shift[64];
    __m512i lo, hi;
    bool two = 16 * bits > 64;

    UNROLL
    for (unsigned i = 0; i < 64; i++) {
        unsigned block = i / 8 % 4, octet = i / 32, byte = i % 8;
        at[0][i] = (uint8_t)((4 * block + octet) * bits + (byte < bits ? byte : 0));
        at[1][i] = (uint8_t)((4 * block + octet + 2) * bits + (byte < bits ? byte : 0));
        shift[i] = (uint8_t)(byte * bits);
    }
    if (whole) {
        lo = two ? _mm512_loadu_si512(p) : load_masked(p, 16 * bits);
        hi = two ? load_masked(p + 64, 16 * bits - 64) : lo;
    } else {
        size_t there = n_bytes < 16 * bits ? n_bytes : 16 * bits;
        lo = load_masked(p, there);
        hi = there > 64 ? load_masked(p + 64, there - 64) : _mm512_setzero_si512();
    }
    UNROLL
    for (unsigned h = 0; h < 2; h++) {
        __m512i index = _mm512_loadu_si512(at[h]), v;
        v = two ? _mm512_permutex2var_epi8(lo, index, hi) : _mm512_permutexvar_epi8(index, lo);
        if (bits < 8) {
            v = _mm512_multishift_epi64_epi8(_mm512_loadu_si512(shift), v);
            v = _mm512_and_si512(v, _mm512_set1_epi8((char)((1 << bits) - 1)));
        }
        w[2 * h] = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(v));
        w[2 * h + 1] = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(v, 1));
    }
}

INLINE void unpack(scheme s, __m512i w[4], const uint8_t *p, size_t n_bytes, bool whole)
{
    if (s.dtype == MLXR_U8)
        unpack_fp4(w, p, n_bytes, whole);
    else if (s.bits == 4)
        unpack4(w, p, n_bytes, whole);
    else
        unpack_bits(w, s.bits, p, n_bytes, whole);
}

/* ---- scales of four rows and four groups, lane 4 c + r ---- */

/* Lane 4 r + c to lane 4 c + r. */
INLINE __m512 across(__m512 v)
{
    return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), v);
}

/* n of the four groups are there, zeros for the others; `next` bytes from row to row. */
INLINE __m512 load_scales(const uint8_t *p, size_t next, size_t n, mlxr_dtype dtype)
{
    const __mmask8 there = (__mmask8)((1u << n) - 1);

    if (dtype == MLXR_F32) {
        __m512 v = _mm512_castps128_ps512(_mm_maskz_loadu_ps(there, p));
        v = _mm512_insertf32x4(v, _mm_maskz_loadu_ps(there, p + next), 1);
        v = _mm512_insertf32x4(v, _mm_maskz_loadu_ps(there, p + 2 * next), 2);
        return across(_mm512_insertf32x4(v, _mm_maskz_loadu_ps(there, p + 3 * next), 3));
    }
    if (dtype == MLXR_F16 || dtype == MLXR_BF16) {
        __m128i r[4];
        __m256i h;
        UNROLL
        for (unsigned i = 0; i < 4; i++)
            r[i] = n == 4 ? _mm_loadl_epi64((const __m128i *)(const void *)(p + i * next))
                          : _mm_maskz_loadu_epi16(there, p + i * next);
        h = _mm256_set_m128i(_mm_unpacklo_epi64(r[2], r[3]), _mm_unpacklo_epi64(r[0], r[1]));
        return across(dtype == MLXR_F16
                          ? _mm512_cvtph_ps(h)
                          : _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16)));
    }
    {
        /* e8m0, halved because the values are doubled: 2^(e - 128), a denormal for e of 0 and 1, infinity for 255. */
        __m128i r[4];
        __m512i e, f;
        UNROLL
        for (unsigned i = 0; i < 4; i++) r[i] = _mm_maskz_loadu_epi8(there, p + i * next);
        e = _mm512_cvtepu8_epi32(
            _mm_unpacklo_epi64(_mm_unpacklo_epi32(r[0], r[1]), _mm_unpacklo_epi32(r[2], r[3])));
        f = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
        f = _mm512_mask_sllv_epi32(f, _mm512_cmplt_epu32_mask(e, _mm512_set1_epi32(2)),
                                   _mm512_set1_epi32(1 << 21), e);
        f = _mm512_mask_mov_epi32(f, _mm512_cmpeq_epu32_mask(e, _mm512_set1_epi32(255)),
                                  _mm512_set1_epi32(0x7f800000));
        return across(_mm512_castsi512_ps(f));
    }
}

/* ---- few tokens: four rows at a time ---- */

/* Adds the four int32 of every 128-bit lane of four rows: lane 4 c + r. */
INLINE __m512i add_across(const __m512i a[4])
{
    __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a[0], a[1]), _mm512_unpackhi_epi32(a[0], a[1]));
    __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(a[2], a[3]), _mm512_unpackhi_epi32(a[2], a[3]));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}

/* Sums of neighbouring 128-bit lanes of two vectors. */
INLINE __m512i add_lanes(__m512i a, __m512i b)
{
    return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
}

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

/* Weights are read once and in order, but in bursts of three streams, which the hardware's prefetchers follow badly: see
 * linear.inc.h. An address past the end is only a hint. */
enum { AHEAD_BYTES = 8192, AHEAD_SCALES = 2048 };

INLINE void prefetch(uintptr_t p, size_t n)
{
    for (size_t i = 0; i < n; i += 64) __builtin_prefetch((const void *)(p + i));
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
    uintptr_t ahead = (uintptr_t)w + AHEAD_BYTES, ahead_scales = (uintptr_t)scales + AHEAD_SCALES;
    uintptr_t ahead_biases = (uintptr_t)biases + AHEAD_SCALES;
    __m512 acc[FEW];

    UNROLL
    for (unsigned j = 0; j < n_tok; j++) acc[j] = _mm512_setzero_ps();
    for (size_t step = 0; step < n_whole; step++) {
        prefetch(ahead, 4 * step_bytes);
        prefetch(ahead_scales, 16 * size);
        prefetch(ahead_biases, 16 * size);
        ahead += 4 * step_bytes;
        ahead_scales += 16 * size;
        ahead_biases += 16 * size;
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

INLINE void few_tokens(scheme s, const mlxr_linear_ints *a, size_t begin, size_t end)
{
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

/* ---- many tokens: 16 rows unpacked to a panel, eight tokens over it at a time ---- */

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

enum { MANY = 12 }; /* tokens from which a panel is worth its making */

INLINE void linear(scheme s, const mlxr_linear_ints *a, size_t begin, size_t end, void *scratch)
{
    if (a->n_tokens < MANY)
        few_tokens(s, a, begin, end);
    else
        many_tokens(s, a, begin, end, scratch);
}

/* ---- activations ---- */

/* The largest magnitude among a group's values; NaN when one of them is no number. */
INLINE float most(const float *x, size_t n)
{
    __m512 max = _mm512_setzero_ps();
    __mmask16 none = 0;

    for (size_t i = 0; i < n; i += 16) {
        __m512 v = _mm512_loadu_ps(x + i);
        none |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
        max = _mm512_max_ps(max, _mm512_abs_ps(v));
    }
    return none ? NAN : _mm512_reduce_max_ps(max);
}

INLINE __m512i to_int16(const float *x, __m512 inverse)
{
    __m512i lo = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), inverse));
    __m512i hi = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + 16), inverse));
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtsepi32_epi16(lo)), _mm512_cvtsepi32_epi16(hi),
                              1);
}

/* A unit in its columns' order to the order of its layout. */
INLINE void reorder(int16_t *out, const __m512i v[4], mlxr_ints_order order)
{
    if (order == MLXR_INTS_NIBBLES) {
        uint16_t at[32];
        UNROLL
        for (unsigned i = 0; i < 32; i++) at[i] = (uint16_t)(4 * i % 64);
        for (unsigned m = 0; m < 4; m++) {
            __m512i index = _mm512_add_epi16(_mm512_loadu_si512(at), _mm512_set1_epi16((short)m));
            __m512i lo = _mm512_permutex2var_epi16(v[0], index, v[1]);
            __m512i hi = _mm512_permutex2var_epi16(v[2], index, v[3]);
            _mm512_storeu_si512(out + 32 * m, _mm512_mask_blend_epi16(0xffff0000u, lo, hi));
        }
    } else {
        __m512i a = _mm512_shuffle_i32x4(v[0], v[1], 0x44), b = _mm512_shuffle_i32x4(v[2], v[3], 0x44);
        __m512i c = _mm512_shuffle_i32x4(v[0], v[1], 0xee), d = _mm512_shuffle_i32x4(v[2], v[3], 0xee);
        _mm512_storeu_si512(out, _mm512_shuffle_i32x4(a, b, 0x88));
        _mm512_storeu_si512(out + 32, _mm512_shuffle_i32x4(a, b, 0xdd));
        _mm512_storeu_si512(out + 64, _mm512_shuffle_i32x4(c, d, 0x88));
        _mm512_storeu_si512(out + 96, _mm512_shuffle_i32x4(c, d, 0xdd));
    }
}

static void from_floats(const mlxr_ints *out, const float *x, size_t n_cols, unsigned group,
                        mlxr_ints_order order)
{
    const size_t n_blocks = n_cols / 32, per_group = group / 32;
    const size_t n_units = mlxr_ints_groups(n_cols, group) * group / MLXR_INTS_UNIT;
    __m512 inverse = _mm512_setzero_ps();
    float scale = 0;
    int32_t total = 0;

    for (size_t u = 0; u < n_units; u++) {
        __m512i v[4];
        for (size_t i = 0; i < 4; i++) {
            size_t block = u * 4 + i, g = block / per_group;
            if (block % per_group == 0) {
                scale = mlxr_ints_scale(block < n_blocks ? most(x + block * 32, group) : 0);
                inverse = _mm512_set1_ps(mlxr_ints_inverse(scale));
                total = 0;
            }
            v[i] = block < n_blocks ? to_int16(x + block * 32, inverse) : _mm512_setzero_si512();
            total += _mm512_reduce_add_epi32(_mm512_madd_epi16(v[i], _mm512_set1_epi16(1)));
            if (block % per_group == per_group - 1) {
                _mm_storeu_ps(out->scales + g * 4, _mm_set1_ps(scale));
                _mm_storeu_ps(out->sums + g * 4, _mm_set1_ps(scale * (float)total));
            }
        }
        reorder(out->x + u * MLXR_INTS_UNIT, v, order);
    }
}

#define INTS_KERNEL(name, bits, group, dtype)                                            \
    static void name(const mlxr_linear_ints *a, size_t begin, size_t end, void *scratch) \
    {                                                                                    \
        linear((scheme){bits, group, dtype}, a, begin, end, scratch);                    \
    }
#define INTS_GROUPS(bits, suffix, dtype)                      \
    INTS_KERNEL(affine_##bits##_32_##suffix, bits, 32, dtype) \
    INTS_KERNEL(affine_##bits##_64_##suffix, bits, 64, dtype) \
    INTS_KERNEL(affine_##bits##_128_##suffix, bits, 128, dtype)
#define INTS_AFFINE(bits)              \
    INTS_GROUPS(bits, f16, MLXR_F16)   \
    INTS_GROUPS(bits, bf16, MLXR_BF16) \
    INTS_GROUPS(bits, f32, MLXR_F32)
INTS_AFFINE(2)
INTS_AFFINE(3)
INTS_AFFINE(4)
INTS_AFFINE(5)
INTS_AFFINE(6)
INTS_AFFINE(8)
INTS_KERNEL(mxfp4, 4, 32, MLXR_U8)

static mlxr_ints_kernel find(const mlxr_matrix *m)
{
#define ONE(bits, group, suffix, dtype)                        \
    {                                                          \
        bits, group, dtype, affine_##bits##_##group##_##suffix \
    }
#define THREE(bits, suffix, dtype) \
    ONE(bits, 32, suffix, dtype), ONE(bits, 64, suffix, dtype), ONE(bits, 128, suffix, dtype)
#define NINE(bits) THREE(bits, f16, MLXR_F16), THREE(bits, bf16, MLXR_BF16), THREE(bits, f32, MLXR_F32)
    static const struct {
        unsigned bits, group;
        mlxr_dtype dtype;
        mlxr_linear_ints_fn fn;
    } all[] = {NINE(2), NINE(3), NINE(4), NINE(5), NINE(6), NINE(8)};

    if (m->quant.mode == MLXR_QUANT_MXFP4) return (mlxr_ints_kernel){mxfp4, MLXR_INTS_NIBBLES, 32};
    for (size_t i = 0; i < MLXR_COUNT(all) && m->quant.mode == MLXR_QUANT_AFFINE; i++) {
        if (all[i].bits == m->quant.bits && all[i].group == m->quant.group_size && all[i].dtype == m->dtype)
            return (mlxr_ints_kernel){all[i].fn, all[i].bits == 4 ? MLXR_INTS_NIBBLES : MLXR_INTS_OCTETS,
                                      all[i].group};
    }
    return (mlxr_ints_kernel){0};
#undef ONE
#undef THREE
#undef NINE
}

const mlxr_ints_kernels mlxr_ints_vnni = {find, from_floats};
