#!/usr/bin/env python3
"""mlxctl chat as a user meets it: at a terminal (a pty), with editing, history, Ctrl-C and Ctrl-D, and from a pipe.

    test_chat.py BIN_DIR SOURCE_DIR
"""

import json
import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BIN, SOURCE = sys.argv[1], Path(sys.argv[2])
MLXCTL = os.path.join(BIN, "mlxctl")
TINY = str(SOURCE / "tests" / "runner" / "fixtures" / "tiny_chat")
TIMEOUT = 60
failed = []
passed = 0


def check(name, ok, *what):
    global passed
    if ok:
        passed += 1
        return
    failed.append(name)
    print("FAIL", name)
    for w in what:
        print("    ", repr(w)[-1500:])


class Terminal:
    """A program at a terminal of its own, as a shell would start it."""

    def __init__(self, *args, home, term="xterm", command="chat"):
        self.seen = ""
        env = dict(os.environ, MLXR_HOME=home, HOME=home, TERM=term, LC_ALL="C.UTF-8")
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.execve(MLXCTL, ["mlxctl", command, *args], env)
        self.at = 0

    def read(self, seconds):
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        self.seen += data.decode("utf-8", "replace")
        return bool(data)

    def wait_for(self, text):
        """What came up to and with text; None when it does not come."""
        end = time.monotonic() + TIMEOUT
        while True:
            plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|[\x07\x08\r]", "", self.seen)
            i = plain.find(text, self.at)
            if i >= 0:
                out, self.at = plain[self.at : i + len(text)], i + len(text)
                return out
            if time.monotonic() > end or (not self.read(0.2) and not self.alive()):
                return None

    def wait_until(self, true):
        """Whether it became true, with what is seen."""
        end = time.monotonic() + TIMEOUT
        while not true():
            if time.monotonic() > end or (not self.read(0.2) and not self.alive()):
                return bool(true())
        return True

    def alive(self):
        try:
            return os.waitpid(self.pid, os.WNOHANG) == (0, 0)
        except ChildProcessError:
            return False

    def send(self, text):
        os.write(self.fd, text.encode())

    def end(self):
        """The exit code."""
        limit = time.monotonic() + TIMEOUT
        while time.monotonic() < limit:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
            self.read(0.05)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return "hung"


def paste_tests(t):
    """At the prompt of a fresh line, and back to one."""
    check("the terminal is asked to mark what is pasted", t.seen.rfind("\x1b[?2004h") > t.seen.rfind("\x1b[?2004l"), t.seen[-200:])

    def pasted(text):
        return f"\x1b[200~{text}\x1b[201~"

    for name, typed, want in [
        ("several lines pasted", pasted("first\rsecond\rthird") + "\r", "You said: first\nsecond\nthird\n"),
        ("empty lines stay, but not at the end", pasted("a\r\rb\nc\r\r") + "\r", "You said: a\n\nb\nc\n"),
        ("between what is typed", "say " + pasted("1\r2") + " now\r", "You said: say 1\n2 now\n"),
        ("typed into", pasted("held") + "\x1b[D\x1b[Drea" + "\r", "You said: hereald\n"),
        ("twice", pasted("x\r") + pasted("y") + "\r", "You said: x\ny\n"),
        ("text in UTF-8, tabs", pasted("Grüße\t世界\r\tb") + "\r", "You said: Grüße\t世界\n\tb\n"),
        ("control characters are left out", pasted("a\x1b[31mb\x1b[20\x1b[c\x7f\x01d") + "\r", "You said: a[31mb[20[cd\n"),
        ("no command", pasted("/bye\rnow") + "\r", "You said: /bye\nnow\n"),
        ("quotes", pasted('"""q\rr"""') + "\r", "You said: q\nr\n"),
        ("nothing", pasted("") + "z\r", "You said: z\n"),
        ("a long text", pasted("\r".join(f"line {i}" for i in range(300))) + "\r", "You said: line 0\nline 1\n"),
    ]:
        t.send(typed)
        check("pasting: " + name, t.wait_for(want) is not None, t.seen)
        t.wait_for(">>> ")
    for part in ["\x1b", "[20", "0~on", "e\rtwo\x1b", "[2", "01~", "\r"]:  # as it may come from far away
        t.send(part)
        time.sleep(0.03)
    check("pasting: in pieces", t.wait_for("You said: one\ntwo\n") is not None, t.seen)
    t.wait_for(">>> ")
    t.send("\x1b[A\r")
    check("pasting: history", t.wait_for("You said: one\ntwo\n") is not None, t.seen)
    t.wait_for(">>> ")
    t.send("\x1b[200~half a pas\x03")
    check("pasting: Ctrl-C", t.wait_for("Ctrl-D or /bye ends.") is not None, t.seen)
    t.wait_for(">>> ")
    t.send("whole\r")
    check("pasting: and on", t.wait_for("You said: whole\n") is not None, t.seen)
    t.wait_for(">>> ")


def terminal_tests(home):
    t = Terminal("--runner", "mock", home=home)
    check("a prompt", t.wait_for(">>> ") is not None, t.seen)
    t.send("hello there\r")
    check("an answer", t.wait_for("You said: hello there\n") is not None, t.seen)
    t.wait_for(">>> ")
    t.send("helo\x1b[Dl\r")  # left, and what was forgotten
    check("editing", t.wait_for("You said: hello\n") is not None, t.seen)
    t.wait_for(">>> ")
    t.send("Grüße 世界\r")
    check("text in UTF-8", t.wait_for("You said: Grüße 世界\n") is not None, t.seen)
    t.wait_for(">>> ")
    t.send('"""one\r')
    check("several lines", t.wait_for("... ") is not None, t.seen)
    t.send('two"""\r')
    check("several lines answered", t.wait_for("You said: one\ntwo\n") is not None, t.seen)
    t.wait_for(">>> ")
    t.send("half a li\x03")
    check("Ctrl-C at the prompt", t.wait_for("Ctrl-D or /bye ends.") is not None, t.seen)
    t.wait_for(">>> ")
    t.send("whole\r")
    check("the line begins anew", t.wait_for("You said: whole\n") is not None, t.seen)
    t.wait_for(">>> ")
    for i in range(30):  # while it is busy with what came before, too
        t.send("x" * 300)
        time.sleep(i * 0.0001)
        t.send("\x03")
        if t.wait_for("Ctrl-D or /bye ends.") is None or t.wait_for(">>> ") is None:
            check("Ctrl-C is never lost", False, i, t.seen)
            break
    t.send("/frobnicate\r")
    check("no such command", t.wait_for("there is no command /frobnicate") is not None, t.seen)
    t.wait_for(">>> ")
    t.send("\x1b[A\x1b[A\r")  # up, up
    check("history", t.wait_for("You said: whole\n") is not None, t.seen)
    t.wait_for(">>> ")
    paste_tests(t)
    t.send("\x04")
    check("Ctrl-D ends", t.end() == 0, t.seen)

    file = Path(home) / "chat_history"
    check("history is kept", file.exists() and "whole" in file.read_text(), home)
    check("history is the user's alone", stat.S_IMODE(file.stat().st_mode) == 0o600, oct(file.stat().st_mode))
    t = Terminal("--runner", "mock", home=home)
    t.wait_for(">>> ")
    t.send("\x1b[A\r")
    check("history of the time before", t.wait_for("You said: whole\n") is not None, t.seen)
    t.wait_for(">>> ")
    t.send("/bye\r")
    check("/bye", t.end() == 0, t.seen)

    t = Terminal("--runner", "mock", "--mock-token-ms", "40", home=home)
    t.wait_for(">>> ")
    t.send(" ".join(str(i) for i in range(200)) + "\r")
    check("an answer begins", t.wait_for("You said: 0 1 2") is not None, t.seen)
    t.send("\x03")
    check("Ctrl-C stops it", t.wait_for(">>> ") is not None and "199\n" not in t.seen.split("You said")[-1], t.seen)
    t.send("again\r")
    check("and not the program", t.wait_for("You said: again\n") is not None, t.seen)
    t.wait_for(">>> ")
    t.send("/show messages\r")
    check("what was said stays", t.wait_for("assistant: You said: 0 1 2") is not None, t.seen)
    check("in turns", t.wait_for("user: again\nassistant: You said: again\n") is not None, t.seen)
    t.wait_for(">>> ")
    t.send("\x04")  # the prompt is there a little before the terminal is the editor's
    check("the end after Ctrl-C", t.end() == 0, t.seen)

    # Typed ahead, while an answer comes: a line, and an end. Ctrl-Space is no end, at the prompt at least.
    t = Terminal("--runner", "mock", "--mock-token-ms", "40", home=home)
    t.wait_for(">>> ")
    time.sleep(0.2)
    t.send("\x00" + " ".join(str(i) for i in range(20)) + "\r")
    check("an answer to end after", t.wait_for("You said: 0 1 2") is not None, t.seen)
    t.send("ahead\r\x04")
    check("a line typed ahead", t.wait_for("You said: ahead\n") is not None, t.seen)
    check("an end typed ahead", t.end() == 0, t.seen)

    (Path(home) / ".editrc").write_text("bind -v\n")
    t = Terminal("--runner", "mock", home=home)
    check("a prompt with vi's keys", t.wait_for(">>> ") is not None and "2004h" not in t.seen, t.seen)
    t.send("wordy\x1bx0ithe \r")  # ESC is a key: the last letter goes, and something comes in front
    check("and they work", t.wait_for("You said: the word\n") is not None, t.seen)
    t.wait_for(">>> ")
    t.send("/bye\r")
    check("and it ends", t.end() == 0, t.seen)
    (Path(home) / ".editrc").unlink()

    t = Terminal("--runner", "mock", home=home, term="dumb")
    check("a dumb terminal has a prompt", t.wait_for(">>> ") is not None, t.seen)
    t.send("plain\r")
    check("and answers", t.wait_for("You said: plain\n") is not None, t.seen)
    t.send("\x04")
    check("and ends", t.end() == 0, t.seen)


def piped(lines, *args, home):
    env = dict(os.environ, MLXR_HOME=home, HOME=home)
    p = subprocess.run([MLXCTL, "chat", *args], input=lines.encode(), capture_output=True, env=env, timeout=TIMEOUT)
    return p.returncode, p.stdout.decode("utf-8", "replace"), p.stderr.decode("utf-8", "replace")


def piped_tests(home):
    mock = ["--runner", "mock"]
    code, out, err = piped("one\ntwo", *mock, home=home)
    check("lines from a pipe", (code, out, err) == (0, "You said: one\nYou said: two\n", ""), code, out, err)
    code, out, err = piped('"""a\nb\n"""\n\n  \nc\r\n', *mock, home=home)
    check("a block from a pipe", (code, out) == (0, "You said: a\nb\n\nYou said: c\n"), code, out, err)
    code, out, err = piped("/nothing\nx\n", *mock, home=home)
    check("a wrong command from a pipe", code == 1 and "/nothing" in err and out == "You said: x\n", code, out, err)
    code, out, err = piped("", *mock, home=home)
    check("nothing from a pipe", (code, out, err) == (0, "", ""), code, out, err)
    code, out, err = piped("x\n/bye\ny\n", *mock, home=home)
    check("/bye in a pipe", (code, out) == (0, "You said: x\n"), code, out, err)
    code, out, err = piped("x\n", "--frob", home=home)
    check("wrong usage", code == 2 and "usage: mlxctl chat" in err, code, out, err)
    code, out, err = piped("x\n", home=home)
    check("no model", code == 2 and "MODEL is missing" in err, code, out, err)
    code, out, err = piped("x\n", "/nowhere", home=home)
    check("a model that is not there", code == 1 and "nowhere" in err, code, out, err)

    # parameters, system text, saving and loading
    saved = os.path.join(home, "talk.json")
    code, out, err = piped(
        "/set parameter temperature 0.5\n/set parameter stop \"a\\nb\"\n/set parameter stop END\n"
        "/set parameter top_k many\n/set parameter frob 1\n/set parameter seed 7\n/set parameter seed default\n"
        "/set system Be brief.\n/show system\nhello END of it\n/show parameters\n"
        f"/save {saved}\n/clear\n/show messages\n/load {saved}\n/show messages\n",
        *mock, home=home)
    check("wrong parameters are told", "top_k: \"many\"" in err and "no parameter \"frob\"" in err, err)
    check("a stop text of a parameter", "You said: hello \n" in out, out)
    check("the system text", "Be brief.\n" in out, out)
    check("parameters are shown", re.search(r"^temperature +0\.5 ", out, re.M) and re.search(r"^seed +- ", out, re.M), out)
    doc = json.loads(Path(saved).read_text())
    check("what is saved", doc["parameters"] == {"temperature": "0.5", "stop": ["a\nb", "END"]} and doc["system"] == "Be brief."
          and [m["role"] for m in doc["messages"]] == ["user", "assistant"], doc)
    check("what is loaded", out.endswith("user: hello END of it\nassistant: You said: hello \n"), out)
    for name, text in [("list", "[]"), ("parameter", '{"messages": [], "parameters": {"top_k": "x"}}'),
                       ("message", '{"messages": [{"role": 1}]}'), ("json", "{")]:
        Path(saved).write_text(text)
        code, out, err = piped(f"/load {saved}\n/show messages\n", *mock, home=home)
        check(f"loading a broken {name}", code == 1 and "talk.json" in err and out == "", code, out, err)
    code, out, err = piped("/load /nowhere/x\n/save /nowhere/x\n/load\n", *mock, home=home)
    check("files that are not there", code == 1 and err.count("\n") == 3, err)

    # a real model: the conversation is known from turn to turn
    text = "the other hill " * 6
    code, out, err = piped(f"{text}\n{text}\n", TINY, "--max-tokens", "8", "--temperature", "0", "--verbose", home=home)
    stats = re.findall(r"^\[done\].*", err, re.M)
    check("a real model", code == 0 and len(stats) == 2, code, out, err)
    check("the second turn knows the first", len(stats) == 2 and "known" not in stats[0] and "of them known" in stats[1], stats)
    long = "x" * 600
    code, out, err = piped(f"{long}\nhi\n/show messages\n", TINY, "--max-tokens", "2", "--temperature", "0", home=home)
    check("a message above the context is taken back", code == 1 and "512" in err and "user: hi" in out and "xxx" not in out, code, out, err)
    code, out, err = piped(f"{long}\n", TINY, "--max-tokens", "2", "--temperature", "0", "--overflow", "truncate", home=home)
    check("or cut", code == 0, code, out, err)


def thinking_tests(home):
    """A model whose template opens the thinking block: faint on a terminal, and never left so."""
    model = Path(home) / "thinker"
    model.mkdir()
    for name in ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]:
        (model / name).symlink_to((Path(TINY) / name).resolve())
    template = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<think>{% endif %}"
    (model / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>", "chat_template": template}))
    endless = ["--max-tokens", "-1", "--min-tokens", "1000000", "--overflow", "shift", "--temperature", "1", "--seed", "1"]

    out = subprocess.run([MLXCTL, "run", str(model), "hi", "--max-tokens", "5", "--ignore-eos"], capture_output=True,
                         stdin=subprocess.DEVNULL, timeout=TIMEOUT, check=False)
    check("thinking is left out of a pipe", (out.returncode, out.stdout) == (0, b"\n"), out)

    def plain_again(t):
        return "\x1b[2m" in t.seen and t.seen.rfind("\x1b[0m") > t.seen.rfind("\x1b[2m")

    t = Terminal(str(model), "hi", "--max-tokens", "5", "--ignore-eos", home=home, command="run")
    check("thinking is faint", t.end() == 0 and plain_again(t), t.seen)
    # The signal itself, not a key: what is looked at is how an answer ends, and a terminal whose mode changes may lose keys.
    for command, args in [("run", ["hi"]), ("chat", [])]:
        t = Terminal(str(model), *args, *endless, home=home, command=command)
        if command == "chat":
            t.wait_for(">>> ")
            t.send("hi\r")
        check(f"thinking begins, {command}", t.wait_until(lambda t=t: t.seen.partition("\x1b[2m")[2]), t.seen[-300:])
        os.kill(t.pid, signal.SIGINT)
        check(f"an interrupt within thinking, {command}", t.wait_until(lambda t=t: plain_again(t)), t.seen[-300:])
        if command == "run":
            check("and its exit code", t.end() == 130, t.seen[-300:])
        else:
            os.kill(t.pid, signal.SIGKILL)
            t.end()


def main():
    with tempfile.TemporaryDirectory() as home:
        piped_tests(home)
    with tempfile.TemporaryDirectory() as home:
        terminal_tests(home)
    with tempfile.TemporaryDirectory() as home:
        thinking_tests(home)
    print(f"{passed} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)


main()
