"""What the client suites share: how a check is told, which back end it runs on, and what that can do."""

import json
import re
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import tiny  # noqa: E402

WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Current weather in a city", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}}, "required": ["city"]}}}
CLOCK = {"type": "function", "function": {"name": "get_time", "description": "The time", "parameters": {
    "type": "object", "properties": {"zone": {"type": "string", "enum": ["UTC", "CET"]}}, "required": ["zone"]}}}
SCHEMA = {"type": "object", "properties": {"colour": {"type": "string", "enum": ["red", "green"]}, "ok": {"type": "boolean"},
                                           "size": {"type": "integer", "enum": [1, 2, 3]}},
          "required": ["colour", "ok", "size"], "additionalProperties": False}


def fits_schema(text):
    """Whether text is one object of SCHEMA."""
    try:
        v = json.loads(text)
    except (TypeError, ValueError):
        return False
    return (isinstance(v, dict) and set(v) == {"colour", "ok", "size"} and v["colour"] in ("red", "green") and isinstance(v["ok"], bool)
            and v["size"] in (1, 2, 3))


@dataclass
class Backend:
    """kind: "mock", "tiny" or "default". can: what the model is able to beside text. Suites ask these two alone."""

    kind: str
    daemon: object
    model: str
    bin: str
    source: Path
    work: Path
    can: set = field(default_factory=set)
    passed: int = 0
    failed: list = field(default_factory=list)
    skipped: list = field(default_factory=list)
    suite: str = ""
    # Texts of every check made: a check that is not reached is told from one that passed.
    verbose: bool = False

    @property
    def d(self):
        return self.daemon

    @property
    def mock(self):
        return self.kind == "mock"

    @property
    def tiny(self):
        return self.kind == "tiny"

    def says(self, prompt):
        """The greedy answer to a chat of that one message without thinking; None where it cannot be foretold."""
        return f"You said: {prompt}" if self.mock else tiny.TEXT if self.tiny else None

    def check(self, name, ok, sent=None, came=None):
        if ok:
            self.passed += 1
            if self.verbose:
                print(f"ok   [{self.kind}] {self.suite}: {name}", flush=True)
            return True
        self.failed.append(f"{self.suite}: {name}")
        print(f"FAIL [{self.kind}] {self.suite}: {name}")
        for word, what in (("sent", sent), ("came", came)):
            if what is not None:
                print(f"     {word}: {what!r}"[:1500])
        sys.stdout.flush()
        return False

    def same(self, name, came, wanted, sent=None):
        return self.check(name, came == wanted, sent, f"{came!r}, wanted {wanted!r}")

    def raises(self, name, kind, call, status=None, text=None):
        """call() raises kind, with that status code and a message that has text (or matches it, a compiled pattern)."""
        try:
            came = call()
        except kind as e:
            got = getattr(e, "status_code", None)
            found = text is None or (text.search(str(e)) if isinstance(text, re.Pattern) else text in str(e))
            self.check(name, (status is None or got == status) and found, f"wanted {kind.__name__} {status} {text}", f"{type(e).__name__} {got}: {e}")
            return e
        except Exception as e:  # noqa: BLE001
            self.check(name, False, f"wanted {kind.__name__} {status}", f"{type(e).__name__}: {e}")
            return None
        self.check(name, False, f"wanted {kind.__name__} {status}", came)
        return None

    def skip(self, name, why):
        self.skipped.append(name)
        print(f"SKIP [{self.kind}] {self.suite}: {name}: {why}", flush=True)

    def run(self, suite, parts, only=None):
        """parts: functions of one argument, with .needs (what the model must be able to) and .kinds (back ends)."""
        for part in parts:
            self.suite = f"{suite}.{part.__name__}"
            if only and only not in self.suite:
                continue
            if part.kinds and self.kind not in part.kinds:
                continue
            missing = part.needs - self.can
            if missing:
                self.skip("all of it", f"this model has no {', '.join(sorted(missing))}")
                continue
            start = time.monotonic()
            try:
                part(self)
            except Exception:  # noqa: BLE001
                self.check("runs to its end", False, None, traceback.format_exc(limit=-4))
            if time.monotonic() - start > 20:
                print(f"     ({self.suite} took {time.monotonic() - start:.0f} s)")
            if not self.daemon.alive():
                self.check("the daemon still runs", False, None, self.daemon.stderr[-3000:])
                self.daemon.restart()


def part(*, needs=(), kinds=()):
    """Marks a function as a part of a suite."""

    def mark(f):
        f.needs, f.kinds = set(needs), set(kinds)
        sys.modules[f.__module__].__dict__.setdefault("PARTS", []).append(f)
        return f

    return mark
