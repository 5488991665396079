#!/usr/bin/env python3
"""Receipts of a busy server, made again by mlxctl replay: many streams at once by every API, each answer's receipt replayed in a process of its
own on other numbers of threads; what was changed since (a receipt, the model) is found.
usage: test_receipts.py BIN_DIR SOURCE_DIR"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading

BIN, SRC = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(SRC, "tests", "serve"))
from daemon import Daemon  # noqa: E402

TINY = os.path.join(SRC, "tests", "runner", "fixtures", "tiny_chat")
DEFAULT = os.path.join(SRC, "models", "SmolLM2-135M-Instruct-4bit")
TMP = tempfile.mkdtemp()
MLXCTL = os.path.join(BIN, "mlxctl")
passed, failed = 0, 0


def check(name, condition, detail=""):
    global passed, failed
    if condition:
        passed += 1
    else:
        failed += 1
        print("FAIL", name, detail)


def mlxctl(*words, home):
    env = {**os.environ, "MLXR_HOME": home}
    return subprocess.run([MLXCTL, *words], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)


def save(name, value):
    path = os.path.join(TMP, name)
    with open(path, "w") as f:
        f.write(value if isinstance(value, str) else json.dumps(value))
    return path


def replay(name, receipt, *words, home):
    return mlxctl("replay", save(name + ".json", receipt), "--json", *words, home=home)


def requests_for(model, n):
    """(endpoint, body): every API, streamed and whole, sampled and greedy, with forms and stop strings."""
    say = [{"role": "user", "content": "Name a colour."}]
    kinds = [
        ("/v1/messages", {"max_tokens": n, "messages": say, "stop_sequences": ["zq"]}),
        ("/v1/messages", {"max_tokens": n, "messages": say, "stream": True, "temperature": 1.2}),
        ("/v1/messages", {"max_tokens": n, "messages": say, "system": "Be brief.",
                          "output_config": {"format": {"type": "json_schema", "schema": {"enum": ["red", "blue"]}}}}),
        ("/api/chat", {"messages": say, "stream": False, "options": {"num_predict": n}}),
        ("/api/chat", {"messages": say, "options": {"num_predict": n, "seed": 7, "mirostat": 2}}),
        ("/api/generate", {"prompt": "Once", "raw": True, "options": {"num_predict": n, "min_p": 0.05}}),
        ("/v1/chat/completions", {"messages": say, "max_tokens": n, "n": 2}),
        ("/v1/chat/completions", {"messages": say, "max_tokens": n, "stream": True, "logit_bias": {"5": -100}}),
        ("/v1/completions", {"prompt": "One, two,", "max_tokens": n}),
    ]
    return [(path, {"model": model, **body}) for path, body in kinds]


def receipt_in(text):
    """Of an answer, or of the line of a stream that has it."""
    for line in [text] + text.splitlines():
        line = line[6:] if line.startswith("data: ") else line
        try:
            r = json.loads(line).get("receipt")
        except (ValueError, AttributeError):
            continue
        if isinstance(r, dict):
            return r
    return None


def busy(d, model, n_tokens, n_rounds):
    """All requests at once, n_rounds of each; [(body, text, full)]."""
    out, threads = [], []

    def one(path, body, full):
        a = d.request("POST", path, json.dumps(body).encode(), {"X-Mlxr-Receipt": "full" if full else "1"})
        out.append((path, body, a.status, a.text, full))

    for i in range(n_rounds):
        for path, body in requests_for(model, n_tokens):
            threads.append(threading.Thread(target=one, args=(path, body, i % 2 == 0)))
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return out


def round_trip(d, home, model, n_tokens, n_rounds, threads):
    answers = busy(d, model, n_tokens, n_rounds)
    for i, (path, body, status, text, full) in enumerate(answers):
        name = "%s-%d" % (model, i)
        check(name + " is answered", status == 200, (path, text[:300]))
        receipt = receipt_in(text)
        check(name + " has a receipt", receipt is not None, (path, text[-300:]))
        if status != 200 or receipt is None:
            continue
        check(name + " tells as much as was asked for", ("body" in receipt) == full)
        words = ["-t", str(threads[i % len(threads)])]
        if not full:
            without = replay(name, receipt, home=home)
            check(name + " wants the request", without.returncode == 1 and "--request" in without.stderr, without.stderr)
            words += ["--request", save(name + "-request.json", body)]
        # as it came: an answer, or a whole stream
        p = mlxctl("replay", save(name + ".txt", text), "--json", *words, home=home)
        check(name + " is made again", p.returncode == 0 and json.loads(p.stdout or "{}").get("same"),
              (path, body, p.stdout, p.stderr))
    return answers


def changed(home, text):
    """One receipt, changed in each part: replay says where."""
    receipt = receipt_in(text)
    cases = {
        "choices.0.ids_sha256": lambda r: r["choices"][0].update(ids_sha256="0" * 64),
        "choices.0.text_sha256": lambda r: r["choices"][0].update(text_sha256="0" * 64),
        "prompts.0.text_sha256": lambda r: r["prompts"][0].update(text_sha256="0" * 64),
        "model.tokenizer_sha256": lambda r: r["model"].update(tokenizer_sha256="0" * 64),
        "model.chat_template_sha256": lambda r: r["model"].update(chat_template_sha256="0" * 64),
        "request.sampling.top_k": lambda r: r["request"]["sampling"].update(top_k=1),
    }
    for path, change in cases.items():
        r = json.loads(json.dumps(receipt))
        change(r)
        p = replay("changed", r, home=home)
        found = [x["path"] for x in json.loads(p.stdout or "{}").get("differences", [])]
        check("a change of " + path, p.returncode == 1 and found == [path], (found, p.stderr))
    r = json.loads(json.dumps(receipt))
    r["choices"][0]["ids"][3] += 1
    r["choices"][0]["ids_sha256"] = "0" * 64
    p = replay("changed", r, home=home)
    check("where the first other token is", [(x["where"], x["token"]) for x in json.loads(p.stdout)["first_tokens"]] == [("choices.0", 3)], p.stdout)
    r = json.loads(json.dumps(receipt))
    r["request"]["sampling"]["seed"] += 1
    p = replay("changed", r, home=home)
    found = [x["path"] for x in json.loads(p.stdout)["differences"]]
    check("another seed gives another answer", p.returncode == 1 and "choices.0.ids_sha256" in found, found)
    r = json.loads(json.dumps(receipt))
    r["build"]["version"] = "0.0.1"
    p = replay("changed", r, home=home)
    check("another version with the same answer is a note", p.returncode == 0 and json.loads(p.stdout)["same"], p.stdout)
    for name, value in {"empty": "", "no receipt": {"a": 1}, "other version": {"receipt": 99}, "no object": [1]}.items():
        p = replay("wrong", value, home=home)
        check(name, p.returncode == 1 and "there is no receipt" in p.stderr, p.stderr)


def other_model(home, text):
    """The same name, another model: its template was changed."""
    folder = os.path.join(TMP, "other")
    shutil.copytree(TINY, folder)
    path = os.path.join(folder, "tokenizer_config.json")
    with open(path) as f:
        config = json.load(f)
    config["chat_template"] = config["chat_template"].replace("<|assistant|>", "<|assistant|> ")
    with open(path, "w") as f:
        json.dump(config, f)
    p = replay("other", receipt_in(text), "--model", folder, home=home)
    found = {x["path"] for x in json.loads(p.stdout)["differences"]}
    check("another template", p.returncode == 1 and {"model.chat_template_sha256", "prompts.0.ids_sha256"} <= found, found)
    p = replay("folder", receipt_in(text), "--model", TINY, home=home)
    check("the same model as a folder", p.returncode == 0, (p.stdout, p.stderr))


def main():
    home = os.path.join(TMP, "home")
    models = [("tiny", TINY)] + ([("default", DEFAULT)] if os.path.isdir(DEFAULT) else [])
    for name, folder in models:
        p = mlxctl("store", "import", folder, name, home=home)
        if p.returncode != 0:
            sys.exit("cannot import: " + p.stderr)
    with Daemon(BIN, store=home) as d:
        answers = round_trip(d, home, "tiny", 24, 4, [1, 2, 3])
        # sampled freely and long enough for another seed to show
        full = next(text for path, body, status, text, full in answers
                    if full and path == "/v1/messages" and status == 200 and "output_config" not in body
                    and len(receipt_in(text)["choices"][0]["ids"]) > 10)
        if len(models) > 1:
            round_trip(d, home, "default", 12, 1, [2])
        else:
            print("SKIP: models/SmolLM2-135M-Instruct-4bit is not there")
    changed(home, full)
    other_model(home, full)
    with Daemon(BIN, "--runner", "mock") as d:
        a = d.request("POST", "/v1/messages", json.dumps({"model": "m", "max_tokens": 9, "receipt": "full",
                      "messages": [{"role": "user", "content": "Hi"}]}).encode())
        p = replay("mock", a.json, home=home)
        check("the mock's", p.returncode == 0, (p.stdout, p.stderr))


try:
    main()
finally:
    shutil.rmtree(TMP, ignore_errors=True)
print("%d passed, %d failed" % (passed, failed))
sys.exit(1 if failed else 0)
