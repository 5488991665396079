#!/usr/bin/env python3
"""A thousand hot answers with a form: every one that ended by itself must be valid, whatever was drawn.

    bench/structured.py MODEL [--mlxctl build/bin/mlxctl] [--schemas 50] [--choices 20] [--temperature 1.5] [--seed 1]

Takes schemas of tests/engine/grammar/schemas evenly, asks for each with a few prompts, and judges
the answers with Python's jsonschema (pip install 'jsonschema[format]'). Prints how many were valid, cut off by the limit of
tokens, and wrong; the exit code is 1 when any was wrong."""
import argparse
import collections
import json
import pathlib
import subprocess
import sys

import jsonschema

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROMPTS = ["Make up an example.", "Answer in JSON: who are you, and where do you live?", "Write one entry of the catalogue."]


def corpus(n):
    found = []
    for path in sorted((ROOT / "tests/engine/grammar/schemas").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
            case = json.loads(line)
            if isinstance(case["schema"], dict) and case["accepted"]:
                found.append((f"{path.stem}/{case['name']}", case["schema"]))
    step = max(1, len(found) // (3 * n))
    return found[::step]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--mlxctl", default=str(ROOT / "build/bin/mlxctl"))
    parser.add_argument("--schemas", type=int, default=50)
    parser.add_argument("--choices", type=int, default=20)
    parser.add_argument("--temperature", default="1.5")
    parser.add_argument("--max-tokens", default="200")
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    counts = collections.Counter()
    n_schemas = n_refused = 0
    for name, schema in corpus(a.schemas):
        if n_schemas == a.schemas:
            break
        run = subprocess.run(
            [a.mlxctl, "run", a.model, PROMPTS[n_schemas % len(PROMPTS)], "--format", json.dumps(schema),
             "--temperature", a.temperature, "--top-k", "0", "--top-p", "1", "--choices", str(a.choices),
             "--max-tokens", a.max_tokens, "--seed", str(a.seed + 1000 * n_schemas), "--json"],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        if run.returncode != 0:
            n_refused += 1
            print(f"refused  {name}: {run.stderr.strip()}")
            continue
        n_schemas += 1
        validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
        for line in run.stdout.split("\n")[:-1]:  # not splitlines: texts may hold U+2028
            event = json.loads(line)
            if event["event"] != "completed":
                continue
            if event["done_reason"] == "length":
                counts["length"] += 1
                continue
            try:
                error = next(validator.iter_errors(json.loads(event["text"])), None)
            except json.JSONDecodeError as e:
                error = e
            counts["wrong" if error else "valid"] += 1
            if error:
                print(f"WRONG    {name}: {event['text']}\n         {str(error).splitlines()[0]}")
    print(f"{sum(counts.values())} answers over {n_schemas} schemas at temperature {a.temperature}: {counts['valid']} valid, "
          f"{counts['length']} cut off by the limit, {counts['wrong']} wrong; {n_refused} schemas refused")
    return 1 if counts["wrong"] or not counts else 0


if __name__ == "__main__":
    sys.exit(main())
