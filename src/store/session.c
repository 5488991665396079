/* session: what one call adds, kept from being removed until its manifest is there. store.h draws it. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#ifdef __APPLE__
#include <sys/random.h>
#endif

#include "store/keep.h"

enum { N_TRIES = 100 };

struct mlxr_session {
    mlxr_store *store;
    char *dir;
    int lock; /* of dir/lock, as long as the session lives */
    atomic_uint n_temps;
    mlxr_store_pace *pace; /* borrowed, or NULL */
};

/* A folder of its own with its lock held; <root>/lock is held shared, so that nobody takes it for a dead one in between. */
static mlxr_status make_session_dir(mlxr_session *s, mlxr_error *err)
{
    mlxr_store *store = s->store;

    for (unsigned i = 0; i < N_TRIES; i++) {
        uint64_t id = 0;
        char *lock;
        mlxr_status st;

        if (getentropy(&id, sizeof id) != 0) id = mlxr_now_ns() ^ (uintptr_t)s ^ i;
        free(s->dir);
        s->dir = mlxr_store_path(store, "sessions/%ld-%016llx", (long)getpid(), (unsigned long long)id);
        lock = s->dir ? mlxr_path_join(s->dir, "lock") : NULL;
        if (!lock) return mlxr_fail_nomem(err, "store");
        st = mlxr_io_make_dirs(&store->io, s->dir, err);
        if (st == MLXR_OK) st = mlxr_io_lock(&s->lock, &store->io, lock, true, false, NULL, err);
        free(lock);
        if (st != MLXR_E_BUSY) return st;
    }
    return mlxr_io_fail(err, s->dir, "make the folder", EEXIST);
}

mlxr_status mlxr_session_begin(mlxr_session **out, mlxr_store *store, mlxr_error *err)
{
    mlxr_session *s = calloc(1, sizeof *s);
    char *blobs = mlxr_store_path(store, "blobs/sha256"), *sessions = mlxr_store_path(store, "sessions");
    int lock = -1;
    mlxr_status st;

    *out = NULL;
    if (!s || !blobs || !sessions) {
        st = mlxr_fail_nomem(err, "store");
        goto done;
    }
    s->store = store;
    s->lock = -1;
    if ((st = mlxr_io_make_dirs(&store->io, blobs, err)) != MLXR_OK) goto done;
    if ((st = mlxr_io_make_dirs(&store->io, sessions, err)) != MLXR_OK) goto done;
    if ((st = mlxr_store_lock(&lock, store, false, NULL, err)) != MLXR_OK) goto done;
    if ((st = make_session_dir(s, err)) != MLXR_OK) goto done;
    *out = s;
    s = NULL;
done:
    if (s && s->dir) {
        mlxr_session_end(s);
        s = NULL;
    }
    mlxr_io_unlock(lock);
    free(blobs);
    free(sessions);
    free(s);
    return st;
}

void mlxr_session_end(mlxr_session *s)
{
    mlxr_error err;

    if (!s) return;
    if (mlxr_io_remove_tree(&s->store->io, s->dir, &err) != MLXR_OK)
        mlxr_log_at(&s->store->log, MLXR_LOG_WARN, "%s", err.message);
    mlxr_io_unlock(s->lock);
    free(s->dir);
    free(s);
}

const char *mlxr_session_dir(const mlxr_session *s)
{
    return s->dir;
}

mlxr_store *mlxr_session_store(const mlxr_session *s)
{
    return s->store;
}

char *mlxr_session_temp(mlxr_session *s)
{
    return mlxr_asprintf("%s/t%u", s->dir, atomic_fetch_add(&s->n_temps, 1));
}

void mlxr_session_set_pace(mlxr_session *s, mlxr_store_pace *pace)
{
    s->pace = pace;
}

mlxr_store_pace *mlxr_session_pace(const mlxr_session *s)
{
    return s->pace;
}

mlxr_status mlxr_session_note(mlxr_session *s, const char *digest, mlxr_error *err)
{
    char *path = mlxr_path_join(s->dir, digest + 7);
    mlxr_status st = MLXR_OK;
    int fd = -1;

    if (!path) return mlxr_fail_nomem(err, "store");
    if (access(path, F_OK) != 0) st = mlxr_io_create(&fd, &s->store->io, path, false, err);
    if (fd >= 0) close(fd);
    free(path);
    return st;
}

mlxr_status mlxr_session_want(mlxr_session *s, const char *digest, uint64_t size, bool *present,
                              mlxr_error *err)
{
    mlxr_blob_state state = MLXR_BLOB_ABSENT;
    mlxr_status st;
    int lock;

    *present = false;
    if (!mlxr_digest_valid(digest))
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "store: \"%.100s\" is no digest", digest);
    if ((st = mlxr_store_lock(&lock, s->store, false, NULL, err)) != MLXR_OK) return st;
    st = mlxr_session_note(s, digest, err);
    if (st == MLXR_OK) st = mlxr_blob_state_of(&state, s->store, digest, size, err);
    mlxr_io_unlock(lock);
    *present = state == MLXR_BLOB_WHOLE || state == MLXR_BLOB_LINK;
    return st;
}

/* ---- naming ---- */

static mlxr_status check_blobs(const mlxr_store *store, const mlxr_manifest *m, mlxr_error *err)
{
    for (size_t i = 0; i <= m->n_layers; i++) {
        const mlxr_layer *l = i < m->n_layers ? &m->layers[i] : &m->config;
        mlxr_blob_state state;
        mlxr_status st = mlxr_blob_state_of(&state, store, l->digest, l->size, err);
        if (st != MLXR_OK) return st;
        if (state != MLXR_BLOB_WHOLE && state != MLXR_BLOB_LINK)
            return mlxr_fail(err, MLXR_E_INTERNAL, "store: %s (%s) is to be named before it is there",
                             l->path ? l->path : "the config", l->digest);
    }
    return MLXR_OK;
}

/* The folders from the manifest's up to the root, and the blobs': after this a loss of power takes none of their entries, also not those
 * that other processes have made and not synced yet. */
static mlxr_status sync_blobs(const mlxr_store *store, mlxr_error *err)
{
    static const char *const dirs[] = {"blobs/sha256", "blobs", ""};
    mlxr_status st = MLXR_OK;

    for (size_t i = 0; i < MLXR_COUNT(dirs) && st == MLXR_OK; i++) {
        char *dir = mlxr_store_path(store, "%s", dirs[i]);
        st = dir ? mlxr_io_sync_dir(&store->io, dir, err) : mlxr_fail_nomem(err, "store");
        free(dir);
    }
    return st;
}

static mlxr_status sync_upwards(const mlxr_store *store, const char *path, mlxr_error *err)
{
    size_t n_root = strlen(store->root);
    char *at = mlxr_strdup(path), *slash;
    mlxr_status st = MLXR_OK;

    if (!at) return mlxr_fail_nomem(err, "store");
    while (st == MLXR_OK && (slash = strrchr(at, '/')) != NULL && (size_t)(slash - at) >= n_root) {
        *slash = '\0';
        if (*at) st = mlxr_io_sync_dir(&store->io, at, err);
    }
    free(at);
    return st;
}

static mlxr_status write_temp(mlxr_session *s, const char *path, const void *data, size_t n, mlxr_error *err)
{
    const mlxr_io *io = &s->store->io;
    mlxr_status st;
    int fd;

    if ((st = mlxr_io_create(&fd, io, path, true, err)) != MLXR_OK) return st;
    st = mlxr_io_write(io, fd, path, data, n, -1, err);
    if (st == MLXR_OK) st = mlxr_io_sync(io, fd, path, err);
    close(fd);
    return st;
}

mlxr_status mlxr_session_name(mlxr_session *s, const mlxr_name *name, const mlxr_manifest *m, mlxr_error *err)
{
    mlxr_store *store = s->store;
    mlxr_name spelled;
    mlxr_manifest old = {0};
    char *path = NULL, *dir = NULL, *temp = mlxr_session_temp(s);
    uint64_t freed = 0;
    int lock = -1;
    mlxr_status st;

    if (!temp) return mlxr_fail_nomem(err, "store");
    if ((st = mlxr_store_lock(&lock, store, true, NULL, err)) != MLXR_OK) goto done;
    if ((st = check_blobs(store, m, err)) != MLXR_OK) goto done;
    if ((st = mlxr_name_spelling(&spelled, store, name, err)) != MLXR_OK) goto done;
    path = mlxr_manifest_path(store, &spelled);
    dir = path ? mlxr_path_dirname(path) : NULL;
    if (!dir) {
        st = mlxr_fail_nomem(err, "store");
        goto done;
    }
    /* A broken one, or none, leaves nothing to clear away. */
    if (mlxr_manifest_load(&old, store, &spelled, err) == MLXR_E_NOMEM) {
        st = MLXR_E_NOMEM;
        goto done;
    }
    if ((st = write_temp(s, temp, m->text, m->n_text, err)) != MLXR_OK) goto done;
    if ((st = sync_blobs(store, err)) != MLXR_OK) goto done;
    if ((st = mlxr_io_make_dirs(&store->io, dir, err)) != MLXR_OK) goto done;
    if (mlxr_path_is_dir(path) && (st = mlxr_io_remove_tree(&store->io, path, err)) != MLXR_OK) goto done;
    if ((st = mlxr_manifest_remember(store, &spelled, m->digest, old.digest, err)) != MLXR_OK) goto done;
    if ((st = mlxr_io_rename(&store->io, temp, path, err)) != MLXR_OK) goto done;
    if ((st = sync_upwards(store, path, err)) != MLXR_OK) goto done;
    mlxr_view_make(store, m);
    if (old.n_text && strcmp(old.digest, m->digest) != 0) mlxr_store_drop(store, &old, &freed);
done:
    mlxr_io_unlock(lock);
    mlxr_manifest_clear(&old);
    free(path);
    free(dir);
    free(temp);
    return st;
}
