"""What test_schemathesis.py teaches schemathesis: the lines and events of streams, and what the mock cannot do."""

import json
import os

import jsonschema
import schemathesis
from schemathesis import GenerationMode

from daemon import read_sse

STREAMS = ("application/x-ndjson", "text/event-stream")


def items_of(content_type, body):
    """(what it is, object) of each line or event of a stream."""
    if content_type == "application/x-ndjson":
        if body and not body.endswith(b"\n"):
            raise AssertionError("the stream's last line has no end")
        return [("line", json.loads(line)) for line in body.splitlines()]
    return [("event", data) for _, data in read_sse(body.splitlines(keepends=True)) if data != "[DONE]"]


@schemathesis.check
def stream_conforms(ctx, response, case):
    """Each line of a stream is as the description says of the stream's type, which OpenAPI 3.1 has no word for."""
    kind = (response.headers.get("content-type") or [""])[0].split(";")[0].strip()
    if kind not in STREAMS:
        return
    document = case.operation.schema.raw_schema
    operation = document["paths"][case.operation.path][case.operation.method.lower()]
    schema = operation["responses"][str(response.status_code)]["content"][kind]["schema"]
    if kind == "text/event-stream":
        data = schema["properties"]["data"]
        schema = next(s for s in data.get("anyOf", [data]) if "contentSchema" in s)["contentSchema"]
    validator = jsonschema.Draft202012Validator({**schema, "components": document["components"]})
    for what, item in items_of(kind, response.content):
        for error in validator.iter_errors(item):
            raise AssertionError(f"a {what} of the stream is not as described: {error.message[:300]}\n{json.dumps(item)[:500]}")


# Fixed words have no form: the mock answers 400 to what a model would keep to. What makes such a request otherwise valid is taken out of
# it; requests that are meant to be wrong stay as they are, and a model's own run (MLXR_SCHEMATHESIS_MODEL) takes all.
FORMS = {
    "format": lambda v: v not in ("", None),
    "grammar": lambda v: v is not None,
    "regex": lambda v: v is not None,
    "receipt": lambda v: bool(v),  # /v1/completions has none for several prompts, a rule between two fields
    "think": lambda v: v not in (False, None),
    "thinking": lambda v: v is not None,
    "reasoning_effort": lambda v: v not in ("none", None),
    "reasoning": lambda v: v is not None,
    "output_config": lambda v: v is not None,
    "response_format": lambda v: v is not None and v != {"type": "text"},
    "text": lambda v: isinstance(v, dict),
    "output_format": lambda v: v is not None,
    "tool_choice": lambda v: v not in ("auto", "none", None),
}


def once_each(tools):
    """Two tools of one name are refused, which no schema can say: the first of each. A namespace's tools are named as "space.tool"."""
    seen, kept = set(), []
    for tool in tools:
        if isinstance(tool.get("tools"), list):
            tool = {**tool, "tools": [t for t in tool["tools"] if not (f"{tool.get('name')}.{t.get('name')}" in seen or seen.add(f"{tool.get('name')}.{t.get('name')}"))]}
        else:
            name = tool.get("name") or (tool.get("function") or {}).get("name")
            if name is not None and (name in seen or seen.add(name)):
                continue
        kept.append(tool)
    return kept


@schemathesis.hook
def before_call(ctx, case, kwargs):
    if os.environ.get("MLXR_SCHEMATHESIS_MODEL") or not isinstance(case.body, dict):
        return
    if case.meta is not None and case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    case.body = {k: v for k, v in case.body.items() if not (k in FORMS and FORMS[k](v))}
    if isinstance(case.body.get("tools"), list):
        case.body["tools"] = once_each(case.body["tools"])
    # Nor have they room for an insertion, or a likelihood where they are only repeated.
    if case.operation.path in ("/api/generate", "/v1/completions"):
        case.body.pop("suffix", None)
    if case.operation.path == "/v1/completions" and case.body.get("logprobs") is not None:
        case.body.pop("echo", None)
