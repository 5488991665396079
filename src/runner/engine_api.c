/* engine_api: opening and closing an engine, its thread, and what may be asked about it. */
#include "runner/engine_api.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* ---- conditions and the hub ---- */

bool mlxr_cond_init(pthread_cond_t *c)
{
#ifdef __APPLE__
    return pthread_cond_init(c, NULL) == 0; /* waits are relative there */
#else
    pthread_condattr_t attr;
    bool ok;

    if (pthread_condattr_init(&attr) != 0) return false;
    ok = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 && pthread_cond_init(c, &attr) == 0;
    pthread_condattr_destroy(&attr);
    return ok;
#endif
}

bool mlxr_cond_wait_until(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t until_ns)
{
    struct timespec t;

    if (until_ns == UINT64_MAX) return pthread_cond_wait(c, lock) == 0;
#ifdef __APPLE__
    uint64_t now = mlxr_now_ns(), left = until_ns > now ? until_ns - now : 0;
    t = (struct timespec){.tv_sec = (time_t)(left / 1000000000u), .tv_nsec = (long)(left % 1000000000u)};
    return pthread_cond_timedwait_relative_np(c, lock, &t) != ETIMEDOUT;
#else
    t = (struct timespec){.tv_sec = (time_t)(until_ns / 1000000000u),
                          .tv_nsec = (long)(until_ns % 1000000000u)};
    return pthread_cond_timedwait(c, lock, &t) != ETIMEDOUT;
#endif
}

static engine_hub *hub_create(void)
{
    engine_hub *h = calloc(1, sizeof *h);

    if (!h) return NULL;
    h->n_refs = 1;
    if (pthread_mutex_init(&h->lock, NULL) != 0) goto no_lock;
    if (!mlxr_cond_init(&h->wake)) goto no_wake;
    if (!mlxr_cond_init(&h->told)) goto no_told;
    return h;
no_told:
    pthread_cond_destroy(&h->wake);
no_wake:
    pthread_mutex_destroy(&h->lock);
no_lock:
    free(h);
    return NULL;
}

engine_hub *mlxr_hub_ref(engine_hub *h)
{
    pthread_mutex_lock(&h->lock);
    h->n_refs++;
    pthread_mutex_unlock(&h->lock);
    return h;
}

void mlxr_hub_unref(engine_hub *h)
{
    bool last;

    if (!h) return;
    pthread_mutex_lock(&h->lock);
    last = --h->n_refs == 0;
    pthread_mutex_unlock(&h->lock);
    if (!last) return;
    pthread_cond_destroy(&h->told);
    pthread_cond_destroy(&h->wake);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

void mlxr_engine_post(mlxr_engine *e, engine_job *job)
{
    engine_hub *h = e->hub;

    job->next = NULL;
    job->submitted_ns = mlxr_now_ns();
    pthread_mutex_lock(&h->lock);
    if (h->last)
        h->last->next = job;
    else
        h->first = job;
    h->last = job;
    pthread_cond_signal(&h->wake);
    pthread_mutex_unlock(&h->lock);
}

/* ---- the engine's thread ---- */

/* Ends every job of a list. */
static void end_all(mlxr_engine *e, engine_job **list, mlxr_status st, const mlxr_error *err)
{
    while (*list) {
        engine_job *job = *list;
        *list = job->next;
        job->kind->end(job, e, st, err);
    }
}

static void start_jobs(mlxr_engine *e, engine_job *fresh)
{
    while (fresh) {
        engine_job *job = fresh;
        mlxr_error err = {0};
        mlxr_status st;
        fresh = job->next;
        job->next = NULL;
        if (__atomic_load_n(&job->cancel, __ATOMIC_RELAXED))
            st = mlxr_fail(&err, MLXR_E_CANCELLED, "engine: cancelled");
        else
            st = job->kind->start(job, e, &err);
        if (st != MLXR_OK) {
            job->kind->end(job, e, st, &err);
            continue;
        }
        job->next = e->active;
        e->active = job;
    }
}

static void drop_cancelled(mlxr_engine *e)
{
    mlxr_error err = {0};

    for (engine_job **at = &e->active; *at;) {
        engine_job *job = *at;
        if (!__atomic_load_n(&job->cancel, __ATOMIC_RELAXED)) {
            at = &job->next;
            continue;
        }
        *at = job->next;
        mlxr_fail(&err, MLXR_E_CANCELLED, "engine: cancelled");
        job->kind->end(job, e, MLXR_E_CANCELLED, &err);
    }
}

/* Ends the jobs that are done after a step. */
static void settle(mlxr_engine *e)
{
    for (engine_job **at = &e->active; *at;) {
        engine_job *job = *at;
        mlxr_status st = MLXR_OK;
        mlxr_error err = {0};
        bool done = job->touched && job->kind->settle(job, e, &st, &err);
        job->touched = false;
        if (!done) {
            at = &job->next;
            continue;
        }
        *at = job->next;
        job->kind->end(job, e, st, &err);
    }
}

/* One step of the scheduler. An interrupted one moved nothing: it is repeated, and then not interrupted, so that cancels
 * that keep coming hold nobody up. */
static void step(mlxr_engine *e, bool *interruptible)
{
    const mlxr_step_result *results;
    size_t n_results = 0;
    bool idle = false;
    mlxr_error err = {0};
    mlxr_status st = mlxr_scheduler_step(e->scheduler, *interruptible ? &e->hub->interrupt : NULL, &results,
                                         &n_results, &idle, &err);

    *interruptible = st != MLXR_E_CANCELLED;
    if (st == MLXR_E_CANCELLED) return;
    if (st == MLXR_OK && idle && e->active)
        st = mlxr_fail(&err, MLXR_E_INTERNAL, "engine: the scheduler has nothing to run for a request");
    if (st == MLXR_OK && mlxr_checkpoint_damaged(mlxr_model_checkpoint(e->folder.model)))
        st = mlxr_fail(&err, MLXR_E_CORRUPT,
                       "engine: %s: a file of the weights was cut off while it was in use", e->folder.dir);
    if (st != MLXR_OK) {
        end_all(e, &e->active, st, &err);
        return;
    }
    for (size_t i = 0; i < n_results; i++) {
        engine_row *row = results[i].ud;
        row->job->touched = true;
        row->job->kind->result(row->job, row, &results[i]);
    }
    if (n_results) settle(e);
}

/* Takes the inbox, waiting for it while nothing runs. false: the engine closes. */
static bool take_jobs(mlxr_engine *e, engine_job **fresh)
{
    engine_hub *h = e->hub;
    bool closing;

    pthread_mutex_lock(&h->lock);
    h->stats = mlxr_scheduler_get_stats(e->scheduler);
    while (!h->first && !e->active && h->phase != ENGINE_CLOSING) pthread_cond_wait(&h->wake, &h->lock);
    *fresh = h->first;
    h->first = h->last = NULL;
    closing = h->phase == ENGINE_CLOSING;
    pthread_mutex_unlock(&h->lock);
    return !closing;
}

static void run_jobs(mlxr_engine *e)
{
    engine_job *fresh;
    bool interruptible = true;
    mlxr_error err = {0};

    while (take_jobs(e, &fresh)) {
        start_jobs(e, fresh);
        /* Cleared before the flags are looked at: one that is set behind that ends the step. */
        __atomic_store_n(&e->hub->interrupt, 0, __ATOMIC_SEQ_CST);
        drop_cancelled(e);
        if (e->active) step(e, &interruptible);
    }
    mlxr_fail(&err, MLXR_E_CANCELLED, "engine: it was closed");
    end_all(e, &fresh, MLXR_E_CANCELLED, &err);
    end_all(e, &e->active, MLXR_E_CANCELLED, &err);
}

static void tell_phase(engine_hub *h, int phase)
{
    pthread_mutex_lock(&h->lock);
    if (h->phase != ENGINE_CLOSING) h->phase = phase;
    pthread_cond_broadcast(&h->told);
    pthread_mutex_unlock(&h->lock);
}

/* A device and all made from it belong to one thread, so they are opened, used and closed here. Between device and program
 * the opener reads the weights in, on its own thread, since it is told of the progress there. */
static void *engine_main(void *arg)
{
    mlxr_engine *e = arg;
    engine_hub *h = e->hub;
    bool go_on;

    if (!e->device &&
        mlxr_device_open(&e->device, e->device_name, e->device_options, e->open_error) != MLXR_OK) {
        tell_phase(h, ENGINE_FAILED);
        return NULL;
    }
    snprintf(e->description, sizeof e->description, "%s", mlxr_device_description(e->device));
    tell_phase(h, ENGINE_HAS_DEVICE);
    pthread_mutex_lock(&h->lock);
    while (h->phase == ENGINE_HAS_DEVICE) pthread_cond_wait(&h->wake, &h->lock);
    go_on = h->phase == ENGINE_MAY_COMPILE;
    pthread_mutex_unlock(&h->lock);

    if (go_on && mlxr_scheduler_open(&e->scheduler, e->device, mlxr_model_program(e->folder.model),
                                     &e->scheduler_options, e->open_error) == MLXR_OK) {
        e->context_length = mlxr_scheduler_context_length(e->scheduler);
        tell_phase(h, ENGINE_RUNS);
        run_jobs(e);
    } else {
        tell_phase(h, ENGINE_FAILED);
    }
    mlxr_scheduler_close(e->scheduler);
    mlxr_device_close(e->device);
    e->device = NULL;
    return NULL;
}

/* Signals are for the caller's threads. */
static int create_thread(mlxr_engine *e)
{
    sigset_t all, old;
    int rc;

    sigfillset(&all);
    sigdelset(&all,
              SIGBUS); /* comes of the thread's own reads, and is the process' end where it is blocked */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&e->thread, NULL, engine_main, e);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

/* ---- open and close ---- */

mlxr_engine_options mlxr_engine_options_default(void)
{
    return (mlxr_engine_options){.device = "cpu",
                                 .precision = MLXR_PRECISION_DEFAULT,
                                 .max_sequences = 16,
                                 .max_waiting = SIZE_MAX,
                                 .prefix_cache_bytes = SIZE_MAX};
}

/* Until the phase is another than this one. */
static int wait_phase(engine_hub *h, int not_this)
{
    int phase;

    pthread_mutex_lock(&h->lock);
    while ((phase = (int)h->phase) == not_this) pthread_cond_wait(&h->told, &h->lock);
    pthread_mutex_unlock(&h->lock);
    return phase;
}

static void engine_free(mlxr_engine *e)
{
    if (!e) return;
    mlxr_device_close(e->device); /* only when its thread never began */
    mlxr_structures_free(e->structures);
    mlxr_folder_clear(&e->folder);
    mlxr_hub_unref(e->hub);
    free(e->default_breakers);
    pthread_mutex_destroy(&e->breakers_lock);
    free(e);
}

mlxr_status mlxr_engine_open(mlxr_engine **out, const char *model_dir, const mlxr_engine_options *options,
                             mlxr_error *err)
{
    return mlxr_engine_open_on(out, model_dir, NULL, options, err);
}

mlxr_status mlxr_engine_open_on(mlxr_engine **out, const char *model_dir, mlxr_device *device,
                                const mlxr_engine_options *options, mlxr_error *err)
{
    mlxr_engine_options defaults = mlxr_engine_options_default();
    uint64_t start = mlxr_now_ns();
    mlxr_engine *e = calloc(1, sizeof *e);
    mlxr_device_options device_options;
    mlxr_error thread_error = {0};
    int rc;
    mlxr_status st;

    *out = NULL;
    if (!options) options = &defaults;
    if (!e || pthread_mutex_init(&e->breakers_lock, NULL) != 0) {
        free(e);
        mlxr_device_close(device);
        return mlxr_fail_nomem(err, "engine");
    }
    e->device = device;
    e->log = options->log;
    if (!(e->hub = hub_create())) {
        st = mlxr_fail_nomem(err, "engine");
        goto done;
    }
    if ((st = mlxr_folder_open(&e->folder, model_dir, options->cache_dir, &options->log, err)) != MLXR_OK)
        goto done;
    if ((st = mlxr_structures_create(&e->structures, &e->folder, err)) != MLXR_OK) goto done;
    device_options = (mlxr_device_options){.precision = options->precision,
                                           .kv_type = options->kv_type,
                                           .n_threads = options->n_threads > 0 ? (size_t)options->n_threads
                                                                               : 0,
                                           .isa = options->isa,
                                           .mlx_library = options->mlx_library,
                                           .memory_limit_bytes = options->memory_limit_bytes,
                                           .log = options->log};
    e->device_options = &device_options;
    e->device_name = options->device ? options->device : defaults.device;
    e->scheduler_options = mlxr_scheduler_options_default();
    e->scheduler_options.context_length = options->context_length ? options->context_length
                                                                  : e->folder.settings.context_length;
    if (options->max_sequences) e->scheduler_options.max_sequences = options->max_sequences;
    e->scheduler_options.max_waiting = options->max_waiting;
    e->scheduler_options.max_cached_bytes = options->prefix_cache_bytes;
    if (options->kv_bytes) {
        e->scheduler_options.max_kv_bytes = options->kv_bytes;
        e->scheduler_options.max_kv_tokens = (size_t)UINT32_MAX * 16; /* the bytes are what counts */
    }
    e->open_error = &thread_error;
    if ((rc = create_thread(e)) != 0) {
        st = mlxr_fail(err, MLXR_E_NOMEM, "engine: no thread could be started, out of memory: %s",
                       strerror(rc));
        goto done;
    }
    e->has_thread = true;
    if (wait_phase(e->hub, ENGINE_STARTING) == ENGINE_HAS_DEVICE) {
        mlxr_checkpoint_prefetch(mlxr_model_checkpoint(e->folder.model), &options->progress);
        pthread_mutex_lock(&e->hub->lock);
        e->hub->phase = ENGINE_MAY_COMPILE;
        pthread_cond_signal(&e->hub->wake);
        pthread_mutex_unlock(&e->hub->lock);
    }
    if (wait_phase(e->hub, ENGINE_MAY_COMPILE) == ENGINE_FAILED) {
        st = thread_error.code;
        if (err) *err = thread_error;
        goto done;
    }
    e->load_ns = mlxr_now_ns() - start;
    *out = e;
    e = NULL;
done:
    mlxr_engine_close(e);
    return st;
}

void mlxr_engine_close(mlxr_engine *e)
{
    if (!e) return;
    if (e->has_thread) {
        pthread_mutex_lock(&e->hub->lock);
        e->hub->phase = ENGINE_CLOSING;
        __atomic_store_n(&e->hub->interrupt, 1, __ATOMIC_SEQ_CST);
        pthread_cond_signal(&e->hub->wake);
        pthread_mutex_unlock(&e->hub->lock);
        pthread_join(e->thread, NULL);
    }
    engine_free(e);
}

/* ---- what may be asked ---- */

mlxr_engine_info mlxr_engine_get_info(const mlxr_engine *e)
{
    const mlxr_program *p = mlxr_model_program(e->folder.model);

    return (mlxr_engine_info){.model_dir = e->folder.dir,
                              .family = p->family,
                              .device_name = e->description,
                              .hidden_size = p->hidden_size,
                              .vocab_size = p->vocab_size,
                              .n_layers = p->n_layers,
                              .context_length = e->context_length,
                              .load_ns = e->load_ns};
}

mlxr_engine_load mlxr_engine_get_load(mlxr_engine *e)
{
    mlxr_scheduler_stats s;
    size_t n_posted = 0;

    pthread_mutex_lock(&e->hub->lock);
    s = e->hub->stats;
    for (const engine_job *job = e->hub->first; job; job = job->next) n_posted++;
    pthread_mutex_unlock(&e->hub->lock);
    return (mlxr_engine_load){.n_running = s.n_running,
                              .n_waiting = s.n_waiting + n_posted,
                              .kv_bytes = s.n_blocks * s.block_bytes,
                              .kv_bytes_used = s.n_blocks_used * s.block_bytes,
                              .kv_bytes_cached = s.cached_bytes,
                              .n_steps = s.n_steps,
                              .n_prompt_tokens = s.n_prompt_tokens,
                              .n_cached_tokens = s.n_hit_tokens,
                              .n_generated_tokens = s.n_decode_tokens};
}

const mlxr_tokenizer *mlxr_engine_tokenizer(const mlxr_engine *e)
{
    return e->folder.tok;
}

const char *mlxr_engine_template_source(const mlxr_engine *e)
{
    return mlxr_prompt_template_source(e->folder.prompt);
}

const mlxr_settings *mlxr_engine_settings(const mlxr_engine *e)
{
    return &e->folder.settings;
}

mlxr_sampling mlxr_engine_sampling_default(const mlxr_engine *e)
{
    return e->folder.sampling;
}

mlxr_status mlxr_engine_render(char **out_text, size_t *out_n, const mlxr_engine *e,
                               const mlxr_request *request, mlxr_error *err)
{
    return mlxr_prompt_render(out_text, out_n, e->folder.prompt, request, (int64_t)time(NULL), err);
}

mlxr_status mlxr_engine_encode(int32_t **out_ids, size_t *out_n, const mlxr_engine *e,
                               const mlxr_request *request, mlxr_error *err)
{
    return mlxr_prompt_encode(out_ids, out_n, NULL, e->folder.prompt, request, (int64_t)time(NULL), err);
}

/* ---- what DRY takes for the end of a repetition ---- */

/* The text a token has by itself. */
typedef struct token_texts {
    const mlxr_tokenizer *tok;
    char *text;
} token_texts;

static const char *text_of(void *ud, int32_t id, size_t *n_bytes)
{
    token_texts *t = ud;

    free(t->text);
    t->text = NULL;
    if (mlxr_tokenizer_decode(&t->text, n_bytes, t->tok, &id, 1, false, NULL) != MLXR_OK) return NULL;
    return t->text;
}

static uint32_t *breakers_of(const mlxr_engine *e, const mlxr_sampling *p)
{
    size_t V = mlxr_model_program(e->folder.model)->vocab_size;
    uint32_t *mask = mlxr_calloc_array(MLXR_MASK_WORDS(V), sizeof *mask);
    token_texts texts = {.tok = e->folder.tok};

    if (mask) mlxr_dry_breakers_fill(mask, V, p, text_of, &texts);
    free(texts.text);
    return mask;
}

mlxr_status mlxr_engine_dry_breakers(const uint32_t **mask, uint32_t **own, mlxr_engine *e,
                                     const mlxr_sampling *p, mlxr_error *err)
{
    mlxr_sampling defaults = mlxr_sampling_default();

    *mask = *own = NULL;
    if (p->dry_multiplier == 0 || p->n_dry_sequence_breakers == 0) return MLXR_OK;
    if (p->dry_sequence_breakers != defaults.dry_sequence_breakers ||
        p->n_dry_sequence_breakers != defaults.n_dry_sequence_breakers) {
        *mask = *own = breakers_of(e, p);
    } else {
        pthread_mutex_lock(&e->breakers_lock);
        if (!e->default_breakers) e->default_breakers = breakers_of(e, p);
        *mask = e->default_breakers;
        pthread_mutex_unlock(&e->breakers_lock);
    }
    return *mask ? MLXR_OK : mlxr_fail_nomem(err, "engine: sequence breakers");
}
