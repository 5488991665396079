#!/usr/bin/env python3
"""What clients and disks can do to mlxserve: vanish, stall, talk slowly, send what is no HTTP, no JSON or too much; a full disk under the log; a
model file that is cut off while it is mapped; kill -9.

    test_faults.py BIN_DIR [SOURCE_DIR] [--part NAME]

After each part the daemon answers, nobody uses a model any more, and it ends with 0 and without a sanitizer's report."""

import argparse
import json
import os
import random
import shutil
import socket
import struct
import sys
import threading
import time

sys.dont_write_bytecode = True
from daemon import Daemon, scratch, wait_until  # noqa: E402

passed, failed, skipped = 0, [], []


def check(name, ok, seen=""):
    global passed
    if ok:
        passed += 1
    else:
        failed.append(name)
        print(f"FAILED {name}: {str(seen)[:600]}", flush=True)


def skip(name, why):
    skipped.append(name)
    print(f"SKIP: {name}: {why}", flush=True)


def head(method, path, *lines):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


def post(path, body, *lines):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head("POST", path, f"Content-Length: {len(body)}", *lines) + body


def connect(d, timeout=20):
    return socket.create_connection((d.host, d.port), timeout=timeout)


def reset(s):
    """Closes with a reset instead of an end."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def read_answers(s, n):
    """Status and body of n whole answers with a Content-Length."""
    data, out = b"", []
    while len(out) < n:
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            top = data[:end].decode("latin-1").split("\r\n")
            length = next((int(line.split(":")[1]) for line in top if line.lower().startswith("content-length:")), 0)
            if len(data) >= end + 4 + length:
                out.append((int(top[0].split()[1]), data[end + 4:end + 4 + length]))
                data = data[end + 4 + length:]
                continue
        piece = s.recv(65536)
        if not piece:
            break
        data += piece
    return out


def idle(d):
    """Nobody uses a model: health says so, if it tells, and an answer is to be had."""
    return d.get("/api/version").status == 200


def well(d, name):
    a = d.post("/api/generate", {"model": "m", "prompt": "one two three", "stream": False, "options": {"num_predict": 4}})
    check(f"{name}: it still answers", a.status == 200 and a.json["done"], a)
    check(f"{name}: and lists", idle(d))


LONG = {"model": "m", "prompt": "word " * 400, "options": {"num_predict": 400}}


def part_vanish(d):
    body = json.dumps(LONG).encode()
    whole = post("/api/generate", body)
    for how in ("close", "reset"):
        for cut in (1, 10, len(whole) - len(body) - 2, len(whole) - len(body), len(whole) - 10, len(whole)):
            s = connect(d)
            s.sendall(whole[:cut])
            time.sleep(0.01)
            s.close() if how == "close" else reset(s)
        for path, extra in (("/api/chat", {"messages": [{"role": "user", "content": "a b c d"}]}), ("/v1/chat/completions", {
                "messages": [{"role": "user", "content": "a b c d"}], "stream": True}), ("/v1/messages", {
                    "messages": [{"role": "user", "content": "a b c d"}], "stream": True, "max_tokens": 99})):
            s = connect(d)
            s.sendall(post(path, {"model": "m", **extra}))
            s.recv(100)
            s.close() if how == "close" else reset(s)
    many = []
    for i in range(60):
        s = connect(d)
        s.sendall(whole)
        many.append(s)
    for s in many:
        random.choice((reset, socket.socket.close))(s)
    well(d, "vanish")


def part_stall(d):
    """Who does not read: the others go on, and it is cut off or served in the end."""
    stalled = []
    for _ in range(8):
        s = connect(d)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.sendall(post("/api/generate", {"model": "m", "prompt": "word " * 3000, "options": {"num_predict": 3000}}))
        stalled.append(s)
    start = time.monotonic()
    well(d, "stall")
    check("stall: the others are not held up", time.monotonic() - start < 20, time.monotonic() - start)
    for s in stalled:
        s.close()


def part_slow(d):
    whole = post("/api/generate", {"model": "m", "prompt": "a b", "stream": False})
    s = connect(d, 60)
    for i in range(0, len(whole), 3):
        s.sendall(whole[i:i + 3])
        time.sleep(0.01)
    got = read_answers(s, 1)
    check("slow: three bytes at a time are a request", got and got[0][0] == 200, got)
    s.close()
    half = connect(d)
    half.sendall(whole[:40])
    well(d, "slow")
    half.close()


def part_huge(d):
    s = connect(d, 30)
    s.sendall(head("POST", "/api/generate", "Content-Length: 10000000000"))
    got = s.recv(4096)
    check("huge: a length of 10 GB is refused before it is sent", b" 413 " in got.split(b"\r\n")[0], got)
    s.close()
    s = connect(d, 30)
    s.sendall(head("POST", "/api/generate", "Transfer-Encoding: chunked"))
    got = b""
    try:
        block = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
        for _ in range(200):
            s.sendall(block)
        s.sendall(b"0\r\n\r\n")
        got = s.recv(4096)
    except OSError as e:
        got = str(e).encode()
    check("huge: a body in chunks is refused or cut off", b" 413 " in got.split(b"\r\n")[0] or got == b"" or b"reset" in got.lower() or b"pipe" in
          got.lower(), got[:200])
    s.close()
    for n in (20_000, 2_000_000):
        got = d.raw(head("GET", "/api/version", "X-Long: " + "a" * n), timeout=10)
        check(f"huge: a header of {n} bytes", got == b"" or got.split()[1] in (b"431", b"413", b"400", b"414"), got[:100])
    got = d.raw(head("GET", "/api/version", *[f"X-{i}: 1" for i in range(5000)]), timeout=10)
    check("huge: 5000 headers", got == b"" or got.split()[1] in (b"431", b"413", b"400"), got[:100])
    got = d.raw(b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", timeout=10)
    check("huge: a path of 100,000 bytes", got == b"" or got.split()[1] in (b"414", b"431", b"400", b"404"), got[:100])
    well(d, "huge")


def part_garbage(d):
    r = random.Random(11)
    for i in range(200):
        kind = i % 4
        if kind == 0:
            data = r.randbytes(r.randrange(1, 2000))
        elif kind == 1:
            data = bytearray(post("/api/chat", {"model": "m", "messages": [{"role": "user", "content": "x"}]}))
            for _ in range(r.randrange(1, 6)):
                data[r.randrange(len(data))] = r.randrange(256)
        elif kind == 2:
            data = head(r.choice(["GET", "POST", "FOO", "", "G E T"]), r.choice(["/", "*", "//", "/../../etc/passwd", "/%00", "/%ff%fe", "/api/%67enerate"]),
                        r.choice(["Content-Length: -1", "Content-Length: x", "Content-Length: 5\r\nContent-Length: 6", "Transfer-Encoding: foo",
                                  "Content-Length: 3\r\nTransfer-Encoding: chunked", "Expect: 100-continue", "Connection: upgrade\r\nUpgrade: x", " folded"]))
        else:
            data = b"GET /api/version HTTP/" + r.choice([b"9.9", b"1.0", b"0.9", b"x"]) + b"\r\n\r\n"
        try:
            d.raw(bytes(data), timeout=0.2, close=True)
        except OSError:
            pass
    well(d, "garbage")


BODIES = [b"", b"{", b"[]", b"null", b"1", b'"x"', b"{}x", b'{"model":"m","model":"m","prompt":"x"}', b'{"model":"m","prompt":"\xff\xfe"}',
          b'{"model":"m","prompt":"a\\u0000b"}', b'{"model":"m","prompt":"\\ud800"}', b'{"model":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
          b'{"model":"m","options":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}", b'{"model":"m","prompt":1e999}', b'{"model":"m","options":{"seed":99999999999999999999}}',
          b"\xef\xbb\xbf{}", b"\x00" * 100, b'{"model":"' + b"a" * 100_000 + b'","prompt":"x"}']
PATHS = ["/api/generate", "/api/chat", "/api/show", "/api/embed", "/api/embeddings", "/api/pull", "/api/push", "/api/create", "/api/copy", "/api/tokenize",
         "/api/detokenize", "/api/verify", "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages",
         "/v1/messages/count_tokens"]


def part_bodies(d):
    for path in PATHS:
        for i, body in enumerate(BODIES):
            a = d.post(path, body)
            # The last ones are requests, with a name that the mock may take, and with numbers of fields that some endpoints do not have.
            ok = a.status in (400, 404, 413) and a.error or i >= 13 and a.status == 200
            check(f"bodies: {path} with body {i}", ok, a)
        a = d.get(path)
        check(f"bodies: GET {path}", a.status == 405 and a.headers.get("allow"), a)
    well(d, "bodies")


def part_pipeline(d):
    s = connect(d)
    one = head("GET", "/api/version")
    s.sendall(one * 50)
    got = read_answers(s, 50)
    check("pipeline: fifty answers to fifty requests", len(got) == 50 and all(g[0] == 200 for g in got), got[:3])
    s.sendall(post("/api/generate", {"model": "m", "prompt": "a b c", "stream": False}) + one + head("GET", "/api/nope") + one)
    got = read_answers(s, 4)
    check("pipeline: in their order", [g[0] for g in got] == [200, 200, 404, 200] and b"done" in got[0][1], got)
    s.close()


def part_idle(d):
    before = d.resident_bytes()
    many = []
    try:
        for _ in range(1000):
            many.append(connect(d))
        for s in many[::2]:
            s.sendall(head("GET", "/api/version"))
        for s in many[::2]:
            read_answers(s, 1)
        grown = (d.resident_bytes() - before) / 1e6
        print(f"1,000 idle connections: {grown:.1f} MB")
        if "asan" not in str(d.bin) and "tsan" not in str(d.bin):
            check("idle: 1,000 connections cost less than 50 MB", grown < 50, grown)
        well(d, "idle")
    finally:
        for s in many:
            s.close()


def part_together(d):
    """Everybody at once, and the answers of the well-behaved are whole."""
    stop, wrong, right = threading.Event(), [], [0]

    def good():
        while not stop.is_set():
            try:
                a = d.post("/api/generate", {"model": "m", "prompt": "one two three four", "stream": True, "options": {"num_predict": 4}})
                lines = a.ndjson()
                if a.status != 200 or not lines[-1].get("done"):
                    wrong.append(a)
                right[0] += 1
            except Exception as e:  # noqa: BLE001: whatever it was is wrong
                wrong.append(e)

    threads = [threading.Thread(target=good) for _ in range(4)]
    for t in threads:
        t.start()
    part_vanish(d)
    part_garbage(d)
    part_stall(d)
    stop.set()
    for t in threads:
        t.join()
    check(f"together: {right[0]} answers beside the faults are whole", not wrong and right[0] > 10, wrong[:2])


PARTS = {"vanish": part_vanish, "stall": part_stall, "slow": part_slow, "huge": part_huge, "garbage": part_garbage, "bodies": part_bodies,
         "pipeline": part_pipeline, "idle": part_idle, "together": part_together}


def log_full(bin_dir):
    if not os.path.exists("/dev/full"):
        skip("log", "there is no /dev/full")
        return
    with Daemon(bin_dir, "--runner", "mock", "--log", "/dev/full") as d:
        for _ in range(50):
            well(d, "log")


def killed(bin_dir):
    d = Daemon(bin_dir, "--runner", "mock")
    try:
        for _ in range(3):
            streams = [d.stream("POST", "/api/generate", LONG) for _ in range(4)]
            d.kill()
            for s in streams:
                s.close()
            own, d.own = d.own, False
            d.end(check=False)
            d.own = own
            d.start()
            well(d, "kill")
            check("kill: mlxctl finds the new one", d.mlxctl("ps").returncode == 0)
    finally:
        d.end()


def truncated(bin_dir, model):
    """The weights are cut off under a loaded model: requests fail with a message, the daemon and other models live on."""
    if not os.path.isdir(model):
        skip("truncated", f"there is no {model}")
        return
    copy = scratch("mlxserve-model-")
    try:
        mine = os.path.join(copy, "model")
        shutil.copytree(model, mine, symlinks=False)
        paths = os.path.join(copy, "paths.json")
        with open(paths, "w", encoding="utf-8") as f:
            json.dump({"cut": mine}, f)
        with Daemon(bin_dir, "--model-paths-json", paths, models={"whole": model}) as d:
            ask = {"prompt": "What is the capital of France?", "stream": False, "options": {"num_predict": 8, "temperature": 0}}
            wanted = d.post("/api/generate", {"model": "whole", **ask}, timeout=300).json["response"]
            first = d.post("/api/generate", {"model": "cut", **ask}, timeout=300)
            check("truncated: it answers before", first.status == 200 and first.json["response"] == wanted, first)
            weights = max((os.path.join(mine, f) for f in os.listdir(mine)), key=os.path.getsize)
            os.truncate(weights, os.path.getsize(weights) // 3)
            for _ in range(3):
                a = d.post("/api/generate", {"model": "cut", **ask}, timeout=300)
                check("truncated: an error that names it", a.status >= 400 and a.error, a)
            a = d.post("/api/generate", {"model": "whole", **ask}, timeout=300)
            check("truncated: another model goes on", a.status == 200 and a.json["response"] == wanted, a)
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("bin_dir")
    p.add_argument("source_dir", nargs="?", default=".")
    p.add_argument("--part", choices=[*PARTS, "log", "kill", "truncated"])
    a = p.parse_args()
    parts = [a.part] if a.part in PARTS else [] if a.part else list(PARTS)
    if parts:
        # Whatever would leave the machine ends at a port nobody listens at.
        with Daemon(a.bin_dir, "--runner", "mock", "--mock-token-ms", "2", env={"HF_ENDPOINT": "http://127.0.0.1:1"}) as d:
            for name in parts:
                start = time.monotonic()
                PARTS[name](d)
                check(f"{name}: it lives", d.alive())
                print(f"{name}: {time.monotonic() - start:.1f} s", flush=True)
    if a.part in (None, "log"):
        log_full(a.bin_dir)
    if a.part in (None, "kill"):
        killed(a.bin_dir)
    if a.part in (None, "truncated"):
        truncated(a.bin_dir, os.path.join(a.source_dir, "models", "SmolLM2-135M-Instruct-4bit"))
    print(f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
