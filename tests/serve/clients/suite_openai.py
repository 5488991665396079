"""The official openai client: chat completions, completions, embeddings, models, responses; sync and async."""

import asyncio
import base64
import json
import struct
from typing import Literal

import openai
import tiny
from checks import CLOCK, SCHEMA, WEATHER, fits_schema, part
from pydantic import BaseModel

CALM = {"temperature": 0, "max_tokens": 24}


class Thing(BaseModel):
    colour: Literal["red", "green"]
    ok: bool
    size: Literal[1, 2, 3]


def client(t, **more):
    return openai.OpenAI(base_url=t.d.url + "/v1", api_key="unused", timeout=120, max_retries=0, **more)


def user(text):
    return [{"role": "user", "content": text}]


def off(t):
    return {"reasoning_effort": "none"} if "thinking" in t.can else {}


def text_of(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


@part()
def chat(t):
    c = client(t)
    r = c.chat.completions.create(model=t.model, messages=user("hello there"), **CALM, **off(t))
    t.check("object and id", r.object == "chat.completion" and r.id.startswith("chatcmpl-"), None, r)
    t.check("one choice", len(r.choices) == 1 and r.choices[0].index == 0 and r.choices[0].message.role == "assistant", None, r)
    t.check("finish_reason", r.choices[0].finish_reason in ("stop", "length"), None, r)
    t.check("usage", r.usage.prompt_tokens > 0 and r.usage.completion_tokens > 0 and r.usage.total_tokens == r.usage.prompt_tokens + r.usage.completion_tokens, None, r.usage)
    t.check("usage details", r.usage.prompt_tokens_details is not None and r.usage.prompt_tokens_details.cached_tokens is not None, None, r.usage)
    t.same("model as asked for", r.model, t.model)
    t.check("created", r.created > 1_700_000_000, None, r.created)
    if t.says("hello there"):
        t.same("the text", r.choices[0].message.content, t.says("hello there"))
    whole = r.choices[0].message.content
    chunks = list(c.chat.completions.create(model=t.model, messages=user("hello there"), stream=True, **CALM, **off(t)))
    t.same("streamed", text_of(chunks), whole)
    t.same("one id throughout", len({x.id for x in chunks}), 1)
    t.same("one created throughout", len({x.created for x in chunks}), 1)
    t.check("role comes first", chunks[0].choices[0].delta.role == "assistant", None, chunks[0])
    t.check("role comes once", all(x.choices[0].delta.role is None for x in chunks[1:] if x.choices), None, chunks)
    t.check("the last has the reason", chunks[-1].choices[0].finish_reason == r.choices[0].finish_reason and not chunks[-1].choices[0].delta.content, None, chunks[-1])
    t.check("no usage unasked", all(x.usage is None for x in chunks), None, chunks)
    chunks = list(c.chat.completions.create(model=t.model, messages=user("hello there"), stream=True, stream_options={"include_usage": True}, **CALM, **off(t)))
    t.check("usage when asked, in a chunk of its own", chunks[-1].usage and chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == r.usage.completion_tokens, None, chunks[-1])
    t.check("and nowhere else", all(x.usage is None for x in chunks[:-1]), None, chunks[:-1])
    r = c.chat.completions.create(model=t.model, messages=user("hello there"), max_tokens=2, temperature=0, **off(t))
    t.check("length", r.choices[0].finish_reason == "length" and r.usage.completion_tokens == 2, None, r)
    r = c.chat.completions.create(model=t.model, messages=user("hello there"), max_completion_tokens=3, max_tokens=9, temperature=0, **off(t))
    t.same("max_completion_tokens wins", r.usage.completion_tokens, 3)
    r = c.chat.completions.create(model=t.model, messages=[{"role": "developer", "content": "Be brief."}, *user("hello there")], **CALM, **off(t))
    t.check("role developer", bool(r.choices[0].message.content), None, r)
    parts = [{"type": "text", "text": "hello"}, {"type": "text", "text": " there"}]
    r = c.chat.completions.create(model=t.model, messages=[{"role": "user", "content": parts}], **CALM, **off(t))
    if t.mock:
        t.same("parts are joined", r.choices[0].message.content.replace("\n", ""), "You said: hello there")
    t.check("parts", bool(r.choices[0].message.content), parts, r)
    with c.chat.completions.stream(model=t.model, messages=user("hello there"), **CALM, **off(t)) as s:
        kinds = [e.type for e in s]
        final = s.get_final_completion()
    t.check("the stream helper", "content.delta" in kinds and final.choices[0].message.content == whole, None, kinds)
    raw = c.chat.completions.with_raw_response.create(model=t.model, messages=user("hi"), **CALM, **off(t))
    t.check("headers: a request id, JSON", raw.headers.get("x-request-id") and raw.headers["content-type"].startswith("application/json"), None, dict(raw.headers))


@part()
def several(t):
    c = client(t)
    r = c.chat.completions.create(model=t.model, messages=user("hello there"), n=3, seed=5, max_tokens=12, temperature=1, **off(t))
    t.same("n=3: indexes", sorted(x.index for x in r.choices), [0, 1, 2])
    t.check("n=3: usage counts all", r.usage.completion_tokens >= 3, None, r.usage)
    if t.says("x"):
        t.check("n=3: texts", all(x.message.content for x in r.choices), None, r)
    chunks = list(c.chat.completions.create(model=t.model, messages=user("hello there"), n=2, seed=5, max_tokens=12, temperature=1, stream=True, **off(t)))
    by = {0: "", 1: ""}
    for x in chunks:
        for ch in x.choices:
            by[ch.index] += ch.delta.content or ""
    first = {x.index: x.message.content for x in r.choices}
    t.check("n=2 streamed: the same texts", by == {0: first[0], 1: first[1]}, first, by)
    t.same("n=2 streamed: a reason each", sorted(ch.index for x in chunks for ch in x.choices if ch.finish_reason), [0, 1])
    t.raises("n=0", openai.BadRequestError, lambda: c.chat.completions.create(model=t.model, messages=user("x"), n=0), 400)
    stop = "there" if t.mock else "er is" if t.tiny else " the"
    r = c.chat.completions.create(model=t.model, messages=user("hello there you"), stop=stop, **CALM, **off(t))
    t.check("stop as text", stop not in r.choices[0].message.content and r.choices[0].finish_reason in ("stop", "length"), stop, r)
    chunks = list(c.chat.completions.create(model=t.model, messages=user("hello there you"), stop=[stop, "zzz"], stream=True, **CALM, **off(t)))
    t.same("stop as list, streamed", text_of(chunks), r.choices[0].message.content)
    if not t.mock:
        texts = [c.completions.create(model=t.model, prompt="abc", seed=s, max_tokens=16, temperature=1.2).choices[0].text for s in (3, 3, 4, 5, 6)]
        t.same("the same seed twice", texts[0], texts[1])
        t.check("another seed", len(set(texts)) > 1, None, texts)


@part()
def errors(t):
    c = client(t)
    if not t.mock:
        e = t.raises("no such model", openai.NotFoundError, lambda: c.chat.completions.create(model="nosuch", messages=user("x")), 404, "model 'nosuch' not found")
        t.check("its body", e is not None and e.body and e.body.get("type") == "not_found_error" and "param" in e.body and "code" in e.body, None, e and e.body)
        t.raises("no such model, streamed", openai.NotFoundError, lambda: c.chat.completions.create(model="nosuch", messages=user("x"), stream=True), 404)
        t.raises("completions", openai.NotFoundError, lambda: c.completions.create(model="nosuch", prompt="x"), 404)
        t.raises("embeddings", openai.NotFoundError, lambda: c.embeddings.create(model="nosuch", input="x"), 404)
        t.raises("responses", openai.NotFoundError, lambda: c.responses.create(model="nosuch", input="x"), 404)
        t.raises("models.retrieve", openai.NotFoundError, lambda: c.models.retrieve("nosuch"), 404)
    e = t.raises("no messages", openai.BadRequestError, lambda: c.chat.completions.create(model=t.model, messages=[]), 400, "[] is too short - 'messages'")
    t.check("invalid_request_error", e is not None and e.body and e.body.get("type") == "invalid_request_error", None, e and e.body)
    t.raises("temperature of text", openai.BadRequestError, lambda: c.chat.completions.create(model=t.model, messages=user("x"), extra_body={"temperature": "hot"}), 400, "temperature")
    t.raises("top_logprobs 21", openai.BadRequestError, lambda: c.chat.completions.create(model=t.model, messages=user("x"), logprobs=True, top_logprobs=21), 400,
             "top_logprobs must be between 0 and 20")
    t.raises("an image's URL", openai.BadRequestError, lambda: c.chat.completions.create(model=t.model, messages=[{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}]), 400, "image URLs are not currently supported")
    t.raises("a part of no known type", openai.BadRequestError, lambda: c.chat.completions.create(model=t.model, messages=[{"role": "user", "content": [
        {"type": "smell"}]}]), 400, "invalid message format")
    t.raises("arguments that are not JSON", openai.BadRequestError, lambda: c.chat.completions.create(model=t.model, messages=[*user("x"), {
        "role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}}]}]), 400, "invalid tool call arguments")
    t.raises("an effort that is none", openai.BadRequestError, lambda: c.chat.completions.create(model=t.model, messages=user("x"), reasoning_effort="sideways"), 400)
    t.raises("nobody there", openai.APIConnectionError, lambda: openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="x", max_retries=0).models.list())
    t.raises("no route", openai.NotFoundError, lambda: c.images.generate(prompt="x"), 404)


@part(needs={"thinking"})
def reasoning(t):
    c = client(t)
    r = c.chat.completions.create(model=t.model, messages=user("hi"), **CALM)
    m = r.choices[0].message
    t.same("content", m.content, tiny.TEXT)
    t.same("reasoning", getattr(m, "reasoning", None), tiny.THOUGHT)
    t.same("reasoning_content as well", getattr(m, "reasoning_content", None), tiny.THOUGHT)
    d = r.usage.completion_tokens_details
    t.check("reasoning tokens", d and 0 < (d.reasoning_tokens or 0) < r.usage.completion_tokens, None, r.usage)
    for effort in ("minimal", "low", "medium", "high", "xhigh"):
        m = c.chat.completions.create(model=t.model, messages=user("hi"), reasoning_effort=effort, **CALM).choices[0].message
        t.check(f"effort {effort}", bool(getattr(m, "reasoning", None)), effort, m)
    m = c.chat.completions.create(model=t.model, messages=user("hi"), reasoning_effort="none", **CALM).choices[0].message
    t.check("effort none", not getattr(m, "reasoning", None) and m.content == tiny.TEXT, None, m)
    m = c.chat.completions.create(model=t.model, messages=user("hi"), extra_body={"reasoning": {"effort": "none"}}, **CALM).choices[0].message
    t.check("reasoning.effort", not getattr(m, "reasoning", None), None, m)
    m = c.chat.completions.create(model=t.model, messages=user("hi"), extra_body={"chat_template_kwargs": {"enable_thinking": False}}, **CALM).choices[0].message
    t.check("chat_template_kwargs", not getattr(m, "reasoning", None), None, m)
    chunks = list(c.chat.completions.create(model=t.model, messages=user("hi"), stream=True, **CALM))
    deltas = [x.choices[0].delta for x in chunks if x.choices]
    t.same("streamed reasoning", "".join(getattr(x, "reasoning", None) or "" for x in deltas), tiny.THOUGHT)
    t.same("streamed content", text_of(chunks), tiny.TEXT)
    t.check("never both in one delta", not any(getattr(x, "reasoning", None) and x.content for x in deltas), None, deltas)


@part(needs={"tools"})
def tools(t):
    c = client(t)
    r = c.chat.completions.create(model=t.model, messages=user("weather?"), tools=[WEATHER], **CALM)
    m = r.choices[0].message
    t.same("finish_reason", r.choices[0].finish_reason, "tool_calls")
    t.check("one call", m.tool_calls and len(m.tool_calls) == 1, None, m)
    call = m.tool_calls[0]
    t.check("type, name, id", call.type == "function" and call.function.name == "get_weather" and call.id.startswith("call_"), None, call)
    t.check("arguments are a text", isinstance(call.function.arguments, str) and json.loads(call.function.arguments) == {"city": "Paris"}, None, call)
    chunks = list(c.chat.completions.create(model=t.model, messages=user("weather?"), tools=[WEATHER], stream=True, **CALM))
    parts = [k for x in chunks if x.choices for k in x.choices[0].delta.tool_calls or []]
    t.check("streamed: index, id and name", parts and parts[0].index == 0 and parts[0].id and parts[0].function.name == "get_weather", None, parts)
    t.same("streamed: arguments", json.loads("".join(k.function.arguments or "" for k in parts) or "null"), {"city": "Paris"})
    t.same("streamed: finish_reason", [x.choices[0].finish_reason for x in chunks if x.choices][-1], "tool_calls")
    again = c.chat.completions.create(model=t.model, tools=[WEATHER], messages=[*user("weather?"), m, {
        "role": "tool", "tool_call_id": call.id, "content": "sunny"}], reasoning_effort="none", **CALM)
    t.same("round trip", again.choices[0].message.content, tiny.TEXT)
    t.same("round trip's reason", again.choices[0].finish_reason, "stop")
    shown = c.chat.completions.create(model=t.model, messages=[{"role": "assistant", "content": None, "tool_calls": [call.model_dump()]}, *user("x")], tools=[WEATHER], **CALM)
    t.check("content null with calls", shown.choices[0].finish_reason == "tool_calls", None, shown)
    r = c.chat.completions.create(model=t.model, messages=user("weather?"), tools=[WEATHER], tool_choice="none", reasoning_effort="none", **CALM)
    t.check("tool_choice none", not r.choices[0].message.tool_calls, None, r)
    r = c.chat.completions.create(model=t.model, messages=user("x"), tools=[WEATHER, CLOCK], tool_choice="required", temperature=0, max_tokens=200, parallel_tool_calls=False)
    t.same("required, not parallel", len(r.choices[0].message.tool_calls or []), 1)
    for temperature in (0, 1.5):
        r = c.chat.completions.create(model=t.model, messages=user("x"), tools=[WEATHER, CLOCK], tool_choice={"type": "function", "function": {"name": "get_time"}},
                                      temperature=temperature, seed=3, max_tokens=400, parallel_tool_calls=False)
        calls = r.choices[0].message.tool_calls or []
        ok = len(calls) == 1 and calls[0].function.name == "get_time" and json.loads(calls[0].function.arguments)["zone"] in ("UTC", "CET")
        t.check(f"the tool named, temperature {temperature}", ok, None, r)
    with c.chat.completions.stream(model=t.model, messages=user("weather?"), tools=[{**WEATHER, "function": {**WEATHER["function"], "strict": True}}], **CALM) as s:
        kinds = [e.type for e in s]
    t.check("the stream helper tells arguments", "tool_calls.function.arguments.done" in kinds, None, kinds)
    t.raises("tool_choice of no such tool", openai.BadRequestError, lambda: c.chat.completions.create(
        model=t.model, messages=user("x"), tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "nope"}}), 400)


@part(needs={"format"})
def formats(t):
    c = client(t)
    form = {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA, "strict": True}}
    for seed in range(3):
        r = c.chat.completions.create(model=t.model, messages=user("a thing"), response_format=form, temperature=1.5, seed=seed, max_tokens=200, **off(t))
        t.check(f"json_schema, seed {seed}", fits_schema(r.choices[0].message.content), form, r)
    chunks = c.chat.completions.create(model=t.model, messages=user("a thing"), response_format=form, temperature=1.5, seed=1, max_tokens=200, stream=True, **off(t))
    text = text_of(chunks)
    t.check("json_schema, streamed", fits_schema(text), form, text)
    r = c.chat.completions.parse(model=t.model, messages=user("a thing"), response_format=Thing, temperature=1, seed=1, max_tokens=200, **off(t))
    t.check("parse", isinstance(r.choices[0].message.parsed, Thing), None, r)
    with c.chat.completions.stream(model=t.model, messages=user("a thing"), response_format=Thing, temperature=1, seed=1, max_tokens=200, **off(t)) as s:
        final = s.get_final_completion()
    t.check("stream and parse", isinstance(final.choices[0].message.parsed, Thing), None, final)
    r = c.chat.completions.create(model=t.model, messages=user("a thing"), response_format={"type": "json_object"}, temperature=0, max_tokens=300, **off(t))
    ok = r.choices[0].finish_reason == "length"
    try:
        ok = ok or isinstance(json.loads(r.choices[0].message.content), dict)
    except ValueError:
        pass
    t.check("json_object", ok, None, r)
    r = c.chat.completions.create(model=t.model, messages=user("hello there"), response_format={"type": "text"}, **CALM, **off(t))
    t.check("text", bool(r.choices[0].message.content), None, r)
    t.raises("no known format", openai.BadRequestError, lambda: c.chat.completions.create(model=t.model, messages=user("x"), response_format={"type": "xml"}), 400)
    if "thinking" in t.can:
        r = c.chat.completions.create(model=t.model, messages=user("a thing"), response_format=form, temperature=0, max_tokens=200)
        t.check("thinks, then keeps the form", fits_schema(r.choices[0].message.content) and r.choices[0].message.reasoning, form, r)


@part(needs={"logprobs"})
def logprobs(t):
    c = client(t)
    r = c.chat.completions.create(model=t.model, messages=user("hi"), logprobs=True, top_logprobs=3, **CALM, **off(t))
    e = r.choices[0].logprobs.content
    t.check("an entry a token", e and abs(len(e) - r.usage.completion_tokens) <= 1, r.usage, e and len(e))
    t.check("three alternatives, sorted", len(e[0].top_logprobs) == 3 and e[0].top_logprobs[0].logprob >= e[0].top_logprobs[1].logprob, None, e[0])
    t.check("bytes", bytes(e[0].bytes).decode("utf-8", "replace") == e[0].token, None, e[0])
    r0 = c.chat.completions.create(model=t.model, messages=user("hi"), **CALM, **off(t))
    t.check("none unasked", r0.choices[0].logprobs is None, None, r0)
    chunks = list(c.chat.completions.create(model=t.model, messages=user("hi"), logprobs=True, stream=True, **CALM, **off(t)))
    n = sum(len(x.choices[0].logprobs.content or []) for x in chunks if x.choices and x.choices[0].logprobs)
    t.check("streamed", abs(n - len(e)) <= 1 and n > 0, len(e), n)
    r = c.completions.create(model=t.model, prompt="abc", logprobs=2, max_tokens=4, temperature=0)
    lp = r.choices[0].logprobs
    t.check("completions", lp and len(lp.tokens) == len(lp.token_logprobs) == r.usage.completion_tokens and len(lp.top_logprobs[0]) >= 2, None, r)
    tok = t.d.post("/api/tokenize", {"model": t.model, "content": "Q", "add_special": False})
    if t.check("tokenize", tok.status == 200 and tok.json.get("tokens"), "Q", tok):
        i = tok.json["tokens"][0]
        r = c.chat.completions.create(model=t.model, messages=user("hi"), logit_bias={str(i): 100}, max_tokens=3, temperature=0, **off(t))
        t.check("logit_bias", "Q" in r.choices[0].message.content, {i: 100}, r)


@part()
def completions(t):
    c = client(t)
    r = c.completions.create(model=t.model, prompt="abc def", max_tokens=8, temperature=0)
    t.check("object and id", r.object == "text_completion" and r.id.startswith("cmpl-") and r.choices[0].finish_reason in ("stop", "length"), None, r)
    t.check("usage", r.usage.total_tokens == r.usage.prompt_tokens + r.usage.completion_tokens > 0, None, r.usage)
    native = t.d.post("/api/generate", {"model": t.model, "prompt": "abc def", "raw": True, "stream": False, "options": {"temperature": 0, "num_predict": 8}}).json
    t.same("the text raw, as native raw", r.choices[0].text, native.get("response"))
    chunks = list(c.completions.create(model=t.model, prompt="abc def", max_tokens=8, temperature=0, stream=True, stream_options={"include_usage": True}))
    t.same("streamed", "".join(x.choices[0].text for x in chunks if x.choices), r.choices[0].text)
    t.check("usage at the end", chunks[-1].usage and chunks[-1].usage.completion_tokens == r.usage.completion_tokens and all(x.usage is None for x in chunks[:-1]), None, chunks[-2:])
    both = c.completions.create(model=t.model, prompt=["abc def", "xyz"], max_tokens=8, temperature=0)
    t.check("two prompts", [x.index for x in both.choices] == [0, 1] and both.choices[0].text == r.choices[0].text, None, both)
    if not t.mock:
        ids = t.d.post("/api/tokenize", {"model": t.model, "content": "abc def"}).json.get("tokens")
        by_ids = c.completions.create(model=t.model, prompt=ids, max_tokens=8, temperature=0)
        t.same("token ids", by_ids.choices[0].text, r.choices[0].text, ids)
        echo = c.completions.create(model=t.model, prompt="abc def", max_tokens=8, temperature=0, echo=True)
        t.check("echo, or refused by name", echo.choices[0].text.startswith("abc def"), None, echo)
    two = c.completions.create(model=t.model, prompt="abc def", n=2, max_tokens=4, temperature=0)
    t.check("n=2", len(two.choices) == 2, None, two)
    t.raises("a suffix without a template for it", openai.BadRequestError, lambda: c.completions.create(model=t.model, prompt="a", suffix="b"), 400)


@part()
def embeddings(t):
    c = client(t)
    r = c.embeddings.create(model=t.model, input="hello", encoding_format="float")
    v = r.data[0].embedding
    t.check("list", r.object == "list" and r.data[0].object == "embedding" and r.data[0].index == 0 and r.usage.prompt_tokens > 0, None, r.usage)
    b = c.embeddings.create(model=t.model, input="hello")  # the client asks for base64 itself
    t.check("base64 equals float", max(abs(x - y) for x, y in zip(v, b.data[0].embedding)) < 1e-6 and len(v) == len(b.data[0].embedding))
    raw = t.d.post("/v1/embeddings", {"model": t.model, "input": "hello", "encoding_format": "base64"}).json["data"][0]["embedding"]
    t.check("base64 is little-endian float32", isinstance(raw, str) and max(abs(x - y) for x, y in zip(v, struct.unpack(f"<{len(v)}f", base64.b64decode(raw)))) < 1e-6)
    r = c.embeddings.create(model=t.model, input=["hello", "other"], encoding_format="float")
    t.check("two", [x.index for x in r.data] == [0, 1] and max(abs(x - y) for x, y in zip(v, r.data[0].embedding)) < 1e-4, None, len(r.data))
    t.same("dimensions", len(c.embeddings.create(model=t.model, input="hello", dimensions=8).data[0].embedding), 8)
    native = t.d.post("/api/embed", {"model": t.model, "input": "hello"}).json["embeddings"][0]
    t.check("as native", max(abs(x - y) for x, y in zip(v, native)) < 1e-6)
    t.raises("no input", openai.BadRequestError, lambda: c.embeddings.create(model=t.model, input=[]), 400, "invalid input")
    t.raises("no such encoding", openai.BadRequestError, lambda: c.embeddings.create(model=t.model, input="x", encoding_format="hex"), 400,
             "Invalid value for 'encoding_format' = hex. Supported values: ['float', 'base64'].")


@part()
def models(t):
    c = client(t)
    ids = [m.id for m in c.models.list().data]
    t.check("list", "tiny:latest" in ids or "tiny" in ids, None, ids)
    m = c.models.retrieve(ids[0])
    t.check("retrieve", m.id == ids[0] and m.object == "model" and m.created > 1_700_000_000 and m.owned_by, None, m)
    t.d.post("/api/copy", {"source": "tiny", "destination": "team/other:v1"})
    t.check("retrieve a name with a slash", c.models.retrieve("team/other:v1").id == "team/other:v1")
    t.same("raw slash", t.d.get("/v1/models/team/other:v1").status, 200)
    t.check("owned_by", c.models.retrieve("team/other:v1").owned_by == "team", None, c.models.retrieve("team/other:v1"))
    t.d.delete("/api/delete", {"model": "team/other:v1"})


def thinks_not(t):
    return {"reasoning": {"effort": "none"}} if "thinking" in t.can else {}


@part()
def responses(t):
    c = client(t)
    r = c.responses.create(model=t.model, input="hello there", temperature=0, max_output_tokens=24, **thinks_not(t))
    t.check("object, id", r.object == "response" and r.id.startswith("resp_") and r.status in ("completed", "incomplete"), None, r)
    t.check("output", any(o.type == "message" and o.content[0].type == "output_text" for o in r.output), None, r.output)
    if t.says("hello there"):
        t.same("the text", r.output_text, t.says("hello there"))
    t.check("usage", r.usage.input_tokens > 0 and r.usage.output_tokens > 0 and r.usage.total_tokens == r.usage.input_tokens + r.usage.output_tokens, None, r.usage)
    t.check("what it tells back", r.parallel_tool_calls is True and r.tool_choice == "auto" and r.truncation == "disabled" and r.error is None, None, r)
    r2 = c.responses.create(model=t.model, input=[{"role": "user", "content": [{"type": "input_text", "text": "hello there"}]}], temperature=0, max_output_tokens=24, **thinks_not(t))
    t.same("items say the same", r2.output_text, r.output_text)
    r2 = c.responses.create(model=t.model, instructions="Be brief.", input="hello there", temperature=0, max_output_tokens=24, **thinks_not(t))
    t.check("instructions", r2.output_text and r2.instructions == "Be brief.", None, r2)
    events = list(c.responses.create(model=t.model, input="hello there", temperature=0, max_output_tokens=24, stream=True, **thinks_not(t)))
    kinds = [e.type for e in events]
    t.check("begins", kinds[:2] == ["response.created", "response.in_progress"], None, kinds)
    t.check("ends", kinds[-1] in ("response.completed", "response.incomplete"), None, kinds[-1])
    t.same("numbers from 0 on", [e.sequence_number for e in events], list(range(len(events))))
    wanted = ["response.output_item.added", "response.content_part.added", "response.output_text.delta", "response.output_text.done", "response.content_part.done", "response.output_item.done"]
    once = [k for i, k in enumerate(kinds[2:-1]) if i == 0 or kinds[2:-1][i - 1] != k]
    t.same("in between", once, wanted)
    t.same("deltas make the text", "".join(e.delta for e in events if e.type == "response.output_text.delta"), r.output_text)
    t.same("the full object last", events[-1].response.output_text, r.output_text)
    with c.responses.stream(model=t.model, input="hello there", temperature=0, max_output_tokens=24, **thinks_not(t)) as s:
        for _ in s:
            pass
        t.same("the stream helper", s.get_final_response().output_text, r.output_text)
    r = c.responses.create(model=t.model, input="hello there", max_output_tokens=1, temperature=0, **thinks_not(t))
    t.check("incomplete", r.status == "incomplete" and r.incomplete_details and r.incomplete_details.reason == "max_output_tokens", None, r)
    t.raises("no known item", openai.BadRequestError, lambda: c.responses.create(model=t.model, input=[{"type": "odour"}]), 400, "unknown input item type")
    t.raises("previous_response_id", openai.BadRequestError, lambda: c.responses.create(model=t.model, input="x", previous_response_id="resp_1"), 400, "previous_response_id")
    r = c.responses.create(model=t.model, input=[{"role": "user", "content": "a"}, {"type": "message", "role": "assistant", "content": [
        {"type": "output_text", "text": "b", "annotations": []}], "id": "msg_1", "status": "completed"}, {"role": "user", "content": "hello there"}],
        temperature=0, max_output_tokens=24, **thinks_not(t))
    t.check("a conversation", bool(r.output_text), None, r)


@part(needs={"tools"})
def responses_tools(t):
    c = client(t)
    tool = {"type": "function", "strict": True, **WEATHER["function"]}
    r = c.responses.create(model=t.model, input="weather?", tools=[tool], temperature=0)
    calls = [o for o in r.output if o.type == "function_call"]
    t.check("a call", len(calls) == 1 and calls[0].name == "get_weather" and json.loads(calls[0].arguments) == {"city": "Paris"}, None, r.output)
    t.check("its ids", calls and calls[0].call_id and calls[0].id, None, calls)
    items = [{"role": "user", "content": "weather?"}, calls[0].model_dump(exclude_none=True), {"type": "function_call_output", "call_id": calls[0].call_id, "output": "sunny"}]
    r = c.responses.create(model=t.model, input=items, tools=[tool], temperature=0, reasoning={"effort": "none"})
    t.same("round trip", r.output_text, tiny.TEXT)
    events = list(c.responses.create(model=t.model, input="weather?", tools=[tool], temperature=0, stream=True))
    kinds = [e.type for e in events]
    wanted = ["response.output_item.added", "response.function_call_arguments.delta", "response.function_call_arguments.done", "response.output_item.done"]
    once = [k for i, k in enumerate(kinds[2:-1]) if i == 0 or kinds[2:-1][i - 1] != k]
    t.same("streamed", once, wanted)
    t.check("streamed arguments", any(e.type == "response.function_call_arguments.done" and json.loads(e.arguments) == {"city": "Paris"} for e in events), None, events)
    r = c.responses.create(model=t.model, input="x", tools=[tool], tool_choice="none", temperature=0, reasoning={"effort": "none"})
    t.check("tool_choice none", not [o for o in r.output if o.type == "function_call"], None, r.output)
    r = c.responses.create(model=t.model, input="hi", temperature=0, max_output_tokens=24)
    reasoning = [o for o in r.output if o.type == "reasoning"]
    t.check("reasoning", reasoning and reasoning[0].summary[0].text == tiny.THOUGHT and r.output[0].type == "reasoning", None, r.output)
    t.check("reasoning tokens", r.usage.output_tokens_details.reasoning_tokens > 0, None, r.usage)
    kinds = [e.type for e in c.responses.create(model=t.model, input="hi", temperature=0, max_output_tokens=24, stream=True)]
    t.check("reasoning streamed", "response.reasoning_summary_text.delta" in kinds and "response.reasoning_summary_text.done" in kinds, None, kinds)
    items = [{"role": "user", "content": "hi"}, *[o.model_dump(exclude_none=True) for o in r.output], {"role": "user", "content": "again"}]
    t.check("reasoning in the history", c.responses.create(model=t.model, input=items, temperature=0, max_output_tokens=24).output_text == tiny.TEXT, items)


@part(needs={"format"})
def responses_formats(t):
    c = client(t)
    form = {"format": {"type": "json_schema", "name": "thing", "schema": SCHEMA, "strict": True}}
    r = c.responses.create(model=t.model, input="a thing", text=form, temperature=1.5, max_output_tokens=200, **thinks_not(t))
    t.check("text.format", fits_schema(r.output_text), form, r)
    r = c.responses.parse(model=t.model, input="a thing", text_format=Thing, temperature=1, max_output_tokens=200, **thinks_not(t))
    t.check("parse", isinstance(r.output_parsed, Thing), None, r)


@part()
def asynchronous(t):
    async def all_of_it():
        async with openai.AsyncOpenAI(base_url=t.d.url + "/v1", api_key="unused", timeout=120, max_retries=0) as c:
            r = await c.chat.completions.create(model=t.model, messages=user("hello there"), **CALM, **off(t))
            whole = r.choices[0].message.content
            t.check("async chat", bool(whole), None, r)
            s = await c.chat.completions.create(model=t.model, messages=user("hello there"), stream=True, **CALM, **off(t))
            t.same("async stream", text_of([x async for x in s]), whole)
            many = await asyncio.gather(*(c.chat.completions.create(model=t.model, messages=user("hello there"), **CALM, **off(t)) for _ in range(8)))
            t.check("eight at once say the same", {x.choices[0].message.content for x in many} == {whole}, whole, {x.choices[0].message.content for x in many})
            t.check("async completions", (await c.completions.create(model=t.model, prompt="ab", max_tokens=3)).object == "text_completion")
            t.check("async embeddings", len((await c.embeddings.create(model=t.model, input=["a", "b"])).data) == 2)
            t.check("async models", len((await c.models.list()).data) >= 2)
            r = await c.responses.create(model=t.model, input="hello there", temperature=0, max_output_tokens=24, **thinks_not(t))
            t.same("async responses", r.output_text, whole)
            events = [e async for e in await c.responses.create(model=t.model, input="hello there", stream=True, temperature=0, max_output_tokens=24, **thinks_not(t))]
            t.same("async responses streamed", "".join(e.delta for e in events if e.type == "response.output_text.delta"), whole)

    asyncio.run(all_of_it())
