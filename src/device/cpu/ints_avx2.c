/* Integer products with AVX2: see ints.h for what is computed and in which order.
 *
 * Four rows at a time, one block of 32 weights after the other: a block's weights become two vectors of 16 int16, vpmaddwd
 * multiplies them with the activations and adds neighbours, and a group's eight partial sums of four rows are added across
 * into the four rows' dot products. Classes of groups are four accumulators of four rows. */
#include <immintrin.h>

#include "device/cpu/ints.h"

#define INLINE static inline __attribute__((always_inline))
#ifdef MLXR_NO_UNROLL
#define UNROLL
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

typedef struct scheme {
    unsigned bits, group;
    mlxr_dtype dtype; /* of scales and biases; U8: mxfp4 */
} scheme;

enum { FEW = 4 };

/* ---- weights: a block of 32 columns to two vectors of int16, in their order ---- */

/* Bit fields b * i, i < 16, of a little-endian stream: each from the four bytes it lies in. */
INLINE __m256i fields(unsigned bits, __m256i bytes, unsigned first)
{
    /* Lane i of 8 int32: bytes from bits * (first + i) / 8 on, shifted right by the rest. */
    uint8_t at[32];
    uint32_t shift[8];

    UNROLL
    for (unsigned i = 0; i < 8; i++) {
        unsigned bit = bits * (first + i) % 128; /* both halves of `bytes` have their own 16 */
        shift[i] = bit % 8;
        for (unsigned j = 0; j < 4; j++) at[4 * i + j] = (uint8_t)(bit / 8 + j < 16 ? bit / 8 + j : 0x80);
    }
    bytes = _mm256_shuffle_epi8(bytes, _mm256_loadu_si256((const __m256i *)(const void *)at));
    bytes = _mm256_srlv_epi32(bytes, _mm256_loadu_si256((const __m256i *)(const void *)shift));
    return _mm256_and_si256(bytes, _mm256_set1_epi32((1 << bits) - 1));
}

/* Sixteen values from the 2 * bits bytes at p. */
INLINE __m256i sixteen(unsigned bits, const uint8_t *p)
{
    uint8_t in[16] = {0};
    __m256i v, lo, hi;

    memcpy(in, p, 2 * bits);
    v = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)in));
    lo = fields(bits, v, 0);
    hi = fields(bits, v, 8);
    /* packus goes lane by lane: 0-3 8-11 | 4-7 12-15 */
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(lo, hi), 0xd8);
}

INLINE void unpack(scheme s, __m256i w[2], const uint8_t *p)
{
    if (s.bits == 4) {
        const __m128i low = _mm_set1_epi8(15);
        const __m128i values = s.dtype == MLXR_U8
                                   ? _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)
                                   : _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i even = _mm_and_si128(v, low), odd = _mm_and_si128(_mm_srli_epi16(v, 4), low);
        if (s.dtype == MLXR_U8) {
            even = _mm_shuffle_epi8(values, even);
            odd = _mm_shuffle_epi8(values, odd);
        }
        w[0] = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(even, odd));
        w[1] = _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(even, odd));
    } else if (s.bits == 8) {
        w[0] = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
        w[1] = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(p + 16)));
    } else {
        w[0] = sixteen(s.bits, p);
        w[1] = sixteen(s.bits, p + 2 * s.bits);
    }
}

/* ---- scales ---- */

INLINE float scale_at(const uint8_t *p, mlxr_dtype dtype, size_t i)
{
    if (dtype == MLXR_U8) return mlxr_e8m0_to_f32(p[i]) * 0.5f; /* the values are doubled */
    if (dtype == MLXR_F16) {
        uint16_t h;
        memcpy(&h, p + 2 * i, sizeof h);
        return _cvtsh_ss(h);
    }
    return mlxr_load_float(p, dtype, i);
}

INLINE __m128 scales_of(const uint8_t *p, size_t next, mlxr_dtype dtype, size_t g)
{
    return _mm_setr_ps(scale_at(p, dtype, g), scale_at(p + next, dtype, g), scale_at(p + 2 * next, dtype, g),
                       scale_at(p + 3 * next, dtype, g));
}

/* ---- four rows ---- */

/* The sums of four vectors' eight int32. */
INLINE __m128i add_across(const __m256i a[4])
{
    __m256i v = _mm256_hadd_epi32(_mm256_hadd_epi32(a[0], a[1]), _mm256_hadd_epi32(a[2], a[3]));
    return _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
}

/* Rows row, row + 1, ... (or four times the same: n_rows 1) for n_tok tokens. */
INLINE void rows4(scheme s, const mlxr_linear_ints *a, size_t row, size_t n_rows, size_t t, unsigned n_tok)
{
    const mlxr_matrix *m = a->m;
    const size_t n_groups = m->n_cols / s.group, size = s.dtype == MLXR_F32 ? 4 : s.dtype == MLXR_U8 ? 1 : 2;
    const size_t next = n_rows == 4 ? m->row_bytes : 0, next_scale = n_rows == 4 ? n_groups * size : 0;
    const uint8_t *w = (const uint8_t *)m->data + row * m->row_bytes;
    const uint8_t *scales = (const uint8_t *)m->scales + row * n_groups * size;
    const uint8_t *biases = s.dtype == MLXR_U8 ? NULL : (const uint8_t *)m->biases + row * n_groups * size;
    __m128 acc[FEW][4];

    for (unsigned j = 0; j < n_tok; j++)
        for (unsigned c = 0; c < 4; c++) acc[j][c] = _mm_setzero_ps();
    for (size_t g = 0; g < n_groups; g++) {
        __m128 scale = scales_of(scales, next_scale, s.dtype, g);
        __m256i dot[FEW][4];
        UNROLL
        for (unsigned j = 0; j < n_tok; j++) {
            UNROLL
            for (unsigned r = 0; r < 4; r++) dot[j][r] = _mm256_setzero_si256();
        }
        for (size_t b = 0; b < s.group / 32; b++) {
            size_t block = g * (s.group / 32) + b;
            UNROLL
            for (unsigned r = 0; r < 4; r++) {
                __m256i v[2];
                unpack(s, v, w + r * next + block * 4 * s.bits);
                UNROLL
                for (unsigned j = 0; j < n_tok; j++) {
                    const __m256i *x = (const __m256i *)(const void *)(a->x[t + j].x + block * 32);
                    __m256i both = _mm256_add_epi32(_mm256_madd_epi16(v[0], _mm256_loadu_si256(x)),
                                                    _mm256_madd_epi16(v[1], _mm256_loadu_si256(x + 1)));
                    dot[j][r] = _mm256_add_epi32(dot[j][r], both);
                }
            }
        }
        UNROLL
        for (unsigned j = 0; j < n_tok; j++) {
            const mlxr_ints *x = &a->x[t + j];
            __m128 y = acc[j][g % 4];
            y = _mm_fmadd_ps(_mm_cvtepi32_ps(add_across(dot[j])),
                             _mm_mul_ps(scale, _mm_set1_ps(x->scales[4 * g])), y);
            if (s.dtype != MLXR_U8)
                y = _mm_fmadd_ps(scales_of(biases, next_scale, s.dtype, g), _mm_set1_ps(x->sums[4 * g]), y);
            acc[j][g % 4] = y;
        }
    }
    for (unsigned j = 0; j < n_tok; j++) {
        __m128 y = _mm_add_ps(_mm_add_ps(acc[j][0], acc[j][2]), _mm_add_ps(acc[j][1], acc[j][3]));
        float out[4];
        _mm_storeu_ps(out, y);
        for (size_t r = 0; r < n_rows; r++)
            a->y[t + j][row + r] = a->bias ? out[r] + a->bias[row + r] : out[r];
    }
}

INLINE void linear(scheme s, const mlxr_linear_ints *a, size_t begin, size_t end)
{
    for (size_t row = begin, rows; row < end; row += rows) {
        rows = end - row >= 4 ? 4 : 1;
        for (size_t t = 0, n; t < a->n_tokens; t += n) {
            n = a->n_tokens - t >= FEW ? FEW : 1;
            if (n == FEW)
                rows4(s, a, row, rows, t, FEW);
            else
                rows4(s, a, row, rows, t, 1);
        }
    }
}

#define INTS_KERNEL(name, bits, group, dtype)                                            \
    static void name(const mlxr_linear_ints *a, size_t begin, size_t end, void *scratch) \
    {                                                                                    \
        (void)scratch;                                                                   \
        linear((scheme){bits, group, dtype}, a, begin, end);                             \
    }
#include "device/cpu/ints_table.inc.h"

static mlxr_ints_kernel find(const mlxr_matrix *m)
{
    return find_ints(m, MLXR_INTS_PLAIN);
}

const mlxr_ints_kernels mlxr_ints_avx2 = {find, mlxr_ints_from_floats};
