#!/usr/bin/env python3
"""Pulls from a hub that behaves in every way it can (hub_server.py), by pull_child: test_pull.py PULL_CHILD [TEST ...]"""
import concurrent.futures
import errno
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import hub_server  # noqa: E402

CHILD = None
TESTS, ALONE = [], []
WEIGHTS = "model.safetensors"


class Skip(Exception):
    pass


def test(f):
    TESTS.append(f)
    return f


def alone(f):
    """By itself: what it measures is disturbed by others."""
    ALONE.append(f)
    return f


class Case:
    """A hub and a store."""

    def __init__(self, where=None):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="mlxr-pull-", dir=where))
        self.root = self.dir / "store"
        self.hub = hub_server.Hub()

    def __enter__(self):
        return self

    def __exit__(self, *a):
        self.hub.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def start(self, what, source, *args, env=None, **keys):
        keys.setdefault("endpoint", self.hub.url)
        command = [CHILD, what, str(self.root), source] + list(args) + ["%s=%s" % kv for kv in keys.items()]
        clean = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        clean.update(env or {})
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean)

    def finish(self, child, timeout=90):
        out, err = child.communicate(timeout=timeout)
        assert child.returncode in (0, 1), "exit %s: %s%s" % (child.returncode, out, err[-3000:])
        answer = json.loads(out)
        answer["log"] = err
        assert answer["backwards"] == 0, "progress went backwards, or beyond its end: %s" % answer
        return answer

    def run(self, what, source, *args, **keys):
        return self.finish(self.start(what, source, *args, **keys))

    def good(self, source="org/tiny", **keys):
        a = self.run("pull", source, **keys)
        assert a["status"] == "MLXR_OK", a
        return a

    def bad(self, status, text, source="org/tiny", **keys):
        a = self.run("pull", source, **keys)
        assert a["status"] == status and text in a["message"], "wanted %s with %r: %s" % (status, text, a)
        assert "\n" not in a["message"] and "SECRET" not in a["message"] and "sig=" not in a["message"], a
        return a

    def manifests(self):
        return sorted(p for p in (self.root / "manifests").rglob("*") if p.is_file() and not p.name.startswith("."))

    def manifest(self, name="org/tiny", tag="latest"):
        p = self.root / "manifests" / "huggingface.co" / name / tag
        return json.loads(p.read_bytes())

    def check(self, files, name="org/tiny", tag="latest"):
        """The model is there, every byte of it, and nothing is left over."""
        m = self.manifest(name, tag)
        titles = {l["annotations"]["org.opencontainers.image.title"]: l for l in m["layers"]}
        for title, layer in titles.items():
            data = self.blob(layer["digest"]).read_bytes()
            assert data == files[title], title
        for title in files:
            wanted = "/" not in title and not title.startswith(".") and title != "README.md" and not title.endswith(
                (".gguf", ".bin"))
            assert (title in titles) == wanted, (title, sorted(titles))
        self.whole()
        assert not self.partials(), self.partials()
        return m

    def whole(self):
        """Whatever happened: what the store has is right, and what a name stands for is there."""
        blobs = self.root / "blobs" / "sha256"
        for p in blobs.iterdir() if blobs.exists() else []:
            assert hashlib.sha256(p.read_bytes()).hexdigest() == p.name, p
        for p in self.manifests() if (self.root / "manifests").exists() else []:
            m = json.loads(p.read_bytes())
            for l in m["layers"] + [m["config"]]:
                assert self.blob(l["digest"]).stat().st_size == l["size"], l
        sessions = self.root / "sessions"
        return list(sessions.iterdir()) if sessions.exists() else []

    def blob(self, digest):
        return self.root / "blobs" / "sha256" / digest.split(":")[1]

    def partials(self):
        p = self.root / "partial"
        return sorted(f.name for f in p.iterdir()) if p.exists() else []

    def nothing(self):
        """The store is as a store without a model is."""
        assert not self.whole() and not self.partials(), (self.whole(), self.partials())
        assert not (self.root / "manifests").exists() or not self.manifests()


# ---- what comes ----

@test
def plain():
    with Case() as c:
        files = hub_server.tiny_model()
        repo = c.hub.add("org/tiny", files)
        a = c.good()
        m = c.check(files)
        assert a["total"] == sum(l["size"] for l in m["layers"]) + m["config"]["size"], a
        assert a["done"] == a["of"] > 0, a
        assert not c.whole(), "a session is left"
        config = json.loads(c.blob(m["config"]["digest"]).read_bytes())
        assert config["source"] == "huggingface.co/org/tiny@" + repo.commit, config
        assert c.hub.count("README.md") == 0 and c.hub.count("onnx/model.onnx") == 0
        # again: nothing moves but the question
        before = sum(c.hub.sent.values())
        b = c.good()
        assert b["digest"] == a["digest"] and sum(c.hub.sent.values()) == before, b
        assert b["present"] == sum(l["size"] for l in m["layers"]), b


@test
def another_name_and_revision():
    with Case() as c:
        old = hub_server.tiny_model(seed=1)
        new = dict(old, **{"config.json": old["config.json"].replace(b'"seed": 1', b'"seed": 7')})
        repo = c.hub.add("org/tiny", old, revision="v1.0")
        c.hub.add("org/tiny", new)
        c.good(name="mine:new")
        assert c.manifest("library/mine", "new")
        moved = c.hub.count(WEIGHTS)
        c.good(name="mine:old", revision="v1.0")
        c.check(old, "library/mine", "old")
        assert c.hub.count(WEIGHTS) == moved, "the weights are the same"
        c.run("pull", "hf.co/org/tiny:v1.0")
        c.check(old, "org/tiny", "v1.0")
        c.good(revision=repo.commit, name="mine:commit")
        c.check(old, "library/mine", "commit")
        a = c.bad("MLXR_E_NOT_FOUND", "has no revision \"v9\"", revision="v9")
        assert "404" in a["message"]


@test
def delta():
    with Case() as c:
        old = hub_server.tiny_model(400_000, shards=4)
        c.hub.add("org/tiny", old)
        c.good()
        shard = "model-00002-of-00004.safetensors"
        new = dict(old)
        other = hub_server.safetensors({"model.layers.1.mlp.up_proj.weight": ("F16", (781, 64), b"\1" * 781 * 128)})
        assert len(other) == len(old[shard])
        new[shard] = other
        c.hub.add("org/tiny", new)
        before = dict(c.hub.sent)
        a = c.good()
        c.check(new)
        for p, n in c.hub.sent.items():
            assert n == before[p] + (len(new[p]) if p == shard else 0), p
        assert a["present"] > 300_000 and a["moved"] < 200_000, a


@test
def only_shards_of_the_index():
    with Case() as c:
        files = hub_server.tiny_model(shards=2)
        extra = dict(files)
        extra["model-extra.safetensors"] = files["model-00001-of-00002.safetensors"]
        extra["consolidated.safetensors"] = b"no such thing" * 1000
        c.hub.add("org/tiny", extra)
        c.good()
        c.check(files)
        assert c.hub.count("model-extra.safetensors") == c.hub.count("consolidated.safetensors") == 0


@test
def tree_with_pages():
    with Case() as c:
        files = hub_server.tiny_model()
        c.hub.add("org/tiny", files)
        c.hub.blobs, c.hub.page = False, 3
        c.good()
        c.check(files)
        assert len([e for e in c.hub.log if "/tree/" in e["path"]]) >= 4


@test
def names_alone():
    """Digests and sizes as the files themselves tell them."""
    for redirects in (True, False):
        with Case() as c:
            files = hub_server.tiny_model()
            c.hub.add("org/tiny", files)
            c.hub.blobs, c.hub.has_tree, c.hub.redirects = False, False, redirects
            c.good()
            c.check(files)


@test
def pooling_and_templates():
    with Case() as c:
        files = hub_server.tiny_model()
        more = {"1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}', "chat_template.jinja": b"{{ x }}",
                "modules.json": b'[{"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]'}
        c.hub.add("org/tiny", dict(files, **more))
        c.good()
        titles = [l["annotations"]["org.opencontainers.image.title"] for l in c.manifest()["layers"]]
        assert set(more) <= set(titles), titles


@test
def without_ranges():
    with Case() as c:
        files = hub_server.tiny_model(9_000_000)
        c.hub.add("org/tiny", files)
        c.hub.ranges = False
        c.good()
        c.check(files)
        assert c.hub.count(WEIGHTS) == len(files[WEIGHTS])
    with Case() as c:  # one that breaks begins from the start
        c.hub.add("org/tiny", files)
        c.hub.ranges = False
        c.hub.fault(WEIGHTS, "truncate", at=5_000_000)
        c.good()
        c.check(files)


@test
def in_parts():
    with Case() as c:
        files = hub_server.tiny_model(30_000_000)
        c.hub.add("org/tiny", files)
        c.hub.bucket = hub_server.Bucket(60_000_000)
        c.good(parallel=4)
        c.check(files)
        asked = [e for e in c.hub.requests(port="cdn") if e["file"] == WEIGHTS]
        assert len(asked) >= 4 and all(e["status"] == 206 for e in asked), asked
        assert c.hub.count(WEIGHTS) == len(files[WEIGHTS])
        assert len(c.hub.signatures) == 1, "where it lies is asked for once"


@test
def odd_names():
    with Case() as c:
        files = hub_server.tiny_model()
        c.hub.add("org/tiny", dict(files, **{"LICENSE with spaces & 100%.txt": b"yes"}))
        c.good()
        titles = [l["annotations"]["org.opencontainers.image.title"] for l in c.manifest()["layers"]]
        assert "LICENSE with spaces & 100%.txt" in titles


@test
def hostile_names():
    for name in ("../LICENSE", "/LICENSE", "a/../LICENSE", "..", "x\x01.jinja", "a\\..\\b.jinja"):
        with Case() as c:
            c.hub.add("org/tiny", dict(hub_server.tiny_model(), **{name: b"no"}))
            a = c.run("pull", "org/tiny")
            if a["status"] == "MLXR_OK":
                c.check(hub_server.tiny_model())
            else:
                assert a["status"] == "MLXR_E_FORMAT", a
            assert not (c.dir / "LICENSE").exists()


# ---- what breaks ----

@test
def statuses_that_pass():
    with Case() as c:
        files = hub_server.tiny_model()
        c.hub.add("org/tiny", files)
        c.hub.fault("api", "status", status=429, retry_after=1)
        c.hub.fault("api", "status", status=503)
        c.hub.fault("config.json", "status", status=500)
        c.hub.fault(WEIGHTS, "status", status=502)
        c.hub.fault(WEIGHTS, "status", status=503, retry_after=1)
        c.hub.fault("resolve:" + WEIGHTS, "status", status=504)
        a = c.good(log=1)
        c.check(files)
        assert a["ms"] >= 2000, "two pauses of a second were asked for"
        assert "429" in a["log"] and "again in" in a["log"], a["log"]
        assert c.hub.count(WEIGHTS) == len(files[WEIGHTS])


@test
def statuses_that_stay():
    with Case() as c:
        c.hub.add("org/tiny", hub_server.tiny_model())
        c.hub.fault(WEIGHTS, "status", None, status=503, text="out for lunch")
        a = c.bad("MLXR_E_NETWORK", "503 Service Unavailable: out for lunch", tries=2)
        assert a["message"].startswith(WEIGHTS + ": http://127.0.0.1"), a
        c.nothing()
        c.hub.faults.clear()
        c.good()
        c.check(hub_server.tiny_model())


@test
def refusals():
    files = hub_server.tiny_model()
    with Case() as c:
        c.bad("MLXR_E_NOT_FOUND", "mlxctl pull org/name")
        c.nothing()
    with Case() as c:  # private
        c.hub.add("org/tiny", files)
        c.hub.token = "SECRET"
        c.bad("MLXR_E_DENIED", "set HF_TOKEN")
        c.bad("MLXR_E_DENIED", "was not accepted", token="SECRET2")
        c.nothing()
        c.good(token="SECRET")
        c.check(files)
    with Case() as c:  # gated: the list is free
        c.hub.add("org/tiny", files)
        c.hub.token, c.hub.gated = "SECRET", True
        c.bad("MLXR_E_DENIED", "set HF_TOKEN")
        a = c.bad("MLXR_E_DENIED", "accept its terms at", token="SECRET2")
        assert c.hub.url + "/org/tiny" in a["message"]
        c.nothing()
    with Case() as c:  # a file that went away
        c.hub.add("org/tiny", files)
        c.hub.fault(WEIGHTS, "status", None, status=404, text="gone")
        c.bad("MLXR_E_NOT_FOUND", WEIGHTS)
        c.nothing()
    with Case() as c:  # nobody there
        c.hub.close()
        a = c.bad("MLXR_E_NETWORK", "(tried 2 times)", tries=2)
        assert "Connection refused" in a["message"] or "connect" in a["message"], a


@test
def no_model():
    files = hub_server.tiny_model()
    without = {k: v for k, v in files.items() if k != WEIGHTS}
    with Case() as c:
        c.hub.add("org/gguf", dict(without, **{"tiny-Q4_0.gguf": b"GGUF" * 100, "tiny-Q8_0.gguf": b"GGUF" * 200}))
        a = c.bad("MLXR_E_UNSUPPORTED", "--file", "org/gguf")
        assert "tiny-Q4_0.gguf" in a["message"] and "tiny-Q8_0.gguf" in a["message"]
        a = c.bad("MLXR_E_NOT_FOUND", "tiny-Q8_0.gguf", "org/gguf", file="tiny-Q5_0.gguf")
        c.bad("MLXR_E_UNSUPPORTED", "tiny-Q4_0.gguf: version", "org/gguf", file="tiny-Q4_0.gguf")
        c.hub.add("org/torch", dict(without, **{"pytorch_model.bin": b"PK" * 100}))
        a = c.bad("MLXR_E_UNSUPPORTED", "no *.safetensors, only weights of PyTorch: pytorch_model.bin", "org/torch")
        c.hub.add("org/empty", without)
        c.bad("MLXR_E_UNSUPPORTED", "has no weights", "org/empty")
        c.hub.add("org/noconfig", {WEIGHTS: files[WEIGHTS]})
        c.bad("MLXR_E_UNSUPPORTED", "config.json", "org/noconfig")
        assert c.hub.count(WEIGHTS) == 0
        shards = hub_server.tiny_model(shards=3)
        del shards["model-00002-of-00003.safetensors"]
        c.hub.add("org/hole", shards)
        c.bad("MLXR_E_FORMAT", "model-00002-of-00003.safetensors", "org/hole")
        broken = dict(files, **{WEIGHTS: files[WEIGHTS][:-4]})
        c.hub.add("org/broken", broken)
        a = c.bad("MLXR_E_FORMAT", "org/broken/" + WEIGHTS, "org/broken")
        assert "sessions" not in a["message"], a
        c.hub.add("org/nojson", dict(files, **{"config.json": b"{"}))
        c.bad("MLXR_E_FORMAT", "org/nojson/config.json", "org/nojson")
        assert not c.manifests() if (c.root / "manifests").exists() else True
        assert not c.whole()
        a = c.run("push", "org/tiny")
        assert a["status"] == "MLXR_E_NOT_FOUND", a


@test
def gguf():
    with Case() as c:
        data = hub_server.tiny_gguf()
        repo = c.hub.add("org/gguf", {"tiny-F32.gguf": data, "tiny-F16.gguf": b"not this one", "README.md": b"#"})
        a = c.good("org/gguf", file="tiny-F32.gguf")
        m = c.manifest("org/gguf")
        titles = [l["annotations"]["org.opencontainers.image.title"] for l in m["layers"]]
        assert {"config.json", WEIGHTS, "tokenizer.json"} <= set(titles), titles
        config = json.loads(c.blob(m["config"]["digest"]).read_bytes())
        assert config["source"] == "huggingface.co/org/gguf@%s:tiny-F32.gguf" % repo.commit, config
        assert a["total"] == sum(l["size"] for l in m["layers"]) + m["config"]["size"]
        assert not c.blob("sha256:" + hashlib.sha256(data).hexdigest()).exists(), "the GGUF itself does not stay"
        assert not c.whole() and not c.partials()
        assert c.hub.count("tiny-F16.gguf") == 0
        a = c.run("repair", "org/gguf", WEIGHTS)
        assert a["status"] == "MLXR_E_UNSUPPORTED" and "pull the model again" in a["message"], a


@test
def push_to_a_hub():
    with Case() as c:
        c.hub.add("org/tiny", hub_server.tiny_model())
        c.good()
        a = c.run("push", "org/tiny")
        assert a["status"] == "MLXR_E_UNSUPPORTED" and "OCI" in a["message"], a


@test
def broken_connections():
    with Case() as c:
        files = hub_server.tiny_model(9_000_000)
        c.hub.add("org/tiny", files)
        c.hub.fault("api", "reset_at_once")
        c.hub.fault("config.json", "truncate", at=20)
        c.hub.fault("tokenizer.json", "reset", at=20)
        c.hub.fault(WEIGHTS, "truncate", at=1_000_000)
        c.hub.fault(WEIGHTS, "reset", at=500_000)
        c.hub.fault(WEIGHTS, "reset_at_once")
        c.hub.fault(WEIGHTS, "truncate", at=100_000)
        c.good(parallel=2)
        c.check(files)
        assert c.hub.count(WEIGHTS) <= len(files[WEIGHTS]) * 1.1, c.hub.count(WEIGHTS) / len(files[WEIGHTS])
        ranges = [e["headers"].get("if-range") for e in c.hub.requests(file=WEIGHTS)]
        assert any(ranges), "what was resumed said of which file it was a part"


@test
def stalls():
    with Case() as c:
        files = hub_server.tiny_model(2_000_000)
        c.hub.add("org/tiny", files)
        c.hub.fault(WEIGHTS, "stall", at=600_000, seconds=20)
        a = c.good(stall=1)
        c.check(files)
        assert a["ms"] < 15000, a
    with Case() as c:
        c.hub.add("org/tiny", files)
        c.hub.fault(WEIGHTS, "silent", None, seconds=20)
        c.bad("MLXR_E_NETWORK", "nothing came for 1 s", stall=1, tries=2)
        c.nothing()


@test
def slow_link():
    with Case() as c:
        files = hub_server.tiny_model(600_000)
        c.hub.add("org/tiny", files)
        c.hub.bucket = hub_server.Bucket(300_000)
        a = c.good(stall=1)
        c.check(files)
        assert a["ms"] > 1500 and a["steps"] > 5, a


@test
def wrong_bytes():
    with Case() as c:
        files = hub_server.tiny_model()
        c.hub.add("org/tiny", files)
        c.hub.fault(WEIGHTS, "flip", None)
        a = c.bad("MLXR_E_CORRUPT", "wanted sha256:" + hashlib.sha256(files[WEIGHTS]).hexdigest())
        assert a["message"].count("sha256:") == 2
        c.nothing()
        c.hub.faults.clear()
        c.hub.fault("config.json", "flip", None)
        c.bad("MLXR_E_CORRUPT", "config.json is not what its commit has")
        c.hub.faults.clear()
        c.good()
        c.check(files)


@test
def wrong_lengths():
    files = hub_server.tiny_model(5_000_000)
    for kind in ("longer", "shorter"):
        for ranges in (True, False):
            with Case() as c:
                c.hub.add("org/tiny", files)
                c.hub.ranges = ranges
                c.hub.fault(WEIGHTS, kind, None)
                a = c.bad("MLXR_E_CORRUPT", "the server's file has")
                c.nothing()
    with Case() as c:
        c.hub.add("org/tiny", files)
        c.hub.fault("config.json", "longer", None)
        c.bad("MLXR_E_CORRUPT", "config.json has")
        c.nothing()
    with Case() as c:  # neither a length nor all of it
        c.hub.add("org/tiny", files)
        c.hub.ranges = False
        c.hub.fault(WEIGHTS, "unsized", None, at=1000)
        c.bad("MLXR_E_CORRUPT", "has 1000 bytes")


@test
def odd_ranges():
    files = hub_server.tiny_model(9_000_000)
    with Case() as c:  # now parts, now the whole
        c.hub.add("org/tiny", files)
        c.hub.fault(WEIGHTS, "whole", after=1)
        c.good(parallel=2)
        c.check(files)
    with Case() as c:  # other bytes than those asked for
        c.hub.add("org/tiny", files)
        c.hub.fault(WEIGHTS, "other_range", None)
        c.bad("MLXR_E_NETWORK", "asked for bytes from 0 on", parallel=1)
    with Case() as c:  # less than was asked for, which a server may do
        c.hub.add("org/tiny", files)
        c.hub.fault(WEIGHTS, "less", 3)
        c.good()
        c.check(files)


@test
def changed_etag():
    files = hub_server.tiny_model(9_000_000)
    with Case() as c:  # once: begun anew
        c.hub.add("org/tiny", files)
        c.hub.etags[WEIGHTS] = ['"a"', '"b"']
        a = c.good(parallel=1, log=1)
        c.check(files)
        assert "it changed there" in a["log"], a["log"]
    with Case() as c:  # at every answer
        c.hub.add("org/tiny", files)
        c.hub.etags[WEIGHTS] = ['"%d"' % i for i in range(100)]
        c.hub.fault(WEIGHTS, "truncate", None, at=1_000_000)
        c.bad("MLXR_E_NETWORK", "", parallel=1, tries=3)
        c.whole()


@test
def signatures_run_out():
    with Case() as c:
        files = hub_server.tiny_model(30_000_000)
        c.hub.add("org/tiny", files)
        c.hub.signature_good = 2
        c.good(parallel=2)
        c.check(files)
        assert 3 <= len(c.hub.signatures) <= 9, len(c.hub.signatures)
        assert c.hub.count(WEIGHTS) == len(files[WEIGHTS])


@test
def token_goes_to_the_hub_alone():
    with Case() as c:
        files = hub_server.tiny_model(6_000_000)
        c.hub.add("org/tiny", files)
        c.hub.token = "SECRET"
        c.good(token="SECRET")
        c.check(files)
        hub, cdn = c.hub.requests(port="hub"), c.hub.requests(port="cdn")
        assert hub and all(e["headers"].get("authorization") == "Bearer SECRET" for e in hub)
        assert cdn and not any("authorization" in e["headers"] for e in cdn)
        assert all(e["headers"]["user-agent"].startswith("mlxr/") for e in hub + cdn)


@test
def proxy():
    p = hub_server.Proxy()
    with Case() as c:
        files = hub_server.tiny_model()
        c.hub.add("org/tiny", files)
        c.good(env={"http_proxy": p.url})
        c.check(files)
        assert any(u.startswith(c.hub.url) for u in p.urls) and any(u.startswith(c.hub.cdn_url) for u in p.urls), p.urls
    p.close()


@test
def tls():
    with Case() as c:
        key, certificate = c.dir / "key.pem", c.dir / "cert.pem"
        if not shutil.which("openssl"):
            raise Skip("there is no openssl to make a certificate with")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
                        "subjectAltName=IP:127.0.0.1"], check=True, stderr=subprocess.DEVNULL)
        files = hub_server.tiny_model(6_000_000)
        c.hub.add("org/tiny", files)
        c.hub.use_tls(certificate, key)
        a = c.bad("MLXR_E_NETWORK", "ertificate")
        assert "tried" not in a["message"], "a certificate does not become better by waiting: %s" % a
        c.nothing()
        c.good(insecure=1)
        c.check(files)


# ---- going on ----

@test
def state_that_is_broken():
    files = hub_server.tiny_model(9_000_000)
    rng = random.Random(5)
    for what in ("head", "entry", "short", "long", "empty", "data", "data_gone", "data_short"):
        with Case() as c:
            c.hub.add("org/tiny", files)
            c.hub.bucket = hub_server.Bucket(30_000_000)
            a = c.run("pull", "org/tiny", cancel_bytes=4_000_000)
            assert a["status"] == "MLXR_E_CANCELLED", a
            names = c.partials()
            assert len(names) == 2, names
            data, state = (c.root / "partial" / n for n in names)
            b = bytearray(state.read_bytes())
            if what == "head":
                b[rng.randrange(32)] ^= 1 << rng.randrange(8)
            elif what == "entry":
                b[32 + rng.randrange(16)] ^= 1 << rng.randrange(8)
            elif what == "short":
                del b[-3:]
            elif what == "long":
                b += b"\0" * 8
            elif what == "empty":
                b = b""
            state.write_bytes(bytes(b))
            if what == "data":
                with open(data, "r+b") as f:
                    f.seek(1000)
                    f.write(b"wrong")
            elif what == "data_gone":
                data.unlink()
            elif what == "data_short":
                os.truncate(data, 4_500_000)
            c.hub.bucket = None
            a = c.good(log=1)
            c.check(files)
            assert ("from the start" in a["log"]) == (what == "data"), (what, a["log"])


@test
def cancelled():
    files = hub_server.tiny_model(9_000_000)
    for phase in ("api", "small", "answer", "data", "pause", "stall"):
        with Case() as c:
            c.hub.add("org/tiny", files)
            keys = {"cancel_ms": 600}
            if phase == "api":
                c.hub.fault("api", "silent", None, seconds=10)
            elif phase == "small":
                c.hub.fault("config.json", "silent", None, seconds=10)
            elif phase == "answer":
                c.hub.fault(WEIGHTS, "silent", None, seconds=10)
            elif phase == "data":
                c.hub.bucket = hub_server.Bucket(5_000_000)
                keys = {"cancel_bytes": 3_000_000}
            elif phase == "pause":
                c.hub.fault(WEIGHTS, "status", None, status=503, retry_after=30)
            elif phase == "stall":
                c.hub.fault(WEIGHTS, "stall", None, at=100_000, seconds=10)
            a = c.bad("MLXR_E_CANCELLED", "", **keys)
            # a machine that is busy takes its time, but not the seconds that the server does
            assert 0 <= a["cancel_ms"] < 1500, (phase, a)
            assert not c.whole(), "a session is left"
            c.hub.faults.clear()
            c.hub.bucket = None
            c.good()
            c.check(files)


@test
def waiting_is_cancelled():
    with Case() as c:
        c.hub.add("org/tiny", hub_server.tiny_model(3_000_000))
        c.hub.fault(WEIGHTS, "stall", 1, at=2_000_000, seconds=5)
        first = c.start("pull", "org/tiny", stall=4)
        while c.hub.count(WEIGHTS) < 2_000_000:
            time.sleep(0.02)
        time.sleep(0.3)
        a = c.run("pull", "org/tiny", cancel_ms=500, log=1)
        assert a["status"] == "MLXR_E_CANCELLED" and "waiting for that" in a["log"], a
        assert a["done"] > 1_000_000, "it told how far the other one is: %s" % a
        a = c.finish(first)
        assert a["status"] == "MLXR_OK", a
        c.check(hub_server.tiny_model(3_000_000))


def shared(n_threads):
    with Case() as c:
        files = hub_server.tiny_model(12_000_000)
        c.hub.add("org/tiny", files)
        c.hub.bucket = hub_server.Bucket(15_000_000)
        if n_threads > 1:
            c.good(threads=n_threads)
        else:
            children = [c.start("pull", "org/tiny") for _ in range(3)]
            for child in children:
                a = c.finish(child)
                assert a["status"] == "MLXR_OK", a
        c.check(files)
        assert c.hub.count(WEIGHTS) <= 1.02 * len(files[WEIGHTS]), c.hub.count(WEIGHTS) / len(files[WEIGHTS])


@test
def processes_share():
    shared(1)


@test
def threads_share():
    shared(3)


@test
def the_first_dies():
    with Case() as c:
        files = hub_server.tiny_model(12_000_000)
        c.hub.add("org/tiny", files)
        c.hub.bucket = hub_server.Bucket(8_000_000)
        first, second = c.start("pull", "org/tiny"), c.start("pull", "org/tiny")
        while c.hub.count(WEIGHTS) < 5_000_000:
            time.sleep(0.02)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        a = c.finish(second)
        assert a["status"] == "MLXR_OK", a
        c.check(files)
        assert c.hub.count(WEIGHTS) <= 1.2 * len(files[WEIGHTS]), c.hub.count(WEIGHTS) / len(files[WEIGHTS])


@alone
def twenty_kills():
    with Case() as c:
        files = hub_server.tiny_model(60_000_000, shards=2)
        c.hub.add("org/tiny", files)
        c.hub.bucket = hub_server.Bucket(10_000_000)
        rng = random.Random(11)
        n_kills, n_early, deadline = 0, 0, time.monotonic() + 60
        while n_kills < 20 and time.monotonic() < deadline:
            child = c.start("pull", "org/tiny")
            before = sum(c.hub.sent.values())
            aim = before + rng.randrange(400_000, 3_000_000)
            while child.poll() is None and sum(c.hub.sent.values()) < aim:
                time.sleep(0.002)
            if child.poll() is None:
                child.send_signal(signal.SIGKILL)
                n_kills += 1
            else:
                n_early += 1
            child.communicate()
            if n_kills % 5 == 0:
                c.whole()
        assert n_kills == 20 and n_early == 0, (n_kills, n_early)
        c.hub.bucket = None
        c.good()
        c.check(files)
        total = sum(len(files[p]) for p in files if p.startswith("model"))
        served = sum(n for p, n in c.hub.sent.items())
        print("20 kills: %.3f of the model's bytes were served" % (served / total))
        assert served <= 1.2 * total, served / total


# ---- no room ----

@test
def disk_full():
    with Case() as c:
        files = hub_server.tiny_model(9_000_000)
        c.hub.add("org/tiny", files)
        digest = hashlib.sha256(files[WEIGHTS]).hexdigest()
        a = c.bad("MLXR_E_NO_SPACE", "is kept: pulling again goes on from there",
                  fault="write@200:%d:partial/%s" % (errno.ENOSPC, digest))
        assert "No space left on device" in a["message"]
        assert not c.whole() and not (c.root / "manifests").exists() or not c.manifests()
        before = c.hub.count(WEIGHTS)
        c.good()
        c.check(files)
        assert c.hub.count(WEIGHTS) - before < len(files[WEIGHTS]) - 500_000, "what came is kept"
    for kind in ("create", "truncate", "sync", "rename", "mkdir", "write"):
        with Case() as c:
            c.hub.add("org/tiny", files)
            a = c.run("pull", "org/tiny", fault="%s@1:%d:partial" % (kind, errno.EIO))
            assert a["status"] in ("MLXR_E_IO", "MLXR_OK"), (kind, a)
            assert a["status"] == "MLXR_E_IO" or kind == "rename", (kind, a)
            c.whole()
            c.good()
            c.check(files)


@test
def quota():
    with Case() as c:
        files = hub_server.tiny_model(3_000_000)
        c.hub.add("org/tiny", files)
        c.bad("MLXR_E_NO_SPACE", "", quota=2_000_000)
        assert c.hub.count(WEIGHTS) == 0, "nothing is fetched that would not be kept"
        c.nothing()
        c.good(quota=4_000_000)
        c.check(files)


@test
def small_disk():
    mount = pathlib.Path(tempfile.mkdtemp(prefix="mlxr-pull-"))
    try:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(mount)], stderr=subprocess.DEVNULL).returncode:
            raise Skip("a tmpfs cannot be mounted here")
        try:
            with Case(mount) as c:
                c.hub.add("org/tiny", hub_server.tiny_model(20_000_000))
                a = c.bad("MLXR_E_NO_SPACE", "MB more, and the disk of")
                assert c.hub.count(WEIGHTS) == 0
                c.nothing()
                files = hub_server.tiny_model(3_000_000)
                c.hub.add("org/tiny", files)
                c.good()
                c.check(files)
                # others fill it meanwhile
                c.hub.add("org/other", hub_server.tiny_model(3_000_000, seed=2))
                c.hub.bucket = hub_server.Bucket(1_000_000)
                child = c.start("pull", "org/other")
                while c.hub.count(WEIGHTS) < 3_500_000:
                    time.sleep(0.01)
                with open(mount / "filler", "wb") as f:
                    try:
                        while True:
                            f.write(b"x" * 65536)
                            f.flush()
                    except OSError:
                        pass
                    try:
                        f.close()
                    except OSError:
                        pass
                a = c.finish(child)
                assert a["status"] == "MLXR_E_NO_SPACE", a
                c.check_names = c.manifests()
                assert len(c.check_names) == 1
                c.whole()
                (mount / "filler").unlink()
                c.hub.bucket = None
                c.good("org/other")
                c.check(hub_server.tiny_model(3_000_000, seed=2), "org/other")
                c.check(files)
        finally:
            subprocess.run(["umount", str(mount)])
    finally:
        shutil.rmtree(mount, ignore_errors=True)


# ---- repair ----

@test
def repair():
    with Case() as c:
        files = hub_server.tiny_model(3_000_000, shards=2)
        c.hub.add("org/tiny", files)
        c.good()
        m = c.manifest()
        for title in ("model-00002-of-00002.safetensors", "config.json", "config"):
            layer = m["config"] if title == "config" else [
                l for l in m["layers"] if l["annotations"]["org.opencontainers.image.title"] == title][0]
            p = c.blob(layer["digest"])
            p.chmod(0o644)
            b = bytearray(p.read_bytes())
            b[50] ^= 4
            p.write_bytes(b)
            before = dict(c.hub.sent)
            a = c.run("repair", "org/tiny", title)
            assert a["status"] == "MLXR_OK", a
            c.check(files)
            for q, n in c.hub.sent.items():
                assert n == before[q] + (layer["size"] if q == title else 0), q


def run_one(f):
    t = time.monotonic()
    try:
        f()
        return f.__name__, "ok", time.monotonic() - t, ""
    except Skip as e:
        return f.__name__, "SKIP: %s" % e, time.monotonic() - t, ""
    except BaseException:
        return f.__name__, "FAILED", time.monotonic() - t, traceback.format_exc()


def main():
    global CHILD
    CHILD = sys.argv[1]
    wanted = sys.argv[2:]
    n_failed, start = 0, time.monotonic()

    def pick(tests):
        return [t for t in tests if not wanted or t.__name__ in wanted]

    def show(result):
        nonlocal n_failed
        name, text, seconds, trace = result
        print("%-28s %5.1f s  %s" % (name, seconds, text), flush=True)
        if trace:
            n_failed += 1
            print(trace, flush=True)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for r in pool.map(run_one, pick(TESTS)):
            show(r)
    for t in pick(ALONE):
        show(run_one(t))
    print("%d failed, %.0f s" % (n_failed, time.monotonic() - start))
    sys.exit(1 if n_failed else 0)


main()
