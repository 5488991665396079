/* Bodies of requests, one API a program (SERVE_API): "POST /api/chat\n" and then any bytes, to the whole server behind its parsing of HTTP, with
 * the mock as every model and an empty store. Whatever comes: an answer of a status that the API has, errors in its shape, JSON that is
 * JSON, line by line and event by event. A first line that is no endpoint stands for one all the same, by its hash. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "serve/serve.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fail(const char *why, const char *text)
{
    fprintf(stderr, "fuzz_serve: %s: %s\n", why, text);
    abort();
}

static char root[] = "/tmp/fuzz_serve.XXXXXX";

static void remove_root(void)
{
    char command[80];

    snprintf(command, sizeof command, "rm -rf %s", root);
    if (system(command) != 0) fputs("fuzz_serve: the store was not removed\n", stderr);
}

static mlxr_serve *serve_open(void)
{
    mlxr_serve_options o = mlxr_serve_options_default();
    mlxr_error err = {0};
    mlxr_serve *s;

    /* Names may say any host: whatever would leave the machine ends at a port nobody listens at. */
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("https_proxy", "http://127.0.0.1:1", 1);
    setenv("all_proxy", "http://127.0.0.1:1", 1);
    unsetenv("no_proxy"); /* and not empty: then the other one would count */
    unsetenv("NO_PROXY");
    if (!mkdtemp(root)) fail("no folder", root);
    atexit(remove_root);
    o.server.host = NULL;
    o.mock = true;
    o.store_root = root;
    o.remote.hub_endpoint = "http://127.0.0.1:1";
    o.remote.n_tries = 1;
    if (mlxr_serve_open(&s, &o, &err) != MLXR_OK) fail("open", err.message);
    return s;
}

static bool is_mine(const mlxr_endpoint *e)
{
    static const char *const models[] = {"/api/show", "/api/copy", "/api/delete", "/api/create",
                                         "/api/pull", "/api/push", "/api/verify", "/api/blobs/",
                                         "/api/tags", "/api/ps"};
    bool of_models = false;

    if (e->path[strlen(e->path) - 1] == '/' && e->tail == NULL && strcmp(e->path, "/") != 0) return false;
    for (size_t i = 0; i < MLXR_COUNT(models); i++) of_models |= strcmp(e->path, models[i]) == 0;
    if (strcmp(SERVE_API, "models") == 0) return e->api == MLXR_API_NATIVE && of_models;
    if (strcmp(SERVE_API, "native") == 0)
        return e->api == MLXR_API_NATIVE && !of_models && strcmp(e->method, "POST") == 0;
    if (strcmp(e->method, "POST") != 0) return false;
    return e->api == (strcmp(SERVE_API, "openai") == 0 ? MLXR_API_OPENAI : MLXR_API_ANTHROPIC);
}

/* The endpoint that the first line names, or some one of the program's. */
static const mlxr_endpoint *endpoint_of(const char *line, size_t n)
{
    const mlxr_endpoint *e, *mine[256];
    size_t n_mine = 0;
    char name[200];

    for (size_t i = 0; mlxr_endpoint_at(i, &e); i++) {
        if (!is_mine(e) || n_mine == MLXR_COUNT(mine)) continue;
        snprintf(name, sizeof name, "%s %s", e->method, e->path);
        if (strlen(name) == n && memcmp(name, line, n) == 0) return e;
        mine[n_mine++] = e;
    }
    if (!n_mine) fail("no endpoint", SERVE_API);
    return mine[mlxr_hash_bytes(line, n, 0) % n_mine];
}

static void check_json(const char *text, size_t n)
{
    json_t *v = json_loadb(text, n, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);

    if (!v) fail("not JSON", text);
    json_decref(v);
}

/* "{...}\n" each. */
static void check_lines(const char *text)
{
    for (const char *end; *text; text = end + 1) {
        if (!(end = strchr(text, '\n'))) fail("a line without an end", text);
        check_json(text, (size_t)(end - text));
    }
}

/* Lines "data: {...}", "data: [DONE]", "event: x", ": comment" and empty ones. */
static void check_events(const char *text)
{
    for (const char *end; *text; text = end + 1) {
        if (!(end = strchr(text, '\n'))) fail("a line without an end", text);
        if (strncmp(text, "data: ", 6) == 0) {
            if (strncmp(text, "data: [DONE]\n", 13) != 0) check_json(text + 6, (size_t)(end - text) - 6);
        } else if (end != text && *text != ':' && strncmp(text, "event: ", 7) != 0) {
            fail("no line of a stream of events", text);
        }
    }
}

static void check_error(const mlxr_exchange *x, mlxr_api api)
{
    json_t *v = json_loadb(x->body, x->n_body, 0, NULL), *error = json_object_get(v, "error");
    const char *text = json_string_value(api == MLXR_API_NATIVE ? error : json_object_get(error, "message"));

    if (!text || !*text) fail("no message in an error", x->body);
    json_decref(v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static mlxr_serve *serve;
    const uint8_t *end = size ? memchr(data, '\n', size) : NULL;
    size_t n_line = end ? (size_t)(end - data) : 0, n_head = end ? n_line + 1 : 0;
    const mlxr_endpoint *e = endpoint_of((const char *)data, n_line);
    char target[300];
    mlxr_exchange x;
    mlxr_error err = {0};

    if (!serve) serve = serve_open();
    snprintf(target, sizeof target, "%s%s", e->path, e->tail ? "sha256:0123456789abcdef" : "");
    if (mlxr_server_exchange(&x, serve->server, e->method, target, NULL, data + n_head, size - n_head,
                             &err) != MLXR_OK)
        fail("no answer", err.message);
    if (x.status < 200 || x.status > 599 || x.status == 500) fail("status", x.body);
    if (strcmp(e->method, "HEAD") == 0) {
        if (x.n_body) fail("HEAD has a body", x.body);
    } else if (x.status >= 400) {
        check_error(&x, e->api);
    } else if (strncmp(x.content_type, "application/json", 16) == 0) {
        check_json(x.body, x.n_body);
    } else if (strncmp(x.content_type, "application/x-ndjson", 20) == 0) {
        check_lines(x.body);
    } else if (strncmp(x.content_type, "text/event-stream", 17) == 0) {
        check_events(x.body);
    }
    mlxr_exchange_clear(&x);
    return 0;
}
