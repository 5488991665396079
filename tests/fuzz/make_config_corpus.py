#!/usr/bin/env python3
"""Makes corpus/config: inputs of fuzz_config, each a config.json, a zero byte and a safetensors file.

Models of a few hundred bytes to a few kilobytes: one for each way a llama folder can vary, and each family with what
is its own, in Hugging Face's layout where that differs. And config.dict, the words of config.json. No packages are
needed.
"""
import json
import re
import struct
from pathlib import Path

OUT = Path(__file__).resolve().parent / "corpus" / "config"
BYTES = {"F16": 2, "BF16": 2, "F32": 4, "U32": 4, "U8": 1}


def safetensors(tensors):
    head, at = {}, 0
    for name, (dtype, shape) in tensors.items():
        n = BYTES[dtype]
        for d in shape:
            n *= d
        head[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(head, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + bytes(i * 37 % 251 for i in range(at))


class Tensors(dict):
    """The tensors of one model, by the modules of a layer."""

    def __init__(self, dtype="F16", prefix="model."):
        self.dtype, self.prefix, self.at = dtype, prefix, prefix

    def layer(self, i):
        self.at = f"{self.prefix}layers.{i}."

    def put(self, name, *shape, suffix=".weight", dtype=None):
        self[self.at + name + suffix] = (dtype or self.dtype, list(shape))

    def linears(self, *shapes, bias=False):
        for name, rows, cols in shapes:
            self.put(name, rows, cols)
            if bias:
                self.put(name, rows, suffix=".bias")

    def vectors(self, n, *names, suffix=".weight"):
        for name in names:
            self.put(name, n, suffix=suffix)

    def attention(self, D, H, K, W, q=1, o="o_proj", bias=False, o_bias=False):
        qkv = [("q", H * W * q), ("k", K * W), ("v", K * W)]
        self.linears(*((f"self_attn.{n}_proj", rows, D) for n, rows in qkv), bias=bias)
        self.linears((f"self_attn.{o}", D, H * W), bias=o_bias)

    def mlp(self, D, F, part="mlp", names=("gate_proj", "up_proj", "down_proj")):
        gate, up, down = names
        self.linears((f"{part}.{gate}", F, D), (f"{part}.{up}", F, D), (f"{part}.{down}", D, F))

    def file(self, config):
        return json.dumps(config, separators=(",", ":")).encode() + b"\0" + safetensors(self)


NORMS = ("input_layernorm", "post_attention_layernorm")
GEMMA_NORMS = NORMS + ("pre_feedforward_layernorm", "post_feedforward_layernorm")
D, H, K, W, F, V = 8, 2, 1, 4, 6, 4
BASE = dict(hidden_size=D, num_hidden_layers=1, num_attention_heads=H, num_key_value_heads=K, intermediate_size=F,
            vocab_size=V, rms_norm_eps=1e-5, max_position_embeddings=64)


def begin(prefix="model.", head="lm_head.weight", dtype="F16", norm="norm"):
    t = Tensors(dtype, prefix)
    t.linears(("embed_tokens", V, D))
    t.vectors(D, norm)
    if head:
        t[head] = (dtype, [V, D])
    t.layer(0)
    return t


# ---- llama ----

def llama(dtype="F16", quantization=None, **over):
    c = dict(model_type="llama", hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=6,
             vocab_size=4, rms_norm_eps=1e-5) | over
    D, F, V = c["hidden_size"], c["intermediate_size"], c["vocab_size"]
    H, K = c["num_attention_heads"], c.get("num_key_value_heads", c["num_attention_heads"])
    W = c.get("head_dim", D // H)
    t = {}

    def matrix(name, rows, cols, bias=False):
        q = quantization and quantization.get(name, quantization)
        if q:
            t[f"{name}.weight"] = ("U32", [rows, cols * q["bits"] // 32])
            scales = (dtype if q.get("mode", "affine") == "affine" else "U8", [rows, cols // q["group_size"]])
            t[f"{name}.scales"] = scales
            if scales[0] == dtype:
                t[f"{name}.biases"] = scales
        else:
            t[f"{name}.weight"] = (dtype, [rows, cols])
        if bias:
            t[f"{name}.bias"] = (dtype, [rows])

    matrix("model.embed_tokens", V, D)
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}"
        t[f"{p}.input_layernorm.weight"] = t[f"{p}.post_attention_layernorm.weight"] = (dtype, [D])
        for name, rows, cols in (("q", H * W, D), ("k", K * W, D), ("v", K * W, D), ("o", D, H * W)):
            matrix(f"{p}.self_attn.{name}_proj", rows, cols, c.get("attention_bias", False))
        for name, rows, cols in (("gate", F, D), ("up", F, D), ("down", D, F)):
            matrix(f"{p}.mlp.{name}_proj", rows, cols, c.get("mlp_bias", False))
    t["model.norm.weight"] = (dtype, [D])
    if not c.get("tie_word_embeddings", True):
        matrix("lm_head", V, D)
    if quantization:
        c["quantization"] = quantization
    return json.dumps(c, separators=(",", ":")).encode() + b"\0" + safetensors(t)


# ---- the other families ----

def usual(model_type, prefix="model.", head=None, bias=False, o_bias=False, dtype="F16", norms=(), **over):
    """llama's layer, with norms of each head."""
    t = begin(prefix, head, dtype)
    t.vectors(D, *NORMS)
    t.attention(D, H, K, W, bias=bias, o_bias=o_bias)
    t.vectors(W, *norms)
    t.mlp(D, F)
    return t, BASE | dict(model_type=model_type) | over


def qwen3_moe(each):
    E, M = 3, 5
    t = begin()
    t.vectors(D, *NORMS)
    t.attention(D, H, K, W)
    t.vectors(W, "self_attn.q_norm", "self_attn.k_norm")
    t.linears(("mlp.gate", E, D))
    for name, rows, cols in (("gate_proj", M, D), ("up_proj", M, D), ("down_proj", D, M)):
        if each:
            for e in range(E):
                t.put(f"mlp.experts.{e}.{name}", rows, cols)
        else:
            t.put(f"mlp.switch_mlp.{name}", E, rows, cols)
    return t.file(BASE | dict(model_type="qwen3_moe", head_dim=W, num_experts=E, num_experts_per_tok=2,
                              moe_intermediate_size=M, norm_topk_prob=True, mlp_only_layers=[], decoder_sparse_step=1,
                              tie_word_embeddings=False))


def mixtral():
    E = 3
    t = begin()
    t.vectors(D, *NORMS)
    t.attention(D, H, K, W)
    t.linears(("block_sparse_moe.gate", E, D))
    for e in range(E):
        t.mlp(D, F, f"block_sparse_moe.experts.{e}", ("w1", "w3", "w2"))
    return t.file(BASE | dict(model_type="mixtral", num_local_experts=E, num_experts_per_tok=2))


def gpt_oss():
    D, F, E, W = 32, 32, 2, 4
    t = Tensors("BF16")
    t.linears(("embed_tokens", V, D))
    t.vectors(D, "norm")
    t["lm_head.weight"] = ("BF16", [V, D])
    t.layer(0)
    t.vectors(D, *NORMS)
    t.attention(D, 2, 1, W, bias=True, o_bias=True)
    t.vectors(2, "self_attn.sinks", suffix="")
    t.linears(("mlp.router", E, D), bias=True)
    for name, rows, cols in (("gate_up_proj", 2 * F, D), ("down_proj", D, F)):
        t.put(f"mlp.experts.{name}", E, rows, cols // 32, 16, suffix="_blocks", dtype="U8")
        t.put(f"mlp.experts.{name}", E, rows, cols // 32, suffix="_scales", dtype="U8")
        t.put(f"mlp.experts.{name}", E, rows, suffix="_bias")
    yarn = dict(rope_type="yarn", factor=32.0, beta_fast=32.0, beta_slow=1.0, original_max_position_embeddings=16,
                truncate=False)
    return t.file(BASE | dict(model_type="gpt_oss", hidden_size=D, intermediate_size=F, num_local_experts=E, head_dim=W,
                              num_experts_per_tok=1, sliding_window=2, rope_scaling=yarn, swiglu_limit=7.0,
                              layer_types=["sliding_attention"],
                              quantization_config=dict(quant_method="mxfp4", modules_to_not_convert=["lm_head"])))


def qwen3_5(experts):
    HK, HV, DK, DV, C = 1, 2, 4, 4, 4
    prefix = "model.language_model." if experts else "language_model.model."
    t = begin(prefix, "lm_head.weight" if experts else "language_model.lm_head.weight")
    for i in range(2):
        t.layer(i)
        t.vectors(D, *NORMS)
        if i == 0:
            width = 2 * HK * DK + HV * DV
            t.linears(("linear_attn.in_proj_qkv", width, D), ("linear_attn.in_proj_z", HV * DV, D),
                      ("linear_attn.in_proj_a", HV, D), ("linear_attn.in_proj_b", HV, D),
                      ("linear_attn.out_proj", D, HV * DV))
            t.put("linear_attn.conv1d", *((width, 1, C) if experts else (width, C, 1)))
            t.vectors(HV, "linear_attn.A_log", "linear_attn.dt_bias", suffix="")
            t.vectors(DV, "linear_attn.norm")
        else:
            t.attention(D, H, K, W, q=2)
            t.vectors(W, "self_attn.q_norm", "self_attn.k_norm")
        if experts:
            t.linears(("mlp.gate", 2, D), ("mlp.shared_expert_gate", 1, D))
            t.put("mlp.experts.gate_up_proj", 2, 10, D, suffix="")
            t.put("mlp.experts.down_proj", 2, D, 5, suffix="")
            t.mlp(D, 3, "mlp.shared_expert")
        else:
            t.mlp(D, F)
    text = BASE | dict(num_hidden_layers=2, head_dim=W, linear_num_key_heads=HK, linear_num_value_heads=HV,
                       linear_key_head_dim=DK, linear_value_head_dim=DV, linear_conv_kernel_dim=C,
                       rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5,
                                            mrope_section=[1, 0, 0], mrope_interleaved=True))
    if experts:
        t["model.visual.patch_embed.proj.weight"] = ("F16", [2, 1, 1, 1, 1])
        t["mtp.fc.weight"] = ("F16", [2, 2])
        text |= dict(layer_types=["linear_attention", "full_attention"], num_experts=2, num_experts_per_tok=1,
                     moe_intermediate_size=5, shared_expert_intermediate_size=3)
        del text["intermediate_size"]
    else:
        text |= dict(full_attention_interval=2)
    return t.file(dict(model_type="qwen3_5_moe" if experts else "qwen3_5", text_config=text))


def gemma2():
    t = begin(head=None)
    t.vectors(D, *GEMMA_NORMS)
    t.attention(D, H, K, W)
    t.mlp(D, F)
    return t.file(BASE | dict(model_type="gemma2", head_dim=W, query_pre_attn_scalar=4, sliding_window=2,
                              attn_logit_softcapping=5.0, final_logit_softcapping=3.0, hidden_act="gelu_pytorch_tanh"))


def gemma3():
    t = begin("language_model.model.", None)
    for i in range(2):
        t.layer(i)
        t.vectors(D, *GEMMA_NORMS)
        t.attention(D, H, K, W)
        t.vectors(W, "self_attn.q_norm", "self_attn.k_norm")
        t.mlp(D, F)
    t["vision_tower.embeddings.weight"] = ("F16", [2, 2])
    rope = dict(full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1e6),
                sliding_attention=dict(rope_type="default", rope_theta=1e4))
    text = BASE | dict(head_dim=W, num_hidden_layers=2, query_pre_attn_scalar=4, sliding_window=2, rope_parameters=rope,
                       layer_types=["sliding_attention", "full_attention"])
    del text["vocab_size"]
    return t.file(dict(model_type="gemma3", vocab_size=V, text_config=text))


def gemma4(experts):
    """Inputs of layers and shared keys, or experts and keys that are values."""
    P, E, M, GW = 0 if experts else 3, 2, 5, 8
    n = 2 if experts else 4
    types = ["sliding_attention", "full_attention"] * (n // 2)
    t = begin("model.", None)
    if P:
        t.at = t.prefix
        t.put("embed_tokens_per_layer", V, n * P)
        t.put("per_layer_model_projection", n * P, D)
        t.vectors(P, "per_layer_projection_norm")
    for i, kind in enumerate(types):
        t.layer(i)
        full, shares = kind == "full_attention", not experts and i >= 2
        width = GW if full else W
        t.vectors(D, *GEMMA_NORMS)
        t.linears(("self_attn.q_proj", H * width, D), ("self_attn.o_proj", D, H * width))
        t.vectors(width, "self_attn.q_norm")
        if not shares:
            t.linears(("self_attn.k_proj", K * width, D))
            t.vectors(width, "self_attn.k_norm")
            if not (experts and full):
                t.linears(("self_attn.v_proj", K * width, D))
        t.mlp(D, 2 * F if shares else F)
        t.put("layer_scalar", 1, suffix="")
        if P:
            t.linears(("per_layer_input_gate", P, D), ("per_layer_projection", D, P))
            t.vectors(D, "post_per_layer_input_norm")
        if experts:
            t.vectors(D, *(f"{a}_feedforward_layernorm_{b}" for a, b in (("post", 1), ("post", 2), ("pre", 2))))
            t.linears(("router.proj", E, D))
            t.put("router.scale", D, suffix="")
            t.put("router.per_expert_scale", E, suffix="")
            t.put("experts.gate_up_proj", E, 2 * M, D, suffix="")
            t.put("experts.down_proj", E, D, M, suffix="")
    rope = dict(full_attention=dict(rope_type="proportional", partial_rotary_factor=0.25, rope_theta=1e6),
                sliding_attention=dict(rope_type="default", rope_theta=1e4))
    c = BASE | dict(model_type="gemma4_text", num_hidden_layers=n, head_dim=W, layer_types=types, rope_parameters=rope,
                    sliding_window=2, hidden_size_per_layer_input=P, vocab_size_per_layer_input=V,
                    num_kv_shared_layers=0 if experts else 2, use_double_wide_mlp=not experts,
                    final_logit_softcapping=30.0)
    if experts:
        c |= dict(enable_moe_block=True, num_experts=E, top_k_experts=1, moe_intermediate_size=M, attention_k_eq_v=True,
                  per_layer_config={"1": dict(head_dim=GW)})
    else:
        c |= dict(global_head_dim=GW)
    return t.file(c)


def phi3():
    t = begin()
    t.vectors(D, *NORMS)
    t.linears(("self_attn.qkv_proj", (H + 2 * K) * W, D), ("self_attn.o_proj", D, H * W),
              ("mlp.gate_up_proj", 2 * F, D), ("mlp.down_proj", D, F))
    scaling = dict(type="longrope", long_factor=[2.5], short_factor=[1.0])
    return t.file(BASE | dict(model_type="phi3", partial_rotary_factor=0.5, original_max_position_embeddings=16,
                              rope_scaling=scaling))


def lfm2():
    t = begin(head=None, norm="embedding_norm")
    for i in range(2):
        t.layer(i)
        t.vectors(D, "operator_norm", "ffn_norm")
        if i == 0:
            t.linears(("conv.in_proj", 3 * D, D), ("conv.out_proj", D, D), bias=True)
            t.put("conv.conv", D, 1, 3)
            t.put("conv.conv", D, suffix=".bias")
        else:
            t.attention(D, H, K, W, o="out_proj")
            t.vectors(W, "self_attn.q_layernorm", "self_attn.k_layernorm")
        t.mlp(D, F, "feed_forward", ("w1", "w3", "w2"))
    return t.file(BASE | dict(model_type="lfm2", num_hidden_layers=2, norm_eps=1e-5, conv_L_cache=3, conv_bias=True,
                              block_ff_dim=8, block_multiple_of=2, block_ffn_dim_multiplier=1.0,
                              block_auto_adjust_ff_dim=True, full_attn_idxs=[1], layer_types=["conv", "full_attention"]))


def cohere():
    t = begin(head=None)
    t.vectors(D, NORMS[0])
    t.attention(D, H, H, W)
    t.linears(("self_attn.q_norm", H, W), ("self_attn.k_norm", H, W))
    t.mlp(D, F)
    return t.file(BASE | dict(model_type="cohere", num_key_value_heads=H, logit_scale=0.25, layer_norm_eps=1e-5,
                              use_qk_norm=True))


def starcoder2():
    t = begin(head=None)
    t.vectors(D, *NORMS)
    t.vectors(D, *NORMS, suffix=".bias")
    t.attention(D, H, K, W, bias=True, o_bias=True)
    t.linears(("mlp.c_fc", F, D), ("mlp.c_proj", D, F), bias=True)
    t["model.norm.bias"] = ("F16", [D])
    return t.file(BASE | dict(model_type="starcoder2", norm_epsilon=1e-5, use_bias=True,
                              hidden_act="gelu_pytorch_tanh"))


def ministral3():
    rope = dict(rope_type="yarn", type="yarn", factor=16.0, beta_fast=32.0, beta_slow=1.0, mscale=1.0,
                mscale_all_dim=1.0, original_max_position_embeddings=2, llama_4_scaling_beta=0.1, rope_theta=1e6)
    t, text = usual("ministral3", "language_model.model.", "language_model.lm_head.weight", rope_parameters=rope,
                    layer_types=["sliding_attention"], sliding_window=2)
    t["vision_tower.patch_conv.weight"] = ("F16", [2, 2])
    return t.file(dict(model_type="mistral3", text_config=text))


def words(inputs):
    """Every key and every name that an input's config.json has."""
    found = set()

    def walk(v):
        if isinstance(v, dict):
            for key, value in v.items():
                if re.fullmatch(r"[a-z_0-9A-Z]*[a-z_A-Z][a-z_0-9A-Z]*", key):
                    found.add(key)
                walk(value)
        elif isinstance(v, list):
            for value in v:
                walk(value)
        elif isinstance(v, str):
            found.add(v)

    for data in inputs.values():
        walk(json.loads(data[: data.index(b"\0")]))
    return "".join(f'"\\"{w}\\""\n' for w in sorted(found))


def main():
    Q = dict(hidden_size=32, intermediate_size=32)
    scaled = {"rope_type": "llama3", "factor": 8, "original_max_position_embeddings": 64}
    multipliers = dict(attention_multiplier=0.5, embedding_multiplier=12.0, residual_multiplier=0.22, logits_scaling=8.0)
    heads = ("self_attn.q_norm", "self_attn.k_norm")

    def file_of(*of, **over):
        t, c = usual(*of, **over)
        return t.file(c)

    inputs = {
        "plain": llama(),
        "untied": llama("BF16", tie_word_embeddings=False),
        "bias": llama("F32", attention_bias=True, mlp_bias=True, num_key_value_heads=1),
        "mistral": llama(model_type="mistral", head_dim=6, rope_parameters={"rope_theta": 1e6}),
        "llama3": llama(rope_theta=500000.0, rope_scaling=scaled),
        "linear": llama(rope_scaling={"type": "linear", "factor": 2}, rope_traditional=True),
        "dynamic": llama(rope_scaling={"type": "dynamic", "factor": 2}, max_position_embeddings=2),
        "yarn": llama(rope_parameters={"rope_type": "yarn", "factor": 4, "beta_fast": 8, "mscale": 0.7}),
        "longrope": llama(rope_scaling={"type": "longrope", "original_max_position_embeddings": 16,
                                        "long_factor": [1, 2.5]}),
        "sliding": llama(num_hidden_layers=2, layer_types=["full_attention", "sliding_attention"], sliding_window=1),
        "affine": llama(quantization={"bits": 4, "group_size": 32}, **Q),
        "override": llama("BF16", {"bits": 3, "group_size": 32, "model.layers.0.mlp.up_proj": False,
                                   "model.embed_tokens": {"bits": 8, "group_size": 32}}, **Q),
        "mxfp4": llama("BF16", {"bits": 4, "group_size": 32, "mode": "mxfp4"}, **Q),
        "empty": b"{}\0",
        "qwen2": file_of("qwen2", bias=True),
        "qwen3": file_of("qwen3", head="lm_head.weight", norms=heads, head_dim=W, tie_word_embeddings=False),
        "granite": file_of("granite", **multipliers),
        "qwen3_moe": qwen3_moe(False),
        "qwen3_moe_each": qwen3_moe(True),
        "mixtral": mixtral(),
        "gpt_oss": gpt_oss(),
        "qwen3_5": qwen3_5(False),
        "qwen3_5_moe": qwen3_5(True),
        "gemma2": gemma2(),
        "gemma3": gemma3(),
        "gemma4": gemma4(False),
        "gemma4_experts": gemma4(True),
        "phi3": phi3(),
        "lfm2": lfm2(),
        "cohere": cohere(),
        "starcoder2": starcoder2(),
        "ministral3": ministral3(),
    }
    OUT.mkdir(parents=True, exist_ok=True)
    for name, data in inputs.items():
        (OUT / name).write_bytes(data)
        print(f"{name:14s} {len(data)} bytes")
    (OUT.parent / "config.dict").write_text(words(inputs))


if __name__ == "__main__":
    main()
