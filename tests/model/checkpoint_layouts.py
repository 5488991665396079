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


def quantize(model, quant, overrides):
    """Quantizes in place what divides into groups; returns config.json's "quantization"."""
    config = dict(group_size=quant["group_size"], bits=quant["bits"], mode=quant.get("mode", "affine"))
    predicate = getattr(model, "quant_predicate", None)

    def choose(path, module):
        if not hasattr(module, "to_quantized"):
            return False
        if path in overrides:
            config[path] = overrides[path]
            return overrides[path]
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


LAYOUTS = {f.__name__: f for f in (mixtral_hf, qwen3_moe_hf, with_vision)}
