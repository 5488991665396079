/* What the integer kernels for ARM's dot product instructions share: how a scheme's rows are read and what makes their bytes
 * do for 16 bits. See ints.h for what is computed and in which order.
 *
 * sdot and udot add four products of bytes to each of four int32, 16 products an instruction. An integer X of an activation
 * is 256 times its upper byte, which is signed, and its lower byte, which is not, and a weight W of up to 7 bits is the same
 * signed or not:
 *
 *     dot = 256 sdot(W, upper) + udot(W, lower)
 *
 * so two instructions do the work of four smlal, which also want their weights widened first; and they go into any of a
 * core's vector pipes, where many cores have only one or two for multiplying wider integers. Two schemes have other weights:
 *
 *     affine of 8 bits   W - 128 is signed:              dot = 256 sdot(W - 128, upper) + udot(W, lower) + 32768 sum of upper
 *     mxfp4              twice the value + 12 is not:    dot = 256 sdot(W + 12, upper) + udot(W + 12, lower) - 12 sum of X
 *
 * whose last terms, the same for all rows, come with the activations. All of it is exact in int32: what is added up wraps
 * around, the result does not. (usdot, of a later extension, would save these terms and nothing else.) */
#ifndef MLXR_CPU_INTS_DOTPROD_H
#define MLXR_CPU_INTS_DOTPROD_H

#include "device/cpu/codes_neon.h"
#include "device/cpu/ints.h"

/* How one scheme's rows are read: constants in every call, so that each kernel is compiled for its own. */
typedef struct scheme {
    unsigned bits, group;
    bool fp4;
} scheme;

/* Whether there is a last term. */
INLINE bool has_rest(scheme s)
{
    return s.fp4 || s.bits == 8;
}

/* Each group's, behind the sums. */
INLINE const int32_t *rests_of(const mlxr_ints *x, size_t n_cols, unsigned group)
{
    return (const int32_t *)(const void *)(x->sums + mlxr_ints_groups(n_cols, group));
}

/* Upper bytes of a block of 32 columns; the lower ones are 32 behind them. */
INLINE const uint8_t *block_of(const mlxr_ints *x, size_t block)
{
    return (const uint8_t *)x->x + block * 64;
}

/* The weights of 32 columns in the order of their activations, PLANES_EVEN for 4 bits, else PLANES. */
INLINE uint8x16x2_t weights_of(scheme s, const uint8_t *p)
{
    static const uint8_t values[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};
    uint8x16x2_t w;

    if (s.bits != 4) return codes_in_order(s.bits, p);
    w = codes_of_4(p);
    if (s.fp4) {
        const uint8x16_t table = vld1q_u8(values);
        w.val[0] = vqtbl1q_u8(table, w.val[0]);
        w.val[1] = vqtbl1q_u8(table, w.val[1]);
    }
    return w;
}

/* As sdot takes them. */
INLINE int8x16_t with_sign(scheme s, uint8x16_t w)
{
    return vreinterpretq_s8_u8(s.bits == 8 ? veorq_u8(w, vdupq_n_u8(0x80)) : w);
}

INLINE size_t scale_bytes(const mlxr_matrix *m)
{
    return m->dtype == MLXR_F32 ? 4 : m->dtype == MLXR_U8 ? 1 : 2;
}

/* The scales or biases at p of four groups, of which n are there. */
INLINE float32x4_t load_scales(bool fp4, const uint8_t *p, size_t n, mlxr_dtype dtype)
{
    uint8_t some[16] = {0};

    if (n < 4) {
        memcpy(some, p, n * (fp4 ? 1 : dtype == MLXR_F32 ? 4 : 2));
        p = some;
    }
    if (fp4) {
        /* e8m0, halved because the values are doubled: 2^(e - 128), a denormal for e of 0 and 1, infinity for 255. */
        const uint32x4_t e = vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(load_u32(p)))));
        uint32x4_t f = vshlq_n_u32(vsubq_u32(e, vdupq_n_u32(1)), 23);
        f = vbslq_u32(vcltq_u32(e, vdupq_n_u32(2)),
                      vshlq_u32(vdupq_n_u32(1u << 21), vreinterpretq_s32_u32(e)), f);
        f = vbslq_u32(vceqq_u32(e, vdupq_n_u32(255)), vdupq_n_u32(0x7f800000), f);
        return vreinterpretq_f32_u32(f);
    }
    if (dtype == MLXR_F32) return vreinterpretq_f32_u8(vld1q_u8(p));
    if (dtype == MLXR_F16) return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}

/* NULL: none for how m is stored. */
mlxr_linear_ints_fn mlxr_ints_dotprod_few(const mlxr_matrix *m);
mlxr_linear_ints_fn mlxr_ints_dotprod_many(const mlxr_matrix *m);

/* One kernel a scheme, whose body is `body(scheme, a, begin, end, scratch)`, and find_kernel. */
#define DOTPROD_KERNEL(name, bits, group, fp4, body)                                     \
    static void name(const mlxr_linear_ints *a, size_t begin, size_t end, void *scratch) \
    {                                                                                    \
        body((scheme){bits, group, fp4}, a, begin, end, scratch);                        \
    }
#define DOTPROD_GROUPS(bits, body)                            \
    DOTPROD_KERNEL(affine_##bits##_32, bits, 32, false, body) \
    DOTPROD_KERNEL(affine_##bits##_64, bits, 64, false, body) \
    DOTPROD_KERNEL(affine_##bits##_128, bits, 128, false, body)
#define DOTPROD_ROW(bits)                                               \
    {                                                                   \
        bits,                                                           \
        {                                                               \
            affine_##bits##_32, affine_##bits##_64, affine_##bits##_128 \
        }                                                               \
    }
#define DOTPROD_KERNELS(body)                                                                        \
    DOTPROD_GROUPS(2, body)                                                                          \
    DOTPROD_GROUPS(3, body)                                                                          \
    DOTPROD_GROUPS(4, body)                                                                          \
    DOTPROD_GROUPS(5, body)                                                                          \
    DOTPROD_GROUPS(6, body)                                                                          \
    DOTPROD_GROUPS(8, body)                                                                          \
    DOTPROD_KERNEL(mxfp4, 4, 32, true, body)                                                         \
    static mlxr_linear_ints_fn find_kernel(const mlxr_matrix *m)                                     \
    {                                                                                                \
        static const struct {                                                                        \
            unsigned bits;                                                                           \
            mlxr_linear_ints_fn by_group[3];                                                         \
        } all[] = {DOTPROD_ROW(2), DOTPROD_ROW(3), DOTPROD_ROW(4),                                   \
                   DOTPROD_ROW(5), DOTPROD_ROW(6), DOTPROD_ROW(8)};                                  \
        const unsigned g = m->quant.group_size;                                                      \
        if (!mlxr_quant_supported(m->quant)) return NULL;                                            \
        if (m->quant.mode == MLXR_QUANT_MXFP4) return mxfp4;                                         \
        if (m->dtype != MLXR_F16 && m->dtype != MLXR_BF16 && m->dtype != MLXR_F32) return NULL;      \
        for (size_t i = 0; i < MLXR_COUNT(all) && m->quant.mode == MLXR_QUANT_AFFINE; i++) {         \
            if (all[i].bits == m->quant.bits) return all[i].by_group[g == 32 ? 0 : g == 64 ? 1 : 2]; \
        }                                                                                            \
        return NULL;                                                                                 \
    }

#endif
