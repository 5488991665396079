/* llama: Llama 1 to 3.3, Mistral, SmolLM 1 and 2, and all that borrow their shape.
 *
 * One layer, with h the residual stream [T, D]:
 *
 *     x = rms_norm(h)                 q [T, Hq Dh], k, v [T, Hkv Dh] = linear(x)
 *     q, k rotated by position        h += linear(attend(q, k, v))
 *     x = rms_norm(h)                 h += linear(silu(linear(x)) * linear(x))
 *
 * and at the end logits = linear(rms_norm(h)), by lm_head or, tied, by the embedding table. Follows llama.py of
 * mlx-lm, which is also where the defaults of absent fields come from. */
#include "model/families/families.h"

mlxr_status mlxr_llama_build(mlxr_program **out, const mlxr_config *config, mlxr_error *err)
{
    /* A text model in a wrapper is untied unless it says so (mistral3.py). */
    mlxr_decoder_defaults defaults = {.tied = !json_object_get(config->root, "text_config")};
    mlxr_decoder d;
    mlxr_decoder_rope rope;
    mlxr_attention attention = {.rope = &rope};
    mlxr_mlp mlp = {0};
    mlxr_layer layer = {.attention = &attention, .mlp = &mlp};
    const json_t *types;
    mlxr_reg_id h;

    mlxr_decoder_begin(&d, config, "text_config", &defaults);
    mlxr_decoder_usual_fields(&d, &attention, &mlp);
    attention.qkv_bias = attention.o_bias = mlxr_field_bool(&d, "attention_bias", false);
    mlp.bias = mlxr_field_bool(&d, "mlp_bias", false);
    if (mlxr_field_rotated(&d, attention.head_dim, 1) != attention.head_dim)
        mlxr_decoder_fail(&d, MLXR_E_UNSUPPORTED,
                          "\"partial_rotary_factor\" rotates a part of each head, wanted 1");
    mlxr_decoder_rope_read(&d, &rope, attention.head_dim, NULL);
    types = mlxr_field_layer_types(&d, "layer_types", mlxr_attention_types);

    h = mlxr_decoder_hidden(&d, 1);
    MLXR_EACH_LAYER(&d)
    {
        attention.window = mlxr_decoder_window(&d, types);
        mlxr_decoder_layer(&d, h, &layer);
    }
    return mlxr_decoder_finish(out, &d, mlxr_decoder_logits(&d, h, "norm"), err);
}
