/* granite: IBM's Granite 3. llama with four multipliers: of the embeddings, the scores, what a layer adds, and (divided
 * by) the logits. Follows granite.py of mlx-lm. */
#include "model/families/families.h"

mlxr_status mlxr_granite_build(mlxr_program **out, const mlxr_config *config, mlxr_error *err)
{
    static const mlxr_decoder_defaults defaults = {.tied = true};
    mlxr_decoder d;
    mlxr_decoder_rope rope;
    mlxr_attention attention = {.rope = &rope};
    mlxr_mlp mlp = {0};
    mlxr_layer layer = {.attention = &attention, .mlp = &mlp};
    double embedding, scaling;
    mlxr_reg_id h, logits;

    mlxr_decoder_begin(&d, config, NULL, &defaults);
    mlxr_decoder_usual_fields(&d, &attention, &mlp);
    attention.qkv_bias = attention.o_bias = mlxr_field_bool(&d, "attention_bias", false);
    attention.scale = mlxr_field_real(&d, "attention_multiplier", NAN, 1e-9, 1e6);
    mlp.bias = mlxr_field_bool(&d, "mlp_bias", false);
    layer.residual_multiplier = mlxr_field_real(&d, "residual_multiplier", NAN, 1e-9, 1e6);
    embedding = mlxr_field_real(&d, "embedding_multiplier", NAN, 1e-9, 1e6);
    scaling = mlxr_field_real(&d, "logits_scaling", NAN, 1e-9, 1e6);
    mlxr_decoder_rope_read(&d, &rope, attention.head_dim, NULL);

    h = mlxr_decoder_hidden(&d, (float)embedding);
    MLXR_EACH_LAYER(&d) mlxr_decoder_layer(&d, h, &layer);
    logits = mlxr_decoder_logits(&d, h, "norm");
    mlxr_decoder_scale(&d, logits, logits, 1 / scaling);
    return mlxr_decoder_finish(out, &d, logits, err);
}
