#!/usr/bin/env python3
"""Makes fixtures/adapters/, fixtures/adapters.json and fixtures/dora.safetensors: adapters for tiny models, and what mlx_lm.fuse makes
of them.

    python make_adapters.py

Run by hand, with mlx and mlx-lm installed (the versions used are in adapters.json). The factors are small multiples of 1/32, so that
their products are exact in whatever order they are summed: with LoRA, every tensor must be equal bit by bit, and adapters.json has
digests as convert.json has (make_convert.py). DoRA has roots and quotients: dora.safetensors has the changed tensors themselves.

PEFT's adapters hold the same changes as adapters of mlx-lm, from which the expected values come, or changes that are made here by
the formula W + scale * B A.
"""

import json
import shutil
import sys
from pathlib import Path

import mlx.core as mx
import mlx_lm
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm import fuse as fuse_module
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import load_model, quantize_model

from make_convert import HERE, MODELS, TINY_CHAT, digest

ADAPTERS = HERE / "fixtures" / "adapters"
fuse_module = sys.modules["mlx_lm.fuse"]
rng = np.random.default_rng(9)
dora_tensors = {}
cases = []


def factor(shape, dtype=mx.float32):
    return mx.array(rng.integers(-2, 3, shape).astype(np.float32) / 32).astype(dtype)


def write(name, config, tensors, file="adapters.safetensors"):
    folder = ADAPTERS / name
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")
    mx.save_safetensors(str(folder / file), tensors)
    return folder


def fuse(model, folder, quantize=None, dequantize=False):
    """What mlx_lm.fuse would write, quantized then as mlx_lm.convert -q does if asked."""
    written = []

    def load(path, adapter_path=None, **_):
        m, config = load_model(Path(path))
        m.eval()
        return fuse_module_load_adapters(m, adapter_path), None, config

    from mlx_lm.tuner.utils import load_adapters as fuse_module_load_adapters

    fuse_module.load = load
    fuse_module.save = lambda dst, src, m, tokenizer, config, **_: written.append((m, config))
    sys.argv = ["fuse", "--model", str(MODELS / model), "--adapter-path", str(folder)]
    sys.argv += ["--dequantize"] if dequantize else []
    fuse_module.main()
    m, config = written[0]
    if quantize:
        m, config = quantize_model(m, config, quantize["q_group_size"], quantize["q_bits"])
    return dict(tree_flatten(m.parameters()))


def case(model, adapter, tensors, options=None, dora=None):
    """dora: names of tensors that are compared as numbers."""
    known = {n: digest(w) for n, w in sorted(tensors.items()) if not dora or n not in dora}
    for n in dora or []:
        dora_tensors[f"{adapter}/{n}"] = tensors[n].astype(mx.float32)
    path = f"tests/model/models/{model}" if "/" not in model else model.replace("../..", "tests")
    cases.append(dict(model=path, adapter=adapter, options=options or {}, numbers=sorted(dora or []), tensors=known))


def lora(model, name, keys, rank=4, scale=2.0, dora=False, layers=-1, dtype=mx.float32):
    """An adapter of mlx-lm for the modules whose names within a layer, or in the model, are keys."""
    m, _ = load_model(MODELS / model)
    parameters = dict(rank=rank, scale=scale, dropout=0.0, keys=keys)
    n_layers = len(m.layers) if layers < 0 else layers
    linear_to_lora_layers(m, n_layers, parameters, use_dora=dora)
    tensors = {}
    for n, w in tree_flatten(m.parameters()):
        if n.endswith((".lora_a", ".lora_b")):
            tensors[n] = factor(w.shape, dtype)
        elif dora and n.endswith(".m"):
            tensors[n] = w.astype(mx.float32) * mx.array(rng.integers(3, 6, w.shape).astype(np.float32) / 4)
    assert tensors, name
    config = dict(fine_tune_type="dora" if dora else "lora", num_layers=n_layers, lora_parameters=parameters)
    return write(name, config, tensors), tensors


def as_peft(tensors, hf_name=lambda n: n, embeddings=()):
    """The same factors by PEFT's names."""
    out = {}
    for n, w in tensors.items():
        module, kind = n.rsplit(".", 1)
        name = f"base_model.model.{hf_name(module)}"
        if kind == "m":
            out[f"{name}.lora_magnitude_vector"] = w
        elif module in embeddings:
            out[f"{name}.lora_embedding_{'B' if kind == 'lora_b' else 'A'}"] = w.T
        else:
            out[f"{name}.lora_{kind[-1].upper()}.weight"] = w.T
    return out


def peft_config(**more):
    return dict(peft_type="LORA", task_type="CAUSAL_LM", bias="none", fan_in_fan_out=False, use_dora=False,
                use_rslora=False, target_modules=["q_proj"], modules_to_save=None, rank_pattern={}, alpha_pattern={}) | more


def main():
    shutil.rmtree(ADAPTERS, ignore_errors=True)
    q4 = dict(q_bits=4, q_group_size=32)

    # mlx-lm: dense, quantized, in halves, experts, a tied table
    folder, two = lora("f16_bias", "lora_f16", ["self_attn.q_proj", "mlp.down_proj"])
    fused = fuse("f16_bias", folder)
    case("f16_bias", "lora_f16", fused)
    case("f16_bias", "lora_f16", fuse("f16_bias", folder, q4), dict(quantize=True, **q4))
    folder, _ = lora(TINY_CHAT, "lora_quantized", ["self_attn.v_proj", "mlp.up_proj"], layers=1)
    case(TINY_CHAT, "lora_quantized", fuse(TINY_CHAT, folder))
    case(TINY_CHAT, "lora_quantized", fuse(TINY_CHAT, folder, dequantize=True), dict(dequantize=True))
    folder, _ = lora("llama_mxfp8", "lora_mxfp8", ["self_attn.o_proj"], layers=1)
    case("llama_mxfp8", "lora_mxfp8", fuse("llama_mxfp8", folder))
    folder, _ = lora("mixtral_bf16", "lora_experts", ["block_sparse_moe.switch_mlp.up_proj", "block_sparse_moe.gate"],
                     rank=2, layers=1, dtype=mx.bfloat16)
    case("mixtral_bf16", "lora_experts", fuse("mixtral_bf16", folder))
    folder, table = lora("qwen3_tied_bf16", "lora_table", ["model.embed_tokens", "self_attn.k_proj"], layers=1)
    tied = fuse("qwen3_tied_bf16", folder)
    case("qwen3_tied_bf16", "lora_table", tied)
    dora_folder, dora = lora("f32", "dora_f32", ["self_attn.q_proj", "mlp.gate_proj"], dora=True, layers=1)
    by_dora = fuse("f32", dora_folder)
    changed = [n.replace(".lora_a", ".weight") for n in dora if n.endswith(".lora_a")]
    case("f32", "dora_f32", by_dora, dora=changed)

    # whole tensors
    m, _ = load_model(MODELS / "f16_bias")
    weights = dict(tree_flatten(m.parameters()))
    whole = {n: (factor(weights[n].shape) * 8).astype(mx.float16)
             for n in weights if "layers.0.self_attn.o_proj" in n or n.endswith("input_layernorm.weight")}
    folder = write("full_f16", dict(fine_tune_type="full", num_layers=1), whole)
    case("f16_bias", "full_f16", fuse("f16_bias", folder))

    # PEFT: the same factors, as alpha / r, alpha / sqrt(r), and by patterns
    same = as_peft(two)
    file = "adapter_model.safetensors"
    write("peft_alpha", peft_config(r=4, lora_alpha=8), same, file)
    write("peft_rslora", peft_config(r=4, lora_alpha=4, use_rslora=True), same, file)
    down = {n for n in same if "down_proj" in n}
    narrower = {n: w for n, w in same.items() if n not in down}
    narrower |= {n: mx.concatenate([same[n], mx.zeros_like(same[n])], axis=0 if "lora_A" in n else 1) for n in down}
    write("peft_patterns", peft_config(r=4, lora_alpha=8, rank_pattern={"mlp.down_proj": 8},
                                       alpha_pattern={"down_proj": 16}, fan_in_fan_out=True), narrower, file)
    for name in ("peft_alpha", "peft_rslora", "peft_patterns"):
        case("f16_bias", name, fused)
    write("peft_table", peft_config(r=4, lora_alpha=8), as_peft(table, embeddings=["model.embed_tokens"]), file)
    case("qwen3_tied_bf16", "peft_table", tied)
    write("peft_dora", peft_config(r=4, lora_alpha=8, use_dora=True), as_peft(dora), file)
    case("f32", "peft_dora", by_dora, dora=changed)

    # PEFT: one expert of a model that has a tensor for each, and tensors saved whole
    m, _ = load_model(MODELS / "mixtral_hf_f16")
    weights = dict(tree_flatten(m.parameters()))
    stack = "model.layers.1.block_sparse_moe.switch_mlp.down_proj.weight"
    n_experts, rows, cols = weights[stack].shape
    a, b = factor((2, cols)), factor((rows, 2))
    expert = "base_model.model.model.layers.1.block_sparse_moe.experts.2.w2"
    norm, saved = "model.norm.weight", factor(weights["model.norm.weight"].shape, mx.float16)
    write("peft_expert", peft_config(r=2, lora_alpha=2, modules_to_save=["norm"]),
          {f"{expert}.lora_A.weight": a, f"{expert}.lora_B.weight": b, "base_model.model.model.norm.weight": saved}, file)
    one = mx.zeros((n_experts, 1, 1)).at[2].add(1) * (b @ a)
    weights[stack] = weights[stack] + one.astype(mx.float16)
    weights[norm] = saved
    case("mixtral_hf_f16", "peft_expert", weights)

    head = dict(made_by="make_adapters.py", mlx=mx.__version__, mlx_lm=mlx_lm.__version__)
    rows = []
    for c in cases:
        tensors = c.pop("tensors")
        lines = ",\n".join(f"   {json.dumps(n)}: {json.dumps(d)}" for n, d in tensors.items())
        rows.append(f"  {json.dumps(c)[:-1]}, \"tensors\": {{\n{lines}}}}}")
    text = json.dumps(head, indent=1)[:-2] + ',\n "cases": [\n' + ",\n".join(rows) + "\n ]\n}\n"
    (HERE / "fixtures" / "adapters.json").write_text(text)
    mx.save_safetensors(str(HERE / "fixtures" / "dora.safetensors"), dora_tensors)


if __name__ == "__main__":
    main()
