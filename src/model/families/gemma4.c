/* gemma4: Gemma 4, text. Gemma 3 with whole norm weights, and what its config.json turns on:
 *   - heads of another width, and their own number of keys, in the layers that see all positions; there keys may serve
 *     as values, and the rotation is "proportional";
 *   - the last layers look at keys and values of the last layer of their type before them, and have a feed-forward
 *     network of twice the width;
 *   - an input of its own for every layer, from a second embedding table;
 *   - experts beside the feed-forward network.
 * Follows gemma4_text.py and gemma4.py of mlx-lm. */
#include <stdlib.h>

#include "model/families/families.h"

typedef struct gemma4 {
    mlxr_decoder d;
    mlxr_attention attention;
    mlxr_mlp mlp;
    mlxr_moe moe;
    mlxr_decoder_rope ropes[2]; /* of layers with windows, of those without */
    size_t head_dims[2], n_kv_heads[2];
    mlxr_slot_id slots[2]; /* the last of each type */
    const json_t *types;
    int64_t pattern;
    size_t window, intermediate_size, n_shared, per_layer; /* per_layer: hidden_size_per_layer_input */
    bool k_eq_v, double_wide, has_experts;
    mlxr_reg_id h, inputs; /* inputs: [T, n_layers, per_layer] */
} gemma4;

/* ---- config.json ---- */

/* rope_parameters by layer type, or those mlx-lm takes when there are none. */
static void read_rope(gemma4 *m, size_t i, const char *type, double theta)
{
    mlxr_decoder *d = &m->d;
    const json_t *parameters = json_object_get(d->fields, "rope_parameters");
    mlxr_rope_source source = {
        .dims = m->head_dims[i], .theta = theta, .max_position_embeddings = (int64_t)d->context_length};
    json_t *none = NULL;

    if (parameters && !json_is_null(parameters)) {
        /* A type that is not there is the default kind with mlx-lm's theta. */
        if (json_is_object(parameters) && !json_object_get(parameters, type)) {
            source.theta = 10000;
            mlxr_decoder_rope_init(d, &m->ropes[i], &source);
        } else {
            source.theta = 10000;
            mlxr_decoder_rope_from(d, &m->ropes[i], &source, type);
        }
        return;
    }
    if (i == 1) {
        none = json_pack("{s:s, s:f}", "rope_type", "proportional", "partial_rotary_factor", 0.25);
        if (!none) mlxr_decoder_fail(d, MLXR_E_NOMEM, "out of memory");
        source.scaling = none;
    }
    mlxr_decoder_rope_init(d, &m->ropes[i], &source);
    json_decref(none);
}

static bool is_sliding(const gemma4 *m, size_t layer)
{
    return m->types ? mlxr_layer_is(m->types, layer, "sliding_attention")
                    : (layer + 1) % (size_t)m->pattern != 0;
}

/* "per_layer_config", in which transformers from 5 on writes global_head_dim and num_global_key_value_heads: an object
 * by layer, the same for every layer that sees all positions. mlx-lm does not read it. */
static void read_layer_config(gemma4 *m)
{
    mlxr_decoder *d = &m->d;
    const json_t *text = d->fields, *all = json_object_get(text, "per_layer_config"), *first = NULL;
    size_t n_full = 0;

    if (!all || json_is_null(all) || json_object_get(text, "global_head_dim") || mlxr_decoder_failed(d))
        return;
    for (size_t i = 0; i < d->n_layers; i++) n_full += !is_sliding(m, i);
    if (!json_is_object(all) || json_object_size(all) != n_full) {
        mlxr_decoder_fail(d, MLXR_E_UNSUPPORTED,
                          "\"per_layer_config\" is not an object with each of the %zu full_attention layers",
                          n_full);
        return;
    }
    for (void *it = json_object_iter((json_t *)all); it; it = json_object_iter_next((json_t *)all, it)) {
        const json_t *entry = json_object_iter_value(it);
        char *end;
        unsigned long layer = strtoul(json_object_iter_key(it), &end, 10);
        if (!first) first = entry;
        if (*end || layer >= d->n_layers || is_sliding(m, layer) || !json_equal(entry, first)) {
            mlxr_decoder_fail(
                d, MLXR_E_UNSUPPORTED,
                "\"per_layer_config\" of layer \"%.32s\": wanted full_attention layers, all alike",
                json_object_iter_key(it));
            return;
        }
    }
    if (!first) return;
    d->fields = first;
    m->head_dims[1] = mlxr_field_size(d, "head_dim", (int64_t)m->head_dims[0], 1, MLXR_MAX_HEAD_DIM);
    m->n_kv_heads[1] = mlxr_field_size(d, "num_key_value_heads", (int64_t)m->n_kv_heads[0], 1,
                                       (int64_t)m->attention.n_heads);
    d->fields = text;
}

static void read_config(gemma4 *m)
{
    mlxr_decoder *d = &m->d;

    mlxr_decoder_usual_fields(d, &m->attention, &m->mlp);
    m->mlp.act = m->moe.act = MLXR_ACT_GELU_TANH;
    m->intermediate_size = m->mlp.width;
    m->attention.scale = 1;
    m->attention.v_norm = true;
    m->attention.q_norm = "self_attn.q_norm";
    m->attention.k_norm = "self_attn.k_norm";
    m->head_dims[0] = m->attention.head_dim;
    if (!json_is_null(json_object_get(d->fields, "global_head_dim")))
        m->head_dims[1] = mlxr_field_size(d, "global_head_dim", 512, 0, MLXR_MAX_HEAD_DIM);
    if (m->head_dims[1] == 0) m->head_dims[1] = m->head_dims[0];
    m->k_eq_v = mlxr_field_bool(d, "attention_k_eq_v", false);
    m->n_kv_heads[0] = m->n_kv_heads[1] = m->attention.n_kv_heads;
    if (m->k_eq_v)
        m->n_kv_heads[1] = mlxr_field_size(d, "num_global_key_value_heads", (int64_t)m->n_kv_heads[0], 1,
                                           (int64_t)m->attention.n_heads);
    m->types = mlxr_field_layer_types(d, "layer_types", mlxr_attention_types);
    m->pattern = mlxr_field_int(d, "sliding_window_pattern", 5, 1, MLXR_MAX_LAYERS);
    read_layer_config(m);
    if (m->attention.n_heads % m->n_kv_heads[1])
        mlxr_decoder_fail(
            d, MLXR_E_FORMAT,
            "\"num_attention_heads\" is %zu, wanted a multiple of num_global_key_value_heads (%zu)",
            m->attention.n_heads, m->n_kv_heads[1]);
    if (m->head_dims[1] % 2)
        mlxr_decoder_fail(d, MLXR_E_FORMAT, "\"global_head_dim\" is %zu, wanted an even number",
                          m->head_dims[1]);
    m->window = mlxr_field_size(d, "sliding_window", 512, 1, MLXR_MAX_CONTEXT);
    m->n_shared = mlxr_field_size(d, "num_kv_shared_layers", 20, 0, (int64_t)d->n_layers - 1);
    m->double_wide = mlxr_field_bool(d, "use_double_wide_mlp", true);
    /* gemma4_unified has none, and does not say so. */
    m->per_layer = mlxr_field_size(
        d, "hidden_size_per_layer_input",
        d->config->checkpoint &&
                !mlxr_decoder_has(d, "%slayers.0.per_layer_input_gate.weight", d->found_model)
            ? 0
            : 256,
        0, MLXR_MAX_DIM);
    m->has_experts = mlxr_field_bool(d, "enable_moe_block", false);
    if (m->has_experts) {
        m->moe.n_experts = mlxr_field_size(d, "num_experts", MLXR_REQUIRED, 1, MLXR_MAX_N_EXPERTS);
        m->moe.k = mlxr_field_size(d, "top_k_experts", MLXR_REQUIRED, 1, (int64_t)m->moe.n_experts);
        m->moe.width = mlxr_field_size(d, "moe_intermediate_size", MLXR_REQUIRED, 1, MLXR_MAX_DIM);
    }
    read_rope(m, 0, "sliding_attention", 10000);
    read_rope(m, 1, "full_attention", 1000000);
    if (mlxr_field_bool(d, "rope_traditional", false))
        m->ropes[0].pairing = m->ropes[1].pairing = MLXR_ROPE_INTERLEAVED;
}

/* ---- the inputs of layers ---- */

/* inputs = (norm(linear(h) / sqrt(D)) + sqrt(P) table[id]) / sqrt(2), for each layer P values */
static void layer_inputs(gemma4 *m)
{
    mlxr_decoder *d = &m->d;
    size_t P = m->per_layer, width, n_rows;
    mlxr_reg_id projected;

    if (P == 0 || mlxr_decoder_failed(d)) return;
    n_rows = mlxr_field_size(d, "vocab_size_per_layer_input", 262144, 1, MLXR_MAX_VOCAB);
    if (n_rows < d->vocab_size)
        mlxr_decoder_fail(d, MLXR_E_UNSUPPORTED,
                          "\"vocab_size_per_layer_input\" is %zu, wanted vocab_size (%zu)", n_rows,
                          d->vocab_size);
    width = d->n_layers * P;
    m->inputs = mlxr_decoder_reg(d, "inputs", width);
    projected = mlxr_decoder_reg(d, "projected", width);
    mlxr_decoder_embed(d, m->inputs, "embed_tokens_per_layer", n_rows, (float)sqrt((double)P));
    mlxr_decoder_linear(d, projected, m->h, false, "per_layer_model_projection");
    mlxr_decoder_scale(d, projected, projected, 1 / sqrt((double)d->hidden_size));
    mlxr_decoder_norm(d, projected, projected, P, "per_layer_projection_norm");
    mlxr_decoder_add(d, m->inputs, projected, m->inputs);
    mlxr_decoder_scale(d, m->inputs, m->inputs, sqrt(0.5));
}

/* h += norm(linear(gelu(linear(h)) * input of the layer)) */
static void add_layer_input(gemma4 *m)
{
    mlxr_decoder *d = &m->d;
    mlxr_reg_id gate, input, r = mlxr_decoder_reg(d, "r", d->hidden_size);

    if (m->per_layer == 0) return;
    gate = mlxr_decoder_reg(d, "input_gate", m->per_layer);
    input = mlxr_decoder_reg(d, "input", m->per_layer);
    mlxr_decoder_linear(d, gate, m->h, false, "per_layer_input_gate");
    mlxr_decoder_slice(d, input, m->inputs, (size_t)d->layer * m->per_layer, m->per_layer, 0);
    mlxr_decoder_act_mul(d, gate, MLXR_ACT_GELU_TANH, gate, input);
    mlxr_decoder_linear(d, r, gate, false, "per_layer_projection");
    mlxr_decoder_norm(d, r, r, 0, "post_per_layer_input_norm");
    mlxr_decoder_add(d, m->h, m->h, r);
}

/* ---- a layer ---- */

static void attention(gemma4 *m, mlxr_reg_id r, mlxr_reg_id x)
{
    mlxr_decoder *d = &m->d;
    bool sliding = is_sliding(m, (size_t)d->layer);
    bool shares = (size_t)d->layer >= d->n_layers - m->n_shared;
    mlxr_attention a = m->attention;
    mlxr_slot_id *slot = &m->slots[!sliding];

    a.head_dim = m->head_dims[!sliding];
    a.n_kv_heads = m->n_kv_heads[!sliding];
    a.rope = &m->ropes[!sliding];
    a.window = sliding ? m->window : 0;
    a.k_is_v = m->k_eq_v && !sliding;
    a.looks_at = shares;
    a.slot = *slot;
    if (shares && *slot == MLXR_NONE)
        mlxr_decoder_fail(d, MLXR_E_FORMAT,
                          "layer %d shares keys and values, but no layer of its type before it has any",
                          (int)d->layer);
    *slot = mlxr_decoder_attention(d, r, x, &a);
}

/* The router's own norm: over h, with a weight of the tensor's plain name, then / sqrt(D). */
static mlxr_reg_id route(gemma4 *m)
{
    mlxr_decoder *d = &m->d;
    mlxr_reg_id x = mlxr_decoder_reg(d, "router_x", d->hidden_size);
    mlxr_op op = mlxr_decoder_op_init(d, MLXR_OP_RMS_NORM, x, m->h);

    op.weight = mlxr_decoder_vector(d, d->hidden_size, "", "router.scale");
    op.u.norm.width = d->hidden_size;
    op.u.norm.eps = d->eps;
    mlxr_decoder_op(d, op);
    mlxr_decoder_scale(d, x, x, 1 / sqrt((double)d->hidden_size));
    return mlxr_decoder_route(d, x, &m->moe);
}

static void feed_forward(gemma4 *m, mlxr_reg_id r, mlxr_reg_id x)
{
    mlxr_decoder *d = &m->d;
    bool shares = m->n_shared > 0 && (size_t)d->layer >= d->n_layers - m->n_shared;
    mlxr_reg_id r2 = mlxr_decoder_reg(d, "r2", d->hidden_size);

    m->mlp.width = m->intermediate_size * (m->double_wide && shares ? 2 : 1);
    mlxr_decoder_norm(d, x, m->h, 0, "pre_feedforward_layernorm");
    mlxr_decoder_mlp(d, r, x, &m->mlp);
    if (m->has_experts) {
        mlxr_decoder_norm(d, r, r, 0, "post_feedforward_layernorm_1");
        mlxr_decoder_norm(d, x, m->h, 0, "pre_feedforward_layernorm_2");
        mlxr_decoder_experts(d, r2, x, route(m), &m->moe);
        mlxr_decoder_norm(d, r2, r2, 0, "post_feedforward_layernorm_2");
        mlxr_decoder_add(d, r, r, r2);
    }
    mlxr_decoder_norm(d, r, r, 0, "post_feedforward_layernorm");
    mlxr_decoder_add(d, m->h, m->h, r);
}

static void layer(gemma4 *m)
{
    mlxr_decoder *d = &m->d;
    mlxr_reg_id x = mlxr_decoder_reg(d, "x", d->hidden_size), r = mlxr_decoder_reg(d, "r", d->hidden_size);
    mlxr_op op;

    mlxr_decoder_norm(d, x, m->h, 0, "input_layernorm");
    attention(m, r, x);
    mlxr_decoder_norm(d, r, r, 0, "post_attention_layernorm");
    mlxr_decoder_add(d, m->h, m->h, r);
    feed_forward(m, r, x);
    add_layer_input(m);
    op = mlxr_decoder_op_init(d, MLXR_OP_SCALE, m->h, m->h);
    op.weight = mlxr_decoder_vector(d, 1, "", "layer_scalar");
    mlxr_decoder_op(d, op);
}

mlxr_status mlxr_gemma4_build(mlxr_program **out, const mlxr_config *config, mlxr_error *err)
{
    bool wrapped = json_is_object(json_object_get(config->root, "text_config"));
    mlxr_decoder_defaults defaults = {.hidden_size = 1536,
                                      .n_layers = 35,
                                      .n_heads = 8,
                                      .n_kv_heads = 1,
                                      .head_dim = 256,
                                      .intermediate_size = 6144,
                                      .vocab_size = 262144,
                                      .context_length = 131072,
                                      .eps = 1e-6,
                                      .tied = true};
    gemma4 m = {.slots = {MLXR_NONE, MLXR_NONE},
                .moe = {.gate = "router.proj",
                        .router = MLXR_ROUTER_TOPK_SOFTMAX,
                        .expert_scale = "router.per_expert_scale",
                        .stacks = "experts.switch_glu",
                        .fused = "experts"}};
    mlxr_decoder *d = &m.d;
    mlxr_reg_id logits;
    mlxr_status st;

    *out = NULL;
    st = mlxr_json_get_int(&defaults.vocab_size, config->root, "vocab_size", 1, MLXR_MAX_VOCAB, config->what,
                           err);
    if (st != MLXR_OK) return st;
    mlxr_decoder_begin(d, config, "text_config", &defaults);
    if (wrapped && json_is_integer(json_object_get(config->root, "vocab_size")))
        d->vocab_size = (size_t)defaults.vocab_size;
    read_config(&m);
    m.h = mlxr_decoder_hidden(d, (float)sqrt((double)d->hidden_size));
    layer_inputs(&m);
    MLXR_EACH_LAYER(d) layer(&m);
    logits = mlxr_decoder_logits(d, m.h, "norm");
    mlxr_decoder_softcap(d, logits, logits, mlxr_field_softcap(d, "final_logit_softcapping", 30));
    return mlxr_decoder_finish(out, d, logits, err);
}

/* Projections of layers that share keys and values, and the ranges of a quantized run. */
bool mlxr_gemma4_may_ignore(const mlxr_config *config, const char *tensor_name)
{
    static const char *const parts[] = {"input_max",        "input_min",         "output_max",
                                        "output_min",       "self_attn.k_proj.", "self_attn.v_proj.",
                                        "self_attn.k_norm."};

    for (size_t i = 0; i < MLXR_COUNT(parts); i++)
        if (strstr(tensor_name, parts[i])) return true;
    return mlxr_other_modality(config, tensor_name);
}
