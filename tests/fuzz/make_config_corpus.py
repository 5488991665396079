#!/usr/bin/env python3
"""Makes corpus/config: inputs of fuzz_config, each a config.json, a zero byte and a safetensors file.

Models of a few hundred bytes, one for each way a llama-family folder can vary. No packages are needed.
"""
import json
import struct
from pathlib import Path

OUT = Path(__file__).resolve().parent / "corpus" / "config"
BYTES = {"F16": 2, "BF16": 2, "F32": 4, "U32": 4}


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


def model(dtype="F16", quantization=None, **over):
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
            t[f"{name}.scales"] = t[f"{name}.biases"] = (dtype, [rows, cols // q["group_size"]])
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


def main():
    Q = dict(hidden_size=32, intermediate_size=32)
    scaled = {"rope_type": "llama3", "factor": 8, "original_max_position_embeddings": 64}
    inputs = {
        "plain": model(),
        "untied": model("BF16", tie_word_embeddings=False),
        "bias": model("F32", attention_bias=True, mlp_bias=True, num_key_value_heads=1),
        "mistral": model(model_type="mistral", head_dim=6, rope_parameters={"rope_theta": 1e6}),
        "llama3": model(rope_theta=500000.0, rope_scaling=scaled),
        "linear": model(rope_scaling={"type": "linear", "factor": 2}, rope_traditional=True),
        "yarn": model(rope_parameters={"rope_type": "yarn", "factor": 4, "beta_fast": 8, "mscale": 0.7}),
        "longrope": model(rope_scaling={"type": "longrope", "original_max_position_embeddings": 16,
                                        "long_factor": [1, 2.5]}),
        "sliding": model(num_hidden_layers=2, layer_types=["full_attention", "sliding_attention"], sliding_window=1),
        "affine": model(quantization={"bits": 4, "group_size": 32}, **Q),
        "override": model("BF16", {"bits": 3, "group_size": 32, "model.layers.0.mlp.up_proj": False,
                                   "model.embed_tokens": {"bits": 8, "group_size": 32}}, **Q),
        "empty": b"{}\0",
    }
    OUT.mkdir(parents=True, exist_ok=True)
    for name, data in inputs.items():
        (OUT / name).write_bytes(data)
        print(f"{name:10s} {len(data)} bytes")


if __name__ == "__main__":
    main()
