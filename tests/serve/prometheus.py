"""A strict reader of Prometheus' text form, version 0.0.4: what a scraper may refuse is an error here. Standard library only.

    families = prometheus.parse(text)    # {name: Family}
    families["x_total"].samples          # {(name, (("label", "value"), ...)): number}
"""

import math
import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(,|$)')
SAMPLE = re.compile(r"^(%s)(?:\{(.*)\})? (\S+)$" % NAME)


class Malformed(Exception):
    pass


class Family:
    def __init__(self, name, help_text):
        self.name, self.help, self.type, self.samples = name, help_text, None, {}


def number(text):
    if text in ("+Inf", "-Inf", "NaN"):
        return float(text.replace("Inf", "inf"))
    if not re.fullmatch(r"-?[0-9.]+(e[+-]?[0-9]+)?", text):
        raise Malformed("no number: " + text)
    return float(text)


def labels(text):
    out, at = [], 0
    while at < len(text):
        m = LABEL.match(text, at)
        if not m:
            raise Malformed("labels: " + text)
        out.append((m[1], re.sub(r"\\(.)", lambda x: {"n": "\n"}.get(x[1], x[1]), m[2])))
        at = m.end()
        if m[3] == "," and at == len(text):
            raise Malformed("labels end in a comma: " + text)
    if len({k for k, _ in out}) != len(out):
        raise Malformed("a label twice: " + text)
    return tuple(out)


def check_histogram(f):
    series = {}
    for (name, ls), value in f.samples.items():
        rest = tuple(l for l in ls if l[0] != "le")
        s = series.setdefault(rest, {"buckets": [], "sum": None, "count": None})
        if name == f.name + "_bucket":
            s["buckets"].append((number(dict(ls)["le"]), value))
        elif name == f.name + "_sum":
            s["sum"] = value
        elif name == f.name + "_count":
            s["count"] = value
        else:
            raise Malformed("not of a histogram: " + name)
    for rest, s in series.items():
        bounds = [b for b, _ in s["buckets"]]
        counts = [c for _, c in s["buckets"]]
        if bounds != sorted(set(bounds)) or not bounds or bounds[-1] != math.inf:
            raise Malformed("buckets of %s %s" % (f.name, rest))
        if counts != sorted(counts) or counts[-1] != s["count"] or s["sum"] is None:
            raise Malformed("counts of %s %s" % (f.name, rest))


def parse(text):
    families, current = {}, None
    if not text.endswith("\n"):
        raise Malformed("the last line has no end")
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            name, _, help_text = line[7:].partition(" ")
            if not re.fullmatch(NAME, name) or name in families or not help_text:
                raise Malformed(line)
            current = families[name] = Family(name, help_text)
        elif line.startswith("# TYPE "):
            name, _, kind = line[7:].partition(" ")
            if not current or name != current.name or current.type or current.samples:
                raise Malformed(line)
            if kind not in ("counter", "gauge", "histogram"):
                raise Malformed(line)
            current.type = kind
        else:
            m = SAMPLE.match(line)
            if not m or not current or not current.type:
                raise Malformed(line)
            suffixes = ("_bucket", "_sum", "_count") if current.type == "histogram" else ("",)
            if m[1] not in [current.name + s for s in suffixes]:
                raise Malformed("in the family of %s: %s" % (current.name, line))
            key = (m[1], labels(m[2] or ""))
            if key in current.samples:
                raise Malformed("twice: " + line)
            current.samples[key] = number(m[3])
            if current.type == "counter" and (not current.name.endswith("_total") or current.samples[key] < 0):
                raise Malformed("no counter: " + line)
    for f in families.values():
        if not f.type:
            raise Malformed("no type: " + f.name)
        if f.type == "histogram":
            check_histogram(f)
    return families


def value(families, family, suffix="", **wanted):
    """The sum of the samples with these labels; 0 without one."""
    f = families[family]
    return sum(v for (n, ls), v in f.samples.items()
               if n == family + suffix and all((k, w) in ls for k, w in wanted.items()))
