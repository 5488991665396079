/* Vector primitives for AVX-512 F, BW, DQ, VL and VBMI (Ice Lake, Zen 4 and later): sixteen lanes. */
#ifndef MLXR_CPU_SIMD_AVX512_H
#define MLXR_CPU_SIMD_AVX512_H

#include <immintrin.h>

#include "device/cpu/simd.h"

enum { V_W = 16 };
/* Tokens of the linear kernel's tile: 4 * V_TILE sums, V_TILE values and one weight fit the registers. */
#define V_TILE 6
typedef __m512 vf;
typedef __m128 v4;
/* Codes of up to 5 bits index one or two registers of weights; wider ones are converted and scaled. */
typedef struct v_book {
    __m512 scale, bias, table, table_hi;
} v_book;

INLINE vf v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

INLINE void v_store(float *p, vf v)
{
    _mm512_storeu_ps(p, v);
}

INLINE vf v_load_n(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}

INLINE void v_store_n(float *p, vf v, size_t n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v);
}

INLINE void v4_store_n(float *p, v4 v, size_t n)
{
    _mm_mask_storeu_ps(p, (__mmask8)((1u << n) - 1), v);
}

INLINE vf v_set1(float f)
{
    return _mm512_set1_ps(f);
}

INLINE vf v_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

/* b where either is NaN. */
INLINE vf v_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

INLINE vf v_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}

INLINE vf v_if_less(vf a, vf b, vf yes, vf no)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}

INLINE float v_reduce_max(vf v)
{
    return _mm512_reduce_max_ps(v);
}

/* Adds lanes (i, i + 8), then (i, i + 4), (i, i + 2), then the last two: one tree for each of the four. */
INLINE v4 v_reduce4(vf a, vf b, vf c, vf d)
{
    const __m512i gather = _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
    __m512 ab = _mm512_shuffle_f32x4(a, b, 0x44) + _mm512_shuffle_f32x4(a, b, 0xee);
    __m512 cd = _mm512_shuffle_f32x4(c, d, 0x44) + _mm512_shuffle_f32x4(c, d, 0xee);
    __m512 s = _mm512_shuffle_f32x4(ab, cd, 0x88) + _mm512_shuffle_f32x4(ab, cd, 0xdd);
    s = s + _mm512_permute_ps(s, 0x4e);
    s = s + _mm512_permute_ps(s, 0xb1);
    return _mm512_castps512_ps128(_mm512_permutexvar_ps(gather, s));
}

INLINE float v_reduce_add(vf v)
{
    return _mm_cvtss_f32(v_reduce4(v, v, v, v));
}

INLINE vf v_exp(vf x)
{
    vf y = v_min(v_set1(EXP_MOST), v_max(v_set1(EXP_LEAST), x)), n, r, p;
    n = _mm512_roundscale_ps(y * v_set1(EXP_LOG2E), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    r = _mm512_fnmadd_ps(n, v_set1(EXP_LN2_HI), y);
    r = _mm512_fnmadd_ps(n, v_set1(EXP_LN2_LO), r);
    p = v_set1(1.0f / 5040);
    p = v_fma(p, r, v_set1(1.0f / 720));
    p = v_fma(p, r, v_set1(1.0f / 120));
    p = v_fma(p, r, v_set1(1.0f / 24));
    p = v_fma(p, r, v_set1(1.0f / 6));
    p = v_fma(p, r, v_set1(0.5f));
    p = v_fma(p, r * r, r) + v_set1(1.0f);
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, v_set1(EXP_LEAST), _CMP_NLT_UQ), p, n);
}

INLINE vf v_from_f16(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

INLINE vf v_from_i8(const uint8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}

/* Nearest, ties to even. */
INLINE void v_to_f16(uint8_t *p, vf v)
{
    _mm256_storeu_si256((__m256i *)(void *)p,
                        _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

INLINE vf v_from_bf16(const uint8_t *p)
{
    __m512i u = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(u, 16));
}

INLINE vf v_from_e8m0(const uint8_t *p)
{
    __m512i u = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
    return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_slli_epi32(u, 23), _mm512_set1_epi32(0x400000)));
}

/* As halves, whose exponent has one bit more and a bias of 15 for 7. 0x7f carries into that bit and becomes NaN. */
INLINE vf v_from_e4m3(const uint8_t *p)
{
    __m256i h = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p)), nan;
    h = _mm256_and_si256(_mm256_slli_epi16(h, 7), _mm256_set1_epi16((short)0xbf80));
    nan = _mm256_and_si256(_mm256_add_epi16(h, _mm256_set1_epi16(0x80)), _mm256_set1_epi16(0x4000));
    return _mm512_cvtph_ps(_mm256_or_si256(h, nan)) * v_set1(256.0f);
}

INLINE v_book v_book_make(unsigned bits, float scale, float bias)
{
    v_book b = {_mm512_set1_ps(scale), _mm512_set1_ps(bias), _mm512_setzero_ps(), _mm512_setzero_ps()};
    if (bits == 2) {
        b.table = v_fma(_mm512_setr_ps(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3), b.scale, b.bias);
    } else if (bits == 3) {
        b.table = v_fma(_mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7), b.scale, b.bias);
    } else if (bits <= 5) {
        b.table = v_fma(_mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), b.scale,
                        b.bias);
        if (bits == 5) {
            b.table_hi = v_fma(_mm512_setr_ps(16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31),
                               b.scale, b.bias);
        }
    }
    return b;
}

/* A control of vpmultishiftqb: bit offset `first` + bits * k into byte 0 of the k-th 32-bit lane, counted from
 * `second` again in the upper half. */
INLINE __m512i v_offsets(unsigned bits, unsigned first, unsigned second)
{
    const long long b = bits, lo = first, hi = second;
#define PAIR(base, k) ((base) + b * 2 * (k) + (((base) + b * (2 * (k) + 1)) << 32))
    return _mm512_setr_epi64(PAIR(lo, 0), PAIR(lo, 1), PAIR(lo, 2), PAIR(lo, 3), PAIR(hi, 0), PAIR(hi, 1),
                             PAIR(hi, 2), PAIR(hi, 3));
#undef PAIR
}

/* MLXR_CPU_CHUNK codes at p to weights. Sixteen codes come from one 64-bit window, or eight from each of two, that
 * stay inside the chunk; one multishift puts each code's byte into its lane, with other bits above it. */
INLINE void v_unpack(vf *w, unsigned bits, const uint8_t *p, v_book book)
{
    UNROLL
    for (unsigned i = 0; i < MLXR_CPU_CHUNK / V_W; i++) {
        __m512i q;
        if (bits == 8) {
            q = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i)));
        } else if (bits <= 4) {
            unsigned start = 2 * bits * i, last = 4 * bits - 8, at = start < last ? start : last;
            unsigned first = 8 * (start - at);
            q = _mm512_multishift_epi64_epi8(v_offsets(bits, first, first + 8 * bits),
                                             _mm512_set1_epi64((long long)load_u64(p + at)));
        } else {
            unsigned start = 2 * bits * i, start2 = start + bits, last = 4 * bits - 8;
            unsigned at = start < last ? start : last, at2 = start2 < last ? start2 : last;
            q = _mm512_mask_set1_epi64(_mm512_set1_epi64((long long)load_u64(p + at)), 0xf0,
                                       (long long)load_u64(p + at2));
            q = _mm512_multishift_epi64_epi8(v_offsets(bits, 8 * (start - at), 8 * (start2 - at2)), q);
        }
        if (bits <= 4) {
            w[i] = _mm512_permutexvar_ps(q, book.table); /* looks at 4 bits of the index */
        } else if (bits == 5) {
            w[i] = _mm512_permutex2var_ps(book.table, q, book.table_hi); /* at 5 */
        } else {
            if (bits == 6) q = _mm512_and_si512(q, _mm512_set1_epi32(63));
            w[i] = v_fma(_mm512_cvtepi32_ps(q), book.scale, book.bias);
        }
    }
}

/* MLXR_CPU_CHUNK values of e2m1 at p to weights: the first 16 times `first`, the others times `second`. */
INLINE void v_unpack_e2m1(vf *w, const uint8_t *p, float first, float second)
{
    const __m512 values = _mm512_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f, -0.0f, -0.5f, -1.0f,
                                         -1.5f, -2.0f, -3.0f, -4.0f, -6.0f);
    const __m512i offsets = v_offsets(4, 0, 32);
    w[0] = _mm512_permutexvar_ps(
        _mm512_multishift_epi64_epi8(offsets, _mm512_set1_epi64((long long)load_u64(p))),
        values * v_set1(first));
    w[1] = _mm512_permutexvar_ps(
        _mm512_multishift_epi64_epi8(offsets, _mm512_set1_epi64((long long)load_u64(p + 8))),
        values * v_set1(second));
}

/* The two bytes of e4m3 as bf16, by code without the sign: the high ones, then the low ones. */
static const uint8_t e4m3_bf16[2][128] = {
    {0x00, 0x3b, 0x3b, 0x3b, 0x3c, 0x3c, 0x3c, 0x3c, 0x3c, 0x3c, 0x3c, 0x3c, 0x3c, 0x3c, 0x3c, 0x3c,
     0x3d, 0x3d, 0x3d, 0x3d, 0x3d, 0x3d, 0x3d, 0x3d, 0x3d, 0x3d, 0x3d, 0x3d, 0x3d, 0x3d, 0x3d, 0x3d,
     0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e,
     0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f,
     0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40,
     0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41,
     0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42,
     0x43, 0x43, 0x43, 0x43, 0x43, 0x43, 0x43, 0x43, 0x43, 0x43, 0x43, 0x43, 0x43, 0x43, 0x43, 0x7f},
    {0x00, 0x00, 0x80, 0xc0, 0x00, 0x20, 0x40, 0x60, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0, 0xe0, 0xf0,
     0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0, 0xe0, 0xf0,
     0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0, 0xe0, 0xf0,
     0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0, 0xe0, 0xf0,
     0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0, 0xe0, 0xf0,
     0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0, 0xe0, 0xf0,
     0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0, 0xe0, 0xf0,
     0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0, 0xe0, 0xc0},
};

/* MLXR_CPU_CHUNK values of e4m3 at p to weights. Every 32-bit lane gets the codes of its two weights, each in both
 * bytes of a half, and the bytes of both as bf16 are looked up: half the work of going through f16. */
INLINE void v_unpack_e4m3(vf *w, const uint8_t *p, float scale)
{
#define PAIR(i) 0x10100000 + 0x01010101 * (i)
    const __m512i spread = _mm512_setr_epi32(PAIR(0), PAIR(1), PAIR(2), PAIR(3), PAIR(4), PAIR(5), PAIR(6),
                                             PAIR(7), PAIR(8), PAIR(9), PAIR(10), PAIR(11), PAIR(12),
                                             PAIR(13), PAIR(14), PAIR(15));
#undef PAIR
    __m512i c = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)p)), high, low;

    c = _mm512_permutexvar_epi8(spread, c);
    high = _mm512_permutex2var_epi8(_mm512_loadu_si512(e4m3_bf16[0]), c,
                                    _mm512_loadu_si512(e4m3_bf16[0] + 64));
    low = _mm512_permutex2var_epi8(_mm512_loadu_si512(e4m3_bf16[1]), c,
                                   _mm512_loadu_si512(e4m3_bf16[1] + 64));
    high = _mm512_mask_blend_epi8(0xaaaaaaaaaaaaaaaa, low, high);
    high = _mm512_ternarylogic_epi32(high, c, _mm512_set1_epi32((int)0x80008000), 0xf8); /* or (c and sign) */
    w[0] = _mm512_castsi512_ps(_mm512_slli_epi32(high, 16)) * v_set1(scale);
    w[1] = _mm512_castsi512_ps(_mm512_and_si512(high, _mm512_set1_epi32((int)0xffff0000))) * v_set1(scale);
}

#endif
