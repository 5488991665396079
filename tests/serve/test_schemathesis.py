#!/usr/bin/env python3
"""Requests made of /openapi.json by schemathesis, valid ones and wrong ones, to a mlxserve of the mock with a store of its own: each answer
is as the description says, what is valid is taken, what is not is refused. Also: the description itself is valid OpenAPI 3.1, the same
with each request, and kept by its ETag.

    test_schemathesis.py BIN_DIR VENV_DIR [--examples N] [--seed N] [--model FOLDER]

The tools live in a virtual environment of their own at VENV_DIR, made at the first run with the versions below. Exit code 77 with a line
SKIP: when that cannot be made. --model: a model's folder for one more run, in which forms (format, tools, thinking) count too.
"""

import argparse
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).parent))
from daemon import Daemon, scratch  # noqa: E402

PINS = ["schemathesis==4.32.5", "openapi-spec-validator==0.9.0", "hypothesis==6.170.15"]

CONFIG = """
# The description says in words that no text of a body has U+0000 (names of members included), which no schema can say of objects of any
# content, such as a tool's parameters. tests/serve/test_fields.c sends some.
[generation]
allow-x00 = false

# A valid body is one whose digest is the path's, which no schema can say: a random one is answered 400. tests/serve/test_native_models.c and
# the clients' tests upload right ones.
[[operations]]
include-name = "POST /api/blobs/{digest}"
checks.positive_data_acceptance.enabled = false

# The mock has no tokens of which there would be a text: 400. tests/serve/test_native.c asks a model.
[[operations]]
include-name = "POST /api/detokenize"
checks.positive_data_acceptance.enabled = false

# A valid create fetches a model that the store lacks, and else names files that were uploaded before: a random one is no use either way.
# tests/serve/test_native_models.c and test_models.py make models.
[[operations]]
include-name = "POST /api/create"
generation.mode = "negative"

# A valid pull asks a server of the Internet. tests/store/test_pull.py and test_registry.py have such servers of their own.
[[operations]]
include-name = "POST /api/pull"
generation.mode = "negative"
"""


# The daemon's hub, its registries and everything else are a port where nobody listens: no request made up here goes further than loopback.
NOWHERE = "http://127.0.0.1:1"
ALONE = {"HF_ENDPOINT": NOWHERE, "no_proxy": "127.0.0.1,localhost",
         **{name: NOWHERE for proxy in ("http_proxy", "https_proxy", "all_proxy") for name in (proxy, proxy.upper())}}


def skip(why):
    print(f"SKIP: {why}")
    sys.exit(77)


def make_tools(folder):
    """The virtual environment's bin folder."""
    done = folder / "pins.txt"
    if not (done.exists() and done.read_text() == "\n".join(PINS)):
        try:
            venv.create(folder, with_pip=True, clear=True)
        except (OSError, subprocess.CalledProcessError) as e:
            skip(f"no virtual environment can be made: {e}")
        try:
            p = subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--retries", "1", *PINS],
                               capture_output=True, text=True, timeout=600)
        except subprocess.TimeoutExpired:
            skip("schemathesis cannot be installed within ten minutes")
        if p.returncode != 0:
            skip(f"schemathesis cannot be installed: {p.stderr.strip().splitlines()[-1:]}")
        done.write_text("\n".join(PINS))
    return folder / "bin"


def check_document(d, tools, folder, key):
    """The description: valid, the same each time, kept by its ETag."""
    first, second = d.get("/openapi.json", headers=key), d.get("/openapi.json", headers=key)
    assert first.status == 200 and first.type.startswith("application/json"), first
    assert first.body == second.body and first.headers["etag"] == second.headers["etag"], "it changes"
    again = d.get("/openapi.json", headers={**key, "If-None-Match": first.headers["etag"]})
    assert again.status == 304 and not again.body, again
    other = d.get("/openapi.json", headers={**key, "If-None-Match": '"0"'})
    assert other.status == 200 and other.body == first.body, other
    path = Path(folder) / "openapi.json"
    path.write_bytes(first.body)
    p = subprocess.run([tools / "openapi-spec-validator", path], capture_output=True, text=True)
    assert p.returncode == 0, "not valid OpenAPI:\n" + p.stdout + p.stderr
    return first.json


def run(name, tools, folder, args, arguments, options=(), env=None, models=None, mutations=False):
    """One daemon, one run of schemathesis; whether it found nothing."""
    with Daemon(args.bin, *arguments, "--pull-tries", "1", models=models, env=ALONE) as d:
        key = {"Authorization": "Bearer a-key-for-the-test"} if "--api-key-file" in arguments else {}
        document = check_document(d, tools, folder, key)
        n = sum(len(item) for item in document["paths"].values())
        config = Path(folder) / "schemathesis.toml"
        config.write_text(CONFIG)
        command = [tools / "st", "--config-file", config, "run", d.url + "/openapi.json", "--seed", str(args.seed),
                   "--max-examples", str(args.examples), "--warnings", "off", "--request-timeout", "20", "--max-response-time", "10", "--no-color", "--continue-on-failure", *(options or ["--phases", args.phases])]
        more = {**os.environ, "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(Path(__file__).parent), "PYTHONDONTWRITEBYTECODE": "1",
                "HYPOTHESIS_STORAGE_DIRECTORY": str(Path(folder) / "hypothesis"), **(env or {})}
        p = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=more, cwd=folder, timeout=1200)
        last = [line for line in p.stdout.splitlines() if line.strip()][-1:]
        print(f"{name}: {n} operations: {last[0].strip('= ') if last else p.stderr}", flush=True)
        if p.returncode != 0:
            print("\n".join(line[:2000] for line in (p.stdout + p.stderr).splitlines()[-600:]))
        fine = p.returncode == 0
        if mutations:
            p = subprocess.run([tools / "python", Path(__file__).parent / "mutations.py", d.url], capture_output=True, text=True, timeout=600)
            print(f"{name}: one change at a time: {p.stdout.strip() or p.stderr}", flush=True)
            fine &= p.returncode == 0
        assert d.alive(), "mlxserve has died"
        assert d.get("/api/version", headers=key).status == 200
        return fine


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin", type=Path)
    parser.add_argument("venv", type=Path)
    parser.add_argument("--examples", type=int, default=int(os.environ.get("MLXR_SCHEMATHESIS_EXAMPLES", "30")))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--phases", default=os.environ.get("MLXR_SCHEMATHESIS_PHASES", "examples,coverage,fuzzing"))
    parser.add_argument("--model", default=os.environ.get("MLXR_SCHEMATHESIS_MODEL"))
    args = parser.parse_args()
    tools = make_tools(args.venv.resolve())
    folder = scratch("schemathesis-")
    try:
        key = Path(folder) / "keys"
        key.write_text("a-key-for-the-test\n")
        key.chmod(0o600)
        fine = run("mock", tools, folder, args, ["--runner", "mock"], mutations=True)
        fine &= run("mock, --strict", tools, folder, args, ["--runner", "mock", "--strict"], mutations=True)
        # With a key: ignored_auth asks without one and with a wrong one.
        fine &= run("mock, --api-key-file", tools, folder, args, ["--runner", "mock", "--api-key-file", key],
                    ["--header", "Authorization: Bearer a-key-for-the-test", "--phases", "examples"])
        if args.model:
            fine &= run("a model", tools, folder, args, [], env={"MLXR_SCHEMATHESIS_MODEL": "1"}, models={"smollm2": args.model})
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
