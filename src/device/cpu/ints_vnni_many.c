/* Integer products with AVX-512 VNNI for many tokens: 32 rows unpacked to a panel, eight tokens over it at a time.
 *
 * A core multiplies twice a cycle and loads twice a cycle, and eight tokens' values have to be spread over a vector
 * each: with one vector of rows the loads are the limit, with two they are 10 for 16 products. The sums of the
 * four classes of groups take turns in memory, so that the panel and the activations are read in order. */
#include "device/cpu/ints_vnni.h"

enum { ROWS = MLXR_INTS_PANEL_ROWS, TOKENS = 8 };

/* rows[r]'s sixteen dwords become column r. */
INLINE void transpose16(__m512i v[16])
{
    __m512i a[16];

    UNROLL
    for (unsigned i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
    UNROLL
    for (unsigned i = 0; i < 16; i += 4) {
        v[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
        v[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
        v[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    UNROLL
    for (unsigned i = 0; i < 4; i++) {
        a[i] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0x88);
        a[i + 4] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0xdd);
        a[i + 8] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0x88);
        a[i + 12] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0xdd);
    }
    UNROLL
    for (unsigned i = 0; i < 4; i++) {
        v[i] = _mm512_shuffle_i32x4(a[i], a[i + 8], 0x88);
        v[i + 8] = _mm512_shuffle_i32x4(a[i], a[i + 8], 0xdd);
        v[i + 4] = _mm512_shuffle_i32x4(a[i + 4], a[i + 12], 0x88);
        v[i + 12] = _mm512_shuffle_i32x4(a[i + 4], a[i + 12], 0xdd);
    }
}

/* What a panel holds: dword D of block b of row 16 v + r at [(b * 16 + D) * n_vectors + v][r], scales and biases of
 * group g at [g][16 v + r]. */
typedef struct panel {
    int32_t *w;
    float *scales, *biases;
    size_t n_groups, n_units;
    unsigned per_group; /* blocks */
} panel;

/* Scales or biases of 16 rows from p to out, [n_groups, ROWS]; beyond n_rows the first row's again. */
INLINE void fill_scales(float *out, const uint8_t *p, size_t n_groups, size_t n_rows, mlxr_dtype dtype)
{
    const size_t size = dtype == MLXR_F32 ? 4 : dtype == MLXR_U8 ? 1 : 2, row_bytes = n_groups * size;

    for (size_t g = 0; g < n_groups; g += 16) {
        size_t n = n_groups - g < 16 ? n_groups - g : 16;
        __m512i v[16];
        UNROLL
        for (size_t r = 0; r < 16; r++) {
            const uint8_t *row = p + (r < n_rows ? r : 0) * row_bytes + g * size;
            v[r] = _mm512_castps_si512(load_row_scales(row, n, dtype));
        }
        transpose16(v);
        UNROLL
        for (size_t i = 0; i < 16; i++)
            if (i < n) _mm512_store_si512(out + (g + i) * ROWS, v[i]);
    }
}

/* 16 rows to vector v of n_vectors; beyond n_rows the first row again. */
INLINE void fill_panel(scheme s, const mlxr_matrix *m, size_t row, size_t n_rows, int32_t *out,
                       size_t n_vectors)
{
    const size_t n_units = mlxr_ints_groups(m->n_cols, s.group) * s.group / MLXR_INTS_UNIT;
    const uint8_t *w = (const uint8_t *)m->data + row * m->row_bytes;

    for (size_t u = 0; u < n_units; u++) {
        size_t before = u * 16 * s.bits, there = m->row_bytes > before ? m->row_bytes - before : 0;
        bool whole = there >= 16 * s.bits;
        __m512i v[4][16];
        for (size_t r = 0; r < 16; r++) {
            const uint8_t *p = w + (r < n_rows ? r : 0) * m->row_bytes + (there ? before : 0);
            __m512i one[4];
            if (s.bits == 4) {
                v[0][r] = whole ? _mm512_loadu_si512(p) : load_masked(p, there);
                continue;
            }
            if (whole)
                unpack(s, one, p, there, true);
            else
                unpack(s, one, p, there, false);
            for (unsigned i = 0; i < 4; i++) v[i][r] = one[i];
        }
        /* Values of four bits are unpacked within each dword: across the rows as well as along them. */
        for (unsigned i = 0; i < (s.bits == 4 ? 1 : 4); i++) transpose16(v[i]);
        UNROLL
        for (unsigned k = 0; k < 16; k++) {
            int32_t *to = out + ((u * 4 + k / 4) * 16 + k % 4) * n_vectors * 16;
            __m512i one[4] = {v[0][k], v[1][k], v[2][k], v[3][k]};
            if (s.bits == 4) unpack_vector(s, one, v[0][k]);
            UNROLL
            for (unsigned i = 0; i < 4; i++) _mm512_store_si512(to + i * 4 * n_vectors * 16, one[i]);
        }
    }
}

/* Loads and products as the instructions themselves: compilers load within each product, or move sums about between them
 * (gcc 12: two thirds of the speed). */
INLINE __m512i pair(const int16_t *x)
{
    __m512i v;
    __asm__("vpbroadcastd %1, %0" : "=v"(v) : "m"(*(const int16_t(*)[2])(const void *)x));
    return v;
}

INLINE __m512i add_products(__m512i sum, __m512i a, __m512i b)
{
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}

/* A group's dot products of 16 n_vectors rows for n_tok tokens. */
INLINE void group_dots(const panel *p, size_t g, const mlxr_ints *x, const mlxr_ints *next,
                       unsigned n_vectors, unsigned n_tok, __m512i dot[][TOKENS])
{
    const int32_t *w = p->w + g * p->per_group * 256 * n_vectors;

    UNROLL
    for (unsigned v = 0; v < n_vectors; v++) {
        UNROLL
        for (unsigned j = 0; j < n_tok; j++) dot[v][j] = _mm512_setzero_si512();
    }
    for (size_t b = g * p->per_group; b < (g + 1) * p->per_group; b++, w += 256 * n_vectors) {
        const size_t at = b / 4 * MLXR_INTS_UNIT + b % 4 * 8;
        const size_t line = b % 4 * 32, unit = b / 4 + 1 < p->n_units ? b / 4 + 1 : 0;
        const mlxr_ints *ahead = unit ? x : next;
        UNROLL
        for (unsigned j = 0; j < n_tok; j++) __builtin_prefetch(ahead[j].x + unit * MLXR_INTS_UNIT + line);
        UNROLL
        for (unsigned i = 0; i < 16; i++) {
            __m512i rows[2];
            UNROLL
            for (unsigned v = 0; v < n_vectors; v++)
                rows[v] = _mm512_loadu_si512(w + (i * n_vectors + v) * 16);
            UNROLL
            for (unsigned j = 0; j < n_tok; j++) {
                __m512i one = pair(x[j].x + at + i / 4 * 32 + i % 4 * 2);
                UNROLL
                for (unsigned v = 0; v < n_vectors; v++) dot[v][j] = add_products(dot[v][j], rows[v], one);
            }
        }
    }
}

INLINE void panel_sums(const panel *p, const mlxr_ints *x, const mlxr_ints *next, unsigned n_vectors,
                       unsigned n_tok, bool biased, float *sums)
{
    for (size_t g = 0; g < p->n_groups; g++) {
        float *sum = sums + g % 4 * n_vectors * n_tok * 16;
        const __mmask16 begun = g < 4 ? 0 : 0xffff; /* a class's first group finds no sum yet */
        __m512i dot[2][TOKENS];
        __m512 scale[2], bias[2];
        group_dots(p, g, x, next, n_vectors, n_tok, dot);
        UNROLL
        for (unsigned v = 0; v < n_vectors; v++) {
            scale[v] = _mm512_load_ps(p->scales + g * ROWS + v * 16);
            bias[v] = biased ? _mm512_load_ps(p->biases + g * ROWS + v * 16) : scale[v];
        }
        UNROLL
        for (unsigned j = 0; j < n_tok; j++) {
            if (g % 2)
                __builtin_prefetch(x[j].scales + (g + 4) * 4);
            else
                __builtin_prefetch(x[j].sums + (g + 4) * 4);
            __m512 x_scale = _mm512_set1_ps(x[j].scales[g * 4]), x_sum = _mm512_set1_ps(x[j].sums[g * 4]);
            UNROLL
            for (unsigned v = 0; v < n_vectors; v++) {
                float *at = sum + (j * n_vectors + v) * 16;
                __m512 acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[v][j]), _mm512_mul_ps(scale[v], x_scale),
                                             _mm512_maskz_load_ps(begun, at));
                _mm512_store_ps(at, biased ? _mm512_fmadd_ps(bias[v], x_sum, acc) : acc);
            }
        }
    }
}

/* The bodies that take their time: shared by all schemes, which differ in what fills the panel. */
#define PANEL_SUMS(name, n_vectors, biased)                                                               \
    static __attribute__((noinline)) void name(const panel *p, const mlxr_ints *x, const mlxr_ints *next, \
                                               float *s)                                                  \
    {                                                                                                     \
        panel_sums(p, x, next, n_vectors, TOKENS, biased, s);                                             \
    }
PANEL_SUMS(sums_16, 1, false)
PANEL_SUMS(sums_16_biased, 1, true)
PANEL_SUMS(sums_32, 2, false)
PANEL_SUMS(sums_32_biased, 2, true)

/* Eight tokens from t, of n_rows rows. */
static void panel_tokens(const panel *p, const mlxr_linear_ints *a, size_t row, size_t n_rows, size_t t)
{
    const size_t n_vectors = n_rows > 16 ? 2 : 1;
    const mlxr_ints *x = a->x + t, *next = t + 2 * TOKENS <= a->n_tokens ? x + TOKENS : x;
    _Alignas(64) float sums[4 * 2 * TOKENS * 16];

    for (size_t j = 0; j < TOKENS; j++) {
        __builtin_prefetch(a->y[t + j] + row, 1);
        __builtin_prefetch(a->y[t + j] + row + n_rows - 1, 1);
    }

    if (p->biases)
        (n_vectors == 2 ? sums_32_biased : sums_16_biased)(p, x, next, sums);
    else
        (n_vectors == 2 ? sums_32 : sums_16)(p, x, next, sums);
    for (size_t c = p->n_groups; c < 4; c++)
        memset(sums + c * 16 * n_vectors * TOKENS, 0, 64 * n_vectors * TOKENS);
    for (size_t j = 0; j < TOKENS; j++) {
        for (size_t v = 0; v < n_vectors; v++) {
            size_t left = n_rows - v * 16, part = n_vectors * TOKENS * 16;
            __mmask16 keep = (__mmask16)(left >= 16 ? 0xffff : (1u << left) - 1);
            const float *sum = sums + (j * n_vectors + v) * 16;
            __m512 y = _mm512_add_ps(
                _mm512_add_ps(_mm512_load_ps(sum), _mm512_load_ps(sum + 2 * part)),
                _mm512_add_ps(_mm512_load_ps(sum + part), _mm512_load_ps(sum + 3 * part)));
            if (a->bias) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(keep, a->bias + row + v * 16));
            _mm512_mask_storeu_ps(a->y[t + j] + row + v * 16, keep, y);
        }
    }
}

INLINE void many_tokens(scheme s, const mlxr_linear_ints *a, size_t begin, size_t end, void *scratch)
{
    const size_t n = mlxr_ints_groups(a->m->n_cols, s.group), n_groups = a->m->n_cols / s.group;
    const size_t scale_bytes = n_groups * (s.dtype == MLXR_F32 ? 4 : s.dtype == MLXR_U8 ? 1 : 2);
    panel p = {.w = scratch,
               .n_groups = n_groups,
               .n_units = n * s.group / MLXR_INTS_UNIT,
               .per_group = s.group / 32};

    p.scales = (float *)(void *)(p.w + n * s.group / 2 * ROWS);
    p.biases = s.dtype == MLXR_U8 ? NULL : p.scales + n * ROWS;
    for (size_t row = begin; row < end; row += ROWS) {
        size_t n_rows = end - row < ROWS ? end - row : ROWS, t = 0, n_vectors = n_rows > 16 ? 2 : 1;
        for (size_t v = 0; v < n_vectors; v++) {
            const size_t at = (row + v * 16) * scale_bytes, n_here = n_rows - v * 16;
            fill_panel(s, a->m, row + v * 16, n_here, p.w + v * 16, n_vectors);
            fill_scales(p.scales + v * 16, (const uint8_t *)a->m->scales + at, n_groups, n_here, s.dtype);
            if (p.biases)
                fill_scales(p.biases + v * 16, (const uint8_t *)a->m->biases + at, n_groups, n_here, s.dtype);
        }
        for (; t + TOKENS <= a->n_tokens; t += TOKENS) panel_tokens(&p, a, row, n_rows, t);
        if (t < a->n_tokens) {
            mlxr_linear_ints last = *a;
            last.x += t;
            last.y += t;
            last.n_tokens -= t;
            last.run_end = end; /* nothing to fetch ahead: what is read was just read */
            last.after = (mlxr_stream){(uintptr_t)a->m->data, (uintptr_t)a->m->scales,
                                       (uintptr_t)a->m->biases};
            mlxr_ints_vnni_some(a->m)(&last, row, row + n_rows, NULL);
        }
    }
}

INTS_KERNELS(many_tokens)

mlxr_linear_ints_fn mlxr_ints_vnni_many(const mlxr_matrix *m)
{
    return find_kernel(m);
}
