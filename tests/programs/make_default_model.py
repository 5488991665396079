#!/usr/bin/env python3
"""Records what mlx-lm answers with the imported default model: tests/programs/fixtures/default_model.json.

    pip install "mlx[cpu]==0.32.4" mlx-lm==0.32.2
    python tests/programs/make_default_model.py models/SmolLM2-135M-Instruct-4bit

The folder is the one `mlxctl import-gguf` makes, loaded by mlx_lm.load itself, so this is also the check that the
importer's folder is one that mlx-lm takes. Scales, biases and norms are then cast to float32: with them MLX
dequantizes and computes in float32. 32 greedy tokens for each of five chats, with the margin between the two best
logits in units of the row's standard deviation. Never needed to run the tests.
"""
import json
import sys
from pathlib import Path

import mlx.core as mx
import mlx_lm
from mlx.utils import tree_map
from mlx_lm.models.cache import make_prompt_cache

OUT = Path(__file__).resolve().parent / "fixtures" / "default_model.json"
CHATS = [
    "What is the capital of France?",
    "Write a haiku about the sea.",
    "Name a famous painter.",
    "What is the largest planet?",
    "Translate to German: good morning",
]
N = 32


def main():
    model, tok = mlx_lm.load(sys.argv[1])
    model.update(tree_map(lambda p: p.astype(mx.float32) if mx.issubdtype(p.dtype, mx.floating) else p, model.parameters()))
    cases = []
    for chat in CHATS:
        ids = tok.apply_chat_template([{"role": "user", "content": chat}], add_generation_prompt=True)
        cache = make_prompt_cache(model)
        row = model(mx.array([ids]), cache=cache)[0, -1]
        greedy, margins = [], []
        for _ in range(N):
            assert row.dtype == mx.float32
            top = mx.sort(row)[-2:]
            margins.append(float((top[1] - top[0]) / mx.std(row)))
            greedy.append(int(mx.argmax(row)))
            row = model(mx.array([greedy[-1:]]), cache=cache)[0, -1]
        cases.append({"prompt": chat, "prompt_ids": list(ids), "greedy": greedy, "least_margin": min(margins), "text": tok.decode(greedy)})
        print(chat, "->", cases[-1]["text"], min(margins))
    doc = {"made_by": f"make_default_model.py, mlx {mx.__version__}, mlx-lm {mlx_lm.__version__}, CPU, float32", "cases": cases}
    OUT.write_text(json.dumps(doc, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
