/* http: http.h over libcurl. One easy handle within one multi handle for each client: the multi keeps connections, and polling it here
 * instead of curl_easy_perform is what lets a cancelled call end at once while nothing arrives. Redirects are followed here as well,
 * since where the authorization may go is ours to say. RFC 9110 (ranges, redirects, Retry-After). */
#include "store/http.h"

#include <curl/curl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"

enum {
    POLL_MS = 100,
    MAX_PAUSE_MS = 30000,
    MAX_RETRY_AFTER_MS = 60000,
    MAX_REDIRECTS = 10,
    MAX_HEADERS = 256,
    MAX_HEADER_BYTES = 128 << 10,
    MAX_ERROR_BODY = 64 << 10, /* of an answer that is not 2xx: what is behind is not waited for */
    DEFAULT_MAX_BODY = 16 << 20,
    PROGRESS_BYTES = 1 << 20, /* a try that brought so much is a success as far as counting tries goes */
    UNSENT_BYTES = 4 << 20,   /* of an upload the kernel may hold so much, */
    SLOW_UPLINK = 16 << 10    /* and send it at so many bytes a second, before an answer can come */
};

struct mlxr_http {
    mlxr_http_options o;
    CURLM *multi;
    CURL *easy;
    uint64_t random;
};

/* One call of mlxr_http_do. */
typedef struct call {
    mlxr_http *http;
    const mlxr_http_request *q;
    mlxr_http_answer *a;
    mlxr_error *err;
    char curl_text[CURL_ERROR_SIZE];

    /* of the hop that runs */
    mlxr_status failed; /* what a callback of curl ended it with; err is filled */
    bool started;       /* on_start was called */
    bool enough;        /* the rest of an error's body was not waited for */
    bool theirs;        /* that was a callback of the caller's, whose message is whole */
    size_t header_bytes;
    uint64_t upload_at, last_ns;

    /* of the try */
    bool resuming;
    uint64_t begin; /* of the range that is asked for */
    uint64_t n_written;

    /* of all tries */
    char *etag, *modified; /* of the first answer whose body was begun */
} call;

static pthread_once_t global_once = PTHREAD_ONCE_INIT;
static CURLcode global_code;

static void global_init(void)
{
    global_code = curl_global_init(CURL_GLOBAL_DEFAULT);
}

mlxr_http_options mlxr_http_options_default(void)
{
    return (mlxr_http_options){
        .n_tries = 6, .first_pause_ms = 1000, .connect_ms = 20000, .stall_seconds = 30};
}

mlxr_status mlxr_http_create(mlxr_http **out, const mlxr_http_options *options, mlxr_error *err)
{
    mlxr_http *h = calloc(1, sizeof *h);

    *out = NULL;
    pthread_once(&global_once, global_init);
    if (!h) return mlxr_fail_nomem(err, "http");
    h->o = options ? *options : mlxr_http_options_default();
    h->random = (mlxr_now_ns() ^ (uint64_t)getpid() << 32 ^ (uintptr_t)h) | 1;
    if (global_code == CURLE_OK && (h->multi = curl_multi_init())) h->easy = curl_easy_init();
    if (!h->easy) {
        mlxr_http_free(h);
        if (global_code != CURLE_OK)
            return mlxr_fail(err, MLXR_E_INTERNAL, "http: libcurl does not start: %s",
                             curl_easy_strerror(global_code));
        return mlxr_fail_nomem(err, "http");
    }
    *out = h;
    return MLXR_OK;
}

void mlxr_http_free(mlxr_http *http)
{
    if (!http) return;
    curl_easy_cleanup(http->easy);
    if (http->multi) curl_multi_cleanup(http->multi);
    free(http);
}

/* ---- headers ---- */

static void headers_clear(mlxr_http_headers *h)
{
    size_t i;

    for (i = 0; i < h->n; i++) {
        free(h->names[i]);
        free(h->values[i]);
    }
    free(h->names);
    free(h->values);
    *h = (mlxr_http_headers){0};
}

const char *mlxr_http_header(const mlxr_http_headers *h, const char *name)
{
    size_t i;

    for (i = 0; i < h->n; i++)
        if (strcasecmp(h->names[i], name) == 0) return h->values[i];
    return NULL;
}

static bool headers_add(mlxr_http_headers *h, const char *name, size_t n_name, const char *value,
                        size_t n_value)
{
    char *n = mlxr_strndup(name, n_name), *v = mlxr_strndup(value, n_value);

    if (!n || !v) goto nomem;
    if (h->n == 0) {
        h->names = mlxr_calloc_array(MAX_HEADERS, sizeof *h->names);
        h->values = mlxr_calloc_array(MAX_HEADERS, sizeof *h->values);
        if (!h->names || !h->values) {
            headers_clear(h);
            goto nomem;
        }
    }
    h->names[h->n] = n;
    h->values[h->n++] = v;
    return true;
nomem:
    free(n);
    free(v);
    return false;
}

/* One line of an answer's head. Each answer begins with a status line: what an interim answer (100) or an earlier one had goes. */
static size_t on_header(char *line, size_t size, size_t n, void *ud)
{
    call *c = ud;
    mlxr_http_headers *h = &c->a->headers;
    const char *colon, *end;
    size_t all = n;

    c->last_ns = mlxr_now_ns();
    while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == '\n' || line[n - 1] == ' ' || line[n - 1] == '\t'))
        n--;
    if (n >= 5 && memcmp(line, "HTTP/", 5) == 0) {
        const char *space = memchr(line, ' ', n);
        headers_clear(h);
        c->header_bytes = 0;
        c->a->status = space && line + n - space > 3
                           ? (space[1] - '0') * 100 + (space[2] - '0') * 10 + space[3] - '0'
                           : 0;
        return all;
    }
    c->header_bytes += n;
    colon = memchr(line, ':', n);
    if (!colon || colon == line) return all;
    if (h->n == MAX_HEADERS || c->header_bytes > MAX_HEADER_BYTES) {
        c->failed = mlxr_fail(c->err, MLXR_E_LIMIT, "the answer has more than %d headers or %d bytes of them",
                              MAX_HEADERS, MAX_HEADER_BYTES);
        return 0;
    }
    end = line + n;
    for (n = (size_t)(colon - line), colon++; colon < end && (*colon == ' ' || *colon == '\t');) colon++;
    if (!headers_add(h, line, n, colon, (size_t)(end - colon))) {
        c->failed = mlxr_fail_nomem(c->err, "headers");
        return 0;
    }
    return all;
}

/* "bytes 0-99/1234": where the range begins. */
static bool content_range_begin(const mlxr_http_headers *h, uint64_t *begin)
{
    const char *v = mlxr_http_header(h, "Content-Range");
    char *end;

    if (!v || strncasecmp(v, "bytes ", 6) != 0 || v[6] < '0' || v[6] > '9') return false;
    *begin = strtoull(v + 6, &end, 10);
    return *end == '-';
}

static bool keep_text(char **to, const char *text)
{
    if (*to || !text) return true;
    return (*to = mlxr_strdup(text)) != NULL;
}

/* Before the first byte of a 2xx body, or at its end when it has none: is this what was asked for? */
static mlxr_status body_start(call *c)
{
    const mlxr_http_headers *h = &c->a->headers;
    const char *etag = mlxr_http_header(h, "ETag");
    mlxr_status st;
    uint64_t begin;

    c->started = true;
    if (c->a->status == 206 && (!content_range_begin(h, &begin) || begin != c->begin)) {
        const char *range = mlxr_http_header(h, "Content-Range");
        return mlxr_fail(c->err, MLXR_E_NETWORK, "asked for bytes from %llu on, the answer has \"%.100s\"",
                         (unsigned long long)c->begin, range ? range : "no Content-Range");
    }
    st = c->q->on_start ? c->q->on_start(c->q->write_ud, c->a->status, h, c->err) : MLXR_OK;
    c->theirs = st != MLXR_OK;
    if (st != MLXR_OK) return st;
    if (c->resuming && (c->a->status != 206 || (etag && c->etag && strcmp(etag, c->etag) != 0)))
        return mlxr_fail(c->err, MLXR_E_NETWORK, "it changed there while it was fetched");
    if (!keep_text(&c->etag, etag) || !keep_text(&c->modified, mlxr_http_header(h, "Last-Modified")))
        return mlxr_fail_nomem(c->err, "headers");
    return MLXR_OK;
}

static size_t on_body(char *data, size_t size, size_t n, void *ud)
{
    call *c = ud;
    mlxr_http_answer *a = c->a;
    bool good = a->status >= 200 && a->status < 300;
    size_t limit = !good ? MAX_ERROR_BODY : c->q->max_body ? c->q->max_body : DEFAULT_MAX_BODY;

    a->n_received += n;
    if (good && !c->started && (c->failed = body_start(c)) != MLXR_OK) return 0;
    if (good && c->q->write) {
        c->failed = c->q->write(c->q->write_ud, data, n, c->err);
        c->theirs = c->failed != MLXR_OK;
        if (c->theirs) return 0;
        c->n_written += n;
    } else if (n <= limit && a->body.len <= limit - n) {
        mlxr_buf_append(&a->body, data, n);
        if ((c->failed = mlxr_buf_check(&a->body, "answer", c->err)) != MLXR_OK) return 0;
    } else if (!good) {
        mlxr_buf_append(&a->body, data, limit - a->body.len);
        c->enough = true;
        return 0;
    } else {
        c->failed = mlxr_fail(c->err, MLXR_E_LIMIT, "the answer is longer than %zu bytes", limit);
        return 0;
    }
    c->last_ns = mlxr_now_ns(); /* after the write, which may wait for a disk */
    return n;
}

static size_t on_read(char *buffer, size_t size, size_t n, void *ud)
{
    call *c = ud;
    uint64_t left = c->q->n_body - c->upload_at;
    size_t n_read = 0;

    n *= size;
    if (n > left) n = (size_t)left;
    if (n == 0) return 0;
    if (c->q->read) {
        c->failed = c->q->read(c->q->read_ud, buffer, n, c->upload_at, &n_read, c->err);
        c->theirs = c->failed != MLXR_OK;
        if (c->theirs) return CURL_READFUNC_ABORT;
        if (n_read == 0 || n_read > n) {
            c->failed = mlxr_fail(c->err, MLXR_E_IO, "what is to be sent ends after %llu of %llu bytes",
                                  (unsigned long long)c->upload_at, (unsigned long long)c->q->n_body);
            return CURL_READFUNC_ABORT;
        }
    } else {
        memcpy(buffer, (const char *)c->q->body + c->upload_at, n);
        n_read = n;
    }
    c->upload_at += n_read;
    c->last_ns = mlxr_now_ns();
    return n_read;
}

static int on_seek(void *ud, curl_off_t offset, int origin)
{
    call *c = ud;

    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > c->q->n_body) return CURL_SEEKFUNC_FAIL;
    c->upload_at = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* ---- urls ---- */

/* Without query, fragment and credentials, for messages. */
static void url_show(mlxr_buf *out, const char *url)
{
    const char *host = strstr(url, "://"), *end = url + strcspn(url, "?#"), *at;

    host = host && host < end ? host + 3 : url;
    mlxr_buf_append(out, url, (size_t)(host - url));
    for (at = host; at < end && *at != '/'; at++)
        if (*at == '@') host = at + 1;
    mlxr_buf_append(out, host, (size_t)(end - host));
}

static bool has_scheme(const char *url, const char *scheme)
{
    size_t n = strlen(scheme);
    return strncasecmp(url, scheme, n) == 0 && strncmp(url + n, "://", 3) == 0;
}

bool mlxr_url_same_origin(const char *a, const char *b)
{
    static const CURLUPart parts[] = {CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT};
    CURLU *ua = curl_url(), *ub = curl_url();
    bool same = ua && ub && curl_url_set(ua, CURLUPART_URL, a, 0) == CURLUE_OK &&
                curl_url_set(ub, CURLUPART_URL, b, 0) == CURLUE_OK;
    size_t i;

    for (i = 0; i < MLXR_COUNT(parts) && same; i++) {
        char *pa = NULL, *pb = NULL;
        same = curl_url_get(ua, parts[i], &pa, CURLU_DEFAULT_PORT) == CURLUE_OK &&
               curl_url_get(ub, parts[i], &pb, CURLU_DEFAULT_PORT) == CURLUE_OK && strcasecmp(pa, pb) == 0;
        curl_free(pa);
        curl_free(pb);
    }
    curl_url_cleanup(ua);
    curl_url_cleanup(ub);
    return same;
}

void mlxr_url_encode(mlxr_buf *out, const char *text, bool keep_slash)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._~", c) ||
            (c == '/' && keep_slash))
            mlxr_buf_char(out, (char)c);
        else
            mlxr_buf_printf(out, "%%%02X", c);
    }
}

/* The numbers and dots of an IPv4 address that begins with 127: a name such as 127.example.org is none. */
static bool is_127(const char *host, size_t n)
{
    size_t i = 0, n_parts = 0;

    if (n < 4 || strncmp(host, "127.", 4) != 0) return false;
    for (;; i++) {
        size_t digits = 0;
        unsigned value = 0;
        for (; i < n && host[i] >= '0' && host[i] <= '9' && digits < 4; i++, digits++)
            value = value * 10 + (unsigned)(host[i] - '0');
        if (digits == 0 || value > 255) return false;
        n_parts++;
        if (i == n) return n_parts == 4;
        if (host[i] != '.') return false;
    }
}

bool mlxr_url_is_loopback(const char *url)
{
    const char *host = strstr(url, "://"), *end, *at;
    size_t n;

    if (!host) return false;
    host += 3;
    end = host + strcspn(host, "/?#");
    for (at = host; at < end; at++)
        if (*at == '@') host = at + 1;
    if (*host == '[')
        return end - host >= 5 && strncmp(host, "[::1]", 5) == 0 && (end - host == 5 || host[5] == ':');
    for (n = 0; host + n < end && host[n] != ':';) n++;
    return (n == 9 && strncasecmp(host, "localhost", 9) == 0) || is_127(host, n);
}

/* ---- one hop ---- */

static bool has_body(const mlxr_http_request *q)
{
    return q->body || q->read || q->n_body > 0;
}

static bool text_is_clean(const char *s)
{
    return s[strcspn(s, "\r\n")] == '\0';
}

static mlxr_status add_header(struct curl_slist **list, const char *line, mlxr_error *err)
{
    struct curl_slist *l;

    if (!text_is_clean(line)) return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "a header holds a line break");
    if (!(l = curl_slist_append(*list, line))) return mlxr_fail_nomem(err, "http");
    *list = l;
    return MLXR_OK;
}

static mlxr_status hop_headers(struct curl_slist **list, call *c, bool authorize)
{
    const mlxr_http_request *q = c->q;
    mlxr_buf b = {0};
    mlxr_status st = MLXR_OK;
    size_t i;

    for (i = 0; i < q->n_headers && st == MLXR_OK; i++) st = add_header(list, q->headers[i], c->err);
    if (st == MLXR_OK)
        st = add_header(list, "Expect:", c->err); /* waits a second where a server does not know it */
    if (st == MLXR_OK && q->authorization && authorize) {
        mlxr_buf_printf(&b, "Authorization: %s", q->authorization);
        if ((st = mlxr_buf_check(&b, "http", c->err)) == MLXR_OK) st = add_header(list, b.data, c->err);
        b.len = 0;
    }
    if (st == MLXR_OK && (q->range_end > 0 || c->resuming)) {
        mlxr_buf_printf(&b, "Range: bytes=%llu-", (unsigned long long)c->begin);
        if (q->range_end > 0) mlxr_buf_printf(&b, "%llu", (unsigned long long)(q->range_end - 1));
        if ((st = mlxr_buf_check(&b, "http", c->err)) == MLXR_OK) st = add_header(list, b.data, c->err);
        b.len = 0;
    }
    /* a weak tag says nothing of single bytes, and is not allowed there */
    if (st == MLXR_OK && c->resuming && c->etag && strncmp(c->etag, "W/", 2) != 0)
        mlxr_buf_printf(&b, "If-Range: %s", c->etag);
    else if (st == MLXR_OK && c->resuming && !c->etag && c->modified)
        mlxr_buf_printf(&b, "If-Range: %s", c->modified);
    if (st == MLXR_OK && b.len > 0 && (st = mlxr_buf_check(&b, "http", c->err)) == MLXR_OK)
        st = add_header(list, b.data, c->err);
    mlxr_buf_clear(&b);
    return st;
}

static void hop_options(call *c, const char *url, const char *method, bool body, struct curl_slist *headers)
{
    mlxr_http *h = c->http;
    CURL *e = h->easy;
    bool wants_body = strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 ||
                      strcmp(method, "PATCH") == 0;

    curl_easy_reset(e);
    curl_easy_setopt(e, CURLOPT_URL, url);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, c->curl_text);
    curl_easy_setopt(e, CURLOPT_USERAGENT, "mlxr/" MLXR_VERSION);
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)h->o.connect_ms);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(e, CURLOPT_BUFFERSIZE, 256L << 10);
    curl_easy_setopt(e, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, c);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, c);
#if LIBCURL_VERSION_NUM >= 0x075700
    curl_easy_setopt(e, CURLOPT_QUICK_EXIT,
                     1L); /* a name that is being looked up does not hold a cancelled call */
#endif
    if (h->o.insecure) {
        curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    if (c->q->socket) curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, c->q->socket);
    if (c->q->socket || c->q->no_proxy) curl_easy_setopt(e, CURLOPT_PROXY, "");
    if (body || wants_body) {
        curl_easy_setopt(e, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(e, CURLOPT_INFILESIZE_LARGE, (curl_off_t)(body ? c->q->n_body : 0));
        curl_easy_setopt(e, CURLOPT_UPLOAD_BUFFERSIZE, 256L << 10);
        curl_easy_setopt(e, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(e, CURLOPT_READDATA, c);
        curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, on_seek);
        curl_easy_setopt(e, CURLOPT_SEEKDATA, c);
    } else if (strcmp(method, "HEAD") == 0) {
        curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
    }
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
        curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, method);
    else if (body)
        curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, method);
}

/* How long nothing may come or go. */
static uint64_t stall_ns(const call *c)
{
    uint64_t held = c->upload_at < UNSENT_BYTES ? c->upload_at : UNSENT_BYTES;
    return ((uint64_t)c->http->o.stall_seconds + held / SLOW_UPLINK) * 1000000000u;
}

/* Runs the transfer that is set up. *code: how curl ended it; a status that is not MLXR_OK came from here or from a callback. */
static mlxr_status hop_run(call *c, CURLcode *code)
{
    mlxr_http *h = c->http;
    mlxr_status st = MLXR_OK;
    CURLMcode mc;
    int running = 1, left;
    CURLMsg *msg;

    *code = CURLE_OK;
    c->last_ns = mlxr_now_ns();
    if ((mc = curl_multi_add_handle(h->multi, h->easy)) != CURLM_OK)
        return mlxr_fail(c->err, MLXR_E_INTERNAL, "%s", curl_multi_strerror(mc));
    for (;;) {
        if (mlxr_cancelled(h->o.cancel)) {
            st = mlxr_fail(c->err, MLXR_E_CANCELLED, "cancelled");
            break;
        }
        if ((mc = curl_multi_perform(h->multi, &running)) != CURLM_OK) {
            st = mlxr_fail(c->err, MLXR_E_INTERNAL, "%s", curl_multi_strerror(mc));
            break;
        }
        if (running == 0) break;
        if (!c->q->no_stall && h->o.stall_seconds > 0 && mlxr_now_ns() - c->last_ns > stall_ns(c)) {
            curl_off_t connected = 0;
            curl_easy_getinfo(h->easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
            if (connected > 0) { /* before that it is curl's own limit */
                snprintf(c->curl_text, sizeof c->curl_text, "nothing came for %llu s",
                         (unsigned long long)(stall_ns(c) / 1000000000u));
                *code = CURLE_OPERATION_TIMEDOUT;
                break;
            }
        }
        if ((mc = curl_multi_poll(h->multi, NULL, 0, POLL_MS, NULL)) != CURLM_OK) {
            st = mlxr_fail(c->err, MLXR_E_INTERNAL, "%s", curl_multi_strerror(mc));
            break;
        }
    }
    if (st == MLXR_OK && *code == CURLE_OK)
        while ((msg = curl_multi_info_read(h->multi, &left)))
            if (msg->msg == CURLMSG_DONE) *code = msg->data.result;
    curl_multi_remove_handle(h->multi, h->easy);
    if (st == MLXR_OK) st = c->failed;
    if (c->enough) *code = CURLE_OK;
    return st;
}

static bool code_is_passing(CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_FAIL_REWIND:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM: return true;
    default: return false;
    }
}

static bool status_is_passing(int status)
{
    return status == 408 || status == 425 || status == 429 || status == 500 || status == 502 ||
           status == 503 || status == 504;
}

static bool status_is_redirect(int status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* A request with its redirects. *passing: worth another try, after *pause_ms at least. On failure err has no url yet. */
static mlxr_status try_once(call *c, bool *passing, uint64_t *pause_ms)
{
    const mlxr_http_request *q = c->q;
    mlxr_http_answer *a = c->a;
    const char *method = q->method ? q->method : "GET";
    char *url = mlxr_strdup(q->url), *next = NULL;
    bool body = has_body(q);
    mlxr_status st = MLXR_OK;
    size_t n_hops;

    *passing = false;
    *pause_ms = 0;
    c->n_written = 0;
    if (!url) return mlxr_fail_nomem(c->err, "http");
    for (n_hops = 0;; n_hops++) {
        struct curl_slist *headers = NULL;
        CURLcode code = CURLE_OK;

        free(a->url);
        a->url = mlxr_strdup(url);
        headers_clear(&a->headers);
        a->body.len = 0;
        a->status = 0;
        c->failed = MLXR_OK;
        c->started = c->enough = c->theirs = false;
        c->header_bytes = 0;
        c->upload_at = 0;
        c->curl_text[0] = '\0';
        if (!a->url) {
            st = mlxr_fail_nomem(c->err, "http");
            break;
        }
        if (!has_scheme(url, "http") && !has_scheme(url, "https")) {
            st = mlxr_fail(c->err, MLXR_E_INVALID_ARGUMENT, "wanted an http or https url");
            break;
        }
        if ((st = hop_headers(&headers, c, n_hops == 0 || mlxr_url_same_origin(q->url, url))) == MLXR_OK) {
            hop_options(c, url, method, body, headers);
            st = hop_run(c, &code);
        }
        curl_slist_free_all(headers);
        if (st != MLXR_OK) break;
        if (code != CURLE_OK) {
            *passing = code_is_passing(code);
            a->status = 0;
            st = mlxr_fail(c->err, MLXR_E_NETWORK, "%s",
                           c->curl_text[0] ? c->curl_text : curl_easy_strerror(code));
            break;
        }
        if (!status_is_redirect(a->status) || q->no_redirects) {
            if (a->status >= 200 && a->status < 300 && !c->started) st = body_start(c);
            break;
        }
        curl_easy_getinfo(c->http->easy, CURLINFO_REDIRECT_URL, &next);
        if (!next) break; /* without a Location it is the answer */
        if (n_hops == MAX_REDIRECTS) {
            st = mlxr_fail(c->err, MLXR_E_NETWORK, "more than %d redirects", MAX_REDIRECTS);
            break;
        }
        if (has_scheme(url, "https") && !has_scheme(next, "https") && !c->http->o.insecure) {
            st = mlxr_fail(c->err, MLXR_E_NETWORK, "redirects from https to plain http, which is refused");
            break;
        }
        if ((a->status == 303 && strcmp(method, "HEAD") != 0) ||
            (a->status < 303 && strcmp(method, "POST") == 0)) {
            method = "GET";
            body = false;
        }
        free(url);
        if (!(url = mlxr_strdup(next))) {
            st = mlxr_fail_nomem(c->err, "http");
            break;
        }
    }
    if (st == MLXR_OK && status_is_passing(a->status)) {
        curl_off_t after = 0;
        *passing = true;
        curl_easy_getinfo(c->http->easy, CURLINFO_RETRY_AFTER, &after);
        if (after > MAX_RETRY_AFTER_MS / 1000) after = MAX_RETRY_AFTER_MS / 1000;
        if (after > 0) *pause_ms = (uint64_t)after * 1000;
    }
    free(url);
    return st;
}

/* ---- all tries ---- */

static mlxr_status pause_for(const mlxr_http *h, uint64_t ms, mlxr_error *err)
{
    uint64_t end = mlxr_now_ns() + ms * 1000000u;

    while (mlxr_now_ns() < end) {
        struct timespec slice = {0, 50000000};
        if (mlxr_cancelled(h->o.cancel)) return mlxr_fail(err, MLXR_E_CANCELLED, "cancelled");
        if (end - mlxr_now_ns() < 50000000u) slice.tv_nsec = 5000000;
        nanosleep(&slice, NULL);
    }
    return MLXR_OK;
}

static uint64_t random_below(mlxr_http *h, uint64_t n)
{
    h->random ^= h->random << 13;
    h->random ^= h->random >> 7;
    h->random ^= h->random << 17;
    return n ? h->random % n : 0;
}

static mlxr_status tries(call *c)
{
    mlxr_http *h = c->http;
    const mlxr_http_request *q = c->q;
    uint64_t base = h->o.first_pause_ms;
    uint32_t n_tries = q->no_retries || h->o.n_tries < 1 ? 1 : h->o.n_tries, i = 1;

    for (;; i++) {
        bool passing;
        uint64_t pause, shortest;
        mlxr_buf shown = {0};
        mlxr_status st = try_once(c, &passing, &pause);

        if (!passing) return st;
        if (c->n_written > 0 && !q->resume) return st;
        if (c->n_written > 0) c->resuming = true;
        if (c->resuming) {
            uint64_t offset = q->range_begin;
            if (!q->resume(q->write_ud, &offset)) return st;
            if (offset > c->begin && offset - c->begin >= PROGRESS_BYTES) {
                i = 1;
                base = h->o.first_pause_ms;
            }
            c->begin = offset;
            if (offset == q->range_begin) { /* from the start, so that nothing has to be as it was */
                c->resuming = false;
                free(c->etag);
                free(c->modified);
                c->etag = c->modified = NULL;
            }
        }
        if (i >= n_tries) {
            if (st != MLXR_OK && i > 1) mlxr_error_append(c->err, " (tried %u times)", i);
            return st;
        }
        shortest = base + random_below(h, base / 4 + 1);
        if (pause < shortest) pause = shortest;
        base = base * 2 < MAX_PAUSE_MS ? base * 2 : MAX_PAUSE_MS;
        url_show(&shown, c->a->url ? c->a->url : q->url);
        if (!shown.failed && st != MLXR_OK)
            mlxr_log_at(&h->o.log, MLXR_LOG_INFO, "http: %s: %s; again in %.1f s (try %u of %u)", shown.data,
                        c->curl_text[0] ? c->curl_text : "the connection broke", (double)pause / 1000.0,
                        i + 1, n_tries);
        else if (!shown.failed)
            mlxr_log_at(&h->o.log, MLXR_LOG_INFO, "http: %s: status %d; again in %.1f s (try %u of %u)",
                        shown.data, c->a->status, (double)pause / 1000.0, i + 1, n_tries);
        mlxr_buf_clear(&shown);
        if ((st = pause_for(h, pause, c->err)) != MLXR_OK) return st;
    }
}

mlxr_status mlxr_http_do(mlxr_http_answer *out, mlxr_http *http, const mlxr_http_request *request,
                         mlxr_error *err)
{
    mlxr_error own;
    call c = {.http = http, .q = request, .a = out, .err = err ? err : &own, .begin = request->range_begin};
    sigset_t pipe_set, old_set, pending;
    bool was_pending = false;
    mlxr_status st;

    mlxr_http_answer_clear(out);
    /* What writes to a connection that the other side closed: without CURLOPT_NOSIGNAL curl would change the handler, which
     * belongs to the program. */
    sigemptyset(&pipe_set);
    sigaddset(&pipe_set, SIGPIPE);
    if (sigpending(&pending) == 0) was_pending = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_set, &old_set);

    st = tries(&c);
    if (st != MLXR_OK && !c.theirs) {
        mlxr_buf shown = {0};
        url_show(&shown, out->url ? out->url : request->url);
        if (!shown.failed && shown.data) mlxr_error_prefix(c.err, "%s: ", shown.data);
        mlxr_buf_clear(&shown);
    }

    if (!was_pending && sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1) {
        int sig;
        sigwait(&pipe_set, &sig);
    }
    pthread_sigmask(SIG_SETMASK, &old_set, NULL);
    free(c.etag);
    free(c.modified);
    return st;
}

void mlxr_http_answer_clear(mlxr_http_answer *a)
{
    headers_clear(&a->headers);
    mlxr_buf_clear(&a->body);
    free(a->url);
    memset(a, 0, sizeof *a);
}

/* ---- statuses as failures ---- */

static const char *status_words(int status)
{
    switch (status) {
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 409: return "Conflict";
    case 410: return "Gone";
    case 413: return "Content Too Large";
    case 416: return "Range Not Satisfiable";
    case 429: return "Too Many Requests";
    case 500: return "Internal Server Error";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    default: return "";
    }
}

static const char *json_text(const json_t *v)
{
    const char *s = json_string_value(v);
    return s && *s ? s : NULL;
}

/* What a JSON body says is wrong; borrowed from it. */
static const char *body_message(const json_t *root)
{
    const json_t *e = json_object_get(root, "error"), *list = json_object_get(root, "errors");
    const char *s = json_text(e);

    if (!s) s = json_text(json_object_get(e, "message"));
    if (!s) s = json_text(json_object_get(json_array_get(list, 0), "message"));
    if (!s) s = json_text(json_object_get(json_array_get(list, 0), "code"));
    if (!s) s = json_text(json_array_get(list, 0));
    if (!s) s = json_text(json_object_get(root, "message"));
    return s;
}

mlxr_status mlxr_http_status_fail(const mlxr_http_answer *a, const char *what, mlxr_error *err)
{
    mlxr_status code = a->status == 401 || a->status == 403   ? MLXR_E_DENIED
                       : a->status == 404 || a->status == 410 ? MLXR_E_NOT_FOUND
                                                              : MLXR_E_NETWORK;
    const char *words = status_words(a->status), *text = NULL;
    json_t *root = NULL;
    mlxr_buf shown = {0};
    size_t n = 0;

    if (a->url) url_show(&shown, a->url);
    if (a->body.len > 0 && mlxr_json_parse(&root, a->body.data, a->body.len, "answer", NULL) == MLXR_OK)
        text = body_message(root);
    if (text) {
        n = strlen(text);
    } else if (mlxr_http_header(&a->headers,
                                "X-Error-Message")) { /* of Hugging Face, where HEAD has no body */
        text = mlxr_http_header(&a->headers, "X-Error-Message");
        n = strlen(text);
    } else if (a->body.len > 0 && !root) {
        text = a->body.data + strspn(a->body.data, " \t\r\n");
        n = *text == '<' ? 0 : strcspn(text, "\r\n"); /* a page for people says nothing in its first line */
    }
    if (n > 500) n = 500;
    mlxr_fail(err, code, "%s: %s answered %d%s%s%s%.*s", what, shown.data ? shown.data : "the server",
              a->status, *words ? " " : "", words, n > 0 ? ": " : "", (int)n, n > 0 ? text : "");
    json_decref(root);
    mlxr_buf_clear(&shown);
    return code;
}
