/* Anthropic's API: conversations as templates get them, every field, errors, streams, tools, thinking, on the mock and a tiny model. */
#include "serving.h"

#include "serve/anthropic.h"
#include "serve/receipt.h"

#define MESSAGES "/v1/messages"
#define COUNT    "/v1/messages/count_tokens"

/* ---- conversations ---- */

/* system and messages (' for ") become `wanted`; texts of warnings joined by "|". */
static void becomes(const char *system, const char *messages, const char *wanted, const char *warned)
{
    json_t *s = system ? json_loads(J(system), JSON_DECODE_ANY, NULL) : NULL, *m = json_of(J(messages)),
           *w = json_of(J(wanted)), *warnings = json_array(), *out = NULL;
    char told[500] = "";

    assert_ok(mlxr_anthropic_messages(&out, s, m, warnings, false, &err), &err);
    if (!json_equal(out, w)) {
        char *text = json_dumps(out, JSON_COMPACT);
        fail_msg("%s became %s, wanted %s", messages, text, wanted);
    }
    for (size_t i = 0; i < json_array_size(warnings); i++)
        snprintf(told + strlen(told), sizeof told - strlen(told), "%s%s", i ? "|" : "",
                 json_string_value(json_array_get(warnings, i)));
    assert_string_equal(told, warned);
    json_decref(s);
    json_decref(m);
    json_decref(w);
    json_decref(warnings);
    json_decref(out);
}

static void conversations(void **state)
{
    (void)state;
    becomes("'Be short.'", "[{'role':'user','content':'Hi'}]",
            "[{'role':'system','content':'Be short.'},{'role':'user','content':'Hi'}]", "");
    becomes("[{'type':'text','text':'a','cache_control':{'type':'ephemeral'}},{'type':'text','text':'b'}]",
            "[{'role':'user','content':[{'type':'text','text':'c'},{'type':'text','text':'d'}]}]",
            "[{'role':'system','content':'ab'},{'role':'user','content':'cd'}]", "");
    becomes("''", "[{'role':'user','content':''}]", "[{'role':'user','content':''}]", "");
    /* a system message where it stands */
    becomes(
        NULL, "[{'role':'user','content':'a'},{'role':'system','content':'b'},{'role':'user','content':'c'}]",
        "[{'role':'user','content':'a'},{'role':'system','content':'b'},{'role':'user','content':'c'}]", "");
    /* turns of one role are one */
    becomes(NULL,
            "[{'role':'user','content':'a'},{'role':'user','content':'b'},{'role':'assistant','content':'c'},"
            "{'role':'assistant','content':'d'}]",
            "[{'role':'user','content':'a\\n\\nb'},{'role':'assistant','content':'c\\n\\nd'}]", "");
    /* calls and results; results first, with the tool's name; an error says so, once */
    becomes(NULL,
            "[{'role':'user','content':'w?'},"
            "{'role':'assistant','content':[{'type':'thinking','thinking':'hm','signature':'x'},"
            "{'type':'redacted_thinking','data':'zz'},{'type':'text','text':'see'},"
            "{'type':'tool_use','id':'t1','name':'weather','input':{'city':'Rome'}},"
            "{'type':'tool_use','id':'t2','name':'clock','input':{}}]},"
            "{'role':'user','content':[{'type':'text','text':'and?'},"
            "{'type':'tool_result','tool_use_id':'t2','content':[{'type':'text','text':'no "
            "'},{'type':'text','text':'clock'}],"
            "'is_error':true},"
            "{'type':'tool_result','tool_use_id':'t1','content':'12'},"
            "{'type':'tool_result','tool_use_id':'t3','content':'error: x','is_error':true},"
            "{'type':'tool_result','tool_use_id':'t1'}]}]",
            "[{'role':'user','content':'w?'},"
            "{'role':'assistant','content':'see','reasoning_content':'hm','tool_calls':["
            "{'id':'t1','type':'function','function':{'name':'weather','arguments':{'city':'Rome'}}},"
            "{'id':'t2','type':'function','function':{'name':'clock','arguments':{}}}]},"
            "{'role':'tool','content':'Error: no clock','tool_call_id':'t2','name':'clock'},"
            "{'role':'tool','content':'12','tool_call_id':'t1','name':'weather'},"
            "{'role':'tool','content':'error: x','tool_call_id':'t3'},"
            "{'role':'tool','content':'','tool_call_id':'t1','name':'weather'},"
            "{'role':'user','content':'and?'}]",
            "");
    /* only results: no empty turn of the user behind them */
    becomes(
        NULL,
        "[{'role':'assistant','content':[{'type':'tool_use','id':'t','name':'f','input':{}}]},"
        "{'role':'user','content':[{'type':'tool_result','tool_use_id':'t','content':'1'}]}]",
        "[{'role':'assistant','content':'','tool_calls':[{'id':'t','type':'function','function':{'name':'f',"
        "'arguments':{}}}]},{'role':'tool','content':'1','tool_call_id':'t','name':'f'}]",
        "");
    becomes(
        NULL,
        "[{'role':'user','content':[{'type':'document','title':'T','context':'C','source':{'type':'text',"
        "'media_type':'text/plain','data':'D'},'citations':{'enabled':true}},{'type':'text','text':'?'}]}]",
        "[{'role':'user','content':'<document>\\n<title>T</title>\\n<context>C</context>\\nD\\n</"
        "document>\\n?'}]",
        "document: \"citations\" has no effect here");
    becomes(NULL,
            "[{'role':'user','content':[{'type':'document','source':{'type':'content','content':["
            "{'type':'text','text':'D'}]}}]}]",
            "[{'role':'user','content':'<document>\\nD\\n</document>\\n'}]", "");
    becomes(NULL,
            "[{'role':'user','content':[{'type':'novelty'},{'type':'novelty'},{'type':'text','text':'a'}]}]",
            "[{'role':'user','content':'a'}]", "messages: a block of type \"novelty\" has no effect here");
}

static void conversations_refused(void **state)
{
    static const struct {
        const char *messages, *text;
    } cases[] = {
        {"[{'role':'tool','content':'x'}]", "messages.0.role"},
        {"[{'content':'x'}]", "messages.0.role"},
        {"[3]", "messages.0.role"},
        {"[{'role':'user'}]", "messages.0.content: is neither"},
        {"[{'role':'user','content':5}]", "messages.0.content: is neither"},
        {"[{'role':'user','content':[1]}]", "messages.0.content.0: the block has no type"},
        {"[{'role':'user','content':'a'},{'role':'user','content':[{'type':'text'}]}]",
         "messages.1.content.0: text"},
        {"[{'role':'user','content':[{'type':'text','text':'a'},{'type':'image','source':{}}]}]",
         "messages.0.content.1: image"},
        {"[{'role':'user','content':[{'type':'document','source':{'type':'base64','data':'aa'}}]}]",
         "messages.0.content.0: document"},
        {"[{'role':'user','content':[{'type':'document'}]}]", "messages.0.content.0: document"},
        {"[{'role':'user','content':[{'type':'document','source':{'type':'text'}}]}]", "has no data"},
        {"[{'role':'user','content':[{'type':'tool_result','content':'a'}]}]", "tool_use_id"},
        {"[{'role':'user','content':[{'type':'tool_result','tool_use_id':'t','content':[{'type':'image'}]}]}"
         "]",
         "messages.0.content.0: image"},
        {"[{'role':'user','content':[{'type':'tool_use','id':'a','name':'b','input':{}}]}]",
         "only a message"},
        {"[{'role':'assistant','content':[{'type':'tool_result','tool_use_id':'t'}]}]", "only a message"},
        {"[{'role':'assistant','content':[{'type':'tool_use','name':'b','input':{}}]}]",
         "tool_use: \"id\" is required"},
        {"[{'role':'assistant','content':[{'type':'tool_use','id':'a','name':'b','input':'{}'}]}]",
         "tool_use: \"input\" is a string"},
        {"[{'role':'assistant','content':[{'type':'thinking'}]}]", "thinking: \"thinking\" is required"},
    };

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        json_t *m = json_of(J(cases[i].messages)), *warnings = json_array(), *out;
        mlxr_status st = mlxr_anthropic_messages(&out, NULL, m, warnings, false, &err);
        if (st != MLXR_E_INVALID_ARGUMENT || out || !strstr(err.message, cases[i].text))
            fail_msg("%s: %d \"%s\", wanted \"%s\"", cases[i].messages, (int)st, err.message, cases[i].text);
        json_decref(m);
        json_decref(warnings);
    }
}

/* ---- requests, on the mock: it says "You said: PROMPT", a word a token ---- */

#define HI "'messages':[{'role':'user','content':'Hi there'}]"

static void whole_answer(void **state)
{
    mlxr_exchange x = post(MESSAGES, J("{'model':'m','max_tokens':99," HI "}"));
    char id[64];
    json_t *v;

    (void)state;
    assert_int_equal(x.status, 200);
    assert_non_null(header_of(&x, "request-id"));
    snprintf(id, sizeof id, "%s", header_of(&x, "request-id"));
    assert_int_equal(strlen(id), 28);
    v = body_json(&x);
    assert_int_equal(strlen(text_at(v, "id")), 28);
    assert_memory_equal(text_at(v, "id"), "msg_", 4);
    assert_string_equal(text_at(v, "type"), "message");
    assert_string_equal(text_at(v, "role"), "assistant");
    assert_string_equal(text_at(v, "model"), "m");
    assert_string_equal(text_at(v, "content.0.type"), "text");
    assert_string_equal(text_at(v, "content.0.text"), "You said: Hi there");
    assert_string_equal(text_at(v, "stop_reason"), "end_turn");
    assert_true(json_is_null(at(v, "stop_sequence")));
    assert_int_equal(int_at(v, "usage.output_tokens"), 4);
    assert_int_equal(int_at(v, "usage.cache_read_input_tokens"), 0);
    assert_int_equal(int_at(v, "usage.cache_creation_input_tokens"), 0);
    assert_null(at(v, "warnings"));
    assert_null(at(v, "receipt"));
    json_decref(v);
}

static void stop_reasons(void **state)
{
    static const struct {
        const char *field, *text, *reason, *sequence;
    } cases[] = {
        {"'max_tokens':2", "You said:", "max_tokens", NULL},
        {"'max_tokens':99,'stop_sequences':['there']", "You said: Hi ", "stop_sequence", "there"},
        {"'max_tokens':99,'stop_sequences':['nowhere','d: H']", "You sai", "stop_sequence", "d: H"},
        {"'max_tokens':99,'stop_sequences':['nowhere']", "You said: Hi there", "end_turn", NULL},
        {"'max_tokens':99,'stop_sequences':[]", "You said: Hi there", "end_turn", NULL},
        {"'max_tokens':99,'stop_sequences':null", "You said: Hi there", "end_turn", NULL},
        {"'max_tokens':99999999999", "You said: Hi there", "end_turn", NULL},
    };

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        json_t *v = post_json(MESSAGES, Jf("{'model':'m',%s," HI "}", cases[i].field), 200), *s;
        mlxr_exchange x = post(MESSAGES, Jf("{'model':'m','stream':true,%s," HI "}", cases[i].field));
        size_t n;
        assert_string_equal(text_at(v, "content.0.text"), cases[i].text);
        assert_string_equal(text_at(v, "stop_reason"), cases[i].reason);
        if (cases[i].sequence)
            assert_string_equal(text_at(v, "stop_sequence"), cases[i].sequence);
        else
            assert_true(json_is_null(at(v, "stop_sequence")));
        s = stream_json(&x);
        n = json_array_size(s);
        assert_true(json_equal(at(json_array_get(s, n - 2), "delta.stop_reason"), at(v, "stop_reason")));
        assert_true(json_equal(at(json_array_get(s, n - 2), "delta.stop_sequence"), at(v, "stop_sequence")));
        json_decref(v);
        json_decref(s);
    }
}

static void streams(void **state)
{
    static const char *const types[] = {"message_start",       "content_block_start", "content_block_delta",
                                        "content_block_delta", "content_block_delta", "content_block_delta",
                                        "content_block_stop",  "message_delta",       "message_stop"};
    mlxr_exchange x = post(MESSAGES, J("{'model':'m','max_tokens':99,'stream':true," HI "}"));
    char text[100] = "";
    json_t *s;

    (void)state;
    assert_int_equal(x.status, 200);
    assert_string_equal(x.content_type, "text/event-stream");
    assert_non_null(strstr(x.body, "event: message_start\ndata: {"));
    assert_non_null(strstr(x.body, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
    assert_null(strstr(x.body, "[DONE]"));
    s = stream_json(&x);
    assert_int_equal(json_array_size(s), MLXR_COUNT(types));
    for (size_t i = 0; i < MLXR_COUNT(types); i++) {
        const json_t *e = json_array_get(s, i);
        assert_string_equal(text_at(e, "type"), types[i]);
        if (strcmp(types[i], "content_block_delta") == 0) strcat(text, text_at(e, "delta.text"));
    }
    assert_string_equal(text, "You said: Hi there");
    assert_int_equal(json_array_size(at(s, "0.message.content")), 0);
    assert_true(json_is_null(at(s, "0.message.stop_reason")));
    assert_int_equal(int_at(s, "1.index"), 0);
    assert_string_equal(text_at(s, "1.content_block.type"), "text");
    assert_int_equal(int_at(s, "7.usage.output_tokens"), 4);
    json_decref(s);
}

static void errors(void **state)
{
    static const struct {
        const char *body, *type, *text;
        int status;
    } cases[] = {
        {"{}", "invalid_request_error", "model is required", 400},
        {"{'model':''," HI "}", "invalid_request_error", "model is required", 400},
        {"{'model':'m'," HI "}", "invalid_request_error", "max_tokens is required and must be positive", 400},
        {"{'model':'m','max_tokens':0," HI "}", "invalid_request_error",
         "max_tokens is required and must be positive", 400},
        {"{'model':'m','max_tokens':-4," HI "}", "invalid_request_error", "must be positive", 400},
        {"{'model':'m','max_tokens':1.5," HI "}", "invalid_request_error", "max_tokens", 400},
        {"{'model':'m','max_tokens':'9'," HI "}", "invalid_request_error", "max_tokens", 400},
        {"{'model':'m','max_tokens':9}", "invalid_request_error", "messages is required", 400},
        {"{'model':'m','max_tokens':9,'messages':[]}", "invalid_request_error", "messages is required", 400},
        {"{'model':'m','max_tokens':9,'messages':'x'}", "invalid_request_error", "messages", 400},
        {"{'model':5,'max_tokens':9," HI "}", "invalid_request_error", "model", 400},
        {"[]", "invalid_request_error", "object", 400},
        {"{'model':", "invalid_request_error", "request", 400},
        {"{'model':'m','max_tokens':9,'top_p':2," HI "}", "invalid_request_error", "top_p", 400},
        {"{'model':'m','max_tokens':9,'stop_sequences':'x'," HI "}", "invalid_request_error",
         "stop_sequences", 400},
        {"{'model':'m','max_tokens':9,'stop_sequences':[1]," HI "}", "invalid_request_error",
         "stop_sequences", 400},
        {"{'model':'m','max_tokens':9,'thinking':{}," HI "}", "invalid_request_error", "thinking", 400},
        {"{'model':'m','max_tokens':9,'thinking':{'type':'enabled','budget_tokens':0}," HI "}",
         "invalid_request_error", "budget_tokens", 400},
        {"{'model':'m','max_tokens':9,'thinking':{'type':'enabled','budget_tokens':'x'}," HI "}",
         "invalid_request_error", "budget_tokens", 400},
        {"{'model':'m','max_tokens':9,'output_config':{'effort':'huge'}," HI "}", "invalid_request_error",
         "effort", 400},
        {"{'model':'m','max_tokens':9,'output_config':{'format':{'type':'text'}}," HI "}",
         "invalid_request_error", "json_schema", 400},
        {"{'model':'m','max_tokens':9,'output_format':{'type':'json_schema'}," HI "}",
         "invalid_request_error", "schema", 400},
        {"{'model':'m','max_tokens':9,'tool_choice':{'type':'any'}," HI "}", "invalid_request_error",
         "no tools", 400},
        {"{'model':'m','max_tokens':9,'tools':[{'name':'f','input_schema':{'type':'object'}}],"
         "'tool_choice':{'type':'tool','name':'g'}," HI "}",
         "invalid_request_error", "no tool \"g\"", 400},
        {"{'model':'m','max_tokens':9,'tools':[{'name':'f','input_schema':{'type':'object'}}],"
         "'tool_choice':{'type':'some'}," HI "}",
         "invalid_request_error", "tool_choice", 400},
        {"{'model':'m','max_tokens':9,'tools':[{'name':'f'}]," HI "}", "invalid_request_error", "tools.0",
         400},
        {"{'model':'m','max_tokens':9,'tools':[{'type':'web_search_20250305','name':'web_search'}]," HI "}",
         "invalid_request_error", "web_search_20250305", 400},
        {"{'model':'m','max_tokens':9,'container':'c'," HI "}", "invalid_request_error", "container", 400},
        {"{'model':'m','max_tokens':9,'mcp_servers':[{}]," HI "}", "invalid_request_error", "mcp_servers",
         400},
        {"{'model':'m','max_tokens':9,'messages':[{'role':'user','content':[{'type':'image'}]}]}",
         "invalid_request_error", "image", 400},
    };

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        mlxr_exchange x = post(MESSAGES, J(cases[i].body));
        json_t *v;
        char id[64];
        if (x.status != cases[i].status) fail_msg("%s: %d %s", cases[i].body, x.status, x.body);
        snprintf(id, sizeof id, "%s", header_of(&x, "request-id"));
        v = body_json(&x);
        assert_string_equal(text_at(v, "type"), "error");
        assert_string_equal(text_at(v, "error.type"), cases[i].type);
        if (!strstr(text_at(v, "error.message"), cases[i].text))
            fail_msg("%s: \"%s\", wanted \"%s\"", cases[i].body, text_at(v, "error.message"), cases[i].text);
        assert_string_equal(text_at(v, "request_id"), id);
        json_decref(v);
    }
}

/* What has no effect is told, in whole answers and in streams; what a mock or a model cannot do of thinking is dropped. */
static void warnings(void **state)
{
    static const struct {
        const char *field, *text;
    } cases[] = {
        {"'thinking':{'type':'enabled','budget_tokens':50}", "thinking"},
        {"'thinking':{'type':'adaptive','display':'omitted'}", "\"display\""},
        {"'output_config':{'effort':'high'}", "thinking"},
        {"'output_config':{'verbosity':1}", "\"verbosity\""},
        {"'service_tier':'standard_only'", "service_tier"},
        {"'context_management':{'edits':[]}", "context_management"},
        {"'stop_sequence':['x']", "\"stop_sequences\" meant"},
    };
    static const char *const quiet[] = {"'metadata':{'user_id':'u'}",
                                        "'service_tier':'auto'",
                                        "'thinking':{'type':'disabled'}",
                                        "'mcp_servers':[]",
                                        "'temperature':0.5,'top_k':3,'top_p':0.5",
                                        "'tools':[],'tool_choice':{'type':'auto'}",
                                        "'cache_control':{'type':'ephemeral'}"};

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        json_t *v = post_json(MESSAGES, Jf("{'model':'m','max_tokens':9,%s," HI "}", cases[i].field), 200),
               *s;
        mlxr_exchange x = post(MESSAGES,
                               Jf("{'model':'m','max_tokens':9,'stream':true,%s," HI "}", cases[i].field));
        if (!at(v, "warnings.0") || !strstr(text_at(v, "warnings.0"), cases[i].text))
            fail_msg("%s: no warning with %s", cases[i].field, cases[i].text);
        s = stream_json(&x);
        assert_true(json_equal(at(s, "0.message.warnings"), at(v, "warnings")));
        json_decref(v);
        json_decref(s);
    }
    for (size_t i = 0; i < MLXR_COUNT(quiet); i++) {
        json_t *v = post_json(MESSAGES, Jf("{'model':'m','max_tokens':9,%s," HI "}", quiet[i]), 200);
        if (at(v, "warnings")) fail_msg("%s: %s", quiet[i], text_at(v, "warnings.0"));
        json_decref(v);
    }
}

static void headers_of_betas(void **state)
{
    static const char *const headers[] = {"anthropic-version: 2023-06-01", "anthropic-beta: a,b",
                                          "x-api-key: k", NULL};
    const char *body = J("{'model':'m','max_tokens':9," HI "}");
    mlxr_exchange x = exchange("POST", MESSAGES, headers, body, strlen(body));

    (void)state;
    assert_int_equal(x.status, 200);
    mlxr_exchange_clear(&x);
    x = get(MESSAGES);
    assert_int_equal(x.status, 405);
    assert_non_null(strstr(x.body, "\"type\":\"error\""));
    mlxr_exchange_clear(&x);
}

/* ---- a tiny model ---- */

static void counts(void **state)
{
    json_t *n, *v;

    (void)state;
    n = post_json(COUNT, J("{'model':'tiny'," HI ",'system':'Be good'}"), 200);
    v = post_json(MESSAGES, J("{'model':'tiny','max_tokens':2," HI ",'system':'Be good'}"), 200);
    assert_int_equal(int_at(n, "input_tokens"),
                     int_at(v, "usage.input_tokens") + int_at(v, "usage.cache_read_input_tokens"));
    json_decref(v);
    v = post_json(COUNT,
                  J("{'model':'tiny'," HI ",'system':'Be good',"
                    "'tools':[{'name':'f','description':'d','input_schema':{'type':'object'}}]}"),
                  200);
    assert_true(int_at(v, "input_tokens") > int_at(n, "input_tokens"));
    json_decref(v);
    json_decref(n);
    refuses(COUNT, J("{'model':'tiny'}"), 400, "messages is required");
    refuses(COUNT, J("{'model':'nope'," HI "}"), 404, "nope");
    refuses(MESSAGES, J("{'model':'nope','max_tokens':4," HI "}"), 404, "nope");
}

/* The prompt found again is told apart from what was computed. */
static void cached_usage(void **state)
{
    char body[3000], text[2001];
    json_t *a, *b;

    (void)state;
    for (size_t i = 0; i < 2000; i++) text[i] = (char)('a' + i % 7);
    text[300] = '\0';
    snprintf(body, sizeof body,
             "{\"model\":\"tiny\",\"max_tokens\":1,\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}",
             text);
    a = post_json(MESSAGES, body, 200);
    b = post_json(MESSAGES, body, 200);
    assert_int_equal(int_at(a, "usage.cache_read_input_tokens"), 0);
    assert_true(int_at(b, "usage.cache_read_input_tokens") > 0);
    assert_int_equal(int_at(a, "usage.input_tokens"),
                     int_at(b, "usage.input_tokens") + int_at(b, "usage.cache_read_input_tokens"));
    json_decref(a);
    json_decref(b);
}

/* Whole and streamed answers are the same at one seed, which the header gives. */
static json_t *seeded(const char *body, bool stream)
{
    static const char *const headers[] = {"X-Mlxr-Receipt: full", "X-Mlxr-Seed: 11", NULL};
    mlxr_exchange x = exchange("POST", MESSAGES, headers, body, strlen(body));

    if (x.status != 200) fail_msg("%s: %d %s", body, x.status, x.body);
    return stream ? stream_json(&x) : body_json(&x);
}

static void tools(void **state)
{
    const char *rest = "'model':'t','max_tokens':120,'thinking':{'type':'disabled'},'tools':[{'name':'f','"
                       "description':'d','input_schema':"
                       "{'type':'object','properties':{'n':{'type':'integer','minimum':0,'maximum':9}},"
                       "'required':['n'],'additionalProperties':false}}],'tool_choice':{'type':'any',"
                       "'disable_parallel_tool_use':true}," HI "}";
    json_t *v = seeded(Jf("{%s", rest), false), *s = seeded(Jf("{'stream':true,%s", rest), true), *input;
    size_t n = json_array_size(s), i;

    (void)state;
    if (json_array_size(at(v, "content")) != 1 || strcmp(text_at(v, "content.0.type"), "tool_use") != 0)
        fail_msg("no call: %s", json_dumps(v, JSON_COMPACT));
    assert_string_equal(text_at(v, "content.0.name"), "f");
    assert_memory_equal(text_at(v, "content.0.id"), "toolu_", 6);
    assert_in_range(int_at(v, "content.0.input.n"), 0, 9);
    assert_string_equal(text_at(v, "stop_reason"), "tool_use");
    for (i = 0; i < n; i++)
        if (strcmp(text_at(json_array_get(s, i), "type"), "content_block_start") == 0) break;
    assert_string_equal(text_at(json_array_get(s, i), "content_block.type"), "tool_use");
    assert_int_equal(json_object_size(at(json_array_get(s, i), "content_block.input")), 0);
    assert_string_equal(text_at(json_array_get(s, i + 1), "delta.type"), "input_json_delta");
    input = json_of(text_at(json_array_get(s, i + 1), "delta.partial_json"));
    assert_true(json_equal(input, at(v, "content.0.input")));
    assert_string_equal(text_at(json_array_get(s, n - 2), "delta.stop_reason"), "tool_use");
    json_decref(input);
    json_decref(v);
    json_decref(s);
}

static void structured(void **state)
{
    json_t *v = post_json(
               MESSAGES,
               J("{'model':'tiny','max_tokens':200," HI ",'temperature':1.5,'output_config':{'format':"
                 "{'type':'json_schema','schema':{'type':'object','properties':{'a':{'enum':[1,2]}},"
                 "'required':['a'],'additionalProperties':false}}}}"),
               200),
           *a = json_of(text_at(v, "content.0.text"));

    (void)state;
    assert_in_range(int_at(a, "a"), 1, 2);
    json_decref(a);
    json_decref(v);
    refuses(MESSAGES,
            J("{'model':'tiny','max_tokens':9," HI ",'output_config':{'format':{'type':'json_schema',"
              "'schema':{'type':'wrong'}}}}"),
            400, "schema");
}

/* ---- a model that thinks: the tiny one with a template that opens a block ---- */

static char thinker_dir[128];

static int make_thinker(void)
{
    static const char *const files[] = {"config.json", "generation_config.json", "model.safetensors",
                                        "tokenizer.json"};
    const char *config =
        "{\"bos_token\":\"<s>\",\"eos_token\":\"<|end|>\",\"chat_template\":\"{{ bos_token }}{% if tools "
        "%}{{ tools | tojson }}<tool_call></tool_call>{% endif %}{% for m in "
        "messages "
        "%}<|{{ m['role'] }}|>{% if m.reasoning_content is defined %}<think>\\n{{ m.reasoning_content "
        "}}\\n</think>\\n\\n{% endif %}{{ m['content'] }}<|end|>{% endfor %}{% if add_generation_prompt "
        "%}<|assistant|>{% if enable_thinking is not defined or enable_thinking %}<think>\\n{% else "
        "%}<think>\\n\\n</think>\\n\\n{% endif %}{% endif %}\"}";
    char path[300], from[1024];

    snprintf(thinker_dir, sizeof thinker_dir, "%s/thinker", serving_dir);
    if (mlxr_make_dirs(thinker_dir, &err) != MLXR_OK) return -1;
    for (size_t i = 0; i < MLXR_COUNT(files); i++) {
        snprintf(path, sizeof path, "%s/%s", thinker_dir, files[i]);
        snprintf(from, sizeof from, "%s/%s", TINY, files[i]);
        if (symlink(from, path) != 0) return -1;
    }
    snprintf(path, sizeof path, "%s/tokenizer_config.json", thinker_dir);
    return mlxr_file_write(path, config, strlen(config), &err) == MLXR_OK ? 0 : -1;
}

static int begin_thinker(void **state)
{
    mlxr_serve_options o = serving_options();

    (void)state;
    if (serving_make_dir() != 0 || make_thinker() != 0) return -1;
    o.folder = thinker_dir;
    return serving_open(&o);
}

static void thinking_ends(void **state)
{
    json_t *v, *s;
    size_t n = 0;

    (void)state;
    v = seeded(J("{'model':'t','max_tokens':60,'thinking':{'type':'enabled','budget_tokens':8}," HI "}"),
               false);
    s = seeded(
        J("{'model':'t','max_tokens':60,'stream':true,'thinking':{'type':'enabled','budget_tokens':8}," HI
          "}"),
        true);
    assert_null(at(v, "warnings"));
    assert_string_equal(text_at(v, "content.0.type"), "thinking");
    assert_string_equal(text_at(v, "content.0.signature"), "");
    assert_string_equal(text_at(v, "content.1.type"), "text");
    assert_int_equal(int_at(v, "receipt.request.max_thinking"), 8);
    /* 8 tokens, then the markers, "\n</think>\n\n" in the tokens of this vocabulary */
    {
        static const int close[] = {198, 27, 14, 256, 72, 77, 74, 29, 198, 198};
        for (size_t i = 0; i < MLXR_COUNT(close); i++) {
            char path[40];
            snprintf(path, sizeof path, "receipt.choices.0.ids.%zu", 8 + i);
            assert_int_equal(int_at(v, path), close[i]);
        }
    }
    assert_string_equal(text_at(s, "1.content_block.type"), "thinking");
    for (size_t i = 0; i < json_array_size(s); i++)
        n += strcmp(text_at(json_array_get(s, i), "type"), "content_block_stop") == 0;
    assert_int_equal(n, 2);
    json_decref(v);
    json_decref(s);
    v = seeded(J("{'model':'t','max_tokens':60,'thinking':{'type':'disabled'}," HI "}"), false);
    assert_string_equal(text_at(v, "content.0.type"), "text");
    json_decref(v);
}

/* With a grammar the markers are followed too, and the form holds behind them. */
static void thinking_with_form(void **state)
{
    json_t *v = seeded(J("{'model':'t','max_tokens':90,'thinking':{'type':'enabled','budget_tokens':5}," HI
                         ",'output_format':{'type':'json_schema','schema':{'enum':['yes','no']}}}"),
                       false);

    (void)state;
    assert_string_equal(text_at(v, "content.0.type"), "thinking");
    assert_non_null(strstr("\"yes\" \"no\"", text_at(v, "content.1.text")));
    assert_string_equal(text_at(v, "stop_reason"), "end_turn");
    json_decref(v);
}

/* ---- receipts ---- */

static void receipts(void **state)
{
    json_t *a = seeded(J("{'model':'tiny','max_tokens':12," HI "}"), false),
           *b = seeded(J("{'model':'tiny','max_tokens':12," HI "}"), false),
           *c = seeded(J("{'model':'tiny','max_tokens':11," HI "}"), false), *d = NULL;
    mlxr_exchange x = post(MESSAGES, J("{'model':'tiny','max_tokens':12,'receipt':true," HI "}"));
    json_t *e = body_json(&x);

    (void)state;
    assert_int_equal(int_at(a, "receipt.receipt"), 1);
    assert_int_equal(int_at(a, "receipt.request.sampling.seed"), 11);
    assert_int_equal(json_array_size(at(a, "receipt.choices.0.ids")), 12);
    assert_int_equal(json_array_size(at(a, "receipt.prompts.0.ids")), int_at(a, "receipt.prompts.0.tokens"));
    assert_string_equal(text_at(a, "receipt.body.model"), "tiny");
    assert_int_equal(strlen(text_at(a, "receipt.model.tokenizer_sha256")), 64);
    assert_int_equal(strlen(text_at(a, "receipt.model.chat_template_sha256")), 64);
    assert_ok(mlxr_receipt_compare(&d, at(a, "receipt"), at(b, "receipt"), &err), &err);
    assert_int_equal(json_array_size(d), 0);
    json_decref(d);
    assert_ok(mlxr_receipt_compare(&d, at(a, "receipt"), at(c, "receipt"), &err), &err);
    assert_true(json_array_size(d) >= 3);
    assert_string_equal(text_at(d, "0.path"), "request.max_tokens");
    json_decref(d);
    /* A plain one holds no text of the client's. */
    assert_null(at(e, "receipt.body"));
    assert_null(at(e, "receipt.choices.0.ids"));
    assert_true(int_at(e, "receipt.request.sampling.seed") >= 0);
    json_decref(a);
    json_decref(b);
    json_decref(c);
    json_decref(e);
    refuses(MESSAGES, J("{'model':'tiny','max_tokens':12,'receipt':'some'," HI "}"), 400, "receipt");
}

/* ---- the default model ---- */

static int begin_default(void **state)
{
    mlxr_serve_options o = serving_options();

    (void)state;
    if (!mlxr_path_is_dir(MLXR_TEST_DIR "/../../models/SmolLM2-135M-Instruct-4bit")) return 0;
    o.engine.precision = MLXR_PRECISION_FAST;
    o.engine.n_threads = 0;
    o.folder = MLXR_TEST_DIR "/../../models/SmolLM2-135M-Instruct-4bit";
    return serving_open(&o);
}

static void default_model(void **state)
{
    json_t *v, *s;
    char text[2000] = "";

    (void)state;
    if (!serving) {
        print_message("SKIP: models/SmolLM2-135M-Instruct-4bit is not there\n");
        return;
    }
    v = seeded(J("{'model':'d','max_tokens':24,'temperature':0,'messages':[{'role':'user','content':"
                 "'What is the capital of France?'}]}"),
               false);
    if (!strstr(text_at(v, "content.0.text"), "Paris")) fail_msg("%s", text_at(v, "content.0.text"));
    s = seeded(
        J("{'model':'d','max_tokens':24,'temperature':0,'stream':true,'messages':[{'role':'user','content':"
          "'What is the capital of France?'}]}"),
        true);
    for (size_t i = 0; i < json_array_size(s); i++)
        if (at(json_array_get(s, i), "delta.text")) strcat(text, text_at(json_array_get(s, i), "delta.text"));
    assert_string_equal(text, text_at(v, "content.0.text"));
    json_decref(s);
    json_decref(v);
    v = post_json(
        MESSAGES,
        J("{'model':'d','max_tokens':99,'temperature':0,'tools':[{'name':'weather','description':'Weather of "
          "a "
          "city','input_schema':{'type':'object','properties':{'city':{'type':'string','maxLength':20}},"
          "'required':['city'],'additionalProperties':false}}],'tool_choice':{'type':'tool','name':'weather',"
          "'disable_parallel_tool_use':true},'messages':[{'role':'user','content':'Weather in Paris?'}]}"),
        200);
    assert_string_equal(text_at(v, "content.0.type"), "tool_use");
    assert_string_equal(text_at(v, "content.0.input.city"), "Paris");
    json_decref(v);
}

/* ---- */

static int begin_mock(void **state)
{
    (void)state;
    return serving_begin_mock();
}
static int begin_tiny(void **state)
{
    (void)state;
    return serving_begin_store();
}
static int end_serving(void **state)
{
    (void)state;
    return serving_end();
}

int main(void)
{
    const struct CMUnitTest plain[] = {cmocka_unit_test(conversations),
                                       cmocka_unit_test(conversations_refused)};
    const struct CMUnitTest mock[] = {
        cmocka_unit_test(whole_answer), cmocka_unit_test(stop_reasons), cmocka_unit_test(streams),
        cmocka_unit_test(errors),       cmocka_unit_test(warnings),     cmocka_unit_test(headers_of_betas),
    };
    const struct CMUnitTest tiny[] = {
        cmocka_unit_test(counts),
        cmocka_unit_test(cached_usage),
        cmocka_unit_test(structured),
        cmocka_unit_test(receipts),
    };
    const struct CMUnitTest thinker[] = {cmocka_unit_test(thinking_ends),
                                         cmocka_unit_test(thinking_with_form), cmocka_unit_test(tools)};
    const struct CMUnitTest whole[] = {cmocka_unit_test(default_model)};
    int failed = cmocka_run_group_tests(plain, NULL, NULL);

    failed += cmocka_run_group_tests(mock, begin_mock, end_serving);
    failed += cmocka_run_group_tests(tiny, begin_tiny, end_serving);
    failed += cmocka_run_group_tests(thinker, begin_thinker, end_serving);
    failed += cmocka_run_group_tests(whole, begin_default, end_serving);
    return failed;
}
