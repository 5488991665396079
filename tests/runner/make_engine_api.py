#!/usr/bin/env python3
"""Makes fixtures/engine_api.json: what mlx-lm says in float32 about texts on fixtures/tiny_chat: log-likelihoods of tokens,
embeddings (mean and last of the inner model's states, of length 1), and perplexities of fixtures/engine_api.txt over windows
as `mlxctl perplexity` cuts them, with their standard error.

    pip install "mlx[cpu]==0.32.4" mlx-lm==0.32.2 tokenizers==0.23.3
    python tests/runner/make_engine_api.py

Never needed to run the tests.
"""

import json
import math
from pathlib import Path

import mlx.core as mx
import mlx_lm
from mlx.utils import tree_map
from mlx_lm.utils import load_model
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent / "fixtures"
TEXTS = ["Hello, the other hill.", "a", "Grüße, 世界! 🙂", "The the the the the the the the the the the the the the the the"]
WINDOWS = [(64, 64), (64, 16), (100, 37)]


def losses(model, ids):
    """-log p of each token after the first."""
    logits = model(mx.array([ids]))[0, :-1]
    logp = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    return (-mx.take_along_axis(logp, mx.array(ids[1:])[:, None], axis=-1)[:, 0]).tolist()


def perplexity(model, ids, context, stride):
    scored, end = [], 0
    for begin in range(0, len(ids), stride):
        window = ids[begin : begin + context]
        first = max(end - begin, 1)
        end = begin + len(window)
        if first < len(window):
            scored += losses(model, window)[first - 1 :]
        if end == len(ids):
            break
    mean = sum(scored) / len(scored)
    variance = sum((x - mean) ** 2 for x in scored) / (len(scored) - 1)
    value = math.exp(mean)
    return dict(context=context, stride=stride, tokens=len(scored), perplexity=value,
                standard_error=value * math.sqrt(variance / len(scored)))


def unit(v):
    return (v / mx.sqrt((v * v).sum())).tolist()


def main():
    mx.set_default_device(mx.cpu)
    model, _ = load_model(HERE / "tiny_chat")
    model.update(tree_map(lambda p: p.astype(mx.float32) if p.dtype == mx.float16 else p, model.parameters()))
    tok = Tokenizer.from_file(str(HERE / "tiny_chat" / "tokenizer.json"))
    cases = []
    for text in TEXTS:
        ids = tok.encode(text).ids
        h = model.model(mx.array([ids]))[0]
        cases.append(dict(text=text, ids=ids, logprobs=[0.0] + [-x for x in losses(model, ids)] if len(ids) > 1 else [0.0],
                          mean=unit(h.mean(axis=0)), last=unit(h[-1]), last_16=unit(h[-1, :16])))
    ids = tok.encode((HERE / "engine_api.txt").read_text()).ids
    windows = [perplexity(model, ids, *w) for w in WINDOWS]
    print(len(ids), windows)
    doc = dict(made_by=f"make_engine_api.py with mlx {mx.__version__}, mlx-lm {mlx_lm.__version__}, float32", cases=cases,
               perplexity=windows)
    (HERE / "engine_api.json").write_text(json.dumps(doc, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
