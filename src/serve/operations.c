/* operations: see operations.h; and GET /metrics. */
#include "serve/operations.h"

#include <stdlib.h>

#include "serve/serve.h"

/* ---- log and metrics ---- */

/* Messages go to the log, and on to who opened the server. */
static void on_log(mlxr_log_level level, const char *message, void *ud)
{
    mlxr_serve *s = ud;

    mlxr_journal_text(s->journal, level, message);
    if (s->outer_log.fn) s->outer_log.fn(level, message, s->outer_log.ud);
}

mlxr_status mlxr_operations_open(mlxr_serve *s, mlxr_error *err)
{
    mlxr_serve_options *o = &s->options;
    mlxr_journal_options journal = {.path = o->journal,
                                    .with_bodies = o->journal_bodies,
                                    .for_people = o->journal_for_people,
                                    .level = o->journal_level};
    mlxr_status st = mlxr_metrics_create(&s->metrics, err);

    if (st == MLXR_OK && o->journal) st = mlxr_journal_open(&s->journal, &journal, err);
    s->outer_log = o->log;
    if (st == MLXR_OK && s->journal) {
        s->log = o->log = (mlxr_log){on_log, s};
        o->store.log = o->engine.log = s->log;
    }
    return st;
}

void mlxr_operations_close(mlxr_serve *s)
{
    mlxr_journal_close(s->journal);
    mlxr_metrics_free(s->metrics);
}

void mlxr_operations_done(mlxr_request_in *r, int status, uint64_t n_sent, uint64_t duration_ns,
                          bool complete, void *ud)
{
    mlxr_serve *s = ud;
    const mlxr_record *record = mlxr_request_record(r);

    mlxr_metrics_add(s->metrics, record, mlxr_request_method(r), status, n_sent, duration_ns, complete);
    if (s->journal) mlxr_journal_request(s->journal, r, record, status, n_sent, duration_ns, complete);
}

void mlxr_serve_reopen(mlxr_serve *s)
{
    mlxr_journal_reopen(s->journal);
}

/* ---- keys ---- */

void mlxr_serve_set_keys(mlxr_serve *s, const mlxr_gate_keys *keys)
{
    __atomic_store_n(&s->options.gate.current, keys, __ATOMIC_RELEASE);
}

/* ---- models loaded ahead ---- */

struct preload {
    mlxr_serve *serve;
    char name[];
};

static void on_preloaded(void *ud, mlxr_resident *resident, uint64_t load_ns, const mlxr_error *err)
{
    struct preload *p = ud;

    if (resident) {
        mlxr_log_at(&p->serve->log, MLXR_LOG_INFO, "%s is loaded, in %.3f s", p->name, (double)load_ns / 1e9);
        mlxr_resident_release(resident, MLXR_KEEP_FOREVER);
    } else {
        mlxr_log_at(&p->serve->log, MLXR_LOG_WARN, "%s could not be loaded: %s", p->name, err->message);
    }
    free(p);
}

mlxr_status mlxr_serve_preload(mlxr_serve *s, const char *name, mlxr_error *err)
{
    struct preload *p = malloc(sizeof *p + strlen(name) + 1);
    mlxr_arena arena = {0};
    mlxr_resident_key key;
    mlxr_status st;

    if (!p) return mlxr_fail_nomem(err, "preload");
    p->serve = s;
    memcpy(p->name, name, strlen(name) + 1);
    st = mlxr_serve_resolve(&key, s, &arena, name, err);
    if (st == MLXR_OK) st = mlxr_residency_acquire(s->residency, &key, on_preloaded, p, NULL, err);
    if (st != MLXR_OK) free(p);
    mlxr_arena_clear(&arena);
    return st;
}

/* ---- GET /metrics ---- */

static void write_metrics(mlxr_serve *s, mlxr_request_in *http)
{
    mlxr_buf out = {0};

    mlxr_metrics_write(&out, s->metrics, s);
    if (out.failed) {
        mlxr_buf_clear(&out);
        mlxr_api_fail(http, MLXR_API_NATIVE, 503, "out of memory");
        return;
    }
    mlxr_reply(http, 200, "text/plain; version=0.0.4; charset=utf-8", &out);
}

/* On a worker: it asks the loaded models, who may be busy. */
static void metrics(mlxr_request_in *http, void *ud)
{
    mlxr_serve_post(ud, http, write_metrics);
}

static const mlxr_endpoint endpoints[] = {
    {.method = "GET",
     .path = "/metrics",
     .summary = "Counts of what the server did, in Prometheus' text form",
     .handler = metrics,
     .content_type = "text/plain; version=0.0.4; charset=utf-8"},
};

const mlxr_endpoints mlxr_operation_endpoints = {endpoints, MLXR_COUNT(endpoints)};
