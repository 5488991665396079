"""Checkpoints of the families whose layers keep a state beside, or in place of, keys and values."""

from families_table import COMMON, D32, D64_64, F24, add, q, without

# ---- lfm2 ----

LFM2 = without(COMMON, "attention_dropout", "hidden_act") | dict(
    architectures=["Lfm2ForCausalLM"],
    block_auto_adjust_ff_dim=True,
    block_dim=32,
    block_ff_dim=72,
    block_ffn_dim_multiplier=1.0,
    block_mlp_init_scale=1.0,
    block_multiple_of=16,
    block_norm_eps=0.01,
    block_out_init_scale=1.0,
    block_use_swiglu=True,
    block_use_xavier_init=True,
    conv_L_cache=3,
    conv_bias=False,
    conv_dim=32,
    conv_dim_out=32,
    conv_use_xavier_init=True,
    full_attn_idxs=[2],
    hidden_size=32,
    max_position_embeddings=128000,
    model_type="lfm2",
    norm_eps=0.01,
    num_attention_heads=4,
    num_heads=4,
    num_hidden_layers=4,
    num_key_value_heads=2,
    pad_token_id=0,
    rope_theta=1000000.0,
    use_pos_enc=True,
    vocab_size=48,
)
L64 = dict(
    block_dim=64, block_ff_dim=96, conv_dim=64, conv_dim_out=64, hidden_size=64, num_hidden_layers=3, full_attn_idxs=[1]
)
LAYER_TYPES = ["conv", "full_attention", "conv", "full_attention"]

add(
    "lfm2_bf16",
    "lfm2",
    "short convolutions of 3 taps, attention in layer 2 (full_attn_idxs), ff dim adjusted to 48",
    LFM2,
    "bfloat16",
)
add(
    "lfm2_bias_f32",
    "lfm2",
    "biases of the convolutions and their projections, 4 taps, attention first and last, ff dim adjusted with a multiplier",
    LFM2
    | dict(
        block_dim=24,
        conv_dim=24,
        conv_dim_out=24,
        hidden_size=24,
        num_attention_heads=3,
        num_heads=3,
        num_key_value_heads=1,
        conv_L_cache=4,
        conv_bias=True,
        block_ffn_dim_multiplier=0.8,
        block_multiple_of=8,
        full_attn_idxs=[0, 2],
        num_hidden_layers=3,
    ),
    "float32",
)
add(
    "lfm2_hf_f16",
    "lfm2",
    "convolutions as Hugging Face stores them, [C, 1, K]; layer_types, intermediate_size, rope_parameters, ff dim as it is",
    without(LFM2, "full_attn_idxs", "rope_theta", "block_ff_dim", "torch_dtype")
    | dict(
        block_auto_adjust_ff_dim=False,
        dtype="",
        intermediate_size=48,
        layer_types=LAYER_TYPES,
        rope_parameters=dict(rope_theta=10000.0, rope_type="default"),
    ),
    "float16",
    layout="lfm2_hf",
)
add("lfm2_q4", "lfm2", "affine 4 bits, convolutions left as they are", LFM2 | L64, "bfloat16", q(4, 64))
add(
    "lfm2_q8",
    "lfm2",
    "affine 8 bits, biases of the convolutions",
    LFM2 | dict(num_hidden_layers=3) | dict(conv_bias=True),
    "float16",
    q(8, 32),
)
add(
    "lfm2_mixed",
    "lfm2",
    "affine 4 bits but for some of 6 and 8 and of none",
    LFM2 | L64,
    "bfloat16",
    q(4, 64),
    overrides={
        "model.embed_tokens": q(6, 64),
        "model.layers.0.conv.in_proj": q(8, 64),
        "model.layers.1.self_attn.out_proj": False,
        "model.layers.2.conv.out_proj": q(8, 32),
        "model.layers.2.feed_forward.w2": False,
    },
)

# ---- qwen3_5, qwen3_5_moe ----

QWEN35_TEXT = without(COMMON, "torch_dtype", "transformers_version", "bos_token_id") | dict(
    attention_bias=False,
    attn_output_gate=True,
    dtype="",
    full_attention_interval=3,
    head_dim=16,
    layer_types=["linear_attention", "linear_attention", "full_attention"],
    linear_conv_kernel_dim=4,
    linear_key_head_dim=8,
    linear_num_key_heads=2,
    linear_num_value_heads=4,
    linear_value_head_dim=12,
    mamba_ssm_dtype="float32",
    max_position_embeddings=262144,
    model_type="qwen3_5_text",
    mtp_num_hidden_layers=1,
    mtp_use_dedicated_embeddings=False,
    num_hidden_layers=3,
    rope_parameters=dict(
        mrope_interleaved=True,
        mrope_section=[1, 1, 0],
        partial_rotary_factor=0.25,
        rope_theta=10000000,
        rope_type="default",
    ),
)
W24 = without(F24, "num_hidden_layers")
W32 = without(D32, "num_hidden_layers")
# Values of 16 columns: out_proj then has the groups of 64 that q(4, 64) needs.
W64 = without(D64_64, "num_hidden_layers") | dict(linear_value_head_dim=16)
MOE_TEXT = without(QWEN35_TEXT, "mtp_num_hidden_layers") | dict(
    model_type="qwen3_5_moe_text",
    moe_intermediate_size=16,
    num_experts=4,
    num_experts_per_tok=2,
    output_router_logits=False,
    router_aux_loss_coef=0.001,
    shared_expert_intermediate_size=24,
)
ME24 = without(W24, "intermediate_size")
ME32 = without(W32, "intermediate_size")
ME64 = without(W64, "intermediate_size") | dict(
    moe_intermediate_size=32, num_experts=4, shared_expert_intermediate_size=64
)
TWO = dict(full_attention_interval=2, layer_types=["linear_attention", "full_attention"], num_hidden_layers=2)


def qwen3_5(text, tied=False):
    moe = "moe" in text["model_type"]
    return dict(
        architectures=["Qwen3_5MoeForConditionalGeneration" if moe else "Qwen3_5ForConditionalGeneration"],
        image_token_id=43,
        model_type="qwen3_5_moe" if moe else "qwen3_5",
        text_config=text | dict(tie_word_embeddings=tied),
        tie_word_embeddings=tied,
        transformers_version="4.57.0.dev0",
        video_token_id=44,
        vision_config=dict(
            deepstack_visual_indexes=[],
            depth=27,
            hidden_act="gelu_pytorch_tanh",
            hidden_size=1152,
            in_channels=3,
            intermediate_size=4304,
            model_type="qwen3_5_moe" if moe else "qwen3_5",
            num_heads=16,
            out_hidden_size=64,
            patch_size=16,
            spatial_merge_size=2,
            temporal_patch_size=2,
        ),
        vision_end_token_id=42,
        vision_start_token_id=41,
    )


# Norms whose one can be taken away and given back without a rounding.
HF_NORMS = dict(special=((r"norm\.weight$", 1.0, 0.13),))
A_LOG = dict(keep_float32=r"\.A_log$")

add(
    "qwen3_5_bf16",
    "qwen3_5 and qwen3_5_moe",
    "gated delta rule in two layers of three, gated attention with a quarter of each head rotated in the third; names under language_model, text_config; A_log of float32",
    qwen3_5(QWEN35_TEXT | W32),
    "bfloat16",
    **A_LOG,
)
add(
    "qwen3_5_plain_f16",
    "qwen3_5 and qwen3_5_moe",
    "no text_config, names without language_model; every second layer attention, rotated in half",
    without(QWEN35_TEXT, "dtype")
    | W32
    | TWO
    | dict(
        architectures=["Qwen3_5ForCausalLM"],
        model_type="qwen3_5",
        rope_parameters=QWEN35_TEXT["rope_parameters"] | dict(partial_rotary_factor=0.5, rope_theta=10000),
        tie_word_embeddings=False,
        torch_dtype="",
    ),
    "float16",
    layout="qwen3_5_plain",
)
add(
    "qwen3_5_tied_f32",
    "qwen3_5 and qwen3_5_moe",
    "tied, biases on the attention's projections, as many value heads as key heads, 3 taps",
    qwen3_5(
        QWEN35_TEXT | W24 | TWO | dict(attention_bias=True, linear_conv_kernel_dim=3, linear_num_value_heads=2), True
    ),
    "float32",
)
add(
    "qwen3_5_hf_bf16",
    "qwen3_5 and qwen3_5_moe",
    "Hugging Face's layout: names under model.language_model, norms stored without their one, convolutions [C, 1, K], mtp and visual tensors to pass over",
    qwen3_5(QWEN35_TEXT | W32 | TWO),
    "bfloat16",
    layout="qwen3_5_hf",
    **HF_NORMS,
)
add(
    "qwen3_5_q4",
    "qwen3_5 and qwen3_5_moe",
    "affine 4 bits",
    qwen3_5(QWEN35_TEXT | W64 | TWO, True),
    "bfloat16",
    q(4, 64),
    **A_LOG,
)
add(
    "qwen3_5_q8",
    "qwen3_5 and qwen3_5_moe",
    "affine 8 bits",
    qwen3_5(QWEN35_TEXT | W32 | dict(intermediate_size=64, linear_value_head_dim=16) | TWO, True),
    "float16",
    q(8, 32),
    **A_LOG,
)
add(
    "qwen3_5_mixed",
    "qwen3_5 and qwen3_5_moe",
    "affine 4 bits but for some of 5 and 8 and of none",
    qwen3_5(QWEN35_TEXT | W64 | TWO),
    "bfloat16",
    q(4, 64),
    overrides={
        "language_model.model.embed_tokens": q(8, 64),
        "language_model.model.layers.0.linear_attn.in_proj_qkv": q(5, 32),
        "language_model.model.layers.0.linear_attn.in_proj_a": False,
        "language_model.model.layers.0.linear_attn.in_proj_b": q(8, 32),
        "language_model.model.layers.0.linear_attn.out_proj": False,
        "language_model.model.layers.1.self_attn.q_proj": q(8, 32),
    },
    **A_LOG,
)
add(
    "qwen3_5_moe_bf16",
    "qwen3_5 and qwen3_5_moe",
    "2 experts of 4 beside a gated shared one",
    qwen3_5(MOE_TEXT | ME24),
    "bfloat16",
    **A_LOG,
)
add(
    "qwen3_5_moe_f32",
    "qwen3_5 and qwen3_5_moe",
    "3 experts of 4, shares left as they are",
    qwen3_5(MOE_TEXT | ME24 | TWO | dict(moe_intermediate_size=8, norm_topk_prob=False, num_experts_per_tok=3), True),
    "float32",
)
add(
    "qwen3_5_moe_hf_f16",
    "qwen3_5 and qwen3_5_moe",
    "Hugging Face's layout: fused experts.gate_up_proj, and what qwen3_5_hf_bf16 has",
    qwen3_5(MOE_TEXT | ME32 | TWO),
    "float16",
    layout="qwen3_5_hf",
    **HF_NORMS,
)
add(
    "qwen3_5_moe_q4",
    "qwen3_5 and qwen3_5_moe",
    "affine 4 bits, router and shared gate of 8",
    qwen3_5(MOE_TEXT | ME64 | TWO),
    "bfloat16",
    q(4, 32),
    **A_LOG,
)
add(
    "qwen3_5_moe_q8",
    "qwen3_5 and qwen3_5_moe",
    "affine 8 bits",
    qwen3_5(
        MOE_TEXT
        | ME32
        | TWO
        | dict(linear_value_head_dim=16, moe_intermediate_size=32, num_experts=3, shared_expert_intermediate_size=32),
        True,
    ),
    "float16",
    q(8, 32),
    overrides={
        f"language_model.model.layers.{i}.mlp.{g}": q(8, 32) for i in (0, 1) for g in ("gate", "shared_expert_gate")
    },
    **A_LOG,
)
