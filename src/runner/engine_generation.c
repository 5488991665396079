/* engine_generation: a request on an engine: its choices on the engine's thread, its events to a callback or a queue. */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "runner/engine_api.h"
#include "runner/runner.h"

/* One answer of a generation; the engine's thread's, once it is submitted. */
typedef struct choice {
    engine_row row;
    mlxr_generation *g;
    int32_t index;
    mlxr_sequence *sequence; /* NULL before it is added and after it is removed */
    mlxr_detokenizer *detok;
    mlxr_answer answer;
    mlxr_stats stats;
    bool ended;        /* COMPLETED was sent */
    size_t n_thinking; /* tokens of thinking */
    enum { THINKS_ON, ENDS_THINKING, ENDED_THINKING } thinking;
    const mlxr_step_result *told; /* the result whose TOKEN event is being sent */
} choice;

/* An event that waits to be taken, with what it points at. */
typedef struct queued {
    struct queued *next;
    mlxr_event event;
    mlxr_stats stats;
} queued;

struct mlxr_generation {
    engine_job job;
    engine_hub *hub;
    /* What was asked; immutable once submitted. */
    mlxr_sequence_params params; /* ids and eos_ids borrowed from below and from the engine's folder */
    int32_t *ids;
    mlxr_sampling sampling; /* its arrays are the generation's */
    uint32_t *breakers;     /* of its own, or NULL */
    mlxr_structure structure;
    size_t max_thinking; /* tokens; 0: no bound */
    int32_t *close_ids;  /* [n_close_ids]: what ends thinking */
    size_t n_close_ids;
    const mlxr_tokenizer *tok; /* the engine's */
    mlxr_on_event on_event;
    void *ud;
    /* The engine's thread's. */
    choice *choices;
    size_t n_choices, n_ended;
    mlxr_status failed;  /* an event could not be made */
    mlxr_masker *masker; /* of the structure's grammar, until the last choice has ended */

    pthread_mutex_t lock; /* guards what is below */
    pthread_cond_t told;  /* an event is there, a callback returned, it ended */
    unsigned n_refs;      /* the caller's, and the engine's until it ended */
    queued *first, *last; /* not taken yet */
    queued *taken;        /* whose pointers the caller has */
    queued failure;       /* the FAILED event, which needs no memory */
    mlxr_error err;
    mlxr_stats stats;
    pthread_t caller; /* the thread whose callback runs, when calling */
    bool calling;     /* a callback runs */
    bool silent;      /* freed: no callback begins any more */
    bool ended;       /* with err.code */
};

/* ---- memory ---- */

/* What only an answer under way needs; detokenizers borrow from the engine, which the generation may outlive. */
static void free_choices(mlxr_generation *g)
{
    for (size_t i = 0; i < g->n_choices; i++) {
        mlxr_detokenizer_free(g->choices[i].detok);
        mlxr_answer_clear(&g->choices[i].answer);
    }
    free(g->choices);
    g->choices = NULL;
    g->n_choices = 0;
    mlxr_structure_clear(&g->structure);
    mlxr_sampling_clear(&g->sampling);
    free(g->breakers);
    g->breakers = NULL;
    mlxr_free(g->close_ids);
    g->close_ids = NULL;
    free(g->ids);
    g->ids = NULL;
}

static void generation_destroy(mlxr_generation *g)
{
    free_choices(g);
    while (g->first) {
        queued *q = g->first;
        g->first = q->next;
        if (q != &g->failure) free(q);
    }
    if (g->taken != &g->failure) free(g->taken);
    pthread_cond_destroy(&g->told);
    pthread_mutex_destroy(&g->lock);
    mlxr_hub_unref(g->hub);
    free(g);
}

static void generation_unref(mlxr_generation *g)
{
    bool last;

    pthread_mutex_lock(&g->lock);
    last = --g->n_refs == 0;
    pthread_mutex_unlock(&g->lock);
    if (last) generation_destroy(g);
}

/* ---- events ---- */

/* Where copies of an event's strings go: NULL while their size is counted. */
typedef struct copier {
    char *to;
    size_t n_bytes;
    bool too_large;
} copier;

static void *copy_bytes(copier *c, const void *from, size_t n)
{
    char *to = c->to ? c->to + c->n_bytes : NULL;
    size_t padded;

    if (!mlxr_add_size(&padded, n, 15) || !mlxr_add_size(&c->n_bytes, c->n_bytes, padded & ~(size_t)15))
        c->too_large = true;
    if (to && n) memcpy(to, from, n);
    return to;
}

static const char *copy_text(copier *c, const char *from, size_t n)
{
    return from ? copy_bytes(c, from, n + 1) : NULL;
}

static const mlxr_tool_call *copy_calls(copier *c, const mlxr_tool_call *from, size_t n)
{
    mlxr_tool_call *to = n ? copy_bytes(c, from, n * sizeof *from) : NULL;

    for (size_t i = 0; i < n; i++) {
        const char *copies[] = {from[i].name, from[i].id, from[i].arguments, from[i].arguments_raw};
        for (size_t k = 0; k < MLXR_COUNT(copies); k++)
            copies[k] = copy_text(c, copies[k], copies[k] ? strlen(copies[k]) : 0);
        if (!to) continue;
        to[i].name = copies[0];
        to[i].id = copies[1];
        to[i].arguments = copies[2];
        to[i].arguments_raw = copies[3];
    }
    return to;
}

/* Everything an event points at, but stats, behind each other; q NULL: only counts. */
static void copy_event(copier *c, queued *q, const mlxr_event *ev)
{
    mlxr_event e = *ev;

    e.top = ev->n_top ? copy_bytes(c, ev->top, ev->n_top * sizeof *ev->top) : NULL;
    e.text = copy_text(c, ev->text, ev->n_text);
    e.thinking = copy_text(c, ev->thinking, ev->n_thinking);
    e.call = copy_calls(c, ev->call, ev->call != NULL);
    e.calls = copy_calls(c, ev->calls, ev->n_calls);
    e.warning = copy_text(c, ev->warning, ev->warning ? strlen(ev->warning) : 0);
    if (q) q->event = e;
}

static queued *queue_copy(const mlxr_event *ev)
{
    enum { HEAD = (sizeof(queued) + 15) / 16 * 16 };
    copier c = {0};
    size_t n;
    queued *q;

    copy_event(&c, NULL, ev);
    if (c.too_large || !mlxr_add_size(&n, HEAD, c.n_bytes) || !(q = malloc(n))) return NULL;
    *q = (queued){0};
    c = (copier){.to = (char *)q + HEAD};
    copy_event(&c, q, ev);
    if (ev->stats) {
        q->stats = *ev->stats;
        q->event.stats = &q->stats;
    }
    return q;
}

static void push(mlxr_generation *g, queued *q)
{
    q->next = NULL;
    if (g->last)
        g->last->next = q;
    else
        g->first = q;
    g->last = q;
}

/* To the callback, unless the generation was freed meanwhile. */
static void call(mlxr_generation *g, const mlxr_event *ev)
{
    bool silent;

    pthread_mutex_lock(&g->lock);
    silent = g->silent;
    g->calling = !silent;
    g->caller = pthread_self();
    pthread_mutex_unlock(&g->lock);
    if (silent) return;
    g->on_event(ev, g->ud);
    pthread_mutex_lock(&g->lock);
    g->calling = false;
    pthread_cond_broadcast(&g->told);
    pthread_mutex_unlock(&g->lock);
}

static void deliver(mlxr_generation *g, const mlxr_event *ev)
{
    queued *q;

    if (g->on_event) {
        call(g, ev);
        return;
    }
    if (!(q = queue_copy(ev))) {
        g->failed = MLXR_E_NOMEM;
        return;
    }
    pthread_mutex_lock(&g->lock);
    push(g, q);
    pthread_cond_broadcast(&g->told);
    pthread_mutex_unlock(&g->lock);
}

/* The events of a choice's answer, with what the answer does not know. */
static void on_answer(const mlxr_event *from, void *ud)
{
    choice *c = ud;
    mlxr_event ev = *from;

    ev.choice = c->index;
    if (ev.type == MLXR_EVENT_TOKEN && ev.id >= 0 && c->told && c->g->params.logprobs) {
        ev.has_logprob = true;
        ev.logprob = c->told->logprob;
        ev.top = c->told->top;
        ev.n_top = c->told->n_top;
    }
    deliver(c->g, &ev);
}

/* ---- on the engine's thread ---- */

static mlxr_generation *generation_of(engine_job *job)
{
    return (mlxr_generation *)job;
}

/* What the scheduler knows of a choice's course. */
static void take_stats(choice *c)
{
    const mlxr_generation *g = c->g;
    mlxr_sequence_stats s;

    c->stats.duration_ns = mlxr_now_ns() - g->job.submitted_ns;
    if (!c->sequence) return;
    s = mlxr_sequence_get_stats(c->sequence);
    c->stats.prompt_token_count = s.n_prompt;
    c->stats.cached_token_count = s.n_cached;
    c->stats.dropped_token_count = s.n_dropped;
    c->stats.prefill_ns = s.prefill_ns;
    c->stats.decode_ns = s.decode_ns;
    c->stats.queue_ns = c->stats.duration_ns > s.prefill_ns + s.decode_ns
                            ? c->stats.duration_ns - s.prefill_ns - s.decode_ns
                            : 0;
}

static mlxr_status generation_start(engine_job *job, mlxr_engine *e, mlxr_error *err)
{
    mlxr_generation *g = generation_of(job);
    mlxr_status st;

    if (g->structure.grammar) {
        st = mlxr_structures_get_masker(&g->masker, e->structures, g->structure.grammar, err);
        if (st == MLXR_OK) st = mlxr_matcher_create(&g->params.matcher, g->masker, err);
        if (st != MLXR_OK) return st;
    }
    for (size_t i = 0; i < g->n_choices; i++) {
        choice *c = &g->choices[i];
        if (i == 0) {
            g->params.ud = &c->row;
            st = mlxr_scheduler_add(&c->sequence, e->scheduler, &g->params, err);
            if (st != MLXR_OK) mlxr_matcher_free(g->params.matcher);
            g->params.matcher = NULL;
        } else {
            mlxr_fork_params fork = {.sampling = g->sampling, .seed = g->params.seed + i, .ud = &c->row};
            st = mlxr_scheduler_fork(&c->sequence, e->scheduler, g->choices[0].sequence, &fork, err);
        }
        if (st != MLXR_OK) return st;
    }
    return MLXR_OK;
}

/* A stop string that cuts a text short of what its grammar asks for leaves it as incomplete as a limit would. */
static mlxr_done_reason cut_reason(const choice *c)
{
    return c->g->structure.grammar && !mlxr_sequence_may_end(c->sequence) ? MLXR_DONE_LENGTH : MLXR_DONE_STOP;
}

/* A choice's text is complete. */
static void finish(choice *c, mlxr_done_reason reason)
{
    const char *rest;
    size_t n_rest;
    mlxr_status st = MLXR_OK;

    c->told = NULL;
    c->stats.done_reason = reason;
    if (!c->answer.stopped) {
        st = mlxr_detokenizer_finish(c->detok, &rest, &n_rest, NULL);
        if (st == MLXR_OK) st = mlxr_answer_push_rest(&c->answer, rest, n_rest, NULL);
        if (st == MLXR_OK && c->answer.stopped) c->stats.done_reason = cut_reason(c);
    }
    take_stats(c);
    if (st == MLXR_OK) st = mlxr_answer_finish(&c->answer, &c->stats, NULL);
    if (st != MLXR_OK) c->g->failed = st;
    c->ended = true;
    c->g->n_ended++;
    c->g->stats = c->stats;
}

static void generation_result(engine_job *job, engine_row *row, const mlxr_step_result *r)
{
    mlxr_generation *g = generation_of(job);
    choice *c = (choice *)row;
    const char *piece = "";
    size_t n_piece = 0;
    mlxr_status st = MLXR_OK;

    if (c->ended || g->failed) return;
    if (r->status != MLXR_OK) {
        g->failed = r->status;
        mlxr_fail(&g->err, r->status, "%s", r->message ? r->message : mlxr_status_text(r->status));
        return;
    }
    if (r->id >= 0) {
        bool special = g->structure.has_parts && mlxr_tokenizer_is_special(g->tok, r->id);
        c->stats.generated_token_count++;
        c->told = r;
        if (special)
            piece = mlxr_tokenizer_id_to_token(g->tok, r->id, &n_piece);
        else
            st = mlxr_detokenizer_push(c->detok, r->id, &piece, &n_piece, &g->err);
        if (st == MLXR_OK) st = mlxr_answer_push(&c->answer, r->id, piece, n_piece, special, &g->err);
        c->told = NULL;
        if (g->n_close_ids && c->thinking == THINKS_ON && mlxr_answer_is_thinking(&c->answer) &&
            ++c->n_thinking >= g->max_thinking)
            c->thinking = ENDS_THINKING;
    }
    if (st != MLXR_OK)
        g->failed = st;
    else if (c->answer.stopped)
        finish(c, cut_reason(c));
    else if (r->done)
        finish(c, r->reason);
}

static void remove_sequence(choice *c, mlxr_engine *e)
{
    mlxr_scheduler_remove(e->scheduler, c->sequence);
    c->sequence = NULL;
}

static bool generation_settle(engine_job *job, mlxr_engine *e, mlxr_status *st, mlxr_error *err)
{
    mlxr_generation *g = generation_of(job);

    for (size_t i = 0; i < g->n_choices; i++) {
        choice *c = &g->choices[i];
        if (c->ended && c->sequence) remove_sequence(c, e);
        if (c->ended || c->thinking != ENDS_THINKING) continue;
        c->thinking = ENDED_THINKING;
        if (!g->failed) g->failed = mlxr_scheduler_force(c->sequence, g->close_ids, g->n_close_ids, &g->err);
    }
    if (g->failed) {
        *st = g->failed;
        if (g->err.code)
            *err = g->err;
        else
            mlxr_fail(err, g->failed, "engine: out of memory for an event");
        return true;
    }
    return g->n_ended == g->n_choices;
}

static void generation_end(engine_job *job, mlxr_engine *e, mlxr_status st, const mlxr_error *err)
{
    mlxr_generation *g = generation_of(job);
    mlxr_stats stats = g->stats;
    size_t n_generated = 0;

    for (size_t i = 0; i < g->n_choices; i++) {
        choice *c = &g->choices[i];
        if (!c->ended) {
            take_stats(c);
            stats = c->stats;
        }
        n_generated += c->stats.generated_token_count;
        remove_sequence(c, e);
    }
    if (g->masker) mlxr_structures_release_masker(e->structures, g->masker);
    stats.generated_token_count = n_generated;
    if (stats.prompt_token_count == 0) stats.prompt_token_count = g->params.n_ids;
    if (st == MLXR_E_CANCELLED) stats.done_reason = MLXR_DONE_CANCELLED;
    if (st != MLXR_OK) {
        g->err = *err;
        g->failure.stats = stats;
        g->failure.event = (mlxr_event){.type = MLXR_EVENT_FAILED,
                                        .choice = -1,
                                        .text = g->err.message,
                                        .n_text = strlen(g->err.message),
                                        .id = -1,
                                        .stats = &g->failure.stats,
                                        .status = st};
        if (g->on_event) call(g, &g->failure.event);
    }
    free_choices(g);
    pthread_mutex_lock(&g->lock);
    g->err.code = st;
    g->stats = stats;
    if (st != MLXR_OK && !g->on_event) push(g, &g->failure);
    g->ended = true;
    pthread_cond_broadcast(&g->told);
    pthread_mutex_unlock(&g->lock);
    generation_unref(g);
}

static const engine_job_kind generation_kind = {.start = generation_start,
                                                .result = generation_result,
                                                .settle = generation_settle,
                                                .end = generation_end};

/* ---- submitting ---- */

static mlxr_status check(const mlxr_engine *e, const mlxr_request *r, mlxr_error *err)
{
    enum { MAX_CHOICES = 1024 };

    if (r->n_choices < 1 || r->n_choices > MAX_CHOICES)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "request: n_choices is %d, wanted 1 to %d",
                         (int)r->n_choices, MAX_CHOICES);
    if (r->max_tokens < -1)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "request: max_tokens is %d, wanted -1 (no limit) or more", (int)r->max_tokens);
    if (r->top_logprobs < 0 || r->top_logprobs > MLXR_MAX_TOP_LOGPROBS)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "request: top_logprobs is %d, wanted 0 to %d",
                         (int)r->top_logprobs, MLXR_MAX_TOP_LOGPROBS);
    if (r->num_keep < 0)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "request: num_keep is %d, wanted 0 or more",
                         (int)r->num_keep);
    if ((unsigned)r->overflow > MLXR_OVERFLOW_SHIFT)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "request: overflow is %d, which is none of its values",
                         (int)r->overflow);
    return mlxr_sampling_check(&r->sampling, mlxr_model_program(e->folder.model)->vocab_size, err);
}

/* What the scheduler would say of the prompt later, on its thread. */
static mlxr_status check_prompt(const mlxr_engine *e, const mlxr_sequence_params *p, mlxr_error *err)
{
    size_t V = mlxr_model_program(e->folder.model)->vocab_size;

    if (p->n_ids == 0) return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "request: the prompt has no tokens");
    for (size_t i = 0; i < p->n_ids; i++)
        if (p->ids[i] < 0 || (size_t)p->ids[i] >= V)
            return mlxr_fail(
                err, MLXR_E_INVALID_ARGUMENT,
                "request: token %d at position %zu of the prompt is outside the model's vocabulary of "
                "%zu",
                (int)p->ids[i], i, V);
    if (p->overflow == MLXR_OVERFLOW_ERROR && p->max_tokens != 0 && p->n_ids >= e->context_length)
        return mlxr_fail(err, MLXR_E_CONTEXT_OVERFLOW,
                         "input length (%zu tokens) exceeds the model's maximum context length (%zu tokens)",
                         p->n_ids, e->context_length);
    return MLXR_OK;
}

static mlxr_status resolve_seed(uint64_t *seed, int64_t given, mlxr_error *err)
{
    *seed = (uint64_t)given;
    if (given < 0 && getentropy(seed, sizeof *seed) != 0)
        return mlxr_fail(err, MLXR_E_IO, "sampling: the system gave no random seed");
    return MLXR_OK;
}

static mlxr_generation *generation_create(mlxr_engine *e, size_t n_choices)
{
    mlxr_generation *g = calloc(1, sizeof *g);

    if (!g) return NULL;
    if (pthread_mutex_init(&g->lock, NULL) != 0) goto no_lock;
    if (!mlxr_cond_init(&g->told)) goto no_told;
    if (!(g->choices = mlxr_calloc_array(n_choices, sizeof *g->choices))) goto no_choices;
    g->n_choices = n_choices;
    g->job.kind = &generation_kind;
    g->hub = mlxr_hub_ref(e->hub);
    g->n_refs = 1;
    return g;
no_choices:
    pthread_cond_destroy(&g->told);
no_told:
    pthread_mutex_destroy(&g->lock);
no_lock:
    free(g);
    return NULL;
}

/* The tokens that end thinking, as the model's own template writes it. */
static mlxr_status encode_close(mlxr_generation *g, size_t max_thinking, mlxr_error *err)
{
    const mlxr_answer_format *f = g->structure.parts.format;
    mlxr_buf text = {0};
    mlxr_status st;

    if (!max_thinking || !g->structure.has_parts || !f->think_close) return MLXR_OK;
    g->max_thinking = max_thinking;
    mlxr_buf_str(&text, f->layout.think_close ? f->layout.think_close : f->think_close);
    if (f->layout.behind_thinking) mlxr_buf_str(&text, f->layout.behind_thinking);
    st = mlxr_buf_check(&text, "request", err);
    if (st == MLXR_OK)
        st = mlxr_tokenizer_encode(&g->close_ids, &g->n_close_ids, g->tok, text.data, text.len, false, err);
    mlxr_buf_clear(&text);
    return st;
}

mlxr_status mlxr_engine_submit(mlxr_generation **out, mlxr_engine *e, const mlxr_request *request,
                               mlxr_on_event on_event, void *ud, mlxr_error *err)
{
    return mlxr_engine_submit_thinking(out, e, request, 0, on_event, ud, err);
}

mlxr_status mlxr_engine_submit_thinking(mlxr_generation **out, mlxr_engine *e, const mlxr_request *request,
                                        size_t max_thinking, mlxr_on_event on_event, void *ud,
                                        mlxr_error *err)
{
    mlxr_request settled; /* with what the folder adds */
    const mlxr_request *r = &settled;
    const char **stops;
    mlxr_generation *g = NULL;
    mlxr_sequence_params *p;
    char *prompt = NULL;
    mlxr_status st;

    *out = NULL;
    if ((st = mlxr_settings_request(&e->folder.settings, &settled, &stops, request, err)) != MLXR_OK)
        return st;
    if ((st = check(e, r, err)) != MLXR_OK) goto done;
    if ((st = mlxr_structure_check(e->structures, r, err)) != MLXR_OK) goto done;
    if (!(g = generation_create(e, (size_t)r->n_choices))) {
        st = mlxr_fail_nomem(err, "engine: request");
        goto done;
    }
    g->on_event = on_event;
    g->ud = ud;
    p = &g->params;
    *p = mlxr_sequence_params_default();
    p->max_tokens = r->max_tokens;
    p->eos_ids = e->folder.eos_ids;
    p->n_eos = r->ignore_eos ? 0 : e->folder.n_eos;
    p->logprobs = r->logprobs;
    p->n_top_logprobs = r->logprobs ? (size_t)r->top_logprobs : 0;
    p->overflow = r->overflow;
    p->n_keep = (size_t)r->num_keep;
    if ((st = resolve_seed(&p->seed, r->sampling.seed, err)) != MLXR_OK) goto done;
    if ((st = mlxr_sampling_copy(&g->sampling, &r->sampling, err)) != MLXR_OK) goto done;
    p->sampling = g->sampling;
    if ((st = mlxr_engine_dry_breakers(&p->dry_breakers, &g->breakers, e, &r->sampling, err)) != MLXR_OK)
        goto done;
    st = mlxr_prompt_encode(&g->ids, &p->n_ids, &prompt, e->folder.prompt, r, (int64_t)time(NULL), err);
    if (st != MLXR_OK) goto done;
    p->ids = g->ids;
    if ((st = check_prompt(e, p, err)) != MLXR_OK) goto done;
    st = mlxr_structure_make(&g->structure, e->structures, r, prompt, prompt ? strlen(prompt) : 0, err);
    if (st != MLXR_OK) goto done;
    g->tok = e->folder.tok;
    if ((st = encode_close(g, max_thinking, err)) != MLXR_OK) goto done;
    for (size_t i = 0; i < g->n_choices; i++) {
        choice *c = &g->choices[i];
        c->row.job = &g->job;
        c->g = g;
        c->index = (int32_t)i;
        if ((st = mlxr_detokenizer_create(&c->detok, e->folder.tok, true, err)) != MLXR_OK) goto done;
        st = mlxr_answer_init(&c->answer, r, g->structure.has_parts ? &g->structure.parts : NULL, on_answer,
                              c, err);
        if (st != MLXR_OK) goto done;
    }
    g->n_refs = 2;
    *out = g; /* before it can end: a callback may look at where the caller keeps it */
    mlxr_engine_post(e, &g->job);
    g = NULL;
done:
    free((void *)stops);
    free(prompt);
    if (g) generation_destroy(g);
    return st;
}

/* ---- the caller's side ---- */

bool mlxr_generation_next(mlxr_generation *g, int64_t timeout_ms, mlxr_event *event)
{
    const int64_t most = INT64_MAX / 2000000; /* longer is for ever */
    uint64_t until = timeout_ms < 0 || timeout_ms > most ? UINT64_MAX
                                                         : mlxr_now_ns() + (uint64_t)timeout_ms * 1000000u;
    bool in_time = true;
    queued *q;

    pthread_mutex_lock(&g->lock);
    while (!g->first && !g->ended && in_time) in_time = mlxr_cond_wait_until(&g->told, &g->lock, until);
    q = g->first;
    if (q) {
        g->first = q->next;
        if (!g->first) g->last = NULL;
        if (g->taken != &g->failure) free(g->taken);
        g->taken = q;
        *event = q->event;
    }
    pthread_mutex_unlock(&g->lock);
    return q != NULL;
}

bool mlxr_generation_ended(mlxr_generation *g)
{
    bool ended;

    pthread_mutex_lock(&g->lock);
    ended = g->ended && !g->first;
    pthread_mutex_unlock(&g->lock);
    return ended;
}

mlxr_status mlxr_generation_wait(mlxr_generation *g, mlxr_stats *stats, mlxr_error *err)
{
    mlxr_status st;

    pthread_mutex_lock(&g->lock);
    while (!g->ended) pthread_cond_wait(&g->told, &g->lock);
    st = g->err.code;
    if (stats) *stats = g->stats;
    if (err && st != MLXR_OK) *err = g->err;
    pthread_mutex_unlock(&g->lock);
    return st;
}

/* Two atomic stores: a signal handler may do that. */
void mlxr_generation_cancel(mlxr_generation *g)
{
    if (!g) return;
    __atomic_store_n(&g->job.cancel, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&g->hub->interrupt, 1, __ATOMIC_SEQ_CST);
}

void mlxr_generation_free(mlxr_generation *g)
{
    bool ended;

    if (!g) return;
    pthread_mutex_lock(&g->lock);
    g->silent = true;
    while (g->calling && !pthread_equal(g->caller, pthread_self())) pthread_cond_wait(&g->told, &g->lock);
    ended = g->ended;
    pthread_mutex_unlock(&g->lock);
    if (!ended) mlxr_generation_cancel(g);
    generation_unref(g);
}
