/* anthropic: see anthropic.h. Here: errors, and conversations in the form that chat templates take. */
#include "serve/anthropic.h"

#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

const char *mlxr_anthropic_error_type(int status)
{
    return status == 401                    ? "authentication_error"
           : status == 403                  ? "permission_error"
           : status == 404                  ? "not_found_error"
           : status == 413                  ? "request_too_large"
           : status == 429                  ? "rate_limit_error"
           : status == 503 || status == 529 ? "overloaded_error"
           : status >= 400 && status < 500  ? "invalid_request_error"
                                            : "api_error";
}

void mlxr_anthropic_fail(mlxr_request_in *http, int status, const char *text)
{
    mlxr_buf out = {0};

    mlxr_buf_printf(&out, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":",
                    mlxr_anthropic_error_type(status));
    mlxr_put_string(&out, text);
    mlxr_buf_str(&out, "},\"request_id\":");
    mlxr_put_string(&out, mlxr_request_record(http)->id);
    mlxr_buf_char(&out, '}');
    mlxr_reply(http, status, "application/json; charset=utf-8", &out);
}

/* ---- conversations ---- */

/* Where in the request something is: of one message (n_message), or of "system". */
struct place {
    size_t i_message, i_block;
    bool system;
    bool text_only;   /* "system", and messages of that role */
    bool strict;      /* what is unknown is refused, not only warned of */
    json_t *warnings; /* NULL: nobody wants them */
};

static mlxr_status refuse(mlxr_error *err, const struct place *at, const char *text)
{
    if (at->system) return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "system.%zu: %s", at->i_block, text);
    return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "messages.%zu.content.%zu: %s", at->i_message, at->i_block,
                     text);
}

/* Once for each text, as a conversation repeats itself. */
static mlxr_status warn(const struct place *at, mlxr_error *err, const char *fmt, ...) MLXR_PRINTF(3, 4);
static mlxr_status warn(const struct place *at, mlxr_error *err, const char *fmt, ...)
{
    enum { MAX_WARNINGS = 32 };
    char text[200];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!at->warnings) return MLXR_OK;
    for (size_t i = 0; i < json_array_size(at->warnings); i++)
        if (strcmp(json_string_value(json_array_get(at->warnings, i)), text) == 0) return MLXR_OK;
    if (json_array_size(at->warnings) >= MAX_WARNINGS) return MLXR_OK;
    return json_array_append_new(at->warnings, json_string(text)) == 0 ? MLXR_OK
                                                                       : mlxr_fail_nomem(err, "messages");
}

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static bool is(const char *a, const char *b)
{
    return a && strcmp(a, b) == 0;
}

static bool add(json_t *list, json_t *message)
{
    return message && json_array_append_new(list, message) == 0;
}

static json_t *text_message(const char *role, const mlxr_buf *text)
{
    return json_pack("{s:s, s:s}", "role", role, "content", text->data ? text->data : "");
}

static mlxr_status append_content(mlxr_buf *out, const json_t *content, struct place *at, mlxr_error *err);

static const mlxr_field document_table[] = {{.name = "title", .types = MLXR_FIELD_STRING},
                                            {.name = "context", .types = MLXR_FIELD_STRING},
                                            {.name = "source", .types = MLXR_FIELD_OBJECT, .required = true},
                                            {.name = "citations", .types = MLXR_FIELD_OBJECT}};
static const mlxr_field source_table[] = {{.name = "media_type", .types = MLXR_FIELD_STRING},
                                          {.name = "data", .types = MLXR_FIELD_STRING}};
static const mlxr_field thinking_table[] = {
    {.name = "thinking", .types = MLXR_FIELD_STRING, .required = true},
    {.name = "signature", .types = MLXR_FIELD_STRING}};
static const mlxr_field use_table[] = {
    {.name = "id", .types = MLXR_FIELD_STRING, .required = true, .filled = true},
    {.name = "name", .types = MLXR_FIELD_STRING, .required = true, .filled = true},
    {.name = "input", .types = MLXR_FIELD_OBJECT}};
static const mlxr_field result_table[] = {
    {.name = "tool_use_id", .types = MLXR_FIELD_STRING, .required = true, .filled = true},
    {.name = "is_error", .types = MLXR_FIELD_BOOL}};
static const mlxr_fields document_fields = {document_table, MLXR_COUNT(document_table), NULL},
                         source_fields = {source_table, MLXR_COUNT(source_table), NULL},
                         thinking_fields = {thinking_table, MLXR_COUNT(thinking_table), NULL},
                         use_fields = {use_table, MLXR_COUNT(use_table), NULL},
                         result_fields = {result_table, MLXR_COUNT(result_table), NULL};

/* The members of a block; kind: "tool_use". Those that are null are taken out of it. */
static mlxr_status check_block(const struct place *at, const mlxr_fields *fields, const char *kind,
                               const json_t *block, mlxr_error *err)
{
    char what[100];

    if (at->system)
        snprintf(what, sizeof what, "system.%zu: %s", at->i_block, kind);
    else
        snprintf(what, sizeof what, "messages.%zu.content.%zu: %s", at->i_message, at->i_block, kind);
    return mlxr_fields_check(fields, what, (json_t *)(uintptr_t)block, err);
}

/* A document whose text is in the request stands there as text, with its title and context before it. */
static mlxr_status append_document(mlxr_buf *out, const json_t *block, const struct place *at,
                                   mlxr_error *err)
{
    const json_t *source = json_object_get(block, "source"), *content = json_object_get(source, "content");
    const char *type = text_of(source, "type"), *data = text_of(source, "data"),
               *title = text_of(block, "title"), *context = text_of(block, "context");
    struct place inner = *at; /* has text alone */
    mlxr_status st = MLXR_OK;

    inner.text_only = true;
    if ((st = check_block(at, &document_fields, "document", block, err)) != MLXR_OK) return st;
    if ((st = check_block(at, &source_fields, "document", source, err)) != MLXR_OK) return st;
    if (!is(type, "text") && !is(type, "content"))
        return refuse(err, at, "document: only a source of type text or content can be read here");
    if (json_is_true(json_object_get(json_object_get(block, "citations"), "enabled")))
        st = warn(at, err, "document: \"citations\" has no effect here");
    if (st != MLXR_OK) return st;
    mlxr_buf_str(out, "<document>\n");
    if (title) mlxr_buf_printf(out, "<title>%s</title>\n", title);
    if (context) mlxr_buf_printf(out, "<context>%s</context>\n", context);
    if (is(type, "text") && !data) return refuse(err, at, "document: the source has no data");
    if (data)
        mlxr_buf_str(out, data);
    else if ((st = append_content(out, content, &inner, err)) != MLXR_OK)
        return st;
    mlxr_buf_str(out, "\n</document>\n");
    return MLXR_OK;
}

/* A block that is text, or becomes some; *other: it is none of those. */
static mlxr_status append_block(mlxr_buf *out, bool *other, const json_t *block, const struct place *at,
                                mlxr_error *err)
{
    const char *type = text_of(block, "type"), *text;

    *other = false;
    if (!type) return refuse(err, at, "the block has no type");
    if (is(type, "text")) {
        if (!(text = text_of(block, "text"))) return refuse(err, at, "text: the block has no text");
        mlxr_buf_str(out, text);
    } else if (is(type, "image")) {
        return refuse(err, at, "image: images are for models with vision, which this is not");
    } else if (is(type, "document")) {
        return append_document(out, block, at, err);
    } else {
        *other = true;
    }
    return MLXR_OK;
}

/* A block that nobody here knows is passed over. */
static mlxr_status pass_over(const struct place *at, const char *type, mlxr_error *err)
{
    static const char *const elsewhere[] = {"thinking", "redacted_thinking", "tool_use", "tool_result"};

    if (at->text_only) return refuse(err, at, "is no block of text");
    for (size_t i = 0; i < MLXR_COUNT(elsewhere); i++)
        if (is(type, elsewhere[i]))
            return refuse(err, at, "has a block that does not belong into another one");
    if (at->strict)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "messages.%zu.content.%zu: type \"%.60s\" is unknown here", at->i_message,
                         at->i_block, type);
    return warn(at, err, "messages: a block of type \"%.60s\" has no effect here", type);
}

/* Text of a string or of a list of blocks; those of another kind are passed over with a warning. */
static mlxr_status append_content(mlxr_buf *out, const json_t *content, struct place *at, mlxr_error *err)
{
    size_t i;
    json_t *block;
    bool other;

    if (json_is_string(content)) {
        mlxr_buf_str(out, json_string_value(content));
        return MLXR_OK;
    }
    if (!json_is_array(content)) return refuse(err, at, "is neither a text nor a list of blocks");
    json_array_foreach((json_t *)(uintptr_t)content, i, block)
    {
        mlxr_status st;
        if (at->system) at->i_block = i;
        st = append_block(out, &other, block, at, err);
        if (st == MLXR_OK && other) st = pass_over(at, text_of(block, "type"), err);
        if (st != MLXR_OK) return st;
    }
    return MLXR_OK;
}

/* What a turn of the conversation is made of. */
struct blocks {
    mlxr_buf text, thinking;
    json_t *calls;   /* in the form of templates */
    json_t *results; /* messages of the role tool */
};

/* Templates know no is_error: the text says it, unless it does already. */
static mlxr_status take_result(struct blocks *b, const json_t *block, struct place *at, mlxr_error *err)
{
    mlxr_buf text = {0};
    const char *id = text_of(block, "tool_use_id");
    const json_t *content = json_object_get(block, "content");
    json_t *message = NULL;
    mlxr_status st = MLXR_OK;

    if ((st = check_block(at, &result_fields, "tool_result", block, err)) != MLXR_OK) return st;
    if (content && !json_is_null(content)) st = append_content(&text, content, at, err);
    if (st == MLXR_OK && json_is_true(json_object_get(block, "is_error")) &&
        (!text.len || strncasecmp(text.data, "error", 5) != 0)) {
        mlxr_buf whole = {0};
        mlxr_buf_printf(&whole, "Error: %s", text.data ? text.data : "");
        mlxr_buf_clear(&text);
        text = whole;
    }
    if (st == MLXR_OK) st = mlxr_buf_check(&text, "messages", err);
    if (st == MLXR_OK) {
        message = text_message("tool", &text);
        if (!message || json_object_set_new(message, "tool_call_id", json_string(id)) != 0 ||
            json_array_append(b->results, message) != 0)
            st = mlxr_fail_nomem(err, "messages");
        json_decref(message);
    }
    mlxr_buf_clear(&text);
    return st;
}

static mlxr_status take_use(struct blocks *b, const json_t *block, const struct place *at, mlxr_error *err)
{
    const char *id = text_of(block, "id"), *name = text_of(block, "name");
    const json_t *input = json_object_get(block, "input");
    json_t *call;
    mlxr_status st;

    if ((st = check_block(at, &use_fields, "tool_use", block, err)) != MLXR_OK) return st;
    call = json_pack("{s:s, s:s, s:{s:s, s:o}}", "id", id, "type", "function", "function", "name", name,
                     "arguments", json_is_object(input) ? json_deep_copy(input) : json_object());
    return add(b->calls, call) ? MLXR_OK : mlxr_fail_nomem(err, "messages");
}

static mlxr_status take_block(struct blocks *b, const json_t *block, struct place *at, bool assistant,
                              mlxr_error *err)
{
    const char *type = text_of(block, "type");
    bool other;
    mlxr_status st = append_block(&b->text, &other, block, at, err);

    if (st != MLXR_OK || !other) return st;
    if (!assistant && (is(type, "thinking") || is(type, "redacted_thinking")))
        return refuse(err, at, "thinking: only a message of the assistant has such");
    if (is(type, "thinking")) { /* its signature is for Anthropic's own servers */
        if ((st = check_block(at, &thinking_fields, "thinking", block, err)) != MLXR_OK) return st;
        mlxr_buf_str(&b->thinking, text_of(block, "thinking"));
        return MLXR_OK;
    }
    if (is(type, "redacted_thinking")) return MLXR_OK; /* nobody here can read it */
    if (is(type, "tool_use"))
        return assistant ? take_use(b, block, at, err)
                         : refuse(err, at, "tool_use: only a message of the assistant has such");
    if (is(type, "tool_result"))
        return assistant ? refuse(err, at, "tool_result: only a message of the user has such")
                         : take_result(b, block, at, err);
    return pass_over(at, type, err);
}

/* Two texts in a row of one role are one turn: many templates want the roles to take turns. */
static mlxr_status join(json_t *into, const json_t *message, bool *joined, mlxr_error *err)
{
    const char *role = text_of(into, "role"), *a = text_of(into, "content"), *b = text_of(message, "content");
    mlxr_buf text = {0};
    mlxr_status st;

    *joined = is(role, text_of(message, "role")) && !is(role, "system") && json_object_size(into) == 2 &&
              json_object_size(message) == 2 && a && b;
    if (!*joined) return MLXR_OK;
    mlxr_buf_str(&text, a);
    if (*a && *b) mlxr_buf_str(&text, "\n\n");
    mlxr_buf_str(&text, b);
    st = mlxr_buf_check(&text, "messages", err);
    if (st == MLXR_OK && json_object_set_new(into, "content", json_string(text.data ? text.data : "")) != 0)
        st = mlxr_fail_nomem(err, "messages");
    mlxr_buf_clear(&text);
    return st;
}

/* Results of tools come before what the user says beside them. */
static mlxr_status add_blocks(json_t *out, const char *role, struct blocks *b, mlxr_error *err)
{
    json_t *message;
    bool joined = false, failed;
    mlxr_status st;

    if (json_array_extend(out, b->results) != 0) return mlxr_fail_nomem(err, "messages");
    if (!b->text.len && !json_array_size(b->calls) && !b->thinking.len && json_array_size(b->results))
        return MLXR_OK;
    message = text_message(role, &b->text);
    failed = !message;
    if (message && b->thinking.len)
        failed |= json_object_set_new(message, "reasoning_content", json_string(b->thinking.data)) != 0;
    if (message && json_array_size(b->calls)) failed |= json_object_set(message, "tool_calls", b->calls) != 0;
    if (failed) {
        json_decref(message);
        return mlxr_fail_nomem(err, "messages");
    }
    st = json_array_size(out) ? join(json_array_get(out, json_array_size(out) - 1), message, &joined, err)
                              : MLXR_OK;
    if (st != MLXR_OK || joined) {
        json_decref(message);
        return st;
    }
    return add(out, message) ? MLXR_OK : mlxr_fail_nomem(err, "messages");
}

static mlxr_status convert(json_t *out, const json_t *message, struct place *at, mlxr_error *err)
{
    const char *role = text_of(message, "role");
    const json_t *content = json_object_get(message, "content");
    struct blocks b = {.calls = json_array(), .results = json_array()};
    mlxr_status st = MLXR_OK;
    size_t k;
    json_t *block;

    if (!is(role, "user") && !is(role, "assistant") && !is(role, "system")) {
        st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                       "messages.%zu.role: is none of user, assistant and system", at->i_message);
    } else if (!b.calls || !b.results) {
        st = mlxr_fail_nomem(err, "messages");
    } else if (json_is_string(content)) {
        mlxr_buf_str(&b.text, json_string_value(content));
    } else if (json_is_array(content)) {
        at->text_only = is(role, "system");
        json_array_foreach((json_t *)(uintptr_t)content, k, block)
        {
            at->i_block = k;
            if ((st = take_block(&b, block, at, is(role, "assistant"), err)) != MLXR_OK) break;
        }
    } else {
        st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                       "messages.%zu.content: is neither a text nor a list of blocks", at->i_message);
    }
    if (st == MLXR_OK) st = mlxr_buf_check(&b.text, "messages", err);
    if (st == MLXR_OK) st = mlxr_buf_check(&b.thinking, "messages", err);
    if (st == MLXR_OK) st = add_blocks(out, role, &b, err);
    mlxr_buf_clear(&b.text);
    mlxr_buf_clear(&b.thinking);
    json_decref(b.calls);
    json_decref(b.results);
    return st;
}

/* The name of the tool whose use has this id. */
static const char *name_of_use(const json_t *list, size_t end, const char *id)
{
    for (size_t i = end; i-- > 0;) {
        const json_t *calls = json_object_get(json_array_get(list, i), "tool_calls");
        for (size_t j = 0; j < json_array_size(calls); j++) {
            const json_t *call = json_array_get(calls, j);
            if (is(text_of(call, "id"), id)) return text_of(json_object_get(call, "function"), "name");
        }
    }
    return NULL;
}

static mlxr_status name_results(json_t *list, mlxr_error *err)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *m = json_array_get(list, i);
        const char *id = text_of(m, "tool_call_id"), *name;
        if (id && (name = name_of_use(list, i, id)) != NULL &&
            json_object_set_new(m, "name", json_string(name)) != 0)
            return mlxr_fail_nomem(err, "messages");
    }
    return MLXR_OK;
}

mlxr_status mlxr_anthropic_messages(json_t **out, const json_t *system, const json_t *messages,
                                    json_t *warnings, bool strict, mlxr_error *err)
{
    json_t *list = json_array();
    struct place at = {.system = true, .text_only = true, .strict = strict, .warnings = warnings};
    mlxr_buf text = {0};
    mlxr_status st = list ? MLXR_OK : mlxr_fail_nomem(err, "messages");

    if (st == MLXR_OK && system && !json_is_null(system)) {
        st = append_content(&text, system, &at, err);
        if (st == MLXR_OK) st = mlxr_buf_check(&text, "system", err);
        if (st == MLXR_OK && text.len && !add(list, text_message("system", &text)))
            st = mlxr_fail_nomem(err, "messages");
    }
    at.system = at.text_only = false;
    for (; at.i_message < json_array_size(messages) && st == MLXR_OK; at.i_message++) {
        at.i_block = 0;
        st = convert(list, json_array_get(messages, at.i_message), &at, err);
    }
    if (st == MLXR_OK) st = name_results(list, err);
    mlxr_buf_clear(&text);
    if (st != MLXR_OK) {
        json_decref(list);
        list = NULL;
    }
    *out = list;
    return st;
}

static bool null_or_text(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);

    return !v || json_is_null(v) || json_is_string(v);
}

mlxr_status mlxr_anthropic_tools(json_t **out, const json_t *tools, mlxr_error *err)
{
    json_t *list = json_array();
    mlxr_status st = list ? MLXR_OK : mlxr_fail_nomem(err, "tools");
    size_t i;
    json_t *tool;

    json_array_foreach((json_t *)(uintptr_t)tools, i, tool)
    {
        const char *name = json_string_value(json_object_get(tool, "name"));
        const char *type = json_string_value(json_object_get(tool, "type"));
        const char *description = json_string_value(json_object_get(tool, "description"));
        const json_t *schema = json_object_get(tool, "input_schema");
        json_t *function;
        if (st != MLXR_OK) break;
        if (type && strcmp(type, "custom") != 0) {
            st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                           "tools.%zu: type \"%.60s\" is a tool of Anthropic's servers", i, type);
            break;
        }
        if (!null_or_text(tool, "type") || !null_or_text(tool, "description")) {
            st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "tools.%zu: type and description are texts", i);
            break;
        }
        if (!name || !*name || !json_is_object(schema)) {
            st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "tools.%zu: wants a name and an input_schema", i);
            break;
        }
        function = json_pack("{s:s, s:{s:s, s:s, s:O}}", "type", "function", "function", "name", name,
                             "description", description ? description : "", "parameters", schema);
        if (!add(list, function)) st = mlxr_fail_nomem(err, "tools");
    }
    if (st != MLXR_OK) {
        json_decref(list);
        list = NULL;
    }
    *out = list;
    return st;
}

static const mlxr_endpoint endpoints[] = {
    {.method = "POST",
     .path = "/v1/messages",
     .api = MLXR_API_ANTHROPIC,
     .summary = "Go on with a conversation",
     .front = &mlxr_anthropic_messages_front,
     .fields = &mlxr_anthropic_messages_fields,
     .answer = "Message",
     .line = "MessageEvent"},
    {.method = "POST",
     .path = "/v1/messages/count_tokens",
     .api = MLXR_API_ANTHROPIC,
     .summary = "The tokens of a conversation",
     .front = &mlxr_anthropic_count_front,
     .fields = &mlxr_anthropic_count_fields,
     .answer = "TokenCount"},
};
const mlxr_endpoints mlxr_anthropic_endpoints = {endpoints, MLXR_COUNT(endpoints)};
