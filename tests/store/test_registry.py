#!/usr/bin/env python3
"""Push to and pull from OCI registries: test_registry.py CHILD [unittest's arguments]

CHILD is registry_child. One half runs against docker-registry on loopback, which is skipped when it is not installed, the other
against registry_server.py, which misbehaves as registries do.
"""
import base64
import glob
import hashlib
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from registry_server import Proxy, Registry, sha  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
CHILD = None
TOP = None
MIB = 1 << 20


def safetensors(n_bytes, seed):
    n = n_bytes // 4
    header = json.dumps({"model.w": {"dtype": "U32", "shape": [n], "data_offsets": [0, 4 * n]}}).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + random.Random(seed).randbytes(4 * n)


def folder(name, files):
    path = os.path.join(TOP, "models", name)
    os.makedirs(path)
    for f, data in files.items():
        with open(os.path.join(path, f), "wb") as out:
            out.write(data)
    return path


SHARED = {"model-00001-of-00002.safetensors": safetensors(24 * MIB, 1), "tokenizer.json": b'{"a": 1}' * 20000}
A = dict(SHARED, **{"model-00002-of-00002.safetensors": safetensors(5 * MIB, 2),
                    "config.json": b'{"model_type": "llama", "vocab_size": 10}', "empty.json": b""})
B = dict(SHARED, **{"model-00002-of-00002.safetensors": safetensors(5 * MIB, 3),
                    "config.json": b'{"model_type": "llama", "vocab_size": 11}'})
BIG = {"model.safetensors": safetensors(72 * MIB, 4), "config.json": b'{"model_type": "llama", "vocab_size": 12}'}
SMALL = {"model.safetensors": safetensors(MIB, 5), "config.json": b'{"model_type": "llama", "vocab_size": 13}',
         "tokenizer.json": b"{}"}


class Failed(Exception):
    pass


def start(store, *args):
    return subprocess.Popen([CHILD, store] + [str(a) for a in args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(store, *args):
    p = subprocess.run([CHILD, store] + [str(a) for a in args], capture_output=True, text=True, timeout=120)
    if p.returncode == 1:
        raise Failed(p.stderr)
    if p.returncode != 0 or "a step goes" in p.stderr:
        raise Exception("child: %d: %s" % (p.returncode, p.stderr))
    return json.loads(p.stdout)


class Case(unittest.TestCase):
    n = 0

    def store(self, *models):
        Case.n += 1
        path = os.path.join(TOP, "stores", str(Case.n))
        os.makedirs(path)
        for name, files in models:
            where = os.path.join(TOP, "models", name)
            if not os.path.exists(where):
                folder(name, files)
            run(path, "put", where, name)
        return path

    def fails(self, status, text, *args):
        with self.assertRaises(Failed) as caught:
            run(*args)
        last = str(caught.exception).strip().splitlines()[-1]
        self.assertRegex(last, "^%s[A-Z_]*: .*(%s)" % (status, text))
        return str(caught.exception)

    def blob(self, store, data):
        return os.path.join(store, "blobs", "sha256", hashlib.sha256(data).hexdigest())

    def assert_none(self, store, name):
        """Nothing of that name, nor half of it: what there is, is whole."""
        self.fails("MLXR_E_NOT_FOUND", "", store, "check", name)
        for path in glob.glob(os.path.join(store, "blobs", "sha256", "*")):
            self.assertEqual(sha(read(path)), "sha256:" + os.path.basename(path))


def read(path):
    with open(path, "rb") as f:
        return f.read()


def total(files, *names):
    return sum(len(files[n]) for n in (names or files))


# ---- Debian's docker-registry ----

CONFIG = """version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: %s}
  delete: {enabled: true}
  maintenance: {uploadpurging: {enabled: false}}
http:
  addr: 127.0.0.1:%d
  secret: of-the-test
"""


class DockerRegistry:
    def __init__(self, htpasswd=None, tls=None):
        self.dir = tempfile.mkdtemp(dir=TOP)
        for _ in range(5):
            import socket
            with socket.create_server(("127.0.0.1", 0)) as s:
                self.port = s.getsockname()[1]
            text = CONFIG % (os.path.join(self.dir, "data"), self.port)
            if htpasswd:
                text += "auth:\n  htpasswd: {realm: test, path: %s}\n" % htpasswd
            if tls:
                text = text.replace("  secret:", "  tls: {certificate: %s, key: %s}\n  secret:" % tls)
            with open(os.path.join(self.dir, "config.yml"), "w") as f:
                f.write(text)
            env = {k: v for k, v in os.environ.items() if not k.startswith("REGISTRY_") and k not in ("OTEL_TRACES_EXPORTER",)}
            with open(os.path.join(self.dir, "log"), "w") as log:
                self.process = subprocess.Popen(["docker-registry", "serve", os.path.join(self.dir, "config.yml")],
                                                stdout=log, stderr=log, env=env)
            for _ in range(100):
                if self.process.poll() is not None:
                    break
                try:
                    socket.create_connection(("127.0.0.1", self.port), 1).close()
                    self.host = "127.0.0.1:%d" % self.port
                    return
                except OSError:
                    time.sleep(0.05)
            self.close()
        with open(os.path.join(self.dir, "log")) as log:
            raise Exception("docker-registry does not start: " + log.read()[-500:])

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()


@unittest.skipUnless(shutil.which("docker-registry"), "docker-registry is not installed")
class Docker(Case):
    @classmethod
    def setUpClass(cls):
        cls.registry = DockerRegistry()
        cls.host = cls.registry.host

    @classmethod
    def tearDownClass(cls):
        cls.registry.close()

    def test_push_delta_mount_pull(self):
        store = self.store(("a", A), ("b", B))
        first = run(store, "push", "a", self.host + "/team/a:1")
        self.assertEqual((first["moved"], first["present"]), (first["total"], 0))
        again = run(store, "push", "a", self.host + "/team/a:1")
        self.assertEqual((again["moved"], again["present"]), (0, first["total"]))
        # Of a second model only what is its own: the second shard and config.json, for the config says the same.
        delta = run(store, "push", "b", self.host + "/team/a:b")
        own = total(B, "model-00002-of-00002.safetensors", "config.json")
        self.assertEqual(delta["moved"], own)
        self.assertEqual(delta["present"], delta["total"] - own)
        # Another repository of the registry: everything is mounted.
        there = run(store, "push", "b", self.host + "/other/deep/b:1")
        self.assertEqual((there["moved"], there["present"]), (0, delta["total"]))

        other = self.store()
        got = run(other, "pull", self.host + "/other/deep/b:1", "got/b:x")
        self.assertEqual(got["digest"], delta["digest"])
        self.assertEqual((got["moved"], got["present"]), (delta["total"], 0))
        for told in (first, again, delta, there, got):
            self.assertEqual(told["steps"], [told["total"], told["total"]])
        self.assertEqual(run(other, "check", "got/b:x")["digest"], delta["digest"])
        rest = run(other, "pull", self.host + "/team/a:1", "got/a:x")
        self.assertEqual(rest["moved"], total(A, "model-00002-of-00002.safetensors", "config.json", "empty.json"))
        self.assertEqual(run(other, "check", "got/a:x")["digest"], first["digest"])
        exact = run(other, "pull", self.host + "/team/a@" + first["digest"], "got/c:x")
        self.assertEqual((exact["digest"], exact["moved"]), (first["digest"], 0))
        self.fails("MLXR_E_NOT_FOUND", "no such model", other, "pull", self.host + "/team/a@sha256:" + "0" * 64, "x")
        self.fails("MLXR_E_INVALID_ARGUMENT", "@", other, "pull", self.host + "/team/a@sha256:0", "x")
        self.fails("MLXR_E_NOT_FOUND", "no such model", other, "pull", self.host + "/team/a:2", "x")
        self.fails("MLXR_E_NOT_FOUND", "no such model", other, "pull", self.host + "/nobody:2", "x")

    @unittest.skipUnless(shutil.which("skopeo"), "skopeo is not installed")
    def test_skopeo_reads_it(self):
        store = self.store(("a", A))
        pushed = run(store, "push", "a", self.host + "/skopeo/a:1")
        where = "docker://%s/skopeo/a:1" % self.host
        raw = subprocess.run(["skopeo", "inspect", "--tls-verify=false", "--raw", where], capture_output=True, check=True).stdout
        self.assertEqual(sha(raw), pushed["digest"])
        self.assertEqual({layer["digest"] for layer in json.loads(raw)["layers"]}, {sha(data) for data in A.values()})
        # Without --raw skopeo wants a container image, and says that this is an artifact of our type.
        plain = subprocess.run(["skopeo", "inspect", "--tls-verify=false", where], capture_output=True, text=True)
        self.assertTrue(plain.returncode == 0 or "application/vnd.mlxr" in plain.stderr, plain.stderr)
        layout = os.path.join(TOP, "layout")
        subprocess.run(["skopeo", "copy", "-q", "--src-tls-verify=false", where, "oci:%s:a" % layout], check=True,
                       capture_output=True)
        index = json.loads(read(os.path.join(layout, "index.json")))
        self.assertEqual([m["digest"] for m in index["manifests"]], [pushed["digest"]])
        blobs = glob.glob(os.path.join(layout, "blobs", "sha256", "*"))
        for path in blobs:
            self.assertEqual(sha(read(path)), "sha256:" + os.path.basename(path))
        self.assertEqual(len(blobs), len(A) + 2)

    def test_killed_between_chunks_goes_on(self):
        store = self.store(("big", BIG))
        proxy = Proxy(self.registry.port)
        place = proxy.host + "/resume/big:1"
        # The session is written down when it begins and after each chunk: killed right after the third of five.
        p = start(store, "push", "big", place, "--parallel", 1, "--kill", "sync", "/uploads", 4)
        self.assertEqual(p.wait(60), -signal.SIGKILL, p.communicate())
        p.communicate()
        self.assertGreater(proxy.up, 48 * MIB)
        self.assertEqual(len(glob.glob(os.path.join(store, "uploads", "*.json"))), 1)
        second = run(store, "push", "big", place)
        self.assertEqual(second["present"], 48 * MIB)
        self.assertLess(proxy.up, 1.05 * second["total"])
        self.assertEqual(os.listdir(os.path.join(store, "uploads")), [])
        self.assertEqual(run(self.store(), "pull", place, "x")["digest"], second["digest"])
        proxy.close()

    def test_killed_within_a_chunk_ends_well(self):
        # This registry takes no more of a session that broke off within a chunk: the file is sent anew.
        store = self.store(("big", BIG))
        proxy = Proxy(self.registry.port)
        proxy.delay = 0.002
        place = proxy.host + "/within/big:1"
        p = start(store, "push", "big", place, "--parallel", 1)
        while proxy.up < 26 * MIB and p.poll() is None:
            time.sleep(0.002)
        p.kill()
        p.communicate()
        proxy.delay = 0
        second = run(store, "push", "big", place)
        self.assertEqual(run(self.store(), "pull", place, "x")["digest"], second["digest"])
        proxy.close()

    def test_killed_at_any_time(self):
        store = self.store(("a", A))
        proxy = Proxy(self.registry.port)
        proxy.delay = 0.001
        place = proxy.host + "/kills/a:1"
        rng = random.Random(9)
        n_killed = 0
        for i in range(60):
            p = start(store, "push", "a", place)
            try:
                p.wait(rng.uniform(0.0, 0.35))
            except subprocess.TimeoutExpired:
                p.kill()
            p.communicate()
            n_killed += p.returncode == -signal.SIGKILL
            if n_killed == 24:
                break
            if p.returncode == 0:  # it was quicker: there again from the start
                place = proxy.host + "/kills/a%d:1" % i
                for f in glob.glob(os.path.join(store, "origins", "*")):
                    os.unlink(f)
        self.assertEqual(n_killed, 24)
        proxy.delay = 0
        done = run(store, "push", "a", place)
        other = self.store()
        self.assertEqual(run(other, "pull", place, "x")["digest"], done["digest"])
        run(other, "check", "x")
        run(store, "check", "a")
        proxy.close()

    def test_damaged_file_is_not_sent(self):
        store = self.store(("a", A))
        data = A["model-00001-of-00002.safetensors"]
        path = self.blob(store, data)
        os.chmod(path, 0o644)
        with open(path, "r+b") as f:
            f.seek(17 * MIB)
            byte = f.read(1)
            f.seek(17 * MIB)
            f.write(bytes([byte[0] ^ 8]))
        message = self.fails("MLXR_E_CORRUPT", "model-00001-of-00002.safetensors.*damaged", store, "push", "a",
                             self.host + "/damaged:1")
        self.assertIn(sha(data), message)
        with self.assertRaises(urllib.error.HTTPError):
            urllib.request.urlopen("http://%s/v2/damaged/manifests/1" % self.host)
        # In one piece too.
        data = A["tokenizer.json"]
        store = self.store(("a", A))
        os.chmod(self.blob(store, data), 0o644)
        with open(self.blob(store, data), "r+b") as f:
            f.write(b"[")
        self.fails("MLXR_E_CORRUPT", "tokenizer.json.*damaged", store, "push", "a", self.host + "/damaged/two:1")

    def test_bit_flipped_and_repaired(self):
        store = self.store(("small", SMALL))
        proxy = Proxy(self.registry.port)
        run(store, "push", "small", proxy.host + "/repair/small:1")
        other = self.store()
        run(other, "pull", proxy.host + "/repair/small:1", "got")
        rng = random.Random(7)
        for where, name, file, at in ((store, "small", "model.safetensors", 500000), (other, "got", "model.safetensors", 3),
                                      (other, "got", "model.safetensors", rng.randrange(200, MIB)),
                                      (other, "got", "config.json", rng.randrange(len(SMALL["config.json"]))),
                                      (other, "got", "tokenizer.json", 1)):
            path = self.blob(where, SMALL[file])
            os.chmod(path, 0o644)
            with open(path, "r+b") as f:
                f.seek(at)
                byte = f.read(1)
                f.seek(at)
                f.write(bytes([byte[0] ^ 1 << rng.randrange(8)]))
            down = proxy.down
            p = start(where, "verify", name)
            out, told = p.communicate()
            found = json.loads(out)
            self.assertEqual((found["bad"], found["repaired"]), (1, 1), told)
            self.assertRegex(told, "finding: %s:latest: %s: .*repaired" % (name, re.escape(file)))
            if where == other and at > 200:
                self.assertIn("model.w", told)
            # That blob alone came over the network.
            self.assertLessEqual(found["fetched"], len(SMALL[file]))
            self.assertLess(proxy.down - down, len(SMALL[file]) + 8 * 1024)
            run(where, "check", name)
            self.assertEqual(run(where, "verify", name)["bad"], 0)
        proxy.close()


@unittest.skipUnless(shutil.which("docker-registry"), "docker-registry is not installed")
class DockerWithPassword(Case):
    @classmethod
    def setUpClass(cls):
        cls.registry = DockerRegistry(os.path.join(HERE, "registry_htpasswd"))
        cls.host = cls.registry.host

    @classmethod
    def tearDownClass(cls):
        cls.registry.close()

    def auth_file(self, doc):
        Case.n += 1
        path = os.path.join(TOP, "auth-%d.json" % Case.n)
        with open(path, "w") as f:
            f.write(doc if isinstance(doc, str) else json.dumps(doc))
        return path

    def test_credentials(self):
        store = self.store(("small", SMALL))
        place = self.host + "/private/small:1"
        auth = base64.b64encode(b"team:a pass:word").decode()
        self.fails("MLXR_E_DENIED", "without credentials", store, "push", "small", place)
        self.fails("MLXR_E_DENIED", 'as "team"', store, "push", "small", place, "--user", "team", "--password", "no")
        good = self.auth_file({"auths": {"https://%s/v1/" % self.host: {"auth": auth}}})
        other = self.auth_file({"auths": {"registry.example": {"auth": auth}}})
        broken = self.auth_file("{")
        helper = self.auth_file({"auths": {self.host: {}}, "credsStore": "desktop"})
        message = self.fails("MLXR_E_DENIED", "docker-credential-desktop.*--password-stdin", store, "push", "small", place,
                             "--auth", other, "--auth", helper)
        self.assertNotIn("a pass", message)
        self.fails("MLXR_E_DENIED", "without credentials", store, "push", "small", place, "--auth", broken)
        done = run(store, "push", "small", place, "--auth", "/nowhere", "--auth", broken, "--auth", other, "--auth", good)
        self.assertEqual(done["moved"], done["total"])
        self.fails("MLXR_E_DENIED", "without credentials", self.store(), "pull", place, "x")
        got = run(self.store(), "pull", place, "x", "--user", "team", "--password", "a pass:word")
        self.assertEqual(got["digest"], done["digest"])


@unittest.skipUnless(shutil.which("docker-registry") and shutil.which("openssl"), "docker-registry or openssl is not installed")
class DockerWithTls(Case):
    def test_certificates(self):
        pair = os.path.join(TOP, "tls.crt"), os.path.join(TOP, "tls.key")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=IP:127.0.0.1", "-out", pair[0], "-keyout", pair[1]], check=True, capture_output=True)
        registry = DockerRegistry(tls=pair)
        try:
            store = self.store(("small", SMALL))
            place = registry.host + "/tls/small:1"
            # Nobody vouches for it: refused. The port is known for TLS although this machine is tried without it first.
            self.fails("MLXR_E_NETWORK", "certificate", store, "push", "small", place, "--tries", 1)
            done = run(store, "push", "small", place, "--insecure")
            self.assertEqual(run(self.store(), "pull", place, "x", "--insecure")["digest"], done["digest"])
        finally:
            registry.close()


# ---- a server that misbehaves ----

class Server(Case):
    def setUp(self):
        self.r = Registry()
        self.host = self.r.host

    def tearDown(self):
        self.r.close()

    def pushed(self, files=SMALL, name="small", place="/team/m:1", *args):
        store = self.store((name, files))
        return store, run(store, "push", name, self.host + place, *args)

    def model(self, **change):
        """A small model put together here, for manifests that no client of ours would make."""
        config = json.dumps({"mlxr": 1, "family": "llama"}).encode()
        layers = [{"mediaType": "application/vnd.mlxr.file.v1", "digest": self.r.add_blob("m", data), "size": len(data),
                   "annotations": {"org.opencontainers.image.title": name}} for name, data in SMALL.items()]
        doc = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
               "artifactType": "application/vnd.mlxr.model.v1",
               "config": {"mediaType": "application/vnd.mlxr.config.v1+json", "digest": self.r.add_blob("m", config),
                          "size": len(config)}, "layers": layers}
        doc.update(change)
        return doc

    # authorization

    def test_bearer(self):
        self.r.auth = "bearer"
        store = self.store(("small", SMALL))
        place = self.host + "/team/m:1"
        self.fails("MLXR_E_DENIED", "token server.*without credentials", store, "push", "small", place)
        done = run(store, "push", "small", place, "--user", "team", "--password", "a pass:word")
        asked = self.r.token_requests[-1]
        self.assertEqual(asked[1]["service"], ["a registry"])
        self.assertEqual(asked[1]["scope"], ["repository:team/m:pull,push"])
        # Nothing was sent unasked: the first request of a push has no authorization, and all others have.
        self.assertIsNone(next(a for m, p, a in self.r.requests if p == "/v2/"))
        self.fails("MLXR_E_DENIED", 'as "team"', store, "push", "small", place, "--user", "team", "--password", "x")
        self.r.anonymous_pull = True
        self.assertEqual(run(self.store(), "pull", place, "x")["digest"], done["digest"])
        self.fails("MLXR_E_DENIED", "without credentials", store, "push", "small", place)

    def test_tokens_run_out(self):
        self.r.auth = "bearer"
        self.r.token_uses = 2
        self.r.token_answer = {"token": None, "access_token": True, "expires_in": None}
        store = self.store(("a", A))
        args = ("--user", "team", "--password", "a pass:word")
        done = run(store, "push", "a", self.host + "/team/m:1", "--parallel", 1, *args)
        self.assertGreaterEqual(done["moved"], done["total"])  # what was refused for its token was sent twice
        n = len(self.r.token_requests)
        self.assertGreater(n, 5)
        self.r.token_uses = 6  # more than there are connections at a time
        other = self.store()
        self.assertEqual(run(other, "pull", self.host + "/team/m:1", "x", *args)["digest"], done["digest"])
        self.assertGreater(len(self.r.token_requests), n + 1)
        run(other, "check", "x")

    def test_token_servers_by_post(self):
        self.r.auth = "bearer"
        self.r.token_get_refused = True
        store, done = self.pushed(SMALL, "small", "/team/m:1", "--user", "team", "--password", "a pass:word")
        self.r.refresh_token = "refresh/me+="
        for user in ({"auth": base64.b64encode(b"x:").decode(), "identitytoken": self.r.refresh_token},
                     {"auth": base64.b64encode(b"<token>:" + self.r.refresh_token.encode()).decode()}):
            path = os.path.join(TOP, "identity.json")
            with open(path, "w") as f:
                json.dump({"auths": {self.host: user}}, f)
            self.assertEqual(run(self.store(), "pull", self.host + "/team/m:1", "x", "--auth", path)["digest"], done["digest"])
        self.assertEqual(self.r.token_requests[-1][0], "POST")

    def test_hostile_tokens(self):
        self.r.auth = "bearer"
        self.r.anonymous_pull = True
        self.r.add_manifest("m", "1", self.model())
        for change, text in (({"token": "a\r\nX-Evil: 1"}, "characters"), ({"token": None}, 'no "token"'),
                             ({"token": 7}, 'no "token"'), ({"token": "x" * 100000}, 'no "token"'),
                             ({"expires_in": "soon"}, "expires_in")):
            self.r.token_answer = change
            self.fails("MLXR_E_FORMAT", text, self.store(), "pull", self.host + "/m:1", "x")
        self.r.token_answer = {}
        for realm, text in (("file:///etc/passwd", "no http"), ("http://a\\\tb/", "no http")):
            self.r.realm = realm
            self.fails("MLXR_E_NETWORK", text, self.store(), "pull", self.host + "/m:1", "x")
        # Credentials stay on this machine and off the plain wire.
        self.r.realm = "http://registry.example/token"
        self.fails("MLXR_E_DENIED", "without TLS", self.store(), "pull", self.host + "/m:1", "x", "--user", "team",
                   "--password", "a pass:word")

    def test_401_for_ever(self):
        self.r.add_manifest("m", "1", self.model())
        for value in ('Basic realm="x"', 'Bearer realm="http://%s/token"' % self.host, "Negotiate abc==", "", 'Basic', "Bearer,,=\"",
                      'Basic realm="unclosed'):
            self.r.requests.clear()
            self.r.anonymous_pull = True
            self.r.headers_401 = [("WWW-Authenticate", value)]
            self.fails("MLXR_E_DENIED", "401|token server", self.store(), "pull", self.host + "/m:1", "x", "--user", "team",
                       "--password", "a pass:word")
            self.assertLess(len(self.r.requests), 9)

    def test_redirects_leave_the_authorization(self):
        other = Registry()
        self.r.auth = "basic"
        doc = self.model()
        self.r.add_manifest("m", "1", doc)
        big = max(doc["layers"], key=lambda layer: layer["size"])["digest"]
        other.add_blob("m", self.r.blobs[big])
        self.r.faults.append(["GET", big, 99, lambda h: self.r.answer(h, 307, b"", [("Location", "http://%s%s" % (other.host, h.path))])])
        run(self.store(), "pull", self.host + "/m:1", "x", "--user", "team", "--password", "a pass:word")
        self.assertTrue(other.requests)
        self.assertEqual({a for _, _, a in other.requests}, {None})
        other.close()

    def test_a_config_gets_no_password(self):
        # Where a model says it is from is asked for its files, but not with what was given for another place.
        store = self.store()
        run(store, "put", folder("said", SMALL), "said", self.host + "/m:1")
        self.r.auth = "basic"
        path = self.blob(store, SMALL["tokenizer.json"])
        os.chmod(path, 0o644)
        with open(path, "wb") as f:
            f.write(b"[]")
        found = run(store, "verify", "said", "--user", "team", "--password", "a pass:word")
        self.assertEqual((found["bad"], found["repaired"]), (1, 0))
        self.assertTrue(self.r.requests)
        self.assertEqual({a for _, _, a in self.r.requests}, {None})

    def test_uploads_elsewhere_get_no_authorization(self):
        other = Registry()
        self.r.auth = "basic"
        store = self.store(("small", SMALL))
        other.uploads["there"] = bytearray()
        self.r.faults.append(["POST", "uploads", 99, lambda h: self.r.answer(
            h, 202, b"", [("Location", "http://%s/v2/m/blobs/uploads/there" % other.host)])])
        self.fails("MLXR_E_N", "", store, "push", "small", self.host + "/m:1", "--parallel", 1, "--user", "team", "--password",
                   "a pass:word")
        self.assertTrue(other.requests)
        self.assertEqual({a for _, _, a in other.requests}, {None})
        other.close()

    # things that pass

    def test_passing_failures(self):
        for fault in (429, 500, "break"):
            self.r.faults = [["HEAD", "blobs", 1, fault], ["POST", "uploads", 1, fault], ["PUT", "uploads", 1, fault],
                             ["PUT", "manifests", 1, fault], ["GET", "manifests", 1, fault], ["GET", "blobs/sha", 1, fault]]
            place = "/fault%s/m:1" % fault
            store = self.store(("small", SMALL))
            done = run(store, "push", "small", self.host + place)
            self.assertEqual(run(self.store(), "pull", self.host + place, "x")["digest"], done["digest"])
            self.assertEqual([f[2] for f in self.r.faults], [0] * 6)

    def test_lasting_failures(self):
        store = self.store(("small", SMALL))
        for method, path, text in (("POST", "uploads", "a new upload"), ("PUT", "manifests", "manifest"), ("PUT", "uploads", "model|json")):
            self.r.faults = [[method, path, 99, 500]]
            place = "/team/%s-%s:1" % (method.lower(), path)
            self.fails("MLXR_E_NETWORK", "team/p[a-z-]*: .*500", store, "push", "small", self.host + place, "--tries", 2)
        self.r.faults = [["POST", "uploads", 99, 403]]
        self.fails("MLXR_E_DENIED", "403", store, "push", "small", self.host + "/team/m2:1")
        nobody = "127.0.0.1:9"
        self.fails("MLXR_E_NETWORK", "", store, "push", "small", nobody + "/m:1", "--tries", 1)

    def test_killed_within_a_chunk_goes_on(self):
        store = self.store(("big", BIG))
        self.r.slow = 0.004
        p = start(store, "push", "big", self.host + "/m:1", "--parallel", 1)
        while self.r.sent_to_us < 40 * MIB and p.poll() is None:
            time.sleep(0.002)
        p.kill()
        p.communicate()
        self.r.slow = 0
        time.sleep(0.3)  # what was under way arrives
        second = run(store, "push", "big", self.host + "/m:1")
        self.assertGreater(second["present"], 38 * MIB)
        self.assertLess(self.r.sent_to_us, 1.1 * second["total"])
        self.assertEqual(run(self.store(), "pull", self.host + "/m:1", "x")["digest"], second["digest"])

    def test_cancelled(self):
        store = self.store(("big", BIG))
        self.r.slow = 0.02
        p = start(store, "push", "big", self.host + "/m:1")
        while self.r.sent_to_us < 4 * MIB and p.poll() is None:
            time.sleep(0.002)
        p.send_signal(signal.SIGINT)
        begin = time.monotonic()
        self.assertIn("MLXR_E_CANCELLED", p.communicate()[1])
        self.assertLess(time.monotonic() - begin, 2)
        self.r.slow = 0
        time.sleep(0.3)
        done = run(store, "push", "big", self.host + "/m:1")
        self.assertEqual(run(self.store(), "pull", self.host + "/m:1", "x")["digest"], done["digest"])

    def test_broken_chunks_go_on(self):
        self.r.break_patch_after = [3 * MIB, 16 * MIB - 1, 0, 5 * MIB, 1]
        store, done = self.pushed(BIG, "big", "/team/m:1", "--parallel", 1, "--tries", 3)
        # What the kernel held was lost each time.
        self.assertLess(self.r.sent_to_us, done["total"] + 1 * MIB)
        self.assertEqual(run(self.store(), "pull", self.host + "/team/m:1", "x")["digest"], done["digest"])

    def test_lost_sessions_begin_anew(self):
        self.r.break_patch_after = [3 * MIB, 5 * MIB]
        self.r.lose_sessions = True
        store, done = self.pushed(BIG, "big", "/team/m:1", "--parallel", 1, "--tries", 4)
        self.assertEqual(run(self.store(), "pull", self.host + "/team/m:1", "x")["digest"], done["digest"])

    def test_a_stale_session_begins_anew(self):
        store = self.store(("big", BIG))
        p = start(store, "push", "big", self.host + "/m:1", "--parallel", 1, "--kill", "sync", "/uploads", 3)
        p.communicate()
        self.assertEqual(p.returncode, -signal.SIGKILL)
        self.r.uploads.clear()
        done = run(store, "push", "big", self.host + "/m:1")
        self.assertEqual((done["moved"], done["present"]), (done["total"] - 0, 0))

    def test_gc_leaves_young_sessions(self):
        store = self.store(("big", BIG))
        p = start(store, "push", "big", self.host + "/m:1", "--parallel", 1, "--kill", "sync", "/uploads", 2)
        p.communicate()
        here = sorted(os.listdir(os.path.join(store, "uploads")))
        self.assertEqual([os.path.splitext(f)[1] for f in here], [".json", ".lock"])
        self.assertEqual(run(store, "gc", "all")["files"], 0)
        for f in here:
            when = time.time() - 8 * 24 * 3600
            os.utime(os.path.join(store, "uploads", f), (when, when))
        self.assertEqual(run(store, "gc", "all")["files"], 1)
        self.assertEqual(os.listdir(os.path.join(store, "uploads")), [])

    def test_a_session_with_wrong_bytes_begins_anew(self):
        store = self.store(("big", BIG))
        p = start(store, "push", "big", self.host + "/m:1", "--parallel", 1, "--kill", "sync", "/uploads", 3)
        p.communicate()
        next(d for d in self.r.uploads.values() if d)[100] ^= 1
        done = run(store, "push", "big", self.host + "/m:1")
        self.assertEqual(run(self.store(), "pull", self.host + "/m:1", "x")["digest"], done["digest"])

    def test_chunk_lengths(self):
        self.r.chunk_min = 20 * MIB
        store, done = self.pushed(BIG, "big")
        self.assertLessEqual(getattr(self.r, "short_chunks", 0), 1)  # the last one
        self.assertEqual(len([1 for m, p, a in self.r.requests if m == "PATCH"]), 4)
        self.assertEqual(run(self.store(), "pull", self.host + "/team/m:1", "x")["digest"], done["digest"])

    def test_registries_without_chunks(self):
        self.r.no_patch = True
        store, done = self.pushed(BIG, "big")
        self.assertLess(self.r.sent_to_us, 1.5 * done["total"])
        self.assertEqual(run(self.store(), "pull", self.host + "/team/m:1", "x")["digest"], done["digest"])

    def test_mounts(self):
        self.r.auth = "bearer"
        args = ("--user", "team", "--password", "a pass:word")
        store, done = self.pushed(SMALL, "small", "/team/m:1", *args)
        there = run(store, "push", "small", self.host + "/team/n:1", *args)
        self.assertEqual((there["moved"], there["present"]), (0, done["total"]))
        self.r.mount_refused = True
        there = run(store, "push", "small", self.host + "/team/o:1", *args)
        self.assertEqual((there["moved"], there["present"]), (done["total"], 0))
        self.r.faults = [["POST", "mount=", 99, 404]]
        there = run(store, "push", "small", self.host + "/team/p:1", *args)
        self.assertEqual((there["moved"], there["present"]), (done["total"], 0))

    # what is refused

    def test_wrong_manifest_digests(self):
        store, done = self.pushed()
        self.r.manifest_digest = "sha256:" + "1" * 64
        self.fails("MLXR_E_CORRUPT", "1111", store, "push", "small", self.host + "/team/m:1")
        other = self.store()
        self.fails("MLXR_E_CORRUPT", "1111.*|the registry says", other, "pull", self.host + "/team/m:1", "x")
        self.assert_none(other, "x")

    def test_wrong_blobs(self):
        doc = self.model()
        self.r.add_manifest("m", "1", doc)
        for layer in doc["layers"] + [doc["config"]]:
            data = self.r.blobs[layer["digest"]]
            wrong = bytes([data[0] ^ 1]) + data[1:]
            for bad, status in ((wrong, "MLXR_E_CORRUPT"), (data[:-1], "MLXR_E_(CORRUPT|NETWORK)"), (data + b"x", "MLXR_E_(CORRUPT|NETWORK)")):
                self.r.blob_instead = {layer["digest"]: bad}
                store = self.store()
                with self.assertRaises(Failed) as caught:
                    run(store, "pull", self.host + "/m:1", "x", "--tries", 1)
                self.assertRegex(str(caught.exception).strip().splitlines()[-1], "^" + status)
                self.assert_none(store, "x")
        self.r.blob_instead = {}
        run(store, "pull", self.host + "/m:1", "x")

    def test_indexes(self):
        digest = self.r.add_manifest("m", "1", self.model())
        entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1}
        ours = dict(entry, artifactType="application/vnd.mlxr.model.v1")
        strange = dict(entry, digest="sha256:" + "2" * 64)

        def index(*manifests):
            self.r.add_manifest("m", "i", {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
                                           "manifests": list(manifests)}, "application/vnd.oci.image.index.v1+json")
        for manifests in ((entry,), (strange, ours), (ours, strange)):
            index(*manifests)
            self.assertEqual(run(self.store(), "pull", self.host + "/m:i", "x")["digest"], digest)
        for manifests in ((), (ours, ours), (strange, entry)):
            index(*manifests)
            self.fails("MLXR_E_UNSUPPORTED", "index of %d manifests" % len(manifests), self.store(), "pull", self.host + "/m:i", "x")
        index(dict(entry, digest="sha256:../../x"))
        self.fails("MLXR_E_FORMAT", "digest", self.store(), "pull", self.host + "/m:i", "x")
        index(strange)
        self.fails("MLXR_E_NOT_FOUND", "no such", self.store(), "pull", self.host + "/m:i", "x")
        # An index in an index ends there.
        inner = self.r.add_manifest("m", "j", {"schemaVersion": 2, "manifests": [entry], "mediaType": "application/vnd.oci.image.index.v1+json"})
        index(dict(entry, digest=inner))
        self.fails("MLXR_E_UNSUPPORTED", "not a model", self.store(), "pull", self.host + "/m:i", "x")

    def test_what_is_no_model(self):
        image = "application/vnd.oci.image.config.v1+json"
        blob = {"mediaType": image, "digest": self.r.add_blob("m", b"{}"), "size": 2}
        self.r.add_manifest("m", "image", {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                                           "config": blob, "layers": []})
        self.fails("MLXR_E_UNSUPPORTED", "is a container image", self.store(), "pull", self.host + "/m:image", "x")
        self.r.add_manifest("m", "chart", {"schemaVersion": 2, "config": dict(blob, mediaType="application/vnd.cncf.helm.config.v1+json"), "layers": []})
        self.fails("MLXR_E_UNSUPPORTED", "helm", self.store(), "pull", self.host + "/m:chart", "x")
        for text in (b"", b"[]", b"{", b"<html>", b"\xff", b'{"schemaVersion": 1}', b"[" * 100000):
            self.r.add_manifest("m", "odd", text)
            self.fails("MLXR_E_", "", self.store(), "pull", self.host + "/m:odd", "x")
        self.r.add_manifest("m", "long", b" " * (5 * MIB))
        self.fails("MLXR_E_LIMIT", "", self.store(), "pull", self.host + "/m:long", "x")

    def test_hostile_manifests(self):
        def layers(change):
            doc = self.model()
            change(doc["layers"])
            return doc

        def title(text):
            return layers(lambda l: l[0].__setitem__("annotations", {"org.opencontainers.image.title": text}))
        docs = [title(t) for t in ("../evil", "/etc/passwd", "a/../../b", "", ".", "a\\b", "x" * 2000, "a//b", "tokenizer.json/x", "TOKENIZER.json")]
        docs += [layers(lambda l: l[0].pop("annotations")), layers(lambda l: l[0].__setitem__("size", -1)),
                 layers(lambda l: l[0].__setitem__("size", 1 << 62)), layers(lambda l: l[0].__setitem__("digest", "sha256:../../x")),
                 layers(lambda l: l[0].__setitem__("digest", "md5:1")), layers(lambda l: l.append(l[0])),
                 self.model(schemaVersion=1), self.model(layers={}), self.model(config=7)]
        for doc in docs:
            self.r.add_manifest("m", "1", doc)
            store = self.store()
            self.fails("MLXR_E_(FORMAT|UNSUPPORTED|LIMIT)", "", store, "pull", self.host + "/m:1", "x")
            self.assert_none(store, "x")
        # A config that is none, and one that is too long.
        for config in (b"nothing", b" " * (2 * MIB)):
            doc = self.model()
            doc["config"].update(digest=self.r.add_blob("m", config), size=len(config))
            self.r.add_manifest("m", "1", doc)
            self.r.served.clear()
            store = self.store()
            self.fails("MLXR_E_", "", store, "pull", self.host + "/m:1", "x")
            self.assert_none(store, "x")
            self.assertLessEqual(sum(self.r.served.values()), 64)  # nothing else was fetched

    def test_names_that_registries_refuse(self):
        store = self.store(("small", SMALL))
        for name, text in (("Team/m", "upper case"), ("team/M", "upper case"), ("team/a._b", "a-z"), ("team/_b", "a-z")):
            self.fails("MLXR_E_INVALID_ARGUMENT", text, store, "push", "small", "%s/%s:1" % (self.host, name))
            self.fails("MLXR_E_INVALID_ARGUMENT", text, store, "pull", "%s/%s:1" % (self.host, name), "x")
        self.assertEqual(self.r.requests, [])

    def test_one_file_again(self):
        store, done = self.pushed(A, "a")
        path = self.blob(store, A["config.json"])
        os.chmod(path, 0o644)
        with open(path, "r+b") as f:
            f.write(b"[")
        self.fails("MLXR_E_CORRUPT", "", store, "check", "a")
        self.r.requests.clear()
        for source in (self.host + "/team/m:1", self.host + "/team/m@" + done["digest"]):
            got = run(store, "source", source, "a", "config.json")
            self.assertEqual(got["moved"], len(A["config.json"]))
        self.assertEqual({p for m, p, a in self.r.requests if m == "GET"} - {"/v2/"}, {"/v2/team/m/blobs/" + sha(A["config.json"])})
        run(store, "check", "a")
        self.fails("MLXR_E_NOT_FOUND", "404", store, "source", self.host + "/team/nothing:1", "a", "config.json")
        for host in ("x@%s" % self.host, "localhost#", "a b", "-x"):
            self.fails("MLXR_E_INVALID_ARGUMENT", "no host", store, "source", host + "/team/m:1", "a", "config.json")
        self.fails("MLXR_E_INVALID_ARGUMENT", "no model of a registry", store, "source", "nothing", "a", "config.json")


def main():
    global CHILD, TOP
    CHILD = os.path.abspath(sys.argv.pop(1))
    for k in [k for k in os.environ if k.lower().endswith("_proxy")]:
        del os.environ[k]
    with tempfile.TemporaryDirectory(prefix="mlxr-registry-") as TOP:
        for what in ("docker-registry", "skopeo"):
            if not shutil.which(what):
                print("SKIP: %s is not installed" % what)
        unittest.main(verbosity=2, warnings="ignore")


if __name__ == "__main__":
    main()
