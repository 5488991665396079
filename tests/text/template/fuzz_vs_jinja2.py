#!/usr/bin/env python3
"""Differential fuzzing of the template engine against jinja2 in transformers' own environment. Run by hand.

  fuzz_vs_jinja2.py --mlxctl build/bin/mlxctl [--count 20000] [--seed 1] [--jobs 2] [--show 20]

Generated templates are rendered with generated contexts on both sides. A difference is another text, or an error on
one side only. Needs Python with transformers and jinja2. Integers beyond 64 bits, complex numbers, sets and lone
surrogates are known not to be supported: templates that meet them (the engine says so) are counted apart, as are
those whose output shows an object's address.
"""
import argparse
import json
import multiprocessing
import os
import random
import re
import subprocess
import sys
import tempfile

WORDS = ["a", "user", "Hello World", "ab", "x y  z", "", "éÀß", "日本 語", "İıſ", "ΑΣ ΣΑΣ", "it's", 'q"q', "a\\nb", "foo-bar baz",
         "  pad ", "\\t", "<b>&x</b>", "1", "42", "-7", "3.5", "1e3", "0x1f", "😀", "ǅ ﬁn", "{}", "%s", "a,b,c", "TITLE case", "İstanbul",
         "x=1&y=2", "www.example.com", "line1\\nline2\\r\\nline3", "ñandú", "\\u00a0nb", "_under", "A1b2"]


class Gen:
    def __init__(self, rng):
        self.r = rng
        self.vars = ["s", "t", "n", "m", "f", "g", "b", "z", "l", "ls", "ld", "d", "dd", "e", "es", "msgs", "tools", "mix"]
        self.depth = 0
        self.n_macro = 0
        self.macros = []
        self.ns = False
        self.in_loop = 0

    def pick(self, *xs):
        return self.r.choice(xs)

    def p(self, x):
        return self.r.random() < x

    # -- literals
    def lit_str(self):
        w = self.r.choice(WORDS)
        if self.p(0.5):
            return "'" + w.replace("'", "\\'") + "'"
        return '"' + w.replace('"', '\\"') + '"'

    def lit_int(self):
        return str(self.r.choice([0, 1, 2, 3, -1, 5, 7, 10, 12, 100, 255, -3, 1_000, 2**31, 65]))

    def lit_float(self):
        return self.r.choice(["0.5", "1.0", "2.75", "1e3", "1.5e-7", "3.14159", "100.0", "1e16", "0.1", "2.5", "1_0.2_5"])

    # -- typed expressions
    def str_(self, k=0):
        c = self.r.randrange(22 if k < 3 else 6)
        if c < 3:
            return self.lit_str()
        if c < 6:
            return self.r.choice(["s", "t", "s", "ls[0]", "d.name", "d['name']", "msgs[0].role", "msgs[-1]['content']", "es"])
        if c == 6:
            return "(%s ~ %s)" % (self.any_(k + 1), self.any_(k + 1))
        if c == 7:
            return "(%s + %s)" % (self.str_(k + 1), self.str_(k + 1))
        if c == 8:
            return "%s[%s]" % (self.str_(k + 1), self.slice_())
        if c in (9, 10, 11):
            return self.str_method(k)
        if c in (12, 13, 14, 15):
            return "(%s|%s)" % (self.str_(k + 1), self.str_filter(k))
        if c == 16:
            return "(%s|join%s)" % (self.list_(k + 1), self.pick("", "(%s)" % self.lit_str(), "(d=', ')", "(%s, attribute='role')" % self.lit_str()))
        if c == 17:
            return "(%s if %s else %s)" % (self.str_(k + 1), self.bool_(k + 1), self.str_(k + 1))
        if c == 18:
            return "(%s|string)" % self.any_(k + 1)
        if c == 19:
            return self.format_(k)
        if c == 20:
            return "(%s|tojson%s)" % (self.any_(k + 1), self.pick("", "", "(indent=2)", "(indent=0)", "(sort_keys=true)", "(ensure_ascii=true)", "(separators=(',', ':'))", "(indent=1, separators=(';', '='))", "(indent='\\t')"))
        return "(%s * %s)" % (self.str_(k + 1), self.pick("0", "1", "2", "3", "-1", "true"))

    def slice_(self):
        a = lambda: self.pick("", "", "0", "1", "2", "-1", "-2", "5", "n", "none", "100", "-100")
        return self.pick("%s:%s" % (a(), a()), "%s:%s:%s" % (a(), a(), self.pick("", "1", "2", "-1", "-2", "3")), "::-1", "1:", ":2")

    def str_method(self, k):
        s = self.str_(k + 1)
        a = lambda: self.pick("'a'", "' '", "','", "'x'", "'-'", "s", self.lit_str())
        i = lambda: self.pick("0", "1", "2", "-1", "5", "none", "-20")
        m = self.r.choice([
            "upper()", "lower()", "title()", "capitalize()", "swapcase()", "casefold()", "strip()", "lstrip()", "rstrip()",
            "strip(%s)" % a(), "lstrip(%s)" % a(), "rstrip(%s)" % a(), "replace(%s, %s)" % (a(), a()), "replace(%s, %s, %s)" % (a(), a(), self.pick("1", "0", "-1", "2")),
            "split(%s)|list|string" % a(), "split()|join('|')", "rsplit(%s, 1)|join('|')" % a(), "split(%s, %s)|string" % (a(), self.pick("0", "1", "2", "-1")), "rsplit(none, %s)|string" % self.pick("0", "1", "2"),
            "split(maxsplit=1)|string", "splitlines()|string", "splitlines(true)|string", "partition(%s)|string" % a(), "rpartition(%s)|string" % a(),
            "center(%s)" % self.pick("3", "10", "11"), "ljust(%s, '*')" % self.pick("3", "10"), "rjust(%s)" % self.pick("3", "12"), "zfill(%s)" % self.pick("1", "5", "9"),
            "find(%s)|string" % a(), "rfind(%s)|string" % a(), "count(%s)|string" % a(), "find(%s, %s, %s)|string" % (a(), i(), i()), "count(%s, %s)|string" % (a(), i()),
            "startswith(%s)|string" % a(), "endswith(%s)|string" % a(), "startswith((%s, %s))|string" % (a(), a()), "startswith(%s, %s)|string" % (a(), i()),
            "removeprefix(%s)" % a(), "removesuffix(%s)" % a(), "expandtabs(%s)" % self.pick("", "4", "0", "tabsize=2"),
            "isdigit()|string", "isalpha()|string", "isalnum()|string", "isspace()|string", "isupper()|string", "islower()|string", "istitle()|string",
            "isidentifier()|string", "isnumeric()|string", "isdecimal()|string", "isprintable()|string", "isascii()|string",
            "join(%s)" % self.strlist_(k + 1), "index(%s)|string" % a(), "encode()|string", "translate({97: 'X', 98: none})", "maketrans('ab', 'xy')|string",
        ])
        return "(%s.%s)" % (s, m)

    def str_filter(self, k):
        n = lambda: self.pick("0", "1", "2", "5", "8", "20", "30")
        return self.r.choice([
            "upper", "lower", "title", "capitalize", "trim", "trim(%s)" % self.lit_str(), "reverse", "center(%s)" % n(), "indent", "indent(%s)" % n(), "indent(2, true)",
            "indent(width='> ', first=true, blank=true)", "indent(1, blank=true)", "replace(%s, %s)" % (self.lit_str(), self.lit_str()), "replace('a', 'b', %s)" % n(),
            "truncate(%s)" % self.pick("5", "10", "3"), "truncate(%s, true)" % self.pick("5", "10"), "truncate(5, false, '', 0)", "truncate(length=6, killwords=true, end='~', leeway=1)",
            "wordwrap(%s)" % self.pick("3", "5", "10"), "wordwrap(4, false)", "wordwrap(6, wrapstring='/')", "wordwrap(5, break_on_hyphens=false)", "wordcount|string",
            "escape", "e", "forceescape", "safe", "striptags", "urlencode", "urlize", "urlize(8, true)", "urlize(target='_blank')", "length|string", "list|string",
            "first|string", "last|string", "default('dflt')", "d('x', true)", "int|string", "int(default=-5)|string", "int(0, 16)|string", "float|string", "float(1.5)|string", "pprint",
            "unique|join", "sort|join", "sort(reverse=true, case_sensitive=true)|join('.')", "batch(2)|list|string", "batch(3, '-')|list|string", "slice(2)|list|string", "slice(3, '+')|list|string",
            "map('upper')|join", "select('in', 'aeiou')|join", "reject('eq', 'a')|list|string", "max|string", "min|string", "format", "string", "tojson", "attr('nope')|string",
        ])

    def format_(self, k):
        a = self.any_(k + 1)
        c = self.r.randrange(5)
        if c == 0:
            spec = "%" + self.pick("", "-", "+", " ", "0", "#", "-0") + self.pick("", "5", "12", "3") + self.pick("", ".2", ".0", ".5") + self.pick("s", "r", "d", "i", "f", "e", "g", "x", "o", "X", "G", "E", "c", "a", "%")
            return "('%s' %% (%s,))" % (spec, self.pick(a, self.num_(k + 1)))
        if c == 1:
            return "('%s|%s'|format(%s, %s))" % (self.pick("%s", "%r", "%5s"), self.pick("%d", "%05.1f", "%s", "%-6s"), a, self.num_(k + 1))
        if c == 2:
            spec = self.pick("", "", ":", ":" + self.pick("", "<", ">", "^", "=", "*<", "0>", "é^") + self.pick("", "+", "-", " ") + self.pick("", "#") + self.pick("", "0") + self.pick("", "3", "9", "14") + self.pick("", ",", "_") + self.pick("", ".2", ".0", ".7") + self.pick("", "s", "d", "f", "e", "g", "x", "X", "b", "o", "%", "c", "n", "G"))
            return "('[{%s%s}]'.format(%s))" % (self.pick("", "!r", "!s", "!a"), spec, self.pick(a, self.num_(k + 1)))
        if c == 3:
            return "('{0} {1!r} {0:>6}'.format(%s, %s))" % (self.pick(self.num_(k + 1), self.str_(k + 1)), a)
        return "('{a.name}|{b[0]}|{c}'.format(a=d, b=l, c=%s))" % a

    def num_(self, k=0):
        c = self.r.randrange(16 if k < 3 else 5)
        if c < 2:
            return self.lit_int()
        if c < 3:
            return self.lit_float()
        if c < 5:
            return self.r.choice(["n", "m", "f", "g", "l[0]", "d.count", "b"])
        if c in (5, 6, 7):
            return "(%s %s %s)" % (self.num_(k + 1), self.pick("+", "-", "*", "/", "//", "%"), self.num_(k + 1))
        if c == 8:
            return "(%s ** %s)" % (self.num_(k + 1), self.pick("0", "1", "2", "3", "2", "3", "-1", "0.5"))
        if c == 9:
            return "(%s%s)" % (self.pick("-", "+", "- -"), self.num_(k + 1))
        if c == 10:
            return "(%s|%s)" % (self.num_(k + 1), self.pick("abs", "int", "float", "round", "round(1)", "round(2, 'floor')", "round(0, 'ceil')", "round(-1)", "string|length", "filesizeformat|length", "round|int"))
        if c == 11:
            return "(%s|length)" % self.coll_(k + 1)
        if c == 12:
            return "(%s|sum)" % self.numlist_(k + 1)
        if c == 13:
            return "(%s|%s)" % (self.numlist_(k + 1), self.pick("max", "min", "first", "last"))
        if c == 14:
            return "(%s if %s else %s)" % (self.num_(k + 1), self.bool_(k + 1), self.num_(k + 1))
        return "(%s|int)" % self.str_(k + 1)

    def bool_(self, k=0):
        c = self.r.randrange(13 if k < 3 else 3)
        if c == 0:
            return self.pick("true", "false", "True", "b", "none")
        if c == 1:
            return self.pick("s", "n", "e", "d", "u", "z", "es", "l")
        if c == 2:
            return "(%s)" % self.test_(k)
        if c == 3:
            return "(%s %s %s)" % (self.num_(k + 1), self.pick("<", "<=", ">", ">=", "==", "!="), self.num_(k + 1))
        if c == 4:
            return "(%s %s %s)" % (self.str_(k + 1), self.pick("<", "==", "!=", ">=", "in", "not in"), self.str_(k + 1))
        if c == 5:
            return "(%s and %s)" % (self.bool_(k + 1), self.bool_(k + 1))
        if c == 6:
            return "(%s or %s)" % (self.bool_(k + 1), self.bool_(k + 1))
        if c == 7:
            return "(not %s)" % self.bool_(k + 1)
        if c == 8:
            return "(%s %s %s)" % (self.any_(k + 1), self.pick("in", "not in"), self.coll_(k + 1))
        if c == 9:
            return "(%s == %s)" % (self.any_(k + 1), self.any_(k + 1))
        if c == 10:
            return "(%s < %s < %s)" % (self.num_(k + 1), self.num_(k + 1), self.num_(k + 1))
        if c == 11:
            return "(%s %s %s)" % (self.numlist_(k + 1), self.pick("<", "==", ">=", "!="), self.numlist_(k + 1))
        return "(%s)" % self.test_(k)

    def test_(self, k):
        t = self.r.choice(["defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "mapping", "sequence", "iterable", "callable", "true", "false", "odd", "even",
                           "divisibleby 3", "divisibleby(2)", "eq 1", "== 2", "ne('a')", "lt 3", "gt(1)", "ge 2", "le 5", "equalto 'a'", "in [1, 'a', none]", "in(l)", "sameas none", "sameas true", "lower", "upper", "escaped", "filter", "test", "lessthan 4", "greaterthan 0"])
        if "== 2" in t:
            t = "eq 2"
        return "%s is %s%s" % (self.any_(k + 1), self.pick("", "", "not "), t)

    def numlist_(self, k=0):
        return self.pick("l", "l", "[1, 2, 3]", "[%s, %s]" % (self.num_(k + 1), self.num_(k + 1)), "range(%s)|list" % self.pick("3", "0", "1, 5", "5, 0, -2"), "(l|sort)", "(l|reverse|list)", "l[%s]" % self.slice_(), "(l|select('odd')|list)", "(l|map('abs')|list)", "(l + [4])", "([n] * 2)", "(l|unique|list)", "(l|batch(2)|map('sum')|list)", "(l|map('string')|map('length')|list)", "[0.5, n]", "ld|map(attribute='v')|list", "(range(4)|map('string')|map('int')|list)")

    def strlist_(self, k=0):
        return self.pick("ls", "ls", "['a', 'B', 'c']", "[%s, %s]" % (self.str_(k + 1), self.str_(k + 1)), "(ls|sort)", "(ls|unique|list)", "(ls|map('upper')|list)", "s.split()", "(d|list)", "d.keys()", "(msgs|map(attribute='role')|list)", "ls[%s]" % self.slice_(), "(ls|select|list)", "('a', 'b')" if self.p(0.2) else "['q']")

    def list_(self, k=0):
        c = self.r.randrange(8 if k < 3 else 3)
        if c == 0:
            return self.numlist_(k)
        if c == 1:
            return self.strlist_(k)
        if c == 2:
            return self.pick("ld", "msgs", "mix", "e", "[]", "()", "tools", "d.values()|list", "d.items()|list")
        if c == 3:
            return "[%s]" % ", ".join(self.any_(k + 1) for _ in range(self.r.randrange(4)))
        if c == 4:
            return "(%s,)" % self.any_(k + 1) if self.p(0.5) else "(%s, %s)" % (self.any_(k + 1), self.any_(k + 1))
        if c == 5:
            return "(%s|%s)" % (self.list_(k + 1), self.list_filter(k))
        if c == 6:
            return "(%s + %s)" % (self.list_(k + 1), self.list_(k + 1))
        return "(%s|dictsort%s)" % (self.dict_(k + 1), self.pick("", "(true)", "(by='value')", "(reverse=true)", "(false, 'key', true)"))

    def list_filter(self, k):
        return self.r.choice([
            "list", "sort", "sort(reverse=true)", "sort(attribute='v')", "sort(attribute='k,v')", "sort(true, true)", "unique|list", "unique(attribute='k')|list", "unique(true)|list", "reverse|list",
            "map('string')|list", "map(attribute='v')|list", "map(attribute='k', default='?')|list", "map('default', 'x')|list", "map('length')|list", "map('first')|list", "map(attribute='a.b')|list", "map(attribute=0)|list",
            "select|list", "reject|list", "select('string')|list", "reject('none')|list", "select('defined')|list", "selectattr('v')|list", "selectattr('v', 'gt', 1)|list", "rejectattr('k', 'eq', 'x')|list",
            "selectattr('role', 'equalto', 'user')|list", "rejectattr('role', 'in', ['user'])|list", "batch(2)|list", "batch(2, 0)|list", "slice(2)|list", "slice(2, 'f')|list", "groupby('k')|list", "groupby('v', default=0)|map('first')|list",
            "map('tojson')|list", "map('upper')|list", "select('mapping')|list", "map('int')|list", "map('join', '-')|list", "select('in', l)|list", "sort(attribute='role')|map(attribute='content')|list", "map('attr', 'x')|list", "map('replace', 'a', 'b')|list", "map('round')|list"])

    def dict_(self, k=0):
        c = self.r.randrange(5 if k < 3 else 2)
        if c < 2:
            return self.pick("d", "dd", "ld[0]", "msgs[0]", "{}", "dd.inner")
        if c == 2:
            return "{%s}" % ", ".join("%s: %s" % (self.pick(self.lit_str(), self.lit_int(), "none", "true", "(1, 2)", "0.5"), self.any_(k + 1)) for _ in range(self.r.randrange(4)))
        if c == 3:
            return "dict(%s)" % self.pick("a=1, b=%s" % self.any_(k + 1), "d, x=1", "[('k', 1), ('j', 2)]", "")
        return "dict.fromkeys(%s, %s)" % (self.strlist_(k + 1), self.any_(k + 1))

    def coll_(self, k=0):
        return self.pick(self.list_, self.list_, self.dict_, self.str_)(k)

    def any_(self, k=0):
        c = self.r.randrange(20)
        if c < 5:
            return self.str_(k)
        if c < 8:
            return self.num_(k)
        if c < 10:
            return self.bool_(k)
        if c < 13:
            return self.list_(k)
        if c < 15:
            return self.dict_(k)
        if c == 15:
            return self.r.choice(self.vars)
        if c == 16:
            return self.pick("u", "d.nope", "d['nope']", "l[99]", "s.nope", "none", "z.x", "(1 if false)")
        if c == 17:
            d = self.dict_(k + 1)
            return self.pick("%s.name" % d, "%s['k']" % d, "%s.get('k')" % d, "%s.get('zz', %s)" % (d, self.lit_int()), "%s.items()|list" % d, "%s|length" % d, "%s.keys()" % d, "%s.values()" % d, "%s|items|list" % d, "%s.items()" % d)
        if c == 18:
            l = self.list_(k + 1)
            return self.pick("%s[0]" % l, "%s[-1]" % l, "%s|first" % l, "%s|last" % l, "%s[%s]" % (l, self.slice_()), "(%s|random) in %s" % (l, l), "%s.index(1)" % l, "%s.count(1)" % l, "%s.0" % l)
        if self.macros and self.p(0.5):
            return "%s(%s)" % (self.r.choice(self.macros), self.pick("", "", self.lit_int(), "%s, %s" % (self.lit_str(), self.lit_int()), "a=%s" % self.lit_int()))
        return self.pick("range(3)", "range(1, 4)|list", "namespace(a=1)", "namespace(a=1).a", "cycler(1, 2).next()", "joiner('|')()", "none", "(self is defined)", "(loop is defined)", "(caller is defined)", "d.append", "[].append", "l.pop", "''.__class__", "d.__len__")

    # -- statements
    def sign(self):
        return self.pick("", "", "", "", "-", "-", "+")

    def vsign(self):
        return self.pick("", "", "", "-")

    def tag(self, text):
        return "{%%%s %s %s%%}" % (self.sign(), text, self.sign())

    def out(self, e):
        s = self.pick("{{ %s }}", "{{ %s }}", "{{ %s }}", "{{- %s }}", "{{ %s -}}", "{{- %s -}}", "{{%s}}", "{{+ %s }}" if self.p(0.1) else "{{ %s }}")
        return s % e

    def text(self):
        return self.r.choice(["", " ", "\n", "\n  ", "  \n", "text", "a b", "\n\n", "\t", " x\n", "\r\n", "é\n", "# ", "}", "%}", "{ { ", " \u00a0\n", "<|im_start|>", "\x0b", "{{ '{{' }}", "\n    "])

    def body(self, k):
        return "".join(self.text() + self.stmt(k + 1) for _ in range(self.r.randrange(1, 4))) + self.text()

    def name(self):
        return self.r.choice(["x", "y", "k", "v", "s", "n", "q", "é"])

    def target(self):
        return self.pick(self.name(), self.name(), "x, y", "(x, y)", "x, (y, q)")

    def stmt(self, k=0):
        c = self.r.randrange(36 if k < 4 else 8)
        if c < 8:
            return self.out(self.any_(1 if self.p(0.5) else 0))
        if c < 10:
            return self.out(self.r.choice(self.vars + ["x", "y", "k", "v", "loop.index", "q"]))
        if c in (10, 11, 12):
            s = self.tag("if " + self.bool_(1)) + self.body(k)
            for _ in range(self.r.randrange(2)):
                s += self.tag("elif " + self.bool_(1)) + self.body(k)
            if self.p(0.5):
                s += self.tag("else") + self.body(k)
            return s + self.tag("endif")
        if c in (13, 14, 15, 16):
            return self.for_(k)
        if c in (17, 18, 19):
            n = self.name()
            if self.p(0.3):
                f = self.pick("", "", " | upper", " | trim | length", " | replace('a', 'b')", " | indent(2)")
                return self.tag("set %s%s" % (n, f)) + self.body(k) + self.tag("endset")
            if self.p(0.15):
                return self.tag("set x, y = %s" % self.pick("1, 2", "(3, 'b')", "y, x", "[n, m]", "s[:2]", self.list_(1)))
            return self.tag("set %s = %s" % (n, self.any_(0)))
        if c == 20:
            if self.ns and self.p(0.8):
                return self.tag("set ns.%s = %s" % (self.pick("a", "c"), self.pick("ns.a", self.any_(1), "ns.a ~ 'x'", "[ns.a]"))) + self.out("ns.a")
            self.ns = True
            return self.tag("set ns = namespace(%s)" % self.pick("a=1", "a='s', c=[]", "{'a': 2}", "", "a=d")) + self.out("ns.a")
        if c in (21, 22):
            return self.macro(k)
        if c == 23:
            self.n_macro += 1
            m = "cm%d" % self.n_macro
            sig, args = self.pick(("", ""), ("(i)", "1"), ("(i, j=2)", "'p'"), ("(x)", "n"))
            return (self.tag("macro %s(%s)" % (m, self.pick("a=1", "a=1, b=n", "a='q', c=caller" if self.p(0.05) else "a=2"))) + "<" + self.pick("{{ caller(%s) }}" % args, "{%% for q in [1, 2] %%}{{ caller(%s) }}{%% endfor %%}" % args, "{% if caller %}c{{ a }}{% endif %}", "{{ caller(1, 2, 3) }}" if self.p(0.1) else "{{ caller(%s) }}" % args) + ">" + self.tag("endmacro")
                    + self.tag("call%s %s(%s)" % (sig, m, self.pick("", "2", "a=%s" % self.any_(2)))) + self.body(k) + self.pick("", "{{ i }}") + self.tag("endcall"))
        if c == 24:
            return self.tag("filter " + self.pick("upper", "trim", "replace('a', 'o')|title", "indent(2)", "length", "center(20)", "tojson", "escape", "wordcount|string", "reverse")) + self.body(k) + self.tag("endfilter")
        if c == 25:
            return self.tag("with %s" % self.pick("x=%s" % self.any_(1), "x=1, y=x", "", "k=s, v=n")) + self.body(k) + self.tag("endwith")
        if c == 26:
            return "{%%%s raw %s%%}" % (self.sign(), self.vsign()) + self.pick("{{ x }}", "{% if %}", " a ", "\n{# c #}\n") + self.tag("endraw")
        if c == 27:
            return "{#%s comment %s#}" % (self.sign(), self.sign())
        if c == 28 and self.in_loop:
            return self.tag("if %s" % self.bool_(2)) + self.tag(self.pick("break", "continue")) + self.tag("endif")
        if c == 29 and k < 2:
            self.n_macro += 1
            return self.tag("block b%d%s" % (self.n_macro, self.pick("", "", " scoped"))) + self.body(k) + self.tag("endblock") + (self.out("self.b%d()" % self.n_macro) if self.p(0.3) else "")
        if c == 30:
            return self.tag("generation") + self.body(k) + self.tag("endgeneration")
        if c == 31:
            return self.tag("autoescape %s" % self.pick("true", "false", "b")) + self.body(k) + self.tag("endautoescape")
        if c == 33:
            return self.scoping()
        if c == 32:
            return self.tag("print %s" % self.pick(self.any_(1), "%s, %s" % (self.any_(1), self.any_(1))))
        return self.out(self.any_(0))

    def scoping(self):
        """Names that are read, set and shadowed around each other: where the reference's symbol rules show."""
        n, q = self.r.choice(["x", "y", "s", "n"]), self.r.choice(["x", "y", "k"])
        read = lambda: self.out(self.pick(n, q, n + " is defined", "%s ~ %s" % (n, q)))
        put = lambda: self.tag("set %s = %s" % (self.pick(n, q), self.pick("1", "'v'", n, q, "%s ~ 'z'" % n)))
        parts = []
        for _ in range(self.r.randrange(2, 6)):
            c = self.r.randrange(9)
            if c == 0:
                parts.append(put())
            elif c == 1:
                parts.append(self.tag("if %s" % self.pick("n", "false", "b", q)) + put() + read() + self.tag("else") + self.pick(put(), read(), "") + self.tag("endif"))
            elif c == 2:
                parts.append(self.tag("for %s in %s" % (self.pick(n, q, "i"), self.pick("l", "ls", "[1, 2]"))) + self.pick(read(), put()) + self.pick(read(), put(), "{{ loop.index }}") + read() + self.tag("endfor"))
            elif c == 3:
                m = "sc%d" % self.r.randrange(3)
                parts.append(self.tag("macro %s(%s)" % (m, self.pick("", "a=1", n, n + "=" + q))) + self.pick(read(), put() + read(), read() + put()) + self.tag("endmacro") + self.pick("", self.out(m + "()")))
                parts.append(self.pick("", put()) + self.out(m + "()"))
            elif c == 4:
                parts.append(self.tag("with %s = %s" % (self.pick(n, q), self.pick(n, q, "5"))) + read() + put() + read() + self.tag("endwith"))
            elif c == 5:
                parts.append(self.tag("set %s" % self.pick(n, q)) + read() + put() + self.tag("endset"))
            elif c == 6:
                parts.append(self.tag("filter upper") + read() + put() + self.tag("endfilter"))
            elif c == 7:
                parts.append(self.tag("generation") + read() + put() + read() + self.tag("endgeneration"))
            else:
                self.n_macro += 1
                parts.append(self.tag("block b%d%s" % (self.n_macro, self.pick("", " scoped"))) + read() + self.pick("", put() + read()) + self.tag("endblock"))
            parts.append(read())
        return "".join(parts)

    def for_(self, k):
        c = self.r.randrange(8)
        self.in_loop += 1
        if c == 0:
            head = "k, v in %s" % self.pick("d.items()", "dd|dictsort", "d|items", "[(1, 2), (3, 4)]", "ld|map('list')", "['ab', 'cd']")
        elif c == 1:
            head = "x in %s" % self.pick("msgs", "ld", "tools")
        elif c == 2:
            head = "%s in %s" % (self.target(), self.list_(1))
        else:
            head = "x in %s" % self.pick(self.list_(1), self.numlist_(1), self.strlist_(1), "range(%s)" % self.pick("3", "5"), "l|reverse", "s", "d", "u", "ls|map('upper')", "mix", "loop" if self.p(0.05) else "l")
        if self.p(0.2):
            head += " if %s" % self.pick("x", "x != 2", self.bool_(2), "x is defined", "loop.index" if self.p(0.1) else "n")
        rec = self.p(0.08)
        if rec:
            return self.rec_for()
        inner = self.body(k)
        if self.p(0.6):
            inner += self.out(self.pick("loop.index", "loop.index0", "loop.first", "loop.last", "loop.length", "loop.revindex", "loop.revindex0", "loop.previtem", "loop.nextitem", "loop.cycle('a', 'b')", "loop.changed(x)", "loop.depth", "loop.depth0", "loop.previtem is defined", "x", "x.role", "', ' if not loop.last", "loop"))
        s = self.tag("for " + head) + inner
        if self.p(0.25):
            s += self.tag("else") + self.body(k)
        self.in_loop -= 1
        return s + self.tag("endfor")

    def rec_for(self):
        self.in_loop -= 1
        return (self.tag("for x in %s recursive" % self.pick("tree", "tree if x.c is defined", "[tree[0]]")) + self.pick("{{ loop.depth }}", "[{{ x.v }}]", "{{ loop.index }}{{ loop.length }}") +
                self.pick("{{ loop(x.c) if x.c }}", "{% if x.c %}({{ loop(x.c) }}){% endif %}", "{{ loop(x.c|reverse) if x.c else '.' }}") + self.tag("endfor"))

    def macro(self, k):
        self.n_macro += 1
        m = "m%d" % self.n_macro
        sig = self.pick("", "a", "a, b", "a, b=2", "a='d', b=none", "a, b=a", "a=s, b=n")
        outer, self.in_loop = self.in_loop, 0
        inner = self.body(k) + self.pick("{{ a }}", "{{ b }}", "{{ a }}{{ b }}", "{{ varargs }}", "{{ kwargs }}", "{{ varargs|length }}{{ kwargs|length }}", "", "{{ x }}", "{{ caller is defined }}")
        self.in_loop = outer
        s = self.tag("macro %s(%s)" % (m, sig)) + inner + self.tag("endmacro")
        self.macros.append(m)
        fits = {"": ["", ""], "a": ["", self.any_(2), "a=%s" % self.any_(2)]}.get(sig) or ["", self.any_(2), "%s, %s" % (self.any_(2), self.any_(2)), "b=1, a=%s" % self.any_(2), "*[1, 2]", "**{'a': 5}", "7, **{'b': 5}"]
        for _ in range(self.r.randrange(3)):
            s += self.out("%s(%s)" % (m, self.pick("1, 2, 3", "c=3", "a=1") if self.p(0.1) else self.r.choice(fits)))
        return s

    def template(self):
        return "".join(self.text() + self.stmt() for _ in range(self.r.randrange(1, 6))) + self.text()


def rand_value(r, k=0):
    c = r.randrange(9 if k < 2 else 6)
    if c == 0:
        return r.choice(["", "a", "ab c", "User", "é日", "<x>", "12", "x" * r.randrange(20), "A-B c_d", "\u2028", "q\"'", "a\\b\n"])
    if c == 1:
        return r.choice([0, 1, -1, 2, 7, 42, 1000, -5, 123456789])
    if c == 2:
        return r.choice([0.0, 1.5, -2.25, 1e20, 1e-5, 3.0, 0.1, 123456.789, 1e16, 12345678901234567.0])
    if c == 3:
        return r.choice([True, False])
    if c in (4, 5):
        return None if c == 4 else r.choice(["s", 3])
    if c in (6, 7):
        return [rand_value(r, k + 1) for _ in range(r.randrange(4))]
    return {r.choice(["a", "b", "k", "v", "name", "x y", "é"]): rand_value(r, k + 1) for _ in range(r.randrange(4))}


def context(r):
    s = lambda: r.choice(["hello world", "Hello", "a b a", "", "ßtraße ΑΣ", "日本語テキスト", "one-two three", "tab\there", "l1\nl2\n", "MiXed 123", "x" * 12, "  sp  ", "ǆabc", "a.b.c", "<i>&amp;</i>", "http://a.com/x, b@c.de"])
    c = {
        "s": s(), "t": s(), "n": r.randrange(-3, 12), "m": r.randrange(100), "f": r.choice([0.5, 2.0, -1.25, 3.75, 1e3]), "g": r.choice([1.1, 2.675, 1e-7, 7.0]), "b": r.choice([True, False]), "z": None,
        "l": [r.randrange(-4, 9) for _ in range(r.randrange(1, 6))], "ls": [r.choice(["a", "B", "c", "ab", "É", "Zz", "b"]) for _ in range(r.randrange(1, 5))],
        "ld": [{"k": r.choice(["x", "y", "X"]), "v": r.randrange(4)} for _ in range(r.randrange(1, 5))],
        "d": {"name": s(), "count": r.randrange(9), "k": rand_value(r)}, "dd": {"inner": {"a": 1, "k": [1, 2]}, "B": 2, "a": "z", "C": None},
        "e": [], "es": "", "mix": [rand_value(r) for _ in range(r.randrange(5))],
        "msgs": [{"role": r.choice(["user", "assistant", "system"]), "content": s()} for _ in range(r.randrange(1, 4))],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}}],
        "tree": [{"v": 1, "c": [{"v": 2}, {"v": 3, "c": [{"v": 4, "c": []}]}]}, {"v": 5}],
    }
    if r.random() < 0.2:
        c[r.choice(["x", "y", "k", "v", "q", "loop", "caller", "range", "ns"])] = rand_value(r)
    if r.random() < 0.1:
        c[r.choice(list(c))] = rand_value(r)
    return c


UNSUPPORTED = re.compile(r"beyond 64 bits|complex numbers|are not supported|is not supported|lone surrogate")
ADDRESS = re.compile(r"object at 0x|at 0x[0-9a-f]{6}|<generator|<built-in|<bound method|<function|<TemplateReference|<dict_itemiterator|reverseiterator|<reversed|<range_iterator|memory at")


def reference(compile_, template, ctxs):
    try:
        t = compile_(template)
    except Exception as e:  # noqa: BLE001
        return [("error", "%s: %s" % (type(e).__name__, e))] * len(ctxs)
    out = []
    for c in ctxs:
        try:
            out.append(("prompt", t.render(**c)))
        except Exception as e:  # noqa: BLE001
            out.append(("error", "%s: %s" % (type(e).__name__, e)))
    return out


def work(job):
    seed, count, mlxctl = job
    from transformers.utils import chat_template_utils as u
    compile_ = getattr(u._cached_compile_jinja_template, "__wrapped__", u._cached_compile_jinja_template)
    diffs, stats = [], {"ok": 0, "error": 0, "unsupported": 0, "address": 0}
    with tempfile.TemporaryDirectory(prefix="fuzz_template.") as tmp:
        for i in range(count):
            r = random.Random("%d-%d" % (seed, i))
            template = Gen(r).template()
            ctxs = [context(r) for _ in range(3)]
            path = os.path.join(tmp, "t.jinja")
            with open(path, "w", encoding="utf-8", newline="") as f:
                f.write(template)
            p = subprocess.run([mlxctl, "render", path], input="".join(json.dumps(c) + "\n" for c in ctxs), capture_output=True, text=True, encoding="utf-8")
            got = []
            for line in p.stdout.split("\n"):
                if line:
                    d = json.loads(line)
                    got.append(next(iter(d.items())))
            if p.returncode or len(got) != len(ctxs):
                diffs.append((seed, i, template, None, "exit %d %s" % (p.returncode, p.stderr[-300:]), ""))
                continue
            for c, w, g in zip(ctxs, reference(compile_, template, ctxs), got):
                if w[0] == "prompt":
                    try:
                        w[1].encode("utf-8")
                    except UnicodeEncodeError:
                        stats["unsupported"] += 1
                        continue
                if g[0] == "error" and UNSUPPORTED.search(g[1]):
                    stats["unsupported"] += 1
                elif w[0] == g[0] == "error":
                    stats["error"] += 1
                elif w == g:
                    stats["ok"] += 1
                elif w[0] == "prompt" and ADDRESS.search(w[1]):
                    stats["address"] += 1
                else:
                    diffs.append((seed, i, template, c, w, g))
    return diffs, stats


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--mlxctl", required=True)
    ap.add_argument("--count", type=int, default=20000, help="templates; each is rendered with 3 contexts")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--jobs", type=int, default=2)
    ap.add_argument("--show", type=int, default=20)
    a = ap.parse_args()
    per = 500
    jobs = [(a.seed * 100000 + k, min(per, a.count - k * per), os.path.abspath(a.mlxctl)) for k in range((a.count + per - 1) // per)]
    total, diffs = {}, []
    with multiprocessing.Pool(a.jobs) as pool:
        for d, s in pool.imap_unordered(work, jobs):
            diffs += d
            for k, v in s.items():
                total[k] = total.get(k, 0) + v
    for seed, i, t, c, w, g in sorted(diffs, key=lambda d: len(d[2]))[: a.show]:
        print("---- %d-%d\n%r\nwant %r\ngot  %r" % (seed, i, t, w, g))
        if c:
            print("context", json.dumps(c, ensure_ascii=False)[:600])
    print("%d templates: %s; %d differences" % (a.count, total, len(diffs)))
    return 1 if diffs else 0


if __name__ == "__main__":
    sys.exit(main())
