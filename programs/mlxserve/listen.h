/* listen: where the daemon listens, what the world may know of it: the address, the keys, the note in the store. */
#ifndef MLXSERVE_LISTEN_H
#define MLXSERVE_LISTEN_H

#include "serve/serve.h"
#include "settings.h"

struct listen_address {
    char *host; /* as mlxr_server_options has it: a name, an address, "unix:PATH", "fd:3" */
    uint16_t port;
    bool loopback;
};
/* From settings.host and settings.port, whichever says it with more right; a socket that the service manager opened comes first. */
mlxr_status listen_address_read(struct listen_address *out, const struct settings *s, mlxr_error *err);
void listen_address_clear(struct listen_address *a);
/* "http://127.0.0.1:11434", where a client on this machine finds it. free it; NULL: out of memory. */
char *listen_url(const mlxr_server *server, const struct settings *s);
/* Who listens there already, if it answers as a daemon: appended to err. */
void listen_tell_other(const struct listen_address *a, mlxr_error *err);

/* Keys of a file. What was read before stays valid until clear: requests may be looking at it. */
struct listen_keys {
    struct listen_key_list *lists; /* the newest first */
};
mlxr_status listen_keys_read(struct listen_keys *k, const char *path, mlxr_error *err);
const mlxr_gate_keys *listen_keys_get(const struct listen_keys *k);
void listen_keys_clear(struct listen_keys *k);

/* <store>/daemon.json, held with a lock as docs/daemon.md says. */
struct listen_note {
    char *path;
    int lock, file; /* -1: none */
};
/* MLXR_E_BUSY: another daemon holds it; err names it. */
mlxr_status listen_note_open(struct listen_note *n, const char *store, const char *url, mlxr_error *err);
void listen_note_close(struct listen_note *n);

/* Tells the service manager (NOTIFY_SOCKET), if there is one: "READY=1". */
void listen_notify(const char *state);

#endif
