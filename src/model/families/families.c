/* The families there are. A new one is a file beside this and its entries here. */
#include "model/families/families.h"

/* As the models' quant_predicate in mlx-lm has them. */
static const char *const router_proj[] = {"router.proj", NULL};
static const char *const router[] = {"router", NULL};
static const char *const mlp_gate[] = {"mlp.gate", NULL};
static const char *const both_gates[] = {"mlp.gate", "shared_expert_gate", NULL};
static const char *const granite[] = {"self_attn.o_proj", "mlp.down_proj", "lm_head", NULL};

static const mlxr_family families[] = {
    {"cohere", mlxr_cohere_build, NULL},
    {"gemma2", mlxr_gemma2_build, NULL},
    {"gemma3", mlxr_gemma3_build, mlxr_other_modality},
    {"gemma3_text", mlxr_gemma3_build, NULL},
    {"gemma4", mlxr_gemma4_build, mlxr_gemma4_may_ignore, router_proj},
    {"gemma4_text", mlxr_gemma4_build, mlxr_gemma4_may_ignore, router_proj},
    {"gemma4_unified", mlxr_gemma4_build, mlxr_gemma4_may_ignore, router_proj},
    {"gpt_oss", mlxr_gpt_oss_build, NULL, router},
    {"granite", mlxr_granite_build, NULL, granite},
    {"lfm2", mlxr_lfm2_build, NULL},
    {"llama", mlxr_llama_build, NULL},
    {"ministral3", mlxr_ministral3_build, NULL},
    /* As in mlx-lm, mistral is llama by another name: its "sliding_window" counts only together with "layer_types". */
    {"mistral", mlxr_llama_build, NULL},
    {"mistral3", mlxr_mistral3_build, mlxr_other_modality},
    {"mixtral", mlxr_mixtral_build, NULL},
    {"phi3", mlxr_phi3_build, NULL},
    {"qwen2", mlxr_qwen2_build, NULL},
    {"qwen3", mlxr_qwen3_build, NULL},
    {"qwen3_5", mlxr_qwen3_5_build, mlxr_other_modality, both_gates},
    {"qwen3_5_moe", mlxr_qwen3_5_build, mlxr_other_modality, both_gates},
    {"qwen3_5_moe_text", mlxr_qwen3_5_build, mlxr_other_modality, both_gates},
    {"qwen3_5_text", mlxr_qwen3_5_build, mlxr_other_modality, both_gates},
    {"qwen3_moe", mlxr_qwen3_moe_build, NULL, mlp_gate},
    {"starcoder2", mlxr_starcoder2_build, NULL},
    {NULL, NULL, NULL},
};

const mlxr_family *mlxr_family_at(size_t i)
{
    return i < MLXR_COUNT(families) - 1 ? &families[i] : NULL;
}
