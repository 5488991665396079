/* Integers from activations with AVX2, and which kernel is for which matrix. */
#include "device/cpu/ints_avx2.h"

#include <math.h>

enum { MANY = 12 }; /* tokens from which a panel is worth its making (Zen 5, 4 bits in groups of 32) */

/* The largest magnitude among a group's values; NaN when one of them is no number. */
INLINE float most(const float *x, size_t n)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 max = _mm256_setzero_ps(), none = max;
    __m128 v;

    for (size_t i = 0; i < n; i += 8) {
        __m256 one = _mm256_loadu_ps(x + i);
        none = _mm256_or_ps(none, _mm256_cmp_ps(one, one, _CMP_UNORD_Q));
        max = _mm256_max_ps(max, _mm256_andnot_ps(sign, one));
    }
    if (_mm256_movemask_ps(none)) return NAN;
    v = _mm_max_ps(_mm256_castps256_ps128(max), _mm256_extractf128_ps(max, 1));
    v = _mm_max_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_max_ss(v, _mm_shuffle_ps(v, v, 1)));
}

/* 16 floats to int16, in their order. */
INLINE __m256i to_int16(const float *x, __m256 inverse)
{
    __m256i lo = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), inverse));
    __m256i hi = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), inverse));
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(lo, hi), 0xd8);
}

INLINE int32_t sum_of(__m256i v)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

INLINE void store(int16_t *p, __m256i v)
{
    _mm256_storeu_si256((__m256i *)(void *)p, v);
}

/* Half a unit, 64 columns in their order, to the order of its layout: a vector at out, out + 32, and so on. */
INLINE void reorder(int16_t *out, const __m256i v[4], mlxr_ints_order order)
{
    if (order == MLXR_INTS_NIBBLES) {
        /* Of two quads a lane the dwords of each place, then those dwords of four lanes after each other. */
        const __m256i quads = _mm256_broadcastsi128_si256(
            _mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15));
        __m256i q[4], a, b, c, d;
        UNROLL
        for (unsigned i = 0; i < 4; i++) q[i] = _mm256_shuffle_epi8(v[i], quads);
        a = _mm256_permute2x128_si256(q[0], q[2], 0x20);
        b = _mm256_permute2x128_si256(q[0], q[2], 0x31);
        c = _mm256_permute2x128_si256(q[1], q[3], 0x20);
        d = _mm256_permute2x128_si256(q[1], q[3], 0x31);
        q[0] = _mm256_unpacklo_epi32(a, b);
        q[1] = _mm256_unpackhi_epi32(a, b);
        q[2] = _mm256_unpacklo_epi32(c, d);
        q[3] = _mm256_unpackhi_epi32(c, d);
        store(out, _mm256_unpacklo_epi64(q[0], q[2]));
        store(out + 32, _mm256_unpackhi_epi64(q[0], q[2]));
        store(out + 64, _mm256_unpacklo_epi64(q[1], q[3]));
        store(out + 96, _mm256_unpackhi_epi64(q[1], q[3]));
    } else {
        store(out, _mm256_permute2x128_si256(v[0], v[2], 0x20));
        store(out + 32, _mm256_permute2x128_si256(v[0], v[2], 0x31));
        store(out + 64, _mm256_permute2x128_si256(v[1], v[3], 0x20));
        store(out + 96, _mm256_permute2x128_si256(v[1], v[3], 0x31));
    }
}

static void from_floats(const mlxr_ints *out, const float *x, size_t n_cols, unsigned group,
                        mlxr_ints_order order)
{
    const size_t n_blocks = n_cols / 32, per_group = group / 32;
    const size_t n_pairs = mlxr_ints_groups(n_cols, group) * group / PAIR;
    const __m256i ones = _mm256_set1_epi16(1);
    __m256 inverse = _mm256_setzero_ps();
    __m256i total = _mm256_setzero_si256();
    float scale = 0;

    for (size_t u = 0; u < n_pairs; u++) {
        __m256i v[4];
        for (size_t i = 0; i < 2; i++) {
            size_t block = u * 2 + i, g = block / per_group;
            const float *from = x + block * 32;
            if (block % per_group == 0) {
                scale = mlxr_ints_scale(block < n_blocks ? most(from, group) : 0);
                inverse = _mm256_set1_ps(mlxr_ints_inverse(scale));
                total = _mm256_setzero_si256();
            }
            if (block < n_blocks) {
                v[2 * i] = to_int16(from, inverse);
                v[2 * i + 1] = to_int16(from + 16, inverse);
            } else {
                v[2 * i] = v[2 * i + 1] = _mm256_setzero_si256();
            }
            total = _mm256_add_epi32(total, _mm256_madd_epi16(v[2 * i], ones));
            total = _mm256_add_epi32(total, _mm256_madd_epi16(v[2 * i + 1], ones));
            if (block % per_group == per_group - 1) {
                _mm_storeu_ps(out->scales + g * 4, _mm_set1_ps(scale));
                _mm_storeu_ps(out->sums + g * 4, _mm_set1_ps(scale * (float)sum_of(total)));
            }
        }
        reorder(out->x + u / 2 * MLXR_INTS_UNIT + u % 2 * 16, v, order);
    }
}

static mlxr_ints_kernel find(const mlxr_matrix *m)
{
    return (mlxr_ints_kernel){.few = mlxr_ints_avx2_few(m),
                              .many = mlxr_ints_avx2_many(m),
                              .many_from = MANY,
                              .order = m->quant.bits == 4 ? MLXR_INTS_NIBBLES : MLXR_INTS_OCTETS,
                              .group = m->quant.group_size};
}

static mlxr_ints_kernel find_vnni(const mlxr_matrix *m)
{
    mlxr_ints_kernel k = find(m);
    k.few = mlxr_ints_avxvnni_few(m);
    k.many = mlxr_ints_avxvnni_many(m);
    return k;
}

const mlxr_ints_kernels mlxr_ints_avx2 = {find, from_floats};
const mlxr_ints_kernels mlxr_ints_avxvnni = {find_vnni, from_floats};
