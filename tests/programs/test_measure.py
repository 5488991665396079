#!/usr/bin/env python3
"""mlxctl embed and mlxctl perplexity against mlx-lm's numbers (tests/runner/make_engine_api.py), mlxctl run --json, and
examples/batch.

    test_measure.py BIN_DIR SOURCE_DIR
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

BIN, SOURCE = sys.argv[1], Path(sys.argv[2])
FIXTURES = SOURCE / "tests" / "runner" / "fixtures"
TINY = str(FIXTURES / "tiny_chat")
EXACT = ["--precision", "exact"]
failed = []
passed = 0


def check(name, ok, *what):
    global passed
    if ok:
        passed += 1
        return
    failed.append(name)
    print("FAIL", name)
    for w in what:
        print("    ", repr(w)[:1500])


def run(*command, stdin=""):
    p = subprocess.run([os.path.join(BIN, command[0]), *command[1:]], input=stdin.encode(), capture_output=True, timeout=240)
    return p.returncode, p.stdout.decode("utf-8", "replace"), p.stderr.decode()


def near(a, b, tolerance):
    return len(a) == len(b) and all(abs(x - y) <= tolerance for x, y in zip(a, b))


def embed(cases):
    lines = "".join(json.dumps({"text": c["text"]}) + "\n" + json.dumps({"ids": c["ids"]}) + "\n" for c in cases)
    for args, key in [([], "last"), (["--pooling", "mean"], "mean"), (["--pooling", "last", "--dimensions", "16"], "last_16")]:
        code, out, err = run("mlxctl", "embed", TINY, *args, *EXACT, stdin=lines)
        got = [json.loads(x) for x in out.splitlines()]
        want = [c for c in cases for _ in range(2)]
        check(f"embed {key}", code == 0 and len(got) == len(want) and all(
            near(g["embedding"], w[key], 1e-4) and g["tokens"] == len(w["ids"]) for g, w in zip(got, want)), out, err)
    code, out, err = run("mlxctl", "embed", TINY, stdin='{"text": ""}\n{}\n{"ids": [1, "x"]}\n{"ids": [999]}\nnot json\n{"text": "a"}\n')
    lines = [json.loads(x) for x in out.splitlines()]
    check("embed goes on after errors", code == 0 and [*map(sorted, lines)] == [["error"]] * 5 + [["embedding", "tokens"]], out, err)
    long = json.dumps({"text": "x" * 600}) + "\n"
    code, out, err = run("mlxctl", "embed", TINY, stdin=long)
    check("a text above the context", "600" in out and "512" in out, out)
    code, out, err = run("mlxctl", "embed", TINY, "--truncate", stdin=long)
    check("or cut", json.loads(out).get("tokens") == 512, out)
    check("embed of nothing", run("mlxctl", "embed")[0] == 2)
    check("too many dimensions", "65" in run("mlxctl", "embed", TINY, "--dimensions", "65", stdin='{"text": "a"}\n')[1])


def perplexity(cases):
    text = str(FIXTURES / "engine_api.txt")
    for c in cases:
        for device, precision, tolerance in [("ref", "exact", 1e-3), ("cpu", "exact", 1e-3), ("cpu", "fast", 5e-2)]:
            code, out, err = run("mlxctl", "perplexity", TINY, text, "--context", str(c["context"]), "--stride", str(c["stride"]),
                                 "--json", "--device", device, "--precision", precision)
            got = json.loads(out) if code == 0 else {}
            ok = got.get("tokens") == c["tokens"] and got["context"] == c["context"] and all(
                abs(got[k] / c[k] - 1) <= tolerance for k in ("perplexity", "standard_error"))
            check(f"perplexity {c['context']}/{c['stride']} on {device} {precision}", ok, out, err, c)
    code, out, err = run("mlxctl", "perplexity", TINY, "-", "--context", "64", stdin=Path(text).read_text())
    check("perplexity as text", code == 0 and out.startswith("perplexity ") and "+-" in out and "tokens/s" in out, out, err)
    code, out, err = run("mlxctl", "perplexity", TINY, text, "--context", "64", "--windows", "2", "--json")
    check("the first windows alone", json.loads(out)["tokens"] == 126, out, err)
    for args, code in [([TINY], 2), ([TINY, "/nowhere"], 1), ([TINY, text, "--stride", "600"], 2), ([TINY, os.devnull], 1)]:
        got = run("mlxctl", "perplexity", *args)
        check(f"perplexity {args[1:]}", got[0] == code and got[2], got)


def run_json():
    code, out, err = run("mlxctl", "run", TINY, "Hello", "--json", "--max-tokens", "6", "--ignore-eos", "--logprobs", "2")
    events = [json.loads(x) for x in out.splitlines()]
    tokens = [e for e in events if e["event"] == "token" and "id" in e]
    check("run --json", code == 0 and len(tokens) == 6 and events[-1]["event"] == "completed" and not err, out, err)
    check("its texts", "".join(e["text"] for e in events[:-1]) == events[-1]["text"], out)
    check("its logprobs", all(len(e["top"]) == 2 and e["top"][0]["id"] == e["id"] and abs(e["top"][0]["logprob"] - e["logprob"]) < 1e-6
                              for e in tokens), out)
    check("its stats", events[-1]["generated_tokens"] == 6 and events[-1]["done_reason"] == "length" and events[-1]["prompt_tokens"] > 0,
          events[-1])
    greedy = [e["id"] for e in tokens]
    code, out, err = run("mlxctl", "run", TINY, "Hello", "--json", "--max-tokens", "6", "--ignore-eos", "--choices", "3",
                         "--temperature", "1", "--seed", "5")
    events = [json.loads(x) for x in out.splitlines()]
    check("choices", sorted(e["choice"] for e in events if e["event"] == "completed") == [0, 1, 2], out, err)
    code, out, err = run("mlxctl", "run", TINY, "Hello", "--max-tokens", "3", "--choices", "2")
    check("choices as text", "[choice 0]\n" in out and "[choice 1]\n" in out, out, err)
    code, out, err = run("mlxctl", "run", TINY, "Hello", "--json", "--max-tokens", "1", "--ignore-eos", "--logit-bias", f"{greedy[0]}=-inf")
    check("a forbidden token", json.loads(out.splitlines()[0])["id"] != greedy[0], out, err)
    code, out, err = run("mlxctl", "run", TINY, "Hello", "--logit-bias", "x=1")
    check("a wrong bias", code == 1 and "logit_bias" in err, err)
    code, out, err = run("mlxctl", "run", "any", "said:", "--runner", "mock", stdin="from a pipe\n")
    check("what is piped in stands behind the prompt", out == "You said: said:\n\nfrom a pipe\n", out, err)
    code, out, err = run("mlxctl", "run", TINY, "--raw", "--max-tokens", "1", stdin="x" * 600)
    check("a prompt above the context", code == 1 and "600" in err and "512" in err, err)
    code, out, err = run("mlxctl", "run", TINY, "--raw", "--max-tokens", "4", "--ignore-eos", "--overflow", "truncate", "--json", stdin="x" * 600)
    last = json.loads(out.splitlines()[-1]) if code == 0 else {}
    check("or cut", last.get("dropped_tokens", 0) >= 92 and last["generated_tokens"] == 4, out, err)


def batch():
    program = os.path.join(BIN, "batch")
    if not os.path.exists(program):
        check("examples/batch is built", False, program)
        return
    p = subprocess.run([program, TINY], input=b"Hello\na b c\nThe the the\n", capture_output=True, timeout=240)
    lines = p.stdout.decode("utf-8", "replace")
    check("examples/batch", p.returncode == 0 and all(f"{i}: " in lines for i in (1, 2, 3)), p)
    p = subprocess.run([program, TINY], input=b"x" * 600 + b"\nHello\n", capture_output=True, timeout=240)
    check("examples/batch tells what fails", p.returncode == 1 and b"line 1" in p.stderr and b"2: " in p.stdout, p)
    check("examples/batch without a model", subprocess.run([program, "/nowhere"], capture_output=True).returncode == 1)


def main():
    with tempfile.TemporaryDirectory() as home:
        os.environ["MLXR_HOME"] = home
        doc = json.loads((FIXTURES / "engine_api.json").read_text())
        embed(doc["cases"])
        perplexity(doc["perplexity"])
        run_json()
        batch()
    print(f"{passed} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)


main()
