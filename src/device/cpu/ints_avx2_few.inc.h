/* Integer products on vectors of eight int32 for few tokens: four rows at a time.
 *
 * Each 128-bit lane of a pair of blocks' products has its block's sum in four parts. Four rows' sums are then added across
 * in one small transposition, which leaves lane 4 c + r with row r's dot product of group c of two. A step is four
 * groups: two vectors of sums, of classes 0 and 1 and of classes 2 and 3. */
#include "device/cpu/ints_avx2.h"

/* Adds the four int32 of every 128-bit lane of four rows: lane 4 c + r. */
INLINE __m256i add_across(const __m256i a[4])
{
    __m256i ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a[0], a[1]), _mm256_unpackhi_epi32(a[0], a[1]));
    __m256i cd = _mm256_add_epi32(_mm256_unpacklo_epi32(a[2], a[3]), _mm256_unpackhi_epi32(a[2], a[3]));
    return _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
}

/* The dot products of two groups of one row, before they are added across: pairs of blocks from `first` of the row of
 * integers on. */
INLINE __m256i pairs_dot(scheme s, __m256i w[][4], const int16_t *x, unsigned first)
{
    const unsigned n_pairs = s.group / 32;
    __m256i sum[2];

    UNROLL
    for (unsigned u = 0; u < n_pairs; u++) {
        const int16_t *at = x + (first + u) / 2 * MLXR_INTS_UNIT + (first + u) % 2 * 16;
        unsigned g = n_pairs == 1 ? 0 : u / (n_pairs / 2); /* which group of the two */
        if (n_pairs == 1 || u % (n_pairs / 2) == 0) sum[g] = _mm256_setzero_si256();
        UNROLL
        for (unsigned m = 0; m < 4; m++) sum[g] = dot_add(sum[g], w[u][m], load_256(at + m * 32));
    }
    if (n_pairs == 1) return sum[0];
    return _mm256_add_epi32(_mm256_permute2x128_si256(sum[0], sum[1], 0x20),
                            _mm256_permute2x128_si256(sum[0], sum[1], 0x31));
}

/* Half a step, two groups, of four rows: onto acc, the sums of the two classes. */
INLINE void half_step(scheme s, const mlxr_ints *x, const uint8_t *w_row, size_t next, size_t step,
                      unsigned half, __m256 scale, __m256 bias, __m256 *acc)
{
    const unsigned n_pairs = s.group / 32;
    const size_t at = step * 16 + half * 8;
    __m256i dot[4];
    __m256 product;

    UNROLL
    for (unsigned r = 0; r < 4; r++) {
        __m256i w[4][4];
        UNROLL
        for (unsigned u = 0; u < n_pairs; u++) unpack(s, w[u], w_row + r * next + u * 8 * s.bits);
        dot[r] = pairs_dot(s, w, x->x + step * 4 * s.group, half * n_pairs);
    }
    product = _mm256_cvtepi32_ps(add_across(dot));
    *acc = _mm256_fmadd_ps(product, _mm256_mul_ps(scale, _mm256_loadu_ps(x->scales + at)), *acc);
    if (s.dtype != MLXR_U8) *acc = _mm256_fmadd_ps(bias, _mm256_loadu_ps(x->sums + at), *acc);
}

/* Where four rows are read: pointers to the next step, and from row to row. */
typedef struct rows4 {
    const uint8_t *w, *scales, *biases;
    size_t next, next_scale;
} rows4;

/* The last n < 4 groups, after `step` whole steps. */
INLINE void last_step(scheme s, const mlxr_ints *x, rows4 at, size_t step, size_t n, __m256 acc[2])
{
    const size_t group_bytes = s.group / 8 * s.bits;
    __m256 scale[2], bias[2];
    uint8_t one[4][2 * 128];

    if (step == 0) {
        copy_scales(scale, at.scales, at.next_scale, n, s.dtype);
        copy_scales(bias, at.biases, at.next_scale, n, s.dtype);
    } else {
        load_scales(scale, at.scales, at.next_scale, n, s.dtype);
        load_scales(bias, at.biases, at.next_scale, n, s.dtype);
    }
    for (unsigned half = 0; 2 * half < n; half++) {
        __m256 sum = half ? acc[1] : acc[0];
        if (n == 2 * half + 1) { /* half of the half is there */
            for (size_t r = 0; r < 4; r++) {
                memcpy(one[r], at.w + r * at.next, group_bytes);
                memset(one[r] + group_bytes, 0, group_bytes);
            }
            at.w = one[0];
            at.next = sizeof one[0];
        }
        half_step(s, x, at.w, at.next, step, half, half ? scale[1] : scale[0], half ? bias[1] : bias[0],
                  &sum);
        if (half)
            acc[1] = sum;
        else
            acc[0] = sum;
        at.w += 2 * group_bytes;
    }
}

/* One token. ahead: what to ask for on the way; its w may be 0. */
INLINE __m128 rows_dot(scheme s, const mlxr_ints *x, rows4 at, size_t n_groups, mlxr_stream ahead)
{
    const size_t size = scale_size(s), step_bytes = s.group / 2 * s.bits, n_steps = n_groups / 4;
    __m256 acc[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()}, both;

    for (size_t step = 0; step < n_steps; step++) {
        __m256 scale[2], bias[2];
        if (ahead.w) {
            prefetch(ahead.w, 4 * step_bytes);
            prefetch(ahead.scales, 16 * size);
            prefetch(ahead.biases, 16 * size);
            ahead.w += 4 * step_bytes;
            ahead.scales += 16 * size;
            ahead.biases += 16 * size;
        }
        load_scales(scale, at.scales, at.next_scale, 4, s.dtype);
        load_scales(bias, at.biases, at.next_scale, 4, s.dtype);
        UNROLL
        for (unsigned half = 0; half < 2; half++)
            half_step(s, x, at.w + half * step_bytes / 2, at.next, step, half, scale[half], bias[half],
                      &acc[half]);
        at.w += step_bytes;
        at.scales += 4 * size;
        at.biases += 4 * size;
    }
    if (n_groups % 4) last_step(s, x, at, n_steps, n_groups % 4, acc);
    both = _mm256_add_ps(acc[0], acc[1]);
    return _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));
}

/* The tokens one after the other over four rows, which the first of them brings to the cache; a row that is left over is
 * taken four times. */
INLINE void few_tokens(scheme s, const mlxr_linear_ints *a, size_t begin, size_t end, void *scratch)
{
    const mlxr_matrix *m = a->m;
    const size_t n_groups = m->n_cols / s.group, scale_bytes = n_groups * scale_size(s);

    (void)scratch;
    for (size_t row = begin, n; row < end; row += n) {
        rows4 at = {.w = (const uint8_t *)m->data + row * m->row_bytes,
                    .scales = (const uint8_t *)m->scales + row * scale_bytes};
        const mlxr_stream ahead = ahead_of(a, row, scale_bytes), none = {0};
        n = end - row >= 4 ? 4 : 1;
        at.biases = s.dtype == MLXR_U8 ? at.scales : (const uint8_t *)m->biases + row * scale_bytes;
        at.next = n == 4 ? m->row_bytes : 0;
        at.next_scale = n == 4 ? scale_bytes : 0;
        for (size_t t = 0; t < a->n_tokens; t++) {
            __m128 y = rows_dot(s, &a->x[t], at, n_groups, t == 0 ? ahead : none);
            float *out = a->y[t] + row;
            if (n == 4)
                _mm_storeu_ps(out, a->bias ? _mm_add_ps(y, _mm_loadu_ps(a->bias + row)) : y);
            else
                *out = _mm_cvtss_f32(y) + (a->bias ? a->bias[row] : 0);
        }
    }
}

INTS_KERNELS(few_tokens)

mlxr_linear_ints_fn EXPORTED(few)(const mlxr_matrix *m)
{
    return find_kernel(m);
}
