/* served: see served.h. */
#include "serve/served.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "runner/engine_api.h"

struct mlxr_served {
    mlxr_engine *engine;
    char *path;
    /* the mock's */
    char *name;
    uint32_t token_ms;
    pthread_mutex_t lock; /* guards runs */
    pthread_cond_t ended;
    size_t n_runs; /* threads of the mock */
    bool closing;
    mlxr_served_run *runs;
};

/* Several runs whose events go to one callback. Each part holds a reference, and so does whoever is in its callback. */
struct group {
    pthread_mutex_t lock; /* recursive: a callback may free the whole; guards n_refs and ended */
    size_t n_refs;
    bool ended; /* a part failed, or the whole was freed: nothing more is told */
    mlxr_on_event on_event;
    void *ud;
};

struct mlxr_served_run {
    mlxr_served *model;
    mlxr_generation *generation; /* the engine's: one of the two */
    mlxr_embedding *embedding;
    size_t max_thinking;
    /* a whole's; constant once it is given out */
    mlxr_served_run **parts;
    size_t n_parts;
    /* of a whole and of its parts */
    struct group *group;
    int32_t first_choice;
    /* the mock's */
    mlxr_served_run *next;
    mlxr_runner *runner;
    mlxr_request request; /* its strings in arena */
    mlxr_arena arena;
    mlxr_on_event on_event;
    void *ud;
    /* guarded by the model's lock */
    unsigned n_refs; /* the caller's and the thread's */
    bool freed, calling, cancelled;
    pthread_t thread; /* set by itself */
};

enum { MOCK_CONTEXT = 4096, MOCK_DIMENSIONS = 32 };

mlxr_status mlxr_served_open(mlxr_served **out, const char *path, const mlxr_engine_options *options,
                             mlxr_error *err)
{
    mlxr_served *m = calloc(1, sizeof *m);
    mlxr_status st = MLXR_OK;

    *out = NULL;
    if (!m || !(m->path = mlxr_strdup(path))) {
        free(m);
        return mlxr_fail_nomem(err, "model");
    }
    if ((st = mlxr_engine_open(&m->engine, path, options, err)) != MLXR_OK) {
        free(m->path);
        free(m);
        return st;
    }
    *out = m;
    return MLXR_OK;
}

mlxr_status mlxr_served_open_mock(mlxr_served **out, const char *name, uint32_t token_ms, mlxr_error *err)
{
    mlxr_served *m = calloc(1, sizeof *m);

    *out = NULL;
    if (!m) return mlxr_fail_nomem(err, "model");
    m->token_ms = token_ms;
    if (!(m->name = mlxr_strdup(name))) goto no_name;
    if (pthread_mutex_init(&m->lock, NULL) != 0) goto no_lock;
    if (pthread_cond_init(&m->ended, NULL) != 0) goto no_cond;
    *out = m;
    return MLXR_OK;
no_cond:
    pthread_mutex_destroy(&m->lock);
no_lock:
    free(m->name);
no_name:
    free(m);
    return mlxr_fail_nomem(err, "model");
}

void mlxr_served_close(mlxr_served *m)
{
    if (!m) return;
    if (m->engine) {
        mlxr_engine_close(m->engine);
    } else {
        pthread_mutex_lock(&m->lock);
        m->closing = true;
        for (mlxr_served_run *r = m->runs; r; r = r->next) {
            r->cancelled = true;
            mlxr_runner_cancel(r->runner);
        }
        while (m->n_runs) pthread_cond_wait(&m->ended, &m->lock);
        pthread_mutex_unlock(&m->lock);
        pthread_cond_destroy(&m->ended);
        pthread_mutex_destroy(&m->lock);
    }
    free(m->path);
    free(m->name);
    free(m);
}

mlxr_engine *mlxr_served_engine(const mlxr_served *m)
{
    return m->engine;
}

const mlxr_tokenizer *mlxr_served_tokenizer(const mlxr_served *m)
{
    return m->engine ? mlxr_engine_tokenizer(m->engine) : NULL;
}

const char *mlxr_served_path(const mlxr_served *m)
{
    return m->path;
}

size_t mlxr_served_context(const mlxr_served *m)
{
    return m->engine ? mlxr_engine_get_info(m->engine).context_length : MOCK_CONTEXT;
}

mlxr_sampling mlxr_served_sampling(const mlxr_served *m)
{
    return m->engine ? mlxr_engine_sampling_default(m->engine) : mlxr_sampling_default();
}

/* ---- the mock: a thread a run ---- */

static void group_unref(struct group *g)
{
    bool last;

    if (!g) return;
    pthread_mutex_lock(&g->lock);
    last = --g->n_refs == 0;
    pthread_mutex_unlock(&g->lock);
    if (!last) return;
    pthread_mutex_destroy(&g->lock);
    free(g);
}

static void run_destroy(mlxr_served_run *r)
{
    group_unref(r->group);
    free(r->parts);
    mlxr_runner_close(r->runner);
    mlxr_arena_clear(&r->arena);
    free(r);
}

static void mock_event(const mlxr_event *event, void *ud)
{
    mlxr_served_run *r = ud;
    mlxr_served *m = r->model;
    bool freed, cancelled;

    pthread_mutex_lock(&m->lock);
    freed = r->freed;
    r->calling = !freed;
    pthread_mutex_unlock(&m->lock);
    if (!freed) r->on_event(event, r->ud);
    pthread_mutex_lock(&m->lock);
    r->calling = false;
    cancelled = r->cancelled;
    pthread_cond_broadcast(&m->ended);
    pthread_mutex_unlock(&m->lock);
    if (cancelled) mlxr_runner_cancel(r->runner); /* it may have come before the runner began */
}

/* Ends a reference; with the lock held. */
static bool is_last(mlxr_served_run *r)
{
    return --r->n_refs == 0;
}

static void *mock_run(void *ud)
{
    mlxr_served_run *r = ud;
    mlxr_served *m = r->model;
    mlxr_error err = {0};
    mlxr_stats stats = {0};
    mlxr_status st;
    bool last, cancelled;

    pthread_mutex_lock(&m->lock);
    r->thread = pthread_self();
    cancelled = r->cancelled;
    pthread_mutex_unlock(&m->lock);
    st = cancelled ? mlxr_fail(&err, MLXR_E_CANCELLED, "mock: cancelled")
                   : mlxr_runner_generate(r->runner, &r->request, mock_event, r, &stats, &err);
    if (st != MLXR_OK) {
        mlxr_event e = {.type = MLXR_EVENT_FAILED,
                        .choice = -1,
                        .text = err.message,
                        .n_text = strlen(err.message),
                        .id = -1,
                        .stats = &stats,
                        .status = st};
        mock_event(&e, r);
    }
    pthread_mutex_lock(&m->lock);
    last = is_last(r);
    for (mlxr_served_run **at = &m->runs; *at; at = &(*at)->next)
        if (*at == r) {
            *at = r->next;
            break;
        }
    m->n_runs--;
    pthread_cond_broadcast(&m->ended);
    pthread_mutex_unlock(&m->lock);
    if (last) run_destroy(r);
    return NULL;
}

/* Of a mock's run, with the lock held. */
static void mock_cancel(mlxr_served_run *r)
{
    r->cancelled = true;
    mlxr_runner_cancel(r->runner);
}

static const char *keep(mlxr_served_run *r, const char *s, bool *failed)
{
    char *copy = s ? mlxr_arena_strndup(&r->arena, s, strlen(s)) : NULL;

    *failed |= s && !copy;
    return copy;
}

/* The request's texts outlive the call that brought them. Arrays of numbers that the mock does not look at are left out. */
static bool keep_request(mlxr_served_run *r, const mlxr_request *q)
{
    bool failed = false;
    const char **stop;

    r->request = *q;
    r->request.prompt = keep(r, q->prompt, &failed);
    r->request.system = keep(r, q->system, &failed);
    r->request.messages_json = keep(r, q->messages_json, &failed);
    r->request.tools_json = keep(r, q->tools_json, &failed);
    r->request.format = keep(r, q->format, &failed);
    r->request.grammar = keep(r, q->grammar, &failed);
    r->request.regex = keep(r, q->regex, &failed);
    r->request.answer_format = keep(r, q->answer_format, &failed);
    r->request.tool_name = keep(r, q->tool_name, &failed);
    r->request.sampling.logit_bias = NULL;
    r->request.sampling.n_logit_bias = 0;
    r->request.sampling.dry_sequence_breakers = NULL;
    r->request.sampling.n_dry_sequence_breakers = 0;
    stop = mlxr_arena_calloc(&r->arena, q->n_stop + 1, sizeof *stop);
    if (!stop) return false;
    for (size_t i = 0; i < q->n_stop; i++) stop[i] = keep(r, q->stop[i], &failed);
    r->request.stop = stop;
    return !failed;
}

static mlxr_status mock_submit(mlxr_served_run *r, const mlxr_request *request, mlxr_error *err)
{
    mlxr_served *m = r->model;
    mlxr_runner_options options = mlxr_runner_options_default();
    pthread_attr_t attr;
    pthread_t thread;
    mlxr_status st;
    bool started = false;

    options.adapter = "mock";
    options.mock_token_ms = m->token_ms;
    if ((st = mlxr_runner_open(&r->runner, m->name, &options, err)) != MLXR_OK) return st;
    if (!keep_request(r, request)) return mlxr_fail_nomem(err, "request");
    if (pthread_attr_init(&attr) != 0) return mlxr_fail_nomem(err, "request");
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_mutex_lock(&m->lock);
    r->n_refs = 2;
    if (!m->closing && pthread_create(&thread, &attr, mock_run, r) == 0) {
        started = true;
        m->n_runs++;
        r->next = m->runs;
        m->runs = r;
    }
    pthread_mutex_unlock(&m->lock);
    pthread_attr_destroy(&attr);
    return started ? MLXR_OK : mlxr_fail_nomem(err, "request");
}

/* ---- runs ---- */

static mlxr_status submit_one(mlxr_served_run *r, const mlxr_request *request, mlxr_on_event on_event,
                              void *ud, mlxr_error *err)
{
    mlxr_served *m = r->model;

    r->on_event = on_event;
    r->ud = ud;
    return m->engine ? mlxr_engine_submit_thinking(&r->generation, m->engine, request, r->max_thinking,
                                                   on_event, ud, err)
                     : mock_submit(r, request, err);
}

mlxr_status mlxr_served_submit(mlxr_served_run **out, mlxr_served *m, const mlxr_request *request,
                               mlxr_on_event on_event, void *ud, mlxr_error *err)
{
    return mlxr_served_submit_thinking(out, m, request, 0, on_event, ud, err);
}

mlxr_status mlxr_served_submit_thinking(mlxr_served_run **out, mlxr_served *m, const mlxr_request *request,
                                        size_t max_thinking, mlxr_on_event on_event, void *ud,
                                        mlxr_error *err)
{
    mlxr_served_run *r;
    mlxr_status st;

    if (!m->engine && request->n_choices > 1)
        return mlxr_served_submit_all(out, m, request, NULL, 0, on_event, ud, err);
    *out = NULL;
    r = calloc(1, sizeof *r);
    if (!r) return mlxr_fail_nomem(err, "request");
    r->model = m;
    r->max_thinking = max_thinking;
    if ((st = submit_one(r, request, on_event, ud, err)) == MLXR_OK)
        *out = r;
    else
        run_destroy(r);
    return st;
}

/* ---- several requests as one run ---- */

static struct group *group_create(mlxr_on_event on_event, void *ud)
{
    struct group *g = calloc(1, sizeof *g);
    pthread_mutexattr_t attr;
    bool ok = false;

    if (g && pthread_mutexattr_init(&attr) == 0) {
        ok = pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE) == 0 &&
             pthread_mutex_init(&g->lock, &attr) == 0;
        pthread_mutexattr_destroy(&attr);
    }
    if (!ok) {
        free(g);
        return NULL;
    }
    g->n_refs = 1;
    g->on_event = on_event;
    g->ud = ud;
    return g;
}

static void group_ref(struct group *g)
{
    pthread_mutex_lock(&g->lock);
    g->n_refs++;
    pthread_mutex_unlock(&g->lock);
}

/* Of a part, on the engine's thread or the part's own. */
static void part_event(const mlxr_event *event, void *ud)
{
    mlxr_served_run *part = ud;
    struct group *g = part->group;
    mlxr_event own = *event;

    if (own.choice >= 0) own.choice += part->first_choice;
    pthread_mutex_lock(&g->lock);
    g->n_refs++;
    if (!g->ended) {
        g->ended = event->type == MLXR_EVENT_FAILED;
        g->on_event(&own, g->ud);
    }
    pthread_mutex_unlock(&g->lock);
    group_unref(g);
}

static void free_parts(mlxr_served_run *r)
{
    pthread_mutex_lock(&r->group->lock);
    r->group->ended = true;
    pthread_mutex_unlock(&r->group->lock);
    for (size_t i = 0; i < r->n_parts; i++) mlxr_served_run_free(r->parts[i]);
    run_destroy(r);
}

/* The i-th run of all, with its choices behind those before it. */
static mlxr_status submit_part(mlxr_served_run *whole, const mlxr_request *request, int32_t first_choice,
                               mlxr_error *err)
{
    mlxr_served_run *part = calloc(1, sizeof *part);
    mlxr_status st;

    if (!part) return mlxr_fail_nomem(err, "request");
    part->model = whole->model;
    part->group = whole->group;
    part->first_choice = first_choice;
    group_ref(part->group);
    if ((st = submit_one(part, request, part_event, part, err)) == MLXR_OK)
        whole->parts[whole->n_parts++] = part;
    else
        run_destroy(part);
    return st;
}

mlxr_status mlxr_served_submit_all(mlxr_served_run **out, mlxr_served *m, const mlxr_request *request,
                                   const mlxr_request *more, size_t n_more, mlxr_on_event on_event, void *ud,
                                   mlxr_error *err)
{
    size_t n_choices = request->n_choices > 1 ? (size_t)request->n_choices : 1;
    size_t per = m->engine ? 1 : n_choices; /* the mock knows one choice a run */
    mlxr_served_run *r;
    mlxr_status st = MLXR_OK;
    bool told;

    if (!n_more && per == 1) return mlxr_served_submit(out, m, request, on_event, ud, err);
    *out = NULL;
    r = calloc(1, sizeof *r);
    if (!r) return mlxr_fail_nomem(err, "request");
    r->model = m;
    r->group = group_create(on_event, ud);
    r->parts = mlxr_calloc_array((n_more + 1) * per, sizeof(mlxr_served_run *));
    if (!r->group || !r->parts) {
        run_destroy(r);
        return mlxr_fail_nomem(err, "request");
    }
    for (size_t i = 0; i < (n_more + 1) * per && st == MLXR_OK; i++) {
        mlxr_request q = more && i >= per ? more[i / per - 1] : *request;
        if (per > 1) q.n_choices = 1;
        st = submit_part(r, &q, (int32_t)(per > 1 ? i : i * n_choices), err);
    }
    if (st == MLXR_OK) {
        *out = r;
        return st;
    }
    pthread_mutex_lock(&r->group->lock);
    told = r->group->ended;
    r->group->ended = true;
    pthread_mutex_unlock(&r->group->lock);
    if (told) { /* an event has said so already: the caller has nothing to answer any more */
        *out = r;
        return MLXR_OK;
    }
    free_parts(r);
    return st;
}

void mlxr_served_cancel(mlxr_served_run *r)
{
    for (size_t i = 0; i < r->n_parts; i++) mlxr_served_cancel(r->parts[i]);
    if (r->generation)
        mlxr_generation_cancel(r->generation);
    else if (r->embedding)
        mlxr_embedding_cancel(r->embedding);
    if (r->runner) {
        pthread_mutex_lock(&r->model->lock);
        mock_cancel(r);
        pthread_mutex_unlock(&r->model->lock);
    }
}

void mlxr_served_run_free(mlxr_served_run *r)
{
    mlxr_served *m;
    bool last;

    if (!r) return;
    if (r->parts) {
        free_parts(r);
        return;
    }
    if (!r->runner) {
        mlxr_generation_free(r->generation);
        mlxr_embedding_free(r->embedding);
        run_destroy(r);
        return;
    }
    m = r->model;
    pthread_mutex_lock(&m->lock);
    r->freed = true;
    mock_cancel(r);
    /* A part waits for its callback by the group's lock, which who is in one holds. */
    while (!r->group && r->calling && !pthread_equal(r->thread, pthread_self()))
        pthread_cond_wait(&m->ended, &m->lock);
    last = is_last(r);
    pthread_mutex_unlock(&m->lock);
    if (last) run_destroy(r);
}

/* ---- prompts, tokens, vectors ---- */

mlxr_status mlxr_served_render(char **out, size_t *n, const mlxr_served *m, const mlxr_request *request,
                               mlxr_error *err)
{
    const char *text = request->messages_json ? request->messages_json
                       : request->prompt      ? request->prompt
                                              : "";

    if (m->engine) return mlxr_engine_render(out, n, m->engine, request, err);
    *out = mlxr_strdup(text);
    *n = strlen(text);
    return *out ? MLXR_OK : mlxr_fail_nomem(err, "prompt");
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

mlxr_status mlxr_served_encode(int32_t **ids, size_t *n, const mlxr_served *m, const mlxr_request *request,
                               mlxr_error *err)
{
    const char *text = request->messages_json ? request->messages_json
                       : request->prompt      ? request->prompt
                                              : "";
    size_t count = 0;

    if (m->engine) return mlxr_engine_encode(ids, n, m->engine, request, err);
    *n = 0;
    *ids = mlxr_malloc_array(strlen(text) / 2 + 1, sizeof **ids);
    if (!*ids) return mlxr_fail_nomem(err, "tokens");
    for (const char *p = text; *p;) {
        const char *start = p;
        while (is_space(*p)) p++;
        if (!*p) break;
        while (*p && !is_space(*p)) p++;
        (*ids)[count++] = (int32_t)(mlxr_hash_bytes(start, (size_t)(p - start), 0) & 0x7fff);
    }
    *n = count;
    return MLXR_OK;
}

mlxr_status mlxr_served_embed(mlxr_embeddings *out, mlxr_served *m, const mlxr_input *inputs, size_t n,
                              const mlxr_embed_options *options, mlxr_error *err)
{
    size_t d = options->dimensions && options->dimensions < MOCK_DIMENSIONS ? options->dimensions
                                                                            : MOCK_DIMENSIONS;

    if (m->engine) return mlxr_engine_embed(out, m->engine, inputs, n, options, err);
    *out = (mlxr_embeddings){.n = n, .n_dimensions = d};
    out->values = mlxr_calloc_array(n * d, sizeof *out->values);
    if (!out->values) return mlxr_fail_nomem(err, "embeddings");
    for (size_t i = 0; i < n; i++) {
        float *v = out->values + i * d, sum = 0;
        uint64_t h = mlxr_hash_bytes(inputs[i].text ? inputs[i].text : "", inputs[i].n_text, 1);
        for (size_t j = 0; j < d; j++) {
            h = mlxr_hash_bytes(&h, sizeof h, j);
            v[j] = (float)(int64_t)h / 9.3e18f;
            sum += v[j] * v[j];
        }
        for (size_t j = 0; j < d; j++) v[j] /= sqrtf(sum);
        out->n_tokens += 1;
        for (size_t j = 0; inputs[i].text && j < inputs[i].n_text; j++)
            out->n_tokens += inputs[i].text[j] == ' ';
    }
    return MLXR_OK;
}

mlxr_status mlxr_served_submit_embed(mlxr_served_run **out, mlxr_served *m, const mlxr_input *inputs,
                                     size_t n, const mlxr_embed_options *options,
                                     mlxr_on_served_embedded on_done, void *ud, mlxr_error *err)
{
    mlxr_served_run *r = calloc(1, sizeof *r);
    mlxr_embeddings rows = {0};
    mlxr_error none = {0};
    mlxr_status st;

    *out = NULL;
    if (!r) return mlxr_fail_nomem(err, "request");
    r->model = m;
    *out = r; /* on_done may come before this returns */
    if (m->engine) {
        st = mlxr_embedding_start(&r->embedding, m->engine, inputs, n, options, on_done, ud, err);
    } else if ((st = mlxr_served_embed(&rows, m, inputs, n, options, err)) == MLXR_OK) {
        on_done(&rows, &none, ud);
        mlxr_embeddings_clear(&rows);
    }
    if (st == MLXR_OK) return st;
    *out = NULL;
    run_destroy(r);
    return st;
}
