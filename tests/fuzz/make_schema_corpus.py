#!/usr/bin/env python3
"""Writes tests/fuzz/corpus/schema: from the schemas of tests/engine/grammar/schemas the smallest for each pair of a keyword and
what stands beside it, and a few that are wrong or ask for too much.

usage: make_schema_corpus.py"""

import collections
import glob
import json
import os

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "corpus", "schema")
WRONG = [
    "{",
    "[]",
    "5",
    '{"$ref":"#"}',
    '{"allOf":[{"$ref":"#"}]}',
    '{"not":{"$ref":"#"}}',
    '{"$ref":"#/$defs/%7E0~1","$defs":{"~/":false}}',
    '{"$id":"a:b","$defs":{"x":{"$id":"../../x","$anchor":"y"}},"$ref":"x#y"}',
    '{"type":"string","minLength":1e99,"maxLength":"a"}',
    '{"multipleOf":1e-300,"minimum":-1e300}',
    '{"items":[{},{}],"additionalItems":{"$ref":"#/items/1"}}',
    '{"contains":{"not":{"const":{"a":[1]}}},"minContains":3,"maxContains":2}',
    '{"uniqueItems":true,"items":{"type":["string","number","null"]},"minItems":3}',
    '{"properties":{"a":{}},"patternProperties":{"^a|b$":{"type":"null"}},"unevaluatedProperties":{"minimum":1},"minProperties":3}',
    '{"oneOf":[{"required":["a"]},{"required":["b"]},{"required":["c"]}],"not":{"required":["a","b"]}}',
]


def words(s, above=""):
    if isinstance(s, dict):
        for k, v in s.items():
            yield above + "/" + k
            yield from words(v, k)
    elif isinstance(s, list):
        for v in s:
            yield from words(v, above)


def main():
    best, count = {}, collections.Counter()
    for path in sorted(glob.glob(os.path.join(HERE, "../engine/grammar/schemas/*.jsonl"))):
        for line in open(path, encoding="utf-8"):
            schema = json.loads(line)["schema"]
            text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
            for w in set(words(schema)):
                count[w] += 1
                if w not in best or len(text) < len(best[w]):
                    best[w] = text
    best = {w: text for w, text in best.items() if count[w] > 8 and len(text) < 600}
    os.makedirs(OUT, exist_ok=True)
    for i, text in enumerate(WRONG + sorted(set(best.values()))):
        with open(os.path.join(OUT, "%03d.json" % i), "w", encoding="utf-8") as f:
            f.write(text)


main()
