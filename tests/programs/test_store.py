#!/usr/bin/env python3
"""The store as a user meets it: models in, listed, shown, run, checked, copied, out and away; JSON forms, terminals of any width, wrong
usage, names that are not there, full disks, Ctrl-C.
usage: test_store.py BIN_DIR SOURCE_DIR"""
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

BIN, SRC = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
MLXCTL = os.path.join(BIN, "mlxctl")
TINY = os.path.join(SRC, "tests", "runner", "fixtures", "tiny_chat")
DEFAULT = os.path.join(SRC, "models", "SmolLM2-135M-Instruct-4bit")
TMP = tempfile.mkdtemp()
STORE = os.path.join(TMP, "store")
passed, failed = 0, 0

ENV = {k: v for k, v in os.environ.items() if not re.match(r"MLXR_|HF_|XDG_|OLLAMA_|MLXSERVE_|COLUMNS|NO_COLOR", k)}
ENV.update(HOME=TMP, MLXR_HOME=STORE, LC_ALL="C.UTF-8", TERM="xterm")


def check(name, condition, detail=""):
    global passed, failed
    if condition:
        passed += 1
    else:
        failed += 1
        print("FAIL", name, detail)


def run(*args, env=None, timeout=300, **kw):
    return subprocess.run([MLXCTL, *args], env={**ENV, **(env or {})}, cwd=TMP, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, text=True, errors="replace", **kw)


def expect(name, code, out, err, *args, env=None):
    """out and err: regular expressions; "" wants nothing, None is anything."""
    r = run(*args, env=env)
    good = r.returncode == code
    for want, is_ in ((out, r.stdout), (err, r.stderr)):
        good = good and (want is None or (is_ == "" if want == "" else re.search(want, is_, re.M) is not None))
    check(name, good, "\n  exit code %d, wanted %d\n  %s\n  %s" % (r.returncode, code, r.stdout[-800:], r.stderr[-800:]))
    return r


def as_json(name, *args, code=0):
    r = run(*args)
    check(name + ": exit code", r.returncode == code, r.stderr)
    try:
        return json.loads(r.stdout)
    except ValueError:
        check(name + ": is JSON", False, r.stdout[:500])
        return {}


def lines_json(name, *args, code=0):
    r = run(*args)
    check(name + ": exit code", r.returncode == code, r.stderr)
    try:
        return [json.loads(x) for x in r.stdout.splitlines()]
    except ValueError:
        check(name + ": is JSON lines", False, r.stdout[:500])
        return []


def on_terminal(args, columns, env=None, interrupt_after=None, timeout=60):
    """(exit code, what came) of mlxctl on a terminal so wide. interrupt_after: Ctrl-C when this was seen."""
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(TMP)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        while os.get_terminal_size(0).columns != columns:
            time.sleep(0.005)
        os.execve(MLXCTL, [MLXCTL, *args], {**ENV, **(env or {})})
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    data, end, sent = b"", time.time() + timeout, False
    while time.time() < end:
        if select.select([fd], [], [], 0.1)[0]:
            try:
                more = os.read(fd, 65536)
            except OSError:
                break
            if not more:
                break
            data += more
        if interrupt_after and not sent and re.search(interrupt_after, data):
            os.write(fd, b"\x03")
            sent = True
    os.close(fd)
    status = os.waitpid(pid, 0)[1]
    return (os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)), data


def shown_lines(data):
    """What stands on the terminal's lines, each state of a redrawn one alone, without escapes."""
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", data).decode(errors="replace")
    return [x for line in text.split("\n") for x in line.split("\r")]


def wide_model(folder, n_bytes):
    """A model with a large sparse tensor, so that hashing takes a while."""
    shutil.copytree(TINY, folder)
    path = os.path.join(folder, "model.safetensors")
    with open(path, "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        header, data = json.loads(f.read(n)), f.read()
    header["zz.more"] = {"dtype": "U8", "shape": [n_bytes], "data_offsets": [len(data), len(data) + n_bytes]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)
        f.truncate(8 + len(text) + len(data) + n_bytes)
    return folder


def test_empty():
    expect("list of nothing", 0, r"\ANAME .*DIGEST\n\Z", "", "list")
    check("list of nothing, JSON", as_json("list", "list", "--json") == {"models": []})
    expect("show of nothing", 1, "", r"no model \"ghost\".*empty", "store", "show", "ghost")
    expect("names of nothing", 0, "", "", "store", "names")
    expect("verify of nothing", 0, "0 models", "", "store", "verify")
    expect("gc of nothing", 0, "0 files removed", "", "store", "gc")
    check("a store that is only read is not made", not os.path.exists(os.path.join(STORE, "blobs")))
    expect("doctor of nothing", 0, "^ok +store: ", "", "doctor")


def test_tour():
    r = expect("import", 0, "^imported tiny_chat:latest: sha256:[0-9a-f]{64}$", "hashed model.safetensors 62.3 kB", "store", "import", TINY)
    check("import tells a file once", r.stderr.count("tokenizer.json") == 1, r.stderr)
    events = lines_json("import --json", "store", "import", TINY, "team/assistant:1.0", "--json")
    check("import --json: progress", any(e["event"] == "progress" and set(e) == {
        "event", "what", "item", "done", "total", "done_all", "total_all"} for e in events), events[:2])
    check("import --json: result", events and events[-1].get("event") == "result" and
          events[-1]["name"] == "team/assistant:1.0" and len(events[-1]["digest"]) == 71, events[-1:])
    expect("import with quiet", 0, "", "", "store", "import", TINY, "smollm2", "--quiet")

    models = as_json("list", "list", "--json")["models"]
    check("list: names", [m["name"] for m in models] == ["smollm2:latest", "team/assistant:1.0", "tiny_chat:latest"], models)
    keys = {"name", "digest", "family", "quantization", "parameters", "size_bytes", "shared_bytes", "linked_bytes", "modified", "broken"}
    check("list: keys", all(set(m) == keys for m in models), models)
    check("list: what it is", models[0]["family"] == "llama" and "4-bit" in models[0]["quantization"] and
          models[0]["broken"] is None and models[0]["size_bytes"] > 60000, models[0])
    expect("list: a word", 0, r"\ANAME.*\nteam/assistant:1.0 .*\n\Z", "", "list", "ASSIST")
    expect("ls", 0, "tiny_chat:latest", "", "ls")
    expect("store ls is list", 0, "tiny_chat:latest", "", "store", "list")
    r = expect("names", 0, r"\Asmollm2\nteam/assistant:1.0\ntiny_chat\n\Z", "", "store", "names")

    r = expect("show", 0, r"^digest +sha256:", "", "store", "show", "smollm2")
    check("show: files", re.search(r"^model\.safetensors +62\.3 kB", r.stdout, re.M) is not None, r.stdout)
    check("show: no trailing spaces", not re.search(r" $", r.stdout, re.M), r.stdout)
    check("show: other names", re.search(r"^also +team/assistant:1.0, tiny_chat:latest$", r.stdout, re.M) is not None, r.stdout)
    shown = as_json("show --json", "store", "show", "smollm2", "--json")
    check("show --json: keys", set(shown) == {"name", "other_names", "digest", "family", "quantization", "dtype", "parameters",
          "context_length", "size_bytes", "shared_bytes", "modified", "source", "base", "files"}, sorted(shown))
    check("show --json: files", {f["path"] for f in shown["files"]} == {
        n for n in os.listdir(TINY)} and all(f["state"] == "whole" for f in shown["files"]), shown["files"])
    check("by digest", as_json("by digest", "store", "show", shown["digest"][:20], "--json")["digest"] == shown["digest"])

    expect("run", 0, None, "", "run", "smollm2", "Hello", "--max-tokens", "4")
    expect("run, other letters", 0, None, "", "run", "SmolLM2", "Hello", "--max-tokens", "4")
    expect("show looks into it", 0, "^family +llama", "", "show", "team/assistant:1.0")
    expect("doctor of it", 0, "0 errors", "", "doctor", "smollm2")
    expect("verify", 0, "all whole", "", "store", "verify")
    expect("verify --deep", 0, "all whole, [0-9.]+ kB read", "", "store", "verify", "smollm2", "--deep")
    v = as_json("verify --json", "store", "verify", "--json")
    check("verify --json: keys", set(v) == {"models", "files", "read_bytes", "fetched_bytes", "bad", "repaired", "findings"} and
          v["findings"] == [] and v["bad"] == 0, v)

    expect("cp", 0, "^smollm2 is copy:latest too$", "", "cp", "smollm2", "copy")
    check("cp --json", as_json("cp --json", "store", "cp", "copy", "copy:2", "--json") == {"from": "copy", "to": "copy:2"})
    r = as_json("rm --json", "rm", "copy", "copy:2", "--json")
    check("rm --json", r.get("freed_bytes") == 0 and [x["name"] for x in r["removed"]] == ["copy", "copy:2"], r)
    r = expect("rm goes on after one that is not there", 1, "^removed tiny_chat: 0 B freed$", "ghost", "rm", "ghost", "tiny_chat")

    expect("export", 0, "^exported smollm2 to ", None, "store", "export", "smollm2", os.path.join(TMP, "out"))
    same = all(open(os.path.join(TINY, n), "rb").read() == open(os.path.join(TMP, "out", n), "rb").read() for n in os.listdir(TINY))
    check("export: the same files", same)
    expect("export where something is", 1, "", "out", "store", "export", "smollm2", os.path.join(TMP, "out"))
    expect("export --oci", 0, "^exported", None, "store", "export", "smollm2", "layout", "--oci")
    check("export --oci: a layout", os.path.isfile(os.path.join(TMP, "layout", "oci-layout")))
    expect("import of a layout", 0, "^imported again:latest", None, "store", "import", "layout", "again")
    check("import of a layout: the same model",
          as_json("again", "store", "show", "again", "--json")["digest"] == shown["digest"])

    q = as_json("quota", "store", "quota", "--json")
    check("no quota", q["quota_bytes"] is None and q["used_bytes"] > 60000, q)
    expect("quota", 0, r"used of 2.0 GB \(0 %\)", "", "store", "quota", "2GB")
    check("quota, GiB", as_json("quota", "store", "quota", "1.5 GiB", "--json")["quota_bytes"] == 3 << 29)
    expect("quota that is none", 2, "", "neither a size", "store", "quota", "much")
    expect("quota of nothing", 2, "", "neither a size", "store", "quota", "0")
    expect("a full quota", 0, None, "", "store", "quota", "70kB")
    other = os.path.join(TMP, "other")
    shutil.copytree(TINY, other)
    with open(other + "/model.safetensors", "r+b") as f:
        f.seek(-1, 2)
        f.write(b"\1")
    expect("import over the quota", 1, "", "quota", "store", "import", other, "--copy")
    expect("no quota again", 0, "no quota", "", "store", "quota", "none")

    freed = as_json("rm the last", "rm", "smollm2", "again", "team/assistant:1.0", "--json")
    check("rm the last: its files go", freed.get("freed_bytes", 0) > 60000, freed)
    check("nothing is left", not os.listdir(os.path.join(STORE, "blobs", "sha256")), os.listdir(os.path.join(STORE, "blobs", "sha256")))
    expect("gc", 0, "files? removed", "", "store", "gc", "--grace", "0")


def test_usage():
    for args in (["store", "import"], ["store", "export", "x"], ["store", "rm"], ["rm"], ["cp", "x"], ["store", "show"], ["pull"], ["push"]):
        expect("too few: " + " ".join(args), 2, "", "is needed|are needed", *args)
    for args in (["store", "import", "a", "b", "c"], ["store", "gc", "x"], ["list", "a", "b"], ["cp", "a", "b", "c"]):
        expect("too many: " + " ".join(args), 2, "", "unexpected argument", *args)
    expect("store alone", 2, "", "^  store list", "store")
    expect("store --help", 0, "^  store list", "", "store", "--help")
    expect("help store", 0, "^  store list", "", "help", "store")
    expect("store what", 2, "", "no command \"store lst\"; is it \"store list\"", "store", "lst")
    expect("a slip", 2, "", "is it \"pull\"", "pul")
    expect("both link and copy", 2, "", "both", "store", "import", TINY, "--link", "--copy")
    expect("a name that is none", 1, "", "bad name", "store", "import", TINY, "bad name!")
    expect("import of nothing", 1, "", "nowhere", "store", "import", "nowhere")
    expect("import of what is no model", 1, "", "config.json", "store", "import", BIN, "x")
    expect("wrong number", 2, "", "whole number", "store", "gc", "--grace", "soon")
    expect("user without password", 1, "", "go together", "pull", "localhost:1/x", "--user", "me")
    expect("--store before", 0, r"\ANAME", "", "--store", "elsewhere", "list")
    expect("--store within", 0, r"\ANAME", "", "store", "--store", "elsewhere", "list")
    expect("--store behind", 0, r"\ANAME", "", "store", "list", "--store=elsewhere")
    expect("--store without a value", 2, "", "needs a value", "store", "list", "--store")
    expect("--store of nothing", 1, "", "wants a folder", "store", "list", "--store", "")
    expect("no home", 1, "", "neither --store nor MLXR_HOME nor HOME", "list", env={"HOME": "", "MLXR_HOME": ""})
    expect("a file in its place", 1, "", "is a file, wanted a folder", "list", "--store", os.path.join(TINY, "config.json"))
    expect("a wrong fault", 1, "", "MLXR_STORE_FAULT", "list", env={"MLXR_STORE_FAULT": "explode@3"})


def test_models():
    """Which of folder, id and name it is, and what is told of one that is nowhere."""
    run("store", "import", TINY, "word")
    os.makedirs(os.path.join(TMP, "config"), exist_ok=True)
    paths = os.path.join(TMP, "config", "model-paths.local.json")
    with open(paths, "w") as f:
        json.dump({"id": TINY, "gone": "nowhere"}, f)
    expect("a name of the store, beside ids", 0, "^family", "", "show", "word")
    expect("an id", 0, "^family", "", "show", "id")
    expect("an id whose folder is gone", 1, "", "gone.*nowhere", "show", "gone")
    with open(paths, "w") as f:
        json.dump({"word": "nowhere"}, f)
    expect("an id goes before a name", 1, "", "nowhere", "show", "word")
    os.remove(paths)
    os.makedirs(os.path.join(TMP, "word"))
    expect("a folder goes before a name", 1, "", "config.json", "show", "word")
    os.rmdir(os.path.join(TMP, "word"))
    r = expect("nowhere", 1, "", "no such folder, no such id in .*model-paths.local.json.*no such model in the store", "show", "wrod")
    check("nowhere: nothing to pull", "pull" not in r.stderr, r.stderr)
    expect("near", 1, "", "near: word", "show", "words")
    expect("of a hub", 1, "", r"mlxctl pull org/model brings it$", "run", "org/model", "x")
    expect("a path", 1, "", "no such folder", "run", "./org/model", "x")
    run("rm", "word")


def test_terminals():
    for name in ("smollm2", "mlx-community/Meta-Llama-3.1-8B-Instruct-4bit", "registry.example.org:5000/team/of/many/assistant:1.0-rc"):
        run("store", "import", TINY, name)
    full = run("list").stdout
    check("a pipe has everything", "registry.example.org:5000/team/of/many/assistant:1.0-rc" in full and "DIGEST" in full, full)
    check("a pipe has no colours", "\x1b" not in full)
    for columns in (20, 30, 40, 60, 80, 100, 132, 200):
        for args in (["list"], ["store", "show", "smollm2"], ["--help"], ["pull", "--help"]):
            code, data = on_terminal(args, columns)
            longest = max(map(len, shown_lines(data)))
            limit = max(columns, 80) if "--help" == args[-1] else columns
            if args[:2] == ["store", "show"]:  # what stands before the table is as long as it is
                longest = max(map(len, shown_lines(data.split(b"FILE")[1])))
            check("%s in %d columns" % (" ".join(args), columns), code == 0 and longest <= limit, (longest, data[:400]))
    code, data = on_terminal(["list"], 200)
    check("a wide terminal has everything", b"DIGEST" in data and b"assistant:1.0-rc" in data, data)
    code, data = on_terminal(["list"], 40)
    check("a narrow one has the names' ends", b"smollm2:latest" in data and b"1.0-rc" in data and "…".encode() in data, data)
    check("a narrow one leaves columns out", b"DIGEST" not in data and b"NAME" in data, data)
    code, data = on_terminal(["list"], 40, env={"LC_ALL": "C", "LANG": "C"})
    check("without UTF-8", "…".encode() not in data and b".." in data, data)
    code, data = on_terminal(["list"], 100, env={"COLUMNS": "40"})
    check("COLUMNS wins", max(map(len, shown_lines(data))) <= 40, data)
    check("colours on a terminal", b"\x1b[1m" in data, data)
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        code, data = on_terminal(["list"], 100, env=env)
        check("no colours with %s" % env, b"\x1b" not in data, data)

    big = wide_model(os.path.join(TMP, "big"), 2 << 30)
    code, data = on_terminal(["store", "import", big, "big"], 72)
    lines = shown_lines(data)
    bars = [x for x in lines if re.search(r"hashing model\S* +\d+ %  [0-9.]+( [kMG]?B)? of 2\.1 GB", x)]
    check("a bar", code == 0 and len(bars) > 1, data[-600:])
    check("a bar tells rate and time", any(re.search(r"[MG]B/s  \d+ s left", x) for x in bars), bars[-3:])
    check("a bar fits", max(len(x) for x in lines if "imported" not in x) <= 72, lines[-5:])
    check("a bar is cleared", re.search(rb"\r\x1b\[K(\r\x1b\[K)*imported big:latest", data) is not None, data[-300:])
    run("rm", "big")
    code, data = on_terminal(["store", "import", big, "big", "--quiet"], 72)
    check("quiet on a terminal", code == 0 and data == b"", data)
    run("rm", "big")
    code, data = on_terminal(["store", "import", big, "big"], 30)
    check("a bar on a narrow terminal", code == 0 and max(map(len, [x for x in shown_lines(data) if "imported" not in x])) <= 30,
          shown_lines(data))
    run("rm", "big")

    # Ctrl-C: told in a line, nothing half there, and it may be done again.
    code, data = on_terminal(["store", "import", big, "big"], 72, interrupt_after=rb"\d+ %")
    check("Ctrl-C", code == 130 and b"mlxctl store import: stopped" in data, (code, data[-300:]))
    expect("Ctrl-C leaves no name", 1, "", "big", "store", "show", "big")
    expect("Ctrl-C leaves a whole store", 0, "all whole", "", "store", "verify", "--deep")
    p = subprocess.Popen([MLXCTL, "store", "import", big, "big"], env=ENV, cwd=TMP, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                         stdin=subprocess.DEVNULL)
    time.sleep(0.3)
    p.terminate()
    err = p.communicate(timeout=60)[1]
    check("SIGTERM", p.returncode == 143 and b"stopped" in err, (p.returncode, err))
    expect("and again", 0, "^imported big", None, "store", "import", big, "big")
    run("rm", "big")
    shutil.rmtree(big)
    run("rm", *[m["name"] for m in as_json("list", "list", "--json")["models"]])


def test_faults():
    r = expect("changes are counted", 0, "^imported", r"^[0-9]+ changes$", "store", "import", TINY, "t", env={"MLXR_STORE_FAULT": "count"})
    n = int(re.search(r"^(\d+) changes$", r.stderr, re.M).group(1))
    check("some changes", n > 20, n)
    run("rm", "t")
    for at in (1, 2, n // 2, n - 1):
        r = run("store", "import", TINY, "t", env={"MLXR_STORE_FAULT": "kill@%d" % at})
        check("killed at %d" % at, r.returncode == -signal.SIGKILL, r.returncode)
        expect("killed at %d: whole" % at, 0, "all whole", "", "store", "verify", "--deep")
        expect("killed at %d: again" % at, 0, "^imported t", None, "store", "import", TINY, "t")
        run("rm", "t")
    r = run("store", "import", TINY, "t", env={"MLXR_STORE_FAULT": "kill:rename@1"})
    check("killed at a rename", r.returncode == -signal.SIGKILL, r.returncode)
    expect("the disk is full", 1, "", "No space left", "store", "import", TINY, "t", env={"MLXR_STORE_FAULT": "enospc@5"})
    expect("the disk is full: no name", 1, "", "no model", "store", "show", "t")
    expect("an error of the disk", 1, "", "Input/output error", "store", "import", TINY, "t", env={"MLXR_STORE_FAULT": "eio@6"})
    expect("and then", 0, "^imported t", None, "store", "import", TINY, "t")
    run("rm", "t")
    run("store", "gc", "--grace", "0")
    check("gc leaves nothing of calls that died", not os.listdir(os.path.join(STORE, "sessions")), os.listdir(os.path.join(STORE, "sessions")))


def test_damage():
    run("store", "import", TINY, "t", "--copy")
    shown = as_json("show", "store", "show", "t", "--json")
    blob = {f["path"]: os.path.join(STORE, "blobs", "sha256", f["digest"][7:]) for f in shown["files"]}
    os.chmod(blob["model.safetensors"], 0o644)
    with open(blob["model.safetensors"], "r+b") as f:
        f.seek(-100, 2)
        byte = f.read(1)
        f.seek(-100, 2)
        f.write(bytes([byte[0] ^ 4]))
    expect("a bit: verify alone reads no weights", 0, "all whole", "", "store", "verify", "t")
    expect("a bit: verify --deep", 1, r"^bad +t:latest: model\.safetensors: ", "", "store", "verify", "--deep")
    v = as_json("a bit: JSON", "store", "verify", "--deep", "--json", code=1)
    check("a bit: the file is named", v.get("bad", 0) >= 1 and v["findings"][0]["file"] == "model.safetensors" and
          set(v["findings"][0]) == {"name", "file", "tensor", "text", "repaired"}, v)
    check("a bit: the tensor is named", bool(v["findings"][0]["tensor"]), v)
    os.remove(blob["tokenizer.json"])
    expect("a file that is gone", 1, "tokenizer.json", "", "store", "verify")
    expect("a file that is gone: list", 0, "broken", "t:latest cannot be used: .*tokenizer.json", "list")
    check("a file that is gone: JSON", "tokenizer.json" in (as_json("list", "list", "--json")["models"][0]["broken"] or ""))
    expect("a file that is gone: show", 0, "tokenizer.json.*missing", "", "store", "show", "t")
    expect("a file that is gone: run", 1, "", "tokenizer.json", "run", "t", "x")
    expect("a file that is gone: doctor", 1, "^error +store: t:latest: .*tokenizer.json", "", "doctor")
    os.makedirs(os.path.join(STORE, "sessions", "dead"), exist_ok=True)
    open(os.path.join(STORE, "sessions", "dead", "lock"), "w").close()
    os.utime(os.path.join(STORE, "sessions", "dead"), (1, 1))
    os.makedirs(os.path.join(STORE, "partial"), exist_ok=True)
    partial = os.path.join(STORE, "partial", "0" * 64)
    with open(partial, "wb") as f:
        f.write(b"x" * 10000)
    os.utime(partial, (1, 1))
    expect("doctor: a call that was killed", 1, "^warn +store: 1 folder of calls that were killed", "", "doctor")
    expect("doctor: an old download", 1, "^warn +store: 1 unfinished download, ", "", "doctor")
    expect("import mends it", 0, "^imported t", None, "store", "import", TINY, "t", "--copy")
    run("store", "gc", "--grace", "0")
    r = expect("doctor: all is well again", 0, "^ok +store: 1 model, 0 of them broken", "", "doctor")
    check("doctor: nothing is left", "killed" not in r.stdout and "unfinished" not in r.stdout, r.stdout)
    run("rm", "t")


def test_clocks_and_manifests():
    run("store", "import", TINY, "t")
    manifest = os.path.join(STORE, "manifests", "huggingface.co", "library", "t", "latest")
    for seconds, want in ((-3600, "in the future"), (30, "just now"), (61, "1 minute ago"), (7300, "2 hours ago"),
                          (3 * 86400, "3 days ago"), (400 * 86400, "1 year ago")):
        os.utime(manifest, (time.time() - seconds,) * 2)
        expect("a clock: " + want, 0, want, "", "list")
    good = open(manifest, "rb").read()
    run("cp", "t", "u")
    os.chmod(manifest, 0o644)
    for bad in (b"", b"{", good[:-40], b"\0" * 100, good.replace(b"sha256:", b"sha257:")):
        with open(manifest, "wb") as f:
            f.write(bad)
        name = "a manifest of %r..." % bad[:12]
        expect(name + ": list", 0, r"^t:latest .*broken(.|\n)*^u:latest +llama", "t:latest cannot be used", "list")
        expect(name + ": show", 1, "", "t", "store", "show", "t")
        expect(name + ": run", 1, "", "^mlxctl run: ", "run", "t", "x")
        expect(name + ": verify", 1, "^bad +t:latest", "", "store", "verify")
        expect(name + ": the other one", 0, "all whole", "", "store", "verify", "u")
        expect(name + ": doctor", 1, "^error +store: t:latest", "", "doctor")
    expect("a broken one can be removed", 0, "^removed t", "", "rm", "t")
    expect("and the other is whole", 0, "all whole", "", "store", "verify", "--deep")
    run("rm", "u")


def test_read_only():
    """As somebody who may read the store, and not write."""
    def become_nobody():
        os.setgid(65534)
        os.setuid(65534)

    run("store", "import", TINY, "t")
    run("show", "t")
    if os.getuid() != 0:
        return print("SKIP: a store of somebody else: this wants to be root")
    os.chmod(TMP, 0o755)
    args = {"env": {"HOME": "/nonexistent"}, "preexec_fn": become_nobody}
    try:
        if run("--version", **args).returncode != 0:
            return print("SKIP: a store of somebody else: nobody may not run the program")
    except OSError:
        return print("SKIP: a store of somebody else: nobody may not run the program")
    r = run("list", **args)
    check("read only: list", r.returncode == 0 and "t:latest" in r.stdout, r.stderr)
    r = run("run", "t", "Hello", "--max-tokens", "3", **args)
    check("read only: run", r.returncode == 0, r.stderr)
    r = run("store", "verify", "--deep", **args)
    check("read only: verify", r.returncode == 0, r.stderr)
    for words in (["store", "import", TINY, "x"], ["rm", "t"], ["cp", "t", "x"], ["store", "gc"], ["store", "quota", "1GB"]):
        r = run(*words, **args)
        check("read only: " + " ".join(words[:2]), r.returncode == 1 and "Permission denied" in r.stderr and r.stderr.count("\n") == 1,
              (r.returncode, r.stdout, r.stderr))
    r = run("doctor", **args)
    check("read only: doctor", "warn   store: " in r.stdout and "models can be run, not added" in r.stdout, r.stdout)
    check("read only: nothing is lost", run("store", "verify", "--deep").returncode == 0)
    run("rm", "t")


def test_pipes():
    run("store", "import", TINY, "t")
    if os.path.exists("/dev/full"):
        for args in (["list"], ["list", "--json"], ["store", "show", "t"], ["help", "--json"]):
            with open("/dev/full", "w") as full:
                r = subprocess.run([MLXCTL, *args], env=ENV, stdout=full, stderr=subprocess.PIPE, text=True)
            check("full: " + " ".join(args), r.returncode == 1 and "could not be written" in r.stderr, (r.returncode, r.stderr))
    run("rm", "t")


def test_default():
    if not os.path.isdir(DEFAULT):
        return print("SKIP: %s is not here" % os.path.relpath(DEFAULT, SRC))
    expect("default: import", 0, "^imported SmolLM2-135M-Instruct-4bit:latest", None, "store", "import", DEFAULT)
    m = as_json("default: list", "list", "--json")["models"][0]
    check("default: what it is", m["parameters"] == 134515008 and m["family"] == "llama", m)
    expect("default: run", 0, "Paris", "", "run", "SmolLM2-135M-Instruct-4bit", "What is the capital of France?", "--max-tokens", "12")
    expect("default: verify --deep", 0, "all whole", "", "store", "verify", "--deep")
    expect("default: rm", 0, "MB freed", "", "rm", "SmolLM2-135M-Instruct-4bit")
    gguf = os.environ.get("MLXR_TEST_GGUF")
    if not gguf:
        return print("SKIP: MLXR_TEST_GGUF names no GGUF file of the default model")
    expect("default: import of GGUF", 0, "^imported from-gguf", None, "store", "import", gguf, "from-gguf")
    expect("default: run of GGUF", 0, "Paris", "", "run", "from-gguf", "What is the capital of France?", "--max-tokens", "12")
    run("rm", "from-gguf")


try:
    for test in (test_empty, test_usage, test_tour, test_models, test_terminals, test_faults, test_damage, test_clocks_and_manifests,
                 test_read_only, test_pipes, test_default):
        test()
finally:
    shutil.rmtree(TMP, ignore_errors=True)
print("%d passed, %d failed" % (passed, failed))
sys.exit(1 if failed else 0)
