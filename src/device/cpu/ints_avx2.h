/* What the integer kernels of AVX2 share: how a scheme's rows are read. See ints.h for what is computed and in which order.
 *
 * A pair of blocks, 64 weights of a row, becomes four vectors of 16 int16 whose two 128-bit lanes are the two blocks: half
 * of a unit of AVX-512's, so that both levels read the same rows of activations. */
#ifndef MLXR_CPU_INTS_AVX2_H
#define MLXR_CPU_INTS_AVX2_H

#include <immintrin.h>

#include "device/cpu/ints_schemes.h"

enum { PAIR = 64 }; /* columns */

/* sum + a . b, pair by pair. */
INLINE __m256i dot_add(__m256i sum, __m256i a, __m256i b)
{
#ifdef __AVXVNNI__
    return _mm256_dpwssd_avx_epi32(sum, a, b);
#else
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
    /* Compilers would add all products at the end, and keep them in memory until then. */
    __asm__("" : "+x"(sum));
    return sum;
#endif
}

INLINE __m256i load_256(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

INLINE __m128i load_128(const void *p)
{
    return _mm_loadu_si128((const __m128i *)p);
}

INLINE __m256i load_lanes(const uint8_t *lo, const uint8_t *hi)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(load_128(lo)), load_128(hi), 1);
}

/* ---- weights: a pair of blocks, 8 * bits bytes from p, to four vectors of int16 ---- */

INLINE void unpack4(__m256i w[4], const uint8_t *p)
{
    const __m256i low = _mm256_set1_epi16(15);
    __m256i v = load_256(p);

    w[0] = _mm256_and_si256(v, low);
    w[1] = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
    w[2] = _mm256_and_si256(_mm256_srli_epi16(v, 8), low);
    w[3] = _mm256_srli_epi16(v, 12);
}

/* Twice the values of e2m1. Looked up in the upper byte, so that the shift down brings the sign. */
INLINE void unpack_fp4(__m256i w[4], const uint8_t *p)
{
    const __m256i table = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12));
    const __m256i upper = _mm256_set1_epi16(0x0f00);
    __m256i v = load_256(p);

    w[0] = _mm256_and_si256(_mm256_slli_epi16(v, 8), upper);
    w[1] = _mm256_and_si256(_mm256_slli_epi16(v, 4), upper);
    w[2] = _mm256_and_si256(v, upper);
    w[3] = _mm256_and_si256(_mm256_srli_epi16(v, 4), upper);
    UNROLL
    for (unsigned m = 0; m < 4; m++) w[m] = _mm256_srai_epi16(_mm256_shuffle_epi8(table, w[m]), 8);
}

INLINE void unpack8(__m256i w[4], const uint8_t *p)
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i lo = load_lanes(p, p + 32), hi = load_lanes(p + 16, p + 48);

    w[0] = _mm256_unpacklo_epi8(lo, zero);
    w[1] = _mm256_unpackhi_epi8(lo, zero);
    w[2] = _mm256_unpacklo_epi8(hi, zero);
    w[3] = _mm256_unpackhi_epi8(hi, zero);
}

/* Other widths, an octet of each block to a vector: a value's two bytes to its int16, then up and down to leave its bits. */
INLINE void unpack_bits(__m256i w[4], unsigned bits, const uint8_t *p)
{
    const unsigned block = 4 * bits;
    uint16_t up[16];
    __m256i part[2];

    /* Where each lane is loaded, so that nothing past the pair is read: of blocks of 16 bytes and more the second
     * time so that it ends with the block. */
    unsigned from[2][2] = {{0, bits == 2 ? 0 : bits == 3 ? 8 : block}, {0, 0}};
    from[1][0] = bits < 4 ? from[0][0] : block - 16;
    from[1][1] = bits < 4 ? from[0][1] : 2 * block - 16;

    UNROLL
    for (unsigned i = 0; i < 16; i++) up[i] = (uint16_t)(1u << (16 - bits - bits * (i % 8) % 8));
    part[0] = load_lanes(p + from[0][0], p + from[0][1]);
    part[1] = bits < 4 ? part[0] : load_lanes(p + from[1][0], p + from[1][1]);
    UNROLL
    for (unsigned m = 0; m < 4; m++) {
        uint8_t at[32];
        __m256i v;
        UNROLL
        for (unsigned i = 0; i < 32; i++) {
            unsigned byte = i / 16 * block + m * bits + bits * (i / 2 % 8) / 8 + i % 2 - from[m / 2][i / 16];
            at[i] = (uint8_t)(byte < 16 ? byte : 0x80);
        }
        v = _mm256_shuffle_epi8(part[m / 2], load_256(at));
        w[m] = _mm256_srli_epi16(_mm256_mullo_epi16(v, load_256(up)), (int)(16 - bits));
    }
}

INLINE void unpack(scheme s, __m256i w[4], const uint8_t *p)
{
    if (s.dtype == MLXR_U8)
        unpack_fp4(w, p);
    else if (s.bits == 4)
        unpack4(w, p);
    else if (s.bits == 8)
        unpack8(w, p);
    else
        unpack_bits(w, s.bits, p);
}

/* ---- scales of four rows and four groups: lane 4 (c % 2) + r of vector c / 2 ---- */

INLINE size_t scale_size(scheme s)
{
    return s.dtype == MLXR_F32 ? 4 : s.dtype == MLXR_U8 ? 1 : 2;
}

/* e8m0, halved because the values are doubled: 2^(e - 128), a denormal for e of 0 and 1, infinity for 255. */
INLINE __m256 from_e8m0(__m128i bytes)
{
    __m256i e = _mm256_cvtepu8_epi32(bytes);
    __m256i f = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    __m256i small = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e);
    __m256i none = _mm256_cmpeq_epi32(e, _mm256_set1_epi32(255));
    f = _mm256_blendv_epi8(f, _mm256_sllv_epi32(_mm256_set1_epi32(1 << 21), e), small);
    return _mm256_castsi256_ps(_mm256_blendv_epi8(f, _mm256_set1_epi32(0x7f800000), none));
}

/* n of the four groups are there, zeros for the others: where there are fewer, what is loaded ends with the last of them and
 * begins before p. `next` bytes from row to row. */
INLINE void load_scales(__m256 out[2], const uint8_t *p, size_t next, size_t n, mlxr_dtype dtype)
{
    __m128i r[4], lo, hi;

    if (dtype == MLXR_F32) {
        const __m128i there = _mm_cmpgt_epi32(_mm_set1_epi32((int)n), _mm_setr_epi32(0, 1, 2, 3));
        __m128 v[4];
        UNROLL
        for (unsigned i = 0; i < 4; i++) {
            const float *at = (const float *)(const void *)(p + i * next);
            v[i] = n == 4 ? _mm_loadu_ps(at) : _mm_maskload_ps(at, there);
        }
        _MM_TRANSPOSE4_PS(v[0], v[1], v[2], v[3]);
        out[0] = _mm256_set_m128(v[1], v[0]);
        out[1] = _mm256_set_m128(v[3], v[2]);
        return;
    }
    if (dtype == MLXR_U8) {
        UNROLL
        for (unsigned i = 0; i < 4; i++) {
            uint32_t four;
            memcpy(&four, p + i * next - (4 - n), sizeof four);
            r[i] = _mm_cvtsi32_si128((int)(four >> 8 * (4 - n)));
        }
        lo = _mm_unpacklo_epi16(_mm_unpacklo_epi8(r[0], r[1]), _mm_unpacklo_epi8(r[2], r[3]));
        out[0] = from_e8m0(lo);
        out[1] = from_e8m0(_mm_srli_si128(lo, 8));
        return;
    }
    UNROLL
    for (unsigned i = 0; i < 4; i++) {
        r[i] = _mm_loadl_epi64((const __m128i *)(const void *)(p + i * next - 2 * (4 - n)));
        if (n < 4) r[i] = _mm_srl_epi64(r[i], _mm_cvtsi32_si128((int)(16 * (4 - n))));
    }
    lo = _mm_unpacklo_epi16(r[0], r[1]);
    hi = _mm_unpacklo_epi16(r[2], r[3]);
    r[0] = _mm_unpacklo_epi32(lo, hi);
    r[1] = _mm_unpackhi_epi32(lo, hi);
    UNROLL
    for (unsigned i = 0; i < 2; i++) {
        out[i] = dtype == MLXR_F16 ? _mm256_cvtph_ps(r[i])
                                   : _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(r[i]), 16));
    }
}

/* The same where nothing before p may be read either: the first n groups of a row. */
INLINE void copy_scales(__m256 out[2], const uint8_t *p, size_t next, size_t n, mlxr_dtype dtype)
{
    const size_t size = dtype == MLXR_F32 ? 4 : dtype == MLXR_U8 ? 1 : 2;
    uint8_t rows[4][16] = {{0}};

    for (size_t r = 0; r < 4; r++) memcpy(rows[r], p + r * next, n * size);
    load_scales(out, rows[0], sizeof rows[0], 4, dtype);
}

#define JOIN_(a, b)    a##b
#define JOIN(a, b)     JOIN_(a, b)
#define EXPORTED(name) JOIN(JOIN(mlxr_ints_, MLXR_SIMD), _##name)

/* NULL: none for how m is stored. */
mlxr_linear_ints_fn mlxr_ints_avx2_few(const mlxr_matrix *m);
mlxr_linear_ints_fn mlxr_ints_avx2_many(const mlxr_matrix *m);
mlxr_linear_ints_fn mlxr_ints_avxvnni_few(const mlxr_matrix *m);
mlxr_linear_ints_fn mlxr_ints_avxvnni_many(const mlxr_matrix *m);

#endif
