/* openai_responses: POST /v1/responses. Nothing is kept: what went before comes with each request.
 *
 * An answer is a list of items: reasoning, messages, calls. Each is open while text comes for it; a stream tells its beginning, its
 * pieces and its end, and the whole answer, which the last event has too, is written from the list. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "serve/openai_items.h"

typedef enum item_kind { REASONING, MESSAGE, CALL } item_kind;

struct item {
    item_kind kind;
    char id[40];
    mlxr_buf text;          /* or arguments */
    mlxr_buf name, call_id; /* calls */
    mlxr_buf logs;          /* messages: of all tokens, JSON without brackets */
};

struct answer {
    mlxr_openai_common c; /* first */
    const json_t *input, *reasoning, *text, *tools, *tool_choice, *include, *metadata;
    const char *instructions, *truncation, *user, *safety_identifier, *prompt_cache_key;
    bool store, parallel, with_logprobs;
    int64_t max_output_tokens, top_logprobs;
    struct item *items;
    size_t n_items, cap_items;
    bool open;      /* the last item is */
    mlxr_buf space; /* before a message: it may be nothing but the space between calls */
    mlxr_buf logs;  /* of tokens whose text has not come */
    mlxr_done_reason done_reason;
    size_t n_reasoning_tokens;
    uint64_t n_events;
    bool failed; /* out of memory */
};

static mlxr_status take_input(void *into, const mlxr_field *f, const json_t *v, mlxr_error *err)
{
    ((struct answer *)into)->input = v;
    return MLXR_OK;
}

static mlxr_status take_tool_choice(void *into, const mlxr_field *f, const json_t *v, mlxr_error *err)
{
    ((struct answer *)into)->tool_choice = v;
    return MLXR_OK;
}

#define AT(member) offsetof(struct answer, member)
static const mlxr_field fields[] = {
    {.name = "model", .types = MLXR_FIELD_STRING, .required = true, .offset = MLXR_OPENAI_AT(model)},
    {.name = "input",
     .types = MLXR_FIELD_STRING | MLXR_FIELD_LIST,
     .required = true,
     .offset = MLXR_FIELD_NOWHERE,
     .take = take_input,
     .help = "a text, or items",
     .schema = "{\"oneOf\":[{\"type\":\"string\"},{\"$ref\":\"#/components/schemas/ResponseInputList\"}]}"},
    {.name = "instructions",
     .types = MLXR_FIELD_STRING,
     .offset = AT(instructions),
     .help = "a system text before the input"},
    {.name = "stream", .types = MLXR_FIELD_BOOL, .offset = MLXR_OPENAI_AT(stream), .fallback = "false"},
    {.name = "stream_options",
     .types = MLXR_FIELD_OBJECT,
     .offset = MLXR_OPENAI_AT(stream_options),
     .schema =
         "{\"type\":[\"object\",\"null\"],\"properties\":{\"include_obfuscation\":{\"type\":[\"boolean\","
         "\"null\"]}}}"},
    {.name = "max_output_tokens",
     .types = MLXR_FIELD_INT,
     .offset = AT(max_output_tokens),
     .min = -1,
     .max = 2147483647},
    MLXR_OPENAI_FIELDS_SAMPLING,
    {.name = "seed",
     .types = MLXR_FIELD_INT,
     .offset = MLXR_OPENAI_AT(seed),
     .help = "below 0 or absent: another each time"},
    {.name = "top_logprobs",
     .types = MLXR_FIELD_INT,
     .offset = AT(top_logprobs),
     .fallback = "0",
     .help = "0 to 20, with include of message.output_text.logprobs",
     .schema = "{\"type\":[\"integer\",\"null\"],\"minimum\":0,\"maximum\":20}"},
    {.name = "text",
     .types = MLXR_FIELD_OBJECT,
     .offset = AT(text),
     .help = "{\"format\"}: text, json_object, or json_schema, which the answer is then held to",
     .schema = "{\"anyOf\":[{\"type\":\"null\"},{\"$ref\":\"#/components/schemas/ResponseTextOptions\"}]}"},
    {.name = "reasoning",
     .types = MLXR_FIELD_OBJECT,
     .offset = AT(reasoning),
     .help = "{\"effort\"}: for models that think; none: they do not",
     .schema =
         "{\"type\":[\"object\",\"null\"],\"properties\":{\"effort\":{\"type\":[\"string\",\"null\"],"
         "\"enum\":[\"none\",\"minimal\",\"low\",\"medium\",\"high\",\"xhigh\",\"max\",\"ultra\",null]}}}"},
    {.name = "tools",
     .types = MLXR_FIELD_LIST,
     .offset = AT(tools),
     .schema = "{\"type\":[\"array\",\"null\"],\"items\":{\"$ref\":\"#/components/schemas/ResponseTool\"}}"},
    {.name = "tool_choice",
     .types = MLXR_FIELD_STRING | MLXR_FIELD_OBJECT,
     .offset = MLXR_FIELD_NOWHERE,
     .take = take_tool_choice,
     .fallback = "\"auto\"",
     .schema = "{\"anyOf\":[{\"type\":\"null\"},{\"$ref\":\"#/components/schemas/ResponseToolChoice\"}]}"},
    {.name = "parallel_tool_calls", .types = MLXR_FIELD_BOOL, .offset = AT(parallel), .fallback = "true"},
    {.name = "truncation",
     .types = MLXR_FIELD_STRING,
     .offset = AT(truncation),
     .words = "auto|disabled",
     .fallback = "\"disabled\"",
     .help = "auto: of an input longer than the context the newest tokens stay"},
    {.name = "include",
     .types = MLXR_FIELD_LIST,
     .offset = AT(include),
     .help = "message.output_text.logprobs; reasoning.encrypted_content is always there",
     .schema = "{\"type\":[\"array\",\"null\"],\"items\":{\"type\":\"string\"}}"},
    {.name = "metadata",
     .types = MLXR_FIELD_OBJECT,
     .offset = AT(metadata),
     .help = "comes back with the answer"},
    {.name = "store",
     .types = MLXR_FIELD_BOOL,
     .offset = AT(store),
     .fallback = "false",
     .help = "nothing is kept; true is warned of"},
    {.name = "user", .types = MLXR_FIELD_STRING, .offset = AT(user), .help = "comes back with the answer"},
    {.name = "safety_identifier",
     .types = MLXR_FIELD_STRING,
     .offset = AT(safety_identifier),
     .help = "comes back with the answer"},
    {.name = "prompt_cache_key",
     .types = MLXR_FIELD_STRING,
     .offset = AT(prompt_cache_key),
     .help = "comes back with the answer"},
    {.name = "prompt_cache_retention", .types = MLXR_FIELD_STRING, .use = MLXR_FIELD_WARNED},
    {.name = "context_management", .types = MLXR_FIELD_LIST, .use = MLXR_FIELD_WARNED},
    {.name = "max_tool_calls", .types = MLXR_FIELD_INT, .use = MLXR_FIELD_WARNED},
    {.name = "service_tier", .types = MLXR_FIELD_STRING, .use = MLXR_FIELD_WARNED, .neutral = "\"auto\""},
    {.name = "previous_response_id",
     .types = MLXR_FIELD_STRING,
     .use = MLXR_FIELD_REFUSED,
     .help = "nothing is kept; send the whole conversation"},
    {.name = "conversation",
     .types = MLXR_FIELD_STRING | MLXR_FIELD_OBJECT,
     .use = MLXR_FIELD_REFUSED,
     .help = "nothing is kept; send the whole conversation"},
    {.name = "background",
     .types = MLXR_FIELD_BOOL,
     .use = MLXR_FIELD_REFUSED,
     .neutral = "false",
     .help = "nothing is kept"},
    {.name = "prompt",
     .types = MLXR_FIELD_OBJECT,
     .use = MLXR_FIELD_REFUSED,
     .help = "there are no stored prompts"},
};
const mlxr_fields mlxr_openai_responses_fields = {fields, MLXR_COUNT(fields), "request"};

/* ---- reading ---- */

static mlxr_status read_text(mlxr_turn *t, const json_t *text, mlxr_error *err)
{
    const json_t *format = json_object_get(text, "format"), *schema;
    const char *verbosity = json_string_value(json_object_get(text, "verbosity")),
               *type = json_string_value(json_object_get(format, "type"));

    if (verbosity && strcmp(verbosity, "medium") != 0 &&
        mlxr_openai_warn(t, err, "text: \"verbosity\" has no effect here") != MLXR_OK)
        return MLXR_E_NOMEM;
    if (!format || json_is_null(format) || (type && strcmp(type, "text") == 0)) return MLXR_OK;
    if (type && strcmp(type, "json_object") == 0) {
        t->request.format = "json";
        return MLXR_OK;
    }
    if (!type || strcmp(type, "json_schema") != 0)
        return mlxr_turn_bad(
            t, "text.format", err,
            "text.format: \"type\" is none of \"text\", \"json_object\" and \"json_schema\"");
    schema = json_object_get(format, "schema");
    if (!json_is_object(schema))
        return mlxr_turn_bad(t, "text.format", err, "text.format: \"schema\" is not an object");
    t->request.format = mlxr_turn_dump(t, schema);
    return t->request.format ? MLXR_OK : mlxr_fail_nomem(err, "request");
}

static mlxr_status read_reasoning(mlxr_turn *t, const json_t *reasoning, mlxr_error *err)
{
    const json_t *effort = json_object_get(reasoning, "effort");

    if (!effort || json_is_null(effort)) return MLXR_OK;
    if (!json_is_string(effort))
        return mlxr_turn_bad(t, "reasoning.effort", err, "reasoning: \"effort\" is not a text");
    return mlxr_openai_effort(t, json_string_value(effort), "reasoning.effort", err);
}

static mlxr_status read_include(mlxr_turn *t, struct answer *a, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;

    for (size_t i = 0; i < json_array_size(a->include) && st == MLXR_OK; i++) {
        const char *what = json_string_value(json_array_get(a->include, i));
        if (!what) return mlxr_turn_bad(t, "include", err, "request: \"include\" is not a list of texts");
        if (strcmp(what, "message.output_text.logprobs") == 0)
            a->with_logprobs = true;
        else if (strcmp(what, "reasoning.encrypted_content") != 0)
            st = mlxr_openai_warn(t, err, "include: \"%.100s\" has no effect here", what);
    }
    return st;
}

static mlxr_status read_body(mlxr_turn *t, mlxr_error *err)
{
    struct answer *a = t->state;
    mlxr_request *q = &t->request;
    json_t *messages = NULL, *tools = NULL;
    mlxr_status st;

    mlxr_openai_common_init(&a->c);
    a->max_output_tokens = -1;
    a->parallel = true;
    a->truncation = "disabled";
    st = mlxr_fields_read(a, &mlxr_openai_responses_fields, t->body, t->serve->strict ? NULL : t->warnings,
                          &t->error_field, err);
    if (st != MLXR_OK) return st;
    if ((st = mlxr_openai_common_read(t, &a->c, "resp_", err)) != MLXR_OK) return st;
    if (a->top_logprobs < 0 || a->top_logprobs > MLXR_MAX_TOP_LOGPROBS)
        return mlxr_turn_bad(t, "top_logprobs", err, "top_logprobs must be between 0 and 20");
    if (a->store &&
        (st = mlxr_openai_warn(t, err, "request: \"store\" has no effect here: nothing is kept")) != MLXR_OK)
        return st;
    t->error_field = "input";
    if ((st = mlxr_openai_items(&messages, a->instructions, a->input, err)) != MLXR_OK) return st;
    q->messages_json = mlxr_turn_dump(t, messages);
    json_decref(messages);
    if (!q->messages_json) return mlxr_fail_nomem(err, "request");
    t->error_field = NULL;
    q->parts = true;
    q->parallel_tool_calls = a->parallel;
    if (*a->truncation == 'a') q->overflow = MLXR_OVERFLOW_TRUNCATE;
    mlxr_openai_max_tokens(t, a->max_output_tokens, -1);
    if (a->text && (st = read_text(t, a->text, err)) != MLXR_OK) return st;
    if (a->reasoning && (st = read_reasoning(t, a->reasoning, err)) != MLXR_OK) return st;
    if (a->include && (st = read_include(t, a, err)) != MLXR_OK) return st;
    q->logprobs = a->with_logprobs || a->top_logprobs > 0;
    q->top_logprobs = (int32_t)a->top_logprobs;
    if ((st = mlxr_openai_item_tools(&tools, t, a->tools, err)) == MLXR_OK)
        st = mlxr_openai_tools(t, tools, a->tool_choice, err);
    json_decref(tools);
    return st;
}

static mlxr_status prepare(mlxr_turn *t, mlxr_error *err)
{
    struct answer *a = t->state;
    mlxr_status st = mlxr_openai_common_prepare(t, &a->c, 1, NAN, err);

    return st == MLXR_OK ? mlxr_openai_thinking(t, NULL, "reasoning.effort", err) : st;
}

/* ---- writing ---- */

static void put_buf(mlxr_buf *out, const mlxr_buf *b)
{
    mlxr_put_string_n(out, b->len ? b->data : "", b->len);
}

static void put_part(mlxr_buf *out, const mlxr_buf *text, const mlxr_buf *logs)
{
    mlxr_buf_str(out, "{\"type\":\"output_text\",\"text\":");
    put_buf(out, text);
    mlxr_buf_str(out, ",\"annotations\":[],\"logprobs\":[");
    if (logs->len) mlxr_buf_append(out, logs->data, logs->len);
    mlxr_buf_str(out, "]}");
}

/* status "in_progress": as it is when it begins. */
static void put_item(mlxr_buf *out, const struct item *it, const char *status)
{
    bool begins = *status == 'i' && status[2] == '_';

    mlxr_buf_printf(out, "{\"id\":\"%s\",\"type\":\"%s\",\"status\":\"%s\"", it->id,
                    it->kind == REASONING ? "reasoning"
                    : it->kind == MESSAGE ? "message"
                                          : "function_call",
                    status);
    if (it->kind == REASONING) {
        mlxr_buf_str(out, ",\"summary\":[");
        if (!begins) {
            mlxr_buf_str(out, "{\"type\":\"summary_text\",\"text\":");
            put_buf(out, &it->text);
            mlxr_buf_char(out, '}');
        }
        mlxr_buf_str(out, "],\"encrypted_content\":");
        if (begins)
            mlxr_buf_str(out, "\"\"");
        else
            put_buf(out, &it->text);
    } else if (it->kind == MESSAGE) {
        mlxr_buf_str(out, ",\"role\":\"assistant\",\"content\":[");
        if (!begins) put_part(out, &it->text, &it->logs);
        mlxr_buf_char(out, ']');
    } else {
        mlxr_buf_str(out, ",\"call_id\":");
        put_buf(out, &it->call_id);
        mlxr_buf_str(out, ",\"name\":");
        put_buf(out, &it->name);
        mlxr_buf_str(out, ",\"arguments\":");
        if (begins)
            mlxr_buf_str(out, "\"\"");
        else
            put_buf(out, &it->text);
    }
    mlxr_buf_char(out, '}');
}

/* ,"key":value; null for NULL. */
static void put_value(mlxr_buf *out, const char *key, const json_t *value, const char *fallback)
{
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17)) : NULL;

    mlxr_buf_printf(out, ",\"%s\":%s", key, text ? text : fallback);
    free(text);
}

static void put_string_value(mlxr_buf *out, const char *key, const char *s)
{
    mlxr_buf_printf(out, ",\"%s\":", key);
    mlxr_put_string(out, s);
}

static const char *item_status(const struct answer *a, size_t i)
{
    return a->done_reason == MLXR_DONE_LENGTH && i + 1 == a->n_items ? "incomplete" : "completed";
}

/* The response as a whole; error: NULL, or why it failed. */
static void put_response(mlxr_turn *t, mlxr_buf *out, const char *status, const mlxr_turn_error *error)
{
    struct answer *a = t->state;
    bool begins = strcmp(status, "in_progress") == 0, ended = !begins && !error;
    const mlxr_sampling *s = &t->request.sampling;
    const mlxr_stats *stats = &t->stats;

    mlxr_buf_printf(out,
                    "{\"id\":\"%s\",\"object\":\"response\",\"created_at\":%lld,\"completed_at\":", a->c.id,
                    a->c.created);
    if (strcmp(status, "completed") == 0)
        mlxr_buf_printf(out, "%lld", (long long)time(NULL));
    else
        mlxr_buf_str(out, "null");
    mlxr_buf_printf(out, ",\"status\":\"%s\",\"incomplete_details\":%s", status,
                    strcmp(status, "incomplete") == 0 ? "{\"reason\":\"max_output_tokens\"}" : "null");
    put_string_value(out, "model", t->model_name);
    mlxr_buf_str(out, ",\"previous_response_id\":null");
    put_string_value(out, "instructions", a->instructions);
    mlxr_buf_str(out, ",\"output\":[");
    for (size_t i = 0; ended && i < a->n_items; i++) {
        if (i) mlxr_buf_char(out, ',');
        put_item(out, &a->items[i], item_status(a, i));
    }
    mlxr_buf_str(out, "],\"error\":");
    if (error) {
        mlxr_buf_str(out, "{\"code\":\"server_error\",\"message\":");
        mlxr_put_string(out, error->message);
        mlxr_buf_char(out, '}');
    } else {
        mlxr_buf_str(out, "null");
    }
    put_value(out, "tools", a->tools, "[]");
    put_value(out, "tool_choice", a->tool_choice, "\"auto\"");
    put_string_value(out, "truncation", a->truncation);
    mlxr_buf_printf(out, ",\"parallel_tool_calls\":%s", a->parallel ? "true" : "false");
    if (json_object_get(a->text, "format"))
        put_value(out, "text", a->text, "null");
    else
        mlxr_buf_str(out, ",\"text\":{\"format\":{\"type\":\"text\"}}");
    mlxr_buf_printf(out,
                    ",\"top_p\":%.6g,\"presence_penalty\":0,\"frequency_penalty\":0,\"top_logprobs\":%d,"
                    "\"temperature\":%.6g,\"reasoning\":{\"effort\":",
                    (double)s->top_p, (int)a->top_logprobs, (double)s->temperature);
    mlxr_put_string(out, json_string_value(json_object_get(a->reasoning, "effort")));
    mlxr_buf_str(out, ",\"summary\":");
    mlxr_put_string(out, json_string_value(json_object_get(a->reasoning, "summary")));
    mlxr_buf_str(out, "},\"usage\":");
    if (ended)
        mlxr_buf_printf(out,
                        "{\"input_tokens\":%zu,\"output_tokens\":%zu,\"total_tokens\":%zu,"
                        "\"input_tokens_details\":{\"cached_tokens\":%zu},"
                        "\"output_tokens_details\":{\"reasoning_tokens\":%zu}}",
                        stats->prompt_token_count, stats->generated_token_count,
                        stats->prompt_token_count + stats->generated_token_count, stats->cached_token_count,
                        a->n_reasoning_tokens);
    else
        mlxr_buf_str(out, "null");
    if (a->max_output_tokens >= 0)
        mlxr_buf_printf(out, ",\"max_output_tokens\":%lld", (long long)a->max_output_tokens);
    else
        mlxr_buf_str(out, ",\"max_output_tokens\":null");
    mlxr_buf_str(
        out, ",\"max_tool_calls\":null,\"store\":false,\"background\":false,\"service_tier\":\"default\"");
    put_value(out, "metadata", a->metadata, "{}");
    put_string_value(out, "safety_identifier", a->safety_identifier);
    put_string_value(out, "prompt_cache_key", a->prompt_cache_key);
    put_string_value(out, "user", a->user);
    if (ended) mlxr_openai_put_last(t, out);
    mlxr_buf_char(out, '}');
}

/* ---- events ---- */

static void event_begin(mlxr_turn *t, const char *type)
{
    struct answer *a = t->state;

    t->out.len = 0;
    mlxr_buf_printf(&t->out, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%llu", type, type,
                    (unsigned long long)a->n_events++);
}

static void event_end(mlxr_turn *t)
{
    mlxr_buf_str(&t->out, "}\n\n");
    mlxr_turn_push(t, &t->out);
}

static void send_response(mlxr_turn *t, const char *type, const char *status, const mlxr_turn_error *error)
{
    event_begin(t, type);
    mlxr_buf_str(&t->out, ",\"response\":");
    put_response(t, &t->out, status, error);
    event_end(t);
}

static void send_item(mlxr_turn *t, const char *type, size_t i, const char *status)
{
    struct answer *a = t->state;

    event_begin(t, type);
    mlxr_buf_printf(&t->out, ",\"output_index\":%zu,\"item\":", i);
    put_item(&t->out, &a->items[i], status);
    event_end(t);
}

/* Head of an event about the last item. */
static void item_event_begin(mlxr_turn *t, const char *type)
{
    struct answer *a = t->state;
    const struct item *it = &a->items[a->n_items - 1];

    event_begin(t, type);
    mlxr_buf_printf(&t->out, ",\"item_id\":\"%s\",\"output_index\":%zu", it->id, a->n_items - 1);
    if (it->kind == MESSAGE) mlxr_buf_str(&t->out, ",\"content_index\":0");
    if (it->kind == REASONING) mlxr_buf_str(&t->out, ",\"summary_index\":0");
}

static void send_part(mlxr_turn *t, const char *type, const mlxr_buf *text, const mlxr_buf *logs)
{
    item_event_begin(t, type);
    mlxr_buf_str(&t->out, ",\"part\":");
    put_part(&t->out, text, logs);
    event_end(t);
}

static struct item *last_item(struct answer *a)
{
    return &a->items[a->n_items - 1];
}

static void close_item(mlxr_turn *t, bool last)
{
    struct answer *a = t->state;
    struct item *it;

    if (!a->open) return;
    a->open = false;
    if (!t->stream) return;
    it = last_item(a);
    if (it->kind == REASONING) {
        item_event_begin(t, "response.reasoning_summary_text.done");
        mlxr_buf_str(&t->out, ",\"text\":");
        put_buf(&t->out, &it->text);
        event_end(t);
    } else if (it->kind == MESSAGE) {
        item_event_begin(t, "response.output_text.done");
        mlxr_buf_str(&t->out, ",\"text\":");
        put_buf(&t->out, &it->text);
        mlxr_buf_str(&t->out, ",\"logprobs\":[");
        if (it->logs.len) mlxr_buf_append(&t->out, it->logs.data, it->logs.len);
        mlxr_buf_char(&t->out, ']');
        event_end(t);
        send_part(t, "response.content_part.done", &it->text, &it->logs);
    } else {
        item_event_begin(t, "response.function_call_arguments.done");
        mlxr_buf_str(&t->out, ",\"name\":");
        put_buf(&t->out, &it->name);
        mlxr_buf_str(&t->out, ",\"arguments\":");
        put_buf(&t->out, &it->text);
        event_end(t);
    }
    send_item(t, "response.output_item.done", a->n_items - 1,
              last ? item_status(a, a->n_items - 1) : "completed");
}

/* A new item, the last one closed; false: out of memory. call: of a CALL. */
static bool open_item(mlxr_turn *t, item_kind kind, const mlxr_tool_call *call)
{
    static const char *const prefixes[] = {"rs_", "msg_", "fc_"};
    static const mlxr_buf nothing;
    struct answer *a = t->state;
    mlxr_buf id = {0};
    struct item *it;

    close_item(t, false);
    if (a->n_items == a->cap_items) {
        size_t cap = a->cap_items ? 2 * a->cap_items : 4;
        struct item *more = mlxr_realloc_array(a->items, cap, sizeof *more);
        if (!more) return false;
        a->items = more;
        a->cap_items = cap;
    }
    it = &a->items[a->n_items];
    *it = (struct item){.kind = kind};
    mlxr_buf_str(&id, prefixes[kind]);
    mlxr_put_random_hex(&id, 24);
    if (!id.failed) snprintf(it->id, sizeof it->id, "%s", id.data);
    mlxr_buf_clear(&id);
    if (!*it->id) return false;
    if (call) {
        mlxr_buf_str(&it->name, call->name);
        if (call->id) {
            mlxr_buf_str(&it->call_id, call->id);
        } else {
            mlxr_buf_str(&it->call_id, "call_");
            mlxr_put_random_hex(&it->call_id, 24);
        }
    }
    a->n_items++;
    a->open = true;
    if (t->stream) {
        send_item(t, "response.output_item.added", a->n_items - 1, "in_progress");
        if (kind == MESSAGE) send_part(t, "response.content_part.added", &nothing, &nothing);
    }
    return true;
}

/* Text of the open item. */
static void add_text(mlxr_turn *t, const char *type, const char *text, size_t n, const mlxr_buf *logs)
{
    struct answer *a = t->state;
    struct item *it = last_item(a);

    mlxr_buf_append(&it->text, text, n);
    if (logs && logs->len) {
        if (it->logs.len) mlxr_buf_char(&it->logs, ',');
        mlxr_buf_append(&it->logs, logs->data, logs->len);
    }
    if (!t->stream) return;
    item_event_begin(t, type);
    mlxr_buf_str(&t->out, ",\"delta\":");
    mlxr_put_string_n(&t->out, text, n);
    if (it->kind == MESSAGE) {
        mlxr_buf_str(&t->out, ",\"logprobs\":[");
        if (logs && logs->len) mlxr_buf_append(&t->out, logs->data, logs->len);
        mlxr_buf_char(&t->out, ']');
    }
    event_end(t);
}

static bool is_open(const struct answer *a, item_kind kind)
{
    return a->open && a->items[a->n_items - 1].kind == kind;
}

static bool is_blank(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strchr(" \t\r\n", s[i]) || !s[i]) return false;
    return true;
}

static void take_content(mlxr_turn *t, const mlxr_event *e)
{
    struct answer *a = t->state;

    if (e->has_logprob) {
        if (a->logs.len) mlxr_buf_char(&a->logs, ',');
        mlxr_put_event_logprob(&a->logs, mlxr_served_tokenizer(t->model), e, true);
    }
    if (!e->n_text) return;
    if (!is_open(a, MESSAGE)) {
        mlxr_buf_append(&a->space, e->text, e->n_text);
        if (is_blank(e->text, e->n_text)) return;
        if (!open_item(t, MESSAGE, NULL)) {
            a->failed = true;
            return;
        }
        add_text(t, "response.output_text.delta", a->space.data ? a->space.data : "", a->space.len, &a->logs);
        a->space.len = 0;
    } else {
        add_text(t, "response.output_text.delta", e->text, e->n_text, &a->logs);
    }
    a->logs.len = 0;
}

static void begin(mlxr_turn *t)
{
    if (!t->stream) return;
    send_response(t, "response.created", "in_progress", NULL);
    send_response(t, "response.in_progress", "in_progress", NULL);
}

static void on_event(mlxr_turn *t, const mlxr_event *e)
{
    struct answer *a = t->state;

    if (e->warning) mlxr_openai_warn(t, NULL, "%s", e->warning);
    if (e->type == MLXR_EVENT_TOKEN && e->part == MLXR_PART_THINKING) {
        a->n_reasoning_tokens += e->id >= 0;
        if (!e->n_text) return;
        if (is_open(a, REASONING) || open_item(t, REASONING, NULL))
            add_text(t, "response.reasoning_summary_text.delta", e->text, e->n_text, NULL);
        else
            a->failed = true;
    } else if (e->type == MLXR_EVENT_TOKEN && e->part == MLXR_PART_CONTENT) {
        take_content(t, e);
    } else if (e->type == MLXR_EVENT_TOOL_CALL) {
        const char *arguments = e->call->arguments ? e->call->arguments : "{}";
        a->space.len = a->logs.len = 0;
        if (open_item(t, CALL, e->call))
            add_text(t, "response.function_call_arguments.delta", arguments, strlen(arguments), NULL);
        else
            a->failed = true;
    } else if (e->type == MLXR_EVENT_COMPLETED) {
        a->done_reason = e->stats->done_reason;
    }
}

static void fail(mlxr_turn *t, const mlxr_turn_error *error)
{
    if (!t->begun || !t->stream) {
        mlxr_openai_turn_fail(t, error);
        return;
    }
    send_response(t, "response.failed", "failed", error);
    mlxr_reply_end(t->http);
}

static void end(mlxr_turn *t)
{
    static const mlxr_turn_error no_memory = {
        .status = 503, .message = "out of memory", .code = MLXR_E_NOMEM};
    struct answer *a = t->state;
    const char *status = a->done_reason == MLXR_DONE_LENGTH ? "incomplete" : "completed";
    bool says = false;
    mlxr_buf out = {0};

    for (size_t i = 0; i < a->n_items; i++) says |= a->items[i].kind != REASONING;
    if (!a->failed && !says) { /* nothing but space, or nothing at all, is a message too */
        a->failed = !open_item(t, MESSAGE, NULL);
        if (!a->failed && (a->space.len || a->logs.len))
            add_text(t, "response.output_text.delta", a->space.len ? a->space.data : "", a->space.len,
                     &a->logs);
    } else if (!a->failed && is_open(a, MESSAGE) && a->logs.len) {
        add_text(t, "response.output_text.delta", "", 0, &a->logs); /* of tokens without text of their own */
    }
    if (a->failed) {
        fail(t, &no_memory);
        return;
    }
    close_item(t, true);
    if (t->stream) {
        send_response(t, *status == 'i' ? "response.incomplete" : "response.completed", status, NULL);
        return;
    }
    put_response(t, &out, status, NULL);
    mlxr_turn_answer(t, 200, &out);
}

static void clear(mlxr_turn *t)
{
    struct answer *a = t->state;

    for (size_t i = 0; i < a->n_items; i++) {
        mlxr_buf_clear(&a->items[i].text);
        mlxr_buf_clear(&a->items[i].name);
        mlxr_buf_clear(&a->items[i].call_id);
        mlxr_buf_clear(&a->items[i].logs);
    }
    free(a->items);
    mlxr_buf_clear(&a->space);
    mlxr_buf_clear(&a->logs);
}

const mlxr_front mlxr_openai_responses = {.name = "responses",
                                          .stream_type = "text/event-stream",
                                          .heartbeat = ": keep-alive\n\n",
                                          .state_size = sizeof(struct answer),
                                          .read = read_body,
                                          .prepare = prepare,
                                          .begin = begin,
                                          .event = on_event,
                                          .end = end,
                                          .fail = fail,
                                          .clear = clear};
