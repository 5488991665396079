/* summary: what a bound program holds, in numbers: parameters, bytes, how each layer is made and how it is stored.
 * For people who choose a model (mlxctl show); nothing that runs a program needs it. */
#ifndef MLXR_SUMMARY_H
#define MLXR_SUMMARY_H

#include "model/program.h"

/* How one matrix is stored, without where. */
typedef struct mlxr_storage {
    mlxr_quant quant;
    mlxr_dtype dtype; /* as mlxr_matrix.dtype */
} mlxr_storage;

enum { MLXR_STORAGE_TEXT = 64 };
/* "BF16", "affine 4-bit group 64 F16", "mxfp4 group 32"; returns text. */
const char *mlxr_storage_text(char text[static MLXR_STORAGE_TEXT], mlxr_storage s);

/* Matrices of one storage; a stack of experts is as many as it has. */
typedef struct mlxr_storage_use {
    mlxr_storage storage;
    size_t n_matrices;
    uint64_t n_parameters, n_bytes;
} mlxr_storage_use;

/* What a layer is made of. A part that it has not is all zeros. */
typedef struct mlxr_layer_shape {
    size_t n_heads, n_kv_heads, k_head_dim, v_head_dim, window; /* ATTEND; window 0: all positions */
    bool reads_kv;                                              /* of an earlier layer: it stores none */
    size_t n_states, n_key_heads, state_k_dim, state_v_dim;     /* GATED_DELTA */
    size_t n_channels, n_taps;                                  /* SHORT_CONV; taps: tokens before its own */
    size_t ffn_width;                                           /* of the gated or plain feed-forward */
    size_t n_experts, n_active_experts, expert_width;
} mlxr_layer_shape;

typedef struct mlxr_layers {
    const size_t *index; /* rising */
    size_t n;
} mlxr_layers;
/* "0-4, 6, 8-20 by 2". */
void mlxr_layers_print(mlxr_buf *out, const mlxr_layers *layers);

typedef struct mlxr_shape_group {
    mlxr_layer_shape shape;
    mlxr_layers layers;
} mlxr_shape_group;

/* A matrix of a layer that is stored otherwise than most of it: its name without the layer's ("mlp.down_proj"). */
typedef struct mlxr_exception {
    const char *module;
    mlxr_storage storage;
} mlxr_exception;

/* Layers whose matrices are stored alike: most of their parameters so, and the exceptions. */
typedef struct mlxr_storage_group {
    mlxr_storage storage;
    const mlxr_exception *exceptions;
    size_t n_exceptions;
    mlxr_layers layers;
} mlxr_storage_group;

typedef struct mlxr_summary {
    uint64_t n_parameters; /* a weight that serves twice (tied embeddings) counts once */
    uint64_t
        n_active_parameters; /* of these a token's own: of each stack of experts as many as the router takes */
    uint64_t n_weight_bytes; /* codes, scales and biases */
    mlxr_storage_use *uses;  /* most parameters first; vectors and the biases of experts are not in them */
    size_t n_uses;
    mlxr_shape_group *shapes; /* by their first layers */
    size_t n_shapes;
    mlxr_storage_group *storages; /* by their first layers */
    size_t n_storages;
    mlxr_exception *outside; /* matrices of no layer, under their whole names */
    size_t n_outside;
    mlxr_arena arena; /* owns all of the above */
} mlxr_summary;

/* Every weight of the program is bound. On failure there is nothing to clear. Borrows from the program. */
mlxr_status mlxr_summary_init(mlxr_summary *out, const mlxr_program *p, mlxr_error *err);
void mlxr_summary_clear(mlxr_summary *s);

#endif
