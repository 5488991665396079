"""The official ollama client, sync and async."""

import asyncio
import datetime
import hashlib
import math
import os

import ollama
import tiny
from checks import CLOCK, SCHEMA, WEATHER, fits_schema, part

SIX = ("total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration")
CALM = {"temperature": 0, "num_predict": 24}


def client(t, **more):
    return ollama.Client(host=t.d.url, timeout=120, **more)


def user(text):
    return [{"role": "user", "content": text}]


def off(t):
    """Arguments that keep a thinking model from it."""
    return {"think": False} if "thinking" in t.can else {}


@part()
def chat(t):
    c = client(t)
    r = c.chat(t.model, user("hello there"), options=CALM, **off(t))
    t.same("role", r.message.role, "assistant")
    t.same("model as asked for", r.model, t.model)
    t.check("done with a reason", r.done and r.done_reason in ("stop", "length"), None, r)
    t.check("six statistics", all(getattr(r, k) and getattr(r, k) > 0 for k in SIX), SIX, r)
    t.check("created_at", datetime.datetime.fromisoformat(r.created_at.replace("Z", "+00:00")), None, r.created_at)
    t.check("content", bool(r.message.content), None, r)
    if t.says("hello there"):
        t.same("the text", r.message.content, t.says("hello there"))
    chunks = list(c.chat(t.model, user("hello there"), options=CALM, stream=True, **off(t)))
    t.check("a stream of several chunks", len(chunks) > 2, None, chunks)
    t.same("the stream's text is the whole one", "".join(x.message.content or "" for x in chunks), r.message.content)
    t.check("only the last is done", [x.done for x in chunks] == [False] * (len(chunks) - 1) + [True], None, [x.done for x in chunks])
    t.check("statistics in the last alone", all(getattr(chunks[-1], k) for k in SIX) and chunks[0].eval_count is None, None, chunks[-1])
    t.same("as many tokens", chunks[-1].eval_count, r.eval_count)
    r = c.chat(t.model, [{"role": "system", "content": "Be brief."}, *user("hi"), {"role": "assistant", "content": "Hello."}, *user("hello there")],
               options=CALM, **off(t))
    t.check("a conversation", bool(r.message.content) and r.done, None, r)
    if t.says("x"):
        t.same("a conversation's text", r.message.content, t.says("hello there"))
    r = c.chat(t.model, [ollama.Message(role="user", content="hello there")], options=ollama.Options(temperature=0, num_predict=24), **off(t))
    t.check("typed messages and options", bool(r.message.content), None, r)
    r = c.chat(t.model, user("Grüße 世界 🙂"), options=CALM, **off(t))
    if t.mock:
        t.same("not only ASCII", r.message.content, "You said: Grüße 世界 🙂")
    t.check("text is valid", r.message.content.encode("utf-8").decode("utf-8") == r.message.content)


@part()
def generate(t):
    c = client(t)
    r = c.generate(t.model, "hello there", options=CALM, **off(t))
    t.check("response", bool(r.response) and r.done, None, r)
    if t.says("hello there"):
        t.same("the text", r.response, t.says("hello there"))
    t.check("six statistics", all(getattr(r, k) and getattr(r, k) > 0 for k in SIX), SIX, r)
    t.check("context of token ids", r.context and all(isinstance(i, int) for i in r.context), None, r.context)
    t.same("as the chat says it", r.response, c.chat(t.model, user("hello there"), options=CALM, **off(t)).message.content)
    chunks = list(c.generate(t.model, "hello there", options=CALM, stream=True, **off(t)))
    t.same("streamed", "".join(x.response for x in chunks), r.response)
    t.same("one done", sum(bool(x.done) for x in chunks), 1)
    r2 = c.generate(t.model, "and now", context=r.context, options=CALM, **off(t))
    t.check("goes on from a context", r2.done and len(r2.context or []) > len(r.context), len(r.context), r2.context)
    r = c.generate(t.model, "abc", raw=True, options=CALM)
    t.check("raw has no context", r.context is None and r.done, None, r)
    r = c.generate(t.model, "hello there", system="You are brief.", options=CALM, **off(t))
    t.check("with a system text", bool(r.response), None, r)
    r = c.generate(t.model, "hello there", options={**CALM, "num_predict": 2}, **off(t))
    t.check("length", r.done_reason == "length" and r.eval_count == 2, None, r)
    r = c.generate(t.model, "hello there", options={**CALM, "num_predict": 0.3e1}, **off(t))
    t.same("an integer may come as 3.0", r.eval_count, 3)
    r = c.generate(t.model)
    t.check("no prompt loads", r.done_reason == "load" and r.response == "" and r.done, None, r)
    r = c.chat(t.model, [])
    t.check("no messages load", r.done_reason == "load" and r.message.content == "", None, r)
    r = c.generate(t.model, keep_alive=0)
    t.check("keep_alive 0 unloads", r.done_reason == "unload", None, r)
    t.check("and is gone", wait_gone(t, c), None, c.ps())


def wait_gone(t, c):
    from daemon import wait_until

    return wait_until(lambda: not c.ps().models, 5)


@part(kinds=("tiny", "default"))
def template(t):
    c = client(t)
    r = c.generate(t.model, "a", template="{{ messages[-1].content }}bc", options=CALM)
    raw = c.generate(t.model, "abc", raw=True, options=CALM)
    t.check("a template of the request", r.prompt_eval_count == raw.prompt_eval_count and r.response == raw.response, raw, r)


@part()
def stop_strings(t):
    c = client(t)
    for stop in ({"mock": ["three", "said: o"], "tiny": ["er is", " 42"]}.get(t.kind, [" the", " a", "e"])):
        sent = {"prompt": "one two three four", "stop": [stop]}
        r = c.generate(t.model, sent["prompt"], options={**CALM, "stop": [stop]}, **off(t))
        t.check(f"{stop!r} is never in the answer", stop not in r.response, sent, r)
        text = "".join(x.response for x in c.generate(t.model, sent["prompt"], options={**CALM, "stop": [stop]}, stream=True, **off(t)))
        t.same(f"{stop!r} streamed", text, r.response, sent)
        whole = t.says(sent["prompt"])
        if whole:
            t.same(f"{stop!r} cuts there", r.response, whole[: whole.index(stop)], sent)
            t.same(f"{stop!r} done_reason", r.done_reason, "stop", sent)


@part(kinds=("tiny", "default"))
def seeds(t):
    c = client(t)
    texts = [c.generate(t.model, "abc", raw=True, options={"temperature": 1.2, "seed": s, "num_predict": 16}).response for s in (7, 7, 8, 9, 10)]
    t.same("the same seed twice", texts[0], texts[1])
    t.check("another seed, another text", len(set(texts[1:])) > 1, None, texts)
    texts = [c.generate(t.model, "abc", raw=True, options={"temperature": 0, "num_predict": 16}).response for _ in range(2)]
    t.same("greedy twice", *texts)
    text = "".join(x.response for x in c.generate(t.model, "abc", raw=True, stream=True, options={"temperature": 1.2, "seed": 7, "num_predict": 16}))
    t.same("a seed streamed", text, c.generate(t.model, "abc", raw=True, options={"temperature": 1.2, "seed": 7, "num_predict": 16}).response)


@part(needs={"thinking"})
def thinking(t):
    c = client(t)
    r = c.chat(t.model, user("hi"), options=CALM)
    t.check("absent: thinks", r.message.thinking and r.message.content, None, r)
    if t.tiny:
        t.same("the thinking", r.message.thinking, tiny.THOUGHT)
        t.same("the answer behind it", r.message.content, tiny.TEXT)
    for level in (True, "low", "medium", "high", "max"):
        try:
            r = c.chat(t.model, user("hi"), options=CALM, think=level)
            t.check(f"think {level!r}", bool(r.message.thinking), level, r)
        except Exception as e:  # noqa: BLE001 (the client itself may not know "max")
            t.check(f"think {level!r}", level == "max" and "validation" in str(e).lower(), level, e)
    r = c.chat(t.model, user("hi"), options=CALM, think=False)
    t.check("think False", not r.message.thinking and r.message.content, None, r)
    chunks = list(c.chat(t.model, user("hi"), options=CALM, think=True, stream=True))
    t.same("streamed thinking", "".join(x.message.thinking or "" for x in chunks), tiny.THOUGHT)
    t.same("streamed content", "".join(x.message.content or "" for x in chunks), tiny.TEXT)
    kinds = ["t" if x.message.thinking else "c" for x in chunks if x.message.thinking or x.message.content]
    t.check("thinking comes before content", kinds == sorted(kinds, reverse=True) and "t" in kinds, None, kinds)
    r = c.generate(t.model, "hi", options=CALM, think=True)
    t.same("generate: thinking", r.thinking, tiny.THOUGHT)
    t.same("generate: response", r.response, tiny.TEXT)
    r = c.chat(t.model, [*user("hi"), {"role": "assistant", "content": "x", "thinking": "before"}, *user("again")], options=CALM)
    t.check("thinking in the history", bool(r.message.content), None, r)


@part(needs={"tools"})
def tools(t):
    c = client(t)
    r = c.chat(t.model, user("weather?"), tools=[WEATHER], options=CALM)
    calls = r.message.tool_calls or []
    t.same("one call", len(calls), 1)
    t.same("its name", calls and calls[0].function.name, "get_weather")
    t.same("arguments are an object", calls and dict(calls[0].function.arguments), {"city": "Paris"})
    t.same("done_reason stays stop", r.done_reason, "stop")
    t.same("no content beside it", r.message.content or "", "")
    chunks = list(c.chat(t.model, user("weather?"), tools=[WEATHER], options=CALM, stream=True))
    found = [x for x in chunks if x.message.tool_calls]
    t.check("streamed: whole in one chunk", len(found) == 1 and dict(found[0].message.tool_calls[0].function.arguments) == {"city": "Paris"}, None, chunks)

    def get_weather(city: str) -> str:
        """Weather.

        Args:
          city: where

        Returns:
          str: it
        """
        return city

    r = c.chat(t.model, user("weather?"), tools=[get_weather], options=CALM)
    t.same("a Python function as tool", [x.function.name for x in r.message.tool_calls or []], ["get_weather"])
    again = c.chat(t.model, [*user("weather?"), r.message, {"role": "tool", "tool_name": "get_weather", "content": "sunny"}], tools=[WEATHER],
                   options=CALM, think=False)
    t.same("round trip with a result", again.message.content, tiny.TEXT)
    t.check("no further call", not again.message.tool_calls, None, again)
    r = c.chat(t.model, user("weather?"), tools=[], options=CALM, think=False)
    t.same("an empty list is none", r.message.content, tiny.TEXT)
    r = c.chat(t.model, user("time?"), tools=[CLOCK], options={"temperature": 0, "num_predict": 100})
    t.check("arguments follow the schema of each tool", all(set(x.function.arguments) == {"zone"} for x in r.message.tool_calls or []), CLOCK, r)
    shown = t.d.post("/api/chat", {"model": t.model, "messages": user("weather?"), "tools": [WEATHER], "stream": False}).json
    call = (shown.get("message", {}).get("tool_calls") or [{}])[0]
    t.same("index of the call", call.get("function", {}).get("index"), 0)
    t.check("id of the call", str(call.get("id", "")).startswith("call_"), None, shown)


@part(kinds=("default",))
def beyond_the_model(t):
    shown = client(t).show(t.model).capabilities or []
    if "tools" not in shown:
        t.raises("tools on a model without", ollama.ResponseError, lambda: client(t).chat(t.model, user("x"), tools=[WEATHER]), 400, "does not support tools")
    else:  # its template knows none: they are told in the system text, and a call that is asked for has its form
        r = t.d.post("/api/chat", {"model": t.model, "messages": user("weather?"), "tools": [WEATHER], "tool_choice": "required", "stream": False, "options": {
            "temperature": 0, "num_predict": 100}}).json
        calls = r.get("message", {}).get("tool_calls") or [{"function": {}}]
        t.check("a call that is asked for", calls[0]["function"].get("name") == "get_weather" and calls[0]["function"]["arguments"].get("city") in ("Paris", "Rome"), None, r)
    t.raises("think on a model without", ollama.ResponseError, lambda: client(t).chat(t.model, user("x"), think=True), 400,
             f'"{t.model}" does not support thinking')


@part(needs={"format"})
def formats(t):
    c = client(t)
    hot = {"temperature": 1.5, "num_predict": 200}
    for seed in range(5):
        r = c.chat(t.model, user("a thing"), format=SCHEMA, options={**hot, "seed": seed}, **off(t))
        t.check(f"schema, seed {seed}", fits_schema(r.message.content), SCHEMA, r)
    text = "".join(x.message.content or "" for x in c.chat(t.model, user("a thing"), format=SCHEMA, options={**hot, "seed": 1}, stream=True, **off(t)))
    t.check("schema, streamed", fits_schema(text), SCHEMA, text)
    r = c.generate(t.model, "a thing", format=SCHEMA, options={**hot, "seed": 3}, **off(t))
    t.check("schema, generate", fits_schema(r.response), SCHEMA, r)
    if "thinking" in t.can:
        r = c.chat(t.model, user("a thing"), format=SCHEMA, options={"temperature": 0, "num_predict": 200}, think=True)
        t.check("schema with thinking", fits_schema(r.message.content) and r.message.thinking, SCHEMA, r)
    r = c.chat(t.model, user("a thing"), format="json", options={"temperature": 0, "num_predict": 300}, **off(t))
    if r.done_reason == "stop":
        import json

        try:
            json.loads(r.message.content)
            ok = True
        except ValueError:
            ok = False
        t.check("format json", ok, None, r)
    t.raises("a format that is none", ollama.ResponseError, lambda: client(t)._request_raw("POST", "/api/chat", json={
        "model": t.model, "messages": user("x"), "format": "yaml"}), 400, "invalid format")


@part(needs={"logprobs"})
def logprobs(t):
    c = client(t)
    r = c.chat(t.model, user("hi"), options=CALM, logprobs=True, top_logprobs=3, **off(t))
    t.check("an entry a token", r.logprobs and abs(len(r.logprobs) - r.eval_count) <= 1, r.eval_count, r.logprobs and len(r.logprobs))
    if r.logprobs:
        first = r.logprobs[0]
        t.check("a probability", first.logprob <= 0 and isinstance(first.token, str), None, first)
        t.check("three alternatives, sorted", len(first.top_logprobs) == 3 and [x.logprob for x in first.top_logprobs] == sorted(
            (x.logprob for x in first.top_logprobs), reverse=True), None, first)
        t.check("greedy takes the likeliest", abs(first.top_logprobs[0].logprob - first.logprob) < 1e-5, None, first)
        t.same("tokens make the text", "".join(x.token for x in r.logprobs).strip(), r.message.content.strip())
    chunks = list(c.generate(t.model, "hi", options=CALM, logprobs=True, stream=True, **off(t)))
    n = sum(len(x.logprobs or []) for x in chunks)
    t.check("streamed", n > 0 and abs(n - chunks[-1].eval_count) <= 1, chunks[-1].eval_count, n)
    for n in (-1, 21):
        t.raises(f"top_logprobs {n}", ollama.ResponseError, lambda n=n: c.chat(t.model, user("x"), logprobs=True, top_logprobs=n), 400,
                 "top_logprobs must be between 0 and 20")


@part()
def embeddings(t):
    c = client(t)
    r = c.embed(t.model, "hello")
    t.same("one text, one vector", len(r.embeddings), 1)
    t.check("of length one", abs(math.sqrt(sum(x * x for x in r.embeddings[0])) - 1) < 1e-3, None, r.embeddings[0][:4])
    t.check("counts and times", r.prompt_eval_count > 0 and r.total_duration > 0, None, r)
    both = c.embed(t.model, ["hello", "other words"])
    t.same("two", len(both.embeddings), 2)
    t.check("the same text, the same vector", max(abs(a - b) for a, b in zip(both.embeddings[0], r.embeddings[0])) < 1e-4)
    t.check("another text, another vector", both.embeddings[0] != both.embeddings[1])
    cut = c.embed(t.model, "hello", dimensions=8)
    t.check("dimensions: cut and normalised", len(cut.embeddings[0]) == 8 and abs(math.sqrt(sum(x * x for x in cut.embeddings[0])) - 1) < 1e-3, None, cut)
    t.same("no input loads", list(c.embed(t.model, []).embeddings), [])
    old = c.embeddings(t.model, "hello")
    cosine = sum(a * b for a, b in zip(old.embedding, r.embeddings[0])) / math.sqrt(sum(x * x for x in old.embedding))
    t.check("the old endpoint points the same way", cosine > 0.999, None, cosine)
    t.same("the old endpoint without a prompt", list(c.embeddings(t.model, "").embedding), [])
    if not t.mock:
        t.raises("truncate False", ollama.ResponseError, lambda: c.embed(t.model, "a b " * 20000, truncate=False), 400,
                 "the input length exceeds the context length")
        t.check("truncate True", len(c.embed(t.model, "a b " * 3000, truncate=True).embeddings) == 1)
        t.raises("of no model", ollama.ResponseError, lambda: c.embed("nosuch", "x"), 404, 'model "nosuch" not found, try pulling it first')


@part()
def errors(t):
    c = client(t)
    if not t.mock:
        for name, call in (("generate", lambda: c.generate("nosuch", "x")), ("chat", lambda: c.chat("nosuch", user("x"))), ("show", lambda: c.show("nosuch")),
                           ("delete", lambda: c.delete("nosuch"))):
            t.raises(f"{name} of no model", ollama.ResponseError, call, 404, "model 'nosuch' not found")
        t.raises("streamed too", ollama.ResponseError, lambda: list(c.chat("nosuch", user("x"), stream=True)), 404, "not found")
    t.raises("copy of no model", ollama.ResponseError, lambda: c.copy("nosuch", "other"), 404, 'model "nosuch" not found')
    t.raises("no name", ollama.ResponseError, lambda: c._request_raw("POST", "/api/chat", json={}), 400, "model is required")
    t.raises("an option of the wrong type", ollama.ResponseError, lambda: c._request_raw("POST", "/api/generate", json={
        "model": t.model, "prompt": "x", "options": {"temperature": "hot"}}), 400, 'option "temperature" must be of type')
    t.raises("raw with system", ollama.ResponseError, lambda: c.generate(t.model, "x", raw=True, system="y"), 400,
             "raw mode does not support template, system, or context")
    t.raises("a wrong think", ollama.ResponseError, lambda: c._request_raw("POST", "/api/chat", json={
        "model": t.model, "messages": user("x"), "think": "much"}), 400, 'invalid think value: "much"')
    t.raises("a suffix without a template for it", ollama.ResponseError, lambda: c.generate(t.model, "x", suffix="y"), 400, "does not support insert")
    t.raises("nobody there", ConnectionError, lambda: ollama.Client(host="http://127.0.0.1:9").list())
    t.raises("web search is not ours", ollama.ResponseError, lambda: c._request_raw("POST", "/api/experimental/web_search", json={"query": "x"}))


@part()
def lifetimes(t):
    c = client(t)
    c.generate(t.model, keep_alive="10m")
    m = c.ps().models
    t.same("ps shows one", len(m), 1)
    if m:
        left = (m[0].expires_at - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
        t.check("for ten minutes", 580 < left < 605, None, left)
        t.check("with its context", (m[0].context_length or 0) > 0, None, m[0])
        if not t.mock:
            t.check("and its size", m[0].size > 0 and m[0].size_vram == 0, None, m[0])
            t.check("and its digest", m[0].digest == c.list().models[[x.model for x in c.list().models].index(m[0].model)].digest, None, m[0])
    t.check("the name with its tag", m and m[0].model == f"{t.model}:latest", None, m)
    c.generate(t.model, keep_alive=-1)
    t.check("for ever", c.ps().models[0].expires_at.year > 2200, None, c.ps().models)
    for text in ("5", "x", "1 fortnight"):
        t.raises(f"keep_alive {text!r}", ollama.ResponseError, lambda text=text: c.generate(t.model, keep_alive=text), 400)
    c.generate(t.model, keep_alive="300ms")
    t.check("300 ms later it is gone", wait_gone(t, c), None, c.ps())
    c.chat(t.model, user("x"), options=CALM, keep_alive=0)
    t.check("keep_alive 0 with a message: afterwards it is gone", wait_gone(t, c), None, c.ps())


@part()
def models(t):
    c = client(t)
    names = [m.model for m in c.list().models]
    t.check("list", "tiny:latest" in names and "plain:latest" in names, None, names)
    m = next(m for m in c.list().models if m.model == "tiny:latest")
    t.check("a digest of 64 digits", len(m.digest) == 64 and int(m.digest, 16) >= 0, None, m)
    t.check("size and time", m.size > 1000 and m.modified_at.year >= 2024, None, m)
    t.check("details", m.details.format in ("safetensors", "gguf") and m.details.family == "llama" and m.details.families == ["llama"], None, m.details)
    s = c.show("tiny")
    info = s.modelinfo or {}
    t.check("show: details", s.details.family == "llama", None, s.details)
    t.check("show: model_info", info.get("general.architecture") == "llama" and info.get("llama.context_length") == tiny.CONTEXT and info.get(
        "llama.embedding_length") == tiny.DIM and info.get("llama.block_count") == 1 and info.get("llama.attention.head_count") == 2, None, info)
    t.check("show: parameter count", info.get("general.parameter_count", 0) > 100000, None, info)
    t.same("show: template", s.template, tiny.TEMPLATE)
    t.check("show: capabilities", {"completion", "tools", "thinking"} <= set(s.capabilities or []), None, s.capabilities)
    t.check("show: plain has neither", not {"tools", "thinking"} & set(c.show("plain").capabilities or []), None, c.show("plain").capabilities)
    t.check("show: modified_at", s.modified_at.year >= 2024, None, s.modified_at)
    tensors = t.d.post("/api/show", {"model": "tiny", "verbose": True}).json.get("tensors")
    t.check("show verbose: tensors", tensors and {"name", "type", "shape"} <= set(tensors[0]), None, tensors and tensors[:2])
    t.same("copy", c.copy("tiny", "team/other:v1").status, "success")
    both = {m.model: m.digest for m in c.list().models}
    t.check("a copy has the same digest", both.get("team/other:v1") == both["tiny:latest"], None, both)
    t.same("delete", c.delete("team/other:v1").status, "success")
    t.check("deleted", "team/other:v1" not in [m.model for m in c.list().models])
    t.raises("deleted twice", ollama.ResponseError, lambda: c.delete("team/other:v1"), 404, "model 'team/other:v1' not found")
    t.check("case does not count", c.show("TINY").details.family == "llama")
    t.raises("a name that is none", ollama.ResponseError, lambda: c.show("a b!"), 400)


@part()
def create(t):
    c = client(t)
    lines = list(c.create("child", from_="tiny", system="You are a child.", parameters={"temperature": 0.1, "num_predict": 7, "stop": ["zzz"]},
                          messages=user("hi"), license="free", stream=True))
    t.check("create from: ends with success", lines and lines[-1].status == "success", None, lines)
    t.check("writing manifest", any(x.status == "writing manifest" for x in lines), None, lines)
    s = t.d.post("/api/show", {"model": "child"}).json
    t.same("its system", s.get("system"), "You are a child.")
    t.check("its parameters", "num_predict" in (s.get("parameters") or "") and "zzz" in s["parameters"], None, s.get("parameters"))
    t.check("its license", "free" in str(s.get("license")), None, s.get("license"))
    t.check("its messages", s.get("messages") == user("hi"), None, s.get("messages"))
    t.check("its modelfile", "FROM" in s.get("modelfile", "") and "You are a child." in s["modelfile"], None, s.get("modelfile"))
    if not t.mock:
        r = t.d.post("/api/chat", {"model": "child", "messages": user("x"), "stream": False, "_debug_render_only": True}).json
        t.check("its system goes into the prompt", "You are a child." in str(r.get("_debug_info")), None, r)
        if t.tiny:
            r = c.generate("child", "abc", raw=True)
            t.check("its num_predict holds", (r.eval_count or 0) <= 7, None, r)
        c.generate("child", keep_alive=0)
    t.same("create again, not streamed", c.create("child", from_="tiny", system="Other.").status, "success")
    t.same("replaced", t.d.post("/api/show", {"model": "child"}).json.get("system"), "Other.")
    c.delete("child")
    folder = t.work / "tiny"
    files = {}
    for name in sorted(os.listdir(folder)):
        digest = c.create_blob(folder / name)
        t.same(f"blob of {name}", digest, "sha256:" + hashlib.sha256((folder / name).read_bytes()).hexdigest())
        files[name] = digest
    lines = list(c.create("uploaded", files=files, stream=True))
    t.check("create from files", lines and lines[-1].status == "success", files, lines)
    names = {m.model: m.size for m in c.list().models}
    t.check("it is there", "uploaded:latest" in names, None, names)
    if t.tiny and "uploaded:latest" in names:
        t.same("and answers", c.chat("uploaded", user("hi"), options=CALM, think=False, keep_alive=0).message.content, tiny.TEXT)
    if "uploaded:latest" in names:
        c.delete("uploaded")
    t.raises("create of nothing", ollama.ResponseError, lambda: c.create("x"), 400, "neither 'from' or 'files' was specified")
    t.raises("create from no model", ollama.ResponseError, lambda: c.create("x", from_="nosuch"))
    t.raises("a path that is not relative", ollama.ResponseError, lambda: c.create("x", files={"/etc/passwd": files["config.json"]}), 400, "file path must be relative")
    t.raises("a path that leaves", ollama.ResponseError, lambda: c.create("x", files={"../a": files["config.json"]}), 400)
    t.raises("a digest that is not there", ollama.ResponseError, lambda: c.create("x", files={"config.json": "sha256:" + "0" * 64}))
    t.raises("a name that is none", ollama.ResponseError, lambda: c.create("a b", from_="tiny"), 400)


@part()
def asynchronous(t):
    async def all_of_it():
        c = ollama.AsyncClient(host=t.d.url, timeout=120)
        r = await c.chat(t.model, user("hello there"), options=CALM, **off(t))
        t.check("async chat", bool(r.message.content), None, r)
        chunks = [x async for x in await c.chat(t.model, user("hello there"), options=CALM, stream=True, **off(t))]
        t.same("async stream", "".join(x.message.content or "" for x in chunks), r.message.content)
        g = await c.generate(t.model, "hello there", options=CALM, **off(t))
        t.same("async generate", g.response, r.message.content)
        many = await asyncio.gather(*(c.chat(t.model, user("hello there"), options=CALM, **off(t)) for _ in range(8)))
        t.check("eight at once say the same", {x.message.content for x in many} == {r.message.content}, None, {x.message.content for x in many})
        t.check("async list", len((await c.list()).models) >= 2)
        t.check("async show", (await c.show("tiny")).details.family == "llama")
        t.check("async embed", len((await c.embed(t.model, ["a", "b"])).embeddings) == 2)
        t.check("async ps", len((await c.ps()).models) >= 1)
        try:
            await c.copy("nosuch", "other")
            t.check("async error", False)
        except ollama.ResponseError as e:
            t.same("async error", e.status_code, 404)
        if "tools" in t.can:
            r = await c.chat(t.model, user("w"), tools=[WEATHER], options=CALM)
            t.check("async tools", r.message.tool_calls and r.message.tool_calls[0].function.name == "get_weather", None, r)

    asyncio.run(all_of_it())


@part(kinds=("tiny", "default"))
def overflow(t):
    c = client(t)
    n = 3 * (c.show(t.model).modelinfo or {}).get("llama.context_length", 8192)
    t.raises("a prompt longer than the context", ollama.ResponseError, lambda: c.chat(t.model, user("a b " * n)), 400, "exceeds the model's maximum context length")
    r = t.d.post("/api/chat", {"model": t.model, "messages": [*user("a b " * 300), *user("hello there")], "stream": False, "truncate": True, "options": {
        "num_ctx": 256, "num_predict": 8}, **off(t)})
    t.check("truncate: True drops the oldest and says so", r.status == 200 and r.json.get("truncated_count", 0) > 0, None, r)
    r = t.d.post("/api/generate", {"model": t.model, "prompt": "a b " * 10000, "stream": True})
    t.check("an error before the stream has its status", r.status == 400 and r.error, None, r)
