#!/usr/bin/env python3
"""mlxserve under load, on this machine, beside the engine without HTTP.

    bench/serve_load.py [--bin build/bin] [--model models/SmolLM2-135M-Instruct-4bit] [--part NAME] [--pairs 3] [--streams 64]

Parts, all by default:
  streams  64 streams of /api/generate at once, greedy: every text is the one that its prompt gives alone; tokens a second of all beside
           bench_engine with as many streams, alternated, medians and the median of the ratios within pairs
  first    time to the first token over HTTP, less what the engine itself says it took (queue and prompt): the median
  idle     memory of 1,000 connections that are idle
  version  requests a second of /api/version (wrk)
  start    from the start of the process to the first answered /api/health; then a cold /api/generate to its first token

One JSON object goes to standard output at the end."""

import argparse
import json
import os
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "serve"))
from daemon import Daemon  # noqa: E402

TOPICS = ["rivers", "the moon", "bread", "glass", "trains", "bees", "salt", "paper", "wind", "clocks", "maps", "bridges", "ink", "snow", "wheels", "ropes"]


def say(text):
    print(text, file=sys.stderr, flush=True)


def prompt(i):
    """A different one each; about 64 tokens with the chat template."""
    a, b, c = TOPICS[i % 16], TOPICS[(i // 16 + 5) % 16], TOPICS[(i * 7 + 3) % 16]
    return f"({i}) Explain in a few plain sentences what {a} and {b} have in common, and why people have cared about {c} for so long."


def request_of(i, n_new):
    # As many tokens as bench_engine makes: no answer ends early.
    body = json.dumps({"model": "bench", "prompt": prompt(i), "options": {"temperature": 0, "num_predict": n_new, "min_tokens": n_new}}).encode()
    return b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def unpack(got):
    """Text and last object of a chunked stream of lines."""
    head, _, rest = got.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise RuntimeError(got[:500])
    body = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        n = int(size, 16)
        body.append(rest[:n])
        rest = rest[n + 2:]
    objects = [json.loads(line) for line in b"".join(body).splitlines()]
    if not objects[-1].get("done"):
        raise RuntimeError(objects[-1])
    return "".join(o.get("response", "") for o in objects), objects[-1]


def together(d, ids, n_new):
    """All at once from one thread, which only gathers bytes: the client shares the machine with the server."""
    got, waiting = {i: [] for i in ids}, selectors.DefaultSelector()
    sockets = []
    for i in ids:
        s = socket.create_connection((d.host, d.port))
        waiting.register(s, selectors.EVENT_READ, i)
        sockets.append((s, request_of(i, n_new)))
    start = time.monotonic()
    for s, data in sockets:
        s.sendall(data)
    left = len(sockets)
    while left:
        for key, _ in waiting.select():
            piece = key.fileobj.recv(1 << 16)
            if piece:
                got[key.data].append(piece)
            else:
                waiting.unregister(key.fileobj)
                key.fileobj.close()
                left -= 1
    seconds = time.monotonic() - start
    return [unpack(b"".join(got[i])) for i in ids], seconds


def engine_rate(a, n_new, n_prompt):
    p = subprocess.run([os.path.join(a.bin, "bench_engine"), a.model, str(a.streams), str(n_prompt), str(n_new)], check=True, capture_output=True)
    return json.loads(p.stdout)["runs"][0]


def part_streams(a, out):
    n_new = 64
    with Daemon(a.bin, "--parallel", str(a.streams), models={"bench": a.model}, timeout=600) as d:
        alone = [together(d, [i], n_new)[0][0] for i in range(a.streams)]
    n_prompt = int(statistics.median(x[1]["prompt_eval_count"] for x in alone))
    ratios, ours, engine = [], [], []

    def serve():
        # Prefixes of earlier rounds would save the prompts: a fresh daemon knows none.
        with Daemon(a.bin, "--parallel", str(a.streams), models={"bench": a.model}, timeout=600) as fresh:
            together(fresh, [1000], 8)
            got, seconds = together(fresh, range(a.streams), n_new)
        wrong = [i for i in range(a.streams) if got[i][0] != alone[i][0]]
        return sum(x[1]["eval_count"] for x in got) / seconds, wrong

    def bare():
        return engine_rate(a, n_new, n_prompt)["rate"]

    for pair in range(a.pairs):
        if pair % 2:
            e, (r, wrong) = bare(), serve()
        else:
            (r, wrong), e = serve(), bare()
        ours.append(r)
        engine.append(e)
        ratios.append(r / e)
        out.setdefault("streams_wrong", []).extend(wrong)
        say(f"{a.streams} streams, prompts of {n_prompt}: {r:.0f} tokens/s over HTTP, {e:.0f} of the engine, ratio {r / e:.3f}; texts that differ: {len(wrong)}")
    out["streams"] = {"n": a.streams, "http": statistics.median(ours), "engine": statistics.median(engine), "ratio": statistics.median(ratios)}


def part_first(a, out):
    """A connection that is open already and a client that only looks for the first piece, so that what is measured is the server."""
    over = []
    with Daemon(a.bin, models={"bench": a.model}) as d, socket.create_connection((d.host, d.port)) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(60):
            body = json.dumps({"model": "bench", "prompt": prompt(100 + i), "options": {"temperature": 0, "num_predict": 2}}).encode()
            request = b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            got, start = b"", time.monotonic()
            s.sendall(request)
            while b'"response"' not in got:
                got += s.recv(65536)
            first = time.monotonic() - start
            while b"\r\n0\r\n" not in got:
                got += s.recv(65536)
            o = json.loads(next(line for line in got.split(b"\n") if b'"done":true' in line))
            over.append((first - (o.get("queue_duration", 0) + o["prompt_eval_duration"]) / 1e9) * 1e3)
    over = over[10:]
    out["first_overhead_ms"] = statistics.median(over)
    say(f"time to the first token over HTTP beyond the engine's: {out['first_overhead_ms']:.2f} ms (median of {len(over)})")


def part_idle(a, out):
    with Daemon(a.bin, "--runner", "mock") as d:
        d.get("/api/version")
        before, many = d.resident_bytes(), []
        for _ in range(1000):
            s = socket.create_connection((d.host, d.port))
            s.sendall(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n")
            s.recv(4096)
            many.append(s)
        out["idle_mb"] = (d.resident_bytes() - before) / 1e6
        for s in many:
            s.close()
    say(f"1,000 idle connections: {out['idle_mb']:.1f} MB")


def part_version(a, out):
    if not shutil.which("wrk"):
        say("SKIP: version: wrk is not installed")
        return
    with Daemon(a.bin, "--runner", "mock") as d:
        rates = []
        for _ in range(a.pairs):
            text = subprocess.run(["wrk", "-t1", "-c32", "-d3s", d.url + "/api/version"], check=True, capture_output=True, text=True).stdout
            rates.append(float(next(line.split()[1] for line in text.splitlines() if line.startswith("Requests/sec"))))
    out["version_per_second"] = statistics.median(rates)
    say(f"/api/version: {out['version_per_second']:.0f} requests/s")


def part_start(a, out):
    health, cold = [], []
    with Daemon(a.bin, models={"bench": a.model}) as d:
        store, d.own = d.store, False
    try:
        for _ in range(7):
            port_holder = socket.socket()
            port_holder.bind(("127.0.0.1", 0))
            port = port_holder.getsockname()[1]
            port_holder.close()
            env = {**os.environ, "MLXR_HOME": store}
            start = time.monotonic()
            p = subprocess.Popen([os.path.join(a.bin, "mlxserve"), "--host", "127.0.0.1", "--port", str(port)], env=env, stderr=subprocess.DEVNULL)
            while True:
                try:
                    s = socket.create_connection(("127.0.0.1", port))
                    break
                except OSError:
                    time.sleep(0.0005)
            s.sendall(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            s.recv(4096)
            health.append((time.monotonic() - start) * 1e3)
            s.close()
            body = json.dumps({"model": "bench", "prompt": prompt(1), "options": {"num_predict": 4}}).encode()
            s = socket.create_connection(("127.0.0.1", port))
            start = time.monotonic()
            s.sendall(b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            got = b""
            while b'"response"' not in got:
                got += s.recv(4096)
            cold.append((time.monotonic() - start) * 1e3)
            s.close()
            p.terminate()
            p.wait()
    finally:
        shutil.rmtree(store, ignore_errors=True)
    out["health_ms"], out["cold_first_token_ms"] = statistics.median(health), statistics.median(cold)
    say(f"start to /api/health: {out['health_ms']:.1f} ms; cold /api/generate to the first token: {out['cold_first_token_ms']:.0f} ms")


PARTS = {"streams": part_streams, "first": part_first, "idle": part_idle, "version": part_version, "start": part_start}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bin", default=os.path.join(ROOT, "build", "bin"))
    p.add_argument("--model", default=os.path.join(ROOT, "models", "SmolLM2-135M-Instruct-4bit"))
    p.add_argument("--part", choices=PARTS, action="append")
    p.add_argument("--pairs", type=int, default=3)
    p.add_argument("--streams", type=int, default=64)
    a = p.parse_args()
    out = {}
    for name in a.part or PARTS:
        PARTS[name](a, out)
    print(json.dumps(out))


if __name__ == "__main__":
    main()
