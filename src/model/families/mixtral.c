/* mixtral: llama with experts in place of the feed-forward network. Follows mixtral.py of mlx-lm; the experts lie in
 * stacks, as mlx-lm writes them, or each in three matrices of its own. */
#include "model/families/families.h"

mlxr_status mlxr_mixtral_build(mlxr_program **out, const mlxr_config *config, mlxr_error *err)
{
    static const char *const names[] = {"w1", "w3", "w2"};
    static const mlxr_decoder_defaults defaults = {.hidden_size = 4096,
                                                   .n_layers = 32,
                                                   .n_heads = 32,
                                                   .n_kv_heads = 8,
                                                   .intermediate_size = 14336,
                                                   .vocab_size = 32000,
                                                   .eps = 1e-5,
                                                   .rope_theta = 1e6};
    mlxr_decoder d;
    mlxr_decoder_rope rope;
    mlxr_attention attention = {.rope = &rope};
    mlxr_mlp mlp = {0};
    mlxr_moe moe = {.gate = "block_sparse_moe.gate",
                    .router = MLXR_ROUTER_TOPK_SOFTMAX,
                    .stacks = "block_sparse_moe.switch_mlp",
                    .each = "block_sparse_moe.experts.{expert}",
                    .each_names = names};
    mlxr_layer layer = {.attention = &attention, .moe = &moe};
    mlxr_reg_id h;

    mlxr_decoder_begin(&d, config, NULL, &defaults);
    mlxr_decoder_usual_fields(&d, &attention, &mlp);
    moe.n_experts = mlxr_field_size(&d, "num_local_experts", 8, 1, MLXR_MAX_N_EXPERTS);
    moe.k = mlxr_field_size(&d, "num_experts_per_tok", 2, 1, (int64_t)moe.n_experts);
    moe.width = mlp.width;
    moe.act = mlp.act;
    mlxr_decoder_rope_read(&d, &rope, attention.head_dim, NULL);
    h = mlxr_decoder_hidden(&d, 1);
    MLXR_EACH_LAYER(&d) mlxr_decoder_layer(&d, h, &layer);
    return mlxr_decoder_finish(out, &d, mlxr_decoder_logits(&d, h, "norm"), err);
}
