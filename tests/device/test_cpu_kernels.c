/* Every kernel of every instruction set this machine has: against the plain reading in double, and against itself,
 * bit for bit, when the same token comes in other company. Buffers are exactly as long as the contract says, so
 * that AddressSanitizer sees a byte too far. */
#include "test.h"

#include <math.h>

#include "device/cpu/kernels.h"
#include "device/kv.h"

static uint64_t seed = 1;

static uint32_t random_u32(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 16);
}

static float random_float(void) /* [-1, 1) */
{
    return (float)(int32_t)random_u32() / 2147483648.0f;
}

static void *must_alloc(size_t n)
{
    void *p = malloc(n ? n : 1);
    assert_non_null(p);
    return p;
}

static float *random_floats(size_t n)
{
    float *p = must_alloc(n * sizeof *p);
    for (size_t i = 0; i < n; i++) p[i] = random_float();
    return p;
}

/* ---- linear ---- */

/* Data, scales and biases at odd addresses, each in an allocation that ends with them. */
typedef struct fixture {
    mlxr_matrix m;
    uint8_t *data, *scales, *biases;
    float *w; /* [n_rows, n_cols], dequantized */
} fixture;

static uint8_t *odd_alloc(size_t n)
{
    return (uint8_t *)must_alloc(n + 1) + 1;
}

static fixture make_matrix(mlxr_quant quant, mlxr_dtype dtype, size_t n_rows, size_t n_cols)
{
    fixture f = {.m = {.quant = quant, .dtype = dtype, .n_rows = n_rows, .n_cols = n_cols}};
    size_t n_values = n_rows * n_cols;

    if (quant.mode == MLXR_QUANT_NONE) {
        f.m.row_bytes = n_cols * mlxr_dtype_bits(dtype) / 8;
        f.data = odd_alloc(n_rows * f.m.row_bytes);
        for (size_t i = 0; i < n_values; i++) mlxr_store_float(f.data, dtype, i, random_float());
    } else if (mlxr_quant_is_fp(quant.mode)) {
        size_t n_groups = n_values / quant.group_size;
        f.m.row_bytes = n_cols * quant.bits / 8;
        f.data = odd_alloc(n_rows * f.m.row_bytes);
        f.scales = odd_alloc(n_groups);
        for (size_t i = 0; i < n_rows * f.m.row_bytes; i++) {
            f.data[i] = (uint8_t)random_u32();
            if (quant.bits == 8 && (f.data[i] & 0x7f) == 0x7f) f.data[i]--; /* not NaN */
        }
        for (size_t i = 0; i < n_groups; i++) {
            f.scales[i] = (uint8_t)(quant.mode == MLXR_QUANT_NVFP4 ? random_u32() : 123 + random_u32() % 8);
            if (quant.mode == MLXR_QUANT_NVFP4 && (f.scales[i] & 0x7f) == 0x7f) f.scales[i]--;
        }
    } else {
        size_t n_groups = n_values / quant.group_size, bytes = mlxr_dtype_bits(dtype) / 8;
        f.m.row_bytes = n_cols * quant.bits / 8;
        f.data = odd_alloc(n_rows * f.m.row_bytes);
        f.scales = odd_alloc(n_groups * bytes);
        f.biases = odd_alloc(n_groups * bytes);
        for (size_t i = 0; i < n_rows * f.m.row_bytes; i++) f.data[i] = (uint8_t)random_u32();
        for (size_t i = 0; i < n_groups; i++) {
            mlxr_store_float(f.scales, dtype, i, random_float() / (float)(1u << quant.bits));
            mlxr_store_float(f.biases, dtype, i, random_float());
        }
    }
    f.m.data = f.data;
    f.m.scales = f.scales;
    f.m.biases = f.biases;
    f.w = must_alloc(n_values * sizeof *f.w);
    for (size_t i = 0; i < n_rows; i++) mlxr_matrix_row(&f.m, i, f.w + i * n_cols);
    return f;
}

static void free_matrix(fixture *f)
{
    free(f->data - 1);
    if (f->scales) free(f->scales - 1);
    if (f->biases) free(f->biases - 1);
    free(f->w);
}

enum { MOST_TOKENS = 17 };

/* Tokens as the contract wants them: zero from n_cols up to a multiple of the chunk. */
static void make_tokens(float *x[MOST_TOKENS], size_t n_cols)
{
    size_t padded = mlxr_round_up(n_cols, MLXR_CPU_CHUNK);
    for (size_t t = 0; t < MOST_TOKENS; t++) {
        x[t] = random_floats(padded);
        for (size_t i = n_cols; i < padded; i++) x[t][i] = 0.0f;
    }
}

static void check_values(const fixture *f, const float *bias, const float *x, const float *y)
{
    for (size_t r = 0; r < f->m.n_rows; r++) {
        double sum = bias ? bias[r] : 0, size = fabs(sum), error;
        for (size_t i = 0; i < f->m.n_cols; i++) {
            double p = (double)f->w[r * f->m.n_cols + i] * x[i];
            sum += p;
            size += fabs(p);
        }
        /* One lane adds n_cols / 4 terms at most, the tree and the bias a few more: each rounds once; a weight
         * with a float32 scale is rounded once more than here. */
        error = fabs(y[r] - sum) / (((double)f->m.n_cols / 4 + 8) * 0x1p-24 * size + 1e-300);
        if (!(error <= 1)) fail_msg("row %zu: %.9g, wanted %.9g: %.2f of the bound", r, y[r], sum, error);
    }
}

/* Takes f. */
static void check_matrix(const mlxr_cpu_kernels *k, fixture f, bool with_bias)
{
    const size_t n_rows = f.m.n_rows, n_cols = f.m.n_cols;
    mlxr_cpu_linear_fn fn = k->linear(&f.m);
    float *x[MOST_TOKENS], *alone[MOST_TOKENS], *y[MOST_TOKENS],
        *bias = with_bias ? random_floats(n_rows) : NULL;
    mlxr_cpu_linear a = {.m = &f.m, .bias = bias};
    size_t n_scratch = 0, cut = n_rows / 3;
    float *scratch, *unit = must_alloc(mlxr_round_up(n_cols, MLXR_CPU_CHUNK) * sizeof *unit);

    assert_non_null(fn);
    assert_true(mlxr_cpu_linear_scratch(&n_scratch, n_cols));
    scratch = must_alloc(n_scratch * sizeof *scratch);
    make_tokens(x, n_cols);
    for (size_t t = 0; t < MOST_TOKENS; t++) {
        const float *one = x[t];
        alone[t] = must_alloc(n_rows * sizeof **alone);
        y[t] = must_alloc(n_rows * sizeof **y);
        a.x = &one;
        a.y = &alone[t];
        a.n_tokens = 1;
        fn(&a, 0, n_rows, scratch);
        check_values(&f, bias, x[t], alone[t]);
    }
    a.x = (const float *const *)x;
    a.y = y;
    for (size_t n = 1; n <= MOST_TOKENS; n++) {
        a.n_tokens = n;
        for (size_t t = 0; t < MOST_TOKENS; t++) memset(y[t], 0xee, n_rows * sizeof **y);
        /* In two parts, the second first: neither the cut nor the order may show. */
        fn(&a, cut, n_rows, scratch);
        for (size_t t = 0; t < n; t++) { /* and it wrote nothing outside its part */
            for (size_t r = 0; r < cut * sizeof **y; r++) assert_int_equal(((uint8_t *)y[t])[r], 0xee);
        }
        fn(&a, 0, cut, scratch);
        for (size_t t = 0; t < MOST_TOKENS; t++) {
            if (t < n) {
                assert_memory_equal(y[t], alone[t], n_rows * sizeof **y);
            } else {
                for (size_t r = 0; r < n_rows * sizeof **y; r++) assert_int_equal(((uint8_t *)y[t])[r], 0xee);
            }
        }
    }
    /* A unit vector reads one column back: the weights themselves. The product of a half-precision scale and a code
     * is exact in float32, so fma or not makes no difference; with a float32 scale it may. There is no sum in the modes
     * of floats. */
    if (!with_bias && (f.m.dtype != MLXR_F32 || f.m.quant.mode == MLXR_QUANT_NONE)) {
        for (size_t c = 0; c < n_cols; c += 1 + c / 7) {
            const float *one = unit;
            memset(unit, 0, mlxr_round_up(n_cols, MLXR_CPU_CHUNK) * sizeof *unit);
            unit[c] = 1.0f;
            a.x = &one;
            a.n_tokens = 1;
            fn(&a, 0, n_rows, scratch);
            for (size_t r = 0; r < n_rows; r++) {
                if (y[0][r] != f.w[r * n_cols + c]) {
                    fail_msg("weight [%zu, %zu]: %.9g, wanted %.9g", r, c, y[0][r], f.w[r * n_cols + c]);
                }
            }
        }
    }
    for (size_t t = 0; t < MOST_TOKENS; t++) {
        free(x[t]);
        free(alone[t]);
        free(y[t]);
    }
    free(bias);
    free(scratch);
    free(unit);
    free_matrix(&f);
}

static void check_linear(const mlxr_cpu_kernels *k, mlxr_quant quant, mlxr_dtype dtype, size_t n_rows,
                         size_t n_cols, bool with_bias)
{
    check_matrix(k, make_matrix(quant, dtype, n_rows, n_cols), with_bias);
}

static const mlxr_dtype float_types[] = {MLXR_F16, MLXR_BF16, MLXR_F32};

static void test_affine(void **state)
{
    static const unsigned bits[] = {2, 3, 4, 5, 6, 8}, groups[] = {32, 64, 128};
    static const size_t rows[] = {1, 3, 6, 37};
    const mlxr_cpu_kernels *k;

    for (size_t i = 0; (k = mlxr_cpu_kernels_at(i)) != NULL; i++) {
        for (size_t b = 0; b < MLXR_COUNT(bits); b++) {
            for (size_t g = 0; g < MLXR_COUNT(groups); g++) {
                for (size_t d = 0; d < MLXR_COUNT(float_types); d++) {
                    mlxr_quant q = {MLXR_QUANT_AFFINE, bits[b], groups[g]};
                    for (size_t r = 0; r < MLXR_COUNT(rows); r++) {
                        check_linear(k, q, float_types[d], rows[r], groups[g] * (1 + 2 * (r % 2)), r == 2);
                    }
                }
            }
        }
    }
}

static void test_affine_of_a_real_shape(void **state)
{
    const mlxr_cpu_kernels *k;
    for (size_t i = 0; (k = mlxr_cpu_kernels_at(i)) != NULL; i++) {
        check_linear(k, (mlxr_quant){MLXR_QUANT_AFFINE, 4, 32}, MLXR_F16, 75, 576, false);
        check_linear(k, (mlxr_quant){MLXR_QUANT_AFFINE, 4, 64}, MLXR_BF16, 9, 4096, true);
    }
}

/* Rows that many tokens pass over in parts: of several parts, the last of them short, and more tokens than go together. */
static void check_parts(const mlxr_cpu_kernels *k, mlxr_quant quant, mlxr_dtype dtype, size_t n_cols)
{
    enum { ROWS = 39, TOKENS = 2 * MLXR_CPU_PART_TOKENS + 5, DIFFERENT = 11 };
    fixture f = make_matrix(quant, dtype, ROWS, n_cols);
    mlxr_cpu_linear_fn fn = k->linear(&f.m);
    float *x[MOST_TOKENS], *bias = random_floats(ROWS), *values = random_floats((TOKENS + DIFFERENT) * ROWS);
    const float *rows[TOKENS];
    float *y[TOKENS], *scratch;
    size_t n_scratch = 0;
    mlxr_cpu_linear a = {.m = &f.m, .bias = bias, .x = rows, .y = y, .n_tokens = 1};

    assert_non_null(fn);
    assert_true(mlxr_cpu_panel_columns(n_cols) < n_cols);
    assert_true(mlxr_cpu_linear_scratch(&n_scratch, n_cols));
    scratch = must_alloc(n_scratch * sizeof *scratch);
    make_tokens(x, n_cols);
    for (size_t t = 0; t < DIFFERENT; t++) {
        rows[0] = x[t];
        y[0] = values + (TOKENS + t) * ROWS;
        fn(&a, 0, ROWS, scratch);
        check_values(&f, bias, x[t], y[0]);
    }
    for (size_t t = 0; t < TOKENS; t++) {
        rows[t] = x[t % DIFFERENT];
        y[t] = values + t * ROWS;
    }
    for (a.n_tokens = 2; a.n_tokens <= TOKENS; a.n_tokens += a.n_tokens < 8 ? 1 : TOKENS - 8) {
        memset(values, 0xee, TOKENS * ROWS * sizeof *values);
        fn(&a, 0, ROWS, scratch);
        for (size_t t = 0; t < a.n_tokens; t++)
            assert_memory_equal(y[t], values + (TOKENS + t % DIFFERENT) * ROWS, ROWS * sizeof **y);
    }
    for (size_t t = 0; t < MOST_TOKENS; t++) free(x[t]);
    free(bias);
    free(values);
    free(scratch);
    free_matrix(&f);
}

static void test_long_rows(void **state)
{
    static const mlxr_quant dense = {MLXR_QUANT_NONE, 0, 0};
    const mlxr_cpu_kernels *k;

    for (size_t i = 0; (k = mlxr_cpu_kernels_at(i)) != NULL; i++) {
        check_parts(k, dense, MLXR_BF16, 4097);
        check_parts(k, dense, MLXR_F16, 8200);
        check_parts(k, dense, MLXR_F32, 4128);
        check_parts(k, (mlxr_quant){MLXR_QUANT_AFFINE, 4, 32}, MLXR_F16, 4096 + 32);
        check_parts(k, (mlxr_quant){MLXR_QUANT_AFFINE, 3, 64}, MLXR_BF16, 8960);
        check_parts(k, (mlxr_quant){MLXR_QUANT_AFFINE, 8, 128}, MLXR_F32, 4096 + 128);
        check_parts(k, (mlxr_quant){MLXR_QUANT_MXFP4, 4, 32}, MLXR_U8, 4096 + 96);
        check_parts(k, (mlxr_quant){MLXR_QUANT_NVFP4, 4, 16}, MLXR_U8, 4096 + 48);
        check_parts(k, (mlxr_quant){MLXR_QUANT_MXFP8, 8, 32}, MLXR_U8, 4096 + 32);
    }
}

static const mlxr_quant fp_modes[] = {
    {MLXR_QUANT_MXFP4, 4, 32}, {MLXR_QUANT_NVFP4, 4, 16}, {MLXR_QUANT_MXFP8, 8, 32}};

/* nvfp4 also in odd numbers of groups, which end in half a chunk, and under a global scale. */
static void test_fp(void **state)
{
    static const size_t rows[] = {1, 2, 3, 4, 6, 37}, n_groups[] = {1, 2, 3, 5, 18};
    const mlxr_cpu_kernels *k;

    for (size_t i = 0; (k = mlxr_cpu_kernels_at(i)) != NULL; i++) {
        for (size_t q = 0; q < MLXR_COUNT(fp_modes); q++) {
            for (size_t r = 0; r < MLXR_COUNT(rows); r++) {
                for (size_t g = 0; g < MLXR_COUNT(n_groups); g++) {
                    size_t n_cols = n_groups[g] * fp_modes[q].group_size;
                    check_linear(k, fp_modes[q], MLXR_U8, rows[r], n_cols, (r + g) % 3 == 0);
                }
            }
            check_linear(k, fp_modes[q], MLXR_U8, 75, 2880, true); /* panels of 20 rows */
        }
        for (size_t g = 0; g < MLXR_COUNT(n_groups); g++) {
            fixture f = make_matrix(fp_modes[1], MLXR_U8, 7, n_groups[g] * 16);
            f.m.global_scale = 0.37f;
            for (size_t r = 0; r < 7; r++) mlxr_matrix_row(&f.m, r, f.w + r * f.m.n_cols);
            check_matrix(k, f, g == 1);
        }
    }
}

/* Every value under every scale comes out as mlxr_matrix_row has it: infinity and NaN, which take the whole row with
 * them, and what is below the normal floats too. */
static void test_every_fp_value(void **state)
{
    enum { COLS = 32 };
    const mlxr_cpu_kernels *k;
    float x[2][COLS], w[COLS], *scratch;
    size_t n_scratch = 0;

    for (size_t c = 0; c < COLS; c++) x[0][c] = x[1][c] = c % 5 == 1 ? 1.0f : 0.0f;
    assert_true(mlxr_cpu_linear_scratch(&n_scratch, COLS));
    scratch = must_alloc(n_scratch * sizeof *scratch);
    for (size_t q = 0; q < MLXR_COUNT(fp_modes); q++) {
        const unsigned bits = fp_modes[q].bits;
        const size_t n_codes = (size_t)1 << bits, n_rows = 256 * n_codes;
        const size_t row_bytes = COLS * bits / 8, n_groups = COLS / fp_modes[q].group_size;
        uint8_t *codes = calloc(n_rows, row_bytes), *scales = must_alloc(n_rows * n_groups);
        float *y[2] = {must_alloc(n_rows * sizeof(float)), must_alloc(n_rows * sizeof(float))};
        const float *rows[2] = {x[0], x[1]};
        mlxr_matrix m = {.quant = fp_modes[q],
                         .dtype = MLXR_U8,
                         .n_rows = n_rows,
                         .n_cols = COLS,
                         .row_bytes = row_bytes,
                         .data = codes,
                         .scales = scales};
        mlxr_cpu_linear a = {.m = &m, .x = rows, .y = y};
        assert_non_null(codes);
        for (size_t i = 0; i < n_rows;
             i++) { /* column 1 or 26, where x is 1, has the code; the others are 0 */
            const size_t c = i / n_codes % 2 ? 1 : 26, code = i % n_codes;
            codes[i * row_bytes + c * bits / 8] = (uint8_t)(bits == 4 && c % 2 ? code << 4 : code);
            memset(scales + i * n_groups, (int)(i / n_codes), n_groups);
        }
        for (size_t i = 0; (k = mlxr_cpu_kernels_at(i)) != NULL; i++) {
            for (a.n_tokens = 1; a.n_tokens <= 2; a.n_tokens++) {
                k->linear (&m)(&a, 0, n_rows, scratch);
                for (size_t r = 0; r < n_rows; r++) {
                    float want = 0;
                    mlxr_matrix_row(&m, r, w);
                    for (size_t c = 0; c < COLS; c++) want += w[c] * x[0][c];
                    if (!(isnan(want) ? isnan(y[0][r]) : y[0][r] == want)) {
                        fail_msg("%s %s: code %zu, scale %zu: %g, wanted %g", k->isa,
                                 mlxr_quant_mode_name(m.quant.mode), r % n_codes, r / n_codes, y[0][r], want);
                    }
                }
            }
        }
        free(codes);
        free(scales);
        free(y[0]);
        free(y[1]);
    }
    free(scratch);
}

static void test_dense(void **state)
{
    static const size_t cols[] = {1, 5, 31, 32, 33, 100, 256}, rows[] = {1, 4, 35};
    const mlxr_cpu_kernels *k;

    for (size_t i = 0; (k = mlxr_cpu_kernels_at(i)) != NULL; i++) {
        for (size_t d = 0; d < MLXR_COUNT(float_types); d++) {
            for (size_t c = 0; c < MLXR_COUNT(cols); c++) {
                for (size_t r = 0; r < MLXR_COUNT(rows); r++) {
                    check_linear(k, (mlxr_quant){0}, float_types[d], rows[r], cols[c], r == 1);
                }
            }
        }
    }
}

/* Every half, subnormals, infinities and NaN too, comes out as mlxr_f16_to_f32 has it. */
static void test_every_half(void **state)
{
    enum { N = 65536 };
    uint16_t *h = must_alloc(N * sizeof *h);
    mlxr_matrix m = {.dtype = MLXR_F16, .n_rows = N, .n_cols = 1, .row_bytes = 2, .data = h};
    float *x = must_alloc(MLXR_CPU_CHUNK * sizeof *x), *y = must_alloc(N * sizeof *y), *scratch;
    const float *one = x;
    mlxr_cpu_linear a = {.m = &m, .x = &one, .y = &y, .n_tokens = 1};
    const mlxr_cpu_kernels *k;
    size_t n_scratch = 0;

    memset(x, 0, MLXR_CPU_CHUNK * sizeof *x);
    x[0] = 1.0f;
    for (size_t i = 0; i < N; i++) h[i] = (uint16_t)i;
    assert_true(mlxr_cpu_linear_scratch(&n_scratch, 1));
    scratch = must_alloc(n_scratch * sizeof *scratch);
    for (size_t i = 0; (k = mlxr_cpu_kernels_at(i)) != NULL; i++) {
        k->linear (&m)(&a, 0, N, scratch);
        for (size_t j = 0; j < N; j++) {
            float want = mlxr_f16_to_f32((uint16_t)j);
            if (!(isnan(want) ? isnan(y[j]) : y[j] == want)) fail_msg("%s: half %04zx: %g", k->isa, j, y[j]);
        }
    }
    free(h);
    free(x);
    free(y);
    free(scratch);
}

static void test_unknown_storage_has_no_kernel(void **state)
{
    const mlxr_cpu_kernels *k;
    for (size_t i = 0; (k = mlxr_cpu_kernels_at(i)) != NULL; i++) {
        mlxr_matrix m = {.quant = {MLXR_QUANT_AFFINE, 4, 32}, .dtype = MLXR_F16, .n_rows = 4, .n_cols = 64};
        assert_non_null(k->linear(&m));
        m.quant.bits = 7;
        assert_null(k->linear(&m));
        m.quant = (mlxr_quant){MLXR_QUANT_AFFINE, 4, 16};
        assert_null(k->linear(&m));
        m.quant = (mlxr_quant){MLXR_QUANT_AFFINE, 4, 128}; /* half a group */
        assert_null(k->linear(&m));
        m.quant = (mlxr_quant){0};
        m.dtype = MLXR_U8;
        assert_null(k->linear(&m));
        for (size_t q = 0; q < MLXR_COUNT(fp_modes); q++) {
            m.quant = fp_modes[q];
            assert_non_null(k->linear(&m));
            m.n_cols = 72;
            assert_null(k->linear(&m));
            m.n_cols = 64;
            m.quant.group_size = 64;
            assert_null(k->linear(&m));
            m.quant = fp_modes[q];
            m.dtype = MLXR_F16;
            assert_null(k->linear(&m));
            m.dtype = MLXR_U8;
        }
    }
}

/* ---- attention ---- */

typedef struct cache {
    const mlxr_cpu_kernels *kernels;
    size_t n_positions, k_dim, v_dim, n_blocks;
    float *k, *v; /* [n_positions, dim], as they are read back */
    uint8_t *memory;
    uint32_t *blocks;
    mlxr_cpu_kv kv;
    mlxr_cpu_attend a;
} cache;

/* dst = src as kept. */
static void round_trip(mlxr_kv_type type, float *x, size_t n)
{
    float scale = type == MLXR_KV_INT8 ? mlxr_kv_int8_scale(x, n) : 0, inverse = mlxr_kv_int8_inverse(scale);
    for (size_t i = 0; i < n; i++) {
        if (type == MLXR_KV_F16) x[i] = mlxr_f16_to_f32(mlxr_kv_to_f16(x[i]));
        if (type == MLXR_KV_INT8) x[i] = (float)mlxr_kv_to_int8(x[i], inverse) * scale;
    }
}

/* The second head of two in a block; bytes that no position was written to are NaN, or as int8 something. */
static cache make_cache(const mlxr_cpu_kernels *kernels, mlxr_kv_type type, size_t n_positions, size_t k_dim,
                        size_t v_dim)
{
    cache c = {.kernels = kernels, .n_positions = n_positions, .k_dim = k_dim, .v_dim = v_dim};
    size_t n_bytes;

    assert_true(mlxr_cpu_kv_layout(&c.kv, type, k_dim, v_dim));
    c.n_blocks = mlxr_round_up(n_positions, MLXR_KV_BLOCK) / MLXR_KV_BLOCK;
    c.k = random_floats(n_positions * k_dim);
    c.v = random_floats(n_positions * v_dim);
    c.a = (mlxr_cpu_attend){.block_bytes = 2 * c.kv.head_bytes};
    for (size_t i = 0; i < MLXR_CPU_QUERIES; i++) {
        c.a.scale[i] = 1.7f;
        c.a.sink[i] = -INFINITY;
    }
    n_bytes = c.n_blocks * c.a.block_bytes;
    c.memory = mlxr_aligned_alloc(n_bytes);
    assert_non_null(c.memory);
    memset(c.memory, 0xff, n_bytes);
    c.blocks = must_alloc(c.n_blocks * sizeof *c.blocks);
    for (size_t i = 0; i < c.n_blocks; i++) c.blocks[i] = (uint32_t)(c.n_blocks - 1 - i);
    c.a.heads = c.memory + c.kv.head_bytes;
    c.a.blocks = c.blocks;
    return c;
}

static uint8_t *head_of(const cache *c, size_t p)
{
    return c->memory + c->kv.head_bytes + c->blocks[p / MLXR_KV_BLOCK] * c->a.block_bytes;
}

static void write_position(cache *c, size_t p)
{
    float *k = c->k + p * c->k_dim, *v = c->v + p * c->v_dim;
    c->kernels->kv_store(&c->kv, head_of(c, p), p % MLXR_KV_BLOCK, k, v);
    round_trip(c->kv.type, k, c->k_dim);
    round_trip(c->kv.type, v, c->v_dim);
}

static void free_cache(cache *c)
{
    free(c->k);
    free(c->v);
    mlxr_aligned_free(c->memory);
    free(c->blocks);
}

static float *attend_scratch(const cache *c)
{
    size_t n = 0;
    assert_true(mlxr_cpu_attend_scratch(&n, &c->kv));
    return must_alloc(n * sizeof(float));
}

/* Of query i of c. */
static void check_attention(const cache *c, size_t i_query, const float *q, size_t first, size_t limit,
                            const float *out)
{
    double max = c->a.sink[i_query], sum, *w = must_alloc(limit * sizeof *w);

    for (size_t p = first; p < limit; p++) {
        w[p] = 0;
        for (size_t d = 0; d < c->k_dim; d++) w[p] += (double)q[d] * c->k[p * c->k_dim + d];
        w[p] *= c->a.scale[i_query];
        if (c->a.cap > 0) w[p] = c->a.cap * tanh(w[p] / c->a.cap);
        max = w[p] > max ? w[p] : max;
    }
    sum = exp(c->a.sink[i_query] - max);
    for (size_t p = first; p < limit; p++) sum += w[p] = exp(w[p] - max);
    for (size_t d = 0; d < c->v_dim; d++) {
        double want = 0;
        for (size_t p = first; p < limit; p++) want += w[p] / sum * c->v[p * c->v_dim + d];
        /* Values below 1 and scores below 1.7 * k_dim in float32: k_dim * 2^-24 a score, which the exponential
         * passes on as a relative error. */
        if (!(fabs(out[d] - want) <= 2e-5))
            fail_msg("[%zu, %zu) %zu: %.9g, wanted %.9g", first, limit, d, out[d], want);
    }
    free(w);
}

/* kind 0: as it is; 1: with sinks; 2: with a cap and scales that change sign; 3: all of that */
static void check_attend(const mlxr_cpu_kernels *k, mlxr_kv_type type, size_t k_dim, size_t v_dim,
                         size_t n_queries, size_t last, size_t window, size_t n_heads, int kind)
{
    cache c = make_cache(k, type, last + 1, k_dim, v_dim);
    float *scratch = attend_scratch(&c), *parts;
    size_t span, n_spans, part_floats = mlxr_cpu_part_floats(c.kv.v_stride);
    float *q[MLXR_CPU_QUERIES], *out[MLXR_CPU_QUERIES], *alone = must_alloc(v_dim * sizeof *alone);
    size_t least = last + 1;

    c.a.kv = &c.kv;
    c.a.n_queries = n_queries;
    if (kind & 2) c.a.cap = 5.0f;
    for (size_t i = 0; i < n_queries; i++) {
        size_t position = last - i / n_heads;
        q[i] = random_floats(k_dim);
        out[i] = must_alloc(v_dim * sizeof **out);
        if (kind & 1 && i % 3) c.a.sink[i] = random_float() * 20.0f;
        if (kind & 2) c.a.scale[i] = random_float() * 3.0f;
        c.a.q[i] = q[i];
        c.a.out[i] = out[i];
        c.a.limit[i] = position + 1;
        c.a.first[i] = window && position >= window ? position + 1 - window : 0;
        least = c.a.first[i] < least ? c.a.first[i] : least;
    }
    for (size_t p = least; p <= last; p++) write_position(&c, p);
    k->attend(&c.a, scratch);
    span = least / MLXR_CPU_SPAN;
    n_spans = last / MLXR_CPU_SPAN + 1 - span;
    parts = must_alloc(n_queries * n_spans * part_floats * sizeof *parts);
    memset(parts, 0xff, n_queries * n_spans * part_floats * sizeof *parts);
    /* The later half of the spans first. */
    k->attend_span(&c.a, (span + n_spans / 2) * MLXR_CPU_SPAN, n_spans - n_spans / 2,
                   parts + n_spans / 2 * part_floats, n_spans * part_floats, scratch);
    if (n_spans > 1) {
        k->attend_span(&c.a, span * MLXR_CPU_SPAN, n_spans / 2, parts, n_spans * part_floats, scratch);
    }
    for (size_t i = 0; i < n_queries; i++) {
        mlxr_cpu_attend one = c.a;
        size_t from = c.a.first[i] / MLXR_CPU_SPAN, to = (c.a.limit[i] - 1) / MLXR_CPU_SPAN + 1;
        k->attend_fold(&c.kv, alone, parts + (i * n_spans + from - span) * part_floats, to - from,
                       c.a.sink[i], scratch);
        assert_memory_equal(alone, out[i], v_dim * sizeof *alone);
        check_attention(&c, i, q[i], c.a.first[i], c.a.limit[i], out[i]);
        one.n_queries = 1;
        one.q[0] = q[i];
        one.out[0] = alone;
        one.scale[0] = c.a.scale[i];
        one.sink[0] = c.a.sink[i];
        one.first[0] = c.a.first[i];
        one.limit[0] = c.a.limit[i];
        k->attend(&one, scratch);
        assert_memory_equal(alone, out[i], v_dim * sizeof *alone);
        free(q[i]);
        free(out[i]);
    }
    free(alone);
    free(scratch);
    free(parts);
    free_cache(&c);
}

static const mlxr_kv_type kv_types[] = {MLXR_KV_F32, MLXR_KV_F16, MLXR_KV_INT8};

static void test_attend(void **state)
{
    static const size_t lasts[] = {0, 1, 31, 32, 254, 255, 256, 700},
                        dims[] = {8, 24, 64, 80, 96, 128, 256, 7};
    int kind = 0;
    const mlxr_cpu_kernels *k;

    for (size_t i = 0; (k = mlxr_cpu_kernels_at(i)) != NULL; i++) {
        for (size_t p = 0; p < MLXR_COUNT(lasts); p++) {
            for (size_t d = 0; d < MLXR_COUNT(dims); d++) {
                for (size_t n = 1; n <= MLXR_CPU_QUERIES; n += 1 + n / 3) {
                    size_t n_heads = n % 3 + 1;
                    if ((n - 1) / n_heads > lasts[p]) continue;
                    check_attend(k, kv_types[(n + p + d) % 3], dims[d], dims[(d + p) % MLXR_COUNT(dims)], n,
                                 lasts[p], 0, n_heads, kind++ % 4);
                    check_attend(k, kv_types[(n + p + d + 1) % 3], dims[d], dims[d], n, lasts[p],
                                 1 + 37 * (n - 1), n_heads, kind++ % 4);
                }
            }
        }
    }
}

/* A score in the first span that is far above all others, then one in the second that is far above it: sums that
 * follow the wrong maximum overflow or vanish. */
static void test_attend_with_far_scores(void **state)
{
    enum { DIM = 16, LAST = 600 };
    static const size_t peaks[] = {3, 250, 256, 300, 599};
    const mlxr_cpu_kernels *k;

    for (size_t i = 0; (k = mlxr_cpu_kernels_at(i)) != NULL; i++) {
        for (size_t a = 0; a < MLXR_COUNT(peaks); a++) {
            cache c = make_cache(k, kv_types[a % 3], LAST + 1, DIM, DIM);
            float *scratch = attend_scratch(&c);
            float q[DIM] = {1.0f}, out[DIM];
            for (size_t p = 0; p <= LAST; p++) c.k[p * DIM] *= 100.0f;
            c.k[peaks[a] * DIM] = 400.0f;
            c.k[peaks[a] / 2 * DIM] = 300.0f;
            for (size_t p = 0; p <= LAST; p++) write_position(&c, p);
            c.a.kv = &c.kv;
            c.a.n_queries = 1;
            c.a.q[0] = q;
            c.a.out[0] = out;
            c.a.limit[0] = LAST + 1;
            k->attend(&c.a, scratch);
            check_attention(&c, 0, q, 0, LAST + 1, out);
            free(scratch);
            free_cache(&c);
        }
    }
}

/* What kv.h says of values that do not fit, on every instruction set, at every place of a vector. */
static void test_kv_edges(void **state)
{
    enum { DIM = 37 };
    static const float edges[] = {0.0f,       -0.0f,     65504.0f,  65519.9f, 65520.0f, 1e30f,
                                  -1e30f,     INFINITY,  -INFINITY, NAN,      0x1p-24f, 0x1p-25f,
                                  0x1.8p-25f, -0x1p-14f, 0x1p-149f, 1.0f};
    const mlxr_cpu_kernels *k;

    for (size_t i_isa = 0; (k = mlxr_cpu_kernels_at(i_isa)) != NULL; i_isa++) {
        for (size_t i = 0; i < MLXR_COUNT(edges); i++) {
            for (size_t at = 0; at < DIM; at++) {
                cache c = make_cache(k, MLXR_KV_F16, 2, DIM, DIM);
                const uint16_t *keys = (const uint16_t *)(const void *)head_of(&c, 1);
                const uint16_t *values = (const uint16_t *)(const void *)(head_of(&c, 1) + c.kv.v_at);
                c.k[DIM + at] = c.v[DIM + at] = edges[i];
                k->kv_store(&c.kv, head_of(&c, 1), 1, c.k + DIM, c.v + DIM);
                for (size_t d = 0; d < DIM; d++) {
                    float want = c.k[DIM + d], got = mlxr_f16_to_f32(keys[d * MLXR_KV_BLOCK + 1]);
                    if (want > 65504.0f) want = 65504.0f;
                    if (want < -65504.0f) want = -65504.0f;
                    want = mlxr_f16_to_f32(mlxr_f32_to_f16(want));
                    assert_true(isnan(want) ? isnan(got) : memcmp(&want, &got, sizeof got) == 0);
                    assert_int_equal(keys[d * MLXR_KV_BLOCK + 1] == 0xffff, 0);
                    assert_int_equal(mlxr_kv_to_f16(c.v[DIM + d]) & 0x7fff,
                                     isnan(want) ? 0x7e00 : values[c.kv.v_stride + d] & 0x7fff);
                    assert_int_equal(keys[d * MLXR_KV_BLOCK], 0xffff); /* its neighbour's */
                }
                free_cache(&c);
            }
        }
    }
}

static void test_kv_int8(void **state)
{
    enum { DIM = 21 };
    const mlxr_cpu_kernels *k;

    for (size_t i_isa = 0; (k = mlxr_cpu_kernels_at(i_isa)) != NULL; i_isa++) {
        cache c = make_cache(k, MLXR_KV_INT8, 1, DIM, DIM);
        const int8_t *values = (const int8_t *)head_of(&c, 0) + c.kv.v_at;
        const float *scale = (const float *)(const void *)(head_of(&c, 0) + c.kv.v_scales_at);
        c.v[3] = -4.0f; /* the largest */
        k->kv_store(&c.kv, head_of(&c, 0), 0, c.k, c.v);
        assert_true(scale[0] == 4.0f / 127);
        assert_int_equal(values[3], -127);
        for (size_t d = 0; d < DIM; d++)
            assert_true(fabsf((float)values[d] * scale[0] - c.v[d]) <= 2.001f / 127);
        for (size_t d = 0; d < DIM; d++) c.v[d] = 0.0f;
        k->kv_store(&c.kv, head_of(&c, 0), 0, c.k, c.v);
        assert_true(scale[0] == 0.0f);
        for (size_t d = 0; d < DIM; d++) assert_int_equal(values[d], 0);
        c.v[5] = INFINITY;
        k->kv_store(&c.kv, head_of(&c, 0), 0, c.k, c.v);
        assert_true(isnan(scale[0]));
        for (size_t d = 0; d < DIM; d++) c.v[d] = 0x1p-140f;
        k->kv_store(&c.kv, head_of(&c, 0), 0, c.k, c.v);
        assert_true(scale[0] == 0.0f);
        assert_int_equal(values[0], 0);
        free_cache(&c);
    }
}

/* ---- rows ---- */

static void assert_close(const char *isa, const char *what, size_t n, size_t i, double got, double want,
                         double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) {
        fail_msg("%s %s n = %zu: [%zu] is %.9g, wanted %.9g", isa, what, n, i, got, want);
    }
}

static void test_pointwise_and_norm(void **state)
{
    const mlxr_cpu_kernels *k;
    for (size_t i_isa = 0; (k = mlxr_cpu_kernels_at(i_isa)) != NULL; i_isa++) {
        for (size_t n = 1; n <= 200; n += n < 70 ? 1 : 13) {
            float *a = random_floats(n), *b = random_floats(n), *y = must_alloc(n * sizeof *y);
            double mean = 0;
            for (size_t i = 0; i < n; i++) {
                a[i] *= 20.0f;
                mean += (double)a[i] * a[i] / (double)n;
            }
            k->add(y, a, b, n);
            for (size_t i = 0; i < n; i++) assert_true(y[i] == a[i] + b[i]);
            k->scale(y, a, 0.3f, n);
            for (size_t i = 0; i < n; i++) assert_true(y[i] == a[i] * 0.3f);
            k->rms_norm(y, a, b, n, 1e-5f);
            for (size_t i = 0; i < n; i++) {
                double want = a[i] / sqrt(mean + 1e-5) * b[i];
                assert_close(k->isa, "rms_norm", n, i, y[i], want, 1e-6 * fabs(want));
            }
            memcpy(y, a, n * sizeof *y); /* in place */
            k->rms_norm(y, y, b, n, 1e-5f);
            for (size_t i = 0; i < n; i++) {
                double want = a[i] / sqrt(mean + 1e-5) * b[i];
                assert_close(k->isa, "rms_norm in place", n, i, y[i], want, 1e-6 * fabs(want));
            }
            free(a);
            free(b);
            free(y);
        }
    }
}

static double activated(const mlxr_cpu_act *how, double a, double b)
{
    double g = fmin(a, how->limit), clamped = fmax(-how->limit, fmin(b, how->limit));

    switch (how->act) {
    case MLXR_ACT_NONE: break;
    case MLXR_ACT_SILU: return a / (1 + exp(-a)) * b;
    case MLXR_ACT_GELU: return a * erfc(-a / sqrt(2)) / 2 * b;
    case MLXR_ACT_GELU_TANH: return a / (1 + exp(-2 * sqrt(2 / acos(-1)) * (a + 0.044715 * a * a * a))) * b;
    case MLXR_ACT_SIGMOID: return 1 / (1 + exp(-a)) * b;
    case MLXR_ACT_SWIGLU_OAI: return (clamped + 1) * g / (1 + exp(-how->alpha * g));
    }
    return a * b;
}

/* Every activation, with b, without, with one a for all of b, and in place; at all lengths the same bits. */
static void test_activations(void **state)
{
    enum { MOST = 70 };
    const mlxr_cpu_kernels *k;

    for (size_t i_isa = 0; (k = mlxr_cpu_kernels_at(i_isa)) != NULL; i_isa++) {
        for (int act = MLXR_ACT_NONE; act <= MLXR_ACT_SWIGLU_OAI; act++) {
            mlxr_cpu_act how = {.act = (mlxr_act)act, .alpha = 1.702f, .limit = 7.0f};
            float *all = random_floats(MOST), *other = random_floats(MOST), whole[MOST];
            for (size_t i = 0; i < MOST; i++) all[i] *= i % 3 ? 1.0f : 12.0f;
            k->act_mul(whole, all, other, MOST, how);
            for (size_t n = 1; n <= MOST; n++) {
                float *a = must_alloc(n * sizeof *a), *b = must_alloc(n * sizeof *b),
                      *y = must_alloc(n * sizeof *y);
                memcpy(a, all, n * sizeof *a);
                memcpy(b, other, n * sizeof *b);
                k->act_mul(y, a, b, n, how);
                assert_memory_equal(y, whole, n * sizeof *y);
                for (size_t i = 0; i < n; i++) {
                    double want = activated(&how, a[i], b[i]);
                    /* GELU and GELU_TANH far below 0: what exp takes is rounded at up to 100 */
                    assert_close(k->isa, mlxr_act_name(how.act), n, i, y[i], want, 1e-6 * fabs(want) + 1e-7);
                }
                memcpy(y, b, n * sizeof *y);
                k->act_mul(y, a, y, n, how);
                assert_memory_equal(y, whole, n * sizeof *y);
                how.a_is_one = true;
                k->act_mul(y, a + n - 1, b, n, how);
                assert_memory_equal(y + n - 1, whole + n - 1, sizeof *y);
                for (size_t i = 0; i < n; i++) {
                    double want = activated(&how, a[n - 1], b[i]);
                    assert_close(k->isa, mlxr_act_name(how.act), n, i, y[i], want, 1e-6 * fabs(want) + 1e-7);
                }
                how.a_is_one = false;
                if (act != MLXR_ACT_SWIGLU_OAI) {
                    k->act_mul(a, a, NULL, n, how);
                    for (size_t i = 0; i < n; i++) {
                        double want = activated(&how, all[i], 1);
                        assert_close(k->isa, mlxr_act_name(how.act), n, i, a[i], want,
                                     1e-6 * fabs(want) + 1e-7);
                    }
                }
                free(a);
                free(b);
                free(y);
            }
            free(all);
            free(other);
        }
    }
}

static void test_activations_at_the_ends(void **state)
{
    static const float a[] = {0.0f, -0.0f, 100.0f, -100.0f, 3e38f, -3e38f, INFINITY, 1e-30f};
    const float nan = NAN, one = 1.0f;
    float y[MLXR_COUNT(a)];
    const mlxr_cpu_kernels *k;

    for (size_t i_isa = 0; (k = mlxr_cpu_kernels_at(i_isa)) != NULL; i_isa++) {
        for (int act = MLXR_ACT_NONE; act <= MLXR_ACT_SWIGLU_OAI; act++) {
            mlxr_cpu_act how = {.act = (mlxr_act)act, .alpha = 1.702f, .limit = 7.0f};
            k->act_mul(y, &nan, &one, 1, how);
            assert_true(isnan(y[0]));
            if (act == MLXR_ACT_NONE || act == MLXR_ACT_SWIGLU_OAI) continue;
            k->act_mul(y, a, NULL, MLXR_COUNT(a), how);
            for (size_t i = 0; i < MLXR_COUNT(a); i++) {
                float want = a[i] <= -100.0f ? 0.0f : a[i] > 20.0f ? a[i] : a[i] / 2;
                if (act == MLXR_ACT_SIGMOID) want = a[i] <= -100.0f ? 0.0f : a[i] > 20.0f ? 1.0f : 0.5f;
                /* -3e38 / exp(88): not 0, but small beside anything */
                if (!(isinf(want) ? y[i] == want : fabsf(y[i] - want) <= 4e-7f * fabsf(want) + 3.0f))
                    fail_msg("%s %s: %g gave %g", k->isa, mlxr_act_name(how.act), (double)a[i], (double)y[i]);
                if (fabsf(a[i]) <= 100.0f) assert_true(fabsf(y[i] - want) <= 4e-7f * fabsf(want) + 1e-35f);
            }
        }
    }
}

static void test_softcap(void **state)
{
    static const float caps[] = {0.5f, 1.0f, 30.0f};
    const mlxr_cpu_kernels *k;

    for (size_t i_isa = 0; (k = mlxr_cpu_kernels_at(i_isa)) != NULL; i_isa++) {
        for (size_t n = 1; n <= 40; n++) {
            float *a = random_floats(n), *y = must_alloc(n * sizeof *y);
            float cap = caps[n % MLXR_COUNT(caps)];
            for (size_t i = 0; i < n; i++) a[i] *= i % 2 ? 3.0f * cap : 0.7f * cap;
            k->softcap(y, a, cap, n);
            for (size_t i = 0; i < n; i++) {
                double want = (double)cap * tanh((double)a[i] / (double)cap);
                assert_close(k->isa, "softcap", n, i, y[i], want, 4e-7 * fabs(want));
            }
            free(a);
            free(y);
        }
    }
}

static void test_softcap_at_the_ends(void **state)
{
    static const float a[] = {0.0f,   1e-30f, -1e-30f, 1e-4f,    20.0f,
                              -20.0f, 3e38f,  -3e38f,  INFINITY, -INFINITY};
    const float nan = NAN;
    float y[MLXR_COUNT(a)];
    const mlxr_cpu_kernels *k;

    for (size_t i_isa = 0; (k = mlxr_cpu_kernels_at(i_isa)) != NULL; i_isa++) {
        k->softcap(y, a, 1.0f, MLXR_COUNT(a));
        for (size_t i = 0; i < MLXR_COUNT(a); i++)
            assert_true(fabsf(y[i] - tanhf(a[i])) <= 1.2e-7f * fabsf(y[i]));
        k->softcap(y, &nan, 1.0f, 1);
        assert_true(isnan(y[0]));
    }
}

static void test_layer_norm(void **state)
{
    const mlxr_cpu_kernels *k;
    for (size_t i_isa = 0; (k = mlxr_cpu_kernels_at(i_isa)) != NULL; i_isa++) {
        for (size_t n = 2; n <= 200; n += n < 70 ? 1 : 13) {
            float *a = random_floats(n), *w = random_floats(n), *b = random_floats(n),
                  *y = must_alloc(n * sizeof *y);
            double mean = 0, var = 0;
            for (size_t i = 0; i < n; i++) mean += (a[i] += 30.0f) / (double)n;
            for (size_t i = 0; i < n; i++) var += (a[i] - mean) * (a[i] - mean) / (double)n;
            k->layer_norm(y, a, w, b, n, 1e-3f);
            for (size_t i = 0; i < n; i++) {
                /* The mean of values near 30 is rounded there. */
                double scale = 1 / sqrt(var + (double)1e-3f), want = (a[i] - mean) * scale * w[i] + b[i];
                assert_close(k->isa, "layer_norm", n, i, y[i], want, 1e-6 + 8e-6 * scale);
            }
            k->layer_norm(a, a, w, NULL, n, 1e-3f);
            for (size_t i = 0; i < n; i++)
                assert_close(k->isa, "in place", n, i, a[i], (double)y[i] - b[i], 1e-6);
            free(a);
            free(w);
            free(b);
            free(y);
        }
    }
}

/* ---- states ---- */

/* Channels [begin, end) of n_tokens at once, and one token a call; what is outside stays as it was. */
static void check_conv(const mlxr_cpu_kernels *k, size_t n_channels, size_t n_taps, size_t n_tokens,
                       size_t begin, size_t end)
{
    size_t x_stride = n_channels + 3, y_stride = n_channels + 1, n_state = n_taps * n_channels;
    size_t n_x = (n_tokens - 1) * x_stride + n_channels, n_y = (n_tokens - 1) * y_stride + n_channels;
    float *w = random_floats((n_taps + 1) * n_channels), *bias = random_floats(n_channels);
    float *taps = random_floats(n_state), *x = random_floats(n_x), *y = random_floats(n_y);
    float *kept = must_alloc(n_state * sizeof *kept), *step_taps = must_alloc(n_state * sizeof *kept);
    float *step_y = must_alloc(n_y * sizeof *y);
    mlxr_cpu_conv a = {.w = w,
                       .bias = n_taps % 2 ? bias : NULL,
                       .taps = taps,
                       .x = x,
                       .y = y,
                       .x_stride = x_stride,
                       .y_stride = y_stride,
                       .n_channels = n_channels,
                       .n_taps = n_taps,
                       .n_tokens = n_tokens};
    mlxr_cpu_conv one = a;

    memcpy(kept, taps, n_state * sizeof *taps);
    memcpy(step_taps, taps, n_state * sizeof *taps);
    memcpy(step_y, y, n_y * sizeof *y);
    k->conv(&a, begin, end);
    one.taps = step_taps;
    one.n_tokens = 1;
    for (size_t t = 0; t < n_tokens; t++) {
        one.x = x + t * x_stride;
        one.y = step_y + t * y_stride;
        k->conv(&one, begin, end);
        for (size_t c = begin; c < end; c++) {
            double want = a.bias ? bias[c] : 0;
            for (size_t j = 0; j <= n_taps; j++) {
                size_t at = t + j;
                want += (double)w[j * n_channels + c] *
                        (at < n_taps ? kept[at * n_channels + c] : x[(at - n_taps) * x_stride + c]);
            }
            assert_close(k->isa, "conv", n_channels, c, y[t * y_stride + c], want, 1e-6);
        }
    }
    assert_memory_equal(y, step_y, n_y * sizeof *y);
    assert_memory_equal(taps, step_taps, n_state * sizeof *taps);
    for (size_t j = 0; j < n_taps; j++) {
        for (size_t c = 0; c < n_channels; c++) {
            size_t at = n_tokens + j;
            float want = at < n_taps ? kept[at * n_channels + c] : x[(at - n_taps) * x_stride + c];
            if (c < begin || c >= end) want = kept[j * n_channels + c];
            assert_true(taps[j * n_channels + c] == want);
        }
    }
    free(w);
    free(bias);
    free(taps);
    free(x);
    free(y);
    free(kept);
    free(step_taps);
    free(step_y);
}

static void test_conv(void **state)
{
    static const size_t channels[] = {1, 3, 16, 33, 64, 131}, tokens[] = {1, 2, 3, 7, 20};
    const mlxr_cpu_kernels *k;

    for (size_t i_isa = 0; (k = mlxr_cpu_kernels_at(i_isa)) != NULL; i_isa++) {
        for (size_t c = 0; c < MLXR_COUNT(channels); c++) {
            for (size_t t = 0; t < MLXR_COUNT(tokens); t++) {
                for (size_t n_taps = 1; n_taps <= 5; n_taps++) {
                    check_conv(k, channels[c], n_taps, tokens[t], 0, channels[c]);
                    if (channels[c] > 32) check_conv(k, channels[c], n_taps, tokens[t], 16, 32);
                    if (channels[c] > 32) check_conv(k, channels[c], n_taps, tokens[t], 32, channels[c]);
                }
            }
        }
    }
}

static void check_delta(const mlxr_cpu_kernels *k, size_t k_dim, size_t v_dim, size_t n_tokens)
{
    size_t n_state = k_dim * v_dim, k_stride = k_dim + 2, v_stride = v_dim + 5;
    size_t n_k = (n_tokens - 1) * k_stride + k_dim, n_v = (n_tokens - 1) * v_stride + v_dim;
    float *q = random_floats(n_k), *key = random_floats(n_k), *v = random_floats(n_v),
          *old = random_floats(n_state);
    float *decay = random_floats(n_tokens), *beta = random_floats(n_tokens), *y = random_floats(n_v);
    float *to = must_alloc(n_state * sizeof *to), *in_place = must_alloc(n_state * sizeof *to);
    float *step_y = must_alloc(n_v * sizeof *y), *kept = must_alloc(n_state * sizeof *kept);
    double *S = must_alloc(n_state * sizeof *S);
    mlxr_cpu_delta a = {.old = old,
                        .state = to,
                        .k_dim = k_dim,
                        .v_dim = v_dim,
                        .n_tokens = n_tokens,
                        .q = q,
                        .k = key,
                        .v = v,
                        .y = y,
                        .q_stride = k_stride,
                        .k_stride = k_stride,
                        .v_stride = v_stride,
                        .y_stride = v_stride,
                        .decay = decay,
                        .beta = beta};
    mlxr_cpu_delta one = a;

    for (size_t i = 0; i < n_k; i++) key[i] /= sqrtf((float)k_dim); /* or S grows */
    for (size_t i = 0; i < n_tokens; i++) {
        decay[i] = fabsf(decay[i]);
        beta[i] = fabsf(beta[i]);
    }
    for (size_t i = 0; i < n_state; i++) S[i] = old[i];
    memcpy(kept, old, n_state * sizeof *old);
    memcpy(in_place, old, n_state * sizeof *old);
    memcpy(step_y, y, n_v * sizeof *y);
    k->delta(&a);
    assert_memory_equal(old, kept, n_state * sizeof *old);
    one.old = one.state = in_place;
    one.n_tokens = 1;
    for (size_t t = 0; t < n_tokens; t++) {
        one.q = q + t * k_stride;
        one.k = key + t * k_stride;
        one.v = v + t * v_stride;
        one.y = step_y + t * v_stride;
        one.decay = decay + t;
        one.beta = beta + t;
        k->delta(&one);
        for (size_t r = 0; r < v_dim; r++) {
            double error = v[t * v_stride + r], want = 0;
            for (size_t i = 0; i < k_dim; i++)
                error -= (S[r * k_dim + i] *= decay[t]) * key[t * k_stride + i];
            for (size_t i = 0; i < k_dim; i++) {
                S[r * k_dim + i] += beta[t] * error * key[t * k_stride + i];
                want += S[r * k_dim + i] * q[t * k_stride + i];
            }
            assert_close(k->isa, "delta", k_dim, r, y[t * v_stride + r], want, 3e-7 * (double)(k_dim + 8));
        }
    }
    for (size_t i = 0; i < n_state; i++) assert_close(k->isa, "state", k_dim, i, to[i], S[i], 2e-6);
    assert_memory_equal(y, step_y, n_v * sizeof *y);
    assert_memory_equal(to, in_place, n_state * sizeof *to);
    free(q);
    free(key);
    free(v);
    free(old);
    free(decay);
    free(beta);
    free(y);
    free(to);
    free(in_place);
    free(step_y);
    free(kept);
    free(S);
}

static void test_delta(void **state)
{
    static const size_t dims[] = {1, 3, 8, 17, 64, 100, 128}, tokens[] = {1, 2, 9};
    const mlxr_cpu_kernels *k;

    for (size_t i_isa = 0; (k = mlxr_cpu_kernels_at(i_isa)) != NULL; i_isa++) {
        for (size_t i = 0; i < MLXR_COUNT(dims); i++) {
            for (size_t j = 0; j < MLXR_COUNT(dims); j++) {
                for (size_t t = 0; t < MLXR_COUNT(tokens); t++) check_delta(k, dims[i], dims[j], tokens[t]);
            }
        }
    }
}

static void test_rope(void **state)
{
    static const size_t rots[][2] = {{2, 2},   {8, 8},   {6, 6},   {10, 6},  {24, 24},   {50, 50}, {64, 64},
                                     {64, 16}, {80, 80}, {80, 34}, {96, 72}, {128, 128}, {256, 64}};
    const mlxr_cpu_kernels *k;
    enum { HEADS = 3 };

    for (size_t i_isa = 0; (k = mlxr_cpu_kernels_at(i_isa)) != NULL; i_isa++) {
        for (size_t c = 0; c < MLXR_COUNT(rots) * 2; c++) {
            size_t dim = rots[c / 2][0], n_rot = rots[c / 2][1], half = n_rot / 2;
            mlxr_rope_pairing pairing = c % 2 ? MLXR_ROPE_INTERLEAVED : MLXR_ROPE_HALF;
            float *x = random_floats(HEADS * dim), *y = must_alloc(HEADS * dim * sizeof *y);
            float *cosines = random_floats(half), *sines = random_floats(half);
            memcpy(y, x, HEADS * dim * sizeof *y);
            k->rope(y, HEADS, dim, n_rot, pairing, cosines, sines);
            for (size_t h = 0; h < HEADS; h++) {
                for (size_t i = 0; i < half; i++) {
                    size_t one = h * dim + (c % 2 ? 2 * i : i),
                           two = h * dim + (c % 2 ? 2 * i + 1 : i + half);
                    assert_close(k->isa, "rope", n_rot, i, y[one],
                                 (double)x[one] * cosines[i] - (double)x[two] * sines[i], 2e-7);
                    assert_close(k->isa, "rope", n_rot, i, y[two],
                                 (double)x[two] * cosines[i] + (double)x[one] * sines[i], 2e-7);
                }
                for (size_t i = n_rot; i < dim; i++) assert_true(y[h * dim + i] == x[h * dim + i]);
            }
            free(x);
            free(y);
            free(cosines);
            free(sines);
        }
    }
}

static void test_unknown_isa(void **state)
{
    const mlxr_cpu_kernels *k = NULL;
    mlxr_error err;
    assert_int_equal(mlxr_cpu_kernels_get(&k, "avx1024", &err), MLXR_E_DEVICE);
    assert_null(k);
    assert_non_null(strstr(err.message, "avx1024"));
    assert_non_null(strstr(err.message, "baseline"));
    assert_int_equal(mlxr_cpu_kernels_get(&k, "baseline", &err), MLXR_OK);
    assert_string_equal(k->isa, "baseline");
    assert_int_equal(mlxr_cpu_kernels_get(&k, NULL, &err), MLXR_OK);
    assert_ptr_equal(k, mlxr_cpu_kernels_at(0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_affine),
        cmocka_unit_test(test_affine_of_a_real_shape),
        cmocka_unit_test(test_long_rows),
        cmocka_unit_test(test_fp),
        cmocka_unit_test(test_every_fp_value),
        cmocka_unit_test(test_dense),
        cmocka_unit_test(test_every_half),
        cmocka_unit_test(test_unknown_storage_has_no_kernel),
        cmocka_unit_test(test_attend),
        cmocka_unit_test(test_attend_with_far_scores),
        cmocka_unit_test(test_kv_edges),
        cmocka_unit_test(test_kv_int8),
        cmocka_unit_test(test_pointwise_and_norm),
        cmocka_unit_test(test_activations),
        cmocka_unit_test(test_activations_at_the_ends),
        cmocka_unit_test(test_softcap),
        cmocka_unit_test(test_softcap_at_the_ends),
        cmocka_unit_test(test_layer_norm),
        cmocka_unit_test(test_conv),
        cmocka_unit_test(test_delta),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_unknown_isa),
    };
    const mlxr_cpu_kernels *k;
    for (size_t i = 0; (k = mlxr_cpu_kernels_at(i)) != NULL; i++) printf("%s%s", i ? ", " : "isa: ", k->isa);
    printf("\n");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
