/* decoder: what families share. A family file reads its fields of config.json, says what its layers are made of, and
 * calls these; whatever tells two families apart is a field of the structs below.
 *
 * A decoder remembers its first failure, of reading or of building; later calls do nothing and finish reports it. So
 * family files are straight lines. Fields are checked as they are read: bounds that no real model comes near keep a
 * hostile config.json from asking for a giant program.
 *
 * Module names below are those of a layer ("self_attn.q_proj"); the decoder puts model prefix, "layers.N." before. */
#ifndef MLXR_DECODER_H
#define MLXR_DECODER_H

#include <math.h>

#include "model/model.h"
#include "model/rope.h"

/* Bounds of what config.json may say. */
enum {
    MLXR_MAX_LAYERS = 1024,
    MLXR_MAX_HEADS = 1 << 14,
    MLXR_MAX_HEAD_DIM = 1 << 12,
    MLXR_MAX_N_EXPERTS = 1 << 12,
    MLXR_MAX_DIM = 1 << 20, /* hidden_size, intermediate_size */
    MLXR_MAX_VOCAB = 1 << 24,
    MLXR_MAX_CONTEXT = 1 << 30,
};

typedef enum mlxr_norm_kind { MLXR_NORM_RMS, MLXR_NORM_LAYER } mlxr_norm_kind;

enum { MLXR_DECODER_REGS = 64 };

/* What a family takes for absent fields; 0: the field is required (kv heads: as many as heads, head_dim: hidden_size /
 * heads, context: 2048, eps: required). */
typedef struct mlxr_decoder_defaults {
    int64_t hidden_size, n_layers, n_heads, n_kv_heads, head_dim, intermediate_size, vocab_size,
        context_length;
    double eps, rope_theta;      /* rope_theta 0: 10000 */
    bool tied, parameters_first; /* parameters_first: rope_parameters' theta goes before one beside it */
} mlxr_decoder_defaults;

typedef struct mlxr_decoder {
    const mlxr_config *config;
    const json_t *fields; /* config.json, or the object in it that is the text model's */
    mlxr_decoder_defaults defaults;
    mlxr_builder *b;
    mlxr_error err; /* the first failure */
    int32_t layer;  /* the one being built; -1 outside */

    /* Set by mlxr_decoder_begin, where a family may change them before it builds. */
    const char *model; /* before "layers.N." and "embed_tokens": "model." */
    const char *head;  /* module of the logits; NULL: the embedding table is used again */
    /* The same as the checkpoint has them: others than `model` and `head` only with mlx_layout, and then for looking. */
    const char *found_model, *found_head;
    mlxr_norm_kind norm;
    float eps, norm_offset; /* of every norm; see RMS_NORM */
    bool norm_bias;         /* LAYER_NORM with ".bias" */
    size_t hidden_size, vocab_size, n_layers, context_length;

    mlxr_weight_id table; /* of embed_tokens */
    mlxr_arena arena;
    struct {
        const char *name;
        size_t width;
        mlxr_reg_id id;
    } regs[MLXR_DECODER_REGS];
    size_t n_regs;
} mlxr_decoder;

/* Starts reading. text: the key of the text model's object, or NULL for config.json itself; an absent object is
 * config.json itself too. Reads hidden_size, num_hidden_layers, vocab_size and max_position_embeddings, and finds where
 * the checkpoint has the text model: `model` and `head` are "language_model.model.", "model.language_model." or
 * "model." and the like. */
void mlxr_decoder_begin(mlxr_decoder *d, const mlxr_config *config, const char *text,
                        const mlxr_decoder_defaults *defaults);
/* *out is the caller's. Frees what d holds, also after a failure. */
mlxr_status mlxr_decoder_finish(mlxr_program **out, mlxr_decoder *d, mlxr_reg_id logits, mlxr_error *err);
bool mlxr_decoder_failed(const mlxr_decoder *d);
/* Remembers a failure; the message gets config.json's path before it. */
void mlxr_decoder_fail(mlxr_decoder *d, mlxr_status st, const char *fmt, ...) MLXR_PRINTF(3, 4);

/* ---- fields of config.json ---- */

#define MLXR_REQUIRED INT64_MIN
/* Absent: fallback; MLXR_REQUIRED (NAN for reals) makes that a failure. After a failure the least value allowed. */
int64_t mlxr_field_int(mlxr_decoder *d, const char *key, int64_t fallback, int64_t min, int64_t max);
size_t mlxr_field_size(mlxr_decoder *d, const char *key, int64_t fallback, int64_t min, int64_t max);
double mlxr_field_real(mlxr_decoder *d, const char *key, double fallback, double min, double max);
bool mlxr_field_bool(mlxr_decoder *d, const char *key, bool fallback);
const char *mlxr_field_str(mlxr_decoder *d, const char *key,
                           const char *fallback); /* never NULL unless fallback is */
/* One name a layer, or NULL when the field is absent. Fails unless all are among `known`, NULL-terminated. */
const json_t *mlxr_field_layer_types(mlxr_decoder *d, const char *key, const char *const *known);
bool mlxr_layer_is(const json_t *layer_types, size_t layer, const char *type);
/* A list of layers' numbers, each of them marked; false, with none marked, when the field is absent. */
bool mlxr_field_layers(mlxr_decoder *d, const char *key, bool listed[MLXR_MAX_LAYERS]);
/* The same as a real number; null: 0, for none. */
double mlxr_field_softcap(mlxr_decoder *d, const char *key, double fallback);
/* How many values of a head are rotated, by "partial_rotary_factor" of rope_parameters or beside it. */
size_t mlxr_field_rotated(mlxr_decoder *d, size_t head_dim, double fallback);
/* hidden_act by its names in transformers; another is refused by name. */
mlxr_act mlxr_field_act(mlxr_decoder *d, const char *key, const char *fallback);
/* head_dim, or hidden_size / n_heads when absent. */
size_t mlxr_field_head_dim(mlxr_decoder *d, size_t n_heads);
/* num_attention_heads and num_key_value_heads (null or absent: the same, unless the family has a default), which must
 * divide it. */
void mlxr_field_heads(mlxr_decoder *d, size_t *n_heads, size_t *n_kv_heads);
/* Whether the checkpoint has the tensor; false without a checkpoint. */
bool mlxr_decoder_has(const mlxr_decoder *d, const char *fmt, ...) MLXR_PRINTF(2, 3);

/* A rotary embedding, owned by the program. layer_type as for mlxr_rope_scaling_of. */
typedef struct mlxr_decoder_rope {
    mlxr_rope rope; /* inv_freq is the program's */
    mlxr_rope_pairing pairing;
} mlxr_decoder_rope;
void mlxr_decoder_rope_init(mlxr_decoder *d, mlxr_decoder_rope *out, const mlxr_rope_source *src);
/* The same with the scaling, the theta (source's when absent) and the pairing that config.json has. */
void mlxr_decoder_rope_from(mlxr_decoder *d, mlxr_decoder_rope *out, const mlxr_rope_source *src,
                            const char *layer_type);
/* The usual way: rope_theta and rope_scaling or rope_parameters, "rope_traditional", the first n_rot of a head. */
void mlxr_decoder_rope_read(mlxr_decoder *d, mlxr_decoder_rope *out, size_t n_rot, const char *layer_type);

/* ---- operations ---- */

/* A register by name; one of another width under the same name is another register. */
mlxr_reg_id mlxr_decoder_reg(mlxr_decoder *d, const char *name, size_t width);
size_t mlxr_decoder_width(const mlxr_decoder *d, mlxr_reg_id r);
/* Adds an operation of the layer at hand. */
void mlxr_decoder_op(mlxr_decoder *d, mlxr_op op);
mlxr_op mlxr_decoder_op_init(const mlxr_decoder *d, mlxr_op_kind kind, mlxr_reg_id dst, mlxr_reg_id a);
/* The weight of a layer's module, or of the model's outside the layers. */
mlxr_weight_id mlxr_decoder_vector(mlxr_decoder *d, size_t n, const char *suffix, const char *part);
mlxr_weight_id mlxr_decoder_matrix(mlxr_decoder *d, size_t n_rows, size_t n_cols, const char *part);

void mlxr_decoder_embed(mlxr_decoder *d, mlxr_reg_id dst, const char *part, size_t n_rows, float scale);
void mlxr_decoder_linear(mlxr_decoder *d, mlxr_reg_id dst, mlxr_reg_id a, bool bias, const char *part);
/* Over each run of `width` values; 0: the whole row. part NULL: an RMS norm without a weight. */
void mlxr_decoder_norm(mlxr_decoder *d, mlxr_reg_id dst, mlxr_reg_id a, size_t width, const char *part);
/* The same with weights of its own for each run. */
void mlxr_decoder_norm_by_run(mlxr_decoder *d, mlxr_reg_id dst, mlxr_reg_id a, size_t width,
                              const char *part);
void mlxr_decoder_rotate(mlxr_decoder *d, mlxr_reg_id a, size_t n_heads, size_t head_dim,
                         const mlxr_decoder_rope *rope);
void mlxr_decoder_add(mlxr_decoder *d, mlxr_reg_id dst, mlxr_reg_id a, mlxr_reg_id b);
void mlxr_decoder_act_mul(mlxr_decoder *d, mlxr_reg_id dst, mlxr_act act, mlxr_reg_id a, mlxr_reg_id b);
void mlxr_decoder_scale(mlxr_decoder *d, mlxr_reg_id dst, mlxr_reg_id a,
                        double factor); /* nothing when 1 in place */
void mlxr_decoder_softcap(mlxr_decoder *d, mlxr_reg_id dst, mlxr_reg_id a, double cap); /* nothing when 0 */
void mlxr_decoder_slice(mlxr_decoder *d, mlxr_reg_id dst, mlxr_reg_id a, size_t first, size_t run,
                        size_t step);
/* The final norm, module `norm` of the model, then logits by the head. Returns their register. */
mlxr_reg_id mlxr_decoder_logits(mlxr_decoder *d, mlxr_reg_id h, const char *norm);

/* ---- blocks: r = block(x), both [T, D] ---- */

typedef struct mlxr_attention {
    size_t n_heads, n_kv_heads, head_dim;
    const char *q, *k, *v, *o; /* NULL: "self_attn.q_proj" and so on */
    const char *qkv;           /* one module with the rows of q, k and v; NULL: three */
    bool qkv_bias, o_bias;
    const char *q_norm, *k_norm; /* over each head; NULL: none */
    bool norms_by_head;          /* each head has weights of its own */
    bool v_norm;                 /* over each head, without a weight */
    bool k_is_v;                 /* no v module: values are k before norm and rotation */
    bool gated; /* q's module gives a head's query, then its gate: attend(q) * sigmoid(gate) */
    const mlxr_decoder_rope *rope; /* NULL: none */
    size_t window;                 /* 0: all positions */
    double scale, softcap;         /* scale 0: 1 / sqrt(head_dim) */
    const char *sinks;             /* module of the sinks' tensor; NULL: none */
    double position_beta;
    size_t position_span;
    bool looks_at; /* no keys and values of its own: those of slot */
    mlxr_slot_id slot;
} mlxr_attention;
/* Returns the slot, for layers that share it. */
mlxr_slot_id mlxr_decoder_attention(mlxr_decoder *d, mlxr_reg_id r, mlxr_reg_id x, const mlxr_attention *a);

typedef struct mlxr_mlp {
    size_t width;
    mlxr_act act;
    bool bias;
    const char *gate, *up, *down; /* NULL: "mlp.gate_proj" and so on */
    const char *gate_up;          /* one module with gate's rows, then up's; NULL: two */
    bool plain;                   /* no gate: down(act(up x)) */
} mlxr_mlp;
void mlxr_decoder_mlp(mlxr_decoder *d, mlxr_reg_id r, mlxr_reg_id x, const mlxr_mlp *m);

typedef struct mlxr_moe {
    size_t n_experts, k, width;
    mlxr_router router;
    bool normalize;
    mlxr_act act;
    float alpha, limit;
    const char *gate; /* the router's module */
    bool gate_bias;
    const char *expert_scale; /* tensor that multiplies an expert's weight; NULL: none */
    /* Where the experts lie, the first that the checkpoint has: `stacks`.gate_proj, .up_proj, .down_proj as mlx-lm writes
     * them; `fused`.gate_up_proj and .down_proj, one tensor each; `each` with {expert} in it, whose three modules are
     * each_names (gate, up, down). NULL: not of this family. */
    const char *stacks, *fused, *each, *const *each_names;
    bool fused_interleaved; /* gate and up are fused's even and odd rows, not its halves */
    bool bias;
    /* An mlp that every token goes through, its result times sigmoid(shared_gate x); NULL: none. */
    const struct mlxr_mlp *shared;
    const char *shared_gate;
} mlxr_moe;
/* route: [T, 2k] */
mlxr_reg_id mlxr_decoder_route(mlxr_decoder *d, mlxr_reg_id x, const mlxr_moe *m);
void mlxr_decoder_experts(mlxr_decoder *d, mlxr_reg_id r, mlxr_reg_id x, mlxr_reg_id route,
                          const mlxr_moe *m);
/* Both, and the shared mlp. */
void mlxr_decoder_moe(mlxr_decoder *d, mlxr_reg_id r, mlxr_reg_id x, const mlxr_moe *m);

/* Gated delta net (arXiv 2412.06464), its modules under `part`: in_proj_qkv, in_proj_z, in_proj_a, in_proj_b, conv1d,
 * A_log, dt_bias, norm, out_proj. */
typedef struct mlxr_delta_net {
    const char *part;
    size_t n_k_heads, n_v_heads, k_head_dim, v_head_dim, kernel;
} mlxr_delta_net;
void mlxr_decoder_delta_net(mlxr_decoder *d, mlxr_reg_id r, mlxr_reg_id x, const mlxr_delta_net *m);

/* linear(C * conv(B * x)), B, C, x = linear(x); modules under `part`: in_proj, conv, out_proj. */
typedef struct mlxr_conv_mixer {
    const char *part;
    size_t kernel;
    bool bias;
} mlxr_conv_mixer;
void mlxr_decoder_conv_mixer(mlxr_decoder *d, mlxr_reg_id r, mlxr_reg_id x, const mlxr_conv_mixer *m);

/* ---- a layer: h += mixer(norm(h)), h += ffn(norm(h)) ---- */

/* One mixer and one feed-forward network; names of norms, NULL for the usual ones. */
typedef struct mlxr_layer {
    const mlxr_attention *attention;
    const mlxr_delta_net *delta_net;
    const mlxr_conv_mixer *conv_mixer;
    const mlxr_mlp *mlp;
    const mlxr_moe *moe;
    const char *mixer_norm, *ffn_norm;           /* NULL: "input_layernorm", "post_attention_layernorm" */
    const char *post_mixer_norm, *post_ffn_norm; /* of what is added; NULL: none */
    double residual_multiplier;                  /* of what is added; 0: 1 */
    bool parallel;                               /* one norm for both: h += mixer(x) + ffn(x) */
} mlxr_layer;
/* Returns the attention's slot, or MLXR_NONE. */
mlxr_slot_id mlxr_decoder_layer(mlxr_decoder *d, mlxr_reg_id h, const mlxr_layer *l);

/* ---- what most families have ---- */

/* Heads, head_dim, rms_norm_eps into d->eps, intermediate_size, hidden_act, tie_word_embeddings. */
void mlxr_decoder_usual_fields(mlxr_decoder *d, mlxr_attention *attention, mlxr_mlp *mlp);
/* tie_word_embeddings: drops d->head when the embedding table is used again. */
void mlxr_decoder_tie(mlxr_decoder *d);
/* The number of experts by its key, num_experts_per_tok, moe_intermediate_size, norm_topk_prob. */
void mlxr_decoder_moe_fields(mlxr_decoder *d, mlxr_moe *moe, const char *n_experts, bool default_normalize);
/* h = scale * embed_tokens[id] */
mlxr_reg_id mlxr_decoder_hidden(mlxr_decoder *d, float scale);
/* For each layer: d->layer from 0 on. */
#define MLXR_EACH_LAYER(d) for ((d)->layer = 0; (d)->layer < (int32_t)(d)->n_layers; (d)->layer++)
/* The window of a layer whose type is "sliding_attention", else 0. Fails where there is no sliding_window. */
size_t mlxr_decoder_window(mlxr_decoder *d, const json_t *layer_types);
extern const char *const mlxr_attention_types[]; /* "full_attention", "sliding_attention" */
/* Whether the tensor is of another modality, or of a head that predicts further tokens. */
bool mlxr_other_modality(const mlxr_config *config, const char *tensor_name);

#endif
