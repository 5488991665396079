#!/usr/bin/env python3
"""Writes unicode_tables.inc.h: what each Unicode character is to the reference tokenizer library.

  python3 make_unicode_tables.py > unicode_tables.inc.h        (needs `tokenizers`; takes about three minutes)

The reference takes its Unicode data from six libraries of different Unicode versions. So the library itself
is asked, character by character, through its components; the tables then hold whatever it answered.
"""
import base64
import struct
import sys
import unicodedata

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

CPS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
GC = "Cn Cc Cf Co Cs Ll Lm Lo Lt Lu Mc Me Mn Nd Nl No Pc Pd Pe Pf Pi Po Ps Sc Sk Sm So Zl Zp Zs".split()
SCRIPTS = """Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali
Bhaiksuki Bopomofo Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian Chakma Cham
Cherokee Chorasmian Common Coptic Cuneiform Cypriot Cypro_Minoan Cyrillic Deseret Devanagari Dives_Akuru Dogra
Duployan Egyptian_Hieroglyphs Elbasan Elymaic Ethiopic Georgian Glagolitic Gothic Grantha Greek Gujarati
Gunjala_Gondi Gurmukhi Han Hangul Hanifi_Rohingya Hanunoo Hatran Hebrew Hiragana Imperial_Aramaic Inherited
Inscriptional_Pahlavi Inscriptional_Parthian Javanese Kaithi Kannada Katakana Kawi Kayah_Li Kharoshthi
Khitan_Small_Script Khmer Khojki Khudawadi Lao Latin Lepcha Limbu Linear_A Linear_B Lisu Lycian Lydian Mahajani
Makasar Malayalam Mandaic Manichaean Marchen Masaram_Gondi Medefaidrin Meetei_Mayek Mende_Kikakui
Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi Mongolian Mro Multani Myanmar Nabataean Nag_Mundari Nandinagari
New_Tai_Lue Newa Nko Nushu Nyiakeng_Puachue_Hmong Ogham Ol_Chiki Old_Hungarian Old_Italic Old_North_Arabian
Old_Permic Old_Persian Old_Sogdian Old_South_Arabian Old_Turkic Old_Uyghur Oriya Osage Osmanya Pahawh_Hmong
Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang Runic Samaritan Saurashtra Sharada Shavian
Siddham SignWriting Sinhala Sogdian Sora_Sompeng Soyombo Sundanese Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le
Tai_Tham Tai_Viet Takri Tamil Tangsa Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta Toto Ugaritic Vai
Vithkuqi Wancho Warang_Citi Yezidi Yi Zanabazar_Square Garay Gurung_Khema Kirat_Rai Ol_Onal Sunuwar Todhri
Tulu_Tigalari""".split()


def say(text):
    print(text, file=sys.stderr, flush=True)


def regex_class(pattern):
    """Characters that a regular expression of one character matches."""
    drop = normalizers.Replace(Regex(pattern), "")
    out = set()
    for i in range(0, len(CPS), 65536):
        part = CPS[i:i + 65536]
        out.update(set(part).difference(map(ord, drop.normalize_str("".join(map(chr, part))))))
    return out


def where(f):
    return {c for c in CPS if f(chr(c))}


def charsmap(pairs):
    """A Precompiled normalizer of {character: replacement}, with the Darts layout in its plainest form: the
    children of the k-th node lie in block k + 1 of 256 units."""
    units, blob, nodes = [0], b"", [(0, {})]
    root = {}
    for key, value in pairs.items():
        node = root
        for b in key.encode():
            node = node.setdefault(b, {})
        node[-1] = value
    units = [0] * 256

    def place(pos, node):
        nonlocal blob
        base = len(units)
        units.extend([0] * 256)
        leaf = -1 in node
        if leaf:
            units[base] = 1 << 31 | len(blob)
            blob += node[-1].encode() + b"\0"
        units[pos] |= (pos ^ base) << 10 | leaf << 8
        for b, child in node.items():
            if b >= 0:
                units[base ^ b] = b
                place(base ^ b, child)
    place(0, root)
    raw = struct.pack("<I", 4 * len(units)) + struct.pack("<%dI" % len(units), *units) + blob
    return normalizers.Precompiled(raw)


def grapheme_classes(assigned):
    """What joins what into one grapheme, told from what the Precompiled normalizer replaces as a whole: it
    takes a cluster of up to 5 bytes as one when its start is in the map."""
    a = charsmap({"a": "X"})
    extend = {c for c in CPS if a.normalize_str("a" + chr(c)) == "X"}
    say("extend %d" % len(extend))
    prepend, control, consonant, linker = set(), set(), set(), set()
    for c in sorted(assigned):
        ch = chr(c)
        if c < 0x80 or 0xE000 <= c < 0xF900 or c >= 0xF0000 or 0x4E00 <= c < 0xA000 or 0xAC00 <= c < 0xD7A4:
            continue
        if 0x20000 <= c < 0x40000 or 0x17000 <= c < 0x18D00:
            continue
        y = charsmap({ch: "Y"})
        if y.normalize_str(ch + "a") == "Y":
            prepend.add(c)
        if c < 0x10000 and c not in extend:
            if y.normalize_str(ch + "\u0300") == "Y\u0300":
                control.add(c)
            elif y.normalize_str("\u0915\u094d" + ch + "\u0300") == "\u0915\u094dY\u0300":
                consonant.add(c)
    if consonant:
        consonant.add(0x915)  # the probe itself
    kha = charsmap({"\u0916": "Y"})
    for c in extend:
        if kha.normalize_str("\u0915" + chr(c) + "\u0916\u0300") == "\u0915" + chr(c) + "Y\u0300":
            linker.add(c)
    copy = charsmap({"\u00a9": "Y"})
    pict = {c for c in CPS if copy.normalize_str("\u00a9\u200d" + chr(c)) == "Y\u200d" + ("Y" if c == 0xA9 else chr(c))}
    pict -= extend
    say("prepend %d control %d consonant %d linker %d pict %d" % tuple(map(len, (prepend, control, consonant, linker, pict))))
    return extend, prepend, control, consonant, linker, pict


def scripts_partition():
    """Runs of characters that UnicodeScripts holds for one script: [(first, class)], class 0 joining all."""
    split = pre_tokenizers.UnicodeScripts()

    def joined(x, y):
        return len(split.pre_tokenize_str(x + y)) == 1
    reps, runs, last = [], [], None
    for c in CPS:
        ch = chr(c)
        if joined(ch, "a") and joined(ch, "\u03b1"):
            k = 0
        elif last and joined(chr(c), reps[last - 1]):
            k = last
        else:
            k = next((i + 1 for i, r in enumerate(reps) if joined(ch, r)), None)
            if k is None:
                reps.append(ch)
                k = len(reps)
        if k != last:
            runs.append((c, k))
            last = k
    say("scripts %d runs %d" % (len(reps), len(runs)))
    return runs


def ranges(cps):
    out = []
    for c in sorted(cps):
        if out and (out[-1][1] + 1 == c or (out[-1][1], c) == (0xD7FF, 0xE000)):
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def emit(ctype, name, values, fmt="%d", width=108):
    print("static const %s %s[%d] = {" % (ctype, name, len(values)))
    line = "   "
    for v in values:
        item = " " + (fmt % v) + ","
        if len(line) + len(item) > width:
            print(line)
            line = "   "
        line += item
    print(line)
    print("};")


def main():
    gc = {}
    for i, g in enumerate(GC):
        if g not in ("Cn", "Cs"):
            for c in regex_class(r"\p{%s}" % g):
                gc[c] = i
    assigned = {c for c in gc if GC[gc[c]] != "Co"}
    say("gc")
    flags = {}

    def flag(bit, cps):
        for c in cps:
            flags[c] = flags.get(c, 0) | 1 << bit
    names = []

    def named(name, cps):
        flag(len(names), cps)
        names.append(name)
        say("%s %d" % (name, len(cps)))
    ws = pre_tokenizers.WhitespaceSplit()
    digits = pre_tokenizers.Digits(individual_digits=True)
    punct = pre_tokenizers.Punctuation()
    word = pre_tokenizers.Whitespace()
    clean = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    accents = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)
    marks = normalizers.StripAccents()
    space = where(lambda c: len(ws.pre_tokenize_str("a" + c + "b")) == 2)
    assert space == regex_class(r"\s") and space == where(lambda c: len(word.pre_tokenize_str("a" + c + "a")) == 2)
    named("SPACE", space)
    named("WORD", regex_class(r"[[:word:]]"))
    named("RUST_WORD", where(lambda c: len(word.pre_tokenize_str("a" + c + "a")) == 1))
    named("ALPHA", regex_class(r"[[:alpha:]]"))
    named("LOWER", regex_class(r"[[:lower:]]"))
    named("UPPER", regex_class(r"[[:upper:]]"))
    named("RUST_NUMERIC", where(lambda c: len(digits.pre_tokenize_str("a" + c + "b")) == 3))
    named("RUST_PUNCT", where(lambda c: len(punct.pre_tokenize_str("a" + c + "b")) == 3))
    named("BERT_REMOVED", where(lambda c: clean.normalize_str("a" + c + "b") == "ab"))
    named("BERT_MN", where(lambda c: accents.normalize_str("a" + c) == "a"))
    named("MARK", where(lambda c: marks.normalize_str("a" + c) == "a"))

    forms = {}
    for form, n in (("nfd", normalizers.NFD()), ("nfc", normalizers.NFC()), ("nfkd", normalizers.NFKD()), ("nfkc", normalizers.NFKC())):
        forms[form] = {c: x for c in CPS for x in [n.normalize_str(chr(c))] if x != chr(c)}
    hangul = range(0xAC00, 0xD7A4)
    nfd = {c: x for c, x in forms["nfd"].items() if c not in hangul}
    nfkd = {c: x for c, x in forms["nfkd"].items() if c not in hangul and x != nfd.get(c, chr(c))}
    # Combining classes, from the order the reference puts two marks in: those of a character that Python's
    # data calls a starter cannot be told so, and the reference's data is the older one.
    by_class = {}
    for c in CPS:
        if unicodedata.combining(chr(c)):
            by_class.setdefault(unicodedata.combining(chr(c)), c)
    low, high = chr(by_class[1]), chr(by_class[240])
    order = normalizers.NFD()
    ccc = {}
    for c in CPS:
        k = unicodedata.combining(chr(c))
        if not k or c in nfd:
            continue
        moved = order.normalize_str(chr(c) + low) == low + chr(c) if k > 1 else order.normalize_str(high + chr(c)) == chr(c) + high
        if moved:
            ccc[c] = k
    for c, k in ccc.items():  # and each against a mark of every class
        for other, d in by_class.items():
            if d in ccc:
                want = chr(c) + chr(d) if k <= other else chr(d) + chr(c)
                assert order.normalize_str(chr(c) + chr(d)) == want, (hex(c), hex(d))
    named("CCC", set(ccc))
    compose = normalizers.NFC()
    pairs = {}
    for c, x in nfd.items():
        d = unicodedata.decomposition(chr(c)).split()
        if len(d) == 2 and not d[0].startswith("<"):
            a, b = (int(v, 16) for v in d)
            if compose.normalize_str(chr(a) + chr(b)) == chr(c):
                pairs[a, b] = c
    firsts, seconds = {a for a, _ in pairs}, {b for _, b in pairs}
    named("NFD", set(nfd))
    named("NFKD", set(nfkd))
    # A character that NFC may change, or that may join what is before it, or that must be ordered.
    named("NFC_BUSY", set(forms["nfc"]) | set(ccc) | seconds | set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3)))
    lower = {c: x for c in CPS for x in [normalizers.Lowercase().normalize_str(chr(c))] if x != chr(c)}
    assert [c for c in lower if len(lower[c]) > 1] == [0x130] and lower[0x130] == "i\u0307"
    named("LOWERABLE", set(lower))
    extend, prepend, control, consonant, linker, pict = grapheme_classes(assigned)
    named("GB_EXTEND", extend)
    named("GB_PREPEND", prepend)
    named("GB_CONTROL", control | set(range(0x20)) | {0x7F})
    named("GB_CONSONANT", consonant)
    named("GB_LINKER", linker)
    named("GB_PICT", pict)
    assert len(names) <= 27

    records, blocks, stage1, stage2 = {}, {}, [], []
    for b in range(0, 0x110000, 128):
        block = []
        for c in range(b, b + 128):
            value = gc.get(c, GC.index("Cs") if 0xD800 <= c < 0xE000 else 0) | flags.get(c, 0) << 5
            block.append(records.setdefault(value, len(records)))
        key = tuple(block)
        if key not in blocks:
            blocks[key] = len(blocks)
            stage2.extend(block)
        stage1.append(blocks[key])
    assert len(records) <= 256 and len(blocks) < 65536
    say("records %d blocks %d" % (len(records), len(blocks)))

    print("/* Written by make_unicode_tables.py from the answers of tokenizers %s: do not edit. */" % tokenizers.__version__)
    print("/* clang-format off */")
    print("enum {")
    for i, g in enumerate(GC):
        print("    TOK_GC_%s = %d," % (g.upper() if g not in ("Co", "Cn") else g.upper(), i))
    print("};")
    print("enum {")
    for i, n in enumerate(names):
        print("    TOK_U_%s = 1 << %d," % (n, i + 5))
    print("};")
    print("#ifdef TOK_UNICODE_TABLES")
    emit("uint32_t", "unicode_records", list(records), "%#x")
    emit("uint16_t", "unicode_stage1", stage1)
    emit("uint8_t", "unicode_stage2", stage2)
    low = sorted(lower)
    emit("uint32_t", "lower_from", low, "%#x")
    emit("uint32_t", "lower_to", [ord(lower[c][0]) for c in low], "%#x")
    cr = []
    for c in sorted(ccc):
        if cr and cr[-1][1] + 1 == c and cr[-1][2] == ccc[c]:
            cr[-1][1] = c
        else:
            cr.append([c, c, ccc[c]])
    emit("uint32_t", "ccc_ranges", [v for r in cr for v in (r[0], r[1] << 8 | r[2])], "%#x")
    pool = []
    for name, table in (("nfd", nfd), ("nfkd", nfkd)):
        keys = sorted(table)
        at = []
        for c in keys:
            at.append(len(pool) << 5 | len(table[c]))
            assert len(table[c]) < 32
            pool.extend(map(ord, table[c]))
        emit("uint32_t", name + "_from", keys, "%#x")
        emit("uint32_t", name + "_at", at)
    emit("uint32_t", "decomposition_pool", pool, "%#x")
    ps = sorted(pairs)
    emit("uint64_t", "compose_from", [a << 32 | b for a, b in ps], "%#x")
    emit("uint32_t", "compose_to", [pairs[p] for p in ps], "%#x")
    runs = scripts_partition()
    emit("uint32_t", "script_runs", [c << 8 | k for c, k in runs], "%#x")
    print("#endif")
    print("#ifdef TOK_REGEX_SCRIPTS")
    body, index, n = [], [], 0
    for s in SCRIPTS:
        try:
            cps = regex_class(r"\p{%s}" % s)
        except Exception:
            continue
        r = ranges(cps)
        index.append((s.replace("_", "").lower(), len(body) // 2, len(r)))
        for x, y in r:
            body += [x, y]
    emit("uint32_t", "script_ranges", body, "%#x")
    print("static const struct {")
    print("    const char *name; /* lower case, without '_' */")
    print("    uint16_t at, n;")
    print("} script_names[%d] = {" % len(index))
    for name, at, n in index:
        print('    {"%s", %d, %d},' % (name, at, n))
    print("};")
    print("#endif")


main()
