/* llama: Llama 1 to 3.3, Mistral, SmolLM 1 and 2, and all that borrow their shape.
 *
 * One layer, with h the residual stream [T, D]:
 *
 *     x = rms_norm(h)                 q [T, Hq Dh], k, v [T, Hkv Dh] = linear(x)
 *     q, k rotated by position        h += linear(attend(q, k, v))
 *     x = rms_norm(h)                 h += linear(silu(linear(x)) * linear(x))
 *
 * and at the end logits = linear(rms_norm(h)), by lm_head or, tied, by the embedding table. Follows llama.py
 * of mlx-lm, which is also where the defaults of absent fields come from. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/families/families.h"
#include "model/rope.h"

/* Bounds that no real model comes near; they keep a hostile config.json from asking for a giant program. */
enum { MAX_LAYERS = 1024, MAX_HEADS = 1 << 14, MAX_HEAD_DIM = 1 << 12 };
#define MAX_DIM     ((int64_t)1 << 20) /* hidden_size, intermediate_size */
#define MAX_VOCAB   ((int64_t)1 << 24)
#define MAX_CONTEXT ((int64_t)1 << 30)

typedef struct llama {
    mlxr_builder *b;
    int64_t hidden_size, num_hidden_layers, num_attention_heads, num_key_value_heads, head_dim;
    int64_t intermediate_size, vocab_size, max_position_embeddings, sliding_window;
    double rms_norm_eps;
    bool attention_bias, mlp_bias, tie_word_embeddings, rope_traditional;
    const json_t *layer_types; /* NULL: all layers see everything */
    const float *inv_freq;     /* [head_dim / 2], the program's */
    float rope_scale;
} llama;

/* ---- config.json ---- */

/* An integer field from 1 to max; required when *out is 0. */
static mlxr_status read_dim(int64_t *out, const mlxr_config *config, const char *key, int64_t max,
                            mlxr_error *err)
{
    mlxr_status st = mlxr_json_get_int(out, config->root, key, 1, max, config->what, err);
    if (st == MLXR_OK && *out == 0) st = mlxr_fail(err, MLXR_E_FORMAT, "%s: no \"%s\"", config->what, key);
    return st;
}

static mlxr_status read_heads(llama *m, const mlxr_config *config, mlxr_error *err)
{
    const char *what = config->what;
    mlxr_status st;

    if ((st = read_dim(&m->num_attention_heads, config, "num_attention_heads", MAX_HEADS, err)) != MLXR_OK)
        return st;
    m->num_key_value_heads = m->num_attention_heads;
    if ((st = read_dim(&m->num_key_value_heads, config, "num_key_value_heads", MAX_HEADS, err)) != MLXR_OK)
        return st;
    if (m->num_attention_heads % m->num_key_value_heads)
        return mlxr_fail(
            err, MLXR_E_FORMAT,
            "%s: \"num_attention_heads\" is %lld, wanted a multiple of num_key_value_heads (%lld)", what,
            (long long)m->num_attention_heads, (long long)m->num_key_value_heads);
    st = mlxr_json_get_int(&m->head_dim, config->root, "head_dim", 1, MAX_HEAD_DIM, what, err);
    if (st != MLXR_OK) return st;
    if (m->head_dim == 0) {
        if (m->hidden_size % m->num_attention_heads)
            return mlxr_fail(
                err, MLXR_E_FORMAT,
                "%s: \"hidden_size\" is %lld, wanted a multiple of num_attention_heads (%lld) when there "
                "is no head_dim",
                what, (long long)m->hidden_size, (long long)m->num_attention_heads);
        m->head_dim = m->hidden_size / m->num_attention_heads;
    }
    if (m->head_dim % 2 || m->head_dim > MAX_HEAD_DIM)
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: a head is %lld wide, wanted an even number up to %d", what,
                         (long long)m->head_dim, MAX_HEAD_DIM);
    return MLXR_OK;
}

static mlxr_status read_layer_types(llama *m, const mlxr_config *config, mlxr_error *err)
{
    const json_t *list = json_object_get(config->root, "layer_types");
    mlxr_status st;

    if (!list || json_is_null(list)) return MLXR_OK;
    if (!json_is_array(list) || json_array_size(list) != (size_t)m->num_hidden_layers)
        return mlxr_fail(err, MLXR_E_FORMAT,
                         "%s: \"layer_types\" is not a list of num_hidden_layers (%lld) names", config->what,
                         (long long)m->num_hidden_layers);
    st = mlxr_json_get_int(&m->sliding_window, config->root, "sliding_window", 1, MAX_CONTEXT, config->what,
                           err);
    if (st != MLXR_OK) return st;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *type = json_string_value(json_array_get(list, i));
        bool sliding = type && strcmp(type, "sliding_attention") == 0;
        if (!sliding && !(type && strcmp(type, "full_attention") == 0))
            return mlxr_fail(
                err, MLXR_E_UNSUPPORTED,
                "%s: \"layer_types\"[%zu] is \"%.64s\", wanted \"full_attention\" or \"sliding_attention\"",
                config->what, i, type ? type : "(not a string)");
        if (sliding && m->sliding_window == 0)
            return mlxr_fail(err, MLXR_E_FORMAT,
                             "%s: \"layer_types\" has sliding_attention, but there is no "
                             "\"sliding_window\"",
                             config->what);
    }
    m->layer_types = list;
    return MLXR_OK;
}

/* Fields that would change the arithmetic to what no llama here computes. */
static mlxr_status check_unsupported(const mlxr_config *config, mlxr_error *err)
{
    const char *act = "silu";
    double partial = 1;
    mlxr_status st = mlxr_json_get_str(&act, config->root, "hidden_act", config->what, err);

    if (st != MLXR_OK) return st;
    if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s: \"hidden_act\" is \"%.64s\", wanted \"silu\"",
                         config->what, act);
    st = mlxr_json_get_real(&partial, config->root, "partial_rotary_factor", 0, 1, config->what, err);
    if (st != MLXR_OK) return st;
    if (partial != 1)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s: \"partial_rotary_factor\" is %g, wanted 1",
                         config->what, partial);
    return MLXR_OK;
}

static mlxr_status read_config(llama *m, const mlxr_config *config, mlxr_error *err)
{
    const json_t *root = config->root;
    const char *what = config->what;
    mlxr_status st;

    m->max_position_embeddings = 2048; /* Hugging Face's default; mlx-lm has none */
    m->rms_norm_eps = NAN;
    m->tie_word_embeddings = true; /* as mlx-lm takes an absent field */
    if ((st = check_unsupported(config, err)) != MLXR_OK ||
        (st = read_dim(&m->hidden_size, config, "hidden_size", MAX_DIM, err)) != MLXR_OK ||
        (st = read_dim(&m->num_hidden_layers, config, "num_hidden_layers", MAX_LAYERS, err)) != MLXR_OK ||
        (st = read_dim(&m->intermediate_size, config, "intermediate_size", MAX_DIM, err)) != MLXR_OK ||
        (st = read_dim(&m->vocab_size, config, "vocab_size", MAX_VOCAB, err)) != MLXR_OK ||
        (st = read_dim(&m->max_position_embeddings, config, "max_position_embeddings", MAX_CONTEXT, err)) !=
            MLXR_OK ||
        (st = read_heads(m, config, err)) != MLXR_OK ||
        (st = mlxr_json_get_real(&m->rms_norm_eps, root, "rms_norm_eps", 0, 1, what, err)) != MLXR_OK ||
        (st = mlxr_json_get_bool(&m->attention_bias, root, "attention_bias", what, err)) != MLXR_OK ||
        (st = mlxr_json_get_bool(&m->mlp_bias, root, "mlp_bias", what, err)) != MLXR_OK ||
        (st = mlxr_json_get_bool(&m->tie_word_embeddings, root, "tie_word_embeddings", what, err)) !=
            MLXR_OK ||
        (st = mlxr_json_get_bool(&m->rope_traditional, root, "rope_traditional", what, err)) != MLXR_OK)
        return st;
    if (isnan(m->rms_norm_eps)) return mlxr_fail(err, MLXR_E_FORMAT, "%s: no \"rms_norm_eps\"", what);
    return read_layer_types(m, config, err);
}

static mlxr_status read_rope(mlxr_rope *out, const llama *m, const mlxr_config *config, mlxr_error *err)
{
    mlxr_rope_source src = {
        .dims = (size_t)m->head_dim, .theta = 10000, .max_position_embeddings = m->max_position_embeddings};
    mlxr_status st = mlxr_rope_scaling_of(&src.scaling, config->root, NULL, config->what, err);

    if (st != MLXR_OK) return st;
    st = mlxr_rope_theta_of(&src.theta, config->root, src.scaling, config->what, err);
    if (st != MLXR_OK) return st;
    st = mlxr_rope_init(out, &src, config->what, err);
    if (st == MLXR_OK && out->dynamic_context) { /* ROPE has one set of frequencies for all positions */
        mlxr_rope_clear(out);
        st = mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s: rope scaling \"dynamic\" is not supported in family %s",
                       config->what, config->model_type);
    }
    return st;
}

bool mlxr_llama_may_ignore(const mlxr_config *config, const char *tensor_name)
{
    bool tied = true;

    if (strstr(tensor_name, "rotary_emb.inv_freq")) return true;
    mlxr_json_get_bool(&tied, config->root, "tie_word_embeddings", config->what, NULL);
    return tied && strncmp(tensor_name, "lm_head.", strlen("lm_head.")) == 0;
}

/* ---- the program ---- */

/* dst[T, n_out] = a[T, n_in] weight^T (+ bias), by the layer's module `part`. */
static void linear(const llama *m, int32_t i_layer, mlxr_reg_id dst, mlxr_reg_id a, size_t n_out, size_t n_in,
                   bool bias, const char *part)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_LINEAR, i_layer);

    op.dst = dst;
    op.a = a;
    op.weight = mlxr_build_matrix(m->b, n_out, n_in, "model.layers.%d.%s", (int)i_layer, part);
    if (bias) op.bias = mlxr_build_vector(m->b, n_out, ".bias", "model.layers.%d.%s", (int)i_layer, part);
    mlxr_build_op(m->b, &op);
}

static void rms_norm(const llama *m, int32_t i_layer, mlxr_reg_id dst, mlxr_reg_id a, mlxr_weight_id weight)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_RMS_NORM, i_layer);

    op.dst = dst;
    op.a = a;
    op.weight = weight;
    op.u.norm.eps = (float)m->rms_norm_eps;
    op.u.norm.width = (size_t)m->hidden_size;
    mlxr_build_op(m->b, &op);
}

static void rope(const llama *m, int32_t i_layer, mlxr_reg_id a, int64_t n_heads)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_ROPE, i_layer);

    op.dst = op.a = a;
    op.u.rope.n_heads = (size_t)n_heads;
    op.u.rope.head_dim = op.u.rope.n_rot = (size_t)m->head_dim;
    op.u.rope.pairing = m->rope_traditional ? MLXR_ROPE_INTERLEAVED : MLXR_ROPE_HALF;
    op.u.rope.inv_freq = m->inv_freq;
    op.u.rope.scale = m->rope_scale;
    mlxr_build_op(m->b, &op);
}

static void binary(const llama *m, mlxr_op_kind kind, int32_t i_layer, mlxr_reg_id dst, mlxr_reg_id a,
                   mlxr_reg_id b)
{
    mlxr_op op = mlxr_op_init(kind, i_layer);

    op.dst = dst;
    op.a = a;
    op.b = b;
    if (kind == MLXR_OP_ACT_MUL) op.u.act.act = MLXR_ACT_SILU;
    mlxr_build_op(m->b, &op);
}

static void attend(const llama *m, int32_t i_layer, mlxr_reg_id dst, mlxr_reg_id q, mlxr_reg_id k,
                   mlxr_reg_id v)
{
    const char *type = json_string_value(json_array_get(m->layer_types, (size_t)i_layer));
    bool sliding = type && strcmp(type, "sliding_attention") == 0;
    mlxr_op op = mlxr_op_init(MLXR_OP_ATTEND, i_layer);
    char name[32];

    snprintf(name, sizeof name, "kv.%d", (int)i_layer);
    op.dst = dst;
    op.a = q;
    op.b = k;
    op.c = v;
    op.u.attend.slot = mlxr_build_slot(m->b, name, (size_t)m->num_key_value_heads, (size_t)m->head_dim,
                                       (size_t)m->head_dim, sliding ? (size_t)m->sliding_window : 0);
    op.u.attend.n_heads = (size_t)m->num_attention_heads;
    op.u.attend.scale = (float)(1 / sqrt((double)m->head_dim));
    mlxr_build_op(m->b, &op);
}

static void layer(const llama *m, int32_t i, mlxr_reg_id h)
{
    mlxr_builder *b = m->b;
    size_t D = (size_t)m->hidden_size, F = (size_t)m->intermediate_size;
    size_t q_width = (size_t)(m->num_attention_heads * m->head_dim);
    size_t kv_width = (size_t)(m->num_key_value_heads * m->head_dim);
    mlxr_reg_id x = mlxr_build_reg(b, "x", D), r = mlxr_build_reg(b, "r", D);
    mlxr_reg_id q = mlxr_build_reg(b, "q", q_width), a = mlxr_build_reg(b, "a", q_width);
    mlxr_reg_id k = mlxr_build_reg(b, "k", kv_width), v = mlxr_build_reg(b, "v", kv_width);
    mlxr_reg_id gate = mlxr_build_reg(b, "gate", F), up = mlxr_build_reg(b, "up", F);

    rms_norm(m, i, x, h, mlxr_build_vector(b, D, ".weight", "model.layers.%d.input_layernorm", (int)i));
    linear(m, i, q, x, q_width, D, m->attention_bias, "self_attn.q_proj");
    linear(m, i, k, x, kv_width, D, m->attention_bias, "self_attn.k_proj");
    linear(m, i, v, x, kv_width, D, m->attention_bias, "self_attn.v_proj");
    rope(m, i, q, m->num_attention_heads);
    rope(m, i, k, m->num_key_value_heads);
    attend(m, i, a, q, k, v);
    linear(m, i, r, a, D, q_width, m->attention_bias, "self_attn.o_proj");
    binary(m, MLXR_OP_ADD, i, h, h, r);

    rms_norm(m, i, x, h,
             mlxr_build_vector(b, D, ".weight", "model.layers.%d.post_attention_layernorm", (int)i));
    linear(m, i, gate, x, F, D, m->mlp_bias, "mlp.gate_proj");
    linear(m, i, up, x, F, D, m->mlp_bias, "mlp.up_proj");
    binary(m, MLXR_OP_ACT_MUL, i, gate, gate, up);
    linear(m, i, r, gate, D, F, m->mlp_bias, "mlp.down_proj");
    binary(m, MLXR_OP_ADD, i, h, h, r);
}

mlxr_status mlxr_llama_build(mlxr_program **out, const mlxr_config *config, mlxr_error *err)
{
    llama m = {0};
    mlxr_rope rotary = {0};
    mlxr_reg_id h, x, logits;
    mlxr_weight_id table;
    mlxr_op op;
    size_t D, V;
    mlxr_status st;

    *out = NULL;
    if ((st = read_config(&m, config, err)) != MLXR_OK) return st;
    if ((st = read_rope(&rotary, &m, config, err)) != MLXR_OK) return st;
    m.rope_scale = rotary.scale;
    if ((st = mlxr_builder_create(&m.b, config->model_type, err)) != MLXR_OK) goto done;
    m.inv_freq = mlxr_build_floats(m.b, rotary.inv_freq, rotary.n_rot / 2);

    D = (size_t)m.hidden_size;
    V = (size_t)m.vocab_size;
    h = mlxr_build_reg(m.b, "h", D);
    table = mlxr_build_matrix(m.b, V, D, "model.embed_tokens");
    op = mlxr_op_init(MLXR_OP_EMBED, -1);
    op.dst = h;
    op.weight = table;
    op.u.embed.scale = 1;
    mlxr_build_op(m.b, &op);
    for (int32_t i = 0; i < (int32_t)m.num_hidden_layers; i++) layer(&m, i, h);

    x = mlxr_build_reg(m.b, "x", D);
    logits = mlxr_build_reg(m.b, "logits", V);
    rms_norm(&m, -1, x, h, mlxr_build_vector(m.b, D, ".weight", "model.norm"));
    op = mlxr_op_init(MLXR_OP_LINEAR, -1);
    op.dst = logits;
    op.a = x;
    op.weight = m.tie_word_embeddings ? table : mlxr_build_matrix(m.b, V, D, "lm_head");
    mlxr_build_op(m.b, &op);
    st = mlxr_builder_finish(out, m.b, D, V, (size_t)m.num_hidden_layers, (size_t)m.max_position_embeddings,
                             logits, err);
done:
    mlxr_builder_free(m.b);
    mlxr_rope_clear(&rotary);
    return st;
}
