/* daemon: see daemon.h. */
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/fs.h"
#include "store/http.h"
#include "stores.h"

/* ---- addresses ---- */

#define LOOPBACK "127.0.0.1"

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

void daemon_address_clear(struct daemon_address *a)
{
    free(a->url);
    free(a->socket);
    *a = (struct daemon_address){0};
}

/* text [n] is "HOST", "HOST:PORT", ":PORT", "[V6]:PORT" or a bare IPv6 address. */
static mlxr_status split_host(const char *text, size_t n, const char **host, size_t *n_host,
                              const char **port, size_t *n_port)
{
    const char *colon = memchr(text, ':', n), *end = text + n;
    bool v6 = colon && memchr(colon + 1, ':', (size_t)(end - colon - 1)) && text[0] != '[';

    *host = text;
    *n_host = n;
    *port = NULL;
    *n_port = 0;
    if (n && text[0] == '[') {
        const char *close = memchr(text, ']', n);
        if (!close || (close + 1 < end && close[1] != ':')) return MLXR_E_INVALID_ARGUMENT;
        *host = text + 1;
        *n_host = (size_t)(close - text) - 1;
        colon = close + 1 < end ? close + 1 : NULL;
    } else if (v6) {
        return MLXR_OK;
    } else if (colon) {
        *n_host = (size_t)(colon - text);
    }
    if (colon) {
        *port = colon + 1;
        *n_port = (size_t)(end - colon) - 1;
    }
    return MLXR_OK;
}

static bool is(const char *text, size_t n, const char *word)
{
    return strlen(word) == n && memcmp(text, word, n) == 0;
}

static bool plain_host(const char *host, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)host[i];
        if (c <= ' ' || c == 0x7f || strchr("@?#\\<>\"%{}|^`", c)) return false;
    }
    return true;
}

static mlxr_status parse_url(struct daemon_address *out, const char *text, mlxr_error *err)
{
    const char *scheme = "http", *host, *port, *path, *rest = text;
    size_t n, n_host, n_port;
    long number = 11434;

    if (begins(text, "http://")) {
        rest += 7;
        number = 80;
    } else if (begins(text, "https://")) {
        scheme = "https";
        rest += 8;
        number = 443;
    } else if (strstr(text, "://")) {
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "\"%s\" is no address of a daemon: http, https or unix", text);
    }
    n = strcspn(rest, "/");
    path = rest + n;
    for (n_port = strlen(path); n_port && path[n_port - 1] == '/'; n_port--) {
    }
    if (strcspn(path, "?#") != strlen(path) || split_host(rest, n, &host, &n_host, &port, &n) != MLXR_OK ||
        !plain_host(host, n_host))
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "\"%s\" is no address of a daemon: HOST:PORT, a URL or unix:PATH", text);
    if (port) {
        char *end;
        number = n && port[0] >= '0' && port[0] <= '9' ? strtol(port, &end, 10) : -1;
        if (number < 1 || number > 65535 || end != port + n)
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "\"%s\": its port is no number from 1 to 65535",
                             text);
    }
    if (n_host == 0 || is(host, n_host, "0.0.0.0")) {
        host = LOOPBACK;
        n_host = strlen(LOOPBACK);
    } else if (is(host, n_host, "::")) {
        host = "::1";
        n_host = 3;
    }
    out->url = memchr(host, ':', n_host)
                   ? mlxr_asprintf("%s://[%.*s]:%ld%.*s", scheme, (int)n_host, host, number, (int)n_port,
                                   path)
                   : mlxr_asprintf("%s://%.*s:%ld%.*s", scheme, (int)n_host, host, number, (int)n_port, path);
    return out->url ? MLXR_OK : mlxr_fail_nomem(err, "daemon");
}

mlxr_status daemon_address_parse(struct daemon_address *out, const char *text, mlxr_error *err)
{
    mlxr_status st;

    *out = (struct daemon_address){0};
    if (!begins(text, "unix:")) return parse_url(out, text, err);
    text += begins(text, "unix://") ? 7 : 5;
    if (!*text) return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "unix: needs the path of a socket");
    out->socket = mlxr_strdup(text);
    out->url = mlxr_strdup("http://localhost");
    st = out->socket && out->url ? MLXR_OK : mlxr_fail_nomem(err, "daemon");
    if (st != MLXR_OK) daemon_address_clear(out);
    return st;
}

/* A variable's value without spaces and quotes around it, as shells' files and service managers leave them. *out: free it. */
static mlxr_status variable(char **out, const char *name, mlxr_error *err)
{
    static const char around[] = " \t\r\n\"'";
    const char *value = getenv(name);
    size_t n;

    *out = NULL;
    if (!value) return MLXR_OK;
    value += strspn(value, around);
    for (n = strlen(value); n && strchr(around, value[n - 1]); n--) {
    }
    if (n == 0) return MLXR_OK;
    *out = mlxr_strndup(value, n);
    return *out ? MLXR_OK : mlxr_fail_nomem(err, name);
}

mlxr_status daemon_address_given(struct daemon_address *out, const char *host, mlxr_error *err)
{
    static const char *const names[] = {"MLXSERVE_HOST", "OLLAMA_HOST"};
    mlxr_status st = MLXR_OK;

    *out = (struct daemon_address){0};
    if (host) {
        if ((st = daemon_address_parse(out, host, err)) != MLXR_OK) mlxr_error_prefix(err, "--host: ");
        out->from = "--host";
        return st;
    }
    for (size_t i = 0; i < MLXR_COUNT(names) && !out->url && st == MLXR_OK; i++) {
        char *value;
        st = variable(&value, names[i], err);
        if (st == MLXR_OK && value && (st = daemon_address_parse(out, value, err)) != MLXR_OK)
            mlxr_error_prefix(err, "%s: ", names[i]);
        out->from = names[i];
        free(value);
    }
    return st;
}

/* Whether a living process holds the file: a lock goes with its process, whatever ended that. */
static bool is_held(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool held = false;

    if (fd < 0) return false;
    held = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(fd);
    return held;
}

mlxr_status daemon_address_of_store(struct daemon_address *out, mlxr_error *err)
{
    char *root, *path;
    const char *url = NULL;
    json_t *doc = NULL;
    mlxr_status st = cli_store_root(&root, err);

    *out = (struct daemon_address){0};
    if (st != MLXR_OK) return st;
    path = mlxr_path_join(root, "daemon.json");
    free(root);
    if (!path) return mlxr_fail_nomem(err, "daemon");
    if (is_held(path)) {
        if ((st = mlxr_json_read(&doc, path, 1 << 16, err)) == MLXR_OK)
            st = mlxr_json_get_str(&url, doc, "url", path, err);
        if (st == MLXR_OK && !url) st = mlxr_fail(err, MLXR_E_FORMAT, "%s: it has no \"url\"", path);
        if (st == MLXR_OK && (st = daemon_address_parse(out, url, err)) != MLXR_OK)
            mlxr_error_prefix(err, "%s: ", path);
        out->from = "daemon.json";
    }
    json_decref(doc);
    free(path);
    return st;
}

/* ---- requests ---- */

enum { MAX_LINE = 64 << 20 };

struct daemon {
    mlxr_http *http;
    struct daemon_address address;
    char *words, *authorization;
};

const char *daemon_words(const struct daemon *d)
{
    return d->words;
}

void daemon_close(struct daemon *d)
{
    if (!d) return;
    mlxr_http_free(d->http);
    daemon_address_clear(&d->address);
    free(d->words);
    free(d->authorization);
    free(d);
}

mlxr_status daemon_open(struct daemon **out, const struct daemon_address *address, const volatile int *cancel,
                        mlxr_error *err)
{
    mlxr_http_options options = mlxr_http_options_default();
    struct daemon *d = calloc(1, sizeof *d);
    char *key = NULL;
    mlxr_status st;

    *out = NULL;
    if (!d) return mlxr_fail_nomem(err, "daemon");
    if ((st = variable(&key, "MLXSERVE_API_KEY", err)) != MLXR_OK) goto done;
    d->address.from = address->from;
    d->address.url = mlxr_strdup(address->url);
    d->words = address->socket ? mlxr_asprintf("unix:%s", address->socket) : mlxr_strdup(address->url);
    if (address->socket) d->address.socket = mlxr_strdup(address->socket);
    if (key) d->authorization = mlxr_asprintf("Bearer %s", key);
    if (!d->address.url || !d->words || (address->socket && !d->address.socket) ||
        (key && !d->authorization)) {
        st = mlxr_fail_nomem(err, "daemon");
        goto done;
    }
    options.n_tries = 1;
    options.cancel = cancel;
    if ((st = mlxr_http_create(&d->http, &options, err)) != MLXR_OK) goto done;
    *out = d;
    d = NULL;
done:
    free(key);
    daemon_close(d);
    return st;
}

mlxr_status daemon_open_any(struct daemon **out, const char *host, const volatile int *cancel,
                            mlxr_error *err)
{
    struct daemon_address address;
    mlxr_status st = daemon_address_given(&address, host, err);

    *out = NULL;
    if (st == MLXR_OK && !address.url) st = daemon_address_of_store(&address, err);
    if (st == MLXR_OK && !address.url)
        st = mlxr_fail(err, MLXR_E_NOT_FOUND,
                       "no daemon serves this store, and neither --host nor MLXSERVE_HOST names one");
    if (st == MLXR_OK) st = daemon_open(out, &address, cancel, err);
    daemon_address_clear(&address);
    return st;
}

/* The text of {"error": "..."}, or of {"error": {"message": "..."}}; NULL: it has none. */
static const char *error_text(const json_t *doc)
{
    const json_t *error = json_object_get(doc, "error");

    return json_string_value(json_is_object(error) ? json_object_get(error, "message") : error);
}

static mlxr_status refused(const struct daemon *d, const mlxr_http_answer *a, mlxr_error *err)
{
    mlxr_status st = a->status == 404                       ? MLXR_E_NOT_FOUND
                     : a->status == 401 || a->status == 403 ? MLXR_E_DENIED
                     : a->status == 400                     ? MLXR_E_INVALID_ARGUMENT
                     : a->status == 503                     ? MLXR_E_BUSY
                                                            : MLXR_E_NETWORK;
    json_t *doc = NULL;
    const char *text = NULL;
    size_t n = 0;

    if (a->body.len && mlxr_json_parse(&doc, a->body.data, a->body.len, "answer", NULL) == MLXR_OK)
        text = error_text(doc);
    if (text && *text) {
        mlxr_fail(err, st, "%s: %s", d->words, text);
    } else {
        while (n < a->body.len && n < 200 && (unsigned char)a->body.data[n] >= ' ') n++;
        while (n && mlxr_utf8_valid(a->body.data, n) != n) n--;
        mlxr_fail(err, st, "%s: it answers with status %d%s%.*s", d->words, a->status, n ? ": " : "", (int)n,
                  n ? a->body.data : "");
    }
    json_decref(doc);
    return st;
}

static mlxr_status send_request(mlxr_http_answer *answer, struct daemon *d, mlxr_http_request *request,
                                const char *path, const json_t *body, mlxr_error *err)
{
    static const char *const headers[] = {"Content-Type: application/json"};
    char *url = mlxr_asprintf("%s%s", d->address.url, path), *text = NULL;
    mlxr_status st = MLXR_OK;

    if (!url || (body && !(text = json_dumps(body, JSON_COMPACT)))) st = mlxr_fail_nomem(err, "daemon");
    request->method = body ? "POST" : NULL;
    request->url = url;
    request->socket = d->address.socket;
    request->authorization = d->authorization;
    request->body = text;
    request->n_body = text ? strlen(text) : 0;
    request->headers = headers;
    request->n_headers = body ? 1 : 0;
    request->no_redirects = request->no_retries = true;
    request->no_proxy = url && mlxr_url_is_loopback(url);
    if (st == MLXR_OK) st = mlxr_http_do(answer, d->http, request, err);
    if (st == MLXR_E_NETWORK && answer->status == 0)
        mlxr_error_prefix(err, "the daemon at %s (%s) cannot be reached: ", d->words, d->address.from);
    if (st == MLXR_OK && (answer->status < 200 || answer->status > 299)) st = refused(d, answer, err);
    free(text);
    free(url);
    return st;
}

/* What an answer that is no JSON means is that something else answers there. */
static mlxr_status parse(json_t **out, const struct daemon *d, const char *text, size_t n, mlxr_error *err)
{
    mlxr_status st = mlxr_json_parse(out, text, n, "its answer", err);

    if (st == MLXR_OK && json_is_object(*out)) return MLXR_OK;
    if (st == MLXR_OK) st = mlxr_fail(err, MLXR_E_FORMAT, "its answer is no JSON object");
    if (st == MLXR_E_NOMEM) return st;
    json_decref(*out);
    *out = NULL;
    mlxr_error_prefix(err, "%s does not answer as a daemon does: ", d->words);
    if (err) err->code = MLXR_E_NETWORK;
    return MLXR_E_NETWORK;
}

mlxr_status daemon_call(json_t **out, struct daemon *d, const char *path, const json_t *body, mlxr_error *err)
{
    mlxr_http_request request = {.max_body = MAX_LINE, .no_stall = body != NULL};
    mlxr_http_answer answer = {0};
    json_t *doc = NULL;
    mlxr_status st = send_request(&answer, d, &request, path, body, err);

    if (out) *out = NULL;
    if (st == MLXR_OK && (answer.body.len || out))
        st = parse(&doc, d, answer.body.len ? answer.body.data : "", answer.body.len, err);
    if (st == MLXR_OK && out)
        *out = doc;
    else
        json_decref(doc);
    mlxr_http_answer_clear(&answer);
    return st;
}

struct stream {
    struct daemon *d;
    mlxr_buf line;
    mlxr_status (*on_object)(void *ud, const json_t *object, mlxr_error *err);
    void *ud;
};

static mlxr_status take_line(struct stream *s, const char *text, size_t n, mlxr_error *err)
{
    json_t *object = NULL;
    const char *failure;
    mlxr_status st;

    while (n && (text[n - 1] == ' ' || text[n - 1] == '\t' || text[n - 1] == '\r')) n--;
    if (n == 0) return MLXR_OK;
    if ((st = parse(&object, s->d, text, n, err)) != MLXR_OK) return st;
    if ((failure = error_text(object)) != NULL)
        st = mlxr_fail(err, MLXR_E_NETWORK, "%s: %s", s->d->words, failure);
    else
        st = s->on_object(s->ud, object, err);
    json_decref(object);
    return st;
}

static mlxr_status take_bytes(void *ud, const void *data, size_t n, mlxr_error *err)
{
    struct stream *s = ud;
    const char *p = data, *nl;
    mlxr_status st = MLXR_OK;

    while (st == MLXR_OK && (nl = memchr(p, '\n', n)) != NULL) {
        size_t n_line = (size_t)(nl - p);
        mlxr_buf_append(&s->line, p, n_line);
        if ((st = mlxr_buf_check(&s->line, "daemon", err)) != MLXR_OK) break;
        st = take_line(s, s->line.data ? s->line.data : "", s->line.len, err);
        s->line.len = 0;
        n -= n_line + 1;
        p = nl + 1;
    }
    if (st != MLXR_OK) return st;
    mlxr_buf_append(&s->line, p, n);
    if (s->line.len > MAX_LINE)
        return mlxr_fail(err, MLXR_E_LIMIT, "%s: a line of its answer has more than %d bytes", s->d->words,
                         MAX_LINE);
    return mlxr_buf_check(&s->line, "daemon", err);
}

mlxr_status daemon_stream(struct daemon *d, const char *path, const json_t *body,
                          mlxr_status (*on_object)(void *ud, const json_t *object, mlxr_error *err), void *ud,
                          mlxr_error *err)
{
    struct stream stream = {.d = d, .on_object = on_object, .ud = ud};
    mlxr_http_request request = {.write = take_bytes, .write_ud = &stream, .no_stall = true};
    mlxr_http_answer answer = {0};
    mlxr_status st = send_request(&answer, d, &request, path, body, err);

    if (st == MLXR_OK)
        st = take_line(&stream, stream.line.data ? stream.line.data : "", stream.line.len, err);
    mlxr_buf_clear(&stream.line);
    mlxr_http_answer_clear(&answer);
    return st;
}
