/* Quantization against MLX: every width, group and scale type of affine in quant.safetensors, and the modes of
 * floats in quant_fp.safetensors (make_quant.py). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "format/format.h"

static const unsigned widths[] = {2, 3, 4, 5, 6, 8}, groups[] = {32, 64, 128};
static const char *const types[] = {"f32", "f16", "bf16"};

static const mlxr_quant fp_modes[] = {
    {MLXR_QUANT_MXFP4, 4, 32}, {MLXR_QUANT_NVFP4, 4, 16}, {MLXR_QUANT_MXFP8, 8, 32}};

static mlxr_checkpoint *fixture, *fp_fixture;

static int open_fixture(void **state)
{
    mlxr_error err = {0};
    if (mlxr_checkpoint_open_file(&fixture, MLXR_TEST_DIR "/quant.safetensors", &err) == MLXR_OK &&
        mlxr_checkpoint_open_file(&fp_fixture, MLXR_TEST_DIR "/quant_fp.safetensors", &err) == MLXR_OK)
        return 0;
    fprintf(stderr, "%s\n", err.message);
    return -1;
}

static int close_fixture(void **state)
{
    mlxr_checkpoint_close(fixture);
    mlxr_checkpoint_close(fp_fixture);
    return 0;
}

/* The tensor of one of the two whose name is made of the parts, joined by points. */
static const mlxr_tensor *find(const char *a, const char *b, const char *c)
{
    char name[64];
    const mlxr_tensor *t;
    snprintf(name, sizeof name, "%s.%s%s%s", a, b, c ? "." : "", c ? c : "");
    t = mlxr_checkpoint_find(fixture, name);
    if (!t) t = mlxr_checkpoint_find(fp_fixture, name);
    if (!t) fail_msg("%s", name);
    return t;
}

/* All rows of m have this digest: SHA-256 in hex, of the floats with every NaN as 7fc00000. */
static void expect_digest(const mlxr_matrix *m, const mlxr_tensor *digest)
{
    float *out = malloc(m->n_rows * m->n_cols * sizeof *out);
    const uint32_t nan = 0x7fc00000;
    char hex[65];

    assert_non_null(out);
    for (size_t i = 0; i < m->n_rows; i++) mlxr_matrix_row(m, i, out + i * m->n_cols);
    for (size_t i = 0; i < m->n_rows * m->n_cols; i++)
        if (isnan(out[i])) memcpy(&out[i], &nan, sizeof nan);
    assert_int_equal(mlxr_sha256_hex(hex, out, m->n_rows * m->n_cols * sizeof *out, NULL), MLXR_OK);
    if (memcmp(hex, digest->data, 64) != 0)
        fail_msg("%s: %s, wanted %.64s", digest->name, hex, (const char *)digest->data);
    free(out);
}

static const mlxr_tensor *want(const char *type, unsigned bits, unsigned group, const char *part)
{
    char name[64];
    const mlxr_tensor *t;
    snprintf(name, sizeof name, "%s.%u.%u.%s", type, bits, group, part);
    t = mlxr_checkpoint_find(fixture, name);
    assert_non_null(t);
    return t;
}

static mlxr_matrix matrix_of(const char *type, unsigned bits, unsigned group)
{
    const mlxr_tensor *packed = want(type, bits, group, "packed"),
                      *scales = want(type, bits, group, "scales");
    mlxr_matrix m = {.quant = {MLXR_QUANT_AFFINE, bits, group}, .dtype = scales->dtype};
    m.n_rows = packed->shape[0];
    m.n_cols = packed->shape[1] * 32 / bits;
    m.row_bytes = packed->shape[1] * 4;
    m.data = packed->data;
    m.scales = scales->data;
    m.biases = want(type, bits, group, "biases")->data;
    assert_true(mlxr_quant_supported(m.quant));
    assert_int_equal(mlxr_matrix_bytes(&m), packed->n_bytes + 2 * scales->n_bytes);
    return m;
}

static void rows_are_mlx_dequantize(void **state)
{
    for (size_t t = 0; t < MLXR_COUNT(types); t++)
        for (size_t b = 0; b < MLXR_COUNT(widths); b++)
            for (size_t g = 0; g < MLXR_COUNT(groups); g++) {
                mlxr_matrix m = matrix_of(types[t], widths[b], groups[g]);
                expect_digest(&m, want(types[t], widths[b], groups[g], "dequantized"));
            }
}

/* Scales and biases that are zero, negative, denormal, huge, infinite or NaN, as no quantizer leaves them. */
static void odd_scales_are_as_in_mlx(void **state)
{
    const mlxr_tensor *codes = find("odd", "codes", NULL);
    const size_t n_rows = codes->shape[0];
    uint8_t *packed = malloc(codes->n_bytes), *scales = malloc(n_rows * 16), *biases = malloc(n_rows * 16);

    assert_true(packed && scales && biases);
    for (size_t t = 0; t < MLXR_COUNT(types); t++) {
        const mlxr_tensor *s = find(types[t], "odd", "scales"), *b = find(types[t], "odd", "biases");
        const size_t size = mlxr_dtype_bits(s->dtype) / 8;
        for (size_t w = 0; w < MLXR_COUNT(widths); w++)
            for (size_t g = 0; g < MLXR_COUNT(groups); g++) {
                mlxr_matrix m = {.quant = {MLXR_QUANT_AFFINE, widths[w], groups[g]},
                                 .dtype = s->dtype,
                                 .n_rows = n_rows,
                                 .n_cols = 128,
                                 .row_bytes = 16 * widths[w],
                                 .data = packed,
                                 .scales = scales,
                                 .biases = biases};
                const size_t n = 128 / groups[g] * size;
                for (size_t i = 0; i < n_rows; i++) {
                    memcpy(packed + i * m.row_bytes, (const uint8_t *)codes->data + i * 128, m.row_bytes);
                    memcpy(scales + i * n, (const uint8_t *)s->data + i * 4 * size, n);
                    memcpy(biases + i * n, (const uint8_t *)b->data + i * 4 * size, n);
                }
                expect_digest(&m, want(types[t], widths[w], groups[g], "odd"));
            }
    }
    free(packed);
    free(scales);
    free(biases);
}

/* ---- modes of floats ---- */

static mlxr_matrix fp_matrix(mlxr_quant q, const mlxr_tensor *packed, const mlxr_tensor *scales)
{
    mlxr_matrix m = {.quant = q, .dtype = MLXR_U8, .n_rows = packed->shape[0]};
    m.n_cols = packed->shape[1] * 32 / q.bits;
    m.row_bytes = packed->shape[1] * 4;
    m.data = packed->data;
    m.scales = scales->data;
    assert_int_equal(scales->dtype, MLXR_U8);
    assert_true(mlxr_quant_supported(q));
    assert_int_equal(mlxr_matrix_bytes(&m), packed->n_bytes + scales->n_bytes);
    return m;
}

static void fp_rows_are_mlx_dequantize(void **state)
{
    for (size_t t = 0; t < MLXR_COUNT(types); t++)
        for (size_t q = 0; q < MLXR_COUNT(fp_modes); q++) {
            const char *mode = mlxr_quant_mode_name(fp_modes[q].mode);
            mlxr_matrix m = fp_matrix(fp_modes[q], find(types[t], mode, "packed"),
                                      find(types[t], mode, "scales"));
            expect_digest(&m, find(types[t], mode, "dequantized"));
        }
}

/* Every value under every scale, the infinite and NaN too, and nvfp4 with global scales of all sizes. */
static void every_fp_value_is_as_in_mlx(void **state)
{
    const mlxr_tensor *global = find("nvfp4", "global", NULL);
    static uint8_t codes[256][256], scales[256][32];

    for (size_t i = 0; i < 256 * 256; i++) codes[i / 256][i % 256] = (uint8_t)i;
    for (size_t q = 0; q < MLXR_COUNT(fp_modes); q++) {
        mlxr_matrix m = {.quant = fp_modes[q], .dtype = MLXR_U8, .n_rows = 256, .row_bytes = 256};
        const char *mode = mlxr_quant_mode_name(m.quant.mode);
        size_t n_groups;
        m.n_cols = 256 * 8 / m.quant.bits;
        n_groups = m.n_cols / m.quant.group_size;
        for (size_t i = 0; i < 256 * n_groups; i++) ((uint8_t *)scales)[i] = (uint8_t)(i / n_groups);
        m.data = codes;
        m.scales = scales;
        expect_digest(&m, find(mode, "every", NULL));
        for (size_t i = 0; m.quant.mode == MLXR_QUANT_NVFP4 && i < global->shape[0]; i++) {
            char number[24];
            snprintf(number, sizeof number, "%zu", i);
            m.global_scale = mlxr_load_float(global->data, global->dtype, i);
            expect_digest(&m, find(mode, "every", number));
        }
    }
}

/* But for groups of sizes that no scale reaches: MLX wraps a byte around below the least one of e8m0, and far above the
 * largest of e4m3 its CPU backend makes zeros. Here the scale and the values stay at the end of their range. */
static void fp_quantize_is_mlx_quantize(void **state)
{
    size_t n_least = 0, n_most = 0;

    for (size_t t = 0; t < MLXR_COUNT(types); t++) {
        const mlxr_tensor *w = find(types[t], "w", NULL);
        for (size_t q = 0; q < MLXR_COUNT(fp_modes); q++) {
            const char *mode = mlxr_quant_mode_name(fp_modes[q].mode);
            mlxr_matrix m = fp_matrix(fp_modes[q], find(types[t], mode, "packed"),
                                      find(types[t], mode, "scales"));
            const size_t size = m.quant.group_size, n_groups = 128 / size, bytes = size * m.quant.bits / 8;
            const float largest = m.quant.bits == 8 ? 448.0f : 6.0f;
            float row[128];
            uint8_t packed[128], scales[8];

            assert_int_equal(w->shape[1], 128);
            for (size_t i = 0; i < m.n_rows; i++) {
                for (size_t j = 0; j < 128; j++) row[j] = mlxr_load_float(w->data, w->dtype, i * 128 + j);
                mlxr_fp_quantize_row(row, 128, m.quant, w->dtype, packed, scales);
                for (size_t g = 0; g < n_groups; g++) {
                    float most = 0, scale;
                    for (size_t j = g * size; j < (g + 1) * size; j++) most = fmaxf(most, fabsf(row[j]));
                    mlxr_store_float(&scale, w->dtype, 0, most / largest);
                    scale = mlxr_load_float(&scale, w->dtype, 0);
                    if (m.quant.mode != MLXR_QUANT_NVFP4 && scale != 0 && scale <= 0x1p-128f) {
                        assert_int_equal(scales[g], 0);
                        n_least++;
                        continue;
                    }
                    if (m.quant.mode == MLXR_QUANT_NVFP4 && most > 1e30f) {
                        assert_int_equal(scales[g], 0x7e);
                        for (size_t j = g * size; j < (g + 1) * size; j++)
                            if (fabsf(row[j]) > 2688.0f)
                                assert_int_equal(packed[j / 2] >> (j % 2 * 4) & 15, row[j] < 0 ? 15 : 7);
                        n_most++;
                        continue;
                    }
                    assert_int_equal(scales[g], ((const uint8_t *)m.scales)[i * n_groups + g]);
                    assert_memory_equal(packed + g * bytes,
                                        (const uint8_t *)m.data + i * m.row_bytes + g * bytes, bytes);
                }
            }
        }
    }
    assert_in_range(n_least, 1, 40);
    assert_int_equal(n_most, 16);
}

/* What MLX leaves undefined, and the ends of the range. */
static void fp_quantize_takes_any_float(void **state)
{
    static const uint32_t odd[] = {0x7fc00000, 0xffc00000, 0x7f800000, 0xff800000,
                                   0x7f7fffff, 0xff7fffff, 1,          0x80000001};
    float row[32], out[32];
    uint8_t packed[32], scales[2];

    for (size_t q = 0; q < MLXR_COUNT(fp_modes); q++) {
        mlxr_matrix m = {.quant = fp_modes[q],
                         .dtype = MLXR_U8,
                         .n_rows = 1,
                         .n_cols = 32,
                         .row_bytes = 4 * fp_modes[q].bits,
                         .data = packed,
                         .scales = scales};
        for (size_t a = 0; a < MLXR_COUNT(odd); a++)
            for (size_t b = 0; b < MLXR_COUNT(odd); b++) {
                for (size_t j = 0; j < 32; j++) memcpy(&row[j], &odd[j % 2 ? a : b], sizeof row[j]);
                mlxr_fp_quantize_row(row, 32, m.quant, MLXR_F32, packed, scales);
                mlxr_matrix_row(&m, 0, out);
                for (size_t j = 0; j < 32; j++) assert_false(isnan(out[j]));
            }
        for (size_t j = 0; j < 32; j++) row[j] = (float)j - 11.5f;
        row[8] = NAN;
        mlxr_fp_quantize_row(row, 32, m.quant, MLXR_F32, packed, scales);
        mlxr_matrix_row(&m, 0, out);
        for (size_t j = 0; j < 32; j++)
            if (j != 8) assert_true(fabsf(out[j] - row[j]) <= 0.25f * fabsf(row[j]) + 0.5f);
    }
}

/* Weights lie anywhere in a file: a copy at an odd address reads the same. */
static void rows_at_any_address(void **state)
{
    mlxr_matrix m = matrix_of("f16", 3, 32), odd = m;
    const size_t n_scales = m.n_rows * (m.n_cols / 32) * 2;
    uint8_t *copy = malloc(1 + m.n_rows * m.row_bytes + 2 * n_scales);
    float a[128], b[128];

    assert_non_null(copy);
    memcpy(copy + 1, m.data, m.n_rows * m.row_bytes);
    memcpy(copy + 1 + m.n_rows * m.row_bytes, m.scales, n_scales);
    memcpy(copy + 1 + m.n_rows * m.row_bytes + n_scales, m.biases, n_scales);
    odd.data = copy + 1;
    odd.scales = copy + 1 + m.n_rows * m.row_bytes;
    odd.biases = copy + 1 + m.n_rows * m.row_bytes + n_scales;
    for (size_t i = 0; i < m.n_rows; i++) {
        mlxr_matrix_row(&m, i, a);
        mlxr_matrix_row(&odd, i, b);
        assert_memory_equal(a, b, sizeof a);
    }
    free(copy);
}

static void quantize_is_mlx_quantize(void **state)
{
    for (size_t t = 0; t < MLXR_COUNT(types); t++) {
        char name[16];
        const mlxr_tensor *w;
        float row[128];
        snprintf(name, sizeof name, "%s.w", types[t]);
        w = mlxr_checkpoint_find(fixture, name);
        assert_non_null(w);
        assert_int_equal(w->shape[1], 128);
        for (size_t b = 0; b < MLXR_COUNT(widths); b++)
            for (size_t g = 0; g < MLXR_COUNT(groups); g++) {
                mlxr_matrix m = matrix_of(types[t], widths[b], groups[g]);
                const size_t n_scales = 128 / groups[g] * (mlxr_dtype_bits(w->dtype) / 8);
                uint8_t packed[128], scales[16], biases[16];
                for (size_t i = 0; i < m.n_rows; i++) {
                    for (size_t j = 0; j < 128; j++) row[j] = mlxr_load_float(w->data, w->dtype, i * 128 + j);
                    mlxr_affine_quantize_row(row, 128, m.quant, w->dtype, packed, scales, biases);
                    assert_memory_equal(packed, (const uint8_t *)m.data + i * m.row_bytes, m.row_bytes);
                    assert_memory_equal(scales, (const uint8_t *)m.scales + i * n_scales, n_scales);
                    assert_memory_equal(biases, (const uint8_t *)m.biases + i * n_scales, n_scales);
                }
            }
    }
}

/* What MLX leaves undefined is a code inside the width here: no conversion out of range, whatever comes
 * in. */
static void quantize_takes_any_float(void **state)
{
    static const uint32_t odd[] = {0x7fc00000, 0xffc00000, 0x7f800000, 0xff800000,
                                   0x7f7fffff, 0xff7fffff, 1,          0x80000001};
    float row[32], out[32];
    uint8_t packed[32];
    float scale, bias;

    for (size_t a = 0; a < MLXR_COUNT(odd); a++)
        for (size_t b = 0; b < MLXR_COUNT(odd); b++) {
            for (size_t j = 0; j < 32; j++) memcpy(&row[j], &odd[j % 2 ? a : b], sizeof row[j]);
            for (size_t k = 0; k < MLXR_COUNT(widths); k++) {
                mlxr_matrix m = {.quant = {MLXR_QUANT_AFFINE, widths[k], 32},
                                 .dtype = MLXR_F32,
                                 .n_rows = 1,
                                 .n_cols = 32,
                                 .row_bytes = 4 * widths[k],
                                 .data = packed,
                                 .scales = &scale,
                                 .biases = &bias};
                mlxr_affine_quantize_row(row, 32, m.quant, MLXR_F32, packed, &scale, &bias);
                mlxr_matrix_row(&m, 0, out);
            }
        }
}

/* NaN counts for nothing in the range and gets code 0; its neighbours get what they would have had. */
static void quantize_passes_over_nan(void **state)
{
    float row[32];
    uint8_t packed[32], clean[32];
    float scale, bias, clean_scale, clean_bias;
    const mlxr_quant q = {MLXR_QUANT_AFFINE, 8, 32};

    for (size_t j = 0; j < 32; j++) row[j] = (float)j - 11.5f;
    mlxr_affine_quantize_row(row, 32, q, MLXR_F32, clean, &clean_scale, &clean_bias);
    assert_int_not_equal(clean[24], 0);
    row[24] = NAN; /* first of its run of eight: what it is converted to could reach the others */
    mlxr_affine_quantize_row(row, 32, q, MLXR_F32, packed, &scale, &bias);
    assert_true(scale == clean_scale && bias == clean_bias);
    clean[24] = 0;
    assert_memory_equal(packed, clean, 32);
}

static void dense_rows(void **state)
{
    static const float v[] = {0.0f, 1.0f, -2.5f, 0.3333333f, 65504.0f, 6e-8f};
    static const mlxr_dtype dense[] = {MLXR_F32, MLXR_F16, MLXR_BF16};

    for (size_t d = 0; d < MLXR_COUNT(dense); d++) {
        uint8_t bytes[1 + 4 * 6];
        float out[3];
        mlxr_matrix m = {.dtype = dense[d], .n_rows = 2, .n_cols = 3, .data = bytes + 1};
        m.row_bytes = 3 * mlxr_dtype_bits(dense[d]) / 8;
        for (size_t i = 0; i < 6; i++) mlxr_store_float(bytes + 1, dense[d], i, v[i]);
        assert_int_equal(mlxr_matrix_bytes(&m), 2 * m.row_bytes);
        for (size_t i = 0; i < 6; i++) {
            float expected = v[i];
            if (dense[d] == MLXR_F16) expected = mlxr_f16_to_f32(mlxr_f32_to_f16(v[i]));
            if (dense[d] == MLXR_BF16) expected = mlxr_bf16_to_f32(mlxr_f32_to_bf16(v[i]));
            mlxr_matrix_row(&m, i / 3, out);
            assert_memory_equal(&out[i % 3], &expected, sizeof expected);
        }
    }
}

static void names(void **state)
{
    for (int t = 0; t < MLXR_DTYPE_COUNT; t++)
        assert_int_equal(mlxr_dtype_from_name(mlxr_dtype_name((mlxr_dtype)t)), t);
    assert_int_equal(mlxr_dtype_from_name("f16"), MLXR_DTYPE_COUNT);
    assert_int_equal(mlxr_dtype_from_name(""), MLXR_DTYPE_COUNT);
    assert_string_equal(mlxr_dtype_name(MLXR_DTYPE_COUNT), "?");
    assert_int_equal(mlxr_dtype_bits(MLXR_F4), 4);
    assert_string_equal(mlxr_quant_mode_name(MLXR_QUANT_AFFINE), "affine");
    for (int m = MLXR_QUANT_AFFINE; m <= MLXR_QUANT_MXFP8; m++) {
        mlxr_quant q = mlxr_quant_default((mlxr_quant_mode)m);
        assert_int_equal(mlxr_quant_mode_from_name(mlxr_quant_mode_name((mlxr_quant_mode)m)), m);
        assert_int_equal(q.mode, m);
        assert_true(mlxr_quant_supported(q));
    }
    assert_int_equal(mlxr_quant_mode_from_name("none"), MLXR_QUANT_NONE);
    assert_int_equal(mlxr_quant_mode_from_name("mxfp6"), MLXR_QUANT_NONE);
    for (size_t i = 0; i < MLXR_COUNT(fp_modes); i++) {
        mlxr_quant q = fp_modes[i];
        assert_true(mlxr_quant_is_fp(q.mode));
        q.bits = 12 - q.bits;
        assert_false(mlxr_quant_supported(q));
        q = fp_modes[i];
        q.group_size = 48 - q.group_size;
        assert_false(mlxr_quant_supported(q));
    }
    assert_false(mlxr_quant_is_fp(MLXR_QUANT_AFFINE));
    assert_true(mlxr_quant_supported((mlxr_quant){MLXR_QUANT_NONE, 0, 0}));
    assert_false(mlxr_quant_supported((mlxr_quant){MLXR_QUANT_AFFINE, 7, 64}));
    assert_false(mlxr_quant_supported((mlxr_quant){MLXR_QUANT_AFFINE, 4, 16}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_mlx_dequantize),
        cmocka_unit_test(odd_scales_are_as_in_mlx),
        cmocka_unit_test(fp_rows_are_mlx_dequantize),
        cmocka_unit_test(every_fp_value_is_as_in_mlx),
        cmocka_unit_test(fp_quantize_is_mlx_quantize),
        cmocka_unit_test(fp_quantize_takes_any_float),
        cmocka_unit_test(rows_at_any_address),
        cmocka_unit_test(quantize_is_mlx_quantize),
        cmocka_unit_test(quantize_takes_any_float),
        cmocka_unit_test(quantize_passes_over_nan),
        cmocka_unit_test(dense_rows),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
