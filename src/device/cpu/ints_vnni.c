/* Integers from activations with AVX-512, and which kernel is for which matrix. */
#include <math.h>

#include "device/cpu/ints_vnni.h"

enum {
    SOME = 2,  /* tokens from which weights are better unpacked before the tokens are looked at */
    MANY = 17, /* tokens from which a panel is worth its making */
};

/* Four blocks of 32 columns are looked at together: block b's value in lane 4 c + b, and with larger groups the group's
 * value in each of its blocks' lanes. */
INLINE __m512 most_across(const __m512 a[4], unsigned group)
{
    __m512 ab = _mm512_max_ps(_mm512_unpacklo_ps(a[0], a[1]), _mm512_unpackhi_ps(a[0], a[1]));
    __m512 cd = _mm512_max_ps(_mm512_unpacklo_ps(a[2], a[3]), _mm512_unpackhi_ps(a[2], a[3]));
    __m512d lo = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    __m512d hi = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    __m512 v = _mm512_max_ps(_mm512_castpd_ps(lo), _mm512_castpd_ps(hi));

    v = _mm512_max_ps(v, _mm512_shuffle_f32x4(v, v, 0x4e));
    v = _mm512_max_ps(v, _mm512_shuffle_f32x4(v, v, 0xb1));
    if (group >= 64) v = _mm512_max_ps(v, _mm512_permute_ps(v, 0xb1));
    if (group >= 128) v = _mm512_max_ps(v, _mm512_permute_ps(v, 0x4e));
    return v;
}

INLINE __m512i total_across(const __m512i a[4], unsigned group)
{
    __m512i v = add_across(a);

    v = _mm512_add_epi32(v, _mm512_shuffle_i32x4(v, v, 0x4e));
    v = _mm512_add_epi32(v, _mm512_shuffle_i32x4(v, v, 0xb1));
    if (group >= 64) v = _mm512_add_epi32(v, _mm512_shuffle_epi32(v, _MM_PERM_CDAB));
    if (group >= 128) v = _mm512_add_epi32(v, _mm512_shuffle_epi32(v, _MM_PERM_BADC));
    return v;
}

/* One value a block to each group's four. */
INLINE void store_groups(float *out, __m512 v, size_t u, unsigned group)
{
    const __m512i by_32 = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    const __m512i by_64 = _mm512_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2, 0, 0, 0, 0, 2, 2, 2, 2);

    if (group == 32)
        _mm512_storeu_ps(out + u * 16, _mm512_permutexvar_ps(by_32, v));
    else if (group == 64)
        _mm256_storeu_ps(out + u * 8, _mm512_castps512_ps256(_mm512_permutexvar_ps(by_64, v)));
    else
        _mm_storeu_ps(out + u * 4, _mm512_castps512_ps128(v));
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

/* A unit whose first n_blocks blocks of 32 columns are there. See mlxr_ints_scale and mlxr_ints_inverse. */
INLINE void unit_from_floats(const mlxr_ints *out, const float *x, size_t u, size_t n_blocks, unsigned group,
                             mlxr_ints_order order)
{
    const __m512 zero = _mm512_setzero_ps();
    __m512 most[4], max, scale, inverse, by_block[4];
    __m512i v[4], totals[4];
    __mmask16 none = 0;

    UNROLL
    for (size_t b = 0; b < 4; b++) {
        __m512 lo = b < n_blocks ? _mm512_loadu_ps(x + b * 32) : zero;
        __m512 hi = b < n_blocks ? _mm512_loadu_ps(x + b * 32 + 16) : zero;
        if (_mm512_cmp_ps_mask(lo, hi, _CMP_UNORD_Q)) none |= (__mmask16)(0x1111 << b);
        most[b] = _mm512_max_ps(_mm512_abs_ps(lo), _mm512_abs_ps(hi));
    }
    /* What is no number makes its whole group none. */
    if (group >= 64) none |= (__mmask16)((none & 0x5555) << 1 | (none & 0xaaaa) >> 1);
    if (group >= 128) none |= (__mmask16)((none & 0x3333) << 2 | (none & 0xcccc) >> 2);
    max = _mm512_mask_mov_ps(most_across(most, group), none, _mm512_set1_ps(NAN));
    scale = _mm512_sub_ps(_mm512_mul_ps(max, _mm512_set1_ps(1.0f / 32767)), _mm512_mul_ps(max, zero));
    inverse = _mm512_maskz_div_ps(_mm512_cmp_ps_mask(scale, _mm512_set1_ps(1e-35f), _CMP_GE_OQ),
                                  _mm512_set1_ps(1), scale);
    by_block[0] = _mm512_permute_ps(inverse, 0x00);
    by_block[1] = _mm512_permute_ps(inverse, 0x55);
    by_block[2] = _mm512_permute_ps(inverse, 0xaa);
    by_block[3] = _mm512_permute_ps(inverse, 0xff);
    UNROLL
    for (size_t b = 0; b < 4; b++) {
        v[b] = b < n_blocks ? to_int16(x + b * 32, by_block[b]) : _mm512_setzero_si512();
        totals[b] = _mm512_madd_epi16(v[b], _mm512_set1_epi16(1));
    }
    store_groups(out->scales, scale, u, group);
    store_groups(out->sums, _mm512_mul_ps(scale, _mm512_cvtepi32_ps(total_across(totals, group))), u, group);
    reorder(out->x + u * MLXR_INTS_UNIT, v, order);
}

static void from_floats(const mlxr_ints *out, const float *x, size_t n_cols, unsigned group,
                        mlxr_ints_order order)
{
    const size_t n_blocks = n_cols / 32;
    const size_t n_units = mlxr_ints_groups(n_cols, group) * group / MLXR_INTS_UNIT;

    for (size_t u = 0; u < n_units; u++) {
        if (u * 4 + 4 <= n_blocks)
            unit_from_floats(out, x + u * MLXR_INTS_UNIT, u, 4, group, order);
        else
            unit_from_floats(out, x + u * MLXR_INTS_UNIT, u, n_blocks > u * 4 ? n_blocks - u * 4 : 0, group,
                             order);
    }
}

static mlxr_ints_kernel find(const mlxr_matrix *m)
{
    return (mlxr_ints_kernel){.few = mlxr_ints_vnni_few(m),
                              .some = mlxr_ints_vnni_some(m),
                              .many = mlxr_ints_vnni_many(m),
                              .some_from = SOME,
                              .many_from = MANY,
                              .order = m->quant.bits == 4 ? MLXR_INTS_NIBBLES : MLXR_INTS_OCTETS,
                              .group = m->quant.group_size};
}

const mlxr_ints_kernels mlxr_ints_vnni = {find, from_floats};
