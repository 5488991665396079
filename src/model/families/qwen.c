/* qwen: Qwen 2, 2.5, 3 and 3 MoE. llama with biases on q, k and v (2), or a norm over each of their heads (3), and
 * experts in place of the feed-forward network. Follows qwen2.py, qwen3.py and qwen3_moe.py of mlx-lm. */
#include "model/families/families.h"

mlxr_status mlxr_qwen2_build(mlxr_program **out, const mlxr_config *config, mlxr_error *err)
{
    static const mlxr_decoder_defaults defaults = {.context_length = 32768, .rope_theta = 1e6, .tied = true};
    mlxr_decoder d;
    mlxr_decoder_rope rope;
    mlxr_attention attention = {.rope = &rope, .qkv_bias = true};
    mlxr_mlp mlp = {0};
    mlxr_layer layer = {.attention = &attention, .mlp = &mlp};
    mlxr_reg_id h;

    mlxr_decoder_begin(&d, config, NULL, &defaults);
    mlxr_decoder_usual_fields(&d, &attention, &mlp);
    mlxr_decoder_rope_read(&d, &rope, attention.head_dim, NULL);
    h = mlxr_decoder_hidden(&d, 1);
    MLXR_EACH_LAYER(&d) mlxr_decoder_layer(&d, h, &layer);
    return mlxr_decoder_finish(out, &d, mlxr_decoder_logits(&d, h, "norm"), err);
}

mlxr_status mlxr_qwen3_build(mlxr_program **out, const mlxr_config *config, mlxr_error *err)
{
    static const mlxr_decoder_defaults defaults = {.rope_theta = 1e6};
    mlxr_decoder d;
    mlxr_decoder_rope rope;
    mlxr_attention attention = {.rope = &rope, .q_norm = "self_attn.q_norm", .k_norm = "self_attn.k_norm"};
    mlxr_mlp mlp = {0};
    mlxr_layer layer = {.attention = &attention, .mlp = &mlp};
    mlxr_reg_id h;

    mlxr_decoder_begin(&d, config, NULL, &defaults);
    mlxr_decoder_usual_fields(&d, &attention, &mlp);
    mlxr_decoder_rope_read(&d, &rope, attention.head_dim, NULL);
    h = mlxr_decoder_hidden(&d, 1);
    MLXR_EACH_LAYER(&d) mlxr_decoder_layer(&d, h, &layer);
    return mlxr_decoder_finish(out, &d, mlxr_decoder_logits(&d, h, "norm"), err);
}

mlxr_status mlxr_qwen3_moe_build(mlxr_program **out, const mlxr_config *config, mlxr_error *err)
{
    static const mlxr_decoder_defaults defaults = {.rope_theta = 1e6};
    mlxr_decoder d;
    mlxr_decoder_rope rope;
    mlxr_attention attention = {.rope = &rope, .q_norm = "self_attn.q_norm", .k_norm = "self_attn.k_norm"};
    mlxr_mlp mlp = {0};
    mlxr_moe moe = {.gate = "mlp.gate", .stacks = "mlp.switch_mlp", .each = "mlp.experts.{expert}"};
    mlxr_layer layer = {.attention = &attention, .mlp = &mlp};
    const json_t *count;
    bool dense[MLXR_MAX_LAYERS];
    int64_t sparse_step;
    mlxr_reg_id h;

    mlxr_decoder_begin(&d, config, NULL, &defaults);
    mlxr_decoder_usual_fields(&d, &attention, &mlp);
    mlxr_decoder_rope_read(&d, &rope, attention.head_dim, NULL);
    /* transformers from 5 on has Mixtral's word for it. */
    count = json_object_get(d.fields, "num_experts");
    mlxr_decoder_moe_fields(&d, &moe,
                            (!count || json_is_null(count)) && json_object_get(d.fields, "num_local_experts")
                                ? "num_local_experts"
                                : "num_experts",
                            false);
    moe.act = mlp.act;
    sparse_step = mlxr_field_int(&d, "decoder_sparse_step", 1, 1, MLXR_MAX_LAYERS);
    mlxr_field_layers(&d, "mlp_only_layers", dense);
    h = mlxr_decoder_hidden(&d, 1);
    MLXR_EACH_LAYER(&d)
    {
        bool sparse = !dense[d.layer] && (d.layer + 1) % sparse_step == 0;
        layer.moe = sparse ? &moe : NULL;
        mlxr_decoder_layer(&d, h, &layer);
    }
    return mlxr_decoder_finish(out, &d, mlxr_decoder_logits(&d, h, "norm"), err);
}
