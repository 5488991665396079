/* Integers from activations with NEON, in planes of bytes, and which kernel is for which matrix. */
#include "device/cpu/ints_dotprod.h"

/* Tokens from which a panel is worth its making, by a count of instructions. */
enum { MANY = 4 };

/* The largest magnitude among a group's values; NaN when one of them is no number. */
INLINE float most(const float *x, size_t n)
{
    float32x4_t max = vdupq_n_f32(0.0f);

    for (size_t i = 0; i < n; i += 4) max = vmaxq_f32(max, vabsq_f32(vld1q_f32(x + i)));
    return vmaxvq_f32(max);
}

INLINE int16x8_t to_int16(const float *x, float inverse)
{
    const int32x4_t lo = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x), inverse));
    const int32x4_t hi = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4), inverse));
    return vqmovn_high_s32(vqmovn_s32(lo), hi);
}

/* The bytes `odd` (0: the lower, 1: the upper ones) of 16 integers. */
INLINE uint8x16_t bytes_of(int16x8_t a, int16x8_t b, unsigned odd)
{
    const uint8x16_t u = vreinterpretq_u8_s16(a), v = vreinterpretq_u8_s16(b);
    return odd ? vuzp2q_u8(u, v) : vuzp1q_u8(u, v);
}

/* Two planes of 32 integers. */
INLINE void store_block(uint8_t *out, const int16x8_t v[4], mlxr_ints_order order)
{
    UNROLL
    for (unsigned i = 0; i < 2; i++) {
        const uint8x16_t a = bytes_of(v[0], v[1], !i), b = bytes_of(v[2], v[3], !i);
        const bool even = order == MLXR_INTS_PLANES_EVEN;
        vst1q_u8(out + i * 32, even ? vuzp1q_u8(a, b) : a);
        vst1q_u8(out + i * 32 + 16, even ? vuzp2q_u8(a, b) : b);
    }
}

static void from_floats(const mlxr_ints *out, const float *x, size_t n_cols, unsigned group,
                        mlxr_ints_order order)
{
    const size_t n_groups = n_cols / group, n_padded = mlxr_ints_groups(n_cols, group);
    int32_t *rests = (int32_t *)(void *)(out->sums + n_padded);
    uint8_t *bytes = (uint8_t *)out->x;

    for (size_t g = 0; g < n_groups; g++) {
        const float scale = mlxr_ints_scale(most(x + g * group, group)), inverse = mlxr_ints_inverse(scale);
        int32x4_t total = vdupq_n_s32(0), upper = total;
        int32_t sum;
        for (size_t i = g * group; i < (g + 1) * group; i += 32) {
            int16x8_t v[4];
            UNROLL
            for (unsigned k = 0; k < 4; k++) {
                v[k] = to_int16(x + i + k * 8, inverse);
                total = vpadalq_s16(total, v[k]);
                upper = vpadalq_s16(upper, vshrq_n_s16(v[k], 8));
            }
            store_block(bytes + i * 2, v, order);
        }
        sum = vaddvq_s32(total);
        out->scales[g] = scale;
        out->sums[g] = scale * (float)sum;
        rests[g] = order == MLXR_INTS_PLANES_EVEN ? -12 * sum : 32768 * vaddvq_s32(upper);
    }
    for (size_t g = n_groups; g < n_padded; g++) {
        out->scales[g] = out->sums[g] = 0;
        rests[g] = 0;
    }
    memset(bytes + n_groups * group * 2, 0, (n_padded - n_groups) * group * 2);
}

static mlxr_ints_kernel find(const mlxr_matrix *m)
{
    return (mlxr_ints_kernel){.few = mlxr_ints_dotprod_few(m),
                              .many = mlxr_ints_dotprod_many(m),
                              .many_from = MANY,
                              .order = m->quant.bits == 4 ? MLXR_INTS_PLANES_EVEN : MLXR_INTS_PLANES,
                              .group = m->quant.group_size};
}

const mlxr_ints_kernels mlxr_ints_dotprod = {find, from_floats};
