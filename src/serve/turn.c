/* turn: see turn.h.
 *
 * A turn is held by its life (from handle to finish) and by the worker that submits it: events may come, and end it, before submit
 * has returned. Whoever lets go last clears it. turn.lock guards what the thread that notices a leaving client looks at. */
#include "serve/turn.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "serve/encoding.h"
#include "serve/receipt.h"
#include "serve/serve.h"

typedef enum phase { READING, WAITING, STARTING, RUNNING, FINISHED } phase;

/* What fronts do not see. */
typedef struct whole_turn {
    mlxr_turn t;
    pthread_mutex_t lock;
    unsigned n_holds;
    phase phase;
    uint64_t ticket; /* of the residency, while WAITING */
    bool left, stopped;
    uint64_t *last_token_ns; /* of each choice, in the turn's arena; NULL: not kept */
    size_t n_choices;
    mlxr_embeddings rows; /* embedded, until they are answered */
    mlxr_record unseen;   /* see record_begin */
} whole_turn;

/* The request's record to write into, between begin and end. Whoever tells the log of a request that its client left does so right after
 * `left` is set, while the engine may still go on: what comes then goes nowhere. */
static mlxr_record *record_begin(whole_turn *w)
{
    pthread_mutex_lock(&w->lock);
    return w->left ? &w->unseen : w->t.record;
}

static void record_end(whole_turn *w)
{
    pthread_mutex_unlock(&w->lock);
}

/* ---- the end ---- */

static void let_go(whole_turn *w)
{
    mlxr_turn *t = &w->t;
    mlxr_served_run *run;
    bool last;

    pthread_mutex_lock(&w->lock);
    last = --w->n_holds == 0;
    run = t->run;
    if (last) t->run = NULL;
    pthread_mutex_unlock(&w->lock);
    if (!last) return;
    mlxr_request_on_leave(t->http, NULL, NULL);
    mlxr_served_run_free(run);
    if (t->resident) mlxr_resident_release(t->resident, t->keep_alive_ns);
    if (t->front->clear) t->front->clear(t);
    free(t->state);
    json_decref(t->body);
    json_decref(t->warnings);
    mlxr_embeddings_clear(&w->rows);
    mlxr_receipt_free(t->receipt);
    mlxr_buf_clear(&t->out);
    mlxr_arena_clear(&t->arena);
    mlxr_request_unref(t->http);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

/* The turn has been answered, or nobody is there to answer. Made once. */
static void finish(whole_turn *w)
{
    pthread_mutex_lock(&w->lock);
    w->phase = FINISHED;
    pthread_mutex_unlock(&w->lock);
    let_go(w);
}

static void fail(whole_turn *w, mlxr_status st, int http_status, const char *message)
{
    mlxr_turn *t = &w->t;
    mlxr_turn_error e = {.status = http_status ? http_status : mlxr_serve_http_status(st),
                         .message = message,
                         .field = t->error_field,
                         .code = st};
    mlxr_record *r;

    if (mlxr_request_left(t->http)) {
        e.status = 499;
        e.message = "the client left";
    } else if (st == MLXR_E_CANCELLED && !http_status) {
        e.status = 503; /* not by the client: the model, or the server, goes */
        e.message = "the server ends, or gives the model up";
    }
    r = record_begin(w);
    snprintf(r->error, sizeof r->error, "%.*s",
             (int)mlxr_utf8_valid(e.message, strnlen(e.message, sizeof r->error - 1)), e.message);
    record_end(w);
    if (e.status == 503 && !t->begun) mlxr_reply_header(t->http, "Retry-After", "1");
    if (e.status != 499) {
        t->front->fail(t, &e);
        if (t->begun && t->stream) mlxr_reply_end(t->http);
    }
    if (st == MLXR_E_CORRUPT &&
        t->resident) /* its files changed: the next opens it anew, or is told why not */
        mlxr_residency_unload(t->serve->residency, mlxr_resident_get_key(t->resident)->name);
    finish(w);
}

static const char busy[] = "server busy, please try again.  maximum pending requests exceeded";

/* What the engine, or the way to it, says. */
static void fail_running(whole_turn *w, mlxr_status st, const char *message)
{
    fail(w, st, 0, st == MLXR_E_BUSY ? busy : message);
}

/* On any thread. What has not begun is not begun; what runs is cancelled and ends by itself. */
static void on_leave(void *ud)
{
    whole_turn *w = ud;
    mlxr_turn *t = &w->t;
    uint64_t ticket = 0;

    pthread_mutex_lock(&w->lock);
    w->left = true;
    if (w->phase == WAITING) ticket = w->ticket;
    if (t->run) mlxr_served_cancel(t->run);
    pthread_mutex_unlock(&w->lock);
    if (ticket && mlxr_residency_forget(t->serve->residency, ticket)) finish(w);
}

/* The server ends: as a model that was cancelled, and the client is told. */
static void on_stop(void *ud)
{
    whole_turn *w = ud;
    uint64_t ticket = 0;

    pthread_mutex_lock(&w->lock);
    w->stopped = true;
    if (w->phase == WAITING) ticket = w->ticket;
    if (w->t.run) mlxr_served_cancel(w->t.run);
    pthread_mutex_unlock(&w->lock);
    if (ticket && mlxr_residency_forget(w->t.serve->residency, ticket)) fail(w, MLXR_E_CANCELLED, 0, "");
}

static bool has_left(whole_turn *w)
{
    bool left;

    pthread_mutex_lock(&w->lock);
    left = w->left || w->stopped;
    pthread_mutex_unlock(&w->lock);
    return left;
}

/* ---- running ---- */

/* The choices of one prompt share its tokens, which count once. */
static void add_stats(whole_turn *w, int32_t choice, const mlxr_stats *of_choice)
{
    mlxr_turn *t = &w->t;
    mlxr_record *r;
    bool counts = t->request.n_choices <= 1 || choice % t->request.n_choices == 0 || choice < 0;
    size_t n_generated = t->stats.generated_token_count + of_choice->generated_token_count;

    t->stats = *of_choice;
    t->stats.generated_token_count = n_generated;
    r = record_begin(w);
    if (counts) r->n_prompt_tokens += of_choice->prompt_token_count;
    if (counts) r->n_cached_tokens += of_choice->cached_token_count;
    r->n_dropped_tokens += of_choice->dropped_token_count;
    r->n_generated_tokens += of_choice->generated_token_count;
    if (of_choice->queue_ns > r->queue_ns) r->queue_ns = of_choice->queue_ns;
    if (of_choice->prefill_ns > r->prefill_ns) r->prefill_ns = of_choice->prefill_ns;
    if (of_choice->decode_ns > r->decode_ns) r->decode_ns = of_choice->decode_ns;
    r->done_reason = mlxr_done_reason_name(of_choice->done_reason);
    record_end(w);
}

static void time_token(whole_turn *w, const mlxr_event *event)
{
    uint64_t now = mlxr_now_ns();
    mlxr_record *r;
    size_t i = event->choice > 0 ? (size_t)event->choice : 0;

    if (event->id < 0) return;
    r = record_begin(w);
    if (!r->first_token_ns) r->first_token_ns = now - w->t.start_ns;
    if (w->last_token_ns && i < w->n_choices) {
        if (w->last_token_ns[i]) mlxr_record_gap(r, now - w->last_token_ns[i]);
        w->last_token_ns[i] = now;
    }
    record_end(w);
}

static void on_event(const mlxr_event *event, void *ud)
{
    whole_turn *w = ud;
    mlxr_turn *t = &w->t;

    if (event->type == MLXR_EVENT_FAILED) {
        if (event->stats && t->n_open == w->n_choices) add_stats(w, event->choice, event->stats);
        fail_running(w, event->status, event->text);
        return;
    }
    if (event->type == MLXR_EVENT_TOKEN) time_token(w, event);
    if (!t->begun) {
        t->begun = true;
        if (t->stream) mlxr_reply_begin(t->http, 200, t->front->stream_type, t->front->heartbeat);
        if (t->front->begin) t->front->begin(t);
    }
    if (event->type == MLXR_EVENT_COMPLETED) add_stats(w, event->choice, event->stats);
    mlxr_receipt_event(t->receipt, event);
    t->front->event(t, event);
    if (event->type != MLXR_EVENT_COMPLETED || --t->n_open > 0) return;
    t->front->end(t);
    if (t->stream) mlxr_reply_end(t->http);
    finish(w);
}

/* Writing many numbers is no work for the engine's thread. */
static void answer_embedded(void *ud)
{
    whole_turn *w = ud;

    if (!mlxr_request_left(w->t.http)) w->t.front->embedded(&w->t, &w->rows);
    finish(w);
}

static void on_embedded(mlxr_embeddings *e, const mlxr_error *err, void *ud)
{
    whole_turn *w = ud;

    if (err->code != MLXR_OK) {
        fail_running(w, err->code, err->message);
        return;
    }
    w->t.stats.prompt_token_count = e->n_tokens;
    record_begin(w)->n_prompt_tokens = e->n_tokens;
    record_end(w);
    w->rows = *e;
    *e = (mlxr_embeddings){0};
    if (!mlxr_workers_post(w->t.serve->workers, answer_embedded, w))
        fail(w, MLXR_E_NOMEM, 503, "out of memory");
}

/* Below 0 a seed is drawn here and not by the engine, so that it can be told. 53 bits: numbers that every JSON reader keeps. */
static mlxr_status draw_seed(mlxr_request *q, mlxr_error *err)
{
    uint64_t seed;

    if (q->sampling.seed >= 0) return MLXR_OK;
    if (getentropy(&seed, sizeof seed) != 0)
        return mlxr_fail(err, MLXR_E_IO, "sampling: the system gave no random seed");
    q->sampling.seed = (int64_t)(seed >> 11);
    return MLXR_OK;
}

static mlxr_status draw_seeds(mlxr_turn *t, mlxr_error *err)
{
    mlxr_request *more = NULL;
    mlxr_status st = draw_seed(&t->request, err);

    if (st != MLXR_OK || !t->n_more) return st;
    if (!(more = mlxr_arena_calloc(&t->arena, t->n_more, sizeof *more)))
        return mlxr_fail_nomem(err, "request");
    memcpy(more, t->more, t->n_more * sizeof *more);
    for (size_t i = 0; i < t->n_more && st == MLXR_OK; i++) st = draw_seed(&more[i], err);
    t->more = more;
    return st;
}

static void start(void *ud)
{
    whole_turn *w = ud;
    mlxr_turn *t = &w->t;
    mlxr_served_run *run = NULL;
    mlxr_error err = {0};
    mlxr_status st = MLXR_OK;
    mlxr_record *r;

    if (has_left(w)) {
        fail(w, MLXR_E_CANCELLED, 0, "");
        return;
    }
    mlxr_resident_keep(t->resident, t->keep_alive_ns);
    if (*mlxr_resident_get_key(t->resident)->digest)
        mlxr_reply_header(t->http, "X-Mlxr-Model-Digest", mlxr_resident_get_key(t->resident)->digest);
    record_begin(w)->done_reason = t->load_only ? "load" : NULL;
    record_end(w);
    if (t->front->prepare) st = t->front->prepare(t, &err);
    if (st == MLXR_OK && !t->answered && !t->n_inputs) {
        if (t->wants_receipt) st = mlxr_receipt_seed(t, &err);
        if (st == MLXR_OK) st = draw_seeds(t, &err);
        if (st == MLXR_OK) st = mlxr_receipt_create(&t->receipt, t, &err);
    }
    if (st != MLXR_OK) {
        fail(w, st, t->error_status, err.message);
        return;
    }
    if (t->answered) {
        finish(w);
        return;
    }
    w->n_choices = t->n_open = (t->request.n_choices > 0 ? (size_t)t->request.n_choices : 1) *
                               (1 + t->n_more);
    w->last_token_ns = mlxr_arena_calloc(&t->arena, w->n_choices, sizeof *w->last_token_ns);
    r = record_begin(w);
    r->has_answer = true;
    r->n_choices = t->n_inputs ? t->n_inputs : w->n_choices;
    record_end(w);
    pthread_mutex_lock(&w->lock);
    w->phase = RUNNING;
    w->n_holds++;
    pthread_mutex_unlock(&w->lock);
    if (t->n_inputs)
        st = mlxr_served_submit_embed(&run, t->model, t->inputs, t->n_inputs, &t->embed, on_embedded, w,
                                      &err);
    else if (t->max_thinking)
        st = mlxr_served_submit_thinking(&run, t->model, &t->request, t->max_thinking, on_event, w, &err);
    else
        st = mlxr_served_submit_all(&run, t->model, &t->request, t->more, t->n_more, on_event, w, &err);
    if (st != MLXR_OK) {
        fail_running(w, st, err.message);
        let_go(w);
        return;
    }
    pthread_mutex_lock(&w->lock);
    t->run = run;
    if (w->left || w->stopped) mlxr_served_cancel(run);
    pthread_mutex_unlock(&w->lock);
    let_go(w);
}

/* On the residency's thread, or on the worker's that asked. */
static void on_ready(void *ud, mlxr_resident *resident, uint64_t load_ns, const mlxr_error *err)
{
    whole_turn *w = ud;
    mlxr_turn *t = &w->t;

    pthread_mutex_lock(&w->lock);
    w->phase = STARTING;
    t->resident = resident;
    t->load_ns = load_ns;
    if (!w->left) t->record->load_ns = load_ns;
    pthread_mutex_unlock(&w->lock);
    if (!resident) {
        fail(w, err->code,
             err->code == MLXR_E_BUSY || err->code == MLXR_E_CANCELLED || err->code == MLXR_E_LIMIT ? 503
             : err->code == MLXR_E_CONTEXT_OVERFLOW || err->code == MLXR_E_INVALID_ARGUMENT         ? 400
                                                                                                    : 500,
             err->message);
        return;
    }
    t->model = mlxr_resident_model(resident);
    if (!mlxr_workers_post(t->serve->workers, start, w)) fail(w, MLXR_E_NOMEM, 503, "out of memory");
}

static void read_request(void *ud)
{
    whole_turn *w = ud;
    mlxr_turn *t = &w->t;
    mlxr_resident_key key;
    mlxr_error err = {0};
    mlxr_status st;
    mlxr_record *r;
    mlxr_buf plain = {0};
    const char *body;
    uint64_t ticket = 0;
    size_t n;

    body = mlxr_request_body(t->http, &n);
    st = mlxr_body_decode(&plain, mlxr_request_header(t->http, "Content-Encoding"), body, n,
                          t->serve->options.server.max_body, &t->error_status, &err);
    if (plain.data) {
        body = plain.data;
        n = plain.len;
    }
    if (st == MLXR_OK) st = mlxr_body_object(&t->body, body, n, &err);
    mlxr_buf_clear(&plain);
    if (st == MLXR_OK) {
        t->wants_receipt = mlxr_receipt_wanted(t);
        st = t->front->read(t, &err);
    }
    r = record_begin(w);
    r->stream = t->stream;
    if (t->model_name)
        snprintf(r->model, sizeof r->model, "%.*s",
                 (int)mlxr_utf8_valid(t->model_name, strnlen(t->model_name, sizeof r->model - 1)),
                 t->model_name);
    r->done_reason = t->unload ? "unload" : NULL;
    record_end(w);
    if (st == MLXR_OK && !t->answered)
        st = mlxr_serve_resolve(&key, t->serve, &t->arena, t->model_name ? t->model_name : "", &err);
    if (st != MLXR_OK) {
        fail(w, st, t->error_status ? t->error_status : st == MLXR_E_NOT_FOUND ? 404 : 400, err.message);
        return;
    }
    if (t->answered) {
        finish(w);
        return;
    }
    key.context_length = t->context_length;
    r = record_begin(w);
    snprintf(r->found, sizeof r->found, "%.*s",
             (int)mlxr_utf8_valid(key.name, strnlen(key.name, sizeof r->found - 1)), key.name);
    w->phase = WAITING;
    w->n_holds++;
    record_end(w);
    st = mlxr_residency_acquire(t->serve->residency, &key, on_ready, w, &ticket, &err);
    if (st != MLXR_OK) {
        fail_running(w, st, err.message);
        let_go(w); /* NOLINT(clang-analyzer-unix.Malloc): the hold of this function keeps it */
        return;
    }
    pthread_mutex_lock(&w->lock);
    w->ticket = ticket;
    if (!((w->left || w->stopped) && w->phase == WAITING)) ticket = 0;
    pthread_mutex_unlock(&w->lock);
    /* It left before there was a ticket to take back. */
    if (ticket && mlxr_residency_forget(t->serve->residency, ticket)) fail(w, MLXR_E_CANCELLED, 0, "");
    let_go(w); /* NOLINT(clang-analyzer-unix.Malloc): as above */
}

void mlxr_turn_handle(mlxr_request_in *http, void *ud)
{
    const mlxr_turn_route *route = ud;
    whole_turn *w = calloc(1, sizeof *w);

    if (w && pthread_mutex_init(&w->lock, NULL) != 0) {
        free(w);
        w = NULL;
    }
    if (!w) {
        mlxr_reply_text(http, 503, "application/json", "{\"error\":\"out of memory\"}");
        return;
    }
    w->n_holds = 1;
    w->t = (mlxr_turn){.serve = route->serve,
                       .front = route->front,
                       .http = http,
                       .warnings = json_array(),
                       .stream = route->front->stream_default,
                       .keep_alive_ns = MLXR_KEEP_DEFAULT,
                       .request = mlxr_request_default(),
                       .record = mlxr_request_record(http),
                       .start_ns = mlxr_request_start_ns(http)};
    mlxr_request_ref(http);
    w->t.state = calloc(1, route->front->state_size ? route->front->state_size : 1);
    mlxr_request_on_leave(http, on_leave, w);
    mlxr_request_on_stop(http, on_stop);
    if (!w->t.state || !w->t.warnings || !mlxr_workers_post(route->serve->workers, read_request, w))
        fail(w, MLXR_E_NOMEM, 503, "out of memory");
}

/* ---- for fronts ---- */

void mlxr_turn_push(mlxr_turn *t, mlxr_buf *out)
{
    if (!out->failed && out->len) mlxr_reply_push(t->http, out->data, out->len);
    out->len = 0;
}

void mlxr_turn_answer(mlxr_turn *t, int status, mlxr_buf *out)
{
    mlxr_reply(t->http, status, "application/json; charset=utf-8", out);
}

uint64_t mlxr_turn_total_ns(const mlxr_turn *t)
{
    return mlxr_now_ns() - t->start_ns;
}

const char *mlxr_turn_dump(mlxr_turn *t, const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17)), *own;

    if (!text) return NULL;
    own = mlxr_arena_strndup(&t->arena, text, strlen(text));
    free(text);
    return own;
}

mlxr_status mlxr_turn_bad(mlxr_turn *t, const char *field, mlxr_error *err, const char *fmt, ...)
{
    char text[400];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    t->error_field = field;
    return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s", text);
}
