/* serve: see serve.h. */
#include "serve/serve.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "runner/engine_api.h"
#include "serve/shelf.h"
#include "store/keep.h"

/* 64 short answers at once; what is more waits a while, and far more is refused at once. */
static mlxr_engine_options engine_options_default(void)
{
    mlxr_engine_options o = mlxr_engine_options_default();

    o.max_sequences = 64;
    o.max_waiting = 512;
    return o;
}

mlxr_serve_options mlxr_serve_options_default(void)
{
    return (mlxr_serve_options){.server = mlxr_server_options_default(),
                                .residency = mlxr_residency_options_default(),
                                .engine = engine_options_default(),
                                .store = mlxr_store_options_default(),
                                .remote = mlxr_remote_options_default(),
                                .journal_level = MLXR_LOG_INFO,
                                .max_workers = 64};
}

/* ---- hooks of the server ---- */

/* What a client is told about who it may be. */
static bool gate(mlxr_request_in *r, void *ud)
{
    mlxr_serve *s = ud;
    const char *path = mlxr_request_path(r);

    mlxr_reply_header(r, "X-Request-Id", mlxr_request_record(r)->id);
    if (mlxr_api_of_path(path) == MLXR_API_ANTHROPIC)
        mlxr_reply_header(r, "request-id", mlxr_request_record(r)->id);
    if (mlxr_server_checks_host(s->server) &&
        !mlxr_gate_host_ok(mlxr_request_header(r, "Host"), s->host_name)) {
        mlxr_reply_text(r, 403, NULL, "");
        return false;
    }
    switch (mlxr_gate_look(r, &s->options.gate, s->host_name)) {
    case MLXR_GATE_PASS: break;
    case MLXR_GATE_HOST:
    case MLXR_GATE_ORIGIN: mlxr_reply_text(r, 403, NULL, ""); return false;
    case MLXR_GATE_KEY: mlxr_api_fail(r, mlxr_api_of_path(path), 401, "a key is needed"); return false;
    }
    mlxr_gate_headers(r);
    return !mlxr_gate_preflight(r);
}

static void refuse(mlxr_request_in *r, int status, const char *text, void *ud)
{
    mlxr_api api = mlxr_api_of_path(mlxr_request_path(r));

    (void)ud;
    if (api == MLXR_API_NATIVE && (status == 404 || status == 405))
        mlxr_reply_text(r, status, "text/plain", text);
    else
        mlxr_api_fail(r, api, status, text);
}

/* ---- hooks of the residency ---- */

/* What this process may use: the machine's, or less where a control group has a limit. 0: not known. */
static uint64_t machine_memory(void)
{
    static const char *const limits[] = {"/sys/fs/cgroup/memory.max",
                                         "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t most = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;

    for (size_t i = 0; i < MLXR_COUNT(limits); i++) {
        char text[32] = "";
        FILE *f = fopen(limits[i], "r");
        uint64_t limit;
        if (!f) continue;
        limit = fgets(text, sizeof text, f) && text[0] >= '0' && text[0] <= '9' ? strtoull(text, NULL, 10)
                                                                                : 0;
        fclose(f);
        if (limit && (!most || limit < most)) most = limit;
    }
    return most;
}

/* What an engine of this model takes, and how it is opened so. */
static mlxr_status plan_engine(mlxr_engine_memory *out, mlxr_serve *s, const mlxr_resident_key *key,
                               mlxr_error *err)
{
    return mlxr_engine_plan(out, key->path, &s->options.engine, key->context_length,
                            s->options.residency.memory_bytes / 4, err);
}

enum { MOCK_BYTES = 1 << 20 };

static mlxr_status plan_model(void *ud, const mlxr_resident_key *key, uint64_t *n_bytes, mlxr_error *err)
{
    mlxr_serve *s = ud;
    mlxr_engine_memory m = {0};
    mlxr_status st = s->mock ? MLXR_OK : plan_engine(&m, s, key, err);

    *n_bytes = s->mock ? MOCK_BYTES : m.total_bytes;
    return st;
}

static mlxr_status open_model(void *ud, const mlxr_resident_key *key, const volatile int *cancel,
                              void **model, mlxr_error *err)
{
    mlxr_serve *s = ud;
    mlxr_engine_options o = s->options.engine;
    mlxr_engine_memory m = {0};
    mlxr_served *served = NULL;
    mlxr_status st;

    if (mlxr_cancelled(cancel)) return mlxr_fail(err, MLXR_E_CANCELLED, "model %s: given up", key->name);
    if (s->mock) {
        st = mlxr_served_open_mock(&served, key->name, s->options.mock_token_ms, err);
    } else if ((st = plan_engine(&m, s, key, err)) == MLXR_OK) {
        o.context_length = m.context_length;
        o.kv_bytes = (size_t)m.kv_bytes;
        st = mlxr_served_open(&served, key->path, &o, err);
    }
    *model = served;
    return st;
}

static size_t context_of(void *ud, void *model)
{
    (void)ud;
    return mlxr_served_context(model);
}

static void close_model(void *ud, void *model)
{
    (void)ud;
    mlxr_served_close(model);
}

/* ---- routes ---- */

static mlxr_status make_routes(mlxr_serve *s, size_t *n, mlxr_error *err)
{
    const mlxr_endpoint *e;

    *n = 0;
    while (mlxr_endpoint_at(*n, &e)) ++*n;
    s->routes = mlxr_calloc_array(*n, sizeof *s->routes);
    s->turn_routes = mlxr_calloc_array(*n, sizeof *s->turn_routes);
    if (!s->routes || !s->turn_routes) return mlxr_fail_nomem(err, "server");
    for (size_t i = 0; mlxr_endpoint_at(i, &e); i++) {
        s->turn_routes[i] = (mlxr_turn_route){s, e->front};
        s->routes[i] = (mlxr_route){.method = e->method,
                                    .path = e->path,
                                    .handler = e->front ? mlxr_turn_handle : e->handler,
                                    .max_body = e->max_body,
                                    .body = e->body,
                                    .ud = e->front ? (void *)&s->turn_routes[i] : (void *)s};
    }
    return MLXR_OK;
}

/* ---- life ---- */

mlxr_status mlxr_serve_open(mlxr_serve **out, const mlxr_serve_options *options, mlxr_error *err)
{
    mlxr_serve *s = calloc(1, sizeof *s);
    mlxr_server_options *server;
    mlxr_residency_options residency;
    mlxr_status st = MLXR_OK;

    *out = NULL;
    if (!s) return mlxr_fail_nomem(err, "server");
    s->options = *options;
    s->mock = options->mock;
    s->strict = options->strict;
    s->log = options->log;
    s->start_ns = mlxr_now_ns();
    s->start_seconds = (int64_t)time(NULL);
    if (gethostname(s->host_name, sizeof s->host_name - 1) != 0) s->host_name[0] = '\0';
    if ((st = mlxr_operations_open(s, err)) != MLXR_OK) goto done;
    if (options->store_root &&
        (st = mlxr_store_open(&s->store, options->store_root, &s->options.store, err)) != MLXR_OK)
        goto done;
    if ((st = mlxr_shelf_create(&s->shelf, s->store, err)) != MLXR_OK) goto done;
    if ((st = mlxr_workers_create(&s->workers, options->max_workers, err)) != MLXR_OK) goto done;
    if ((st = mlxr_openapi_text_create(&s->openapi, err)) != MLXR_OK) goto done;
    residency = options->residency;
    if (!residency.memory_bytes) residency.memory_bytes = machine_memory() / 5 * 4;
    s->options.residency.memory_bytes = residency.memory_bytes;
    residency.plan = plan_model;
    residency.open = open_model;
    residency.context = context_of;
    residency.close = close_model;
    residency.ud = s;
    residency.log = s->log;
    if ((st = mlxr_residency_create(&s->residency, &residency, err)) != MLXR_OK) goto done;
    server = &s->options.server;
    if ((st = make_routes(s, &server->n_routes, err)) != MLXR_OK) goto done;
    server->routes = s->routes;
    server->gate = gate;
    server->refuse = refuse;
    server->done = mlxr_operations_done;
    server->keep_answers = options->journal && options->journal_bodies;
    server->ud = s;
    server->log = s->log;
    if ((st = mlxr_server_open(&s->server, server, err)) != MLXR_OK) goto done;
    *out = s;
    s = NULL;
done:
    mlxr_serve_close(s);
    return st;
}

enum { LAST_WORDS_MS = 1000 };

bool mlxr_serve_drain(mlxr_serve *s, uint32_t wait_ms)
{
    s->ending = 1;
    mlxr_shelf_stop(s->shelf);
    if (mlxr_server_drain(s->server, wait_ms)) return true;
    /* What still runs is told so, each in its API's way, and has a moment to say it. */
    mlxr_server_stop_all(s->server);
    (void)mlxr_server_drain(s->server, LAST_WORDS_MS);
    return false;
}

void mlxr_serve_close(mlxr_serve *s)
{
    if (!s) return;
    s->ending = 1;
    mlxr_shelf_stop(s->shelf);
    mlxr_server_close(s->server);
    mlxr_residency_free(s->residency);
    mlxr_workers_free(s->workers);
    mlxr_shelf_free(s->shelf);
    mlxr_openapi_text_free(s->openapi);
    mlxr_store_close(s->store);
    mlxr_operations_close(s);
    free(s->routes);
    free(s->turn_routes);
    free(s);
}

/* ---- what handlers share ---- */

struct post {
    mlxr_serve *serve;
    mlxr_request_in *http;
    void (*fn)(mlxr_serve *s, mlxr_request_in *http);
};

static void run_post(void *ud)
{
    struct post *p = ud;

    p->fn(p->serve, p->http);
    mlxr_request_unref(p->http);
    free(p);
}

void mlxr_serve_post(mlxr_serve *s, mlxr_request_in *http, void (*fn)(mlxr_serve *s, mlxr_request_in *http))
{
    struct post *p = malloc(sizeof *p);

    if (p) {
        *p = (struct post){s, http, fn};
        mlxr_request_ref(http);
        if (mlxr_workers_post(s->workers, run_post, p)) return;
        mlxr_request_unref(http);
        free(p);
    }
    mlxr_api_fail(http, mlxr_api_of_path(mlxr_request_path(http)), 503, "out of memory");
}

void mlxr_serve_answer(mlxr_request_in *http, mlxr_buf *json)
{
    if (json->failed) {
        mlxr_buf_clear(json);
        mlxr_api_fail(http, mlxr_api_of_path(mlxr_request_path(http)), 503, "out of memory");
        return;
    }
    mlxr_reply(http, 200, "application/json; charset=utf-8", json);
}

int mlxr_serve_http_status(mlxr_status st)
{
    switch (st) {
    case MLXR_OK: return 200;
    case MLXR_E_INVALID_ARGUMENT:
    case MLXR_E_FORMAT:
    case MLXR_E_UNSUPPORTED:
    case MLXR_E_CONTEXT_OVERFLOW:
    case MLXR_E_TEMPLATE:
    case MLXR_E_LIMIT: return 400;
    case MLXR_E_NOT_FOUND:
    case MLXR_E_MODEL_PATH_MISSING: return 404;
    case MLXR_E_DENIED: return 401;
    case MLXR_E_BUSY: return 503;
    case MLXR_E_CANCELLED: return 499;
    case MLXR_E_NETWORK: return 502;
    case MLXR_E_NO_SPACE: return 507;
    default: return 500;
    }
}

/* "name:local" is name; a model of somebody's cloud is none here. */
static bool strip_source(char *name)
{
    size_t n = strlen(name);
    const char *tag = strrchr(name, ':');

    if (n > 6 && strcasecmp(name + n - 6, ":local") == 0) name[n - 6] = '\0';
    if (!tag) return true;
    n = strlen(tag);
    return strcasecmp(tag, ":cloud") != 0 && (n < 6 || strcasecmp(tag + n - 6, "-cloud") != 0);
}

static const char *display(mlxr_arena *arena, const mlxr_name *name)
{
    mlxr_buf b = {0};
    const char *text;

    mlxr_name_display(&b, name);
    text = b.failed ? NULL : mlxr_arena_strndup(arena, b.data, b.len);
    mlxr_buf_clear(&b);
    return text;
}

static const char *take_path(mlxr_arena *arena, char *path)
{
    const char *own = mlxr_arena_strndup(arena, path, strlen(path));

    mlxr_free(path);
    return own;
}

/* Of the store. The folder is called by the manifest's digest, so that both are of one model whatever happens meanwhile. */
static mlxr_status resolve_stored(mlxr_resident_key *out, mlxr_serve *s, mlxr_arena *arena, const char *name,
                                  mlxr_error *err)
{
    mlxr_name own;
    const char *hex;
    char *path = NULL, digest[72];
    mlxr_status st = mlxr_store_resolve(&own, s->store, name, err);

    if (st == MLXR_OK) st = mlxr_store_model_path(&path, s->store, name, err);
    if (st != MLXR_OK) return st;
    hex = strrchr(path, '/');
    snprintf(digest, sizeof digest, "sha256:%.64s", hex ? hex + 1 : "");
    out->name = display(arena, &own);
    out->path = take_path(arena, path);
    out->digest = mlxr_digest_valid(digest) ? mlxr_arena_strndup(arena, digest, strlen(digest)) : "";
    return out->name && out->path && out->digest ? MLXR_OK : mlxr_fail_nomem(err, "model");
}

/* Any name that could be one of a model. */
static mlxr_status resolve_mock(mlxr_resident_key *out, mlxr_arena *arena, const char *name, mlxr_error *err)
{
    mlxr_name parsed;
    mlxr_status st = mlxr_name_parse(&parsed, name, err);

    if (st != MLXR_OK) return st;
    out->path = out->name = display(arena, &parsed);
    return out->name ? MLXR_OK : mlxr_fail_nomem(err, "model");
}

mlxr_status mlxr_serve_resolve(mlxr_resident_key *out, mlxr_serve *s, mlxr_arena *arena, const char *name,
                               mlxr_error *err)
{
    mlxr_error why = {0};
    mlxr_status st = MLXR_E_NOT_FOUND;
    char *plain, *path = NULL;

    *out = (mlxr_resident_key){.digest = ""};
    if (!*name) return mlxr_fail(err, MLXR_E_NOT_FOUND, "model '' not found");
    if (!(plain = mlxr_arena_strndup(arena, name, strlen(name)))) return mlxr_fail_nomem(err, "model");
    if (!strip_source(plain)) return mlxr_fail(err, MLXR_E_NOT_FOUND, "model '%.200s' not found", name);
    if (s->options.model_paths && !s->mock) {
        st = mlxr_model_path_resolve(&path, s->options.model_paths, plain, s->options.home, &why);
        if (st == MLXR_OK) {
            out->name = plain;
            out->path = take_path(arena, path);
            return out->path ? MLXR_OK : mlxr_fail_nomem(err, "model");
        }
        if (st == MLXR_E_MODEL_PATH_MISSING) st = MLXR_E_NOT_FOUND; /* of the store, perhaps */
    }
    if (s->options.folder) {
        out->name = plain;
        out->path = s->options.folder;
        return MLXR_OK;
    }
    if (s->mock)
        st = resolve_mock(out, arena, plain, &why);
    else if (s->store && st == MLXR_E_NOT_FOUND)
        st = resolve_stored(out, s, arena, plain, &why);
    if (st == MLXR_E_NOT_FOUND) return mlxr_fail(err, st, "model '%.200s' not found", name);
    if (st == MLXR_E_INVALID_ARGUMENT) return mlxr_fail(err, st, "invalid model name");
    if (st != MLXR_OK && err) *err = why;
    return st;
}
