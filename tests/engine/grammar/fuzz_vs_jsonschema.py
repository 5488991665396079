#!/usr/bin/env python3
"""Random schemas and instances: mlxctl grammar against Python's jsonschema, both ways.

`grammar check` of instances near each schema has to agree with the reference, and each text that `grammar sample` writes has to be
JSON that the reference accepts (and that `grammar check` takes). Schemas are those of schemas/*.jsonl with other instances
than those recorded, and new random ones. A disagreement is printed; the exit code is 1 when there is one.

usage: fuzz_vs_jsonschema.py --mlxctl PATH [--count N] [--seed S] [--jobs 2] [--corpus] [--only NAME]"""

import argparse
import collections
import glob
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile

import schema_gen
from schema_judge import Judge, NoVerdict, dumps, well_formed

HERE = os.path.dirname(os.path.abspath(__file__))


def has_format(s):
    if isinstance(s, dict):
        return isinstance(s.get("format"), str) or any(has_format(v) for v in s.values())
    return isinstance(s, list) and any(has_format(v) for v in s)


def work(job):
    name, seed, text, n_near, n_samples, mlxctl = job
    stats, diffs = collections.Counter(), []
    schema = json.loads(text)
    try:
        judge = Judge(schema)
        near = schema_gen.near(seed, schema, n_near)
        wanted = [(v, judge.accepts(v)) for v in near]
    except (NoVerdict, RecursionError, ValueError):
        stats["no verdict"] += 1
        return name, stats, diffs
    with tempfile.TemporaryDirectory(prefix="fuzz_schema.") as tmp:
        path = os.path.join(tmp, "schema.json")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        run = lambda words, given="": subprocess.run([mlxctl, "grammar"] + words, input=given.encode("utf-8", "surrogatepass"), capture_output=True, timeout=60)
        p = run(["check", path], "".join(dumps(v) + "\n" for v, _ in wanted))
        got = [json.loads(line) for line in p.stdout.decode("utf-8").split("\n") if line]
        if p.returncode == 1 and len(got) == 1 and "error" in got[0]:
            empty = any(words in got[0]["error"] for words in ("no value", "no text can be completed"))
            stats["empty" if empty else "refused"] += 1
            if not empty:
                diffs.append(("refused", name, text, got[0]["error"], ""))
            elif any(good for _, good in wanted):
                diffs.append(("not empty", name, text, next(dumps(v) for v, good in wanted if good), got[0]["error"]))
            return name, stats, diffs
        if p.returncode != 0 or len(got) != len(wanted):
            diffs.append(("broken", name, text, "exit %d, %d of %d answers" % (p.returncode, len(got), len(wanted)), p.stderr.decode("utf-8", "replace")[-500:]))
            return name, stats, diffs
        for (v, good), answer in zip(wanted, got):
            if "error" in answer:
                diffs.append(("error", name, text, dumps(v), answer["error"]))
            elif answer["valid"] == good:
                stats["agreed: " + ("accepted" if good else "rejected")] += 1
            elif good and has_format(schema):
                stats["narrower (format)"] += 1
                diffs.append(("narrower", name, text, dumps(v), "at %(at)r, expected %(expected)s" % answer))
            else:
                diffs.append(("too wide" if answer["valid"] else "too narrow", name, text, dumps(v), dumps(answer)))
        try:
            p = run(["sample", path, "-n", str(n_samples), "--seed", str(seed)])
        except subprocess.TimeoutExpired:
            diffs.append(("slow sample", name, text, "", ""))
            return name, stats, diffs
        lines = [line for line in p.stdout.decode("utf-8", "replace").split("\n") if line]
        if p.returncode != 0:
            stats["no sample"] += 1
            if b"no text of less than" not in p.stderr:
                diffs.append(("no sample", name, text, p.stderr.decode("utf-8", "replace")[-300:], ""))
        for line in lines:
            try:
                good = judge.accepts_text(line)
            except (NoVerdict, RecursionError):
                continue
            except ValueError as e:
                diffs.append(("sample is no JSON", name, text, line, str(e)))
                continue
            stats["samples"] += 1
            if not good:
                diffs.append(("sample is rejected", name, text, line, ""))
        p = run(["check", path], "".join(line + "\n" for line in lines))
        for line, answer in zip(lines, p.stdout.decode("utf-8").split("\n")):
            if json.loads(answer) != {"valid": True}:
                diffs.append(("sample is not taken", name, text, line, answer))
    return name, stats, diffs


def jobs(a):
    mlxctl = os.path.abspath(a.mlxctl)
    if a.corpus:
        for path in sorted(glob.glob(os.path.join(HERE, "schemas", "*.jsonl"))):
            for line in open(path, encoding="utf-8"):
                e = json.loads(line)
                if a.only in e["name"]:
                    yield e["name"], a.seed, dumps(e["schema"]), 40, 20, mlxctl
        return
    for i in range(a.count):
        g = schema_gen.Gen("fuzz-%d-%d" % (a.seed, i))
        schema = g.top()
        text = dumps(schema)
        if len(text) < 4000 and well_formed(schema):
            yield "random %d-%d" % (a.seed, i), a.seed * 1000003 + i, text, 30, 15, mlxctl


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--mlxctl", required=True)
    ap.add_argument("--count", type=int, default=1000, help="random schemas")
    ap.add_argument("--corpus", action="store_true", help="the schemas of the corpus instead")
    ap.add_argument("--only", default="", help="of the corpus, those with this in their names")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--jobs", type=int, default=2)
    ap.add_argument("--show", type=int, default=30, help="disagreements that are printed, the shortest first")
    a = ap.parse_args()
    total, diffs, n = collections.Counter(), [], 0
    refusals = collections.Counter()
    with multiprocessing.Pool(a.jobs) as pool:
        for _, stats, some in pool.imap_unordered(work, jobs(a), chunksize=4):
            n += 1
            total.update(stats)
            for d in some:
                if d[0] == "refused":
                    refusals[d[3].split(": ", 1)[-1]] += 1
                elif d[0] != "narrower":
                    diffs.append(d)
                elif a.show < 0:
                    print("narrower: %s: %s\n    %s: %s" % d[1:])
    for reason, k in refusals.most_common(15):
        print("refused %d: %s" % (k, reason))
    for kind, name, text, what, more in sorted(diffs, key=lambda d: (len(d[2]) + len(d[3])))[: max(a.show, 0)]:
        print("---- %s: %s\n%s\n%s\n%s" % (kind, name, text, what[:400], more[:400]))
    print("%d schemas: %s; %d disagreements %s" % (n, dict(total), len(diffs), dict(collections.Counter(d[0] for d in diffs))))
    return 1 if diffs else 0


if __name__ == "__main__":
    sys.exit(main())
