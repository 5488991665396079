/* daemon: a running mlxserve, or what else speaks Ollama's native API: where it is, and requests to it.
 *
 * Who serves a store says so in <store>/daemon.json, {"url": "http://127.0.0.1:11434", "pid": N, "version": "..."}, and holds an
 * exclusive flock on that file while it lives: a file without the lock was left by a dead one and is passed over. */
#ifndef MLXR_DAEMON_H
#define MLXR_DAEMON_H

#include "base/json.h"
#include "cli.h"

struct daemon_address {
    char *url;        /* "http://127.0.0.1:11434", without a "/" at its end; NULL: there is no daemon */
    char *socket;     /* path of a Unix socket, or NULL */
    const char *from; /* "--host", the variable's name, "daemon.json" */
};

/* "URL", "HOST", "HOST:PORT", ":PORT", "unix:PATH", as Ollama takes them: without a scheme http and port 11434, with one its own
 * port; 0.0.0.0, :: and no host are loopback. */
mlxr_status daemon_address_parse(struct daemon_address *out, const char *text, mlxr_error *err);
/* --host (NULL: not given), MLXSERVE_HOST, OLLAMA_HOST; else nothing. */
mlxr_status daemon_address_given(struct daemon_address *out, const char *host, mlxr_error *err);
/* Of the daemon that serves the store; nothing when none lives. */
mlxr_status daemon_address_of_store(struct daemon_address *out, mlxr_error *err);
void daemon_address_clear(struct daemon_address *a);

/* Requests to one daemon, one at a time. With MLXSERVE_API_KEY that is sent as a bearer token. */
struct daemon;
/* Nothing is sent yet. address is copied; *cancel (may be NULL), once not 0, ends a request with MLXR_E_CANCELLED. */
mlxr_status daemon_open(struct daemon **out, const struct daemon_address *address, const volatile int *cancel,
                        mlxr_error *err);
void daemon_close(struct daemon *d);
/* For messages: "http://127.0.0.1:11434", "unix:PATH"; borrowed. */
const char *daemon_words(const struct daemon *d);

/* body NULL: GET, else POST. What is no 2xx fails with the text the daemon gives (404 MLXR_E_NOT_FOUND, 401 and 403
 * MLXR_E_DENIED, 400 MLXR_E_INVALID_ARGUMENT, 503 MLXR_E_BUSY, else MLXR_E_NETWORK). *out: json_decref it; may be NULL. */
mlxr_status daemon_call(json_t **out, struct daemon *d, const char *path, const json_t *body,
                        mlxr_error *err);
/* An answer that comes as one JSON object a line: each goes to on_object as it comes, which ends the request when it fails. An object
 * with "error" ends it as well, with that text. */
mlxr_status daemon_stream(struct daemon *d, const char *path, const json_t *body,
                          mlxr_status (*on_object)(void *ud, const json_t *object, mlxr_error *err), void *ud,
                          mlxr_error *err);

/* The daemon that --host, the environment or the store names, for commands that need one; without one MLXR_E_NOT_FOUND. */
mlxr_status daemon_open_any(struct daemon **out, const char *host, const volatile int *cancel,
                            mlxr_error *err);
#define DAEMON_HOST_HELP \
    "the daemon to ask (default: MLXSERVE_HOST, OLLAMA_HOST, else the one that serves the store)"

#endif
