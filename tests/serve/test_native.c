/* Ollama's /api/generate, chat, embed, embeddings, tokenize, detokenize: one line a rule, over the mock, over tiny models with random weights
 * (plain, one that thinks, one that fills in), and the main cases on the default model where it is. */
#include "serving.h"

#include <ctype.h>
#include <math.h>
#include <pthread.h>
#include <sys/stat.h>

#include "serve/native.h"

#define DEFAULT_MODEL MLXR_SOURCE_DIR "/models/SmolLM2-135M-Instruct-4bit"

/* ---- small parts ---- */

static void durations(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        double seconds;
    } cases[] = {
        {"5m", true, 300},   {"1h30m", true, 5400}, {"300ms", true, .3},    {"1.5h", true, 5400},
        {".5s", true, .5},   {"1.s", true, 1},      {"-1m", true, -60},     {"+2s", true, 2},
        {"0", true, 0},      {"-0", true, 0},       {"1us", true, 1e-6},    {"1\xc2\xb5s", true, 1e-6},
        {"2ns", true, 2e-9}, {"5", false, 0},       {"", false, 0},         {"-", false, 0},
        {"m", false, 0},     {".s", false, 0},      {"1.2.3s", false, 0},   {"5 m", false, 0},
        {"1e3s", false, 0},  {"5d", false, 0},      {"inf", false, 0},      {"0x5s", false, 0},
        {"5m3", false, 0},   {"9e9h", false, 0},    {"3000000h", false, 0},
    };
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        int64_t ns = 0;
        if (mlxr_duration_parse(&ns, cases[i].text) != cases[i].ok) fail_msg("\"%s\"", cases[i].text);
        if (cases[i].ok && ns != (int64_t)(cases[i].seconds * 1e9))
            fail_msg("\"%s\": %lld", cases[i].text, (long long)ns);
    }
}

static void keep_alives(void **state)
{
    static const struct {
        const char *json;
        int64_t ns;
    } cases[] = {{"0.5", 500000000},
                 {"\"1m\"", 60000000000},
                 {"-1", MLXR_KEEP_FOREVER},
                 {"\"-1m\"", MLXR_KEEP_FOREVER},
                 {"0", 0},
                 {"\"0\"", 0},
                 {"300", 300000000000},
                 {"1e300", MLXR_KEEP_FOREVER},
                 {"true", -7},
                 {"\"5\"", -7},
                 {"[]", -7},
                 {"{}", -7},
                 {"\"\"", -7},
                 {"\"5m\\u0000\"", -7}};
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        json_t *v = json_of(cases[i].json);
        int64_t ns = -7;
        mlxr_status st = mlxr_native_keep_alive(&ns, v, &err);
        if ((st == MLXR_OK) != (cases[i].ns != -7) || (st == MLXR_OK && ns != cases[i].ns))
            fail_msg("%s", cases[i].json);
        json_decref(v);
    }
}

static void token_bytes(void **state)
{
    mlxr_tokenizer *tok;
    mlxr_buf out = {0};
    json_t *v;
    int32_t *ids;
    size_t n;

    (void)state;
    assert_ok(mlxr_tokenizer_open(&tok, TINY, &err), &err);
    assert_ok(mlxr_tokenizer_encode(&ids, &n, tok, "\xc3\xbc", 2, false, &err), &err);
    assert_int_equal(n, 2); /* one character in two tokens */
    for (size_t i = 0; i < n; i++) {
        mlxr_put_logprob(&out, tok, ids[i], -1.5, NULL, 0);
        mlxr_buf_char(&out, '}');
        v = json_of(out.data);
        assert_int_equal(int_at(v, "bytes.0"), i ? 0xbc : 0xc3);
        assert_string_equal(text_at(v, "token"), "\xef\xbf\xbd");
        json_decref(v);
        out.len = 0;
    }
    mlxr_put_logprob(&out, tok, mlxr_tokenizer_token_to_id(tok, "<|end|>", 7), -INFINITY, NULL, 0);
    mlxr_buf_char(&out, '}');
    v = json_of(out.data);
    assert_string_equal(text_at(v, "token"), "<|end|>");
    assert_int_equal(json_array_size(at(v, "bytes")), 7);
    assert_true(json_is_real(at(v, "logprob")) || json_is_integer(at(v, "logprob")));
    json_decref(v);
    mlxr_free(ids);
    mlxr_buf_clear(&out);
    mlxr_tokenizer_close(tok);
}

/* ---- what is refused, by the words of it ---- */

struct refusal {
    const char *target, *body;
    int status;
    const char *text;
};

static void check_refusals(const struct refusal *r, size_t n)
{
    for (size_t i = 0; i < n; i++) refuses(r[i].target, J(r[i].body), r[i].status, r[i].text);
}

#define GEN   "/api/generate"
#define CHAT  "/api/chat"
#define EMBED "/api/embed"
#define M     "'model':'tiny','stream':false,'options':{'num_predict':4,'temperature':0}"

static void bad_bodies(void **state)
{
    static const char *const targets[] = {
        GEN, CHAT, EMBED, "/api/embeddings", "/api/tokenize", "/api/detokenize"};
    static char deep[20000];

    (void)state;
    memset(deep, '[', sizeof deep - 1);
    for (size_t i = 0; i < MLXR_COUNT(targets); i++) {
        refuses(targets[i], "", 400, "missing request body");
        refuses(targets[i], "{\"model\":", 400, "JSON");
        refuses(targets[i], "[1]", 400, "object");
        refuses(targets[i], "{\"model\":\"\xff\xfe\"}", 400, "decode byte");
        refuses(targets[i], "{\"model\":\"a\\u0000b\"}", 400, "NUL");
        refuses(targets[i], deep, 400, "JSON");
        refuses(targets[i], "{\"model\":7}", 400, "\"model\"");
        refuses(targets[i], "{\"tokens\":[],\"text\":\"\",\"model\":\"tiny\",\"keep_alive\":true}", 400,
                "keep_alive");
        refuses(targets[i], "{\"tokens\":[],\"text\":\"\",\"model\":\"tiny\",\"keep_alive\":\"5\"}", 400,
                "keep_alive");
        refuses(targets[i], "{\"tokens\":[],\"model\":\"tiny\",\"options\":{\"num_ctx\":\"x\"}}", 400,
                "option \"num_ctx\" must be of type integer");
    }
}

static void unknown_models(void **state)
{
    static const struct refusal cases[] = {
        {GEN, "{}", 404, "model '' not found"},
        {CHAT, "{}", 400, "model is required"},
        {EMBED, "{}", 404, "model '' not found"},
        {"/api/embeddings", "{}", 400, "model is required"},
        {GEN, "{'model':'nope','prompt':'x'}", 404, "model 'nope' not found"},
        {GEN, "{'model':'nope','keep_alive':0}", 404, "model 'nope' not found"},
        {CHAT, "{'model':'nope','messages':[{'role':'user','content':'x'}]}", 404, "model 'nope' not found"},
        {EMBED, "{'model':'nope','input':'x'}", 404, "model \"nope\" not found, try pulling it first"},
        {"/api/embeddings", "{'model':'nope','prompt':'x'}", 404,
         "model \"nope\" not found, try pulling it first"},
    };
    (void)state;
    check_refusals(cases, MLXR_COUNT(cases));
}

static void refused_fields(void **state)
{
    static const struct refusal cases[] = {
        {GEN, "{" M ",'prompt':'x','raw':true,'system':'s'}", 400,
         "raw mode does not support template, system, or context"},
        {GEN, "{" M ",'prompt':'x','raw':true,'template':'s'}", 400,
         "raw mode does not support template, system, or context"},
        {GEN, "{" M ",'prompt':'x','raw':true,'context':[1]}", 400,
         "raw mode does not support template, system, or context"},
        {GEN, "{" M ",'prompt':'x','suffix':'s'}", 400, "tiny does not support insert"},
        {GEN, "{" M ",'prompt':'x','images':['aGk=']}", 400, "images"},
        {GEN, "{" M ",'prompt':'x','context':['a']}", 400, "context"},
        {GEN, "{" M ",'prompt':'x','context':[99999]}", 400, "99999"},
        {GEN, "{" M ",'prompt':'x','template':'{% for'}", 400, "template"},
        {GEN, "{" M ",'prompt':'x','think':true}", 400, "\"tiny\" does not support thinking"},
        {GEN, "{" M ",'prompt':'x','think':'much'}", 400,
         "invalid think value: \"much\" (must be \"high\", \"medium\", \"low\", \"max\", true, or false)"},
        {GEN, "{" M ",'prompt':'x','think':5}", 400, "invalid think value: 5 (must be"},
        {GEN, "{" M ",'prompt':'x','format':'xml'}", 400,
         "invalid format: \"xml\"; expected \"json\" or a valid JSON Schema object"},
        {GEN, "{" M ",'prompt':'x','format':7}", 400,
         "invalid format: 7; expected \"json\" or a valid JSON Schema object"},
        {GEN, "{" M ",'prompt':'x','logprobs':true,'top_logprobs':21}", 400,
         "top_logprobs must be between 0 and 20"},
        {GEN, "{" M ",'prompt':'x','logprobs':true,'top_logprobs':-1}", 400,
         "top_logprobs must be between 0 and 20"},
        {GEN, "{" M ",'prompt':7}", 400, "\"prompt\""},
        {GEN, "{'model':'tiny','prompt':'x','options':{'temperature':'hot'}}", 400,
         "option \"temperature\" must be of type float32"},
        {GEN, "{'model':'tiny','prompt':'x','options':{'num_predict':'a'}}", 400,
         "option \"num_predict\" must be of type integer"},
        {GEN, "{'model':'tiny','prompt':'x','options':{'stop':5}}", 400,
         "option \"stop\" must be of type array"},
        {GEN, "{'model':'tiny','prompt':'x','options':{'use_mmap':5}}", 400,
         "option \"use_mmap\" must be of type boolean"},
        {GEN, "{'model':'tiny','prompt':'x','options':{'top_p':2}}", 400, "top_p"},
        {CHAT, "{" M ",'messages':[7]}", 400, "messages[0]"},
        {CHAT, "{" M ",'messages':[{'content':'x'}]}", 400, "role"},
        {CHAT, "{" M ",'messages':[{'role':'user','content':7}]}", 400, "content"},
        {CHAT, "{" M ",'messages':[{'role':'user','content':'a\\u0000'}]}", 400, "NUL"},
        {CHAT, "{" M ",'messages':[{'role':'user','content':'x','images':['aGk=']}]}", 400, "images"},
        {CHAT, "{" M ",'messages':[{'role':'user','content':[{'type':'image_url'}]}]}", 400, "image_url"},
        {CHAT,
         "{" M ",'messages':[{'role':'assistant','tool_calls':[{'function':{'name':'f','arguments':'{'}}]}]}",
         400, "invalid tool call arguments"},
        {CHAT, "{" M ",'messages':[{'role':'user','content':'x'}],'think':'high'}", 400,
         "\"tiny\" does not support thinking"},
        {CHAT,
         "{" M
         ",'messages':[{'role':'user','content':'x'}],'tools':[{'type':'function','function':{'name':'f'}}]}",
         400, "tiny does not support tools"},
        {CHAT, "{" M ",'messages':'x'}", 400, "messages"},
        {EMBED, "{'model':'tiny','input':7}", 400, "invalid input type"},
        {EMBED, "{'model':'tiny','input':['a',7]}", 400, "invalid input type"},
        {EMBED, "{'model':'tiny','input':[[1,'a']]}", 400, "invalid input type"},
        {EMBED, "{'model':'tiny','input':[[99999]]}", 400, "99999"},
        {EMBED, "{'model':'tiny','input':'a','dimensions':-1}", 400, "dimensions"},
        {"/api/tokenize", "{'model':'tiny'}", 400, "\"text\" is required"},
        {"/api/detokenize", "{'model':'tiny','tokens':[1.5]}", 400, "tokens"},
        {"/api/detokenize", "{'model':'tiny','tokens':[99999]}", 400, "99999"},
    };
    (void)state;
    check_refusals(cases, MLXR_COUNT(cases));
}

/* ---- the mock: what needs no model ---- */

static void load_and_unload(void **state)
{
    json_t *v;

    (void)state;
    v = post_json(GEN, J("{'model':'tiny'}"), 200);
    assert_string_equal(text_at(v, "done_reason"), "load");
    assert_string_equal(text_at(v, "response"), "");
    assert_true(json_is_true(at(v, "done")));
    assert_null(at(v, "eval_count"));
    json_decref(v);
    v = post_json(CHAT, J("{'model':'tiny','messages':[]}"), 200);
    assert_string_equal(text_at(v, "done_reason"), "load");
    assert_string_equal(text_at(v, "message.role"), "assistant");
    json_decref(v);
    assert_int_equal(mlxr_residency_count(serving->residency).n_loaded, 1);
    for (int i = 0; i < 2; i++) { /* loaded, and then not */
        v = post_json(GEN, J("{'model':'tiny','keep_alive':0}"), 200);
        assert_string_equal(text_at(v, "done_reason"), "unload");
        assert_string_equal(text_at(v, "response"), "");
        json_decref(v);
        WAIT_FOR(mlxr_residency_count(serving->residency).n_loaded == 0);
    }
    v = post_json(CHAT, J("{'model':'tiny','keep_alive':'0'}"), 200);
    assert_string_equal(text_at(v, "done_reason"), "unload");
    assert_string_equal(text_at(v, "message.content"), "");
    json_decref(v);
    v = post_json(EMBED, J("{'model':'tiny','keep_alive':1}"), 200);
    assert_int_equal(json_array_size(at(v, "embeddings")), 0);
    assert_non_null(at(v, "embeddings"));
    json_decref(v);
    assert_int_equal(mlxr_residency_count(serving->residency).n_loaded, 1);
}

static void mock_answers(void **state)
{
    mlxr_exchange x;
    json_t *v;
    size_t n;

    (void)state;
    x = post(GEN, J("{'model':'any','prompt':'one two','options':{'num_predict':null}}"));
    assert_string_equal(x.content_type, "application/x-ndjson");
    v = stream_json(&x);
    n = json_array_size(v);
    assert_true(n >= 3);
    assert_string_equal(text_at(v, "0.response"), "You");
    assert_true(json_is_false(at(v, "0.done")));
    assert_true(json_is_true(at(json_array_get(v, n - 1), "done")));
    assert_string_equal(text_at(json_array_get(v, n - 1), "done_reason"), "stop");
    assert_string_equal(text_at(json_array_get(v, n - 1), "model"), "any");
    json_decref(v);
    v = post_json(GEN, J("{'model':'any','prompt':'x','suffix':'y'}"), 400);
    assert_string_equal(error_of(v), "any does not support insert");
    json_decref(v);
    v = post_json("/api/tokenize", J("{'model':'any','content':'a b c'}"), 200);
    assert_int_equal(int_at(v, "count"), 3);
    json_decref(v);
    v = post_json(EMBED, J("{'model':'any','input':['a','b'],'truncate':false}"), 200);
    assert_int_equal(json_array_size(at(v, "embeddings")), 2);
    assert_true(int_at(v, "total_duration") > 0 && int_at(v, "load_duration") > 0);
    assert_int_equal(int_at(v, "prompt_eval_count"), 2);
    json_decref(v);
}

/* ---- a tiny model ---- */

static void write_file(const char *dir, const char *name, const char *text, size_t n)
{
    char *path = mlxr_path_join(dir, name);

    assert_non_null(path);
    assert_ok(mlxr_file_write(path, text, n, &err), &err);
    free(path);
}

/* The tiny model with names of its own for special tokens, and another template. */
static int import_variant(const char *name, const char *const (*renamed)[2], size_t n_renamed,
                          const char *config)
{
    static const char *const files[] = {"config.json", "generation_config.json", "model.safetensors",
                                        "tokenizer.json"};
    char dir[128];

    snprintf(dir, sizeof dir, "%s-%s", serving_dir, name);
    if (mkdir(dir, 0700) != 0) return -1;
    for (size_t i = 0; i < MLXR_COUNT(files); i++) {
        char *path = mlxr_path_join(TINY, files[i]);
        mlxr_buf text = {0}, own = {0};
        if (mlxr_file_read(&text, path, 64 << 20, &err) != MLXR_OK) return -1;
        for (size_t at_ = 0; at_ < text.len;) {
            size_t k = 0;
            while (i == 3 && k < n_renamed &&
                   (text.len - at_ < strlen(renamed[k][0]) ||
                    memcmp(text.data + at_, renamed[k][0], strlen(renamed[k][0])) != 0))
                k++;
            if (i == 3 && k < n_renamed) {
                mlxr_buf_str(&own, renamed[k][1]);
                at_ += strlen(renamed[k][0]);
            } else {
                mlxr_buf_append(&own, text.data + at_++, 1);
            }
        }
        write_file(dir, files[i], own.data, own.len);
        mlxr_buf_clear(&own);
        mlxr_buf_clear(&text);
        free(path);
    }
    write_file(dir, "tokenizer_config.json", config, strlen(config));
    if (strcmp(name, "embedder") == 0) write_file(dir, "modules.json", "[]", 2);
    if (mlxr_store_import(NULL, serving->store, dir, name, NULL, NULL, &err) != MLXR_OK) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    return mlxr_io_remove_tree(NULL, dir, &err) == MLXR_OK ? 0 : -1;
}

static int begin_tiny(void **state)
{
    static const char *const fim[][2] = {{"<|user|>", "<|fim_prefix|>"},
                                         {"<|assistant|>", "<|fim_suffix|>"},
                                         {"<|system|>", "<|fim_middle|>"}};
    static const char plain[] =
        "{\"bos_token\":\"<s>\",\"chat_template\":\"{% for m in messages %}{{ m.content }}{% endfor %}\"}";
    static const char calls[] =
        "{\"bos_token\":\"<s>\",\"chat_template\":\"{{ bos_token }}{% if tools %}<tool_call>{{ tools | "
        "length "
        "}}</tool_call>{% endif %}{% for m in messages %}{{ m.content }}{% for c in m.tool_calls %}{{ "
        "c.function.arguments | tojson }}{% endfor %}{% endfor %}\"}";
    static const char thinks[] = "{\"bos_token\":\"<s>\",\"chat_template\":\"{% for m in messages %}{{ "
                                 "m.role }}:{{ m.content }};{% endfor %}"
                                 "{% if add_generation_prompt %}assistant:{% if enable_thinking is defined "
                                 "and enable_thinking is false %}"
                                 "<think></think>{% else %}<think>{% endif %}{% endif %}\"}";

    (void)state;
    if (serving_begin_store() != 0) return -1;
    if (import_variant("caller", NULL, 0, calls) != 0) return -1;
    if (import_variant("filler", fim, 3, plain) != 0 || import_variant("thinker", NULL, 0, thinks) != 0)
        return -1;
    return import_variant("embedder", NULL, 0, plain);
}

static int begin_mock(void **state)
{
    (void)state;
    return serving_begin_mock();
}

static int end(void **state)
{
    (void)state;
    return serving_end();
}

/* Text of a stream's pieces: key is "response", "thinking", "message.content" ... */
static char *joined(const json_t *lines, const char *key)
{
    mlxr_buf b = {0};

    mlxr_buf_append(&b, "", 0);
    for (size_t i = 0; i < json_array_size(lines); i++) {
        const char *s = json_string_value(at(json_array_get(lines, i), key));
        if (s) mlxr_buf_str(&b, s);
    }
    mlxr_buf_char(&b, '\0');
    return mlxr_buf_take(&b, NULL);
}

static const json_t *last_of(const json_t *lines)
{
    return json_array_get(lines, json_array_size(lines) - 1);
}

static void six_stats(const json_t *v)
{
    static const char *const names[] = {"total_duration",       "load_duration", "prompt_eval_count",
                                        "prompt_eval_duration", "eval_count",    "eval_duration"};

    for (size_t i = 0; i < MLXR_COUNT(names); i++) assert_true(int_at(v, names[i]) > 0);
}

/* The same request streamed and whole: content, thinking, logprobs add up. */
static void compare_stream(const char *target, const char *key, const char *rest)
{
    mlxr_exchange x = post(target, Jf("{%s}", rest));
    json_t *lines, *whole;
    char *text;
    size_t n_logs = 0;

    assert_int_equal(x.status, 200);
    lines = stream_json(&x);
    whole = post_json(target, Jf("{%s,'stream':false}", rest), 200);
    text = joined(lines, key);
    assert_string_equal(text, text_at(whole, key));
    for (size_t i = 0; i < json_array_size(lines); i++)
        n_logs += json_array_size(at(json_array_get(lines, i), "logprobs"));
    assert_int_equal(n_logs, json_array_size(at(whole, "logprobs")));
    assert_int_equal(int_at(last_of(lines), "eval_count"), int_at(whole, "eval_count"));
    assert_string_equal(text_at(last_of(lines), "done_reason"), text_at(whole, "done_reason"));
    assert_true(json_equal(at(last_of(lines), "context"), at(whole, "context")) ||
                (!at(last_of(lines), "context") && !at(whole, "context")));
    six_stats(last_of(lines));
    six_stats(whole);
    free(text);
    json_decref(lines);
    json_decref(whole);
}

static void streams_add_up(void **state)
{
    (void)state;
    compare_stream(GEN, "response", "'model':'tiny','prompt':'Hello','options':{'seed':1,'num_predict':40}");
    compare_stream(GEN, "response",
                   "'model':'tiny','prompt':'Hello','raw':true,'options':{'seed':1,'num_predict':40}");
    compare_stream(GEN, "response",
                   "'model':'tiny','prompt':'Hello','logprobs':true,'options':{'seed':1,'num_predict':20}");
    compare_stream(GEN, "response",
                   "'model':'thinker','prompt':'Hello','think':false,'options':{'seed':1,'num_predict':40}");
    compare_stream(GEN, "response",
                   "'model':'filler','prompt':'Hello','suffix':'you','options':{'seed':1,'num_predict':20}");
    compare_stream(CHAT, "message.content",
                   "'model':'tiny','messages':[{'role':'user','content':'Hello'}],'options':{'seed':1,'num_"
                   "predict':40}");
    compare_stream(CHAT, "message.content",
                   "'model':'tiny','messages':[{'role':'user','content':'Hi'}],'format':'json','options':{'"
                   "seed':3,'temperature':1.5,'num_predict':60}");
}

static void ends_and_counts(void **state)
{
    json_t *v = post_json(
        GEN,
        J("{'model':'tiny','prompt':'Hello','stream':false,'options':{'num_predict':3,'temperature':0}}"),
        200);
    json_t *w;
    size_t n;

    (void)state;
    assert_int_equal(int_at(v, "eval_count"), 3);
    assert_string_equal(text_at(v, "done_reason"), "length");
    n = (size_t)int_at(v, "prompt_eval_count");
    assert_int_equal(json_array_size(at(v, "context")), n + 3);
    assert_string_equal(text_at(v, "model"), "tiny");
    assert_int_equal(strlen(text_at(v, "created_at")), strlen("2026-01-02T03:04:05.123456789Z"));
    /* The same again: the prompt comes from the cache, the count is of all of it. */
    w = post_json(
        GEN,
        J("{'model':'tiny','prompt':'Hello','stream':false,'options':{'num_predict':3.0,'temperature':0}}"),
        200);
    assert_int_equal(int_at(w, "prompt_eval_count"), n);
    assert_string_equal(text_at(w, "response"), text_at(v, "response"));
    json_decref(w);
    w = post_json(GEN, J("{'model':'tiny','prompt':'Hello','stream':false,'options':{'num_predict':1}}"),
                  200);
    six_stats(w);
    json_decref(w);
    w = post_json(
        GEN, J("{'model':'tiny','prompt':'Hello','raw':true,'stream':false,'options':{'num_predict':3}}"),
        200);
    assert_null(at(w, "context"));
    json_decref(w);
    json_decref(v);
}

/* A stop string of two tokens' text, from an answer of its own. */
static void stops(void **state)
{
    static const char rest[] =
        "'model':'tiny','prompt':'Hello','options':{'temperature':0,'num_predict':30%s}";
    char options[200] = "";
    mlxr_exchange x;
    json_t *v, *w, *lines;
    const char *text;
    char stop[5] = "", *all;
    size_t at_;

    (void)state;
    v = post_json(GEN,
                  Jf("{'stream':false,%s}",
                     J("'model':'tiny','prompt':'Hello','options':{'temperature':0,'num_predict':30}")),
                  200);
    text = text_at(v, "response");
    /* Two characters in ASCII that are letters, not at the beginning: in a byte-level vocabulary mostly two tokens. */
    for (at_ = 4; text[at_] && text[at_ + 1]; at_++)
        if (isalnum((unsigned char)text[at_]) && isalnum((unsigned char)text[at_ + 1])) break;
    if (text[at_] && text[at_ + 1]) {
        memcpy(stop, text + at_, 2);
        snprintf(options, sizeof options, ",'stop':['%s']", stop);
        w = post_json(GEN,
                      Jf("{'stream':false,'model':'tiny','prompt':'Hello','options':{'temperature':0,'num_"
                         "predict':30%s}}",
                         options),
                      200);
        assert_null(strstr(text_at(w, "response"), stop));
        assert_int_equal(strncmp(text, text_at(w, "response"), strlen(text_at(w, "response"))), 0);
        assert_string_equal(text_at(w, "done_reason"), "stop");
        x = post(GEN, Jf("{'model':'tiny','prompt':'Hello','options':{'temperature':0,'num_predict':30%s}}",
                         options));
        lines = stream_json(&x);
        all = joined(lines, "response");
        assert_string_equal(all, text_at(w, "response"));
        free(all);
        json_decref(lines);
        json_decref(w);
    } else {
        print_message("SKIP: the answer has no two letters\n");
    }
    (void)rest;
    json_decref(v);
}

static const char point[] = "{'type':'object','properties':{'kind':{'enum':['dot','line']},'x':{'type':'"
                            "integer','minimum':0,'maximum':99}},"
                            "'required':['kind','x'],'additionalProperties':false}";

static bool is_point(const char *text)
{
    json_t *v = json_loads(text, 0, NULL);
    const char *kind = json_string_value(json_object_get(v, "kind"));
    bool ok = json_object_size(v) == 2 && kind && (strcmp(kind, "dot") == 0 || strcmp(kind, "line") == 0) &&
              json_is_integer(json_object_get(v, "x"));

    json_decref(v);
    return ok;
}

static void formats(void **state)
{
    json_t *v;

    (void)state;
    for (int seed = 1; seed < 6; seed++) {
        v = post_json(GEN,
                      Jf("{'model':'tiny','prompt':'Hi','stream':false,'format':%s,'options':{'temperature':"
                         "1.5,'seed':%d,'top_k':0,'top_p':1}}",
                         point, seed),
                      200);
        if (!is_point(text_at(v, "response"))) fail_msg("seed %d: %s", seed, text_at(v, "response"));
        json_decref(v);
        v = post_json(CHAT,
                      Jf("{'model':'tiny','messages':[{'role':'user','content':'Hi'}],'stream':false,'format'"
                         ":%s,'options':{'temperature':1.5,'seed':%d}}",
                         point, seed),
                      200);
        if (!is_point(text_at(v, "message.content")))
            fail_msg("seed %d: %s", seed, text_at(v, "message.content"));
        json_decref(v);
        v = post_json(CHAT,
                      Jf("{'model':'thinker','messages':[{'role':'user','content':'Hi'}],'stream':false,'"
                         "think':false,'format':%s,'options':{'temperature':1.5,'seed':%d}}",
                         point, seed),
                      200);
        if (!is_point(text_at(v, "message.content")))
            fail_msg("seed %d: %s", seed, text_at(v, "message.content"));
        json_decref(v);
    }
    /* none, in three ways */
    v = post_json(GEN, J("{" M ",'prompt':'Hi','format':''}"), 200);
    json_decref(v);
    v = post_json(
        GEN,
        J("{" M ",'prompt':'Hi','format':null,'system':null,'suffix':null,'think':null,'keep_alive':null}"),
        200);
    json_decref(v);
}

static void tools(void **state)
{
    static const char offered[] =
        "'tools':[{'type':'function','function':{'name':'weather','description':'Of a city','parameters':"
        "{'type':'object','properties':{'city':{'type':'string','maxLength':6},'days':{'type':'integer','"
        "minimum':1,'maximum':9}},"
        "'required':['city','days'],'additionalProperties':false}}}]";
    static const char asked[] = "'model':'caller','messages':[{'role':'user','content':'Weather?'}],'tool_"
                                "choice':'required','parallel_tool_calls':false";
    mlxr_exchange x;
    json_t *v, *lines, *call = NULL;
    size_t n_calls = 0;

    (void)state;
    v = post_json(CHAT, Jf("{%s,%s,'stream':false,'options':{'seed':1,'temperature':1.5}}", asked, offered),
                  200);
    assert_string_equal(text_at(v, "message.tool_calls.0.function.name"), "weather");
    assert_int_equal(int_at(v, "message.tool_calls.0.function.index"), 0);
    assert_true(json_is_object(at(v, "message.tool_calls.0.function.arguments")));
    assert_true(json_is_integer(at(v, "message.tool_calls.0.function.arguments.days")));
    assert_int_equal(strlen(text_at(v, "message.tool_calls.0.id")), strlen("call_12345678"));
    assert_int_equal(strncmp(text_at(v, "message.tool_calls.0.id"), "call_", 5), 0);
    assert_string_equal(text_at(v, "done_reason"), "stop");
    x = post(CHAT, Jf("{%s,%s,'options':{'seed':1,'temperature':1.5}}", asked, offered));
    lines = stream_json(&x);
    for (size_t i = 0; i < json_array_size(lines); i++) {
        json_t *calls = at(json_array_get(lines, i), "message.tool_calls");
        if (!calls) continue;
        n_calls += json_array_size(calls);
        call = json_array_get(calls, 0);
        assert_string_equal(text_at(json_array_get(lines, i), "message.content"), "");
    }
    assert_int_equal(n_calls, 1); /* whole, in one line */
    assert_true(json_equal(at(call, "function.arguments"), at(v, "message.tool_calls.0.function.arguments")));
    json_decref(lines);
    json_decref(v);
    /* and what comes of it goes back */
    v = post_json(CHAT,
                  J("{'model':'caller','stream':false,'messages':[{'role':'USER','content':'Weather?'},{'"
                    "role':'assistant','content':"
                    "null,'tool_calls':[{'function':"
                    "{'name':'weather','arguments':{'city':'Bonn','days':2}}}]},{'role':'tool','tool_name':'"
                    "weather','content':'sun'}],'_debug_render_only':true}"),
                  200);
    assert_non_null(strstr(text_at(v, "_debug_info.rendered_template"), "Bonn"));
    assert_non_null(strstr(text_at(v, "_debug_info.rendered_template"), "sun"));
    json_decref(v);
}

static void check_rendered(const char *target, const char *body, const char *want)
{
    json_t *v = post_json(target, Jf("{%s,'_debug_render_only':true}", body), 200);
    const char *text = text_at(v, "_debug_info.rendered_template");

    if (strcmp(text, want) != 0) fail_msg("%s: \"%s\", wanted \"%s\"", body, text, want);
    json_decref(v);
}

static void prompts(void **state)
{
    (void)state;
    check_rendered(GEN, "'model':'tiny','prompt':'Hi'", "<s><|user|>Hi<|end|><|assistant|>");
    check_rendered(GEN, "'model':'tiny','prompt':'Hi','system':'S'",
                   "<s><|system|>S<|end|><|user|>Hi<|end|><|assistant|>");
    check_rendered(GEN, "'model':'tiny','prompt':'Hi','raw':true", "Hi");
    check_rendered(GEN,
                   "'model':'tiny','prompt':'Hi','system':'S','template':'{{ system }}-{{ "
                   "messages[-1].content }}-{{ bos_token }}'",
                   "S-Hi-<s>");
    check_rendered(GEN, "'model':'tiny','prompt':'Hi','suffix':'Ho','template':'{{ prompt }}|{{ suffix }}'",
                   "Hi|Ho");
    check_rendered(GEN, "'model':'filler','prompt':'Hi','suffix':'Ho'",
                   "<|fim_prefix|>Hi<|fim_suffix|>Ho<|fim_middle|>");
    check_rendered(GEN, "'model':'filler','prompt':'','suffix':'Ho'",
                   "<|fim_prefix|><|fim_suffix|>Ho<|fim_middle|>");
    check_rendered(GEN, "'model':'thinker','prompt':'Hi'", "user:Hi;assistant:<think>");
    check_rendered(GEN, "'model':'thinker','prompt':'Hi','think':false", "user:Hi;assistant:<think></think>");
    check_rendered(GEN, "'model':'thinker','prompt':'Hi','think':'low'", "user:Hi;assistant:<think>");
    check_rendered(CHAT,
                   "'model':'tiny','messages':[{'role':'System','content':'S'},{'role':'user','content':[{'"
                   "type':'text','text':'a'},{'type':'text','text':'b'}]}]",
                   "<s><|system|>S<|end|><|user|>ab<|end|><|assistant|>");
    /* gone on with */
    check_rendered(
        CHAT,
        "'model':'tiny','messages':[{'role':'user','content':'Hi'},{'role':'assistant','content':'Well, '}]",
        "<s><|user|>Hi<|end|><|assistant|>Well, ");
    check_rendered(
        CHAT,
        "'model':'thinker','messages':[{'role':'user','content':'Hi'},{'role':'assistant','content':'Well'}]",
        "user:Hi;assistant:Well");
}

static void context_goes_on(void **state)
{
    json_t *v = post_json(GEN, J("{" M ",'prompt':'Hi'}"), 200), *w;
    char *context = json_dumps(at(v, "context"), JSON_COMPACT);
    size_t n = json_array_size(at(v, "context"));

    (void)state;
    assert_true(n > 4);
    w = post_json(GEN, Jf("{" M ",'prompt':'And?','context':%s}", context), 200);
    assert_true((size_t)int_at(w, "prompt_eval_count") > n);
    assert_int_equal(json_array_size(at(w, "context")),
                     int_at(w, "prompt_eval_count") + int_at(w, "eval_count"));
    for (size_t i = 0; i < n; i++)
        assert_true(json_equal(json_array_get(at(w, "context"), i), json_array_get(at(v, "context"), i)));
    json_decref(w);
    json_decref(v);
    free(context);
}

static void thinking(void **state)
{
    json_t *v = post_json(
        GEN,
        J("{'model':'thinker','prompt':'Hi','stream':false,'options':{'num_predict':20,'temperature':0}}"),
        200);

    (void)state;
    /* The prompt opens it, and random weights never close it. */
    assert_true(strlen(text_at(v, "thinking")) > 0);
    assert_string_equal(text_at(v, "response"), "");
    json_decref(v);
    v = post_json(CHAT,
                  J("{'model':'thinker','messages':[{'role':'user','content':'Hi'}],'think':false,'stream':"
                    "false,'options':{'num_predict':20,'temperature':0}}"),
                  200);
    assert_null(at(v, "message.thinking"));
    assert_true(strlen(text_at(v, "message.content")) > 0);
    json_decref(v);
}

static void logprobs(void **state)
{
    json_t *v = post_json(GEN, J("{" M ",'prompt':'Hi','logprobs':true,'top_logprobs':3}"), 200),
           *list = at(v, "logprobs"), *e;
    size_t i;

    (void)state;
    assert_int_equal(json_array_size(list), 4);
    json_array_foreach(list, i, e)
    {
        double first = json_number_value(at(e, "top_logprobs.0.logprob"));
        assert_int_equal(json_array_size(at(e, "top_logprobs")), 3);
        assert_true(first >= json_number_value(at(e, "top_logprobs.1.logprob")));
        assert_true(fabs(first - json_number_value(at(e, "logprob"))) < 1e-9); /* greedy */
        assert_true(json_array_size(at(e, "bytes")) >= 1);
        assert_true(json_is_string(at(e, "token")));
    }
    json_decref(v);
    v = post_json(GEN, J("{" M ",'prompt':'Hi','top_logprobs':3}"), 200);
    assert_null(at(v, "logprobs"));
    json_decref(v);
}

static bool warned(const json_t *v, const char *word)
{
    size_t i;
    json_t *w;

    json_array_foreach(at(v, "warnings"), i, w) if (strstr(json_string_value(w), word)) return true;
    return false;
}

static void warnings(void **state)
{
    static const char *const useless[] = {"num_gpu", "main_gpu", "num_thread", "num_batch",
                                          "draft_num_predict"};
    json_t *v;

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(useless); i++) {
        v = post_json(
            GEN,
            Jf("{'model':'tiny','prompt':'x','stream':false,'options':{'num_predict':1,'%s':1}}", useless[i]),
            200);
        assert_true(warned(v, useless[i]));
        json_decref(v);
    }
    v = post_json(GEN,
                  J("{'model':'tiny','prompt':'x','stream':false,'nonsense':1,'options':{'num_predict':1,'"
                    "use_mmap':true,'low_vram':false,'bogus':7}}"),
                  200);
    assert_true(warned(v, "nonsense") && warned(v, "bogus") && warned(v, "use_mmap") &&
                warned(v, "low_vram"));
    json_decref(v);
    v = post_json(EMBED, J("{'model':'tiny','input':'x','dimensions':100000,'options':{'temperature':1}}"),
                  200);
    assert_true(warned(v, "dimensions") && warned(v, "temperature"));
    json_decref(v);
    /* what Ollama takes for none */
    v = post_json(GEN,
                  J("{'model':'tiny','prompt':'x','stream':false,'options':{'num_predict':1,'top_k':-1,'seed'"
                    ":-5,'repeat_last_n':-1,'stop':'zz','typical_p':0.9,'num_keep':4}}"),
                  200);
    assert_null(at(v, "warnings"));
    json_decref(v);
}

static void too_long(void **state)
{
    static char words[8192], body[12000];
    json_t *v;
    long a = 0, b = 0;

    (void)state;
    words[0] = '\0';
    for (int i = 0; i < 1000; i++) strcat(words, "a b ");
    snprintf(body, sizeof body,
             "{\"model\":\"tiny\",\"stream\":false,\"prompt\":\"%s\",\"options\":{\"num_predict\":4}}",
             words);
    v = post_json(GEN, body, 400);
    assert_int_equal(
        sscanf(error_of(v),
               "input length (%ld tokens) exceeds the model's maximum context length (%ld tokens)", &a, &b),
        2);
    assert_true(a >= b && b == 512);
    json_decref(v);
    snprintf(body, sizeof body,
             "{\"model\":\"tiny\",\"stream\":false,\"truncate\":true,\"prompt\":\"%s\",\"options\":{\"num_"
             "predict\":4}}",
             words);
    v = post_json(GEN, body, 200);
    assert_true(int_at(v, "truncated_count") > 0);
    json_decref(v);
    snprintf(body, sizeof body,
             "{\"model\":\"tiny\",\"stream\":false,\"truncate\":false,\"messages\":[{\"role\":\"user\","
             "\"content\":\"%s\"}]}",
             words);
    v = post_json(CHAT, body, 400);
    assert_non_null(strstr(error_of(v), "input length ("));
    json_decref(v);
    snprintf(body, sizeof body, "{\"model\":\"tiny\",\"input\":\"%s\"}", words);
    v = post_json(EMBED, body, 200);
    assert_int_equal(int_at(v, "prompt_eval_count"), 512);
    json_decref(v);
    snprintf(body, sizeof body, "{\"model\":\"tiny\",\"truncate\":false,\"input\":\"%s\"}", words);
    v = post_json(EMBED, body, 400);
    assert_string_equal(error_of(v), "the input length exceeds the context length");
    json_decref(v);
    /* the answer fills what is left */
    v = post_json(GEN,
                  J("{'model':'tiny','prompt':'x','stream':false,'options':{'num_ctx':32,'num_predict':1000,'"
                    "temperature':0,'seed':1}}"),
                  200);
    assert_true(int_at(v, "eval_count") + int_at(v, "prompt_eval_count") <= 33);
    json_decref(v);
}

static void embeddings(void **state)
{
    json_t *v = post_json(EMBED, J("{'model':'tiny','input':['Hello','you']}"), 200), *w;
    double sum = 0;
    size_t i, n;
    json_t *x;

    (void)state;
    n = json_array_size(at(v, "embeddings.0"));
    assert_int_equal(n, 64);
    assert_int_equal(json_array_size(at(v, "embeddings")), 2);
    json_array_foreach(at(v, "embeddings.0"), i, x) sum += json_number_value(x) * json_number_value(x);
    assert_true(fabs(sum - 1) < 1e-5);
    assert_true(int_at(v, "total_duration") > 0 && int_at(v, "load_duration") > 0 &&
                int_at(v, "prompt_eval_count") > 0);
    w = post_json(EMBED, J("{'model':'tiny','input':'Hello'}"), 200);
    assert_true(json_equal(at(w, "embeddings.0"), at(v, "embeddings.0"))); /* alone or with others */
    json_decref(w);
    w = post_json("/api/embeddings", J("{'model':'tiny','prompt':'Hello'}"), 200);
    assert_true(json_equal(at(w, "embedding"), at(v, "embeddings.0")));
    json_decref(w);
    w = post_json("/api/embeddings", J("{'model':'tiny','prompt':''}"), 200);
    assert_true(json_is_array(at(w, "embedding")) && !json_array_size(at(w, "embedding")));
    json_decref(w);
    w = post_json(EMBED, J("{'model':'tiny','input':'Hello','dimensions':8}"), 200);
    assert_int_equal(json_array_size(at(w, "embeddings.0")), 8);
    sum = 0;
    json_array_foreach(at(w, "embeddings.0"), i, x) sum += json_number_value(x) * json_number_value(x);
    assert_true(fabs(sum - 1) < 1e-5);
    json_decref(w);
    w = post_json("/api/tokenize", J("{'model':'tiny','text':'Hello','add_special':true}"), 200);
    {
        char *ids = json_dumps(at(w, "tokens"), JSON_COMPACT);
        json_t *by_ids = post_json(EMBED, Jf("{'model':'tiny','input':[%s]}", ids), 200);
        json_t *one = post_json(EMBED, Jf("{'model':'tiny','input':%s}", ids), 200);
        assert_true(json_equal(at(by_ids, "embeddings.0"), at(v, "embeddings.0")));
        assert_true(json_equal(at(one, "embeddings.0"), at(v, "embeddings.0")));
        json_decref(one);
        json_decref(by_ids);
        free(ids);
    }
    json_decref(w);
    w = post_json(EMBED, J("{'model':'tiny','input':[]}"), 200);
    assert_true(json_is_array(at(w, "embeddings")) && !json_array_size(at(w, "embeddings")));
    json_decref(w);
    json_decref(v);
    refuses(GEN, J("{'model':'embedder','prompt':'x'}"), 400, "\"embedder\" does not support generate");
    refuses(CHAT, J("{'model':'embedder','messages':[{'role':'user','content':'x'}]}"), 400,
            "\"embedder\" does not support chat");
    v = post_json(EMBED, J("{'model':'embedder','input':'x'}"), 200);
    json_decref(v);
}

static void *many(void *ud)
{
    json_t *v = post_json(
        EMBED, J("{'model':'tiny','input':['one two three four','five six seven eight','nine ten']}"), 200);

    assert_int_equal(json_array_size(at(v, "embeddings")), 3);
    json_decref(v);
    return ud;
}

/* More than there are workers. */
static void many_embeddings(void **state)
{
    pthread_t threads[80];
    json_t *v;

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, many, NULL), 0);
    v = post_json("/api/tokenize", J("{'model':'tiny','text':'x'}"), 200);
    json_decref(v);
    for (size_t i = 0; i < MLXR_COUNT(threads); i++) pthread_join(threads[i], NULL);
}

static void tokens(void **state)
{
    json_t *v = post_json("/api/tokenize", J("{'model':'tiny','text':'the \xc3\xbc<|end|>','pieces':true}"),
                          200),
           *w;
    char *ids = json_dumps(at(v, "tokens"), JSON_COMPACT);
    static const char *const aliases[] = {"content", "prompt"};

    (void)state;
    assert_int_equal(int_at(v, "count"), json_array_size(at(v, "tokens")));
    assert_int_equal(json_array_size(at(v, "pieces")), json_array_size(at(v, "tokens")));
    assert_string_equal(text_at(v, "pieces.0"), "the");
    assert_int_equal(int_at(v, "pieces.2.0"), 0xc3); /* half a character */
    for (size_t i = 0; i < MLXR_COUNT(aliases); i++) {
        w = post_json("/api/tokenize", Jf("{'model':'tiny','%s':'the \xc3\xbc<|end|>'}", aliases[i]), 200);
        assert_true(json_equal(at(w, "tokens"), at(v, "tokens")));
        assert_null(at(w, "pieces"));
        json_decref(w);
    }
    w = post_json("/api/detokenize", Jf("{'model':'tiny','tokens':%s}", ids), 200);
    assert_string_equal(text_at(w, "text"), "the \xc3\xbc<|end|>");
    assert_string_equal(text_at(w, "content"), text_at(w, "text"));
    json_decref(w);
    w = post_json("/api/detokenize", Jf("{'model':'tiny','tokens':%s,'skip_special':true}", ids), 200);
    assert_string_equal(text_at(w, "text"), "the \xc3\xbc");
    json_decref(w);
    w = post_json("/api/tokenize", J("{'model':'tiny','content':'the','with_pieces':true}"), 200);
    assert_string_equal(text_at(w, "tokens.0.piece"), "the");
    assert_true(json_is_integer(at(w, "tokens.0.id")));
    json_decref(w);
    w = post_json("/api/tokenize", J("{'model':'tiny','messages':[{'role':'user','content':'Hi'}]}"), 200);
    assert_int_equal(int_at(w, "count"), 6);
    json_decref(w);
    w = post_json("/api/tokenize", J("{'model':'tiny','text':''}"), 200);
    assert_int_equal(int_at(w, "count"), 0);
    json_decref(w);
    w = post_json("/api/detokenize", J("{'model':'tiny','tokens':[]}"), 200);
    assert_string_equal(text_at(w, "text"), "");
    json_decref(w);
    free(ids);
    json_decref(v);
}

static int begin_strict(void **state)
{
    mlxr_serve_options o = serving_options();

    (void)state;
    o.mock = o.strict = true;
    return serving_open(&o);
}

static void strict(void **state)
{
    (void)state;
    refuses(GEN, J("{'model':'m','prompt':'x','nonsense':1}"), 400, "nonsense");
    refuses(GEN, J("{'model':'m','prompt':'x','options':{'bogus':1}}"), 400, "bogus");
    refuses(EMBED, J("{'model':'m','input':'x','nonsense':1}"), 400, "nonsense");
}

/* ---- the default model ---- */

static int begin_default(void **state)
{
    mlxr_store_import_options o = mlxr_store_import_options_default();

    (void)state;
    if (!mlxr_path_is_dir(DEFAULT_MODEL)) return 0;
    if (serving_begin_store() != 0) return -1;
    return mlxr_store_import(NULL, serving->store, DEFAULT_MODEL, "smol", &o, NULL, &err) == MLXR_OK ? 0 : -1;
}

static void default_model(void **state)
{
    json_t *v;

    (void)state;
    if (!serving) {
        print_message("SKIP: the default model is not in models/\n");
        skip();
    }
    v = post_json(GEN,
                  J("{'model':'smol','prompt':'What is the capital of France? One "
                    "word.','stream':false,'options':{'temperature':0,'num_predict':24}}"),
                  200);
    assert_non_null(strstr(text_at(v, "response"), "Paris"));
    six_stats(v);
    json_decref(v);
    v = post_json(CHAT,
                  J("{'model':'smol','messages':[{'role':'user','content':'What is the capital of "
                    "France?'},{'role':'assistant','content':'The capital of France is'}],"
                    "'stream':false,'options':{'temperature':0,'num_predict':6}}"),
                  200);
    assert_non_null(strstr(text_at(v, "message.content"), "Paris"));
    json_decref(v);
    v = post_json(CHAT,
                  Jf("{'model':'smol','messages':[{'role':'user','content':'A "
                     "point.'}],'stream':false,'format':%s,'options':{'temperature':1.5,'seed':4}}",
                     point),
                  200);
    assert_true(is_point(text_at(v, "message.content")));
    json_decref(v);
    compare_stream(CHAT, "message.content",
                   "'model':'smol','messages':[{'role':'user','content':'Hello'}],'logprobs':true,'top_"
                   "logprobs':2,'options':{'seed':1,'num_predict':24}");
    v = post_json(EMBED, J("{'model':'smol','input':['a','b','c']}"), 200);
    assert_int_equal(json_array_size(at(v, "embeddings.2")), 576);
    json_decref(v);
    v = post_json("/api/tokenize", J("{'model':'smol','text':'Hello world'}"), 200);
    assert_int_equal(int_at(v, "count"), 2);
    json_decref(v);
}

int main(void)
{
    const struct CMUnitTest parts[] = {cmocka_unit_test(durations), cmocka_unit_test(keep_alives),
                                       cmocka_unit_test(token_bytes)};
    const struct CMUnitTest mock[] = {cmocka_unit_test(load_and_unload), cmocka_unit_test(mock_answers)};
    const struct CMUnitTest refused[] = {cmocka_unit_test(strict)};
    const struct CMUnitTest tiny[] = {cmocka_unit_test(bad_bodies),      cmocka_unit_test(unknown_models),
                                      cmocka_unit_test(refused_fields),  cmocka_unit_test(load_and_unload),
                                      cmocka_unit_test(streams_add_up),  cmocka_unit_test(ends_and_counts),
                                      cmocka_unit_test(stops),           cmocka_unit_test(formats),
                                      cmocka_unit_test(tools),           cmocka_unit_test(prompts),
                                      cmocka_unit_test(context_goes_on), cmocka_unit_test(thinking),
                                      cmocka_unit_test(logprobs),        cmocka_unit_test(warnings),
                                      cmocka_unit_test(too_long),        cmocka_unit_test(embeddings),
                                      cmocka_unit_test(many_embeddings), cmocka_unit_test(tokens)};
    const struct CMUnitTest real[] = {cmocka_unit_test(default_model)};

    return cmocka_run_group_tests_name("parts", parts, NULL, NULL) +
           cmocka_run_group_tests_name("mock", mock, begin_mock, end) +
           cmocka_run_group_tests_name("strict", refused, begin_strict, end) +
           cmocka_run_group_tests_name("tiny", tiny, begin_tiny, end) +
           cmocka_run_group_tests_name("default model", real, begin_default, end);
}
