#!/usr/bin/env python3
"""A daemon for tests: the native endpoints as docs/daemon.md has them, always with the same answers, standard library alone.

    daemon_server.py [--port N | --unix PATH] [--key KEY]     serves until it is killed, prints its address first

What a model does is its name: echo says the prompt back word by word, thinker thinks first, caller calls tools, endless never ends,
busy stays loaded; failing, cut, mute, wrong, nonsense, html and full go wrong in their ways; raw sends the prompt itself as its answer. Every request is kept in `requests`.
"""

import argparse
import json
import socket
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler

MODELS = ["echo", "thinker", "caller", "endless", "busy", "failing", "cut", "mute", "wrong", "nonsense", "html", "full", "raw"]
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def full_name(name):
    name = name.lower()
    return name if ":" in name.rsplit("/", 1)[-1] else name + ":latest"


class Gone(Exception):
    """Who asked has left."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def address_string(self):  # a Unix socket's peer has none
        return "client"

    # ---- answers ----

    def send(self, status, doc=None, text=None, kind="application/json; charset=utf-8"):
        data = text.encode() if text is not None else b"" if doc is None else json.dumps(doc).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def error(self, status, text):
        self.send(status, {"error": text})

    def begin_stream(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data):
        try:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
        except OSError as e:
            raise Gone from e

    def line(self, doc):
        self.chunk(json.dumps(doc, ensure_ascii=False).encode() + b"\n")

    # ---- requests ----

    def body(self):
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return json.loads(data) if data else None

    def handle_one(self):
        body = self.body()
        self.server.requests.append({"method": self.command, "path": self.path, "body": body,
                                     "headers": {k.lower(): v for k, v in self.headers.items()}})
        if self.server.key and self.headers.get("Authorization") != "Bearer " + self.server.key:
            return self.error(401, "unauthorized")
        routes = {"/": ("GET", self.root), "/api/version": ("GET", self.version), "/api/ps": ("GET", self.ps),
                  "/api/generate": ("POST", self.generate), "/api/chat": ("POST", self.chat), "/api/show": ("POST", self.show)}
        path = self.path[len(self.server.prefix):] if self.path.startswith(self.server.prefix) else ""
        if path not in routes:
            return self.send(404, text="404 page not found", kind="text/plain")
        method, route = routes[path]
        if method != self.command:
            return self.send(405, text="405 method not allowed", kind="text/plain")
        if method == "POST" and body is None:
            return self.error(400, "missing request body")
        return route(body)

    def do_GET(self):
        try:
            self.handle_one()
        except Gone:
            self.server.left.append(self.path)
            self.close_connection = True

    do_POST = do_GET

    def root(self, _):
        self.send(200, text="Ollama is running", kind="text/plain")

    def version(self, _):
        self.send(200, {"version": "0.14.0"})

    def ps(self, _):
        if self.server.ps_answer is not None:
            return self.send(200, self.server.ps_answer)
        self.send(200, {"models": [
            {"name": n, "model": n, "size": 4900000000, "digest": "0123456789abcdef" * 4, "details": {},
             "expires_at": time.strftime("%Y-%m-%dT%H:%M:%S.5Z", time.gmtime(time.time() + 272)), "size_vram": 0,
             "context_length": 8192} for n in self.server.loaded]})

    def known(self, body):
        name = body.get("model") or ""
        if name.lower().split(":")[0] in MODELS:
            return name
        self.error(404, f"model '{name}' not found")
        return None

    def show(self, body):
        if self.known(body):
            self.send(200, {"template": TEMPLATE, "details": {}, "model_info": {}, "capabilities": ["completion"]})

    def generate(self, body):
        name = self.known(body)
        if not name:
            return
        if not body.get("prompt"):
            unload = body.get("keep_alive") == 0
            if unload and full_name(name) in self.server.loaded and not name.lower().startswith("busy"):
                self.server.loaded.remove(full_name(name))
            elif not unload:
                self.load(name)
            return self.send(200, {"model": name, "created_at": "2026-08-21T10:00:00Z", "response": "", "done": True,
                                   "done_reason": "unload" if unload else "load"})
        self.answer(name, body, body["prompt"], lambda text, thinking: {"response": text, **({"thinking": thinking} if thinking else {})})

    def chat(self, body):
        name = self.known(body)
        if not name:
            return
        self.answer(name, body, body["messages"][-1]["content"],
                    lambda text, thinking: {"message": {"role": "assistant", "content": text, **({"thinking": thinking} if thinking else {})}})

    def load(self, name):
        if full_name(name) not in self.server.loaded:
            self.server.loaded.append(full_name(name))

    def answer(self, name, body, prompt, piece):
        kind = name.split(":")[0]
        if kind == "html":
            return self.send(500, text="<html>\nno good\n</html>", kind="text/html")
        if kind == "full":
            return self.error(503, "server busy, please try again.  maximum pending requests exceeded")
        if body.get("think") and kind != "thinker":
            return self.error(400, f'"{name}" does not support thinking')
        if body.get("tools") and kind != "caller":
            return self.error(400, f"{name} does not support tools")
        self.load(name)
        if kind == "nonsense":
            return self.send(200, text="hello\n", kind="text/plain")
        self.begin_stream()
        if kind == "raw":
            self.chunk(prompt.encode("utf-8", "surrogateescape"))
            return self.chunk(b"")
        base = {"model": name, "created_at": "2026-08-21T10:00:00Z"}
        thoughts = ["Let ", "me ", "see."] if kind == "thinker" and body.get("think") is not False else []
        words = ["You", " said:"] + [" " + w for w in prompt.split(" ")]
        if kind == "caller":
            words = ["Wait."]
        limit = body.get("options", {}).get("num_predict", -1)
        n, reason = 0, "stop"
        for thinking, word in [(True, w) for w in thoughts] + [(False, w) for w in words]:
            if 0 <= limit <= n:
                reason = "length"
                break
            doc = {**base, **(piece("", word) if thinking else piece(word, "")), "done": False}
            if body.get("logprobs"):
                top = [{"token": word, "logprob": -0.25}, {"token": "é", "logprob": -1.5}][: body.get("top_logprobs", 0)]
                doc["logprobs"] = [{"token": word, "logprob": -0.25, "top_logprobs": top}]
            self.line(doc)
            n += 1
            if n == 2 and self.trouble(kind, base):
                return
        if kind == "caller" and body.get("tools"):
            for i in range(2):
                doc = {**base, **piece("", ""), "done": False}
                call = {"id": f"call_{i}", "function": {"index": i, "name": body["tools"][0]["function"]["name"], "arguments": {"z": i, "a": "ü"}}}
                (doc["message"] if "message" in doc else doc)["tool_calls"] = [call]
                self.line(doc)
        if kind == "mute":
            return self.chunk(b"")
        last = {**base, **piece("", ""), "done": True, "done_reason": reason, "total_duration": 2500000000, "load_duration": 500000000,
                "prompt_eval_count": 7, "prompt_eval_duration": 1000000000, "eval_count": n, "eval_duration": 1000000000,
                "prompt_cached_count": 2, "queue_duration": 1000000}
        text = json.dumps(last).encode() + b"\n"
        self.chunk(text[:20])  # a line in two pieces, and an empty one behind it
        self.chunk(text[20:] + b"\n")
        self.chunk(b"")

    def trouble(self, kind, base):
        """Whether the answer went wrong."""
        if kind == "endless":
            for i in range(100000):
                self.line({**base, "response": f" {i}", "message": {"role": "assistant", "content": f" {i}"}, "done": False})
                time.sleep(0.02)
        elif kind == "failing":
            self.line({"error": "the runner died"})
            self.chunk(b"")
        elif kind == "cut":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif kind == "wrong":
            self.line({**base, "response": 7, "message": {"role": "assistant", "content": ["x"]}, "done": False})
            self.chunk(b"")
        else:
            return False
        return True


class Daemon:
    """One that runs in a thread. url is what --host takes."""

    def __init__(self, unix=None, port=0, key=None, prefix=""):
        base = socketserver.UnixStreamServer if unix else socketserver.TCPServer

        class Server(socketserver.ThreadingMixIn, base):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 64

        self.server = Server(unix if unix else ("127.0.0.1", port), Handler)
        self.server.requests, self.server.left, self.server.loaded = [], [], []
        self.server.key, self.server.prefix, self.server.ps_answer = key, prefix, None
        self.port = None if unix else self.server.server_address[1]
        self.url = f"unix:{unix}" if unix else f"http://127.0.0.1:{self.port}{prefix}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def __getattr__(self, name):
        return getattr(self.server, name)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--port", type=int, default=0)
    p.add_argument("--unix")
    p.add_argument("--key")
    args = p.parse_args()
    d = Daemon(unix=args.unix, port=args.port, key=args.key)
    print(d.url, flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
