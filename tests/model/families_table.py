"""The checkpoints of make_models.py, family by family.

Configs have the fields that real ones of the family carry, with tiny numbers. A few numbers differ from the real ones
so that a mistake shows at this size: epsilons of the norms that matter, windows and original lengths shorter than the
prompts, softcaps that bend. Names are <family>_<feature>_<type of the weights>; the first sixteen, of llama, are older.
"""

import dataclasses
import zlib

README = """# Tiny checkpoints

Made by `../make_models.py`, which says what the files are; written from its table. Unless a line says otherwise
weights are random, prompts have 1, 7 and 41 ids, and the reference is mlx-lm in float32. mlx-lm is also the authority
where it differs from other runtimes: longrope always takes the long factors, starcoder2's gelu is the exact one.
"""


@dataclasses.dataclass
class Model:
    name: str
    part: str  # heading in README.md
    what: str
    config: dict
    dtype: str
    quant: dict | None = None
    overrides: dict = dataclasses.field(default_factory=dict)  # by layer, as in config.json
    layout: str | None = None  # of checkpoint_layouts.py
    n_shards: int = 1
    special: tuple = ()  # more of checkpoint_layouts.SPECIAL
    drop: str | None = None  # weights that mlx-lm's class has and this checkpoint has not
    keep_float32: str | None = None
    invisible: str | None = None  # weights that cannot change the logits
    hf_quantization: dict | None = None
    inexact_layout: bool = False  # the layout rounds
    gemma2_window: int | None = None
    token_by_token: bool = False  # how the reference is fed
    note: str = ""  # on the reference
    load_config: dict = dataclasses.field(default_factory=dict)  # for mlx-lm alone
    seed: int = 0
    sort_keys: bool = True

    @property
    def vocab_size(self):
        return (self.config | self.config.get("text_config", {}))["vocab_size"]


MODELS = []


def q(bits, group_size, mode="affine"):
    return dict(bits=bits, group_size=group_size, mode=mode)


MXFP4, NVFP4, MXFP8 = q(4, 32, "mxfp4"), q(4, 16, "nvfp4"), q(8, 32, "mxfp8")


def add(name, part, what, config, dtype, quant=None, **other):
    config = dict(config)
    for c in (config, config.get("text_config", {})):
        for key in ("torch_dtype", "dtype"):
            if key in c:
                c[key] = dtype
    MODELS.append(Model(name, part, what, config, dtype, quant, seed=zlib.crc32(name.encode()), **other))


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


UNTIED = dict(tie_word_embeddings=False)

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

SMALL = dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=64, rms_norm_eps=0.01)
D32 = SMALL | dict(hidden_size=32, intermediate_size=48)
D64 = SMALL | dict(hidden_size=64, intermediate_size=96)
D64_64 = SMALL | dict(hidden_size=64, intermediate_size=64)
COMMON = dict(
    attention_dropout=0.0,
    bos_token_id=1,
    eos_token_id=2,
    hidden_act="silu",
    initializer_range=0.02,
    torch_dtype="bfloat16",
    transformers_version="4.51.3",
    use_cache=True,
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
YARN = dict(
    rope_type="yarn", factor=8.0, original_max_position_embeddings=32, beta_fast=4.0, beta_slow=0.05, mscale=1.0,
    mscale_all_dim=0.5,
)  # fmt: skip
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
    LLAMA | D32 | dict(head_dim=16, max_position_embeddings=256, rope_scaling=YARN),
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
    QWEN2 | D32 | UNTIED | dict(num_key_value_heads=1),
    "float32",
)
add(
    "qwen2_yarn_f16",
    "qwen2",
    "yarn as long-context configs write it",
    QWEN2
    | D32
    | UNTIED
    | dict(rope_scaling=dict(factor=4.0, original_max_position_embeddings=64, type="yarn"), rope_theta=10000.0),
    "float16",
)
add("qwen2_q4", "qwen2", "affine 4 bits, tied", QWEN2 | D64_64, "bfloat16", q(4, 64))
add("qwen2_q8", "qwen2", "affine 8 bits, untied", QWEN2 | D64_64 | UNTIED, "float16", q(8, 32))
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
    | D32
    | dict(rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32), rope_theta=10000.0),
    "float32",
)
add("qwen3_q4", "qwen3", "affine 4 bits, untied", QWEN3 | D64_64 | UNTIED, "bfloat16", q(4, 64))
add("qwen3_q8", "qwen3", "affine 8 bits, tied", QWEN3 | D64_64, "float16", q(8, 64))
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
M32 = D32 | dict(intermediate_size=32)
M64 = D64 | dict(intermediate_size=32)

add("mixtral_bf16", "mixtral", "5 experts stacked, 2 a token, softmax over the chosen", MIXTRAL | M32, "bfloat16")
add(
    "mixtral_f32",
    "mixtral",
    "3 of 4 experts, tied",
    MIXTRAL | M32 | dict(num_local_experts=4, num_experts_per_tok=3, tie_word_embeddings=True, intermediate_size=24),
    "float32",
)
add(
    "mixtral_hf_f16",
    "mixtral",
    "Hugging Face's names: each expert's w1, w2 and w3",
    MIXTRAL | M32,
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
add("mixtral_q8", "mixtral", "affine 8 bits", MIXTRAL | M64 | dict(num_local_experts=4), "float16", q(8, 32))
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

# ---- gemma3_text, gemma3 ----

GEMMA3 = COMMON | dict(
    architectures=["Gemma3ForCausalLM"],
    attention_bias=False,
    attn_logit_softcapping=None,
    cache_implementation="hybrid",
    eos_token_id=[1, 50],
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
G32 = {k: v for k, v in D32.items() if k not in ("num_hidden_layers", "num_key_value_heads")}
G64 = {k: v for k, v in D64_64.items() if k not in ("num_hidden_layers", "num_key_value_heads")}
# Norms stored without their one; embeddings that do not drown the layers, or each token would be followed by itself.
ONE_PLUS = ((r"norm\.weight$", 0.2, 0.3), (r"embed_tokens\.weight$", 0.0, 0.1))
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
    "lm_head present: untied; 3 layers, all of whose pattern of 2",
    GEMMA3 | G32 | dict(num_hidden_layers=3, sliding_window_pattern=2, num_key_value_heads=2),
    "float16",
    special=ONE_PLUS,
)
add(
    "gemma3_text_linear_f32",
    "gemma3_text and gemma3",
    "linear rope on the full layers alone",
    GEMMA3 | G32 | dict(num_hidden_layers=2, sliding_window_pattern=2, rope_scaling=LINEAR8, rope_theta=10000.0),
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
    GEMMA3 | G64 | dict(num_hidden_layers=3),
    "float16",
    q(8, 64),
    **TIED,
)

GEMMA3_TEXT = {
    k: v
    for k, v in GEMMA3.items()
    if k not in ("architectures", "torch_dtype", "transformers_version", "bos_token_id", "eos_token_id", "pad_token_id")
}


def gemma3(text):
    text = dict(text)
    return dict(
        architectures=["Gemma3ForConditionalGeneration"],
        boi_token_index=60,
        eoi_token_index=61,
        eos_token_id=[1, 50],
        image_token_index=62,
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


add("phi3_f32", "phi3", "fused qkv and gate-up", PHI3 | D32, "float32")
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
    PHI3 | P64 | longrope(n=6) | dict(partial_rotary_factor=0.75),
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
