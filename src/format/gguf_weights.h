/* The bytes of an import: ggml's blocks rewritten as MLX's affine quantization, or kept as they are. Private
 * to the import. */
#ifndef MLXR_GGUF_WEIGHTS_H
#define MLXR_GGUF_WEIGHTS_H

#include "format/gguf.h"

/* One tensor of the file and what becomes of it. Up to is_bias it is the adder's to fill; module is
 * borrowed. */
typedef struct mlxr_gguf_weight {
    const mlxr_gguf_tensor *source;
    const char *module;    /* "model.layers.0.mlp.down_proj" */
    size_t n_rows, n_cols; /* a vector is one row */
    /* Not 0: rows are in the file's order for rotating neighbours, (head, i, p) for Hugging Face's (head, p,
     * i). */
    size_t rotary_head_dim;
    bool is_vector, is_bias;

    mlxr_quant quant;
    mlxr_dtype dtype; /* of the values, or of scales and biases */
    bool lossy;       /* dequantized and quantized again */
    struct mlxr_gguf_weights *owner;
    float *values;            /* lossy, while it is being written: a row, */
    uint8_t *packed;          /* its codes, */
    uint8_t *scales, *biases; /* and these of the whole matrix, kept from the codes' turn to their own */
} mlxr_gguf_weight;

typedef struct mlxr_gguf_weights {
    mlxr_gguf_weight *v;
    size_t n, cap;
    const char *path;           /* of the GGUF file, for messages; set by prepare */
    const volatile int *cancel; /* of the writing, or NULL */
} mlxr_gguf_weights;

mlxr_status mlxr_gguf_weights_add(mlxr_gguf_weights *ws, const mlxr_gguf_weight *w, mlxr_error *err);
/* Settles how each one is stored, reading the scales where that depends on them. Types without a lossless
 * form are refused, all named with their counts, or become `requant`. */
mlxr_status mlxr_gguf_weights_prepare(mlxr_gguf_weights *ws, const char *path, bool requantize,
                                      mlxr_quant requant, mlxr_error *err);
mlxr_status mlxr_gguf_weights_write(mlxr_gguf_weights *ws, const char *path, const mlxr_progress *progress,
                                    mlxr_error *err);
void mlxr_gguf_weights_clear(mlxr_gguf_weights *ws);

bool mlxr_gguf_same_quant(mlxr_quant a, mlxr_quant b);

#endif
