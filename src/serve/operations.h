/* operations: what those who run the server do with it: logs, metrics, keys that change, models loaded ahead. */
#ifndef MLXR_SERVE_OPERATIONS_H
#define MLXR_SERVE_OPERATIONS_H

#include "serve/gate.h"
#include "serve/server.h"

typedef struct mlxr_serve mlxr_serve;

/* Opens log and metrics, for mlxr_serve_open before all else: what s->log and s->options.log say goes to the log as well from then on. */
mlxr_status mlxr_operations_open(mlxr_serve *s, mlxr_error *err);
void mlxr_operations_close(mlxr_serve *s); /* the last of all */
/* mlxr_server_options.done, ud is the mlxr_serve. */
void mlxr_operations_done(mlxr_request_in *r, int status, uint64_t n_sent, uint64_t duration_ns,
                          bool complete, void *ud);

/* From now on these keys count; they are borrowed until mlxr_serve_close, as are those before. Any thread. */
void mlxr_serve_set_keys(mlxr_serve *s, const mlxr_gate_keys *keys);
/* The log's file is opened anew. Any thread. */
void mlxr_serve_reopen(mlxr_serve *s);
/* Loads a model ahead, which stays until it is unloaded by name or evicted. Returns at once; a load that fails is told in the log. */
mlxr_status mlxr_serve_preload(mlxr_serve *s, const char *name, mlxr_error *err);

#endif
