"""An OCI registry in memory, on a free port of loopback, that can be told to misbehave. For test_registry.py.

Speaks the distribution specification's part that pull and push use: manifests, blobs with ranges, uploads in one piece
and in chunks, their state, mounts; Basic and Bearer authorization with a token server of its own (path /token).
"""
import base64
import hashlib
import json
import re
import socket
import threading
import time
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def sha(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Break(Exception):
    """The connection is to break here."""


class Registry:
    def __init__(self):
        self.lock = threading.Lock()
        self.blobs = {}  # digest -> bytes
        self.repos = {}  # name -> set of digests
        self.manifests = {}  # (name, reference) -> bytes
        self.types = {}  # digest of a manifest -> media type
        self.uploads = {}  # id -> bytearray
        self.requests = []  # (method, path, authorization)
        self.sent_to_us = 0  # bytes of bodies of uploads
        self.served = {}  # digest -> bytes of blob answers
        # ways to misbehave
        self.auth = None  # or "basic", "bearer"
        self.user, self.password = "team", "a pass:word"
        self.anonymous_pull = False
        self.token_answer = {}  # put over the token server's answer
        self.token_uses = None  # requests that a token is good for
        self.token_get_refused = False  # only POST
        self.refresh_token = None
        self.tokens = {}  # token -> [scope, uses left]
        self.token_requests = []
        self.faults = []  # [method, regex of path, how often, status or "break" or callable(handler)]
        self.mount_refused = False
        self.chunk_min = None
        self.no_patch = False
        self.lose_sessions = False  # what breaks off is not kept
        self.break_patch_after = []  # bytes of a PATCH's body after which the connection breaks, one each
        self.slow = 0  # seconds for each piece of a body
        self.manifest_digest = None  # told instead of the right one
        self.blob_instead = {}  # digest -> bytes that are served for it
        self.realm = None
        self.headers_401 = None
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def handle_any(self):
                registry.handle(self)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request, address):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.host = "127.0.0.1:%d" % self.port
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    # ---- what tests put in ----

    def add_blob(self, repo, data, digest=None):
        digest = digest or sha(data)
        self.blobs[digest] = data
        self.repos.setdefault(repo, set()).add(digest)
        return digest

    def add_manifest(self, repo, reference, doc, media="application/vnd.oci.image.manifest.v1+json"):
        text = doc if isinstance(doc, bytes) else json.dumps(doc).encode()
        self.manifests[repo, reference] = self.manifests[repo, sha(text)] = text
        self.types[sha(text)] = media
        return sha(text)

    # ---- answers ----

    def answer(self, h, status, body=b"", headers=()):
        h.send_response(status)
        names = {k.lower() for k, _ in headers}
        for k, v in headers:
            h.send_header(k, v)
        if "content-length" not in names:
            h.send_header("Content-Length", str(len(body)))
        h.end_headers()
        if h.command != "HEAD":
            h.wfile.write(body)

    def error(self, h, status, code, headers=()):
        # A body that nobody read would be taken for the next request.
        h.close_connection = True
        body = json.dumps({"errors": [{"code": code, "message": code.lower().replace("_", " ")}]}).encode()
        self.answer(h, status, body, list(headers) + [("Content-Type", "application/json"), ("Connection", "close")])

    def cut(self, h):
        h.close_connection = True
        try:
            h.wfile.flush()
            h.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def read_body(self, h, into=None, limit=None):
        """Into a bytearray piece by piece, so that what arrived before a break is kept."""
        into = bytearray() if into is None else into
        left = int(h.headers.get("Content-Length") or 0)
        taken = 0
        while left > 0:
            want = min(left, 1 << 16)
            if limit is not None:
                want = min(want, limit - taken)
                if want <= 0:
                    raise Break()
            piece = h.rfile.read1(want)
            if not piece:
                raise Break()
            into += piece
            left -= len(piece)
            taken += len(piece)
            with self.lock:
                self.sent_to_us += len(piece)
            if self.slow:
                time.sleep(self.slow)
        return into

    # ---- authorization ----

    def token(self, h, query):
        if h.command == "POST":
            form = urllib.parse.parse_qs(h.rfile.read(int(h.headers["Content-Length"])).decode())
        else:
            form = {}
        self.token_requests.append((h.command, dict(query), form, h.headers.get("Authorization")))
        if h.command == "GET" and self.token_get_refused:
            return self.error(h, 405, "UNSUPPORTED")
        known = h.headers.get("Authorization") == self.basic()
        if form.get("grant_type") == ["password"]:
            known = form.get("username") == [self.user] and form.get("password") == [self.password]
        if form.get("grant_type") == ["refresh_token"]:
            known = self.refresh_token is not None and form.get("refresh_token") == [self.refresh_token]
        if not known and (h.headers.get("Authorization") or form or not self.anonymous_pull):
            return self.error(h, 401, "UNAUTHORIZED")
        scopes = " ".join(query.get("scope", []) + form.get("scope", []))
        if not known:
            scopes = scopes.replace("pull,push", "pull")
        token = uuid.uuid4().hex
        self.tokens[token] = [scopes, self.token_uses]
        doc = {"token": token, "expires_in": 300}
        doc.update(self.token_answer)
        for k in [k for k in doc if doc[k] is None]:
            del doc[k]
        if "access_token" in doc and doc["access_token"] is True:
            doc["access_token"] = token
        self.answer(h, 200, json.dumps(doc).encode())

    def basic(self):
        return "Basic " + base64.b64encode(("%s:%s" % (self.user, self.password)).encode()).decode()

    def allowed(self, h, repo, action):
        if self.headers_401:
            return self.error(h, 401, "UNAUTHORIZED", self.headers_401)
        if self.auth == "basic" and h.headers.get("Authorization") != self.basic():
            return self.error(h, 401, "UNAUTHORIZED", [("WWW-Authenticate", 'Basic realm="a \\"realm\\""')])
        if self.auth == "bearer":
            given = (h.headers.get("Authorization") or "").partition("Bearer ")[2]
            with self.lock:
                token = self.tokens.get(given)
                good = bool(token) and (not repo or re.search("repository:%s:[a-z,]*%s" % (re.escape(repo), action), token[0]))
                if good and token[1] is not None:
                    token[1] -= 1
                    good = token[1] >= 0
            if not good:
                realm = self.realm or "http://%s/token" % self.host
                value = 'Bearer realm="%s",service="a registry"' % realm
                if repo:
                    value += ',scope="repository:%s:%s"' % (repo, "pull" if action == "pull" else "pull,push")
                return self.error(h, 401, "UNAUTHORIZED", [("WWW-Authenticate", value)])
        return True

    # ---- requests ----

    def handle(self, h):
        try:
            self.route(h)
        except Break:
            self.cut(h)
        except (BrokenPipeError, ConnectionResetError):
            h.close_connection = True

    def route(self, h):
        url = urllib.parse.urlsplit(h.path)
        query = urllib.parse.parse_qs(url.query)
        path = url.path
        with self.lock:
            self.requests.append((h.command, h.path, h.headers.get("Authorization")))
            fault = next((f for f in self.faults if f[2] > 0 and f[0] == h.command and re.search(f[1], h.path)), None)
            if fault:
                fault[2] -= 1
        if fault:
            if fault[3] == "break":
                raise Break()
            if callable(fault[3]):
                return fault[3](h)
            return self.error(h, fault[3], "FAULT", [("Retry-After", "1")] if fault[3] in (429, 503) else [])
        if path == "/token":
            return self.token(h, query)
        if path == "/v2/":
            return self.allowed(h, None, "pull") and self.answer(h, 200, b"{}")
        m = re.fullmatch(r"/v2/(.+)/(manifests|blobs|blobs/uploads)/([^/]*)", path)
        if not m:
            return self.error(h, 404, "NOT_FOUND")
        repo, kind, what = m.groups()
        action = "pull" if h.command in ("GET", "HEAD") and kind != "blobs/uploads" else "push"
        if not self.allowed(h, repo, action):
            return
        if kind == "manifests":
            return self.manifest(h, repo, what)
        if kind == "blobs":
            return self.blob(h, repo, what)
        return self.upload(h, repo, what, query)

    def manifest(self, h, repo, reference):
        if h.command == "PUT":
            text = bytes(self.read_body(h))
            doc = json.loads(text)
            for layer in doc["layers"] + [doc["config"]]:
                if layer["digest"] not in self.repos.get(repo, ()):
                    return self.error(h, 400, "MANIFEST_BLOB_UNKNOWN")
            digest = self.add_manifest(repo, reference, text, h.headers["Content-Type"])
            return self.answer(h, 201, b"", [("Docker-Content-Digest", self.manifest_digest or digest), ("Location", "/x")])
        text = self.manifests.get((repo, reference))
        if text is None:
            return self.error(h, 404, "MANIFEST_UNKNOWN")
        self.answer(h, 200, text, [("Content-Type", self.types[sha(text)]),
                                   ("Docker-Content-Digest", self.manifest_digest or sha(text))])

    def blob(self, h, repo, digest):
        if digest not in self.repos.get(repo, ()):
            return self.error(h, 404, "BLOB_UNKNOWN")
        data = self.blob_instead.get(digest, self.blobs[digest])
        headers = [("Docker-Content-Digest", digest), ("Accept-Ranges", "bytes"), ("ETag", '"%s"' % digest)]
        status = 200
        m = re.fullmatch(r"bytes=(\d+)-(\d*)", h.headers.get("Range") or "")
        if m:
            begin, end = int(m[1]), min(int(m[2] or len(data) - 1), len(data) - 1)
            if begin >= len(data):
                return self.error(h, 416, "RANGE_INVALID")
            headers.append(("Content-Range", "bytes %d-%d/%d" % (begin, end, len(data))))
            data = data[begin:end + 1]
            status = 206
        if h.command == "GET":
            with self.lock:
                self.served[digest] = self.served.get(digest, 0) + len(data)
        self.answer(h, status, data, headers)

    def upload(self, h, repo, what, query):
        if h.command == "POST":
            digest = query.get("mount", [None])[0]
            if digest and not self.mount_refused and digest in self.repos.get(query["from"][0], ()):
                if self.auth == "bearer":
                    token = (h.headers.get("Authorization") or "").partition("Bearer ")[2]
                    assert "repository:%s:pull" % query["from"][0] in self.tokens[token][0]
                self.repos.setdefault(repo, set()).add(digest)
                return self.answer(h, 201, b"", [("Location", "/v2/%s/blobs/%s" % (repo, digest))])
            what = uuid.uuid4().hex
            self.uploads[what] = bytearray()
            headers = [("Location", "/v2/%s/blobs/uploads/%s?state=0" % (repo, what)), ("Range", "0-0")]
            if self.chunk_min:
                headers.append(("OCI-Chunk-Min-Length", str(self.chunk_min)))
            return self.answer(h, 202, b"", headers)
        data = self.uploads.get(what)
        if data is None:
            return self.error(h, 404, "BLOB_UPLOAD_UNKNOWN")
        where = "/v2/%s/blobs/uploads/%s?state=" % (repo, what)
        if h.command == "GET":
            return self.answer(h, 204, b"", [("Location", where + str(len(data))), ("Range", "0-%d" % max(len(data) - 1, 0))])
        if h.command == "DELETE":
            del self.uploads[what]
            return self.answer(h, 204)
        if h.command == "PATCH":
            if self.no_patch:
                return self.error(h, 405, "UNSUPPORTED")
            m = re.fullmatch(r"(\d+)-(\d+)", h.headers.get("Content-Range") or "")
            length = int(h.headers["Content-Length"])
            if not m or int(m[1]) != len(data) or int(m[2]) - int(m[1]) + 1 != length:
                return self.error(h, 416, "RANGE_INVALID")
            if self.chunk_min and length < self.chunk_min and h.headers.get("X-Last") is None:
                self.short_chunks = getattr(self, "short_chunks", 0) + 1
            limit = self.break_patch_after.pop(0) if self.break_patch_after else None
            try:
                self.read_body(h, data, limit)
            except (Break, ConnectionResetError):
                if self.lose_sessions:
                    del self.uploads[what]
                raise Break()
            return self.answer(h, 202, b"", [("Location", where + str(len(data))), ("Range", "0-%d" % (len(data) - 1))])
        self.read_body(h, data)
        digest = query["digest"][0]
        if sha(data) != digest:
            del self.uploads[what]
            return self.error(h, 400, "DIGEST_INVALID")
        del self.uploads[what]
        self.add_blob(repo, bytes(data))
        self.answer(h, 201, b"", [("Location", "/v2/%s/blobs/%s" % (repo, digest)), ("Docker-Content-Digest", digest)])


class Proxy:
    """Hands connections on to a port and counts the bytes of each way."""

    def __init__(self, port):
        self.to = port
        self.up = self.down = 0
        self.delay = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.host = "127.0.0.1:%d" % self.port
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                a, _ = self.listener.accept()
                b = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                return
            threading.Thread(target=self.pump, args=(a, b, "up"), daemon=True).start()
            threading.Thread(target=self.pump, args=(b, a, "down"), daemon=True).start()

    def pump(self, a, b, which):
        try:
            while True:
                piece = a.recv(1 << 18)
                if not piece:
                    break
                setattr(self, which, getattr(self, which) + len(piece))
                if self.delay and which == "up":
                    time.sleep(self.delay)
                b.sendall(piece)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        a.close()

    def close(self):
        self.listener.close()
