"""Runs the blocks of Python and shell of docs/clients.md as they stand, against a daemon with the default model under the name smollm2 (or, where
that is not there, the tiny one): only the address is put in."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import tiny
from daemon import Daemon, scratch


def blocks(text):
    """(line, heading, language, code) of each block."""
    heading, at = "", None
    for i, line in enumerate(text.split("\n"), 1):
        if at is None and line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("```") and at is None:
            at, language, code = i, line[3:].strip(), []
        elif line.startswith("```"):
            yield at, heading, language, "\n".join(code) + "\n"
            at = None
        elif at is not None:
            code.append(line)


def run(args):
    source = Path(args.source).resolve()
    work = Path(scratch("mlxr-docs-"))
    model = source / "models" / "SmolLM2-135M-Instruct-4bit"
    failed = ran = left = 0
    try:
        if not model.is_dir():
            print("SKIP: the default model is not in models/: the tiny one stands in")
            model = tiny.make(work / "tiny", source / "tests" / "runner" / "fixtures" / "tiny_chat" / "tokenizer.json")
        with Daemon(args.bin, models={"smollm2": model}) as d:
            for line, heading, language, code in blocks((source / "docs" / "clients.md").read_text(encoding="utf-8")):
                if "(not run)" in heading or language not in ("python", "sh") or (language == "sh" and not shutil.which("curl")):
                    left += 1
                    continue
                code = code.replace("127.0.0.1:11434", f"127.0.0.1:{d.port}")
                command = [sys.executable, "-c", code] if language == "python" else ["sh", "-ec", code]
                p = subprocess.run(command, capture_output=True, timeout=120, check=False, cwd=work, env={**os.environ, "PYTHONWARNINGS": "error::DeprecationWarning:__main__"})
                out = p.stdout.decode("utf-8", "replace")
                bad = p.returncode != 0 or not out.strip() or (language == "sh" and re.search(r'^(data: )?\{"(error|type":"error)"', out, re.M))
                ran += 1
                failed += bool(bad)
                if bad or args.verbose:
                    print(f"{'FAIL' if bad else 'ok  '} docs/clients.md:{line} ({language}): {p.returncode}\n{out}{p.stderr.decode('utf-8', 'replace')[-1500:]}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"docs/clients.md: {ran - failed} passed, {failed} failed, {left} skipped")
    return 1 if failed or not ran else 0
