/* starcoder2: StarCoder 2. Layer norms and biases everywhere, a feed-forward network without a gate. Follows
 * starcoder2.py of mlx-lm, which has no window either. */
#include "model/families/families.h"

mlxr_status mlxr_starcoder2_build(mlxr_program **out, const mlxr_config *config, mlxr_error *err)
{
    static const mlxr_decoder_defaults defaults = {
        .vocab_size = 49152, .context_length = 4096, .eps = 1e-5, .rope_theta = 100000, .tied = true};
    mlxr_decoder d;
    mlxr_decoder_rope rope;
    mlxr_attention attention = {.rope = &rope, .qkv_bias = true, .o_bias = true};
    mlxr_mlp mlp = {.plain = true, .bias = true, .up = "mlp.c_fc", .down = "mlp.c_proj"};
    mlxr_layer layer = {.attention = &attention, .mlp = &mlp};
    mlxr_reg_id h;

    mlxr_decoder_begin(&d, config, NULL, &defaults);
    mlxr_decoder_usual_fields(&d, &attention, &mlp);
    mlp.act = MLXR_ACT_GELU; /* config.json says gelu_pytorch_tanh; mlx-lm takes the exact one */
    d.norm = MLXR_NORM_LAYER;
    d.norm_bias = true;
    d.eps = (float)mlxr_field_real(&d, "norm_epsilon", 1e-5, 0, 1);
    mlxr_decoder_rope_read(&d, &rope, attention.head_dim, NULL);

    h = mlxr_decoder_hidden(&d, 1);
    MLXR_EACH_LAYER(&d) mlxr_decoder_layer(&d, h, &layer);
    return mlxr_decoder_finish(out, &d, mlxr_decoder_logits(&d, h, "norm"), err);
}
