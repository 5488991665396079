#!/usr/bin/env python3
"""Rendering a 40-message chat with tools: this engine against jinja2, in the same run.

  template_speed.py --bench build/bin/template_speed TEMPLATE.jinja... [--runs 300]

Both sides render with the compiled template. "text to prompt" starts from the context's JSON text on both sides
(json.loads and render against one call of the engine); "rendering alone" starts from what that text was read into
(Python objects; the engine's time less that of an empty template). Medians. Needs Python with transformers.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

from transformers.utils import chat_template_utils as u

PARAMETERS = {"type": "object", "properties": {"place": {"type": "string", "description": "City and country"}, "unit": {"type": "string", "enum": ["C", "F"]}, "days": {"type": "integer", "description": "How many days ahead"}}, "required": ["place"]}


def context():
    tools = [{"type": "function", "function": {"name": "tool_%d" % i, "description": "Does the thing number %d, carefully." % i, "parameters": PARAMETERS}} for i in range(6)]
    messages = [{"role": "system", "content": "You are a helpful assistant.\nAnswer briefly."}]
    words = "The quick brown fox jumps over the lazy dog while the band plays on; déjà vu, said the cat.".split()
    while len(messages) < 40:
        k = len(messages)
        messages.append({"role": "user", "content": " ".join(words[(k + j) % len(words)] for j in range(60))})
        messages.append({"role": "assistant", "content": " ".join(words[(k * 3 + j) % len(words)] for j in range(120))})
    return {"messages": messages[:40], "tools": tools, "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>"}


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("templates", nargs="+")
    ap.add_argument("--bench", required=True)
    ap.add_argument("--runs", type=int, default=300)
    a = ap.parse_args()
    ctx = context()
    compile_ = u._cached_compile_jinja_template
    ratios = []
    print("| template | prompt bytes | jinja2 text to prompt, us | engine, us | ratio | jinja2 rendering alone, us | engine, us | ratio | compile: jinja2, us | engine, us |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "context.json")
        text = json.dumps(ctx, ensure_ascii=False)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        for name in a.templates:
            with open(name, encoding="utf-8", newline="") as f:
                source = f.read()
            t0 = time.perf_counter_ns()
            t = compile_(source)
            compiled = time.perf_counter_ns() - t0
            try:
                want = t.render(**ctx)
            except Exception as e:  # noqa: BLE001
                print("| %s | - | the chat does not suit it: %s |" % (os.path.basename(name), e))
                continue
            alone, whole = [], []
            for _ in range(a.runs):
                t0 = time.perf_counter_ns()
                c = json.loads(text)
                t1 = time.perf_counter_ns()
                t.render(**c)
                t2 = time.perf_counter_ns()
                alone.append(t2 - t1)
                whole.append(t2 - t0)
            py, py_text = statistics.median(alone), statistics.median(whole)
            r = json.loads(subprocess.run([a.bench, name, path, str(a.runs)], check=True, capture_output=True, text=True).stdout)
            if r["bytes"] != len(want.encode()):
                raise SystemExit("%s: %d bytes, wanted %d" % (name, r["bytes"], len(want.encode())))
            own = r["render_ns"] - r["read_ns"]
            ratios.append((py_text / r["render_ns"], py / own))
            print("| %s | %d | %.0f | %.1f | %.1f | %.0f | %.1f | %.1f | %.0f | %.0f |" % (os.path.basename(name).removesuffix(".jinja"), r["bytes"], py_text / 1e3, r["render_ns"] / 1e3, ratios[-1][0], py / 1e3, own / 1e3, ratios[-1][1], compiled / 1e3, r["compile_ns"] / 1e3), flush=True)
    for i, what in enumerate(("text to prompt", "rendering alone")):
        print("\n%s: median ratio %.1f, lowest %.1f, %d templates" % (what, statistics.median(x[i] for x in ratios), min(x[i] for x in ratios), len(ratios)))


if __name__ == "__main__":
    main()
