/* serve: the daemon as a whole: a store and its models, a server, and what the parts share. */
#ifndef MLXR_SERVE_SERVE_H
#define MLXR_SERVE_SERVE_H

#include "serve/endpoint.h"
#include "serve/gate.h"
#include "serve/journal.h"
#include "serve/metrics.h"
#include "serve/openapi.h"
#include "serve/operations.h"
#include "serve/put.h"
#include "serve/residency.h"
#include "serve/served.h"
#include "serve/server.h"
#include "serve/turn.h"
#include "serve/workers.h"

/* Fill it with mlxr_serve_options_default first. Strings and lists are borrowed until mlxr_serve_close. */
typedef struct mlxr_serve_options {
    mlxr_server_options server; /* host, port, TLS, limits; routes and hooks are serve's own */
    mlxr_gate_options gate;     /* check_host is set from where it listens */
    mlxr_residency_options residency;
    mlxr_engine_options engine; /* of every model; context_length 0: the model's own */
    mlxr_store_options store;
    mlxr_remote_options remote; /* of pull and push */
    const char *store_root;     /* NULL: there is no store */
    const char *model_paths;    /* a model-paths JSON whose ids are names too; NULL: none */
    const char *folder;         /* every name is the model in this folder (mlxctl replay); NULL: not so */
    const char *home;           /* for "~" in it; NULL: not expanded */
    const char *journal;        /* path, "-", or NULL */
    bool journal_bodies, journal_for_people;
    mlxr_log_level journal_level;
    bool mock; /* every name is a model, the mock adapter's */
    uint32_t mock_token_ms;
    bool strict;        /* unknown fields are refused, not only warned of */
    size_t max_workers; /* default 64 */
    mlxr_log log;
} mlxr_serve_options;
mlxr_serve_options mlxr_serve_options_default(void);

struct mlxr_serve {
    mlxr_serve_options options;
    mlxr_server *server;
    mlxr_workers *workers;
    mlxr_residency *residency;
    mlxr_store *store;        /* NULL: none */
    struct mlxr_shelf *shelf; /* what is kept in mind of it: shelf.h */
    mlxr_metrics *metrics;
    mlxr_journal *journal; /* NULL: none */
    mlxr_openapi_text *openapi;
    bool mock, strict;       /* of options */
    mlxr_log log, outer_log; /* to the journal too; what options had */
    mlxr_route *routes;
    mlxr_turn_route *turn_routes;
    uint64_t start_ns;
    int64_t start_seconds; /* since 1970 */
    volatile int ending;   /* set when it drains: jobs that look at it stop */
    char host_name[256];
};

/* Everything is set up, then it listens. */
mlxr_status mlxr_serve_open(mlxr_serve **out, const mlxr_serve_options *options, mlxr_error *err);
/* No new connections; answers that run have wait_ms to end. true: all did. */
bool mlxr_serve_drain(mlxr_serve *s, uint32_t wait_ms);
void mlxr_serve_close(mlxr_serve *s);

/* A model's name as asked for to what is loaded, by the name as it is shown ("smol:latest" for "SMOL"). Texts are in arena. MLXR_E_NOT_FOUND: no such model; MLXR_E_INVALID_ARGUMENT: no name. */
mlxr_status mlxr_serve_resolve(mlxr_resident_key *out, mlxr_serve *s, mlxr_arena *arena, const char *name,
                               mlxr_error *err);
/* The HTTP status of a failure. */
int mlxr_serve_http_status(mlxr_status st);

/* Runs fn on a worker with the request held; without a worker the request is answered with 503 in the way of its API. */
void mlxr_serve_post(mlxr_serve *s, mlxr_request_in *http, void (*fn)(mlxr_serve *s, mlxr_request_in *http));
/* 200 with a JSON body, which is taken; 503 when it is out of memory. */
void mlxr_serve_answer(mlxr_request_in *http, mlxr_buf *json);

#endif
