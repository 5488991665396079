#!/usr/bin/env python3
"""Writes outputs.jsonl: answers as the models of each format write them, and the parts that they are.

    python3 make_outputs.py > outputs.jsonl

One object a line: "name", "format", "output", "parts", and where they differ from the default "starts_thinking" (false), "calls" (true),
"tools" (null). Parts: {"thinking"}, {"content"}, {"content", "warning": true}, {"call", "arguments", "json", "id"}: json is the exact
text of the arguments (by default as compact JSON of "arguments"). The texts follow the models' chat templates and model cards.
"""
import json

def t(text): return {"thinking": text}
def c(text): return {"content": text}
def w(text): return {"content": text, "warning": True}
def f(name, arguments, **more):
    text = json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
    return {"call": name, "arguments": arguments, "json": text} | more

TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "The weather", "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string"}, "days": {"type": "integer"}, "ratio": {"type": "number"}, "exact": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string"}}, "where": {"$ref": "#/$defs/place"},
            "unit": {"enum": ["celsius", "fahrenheit"]}, "note": {"type": ["string", "null"]},
            "size": {"anyOf": [{"type": "integer"}, {"type": "null"}]}, "zip": {"type": "string"}},
        "$defs": {"place": {"type": "object", "properties": {"lat": {"type": "number"}}}},
        "required": ["city"]}}},
    {"name": "write_file", "parameters": {"type": "object", "properties": {"path": {"type": "string"}, "text": {"type": "string"}}}},
]

cases = []
def case(name, format, output, *parts, **options):
    cases.append({"name": name, "format": format, "output": output, "parts": list(parts)} | options)

# ---- plain, think ----
case("plain text", "plain", " Hello,\n\n  world. \n", c(" Hello,\n\n  world. \n"))
case("plain keeps every marker", "plain", "<think>a</think><tool_call>{}</tool_call>", c("<think>a</think><tool_call>{}</tool_call>"))
case("empty", "plain", "")
case("thinking, then content", "think", "<think>\nFirst.\n\nThen.\n</think>\n\nHello", t("First.\n\nThen."), c("Hello"))
case("thinking that the prompt began", "think", "First.\n</think>\n\nHello", t("First."), c("Hello"), starts_thinking=True)
case("the marker once more", "think", "<think>\nFirst.\n</think>\nHello", t("First."), c("Hello"), starts_thinking=True)
case("thinking cut off", "think", "<think>\nFirst, then", t("First, then"))
case("empty thinking", "think", "<think>\n\n</think>\n\nHello", c("Hello"))
case("no beginning of thinking", "think", "</think>\n\nHello", c("Hello"))
case("an indented line behind thinking", "think", "<think>a</think>\n\n    x = 1\n", t("a"), c("    x = 1\n"))
case("a space behind thinking", "think", "<think>a</think> Hello", t("a"), c("Hello"))
case("two blocks", "think", "<think>a</think>\n<think>b</think>\nHello", t("ab"), c("Hello"))
case("a marker in content is content", "think", "In HTML, `<think>` is no tag, nor is </think>.", c("In HTML, `<think>` is no tag, nor is </think>."))
case("a partial marker at the end", "think", "<thi", c("<thi"))
case("line ends before thinking", "think", "\n\n<think>a</think>b", t("a"), c("b"))
case("unicode", "think", "<think>日本語 🎉</think>\n\nOlá, 世界 👩‍👩‍👧", t("日本語 🎉"), c("Olá, 世界 👩‍👩‍👧"))

# ---- hermes ----
W = {"city": "Paris", "days": 3}
case("one call", "hermes", '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}\n</tool_call>', f("get_weather", W))
case("thinking, content, two calls", "hermes",
     '<think>\nI need both.\n</think>\n\nI will look it up.\n\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>\n'
     '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln", "where": {"lat": -1.50, "tags": [[], {}, null, true, 1e-7]}}}\n</tool_call>',
     t("I need both."), c("I will look it up."), f("get_weather", {"city": "Paris"}),
     f("get_weather", {"city": "Köln", "where": {"lat": -1.5, "tags": [[], {}, None, True, 1e-7]}}) | {"json": '{"city":"Köln","where":{"lat":-1.50,"tags":[[],{},null,true,1e-7]}}'})
case("text behind a call", "hermes", '<tool_call>{"name": "a", "arguments": {}}</tool_call>\nDone.\n', f("a", {}), c("Done.\n"))
case("arguments first", "hermes", '<tool_call>\n{"arguments": {"city": "Paris"}, "name": "get_weather"}\n</tool_call> ', f("get_weather", {"city": "Paris"}))
case("parameters for arguments", "hermes", '<tool_call>{"name": "a", "parameters": {"x": 1}}</tool_call>', f("a", {"x": 1}))
case("arguments as text", "hermes", '<tool_call>{"name": "a", "arguments": "{\\"x\\": \\"y\\\\n\\"}"}</tool_call>', f("a", {"x": "y\n"}))
case("no arguments", "hermes", '<tool_call>{"name": "a"}</tool_call>', f("a", {}))
case("null arguments", "hermes", '<tool_call>{"name": "a", "arguments": null}</tool_call>', f("a", {}))
case("an id", "hermes", '<tool_call>{"id": "call_7", "name": "a", "arguments": {}}</tool_call>', f("a", {}, id="call_7"))
case("as OpenAI's API has it", "hermes", '<tool_call>{"type": "function", "function": {"name": "a", "arguments": {"n": 9007199254740993}}}</tool_call>', f("a", {"n": 9007199254740993}))
case("no closing marker", "hermes", 'Yes. <tool_call>\n{"name": "a", "arguments": {"x": "</tool_call>"}}', c("Yes."), f("a", {"x": "</tool_call>"}))
case("a list in one marker", "hermes", '<tool_call>[{"name": "a", "arguments": {}}, {"name": "b", "arguments": {}}]</tool_call>', f("a", {}), f("b", {}))
case("one marker for two", "hermes", '<tool_call>\n{"name": "a", "arguments": {}}\n</tool_call> {"name": "b", "arguments": {}}\n</tool_call>', f("a", {}), f("b", {}))
case("exact integers", "hermes", '<tool_call>{"name": "a", "arguments": {"n": 9007199254740993, "m": -9223372036854775808, "x": 0.1}}</tool_call>',
     {"call": "a", "json": '{"n":9007199254740993,"m":-9223372036854775808,"x":0.1}'})
case("escapes stay", "hermes", '<tool_call>{"name": "a", "arguments": {"s": "\\u00e9\\ud83d\\ude00 \\"q\\" \\\\ \\/"}}</tool_call>',
     {"call": "a", "json": '{"s":"\\u00e9\\ud83d\\ude00 \\"q\\" \\\\ \\/"}'})
case("a name that no tool has", "hermes", '<tool_call>{"name": "nobody", "arguments": {}}</tool_call>', f("nobody", {}), tools=TOOLS)
case("calls not wanted", "hermes", 'x <tool_call>{"name": "a", "arguments": {}}</tool_call>', c('x <tool_call>{"name": "a", "arguments": {}}</tool_call>'), calls=False)
case("not JSON", "hermes", 'So:\n<tool_call>\n{"name": "a", "arguments": {x: 1}}\n</tool_call>\nok', c("So:"), w('\n<tool_call>\n{"name": "a", "arguments": {x: 1}}\n</tool_call>\nok'))
case("cut off", "hermes", 'So: <tool_call>\n{"name": "a", "arguments": {"x": "1', c("So:"), w(' <tool_call>\n{"name": "a", "arguments": {"x": "1'))
case("cut off in the marker", "hermes", "So: <tool_ca", c("So: <tool_ca"))
case("cut off behind the marker", "hermes", "<tool_call>", w("<tool_call>"))
case("no name", "hermes", '<tool_call>{"arguments": {}}</tool_call>', w('<tool_call>{"arguments": {}}</tool_call>'))
case("arguments that are no object", "hermes", '<tool_call>{"name": "a", "arguments": [1]}</tool_call>', w('<tool_call>{"name": "a", "arguments": [1]}</tool_call>'))
case("a key twice", "hermes", '<tool_call>{"name": "a", "arguments": {"x": 1, "x": 2}}</tool_call>', w('<tool_call>{"name": "a", "arguments": {"x": 1, "x": 2}}</tool_call>'))
case("text for a call", "hermes", "<tool_call>get_weather</tool_call>", w("<tool_call>get_weather</tool_call>"))
case("a good call behind a bad one", "hermes", '<tool_call>{"name": a}</tool_call>\n<tool_call>{"name": "b", "arguments": {}}</tool_call>', w('<tool_call>{"name": a}</tool_call>'), f("b", {}))
case("a bad call behind a good one", "hermes", '<tool_call>{"name": "b", "arguments": {}}</tool_call>\n<tool_call>{"name": a}</tool_call>', f("b", {}), w('<tool_call>{"name": a}</tool_call>'))
case("a marker in a sentence", "hermes", "The marker <tool_call> opens a call.", c("The marker"), w(" <tool_call> opens a call."))
case("thinking about a call", "hermes", '<think>I write <tool_call>{"name": "a"}</tool_call> now</think><tool_call>{"name": "a", "arguments": {}}</tool_call>',
     t('I write <tool_call>{"name": "a"}</tool_call> now'), f("a", {}))
case("a call, then thinking", "hermes", '<tool_call>{"name": "a", "arguments": {}}</tool_call><think>b</think>c', f("a", {}), t("b"), c("c"))
case("depth", "hermes", '<tool_call>{"name": "a", "arguments": {"x": ' + "[" * 100 + "]" * 100 + '}}</tool_call>', {"call": "a", "json": '{"x":' + "[" * 100 + "]" * 100 + "}"})
case("too deep", "hermes", '<tool_call>{"name": "a", "arguments": {"x": ' + "[" * 600 + "]" * 600 + '}}</tool_call>', w('<tool_call>{"name": "a", "arguments": {"x": ' + "[" * 600 + "]" * 600 + '}}</tool_call>'))

# ---- qwen3-coder ----
X = ("<tool_call>\n<function=get_weather>\n<parameter=city>\nSão Paulo\n</parameter>\n<parameter=days>\n3\n</parameter>\n<parameter=exact>\nTrue\n</parameter>\n"
     "<parameter=tags>\n[\"a\", \"b\"]\n</parameter>\n<parameter=where>\n{\"lat\": -1.5}\n</parameter>\n<parameter=zip>\n01234\n</parameter>\n</function>\n</tool_call>")
case("typed by the schema", "qwen3-coder", X, f("get_weather", {"city": "São Paulo", "days": 3, "exact": True, "tags": ["a", "b"], "where": {"lat": -1.5}, "zip": "01234"}), tools=TOOLS)
case("typed by its look", "qwen3-coder", X, f("get_weather", {"city": "São Paulo", "days": 3, "exact": "True", "tags": ["a", "b"], "where": {"lat": -1.5}, "zip": "01234"}))
case("text of several lines", "qwen3-coder",
     "I will write it.\n\n<tool_call>\n<function=write_file>\n<parameter=path>\na.py\n</parameter>\n<parameter=text>\n\ndef f(x):\n    return \"<b>\" if x < 1 else '</function>'\n\n</parameter>\n</function>\n</tool_call>",
     c("I will write it."), f("write_file", {"path": "a.py", "text": "\ndef f(x):\n    return \"<b>\" if x < 1 else '</function>'\n"}), tools=TOOLS)
case("numbers, null, enum", "qwen3-coder",
     "<tool_call>\n<function=get_weather>\n<parameter=city>\n42\n</parameter>\n<parameter=ratio>\n2.50\n</parameter>\n<parameter=note>\nnull\n</parameter>\n<parameter=size>\nNone\n</parameter>\n<parameter=unit>\ncelsius\n</parameter>\n<parameter=days>\nmany\n</parameter>\n</function>\n</tool_call>",
     f("get_weather", {"city": "42", "ratio": 2.5, "note": None, "size": None, "unit": "celsius", "days": "many"}) | {"json": '{"city":"42","ratio":2.50,"note":null,"size":null,"unit":"celsius","days":"many"}'}, tools=TOOLS)
case("Python's lists", "qwen3-coder", "<tool_call>\n<function=get_weather>\n<parameter=tags>\n['a', 'b']\n</parameter>\n</function>\n</tool_call>", f("get_weather", {"tags": ["a", "b"]}), tools=TOOLS)
case("a list and more", "qwen3-coder", "<tool_call>\n<function=get_weather>\n<parameter=tags>\n['a'], days=3\n</parameter>\n</function>\n</tool_call>", f("get_weather", {"tags": "['a'], days=3"}), tools=TOOLS)
case("no parameters", "qwen3-coder", "<tool_call>\n<function=now>\n</function>\n</tool_call>", f("now", {}))
case("without the outer marker", "qwen3-coder", "Yes.\n<function=now>\n</function>\n</tool_call>", c("Yes."), f("now", {}))
case("two calls and thinking", "qwen3-coder", "Hm.\n</think>\n\n<tool_call>\n<function=a>\n</function>\n</tool_call>\n<tool_call>\n<function=b>\n<parameter=x>\n1\n</parameter>\n</function>\n</tool_call>",
     t("Hm."), f("a", {}), f("b", {"x": 1}), starts_thinking=True)
case("cut off", "qwen3-coder", "Ok <tool_call>\n<function=a>\n<parameter=x>\n1\n", c("Ok"), w(" <tool_call>\n<function=a>\n<parameter=x>\n1\n"))
case("text between parameters", "qwen3-coder", "<tool_call>\n<function=a>\nhello\n</function>\n</tool_call>", w("<tool_call>\n<function=a>\nhello\n</function>\n</tool_call>"))
case("JSON in its place", "qwen3-coder", '<tool_call>\n{"name": "a"}\n</tool_call>', w('<tool_call>\n{"name": "a"}\n</tool_call>'))

# ---- llama ----
L = '{"name": "get_weather", "parameters": {"city": "Paris", "days": "3"}}'
case("a call is the answer", "llama3-json", L, f("get_weather", {"city": "Paris", "days": "3"}))
case("python_tag", "llama3-json", "<|python_tag|>" + L + "<|eom_id|>", f("get_weather", {"city": "Paris", "days": "3"}))
case("several", "llama3-json", '{"name": "a", "parameters": {}}; {"name": "b", "parameters": {}}', f("a", {}), f("b", {}))
case("with a type", "llama3-json", '{"type": "function", "name": "a", "parameters": {"x": [1]}}', f("a", {"x": [1]}))
case("a built-in tool", "llama3-json", '<|python_tag|>brave_search.call(query="menlo park \\"weather\\"")', f("brave_search", {"query": 'menlo park "weather"'}))
case("code", "llama3-json", "<|python_tag|>print(1 + 1)", w("<|python_tag|>print(1 + 1)"))
case("JSON that is no call", "llama3-json", '{"answer": 42, "name": "Bob"}', c('{"answer": 42, "name": "Bob"}'))
case("JSON with a name", "llama3-json", '{"name": "Bob", "age": 42}', c('{"name": "Bob", "age": 42}'))
case("no tools", "llama3-json", L, c(L), calls=False)
case("text", "llama3-json", 'Use {"name": "a", "parameters": {}} for that.', c('Use {"name": "a", "parameters": {}} for that.'))
case("cut off", "llama3-json", '{"name": "a", "parameters": {"x"', w('{"name": "a", "parameters": {"x"'))
case("behind thinking", "llama3-json", '<think>\na\n</think>\n\n{"name": "a", "parameters": {}}', t("a"), f("a", {}))
case("text behind it", "llama3-json", '{"name": "a", "parameters": {}}\nThat is it.', f("a", {}), c("That is it."))
case("objects one after another", "llama4-json", '<|python_start|>I look.<|python_end|>{"name": "a", "parameters": {}}{"name": "b", "parameters": {"x": 1}}<|eot|>', c("I look."), f("a", {}), f("b", {"x": 1}))
case("nothing before the object", "llama4-json", '{"name": "a", "parameters": {}}', f("a", {}))
case("empty content", "llama4-json", '<|python_start|><|python_end|>{"name": "a", "parameters": {}}', f("a", {}))
case("Python", "llama4-json", "<|python_start|>[a(x=1), b()]<|python_end|>", f("a", {"x": 1}), f("b", {}))
case("no call", "llama4-json", "[see](x) that", c("[see](x) that"))
case("list of calls", "llama-pythonic", "[get_weather(city='São Paulo', days=-3, exact=True), write_file(path=\"a\\tb\", text='''x\n\"y\"''')]",
     f("get_weather", {"city": "São Paulo", "days": -3, "exact": True}), f("write_file", {"path": "a\tb", "text": 'x\n"y"'}))
case("nested", "llama-pythonic", '[f(a=[1, 2.5, [], ()], b={"k": None, \'l\': {"m": False}}, c=1e5, d=-.5, e=1_000)]',
     {"call": "f", "json": '{"a":[1,2.5,[],[]],"b":{"k":null,"l":{"m":false}},"c":1e5,"d":-0.5,"e":1000}'})
case("quotes", "llama-pythonic", r"""[f(a='it\'s', b="a)b]\"", c='\u00e9\x41\\n', d=r'\d')]""", f("f", {"a": "it's", "b": 'a)b]"', "c": "éA\\n", "d": "\\d"}))
case("Llama 4's markers", "llama-pythonic", "<|python_start|>[f(a=1)]<|python_end|>", f("f", {"a": 1}))
case("no arguments, dotted name", "llama-pythonic", "[a.b()]", f("a.b", {}))
case("a citation", "llama-pythonic", "[1] says so, [see](http://x).", c("[1] says so, [see](http://x)."))
case("a link", "llama-pythonic", "[link](http://x) and more", c("[link](http://x) and more"))
case("positional arguments", "llama-pythonic", "[f(1)]", c("[f(1)]"))
case("an expression", "llama-pythonic", "<|python_start|>[f(a=1+x)]", w("<|python_start|>[f(a=1+x)]"))
case("cut off in the list", "llama-pythonic", "<|python_start|>[f(a=1), g(b='", f("f", {"a": 1}), w(", g(b='"))
case("a list not closed", "llama-pythonic", "[f(a=1)", f("f", {"a": 1}))

# ---- mistral ----
case("list of JSON", "mistral", '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}}, {"name": "a", "arguments": {}, "id": "abcdefghi"}]',
     f("get_weather", {"city": "Paris"}), f("a", {}, id="abcdefghi"))
case("text first", "mistral", 'Sure.[TOOL_CALLS][{"name": "a", "arguments": {}}]', c("Sure."), f("a", {}))
case("a single object", "mistral", '[TOOL_CALLS]{"name": "a", "arguments": {}}', f("a", {}))
case("an empty list", "mistral", "[TOOL_CALLS][]", w("[TOOL_CALLS][]"))
case("not a list", "mistral", "[TOOL_CALLS] none", w("[TOOL_CALLS] none"))
case("a bad item", "mistral", '[TOOL_CALLS][{"name": "a", "arguments": {}}, {"name": 1}]', f("a", {}), w(', {"name": 1}]'))
case("name and arguments", "mistral-v11", '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}[TOOL_CALLS]a[ARGS]{}', f("get_weather", {"city": "Paris"}), f("a", {}))
case("with an id", "mistral-v11", '[TOOL_CALLS]get_weather[CALL_ID]abc123xyz[ARGS]{"city": "Paris"}', f("get_weather", {"city": "Paris"}, id="abc123xyz"))
case("no marker between", "mistral-v11", '[TOOL_CALLS]a{"x": 1}', f("a", {"x": 1}))
case("thinking", "mistral-v11", '[THINK]Let me see.\n[/THINK]Hello', t("Let me see."), c("Hello"))
case("thinking behind text", "mistral-v11", 'Well [THINK]hm[/THINK] yes', c("Well"), t("hm"), c("yes"))
case("thinking and a call", "mistral-v11", '[THINK]a[/THINK]b[TOOL_CALLS]c[ARGS]{"d": "[TOOL_CALLS]"}', t("a"), c("b"), f("c", {"d": "[TOOL_CALLS]"}))
case("the older list", "mistral-v11", '[TOOL_CALLS] [{"name": "a", "arguments": {}}]', f("a", {}))
case("arguments that are not JSON", "mistral-v11", "[TOOL_CALLS]a[ARGS]{'x': 1}", w("[TOOL_CALLS]a[ARGS]{'x': 1}"))
case("no name", "mistral-v11", "[TOOL_CALLS] of [1]", w("[TOOL_CALLS] of [1]"))

# ---- harmony ----
H = "<|channel|>analysis<|message|>Need the weather.<|end|><|start|>assistant"
case("a call", "harmony", H + '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Paris"}<|call|>', t("Need the weather."), f("get_weather", {"city": "Paris"}))
case("recipient first", "harmony", H + ' to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Paris"}', t("Need the weather."), f("get_weather", {"city": "Paris"}))
case("final", "harmony", H + "<|channel|>final<|message|>Hello <b>you</b>\n<|return|>", t("Need the weather."), c("Hello <b>you</b>\n"))
case("preamble and call", "harmony", '<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>commentary to=functions.a<|constrain|>json<|message|>{}<|call|>', c("I look."), f("a", {}))
case("two of a kind", "harmony", "<|channel|>analysis<|message|>One.<|end|><|start|>assistant<|channel|>analysis<|message|>Two.<|end|><|start|>assistant<|channel|>final<|message|>Three", t("One.\nTwo."), c("Three"))
case("no head", "harmony", "Just text.", c("Just text."))
case("calls not wanted", "harmony", '<|channel|>commentary to=functions.a<|message|>{"x": 1}<|call|>', c('{"x": 1}'), calls=False)
case("arguments that are not JSON", "harmony", '<|channel|>analysis to=python code<|message|>print(1)<|call|>', w('<|channel|>analysis to=python code<|message|>print(1)'))
case("cut off", "harmony", '<|channel|>commentary to=functions.a<|message|>{"x": ', w('<|channel|>commentary to=functions.a<|message|>{"x": '))
case("a head cut off", "harmony", '<|channel|>anal', w('<|channel|>anal'))
case("two calls", "harmony", '<|channel|>commentary to=functions.a<|message|>{}<|call|><|start|>assistant<|channel|>commentary to=functions.b<|message|>{}<|call|>', f("a", {}), f("b", {}))

# ---- deepseek ----
DB, DE, CB, CE, SEP = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"
case("two calls", "deepseek-v3", f'Ok.{DB}{CB}function{SEP}get_weather\n```json\n{{"city": "Paris"}}\n```{CE}\n{CB}function{SEP}a\n```json\n{{}}\n```{CE}{DE}', c("Ok."), f("get_weather", {"city": "Paris"}), f("a", {}))
case("thinking", "deepseek-v3", f"<think>\nhm\n</think>\n\n{DB}{CB}function{SEP}a\n```json\n{{}}\n```{CE}{DE}", t("hm"), f("a", {}))
case("no outer marker", "deepseek-v3", f"{CB}function{SEP}a\n```json\n{{}}\n```{CE}", f("a", {}))
case("not JSON", "deepseek-v3", f"{DB}{CB}function{SEP}a\n```json\nx\n```{CE}{DE}", w(f"{DB}{CB}function{SEP}a\n```json\nx\n```{CE}{DE}"))
case("two calls", "deepseek-v3.1", f'hm</think>Ok.{DB}{CB}get_weather{SEP}{{"city": "Paris"}}{CE}{CB}a{SEP}{{}}{CE}{DE}', t("hm"), c("Ok."), f("get_weather", {"city": "Paris"}), f("a", {}), starts_thinking=True)
case("cut off", "deepseek-v3.1", f'{DB}{CB}a{SEP}{{', w(f'{DB}{CB}a{SEP}{{'))
D = "｜DSML｜"
case("two calls", "deepseek-v3.2",
     f'hm</think>Ok.\n\n<{D}function_calls>\n<{D}invoke name="get_weather">\n<{D}parameter name="city" string="true">42</{D}parameter>\n<{D}parameter name="days" string="false">3</{D}parameter>\n<{D}parameter name="tags" string="false">["a"]</{D}parameter>\n</{D}invoke>\n<{D}invoke name="a">\n</{D}invoke>\n</{D}function_calls>',
     t("hm"), c("Ok."), f("get_weather", {"city": "42", "days": 3, "tags": ["a"]}), f("a", {}), starts_thinking=True)
case("text stays", "deepseek-v3.2", f'<{D}function_calls>\n<{D}invoke name="w">\n<{D}parameter name="t" string="true">\n a "b"\n</{D}parameter>\n</{D}invoke>\n</{D}function_calls>', f("w", {"t": '\n a "b"\n'}))
case("text in the section", "deepseek-v3.2", f'<{D}function_calls>\nno', w(f'<{D}function_calls>\nno'))

# ---- glm ----
case("4.5", "glm", "\n<think>hm</think>\nOk.\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>\n<tool_call>a\n</tool_call>",
     t("hm"), c("Ok."), f("get_weather", {"city": "Paris", "days": 3}), f("a", {}), tools=TOOLS)
case("4.7", "glm4.7", "hm</think>Ok.<tool_call>get_weather<arg_key>zip</arg_key><arg_value>007</arg_value><arg_key>where</arg_key><arg_value>{\"lat\": 1}</arg_value></tool_call><tool_call>a</tool_call>",
     t("hm"), c("Ok."), f("get_weather", {"zip": "007", "where": {"lat": 1}}), f("a", {}), tools=TOOLS, starts_thinking=True)
case("no thinking", "glm4.7", "</think>Hello", c("Hello"))
case("cut off", "glm4.7", "<tool_call>a<arg_key>x</arg_key><arg_value>1</arg_value>", w("<tool_call>a<arg_key>x</arg_key><arg_value>1</arg_value>"))
case("no values", "glm", "<tool_call>a\n<arg_key>x</arg_key>\n</tool_call>", w("<tool_call>a\n<arg_key>x</arg_key>\n</tool_call>"))
O = ":opensource"
case("two calls", "hunyuan3", f"<think{O}>hm</think{O}>Ok.<tool_calls{O}>\n<tool_call{O}>get_weather<tool_sep{O}>\n<arg_key{O}>city</arg_key{O}>\n<arg_value{O}>Paris</arg_value{O}>\n</tool_call{O}>\n<tool_call{O}>a<tool_sep{O}>\n</tool_call{O}>\n</tool_calls{O}>",
     t("hm"), c("Ok."), f("get_weather", {"city": "Paris"}), f("a", {}))

# ---- granite, nemotron, jamba, apriel, phi, cohere ----
case("two calls", "granite", '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}, {"name": "a", "arguments": {}}]', f("get_weather", {"city": "Paris"}), f("a", {}))
case("the other marker", "granite", '<tool_call>[{"name": "a", "arguments": {}}]', f("a", {}))
case("thinking and response", "granite", "<think>hm</think>\n<response>Hello\nyou</response>", t("hm"), c("Hello\nyou"))
case("thinking and response", "granite3.2", "Here is my thought process:\n\nhm\n\nHere is my response:\n\nHello", t("hm"), c("Hello"))
case("two calls", "nemotron", '<think>\nhm\n</think>\n\n<TOOLCALL>[{"name": "get_weather", "arguments": {"city": "Paris"}}, {"name": "a", "arguments": {}}]</TOOLCALL>', t("hm"), f("get_weather", {"city": "Paris"}), f("a", {}))
case("two calls", "tool-calls-json", 'Ok.<tool_calls>[\n{"name": "get_weather", "arguments": {"city": "Paris"}},\n{"name": "a", "arguments": {}}\n]</tool_calls>', c("Ok."), f("get_weather", {"city": "Paris"}), f("a", {}))
case("thinking and a call", "apriel", 'I need it.\n[BEGIN FINAL RESPONSE]\nOk.\n<tool_calls>[{"name": "a", "arguments": {"x": 1}}]</tool_calls>', t("I need it."), c("Ok."), f("a", {"x": 1}), starts_thinking=True)
case("two calls", "phi4", '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}, {"name": "a", "arguments": {}}]<|/tool_call|>', f("get_weather", {"city": "Paris"}), f("a", {}))
case("one object each", "phi4", '<|tool_call|>{"name": "a", "arguments": {}}<|/tool_call|><|tool_call|>{"name": "b", "arguments": {}}<|/tool_call|>', f("a", {}), f("b", {}))
case("functools", "phi4", 'functools[{"name": "a", "arguments": {"x": 1}}]', f("a", {"x": 1}))
case("the word functools", "phi4", "Import functools and itertools.", c("Import functools and itertools."))
case("two actions", "cohere", '<|START_THINKING|>I look it up.<|END_THINKING|><|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "Paris"}},\n    {"tool_call_id": "1", "tool_name": "a", "parameters": {}}\n]<|END_ACTION|>',
     t("I look it up."), f("get_weather", {"city": "Paris"}, id="0"), f("a", {}, id="1"))
case("a response", "cohere", "<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>Hello<|END_RESPONSE|>", t("hm"), c("Hello"))
case("cut off", "cohere", '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "a"', w('<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "a"'))
case("an action", "command-r", 'I will look.\nAction:\n```json\n[\n    {\n        "tool_name": "get_weather",\n        "parameters": {\n            "city": "Paris"\n        }\n    }\n]```', c("I will look."), f("get_weather", {"city": "Paris"}))
case("on one line", "command-r", 'Action: ```json\n[{"tool_name": "a", "parameters": {}}]\n```', f("a", {}))
case("the word action", "command-r", "Action: run. Action: hide.", c("Action: run. Action: hide."))
case("a block that is no action", "command-r", 'Action: ```json\n{"x": 1}\n```', w('Action: ```json\n{"x": 1}\n```'))

# ---- gemma ----
case("a block of code", "gemma", "I look.\n```tool_code\nget_weather(city='Paris', days=3)\n```", c("I look."), f("get_weather", {"city": "Paris", "days": 3}))
case("two lines", "gemma", '```tool_code\na()\nb(x="y")\n```\nDone', f("a", {}), f("b", {"x": "y"}), c("Done"))
case("a block of JSON", "gemma", '```json\n{"name": "a", "parameters": {"x": 1}}\n```', f("a", {"x": 1}))
case("a block of other JSON", "gemma", 'So:\n```json\n{"x": 1}\n```\n', c('So:\n```json\n{"x": 1}\n```\n'))
case("code that is no call", "gemma", "```tool_code\nx = 1\n```", w("```tool_code\nx = 1\n```"))
Q = '<|"|>'
case("a call", "gemma4", f"<|channel>thought\nhm\n<channel|><|tool_call>call:get_weather{{city:{Q}São {{Paulo}}, \"x\"{Q},days:3,exact:true,tags:[{Q}a{Q},{Q}b,c{Q}],where:{{lat:-1.5}}}}<tool_call|>",
     t("hm"), f("get_weather", {"city": 'São {Paulo}, "x"', "days": 3, "exact": True, "tags": ["a", "b,c"], "where": {"lat": -1.5}}))
case("two calls and text", "gemma4", "Ok.<|tool_call>call:a{}<tool_call|><|tool_call>call:b{x:null,y:None,z:plain}<tool_call|><|tool_response>", c("Ok."), f("a", {}), f("b", {"x": None, "y": None, "z": "plain"}))
case("no thoughts", "gemma4", "<|channel>thought\n<channel|>Hello", c("Hello"))
case("cut off", "gemma4", f"<|tool_call>call:a{{x:{Q}y", w(f"<|tool_call>call:a{{x:{Q}y"))
case("no call", "gemma4", "<|tool_call>a(x=1)<tool_call|>", w("<|tool_call>a(x=1)<tool_call|>"))
case("JSON quotes", "gemma4", '<|tool_call>call:a{"x":"}\\"",y:[1,2]}<tool_call|>', f("a", {"x": '}"', "y": [1, 2]}))

# ---- lfm2, minicpm3, olmo3 ----
case("two calls", "lfm2", '<|tool_call_start|>[get_weather(city="Paris", where={"lat": 1.5, "x": true}), a()]<|tool_call_end|>Checking now.', f("get_weather", {"city": "Paris", "where": {"lat": 1.5, "x": True}}), f("a", {}), c("Checking now."))
case("JSON", "lfm2", '<|tool_call_start|>[{"name": "a", "arguments": {"x": 1}}]<|tool_call_end|>', f("a", {"x": 1}))
case("thinking", "lfm2", "<think>hm</think><|tool_call_start|>[a(x=1)]<|tool_call_end|>", t("hm"), f("a", {"x": 1}))
case("cut off", "lfm2", '<|tool_call_start|>[a(x="', w('<|tool_call_start|>[a(x="'))
case("two calls", "minicpm3", "<|thought_start|>\nhm\n<|thought_end|>\n<|tool_call_start|>\n```python\nget_weather(city=\"Paris\")\na(x=1,y=[true, null])\n```\n<|tool_call_end|>\nOk", t("hm"), f("get_weather", {"city": "Paris"}), f("a", {"x": 1, "y": [True, None]}), c("Ok"))
case("two calls", "olmo3", '<function_calls>get_weather(city="Paris")\na(x=1)</function_calls>', f("get_weather", {"city": "Paris"}), f("a", {"x": 1}))

# ---- minimax, seed, kimi, solar, functionary, others ----
case("two calls", "minimax", 'hm\n</think>\n\nOk.\n<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Paris</parameter>\n<parameter name="tags">["a", "b"]</parameter>\n</invoke>\n<invoke name="a">\n</invoke>\n</minimax:tool_call>',
     t("hm"), c("Ok."), f("get_weather", {"city": "Paris", "tags": ["a", "b"]}), f("a", {}), starts_thinking=True, tools=TOOLS)
case("on one line", "minimax", '<minimax:tool_call><invoke name="a"><parameter name="x">1</parameter></invoke></minimax:tool_call>Done', f("a", {"x": 1}), c("Done"))
case("cut off behind one", "minimax", '<minimax:tool_call>\n<invoke name="a">\n</invoke>\n<invoke name="b">\n', f("a", {}), w('<invoke name="b">\n'))
case("a call", "seed-oss", "<seed:think>hm</seed:think>\n<seed:tool_call>\n<function=get_weather>\n<parameter=city>Paris</parameter>\n<parameter=days>3</parameter>\n</function>\n</seed:tool_call>", t("hm"), f("get_weather", {"city": "Paris", "days": 3}), tools=TOOLS)
K = "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{\"city\": \"Paris\"}<|tool_call_end|><|tool_call_begin|>functions.a:1<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>"
case("two calls", "kimi", "<think>hm</think>Ok." + K, t("hm"), c("Ok."), f("get_weather", {"city": "Paris"}, id="functions.get_weather:0"), f("a", {}, id="functions.a:1"))
case("calls in thinking", "kimi", "hm " + K, t("hm"), f("get_weather", {"city": "Paris"}, id="functions.get_weather:0"), f("a", {}, id="functions.a:1"), starts_thinking=True)
case("an empty section", "kimi", "<|tool_calls_section_begin|><|tool_calls_section_end|>", w("<|tool_calls_section_begin|><|tool_calls_section_end|>"))
def k3(tag, body, attrs=""): return f"<|open|>{tag}{attrs}<|sep|>{body}<|close|>{tag}<|sep|>"
case("two calls", "kimi-k3", k3("think", "hm") + k3("response", "Ok.") + k3("tools", k3("call", k3("argument", "42", ' key="city" type="string"') + k3("argument", "3", ' key="days" type="number"'), ' tool="get_weather" index="1"') + k3("call", "", ' tool="a" index="2"')),
     t("hm"), c("Ok."), f("get_weather", {"city": "42", "days": 3}), f("a", {}))
case("two calls", "solar", "<|think|>hm<|end|><|begin|>assistant<|tool_calls|><|tool_call:begin|>a1b2c3d4e5<|tool_call:name|>get_weather<|tool_call:args|>{\"city\": \"Paris\"}<|tool_call:end|><|tool_call:begin|>b1b2c3d4e5<|tool_call:name|>a<|tool_call:args|>{}<|tool_call:end|><|calls|>",
     t("hm"), f("get_weather", {"city": "Paris"}, id="a1b2c3d4e5"), f("a", {}, id="b1b2c3d4e5"))
case("content", "solar", "<|think|>hm<|end|><|begin|>assistant<|content|>Hello<|end|>", t("hm"), c("Hello"))
case("two calls", "functionary-v3.1", 'Ok.\n<function=get_weather>{"city": "Paris"}</function><function=a>{}</function>', c("Ok."), f("get_weather", {"city": "Paris"}), f("a", {}))
case("no JSON", "functionary-v3.1", "<function=a>x</function>", w("<function=a>x</function>"))
case("thinking, call, text", "atem", ' to=self<|message|>hm<|eom|><|start|>assistant to=get_weather<|message|><atem:function_calls>\n<atem:invoke name="get_weather">\n<atem:parameter name="city">Paris</atem:parameter>\n</atem:invoke>\n</atem:function_calls><|eom|><|start|>assistant to=user<|message|>Done.<|eot|>',
     t("hm"), f("get_weather", {"city": "Paris"}), c("Done."))
case("no head", "atem", "to=do list", c("to=do list"))
case("a call", "gigachat", 'Ok.<|function_call|>{"name": "a", "arguments": {"x": 1}}<|message_sep|>', c("Ok."), f("a", {"x": 1}))
case("two calls", "firefunction", '<functioncall>{"name": "a", "arguments": {}}<functioncall>{"name": "b", "arguments": {}}', f("a", {}), f("b", {}))
case("text", "firefunction", "<plain>Hello", c("Hello"))
case("a call", "internlm2", 'Ok.<|action_start|><|plugin|>\n{"name": "a", "parameters": {"x": 1}}<|action_end|>\n', c("Ok."), f("a", {"x": 1}))
case("a list", "json-list", '[{"name": "a", "arguments": {"x": 1}}, {"name": "b", "arguments": {}}]', f("a", {"x": 1}), f("b", {}))
case("in a fence", "json-list", '```\n[\n    {"name": "a", "arguments": {}}\n]\n```', f("a", {}))
case("no call needed", "json-list", "[]", c("[]"))
case("code", "json-list", "```\nx = 1\n```", c("```\nx = 1\n```"))

for x in cases:
    print(json.dumps(x, ensure_ascii=False))
