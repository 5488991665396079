/* openai_chat: POST /v1/chat/completions. */
#include <stdlib.h>

#include "serve/openai.h"

/* What one choice has brought so far. */
struct choice {
    mlxr_buf content, reasoning, calls, logs;
    size_t n_calls;
    mlxr_done_reason done_reason;
    bool begun; /* the chunk with the role is out */
};

struct chat {
    mlxr_openai_common c; /* first */
    const char *effort;
    const json_t *messages, *response_format, *tools, *tool_choice, *reasoning, *template_kwargs;
    bool logprobs, parallel;
    int64_t max_tokens, max_completion_tokens, top_logprobs;
    struct choice *choices;
    size_t n_choices, n_complete, i_last; /* i_last: the choice that was complete last */
    size_t n_reasoning_tokens;
};

static mlxr_status take_tool_choice(void *into, const mlxr_field *f, const json_t *v, mlxr_error *err)
{
    ((struct chat *)into)->tool_choice = v;
    return MLXR_OK;
}

#define AT(member) offsetof(struct chat, member)
static const mlxr_field fields[] = {
    {.name = "model", .types = MLXR_FIELD_STRING, .required = true, .offset = MLXR_OPENAI_AT(model)},
    {.name = "messages",
     .types = MLXR_FIELD_LIST,
     .required = true,
     .offset = AT(messages),
     .schema = "{\"type\":\"array\",\"minItems\":1,\"items\":{\"anyOf\":[{\"$ref\":\"#/components/schemas/"
               "OpenaiMessage\"},{\"$ref\":\"#/components/schemas/OpenaiCallMessage\"}]}}"},
    {.name = "stream", .types = MLXR_FIELD_BOOL, .offset = MLXR_OPENAI_AT(stream), .fallback = "false"},
    {.name = "max_tokens", .types = MLXR_FIELD_INT, .offset = AT(max_tokens), .min = -1, .max = 2147483647},
    {.name = "max_completion_tokens",
     .types = MLXR_FIELD_INT,
     .offset = AT(max_completion_tokens),
     .min = -1,
     .max = 2147483647,
     .help = "goes before max_tokens"},
    MLXR_OPENAI_FIELDS_CLASSIC,
    MLXR_OPENAI_FIELDS_SAMPLING,
    {.name = "logprobs", .types = MLXR_FIELD_BOOL, .offset = AT(logprobs), .fallback = "false"},
    {.name = "top_logprobs",
     .types = MLXR_FIELD_INT,
     .offset = AT(top_logprobs),
     .fallback = "0",
     .help = "0 to 20",
     .schema = "{\"type\":[\"integer\",\"null\"],\"minimum\":0,\"maximum\":20}"},
    {.name = "response_format",
     .types = MLXR_FIELD_OBJECT,
     .offset = AT(response_format),
     .help = "text, json_object, or json_schema, which the answer is then held to",
     .schema = "{\"$ref\":\"#/components/schemas/ResponseFormat\"}"},
    {.name = "tools",
     .types = MLXR_FIELD_LIST,
     .offset = AT(tools),
     .schema = "{\"type\":[\"array\",\"null\"],\"items\":{\"$ref\":\"#/components/schemas/Tool\"}}"},
    {.name = "tool_choice",
     .types = MLXR_FIELD_STRING | MLXR_FIELD_OBJECT,
     .offset = MLXR_FIELD_NOWHERE,
     .take = take_tool_choice,
     .fallback = "\"auto\"",
     .schema = "{\"$ref\":\"#/components/schemas/ToolChoice\"}"},
    {.name = "parallel_tool_calls", .types = MLXR_FIELD_BOOL, .offset = AT(parallel), .fallback = "true"},
    {.name = "reasoning_effort",
     .types = MLXR_FIELD_STRING,
     .offset = AT(effort),
     .words = "none|minimal|low|medium|high|xhigh|max|ultra",
     .help = "for models that think; none: they do not"},
    {.name = "reasoning",
     .types = MLXR_FIELD_OBJECT,
     .offset = AT(reasoning),
     .help = "{\"effort\"}: as reasoning_effort",
     .schema =
         "{\"type\":[\"object\",\"null\"],\"properties\":{\"effort\":{\"type\":[\"string\",\"null\"],"
         "\"enum\":[\"none\",\"minimal\",\"low\",\"medium\",\"high\",\"xhigh\",\"max\",\"ultra\",null]}}}"},
    {.name = "chat_template_kwargs",
     .types = MLXR_FIELD_OBJECT,
     .offset = AT(template_kwargs),
     .help = "variables for the chat template, such as {\"enable_thinking\": false}"},
    MLXR_OPENAI_FIELDS_HOSTED,
    {.name = "metadata", .types = MLXR_FIELD_OBJECT, .offset = MLXR_FIELD_NOWHERE, .help = "changes nothing"},
    {.name = "store", .types = MLXR_FIELD_BOOL, .use = MLXR_FIELD_WARNED, .neutral = "false"},
    {.name = "service_tier", .types = MLXR_FIELD_STRING, .use = MLXR_FIELD_WARNED, .neutral = "\"auto\""},
    {.name = "verbosity", .types = MLXR_FIELD_STRING, .use = MLXR_FIELD_WARNED, .neutral = "\"medium\""},
    {.name = "prompt_cache_key", .types = MLXR_FIELD_STRING, .use = MLXR_FIELD_WARNED},
    {.name = "prompt_cache_retention", .types = MLXR_FIELD_STRING, .use = MLXR_FIELD_WARNED},
    {.name = "safety_identifier", .types = MLXR_FIELD_STRING, .use = MLXR_FIELD_WARNED},
    {.name = "prediction", .types = MLXR_FIELD_OBJECT, .use = MLXR_FIELD_WARNED},
    {.name = "modalities",
     .types = MLXR_FIELD_LIST,
     .use = MLXR_FIELD_REFUSED,
     .neutral = "[\"text\"]",
     .help = "answers are text"},
    {.name = "audio", .types = MLXR_FIELD_OBJECT, .use = MLXR_FIELD_REFUSED, .help = "answers are text"},
    {.name = "web_search_options",
     .types = MLXR_FIELD_OBJECT,
     .use = MLXR_FIELD_REFUSED,
     .help = "nothing is searched"},
    {.name = "functions",
     .types = MLXR_FIELD_LIST,
     .use = MLXR_FIELD_REFUSED,
     .neutral = "[]",
     .help = "use \"tools\""},
    {.name = "function_call",
     .types = MLXR_FIELD_STRING | MLXR_FIELD_OBJECT,
     .use = MLXR_FIELD_REFUSED,
     .neutral = "\"none\"",
     .help = "use \"tool_choice\""},
};
const mlxr_fields mlxr_openai_chat_fields = {fields, MLXR_COUNT(fields), "request"};

/* ---- reading ---- */

static mlxr_status read_format(mlxr_turn *t, const json_t *v, mlxr_error *err)
{
    const char *type = json_string_value(json_object_get(v, "type"));
    const json_t *schema;

    if (type && strcmp(type, "text") == 0) return MLXR_OK;
    if (type && strcmp(type, "json_object") == 0) {
        t->request.format = "json";
        return MLXR_OK;
    }
    if (!type || strcmp(type, "json_schema") != 0)
        return mlxr_turn_bad(
            t, "response_format", err,
            "response_format: \"type\" is none of \"text\", \"json_object\" and \"json_schema\"");
    schema = json_object_get(json_object_get(v, "json_schema"), "schema");
    if (!json_is_object(schema))
        return mlxr_turn_bad(t, "response_format", err, "response_format: \"json_schema\" has no \"schema\"");
    t->request.format = mlxr_turn_dump(t, schema);
    return t->request.format ? MLXR_OK : mlxr_fail_nomem(err, "request");
}

static mlxr_status read_reasoning(mlxr_turn *t, struct chat *c, mlxr_error *err)
{
    const json_t *effort = json_object_get(c->reasoning, "effort");
    const char *key;
    json_t *v;
    mlxr_status st = MLXR_OK;

    if (c->template_kwargs && (st = mlxr_openai_template_kwargs(t, c->template_kwargs, err)) != MLXR_OK)
        return st;
    json_object_foreach((json_t *)(uintptr_t)c->reasoning, key, v)
    {
        if (strcmp(key, "effort") == 0 || json_is_null(v)) continue;
        if (t->serve->strict)
            return mlxr_turn_bad(t, "reasoning", err, "reasoning: \"%.100s\" is unknown here", key);
        if ((st = mlxr_openai_warn(t, err, "reasoning: \"%.100s\" has no effect here", key)) != MLXR_OK)
            return st;
    }
    if (effort && !json_is_null(effort) && !json_is_string(effort))
        return mlxr_turn_bad(t, "reasoning", err, "reasoning: \"effort\" is not a text");
    if (c->effort) return mlxr_openai_effort(t, c->effort, "reasoning_effort", err);
    if (json_is_string(effort))
        return mlxr_openai_effort(t, json_string_value(effort), "reasoning.effort", err);
    return MLXR_OK;
}

static mlxr_status read_body(mlxr_turn *t, mlxr_error *err)
{
    struct chat *c = t->state;
    mlxr_request *q = &t->request;
    json_t *messages = NULL;
    mlxr_status st;

    mlxr_openai_common_init(&c->c);
    c->max_tokens = c->max_completion_tokens = -1;
    c->parallel = true;
    st = mlxr_fields_read(c, &mlxr_openai_chat_fields, t->body, t->serve->strict ? NULL : t->warnings,
                          &t->error_field, err);
    if (st != MLXR_OK) return st;
    if ((st = mlxr_openai_common_read(t, &c->c, "chatcmpl-", err)) != MLXR_OK) return st;
    if (!json_array_size(c->messages))
        return mlxr_turn_bad(t, "messages", err, "[] is too short - 'messages'");
    if (c->top_logprobs < 0 || c->top_logprobs > MLXR_MAX_TOP_LOGPROBS)
        return mlxr_turn_bad(t, "top_logprobs", err, "top_logprobs must be between 0 and 20");
    if (c->top_logprobs && !c->logprobs)
        return mlxr_turn_bad(t, "top_logprobs", err, "request: \"top_logprobs\" wants \"logprobs\": true");

    t->error_field = "messages";
    if ((st = mlxr_openai_messages(&messages, c->messages, err)) != MLXR_OK) return st;
    q->messages_json = mlxr_turn_dump(t, messages);
    json_decref(messages);
    if (!q->messages_json) return mlxr_fail_nomem(err, "request");
    t->error_field = NULL;
    q->parts = true;
    mlxr_openai_max_tokens(t, c->max_completion_tokens, c->max_tokens);
    q->logprobs = c->logprobs;
    q->top_logprobs = (int32_t)c->top_logprobs;
    q->parallel_tool_calls = c->parallel;
    if (c->response_format && (st = read_format(t, c->response_format, err)) != MLXR_OK) return st;
    if ((st = mlxr_openai_tools(t, c->tools, c->tool_choice, err)) != MLXR_OK) return st;
    if ((st = read_reasoning(t, c, err)) != MLXR_OK) return st;
    c->choices = mlxr_calloc_array((size_t)q->n_choices, sizeof *c->choices);
    if (!c->choices) return mlxr_fail_nomem(err, "request");
    c->n_choices = (size_t)q->n_choices;
    return MLXR_OK;
}

static mlxr_status prepare(mlxr_turn *t, mlxr_error *err)
{
    struct chat *c = t->state;
    mlxr_status st = mlxr_openai_common_prepare(t, &c->c, 1, 1, err);

    return st == MLXR_OK ? mlxr_openai_thinking(t, c->template_kwargs, "reasoning_effort", err) : st;
}

/* ---- writing ---- */

static void put_head(mlxr_turn *t, mlxr_buf *out, const char *object)
{
    struct chat *c = t->state;

    mlxr_buf_printf(out, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", c->c.id, object,
                    c->c.created);
    mlxr_put_string(out, t->model_name);
    mlxr_buf_str(out, ",\"system_fingerprint\":\"fp_mlxr\",\"choices\":[");
}

static void put_usage(mlxr_turn *t, mlxr_buf *out)
{
    struct chat *c = t->state;
    const mlxr_stats *s = &t->stats;

    mlxr_buf_printf(out,
                    "\"usage\":{\"prompt_tokens\":%zu,\"completion_tokens\":%zu,\"total_tokens\":%zu,"
                    "\"prompt_tokens_details\":{\"cached_tokens\":%zu},"
                    "\"completion_tokens_details\":{\"reasoning_tokens\":%zu}}",
                    s->prompt_token_count, s->generated_token_count,
                    s->prompt_token_count + s->generated_token_count, s->cached_token_count,
                    c->n_reasoning_tokens);
}

/* One chunk of a choice: delta is JSON without its braces. */
static void send_chunk(mlxr_turn *t, size_t i_choice, const char *delta, size_t n_delta, const char *logs,
                       size_t n_logs, const char *finish_reason)
{
    struct chat *c = t->state;

    t->out.len = 0;
    mlxr_buf_str(&t->out, "data: ");
    put_head(t, &t->out, "chat.completion.chunk");
    mlxr_buf_printf(&t->out, "{\"index\":%zu,\"delta\":{", i_choice);
    mlxr_buf_append(&t->out, delta, n_delta);
    mlxr_buf_char(&t->out, '}');
    if (n_logs) {
        mlxr_buf_str(&t->out, ",\"logprobs\":{\"content\":[");
        mlxr_buf_append(&t->out, logs, n_logs);
        mlxr_buf_str(&t->out, "],\"refusal\":null}");
    } else {
        mlxr_buf_str(&t->out, ",\"logprobs\":null");
    }
    if (finish_reason)
        mlxr_buf_printf(&t->out, ",\"finish_reason\":\"%s\"}]", finish_reason);
    else
        mlxr_buf_str(&t->out, ",\"finish_reason\":null}]");
    if (c->c.include_usage)
        mlxr_buf_str(&t->out, ",\"usage\":null");
    else if (finish_reason && c->n_complete == c->n_choices)
        mlxr_openai_put_last(t, &t->out);
    mlxr_buf_str(&t->out, "}\n\n");
    mlxr_turn_push(t, &t->out);
}

static void begin_choice(mlxr_turn *t, size_t i)
{
    static const char role[] = "\"role\":\"assistant\",\"content\":\"\",\"refusal\":null";
    struct chat *c = t->state;

    if (c->choices[i].begun) return;
    c->choices[i].begun = true;
    send_chunk(t, i, role, sizeof role - 1, NULL, 0, NULL);
}

static void put_logprobs(mlxr_turn *t, mlxr_buf *out, const mlxr_event *e)
{
    if (!e->has_logprob) return;
    if (out->len) mlxr_buf_char(out, ',');
    mlxr_put_event_logprob(out, mlxr_served_tokenizer(t->model), e, true);
}

static void put_call(mlxr_buf *out, const mlxr_tool_call *call)
{
    mlxr_buf_str(out, "{\"id\":");
    if (call->id) {
        mlxr_put_string(out, call->id);
    } else {
        mlxr_buf_str(out, "\"call_");
        mlxr_put_random_hex(out, 24);
        mlxr_buf_char(out, '"');
    }
    mlxr_buf_printf(out, ",\"index\":%zu,\"type\":\"function\",\"function\":{\"name\":", call->index);
    mlxr_put_string(out, call->name);
    mlxr_buf_str(out, ",\"arguments\":");
    mlxr_put_string(out, call->arguments ? call->arguments : "{}");
    mlxr_buf_str(out, "}}");
}

static const char *finish_reason(const struct choice *choice)
{
    if (choice->n_calls && choice->done_reason == MLXR_DONE_STOP) return "tool_calls";
    return choice->done_reason == MLXR_DONE_LENGTH ? "length" : "stop";
}

static void stream_event(mlxr_turn *t, size_t i, const mlxr_event *e)
{
    struct chat *c = t->state;
    struct choice *choice = &c->choices[i];
    mlxr_buf delta = {0};

    begin_choice(t, i);
    if (e->type == MLXR_EVENT_TOKEN && e->part != MLXR_PART_TOOL_CALL && (e->n_text || choice->logs.len)) {
        if (e->part == MLXR_PART_THINKING) {
            mlxr_buf_str(&delta, "\"reasoning\":");
            mlxr_put_string_n(&delta, e->text, e->n_text);
            mlxr_buf_str(&delta, ",\"reasoning_content\":");
        } else {
            mlxr_buf_str(&delta, "\"content\":");
        }
        mlxr_put_string_n(&delta, e->text, e->n_text);
    } else if (e->type == MLXR_EVENT_TOOL_CALL) {
        mlxr_buf_str(&delta, "\"tool_calls\":[");
        put_call(&delta, e->call);
        mlxr_buf_char(&delta, ']');
    }
    if (delta.len && !delta.failed)
        send_chunk(t, i, delta.data, delta.len, choice->logs.data, choice->logs.len, NULL);
    if (delta.len) choice->logs.len = 0;
    /* The last one is for end: it may carry what is told once. */
    if (e->type == MLXR_EVENT_COMPLETED && c->n_complete < c->n_choices)
        send_chunk(t, i, "", 0, choice->logs.data, choice->logs.len, finish_reason(choice));
    mlxr_buf_clear(&delta);
}

static void on_event(mlxr_turn *t, const mlxr_event *e)
{
    struct chat *c = t->state;
    size_t i = e->choice >= 0 ? (size_t)e->choice : 0;
    struct choice *choice;

    if (i >= c->n_choices) return;
    choice = &c->choices[i];
    if (e->type == MLXR_EVENT_TOKEN) {
        if (e->part == MLXR_PART_THINKING && e->id >= 0) c->n_reasoning_tokens++;
        if (e->part == MLXR_PART_CONTENT) put_logprobs(t, &choice->logs, e);
        if (e->warning) mlxr_openai_warn(t, NULL, "%s", e->warning);
        if (!t->stream && e->part == MLXR_PART_CONTENT) mlxr_buf_append(&choice->content, e->text, e->n_text);
        if (!t->stream && e->part == MLXR_PART_THINKING)
            mlxr_buf_append(&choice->reasoning, e->text, e->n_text);
    } else if (e->type == MLXR_EVENT_TOOL_CALL) {
        choice->n_calls++;
        if (!t->stream) {
            if (choice->calls.len) mlxr_buf_char(&choice->calls, ',');
            put_call(&choice->calls, e->call);
        }
    } else if (e->type == MLXR_EVENT_COMPLETED) {
        choice->done_reason = e->stats->done_reason;
        if (e->warning) mlxr_openai_warn(t, NULL, "%s", e->warning);
        c->n_complete++;
        c->i_last = i;
    }
    if (t->stream) stream_event(t, i, e);
}

static void end_stream(mlxr_turn *t)
{
    struct chat *c = t->state;
    struct choice *last = &c->choices[c->i_last];

    send_chunk(t, c->i_last, "", 0, last->logs.data, last->logs.len, finish_reason(last));
    t->out.len = 0;
    if (c->c.include_usage) {
        mlxr_buf_str(&t->out, "data: ");
        put_head(t, &t->out, "chat.completion.chunk");
        mlxr_buf_str(&t->out, "],");
        put_usage(t, &t->out);
        mlxr_openai_put_last(t, &t->out);
        mlxr_buf_str(&t->out, "}\n\n");
    }
    mlxr_buf_str(&t->out, "data: [DONE]\n\n");
    mlxr_turn_push(t, &t->out);
}

static void put_choice(mlxr_buf *out, size_t i, const struct choice *choice, bool logprobs)
{
    mlxr_buf_printf(out, "{\"index\":%zu,\"message\":{\"role\":\"assistant\",\"content\":", i);
    if (choice->content.len || !choice->n_calls)
        mlxr_put_string_n(out, choice->content.data ? choice->content.data : "", choice->content.len);
    else
        mlxr_buf_str(out, "null");
    if (choice->reasoning.len) {
        mlxr_buf_str(out, ",\"reasoning\":");
        mlxr_put_string_n(out, choice->reasoning.data, choice->reasoning.len);
        mlxr_buf_str(out, ",\"reasoning_content\":");
        mlxr_put_string_n(out, choice->reasoning.data, choice->reasoning.len);
    }
    if (choice->calls.len) {
        mlxr_buf_str(out, ",\"tool_calls\":[");
        mlxr_buf_append(out, choice->calls.data, choice->calls.len);
        mlxr_buf_char(out, ']');
    }
    mlxr_buf_str(out, ",\"refusal\":null,\"annotations\":[]}");
    if (logprobs) {
        mlxr_buf_str(out, ",\"logprobs\":{\"content\":[");
        if (choice->logs.len) mlxr_buf_append(out, choice->logs.data, choice->logs.len);
        mlxr_buf_str(out, "],\"refusal\":null}");
    } else {
        mlxr_buf_str(out, ",\"logprobs\":null");
    }
    mlxr_buf_printf(out, ",\"finish_reason\":\"%s\"}", finish_reason(choice));
}

static void end(mlxr_turn *t)
{
    struct chat *c = t->state;
    mlxr_buf out = {0};

    if (t->stream) {
        end_stream(t);
        return;
    }
    put_head(t, &out, "chat.completion");
    for (size_t i = 0; i < c->n_choices; i++) {
        if (i) mlxr_buf_char(&out, ',');
        put_choice(&out, i, &c->choices[i], c->logprobs);
    }
    mlxr_buf_str(&out, "],");
    put_usage(t, &out);
    mlxr_openai_put_last(t, &out);
    mlxr_buf_char(&out, '}');
    mlxr_turn_answer(t, 200, &out);
}

static void clear(mlxr_turn *t)
{
    struct chat *c = t->state;

    for (size_t i = 0; i < c->n_choices; i++) {
        mlxr_buf_clear(&c->choices[i].content);
        mlxr_buf_clear(&c->choices[i].reasoning);
        mlxr_buf_clear(&c->choices[i].calls);
        mlxr_buf_clear(&c->choices[i].logs);
    }
    free(c->choices);
}

const mlxr_front mlxr_openai_chat = {.name = "chat.completions",
                                     .stream_type = "text/event-stream",
                                     .heartbeat = ": keep-alive\n\n",
                                     .state_size = sizeof(struct chat),
                                     .read = read_body,
                                     .prepare = prepare,
                                     .event = on_event,
                                     .end = end,
                                     .fail = mlxr_openai_turn_fail,
                                     .clear = clear};
