/* chat: a conversation as a JSON file: {"model", "system", "parameters": {name: text}, "messages": [{"role", "content"}]}. */
#include <stdlib.h>

#include "base/fs.h"
#include "base/json.h"
#include "chat.h"

enum { MAX_FILE = 64 << 20 };

mlxr_status chat_save(const struct chat *c, const char *path, mlxr_error *err)
{
    json_t *doc = json_object(), *parameters = parameters_to_json(&c->parameters);
    char *text = NULL;
    mlxr_status st;

    if (!doc || !parameters ||
        json_object_set_new(doc, "model", json_string(c->model.model ? c->model.model : "")) != 0 ||
        (c->system && json_object_set_new(doc, "system", json_string(c->system)) != 0) ||
        json_object_set(doc, "parameters", parameters) != 0 ||
        json_object_set(doc, "messages", c->messages) != 0 || !(text = json_dumps(doc, JSON_INDENT(1)))) {
        st = mlxr_fail_nomem(err, path);
    } else {
        st = mlxr_file_write(path, text, strlen(text), err);
    }
    free(text);
    json_decref(doc);
    json_decref(parameters);
    return st;
}

static mlxr_status check_messages(const json_t *messages, const char *path, mlxr_error *err)
{
    if (!json_is_array(messages))
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: \"messages\" is not a list", path);
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *m = json_array_get(messages, i);
        if (!json_is_string(json_object_get(m, "role")) || !json_is_string(json_object_get(m, "content")))
            return mlxr_fail(err, MLXR_E_FORMAT, "%s: message %zu has no \"role\" and \"content\" as texts",
                             path, i);
    }
    return MLXR_OK;
}

static mlxr_status set_one(struct chat *c, struct parameters *p, const char *name, const json_t *value,
                           const char *path, mlxr_error *err)
{
    const char *text = json_string_value(value);

    if (!text) return mlxr_fail(err, MLXR_E_FORMAT, "%s: parameter \"%s\" is not a text", path, name);
    if (!(text = mlxr_arena_strndup(&c->texts, text, strlen(text)))) return mlxr_fail_nomem(err, path);
    if (parameters_set(p, name, text, err)) return MLXR_OK;
    mlxr_error_prefix(err, "%s: ", path);
    return MLXR_E_FORMAT;
}

static mlxr_status read_parameters(struct chat *c, struct parameters *p, json_t *from, const char *path,
                                   mlxr_error *err)
{
    const char *name;
    json_t *value;
    mlxr_status st = MLXR_OK;

    parameters_init(p);
    json_object_foreach(from, name, value)
    {
        if (!json_is_array(value)) st = set_one(c, p, name, value, path, err);
        for (size_t i = 0; i < json_array_size(value) && st == MLXR_OK; i++)
            st = set_one(c, p, name, json_array_get(value, i), path, err);
        if (st != MLXR_OK) break;
    }
    return st;
}

mlxr_status chat_load(struct chat *c, const char *path, mlxr_error *err)
{
    struct parameters parameters;
    json_t *doc;
    char *system = NULL;
    const char *text;
    mlxr_status st = mlxr_json_read(&doc, path, MAX_FILE, err);

    if (st != MLXR_OK) return st;
    if ((st = check_messages(json_object_get(doc, "messages"), path, err)) != MLXR_OK) goto done;
    if ((st = read_parameters(c, &parameters, json_object_get(doc, "parameters"), path, err)) != MLXR_OK)
        goto done;
    text = json_string_value(json_object_get(doc, "system"));
    if (text && !(system = mlxr_strdup(text))) {
        st = mlxr_fail_nomem(err, path);
        goto done;
    }
    free(c->system);
    c->system = system;
    c->parameters = parameters;
    json_decref(c->messages);
    c->messages = json_incref(json_object_get(doc, "messages"));
done:
    json_decref(doc);
    return st;
}
