/* Vector primitives for AVX2, FMA and F16C: eight lanes. */
#ifndef MLXR_CPU_SIMD_AVX2_H
#define MLXR_CPU_SIMD_AVX2_H

#include <immintrin.h>

#include "device/cpu/simd.h"

enum { V_W = 8 };
/* Tokens of the linear kernel's tile: 4 * V_TILE sums, V_TILE values and one weight fit the registers. */
#define V_TILE 3
typedef __m256 vf;
typedef __m128 v4;
/* Codes of up to 3 bits index a register of weights; wider ones are converted and scaled. */
typedef struct v_book {
    __m256 scale, bias, table;
} v_book;

INLINE vf v_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

INLINE void v_store(float *p, vf v)
{
    _mm256_storeu_ps(p, v);
}

INLINE __m256i v_first(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

INLINE vf v_load_n(const float *p, size_t n)
{
    return _mm256_maskload_ps(p, v_first(n));
}

INLINE void v_store_n(float *p, vf v, size_t n)
{
    _mm256_maskstore_ps(p, v_first(n), v);
}

INLINE void v4_store_n(float *p, v4 v, size_t n)
{
    if (n == 4) {
        _mm_storeu_ps(p, v);
    } else {
        _mm_maskstore_ps(p, _mm_cmpgt_epi32(_mm_set1_epi32((int)n), _mm_setr_epi32(0, 1, 2, 3)), v);
    }
}

INLINE vf v_set1(float f)
{
    return _mm256_set1_ps(f);
}

INLINE vf v_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

/* b where either is NaN. */
INLINE vf v_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}

INLINE vf v_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}

INLINE vf v_if_less(vf a, vf b, vf yes, vf no)
{
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}

INLINE float v_reduce_add(vf v)
{
    __m128 s = _mm256_castps256_ps128(v) + _mm256_extractf128_ps(v, 1);
    s = s + _mm_movehl_ps(s, s);
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}

INLINE float v_reduce_max(vf v)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_shuffle_ps(s, s, 1)));
}

/* Adds lanes (i, i + 4), then (i, i + 2), then the last two: v_reduce_add of each. */
INLINE v4 v_reduce4(vf a, vf b, vf c, vf d)
{
    __m256 ab = _mm256_permute2f128_ps(a, b, 0x20) + _mm256_permute2f128_ps(a, b, 0x31);
    __m256 cd = _mm256_permute2f128_ps(c, d, 0x20) + _mm256_permute2f128_ps(c, d, 0x31);
    __m256 s = _mm256_shuffle_ps(ab, cd, 0x44) + _mm256_shuffle_ps(ab, cd, 0xee); /* [a a c c | b b d d] */
    s = s + _mm256_permute_ps(s, 0xb1);
    return _mm_blend_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1), 0xa);
}

INLINE vf v_exp(vf x)
{
    vf y = v_min(v_set1(EXP_MOST), v_max(v_set1(EXP_LEAST), x)), n, r, p;
    n = _mm256_round_ps(y * v_set1(EXP_LOG2E), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    r = _mm256_fnmadd_ps(n, v_set1(EXP_LN2_HI), y);
    r = _mm256_fnmadd_ps(n, v_set1(EXP_LN2_LO), r);
    p = v_set1(1.0f / 5040);
    p = v_fma(p, r, v_set1(1.0f / 720));
    p = v_fma(p, r, v_set1(1.0f / 120));
    p = v_fma(p, r, v_set1(1.0f / 24));
    p = v_fma(p, r, v_set1(1.0f / 6));
    p = v_fma(p, r, v_set1(0.5f));
    p = v_fma(p, r * r, r) + v_set1(1.0f);
    p = _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23)));
    return _mm256_andnot_ps(_mm256_cmp_ps(x, v_set1(EXP_LEAST), _CMP_LT_OQ), p);
}

INLINE vf v_from_f16(const uint8_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}

INLINE vf v_from_i8(const uint8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}

/* Nearest, ties to even. */
INLINE void v_to_f16(uint8_t *p, vf v)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

INLINE vf v_from_bf16(const uint8_t *p)
{
    __m256i u = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(u, 16));
}

INLINE vf v_from_e8m0(const uint8_t *p)
{
    __m256i u = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
    return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_slli_epi32(u, 23), _mm256_set1_epi32(0x400000)));
}

/* e4m3 in 16 bits as halves, whose exponent has one bit more and a bias of 15 for 7, so that they are 256 times too
 * small. 0x7f carries into that bit and becomes NaN. */
INLINE __m256i v_halves(__m128i codes)
{
    __m256i h = _mm256_slli_epi16(_mm256_cvtepi8_epi16(codes), 7), nan;
    h = _mm256_and_si256(h, _mm256_set1_epi16((short)0xbf80));
    nan = _mm256_and_si256(_mm256_add_epi16(h, _mm256_set1_epi16(0x80)), _mm256_set1_epi16(0x4000));
    return _mm256_or_si256(h, nan);
}

INLINE vf v_from_e4m3(const uint8_t *p)
{
    __m256i h = v_halves(_mm_loadl_epi64((const __m128i *)(const void *)p));
    return _mm256_cvtph_ps(_mm256_castsi256_si128(h)) * v_set1(256.0f);
}

INLINE v_book v_book_make(unsigned bits, float scale, float bias)
{
    v_book b = {_mm256_set1_ps(scale), _mm256_set1_ps(bias), _mm256_setzero_ps()};
    if (bits == 2) b.table = v_fma(_mm256_setr_ps(0, 1, 2, 3, 0, 1, 2, 3), b.scale, b.bias);
    if (bits == 3) b.table = v_fma(_mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7), b.scale, b.bias);
    return b;
}

/* MLXR_CPU_CHUNK codes at p to weights. Eight codes come from one 32-bit window, or each half from its own, that
 * stays inside the chunk; a shift by lane brings a code down, with the next ones still above it. */
INLINE void v_unpack(vf *w, unsigned bits, const uint8_t *p, v_book book)
{
    const int b = (int)bits;
    UNROLL
    for (unsigned i = 0; i < MLXR_CPU_CHUNK / V_W; i++) {
        __m256i q;
        if (bits == 8) {
            q = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p + 8 * i)));
        } else if (bits <= 4) {
            int bit = 8 * b * (int)i, last = 4 * b - 4, at = bit / 8 < last ? bit / 8 : last;
            int s = bit - 8 * at;
            q = _mm256_set1_epi32((int)load_u32(p + at));
            q = _mm256_srlv_epi32(q, _mm256_setr_epi32(s, s + b, s + 2 * b, s + 3 * b, s + 4 * b, s + 5 * b,
                                                       s + 6 * b, s + 7 * b));
        } else {
            int bit = 8 * b * (int)i, last = 4 * b - 4, bit2 = bit + 4 * b;
            int at = bit / 8 < last ? bit / 8 : last, at2 = bit2 / 8 < last ? bit2 / 8 : last;
            int s = bit - 8 * at, s2 = bit2 - 8 * at2;
            q = _mm256_blend_epi32(_mm256_set1_epi32((int)load_u32(p + at)),
                                   _mm256_set1_epi32((int)load_u32(p + at2)), 0xf0);
            q = _mm256_srlv_epi32(
                q, _mm256_setr_epi32(s, s + b, s + 2 * b, s + 3 * b, s2, s2 + b, s2 + 2 * b, s2 + 3 * b));
        }
        if (bits <= 3) {
            w[i] = _mm256_permutevar8x32_ps(book.table, q); /* looks at 3 bits of the index */
        } else {
            if (bits != 8) q = _mm256_and_si256(q, _mm256_set1_epi32((1 << b) - 1));
            w[i] = v_fma(_mm256_cvtepi32_ps(q), book.scale, book.bias);
        }
    }
}

/* MLXR_CPU_CHUNK values of e2m1 at p to weights: the first 16 times `first`, the others times `second`. Three bits
 * look the size up, the fourth is the sign. */
INLINE void v_unpack_e2m1(vf *w, const uint8_t *p, float first, float second)
{
    const __m256 sizes = _mm256_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f);
    const __m256i shifts = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    const __m256i sign = _mm256_set1_epi32((int)0x80000000);
    UNROLL
    for (unsigned i = 0; i < MLXR_CPU_CHUNK / V_W; i++) {
        __m256i q = _mm256_srlv_epi32(_mm256_set1_epi32((int)load_u32(p + 4 * i)), shifts);
        w[i] = _mm256_xor_ps(_mm256_permutevar8x32_ps(sizes * v_set1(i < 2 ? first : second), q),
                             _mm256_castsi256_ps(_mm256_and_si256(_mm256_slli_epi32(q, 28), sign)));
    }
}

INLINE void v_unpack_e4m3(vf *w, const uint8_t *p, float scale)
{
    UNROLL
    for (unsigned i = 0; i < MLXR_CPU_CHUNK / V_W; i += 2) {
        __m256i h = v_halves(_mm_loadu_si128((const __m128i *)(const void *)(p + V_W * i)));
        w[i] = _mm256_cvtph_ps(_mm256_castsi256_si128(h)) * v_set1(256.0f) * v_set1(scale);
        w[i + 1] = _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1)) * v_set1(256.0f) * v_set1(scale);
    }
}

#endif
