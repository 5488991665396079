#!/usr/bin/env python3
"""How close the fast path stays to float32, beside llama.cpp's kernels on the same text in the same run.

    bench/fidelity.py [--model DIR --gguf FILE] [--venv DIR] [--tokens 20480] [--text FILE ...]

Real text, in contexts of 512 ids that each begin at position 0: mlxr's exact float32 against its own --precision fast, and
against llama.cpp on the same ids. llama.cpp's q4_1 has the very same weights, so that what differs is its arithmetic; its
q4_0 files have other weights and are there for the order of magnitude. Printed are the mean KL divergence (nats a token)
from float32 to the tested, the share of positions whose likeliest id is the same, and the text's perplexity.

The text is what a Debian machine has: documentation of its essential packages and the licences. Which files were read, and
their SHA-256, stands below the table. Needs build/bin/mlxctl, the target fidelity (built when it is not
there), and llama-cpp-python for the comparison; without it mlxr is measured alone."""

import argparse
import array
import json
import os
import subprocess
import sys
import tempfile

import bench_common as bc

# In the order they are read, until there are enough tokens; those a machine lacks are passed over.
TEXTS = [
    "/usr/share/doc/base-files/FAQ",
    "/usr/share/doc/base-files/README",
    "/usr/share/doc/base-files/README.FHS",
    "/usr/share/doc/bash/INTRO.gz",
    "/usr/share/doc/bash/POSIX.gz",
    "/usr/share/doc/tar/NEWS.gz",
    "/usr/share/doc/coreutils/NEWS.gz",
    "/usr/share/doc/bash/NEWS.gz",
    "/usr/share/doc/dpkg/README.feature-removal-schedule.gz",
    "/usr/share/doc/systemd/NEWS.gz",
    "/usr/share/common-licenses/GPL-3",
    "/usr/share/common-licenses/Artistic",
    "/usr/share/common-licenses/GFDL-1.3",
    "/usr/share/common-licenses/Apache-2.0",
    "/usr/share/common-licenses/MPL-2.0",
    "/usr/share/common-licenses/LGPL-2.1",
    "/usr/share/common-licenses/GPL-2",
    "/usr/share/common-licenses/LGPL-2",
]
MOST_OF_ONE = 16000  # characters of a file: no text outweighs the others


def tokenize(args, texts):
    requests = "".join(json.dumps({"text": t, "add_special_tokens": False}) + "\n" for t in texts)
    done = subprocess.run([args.mlxctl, "tokenize", args.model], input=requests.encode(), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise bc.Failed(f"mlxctl tokenize: {done.stderr.decode(errors='replace').strip()}")
    answers = [json.loads(line) for line in done.stdout.decode().splitlines()]
    for a in answers:
        if "error" in a:
            raise bc.Failed(f"mlxctl tokenize: {a['error']}")
    return [a["ids"] for a in answers]


def read_ids(args):
    """ids of the first texts that make up the tokens wanted, and which files those are."""
    paths = [p for p in args.text or TEXTS if os.path.isfile(p)]
    if args.text and len(paths) < len(args.text):
        raise bc.Failed(f"{next(p for p in args.text if p not in paths)} is not there")
    if not paths:
        raise bc.Failed("none of the texts is on this machine: --text FILE")
    ids, used = array.array("i"), []
    for path, part in zip(paths, tokenize(args, [bc.read_text(p)[:MOST_OF_ONE] for p in paths])):
        if len(ids) >= args.tokens:
            break
        ids.extend(part)
        used.append({"path": path, "sha256": bc.sha256(path), "tokens": len(part)})
    n = min(len(ids), args.tokens) // args.context * args.context
    if n == 0:
        raise bc.Failed(f"{len(ids)} tokens of text are fewer than a context of {args.context}")
    if n < args.tokens // args.context * args.context:
        bc.say(f"only {n} tokens of text here")
    return ids[:n], used


def ids_file(ids):
    f = tempfile.NamedTemporaryFile(prefix="mlxr-fidelity-", suffix=".ids")
    if sys.byteorder != "little":
        ids = array.array("i", ids)
        ids.byteswap()
    f.write(ids.tobytes())
    f.flush()
    return f


def fidelity_program(args):
    path = os.path.join(args.build_dir, "bin", "fidelity")
    if subprocess.run(["cmake", "--build", args.build_dir, "--target", "fidelity"], stdout=subprocess.DEVNULL).returncode:
        raise bc.Failed(f"cmake --build {args.build_dir} --target fidelity failed")
    return path


def own(args, path, device, precision, kv=None):
    command = [args.fidelity, args.model, path, "-c", str(args.context), "-t", str(args.threads), "-d", device, "-p", precision]
    command += ["-k", kv] if kv else []
    done = subprocess.run(command, stdout=subprocess.PIPE)
    if done.returncode != 0:
        raise bc.Failed(f"fidelity: exit code {done.returncode}")
    return json.loads(done.stdout)


def llama(args, path, gguf, vocab):
    """llama.cpp writes its logits into a pipe, fidelity compares them as they come."""
    job = {"job": "logits", "model": gguf, "ids": path, "context": args.context, "threads": args.threads, "vocab": vocab,
           "flash": args.flash}
    writer = subprocess.Popen([args.python, bc.LLAMA_CHILD, json.dumps(job)], stdout=subprocess.PIPE)
    try:
        reader = subprocess.run([args.fidelity, args.model, path, "-c", str(args.context), "-t", str(args.threads), "-x"],
                                stdin=writer.stdout, stdout=subprocess.PIPE)
    finally:
        writer.stdout.close()
        if writer.poll() is None and sys.exc_info()[0]:
            writer.kill()
        code = writer.wait()
    if code != 0 or reader.returncode != 0:
        raise bc.Failed(f"{os.path.basename(gguf)}: llama.cpp ended with {code}, fidelity with {reader.returncode}")
    return json.loads(reader.stdout)


def parse():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    p.add_argument("--model", default=bc.MODEL, help="the MLX folder (the default model)")
    p.add_argument("--gguf", help="the same model as a GGUF (the default model's)")
    p.add_argument("--variants", default="q4_1,q4_0,q4_0-pure", help="of llama.cpp; \"\" for none")
    p.add_argument("--kv", default="f32,f16,int8", help="types of keys and values (f16 is the default of --precision fast)")
    p.add_argument("--venv", help="a virtual environment with llama-cpp-python")
    p.add_argument("--build-dir", default=os.path.join(bc.ROOT, "build"))
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--tokens", type=int, default=20480)
    p.add_argument("--context", type=int, default=512)
    p.add_argument("--text", nargs="+", help="files to read instead of Debian's")
    p.add_argument("--flash", choices=["auto", "on", "off"], default="auto")
    p.add_argument("--ref", action="store_true", help="also the exact path against the device ref (slow)")
    p.add_argument("--json", dest="json_path", help="a file for all that was measured")
    args = p.parse_args()
    if args.tokens < args.context or args.context < 2:
        p.error("--tokens are at least one --context, and that two ids")
    return args


def run():
    args = parse()
    args.mlxctl = bc.program("mlxctl", args.build_dir)
    args.fidelity = fidelity_program(args)
    if not os.path.isdir(args.model):
        raise bc.Failed(f"{args.model} is not there: scripts/setup.sh model, or --model")
    variants = [v for v in args.variants.split(",") if v]
    args.python = bc.llama_python(args.venv) if variants else None
    if variants and not args.python:
        bc.say("no llama-cpp-python (--venv; compare_llama_cpp.py --build makes one): mlxr alone")
        variants = []
    gguf = (args.gguf or bc.default_gguf()) if variants else None
    vocab = bc.answer([args.mlxctl, "show", args.model, "--json"], "mlxctl show")["vocab_size"]
    ids, used = read_ids(args)
    results = {}
    with ids_file(ids) as f:
        for kv in args.kv.split(","):
            bc.say(f"mlxr fast, keys and values {kv}")
            results[f"mlxr fast, --kv {kv}"] = own(args, f.name, "cpu", "fast", kv)
        if args.ref:
            bc.say("mlxr ref")
            results["mlxr ref"] = own(args, f.name, "ref", "exact")
        for v in variants:
            bc.say(f"llama.cpp {v}")
            results[f"llama.cpp {v}"] = llama(args, f.name, bc.variant(args.python, gguf, v, args.threads), vocab)

    facts = bc.machine()
    rows = []
    for name, r in results.items():
        rows.append([name, f"{r['kl_mean']:.6f}", f"{r['kl_p99']:.5f}", f"{r['kl_max']:.3f}", f"{100 * r['argmax_equal']:.2f} %",
                     f"{r['logits_relative']:.2g}", f"{2.718281828459045 ** r['nll_tested']:.4f}"])
    first = next(iter(results.values()))
    print(bc.machine_text(facts))
    print(f"Model {os.path.basename(os.path.normpath(args.model))}; {first['tokens']} tokens in contexts of {args.context}; float32's "
          f"perplexity {2.718281828459045 ** first['nll_exact']:.4f}.\n")
    print(bc.table(["against float32 (--precision exact)", "mean KL", "99 %", "largest", "same argmax", "logits, relative",
                    "perplexity"], rows))
    print("\nText:")
    for u in used:
        print(f"- `{u['path']}`, {u['tokens']} tokens, {u['sha256']}")
    if args.json_path:
        with open(args.json_path, "w") as f:
            json.dump({"machine": facts, "arguments": sys.argv[1:], "results": results, "texts": used}, f, indent=1)
            f.write("\n")
    return 0


if __name__ == "__main__":
    bc.main(run)
