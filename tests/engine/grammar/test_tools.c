/* Grammars of whole answers: texts that each choice and format takes and refuses, markers as special tokens and as plain
 * text, and what goes wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/grammar/tools.h"

#define WEATHER                                                                                      \
    "{\"type\":\"function\",\"function\":{\"name\":\"weather\",\"parameters\":{\"type\":\"object\"," \
    "\"properties\":"                                                                                \
    "{\"city\":{\"type\":\"string\"},\"days\":{\"type\":\"integer\"}},\"required\":[\"city\"],"      \
    "\"additionalProperties\":false}}}"
#define STOP  "{\"type\":\"function\",\"function\":{\"name\":\"stop_all\"}}"
#define TOOLS "[" WEATHER "," STOP "]"

static mlxr_answer_grammar params(const char *format, mlxr_tool_choice_kind choice)
{
    mlxr_answer_grammar p = mlxr_answer_grammar_default();
    p.format = mlxr_answer_format_find(format);
    p.tools_json = TOOLS;
    p.tool_choice = choice;
    p.tool_name = "weather";
    if (!p.format) fail_msg("no format %s", format);
    return p;
}

/* How far the text fits, and whether an answer may end with it. */
typedef struct fit {
    size_t n;
    bool ends, must_end;
} fit;

static fit fits(const mlxr_answer_grammar *p, const char *text)
{
    mlxr_grammar *g;
    mlxr_masker *k;
    mlxr_matcher *m;
    mlxr_error err;
    fit r;

    if (mlxr_grammar_for_answer(&g, p, NULL, &err) != MLXR_OK)
        fail_msg("%s: %s", p->format->name, err.message);
    assert_non_null(g);
    assert_int_equal(mlxr_masker_create(&k, g, NULL, &err), MLXR_OK);
    assert_int_equal(mlxr_matcher_create(&m, k, &err), MLXR_OK);
    if (mlxr_matcher_push(&r.n, m, text, strlen(text), &err) != MLXR_OK) fail_msg("%s", err.message);
    r.ends = mlxr_matcher_may_end(m);
    r.must_end = mlxr_matcher_must_end(m);
    mlxr_matcher_free(m);
    mlxr_masker_free(k);
    mlxr_grammar_unref(g);
    return r;
}

static void takes_(const mlxr_answer_grammar *p, const char *text, int line)
{
    fit r = fits(p, text);
    if (r.n != strlen(text)) fail_msg("line %d: %s: refused at \"%s\"", line, p->format->name, text + r.n);
    if (!r.ends) fail_msg("line %d: %s: does not end: %s", line, p->format->name, text);
}
#define takes(p, text) takes_(p, text, __LINE__)

/* It fits, but more must come. */
static void begins_(const mlxr_answer_grammar *p, const char *text, int line)
{
    fit r = fits(p, text);
    if (r.n != strlen(text)) fail_msg("line %d: %s: refused at \"%s\"", line, p->format->name, text + r.n);
    if (r.ends) fail_msg("line %d: %s: ends: %s", line, p->format->name, text);
}
#define begins(p, text) begins_(p, text, __LINE__)

/* good fits, bad behind it does not: its first byte already. */
static void refuses_(const mlxr_answer_grammar *p, const char *good, const char *bad, int line)
{
    mlxr_buf b = {0};
    fit r;
    mlxr_buf_printf(&b, "%s%s", good, bad);
    r = fits(p, b.data);
    if (r.n != strlen(good))
        fail_msg("line %d: %s: %zu bytes fit of: %s", line, p->format->name, r.n, b.data);
    mlxr_buf_clear(&b);
}
#define refuses(p, good, bad) refuses_(p, good, bad, __LINE__)

/* ---- hermes: the JSON style ---- */

static void test_auto_leaves_text_alone(void **state)
{
    mlxr_answer_grammar p = params("hermes", MLXR_TOOLS_AUTO);
    takes(&p, "");
    takes(&p, "The weather is fine.\n\n```c\nif (a < b) return;\n```\n");
    takes(&p, "<");
    takes(&p, "<tool_cal");
    takes(&p, "a <tool_cal> b <tool_<tool_ {\"name\": 1}");
    takes(&p, "\xff<|im_start|>x\xff<|fim|>");
    takes(&p, "caf\xc3\xa9 \xe6\x97\xa5");
}

static void test_auto_holds_calls(void **state)
{
    mlxr_answer_grammar p = params("hermes", MLXR_TOOLS_AUTO);
    static const char call[] =
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Oslo\"}}\n</tool_call>";
    mlxr_buf b = {0};

    takes(&p, call);
    takes(&p, "<tool_call>{\"name\":\"stop_all\",\"arguments\":{}}</tool_call>");
    takes(&p,
          "\xff<tool_call>\n{\"name\": \"stop_all\", \"arguments\": {\"a\": [1, null]}}\n\xff</tool_call>");
    mlxr_buf_printf(&b, "I look it up.\n%s", call);
    takes(&p, b.data);
    mlxr_buf_printf(&b, "\n%s\nand then", call);
    takes(&p, b.data);
    begins(&p, "text <tool_call>");
    refuses(&p, "text <tool_call>\n", "I");
    refuses(&p, "<tool_call>\n{\"name\": \"", "x");
    refuses(&p, "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"", "days\"");
    refuses(&p, "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": ", "1");
    refuses(&p, "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"a\"}}\n", "x");
    mlxr_buf_clear(&b);
}

static void test_auto_one_call(void **state)
{
    mlxr_answer_grammar p = params("hermes", MLXR_TOOLS_AUTO);
    static const char one[] = "ok <tool_call>\n{\"name\": \"stop_all\", \"arguments\": {}}\n</tool_call>";
    fit r;

    p.parallel = false;
    r = fits(&p, one);
    assert_int_equal(r.n, strlen(one));
    assert_true(r.must_end);
    p.parallel = true;
    assert_false(fits(&p, one).must_end);
    /* Its reader takes an object behind a call for one more. */
    refuses(&p, "ok <tool_call>\n{\"name\": \"stop_all\", \"arguments\": {}}\n</tool_call>\n", "{");
    takes(&p, "ok <tool_call>\n{\"name\": \"stop_all\", \"arguments\": {}}\n</tool_call>\nso {");
}

static void test_none(void **state)
{
    mlxr_answer_grammar p = params("hermes", MLXR_TOOLS_NONE);
    takes(&p, "a <tool_cal> b");
    refuses(&p, "a <tool_call", ">");
    refuses(&p, "a \xff<tool_call", ">");
}

static void test_required(void **state)
{
    mlxr_answer_grammar p = params("hermes", MLXR_TOOLS_REQUIRED);
    begins(&p, "");
    refuses(&p, "", "I");
    takes(
        &p,
        "\n<tool_call>\n{\"name\": \"stop_all\", \"arguments\": {}}\n</tool_call>\n"
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"a\", \"days\": 3}}\n</tool_call>");
    refuses(&p, "<tool_call>\n{\"name\": \"stop_all\", \"arguments\": {}}\n</tool_call>\n", "a");
    p.parallel = false;
    refuses(&p, "<tool_call>\n{\"name\": \"stop_all\", \"arguments\": {}}\n</tool_call>", "\n");
    /* Thinking, where it may come, comes first. */
    refuses(&p, "<t", "hink>");
    p.may_think = true;
    takes(&p, "<think>\nwell, <tool_call>?\n</think>\n\n<tool_call>\n{\"name\": \"stop_all\", \"arguments\": "
              "{}}\n</tool_call>");
    takes(&p, "<tool_call>\n{\"name\": \"stop_all\", \"arguments\": {}}\n</tool_call>");
    refuses(&p, "<think>\nwell\n</think>\n\n", "I");
    p.starts_thinking = true;
    begins(&p, "<tool_call>\n{\"name\": \"stop_all\", \"arguments\": {}}\n</tool_call>");
    takes(&p, "\nwell\xff</think>\n\n\xff<tool_call>\n{\"name\": \"stop_all\", \"arguments\": "
              "{}}\n\xff</tool_call>");
}

/* Free text may end anywhere, in thinking too; what has a shape may not. */
static void test_ends_in_thinking(void **state)
{
    mlxr_answer_grammar p = params("hermes", MLXR_TOOLS_AUTO);
    p.starts_thinking = true;
    takes(&p, "well, <tool_call>");
    p.schema_json = "json";
    begins(&p, "well, {}");
    p.schema_json = NULL;
    p.tool_choice = MLXR_TOOLS_REQUIRED;
    begins(&p, "well");
    /* Without leave to think the marker is no text either: its readers would see thinking. */
    p = params("hermes", MLXR_TOOLS_AUTO);
    refuses(&p, " <think", ">");
    takes(&p, "so <think>");
    p.may_think = true;
    takes(&p, "<think>");
}

static void test_named(void **state)
{
    mlxr_answer_grammar p = params("hermes", MLXR_TOOLS_NAMED);
    refuses(&p, "<tool_call>\n{\"name\": \"", "s");
    takes(&p, "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"\\u00e9\"}}\n</tool_call>");
}

/* ---- content of a shape ---- */

static void test_content(void **state)
{
    mlxr_answer_grammar p = params("hermes", MLXR_TOOLS_AUTO);
    p.schema_json = "{\"type\":\"array\",\"items\":{\"type\":\"boolean\"}}";
    takes(&p, "[true]");
    takes(&p, "<tool_call>\n{\"name\": \"stop_all\", \"arguments\": {}}\n</tool_call>");
    refuses(&p, "", "I");
    refuses(&p, "[true]", " ");
    p.tool_choice = MLXR_TOOLS_NONE;
    takes(&p, "[]");
    refuses(&p, "", "<");
    p.tools_json = NULL;
    takes(&p, "[false, true]");
    p.may_think = true;
    takes(&p, "<think>[1</think>\n\n[]");
    takes(&p, "[]");
    p.schema_json = "json";
    takes(&p, "{\"a\": [1]}");
    refuses(&p, "", "[");
    p.schema_json = NULL;
    p.regex = "a+b";
    takes(&p, "aab");
    refuses(&p, "", "\n");
    takes(&p, "<think>\nx\n</think>\n\nab");
    p.regex = NULL;
    p.gbnf = "root ::= \"yes\" | \"no\"";
    takes(&p, "no");
    p.starts_thinking = true;
    takes(&p, "hm</think>\nyes");
    begins(&p, "no");
    /* A call that must come leaves no content. */
    p = params("hermes", MLXR_TOOLS_REQUIRED);
    p.schema_json = "{\"type\":\"array\"}";
    refuses(&p, "", "[");
}

/* ---- other formats ---- */

static void test_lists(void **state)
{
    mlxr_answer_grammar p = params("mistral", MLXR_TOOLS_REQUIRED);
    takes(&p, "\xff[TOOL_CALLS][{\"name\": \"stop_all\", \"arguments\": {}}, {\"name\": \"weather\", "
              "\"arguments\": "
              "{\"city\": \"a\"}}]");
    p.parallel = false;
    refuses(&p, "[TOOL_CALLS][{\"name\": \"stop_all\", \"arguments\": {}}", ",");
    p = params("cohere", MLXR_TOOLS_AUTO);
    takes(&p, "\xff<|START_RESPONSE|>hello\xff<|END_RESPONSE|>");
    takes(&p, "\xff<|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"stop_all\", "
              "\"parameters\": {}}\n]\xff<|END_ACTION|>");
    p.tool_choice = MLXR_TOOLS_NONE;
    p.schema_json = "json";
    takes(&p, "\xff<|START_RESPONSE|>{}\xff<|END_RESPONSE|>");
    takes(&p, "{}");
    p = params("granite", MLXR_TOOLS_AUTO);
    takes(&p, "<tool_call>[{\"name\": \"stop_all\", \"arguments\": {}}]");
    refuses(&p, "<tool_call>", "x");
    takes(&p, "<|tool_call|>[{\"name\": \"stop_all\", \"arguments\": {}}]");
}

static void test_word_marker(void **state)
{
    /* A marker that is a word of every text begins a call only with what stands behind it. */
    mlxr_answer_grammar p = params("command-r", MLXR_TOOLS_AUTO);
    takes(&p, "Action: none is needed");
    takes(&p, "```json\n{}\n```");
    takes(&p, "Action:\n```json\n[\n    {\n        \"tool_name\": \"stop_all\",\n        \"parameters\": "
              "{}\n    }\n]```");
    refuses(&p, "Action:\n```json\n", "x");
}

static void test_names_then_json(void **state)
{
    mlxr_answer_grammar p = params("mistral-v11", MLXR_TOOLS_AUTO);
    takes(&p, "\xff[TOOL_CALLS]stop_all\xff[ARGS]{}\xff[TOOL_CALLS]weather\xff[ARGS]{\"city\": \"a\"}");
    refuses(&p, "[TOOL_CALLS]", "x");
    refuses(&p, "[TOOL_CALLS]weather[ARGS]{\"", "d");
    p = params("deepseek-v3", MLXR_TOOLS_REQUIRED);
    takes(&p, "\xff<｜tool▁calls▁begin｜>\xff<｜tool▁call▁begin｜>function\xff<｜tool▁sep｜>stop_all\n```"
              "json\n{}\n```"
              "\xff<｜tool▁call▁end｜>\xff<｜tool▁calls▁end｜>");
    p = params("kimi", MLXR_TOOLS_REQUIRED);
    p.starts_thinking = true;
    takes(&p, "so</think>\xff<|tool_calls_section_begin|>\xff<|tool_call_begin|>functions.stop_all:0"
              "\xff<|tool_call_argument_begin|>{}\xff<|tool_call_end|>\xff<|tool_calls_section_end|>");
    /* There a call ends thinking too. */
    takes(&p, "so\xff<|tool_calls_section_begin|>\xff<|tool_call_begin|>functions.stop_all:0"
              "\xff<|tool_call_argument_begin|>{}\xff<|tool_call_end|>\xff<|tool_calls_section_end|>");
    /* There the end of the calls may be the answer's, and no text. */
    p = params("solar", MLXR_TOOLS_REQUIRED);
    takes(&p, "\xff<|tool_calls|>\xff<|tool_call:begin|>0123456789\xff<|tool_call:name|>stop_all"
              "\xff<|tool_call:args|>{}\xff<|tool_call:end|>");
    /* One call at a time is all that this format has. */
    p = params("gigachat", MLXR_TOOLS_AUTO);
    refuses(&p, "a <|function_call|>{\"name\": \"stop_all\", \"arguments\": {}}", "\n");
    p = params("functionary-v3.1", MLXR_TOOLS_AUTO);
    takes(&p, "hi <function=stop_all>{}</function>");
    refuses(&p, "hi <function=", "x");
}

static void test_bare(void **state)
{
    mlxr_answer_grammar p = params("llama3-json", MLXR_TOOLS_AUTO);
    takes(&p, "Hello {\"name\": 1}");
    takes(&p, "{");
    takes(&p, "{\"nam");
    takes(&p, " {\"names\": 1}");
    takes(&p, "{\"city\": \"Oslo\"}");
    takes(&p, "{\"name\": \"stop_all\", \"parameters\": {}}");
    begins(&p, "{\"name\": \"stop_all\"");
    refuses(&p, "{\"name\": \"", "x");
    refuses(&p, "{\"name\": \"weather\", \"parameters\": {\"city\": ", "1");
    takes(&p, "\xff<|python_tag|>{\"name\": \"stop_all\", \"parameters\": {}}");
    refuses(&p, "well <|python_tag|>", "p");
    p.format = mlxr_answer_format_find("llama4-json");
    takes(&p, "[stop");
    refuses(&p, "[stop", "(");
    takes(&p, "{\"name\": \"stop_all\", \"parameters\": {}}");
    p.format = mlxr_answer_format_find("llama3-json");
    p.tool_choice = MLXR_TOOLS_NONE;
    takes(&p, "{\"nam");
    takes(&p, "{\"x\": \"<|python_tag\"}");
    refuses(&p, "{\"name\": ", "\"");
    refuses(&p, "a <|python_tag|", ">");
    p.tool_choice = MLXR_TOOLS_REQUIRED;
    takes(&p, "{\"name\": \"stop_all\", \"parameters\": {}}");
    refuses(&p, "", "H");
}

static void test_harmony(void **state)
{
    mlxr_answer_grammar p = params("harmony", MLXR_TOOLS_AUTO);
    p.may_think = true;
    takes(&p, "\xff<|channel|>analysis\xff<|message|>hm, to=functions.x?\xff<|end|>\xff<|start|>assistant"
              "\xff<|channel|>final\xff<|message|>Hello");
    takes(&p, "\xff<|channel|>final\xff<|message|>Hello\xff<|return|>");
    takes(&p,
          "\xff<|channel|>analysis\xff<|message|>a\xff<|end|>\xff<|start|>assistant\xff<|channel|>analysis"
          "\xff<|message|>b\xff<|end|>\xff<|start|>assistant\xff<|channel|>commentary to=functions.weather "
          "\xff<|constrain|>json\xff<|message|>{\"city\": \"a\"}\xff<|call|>");
    takes(&p, "\xff<|channel|>commentary to=functions.stop_all \xff<|constrain|>json\xff<|message|>{}");
    takes(&p, "\xff<|channel|>commentary\xff<|message|>I look.\xff<|end|>\xff<|start|>assistant"
              "\xff<|channel|>commentary to=functions.stop_all \xff<|constrain|>json\xff<|message|>{}");
    refuses(&p, "\xff<|channel|>commentary to=functions.", "x");
    takes(&p, " to=functions.stop_all\xff<|channel|>commentary json\xff<|message|>{}\xff<|call|>");
    takes(&p, "\xff<|channel|>commentary to=functions.stop_all\xff<|message|>{}");
    refuses(&p, " to=functions.", "x");
    begins(&p, "\xff<|channel|>analysis\xff<|message|>hm\xff<|end|>");
    p.tool_choice = MLXR_TOOLS_NONE;
    takes(&p, "\xff<|channel|>final\xff<|message|>Hello");
    refuses(&p, "\xff<|channel|>", "c");
    p.tool_choice = MLXR_TOOLS_REQUIRED;
    refuses(&p, "\xff<|channel|>", "f");
    p.starts_thinking = true;
    takes(&p, "hm\xff<|end|>\xff<|start|>assistant\xff<|channel|>commentary to=functions.stop_all "
              "\xff<|constrain|>json\xff<|message|>{}");
    p = params("harmony", MLXR_TOOLS_AUTO);
    p.tools_json = NULL;
    p.may_think = true;
    p.schema_json = "{\"type\":\"boolean\"}";
    takes(&p, "\xff<|channel|>analysis\xff<|message|>a\xff<|end|>\xff<|start|>assistant\xff<|channel|>final"
              "\xff<|message|>true");
    takes(&p, "\xff<|channel|>final \xff<|constrain|>json\xff<|message|>true\xff<|return|>");
}

/* ---- arguments one by one ---- */

#define SEND                                                                                                \
    "[{\"name\":\"send\",\"parameters\":{\"type\":\"object\",\"properties\":{\"to\":{\"type\":\"string\"}," \
    "\"text\":{\"type\":[\"string\",\"null\"]},\"kind\":{\"enum\":[\"a b\",\"c\\\"d\"]},\"n\":{\"type\":"   \
    "\"integer\",\"minimum\":1,\"maximum\":9},\"on\":{\"type\":\"boolean\"},\"list\":{\"type\":\"array\","  \
    "\"items\":{\"type\":[\"string\",\"boolean\",\"null\"]}},\"what\":{\"type\":\"object\",\"properties\":" \
    "{\"deep key\":{\"const\":null},\"k\":{\"type\":\"number\"}},\"additionalProperties\":false}},"         \
    "\"required\":[\"to\",\"n\"],\"additionalProperties\":false}},{\"name\":\"halt\"}]"

static void test_tags(void **state)
{
    mlxr_answer_grammar p = params("qwen3-coder", MLXR_TOOLS_REQUIRED);
    const char *head = "<tool_call>\n<function=send>\n";
    p.tools_json = SEND;
    takes(
        &p,
        "<tool_call>\n<function=send>\n<parameter=to>\nHe said \"no\" <b>\n\n</parameter>\n<parameter=n>\n7\n"
        "</parameter>\n</function>\n</tool_call>");
    takes(
        &p,
        "<tool_call>\n<function=send>\n<parameter=to>\n\n</parameter>\n<parameter=text>\nnull\n</parameter>\n"
        "<parameter=kind>\nc\"d\n</parameter>\n<parameter=n>\n1\n</parameter>\n<parameter=on>\ntrue\n</"
        "parameter>\n"
        "<parameter=list>\n[\"x\", null]\n</parameter>\n<parameter=what>\n{\"deep key\": null, \"k\": 1e5}\n"
        "</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=halt>\n</function>\n</tool_call>");
    begins(&p, head);
    /* What is required comes, in the order of the list. */
    refuses(&p, "<tool_call>\n<function=send>\n<", "/function>");
    refuses(&p, "<tool_call>\n<function=send>\n<parameter=", "n");
    refuses(&p, "<tool_call>\n<function=send>\n<parameter=to>\nx\n</parameter>\n<", "/function>");
    refuses(&p, "<tool_call>\n<function=send>\n<parameter=to>\nx\n</parameter>\n<parameter=n>\n", "0");
    refuses(&p, "<tool_call>\n<function=send>\n<parameter=to>\nx\n</parameter>\n<parameter=kind>\n", "\"");
    /* JSON in a value keeps the marker that would end it out of its strings. */
    refuses(&p,
            "<tool_call>\n<function=send>\n<parameter=to>\nx\n</parameter>\n<parameter=n>\n1\n</parameter>\n"
            "<parameter=list>\n[\"</parameter",
            ">");
    p.tool_choice = MLXR_TOOLS_AUTO;
    takes(&p, "a < b, <parameter=x>");
    /* The outer marker is forgotten now and then. */
    takes(&p, "so <function=halt>\n</function>\n</tool_call>");
    refuses(&p, "so <function=", "x");
    p.format = mlxr_answer_format_find("deepseek-v3.2");
    takes(&p, "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"send\">\n<｜DSML｜parameter name=\"to\" "
              "string=\"true\">5</｜DSML｜parameter>\n<｜DSML｜parameter name=\"text\" string=\"false\">null"
              "</｜DSML｜parameter>\n<｜DSML｜parameter name=\"n\" string=\"false\">5</｜DSML｜parameter>\n"
              "</｜DSML｜invoke>\n</｜DSML｜function_calls>");
    takes(&p, "<\xff｜DSML｜function_calls>\n<\xff｜DSML｜invoke name=\"halt\">\n</\xff｜DSML｜invoke>\n"
              "</\xff｜DSML｜function_calls>");
    refuses(&p,
            "x <\xff｜DSML｜function_calls>\n<｜DSML｜invoke name=\"send\">\n<｜DSML｜parameter name=\"to\" "
            "string=\"",
            "f");
    p.format = mlxr_answer_format_find("kimi-k3");
    takes(&p, "\xff<|open|>tools\xff<|sep|>\xff<|open|>call tool=\"send\" index=\"1\"\xff<|sep|>"
              "\xff<|open|>argument key=\"to\" type=\"string\"\xff<|sep|>x\xff<|close|>argument\xff<|sep|>"
              "\xff<|open|>argument key=\"n\" type=\"number\"\xff<|sep|>2\xff<|close|>argument\xff<|sep|>"
              "\xff<|close|>call\xff<|sep|>\xff<|close|>tools\xff<|sep|>");
    refuses(&p, "a \xff<|open|>tools\xff<|sep|>", "x");
    takes(&p, "\xff<|open|>response\xff<|sep|>x\xff<|close|>response\xff<|sep|>");
    p.format = mlxr_answer_format_find("glm");
    takes(&p, "<tool_call>send\n<arg_key>to</arg_key>\n<arg_value>x</arg_value>\n<arg_key>text</arg_key>\n"
              "<arg_value>nul</arg_value>\n<arg_key>n</arg_key>\n<arg_value>2</arg_value>\n</tool_call>");
}

/* A string that whoever reads the call takes for something else is not written. */
static void test_tags_bare_strings(void **state)
{
    mlxr_answer_grammar p = params("glm4.7", MLXR_TOOLS_REQUIRED);
#define ONE(schema)                                                                      \
    "[{\"name\":\"f\",\"parameters\":{\"type\":\"object\",\"properties\":{\"x\":" schema \
    "},\"required\":[\"x\"]}}]"
#define X   "<tool_call>f<arg_key>x</arg_key><arg_value>"
#define END "</arg_value></tool_call>"
    p.tools_json = ONE("{\"type\":\"string\"}");
    takes(&p, X "12" END);
    takes(&p, X "null" END);
    takes(&p, X "[1]" END);
    takes(&p, X END);
    p.tools_json = ONE("{\"type\":[\"string\",\"null\"],\"minLength\":2}");
    takes(&p, X "12" END);
    takes(&p, X "null" END);
    takes(&p, X "nullx" END);
    refuses(&p, X "</arg_value", ">");
    refuses(&p, X "None</arg_value", ">");
    p.tools_json = ONE(
        "{\"anyOf\":[{\"type\":\"string\",\"minLength\":2},{\"type\":\"integer\",\"minimum\":100}]}");
    takes(&p, X "100" END);
    takes(&p, X "99 bottles" END);
    refuses(&p, X "99</arg_value", ">");
    refuses(&p, X "-0.5e3</arg_value", ">");
    p.tools_json = ONE("{\"enum\":[\"true\",\"yes\",true,\"</arg_value>\"]}");
    takes(&p, X "true" END); /* the word itself */
    takes(&p, X "yes" END);
    refuses(&p, X, "<");
    p.tools_json = ONE("{\"type\":\"array\",\"items\":{\"enum\":[\"</arg_value>\"]}}");
    takes(&p, X "[\"\\u003c/arg_value>\"]" END);
    refuses(&p, X "[\"", "<");
    p.tools_json = ONE("{\"type\":\"string\",\"pattern\":\"^[a-c]+$\",\"maxLength\":3}");
    takes(&p, X "abc" END);
    refuses(&p, X "abc", "a");
#undef ONE
#undef X
#undef END
}

static void test_pythonic(void **state)
{
    mlxr_answer_grammar p = params("lfm2", MLXR_TOOLS_REQUIRED);
    p.tools_json = SEND;
    takes(&p,
          "\xff<|tool_call_start|>[send(to=\"x\", n=1), halt(), halt(a=[], b=None)]\xff<|tool_call_end|>");
    takes(&p, "<|tool_call_start|>[send(to=\"\\\"\\n\xc3\xa9\", text=None, kind=\"c\\\"d\", n=9, on=True, "
              "list=[\"x\", None, False], "
              "what={\"deep key\": None, \"k\": -1.5})]<|tool_call_end|>");
    refuses(&p, "<|tool_call_start|>[send(", ")");
    refuses(&p, "<|tool_call_start|>[send(to=\"x\", n=1, ", ")");
    refuses(&p, "<|tool_call_start|>[send(to=\"x\", n=1, on=", "t");
    refuses(&p, "<|tool_call_start|>[send(to=\"x", "\n");
    refuses(&p, "<|tool_call_start|>[send(to=\"\\", "/"); /* an escape that Python does not have */
    p.format = mlxr_answer_format_find("llama-pythonic");
    p.tool_choice = MLXR_TOOLS_AUTO;
    takes(&p, "[halt()]");
    takes(&p, "[1, 2]");
    takes(&p, "[halt]");
    refuses(&p, "[stop", "(");
    takes(&p, "well, [stop()]");
    p.format = mlxr_answer_format_find("gemma");
    takes(&p, "Look:\n```json\n{\"a\": 1}\n```\n```python\nhalt()\n```");
    takes(&p, "```tool_code\nhalt()\nsend(to=\"\", n=2)\n```");
    refuses(&p, "```tool_code\n", "p");
}

static void test_braced(void **state)
{
    mlxr_answer_grammar p = params("gemma4", MLXR_TOOLS_REQUIRED);
    p.tools_json = SEND;
    takes(&p, "\xff<|tool_call>call:send{to:\xff<|\"|>He \"says\" {}\xff<|\"|>,n:1}\xff<tool_call|>"
              "\xff<|tool_call>call:halt{}\xff<tool_call|>");
    takes(&p,
          "<|tool_call>call:send{to:<|\"|><|\"|>,kind:<|\"|>c\"d<|\"|>,n:1,on:true,list:[<|\"|>x<|\"|>,null],"
          "what:{<|\"|>deep key<|\"|>:null,k:2}}<tool_call|>");
    refuses(&p, "<|tool_call>call:send{to:", "\"");
    refuses(&p, "<|tool_call>call:send{to:<|\"|>x<|\"|>", "}");
}

/* Members that are not listed come where the schema asks for such, each name once. */
static void test_other_members(void **state)
{
    mlxr_answer_grammar p = params("lfm2", MLXR_TOOLS_REQUIRED);
    p.tools_json =
        "[{\"name\":\"f\",\"parameters\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}},"
        "\"additionalProperties\":{\"type\":\"boolean\"},\"minProperties\":1,\"maxProperties\":3}},"
        "{\"name\":\"g\",\"parameters\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}}}},"
        "{\"name\":\"h\",\"parameters\":{\"type\":\"object\",\"patternProperties\":{\"^n_\":{\"type\":"
        "\"null\"}},"
        "\"required\":[\"z\"]}}]";
    takes(&p, "<|tool_call_start|>[f(a=1, b=True, c=False)]<|tool_call_end|>");
    takes(&p, "<|tool_call_start|>[f(b=True)]<|tool_call_end|>");
    refuses(&p, "<|tool_call_start|>[f(", ")");
    refuses(&p, "<|tool_call_start|>[f(a=1, b=True, c=False", ",");
    refuses(&p, "<|tool_call_start|>[f(b=True, b", "=");
    refuses(&p, "<|tool_call_start|>[f(b=", "1");
    refuses(&p, "<|tool_call_start|>[g(", "b");
    takes(&p, "<|tool_call_start|>[g()]<|tool_call_end|>");
    takes(&p, "<|tool_call_start|>[h(z=5, n_x=None, b=[True])]<|tool_call_end|>");
    refuses(&p, "<|tool_call_start|>[h(", "n");
    refuses(&p, "<|tool_call_start|>[h(z=1, n_x=", "1");
}

/* ---- what is not enforced, and what goes wrong ---- */

static void test_nothing(void **state)
{
    mlxr_answer_grammar p = params("hermes", MLXR_TOOLS_AUTO);
    mlxr_grammar *g;
    mlxr_error err;

    p.tools_json = NULL;
    assert_int_equal(mlxr_grammar_for_answer(&g, &p, NULL, &err), MLXR_OK);
    assert_null(g);
    p.tools_json = "[]";
    assert_int_equal(mlxr_grammar_for_answer(&g, &p, NULL, &err), MLXR_OK);
    assert_null(g);
    p.tool_choice = MLXR_TOOLS_NONE;
    assert_int_equal(mlxr_grammar_for_answer(&g, &p, NULL, &err), MLXR_OK);
    assert_null(g);
    p = params("plain", MLXR_TOOLS_AUTO);
    assert_int_equal(mlxr_grammar_for_answer(&g, &p, NULL, &err), MLXR_OK);
    assert_null(g);
}

static void fails_(const mlxr_answer_grammar *p, mlxr_status want, const char *message, int line)
{
    mlxr_grammar *g;
    mlxr_error err;
    mlxr_status st = mlxr_grammar_for_answer(&g, p, NULL, &err);
    if (st != want) fail_msg("line %d: %s: %s", line, mlxr_status_name(st), st ? err.message : "");
    if (!strstr(err.message, message)) fail_msg("line %d: %s", line, err.message);
    assert_null(g);
}
#define fails(p, st, message) fails_(p, st, message, __LINE__)

static void test_errors(void **state)
{
    mlxr_answer_grammar p = params("plain", MLXR_TOOLS_REQUIRED);
    fails(&p, MLXR_E_UNSUPPORTED, "plain");
    p = params("hermes", MLXR_TOOLS_REQUIRED);
    p.tools_json = "[]";
    fails(&p, MLXR_E_INVALID_ARGUMENT, "no tools");
    p.tools_json = NULL;
    fails(&p, MLXR_E_INVALID_ARGUMENT, "no tools");
    p = params("hermes", MLXR_TOOLS_NAMED);
    p.tool_name = "nobody";
    fails(&p, MLXR_E_INVALID_ARGUMENT, "\"nobody\"");
    p.tool_name = NULL;
    fails(&p, MLXR_E_INVALID_ARGUMENT, "no name");
    p = params("hermes", MLXR_TOOLS_AUTO);
    p.tools_json = "[{\"name\":\"a\"},{\"name\":3}]";
    fails(&p, MLXR_E_FORMAT, "tools[1].name");
    p.tools_json =
        "[" STOP
        ",{\"function\":{\"name\":\"a\",\"parameters\":{\"properties\":{\"x\":{\"type\":\"strnig\"}}}}}]";
    fails(&p, MLXR_E_FORMAT, "tools[1].function.parameters#/properties/x");
    p = params("hermes", MLXR_TOOLS_AUTO);
    p.regex = "a";
    p.gbnf = "root ::= \"a\"";
    fails(&p, MLXR_E_INVALID_ARGUMENT, "one of");
    p.gbnf = NULL;
    p.regex = "(";
    fails(&p, MLXR_E_FORMAT, "");
    p = params("hermes", MLXR_TOOLS_AUTO);
    p.format = NULL;
    fails(&p, MLXR_E_INVALID_ARGUMENT, "format");
    /* A name that would not come back from a call without quotes. */
    p = params("functionary-v3.1", MLXR_TOOLS_AUTO);
    p.tools_json = "[{\"name\":\"a>b\"}]";
    fails(&p, MLXR_E_UNSUPPORTED, "tools[0]: the name \"a>b\"");
    /* The same of members, and of schemas, where arguments are written one by one. */
    p.format = mlxr_answer_format_find("lfm2");
    p.tools_json = "[{\"name\":\"a\",\"parameters\":{\"type\":\"object\",\"properties\":{\"x-y\":{}}}}]";
    fails(&p, MLXR_E_UNSUPPORTED, "tools[0].parameters#/properties/x-y: a member of this name");
    p.tools_json =
        "[{\"name\":\"a\",\"parameters\":{\"type\":\"object\",\"properties\":{\"x\":{\"properties\":"
        "{\"y\":{\"type\":\"strnig\"}}}}}}]";
    fails(&p, MLXR_E_FORMAT, "tools[0].parameters#/properties/x/properties/y");
    p.tools_json = "[{\"name\":\"a\",\"parameters\":{\"type\":\"object\",\"properties\":{\"x\":false},"
                   "\"required\":[\"x\"]}}]";
    p.tool_choice = MLXR_TOOLS_REQUIRED;
    fails(&p, MLXR_E_INVALID_ARGUMENT, "");
    p.tool_choice = MLXR_TOOLS_AUTO;
    p.tools_json = "[{\"name\":\"a>b\"}]";
    p.format = mlxr_answer_format_find("hermes");
    takes(&p, "<tool_call>\n{\"name\": \"a>b\", \"arguments\": {}}\n</tool_call>");
    p.tools_json = "[{\"name\":\"a\\\"b\"}]";
    takes(&p, "<tool_call>\n{\"name\": \"a\\\"b\", \"arguments\": {}}\n</tool_call>");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_auto_leaves_text_alone),
        cmocka_unit_test(test_auto_holds_calls),
        cmocka_unit_test(test_auto_one_call),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_required),
        cmocka_unit_test(test_ends_in_thinking),
        cmocka_unit_test(test_named),
        cmocka_unit_test(test_content),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_word_marker),
        cmocka_unit_test(test_names_then_json),
        cmocka_unit_test(test_bare),
        cmocka_unit_test(test_harmony),
        cmocka_unit_test(test_tags),
        cmocka_unit_test(test_tags_bare_strings),
        cmocka_unit_test(test_pythonic),
        cmocka_unit_test(test_braced),
        cmocka_unit_test(test_other_members),
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
