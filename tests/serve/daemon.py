"""A mlxserve for a test: starts a built one on 127.0.0.1 at a port of its choosing with a store of its own, speaks HTTP to it without any
client's help, and ends it. Standard library only.

    from daemon import Daemon
    with Daemon(BIN_DIR, "--runner", "mock") as d:
        assert d.get("/api/version").json["version"]
        for event, data in d.sse("/v1/chat/completions", {"model": "m", "messages": [...], "stream": True}): ...

Leaving the block ends the daemon (SIGTERM; SIGKILL when that does not help) and raises Failed when it did not end well: another exit
code than 0, or a sanitizer's report. In front of the binary (valgrind, perf, taskset) goes what MLXR_TEST_WRAPPER says, if set.
"""

import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

# What a sanitizer, an assertion or a crash leaves on stderr.
REPORT = re.compile(
    r"(AddressSanitizer|LeakSanitizer|ThreadSanitizer|MemorySanitizer|UndefinedBehaviorSanitizer|"
    r"runtime error: |Assertion .* failed|double free|stack smashing|ERROR SUMMARY: [1-9])"
)
# Variables that would lead the daemon or mlxctl elsewhere than the test says.
ELSEWHERE = re.compile(r"^(MLXSERVE_|MLXR_|OLLAMA_|HF_|HUGGING|http_proxy$|https_proxy$|all_proxy$|HTTP_PROXY$|HTTPS_PROXY$|ALL_PROXY$)")


class Failed(Exception):
    """The daemon did not start, or did not end as it should."""


def scratch(prefix="mlxserve-"):
    """A new folder in memory where there is one: remove it."""
    shm = "/dev/shm"
    return tempfile.mkdtemp(prefix=prefix, dir=shm if os.path.isdir(shm) and os.access(shm, os.W_OK) else None)


def free_port():
    """A port that nobody listens at just now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Answer:
    """A whole answer. headers: lower-case names (http.client's own object in .all)."""

    def __init__(self, status, headers, body):
        self.status, self.all, self.body = status, headers, body
        self.headers = {k.lower(): v for k, v in headers.items()}

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def type(self):
        return self.headers.get("content-type", "")

    @property
    def error(self):
        """The message of an error in any API's form; None when there is none."""
        try:
            e = self.json.get("error")
        except (ValueError, AttributeError):
            return None
        return e.get("message") if isinstance(e, dict) else e

    def ndjson(self):
        return [json.loads(line) for line in self.body.split(b"\n") if line.strip()]

    def sse(self):
        return list(read_sse(self.body.splitlines(keepends=True)))

    def __repr__(self):
        return f"<{self.status} {self.type} {self.text[:400]!r}>"


def read_ndjson(lines):
    """Objects of lines of bytes."""
    for line in lines:
        if line.strip():
            yield json.loads(line)


def read_sse(lines):
    """(event, data) of lines of bytes: event "" when unnamed; data parsed, or "[DONE]" as text. Comments (heartbeats) are left out."""
    event, data = "", []
    for line in lines:
        line = line.decode("utf-8").rstrip("\r\n")
        if not line:
            if data:
                text = "\n".join(data)
                yield event, text if text == "[DONE]" else json.loads(text)
            event, data = "", []
        elif line.startswith(":"):
            continue
        else:
            key, _, value = line.partition(":")
            value = value[1:] if value.startswith(" ") else value
            if key == "event":
                event = value
            elif key == "data":
                data.append(value)


class Stream:
    """An answer as it comes: iterate for lines (bytes), or use ndjson() and sse(). Closing early closes the connection."""

    def __init__(self, connection, response):
        self.connection, self.response = connection, response
        self.status = response.status
        self.headers = {k.lower(): v for k, v in response.getheaders()}

    @property
    def type(self):
        return self.headers.get("content-type", "")

    def __iter__(self):
        return iter(self.response.readline, b"")

    def ndjson(self):
        return read_ndjson(self)

    def sse(self):
        return read_sse(self)

    def read(self):
        return self.response.read()

    def close(self):
        # A response holds the socket too: both must go, or the daemon sees nobody leave.
        self.response.close()
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Daemon:
    """arguments: of mlxserve beside --host and --port. store: a folder to use and to leave; else a temporary one.
    models: {name: folder or GGUF file}, imported into the store before the start. env: variables to set (None: to unset)."""

    def __init__(self, bin_dir, *arguments, store=None, models=None, env=None, wait=60, timeout=60, host="127.0.0.1", port=0):
        self.bin = Path(bin_dir).resolve()
        self.timeout = timeout
        self.own = store is None
        self.store = scratch() if self.own else str(store)
        self.process, self.code, self.url, self.killed = None, None, None, False
        self.lines, self.listening = [], threading.Event()
        self.env = {k: v for k, v in os.environ.items() if not ELSEWHERE.match(k)}
        self.env.update(MLXR_HOME=self.store, HOME=self.store, LC_ALL="C.UTF-8")
        for k, v in (env or {}).items():
            self.env.pop(k, None)
            if v is not None:
                self.env[k] = str(v)
        try:
            for name, path in (models or {}).items():
                self.import_model(path, name)
            self.command = [*shlex.split(os.environ.get("MLXR_TEST_WRAPPER", "")), str(self.bin / "mlxserve"), "--host", host, "--port", str(port),
                            *map(str, arguments)]
            self.start(wait)
        except BaseException:
            self.end(check=False)
            raise

    # ---- life ----

    def start(self, wait=60):
        self.lines.clear()
        self.listening.clear()
        self.code, self.killed, self.url = None, False, None
        self.started = time.monotonic()
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        env=self.env, cwd=self.store)
        self.reader = threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True)
        self.reader.start()
        if not self.listening.wait(wait) or not self.url:
            self.end(check=False)
            raise Failed(f"mlxserve did not come up ({' '.join(self.command)}), exit code {self.code}:\n{self.stderr}")
        m = re.match(r"https?://(\[[^]]*\]|[^:/]*):(\d+)", self.url)
        self.host, self.port = (m[1].strip("[]"), int(m[2])) if m else (None, None)

    def _read(self, pipe):
        for line in iter(pipe.readline, b""):
            line = line.decode("utf-8", "replace")
            self.lines.append(line)
            m = not self.url and re.search(r"(https?://[^\s,;]+|unix:\S+)", line)
            if m:
                self.url = m[1].rstrip("/.")
                self.listening.set()
        self.listening.set()

    @property
    def stderr(self):
        return "".join(self.lines)

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """As a crash would: at once, and end() takes it for meant."""
        self.killed = True
        self.process.kill()
        self.process.wait()

    def end(self, check=True, wait=30):
        """Ends it; the exit code. check: raises Failed when that, or stderr, is not as it should be."""
        problem = None
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                try:
                    self.process.wait(wait)
                except subprocess.TimeoutExpired:
                    problem = f"mlxserve did not end within {wait} s of SIGTERM"
                    self.process.kill()
                    self.process.wait()
            self.code = self.process.returncode
            self.reader.join(10)
            self.process.stderr.close()
            if REPORT.search(self.stderr):
                problem = "mlxserve: a report on stderr"
            elif not problem and self.code != 0 and not self.killed:
                problem = f"mlxserve ended with {self.code}"
            self.process = None
        if self.own:
            shutil.rmtree(self.store, ignore_errors=True)
        if check and problem:
            raise Failed(problem + ":\n" + self.stderr[-8000:])
        return self.code

    def restart(self):
        """Ends it and starts another over the same store (and another port)."""
        own, self.own = self.own, False
        try:
            self.end()
        finally:
            self.own = own
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.end(check=kind is None)
        if kind is not None and self.stderr:
            print("---- stderr of mlxserve ----\n" + self.stderr[-4000:])

    def mlxctl(self, *args, check=True, timeout=300):
        p = subprocess.run([str(self.bin / "mlxctl"), *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, env=self.env, timeout=timeout,
                           check=False, cwd=self.store)
        if check and p.returncode != 0:
            raise Failed(f"mlxctl {' '.join(map(str, args))}: {p.returncode}\n{p.stderr.decode('utf-8', 'replace')}")
        return p

    def import_model(self, path, name):
        self.mlxctl("store", "import", os.path.abspath(path), name, "--quiet")

    # ---- HTTP ----

    def connect(self, timeout=None):
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout or self.timeout)

    def _send(self, connection, method, path, body, headers):
        headers = dict(headers or {})
        if body is not None and not isinstance(body, (bytes, bytearray, str)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        if isinstance(body, str):
            body = body.encode()
        connection.putrequest(method, path, skip_host=any(k.lower() == "host" for k in headers), skip_accept_encoding=True)
        for k, v in headers.items():
            connection.putheader(k, v)
        if body is not None or method in ("POST", "PUT", "PATCH"):
            connection.putheader("Content-Length", str(len(body or b"")))
        connection.endheaders(body)
        return connection.getresponse()

    def request(self, method, path, body=None, headers=None, timeout=None):
        """body: bytes or text as it is, None for none, anything else as JSON."""
        c = self.connect(timeout)
        try:
            r = self._send(c, method, path, body, headers)
            return Answer(r.status, r.headers, r.read())
        finally:
            c.close()

    def stream(self, method, path, body=None, headers=None, timeout=None):
        c = self.connect(timeout)
        try:
            return Stream(c, self._send(c, method, path, body, headers))
        except BaseException:
            c.close()
            raise

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, body=None, **more):
        return self.request("POST", path, body, **more)

    def delete(self, path, body=None, **more):
        return self.request("DELETE", path, body, **more)

    def head(self, path, **more):
        return self.request("HEAD", path, **more)

    def ndjson(self, path, body, **more):
        """The objects of a stream, as they come."""
        with self.stream("POST", path, body, **more) as s:
            yield from s.ndjson()

    def sse(self, path, body, **more):
        """(event, data) of a stream, as they come."""
        with self.stream("POST", path, body, **more) as s:
            yield from s.sse()

    def raw(self, data, timeout=10, close=False):
        """Bytes as they are over a connection of their own; whatever comes until the daemon closes it or timeout seconds are over. close: our
        half is closed after sending."""
        with socket.create_connection((self.host, self.port), timeout=timeout) as s:
            s.sendall(data)
            if close:
                s.shutdown(socket.SHUT_WR)
            got = []
            try:
                while piece := s.recv(65536):
                    got.append(piece)
            except (socket.timeout, ConnectionResetError):
                pass
            return b"".join(got)

    def metrics(self):
        """{name with labels: value} of /metrics."""
        out = {}
        for line in self.get("/metrics").text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                out[name] = float(value)
        return out

    def resident_bytes(self):
        with open(f"/proc/{self.pid}/statm", encoding="ascii") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def wait_until(true, seconds=10, step=0.02):
    """Whether true() became true in time."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(step)
    return True
