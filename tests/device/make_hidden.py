#!/usr/bin/env python3
"""Makes hidden.safetensors: what mlx-lm's inner model (embedding, layers, last norm; no head) gives for prompts of the
tiny checkpoints in tests/model/models.

    python make_hidden.py

Run by hand, with mlx and mlx-lm installed. The reference is float32, as in tests/model/make_models.py: weights are
dequantized, or cast, before the model runs. "NAME/CASE" holds [n, hidden_size] for that case of NAME/expected.json.
"""

import json
import sys
from pathlib import Path

import mlx.core as mx
from mlx_lm.utils import load_model

HERE = Path(__file__).resolve().parent
MODELS = HERE.parent / "model" / "models"
sys.path.insert(0, str(HERE.parent / "model"))
from checkpoint_layouts import dequantize  # noqa: E402

# One of each way a program ends: norms with and without offset and bias, tied and own heads, capped and scaled logits,
# states beside keys and values, experts, a wrapped text model.
NAMES = ["f32", "q4_g32", "cohere_bias_f32", "gemma2_q4", "gemma3_mixed", "gpt_oss_f32", "granite_bf16", "lfm2_bf16",
         "qwen3_5_bf16", "qwen3_moe_q4", "starcoder2_bf16"]


def inner(model):
    while hasattr(model, "language_model"):
        model = model.language_model
    return model.model


def main():
    mx.set_default_device(mx.cpu)
    out = {}
    for name in NAMES:
        model, _ = load_model(MODELS / name)
        dequantize(model)
        for case in json.loads((MODELS / name / "expected.json").read_text())["cases"]:
            h = inner(model)(mx.array([case["ids"]]))
            out[f"{name}/{case['name']}"] = h[0].astype(mx.float32)
        print(name, {k: v.shape for k, v in out.items() if k.startswith(name + "/")})
    mx.save_safetensors(str(HERE / "hidden.safetensors"), out, metadata={"format": "mlx"})


if __name__ == "__main__":
    main()
