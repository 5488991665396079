/* lfm2: Liquid's LFM 2. Most layers mix by a short convolution between two gates, some by attention with a norm over
 * each head of q and k. Follows lfm2.py of mlx-lm. */
#include "model/families/families.h"

/* block_ff_dim, made smaller and rounded up where config.json says so. */
static size_t ff_dim(mlxr_decoder *d)
{
    int64_t given = mlxr_field_int(d, "intermediate_size", 0, 1, MLXR_MAX_DIM);
    int64_t ff = mlxr_field_int(d, "block_ff_dim", given ? given : MLXR_REQUIRED, 1, MLXR_MAX_DIM);
    int64_t multiple = mlxr_field_int(d, "block_multiple_of", 256, 1, MLXR_MAX_DIM);
    double multiplier = mlxr_field_real(d, "block_ffn_dim_multiplier", 1, 1e-3, 1e3);

    if (!mlxr_field_bool(d, "block_auto_adjust_ff_dim", true)) return (size_t)ff;
    ff = 2 * ff / 3;
    ff = (int64_t)(multiplier * (double)ff);
    ff = (ff + multiple - 1) / multiple * multiple;
    if (ff < 1 || ff > MLXR_MAX_DIM)
        mlxr_decoder_fail(d, MLXR_E_FORMAT, "\"block_ff_dim\" becomes %lld, wanted 1 to %d", (long long)ff,
                          (int)MLXR_MAX_DIM);
    return (size_t)ff;
}

mlxr_status mlxr_lfm2_build(mlxr_program **out, const mlxr_config *config, mlxr_error *err)
{
    static const char *const known[] = {"conv", "full_attention", NULL};
    static const mlxr_decoder_defaults defaults = {.rope_theta = 1e6, .tied = true, .parameters_first = true};
    mlxr_decoder d;
    mlxr_decoder_rope rope;
    mlxr_attention attention = {.rope = &rope,
                                .o = "self_attn.out_proj",
                                .q_norm = "self_attn.q_layernorm",
                                .k_norm = "self_attn.k_layernorm"};
    mlxr_conv_mixer conv = {.part = "conv"};
    mlxr_mlp mlp = {
        .gate = "feed_forward.w1", .up = "feed_forward.w3", .down = "feed_forward.w2", .act = MLXR_ACT_SILU};
    mlxr_layer layer = {.mlp = &mlp, .mixer_norm = "operator_norm", .ffn_norm = "ffn_norm"};
    bool attends[MLXR_MAX_LAYERS], are_listed;
    const json_t *types;
    mlxr_reg_id h;

    mlxr_decoder_begin(&d, config, NULL, &defaults);
    mlxr_field_heads(&d, &attention.n_heads, &attention.n_kv_heads);
    attention.head_dim = mlxr_field_head_dim(&d, attention.n_heads);
    d.eps = (float)mlxr_field_real(&d, "norm_eps", NAN, 0, 1);
    d.head = NULL;
    mlp.width = ff_dim(&d);
    conv.kernel = mlxr_field_size(&d, "conv_L_cache", MLXR_REQUIRED, 2, 64);
    conv.bias = mlxr_field_bool(&d, "conv_bias", false);
    mlxr_decoder_rope_read(&d, &rope, attention.head_dim, NULL);
    are_listed = mlxr_field_layers(&d, "full_attn_idxs", attends); /* before layer_types */
    types = mlxr_field_layer_types(&d, "layer_types", known);
    if (!are_listed && !types)
        mlxr_decoder_fail(&d, MLXR_E_FORMAT, "neither \"full_attn_idxs\" nor \"layer_types\"");

    h = mlxr_decoder_hidden(&d, 1);
    MLXR_EACH_LAYER(&d)
    {
        bool full = are_listed ? attends[d.layer] : mlxr_layer_is(types, (size_t)d.layer, "full_attention");
        layer.attention = full ? &attention : NULL;
        layer.conv_mixer = full ? NULL : &conv;
        mlxr_decoder_layer(&d, h, &layer);
    }
    return mlxr_decoder_finish(out, &d, mlxr_decoder_logits(&d, h, "embedding_norm"), err);
}
