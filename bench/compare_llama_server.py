#!/usr/bin/env python3
"""Many streams at once: mlxr beside llama.cpp's server, the same weights, the same machine, the same run.

    bench/compare_llama_server.py [--server FILE | --build] [--variant q4_0] [--streams 8] [--pairs 5] [--threads 2]

llama-server runs on the loopback interface with a slot for each stream. All streams are sent at once, each with a prompt
of its own and a fixed number of tokens to answer, and read as they come (server-sent events). mlxr has no HTTP server to
compare yet: its public engine (submit, a callback for each token with its text) is measured in its own process, by
bench_engine, without HTTP and JSON. Both sides get the same prompts as ids, decode greedily, keep no prefix from one run to the
next, and warm up first. They take turns, a process each; every second pair in the opposite order. Printed are
medians over the pairs and the median of the ratios within each pair, with their range. One stream alone is measured in
the same processes.

Needs build/bin/bench_engine, llama-server, and for another variant than q4_1 llama-cpp-python to make its file."""

import argparse
import json
import os
import re
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import bench_common as bc

SERVER = os.path.join(bc.CACHE, "llama-server", "bin", "llama-server")
WARM_UP = 8
COUNT = re.compile(rb'"tokens_predicted":(\d+)')


def id_at(seq, position, n_vocab):
    """The ids of bench_engine."""
    h = (position * 2654435761 + seq * 40503 + 12345) & 0xffffffff
    h ^= h >> 15
    h = h * 2246822519 & 0xffffffff
    h ^= h >> 13
    return h % n_vocab


# ---- llama-server ----


def build_server(version, cmake_args):
    """llama-server from the sources that llama-cpp-python's source package has, for this machine's CPU."""
    root = os.path.join(bc.CACHE, "llama-server")
    os.makedirs(root, exist_ok=True)
    bc.say(f"building llama-server in {os.path.relpath(root)} (several minutes)")

    def step(*command):
        if subprocess.run(command, stdout=sys.stderr).returncode != 0:
            raise bc.Failed(f"{' '.join(command[:4])} ... failed")

    with tempfile.TemporaryDirectory(dir=root) as temp:
        name = "llama-cpp-python" + (f"=={version}" if version else "")
        step(sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-binary", ":all:", "--no-deps", "-d", temp, name)
        package = os.path.join(temp, next(f for f in os.listdir(temp) if f.endswith(".tar.gz")))
        step("tar", "-xzf", package, "-C", temp)
        source = os.path.join(package[:-len(".tar.gz")], "vendor", "llama.cpp")
        if not os.path.isfile(os.path.join(source, "tools", "server", "CMakeLists.txt")):
            raise bc.Failed(f"{os.path.basename(package)} has no sources of llama-server")
        build = os.path.join(temp, "build")
        step("cmake", "-S", source, "-B", build, "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF",
             "-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_BUILD_TESTS=OFF",
             "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_APP=OFF", *cmake_args.split())
        step("cmake", "--build", build, "--target", "llama-server", "-j", str(os.cpu_count() or 1))
        os.makedirs(os.path.dirname(SERVER), exist_ok=True)
        os.replace(os.path.join(build, "bin", "llama-server"), SERVER)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """llama-server, ready when entered; ended by its id."""

    def __init__(self, args, path):
        self.args = args
        self.port = free_port()
        each = (args.prompt + args.tokens + 16 + 255) // 256 * 256
        self.command = [args.server, "-m", path, "--host", "127.0.0.1", "--port", str(self.port), "--parallel", str(args.streams),
                        "-t", str(args.threads), "-c", str(each * args.streams), "--cache-ram", "0", *args.server_args.split()]

    def __enter__(self):
        self.log = tempfile.TemporaryFile()
        self.child = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)
        end = time.monotonic() + 60
        while time.monotonic() < end and self.child.poll() is None:
            try:
                if b" 200 " in self.talk(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").split(b"\n")[0]:
                    return self
            except OSError:
                pass
            time.sleep(0.05)
        self.__exit__()
        raise bc.Failed(f"llama-server did not start: {' '.join(self.command)}")

    def __exit__(self, *_):
        self.child.terminate()
        self.child.wait()
        self.log.close()

    def talk(self, request):
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as s:
            s.sendall(request)
            out = b""
            while data := s.recv(65536):
                out += data
            return out

    def request(self, seq, n_tokens):
        a = self.args
        body = {"prompt": [id_at(seq, i, a.vocab) for i in range(a.prompt)], "n_predict": n_tokens, "ignore_eos": True,
                "stream": not a.whole, "cache_prompt": False, "seed": seq}
        if a.temperature > 0:  # what mlxr has by default
            body.update(temperature=a.temperature, top_k=40, top_p=0.9, min_p=0, samplers=["top_k", "top_p", "temperature"])
        else:  # the quickest chain there is that takes the likeliest
            body.update(temperature=0, top_k=1, samplers=["top_k"])
        text = json.dumps(body).encode()
        return (b"POST /completion HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % len(text)) + text

    def streams(self, first_seq, n, n_tokens):
        """All at once; for each what came: (when, how many tokens so far)."""
        requests = [self.request(first_seq + i, n_tokens) for i in range(n)]
        came = [[] for _ in range(n)]
        rest = [b""] * n
        with selectors.DefaultSelector() as sel:
            sockets = [socket.create_connection(("127.0.0.1", self.port), timeout=60) for _ in range(n)]
            began = time.perf_counter_ns()
            for i, s in enumerate(sockets):
                s.sendall(requests[i])
                sel.register(s, selectors.EVENT_READ, i)
            left = n
            while left:
                ready = sel.select(60)
                if not ready:
                    raise bc.Failed("llama-server says nothing for a minute")
                for key, _ in ready:
                    data = key.fileobj.recv(65536)
                    now = time.perf_counter_ns()
                    i = key.data
                    if not data:
                        sel.unregister(key.fileobj)
                        key.fileobj.close()
                        left -= 1
                        continue
                    rest[i] += data
                    last = None
                    for last in COUNT.finditer(rest[i]):
                        pass
                    if last and last.end() < len(rest[i]):
                        came[i].append((now, int(last.group(1))))
                        rest[i] = rest[i][last.end():]
        for c in came:
            if not c or c[-1][1] != n_tokens:
                raise bc.Failed(f"llama-server gave {c[-1][1] if c else 'no'} tokens of {n_tokens}")
        return began, came

    def run(self, first_seq, n):
        self.streams(first_seq, n, WARM_UP)
        began, came = self.streams(first_seq + n, n, self.args.tokens)
        total = sum(c[-1][1] for c in came)
        out = {"streams": n, "tokens": total, "rate": total * 1e9 / (max(c[-1][0] for c in came) - began)}
        if not self.args.whole:
            begin, end = max(c[0][0] for c in came), min(c[-1][0] for c in came)

            def until(c, t):
                return max((k for at, k in c if at <= t), default=0)

            steady = sum(until(c, end) - until(c, begin) for c in came)
            out["steady_rate"] = steady * 1e9 / (end - begin) if end > begin else 0
            out["first_ms"] = sorted((c[0][0] - began) / 1e6 for c in came)[n // 2]
        return out


# ---- both ----


def run_llama(args, path, first_seq):
    with Server(args, path) as server:
        return {str(n): server.run(first_seq + i * 2 * args.streams, n) for i, n in enumerate(args.counts)}


def run_mlxr(args, first_seq):
    command = [args.bench, args.model, ",".join(map(str, args.counts)), str(args.prompt), str(args.tokens), str(args.threads),
               str(first_seq), str(args.temperature)]
    a = bc.answer(command, "bench_engine", env=args.env)
    args.device = a["device"]
    return {str(r["streams"]): r for r in a["runs"]}


TITLES = [("rate", "{n}, tokens/s in all", 1), ("steady_rate", "{n}, tokens/s while all of them decode", 1),
          ("first_ms", "{n}, first token, ms", -1)]


def named(n):
    return f"{n} stream" + ("s" if n > 1 else "")


def report(args, values):
    other = f"llama-server {args.variant}"
    rows, out = [], {}
    for n in args.counts:
        for key, title, sign in TITLES:
            ours = [v[str(n)][key] for v in values["mlxr"]]
            theirs = [v[str(n)].get(key) for v in values[other]]
            if None in theirs:
                continue
            r = bc.summary([(a / b if sign > 0 else b / a) if a and b else float("nan") for a, b in zip(ours, theirs)])
            out[f"{key}-{n}"] = {"mlxr": bc.summary(ours), other: bc.summary(theirs), "ratio": r}
            rows.append([title.format(n=named(n)), *(f"{bc.number(s['median'])} ({bc.number(s['min'])} to {bc.number(s['max'])})"
                                                     for s in (bc.summary(ours), bc.summary(theirs))),
                         f"**{r['median']:.2f}** ({r['min']:.2f} to {r['max']:.2f})"])
    most = max(args.counts)
    if 1 in args.counts and most > 1:
        for key, title, _ in TITLES[:2]:
            row, out[f"{key}-gain"] = [f"{title.format(n=named(most))}, by 1 stream's"], {}
            for name in ("mlxr", other):
                gains = [v[str(most)][key] / v["1"][key] for v in values[name] if v["1"].get(key)]
                if gains:
                    s = out[f"{key}-gain"][name] = bc.summary(gains)
                    row.append(f"{s['median']:.2f} ({s['min']:.2f} to {s['max']:.2f})")
                else:
                    row.append("")
            rows.append(row + [""])
    return bc.table(["", "mlxr", other, "ratio"], rows), out


def parse():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    p.add_argument("--model", default=bc.MODEL, help="the MLX folder (the default model)")
    p.add_argument("--gguf", help="the same model as a GGUF of llama.cpp (the default model's)")
    p.add_argument("--variant", default="q4_0", choices=list(bc.VARIANTS))
    p.add_argument("--venv", help="a virtual environment with llama-cpp-python, which makes the variant's file")
    p.add_argument("--server", help="llama-server (that of --build, or of PATH)")
    p.add_argument("--build", action="store_true", help="build llama-server for this CPU into .cache/llama-server")
    p.add_argument("--version", help="for --build: of llama-cpp-python, whose source package has the sources (the newest)")
    p.add_argument("--cmake-args", default="", help="for --build")
    p.add_argument("--server-args", default="", help="more arguments for llama-server")
    p.add_argument("--build-dir", default=os.path.join(bc.ROOT, "build"), help="where bin/bench_engine is")
    p.add_argument("--streams", type=int, default=8)
    p.add_argument("--prompt", type=int, default=64, help="tokens of each prompt")
    p.add_argument("--tokens", type=int, default=128, help="tokens of each answer")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--pairs", type=int, default=5)
    p.add_argument("--temperature", type=float, default=0, help="0: greedy; above: with top_k 40 and top_p 0.9")
    p.add_argument("--whole", action="store_true", help="llama-server sends each answer at its end, in one piece")
    p.add_argument("--isa", help="mlxr's instruction set: avx2, avxvnni, avx512, ... (the best of this CPU)")
    p.add_argument("--json", dest="json_path", help="a file for all that was measured")
    args = p.parse_args()
    if min(args.streams, args.prompt, args.threads, args.pairs) < 1 or args.tokens < 2:
        p.error("--streams, --prompt, --threads and --pairs are at least 1, --tokens at least 2")
    return args


def run():
    args = parse()
    args.env = dict(os.environ, MLXR_CPU=args.isa) if args.isa else None
    args.bench = bc.program("bench_engine", args.build_dir)
    args.counts = [args.streams, 1] if args.streams > 1 else [1]
    if not os.path.isdir(args.model):
        raise bc.Failed(f"{args.model} is not there: scripts/setup.sh model, or --model")
    with open(os.path.join(args.model, "config.json")) as f:
        args.vocab = json.load(f)["vocab_size"]
    if args.build:
        build_server(args.version, args.cmake_args)
    args.server = args.server or (SERVER if os.access(SERVER, os.X_OK) else shutil.which("llama-server"))
    if not args.server:
        raise bc.Failed("no llama-server: --build makes one (a C++ compiler and some minutes), --server names one")
    gguf = args.gguf or bc.default_gguf()
    path = gguf if args.variant == "q4_1" else bc.variant(bc.want_llama_python(args.venv), gguf, args.variant, args.threads)
    version = subprocess.run([args.server, "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
    facts = bc.machine()

    values = {"mlxr": [], f"llama-server {args.variant}": []}
    for pair in range(args.pairs):
        bc.say(f"pair {pair + 1} of {args.pairs}")
        for name in list(values) if pair % 2 == 0 else list(values)[::-1]:
            seq = pair * 4 * args.streams
            values[name].append(run_mlxr(args, seq) if name == "mlxr" else run_llama(args, path, seq))

    text, out = report(args, values)
    print(bc.machine_text(facts))
    print(f"llama-server {version.decode(errors='replace').strip().splitlines()[0]}, --parallel {args.streams} -t {args.threads}"
          f"{' ' + args.server_args if args.server_args else ''}, {os.path.getsize(path) / 1e6:.1f} MB; mlxr {args.device}, in process.")
    print(f"Model {os.path.basename(os.path.normpath(args.model))}; prompts of {args.prompt} tokens, answers of {args.tokens}, "
          f"{'greedy' if args.temperature <= 0 else f'temperature {args.temperature}'}"
          f"{', llama-server sends whole answers' if args.whole else ''}; {args.pairs} alternated pairs, medians (lowest to highest).\n")
    print(text)
    print("\nRatios above 1 are mlxr's lead: of rates, or of times.")
    if args.json_path:
        with open(args.json_path, "w") as f:
            json.dump({"machine": facts, "llama": version.decode(errors="replace"), "device": args.device, "arguments": sys.argv[1:],
                       "cells": out, "values": values}, f, indent=1)
            f.write("\n")
    return 0


if __name__ == "__main__":
    bc.main(run)
