/* server: HTTP over libmicrohttpd, and nothing of any API. It takes requests whole (head and body, within limits), hands each to
 * the handler of its route, and sends what the handler, or a thread that it has set to work, says: an answer at once, or a stream whose
 * pieces go out as they come.
 *
 *   libmicrohttpd's threads: epoll, parsing, handlers that answer at once
 *   workers (workers.h):     what may take longer
 *   engines' threads:        push pieces into streams
 *   watcher:                 sees clients that leave while nothing is sent, and silence that wants a heartbeat
 *
 * Handlers run on libmicrohttpd's threads and must not wait. A request lives until it has been answered and sent (or its client has
 * left): who keeps it beyond the handler holds a reference. */
#ifndef MLXR_SERVE_SERVER_H
#define MLXR_SERVE_SERVER_H

#include "serve/record.h"

typedef struct mlxr_server mlxr_server;
typedef struct mlxr_request_in mlxr_request_in; /* one request; any thread, locked inside */

typedef void (*mlxr_handler)(mlxr_request_in *r, void *ud);

/* path: "/api/show"; what ends in "/" takes everything below it ("/v1/models/"). The longest that fits counts. */
typedef struct mlxr_route {
    const char *method, *path;
    mlxr_handler handler;
    size_t max_body; /* 0: server_options.max_body */
    /* With it the body is not kept: it goes here piece by piece before the handler is called (blobs). A failure here is sent
     * as an answer by the handler's own `fail`, and the rest of the body is thrown away. */
    mlxr_status (*body)(mlxr_request_in *r, void *ud, const void *data, size_t n, mlxr_error *err);
    void *ud;
} mlxr_route;

typedef struct mlxr_server_options {
    const char *host; /* "127.0.0.1", "::1", "0.0.0.0", "unix:/path", or "fd:3": a bound socket that somebody
                       * else has opened; NULL: it listens nowhere, for mlxr_server_exchange alone */
    uint16_t port;    /* 0: any free one */
    const char *tls_cert, *tls_key; /* PEM files; NULL: no TLS */
    uint32_t n_threads;             /* of libmicrohttpd; default 1 */
    uint32_t max_connections;       /* default 4096 */
    uint32_t idle_seconds;          /* default 120; a connection that waits for its answer is not idle */
    uint32_t heartbeat_seconds;     /* default 15 */
    size_t max_body;                /* default 64 MiB */
    bool keep_answers;              /* for mlxr_request_answer */
    const mlxr_route *routes;
    size_t n_routes;
    /* Before a route is looked for: false when it has answered the request itself (Host, Origin, keys). May be NULL. */
    bool (*gate)(mlxr_request_in *r, void *ud);
    /* What no route takes: status 404, 405, 413, 400; says it in the API's own way. */
    void (*refuse)(mlxr_request_in *r, int status, const char *text, void *ud);
    /* After each request: for logs and metrics. n_sent: bytes of the body. complete: the client got all of it. */
    void (*done)(mlxr_request_in *r, int status, uint64_t n_sent, uint64_t duration_ns, bool complete,
                 void *ud);
    void *ud;
    mlxr_log log;
} mlxr_server_options;
mlxr_server_options mlxr_server_options_default(void);

mlxr_status mlxr_server_open(mlxr_server **out, const mlxr_server_options *options, mlxr_error *err);
/* "127.0.0.1:11434", borrowed. */
const char *mlxr_server_address(const mlxr_server *s);
uint16_t mlxr_server_port(const mlxr_server *s);
/* It listens on a loopback address, which pages of the web may reach for under another name: their Host header tells. */
bool mlxr_server_checks_host(const mlxr_server *s);
bool mlxr_server_is_loopback(const mlxr_server *s); /* or a Unix socket */
/* No new connections; those that are wait at most wait_ms for their answers to end. true: all did. */
bool mlxr_server_drain(mlxr_server *s, uint32_t wait_ms);
/* Calls what on_stop has set of every request that is not over. */
void mlxr_server_stop_all(mlxr_server *s);
void mlxr_server_close(mlxr_server *s);
size_t mlxr_server_connections(const mlxr_server *s);
size_t mlxr_server_requests(const mlxr_server *s); /* that are not over */

/* ---- a request ---- */

const char *mlxr_request_method(const mlxr_request_in *r);
const char *mlxr_request_path(const mlxr_request_in *r); /* decoded, valid UTF-8 without NUL */
const char *mlxr_request_tail(const mlxr_request_in *r); /* of a route that ends in "/": what follows it */
const char *mlxr_request_query(const mlxr_request_in *r, const char *key); /* NULL: absent */
const char *mlxr_request_header(const mlxr_request_in *r, const char *name);
const char *mlxr_request_body(const mlxr_request_in *r, size_t *n); /* NUL-terminated */
/* For `done`, with keep_answers: the answer's first bytes, at most 1 MiB; else NULL. */
const char *mlxr_request_answer(const mlxr_request_in *r, size_t *n);
const char *mlxr_request_client(const mlxr_request_in *r); /* "127.0.0.1:41234", "unix", "": not known */
uint64_t mlxr_request_number(const mlxr_request_in *r);    /* of the server, from 1 */
uint64_t mlxr_request_start_ns(const mlxr_request_in *r);
mlxr_record *mlxr_request_record(const mlxr_request_in *r);
/* Whatever the handlers keep with it; free_data runs when the request ends. */
void mlxr_request_set_data(mlxr_request_in *r, void *data, void (*free_data)(void *data));
void *mlxr_request_data(const mlxr_request_in *r);
void mlxr_request_ref(mlxr_request_in *r);
void mlxr_request_unref(mlxr_request_in *r);
/* Called once when the client leaves before its answer is whole, from any thread, with no lock held; at once when it has left
 * already. NULL takes it back; after that returns it does not run. */
void mlxr_request_on_leave(mlxr_request_in *r, void (*fn)(void *ud), void *ud);
/* The same for when the server ends and nobody waits any longer: to say so to the client. With on_leave's ud; gone with it. */
void mlxr_request_on_stop(mlxr_request_in *r, void (*fn)(void *ud));
bool mlxr_request_left(const mlxr_request_in *r);

/* ---- answers: exactly one of answer and begin, from any thread ---- */

/* A header of the answer; before it. */
void mlxr_reply_header(mlxr_request_in *r, const char *name, const char *value);
/* The whole answer. Bytes are taken (the buffer is empty afterwards). */
void mlxr_reply(mlxr_request_in *r, int status, const char *content_type, mlxr_buf *body);
void mlxr_reply_text(mlxr_request_in *r, int status, const char *content_type, const char *text);
/* A stream. heartbeat: sent after silence (": \n\n"), or NULL. */
void mlxr_reply_begin(mlxr_request_in *r, int status, const char *content_type, const char *heartbeat);
/* A piece, sent as soon as the socket takes it. What a client does not read piles up to max_pile bytes: then it is cut off, as one that
 * left. */
void mlxr_reply_push(mlxr_request_in *r, const void *data, size_t n);
void mlxr_reply_end(mlxr_request_in *r);
bool mlxr_replied(const mlxr_request_in *r); /* begun or whole */

/* ---- without a socket, for tests and fuzzers ---- */

typedef struct mlxr_exchange {
    int status;
    char *content_type; /* "" without one */
    char *headers;      /* "name: value\n" each */
    char *body;         /* NUL-terminated beside its n_body bytes; a stream's pieces one after the other */
    size_t n_body;
} mlxr_exchange;
/* One request, with everything that comes behind the parsing of HTTP: gate, routes, handlers, `done`. headers: "Name: value" each, to a NULL; may
 * be NULL. Waits until the answer is whole. Any thread. Clear *out. */
mlxr_status mlxr_server_exchange(mlxr_exchange *out, mlxr_server *s, const char *method, const char *target,
                                 const char *const *headers, const void *body, size_t n_body,
                                 mlxr_error *err);
void mlxr_exchange_clear(mlxr_exchange *e);

#endif
