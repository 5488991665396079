/* prompt_tools: see prompt_tools.h. */
#include "runner/prompt_tools.h"

#include <stdlib.h>

bool mlxr_messages_have_calls(const json_t *messages)
{
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *m = json_array_get(messages, i);
        const char *role = json_string_value(json_object_get(m, "role"));
        if (json_array_size(json_object_get(m, "tool_calls")) > 0 || (role && strcmp(role, "tool") == 0))
            return true;
    }
    return false;
}

/* ---- arguments ---- */

/* {"type": "function", "function": {...}}, or the inner object by itself. */
static json_t *function_of(json_t *call)
{
    json_t *f = json_object_get(call, "function");
    return json_is_object(f) ? f : call;
}

static mlxr_status set_arguments(json_t *function, bool as_text, mlxr_error *err)
{
    json_t *a = json_object_get(function, "arguments"), *b = NULL;
    bool ok = true;

    if (json_is_string(a) && !as_text) {
        b = json_loadb(json_string_value(a), json_string_length(a), JSON_REJECT_DUPLICATES, NULL);
        if (!json_is_object(b)) {
            json_decref(b);
            return MLXR_OK;
        }
        ok = json_object_set_new(function, "arguments", b) == 0;
    } else if (json_is_object(a) && as_text) {
        char *text = json_dumps(a, 0);
        ok = text && (b = json_string(text)) && json_object_set_new(function, "arguments", b) == 0;
        free(text);
    }
    return ok ? MLXR_OK : mlxr_fail_nomem(err, "prompt");
}

mlxr_status mlxr_messages_set_arguments(json_t *messages, bool as_text, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;

    for (size_t i = 0; i < json_array_size(messages); i++) {
        json_t *calls = json_object_get(json_array_get(messages, i), "tool_calls");
        for (size_t k = 0; k < json_array_size(calls) && st == MLXR_OK; k++)
            st = set_arguments(function_of(json_array_get(calls, k)), as_text, err);
    }
    return st;
}

/* ---- tools as text ---- */

/* The text of a message, of its parts where it has those. */
static void append_content(mlxr_buf *b, const json_t *message)
{
    const json_t *content = json_object_get(message, "content");

    if (json_is_string(content)) mlxr_buf_append(b, json_string_value(content), json_string_length(content));
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *text = json_object_get(json_array_get(content, i), "text");
        if (json_is_string(text)) mlxr_buf_append(b, json_string_value(text), json_string_length(text));
    }
}

static void append_json(mlxr_buf *b, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY);

    if (text)
        mlxr_buf_str(b, text);
    else
        b->failed = true;
    free(text);
}

static void append_tools(mlxr_buf *b, const json_t *tools)
{
    mlxr_buf_str(b, "You can call functions. Each line between the tags describes one as JSON:\n<tools>\n");
    for (size_t i = 0; i < json_array_size(tools); i++) {
        append_json(b, function_of(json_array_get(tools, i)));
        mlxr_buf_char(b, '\n');
    }
    mlxr_buf_str(
        b, "</tools>\nTo call a function, answer with its name and arguments as JSON between these tags, "
           "once for each call:\n<tool_call>\n{\"name\": \"...\", \"arguments\": {...}}\n</tool_call>\n"
           "What it returns comes back between <tool_response> tags.");
}

static void append_calls(mlxr_buf *b, const json_t *calls)
{
    for (size_t i = 0; i < json_array_size(calls); i++) {
        json_t *f = function_of(json_array_get(calls, i)), *arguments = json_object_get(f, "arguments");
        if (b->len) mlxr_buf_char(b, '\n');
        mlxr_buf_str(b, "<tool_call>\n{\"name\": ");
        append_json(b, json_object_get(f, "name"));
        mlxr_buf_str(b, ", \"arguments\": ");
        if (json_is_string(arguments))
            mlxr_buf_str(b, json_string_value(arguments));
        else if (arguments)
            append_json(b, arguments);
        else
            mlxr_buf_str(b, "{}");
        mlxr_buf_str(b, "}\n</tool_call>");
    }
}

/* Appends {role, content: the buffer's text}, and empties that. */
static bool add(json_t *messages, const char *role, mlxr_buf *text)
{
    json_t *m = text->failed ? NULL
                             : json_pack("{s:s, s:s#}", "role", role, "content", text->data ? text->data : "",
                                         (int)text->len);
    text->len = 0;
    return m && json_array_append_new(messages, m) == 0;
}

static bool add_each(json_t *out, const json_t *messages, const json_t *tools, bool can_system)
{
    mlxr_buf text = {0};
    bool described = !tools, ok = true;

    if (!described && can_system) {
        const json_t *first = json_array_get(messages, 0);
        const char *role = json_string_value(json_object_get(first, "role"));
        bool has_system = role && strcmp(role, "system") == 0;
        if (has_system) append_content(&text, first);
        if (text.len) mlxr_buf_str(&text, "\n\n");
        append_tools(&text, tools);
        ok = add(out, "system", &text);
        described = true;
    }
    for (size_t i = 0; i < json_array_size(messages) && ok; i++) {
        json_t *m = json_array_get(messages, i), *calls = json_object_get(m, "tool_calls");
        const char *role = json_string_value(json_object_get(m, "role"));
        if (!role) role = "";
        if (i == 0 && tools && can_system && strcmp(role, "system") == 0) continue;
        if (strcmp(role, "tool") == 0) {
            mlxr_buf_str(&text, "<tool_response>\n");
            append_content(&text, m);
            mlxr_buf_str(&text, "\n</tool_response>");
            /* Answers to calls of one message are one turn. */
            const json_t *next = json_array_get(messages, i + 1);
            const char *next_role = json_string_value(json_object_get(next, "role"));
            if (next_role && strcmp(next_role, "tool") == 0)
                mlxr_buf_char(&text, '\n');
            else
                ok = add(out, "user", &text);
        } else if (json_array_size(calls) > 0) {
            append_content(&text, m);
            append_calls(&text, calls);
            ok = add(out, role, &text);
        } else if (!described && strcmp(role, "user") == 0) {
            append_tools(&text, tools);
            mlxr_buf_str(&text, "\n\n");
            append_content(&text, m);
            ok = add(out, role, &text);
            described = true;
        } else {
            ok = json_array_append(out, m) == 0;
        }
    }
    ok = ok && !text.failed;
    mlxr_buf_clear(&text);
    return ok;
}

mlxr_status mlxr_messages_write_tools(json_t **out, const json_t *messages, const json_t *tools,
                                      bool can_system, mlxr_error *err)
{
    json_t *written = json_array();

    *out = NULL;
    if (!written || !add_each(written, messages, tools, can_system)) {
        json_decref(written);
        return mlxr_fail_nomem(err, "prompt");
    }
    *out = written;
    return MLXR_OK;
}
