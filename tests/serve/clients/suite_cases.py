"""The conformance cases, by number: bytes on the wire, without any client's help where a client would smooth it over."""

import base64
import hashlib
import json
import math
import os
import re
import signal
import struct
import threading
import time
from pathlib import Path

import openai
import tiny
from checks import SCHEMA, WEATHER, fits_schema, part
from daemon import Daemon, wait_until

CALM = {"temperature": 0, "num_predict": 24}
STATS = ("total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration")


def user(text):
    return [{"role": "user", "content": text}]


def off(t):
    return {"think": False} if "thinking" in t.can else {}


def ask(t, prompt="hello there", **more):
    return {"model": t.model, "prompt": prompt, "options": CALM, **off(t), **more}


def slow(t, *arguments, ms=100, env=None):
    """A mock of its own that takes its time."""
    return Daemon(t.bin, "--runner", "mock", "--mock-token-ms", ms, *arguments, env=env)


@part()
def case_01_load_unload(t):
    r = t.d.post("/api/generate", {"model": t.model})
    lines = r.ndjson()
    t.check("one object, load", r.status == 200 and len(lines) == 1 and lines[0]["done"] is True and lines[0].get("done_reason") == "load" and lines[0].get("response") == "", None, r)
    t.check("in ps", [m["name"] for m in t.d.get("/api/ps").json["models"]] == [f"{t.model}:latest"], None, t.d.get("/api/ps"))
    lines = t.d.post("/api/generate", {"model": t.model, "keep_alive": 0}).ndjson()
    t.check("one object, unload", len(lines) == 1 and lines[0].get("done_reason") == "unload" and lines[0]["done"] is True, None, lines)
    t.check("ps empty", wait_until(lambda: t.d.get("/api/ps").json["models"] == [], 5), None, t.d.get("/api/ps"))
    lines = t.d.post("/api/generate", {"model": t.model, "keep_alive": 0}).ndjson()
    t.check("unload of what is not loaded", lines[0].get("done_reason") == "unload", None, lines)
    lines = t.d.post("/api/chat", {"model": t.model, "messages": [], "keep_alive": 0}).ndjson()
    t.check("chat unload", lines[0].get("done_reason") == "unload" and lines[0].get("message") == {"role": "assistant", "content": ""}, None, lines)


@part()
def case_02_stream_is_the_default(t):
    for path, body in (("/api/generate", ask(t)), ("/api/chat", {"model": t.model, "messages": user("hello there"), "options": CALM, **off(t)})):
        r = t.d.post(path, body)
        lines = r.ndjson()
        t.check(f"{path}: two lines or more", len(lines) >= 2, None, r)
        t.check(f"{path}: the last is done, no other", [x["done"] for x in lines] == [False] * (len(lines) - 1) + [True])
        t.check(f"{path}: six statistics above 0", all(lines[-1].get(k, 0) > 0 for k in STATS), None, lines[-1])
        t.check(f"{path}: ndjson", r.type.startswith("application/x-ndjson"), None, r.type)
        t.check(f"{path}: created_at", all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", x["created_at"]) for x in lines), None, lines[0])
        t.check(f"{path}: chunked", r.headers.get("transfer-encoding") == "chunked", None, r.headers)
        r = t.d.post(path, {**body, "stream": False})
        t.check(f"{path}: one object of JSON", r.type.replace(" ", "") == "application/json;charset=utf-8" and r.json["done"] is True, None, r)


@part()
def case_03_whole_equals_stream(t):
    for prompt in ("hello there", "one two three"):
        body = ask(t, prompt, options={"seed": 1, "temperature": 0.8, "num_predict": 24})
        whole = t.d.post("/api/generate", {**body, "stream": False}).json
        pieces = list(t.d.ndjson("/api/generate", body))
        t.same(f"{prompt!r}", "".join(x.get("response", "") for x in pieces), whole.get("response"), body)


@part()
def case_04_empty_bodies(t):
    r = t.d.post("/api/generate", {})
    t.check("generate {}", r.status == 404 and r.error == "model '' not found", "{}", r)
    r = t.d.post("/api/chat", {})
    t.check("chat {}", r.status == 400 and r.error == "model is required", "{}", r)
    r = t.d.post("/api/embed", {})
    t.check("embed {}", r.status == 404, "{}", r)
    for path in ("/api/show", "/api/push", "/api/embeddings"):
        r = t.d.post(path, {})
        t.check(f"{path} {{}}", r.status == 400 and "model is required" in (r.error or ""), "{}", r)
    for path in ("/api/generate", "/api/chat", "/api/show", "/api/pull", "/api/create", "/api/copy", "/api/embed", "/api/push"):
        r = t.d.post(path)
        t.check(f"{path} without a body", r.status == 400 and r.error == "missing request body", None, r)
    for text in ("{", "[]", "nul", '{"model":}', "\xff", '{"model":"a"} x'):
        r = t.d.post("/api/generate", text.encode("latin-1"))
        t.check(f"a body {text!r}", r.status == 400 and r.error, text, r)
    r = t.d.post("/v1/chat/completions", b"{")
    t.check("/v1: its own form", r.status == 400 and r.json["error"]["type"] == "invalid_request_error" and r.json["error"]["message"], None, r)
    r = t.d.post("/v1/messages", b"{")
    t.check("/v1/messages: its own form", r.status == 400 and r.json["type"] == "error" and r.json["error"]["type"] == "invalid_request_error" and r.json["request_id"], None, r)


@part(kinds=("tiny", "default"))
def case_05_no_such_model(t):
    single, double = "model 'nosuch' not found", 'model "nosuch" not found, try pulling it first'
    for path, body, text in (("/api/generate", {"prompt": "x"}, single), ("/api/chat", {"messages": user("x")}, single), ("/api/show", {}, single),
                             ("/api/embed", {"input": "x"}, double), ("/api/embeddings", {"prompt": "x"}, double)):
        r = t.d.post(path, {"model": "nosuch", **body})
        t.check(path, r.status == 404 and r.json == {"error": text}, body, r)
    r = t.d.delete("/api/delete", {"model": "nosuch"})
    t.check("/api/delete", r.status == 404 and r.json == {"error": single}, None, r)
    r = t.d.post("/api/copy", {"source": "nosuch", "destination": "x"})
    t.check("/api/copy", r.status == 404 and r.json == {"error": 'model "nosuch" not found'}, None, r)
    r = t.d.post("/v1/chat/completions", {"model": "nosuch", "messages": user("x")})
    t.check("/v1/chat/completions", r.status == 404 and r.json["error"]["message"] == single and r.json["error"]["type"] == "not_found_error", None, r)
    r = t.d.post("/v1/messages", {"model": "nosuch", "max_tokens": 1, "messages": user("x")})
    t.check("/v1/messages", r.status == 404 and r.json["error"]["type"] == "not_found_error" and r.json["error"]["message"] == single, None, r)
    r = t.d.post("/api/generate", {"model": "tiny:cloud", "prompt": "x"})
    t.check(":cloud is elsewhere", r.status == 404, None, r)


@part()
def case_06_raw(t):
    for more in ({"system": "x"}, {"template": "x"}, {"context": [1, 2]}):
        r = t.d.post("/api/generate", {"model": t.model, "prompt": "x", "raw": True, **more})
        t.check(f"raw and {list(more)[0]}", r.status == 400 and r.json == {"error": "raw mode does not support template, system, or context"}, more, r)


@part()
def case_07_keep_alive(t):
    for value in (0.5, "1m", -1, "-1m", "1h30m", "300ms", 3600):
        r = t.d.post("/api/generate", {"model": t.model, "keep_alive": value})
        t.check(f"keep_alive {value!r}", r.status == 200 and r.ndjson()[-1]["done"], value, r)
    for value in (True, "5", [], {}, "abc"):
        r = t.d.post("/api/generate", {"model": t.model, "keep_alive": value})
        t.check(f"keep_alive {value!r}", r.status == 400 and r.error, value, r)
    t.d.post("/api/generate", {"model": t.model, "keep_alive": 0.5})
    t.check("half a second later it is gone", wait_until(lambda: t.d.get("/api/ps").json["models"] == [], 5), None, t.d.get("/api/ps"))
    t.d.post("/api/generate", {"model": t.model, "keep_alive": "-1m"})
    at = t.d.get("/api/ps").json["models"][0]["expires_at"]
    t.check("for ever is centuries ahead", int(at[:4]) > 2200, None, at)
    t.d.post("/api/generate", {"model": t.model, "keep_alive": "5m"})


@part(kinds=("mock", "default"))
def case_08_think_on_a_plain_model(t):
    if not t.mock:
        r = t.d.post("/api/chat", {"model": t.model, "messages": user("x"), "think": True})
        t.check("native", r.status == 400 and r.json == {"error": f'"{t.model}" does not support thinking'}, None, r)
        r = t.d.post("/api/generate", {"model": t.model, "prompt": "x", "think": "high"})
        t.check("generate", r.status == 400, None, r)
    r = t.d.post("/v1/messages", {"model": t.model, "max_tokens": 4, "messages": user("x"), "thinking": {"type": "enabled", "budget_tokens": 1024}})
    t.check("anthropic drops it", r.status == 200 and r.json["content"][0]["type"] == "text", None, r)
    r = t.d.post("/api/chat", {"model": t.model, "messages": user("x"), "think": "much", "stream": False})
    t.check("no such think", r.status == 400 and r.error == 'invalid think value: "much" (must be "high", "medium", "low", "max", true, or false)', None, r)


@part()
def case_09_num_predict(t):
    # Sampled, a model may end before its tokens are spent.
    r = t.d.post("/api/generate", ask(t, stream=False, options={**CALM, "num_predict": 3})).json
    t.check("native", r.get("eval_count") == 3 and r.get("done_reason") == "length", None, r)
    r = t.d.post("/v1/chat/completions", {"model": t.model, "messages": user("hello there"), "max_tokens": 3, "temperature": 0}).json
    t.check("openai", r["choices"][0]["finish_reason"] == "length" and r["usage"]["completion_tokens"] == 3, None, r)
    r = t.d.post("/v1/completions", {"model": t.model, "prompt": "hello there", "max_tokens": 3, "temperature": 0}).json
    t.check("completions", r["choices"][0]["finish_reason"] == "length", None, r)
    r = t.d.post("/v1/messages", {"model": t.model, "messages": user("hello there"), "max_tokens": 3, "temperature": 0}).json
    t.check("anthropic", r["stop_reason"] == "max_tokens" and r["usage"]["output_tokens"] == 3, None, r)
    r = t.d.post("/api/generate", ask(t, stream=False, options={**CALM, "num_predict": 0})).json
    t.check("num_predict 0", r.get("done") is True and r.get("eval_count", 0) == 0, None, r)


@part()
def case_10_stop_never_leaks(t):
    text = t.d.post("/api/generate", ask(t, "one two three", stream=False)).json["response"]
    for begin, length in ((4, 5), (6, 6), (2, 9)):
        stop = text[begin:begin + length]
        if len(stop) < 2:
            continue
        body = ask(t, "one two three", options={**CALM, "stop": [stop]})
        wanted = text[: text.index(stop)]
        lines = list(t.d.ndjson("/api/generate", body))
        t.same(f"{stop!r} streamed", "".join(x.get("response", "") for x in lines), wanted)
        t.check(f"{stop!r}: no line has any of it", all(x["done"] or wanted.startswith("".join(y.get("response", "") for y in lines[: i + 1])) for i, x in enumerate(lines)), None, lines)
        t.same(f"{stop!r} whole", t.d.post("/api/generate", {**body, "stream": False}).json["response"], wanted)
        t.same(f"{stop!r} reason", lines[-1]["done_reason"], "stop")


@part(needs={"format"})
def case_11_format_when_hot(t):
    for think in (False, True) if "thinking" in t.can else (None,):
        for seed in range(6):
            body = {"model": t.model, "messages": user("a thing"), "format": SCHEMA, "stream": False, "options": {"temperature": 1.5, "seed": seed, "num_predict": 300}}
            if think is not None:
                body["think"] = think
            r = t.d.post("/api/chat", body).json
            t.check(f"think {think}, seed {seed}", fits_schema(r["message"]["content"]), body, r)
            if think:
                t.check(f"it thought, seed {seed}", bool(r["message"].get("thinking")), None, r)


@part(needs={"tools"})
def case_12_tools_on_three_wires(t):
    r = [x for x in t.d.ndjson("/api/chat", {"model": t.model, "messages": user("w"), "tools": [WEATHER], "options": CALM}) if x["message"].get("tool_calls")]
    t.check("native: an object in one chunk with content ''", len(r) == 1 and r[0]["message"]["tool_calls"][0]["function"]["arguments"] == {"city": "Paris"} and r[0]["message"]["content"] == "", None, r)
    events = [e for _, e in t.d.sse("/v1/chat/completions", {"model": t.model, "messages": user("w"), "tools": [WEATHER], "stream": True, "temperature": 0})]
    text = "".join(k["function"].get("arguments", "") for e in events if e != "[DONE]" for c in e["choices"] for k in c["delta"].get("tool_calls", []))
    t.check("openai: a text", json.loads(text or "null") == {"city": "Paris"}, None, events)
    f = WEATHER["function"]
    events = list(t.d.sse("/v1/messages", {"model": t.model, "max_tokens": 50, "messages": user("w"), "stream": True, "temperature": 0, "tools": [
        {"name": f["name"], "input_schema": f["parameters"]}]}))
    text = "".join(e["delta"].get("partial_json", "") for k, e in events if k == "content_block_delta")
    t.check("anthropic: input_json_delta", json.loads(text or "null") == {"city": "Paris"}, None, events)
    start = [e["content_block"] for k, e in events if k == "content_block_start"]
    t.check("anthropic: input {} at the start", start and start[-1].get("input") == {}, None, start)


@part()
def case_13_top_logprobs(t):
    for path, body in (("/api/generate", {"prompt": "x"}), ("/api/chat", {"messages": user("x")}), ("/v1/chat/completions", {"messages": user("x")})):
        for n in (21, -1):
            r = t.d.post(path, {"model": t.model, "logprobs": True, "top_logprobs": n, **body})
            t.check(f"{path} {n}", r.status == 400 and r.error == "top_logprobs must be between 0 and 20", n, r)


@part(kinds=("mock",))
def case_14_queue_full(t):
    with slow(t, ms=150, env={"OLLAMA_MAX_QUEUE": "1", "OLLAMA_NUM_PARALLEL": "1", "OLLAMA_MAX_LOADED_MODELS": "1"}) as d:
        # One runs, one waits, the third is turned away: of three models where one may be loaded.
        answers, threads = {}, []
        for i in range(3):
            body = {"model": f"m{i}", "prompt": "a b c d e f g h", "stream": False}
            threads.append(threading.Thread(target=lambda i=i, body=body: answers.__setitem__(i, d.post("/api/generate", body))))
            threads[-1].start()
            time.sleep(0.25)
        for x in threads:
            x.join()
        t.same("the first two are answered", [answers[0].status, answers[1].status], [200, 200])
        t.check("the third is not", answers[2].status == 503 and answers[2].error == "server busy, please try again.  maximum pending requests exceeded", None, answers[2])
        t.check("Retry-After", answers[2].headers.get("retry-after"), None, answers[2].headers)
        r = d.post("/api/generate", {"model": "m2", "prompt": "a", "stream": False})
        t.check("later it is", r.status == 200, None, r)
        for path, body, kind in (("/v1/chat/completions", {"messages": user("a b c d e f g h")}, openai.InternalServerError), ):
            hold = [d.stream("POST", "/api/generate", {"model": "m0", "prompt": "a " * 20})]
            second = threading.Thread(target=lambda: d.post("/api/generate", {"model": "m1", "prompt": "a", "stream": False}))
            time.sleep(0.2)
            second.start()
            time.sleep(0.2)
            c = openai.OpenAI(base_url=d.url + "/v1", api_key="x", max_retries=0)
            t.raises("openai's client sees 503", kind, lambda: c.chat.completions.create(model="m2", messages=user("a")), 503, "maximum pending requests exceeded")
            for x in hold:
                x.close()
            second.join()


@part(kinds=("mock",))
def case_15_client_leaves(t):
    with slow(t, ms=100) as d:
        for path, body in (("/api/generate", {"prompt": "a " * 200}), ("/api/chat", {"messages": user("a " * 200)}),
                           ("/v1/chat/completions", {"messages": user("a " * 200), "stream": True}),
                           ("/v1/messages", {"messages": user("a " * 200), "stream": True, "max_tokens": 300}),
                           ("/v1/responses", {"input": "a " * 200, "stream": True}),
                           ("/v1/completions", {"prompt": "a " * 200, "stream": True})):
            s = d.stream("POST", path, {"model": "m", **body})
            t.check(f"{path} streams", s.status == 200 and bool(next(iter(s))), None, s.status)
            s.close()
            # With keep_alive 0 a model goes as soon as nobody uses it.
            d.post("/api/generate", {"model": "m", "keep_alive": 0})
            t.check(f"{path}: nobody uses the model a little later", wait_until(lambda: d.get("/api/ps").json["models"] == [], 1.5), None, d.get("/api/ps"))
        c = d.connect()
        c.request("POST", "/api/generate", json.dumps({"model": "m", "prompt": "a " * 200, "stream": False}))
        time.sleep(0.3)
        c.close()
        d.post("/api/generate", {"model": "m", "keep_alive": 0})
        t.check("not streamed: the same", wait_until(lambda: d.get("/api/ps").json["models"] == [], 1.5), None, d.get("/api/ps"))
        c = openai.OpenAI(base_url=d.url + "/v1", api_key="x", max_retries=0)
        s = c.chat.completions.create(model="m", messages=user("a " * 200), stream=True)
        next(iter(s))
        s.close()
        d.post("/api/generate", {"model": "m", "keep_alive": 0})
        t.check("openai's client closes its stream", wait_until(lambda: d.get("/api/ps").json["models"] == [], 1.5), None, d.get("/api/ps"))
        t.raises("openai's client runs out of time", openai.APITimeoutError, lambda: openai.OpenAI(
            base_url=d.url + "/v1", api_key="x", max_retries=0, timeout=0.5).chat.completions.create(model="m", messages=user("a " * 200)))
        d.post("/api/generate", {"model": "m", "keep_alive": 0})
        t.check("and the slot is free", wait_until(lambda: d.get("/api/ps").json["models"] == [], 1.5), None, d.get("/api/ps"))


@part(kinds=("tiny", "default"))
def case_16_prompt_too_long(t):
    n = 512
    for path, body in (("/api/chat", {"messages": user("a b " * n)}), ("/api/generate", {"prompt": "a b " * n})):
        r = t.d.post(path, {"model": t.model, **body, "options": {"num_ctx": 256}})
        m = re.fullmatch(r"input length \((\d+) tokens\) exceeds the model's maximum context length \((\d+) tokens\)", r.error or "")
        t.check(path, r.status == 400 and m and int(m[1]) >= int(m[2]) and int(m[2]) == 256, None, r)
    long = 4 * tiny.CONTEXT if t.tiny else 20000
    r = t.d.post("/v1/chat/completions", {"model": t.model, "messages": user("a b " * long)})
    t.check("openai", r.status == 400 and "exceeds the model's maximum context length" in (r.error or ""), None, r)
    r = t.d.post("/v1/messages", {"model": t.model, "max_tokens": 5, "messages": user("a b " * long)})
    t.check("anthropic", r.status == 400 and "exceeds the model's maximum context length" in (r.error or ""), None, r)


@part()
def case_17_blobs(t):
    data = os.urandom(100_000)
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    t.same("HEAD before", t.d.head("/api/blobs/" + digest).status, 404)
    t.same("POST", t.d.post("/api/blobs/" + digest, data).status, 201)
    t.same("HEAD after", t.d.head("/api/blobs/" + digest).status, 200)
    t.same("POST again", t.d.post("/api/blobs/" + digest, data).status, 200)
    wrong = "sha256:" + "0" * 64
    r = t.d.post("/api/blobs/" + wrong, data)
    t.check("another digest", r.status == 400 and r.error == f'digest mismatch, expected "{wrong}", got "{digest}"', None, r)
    t.same("and is not kept", t.d.head("/api/blobs/" + wrong).status, 404)
    for name in ("sha256:abc", "md5:" + "0" * 64, "sha256:" + "g" * 64, "x", "sha256-" + "0" * 64 + "0"):
        r = t.d.head("/api/blobs/" + name)
        t.same(f"HEAD {name[:12]}", r.status, 400)
        r = t.d.post("/api/blobs/" + name, b"x")
        t.check(f"POST {name[:12]}", r.status == 400 and r.error == "invalid digest format", name, r)
    empty = "sha256:" + hashlib.sha256(b"").hexdigest()
    t.check("an empty one", t.d.post("/api/blobs/" + empty, b"").status in (200, 201))


@part()
def case_18_copy_and_delete(t):
    def tags():
        return {m["name"]: m["digest"] for m in t.d.get("/api/tags").json["models"]}

    def blobs():
        return {p.name for p in (Path(t.d.store) / "blobs").rglob("*") if p.is_file()}

    before = blobs()
    r = t.d.post("/api/create", {"model": "one", "from": "plain", "system": "A system of its own for this case.", "stream": False})
    t.check("create", r.status == 200 and r.json.get("status") == "success", None, r)
    made = blobs()
    r = t.d.post("/api/copy", {"source": "one", "destination": "two"})
    t.check("copy: 200, nothing", r.status == 200 and r.body == b"", None, r)
    names = tags()
    t.check("the same digest", names.get("one:latest") and names.get("one:latest") == names.get("two:latest"), None, names)
    r = t.d.delete("/api/delete", {"model": "one"})
    t.check("delete: 200, nothing", r.status == 200 and r.body == b"", None, r)
    t.check("its blobs stay", made <= blobs(), made - blobs(), None)
    t.check("the other is still shown", t.d.post("/api/show", {"model": "two"}).status == 200)
    t.same("delete the other by name", t.d.delete("/api/delete", {"name": "two"}).status, 200)
    left = blobs()
    t.check("its own blobs are gone", made > before and not (made - before) & left, made - before, (made - before) & left)
    t.check("those of others are not", before <= left, before - left)
    for body, text in (({"source": "a b", "destination": "x"}, 'source "a b" is invalid'), ({"source": "plain", "destination": "a b"}, 'destination "a b" is invalid')):
        r = t.d.post("/api/copy", body)
        t.check(text, r.status == 400 and r.error == text, body, r)


@part()
def case_19_hosts_and_origins(t):
    for host in ("evil.example", "evil.example:11434", "127.0.0.1.evil.example"):
        r = t.d.get("/api/version", headers={"Host": host})
        t.check(f"Host {host}", r.status == 403 and r.body == b"", host, r)
    for host in ("localhost", f"127.0.0.1:{t.d.port}", "[::1]:1", "x.localhost", "y.local", "z.internal", "192.168.1.5", "10.0.0.1:80", "0.0.0.0"):
        r = t.d.get("/api/version", headers={"Host": host})
        t.check(f"Host {host}", r.status == 200, host, r)
    for origin in ("http://evil", "https://localhost.evil.example", "null", "http://127.0.0.1.evil.example"):
        r = t.d.get("/api/version", headers={"Origin": origin})
        t.check(f"Origin {origin}", r.status == 403, origin, r)
    for origin in ("http://localhost", "https://127.0.0.1:3000", "http://0.0.0.0:5", "app://obsidian.md", "tauri://localhost", "vscode-webview://abc", "file://"):
        r = t.d.get("/api/version", headers={"Origin": origin})
        t.check(f"Origin {origin}", r.status == 200 and r.headers.get("access-control-allow-origin") in (origin, "*"), origin, r.headers)
    for path in ("/api/chat", "/v1/chat/completions", "/v1/messages"):
        r = t.d.request("OPTIONS", path, headers={"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,authorization"})
        allowed = r.headers.get("access-control-allow-headers", "").lower()
        wanted = ("authorization", "content-type", "user-agent", "accept", "x-requested-with", "openai-beta", "x-stainless-", "x-api-key", "anthropic-version", "anthropic-beta")
        t.check(f"OPTIONS {path}", r.status == 204 and all(x in allowed for x in wanted) and "POST" in r.headers.get("access-control-allow-methods", ""), wanted, (r.status, r.headers))


@part()
def case_20_openai_frames(t):
    body = {"model": t.model, "messages": user("hello there"), "max_tokens": 8, "stream": True}
    raw = t.d.post("/v1/chat/completions", body)
    t.check("an event stream", raw.type.startswith("text/event-stream"), None, raw.type)
    t.check("ends with [DONE]", raw.body.endswith(b"data: [DONE]\n\n"), None, raw.body[-80:])
    t.check("data: and nothing else", all(x.startswith("data: ") for x in raw.text.split("\n\n") if x), None, raw.text[:200])
    events = [e for _, e in raw.sse()][:-1]
    t.same("one id", len({e["id"] for e in events}), 1)
    t.check("an id of 96 bits", re.fullmatch(r"chatcmpl-[0-9a-f]{24}", events[0]["id"]), None, events[0]["id"])
    t.check("no usage unasked", not any(e.get("usage") for e in events), None, events[-1])
    events = [e for _, e in t.d.sse("/v1/chat/completions", {**body, "stream_options": {"include_usage": True}})][:-1]
    t.check("usage asked for", events[-1]["choices"] == [] and events[-1]["usage"]["total_tokens"] > 0, None, events[-1])
    again = t.d.post("/v1/chat/completions", {**body, "stream": False}).json["id"]
    t.check("another answer, another id", again != events[0]["id"], None, again)
    raw = t.d.post("/v1/completions", {"model": t.model, "prompt": "ab", "max_tokens": 3, "stream": True})
    t.check("completions end with [DONE]", raw.body.endswith(b"data: [DONE]\n\n"), None, raw.body[-80:])
    raw = t.d.post("/v1/responses", {"model": t.model, "input": "ab", "max_output_tokens": 3, "stream": True})
    t.check("responses have no [DONE]", b"[DONE]" not in raw.body and raw.body.startswith(b"event: response.created\ndata: "), None, raw.body[:200])


@part(kinds=("mock",))
def case_20_ended_in_mid_stream(t):
    for path, body in (("/v1/chat/completions", {"messages": user("a " * 300), "stream": True}), ("/v1/messages", {"messages": user("a " * 300), "stream": True, "max_tokens": 900}),
                       ("/api/chat", {"messages": user("a " * 300)})):
        d = slow(t, "--drain-timeout", "500ms", ms=100)
        try:
            s = d.stream("POST", path, {"model": "m", **body}, timeout=60)
            next(iter(s))
            time.sleep(0.3)
            os.kill(d.pid, signal.SIGTERM)
            rest = s.read().decode()
            ok = {"/api/chat": lambda: "error" in json.loads(rest.strip().split("\n")[-1]),
                  "/v1/messages": lambda: "event: error\n" in rest and json.loads(rest.split("event: error\ndata: ")[1].split("\n")[0])["type"] == "error",
                  "/v1/chat/completions": lambda: rest.endswith("data: [DONE]\n\n") and '"error"' in rest.split("\n\n")[-3]}[path]()
            t.check(f"{path}: an error frame", ok, None, rest[-400:])
            s.close()
        except Exception as e:  # noqa: BLE001
            t.check(f"{path}: an error frame", False, "SIGTERM in mid-stream", f"{type(e).__name__}: {e}")
        finally:
            code = d.end(check=False)
            t.check(f"{path}: the daemon ends well", code in (0, 143), None, code)  # 143: the second signal came first


@part()
def case_22_base64_embeddings(t):
    f = t.d.post("/v1/embeddings", {"model": t.model, "input": ["a b", "c"], "encoding_format": "float"}).json["data"]
    b = t.d.post("/v1/embeddings", {"model": t.model, "input": ["a b", "c"], "encoding_format": "base64"}).json["data"]
    for x, y in zip(f, b):
        v = struct.unpack(f"<{len(x['embedding'])}f", base64.b64decode(y["embedding"]))
        t.check(f"input {x['index']}", max(abs(p - q) for p, q in zip(x["embedding"], v)) < 1e-6 and not any(map(math.isnan, v)))


@part()
def case_23_head(t):
    for path in ("/", "/api/version", "/api/tags"):
        r = t.d.head(path)
        t.check(f"HEAD {path}", r.status == 200 and r.body == b"", None, r)
    t.same("GET /", t.d.get("/").text, "Ollama is running")
    version = t.d.get("/api/version").json["version"]
    t.check("a version from 0.14 on", tuple(map(int, re.findall(r"\d+", version)[:2])) >= (0, 14), None, version)
    r = t.d.get("/api/status")
    t.check("status", r.json == {"cloud": {"disabled": True, "source": "config"}}, None, r)
    r = t.d.get("/api/health")
    t.check("health", r.status == 200 and {"status", "version", "loaded", "queue"} <= set(r.json), None, r)
    r = t.d.get("/metrics")
    t.check("metrics", r.status == 200 and r.type.startswith("text/plain") and re.search(r"(?m)^# TYPE \S+ (counter|gauge|histogram)$", r.text), None, r)
    r = t.d.get("/openapi.json")
    t.check("openapi.json", r.status == 200 and r.json["openapi"].startswith("3.1") and {"/api/chat", "/v1/chat/completions", "/v1/messages"} <= set(r.json["paths"]), None, r)


@part()
def case_24_methods_and_paths(t):
    r = t.d.get("/api/chat")
    t.check("405", r.status == 405 and r.text == "405 method not allowed" and r.type.startswith("text/plain"), None, r)
    r = t.d.get("/api/nope")
    t.check("404", r.status == 404 and r.text == "404 page not found" and r.type.startswith("text/plain"), None, r)
    for path in ("/api/me", "/api/signout", "/api/experimental/web_search", "/api/experimental/web_fetch"):
        t.check(path, t.d.post(path, {}).status in (401, 404), None, path)
    for path, wanted in (("/api/generate", "POST"), ("/api/tags", "GET")):
        r = t.d.request("PUT", path)
        t.check(f"PUT {path}", r.status == 405 and wanted in r.headers.get("allow", wanted), None, r)
    r = t.d.get("/v1/nope")
    t.check("/v1/nope", r.status == 404 and r.json["error"]["message"], None, r)


@part(kinds=("tiny", "default"))
def ours_tokens(t):
    r = t.d.post("/api/tokenize", {"model": t.model, "content": "Grüße, 世界! 🙂"})
    t.check("tokenize", r.status == 200 and r.json["count"] == len(r.json["tokens"]) > 0, None, r)
    back = t.d.post("/api/detokenize", {"model": t.model, "tokens": t.d.post("/api/tokenize", {"model": t.model, "content": "Grüße, 世界! 🙂", "add_special": False}).json["tokens"]})
    t.same("and back", back.json.get("content"), "Grüße, 世界! 🙂")
    r = t.d.post("/api/tokenize", {"model": t.model, "messages": user("hi"), **off(t)})
    n = t.d.post("/api/chat", {"model": t.model, "messages": user("hi"), "stream": False, "options": {"num_predict": 1}}).json["prompt_eval_count"]
    t.same("messages through the template", r.json.get("count"), n)
    r = t.d.post("/api/tokenize", {"model": t.model, "content": "ab", "with_pieces": True})
    t.check("with pieces", r.status == 200 and "ab" in "".join(str(p.get("piece", p) if isinstance(p, dict) else p) for p in r.json.get("pieces", r.json["tokens"])), None, r)
    r = t.d.post("/api/verify", {"model": "tiny", "deep": True})
    t.check("verify", r.status == 200, None, r)
    r = t.d.post("/api/generate", {"model": t.model, "prompt": "hello", "_debug_render_only": True, "stream": False})
    t.check("render only", r.status == 200 and "hello" in r.json.get("_debug_info", {}).get("rendered_template", ""), None, r)
    r = t.d.post("/api/detokenize", {"model": t.model, "tokens": [99999999]})
    t.check("no such token", r.status == 400 and r.error, None, r)


@part()
def ours_warnings(t):
    r = t.d.post("/api/chat", {"model": t.model, "messages": user("hi"), "stream": False, "options": {"num_predict": 2, "tempratur": 1}, "frobnicate": 1})
    w = " ".join(r.json.get("warnings", []))
    t.check("unknown fields are told", r.status == 200 and "frobnicate" in w and "tempratur" in w, None, r)
    r = t.d.post("/v1/chat/completions", {"model": t.model, "messages": user("hi"), "max_tokens": 2, "frobnicate": 1})
    t.check("on /v1 too", r.status == 200 and "frobnicate" in json.dumps(r.json.get("warnings", [])), None, r)


@part(kinds=("tiny",))
def pull_and_push_fail_well(t):
    r = t.d.post("/api/pull", {"model": "127.0.0.1:9/team/tiny:v1", "insecure": True, "stream": False}, timeout=60)
    t.check("/api/pull nobody there", r.status >= 400 and r.error, None, r)
    t.d.post("/api/copy", {"source": "tiny", "destination": "127.0.0.1:9/team/tiny:v1"})
    for path in ("/api/push",):  # (each is tried several times, which takes seconds)
        r = t.d.post(path, {"model": "127.0.0.1:9/team/tiny:v1", "insecure": True}, timeout=60)
        last = r.ndjson()[-1] if r.body.strip() else {}
        t.check(f"{path} nobody there, streamed", "error" in last, None, r)
    for path in ("/api/pull", "/api/push"):
        r = t.d.post(path, {"model": "a b"})
        t.check(f"{path} no name", r.status == 400 and r.error, None, r)
    t.d.delete("/api/delete", {"model": "127.0.0.1:9/team/tiny:v1"})
