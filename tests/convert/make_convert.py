#!/usr/bin/env python3
"""Makes fixtures/convert.json: what mlx_lm.convert makes of tiny models.

    python make_convert.py

Run by hand, with mlx and mlx-lm installed (the versions used are in the file). The models are those of ../model/models and
../runner/fixtures. Each case says how convert() was called, and of each tensor it wrote type, shape and the first 12
digits of the SHA-256 of its bytes; and what config.json says of the quantization. The functions are mlx-lm's own; only loading
a tokenizer and writing files are left out.
"""

import hashlib
import importlib
import json
from pathlib import Path

import mlx.core as mx
import mlx_lm
import numpy as np
from mlx.utils import tree_flatten, tree_map
from mlx_lm.utils import dequantize_model, load_model

convert_module = importlib.import_module("mlx_lm.convert")  # mlx_lm.convert is the function

HERE = Path(__file__).resolve().parent
MODELS = HERE.parent / "model" / "models"
NAMES = {
    mx.float32: "F32", mx.float16: "F16", mx.bfloat16: "BF16", mx.uint32: "U32", mx.uint8: "U8",
}

FLOATS = (mx.float32, mx.float16, mx.bfloat16)
TINY_CHAT = "../../runner/fixtures/tiny_chat"
Q4 = dict(q_bits=4, q_group_size=32)

CASES = (
    [("f16_bias", dict(quantize=True, **o)) for o in (
        dict(q_bits=2, q_group_size=32), dict(q_bits=3, q_group_size=64), dict(), dict(q_bits=5, q_group_size=32),
        dict(q_bits=6, q_group_size=32), dict(q_bits=8, q_group_size=32), dict(q_mode="mxfp4"), dict(q_mode="nvfp4"),
        dict(q_mode="mxfp8"), dict(Q4, dtype="float16"), dict(Q4, dtype="bfloat16"), dict(Q4, dtype="float32"),
    )]
    # Quantized already.
    + [(TINY_CHAT, dict(quantize=True, q_bits=5, q_group_size=64)), (TINY_CHAT, dict(quantize=True, q_mode="mxfp4")),
       (TINY_CHAT, dict(quantize=True, q_bits=3, q_group_size=32, dtype="bfloat16")),
       ("q4_g128", dict(quantize=True, q_bits=2, q_group_size=128)), ("llama_mxfp8", dict(quantize=True, **Q4)), ("gpt_oss_hf_mxfp4", dict(quantize=True, q_bits=6, q_group_size=32)),
       ("mixtral_hf_q4", dict(quantize=True, q_bits=8, q_group_size=32)),
       ("gpt_oss_q4", dict(quantize=True, q_mode="nvfp4")), ("cohere_q4", dict(quantize=True, q_mode="mxfp4"))]
    + [(name, dict(quantize=True, q_bits=5, q_group_size=32)) for name in (
        "cohere_q8", "gemma2_q4", "gemma3_q4", "gemma4_q4", "gemma4_moe_q4", "gpt_oss_q4", "gpt_oss_mixed", "granite_q4",
        "lfm2_q4", "ministral3_q4", "mistral3_mistral_q8", "mixtral_q4", "phi3_q4", "qwen2_q4", "qwen3_q4", "qwen3_5_q4",
        "qwen3_5_moe_q4", "qwen3_moe_q4", "starcoder2_q4")]
    + [(TINY_CHAT, dict(dequantize=True))]
    + [(name, dict(quantize=True, **Q4)) for name in (
        "bf16_llama3", "bf16_shards", "cohere_bf16", "cohere_bias_f32", "f16_bias", "f32", "gemma2_bf16", "gemma3_bf16",
        "gemma3_text_bf16", "gemma3_text_untied_f16", "gemma4_bf16", "gemma4_hf_bf16", "gemma4_text_k_eq_v_f16",
        "gemma4_text_moe_f16", "gemma4_hf_moe_f16", "gpt_oss_f16", "gpt_oss_f32", "granite_bf16", "granite_bias_f32",
        "lfm2_bf16", "lfm2_bias_f32", "lfm2_hf_f16", "ministral3_bf16", "mistral3_bf16", "mistral3_hf_f16", "mistral_bf16",
        "mixtral_bf16", "mixtral_hf_f16", "phi3_f32", "phi3_longrope_bf16", "qwen2_tied_bf16", "qwen2_untied_f32",
        "qwen3_5_bf16", "qwen3_5_hf_bf16", "qwen3_5_moe_bf16", "qwen3_5_moe_hf_f16", "qwen3_moe_bf16", "qwen3_moe_hf_f16",
        "qwen3_tied_bf16", "starcoder2_bf16", "starcoder2_untied_f32",
    )]
    + [("granite_bf16", dict(quantize=True, q_mode="nvfp4")), ("qwen3_moe_bf16", dict(quantize=True, q_mode="mxfp4"))]
    + [(name, dict(dequantize=True)) for name in (
        "q2_g32", "q3_g64", "q5_g32", "q6_g64", "q8_g32", "gemma3_q4", "gpt_oss_mxfp4", "gpt_oss_hf_mxfp4", "lfm2_mixed",
        "llama_modes_mixed", "llama_mxfp8", "llama_nvfp4", "mixtral_hf_q4", "qwen3_5_moe_q4",
    )]
    + [("q4_g32", dict(dequantize=True, dtype=t)) for t in ("float16", "bfloat16", "float32")]
    + [("q4_g32", dict(dtype="float16")), ("qwen3_5_hf_bf16", dict(dtype="float16")), ("gpt_oss_hf_mxfp4", dict(dtype="float32"))]
)


def digest(w):
    data = np.array(w.view(mx.uint16) if w.dtype == mx.bfloat16 else w)
    sha256 = hashlib.sha256(np.ascontiguousarray(data).tobytes()).hexdigest()
    return f"{NAMES[w.dtype]} {list(w.shape)} {sha256[:12]}"


def narrower_gates(model):
    """Groups of 32 for the modules that a model quantizes to 8 bits in groups of 64, where 64 does not divide their columns: there
    mlx-lm fails, and mlxr takes 32."""
    predicate = getattr(model, "quant_predicate", None)

    def narrower(path, module):
        params = predicate(path, module)
        if isinstance(params, dict) and module.weight.shape[-1] % params["group_size"]:
            params = dict(params, group_size=32)
        return params

    if predicate is not None:
        type(model).quant_predicate = property(lambda _: narrower)


def cast(model, dtype):
    """As convert() itself does, which comes too late for scales that are used before."""
    if dtype:
        parameters = tree_map(lambda w: w.astype(getattr(mx, dtype)) if w.dtype in FLOATS else w, model.parameters())
        model.update(parameters)


def convert(folder, options):
    """The tensors and the config that mlx_lm.convert.convert would write."""
    written, before = [], {}

    def load(path, **_):
        model, config = load_model(Path(path), lazy=True)
        model.__class__ = type("Model", (type(model),), {})
        narrower_gates(model)
        if options.get("quantize") and config.pop("quantization", None):
            # mlx-lm would leave alone what is quantized; mlxr quantizes that anew.
            config.pop("quantization_config", None)
            cast(model, options.get("dtype"))
            before.update(tree_flatten(model.parameters()))
            model = dequantize_model(model)
        return model, None, config

    convert_module.load = load
    convert_module.save = lambda dst, src, model, tokenizer, config: written.append((model, config))
    convert_module.convert(str(folder), mlx_path="/nonexistent/model", **options)
    model, config = written[0]
    weights = dict(tree_flatten(model.parameters()))
    for name in [n.removesuffix(".scales") for n in weights if n.endswith(".scales")]:
        # What was quantized so before stays as it was.
        names = [n for n in (f"{name}.{part}" for part in ("weight", "scales", "biases")) if n in weights]
        if all(n in before and (before[n].shape, before[n].dtype) == (weights[n].shape, weights[n].dtype) for n in names):
            weights.update({n: before[n] for n in names})
    return weights, config


def main():
    cases = []
    for name, options in CASES:
        weights, config = convert(MODELS / name, options)
        case = dict(model=f"tests/model/models/{name}" if "/" not in name else TINY_CHAT.replace("../..", "tests"),
                    options=options, quantization=config.get("quantization"))
        case["tensors"] = {n: digest(w) for n, w in sorted(weights.items())}
        cases.append(case)
        print(name, options, len(case["tensors"]))
    out = dict(made_by="make_convert.py", mlx=mx.__version__, mlx_lm=mlx_lm.__version__)
    text = json.dumps(out, indent=1)[:-2] + ',\n "cases": [\n'
    rows = []
    for c in cases:
        tensors = c.pop("tensors")
        lines = ",\n".join(f"   {json.dumps(n)}: {json.dumps(d)}" for n, d in tensors.items())
        rows.append(f"  {json.dumps(c)[:-1]}, \"tensors\": {{\n{lines}}}}}")
    (HERE / "fixtures" / "convert.json").write_text(text + ",\n".join(rows) + "\n ]\n}\n")


if __name__ == "__main__":
    main()
