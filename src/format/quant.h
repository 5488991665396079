/* Element types and the layout of quantized matrices, as MLX packs them.
 *
 * affine: w = scale * q + bias for each group of group_size columns of a row; q unsigned, `bits` wide, packed
 * as one little-endian bit stream a row (so 3-, 5- and 6-bit values cross word borders); stored as uint32
 * words, [n_rows, n_cols * bits / 32]; scales and biases [n_rows, n_cols / group_size] in f16, bf16 or f32.
 *
 * mxfp4, nvfp4, mxfp8: w = scale * v; v a float of 4 (e2m1) or 8 bits (e4m3), packed as above, so the first of
 * two 4-bit values is in the low half of a byte; scales [n_rows, n_cols / group_size] of one byte, e8m0 or (nvfp4)
 * e4m3; no biases. nvfp4 may have one more float32 scale for the matrix.
 *
 *     mode   value  bits  scale  group
 *     mxfp4  e2m1   4     e8m0   32
 *     nvfp4  e2m1   4     e4m3   16
 *     mxfp8  e4m3   8     e8m0   32
 *
 * Authority: mx.quantize / mx.dequantize of MLX; the mx formats are those of the OCP Microscaling Formats (MX)
 * specification, which MLX leaves in one point: scale code 0xff is infinity, not NaN. */
#ifndef MLXR_QUANT_H
#define MLXR_QUANT_H

#include "base/base.h"

enum { MLXR_MAX_DIMS = 8 };

/* X(enum, safetensors' name, bits an element) */
#define MLXR_DTYPE_LIST(X)           \
    X(BOOL, "BOOL", 8)               \
    X(U8, "U8", 8)                   \
    X(I8, "I8", 8)                   \
    X(F8_E4M3, "F8_E4M3", 8)         \
    X(F8_E5M2, "F8_E5M2", 8)         \
    X(F8_E8M0, "F8_E8M0", 8)         \
    X(F8_E4M3FNUZ, "F8_E4M3FNUZ", 8) \
    X(F8_E5M2FNUZ, "F8_E5M2FNUZ", 8) \
    X(F6_E2M3, "F6_E2M3", 6)         \
    X(F6_E3M2, "F6_E3M2", 6)         \
    X(F4, "F4", 4)                   \
    X(U16, "U16", 16)                \
    X(I16, "I16", 16)                \
    X(F16, "F16", 16)                \
    X(BF16, "BF16", 16)              \
    X(U32, "U32", 32)                \
    X(I32, "I32", 32)                \
    X(F32, "F32", 32)                \
    X(C64, "C64", 64)                \
    X(U64, "U64", 64)                \
    X(I64, "I64", 64)                \
    X(F64, "F64", 64)

typedef enum mlxr_dtype {
#define MLXR_DTYPE_ENUM(name, text, bits) MLXR_##name,
    MLXR_DTYPE_LIST(MLXR_DTYPE_ENUM)
#undef MLXR_DTYPE_ENUM
        MLXR_DTYPE_COUNT
} mlxr_dtype;

const char *mlxr_dtype_name(mlxr_dtype t);
unsigned mlxr_dtype_bits(mlxr_dtype t);
/* MLXR_DTYPE_COUNT when the name is unknown. */
mlxr_dtype mlxr_dtype_from_name(const char *name);

typedef enum mlxr_quant_mode {
    MLXR_QUANT_NONE,
    MLXR_QUANT_AFFINE,
    MLXR_QUANT_MXFP4,
    MLXR_QUANT_NVFP4,
    MLXR_QUANT_MXFP8,
} mlxr_quant_mode;
const char *mlxr_quant_mode_name(mlxr_quant_mode m);
/* MLXR_QUANT_NONE when the name is none of MLX's modes. */
mlxr_quant_mode mlxr_quant_mode_from_name(const char *name);
/* The three whose values are floats and whose scales are bytes. */
static inline bool mlxr_quant_is_fp(mlxr_quant_mode m)
{
    return m == MLXR_QUANT_MXFP4 || m == MLXR_QUANT_NVFP4 || m == MLXR_QUANT_MXFP8;
}

/* How one matrix is stored. group_size and bits are 0 for MLXR_QUANT_NONE. */
typedef struct mlxr_quant {
    mlxr_quant_mode mode;
    unsigned bits, group_size;
} mlxr_quant;

/* Whether the kernels exist: none, affine with bits 2, 3, 4, 5, 6, 8 and groups 32, 64, 128, or the table above. */
bool mlxr_quant_supported(mlxr_quant q);
/* What MLX takes where bits and group_size are not given. */
mlxr_quant mlxr_quant_default(mlxr_quant_mode m);

/* A weight matrix [n_rows, n_cols] as it lies in the file; a vector is one row. Borrowed bytes. */
typedef struct mlxr_matrix {
    mlxr_quant quant;
    mlxr_dtype
        dtype; /* of data when dense (F16, BF16, F32); of scales and biases when quantized (U8 for fp) */
    size_t n_rows, n_cols;
    size_t row_bytes;            /* of data */
    const void *data;            /* 4-byte aligned is not promised: safetensors may put it anywhere */
    const void *scales, *biases; /* [n_rows, n_cols / group_size], NULL when dense; no biases for fp */
    /* nvfp4: what MLX calls global_scale, for the whole matrix, or 0 for none. (MLX makes 0 only of a matrix of
     * zeros, whose codes are zeros too: with and without it the weights are 0.) */
    float global_scale;
} mlxr_matrix;

size_t mlxr_matrix_bytes(const mlxr_matrix *m); /* data, scales and biases: what one pass reads */
/* Row i as n_cols floats.
 * affine: scale and bias widened exactly to float32, the product rounded, then the sum, which
 * is bit-equal to mx.dequantize(w, scales.astype(float32), biases.astype(float32)). (With f16 or bf16 scales
 * MLX itself rounds both steps to that type, so a model run in half precision sees slightly other
 * weights.)
 * fp: (scale * mlxr_matrix_factor) * v in float32, bit-equal to mx.dequantize(w, scales, mode=, global_scale=,
 * dtype=float32); without a global scale every product is exact, or infinity. */
void mlxr_matrix_row(const mlxr_matrix *m, size_t i, float *out);
/* What the scales of m are multiplied by: global_scale / 2688, the largest value of nvfp4, or 1 without one. */
float mlxr_matrix_factor(const mlxr_matrix *m);
/* By code: 1 sign, 2 exponent and 1 mantissa bits; and 1, 4 and 3, with NaN at 0x7f and 0xff, no infinity. */
extern const float mlxr_e2m1[16], mlxr_e4m3[256];
/* 2^(code - 127), and infinity for 0xff. */
static inline float mlxr_e8m0_to_f32(uint8_t code)
{
    uint32_t u = code ? (uint32_t)code << 23 : 0x400000;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
/* Element i of a run of f16, bf16 or f32 values at p (any alignment). */
float mlxr_load_float(const void *p, mlxr_dtype dtype, size_t i);
void mlxr_store_float(void *p, mlxr_dtype dtype, size_t i, float value);

/* Quantizes n_cols floats (a multiple of group_size) of one row as mx.quantize does for an array of this
 * dtype: packed [n_cols * bits / 8] bytes, scales and biases [n_cols / group_size] rounded to dtype (F16,
 * BF16, F32). Like there, w is expected to hold values of that dtype, and the codes are chosen before scale
 * and bias are rounded. */
void mlxr_affine_quantize_row(const float *w, size_t n_cols, mlxr_quant quant, mlxr_dtype dtype, void *packed,
                              void *scales, void *biases);

/* The same for the modes of floats, without a global scale: packed [n_cols * bits / 8], scales [n_cols / group_size]
 * bytes. What is out of range stays at its end: values, infinity too, become the largest one, and a scale below 2^-127
 * is 2^-127. (MLX's byte wraps around there, and its CPU backend makes zeros of values that are far too large.) NaN
 * counts for nothing in the scale and becomes 0, or in e4m3 the largest. */
void mlxr_fp_quantize_row(const float *w, size_t n_cols, mlxr_quant quant, mlxr_dtype dtype, void *packed,
                          void *scales);

#endif
