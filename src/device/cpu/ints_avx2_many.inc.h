/* Integer products on vectors of eight int32 for many tokens: 16 rows unpacked to a panel, six tokens over it at a time.
 *
 * Twelve vectors of sums, two of rows and one of a token's pair fill the sixteen registers; a step's 12 products cost 8 loads.
 * The sums of the four classes of groups take turns in memory, so that the panel and the activations are read in order. */
#include "device/cpu/ints_avx2.h"

enum { ROWS = 16, TOKENS = 6 };

/* What a panel holds: dword D of block b of row r at [b * 16 + D][r], scales and biases of group g at [g][r]. */
typedef struct panel {
    int32_t *w;
    float *scales, *biases; /* biases NULL: none */
    size_t n_groups;
    unsigned per_group; /* blocks */
} panel;

/* rows[r]'s eight dwords become column r. */
INLINE void transpose8(__m256i v[8])
{
    __m256i a[8], b[8];

    UNROLL
    for (unsigned i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
        a[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
    }
    UNROLL
    for (unsigned i = 0; i < 8; i += 4) {
        b[i] = _mm256_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm256_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm256_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm256_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    UNROLL
    for (unsigned i = 0; i < 4; i++) {
        v[i] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x20);
        v[i + 4] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x31);
    }
}

/* Beyond n_rows the first row again. The rows behind these are asked for: sixteen short pieces at a time are what the
 * hardware's prefetchers do not follow, and an address past the end is only a hint. */
INLINE void fill_panel(scheme s, const mlxr_matrix *m, size_t row, size_t n_rows, int32_t *out)
{
    const size_t n_pairs = mlxr_ints_groups(m->n_cols, s.group) * s.group / PAIR, bytes = 8 * s.bits;
    const uint8_t *w = (const uint8_t *)m->data + row * m->row_bytes;

    for (size_t u = 0; u < n_pairs; u++) {
        size_t before = u * bytes, there = m->row_bytes > before ? m->row_bytes - before : 0;
        for (size_t first = 0; first < ROWS; first += 8) {
            __m256i v[4][8];
            for (size_t r = 0; r < 8; r++) {
                const uint8_t *p = w + (first + r < n_rows ? first + r : 0) * m->row_bytes + before;
                uint8_t last[64];
                __m256i one[4];
                __builtin_prefetch((const void *)((uintptr_t)p + ROWS * m->row_bytes));
                if (there < bytes) {
                    memset(last, 0, sizeof last);
                    if (there) memcpy(last, p, there);
                    p = last;
                }
                unpack(s, one, p);
                UNROLL
                for (unsigned i = 0; i < 4; i++) v[i][r] = one[i];
            }
            for (unsigned i = 0; i < 4; i++) {
                transpose8(v[i]);
                for (unsigned k = 0; k < 8; k++) {
                    size_t at = (2 * u + k / 4) * 16 + i * 4 + k % 4;
                    _mm256_storeu_si256((__m256i *)(void *)(out + at * ROWS + first), v[i][k]);
                }
            }
        }
    }
}

/* Scales or biases of up to ROWS rows; beyond n_rows the first row's again. */
INLINE void fill_scales(float *out, const uint8_t *p, size_t n_groups, size_t n_rows, mlxr_dtype dtype)
{
    const size_t size = dtype == MLXR_F32 ? 4 : dtype == MLXR_U8 ? 1 : 2, row_bytes = n_groups * size;

    for (size_t r = 0; r < ROWS; r += 4) {
        /* Rows go in fours; a last four that is not whole takes one row four times, for each of its rows. */
        size_t whole = n_rows >= r + 4 ? 1 : 4, next = whole == 1 ? row_bytes : 0;
        for (size_t i = 0; i < whole; i++) {
            const uint8_t *row = p + (r + i < n_rows ? r + i : 0) * row_bytes;
            for (size_t g = 0; g < n_groups; g += 4) {
                size_t n = n_groups - g < 4 ? n_groups - g : 4;
                __m256 v[2];
                float lanes[16];
                if (n == 4)
                    load_scales(v, row + g * size, next, 4, dtype);
                else
                    copy_scales(v, row + g * size, next, n, dtype);
                _mm256_storeu_ps(lanes, v[0]);
                _mm256_storeu_ps(lanes + 8, v[1]);
                for (size_t c = 0; c < n; c++)
                    memcpy(out + (g + c) * ROWS + r + i, lanes + 4 * c, (whole == 1 ? 4 : 1) * sizeof *out);
            }
        }
    }
}

INLINE __m256i pair_of(const int16_t *x)
{
    int32_t both;
    memcpy(&both, x, sizeof both);
    return _mm256_set1_epi32(both);
}

/* A group's dot products of 16 rows for n_tok tokens. */
INLINE void group_dots(const panel *p, size_t g, const mlxr_ints *x, unsigned n_tok, __m256i dot[][2])
{
    const int32_t *w = p->w + g * p->per_group * 16 * ROWS;

    UNROLL
    for (unsigned j = 0; j < n_tok; j++) dot[j][0] = dot[j][1] = _mm256_setzero_si256();
    for (size_t b = g * p->per_group; b < (g + 1) * p->per_group; b++, w += 16 * ROWS) {
        const size_t at = b / 4 * MLXR_INTS_UNIT + b % 4 * 8;
        UNROLL
        for (unsigned i = 0; i < 16; i++) {
            __m256i lo = load_256(w + i * ROWS), hi = load_256(w + i * ROWS + 8);
            UNROLL
            for (unsigned j = 0; j < n_tok; j++) {
                __m256i one = pair_of(x[j].x + at + i / 4 * 32 + i % 4 * 2);
                dot[j][0] = dot_add(dot[j][0], lo, one);
                dot[j][1] = dot_add(dot[j][1], hi, one);
            }
        }
    }
}

/* Sums of the classes, [4][n_tok][ROWS]. */
INLINE void panel_sums(const panel *p, const mlxr_ints *x, unsigned n_tok, bool biased, float *sums)
{
    const float *scales = p->scales, *biases = p->biases, *x_scales[TOKENS], *x_sums[TOKENS];

    UNROLL
    for (unsigned j = 0; j < n_tok; j++) {
        x_scales[j] = x[j].scales;
        x_sums[j] = x[j].sums;
    }
    for (size_t i = 0; i < (size_t)4 * n_tok * ROWS; i += 8) _mm256_storeu_ps(sums + i, _mm256_setzero_ps());
    for (size_t g = 0; g < p->n_groups; g++) {
        float *sum = sums + g % 4 * n_tok * ROWS;
        __m256i dot[TOKENS][2];
        group_dots(p, g, x, n_tok, dot);
        UNROLL
        for (unsigned v = 0; v < 2; v++) {
            __m256 scale = _mm256_loadu_ps(scales + g * ROWS + v * 8);
            __m256 bias = _mm256_loadu_ps((biased ? biases : scales) + g * ROWS + v * 8);
            UNROLL
            for (unsigned j = 0; j < n_tok; j++) {
                float *at = sum + j * ROWS + v * 8;
                __m256 both = _mm256_mul_ps(scale, _mm256_set1_ps(x_scales[j][g * 4]));
                __m256 acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[j][v]), both, _mm256_loadu_ps(at));
                if (biased) acc = _mm256_fmadd_ps(bias, _mm256_set1_ps(x_sums[j][g * 4]), acc);
                _mm256_storeu_ps(at, acc);
            }
        }
    }
}

/* The bodies that take their time: shared by all schemes, which differ in what fills the panel. */
#define PANEL_SUMS(n)                                                                               \
    static __attribute__((noinline)) void sums_##n(const panel *p, const mlxr_ints *x, float *sums) \
    {                                                                                               \
        if (p->biases)                                                                              \
            panel_sums(p, x, n, true, sums);                                                        \
        else                                                                                        \
            panel_sums(p, x, n, false, sums);                                                       \
    }
PANEL_SUMS(1)
PANEL_SUMS(2)
PANEL_SUMS(6)

/* As many tokens as it takes at once, at most n: their rows [row, row + n_rows). */
static size_t panel_tokens(const panel *p, const mlxr_linear_ints *a, size_t row, size_t n_rows, size_t t)
{
    size_t left = a->n_tokens - t, n = left >= TOKENS ? TOKENS : left >= 2 ? 2 : 1;
    float sums[4 * TOKENS * ROWS];

    if (n == TOKENS)
        sums_6(p, a->x + t, sums);
    else if (n == 2)
        sums_2(p, a->x + t, sums);
    else
        sums_1(p, a->x + t, sums);
    for (size_t j = 0; j < n; j++) {
        const float *sum = sums + j * ROWS;
        float y[ROWS];
        for (size_t v = 0; v < ROWS; v += 8) {
            __m256 even = _mm256_add_ps(_mm256_loadu_ps(sum + v), _mm256_loadu_ps(sum + 2 * n * ROWS + v));
            __m256 odd = _mm256_add_ps(_mm256_loadu_ps(sum + n * ROWS + v),
                                       _mm256_loadu_ps(sum + 3 * n * ROWS + v));
            _mm256_storeu_ps(y + v, _mm256_add_ps(even, odd));
        }
        for (size_t r = 0; a->bias && r < n_rows; r++) y[r] += a->bias[row + r];
        memcpy(a->y[t + j] + row, y, n_rows * sizeof *y);
    }
    return n;
}

INLINE void many_tokens(scheme s, const mlxr_linear_ints *a, size_t begin, size_t end, void *scratch)
{
    const size_t n = mlxr_ints_groups(a->m->n_cols, s.group), n_groups = a->m->n_cols / s.group;
    const size_t scale_bytes = n_groups * scale_size(s);
    panel p = {.w = scratch, .n_groups = n_groups, .per_group = s.group / 32};

    p.scales = (float *)(void *)(p.w + n * s.group / 2 * ROWS);
    p.biases = s.dtype == MLXR_U8 ? NULL : p.scales + n * ROWS;
    for (size_t row = begin; row < end; row += ROWS) {
        size_t n_rows = end - row < ROWS ? end - row : ROWS;
        fill_panel(s, a->m, row, n_rows, p.w);
        fill_scales(p.scales, (const uint8_t *)a->m->scales + row * scale_bytes, n_groups, n_rows, s.dtype);
        if (p.biases)
            fill_scales(p.biases, (const uint8_t *)a->m->biases + row * scale_bytes, n_groups, n_rows,
                        s.dtype);
        for (size_t t = 0; t < a->n_tokens;) t += panel_tokens(&p, a, row, n_rows, t);
    }
}

INTS_KERNELS(many_tokens)

mlxr_linear_ints_fn EXPORTED(many)(const mlxr_matrix *m)
{
    return find_kernel(m);
}
