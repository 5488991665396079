#!/usr/bin/env python3
"""The official Python clients against mlxserve, on three back ends: the mock, a tiny model made here, the default model.

    run.py BIN_DIR SOURCE_DIR [--venv DIR] [--only TEXT] [--backend mock|tiny|default] [--verbose] [--docs]

Makes a virtual environment with requirements.txt once (in DIR, default BIN_DIR/../clients-venv) and runs itself in it. Prints each check
that fails, and a line "N passed, M failed, K skipped" for each back end. --docs: the code blocks of docs/clients.md instead.
Exit codes: 0; 1 when a check failed; 77 when the clients cannot be had.
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
NEEDED = (3, 10)


def environment(folder):
    """The python of a virtual environment with requirements.txt; exits 77 where there can be none."""
    folder, text = Path(folder).resolve(), REQUIREMENTS.read_bytes()
    python, stamp = folder / "bin" / "python", folder / "requirements.sha256"
    digest = hashlib.sha256(text + sys.version.encode()).hexdigest()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(str(folder) + ".lock", "w") as lock:  # tests that run beside each other make it once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.is_file() and stamp.read_text() == digest:
            return python
        shutil.rmtree(folder, ignore_errors=True)
        for command in ([sys.executable, "-m", "venv", str(folder)],
                        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1", "-r", str(REQUIREMENTS)]):
            p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
            if p.returncode != 0:
                last = (p.stdout.decode("utf-8", "replace").strip().splitlines() or ["?"])[-1]
                print(f"SKIP: the clients cannot be installed ({' '.join(command[1:4])}): {last}")
                shutil.rmtree(folder, ignore_errors=True)
                sys.exit(77)
        stamp.write_text(digest)
    return python


def backends(args, work):
    """(kind, Daemon) of each that is asked for, one after the other; None with a reason instead of a daemon."""
    sys.path.insert(0, str(HERE.parent))
    import tiny
    from daemon import Daemon

    source = Path(args.source).resolve()
    fixture = source / "tests" / "runner" / "fixtures" / "tiny_chat"
    tiny.make(work / "tiny", fixture / "tokenizer.json")
    models = {"tiny": work / "tiny", "plain": fixture}
    default = source / "models" / "SmolLM2-135M-Instruct-4bit"
    for kind in ("mock", "tiny", "default"):
        if args.backend and kind != args.backend:
            continue
        if kind == "default" and not default.is_dir():
            yield kind, None, None, "the default model is not in models/"
        elif kind == "default":
            yield kind, Daemon(args.bin, models={**models, "smollm2": default}), "smollm2", None
        elif kind == "tiny":
            yield kind, Daemon(args.bin, models=models), "tiny", None
        else:
            yield kind, Daemon(args.bin, "--runner", "mock", models=models), "mock", None


CAN = {"mock": set(), "tiny": {"tools", "thinking", "format", "logprobs"}, "default": {"format", "logprobs"}}


def suites(args):
    sys.dont_write_bytecode = True
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    import suite_anthropic
    import suite_cases
    import suite_ollama
    import suite_openai
    from checks import Backend
    from daemon import Failed, scratch

    work, bad = Path(scratch("mlxr-clients-")), False
    summary = []
    try:
        for kind, daemon, model, why in backends(args, work):
            if not daemon:
                print(f"SKIP [{kind}]: {why}")
                summary.append(f"{kind}: SKIP: {why}")
                continue
            t = Backend(kind, daemon, model, args.bin, Path(args.source).resolve(), work, CAN[kind], verbose=args.verbose)
            for name, module in (("ollama", suite_ollama), ("openai", suite_openai), ("anthropic", suite_anthropic), ("cases", suite_cases)):
                t.run(name, module.PARTS, args.only)
            try:
                daemon.end()
                t.check("the daemon ends well", True)
            except Failed as e:
                t.check("the daemon ends well", False, None, str(e))
            summary.append(f"{kind}: {t.passed} passed, {len(t.failed)} failed, {len(t.skipped)} skipped")
            bad |= bool(t.failed)
            print(summary[-1], flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print("\n".join(["----", *summary]))
    return 1 if bad else 0


def main():
    p = argparse.ArgumentParser()
    p.add_argument("bin")
    p.add_argument("source")
    p.add_argument("--venv")
    p.add_argument("--only")
    p.add_argument("--backend", choices=("mock", "tiny", "default"))
    p.add_argument("--verbose", action="store_true")
    p.add_argument("--docs", action="store_true")
    p.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = p.parse_args()
    args.bin = os.path.abspath(args.bin)
    if not args.inside:
        if sys.version_info < NEEDED:
            print(f"SKIP: the clients want Python {NEEDED[0]}.{NEEDED[1]}, this is {sys.version.split()[0]}")
            return 77
        python = environment(args.venv or Path(args.bin).parent / "clients-venv")
        return subprocess.run([str(python), str(Path(__file__).resolve()), *sys.argv[1:], "--inside"], check=False).returncode
    for name in list(os.environ):  # proxies and keys of whoever runs this
        if name.lower().endswith("_proxy") or name.startswith(("OPENAI_", "ANTHROPIC_", "OLLAMA_")):
            del os.environ[name]
    if args.docs:
        sys.dont_write_bytecode = True
        sys.path[:0] = [str(HERE), str(HERE.parent)]
        import docs_code

        return docs_code.run(args)
    return suites(args)


if __name__ == "__main__":
    sys.exit(main())
