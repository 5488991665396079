#!/usr/bin/env python3
"""Makes fixtures/*.json with Hugging Face `tokenizers`: small tokenizers, a few for each component, with what the
reference says of some texts. Run by hand:  python3 make_fixtures.py

A fixture is {"tokenizer": {...}, "cases": [{"text", "pair", "special", "ids", "decoded", "decoded_skip"}, ...]}; a
text that the reference refuses has null ids."""
import json
import os
import random

import fuzz_vs_hf as f
from tokenizers import Tokenizer

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures")
WANT = {"normalizer": ["BertNormalizer", "Strip", "StripAccents", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Nmt", "Precompiled", "Replace", "Prepend", "ByteLevel", "Sequence"],
        "pre_tokenizer": ["BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Metaspace", "Whitespace", "Split", "Punctuation", "WhitespaceSplit", "Digits", "UnicodeScripts", "FixedLength", "Sequence"],
        "post_processor": ["TemplateProcessing", "BertProcessing", "RobertaProcessing", "ByteLevel", "Sequence"],
        "decoder": ["BPEDecoder", "ByteLevel", "WordPiece", "Metaspace", "CTC", "Fuse", "Strip", "Replace", "ByteFallback", "Sequence"],
        "model": ["BPE", "Unigram", "WordPiece", "WordLevel"], "truncation": ["LongestFirst", "OnlyFirst", "OnlySecond"], "padding": ["Left", "Right"]}


def kinds(t):
    for part, c in t.items():
        if part in WANT and c:
            yield part, c.get("type") or (c["strategy"] if part == "truncation" else c["direction"])
            for key in ("normalizers", "pretokenizers", "processors", "decoders"):
                for x in c.get(key, []):
                    yield part, x["type"]




def main():
    os.makedirs(HERE, exist_ok=True)
    for old in os.listdir(HERE):
        if old.startswith("component_"):
            os.remove(os.path.join(HERE, old))
    need = {(p, k): 2 for p in WANT for k in WANT[p]}
    seed = made = 0
    while any(need.values()) and seed < 3000:
        seed += 1
        r = random.Random(90000 + seed)
        t = f.component_tokenizer(r)
        new = [x for x in set(kinds(t)) if need.get(x, 0) > 0]
        if len(new) < (3 if seed < 600 else 1):
            continue
        raw = json.dumps(t, ensure_ascii=False)
        tok = f.reference(lambda: Tokenizer.from_str(raw))
        if tok is None or tok is f.PANIC or f.odd(tok, t):
            continue
        pieces = [a["content"] for a in t["added_tokens"]] + ["<0x41>", "▁", "##a"]
        cases = []
        for _ in range(24):
            text, pair, special = f.text(r, pieces), f.text(r, pieces) if r.random() < .2 else None, r.random() < .6
            ids = f.reference(lambda: (tok.encode(text, pair, add_special_tokens=special) if pair is not None else tok.encode(text, add_special_tokens=special)).ids)
            if ids is f.PANIC:
                continue
            if ids is None:
                cases.append({"text": text, "pair": pair, "special": special, "ids": None})
                continue
            plain, skip = (f.reference(lambda: tok.decode(ids, skip_special_tokens=s)) for s in (False, True))
            if isinstance(plain, str) and isinstance(skip, str):
                cases.append({"text": text, "pair": pair, "special": special, "ids": ids, "decoded": plain, "decoded_skip": skip})
        if len(cases) < 8:
            continue
        for x in new:
            need[x] -= 1
        made += 1
        with open(os.path.join(HERE, "component_%02d.json" % made), "w") as out:
            json.dump({"tokenizer": t, "cases": cases}, out, ensure_ascii=True)
            out.write("\n")
    print("%d fixtures; missing: %s" % (made, [k for k, v in need.items() if v == 2]))


main()
