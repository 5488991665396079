#!/usr/bin/env python3
"""Compares `mlxctl tokenize` with Hugging Face `tokenizers` on random texts. Run by hand; needs `tokenizers`.

  fuzz_vs_hf.py --mlxctl PATH DIR...               each DIR holds a tokenizer.json (or is one)
  fuzz_vs_hf.py --mlxctl PATH --components 300     small tokenizers put together at random from all components

-n texts a tokenizer (100000 for folders, 300 for components), --seed S, --show N differences. For every text:
its ids with and without special tokens, and the text of these ids; and the text of random ids.
"""
import argparse
import base64
import json
import os
import random
import string
import struct
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer

WORDS = """the of and to in a is that for it as was with be by on not he I this are or his from at which but have an had
they you were their one all we can her has there been if more when will would who so no Hello world don't it's I'LL we've
THEY'RE she'd I'm isn't O'Neil über naïve façade Straße ΣΊΣΥΦΟΣ привет мир 你好 世界 漢字 かな カタカナ 안녕하세요 שלום مرحبا
नमस्ते สวัสดี éclair e\u0301 n\u0303o İstanbul ſecret Kelvin ﬁne ½ ² ① Ⅳ １２３ 42 3.14 1,000,000 2024-05-06 foo_bar fooBar
HTTPServer getElementById http://example.com/a?b=c&d=e user@host.org def return int* x+=1; //comment /*c*/ {"k":[1,2]} <b>
</b> &amp; ... ?! !!! -- — “quoted” ‘x’ 👍 👨‍👩‍👧 🏳️‍🌈 🇩🇪 ♥️ ☕""".split()
SPACES = [" ", " ", " ", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n", "\n ", "\u00a0", "\u3000", "\u2003", "\u200b", "\u2028", "\u0085", "", ""]
MARKS = "\u0300\u0301\u0308\u0323\u0327\u093c\u094d\u0e31\u064b\u200d\u200c\ufe0f\u20e3\u1ab0\u0345"


def any_char(r):
    k = r.random()
    if k < 0.25:
        return chr(r.randrange(0x20, 0x7F))
    if k < 0.30:
        return chr(r.randrange(0, 0x20))
    if k < 0.45:
        return chr(r.randrange(0x80, 0x800))
    if k < 0.55:
        return r.choice(MARKS)
    if k < 0.85:
        c = r.randrange(0x800, 0x10000)
        return chr(c) if not 0xD800 <= c < 0xE000 else "\u4e00"
    return chr(r.choice([r.randrange(0x10000, 0x20000), r.randrange(0x1F000, 0x1FB00), r.randrange(0x20000, 0x110000)]))


def text(r, pieces):
    kind = r.random()
    if kind < 0.15:
        return "".join(any_char(r) for _ in range(r.randrange(0, 30)))
    if kind < 0.25:
        base = r.choice(["'", " ", "a", "1", "\n", ".", "x\u0301", "▁", "A", "<", "-", "\u0915\u094d"])
        return "".join(r.choice([base, base, any_char(r), r.choice(SPACES)]) for _ in range(r.randrange(1, 25)))
    out = []
    for _ in range(r.randrange(1, 12)):
        k = r.random()
        if k < 0.62:
            out.append(r.choice(WORDS))
        elif k < 0.72 and pieces:
            out.append(r.choice(pieces))
        elif k < 0.82:
            out.append("".join(any_char(r) for _ in range(r.randrange(1, 5))))
        elif k < 0.9:
            out.append(str(r.randrange(10 ** r.randrange(1, 12))))
        else:
            out.append("".join(r.choice(string.punctuation) for _ in range(r.randrange(1, 6))))
        out.append(r.choice(SPACES))
    return "".join(out)


class Peer:
    def __init__(self, mlxctl, folder):
        self.p = subprocess.Popen([mlxctl, "tokenize", folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, requests):
        """All answers; the requests go out from a child of their own so that no pipe fills up."""
        data = "".join(json.dumps(x) + "\n" for x in requests).encode()
        pid = os.fork()
        if pid == 0:
            try:
                self.p.stdin.write(data)
                self.p.stdin.flush()
            finally:
                os._exit(0)
        out = []
        for _ in requests:
            line = self.p.stdout.readline()
            if not line:
                raise SystemExit("mlxctl died: %s" % self.p.wait())
            out.append(json.loads(line))
        os.waitpid(pid, 0)
        return out

    def close(self):
        self.p.stdin.close()
        return self.p.wait()


PANIC = object()


def reference(f):
    """None for an error, PANIC where the reference falls over, which says nothing."""
    try:
        return f()
    except Exception:
        return None
    except BaseException as e:
        if isinstance(e, KeyboardInterrupt):
            raise
        return PANIC


def compare(name, tok, peer, r, count, show):
    n_vocab = tok.get_vocab_size()
    pieces = [t.content for t in tok.get_added_tokens_decoder().values()]
    vocab = list(tok.get_vocab())
    pieces += r.sample(vocab, min(len(vocab), 200)) + ["<0x41>", "<0xE2>", "<unk>", "▁", "##a", "</w>"]
    bad = done = refused = 0
    while done < count:
        n = min(1000, count - done)
        done += n
        texts = [text(r, pieces) for _ in range(n)]
        asks, wants = [], []
        for t in texts:
            special = r.random() < 0.5
            want = reference(lambda: tok.encode(t, add_special_tokens=special).ids)
            asks.append({"text": t, "add_special_tokens": special})
            wants.append(("ids", want))
            refused += want is None or want is PANIC
            if r.random() < 0.1:
                other = text(r, pieces)
                asks.append({"text": t, "pair": other, "add_special_tokens": special})
                wants.append(("ids", reference(lambda: tok.encode(t, other, add_special_tokens=special).ids)))
            for ids in (want, [r.randrange(n_vocab + 20) for _ in range(r.randrange(0, 12))]):
                if ids is None or ids is PANIC or (ids is not want and r.random() < 0.5):
                    continue
                skip = r.random() < 0.5
                got = reference(lambda: tok.decode(ids, skip_special_tokens=skip))
                if got is not None and got is not PANIC:
                    asks.append({"ids": ids, "skip_special_tokens": skip})
                    wants.append(("text", got))
        for ask, (key, want), got in zip(asks, wants, peer.ask(asks)):
            if want is PANIC or (want is None and "error" in got):
                continue
            if got.get(key) != want:
                bad += 1
                if bad <= show:
                    print("  %s: %s\n    want %s\n    got  %s" % (name, json.dumps(ask)[:300], json.dumps(want)[:300], json.dumps(got)[:300]))
    return bad, done, refused


# ---- small tokenizers at random ----

def byte_alphabet():
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    chars, extra = keep[:], 0
    for b in range(256):
        if b not in keep:
            keep.append(b)
            chars.append(256 + extra)
            extra += 1
    return [chr(c) for _, c in sorted(zip(keep, chars))]


CHARSMAP = {"ﬁ": "fi", "①": "1", "\u3000": " ", "Ａ": "A", "e\u0301": "é", "½": "1/2", "\u00ad": "", "…": "...", "ｶﾞ": "ガ", "ｶ": "カ", "\u0300": "", "©": "(c)"}


def charsmap(pairs):
    root = {}
    for k, v in pairs.items():
        node = root
        for b in k.encode():
            node = node.setdefault(b, {})
        node[-1] = v
    units, blob = [0] * 256, bytearray()

    def place(pos, node):
        base = len(units)
        units.extend([0] * 256)
        if -1 in node:
            units[base] = 1 << 31 | len(blob)
            blob.extend(node[-1].encode() + b"\0")
        units[pos] |= (pos ^ base) << 10 | (-1 in node) << 8
        for b, child in node.items():
            if b >= 0:
                units[base ^ b] = b
                place(base ^ b, child)
    place(0, root)
    return base64.b64encode(struct.pack("<I", 4 * len(units)) + struct.pack("<%dI" % len(units), *units) + bytes(blob)).decode()


REGEXES = [r"\s+", r"\w+", r"[0-9]{2,}", r"(?i)hello|world\b", r"[^\s\p{L}]+", r"\p{Lu}\p{Ll}*", r"(?<=a)b|c(?=d)", r"\d{1,3}(?=(?:\d{3})*\b)",
           r"[\p{Han}\p{Hiragana}]+", r"'s|'t|'re| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", r".", r"^.|.$", r"x*", r"[[:alpha:]]+|[[:punct:]]",
           r"[a-z&&[^aeiou]]+", r"\p{^L}+", r"(?m:.+)", r"(\w)\1", r"\bthe\b", r"\R", r"[^\W_]+", r"\h{2}", r"(?>a+|b)+", r"a{2}+|b{,2}c", r"\P{M}\p{M}*", r"\S+",
           r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"]
STRINGS = [" ", "-", "the", "▁", "a", "..", "\n", "é", "\u3000"]
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


def pattern(r, regexes=REGEXES):
    return {"Regex": r.choice(regexes)} if r.random() < 0.6 else {"String": r.choice(STRINGS)}


def normalizer(r, deep=True):
    kind = r.choice(["BertNormalizer", "Strip", "StripAccents", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Nmt", "Precompiled", "Replace", "Replace", "Prepend", "ByteLevel"] + ["Sequence"] * 4 * deep)
    c = {"type": kind}
    if kind == "Sequence":
        c["normalizers"] = [normalizer(r, False) for _ in range(r.randrange(0, 4))]
    elif kind == "BertNormalizer":
        c.update(clean_text=r.random() < .5, handle_chinese_chars=r.random() < .5, strip_accents=r.choice([None, True, False]), lowercase=r.random() < .5)
    elif kind == "Strip":
        c.update(strip_left=r.random() < .7, strip_right=r.random() < .5)
    elif kind == "Precompiled":
        c["precompiled_charsmap"] = charsmap(dict(r.sample(sorted(CHARSMAP.items()), r.randrange(1, len(CHARSMAP)))))
    elif kind == "Replace":
        # Patterns that match nothing, and an empty Prepend, are left out: at the start of a text they make the
        # reference lose track of its alignment, and later steps then repeat characters.
        c.update(pattern=pattern(r, [x for x in REGEXES if x not in (r"x*", r"a{2}+|b{,2}c")]), content=r.choice(["", " ", "▁", "xx", "é", "<a>"]))
    elif kind == "Prepend":
        c["prepend"] = r.choice(["▁", "ab", " "])
    return c


def pre_tokenizer(r, deep=True):
    kind = r.choice(["BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Metaspace", "Metaspace", "Whitespace", "Split", "Split", "Split", "Punctuation", "WhitespaceSplit", "Digits", "UnicodeScripts", "FixedLength"] + ["Sequence"] * 5 * deep)
    c = {"type": kind}
    if kind == "Sequence":
        c["pretokenizers"] = [pre_tokenizer(r, False) for _ in range(r.randrange(0, 4))]
    elif kind == "ByteLevel":
        c.update(add_prefix_space=r.random() < .5, trim_offsets=True, use_regex=r.random() < .5)
    elif kind == "CharDelimiterSplit":
        c["delimiter"] = r.choice([" ", "-", "a", "▁", "é"])
    elif kind == "Metaspace":
        c.update(replacement=r.choice(["▁", "▁", "_"]), prepend_scheme=r.choice(["first", "never", "always"]), split=r.random() < .6)
    elif kind == "Split":
        c.update(pattern=pattern(r), behavior=r.choice(BEHAVIORS), invert=r.random() < .4)
    elif kind == "Punctuation":
        c["behavior"] = r.choice(BEHAVIORS)
    elif kind == "Digits":
        c["individual_digits"] = r.random() < .5
    elif kind == "FixedLength":
        c["length"] = r.randrange(1, 6)
    return c


def decoder(r, deep=True):
    kind = r.choice(["BPEDecoder", "ByteLevel", "WordPiece", "Metaspace", "CTC", "Fuse", "Strip", "Replace", "ByteFallback"] + ["Sequence"] * 6 * deep)
    c = {"type": kind}
    if kind == "Sequence":
        c["decoders"] = [decoder(r, False) for _ in range(r.randrange(0, 5))]
    elif kind == "BPEDecoder":
        c["suffix"] = r.choice(["</w>", "e", ""])
    elif kind == "ByteLevel":
        c.update(add_prefix_space=True, trim_offsets=True, use_regex=True)
    elif kind == "WordPiece":
        c.update(prefix=r.choice(["##", "a"]), cleanup=r.random() < .6)
    elif kind == "Metaspace":
        c.update(replacement=r.choice(["▁", "e"]), prepend_scheme=r.choice(["first", "never", "always"]), split=True)
    elif kind == "CTC":
        c.update(pad_token=r.choice(["<pad>", "a"]), word_delimiter_token=r.choice(["|", "e"]), cleanup=r.random() < .5)
    elif kind == "Strip":
        c.update(content=r.choice([" ", "a", "▁"]), start=r.randrange(3), stop=r.randrange(2))
    elif kind == "Replace":
        c.update(pattern=pattern(r), content=r.choice(["", " ", "ab"]))
    return c


def post_processor(r, ids, deep=True):
    kind = r.choice(["TemplateProcessing", "TemplateProcessing", "BertProcessing", "RobertaProcessing", "ByteLevel"] + ["Sequence"] * 2 * deep)
    c = {"type": kind}
    a, b = r.sample(sorted(ids.items()), 2)
    if kind == "Sequence":
        c["processors"] = [post_processor(r, ids, False) for _ in range(r.randrange(0, 3))]
    elif kind == "TemplateProcessing":
        s, t = ({"SpecialToken": {"id": x[0], "type_id": 0}} for x in (a, b))
        A, B = ({"Sequence": {"id": k, "type_id": 0}} for k in "AB")
        c.update(single=r.choice([[s, A], [s, A, t], [A], [A, t, t]]), pair=r.choice([[A, B], [s, A, t, B, t], [B, A], [A, s, A, B]]),
                 special_tokens={a[0]: {"id": a[0], "ids": [a[1]], "tokens": [a[0]]}, b[0]: {"id": b[0], "ids": [b[1], a[1]], "tokens": [b[0], a[0]]}})
    elif kind in ("BertProcessing", "RobertaProcessing"):
        c.update(sep=list(a), cls=list(b))
        if kind[0] == "R":
            c.update(trim_offsets=True, add_prefix_space=True)
    else:
        c.update(add_prefix_space=True, trim_offsets=False, use_regex=True)
    return c


def model(r):
    words = [w for w in WORDS if len(w) < 9]
    chars = sorted(set("".join(words)) | set(string.ascii_letters + string.digits + string.punctuation + " ▁é中\n"))
    specials = ["<unk>", "<s>", "</s>", "<pad>"]
    kind = r.choice(["BPE", "BPE", "BPE", "Unigram", "WordPiece", "WordLevel"])
    if kind == "WordLevel":
        return {"type": kind, "vocab": {w: i for i, w in enumerate(specials + words + chars)}, "unk_token": r.choice(["<unk>", "<unk>", "[missing]"])}
    if kind == "WordPiece":
        parts = [w[:k] for w in words for k in (1, 2, 3)] + ["##" + w[k:] for w in words for k in (1, 2, 3) if w[k:]] + ["##" + c for c in chars if r.random() < .7]
        return {"type": kind, "unk_token": r.choice(["<unk>", "<unk>", "[missing]"]), "continuing_subword_prefix": "##", "max_input_chars_per_word": r.choice([100, 8]),
                "vocab": {w: i for i, w in enumerate(dict.fromkeys(specials + words + chars + parts))}}
    fallback = r.random() < .5
    bytes_ = ["<0x%02X>" % i for i in range(256) if fallback and (i != 0xE4 or r.random() < .8)]
    if kind == "Unigram":
        parts = [w[i:j] for w in words for i in range(len(w)) for j in range(i + 1, min(len(w), i + 5) + 1)]
        parts = r.sample(parts, 300) + [c for c in chars if r.random() < .9] + ["▁" + w for w in words]
        vocab = list(dict.fromkeys(specials + bytes_ + parts))
        return {"type": kind, "unk_id": r.choice([0, 0, 0, None]), "byte_fallback": fallback, "vocab": [[w, 0.0 if w in specials else -r.choice([1, 2.5, r.random() * 12])] for w in vocab]}
    alphabet = byte_alphabet() if r.random() < .5 else [c for c in chars if r.random() < .95]
    prefix = r.choice([None, None, None, "", "##"])
    suffix = r.choice([None, None, None, "", "</w>"])
    vocab = dict.fromkeys(specials + bytes_ + alphabet)
    if prefix:
        vocab.update(dict.fromkeys(prefix + c for c in alphabet))
    if suffix:
        vocab.update(dict.fromkeys(c + suffix for c in alphabet))
        if prefix:
            vocab.update(dict.fromkeys(prefix + c + suffix for c in alphabet))
    merges = []
    p = prefix or ""
    for _ in range(r.randrange(0, 400)):
        w = r.choice(words)
        if alphabet[0] == "Ā" and r.random() < .5:
            w = "Ġ" + w
        cur = [w[0]] + [p + c for c in w[1:]]
        if suffix:
            cur[-1] += suffix
        if any(c not in vocab for c in cur):
            continue
        known = {tuple(m): i for i, m in enumerate(merges)}
        while True:
            best = min((known[x] for x in zip(cur, cur[1:]) if x in known), default=None)
            if best is None:
                break
            a, b = merges[best]
            i = list(zip(cur, cur[1:])).index((a, b))
            cur[i:i + 2] = [a + b[len(p):]]
        if len(cur) > 1:
            i = r.randrange(len(cur) - 1)
            merges.append([cur[i], cur[i + 1]])
            vocab[cur[i] + cur[i + 1][len(p):]] = None
    m = {"type": kind, "dropout": r.choice([None, None, None, 0.0, 1.0]), "unk_token": r.choice([None, "<unk>", "<unk>", "[missing]"]), "continuing_subword_prefix": prefix, "end_of_word_suffix": suffix,
         "fuse_unk": r.random() < .5, "byte_fallback": fallback, "ignore_merges": r.random() < .3, "vocab": {w: i for i, w in enumerate(vocab)}}
    m["merges"] = [" ".join(x) for x in merges] if r.random() < .5 and not any(" " in y for x in merges for y in x) else merges
    return m


def component_tokenizer(r):
    m = model(r)
    ids = m["vocab"] if isinstance(m["vocab"], dict) else {w: i for i, (w, _) in enumerate(m["vocab"])}
    added = []
    names = ["<unk>", "<s>", "</s>", "<pad>", "[NEW]", "the", "the and", "THE", "Hello", "éx", "  ", "<s", "▁x", "x\ny", "e\u0301", "naïve"]
    for name in r.sample(names, r.randrange(0, 9)):
        f = lambda p: r.random() < p
        added.append({"id": 0, "content": name, "single_word": f(.25), "lstrip": f(.3), "rstrip": f(.3), "normalized": f(.4), "special": f(.5)})
    some = {k: ids[k] for k in ("<unk>", "<s>", "</s>", "<pad>")}
    t = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": normalizer(r) if r.random() < .6 else None,
         "pre_tokenizer": pre_tokenizer(r) if r.random() < .8 else None, "post_processor": post_processor(r, some) if r.random() < .6 else None,
         "decoder": decoder(r) if r.random() < .8 else None, "model": m}
    if r.random() < .25:
        t["truncation"] = {"direction": r.choice(["Left", "Right"]), "max_length": r.choice([2, 5, 8, 12]), "strategy": r.choice(["LongestFirst", "LongestFirst", "OnlyFirst", "OnlySecond"]), "stride": r.choice([0, 0, 1])}
    if r.random() < .25:
        t["padding"] = {"strategy": r.choice(["BatchLongest", {"Fixed": 10}]), "direction": r.choice(["Left", "Right"]), "pad_to_multiple_of": r.choice([None, 4]), "pad_id": 3, "pad_type_id": 0, "pad_token": "<pad>"}
    return t


def odd(tok, t):
    """Two added tokens of one normalized form: the reference takes either, by the order of a hash table. And one
    whose form is empty, which there splits the text between all characters."""
    forms = [tok.normalizer.normalize_str(x["content"]) if tok.normalizer else x["content"] for x in t["added_tokens"] if x["normalized"]]
    return len(set(forms)) < len(forms) or "" in forms


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--mlxctl", required=True)
    ap.add_argument("--components", type=int, default=0, metavar="N")
    ap.add_argument("-n", type=int, default=0)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--show", type=int, default=3)
    ap.add_argument("--keep", help="folder for component tokenizers that differ")
    ap.add_argument("dirs", nargs="*")
    a = ap.parse_args()
    total = n_bad_tokenizers = texts = 0
    for d in a.dirs:
        path = os.path.join(d, "tokenizer.json") if os.path.isdir(d) else d
        peer = Peer(a.mlxctl, d)
        bad, done, refused = compare(os.path.basename(d), Tokenizer.from_file(path), peer, random.Random(a.seed), a.n or 100000, a.show)
        peer.close()
        print("%-24s %d texts, %d differences" % (os.path.basename(d), done, bad), flush=True)
        total += bad
        texts += done
    loaded = 0
    with tempfile.TemporaryDirectory() as tmp:
        for i in range(a.components):
            r = random.Random(a.seed * 1000003 + i)
            t = component_tokenizer(r)
            path = os.path.join(tmp, "tokenizer.json")
            raw = json.dumps(t, ensure_ascii=False)
            with open(path, "w") as f:
                f.write(raw)
            tok = reference(lambda: Tokenizer.from_str(raw))
            if tok is None or tok is PANIC or odd(tok, t):
                continue
            loaded += 1
            peer = Peer(a.mlxctl, tmp)
            bad, done, refused = compare("component %d" % i, tok, peer, r, a.n or 300, a.show)
            peer.close()
            total += bad
            texts += done
            if bad:
                n_bad_tokenizers += 1
                print("component %d: %d differences: %s" % (i, bad, json.dumps({k: v for k, v in t.items() if k != "model"}, ensure_ascii=False)[:1500]), flush=True)
                if a.keep:
                    os.makedirs(a.keep, exist_ok=True)
                    with open(os.path.join(a.keep, "%d.json" % i), "w") as f:
                        f.write(raw)
    if a.components:
        print("%d component tokenizers, %d differ" % (loaded, n_bad_tokenizers))
    print("%d texts, %d differences" % (texts, total))
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
