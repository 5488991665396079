"""How the checkpoints of make_models.py are filled, quantized and laid out.

Weights are named and shaped as mlx-lm's module tree has them; a layout turns these into what another writer puts into
the file: Hugging Face's names, stacked or interleaved experts, norms stored without their one, tensors of parts that
a text model ignores. The inverse is mlx-lm's own `sanitize`: make_models.py loads each file with mlx-lm and compares.
"""

import math
import re

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.models import switch_layers

# (name pattern, centre, spread): what mlx initialises to a constant, around its neutral value. The first match counts.
# The spread of matrices is chosen by shape below.
SPECIAL = [
    (r"norm(_[12])?\.weight$", 1.0, 0.2),
    (r"\.layer_scalar$", 0.9, 0.2),
    (r"\.per_expert_scale$", 1.0, 0.3),
    (r"\.router\.scale$", 1.0, 0.3),
    (r"\.sinks$", 0.5, 1.0),
    (r"\.A_log$", -1.5, 1.0),  # a state that remembers for some positions, and one that forgets
    (r"\.dt_bias$", -0.5, 0.5),
    (r"bias$", 0.0, 0.3),
]


def random_weights(model, seed, special=()):
    """Weights at which every layer matters: projections keep the size of their input, logits spread by about 2."""
    rng = np.random.default_rng(seed)
    out = {}
    for name, p in tree_flatten(model.parameters()):
        w = rng.standard_normal(p.shape)
        for pattern, centre, spread in [*special, *SPECIAL]:
            if re.search(pattern, name):
                w = centre + spread * w
                break
        else:
            if p.ndim == 1:
                w = 0.3 * w
            elif "embed_tokens" in name or "lm_head" in name:
                w = w * 2 / math.sqrt(p.shape[-1])
            elif "conv" in name:  # [channels, taps, 1]
                w = w * 1.4 / math.sqrt(p.shape[1])
            else:
                w = w * 1.4 / math.sqrt(p.shape[-1])
        out[name] = mx.array(w.astype(np.float32))
    return out


def quantize(model, quant, overrides, only):
    """Quantizes in place what divides into groups; returns config.json's "quantization"."""
    config = dict(group_size=quant["group_size"], bits=quant["bits"], mode=quant.get("mode", "affine"))
    predicate = getattr(model, "quant_predicate", None)

    def choose(path, module):
        if not hasattr(module, "to_quantized"):
            return False
        if path in overrides:
            config[path] = overrides[path]
            return overrides[path]
        if only and not re.search(only, path):
            return False
        if module.weight.shape[-1] % quant["group_size"] != 0:
            return False
        wanted = predicate(path, module) if predicate else True
        if isinstance(wanted, dict):
            config[path] = wanted
        return wanted

    nn.quantize(model, quant["group_size"], quant["bits"], mode=config["mode"], class_predicate=choose)
    unused = set(overrides) - set(config)
    assert not unused, f"no such layers: {unused}"
    return config


def dequantize(model):
    """Replaces quantized layers by plain ones of float32, and casts the rest."""
    plain = []
    for name, m in model.named_modules():
        if not hasattr(m, "bits") or "scales" not in m:
            continue
        scales = m.scales.astype(mx.float32) if m.mode == "affine" else m.scales
        biases = m.biases.astype(mx.float32) if m.mode == "affine" else None
        w = mx.dequantize(m.weight, scales, biases, m.group_size, m.bits, mode=m.mode, dtype=mx.float32)
        if isinstance(m, nn.QuantizedEmbedding):
            new = nn.Embedding(1, 1)
        elif isinstance(m, nn.QuantizedLinear):
            new = nn.Linear(1, 1, bias="bias" in m)
        else:
            new = switch_layers.SwitchLinear(1, 1, 1, bias="bias" in m)
        new.weight = w
        if "bias" in m:
            new.bias = m.bias
        plain.append((name, new))
    model.update_modules(tree_unflatten(plain))
    model.apply(lambda w: w.astype(mx.float32))
    model.eval()


# ---- layouts: weights of mlx-lm's names -> tensors of the file ----


def split_experts(weights, prefix, names):
    """Stacked experts under `prefix`.switch_mlp, each apart: `prefix`.experts.N.<name>."""
    out = {}
    for name, w in weights.items():
        m = re.fullmatch(rf"(.*\.{prefix})\.switch_mlp\.(\w+)\.(\w+)", name)
        if not m:
            out[name] = w
            continue
        for e in range(w.shape[0]):
            out[f"{m[1]}.experts.{e}.{names[m[2]]}.{m[3]}"] = mx.contiguous(w[e])
    return out


def mixtral_hf(weights, rng):
    return split_experts(weights, "block_sparse_moe", dict(gate_proj="w1", down_proj="w2", up_proj="w3"))


def qwen3_moe_hf(weights, rng):
    return split_experts(weights, "mlp", dict(gate_proj="gate_proj", down_proj="down_proj", up_proj="up_proj"))


def stray(rng, like, **shapes):
    """Tensors of parts that a text model leaves alone; dots are written as two underscores."""
    dtype = next(w.dtype for w in like.values() if mx.issubdtype(w.dtype, mx.floating))
    return {
        name.replace("__", "."): mx.array(rng.standard_normal(shape).astype(np.float32)).astype(dtype)
        for name, shape in shapes.items()
    }


def with_vision(weights, rng):
    """mlx-lm's names, with the vision tensors that its converter leaves in."""
    return weights | stray(
        rng,
        weights,
        vision_tower__vision_model__encoder__layers__0__mlp__fc1__weight=(4, 4),
        multi_modal_projector__mm_soft_emb_norm__weight=(4,),
    )


def mistral3_hf(weights, rng):
    out = {}
    for name, w in weights.items():
        name = name.removeprefix("language_model.")
        out[f"model.language_model.{name.removeprefix('model.')}" if name.startswith("model.") else name] = w
    return out | stray(
        rng,
        weights,
        model__vision_tower__ln_pre__weight=(4,),
        model__multi_modal_projector__linear_1__weight=(4, 4),
    )


def gpt_oss_hf(weights, rng):
    """Gates and ups of mxfp4 in alternating rows, blocks of 16 bytes."""
    out = {}

    def blocks(w):
        return w.view(mx.uint8).reshape(*w.shape[:-1], -1, 16)

    for name, w in weights.items():
        m = re.fullmatch(r"(.*\.experts)\.(gate|up|down)_proj\.(\w+)", name)
        if not m:
            out[name] = w
            continue
        end = dict(weight="_blocks", scales="_scales", bias="_bias")[m[3]]
        if m[2] == "down":
            out[f"{m[1]}.down_proj{end}"] = blocks(w) if m[3] == "weight" else w
        elif m[2] == "gate":
            up = weights[name.replace("gate_proj", "up_proj")]
            both = mx.stack([w, up], axis=2).reshape(w.shape[0], -1, *w.shape[2:])
            out[f"{m[1]}.gate_up_proj{end}"] = blocks(both) if m[3] == "weight" else both
    return out


def lfm2_hf(weights, rng):
    return {n: mx.contiguous(w.swapaxes(1, 2)) if n.endswith("conv.conv.weight") else w for n, w in weights.items()}


def qwen3_5_plain(weights, rng):
    return {n.removeprefix("language_model."): w for n, w in weights.items()}


def qwen3_5_hf(weights, rng):
    """Norms but the gated ones lose their one; experts' gates and ups are stacked in one tensor."""
    out = {}
    for original, w in weights.items():
        name = original.removeprefix("language_model.")
        if name.startswith("model."):
            name = "model.language_model." + name.removeprefix("model.")
        if name.endswith("conv1d.weight"):
            w = mx.contiguous(w.swapaxes(1, 2))
        elif name.endswith("norm.weight") and not name.endswith("linear_attn.norm.weight"):
            w = w - 1
        m = re.fullmatch(r"(.*\.mlp)\.switch_mlp\.(gate|up|down)_proj\.weight", name)
        if not m:
            out[name] = w
        elif m[2] == "down":
            out[f"{m[1]}.experts.down_proj"] = w
        elif m[2] == "gate":
            up = weights[original.replace("gate_proj", "up_proj")]
            out[f"{m[1]}.experts.gate_up_proj"] = mx.concatenate([w, up], axis=1)
    return out | stray(
        rng,
        weights,
        model__visual__patch_embed__proj__weight=(4, 3, 1, 2, 2),
        model__visual__blocks__0__attn__qkv__bias=(12,),
        mtp__fc__weight=(4, 8),
        mtp__layers__0__input_layernorm__weight=(4,),
        mtp__norm__weight=(4,),
    )


def gemma4_hf(weights, rng):
    out = {}
    for original, w in weights.items():
        name = "model.language_model." + original.removeprefix("language_model.model.")
        m = re.fullmatch(r"(.*\.experts)\.switch_glu\.(gate|up|down)_proj\.weight", name)
        if not m:
            out[name] = w
        elif m[2] == "down":
            out[f"{m[1]}.down_proj"] = w
        elif m[2] == "gate":
            out[f"{m[1]}.gate_up_proj"] = mx.concatenate([w, weights[original.replace("gate_proj", "up_proj")]], axis=1)
        k_proj = name.replace("q_proj", "k_proj")
        if k_proj != name and original.replace("q_proj", "k_proj") not in weights:
            attention = k_proj.removesuffix("k_proj.weight").replace(".", "__")
            out |= stray(rng, weights, **{f"{attention}{n}__weight": (4, 4) for n in ("k_proj", "v_proj")})
            out |= stray(rng, weights, **{f"{attention}k_norm__weight": (4,)})
    return out | stray(
        rng,
        weights,
        model__vision_tower__encoder__layers__0__mlp__gate_proj__weight=(4, 4),
        model__audio_tower__output_proj__bias=(4,),
        model__embed_vision__embedding_projection__weight=(4, 4),
    )


LAYOUTS = {
    f.__name__: f
    for f in (
        mixtral_hf,
        qwen3_moe_hf,
        with_vision,
        mistral3_hf,
        gpt_oss_hf,
        lfm2_hf,
        qwen3_5_plain,
        qwen3_5_hf,
        gemma4_hf,
    )
}
