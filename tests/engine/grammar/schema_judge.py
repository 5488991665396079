"""Verdicts on JSON Schema instances by Python's jsonschema, with formats enforced and patterns read as ECMA-262 reads them."""

import json
import re
from decimal import Decimal, InvalidOperation
from fractions import Fraction

import jsonschema
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012


class NoVerdict(Exception):
    """The reference cannot judge: a pattern that Python's re does not have, a reference that leads nowhere."""


def _real(text):
    """Exact; a whole number as one, as JSON Schema has it."""
    try:
        d = Decimal(text)
    except InvalidOperation as e:
        raise NoVerdict("a number out of range") from e
    if abs(d.adjusted()) > 2000:
        return d
    return int(d) if d == d.to_integral_value() else d


def _no_doubles(pairs):
    if len({k for k, _ in pairs}) != len(pairs):
        raise ValueError("a second member of the same name")
    return dict(pairs)


def _no_constant(text):
    raise ValueError(text)


def loads(text):
    """Strict JSON with exact numbers: for schemas and instances alike."""
    return json.loads(text, parse_float=_real, parse_constant=_no_constant, object_pairs_hook=_no_doubles)


_compiled = {}

# What ECMA-262 takes for white space, for the inside of a class.
_SPACE = r"\t\n\v\f\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"


def ecma(pattern):
    """The pattern for Python's re: $ is the very end, \\d and \\w are ASCII, \\s is Unicode's."""
    out, in_class, i = [], False, 0
    while i < len(pattern):
        c = pattern[i]
        if c == "\\" and i + 1 < len(pattern):
            e = pattern[i + 1]
            if e == "s":
                out.append(_SPACE if in_class else "[" + _SPACE + "]")
            elif e == "S":
                if in_class:
                    raise NoVerdict("\\S in a class")
                out.append("[^" + _SPACE + "]")
            elif e in "pPckZA" or pattern[i + 1 : i + 3] == "u{":
                raise NoVerdict("\\" + e)
            elif e == "/":
                out.append("/")
            else:
                out.append(c + e)
            i += 2
            continue
        if in_class:
            in_class = c != "]"
            if c == "[":
                c = "\\["
        elif c == "[":
            in_class = True
            if pattern[i + 1 : i + 2] == "]" or pattern[i + 1 : i + 3] == "^]":
                raise NoVerdict("an empty class")
        elif c == "$":
            c = r"\Z"
        elif c == ".":
            c = r"[^\n\r\u2028\u2029]"
        out.append(c)
        i += 1
    return "".join(out)


def _search(pattern, text):
    if pattern not in _compiled:
        try:
            _compiled[pattern] = re.compile(ecma(pattern), re.ASCII)
        except re.error as e:
            raise NoVerdict(str(e)) from e
    return _compiled[pattern].search(text)


def _pattern(validator, patrn, instance, schema):
    if validator.is_type(instance, "string") and not _search(patrn, instance):
        yield jsonschema.ValidationError("does not match %r" % patrn)


def _pattern_properties(validator, pattern_properties, instance, schema):
    if not validator.is_type(instance, "object"):
        return
    for pattern, subschema in pattern_properties.items():
        for k, v in instance.items():
            if _search(pattern, k):
                yield from validator.descend(v, subschema, path=k, schema_path=pattern)


def _additional_properties(validator, ap, instance, schema):
    if not validator.is_type(instance, "object"):
        return
    properties, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for k, v in instance.items():
        if k in properties or any(_search(p, k) for p in patterns):
            continue
        yield from validator.descend(v, ap, path=k)


def _multiple_of(validator, db, instance, schema):
    if isinstance(instance, Decimal) and abs(instance.adjusted()) > 2000:
        raise NoVerdict("a number out of range")
    if validator.is_type(instance, "number") and Fraction(instance) % Fraction(db) != 0:
        yield jsonschema.ValidationError("not a multiple of %s" % db)


Validator = jsonschema.validators.extend(
    Draft202012Validator,
    {"pattern": _pattern, "patternProperties": _pattern_properties, "additionalProperties": _additional_properties, "multipleOf": _multiple_of},
)


class Judge:
    def __init__(self, schema, remotes=None, formats=True):
        registry = Registry()
        if remotes:
            registry = registry.with_resources((uri, Resource.from_contents(s, default_specification=DRAFT202012)) for uri, s in remotes.items())
        self.validator = Validator(loads(dumps(schema)), registry=registry, format_checker=Draft202012Validator.FORMAT_CHECKER if formats else None)

    def accepts(self, instance):
        return self.accepts_text(dumps(instance))

    def accepts_text(self, text):
        """ValueError: no strict JSON."""
        instance = loads(text)
        try:
            return self.validator.is_valid(instance)
        except NoVerdict:
            raise
        except Exception as e:  # noqa: BLE001: a reference that leads nowhere, a number too large, ...
            raise NoVerdict("%s: %s" % (type(e).__name__, e)) from e


def well_formed(schema):
    try:
        Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError:
        return False
    return True


def dumps(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
