"""Checkpoints of llama and the families that are one with few differences."""

from families_table import (
    COMMON,
    D32,
    D64,
    D64_64,
    F24,
    Q32,
    MODELS,
    MXFP4,
    MXFP8,
    NVFP4,
    UNTIED,
    YARN,
    Model,
    add,
    q,
    without,
)

# ---- llama ----

DENSE = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
QUANT = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
LLAMA3 = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32
)


def old_llama(name, what, over, dtype, quant=None, **other):
    config = dict(
        model_type="llama",
        hidden_act="silu",
        vocab_size=160,
        max_position_embeddings=256,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        tie_word_embeddings=True,
    )
    seed = 1000 + len(MODELS)
    MODELS.append(Model(name, "llama", what, config | over, dtype, quant, seed=seed, sort_keys=False, **other))


old_llama("f32", "float32, untied", DENSE | UNTIED, "float32")
old_llama(
    "f16_bias",
    "float16, biases on all projections, one key-value head",
    DENSE | UNTIED | dict(attention_bias=True, mlp_bias=True, num_key_value_heads=1),
    "float16",
)
old_llama(
    "bf16_llama3",
    "bfloat16, llama3 rope in all its bands, head_dim apart from hidden_size, as many key-value heads as heads",
    DENSE | dict(head_dim=16, rope_theta=500000.0, rope_scaling=LLAMA3, num_key_value_heads=4),
    "bfloat16",
)
old_llama(
    "bf16_shards", "three files and their index", DENSE | UNTIED | dict(num_hidden_layers=3), "bfloat16", n_shards=3
)
old_llama(
    "bf16_linear",
    "linear rope, neighbours paired (rope_traditional)",
    DENSE | dict(rope_scaling=dict(type="linear", factor=4.0), rope_traditional=True),
    "bfloat16",
)
old_llama(
    "bf16_sliding",
    "layer_types with windows of 8",
    DENSE
    | dict(
        num_hidden_layers=3,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        sliding_window=8,
    ),
    "bfloat16",
)
old_llama(
    "mistral_rope_parameters",
    "model_type mistral; rope_theta inside rope_parameters, where mlx-lm's llama does not look: it was told",
    DENSE | UNTIED | dict(model_type="mistral", rope_parameters=dict(rope_theta=100000.0, rope_type="default")),
    "float16",
    load_config=dict(rope_theta=100000.0),
    note="rope_theta of rope_parameters, which mlx-lm passes over",
)
del MODELS[-1].config["rope_theta"]
old_llama("q2_g32", "affine 2 bits", QUANT, "float16", q(2, 32))
old_llama("q3_g64", "affine 3 bits", QUANT | UNTIED | dict(intermediate_size=64), "bfloat16", q(3, 64))
old_llama("q4_g32", "affine 4 bits", QUANT, "bfloat16", q(4, 32))
old_llama(
    "q4_g64_bias",
    "affine 4 bits, biases on the attention's projections",
    QUANT | UNTIED | dict(intermediate_size=128, attention_bias=True),
    "float16",
    q(4, 64),
)
old_llama(
    "q4_g128",
    "affine 4 bits in groups of 128",
    QUANT | dict(hidden_size=128, intermediate_size=128, num_attention_heads=8, head_dim=8),
    "bfloat16",
    q(4, 128),
)
old_llama("q5_g32", "affine 5 bits", QUANT, "float32", q(5, 32))
old_llama("q6_g64", "affine 6 bits", QUANT | dict(intermediate_size=64), "bfloat16", q(6, 64))
old_llama("q8_g32", "affine 8 bits", QUANT | dict(intermediate_size=64, num_key_value_heads=4), "float16", q(8, 32))
old_llama(
    "mixed",
    "affine 4 bits but for layers of 3, 6 and 8 bits, of other groups and of none",
    QUANT | UNTIED,
    "bfloat16",
    q(4, 32),
    overrides={
        "model.embed_tokens": dict(bits=6, group_size=64),
        "model.layers.0.self_attn.v_proj": dict(bits=8, group_size=64),
        "model.layers.0.mlp.down_proj": False,
        "model.layers.1.mlp.gate_proj": dict(bits=3, group_size=32),
        "lm_head": dict(bits=8, group_size=32),
    },
)

LLAMA = COMMON | dict(
    architectures=["LlamaForCausalLM"],
    attention_bias=False,
    max_position_embeddings=8192,
    mlp_bias=False,
    model_type="llama",
    pretraining_tp=1,
    rope_scaling=None,
    rope_theta=10000.0,
    tie_word_embeddings=False,
)
FACTORS = dict(
    long_factor=[1.0, 1.25, 1.5, 2.5, 4.0, 7.0, 11.0, 18.0], short_factor=[1.0, 1.0, 1.05, 1.1, 1.2, 1.3, 1.4, 1.5]
)

add(
    "llama_dynamic_bf16",
    "llama",
    "dynamic rope within max_position_embeddings: the plain one",
    LLAMA | D32 | dict(max_position_embeddings=128, rope_scaling=dict(rope_type="dynamic", factor=2.0)),
    "bfloat16",
)
add(
    "llama_dynamic_beyond_f16",
    "llama",
    "dynamic rope past max_position_embeddings of 16: each token rotates by the base of its own length",
    LLAMA | D32 | dict(max_position_embeddings=16, rope_scaling=dict(type="dynamic", factor=4.0)),
    "float16",
    token_by_token=True,
    note="fed token by token through the cache",
)
add(
    "llama_yarn_f32",
    "llama",
    "yarn with both mscales, head_dim 16",
    LLAMA | F24 | dict(head_dim=16, max_position_embeddings=256, rope_scaling=YARN),
    "float32",
)
add(
    "llama_yarn_defaults_bf16",
    "llama",
    "yarn with the defaults of beta_fast, beta_slow, mscale and the original length; its magnitude is not one",
    LLAMA | D32 | dict(head_dim=16, rope_scaling=dict(type="yarn", factor=4.0)),
    "bfloat16",
)
add(
    "llama_longrope_f16",
    "llama",
    "longrope: long factors and their magnitude, which the original length of 32 gives",
    LLAMA
    | D32
    | dict(
        head_dim=16,
        max_position_embeddings=512,
        rope_scaling=dict(rope_type="longrope", original_max_position_embeddings=32, **FACTORS),
    ),
    "float16",
)
add("llama_mxfp4", "llama", "all matrices mxfp4, the rest bfloat16", LLAMA | D64, "bfloat16", MXFP4)
add("llama_nvfp4", "llama", "all matrices nvfp4, the rest float16", LLAMA | D64, "float16", NVFP4)
add("llama_mxfp8", "llama", "all matrices mxfp8, tied", LLAMA | D64 | dict(tie_word_embeddings=True), "bfloat16", MXFP8)
add(
    "llama_modes_mixed",
    "llama",
    "mxfp4, and by layer nvfp4, mxfp8, affine (no mode named) and none",
    LLAMA | D64_64,
    "bfloat16",
    MXFP4,
    overrides={
        "model.embed_tokens": MXFP8,
        "model.layers.0.self_attn.q_proj": NVFP4,
        "model.layers.0.mlp.up_proj": dict(bits=4, group_size=64),
        "model.layers.1.self_attn.o_proj": dict(bits=8, group_size=32),
        "model.layers.1.mlp.down_proj": False,
        "lm_head": False,
    },
)

# ---- qwen2 ----

QWEN2 = COMMON | dict(
    architectures=["Qwen2ForCausalLM"],
    max_position_embeddings=32768,
    max_window_layers=2,
    model_type="qwen2",
    rope_theta=1000000.0,
    sliding_window=32768,
    tie_word_embeddings=True,
    use_sliding_window=False,
)

add("qwen2_tied_bf16", "qwen2", "biases on q, k and v; tied", QWEN2 | D32, "bfloat16")
add(
    "qwen2_untied_f32",
    "qwen2",
    "untied, one key-value head",
    QWEN2 | F24 | UNTIED,
    "float32",
)
add(
    "qwen2_yarn_f16",
    "qwen2",
    "yarn as long-context configs write it",
    QWEN2
    | D32
    | UNTIED
    | dict(rope_scaling=dict(factor=4.0, original_max_position_embeddings=4096, type="yarn"), rope_theta=10000.0),
    "float16",
)
add("qwen2_q4", "qwen2", "affine 4 bits, tied", QWEN2 | D64_64, "bfloat16", q(4, 64))
add("qwen2_q8", "qwen2", "affine 8 bits, untied", QWEN2 | Q32 | UNTIED, "float16", q(8, 32))
add(
    "qwen2_mixed",
    "qwen2",
    "affine 4 bits but for some of 8, of other groups and of none",
    QWEN2 | D64_64 | UNTIED,
    "bfloat16",
    q(4, 32),
    overrides={
        "model.embed_tokens": False,
        "model.layers.0.self_attn.k_proj": q(8, 64),
        "model.layers.1.mlp.up_proj": False,
        "lm_head": q(6, 32),
    },
)

# ---- qwen3 ----

QWEN3 = QWEN2 | dict(
    architectures=["Qwen3ForCausalLM"],
    attention_bias=False,
    head_dim=16,
    max_position_embeddings=40960,
    model_type="qwen3",
    rope_scaling=None,
    sliding_window=None,
)

add(
    "qwen3_tied_bf16",
    "qwen3",
    "norms of each head's q and k, head_dim 16 with 4 heads of 32 columns, tied",
    QWEN3 | D32,
    "bfloat16",
)
add(
    "qwen3_rope_parameters_f16",
    "qwen3",
    "rope_theta inside rope_parameters, untied",
    {k: v for k, v in (QWEN3 | D32 | UNTIED).items() if k not in ("rope_theta", "rope_scaling", "torch_dtype")}
    | dict(dtype="", rope_parameters=dict(rope_theta=50000.0, rope_type="default"), transformers_version="5.0.0"),
    "float16",
)
add(
    "qwen3_yarn_f32",
    "qwen3",
    "yarn",
    QWEN3
    | F24
    | dict(rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=1024), rope_theta=10000.0),
    "float32",
)
add("qwen3_q4", "qwen3", "affine 4 bits, untied", QWEN3 | D64_64 | UNTIED, "bfloat16", q(4, 64))
add("qwen3_q8", "qwen3", "affine 8 bits, tied", QWEN3 | Q32, "float16", q(8, 32))
add(
    "qwen3_mixed",
    "qwen3",
    "affine 4 bits but for some of 6 and 8, of other groups and of none",
    QWEN3 | D64_64,
    "bfloat16",
    q(4, 64),
    overrides={
        "model.embed_tokens": q(6, 64),
        "model.layers.0.self_attn.v_proj": q(8, 32),
        "model.layers.0.mlp.down_proj": False,
        "model.layers.1.self_attn.q_proj": False,
    },
)

# ---- phi3 ----

PHI3 = COMMON | dict(
    architectures=["Phi3ForCausalLM"],
    attention_bias=False,
    auto_map=dict(AutoConfig="configuration_phi3.Phi3Config", AutoModelForCausalLM="modeling_phi3.Phi3ForCausalLM"),
    embd_pdrop=0.0,
    eos_token_id=[2, 7],
    max_position_embeddings=4096,
    model_type="phi3",
    num_key_value_heads=4,
    original_max_position_embeddings=4096,
    pad_token_id=3,
    resid_pdrop=0.0,
    rope_scaling=None,
    rope_theta=10000.0,
    sliding_window=2047,
    tie_word_embeddings=False,
)
P32 = D32 | dict(num_attention_heads=2, num_key_value_heads=2)  # heads of 16
P64 = D64_64


def longrope(kind="longrope", n=8):
    return dict(
        max_position_embeddings=131072,
        original_max_position_embeddings=32,
        rope_scaling=dict(type=kind, **{k: v[:n] for k, v in FACTORS.items()}),
    )


add("phi3_f32", "phi3", "fused qkv and gate-up", PHI3 | F24, "float32")
add(
    "phi3_longrope_bf16",
    "phi3",
    "longrope: long factors, magnitude of a context 4096 times the original",
    PHI3 | P32 | longrope(),
    "bfloat16",
)
add(
    "phi3_su_f16",
    "phi3",
    "longrope under its older name",
    PHI3 | P32 | longrope("su") | dict(num_key_value_heads=1),
    "float16",
)
add(
    "phi3_partial_bf16",
    "phi3",
    "longrope on three quarters of each head, tied",
    PHI3 | P32 | longrope(n=6) | dict(partial_rotary_factor=0.75, tie_word_embeddings=True),
    "bfloat16",
)
add(
    "phi3_linear_f16",
    "phi3",
    "linear rope on half of each head; mlx-lm wants factors listed beside it",
    PHI3 | P32 | dict(rope_scaling=dict(type="linear", factor=4.0, **FACTORS), partial_rotary_factor=0.5),
    "float16",
)
add("phi3_q4", "phi3", "affine 4 bits, longrope", PHI3 | P64 | longrope(), "bfloat16", q(4, 64))
add(
    "phi3_q8",
    "phi3",
    "affine 8 bits, longrope on part of each head",
    PHI3 | P32 | longrope(n=6) | dict(partial_rotary_factor=0.75),
    "float16",
    q(8, 32),
)
add(
    "phi3_mixed",
    "phi3",
    "affine 4 bits but for some of 8 and of none",
    PHI3 | P64,
    "bfloat16",
    q(4, 32),
    overrides={
        "model.layers.0.self_attn.qkv_proj": q(8, 64),
        "model.layers.0.mlp.gate_up_proj": False,
        "model.layers.1.mlp.down_proj": q(3, 32),
        "lm_head": False,
    },
)

# ---- mistral, ministral3 and their wrapper mistral3 ----

MISTRAL = COMMON | dict(
    architectures=["MistralForCausalLM"],
    max_position_embeddings=32768,
    model_type="mistral",
    rope_theta=1000000.0,
    sliding_window=None,
    tie_word_embeddings=False,
)
MISTRALS = "mistral, ministral3 and mistral3"

add("mistral_bf16", MISTRALS, "head_dim apart from hidden_size", MISTRAL | D32 | dict(head_dim=16), "bfloat16")
add(
    "mistral_layer_types_f32",
    MISTRALS,
    "layer_types with windows of 8",
    MISTRAL
    | F24
    | dict(
        layer_types=["full_attention", "sliding_attention", "sliding_attention"], num_hidden_layers=3, sliding_window=8
    ),
    "float32",
)
add(
    "mistral_q4",
    MISTRALS,
    "affine 4 bits; window of 4096",
    MISTRAL | D64_64 | dict(sliding_window=4096),
    "float16",
    q(4, 64),
)
add(
    "mistral_q8",
    MISTRALS,
    "affine 8 bits, tied",
    MISTRAL | D64_64 | dict(tie_word_embeddings=True),
    "bfloat16",
    q(8, 64),
)

# The length of 16 after which queries grow, and yarn's correction range, are such that they act on 41 ids.
MINISTRAL_ROPE = dict(
    beta_fast=0.7,
    beta_slow=0.02,
    factor=16.0,
    llama_4_scaling_beta=0.4,
    mscale=1.0,
    mscale_all_dim=1.0,
    original_max_position_embeddings=16,
    rope_theta=10000.0,
    rope_type="yarn",
    type="yarn",
)
MINISTRAL3 = without(COMMON, "torch_dtype", "transformers_version", "bos_token_id", "eos_token_id") | dict(
    head_dim=16,
    max_position_embeddings=262144,
    model_type="ministral3",
    rope_parameters=MINISTRAL_ROPE,
    sliding_window=None,
    tie_word_embeddings=False,
)
MINISTRAL3_TOP = dict(
    architectures=["Ministral3ForCausalLM"], bos_token_id=1, dtype="", eos_token_id=2, transformers_version="5.0.0.dev0"
)


def mistral3(text):
    return dict(
        architectures=["Mistral3ForConditionalGeneration"],
        dtype="",
        image_token_index=10,
        model_type="mistral3",
        multimodal_projector_bias=False,
        projector_hidden_act="gelu",
        spatial_merge_size=2,
        text_config=text,
        transformers_version="5.0.0.dev0",
        vision_config=dict(
            attention_dropout=0.0,
            head_dim=64,
            hidden_act="silu",
            hidden_size=1024,
            image_size=1540,
            model_type="pixtral",
            num_attention_heads=16,
            num_hidden_layers=24,
            patch_size=14,
        ),
        vision_feature_layer=-1,
    )


add(
    "ministral3_bf16",
    MISTRALS,
    "yarn; queries that grow by position (llama_4_scaling_beta) from position 16 on",
    MINISTRAL3 | MINISTRAL3_TOP | D32,
    "bfloat16",
)
add(
    "ministral3_windows_f16",
    MISTRALS,
    "layer_types with windows of 8 beside full layers",
    MINISTRAL3
    | MINISTRAL3_TOP
    | D32
    | dict(
        layer_types=["sliding_attention", "full_attention", "sliding_attention"], num_hidden_layers=3, sliding_window=8
    ),
    "float16",
)
add(
    "ministral3_default_rope_f32",
    MISTRALS,
    "rope of the default kind, unequal mscales passed over; tied",
    MINISTRAL3
    | MINISTRAL3_TOP
    | F24
    | dict(rope_parameters=MINISTRAL_ROPE | dict(rope_type="default", type="default"), tie_word_embeddings=True),
    "float32",
)
add(
    "ministral3_q4",
    MISTRALS,
    "affine 4 bits, tied",
    MINISTRAL3 | MINISTRAL3_TOP | D64_64 | dict(tie_word_embeddings=True),
    "bfloat16",
    q(4, 64),
)
add(
    "mistral3_bf16",
    MISTRALS,
    "wrapper around ministral3: names under language_model",
    mistral3(MINISTRAL3 | D32 | dict(tie_word_embeddings=True)),
    "bfloat16",
)
add(
    "mistral3_hf_f16",
    MISTRALS,
    "wrapper in Hugging Face's layout: names under model.language_model, lm_head beside, vision tensors; untied unsaid",
    mistral3(without(MINISTRAL3 | D32, "tie_word_embeddings")),
    "float16",
    layout="mistral3_hf",
)
add(
    "mistral3_mixed",
    MISTRALS,
    "wrapper, affine 4 bits but for some of 8 and of none",
    mistral3(MINISTRAL3 | D64_64 | dict(head_dim=8)),
    "bfloat16",
    q(4, 64),
    overrides={
        "language_model.model.embed_tokens": q(6, 64),
        "language_model.model.layers.0.self_attn.q_proj": False,
        "language_model.model.layers.1.mlp.down_proj": q(8, 64),
        "language_model.lm_head": q(8, 64),
    },
)
add(
    "mistral3_mistral_q8",
    MISTRALS,
    "wrapper around mistral, affine 8 bits",
    mistral3(without(MISTRAL, "architectures", "torch_dtype", "transformers_version") | Q32 | dict(head_dim=8)),
    "bfloat16",
    q(8, 32),
)

# ---- granite ----

GRANITE = COMMON | dict(
    architectures=["GraniteForCausalLM"],
    attention_bias=False,
    attention_multiplier=0.2,
    embedding_multiplier=3.0,
    logits_scaling=2.0,
    max_position_embeddings=131072,
    mlp_bias=False,
    model_type="granite",
    pad_token_id=0,
    residual_multiplier=0.6,
    rope_scaling=None,
    rope_theta=5000000.0,
    tie_word_embeddings=True,
)
GRANITE_WEIGHTS = dict(special=((r"embed_tokens\.weight$", 0.0, 0.1),))

add(
    "granite_bf16",
    "granite",
    "multipliers of embeddings, scores, residuals and logits; tied",
    GRANITE | D32,
    "bfloat16",
    **GRANITE_WEIGHTS
)
add(
    "granite_bias_f32",
    "granite",
    "biases on all projections, untied",
    GRANITE | F24 | UNTIED | dict(attention_bias=True, mlp_bias=True, rope_theta=10000.0),
    "float32",
    **GRANITE_WEIGHTS
)
add(
    "granite_nvfp4_mixed",
    "granite",
    "nvfp4, but o_proj, down_proj and lm_head of affine 8 bits, as mlx-lm converts it",
    GRANITE | D64_64 | UNTIED,
    "float16",
    NVFP4,
    **GRANITE_WEIGHTS
)
add(
    "granite_q4",
    "granite",
    "affine 4 bits, o_proj and down_proj of 8",
    GRANITE | D64_64,
    "bfloat16",
    q(4, 32),
    **GRANITE_WEIGHTS
)

# ---- cohere ----

COHERE = COMMON | dict(
    architectures=["CohereForCausalLM"],
    attention_bias=False,
    layer_norm_eps=0.01,
    logit_scale=0.25,
    max_position_embeddings=8192,
    model_max_length=131072,
    model_type="cohere",
    pad_token_id=0,
    rope_theta=10000.0,
    use_qk_norm=False,
)
C24, C32, CQ32, C64 = (without(d, "rms_norm_eps") for d in (F24, D32, Q32, D64_64))

add(
    "cohere_bf16",
    "cohere",
    "layer norm, attention and MLP side by side, neighbours paired by rope, logit_scale",
    COHERE | C32,
    "bfloat16",
)
add(
    "cohere_qk_norm_f16",
    "cohere",
    "layer norms of q and k with a weight for each head",
    COHERE | C32 | dict(use_qk_norm=True),
    "float16",
)
add(
    "cohere_bias_f32",
    "cohere",
    "biases of the layer norms and on the attention's projections",
    COHERE | C24 | dict(attention_bias=True, layer_norm_bias=True),
    "float32",
)
add("cohere_q4", "cohere", "affine 4 bits", COHERE | C64, "float16", q(4, 64))
add(
    "cohere_q8",
    "cohere",
    "affine 8 bits, norms of q and k",
    COHERE | C64 | dict(use_qk_norm=True),
    "bfloat16",
    q(8, 64),
)

# ---- starcoder2 ----

STARCODER2 = COMMON | dict(
    architectures=["Starcoder2ForCausalLM"],
    attention_dropout=0.1,
    embedding_dropout=0.1,
    hidden_act="gelu_pytorch_tanh",
    initializer_range=0.018,
    layer_norm_eps=0.01,
    max_position_embeddings=16384,
    mlp_type="default",
    model_type="starcoder2",
    norm_epsilon=0.01,
    norm_type="layer_norm",
    residual_dropout=0.1,
    rope_theta=999999.4420358813,
    sliding_window=4096,
    use_bias=True,
)

add(
    "starcoder2_bf16",
    "starcoder2",
    "layer norms and projections with biases, exact gelu, tied",
    STARCODER2 | C32,
    "bfloat16",
)
add("starcoder2_untied_f32", "starcoder2", "untied", STARCODER2 | C24 | UNTIED, "float32")
add("starcoder2_q4", "starcoder2", "affine 4 bits", STARCODER2 | C64, "float16", q(4, 64))
add(
    "starcoder2_q8",
    "starcoder2",
    "affine 8 bits, one key-value head",
    STARCODER2 | CQ32 | dict(num_key_value_heads=1),
    "bfloat16",
    q(8, 32),
)
