#!/usr/bin/env python3
"""mlxctl with a daemon: how it is found, ps, stop, run and chat. The daemon is daemon_server.py's.

    test_daemon.py BIN_DIR SOURCE_DIR
"""

import fcntl
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from daemon_server import TEMPLATE, Daemon  # noqa: E402

BIN, SOURCE = os.path.abspath(sys.argv[1]), Path(sys.argv[2]).resolve()
MLXCTL = os.path.join(BIN, "mlxctl")
TINY = str(SOURCE / "tests" / "runner" / "fixtures" / "tiny_chat")
TIMEOUT = 60
failed = []
passed = 0
HOME = None


def check(name, ok, *what):
    global passed
    if ok:
        passed += 1
        return
    failed.append(name)
    print("FAIL", name)
    for w in what:
        print("    ", repr(w)[-1500:])


def environment(**more):
    env = {k: v for k, v in os.environ.items() if k not in ("MLXSERVE_HOST", "OLLAMA_HOST", "MLXSERVE_API_KEY")}
    return dict(env, MLXR_HOME=HOME, HOME=HOME, LC_ALL="C.UTF-8", http_proxy="http://127.0.0.1:1", **more)


def mlxctl(*args, stdin=None, **env):
    given = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin.encode()}
    p = subprocess.run([MLXCTL, *args], capture_output=True, env=environment(**env), timeout=TIMEOUT, check=False, cwd=HOME, **given)
    return p.returncode, p.stdout.decode("utf-8", "replace"), p.stderr.decode("utf-8", "replace")


def wait_until(true):
    end = time.monotonic() + TIMEOUT
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def find_tests(d):
    code, out, err = mlxctl("ps")
    check("no daemon", (code, out) == (1, "") and "no daemon serves this store" in err and "MLXSERVE_HOST" in err, code, out, err)
    code, out, err = mlxctl("stop", "x")
    check("none to stop in", (code, out) == (1, "") and "no daemon serves this store" in err, code, out, err)
    port = str(d.port)
    for host in [d.url, f"127.0.0.1:{port}", ":" + port, f"0.0.0.0:{port}", f"localhost:{port}", f"http://localhost:{port}/",
                 f"http://0.0.0.0:{port}"]:
        code, out, err = mlxctl("ps", "--host", host)
        check("--host " + host, code == 0 and "NAME" in out, code, out, err)
    check("MLXSERVE_HOST", mlxctl("ps", MLXSERVE_HOST=d.url)[0] == 0)
    check("OLLAMA_HOST, with quotes", mlxctl("ps", OLLAMA_HOST=f' "{d.url}" ')[0] == 0)
    check("MLXSERVE_HOST comes first", mlxctl("ps", MLXSERVE_HOST=d.url, OLLAMA_HOST="127.0.0.1:1")[0] == 0)
    check("--host comes before both", mlxctl("ps", "--host", d.url, MLXSERVE_HOST="127.0.0.1:1", OLLAMA_HOST="?")[0] == 0)

    # Where nothing listens the message says what the address was taken for.
    for host, url in [("127.0.0.1:1", "http://127.0.0.1:1"), (":1", "http://127.0.0.1:1"), ("[::1]:1", "http://[::1]:1"),
                      ("https://127.0.0.1:1", "https://127.0.0.1:1"), ("http://127.0.0.1:1/a/b/", "http://127.0.0.1:1/a/b"),
                      ("[::]:1", "http://[::1]:1"), ("http://127.0.0.9", "http://127.0.0.9:80"), ("https://127.0.0.9", "https://127.0.0.9:443"),
                      ("127.0.0.9", "http://127.0.0.9:11434"), ("::1", "http://[::1]:11434"), ("unix:nothing.sock", "unix:nothing.sock")]:
        code, out, err = mlxctl("ps", "--host", host)
        check("nobody at " + host, code == 1 and f"the daemon at {url} (--host) cannot be reached" in err, code, out, err)
    code, out, err = mlxctl("ps", OLLAMA_HOST="127.0.0.1:1")
    check("nobody, and whose word it was", code == 1 and "http://127.0.0.1:1 (OLLAMA_HOST)" in err, code, out, err)
    for host in ["ftp://x", "127.0.0.1:x", "127.0.0.1:0", "127.0.0.1:65536", "a b", "http://u@h", "unix:", "http://h/?q", "[::1", "[::1]x", "h:"]:
        code, out, err = mlxctl("ps", "--host", host)
        check("no address: " + host, code == 1 and "--host: " in err and err.count("\n") == 1, code, out, err)
    code, out, err = mlxctl("run", "x", "y", "--host", "h", "--local")
    check("--host and --local", code == 2, code, out, err)

    # daemon.json counts while its writer lives.
    file = Path(HOME) / "daemon.json"
    file.write_text(json.dumps({"url": d.url, "pid": 1, "version": "0"}))
    code, out, err = mlxctl("ps")
    check("a dead daemon's file", code == 1 and "no daemon serves this store" in err, code, out, err)
    with file.open("r+") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        code, out, err = mlxctl("ps")
        check("a living daemon's file", code == 0 and "NAME" in out, code, out, err)
        check("the environment comes first", mlxctl("ps", MLXSERVE_HOST="127.0.0.1:1")[0] == 1)
        for text in ["{", "[]", "{}", '{"url": 7}', '{"url": "ftp://x"}']:
            file.write_text(text)
            code, out, err = mlxctl("ps")
            check("a broken file " + text, code == 1 and "daemon.json" in err and err.count("\n") == 1, code, out, err)
        fcntl.flock(f, fcntl.LOCK_SH)
        check("a shared lock is a reader's", mlxctl("ps")[0] == 1)
    file.unlink()

    path = os.path.join(HOME, "d.sock")
    u = Daemon(unix=path)
    for host in ["unix:" + path, "unix://" + path]:
        code, out, err = mlxctl("run", "echo", "hi", "--host", host)
        check(host.replace(HOME, ""), (code, out) == (0, "You said: hi\n"), code, out, err)
    u.close()
    p = Daemon(prefix="/behind/a/proxy")
    check("a path before the API's", mlxctl("run", "echo", "hi", "--host", p.url)[1] == "You said: hi\n")
    check("and without it", "404 page not found" in mlxctl("run", "echo", "hi", "--host", f"127.0.0.1:{p.port}")[2])
    p.close()
    k = Daemon(key="secret")
    code, out, err = mlxctl("ps", "--host", k.url)
    check("without the key", code == 1 and "unauthorized" in err, code, out, err)
    check("with the key", mlxctl("ps", "--host", k.url, MLXSERVE_API_KEY="secret")[0] == 0)
    check("the key is not told", "geheim" not in mlxctl("ps", "--host", k.url, MLXSERVE_API_KEY="geheim")[2])
    k.close()


def ps_tests(d):
    now = time.time()

    def at(seconds, zone="Z"):
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now + seconds)) + zone

    one = {"digest": "sha256:" + "ab" * 32, "size": 4900000000, "context_length": 8192}
    d.server.ps_answer = {"models": [
        {"name": "a:latest", **one, "expires_at": at(272), "size_vram": 0},
        {"name": "b:8b", **one, "expires_at": at(3600 * 3 + 7200 + 30, "+02:00"), "size_vram": 4900000000, "digest": "cd" * 32},
        {"name": "c", **one, "expires_at": "2318-01-01T00:00:00.123456789Z", "size_vram": 1225000000},
        {"name": "d\x1b[31m", **one, "expires_at": at(-5), "size_vram": 0},
        {"name": "e", "expires_at": 7}, {}, 3]}
    code, out, err = mlxctl("ps", "--host", d.url)
    lines = out.splitlines()
    check("ps", code == 0 and len(lines) == 8 and lines[0].split() == ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"], code, out, err)
    check("a row", lines[1].split() == "a:latest abababababab 4.9 GB 100% CPU 8192 4 minutes from now".split(), lines)
    check("the GPU, a zone", lines[2].split() == "b:8b cdcdcdcdcdcd 4.9 GB 100% GPU 8192 3 hours from now".split(), lines)
    check("some of each", "75%/25% CPU/GPU" in lines[3] and lines[3].rstrip().endswith("forever"), lines)
    check("one that ends", lines[4].rstrip().endswith("ends when idle") and "\x1b" not in out, lines)
    code, out, err = mlxctl("ps", "--host", d.url, "--json")
    check("ps --json", code == 0 and json.loads(out) == d.server.ps_answer, code, out, err)
    for answer in [{}, {"models": None}, {"models": {}}]:
        d.server.ps_answer = answer
        code, out, err = mlxctl("ps", "--host", d.url)
        check(f"no list {answer}", (code, out) == (1, "") and "does not answer as a daemon does" in err, code, out, err)
    d.server.ps_answer = None


def stop_tests(d):
    d.loaded[:] = ["echo:latest", "busy:latest"]
    code, out, err = mlxctl("stop", "ECHO", "busy", "thinker", "--host", d.url)
    check("stop", (code, out, err) == (0, "ECHO is stopped\nbusy stops when its last answer ends\nthinker was not loaded\n", ""), code, out, err)
    check("it is", d.loaded == ["busy:latest"], d.loaded)
    d.loaded[:] = ["echo:latest"]
    code, out, err = mlxctl("stop", "nothing", "echo", "--host", d.url)
    check("stop one, not another", (code, out) == (1, "echo is stopped\n") and "model 'nothing' not found" in err, code, out, err)
    check("how it was asked", last(d, "/api/generate") == {"model": "echo", "keep_alive": 0, "stream": False}, d.requests)
    check("stop without a name", mlxctl("stop", "--host", d.url)[0] == 2)
    d.loaded[:] = []


def last(d, path):
    return [r for r in d.requests if r["path"] == path][-1]["body"]


def run_tests(d):
    at = ["--host", d.url]
    code, out, err = mlxctl("run", "echo", "Grüße <now> & here", *at)
    check("run", (code, out, err) == (0, "You said: Grüße <now> & here\n", ""), code, out, err)
    check("what was asked", last(d, "/api/generate") == {"model": "echo", "stream": True, "prompt": "Grüße <now> & here",
                                                        "options": {"num_predict": 512, "temperature": 0.0}}, last(d, "/api/generate"))
    check("as whom", d.requests[-1]["headers"].get("user-agent", "").startswith("mlxr/"), d.requests[-1])
    code, out, err = mlxctl("run", "echo", "-", *at, stdin="from a pipe\n")
    check("a prompt from a pipe", (code, out) == (0, "You said: from a pipe\n"), code, out, err)
    code, out, err = mlxctl("run", "echo:latest", "two", *at, stdin="parts\n")
    check("and behind the prompt", (code, out) == (0, "You said: two\n\nparts\n"), code, out, err)
    code, out, err = mlxctl("run", "echo", "", *at)
    check("an empty prompt is a message", (code, out) == (0, "You said: \n") and last(d, "/api/chat")["messages"] == [{"role": "user", "content": ""}], code, out, err)
    code, out, err = mlxctl("run", "echo", b"\xff".decode("utf-8", "surrogateescape"), *at)
    check("no UTF-8", code == 1 and "not valid UTF-8 from byte 0" in err, code, out, err)
    big = "x" * (8 << 20)
    code, out, err = mlxctl("run", "echo", "-", *at, stdin=big)
    check("a long prompt, a long line", code == 0 and len(out) == len(big) + 11, code, len(out), err)

    # options
    code, out, err = mlxctl(
        "run", "echo", "a", *at, "--system", "Be brief.", "--max-tokens", "3", "--temperature", "0.5", "--top-k", "3", "--top-p", "0.25",
        "--min-p", "0.125", "--typical-p", "0.5", "--repeat-penalty", "1.5", "--presence-penalty", "0.5", "--frequency-penalty", "-0.5",
        "--repeat-last-n", "-1", "--num-keep", "4", "--seed", "7", "--stop", "x\ny", "--stop", "ü", "--context", "4096",
        "--overflow", "truncate", "--format", "json", "--think", "off", "--verbose")
    body = last(d, "/api/generate")
    check("options", body["options"] == {"num_predict": 3, "temperature": 0.5, "top_k": 3, "top_p": 0.25, "min_p": 0.125, "typical_p": 0.5,
                                         "repeat_penalty": 1.5, "presence_penalty": 0.5, "frequency_penalty": -0.5, "repeat_last_n": -1,
                                         "num_keep": 4, "seed": 7, "stop": ["x\ny", "ü"], "num_ctx": 4096}, body)
    check("and the rest", body["system"] == "Be brief." and body["truncate"] is True and body["shift"] is False and body["format"] == "json"
          and body["think"] is False and "raw" not in body, body)
    check("an answer that was cut", out == "You said: a\n" and err.startswith("[done] 3 tokens in 2.50 s (stop): prompt 7 tokens, 2 of them known")
          and err.endswith(f", load 0.50 s, daemon {d.url}\n"), code, out, err)
    code, out, err = mlxctl("run", "echo", "a b c", *at, "--num-predict", "3", "--verbose")
    check("another", out == "You said: a\n" and "(length)" in err, code, out, err)
    schema = {"type": "object", "properties": {"z": {"type": "integer"}, "a": {}}}
    mlxctl("run", "echo", "a", *at, "--format", json.dumps(schema))
    check("a schema", json.dumps(last(d, "/api/generate")["format"]) == json.dumps(schema), last(d, "/api/generate"))
    code, out, err = mlxctl("run", "echo", "a", *at, "--format", "{")
    check("a broken schema", code == 1 and "format" in err, code, out, err)
    mlxctl("run", "echo", "a", *at, "--raw", "--system", "no")
    body = last(d, "/api/generate")
    check("raw", body["raw"] is True and "system" not in body, body)
    for word in ["error", "shift"]:
        mlxctl("run", "echo", "a", *at, "--overflow", word)
        body = last(d, "/api/generate")
        check("overflow " + word, (body["truncate"], body["shift"]) == (word == "shift", word == "shift"), body)
    n = len(d.requests)
    for option in [["--grammar", os.path.join(HOME, "g")], ["--regex", "a"], ["--device", "cpu"], ["--precision", "fast"], ["--kv", "f16"],
                   ["--threads", "2"], ["--answer-format", "hermes"], ["--ignore-eos"], ["--min-tokens", "1"], ["--mirostat", "1"],
                   ["--logit-bias", "1=2"], ["--choices", "2"], ["--dry-multiplier", "1"], ["--dry-sequence-breaker", "x"], ["--xtc-probability", "1"],
                   ["--min-keep", "2"], ["--runner", "mock"], ["--mock-token-ms", "1"]]:
        Path(HOME, "g").write_text('root ::= "a"')
        code, out, err = mlxctl("run", "echo", "a", *at, *option)
        name = option[0].lstrip("-").replace("-", "_")
        check("refused: " + option[0], code == 1 and out == "" and name.replace("choices", "num_choices") in err.replace("-", "_")
              and "a daemon cannot be told that" in err and "--local" in err, code, out, err)
    check("nothing was asked meanwhile", len(d.requests) == n, d.requests[n:])

    # events
    code, out, err = mlxctl("run", "echo", "a b", *at, "--json", "--logprobs", "2")
    events = [json.loads(x) for x in out.splitlines()]
    check("events", [e["event"] for e in events] == ["token"] * 4 + ["completed"] and [e.get("text") for e in events] ==
          ["You", " said:", " a", " b", "You said: a b"], events)
    check("probabilities", events[0] == {"event": "token", "choice": 0, "text": "You", "token": "You", "logprob": -0.25,
                                         "top": [{"token": "You", "logprob": -0.25}, {"token": "é", "logprob": -1.5}]}, events)
    check("they were asked for", last(d, "/api/generate")["top_logprobs"] == 2 and last(d, "/api/generate")["logprobs"] is True)
    here = [json.loads(x) for x in mlxctl("run", "mock", "a b", "--runner", "mock", "--json")[1].splitlines()]
    check("the same keys as here", set(events[-1]) == set(here[-1]) and set(events[0]) - {"token", "logprob", "top"} <= set(here[0]),
          events[-1], here[-1], here[0])
    check("the numbers", events[-1]["prompt_tokens"] == 7 and events[-1]["cached_tokens"] == 2 and events[-1]["generated_tokens"] == 4
          and events[-1]["prefill_ms"] == 1000 and events[-1]["load_ms"] == 500 and events[-1]["queue_ms"] == 1
          and events[-1]["done_reason"] == "stop", events[-1])

    # thinking, tools, messages
    code, out, err = mlxctl("run", "thinker", "a", *at, "--think", "high")
    check("thinking is left out of a pipe", (code, out) == (0, "You said: a\n") and last(d, "/api/generate")["think"] == "high", code, out, err)
    code, out, err = mlxctl("run", "thinker", "a", *at, "--think", "on", "--json")
    events = [json.loads(x) for x in out.splitlines()]
    check("but told", events[0] == {"event": "token", "choice": 0, "text": "Let ", "part": "thinking"} and events[-1]["thinking"] == "Let me see."
          and events[-1]["text"] == "You said: a" and last(d, "/api/generate")["think"] is True, events)
    code, out, err = mlxctl("run", "echo", "a", *at, "--think", "on")
    check("who cannot think", code == 1 and '"echo" does not support thinking' in err, code, out, err)
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
    Path(HOME, "tools.json").write_text(json.dumps(tools))
    code, out, err = mlxctl("run", "caller", "a", *at, "--tools", "tools.json", "--system", "S")
    check("calls", (code, out) == (0, 'Wait.\n{"index": 0, "name": "look", "id": "call_0", "arguments": {"z":0,"a":"ü"}}\n'
                                      '{"index": 1, "name": "look", "id": "call_1", "arguments": {"z":1,"a":"ü"}}\n'), code, out, err)
    body = last(d, "/api/chat")
    check("tools go as they are", body["tools"] == tools and body["messages"] == [{"role": "system", "content": "S"}, {"role": "user", "content": "a"}], body)
    code, out, err = mlxctl("run", "caller", "a", *at, "--tools", "tools.json", "--json")
    events = [json.loads(x) for x in out.splitlines()]
    check("calls as events", [e["event"] for e in events] == ["token", "tool_call", "tool_call", "completed"] and events[1] ==
          {"event": "tool_call", "choice": 0, "part": "tool_call", "call": {"index": 0, "name": "look", "id": "call_0", "arguments": {"z": 0, "a": "ü"}}}
          and len(events[-1]["tool_calls"]) == 2, events)
    for option in [["--tool-choice", "required"], ["--one-call"]]:
        code, out, err = mlxctl("run", "caller", "a", *at, "--tools", "tools.json", *option)
        check("refused: " + option[0], code == 1 and option[0] in err, code, out, err)
    messages = [{"role": "user", "content": [{"type": "text", "text": "o"}, {"type": "text", "text": "ne"}]},
                {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"b": 1, "a": 2}'}}]},
                {"role": "tool", "name": "look", "content": "sunny"}, {"role": "user", "content": "two"}]
    Path(HOME, "m.json").write_text(json.dumps(messages))
    code, out, err = mlxctl("run", "echo", *at, "--messages", "m.json")
    body = last(d, "/api/chat")
    check("messages", (code, out) == (0, "You said: two\n") and body["messages"] == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "look", "arguments": {"b": 1, "a": 2}}}]},
        {"role": "tool", "tool_name": "look", "content": "sunny"}, {"role": "user", "content": "two"}], body, err)
    for text in ["{}", "[1]", '[{"role": "user", "content": [{"type": "image"}]}]', "[", '[{"role": "assistant", "tool_calls": [{"function": {"arguments": "{"}}]}]']:
        Path(HOME, "m.json").write_text(text)
        code, out, err = mlxctl("run", "echo", *at, "--messages", "m.json")
        check("messages that are none: " + text, code == 1 and "messages" in err and err.count("\n") == 1, code, out, err)


def trouble_tests(d):
    at = ["--host", d.url]
    for name, out_wanted, text in [("nothing", "", "model 'nothing' not found"), ("failing", "You said:", "the runner died"),
                                   ("cut", "You said:", "d"), ("mute", "You said: a", "the answer broke off"),
                                   ("wrong", "You said:", " is no text"),
                                   ("nonsense", "", "does not answer as a daemon does"), ("html", "", "status 500: <html>"),
                                   ("full", "", "server busy, please try again.  maximum pending requests exceeded")]:
        code, out, err = mlxctl("run", name, "a", *at)
        check("trouble: " + name, code == 1 and out.rstrip("\n") == out_wanted and text in err and err.count("\n") == 1, code, out, err)
    end = '{"done": true}'
    for text, ok in [(end, True), ("\r\n" + end + "\r\n\n \t\n", True), (end + "\n{}", True), ('{"done": false, "response": "a\\u0000b"}\n' + end, None),
                     ('{"done": false, "response": null, "thinking": null, "tool_calls": null, "logprobs": null}\n' + end, True),
                     ('{"done": true, "message": null, "eval_count": -1, "total_duration": 1e300, "prompt_eval_count": "7", "done_reason": 3}', True),
                     ('{"done": true, "eval_count": 1.5, "prompt_cached_count": 9, "prompt_eval_count": 3}', True),
                     ('{"done": false, "logprobs": [1, {}, {"token": 3, "logprob": "x", "top_logprobs": [[], {"token": null}]}], "response": "x"}\n' + end, True),
                     ('{"done": false, "logprobs": [{"token": "a", "top_logprobs": [' + ",".join(["{}"] * 50) + ']}], "response": "x"}\n' + end, True),
                     ('{"done": false, "tool_calls": [{}]}\n' + end, False), ('{"done": false, "tool_calls": [7]}\n' + end, False),
                     ('{"done": false, "tool_calls": [{"function": {"name": "f"}}, {"id": 7, "function": {"name": "g", "arguments": "{"}}]}\n' + end, True),
                     ('{"done": false, "tool_calls": {"function": 1}}\n' + end, True), ('{"done": "no"}\n' + end, False), ("[]\n" + end, False), ("null", False),
                     ('{"done": true, "done": true}', False), ("[" * 5000, False), ('{"done": true', False), ("\ufffd" + end, False), ("", False), ("\n\n", False),
                     ('{"message": {"content": {"a": 1}}, "done": false}', False), ('{"message": [], "response": "x", "done": false}\n' + end, True),
                     ('{"error": ""}', False), ('{"error": {"message": "odd"}}', False), ('{"error": 7}', False), ('{"done": true, "done_reason": "load"}', False)]:
        for form in [[], ["--json"]]:
            code, out, err = mlxctl("run", "raw", text, *at, *form)
            check(f"an odd answer: {text[:60]}", code in (0, 1) and (ok is None or ok == (code == 0)) and err.count("\n") == (code == 1), code, out, err)
            for line in out.splitlines() if form else []:
                check(f"an odd answer is told as JSON: {text[:60]}", isinstance(json.loads(line), dict), line)
    n = len(d.requests)
    mlxctl("run", "full", "a", *at)
    check("a full queue is told at once", len(d.requests) == n + 1, d.requests[n:])

    # Another kind of server, and one that says nothing.
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def rude():
        c, _ = listener.accept()
        c.recv(65536)
        c.sendall(b"SSH-2.0-other\r\n")
        c.close()

    threading.Thread(target=rude, daemon=True).start()
    code, out, err = mlxctl("ps", "--host", f":{port}")
    check("no HTTP", code == 1 and err.count("\n") == 1, code, out, err)

    p = subprocess.Popen([MLXCTL, "run", "endless", "a", *at], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment())
    got = b""
    while b" 3" not in got:
        got += os.read(p.stdout.fileno(), 65536)
    left = len(d.left)
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=TIMEOUT)
    check("Ctrl-C", p.returncode == 130 and b"[cancelled]" in err, p.returncode, err)
    check("and the daemon knows", wait_until(lambda: len(d.left) > left), d.left)
    p = subprocess.Popen([MLXCTL, "run", "echo", "a", "--host", f":{port}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment())
    c, _ = listener.accept()
    c.recv(65536)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=TIMEOUT)
    check("Ctrl-C before the first word", p.returncode == 130, p.returncode, out, err)
    c.settimeout(TIMEOUT)
    while c.recv(65536):  # the request; a timeout fails the test
        pass
    c.close()
    listener.close()
    p = subprocess.Popen([MLXCTL, "run", "endless", "a", *at], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment())
    os.read(p.stdout.fileno(), 10)
    left = len(d.left)
    p.stdout.close()
    p.wait(TIMEOUT)
    check("a reader that left", p.returncode == 1 and b"cannot write the answer" in p.stderr.read(), p.returncode)
    check("and the daemon knows that too", wait_until(lambda: len(d.left) > left), d.left)


def chat_tests(d):
    at = ["--host", d.url]
    code, out, err = mlxctl("chat", "nothing", *at, stdin="a\n")
    check("chat with nobody", (code, out) == (1, "") and "model 'nothing' not found" in err, code, out, err)
    code, out, err = mlxctl("chat", "echo", *at, "--system", "S", "--context", "512", stdin="one\n/set parameter seed 3\ntwo\n/show messages\n/show info\n/show template\n")
    check("chat", code == 0 and out.startswith("You said: one\nYou said: two\nuser: one\nassistant: You said: one\nuser: two\n"), code, out, err)
    check("where it is", f"device        daemon {d.url}\n" in out and out.endswith(TEMPLATE + "\n"), out)
    body = last(d, "/api/chat")
    check("the turns before", body == {"model": "echo", "stream": True, "options": {"seed": 3, "num_ctx": 512}, "messages": [
        {"role": "system", "content": "S"}, {"role": "user", "content": "one"}, {"role": "assistant", "content": "You said: one"},
        {"role": "user", "content": "two"}]}, body)
    check("it was loaded first", [r["path"] for r in d.requests[-4:]] == ["/api/generate", "/api/chat", "/api/chat", "/api/show"]
          and d.requests[-4]["body"] == {"model": "echo", "stream": False, "options": {"num_ctx": 512}}, d.requests[-4:])
    code, out, err = mlxctl("chat", "thinker", *at, "--verbose", "--think", "low", stdin="one\ntwo\n")
    body = last(d, "/api/chat")
    check("what it thought", body["messages"][1] == {"role": "assistant", "content": "You said: one", "thinking": "Let me see."} and body["think"] == "low", body)
    check("times", err.count("[done] 6 tokens") == 2, err)
    code, out, err = mlxctl("chat", "echo", *at, stdin="/set parameter mirostat 1\none\n/set parameter mirostat default\ntwo\n")
    check("a parameter it cannot take", code == 1 and out == "\nYou said: two\n" and "mirostat" in err, code, out, err)
    code, out, err = mlxctl("chat", "failing", *at, stdin="one\n/show messages\n")
    check("an answer that failed is taken back", code == 1 and "the runner died" in err and "user:" not in out, code, out, err)
    check("chat, --device", mlxctl("chat", "echo", *at, "--device", "ref", stdin="a\n")[0] == 1)

    left = len(d.left)
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(MLXCTL, ["mlxctl", "chat", "endless", *at], environment(TERM="dumb"))
    seen = b""

    def see(text):
        nonlocal seen
        end = time.monotonic() + TIMEOUT
        while text not in seen and time.monotonic() < end:
            if select.select([fd], [], [], 0.2)[0]:
                seen += os.read(fd, 65536)
        ok, seen = text in seen, seen.partition(text)[2]
        return ok

    check("a prompt", see(b">>> "), seen)
    os.write(fd, b"hello\n")
    check("an endless answer", see(b" 4 5 6"), seen)
    os.kill(pid, signal.SIGINT)
    check("Ctrl-C ends it", see(b">>> "), seen)
    check("and the daemon knows", wait_until(lambda: len(d.left) > left), d.left)
    os.write(fd, b"/show messages\n")
    check("what came stays", see(b"assistant: You said: 0 1 2 3 4 5 6"), seen)
    see(b">>> ")
    os.write(fd, b"/bye\n")
    check("the end", wait_until(lambda: os.waitpid(pid, os.WNOHANG) != (0, 0)))
    os.close(fd)


def choice_tests(d):
    """Who answers: here or there."""
    code, out, err = mlxctl("store", "import", TINY, "echo")
    if code != 0:
        check("a model for the store", False, code, out, err)
        return
    there, here = "You said: hi\n", ["--max-tokens", "3"]
    code, out, err = mlxctl("run", "echo", "hi", *here)
    check("no daemon: here", code == 0 and out != there, code, out, err)
    file = Path(HOME) / "daemon.json"
    file.write_text(json.dumps({"url": d.url, "pid": 1, "version": "0"}))
    check("a dead one: here", mlxctl("run", "echo", "hi", *here)[1] != there)
    with file.open("r+") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        code, out, err = mlxctl("run", "echo", "hi", *here)
        check("a name of the store: there", (code, out) == (0, there), code, out, err)
        code, out, err = mlxctl("run", "echo", "hi", *here, "--local")
        check("--local: here", code == 0 and out != there, code, out, err)
        check("a folder: here", mlxctl("run", TINY, "hi", *here)[1] != there)
        n = len(d.requests)
        check("the mock: here", mlxctl("run", "echo", "hi", "--runner", "mock")[0] == 0 and len(d.requests) == n)
        code, out, err = mlxctl("run", "thinker", "hi", *here)
        check("a name the store has not: here", code == 1 and "thinker" in err and out == "", code, out, err)
        code, out, err = mlxctl("run", "echo", "hi", "--threads", "1")
        check("what it cannot be told", code == 1 and "--threads" in err and "--local" in err, code, out, err)
        code, out, err = mlxctl("chat", "echo", stdin="hi\n")
        check("chat: there", (code, out) == (0, there), code, out, err)
        file.write_text("{")
        code, out, err = mlxctl("run", "echo", "hi", *here)
        check("a broken file: here", code == 0 and out != there, code, out, err)
    file.unlink()
    code, out, err = mlxctl("run", "echo", "hi", MLXSERVE_HOST=d.url)
    check("the environment: there", (code, out) == (0, there), code, out, err)
    check("but a folder: here", mlxctl("run", TINY, "hi", *here, MLXSERVE_HOST=d.url)[1] != there)
    check("and --local", mlxctl("run", "echo", "hi", *here, "--local", MLXSERVE_HOST=d.url)[1] != there)


def main():
    global HOME
    with tempfile.TemporaryDirectory() as home:
        HOME = os.path.realpath(home)
        d = Daemon()
        for part in [find_tests, ps_tests, stop_tests, run_tests, trouble_tests, chat_tests, choice_tests]:
            part(d)
        d.close()
    print(f"{passed} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)


main()
