/* Element types and the layout of quantized matrices, as MLX packs them.
 *
 * affine: w = scale * q + bias for each group of group_size columns of a row; q unsigned, `bits` wide, packed
 * as one little-endian bit stream a row (so 3-, 5- and 6-bit values cross word borders); stored as uint32
 * words, [n_rows, n_cols * bits / 32]; scales and biases [n_rows, n_cols / group_size] in f16, bf16 or f32.
 * Authority: mx.quantize / mx.dequantize of MLX. */
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

typedef enum mlxr_quant_mode { MLXR_QUANT_NONE, MLXR_QUANT_AFFINE } mlxr_quant_mode;
const char *mlxr_quant_mode_name(mlxr_quant_mode m);

/* How one matrix is stored. group_size and bits are 0 for MLXR_QUANT_NONE. */
typedef struct mlxr_quant {
    mlxr_quant_mode mode;
    unsigned bits, group_size;
} mlxr_quant;

/* Whether the kernels exist: none, or affine with bits 2, 3, 4, 5, 6, 8 and groups 32, 64, 128. */
bool mlxr_quant_supported(mlxr_quant q);

/* A weight matrix [n_rows, n_cols] as it lies in the file; a vector is one row. Borrowed bytes. */
typedef struct mlxr_matrix {
    mlxr_quant quant;
    mlxr_dtype dtype; /* of data when dense (F16, BF16, F32); of scales and biases when affine */
    size_t n_rows, n_cols;
    size_t row_bytes;            /* of data */
    const void *data;            /* 4-byte aligned is not promised: safetensors may put it anywhere */
    const void *scales, *biases; /* [n_rows, n_cols / group_size], NULL when dense */
} mlxr_matrix;

size_t mlxr_matrix_bytes(const mlxr_matrix *m); /* data, scales and biases: what one pass reads */
/* Row i as n_cols floats: scale and bias widened exactly to float32, the product rounded, then the sum, which
 * is bit-equal to mx.dequantize(w, scales.astype(float32), biases.astype(float32)). (With f16 or bf16 scales
 * MLX itself rounds both steps to that type, so a model run in half precision sees slightly other
 * weights.) */
void mlxr_matrix_row(const mlxr_matrix *m, size_t i, float *out);
/* Element i of a run of f16, bf16 or f32 values at p (any alignment). */
float mlxr_load_float(const void *p, mlxr_dtype dtype, size_t i);
void mlxr_store_float(void *p, mlxr_dtype dtype, size_t i, float value);

/* Quantizes n_cols floats (a multiple of group_size) of one row as mx.quantize does for an array of this
 * dtype: packed [n_cols * bits / 8] bytes, scales and biases [n_cols / group_size] rounded to dtype (F16,
 * BF16, F32). Like there, w is expected to hold values of that dtype, and the codes are chosen before scale
 * and bias are rounded. */
void mlxr_affine_quantize_row(const float *w, size_t n_cols, mlxr_quant quant, mlxr_dtype dtype, void *packed,
                              void *scales, void *biases);

#endif
