/* gemma: Gemma 2 and 3, text. llama with norms of 1 + w before and after each half of a layer, windows in most layers,
 * embeddings times sqrt(D), gelu; Gemma 2 caps scores and logits, Gemma 3 norms each head of q and k and has a rotary
 * base of its own for the layers with windows. Follows gemma2.py, gemma3_text.py and gemma3.py of mlx-lm, but for Gemma
 * 2's windows, which mlx-lm leaves out: every even layer has one, as in Hugging Face's. */
#include "model/families/families.h"

/* What both have. */
static void begin(mlxr_decoder *d, const mlxr_config *config, const char *text,
                  const mlxr_decoder_defaults *defaults, mlxr_attention *attention, mlxr_mlp *mlp,
                  double default_scalar)
{
    mlxr_decoder_begin(d, config, text, defaults);
    mlxr_decoder_usual_fields(d, attention, mlp);
    d->norm_offset = 1;
    mlp->act = MLXR_ACT_GELU_TANH; /* whatever hidden_act says */
    attention->scale = 1 / sqrt(mlxr_field_real(d, "query_pre_attn_scalar", default_scalar, 1e-6, 1e6));
}

mlxr_status mlxr_gemma2_build(mlxr_program **out, const mlxr_config *config, mlxr_error *err)
{
    static const mlxr_decoder_defaults defaults = {.context_length = 8192};
    mlxr_decoder d;
    mlxr_decoder_rope rope;
    mlxr_attention attention = {.rope = &rope};
    mlxr_mlp mlp = {0};
    mlxr_layer layer = {.attention = &attention,
                        .mlp = &mlp,
                        .post_mixer_norm = "post_attention_layernorm",
                        .ffn_norm = "pre_feedforward_layernorm",
                        .post_ffn_norm = "post_feedforward_layernorm"};
    const json_t *types;
    size_t window = 0;
    mlxr_reg_id h, logits;

    begin(&d, config, NULL, &defaults, &attention, &mlp, 144);
    d.head = NULL;
    attention.softcap = mlxr_field_softcap(&d, "attn_logit_softcapping", 50);
    mlxr_decoder_rope_read(&d, &rope, attention.head_dim, NULL);
    types = mlxr_field_layer_types(&d, "layer_types", mlxr_attention_types);
    if (!json_is_null(json_object_get(config->root, "sliding_window")))
        window = mlxr_field_size(&d, "sliding_window", 4096, 1, MLXR_MAX_CONTEXT);

    h = mlxr_decoder_hidden(&d, (float)sqrt((double)d.hidden_size));
    MLXR_EACH_LAYER(&d)
    {
        bool sliding = types ? mlxr_layer_is(types, (size_t)d.layer, "sliding_attention") : d.layer % 2 == 0;
        attention.window = sliding ? window : 0;
        mlxr_decoder_layer(&d, h, &layer);
    }
    logits = mlxr_decoder_logits(&d, h, "norm");
    mlxr_decoder_softcap(&d, logits, logits, mlxr_field_softcap(&d, "final_logit_softcapping", 30));
    return mlxr_decoder_finish(out, &d, logits, err);
}

/* sqrt(x) as bfloat16 has it, which is what mlx-lm multiplies the embeddings by. */
static float bf16_sqrt(size_t x)
{
    uint16_t bits;

    mlxr_store_float(&bits, MLXR_BF16, 0, (float)sqrt((double)x));
    return mlxr_load_float(&bits, MLXR_BF16, 0);
}

/* Two rotary embeddings: of all positions, and of the layers with windows. */
static void gemma3_ropes(mlxr_decoder *d, mlxr_decoder_rope *global, mlxr_decoder_rope *local,
                         size_t head_dim)
{
    const json_t *parameters = json_object_get(d->fields, "rope_parameters");
    mlxr_rope_source source = {.dims = head_dim};

    mlxr_decoder_rope_read(d, global, head_dim, "full_attention");
    if (json_is_object(json_object_get(parameters, "sliding_attention"))) {
        d->defaults.rope_theta = 10000;
        mlxr_decoder_rope_read(d, local, head_dim, "sliding_attention");
    } else {
        source.theta = mlxr_field_real(d, "rope_local_base_freq", 10000, 1, 1e12);
        mlxr_decoder_rope_init(d, local, &source);
    }
}

mlxr_status mlxr_gemma3_build(mlxr_program **out, const mlxr_config *config, mlxr_error *err)
{
    bool wrapped = json_is_object(json_object_get(config->root, "text_config"));
    mlxr_decoder_defaults defaults = {.hidden_size = 1152,
                                      .n_layers = 26,
                                      .n_heads = wrapped ? 8 : 4,
                                      .n_kv_heads = wrapped ? 4 : 1,
                                      .head_dim = 256,
                                      .intermediate_size = 6912,
                                      .vocab_size = wrapped ? 262208 : 262144,
                                      .context_length = 32768,
                                      .eps = 1e-6,
                                      .rope_theta = 1e6};
    mlxr_decoder d;
    mlxr_decoder_rope global, local;
    mlxr_attention attention = {.q_norm = "self_attn.q_norm", .k_norm = "self_attn.k_norm"};
    mlxr_mlp mlp = {0};
    mlxr_layer layer = {.attention = &attention,
                        .mlp = &mlp,
                        .post_mixer_norm = "post_attention_layernorm",
                        .ffn_norm = "pre_feedforward_layernorm",
                        .post_ffn_norm = "post_feedforward_layernorm"};
    const json_t *types;
    int64_t pattern;
    size_t window;
    mlxr_reg_id h;
    mlxr_status st;

    /* The wrapper's vocab_size goes before the text model's. */
    st = mlxr_json_get_int(&defaults.vocab_size, config->root, "vocab_size", 1, MLXR_MAX_VOCAB, config->what,
                           err);
    if (st != MLXR_OK) {
        *out = NULL;
        return st;
    }
    begin(&d, config, "text_config", &defaults, &attention, &mlp, 256);
    if (wrapped && json_is_integer(json_object_get(config->root, "vocab_size")))
        d.vocab_size = (size_t)defaults.vocab_size;
    if (!mlxr_decoder_has(&d, "%s.weight", d.head ? d.found_head : "lm_head"))
        d.head = NULL; /* tied when absent */
    gemma3_ropes(&d, &global, &local, attention.head_dim);
    types = mlxr_field_layer_types(&d, "layer_types", mlxr_attention_types);
    pattern = mlxr_field_int(&d, "sliding_window_pattern", 0, 1, MLXR_MAX_LAYERS);
    window = mlxr_field_size(&d, "sliding_window", 512, 1, MLXR_MAX_CONTEXT);

    h = mlxr_decoder_hidden(&d, bf16_sqrt(d.hidden_size));
    MLXR_EACH_LAYER(&d)
    {
        bool sliding = pattern == 0 && types ? mlxr_layer_is(types, (size_t)d.layer, "sliding_attention")
                                             : (d.layer + 1) % (pattern ? pattern : 6) != 0;
        attention.window = sliding ? window : 0;
        attention.rope = sliding ? &local : &global;
        mlxr_decoder_layer(&d, h, &layer);
    }
    return mlxr_decoder_finish(out, &d, mlxr_decoder_logits(&d, h, "norm"), err);
}
