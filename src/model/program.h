/* A model is a program: a flat list of typed operations over named registers.
 *
 * A register holds one float32 row of `width` values for each token of the batch. An operation reads registers and
 * weights, may read and write a state slot, and writes its destination register for every token. Whatever tells
 * families apart is a field here; nobody after this room branches on a family's name. Devices compile programs
 * and may fuse operations as long as the values are the same.
 *
 * Legend of shapes: T tokens of the batch, S cached positions, D hidden, Hq/Hkv heads, Dh head width,
 * F feed-forward width, V vocabulary. Programs are immutable once built. */
#ifndef MLXR_PROGRAM_H
#define MLXR_PROGRAM_H

#include "format/quant.h"

/* X(kind, what it computes) */
#define MLXR_OP_LIST(X)                                                                                 \
    X(EMBED, "dst[T, D] = scale * weight[id]")                                                          \
    X(LINEAR, "dst[T, N] = a[T, K] weight[N, K]^T + bias[N]")                                           \
    X(RMS_NORM, "dst = a / sqrt(mean(a^2) + eps) * (offset + weight), over each run of `width` values") \
    X(ROPE, "a[T, H, Dh] rotated by position in place (dst == a), its first n_rot values of each head") \
    X(ATTEND, "append b, c to the slot; dst[T, Hq * Dv] = softmax(scale * a K^T + causal mask) V")      \
    X(ACT_MUL, "dst = act(a) * b")                                                                      \
    X(ADD, "dst = a + b")                                                                               \
    X(SCALE, "dst = factor * a")

typedef enum mlxr_op_kind {
#define MLXR_OP_ENUM(name, text) MLXR_OP_##name,
    MLXR_OP_LIST(MLXR_OP_ENUM)
#undef MLXR_OP_ENUM
        MLXR_OP_COUNT
} mlxr_op_kind;
const char *mlxr_op_name(mlxr_op_kind k);

typedef uint32_t mlxr_reg_id;    /* index into regs */
typedef uint32_t mlxr_weight_id; /* index into weights */
typedef uint32_t mlxr_slot_id;   /* index into slots */
#define MLXR_NONE UINT32_MAX     /* no register, weight or slot there */

typedef struct mlxr_reg {
    const char *name;
    size_t width; /* floats a token */
} mlxr_reg;

/* A weight the program wants: first its declaration, then, once bound, where it lies. */
typedef struct mlxr_weight {
    const char
        *name; /* module name in the checkpoint: the tensor is name + ".weight", ".bias" and the like: see
                         suffix */
    const char *suffix;    /* ".weight", ".bias" or "" */
    size_t n_rows, n_cols; /* [rows, cols]; a vector has n_rows == 1 and its tensor one dimension */
    bool is_vector;
    bool bound;
    mlxr_matrix m;
} mlxr_weight;

/* Keys and values of one attention layer, for every cached position. */
typedef struct mlxr_slot {
    const char *name;
    size_t n_kv_heads, k_head_dim, v_head_dim;
    size_t window; /* positions a token sees, itself included; 0: all before it */
} mlxr_slot;

/* MLXR_ROPE_HALF pairs (i, i + n_rot/2), as rotate_half of Hugging Face; MLXR_ROPE_INTERLEAVED pairs
 * (2i, 2i + 1), as RoFormer (arXiv 2104.09864) and MLX's traditional=True. */
typedef enum mlxr_rope_pairing { MLXR_ROPE_HALF, MLXR_ROPE_INTERLEAVED } mlxr_rope_pairing;

typedef enum mlxr_act { MLXR_ACT_SILU } mlxr_act;
const char *mlxr_act_name(mlxr_act a);

typedef struct mlxr_op {
    mlxr_op_kind kind;
    int32_t i_layer; /* -1 outside the layers; for people */
    mlxr_reg_id dst, a, b, c;
    mlxr_weight_id weight, bias;
    union {
        struct {
            float scale;
        } embed;
        struct {
            float eps, offset; /* offset: 0, or 1 where the checkpoint stores w - 1 */
            size_t width;      /* divides the register's: a norm over each head has width Dh */
        } norm;
        struct {
            size_t n_heads, head_dim, n_rot;
            mlxr_rope_pairing pairing;
            const float *inv_freq; /* [n_rot / 2]: angle = position * inv_freq[i]; owned by the program */
            float scale;           /* multiplies the rotated part (mscale of yarn and longrope), usually 1 */
        } rope;
        struct {
            mlxr_slot_id slot;
            size_t n_heads;
            float scale;
        } attend;
        struct {
            mlxr_act act;
        } act;
        struct {
            float factor;
        } scale;
    } u;
} mlxr_op;

typedef struct mlxr_program {
    const char *family;
    size_t hidden_size, vocab_size, n_layers;
    size_t context_length; /* max_position_embeddings */
    mlxr_reg *regs;
    size_t n_regs;
    mlxr_weight *weights;
    size_t n_weights;
    mlxr_slot *slots;
    size_t n_slots;
    mlxr_op *ops;
    size_t n_ops;
    mlxr_reg_id logits; /* [T, V]; the ops that only lead to it need run for the wanted rows alone */
    mlxr_arena arena;   /* owns all of the above */
} mlxr_program;

/* ---- building, used by families. A builder remembers its first failure (out of memory, a width that does not
 * fit), later calls do nothing, finish reports it. ---- */
typedef struct mlxr_builder mlxr_builder;
mlxr_status mlxr_builder_create(mlxr_builder **out, const char *family, mlxr_error *err);
void mlxr_builder_free(mlxr_builder *b);
/* Printf-style names, so that "model.layers.%zu.mlp.up_proj" stands where it is used. The same name twice is the
 * same weight (tied embeddings); its shapes must agree. */
mlxr_weight_id mlxr_build_matrix(mlxr_builder *b, size_t n_rows, size_t n_cols, const char *fmt, ...)
    MLXR_PRINTF(4, 5);
mlxr_weight_id mlxr_build_vector(mlxr_builder *b, size_t n, const char *suffix, const char *fmt, ...)
    MLXR_PRINTF(4, 5);
mlxr_reg_id mlxr_build_reg(mlxr_builder *b, const char *name,
                           size_t width); /* the same name: the same register */
mlxr_slot_id mlxr_build_slot(mlxr_builder *b, const char *name, size_t n_kv_heads, size_t k_head_dim,
                             size_t v_head_dim, size_t window);
/* Copied into the program; NULL on failure. */
const float *mlxr_build_floats(mlxr_builder *b, const float *v, size_t n);
void mlxr_build_op(mlxr_builder *b,
                   const mlxr_op *op); /* checked: registers, widths and weights fit the kind */
/* An op with every reference MLXR_NONE. */
mlxr_op mlxr_op_init(mlxr_op_kind kind, int32_t i_layer);
/* *out is the caller's. Sets hidden_size and the rest from the arguments. */
mlxr_status mlxr_builder_finish(mlxr_program **out, mlxr_builder *b, size_t hidden_size, size_t vocab_size,
                                size_t n_layers, size_t context_length, mlxr_reg_id logits, mlxr_error *err);
void mlxr_program_free(mlxr_program *p);

/* The listing of `mlxctl show --program`: slots, weights with their quantization, operations. */
void mlxr_program_print(const mlxr_program *p, mlxr_buf *out);

#endif
