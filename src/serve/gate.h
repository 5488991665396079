/* gate: who may speak to the server. Against pages of the web that reach for a server on the user's machine: the Host header has to be
 * this machine (DNS rebinding), the Origin has to be a local page or an app. Against others on the network: a key. */
#ifndef MLXR_SERVE_GATE_H
#define MLXR_SERVE_GATE_H

#include "serve/server.h"

typedef struct mlxr_gate_keys {
    const char *const *keys;
    size_t n;
} mlxr_gate_keys;

typedef struct mlxr_gate_options {
    bool check_host;            /* the server listens on loopback */
    const char *const *origins; /* allowed besides; "*" in them stands for any text */
    size_t n_origins;
    const char *const *keys; /* one of them as Bearer or x-api-key; none: nobody needs one */
    size_t n_keys;
    const mlxr_gate_keys *
        current; /* in their place when not NULL; may be changed while it is looked at (mlxr_serve_set_keys) */
} mlxr_gate_options;

typedef enum mlxr_gate_verdict {
    MLXR_GATE_PASS,
    MLXR_GATE_HOST,
    MLXR_GATE_ORIGIN,
    MLXR_GATE_KEY
} mlxr_gate_verdict;

/* host: of the Host header, or NULL; own: the machine's name. */
bool mlxr_gate_host_ok(const char *host, const char *own);
bool mlxr_gate_origin_ok(const char *origin, const mlxr_gate_options *options);
/* Whether a key of the list was given; compares in constant time. */
bool mlxr_gate_key_ok(const char *authorization, const char *x_api_key, const mlxr_gate_options *options);
mlxr_gate_verdict mlxr_gate_look(const mlxr_request_in *r, const mlxr_gate_options *options, const char *own);
/* Whether a path needs no key when the others do. */
bool mlxr_gate_is_open(const char *path);
/* CORS headers for an Origin that may; and the whole answer to a preflight (OPTIONS): true when it was one. */
void mlxr_gate_headers(mlxr_request_in *r);
bool mlxr_gate_preflight(mlxr_request_in *r);

#endif
