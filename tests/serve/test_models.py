#!/usr/bin/env python3
"""Ollama's API about models against mlxserve: lists, show, copy, delete, blobs, create, pull, push, verify. Models, hub and registry are small
and on loopback.

    test_models.py BIN_DIR SOURCE_DIR [PART ...]
"""

import concurrent.futures
import datetime
import hashlib
import json
import os
import re
import shutil
import socket
import sys
import threading
import time
from pathlib import Path

BIN, SOURCE = os.path.abspath(sys.argv[1]), Path(sys.argv[2]).resolve()
sys.dont_write_bytecode = True
sys.path[:0] = [str(SOURCE / "tests" / "serve"), str(SOURCE / "tests" / "store")]
import hub_server  # noqa: E402
import registry_server  # noqa: E402
from daemon import Daemon, scratch  # noqa: E402

TINY = SOURCE / "tests" / "runner" / "fixtures" / "tiny_chat"
WAIT = 60
passed, failed = 0, []


def check(name, ok, *what):
    global passed
    if ok:
        passed += 1
        return
    failed.append(name)
    print("FAIL", name)
    for w in what:
        print("    ", repr(w)[-1500:])


def wait_until(true, seconds=WAIT):
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def sha(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def files_of(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def names(d):
    return [m["name"] for m in d.get("/api/tags").json["models"]]


def model(d, name):
    return next((m for m in d.get("/api/tags").json["models"] if m["name"] == name), None)


def blobs(d):
    folder = Path(d.store) / "blobs" / "sha256"
    return {p.name for p in folder.iterdir()} if folder.exists() else set()


def leftovers(d):
    """What no finished call leaves: temporary files, folders of sessions but those that keep uploads."""
    partial = Path(d.store) / "partial"
    return [p.name for p in partial.iterdir()] if partial.exists() else []


def upload(d, data):
    r = d.post("/api/blobs/" + sha(data), data)
    assert r.status in (200, 201), r
    return sha(data)


def error(name, answer, status, text):
    check(name, answer.status == status and answer.error == text, answer)


# ---- what needs no store, and lists ----


def simple(d):
    r = d.get("/api/version")
    check("version", r.status == 200 and tuple(map(int, r.json["version"].split("."))) >= (0, 14, 0) and r.json["mlxr"], r)
    check("status", d.get("/api/status").json == {"cloud": {"disabled": True, "source": "config"}})
    r = d.get("/api/health")
    check("health", r.status == 200 and r.json["status"] == "ok" and r.json["loaded"] == 0 and r.json["queue"] == 0, r)
    for path in ["/", "/api/version", "/api/tags"]:
        r = d.head(path)
        check("HEAD " + path, r.status == 200 and r.body == b"", r)
    check("root", d.get("/").text == "Ollama is running")
    r = d.get("/api/tags")
    check("an empty list", r.status == 200 and r.text == '{"models":[]}' and r.type == "application/json; charset=utf-8", r)
    check("nothing loaded", d.get("/api/ps").json == {"models": []})
    check("no store yet", error is not None and d.post("/api/show", {"model": "x"}).error == "model 'x' not found")
    for method, path in [("POST", "/api/tags"), ("GET", "/api/show"), ("POST", "/api/delete"), ("GET", "/api/pull"), ("PUT", "/api/blobs/x")]:
        r = d.request(method, path, b"" if method != "GET" else None)
        check(f"{method} {path}", r.status == 405 and r.text == "405 method not allowed", r)


def bodies(d):
    """What every body has in common."""
    for method, path in [("POST", "/api/show"), ("POST", "/api/copy"), ("DELETE", "/api/delete"), ("POST", "/api/create"), ("POST", "/api/pull"),
                         ("POST", "/api/push"), ("POST", "/api/verify")]:
        error(path + ": no body", d.request(method, path, b""), 400, "missing request body")
        for body in [b"{", b"[]", b"7", b'{"model": 1}' if path != "/api/copy" else b'{"source": 1}', b"\xff{}", b'{"a": 1, "a": 2}', b"[" * 3000]:
            r = d.request(method, path, body)
            check(f"{path}: {body[:20]}", r.status == 400 and r.error, r)
        if path not in ("/api/copy", "/api/verify"):
            error(path + ": no model", d.request(method, path, {}), 400, "model is required")
            error(path + ": an empty name", d.request(method, path, {"model": ""}), 400, "model is required")
            for bad in ["a b", "/etc", "../x", "x/../y", "a:b:c", "ü", "a" * 300, "-x"]:
                error(f"{path}: {bad[:10]} is no name", d.request(method, path, {"model": bad}), 400, "invalid model name")
    for path in ["/api/show", "/api/push"]:
        error(path + ": unknown", d.post(path, {"model": "nothing"}), 404, "model 'nothing' not found")
        error(path + ": unknown, by name", d.post(path, {"name": "nothing:7b"}), 404, "model 'nothing:7b' not found")
    error("delete: unknown", d.delete("/api/delete", {"model": "nothing"}), 404, "model 'nothing' not found")
    error("verify: unknown", d.post("/api/verify", {"model": "nothing"}), 404, "model 'nothing' not found")
    error("copy: source", d.post("/api/copy", {"source": "a b", "destination": "x"}), 400, 'source "a b" is invalid')
    error("copy: no source", d.post("/api/copy", {"destination": "x"}), 400, 'source "" is invalid')
    error("copy: destination", d.post("/api/copy", {"source": "x", "destination": "../x"}), 400, 'destination "../x" is invalid')
    error("copy: unknown", d.post("/api/copy", {"source": "nothing", "destination": "x"}), 404, 'model "nothing" not found')


def lists(d):
    d.import_model(TINY, "tiny")
    time.sleep(0.02)
    d.import_model(TINY, "org/Other:7b")
    models = d.get("/api/tags").json["models"]
    check("newest first", [m["name"] for m in models] == ["org/Other:7b", "tiny:latest"], models)
    m = models[1]
    check("a model", m["model"] == m["name"] and re.fullmatch("[0-9a-f]{64}", m["digest"]) and m["digest"] == models[0]["digest"], m)
    check("its size", m["size"] > os.path.getsize(TINY / "model.safetensors"), m)
    at = datetime.datetime.fromisoformat(m["modified_at"][:26] + m["modified_at"][29:].replace("Z", "+00:00"))
    check("its time", abs(at.timestamp() - time.time()) < 300 and re.fullmatch(r".*T\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d)", m["modified_at"]), m)
    details = m["details"]
    config = json.loads((TINY / "config.json").read_text())
    check("its details", details["format"] == "safetensors" and details["family"] == config["model_type"] and details["families"] == [config["model_type"]]
          and details["parent_model"] == "" and details["context_length"] == config["max_position_embeddings"]
          and details["embedding_length"] == config["hidden_size"] and re.fullmatch(r"[0-9.]+[KMB]?", details["parameter_size"])
          and re.fullmatch(r"int\d|BF16|F16|F32|mxfp4", details["quantization_level"]), details)
    check("what it can", m["capabilities"][0] == "completion" and set(m["capabilities"]) <= {"completion", "tools", "thinking", "insert"}, m)
    before = d.get("/api/tags").text
    check("the same again", d.get("/api/tags").text == before)
    d.mlxctl("store", "rm", "org/Other:7b")
    check("what somebody else took away", names(d) == ["tiny:latest"])
    # A manifest that is broken hides no other.
    where = Path(d.store) / "manifests" / "huggingface.co" / "library" / "broken"
    where.mkdir(parents=True)
    (where / "latest").write_text("{")
    check("a broken manifest", names(d) == ["tiny:latest"])
    r = d.post("/api/show", {"model": "broken"})
    check("show of a broken manifest", r.status in (400, 500) and "\n" not in r.error, r)
    r = d.delete("/api/delete", {"model": "broken"})
    check("which can be deleted", r.status == 200 and not where.exists(), r)


def many(d):
    for i in range(300):
        r = d.post("/api/copy", {"source": "tiny", "destination": f"many/m{i:03}"})
        if r.status != 200:
            check("copies", False, r)
            return
    check("all are listed", len(names(d)) == 301)
    begin = time.monotonic()
    for _ in range(5):
        d.get("/api/tags")
    took = (time.monotonic() - begin) / 5
    check("a list of 301 models is quick", took < 0.5, took)
    for i in range(300):
        d.delete("/api/delete", {"model": f"many/m{i:03}"})
    check("and gone", names(d) == ["tiny:latest"], names(d))


def loaded(d):
    r = d.post("/api/generate", {"model": "tiny", "keep_alive": -1, "stream": False})
    check("a load", r.status == 200 and r.json["done_reason"] == "load", r)
    m = d.get("/api/ps").json["models"]
    check("ps", len(m) == 1 and m[0]["name"] == "tiny:latest" and m[0]["model"] == m[0]["name"] and m[0]["requests"] == 0, m)
    check("its numbers", m[0]["size"] > 0 and m[0]["size_vram"] == 0 and m[0]["context_length"] > 0, m)
    check("its digest", m[0]["digest"] == model(d, "tiny:latest")["digest"], m)
    check("its details", m[0]["details"]["family"] == model(d, "tiny:latest")["details"]["family"], m)
    check("for ever", int(m[0]["expires_at"][:4]) > 2200 and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", m[0]["expires_at"]), m)
    d.post("/api/generate", {"model": "tiny", "keep_alive": "1m", "stream": False})

    def left():
        at = d.get("/api/ps").json["models"][0]["expires_at"]
        return datetime.datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp() - time.time()

    check("a minute", wait_until(lambda: 40 < left() < 61, 5), left())
    p = d.mlxctl("ps", "--host", d.url)
    check("mlxctl ps", b"tiny:latest" in p.stdout, p.stdout)
    p = d.mlxctl("stop", "tiny", "--host", d.url)
    check("mlxctl stop", p.stdout == b"tiny is stopped\n", p.stdout, p.stderr)
    check("it is", d.get("/api/ps").json == {"models": []})


# ---- show ----


def show(d):
    r = d.post("/api/show", {"model": "tiny"})
    s = r.json
    config = json.loads((TINY / "config.json").read_text())
    arch = config["model_type"]
    check("show", r.status == 200 and s["details"] == model(d, "tiny:latest")["details"] and s["capabilities"] == model(d, "tiny:latest")["capabilities"]
          and s["modified_at"] == model(d, "tiny:latest")["modified_at"], s)
    info = s["model_info"]
    check("model_info", info["general.architecture"] == arch and info["general.parameter_count"] > 0
          and info[arch + ".embedding_length"] == config["hidden_size"] and info[arch + ".block_count"] == config["num_hidden_layers"]
          and info[arch + ".attention.head_count"] == config["num_attention_heads"] and info[arch + ".vocab_size"] == config["vocab_size"]
          and info[arch + ".attention.head_count_kv"] == config.get("num_key_value_heads", config["num_attention_heads"])
          and info[arch + ".context_length"] == config["max_position_embeddings"]
          and info[arch + ".feed_forward_length"] == config["intermediate_size"], info)
    check("no lists unless asked for", "tensors" not in s and "tokenizer.ggml.tokens" not in info, s)
    v = d.post("/api/show", {"name": "TINY:latest", "verbose": True}).json
    check("verbose", len(v["model_info"]["tokenizer.ggml.tokens"]) >= 10 and any(t["name"].endswith("norm.weight") and t["shape"] for t in v["tensors"])
          and all(set(t) == {"name", "type", "shape"} for t in v["tensors"]), list(v))
    check("a template", "template" in s and s["template"].strip(), s)
    check("nothing is loaded", d.get("/api/ps").json == {"models": []})
    digest = model(d, "tiny:latest")["digest"]
    check("by digest", d.post("/api/show", {"model": "sha256:" + digest[:12]}).json["details"] == s["details"])
    r = d.post("/api/show", {"model": "tiny", "system": "S.", "options": {"temperature": 0.5, "stop": ["a", "b"]}, "what": 1}).json
    check("over the model's own", r["system"] == "S." and "temperature                    0.5" in r["parameters"]
          and 'stop                           "a"\nstop                           "b"' in r["parameters"] and "what" in r["warnings"][0], r)
    check("a wrong option", d.post("/api/show", {"model": "tiny", "options": {"temperature": "hot"}}).status == 400)


# ---- copy, delete ----


def copies(d):
    r = d.post("/api/copy", {"source": "tiny", "destination": "two"})
    check("copy", r.status == 200 and r.body == b"", r)
    check("the same digest", model(d, "two:latest")["digest"] == model(d, "tiny:latest")["digest"])
    d.post("/api/generate", {"model": "two", "stream": False, "keep_alive": -1})
    held = blobs(d)
    r = d.delete("/api/delete", {"model": "two"})
    check("delete", r.status == 200 and r.body == b"" and names(d) == ["tiny:latest"], r)
    check("what another has stays", blobs(d) == held and d.post("/api/verify", {"model": "tiny", "deep": True, "stream": False}).json["bad"] == 0)
    check("a deleted model goes when idle", wait_until(lambda: d.get("/api/ps").json == {"models": []}))
    d.post("/api/copy", {"source": "TINY:latest", "destination": "mine:v1"})
    check("delete by its old name", d.delete("/api/delete", {"name": "tiny"}).status == 200)
    check("the other lives", d.post("/api/generate", {"model": "mine:v1", "prompt": "a", "stream": False, "options": {"num_predict": 2}}).status == 200)
    check("the last of them", d.delete("/api/delete", {"model": "mine:v1"}).status == 200)
    check("takes all with it", blobs(d) == set() and names(d) == [], blobs(d))
    error("twice", d.delete("/api/delete", {"model": "mine:v1"}), 404, "model 'mine:v1' not found")
    d.import_model(TINY, "tiny")

    # While it answers.
    d.post("/api/copy", {"source": "tiny", "destination": "busy"})
    with d.stream("POST", "/api/generate", {"model": "busy", "prompt": "a", "options": {"num_predict": 100, "temperature": 0}, "raw": True}) as s:
        lines = iter(s.ndjson())
        next(lines)
        r = d.delete("/api/delete", {"model": "busy"})
        check("delete of one that answers", r.status == 200, r)
        rest = list(lines)
        check("its answer is whole", rest and rest[-1]["done"] is True, rest[-1:])
    check("then it goes", wait_until(lambda: d.get("/api/ps").json == {"models": []}), d.get("/api/ps").json)


# ---- blobs ----


def send_part(d, digest, n_told, data, close=True):
    s = socket.create_connection((d.host, d.port))
    s.sendall(f"POST /api/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {n_told}\r\n\r\n".encode() + data)
    if close:
        s.close()
    return s


def blob_tests(d):
    data = os.urandom(300_000)
    digest = sha(data)
    path = "/api/blobs/" + digest
    check("not there", d.head(path).status == 404)
    r = d.post(path, data)
    check("201", r.status == 201 and r.body == b"", r)
    check("there", d.head(path).status == 200)
    check("200", d.post(path, data).status == 200)
    check("200, whatever comes", d.post(path, b"x").status == 200)
    check("as Ollama's files are called", d.head(path.replace("sha256:", "sha256-")).status == 200)
    check("its bytes", (Path(d.store) / "blobs" / "sha256" / digest[7:]).read_bytes() == data)
    other = sha(b"other")
    r = d.post("/api/blobs/" + other, b"another")
    error("another digest", r, 400, f'digest mismatch, expected "{other}", got "{sha(b"another")}"')
    check("which leaves nothing", other[7:] not in blobs(d) and leftovers(d) == [], leftovers(d))
    for bad in ["sha256:abc", "x", "sha256:" + "g" * 64, "md5:" + "0" * 64, "sha256:" + "0" * 65, "..%2f..%2fetc%2fpasswd"]:
        error("no digest: " + bad[:20], d.post("/api/blobs/" + bad, b"abc"), 400, "invalid digest format")
        check("HEAD: " + bad[:20], d.head("/api/blobs/" + bad).status == 400)
    check("an empty file", d.post("/api/blobs/" + sha(b""), b"").status == 201 and d.head("/api/blobs/" + sha(b"")).status == 200)

    # In chunks.
    big = os.urandom(3 << 20)
    c = d.connect()
    c.request("POST", "/api/blobs/" + sha(big), body=iter([big[i:i + 100_000] for i in range(0, len(big), 100_000)]), encode_chunked=True,
              headers={"Transfer-Encoding": "chunked"})
    check("in chunks", c.getresponse().status == 201)
    c.close()

    # Many at a time, the same too.
    datas = [os.urandom(1 << 20) for _ in range(8)] + [big, data] * 2
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        results = list(pool.map(lambda x: d.post("/api/blobs/" + sha(x), x).status, datas + datas))
    check("many at a time", set(results) <= {200, 201}, results)
    check("all are there", all(d.head("/api/blobs/" + sha(x)).status == 200 for x in datas))

    # Clients that vanish.
    fresh = os.urandom(2 << 20)
    send_part(d, sha(fresh), len(fresh), fresh[: 1 << 20])
    check("who vanishes leaves nothing", wait_until(lambda: leftovers(d) == []) and d.head("/api/blobs/" + sha(fresh)).status == 404, leftovers(d))
    s = send_part(d, sha(fresh), len(fresh), fresh[: 1 << 20], close=False)
    check("while it comes", wait_until(lambda: len(leftovers(d)) == 1), leftovers(d))
    d.mlxctl("store", "gc")
    check("gc leaves it", len(leftovers(d)) == 1)
    check("it counts for nothing yet", d.head("/api/blobs/" + sha(fresh)).status == 404)
    s.sendall(fresh[1 << 20:])
    check("then it is there", b" 201 " in s.recv(1000).split(b"\r\n")[0] + b" " and d.head("/api/blobs/" + sha(fresh)).status == 200)
    s.close()

    # What was uploaded stays for a create; another model that has it and goes does not take it along.
    d.mlxctl("store", "gc")
    check("gc leaves uploads", d.head("/api/blobs/" + sha(fresh)).status == 200)
    weights = (TINY / "model.safetensors").read_bytes()
    check("a model's own file", d.post("/api/blobs/" + sha(weights), weights).status == 200)
    d.delete("/api/delete", {"model": "tiny"})
    check("stays when the model goes", d.head("/api/blobs/" + sha(weights)).status == 200)
    d.import_model(TINY, "tiny")


def blob_faults(_):
    """A quota, kill -9. A full disk is test_models.c's."""
    data = os.urandom(500_000)
    with Daemon(BIN) as d:
        (Path(d.store) / "config.json").write_text(json.dumps({"quota_bytes": 400_000}))
        r = d.post("/api/blobs/" + sha(data), data)
        check("the quota", r.status == 507 and "quota" in r.error, r)
        check("leaves nothing", leftovers(d) == [] and d.head("/api/blobs/" + sha(data)).status == 404)
        check("less fits", d.post("/api/blobs/" + sha(data[:1000]), data[:1000]).status == 201)
    with Daemon(BIN) as d:
        s = send_part(d, sha(data), len(data), data[:400_000], close=False)
        check("it comes", wait_until(lambda: len(leftovers(d)) == 1))
        d.kill()
        s.close()
        d.mlxctl("store", "gc")
        check("gc clears what a dead daemon left", leftovers(d) == [], leftovers(d))


# ---- create ----


def create(d, body, name=None, status=None):
    """The lines; checked to end well unless a status is wanted."""
    with d.stream("POST", "/api/create", body) as s:
        lines = list(s.ndjson())
        if name:
            check(name, s.status == 200 and s.type == "application/x-ndjson" and lines[-1].get("status") == "success", lines)
        return lines


def create_tests(d):
    files = files_of(TINY)
    for text, body, wanted in [
            ("nothing to make it of", {"model": "x"}, "neither 'from' or 'files' was specified"),
            ("a path out of the folder", {"model": "x", "files": {"../a": sha(b"")}}, "file path must be relative"),
            ("an absolute path", {"model": "x", "files": {"/a": sha(b"")}}, "file path must be relative"),
            ("no digest", {"model": "x", "files": {"a": "sha256:1"}}, "invalid digest format"),
            ("a digest that is no text", {"model": "x", "files": {"a": 7}}, "invalid digest format"),
            ("a number of bits", {"model": "x", "from": "tiny", "quantize": "q17"}, None),
            ("a parameter", {"model": "x", "from": "tiny", "parameters": {"temperature": "hot"}}, None),
            ("another", {"model": "x", "from": "tiny", "parameters": {"tempertaure": 1}}, None),
            ("a Go template", {"model": "x", "from": "tiny", "template": "{{ .Prompt }}"}, None),
            ("messages", {"model": "x", "from": "tiny", "messages": [{"role": "dog", "content": "a"}]}, None),
            ("a message's text", {"model": "x", "from": "tiny", "messages": [{"role": "user"}]}, None),
            ("a licence", {"model": "x", "from": "tiny", "license": [1]}, None),
            ("drafts", {"model": "x", "from": "tiny", "draft_files": {"a": "b"}}, None),
            ("a path", {"model": "x", "path": "/etc/passwd"}, None),
            ("a path as from", {"model": "x", "from": "/etc"}, None),
            ("a relative one", {"model": "x", "from": "./models"}, None),
            ("both", {"model": "x", "from": "tiny", "files": {"a": sha(b"")}}, None),
            ("a Modelfile's path", {"model": "x", "modelfile": "FROM ./x.gguf"}, None),
            ("a Modelfile's adapter", {"model": "x", "modelfile": "FROM tiny\nADAPTER ./x"}, None),
            ("a Modelfile that is none", {"model": "x", "modelfile": "hello"}, None)]:
        r = d.post("/api/create", body)
        check("create: " + text, r.status == 400 and r.error and (wanted is None or r.error == wanted), r)
    missing = sha(b"never sent")
    r = d.post("/api/create", {"model": "x", "files": {"config.json": missing}})
    check("create: no such blob", r.status == 400 and missing in r.error, r)
    check("nothing came of it", names(d) == ["tiny:latest"] and leftovers(d) == [])

    # A folder.
    digests = {n: upload(d, data) for n, data in files.items()}
    lines = create(d, {"model": "made", "files": digests}, "create of a folder")
    check("its lines", [x["status"] for x in lines][-2:] == ["writing manifest", "success"] and any("layer sha256:" in x["status"] for x in lines), lines)
    check("the same as imported", model(d, "made:latest")["digest"] == model(d, "tiny:latest")["digest"])
    r = d.post("/api/generate", {"model": "made", "prompt": "a", "stream": False, "options": {"num_predict": 2}})
    check("it answers", r.status == 200, r)
    r = d.post("/api/create", {"model": "half", "files": {"config.json": digests["config.json"]}, "stream": False})
    check("half a folder", r.status == 400 and r.error and "half:latest" not in names(d), r)
    lines = create(d, {"model": "half", "files": {"config.json": digests["config.json"]}})
    check("the same as a last line", list(lines[-1]) == ["error"], lines)

    # From a model.
    body = {"model": "from:v1", "from": "tiny", "system": "You are short of words.", "parameters": {"temperature": 0.25, "stop": ["###", "a b"], "num_ctx": 128},
            "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}], "license": ["One.", "Two."],
            "template": "{% for m in messages %}{{ m.content }}{% endfor %}", "stream": False, "renderer": "x"}
    r = d.post("/api/create", body)
    check("create from", r.status == 200 and r.json["status"] == "success" and "renderer" in r.json["warnings"][0], r)
    s = d.post("/api/show", {"model": "from:v1"}).json
    check("what it says", s["system"] == body["system"] and s["messages"] == body["messages"] and s["template"] == body["template"]
          and s["license"] == "One.\nTwo." and "num_ctx                        128" in s["parameters"] and 'stop                           "a b"' in s["parameters"], s)
    check("it shares what stays", model(d, "from:v1")["digest"] != model(d, "tiny:latest")["digest"]
          and d.delete("/api/delete", {"model": "made"}).status == 200)
    lines = create(d, {"model": "again", "modelfile": s["modelfile"]}, "create of its Modelfile")
    t = d.post("/api/show", {"model": "again"}).json
    check("is the same again", all(s.get(k) == t.get(k) for k in ["system", "parameters", "template", "messages", "license"]), t)
    check("existing layers are told", any(x["status"].startswith("using existing layer") for x in lines), lines)
    r = d.post("/api/create", {"model": "sys", "from": "tiny", "modelfile": "FROM other\nSYSTEM a", "system": "b", "stream": False})
    check("fields over a Modelfile", r.status == 200 and d.post("/api/show", {"model": "sys"}).json["system"] == "b", r)

    # What it can is read of its files.
    tokenizer = json.loads(files["tokenizer.json"])
    n = 1 + max(list(tokenizer["model"]["vocab"].values()) + [t["id"] for t in tokenizer["added_tokens"]])
    for i, text in enumerate(["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]):
        tokenizer["added_tokens"].append(dict(tokenizer["added_tokens"][0], id=n + i, content=text))
    tools = "{% if tools %}{{ tools }}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}{% if enable_thinking %}<think>{% endif %}</think>"
    able = dict(digests, **{"tokenizer.json": upload(d, json.dumps(tokenizer).encode())})
    create(d, {"model": "able", "files": able, "template": tools}, "create of one that can more")
    check("which is told", model(d, "able:latest")["capabilities"] == ["completion", "tools", "thinking", "insert"], model(d, "able:latest"))
    create(d, {"model": "embeds", "files": dict(digests, **{"modules.json": upload(d, b"[]")})}, "create of one that embeds")
    check("which is told too", model(d, "embeds:latest")["capabilities"] == ["embedding"], model(d, "embeds:latest"))

    # Quantized.
    lines = create(d, {"model": "small", "from": "tiny", "quantize": "q8_0"}, "create, quantized")
    check("which shows", model(d, "small:latest")["details"]["quantization_level"] == "int8", model(d, "small:latest"))
    check("and is told", any("quantizing" in x["status"] for x in lines), lines)

    # A GGUF file.
    gguf = hub_server.tiny_gguf()
    lines = create(d, {"model": "gguf", "files": {"any name.gguf": upload(d, gguf)}}, "create of a GGUF file")
    check("it is one", model(d, "gguf:latest")["details"]["family"] == "llama" and model(d, "gguf:latest")["details"]["quantization_level"] == "F32", model(d, "gguf:latest"))
    r = d.post("/api/create", {"model": "x", "files": {"a.gguf": upload(d, b"GGUF?"), "config.json": digests["config.json"]}, "stream": False})
    check("a GGUF file and more", r.status == 400 and "alone" in r.error, r)
    r = d.post("/api/create", {"model": "x", "files": {"a.gguf": upload(d, b"GGUF?")}, "stream": False})
    check("a broken GGUF file", r.status in (400, 500) and "x:latest" not in names(d), r)

    # A name that is there already stands for the new one.
    digest = model(d, "sys:latest")["digest"]
    create(d, {"model": "SYS", "from": "tiny", "system": "c"}, "create over a name")
    check("is another now", model(d, "sys:latest")["digest"] != digest and d.post("/api/show", {"model": "sys"}).json["system"] == "c")
    r = d.post("/api/create", {"model": "x", "from": "127.0.0.1:1/nobody/x", "stream": False})
    check("from what cannot be had", r.status in (404, 502) and "x:latest" not in names(d), r)
    for name in names(d):
        if name != "tiny:latest":
            d.delete("/api/delete", {"model": name})
    check("no session is left", len(sessions(d)) == len(held_uploads(d)), sessions(d))


def sessions(d):
    folder = Path(d.store) / "sessions"
    return list(folder.iterdir()) if folder.exists() else []


def held_uploads(d):
    return [s for s in sessions(d) if any(re.fullmatch("[0-9a-f]{64}", p.name) for p in s.iterdir())]


def uploads_and_deletes(d):
    """A model that a create has made gives its files back when it goes."""
    files = {n: x for n, x in files_of(TINY).items()}
    config = json.loads(files["config.json"])
    config["only_here"] = True
    files["config.json"] = json.dumps(config).encode()
    digests = {n: upload(d, x) for n, x in files.items()}
    create(d, {"model": "gone", "files": digests}, "create")
    d.delete("/api/delete", {"model": "gone"})
    check("its own file went", d.head("/api/blobs/" + digests["config.json"]).status == 404)
    check("what another has did not", d.head("/api/blobs/" + digests["model.safetensors"]).status == 200)


# ---- pull, push, verify ----


def pull_lines(d, body):
    with d.stream("POST", "/api/pull", body) as s:
        return s.status, list(s.ndjson())


def pulls(d, hub):
    files = hub_server.tiny_model(400_000)
    hub.add("org/tiny", files)
    status, lines = pull_lines(d, {"model": "org/tiny"})
    check("pull", status == 200 and lines[0] == {"status": "pulling manifest"} and lines[-1]["status"] == "success", lines)
    moving = [x for x in lines if x.get("digest")]
    check("its lines", moving and all(x["status"].startswith("pulling ") and x["digest"].startswith("sha256:") for x in moving), lines)
    done = [x.get("completed", 0) for x in moving if "total" in x]
    check("go forward to their end", done == sorted(done) and moving[-1]["completed"] == moving[-1]["total"], moving[-3:])
    check("the states", [x["status"] for x in lines if x["status"] in ("verifying sha256 digest", "writing manifest", "success")][-2:] == ["writing manifest", "success"], lines)
    check("it is there", "org/tiny:latest" in names(d))
    r = d.post("/api/pull", {"name": "org/tiny", "stream": False})
    check("again, as one object", r.status == 200 and r.json["status"] == "success" and r.json["moved_bytes"] < 100_000, r)
    r = d.post("/api/pull", {"model": "org/nothing", "stream": False})
    check("unknown at the hub", r.status == 404 and r.error, r)
    status, lines = pull_lines(d, {"model": "org/nothing"})
    check("unknown, streamed", status == 200 and list(lines[-1]) == ["error"], lines)
    r = d.post("/api/pull", {"model": "127.0.0.1:1/a/b", "stream": False})
    check("nobody there", r.status == 502 and r.error, r)
    r = d.post("/api/pull", {"model": "org/tiny", "stream": False, "insecure": True, "username": ""})
    check("insecure", r.status == 200, r)
    check("a user of its own", d.post("/api/pull", {"model": "org/tiny", "username": "me"}).status == 400)

    # Who leaves ends it; what came is kept.
    big = hub_server.tiny_model(6_000_000, seed=2)
    hub.add("org/big", big)
    hub.bucket = hub_server.Bucket(2_000_000)
    with d.stream("POST", "/api/pull", {"model": "org/big"}) as s:
        for line in s.ndjson():
            if line.get("completed", 0) > 1_500_000:
                break
    check("a client that leaves", wait_until(lambda: d.get("/api/health").json["status"] == "ok" and len(sessions(d)) == len(held_uploads(d)) == 0, 20), sessions(d))
    check("no model of it", "org/big:latest" not in names(d))
    sent = hub.sent.get("model.safetensors", 0)
    hub.bucket = None
    r = d.post("/api/pull", {"model": "org/big", "stream": False})
    check("goes on", r.status == 200 and r.json["moved_bytes"] < len(big["model.safetensors"]) - 500_000, r, sent)

    # Two of one model share the work.
    shared = hub_server.tiny_model(5_000_000, seed=3)
    hub.add("org/shared", shared)
    hub.bucket = hub_server.Bucket(8_000_000)
    before = sum(hub.sent.values())
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        got = list(pool.map(lambda _: pull_lines(d, {"model": "org/shared"})[1][-1], range(3)))
    hub.bucket = None
    check("two pulls of one", all(x["status"] == "success" for x in got), got)
    check("share the work", sum(hub.sent.values()) - before < 1.5 * len(shared["model.safetensors"]), sum(hub.sent.values()) - before)

    # An answer in the meantime.
    hub.bucket = hub_server.Bucket(1_000_000)
    hub.add("org/slow", hub_server.tiny_model(3_000_000, seed=4))
    with d.stream("POST", "/api/pull", {"model": "org/slow"}) as s:
        lines = s.ndjson()
        next(lines)
        begin = time.monotonic()
        r = d.post("/api/generate", {"model": "tiny", "prompt": "a", "stream": False, "options": {"num_predict": 2}})
        check("answers go on beside it", r.status == 200 and time.monotonic() - begin < 5, r)
    hub.bucket = None

    # create from what is not here.
    hub.add("org/base", files_of(TINY))
    lines = create(d, {"model": "based", "from": "org/base", "system": "x"}, "create from the hub")
    check("both are here", {"based:latest", "org/base:latest"} <= set(names(d)))
    hub.token = "secret"
    r = d.post("/api/pull", {"model": "org/tiny:other", "stream": False})
    check("without a token", r.status in (401, 404), r)
    hub.token = None

    # mlxctl and the daemon work on one store.
    p = d.mlxctl("store", "list", "--json")
    listed = json.loads(p.stdout)
    listed = listed["models"] if isinstance(listed, dict) else listed
    check("mlxctl sees the same", {m["name"] for m in listed} == set(names(d)), p.stdout)


def pushes(d):
    r = registry_server.Registry()
    place = r.host if hasattr(r, "host") else "127.0.0.1:%d" % r.port
    name = f"{place}/team/tiny:v1"
    check("a name to push by", d.post("/api/copy", {"source": "tiny", "destination": name}).status == 200)
    with d.stream("POST", "/api/push", {"model": name, "insecure": True}) as s:
        lines = list(s.ndjson())
    check("push", lines[0] == {"status": "retrieving manifest"} and [x["status"] for x in lines][-2:] == ["pushing manifest", "success"], lines)
    check("it is there", any(k[0] == "team/tiny" for k in r.manifests), r.manifests.keys())
    digest = model(d, name)["digest"]
    d.delete("/api/delete", {"model": name})
    x = d.post("/api/pull", {"model": name, "stream": False})
    check("and back", x.status == 200 and model(d, name)["digest"] == digest, x)
    r.auth = "basic"
    x = d.post("/api/push", {"model": name, "stream": False})
    check("without a password", x.status == 401 and x.error, x)
    x = d.post("/api/pull", {"model": f"{place}/team/none", "stream": False})
    check("or to pull", x.status == 401, x)
    r.auth = None
    x = d.post("/api/pull", {"model": f"{place}/team/none", "stream": False})
    check("unknown at the registry", x.status == 404, x)
    d.delete("/api/delete", {"model": name})
    r.close()


def verifies(d, hub):
    hub.add("org/good", files_of(TINY))
    check("a model to break", d.post("/api/pull", {"model": "org/good", "stream": False}).status == 200)
    d.delete("/api/delete", {"model": "tiny"})
    d.delete("/api/delete", {"model": "org/base"})
    d.delete("/api/delete", {"model": "based"})
    r = d.post("/api/verify", {"stream": False})
    check("verify all", r.status == 200 and r.json["bad"] == 0 and r.json["models"] == len(names(d)) and r.json["findings"] == [], r)
    path = Path(d.store) / "blobs" / "sha256" / hashlib.sha256((TINY / "model.safetensors").read_bytes()).hexdigest()
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    check("a flipped bit is not seen by its size", d.post("/api/verify", {"model": "org/good", "stream": False}).json["bad"] == 0)
    r = d.post("/api/verify", {"model": "org/good", "deep": True, "stream": False})
    check("but by its bytes", r.status == 200 and r.json["bad"] == 1 and r.json["findings"][0]["model"] == "org/good:latest"
          and r.json["findings"][0]["file"] == "model.safetensors" and r.json["findings"][0]["repaired"] is False, r)
    with d.stream("POST", "/api/verify", {"model": "org/good", "deep": True, "repair": True}) as s:
        lines = list(s.ndjson())
    check("repaired", s.status == 200 and any(x.get("finding", {}).get("repaired") for x in lines) and lines[-1]["repaired"] == 1
          and lines[-1]["status"] == "success" and "findings" not in lines[-1], lines)
    check("well again", d.post("/api/verify", {"model": "org/good", "deep": True, "stream": False}).json["bad"] == 0)
    d.import_model(TINY, "tiny")


def endings(_):
    """The daemon ends while it pulls."""
    hub = hub_server.Hub()
    hub.add("org/big", hub_server.tiny_model(8_000_000, seed=5))
    hub.bucket = hub_server.Bucket(1_000_000)
    with Daemon(BIN, env={"HF_ENDPOINT": hub.url}) as d:
        s = d.stream("POST", "/api/pull", {"model": "org/big"})
        lines = s.ndjson()
        while "completed" not in next(lines):
            pass
        begin = time.monotonic()
        end = threading.Thread(target=d.end)
        end.start()
        rest = list(lines)
        end.join(WAIT)
        check("it ends soon", time.monotonic() - begin < 10 and list(rest[-1]) == ["error"], rest[-1:])
        s.close()
    hub.bucket = None
    hub.close()


def gate(_):
    """Keys and Host are asked before a body is taken."""
    where = scratch()
    keys = os.path.join(where, "keys")
    Path(keys).write_text("secret\n")
    os.chmod(keys, 0o600)
    data = os.urandom(200_000)
    with Daemon(BIN, "--api-key-file", keys) as d:
        r = d.post("/api/blobs/" + sha(data), data)
        check("without a key", r.status == 401 and not (Path(d.store) / "partial").exists() and blobs(d) == set(), r)
        r = d.post("/api/blobs/" + sha(data), data, headers={"Authorization": "Bearer secret"})
        check("with it", r.status == 201, r)
        r = d.post("/api/blobs/" + sha(b"x"), b"x", headers={"Authorization": "Bearer secret", "Host": "evil.example"})
        check("another host", r.status == 403 and len(blobs(d)) == 1, r)
    shutil.rmtree(where, ignore_errors=True)


def strict_and_mock(_):
    with Daemon(BIN, "--strict") as d:
        r = d.post("/api/pull", {"model": "x", "what": 1})
        check("strict", r.status == 400 and "what" in r.error, r)
    with Daemon(BIN, "--runner", "mock") as d:
        r = d.post("/api/show", {"model": "anything"})
        check("show of the mock", r.status == 200 and r.json["details"]["family"] == "mock" and r.json["capabilities"] == ["completion"], r)
        d.post("/api/generate", {"model": "anything", "stream": False})
        m = d.get("/api/ps").json["models"]
        check("ps of the mock", len(m) == 1 and m[0]["details"]["family"] == "mock", m)


def main():
    wanted = sys.argv[3:]
    hub = hub_server.Hub()
    parts = [simple, bodies, lists, many, loaded, show, copies, blob_tests, create_tests, uploads_and_deletes]
    remote = [pulls, verifies]
    alone = [blob_faults, endings, gate, strict_and_mock]
    with Daemon(BIN, env={"HF_ENDPOINT": hub.url}) as d:
        if wanted and "simple" not in wanted:
            d.import_model(TINY, "tiny")
        for part in parts:
            if not wanted or part.__name__ in wanted:
                part(d)
    with Daemon(BIN, env={"HF_ENDPOINT": hub.url}, models={"tiny": TINY}) as d:
        for part in remote:
            if not wanted or part.__name__ in wanted:
                part(d, hub)
        if not wanted or "pushes" in wanted:
            pushes(d)
    for part in alone:
        if not wanted or part.__name__ in wanted:
            part(None)
    hub.close()
    print(f"{passed} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)


main()
