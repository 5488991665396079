"""Checkpoints of the gemma families."""

from families_table import COMMON, D32, D64_64, F24, Q32, add, q, without

# ---- gemma3_text, gemma3 ----

GEMMA3 = COMMON | dict(
    architectures=["Gemma3ForCausalLM"],
    attention_bias=False,
    attn_logit_softcapping=None,
    cache_implementation="hybrid",
    eos_token_id=[1, 40],
    final_logit_softcapping=None,
    head_dim=16,
    hidden_activation="gelu_pytorch_tanh",
    max_position_embeddings=32768,
    model_type="gemma3_text",
    num_hidden_layers=4,
    num_key_value_heads=1,
    pad_token_id=0,
    query_pre_attn_scalar=24,
    rope_local_base_freq=100.0,
    rope_scaling=None,
    rope_theta=1000000.0,
    sliding_window=8,
    sliding_window_pattern=3,
)
del GEMMA3["hidden_act"]
G24 = without(F24, "num_hidden_layers", "num_key_value_heads")
GQ32 = without(Q32, "num_hidden_layers", "num_key_value_heads")
G32 = without(D32, "num_hidden_layers", "num_key_value_heads")
G64 = without(D64_64, "num_hidden_layers", "num_key_value_heads")
# Norms are stored without their one. The layers drown the embeddings, or each token would be followed by itself; the
# last norm brings the logits back to a size at which gemma2's softcap bends them.
ONE_PLUS = (
    (r"model\.norm\.weight$", 9.0, 0.5),
    (r"post_\w+norm\.weight$", 1.0, 0.3),
    (r"norm\.weight$", 0.2, 0.3),
    (r"(embed_tokens|lm_head)\.weight$", 0.0, 0.03),
)
TIED = dict(special=ONE_PLUS, drop="lm_head")
LINEAR8 = dict(factor=8.0, rope_type="linear")

add(
    "gemma3_text_bf16",
    "gemma3_text and gemma3",
    "windows of 8 on two layers of three, each kind with its rope base; norms stored without their one; tied",
    GEMMA3 | G32,
    "bfloat16",
    **TIED,
)
add(
    "gemma3_text_untied_f16",
    "gemma3_text and gemma3",
    "untied: lm_head is there; 3 layers, every second one full",
    GEMMA3 | G32 | dict(num_hidden_layers=3, sliding_window_pattern=2, num_key_value_heads=2),
    "float16",
    special=ONE_PLUS,
)
add(
    "gemma3_text_linear_f32",
    "gemma3_text and gemma3",
    "linear rope on the full layers alone",
    GEMMA3 | G24 | dict(num_hidden_layers=2, sliding_window_pattern=2, rope_scaling=LINEAR8, rope_theta=10000.0),
    "float32",
    **TIED,
)
add(
    "gemma3_text_q4",
    "gemma3_text and gemma3",
    "affine 4 bits; newer config with layer_types too",
    GEMMA3 | G64 | dict(layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]),
    "bfloat16",
    q(4, 64),
    **TIED,
)
add(
    "gemma3_text_q8",
    "gemma3_text and gemma3",
    "affine 8 bits",
    GEMMA3 | GQ32 | dict(num_hidden_layers=3),
    "float16",
    q(8, 32),
    **TIED,
)

GEMMA3_TEXT = without(
    GEMMA3, "architectures", "torch_dtype", "transformers_version", "bos_token_id", "eos_token_id", "pad_token_id"
)


def gemma3(text):
    text = dict(text)
    return dict(
        architectures=["Gemma3ForConditionalGeneration"],
        boi_token_index=43,
        eoi_token_index=44,
        eos_token_id=[1, 40],
        image_token_index=45,
        initializer_range=0.02,
        mm_tokens_per_image=256,
        model_type="gemma3",
        text_config=text,
        torch_dtype="bfloat16",
        transformers_version="4.50.0.dev0",
        vision_config=dict(
            hidden_size=1152,
            image_size=896,
            intermediate_size=4304,
            model_type="siglip_vision_model",
            num_attention_heads=16,
            num_hidden_layers=27,
            patch_size=14,
            vision_use_head=False,
        ),
        vocab_size=text.pop("vocab_size"),
    )


add(
    "gemma3_bf16",
    "gemma3_text and gemma3",
    "wrapper: names under language_model, text_config; linear rope; vision tensors passed over",
    gemma3(GEMMA3_TEXT | G32 | dict(rope_scaling=LINEAR8, rope_theta=10000.0)),
    "bfloat16",
    layout="with_vision",
    **TIED,
)
add(
    "gemma3_q4",
    "gemma3_text and gemma3",
    "wrapper, affine 4 bits",
    gemma3(GEMMA3_TEXT | G64 | dict(num_hidden_layers=3)),
    "bfloat16",
    q(4, 64),
    layout="with_vision",
    **TIED,
)
add(
    "gemma3_mixed",
    "gemma3_text and gemma3",
    "wrapper, affine 4 bits but for some of 8 and of none",
    gemma3(GEMMA3_TEXT | G64 | dict(num_hidden_layers=3)),
    "bfloat16",
    q(4, 64),
    overrides={
        "language_model.model.embed_tokens": q(8, 64),
        "language_model.model.layers.0.self_attn.k_proj": False,
        "language_model.model.layers.1.mlp.down_proj": q(6, 64),
        "language_model.model.layers.2.self_attn.v_proj": q(8, 32),
    },
    **TIED,
)


# ---- gemma2 ----

GEMMA2 = without(GEMMA3, "rope_local_base_freq", "rope_scaling", "sliding_window_pattern") | dict(
    architectures=["Gemma2ForCausalLM"],
    attn_logit_softcapping=3.0,
    eos_token_id=1,
    final_logit_softcapping=4.0,
    hidden_act="gelu_pytorch_tanh",
    max_position_embeddings=8192,
    model_type="gemma2",
    num_hidden_layers=2,
    num_key_value_heads=2,
    rope_theta=10000.0,
    sliding_window=4096,
)
GEMMA2_WEIGHTS = dict(special=ONE_PLUS)

add(
    "gemma2_bf16",
    "gemma2",
    "softcaps of scores and logits, norms before and after; the window is longer than any prompt",
    GEMMA2 | G32,
    "bfloat16",
    **GEMMA2_WEIGHTS,
)
add(
    "gemma2_window_f16",
    "gemma2",
    "windows of 8 on layers 0 and 2 of 3, as Hugging Face has them and mlx-lm has not: the masks were made for it",
    GEMMA2 | G32 | dict(num_hidden_layers=3, sliding_window=8),
    "float16",
    gemma2_window=8,
    note="windows on even layers added to it",
    **GEMMA2_WEIGHTS,
)
add(
    "gemma2_softcaps_f32",
    "gemma2",
    "the real softcaps of 50 and 30; one key-value head",
    GEMMA2 | G24 | dict(attn_logit_softcapping=50.0, final_logit_softcapping=30.0, num_key_value_heads=1),
    "float32",
    **GEMMA2_WEIGHTS,
)
add("gemma2_q4", "gemma2", "affine 4 bits", GEMMA2 | G64, "bfloat16", q(4, 64), **GEMMA2_WEIGHTS)
add("gemma2_q8", "gemma2", "affine 8 bits", GEMMA2 | GQ32, "float16", q(8, 32), **GEMMA2_WEIGHTS)
add(
    "gemma2_mixed",
    "gemma2",
    "affine 4 bits but for some of 6 and 8 and of none; windows of 8 on layer 0",
    GEMMA2 | G64 | dict(sliding_window=8),
    "bfloat16",
    q(4, 32),
    overrides={
        "model.embed_tokens": q(8, 64),
        "model.layers.0.mlp.gate_proj": False,
        "model.layers.1.self_attn.o_proj": q(6, 64),
    },
    gemma2_window=8,
    note="windows on even layers added to it",
    **GEMMA2_WEIGHTS,
)

# ---- gemma4_text, gemma4 ----

GEMMA4_ROPE = dict(
    full_attention=dict(partial_rotary_factor=0.25, rope_theta=10000.0, rope_type="proportional"),
    sliding_attention=dict(rope_theta=100.0, rope_type="default"),
)
GEMMA4 = dict(
    attention_bias=False,
    attention_dropout=0.0,
    attention_k_eq_v=False,
    bos_token_id=2,
    dtype="",
    enable_moe_block=False,
    eos_token_id=1,
    final_logit_softcapping=4.0,
    global_head_dim=32,
    head_dim=16,
    hidden_activation="gelu_pytorch_tanh",
    hidden_size=32,
    hidden_size_per_layer_input=8,
    initializer_range=0.02,
    intermediate_size=40,
    layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
    max_position_embeddings=131072,
    model_type="gemma4_text",
    moe_intermediate_size=None,
    num_attention_heads=2,
    num_experts=None,
    num_global_key_value_heads=None,
    num_hidden_layers=4,
    num_key_value_heads=1,
    num_kv_shared_layers=2,
    pad_token_id=0,
    rms_norm_eps=0.01,
    rope_parameters=GEMMA4_ROPE,
    sliding_window=8,
    tie_word_embeddings=True,
    top_k_experts=None,
    use_bidirectional_attention=None,
    use_cache=True,
    use_double_wide_mlp=True,
    vocab_size=48,
    vocab_size_per_layer_input=48,
)
GEMMA4_TOP = dict(architectures=["Gemma4ForCausalLM"], transformers_version="5.5.0.dev0")
# The larger models: no inputs by layer, nothing shared, values that are the keys of full layers.
LARGE = dict(
    attention_k_eq_v=True,
    hidden_size_per_layer_input=0,
    layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    num_attention_heads=4,
    num_global_key_value_heads=1,
    num_hidden_layers=3,
    num_key_value_heads=2,
    num_kv_shared_layers=0,
    use_double_wide_mlp=False,
)
EXPERTS = dict(enable_moe_block=True, moe_intermediate_size=16, num_experts=5, top_k_experts=2)
TWO_LAYERS = dict(layer_types=["sliding_attention", "full_attention"], num_hidden_layers=2)
THREE_LAYERS = dict(
    layer_types=["sliding_attention", "full_attention", "full_attention"], num_hidden_layers=3, num_kv_shared_layers=1
)
F64 = dict(hidden_size=64, intermediate_size=64, num_attention_heads=2)


def gemma4_weights(n_layers):
    """As above, with the one; the last layer's scalar is undone by the norm after it."""
    return dict(
        special=(
            (r"model\.norm\.weight$", 10.0, 1.0),
            (r"post_\w+norm(_[12])?\.weight$", 2.0, 0.3),
            (r"q_norm\.weight$", 0.4, 0.1),
            (r"(embed_tokens|lm_head)\.weight$", 0.0, 0.03),
        ),
        invisible=rf"layers\.{n_layers - 1}\.layer_scalar$",
    )


def gemma4(text):
    return dict(
        architectures=["Gemma4ForConditionalGeneration"],
        audio_config=None,
        audio_token_id=42,
        boi_token_id=43,
        dtype="",
        eoi_token_id=44,
        eos_token_id=[1, 40],
        image_token_id=45,
        initializer_range=0.02,
        model_type="gemma4",
        text_config=without(text, "vocab_size") | dict(vocab_size=48),
        tie_word_embeddings=True,
        transformers_version="5.5.0.dev0",
        vision_config=dict(
            default_output_length=280,
            head_dim=64,
            hidden_size=768,
            intermediate_size=3072,
            model_type="gemma4_vision",
            num_attention_heads=12,
            num_hidden_layers=16,
            patch_size=16,
        ),
        vision_soft_tokens_per_image=280,
        vocab_size=48,
    )


GEMMAS4 = "gemma4_text and gemma4"

add(
    "gemma4_text_bf16",
    GEMMAS4,
    "inputs by layer; the last two layers of four use the keys and values of the first two and have a double MLP; full layers with wider heads, a quarter of them rotated; windows of 8; layer scalars; softcap",
    GEMMA4 | GEMMA4_TOP,
    "bfloat16",
    **gemma4_weights(4),
)
add(
    "gemma4_text_k_eq_v_f16",
    GEMMAS4,
    "values that are the keys in full layers, with their own number of key-value heads; nothing shared, no inputs by layer, the real softcap of 30",
    GEMMA4 | GEMMA4_TOP | LARGE | dict(final_logit_softcapping=30.0),
    "float16",
    **gemma4_weights(3),
)
add(
    "gemma4_text_defaults_f32",
    GEMMAS4,
    "rope_parameters and layer_types left to sliding_window_pattern 2; untied, one layer shared, MLPs of one width, no softcap",
    without(GEMMA4, "layer_types", "rope_parameters")
    | GEMMA4_TOP
    | dict(
        final_logit_softcapping=None,
        num_hidden_layers=3,
        hidden_size=24,
        num_kv_shared_layers=1,
        sliding_window_pattern=2,
        tie_word_embeddings=False,
        use_double_wide_mlp=False,
    ),
    "float32",
    **gemma4_weights(3),
)
add(
    "gemma4_text_moe_f16",
    GEMMAS4,
    "an MLP beside 5 experts, 2 a token; router with a scale and a scale for each expert",
    GEMMA4 | GEMMA4_TOP | LARGE | TWO_LAYERS | EXPERTS,
    "float16",
    **gemma4_weights(2),
)
add(
    "gemma4_bf16",
    GEMMAS4,
    "wrapper: names under language_model, text_config; what gemma4_text_bf16 has",
    gemma4(GEMMA4),
    "bfloat16",
    **gemma4_weights(4),
)
add(
    "gemma4_hf_bf16",
    GEMMAS4,
    "wrapper in Hugging Face's layout: names under model.language_model; keys and values of sharing layers, vision and audio tensors to pass over",
    gemma4(
        GEMMA4
        | dict(layer_types=GEMMA4["layer_types"][:2] + ["full_attention"], num_hidden_layers=3, num_kv_shared_layers=1)
    ),
    "bfloat16",
    layout="gemma4_hf",
    **gemma4_weights(3),
)
add(
    "gemma4_hf_moe_f16",
    GEMMAS4,
    "wrapper in Hugging Face's layout with experts.gate_up_proj",
    gemma4(GEMMA4 | LARGE | TWO_LAYERS | EXPERTS),
    "float16",
    layout="gemma4_hf",
    **gemma4_weights(2),
)
add(
    "gemma4_q4",
    GEMMAS4,
    "wrapper, affine 4 bits",
    gemma4(GEMMA4 | F64 | THREE_LAYERS | dict(hidden_size_per_layer_input=32)),
    "bfloat16",
    q(4, 32),
    **gemma4_weights(3),
)
add(
    "gemma4_moe_q4",
    GEMMAS4,
    "wrapper, affine 4 bits, the router of 8",
    gemma4(GEMMA4 | LARGE | TWO_LAYERS | EXPERTS | F64 | dict(moe_intermediate_size=32)),
    "bfloat16",
    q(4, 32),
    **gemma4_weights(2),
)
add(
    "gemma4_q8",
    GEMMAS4,
    "wrapper, affine 8 bits; values that are the keys",
    gemma4(GEMMA4 | LARGE | dict(intermediate_size=64) | dict(num_global_key_value_heads=2)),
    "float16",
    q(8, 32),
    **gemma4_weights(3),
)
add(
    "gemma4_mixed",
    GEMMAS4,
    "wrapper, affine 4 bits but for some of 6 and 8 and of none",
    gemma4(
        GEMMA4
        | F64
        | dict(
            hidden_size_per_layer_input=32,
            num_hidden_layers=3,
            num_kv_shared_layers=1,
            layer_types=["sliding_attention", "full_attention", "full_attention"],
        )
    ),
    "bfloat16",
    q(4, 32),
    overrides={
        "language_model.model.embed_tokens": q(8, 64),
        "language_model.model.embed_tokens_per_layer": q(6, 32),
        "language_model.model.per_layer_model_projection": False,
        "language_model.model.layers.0.per_layer_input_gate": False,
        "language_model.model.layers.1.per_layer_projection": q(8, 32),
        "language_model.model.layers.2.mlp.down_proj": q(8, 64),
        "language_model.model.layers.2.self_attn.q_proj": False,
    },
    **gemma4_weights(3),
)
