/* remote: see remote.h. The API is Ollama's native one, https://github.com/ollama/ollama/blob/main/docs/api.md, with the counts that
 * mlxserve tells besides (prompt_cached_count, queue_duration, truncated_count). */
#include "remote.h"

#include <stdlib.h>

struct remote {
    struct daemon *daemon;
    char *name, *model;
    int64_t context;
    struct token_texts texts;
    bool has_texts;
};

/* ---- requests ---- */

static mlxr_status refuse(const struct remote *r, const char *option, mlxr_error *err)
{
    return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                     "%s: a daemon cannot be told that (%s); --local answers without one", option,
                     daemon_words(r->daemon));
}

static mlxr_status check_model(const struct remote *r, const struct model_options *m, mlxr_error *err)
{
    if (m->device) return refuse(r, "--device", err);
    if (m->precision) return refuse(r, "--precision", err);
    if (m->kv) return refuse(r, "--kv", err);
    if (m->threads) return refuse(r, "--threads", err);
    if (m->paths_json) return refuse(r, "--model-paths-json", err);
    if (strcmp(m->runner, "local") != 0) return refuse(r, "--runner", err);
    if (m->mock_token_ms) return refuse(r, "--mock-token-ms", err);
    return MLXR_OK;
}

static mlxr_status check_request(const struct remote *r, const mlxr_request *q, mlxr_error *err)
{
    if (q->grammar) return refuse(r, "--grammar", err);
    if (q->regex) return refuse(r, "--regex", err);
    if (q->answer_format) return refuse(r, "--answer-format", err);
    if (q->tools_json && q->tool_choice != MLXR_TOOL_CHOICE_AUTO) return refuse(r, "--tool-choice", err);
    if (q->tools_json && !q->parallel_tool_calls) return refuse(r, "--one-call", err);
    if (q->ignore_eos) return refuse(r, "--ignore-eos", err);
    if (q->prompt_ids) return refuse(r, "prompt_ids", err);
    return MLXR_OK;
}

/* Sets body[key], whose reference is taken; false: out of memory. */
static bool set(json_t *body, const char *key, json_t *value)
{
    return json_object_set_new(body, key, value) == 0;
}

static mlxr_status set_json(json_t *body, const char *key, const char *text, const char *what,
                            mlxr_error *err)
{
    json_t *value;
    mlxr_status st = mlxr_json_parse(&value, text, strlen(text), what, err);

    if (st != MLXR_OK) return st;
    return set(body, key, value) ? MLXR_OK : mlxr_fail_nomem(err, what);
}

/* What templates take as parts of a text is one text in the API. */
static mlxr_status join_parts(json_t *message, const json_t *parts, mlxr_error *err)
{
    mlxr_buf text = {0};
    mlxr_status st = MLXR_OK;

    for (size_t i = 0; i < json_array_size(parts) && st == MLXR_OK; i++) {
        const json_t *part = json_array_get(parts, i), *piece = json_object_get(part, "text");
        if (!json_is_string(piece))
            st = mlxr_fail(err, MLXR_E_UNSUPPORTED, "messages: a daemon takes content of texts alone");
        else
            mlxr_buf_append(&text, json_string_value(piece), json_string_length(piece));
    }
    if (st == MLXR_OK) st = mlxr_buf_check(&text, "messages", err);
    if (st == MLXR_OK && !set(message, "content", json_stringn(text.len ? text.data : "", text.len)))
        st = mlxr_fail_nomem(err, "messages");
    mlxr_buf_clear(&text);
    return st;
}

static mlxr_status rename_key(json_t *message, const char *from, const char *to, mlxr_error *err)
{
    json_t *value = json_object_get(message, from);

    if (!value || json_object_get(message, to)) return MLXR_OK;
    if (json_object_set(message, to, value) != 0) return mlxr_fail_nomem(err, "messages");
    json_object_del(message, from);
    return MLXR_OK;
}

/* Arguments as a text (OpenAI's form) become the object that they are. */
static mlxr_status open_arguments(json_t *message, mlxr_error *err)
{
    json_t *calls = json_object_get(message, "tool_calls");

    for (size_t i = 0; i < json_array_size(calls); i++) {
        json_t *function = json_object_get(json_array_get(calls, i), "function");
        const char *text = json_string_value(json_object_get(function, "arguments"));
        mlxr_status st = text ? set_json(function, "arguments", text, "messages: arguments of a call", err)
                              : MLXR_OK;
        if (st != MLXR_OK) return st;
    }
    return MLXR_OK;
}

static json_t *message(const char *role, const char *content)
{
    return json_pack("{s:s, s:s}", "role", role, "content", content);
}

/* Messages as templates take them, as the API does. */
static mlxr_status set_messages(json_t *body, const char *text, const char *system, mlxr_error *err)
{
    json_t *messages, *content;
    const char *role;
    mlxr_status st = mlxr_json_parse(&messages, text, strlen(text), "messages", err);

    if (st != MLXR_OK) return st;
    if (!json_is_array(messages)) st = mlxr_fail(err, MLXR_E_FORMAT, "messages: not a list");
    for (size_t i = 0; i < json_array_size(messages) && st == MLXR_OK; i++) {
        json_t *m = json_array_get(messages, i);
        if (!json_is_object(m)) st = mlxr_fail(err, MLXR_E_FORMAT, "messages: number %zu is no object", i);
        if (st == MLXR_OK) st = rename_key(m, "reasoning_content", "thinking", err);
        role = json_string_value(json_object_get(m, "role"));
        if (st == MLXR_OK && role && strcmp(role, "tool") == 0) st = rename_key(m, "name", "tool_name", err);
        if (st == MLXR_OK) st = open_arguments(m, err);
        if (st == MLXR_OK && json_is_array(content = json_object_get(m, "content"))) {
            json_incref(content);
            st = join_parts(m, content, err);
            json_decref(content);
        }
    }
    /* An empty system text is none, where the model has one of its own too. */
    if (st == MLXR_OK && system && !*system && json_array_insert_new(messages, 0, message("system", "")) != 0)
        st = mlxr_fail_nomem(err, "messages");
    if (st == MLXR_OK && json_object_set(body, "messages", messages) != 0)
        st = mlxr_fail_nomem(err, "messages");
    json_decref(messages);
    return st;
}

static bool set_prompt_as_messages(json_t *body, const mlxr_request *q)
{
    json_t *messages = json_array();
    bool ok = (!q->system || json_array_append_new(messages, message("system", q->system)) == 0) &&
              json_array_append_new(messages, message("user", q->prompt ? q->prompt : "")) == 0;

    return set(body, "messages", messages) && ok;
}

static bool set_think(json_t *body, mlxr_think think)
{
    static const char *const words[] = {NULL, NULL, NULL, "low", "medium", "high"};

    return think == MLXR_THINK_DEFAULT || set(body, "think",
                                              think == MLXR_THINK_OFF  ? json_false()
                                              : think == MLXR_THINK_ON ? json_true()
                                                                       : json_string(words[think]));
}

/* truncate and shift are the API's words for overflow. */
static bool set_overflow(json_t *body, const char *overflow)
{
    return !overflow || (set(body, "truncate", json_boolean(strcmp(overflow, "error") != 0)) &&
                         set(body, "shift", json_boolean(strcmp(overflow, "shift") == 0)));
}

static mlxr_status set_options(json_t *body, const struct remote *r, const struct parameters *given,
                               mlxr_error *err)
{
    json_t *options = json_object();
    const char *missing = NULL, *overflow = NULL;
    bool ok = parameters_to_options(options, given, &overflow, &missing);

    if (missing) {
        json_decref(options);
        return refuse(r, missing, err);
    }
    ok = ok && (r->context == 0 || set(options, "num_ctx", json_integer(r->context)));
    ok = ok && set_overflow(body, overflow);
    return set(body, "options", options) && ok ? MLXR_OK : mlxr_fail_nomem(err, "request");
}

static mlxr_status check_text(const char *text, const char *what, mlxr_error *err)
{
    size_t n = text ? strlen(text) : 0, n_valid = text ? mlxr_utf8_valid(text, n) : 0;

    return n == n_valid ? MLXR_OK
                        : mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s: not valid UTF-8 from byte %zu on",
                                    what, n_valid);
}

/* *path: /api/generate for a prompt, else /api/chat, which also takes an empty one. */
static mlxr_status make_body(json_t **out, const char **path, const struct remote *r, const mlxr_request *q,
                             const struct parameters *given, mlxr_error *err)
{
    bool chat = !q->raw && (q->messages_json || q->tools_json || !q->prompt || q->prompt[0] == '\0');
    json_t *body = json_pack("{s:s, s:b}", "model", r->model, "stream", 1);
    mlxr_status st = body ? set_options(body, r, given, err) : mlxr_fail_nomem(err, "request");
    bool ok = true;

    if (st == MLXR_OK) st = check_text(q->prompt, "prompt", err);
    if (st == MLXR_OK) st = check_text(q->system, "system text", err);

    *path = chat ? "/api/chat" : "/api/generate";
    if (st == MLXR_OK && q->messages_json)
        st = set_messages(body, q->messages_json, q->system, err);
    else if (chat)
        ok = ok && set_prompt_as_messages(body, q);
    else
        ok = ok && set(body, "prompt", json_string(q->prompt ? q->prompt : "")) &&
             (!q->system || q->raw || set(body, "system", json_string(q->system))) &&
             (!q->raw || set(body, "raw", json_true()));
    if (st == MLXR_OK && q->tools_json) st = set_json(body, "tools", q->tools_json, "tools", err);
    if (st == MLXR_OK && q->format && strcmp(q->format, "json") != 0)
        st = set_json(body, "format", q->format, "format", err);
    else if (q->format)
        ok = ok && set(body, "format", json_string("json"));
    ok = ok && set_think(body, q->think);
    if (q->logprobs)
        ok = ok && set(body, "logprobs", json_true()) &&
             set(body, "top_logprobs", json_integer(q->top_logprobs));
    if (st == MLXR_OK && !ok) st = mlxr_fail_nomem(err, "request");
    if (st == MLXR_OK) {
        *out = body;
    } else {
        *out = NULL;
        json_decref(body);
    }
    return st;
}

/* ---- answers ---- */

struct answer {
    struct remote *remote;
    mlxr_on_event on_event;
    void *ud;
    json_t *kept; /* the objects that `calls` borrow from */
    mlxr_buf content, thinking;
    mlxr_tool_call *calls;
    size_t n_calls, n_pieces;
    bool done;
    mlxr_stats stats;
};

/* Texts that may be absent or null. */
static mlxr_status get_text(const char **out, size_t *n, const json_t *object, const char *key,
                            mlxr_error *err)
{
    const json_t *value = json_object_get(object, key);

    *out = "";
    *n = 0;
    if (!value || json_is_null(value)) return MLXR_OK;
    if (!json_is_string(value))
        return mlxr_fail(err, MLXR_E_NETWORK, "the daemon's answer: \"%s\" is no text", key);
    *out = json_string_value(value);
    *n = json_string_length(value);
    return MLXR_OK;
}

static void tell_piece(struct answer *a, mlxr_part part, const char *text, size_t n,
                       const mlxr_event *probability)
{
    mlxr_event ev = *probability;

    ev.type = MLXR_EVENT_TOKEN;
    ev.text = text;
    ev.n_text = n;
    ev.id = -1;
    ev.part = part;
    a->on_event(&ev, a->ud);
}

static double number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    return json_is_number(value) ? json_number_value(value) : 0;
}

/* One entry of "logprobs" into an event without text. */
static void read_logprob(struct answer *a, mlxr_event *ev, mlxr_logprob top[MLXR_MAX_TOP_LOGPROBS],
                         const json_t *entry)
{
    struct token_texts *texts = &a->remote->texts;
    const json_t *others = json_object_get(entry, "top_logprobs");

    texts->token = json_string_value(json_object_get(entry, "token"));
    ev->has_logprob = true;
    ev->logprob = number(entry, "logprob");
    for (size_t i = 0; i < json_array_size(others) && i < MLXR_MAX_TOP_LOGPROBS; i++) {
        const json_t *other = json_array_get(others, i);
        top[i] = (mlxr_logprob){-1, number(other, "logprob")};
        texts->top[i] = json_string_value(json_object_get(other, "token"));
        ev->n_top = i + 1;
    }
    ev->top = top;
}

/* The pieces of an object; where it has several tokens, the text goes with the last. */
static mlxr_status take_text(struct answer *a, const json_t *object, const json_t *from, const char *key,
                             mlxr_error *err)
{
    const json_t *logprobs = json_object_get(object, "logprobs");
    size_t n_entries = json_array_size(logprobs), n_thinking, n_content;
    mlxr_logprob top[MLXR_MAX_TOP_LOGPROBS];
    const mlxr_event none = {0};
    mlxr_event last = {0};
    const char *thinking, *content;
    mlxr_status st;

    if ((st = get_text(&thinking, &n_thinking, from, "thinking", err)) != MLXR_OK ||
        (st = get_text(&content, &n_content, from, key, err)) != MLXR_OK)
        return st;
    mlxr_buf_append(&a->thinking, thinking, n_thinking);
    mlxr_buf_append(&a->content, content, n_content);
    for (size_t i = 0; i < n_entries; i++) {
        last = (mlxr_event){0};
        a->remote->texts = (struct token_texts){0};
        a->remote->has_texts = true;
        read_logprob(a, &last, top, json_array_get(logprobs, i));
        if (i + 1 < n_entries)
            tell_piece(a, n_content ? MLXR_PART_CONTENT : MLXR_PART_THINKING, "", 0, &last);
    }
    if (n_thinking) tell_piece(a, MLXR_PART_THINKING, thinking, n_thinking, n_content ? &none : &last);
    if (n_content || (n_entries && !n_thinking)) tell_piece(a, MLXR_PART_CONTENT, content, n_content, &last);
    a->remote->has_texts = false;
    a->n_pieces += n_thinking || n_content;
    return MLXR_OK;
}

static mlxr_status take_calls(struct answer *a, const json_t *calls, mlxr_error *err)
{
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *item = json_array_get(calls, i), *function = json_object_get(item, "function");
        const json_t *arguments = json_object_get(function, "arguments");
        mlxr_tool_call *more = mlxr_realloc_array(a->calls, a->n_calls + 1, sizeof *more), *c;
        mlxr_event ev = {.type = MLXR_EVENT_TOOL_CALL, .part = MLXR_PART_TOOL_CALL};
        char *text;
        if (!more || json_array_append(a->kept, (json_t *)(uintptr_t)item) != 0) {
            if (more) a->calls = more;
            return mlxr_fail_nomem(err, "tool calls");
        }
        a->calls = more;
        c = &a->calls[a->n_calls];
        *c = (mlxr_tool_call){.index = a->n_calls,
                              .name = json_string_value(json_object_get(function, "name")),
                              .id = json_string_value(json_object_get(item, "id"))};
        if (!c->name)
            return mlxr_fail(err, MLXR_E_NETWORK, "the daemon's answer: a call of a tool has no name");
        text = json_is_object(arguments) ? json_dumps(arguments, JSON_COMPACT) : mlxr_strdup("{}");
        if (!text) return mlxr_fail_nomem(err, "tool calls");
        c->arguments = c->arguments_raw = text;
        a->n_calls++;
        ev.call = c;
        a->on_event(&ev, a->ud);
    }
    return MLXR_OK;
}

static uint64_t count(const json_t *object, const char *key)
{
    double x = number(object, key);

    return x > 0 && x < 1e18 ? (uint64_t)x : 0;
}

static mlxr_status take_end(struct answer *a, const json_t *object, mlxr_error *err)
{
    const char *reason = json_string_value(json_object_get(object, "done_reason"));
    mlxr_event ev = {.type = MLXR_EVENT_COMPLETED};
    mlxr_status st;

    a->done = true;
    a->stats = (mlxr_stats){.prompt_token_count = (size_t)count(object, "prompt_eval_count"),
                            .cached_token_count = (size_t)count(object, "prompt_cached_count"),
                            .dropped_token_count = (size_t)count(object, "truncated_count"),
                            .generated_token_count = (size_t)count(object, "eval_count"),
                            .duration_ns = count(object, "total_duration"),
                            .queue_ns = count(object, "queue_duration"),
                            .prefill_ns = count(object, "prompt_eval_duration"),
                            .decode_ns = count(object, "eval_duration"),
                            .load_ns = count(object, "load_duration")};
    if (reason && (strcmp(reason, "load") == 0 || strcmp(reason, "unload") == 0))
        return mlxr_fail(err, MLXR_E_NETWORK, "the daemon answered nothing (%s)", reason);
    a->stats.done_reason = reason && strcmp(reason, "length") == 0 ? MLXR_DONE_LENGTH : MLXR_DONE_STOP;
    mlxr_buf_str(&a->content, "");
    mlxr_buf_str(&a->thinking, "");
    if ((st = mlxr_buf_check(&a->content, "answer", err)) != MLXR_OK ||
        (st = mlxr_buf_check(&a->thinking, "answer", err)) != MLXR_OK)
        return st;
    ev.text = a->content.data;
    ev.n_text = a->content.len;
    ev.thinking = a->thinking.data;
    ev.n_thinking = a->thinking.len;
    ev.calls = a->calls;
    ev.n_calls = a->n_calls;
    ev.stats = &a->stats;
    a->on_event(&ev, a->ud);
    return MLXR_OK;
}

static mlxr_status take_object(void *ud, const json_t *object, mlxr_error *err)
{
    struct answer *a = ud;
    const json_t *message = json_object_get(object, "message");
    bool chat = json_is_object(message);
    mlxr_status st;

    if (a->done) return MLXR_OK;
    if (!json_is_boolean(json_object_get(object, "done")))
        return mlxr_fail(err, MLXR_E_NETWORK,
                         "%s does not answer as a daemon does: an object without \"done\"",
                         daemon_words(a->remote->daemon));
    st = take_text(a, object, chat ? message : object, chat ? "content" : "response", err);
    if (st == MLXR_OK) st = take_calls(a, json_object_get(chat ? message : object, "tool_calls"), err);
    if (st == MLXR_OK && json_is_true(json_object_get(object, "done"))) st = take_end(a, object, err);
    return st;
}

mlxr_status remote_generate(struct remote *r, const mlxr_request *request, const struct parameters *given,
                            mlxr_on_event on_event, void *ud, mlxr_stats *stats, mlxr_error *err)
{
    struct answer a = {.remote = r, .on_event = on_event, .ud = ud, .kept = json_array()};
    uint64_t start = mlxr_now_ns();
    const char *path;
    json_t *body = NULL;
    mlxr_status st = a.kept ? check_request(r, request, err) : mlxr_fail_nomem(err, "answer");

    if (st == MLXR_OK) st = make_body(&body, &path, r, request, given, err);
    if (st == MLXR_OK) st = daemon_stream(r->daemon, path, body, take_object, &a, err);
    if (st == MLXR_OK && !a.done)
        st = mlxr_fail(err, MLXR_E_NETWORK, "%s: the answer broke off", daemon_words(r->daemon));
    if (!a.done) { /* what is known here: pieces are tokens, mostly */
        a.stats.generated_token_count = a.n_pieces;
        a.stats.done_reason = MLXR_DONE_CANCELLED;
    }
    if (!a.stats.duration_ns) a.stats.duration_ns = mlxr_now_ns() - start;
    if (stats) *stats = a.stats;
    for (size_t i = 0; i < a.n_calls; i++) free((char *)(uintptr_t)a.calls[i].arguments);
    free(a.calls);
    mlxr_buf_clear(&a.content);
    mlxr_buf_clear(&a.thinking);
    json_decref(a.kept);
    json_decref(body);
    return st;
}

/* ---- the daemon's model ---- */

mlxr_status remote_open(struct remote **out, struct daemon *daemon, const struct model_options *m,
                        mlxr_error *err)
{
    struct remote *r = calloc(1, sizeof *r);
    mlxr_status st = MLXR_OK;

    *out = NULL;
    if (!r) {
        daemon_close(daemon);
        return mlxr_fail_nomem(err, "daemon");
    }
    r->daemon = daemon;
    r->context = m->context;
    r->model = mlxr_strdup(m->model);
    r->name = mlxr_asprintf("daemon %s", daemon_words(daemon));
    if (!r->model || !r->name) st = mlxr_fail_nomem(err, "daemon");
    if (st == MLXR_OK) st = check_model(r, m, err);
    if (st == MLXR_OK)
        *out = r;
    else
        remote_close(r);
    return st;
}

void remote_close(struct remote *r)
{
    if (!r) return;
    daemon_close(r->daemon);
    free(r->name);
    free(r->model);
    free(r);
}

mlxr_status remote_load(struct remote *r, mlxr_error *err)
{
    json_t *body = json_pack("{s:s, s:b}", "model", r->model, "stream", 0);
    mlxr_status st = MLXR_OK;

    if (!body || (r->context && !set(body, "options", json_pack("{s:I}", "num_ctx", (json_int_t)r->context))))
        st = mlxr_fail_nomem(err, "daemon");
    if (st == MLXR_OK) st = daemon_call(NULL, r->daemon, "/api/generate", body, err);
    json_decref(body);
    return st;
}

mlxr_status remote_template(char **out, struct remote *r, mlxr_error *err)
{
    json_t *body = json_pack("{s:s}", "model", r->model), *doc = NULL;
    const char *text = NULL;
    mlxr_status st = body ? daemon_call(&doc, r->daemon, "/api/show", body, err)
                          : mlxr_fail_nomem(err, "daemon");

    *out = NULL;
    if (st == MLXR_OK) st = mlxr_json_get_str(&text, doc, "template", "the daemon's answer", err);
    if (st == MLXR_OK && !(*out = mlxr_strdup(text ? text : ""))) st = mlxr_fail_nomem(err, "template");
    json_decref(doc);
    json_decref(body);
    return st;
}

const char *remote_name(const struct remote *r)
{
    return r->name;
}

const struct token_texts *remote_token_texts(const struct remote *r)
{
    return r->has_texts ? &r->texts : NULL;
}
