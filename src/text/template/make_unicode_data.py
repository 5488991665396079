#!/usr/bin/env python3
"""Writes unicode_data.c: what Python's str knows of Unicode beyond utf8proc's simple mappings and categories.

  make_unicode_data.py > unicode_data.c        (Python 3.11, Unicode 14; libutf8proc 2.8)

Derived by asking Python about every code point, so that the tables follow the reference's own data.
"""
import ctypes
import ctypes.util
import sys
import unicodedata

u = ctypes.CDLL(ctypes.util.find_library("utf8proc") or "libutf8proc.so.2")
for f in ("toupper", "tolower", "totitle"):
    getattr(u, "utf8proc_" + f).restype = ctypes.c_int32
    getattr(u, "utf8proc_" + f).argtypes = [ctypes.c_int32]
u.utf8proc_decompose_char.argtypes = [ctypes.c_int32, ctypes.POINTER(ctypes.c_int32), ctypes.c_ssize_t, ctypes.c_int, ctypes.POINTER(ctypes.c_int)]
u.utf8proc_decompose_char.restype = ctypes.c_ssize_t
u.utf8proc_category.argtypes = [ctypes.c_int32]


def fold(cp):
    buf = (ctypes.c_int32 * 8)()
    last = ctypes.c_int(0)
    n = u.utf8proc_decompose_char(cp, buf, 8, 1 << 10, ctypes.byref(last))
    return [buf[i] for i in range(n)]


ALL = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
ASSIGNED = [c for c in ALL if unicodedata.category(chr(c)) != "Cn"]


def ranges(name, pred):
    out, start = [], None
    prev = -2
    for c in ALL:
        if pred(chr(c)):
            if c != prev + 1:
                if start is not None:
                    out.append((start, prev))
                start = c
            prev = c
    if start is not None:
        out.append((start, prev))
    print("const uint32_t %s[][2] = {" % name)
    line = ""
    for a, b in out:
        item = "{0x%x, 0x%x}, " % (a, b)
        if len(line) + len(item) > 104:
            print("    " + line.rstrip())
            line = ""
        line += item
    print("    " + line.rstrip() + "\n};")
    print("const size_t n_%s = %d;\n" % (name, len(out)))


def mapping(name, py, simple):
    out = []
    for c in ASSIGNED:
        want = [ord(x) for x in py(chr(c))]
        if want != simple(c):
            out.append((c, want))
    print("const special_case %s[] = {" % name)
    line = ""
    for c, w in out:
        w = w + [0] * (3 - len(w))
        item = "{0x%x, {0x%x, 0x%x, 0x%x}}, " % (c, *w)
        if len(line) + len(item) > 104:
            print("    " + line.rstrip())
            line = ""
        line += item
    print("    " + line.rstrip() + "\n};")
    print("const size_t n_%s = %d;\n" % (name, len(out)))


print("/* Unicode data beside utf8proc's: written by make_unicode_data.py, not by hand. Ranges are inclusive.")
print(" * Unicode %s (Unicode Character Database: SpecialCasing, DerivedCoreProperties, numeric types). */" % unicodedata.unidata_version)
print("#include \"text/template/unicode_data.h\"\n")
mapping("special_upper", str.upper, lambda c: [u.utf8proc_toupper(c)])
mapping("special_lower", str.lower, lambda c: [u.utf8proc_tolower(c)])
mapping("special_title", str.title, lambda c: [u.utf8proc_totitle(c)])
ranges("other_lower", lambda s: s.islower() != (unicodedata.category(s) == "Ll"))
ranges("other_upper", lambda s: s.isupper() and unicodedata.category(s) not in ("Lu", "Lt"))
ranges("case_ignorable", lambda s: (" " + s + "Σ").lower()[-1] == "σ" and ("A" + s + "Σ").lower()[-1] == "ς")
ranges("digit_only", lambda s: s.isdigit() and not s.isdecimal())
ranges("numeric_only", lambda s: s.isnumeric() and not s.isdigit())
ranges("decimal_digits", lambda s: s.isdecimal())


def id_start(s):
    return unicodedata.category(s) in ("Lu", "Ll", "Lt", "Lm", "Lo", "Nl") or s == "_"


def id_continue(s):
    return id_start(s) or unicodedata.category(s) in ("Mn", "Mc", "Nd", "Pc")


ranges("id_start_but", lambda s: s.isidentifier() != id_start(s))
ranges("id_continue_but", lambda s: ("a" + s).isidentifier() != id_continue(s))
zeros = [c for c in ALL if chr(c).isdecimal() and unicodedata.decimal(chr(c)) == 0]
assert all(unicodedata.decimal(chr(z + i)) == i for z in zeros for i in range(10))
print("const uint32_t decimal_zeros[] = {")
for i in range(0, len(zeros), 12):
    print("    " + " ".join("0x%x," % z for z in zeros[i:i + 12]))
print("};")
print("const size_t n_decimal_zeros = %d;\n" % len(zeros))
UNASSIGNED_HERE = [c for c in ALL if unicodedata.category(chr(c)) == "Cn" and u.utf8proc_category(c) != 0]
s = set(UNASSIGNED_HERE)
ranges("newer", lambda x: ord(x) in s)
