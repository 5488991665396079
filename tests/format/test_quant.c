/* Affine quantization against MLX: every width, group and scale type of quant.safetensors (make_quant.py). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "format/format.h"

static const unsigned widths[] = {2, 3, 4, 5, 6, 8}, groups[] = {32, 64, 128};
static const char *const types[] = {"f32", "f16", "bf16"};

static mlxr_checkpoint *fixture;

static int open_fixture(void **state)
{
    mlxr_error err = {0};
    if (mlxr_checkpoint_open_file(&fixture, MLXR_TEST_DIR "/quant.safetensors", &err) == MLXR_OK) return 0;
    fprintf(stderr, "%s\n", err.message);
    return -1;
}

static int close_fixture(void **state)
{
    mlxr_checkpoint_close(fixture);
    return 0;
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
                float *out = malloc(m.n_rows * m.n_cols * sizeof *out);
                char hex[65];
                assert_non_null(out);
                for (size_t i = 0; i < m.n_rows; i++) mlxr_matrix_row(&m, i, out + i * m.n_cols);
                assert_int_equal(mlxr_sha256_hex(hex, out, m.n_rows * m.n_cols * sizeof *out, NULL), MLXR_OK);
                assert_memory_equal(hex, want(types[t], widths[b], groups[g], "dequantized")->data, 64);
                free(out);
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
                mlxr_matrix m = {{MLXR_QUANT_AFFINE, widths[k], 32},
                                 MLXR_F32,
                                 1,
                                 32,
                                 4 * widths[k],
                                 packed,
                                 &scale,
                                 &bias};
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
    assert_true(mlxr_quant_supported((mlxr_quant){MLXR_QUANT_NONE, 0, 0}));
    assert_false(mlxr_quant_supported((mlxr_quant){MLXR_QUANT_AFFINE, 7, 64}));
    assert_false(mlxr_quant_supported((mlxr_quant){MLXR_QUANT_AFFINE, 4, 16}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_mlx_dequantize),
        cmocka_unit_test(rows_at_any_address),
        cmocka_unit_test(quantize_is_mlx_quantize),
        cmocka_unit_test(quantize_takes_any_float),
        cmocka_unit_test(quantize_passes_over_nan),
        cmocka_unit_test(dense_rows),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
