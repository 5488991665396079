#!/usr/bin/env python3
"""Makes schemas/*.jsonl: JSON Schemas with instances that are accepted and rejected, as Python's jsonschema judges them.

One object a line: {"name", "source", "schema", "accepted": [...], "rejected": [...]}, and "listed": true where it is a group
of the official suite for a keyword that grammars are meant to enforce.

usage: make_schemas.py --suite DIR [--commit C]    DIR: a clone of json-schema-org/JSON-Schema-Test-Suite

The suite's own verdict counts where it tests a format or ECMA-262's regular expressions, which Python has only in part;
everywhere else the reference's, with formats enforced (the suite's format.json has them as annotations).
`dependencies` is enforced as well."""

import argparse
import json
import os
import random
import subprocess
import sys

import schema_gen
import schemas_real
from schema_judge import Judge, NoVerdict, dumps, well_formed

HERE = os.path.dirname(os.path.abspath(__file__))
LISTED = (
    "type enum const properties required additionalProperties patternProperties propertyNames minProperties maxProperties prefixItems items contains minContains maxContains "
    "minItems maxItems minLength maxLength pattern format minimum maximum exclusiveMinimum exclusiveMaximum multipleOf anyOf oneOf allOf ref defs boolean_schema default"
).split()
OWN_VERDICT = ("optional/format/", "optional/ecmascript-regex", "optional/non-bmp-regex", "optional/float-overflow", "optional/bignum", "optional/format-assertion", "optional/cross-draft", "optional/dependencies-compatibility")
BASE = "tests/draft2020-12/"


def git(repo, *words):
    return subprocess.run(["git", "-C", repo] + list(words), check=True, capture_output=True).stdout.decode("utf-8")


def write(name, entries):
    path = os.path.join(HERE, "schemas", name + ".jsonl")
    with open(path, "w", encoding="utf-8", newline="\n") as f:
        for e in entries:
            f.write(dumps(e) + "\n")
    print("%s: %d schemas, %d accepted, %d rejected, %d bytes" % (name, len(entries), sum(len(e["accepted"]) for e in entries), sum(len(e["rejected"]) for e in entries), os.path.getsize(path)))


def suite(repo, commit):
    remotes = {}
    for path in git(repo, "ls-tree", "-r", "--name-only", commit, "remotes").split("\n"):
        if path.endswith(".json") and ("/draft2020-12/" in path or path.count("/") == 1):
            remotes["http://localhost:1234/" + path[len("remotes/"):]] = json.loads(git(repo, "show", commit + ":" + path))
    entries = []
    for path in git(repo, "ls-tree", "-r", "--name-only", commit, BASE).split("\n"):
        if not path.endswith(".json"):
            continue
        short = path[len(BASE):-len(".json")]
        seen = {}
        for group in json.loads(git(repo, "show", commit + ":" + path)):
            schema = group["schema"]
            if isinstance(schema, dict) and schema.get("$schema", schemas_real.DRAFT) != schemas_real.DRAFT:
                continue  # another draft, or a vocabulary of its own
            name = "%s: %s" % (short, group["description"])
            seen[name] = seen.get(name, 0) + 1
            if seen[name] > 1:
                name += " (%d)" % seen[name]
            e = {"name": name, "source": "suite/" + short, "schema": schema, "accepted": [], "rejected": []}
            if short in LISTED or short.startswith("optional/format/"):
                e["listed"] = True
            judge = Judge(schema, remotes)
            for t in group["tests"]:
                if short.startswith(OWN_VERDICT):
                    good = t["valid"]
                else:
                    try:
                        good = judge.accepts(t["data"])
                    except NoVerdict:
                        good = t["valid"]
                    if good != t["valid"] and short != "format":
                        print("differs from the suite: %s: %s: the reference says %s" % (name, t["description"], good), file=sys.stderr)
                e["accepted" if good else "rejected"].append(t["data"])
            entries.append(e)
    write("suite", entries)


def judged(name, source, schema, values, most):
    """The entry, with at most so many accepted and rejected; None when there is nothing to tell."""
    e = {"name": name, "source": source, "schema": schema, "accepted": [], "rejected": []}
    judge = Judge(schema)
    for v in values:
        try:
            to = e["accepted" if judge.accepts(v) else "rejected"]
        except NoVerdict:
            return None
        if len(to) < most and len(dumps(v)) < 600:
            to.append(v)
    return e


def real():
    entries = []
    for name, schema, values in schemas_real.REAL:
        assert well_formed(schema), name
        judge = Judge(schema)
        for v in values:
            assert judge.accepts(v), (name, v)
        e = judged(name, "real", schema, schema_gen.near(name, schema, 60, values), 8)
        assert e["accepted"] and e["rejected"] or name == "tool with any arguments", name
        entries.append(e)
    write("real", entries)


def generated(seed, count, most_bytes):
    kinds = ["string", "number", "array", "object", "leaf", "tagged", "untyped", "without", "conditional", "top"]
    entries, texts, i = [], set(), 0
    while len(entries) < count:
        i += 1
        g = schema_gen.Gen("%s-%d" % (seed, i))
        kind = kinds[i // 2 % len(kinds)] if i % 2 else "top"
        schema = getattr(g, kind)(*([1] if kind in ("array", "object", "tagged", "untyped", "without", "conditional") else []))
        if g.defs and isinstance(schema, dict):
            schema = dict(schema, **{"$defs": g.defs})
        text = dumps(schema)
        if not isinstance(schema, dict) or text in texts or len(text) > most_bytes or not well_formed(schema):
            continue
        try:
            e = judged("%s %d" % (kind, i), "generated", schema, schema_gen.near(i, schema, 40), 5)
        except RecursionError:
            continue
        if e is None or not e["accepted"]:
            continue
        texts.add(text)
        entries.append(e)
    write("generated", entries)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--suite", required=True)
    ap.add_argument("--commit", default="HEAD")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--count", type=int, default=260, help="generated schemas")
    a = ap.parse_args()
    random.seed(a.seed)
    os.makedirs(os.path.join(HERE, "schemas"), exist_ok=True)
    suite(a.suite, a.commit)
    real()
    generated(a.seed, a.count, 900)


if __name__ == "__main__":
    main()
