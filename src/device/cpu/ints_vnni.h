/* What the integer kernels for AVX-512 VNNI share: how a scheme's rows are read. See ints.h for what is computed and in which
 * order.
 *
 * A unit of 128 weights of a row becomes four vectors of 32 int16, the i-th 128-bit lane of each from the i-th block of
 * 32 columns. */
#ifndef MLXR_CPU_INTS_VNNI_H
#define MLXR_CPU_INTS_VNNI_H

#include <immintrin.h>

#include "device/cpu/ints_schemes.h"

/* ---- weights: 128 columns from p to four vectors of int16 ---- */

/* n_bytes: what of the unit's bytes is there; the rest are zeros. */
INLINE __m512i load_masked(const uint8_t *p, size_t n_bytes)
{
    return _mm512_maskz_loadu_epi8(n_bytes >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << n_bytes) - 1, p);
}

INLINE void unpack4(__m512i w[4], __m512i v)
{
    const __m512i low = _mm512_set1_epi16(15);

    w[0] = _mm512_and_si512(v, low);
    w[1] = _mm512_and_si512(_mm512_srli_epi16(v, 4), low);
    w[2] = _mm512_and_si512(_mm512_srli_epi16(v, 8), low);
    w[3] = _mm512_srli_epi16(v, 12);
}

/* Twice the values of e2m1. */
INLINE void unpack_fp4(__m512i w[4], __m512i v)
{
    static const int16_t values[32] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12,
                                       0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    const __m512i table = _mm512_loadu_si512(values);

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

/* Of four bits a value: each int16's four. */
INLINE void unpack_vector(scheme s, __m512i w[4], __m512i v)
{
    if (s.dtype == MLXR_U8)
        unpack_fp4(w, v);
    else
        unpack4(w, v);
}

INLINE void unpack(scheme s, __m512i w[4], const uint8_t *p, size_t n_bytes, bool whole)
{
    if (s.bits == 4)
        unpack_vector(s, w, whole ? _mm512_loadu_si512(p) : load_masked(p, n_bytes));
    else
        unpack_bits(w, s.bits, p, n_bytes, whole);
}

/* ---- scales ---- */

/* e8m0, halved because the values are doubled: 2^(e - 128), a denormal for e of 0 and 1, infinity for 255. */
INLINE __m512 from_e8m0(__m512i e)
{
    __m512i f = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    f = _mm512_mask_sllv_epi32(f, _mm512_cmplt_epu32_mask(e, _mm512_set1_epi32(2)),
                               _mm512_set1_epi32(1 << 21), e);
    return _mm512_castsi512_ps(_mm512_mask_mov_epi32(f, _mm512_cmpeq_epu32_mask(e, _mm512_set1_epi32(255)),
                                                     _mm512_set1_epi32(0x7f800000)));
}

/* n <= 16 of one row, what is behind them for nothing. */
INLINE __m512 load_row_scales(const uint8_t *p, size_t n, mlxr_dtype dtype)
{
    const __mmask16 there = (__mmask16)((1u << n) - 1);

    if (dtype == MLXR_F32) return _mm512_maskz_loadu_ps(there, p);
    if (dtype == MLXR_F16) return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(there, p));
    if (dtype == MLXR_BF16)
        return _mm512_castsi512_ps(
            _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, p)), 16));
    return from_e8m0(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(there, p)));
}

/* Those of four rows and four groups: lane 4 c + r. */

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
        __m128i r[4];
        UNROLL
        for (unsigned i = 0; i < 4; i++) r[i] = _mm_maskz_loadu_epi8(there, p + i * next);
        return across(from_e8m0(_mm512_cvtepu8_epi32(
            _mm_unpacklo_epi64(_mm_unpacklo_epi32(r[0], r[1]), _mm_unpacklo_epi32(r[2], r[3])))));
    }
}

/* ---- what the kernels for few and for some tokens share ---- */

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

/* NULL: none for how m is stored. */
mlxr_linear_ints_fn mlxr_ints_vnni_few(const mlxr_matrix *m);
mlxr_linear_ints_fn mlxr_ints_vnni_some(const mlxr_matrix *m);
mlxr_linear_ints_fn mlxr_ints_vnni_many(const mlxr_matrix *m);

#endif
