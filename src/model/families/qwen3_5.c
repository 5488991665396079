/* qwen3_5: Qwen 3.5 and its MoE, text. Three layers of four mix by a gated delta rule over a short convolution, the
 * fourth by attention whose heads have gates and are rotated in part. Follows qwen3_5.py, qwen3_5_moe.py and
 * qwen3_next.py of mlx-lm.
 *
 * Two layouts: mlx-lm's, and Hugging Face's, which is told by the shape of conv1d's weight ([C, 1, K]) and where the
 * norms' weights are w - 1. */
#include "model/families/families.h"

static bool is_unsanitized(const mlxr_decoder *d)
{
    const mlxr_checkpoint *c = d->config->mlx_layout ? NULL : d->config->checkpoint;

    for (size_t i = 0; c && i < mlxr_checkpoint_count(c); i++) {
        const mlxr_tensor *t = mlxr_checkpoint_get(c, i);
        if (strstr(t->name, "conv1d.weight") && t->n_dims > 0) return t->shape[t->n_dims - 1] != 1;
    }
    return false;
}

static void read_delta_net(mlxr_decoder *d, mlxr_delta_net *m)
{
    m->n_v_heads = mlxr_field_size(d, "linear_num_value_heads", 64, 1, MLXR_MAX_HEADS);
    m->n_k_heads = mlxr_field_size(d, "linear_num_key_heads", 16, 1, MLXR_MAX_HEADS);
    m->k_head_dim = mlxr_field_size(d, "linear_key_head_dim", 192, 1, MLXR_MAX_HEAD_DIM);
    m->v_head_dim = mlxr_field_size(d, "linear_value_head_dim", 128, 1, MLXR_MAX_HEAD_DIM);
    m->kernel = mlxr_field_size(d, "linear_conv_kernel_dim", 4, 2, 64);
    if (m->n_v_heads % m->n_k_heads)
        mlxr_decoder_fail(
            d, MLXR_E_FORMAT,
            "\"linear_num_value_heads\" is %zu, wanted a multiple of linear_num_key_heads (%zu)",
            m->n_v_heads, m->n_k_heads);
}

mlxr_status mlxr_qwen3_5_build(mlxr_program **out, const mlxr_config *config, mlxr_error *err)
{
    static const char *const known[] = {"linear_attention", "full_attention", NULL};
    static const mlxr_decoder_defaults defaults = {.hidden_size = 4096,
                                                   .n_layers = 32,
                                                   .n_heads = 32,
                                                   .n_kv_heads = 8,
                                                   .vocab_size = 151936,
                                                   .context_length = 131072,
                                                   .rope_theta = 100000,
                                                   .parameters_first = true};
    mlxr_decoder d;
    mlxr_decoder_rope rope;
    mlxr_attention attention = {
        .rope = &rope, .gated = true, .q_norm = "self_attn.q_norm", .k_norm = "self_attn.k_norm"};
    mlxr_delta_net delta_net = {.part = "linear_attn"};
    mlxr_mlp mlp = {0};
    mlxr_mlp shared = {.gate = "mlp.shared_expert.gate_proj",
                       .up = "mlp.shared_expert.up_proj",
                       .down = "mlp.shared_expert.down_proj"};
    mlxr_moe moe = {.gate = "mlp.gate",
                    .stacks = "mlp.switch_mlp",
                    .fused = "mlp.experts",
                    .each = "mlp.experts.{expert}",
                    .shared = &shared,
                    .shared_gate = "mlp.shared_expert_gate"};
    mlxr_layer layer = {.mlp = &mlp};
    const json_t *types;
    int64_t interval, n_experts;
    mlxr_reg_id h;

    mlxr_decoder_begin(&d, config, "text_config", &defaults);
    n_experts = mlxr_field_int(&d, "num_experts", 0, 0, MLXR_MAX_N_EXPERTS);
    mlxr_field_heads(&d, &attention.n_heads, &attention.n_kv_heads);
    attention.head_dim = mlxr_field_head_dim(&d, attention.n_heads);
    attention.qkv_bias = attention.o_bias = mlxr_field_bool(&d, "attention_bias", false);
    d.eps = (float)mlxr_field_real(&d, "rms_norm_eps", 1e-6, 0, 1);
    d.norm_offset = is_unsanitized(&d) ? 1 : 0;
    mlp.act = mlxr_field_act(&d, "hidden_act", "silu");
    if (n_experts > 0) {
        mlxr_decoder_moe_fields(&d, &moe, "num_experts", true);
        shared.width = mlxr_field_size(&d, "shared_expert_intermediate_size", MLXR_REQUIRED, 1, MLXR_MAX_DIM);
        moe.act = shared.act = mlp.act;
        layer.moe = &moe;
    } else {
        mlp.width = mlxr_field_size(&d, "intermediate_size", 14336, 1, MLXR_MAX_DIM);
    }
    mlxr_decoder_tie(&d);
    mlxr_decoder_rope_read(&d, &rope, mlxr_field_rotated(&d, attention.head_dim, 0.25), NULL);
    read_delta_net(&d, &delta_net);
    interval = mlxr_field_int(&d, "full_attention_interval", 0, 1, MLXR_MAX_LAYERS);
    types = mlxr_field_layer_types(&d, "layer_types", known); /* for files without an interval */

    h = mlxr_decoder_hidden(&d, 1);
    MLXR_EACH_LAYER(&d)
    {
        bool attends = interval == 0 && types ? mlxr_layer_is(types, (size_t)d.layer, "full_attention")
                                              : (d.layer + 1) % (interval ? interval : 4) == 0;
        layer.attention = attends ? &attention : NULL;
        layer.delta_net = attends ? NULL : &delta_net;
        mlxr_decoder_layer(&d, h, &layer);
    }
    return mlxr_decoder_finish(out, &d, mlxr_decoder_logits(&d, h, "norm"), err);
}
