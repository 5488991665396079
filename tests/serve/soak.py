#!/usr/bin/env python3
"""Mixed requests to every endpoint by several clients at once, some of which leave early; what the daemon holds afterwards is what it held after
the first tenth.

    soak.py BIN_DIR [SOURCE_DIR] [--requests 10000] [--clients 8] [--seed 1] [--model FOLDER]

With --model the requests go to that model's engine, else to the mock. With binaries built under ASan or TSan the sanitizer's report fails it;
memory is compared without one alone."""

import argparse
import collections
import json
import random
import sys
import threading
import time

from daemon import Daemon, Failed, wait_until

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}}}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def requests(r, model):
    """A request: method, path, body, whether it streams."""
    n = r.randrange(1, 12)
    words = " ".join(r.choice(["one", "two", "three", "Grüße", "日本", "x" * 50]) for _ in range(r.randrange(1, 40)))
    chat = [{"role": "user", "content": words}]
    stream = r.random() < 0.5
    options = {"num_predict": n, "seed": r.randrange(5)}
    kinds = [
        ("POST", "/api/generate", {"prompt": words, "stream": stream, "options": options, "logprobs": r.random() < 0.3}, stream),
        ("POST", "/api/chat", {"messages": chat, "stream": stream, "options": options, "receipt": r.random() < 0.2}, stream),
        ("POST", "/api/chat", {"messages": chat, "stream": stream, "options": options, "format": SCHEMA}, stream),
        ("POST", "/v1/chat/completions", {"messages": chat, "stream": stream, "max_tokens": n, "n": r.randrange(1, 3)}, stream),
        ("POST", "/v1/chat/completions", {"messages": chat, "stream": stream, "max_tokens": 60, "tools": TOOLS, "tool_choice": "required"}, stream),
        ("POST", "/v1/completions", {"prompt": words, "stream": stream, "max_tokens": n}, stream),
        ("POST", "/v1/responses", {"input": words, "stream": stream, "max_output_tokens": n}, stream),
        ("POST", "/v1/embeddings", {"input": [words, "b"]}, False),
        ("POST", "/v1/messages", {"messages": chat, "stream": stream, "max_tokens": n}, stream),
        ("POST", "/v1/messages/count_tokens", {"messages": chat}, False),
        ("POST", "/api/embed", {"input": words}, False),
        ("POST", "/api/tokenize", {"text": words}, False),
        ("POST", "/api/show", {}, False),
        ("POST", "/api/generate", {}, False),
        ("POST", "/api/chat", {"messages": "wrong"}, False),
        ("GET", "/api/tags", None, False),
        ("GET", "/api/ps", None, False),
        ("GET", "/v1/models", None, False),
        ("GET", "/metrics", None, False),
        ("GET", "/api/nope", None, False),
    ]
    method, path, body, streams = r.choice(kinds)
    if body is not None:
        body = {"model": model, **body}
        if r.random() < 0.02:
            body["keep_alive"] = 0
        if r.random() < 0.02:
            body["model"] = "nobody-has-this:x"
    return method, path, body, streams


def client(d, seed, n, model, statuses, problems):
    r = random.Random(seed)
    for _ in range(n):
        method, path, body, streams = requests(r, model)
        try:
            with d.stream(method, path, body, timeout=300) as s:
                if streams and s.status == 200 and r.random() < 0.3:
                    s.response.read(r.randrange(1, 200))
                    statuses[path, "left"] += 1
                    continue
                text = s.read()
                statuses[path, s.status] += 1
                if s.status >= 500 and s.status != 503:
                    problems.append((method, path, body, s.status, text[:300]))
                elif s.status == 200 and "json" in s.type and "ndjson" not in s.type:
                    json.loads(text)
        except Exception as e:  # noqa: BLE001: whatever it was is wrong
            problems.append((method, path, body, repr(e)))
            if not d.alive():
                return


def run(d, seed, n, clients, model, statuses, problems):
    threads = [threading.Thread(target=client, args=(d, seed * 1000 + i, n // clients, model, statuses, problems)) for i in range(clients)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("bin_dir")
    p.add_argument("source_dir", nargs="?", default=".")
    p.add_argument("--requests", type=int, default=10000)
    p.add_argument("--clients", type=int, default=8)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--model")
    a = p.parse_args()
    statuses, problems = collections.Counter(), []
    model = "soaked:latest" if a.model else "m"
    seconds = grown = 0
    try:
        with Daemon(a.bin_dir, *([] if a.model else ["--runner", "mock"]), models={model: a.model} if a.model else None, wait=120) as d:
            start = time.monotonic()
            run(d, a.seed, max(a.requests // 10, a.clients), a.clients, model, statuses, problems)
            before = d.resident_bytes()
            run(d, a.seed + 1, a.requests - a.requests // 10, a.clients, model, statuses, problems)
            seconds = time.monotonic() - start
            grown = (d.resident_bytes() - before) / 1e6
            quiet = wait_until(lambda: all(m.get("requests", 0) == 0 for m in d.get("/api/ps").json["models"]), 20)
            if not quiet:
                problems.append(("somebody still uses a model", d.get("/api/ps").text))
            sanitized = any(s in str(d.bin) for s in ("asan", "tsan"))
            if not sanitized and grown > 40:
                problems.append(("memory grew", grown))
            if not d.alive():
                problems.append(("it died", d.stderr[-3000:]))
    except Failed as e:
        problems.append(("its end", e))
    for path, status in sorted(statuses, key=str):
        print(f"{path} {status}: {statuses[path, status]}")
    for x in problems[:20]:
        print("PROBLEM", *x)
    print(f"{sum(statuses.values())} requests in {seconds:.1f} s, memory grew by {grown:.1f} MB, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
