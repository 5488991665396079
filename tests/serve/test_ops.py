#!/usr/bin/env python3
"""mlxserve as those who run it see it: settings, start and end, signals, keys, TLS, the log, metrics, the note in the store.
usage: test_ops.py BIN_DIR SOURCE_DIR [WORD]        WORD: only the tests with it in their names"""
import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

BIN, SRC = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
ONLY = sys.argv[3] if len(sys.argv) > 3 else ""
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import prometheus  # noqa: E402

MLXSERVE, MLXCTL = os.path.join(BIN, "mlxserve"), os.path.join(BIN, "mlxctl")
TMP = tempfile.mkdtemp(prefix="ops-")
passed, failed, skipped = 0, 0, []
n_dirs = 0

BASE = {k: v for k, v in os.environ.items()
        if not re.match(r"(MLXR_|MLXSERVE_|OLLAMA_|HF_|NOTIFY_|LISTEN_|.*proxy$)", k, re.I)}


def check(name, condition, detail=""):
    global passed, failed
    if condition:
        passed += 1
    else:
        failed += 1
        print("FAIL", name, detail, flush=True)
    return condition


def folder():
    global n_dirs
    n_dirs += 1
    path = os.path.join(TMP, "d%d" % n_dirs)
    os.makedirs(path)
    return path


def environment(home, env=None):
    e = dict(BASE, HOME=home, LC_ALL="C.UTF-8")
    e.update(env or {})
    return e


def config(*args, env=None, home=None, program=(MLXSERVE,)):
    """mlxserve --check-config: (exit code, settings, standard error)."""
    r = subprocess.run([*program, "--check-config", "--json", *args], env=environment(home or TMP, env), stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True, timeout=60, stdin=subprocess.DEVNULL)
    return r.returncode, json.loads(r.stdout) if r.stdout.strip() else None, r.stderr


class Serve:
    """One mlxserve with the mock, at any free port; its store is self.store."""

    def __init__(self, *args, env=None, store=None, program=(MLXSERVE,), place=("--host", "127.0.0.1", "--port", "0"),
                 runner=("--runner", "mock"), wait=30, **kw):
        self.home = folder()
        self.store = store or os.path.join(self.home, "store")
        self.err = open(os.path.join(self.home, "stderr"), "w+b")
        self.env = environment(self.home, env)
        self.start = time.monotonic()
        self.p = subprocess.Popen([*program, *place, *runner, "--store", self.store, *map(str, args)], env=self.env, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=self.err, **kw)
        self.url = None
        end = time.monotonic() + wait
        while time.monotonic() < end and not self.url:
            m = re.search(r"listens at (\S+)", self.text())
            self.url = m and m[1]
            if not self.url and self.p.poll() is not None:
                break
            time.sleep(0.005)
        m = self.url and re.match(r"(https?)://\[?([^\]/]*)\]?:(\d+)$", self.url)
        self.host, self.port = (m[2], int(m[3])) if m else (None, None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.p.poll() is None:
            self.p.kill()
        self.p.wait()
        self.err.close()
        report = re.search(r"(Sanitizer|runtime error: |Assertion .* failed)", self.text())
        if report:
            check("no report of a sanitizer", False, self.text()[-3000:])

    def text(self):
        with open(os.path.join(self.home, "stderr"), encoding="utf-8", errors="replace") as f:
            return f.read()

    def ask(self, method, path, body=None, headers=None, timeout=30):
        c = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            c.request(method, path, json.dumps(body) if body is not None else None, headers or {})
            r = c.getresponse()
            return r.status, r.read().decode(), r
        finally:
            c.close()

    def get(self, path, **kw):
        return self.ask("GET", path, **kw)

    def generate(self, text="one two three", headers=None, **more):
        return self.ask("POST", "/api/generate", {"model": "m", "prompt": text, "stream": False, **more}, headers)

    def metrics(self):
        return prometheus.parse(self.get("/metrics")[1])

    def end(self, sig=signal.SIGTERM, wait=20):
        self.p.send_signal(sig)
        try:
            return self.p.wait(wait)
        except subprocess.TimeoutExpired:
            return None


def wait_until(true, seconds=10):
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def write(path, text, mode=0o600):
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, mode)
    return path


# ---- settings ----

# name: (a word that is given, what it becomes; another one; a wrong one)
VALUES = {
    "host": ("127.0.0.2", "127.0.0.2", "127.0.0.3", None),
    "port": ("8123", 8123, "8124", "70000"),
    "api-key-file": ("@KEYS", "@KEYS", "@KEYS2", None),
    "origins": ("https://a.example", ["https://a.example"], "https://b.example", None),
    "max-body": ("2M", 2 << 20, "1GiB", "lots"),
    "max-connections": ("77", 77, "78", "0"),
    "idle-timeout": ("90s", "90s", "2m", "never"),
    "heartbeat": ("1.5s", "1.5s", "0", "-5s"),
    "http-threads": ("2", 2, "3", "two"),
    "runner": ("mock", "mock", "local", "magic"),
    "mock-token-ms": ("5", 5, "6", "-1"),
    "model-paths-json": ("paths.json", "paths.json", "more.json", None),
    "device": ("ref", "ref", "mlx:cpu", "tpu"),
    "isa": ("avx2", "avx2", "baseline", None),
    "precision": ("exact", "exact", "fast", "sloppy"),
    "kv": ("int8", "int8", "f32", "int3"),
    "threads": ("3", 3, "4", "3.5"),
    "context-length": ("2048", 2048, "4096", "-4"),
    "parallel": ("5", 5, "6", "5x"),
    "kv-memory": ("100M", 100 << 20, "1.5G", "1Q"),
    "prefix-cache": ("0", 0, "1K", "-1"),
    "max-models": ("2", 2, "4", ""),
    "max-memory": ("8GiB", 8 << 30, "4 GB", "0x10"),
    "max-queue": ("7", 7, "8", "0"),
    "load-timeout": ("1m30s", "90s", "0", "soon"),
    "keep-alive": ("1h", "3600s", "-1", "an hour"),
    "drain-timeout": ("250ms", "0.25s", "7", "25h"),
    "pull-tries": ("2", 2, "3", "0"),
    "preload": ("a", ["a"], "b", None),
    "log": ("x.log", "x.log", "-", None),
    "log-level": ("debug", "debug", "warn", "shout"),
    "no-auth": (None, True, None, "perhaps"),
    "strict": (None, True, None, "perhaps"),
    "log-bodies": (None, True, None, "2"),
    "tls-cert": (None, None, None, None),
    "tls-key": (None, None, None, None),
}
SECOND = {"OLLAMA_HOST": ("host", "10.0.0.1:99"), "OLLAMA_ORIGINS": ("origins", "https://c.example,app://*"),
          "OLLAMA_CONTEXT_LENGTH": ("context-length", "1024"), "OLLAMA_NUM_PARALLEL": ("parallel", "9"),
          "OLLAMA_MAX_LOADED_MODELS": ("max-models", "6"), "OLLAMA_MAX_QUEUE": ("max-queue", "44"),
          "OLLAMA_LOAD_TIMEOUT": ("load-timeout", "45"), "OLLAMA_KEEP_ALIVE": ("keep-alive", "-1"), "OLLAMA_DEBUG": ("log-level", "1"),
          "MLXR_CPU": ("isa", "avx2")}


def variable(name):
    return "MLXSERVE_" + name.upper().replace("-", "_")


def test_settings():
    keys = write(os.path.join(TMP, "keys"), "secret-one-123456\n")
    keys2 = write(os.path.join(TMP, "keys2"), "secret-two-123456\n")
    place = os.path.join(TMP, "set.yaml")

    def fill(word):
        return word.replace("@KEYS2", keys2).replace("@KEYS", keys) if isinstance(word, str) else word

    code, default, err = config("--store", TMP)
    check("defaults", code == 0 and err == "", err)
    names = set(default) - {"file", "store"}
    check("every setting is tested", names == set(VALUES), sorted(names ^ set(VALUES)))
    check("defaults come from there", {default[n]["from"] for n in names} == {"default"})
    for name, (word, value, other, wrong) in VALUES.items():
        word, value, other = fill(word), fill(value), fill(other)
        if name.startswith("tls"):
            continue
        flag = word is None
        # By option.
        args = ["--" + name] + ([] if flag else [word])
        code, c, err = config("--store", TMP, *args)
        check("option " + name, code == 0 and c[name] == {"value": value, "from": "--" + name}, (c and c[name], err))
        # By variable, which the option beats.
        code, c, err = config("--store", TMP, env={variable(name): word or "1"})
        check("variable " + name, code == 0 and c[name] == {"value": value, "from": variable(name)}, (c and c[name], err))
        # By file, which variable and option beat.
        write(place, "# a comment\n%s: %s\n" % (name, "true" if flag else json.dumps(word)))
        code, c, err = config("--store", TMP, "--config", place)
        check("file " + name, code == 0 and c[name] == {"value": value, "from": place + ":2"}, (c and c[name], err))
        if not flag:
            code, c, err = config("--store", TMP, "--config", place, env={variable(name): other})
            check("variable beats file: " + name, code == 0 and c[name]["from"] == variable(name) and c[name]["value"] != value, err)
            code, c, err = config("--store", TMP, *args, "--config", place, env={variable(name): other})
            check("option beats all: " + name, code == 0 and c[name] == {"value": value, "from": "--" + name}, err)
        else:
            code, c, err = config("--store", TMP, "--config", place, env={variable(name): "0"})
            check("variable beats file: " + name, code == 0 and c[name] == {"value": False, "from": variable(name)}, err)
        # And what is wrong.
        if wrong is not None:
            if not flag:
                code, c, err = config("--store", TMP, "--" + name, wrong)
                check("wrong option " + name, code == 2 and "--" + name in err and c is None, (code, err))
            if wrong:
                code, c, err = config("--store", TMP, env={variable(name): wrong})
                check("wrong variable " + name, code == 1 and variable(name) in err and wrong in err, (code, err))
            write(place, "# first\n%s: %s\n" % (name, json.dumps(wrong)))
            code, c, err = config("--store", TMP, "--config", place)
            check("wrong in the file: " + name, code == 1 and "%s:2: %s" % (place, name) in err and err.count("\n") == 1, (code, err))
    for name, (setting, word) in SECOND.items():
        extra = ["--no-auth"] if name == "OLLAMA_HOST" else []
        code, c, err = config("--store", TMP, *extra, env={name: word})
        check("second name " + name, code == 0 and c[setting]["from"] == name, (c and c[setting], err))
        if setting in ("host", "log-level"):
            continue
        code, c, err = config("--store", TMP, *extra, env={name: word, variable(setting): VALUES[setting][0]})
        check("first name beats " + name, code == 0 and c[setting]["from"] == variable(setting), err)
    code, c, err = config("--store", TMP, env={"MLXSERVE_KEEP_ALIVE": "  '1h' "})
    check("spaces and quotes around a variable", code == 0 and c["keep-alive"]["value"] == "3600s", err)
    code, c, err = config("--store", TMP, env={"MLXSERVE_KEEP_ALIVE": ""})
    check("an empty variable is none", code == 0 and c["keep-alive"]["from"] == "default", err)
    code, c, err = config("--store", TMP, env={"MLXSERVE_KEEPALIVE": "1h"})
    check("a variable that is none is told", code == 0 and "MLXSERVE_KEEP_ALIVE?" in err, err)


def test_file():
    store = folder()
    place = os.path.join(store, "mlxserve.yaml")
    write(place, "port: 9001\norigins: [a, 'b c']\npreload:\n  - one\n  - two\n")
    code, c, err = config("--store", store)
    check("the store's file", code == 0 and c["file"] == place and c["port"]["value"] == 9001 and c["origins"]["value"] == ["a", "b c"]
          and c["preload"]["value"] == ["one", "two"], (c, err))
    code, c, err = config(env={"MLXR_HOME": store})
    check("of MLXR_HOME", code == 0 and c["port"]["value"] == 9001 and c["store"] == {"value": store, "from": "MLXR_HOME"}, err)
    other = write(os.path.join(store, "o.yaml"), "store: /somewhere/else\nport: 9002\n")
    code, c, err = config("--config", other)
    check("the file names the store", code == 0 and c["store"] == {"value": "/somewhere/else", "from": other + ":1"}, (c, err))
    code, c, err = config("--config", other, "--store", store)
    check("--store beats it", code == 0 and c["store"] == {"value": store, "from": "--store"} and c["port"]["value"] == 9002, err)
    code, c, err = config(env={"MLXSERVE_CONFIG": other})
    check("MLXSERVE_CONFIG", code == 0 and c["file"] == other, err)
    for text, word in [("prot: 1\n", 'o.yaml:1: there is no setting "prot"; is it "port"?'), ("port: 1\nmax_body: 1M\n", '"max-body"'),
                       ("port: [1, 2]\n", "o.yaml:1: port"), ("- port\n", "wants"), ("port: 1\nport: 2\n", "port"), ("port: {a: 1}\n", "o.yaml:1: port"),
                       ("origins: [[a]]\n", "origins"), ("port: 80: 90\n", "o.yaml:1"), ("\x01", "o.yaml"), ("zzzzzzzzzzz: 1\n", "no setting")]:
        write(other, text)
        code, c, err = config("--config", other)
        check("wrong file: %r" % text, code == 1 and word in err and err.count("\n") == 1 and c is None, (code, err))
    code, c, err = config("--config", os.path.join(store, "absent.yaml"))
    check("a file that is named has to be there", code == 1 and "absent.yaml" in err, err)
    write(other, "")
    check("an empty file", config("--config", other)[0] == 0)
    # What is printed for people is a config file of the same meaning.
    r = subprocess.run([MLXSERVE, "--check-config", "--store", store], env=environment(TMP), stdout=subprocess.PIPE, text=True)
    write(other, r.stdout)
    code, c, err = config("--config", other)
    check("the printed settings are a config file", code == 0 and c["port"]["value"] == 9001 and c["preload"]["value"] == ["one", "two"]
          and c["keep-alive"]["value"] == "300s", (code, err))
    # mlxctl serve is the same.
    code, c, err = config("--store", store, program=(MLXCTL, "serve"))
    check("mlxctl serve", code == 0 and c["port"]["value"] == 9001, err)


HOSTS = [("127.0.0.1", 0), ("127.0.0.1:77", 0), (":8080", 0), ("[::1]:80", 0), ("::1", 0), ("localhost", 0), ("http://127.0.0.1:9", 0),
         ("http://127.0.0.1", 0), ("unix:/x/y", 0), ("unix:///x/y", 0),
         ("0.0.0.0", 1), ("[::]:1", 1), ("0.0.0.0:1", 1), ("10.1.2.3", 1), ("http://0.0.0.0", 1),
         ("unix:", 1), ("https://127.0.0.1", 1), ("127.0.0.1:70000", 1), ("127.0.0.1:x", 1), ("a b", 1), ("[::1", 1), ("ftp://x", 1),
         ("127.0.0.1/path", 1)]


def test_hosts():
    for host, wanted in HOSTS:
        code, c, err = config("--store", TMP, "--host", host)
        check("host " + host, code == wanted and (code == 0 or err.count("\n") == 1), (code, err))
    for host in ("0.0.0.0", "[::]:1"):
        code, c, err = config("--store", TMP, "--host", host)
        check("beyond loopback wants keys: " + host, code == 1 and "--api-key-file" in err and "--no-auth" in err, err)
        code, c, err = config("--store", TMP, "--host", host, "--no-auth")
        check("or --no-auth: " + host, code == 0, err)
    code, c, err = config("--store", TMP, "--host", "127.0.0.1:80", "--port", "81")
    check("two ports", code == 1 and "80" in err and "81" in err, err)
    with Serve(place=("--host", "0.0.0.0", "--port", "0")) as s:
        check("it refuses to listen without keys", s.p.wait(10) == 1 and "--api-key-file" in s.text() and not s.url, s.text())
    with Serve(place=("--port", "0"), env={"OLLAMA_HOST": "127.0.0.1:1"}) as s:
        check("the option's port counts, not the variable's", s.url and s.port != 1, s.text())
    with Serve("--no-auth", place=("--host", "0.0.0.0:0", "--port", "0")) as s:
        check("with --no-auth it listens everywhere", s.url and s.host == "127.0.0.1" and s.get("/api/version")[0] == 200, s.text())
    try:
        socket.socket(socket.AF_INET6).bind(("::1", 0))
    except OSError:
        skipped.append("IPv6: this machine has none")
        return
    with Serve(place=("--host", "[::1]:0", "--port", "0")) as s:
        check("IPv6", s.url and s.url.startswith("http://[::1]:") and s.get("/api/version")[0] == 200, s.text())


# ---- keys ----

def test_keys():
    keys = write(os.path.join(folder(), "keys"), "# those of the house\n\nfirst-key-0123456789\n  second-key-0123456789  \n")
    with Serve("--api-key-file", keys, "--log", os.path.join(TMP, "keys.log")) as s:
        check("no key: 401", s.get("/api/version")[0] == 401)
        for headers in ({"Authorization": "Bearer first-key-0123456789"}, {"Authorization": "bearer second-key-0123456789"},
                        {"x-api-key": "first-key-0123456789"}):
            check("key %s" % headers, s.get("/api/version", headers=headers)[0] == 200)
        for headers in ({"Authorization": "Bearer first-key"}, {"Authorization": "Basic first-key-0123456789"}, {"x-api-key": ""},
                        {"x-api-key": "# those of the house"}, {"Authorization": "Bearer first-key-01234567890"}):
            check("wrong key %s" % headers, s.get("/api/version", headers=headers)[0] == 401)
        shapes = {"/api/chat": lambda d: isinstance(d["error"], str),
                  "/v1/chat/completions": lambda d: isinstance(d["error"]["message"], str) and "type" in d["error"],
                  "/v1/messages": lambda d: d["type"] == "error" and d["error"]["type"] == "authentication_error"}
        for path, right in shapes.items():
            status, body, _ = s.ask("POST", path, {"model": "m"})
            try:
                ok = status == 401 and right(json.loads(body))
            except (ValueError, KeyError, TypeError):
                ok = False
            check("401 in the way of " + path, ok, body)
        # Changed while it runs.
        write(keys, "third-key-0123456789\n")
        s.p.send_signal(signal.SIGHUP)
        check("SIGHUP: the new key counts", wait_until(
            lambda: s.get("/api/version", headers={"x-api-key": "third-key-0123456789"})[0] == 200))
        check("SIGHUP: the old ones do not", s.get("/api/version", headers={"x-api-key": "first-key-0123456789"})[0] == 401)
        write(keys, "\n# nothing\n")
        s.p.send_signal(signal.SIGHUP)
        check("SIGHUP: bad keys are told", wait_until(lambda: "there is no key in it" in s.text()), s.text())
        check("and leave those that were", s.get("/api/version", headers={"x-api-key": "third-key-0123456789"})[0] == 200)
        # mlxctl gives the key of the environment.
        ps = [MLXCTL, "--store", s.store, "ps"]
        check("mlxctl without the key", subprocess.run(ps, env=s.env, capture_output=True).returncode == 1)
        check("mlxctl with it", subprocess.run(ps, env=dict(s.env, MLXSERVE_API_KEY="third-key-0123456789"), capture_output=True).returncode == 0)
    for mode, text, word in ((0o644, "long-enough-key\n", "chmod 600"), (0o620, "long-enough-key\n", "change"), (0o600, "", "no key"),
                             (0o600, "two words\n", ":1:"), (0o600, "k\x00k\n", "NUL"), (0o600, "schlüssel\n", "ASCII")):
        write(keys, text, mode)
        code, c, err = config("--store", TMP, "--api-key-file", keys)
        check("key file, mode %o %r" % (mode, text), code == 1 and word in err and err.count("\n") == 1, err)
    code, c, err = config("--store", TMP, "--api-key-file", keys + ".absent")
    check("key file that is not there", code == 1 and "absent" in err, err)
    write(keys, "some-key-0123456789\n")
    code, c, err = config("--store", TMP, "--api-key-file", keys, "--no-auth")
    check("keys and --no-auth", code == 1, err)


# ---- TLS, sockets ----

def test_tls():
    if not shutil.which("openssl"):
        skipped.append("TLS: openssl is not here")
        return
    d = folder()
    cert, key, key2 = (os.path.join(d, n) for n in ("cert.pem", "key.pem", "key2.pem"))
    for k, c in ((key, cert), (key2, os.path.join(d, "cert2.pem"))):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                        "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", k, "-out", c], check=True,
                       capture_output=True)
    with Serve("--tls-cert", cert, "--tls-key", key) as s:
        if not check("TLS: it listens", s.url and s.url.startswith("https://"), s.text()):
            return
        context = ssl.create_default_context(cafile=cert)
        c = http.client.HTTPSConnection("127.0.0.1", s.port, context=context, timeout=20)
        c.request("POST", "/api/generate", json.dumps({"model": "m", "prompt": "a b c"}))
        r = c.getresponse()
        lines = [json.loads(x) for x in r.read().decode().splitlines()]
        check("TLS: a stream, with the certificate checked", r.status == 200 and lines[-1]["done"], lines[-1:])
        c.close()
        try:
            plain = s.get("/api/version", timeout=5)[0]
        except (OSError, http.client.HTTPException):
            plain = None
        check("TLS: plain HTTP gets no answer of the API", plain != 200, plain)
        with socket.create_connection(("127.0.0.1", s.port)) as raw:
            raw.sendall(b"\x16\x03\x01\x02\x00garbage" * 20)
        check("TLS: it lives after garbage", s.p.poll() is None)
    for args, word in ((("--tls-cert", cert), "--tls-key"), (("--tls-key", key), "--tls-cert"),
                       (("--tls-cert", cert, "--tls-key", os.path.join(d, "absent")), "absent"),
                       (("--tls-cert", key, "--tls-key", cert), "PEM"), (("--tls-cert", cert, "--tls-key", key2), "belong")):
        with Serve(*args) as s:
            check("TLS: %s" % (args[-1][-8:],), s.p.wait(10) == 1 and word in s.text() and not s.url, s.text())


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=20)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self.path)


def test_unix():
    path = os.path.join(folder(), "socket")

    def version():
        c = UnixConnection(path)
        c.request("GET", "/api/version")
        return c.getresponse().status

    with Serve(place=("--host", "unix:" + path)) as s:
        check("a Unix socket", s.url == "unix:" + path and version() == 200, s.text())
        r = subprocess.run([MLXCTL, "--store", s.store, "ps"], env=s.env, capture_output=True, text=True)
        check("a Unix socket: mlxctl finds it", r.returncode == 0, r.stderr)
        with Serve(place=("--host", "unix:" + path)) as other:
            check("a Unix socket: a second one says so", other.p.wait(10) == 1 and "in use" in other.text() and "mlxserve" in other.text(),
                  other.text())
        check("a Unix socket: the first goes on", version() == 200)
        s.p.kill()
        s.p.wait()
        check("a Unix socket: it is left by kill -9", os.path.exists(path))
    with Serve(place=("--host", "unix:" + path)) as s:
        check("a Unix socket: and taken over", s.url == "unix:" + path and version() == 200, s.text())
        check("a Unix socket: SIGTERM", s.end() == 0)
        check("a Unix socket: it is gone", not os.path.exists(path))


def test_manager():
    """systemd's two protocols."""
    d = folder()
    notify = os.path.join(d, "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told, socket.socket() as listener:
        told.bind(notify)
        told.settimeout(10)
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        os.set_inheritable(listener.fileno(), True)
        # The shell puts the socket at number 3 and its own pid, which is the daemon's after exec, into the environment.
        shell = "exec 3<&%d; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"" % listener.fileno()
        with Serve(env={"NOTIFY_SOCKET": notify}, program=("bash", "-c", shell, MLXSERVE), close_fds=False) as s:
            check("a socket that is given", s.port == port and s.get("/api/version")[0] == 200, s.text())
            check("READY=1 is told", told.recv(200) == b"READY=1")
            s.p.send_signal(signal.SIGHUP)
            first = told.recv(200)
            check("RELOADING=1, then READY=1", first.startswith(b"RELOADING=1") and told.recv(200) == b"READY=1", first)
            check("SIGTERM: 0", s.end() == 0)
            check("STOPPING=1 is told", told.recv(200) == b"STOPPING=1")


# ---- life ----

def test_start():
    times = []
    for i in range(7):
        port = None
        with socket.socket() as x:
            x.bind(("127.0.0.1", 0))
            port = x.getsockname()[1]
        home = folder()
        begin = time.perf_counter()
        p = subprocess.Popen([MLXSERVE, "--host", "127.0.0.1", "--port", str(port), "--store", os.path.join(home, "store")],
                             env=environment(home), stderr=subprocess.DEVNULL)
        while True:
            try:
                c = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                c.request("GET", "/api/health")
                c.getresponse().read()
                break
            except OSError:
                time.sleep(0.0005)
            if time.perf_counter() - begin > 20:
                break
        times.append((time.perf_counter() - begin) * 1000)
        p.terminate()
        code = p.wait(20)
        check("start and end", code == 0, code)
    times.sort()
    print("from exec to the first /api/health: median %.1f ms, best %.1f ms (wanted: 50 ms)" % (times[len(times) // 2], times[0]))
    with Serve(runner=()) as s:
        first = s.text().splitlines()[0]
        check("the first line", re.fullmatch(r"mlxserve: listens at http://127\.0\.0\.1:\d+ \(version \S+, cpu, 0 models in .*/store\)", first),
              first)
        version = json.loads(s.get("/api/health")[1])["version"]
        check("with its version", "version %s," % version in first)


def stream(s, tokens, got, done):
    """Reads a stream to its end, line by line."""
    c = http.client.HTTPConnection(s.host, s.port, timeout=60)
    try:
        c.request("POST", "/api/generate", json.dumps({"model": "m", "prompt": " ".join("w%d" % i for i in range(tokens))}))
        r = c.getresponse()
        for line in r:
            got.append(json.loads(line))
    except (OSError, http.client.HTTPException) as e:
        got.append(e)
    finally:
        c.close()
        done.set()


def test_drain():
    with Serve("--mock-token-ms", 30) as s:
        got, done = [], threading.Event()
        threading.Thread(target=stream, args=(s, 40, got, done), daemon=True).start()
        check("drain: the stream runs", wait_until(lambda: len(got) > 3))
        idle = http.client.HTTPConnection(s.host, s.port, timeout=20)
        idle.request("GET", "/api/version")
        idle.getresponse().read()
        s.p.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        try:
            socket.create_connection((s.host, s.port), timeout=2).close()
            refused = False
        except OSError:
            refused = True
        check("drain: no new connections", refused)
        check("drain: the stream ends whole", done.wait(20) and isinstance(got[-1], dict) and got[-1].get("done") is True, got[-1:])
        check("drain: exit code 0", s.p.wait(20) == 0, s.text())
        check("drain: the note is gone", not os.path.exists(os.path.join(s.store, "daemon.json")))
        idle.close()
    with Serve("--mock-token-ms", 200) as s:
        got, done = [], threading.Event()
        threading.Thread(target=stream, args=(s, 300, got, done), daemon=True).start()
        wait_until(lambda: len(got) > 2)
        begin = time.monotonic()
        s.p.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        check("drain: it waits", s.p.poll() is None)
        s.p.send_signal(signal.SIGTERM)
        code = s.p.wait(10)
        check("a second signal ends it at once", code == 128 + signal.SIGTERM and time.monotonic() - begin < 3, code)
        check("and its note is gone", not os.path.exists(os.path.join(s.store, "daemon.json")))
    with Serve("--mock-token-ms", 200, "--drain-timeout", "300ms") as s:
        got, done = [], threading.Event()
        threading.Thread(target=stream, args=(s, 300, got, done), daemon=True).start()
        wait_until(lambda: len(got) > 2)
        begin = time.monotonic()
        check("drain-timeout: it ends", s.end() == 0 and time.monotonic() - begin < 5)
        check("drain-timeout: and says what it cut off", "cut off" in s.text(), s.text())
    with Serve() as s:
        check("SIGINT ends it too", s.end(signal.SIGINT) == 0)


def test_note():
    with Serve() as s:
        note = os.path.join(s.store, "daemon.json")
        with open(note) as f:
            doc = json.load(f)
        check("daemon.json", doc["url"] == s.url and doc["pid"] == s.p.pid and doc["version"], doc)
        check("nothing else in the store", sorted(os.listdir(s.store)) == ["daemon.json"], os.listdir(s.store))

        def ctl(*args):
            return subprocess.run([MLXCTL, "--store", s.store, *args], env=s.env, capture_output=True, text=True, timeout=60)

        s.generate()
        r = ctl("ps")
        check("mlxctl ps finds it", r.returncode == 0 and re.search(r"^m(:latest)? ", r.stdout, re.M), (r.stdout, r.stderr))
        r = ctl("run", "m", "hello there", "--host", s.url)
        check("mlxctl run", r.returncode == 0 and "hello there" in r.stdout, (r.stdout, r.stderr))
        r = ctl("stop", "m")
        check("mlxctl stop", r.returncode == 0, (r.stdout, r.stderr))
        with Serve(store=s.store) as other:
            check("a second one on the same store runs", other.url and other.get("/api/version")[0] == 200, other.text())
            check("and says that it is not found", wait_until(lambda: "another daemon serves" in other.text()) and s.url in other.text(), other.text())
            other.end()
        with open(note) as f:
            check("the note stays the first's", json.load(f)["url"] == s.url)
        with Serve(place=("--host", s.host, "--port", str(s.port))) as other:
            check("the address is taken: it says by whom", other.p.wait(20) == 1 and "in use" in other.text() and "mlxserve" in other.text().split(":", 1)[1],
                  other.text())
        s.p.kill()
        s.p.wait()
        check("kill -9 leaves the note", os.path.exists(note))
        check("which mlxctl passes over", "no daemon serves" in ctl("ps").stderr)
        with Serve(store=s.store) as again:
            check("and the next one takes over", again.url and "another daemon" not in again.text() and ctl("ps").returncode == 0, again.text())
            check("SIGTERM removes it", again.end() == 0 and not os.path.exists(note))
    with socket.socket() as x:
        x.bind(("127.0.0.1", 0))
        x.listen()
        with Serve(place=("--host", "127.0.0.1:%d" % x.getsockname()[1],)) as s:
            # What listens there says nothing: the error comes all the same.
            check("the address is taken by something mute", s.p.wait(60) == 1 and "in use" in s.text(), s.text())
    if os.geteuid() != 0:
        d = folder()
        os.chmod(d, 0o500)
        with Serve(store=os.path.join(d, "store")) as s:
            check("a store that cannot be written: it runs, unregistered", s.url and wait_until(lambda: "warning" in s.text()), s.text())


def test_preload():
    with Serve("--preload", "one", "--preload", "two") as s:
        names = []

        def loaded():
            names[:] = [m["name"] for m in json.loads(s.get("/api/ps")[1])["models"]]
            return len(names) == 2
        check("preload", wait_until(loaded), names)


# ---- the log ----

def lines_of(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(x) for x in f.read().splitlines()]


def test_log():
    d = folder()
    log = os.path.join(d, "log")
    with Serve("--log", log, "--mock-token-ms", 1) as s:
        s.generate("ein Wort mit \" und \\ und ü")
        s.get("/api/nope")
        s.ask("POST", "/api/generate", {"model": "m", "prompt": "x", "options": 3})
        s.ask("POST", "/api/generate", {"model": "m\u202e\n\"x", "prompt": "y", "stream": False})
        c = http.client.HTTPConnection(s.host, s.port, timeout=20)
        c.request("POST", "/api/generate", json.dumps({"model": "m", "prompt": " ".join("w" * 1000)}))
        c.getresponse().read(100)
        c.sock.shutdown(socket.SHUT_RDWR)
        c.close()
        check("log: all requests are in it", wait_until(lambda: sum(x["event"] == "request" for x in lines_of(log)) >= 5
                                                         and any(x.get("prompt_tokens", 0) > 3 and x["status"] == 200 and x["complete"] for x in lines_of(log) if x["event"] == "request")), lines_of(log))
        check("log: mode 600", os.stat(log).st_mode & 0o777 == 0o600)
        requests = [x for x in lines_of(log) if x["event"] == "request"]
        one = ([x for x in requests if x.get("prompt_tokens", 0) > 3 and x["status"] == 200 and x["complete"]] or [{}])[0]
        check("log: of an answer", one.get("status") == 200 and one["method"] == "POST" and one["path"] == "/api/generate" and one["model"] == "m"
              and one["stream"] is False and one["prompt_tokens"] > 0 and one["generated_tokens"] > 0 and one["cached_tokens"] == 0
              and one["done_reason"] == "stop" and one["bytes"] > 10 and one["complete"] is True and one["total_ms"] > 0
              and one["first_token_ms"] > 0 and re.fullmatch(r"req_[0-9a-f]{24}", one["id"]) and one["level"] == "info", one)
        check("log: the client", re.fullmatch(r"127\.0\.0\.1:\d+", one["client"]), one)
        check("log: the time", re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", one["time"]), one)
        check("log: no prompt", "Wort" not in open(log, encoding="utf-8").read())
        check("log: 404", any(x["path"] == "/api/nope" and x["status"] == 404 and "model" not in x for x in requests))
        check("log: 400 with its error", any(x["status"] == 400 and x.get("error") for x in requests), requests)
        check("log: one that left", any(x["complete"] is False for x in requests), requests)
        # The id is the one the client got.
        status, _, r = s.get("/api/version")
        rid = r.headers["X-Request-Id"]
        check("log: the id of the answer", wait_until(lambda: any(x.get("id") == rid for x in lines_of(log))), rid)
        # Moved away as logrotate does.
        os.rename(log, log + ".1")
        s.get("/api/version")
        s.p.send_signal(signal.SIGHUP)
        check("SIGHUP: a new file", wait_until(lambda: os.path.exists(log)))
        s.get("/api/tags")
        check("SIGHUP: which is written to", wait_until(lambda: any(x.get("path") == "/api/tags" for x in lines_of(log))))
        lost = s.metrics()
        check("log: nothing lost", prometheus.value(lost, "mlxr_log_lines_lost_total") == 0)
        shutil.rmtree(d)
        s.p.send_signal(signal.SIGHUP)
        check("SIGHUP: the folder is gone: told, and it goes on", wait_until(lambda: s.get("/api/version")[0] == 200) and s.end() == 0)
    log = os.path.join(folder(), "log")
    with Serve("--log", log, "--log-bodies") as s:
        s.generate("geheim")
        s.ask("POST", "/api/generate", {"model": "m", "prompt": "strömt"})
        wait_until(lambda: len([x for x in lines_of(log) if x["event"] == "request"]) == 2)
        a, b = sorted((x for x in lines_of(log) if x["event"] == "request"), key=lambda x: x["stream"])
        check("bodies: asked and answered", json.loads(a["request"])["prompt"] == "geheim" and "geheim" in json.loads(a["answer"])["response"], a)
        check("bodies: of a stream", json.loads(b["answer"].splitlines()[-1])["done"] is True, b)
    with Serve("--log", "-") as s:
        s.get("/api/version")
        check("on standard error", wait_until(lambda: '"path":"/api/version"' in s.text()), s.text())
    with Serve() as s:
        s.get("/api/version")
        time.sleep(0.2)
        check("no log unless asked", len(s.text().splitlines()) == 1, s.text())
    with Serve("--log", "/nowhere/at/all") as s:
        check("a log that cannot be opened", s.p.wait(10) == 1 and "/nowhere/at/all" in s.text(), s.text())


def test_terminal():
    import pty
    parent, child = pty.openpty()
    home = folder()
    p = subprocess.Popen([MLXSERVE, "--host", "127.0.0.1", "--port", "0", "--runner", "mock", "--store", home], env=environment(home),
                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=child)
    os.close(child)
    text, got = b"", threading.Event()

    def read():
        nonlocal text
        while True:
            try:
                piece = os.read(parent, 4096)
            except OSError:
                return
            if not piece:
                return
            text += piece

    threading.Thread(target=read, daemon=True).start()
    try:
        check("terminal: it listens", wait_until(lambda: b"listens at" in text))
        port = int(re.search(rb"127\.0\.0\.1:(\d+)", text)[1])
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        c.request("POST", "/api/generate", json.dumps({"model": "m", "prompt": "a b", "stream": False}))
        c.getresponse().read()
        c.request("GET", "/api/%1b[31m%0d")
        c.getresponse().read()
        c.close()
        check("terminal: lines for people", wait_until(lambda: b"200 POST /api/generate" in text and b"404 GET /api/?" in text), text)
        check("terminal: nothing speaks to it", b"\x1b" not in text, text)
        p.terminate()
        check("terminal: ends", p.wait(20) == 0)
    finally:
        if p.poll() is None:
            p.kill()
        os.close(parent)


def test_full_disk():
    if os.path.exists("/dev/full"):
        with Serve("--log", "/dev/full") as s:
            for _ in range(20):
                if s.generate()[0] != 200:
                    break
            check("/dev/full: it answers", s.generate()[0] == 200)
            check("/dev/full: lines are counted as lost", wait_until(lambda: prometheus.value(s.metrics(), "mlxr_log_lines_lost_total") >= 20))
            check("/dev/full: it ends", s.end() == 0)
    else:
        skipped.append("full disk: there is no /dev/full")
    # A limit on the size of files stands for a disk that gets full, and emptying the file for room.
    log = os.path.join(folder(), "log")

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    with Serve("--log", log, preexec_fn=limit) as s:
        for _ in range(60):
            s.get("/api/version")
        check("full: lines are counted as lost", wait_until(lambda: prometheus.value(s.metrics(), "mlxr_log_lines_lost_total") > 10))
        check("full: it answers", s.generate()[0] == 200)
        check("full: what is there are whole lines", all(x["event"] for x in lines_of(log)))
        os.truncate(log, 0)
        s.get("/api/tags")
        check("full: with room again the loss is told", wait_until(lambda: any(x["event"] == "lost" and x["lines"] > 10 for x in lines_of(log))),
              lines_of(log))
        check("full: and lines are whole", wait_until(lambda: any(x.get("path") == "/api/tags" for x in lines_of(log))))
        check("full: it ends", s.end() == 0)
    # A reader of standard error that does not read.
    parent, child = os.pipe()
    home = folder()
    p = subprocess.Popen([MLXSERVE, "--host", "127.0.0.1", "--port", "0", "--runner", "mock", "--store", home, "--log", "-"],
                         env=environment(home), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=child)
    os.close(child)
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(parent, 1)
    port = int(re.search(rb"127\.0\.0\.1:(\d+)", line)[1])
    ok = 0
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for _ in range(1000):
        c.request("GET", "/api/version")
        ok += c.getresponse().read() is not None
    c.close()
    check("a pipe nobody reads: all is answered", ok == 1000)
    p.terminate()
    try:
        code = p.wait(15)
    except subprocess.TimeoutExpired:
        code = None
        p.kill()
    check("a pipe nobody reads: it ends", code == 0, code)
    os.close(parent)


# ---- metrics ----

def test_metrics():
    with Serve() as s:
        status, text, r = s.get("/metrics")
        check("metrics: type", status == 200 and r.headers["Content-Type"].startswith("text/plain; version=0.0.4"), r.headers["Content-Type"])
        try:
            before = prometheus.parse(text)
        except prometheus.Malformed as e:
            check("metrics: well formed", False, e)
            return
        check("metrics: nothing happened yet", prometheus.value(before, "mlxr_requests_total") == 0
              and prometheus.value(before, "mlxr_models_loaded") == 0)
        for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds"):
            check("metrics: " + name, prometheus.value(before, name) > 0 or name == "process_cpu_seconds_total")
        check("metrics: build", prometheus.value(before, "mlxr_build_info") == 1)
        check("metrics: start", abs(prometheus.value(before, "process_start_time_seconds") - time.time()) < 120)
        answers = [json.loads(s.generate("one two three four")[1]) for _ in range(3)]
        stats = json.loads(s.ask("POST", "/api/generate", {"model": "m2", "prompt": "a b", "stream": False})[1])
        s.get("/api/nope")
        s.get("/api/nope/../" + "x" * 50)
        s.ask("BREW", "/api/version")
        s.ask("POST", "/api/chat", {"model": "m", "messages": 3})
        v = prometheus.value
        # A request is counted when all who work at it have let go: that may be after its client has the answer.
        wait_until(lambda: v(s.metrics(), "mlxr_requests_total", endpoint="/api/generate") == 4
                   and v(s.metrics(), "mlxr_requests_total", endpoint="/api/chat") == 1)
        m = s.metrics()
        check("metrics: requests", v(m, "mlxr_requests_total", endpoint="/api/generate", method="POST", status="200") == 4, m["mlxr_requests_total"].samples)
        check("metrics: unknown paths share a name", v(m, "mlxr_requests_total", endpoint="other", status="404") == 2)
        check("metrics: methods that are none share a name", v(m, "mlxr_requests_total", method="other") == 1)
        check("metrics: 400", v(m, "mlxr_requests_total", endpoint="/api/chat", status="400") == 1)
        check("metrics: durations", v(m, "mlxr_request_duration_seconds", "_count", endpoint="/api/generate") == 4)
        check("metrics: tokens", v(m, "mlxr_generated_tokens_total", model="m:latest") == sum(a["eval_count"] for a in answers)
              and v(m, "mlxr_prompt_tokens_total", model="m:latest") == sum(a["prompt_eval_count"] for a in answers)
              and v(m, "mlxr_generated_tokens_total", model="m2:latest") == stats["eval_count"])
        check("metrics: first tokens", v(m, "mlxr_time_to_first_token_seconds", "_count", model="m:latest") == 3)
        check("metrics: between tokens", v(m, "mlxr_time_between_tokens_seconds", "_count", model="m:latest") == sum(a["eval_count"] - 1 for a in answers))
        check("metrics: loaded", v(m, "mlxr_models_loaded") == 2 and v(m, "mlxr_model_loads_total") == 2)
        check("metrics: this request runs", v(m, "mlxr_requests_running") >= 1 and v(m, "mlxr_connections") >= 1)
        # Names of models are a client's texts: those that are none have no series, the others not more than there is room for.
        s.ask("POST", "/api/generate", {"model": 'a"b\\c\nd', "prompt": "a", "stream": False})
        s.ask("POST", "/api/generate", {"model": "M", "prompt": "a", "stream": False})
        for i in range(60):
            s.ask("POST", "/api/generate", {"model": "x%d" % i, "prompt": "a", "stream": False})
        wait_until(lambda: v(s.metrics(), "mlxr_answers_total") == 65)
        m = s.metrics()
        models = {dict(ls)["model"] for (_, ls) in m["mlxr_answers_total"].samples}
        check("metrics: models are bounded", len(models) == 33 and "other" in models, len(models))
        check("metrics: none is forgotten", v(m, "mlxr_answers_total") == 65, v(m, "mlxr_answers_total"))
        try:
            import prometheus_client.parser as reference
        except ImportError:
            reference = None
        if reference:
            text = s.get("/metrics")[1]
            theirs = {(x.name, tuple(sorted(x.labels.items()))): x.value for f in reference.text_string_to_metric_families(text) for x in f.samples}
            ours = {(n, tuple(sorted(ls))): x for f in prometheus.parse(text).values() for (n, ls), x in f.samples.items()}
            check("metrics: prometheus_client reads the same", theirs == ours)
        else:
            skipped.append("prometheus_client is not here: its parser was not asked")
    with Serve("--mock-token-ms", 50) as s:
        c = http.client.HTTPConnection(s.host, s.port, timeout=20)
        c.request("POST", "/api/generate", json.dumps({"model": "m", "prompt": " ".join("w" * 200)}))
        c.getresponse().readline()
        m = s.metrics()
        check("metrics: a model in use", prometheus.value(m, "mlxr_model_users", model="m:latest") == 1)
        c.sock.shutdown(socket.SHUT_RDWR)
        c.close()
        check("metrics: one that left", wait_until(lambda: prometheus.value(s.metrics(), "mlxr_requests_abandoned_total") == 1))
        check("metrics: its model is free", wait_until(lambda: prometheus.value(s.metrics(), "mlxr_model_users", model="m:latest") == 0))


def test_usage():
    def run(*args):
        return subprocess.run([MLXSERVE, *args], env=environment(TMP), capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)

    r = run("--help")
    check("--help", r.returncode == 0 and "--keep-alive TIME" in r.stdout and "(5m)" in r.stdout and max(map(len, r.stdout.split("\nexamples:")[0].splitlines())) <= 80, r.stdout)
    check("--version", re.fullmatch(r"mlxserve \d+\.\d+\.\d+\S*\n", run("--version").stdout))
    check("unknown option", run("--nope").returncode == 2)
    check("an argument", run("model").returncode == 2)
    r = subprocess.run([MLXCTL, "man", "--page", "mlxserve"], env=environment(TMP), capture_output=True, text=True)
    check("its manual page", r.returncode == 0 and ".TH \"MLXSERVE\" 1" in r.stdout and "max\\-queue" in r.stdout, r.stderr + r.stdout[:200])
    with open(os.path.join(SRC, "docs", "operations.md"), encoding="utf-8") as f:
        docs = f.read()
    for name in VALUES:
        check("docs/operations.md has " + name, "`%s`" % name in docs)
    for name in SECOND:
        check("docs/operations.md has " + name, "`%s`" % name in docs)
    with Serve() as s:
        for name in s.metrics():
            check("docs/operations.md has " + name, "`%s`" % name in docs)


def main():
    try:
        for name, test in list(globals().items()):
            if name.startswith("test_") and ONLY in name:
                before = failed
                try:
                    test()
                except Exception as e:  # a test that cannot go on is one that failed
                    check(name, False, "%s: %r" % (type(e).__name__, e))
                    import traceback
                    traceback.print_exc()
                if failed > before:
                    print("in", name, flush=True)
    finally:
        shutil.rmtree(TMP, ignore_errors=True)
    for reason in skipped:
        print("SKIP:", reason)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


sys.exit(main())
