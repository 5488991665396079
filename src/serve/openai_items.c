/* openai_items: see openai_items.h. */
#include "serve/openai_items.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- input ---- */

struct reader {
    json_t *list;      /* messages of chat completions */
    mlxr_buf thinking; /* of the assistant's next message */
    bool goes_on;      /* the last message is the assistant's, and the next call is part of it */
    size_t i;          /* of the item */
};

static mlxr_status refuse(const struct reader *r, const char *why, mlxr_error *err)
{
    return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "input[%zu]: %s", r->i, why);
}

static const char *text_of(const json_t *item, const char *key)
{
    return json_string_value(json_object_get(item, key));
}

static mlxr_status add(struct reader *r, json_t *message, mlxr_error *err)
{
    const char *role = text_of(message, "role");
    bool assistant = role && strcmp(role, "assistant") == 0;

    if (message && assistant && r->thinking.len) {
        json_object_set_new(message, "reasoning_content", json_stringn(r->thinking.data, r->thinking.len));
        r->thinking.len = 0;
    }
    r->goes_on = assistant;
    return message && json_array_append_new(r->list, message) == 0 ? MLXR_OK : mlxr_fail_nomem(err, "input");
}

static mlxr_status read_message(struct reader *r, const json_t *item, mlxr_error *err)
{
    const json_t *content = json_object_get(item, "content");
    const char *role = text_of(item, "role");
    json_t *message;

    if (!role) return refuse(r, "a message has no role", err);
    if (!json_is_string(content) && !json_is_array(content))
        return refuse(r, "the content is neither a text nor a list of parts", err);
    message = json_pack("{s:s, s:O}", "role", role, "content", content);
    return add(r, message, err);
}

static mlxr_status read_call(struct reader *r, const json_t *item, mlxr_error *err)
{
    const char *id = text_of(item, "call_id"), *name = text_of(item, "name"),
               *arguments = text_of(item, "arguments");
    json_t *call, *last = json_array_get(r->list, json_array_size(r->list) - 1), *calls;

    if (!id || !name || !*name || !arguments)
        return refuse(r, "a function_call wants call_id, name and arguments as texts", err);
    call = json_pack("{s:s, s:s, s:{s:s, s:s}}", "id", id, "type", "function", "function", "name", name,
                     "arguments", arguments);
    if (!call) return mlxr_fail_nomem(err, "input");
    if (!r->goes_on || r->thinking.len)
        return add(r, json_pack("{s:s, s:s, s:[o]}", "role", "assistant", "content", "", "tool_calls", call),
                   err);
    if (!(calls = json_object_get(last, "tool_calls"))) {
        calls = json_array();
        if (!calls || json_object_set_new(last, "tool_calls", calls) != 0) {
            json_decref(call);
            return mlxr_fail_nomem(err, "input");
        }
    }
    return json_array_append_new(calls, call) == 0 ? MLXR_OK : mlxr_fail_nomem(err, "input");
}

static mlxr_status read_output(struct reader *r, const json_t *item, mlxr_error *err)
{
    const json_t *output = json_object_get(item, "output");
    const char *id = text_of(item, "call_id");

    if (!id) return refuse(r, "a function_call_output has no call_id", err);
    if (!json_is_string(output) && !json_is_array(output))
        return refuse(r, "the output is neither a text nor a list of parts", err);
    return add(r, json_pack("{s:s, s:s, s:O}", "role", "tool", "tool_call_id", id, "content", output), err);
}

static const mlxr_field reasoning_table[] = {{.name = "content", .types = MLXR_FIELD_LIST},
                                             {.name = "summary", .types = MLXR_FIELD_LIST},
                                             {.name = "encrypted_content", .types = MLXR_FIELD_STRING}};
static const mlxr_fields reasoning_fields = {reasoning_table, MLXR_COUNT(reasoning_table), NULL};

/* What was thought: as we gave it, or in the forms in which others do. */
static mlxr_status read_reasoning(struct reader *r, json_t *item, mlxr_error *err)
{
    static const char *const lists[] = {"content", "summary"};
    const char *own;
    char what[40];
    mlxr_status st;

    snprintf(what, sizeof what, "input[%zu]", r->i);
    if ((st = mlxr_fields_check(&reasoning_fields, what, item, err)) != MLXR_OK) return st;
    own = text_of(item, "encrypted_content");
    r->goes_on = false;
    if (own) {
        mlxr_buf_str(&r->thinking, own);
        return mlxr_buf_check(&r->thinking, "input", err);
    }
    for (size_t k = 0; k < MLXR_COUNT(lists); k++) {
        const json_t *list = json_object_get(item, lists[k]);
        size_t before = r->thinking.len;
        for (size_t i = 0; i < json_array_size(list); i++) {
            const char *text = text_of(json_array_get(list, i), "text");
            if (text && r->thinking.len > before) mlxr_buf_char(&r->thinking, '\n');
            if (text) mlxr_buf_str(&r->thinking, text);
        }
        if (r->thinking.len > before) break;
    }
    return mlxr_buf_check(&r->thinking, "input", err);
}

static mlxr_status read_item(struct reader *r, json_t *item, mlxr_error *err)
{
    const json_t *kind = json_object_get(item, "type");
    const char *type = json_string_value(kind);

    if (!json_is_object(item)) return refuse(r, "is not an object", err);
    if (kind && !type && !json_is_null(kind)) return refuse(r, "the type is no text", err);
    if (!type && text_of(item, "role")) return read_message(r, item, err);
    if (type && strcmp(type, "message") == 0) return read_message(r, item, err);
    if (type && strcmp(type, "function_call") == 0) return read_call(r, item, err);
    if (type && strcmp(type, "function_call_output") == 0) return read_output(r, item, err);
    if (type && strcmp(type, "reasoning") == 0) return read_reasoning(r, item, err);
    if (type && strcmp(type, "web_search_call") == 0) return MLXR_OK;
    return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "unknown input item type: \"%.60s\"", type ? type : "");
}

mlxr_status mlxr_openai_items(json_t **out, const char *instructions, const json_t *input, mlxr_error *err)
{
    struct reader r = {.list = json_array()};
    size_t n_before;
    mlxr_status st = r.list ? MLXR_OK : mlxr_fail_nomem(err, "input");

    *out = NULL;
    if (st == MLXR_OK && instructions && *instructions)
        st = add(&r, json_pack("{s:s, s:s}", "role", "system", "content", instructions), err);
    n_before = json_array_size(r.list);
    if (st == MLXR_OK && json_is_string(input))
        st = add(&r, json_pack("{s:s, s:O}", "role", "user", "content", input), err);
    for (r.i = 0; r.i < json_array_size(input) && st == MLXR_OK; r.i++)
        st = read_item(&r, json_array_get(input, r.i), err);
    if (st == MLXR_OK && json_is_array(input) && !json_array_size(input))
        st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "[] is too short - 'input'");
    else if (st == MLXR_OK && json_array_size(r.list) == n_before)
        st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "input: there is no message in it, and no call");
    if (st == MLXR_OK && r.thinking.len) /* behind the last turn: it was cut off while it thought */
        st = add(&r, json_pack("{s:s, s:s}", "role", "assistant", "content", ""), err);
    if (st == MLXR_OK) st = mlxr_openai_messages(out, r.list, err);
    mlxr_buf_clear(&r.thinking);
    json_decref(r.list);
    return st;
}

/* ---- tools ---- */

/* One function; space: of its namespace, or NULL. */
static mlxr_status add_function(json_t *list, mlxr_turn *t, const json_t *tool, const char *space, size_t i,
                                mlxr_error *err)
{
    const char *name = text_of(tool, "name");
    const json_t *description = json_object_get(tool, "description"),
                 *parameters = json_object_get(tool, "parameters"), *strict = json_object_get(tool, "strict");
    char *full = NULL;
    json_t *function = json_object();
    bool ok;

    if (!name || !*name) {
        json_decref(function);
        return mlxr_turn_bad(t, "tools", err, "tools[%zu]: has no name", i);
    }
    if ((parameters && !json_is_null(parameters) && !json_is_object(parameters)) ||
        (strict && !json_is_null(strict) && !json_is_boolean(strict))) {
        json_decref(function);
        return mlxr_turn_bad(
            t, "tools", err, "tools[%zu]: \"%s\" is not %s", i,
            strict && !json_is_null(strict) && !json_is_boolean(strict) ? "strict" : "parameters",
            strict && !json_is_null(strict) && !json_is_boolean(strict) ? "true or false" : "an object");
    }
    if (space) full = mlxr_asprintf("%s.%s", space, name);
    ok = function && (full || !space) &&
         json_object_set_new(function, "name", json_string(full ? full : name)) == 0;
    if (json_is_string(description))
        ok = ok && json_object_set(function, "description", (json_t *)(uintptr_t)description) == 0;
    if (parameters && !json_is_null(parameters))
        ok = ok && json_object_set(function, "parameters", (json_t *)(uintptr_t)parameters) == 0;
    else
        ok = ok && json_object_set_new(function, "parameters",
                                       json_pack("{s:s, s:{}}", "type", "object", "properties")) == 0;
    if (json_is_boolean(strict))
        ok = ok && json_object_set(function, "strict", (json_t *)(uintptr_t)strict) == 0;
    free(full);
    ok = ok &&
         json_array_append_new(list, json_pack("{s:s, s:O}", "type", "function", "function", function)) == 0;
    json_decref(function);
    return ok ? MLXR_OK : mlxr_fail_nomem(err, "tools");
}

static mlxr_status add_namespace(json_t *list, mlxr_turn *t, const json_t *tool, size_t i, mlxr_error *err)
{
    const json_t *members = json_object_get(tool, "tools");
    const char *name = text_of(tool, "name");
    mlxr_status st = MLXR_OK;

    if (!name || !*name || !json_is_array(members))
        return mlxr_turn_bad(t, "tools", err, "tools[%zu]: a namespace wants a name and a list of tools", i);
    for (size_t k = 0; k < json_array_size(members) && st == MLXR_OK; k++) {
        const json_t *member = json_array_get(members, k);
        const char *type = text_of(member, "type");
        if (!type || strcmp(type, "function") != 0)
            return mlxr_turn_bad(t, "tools", err,
                                 "tools[%zu]: type \"%.60s\" of a namespace's tool is not supported here", i,
                                 type ? type : "");
        st = add_function(list, t, member, name, i, err);
    }
    return st;
}

mlxr_status mlxr_openai_item_tools(json_t **out, mlxr_turn *t, const json_t *tools, mlxr_error *err)
{
    json_t *list = json_array();
    mlxr_status st = list ? MLXR_OK : mlxr_fail_nomem(err, "tools");

    for (size_t i = 0; i < json_array_size(tools) && st == MLXR_OK; i++) {
        const json_t *tool = json_array_get(tools, i);
        const char *type = text_of(tool, "type");
        if (type && strcmp(type, "function") == 0)
            st = add_function(list, t, tool, NULL, i, err);
        else if (type && strcmp(type, "namespace") == 0)
            st = add_namespace(list, t, tool, i, err);
        else if (type && (strncmp(type, "web_search", 10) == 0 || strcmp(type, "tool_search") == 0) &&
                 !t->serve->strict)
            st = mlxr_openai_warn(t, err, "tools: \"%.60s\" is not supported here and was left out", type);
        else
            st = mlxr_turn_bad(t, "tools", err, "tools[%zu]: type \"%.60s\" is not supported here", i,
                               type ? type : "");
    }
    if (st != MLXR_OK) {
        json_decref(list);
        list = NULL;
    }
    *out = list;
    return st;
}
