#!/usr/bin/env python3
"""Every example of every help text, run as it stands: in a folder, with a home and a store that are made for it (docs/mlxctl.md lists what
is in them). Those that want a hub, a registry or a daemon get a test server; where there is none, they are parsed alone.
usage: test_examples.py BIN_DIR SOURCE_DIR [WORD]        WORD: only the commands with it in their names"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

BIN, SRC = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
ONLY = sys.argv[3] if len(sys.argv) > 3 else ""
MLXCTL = os.path.join(BIN, "mlxctl")
TINY = os.path.join(SRC, "tests", "runner", "fixtures", "tiny_chat")
TMP = tempfile.mkdtemp()
sys.path[:0] = [os.path.join(SRC, "tests", "store"), os.path.join(SRC, "tests", "programs"), os.path.join(SRC, "tests", "serve")]
sys.dont_write_bytecode = True

KNOWN_NEEDS = {"hub", "registry", "daemon", "server", "network", "terminal", "slow", "recipe"}
passed, failed, parsed = 0, 0, 0


def module(name):
    try:
        return __import__(name)
    except ImportError:
        return None


models = module("crash_models")
import daemon as serving  # noqa: E402

registries, daemons, hubs = module("registry_server"), module("daemon_server"), module("hub_server")


def check(name, condition, detail=""):
    global passed, failed
    if condition:
        passed += 1
    else:
        failed += 1
        print("FAIL", name, detail)


def environment(home):
    keep = {k: v for k, v in os.environ.items()
            if not re.match(r"MLXR_|HF_|XDG_|OLLAMA_|MLXSERVE_|DOCKER_|REGISTRY_|.*proxy$", k, re.I)}
    keep.update(HOME=home, PATH=BIN + ":" + os.environ["PATH"], LC_ALL="C.UTF-8")
    return keep


def shell(line, world, **env):
    return subprocess.run(["bash", "-c", line], cwd=os.path.join(world, "work"), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300,
                          env={**environment(os.path.join(world, "home")), **env})


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)


def prepare_receipts(work):
    """receipt.json holds its request; answer.json does not, which is in request.json. Of the mock, which answers alike everywhere."""
    body = {"model": "smollm2", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    write(work + "/request.json", json.dumps(body))
    with serving.Daemon(BIN, "--runner", "mock") as d:
        write(work + "/receipt.json", d.post("/v1/messages", {**body, "receipt": "full"}).text)
        write(work + "/answer.json", d.post("/v1/messages", {**body, "receipt": True}).text)


def prepare(world):
    """What examples may name."""
    work, home = os.path.join(world, "work"), os.path.join(world, "home")
    os.makedirs(work)
    shutil.copytree(TINY, os.path.join(work, "SmolLM2-135M-Instruct-4bit"))
    snapshot = os.path.join(home, ".cache/huggingface/hub/models--org--repo/snapshots/main")
    shutil.copytree(TINY, snapshot)
    write(work + "/text.txt", "It was the best of times, it was the worst of times. " * 6)
    write(work + "/schema.json", json.dumps({"type": "object", "required": ["name", "age"], "additionalProperties": False, "properties": {
        "name": {"enum": ["Ada", "Bob"]}, "age": {"type": "integer", "minimum": 0, "maximum": 150}}}))
    write(work + "/requests.jsonl", '{"text": "a"}\n{"text": "the the"}\n')
    write(work + "/contexts.jsonl", '{"messages": [{"role": "user", "content": "hi"}], "add_generation_prompt": true}\n')
    write(work + "/chat.jinja", "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}\n")
    write(work + "/Modelfile", "FROM ./SmolLM2-135M-Instruct-4bit\nPARAMETER temperature 0.3\nSYSTEM Be short.\n")
    write(work + "/recipe.yaml", "name: team/helper\nversion: \"1.0\"\nbase: {path: ./SmolLM2-135M-Instruct-4bit}\n"
                                 "system: Be short.\ndefaults: {temperature: 0.3}\n")
    prepare_receipts(work)
    shutil.copytree(os.path.join(SRC, "tests", "convert", "fixtures", "adapters", "lora_quantized"), work + "/adapters")
    r = shell("mlxctl quantize SmolLM2-135M-Instruct-4bit Qwen3-4B-bf16 --dequantize --dtype bf16", world)
    check("prepared: a plain model", r.returncode == 0, r.stderr.decode())
    if models:
        models.make_gguf(work + "/model.gguf")
        models.make_folder(work + "/tiny", TINY, seed=1)
        models.make_folder(work + "/qwen", TINY, seed=2)
    for path, name in (("SmolLM2-135M-Instruct-4bit", "smollm2"), ("tiny", "tiny"), ("qwen", "mlx-community/Qwen3-4B-4bit")):
        if not os.path.isdir(os.path.join(work, path)):
            continue
        r = shell("mlxctl --quiet store import %s %s --copy" % (path, name), world)
        check("prepared: " + name, r.returncode == 0, r.stderr.decode())
    for folder in ("tiny", "qwen"):
        shutil.rmtree(os.path.join(work, folder), ignore_errors=True)


class Servers:
    """Those that examples need, begun when the first asks."""

    def __init__(self, world):
        self.world, self.registry, self.daemon, self.hub = world, None, None, None

    def for_needs(self, needs, line, world):
        """(line, environment) to run it with, or None."""
        if needs == "registry" and registries:
            if not self.registry:
                self.registry = registries.Registry()
                r = shell("mlxctl push smollm2 %s/team/smollm2" % self.registry.host, self.world)
                check("prepared: the registry", r.returncode == 0, r.stderr.decode())
            return line.replace("localhost:5000", self.registry.host), {}
        if needs == "daemon" and daemons:
            if not self.daemon:
                if "smollm2" not in daemons.MODELS:
                    daemons.MODELS.append("smollm2")
                self.daemon = daemons.Daemon()
            at = "127.0.0.1:%d" % self.daemon.port
            # It is loaded, so that it can be put down.
            shell("mlxctl run smollm2 Hello --host " + at, world)
            return line.replace("127.0.0.1:11434", at), {"MLXSERVE_HOST": at}
        if needs == "hub" and hubs:
            if not self.hub:
                self.hub = hubs.Hub()
                self.hub.add("mlx-community/Qwen3-4B-4bit", {n: open(os.path.join(TINY, n), "rb").read() for n in os.listdir(TINY)})
            return line, {"HF_ENDPOINT": self.hub.url}
        return None

    def close(self):
        for server in (self.registry, self.daemon, self.hub):
            if server:
                server.close()


def run_example(command, example, template, servers, i):
    global parsed
    line, needs = example["line"], example.get("needs")
    name = "%s: %s" % (command["name"], line)
    check(name + ": needs is known", needs is None or needs in KNOWN_NEEDS, needs)
    check(name + ": it is one of this command", re.search(r"\bmlxctl\b", line) is not None)
    world = os.path.join(TMP, "world%d" % i)
    shutil.copytree(template, world, symlinks=True)
    try:
        r = shell("mlxctl() { command mlxctl --parse-only \"$@\"; }; " + line, world)
        check(name + ": parses", r.returncode == 0 or "grep" in line or "." in line.split("&&")[-1][:3],
              r.stderr.decode(errors="replace"))
        env = {}
        if needs == "terminal":
            return
        if needs and needs not in ("slow", "recipe"):
            served = servers.for_needs(needs, line, world)
            if not served:
                parsed += 1
                return
            line, env = served
        r = shell(line, world, **env)
        check(name + ": exit code 0", r.returncode == 0,
              "%d\n%s%s" % (r.returncode, r.stdout.decode(errors="replace")[-500:], r.stderr.decode(errors="replace")[-1000:]))
        check(name + ": no warning", b"warning" not in r.stderr, r.stderr.decode(errors="replace"))
    finally:
        shutil.rmtree(world, ignore_errors=True)


def main():
    template = os.path.join(TMP, "template")
    prepare(template)
    servers = Servers(template)
    table = json.loads(subprocess.run([MLXCTL, "help", "--json"], stdout=subprocess.PIPE, check=True).stdout)
    i = 0
    try:
        for command in table["commands"]:
            if "alias" in command or ONLY not in command["name"] or command["name"] == "store names":
                continue
            check(command["name"] + ": has examples", command["examples"])
            for example in command["examples"]:
                i += 1
                run_example(command, example, template, servers, i)
        # The parse alone does tell what is wrong.
        for wrong in ("mlxctl store list --frob", "mlxctl pull --parallel many x", "mlxctl nothing", "mlxctl cp a b c"):
            r = shell("mlxctl() { command mlxctl --parse-only \"$@\"; }; " + wrong, template)
            check("wrong: " + wrong, r.returncode == 2)
    finally:
        servers.close()


try:
    main()
finally:
    shutil.rmtree(TMP, ignore_errors=True)
if parsed:
    print("SKIP: %d examples were parsed alone: there is no server for them" % parsed)
print("%d passed, %d failed" % (passed, failed))
sys.exit(1 if failed else 0)
