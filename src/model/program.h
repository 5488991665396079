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
#define MLXR_OP_LIST(X)                                                                                  \
    X(EMBED, "dst[T, D] = scale * weight[id]")                                                           \
    X(LINEAR, "dst[T, N] = a[T, K] weight[N, K]^T + bias[N]")                                            \
    X(RMS_NORM, "dst = a / sqrt(mean(a^2) + eps) * (offset + weight), over each run of `width` values")  \
    X(LAYER_NORM,                                                                                        \
      "dst = (a - mean(a)) / sqrt(var(a) + eps) * weight + bias, over each run of `width` values")       \
    X(ROPE, "a[T, H, Dh] rotated by position in place (dst == a), its first n_rot values of each head")  \
    X(ATTEND, "append b, c to the slot; dst[T, Hq * Dv] = softmax(scale * a K^T + causal mask) V")       \
    X(ACT_MUL, "dst = act(a) * b; without b, act(a)")                                                    \
    X(ADD, "dst = a + b")                                                                                \
    X(SCALE, "dst = factor * weight[0] * a")                                                             \
    X(SOFTCAP, "dst = cap * tanh(a / cap)")                                                              \
    X(SLICE, "dst[i] = a[first + (i / run) * step + i % run]")                                           \
    X(ROUTE, "dst[T, 2 k] = the k best experts of the scores a[T, E], as numbers, then their weights")   \
    X(EXPERTS, "dst = sum over the k experts of b: weight * down(act(gate a) * (up a))")                 \
    X(SHORT_CONV, "dst[T, C] = act(sum over j < K: weight[C, j] * a of K - 1 - j tokens before + bias)") \
    X(GATED_DELTA, "for each head S = decay S; S += beta (c - S b) b^T; dst = S a")

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

/* A weight the program wants: first its declaration, then, once bound, where it lies.
 *
 * A stack has a matrix for each expert: one tensor [n_experts, n_rows, n_cols], or n_experts tensors whose names have
 * the expert's number where the module name has "{expert}". */
typedef struct mlxr_weight {
    /* Module name in the checkpoint. The tensor is name + suffix: ".weight", ".bias", "" or, for a matrix whose scales
     * are name + "_scales", "_blocks". */
    const char *name, *suffix;
    size_t n_experts;      /* 0: no stack */
    size_t n_rows, n_cols; /* [rows, cols]; a vector has n_rows == 1 and its tensor one dimension */
    size_t n_runs;         /* a vector whose tensor is [n_runs, n_cols / n_runs]; 0: one dimension */
    bool is_vector;
    bool bound;
    mlxr_matrix m;              /* of a stack: its first matrix */
    const mlxr_matrix *experts; /* [n_experts], all stored alike; owned by the program */
} mlxr_weight;

typedef enum mlxr_slot_kind {
    MLXR_SLOT_KV,    /* keys and values of one attention layer, for every cached position */
    MLXR_SLOT_CONV,  /* the last n_taps inputs of a convolution, for every sequence: [n_taps, n_channels] */
    MLXR_SLOT_DELTA, /* the state of a delta rule, for every sequence: [n_kv_heads, v_head_dim, k_head_dim] */
} mlxr_slot_kind;

typedef struct mlxr_slot {
    const char *name;
    mlxr_slot_kind kind;
    size_t n_kv_heads, k_head_dim, v_head_dim; /* KV, DELTA */
    size_t window;             /* KV: positions a token sees, itself included; 0: all before it */
    size_t n_channels, n_taps; /* CONV */
    size_t n_floats;           /* a sequence's; 0 for KV */
    size_t offset;             /* where they begin among the program's n_sequence_floats */
} mlxr_slot;

/* MLXR_ROPE_HALF pairs (i, i + n_rot/2), as rotate_half of Hugging Face; MLXR_ROPE_INTERLEAVED pairs
 * (2i, 2i + 1), as RoFormer (arXiv 2104.09864) and MLX's traditional=True. */
typedef enum mlxr_rope_pairing { MLXR_ROPE_HALF, MLXR_ROPE_INTERLEAVED } mlxr_rope_pairing;

/* GELU_TANH is the approximation by tanh; SWIGLU_OAI, of ACT_MUL and
 * EXPERTS, is (clamp(b, -limit, limit) + 1) * g * sigmoid(alpha * g), g = min(a, limit). */
typedef enum mlxr_act {
    MLXR_ACT_NONE, /* a itself */
    MLXR_ACT_SILU,
    MLXR_ACT_GELU, /* x * normal distribution(x) */
    MLXR_ACT_GELU_TANH,
    MLXR_ACT_SIGMOID,
    MLXR_ACT_SWIGLU_OAI,
} mlxr_act;
const char *mlxr_act_name(mlxr_act a);

/* SOFTMAX_TOPK: softmax over all experts, then the k best, whose weights are divided by their sum when `normalize`.
 * TOPK_SOFTMAX: the k best scores, then softmax over those. The best come first; of equal ones the lower number. */
typedef enum mlxr_router { MLXR_ROUTER_SOFTMAX_TOPK, MLXR_ROUTER_TOPK_SOFTMAX } mlxr_router;

/* How gate and up lie in the checkpoint: two stacks of F rows, or one stack of 2F whose first half is gate, or whose
 * even rows are. */
typedef enum mlxr_gate_up {
    MLXR_GATE_UP_APART,
    MLXR_GATE_UP_HALVES,
    MLXR_GATE_UP_INTERLEAVED,
} mlxr_gate_up;

typedef struct mlxr_op {
    mlxr_op_kind kind;
    int32_t i_layer; /* -1 outside the layers; for people */
    mlxr_reg_id dst, a, b, c, d, e;
    mlxr_weight_id weight, bias;
    union {
        struct {
            float scale;
        } embed;
        struct {
            float eps, offset; /* offset: 0, or 1 where the checkpoint stores w - 1; RMS_NORM alone */
            size_t width;      /* divides the register's: a norm over each head has width Dh */
        } norm; /* weight and bias: [width], the same for every run, or the whole register's width. RMS_NORM without a
                 * weight multiplies by 1; LAYER_NORM's bias may be absent */
        struct {
            size_t n_heads, head_dim, n_rot;
            mlxr_rope_pairing pairing;
            const float *inv_freq; /* [n_rot / 2]: angle = position * inv_freq[i]; owned by the program */
            float scale;           /* multiplies the rotated part (mscale of yarn and longrope), usually 1 */
            /* Dynamic NTK: positions from dynamic_context on have frequencies of their own,
             * mlxr_rope_frequencies_at of model/rope.h. 0: none have. */
            size_t dynamic_context;
            float dynamic_theta, dynamic_factor;
        } rope;
        struct {
            mlxr_slot_id slot; /* b and c absent: nothing is appended, an earlier ATTEND did that */
            size_t n_heads;
            float scale;
            float softcap; /* scores become softcap * tanh(score / softcap) before the mask; 0: they stay */
            /* The query at position p is multiplied by 1 + beta * ln(1 + floor(p / span)). span 0: it is not. */
            float position_beta;
            size_t position_span;
        } attend; /* weight: sinks [n_heads], scores that a position would have whose value is 0 */
        struct {
            mlxr_act act;
            float alpha, limit; /* SWIGLU_OAI */
        } act;                  /* a may be of width 1: it counts for every value of b */
        struct {
            float factor;
        } scale; /* weight: a vector of one value, or absent */
        struct {
            float cap;
        } softcap;
        struct {
            size_t first, run, step;
        } slice;
        struct {
            mlxr_router router;
            size_t k;
            bool normalize;
            float scale; /* multiplies the weights, usually 1 */
        } route;         /* weight: [E], multiplies an expert's weight, or absent */
        struct {
            size_t k, width; /* width: F */
            mlxr_gate_up gate_up;
            mlxr_act act;
            float alpha, limit;
            /* gate: [E, F, D], or [E, 2F, D] unless APART, when up is absent; down: [E, D, F]. The biases are
             * matrices [E, F], [E, 2F], [E, D], or absent. */
            mlxr_weight_id gate, up, down, gate_bias, up_bias, down_bias;
        } experts;
        struct {
            mlxr_slot_id slot;
            mlxr_act act;
        } conv; /* weight: matrix [C, K], the last column for the token itself; bias: [C] or absent */
        struct {
            mlxr_slot_id slot;
            size_t n_k_heads; /* head h of the state reads head h / (n_heads / n_k_heads) of a and b */
        } delta;              /* a: q [T, Hk Dk]; b: k [T, Hk Dk]; c: v [T, H Dv]; d, e: [T, H];
                               * decay = exp(-exp(weight[H]) * softplus(d + bias[H])), beta = sigmoid(e) */
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
    size_t n_sequence_floats; /* of all CONV and DELTA slots: what a sequence has beside its blocks */
    mlxr_op *ops;
    size_t n_ops;
    mlxr_reg_id logits; /* [T, V]; the ops that only lead to it need run for the wanted rows alone */
    /* The final hidden state [T, D], what the head reads after the last norm: where it lies once the first
     * n_ops_hidden operations have run. MLXR_NONE: the program has no such place. */
    mlxr_reg_id hidden;
    size_t n_ops_hidden;
    mlxr_arena arena; /* owns all of the above */
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
/* n_runs vectors of n, one after the other: a tensor [n_runs, n]. */
mlxr_weight_id mlxr_build_vectors(mlxr_builder *b, size_t n_runs, size_t n, const char *suffix,
                                  const char *fmt, ...) MLXR_PRINTF(5, 6);
mlxr_reg_id mlxr_build_reg(mlxr_builder *b, const char *name,
                           size_t width); /* the same name: the same register */
/* Stacks of matrices; with "{expert}" in the name the checkpoint has a tensor for each. */
mlxr_weight_id mlxr_build_stack(mlxr_builder *b, size_t n_experts, size_t n_rows, size_t n_cols,
                                const char *suffix, const char *fmt, ...) MLXR_PRINTF(6, 7);
/* A dense matrix by another suffix than ".weight". */
mlxr_weight_id mlxr_build_matrix_as(mlxr_builder *b, size_t n_rows, size_t n_cols, const char *suffix,
                                    const char *fmt, ...) MLXR_PRINTF(5, 6);
mlxr_slot_id mlxr_build_slot(mlxr_builder *b, const char *name, size_t n_kv_heads, size_t k_head_dim,
                             size_t v_head_dim, size_t window);
mlxr_slot_id mlxr_build_conv_slot(mlxr_builder *b, const char *name, size_t n_channels, size_t n_taps);
mlxr_slot_id mlxr_build_delta_slot(mlxr_builder *b, const char *name, size_t n_heads, size_t k_head_dim,
                                   size_t v_head_dim);
/* Copied into the program; NULL on failure. */
const float *mlxr_build_floats(mlxr_builder *b, const float *v, size_t n);
void mlxr_build_op(mlxr_builder *b,
                   const mlxr_op *op); /* checked: registers, widths and weights fit the kind */
/* The register that the operation before this call has written is the final hidden state; what follows makes logits of
 * it. Once a program. */
void mlxr_build_hidden(mlxr_builder *b, mlxr_reg_id hidden);
/* An op with every reference MLXR_NONE. */
mlxr_op mlxr_op_init(mlxr_op_kind kind, int32_t i_layer);
/* What an operation reads, for whoever walks over programs: its registers and its weights, without those absent.
 * Returns how many there are. */
enum { MLXR_OP_MAX_INPUTS = 5, MLXR_OP_MAX_WEIGHTS = 6 };
size_t mlxr_op_inputs(const mlxr_op *op, mlxr_reg_id regs[MLXR_OP_MAX_INPUTS]);
size_t mlxr_op_weights(const mlxr_op *op, mlxr_weight_id weights[MLXR_OP_MAX_WEIGHTS]);
/* Whether a token's result depends on the tokens before it (ATTEND, SHORT_CONV, GATED_DELTA): such an operation runs
 * for every token, and what follows the last one need only run for the wanted rows. */
bool mlxr_op_mixes_tokens(mlxr_op_kind k);
/* The slot of an operation that mixes tokens, else MLXR_NONE. */
mlxr_slot_id mlxr_op_slot(const mlxr_op *op);
/* *out is the caller's. Sets hidden_size and the rest from the arguments. */
mlxr_status mlxr_builder_finish(mlxr_program **out, mlxr_builder *b, size_t hidden_size, size_t vocab_size,
                                size_t n_layers, size_t context_length, mlxr_reg_id logits, mlxr_error *err);
void mlxr_program_free(mlxr_program *p);

/* The listing of `mlxctl show --program`: slots, weights with their quantization, operations. */
void mlxr_program_print(const mlxr_program *p, mlxr_buf *out);

#endif
