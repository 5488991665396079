/* native: see native.h. */
#include "serve/native.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/parameters.h"

void mlxr_native_fail(mlxr_request_in *http, int status, const char *text)
{
    mlxr_buf out = {0};

    mlxr_buf_str(&out, "{\"error\":");
    mlxr_put_string(&out, text);
    mlxr_buf_str(&out, "}");
    mlxr_reply(http, status, "application/json; charset=utf-8", &out);
}

void mlxr_native_turn_fail(mlxr_turn *t, const mlxr_turn_error *error)
{
    if (!t->begun || !t->stream) {
        mlxr_native_fail(t->http, error->status, error->message);
        return;
    }
    t->out.len = 0;
    mlxr_buf_str(&t->out, "{\"error\":");
    mlxr_put_string(&t->out, error->message);
    mlxr_buf_str(&t->out, "}\n");
    mlxr_turn_push(t, &t->out);
    mlxr_reply_end(t->http);
}

/* ---- durations ---- */

static const struct {
    const char *name;
    double ns;
} units[] = {{"ns", 1}, {"us", 1e3}, {"\xc2\xb5s", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}};

bool mlxr_duration_parse(int64_t *out_ns, const char *text)
{
    bool negative = false;
    double sum = 0;

    if (*text == '-' || *text == '+') negative = *text++ == '-';
    if (strcmp(text, "0") == 0) {
        *out_ns = 0;
        return true;
    }
    if (!*text) return false;
    while (*text) {
        size_t n = strspn(text, "0123456789."), best = MLXR_COUNT(units), best_n = 0;
        char *end;
        double x;
        if (n == 0 || n > 30) return false;
        x = strtod(text, &end);
        if (end != text + n) return false;
        text = end;
        for (size_t i = 0; i < MLXR_COUNT(units); i++) {
            size_t k = strlen(units[i].name);
            if (k > best_n && strncmp(text, units[i].name, k) == 0) {
                best = i;
                best_n = k;
            }
        }
        if (best == MLXR_COUNT(units)) return false;
        sum += x * units[best].ns;
        text += best_n;
    }
    if (!(sum < 9.2e18)) return false;
    *out_ns = (int64_t)(negative ? -sum : sum);
    return true;
}

mlxr_status mlxr_native_keep_alive(int64_t *out_ns, const json_t *value, mlxr_error *err)
{
    if (json_is_number(value)) {
        double s = json_number_value(value);
        *out_ns = s < 0 || s > 9e9 ? MLXR_KEEP_FOREVER : (int64_t)(s * 1e9);
        return MLXR_OK;
    }
    if (json_is_string(value)) {
        if (strlen(json_string_value(value)) != json_string_length(value) ||
            !mlxr_duration_parse(out_ns, json_string_value(value)))
            return mlxr_fail(
                err, MLXR_E_INVALID_ARGUMENT,
                "request: \"keep_alive\" is \"%.60s\", wanted seconds, or a duration such as \"5m\"",
                json_string_value(value));
        if (*out_ns < 0) *out_ns = MLXR_KEEP_FOREVER;
        return MLXR_OK;
    }
    return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "request: \"keep_alive\" is neither a number nor a text");
}

mlxr_status mlxr_native_think(mlxr_think *out, const json_t *value, mlxr_error *err)
{
    char *text;
    mlxr_status st;
    static const struct {
        const char *word;
        mlxr_think think;
    } words[] = {{"low", MLXR_THINK_LOW},
                 {"medium", MLXR_THINK_MEDIUM},
                 {"high", MLXR_THINK_HIGH},
                 {"max", MLXR_THINK_HIGH}};

    if (json_is_boolean(value)) {
        *out = json_is_true(value) ? MLXR_THINK_ON : MLXR_THINK_OFF;
        return MLXR_OK;
    }
    if (json_is_string(value))
        for (size_t i = 0; i < MLXR_COUNT(words); i++)
            if (strcmp(json_string_value(value), words[i].word) == 0) {
                *out = words[i].think;
                return MLXR_OK;
            }
    text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    st = mlxr_fail(
        err, MLXR_E_INVALID_ARGUMENT,
        "invalid think value: %.100s (must be \"high\", \"medium\", \"low\", \"max\", true, or false)",
        text ? text : "?");
    free(text);
    return st;
}

/* ---- what every endpoint has ---- */

mlxr_status mlxr_native_warn(mlxr_turn *t, mlxr_error *err, const char *fmt, ...)
{
    char text[400];
    va_list ap;

    if (!t->warnings) return MLXR_OK;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    text[mlxr_utf8_valid(text, strlen(text))] = '\0'; /* a name that was cut within a character */
    return json_array_append_new(t->warnings, json_string(text)) == 0 ? MLXR_OK
                                                                      : mlxr_fail_nomem(err, "request");
}

void mlxr_native_put_warnings(const mlxr_turn *t, mlxr_buf *out)
{
    mlxr_put_json_member(out, "warnings", t->warnings);
}

mlxr_status mlxr_native_read_model(mlxr_turn *t, const char *model, int missing_status,
                                   const json_t *keep_alive, mlxr_error *err)
{
    if (!model || !*model) {
        t->error_status = missing_status;
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s",
                         missing_status == 404 ? "model '' not found" : "model is required");
    }
    t->model_name = mlxr_arena_strndup(&t->arena, model, strlen(model));
    if (!t->model_name) return mlxr_fail_nomem(err, "request");
    return keep_alive ? mlxr_native_keep_alive(&t->keep_alive_ns, keep_alive, err) : MLXR_OK;
}

mlxr_status mlxr_native_ids(int32_t **out, size_t *n, mlxr_turn *t, const json_t *list, const char *what,
                            mlxr_error *err)
{
    *n = json_array_size(list);
    *out = mlxr_arena_calloc(&t->arena, *n + 1, sizeof **out);
    if (!*out) return mlxr_fail_nomem(err, "request");
    for (size_t i = 0; i < *n; i++) {
        const json_t *v = json_array_get(list, i);
        double x = json_number_value(v);
        if (!json_is_number(v) || !(x >= 0 && x <= INT32_MAX) || x != (double)(int32_t)x)
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s: element %zu is no token id", what, i);
        (*out)[i] = (int32_t)x;
    }
    return MLXR_OK;
}

/* ---- options ---- */

const char *mlxr_native_option_type(const mlxr_parameter *p)
{
    switch (p->kind) {
    case MLXR_PARAMETER_REAL: return "float32";
    case MLXR_PARAMETER_STOP:
    case MLXR_PARAMETER_BREAKERS:
    case MLXR_PARAMETER_BIASES: return "array";
    case MLXR_PARAMETER_OVERFLOW: return "string";
    case MLXR_PARAMETER_OTHER:
        if (mlxr_parameter_is_switch(p)) return "boolean";
        return strcmp(p->name, "tfs_z") == 0 ? "float32" : "integer";
    default: return "integer";
    }
}

static bool has_type(const mlxr_parameter *p, const json_t *v)
{
    switch (*mlxr_native_option_type(p)) {
    case 'a': return json_is_array(v) || json_is_string(v);
    case 's': return json_is_string(v);
    case 'b': return json_is_boolean(v);
    default: return json_is_number(v);
    }
}

/* Whole numbers below what there is: Ollama takes them for the same as the least. */
static const struct {
    const char *name;
    int least;
} open[] = {{"num_predict", -1}, {"max_tokens", -1}, {"seed", -1}, {"top_k", 0}, {"repeat_last_n", -1}};

bool mlxr_native_option_is_open(const mlxr_parameter *p)
{
    for (size_t i = 0; i < MLXR_COUNT(open); i++)
        if (strcmp(p->name, open[i].name) == 0) return true;
    return false;
}

static json_t *soften(const mlxr_parameter *p, json_t *v)
{
    for (size_t i = 0; i < MLXR_COUNT(open); i++)
        if (strcmp(p->name, open[i].name) == 0 && json_is_number(v) && json_number_value(v) < open[i].least)
            return json_integer(open[i].least);
    return json_incref(v);
}

static const char **list_texts(mlxr_turn *t, const json_t *list)
{
    const char **out = mlxr_arena_calloc(&t->arena, json_array_size(list) + 1, sizeof *out);

    for (size_t i = 0; out && i < json_array_size(list); i++)
        out[i] = json_string_value(json_array_get(list, i));
    return out;
}

static mlxr_status set_biases(mlxr_turn *t, const json_t *list, mlxr_error *err)
{
    size_t n = json_array_size(list);
    mlxr_logit_bias *b = mlxr_arena_calloc(&t->arena, n + 1, sizeof *b);

    if (!b) return mlxr_fail_nomem(err, "request");
    for (size_t i = 0; i < n; i++) mlxr_parameter_bias(&b[i], json_string_value(json_array_get(list, i)));
    t->request.sampling.logit_bias = b;
    t->request.sampling.n_logit_bias = n;
    return MLXR_OK;
}

/* The value, checked, into the request. */
static mlxr_status set_option(mlxr_turn *t, const mlxr_parameter *p, const json_t *v, mlxr_error *err)
{
    mlxr_request *q = &t->request;
    const char *word;

    switch (p->kind) {
    case MLXR_PARAMETER_REAL:
        *(float *)(void *)((char *)&q->sampling + p->offset) = (float)json_number_value(v);
        break;
    case MLXR_PARAMETER_INT:
        *(int32_t *)(void *)((char *)&q->sampling + p->offset) = (int32_t)json_integer_value(v);
        break;
    case MLXR_PARAMETER_REQUEST:
        *(int32_t *)(void *)((char *)q + p->offset) = (int32_t)json_integer_value(v);
        break;
    case MLXR_PARAMETER_SEED: q->sampling.seed = json_integer_value(v); break;
    case MLXR_PARAMETER_CONTEXT: t->context_length = (size_t)json_integer_value(v); break;
    case MLXR_PARAMETER_OVERFLOW:
        word = json_string_value(v);
        q->overflow = *word == 'e'   ? MLXR_OVERFLOW_ERROR
                      : *word == 't' ? MLXR_OVERFLOW_TRUNCATE
                                     : MLXR_OVERFLOW_SHIFT;
        break;
    case MLXR_PARAMETER_STOP:
        if (!(q->stop = list_texts(t, v))) return mlxr_fail_nomem(err, "request");
        q->n_stop = json_array_size(v);
        break;
    case MLXR_PARAMETER_BREAKERS:
        if (!(q->sampling.dry_sequence_breakers = list_texts(t, v))) return mlxr_fail_nomem(err, "request");
        q->sampling.n_dry_sequence_breakers = json_array_size(v);
        break;
    case MLXR_PARAMETER_BIASES: return set_biases(t, v, err);
    case MLXR_PARAMETER_OTHER: return mlxr_native_warn(t, err, "options: \"%s\" has no effect here", p->name);
    }
    return MLXR_OK;
}

mlxr_status mlxr_native_options(mlxr_turn *t, const json_t *options, mlxr_error *err)
{
    json_t *copy = json_copy((json_t *)(uintptr_t)options);
    const char *name;
    json_t *value;
    void *tmp;
    mlxr_status st = MLXR_OK;

    if (!copy) return mlxr_fail_nomem(err, "request");
    json_object_foreach_safe(copy, tmp, name, value)
    {
        const mlxr_parameter *p = mlxr_parameter_find(name);
        json_t *own;
        const char *wants;
        if (json_is_null(value)) continue;
        if (!p && t->serve->strict) {
            st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "options: \"%.100s\" is unknown here", name);
            break;
        }
        if (!p) {
            st = mlxr_native_warn(t, err, "options: \"%.100s\" is unknown here", name);
            if (st != MLXR_OK) break;
            continue;
        }
        if (!has_type(p, value)) {
            st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "option \"%s\" must be of type %s", name,
                           mlxr_native_option_type(p));
            break;
        }
        if (!(own = soften(p, value))) {
            st = mlxr_fail_nomem(err, "request");
            break;
        }
        wants = mlxr_parameter_check(p, &own, false);
        /* What was put into its own form stays with the body, as long as which the texts are borrowed. */
        if (!wants && own != value && json_object_set((json_t *)(uintptr_t)options, name, own) != 0)
            wants = "out of memory";
        if (wants)
            st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "option \"%s\" must be %s", name, wants);
        else
            st = set_option(t, p, own, err);
        json_decref(own);
        if (st != MLXR_OK) break;
    }
    json_decref(copy);
    if (st != MLXR_OK) t->error_field = "options";
    return st;
}
