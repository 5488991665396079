#!/usr/bin/env python3
"""One change at a time in bodies that are rich and valid: whether the server takes what /openapi.json says is valid, and refuses the rest.

schemathesis stops at an operation's first such difference; this lists all of them. The bodies hold each form that a message, a part, a tool
or a choice may have, so that every nested member is met.

    mutations.py URL [HEADER...]      with a python that has jsonschema; a mlxserve of the mock listens at URL
"""

import copy
import http.client
import json
import sys
import urllib.parse

import jsonschema

TEXT = {"type": "text", "text": "t"}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}}
NATIVE_MESSAGES = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "u", "images": [], "tool_name": "f", "tool_call_id": "c", "thinking": "t"},
    {"role": "assistant", "content": "", "thinking": "t", "tool_calls": [{"id": "c", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}]},
    {"role": "tool", "content": "1", "tool_name": "f", "tool_call_id": "c"}, {"role": "user", "content": "u"}]
OPTIONS = {"seed": 1, "num_predict": 4, "temperature": 0.5, "top_k": 3, "top_p": 0.5, "min_p": 0.1, "stop": ["x"], "repeat_last_n": 3,
           "num_ctx": 256, "num_keep": 4, "numa": True, "penalize_newline": True, "num_gpu": 1, "num_thread": 1, "mirostat": 0,
           "repeat_penalty": 1.1, "presence_penalty": 0.1, "frequency_penalty": 0.1, "typical_p": 1.0, "tfs_z": 1.0, "use_mmap": True}
OPENAI_MESSAGES = [
    {"role": "developer", "content": [TEXT], "name": "n"},
    {"role": "user", "content": "u", "name": "n"},
    {"role": "assistant", "content": None, "reasoning": "r", "reasoning_content": "r",
     "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
    {"role": "tool", "content": "1", "tool_call_id": "c"}, {"role": "user", "content": "u"}]
ANTHROPIC = {
    "model": "m", "system": [TEXT], "max_tokens": 3, "tools": [{"type": "custom", "name": "f", "description": "d", "input_schema": {"type": "object"}}],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": False},
    "messages": [
        {"role": "user", "content": [TEXT, {"type": "document", "title": "t", "context": "c", "source": {"type": "text", "media_type": "text/plain", "data": "d"}},
                                     {"type": "document", "source": {"type": "content", "content": [TEXT]}}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": ""}, {"type": "redacted_thinking", "data": ""}, TEXT,
                                          {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": [TEXT], "is_error": False}, TEXT]},
        {"role": "system", "content": [TEXT]}, {"role": "user", "content": "u"}]}
# (method, path) to bodies. Those of generations are short.
BODIES = {
    ("POST", "/api/generate"): [
        {"model": "m", "prompt": "p", "suffix": "", "system": "s", "template": "", "stream": False, "raw": False, "keep_alive": "5m", "format": "",
         "think": False, "context": [1, 2], "options": OPTIONS, "logprobs": False, "top_logprobs": 0, "truncate": True, "shift": True, "receipt": False},
        {"model": "m", "prompt": "p", "raw": True, "options": {"stop": "x"}, "keep_alive": 1}],
    ("POST", "/api/chat"): [
        {"model": "m", "messages": NATIVE_MESSAGES, "tools": [TOOL], "stream": False, "options": OPTIONS, "keep_alive": -1, "tool_choice": "auto",
         "parallel_tool_calls": True, "receipt": False, "truncate": True},
        {"model": "m", "messages": [], "tools": [], "tool_choice": {"type": "function", "function": {"name": "f"}}}],
    ("POST", "/api/tokenize"): [{"model": "m", "messages": NATIVE_MESSAGES, "keep_alive": 0, "options": {"num_ctx": 64}}, {"model": "m", "content": "c", "with_pieces": True}],
    ("POST", "/api/embed"): [{"model": "m", "input": ["a", [1, 2]], "truncate": True, "dimensions": 0, "keep_alive": "1s", "options": OPTIONS}, {"model": "m", "input": "a"}],
    ("POST", "/api/embeddings"): [{"model": "m", "prompt": "a", "keep_alive": "1s", "options": OPTIONS}],
    ("POST", "/v1/chat/completions"): [
        {"model": "m", "messages": OPENAI_MESSAGES, "tools": [TOOL], "tool_choice": "auto", "stream": False, "stream_options": {"include_usage": True, "include_obfuscation": False},
         "max_tokens": 3, "max_completion_tokens": 3, "temperature": 0.5, "top_p": 0.5, "stop": ["x"], "seed": 1, "n": 1, "logprobs": True, "top_logprobs": 2,
         "response_format": {"type": "text"}, "logit_bias": {"1": 2}, "reasoning": {}, "options": OPTIONS, "parallel_tool_calls": True, "metadata": {"a": "b"}, "store": False,
         "user": "u", "frequency_penalty": 0.1, "presence_penalty": 0.1, "service_tier": "auto", "modalities": ["text"], "verbosity": "low"},
        {"model": "m", "messages": [{"role": "user", "content": "u"}], "stop": "x", "response_format": {"type": "text"}, "tool_choice": "none"}],
    ("POST", "/v1/completions"): [
        {"model": "m", "prompt": "p", "max_tokens": 2, "stop": ["x"], "logit_bias": {"1": 2}, "stream_options": {"include_usage": True}, "options": OPTIONS, "best_of": 1, "n": 1,
         "suffix": "", "echo": False, "seed": 1, "temperature": 1, "template": False},
        {"model": "m", "prompt": ["p", "q"], "max_tokens": 2}, {"model": "m", "prompt": [1, 2], "max_tokens": 2}, {"model": "m", "prompt": [[1], [2]], "max_tokens": 2}],
    ("POST", "/v1/embeddings"): [{"model": "m", "input": ["a"], "encoding_format": "float", "dimensions": 4, "user": "u"}, {"model": "m", "input": [[1, 2]]}, {"model": "m", "input": [1]}],
    ("POST", "/v1/responses"): [
        {"model": "m", "instructions": "i", "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "t"}]}, {"type": "reasoning", "summary": [], "encrypted_content": "r"},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}, {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "1"}]},
            {"type": "web_search_call"}, {"role": "user", "content": "u"}],
         "tools": [{"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}, {"type": "namespace", "name": "s", "tools": [
             {"type": "function", "name": "g", "description": "d", "parameters": {"type": "object"}}]}],
         "tool_choice": "auto", "text": {"format": {"type": "text"}}, "reasoning": {}, "max_output_tokens": 3, "metadata": {}, "include": [], "truncation": "disabled",
         "stream": False, "stream_options": {"include_obfuscation": False}, "options": OPTIONS, "store": False, "parallel_tool_calls": True, "temperature": 1},
        {"model": "m", "input": "i"}],
    ("POST", "/v1/messages"): [
        {**ANTHROPIC, "stop_sequences": ["x"], "temperature": 1, "top_k": 1, "top_p": 0.5, "metadata": {"user_id": "u"}, "thinking": {"type": "disabled"}, "stream": False,
         "service_tier": "auto"},
        {"model": "m", "max_tokens": 1, "system": "s", "messages": [{"role": "user", "content": "u"}], "tools": [], "tool_choice": {"type": "none"}}],
    ("POST", "/v1/messages/count_tokens"): [{k: v for k, v in ANTHROPIC.items() if k != "max_tokens"}],
    ("POST", "/api/show"): [{"model": "none", "verbose": True, "system": "", "template": "", "options": {}}],
    ("POST", "/api/copy"): [{"source": "none", "destination": "b"}],
    ("DELETE", "/api/delete"): [{"model": "none"}],
    ("POST", "/api/verify"): [{"model": "none", "deep": False, "stream": False}],
    ("POST", "/api/create"): [
        {"model": "a", "from": "none", "system": "s", "template": "t", "parameters": OPTIONS, "license": ["l"], "messages": [{"role": "user", "content": "u"}], "stream": False, "quantize": ""},
        {"model": "a", "files": {"a.gguf": "sha256:" + "0" * 64}, "adapters": {}, "stream": False, "license": "l"}],
}
VALUES = [None, "", "AAA", {}, [], {"a": 1}, ["AAA"], [{}], [None], 0, -1, 1, 1.5, 70000, -10**19, 10**19, 1e300, True, False]


def places(value, at=()):
    """Every place in a body but the whole."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in items:
        yield (*at, key)
        yield from places(member, (*at, key))


def changed(body, place, value, *, gone=False):
    body = copy.deepcopy(body)
    where = body
    for key in place[:-1]:
        where = where[key]
    if gone:
        del where[place[-1]]
    else:
        where[place[-1]] = copy.deepcopy(value)
    return body


def mutants(body):
    """(what was changed, body)"""
    yield "as it is", body
    for place in places(body):
        name = ".".join("*" if isinstance(p, int) else p for p in place)
        yield f"{name} gone", changed(body, place, None, gone=True)
        for value in VALUES:
            yield f"{name} = {json.dumps(value)}", changed(body, place, value)


# Beyond these words a valid request may be refused by the mock, which keeps to no form, does not think and has no way to insert; and a valid
# create names files and models that are not there.
MOCK_LACKS = ("works with a model alone", "does not support", "mock:", "upload it first", "is no parameter", "parameter \\\"", "quantization type")


def differences(host, port, headers, document):
    """(how many requests, texts of what is taken though the description says no, and the other way round, and of answers that are failures)"""
    connection = http.client.HTTPConnection(host, port, timeout=60)
    found, n = [], 0
    for (method, path), bodies in BODIES.items():
        schema = document["paths"][path][method.lower()]["requestBody"]["content"]["application/json"]["schema"]
        validator = jsonschema.Draft202012Validator({**schema, "components": document["components"]})
        for i, body in enumerate(bodies):
            for what, mutant in mutants(body):
                n += 1
                connection.request(method, path, json.dumps(mutant), {"Content-Type": "application/json", **headers})
                r = connection.getresponse()
                text = r.read().decode("utf-8", "replace")[:200]
                error = jsonschema.exceptions.best_match(validator.iter_errors(mutant))
                if r.status >= 500 and r.status != 502:  # 502: the model was looked for at a hub that is not there
                    found.append(f"{method} {path} #{i}: {what}: answered {r.status}: {text}")
                elif error is not None and r.status not in (400, 404):
                    found.append(f"{method} {path} #{i}: {what}: taken ({r.status}), the description says: {'.'.join(map(str, error.absolute_path))}: {error.message[:150]}")
                elif error is None and r.status == 400 and not any(words in text for words in MOCK_LACKS):
                    found.append(f"{method} {path} #{i}: {what}: valid, and refused: {text}")
    return n, found


def main():
    url = urllib.parse.urlsplit(sys.argv[1])
    headers = dict(h.split(": ", 1) for h in sys.argv[2:])
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    connection.request("GET", "/openapi.json", headers=headers)
    n, found = differences(url.hostname, url.port, headers, json.loads(connection.getresponse().read()))
    for text in found[:60]:
        print(text)
    print(f"{n} requests, {len(found)} differences")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
