/* What tests of endpoints share: a server without a socket, over the mock adapter or over a store of the test's own with a tiny model
 * in it, and requests with JSON in and out.
 *
 *   static int begin(void **state) { return serving_begin_mock(); }
 *   static int end(void **state) { return serving_end(); }
 *   ...
 *   mlxr_exchange x = post("/api/chat", "{\"model\":\"m\", ...}");
 *   json_t *answer = body_json(&x);
 *
 * TINY is the tiny chat model's folder; as a model of the store it is called "tiny". */
#ifndef TESTS_SERVE_SERVING_H
#define TESTS_SERVE_SERVING_H

#include "test.h"

#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "serve/serve.h"
#include "store/io.h"

#define TINY MLXR_TEST_DIR "/../runner/fixtures/tiny_chat"

static _Thread_local mlxr_error err;
static mlxr_serve *serving;  /* what post and the like speak to */
static char serving_dir[64]; /* of the store; "" without one */

/* ---- opening ---- */

/* Options as tests want them: no socket, quick engines with exact answers. Change them and call serving_open. */
static inline mlxr_serve_options serving_options(void)
{
    mlxr_serve_options o = mlxr_serve_options_default();

    o.server.host = NULL;
    o.engine.precision = MLXR_PRECISION_EXACT;
    o.engine.n_threads = 1;
    return o;
}

static inline int serving_open(const mlxr_serve_options *options)
{
    if (mlxr_serve_open(&serving, options, &err) == MLXR_OK) return 0;
    fprintf(stderr, "serving: %s\n", err.message);
    return -1;
}

static inline int serving_begin_mock(void)
{
    mlxr_serve_options o = serving_options();

    o.mock = true;
    return serving_open(&o);
}

/* A folder of the test's own, in memory where that can be. */
static inline int serving_make_dir(void)
{
    snprintf(serving_dir, sizeof serving_dir, "%s", "/dev/shm/mlxr-serve-XXXXXX");
    if (mkdtemp(serving_dir)) return 0;
    snprintf(serving_dir, sizeof serving_dir, "%s", P_tmpdir "/mlxr-serve-XXXXXX");
    if (mkdtemp(serving_dir)) return 0;
    serving_dir[0] = '\0';
    return -1;
}

/* The tiny model in the server's store, by another name than "tiny" too. */
static inline int serving_import(const char *name)
{
    if (mlxr_store_import(NULL, serving->store, TINY, name, NULL, NULL, &err) == MLXR_OK) return 0;
    fprintf(stderr, "serving: %s\n", err.message);
    return -1;
}

/* options.store_root is set here, the rest is the caller's; with "tiny" in the store. */
static inline int serving_begin_store_with(mlxr_serve_options o)
{
    if (serving_make_dir() != 0) return -1;
    o.store_root = serving_dir;
    return serving_open(&o) == 0 ? serving_import("tiny") : -1;
}

static inline int serving_begin_store(void)
{
    return serving_begin_store_with(serving_options());
}

static inline int serving_end(void)
{
    int failed = 0;

    mlxr_serve_close(serving);
    serving = NULL;
    if (serving_dir[0]) failed = mlxr_io_remove_tree(NULL, serving_dir, &err) != MLXR_OK;
    serving_dir[0] = '\0';
    return failed ? -1 : 0;
}

/* ---- requests ---- */

/* headers: "Name: value" each, to a NULL; may be NULL. Clear what comes, all asserted to have come. */
static inline mlxr_exchange exchange(const char *method, const char *target, const char *const *headers,
                                     const void *body, size_t n_body)
{
    mlxr_exchange x;

    assert_ok(mlxr_server_exchange(&x, serving->server, method, target, headers, body, n_body, &err), &err);
    return x;
}

static inline mlxr_exchange post(const char *target, const char *body)
{
    return exchange("POST", target, NULL, body, strlen(body));
}

static inline mlxr_exchange get(const char *target)
{
    return exchange("GET", target, NULL, NULL, 0);
}

/* Text with ' for " : J("{'model':'m'}"), good until the next but seven calls. */
static inline const char *J(const char *text)
{
    static _Thread_local char texts[8][16384];
    static _Thread_local unsigned turn;
    char *p = texts[turn++ % 8];
    size_t n = strlen(text);

    assert_in_range(n, 0, sizeof texts[0] - 1);
    memcpy(p, text, n + 1);
    for (char *c = p; *c; c++)
        if (*c == '\'') *c = '"';
    return p;
}

static inline const char *Jf(const char *fmt, ...) MLXR_PRINTF(1, 2);
static inline const char *Jf(const char *fmt, ...)
{
    char text[16384];
    va_list ap;

    va_start(ap, fmt);
    assert_in_range(vsnprintf(text, sizeof text, fmt, ap), 0, sizeof text - 1);
    va_end(ap);
    return J(text);
}

/* The value of an answer's header, good until the next but three calls; NULL: it has none. */
static inline const char *header_of(const mlxr_exchange *x, const char *name)
{
    static _Thread_local char values[4][1024];
    static _Thread_local unsigned turn;
    size_t n = strlen(name);

    for (const char *line = x->headers; line && *line; line = strchr(line, '\n') + 1) {
        const char *end = strchr(line, '\n');
        char *value = values[turn % 4];
        if (strncasecmp(line, name, n) != 0 || line[n] != ':') continue;
        turn++;
        snprintf(value, sizeof values[0], "%.*s", (int)(end - line - (ptrdiff_t)n - 2), line + n + 2);
        return value;
    }
    return NULL;
}

/* ---- answers ---- */

/* json_decref it. */
static inline json_t *json_of(const char *text)
{
    json_t *v = NULL;

    if (mlxr_json_parse(&v, text, strlen(text), "answer", &err) != MLXR_OK)
        fail_msg("%s in: %s", err.message, text);
    return v;
}

/* The whole body; x is cleared. */
static inline json_t *body_json(mlxr_exchange *x)
{
    json_t *v = json_of(x->body);

    mlxr_exchange_clear(x);
    return v;
}

/* post, and the status it has to have. */
static inline json_t *post_json(const char *target, const char *body, int status)
{
    mlxr_exchange x = post(target, body);

    if (x.status != status)
        fail_msg("%s %s: status %d, wanted %d: %s", target, body, x.status, status, x.body);
    return body_json(&x);
}

static inline json_t *get_json(const char *target, int status)
{
    mlxr_exchange x = get(target);

    if (x.status != status) fail_msg("%s: status %d, wanted %d: %s", target, x.status, status, x.body);
    return body_json(&x);
}

/* A stream's objects as a JSON list: lines of JSON, or the "data:" lines of events without "[DONE]", "event:" lines and comments. x is cleared. */
static inline json_t *stream_json(mlxr_exchange *x)
{
    json_t *list = json_array();

    for (char *line = x->body, *next; *line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        else
            next = line + strlen(line);
        if (strncmp(line, "data: ", 6) == 0) line += 6;
        if (*line == '{') json_array_append_new(list, json_of(line));
    }
    mlxr_exchange_clear(x);
    return list;
}

/* A value by a path of keys and indexes: at(v, "choices.0.message.content"); NULL: it is not there. */
static inline json_t *at(const json_t *v, const char *path)
{
    char step[100];

    while (v && *path) {
        size_t n = strcspn(path, ".");
        assert_in_range(n, 1, sizeof step - 1);
        memcpy(step, path, n);
        step[n] = '\0';
        v = json_is_array(v) ? json_array_get(v, strtoul(step, NULL, 10)) : json_object_get(v, step);
        path += n + (path[n] == '.');
    }
    return (json_t *)(uintptr_t)v;
}

static inline const char *text_at(const json_t *v, const char *path)
{
    const char *s = json_string_value(at(v, path));

    if (!s) {
        char *all = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
        fail_msg("no text at %s in %s", path, all ? all : "?");
    }
    return s;
}

static inline int64_t int_at(const json_t *v, const char *path)
{
    const json_t *x = at(v, path);

    if (!json_is_integer(x)) {
        char *all = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
        fail_msg("no integer at %s in %s", path, all ? all : "?");
    }
    return json_integer_value(x);
}

/* An error's text, whatever API's. */
static inline const char *error_of(const json_t *v)
{
    const json_t *e = json_object_get(v, "error");

    return json_is_object(e) ? text_at(e, "message") : text_at(v, "error");
}

/* post that has to fail so. */
static inline void refuses(const char *target, const char *body, int status, const char *text)
{
    json_t *v = post_json(target, body, status);

    if (!strstr(error_of(v), text)) fail_msg("%s %s: \"%s\", wanted \"%s\"", target, body, error_of(v), text);
    json_decref(v);
}

static inline void sleep_ms(long ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* Waits until it is so, at most 20 seconds. */
#define WAIT_FOR(condition)                                         \
    do {                                                            \
        for (int wait_i = 0; !(condition); wait_i++) {              \
            if (wait_i > 10000) fail_msg("waited for " #condition); \
            sleep_ms(2);                                            \
        }                                                           \
    } while (0)

#endif
