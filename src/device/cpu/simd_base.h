/* Vector primitives without any instruction set in mind: four lanes of the compiler's vector types. SSE2 on x86-64,
 * NEON on ARM64, plain code elsewhere. */
#ifndef MLXR_CPU_SIMD_BASE_H
#define MLXR_CPU_SIMD_BASE_H

#include "device/cpu/simd.h"

enum { V_W = 4 };
/* Tokens of the linear kernel's tile: 4 * V_TILE sums, V_TILE values and one weight fit the registers. */
#define V_TILE 2
typedef float vf __attribute__((vector_size(16)));
typedef float v4 __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef uint32_t vu __attribute__((vector_size(16)));
typedef struct v_book {
    vf scale, bias;
} v_book;

INLINE vf v_load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void v_store(float *p, vf v)
{
    memcpy(p, &v, sizeof v);
}

INLINE vf v_load_n(const float *p, size_t n)
{
    vf v = {0};
    for (size_t i = 0; i < n; i++) v[i] = p[i];
    return v;
}

INLINE void v_store_n(float *p, vf v, size_t n)
{
    for (size_t i = 0; i < n; i++) p[i] = v[i];
}

INLINE void v4_store_n(float *p, v4 v, size_t n)
{
    for (size_t i = 0; i < n; i++) p[i] = v[i];
}

INLINE vf v_set1(float f)
{
    return (vf){f, f, f, f};
}

/* Two roundings: what every x86-64 has. */
INLINE vf v_fma(vf a, vf b, vf c)
{
    return a * b + c;
}

INLINE vf v_select(vi mask, vf yes, vf no)
{
    return (vf)((mask & (vi)yes) | (~mask & (vi)no));
}

/* b where either is NaN. */
INLINE vf v_max(vf a, vf b)
{
    return v_select(a > b, a, b);
}

INLINE vf v_min(vf a, vf b)
{
    return v_select(a < b, a, b);
}

INLINE vf v_if_less(vf a, vf b, vf yes, vf no)
{
    return v_select(a < b, yes, no);
}

INLINE float v_reduce_add(vf v)
{
    return (v[0] + v[2]) + (v[1] + v[3]);
}

INLINE float v_reduce_max(vf v)
{
    float a = v[0] > v[2] ? v[0] : v[2], b = v[1] > v[3] ? v[1] : v[3];
    return a > b ? a : b;
}

INLINE v4 v_reduce4(vf a, vf b, vf c, vf d)
{
    return (v4){v_reduce_add(a), v_reduce_add(b), v_reduce_add(c), v_reduce_add(d)};
}

INLINE vf v_exp(vf x)
{
    vf y = v_min(v_set1(EXP_MOST), v_max(v_set1(EXP_LEAST), x)), n, r, p;
    vi k;
    /* Adding 1.5 * 2^23 rounds to an integer, ties to even. */
    n = y * v_set1(EXP_LOG2E) + v_set1(12582912.0f);
    k = (vi)n - (vi)v_set1(12582912.0f);
    n = n - v_set1(12582912.0f);
    r = y - n * v_set1(EXP_LN2_HI);
    r = r - n * v_set1(EXP_LN2_LO);
    p = v_set1(1.0f / 5040);
    p = p * r + v_set1(1.0f / 720);
    p = p * r + v_set1(1.0f / 120);
    p = p * r + v_set1(1.0f / 24);
    p = p * r + v_set1(1.0f / 6);
    p = p * r + v_set1(0.5f);
    p = p * r * r + r + v_set1(1.0f);
    p = (vf)((vi)p + (k << 23));
    return v_select(x < v_set1(EXP_LEAST), v_set1(0.0f), p);
}

/* The half's bits, moved to where a float has them, are 2^112 times too small, subnormals included; infinities and NaN
 * get the exponent they lack. */
INLINE vf v_from_f16(const uint8_t *p)
{
    uint16_t h[4];
    vu u, size;
    memcpy(h, p, sizeof h);
    u = (vu){h[0], h[1], h[2], h[3]};
    size = u & 0x7fff;
    return (vf)((vu)((vf)(size << 13) * v_set1(0x1p112f)) | ((vu)(size >= 0x7c00) & 0x7f800000) |
                (u & 0x8000) << 16);
}

INLINE vf v_from_i8(const uint8_t *p)
{
    int8_t c[4];
    memcpy(c, p, sizeof c);
    return (vf){c[0], c[1], c[2], c[3]};
}

/* Nearest, ties to even. */
INLINE void v_to_f16(uint8_t *p, vf v)
{
    uint16_t h[4] = {mlxr_f32_to_f16(v[0]), mlxr_f32_to_f16(v[1]), mlxr_f32_to_f16(v[2]),
                     mlxr_f32_to_f16(v[3])};
    memcpy(p, h, sizeof h);
}

INLINE vf v_from_bf16(const uint8_t *p)
{
    uint16_t h[4];
    memcpy(h, p, sizeof h);
    return (vf){mlxr_bf16_to_f32(h[0]), mlxr_bf16_to_f32(h[1]), mlxr_bf16_to_f32(h[2]),
                mlxr_bf16_to_f32(h[3])};
}

INLINE vf v_from_e8m0(const uint8_t *p)
{
    return (vf){mlxr_e8m0_to_f32(p[0]), mlxr_e8m0_to_f32(p[1]), mlxr_e8m0_to_f32(p[2]),
                mlxr_e8m0_to_f32(p[3])};
}

INLINE vf v_from_e4m3(const uint8_t *p)
{
    return (vf){mlxr_e4m3[p[0]], mlxr_e4m3[p[1]], mlxr_e4m3[p[2]], mlxr_e4m3[p[3]]};
}

INLINE v_book v_book_make(unsigned bits, float scale, float bias)
{
    (void)bits;
    return (v_book){v_set1(scale), v_set1(bias)};
}

/* MLXR_CPU_CHUNK codes at p to weights. Four codes lie in one 32-bit window that stays inside the chunk. There is
 * no shift by lane in SSE2: a lane keeps its code where it is and is scaled down by a power of two, which is exact. */
INLINE void v_unpack(vf *w, unsigned bits, const uint8_t *p, v_book book)
{
    const int32_t mask = (int32_t)((1u << bits) - 1);
    UNROLL
    for (unsigned i = 0; i < MLXR_CPU_CHUNK / V_W; i++) {
        vf q;
        if (bits == 8) {
            q = (vf){p[4 * i], p[4 * i + 1], p[4 * i + 2], p[4 * i + 3]};
        } else {
            unsigned bit = 4 * bits * i, last = 4 * bits - 4, at = bit / 8 < last ? bit / 8 : last;
            int32_t u = (int32_t)(load_u32(p + at) >> (bit - 8 * at));
            vi m = {mask, mask << bits, mask << 2 * bits, mask << 3 * bits};
            vf down = {1.0f, 1.0f / (1u << bits), 1.0f / (1u << 2 * bits), 1.0f / (1u << 3 * bits)};
            q = __builtin_convertvector((vi){u, u, u, u} & m, vf) * down;
        }
        w[i] = v_fma(q, book.scale, book.bias);
    }
}

/* MLXR_CPU_CHUNK values of e2m1 at p to weights: the first 16 times `first`, the others times `second`. */
INLINE void v_unpack_e2m1(vf *w, const uint8_t *p, float first, float second)
{
    UNROLL
    for (unsigned i = 0; i < MLXR_CPU_CHUNK / V_W; i++) {
        const uint8_t a = p[2 * i], b = p[2 * i + 1];
        const vf v = {mlxr_e2m1[a & 15], mlxr_e2m1[a >> 4], mlxr_e2m1[b & 15], mlxr_e2m1[b >> 4]};
        w[i] = v * v_set1(i < 4 ? first : second);
    }
}

INLINE void v_unpack_e4m3(vf *w, const uint8_t *p, float scale)
{
    UNROLL
    for (unsigned i = 0; i < MLXR_CPU_CHUNK / V_W; i++) w[i] = v_from_e4m3(p + V_W * i) * v_set1(scale);
}

#endif
