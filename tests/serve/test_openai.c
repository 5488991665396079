/* test_openai [MODEL]: OpenAI's API, a line a rule, on the mock, on a tiny model, and on one that thinks. With a folder named, the main
 * cases on that model alone; SKIP when it is not there. */
#include "serving.h"

#include <math.h>
#include <sys/stat.h>

#include "serve/encoding.h"
#include "serve/openai_items.h"

/* One request and what its answer has to hold: "path=value" (a text as it is, other values as JSON with ' for "), "path~part of a text",
 * "path!" (not there), "path?" (there), "path#n" (a list of n). */
struct line {
    const char *path, *body;
    int status;
    const char *checks[8];
};

static bool check(const json_t *v, const char *rule)
{
    size_t n = strcspn(rule, "=~!?#");
    char path[200], want[2000], *have;
    const json_t *x;
    bool ok = false;

    snprintf(path, sizeof path, "%.*s", (int)n, rule);
    x = at(v, path);
    switch (rule[n]) {
    case '!': return !x || json_is_null(x);
    case '?': return x && !json_is_null(x);
    case '#': return json_is_array(x) && json_array_size(x) == strtoul(rule + n + 1, NULL, 10);
    case '~': return json_is_string(x) && strstr(json_string_value(x), rule + n + 1);
    default: break;
    }
    if (json_is_string(x)) return strcmp(json_string_value(x), rule + n + 1) == 0;
    snprintf(want, sizeof want, "%s", J(rule + n + 1));
    have = x ? json_dumps(x, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    ok = have && strcmp(have, want) == 0;
    free(have);
    return ok;
}

static void run_lines(const struct line *lines, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        mlxr_exchange x = post(lines[i].path, J(lines[i].body));
        json_t *v;
        if (x.status != lines[i].status)
            fail_msg("%s %s: status %d, wanted %d: %s", lines[i].path, lines[i].body, x.status,
                     lines[i].status, x.body);
        v = json_of(x.body);
        for (size_t k = 0; k < MLXR_COUNT(lines[i].checks) && lines[i].checks[k]; k++)
            if (!check(v, lines[i].checks[k]))
                fail_msg("%s %s: not %s: %s", lines[i].path, lines[i].body, lines[i].checks[k], x.body);
        json_decref(v);
        mlxr_exchange_clear(&x);
    }
}

#define CHAT    "/v1/chat/completions"
#define TEXT    "/v1/completions"
#define EMBED   "/v1/embeddings"
#define RESPOND "/v1/responses"
#define HI      "'messages':[{'role':'user','content':'one two'}]"
#define TOOL                                                                                        \
    "{'type':'function','function':{'name':'pick','description':'d','parameters':{'type':'object'," \
    "'properties':{'c':{'enum':['r','g']}},'required':['c'],'additionalProperties':false}}}"
#define TOOL2                                                                                      \
    "{'type':'function','function':{'name':'drop','parameters':{'type':'object','properties':{},'" \
    "additionalProperties':false}}}"
#define BAD(param) "error.type=invalid_request_error", "error.param=" param

/* ---- on the mock ---- */

static void test_chat_fields(void **state)
{
    static const struct line lines[] = {
        {CHAT,
         "{'model':'m'," HI "}",
         200,
         {"choices.0.message.content=You said: one two", "choices.0.message.role=assistant",
          "choices.0.finish_reason=stop", "object=chat.completion", "choices.0.logprobs!",
          "usage.prompt_tokens=2", "usage.total_tokens=6", "warnings!"}},
        {CHAT,
         "{'model':'m'," HI ",'max_tokens':2}",
         200,
         {"choices.0.finish_reason=length", "usage.completion_tokens=2"}},
        {CHAT,
         "{'model':'m'," HI ",'max_tokens':3,'max_completion_tokens':1}",
         200,
         {"usage.completion_tokens=1"}},
        {CHAT,
         "{'model':'m'," HI ",'max_completion_tokens':null,'max_tokens':2}",
         200,
         {"usage.completion_tokens=2"}},
        {CHAT, "{'model':'m'," HI ",'options':{'num_predict':1}}", 200, {"usage.completion_tokens=1"}},
        {CHAT,
         "{'model':'m'," HI ",'options':{'num_predict':1},'max_tokens':2}",
         200,
         {"usage.completion_tokens=2"}},
        {CHAT,
         "{'model':'m'," HI ",'stop':'said'}",
         200,
         {"choices.0.message.content=You ", "choices.0.finish_reason=stop"}},
        {CHAT, "{'model':'m'," HI ",'stop':['zzz','one']}", 200, {"choices.0.message.content=You said: "}},
        {CHAT, "{'model':'m'," HI ",'stop':[1]}", 400, {BAD("stop")}},
        {CHAT,
         "{'model':'m'," HI ",'n':3}",
         200,
         {"choices#3", "choices.2.index=2", "choices.2.message.content=You said: one two",
          "usage.prompt_tokens=2", "usage.completion_tokens=12"}},
        {CHAT, "{'model':'m'," HI ",'n':0}", 400, {BAD("n")}},
        {CHAT,
         "{'model':'m'," HI
         ",'temperature':0,'top_p':0.5,'seed':7,'top_k':3,'min_p':0.1,'repeat_penalty':1.1,"
         "'frequency_penalty':1,'presence_penalty':-1,'user':'u','keep_alive':'1m','logit_bias':{'5':-100}}",
         200,
         {"warnings!"}},
        {CHAT, "{'model':'m'," HI ",'temperature':'x'}", 400, {BAD("temperature")}},
        {CHAT, "{'model':'m'," HI ",'top_p':1.5}", 400, {BAD("top_p")}},
        {CHAT, "{'model':'m'," HI ",'keep_alive':true}", 400, {BAD("keep_alive")}},
        {CHAT, "{'model':'m'," HI ",'keep_alive':'5'}", 400, {BAD("keep_alive")}},
        {CHAT, "{'model':'m'," HI ",'keep_alive':-1}", 200, {"choices#1"}},
        {CHAT, "{'model':'m'," HI ",'logit_bias':{'x':1}}", 400, {BAD("logit_bias")}},
        {CHAT, "{'model':'m'," HI ",'logit_bias':{'5':101}}", 400, {BAD("logit_bias")}},
        {CHAT,
         "{'model':'m'," HI ",'logprobs':true,'top_logprobs':21}",
         400,
         {BAD("top_logprobs"), "error.message~between 0 and 20"}},
        {CHAT, "{'model':'m'," HI ",'top_logprobs':2}", 400, {BAD("top_logprobs")}},
        {CHAT,
         "{'model':'m'," HI ",'store':true,'service_tier':'flex','zork':1}",
         200,
         {"warnings#3", "warnings.2~zork"}},
        {CHAT, "{'model':'m'," HI ",'store':false,'service_tier':'auto'}", 200, {"warnings!"}},
        {CHAT, "{'model':'m'," HI ",'functions':[{}]}", 400, {BAD("functions")}},
        {CHAT, "{'model':'m'," HI ",'modalities':['text']}", 200, {"choices#1"}},
        {CHAT, "{'model':'m'," HI ",'modalities':['text','audio']}", 400, {BAD("modalities")}},
        {CHAT,
         "{'model':'m'," HI ",'stream_options':{'include_obfuscation':true}}",
         200,
         {"warnings.0~include_obfuscation"}},
        {CHAT, "{'model':'m'," HI ",'stream_options':{'include_usage':1}}", 400, {BAD("stream_options")}},
        {CHAT, "{'model':'m'," HI ",'reasoning_effort':'none'}", 200, {"choices#1"}},
        {CHAT,
         "{'model':'m'," HI ",'reasoning_effort':'low'}",
         400,
         {BAD("reasoning_effort"), "error.message=\"m\" does not support thinking"}},
        {CHAT, "{'model':'m'," HI ",'reasoning_effort':'huge'}", 400, {BAD("reasoning_effort")}},
        {CHAT, "{'model':'m'," HI ",'reasoning':{'effort':'huge'}}", 400, {BAD("reasoning.effort")}},
        {CHAT, "{'model':'m'," HI ",'reasoning':{'effort':'none'}}", 200, {"choices#1"}},
        {CHAT, "{'model':'m'," HI ",'response_format':{'type':'text'}}", 200, {"choices#1"}},
        {CHAT, "{'model':'m'," HI ",'response_format':{'type':'yaml'}}", 400, {BAD("response_format")}},
        {CHAT,
         "{'model':'m'," HI ",'response_format':{'type':'json_schema','json_schema':{'name':'x'}}}",
         400,
         {BAD("response_format")}},
        {CHAT,
         "{'model':'m'," HI ",'chat_template_kwargs':{'messages':[]}}",
         400,
         {BAD("chat_template_kwargs")}},
        {CHAT,
         "{'model':'m'," HI ",'chat_template_kwargs':{'enable_thinking':1}}",
         400,
         {BAD("chat_template_kwargs")}},
        {CHAT,
         "{'model':'m'," HI ",'chat_template_kwargs':{'enable_thinking':false,'mood':'x'}}",
         200,
         {"choices#1"}},
        {CHAT, "{'model':''," HI "}", 400, {BAD("model"), "error.message=model is required"}},
        {CHAT, "{" HI "}", 400, {BAD("model")}},
        {CHAT,
         "{'model':'m','messages':[]}",
         400,
         {BAD("messages"), "error.message=[] is too short - 'messages'"}},
        {CHAT, "{'model':'m'}", 400, {BAD("messages")}},
        {CHAT, "{'model':'m','messages':'x'}", 400, {BAD("messages")}},
        {CHAT, "[]", 400, {"error.type=invalid_request_error"}},
        {CHAT, "{", 400, {"error.type=invalid_request_error"}},
    };
    run_lines(lines, MLXR_COUNT(lines));
}

static void test_messages(void **state)
{
#define M(list) "{'model':'m','messages':[" list "]}"
    static const struct line lines[] = {
        {CHAT,
         M("{'role':'user','content':[{'type':'text','text':'a '},{'type':'text','text':'b'}]}"),
         200,
         {"choices.0.message.content=You said: a b"}},
        {CHAT,
         M("{'role':'developer','content':'x'},{'role':'USER','content':'y'}"),
         200,
         {"choices.0.message.content=You said: y"}},
        {CHAT, M("{'role':'wizard','content':'x'}"), 400, {BAD("messages")}},
        {CHAT, M("{'content':'x'}"), 400, {BAD("messages")}},
        {CHAT, M("7"), 400, {BAD("messages")}},
        {CHAT, M("{'role':'user','content':null}"), 400, {BAD("messages")}},
        {CHAT,
         M("{'role':'user','content':3}"),
         400,
         {BAD("messages"), "error.message=invalid message format"}},
        {CHAT,
         M("{'role':'user','content':[{'type':'odd'}]}"),
         400,
         {"error.message=invalid message format"}},
        {CHAT,
         M("{'role':'user','content':[{'type':'image_url','image_url':{'url':'https://x/y.png'}}]}"),
         400,
         {"error.message=image URLs are not currently supported, please use base64 encoded data instead"}},
        {CHAT,
         M("{'role':'user','content':[{'type':'image_url','image_url':'data:image/gif;base64,AA=='}]}"),
         400,
         {"error.message=invalid image input"}},
        {CHAT,
         M("{'role':'user','content':[{'type':'image_url','image_url':'data:image/png;base64,AA=='}]}"),
         400,
         {BAD("messages"), "error.message~vision"}},
        {CHAT,
         M("{'role':'user','content':[{'type':'input_audio','input_audio':{'data':''}}]}"),
         400,
         {BAD("messages")}},
        {CHAT,
         M("{'role':'user','content':'q'},{'role':'assistant','content':null,'refusal':null,'annotations':[],"
           "'tool_calls':[{'id':'c1',"
           "'type':'function','function':{'name':'f','arguments':'{\\'a\\':1}'}}]},{'role':'tool','tool_call_"
           "id':'c1','content':'r'}"),
         200,
         {"choices.0.message.content=You said: r"}},
        {CHAT,
         M("{'role':'user','content':'q'},{'role':'assistant','content':null,'tool_calls':[{'id':'c1','type':"
           "'function','function':{"
           "'name':'f','arguments':'{oops'}}]}"),
         400,
         {BAD("messages"), "error.message=invalid tool call arguments"}},
        {CHAT,
         M("{'role':'user','content':'q'},{'role':'assistant','content':null,'tool_calls':[{'id':'c1'}]}"),
         400,
         {BAD("messages")}},
        {CHAT,
         M("{'role':'user','content':'q'},{'role':'assistant','content':'a','tool_calls':null,'function_call'"
           ":null},"
           "{'role':'user','content':'z'}"),
         200,
         {"choices.0.message.content=You said: z"}},
    };
    run_lines(lines, MLXR_COUNT(lines));
}

static json_t *converted(const char *messages)
{
    json_t *in = json_of(J(messages)), *out = NULL;

    assert_ok(mlxr_openai_messages(&out, in, &err), &err);
    json_decref(in);
    return out;
}

static void test_messages_for_templates(void **state)
{
    json_t *v = converted("[{'role':'developer','content':'s'},{'role':'assistant','content':null,'reasoning'"
                          ":'why','tool_calls':[{'id':'c1',"
                          "'function':{'name':'f','arguments':'{\\'a\\':1}'}},{'id':'c2','function':{'name':'"
                          "g','arguments':''}}]},"
                          "{'role':'tool','tool_call_id':'c2','content':'r'},{'role':'tool','tool_call_id':'"
                          "c1','name':'own','content':'r'}]");

    assert_string_equal(text_at(v, "0.role"), "system");
    assert_string_equal(text_at(v, "1.reasoning_content"), "why");
    assert_string_equal(text_at(v, "1.content"), "");
    assert_int_equal(int_at(v, "1.tool_calls.0.function.arguments.a"), 1);
    assert_true(json_is_object(at(v, "1.tool_calls.1.function.arguments")));
    assert_string_equal(text_at(v, "2.name"), "g");
    assert_string_equal(text_at(v, "3.name"), "own");
    json_decref(v);
}

static void test_tool_fields(void **state)
{
#define T(rest) "{'model':'m'," HI "," rest "}"
    static const struct line lines[] = {
        {CHAT,
         T("'tools':[" TOOL "]"),
         200,
         {"choices.0.message.tool_calls!", "choices.0.finish_reason=stop"}},
        {CHAT, T("'tools':[]"), 200, {"choices#1"}},
        {CHAT, T("'tools':[" TOOL "],'tool_choice':'none','parallel_tool_calls':false"), 200, {"choices#1"}},
        {CHAT, T("'tools':[" TOOL "],'tool_choice':'always'"), 400, {BAD("tool_choice")}},
        {CHAT,
         T("'tools':[" TOOL "],'tool_choice':{'type':'function','function':{'name':'zip'}}"),
         400,
         {BAD("tool_choice"), "error.message~zip"}},
        {CHAT,
         T("'tools':[" TOOL "],'tool_choice':{'type':'custom','name':'pick'}"),
         400,
         {BAD("tool_choice")}},
        {CHAT, T("'tool_choice':'required'"), 400, {BAD("tool_choice")}},
        {CHAT, T("'tool_choice':'auto'"), 200, {"choices#1"}},
        {CHAT, T("'tools':[" TOOL "," TOOL "]"), 400, {BAD("tools"), "error.message~already"}},
        {CHAT,
         T("'tools':[{'type':'custom','custom':{'name':'x'}}]"),
         400,
         {BAD("tools"), "error.message~custom"}},
        {CHAT, T("'tools':[{'type':'function','function':{}}]"), 400, {BAD("tools")}},
        {CHAT,
         T("'tools':[{'type':'function','function':{'name':'x','parameters':[]}}]"),
         400,
         {BAD("tools")}},
        {CHAT,
         T("'tools':[" TOOL "],'tool_choice':{'type':'allowed_tools','allowed_tools':{'mode':'auto','tools':["
           "{'type':'function','function':{'name':'zip'}}]}}"),
         400,
         {BAD("tool_choice")}},
        {CHAT,
         T("'tools':[" TOOL "," TOOL2 "],'tool_choice':{'type':'allowed_tools','allowed_tools':{'mode':'auto'"
           ",'tools':[{'type':'function','function':{'name':'drop'}}]}}"),
         200,
         {"choices#1"}},
    };
    run_lines(lines, MLXR_COUNT(lines));
}

/* Data of a stream's events; ends in [DONE] or, without done, does not. */
static json_t *stream_of(const char *path, const char *body, bool done)
{
    static const char last[] = "data: [DONE]\n\n";
    mlxr_exchange x = post(path, J(body));

    if (x.status != 200 || strcmp(x.content_type, "text/event-stream") != 0)
        fail_msg("%s: %d %s: %s", path, x.status, x.content_type, x.body);
    assert_true(x.n_body > sizeof last);
    assert_int_equal(strcmp(x.body + x.n_body - (sizeof last - 1), last) == 0, done);
    return stream_json(&x);
}

static void append(char *out, size_t max, const json_t *v, const char *path)
{
    const char *s = json_string_value(at(v, path));

    if (s) snprintf(out + strlen(out), max - strlen(out), "%s", s);
}

static void test_chat_stream(void **state)
{
    json_t *v = stream_of(
        CHAT, "{'model':'m'," HI ",'stream':true,'n':2,'stream_options':{'include_usage':true},'zork':1}",
        true);
    char texts[2][200] = {"", ""};
    size_t n = json_array_size(v), n_ends = 0;

    for (size_t i = 0; i < n; i++) {
        const json_t *c = json_array_get(v, i);
        assert_string_equal(text_at(c, "id"), text_at(v, "0.id"));
        assert_int_equal(int_at(c, "created"), int_at(v, "0.created"));
        assert_string_equal(text_at(c, "object"), "chat.completion.chunk");
        if (i + 1 == n) break;
        assert_true(json_is_null(at(c, "usage")) && at(c, "usage"));
        int64_t k = int_at(c, "choices.0.index");
        assert_in_range(k, 0, 1);
        if (!texts[k][0] && at(c, "choices.0.delta.role"))
            assert_string_equal(text_at(c, "choices.0.delta.content"), "");
        append(texts[k], sizeof texts[k], c, "choices.0.delta.content");
        if (at(c, "choices.0.finish_reason") && !json_is_null(at(c, "choices.0.finish_reason"))) {
            assert_int_equal(json_object_size(at(c, "choices.0.delta")), 0);
            n_ends++;
        }
    }
    assert_int_equal(n_ends, 2);
    assert_string_equal(texts[0], "You said: one two");
    assert_string_equal(texts[1], "You said: one two");
    assert_int_equal(json_array_size(at(json_array_get(v, n - 1), "choices")), 0);
    assert_int_equal(int_at(json_array_get(v, n - 1), "usage.completion_tokens"), 8);
    assert_true(check(json_array_get(v, n - 1), "warnings#1"));
    json_decref(v);
    v = stream_of(CHAT, "{'model':'m'," HI ",'stream':true,'zork':1}", true);
    n = json_array_size(v);
    assert_true(check(json_array_get(v, 0), "choices.0.delta.role=assistant"));
    assert_true(check(json_array_get(v, 0), "usage!"));
    assert_true(check(json_array_get(v, n - 1), "choices.0.finish_reason=stop"));
    assert_true(check(json_array_get(v, n - 1), "warnings#1"));
    json_decref(v);
    /* What fails before the first byte has its own status. */
    refuses(CHAT, J("{'model':'m'," HI ",'stream':true,'response_format':{'type':'json_object'}}"), 400,
            "format");
}

static void test_completions(void **state)
{
#define P(prompt, rest) "{'model':'m','prompt':" prompt rest "}"
    static const struct line lines[] = {
        {TEXT,
         P("'a b'", ""),
         200,
         {"object=text_completion", "choices.0.text=You said: a b", "choices.0.finish_reason=stop",
          "choices.0.logprobs!", "usage.prompt_tokens=2", "usage.total_tokens=6"}},
        {TEXT,
         P("['a b','c']", ",'n':2"),
         200,
         {"choices#4", "choices.1.text=You said: a b", "choices.2.text=You said: c", "choices.3.index=3",
          "usage.prompt_tokens=3", "usage.completion_tokens=14"}},
        {TEXT,
         P("'a b'", ",'echo':true,'max_tokens':1"),
         200,
         {"choices.0.text=a bYou", "choices.0.finish_reason=length"}},
        {TEXT, P("'a b'", ",'best_of':1,'n':2"), 200, {"choices#2"}},
        {TEXT, P("'a b'", ",'best_of':2,'n':2"), 200, {"choices#2"}},
        {TEXT, P("'a b'", ",'best_of':3,'n':2"), 400, {BAD("best_of")}},
        {TEXT, P("'a b'", ",'suffix':''"), 200, {"choices#1"}},
        {TEXT, P("'a b'", ",'suffix':'x'"), 400, {BAD("suffix"), "error.message=m does not support insert"}},
        {TEXT, P("'a b'", ",'logprobs':21"), 400, {BAD("logprobs"), "error.message~between 0 and 20"}},
        {TEXT, P("'a b'", ",'logprobs':-1"), 400, {BAD("logprobs")}},
        {TEXT, P("'a b'", ",'stop':'said'"), 200, {"choices.0.text=You "}},
        {TEXT, P("'a b'", ",'template':true"), 200, {"choices.0.text=You said: a b"}},
        {TEXT, P("[1,2]", ",'template':true"), 400, {BAD("template")}},
        {TEXT, P("[]", ""), 400, {BAD("prompt")}},
        {TEXT, P("[[]]", ""), 400, {BAD("prompt")}},
        {TEXT, P("[1,'a']", ""), 400, {BAD("prompt")}},
        {TEXT, P("['a',1]", ""), 400, {BAD("prompt")}},
        {TEXT, P("[-1]", ""), 400, {BAD("prompt")}},
        {TEXT, P("{}", ""), 400, {BAD("prompt")}},
        {TEXT, "{'model':'m'}", 400, {BAD("prompt")}},
        {TEXT, P("['a','b']", ",'receipt':true"), 400, {BAD("receipt")}},
    };
    json_t *v;
    size_t n;

    run_lines(lines, MLXR_COUNT(lines));
    v = stream_of(TEXT, P("'a b'", ",'stream':true,'stream_options':{'include_usage':true}"), true);
    n = json_array_size(v);
    assert_int_equal(n, 6); /* four words, the end, the usage */
    assert_true(check(v, "0.choices.0.text=You") && check(v, "0.choices.0.finish_reason!") &&
                check(v, "0.usage!"));
    assert_true(check(v, "4.choices.0.text=") && check(v, "4.choices.0.finish_reason=stop"));
    assert_true(check(v, "5.choices#0") && check(v, "5.usage.total_tokens=6"));
    json_decref(v);
}

static void test_embeddings(void **state)
{
#define E(input, rest) "{'model':'m','input':" input rest "}"
    static const struct line lines[] = {
        {EMBED,
         E("'a b'", ""),
         200,
         {"object=list", "data#1", "data.0.object=embedding", "data.0.index=0", "model=m",
          "usage.total_tokens=2"}},
        {EMBED,
         E("['a','b']", ",'dimensions':3,'user':'u'"),
         200,
         {"data#2", "data.1.embedding#3", "data.1.index=1"}},
        {EMBED, E("null", ""), 400, {BAD("input"), "error.message=invalid input"}},
        {EMBED, "{'model':'m'}", 400, {BAD("input"), "error.message=invalid input"}},
        {EMBED, E("[]", ""), 400, {"error.message=invalid input"}},
        {EMBED, E("''", ""), 400, {"error.message=invalid input"}},
        {EMBED, E("3", ""), 400, {"error.message=invalid input type"}},
        {EMBED, E("['a',3]", ""), 400, {"error.message=invalid input type"}},
        {EMBED, E("[1,'a']", ""), 400, {"error.message=invalid input type"}},
        {EMBED,
         E("'a'", ",'encoding_format':'hex'"),
         400,
         {BAD("encoding_format"),
          "error.message=Invalid value for 'encoding_format' = hex. Supported values: ['float', 'base64']."}},
        {EMBED, E("'a'", ",'dimensions':0"), 400, {BAD("dimensions")}},
    };
    run_lines(lines, MLXR_COUNT(lines));
}

/* "AAAAPw==" is 0.5. */
static size_t from_base64(float *out, const char *s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t bytes[4096];
    uint32_t bits = 0;
    size_t n = 0, n_bits = 0;

    assert_int_equal(strlen(s) % 4, 0);
    for (; *s && *s != '='; s++) {
        const char *d = strchr(digits, *s);
        assert_non_null(d);
        bits = bits << 6 | (uint32_t)(d - digits);
        if ((n_bits += 6) >= 8) bytes[n++] = (uint8_t)(bits >> (n_bits -= 8));
    }
    assert_int_equal(n % 4, 0);
    for (size_t i = 0; i < n; i += 4) {
        uint32_t word = bytes[i] | (uint32_t)bytes[i + 1] << 8 | (uint32_t)bytes[i + 2] << 16 |
                        (uint32_t)bytes[i + 3] << 24;
        memcpy(&out[i / 4], &word, 4);
    }
    return n / 4;
}

static void test_base64(void **state)
{
    float values[64];

    for (int d = 1; d <= 5; d++) {
        json_t *a = post_json(EMBED, Jf("{'model':'m','input':'x','dimensions':%d}", d), 200);
        json_t *b = post_json(
            EMBED, Jf("{'model':'m','input':'x','dimensions':%d,'encoding_format':'base64'}", d), 200);
        assert_int_equal(from_base64(values, text_at(b, "data.0.embedding")), d);
        for (int i = 0; i < d; i++)
            assert_true((float)json_number_value(json_array_get(at(a, "data.0.embedding"), (size_t)i)) ==
                        values[i]);
        json_decref(a);
        json_decref(b);
    }
}

static void test_responses(void **state)
{
#define R(rest)  "{'model':'m','input':'one two'" rest "}"
#define I(items) "{'model':'m','input':[" items "]}"
    static const struct line lines[] = {
        {RESPOND,
         R(""),
         200,
         {"object=response", "status=completed", "output#1", "output.0.type=message",
          "output.0.content.0.type=output_text", "output.0.content.0.text=You said: one two",
          "usage.input_tokens=2", "usage.output_tokens=4"}},
        {RESPOND,
         R(""),
         200,
         {"store=false", "tool_choice=auto", "truncation=disabled", "previous_response_id!", "error!",
          "temperature=1", "text.format.type=text", "parallel_tool_calls=true"}},
        {RESPOND,
         R(",'max_output_tokens':2"),
         200,
         {"status=incomplete", "incomplete_details.reason=max_output_tokens", "completed_at!",
          "output.0.status=incomplete", "max_output_tokens=2"}},
        {RESPOND,
         R(",'instructions':'be','metadata':{'a':'b'},'user':'u','safety_identifier':'s','prompt_cache_key':'"
           "k'"),
         200,
         {"instructions=be", "metadata.a=b", "user=u", "safety_identifier=s", "prompt_cache_key=k",
          "warnings!"}},
        {RESPOND,
         R(",'store':true,'max_tool_calls':3,'include':['reasoning.encrypted_content','file_search_call."
           "results']"),
         200,
         {"store=false", "warnings#3"}},
        {RESPOND, R(",'include':[1]"), 400, {BAD("include")}},
        {RESPOND, R(",'truncation':'auto'"), 200, {"truncation=auto"}},
        {RESPOND, R(",'truncation':'some'"), 400, {BAD("truncation")}},
        {RESPOND, R(",'previous_response_id':'resp_1'"), 400, {BAD("previous_response_id")}},
        {RESPOND, R(",'conversation':'c'"), 400, {BAD("conversation")}},
        {RESPOND, R(",'background':true"), 400, {BAD("background")}},
        {RESPOND, R(",'background':false"), 200, {"background=false"}},
        {RESPOND, R(",'prompt':{'id':'p'}"), 400, {BAD("prompt")}},
        {RESPOND,
         R(",'reasoning':{'effort':'low'}"),
         400,
         {BAD("reasoning.effort"), "error.message=\"m\" does not support thinking"}},
        {RESPOND,
         R(",'reasoning':{'effort':'none','summary':'auto'}"),
         200,
         {"reasoning.effort=none", "reasoning.summary=auto"}},
        {RESPOND, R(",'text':{'format':{'type':'text'},'verbosity':'low'}"), 200, {"warnings#1"}},
        {RESPOND, R(",'text':{'format':{'type':'json_schema','name':'n'}}"), 400, {BAD("text.format")}},
        {RESPOND, R(",'text':{'format':{'type':'odd'}}"), 400, {BAD("text.format")}},
        {RESPOND, R(",'top_logprobs':21"), 400, {BAD("top_logprobs")}},
        {RESPOND,
         R(",'tools':[{'type':'function','name':'f','parameters':{'type':'object','properties':{}}},{'type':'"
           "web_search'}]"),
         200,
         {"tools#2", "warnings#1", "warnings.0~web_search"}},
        {RESPOND,
         R(",'tools':[{'type':'namespace','name':'s','tools':[{'type':'function','name':'f'}]}],'tool_choice'"
           ":{'type':'function','name':'s.g'}"),
         400,
         {BAD("tool_choice")}},
        {RESPOND, R(",'tools':[{'type':'file_search'}]"), 400, {BAD("tools"), "error.message~file_search"}},
        {RESPOND, R(",'tools':[{'type':'custom','name':'c'}]"), 400, {BAD("tools"), "error.message~custom"}},
        {RESPOND, R(",'tools':[{'type':'function'}]"), 400, {BAD("tools")}},
        {RESPOND, "{'model':'m'}", 400, {BAD("input")}},
        {RESPOND, I(""), 400, {BAD("input"), "error.message=[] is too short - 'input'"}},
        {RESPOND, I("{'role':'user','content':'x y'}"), 200, {"output.0.content.0.text=You said: x y"}},
        {RESPOND,
         I("{'type':'message','role':'user','content':[{'type':'input_text','text':'x'}]}"),
         200,
         {"output.0.content.0.text=You said: x"}},
        {RESPOND, I("{'type':'odd'}"), 400, {BAD("input"), "error.message~unknown input item type"}},
        {RESPOND,
         I("{'role':'user','content':[{'type':'input_image','image_url':'http://x'}]}"),
         400,
         {"error.message~image URLs"}},
        {RESPOND, I("{'role':'user','content':[{'type':'input_file','file_id':'f'}]}"), 400, {BAD("input")}},
        {RESPOND,
         I("{'type':'function_call','call_id':'c','name':'f','arguments':'{'}"),
         400,
         {"error.message=invalid tool call arguments"}},
        {RESPOND, I("{'type':'function_call','call_id':'c','name':'f'}"), 400, {BAD("input")}},
        {RESPOND,
         I("{'role':'user','content':'q'},{'type':'reasoning','summary':[]},{'type':'function_call','call_id'"
           ":'c','name':'f','arguments':'{}'},"
           "{'type':'function_call_output','call_id':'c','output':'fine'}"),
         200,
         {"output.0.content.0.text=You said: fine"}},
    };
    run_lines(lines, MLXR_COUNT(lines));
}

static void test_items(void **state)
{
    json_t *in = json_of(J("[{'role':'user','content':'q'},{'type':'reasoning','encrypted_content':'hm'},{'"
                           "role':'assistant','content':'so'},"
                           "{'type':'function_call','call_id':'a','name':'f','arguments':'{}'},{'type':'"
                           "function_call','call_id':'b','name':'g',"
                           "'arguments':'{}'},{'type':'function_call_output','call_id':'b','output':[{'type':"
                           "'output_text','text':'r'}]},"
                           "{'type':'web_search_call'},{'type':'reasoning','summary':[{'type':'summary_text',"
                           "'text':'s1'},{'type':'summary_text','text':'s2'}]},"
                           "{'type':'function_call','call_id':'d','name':'f','arguments':'{}'}]"));
    json_t *v = NULL;

    assert_ok(mlxr_openai_items(&v, "be", in, &err), &err);
    assert_int_equal(json_array_size(v), 5);
    assert_string_equal(text_at(v, "0.role"), "system");
    assert_string_equal(text_at(v, "2.reasoning_content"), "hm");
    assert_string_equal(text_at(v, "2.content"), "so");
    assert_int_equal(json_array_size(at(v, "2.tool_calls")), 2);
    assert_string_equal(text_at(v, "3.name"), "g");
    assert_string_equal(text_at(v, "3.content"), "r");
    assert_string_equal(text_at(v, "4.reasoning_content"), "s1\ns2");
    assert_string_equal(text_at(v, "4.tool_calls.0.id"), "d");
    json_decref(v);
    json_decref(in);
}

/* The types of a responses stream, each with the next number. */
static json_t *events_of(const char *body, const char *const *types, size_t n_types)
{
    json_t *v = stream_of(RESPOND, body, false);
    size_t k = 0;

    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *e = json_array_get(v, i);
        const char *type = text_at(e, "type");
        assert_int_equal(int_at(e, "sequence_number"), i);
        if (k && strcmp(type, types[k - 1]) == 0 && strstr(type, ".delta")) continue;
        if (k == n_types || strcmp(type, types[k]) != 0)
            fail_msg("event %zu is %s, wanted %s", i, type, k < n_types ? types[k] : "no more");
        k++;
    }
    assert_int_equal(k, n_types);
    return v;
}

static void test_response_stream(void **state)
{
    static const char *const types[] = {"response.created",           "response.in_progress",
                                        "response.output_item.added", "response.content_part.added",
                                        "response.output_text.delta", "response.output_text.done",
                                        "response.content_part.done", "response.output_item.done",
                                        "response.completed"};
    json_t *v = events_of("{'model':'m','input':'one two','stream':true}", types, MLXR_COUNT(types));
    const json_t *last = json_array_get(v, json_array_size(v) - 1);
    char text[200] = "";

    for (size_t i = 0; i < json_array_size(v); i++) append(text, sizeof text, json_array_get(v, i), "delta");
    assert_string_equal(text, "You said: one two");
    assert_string_equal(text_at(last, "response.output.0.content.0.text"), text);
    assert_string_equal(text_at(last, "response.id"), text_at(v, "0.response.id"));
    assert_string_equal(text_at(last, "response.output.0.id"), text_at(v, "2.item.id"));
    assert_string_equal(text_at(v, "0.response.status"), "in_progress");
    assert_int_equal(int_at(v, "3.content_index"), 0);
    json_decref(v);
    v = stream_of(RESPOND, "{'model':'m','input':'one two','stream':true,'max_output_tokens':1}", false);
    assert_string_equal(text_at(json_array_get(v, json_array_size(v) - 1), "type"), "response.incomplete");
    json_decref(v);
}

static void test_others(void **state)
{
    json_t *v = get_json("/v1/models", 200);

    assert_true(check(v, "object=list") && json_is_array(at(v, "data")));
    json_decref(v);
    v = get_json("/v1/models/org/name:tag", 200);
    assert_true(check(v, "id=org/name:tag") && check(v, "owned_by=org") && check(v, "object=model"));
    json_decref(v);
    v = get_json("/v1/responses/resp_1", 404);
    assert_true(check(v, "error.type=not_found_error"));
    json_decref(v);
    mlxr_exchange x = exchange("DELETE", "/v1/responses/resp_1", NULL, NULL, 0);
    assert_int_equal(x.status, 404);
    mlxr_exchange_clear(&x);
    v = get_json("/v1/nope", 404);
    assert_true(check(v, "error.type=not_found_error"));
    json_decref(v);
}

static void encoded(const char *encoding, const void *body, size_t n, int status, const char *part)
{
    char header[100];
    const char *headers[] = {header, NULL};
    mlxr_exchange x;

    snprintf(header, sizeof header, "Content-Encoding: %s", encoding);
    x = exchange("POST", RESPOND, headers, body, n);
    if (x.status != status || !strstr(x.body, part)) fail_msg("%s: %d %s", encoding, x.status, x.body);
    mlxr_exchange_clear(&x);
}

static void test_encodings(void **state)
{
    /* {"model":"m","input":"zipped"}, by `zstd` and `gzip -n`. */
    static const uint8_t zstd[] = {0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58, 0xf1, 0x00, 0x00, 0x7b, 0x22,
                                   0x6d, 0x6f, 0x64, 0x65, 0x6c, 0x22, 0x3a, 0x22, 0x6d, 0x22, 0x2c,
                                   0x22, 0x69, 0x6e, 0x70, 0x75, 0x74, 0x22, 0x3a, 0x22, 0x7a, 0x69,
                                   0x70, 0x70, 0x65, 0x64, 0x22, 0x7d, 0xf5, 0xdd, 0x8d, 0xc9};
    static const uint8_t gzip[] = {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0xab, 0x56,
                                   0xca, 0xcd, 0x4f, 0x49, 0xcd, 0x51, 0xb2, 0x52, 0xca, 0x55, 0xd2, 0x51,
                                   0xca, 0xcc, 0x2b, 0x28, 0x2d, 0x01, 0xb2, 0xab, 0x32, 0x0b, 0x0a, 0x52,
                                   0x53, 0x94, 0x6a, 0x01, 0x5c, 0x60, 0xf0, 0x80, 0x1e, 0x00, 0x00, 0x00};
    mlxr_buf bomb = {0};

    if (strstr(mlxr_body_encodings(), "zstd")) {
        encoded("zstd", zstd, sizeof zstd, 200, "You said: zipped");
        encoded("ZSTD", zstd, sizeof zstd - 7, 400, "zstd");
        encoded("zstd", "nonsense", 8, 400, "broken");
        encoded("zstd", "", 0, 400, "too early");
        /* 4 KB that unpack to 128 MiB: frames of one block that repeats a byte */
        for (int i = 0; i < 1024; i++) {
            static const uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0x00, 0x00,
                                            0x02, 0x00, 0x03, 0x00, 0x10, 0x20};
            mlxr_buf_append(&bomb, frame, sizeof frame);
        }
        encoded("zstd", bomb.data, bomb.len, 413, "too large");
        mlxr_buf_clear(&bomb);
    } else {
        encoded("zstd", zstd, sizeof zstd, 415, "Content-Encoding");
    }
    if (strstr(mlxr_body_encodings(), "gzip")) {
        encoded("gzip", gzip, sizeof gzip, 200, "You said: zipped");
        encoded("gzip", gzip, sizeof gzip - 9, 400, "gzip");
        encoded("gzip", "nonsense", 8, 400, "broken");
    }
    encoded("identity", "{\"model\":\"m\",\"input\":\"plain\"}", 29, 200, "You said: plain");
    encoded("br", "x", 1, 415, "Content-Encoding");
}

static void test_strict(void **state)
{
    mlxr_serve_options o = serving_options();
    static const struct line lines[] = {
        {CHAT, "{'model':'m'," HI ",'zork':1}", 400, {BAD("zork")}},
        {CHAT, "{'model':'m'," HI ",'stream_options':{'zork':1}}", 400, {BAD("stream_options")}},
        {RESPOND, R(",'tools':[{'type':'web_search'}]"), 400, {BAD("tools")}},
    };

    serving_end();
    o.mock = o.strict = true;
    assert_int_equal(serving_open(&o), 0);
    run_lines(lines, MLXR_COUNT(lines));
    serving_end();
    assert_int_equal(serving_begin_mock(), 0);
}

/* ---- on models ---- */

static const char *model, *caller; /* their names; caller calls tools */

/* The tiny model with another template. */
static int add_model(const char *name, const char *source)
{
    static const char *const files[] = {"config.json", "generation_config.json", "model.safetensors",
                                        "tokenizer.json", "tokenizer_config.json"};
    char dir[100], from[400], to[400];
    FILE *f;

    snprintf(dir, sizeof dir, "%s/%s-files", serving_dir, name);
    if (mkdir(dir, 0700) != 0) return -1;
    for (size_t i = 0; i < MLXR_COUNT(files); i++) {
        mlxr_buf b = {0};
        bool ok;
        snprintf(from, sizeof from, "%s/%s", TINY, files[i]);
        snprintf(to, sizeof to, "%s/%s", dir, files[i]);
        if (mlxr_file_read(&b, from, 1 << 24, &err) != MLXR_OK) return -1;
        f = fopen(to, "wb");
        ok = f && fwrite(b.data, 1, b.len, f) == b.len;
        if (f) fclose(f);
        mlxr_buf_clear(&b);
        if (!ok) return -1;
    }
    snprintf(to, sizeof to, "%s/chat_template.jinja", dir);
    if (!(f = fopen(to, "wb"))) return -1;
    fputs(source, f);
    fclose(f);
    if (mlxr_store_import(NULL, serving->store, dir, name, NULL, NULL, &err) == MLXR_OK) return 0;
    fprintf(stderr, "%s\n", err.message);
    return -1;
}

/* It thinks, looks at a variable of its own, and writes an earlier turn's reasoning. */
static const char thinker_source[] = "{% for m in messages %}<|{{ m.role }}|>{{ m.reasoning_content or '' "
                                     "}}{{ m.content }}<|end|>{% endfor %}{{ mood or '' }}"
                                     "<|assistant|>{% if enable_thinking is defined and not enable_thinking "
                                     "%}<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}";
/* The context is too small for tools described in many words. */
static const char caller_source[] = "{% for t in tools or [] %}{{ t.function.name }}<tool_call>{% endfor "
                                    "%}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
                                    "<|end|>{% endfor %}<|assistant|>";

static void test_model_chat(void **state)
{
    json_t *v = post_json(
               CHAT,
               Jf("{'model':'%s'," HI ",'max_tokens':5,'seed':1,'logprobs':true,'top_logprobs':2}", model),
               200),
           *s;
    char text[1000] = "";

    assert_true(json_array_size(at(v, "choices.0.logprobs.content")) > 0);
    assert_true(check(v, "choices.0.logprobs.content.0.top_logprobs#2"));
    assert_true(json_number_value(at(v, "choices.0.logprobs.content.0.logprob")) <= 0);
    s = stream_of(
        CHAT, Jf("{'model':'%s'," HI ",'max_tokens':5,'seed':1,'stream':true,'logprobs':true}", model), true);
    for (size_t i = 0; i < json_array_size(s); i++)
        append(text, sizeof text, json_array_get(s, i), "choices.0.delta.content");
    assert_string_equal(text, text_at(v, "choices.0.message.content"));
    json_decref(s);
    json_decref(v);
    v = post_json(
        CHAT, Jf("{'model':'%s'," HI ",'max_tokens':1,'logit_bias':{'40':100},'temperature':0,'n':2}", model),
        200);
    assert_string_equal(text_at(v, "choices.0.message.content"), text_at(v, "choices.1.message.content"));
    assert_int_equal(int_at(v, "usage.completion_tokens"), 2);
    json_decref(v);
    refuses(CHAT, J("{'model':'nobody'," HI "}"), 404, "model 'nobody' not found");
    v = post_json(CHAT, J("{'model':'nobody'," HI "}"), 404);
    assert_true(check(v, "error.code=model_not_found") && check(v, "error.type=not_found_error"));
    json_decref(v);
}

static void test_model_forms(void **state)
{
#define SCHEMA \
    "{'type':'object','properties':{'a':{'enum':['x','yy']}},'required':['a'],'additionalProperties':false}"
    for (int i = 0; i < 3; i++) {
        json_t *v = post_json(
            CHAT,
            Jf("{'model':'%s'," HI
               ",'max_tokens':60,'seed':%d,'temperature':1.5,'response_format':{'type':'json_schema',"
               "'json_schema':{'name':'n','strict':true,'schema':" SCHEMA "}}}",
               model, i),
            200);
        json_t *a;
        if (strcmp(text_at(v, "choices.0.finish_reason"), "length") !=
            0) { /* a random model may write spaces until then */
            a = json_of(text_at(v, "choices.0.message.content"));
            assert_string_equal(text_at(a, "a")[0] == 'x' ? "x" : "yy", text_at(a, "a"));
            json_decref(a);
        }
        json_decref(v);
    }
    json_t *v = post_json(RESPOND,
                          Jf("{'model':'%s','input':'q','max_output_tokens':60,'seed':1,'text':{'format':{'"
                             "type':'json_schema','name':'n','schema':" SCHEMA "}}}",
                             model),
                          200);
    assert_true(check(v, "text.format.type=json_schema"));
    if (check(v, "status=completed")) json_decref(json_of(text_at(v, "output.0.content.0.text")));
    json_decref(v);
}

static void test_model_tools(void **state)
{
    static const char *const choices[] = {
        "'required'", "{'type':'function','function':{'name':'pick'}}",
        ("{'type':'allowed_tools','allowed_tools':{'mode':'required','tools'"
         ":[{'type':'function','function':{'name':'pick'}}]}}")};
    static const char *const types[] = {"response.created",
                                        "response.in_progress",
                                        "response.output_item.added",
                                        "response.function_call_arguments.delta",
                                        "response.function_call_arguments.done",
                                        "response.output_item.done",
                                        "response.completed"};
    json_t *v, *a;
    char text[200] = "";

    for (size_t i = 0; i < MLXR_COUNT(choices); i++) {
        v = post_json(CHAT,
                      Jf("{'model':'%s'," HI
                         ",'max_tokens':400,'seed':3,'parallel_tool_calls':false,'tools':[" TOOL "%s"
                         "],'tool_choice':%s}",
                         caller, i ? "," TOOL2 : "", choices[i]),
                      200);
        if (!check(v, "choices.0.finish_reason=tool_calls"))
            fail_msg("%s", text_at(v, "choices.0.finish_reason"));
        assert_true(check(v, "choices.0.message.tool_calls#1") && check(v, "choices.0.message.content!"));
        assert_true(check(v, "choices.0.message.tool_calls.0.function.name=pick") &&
                    check(v, "choices.0.message.tool_calls.0.type=function"));
        a = json_of(text_at(v, "choices.0.message.tool_calls.0.function.arguments"));
        assert_true(strchr("rg", text_at(a, "c")[0]) != NULL);
        json_decref(a);
        json_decref(v);
    }
    v = stream_of(CHAT,
                  Jf("{'model':'%s'," HI
                     ",'max_tokens':400,'seed':3,'stream':true,'parallel_tool_calls':false,'tools':[" TOOL
                     "],'tool_choice':'required'}",
                     caller),
                  true);
    for (size_t i = 0; i < json_array_size(v); i++) {
        append(text, sizeof text, json_array_get(v, i), "choices.0.delta.tool_calls.0.function.name");
        append(text, sizeof text, json_array_get(v, i), "choices.0.delta.tool_calls.0.function.arguments");
    }
    assert_non_null(strstr(text, "pick{"));
    assert_true(check(json_array_get(v, json_array_size(v) - 1), "choices.0.finish_reason=tool_calls"));
    json_decref(v);
    v = events_of(Jf("{'model':'%s','input':'q','stream':true,'max_output_tokens':400,'seed':3,'parallel_"
                     "tool_calls':false,'tool_choice':'required','tools':[{'type':"
                     "'namespace','name':'n','tools':[{'type':'function','name':'pick','parameters':{'type':'"
                     "object','properties':{'c':{'enum':['r','g']}},"
                     "'required':['c'],'additionalProperties':false}}]}]}",
                     caller),
                  types, MLXR_COUNT(types));
    assert_true(check(v, "2.item.name=n.pick") && check(v, "2.item.arguments=") &&
                check(v, "2.item.status=in_progress"));
    const json_t *last = json_array_get(v, json_array_size(v) - 1);
    assert_true(check(last, "response.output.0.type=function_call") &&
                check(last, "response.output.0.call_id?"));
    json_decref(v);
    /* Variables for the template go with tools. */
    v = post_json(CHAT,
                  Jf("{'model':'%s'," HI
                     ",'max_tokens':400,'seed':3,'parallel_tool_calls':false,'tools':[" TOOL
                     "],'tool_choice':'required','chat_template_kwargs':{'mood':'x'}}",
                     caller),
                  200);
    assert_true(check(v, "choices.0.message.tool_calls.0.function.name=pick"));
    json_decref(v);
}

static void test_model_completions(void **state)
{
    json_t *v = post_json(
               TEXT,
               Jf("{'model':'%s','prompt':['one two','three'],'n':2,'max_tokens':4,'seed':1,'logprobs':3}",
                  model),
               200),
           *s, *e;
    char text[1000] = "";
    size_t n;

    assert_true(check(v, "choices#4") && check(v, "choices.3.index=3"));
    n = json_array_size(at(v, "choices.0.logprobs.tokens"));
    assert_in_range(n, 1, 4);
    assert_int_equal(json_array_size(at(v, "choices.0.logprobs.token_logprobs")), n);
    assert_int_equal(json_array_size(at(v, "choices.0.logprobs.text_offset")), n);
    assert_int_equal(json_array_size(at(v, "choices.0.logprobs.top_logprobs")), n);
    assert_int_equal(int_at(v, "choices.0.logprobs.text_offset.0"), 0);
    s = stream_of(
        TEXT,
        Jf("{'model':'%s','prompt':['one two','three'],'n':2,'max_tokens':4,'seed':1,'stream':true}", model),
        true);
    for (size_t i = 0; i < json_array_size(s); i++)
        if (int_at(json_array_get(s, i), "choices.0.index") == 2)
            append(text, sizeof text, json_array_get(s, i), "choices.0.text");
    assert_string_equal(text, text_at(v, "choices.2.text"));
    json_decref(s);
    json_decref(v);
    /* A prompt of tokens is as its text, and comes back as text. */
    v = post_json("/api/tokenize", Jf("{'model':'%s','content':'one two'}", model), 200);
    char *ids = json_dumps(at(v, "tokens"), JSON_COMPACT);
    s = post_json(
        TEXT, Jf("{'model':'%s','prompt':%s,'max_tokens':4,'temperature':0,'echo':true}", model, ids), 200);
    e = post_json(TEXT, Jf("{'model':'%s','prompt':[%s],'max_tokens':4,'temperature':0}", model, ids), 200);
    assert_non_null(strstr(text_at(s, "choices.0.text"), "one two"));
    assert_non_null(strstr(text_at(s, "choices.0.text"), text_at(e, "choices.0.text")));
    free(ids);
    json_decref(v);
    json_decref(s);
    json_decref(e);
    /* The prompt alone, with its probabilities. */
    v = post_json(
        TEXT, Jf("{'model':'%s','prompt':'one two','max_tokens':0,'echo':true,'logprobs':0}", model), 200);
    assert_string_equal(text_at(v, "choices.0.text"), "one two");
    n = json_array_size(at(v, "choices.0.logprobs.tokens"));
    assert_true(n > 0 && json_is_null(at(v, "choices.0.logprobs.token_logprobs.0")));
    assert_true(json_number_value(json_array_get(at(v, "choices.0.logprobs.token_logprobs"), n - 1)) < 0);
    assert_int_equal(int_at(v, "usage.completion_tokens"), 0);
    json_decref(v);
    refuses(TEXT, Jf("{'model':'%s','prompt':[99999999]}", model), 400, "99999999");
    refuses(TEXT, Jf("{'model':'%s','prompt':'a','suffix':'b'}", model), 400, "does not support insert");
}

static void test_model_receipts(void **state)
{
    static const char *const bodies[][2] = {{CHAT, HI ",'max_tokens':2"},
                                            {TEXT, "'prompt':'a','max_tokens':2"},
                                            {RESPOND, "'input':'a','max_output_tokens':2"}};

    for (size_t i = 0; i < MLXR_COUNT(bodies); i++) {
        json_t *v = post_json(bodies[i][0], Jf("{'model':'%s','receipt':true,%s}", model, bodies[i][1]), 200);
        assert_true(json_is_object(at(v, "receipt")) && check(v, "warnings!"));
        json_decref(v);
        v = stream_of(bodies[i][0], Jf("{'model':'%s','receipt':true,'stream':true,%s}", model, bodies[i][1]),
                      i != 2);
        assert_true(json_is_object(
            at(json_array_get(v, json_array_size(v) - 1), i == 2 ? "response.receipt" : "receipt")));
        json_decref(v);
    }
}

static void test_model_others(void **state)
{
    json_t *v = post_json(EMBED, Jf("{'model':'%s','input':['a b','c'],'dimensions':8}", model), 200), *w, *t;
    double sum = 0;

    assert_true(check(v, "data#2") && check(v, "data.1.embedding#8"));
    for (size_t i = 0; i < 8; i++)
        sum += pow(json_number_value(json_array_get(at(v, "data.1.embedding"), i)), 2);
    assert_true(fabs(sum - 1) < 1e-4);
    t = post_json("/api/tokenize", Jf("{'model':'%s','content':'c'}", model), 200);
    char *ids = json_dumps(at(t, "tokens"), JSON_COMPACT);
    w = post_json(EMBED, Jf("{'model':'%s','input':[%s],'dimensions':8}", model, ids), 200);
    assert_true(json_equal(at(w, "data.0.embedding"), at(v, "data.1.embedding")));
    free(ids);
    json_decref(v);
    json_decref(w);
    json_decref(t);
    v = post_json(
        RESPOND,
        Jf("{'model':'%s','input':'one "
           "two','max_output_tokens':3,'seed':1,'top_logprobs':2,'include':['message.output_text.logprobs']}",
           model),
        200);
    assert_true(json_array_size(at(v, "output.0.content.0.logprobs")) > 0);
    json_decref(v);
}

static void test_store_models(void **state)
{
    json_t *v = get_json("/v1/models", 200);

    assert_true(check(v, "data#3") && check(v, "data.0.id~:latest") && check(v, "data.0.owned_by=library") &&
                check(v, "data.0.created?"));
    json_decref(v);
    assert_int_equal(serving_import("org/other:v1"), 0);
    v = get_json("/v1/models/org/other:v1", 200);
    assert_true(check(v, "id=org/other:v1") && check(v, "owned_by=org"));
    json_decref(v);
    v = get_json("/v1/models/org%2Fother:v1", 200);
    assert_true(check(v, "id=org/other:v1"));
    json_decref(v);
    v = get_json("/v1/models/TINY", 200);
    json_decref(v);
    v = get_json("/v1/models/nobody", 404);
    assert_true(check(v, "error.code=model_not_found") && check(v, "error.param=model"));
    json_decref(v);
    char body[4096] = "{'model':'tiny','messages':[{'role':'user','content':'";
    for (int i = 0; i < 600; i++) strcat(body, "a ");
    strcat(body, "'}]}");
    v = post_json(CHAT, J(body), 400);
    assert_true(check(v, "error.code=context_length_exceeded"));
    json_decref(v);
}

static int64_t prompt_tokens(const char *rest)
{
    json_t *v = post_json(CHAT, Jf("{'model':'thinker'," HI ",'max_tokens':1%s}", rest), 200);
    int64_t n = int_at(v, "usage.prompt_tokens");

    json_decref(v);
    return n;
}

static void test_thinking(void **state)
{
    static const char *const types[] = {"response.created",
                                        "response.in_progress",
                                        "response.output_item.added",
                                        "response.reasoning_summary_text.delta",
                                        "response.reasoning_summary_text.done",
                                        "response.output_item.done",
                                        "response.output_item.added",
                                        "response.content_part.added",
                                        "response.output_text.done",
                                        "response.content_part.done",
                                        "response.output_item.done",
                                        "response.incomplete"};
    json_t *v, *s;
    char text[2000] = "";
    int64_t on, off;

    v = post_json(CHAT, J("{'model':'thinker'," HI ",'max_tokens':12,'seed':1}"), 200);
    assert_true(check(v, "choices.0.message.reasoning?") && check(v, "choices.0.message.content="));
    assert_string_equal(text_at(v, "choices.0.message.reasoning"),
                        text_at(v, "choices.0.message.reasoning_content"));
    assert_in_range(int_at(v, "usage.completion_tokens_details.reasoning_tokens"), 1, 12);
    s = stream_of(CHAT, "{'model':'thinker'," HI ",'max_tokens':12,'seed':1,'stream':true}", true);
    for (size_t i = 0; i < json_array_size(s); i++)
        append(text, sizeof text, json_array_get(s, i), "choices.0.delta.reasoning");
    assert_string_equal(text, text_at(v, "choices.0.message.reasoning"));
    json_decref(v);
    json_decref(s);
    v = post_json(CHAT, J("{'model':'thinker'," HI ",'max_tokens':6,'seed':1,'reasoning_effort':'none'}"),
                  200);
    assert_true(check(v, "choices.0.message.reasoning!"));
    json_decref(v);
    on = prompt_tokens("");
    off = prompt_tokens(",'reasoning_effort':'none'");
    assert_int_equal(prompt_tokens(",'reasoning_effort':'high'"), on);
    assert_true(off > on);
    assert_int_equal(prompt_tokens(",'chat_template_kwargs':{'enable_thinking':false}"), off);
    assert_int_equal(prompt_tokens(",'chat_template_kwargs':{'mood':'xyzzy'}"), on + 5);
    v = post_json(RESPOND, J("{'model':'thinker','input':'q','max_output_tokens':12,'seed':1}"), 200);
    assert_true(check(v, "output.0.type=reasoning") && check(v, "output.0.summary.0.type=summary_text"));
    assert_string_equal(text_at(v, "output.0.encrypted_content"), text_at(v, "output.0.summary.0.text"));
    json_decref(v);
    json_decref(events_of("{'model':'thinker','input':'q','max_output_tokens':12,'seed':1,'stream':true}",
                          types, MLXR_COUNT(types)));
    refuses(CHAT, J("{'model':'tiny'," HI ",'reasoning_effort':'low'}"), 400,
            "\"tiny\" does not support thinking");
    v = post_json(CHAT, J("{'model':'tiny'," HI ",'reasoning_effort':'none','max_tokens':1}"), 200);
    json_decref(v);
}

/* ---- */

static int begin_mock(void **state)
{
    return serving_begin_mock();
}

static int begin_store(void **state)
{
    model = "tiny";
    caller = "caller";
    if (serving_begin_store() != 0 || add_model("thinker", thinker_source) != 0) return -1;
    return add_model(caller, caller_source);
}

static int begin_default(void **state)
{
    mlxr_serve_options o = serving_options();
    mlxr_store_import_options link = mlxr_store_import_options_default();

    if (serving_make_dir() != 0) return -1;
    o.store_root = serving_dir;
    o.engine.n_threads = 0;
    o.engine.precision = MLXR_PRECISION_DEFAULT;
    link.link = true;
    if (serving_open(&o) != 0) return -1;
    if (mlxr_store_import(NULL, serving->store, model, "default", &link, NULL, &err) == MLXR_OK) {
        model = caller = "default";
        return 0;
    }
    fprintf(stderr, "%s\n", err.message);
    return -1;
}

static int end(void **state)
{
    return serving_end();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest of_mock[] = {
        cmocka_unit_test(test_chat_fields),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_messages_for_templates),
        cmocka_unit_test(test_tool_fields),
        cmocka_unit_test(test_chat_stream),
        cmocka_unit_test(test_completions),
        cmocka_unit_test(test_embeddings),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_responses),
        cmocka_unit_test(test_items),
        cmocka_unit_test(test_response_stream),
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_encodings),
        cmocka_unit_test(test_strict),
    };
    const struct CMUnitTest of_store[] = {
        cmocka_unit_test(test_model_chat),   cmocka_unit_test(test_model_forms),
        cmocka_unit_test(test_model_tools),  cmocka_unit_test(test_model_completions),
        cmocka_unit_test(test_model_others), cmocka_unit_test(test_model_receipts),
        cmocka_unit_test(test_store_models), cmocka_unit_test(test_thinking),
    };
    const struct CMUnitTest of_default[] = {
        cmocka_unit_test(test_model_chat),   cmocka_unit_test(test_model_forms),
        cmocka_unit_test(test_model_tools),  cmocka_unit_test(test_model_completions),
        cmocka_unit_test(test_model_others), cmocka_unit_test(test_model_receipts),
    };

    if (argc > 1) {
        model = argv[1];
        if (access(model, R_OK) != 0) {
            printf("SKIP: %s is not there\n", model);
            return 77;
        }
        return cmocka_run_group_tests_name("openai, the default model", of_default, begin_default, end);
    }
    return cmocka_run_group_tests_name("openai, the mock", of_mock, begin_mock, end) +
           cmocka_run_group_tests_name("openai, a tiny model", of_store, begin_store, end);
}
