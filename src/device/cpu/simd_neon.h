/* Vector primitives for NEON (every 64-bit ARM): four lanes. */
#ifndef MLXR_CPU_SIMD_NEON_H
#define MLXR_CPU_SIMD_NEON_H

#include "device/cpu/codes_neon.h"

enum { V_W = 4 };
/* Tokens of the linear kernel's tile: 4 * V_TILE sums, V_TILE values and one weight fit the registers. */
#define V_TILE 6
typedef float32x4_t vf;
typedef float32x4_t v4;
/* scale: 2^24 of it, see v_unpack. */
typedef struct v_book {
    vf scale, bias;
} v_book;

INLINE vf v_load(const float *p)
{
    return vld1q_f32(p);
}

INLINE void v_store(float *p, vf v)
{
    vst1q_f32(p, v);
}

INLINE vf v_load_n(const float *p, size_t n)
{
    const vf zeros = vdupq_n_f32(0.0f);
    switch (n) {
    case 0: return zeros;
    case 1: return vld1q_lane_f32(p, zeros, 0);
    case 2: return vcombine_f32(vld1_f32(p), vdup_n_f32(0.0f));
    case 3: return vld1q_lane_f32(p + 2, vcombine_f32(vld1_f32(p), vdup_n_f32(0.0f)), 2);
    default: return vld1q_f32(p);
    }
}

INLINE void v_store_n(float *p, vf v, size_t n)
{
    if (n >= 4) {
        vst1q_f32(p, v);
        return;
    }
    if (n >= 2) vst1_f32(p, vget_low_f32(v));
    if (n == 1) vst1q_lane_f32(p, v, 0);
    if (n == 3) vst1q_lane_f32(p + 2, v, 2);
}

INLINE void v4_store_n(float *p, v4 v, size_t n)
{
    v_store_n(p, v, n);
}

INLINE vf v_set1(float f)
{
    return vdupq_n_f32(f);
}

INLINE vf v_fma(vf a, vf b, vf c)
{
    return vfmaq_f32(c, a, b);
}

/* b where either is NaN, which fmax is not. */
INLINE vf v_max(vf a, vf b)
{
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}

INLINE vf v_min(vf a, vf b)
{
    return vbslq_f32(vcltq_f32(a, b), a, b);
}

INLINE vf v_if_less(vf a, vf b, vf yes, vf no)
{
    return vbslq_f32(vcltq_f32(a, b), yes, no);
}

/* Neighbouring lanes, then the two sums: v_reduce_add of each. */
INLINE v4 v_reduce4(vf a, vf b, vf c, vf d)
{
    return vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d));
}

INLINE float v_reduce_add(vf v)
{
    return vpadds_f32(vget_low_f32(vpaddq_f32(v, v)));
}

INLINE float v_reduce_max(vf v)
{
    return vmaxvq_f32(v);
}

INLINE vf v_exp(vf x)
{
    /* These two keep a NaN. */
    vf y = vminq_f32(v_set1(EXP_MOST), vmaxq_f32(v_set1(EXP_LEAST), x)), n, r, p;
    n = vrndnq_f32(y * v_set1(EXP_LOG2E));
    r = vfmsq_f32(y, n, v_set1(EXP_LN2_HI));
    r = vfmsq_f32(r, n, v_set1(EXP_LN2_LO));
    p = v_set1(1.0f / 5040);
    p = v_fma(p, r, v_set1(1.0f / 720));
    p = v_fma(p, r, v_set1(1.0f / 120));
    p = v_fma(p, r, v_set1(1.0f / 24));
    p = v_fma(p, r, v_set1(1.0f / 6));
    p = v_fma(p, r, v_set1(0.5f));
    p = v_fma(p, r * r, r) + v_set1(1.0f);
    p = vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), vshlq_n_s32(vcvtq_s32_f32(n), 23)));
    return vbslq_f32(vcltq_f32(x, v_set1(EXP_LEAST)), v_set1(0.0f), p);
}

INLINE vf v_from_f16(const uint8_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}

INLINE vf v_from_i8(const uint8_t *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four))))));
}
/* To the nearest, as the processor starts out. */
INLINE void v_to_f16(uint8_t *p, vf v)
{
    vst1_u8(p, vreinterpret_u8_f16(vcvt_f16_f32(v)));
}

INLINE vf v_from_bf16(const uint8_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}

/* Four bytes, zeros behind them. */
INLINE uint8x8_t v_bytes(const uint8_t *p)
{
    return vcreate_u8(load_u32(p));
}

INLINE vf v_from_e8m0(const uint8_t *p)
{
    uint32x4_t u = vmovl_u16(vget_low_u16(vmovl_u8(v_bytes(p))));
    return vreinterpretq_f32_u32(vmaxq_u32(vshlq_n_u32(u, 23), vdupq_n_u32(0x400000)));
}

/* e4m3 in 16 bits as halves, whose exponent has one bit more and a bias of 15 for 7, so that they are 256 times too
 * small. 0x7f carries into that bit and becomes NaN. */
INLINE float16x8_t v_halves(uint8x8_t codes)
{
    uint16x8_t h = vreinterpretq_u16_s16(vshll_n_s8(vreinterpret_s8_u8(codes), 7)), nan;
    h = vandq_u16(h, vdupq_n_u16(0xbf80));
    nan = vandq_u16(vaddq_u16(h, vdupq_n_u16(0x80)), vdupq_n_u16(0x4000));
    return vreinterpretq_f16_u16(vorrq_u16(h, nan));
}

INLINE vf v_from_e4m3(const uint8_t *p)
{
    return vcvt_f32_f16(vget_low_f16(v_halves(v_bytes(p)))) * v_set1(256.0f);
}

INLINE v_book v_book_make(unsigned bits, float scale, float bias)
{
    (void)bits;
    return (v_book){v_set1(scale) * v_set1(0x1p24f), v_set1(bias)};
}

/* MLXR_CPU_CHUNK codes at p to weights. A code widened to 16 bits is, read as a half, a denormal of 2^-24 of it, so one
 * instruction more makes it a float. */
INLINE void v_unpack(vf *w, unsigned bits, const uint8_t *p, v_book book)
{
    const uint8x16x2_t q = codes_in_order(bits, p);
    UNROLL
    for (unsigned i = 0; i < MLXR_CPU_CHUNK / V_W; i += 4) {
        const float16x8_t lo = vreinterpretq_f16_u16(vmovl_u8(vget_low_u8(q.val[i / 4])));
        const float16x8_t hi = vreinterpretq_f16_u16(vmovl_high_u8(q.val[i / 4]));
        w[i] = v_fma(vcvt_f32_f16(vget_low_f16(lo)), book.scale, book.bias);
        w[i + 1] = v_fma(vcvt_high_f32_f16(lo), book.scale, book.bias);
        w[i + 2] = v_fma(vcvt_f32_f16(vget_low_f16(hi)), book.scale, book.bias);
        w[i + 3] = v_fma(vcvt_high_f32_f16(hi), book.scale, book.bias);
    }
}

/* MLXR_CPU_CHUNK values of e2m1 at p to weights: the first 16 times `first`, the others times `second`. The upper
 * byte of a half is all that such a value has. */
INLINE void v_unpack_e2m1(vf *w, const uint8_t *p, float first, float second)
{
    static const uint8_t upper[16] = {0x00, 0x38, 0x3c, 0x3e, 0x40, 0x42, 0x44, 0x46,
                                      0x80, 0xb8, 0xbc, 0xbe, 0xc0, 0xc2, 0xc4, 0xc6};
    const uint8x16_t table = vld1q_u8(upper), zeros = vdupq_n_u8(0);
    const uint8x16x2_t q = codes_in_order(4, p);
    UNROLL
    for (unsigned i = 0; i < MLXR_CPU_CHUNK / V_W; i += 4) {
        const uint8x16_t v = vqtbl1q_u8(table, q.val[i / 4]);
        const float16x8_t lo = vreinterpretq_f16_u8(vzip1q_u8(zeros, v));
        const float16x8_t hi = vreinterpretq_f16_u8(vzip2q_u8(zeros, v));
        const vf scale = v_set1(i < 4 ? first : second);
        w[i] = vcvt_f32_f16(vget_low_f16(lo)) * scale;
        w[i + 1] = vcvt_high_f32_f16(lo) * scale;
        w[i + 2] = vcvt_f32_f16(vget_low_f16(hi)) * scale;
        w[i + 3] = vcvt_high_f32_f16(hi) * scale;
    }
}

INLINE void v_unpack_e4m3(vf *w, const uint8_t *p, float scale)
{
    UNROLL
    for (unsigned i = 0; i < MLXR_CPU_CHUNK / V_W; i += 2) {
        const float16x8_t h = v_halves(vld1_u8(p + V_W * i));
        w[i] = vcvt_f32_f16(vget_low_f16(h)) * v_set1(256.0f) * v_set1(scale);
        w[i + 1] = vcvt_high_f32_f16(h) * v_set1(256.0f) * v_set1(scale);
    }
}

#endif
