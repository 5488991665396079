/* Packed codes to bytes with NEON, for the kernels in floats and those in integers. */
#ifndef MLXR_CPU_CODES_NEON_H
#define MLXR_CPU_CODES_NEON_H

#include <arm_neon.h>

#include "device/cpu/simd.h"

/* The 32 codes of 4 bits in the 16 bytes at p: those of even columns, then those of odd ones. */
INLINE uint8x16x2_t codes_of_4(const uint8_t *p)
{
    const uint8x16_t v = vld1q_u8(p);
    return (uint8x16x2_t){{vandq_u8(v, vdupq_n_u8(15)), vshrq_n_u8(v, 4)}};
}

/* Sixteen codes of 2, 3, 5 or 6 bits, whose first bit is the first of byte `from` of v: a window of two bytes for each code,
 * shifted down. */
INLINE uint8x16_t codes_in(uint8x16_t v, unsigned bits, unsigned from)
{
    uint8_t at[2][16];
    int16_t down[2][8];
    uint16x8_t half[2];

    UNROLL
    for (unsigned k = 0; k < 16; k++) {
        at[k / 8][2 * (k % 8)] = (uint8_t)(from + k * bits / 8);
        at[k / 8][2 * (k % 8) + 1] = (uint8_t)(from + k * bits / 8 + 1); /* past v: 0, and not needed */
        down[k / 8][k % 8] = (int16_t)(-(int)(k * bits % 8));
    }
    UNROLL
    for (unsigned h = 0; h < 2; h++)
        half[h] = vshlq_u16(vreinterpretq_u16_u8(vqtbl1q_u8(v, vld1q_u8(at[h]))), vld1q_s16(down[h]));
    /* The low byte of each. */
    return vandq_u8(vuzp1q_u8(vreinterpretq_u8_u16(half[0]), vreinterpretq_u8_u16(half[1])),
                    vdupq_n_u8((uint8_t)((1u << bits) - 1)));
}

/* The 32 codes in the 4 * bits bytes at p, in the columns' order; reads no byte more. */
INLINE uint8x16x2_t codes_in_order(unsigned bits, const uint8_t *p)
{
    switch (bits) {
    case 2: {
        const uint8x16_t v = vcombine_u8(vld1_u8(p), vdup_n_u8(0));
        return (uint8x16x2_t){{codes_in(v, 2, 0), codes_in(v, 2, 4)}};
    }
    case 3: { /* bytes 0 to 7, then 4 to 11 */
        const uint8x16_t v = vcombine_u8(vld1_u8(p), vld1_u8(p + 4));
        return (uint8x16x2_t){{codes_in(v, 3, 0), codes_in(v, 3, 10)}};
    }
    case 4: {
        const uint8x16x2_t v = codes_of_4(p);
        return (uint8x16x2_t){{vzip1q_u8(v.val[0], v.val[1]), vzip2q_u8(v.val[0], v.val[1])}};
    }
    case 5: return (uint8x16x2_t){{codes_in(vld1q_u8(p), 5, 0), codes_in(vld1q_u8(p + 4), 5, 6)}};
    case 6: return (uint8x16x2_t){{codes_in(vld1q_u8(p), 6, 0), codes_in(vld1q_u8(p + 8), 6, 4)}};
    default: return (uint8x16x2_t){{vld1q_u8(p), vld1q_u8(p + 16)}};
    }
}

#endif
