/* server: see server.h. libmicrohttpd asks for bodies through callbacks and stops asking a suspended connection; every wait of ours
 * is such a suspension, ended by whoever has something to say.
 *
 * Locks: server.lock guards the list of live requests; request.lock guards one request's state. The server's is taken first where both
 * are held. Callbacks to others are made with none. */
#include "serve/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fs.h"
#include "serve/put.h"

#ifndef POLLRDHUP
#define POLLRDHUP 0
#endif

enum {
    CONNECTION_MEMORY = 16 << 10, /* of heads, both ways */
    STREAM_BLOCK = 16 << 10,
    MAX_PILE = 16 << 20,
    MAX_HEADERS = 200,
    MAX_TLS_FILE = 1 << 20,
    MAX_KEPT = 1 << 20
};

typedef struct pair {
    char *name, *value;
} pair;

struct mlxr_request_in {
    mlxr_server *server;
    mlxr_request_in *prev, *next; /* live requests */
    uint64_t number, start_ns;
    const mlxr_route *route;
    const char *tail;
    mlxr_arena arena;
    char *method, *path;
    pair *headers, *queries;
    size_t n_headers, n_queries;
    mlxr_buf body;
    char client[64];
    int refused;             /* status of a request that is refused before its body is read, or 0 */
    const char *refused_why; /* constant */
    bool dispatched, body_failed, admitted;
    bool closes;                       /* the connection ends with the answer */
    bool gated, passed;                /* the gate was asked, and let it in */
    bool waits_here;                   /* came by mlxr_server_exchange, whose thread waits for `told` */
    struct MHD_Connection *connection; /* of libmicrohttpd's thread; NULL after the end */
    int fd;

    pthread_mutex_t lock; /* guards what is below */
    pthread_cond_t told;
    unsigned n_refs;
    bool suspended;
    enum { OPEN, WHOLE, STREAM, ENDED } state; /* of the answer */
    int status;
    char *content_type;
    const char *heartbeat; /* borrowed: constants */
    pair out_headers[24];
    size_t n_out_headers;
    mlxr_buf pile; /* the answer, or what of a stream is not sent yet */
    size_t taken;  /* bytes of pile that are sent */
    uint64_t n_sent, last_push_ns;
    mlxr_buf kept; /* with keep_answers */
    bool left;
    bool complete;        /* the client has got all of the answer */
    uint64_t duration_ns; /* from the request's head to the answer's end */
    void (*leave)(void *ud);
    void (*stop)(void *ud);
    void *leave_ud;
    bool stopped;
    bool leaving;
    pthread_t leaving_thread;
    void *data;
    void (*free_data)(void *data);
    mlxr_record record;
};

struct mlxr_server {
    mlxr_server_options options;
    mlxr_route *routes;
    struct MHD_Daemon *daemon;
    int listener;
    bool listener_is_daemons;
    char address[160], *socket_path;
    uint16_t port;
    bool loopback;
    char *cert, *key;

    pthread_mutex_t lock; /* guards what is below */
    pthread_cond_t ended; /* a request did */
    mlxr_request_in *live;
    size_t n_live, n_connections;
    size_t
        n_working; /* of the live ones: handed to their handlers. The others are still being sent, perhaps for ever */
    uint64_t n_requests;
    bool draining, closing;

    pthread_t watcher;
    bool has_watcher;
    int wake[2]; /* the watcher looks again */
};

mlxr_server_options mlxr_server_options_default(void)
{
    return (mlxr_server_options){.host = "127.0.0.1",
                                 .n_threads = 1,
                                 .max_connections = 4096,
                                 .idle_seconds = 120,
                                 .heartbeat_seconds = 15,
                                 .max_body = 64 << 20};
}

/* ---- requests ---- */

static void wake_watcher(mlxr_server *s)
{
    ssize_t n = write(s->wake[1], "", 1); /* full: it will look anyway */
    (void)n;
}

void mlxr_request_ref(mlxr_request_in *r)
{
    pthread_mutex_lock(&r->lock);
    r->n_refs++;
    pthread_mutex_unlock(&r->lock);
}

void mlxr_request_unref(mlxr_request_in *r)
{
    mlxr_server *s;
    bool last;

    if (!r) return;
    s = r->server;
    pthread_mutex_lock(&s->lock); /* who finds it in the list of the live ones finds it alive */
    pthread_mutex_lock(&r->lock);
    last = --r->n_refs == 0;
    if (r->waits_here) pthread_cond_broadcast(&r->told);
    pthread_mutex_unlock(&r->lock);
    if (last && r->admitted) {
        if (r->prev)
            r->prev->next = r->next;
        else
            s->live = r->next;
        if (r->next) r->next->prev = r->prev;
    }
    pthread_mutex_unlock(&s->lock);
    if (!last) return;
    if (r->admitted && s->options.done)
        s->options.done(r, r->status, r->n_sent, r->duration_ns, r->complete, s->options.ud);
    if (r->free_data) r->free_data(r->data);
    for (size_t i = 0; i < r->n_out_headers; i++) {
        free(r->out_headers[i].name);
        free(r->out_headers[i].value);
    }
    free(r->content_type);
    mlxr_buf_clear(&r->pile);
    mlxr_buf_clear(&r->kept);
    mlxr_buf_clear(&r->body);
    mlxr_arena_clear(&r->arena);
    pthread_cond_destroy(&r->told);
    pthread_mutex_destroy(&r->lock);
    if (r->admitted) { /* from here on the server may go */
        pthread_mutex_lock(&s->lock);
        s->n_live--;
        if (r->dispatched) s->n_working--;
        pthread_cond_broadcast(&s->ended);
        pthread_mutex_unlock(&s->lock);
    }
    free(r);
}

const char *mlxr_request_method(const mlxr_request_in *r)
{
    return r->method;
}

const char *mlxr_request_path(const mlxr_request_in *r)
{
    return r->path;
}

const char *mlxr_request_tail(const mlxr_request_in *r)
{
    return r->tail ? r->tail : "";
}

static const char *pair_get(const pair *p, size_t n, const char *name, bool fold)
{
    for (size_t i = 0; i < n; i++)
        if ((fold ? strcasecmp(p[i].name, name) : strcmp(p[i].name, name)) == 0) return p[i].value;
    return NULL;
}

const char *mlxr_request_query(const mlxr_request_in *r, const char *key)
{
    return pair_get(r->queries, r->n_queries, key, false);
}

const char *mlxr_request_header(const mlxr_request_in *r, const char *name)
{
    return pair_get(r->headers, r->n_headers, name, true);
}

const char *mlxr_request_body(const mlxr_request_in *r, size_t *n)
{
    *n = r->body.len;
    return r->body.data ? r->body.data : "";
}

const char *mlxr_request_answer(const mlxr_request_in *r, size_t *n)
{
    *n = r->kept.len;
    return r->kept.data;
}

const char *mlxr_request_client(const mlxr_request_in *r)
{
    return r->client;
}

uint64_t mlxr_request_number(const mlxr_request_in *r)
{
    return r->number;
}

uint64_t mlxr_request_start_ns(const mlxr_request_in *r)
{
    return r->start_ns;
}

mlxr_record *mlxr_request_record(const mlxr_request_in *r)
{
    return (mlxr_record *)(uintptr_t)&r->record;
}

void mlxr_request_set_data(mlxr_request_in *r, void *data, void (*free_data)(void *data))
{
    pthread_mutex_lock(&r->lock);
    r->data = data;
    r->free_data = free_data;
    pthread_mutex_unlock(&r->lock);
}

void *mlxr_request_data(const mlxr_request_in *r)
{
    return r->data;
}

/* With r->lock held; gives it up while fn runs. Both callbacks are over with it. */
static void tell(mlxr_request_in *r, void (*fn)(void *ud))
{
    void *ud = r->leave_ud;

    if (!fn) return;
    r->leave = r->stop = NULL;
    r->leaving = true;
    r->leaving_thread = pthread_self();
    pthread_mutex_unlock(&r->lock);
    fn(ud);
    pthread_mutex_lock(&r->lock);
    r->leaving = false;
    pthread_cond_broadcast(&r->told);
}

void mlxr_request_on_stop(mlxr_request_in *r, void (*fn)(void *ud))
{
    pthread_mutex_lock(&r->lock);
    r->stop = fn;
    pthread_mutex_unlock(&r->lock);
}

void mlxr_request_on_leave(mlxr_request_in *r, void (*fn)(void *ud), void *ud)
{
    pthread_mutex_lock(&r->lock);
    while (r->leaving && !pthread_equal(r->leaving_thread, pthread_self()))
        pthread_cond_wait(&r->told, &r->lock);
    r->leave = fn;
    r->leave_ud = ud;
    if (!fn) r->stop = NULL;
    if (r->left) tell(r, r->leave);
    pthread_mutex_unlock(&r->lock);
}

bool mlxr_request_left(const mlxr_request_in *r)
{
    bool left;
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&r->lock;

    pthread_mutex_lock(lock);
    left = r->left;
    pthread_mutex_unlock(lock);
    return left;
}

/* With r->lock held. */
static void resume(mlxr_request_in *r)
{
    if (r->waits_here) pthread_cond_broadcast(&r->told);
    if (!r->suspended || !r->connection) return;
    r->suspended = false;
    MHD_resume_connection(r->connection);
}

/* The client is gone, or is given up. With r->lock held; gives it up meanwhile. */
static void leave(mlxr_request_in *r)
{
    if (r->left) return;
    r->left = true;
    tell(r, r->leave);
    resume(r);
}

/* ---- answers ---- */

void mlxr_reply_header(mlxr_request_in *r, const char *name, const char *value)
{
    pthread_mutex_lock(&r->lock);
    if (r->state == OPEN && r->n_out_headers < MLXR_COUNT(r->out_headers)) {
        pair *p = &r->out_headers[r->n_out_headers];
        p->name = mlxr_strdup(name);
        p->value = mlxr_strdup(value);
        r->n_out_headers++; /* one without memory is passed over when it is sent */
    }
    pthread_mutex_unlock(&r->lock);
}

/* With r->lock held. */
static void keep(mlxr_request_in *r, const char *data, size_t n)
{
    size_t room = MAX_KEPT - r->kept.len;

    if (r->server->options.keep_answers && data) mlxr_buf_append(&r->kept, data, n < room ? n : room);
}

void mlxr_reply(mlxr_request_in *r, int status, const char *content_type, mlxr_buf *body)
{
    pthread_mutex_lock(&r->lock);
    if (r->state == OPEN) {
        r->status = status;
        r->content_type = content_type ? mlxr_strdup(content_type) : NULL;
        r->pile = *body;
        *body = (mlxr_buf){0};
        keep(r, r->pile.data, r->pile.len);
        r->state = WHOLE;
        resume(r);
    }
    pthread_mutex_unlock(&r->lock);
    mlxr_buf_clear(body);
}

void mlxr_reply_text(mlxr_request_in *r, int status, const char *content_type, const char *text)
{
    mlxr_buf body = {0};

    mlxr_buf_str(&body, text);
    mlxr_reply(r, status, content_type, &body);
}

void mlxr_reply_begin(mlxr_request_in *r, int status, const char *content_type, const char *heartbeat)
{
    pthread_mutex_lock(&r->lock);
    if (r->state == OPEN) {
        r->status = status;
        r->content_type = mlxr_strdup(content_type);
        r->heartbeat = heartbeat;
        r->last_push_ns = mlxr_now_ns();
        r->state = STREAM;
        resume(r);
    }
    pthread_mutex_unlock(&r->lock);
}

/* With r->lock held. */
static void push(mlxr_request_in *r, const void *data, size_t n)
{
    if (r->state != STREAM || r->left) return;
    mlxr_buf_append(&r->pile, data, n);
    keep(r, data, n);
    r->last_push_ns = mlxr_now_ns();
    if (r->pile.failed || r->pile.len - r->taken > MAX_PILE)
        leave(r);
    else
        resume(r);
}

void mlxr_reply_push(mlxr_request_in *r, const void *data, size_t n)
{
    pthread_mutex_lock(&r->lock);
    push(r, data, n);
    pthread_mutex_unlock(&r->lock);
}

void mlxr_reply_end(mlxr_request_in *r)
{
    pthread_mutex_lock(&r->lock);
    if (r->state == STREAM) {
        r->state = ENDED;
        resume(r);
    }
    pthread_mutex_unlock(&r->lock);
}

bool mlxr_replied(const mlxr_request_in *r)
{
    bool answered;
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&r->lock;

    pthread_mutex_lock(lock);
    answered = r->state != OPEN;
    pthread_mutex_unlock(lock);
    return answered;
}

/* ---- libmicrohttpd's side ---- */

static ssize_t read_stream(void *ud, uint64_t pos, char *out, size_t max)
{
    mlxr_request_in *r = ud;
    size_t n;
    ssize_t result = 0;

    (void)pos;
    pthread_mutex_lock(&r->lock);
    n = r->pile.len - r->taken;
    if (r->left) {
        result = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (n > 0) {
        if (n > max) n = max;
        memcpy(out, r->pile.data + r->taken, n);
        r->taken += n;
        r->n_sent += n;
        if (r->taken == r->pile.len) r->taken = r->pile.len = 0;
        result = (ssize_t)n;
    } else if (r->state == ENDED) {
        result = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        r->suspended = true;
        MHD_suspend_connection(r->connection);
    }
    pthread_mutex_unlock(&r->lock);
    return result;
}

/* An answer has begun, so that nobody changes its head any more. Without r->lock: libmicrohttpd holds a lock of its own both here and
 * where it asks read_stream. */
static enum MHD_Result queue_answer(mlxr_request_in *r)
{
    struct MHD_Response *response;
    enum MHD_Result ok;
    bool is_whole;

    pthread_mutex_lock(&r->lock);
    is_whole = r->state == WHOLE; /* else a stream, which may end meanwhile */
    pthread_mutex_unlock(&r->lock);
    if (is_whole) {
        size_t n = 0;
        char *bytes;
        bool failed = r->pile.failed;
        n = r->pile.len;
        bytes = failed ? NULL : mlxr_buf_take(&r->pile, NULL);
        if (!bytes) return MHD_NO;
        response = MHD_create_response_from_buffer(n, bytes, MHD_RESPMEM_MUST_FREE);
        if (!response) free(bytes);
        r->n_sent = n;
    } else {
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, r, NULL);
    }
    if (!response) return MHD_NO;
    if (r->content_type) MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, r->content_type);
    for (size_t i = 0; i < r->n_out_headers; i++)
        if (r->out_headers[i].name && r->out_headers[i].value)
            MHD_add_response_header(response, r->out_headers[i].name, r->out_headers[i].value);
    if (r->closes) MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    ok = MHD_queue_response(r->connection, (unsigned)r->status, response);
    MHD_destroy_response(response);
    return ok;
}

struct collect {
    mlxr_request_in *r;
    pair *pairs;
    size_t n;
    bool failed, bad;
};

static enum MHD_Result collect_pair(void *ud, enum MHD_ValueKind kind, const char *key, const char *value)
{
    struct collect *c = ud;

    (void)kind;
    if (c->n == MAX_HEADERS) {
        c->bad = true;
        return MHD_NO;
    }
    if (!value) value = "";
    c->pairs[c->n].name = mlxr_arena_strndup(&c->r->arena, key, strlen(key));
    c->pairs[c->n].value = mlxr_arena_strndup(&c->r->arena, value, strlen(value));
    if (!c->pairs[c->n].name || !c->pairs[c->n].value) {
        c->failed = true;
        return MHD_NO;
    }
    c->n++;
    return MHD_YES;
}

/* false: out of memory, or too many. */
static bool collect_pairs(mlxr_request_in *r, enum MHD_ValueKind kind, pair **out, size_t *out_n)
{
    pair pairs[MAX_HEADERS];
    struct collect c = {.r = r, .pairs = pairs};

    MHD_get_connection_values(r->connection, kind, collect_pair, &c);
    if (c.failed || c.bad) return false;
    *out = mlxr_arena_calloc(&r->arena, c.n ? c.n : 1, sizeof **out);
    if (!*out) return false;
    memcpy(*out, pairs, c.n * sizeof *pairs);
    *out_n = c.n;
    return true;
}

static bool path_fits(const mlxr_route *route, const char *path)
{
    size_t n = strlen(route->path);
    bool below = n > 1 && route->path[n - 1] == '/';

    return below ? strncmp(path, route->path, n) == 0 && path[n] : strcmp(path, route->path) == 0;
}

/* The methods that the path has, for 405. */
static void put_allow(mlxr_server *s, mlxr_request_in *r)
{
    mlxr_buf allow = {0};

    for (size_t i = 0; i < s->options.n_routes; i++) {
        const mlxr_route *route = &s->routes[i];
        if (!path_fits(route, r->path)) continue;
        /* A path has few methods, each by one route, or by two of which one is longer. */
        if (allow.data && strstr(allow.data, route->method)) continue;
        if (allow.len) mlxr_buf_str(&allow, ", ");
        mlxr_buf_str(&allow, route->method);
        if (strcmp(route->method, "GET") == 0) mlxr_buf_str(&allow, ", HEAD");
    }
    if (allow.data && !allow.failed) mlxr_reply_header(r, "Allow", allow.data);
    mlxr_buf_clear(&allow);
}

/* The route; NULL with *status 404, or 405 when the path has others. */
static const mlxr_route *find_route(mlxr_server *s, mlxr_request_in *r, int *status)
{
    const mlxr_route *best = NULL;
    size_t best_n = 0;
    bool is_head = strcmp(r->method, "HEAD") == 0;

    *status = 404;
    for (size_t i = 0; i < s->options.n_routes; i++) {
        const mlxr_route *route = &s->routes[i];
        size_t n = strlen(route->path);
        bool below = n > 1 && route->path[n - 1] == '/';
        if (!path_fits(route, r->path)) continue;
        if (*status == 404) *status = 405;
        if (strcmp(route->method, r->method) != 0 &&
            (!is_head || strcmp(route->method, "GET") != 0 || n == best_n))
            continue; /* HEAD is GET without the body, where it has no route of its own */
        if (n < best_n) continue;
        best = route;
        best_n = n;
        r->tail = below ? r->path + n : "";
    }
    return best;
}

static void refuse_early(mlxr_request_in *r, int status, const char *why)
{
    r->refused = status;
    r->refused_why = why;
}

/* A request with its own parts alone: it is on no list yet. */
static mlxr_request_in *new_request(mlxr_server *s, const char *method, const char *path)
{
    mlxr_request_in *r = calloc(1, sizeof *r);
    mlxr_buf id = {0};

    if (!r) return NULL;
    r->server = s;
    r->fd = -1;
    r->start_ns = mlxr_now_ns();
    r->n_refs = 1;
    if (pthread_mutex_init(&r->lock, NULL) != 0) goto no_lock;
    if (pthread_cond_init(&r->told, NULL) != 0) goto no_cond;
    r->method = mlxr_arena_strndup(&r->arena, method, strlen(method));
    r->path = mlxr_arena_strndup(&r->arena, path, strlen(path));
    mlxr_buf_str(&id, "req_");
    mlxr_put_random_hex(&id, 24);
    if (!r->method || !r->path || id.failed) {
        mlxr_buf_clear(&id);
        mlxr_request_unref(r);
        return NULL;
    }
    memcpy(r->record.id, id.data, id.len + 1);
    mlxr_buf_clear(&id);
    return r;
no_cond:
    pthread_mutex_destroy(&r->lock);
no_lock:
    free(r);
    return NULL;
}

static bool is_draining(mlxr_server *s)
{
    bool draining;

    pthread_mutex_lock(&s->lock);
    draining = s->draining;
    pthread_mutex_unlock(&s->lock);
    return draining;
}

/* Head and queries are there: it counts as live, and gets its route. */
static void admit(mlxr_server *s, mlxr_request_in *r)
{
    const char *length;
    int status;
    size_t max;

    pthread_mutex_lock(&s->lock);
    r->number = ++s->n_requests;
    r->next = s->live;
    if (s->live) s->live->prev = r;
    s->live = r;
    s->n_live++;
    r->admitted = true;
    pthread_mutex_unlock(&s->lock);

    if (is_draining(s)) {
        r->closes = true;
        refuse_early(r, 503, "the server ends");
        return;
    }
    if (mlxr_utf8_valid(r->path, strlen(r->path)) != strlen(r->path)) {
        refuse_early(r, 400, "the path is not UTF-8");
        return;
    }
    if (!(r->route = find_route(s, r, &status))) {
        refuse_early(r, status, status == 405 ? "405 method not allowed" : "404 page not found");
        return;
    }
    r->record.endpoint = r->route->path;
    max = r->route->max_body ? r->route->max_body : s->options.max_body;
    length = mlxr_request_header(r, "Content-Length");
    if (length && strtoull(length, NULL, 10) > max) refuse_early(r, 413, "the body is too large");
}

static void put_client(mlxr_request_in *r)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(r->connection,
                                                                   MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *a = info ? info->client_addr : NULL;
    const struct sockaddr_in *v4 = (const void *)a;
    const struct sockaddr_in6 *v6 = (const void *)a;
    char host[INET6_ADDRSTRLEN];

    if (a && a->sa_family == AF_UNIX)
        snprintf(r->client, sizeof r->client, "unix");
    else if (a && a->sa_family == AF_INET && inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host))
        snprintf(r->client, sizeof r->client, "%s:%u", host, ntohs(v4->sin_port));
    else if (a && a->sa_family == AF_INET6 && inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host))
        snprintf(r->client, sizeof r->client, "[%s]:%u", host, ntohs(v6->sin6_port));
}

static mlxr_request_in *begin_request(mlxr_server *s, struct MHD_Connection *c, const char *url,
                                      const char *method)
{
    mlxr_request_in *r = new_request(s, method, url);
    const union MHD_ConnectionInfo *info;

    if (!r) return NULL;
    r->connection = c;
    info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    r->fd = info ? info->connect_fd : -1;
    put_client(r);
    if (!collect_pairs(r, MHD_HEADER_KIND, &r->headers, &r->n_headers) ||
        !collect_pairs(r, MHD_GET_ARGUMENT_KIND, &r->queries, &r->n_queries)) {
        mlxr_request_unref(r);
        return NULL;
    }
    admit(s, r);
    return r;
}

static void take_body(mlxr_request_in *r, const char *data, size_t n)
{
    const mlxr_route *route = r->route;
    size_t max;

    if (r->refused || r->body_failed) return;
    if (route->body) {
        mlxr_error err = {0};
        if (route->body(r, route->ud, data, n, &err) != MLXR_OK) r->body_failed = true;
        return;
    }
    max = route->max_body ? route->max_body : r->server->options.max_body;
    if (r->body.len + n > max)
        refuse_early(r, 413, "the body is too large");
    else
        mlxr_buf_append(&r->body, data, n);
    if (r->body.failed) refuse_early(r, 503, "out of memory");
}

static bool pass_gate(mlxr_server *s, mlxr_request_in *r)
{
    if (!r->gated) r->passed = !s->options.gate || s->options.gate(r, s->options.ud);
    r->gated = true;
    return r->passed;
}

static void dispatch(mlxr_server *s, mlxr_request_in *r)
{
    pthread_mutex_lock(&s->lock);
    s->n_working++;
    pthread_mutex_unlock(&s->lock);
    r->dispatched = true;
    if (!pass_gate(s, r)) return;
    if (r->refused == 405) put_allow(s, r);
    if (r->refused)
        s->options.refuse(r, r->refused, r->refused_why, s->options.ud);
    else
        r->route->handler(r, r->route->ud);
}

static bool has_body(const mlxr_request_in *r)
{
    const char *length = mlxr_request_header(r, "Content-Length");

    return mlxr_request_header(r, "Transfer-Encoding") || (length && strtoull(length, NULL, 10) > 0);
}

static enum MHD_Result on_access(void *ud, struct MHD_Connection *c, const char *url, const char *method,
                                 const char *version, const char *data, size_t *n_data, void **request)
{
    mlxr_server *s = ud;
    mlxr_request_in *r = *request;
    enum MHD_Result ok = MHD_YES;
    bool waits = false, answers = false;

    (void)version;
    if (!r) {
        *request = r = begin_request(s, c, url, method);
        if (!r) return MHD_NO;
        /* What is refused anyway is not worth reading; the connection ends with the answer then. */
        if (!has_body(r) || (pass_gate(s, r) && !r->refused)) return MHD_YES;
        if (!r->dispatched) dispatch(s, r);
        return mlxr_replied(r) ? queue_answer(r) : MHD_NO;
    }
    if (*n_data > 0) {
        take_body(r, data, *n_data);
        *n_data = 0;
        return MHD_YES;
    }
    if (!r->dispatched) dispatch(s, r);
    pthread_mutex_lock(&r->lock);
    if (r->left) {
        ok = MHD_NO;
    } else if (r->state != OPEN) {
        answers = true;
    } else {
        r->suspended = waits = true;
        MHD_suspend_connection(c);
    }
    pthread_mutex_unlock(&r->lock);
    if (answers) return queue_answer(r);
    if (waits) wake_watcher(s); /* a client to look after */
    return ok;
}

/* The answer is sent, or nobody is there to take it. What else holds the request may still do so: it is over, and told of by
 * `done`, when the last has let go. */
static void complete_request(mlxr_request_in *r, bool complete)
{
    pthread_mutex_lock(&r->lock);
    if (!complete || r->left) {
        complete = false;
        leave(r);
    }
    while (r->leaving && !pthread_equal(r->leaving_thread, pthread_self()))
        pthread_cond_wait(&r->told, &r->lock);
    r->leave = NULL;
    r->connection = NULL;
    r->complete = complete;
    r->duration_ns = mlxr_now_ns() - r->start_ns;
    if (r->state == OPEN) r->status = 499;
    pthread_mutex_unlock(&r->lock);
    mlxr_request_unref(r);
}

/* A NUL would end the text early: such a path or query is none. */
static size_t on_unescape(void *ud, struct MHD_Connection *c, char *s)
{
    size_t n = MHD_http_unescape(s);

    (void)ud;
    (void)c;
    if (memchr(s, '\0', n)) *s = '\0';
    return strlen(s);
}

static void on_completed(void *ud, struct MHD_Connection *c, void **request,
                         enum MHD_RequestTerminationCode code)
{
    mlxr_request_in *r = *request;

    (void)ud;
    (void)c;
    if (!r) return;
    *request = NULL;
    complete_request(r, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
}

static void on_connection(void *ud, struct MHD_Connection *c, void **data,
                          enum MHD_ConnectionNotificationCode code)
{
    mlxr_server *s = ud;

    (void)c;
    (void)data;
    pthread_mutex_lock(&s->lock);
    s->n_connections += code == MHD_CONNECTION_NOTIFY_STARTED ? 1 : (size_t)-1;
    pthread_mutex_unlock(&s->lock);
}

static void on_log(void *ud, const char *fmt, va_list ap)
{
    mlxr_server *s = ud;
    char text[512];

    if (vsnprintf(text, sizeof text, fmt, ap) < 0) return;
    text[strcspn(text, "\n")] = '\0';
    mlxr_log_at(&s->options.log, MLXR_LOG_DEBUG, "http: %s", text);
}

/* ---- the watcher ---- */

enum { WATCH_MS = 1000 };

/* Sockets of suspended requests, by number since a request may end meanwhile. */
struct watched {
    struct pollfd *fds; /* the first is the pipe */
    uint64_t *numbers;
    size_t n, cap;
};

/* With r->lock held. An answer that is only to be sent is libmicrohttpd's to end: a client that has all of it may close at once. */
static bool is_watched(const mlxr_request_in *r)
{
    return r->connection && !r->left && r->fd >= 0 && r->state != WHOLE && r->state != ENDED;
}

static bool watch_all(mlxr_server *s, struct watched *w)
{
    uint64_t now = mlxr_now_ns(), silence = (uint64_t)s->options.heartbeat_seconds * 1000000000u;
    bool goes_on;

    w->n = 1;
    pthread_mutex_lock(&s->lock);
    goes_on = !s->closing;
    if (s->n_live + 1 > w->cap) {
        size_t cap = 2 * s->n_live + 64;
        struct pollfd *fds = mlxr_realloc_array(w->fds, cap, sizeof *fds);
        uint64_t *numbers = NULL;
        if (fds) w->fds = fds;
        if (fds) numbers = mlxr_realloc_array(w->numbers, cap, sizeof *numbers);
        if (numbers) {
            w->numbers = numbers;
            w->cap = cap;
        }
    }
    for (mlxr_request_in *r = s->live; r && w->n < w->cap; r = r->next) {
        pthread_mutex_lock(&r->lock);
        if (r->heartbeat && r->state == STREAM && silence && now - r->last_push_ns >= silence)
            push(r, r->heartbeat, strlen(r->heartbeat));
        if (is_watched(r)) {
            w->fds[w->n] = (struct pollfd){.fd = r->fd, .events = POLLRDHUP};
            w->numbers[w->n++] = r->number;
        }
        pthread_mutex_unlock(&r->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return goes_on;
}

/* A socket's number may be another connection's by now, so the socket is asked again while its request is held. */
static void look_at(mlxr_server *s, uint64_t number)
{
    mlxr_request_in *r;

    pthread_mutex_lock(&s->lock);
    for (r = s->live; r && r->number != number; r = r->next) {
    }
    if (r) mlxr_request_ref(r);
    pthread_mutex_unlock(&s->lock);
    if (!r) return;
    pthread_mutex_lock(&r->lock);
    if (is_watched(r)) { /* still: it may have been answered since */
        struct pollfd fd = {.fd = r->fd, .events = POLLRDHUP};
        char byte;
        if (poll(&fd, 1, 0) == 1 && (fd.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL))) {
            if (r->dispatched) leave(r);
            /* Its body is not whole and never will be. libmicrohttpd, which reads until it gets less than it asks for, misses the
             * end when that came together with the last bytes: this is an event that it sees. */
            else if (recv(r->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
                shutdown(r->fd, SHUT_RDWR);
        }
    }
    pthread_mutex_unlock(&r->lock);
    mlxr_request_unref(r);
}

static void *watch(void *ud)
{
    mlxr_server *s = ud;
    struct watched w = {.fds = mlxr_calloc_array(64, sizeof *w.fds),
                        .numbers = mlxr_calloc_array(64, sizeof *w.numbers),
                        .cap = 64};

    if (!w.fds || !w.numbers) goto done;
    while (watch_all(s, &w)) {
        char bytes[256];
        w.fds[0] = (struct pollfd){.fd = s->wake[0], .events = POLLIN};
        if (poll(w.fds, (nfds_t)w.n, WATCH_MS) <= 0) continue;
        if (w.fds[0].revents)
            while (read(s->wake[0], bytes, sizeof bytes) == (ssize_t)sizeof bytes) {
            }
        for (size_t i = 1; i < w.n; i++)
            if (w.fds[i].revents) look_at(s, w.numbers[i]);
    }
done:
    free(w.fds);
    free(w.numbers);
    return NULL;
}

/* ---- without a socket ---- */

/* "a=1&b=2" of a target into queries; %XX and + are decoded. */
static bool split_query(mlxr_request_in *r, char *query)
{
    size_t n = 1, i = 0;

    for (const char *p = query; *p; p++) n += *p == '&';
    if (!(r->queries = mlxr_arena_calloc(&r->arena, n, sizeof *r->queries))) return false;
    for (char *p = query, *next; p; p = next) {
        char *is;
        if ((next = strchr(p, '&'))) *next++ = '\0';
        is = strchr(p, '=');
        if (is) *is++ = '\0';
        MHD_http_unescape(p);
        if (is) MHD_http_unescape(is);
        r->queries[i++] = (pair){p, is ? is : p + strlen(p)};
    }
    r->n_queries = i;
    return true;
}

static bool split_headers(mlxr_request_in *r, const char *const *headers)
{
    size_t n = 0;

    while (headers && headers[n]) n++;
    if (!(r->headers = mlxr_arena_calloc(&r->arena, n + 1, sizeof *r->headers))) return false;
    for (size_t i = 0; i < n; i++) {
        char *name = mlxr_arena_strndup(&r->arena, headers[i], strlen(headers[i])), *value;
        if (!name) return false;
        value = strchr(name, ':');
        if (value) *value++ = '\0';
        while (value && *value == ' ') value++;
        r->headers[r->n_headers++] = (pair){name, value ? value : name + strlen(name)};
    }
    return true;
}

static mlxr_status take_exchange(mlxr_exchange *out, mlxr_request_in *r, mlxr_error *err)
{
    mlxr_buf headers = {0};
    mlxr_status st = MLXR_OK;

    out->status = r->status;
    out->content_type = mlxr_strdup(r->content_type ? r->content_type : "");
    for (size_t i = 0; i < r->n_out_headers; i++)
        mlxr_buf_printf(&headers, "%s: %s\n", r->out_headers[i].name, r->out_headers[i].value);
    mlxr_buf_str(&headers, "");
    r->n_sent = r->pile.len;
    out->headers = mlxr_buf_take(&headers, NULL);
    if (strcmp(r->method, "HEAD") == 0) r->pile.len = 0;
    mlxr_buf_str(&r->pile, "");
    out->body = mlxr_buf_take(&r->pile, &out->n_body);
    if (!out->content_type || !out->headers || !out->body) st = mlxr_fail_nomem(err, "exchange");
    mlxr_buf_clear(&headers);
    return st;
}

mlxr_status mlxr_server_exchange(mlxr_exchange *out, mlxr_server *s, const char *method, const char *target,
                                 const char *const *headers, const void *body, size_t n_body, mlxr_error *err)
{
    mlxr_request_in *r = new_request(s, method, target);
    mlxr_status st;
    char *query;
    bool left;

    memset(out, 0, sizeof *out);
    if (!r) return mlxr_fail_nomem(err, "exchange");
    r->waits_here = true;
    if ((query = strchr(r->path, '?'))) *query++ = '\0';
    MHD_http_unescape(r->path);
    if (!split_headers(r, headers) || (query && !split_query(r, query))) {
        mlxr_request_unref(r);
        return mlxr_fail_nomem(err, "exchange");
    }
    admit(s, r);
    if (n_body) take_body(r, body, n_body);
    mlxr_request_ref(r);
    dispatch(s, r);
    pthread_mutex_lock(&r->lock);
    while (!r->left && r->state != WHOLE && r->state != ENDED) pthread_cond_wait(&r->told, &r->lock);
    left = r->left;
    st = left ? mlxr_fail(err, MLXR_E_CANCELLED, "exchange: the answer was given up")
              : take_exchange(out, r, err);
    pthread_mutex_unlock(&r->lock);
    mlxr_request_ref(r);
    complete_request(r, !left);
    mlxr_request_unref(r);
    /* Others who hold it have a last thing to do, which the caller may look for. */
    pthread_mutex_lock(&r->lock);
    while (r->n_refs > 1) pthread_cond_wait(&r->told, &r->lock);
    pthread_mutex_unlock(&r->lock);
    mlxr_request_unref(r);
    return st;
}

void mlxr_exchange_clear(mlxr_exchange *e)
{
    free(e->content_type);
    free(e->headers);
    free(e->body);
    memset(e, 0, sizeof *e);
}

/* ---- opening ---- */

static mlxr_status fail_socket(mlxr_error *err, const char *address, const char *verb)
{
    int e = errno;

    return mlxr_fail(err,
                     e == EACCES || e == EPERM ? MLXR_E_DENIED
                     : e == EADDRINUSE         ? MLXR_E_BUSY
                                               : MLXR_E_IO,
                     "server: %s: cannot %s: %s", address, verb, strerror(e));
}

static mlxr_status listen_unix(mlxr_server *s, const char *path, mlxr_error *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    snprintf(s->address, sizeof s->address, "unix:%.150s", path);
    if (strlen(path) >= sizeof a.sun_path)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "server: %s: the path of a socket has at most %zu bytes", path,
                         sizeof a.sun_path - 1);
    memcpy(a.sun_path, path, strlen(path) + 1);
    s->listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (s->listener < 0) return fail_socket(err, s->address, "make a socket");
    if (bind(s->listener, (struct sockaddr *)&a, sizeof a) != 0) {
        /* What a killed server left is nobody's; a living one answers. What is no socket stays. */
        struct stat sb;
        int probe, answers;
        if (errno != EADDRINUSE) return fail_socket(err, s->address, "listen");
        probe = socket(AF_UNIX, SOCK_STREAM, 0);
        answers = probe < 0 || connect(probe, (struct sockaddr *)&a, sizeof a) == 0;
        if (probe >= 0) close(probe);
        if (answers || lstat(path, &sb) != 0 || !S_ISSOCK(sb.st_mode)) {
            errno = EADDRINUSE;
            return fail_socket(err, s->address, "listen");
        }
        unlink(path);
        if (bind(s->listener, (struct sockaddr *)&a, sizeof a) != 0)
            return fail_socket(err, s->address, "listen");
    }
    /* Nobody gets in before it listens. */
    if (chmod(path, 0600) != 0) return fail_socket(err, s->address, "change the mode of");
    s->socket_path = mlxr_strdup(path);
    s->loopback = true;
    if (!s->socket_path) return mlxr_fail_nomem(err, "server");
    return MLXR_OK;
}

static bool address_is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24) == 127;
    if (a->sa_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
    return false;
}

/* Address and port as the listening socket has them. */
static void name_bound(mlxr_server *s)
{
    struct sockaddr_storage bound;
    socklen_t n_bound = sizeof bound;
    char service[8], name[100];

    if (getsockname(s->listener, (struct sockaddr *)&bound, &n_bound) == 0 &&
        getnameinfo((struct sockaddr *)&bound, n_bound, name, sizeof name, service, sizeof service,
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
        s->port = (uint16_t)strtoul(service, NULL, 10);
        snprintf(s->address, sizeof s->address, strchr(name, ':') ? "[%s]:%s" : "%s:%s", name, service);
    }
}

/* A socket that a service manager has bound; its path, if it has one, stays when we go. */
static mlxr_status listen_given(mlxr_server *s, const char *number, mlxr_error *err)
{
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof a;
    int fd = (int)strtol(number, NULL, 10);

    snprintf(s->address, sizeof s->address, "fd:%d", fd);
    if (getsockname(fd, (struct sockaddr *)&a, &n) != 0) return fail_socket(err, s->address, "listen");
    s->listener = fd;
    if (a.ss_family == AF_UNIX) {
        const struct sockaddr_un *un = (const void *)&a;
        snprintf(s->address, sizeof s->address, "unix:%.*s", (int)sizeof un->sun_path, un->sun_path);
        s->loopback = true;
    } else {
        name_bound(s);
        s->loopback = address_is_loopback((struct sockaddr *)&a);
    }
    return MLXR_OK;
}

static mlxr_status listen_tcp(mlxr_server *s, const char *host, uint16_t port, mlxr_error *err)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE},
                    *found = NULL;
    char service[8];
    char plain[100];
    size_t n_host = strlen(host);
    mlxr_status st = MLXR_OK;
    int one = 1, e;

    if (n_host > 2 && host[0] == '[' && host[n_host - 1] == ']' && n_host < sizeof plain) {
        memcpy(plain, host + 1, n_host - 2);
        plain[n_host - 2] = '\0';
        host = plain;
    }

    snprintf(service, sizeof service, "%u", port);
    snprintf(s->address, sizeof s->address, strchr(host, ':') ? "[%.100s]:%u" : "%.100s:%u", host, port);
    if ((e = getaddrinfo(host, service, &hints, &found)) != 0)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "server: %s: %s", s->address, gai_strerror(e));
    s->listener = socket(found->ai_family, SOCK_STREAM, 0);
    if (s->listener < 0) {
        st = fail_socket(err, s->address, "make a socket");
        goto done;
    }
    setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(s->listener, found->ai_addr, found->ai_addrlen) != 0) {
        st = fail_socket(err, s->address, "listen");
        goto done;
    }
    s->loopback = address_is_loopback(found->ai_addr);
    name_bound(s);
done:
    freeaddrinfo(found);
    return st;
}

static mlxr_status read_pem(char **out, const char *path, mlxr_error *err)
{
    mlxr_buf b = {0};
    mlxr_status st = mlxr_file_read(&b, path, MAX_TLS_FILE, err);

    if (st == MLXR_OK && !(*out = mlxr_buf_take(&b, NULL))) st = mlxr_fail_nomem(err, path);
    mlxr_buf_clear(&b);
    return st;
}

static mlxr_status start_daemon(mlxr_server *s, mlxr_error *err)
{
    const mlxr_server_options *o = &s->options;
    struct MHD_OptionItem items[16];
    size_t n = 0;
    unsigned flags = MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD | MHD_ALLOW_SUSPEND_RESUME |
                     MHD_USE_ERROR_LOG;

    if (s->cert) {
        flags |= MHD_USE_TLS;
        items[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, s->cert};
        items[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, s->key};
    }
    if (o->n_threads > 1)
        items[n++] = (struct MHD_OptionItem){MHD_OPTION_THREAD_POOL_SIZE, (intptr_t)o->n_threads, NULL};
    items[n++] = (struct MHD_OptionItem){MHD_OPTION_LISTEN_SOCKET, s->listener, NULL};
    items[n++] = (struct MHD_OptionItem){MHD_OPTION_CONNECTION_LIMIT, (intptr_t)o->max_connections, NULL};
    items[n++] = (struct MHD_OptionItem){MHD_OPTION_CONNECTION_TIMEOUT, (intptr_t)o->idle_seconds, NULL};
    items[n++] = (struct MHD_OptionItem){MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY, NULL};
    items[n++] = (struct MHD_OptionItem){MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, NULL};
    items[n] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
    s->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_access, s, MHD_OPTION_EXTERNAL_LOGGER, on_log,
                                 (void *)s, MHD_OPTION_NOTIFY_COMPLETED, on_completed, (void *)s,
                                 MHD_OPTION_UNESCAPE_CALLBACK, on_unescape, (void *)s,
                                 MHD_OPTION_NOTIFY_CONNECTION, on_connection, (void *)s, MHD_OPTION_ARRAY,
                                 items, MHD_OPTION_END);
    if (!s->daemon)
        return mlxr_fail(err, MLXR_E_IO, "server: %s: libmicrohttpd could not start%s", s->address,
                         s->cert ? "; are certificate and key PEM files that belong together?" : "");
    s->listener_is_daemons = true;
    return MLXR_OK;
}

mlxr_status mlxr_server_open(mlxr_server **out, const mlxr_server_options *options, mlxr_error *err)
{
    mlxr_server *s = calloc(1, sizeof *s);
    mlxr_status st = MLXR_OK;

    *out = NULL;
    if (!s) return mlxr_fail_nomem(err, "server");
    s->options = *options;
    s->listener = s->wake[0] = s->wake[1] = -1;
    if (pthread_mutex_init(&s->lock, NULL) != 0) {
        free(s);
        return mlxr_fail_nomem(err, "server");
    }
    if (pthread_cond_init(&s->ended, NULL) != 0) {
        pthread_mutex_destroy(&s->lock);
        free(s);
        return mlxr_fail_nomem(err, "server");
    }
    s->routes = mlxr_calloc_array(options->n_routes, sizeof *s->routes);
    if (!s->routes) {
        st = mlxr_fail_nomem(err, "server");
        goto done;
    }
    if (options->n_routes) memcpy(s->routes, options->routes, options->n_routes * sizeof *s->routes);
    if (pipe(s->wake) != 0) {
        st = fail_socket(err, "server", "make a pipe");
        goto done;
    }
    for (int i = 0; i < 2; i++) {
        fcntl(s->wake[i], F_SETFL, O_NONBLOCK);
        fcntl(s->wake[i], F_SETFD, FD_CLOEXEC);
    }
    if (options->tls_cert && (st = read_pem(&s->cert, options->tls_cert, err)) != MLXR_OK) goto done;
    if (options->tls_cert && (st = read_pem(&s->key, options->tls_key, err)) != MLXR_OK) goto done;
    if (!options->host) {
        *out = s;
        s = NULL;
        goto done;
    }
    if (strncmp(options->host, "unix:", 5) == 0)
        st = listen_unix(s, options->host + 5, err);
    else if (strncmp(options->host, "fd:", 3) == 0)
        st = listen_given(s, options->host + 3, err);
    else
        st = listen_tcp(s, options->host, options->port, err);
    if (st != MLXR_OK) goto done;
    fcntl(s->listener, F_SETFD, FD_CLOEXEC);
    if (listen(s->listener, 1024) != 0) {
        st = fail_socket(err, s->address, "listen");
        goto done;
    }
    if (pthread_create(&s->watcher, NULL, watch, s) != 0) {
        st = mlxr_fail_nomem(err, "server");
        goto done;
    }
    s->has_watcher = true;
    /* The first request may come at once, and waits here until the caller has the server in hand. */
    pthread_mutex_lock(&s->lock);
    st = start_daemon(s, err);
    if (st == MLXR_OK) *out = s;
    pthread_mutex_unlock(&s->lock);
    if (st == MLXR_OK) s = NULL;
done:
    mlxr_server_close(s);
    return st;
}

const char *mlxr_server_address(const mlxr_server *s)
{
    return s->address;
}

uint16_t mlxr_server_port(const mlxr_server *s)
{
    return s->port;
}

bool mlxr_server_is_loopback(const mlxr_server *s)
{
    return s->loopback;
}

bool mlxr_server_checks_host(const mlxr_server *s)
{
    return s && s->loopback && strncmp(s->address, "unix:", 5) != 0;
}

size_t mlxr_server_requests(const mlxr_server *s)
{
    size_t n;
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&s->lock;

    pthread_mutex_lock(lock);
    n = s->n_live;
    pthread_mutex_unlock(lock);
    return n;
}

size_t mlxr_server_connections(const mlxr_server *s)
{
    size_t n;
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&s->lock;

    pthread_mutex_lock(lock);
    n = s->n_connections;
    pthread_mutex_unlock(lock);
    return n;
}

/* ---- the end ---- */

/* Waits until no request is worked on, or the time is over. */
static bool wait_idle(mlxr_server *s, uint32_t wait_ms)
{
    struct timespec until;
    bool idle;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&s->lock);
    while (s->n_working > 0 && pthread_cond_timedwait(&s->ended, &s->lock, &until) != ETIMEDOUT) {
    }
    idle = s->n_working == 0;
    pthread_mutex_unlock(&s->lock);
    return idle;
}

bool mlxr_server_drain(mlxr_server *s, uint32_t wait_ms)
{
    pthread_mutex_lock(&s->lock);
    if (!s->draining && s->daemon) {
        s->draining = true;
        pthread_mutex_unlock(&s->lock);
        MHD_quiesce_daemon(s->daemon);
        s->listener_is_daemons = false; /* quiesced: the socket is ours again */
        close(s->listener); /* else the system would still take connections, which nobody answers */
        s->listener = -1;
    } else {
        pthread_mutex_unlock(&s->lock);
    }
    return wait_idle(s, wait_ms);
}

/* A live request of which `was` is false, held. */
static mlxr_request_in *next_live(mlxr_server *s, bool (*was)(const mlxr_request_in *r))
{
    mlxr_request_in *r;

    pthread_mutex_lock(&s->lock);
    for (r = s->live; r; r = r->next) {
        bool done;
        pthread_mutex_lock(&r->lock);
        done = r->n_refs == 0 || was(r);
        if (!done) r->n_refs++;
        pthread_mutex_unlock(&r->lock);
        if (!done) break;
    }
    pthread_mutex_unlock(&s->lock);
    return r;
}

static bool was_stopped(const mlxr_request_in *r)
{
    return r->stopped;
}

static bool was_left(const mlxr_request_in *r)
{
    return r->left;
}

void mlxr_server_stop_all(mlxr_server *s)
{
    mlxr_request_in *r;

    while ((r = next_live(s, was_stopped)) != NULL) {
        pthread_mutex_lock(&r->lock);
        r->stopped = true;
        if (!r->leaving) tell(r, r->stop);
        pthread_mutex_unlock(&r->lock);
        mlxr_request_unref(r);
    }
}

/* Every request's client counts as gone, so that nothing stays suspended, nor waits for a body. */
static void drop_all(mlxr_server *s)
{
    mlxr_request_in *r;

    while ((r = next_live(s, was_left)) != NULL) {
        pthread_mutex_lock(&r->lock);
        leave(r);
        if (r->connection && r->fd >= 0) shutdown(r->fd, SHUT_RDWR);
        pthread_mutex_unlock(&r->lock);
        mlxr_request_unref(r);
    }
}

void mlxr_server_close(mlxr_server *s)
{
    if (!s) return;
    if (s->daemon) {
        mlxr_server_drain(s, 0);
        do drop_all(s);
        while (!wait_idle(s, 100));
    }
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_mutex_unlock(&s->lock);
    if (s->has_watcher) {
        wake_watcher(s);
        pthread_join(s->watcher, NULL);
    }
    if (s->daemon) MHD_stop_daemon(s->daemon);
    if (s->listener >= 0 && !s->listener_is_daemons) close(s->listener);
    if (s->socket_path) unlink(s->socket_path);
    for (int i = 0; i < 2; i++)
        if (s->wake[i] >= 0) close(s->wake[i]);
    free(s->socket_path);
    free(s->cert);
    free(s->key);
    free(s->routes);
    pthread_cond_destroy(&s->ended);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
