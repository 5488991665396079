#!/usr/bin/env python3
"""mlxr's mlx device beside mlx-lm itself, on one MLX, one machine, in one run.

    compare_mlx_lm.py --bench build/bin/bench_device [--device mlx|mlx:cpu] [--shape 4b|tiny] [--scratch DIR]

Makes a checkpoint of random weights in the scratch folder, once 4-bit (group 64) and once bf16, then measures in
turns, `--rounds` times each: mlx-lm's prefill and greedy decode (generate_step, which samples the next token while it
is computed) in this process, and mlxr's with bench_device -g in one of its own. Prints medians and their ratio, and
with --json FILE writes all numbers. Needs mlx and mlx-lm; no network.
"""
import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import mlx.core as mx
from mlx_lm.generate import generate_step
from mlx_lm.utils import load_model

# Dimensions of Qwen3-4B, and a toy to try the script with.
SHAPES = {
    "4b": dict(hidden_size=2560, num_hidden_layers=36, num_attention_heads=32, num_key_value_heads=8, head_dim=128,
               intermediate_size=9728, vocab_size=151936),
    "tiny": dict(hidden_size=256, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=64,
                 intermediate_size=512, vocab_size=1024),
}


def config_of(args, quantized):
    config = dict(SHAPES[args.shape], model_type=args.family, max_position_embeddings=40960, rms_norm_eps=1e-6,
                  rope_theta=1000000.0, tie_word_embeddings=True, hidden_act="silu", torch_dtype="bfloat16")
    if quantized:
        config["quantization"] = {"group_size": 64, "bits": 4}
    return config


def make_model(folder, args, quantized):
    """Every layer has the same random weights: their values do not matter to the speed, their places do."""
    config = config_of(args, quantized)
    D, F, V = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    H, Hkv, Dh = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    layer = {"self_attn.q_proj": (H * Dh, D), "self_attn.k_proj": (Hkv * Dh, D), "self_attn.v_proj": (Hkv * Dh, D),
             "self_attn.o_proj": (D, H * Dh), "mlp.gate_proj": (F, D), "mlp.up_proj": (F, D), "mlp.down_proj": (D, F)}
    mx.random.seed(7)

    def matrix(shape):
        w = (mx.random.normal(shape) * 0.02).astype(mx.bfloat16)
        if not quantized:
            return {".weight": w}
        return dict(zip((".weight", ".scales", ".biases"), mx.quantize(w, group_size=64, bits=4)))

    one = {name + suffix: a for name, shape in layer.items() for suffix, a in matrix(shape).items()}
    one["input_layernorm.weight"] = one["post_attention_layernorm.weight"] = mx.ones((D,), mx.bfloat16)
    if args.family == "qwen3":
        one["self_attn.q_norm.weight"] = one["self_attn.k_norm.weight"] = mx.ones((Dh,), mx.bfloat16)
    tensors = {"model.norm.weight": mx.ones((D,), mx.bfloat16)}
    tensors.update(("model.embed_tokens" + suffix, a) for suffix, a in matrix((V, D)).items())
    for i in range(config["num_hidden_layers"]):
        tensors.update((f"model.layers.{i}.{name}", a) for name, a in one.items())
    folder.mkdir(parents=True, exist_ok=True)
    mx.eval(list(tensors.values()))
    mx.save_safetensors(str(folder / "model.safetensors"), tensors, {"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config, indent=1))


def measure_mlx_lm(model, args, vocab_size):
    def prompt(n):
        return mx.array([i * 7919 % vocab_size for i in range(n)])

    start = time.perf_counter()
    next(generate_step(prompt(args.prefill), model, max_tokens=1))
    prefill = args.prefill / (time.perf_counter() - start)
    steps = generate_step(prompt(args.context), model, max_tokens=args.tokens + 1)
    next(steps)
    start = time.perf_counter()
    n = sum(1 for _ in steps)
    return prefill, n / (time.perf_counter() - start)


def measure_mlxr(folder, args):
    command = [args.bench, str(folder), "-D", args.device, "-P", "fast", "-g", "-r", str(args.repeats), "-p",
               str(args.prefill), "-n", str(args.tokens), "-d", str(args.context)]
    if args.module:
        command += ["-m", args.module]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"prefill\(\d+\) ([\d.]+) tok/s  decode\([^)]*\) ([\d.]+) tok/s", done.stdout)
    if done.returncode or not found:
        sys.exit(f"bench_device failed ({done.returncode}): {done.stderr.strip()}\n{done.stdout}")
    print("   ", done.stdout.strip(), flush=True)
    return float(found.group(1)), float(found.group(2))


def compare(args, quantized):
    name = "4-bit" if quantized else "bf16"
    folder = Path(args.scratch) / f"{args.family}-{args.shape}-{'q4' if quantized else 'bf16'}"
    if not (folder / "config.json").exists():
        make_model(folder, args, quantized)
        mx.clear_cache()
    model, config = load_model(folder)
    measure_mlx_lm(model, args, config["vocab_size"])  # what is compiled on first use
    theirs, ours = [], []
    for _ in range(args.rounds):
        theirs += [measure_mlx_lm(model, args, config["vocab_size"]) for _ in range(args.repeats)]
        print(f"    mlx-lm {name}: prefill {theirs[-1][0]:.1f} tok/s  decode {theirs[-1][1]:.1f} tok/s", flush=True)
        mx.clear_cache()
        ours.append(measure_mlxr(folder, args))
    rows = []
    for i, what in enumerate((f"prefill({args.prefill})", f"decode({args.tokens} at {args.context})")):
        a, b = (statistics.median(x[i] for x in all_) for all_ in (theirs, ours))
        rows.append({"model": name, "what": what, "mlx_lm": round(a, 1), "mlxr": round(b, 1), "ratio": round(b / a, 3),
                     "mlx_lm_all": [round(x[i], 1) for x in theirs], "mlxr_all": [round(x[i], 1) for x in ours]})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", required=True, help="bench_device of this build")
    parser.add_argument("--module", help="libmlxr_mlx.so, when it is not where bench_device finds it")
    parser.add_argument("--device", default="mlx")
    parser.add_argument("--shape", choices=SHAPES, default="4b")
    parser.add_argument("--family", choices=("qwen3", "llama"), default="qwen3")
    parser.add_argument("--only", choices=("q4", "bf16"))
    parser.add_argument("--scratch", default="build/compare_mlx_lm")
    parser.add_argument("--prefill", type=int, default=4096)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", help="a file for all numbers")
    args = parser.parse_args()
    if args.device.endswith(":cpu"):
        mx.set_default_device(mx.cpu)
    rows = []
    for quantized in (True, False):
        if args.only in (None, "q4" if quantized else "bf16"):
            rows += compare(args, quantized)
    print(f"\n{'model':6} {'what':22} {'mlx-lm':>10} {'mlxr':>10} {'ratio':>7}   (tokens/s, medians; MLX {mx.__version__})")
    for r in rows:
        print(f"{r['model']:6} {r['what']:22} {r['mlx_lm']:10.1f} {r['mlxr']:10.1f} {r['ratio']:7.3f}")
    if args.json:
        Path(args.json).write_text(json.dumps({"shape": args.shape, "family": args.family, "device": args.device,
                                               "mlx": mx.__version__, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
