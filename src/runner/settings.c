/* settings: see settings.h. */
#include "runner/settings.h"

#include <stdlib.h>

#include "base/fs.h"
#include "base/parameters.h"

enum { MAX_FILE = 16 << 20, MAX_MESSAGES = 10000 };

void mlxr_settings_clear(mlxr_settings *s)
{
    json_decref(s->doc);
    free(s->stop);
    free(s->breakers);
    free(s->biases);
    *s = (mlxr_settings){0};
}

/* ---- reading ---- */

/* The texts of a list that has been checked; NULL with *n > 0: out of memory. */
static const char **texts_of(const json_t *list, size_t *n)
{
    const char **out;

    *n = json_array_size(list);
    out = *n ? mlxr_calloc_array(*n, sizeof(char *)) : NULL;
    for (size_t i = 0; out && i < *n; i++) out[i] = json_string_value(json_array_get(list, i));
    return out;
}

static mlxr_status read_lists(mlxr_settings *s, const char *path, mlxr_error *err)
{
    const json_t *biases = json_object_get(s->parameters, "logit_bias");

    s->stop = texts_of(json_object_get(s->parameters, "stop"), &s->n_stop);
    s->breakers = texts_of(json_object_get(s->parameters, "dry_sequence_breaker"), &s->n_breakers);
    s->n_biases = json_array_size(biases);
    if (s->n_biases) s->biases = mlxr_calloc_array(s->n_biases, sizeof *s->biases);
    if ((s->n_stop && !s->stop) || (s->n_breakers && !s->breakers) || (s->n_biases && !s->biases))
        return mlxr_fail_nomem(err, path);
    for (size_t i = 0; i < s->n_biases; i++)
        mlxr_parameter_bias(&s->biases[i], json_string_value(json_array_get(biases, i)));
    return MLXR_OK;
}

static mlxr_status read_parameters(mlxr_settings *s, const char *path, mlxr_error *err)
{
    json_t *parameters = json_object_get(s->doc, "parameters"), *own = json_object(), *value;
    const char *name;
    mlxr_status st = own ? MLXR_OK : mlxr_fail_nomem(err, path);

    if (st == MLXR_OK && !json_is_object(parameters))
        st = mlxr_fail(err, MLXR_E_FORMAT, "%s: \"parameters\" is not an object", path);
    json_object_foreach(parameters, name, value)
    {
        const mlxr_parameter *p = mlxr_parameter_find(name);
        json_t *checked = json_incref(value);
        const char *wants = st == MLXR_OK && p ? mlxr_parameter_check(p, &checked, false) : NULL;
        if (st == MLXR_OK && !p)
            st = mlxr_fail(err, MLXR_E_FORMAT, "%s: there is no parameter \"%.200s\"", path, name);
        else if (wants)
            st = mlxr_fail(err, MLXR_E_FORMAT, "%s: the parameter %s wants %s", path, name, wants);
        else if (st == MLXR_OK && p->kind != MLXR_PARAMETER_OTHER && json_object_set(own, name, checked) != 0)
            st = mlxr_fail_nomem(err, path);
        json_decref(checked);
    }
    /* In place of what the file has, for which s keeps no pointer. */
    if (st == MLXR_OK && json_object_set(s->doc, "parameters", own) != 0) st = mlxr_fail_nomem(err, path);
    json_decref(own);
    if (st != MLXR_OK) return st;
    s->parameters = json_object_get(s->doc, "parameters");
    s->context_length = (size_t)json_integer_value(json_object_get(s->parameters, "num_ctx"));
    return read_lists(s, path, err);
}

static bool is_text(const json_t *v)
{
    return json_is_string(v) && strlen(json_string_value(v)) == json_string_length(v);
}

static mlxr_status read_messages(mlxr_settings *s, const char *path, mlxr_error *err)
{
    const json_t *messages = json_object_get(s->doc, "messages");

    if (!json_is_array(messages) || json_array_size(messages) > MAX_MESSAGES)
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: \"messages\" is not a list of at most %d", path,
                         (int)MAX_MESSAGES);
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *m = json_array_get(messages, i), *role = json_object_get(m, "role");
        const char *word = json_string_value(role);
        if (!is_text(role) || !is_text(json_object_get(m, "content")))
            return mlxr_fail(err, MLXR_E_FORMAT, "%s: message %zu has no \"role\" and \"content\" as texts",
                             path, i);
        if (strcmp(word, "system") != 0 && strcmp(word, "user") != 0 && strcmp(word, "assistant") != 0)
            return mlxr_fail(err, MLXR_E_FORMAT,
                             "%s: message %zu: the role \"%.200s\" is none of system, user and assistant",
                             path, i, word);
    }
    s->messages = messages;
    return MLXR_OK;
}

static bool has(const mlxr_settings *s, const char *key)
{
    const json_t *v = json_object_get(s->doc, key);
    return v && !json_is_null(v);
}

mlxr_status mlxr_settings_read(mlxr_settings *s, const char *dir, mlxr_error *err)
{
    char *path = mlxr_path_join(dir, "mlxr.json");
    int64_t version = 0;
    mlxr_status st;

    *s = (mlxr_settings){0};
    if (!path) return mlxr_fail_nomem(err, "mlxr.json");
    st = mlxr_json_read(&s->doc, path, MAX_FILE, err);
    if (st == MLXR_E_NOT_FOUND) st = MLXR_OK;
    if (st != MLXR_OK || !s->doc) goto done;
    if (!json_is_object(s->doc)) {
        st = mlxr_fail(err, MLXR_E_FORMAT, "%s: is not a JSON object", path);
        goto done;
    }
    if ((st = mlxr_json_get_int(&version, s->doc, "mlxr", 0, INT32_MAX, path, err)) != MLXR_OK) goto done;
    if (version != 1) {
        st = has(s, "mlxr")
                 ? mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s: \"mlxr\" is %lld, and this library knows 1", path,
                             (long long)version)
                 : mlxr_fail(err, MLXR_E_FORMAT, "%s: has no \"mlxr\": 1", path);
        goto done;
    }
    if ((st = mlxr_json_get_str(&s->system, s->doc, "system", path, err)) != MLXR_OK) goto done;
    if (has(s, "parameters") && (st = read_parameters(s, path, err)) != MLXR_OK) goto done;
    if (has(s, "messages")) st = read_messages(s, path, err);
done:
    free(path);
    return st;
}

/* ---- applying ---- */

void mlxr_settings_sampling(const mlxr_settings *s, mlxr_sampling *out)
{
    const mlxr_parameter *p;
    const json_t *v;

    for (size_t i = 0; (p = mlxr_parameter_at(i)) != NULL; i++) {
        if (!(v = json_object_get(s->parameters, p->name))) continue;
        if (p->kind == MLXR_PARAMETER_REAL)
            *(float *)(void *)((char *)out + p->offset) = (float)json_number_value(v);
        else if (p->kind == MLXR_PARAMETER_INT)
            *(int32_t *)(void *)((char *)out + p->offset) = (int32_t)json_integer_value(v);
        else if (p->kind == MLXR_PARAMETER_SEED)
            out->seed = json_integer_value(v);
    }
    if (s->n_breakers) {
        out->dry_sequence_breakers = s->breakers;
        out->n_dry_sequence_breakers = s->n_breakers;
    }
    if (s->n_biases) {
        out->logit_bias = s->biases;
        out->n_logit_bias = s->n_biases;
    }
}

/* only_defaults: where r has a value of its own, that stays. */
static void apply_request(const mlxr_settings *s, mlxr_request *r, bool only_defaults)
{
    const mlxr_request given = mlxr_request_default();
    const char *overflow = json_string_value(json_object_get(s->parameters, "overflow"));
    const mlxr_parameter *p;
    const json_t *v;

    for (size_t i = 0; (p = mlxr_parameter_at(i)) != NULL; i++) {
        int32_t *field;
        if (p->kind != MLXR_PARAMETER_REQUEST || !(v = json_object_get(s->parameters, p->name))) continue;
        /* two names of one thing: the first counts */
        if (strcmp(p->name, "num_predict") == 0 && json_object_get(s->parameters, "max_tokens")) continue;
        field = (int32_t *)(void *)((char *)r + p->offset);
        if (!only_defaults || *field == *(const int32_t *)(const void *)((const char *)&given + p->offset))
            *field = (int32_t)json_integer_value(v);
    }
    if (overflow && (!only_defaults || r->overflow == given.overflow))
        r->overflow = *overflow == 'e'   ? MLXR_OVERFLOW_ERROR
                      : *overflow == 't' ? MLXR_OVERFLOW_TRUNCATE
                                         : MLXR_OVERFLOW_SHIFT;
}

void mlxr_settings_apply(const mlxr_settings *s, mlxr_request *r)
{
    mlxr_settings_sampling(s, &r->sampling);
    apply_request(s, r, false);
}

mlxr_status mlxr_settings_request(const mlxr_settings *s, mlxr_request *out, const char ***stops,
                                  const mlxr_request *r, mlxr_error *err)
{
    size_t n;

    *stops = NULL;
    *out = *r;
    apply_request(s, out, true);
    if (!s->n_stop) return MLXR_OK;
    if (!mlxr_add_size(&n, r->n_stop, s->n_stop) || !(*stops = mlxr_malloc_array(n, sizeof(char *))))
        return mlxr_fail_nomem(err, "request: stop strings");
    if (r->n_stop) memcpy((void *)*stops, (const void *)r->stop, r->n_stop * sizeof(char *));
    memcpy((void *)(*stops + r->n_stop), (const void *)s->stop, s->n_stop * sizeof(char *));
    out->stop = *stops;
    out->n_stop = n;
    return MLXR_OK;
}

/* "developer" is what OpenAI's API calls it. */
static bool is_system(const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    return role && (strcmp(role, "system") == 0 || strcmp(role, "developer") == 0);
}

mlxr_status mlxr_settings_messages(const mlxr_settings *s, json_t *messages, bool has_system, mlxr_error *err)
{
    size_t at = is_system(json_array_get(messages, 0));
    bool ok = true;

    has_system |= at == 1;
    if (!has_system && s->system && *s->system) {
        json_t *system = json_pack("{s:s, s:s}", "role", "system", "content", s->system);
        ok = system && json_array_insert_new(messages, 0, system) == 0;
        has_system = true;
        at = 1;
    }
    for (size_t i = 0; ok && i < json_array_size(s->messages); i++) {
        const json_t *m = json_array_get(s->messages, i);
        if (i == 0 && has_system && is_system(m)) continue; /* one of them is enough */
        ok = json_array_insert_new(messages, at++, json_deep_copy(m)) == 0;
    }
    return ok ? MLXR_OK : mlxr_fail_nomem(err, "mlxr.json");
}
