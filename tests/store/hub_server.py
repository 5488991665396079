#!/usr/bin/env python3
"""A small Hugging Face hub on loopback, for tests: models it makes up, and faults on demand. Standard library only.

Two ports: the hub, and the "CDN" where large files lie; the hub redirects there with a signature that may run out. Everything
is logged: each request's headers, each file's bytes that were sent.

As a program it serves one made-up model as org/tiny, prints its address and runs until it is killed:  hub_server.py
"""
import hashlib
import http.client
import http.server
import json
import random
import socket
import socketserver
import ssl
import struct
import threading
import time
import urllib.parse


def safetensors(tensors):
    """tensors: {name: (dtype, shape, bytes)}"""
    header, at = {"__metadata__": {"format": "mlx"}}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(d for _, _, d in tensors.values())


def git_id(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def tiny_model(n_bytes=300_000, seed=1, shards=1):
    """Files of a model folder whose weights have about n_bytes."""
    rng = random.Random(seed)
    files = {
        "config.json": json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64,
                                   "num_hidden_layers": 1, "max_position_embeddings": 512, "seed": seed}).encode(),
        "generation_config.json": b'{"eos_token_id": 2}',
        "tokenizer.json": json.dumps({"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}).encode(),
        "tokenizer_config.json": b'{"bos_token": "<s>"}',
        "LICENSE": b"Use it as you like.\n",
        "README.md": b"# not wanted\n",
        ".gitattributes": b"*.safetensors filter=lfs\n",
        "onnx/model.onnx": b"not wanted either" * 100,
    }
    rows = max(1, n_bytes // shards // 128)
    names = ["model.safetensors"] if shards == 1 else [
        "model-%05d-of-%05d.safetensors" % (i + 1, shards) for i in range(shards)]
    index = {}
    for i, name in enumerate(names):
        tensor = "model.layers.%d.mlp.up_proj.weight" % i
        files[name] = safetensors({tensor: ("F16", (rows, 64), rng.randbytes(rows * 128))})
        index[tensor] = name
    if shards > 1:
        files["model.safetensors.index.json"] = json.dumps({"metadata": {}, "weight_map": index}).encode()
    return files


def tiny_gguf():
    """A llama of one layer, all of it F32."""
    def text(s):
        return struct.pack("<Q", len(s)) + s.encode()

    def key(name, kind, value):
        return text(name) + struct.pack("<I", kind) + value

    def array(kind, items):
        return struct.pack("<IQ", kind, len(items)) + b"".join(items)

    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "a", "b", "ab"]
    numbers = {"block_count": 1, "context_length": 128, "embedding_length": 64, "feed_forward_length": 96,
               "attention.head_count": 2, "attention.head_count_kv": 1}
    keys = [key("general.architecture", 8, text("llama"))]
    keys += [key("llama." + k, 4, struct.pack("<I", v)) for k, v in numbers.items()]
    keys += [key("llama.rope.freq_base", 6, struct.pack("<f", 10000.0)),
             key("llama.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-5)),
             key("tokenizer.ggml.model", 8, text("gpt2")), key("tokenizer.ggml.pre", 8, text("smollm")),
             key("tokenizer.ggml.tokens", 9, array(8, [text(t) for t in tokens])),
             key("tokenizer.ggml.token_type", 9, array(5, [struct.pack("<i", t) for t in (3, 3, 3, 1, 1, 1)])),
             key("tokenizer.ggml.merges", 9, array(8, [text("a b")])),
             key("tokenizer.ggml.bos_token_id", 4, struct.pack("<I", 1)),
             key("tokenizer.ggml.eos_token_id", 4, struct.pack("<I", 2))]
    shapes = {"token_embd": (8, 64), "blk.0.attn_norm": (64,), "blk.0.attn_q": (64, 64), "blk.0.attn_k": (32, 64),
              "blk.0.attn_v": (32, 64), "blk.0.attn_output": (64, 64), "blk.0.ffn_norm": (64,), "blk.0.ffn_gate": (96, 64),
              "blk.0.ffn_up": (96, 64), "blk.0.ffn_down": (64, 96), "output_norm": (64,)}
    head, data = b"", b""
    for name, shape in shapes.items():
        n = 1
        for d in shape:
            n *= d
        head += text(name + ".weight") + struct.pack("<I", len(shape)) + b"".join(
            struct.pack("<Q", d) for d in reversed(shape)) + struct.pack("<IQ", 0, len(data))
        data += struct.pack("<%df" % n, *((i * 7 % 64 - 32) / 8 for i in range(n)))
        data += b"\0" * (-len(data) % 32)
    all_ = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(keys)) + b"".join(keys) + head
    return all_ + b"\0" * (-len(all_) % 32) + data


class Repo:
    def __init__(self, files, lfs=(".safetensors", ".gguf", ".bin", ".onnx"), revision="main"):
        self.files = dict(files)
        self.lfs = {p for p in files if p.endswith(tuple(lfs))}
        self.revision = revision
        text = "".join(sorted(p + hashlib.sha256(d).hexdigest() for p, d in self.files.items()))
        self.commit = hashlib.sha1(text.encode()).hexdigest()


class Fault:
    """What goes wrong with one path. `times` answers, or for ever with None; those after `after` good ones."""

    def __init__(self, kind, times=1, after=0, **values):
        self.kind, self.times, self.after, self.values = kind, times, after, values

    def __getattr__(self, name):
        return self.values.get(name)


class Bucket:
    """Bytes a second for all connections together."""

    def __init__(self, rate):
        self.rate, self.lock, self.free_at = rate, threading.Lock(), 0.0

    def take(self, n):
        with self.lock:
            now = time.monotonic()
            self.free_at = max(self.free_at, now - 0.02) + n / self.rate
            wait = self.free_at - now
        if wait > 0:
            time.sleep(wait)


class Hub:
    def __init__(self):
        self.scheme = "http"
        self.repos = {}           # name: [Repo, ...], the newest first
        self.redirects = True     # large files lie at the CDN
        self.ranges = True
        self.blobs = True         # the model's information tells digests; else only the tree does
        self.page = 1000          # entries of a page of the tree
        self.has_tree = True      # there is such a call
        self.token = None         # needed for everything at the hub
        self.gated = False        # the information is free, the files are not
        self.signature_good = 0   # requests a signature is good for; 0: for ever
        self.bucket = None
        self.etags = {}           # path: list of ETags, the last stays
        self.faults = {}          # path: [Fault, ...]; "api" for the information
        self.lock = threading.Lock()
        self.log = []             # {"port", "method", "path", "headers", "status", "file"}
        self.sent = {}            # file: bytes
        self.signatures = {}
        self.n_connections = 0
        self.hub = self._serve("hub")
        self.cdn = self._serve("cdn")

    def _serve(self, kind):
        owner = self

        class Handler(HubHandler):
            hub, port_kind = owner, kind

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request, address):
                pass

        server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return server

    def use_tls(self, certificate, key):
        """The hub alone; the CDN stays as it is."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.hub.socket = context.wrap_socket(self.hub.socket, server_side=True)
        self.scheme = "https"

    def close(self):
        for s in (self.hub, self.cdn):
            s.shutdown()
            s.server_close()

    @property
    def url(self):
        return "%s://127.0.0.1:%d" % (self.scheme, self.hub.server_address[1])

    @property
    def cdn_url(self):
        return "http://127.0.0.1:%d" % self.cdn.server_address[1]

    def add(self, name, files, **options):
        repo = Repo(files, **options)
        self.repos.setdefault(name, []).insert(0, repo)
        return repo

    def fault(self, path, kind, times=1, after=0, **values):
        self.faults.setdefault(path, []).append(Fault(kind, times, after, **values))

    def take_fault(self, path):
        """The next one that is due: faults of a path come one after the other."""
        with self.lock:
            for f in self.faults.get(path, []):
                if f.times == 0:
                    continue
                if f.after > 0:
                    f.after -= 1
                    return None
                if f.times is not None:
                    f.times -= 1
                return f
        return None

    def find(self, name, revision):
        for r in self.repos.get(name, []):
            if revision in (r.revision, r.commit):
                return r
        return None

    def count(self, path):
        return self.sent.get(path, 0)

    def requests(self, **want):
        with self.lock:
            return [e for e in self.log if all(e[k] == v for k, v in want.items())]


class HubHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub, port_kind = None, None

    def setup(self):
        super().setup()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
        with self.hub.lock:
            self.hub.n_connections += 1

    def log_message(self, *args):
        pass

    def note(self, status, file=None):
        with self.hub.lock:
            self.hub.log.append({"port": self.port_kind, "method": self.command, "path": self.path,
                                 "headers": {k.lower(): v for k, v in self.headers.items()}, "status": status, "file": file})

    def answer(self, status, body=b"", headers=(), file=None):
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        self.note(status, file)
        self.send_response(status)
        for k, v in headers:
            self.send_header(k, v)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def fail(self, status, text, code=None, headers=()):
        extra = [("X-Error-Code", code)] if code else []
        self.answer(status, {"error": text}, list(headers) + extra)

    def reset(self):
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def do_GET(self):
        try:
            self.get()
        except (BrokenPipeError, ConnectionError, OSError, ValueError):
            self.close_connection = True

    do_HEAD = do_GET

    def get(self):
        hub = self.hub
        parts = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(parts.path)
        if self.port_kind == "cdn":
            return self.get_cdn(path, urllib.parse.parse_qs(parts.query))
        authorized = not hub.token or self.headers.get("Authorization") == "Bearer " + hub.token
        if path.startswith("/api/models/"):
            fault = hub.take_fault("api")
            if fault and self.misbehave(fault):
                return None
            if not authorized and not hub.gated:
                return self.fail(401, "Repository not found or private", "RepoNotFound")
            name, _, rest = path[len("/api/models/"):].partition("/revision/")
            tree = not rest
            if tree:
                name, _, rest = path[len("/api/models/"):].partition("/tree/")
            if name not in hub.repos or (tree and not hub.has_tree):
                return self.fail(404, "Repository not found", "RepoNotFound")
            repo = hub.find(name, rest)
            if not repo:
                return self.fail(404, "Invalid rev id: " + rest, "RevisionNotFound")
            return self.tree(repo, name, parts) if tree else self.info(repo, name)
        if "/resolve/" in path:
            name, _, rest = path[1:].partition("/resolve/")
            commit, _, file = rest.partition("/")
            repo = hub.find(name, commit)
            if not repo or file not in repo.files:
                return self.fail(404, "Entry not found", "EntryNotFound")
            if not authorized:
                if hub.gated and self.headers.get("Authorization"):
                    return self.fail(403, "Access to this model is restricted", "GatedRepo")
                return self.fail(401, "Access to this model is restricted and you must be authenticated", "GatedRepo")
            data = repo.files[file]
            if hub.redirects and file in repo.lfs:
                fault = hub.take_fault("resolve:" + file)
                if fault and self.misbehave(fault):
                    return None
                with hub.lock:
                    signature = "s%d" % len(hub.signatures)
                    hub.signatures[signature] = 0
                sha = hashlib.sha256(data).hexdigest()
                where = "%s/%s/%s?sig=%s" % (hub.cdn_url, name, urllib.parse.quote(file), signature)
                return self.answer(302, b"", [("Location", where), ("X-Linked-Etag", '"%s"' % sha),
                                              ("X-Linked-Size", str(len(data))), ("X-Repo-Commit", commit)])
            return self.file(file, data, hashlib.sha256(data).hexdigest() if file in repo.lfs else git_id(data))
        return self.fail(404, "no such page")

    def get_cdn(self, path, query):
        hub = self.hub
        signature = query.get("sig", [""])[0]
        with hub.lock:
            if signature not in hub.signatures:
                good = False
            else:
                hub.signatures[signature] += 1
                good = not hub.signature_good or hub.signatures[signature] <= hub.signature_good
        if not good:
            self.note(403)
            body = b"<?xml version='1.0'?><Error>AccessDenied</Error>"
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return None
        org, name, file = path[1:].split("/", 2)
        for repo in hub.repos[org + "/" + name]:
            if file in repo.files:
                return self.file(file, repo.files[file])
        return self.fail(404, "gone")

    def info(self, repo, name):
        siblings = []
        for p, d in repo.files.items():
            e = {"rfilename": p}
            if self.hub.blobs:
                e.update(size=len(d), blobId=git_id(d))
                if p in repo.lfs:
                    e["blobId"] = "0" * 40
                    e["lfs"] = {"sha256": hashlib.sha256(d).hexdigest(), "size": len(d), "pointerSize": 135}
            siblings.append(e)
        self.answer(200, {"id": name, "sha": repo.commit, "siblings": siblings})

    def tree(self, repo, name, parts):
        entries = [{"type": "directory", "oid": "1" * 40, "size": 0, "path": "onnx"}]
        for p, d in repo.files.items():
            e = {"type": "file", "oid": git_id(d), "size": len(d), "path": p}
            if p in repo.lfs:
                e["lfs"] = {"oid": hashlib.sha256(d).hexdigest(), "size": len(d), "pointerSize": 135}
            entries.append(e)
        at = int(urllib.parse.parse_qs(parts.query).get("cursor", ["0"])[0])
        headers = []
        if at + self.hub.page < len(entries):
            headers = [("Link", '<%s%s?recursive=true&cursor=%d>; rel="next"' % (self.hub.url, parts.path, at + self.hub.page))]
        self.answer(200, entries[at:at + self.hub.page], headers)

    def misbehave(self, fault):
        """True: that was the answer."""
        if fault.kind == "status":
            headers = [("Retry-After", str(fault.retry_after))] if fault.retry_after is not None else []
            self.fail(fault.status, fault.text or "as the test wants it", fault.code, headers)
            return True
        if fault.kind == "reset_at_once":
            self.note(0)
            self.reset()
            self.close_connection = True
            return True
        if fault.kind == "silent":
            self.note(0)
            time.sleep(fault.seconds)
            self.close_connection = True
            return True
        return False

    def file(self, file, data, tag=None):
        hub = self.hub
        fault = hub.take_fault(file)
        if fault and self.misbehave(fault):
            return
        kind = fault.kind if fault else None
        if kind == "flip":
            data = bytearray(data)
            data[fault.at if fault.at is not None else len(data) // 2] ^= 1
            data = bytes(data)
        elif kind == "longer":
            data = data + b"x" * 100
        elif kind == "shorter":
            data = data[:-100]
        begin, end, status = 0, len(data), 200
        wanted = self.headers.get("Range")
        etag = '"%s"' % (tag or hashlib.sha256(data).hexdigest()[:20])
        with hub.lock:
            if hub.etags.get(file):
                etag = hub.etags[file].pop(0) if len(hub.etags[file]) > 1 else hub.etags[file][0]
        if_range = self.headers.get("If-Range")
        if wanted and hub.ranges and kind != "whole" and (not if_range or if_range == etag):
            a, _, b = wanted[len("bytes="):].partition("-")
            begin, end, status = int(a), min(int(b) + 1, len(data)) if b else len(data), 206
            if begin >= len(data):
                return self.answer(416, b"", [("Content-Range", "bytes */%d" % len(data))])
        if kind == "less" and status == 206:
            end = max(begin + 1, begin + (end - begin) // 2)
        self.note(status, file)
        self.send_response(status)
        self.send_header("ETag", etag)
        if hub.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            shift = 7 if kind == "other_range" else 0
            self.send_header("Content-Range", "bytes %d-%d/%d" % (begin + shift, end - 1 + shift, len(data)))
        if kind == "unsized":
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(end - begin))
        self.end_headers()
        if self.command == "HEAD":
            return
        stop = None
        if kind in ("truncate", "reset", "stall", "unsized"):
            stop = min(end, begin + (fault.at or 0))
        at = begin
        while at < end:
            n = min(16384, end - at)
            if stop is not None:
                n = min(n, stop - at)
            if n == 0:
                break
            if hub.bucket:
                hub.bucket.take(n)
            self.wfile.write(data[at:at + n])
            with hub.lock:
                hub.sent[file] = hub.sent.get(file, 0) + n
            at += n
        if at == end:
            return
        self.close_connection = True
        if kind == "reset":
            self.reset()
        elif kind == "stall":
            time.sleep(fault.seconds)


class Proxy:
    """A plain HTTP proxy that writes down what goes through it."""

    def __init__(self):
        owner = self
        self.urls = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                owner.urls.append(self.path)
                parts = urllib.parse.urlsplit(self.path)
                c = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
                target = parts.path + ("?" + parts.query if parts.query else "")
                headers = {k: v for k, v in self.headers.items() if k.lower() not in ("proxy-connection", "connection")}
                c.request("GET", target, headers=headers)
                r = c.getresponse()
                body = r.read()
                self.send_response(r.status)
                for k, v in r.getheaders():
                    if k.lower() not in ("connection", "transfer-encoding", "server", "date", "content-length"):
                        self.send_header(k, v)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                c.close()

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


if __name__ == "__main__":
    h = Hub()
    h.add("org/tiny", tiny_model())
    print(h.url, flush=True)
    threading.Event().wait()
