/* openai_messages: conversations and tools of the API in the form that chat templates take. */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "serve/openai.h"

/* ---- messages ---- */

static mlxr_status refuse(mlxr_error *err, size_t i, const char *text)
{
    return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "messages[%zu]: %s", i, text);
}

mlxr_status mlxr_openai_refuse_image(const json_t *url, const char *where, mlxr_error *err)
{
    static const char *const heads[] = {"data:image/jpeg;base64,", "data:image/jpg;base64,",
                                        "data:image/png;base64,", "data:image/webp;base64,", "data:;base64,"};
    const char *s = json_string_value(json_is_object(url) ? json_object_get(url, "url") : url);

    if (!s) return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "invalid message format");
    if (strncasecmp(s, "http://", 7) == 0 || strncasecmp(s, "https://", 8) == 0)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "image URLs are not currently supported, please use base64 encoded data instead");
    for (size_t i = 0; i < MLXR_COUNT(heads); i++)
        if (strncmp(s, heads[i], strlen(heads[i])) == 0)
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                             "%s: images are for models with vision, which this is not", where);
    return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "invalid image input");
}

static mlxr_status refuse_image(const json_t *url, size_t i_message, mlxr_error *err)
{
    char where[60];

    snprintf(where, sizeof where, "messages[%zu]", i_message);
    return mlxr_openai_refuse_image(url, where, err);
}

/* Parts of a content joined; *out: free it. */
static mlxr_status join_parts(char **out, const json_t *parts, size_t i_message, mlxr_error *err)
{
    mlxr_buf text = {0};
    mlxr_status st = MLXR_OK;
    size_t i;
    json_t *part;

    *out = NULL;
    json_array_foreach((json_t *)(uintptr_t)parts, i, part)
    {
        const char *type = json_string_value(json_object_get(part, "type"));
        const char *s = json_string_value(json_object_get(part, "text"));
        if (type &&
            (strcmp(type, "text") == 0 || strcmp(type, "input_text") == 0 ||
             strcmp(type, "output_text") == 0) &&
            s)
            mlxr_buf_str(&text, s);
        else if (type && (strcmp(type, "image_url") == 0 || strcmp(type, "input_image") == 0))
            st = refuse_image(json_object_get(part, "image_url"), i_message, err);
        else if (type && strcmp(type, "input_audio") == 0)
            st = refuse(err, i_message, "audio is for models with hearing, which this is not");
        else if (type && strcmp(type, "refusal") == 0 &&
                 (s = json_string_value(json_object_get(part, "refusal"))) != NULL)
            mlxr_buf_str(&text, s);
        else
            st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "invalid message format");
        if (st != MLXR_OK) break;
    }
    if (st == MLXR_OK && !(*out = mlxr_buf_take(&text, NULL))) st = mlxr_fail_nomem(err, "messages");
    mlxr_buf_clear(&text);
    return st;
}

/* The name of the function that the call with this id was for; NULL: none before message i_end. */
static const char *name_of_call(const json_t *messages, size_t i_end, const char *id)
{
    for (size_t i = i_end; id && i-- > 0;) {
        const json_t *calls = json_object_get(json_array_get(messages, i), "tool_calls");
        for (size_t j = 0; j < json_array_size(calls); j++) {
            const json_t *call = json_array_get(calls, j);
            const char *its = json_string_value(json_object_get(call, "id"));
            if (its && strcmp(its, id) == 0)
                return json_string_value(json_object_get(json_object_get(call, "function"), "name"));
        }
    }
    return NULL;
}

static const mlxr_field message_table[] = {{.name = "name", .types = MLXR_FIELD_STRING},
                                           {.name = "tool_calls", .types = MLXR_FIELD_LIST},
                                           {.name = "tool_call_id", .types = MLXR_FIELD_STRING},
                                           {.name = "reasoning", .types = MLXR_FIELD_STRING},
                                           {.name = "reasoning_content", .types = MLXR_FIELD_STRING}};
static const mlxr_field call_table[] = {{.name = "id", .types = MLXR_FIELD_STRING},
                                        {.name = "index", .types = MLXR_FIELD_INT, .min = 0, .max = 65535},
                                        {.name = "type", .types = MLXR_FIELD_STRING, .words = "function"},
                                        {.name = "function", .types = MLXR_FIELD_OBJECT, .required = true}};
static const mlxr_field function_table[] = {
    {.name = "name", .types = MLXR_FIELD_STRING, .required = true, .filled = true},
    {.name = "arguments", .types = MLXR_FIELD_STRING | MLXR_FIELD_OBJECT}};
static const mlxr_fields message_fields = {message_table, MLXR_COUNT(message_table), NULL},
                         call_fields = {call_table, MLXR_COUNT(call_table), NULL},
                         function_fields = {function_table, MLXR_COUNT(function_table), NULL};

/* Calls of the history with their arguments as objects. */
static mlxr_status convert_calls(json_t *message, size_t i_message, mlxr_error *err)
{
    json_t *calls = json_deep_copy(json_object_get(message, "tool_calls"));
    mlxr_status st = MLXR_OK;

    if (!calls || json_object_set_new(message, "tool_calls", calls) != 0)
        return mlxr_fail_nomem(err, "messages");
    if (!json_array_size(calls)) json_object_del(message, "tool_calls");
    if (!json_object_get(message, "tool_calls")) return MLXR_OK;
    for (size_t i = 0; i < json_array_size(calls) && st == MLXR_OK; i++) {
        json_t *call = json_array_get(calls, i), *function, *object;
        const json_t *arguments;
        char what[80];
        snprintf(what, sizeof what, "messages[%zu].tool_calls[%zu]", i_message, i);
        if ((st = mlxr_fields_check(&call_fields, what, call, err)) != MLXR_OK) return st;
        function = json_object_get(call, "function");
        if ((st = mlxr_fields_check(&function_fields, what, function, err)) != MLXR_OK) return st;
        arguments = json_object_get(function, "arguments");
        if (!json_is_string(arguments)) continue;
        if (json_string_length(arguments) == 0)
            object = json_object();
        else
            object = json_loadb(json_string_value(arguments), json_string_length(arguments),
                                JSON_REJECT_DUPLICATES, NULL);
        if (!json_is_object(object)) {
            json_decref(object);
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "invalid tool call arguments");
        }
        if (json_object_set_new(function, "arguments", object) != 0) st = mlxr_fail_nomem(err, "messages");
    }
    return st;
}

/* As templates call it; NULL: nobody's. */
static const char *find_role(const char *role)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool", "function"};

    if (!role) return NULL;
    if (strcasecmp(role, "developer") == 0) return "system";
    for (size_t i = 0; i < MLXR_COUNT(roles); i++)
        if (strcasecmp(role, roles[i]) == 0) return strcmp(roles[i], "function") == 0 ? "tool" : roles[i];
    return NULL;
}

static mlxr_status convert(json_t **out, const json_t *messages, size_t i, mlxr_error *err)
{
    static const char *const of_answers[] = {"refusal", "annotations", "audio", "function_call", "thinking"};
    const json_t *message = json_array_get(messages, i), *content;
    json_t *m = json_is_object(message) ? json_copy((json_t *)(uintptr_t)message) : NULL;
    const char *role, *reasoning;
    char *text = NULL, what[40];
    mlxr_status st = MLXR_OK;

    *out = m;
    if (!json_is_object(message)) return refuse(err, i, "is not an object");
    if (!m) return mlxr_fail_nomem(err, "messages");
    snprintf(what, sizeof what, "messages[%zu]", i);
    if ((st = mlxr_fields_check(&message_fields, what, m, err)) != MLXR_OK) return st;
    if (!(role = find_role(json_string_value(json_object_get(m, "role")))))
        return refuse(err, i, "the role is none of system, developer, user, assistant and tool");
    if (json_object_set_new(m, "role", json_string(role)) != 0) return mlxr_fail_nomem(err, "messages");
    content = json_object_get(m, "content");
    if (json_is_array(content)) {
        if ((st = join_parts(&text, content, i, err)) != MLXR_OK) return st;
        if (json_object_set_new(m, "content", json_string(text)) != 0) st = mlxr_fail_nomem(err, "messages");
        free(text);
        if (st != MLXR_OK) return st;
    } else if (!content || json_is_null(content)) {
        if (!json_array_size(json_object_get(m, "tool_calls"))) return refuse(err, i, "has no content");
        if (json_object_set_new(m, "content", json_string("")) != 0) return mlxr_fail_nomem(err, "messages");
    } else if (!json_is_string(content)) {
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "invalid message format");
    }
    reasoning = json_string_value(json_object_get(m, "reasoning"));
    if (reasoning && !json_is_string(json_object_get(m, "reasoning_content")) &&
        json_object_set_new(m, "reasoning_content", json_string(reasoning)) != 0)
        return mlxr_fail_nomem(err, "messages");
    for (size_t k = 0; k < MLXR_COUNT(of_answers);
         k++) /* what SDKs send back of an answer, and templates do not want */
        if (json_is_null(json_object_get(m, of_answers[k]))) json_object_del(m, of_answers[k]);
    if (json_object_get(m, "tool_calls") && (st = convert_calls(m, i, err)) != MLXR_OK) return st;
    if (strcmp(role, "tool") == 0 && !json_object_get(m, "name")) {
        const char *name = name_of_call(messages, i, json_string_value(json_object_get(m, "tool_call_id")));
        if (name && json_object_set_new(m, "name", json_string(name)) != 0)
            return mlxr_fail_nomem(err, "messages");
    }
    return MLXR_OK;
}

mlxr_status mlxr_openai_messages(json_t **out, const json_t *messages, mlxr_error *err)
{
    json_t *list = json_array();
    mlxr_status st = list ? MLXR_OK : mlxr_fail_nomem(err, "messages");

    for (size_t i = 0; i < json_array_size(messages) && st == MLXR_OK; i++) {
        json_t *m = NULL;
        st = convert(&m, messages, i, err);
        if (st == MLXR_OK && json_array_append(list, m) != 0) st = mlxr_fail_nomem(err, "messages");
        json_decref(m);
    }
    if (st != MLXR_OK) {
        json_decref(list);
        list = NULL;
    }
    *out = list;
    return st;
}

/* ---- tools ---- */

/* The function of a tool; NULL with the failure in err. */
static const char *tool_name(mlxr_turn *t, const json_t *tool, size_t i, mlxr_error *err)
{
    const json_t *function = json_object_get(tool, "function"), *kind = json_object_get(tool, "type"),
                 *parameters;
    const char *type = json_string_value(kind), *name;

    if (kind && !json_is_null(kind) && (!type || strcmp(type, "function") != 0)) {
        mlxr_turn_bad(t, "tools", err, "tools[%zu]: type \"%.60s\" is not supported here, functions are", i,
                      type ? type : "");
        return NULL;
    }
    name = json_string_value(json_object_get(function, "name"));
    if (!name || !*name) {
        mlxr_turn_bad(t, "tools", err, "tools[%zu]: has no function with a name", i);
        return NULL;
    }
    parameters = json_object_get(function, "parameters");
    if (parameters && !json_is_null(parameters) && !json_is_object(parameters)) {
        mlxr_turn_bad(t, "tools", err, "tools[%zu]: \"parameters\" is not an object", i);
        return NULL;
    }
    return name;
}

static bool has_tool(const json_t *tools, const char *name)
{
    for (size_t i = 0; name && i < json_array_size(tools); i++) {
        const json_t *f = json_object_get(json_array_get(tools, i), "function");
        const char *its = json_string_value(json_object_get(f, "name"));
        if (its && strcmp(its, name) == 0) return true;
    }
    return false;
}

/* A choice names a tool in "function" (chat completions) or itself (responses). */
static const char *named(const json_t *choice)
{
    const char *name = json_string_value(json_object_get(json_object_get(choice, "function"), "name"));

    return name ? name : json_string_value(json_object_get(choice, "name"));
}

static mlxr_status choose_word(mlxr_turn *t, const char *word, mlxr_error *err)
{
    mlxr_request *q = &t->request;

    if (word && strcmp(word, "auto") == 0)
        q->tool_choice = MLXR_TOOL_CHOICE_AUTO;
    else if (word && strcmp(word, "none") == 0)
        q->tool_choice = MLXR_TOOL_CHOICE_NONE;
    else if (word && strcmp(word, "required") == 0)
        q->tool_choice = MLXR_TOOL_CHOICE_REQUIRED;
    else
        return mlxr_turn_bad(
            t, "tool_choice", err,
            "request: \"tool_choice\" is none of \"auto\", \"none\", \"required\", a function and "
            "allowed_tools");
    return MLXR_OK;
}

/* Only those of a list are offered. */
static mlxr_status keep_allowed(mlxr_turn *t, json_t *tools, const json_t *allowed, mlxr_error *err)
{
    for (size_t i = 0; i < json_array_size(allowed); i++)
        if (!has_tool(tools, named(json_array_get(allowed, i))))
            return mlxr_turn_bad(t, "tool_choice", err,
                                 "request: \"tool_choice\" allows a tool that is not there");
    for (size_t i = json_array_size(tools); i-- > 0;) {
        const char *name = named(json_array_get(tools, i));
        bool keep = false;
        for (size_t k = 0; k < json_array_size(allowed) && !keep; k++)
            keep = strcmp(named(json_array_get(allowed, k)), name) == 0;
        if (!keep) json_array_remove(tools, i);
    }
    return MLXR_OK;
}

static mlxr_status choose(mlxr_turn *t, json_t *tools, const json_t *choice, mlxr_error *err)
{
    const json_t *kind = json_object_get(choice, "type");
    const char *type = json_string_value(kind), *name;

    if (kind && !type && !json_is_null(kind)) return choose_word(t, NULL, err);
    if (json_is_string(choice)) return choose_word(t, json_string_value(choice), err);
    if (type && strcmp(type, "allowed_tools") == 0) {
        const json_t *form = json_object_get(choice, "allowed_tools");
        mlxr_status st;
        if (!form) form = choice;
        if (!json_is_array(json_object_get(form, "tools")))
            return mlxr_turn_bad(t, "tool_choice", err,
                                 "request: \"tool_choice\" has no list of allowed tools");
        st = choose_word(t, json_string_value(json_object_get(form, "mode")), err);
        return st == MLXR_OK ? keep_allowed(t, tools, json_object_get(form, "tools"), err) : st;
    }
    if ((type && strcmp(type, "function") != 0) || !(name = named(choice))) return choose_word(t, NULL, err);
    if (!has_tool(tools, name))
        return mlxr_turn_bad(t, "tool_choice", err,
                             "request: \"tool_choice\" names \"%.100s\", which is no tool here", name);
    t->request.tool_choice = MLXR_TOOL_CHOICE_NAMED;
    t->request.tool_name = mlxr_arena_strndup(&t->arena, name, strlen(name));
    return t->request.tool_name ? MLXR_OK : mlxr_fail_nomem(err, "request");
}

mlxr_status mlxr_openai_tools(mlxr_turn *t, const json_t *tools, const json_t *choice, mlxr_error *err)
{
    json_t *list = json_array();
    mlxr_status st = list ? MLXR_OK : mlxr_fail_nomem(err, "tools");

    for (size_t i = 0; i < json_array_size(tools) && st == MLXR_OK; i++) {
        json_t *tool = json_array_get(tools, i);
        const char *name = tool_name(t, tool, i, err);
        if (!name)
            st = MLXR_E_INVALID_ARGUMENT;
        else if (has_tool(list, name))
            st = mlxr_turn_bad(t, "tools", err, "tools[%zu]: there is a tool \"%.100s\" already", i, name);
        else if (json_array_append(list, tool) != 0)
            st = mlxr_fail_nomem(err, "tools");
    }
    if (st == MLXR_OK && choice) st = choose(t, list, choice, err);
    if (st == MLXR_OK && json_array_size(list) && !(t->request.tools_json = mlxr_turn_dump(t, list)))
        st = mlxr_fail_nomem(err, "tools");
    if (st == MLXR_OK && !json_array_size(list)) {
        if (t->request.tool_choice >= MLXR_TOOL_CHOICE_REQUIRED)
            st = mlxr_turn_bad(t, "tool_choice", err,
                               "request: \"tool_choice\" wants a call, but there are no tools");
        t->request.tool_choice = MLXR_TOOL_CHOICE_AUTO;
    }
    json_decref(list);
    return st;
}
