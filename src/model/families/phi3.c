/* phi3: Phi 3, 3.5 and 4 mini. llama with q, k and v in one matrix, gate and up in another, longrope, and heads that are
 * rotated in part. Follows phi3.py of mlx-lm. */
#include "model/families/families.h"

mlxr_status mlxr_phi3_build(mlxr_program **out, const mlxr_config *config, mlxr_error *err)
{
    static const mlxr_decoder_defaults defaults = {.context_length = 131072};
    mlxr_decoder d;
    mlxr_decoder_rope rope = {0};
    mlxr_attention attention = {.rope = &rope, .qkv = "self_attn.qkv_proj"};
    mlxr_mlp mlp = {.gate_up = "mlp.gate_up_proj"};
    mlxr_layer layer = {.attention = &attention, .mlp = &mlp};
    mlxr_rope_source source = {.theta = 10000};
    const json_t *original;
    mlxr_reg_id h;

    mlxr_decoder_begin(&d, config, NULL, &defaults);
    mlxr_decoder_usual_fields(&d, &attention, &mlp);
    source.dims = mlxr_field_rotated(&d, attention.head_dim, 1);
    source.max_position_embeddings = (int64_t)d.context_length;
    /* 0: the scaling's own, which files of transformers from 5 on have */
    original = json_object_get(json_object_get(config->root, "rope_parameters"),
                               "original_max_position_embeddings");
    source.original_max_position_embeddings = mlxr_field_int(&d, "original_max_position_embeddings",
                                                             original ? 0 : 4096, 1, MLXR_MAX_CONTEXT);
    mlxr_decoder_rope_from(&d, &rope, &source, NULL);

    h = mlxr_decoder_hidden(&d, 1);
    MLXR_EACH_LAYER(&d) mlxr_decoder_layer(&d, h, &layer);
    return mlxr_decoder_finish(out, &d, mlxr_decoder_logits(&d, h, "norm"), err);
}
