#!/usr/bin/env python3
"""Measures the tokenizer beside Hugging Face `tokenizers`, one thread each, in alternating runs on the same text.

  tokenizer_speed.py --bench build/bin/bench_tokenizer DIR...     each DIR holds a tokenizer.json

Prints a table: encoding in MB/s (documents of 0.5 to 16 KB, ids only are asked for), cold load and load from the
compiled cache in ms, and how many times faster. --text FILE takes UTF-8 of your own; without it 6 MB are put together
from what a Debian machine has: Python and C sources, documentation, messages in many languages.
"""
import argparse
import gettext
import glob
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
from tokenizers import Tokenizer, __version__  # noqa: E402


def read(path):
    try:
        with open(path, encoding="utf-8") as f:
            return f.read()[:100000].replace("\0", "")
    except (OSError, UnicodeError):
        return ""


def take(texts, n_bytes):
    out, n = [], 0
    for t in texts:
        out.append(t)
        n += len(t.encode())
        if n > n_bytes:
            break
    return "\n".join(out)


def corpus(path):
    r = random.Random(5)
    if path:
        parts = [open(path, encoding="utf-8").read()]
    else:
        find = lambda *patterns: [p for x in patterns for p in sorted(glob.glob(x, recursive=True))]
        code = [read(p) for p in find("/usr/lib/python3*/**/*.py")] + [read(p) for p in find("/usr/include/**/*.h")[:600]]
        docs = [read(p) for p in find("/usr/share/cmake*/Help/**/*.rst", "/usr/share/doc/**/*.txt", "/usr/share/doc/**/copyright")]
        messages = []
        for p in find("/usr/share/**/*.mo"):
            try:
                with open(p, "rb") as f:
                    messages += [v for v in gettext.GNUTranslations(f)._catalog.values() if isinstance(v, str)]
            except Exception:
                pass
        for texts in (code, docs, messages):
            r.shuffle(texts)
        parts = [take([t for t in texts if t], 2000000) for texts in (code, docs, messages)]
    out = []
    for p in parts:
        i = 0
        while i < len(p):
            k = r.randrange(500, 16000)
            out.append(p[i:i + k])
            i += k
    r.shuffle(out)
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--bench", required=True)
    ap.add_argument("--text")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("dirs", nargs="+")
    a = ap.parse_args()
    docs = corpus(a.text)
    n_bytes = sum(len(d.encode()) for d in docs)
    print("%d documents, %d bytes, tokenizers %s, %d alternating rounds, the best of each" % (len(docs), n_bytes, __version__, a.rounds))
    print("| tokenizer | reference MB/s | mlxr MB/s | times | reference load ms | mlxr load ms | times | mlxr cached load ms |")
    print("|---|---|---|---|---|---|---|---|")
    speedups, ok = [], True
    with tempfile.TemporaryDirectory() as tmp:
        text = os.path.join(tmp, "documents")
        with open(text, "wb") as f:
            f.write(b"\0".join(d.encode() for d in docs))
        for d in a.dirs:
            path = os.path.join(d, "tokenizer.json") if os.path.isdir(d) else d
            best = {}

            def note(key, value):
                best[key] = min(best.get(key, 1e18), value)
            total = 0
            for _ in range(a.rounds):
                t = time.perf_counter()
                tok = Tokenizer.from_file(path)
                note("ref_load", (time.perf_counter() - t) * 1e3)
                t = time.perf_counter()
                lists = [tok.encode(x, add_special_tokens=False).ids for x in docs]
                note("ref", (time.perf_counter() - t) * 1e3)
                total = 0
                for ids in lists:
                    for i in ids:
                        total = (total * 31 + i) & 0xFFFFFFFF
                for cache in (None, tmp):
                    cmd = [a.bench, path, text, "1"] + ([cache] if cache else [])
                    got = json.loads(subprocess.run(cmd, stdout=subprocess.PIPE, check=True).stdout)
                    if got["sum"] != total:
                        print("%s: the ids differ" % d)
                        ok = False
                    note("load" if not cache else "cached", got["load_ms"])
                    note("encode", got["encode_ms"])
            subprocess.run([a.bench, path, text, "1", tmp], stdout=subprocess.PIPE, check=True)
            speedups.append(best["ref"] / best["encode"])
            print("| %s | %.2f | %.1f | %.1f | %.0f | %.1f | %.1f | %.2f |" % (os.path.basename(os.path.normpath(d)), n_bytes / best["ref"] / 1e3, n_bytes / best["encode"] / 1e3,
                  speedups[-1], best["ref_load"], best["load"], best["ref_load"] / best["load"], best["cached"]), flush=True)
    print("encoding: median %.1f times, least %.1f times" % (statistics.median(speedups), min(speedups)))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
