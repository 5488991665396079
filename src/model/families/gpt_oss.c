/* gpt_oss: OpenAI's gpt-oss. Every second layer has a window, heads have sinks, all linears biases, and the
 * feed-forward network is experts with a clamped swiglu. Follows gpt_oss.py of mlx-lm; experts lie as mlx-lm writes them,
 * or in the original's mxfp4 blocks with gate and up interleaved. */
#include "model/families/families.h"

mlxr_status mlxr_gpt_oss_build(mlxr_program **out, const mlxr_config *config, mlxr_error *err)
{
    static const mlxr_decoder_defaults defaults = {.hidden_size = 2880,
                                                   .n_layers = 36,
                                                   .n_heads = 64,
                                                   .n_kv_heads = 8,
                                                   .head_dim = 64,
                                                   .intermediate_size = 2880,
                                                   .vocab_size = 201088,
                                                   .context_length = 131072,
                                                   .eps = 1e-5,
                                                   .rope_theta = 150000};
    mlxr_decoder d;
    mlxr_decoder_rope rope;
    mlxr_attention attention = {.rope = &rope, .qkv_bias = true, .o_bias = true, .sinks = "self_attn.sinks"};
    mlxr_mlp mlp = {0};
    mlxr_moe moe = {.gate = "mlp.router",
                    .gate_bias = true,
                    .router = MLXR_ROUTER_TOPK_SOFTMAX,
                    .act = MLXR_ACT_SWIGLU_OAI,
                    .stacks = "mlp.experts",
                    .fused = "mlp.experts",
                    .fused_interleaved = true,
                    .bias = true};
    mlxr_layer layer = {.attention = &attention, .moe = &moe};
    const json_t *types;
    size_t window;
    mlxr_reg_id h;

    mlxr_decoder_begin(&d, config, NULL, &defaults);
    mlxr_decoder_usual_fields(&d, &attention, &mlp);
    mlxr_decoder_rope_read(&d, &rope, attention.head_dim, NULL);
    moe.n_experts = mlxr_field_size(&d, "num_local_experts", 128, 1, MLXR_MAX_N_EXPERTS);
    moe.k = mlxr_field_size(&d, "num_experts_per_tok", 4, 1, (int64_t)moe.n_experts);
    moe.width = mlp.width;
    moe.alpha = (float)mlxr_field_real(&d, "swiglu_alpha", 1.702, 0, 1e6);
    moe.limit = (float)mlxr_field_real(&d, "swiglu_limit", 7, 0, 1e6);
    types = mlxr_field_layer_types(&d, "layer_types", mlxr_attention_types);
    window = mlxr_field_size(&d, "sliding_window", 128, 1, MLXR_MAX_CONTEXT);

    h = mlxr_decoder_hidden(&d, 1);
    MLXR_EACH_LAYER(&d)
    {
        bool sliding = types ? mlxr_layer_is(types, (size_t)d.layer, "sliding_attention") : d.layer % 2 == 0;
        attention.window = sliding ? window : 0;
        mlxr_decoder_layer(&d, h, &layer);
    }
    return mlxr_decoder_finish(out, &d, mlxr_decoder_logits(&d, h, "norm"), err);
}
