#!/usr/bin/env python3
"""What is left of a store when whatever works on it is killed, finds no room, or meets others at it.

    test_crash.py BIN_DIR SOURCE_DIR [--part kill|real|fault|full|denied|clock|together] [--only OPERATION] [--all] [--points N]
                  [--seconds N] [--seed N]

The store's every change of the file system can be counted and stopped by MLXR_STORE_FAULT. After each stop: no model is broken,
those that were there are as they were, the new one is there whole or not at all, the operation can be run again, and gc leaves
nothing that no model has. Parts that need what is not there (mounts, docker-registry) print SKIP.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import hub_server  # noqa: E402
from crash_models import make_folder, make_gguf  # noqa: E402

TIMEOUT = 120
failed = []
n_passed = 0
lock = threading.Lock()


def check(name, ok, *what):
    global n_passed
    with lock:
        if ok:
            n_passed += 1
            return True
        failed.append(name)
        print("FAIL", name)
        for w in what:
            print("    ", repr(w)[:1500])
        sys.stdout.flush()
    return False


def say(*words):
    with lock:
        print(*words, flush=True)


class Run:
    def __init__(self, p, out, err):
        self.code, self.out, self.err = p, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")

    def __repr__(self):
        return f"exit {self.code}, out {self.out[-600:]!r}, err {self.err[-600:]!r}"

    def words(self):
        return json.loads(self.out)

    def told(self, *texts):
        """It failed with one line that holds one of the texts, warnings of what could not be tidied up aside."""
        lines = [x for x in self.err.splitlines() if ": warning: " not in x]
        return self.code == 1 and len(lines) == 1 and any(t in lines[0] for t in texts)


class World:
    """The folder everything happens in, and the models to be put into stores."""

    def __init__(self, args, root):
        self.mlxctl = os.path.join(os.path.abspath(args.bin), "mlxctl")
        self.root = os.path.realpath(root)
        tiny = Path(args.source).resolve() / "tests" / "runner" / "fixtures" / "tiny_chat"
        self.folders = [make_folder(self.path(f"model{i}"), tiny, i) for i in range(4)]
        self.gguf = make_gguf(self.path("model.gguf"))
        self.tiny = tiny
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("MLXR_", "MLXSERVE_", "OLLAMA_", "HF_"))}
        self.env.update(HOME=self.root, LC_ALL="C.UTF-8", no_proxy="*")
        self.recipe = self.path("recipe.yaml")
        Path(self.recipe).write_text("name: made\nbase:\n  repo: keeper\nsystem: Be brief.\ndefaults:\n  temperature: 0.5\n")
        self.n = 0

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def command(self, store, words):
        return [self.mlxctl, "--store", store, "--quiet", *words]

    def run(self, store, *words, fault=None, **more):
        env = dict(self.env, **({"MLXR_STORE_FAULT": fault} if fault else {}))
        p = subprocess.run(self.command(store, words), capture_output=True, stdin=subprocess.DEVNULL, env=env, timeout=TIMEOUT, check=False, **more)
        return Run(p.returncode, p.stdout, p.stderr)

    def fresh(self, base):
        """A copy of a store."""
        with lock:
            self.n += 1
            to = self.path(f"store{self.n}")
        if base:
            shutil.copytree(base, to, symlinks=True)
        return to


# ---- what a store must be ----

def manifests(store):
    """Of each manifest's path: its digest and the digests it names."""
    found = {}
    top = os.path.join(store, "manifests")
    for folder, _, files in os.walk(top):
        for name in files:
            path = os.path.join(folder, name)
            data = Path(path).read_bytes()
            doc = json.loads(data)
            found[os.path.relpath(path, top)] = (hashlib.sha256(data).hexdigest(),
                                                 {d["digest"][7:] for d in [doc["config"], *doc["layers"]]})
    return found


def damage(store):
    """What a model has not, or not as its digest says: the same as verify --deep, by other means."""
    found = []
    for path, (_, digests) in manifests(store).items():
        for digest in digests:
            try:
                if hashlib.sha256(Path(store, "blobs", "sha256", digest).read_bytes()).hexdigest() != digest:
                    found.append(f"{path}: {digest} is wrong")
            except OSError as e:
                found.append(f"{path}: {e}")
    return found


def garbage(store):
    """What lies there that no model needs."""
    known = manifests(store)
    wanted = set().union(*(m[1] for m in known.values())) if known else set()
    digests = {m[0] for m in known.values()}
    found = []
    for kind in ["blobs/sha256", "links/sha256", "sums/sha256"]:
        top = os.path.join(store, kind)
        found += [f"{kind}/{n}" for n in (os.listdir(top) if os.path.isdir(top) else []) if n not in wanted]
    for kind in ["sessions", "partial"]:
        top = os.path.join(store, kind)
        found += [f"{kind}/{n}" for n in (os.listdir(top) if os.path.isdir(top) else [])]
    for kind in ["views", "origins"]:
        top = os.path.join(store, kind)
        found += [f"{kind}/{n}" for n in (os.listdir(top) if os.path.isdir(top) else []) if n not in digests]
    top = os.path.join(store, "manifests")
    for folder, _, files in os.walk(top):
        for n in files:
            if n.startswith(".") or n.endswith((".tmp", "~")):
                found.append(os.path.relpath(os.path.join(folder, n), store))
    found += [n for n in (os.listdir(store) if os.path.isdir(store) else [])
              if n not in ("blobs", "links", "sums", "manifests", "views", "origins", "sessions", "partial", "lock", "config.json", "cache", "logs")]
    return found


def whole(w, store, what):
    """No model is broken; the names with their digests, or None."""
    v = w.run(store, "store", "verify", "--deep", "--json")
    ok = check(f"{what}: verify", v.code == 0 and v.words()["bad"] == 0, v)
    bad = damage(store)
    ok &= check(f"{what}: every file is as its digest says", not bad, bad)
    listed = w.run(store, "store", "list", "--json")
    if not check(f"{what}: list", listed.code == 0, listed) or not ok:
        return None
    models = listed.words()["models"]
    check(f"{what}: nothing is broken", all(not m["broken"] for m in models), models)
    return {m["name"]: m["digest"] for m in models}


def clean(w, store, what):
    g = w.run(store, "store", "gc", "--grace", "0", "--json")
    left = garbage(store) if g.code == 0 else None
    check(f"{what}: gc leaves nothing", g.code == 0 and left == [], g, left)


# ---- operations ----

class Operation:
    """words: its command. base: the store it begins with, which has `keeper`. changes: names it may add, replace or take away."""

    def __init__(self, name, base, words, before, after, again_is_missing=False, remote=None):
        self.name, self.base, self.words = name, base, words
        self.before, self.after = before, after  # names with digests
        self.again_is_missing = again_is_missing  # once it is done, to do it again is an error
        self.remote = remote

    def allowed(self, names):
        """Every name is as before, or as after."""
        return all(names.get(n) in (self.before.get(n), self.after.get(n)) for n in {*names, *self.before, *self.after})

    def env(self):
        return self.remote.env if self.remote else {}


def orphan(store, seed):
    """A blob that no model has, with all that goes with it, and what dead processes leave."""
    data = random.Random(seed).randbytes(3000)
    name = hashlib.sha256(data).hexdigest()
    for kind in ["blobs", "sums", "links"]:
        folder = Path(store, kind, "sha256")
        folder.mkdir(parents=True, exist_ok=True)
        if kind != "links":
            (folder / name).write_bytes(data)
    dead = Path(store, "sessions", f"dead{seed}")
    dead.mkdir(parents=True)
    (dead / "lock").write_bytes(b"")
    (dead / ("ab" * 32)).write_bytes(b"")
    (dead / "something.tmp").write_bytes(data)
    partial = Path(store, "partial")
    partial.mkdir(exist_ok=True)
    (partial / ("cd" * 31 + f"{seed:02x}")).write_bytes(data)
    view = Path(store, "views", hashlib.sha256(b"%d" % seed).hexdigest())
    view.mkdir(parents=True, exist_ok=True)
    (view / "config.json").symlink_to("../../blobs/sha256/" + name)


def make_operations(w, only):
    base = w.path("base")
    r = w.run(base, "store", "import", w.folders[0], "keeper", "--copy")
    if not check("a first model", r.code == 0, r):
        return []
    keeper = w.run(base, "store", "list", "--json").words()["models"][0]["digest"]
    kept = {"keeper:latest": keeper}
    operations = []

    def add(name, start, words, again_is_missing=False, remote=None):
        if only and only not in name:
            return
        before = {m["name"]: m["digest"] for m in w.run(start, "store", "list", "--json").words()["models"]}
        done = w.fresh(start)
        env = dict(w.env, **(remote.env if remote else {}))
        p = subprocess.run(w.command(done, words), capture_output=True, stdin=subprocess.DEVNULL, env=env, timeout=TIMEOUT, check=False)
        r = Run(p.returncode, p.stdout, p.stderr)
        if not check(f"{name}: undisturbed", r.code == 0, r):
            return
        after = whole(w, done, name)
        if after is not None and check(f"{name}: the keeper stays", after.get("keeper:latest") == keeper, after):
            operations.append(Operation(name, start, words, before, after, again_is_missing, remote))
        if remote:
            remote.reset()

    add("import", base, ["store", "import", w.folders[1], "new", "--copy"])
    add("import-hard-links", base, ["store", "import", w.folders[2], "new"])
    two = w.path("two")
    shutil.copytree(base, two, symlinks=True)
    w.run(two, "store", "import", w.folders[1], "new", "--copy")
    add("import-replaces", two, ["store", "import", w.folders[2], "new", "--copy"])
    add("import-gguf", base, ["store", "import", w.gguf, "new"])
    add("import-link", base, ["store", "import", w.folders[3], "new", "--link"])
    layout = w.path("layout")
    r = w.run(two, "store", "export", "new", layout, "--oci")
    if check("an OCI layout", r.code == 0, r):
        add("import-oci", base, ["store", "import", layout, "new"])
    if has_command(w, "create"):
        add("create", base, ["create", "new", "-f", w.recipe])
    else:
        say("SKIP: create: there is no such command")
    add("cp", base, ["cp", "keeper", "second"])
    add("rm", two, ["rm", "new"], again_is_missing=True)
    linked = w.path("linked")
    shutil.copytree(base, linked, symlinks=True)
    w.run(linked, "store", "import", w.folders[3], "new", "--link")
    add("rm-linked", linked, ["rm", "new"], again_is_missing=True)
    dirty = w.path("dirty")
    shutil.copytree(two, dirty, symlinks=True)
    for seed in range(3):
        orphan(dirty, seed)
    add("gc", dirty, ["store", "gc", "--grace", "0"])
    for make in [make_hub, make_registry]:
        if only and only not in ("pull", "push", "registry-pull"):
            continue
        remote = make(w)
        if remote and remote.kind == "hub":
            add("pull", base, ["pull", "team/new", "--as", "new"], remote=remote)
        elif remote:
            add("push", base, ["push", "keeper", f"{remote.host}/team/keeper:v1"], remote=remote)
            w.run(base, "push", "keeper", f"{remote.host}/team/pulled:v1")
            other = w.path("other")
            w.run(other, "store", "import", w.folders[1], "else", "--copy")
            r = w.run(other, "push", "else", f"{remote.host}/team/else:v1")
            if check("a model for the registry", r.code == 0, r):
                add("registry-pull", base, ["pull", f"{remote.host}/team/else:v1", "--as", "new"], remote=remote)
    return operations


def has_command(w, name):
    return subprocess.run([w.mlxctl, name, "--help"], capture_output=True, check=False).returncode == 0


class Hub:
    kind = "hub"

    def __init__(self, server, env):
        self.server, self.env = server, env

    def reset(self):
        pass


def make_hub_of(name, folder):
    hub = hub_server.Hub()
    hub.add(name, {n: Path(folder, n).read_bytes() for n in os.listdir(folder)})
    return Hub(hub, {"HF_ENDPOINT": hub.url})


def make_hub(w):
    return make_hub_of("team/new", w.folders[1])


class Registry:
    kind = "registry"

    def __init__(self, host):
        self.host, self.env = host, {}

    def reset(self):
        pass


started = []


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def make_registry(w):
    if not shutil.which("docker-registry"):
        say("SKIP: push: docker-registry was not found")
        return None
    port = free_port()
    config = w.path("registry.yml")
    Path(config).write_text(f"version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {w.path('registry')}\n"
                            f"http:\n  addr: 127.0.0.1:{port}\n  secret: x\n")
    p = subprocess.Popen(["docker-registry", "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    started.append(p)
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return Registry(f"127.0.0.1:{port}")
        except OSError:
            time.sleep(0.05)
    check("docker-registry starts", False)
    return None


# ---- after a stop ----

def judge(w, op, store, what):
    names = whole(w, store, what)
    if names is None:
        return
    if not check(f"{what}: each model is as before or as after", op.allowed(names), names, op.before, op.after):
        return
    env = dict(w.env, **op.env())
    p = subprocess.run(w.command(store, op.words), capture_output=True, stdin=subprocess.DEVNULL, env=env, timeout=TIMEOUT, check=False)
    r = Run(p.returncode, p.stdout, p.stderr)
    done_before = op.again_is_missing and names == op.after
    check(f"{what}: again", r.code == (1 if done_before else 0), r)
    names = whole(w, store, f"{what}: afterwards")
    check(f"{what}: all is there", names == op.after, names, op.after)
    clean(w, store, what)


def count(w, op):
    store = w.fresh(op.base)
    env = dict(w.env, MLXR_STORE_FAULT="count", **op.env())
    p = subprocess.run(w.command(store, op.words), capture_output=True, stdin=subprocess.DEVNULL, env=env, timeout=TIMEOUT, check=False)
    shutil.rmtree(store, ignore_errors=True)
    err = p.stderr.decode().strip().splitlines()
    if not check(f"{op.name}: counting", p.returncode == 0 and err and err[-1].endswith(" changes"), err):
        return 0
    return int(err[-1].split()[0])


def with_fault(w, op, fault, what, wants):
    store = w.fresh(op.base)
    env = dict(w.env, MLXR_STORE_FAULT=fault, **op.env())
    p = subprocess.run(w.command(store, op.words), capture_output=True, stdin=subprocess.DEVNULL, env=env, timeout=TIMEOUT, check=False)
    r = Run(p.returncode, p.stdout, p.stderr)
    wants(r, what)
    judge(w, op, store, what)
    shutil.rmtree(store, ignore_errors=True)


def each(w, jobs):
    """Two at a time: most of it is waiting for the disk."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for f in [pool.submit(*j) for j in jobs]:
            f.result()


def choose(r, counts, n_points):
    """n_points of all the points, at least 3 of each operation."""
    chosen = []
    total = sum(counts.values())
    for name, n in counts.items():
        k = n if n_points is None else min(n, max(3, round(n_points * n / total)))
        chosen += [(name, i) for i in sorted(r.sample(range(1, n + 1), k))]
    return chosen


def spread(w, args, operations, n_points):
    counts = {op.name: count(w, op) for op in operations}
    points = choose(random.Random(args.seed), {k: v for k, v in counts.items() if v}, None if args.all else args.points or n_points)
    say("changes:", ", ".join(f"{k} {v}" for k, v in counts.items()), f"; {len(points)} points")
    return [(next(op for op in operations if op.name == name), i) for name, i in points]


def part_kill(w, args):
    operations = make_operations(w, args.only)

    def killed(r, what):
        check(f"{what}: killed", r.code in (-signal.SIGKILL, 0), r)

    each(w, [(with_fault, w, op, f"kill@{i}", f"{op.name}, killed at {i}", killed) for op, i in spread(w, args, operations, 200)])


def part_real(w, args):
    """SIGKILL whenever it comes."""
    operations = make_operations(w, args.only)
    r = random.Random(args.seed)
    times = {}
    for op in operations:
        store = w.fresh(op.base)
        start = time.monotonic()
        subprocess.run(w.command(store, op.words), capture_output=True, env=dict(w.env, **op.env()), timeout=TIMEOUT, check=False)
        times[op.name] = time.monotonic() - start

    def one(op, after, what):
        store = w.fresh(op.base)
        p = subprocess.Popen(w.command(store, op.words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(w.env, **op.env()))
        time.sleep(after)
        p.kill()
        p.wait()
        judge(w, op, store, what)
        shutil.rmtree(store, ignore_errors=True)

    n = (args.points or (400 if args.all else 40)) // max(1, len(operations)) + 1
    each(w, [(one, op, after, f"{op.name}, killed after {after * 1000:.1f} ms")
             for op in operations for after in [r.uniform(0, times[op.name]) for _ in range(n)]])


def part_fault(w, args):
    """No room from some change on, and an error at one."""
    operations = make_operations(w, args.only)

    def refused(text):
        def wants(r, what):
            # An error in what only tidies up is none of the operation's.
            check(f"{what}: an error in one line", r.code == 0 or r.told(text), r)
        return wants

    jobs = []
    for op, i in spread(w, args, operations, 60):
        jobs.append((with_fault, w, op, f"enospc@{i}", f"{op.name}, no room from {i}", refused("No space left on device")))
        jobs.append((with_fault, w, op, f"eio@{i}", f"{op.name}, an error at {i}", refused("Input/output error")))
    each(w, jobs)


# ---- disks ----

def part_full(w, args):
    """Really full, and read-only, file systems: in namespaces of our own."""
    probe = subprocess.run(["unshare", "-Urm", "mount", "-t", "tmpfs", "none", w.root], capture_output=True, check=False)
    if probe.returncode != 0:
        say("SKIP: full: nothing can be mounted here:", probe.stderr.decode().strip())
        return
    p = subprocess.run(["unshare", "-Urm", sys.executable, os.path.abspath(__file__), args.bin, args.source, "--part", "mounted",
                        "--seed", str(args.seed)], capture_output=True, timeout=600, check=False)
    out = p.stdout.decode()
    print(out, end="")
    check("full disks", p.returncode == 0, p.returncode, p.stderr.decode())


def part_mounted(w, args):
    disk = w.path("disk")
    os.mkdir(disk)
    store = os.path.join(disk, "store")

    def mount(*words):
        subprocess.run(["mount", *words], check=True)

    size = sum(os.path.getsize(os.path.join(f, n)) for f in w.folders[:1] for n in os.listdir(f))
    big = make_folder(w.path("big"), w.tiny, 9, more_bytes=600 << 10)
    hub = make_hub_of("team/big", big)
    for kib in [size // 1024 + 200, size // 1024 + 400, size // 1024 + 600]:
        mount("-t", "tmpfs", "-o", f"size={kib}k", "none", disk)
        r = w.run(store, "store", "import", w.folders[0], "keeper", "--copy")
        check("full: a small model fits", r.code == 0, r)
        before = whole(w, store, "full")
        for what, words, env in [("import", ["store", "import", big, "big", "--copy"], {}), ("gguf", ["store", "import", w.gguf, "big"], {}),
                                 ("pull", ["pull", "team/big"], hub.env)]:
            if what == "gguf" and kib > size // 1024 + 250:
                continue
            p = subprocess.run(w.command(store, words), capture_output=True, stdin=subprocess.DEVNULL, env=dict(w.env, **env), timeout=TIMEOUT, check=False)
            r = Run(p.returncode, p.stdout, p.stderr)
            check(f"full, {kib} KiB: {what} says so", r.told("No space left on device", "more, and the disk of"), r)
            names = whole(w, store, f"full, {kib} KiB: {what}")
            check(f"full, {kib} KiB: {what} leaves the store as it was", names == before, names, before)
            clean(w, store, f"full, {kib} KiB: {what}")
        # To the last byte: removing must work where nothing can be written.
        try:
            with open(os.path.join(disk, "filler"), "wb", buffering=0) as f:
                while f.write(b"x" * 4096):
                    pass
        except OSError:
            pass
        r = w.run(store, "store", "list", "--json")
        check("full: list", r.code == 0 and len(r.words()["models"]) == 1, r)
        whole(w, store, "full to the last byte")
        r = w.run(store, "rm", "keeper")
        check("full: rm", r.code == 0, r)
        clean(w, store, "full: after rm")
        Path(disk, "filler").unlink(missing_ok=True)
        r = w.run(store, "store", "import", w.folders[1], "other", "--copy")
        check("full: and in again", r.code == 0, r)
        whole(w, store, "full: in again")
        r = w.run(store, "run", "other", "hi", "--max-tokens", "2")  # makes the folder with its files' names
        check("full: run", r.code == 0, r)
        mount("-o", "remount,ro", disk)
        before = whole(w, store, "read-only")
        r = w.run(store, "run", "other", "hi", "--max-tokens", "2")
        check("read-only: run", r.code == 0, r)
        for words in [["store", "import", w.folders[0], "new"], ["rm", "other"], ["cp", "other", "x"], ["store", "import", w.gguf, "other"],
                      ["store", "import", w.folders[0], "new", "--link"]]:
            r = w.run(store, *words)
            check(f"read-only: {' '.join(words[:2])}", r.told("Read-only file system"), words, r)
        r = w.run(store, "store", "gc", "--grace", "0")
        check("read-only: gc", r.code in (0, 1) and r.err.count("\n") <= 1, r)
        check("read-only: as it was", whole(w, store, "read-only, after") == before)
        subprocess.run(["umount", disk], check=True)


def part_denied(w, args):
    """Folders that may not be written or read, a store that is a file, a quota."""
    not_a_folder = w.path("file")
    Path(not_a_folder).write_text("x")
    for words in [["store", "list"], ["store", "import", w.folders[0], "new"], ["rm", "new"], ["store", "verify"], ["store", "gc"], ["run", "new", "hi"]]:
        r = w.run(not_a_folder, *words)
        check(f"a file as the store: {' '.join(words[:2])}", r.told("file"), words, r)
        r = w.run(os.path.join(not_a_folder, "below"), *words)
        check(f"a store below a file: {' '.join(words[:2])}", r.code in (0, 1) and (r.code == 1) == bool(r.err), words, r)
    check("the file is as it was", Path(not_a_folder).read_text() == "x")

    store = w.path("quota")
    r = w.run(store, "store", "import", w.folders[0], "keeper", "--copy")
    before = whole(w, store, "quota")
    r = w.run(store, "store", "quota", "80KB")
    if check("a quota", r.code == 0, r):
        for words in [["store", "import", w.folders[1], "new", "--copy"], ["store", "import", w.gguf, "new"], ["store", "import", w.folders[2], "keeper", "--copy"]]:
            r = w.run(store, *words)
            check(f"over the quota: {words[2:]}", r.told("quota"), r)
            check("over the quota: as it was", whole(w, store, "quota") == before)
            clean(w, store, "over the quota")
        r = w.run(store, "cp", "keeper", "second")
        check("a name takes no room", r.code == 0, r)

    if os.getuid() != 0:
        who = {}
    else:
        who = {"user": 65534, "group": 65534, "extra_groups": []}
        try:
            p = subprocess.run([w.mlxctl, "--version"], capture_output=True, check=False, **who)
            readable = p.returncode == 0
        except (PermissionError, OSError):
            readable = False
        if not readable:
            say("SKIP: denied: nobody may not run", w.mlxctl)
            return
    for folder in [w.root, os.path.dirname(w.root)]:
        os.chmod(folder, 0o755)
    store = w.path("denied")
    r = w.run(store, "store", "import", w.folders[0], "keeper", "--copy")
    r = w.run(store, "run", "keeper", "hi", "--max-tokens", "1")
    check("run", r.code == 0, r)
    before = whole(w, store, "denied")
    for folder, _, files in os.walk(store):
        os.chmod(folder, 0o555)
        for n in files:
            path = os.path.join(folder, n)
            if not os.path.islink(path):
                os.chmod(path, 0o444)
    for words in [["store", "list"], ["store", "show", "keeper"], ["store", "verify", "--deep"], ["run", "keeper", "hi", "--max-tokens", "1"]]:
        r = w.run(store, *words, **who)
        check(f"only to be read: {' '.join(words[:2])}", r.code == 0, words, r)
    for words in [["store", "import", w.folders[1], "new", "--copy"], ["rm", "keeper"], ["cp", "keeper", "x"], ["store", "import", w.gguf, "keeper"]]:
        r = w.run(store, *words, **who)
        check(f"not to be written: {' '.join(words[:2])}", r.told("Permission denied"), words, r)
    for part in ["blobs/sha256", "manifests"]:
        os.chmod(os.path.join(store, part), 0)
        for words in [["store", "list"], ["run", "keeper", "hi"], ["store", "verify"], ["store", "gc", "--grace", "0"]]:
            r = w.run(store, *words, **who)
            # a list or a verify may also tell what is wrong with the model
            check(f"{part} not to be read: {' '.join(words[:2])}", r.code in (0, 1) and r.err.count("\n") <= 1 and "-11" not in str(r.code), words, r)
        os.chmod(os.path.join(store, part), 0o755)
    for folder, _, _ in os.walk(store):
        os.chmod(folder, 0o755)
    check("denied: as it was", whole(w, store, "denied, after") == before)


# ---- clocks ----

def set_times(store, seconds):
    for folder, folders, files in os.walk(store):
        for n in [*folders, *files]:
            os.utime(os.path.join(folder, n), (seconds, seconds), follow_symlinks=False)
        os.utime(folder, (seconds, seconds))


def part_clock(w, args):
    """Times of files are no promise: a model's files stay whatever they say, a call that runs keeps what it has."""
    far = {"1970": 0, "2100": 4102444800, "long ago": int(time.time()) - 10 * 365 * 86400}
    base = w.path("base")
    w.run(base, "store", "import", w.folders[0], "keeper", "--copy")
    w.run(base, "store", "import", w.folders[3], "linked", "--link")
    for when, seconds in far.items():
        store = w.fresh(base)
        before = whole(w, store, when)
        orphan(store, 1)
        set_times(store, seconds)
        for grace in ["3600", "0"]:
            r = w.run(store, "store", "gc", "--grace", grace)
            check(f"{when}: gc --grace {grace}", r.code == 0, r)
            check(f"{when}: the models stay", whole(w, store, when) == before)
        check(f"{when}: and nothing else", garbage(store) == [], garbage(store))
        r = w.run(store, "store", "import", w.folders[1], "new", "--copy")
        check(f"{when}: import", r.code == 0, r)
        r = w.run(store, "store", "list")
        check(f"{when}: list", r.code == 0 and "new" in r.out, r)

    # An import that is held for a while, with times of long ago, while others remove what is not wanted.
    big = make_folder(w.path("big"), w.tiny, 5, more_bytes=(192 if args.all else 48) << 20)
    r = random.Random(args.seed)
    store = w.fresh(base)
    start = time.monotonic()
    check("an import", w.run(store, "store", "import", big, "big", "--copy").code == 0)
    took = time.monotonic() - start
    for i in range(20 if args.all else 6):
        store = w.fresh(base)
        p = subprocess.Popen(w.command(store, ["store", "import", big, "big", "--copy"]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=w.env)
        time.sleep(r.uniform(0.02, took))
        p.send_signal(signal.SIGSTOP)
        set_times(store, r.choice(list(far.values())))
        # What waits for a lock that the stopped one holds ends when it goes on.
        g = subprocess.Popen(w.command(store, ["store", "gc", "--grace", "0"]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=w.env)
        try:
            g.wait(0.5)
        except subprocess.TimeoutExpired:
            pass
        p.send_signal(signal.SIGCONT)
        out, err = p.communicate(timeout=TIMEOUT)
        g.communicate(timeout=TIMEOUT)
        check("an import that was held", p.returncode == 0 and g.returncode == 0, Run(p.returncode, out, err), g.returncode)
        names = whole(w, store, "held")
        check("held: it is there", names is not None and "big:latest" in names, names)
        clean(w, store, "held")
        shutil.rmtree(store, ignore_errors=True)


# ---- together ----

def part_together(w, args):
    """Eight at once, with and without being killed. Nobody may see anything but whole models and names that are gone."""
    seconds = args.seconds or (60 if args.all else 10)
    store = w.path("shared")
    for i, name in enumerate(["keeper", "kept"]):
        r = w.run(store, "store", "import", w.folders[i], name, "--copy")
        check("a first model", r.code == 0, r)
    before = whole(w, store, "together")
    counts = {}

    def one(seed, until, kills):
        r = random.Random(seed)
        while time.monotonic() < until:
            name, other = (f"n{r.randrange(4)}" for _ in range(2))
            words = r.choice([
                ["store", "import", r.choice(w.folders), name, *r.choice([[], ["--copy"], ["--link"]])], ["store", "import", w.gguf, name],
                ["rm", name], ["rm", name], ["cp", r.choice(["keeper", other]), name], ["store", "gc", "--grace", "0"], ["store", "gc"],
                ["store", "list", "--json"], ["store", "verify", "--deep", "--json"], ["store", "verify", "--json"], ["store", "show", name],
                ["store", "verify", "--deep", "keeper", "--json"], ["run", r.choice(["keeper", name]), "hi", "--max-tokens", "1"]])
            p = subprocess.Popen(w.command(store, words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=w.env)
            if kills and r.random() < 0.3:
                time.sleep(r.uniform(0, 0.03))
                p.kill()
            out, err = p.communicate(timeout=TIMEOUT)
            p = Run(p.returncode, out, err)
            what = " ".join(words[:2] if words[0] == "store" else words[:1])
            with lock:
                counts[what] = counts.get(what, 0) + 1
            if p.code == -signal.SIGKILL and kills:
                continue
            gone = (words[0] in ("rm", "cp", "run") or words[1] == "show") and p.told(*(f'{what} "{n}"' for n in (name, other) for what in ("no model", "model"))) \
                and p.told("no model ", "no such model")
            if not check(f"together: {' '.join(words)}", p.code == 0 or gone, p):
                continue
            if words[1] == "list":
                models = p.words()["models"]
                names = {m["name"]: m["digest"] for m in models}
                check("together: nothing is broken", all(not m["broken"] for m in models), models)
                check("together: the first models are there", all(names.get(n) == d for n, d in before.items()), names)
            elif words[1] == "verify":
                check("together: verify", p.words()["bad"] == 0, p)

    for kills in [False, True]:
        until = time.monotonic() + seconds / 2
        threads = [threading.Thread(target=one, args=(args.seed * 1000 + i + 100 * kills, until, kills)) for i in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        names = whole(w, store, "together")
        check("together: nothing is lost", names is not None and all(names.get(n) == d for n, d in before.items()), names)
        clean(w, store, "together")
    say("done at once:", ", ".join(f"{k} {v}" for k, v in sorted(counts.items())))


def memory():
    """A folder in memory with room enough, since thousands of changes are synced; None: the usual one."""
    try:
        free = os.statvfs("/dev/shm")
        return "/dev/shm" if free.f_bavail * free.f_frsize > 2 << 30 else None
    except OSError:
        return None


def main():
    parts = {"kill": part_kill, "real": part_real, "fault": part_fault, "full": part_full, "denied": part_denied, "clock": part_clock,
             "together": part_together, "mounted": part_mounted}
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("bin")
    a.add_argument("source")
    a.add_argument("--part", choices=parts)
    a.add_argument("--only", help="operations whose name holds this")
    a.add_argument("--all", action="store_true", help="every point, and longer")
    a.add_argument("--points", type=int)
    a.add_argument("--seconds", type=float)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--keep", action="store_true", help="leave the folder")
    args = a.parse_args()
    start = time.monotonic()
    root = tempfile.mkdtemp(prefix="mlxr-crash-", dir=memory())
    try:
        for name in [args.part] if args.part else [p for p in parts if p != "mounted"]:
            sub = os.path.join(root, name)
            os.mkdir(sub)
            parts[name](World(args, sub), args)
    finally:
        for p in started:
            p.kill()
            p.wait()
        if not args.keep:
            shutil.rmtree(root, ignore_errors=True)
    print(f"{n_passed} passed, {len(failed)} failed, {time.monotonic() - start:.1f} s, seed {args.seed}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
