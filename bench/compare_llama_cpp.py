#!/usr/bin/env python3
"""mlxr beside llama.cpp: the same model, the same machine, the same run.

    bench/compare_llama_cpp.py [--model DIR --gguf FILE] [--venv DIR | --build] [--pairs 5] [--threads 2] [--busy N]

The model is the MLX folder for mlxr and, for llama.cpp, the GGUF that it was imported from: as it is (q4_1), and
requantized by llama.cpp itself to Q4_0 in its usual mix (q4_0) and with every matrix in Q4_0 (q4_0-pure). Each cell of
the table is measured in turns, one child process each: mlxr, the variants of llama.cpp, then mlxr again, and so on. Both
sides decode the same fixed ids, warm up once and time inside their process; what is printed are medians over the pairs,
and the median of the ratios of each pair. A table in Markdown goes to standard output, everything measured to --json.

Needs build/bin/mlxctl and mlx-demo, and llama-cpp-python, which is used through its ctypes bindings alone."""

import argparse
import json
import os
import statistics
import sys
import time

import bench_common as bc

PROMPT = "What is the capital of France?"


def cells(args):
    """(name, title, what to run, key of the answer, "rate" where more is better)"""
    decode = dict(prompt=0, tokens=args.tokens, batch=1, context=0)
    out = [(f"decode-{d}", f"decode at {d}, tokens/s", dict(decode, context=d), "decode", "rate") for d in args.contexts]
    out += [(f"prefill-{p}", f"prefill of {p}, tokens/s", dict(decode, prompt=p, tokens=0), "prefill", "rate")
            for p in args.prompts]
    out += [(f"batch-{b}", f"decode of {b} sequences, tokens/s in all", dict(decode, batch=b), "decode", "rate")
            for b in args.batches]
    return out


# What llama.cpp says of itself beside instruction sets.
NOT_ISAS = ["LLAMAFILE", "OPENMP", "REPACK", "ACCELERATE", "KLEIDIAI"]

# What comes with the cells, of the children of the first decode or prefill cell.
EXTRAS = [("load", "load, ms", "load_ms"), ("memory", "peak memory, MB", "peak_memory_mb")]


def run_mlxr(args, what):
    command = [args.mlxctl, "bench", args.model, "--json", "-r", str(args.repeats), "-t", str(args.threads),
               "-p", str(what["prompt"]), "-n", str(what["tokens"]), "-b", str(what["batch"]), "-d", str(what["context"]),
               "--precision", args.precision]
    a = bc.answer(command, "mlxctl bench", env=args.env)
    return {"prefill": a["prefill_tokens_per_second"], "decode": a["decode_tokens_per_second"], "load_ms": a["load_ms"],
            "peak_memory_mb": a["peak_memory_bytes"] / 1e6, "raw": a}


def run_llama(args, path, what):
    job = dict(what, job="bench", model=path, threads=args.threads, repeats=args.repeats, flash=args.flash,
               n_batch=max(2048, what["prompt"]))
    a = bc.llama(args.python, job, "llama.cpp")
    return {"prefill": statistics.median(a["prefill"] or [0]), "decode": statistics.median(a["decode"] or [0]),
            "load_ms": a["load_ms"],
            # Python itself is not llama.cpp's memory.
            "peak_memory_mb": (a["peak_memory_bytes"] - a["base_memory_bytes"]) / 1e6, "raw": a}


def first_token_mlxr(args):
    command = [args.mlx_demo, "--runner", "local", "--model", args.model, "--raw", "--prompt", PROMPT, "--max-tokens", "1",
               "--threads", str(args.threads), "--precision", args.precision]
    ms, _ = bc.first_byte_ms(command, time.perf_counter_ns, env=args.env)
    return {"first_token_ms": ms, "process_ms": ms}


def first_token_llama(args, path):
    job = {"job": "first_token", "model": path, "threads": args.threads, "text": PROMPT, "flash": args.flash}
    ms, out = bc.first_byte_ms([args.python, bc.LLAMA_CHILD, json.dumps(job)], time.perf_counter_ns)
    a = json.loads(out.decode().strip().splitlines()[-1])
    # Python's own start is not counted: from the moment before libllama is loaded.
    return {"first_token_ms": a["library_first_token_ms"], "process_ms": ms, "raw": a}


def measure(args, contenders):
    """values[cell][contender]: one a pair, in order."""
    values = {}

    def note(cell, name, value):
        values.setdefault(cell, {}).setdefault(name, []).append(value)

    bandwidth, shares, raw = [], {}, []
    wanted = [c for c in cells(args) if not args.cells or c[0] in args.cells]
    extra_cell = next((c[0] for c in wanted if c[3] == "prefill"), wanted[0][0] if wanted else None)
    first_token = not args.cells or "first-token" in args.cells
    for pair in range(args.pairs):
        order = contenders if pair % 2 == 0 else contenders[::-1]
        for cell, title, what, key, _ in wanted:
            bc.say(f"pair {pair + 1} of {args.pairs}: {title}")
            for name, path in order:
                a = run_mlxr(args, what) if path is None else run_llama(args, path, what)
                note(cell, name, a[key])
                raw.append({"pair": pair, "cell": cell, "contender": name, "answer": a["raw"]})
                if path is None:
                    bandwidth.append(a["raw"]["peak_bandwidth_gb_s"])
                    if key == "decode":
                        shares.setdefault(cell, []).append(a["raw"]["bandwidth_share"])
                if cell == extra_cell:
                    for extra, _, extra_key in EXTRAS:
                        note(extra, name, a[extra_key])
        if first_token:
            bc.say(f"pair {pair + 1} of {args.pairs}: first token")
            for name, path in order:
                a = first_token_mlxr(args) if path is None else first_token_llama(args, path)
                note("first-token", name, a["first_token_ms"])
                note("first-token-process", name, a["process_ms"])
    return values, bandwidth, shares, raw


def ratios(values, cell, name, kind):
    """How much better mlxr is, one a pair."""
    pairs = zip(values[cell]["mlxr"], values[cell][name])
    return [(a / b if kind == "rate" else b / a) if a and b else float("nan") for a, b in pairs]


def report(args, values, shares, contenders):
    others = [name for name, path in contenders if path is not None]
    head = ["", "mlxr"] + [f"llama.cpp {n}" for n in others] + [f"ratio to {n}" for n in others] + ["share of bandwidth"]
    rows = [(c[0], c[1], c[4]) for c in cells(args)]
    rows += [(name, title, "cost") for name, title, _ in EXTRAS]
    rows += [("first-token", "first token, ms", "cost"),
             ("first-token-process", "first token with Python's start, ms", "cost")]
    lines, out = [], {}
    for cell, title, kind in rows:
        if cell not in values:
            continue
        line, cell_out = [title], {"title": title}
        for name, _ in contenders:
            s = bc.summary(values[cell][name])
            cell_out[name] = s
            line.append(bc.number(s["median"]))
        for name in others:
            r = bc.summary(ratios(values, cell, name, kind))
            cell_out[f"ratio_to_{name}"] = r
            line.append(f"**{r['median']:.2f}** ({r['min']:.2f} to {r['max']:.2f})")
        if cell in shares:
            cell_out["bandwidth_share"] = bc.summary(shares[cell])
            line.append(f"{100 * statistics.median(shares[cell]):.0f} %")
        else:
            line.append("")
        lines.append(line)
        out[cell] = cell_out
    return bc.table(head, lines), out


def parse():
    def numbers(text):
        return [int(x) for x in text.split(",") if x]

    p = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    p.add_argument("--model", default=bc.MODEL, help="the MLX folder (the default model)")
    p.add_argument("--gguf", help="the same model as a GGUF of llama.cpp (the default model's)")
    p.add_argument("--variants", default="q4_0,q4_0-pure,q4_1", help="which of " + ", ".join(bc.VARIANTS))
    p.add_argument("--venv", help="a virtual environment with llama-cpp-python")
    p.add_argument("--build", action="store_true", help="build llama-cpp-python for this CPU into .cache/llama-venv")
    p.add_argument("--cmake-args", default="-DGGML_NATIVE=ON -DCMAKE_BUILD_TYPE=Release", help="for --build")
    p.add_argument("--build-dir", default=os.path.join(bc.ROOT, "build"), help="where bin/mlxctl is")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--pairs", type=int, default=5)
    p.add_argument("--repeats", type=int, default=1, help="inside each child, after a warm-up")
    p.add_argument("--tokens", type=int, default=64, help="decoded in a row")
    p.add_argument("--isa", help="mlxr's instruction set: avx2, avxvnni, avx512, ... (the best of this CPU)")
    p.add_argument("--precision", choices=["exact", "fast"], default="fast")
    p.add_argument("--flash", choices=["auto", "on", "off"], default="auto", help="llama.cpp's flash attention")
    p.add_argument("--contexts", type=numbers, default=[0, 1024, 4096])
    p.add_argument("--prompts", type=numbers, default=[128, 512, 2048])
    p.add_argument("--batches", type=numbers, default=[1, 4, 8, 16])
    p.add_argument("--cells", type=lambda t: t.split(","), help="only these: decode-0,prefill-512,batch-8,first-token,...")
    p.add_argument("--busy", type=int, default=0, help="processes that never rest beside both")
    p.add_argument("--json", dest="json_path", help="a file for all that was measured")
    args = p.parse_args()
    known = [c[0] for c in cells(args)] + ["first-token"]
    for c in args.cells or []:
        if c not in known:
            p.error(f"--cells: \"{c}\" is not one of {', '.join(known)}")
    for v in args.variants.split(","):
        if v not in bc.VARIANTS:
            p.error(f"--variants: \"{v}\" is not one of {', '.join(bc.VARIANTS)}")
    if args.pairs < 1 or args.repeats < 1 or args.tokens < 1 or args.threads < 1 or args.busy < 0:
        p.error("--pairs, --repeats, --tokens and --threads are at least 1")
    return args


def isas(info, raw):
    """Which instruction sets each side used: mlxr as its device says, llama.cpp as it was built."""
    ours = sorted({r["answer"]["isa"] for r in raw if r["contender"] == "mlxr"})
    flags = [part.split(":")[-1].split("=") for part in info["system_info"].split("|") if "=" in part]
    theirs = [name.strip() for name, value in flags if value.strip() == "1" and name.strip() not in NOT_ISAS]
    return {"mlxr": ", ".join(ours) or "?", "llama.cpp": " ".join(theirs)}


def run():
    args = parse()
    args.env = dict(os.environ, MLXR_CPU=args.isa) if args.isa else None
    args.mlxctl = bc.program("mlxctl", args.build_dir)
    args.mlx_demo = bc.program("mlx-demo", args.build_dir)
    if not os.path.isdir(args.model):
        raise bc.Failed(f"{args.model} is not there: scripts/setup.sh model, or --model")
    if args.build:
        bc.build_llama(args.cmake_args)
        args.venv = bc.LLAMA_VENV
    args.python = bc.want_llama_python(args.venv)
    if args.gguf and not os.path.isfile(args.gguf):
        raise bc.Failed(f"{args.gguf} is not there")
    gguf = args.gguf or bc.default_gguf()
    contenders = [("mlxr", None)]
    contenders += [(v, bc.variant(args.python, gguf, v, args.threads)) for v in args.variants.split(",")]
    facts = bc.machine()
    info = bc.llama(args.python, {"job": "info"}, "llama.cpp")
    with bc.Busy(args.busy):
        values, bandwidth, shares, raw = measure(args, contenders)

    text, out = report(args, values, shares, contenders)
    used = isas(info, raw)
    best = max(bandwidth) if bandwidth else None
    sizes = ", ".join(f"{n} {os.path.getsize(p) / 1e6:.1f} MB" for n, p in contenders if p)
    print(bc.machine_text(facts, best))
    print(f"llama-cpp-python {info['version']} ({info['system_info']}); {sizes}; flash attention {args.flash}; its other "
          f"settings by default: {json.dumps(info['defaults'])}.")
    print(f"Instruction sets: mlxr {used['mlxr']}; llama.cpp {used['llama.cpp']}.")
    print(f"Model {os.path.basename(os.path.normpath(args.model))}, --precision {args.precision}, {args.threads} threads, "
          f"{args.pairs} alternated pairs, medians (lowest to highest ratio)"
          + (f", busy processes beside both: {args.busy}" if args.busy else "") + ".\n")
    print(text)
    print("\nRatios above 1 are mlxr's lead: of rates, or of times and memory. Load, peak memory and first token of llama.cpp "
          "leave Python out.")
    if args.json_path:
        with open(args.json_path, "w") as f:
            json.dump({"machine": facts, "bandwidth_gb_s": best, "llama": info, "isa": used, "arguments": sys.argv[1:], "cells": out,
                       "values": values, "raw": raw}, f, indent=1)
            f.write("\n")
    return 0


if __name__ == "__main__":
    bc.main(run)
