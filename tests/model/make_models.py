#!/usr/bin/env python3
"""Makes the tiny llama-family checkpoints in models/ and what mlx-lm says about them.

    python make_models.py [--out DIR] [--only NAME]

Run by hand, with mlx and mlx-lm installed (the versions used are in each expected.json). Everything is seeded: the
same versions give the same files. Each folder has

    config.json, *.safetensors   the checkpoint, as mlx-lm would write it
    expected.json                how it was made; prompts; greedy continuations with the margin between the two best
                                 logits of each step
    expected.safetensors         float32 logits at all positions of each prompt, [n, vocab_size]

The reference is mlx-lm in float32: weights are dequantized, or cast, before the model runs. Prompts are drawn until no
step of a greedy continuation is near a tie, so that tokens may be compared exactly, and until the ids vary.
"""
import argparse
import datetime
import json
import math
import shutil
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx_lm
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.models import llama
from mlx_lm.models.cache import make_prompt_cache

HERE = Path(__file__).resolve().parent
N_GREEDY = 24
MIN_MARGIN = 0.02  # of the logits' standard deviation
MIN_DISTINCT = 6  # ids of a continuation: one that repeats itself proves little

DENSE = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
QUANT = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
LLAMA3 = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32
)

# name: (config over the defaults, dtype, quantization, other)
MODELS = {
    "f32": (DENSE | dict(tie_word_embeddings=False), "float32", None, {}),
    "f16_bias": (
        DENSE | dict(attention_bias=True, mlp_bias=True, num_key_value_heads=1, tie_word_embeddings=False),
        "float16",
        None,
        {},
    ),
    "bf16_llama3": (
        DENSE | dict(head_dim=16, rope_theta=500000.0, rope_scaling=LLAMA3, num_key_value_heads=4),
        "bfloat16",
        None,
        {},
    ),
    "bf16_shards": (DENSE | dict(num_hidden_layers=3, tie_word_embeddings=False), "bfloat16", None, dict(shards=3)),
    "bf16_linear": (
        DENSE | dict(rope_scaling=dict(type="linear", factor=4.0), rope_traditional=True),
        "bfloat16",
        None,
        {},
    ),
    "bf16_sliding": (
        DENSE
        | dict(
            num_hidden_layers=3,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            sliding_window=8,
        ),
        "bfloat16",
        None,
        {},
    ),
    "mistral_rope_parameters": (
        DENSE | dict(model_type="mistral", rope_theta=100000.0, tie_word_embeddings=False),
        "float16",
        None,
        dict(rope_parameters=True),
    ),
    "q2_g32": (QUANT, "float16", dict(bits=2, group_size=32), {}),
    "q3_g64": (QUANT | dict(intermediate_size=64, tie_word_embeddings=False), "bfloat16", dict(bits=3, group_size=64), {}),
    "q4_g32": (QUANT, "bfloat16", dict(bits=4, group_size=32), {}),
    "q4_g64_bias": (
        QUANT | dict(intermediate_size=128, attention_bias=True, tie_word_embeddings=False),
        "float16",
        dict(bits=4, group_size=64),
        {},
    ),
    "q4_g128": (QUANT | dict(hidden_size=128, intermediate_size=128, num_attention_heads=8, head_dim=8),
                "bfloat16", dict(bits=4, group_size=128), {}),
    "q5_g32": (QUANT, "float32", dict(bits=5, group_size=32), {}),
    "q6_g64": (QUANT | dict(intermediate_size=64), "bfloat16", dict(bits=6, group_size=64), {}),
    "q8_g32": (QUANT | dict(intermediate_size=64, num_key_value_heads=4), "float16", dict(bits=8, group_size=32), {}),
    "mixed": (
        QUANT | dict(tie_word_embeddings=False),
        "bfloat16",
        dict(bits=4, group_size=32),
        dict(
            overrides={
                "model.embed_tokens": dict(bits=6, group_size=64),
                "model.layers.0.self_attn.v_proj": dict(bits=8, group_size=64),
                "model.layers.0.mlp.down_proj": False,
                "model.layers.1.mlp.gate_proj": dict(bits=3, group_size=32),
                "lm_head": dict(bits=8, group_size=32),
            }
        ),
    ),
}


def make_config(over):
    return (
        dict(
            model_type="llama",
            hidden_act="silu",
            vocab_size=160,
            max_position_embeddings=256,
            rms_norm_eps=1e-5,
            rope_theta=10000.0,
            tie_word_embeddings=True,
        )
        | over
    )


def random_weights(model, seed):
    """Weights at which every layer matters: projections keep the size of their input, logits spread by about 2."""
    rng = np.random.default_rng(seed)
    out = []
    for name, p in tree_flatten(model.parameters()):
        w = rng.standard_normal(p.shape)
        if name.endswith("norm.weight"):
            w = 1 + 0.2 * w
        elif p.ndim == 1:
            w = 0.3 * w
        elif "embed_tokens" in name:
            w = w * 2 / math.sqrt(p.shape[-1])
        else:
            w = w * (2 if "lm_head" in name else 1.4) / math.sqrt(p.shape[-1])
        out.append((name, mx.array(w.astype(np.float32))))
    return out


def quantize(model, quant, overrides):
    """Quantizes in place what divides into groups; returns config.json's "quantization"."""
    config = dict(group_size=quant["group_size"], bits=quant["bits"], mode="affine")

    def choose(path, module):
        if not hasattr(module, "to_quantized"):
            return False
        if path in overrides:
            config[path] = overrides[path]
            return overrides[path]
        return module.weight.shape[-1] % quant["group_size"] == 0

    nn.quantize(model, group_size=quant["group_size"], bits=quant["bits"], class_predicate=choose)
    return config


def float32_reference(args, weights, quantization):
    """A model of plain float32 layers with the checkpoint's values."""
    plain = {}
    for name, w in weights.items():
        if name.endswith((".scales", ".biases")):
            continue
        module = name.removesuffix(".weight")
        if f"{module}.scales" in weights:
            q = quantization.get(module) or quantization
            w = mx.dequantize(
                w,
                weights[f"{module}.scales"].astype(mx.float32),
                weights[f"{module}.biases"].astype(mx.float32),
                group_size=q["group_size"],
                bits=q["bits"],
            )
        plain[name] = w.astype(mx.float32)
    model = llama.Model(args)
    model.load_weights(list(plain.items()), strict=True)
    return model


def greedy(model, ids):
    """N_GREEDY ids through the cache, with the margins between the two best logits."""
    cache = make_prompt_cache(model)
    logits = model(mx.array([ids]), cache=cache)[0, -1]
    out, margins = [], []
    for _ in range(N_GREEDY):
        x = np.array(logits)
        top = np.argsort(-x)[:2]
        out.append(int(top[0]))
        margins.append(float(x[top[0]] - x[top[1]]))
        logits = model(mx.array([[out[-1]]]), cache=cache)[0, -1]
    return out, margins


def make(name, out):
    over, dtype, quant, other = MODELS[name]
    seed = 1000 + list(MODELS).index(name)
    config = make_config(over)
    args = llama.ModelArgs.from_dict(config)
    model = llama.Model(args)
    dtype = getattr(mx, dtype)
    model.load_weights([(n, w.astype(dtype)) for n, w in random_weights(model, seed)])
    quantization = quantize(model, quant, other.get("overrides", {})) if quant else None
    weights = dict(tree_flatten(model.parameters()))

    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if quantization:
        config["quantization"] = config["quantization_config"] = quantization
    if other.get("rope_parameters"):
        config["rope_parameters"] = dict(rope_theta=config.pop("rope_theta"), rope_type="default")
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    shards = other.get("shards", 1)
    names = sorted(weights)
    where = {}
    for i in range(shards):
        file = "model.safetensors" if shards == 1 else f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = names[len(names) * i // shards : len(names) * (i + 1) // shards]
        mx.save_safetensors(str(folder / file), {n: weights[n] for n in part}, metadata={"format": "mlx"})
        where |= dict.fromkeys(part, file)
    if shards > 1:
        total = sum(w.nbytes for w in weights.values())
        index = dict(metadata=dict(total_size=total), weight_map=where)
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")

    reference = float32_reference(args, weights, quantization)
    rng = np.random.default_rng(seed + 500)
    cases, logits = [], {}
    for n in (1, 7, 41):  # 41: more than one block of the cache
        ids = rng.integers(0, config["vocab_size"], n).tolist()
        cases.append(dict(name=f"len{n}", ids=ids))
        logits[f"len{n}"] = reference(mx.array([ids]))[0].astype(mx.float32)
    std = float(np.concatenate([np.array(v).ravel() for v in logits.values()]).std())
    continuations = []
    for n in (5, 29):  # 29 + 24 passes the border of a block
        while True:
            prompt = rng.integers(0, config["vocab_size"], n).tolist()
            ids, margins = greedy(reference, prompt)
            whole = np.array(reference(mx.array([prompt + ids]))[0]).argmax(-1)[n - 1 : -1].tolist()
            if min(margins) > MIN_MARGIN * std and whole == ids and len(set(ids)) >= MIN_DISTINCT:
                break
        continuations.append(dict(ids=prompt, next=ids, margins=[round(m, 4) for m in margins]))
    mx.save_safetensors(str(folder / "expected.safetensors"), logits, metadata={"format": "mlx"})
    doc = dict(
        made_by="tests/model/make_models.py",
        command=f"python make_models.py --only {name}",
        date=datetime.date.today().isoformat(),
        mlx=mx.__version__,
        mlx_lm=mlx_lm.__version__,
        reference="mlx-lm on the CPU, float32, weights dequantized",
        seed=seed,
        logit_std=std,
        cases=cases,
        greedy=continuations,
    )
    (folder / "expected.json").write_text(json.dumps(doc) + "\n")
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{name:26s} {size:8d} bytes  std {std:.2f}  distinct greedy ids {[len(set(c['next'])) for c in continuations]}")


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--out", default=str(HERE / "models"))
    ap.add_argument("--only", action="append")
    a = ap.parse_args()
    mx.set_default_device(mx.cpu)
    for name in MODELS:
        if not a.only or name in a.only:
            make(name, Path(a.out))


if __name__ == "__main__":
    main()
