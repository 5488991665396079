"""The official anthropic client: messages, streams, counts; sync and async."""

import asyncio
import json
from typing import Literal

import anthropic
import tiny
from checks import CLOCK, SCHEMA, WEATHER, fits_schema, part
from pydantic import BaseModel


class Thing(BaseModel):
    colour: Literal["red", "green"]
    ok: bool
    size: Literal[1, 2, 3]


def as_tool(tool):
    f = tool["function"]
    return {"name": f["name"], "description": f["description"], "input_schema": f["parameters"]}


TOOL, TOOL2 = as_tool(WEATHER), as_tool(CLOCK)


def client(t, **more):
    return anthropic.Anthropic(base_url=t.d.url, api_key="unused", timeout=120, max_retries=0, **more)


def user(text):
    return [{"role": "user", "content": text}]


def calm(t, text, **more):
    # (This version of the client takes temperature, top_p and top_k as fields of the body alone.)
    return {"model": t.model, "max_tokens": 24, "extra_body": {"temperature": 0}, "messages": user(text) if isinstance(text, str) else text, **off(t), **more}


def off(t):
    return {"thinking": {"type": "disabled"}} if "thinking" in t.can else {}


def text_of(r):
    return "".join(b.text for b in r.content if b.type == "text")


@part()
def messages(t):
    c = client(t)
    r = c.messages.create(**calm(t, "hello there"))
    t.check("id, type, role", r.id.startswith("msg_") and r.type == "message" and r.role == "assistant" and r.model == t.model, None, r)
    t.check("one block of text", len(r.content) == 1 and r.content[0].type == "text", None, r)
    t.check("stop_reason", r.stop_reason in ("end_turn", "max_tokens") and r.stop_sequence is None, None, r)
    t.check("usage", r.usage.input_tokens > 0 and r.usage.output_tokens > 0, None, r.usage)
    if t.says("hello there"):
        t.same("the text", text_of(r), t.says("hello there"))
    native = t.d.post("/api/chat", {"model": t.model, "messages": user("hello there"), "stream": False, "options": {"temperature": 0, "num_predict": 24},
                                    **({"think": False} if "thinking" in t.can else {})}).json
    t.same("as native", text_of(r), native["message"]["content"])
    cached = (r.usage.cache_read_input_tokens or 0) + (r.usage.cache_creation_input_tokens or 0)
    t.same("as many tokens", (r.usage.input_tokens + cached, r.usage.output_tokens), (native["prompt_eval_count"], native["eval_count"]))
    r = c.messages.create(**calm(t, "hello there", system="Be brief."))
    t.check("system", bool(text_of(r)), None, r)
    r = c.messages.create(**calm(t, "hello there", system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]))
    t.check("system as blocks", bool(text_of(r)), None, r)
    r = c.messages.create(**calm(t, [{"role": "user", "content": [{"type": "text", "text": "hello there"}]}]))
    t.same("content as blocks", text_of(r), native["message"]["content"])
    r = c.messages.create(**calm(t, [*user("a"), {"role": "assistant", "content": "b"}, *user("hello there")]))
    t.check("a conversation", bool(text_of(r)), None, r)
    r = c.messages.create(**{**calm(t, "hello there"), "max_tokens": 2})
    t.check("max_tokens", r.stop_reason == "max_tokens" and r.usage.output_tokens == 2, None, r)
    r = c.messages.create(**calm(t, "hello there", extra_body={"temperature": 0, "top_p": 0.9, "top_k": 20}, metadata={"user_id": "u"}))
    t.check("top_p, top_k, metadata", bool(text_of(r)), None, r)
    raw = c.messages.with_raw_response.create(**calm(t, "hello there"))
    t.check("request-id", bool(raw.headers.get("request-id") or raw.headers.get("x-request-id")), None, dict(raw.headers))


@part()
def stops(t):
    stop = "there" if t.mock else "er is" if t.tiny else None
    if not stop:
        return
    c = client(t)
    r = c.messages.create(**calm(t, "hello there you", stop_sequences=["zzz", stop]))
    t.check("stop_sequence", r.stop_reason == "stop_sequence" and r.stop_sequence == stop and stop not in text_of(r), stop, r)
    with c.messages.stream(**calm(t, "hello there you", stop_sequences=[stop])) as s:
        text = "".join(s.text_stream)
        last = s.get_final_message()
    t.check("streamed", text == text_of(r) and last.stop_reason == "stop_sequence" and last.stop_sequence == stop, text_of(r), last)


@part()
def streams(t):
    c = client(t)
    whole = text_of(c.messages.create(**calm(t, "hello there")))
    events = list(c.messages.create(**calm(t, "hello there"), stream=True))
    kinds = [e.type for e in events if e.type != "ping"]
    once = [k for i, k in enumerate(kinds) if i == 0 or kinds[i - 1] != k]
    t.same("events", once, ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop"])
    t.same("deltas", "".join(e.delta.text for e in events if e.type == "content_block_delta"), whole)
    t.check("input tokens at the start", events[0].message.usage.input_tokens + (events[0].message.usage.cache_read_input_tokens or 0) > 0 and events[0].message.content == [], None, events[0])
    t.check("output tokens at the end", [e for e in events if e.type == "message_delta"][0].usage.output_tokens > 0)
    with c.messages.stream(**calm(t, "hello there")) as s:
        t.same("text_stream", "".join(s.text_stream), whole)
        final = s.get_final_message()
    t.check("final message", text_of(final) == whole and final.stop_reason in ("end_turn", "max_tokens"), None, final)
    t.check("its usage", final.usage.output_tokens > 0, None, final.usage)


@part(needs={"thinking"})
def thinking(t):
    c = client(t)
    on = {"type": "enabled", "budget_tokens": 1024}
    r = c.messages.create(model=t.model, max_tokens=1100, messages=user("hi"), thinking=on)
    t.same("blocks", [b.type for b in r.content], ["thinking", "text"])
    t.check("the thinking", r.content[0].thinking == tiny.THOUGHT and isinstance(r.content[0].signature, str), None, r)
    t.same("the text", text_of(r), tiny.TEXT)
    again = c.messages.create(model=t.model, max_tokens=100, thinking=on, messages=[*user("hi"), {"role": "assistant", "content": r.content}, *user("again")])
    t.same("thinking in the history", text_of(again), tiny.TEXT)
    r = c.messages.create(model=t.model, max_tokens=100, messages=user("hi"), thinking={"type": "disabled"})
    t.same("disabled", [b.type for b in r.content], ["text"])
    r = c.messages.create(model=t.model, max_tokens=100, messages=user("hi"), thinking={"type": "adaptive"})
    t.same("adaptive", [b.type for b in r.content], ["thinking", "text"])
    r = c.messages.create(model=t.model, max_tokens=100, messages=user("hi"), output_config={"effort": "low"})
    t.same("effort", [b.type for b in r.content], ["thinking", "text"])
    with c.messages.stream(model=t.model, max_tokens=100, messages=user("hi"), thinking=on) as s:
        events = list(s)
        final = s.get_final_message()
    t.same("streamed", [b.type for b in final.content], ["thinking", "text"])
    t.same("streamed thinking", "".join(e.delta.thinking for e in events if e.type == "content_block_delta" and e.delta.type == "thinking_delta"), tiny.THOUGHT)
    order = [(e.type, e.index) for e in events if e.type in ("content_block_start", "content_block_stop")]
    t.same("a block ends before the next begins", order, [("content_block_start", 0), ("content_block_stop", 0), ("content_block_start", 1), ("content_block_stop", 1)])


@part(needs={"tools"})
def tools(t):
    c = client(t)
    ask = {"model": t.model, "max_tokens": 200, "extra_body": {"temperature": 0}, "messages": user("weather?")}
    r = c.messages.create(**ask, tools=[TOOL])
    uses = [b for b in r.content if b.type == "tool_use"]
    t.check("tool_use", len(uses) == 1 and uses[0].name == "get_weather" and uses[0].input == {"city": "Paris"} and r.stop_reason == "tool_use", None, r)
    t.check("no empty text beside it", all(b.type == "tool_use" for b in r.content), None, r.content)
    with c.messages.stream(**ask, tools=[TOOL]) as s:
        events = list(s)
        final = s.get_final_message()
    parts = [e.delta.partial_json for e in events if e.type == "content_block_delta" and e.delta.type == "input_json_delta"]
    t.check("input_json_delta", parts and json.loads("".join(parts)) == {"city": "Paris"}, None, parts)
    starts = [e.content_block for e in events if e.type == "content_block_start"]
    t.check("content_block_start", len(starts) == 1 and starts[0].type == "tool_use" and starts[0].id, None, starts)
    t.check("final message", final.content[0].input == {"city": "Paris"} and final.stop_reason == "tool_use", None, final)
    turn = [*user("weather?"), {"role": "assistant", "content": r.content}]
    for name, content in (("text", "sunny"), ("blocks", [{"type": "text", "text": "sunny"}])):
        again = c.messages.create(**{**ask, "messages": [*turn, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": uses[0].id, "content": content}]}]}, tools=[TOOL],
                                  thinking={"type": "disabled"})
        t.check(f"round trip, {name}", text_of(again) == tiny.TEXT and again.stop_reason == "end_turn", content, again)
    again = c.messages.create(**{**ask, "messages": [*turn, {"role": "user", "content": [{
        "type": "tool_result", "tool_use_id": uses[0].id, "content": "broken", "is_error": True}]}]}, tools=[TOOL], thinking={"type": "disabled"})
    t.check("round trip, an error", bool(text_of(again)), None, again)
    r = c.messages.create(**ask, tools=[TOOL], tool_choice={"type": "none"}, thinking={"type": "disabled"})
    t.check("tool_choice none", not [b for b in r.content if b.type == "tool_use"], None, r)
    r = c.messages.create(**ask, tools=[TOOL, TOOL2], tool_choice={"type": "tool", "name": "get_time", "disable_parallel_tool_use": True})
    uses = [b for b in r.content if b.type == "tool_use"]
    t.check("tool_choice tool", len(uses) == 1 and uses[0].name == "get_time" and uses[0].input.get("zone") in ("UTC", "CET"), None, r)
    r = c.messages.create(**ask, tools=[TOOL, TOOL2], tool_choice={"type": "any", "disable_parallel_tool_use": True})
    t.check("tool_choice any", len([b for b in r.content if b.type == "tool_use"]) == 1, None, r)
    t.raises("tool_choice of no such tool", anthropic.BadRequestError, lambda: c.messages.create(**ask, tools=[TOOL], tool_choice={"type": "tool", "name": "nope"}), 400)


@part(needs={"format"})
def formats(t):
    c = client(t)
    config = {"format": {"type": "json_schema", "schema": SCHEMA}}
    r = c.messages.create(model=t.model, max_tokens=200, extra_body={"temperature": 1, "seed": 4}, messages=user("a thing"), output_config=config, **off(t))
    t.check("output_config.format", fits_schema(text_of(r)), config, r)
    with c.messages.stream(model=t.model, max_tokens=200, extra_body={"temperature": 1, "seed": 4}, messages=user("a thing"), output_config=config, **off(t)) as s:
        text = "".join(s.text_stream)
    t.check("streamed", fits_schema(text), config, text)
    r = c.messages.parse(model=t.model, max_tokens=200, extra_body={"temperature": 1, "seed": 4}, messages=user("a thing"), output_format=Thing, **off(t))
    t.check("parse", isinstance(r.parsed_output, Thing), None, r)
    if "thinking" in t.can:
        r = c.messages.create(model=t.model, max_tokens=1200, messages=user("a thing"), output_config=config, thinking={"type": "enabled", "budget_tokens": 1024})
        t.check("with thinking", fits_schema(text_of(r)) and r.content[0].type == "thinking", config, r)


@part()
def counts(t):
    c = client(t)
    ask = {"model": t.model, "messages": user("hello there")}
    n = c.messages.count_tokens(**ask, **off(t)).input_tokens
    r = c.messages.create(**calm(t, "hello there"))
    t.same("count_tokens is exact", n, r.usage.input_tokens + (r.usage.cache_read_input_tokens or 0) + (r.usage.cache_creation_input_tokens or 0))
    more = c.messages.count_tokens(**ask, system="Be brief and polite, and then some more. " * 8, **off(t)).input_tokens
    if not t.mock:
        t.check("a system text counts", more > n, n, more)
    if "tools" in t.can:
        with_tools = c.messages.count_tokens(**ask, tools=[TOOL]).input_tokens
        t.check("tools count", with_tools > n, n, with_tools)
    t.same("a list of texts", c.messages.count_tokens(model=t.model, messages=[{"role": "user", "content": [{"type": "text", "text": "hello there"}]}], **off(t)).input_tokens, n)


@part()
def errors(t):
    c = client(t)
    if not t.mock:
        e = t.raises("no such model", anthropic.NotFoundError, lambda: c.messages.create(model="nosuch", max_tokens=3, messages=user("x")), 404, "not found")
        body = e.body if e is not None and isinstance(e.body, dict) else {}
        t.check("its body", body.get("type") == "error" and body.get("error", {}).get("type") == "not_found_error" and str(body.get("request_id", "")).startswith("req_"), None, body)
        t.raises("no such model, streamed", anthropic.NotFoundError, lambda: c.messages.create(model="nosuch", max_tokens=3, messages=user("x"), stream=True), 404)
        t.raises("no such model to count for", anthropic.NotFoundError, lambda: c.messages.count_tokens(model="nosuch", messages=user("x")), 404)
    t.raises("no messages", anthropic.BadRequestError, lambda: c.messages.create(model=t.model, max_tokens=3, messages=[]), 400, "messages is required")
    t.raises("max_tokens 0", anthropic.BadRequestError, lambda: c.messages.create(model=t.model, max_tokens=0, messages=user("x")), 400, "max_tokens is required and must be positive")
    t.raises("no model", anthropic.BadRequestError, lambda: c.messages.create(model="", max_tokens=3, messages=user("x")), 400, "model is required")
    e = t.raises("temperature of text", anthropic.BadRequestError, lambda: c.messages.create(model=t.model, max_tokens=3, messages=user("x"), extra_body={"temperature": "hot"}), 400, "temperature")
    body = e.body if e is not None and isinstance(e.body, dict) else {}
    t.check("invalid_request_error", body.get("error", {}).get("type") == "invalid_request_error", None, body)
    t.raises("an image's URL", anthropic.BadRequestError, lambda: c.messages.create(model=t.model, max_tokens=3, messages=[{"role": "user", "content": [
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}]}]), 400)
    t.raises("nobody there", anthropic.APIConnectionError, lambda: anthropic.Anthropic(base_url="http://127.0.0.1:9", api_key="x", max_retries=0).messages.create(
        model="m", max_tokens=3, messages=user("x")))
    t.raises("no route", anthropic.NotFoundError, lambda: c.messages.batches.list(), 404)
    r = c.messages.create(**{**calm(t, "hello there"), "messages": [*user("a"), {"role": "assistant", "content": "b"}, {"role": "system", "content": "Be brief."}, *user("hello there")]})
    t.check("a system message in between", bool(text_of(r)), None, r)
    r = c.messages.create(model=t.model, max_tokens=8, messages=user("hello there"), thinking={"type": "enabled", "budget_tokens": 1024}, extra_headers={"anthropic-beta": "x-1", "anthropic-version": "2023-06-01"})
    t.check("thinking asked of any model", r.usage.output_tokens > 0, None, r)


@part()
def asynchronous(t):
    async def all_of_it():
        async with anthropic.AsyncAnthropic(base_url=t.d.url, api_key="unused", timeout=120, max_retries=0) as c:
            r = await c.messages.create(**calm(t, "hello there"))
            t.check("async create", bool(text_of(r)), None, r)
            async with c.messages.stream(**calm(t, "hello there")) as s:
                text = "".join([x async for x in s.text_stream])
            t.same("async stream", text, text_of(r))
            many = await asyncio.gather(*(c.messages.create(**calm(t, "hello there")) for _ in range(8)))
            t.check("eight at once say the same", {text_of(x) for x in many} == {text_of(r)}, text_of(r), {text_of(x) for x in many})
            t.check("async count", (await c.messages.count_tokens(model=t.model, messages=user("x"))).input_tokens > 0)
            if "tools" in t.can:
                x = await c.messages.create(model=t.model, max_tokens=200, extra_body={"temperature": 0}, messages=user("w"), tools=[TOOL])
                t.check("async tools", x.stop_reason == "tool_use", None, x)

    asyncio.run(all_of_it())
