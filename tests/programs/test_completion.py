#!/usr/bin/env python3
"""Completions in the shells themselves, and the manual pages in groff: what `mlxctl completion` and `mlxctl man` write.
usage: test_completion.py BIN_DIR SOURCE_DIR"""
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time

BIN, SRC = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
MLXCTL = os.path.join(BIN, "mlxctl")
TMP = tempfile.mkdtemp()
passed, failed = 0, 0

ENV = {k: v for k, v in os.environ.items() if not k.startswith(("MLXR_", "HF_", "XDG_"))}
ENV.update(HOME=TMP, PATH=BIN + ":" + os.environ["PATH"], MLXR_HOME=os.path.join(TMP, "store"), TERM="dumb",
           LC_ALL="C.UTF-8")


def check(name, condition, detail=""):
    global passed, failed
    if condition:
        passed += 1
    else:
        failed += 1
        print("FAIL", name, detail)


def run(args, **kw):
    return subprocess.run(args, env=ENV, cwd=TMP, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          stdin=subprocess.DEVNULL, timeout=120, **kw)


def script(shell, name):
    path = os.path.join(TMP, name)
    r = run([MLXCTL, "completion", shell])
    check(shell + ": written", r.returncode == 0 and len(r.stdout) > 1000, r.stderr)
    with open(path, "w") as f:
        f.write(r.stdout)
    return path


def bash_words(line):
    """What bash makes of a line: ":" and "=" are words of their own."""
    words = []
    for word in line.split(" "):
        parts = [p for p in re.split(r"([:=]+)", word) if p]
        words += parts or [""]
    return words


TABLE = json.loads(run([MLXCTL, "help", "--json"]).stdout)["commands"]
TOLD = [c for c in TABLE if c.get("group") or "alias" in c]
FIRST = {c["name"].split(" ")[0] for c in TOLD}


def setup():
    """A store with two models, folders and files to complete."""
    tiny = os.path.join(SRC, "tests", "runner", "fixtures", "tiny_chat")
    for name in ("smollm2", "team/assistant:1.0"):
        r = run([MLXCTL, "store", "import", tiny, name])
        if r.returncode != 0:
            print("no model in the store:", r.stderr.strip())
            return False
    os.makedirs(os.path.join(TMP, "smoky-folder"))
    os.makedirs(os.path.join(TMP, "zebra-folder"))
    with open(os.path.join(TMP, "schema.json"), "w") as f:
        f.write("{}")
    return True


# Line, what has to be among the candidates, what must not be. "{names}" are those of the store.
CASES = [
    ("mlxctl ", FIRST, {"store names", "names"}),
    ("mlxctl st", {"store"}, {"run"}),
    ("mlxctl store ", {c["name"].split(" ")[1] for c in TOLD if c["name"].startswith("store ")}, {"names", "run"}),
    ("mlxctl store ver", {"verify"}, {"list"}),
    ("mlxctl --quiet store ver", {"verify"}, {"list"}),
    ("mlxctl --store x store ver", {"verify"}, {"list"}),
    ("mlxctl store verify --", {"--deep", "--repair", "--json", "--store", "--quiet", "--help"}, {"--oci"}),
    ("mlxctl run --ke", set(), {"--kv"}),
    ("mlxctl run --kv ", {"f32", "f16", "int8"}, {"smollm2"}),
    ("mlxctl run --kv i", {"int8"}, {"f32"}),
    ("mlxctl completion ", {"bash", "zsh", "fish"}, set()),
    ("mlxctl grammar ", {"check", "sample"}, set()),
    ("mlxctl help sto", {"store"}, {"run"}),
    ("mlxctl serve --kv ", {"f32", "f16", "int8"}, {"smollm2"}),
    ("mlxserve --kv ", {"f32", "f16", "int8"}, {"smollm2"}),
    ("mlxserve --keep", {"--keep-alive"}, {"--kv"}),
]
STORE_CASES = [
    ("mlxctl run smo", {"smollm2"}, {"team/assistant:1.0"}),
    ("mlxctl run --kv f16 smo", {"smollm2"}, set()),
    ("mlxctl rm smollm2 te", {"team/assistant:1.0"}, {"smollm2"}),
    ("mlxctl store show ", {"smollm2", "team/assistant:1.0"}, {"schema.json"}),
    ("mlxctl run ze", {"zebra-folder/"}, set()),
    ("mlxctl run smollm2 --format sch", {"schema.json"}, set()),
    ("mlxctl store list ", set(), {"smollm2", "schema.json"}),
]


def compare(shell, cases, complete):
    for line, wanted, unwanted in cases:
        got = complete(line)
        check("%s: %r" % (shell, line), wanted <= got and not (unwanted & got),
              "missing %s, too many %s, got %s" % (sorted(wanted - got), sorted(unwanted & got), sorted(got)[:30]))


def test_bash(with_store):
    if not shutil.which("bash"):
        return print("SKIP: bash is not here")
    path = script("bash", "mlxctl.bash")
    check("bash: syntax", run(["bash", "-n", path]).returncode == 0)

    def complete(line):
        words = bash_words(line)
        quoted = " ".join("'%s'" % w for w in words)
        r = run(["bash", "--norc", "-c",
                 ". ./mlxctl.bash; COMP_WORDBREAKS=$' \\t\\n\"\\'><=;|&(:'; COMP_WORDS=(%s); COMP_CWORD=%d; "
                 "COMP_LINE='%s'; COMP_POINT=%d; _%s; printf '%%s\\n' \"${COMPREPLY[@]}\"" %
                 (quoted, len(words) - 1, line, len(line), words[0])])
        check("bash: no errors for %r" % line, r.stderr == "", r.stderr)
        got = {x for x in r.stdout.split("\n") if x}
        return got | {x + "/" for x in got if os.path.isdir(os.path.join(TMP, x))}

    compare("bash", CASES, complete)
    compare("bash", [("mlxctl run --kv=", {"f32", "f16", "int8"}, set()), ("mlxctl run --kv=i", {"int8"}, {"f16"})],
            complete)
    if with_store:
        compare("bash", STORE_CASES, complete)
        # Behind a colon bash keeps what stands before it.
        compare("bash", [("mlxctl rm team/assistant:", {"1.0"}, set()), ("mlxctl rm team/assistant:1", {"1.0"}, set())],
                complete)


def test_fish(with_store):
    if not shutil.which("fish"):
        return print("SKIP: fish is not here")
    path = script("fish", "mlxctl.fish")
    check("fish: syntax", run(["fish", "-n", path]).returncode == 0)

    def complete(line):
        r = run(["fish", "--no-config", "-c", "source ./mlxctl.fish; complete -C \"%s\"" % line])
        check("fish: no errors for %r" % line, r.stderr == "", r.stderr)
        return {x.split("\t")[0] for x in r.stdout.split("\n") if x}

    compare("fish", CASES, complete)
    compare("fish", [("mlxctl run --kv=", {"--kv=f32", "--kv=f16", "--kv=int8"}, set())], complete)
    if with_store:
        compare("fish", STORE_CASES, complete)


class Zsh:
    """zsh on a terminal: what Tab makes of a line, and what it lists."""

    def __init__(self, path):
        env = dict(ENV, TERM="xterm", COLUMNS="200", LINES="100")
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(TMP)
            os.execvpe("zsh", ["zsh", "-f", "-i"], env)
        self.send("PROMPT='%%' RPROMPT=; unsetopt zle_bracketed_paste prompt_sp prompt_cr; stty -echo cols 200 rows 200\n")
        self.send("autoload -Uz compinit && compinit -u -D; zstyle ':completion:*' menu no; LISTMAX=1000\n")
        self.send("setopt no_always_last_prompt auto_list no_list_ambiguous no_beep list_rows_first; . ./%s; print rea''dy\n" % path)
        self.until(b"ready", 60)
        self.quiet()

    def send(self, text):
        os.write(self.fd, text.encode())

    def read(self, seconds):
        if not select.select([self.fd], [], [], seconds)[0]:
            return b""
        try:
            return os.read(self.fd, 65536)
        except OSError:
            return b""

    def until(self, what, seconds):
        data, end = b"", time.time() + seconds
        while what not in data and time.time() < end:
            data += self.read(0.2)
        return data

    def quiet(self, seconds=0.5):
        data = b""
        while True:
            more = self.read(seconds)
            if not more:
                return data
            data += more

    def complete(self, line):
        self.send("\x15" + line)
        self.quiet(0.2)
        self.send("\t")
        data = self.until(b"\n", 1.0) + self.quiet()
        self.send("\x03")
        self.quiet(0.2)
        text = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\x07|\x08", b"", data).decode(errors="replace")
        got = set(re.split(r"[\s]+", text))
        got |= {w.rstrip("=") for w in got}
        # Completed in place: zsh writes only what is new.
        last = line.split(" ")[-1]
        first = re.split(r"\s", text)[0] if text else ""
        return got | {last + first, last + first.rstrip("/") + "/"}

    def close(self):
        self.send("\x15exit\n")
        self.quiet(0.2)
        os.close(self.fd)
        os.waitpid(self.pid, 0)


def test_zsh(with_store):
    if not shutil.which("zsh"):
        return print("SKIP: zsh is not here")
    path = script("zsh", "_mlxctl")
    r = run(["zsh", "-f", "-n", path])
    check("zsh: syntax", r.returncode == 0 and not r.stderr, r.stderr)
    z = Zsh("_mlxctl")
    try:
        compare("zsh", CASES, z.complete)
        if with_store:
            compare("zsh", STORE_CASES, z.complete)
    finally:
        z.close()


def test_man():
    man = os.path.join(TMP, "man1")
    r = run([MLXCTL, "man", man])
    check("man: written", r.returncode == 0, r.stderr)
    pages = sorted(os.listdir(man))
    wanted = {"mlxctl.1", "mlxserve.1"} | {"mlxctl-%s.1" % c["name"].replace(" ", "-") for c in TOLD}
    check("man: a page a command", set(pages) == wanted, sorted(set(pages) ^ wanted))
    for c in TOLD:
        if "alias" in c:
            continue
        text = open(os.path.join(man, "mlxctl-%s.1" % c["name"].replace(" ", "-"))).read()
        for o in c["options"]:
            name = ("--" if len(o["name"]) > 1 else "-") + o["name"]
            check("man: %s has %s" % (c["name"], name), "\\fB" + name.replace("-", "\\-") + "\\fR" in text)
        check("man: %s has examples" % c["name"], ".SH EXAMPLES" in text)
    r = run([MLXCTL, "man", "--page", "store-list"])
    check("man: one page", r.stdout == open(os.path.join(man, "mlxctl-store-list.1")).read())
    check("man: no such page", run([MLXCTL, "man", "--page", "nothing"]).returncode == 1)
    for tool in (["groff", "-man", "-ww", "-z", "-Tutf8"], ["mandoc", "-T", "lint", "-W", "warning"]):
        if not shutil.which(tool[0]):
            print("SKIP: %s is not here" % tool[0])
            continue
        for page in pages:
            r = run(tool + ["man1/" + page])
            check("%s: %s" % (tool[0], page), r.returncode == 0 and not r.stdout.strip() and not r.stderr.strip(),
                  r.stdout + r.stderr)


def test_help():
    for c in TOLD:
        words = c["name"].split(" ")
        direct, by_help = run([MLXCTL] + words + ["--help"]), run([MLXCTL, "help"] + words)
        check("help %s: the same both ways" % c["name"], direct.stdout == by_help.stdout and direct.returncode == 0)
        wide = [x for x in direct.stdout.split("\n")
                if len(x) > 80 and not x.startswith("  mlxctl") and "mlxctl" not in x]
        check("help %s: fits 80 columns" % c["name"], not wide, wide)
        check("help %s: examples" % c["name"], "alias" in c or "examples:" in direct.stdout)
        check("help %s: exit codes" % c["name"], "exit codes:" in direct.stdout)
    r = run([MLXCTL, "--help"])
    check("help: fits 80 columns", max(map(len, r.stdout.split("\n"))) <= 80)
    for c in TOLD:
        if "alias" not in c:
            check("help: names " + c["name"], "  %s " % c["name"] in r.stdout)


try:
    store = setup()
    test_help()
    test_man()
    test_bash(store)
    test_fish(store)
    test_zsh(store)
finally:
    shutil.rmtree(TMP, ignore_errors=True)
print("%d passed, %d failed" % (passed, failed))
sys.exit(1 if failed else 0)
