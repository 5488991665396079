/* http: requests over libcurl, as pull, push and the daemon's client need them: headers, redirects, retries with growing pauses,
 * bodies streamed in and out, cancelling. TLS is checked unless the client says otherwise; proxies are taken from the environment as
 * curl does (https_proxy, no_proxy ...).
 *
 * A client holds what is common (retries, user agent) and keeps connections; one thread uses it at a time: threads take one each. */
#ifndef MLXR_STORE_HTTP_H
#define MLXR_STORE_HTTP_H

#include "base/base.h"

typedef struct mlxr_http_options {
    bool insecure;    /* TLS certificates are not checked */
    uint32_t n_tries; /* 1: no retries */
    /* before the second try; doubled each time up to 30 s, with up to a quarter at random more */
    uint32_t first_pause_ms;
    uint32_t connect_ms;
    /* nothing coming or going for so long ends a try; after an upload longer, since the kernel may still be sending */
    uint32_t stall_seconds;
    const volatile int *cancel; /* or NULL */
    mlxr_log log;               /* each retry */
} mlxr_http_options;
mlxr_http_options mlxr_http_options_default(void);

typedef struct mlxr_http mlxr_http;
mlxr_status mlxr_http_create(mlxr_http **out, const mlxr_http_options *options, mlxr_error *err);
void mlxr_http_free(mlxr_http *http);

/* What a header line says, by name without regard to case; borrowed. NULL when absent. */
typedef struct mlxr_http_headers {
    char **names, **values;
    size_t n;
} mlxr_http_headers;
const char *mlxr_http_header(const mlxr_http_headers *h, const char *name);

typedef struct mlxr_http_request {
    const char *method;         /* NULL: GET */
    const char *url;            /* http or https; on Unix sockets with `socket` */
    const char *socket;         /* path of a Unix socket, or NULL */
    const char *const *headers; /* "Name: value" */
    size_t n_headers;
    const char *
        authorization; /* "Bearer ...", sent to the url's host alone, never where a redirect leads to another */
    /* The body: n_body bytes at `body`; or, with read, n_body bytes that read brings: up to n bytes at offset into buffer, which
     * it may be asked for again from any offset when a try is repeated. */
    const void *body;
    uint64_t n_body;
    mlxr_status (*read)(void *ud, void *buffer, size_t n, uint64_t offset, size_t *n_read, mlxr_error *err);
    void *read_ud;
    /* What comes: each piece of a 2xx body to write (on_start before the first of each try, also of an empty one); failing in either
     * ends the request with that status and message. A try that broke off after bytes were written is repeated only with resume, which
     * returns the offset (in the file, so range_begin or more) to go on from, or false: Range and If-Range are then sent, and an answer
     * of another range or of another ETag is MLXR_E_NETWORK. range_begin: from the start, as if nothing had come. */
    mlxr_status (*on_start)(void *ud, int status, const mlxr_http_headers *headers,
                            mlxr_error *err);                                    /* or NULL */
    mlxr_status (*write)(void *ud, const void *data, size_t n, mlxr_error *err); /* NULL: to answer.body */
    bool (*resume)(void *ud, uint64_t *offset);                                  /* or NULL */
    void *write_ud;
    uint64_t range_begin, range_end; /* Range: bytes=begin-(end - 1); end 0: without a Range */
    size_t max_body;                 /* of answer.body; 0: 16 MiB. Longer: MLXR_E_LIMIT */
    bool no_redirects;               /* a 3xx is the answer */
    bool no_retries;
    bool no_proxy; /* also where the environment names one */
    bool no_stall; /* an answer may take as long as it likes to begin and go on (a daemon that thinks) */
} mlxr_http_request;

typedef struct mlxr_http_answer {
    int status;                /* of the last answer; 0: there was none */
    mlxr_http_headers headers; /* of the last answer */
    mlxr_buf body; /* what was not written: without write the body, else that of an answer that was not 2xx */
    char *url;     /* where it came from after redirects; there already in on_start */
    uint64_t n_received; /* bytes of bodies, of all tries */
} mlxr_http_answer;

/* Any complete answer is MLXR_OK: the caller looks at status. Tried again: no connection, one that breaks or stalls, 408, 425, 429, 500, 502, 503,
 * 504 (after Retry-After where it is given, at most 60 s). What remains after the last try is MLXR_E_NETWORK with url (without its
 * query), curl's text and the number of tries. Clear *out in either case; init to {0}. */
mlxr_status mlxr_http_do(mlxr_http_answer *out, mlxr_http *http, const mlxr_http_request *request,
                         mlxr_error *err);
void mlxr_http_answer_clear(mlxr_http_answer *a);
/* The status as a failure: 401, 403 MLXR_E_DENIED; 404, 410 MLXR_E_NOT_FOUND; else MLXR_E_NETWORK, with the url and what the body says: the text
 * of {"error"}, {"errors": [{"message"}]}, or its first line. */
mlxr_status mlxr_http_status_fail(const mlxr_http_answer *a, const char *what, mlxr_error *err);

/* Appends text with everything but letters, digits and "-._~" (and "/" when keep_slash) percent-encoded. */
void mlxr_url_encode(mlxr_buf *out, const char *text, bool keep_slash);
/* Whether scheme, host and port are the same. */
bool mlxr_url_same_origin(const char *a, const char *b);
/* Whether an url's host is this machine: localhost, 127.x.x.x, [::1]. */
bool mlxr_url_is_loopback(const char *url);

#endif
