/* native_blobs: HEAD and POST /api/blobs/sha256:<hex>: files for a create, sent before it.
 *
 * The body goes to a file of <root>/partial as it comes, through SHA-256, on the server's own thread: nothing is held in memory, and
 * nothing there waits for a lock. The file is one of the store's temporary ones (".<hex>.<salt>.tmp", locked while it is written), so
 * that one whose process died is cleared away by gc, and it goes with its request when the client leaves. What is left, becoming a
 * blob, wants the store's lock and is a worker's. From then on a session of the store keeps it, until a create has made a model of
 * it or the grace period is over (shelf.h). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/sha256.h"
#include "serve/native_store.h"
#include "store/keep.h"

typedef struct upload {
    mlxr_serve *serve;
    bool refused; /* the gate will say so: nothing is kept */
    bool present; /* it is there already: what comes is thrown away */
    char digest[72];
    mlxr_sha256 sum;
    uint64_t n;
    char *path; /* NULL: there is no file (any more) */
    int fd;
    mlxr_status st; /* of what went wrong */
    mlxr_error err;
} upload;

bool mlxr_native_digest(char out[72], const char *text)
{
    size_t n = strlen(text);

    if (n != 71 || strncmp(text, "sha256", 6) != 0 || (text[6] != ':' && text[6] != '-')) return false;
    snprintf(out, 72, "sha256:%s", text + 7);
    for (char *p = out + 7; *p; p++)
        if (*p >= 'A' && *p <= 'F') *p = (char)(*p - 'A' + 'a');
    return mlxr_digest_valid(out);
}

/* Whether the file is there, by its size alone where that is known. */
static bool is_present(const mlxr_store *store, const char *digest)
{
    char *path = mlxr_store_blob_path(store, digest);
    struct stat sb;
    mlxr_blob_state state = MLXR_BLOB_ABSENT;

    if (path && stat(path, &sb) == 0 && S_ISREG(sb.st_mode))
        state = mlxr_blob_look(store, digest, (uint64_t)sb.st_size);
    free(path);
    return state == MLXR_BLOB_WHOLE || state == MLXR_BLOB_LINK;
}

static void free_upload(void *data)
{
    upload *u = data;

    if (!u) return;
    if (u->path) (void)mlxr_io_unlink(&u->serve->store->io, u->path, NULL);
    if (u->fd >= 0) close(u->fd); /* and its lock with it */
    free(u->path);
    free(u);
}

static mlxr_status open_file(upload *u, mlxr_error *err)
{
    mlxr_store *store = u->serve->store;
    char *dir = mlxr_store_path(store, "partial");
    mlxr_status st = dir ? mlxr_io_make_dirs(&store->io, dir, err) : mlxr_fail_nomem(err, "store");

    for (unsigned i = 0; st == MLXR_OK && u->fd < 0; i++) {
        mlxr_buf salt = {0};
        struct stat there;
        mlxr_put_random_hex(&salt, 16);
        free(u->path);
        u->path = salt.failed ? NULL : mlxr_store_path(store, "partial/.%s.%s.tmp", u->digest + 7, salt.data);
        mlxr_buf_clear(&salt);
        if (!u->path) {
            st = mlxr_fail_nomem(err, "store");
            break;
        }
        st = mlxr_io_create(&u->fd, &store->io, u->path, true, err);
        if (st != MLXR_OK) {
            free(u->path);
            u->path = NULL;
            break;
        }
        /* Between the two a gc may have taken it for a dead process's. */
        if (flock(u->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK && i < 100) {
            close(u->fd);
            u->fd = -1;
        } else if (lstat(u->path, &there) != 0 && i < 100) {
            close(u->fd);
            u->fd = -1;
        }
    }
    free(dir);
    return st;
}

/* The request's upload, begun with its first piece. NULL: out of memory. */
static upload *get_upload(mlxr_request_in *http, mlxr_serve *s)
{
    upload *u = mlxr_request_data(http);

    if (u || !(u = calloc(1, sizeof *u))) return u;
    u->serve = s;
    u->fd = -1;
    mlxr_request_set_data(http, u, free_upload);
    if (mlxr_gate_look(http, &s->options.gate, s->host_name) != MLXR_GATE_PASS) {
        u->refused = true;
    } else if (!mlxr_native_digest(u->digest, mlxr_request_tail(http))) {
        u->st = mlxr_fail(&u->err, MLXR_E_INVALID_ARGUMENT, "invalid digest format");
    } else if (!s->store) {
        u->st = mlxr_fail(&u->err, MLXR_E_UNSUPPORTED, "there is no store");
    } else if (is_present(s->store, u->digest)) {
        u->present = true;
    } else {
        mlxr_sha256_init(&u->sum);
        u->st = open_file(u, &u->err);
    }
    return u;
}

mlxr_status mlxr_native_blob_body(mlxr_request_in *http, void *ud, const void *data, size_t n,
                                  mlxr_error *err)
{
    upload *u = get_upload(http, ud);

    if (!u) return mlxr_fail_nomem(err, "upload");
    if (u->refused || u->present) return MLXR_OK;
    if (u->st == MLXR_OK) {
        mlxr_sha256_update(&u->sum, data, n);
        u->n += n;
        u->st = mlxr_io_write(&u->serve->store->io, u->fd, u->path, data, n, -1, &u->err);
    }
    if (u->st != MLXR_OK && err) *err = u->err;
    return u->st;
}

/* ---- answers ---- */

/* The bytes are those that were announced: they become the blob. */
static mlxr_status commit(upload *u, mlxr_error *err)
{
    mlxr_serve *s = u->serve;
    mlxr_session *session = NULL;
    mlxr_status st;

    /* Its session holds nothing of it before the commit; the file is kept by its lock until then. */
    if ((st = mlxr_session_begin(&session, s->store, err)) != MLXR_OK) return st;
    if ((st = mlxr_session_commit(session, u->path, u->digest, u->n, false, err)) == MLXR_OK) {
        free(u->path);
        u->path = NULL;
        mlxr_shelf_keep(s->shelf, u->digest, session);
        session = NULL;
    }
    mlxr_session_end(session);
    return st;
}

/* What is there may not go before a create names it. */
static void keep_present(mlxr_serve *s, const char *digest)
{
    mlxr_session *session = NULL;
    bool present;

    if (mlxr_session_begin(&session, s->store, NULL) != MLXR_OK) return;
    if (mlxr_session_want(session, digest, 0, &present, NULL) == MLXR_OK)
        mlxr_shelf_keep(s->shelf, digest, session);
    else
        mlxr_session_end(session);
}

static void post(mlxr_serve *s, mlxr_request_in *http)
{
    upload *u = get_upload(http, s); /* an empty body had no first piece */
    mlxr_buf none = {0};
    char hex[65];

    if (!u) {
        mlxr_native_fail(http, 503, "out of memory");
        return;
    }
    if (u->st == MLXR_OK && u->present) {
        keep_present(s, u->digest);
        mlxr_reply(http, 200, NULL, &none);
        return;
    }
    if (u->st == MLXR_OK) {
        mlxr_sha256_final(hex, &u->sum);
        if (strcmp(hex, u->digest + 7) != 0)
            u->st = mlxr_fail(&u->err, MLXR_E_INVALID_ARGUMENT,
                              "digest mismatch, expected \"%s\", got \"sha256:%s\"", u->digest, hex);
    }
    if (u->st == MLXR_OK) u->st = commit(u, &u->err);
    if (u->st == MLXR_OK) {
        mlxr_reply(http, 201, NULL, &none);
        return;
    }
    if (u->path) { /* before the answer: who reads it finds nothing left over */
        (void)mlxr_io_unlink(&s->store->io, u->path, NULL);
        free(u->path);
        u->path = NULL;
    }
    mlxr_native_fail(http, mlxr_serve_http_status(u->st), u->err.message);
}

void mlxr_native_blob_post(mlxr_request_in *http, void *ud)
{
    mlxr_serve_post(ud, http, post);
}

static void head(mlxr_serve *s, mlxr_request_in *http)
{
    char digest[72];
    mlxr_buf none = {0};

    if (!mlxr_native_digest(digest, mlxr_request_tail(http))) {
        mlxr_native_fail(http, 400, "invalid digest format");
        return;
    }
    mlxr_reply(http, s->store && is_present(s->store, digest) ? 200 : 404, NULL, &none);
}

void mlxr_native_blob_head(mlxr_request_in *http, void *ud)
{
    mlxr_serve_post(ud, http, head);
}
