"""Checkpoints of the families with experts alone in their layers."""

from families_table import COMMON, D32, D64, D64_64, F24, Q32, MXFP4, YARN, add, q, without

# ---- mixtral ----

MIXTRAL = COMMON | dict(
    architectures=["MixtralForCausalLM"],
    max_position_embeddings=32768,
    model_type="mixtral",
    num_experts_per_tok=2,
    num_local_experts=5,
    output_router_logits=False,
    rope_theta=1000000.0,
    router_aux_loss_coef=0.02,
    sliding_window=None,
    tie_word_embeddings=False,
)
M24 = F24 | dict(intermediate_size=16)
M32 = D32 | dict(intermediate_size=32)
M64 = D64 | dict(intermediate_size=32)

add("mixtral_bf16", "mixtral", "5 experts stacked, 2 a token, softmax over the chosen", MIXTRAL | M24, "bfloat16")
add(
    "mixtral_f32",
    "mixtral",
    "3 of 4 experts, tied",
    MIXTRAL | M24 | dict(num_local_experts=4, num_experts_per_tok=3, tie_word_embeddings=True, intermediate_size=24),
    "float32",
)
add(
    "mixtral_hf_f16",
    "mixtral",
    "Hugging Face's names: each expert's w1, w2 and w3",
    MIXTRAL | M24,
    "float16",
    layout="mixtral_hf",
)
add("mixtral_q4", "mixtral", "affine 4 bits, experts and router too", MIXTRAL | M64, "bfloat16", q(4, 32))
add(
    "mixtral_hf_q4",
    "mixtral",
    "affine 4 bits, each expert apart with its scales and biases",
    MIXTRAL | M64,
    "float16",
    q(4, 32),
    layout="mixtral_hf",
)
add("mixtral_q8", "mixtral", "affine 8 bits", MIXTRAL | M32 | dict(num_local_experts=4), "float16", q(8, 32))
add(
    "mixtral_mixed",
    "mixtral",
    "affine 4 bits, the router not, some experts' projections of 8 bits or none",
    MIXTRAL | M64,
    "bfloat16",
    q(4, 32),
    overrides={
        "model.layers.0.block_sparse_moe.gate": False,
        "model.layers.0.block_sparse_moe.switch_mlp.down_proj": q(8, 32),
        "model.layers.1.block_sparse_moe.switch_mlp.up_proj": False,
        "model.layers.1.block_sparse_moe.gate": q(8, 64),
    },
)


# ---- qwen3_moe ----

QWEN3_MOE = COMMON | dict(
    architectures=["Qwen3MoeForCausalLM"],
    attention_bias=False,
    decoder_sparse_step=1,
    head_dim=16,
    max_position_embeddings=40960,
    max_window_layers=2,
    mlp_only_layers=[],
    model_type="qwen3_moe",
    moe_intermediate_size=16,
    norm_topk_prob=True,
    num_experts=5,
    num_experts_per_tok=2,
    output_router_logits=False,
    rope_scaling=None,
    rope_theta=1000000.0,
    router_aux_loss_coef=0.001,
    sliding_window=None,
    tie_word_embeddings=False,
    use_sliding_window=False,
)
Q64 = D64_64 | dict(moe_intermediate_size=32)

add(
    "qwen3_moe_bf16",
    "qwen3_moe",
    "softmax over all 5 experts, 2 a token, their shares made one again",
    QWEN3_MOE | F24,
    "bfloat16",
)
add(
    "qwen3_moe_sparse_step_f16",
    "qwen3_moe",
    "experts in every second layer of 3, shares left as they are",
    QWEN3_MOE | F24 | dict(decoder_sparse_step=2, norm_topk_prob=False, num_hidden_layers=3),
    "float16",
)
add(
    "qwen3_moe_mlp_only_f32",
    "qwen3_moe",
    "mlp_only_layers, 3 experts of 4, tied",
    QWEN3_MOE
    | F24
    | dict(mlp_only_layers=[0], norm_topk_prob=False, num_experts=4, num_experts_per_tok=3, tie_word_embeddings=True),
    "float32",
)
add(
    "qwen3_moe_hf_f16",
    "qwen3_moe",
    "Hugging Face's names: each expert apart",
    QWEN3_MOE | F24,
    "float16",
    layout="qwen3_moe_hf",
)
add("qwen3_moe_q4", "qwen3_moe", "affine 4 bits, the router of 8", QWEN3_MOE | Q64, "bfloat16", q(4, 32))
add(
    "qwen3_moe_q8",
    "qwen3_moe",
    "affine 8 bits, shares left as they are",
    QWEN3_MOE | Q32 | dict(moe_intermediate_size=32, num_experts=3, norm_topk_prob=False),
    "float16",
    q(8, 32),
    overrides={f"model.layers.{i}.mlp.gate": q(8, 32) for i in (0, 1)},
)
add(
    "qwen3_moe_mixed",
    "qwen3_moe",
    "affine 4 bits but for some of 3, 6 and 8 and of none, experts among them; one layer without experts",
    QWEN3_MOE | Q64 | dict(mlp_only_layers=[1]),
    "bfloat16",
    q(4, 32),
    overrides={
        "model.layers.0.mlp.gate": False,
        "model.layers.0.mlp.switch_mlp.gate_proj": q(3, 64),
        "model.layers.0.mlp.switch_mlp.up_proj": False,
        "model.layers.0.mlp.switch_mlp.down_proj": q(6, 32),
        "model.layers.1.self_attn.q_proj": False,
        "lm_head": q(8, 64),
    },
)

# ---- gpt_oss ----

GPT_OSS = without(COMMON, "bos_token_id", "torch_dtype") | dict(
    architectures=["GptOssForCausalLM"],
    attention_bias=True,
    experts_per_token=2,
    head_dim=16,
    initial_context_length=4096,
    layer_types=["sliding_attention", "full_attention"],
    max_position_embeddings=131072,
    model_type="gpt_oss",
    num_experts_per_tok=2,
    num_local_experts=5,
    output_router_logits=False,
    pad_token_id=3,
    rope_scaling=dict(
        beta_fast=32.0,
        beta_slow=1.0,
        factor=32.0,
        original_max_position_embeddings=4096,
        rope_type="yarn",
        truncate=False,
    ),
    rope_theta=150000,
    router_aux_loss_coef=0.9,
    sliding_window=8,
    swiglu_limit=7.0,
    tie_word_embeddings=False,
    transformers_version="4.55.0.dev0",
)
OF24 = F24 | dict(intermediate_size=16)
O32 = D32 | dict(intermediate_size=32)
O64 = D64 | dict(intermediate_size=32)
# Gates and ups that pass the limit of 7 now and then, and a sum of experts of the size of the rest.
OSS_WEIGHTS = dict(
    special=(
        (r"experts\.(gate|up)_proj\.weight$", 0.0, 0.45),
        (r"experts\.down_proj\.weight$", 0.0, 0.04),
    )
)
OSS32_WEIGHTS = dict(
    special=(
        (r"experts\.(gate|up)_proj\.weight$", 0.0, 0.65),
        (r"experts\.down_proj\.weight$", 0.0, 0.05),
    )
)
NOT_CONVERTED = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]

add(
    "gpt_oss_f16",
    "gpt_oss",
    "sinks, biases everywhere, windows of 8 on every second layer, yarn, clamped activation, softmax over the 2 chosen experts",
    GPT_OSS | OF24,
    "float16",
    **OSS32_WEIGHTS,
)
add(
    "gpt_oss_f32",
    "gpt_oss",
    "no layer_types: the default alternation; another yarn",
    without(GPT_OSS, "layer_types")
    | OF24
    | dict(intermediate_size=16, num_local_experts=4, num_experts_per_tok=3, rope_scaling=YARN),
    "float32",
    **OSS32_WEIGHTS,
)
add(
    "gpt_oss_mxfp4",
    "gpt_oss",
    "experts of mxfp4, the rest bfloat16; full layer first",
    GPT_OSS | O32 | dict(layer_types=["full_attention", "sliding_attention"]),
    "bfloat16",
    MXFP4,
    quant_only="experts",
    **OSS32_WEIGHTS,
)
add(
    "gpt_oss_hf_mxfp4",
    "gpt_oss",
    "Hugging Face's layout: interleaved gate_up_proj_blocks, _scales and _bias, quant_method mxfp4",
    GPT_OSS | O32,
    "bfloat16",
    MXFP4,
    quant_only="experts",
    layout="gpt_oss_hf",
    hf_quantization=dict(modules_to_not_convert=NOT_CONVERTED, quant_method="mxfp4"),
    **OSS32_WEIGHTS,
)
add("gpt_oss_q4", "gpt_oss", "affine 4 bits, the router of 8", GPT_OSS | O64, "bfloat16", q(4, 32), **OSS_WEIGHTS)
add(
    "gpt_oss_q8",
    "gpt_oss",
    "affine 8 bits",
    GPT_OSS | O32 | dict(num_local_experts=3),
    "float16",
    q(8, 32),
    overrides={f"model.layers.{i}.mlp.router": q(8, 32) for i in (0, 1)},
    **OSS32_WEIGHTS,
)
add(
    "gpt_oss_mixed",
    "gpt_oss",
    "experts of mxfp4 beside layers of affine 4 and 8 bits and of none",
    GPT_OSS | O64,
    "bfloat16",
    MXFP4,
    overrides={f"model.layers.{i}.self_attn.{p}_proj": dict(bits=8, group_size=64) for i in (0, 1) for p in "qkvo"}
    | {
        "model.embed_tokens": dict(bits=4, group_size=64),
        "model.layers.1.mlp.router": False,
        "lm_head": dict(bits=8, group_size=32),
    },
    **OSS_WEIGHTS,
)
