"""Random JSON Schemas (by keyword and in combination), instances near a schema, and mutations of instances.

Numbers stay where binary floating point is exact, so that the reference's verdicts are."""

import json
import random
import re

NAMES = ["a", "b", "name", "id", "x-y", "ab", "", "a/b", "é", "kind", "tags", "n0", "n1"]
PATTERNS = [
    "^[a-z]+$", "^[A-Z]{2}[0-9]{1,3}$", "a", "^a", "b$", "^(foo|bar)+$", "^\\d{3}-\\d{4}$", "[aeiou].*[aeiou]", "^.{2,4}$", "^$", "^[^0-9]*$",
    "^x-", "^(ab|cd)?e$", "^[a-c]{0,3}$", "\\d", "^\\w+@\\w+\\.com$", "^\\S+$", "^[\\u00e0-\\u00ff]+$", "^(?:0|[1-9]\\d*)\\.(?:0|[1-9]\\d*)$", "^a*b*$",
]
FORMATS = ["date", "date-time", "time", "uuid", "ipv4", "ipv6", "email", "uri", "duration"]
STRINGS = [
    "", "a", "b", "ab", "abc", "foo", "foobar", "barfoo", "AB12", "XY1", "555-1234", "hello world", "x-y", "é", "àé", "日本", "😀", "😀😀", "e", "abe", "cde", "aabb", "0.1", "10.20",
    "me@example.com", "q\"uote", "back\\slash", "tab\there", "line\nend", "\u0000", "\u001f", "\u007f", "/", "a/b", "123", "long " * 8, "ee", "aXe",
]
FORMAT_TEXTS = {
    "date": ["2024-02-29", "2023-02-29", "1999-12-31", "2024-13-01", "24-01-01"],
    "date-time": ["2024-01-31T10:20:30Z", "2024-01-31T10:20:30.5+02:00", "2024-01-31 10:20:30", "2024-01-31T25:00:00Z"],
    "time": ["10:20:30Z", "10:20:30+01:00", "24:00:00Z", "10:20"],
    "uuid": ["2eb8aa08-aa98-11ea-b4aa-73b441d16380", "2EB8AA08-AA98-11EA-B4AA-73B441D16380", "2eb8aa08aa9811eab4aa73b441d16380"],
    "ipv4": ["127.0.0.1", "255.255.255.255", "256.1.1.1", "1.2.3", "01.2.3.4"],
    "ipv6": ["::1", "fe80::1", "1:2:3:4:5:6:7:8", "1::2::3", ":::"],
    "email": ["joe@example.com", "no at sign", "a.b+c@example.org"],
    "uri": ["https://example.com/a?b=c#d", "urn:isbn:0451450523", "not a uri", "/relative"],
    "duration": ["P1D", "PT5M", "P1Y2M3DT4H5M6S", "P", "1D", "P2W"],
}
SCALARS = [None, True, False, 0, 1, -1, 2, 3, 5, 7, 10, 12, 42, 100, -5, -10, 1000, 0.5, 1.5, -2.25, 2.0, 0.25, 1e3, "", "a", "foo", "b", "1"]


class Gen:
    def __init__(self, seed):
        self.r = random.Random(seed)
        self.defs = {}

    def p(self, q):
        return self.r.random() < q

    def some(self, options, lo, hi):
        options = list(options)
        return self.r.sample(options, min(len(options), self.r.randint(lo, hi)))

    # ---- schemas ----

    def bounds(self, s, low, high, most):
        a, b = sorted((self.r.randint(0, most), self.r.randint(0, most)))
        c = self.r.randrange(4)
        if c != 0:
            s[low] = a
        if c != 1:
            s[high] = b
        return s

    def string(self):
        s = {"type": "string"}
        c = self.r.randrange(7)
        if c == 0:
            return s
        if c in (1, 2):
            self.bounds(s, "minLength", "maxLength", 6)
        if c in (2, 3, 4):
            s["pattern"] = self.r.choice(PATTERNS)
        if c == 5:
            s["format"] = self.r.choice(FORMATS)
        if c == 6:
            s["enum"] = self.some(STRINGS, 1, 4)
        return s

    def number(self):
        s = {"type": self.r.choice(["integer", "integer", "number"])}
        step = [1] if s["type"] == "integer" else [1, 0.5, 0.25]
        v = lambda: self.r.randint(-40, 120) * self.r.choice(step)
        c = self.r.randrange(8)
        if c == 0:
            return s
        if c < 6:
            a, b = sorted((v(), v()))
            if self.p(0.8):
                s[self.r.choice(["minimum", "minimum", "exclusiveMinimum"])] = a
            if self.p(0.8):
                s[self.r.choice(["maximum", "maximum", "exclusiveMaximum"])] = b
        if c > 4:
            s["multipleOf"] = self.r.choice([2, 3, 5, 7, 10, 100] if s["type"] == "integer" else [1, 2, 5, 0.5, 0.25])
        return s

    def array(self, k):
        s = {"type": "array"}
        if self.p(0.7):
            s["items"] = self.schema(k + 1)
        if self.p(0.3):
            s["prefixItems"] = [self.schema(k + 1) for _ in range(self.r.randint(1, 3))]
            if self.p(0.4):
                s["items"] = self.r.choice([False, True, {"type": "integer"}])
        if self.p(0.2):
            s["contains"] = self.leaf()
            if self.p(0.5):
                self.bounds(s, "minContains", "maxContains", 3)
        if self.p(0.5):
            self.bounds(s, "minItems", "maxItems", 4)
        return s

    def object(self, k):
        s = {"type": "object"}
        names = self.some(NAMES, 0, 4)
        if names and self.p(0.9):
            s["properties"] = {n: self.schema(k + 1) for n in names}
        if self.p(0.6):
            s["required"] = self.some(names + (["extra"] if self.p(0.2) else []), 0, 3)
        if self.p(0.6):
            s["additionalProperties"] = False if self.p(0.6) else self.schema(k + 2)
        if self.p(0.15):
            s["patternProperties"] = {self.r.choice(["^x-", "^n\\d$", "a", "^[a-z]+$"]): self.schema(k + 2)}
        if self.p(0.12):
            s["propertyNames"] = self.r.choice([{"maxLength": 3}, {"pattern": "^[a-z]"}, {"enum": ["a", "b", "name"]}, {"minLength": 1}])
        if self.p(0.15):
            self.bounds(s, "minProperties", "maxProperties", 4)
        return s

    def leaf(self):
        c = self.r.randrange(8)
        if c < 3:
            return self.string()
        if c < 6:
            return self.number()
        if c == 6:
            return {"enum": self.some(SCALARS + [[], {}, [1], {"a": 1}, {"a": [None]}], 1, 5)}
        return self.r.choice([{"type": "boolean"}, {"type": "null"}, {"const": self.r.choice(SCALARS)}, {"const": {"a": 1, "b": [True]}}, {"type": ["string", "null"]}, {"type": ["integer", "boolean"]}, {}, True])

    def tagged(self, k):
        """Alternatives that a constant member tells apart."""
        out = []
        for tag in self.some(["cat", "dog", "bird"], 2, 3):
            s = {"type": "object", "properties": {"kind": {"const": tag}}, "required": ["kind"]}
            for n in self.some(["a", "b", "id"], 0, 2):
                s["properties"][n] = self.schema(k + 2)
                if self.p(0.5):
                    s["required"].append(n)
            if self.p(0.6):
                s["additionalProperties"] = False
            out.append(s)
        return {self.r.choice(["anyOf", "oneOf"]): out}

    def untyped(self, k):
        """Keywords of several types together, without a type."""
        s = {}
        for part in self.some([self.string, self.number, lambda: self.array(k + 1), lambda: self.object(k + 1)], 1, 2):
            s.update(part())
        s.pop("type", None)
        if self.p(0.3):
            s["type"] = self.some(["string", "integer", "number", "array", "object", "null", "boolean"], 1, 3)
        return s

    def without(self, k):
        """What is not: often with the type that is left."""
        c = self.r.randrange(6)
        if c == 0:
            return {"not": self.leaf()}
        if c == 1:
            return dict(self.string(), **{"not": {k: v for k, v in self.string().items() if k != "type"} or {"const": "a"}})
        if c == 2:
            return dict(self.number(), **{"not": {k: v for k, v in self.number().items() if k != "type"} or {"const": 1}})
        if c == 3:
            return dict(self.object(k + 1), **{"not": {"required": self.some(NAMES[:4], 1, 2)}})
        if c == 4:
            return {"type": self.some(["string", "integer", "array", "object", "null", "boolean"], 2, 4), "not": {"type": self.r.choice(["string", "integer", "object", "null"])}}
        return {"type": "object", "properties": {"a": self.leaf(), "b": self.leaf()}, "not": {"properties": {"a": self.leaf()}, "required": ["a"]}}

    def conditional(self, k):
        s = self.object(k)
        s.setdefault("properties", {})["kind"] = {"enum": ["x", "y", "z"]}
        c = self.r.randrange(5)
        if c < 2:
            s["if"] = {"properties": {"kind": {"const": "x"}}, "required": ["kind"]} if self.p(0.8) else {"required": ["a"]}
            s["then"] = self.r.choice([{"required": ["a"]}, {"properties": {"a": self.leaf()}}, False])
            if self.p(0.5):
                s["else"] = self.r.choice([{"required": ["b"]}, {"properties": {"b": self.leaf()}}])
        elif c == 2:
            s["dependentRequired"] = {self.r.choice(["kind", "a"]): self.some(["b", "id"], 1, 2)}
        elif c == 3:
            s["dependentSchemas"] = {self.r.choice(["kind", "a"]): self.r.choice([{"required": ["b"]}, {"properties": {"b": self.leaf()}}])}
        else:
            s.pop("additionalProperties", None)
            s["allOf"] = [{"properties": {"b": self.leaf()}}]
            s["unevaluatedProperties"] = False if self.p(0.7) else self.leaf()
        return s

    def schema(self, k=0):
        if k >= 3:
            return self.leaf()
        c = self.r.randrange(24)
        if c == 22:
            return self.without(k)
        if c == 23:
            return self.conditional(k)
        if c < 5 + 2 * k:
            return self.leaf()
        if c < 14:
            return self.object(k) if self.p(0.65) else self.array(k)
        if c == 14:
            return {"anyOf": [self.schema(k + 1) for _ in range(self.r.randint(2, 3))]}
        if c == 15:
            return {"oneOf": [self.leaf() for _ in range(2)]} if self.p(0.5) else self.tagged(k)
        if c == 16:
            return {"allOf": [self.object(k + 1), self.object(k + 1)]} if self.p(0.5) else {"allOf": [self.leaf(), self.leaf()]}
        if c == 17:
            return self.tagged(k)
        if c == 18:
            return self.untyped(k)
        if c == 19 and k > 0:
            return {"$ref": "#/$defs/" + self.define(k)}
        if c == 20:
            s = self.object(k)
            s[self.r.choice(["anyOf", "allOf"])] = [{"required": [n]} for n in self.some(NAMES[:5], 1, 2)]
            return s
        return {"anyOf": [self.schema(k + 1), {"type": "null"}]}

    def define(self, k):
        name = "d%d" % self.r.randrange(3)
        if name not in self.defs:
            self.defs[name] = True
            if self.p(0.4):
                self.defs[name] = {
                    "type": "object",
                    "properties": {"v": self.leaf(), "next": {"anyOf": [{"$ref": "#/$defs/" + name}, {"type": "null"}]}, "all": {"type": "array", "items": {"$ref": "#/$defs/" + name}}},
                    "required": ["v"], "additionalProperties": False,
                }
            else:
                self.defs[name] = self.schema(k + 1)
        return name

    def top(self):
        self.defs = {}
        s = self.schema(0)
        if not isinstance(s, dict):
            s = {}
        if self.defs:
            s = dict(s)
            s["$defs"] = self.defs
        if self.p(0.2):
            s = dict({"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "T", "description": "d"}, **s)
        return s


class Instances:
    """Values that have a good chance with a schema; the reference has the last word."""

    def __init__(self, seed, root):
        self.r = random.Random(seed)
        self.root = root
        self.n_left = 0

    def p(self, q):
        return self.r.random() < q

    def any(self, k=0):
        c = self.r.randrange(10)
        if c < 7 or k > 2:
            return self.r.choice(SCALARS + STRINGS)
        if c < 9:
            return {self.r.choice(NAMES): self.any(k + 1) for _ in range(self.r.randrange(4))}
        return [self.any(k + 1) for _ in range(self.r.randrange(4))]

    def make(self, s, k=0):
        self.n_left -= 1
        if not isinstance(s, dict) or k > 8 or self.n_left < 0:
            return self.any(3) if k > 8 else self.any()
        if "$ref" in s and s["$ref"].startswith("#"):
            at = self.root
            try:
                for part in s["$ref"].split("/")[1:]:
                    part = part.replace("~1", "/").replace("~0", "~")
                    at = at[int(part)] if isinstance(at, list) else at[part]
            except (KeyError, IndexError, ValueError, TypeError):
                return self.any()
            return self.make(at, k + 1)
        if "const" in s:
            return s["const"]
        if s.get("enum"):
            return self.r.choice(s["enum"])
        for key in ("anyOf", "oneOf"):
            if s.get(key):
                pick = self.r.choice(s[key])
                return self.make(merge([{a: b for a, b in s.items() if a != key}, pick]), k + 1)
        if "if" in s and self.p(0.8):
            rest = {a: b for a, b in s.items() if a not in ("if", "then", "else")}
            return self.make(merge([rest, s["if"], s.get("then", {})] if self.p(0.5) else [rest, s.get("else", {})]), k + 1)
        if s.get("allOf"):
            return self.make(merge([{a: b for a, b in s.items() if a != "allOf"}] + s["allOf"]), k + 1)
        t = s.get("type")
        if isinstance(t, list) and t:
            t = self.r.choice(t)
        if t is None:
            for kind, words in (("object", ("properties", "required", "patternProperties", "minProperties", "additionalProperties", "propertyNames", "maxProperties")), ("array", ("items", "prefixItems", "contains", "minItems", "maxItems")), ("string", ("pattern", "minLength", "maxLength", "format")), ("number", ("minimum", "maximum", "multipleOf", "exclusiveMinimum", "exclusiveMaximum"))):
                if any(w in s for w in words) and self.p(0.7):
                    t = kind
        if t == "object":
            return self.object(s, k)
        if t == "array":
            return self.array(s, k)
        if t == "string":
            return self.string(s)
        if t in ("number", "integer"):
            return self.number(s, t)
        if t == "boolean":
            return self.p(0.5)
        if t == "null":
            return None
        return self.any()

    def object(self, s, k):
        out, properties = {}, s.get("properties", {})
        required = s.get("required", [])
        for n in properties:
            if n in required or self.p(0.5 if k < 4 else 0.2):
                out[n] = self.make(properties[n], k + 1)
        for n in required:
            if n not in out:
                out[n] = self.make(s.get("additionalProperties", {}), k + 1)
        low = max(s.get("minProperties", 0), len(out) + (1 if self.p(0.25) else 0))
        for _ in range(20):
            if len(out) >= low:
                break
            n, patterns = self.r.choice(NAMES + ["x-1", "n7", "zz", "extra"]), s.get("patternProperties", {})
            sub = next((v for q, v in patterns.items() if search(q, n)), s.get("additionalProperties", {}))
            if n not in out:
                out[n] = self.make(sub, k + 1)
        items = list(out.items())
        if self.p(0.5):
            self.r.shuffle(items)
        return dict(items)

    def array(self, s, k):
        prefix, out = s.get("prefixItems", []), []
        low = s.get("minItems", 0)
        high = s.get("maxItems", low + self.r.choice([0, 1, 2, 3]))
        n = self.r.randint(low, max(low, min(high, low + 4)))
        for i in range(n):
            out.append(self.make(prefix[i] if i < len(prefix) else s.get("items", {}), k + 1))
        for _ in range(s.get("minContains", 1) if "contains" in s else 0):
            v = self.make(s["contains"], k + 1)
            if out and len(out) >= high:
                out[self.r.randrange(len(out))] = v
            else:
                out.insert(self.r.randint(0, len(out)), v)
        return out

    def string(self, s):
        texts = FORMAT_TEXTS.get(s.get("format"), STRINGS)
        if "pattern" in s:
            texts = [t for t in STRINGS + ["x-a", "aaa", "AB1", "foofoo", "aa", "bb", "xyz", "a" * 5] if search(s["pattern"], t)] or STRINGS
        low, high = s.get("minLength", 0), s.get("maxLength", 10**9)
        return self.r.choice([t for t in texts if low <= len(t) <= high] or ["é" * low, "b" * low, "b" * min(high, 12)])

    def number(self, s, t):
        low = s.get("minimum", s.get("exclusiveMinimum", -20))
        high = s.get("maximum", s.get("exclusiveMaximum", max(low, 0) + 40))
        step = s.get("multipleOf", 1 if t == "integer" else self.r.choice([1, 0.5, 0.25]))
        ends = [low, high, low + step, high - step]
        if high > low:
            ends += [low + (high - low) * self.r.random() for _ in range(3)]
        v = self.r.choice(ends)
        v = v // step * step + self.r.choice([0, 0, step])
        return int(v) if v == int(v) and self.p(0.9) else v


def search(pattern, text):
    try:
        return re.search(pattern, text)
    except re.error:
        return True


def merge(parts):
    """Roughly what all parts ask for."""
    out = {}
    for part in parts:
        if not isinstance(part, dict):
            continue
        for key, v in part.items():
            if key == "required":
                out[key] = list(dict.fromkeys(out.get(key, []) + v))
            elif key == "properties":
                out[key] = {**out.get(key, {}), **{n: merge([out.get(key, {}).get(n), s]) if isinstance(out.get(key, {}).get(n), dict) else s for n, s in v.items()}}
            else:
                out[key] = v
    return out


def paths(v, at=()):
    yield at
    if isinstance(v, dict):
        for n in v:
            yield from paths(v[n], at + (n,))
    elif isinstance(v, list):
        for i in range(len(v)):
            yield from paths(v[i], at + (i,))


def changed(v, at, fn):
    if not at:
        return fn(v)
    copy = dict(v) if isinstance(v, dict) else list(v)
    copy[at[0]] = changed(v[at[0]], at[1:], fn)
    return copy


def mutate(r, v):
    """One small change somewhere."""
    at = r.choice(list(paths(v)))

    def fn(x):
        c = r.randrange(6)
        if isinstance(x, dict) and x and c < 4:
            n = r.choice(list(x))
            if c == 0:
                return {a: b for a, b in x.items() if a != n}
            if c == 1:
                return {**x, r.choice(NAMES + ["extra"]): r.choice(SCALARS)}
            if c == 2:
                return {(a + "x" if a == n else a): b for a, b in x.items()}
            return dict(reversed(list(x.items())))
        if isinstance(x, list) and c < 4:
            if c == 0 and x:
                return x[:-1]
            if c == 1:
                return x + [r.choice(x + SCALARS)]
            if c == 2 and x:
                return x + x
            return x[1:]
        if isinstance(x, str) and c < 4:
            return r.choice([x + "x", x[1:], x.upper(), x + "é", x + " ", x * 2, "1" + x, x[: len(x) // 2], x.replace("-", "/")])
        if isinstance(x, (int, float)) and not isinstance(x, bool) and c < 5:
            return r.choice([x + 1, x - 1, -x, x * 2, x + 0.5, x * 10, x // 2, float(x)])
        return r.choice(SCALARS + [[], {}, [x]])

    return changed(v, at, fn)


def near(seed, schema, n, examples=()):
    """n values, most of them near the schema; those given among them."""
    r = random.Random("near %s" % seed)
    make = Instances("make %s" % seed, schema)
    out = [json.dumps(e) for e in examples]
    while len(out) < n + len(examples):
        make.n_left = 60
        try:
            v = json.loads(r.choice(out)) if examples and r.random() < 0.7 else make.make(schema)
        except (TypeError, ValueError, AttributeError, IndexError):  # a keyword with a value it does not foresee
            v = make.any()
        for _ in range(r.choice([0, 0, 1, 1, 2])):
            v = mutate(r, v)
        out.append(json.dumps(v))
    return [json.loads(t) for t in dict.fromkeys(out)]
