#!/usr/bin/env python3
"""Makes the tiny checkpoints in models/ and what mlx-lm says about them.

    python make_models.py [--out DIR] [--only NAME]...      NAME may be a shell pattern

Run by hand, with mlx and mlx-lm installed (the versions used are in each expected.json). Everything is seeded: the
same versions give the same files. families_*.py list the checkpoints. Each folder has

    config.json, *.safetensors   the checkpoint, as mlx-lm or Hugging Face would write it
    expected.json                how it was made; prompts; greedy continuations with the margin between the two best
                                 logits of each step
    expected.safetensors         float32 logits at all positions of each prompt, [n, vocab_size]

The reference is mlx-lm in float32: it loads the files, weights are dequantized, or cast, before the model runs.
Prompts are drawn until no step of a greedy continuation is near a tie, so that tokens may be compared exactly, until
no router chooses between near equals, and until the ids vary. A checkpoint is only written when the whole prompt and
odd chunks through the cache agree, and when each of its tensors changes the logits.
"""

import argparse
import contextlib
import copy
import fnmatch
import json
import re
import shutil
from pathlib import Path

import mlx.core as mx
import mlx_lm
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.models import activations
from mlx_lm.models.base import create_causal_mask
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import _get_classes, load_model

from checkpoint_layouts import LAYOUTS, dequantize, quantize, random_weights
import families_llama, families_gemma, families_moe, families_hybrid  # each adds its families to MODELS
from families_table import MODELS, README

HERE = Path(__file__).resolve().parent
N_GREEDY = 24
MIN_MARGIN = 0.02  # of the logits' standard deviation
MIN_ROUTER_MARGIN = 3e-3  # of the router scores' standard deviation
MIN_DISTINCT = 6  # ids of a continuation: one that repeats itself proves little
MAX_CHUNK_DIFFERENCE = 1e-4  # of the logits' standard deviation
MAX_DRAWS = 50
MAX_SEEDS = 8
MIN_EFFECT = 0.01  # of the logits' standard deviation: what a shuffled tensor must change at least


# ---- the checkpoint ----


def save(folder, weights, n_shards):
    names = sorted(weights)
    where = {}
    for i in range(n_shards):
        file = "model.safetensors" if n_shards == 1 else f"model-{i + 1:05d}-of-{n_shards:05d}.safetensors"
        part = names[len(names) * i // n_shards : len(names) * (i + 1) // n_shards]
        mx.save_safetensors(str(folder / file), {n: weights[n] for n in part}, metadata={"format": "mlx"})
        where |= dict.fromkeys(part, file)
    if n_shards > 1:
        total = sum(w.nbytes for w in weights.values())
        index = dict(metadata=dict(total_size=total), weight_map=where)
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def write_checkpoint(m, folder):
    """Returns the weights by mlx-lm's names."""
    config = copy.deepcopy(m.config)
    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(copy.deepcopy(config | m.load_config)))
    dtype = getattr(mx, m.dtype)
    weights = random_weights(model, m.seed, m.special)
    for name in [n for n in weights if m.drop and re.search(m.drop, n)]:
        del weights[name]
    keep = {n for n in weights if m.keep_float32 and re.search(m.keep_float32, n)}
    model.load_weights([(n, w if n in keep else w.astype(dtype)) for n, w in weights.items()], strict=False)
    if m.quant:
        quantization = quantize(model, m.quant, m.overrides, m.quant_only)
        if m.hf_quantization:
            config["quantization_config"] = m.hf_quantization
        else:
            config["quantization"] = config["quantization_config"] = quantization
    weights = {n: w for n, w in tree_flatten(model.parameters()) if not (m.drop and re.search(m.drop, n))}

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=m.sort_keys) + "\n")
    laid_out = LAYOUTS[m.layout](weights, np.random.default_rng(m.seed + 250)) if m.layout else weights
    save(folder, laid_out, m.n_shards)
    return weights


# ---- the reference ----


def add_gemma2_windows(model, window):
    """Windows on even layers, as Hugging Face's gemma2 has them; mlx-lm's has none."""

    class Windowed(type(model.model)):
        def __call__(self, inputs, cache=None):
            h = self.embed_tokens(inputs) * self.args.hidden_size**0.5
            offset = cache[0].offset if cache else 0
            full = create_causal_mask(inputs.shape[1], offset)
            sliding = create_causal_mask(inputs.shape[1], offset, window_size=window)
            for i, layer in enumerate(self.layers):
                h = layer(h, full if i % 2 else sliding, cache[i] if cache else None)
            return self.norm(h)

    model.model.__class__ = Windowed


def load_reference(m, folder, weights):
    """mlx-lm's model of plain float32 layers with the checkpoint's values."""
    model, _ = load_model(folder, model_config=copy.deepcopy(m.load_config))
    loaded = dict(tree_flatten(model.parameters()))
    assert loaded.keys() == weights.keys(), loaded.keys() ^ weights.keys()
    for name, w in loaded.items():
        assert w.dtype == weights[name].dtype and mx.array_equal(w, weights[name]), name
    dequantize(model)
    if m.gemma2_window:
        add_gemma2_windows(model, m.gemma2_window)
    return model


class Watch:
    """What the reference met on its way: the router's margins, relative, and the inputs of clamped activations."""

    def __init__(self):
        self.margins, self.gates, self.ups = [], [], []

    def router_margin(self):
        return float(mx.concatenate(self.margins).min()) if self.margins else None

    def clamped(self, limit=7.0):
        """Shares of gates above, ups above and ups below the limit."""
        g, u = mx.concatenate(self.gates), mx.concatenate(self.ups)
        return [float((x > limit).astype(mx.float32).mean()) for x in (g, u, -u)]


@contextlib.contextmanager
def watching():
    w = Watch()
    argpartition, swiglu_oai = mx.argpartition, activations.swiglu_oai

    def watch_argpartition(a, kth, axis=-1):
        s = mx.sort(a, axis=-1)
        k = kth if kth < 0 else kth + 1  # -k: the k largest; k - 1: the k smallest
        w.margins.append(((s[..., k] - s[..., k - 1]) / mx.std(a)).flatten())
        return argpartition(a, kth=kth, axis=axis)

    def watch_swiglu(gate, x, **kw):
        w.gates.append(gate.flatten())
        w.ups.append(x.flatten())
        return swiglu_oai(gate, x, **kw)

    mx.argpartition, activations.swiglu_oai = watch_argpartition, watch_swiglu
    try:
        yield w
    finally:
        mx.argpartition, activations.swiglu_oai = argpartition, swiglu_oai


def through_cache(model, ids, chunks):
    """Logits of all positions, [n, V], fed in chunks of the sizes given and then the rest."""
    cache, out, at = make_prompt_cache(model), [], 0
    for n in [*chunks, len(ids)]:
        if at < len(ids):
            out.append(model(mx.array([ids[at : at + n]]), cache=cache)[0])
            at += n
    return mx.concatenate(out)


def all_logits(m, model, ids):
    if m.token_by_token:
        return through_cache(model, ids, [1] * len(ids))
    return model(mx.array([ids]))[0]


def greedy(m, model, ids):
    """N_GREEDY ids through the cache, with the margins between the two best logits."""
    cache = make_prompt_cache(model)
    for i in range(len(ids) - 1 if m.token_by_token else 0):
        model(mx.array([ids[i : i + 1]]), cache=cache)
    logits = model(mx.array([ids[-1:] if m.token_by_token else ids]), cache=cache)[0, -1]
    out, margins = [], []
    for _ in range(N_GREEDY):
        x = np.array(logits)
        top = np.argsort(-x)[:2]
        out.append(int(top[0]))
        margins.append(float(x[top[0]] - x[top[1]]))
        logits = model(mx.array([[out[-1]]]), cache=cache)[0, -1]
    return out, margins


def check_every_tensor_matters(m, model, ids, std):
    want = model(mx.array([ids]))[0]
    for name, w in tree_flatten(model.parameters()):
        if m.invisible and re.search(m.invisible, name):
            continue
        other = mx.roll(w.flatten(), 1).reshape(w.shape) if w.size > 1 else w * 1.5
        model.load_weights([(name, other)], strict=False)
        effect = float(mx.abs(model(mx.array([ids]))[0] - want).max()) / std
        model.load_weights([(name, w)], strict=False)
        assert effect > MIN_EFFECT, f"{m.name}: {name} changes the logits by {effect:.1e} of their spread"


class NoPrompt(Exception):
    """These weights do not give what is wanted: others are drawn."""


def draws():
    yield from range(MAX_DRAWS)
    raise NoPrompt


def make(m, out):
    for _ in range(MAX_SEEDS):
        try:
            return make_with_seed(m, out)
        except NoPrompt:
            m.seed += 1
    raise SystemExit(f"{m.name}: no good weights found")


def make_with_seed(m, out):
    folder = out / m.name
    weights = write_checkpoint(m, folder)
    reference = load_reference(m, folder, weights)
    rng = np.random.default_rng(m.seed + 500)
    vocab_size = m.vocab_size
    cases, logits, router_margins, clamped = [], {}, [], []

    def clear_routing(w):
        margin = w.router_margin()
        if margin is not None and margin < MIN_ROUTER_MARGIN:
            return False
        router_margins.append(margin)
        return True

    for n in (1, 7, 41):  # 41: more than one block of the cache
        for _ in draws():
            ids = rng.integers(0, vocab_size, n).tolist()
            with watching() as w:
                y = all_logits(m, reference, ids)
                if clear_routing(w):
                    break
        clamped.append(w.clamped() if w.gates else None)
        cases.append(dict(name=f"len{n}", ids=ids))
        logits[f"len{n}"] = y.astype(mx.float32)
    std = float(np.concatenate([np.array(v).ravel() for v in logits.values()]).std())
    ids = cases[-1]["ids"]
    chunks = 0.0
    if not m.token_by_token:
        chunks = float(mx.abs(through_cache(reference, ids, [1, 7, 5]) - logits[f"len{n}"]).max()) / std
        ones = float(mx.abs(through_cache(reference, ids, [1] * n) - logits[f"len{n}"]).max()) / std
        chunks = max(chunks, ones)
        assert chunks < MAX_CHUNK_DIFFERENCE, f"{m.name}: chunks differ by {chunks:.1e}"
    check_every_tensor_matters(m, reference, ids, std)
    continuations = []
    for n in (5, 29):  # 29 + 24 passes the border of a block
        for _ in draws():
            prompt = rng.integers(0, vocab_size, n).tolist()
            with watching() as w:
                ids, margins = greedy(m, reference, prompt)
                whole = np.array(all_logits(m, reference, prompt + ids)).argmax(-1)[n - 1 : -1].tolist()
                good = min(margins) > MIN_MARGIN * std and whole == ids and len(set(ids)) >= MIN_DISTINCT
                if good and clear_routing(w):
                    break
        continuations.append(dict(ids=prompt, next=ids, margins=[round(m, 4) for m in margins]))
    mx.save_safetensors(str(folder / "expected.safetensors"), logits, metadata={"format": "mlx"})
    doc = dict(
        made_by="tests/model/make_models.py",
        command=f"python make_models.py --only {m.name}",
        exercises=m.what,
        mlx=mx.__version__,
        mlx_lm=mlx_lm.__version__,
        reference=f"mlx-lm on the CPU, float32, weights dequantized{'; ' if m.note else ''}{m.note}",
        seed=m.seed,
        logit_std=std,
        chunk_difference=float(f"{chunks:.1e}"),
    )
    if router_margins[0] is not None:
        doc["router_margin"] = round(min(router_margins), 5)
    if clamped[0] is not None:
        doc["clamped"] = [round(x, 4) for x in clamped[-1]]
        assert min(clamped[-1]) > 0, f"{m.name}: nothing is clamped"
    (folder / "expected.json").write_text(json.dumps(doc | dict(cases=cases, greedy=continuations)) + "\n")
    size = sum(f.stat().st_size for f in folder.iterdir())
    distinct = [len(set(c["next"])) for c in continuations]
    print(
        f"{m.name:32s} {size:7d} bytes  std {std:.2f}  chunks {chunks:.0e}  distinct greedy ids {distinct}"
        + "".join(f"  {k} {doc[k]}" for k in ("router_margin", "clamped") if k in doc),
        flush=True,
    )


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--out", default=str(HERE / "models"))
    ap.add_argument("--only", action="append")
    a = ap.parse_args()
    mx.set_default_device(mx.cpu)
    out = Path(a.out)
    for m in MODELS:
        if not a.only or any(fnmatch.fnmatch(m.name, p) for p in a.only):
            make(m, out)
    lines = [
        f"{head}\n\n" + "".join(f"- `{m.name}`: {m.what}\n" for m in MODELS if m.part == head)
        for head in dict.fromkeys(m.part for m in MODELS)
    ]
    (out / "README.md").write_text(README + "\n" + "\n".join("## " + x for x in lines))


if __name__ == "__main__":
    main()
