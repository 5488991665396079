/* cohere: Command R. Layer norms, both halves of a layer on the same norm of h, rotary pairs side by side, logits times
 * a constant. Follows cohere.py of mlx-lm. */
#include "model/families/families.h"

mlxr_status mlxr_cohere_build(mlxr_program **out, const mlxr_config *config, mlxr_error *err)
{
    static const mlxr_decoder_defaults defaults = {.hidden_size = 8192,
                                                   .n_layers = 40,
                                                   .n_heads = 64,
                                                   .intermediate_size = 22528,
                                                   .vocab_size = 256000,
                                                   .eps = 1e-5,
                                                   .rope_theta = 8e6,
                                                   .tied = true};
    mlxr_decoder d;
    mlxr_decoder_rope rope;
    mlxr_attention attention = {.rope = &rope};
    mlxr_mlp mlp = {0};
    mlxr_layer layer = {.attention = &attention, .mlp = &mlp, .parallel = true};
    mlxr_reg_id h, logits;

    mlxr_decoder_begin(&d, config, NULL, &defaults);
    mlxr_decoder_usual_fields(&d, &attention, &mlp);
    d.head = NULL;
    d.norm = MLXR_NORM_LAYER;
    d.eps = (float)mlxr_field_real(&d, "layer_norm_eps", 1e-5, 0, 1);
    d.norm_bias = mlxr_field_bool(&d, "layer_norm_bias", false);
    attention.qkv_bias = attention.o_bias = mlxr_field_bool(&d, "attention_bias", false);
    attention.norms_by_head = true;
    if (mlxr_field_bool(&d, "use_qk_norm", false)) {
        attention.q_norm = "self_attn.q_norm";
        attention.k_norm = "self_attn.k_norm";
    }
    mlxr_decoder_rope_read(&d, &rope, attention.head_dim, NULL);
    rope.pairing = MLXR_ROPE_INTERLEAVED;

    h = mlxr_decoder_hidden(&d, 1);
    MLXR_EACH_LAYER(&d) mlxr_decoder_layer(&d, h, &layer);
    logits = mlxr_decoder_logits(&d, h, "norm");
    mlxr_decoder_scale(&d, logits, logits, mlxr_field_real(&d, "logit_scale", 0.0625, 1e-9, 1e6));
    return mlxr_decoder_finish(out, &d, logits, err);
}
