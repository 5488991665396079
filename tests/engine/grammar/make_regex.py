"""Writes regex.json: patterns, and which texts the Python module `regress` (an ECMA-262 engine, flag u) finds them in.

    python make_regex.py [N_RANDOM [SEED]] > regex.json

Each entry: [pattern, texts it finds a match in, texts it does not, texts it matches as a whole]. Those of the official
JSON Schema suite (optional/ecmascript-regex.json) are among the listed ones. Random ones only have texts on which Python's
re, which reads them alike, agrees: regress miscounts some counted repeats inside counted repeats.
"""

import json
import random
import re
import sys

import regress

LISTED = {
    # the official suite
    r"^abc$": ["abc", "abc\n", "ab", "xabc"],
    r"^\t$": ["\t", "\\t", "t"],
    r"^\cC$": ["\x03", "C", "\\cC"],
    r"^\cc$": ["\x03", "c"],
    r"^\d$": ["0", "߀", "a", "00"],
    r"^\D$": ["0", "߀", "a"],
    r"^\w$": ["a", "é", "_", "-"],
    r"^\W$": ["a", "é", "_", "-", "😀"],
    r"^\s$": [" ", "\t", "\v", "\f", "\u00a0", "\ufeff", "\n", "\u2029", "\u2003", "\x01", "\u2013", "\u0085", "\u180e"],
    r"^\S$": [" ", "\t", "\u00a0", "\ufeff", "\n", "\u2029", "\u2003", "\x01", "\u2013"],
    r"\p{Letter}cole": ["Les hivers de mon enfance étaient des saisons longues. Nous vivions en trois lieux: l'école",
                        "L'ECOLE", "LÉCOLE", "lécole", "-cole"],
    r"\wcole": ["l'école", "l'ecole"],
    r"[a-z]cole": ["l'école", "l'ecole"],
    r"^\d+$": ["42", "-%#", "৪২", ""],
    r"^\p{digit}+$": ["42", "-%#", "৪২"],
    # as schemas in the wild have them
    r"^[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}$": ["a.b+c@d.example", "a@b", "@b.cc", "a b@c.de"],
    r"^\+?[1-9]\d{1,14}$": ["+4912345", "0123", "12", "1", "+", "+123456789012345", "+1234567890123456"],
    r"^(\([0-9]{3}\))?[0-9]{3}-[0-9]{4}$": ["(888)555-1212", "555-1212", "(888)555-1212 ext. 532"],
    r"^#([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$": ["#fff", "#a1B2c3", "#ffff", "fff"],
    r"^v?(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-.]+)?$":
        ["1.2.3", "v0.10.0-rc.1+b-5", "01.2.3", "1.2", "1.2.3-"],
    r"^(?=.*[A-Z])(?=.*\d)(?=.*[a-z])[A-Za-z\d]{8,}$": ["Abcdefg1", "abcdefg1", "ABCDEFG1", "Abc1", "aB3aB3aB3 "],
    r"^(?!.*\.\.)(?!\.)[a-z.]+(?<!x)$".replace("(?<!x)", ""): ["a.b", "a..b", ".a", "a.", ""],
    r"^(?!admin$|root$)[a-z]+$": ["admin", "admins", "root", "ro", "Root"],
    r"foo(?!bar)": ["foobar", "foobaz", "foobar foo", "fo"],
    r"(?:(?!ab).)*c": ["abc", "c", "aabc", "xab", "ab"],
    r"^(?:(?!ab).)*$": ["abc", "", "a", "ba", "aab", "b\na"],
    r"^[\w-]+$": ["a-b_c", "", "a b"],
    r"^[\w\-\.]+$": ["a-b_c.d", "a/b"],
    r"^[^\s/]+/[^\s/]+$": ["a/b", "a//b", "é/ü", "a /b"],
    r"^\S+( \S+)*$": ["a b c", "a  b", " a", "a "],
    r"^\S(.*\S)?$": ["a", "a b", " a", "a ", "a\nb"],
    r"^.{2,4}$": ["a", "ab", "😀😀", "abcde", "a\nb"],
    r"^$": ["", "a", "\n"],
    r"": ["", "a"],
    r"a|b": ["a", "xbx", "c"],
    r"^a|b$": ["ax", "xb", "xa", "bx", "ab"],
    r"(^a|b)c": ["ac", "xbc", "xac", "bc"],
    r"a^b": ["ab", "a", "b", ""],
    r"(?:a|^)b$": ["b", "ab", "xb", "xab"],
    r"$^": ["", "a"],
    r"\bfoo\b": ["foo", "a foo b", "afoo", "foob", "foo_", "éfooé", "-foo-"],
    r"\Boo": ["foo", "oo", " oo", "_oo", "éoo"],
    r"^\b": ["a", " a", "", "é"],
    r"^\B": ["a", " a", "", "é"],
    r"\b$": ["a", "a ", "", "é"],
    r"^\b\B": ["a", ""],
    r"a\b|b\B": ["a", "ab", "b", "ba", "b-"],
    r"[^]": ["", "a", "\n"],
    r"[]": ["", "a"],
    r"[^a]": ["", "a", "ab", "é"],
    r"[\b]": ["\b", "b"],
    r"[\d-x]".replace("-x", "x-"): ["-", "x", "5", "y"],
    r"[\-_\.]": ["-", "_", ".", "\\"],
    r"[a\-z]": ["-", "b", "z"],
    r"\/\^\$\.\*\+\?\(\)\[\]\{\}\|\\": ["/^$.*+?()[]{}|\\", "/^$"],
    r"\u00e9\u{1F600}\uD83D\uDE01\x41": ["é😀😁A", "e😀😁A"],
    r"^[\uD83D\uDE00-\u{1F602}]$": ["😀", "😁", "😃", "a"],
    r"^\p{Lu}\p{Ll}+$": ["Ärger", "ärger", "ÄRGER", "Straße"],
    r"^[\p{L}\p{M}' -]+$": ["Renée O'Neil", "日本", "a1", "नमस्ते"],
    r"^\P{L}$": ["1", "a", "é", "ß", "€"],
    r"^[^\p{L}]$": ["1", "a", "é", "日"],
    r"^\p{General_Category=Decimal_Number}\p{gc=P}$": ["1.", "५!", "1a"],
    r"^\p{ASCII}+\p{Any}$": ["ab😀", "é", "a"],
    r"^\p{White_Space}$": [" ", "\x85", "\ufeff", "\u3000"],
    r"^\p{LC}\p{Sc}\p{Zs}\p{Cc}$": ["a€ \n", "日€ \n"],
    r"^\p{Script=Greek}+\p{sc=Han}\P{Script_Extensions=Latin}$": ["αβ日x", "αβ日я", "ab日я", "α日·"],
    r"^[\p{Script=Latin}\p{Script=Cyrillic}]\p{scx=Hira}$": ["aあ", "яー", "ж、", "αあ"],
    r"^\p{Alphabetic}\p{Upper}\p{Lowercase}\p{Emoji}$": ["aAa😀", "\u0345Ⓐª#", "1Aa😀", "नÄßx"],
    r"a{2}": ["a", "aa", "aaa"],
    r"^a{2,}$": ["a", "aa", "aaaa"],
    r"^a{0}b{0,0}c{1,1}$": ["c", "ac"],
    r"^(a{2,3}){2}$": ["aaaa", "aaaaa", "aaa", "aaaaaaa"],
    r"^(?:a*)*$": ["", "aa", "b"],
    r"^(?:a?){3}$": ["", "aaa", "aaaa"],
    r"^(?:a|b|)+$": ["", "ab", "c"],
    r"^(a+?)(b*?)$": ["ab", "a", "b"],
    r"(?<year>\d{4})-(?<month>\d\d)": ["2024-01", "24-01"],
    r"^(?=a)(?=.b)(?!..c).*$": ["ab", "abc", "abd", "b"],
    r"^(?=(?!b)[a-c]).$": ["a", "b", "c", "d"],
    r"^(?!(?=a)a)": ["a", "b", ""],
    r"(?=$)": ["", "a"],
    r"a(?=b|$)": ["ab", "ac", "aca", "acb"],
    r"a(?=\b)": ["a", "ab", "a b"],
    r"(?!^)a": ["a", "ba", "b"],
    r"^(?:(?=[a-z]*1)[a-z0-9]-?)+$": ["ab1", "ab1-", "a-1", "1-1", "ab"],
    r".*": ["", "\n"],
    r"^.*$": ["", "\n", "a\u2028"],
    r"^0\x00$".replace("\\x00", "\\0"): ["0\0", "00"],
    r"\n\r\v\f": ["\n\r\v\f", "nrvf"],
    r"^(([01]?\d|2[0-3]):[0-5]\d|24:00)$": ["23:59", "24:00", "24:01", "9:05", "9:5"],
    r"^((25[0-5]|(2[0-4]|1\d|[1-9]|)\d)\.?\b){4}$": ["127.0.0.1", "256.0.0.1", "1.2.3", "1.2.3.4."],
    r"^https?:\/\/(?:[\w-]+\.)+[\w-]+(?:\/[^\s?#]*)?(?:\?[^\s#]*)?(?:#\S*)?$":
        ["http://a.b", "https://a.b.c/d?e#f", "ftp://a.b", "http://a"],
    r"^arn:aws:[a-z0-9-]+:[a-z0-9-]*:\d{12}:.+$": ["arn:aws:s3::123456789012:x", "arn:aws:s3:::x"],
    r"^[A-Z]{3}(?:-\d{1,3})*$": ["ABC", "ABC-1-22", "AB", "ABC-"],
    r"^x-": ["x-a", "ax-"],
    r"\.json$": ["a.json", "a.jsonx", ".json"],
    r"^\p{L}[\p{L}\p{N}_]{0,30}$": ["a", "é1_", "1a", "a" * 31, "a" * 32],
}

ATOMS = ["a", "b", "c", ".", r"\w", r"\W", r"\s", "é", "[ab]", "[^a]", "[^b-é]", r"[\s_]", " ", "_"]
ASSERTIONS = ["^", "$", r"\b", r"\B"]
QUANTIFIERS = ["*", "+", "?", "{2}", "{1,2}", "{0,1}", "{2,}", "*?", "{0}"]


def random_pattern(r, depth):
    n = r.choice([1, 1, 2, 2, 3])
    out = []
    for _ in range(n):
        k = r.random()
        if k < 0.14:
            out.append(r.choice(ASSERTIONS))
            continue
        if k < 0.22 and depth:
            out.append(r.choice(["(?=", "(?!"]) + random_pattern(r, depth - 1) + ")")
            continue
        if k < 0.5 and depth:
            atom = r.choice(["(", "(?:"]) + random_pattern(r, depth - 1) + ")"
        else:
            atom = r.choice(ATOMS)
        if r.random() < 0.35:
            atom += r.choice(QUANTIFIERS)
        out.append(atom)
    s = "".join(out)
    if r.random() < 0.25:
        s += "|" + random_pattern(r, max(depth - 1, 0))
    return s


def entry(pattern, texts, is_random=False):
    find, whole = regress.Regex(pattern, "u"), regress.Regex("^(?:" + pattern + ")$", "u")
    if is_random:
        texts = python_agrees(pattern, texts, find, whole)
    yes = [t for t in texts if find.find(t)]
    return [pattern, yes, [t for t in texts if t not in yes], [t for t in yes if whole.find(t)]]


def python_agrees(pattern, texts, find, whole):
    p = pattern.replace("$", r"\Z")
    find_p, whole_p = re.compile(p, re.ASCII), re.compile("^(?:" + p + r")\Z", re.ASCII)
    return [t for t in texts
            if bool(find.find(t)) == bool(find_p.search(t)) and bool(whole.find(t)) == bool(whole_p.search(t))]


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    r = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    entries = [entry(p, t) for p, t in LISTED.items()]
    for _ in range(n):
        pattern = random_pattern(r, 3)
        texts = sorted({"".join(r.choice("aabbc_ é\n") for _ in range(r.randrange(7))) for _ in range(12)})
        entries.append(entry(pattern, texts, True))
    lines = (json.dumps(e, ensure_ascii=True, separators=(",", ":")) for e in entries)
    sys.stdout.write("[\n" + ",\n".join(lines) + "\n]\n")


main()
