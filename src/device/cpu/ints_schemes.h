/* What the integer kernels of several levels share: the ways a matrix may be stored, a kernel for each, and what they ask
 * for ahead. */
#ifndef MLXR_CPU_INTS_SCHEMES_H
#define MLXR_CPU_INTS_SCHEMES_H

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

/* ---- few tokens: what is asked for ahead ---- */

/* Weights are read once and in order, but in bursts of three streams, which the hardware's prefetchers follow badly: see
 * linear.inc.h. So each four rows fetch those that the thread reads this many bytes later, in this matrix or the next. */
enum { AHEAD_BYTES = 8192 };

INLINE mlxr_stream ahead_of(const mlxr_linear_ints *a, size_t row, size_t scale_bytes)
{
    const mlxr_matrix *m = a->m;
    size_t target = row + AHEAD_BYTES / m->row_bytes / 4 * 4 + 4, over;

    if (target < a->run_end) {
        return (mlxr_stream){(uintptr_t)m->data + target * m->row_bytes,
                             (uintptr_t)m->scales + target * scale_bytes,
                             (uintptr_t)m->biases + target * scale_bytes};
    }
    over = target - a->run_end;
    return (mlxr_stream){a->after.w + over * m->row_bytes, a->after.scales + over * scale_bytes,
                         a->after.biases + over * scale_bytes};
}

INLINE void prefetch(uintptr_t p, size_t n)
{
    for (size_t i = 0; i < n; i += 64) __builtin_prefetch((const void *)(p + i));
}

/* ---- a kernel for every scheme ----
 *
 * INTS_KERNELS defines one function a scheme, whose body is `body(scheme, a, begin, end, scratch)`, and find_kernel. */
#define INTS_KERNEL(name, bits, group, dtype, body)                                      \
    static void name(const mlxr_linear_ints *a, size_t begin, size_t end, void *scratch) \
    {                                                                                    \
        body((scheme){bits, group, dtype}, a, begin, end, scratch);                      \
    }
#define INTS_GROUPS(bits, suffix, dtype, body)                      \
    INTS_KERNEL(affine_##bits##_32_##suffix, bits, 32, dtype, body) \
    INTS_KERNEL(affine_##bits##_64_##suffix, bits, 64, dtype, body) \
    INTS_KERNEL(affine_##bits##_128_##suffix, bits, 128, dtype, body)
#define INTS_AFFINE(bits, body)              \
    INTS_GROUPS(bits, f16, MLXR_F16, body)   \
    INTS_GROUPS(bits, bf16, MLXR_BF16, body) \
    INTS_GROUPS(bits, f32, MLXR_F32, body)
#define INTS_ONE(bits, group, suffix, dtype)                   \
    {                                                          \
        bits, group, dtype, affine_##bits##_##group##_##suffix \
    }
#define INTS_THREE(bits, suffix, dtype) \
    INTS_ONE(bits, 32, suffix, dtype), INTS_ONE(bits, 64, suffix, dtype), INTS_ONE(bits, 128, suffix, dtype)
#define INTS_NINE(bits) \
    INTS_THREE(bits, f16, MLXR_F16), INTS_THREE(bits, bf16, MLXR_BF16), INTS_THREE(bits, f32, MLXR_F32)
#define INTS_KERNELS(body)                                                                              \
    INTS_AFFINE(2, body)                                                                                \
    INTS_AFFINE(3, body)                                                                                \
    INTS_AFFINE(4, body)                                                                                \
    INTS_AFFINE(5, body)                                                                                \
    INTS_AFFINE(6, body)                                                                                \
    INTS_AFFINE(8, body)                                                                                \
    INTS_KERNEL(mxfp4, 4, 32, MLXR_U8, body)                                                            \
    static mlxr_linear_ints_fn find_kernel(const mlxr_matrix *m)                                        \
    {                                                                                                   \
        static const struct {                                                                           \
            unsigned bits, group;                                                                       \
            mlxr_dtype dtype;                                                                           \
            mlxr_linear_ints_fn fn;                                                                     \
        } all[] = {INTS_NINE(2), INTS_NINE(3), INTS_NINE(4), INTS_NINE(5), INTS_NINE(6), INTS_NINE(8)}; \
        if (m->quant.mode == MLXR_QUANT_MXFP4) return mxfp4;                                            \
        for (size_t i = 0; i < MLXR_COUNT(all) && m->quant.mode == MLXR_QUANT_AFFINE; i++) {            \
            if (all[i].bits == m->quant.bits && all[i].group == m->quant.group_size &&                  \
                all[i].dtype == m->dtype)                                                               \
                return all[i].fn;                                                                       \
        }                                                                                               \
        return NULL;                                                                                    \
    }

#endif
