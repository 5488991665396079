/* native_generate: POST /api/generate and POST /api/chat. One front for both: they differ in where the prompt comes from and in how the
 * answer is called. */
#include <ctype.h>
#include <stdlib.h>
#include <time.h>

#include "base/fs.h"
#include "runner/engine_api.h"
#include "serve/native.h"
#include "serve/receipt.h"

struct native {
    bool chat;
    /* of the body, borrowed from it */
    const char *model, *prompt, *suffix, *system, *template_;
    const json_t *messages, *tools, *format, *keep_alive, *think, *options, *images, *context, *tool_choice;
    bool raw, stream, truncate, truncate_given, shift, logprobs, debug, parallel;
    int64_t top_logprobs;
    const char *grammar, *regex, *answer_format;
    int32_t *before; /* context, in the turn's arena */
    size_t n_before;
    mlxr_buf content, thinking, calls,
        logs;     /* gathered: the whole answer, or what the next line of a stream takes along */
    mlxr_buf ids; /* int32_t: of prompt and answer, for `context` */
    size_t n_calls;
    mlxr_done_reason done_reason;
};

static mlxr_status take_format(void *into, const mlxr_field *f, const json_t *v, mlxr_error *err)
{
    struct native *n = into;

    if (!json_is_object(v) && (!json_is_string(v) || (strcmp(json_string_value(v), "") != 0 &&
                                                      strcmp(json_string_value(v), "json") != 0))) {
        char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
        mlxr_status st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                                   "invalid format: %.100s; expected \"json\" or a valid JSON Schema object",
                                   text ? text : "?");
        free(text);
        return st;
    }
    if (!(json_is_string(v) && json_string_length(v) == 0)) n->format = v;
    return MLXR_OK;
}

static mlxr_status take_truncate(void *into, const mlxr_field *f, const json_t *v, mlxr_error *err)
{
    struct native *n = into;

    n->truncate = json_is_true(v);
    n->truncate_given = true;
    return MLXR_OK;
}

#define AT(member) offsetof(struct native, member)
#define COMMON_FIELDS                                                                                      \
    {.name = "stream",                                                                                     \
     .types = MLXR_FIELD_BOOL,                                                                             \
     .offset = AT(stream),                                                                                 \
     .fallback = "true",                                                                                   \
     .help = "a line of JSON for each piece, or one object"},                                              \
        {.name = "format",                                                                                 \
         .types = MLXR_FIELD_ANY,                                                                          \
         .take = take_format,                                                                              \
         .help = "\"json\", or a JSON Schema: what the answer is, always"},                                \
        {.name = "options",                                                                                \
         .types = MLXR_FIELD_OBJECT,                                                                       \
         .offset = AT(options),                                                                            \
         .help = "sampling and limits, as docs/sampling.md lists them"},                                   \
        {.name = "keep_alive",                                                                             \
         .types = MLXR_FIELD_ANY,                                                                          \
         .offset = AT(keep_alive),                                                                         \
         .fallback = "\"5m\"",                                                                             \
         .help = "how long the model stays: seconds or a duration; below 0 for ever, 0 not at all"},       \
        {.name = "think",                                                                                  \
         .types = MLXR_FIELD_ANY,                                                                          \
         .offset = AT(think),                                                                              \
         .help = "true, false, \"low\", \"medium\", \"high\", \"max\""},                                   \
        {.name = "truncate",                                                                               \
         .types = MLXR_FIELD_BOOL,                                                                         \
         .take = take_truncate,                                                                            \
         .fallback = "false",                                                                              \
         .help = "drop the oldest of a prompt that is too long, which truncated_count tells"},             \
        {.name = "shift",                                                                                  \
         .types = MLXR_FIELD_BOOL,                                                                         \
         .offset = AT(shift),                                                                              \
         .fallback = "false",                                                                              \
         .help = "go on when the context is full, without the oldest half"},                               \
        {.name = "logprobs", .types = MLXR_FIELD_BOOL, .offset = AT(logprobs), .fallback = "false"},       \
        {.name = "top_logprobs",                                                                           \
         .types = MLXR_FIELD_INT,                                                                          \
         .offset = AT(top_logprobs),                                                                       \
         .fallback = "0",                                                                                  \
         .help = "0 to 20"},                                                                               \
        {.name = "_debug_render_only",                                                                     \
         .types = MLXR_FIELD_BOOL,                                                                         \
         .offset = AT(debug),                                                                              \
         .fallback = "false",                                                                              \
         .help = "the prompt instead of an answer"},                                                       \
        {.name = "grammar",                                                                                \
         .types = MLXR_FIELD_STRING,                                                                       \
         .offset = AT(grammar),                                                                            \
         .help = "GBNF that the answer follows"},                                                          \
        {.name = "regex",                                                                                  \
         .types = MLXR_FIELD_STRING,                                                                       \
         .offset = AT(regex),                                                                              \
         .help = "what matches the whole answer"},                                                         \
        MLXR_FIELD_RECEIPT,                                                                                \
    {                                                                                                      \
        .name = "answer_format", .types = MLXR_FIELD_STRING, .offset = AT(answer_format),                  \
        .help = "how the model writes thinking and calls, where its template does not show it; tools are " \
                "then described in words"                                                                  \
    }

static const mlxr_field generate_fields[] = {
    {.name = "model", .types = MLXR_FIELD_STRING, .offset = AT(model), .help = "name of a model"},
    {.name = "prompt", .types = MLXR_FIELD_STRING, .offset = AT(prompt), .fallback = "\"\""},
    {.name = "suffix",
     .types = MLXR_FIELD_STRING,
     .offset = AT(suffix),
     .help = "text behind what is to be filled in"},
    {.name = "system", .types = MLXR_FIELD_STRING, .offset = AT(system)},
    {.name = "template",
     .types = MLXR_FIELD_STRING,
     .offset = AT(template_),
     .help = "Jinja, in place of the model's"},
    {.name = "context",
     .types = MLXR_FIELD_LIST,
     .offset = AT(context),
     .help = "tokens of an earlier answer, which stand before the prompt"},
    {.name = "raw",
     .types = MLXR_FIELD_BOOL,
     .offset = AT(raw),
     .fallback = "false",
     .help = "the prompt as it is, without a template"},
    {.name = "images",
     .types = MLXR_FIELD_LIST,
     .use = MLXR_FIELD_REFUSED,
     .neutral = "[]",
     .help = "models of text alone"},
    COMMON_FIELDS,
};

static const mlxr_field chat_fields[] = {
    {.name = "model", .types = MLXR_FIELD_STRING, .offset = AT(model), .help = "name of a model"},
    {.name = "messages", .types = MLXR_FIELD_LIST, .offset = AT(messages), .fallback = "[]"},
    {.name = "tools",
     .types = MLXR_FIELD_LIST,
     .offset = AT(tools),
     .help = "functions that the model may call"},
    {.name = "tool_choice",
     .types = MLXR_FIELD_STRING | MLXR_FIELD_OBJECT,
     .offset = AT(tool_choice),
     .fallback = "\"auto\"",
     .help = "\"auto\", \"none\", \"required\", or {\"type\": \"function\", \"function\": {\"name\"}}"},
    {.name = "parallel_tool_calls", .types = MLXR_FIELD_BOOL, .offset = AT(parallel), .fallback = "true"},
    COMMON_FIELDS,
};

const mlxr_fields mlxr_native_generate_fields = {generate_fields, MLXR_COUNT(generate_fields), "request"};
const mlxr_fields mlxr_native_chat_fields = {chat_fields, MLXR_COUNT(chat_fields), "request"};

/* ---- reading ---- */

static mlxr_status read_common(mlxr_turn *t, const mlxr_fields *fields, mlxr_error *err)
{
    struct native *n = t->state;
    mlxr_request *q = &t->request;
    json_t *warnings = t->serve->strict ? NULL : t->warnings;
    mlxr_status st;

    n->stream = n->parallel = true;
    q->max_tokens = -1;
    if ((st = mlxr_fields_read(n, fields, t->body, warnings, &t->error_field, err)) != MLXR_OK) return st;
    t->stream = n->stream;
    if ((st = mlxr_native_read_model(t, n->model, n->chat ? 400 : 404, n->keep_alive, err)) != MLXR_OK)
        return st;
    if (n->think && (st = mlxr_native_think(&q->think, n->think, err)) != MLXR_OK) return st;
    if (n->top_logprobs < 0 || n->top_logprobs > MLXR_MAX_TOP_LOGPROBS)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "top_logprobs must be between 0 and %d",
                         MLXR_MAX_TOP_LOGPROBS);
    if (n->options && (st = mlxr_native_options(t, n->options, err)) != MLXR_OK) return st;
    q->logprobs = n->logprobs;
    q->top_logprobs = n->logprobs ? (int32_t)n->top_logprobs : 0;
    q->grammar = n->grammar;
    q->regex = n->regex;
    q->answer_format = n->answer_format;
    if (n->format && json_is_string(n->format))
        q->format = "json";
    else if (n->format && !(q->format = mlxr_turn_dump(t, n->format)))
        return mlxr_fail_nomem(err, "request");
    if (n->shift)
        q->overflow = MLXR_OVERFLOW_SHIFT;
    else if (n->truncate_given && n->truncate)
        q->overflow = MLXR_OVERFLOW_TRUNCATE;
    return MLXR_OK;
}

static void send_last(mlxr_turn *t, const char *done_reason, bool with_stats);

/* The model goes, loaded or not; nothing is loaded for that. */
static mlxr_status unload(mlxr_turn *t, mlxr_error *err)
{
    mlxr_resident_key key;
    mlxr_status st = mlxr_serve_resolve(&key, t->serve, &t->arena, t->model_name, err);

    if (st != MLXR_OK) {
        t->error_status = mlxr_serve_http_status(st);
        return st;
    }
    mlxr_residency_unload(t->serve->residency, key.name);
    send_last(t, "unload", false);
    t->answered = true;
    return MLXR_OK;
}

static mlxr_status read_generate(mlxr_turn *t, mlxr_error *err)
{
    struct native *n = t->state;
    mlxr_request *q = &t->request;
    mlxr_status st;

    if ((st = read_common(t, &mlxr_native_generate_fields, err)) != MLXR_OK) return st;
    if (n->raw &&
        ((n->template_ && *n->template_) || (n->system && *n->system) || json_array_size(n->context)))
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "raw mode does not support template, system, or context");
    q->prompt = n->prompt ? n->prompt : "";
    q->system = n->system && *n->system ? n->system : NULL;
    q->raw = n->raw;
    q->parts = !n->raw;
    if (!n->suffix) n->suffix = "";
    t->load_only = !*q->prompt && !*n->suffix;
    t->unload = t->load_only && t->keep_alive_ns == 0;
    if (n->context &&
        (st = mlxr_native_ids(&n->before, &n->n_before, t, n->context, "context", err)) != MLXR_OK)
        return st;
    return t->unload ? unload(t, err) : MLXR_OK;
}

/* ---- messages ---- */

/* A content of parts as one text. */
static mlxr_status join_parts(json_t *message, const json_t *parts, size_t i, mlxr_error *err)
{
    mlxr_buf text = {0};
    json_t *joined = NULL;
    mlxr_status st = MLXR_OK;

    for (size_t k = 0; k < json_array_size(parts) && st == MLXR_OK; k++) {
        const json_t *part = json_array_get(parts, k), *s = json_object_get(part, "text");
        const char *type = json_string_value(json_object_get(part, "type"));
        if (type && strcmp(type, "text") == 0 && json_is_string(s))
            mlxr_buf_append(&text, json_string_value(s), json_string_length(s));
        else
            st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                           "messages[%zu]: part %zu of \"content\" is a \"%.40s\", wanted \"text\"", i, k,
                           type ? type : "?");
    }
    if (st == MLXR_OK && (text.failed || !(joined = json_stringn(text.data ? text.data : "", text.len)) ||
                          json_object_set_new(message, "content", joined) != 0))
        st = mlxr_fail_nomem(err, "request");
    mlxr_buf_clear(&text);
    return st;
}

static mlxr_status read_content(json_t *message, size_t i, mlxr_error *err)
{
    const json_t *content = json_object_get(message, "content");
    mlxr_status st;

    if (json_is_array(content)) {
        if ((st = join_parts(message, content, i, err)) != MLXR_OK) return st;
    } else if (!content || json_is_null(content)) {
        if (json_object_set_new(message, "content", json_string("")) != 0)
            return mlxr_fail_nomem(err, "request");
    } else if (!json_is_string(content)) {
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "messages[%zu]: \"content\" is no string", i);
    }
    content = json_object_get(message, "content");
    if (strlen(json_string_value(content)) != json_string_length(content))
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "messages[%zu]: \"content\" has a NUL character", i);
    return MLXR_OK;
}

static const mlxr_field message_table[] = {
    {.name = "name", .types = MLXR_FIELD_STRING},      {.name = "thinking", .types = MLXR_FIELD_STRING},
    {.name = "images", .types = MLXR_FIELD_LIST},      {.name = "tool_calls", .types = MLXR_FIELD_LIST},
    {.name = "tool_name", .types = MLXR_FIELD_STRING}, {.name = "tool_call_id", .types = MLXR_FIELD_STRING}};
static const mlxr_field call_table[] = {{.name = "id", .types = MLXR_FIELD_STRING},
                                        {.name = "function", .types = MLXR_FIELD_OBJECT, .required = true}};
static const mlxr_field function_table[] = {
    {.name = "index", .types = MLXR_FIELD_INT, .min = 0, .max = 65535},
    {.name = "name", .types = MLXR_FIELD_STRING, .required = true, .filled = true},
    {.name = "arguments", .types = MLXR_FIELD_OBJECT | MLXR_FIELD_STRING}};
static const mlxr_field tool_table[] = {{.name = "type", .types = MLXR_FIELD_STRING, .words = "function"},
                                        {.name = "function", .types = MLXR_FIELD_OBJECT, .required = true}};
static const mlxr_field tool_function_table[] = {
    {.name = "name", .types = MLXR_FIELD_STRING, .required = true, .filled = true},
    {.name = "parameters", .types = MLXR_FIELD_OBJECT}};
static const mlxr_fields tool_fields = {tool_table, MLXR_COUNT(tool_table), NULL},
                         tool_function_fields = {tool_function_table, MLXR_COUNT(tool_function_table), NULL};
static const mlxr_fields message_fields = {message_table, MLXR_COUNT(message_table), NULL},
                         call_fields = {call_table, MLXR_COUNT(call_table), NULL},
                         function_fields = {function_table, MLXR_COUNT(function_table), NULL};

/* Calls of the history, in the form that templates know; arguments given as text are taken too. */
static mlxr_status read_calls(json_t *message, size_t i, mlxr_error *err)
{
    json_t *calls = json_object_get(message, "tool_calls"), *call;
    char what[80];
    size_t k;
    mlxr_status st;

    json_array_foreach(calls, k, call)
    {
        json_t *function, *arguments;
        snprintf(what, sizeof what, "messages[%zu].tool_calls[%zu]", i, k);
        if ((st = mlxr_fields_check(&call_fields, what, call, err)) != MLXR_OK) return st;
        function = json_object_get(call, "function");
        if ((st = mlxr_fields_check(&function_fields, what, function, err)) != MLXR_OK) return st;
        arguments = json_object_get(function, "arguments");
        if (json_is_string(arguments))
            arguments = json_loadb(json_string_value(arguments), json_string_length(arguments), 0, NULL);
        else
            arguments = arguments ? json_incref(arguments) : json_object();
        if (!json_is_object(arguments)) {
            json_decref(arguments);
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "invalid tool call arguments");
        }
        if (json_object_set_new(function, "arguments", arguments) != 0 ||
            json_object_set_new(call, "type", json_string("function")) != 0)
            return mlxr_fail_nomem(err, "request");
    }
    return MLXR_OK;
}

#define ROLE_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

static mlxr_status read_message(json_t *message, size_t i, mlxr_error *err)
{
    const json_t *role = json_object_get(message, "role");
    json_t *tool;
    char word[32], what[40];
    size_t n = json_string_length(role);
    mlxr_status st;

    snprintf(what, sizeof what, "messages[%zu]", i);
    if ((st = mlxr_fields_check(&message_fields, what, message, err)) != MLXR_OK) return st;
    /* Some templates have roles of their own: "control", "document". */
    if (n == 0 || n >= sizeof word || strspn(json_string_value(role), ROLE_CHARACTERS) != n)
        return mlxr_fail(
            err, MLXR_E_INVALID_ARGUMENT,
            "messages[%zu]: \"role\" is none of \"system\", \"user\", \"assistant\" and \"tool\"", i);
    for (size_t k = 0; k <= n; k++) word[k] = (char)tolower((unsigned char)json_string_value(role)[k]);
    if (json_object_set_new(message, "role", json_string(word)) != 0) return mlxr_fail_nomem(err, "request");
    if (json_array_size(json_object_get(message, "images")))
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "messages[%zu]: \"images\" is not supported here: models of text alone", i);
    (void)json_object_del(message, "images");
    if ((st = read_content(message, i, err)) != MLXR_OK) return st;
    tool = json_object_get(message, "tool_name");
    if (tool && !json_object_get(message, "name") && json_object_set(message, "name", tool) != 0)
        return mlxr_fail_nomem(err, "request");
    return read_calls(message, i, err);
}

mlxr_status mlxr_native_messages(mlxr_turn *t, const json_t *messages, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;

    for (size_t i = 0; i < json_array_size(messages) && st == MLXR_OK; i++)
        st = read_message(json_array_get(messages, i), i, err);
    if (st != MLXR_OK) {
        t->error_field = "messages";
        return st;
    }
    t->request.messages_json = mlxr_turn_dump(t, messages);
    return t->request.messages_json ? MLXR_OK : mlxr_fail_nomem(err, "request");
}

static mlxr_status read_tool_choice(mlxr_turn *t, const json_t *v, mlxr_error *err)
{
    mlxr_request *q = &t->request;
    const char *word = json_string_value(v);
    const json_t *type = json_object_get(v, "type");

    if (word && strcmp(word, "auto") == 0) {
        q->tool_choice = MLXR_TOOL_CHOICE_AUTO;
    } else if (word && strcmp(word, "none") == 0) {
        q->tool_choice = MLXR_TOOL_CHOICE_NONE;
    } else if (word && (strcmp(word, "required") == 0 || strcmp(word, "any") == 0)) {
        q->tool_choice = MLXR_TOOL_CHOICE_REQUIRED;
    } else if ((!type || json_is_null(type) ||
                (json_is_string(type) && strcmp(json_string_value(type), "function") == 0)) &&
               (q->tool_name = json_string_value(json_object_get(json_object_get(v, "function"), "name"))) !=
                   NULL &&
               *q->tool_name) {
        q->tool_choice = MLXR_TOOL_CHOICE_NAMED;
    } else {
        t->error_field = "tool_choice";
        return mlxr_fail(
            err, MLXR_E_INVALID_ARGUMENT,
            "request: \"tool_choice\" is none of \"auto\", \"none\", \"required\" and a function");
    }
    return MLXR_OK;
}

static mlxr_status read_chat(mlxr_turn *t, mlxr_error *err)
{
    struct native *n = t->state;
    mlxr_request *q = &t->request;
    mlxr_status st;

    n->chat = true;
    if ((st = read_common(t, &mlxr_native_chat_fields, err)) != MLXR_OK) return st;
    if (json_array_size(n->messages) && (st = mlxr_native_messages(t, n->messages, err)) != MLXR_OK)
        return st;
    for (size_t i = 0; i < json_array_size(n->tools); i++) {
        json_t *tool = json_array_get(n->tools, i);
        char what[40];
        snprintf(what, sizeof what, "tools[%zu]", i);
        t->error_field = "tools";
        if ((st = mlxr_fields_check(&tool_fields, what, tool, err)) != MLXR_OK) return st;
        snprintf(what, sizeof what, "tools[%zu].function", i);
        st = mlxr_fields_check(&tool_function_fields, what, json_object_get(tool, "function"), err);
        if (st != MLXR_OK) return st;
        t->error_field = NULL;
    }
    if (json_array_size(n->tools) && !(q->tools_json = mlxr_turn_dump(t, n->tools)))
        return mlxr_fail_nomem(err, "request");
    if (n->tool_choice && (st = read_tool_choice(t, n->tool_choice, err)) != MLXR_OK) return st;
    if (!q->tools_json) { /* without tools there is nothing to choose */
        q->tool_choice = MLXR_TOOL_CHOICE_AUTO;
        q->tool_name = NULL;
    }
    q->parallel_tool_calls = n->parallel;
    q->parts = true;
    t->load_only = !q->messages_json;
    t->unload = t->load_only && t->keep_alive_ns == 0;
    return t->unload ? unload(t, err) : MLXR_OK;
}

/* ---- lines ---- */

static void put_head(mlxr_turn *t, mlxr_buf *out)
{
    mlxr_buf_str(out, "{\"model\":");
    mlxr_put_string(out, t->model_name);
    mlxr_buf_str(out, ",\"created_at\":\"");
    mlxr_put_time(out);
    mlxr_buf_char(out, '"');
}

static void put_gathered(mlxr_buf *out, const char *key, const mlxr_buf *b)
{
    mlxr_buf_printf(out, "\"%s\":", key);
    mlxr_put_string_n(out, b->data ? b->data : "", b->len);
}

/* response and thinking, or the message; empties what was gathered. */
static void put_answer(mlxr_turn *t, mlxr_buf *out)
{
    struct native *n = t->state;

    mlxr_buf_str(out, n->chat ? ",\"message\":{\"role\":\"assistant\"," : ",");
    put_gathered(out, n->chat ? "content" : "response", &n->content);
    if (n->thinking.len) {
        mlxr_buf_char(out, ',');
        put_gathered(out, "thinking", &n->thinking);
    }
    if (n->calls.len) {
        mlxr_buf_str(out, ",\"tool_calls\":[");
        mlxr_buf_append(out, n->calls.data, n->calls.len);
        mlxr_buf_char(out, ']');
    }
    if (n->chat) mlxr_buf_char(out, '}');
    if (n->logs.len) {
        mlxr_buf_str(out, ",\"logprobs\":[");
        mlxr_buf_append(out, n->logs.data, n->logs.len);
        mlxr_buf_char(out, ']');
    }
    n->content.len = n->thinking.len = n->calls.len = n->logs.len = 0;
}

static void put_count(mlxr_buf *out, const char *key, uint64_t n)
{
    if (n) mlxr_buf_printf(out, ",\"%s\":%llu", key, (unsigned long long)n);
}

static void put_stats(mlxr_turn *t, mlxr_buf *out)
{
    const mlxr_stats *s = &t->stats;

    put_count(out, "total_duration", mlxr_turn_total_ns(t));
    put_count(out, "load_duration", t->load_ns ? t->load_ns : 1);
    put_count(out, "prompt_eval_count", s->prompt_token_count);
    put_count(out, "prompt_cached_count", s->cached_token_count);
    put_count(out, "prompt_eval_duration", s->prefill_ns ? s->prefill_ns : 1);
    put_count(out, "eval_count", s->generated_token_count);
    /* An answer of one token has no time behind the first; clients divide by it. */
    put_count(out, "eval_duration", s->decode_ns ? s->decode_ns : 1);
    put_count(out, "queue_duration", s->queue_ns);
    put_count(out, "truncated_count", s->dropped_token_count);
}

static void send_last(mlxr_turn *t, const char *done_reason, bool with_stats)
{
    struct native *n = t->state;
    mlxr_buf out = {0};

    put_head(t, &out);
    put_answer(t, &out);
    mlxr_buf_printf(&out, ",\"done\":true,\"done_reason\":\"%s\"", done_reason);
    if (n->ids.len) {
        const int32_t *ids = (const int32_t *)(const void *)n->ids.data;
        mlxr_buf_str(&out, ",\"context\":[");
        for (size_t i = 0; i < n->ids.len / sizeof *ids; i++) mlxr_buf_printf(&out, i ? ",%d" : "%d", ids[i]);
        mlxr_buf_char(&out, ']');
    }
    if (with_stats) put_stats(t, &out);
    mlxr_native_put_warnings(t, &out);
    mlxr_receipt_put(&out, t->receipt, t);
    mlxr_buf_str(&out, t->begun && t->stream ? "}\n" : "}");
    if (t->stream && t->begun) {
        mlxr_turn_push(t, &out);
        mlxr_buf_clear(&out);
    } else {
        mlxr_turn_answer(t, 200, &out);
    }
}

/* ---- what needs the model ---- */

/* The model's own sampling, under what the request says. */
static mlxr_status apply_options(mlxr_turn *t, mlxr_error *err)
{
    struct native *n = t->state;
    json_t *warnings = t->warnings;
    mlxr_overflow overflow = t->request.overflow;
    mlxr_status st = MLXR_OK;

    t->request.sampling = mlxr_served_sampling(t->model);
    t->warnings = NULL; /* they have been told */
    if (n->options) st = mlxr_native_options(t, n->options, err);
    t->warnings = warnings;
    t->request.overflow = overflow;
    return st;
}

/* A folder of sentence-transformers: it makes embeddings, and its answers are none. */
static mlxr_status is_embedding_model(bool *out, const mlxr_turn *t, mlxr_error *err)
{
    static const char *const signs[] = {"modules.json", "1_Pooling/config.json"};

    *out = false;
    for (size_t i = 0; i < MLXR_COUNT(signs) && mlxr_served_path(t->model); i++) {
        char *path = mlxr_path_join(mlxr_served_path(t->model), signs[i]);
        if (!path) return mlxr_fail_nomem(err, "model");
        *out |= mlxr_path_is_file(path);
        free(path);
    }
    return MLXR_OK;
}

static mlxr_status check_thinking(mlxr_turn *t, mlxr_prompt_builder *p, mlxr_error *err)
{
    mlxr_request *q = &t->request;
    mlxr_template_capabilities can;
    bool wanted = q->think != MLXR_THINK_OFF && q->think != MLXR_THINK_DEFAULT, thinks;
    mlxr_status st;

    if ((st = mlxr_prompt_capabilities(&can, p, err)) != MLXR_OK) return st;
    thinks = mlxr_prompt_thinks(p, mlxr_prompt_answer_format(p));
    if (!thinks && wanted)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED, "\"%s\" does not support thinking", t->model_name);
    if (!thinks || q->raw) {
        q->think = MLXR_THINK_DEFAULT;
    } else if (q->think == MLXR_THINK_DEFAULT && can.thinking_switch) {
        q->think = MLXR_THINK_ON;
    } else if (q->think == MLXR_THINK_OFF && !mlxr_prompt_can_stop_thinking(p, &can)) {
        q->think = MLXR_THINK_DEFAULT;
        return mlxr_native_warn(t, err, "request: \"think\" has no effect: this model cannot stop thinking");
    }
    return MLXR_OK;
}

static mlxr_status check_capabilities(mlxr_turn *t, mlxr_error *err)
{
    struct native *n = t->state;
    mlxr_engine *e = mlxr_served_engine(t->model);
    mlxr_request *q = &t->request;
    bool embeds, tools = true;
    mlxr_status st;

    if (!e) {
        if (q->think != MLXR_THINK_OFF && q->think != MLXR_THINK_DEFAULT)
            return mlxr_fail(err, MLXR_E_UNSUPPORTED, "\"%s\" does not support thinking", t->model_name);
        return MLXR_OK;
    }
    if ((st = is_embedding_model(&embeds, t, err)) != MLXR_OK) return st;
    if (embeds)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED, "\"%s\" does not support %s", t->model_name,
                         n->chat ? "chat" : "generate");
    /* Who names the format of calls wants them in words. */
    if (q->tools_json && !n->answer_format &&
        (st = mlxr_prompt_knows_tools(&tools, e->folder.prompt, err)) != MLXR_OK)
        return st;
    if (!tools) return mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s does not support tools", t->model_name);
    return check_thinking(t, e->folder.prompt, err);
}

/* ---- prompts of generate: all but raw ones are given to the engine as tokens, for `context` ---- */

/* Fill in the middle: the tokens between which a vocabulary has prefix and suffix. suffix_first: it stands before the prefix, and what
 * follows `middle` (or the prefix itself) is filled in. */
static const struct fim {
    const char *prefix, *suffix, *middle; /* middle NULL: there is none */
    bool suffix_first;
} fims[] = {
    {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", false},
    {"<fim_prefix>", "<fim_suffix>", "<fim_middle>", false},
    {"<fim-prefix>", "<fim-suffix>", "<fim-middle>", false},
    {"<\xef\xbd\x9c"
     "fim\xe2\x96\x81"
     "begin\xef\xbd\x9c>",
     "<\xef\xbd\x9c"
     "fim\xe2\x96\x81hole\xef\xbd\x9c>",
     "<\xef\xbd\x9c"
     "fim\xe2\x96\x81"
     "end\xef\xbd\x9c>",
     false},
    {"\xe2\x96\x81<PRE>", "\xe2\x96\x81<SUF>", "\xe2\x96\x81<MID>", false},
    {"<PRE>", "<SUF>", "<MID>", false},
    {"<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>", false},
    {"[PREFIX]", "[SUFFIX]", NULL, true},
};

static int32_t token_of(const mlxr_tokenizer *tok, const char *name)
{
    return mlxr_tokenizer_token_to_id(tok, name, strlen(name));
}

static const struct fim *find_fim(const mlxr_tokenizer *tok)
{
    for (size_t i = 0; tok && i < MLXR_COUNT(fims); i++)
        if (token_of(tok, fims[i].prefix) >= 0 && token_of(tok, fims[i].suffix) >= 0 &&
            (!fims[i].middle || token_of(tok, fims[i].middle) >= 0))
            return &fims[i];
    return NULL;
}

bool mlxr_native_knows_fim(bool (*has)(void *ud, const char *token), void *ud)
{
    for (size_t i = 0; i < MLXR_COUNT(fims); i++)
        if (has(ud, fims[i].prefix) && has(ud, fims[i].suffix) &&
            (!fims[i].middle || has(ud, fims[i].middle)))
            return true;
    return false;
}

static mlxr_status add_text(mlxr_buf *ids, const mlxr_tokenizer *tok, const char *text, size_t n,
                            bool special, mlxr_error *err)
{
    int32_t *more;
    size_t n_more;
    mlxr_status st = mlxr_tokenizer_encode(&more, &n_more, tok, text, n, special, err);

    if (st == MLXR_OK) mlxr_buf_append(ids, more, n_more * sizeof *more);
    mlxr_free(more);
    return st;
}

static mlxr_status add_token(mlxr_buf *ids, const mlxr_tokenizer *tok, const char *name)
{
    int32_t id = name ? token_of(tok, name) : -1;

    if (id >= 0) mlxr_buf_append(ids, &id, sizeof id);
    return MLXR_OK;
}

mlxr_status mlxr_native_fill_in(mlxr_buf *ids, mlxr_turn *t, const char *prompt, const char *suffix,
                                mlxr_error *err)
{
    const mlxr_tokenizer *tok = mlxr_served_tokenizer(t->model);
    const struct fim *f = find_fim(tok);
    mlxr_buf begin = {0};
    mlxr_status st;

    if (!f) return mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s does not support insert", t->model_name);
    /* What the tokenizer puts before any text; one that also closes texts (an encoder's) puts more than one. */
    if ((st = add_text(&begin, tok, "", 0, true, err)) == MLXR_OK && begin.len == sizeof(int32_t))
        mlxr_buf_append(ids, begin.data, begin.len);
    mlxr_buf_clear(&begin);
    if (st == MLXR_OK && f->suffix_first) {
        add_token(ids, tok, f->suffix);
        st = add_text(ids, tok, suffix, strlen(suffix), false, err);
    }
    if (st != MLXR_OK) return st;
    add_token(ids, tok, f->prefix);
    st = add_text(ids, tok, prompt, strlen(prompt), false, err);
    if (st == MLXR_OK && !f->suffix_first) {
        add_token(ids, tok, f->suffix);
        st = add_text(ids, tok, suffix, strlen(suffix), false, err);
    }
    add_token(ids, tok, f->middle);
    return st;
}

static mlxr_status fill_in(mlxr_turn *t, mlxr_error *err)
{
    struct native *n = t->state;

    t->request.parts = false;
    t->request.think = MLXR_THINK_DEFAULT;
    return mlxr_native_fill_in(&n->ids, t, t->request.prompt, n->suffix, err);
}

/* By the request's template or the model's; with a suffix only where that speaks of one. */
static mlxr_status render_prompt(mlxr_turn *t, mlxr_error *err)
{
    struct native *n = t->state;
    mlxr_engine *e = mlxr_served_engine(t->model);
    const char *source = n->template_ && *n->template_ ? n->template_ : NULL;
    mlxr_prompt_extra extra = {.source = source, .without_messages = n->n_before > 0};
    json_t *variables = NULL;
    char *text = NULL;
    size_t n_text = 0;
    mlxr_status st;

    if (*n->suffix && !strstr(source ? source : mlxr_engine_template_source(e), "suffix")) {
        mlxr_buf_append(&n->ids, n->before, n->n_before * sizeof *n->before);
        return fill_in(t, err);
    }
    if (source || *n->suffix) {
        variables = json_pack("{s:s, s:s, s:s}", "prompt", t->request.prompt, "suffix", n->suffix, "system",
                              t->request.system ? t->request.system : "");
        if (!variables) return mlxr_fail_nomem(err, "prompt");
        extra.variables = variables;
    }
    st = mlxr_prompt_render_with(&text, &n_text, e->folder.prompt, &t->request, &extra, (int64_t)time(NULL),
                                 err);
    json_decref(variables);
    if (st != MLXR_OK) return st;
    mlxr_buf_append(&n->ids, n->before, n->n_before * sizeof *n->before);
    st = add_text(&n->ids, e->folder.tok, text, n_text, false, err);
    mlxr_free(text);
    return st;
}

static mlxr_status make_prompt(mlxr_turn *t, mlxr_error *err)
{
    struct native *n = t->state;
    mlxr_request *q = &t->request;
    int32_t *ids;
    size_t n_ids;
    mlxr_status st;

    if (!mlxr_served_engine(t->model)) {
        if (*n->suffix)
            return mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s does not support insert", t->model_name);
        if (q->raw) return MLXR_OK;
        mlxr_buf_append(&n->ids, n->before, n->n_before * sizeof *n->before);
        if ((st = mlxr_served_encode(&ids, &n_ids, t->model, q, err)) != MLXR_OK) return st;
        mlxr_buf_append(&n->ids, ids, n_ids * sizeof *ids);
        mlxr_free(ids);
        return mlxr_buf_check(&n->ids, "prompt", err);
    }
    if (q->raw && !*n->suffix) return MLXR_OK;
    st = q->raw ? fill_in(t, err) : render_prompt(t, err);
    if (st == MLXR_OK) st = mlxr_buf_check(&n->ids, "prompt", err);
    if (st != MLXR_OK) return st;
    /* Tokens of the answer are added to n->ids later, which may move them. */
    n_ids = n->ids.len / sizeof *ids;
    if (!(ids = mlxr_arena_calloc(&t->arena, n_ids + 1, sizeof *ids))) return mlxr_fail_nomem(err, "prompt");
    memcpy(ids, n->ids.data, n->ids.len);
    q->prompt_ids = ids;
    q->n_prompt_ids = n_ids;
    q->raw = false;
    return MLXR_OK;
}

static mlxr_status render_only(mlxr_turn *t, mlxr_error *err)
{
    struct native *n = t->state;
    mlxr_request *q = &t->request;
    char *text = NULL;
    size_t n_text;
    mlxr_buf out = {0};
    mlxr_status st;

    if (q->prompt_ids)
        st = mlxr_tokenizer_decode(&text, &n_text, mlxr_served_tokenizer(t->model), q->prompt_ids,
                                   q->n_prompt_ids, false, err);
    else
        st = mlxr_served_render(&text, &n_text, t->model, q, err);
    if (st != MLXR_OK) return st;
    put_head(t, &out);
    mlxr_buf_str(&out,
                 n->chat ? ",\"message\":{\"role\":\"assistant\",\"content\":\"\"}" : ",\"response\":\"\"");
    mlxr_buf_str(&out, ",\"done\":true,\"_debug_info\":{\"rendered_template\":");
    mlxr_put_string_n(&out, text, n_text);
    mlxr_buf_char(&out, '}');
    mlxr_native_put_warnings(t, &out);
    mlxr_buf_char(&out, '}');
    mlxr_free(text);
    mlxr_turn_answer(t, 200, &out);
    t->answered = true;
    return MLXR_OK;
}

static mlxr_status prepare(mlxr_turn *t, mlxr_error *err)
{
    struct native *n = t->state;
    mlxr_status st;

    if ((st = check_capabilities(t, err)) != MLXR_OK) return st;
    if (t->load_only) {
        send_last(t, "load", false);
        t->answered = true;
        return MLXR_OK;
    }
    if ((st = apply_options(t, err)) != MLXR_OK) return st;
    if (!n->chat && (st = make_prompt(t, err)) != MLXR_OK) return st;
    return n->debug ? render_only(t, err) : MLXR_OK;
}

/* ---- events ---- */

static void put_logprobs(mlxr_turn *t, const mlxr_event *e)
{
    struct native *n = t->state;

    if (!e->has_logprob) return;
    if (n->logs.len) mlxr_buf_char(&n->logs, ',');
    mlxr_put_event_logprob(&n->logs, mlxr_served_tokenizer(t->model), e, false);
}

static void put_call(struct native *n, const mlxr_tool_call *call)
{
    if (n->calls.len) mlxr_buf_char(&n->calls, ',');
    mlxr_buf_str(&n->calls, "{\"id\":");
    if (call->id) {
        mlxr_put_string(&n->calls, call->id);
    } else {
        mlxr_buf_str(&n->calls, "\"call_");
        mlxr_put_random_word(&n->calls, 8);
        mlxr_buf_char(&n->calls, '"');
    }
    mlxr_buf_printf(&n->calls, ",\"function\":{\"index\":%zu,\"name\":", call->index);
    mlxr_put_string(&n->calls, call->name);
    mlxr_buf_printf(&n->calls, ",\"arguments\":%s}}", call->arguments ? call->arguments : "{}");
    n->n_calls++;
}

static void send_piece(mlxr_turn *t)
{
    struct native *n = t->state;

    if (!n->content.len && !n->thinking.len && !n->calls.len && !n->logs.len) return;
    t->out.len = 0;
    put_head(t, &t->out);
    put_answer(t, &t->out);
    mlxr_buf_str(&t->out, ",\"done\":false}\n");
    mlxr_turn_push(t, &t->out);
}

static void on_event(mlxr_turn *t, const mlxr_event *e)
{
    struct native *n = t->state;

    switch (e->type) {
    case MLXR_EVENT_TOKEN:
        if (e->id >= 0 && !n->chat && !n->raw) mlxr_buf_append(&n->ids, &e->id, sizeof e->id);
        put_logprobs(t, e);
        if (e->part == MLXR_PART_CONTENT)
            mlxr_buf_append(&n->content, e->text, e->n_text);
        else if (e->part == MLXR_PART_THINKING)
            mlxr_buf_append(&n->thinking, e->text, e->n_text);
        if (e->warning) json_array_append_new(t->warnings, json_string(e->warning));
        break;
    case MLXR_EVENT_TOOL_CALL: put_call(n, e->call); break;
    case MLXR_EVENT_COMPLETED: n->done_reason = e->stats->done_reason; return;
    case MLXR_EVENT_FAILED: return;
    }
    if (t->stream) send_piece(t);
}

static void end(mlxr_turn *t)
{
    struct native *n = t->state;

    send_last(t, mlxr_done_reason_name(n->done_reason), true);
}

static void clear(mlxr_turn *t)
{
    struct native *n = t->state;

    mlxr_buf_clear(&n->content);
    mlxr_buf_clear(&n->thinking);
    mlxr_buf_clear(&n->calls);
    mlxr_buf_clear(&n->logs);
    mlxr_buf_clear(&n->ids);
}

const mlxr_front mlxr_native_generate = {.name = "generate",
                                         .stream_default = true,
                                         .stream_type = "application/x-ndjson",
                                         .state_size = sizeof(struct native),
                                         .read = read_generate,
                                         .prepare = prepare,
                                         .event = on_event,
                                         .end = end,
                                         .fail = mlxr_native_turn_fail,
                                         .clear = clear};
const mlxr_front mlxr_native_chat = {.name = "chat",
                                     .stream_default = true,
                                     .stream_type = "application/x-ndjson",
                                     .state_size = sizeof(struct native),
                                     .read = read_chat,
                                     .prepare = prepare,
                                     .event = on_event,
                                     .end = end,
                                     .fail = mlxr_native_turn_fail,
                                     .clear = clear};

static const mlxr_endpoint endpoints[] = {
    {.method = "POST",
     .path = "/api/generate",
     .summary = "Answer a prompt",
     .front = &mlxr_native_generate,
     .fields = &mlxr_native_generate_fields,
     .answer = "GenerateAnswer",
     .line = "GenerateLine"},
    {.method = "POST",
     .path = "/api/chat",
     .summary = "Go on with a conversation",
     .front = &mlxr_native_chat,
     .fields = &mlxr_native_chat_fields,
     .answer = "ChatAnswer",
     .line = "ChatLine"},
};
const mlxr_endpoints mlxr_native_endpoints = {endpoints, MLXR_COUNT(endpoints)};
