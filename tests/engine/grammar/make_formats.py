"""Writes formats.json: texts, and whether the Python module `jsonschema` (FormatChecker of draft 2020-12, with its format extras)
takes them for their format.

    python make_formats.py > formats.json

Per format: [texts it takes, texts it refuses]. Texts are listed, and made from listed ones by small random changes.
"""

import json
import random

from jsonschema import Draft202012Validator

LISTED = {
    "date": "1963-06-19 2020-02-29 2021-02-29 1900-02-29 2000-02-29 0400-02-29 0000-01-01 0001-01-01 9999-12-31 2020-04-31 "
            "2020-13-01 2020-00-10 2020-10-00 2020-1-01 20200101 2020-W01-1",
    "time": "08:30:06Z 23:59:59.999999999999z 00:00:00+23:59 12:00:00-00:00 24:00:00Z 12:60:00Z 12:00:61Z 12:00:00 12:00:00+24:00 "
            "12:00:00.Z 12:00Z 23:59:60Z 22:59:60Z",
    "date-time": "1963-06-19T08:30:06.283185Z 1963-06-19t08:30:06+00:20 1990-02-31T15:59:59Z 1998-12-31T23:59:60Z "
                 "1985-04-12T23:20:50 2013-350T01:01:01Z",
    "duration": "P4DT12H30M5S P1Y2M3DT4H5M6S P PT P1W P1Y2W P2D1Y PT1D P1YT P1M2D PT1M2S PT1H2S P1Y2D P01D PT0.5S -P1D P1D2H",
    "email": "joe@example.com a.b.c@d.ef .a@b.c a.@b.c joe @ @b a@",
    "idn-email": "joe@example.com 실례@실례.테스트 δοκιμή@example.com @",
    "hostname": "www.example.com a a-b.c -a a- a..b .a a. a_b 1.2.3 a.b.c.d.e.f.g.h ab--c " + "a" * 63 + ".b " + "a" * 64 + " "
                + ".".join(["a" * 63] * 3) + " " + ".".join(["b" * 30] * 8),
    "idn-hostname": "실례.테스트 straße.de ελλάδα.gr пример.рф 日本語.jp a-b -a a- a..b ab--c 〮실 a·l １.a a٠b אב.ג "
                    + "é" * 11 + " 가ß가ß가ß가ß가ß가",
    "ipv4": "0.0.0.0 255.255.255.255 256.1.1.1 1.2.3 1.2.3.4.5 01.2.3.4 1.2.3.04 0x1.2.3.4",
    "ipv6": ":: ::1 1:: 1:2:3:4:5:6:7:8 1:2:3:4:5:6:7:: ::2:3:4:5:6:7:8 1::8 1:2::7:8 ::ffff:1.2.3.4 1:2:3:4:5:6:1.2.3.4 "
            "1:2:3:4:5:6:7:1.2.3.4 1::2::3 ::: 12345:: :1:2:3:4:5:6:7 1:2:3:4:5:6:7 fe80::1%eth0 ::1.2.3.256 ABCD:ef01::",
    "uri": "http://a.b/c?d=e#f mailto:a@b urn:a:b http:// a:b file:///x http://[::1]:80/ http://[v1.a:b] http://u:p@h:1/ http://a:b "
           "//a /a a 1a:b a_b:c http://a/%41%zz http://a/[b] http://a/b|c http://a/é http://[::1 http://a@b@c/ a:?/?#/?",
    "uri-reference": "http://a.b/c?d=e#f //a/b /a a ./a:b a:b 1:b ?q #f # a%20b a%2 \\a a#b#c //[::1] //[::1]x /[a] a|b",
    "iri": "http://ƒøø.ßår/?∂éœ=πîx#πîüx urn:日本 http://é:p@ü/ é:a http://a/\ue000 http://a/?\ue000 http://a/ÿ /é http://a\u00a0",
    "iri-reference": "é/ü //é/ü?\ue000#é /é #é ?é é:b .é:b \ue000 \\é",
    "uuid": "2EB8AA08-AA98-11EA-B4AA-73B441D16380 2eb8aa08-aa98-11ea-b4aa-73b441d1638 2eb8aa08aa9811eab4aa73b441d16380 "
            "2eb8aa08-aa98-11ea-b4aa-73b441d1638g {2eb8aa08-aa98-11ea-b4aa-73b441d16380}",
    "uri-template": "http://a/{b:1}/{c} a {+a} {#a,b*} {a.b} {a..b} {} {a {a}} {a:0} {a:10000} {a:9999} {%41} a%4 é{x} {=a} {?a,b,c} {a,} a'b a|b",
    "json-pointer": "/a/b /a~0b~1 / // a /~ /~2 /é #",
    "relative-json-pointer": "0 1 10/a 0# 01 -1 +1 0#/a 0/~ 2/0/a~1b 0//",
}
ALPHABET = {"idn-email": "aé실@.-", "idn-hostname": "aé실π本.-1", "iri": "aé:/?#[]@%4", "iri-reference": "aé:/?#[]@%4"}


def changed(r, text, alphabet):
    t = list(text)
    for _ in range(r.choice([1, 1, 2])):
        i = r.randrange(len(t) + 1)
        k = r.randrange(4)
        c = r.choice(alphabet)
        if k == 0:
            t.insert(i, c)
        elif k == 1 and t:
            del t[min(i, len(t) - 1)]
        elif t:
            t[min(i, len(t) - 1)] = c
    return "".join(t)


def takes(name, text):
    try:
        Draft202012Validator.FORMAT_CHECKER.check(text, name)
        return True
    except Exception:
        return False


def main():
    r = random.Random(5)
    out = {}
    for name, listed in LISTED.items():
        texts = [""] + listed.split(" ")
        alphabet = ALPHABET.get(name, "".join(sorted(set("".join(texts)))) + " \n/")
        more = {changed(r, r.choice(texts), alphabet) for _ in range(120)}
        texts = sorted(set(texts) | {t for t in more if len(t) < 60})
        out[name] = [[t for t in texts if takes(name, t)], [t for t in texts if not takes(name, t)]]
    lines = (json.dumps(k) + ": " + json.dumps(v, ensure_ascii=True, separators=(",", ":")) for k, v in out.items())
    print("{\n" + ",\n".join(lines) + "\n}")


main()
