/* Chat templates of model folders, by the rules of transformers' tokenizers (tokenization_utils_base.py,
 * from_pretrained and apply_chat_template). */
#include "text/chat_template.h"

#include <dirent.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/json.h"
#include "text/template/template.h"

enum { MAX_TEMPLATE_BYTES = 16 << 20, MAX_CONFIG_BYTES = 256 << 20, MAX_TEMPLATES = 64 };

typedef struct named_template {
    char *name, *source;
    mlxr_template *t;
} named_template;

struct mlxr_chat_template {
    char *path;
    named_template *list;
    size_t n;
    json_t *tokens;
    json_t *defaults; /* NULL for a template file: nothing is added to the context */
};

static mlxr_status add_template(mlxr_chat_template *ct, const char *name, const char *source, size_t n,
                                const char *label, mlxr_error *err)
{
    named_template *grown, *t = NULL;
    mlxr_template *compiled;
    mlxr_status st = mlxr_template_create(&compiled, source, n, label, err);

    if (st != MLXR_OK) return st;
    for (size_t i = 0; i < ct->n; i++)
        if (strcmp(ct->list[i].name, name) == 0) t = &ct->list[i];
    if (t) { /* a list may name one twice: the last counts */
        mlxr_template_free(t->t);
        free(t->name);
        free(t->source);
    } else {
        if (ct->n >= MAX_TEMPLATES) {
            mlxr_template_free(compiled);
            return mlxr_fail(err, MLXR_E_LIMIT, "%s: more than %d chat templates", ct->path, MAX_TEMPLATES);
        }
        grown = mlxr_realloc_array(ct->list, ct->n + 1, sizeof *grown);
        if (!grown) {
            mlxr_template_free(compiled);
            return mlxr_fail_nomem(err, "chat template");
        }
        ct->list = grown;
        t = &grown[ct->n++];
    }
    *t = (named_template){mlxr_strdup(name), mlxr_strndup(source, n), compiled};
    return t->name && t->source ? MLXR_OK : mlxr_fail_nomem(err, "chat template");
}

static mlxr_status add_file(mlxr_chat_template *ct, const char *name, const char *path, mlxr_error *err)
{
    mlxr_buf text = {0};
    mlxr_status st = mlxr_file_read(&text, path, MAX_TEMPLATE_BYTES, err);
    if (st == MLXR_OK) st = add_template(ct, name, text.data ? text.data : "", text.len, path, err);
    mlxr_buf_clear(&text);
    return st;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* additional_chat_templates/NAME.jinja, in the order of their names */
static mlxr_status add_folder(mlxr_chat_template *ct, const char *dir, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;
    DIR *d = opendir(dir);
    char **names = NULL;
    size_t n = 0;
    struct dirent *e;

    if (!d) return MLXR_OK;
    while ((e = readdir(d)) != NULL) {
        size_t len = strlen(e->d_name);
        char **grown;
        if (len <= 6 || strcmp(e->d_name + len - 6, ".jinja") != 0) continue;
        if (n >= MAX_TEMPLATES) {
            st = mlxr_fail(err, MLXR_E_LIMIT, "%s: more than %d chat templates", dir, MAX_TEMPLATES);
            break;
        }
        grown = mlxr_realloc_array(names, n + 1, sizeof *names);
        if (!grown || !(grown[n] = mlxr_strndup(e->d_name, len - 6))) {
            if (grown) names = grown;
            st = mlxr_fail_nomem(err, "chat template");
            break;
        }
        names = grown;
        n++;
    }
    closedir(d);
    if (n) qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < n; i++) {
        char *path = st == MLXR_OK ? mlxr_asprintf("%s/%s.jinja", dir, names[i]) : NULL;
        if (st == MLXR_OK)
            st = path ? add_file(ct, names[i], path, err) : mlxr_fail_nomem(err, "chat template");
        free(path);
        free(names[i]);
    }
    free(names);
    return st;
}

/* "chat_template" of a configuration: one text, or a list of named ones. */
static mlxr_status add_config(mlxr_chat_template *ct, const json_t *config, const char *label,
                              mlxr_error *err)
{
    json_t *x = json_object_get(config, "chat_template"), *item;
    size_t i;
    mlxr_status st;

    if (!x || json_is_null(x)) return MLXR_OK;
    if (json_is_string(x))
        return add_template(ct, "default", json_string_value(x), json_string_length(x), label, err);
    if (!json_is_array(x))
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: \"chat_template\" is neither a string nor a list", label);
    json_array_foreach(x, i, item)
    {
        json_t *name = json_object_get(item, "name"), *text = json_object_get(item, "template");
        if (!json_is_string(name) || !json_is_string(text))
            return mlxr_fail(err, MLXR_E_FORMAT,
                             "%s: \"chat_template\"[%zu] has no \"name\" and \"template\"", label, i);
        st = add_template(ct, json_string_value(name), json_string_value(text), json_string_length(text),
                          label, err);
        if (st != MLXR_OK) return st;
    }
    return MLXR_OK;
}

/* A token's text: a string, or an added token's {"content"}. NULL: none. */
static json_t *token_text(json_t *x)
{
    if (json_is_object(x)) x = json_object_get(x, "content");
    return json_is_string(x) ? x : NULL;
}

static mlxr_status add_token(mlxr_chat_template *ct, const char *name, json_t *value, mlxr_error *err)
{
    json_t *text = token_text(value);
    if (!text || json_object_get(ct->tokens, name)) return MLXR_OK;
    return json_object_set(ct->tokens, name, text) < 0 ? mlxr_fail_nomem(err, "chat template") : MLXR_OK;
}

/* The named tokens: "bos_token" and the others every tokenizer may have, a model's own "..._token", and the names
 * under "extra_special_tokens". What was added before stays. */
static mlxr_status add_tokens(mlxr_chat_template *ct, json_t *config, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;
    const char *key;
    json_t *value;

    json_object_foreach(config, key, value)
    {
        size_t n = strlen(key);
        if (n > 6 && strcmp(key + n - 6, "_token") == 0) st = add_token(ct, key, value, err);
        if (st != MLXR_OK) return st;
    }
    json_object_foreach(json_object_get(config, "extra_special_tokens"), key,
                        value) if ((st = add_token(ct, key, value, err)) != MLXR_OK) return st;
    return st;
}

static mlxr_status read_optional(json_t **out, const char *dir, const char *name, char **path,
                                 mlxr_error *err)
{
    *out = NULL;
    *path = mlxr_path_join(dir, name);
    if (!*path) return mlxr_fail_nomem(err, "chat template");
    if (!mlxr_path_is_file(*path)) return MLXR_OK;
    return mlxr_json_read(out, *path, MAX_CONFIG_BYTES, err);
}

/* What apply_chat_template passes besides the caller's own variables. */
static mlxr_status make_defaults(mlxr_chat_template *ct, mlxr_error *err)
{
    ct->defaults = json_pack("{s:n, s:n, s:n, s:b}", "messages", "tools", "documents",
                             "add_generation_prompt", 0);
    if (!ct->defaults || json_object_update(ct->defaults, ct->tokens) < 0)
        return mlxr_fail_nomem(err, "chat template");
    return MLXR_OK;
}

static mlxr_status open_folder(mlxr_chat_template *ct, const char *fallback, mlxr_error *err)
{
    char *jinja = mlxr_path_join(ct->path, "chat_template.jinja");
    char *extra = mlxr_path_join(ct->path, "additional_chat_templates");
    char *config_path = NULL, *legacy_path = NULL, *map_path = NULL;
    json_t *config = NULL, *legacy = NULL, *map = NULL;
    mlxr_status st;

    if (!jinja || !extra) {
        st = mlxr_fail_nomem(err, "chat template");
        goto done;
    }
    if ((st = read_optional(&config, ct->path, "tokenizer_config.json", &config_path, err)) != MLXR_OK)
        goto done;
    if (mlxr_path_is_file(jinja) && (st = add_file(ct, "default", jinja, err)) != MLXR_OK) goto done;
    if ((st = add_folder(ct, extra, err)) != MLXR_OK) goto done;
    if (!ct->n && config && (st = add_config(ct, config, config_path, err)) != MLXR_OK) goto done;
    if (!ct->n) {
        if ((st = read_optional(&legacy, ct->path, "chat_template.json", &legacy_path, err)) != MLXR_OK)
            goto done;
        if (legacy && (st = add_config(ct, legacy, legacy_path, err)) != MLXR_OK) goto done;
    }
    if (!ct->n && fallback) {
        st = add_template(ct, "default", fallback, strlen(fallback), "built-in template", err);
        if (st != MLXR_OK) goto done;
    }
    if (!ct->n) {
        st = mlxr_fail(
            err, MLXR_E_NOT_FOUND,
            "%s: no chat template: looked for chat_template.jinja, additional_chat_templates/*.jinja, "
            "\"chat_template\" in tokenizer_config.json, and chat_template.json",
            ct->path);
        goto done;
    }
    /* the older file counts, and first, only where the configuration does not list the added tokens */
    if (!json_object_get(config, "added_tokens_decoder")) {
        if ((st = read_optional(&map, ct->path, "special_tokens_map.json", &map_path, err)) != MLXR_OK)
            goto done;
        if (map && (st = add_tokens(ct, map, err)) != MLXR_OK) goto done;
    }
    if (config && (st = add_tokens(ct, config, err)) != MLXR_OK) goto done;
    st = make_defaults(ct, err);
done:
    json_decref(config);
    json_decref(legacy);
    json_decref(map);
    free(jinja);
    free(extra);
    free(config_path);
    free(legacy_path);
    free(map_path);
    return st;
}

static mlxr_status open_path(mlxr_chat_template **out, const char *path, const char *fallback,
                             mlxr_error *err)
{
    mlxr_chat_template *ct = calloc(1, sizeof *ct);
    mlxr_status st;

    *out = NULL;
    if (!ct || !(ct->path = mlxr_strdup(path)) || !(ct->tokens = json_object())) {
        st = mlxr_fail_nomem(err, "chat template");
    } else if (mlxr_path_is_dir(path)) {
        st = open_folder(ct, fallback, err);
    } else if (mlxr_path_is_file(path)) {
        st = add_file(ct, "default", path, err);
    } else {
        st = mlxr_fail(err, MLXR_E_NOT_FOUND, "%s: no such file or folder", path);
    }
    if (st == MLXR_OK) {
        *out = ct;
        ct = NULL;
    }
    mlxr_chat_template_close(ct);
    return st;
}

mlxr_status mlxr_chat_template_open(mlxr_chat_template **out, const char *path, mlxr_error *err)
{
    return open_path(out, path, NULL, err);
}

mlxr_status mlxr_chat_template_open_with(mlxr_chat_template **out, const char *dir, const char *fallback,
                                         mlxr_error *err)
{
    return open_path(out, dir, fallback, err);
}

void mlxr_chat_template_close(mlxr_chat_template *ct)
{
    if (!ct) return;
    for (size_t i = 0; i < ct->n; i++) {
        mlxr_template_free(ct->list[i].t);
        free(ct->list[i].name);
        free(ct->list[i].source);
    }
    free(ct->list);
    json_decref(ct->tokens);
    json_decref(ct->defaults);
    free(ct->path);
    free(ct);
}

size_t mlxr_chat_template_count(const mlxr_chat_template *ct)
{
    return ct->n;
}

const char *mlxr_chat_template_name(const mlxr_chat_template *ct, size_t i)
{
    return i < ct->n ? ct->list[i].name : NULL;
}

const char *mlxr_chat_template_source(const mlxr_chat_template *ct, size_t i)
{
    return i < ct->n ? ct->list[i].source : NULL;
}

const json_t *mlxr_chat_template_tokens(const mlxr_chat_template *ct)
{
    return ct->tokens;
}

static const named_template *find(const mlxr_chat_template *ct, const char *name)
{
    for (size_t i = 0; i < ct->n; i++)
        if (strcmp(ct->list[i].name, name) == 0) return &ct->list[i];
    return NULL;
}

typedef struct choice {
    const mlxr_chat_template *ct;
    const char *name;
} choice;

static const mlxr_template *choose(void *ud, bool has_tools, mlxr_error *err)
{
    const choice *c = ud;
    const mlxr_chat_template *ct = c->ct;
    const named_template *t = NULL;
    mlxr_buf names = {0};

    if (c->name)
        t = find(ct, c->name);
    else if (has_tools)
        t = find(ct, "tool_use");
    if (!t && !c->name) t = find(ct, "default");
    if (t) return t->t;
    for (size_t i = 0; i < ct->n; i++) mlxr_buf_printf(&names, "%s\"%s\"", i ? ", " : "", ct->list[i].name);
    mlxr_fail(err, MLXR_E_NOT_FOUND, "%s: no chat template \"%s\", there are %s", ct->path,
              c->name ? c->name : "default", names.data ? names.data : "none");
    mlxr_buf_clear(&names);
    return NULL;
}

static mlxr_status render(char **out_text, size_t *out_n, const mlxr_chat_template *ct, render_input *in,
                          const char *name, int64_t now, const mlxr_template_limits *limits, mlxr_error *err)
{
    choice c = {ct, name};
    in->choose = choose;
    in->ud = &c; /* cppcheck-suppress autoVariables ; for the call below, which is all that reads it */
    in->defaults = ct->defaults;
    return template_render(out_text, out_n, in, now, limits, err);
}

mlxr_status mlxr_chat_template_render(char **out_text, size_t *out_n, const mlxr_chat_template *ct,
                                      json_t *context, const char *name, int64_t now,
                                      const mlxr_template_limits *limits, mlxr_error *err)
{
    render_input in = {.json = context};
    return render(out_text, out_n, ct, &in, name, now, limits, err);
}

mlxr_status mlxr_chat_template_render_text(char **out_text, size_t *out_n, const mlxr_chat_template *ct,
                                           const char *context_json, size_t n_context, const char *name,
                                           int64_t now, const mlxr_template_limits *limits, mlxr_error *err)
{
    render_input in = {.text = context_json, .n_text = n_context};
    return render(out_text, out_n, ct, &in, name, now, limits, err);
}
