/* openai: see openai.h. Here: errors, what all that generates has in common, the table of endpoints. */
#include "serve/openai.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "runner/engine_api.h"
#include "serve/native.h"
#include "serve/receipt.h"

/* ---- errors ---- */

const char *mlxr_openai_error_type(int status)
{
    return status == 404                   ? "not_found_error"
           : status == 401                 ? "authentication_error"
           : status == 403                 ? "permission_error"
           : status == 429                 ? "rate_limit_error"
           : status >= 400 && status < 500 ? "invalid_request_error"
                                           : "api_error";
}

const char *mlxr_openai_error_code(const mlxr_turn_error *e)
{
    if (e->code == MLXR_E_CONTEXT_OVERFLOW) return "context_length_exceeded";
    if (e->status == 404 && e->code == MLXR_E_NOT_FOUND) return "model_not_found";
    return NULL;
}

void mlxr_openai_put_error(mlxr_buf *out, int status, const char *text, const char *param, const char *code)
{
    mlxr_buf_str(out, "{\"message\":");
    mlxr_put_string(out, text);
    mlxr_buf_printf(out, ",\"type\":\"%s\",\"param\":", mlxr_openai_error_type(status));
    mlxr_put_string(out, param);
    mlxr_buf_str(out, ",\"code\":");
    mlxr_put_string(out, code);
    mlxr_buf_char(out, '}');
}

static void reply_error(mlxr_request_in *http, int status, const char *text, const char *param,
                        const char *code)
{
    mlxr_buf out = {0};

    mlxr_buf_str(&out, "{\"error\":");
    mlxr_openai_put_error(&out, status, text, param, code);
    mlxr_buf_char(&out, '}');
    mlxr_reply(http, status, "application/json; charset=utf-8", &out);
}

void mlxr_openai_fail(mlxr_request_in *http, int status, const char *text, const char *param)
{
    reply_error(http, status, text, param, status == 401 ? "invalid_api_key" : NULL);
}

void mlxr_openai_turn_fail(mlxr_turn *t, const mlxr_turn_error *error)
{
    const char *code = mlxr_openai_error_code(error),
               *param = code && *code == 'm' && !error->field ? "model" : error->field;

    if (!t->begun || !t->stream) {
        reply_error(t->http, error->status, error->message, param, code);
        return;
    }
    t->out.len = 0;
    mlxr_buf_str(&t->out, "data: {\"error\":");
    mlxr_openai_put_error(&t->out, error->status, error->message, param, code);
    mlxr_buf_str(&t->out, "}\n\ndata: [DONE]\n\n");
    mlxr_turn_push(t, &t->out);
    mlxr_reply_end(t->http);
}

mlxr_status mlxr_openai_warn(mlxr_turn *t, mlxr_error *err, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    json_t *s;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (size_t i = 0; i < json_array_size(t->warnings); i++) {
        const char *other = json_string_value(json_array_get(t->warnings, i));
        if (other && strcmp(other, text) == 0) return MLXR_OK;
    }
    s = json_stringn(text, mlxr_utf8_valid(text, strlen(text)));
    return json_array_append_new(t->warnings, s) == 0 ? MLXR_OK : mlxr_fail_nomem(err, "request");
}

/* ---- fields in common ---- */

mlxr_status mlxr_openai_take_keep_alive(void *into, const mlxr_field *f, const json_t *v, mlxr_error *err)
{
    ((mlxr_openai_common *)into)->keep_alive = v;
    return MLXR_OK;
}

mlxr_status mlxr_openai_take_stop(void *into, const mlxr_field *f, const json_t *v, mlxr_error *err)
{
    ((mlxr_openai_common *)into)->stop = v;
    return MLXR_OK;
}

void mlxr_openai_common_init(mlxr_openai_common *c)
{
    c->temperature = c->top_p = c->frequency_penalty = c->presence_penalty = c->min_p = c->repeat_penalty =
        NAN;
    c->seed = c->top_k = c->n = MLXR_OPENAI_ABSENT;
}

static mlxr_status read_stop(mlxr_turn *t, const json_t *v, mlxr_error *err)
{
    size_t n = json_is_string(v) ? 1 : json_array_size(v), n_texts = 0;
    const char **stop = mlxr_arena_calloc(&t->arena, n + 1, sizeof *stop);

    if (!stop) return mlxr_fail_nomem(err, "request");
    if (n > 64) return mlxr_turn_bad(t, "stop", err, "request: \"stop\" has %zu texts, wanted at most 64", n);
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_is_string(v) ? v : json_array_get(v, i);
        const char *s = json_string_value(one);
        if (!s || strlen(s) != json_string_length(one))
            return mlxr_turn_bad(t, "stop", err, "request: \"stop\" is neither a text nor a list of texts");
        if (*s) stop[n_texts++] = s; /* an empty one asks for nothing */
    }
    t->request.stop = stop;
    t->request.n_stop = n_texts;
    return MLXR_OK;
}

static mlxr_status read_stream_options(mlxr_turn *t, mlxr_openai_common *c, mlxr_error *err)
{
    const char *key;
    json_t *v;
    mlxr_status st = MLXR_OK;

    json_object_foreach((json_t *)(uintptr_t)c->stream_options, key, v)
    {
        bool usage = strcmp(key, "include_usage") == 0;
        if (json_is_null(v)) continue;
        if (!usage && strcmp(key, "include_obfuscation") != 0) {
            if (t->serve->strict)
                return mlxr_turn_bad(t, "stream_options", err, "stream_options: \"%.100s\" is unknown here",
                                     key);
            st = mlxr_openai_warn(t, err, "stream_options: \"%.100s\" is unknown here", key);
        } else if (!json_is_boolean(v)) {
            return mlxr_turn_bad(t, "stream_options", err, "stream_options: \"%s\" is not true or false",
                                 key);
        } else if (usage) {
            c->include_usage = json_is_true(v);
        } else if (json_is_true(v)) {
            st = mlxr_openai_warn(t, err, "stream_options: \"include_obfuscation\" has no effect here");
        }
        if (st != MLXR_OK) return st;
    }
    return st;
}

mlxr_status mlxr_openai_common_read(mlxr_turn *t, mlxr_openai_common *c, const char *id_prefix,
                                    mlxr_error *err)
{
    mlxr_buf id = {0};
    mlxr_status st;

    t->stream = c->stream;
    if (!*c->model) return mlxr_turn_bad(t, "model", err, "model is required");
    if (!(t->model_name = mlxr_arena_strndup(&t->arena, c->model, strlen(c->model))))
        return mlxr_fail_nomem(err, "request");
    t->error_field = "keep_alive";
    if (c->keep_alive && (st = mlxr_native_keep_alive(&t->keep_alive_ns, c->keep_alive, err)) != MLXR_OK)
        return st;
    /* Now for num_ctx and what is wrong with them; sampling comes once the model's own is known. */
    t->error_field = "options";
    if (c->options && (st = mlxr_native_options(t, c->options, err)) != MLXR_OK) return st;
    t->error_field = NULL;
    if (c->stop && (st = read_stop(t, c->stop, err)) != MLXR_OK) return st;
    if (c->stream_options && (st = read_stream_options(t, c, err)) != MLXR_OK) return st;
    t->request.n_choices = c->n == MLXR_OPENAI_ABSENT ? 1 : (int32_t)c->n;
    c->created = (long long)time(NULL);
    mlxr_buf_str(&id, id_prefix);
    mlxr_put_random_hex(&id, 24);
    st = mlxr_buf_check(&id, "request", err);
    if (st == MLXR_OK) snprintf(c->id, sizeof c->id, "%s", id.data);
    mlxr_buf_clear(&id);
    return st;
}

static mlxr_status set_biases(mlxr_turn *t, const json_t *v, mlxr_error *err)
{
    mlxr_logit_bias *b = mlxr_arena_calloc(&t->arena, json_object_size(v) + 1, sizeof *b);
    const char *key;
    json_t *value;
    size_t n = 0;

    if (!b) return mlxr_fail_nomem(err, "request");
    json_object_foreach((json_t *)(uintptr_t)v, key, value)
    {
        char *end;
        long long id = *key >= '0' && *key <= '9' ? strtoll(key, &end, 10) : -1;
        double x = json_number_value(value);
        if (id < 0 || id > INT32_MAX || *end || !json_is_number(value) || !(x >= -100 && x <= 100))
            return mlxr_turn_bad(t, "logit_bias", err,
                                 "request: \"logit_bias\" maps token ids to numbers from -100 to 100");
        /* As OpenAI has it: at the ends a token is banned, or as good as chosen. */
        b[n++] = (mlxr_logit_bias){(int32_t)id, x <= -100 ? -INFINITY : (float)x};
    }
    t->request.sampling.logit_bias = b;
    t->request.sampling.n_logit_bias = n;
    return MLXR_OK;
}

mlxr_status mlxr_openai_common_prepare(mlxr_turn *t, mlxr_openai_common *c, double default_temperature,
                                       double default_top_p, mlxr_error *err)
{
    mlxr_sampling *s = &t->request.sampling;
    json_t *warnings = t->warnings;
    const mlxr_request before = t->request;
    mlxr_status st = MLXR_OK;

    *s = mlxr_served_sampling(t->model);
    if (!isnan(default_temperature)) s->temperature = (float)default_temperature;
    if (!isnan(default_top_p)) s->top_p = (float)default_top_p;
    if (c->options) {
        t->warnings = NULL; /* they have been told */
        st = mlxr_native_options(t, c->options, err);
        t->warnings = warnings;
        t->request.max_tokens = before.max_tokens; /* fields of the request go before these */
        if (c->stop) {
            t->request.stop = before.stop;
            t->request.n_stop = before.n_stop;
        }
        if (st != MLXR_OK) return st;
    }
    if (!isnan(c->temperature)) s->temperature = (float)c->temperature;
    if (!isnan(c->top_p)) s->top_p = (float)c->top_p;
    if (!isnan(c->frequency_penalty)) s->frequency_penalty = (float)c->frequency_penalty;
    if (!isnan(c->presence_penalty)) s->presence_penalty = (float)c->presence_penalty;
    if (!isnan(c->min_p)) s->min_p = (float)c->min_p;
    if (!isnan(c->repeat_penalty)) s->repeat_penalty = (float)c->repeat_penalty;
    if (c->top_k != MLXR_OPENAI_ABSENT) s->top_k = (int32_t)c->top_k;
    if (c->seed != MLXR_OPENAI_ABSENT) s->seed = c->seed;
    return c->logit_bias ? set_biases(t, c->logit_bias, err) : MLXR_OK;
}

void mlxr_openai_max_tokens(mlxr_turn *t, int64_t a, int64_t b)
{
    if (a >= 0 || b >= 0) t->request.max_tokens = (int32_t)(a >= 0 ? a : b);
}

/* ---- thinking ---- */

mlxr_status mlxr_openai_effort(mlxr_turn *t, const char *word, const char *field, mlxr_error *err)
{
    static const struct {
        const char *word;
        mlxr_think think;
    } words[] = {{"none", MLXR_THINK_OFF},      {"minimal", MLXR_THINK_LOW}, {"low", MLXR_THINK_LOW},
                 {"medium", MLXR_THINK_MEDIUM}, {"high", MLXR_THINK_HIGH},   {"max", MLXR_THINK_HIGH},
                 {"xhigh", MLXR_THINK_HIGH},    {"ultra", MLXR_THINK_HIGH}};

    for (size_t i = 0; i < MLXR_COUNT(words); i++)
        if (strcmp(word, words[i].word) == 0) {
            t->request.think = words[i].think;
            return MLXR_OK;
        }
    return mlxr_turn_bad(
        t, field, err,
        "invalid reasoning value: \"%.60s\" (must be \"none\", \"minimal\", \"low\", \"medium\", \"high\", "
        "\"xhigh\" or \"max\")",
        word);
}

mlxr_status mlxr_openai_template_kwargs(mlxr_turn *t, const json_t *kwargs, mlxr_error *err)
{
    static const char *const own[] = {"messages", "tools", "add_generation_prompt", "bos_token", "eos_token"};
    static const char *const switches[] = {"enable_thinking", "thinking"};
    static const char field[] = "chat_template_kwargs";
    const json_t *effort = json_object_get(kwargs, "reasoning_effort");

    for (size_t i = 0; i < MLXR_COUNT(own); i++)
        if (json_object_get(kwargs, own[i]))
            return mlxr_turn_bad(t, field, err, "chat_template_kwargs: \"%s\" comes from the request itself",
                                 own[i]);
    for (size_t i = 0; i < MLXR_COUNT(switches); i++) {
        const json_t *v = json_object_get(kwargs, switches[i]);
        if (!v || json_is_null(v)) continue;
        if (!json_is_boolean(v))
            return mlxr_turn_bad(t, field, err, "chat_template_kwargs: \"%s\" is not true or false",
                                 switches[i]);
        if (!json_is_true(v))
            t->request.think = MLXR_THINK_OFF;
        else if (t->request.think <= MLXR_THINK_OFF)
            t->request.think = MLXR_THINK_ON;
    }
    if (!effort || json_is_null(effort)) return MLXR_OK;
    if (!json_is_string(effort))
        return mlxr_turn_bad(t, field, err, "chat_template_kwargs: \"reasoning_effort\" is not a text");
    return mlxr_openai_effort(t, json_string_value(effort), field, err);
}

/* The prompt with the kwargs as variables of the template, as tokens. */
static mlxr_status render_with(mlxr_turn *t, mlxr_engine *e, const json_t *kwargs, mlxr_error *err)
{
    mlxr_prompt_extra extra = {.variables = kwargs};
    mlxr_request *q = &t->request;
    char *text = NULL;
    int32_t *ids = NULL, *own;
    size_t n_text = 0, n_ids = 0;
    mlxr_status st;

    st = mlxr_prompt_render_with(&text, &n_text, e->folder.prompt, q, &extra, (int64_t)time(NULL), err);
    if (st == MLXR_OK) st = mlxr_tokenizer_encode(&ids, &n_ids, e->folder.tok, text, n_text, false, err);
    mlxr_free(text);
    if (st != MLXR_OK) return st;
    if ((own = mlxr_arena_calloc(&t->arena, n_ids + 1, sizeof *own)) != NULL) {
        memcpy(own, ids, n_ids * sizeof *own);
        q->prompt_ids = own;
        q->n_prompt_ids = n_ids;
    }
    mlxr_free(ids);
    return own ? MLXR_OK : mlxr_fail_nomem(err, "prompt");
}

mlxr_status mlxr_openai_thinking(mlxr_turn *t, const json_t *kwargs, const char *field, mlxr_error *err)
{
    mlxr_engine *e = mlxr_served_engine(t->model);
    mlxr_request *q = &t->request;
    bool wanted = q->think != MLXR_THINK_OFF && q->think != MLXR_THINK_DEFAULT, thinks = false;
    mlxr_template_capabilities can = {0};
    const mlxr_answer_format *format;
    mlxr_status st;

    if (e) {
        if ((st = mlxr_prompt_capabilities(&can, e->folder.prompt, err)) != MLXR_OK) return st;
        if (q->tools_json) {
            if ((st = mlxr_prompt_tools_format(&format, e->folder.prompt, err)) != MLXR_OK) return st;
        } else {
            format = mlxr_prompt_answer_format(e->folder.prompt);
        }
        thinks = mlxr_prompt_thinks(e->folder.prompt, format);
    }
    if (!thinks && wanted && !can.thinking_switch)
        return mlxr_turn_bad(t, field, err, "\"%s\" does not support thinking", t->model_name);
    if (!thinks && q->think == MLXR_THINK_OFF) q->think = MLXR_THINK_DEFAULT;
    if (thinks && q->think == MLXR_THINK_DEFAULT && can.thinking_switch) q->think = MLXR_THINK_ON;
    return e && json_object_size(kwargs) ? render_with(t, e, kwargs, err) : MLXR_OK;
}

void mlxr_openai_put_last(mlxr_turn *t, mlxr_buf *out)
{
    mlxr_put_json_member(out, "warnings", t->warnings);
    mlxr_receipt_put(out, t->receipt, t);
}

/* ---- the table ---- */

static const mlxr_endpoint endpoints[] = {
    {.method = "GET",
     .path = "/v1/models",
     .api = MLXR_API_OPENAI,
     .summary = "The models that are there",
     .handler = mlxr_openai_list_models,
     .answer = "ModelList"},
    {.method = "GET",
     .path = "/v1/models/",
     .api = MLXR_API_OPENAI,
     .summary = "One model",
     .handler = mlxr_openai_get_model,
     .answer = "Model",
     .tail = "model"},
    {.method = "POST",
     .path = "/v1/chat/completions",
     .api = MLXR_API_OPENAI,
     .summary = "Go on with a conversation",
     .front = &mlxr_openai_chat,
     .fields = &mlxr_openai_chat_fields,
     .answer = "ChatCompletion",
     .line = "ChatCompletionChunk"},
    {.method = "POST",
     .path = "/v1/completions",
     .api = MLXR_API_OPENAI,
     .summary = "Go on with a text",
     .front = &mlxr_openai_completions,
     .fields = &mlxr_openai_completions_fields,
     .answer = "Completion",
     .line = "Completion"},
    {.method = "POST",
     .path = "/v1/embeddings",
     .api = MLXR_API_OPENAI,
     .summary = "Texts as vectors",
     .front = &mlxr_openai_embeddings,
     .fields = &mlxr_openai_embeddings_fields,
     .answer = "EmbeddingList"},
    {.method = "POST",
     .path = "/v1/responses",
     .api = MLXR_API_OPENAI,
     .summary = "Answer what went before, without keeping it",
     .front = &mlxr_openai_responses,
     .fields = &mlxr_openai_responses_fields,
     .answer = "Response",
     .line = "ResponseEvent",
     .max_body = 20 << 20},
    /* Nothing is kept, so nothing of it can be there. */
    {.method = "GET",
     .path = "/v1/responses/",
     .api = MLXR_API_OPENAI,
     .summary = "A response that was kept: none is",
     .handler = mlxr_openai_no_response,
     .tail = "response",
     .hidden = true},
    {.method = "DELETE",
     .path = "/v1/responses/",
     .api = MLXR_API_OPENAI,
     .summary = "A response that was kept: none is",
     .handler = mlxr_openai_no_response,
     .tail = "response",
     .hidden = true},
    {.method = "POST",
     .path = "/v1/responses/",
     .api = MLXR_API_OPENAI,
     .summary = "A response that was kept: none is",
     .handler = mlxr_openai_no_response,
     .tail = "response",
     .hidden = true},
};
const mlxr_endpoints mlxr_openai_endpoints = {endpoints, MLXR_COUNT(endpoints)};
