/* Integers from activations with AVX-512, and which kernel is for which matrix. */
#include <math.h>

#include "device/cpu/ints_vnni.h"

enum { MANY = 12 }; /* tokens from which a panel is worth its making */

/* The largest magnitude among a group's values; NaN when one of them is no number. */
INLINE float most(const float *x, size_t n)
{
    __m512 max = _mm512_setzero_ps();
    __mmask16 none = 0;

    for (size_t i = 0; i < n; i += 16) {
        __m512 v = _mm512_loadu_ps(x + i);
        none |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
        max = _mm512_max_ps(max, _mm512_abs_ps(v));
    }
    return none ? NAN : _mm512_reduce_max_ps(max);
}

INLINE __m512i to_int16(const float *x, __m512 inverse)
{
    __m512i lo = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), inverse));
    __m512i hi = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + 16), inverse));
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtsepi32_epi16(lo)), _mm512_cvtsepi32_epi16(hi),
                              1);
}

/* A unit in its columns' order to the order of its layout. */
INLINE void reorder(int16_t *out, const __m512i v[4], mlxr_ints_order order)
{
    if (order == MLXR_INTS_NIBBLES) {
        uint16_t at[32];
        UNROLL
        for (unsigned i = 0; i < 32; i++) at[i] = (uint16_t)(4 * i % 64);
        for (unsigned m = 0; m < 4; m++) {
            __m512i index = _mm512_add_epi16(_mm512_loadu_si512(at), _mm512_set1_epi16((short)m));
            __m512i lo = _mm512_permutex2var_epi16(v[0], index, v[1]);
            __m512i hi = _mm512_permutex2var_epi16(v[2], index, v[3]);
            _mm512_storeu_si512(out + 32 * m, _mm512_mask_blend_epi16(0xffff0000u, lo, hi));
        }
    } else {
        __m512i a = _mm512_shuffle_i32x4(v[0], v[1], 0x44), b = _mm512_shuffle_i32x4(v[2], v[3], 0x44);
        __m512i c = _mm512_shuffle_i32x4(v[0], v[1], 0xee), d = _mm512_shuffle_i32x4(v[2], v[3], 0xee);
        _mm512_storeu_si512(out, _mm512_shuffle_i32x4(a, b, 0x88));
        _mm512_storeu_si512(out + 32, _mm512_shuffle_i32x4(a, b, 0xdd));
        _mm512_storeu_si512(out + 64, _mm512_shuffle_i32x4(c, d, 0x88));
        _mm512_storeu_si512(out + 96, _mm512_shuffle_i32x4(c, d, 0xdd));
    }
}

static void from_floats(const mlxr_ints *out, const float *x, size_t n_cols, unsigned group,
                        mlxr_ints_order order)
{
    const size_t n_blocks = n_cols / 32, per_group = group / 32;
    const size_t n_units = mlxr_ints_groups(n_cols, group) * group / MLXR_INTS_UNIT;
    __m512 inverse = _mm512_setzero_ps();
    float scale = 0;
    int32_t total = 0;

    for (size_t u = 0; u < n_units; u++) {
        __m512i v[4];
        for (size_t i = 0; i < 4; i++) {
            size_t block = u * 4 + i, g = block / per_group;
            if (block % per_group == 0) {
                scale = mlxr_ints_scale(block < n_blocks ? most(x + block * 32, group) : 0);
                inverse = _mm512_set1_ps(mlxr_ints_inverse(scale));
                total = 0;
            }
            v[i] = block < n_blocks ? to_int16(x + block * 32, inverse) : _mm512_setzero_si512();
            total += _mm512_reduce_add_epi32(_mm512_madd_epi16(v[i], _mm512_set1_epi16(1)));
            if (block % per_group == per_group - 1) {
                _mm_storeu_ps(out->scales + g * 4, _mm_set1_ps(scale));
                _mm_storeu_ps(out->sums + g * 4, _mm_set1_ps(scale * (float)total));
            }
        }
        reorder(out->x + u * MLXR_INTS_UNIT, v, order);
    }
}

static mlxr_ints_kernel find(const mlxr_matrix *m)
{
    return (mlxr_ints_kernel){.few = mlxr_ints_vnni_few(m),
                              .many = mlxr_ints_vnni_many(m),
                              .many_from = MANY,
                              .order = m->quant.bits == 4 ? MLXR_INTS_NIBBLES : MLXR_INTS_OCTETS,
                              .group = m->quant.group_size};
}

const mlxr_ints_kernels mlxr_ints_vnni = {find, from_floats};
