/* anthropic_messages: POST /v1/messages and POST /v1/messages/count_tokens. */
#include <stdlib.h>

#include "runner/engine_api.h"
#include "serve/anthropic.h"
#include "serve/receipt.h"

enum block { NONE, THINKING, TEXT, TOOL_USE };

struct messages {
    const char *model;
    const json_t *messages, *system, *tools, *tool_choice, *stop, *thinking, *output_config, *output_format;
    bool stream;
    int64_t max_tokens, top_k;
    double temperature, top_p;
    bool has_max_tokens, has_temperature, has_top_p, has_top_k;
    char id[32];
    enum block block; /* the open one */
    size_t i_block;   /* its index; of the next when none is open */
    mlxr_buf content; /* JSON of whole blocks, without the brackets */
    mlxr_buf open;    /* the text of the open block, when not streaming */
    size_t n_calls;
    mlxr_done_reason done_reason;
    const char *stop_sequence; /* the one that ended it, or NULL */
    size_t n_warned;           /* warnings that message_start had */
    size_t n_prompt;           /* tokens, before the answer begins */
};

#define TAKE(member, accessor)                                                                          \
    static mlxr_status take_##member(void *into, const mlxr_field *f, const json_t *v, mlxr_error *err) \
    {                                                                                                   \
        struct messages *m = into;                                                                      \
        m->member = accessor(v);                                                                        \
        m->has_##member = true;                                                                         \
        return MLXR_OK;                                                                                 \
    }
TAKE(max_tokens, (int64_t)json_number_value)
TAKE(top_k, (int64_t)json_number_value)
TAKE(temperature, json_number_value)
TAKE(top_p, json_number_value)

#define AT(member)          offsetof(struct messages, member)
#define REF(name)           "{\"$ref\":\"#/components/schemas/" name "\"}"
#define LIST_OF(name, rest) "{\"type\":\"array\",\"items\":" REF(name) rest "}"
#define CONVERSATION                                                                                         \
    {.name = "model",                                                                                        \
     .types = MLXR_FIELD_STRING,                                                                             \
     .offset = AT(model),                                                                                    \
     .help = "name of a model",                                                                              \
     .required = true},                                                                                      \
        {.name = "messages",                                                                                 \
         .types = MLXR_FIELD_LIST,                                                                           \
         .offset = AT(messages),                                                                             \
         .required = true,                                                                                   \
         .schema = LIST_OF("AnthropicMessage", ",\"minItems\":1"),                                           \
         .help = "the conversation: texts, or blocks of text, document (with its text), thinking, "          \
                 "tool_use, tool_result"},                                                                   \
        {.name = "system",                                                                                   \
         .types = MLXR_FIELD_STRING | MLXR_FIELD_LIST,                                                       \
         .offset = AT(system),                                                                               \
         .schema = REF("AnthropicSystem")},                                                                  \
        {.name = "tools",                                                                                    \
         .types = MLXR_FIELD_LIST,                                                                           \
         .offset = AT(tools),                                                                                \
         .schema = "{\"type\":[\"array\",\"null\"],\"items\":" REF("AnthropicTool") "}",                     \
         .help = "arguments follow a tool's input_schema in any case"},                                      \
        {.name = "tool_choice",                                                                              \
         .types = MLXR_FIELD_OBJECT,                                                                         \
         .offset = AT(tool_choice),                                                                          \
         .schema = REF("AnthropicToolChoice"),                                                               \
         .help = "{\"type\": \"auto\", \"any\", \"tool\" or \"none\"}, with disable_parallel_tool_use"},     \
        {.name = "thinking",                                                                                 \
         .types = MLXR_FIELD_OBJECT,                                                                         \
         .offset = AT(thinking),                                                                             \
         .schema = REF("AnthropicThinking"),                                                                 \
         .help =                                                                                             \
             "{\"type\": \"enabled\", \"disabled\" or \"adaptive\"}; after budget_tokens the model is made " \
             "to "                                                                                           \
             "close it; dropped for a model that does not think; absent: as the model's template has it"},   \
        {.name = "output_config",                                                                            \
         .types = MLXR_FIELD_OBJECT,                                                                         \
         .offset = AT(output_config),                                                                        \
         .schema = REF("AnthropicOutputConfig"),                                                             \
         .help = "effort: how much it thinks; format: a JSON Schema that the answer is held to"},            \
        {.name = "output_format",                                                                            \
         .types = MLXR_FIELD_OBJECT,                                                                         \
         .offset = AT(output_format),                                                                        \
         .schema = REF("AnthropicOutputFormat"),                                                             \
         .help = "the older place of output_config.format"},                                                 \
        {.name = "cache_control",                                                                            \
         .types = MLXR_FIELD_OBJECT,                                                                         \
         .offset = MLXR_FIELD_NOWHERE,                                                                       \
         .help = "every prompt's beginning is kept without being asked to"},                                 \
    {                                                                                                        \
        .name = "context_management", .types = MLXR_FIELD_OBJECT, .use = MLXR_FIELD_WARNED, .neutral = "{}"  \
    }

static const mlxr_field fields[] = {
    CONVERSATION,
    {.name = "max_tokens",
     .types = MLXR_FIELD_INT,
     .take = take_max_tokens,
     .required = true,
     .min = 1,
     .max = 9007199254740991.0},
    {.name = "stream", .types = MLXR_FIELD_BOOL, .offset = AT(stream), .fallback = "false"},
    {.name = "temperature",
     .types = MLXR_FIELD_REAL,
     .take = take_temperature,
     .max = 100,
     .help = "absent: the model's own; so are top_p and top_k"},
    {.name = "top_p", .types = MLXR_FIELD_REAL, .take = take_top_p, .max = 1},
    {.name = "top_k", .types = MLXR_FIELD_INT, .take = take_top_k, .max = 2147483647},
    {.name = "stop_sequences",
     .types = MLXR_FIELD_LIST,
     .offset = AT(stop),
     .schema = "{\"type\":[\"array\",\"null\"],\"items\":{\"type\":\"string\"}}"},
    {.name = "metadata", .types = MLXR_FIELD_OBJECT, .offset = MLXR_FIELD_NOWHERE, .help = "for logs"},
    {.name = "service_tier",
     .types = MLXR_FIELD_STRING,
     .use = MLXR_FIELD_WARNED,
     .words = "auto|standard_only",
     .neutral = "\"auto\""},
    {.name = "inference_geo", .types = MLXR_FIELD_STRING, .use = MLXR_FIELD_WARNED},
    {.name = "container", .types = MLXR_FIELD_ANY, .use = MLXR_FIELD_REFUSED, .help = "there are none here"},
    {.name = "mcp_servers",
     .types = MLXR_FIELD_LIST,
     .use = MLXR_FIELD_REFUSED,
     .neutral = "[]",
     .help = "the client talks to them"},
    MLXR_FIELD_RECEIPT,
};
const mlxr_fields mlxr_anthropic_messages_fields = {fields, MLXR_COUNT(fields), "request"};

static const mlxr_field count_fields[] = {CONVERSATION};
const mlxr_fields mlxr_anthropic_count_fields = {count_fields, MLXR_COUNT(count_fields), "request"};

/* ---- reading ---- */

/* Members of a nested object that nobody here looks at; names: "a|b". */
static mlxr_status only(mlxr_turn *t, const json_t *object, const char *field, const char *names,
                        mlxr_error *err)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        const char *at = names;
        size_t n = strlen(key);
        json_t *text;
        while (at && (strncmp(at, key, n) != 0 || (at[n] != '|' && at[n] != '\0')))
            at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL;
        if (at && n) continue;
        if (t->serve->strict)
            return mlxr_turn_bad(t, field, err, "%s: \"%.100s\" is unknown here", field, key);
        text = json_sprintf("%s: \"%.100s\" has no effect here", field, key);
        if (!text || json_array_append_new(t->warnings, text) != 0) return mlxr_fail_nomem(err, "request");
    }
    return MLXR_OK;
}

static bool has_tool(const json_t *tools, const char *name)
{
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const char *other = json_string_value(json_object_get(json_array_get(tools, i), "name"));
        if (other && strcmp(other, name) == 0) return true;
    }
    return false;
}

static mlxr_status read_choice(mlxr_turn *t, const json_t *tools, const json_t *v, mlxr_error *err)
{
    mlxr_request *q = &t->request;
    const char *type = json_string_value(json_object_get(v, "type"));
    const json_t *disable = json_object_get(v, "disable_parallel_tool_use");

    if (disable && !json_is_null(disable) && !json_is_boolean(disable))
        return mlxr_turn_bad(t, "tool_choice", err,
                             "tool_choice: disable_parallel_tool_use is not true or false");
    if (json_is_true(disable)) q->parallel_tool_calls = false;
    if (type && strcmp(type, "auto") == 0) {
        q->tool_choice = MLXR_TOOL_CHOICE_AUTO;
    } else if (type && strcmp(type, "any") == 0) {
        q->tool_choice = MLXR_TOOL_CHOICE_REQUIRED;
    } else if (type && strcmp(type, "none") == 0) {
        q->tool_choice = MLXR_TOOL_CHOICE_NONE;
    } else if (type && strcmp(type, "tool") == 0 &&
               (q->tool_name = json_string_value(json_object_get(v, "name"))) != NULL) {
        q->tool_choice = MLXR_TOOL_CHOICE_NAMED;
        if (!has_tool(tools, q->tool_name))
            return mlxr_turn_bad(t, "tool_choice", err, "tool_choice: there is no tool \"%.100s\"",
                                 q->tool_name);
    } else {
        return mlxr_turn_bad(t, "tool_choice", err,
                             "tool_choice: type is none of auto, any, none and tool with a name");
    }
    if (q->tool_choice >= MLXR_TOOL_CHOICE_REQUIRED && !json_array_size(tools))
        return mlxr_turn_bad(t, "tool_choice", err, "tool_choice: wants a tool, but there are no tools");
    if (!json_array_size(tools)) q->tool_choice = MLXR_TOOL_CHOICE_AUTO;
    return only(t, v, "tool_choice", "type|name|disable_parallel_tool_use", err);
}

static mlxr_status read_thinking(mlxr_turn *t, const json_t *thinking, mlxr_error *err)
{
    const char *type = json_string_value(json_object_get(thinking, "type"));
    const json_t *budget = json_object_get(thinking, "budget_tokens");

    if (!thinking) return MLXR_OK;
    if (type && (strcmp(type, "enabled") == 0 || strcmp(type, "adaptive") == 0))
        t->request.think = MLXR_THINK_ON;
    else if (type && strcmp(type, "disabled") == 0)
        t->request.think = MLXR_THINK_OFF;
    else
        return mlxr_turn_bad(t, "thinking", err, "thinking: type is none of enabled, disabled and adaptive");
    if (budget && !json_is_null(budget)) {
        if (!json_is_integer(budget) || json_integer_value(budget) < 1 ||
            json_integer_value(budget) > INT32_MAX)
            return mlxr_turn_bad(t, "thinking", err,
                                 "thinking: budget_tokens is not an integer from 1 to 2147483647");
        if (t->request.think == MLXR_THINK_ON) t->max_thinking = (size_t)json_integer_value(budget);
    }
    return only(t, thinking, "thinking", "type|budget_tokens", err);
}

static mlxr_status read_effort(mlxr_turn *t, const json_t *value, mlxr_error *err)
{
    static const struct {
        const char *name;
        mlxr_think think;
    } efforts[] = {{"low", MLXR_THINK_LOW},
                   {"medium", MLXR_THINK_MEDIUM},
                   {"high", MLXR_THINK_HIGH},
                   {"xhigh", MLXR_THINK_HIGH},
                   {"max", MLXR_THINK_HIGH}};
    const char *effort = json_string_value(value);

    if (!value || json_is_null(value)) return MLXR_OK;
    for (size_t i = 0; effort && i < MLXR_COUNT(efforts); i++) {
        if (strcmp(effort, efforts[i].name) != 0) continue;
        if (t->request.think != MLXR_THINK_OFF) t->request.think = efforts[i].think;
        return MLXR_OK;
    }
    return mlxr_turn_bad(t, "output_config", err,
                         "output_config: effort is none of low, medium, high, xhigh and max");
}

static mlxr_status read_format(mlxr_turn *t, const json_t *format, const char *field, mlxr_error *err)
{
    const char *type = json_string_value(json_object_get(format, "type"));
    const json_t *schema = json_object_get(format, "schema");

    if (!format || json_is_null(format)) return MLXR_OK;
    if (!type || strcmp(type, "json_schema") != 0)
        return mlxr_turn_bad(t, field, err, "%s: the format's type is not json_schema", field);
    if (!json_is_object(schema) && !json_is_boolean(schema))
        return mlxr_turn_bad(t, field, err, "%s: the format has no schema", field);
    if (!(t->request.format = mlxr_turn_dump(t, schema))) return mlxr_fail_nomem(err, "request");
    return only(t, format, field, "type|schema|name", err);
}

static mlxr_status read_output(mlxr_turn *t, const struct messages *m, mlxr_error *err)
{
    mlxr_status st = read_effort(t, json_object_get(m->output_config, "effort"), err);

    if (st == MLXR_OK) st = read_format(t, m->output_format, "output_format", err);
    if (st == MLXR_OK) st = read_format(t, json_object_get(m->output_config, "format"), "output_config", err);
    return st == MLXR_OK ? only(t, m->output_config, "output_config", "effort|format", err) : st;
}

static mlxr_status read_conversation(mlxr_turn *t, mlxr_error *err)
{
    struct messages *m = t->state;
    mlxr_request *q = &t->request;
    json_t *list = NULL;
    mlxr_status st;

    if (!(t->model_name = mlxr_arena_strndup(&t->arena, m->model, strlen(m->model))))
        return mlxr_fail_nomem(err, "request");
    t->error_field = "messages";
    if ((st = mlxr_anthropic_messages(&list, m->system, m->messages, t->warnings, t->serve->strict, err)) !=
        MLXR_OK)
        return st;
    t->error_field = NULL;
    q->messages_json = mlxr_turn_dump(t, list);
    json_decref(list);
    if (!q->messages_json) return mlxr_fail_nomem(err, "request");
    if (json_array_size(m->tools)) {
        t->error_field = "tools";
        if ((st = mlxr_anthropic_tools(&list, m->tools, err)) != MLXR_OK) return st;
        t->error_field = NULL;
        q->tools_json = mlxr_turn_dump(t, list);
        json_decref(list);
        if (!q->tools_json) return mlxr_fail_nomem(err, "request");
    }
    q->parts = true;
    if (m->tool_choice && (st = read_choice(t, m->tools, m->tool_choice, err)) != MLXR_OK) return st;
    if ((st = read_thinking(t, m->thinking, err)) != MLXR_OK) return st;
    return read_output(t, m, err);
}

/* Whether a field is there. What every request needs is missed in Anthropic's own words, whichever other fields are wrong. */
static bool given(const mlxr_turn *t, const char *name)
{
    const json_t *v = json_object_get(t->body, name);

    return v && !json_is_null(v);
}

static mlxr_status read_fields(mlxr_turn *t, const mlxr_fields *table, mlxr_error *err)
{
    const json_t *model = json_object_get(t->body, "model"), *list = json_object_get(t->body, "messages"),
                 *max = json_object_get(t->body, "max_tokens");

    if (!given(t, "model") || (json_is_string(model) && !*json_string_value(model)))
        return mlxr_turn_bad(t, "model", err, "model is required");
    if (table == &mlxr_anthropic_messages_fields &&
        (!given(t, "max_tokens") || (json_is_number(max) && json_number_value(max) <= 0)))
        return mlxr_turn_bad(t, "max_tokens", err, "max_tokens is required and must be positive");
    if (!given(t, "messages") || (json_is_array(list) && !json_array_size(list)))
        return mlxr_turn_bad(t, "messages", err, "messages is required");
    return mlxr_fields_read(t->state, table, t->body, t->serve->strict ? NULL : t->warnings, &t->error_field,
                            err);
}

static mlxr_status read_messages(mlxr_turn *t, mlxr_error *err)
{
    struct messages *m = t->state;
    mlxr_request *q = &t->request;
    const char **stop;
    mlxr_buf id = {0};
    mlxr_status st = read_fields(t, &mlxr_anthropic_messages_fields, err);

    if (st != MLXR_OK) return st;
    t->stream = m->stream;
    if ((st = read_conversation(t, err)) != MLXR_OK) return st;
    q->max_tokens = m->max_tokens > INT32_MAX ? INT32_MAX : (int32_t)m->max_tokens;
    stop = mlxr_arena_calloc(&t->arena, json_array_size(m->stop) + 1, sizeof *stop);
    if (!stop) return mlxr_fail_nomem(err, "request");
    for (size_t i = 0; i < json_array_size(m->stop); i++)
        if (!(stop[i] = json_string_value(json_array_get(m->stop, i))))
            return mlxr_turn_bad(t, "stop_sequences", err, "stop_sequences: is not a list of texts");
    q->stop = stop;
    q->n_stop = json_array_size(m->stop);
    mlxr_buf_str(&id, "msg_");
    mlxr_put_random_hex(&id, 24);
    if (id.failed) return mlxr_fail_nomem(err, "request");
    memcpy(m->id, id.data, id.len + 1);
    mlxr_buf_clear(&id);
    return MLXR_OK;
}

static mlxr_status read_count(mlxr_turn *t, mlxr_error *err)
{
    mlxr_status st = read_fields(t, &mlxr_anthropic_count_fields, err);

    return st == MLXR_OK ? read_conversation(t, err) : st;
}

/* ---- with the model ---- */

static mlxr_status count_prompt(mlxr_turn *t, size_t *n, mlxr_error *err)
{
    int32_t *ids = NULL;
    mlxr_status st = mlxr_served_encode(&ids, n, t->model, &t->request, err);

    if (st == MLXR_OK) mlxr_free(ids);
    return st;
}

static mlxr_status add_warning(mlxr_turn *t, const char *text, mlxr_error *err)
{
    return json_array_append_new(t->warnings, json_string(text)) == 0 ? MLXR_OK
                                                                      : mlxr_fail_nomem(err, "request");
}

/* What a model cannot do of thinking is dropped, not refused: clients ask every model for it. */
static mlxr_status fit_thinking(mlxr_turn *t, mlxr_error *err)
{
    mlxr_request *q = &t->request;
    mlxr_engine *e = mlxr_served_engine(t->model);
    mlxr_template_capabilities can = {0};
    bool thinks = false, wanted = q->think != MLXR_THINK_OFF && q->think != MLXR_THINK_DEFAULT;
    mlxr_status st = e ? mlxr_prompt_capabilities(&can, e->folder.prompt, err) : MLXR_OK;

    if (st != MLXR_OK) return st;
    if (e) thinks = mlxr_prompt_thinks(e->folder.prompt, mlxr_prompt_answer_format(e->folder.prompt));
    if (!thinks) {
        q->think = MLXR_THINK_DEFAULT;
        t->max_thinking = 0;
        return wanted ? add_warning(t, "thinking: has no effect, this model does not think", err) : MLXR_OK;
    }
    if (q->think == MLXR_THINK_OFF && !mlxr_prompt_can_stop_thinking(e->folder.prompt, &can)) {
        q->think = MLXR_THINK_DEFAULT;
        return add_warning(t, "thinking: \"disabled\" has no effect, this model cannot stop thinking", err);
    }
    return MLXR_OK;
}

static mlxr_status fit_model(mlxr_turn *t, mlxr_error *err)
{
    mlxr_engine *e = mlxr_served_engine(t->model);

    if (e && t->request.tools_json && mlxr_prompt_builder_is_builtin(e->folder.prompt))
        return mlxr_fail(err, MLXR_E_UNSUPPORTED, "tools: %s does not support tools", t->model_name);
    return fit_thinking(t, err);
}

static mlxr_status prepare_messages(mlxr_turn *t, mlxr_error *err)
{
    struct messages *m = t->state;
    mlxr_sampling *s = &t->request.sampling;
    mlxr_status st = fit_model(t, err);

    if (st != MLXR_OK) return st;

    *s = mlxr_served_sampling(t->model);
    if (m->has_temperature) s->temperature = (float)m->temperature;
    if (m->has_top_p) s->top_p = (float)m->top_p;
    if (m->has_top_k) s->top_k = (int32_t)m->top_k;
    return t->stream ? count_prompt(t, &m->n_prompt, err) : MLXR_OK;
}

static mlxr_status prepare_count(mlxr_turn *t, mlxr_error *err)
{
    mlxr_buf out = {0};
    size_t n;
    mlxr_status st = fit_model(t, err);

    if (st == MLXR_OK) st = count_prompt(t, &n, err);

    if (st != MLXR_OK) return st;
    mlxr_buf_printf(&out, "{\"input_tokens\":%zu", n);
    mlxr_put_json_member(&out, "warnings", t->warnings);
    mlxr_buf_char(&out, '}');
    mlxr_turn_answer(t, 200, &out);
    t->answered = true;
    return MLXR_OK;
}

/* ---- writing ---- */

static void send_event(mlxr_turn *t, const char *type, const mlxr_buf *data)
{
    mlxr_buf out = {0};

    mlxr_buf_printf(&out, "event: %s\ndata: ", type);
    mlxr_buf_append(&out, data->data, data->len);
    mlxr_buf_str(&out, "\n\n");
    mlxr_turn_push(t, &out);
    mlxr_buf_clear(&out);
}

static void put_usage(mlxr_buf *out, size_t n_prompt, size_t n_cached, size_t n_answer)
{
    mlxr_buf_printf(
        out,
        "\"usage\":{\"input_tokens\":%zu,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":%zu,"
        "\"output_tokens\":%zu}",
        n_prompt - (n_cached < n_prompt ? n_cached : n_prompt), n_cached, n_answer);
}

static void begin(mlxr_turn *t)
{
    struct messages *m = t->state;

    if (!t->stream) return;
    t->out.len = 0;
    mlxr_buf_printf(&t->out,
                    "{\"type\":\"message_start\",\"message\":{\"id\":\"%s\",\"type\":\"message\",\"role\":"
                    "\"assistant\",\"model\":",
                    m->id);
    mlxr_put_string(&t->out, t->model_name);
    mlxr_buf_str(&t->out, ",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,");
    put_usage(&t->out, m->n_prompt, 0, 0);
    mlxr_put_json_member(&t->out, "warnings", t->warnings);
    m->n_warned = json_array_size(t->warnings);
    mlxr_buf_str(&t->out, "}}");
    send_event(t, "message_start", &t->out);
}

/* Ends the open block. */
static void close_block(mlxr_turn *t)
{
    struct messages *m = t->state;

    if (m->block == NONE) return;
    if (t->stream) {
        t->out.len = 0;
        mlxr_buf_printf(&t->out, "{\"type\":\"content_block_stop\",\"index\":%zu}", m->i_block);
        send_event(t, "content_block_stop", &t->out);
    } else if (m->block != TOOL_USE) {
        const char *name = m->block == TEXT ? "text" : "thinking";
        if (m->content.len) mlxr_buf_char(&m->content, ',');
        mlxr_buf_printf(&m->content, "{\"type\":\"%s\",\"%s\":", name, name);
        mlxr_put_string_n(&m->content, m->open.data ? m->open.data : "", m->open.len);
        mlxr_buf_str(&m->content, m->block == THINKING ? ",\"signature\":\"\"}" : "}");
        m->open.len = 0;
    }
    m->block = NONE;
    m->i_block++;
}

static void start_block(mlxr_turn *t, enum block block, const char *json)
{
    struct messages *m = t->state;

    if (m->block == block && block != TOOL_USE) return;
    close_block(t);
    m->block = block;
    if (!t->stream) return;
    t->out.len = 0;
    mlxr_buf_printf(&t->out, "{\"type\":\"content_block_start\",\"index\":%zu,\"content_block\":%s}",
                    m->i_block, json);
    send_event(t, "content_block_start", &t->out);
}

static void send_delta(mlxr_turn *t, const char *type, const char *key, const char *text, size_t n)
{
    struct messages *m = t->state;

    t->out.len = 0;
    mlxr_buf_printf(&t->out,
                    "{\"type\":\"content_block_delta\",\"index\":%zu,\"delta\":{\"type\":\"%s\",\"%s\":",
                    m->i_block, type, key);
    mlxr_put_string_n(&t->out, text, n);
    mlxr_buf_str(&t->out, "}}");
    send_event(t, "content_block_delta", &t->out);
}

static void take_text(mlxr_turn *t, const mlxr_event *e)
{
    struct messages *m = t->state;
    bool thinking = e->part == MLXR_PART_THINKING;

    if (!e->n_text || e->part == MLXR_PART_TOOL_CALL) return;
    if (thinking)
        start_block(t, THINKING, "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}");
    else
        start_block(t, TEXT, "{\"type\":\"text\",\"text\":\"\"}");
    if (!t->stream)
        mlxr_buf_append(&m->open, e->text, e->n_text);
    else if (thinking)
        send_delta(t, "thinking_delta", "thinking", e->text, e->n_text);
    else
        send_delta(t, "text_delta", "text", e->text, e->n_text);
}

static void take_call(mlxr_turn *t, const mlxr_tool_call *call)
{
    struct messages *m = t->state;
    const char *arguments = call->arguments ? call->arguments : "{}";
    mlxr_buf head = {0};

    m->n_calls++;
    mlxr_buf_str(&head, "{\"type\":\"tool_use\",\"id\":\"toolu_");
    mlxr_put_random_hex(&head, 24);
    mlxr_buf_str(&head, "\",\"name\":");
    mlxr_put_string(&head, call->name);
    mlxr_buf_str(&head, ",\"input\":");
    if (t->stream) {
        mlxr_buf_str(&head, "{}}");
        if (!head.failed) start_block(t, TOOL_USE, head.data);
        send_delta(t, "input_json_delta", "partial_json", arguments, strlen(arguments));
    } else {
        close_block(t);
        m->block = TOOL_USE;
        if (m->content.len) mlxr_buf_char(&m->content, ',');
        mlxr_buf_append(&m->content, head.data, head.len);
        mlxr_buf_printf(&m->content, "%s}", arguments);
    }
    close_block(t);
    mlxr_buf_clear(&head);
}

static void on_event(mlxr_turn *t, const mlxr_event *e)
{
    struct messages *m = t->state;

    if (e->type == MLXR_EVENT_TOKEN) {
        take_text(t, e);
        if (e->warning) json_array_append_new(t->warnings, json_string(e->warning));
    } else if (e->type == MLXR_EVENT_TOOL_CALL) {
        take_call(t, e->call);
    } else if (e->type == MLXR_EVENT_COMPLETED) {
        m->done_reason = e->stats->done_reason;
        /* See mlxr_answer.i_stop: the request's own come first, then the folder's. */
        if (e->id >= 0 && (size_t)e->id < t->request.n_stop) m->stop_sequence = t->request.stop[e->id];
    }
}

static const char *stop_reason(const struct messages *m)
{
    return m->n_calls                           ? "tool_use"
           : m->stop_sequence                   ? "stop_sequence"
           : m->done_reason == MLXR_DONE_LENGTH ? "max_tokens"
                                                : "end_turn";
}

/* "stop_reason" and "stop_sequence", without braces. */
static void put_stop(mlxr_buf *out, const struct messages *m)
{
    mlxr_buf_printf(out, "\"stop_reason\":\"%s\",\"stop_sequence\":", stop_reason(m));
    mlxr_put_string(out, m->n_calls ? NULL : m->stop_sequence);
}

static void end(mlxr_turn *t)
{
    struct messages *m = t->state;
    const mlxr_stats *s = &t->stats;
    mlxr_buf out = {0};

    close_block(t);
    if (t->stream) {
        mlxr_buf_str(&out, "{\"type\":\"message_delta\",\"delta\":{");
        put_stop(&out, m);
        mlxr_buf_str(&out, "},");
        put_usage(&out, s->prompt_token_count, s->cached_token_count, s->generated_token_count);
        if (json_array_size(t->warnings) > m->n_warned) mlxr_put_json_member(&out, "warnings", t->warnings);
        mlxr_buf_char(&out, '}');
        send_event(t, "message_delta", &out);
        out.len = 0;
        mlxr_buf_str(&out, "{\"type\":\"message_stop\"");
        mlxr_receipt_put(&out, t->receipt, t);
        mlxr_buf_char(&out, '}');
        send_event(t, "message_stop", &out);
        mlxr_buf_clear(&out);
        return;
    }
    mlxr_buf_printf(&out, "{\"id\":\"%s\",\"type\":\"message\",\"role\":\"assistant\",\"model\":", m->id);
    mlxr_put_string(&out, t->model_name);
    mlxr_buf_str(&out, ",\"content\":[");
    if (m->content.len) mlxr_buf_append(&out, m->content.data, m->content.len);
    mlxr_buf_str(&out, "],");
    put_stop(&out, m);
    mlxr_buf_char(&out, ',');
    put_usage(&out, s->prompt_token_count, s->cached_token_count, s->generated_token_count);
    mlxr_put_json_member(&out, "warnings", t->warnings);
    mlxr_receipt_put(&out, t->receipt, t);
    mlxr_buf_char(&out, '}');
    mlxr_turn_answer(t, 200, &out);
}

static void fail(mlxr_turn *t, const mlxr_turn_error *error)
{
    mlxr_buf out = {0};

    if (!t->begun || !t->stream) {
        mlxr_anthropic_fail(t->http, error->status, error->message);
        return;
    }
    mlxr_buf_printf(&out, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":",
                    mlxr_anthropic_error_type(error->status));
    mlxr_put_string(&out, error->message);
    mlxr_buf_str(&out, "},\"request_id\":");
    mlxr_put_string(&out, t->record->id);
    mlxr_buf_char(&out, '}');
    send_event(t, "error", &out);
    mlxr_buf_clear(&out);
    mlxr_reply_end(t->http);
}

static void clear(mlxr_turn *t)
{
    struct messages *m = t->state;

    mlxr_buf_clear(&m->content);
    mlxr_buf_clear(&m->open);
}

const mlxr_front mlxr_anthropic_messages_front = {.name = "messages",
                                                  .stream_type = "text/event-stream",
                                                  .heartbeat = "event: ping\ndata: {\"type\":\"ping\"}\n\n",
                                                  .state_size = sizeof(struct messages),
                                                  .read = read_messages,
                                                  .prepare = prepare_messages,
                                                  .begin = begin,
                                                  .event = on_event,
                                                  .end = end,
                                                  .fail = fail,
                                                  .clear = clear};
const mlxr_front mlxr_anthropic_count_front = {.name = "messages.count_tokens",
                                               .state_size = sizeof(struct messages),
                                               .read = read_count,
                                               .prepare = prepare_count,
                                               .event = on_event,
                                               .end = end,
                                               .fail = fail,
                                               .clear = clear};
