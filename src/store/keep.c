/* keep: what manifests and living sessions need, and clearing away what they do not. See keep.h. */
#include "store/keep.h"

#include <errno.h>
#include <stdlib.h>

static mlxr_status need(mlxr_strtab *table, mlxr_needed *n, const char *digest, unsigned by, mlxr_error *err)
{
    size_t had = mlxr_strtab_get(table, digest, strlen(digest));
    const char *key;

    if (had != SIZE_MAX && had <= by) return MLXR_OK; /* a manifest counts for more than a session */
    key = mlxr_arena_strndup(&n->arena, digest, strlen(digest));
    if (!key || !mlxr_strtab_put(table, key, strlen(key), by, NULL)) return mlxr_fail_nomem(err, "store");
    return MLXR_OK;
}

static mlxr_status need_manifest(mlxr_needed *n, const mlxr_manifest *m, mlxr_error *err)
{
    mlxr_status st = need(&n->manifests, n, m->digest, MLXR_NEEDED_MANIFEST, err);

    if (st == MLXR_OK) st = need(&n->digests, n, m->config.digest, MLXR_NEEDED_MANIFEST, err);
    for (size_t i = 0; st == MLXR_OK && i < m->n_layers; i++)
        st = need(&n->digests, n, m->layers[i].digest, MLXR_NEEDED_MANIFEST, err);
    return st;
}

/* ---- sessions ---- */

static mlxr_status need_noted(void *ud, const char *name, const char *path, mlxr_error *err)
{
    char digest[72] = "sha256:";

    if (!mlxr_hex_valid(name)) return MLXR_OK;
    memcpy(digest + 7, name, 65);
    return need(&((mlxr_needed *)ud)->digests, ud, digest, MLXR_NEEDED_SESSION, err);
}

struct sweep {
    mlxr_needed *needed;
    mlxr_store *store;
};

/* With <root>/lock held alone nobody is between making a session's folder and locking it: a folder whose lock is free or absent is of a
 * dead process, or of one that is removing it itself. */
static mlxr_status look_at_session(void *ud, const char *name, const char *path, mlxr_error *err)
{
    const struct sweep *sweep = ud;
    char *lock_path = mlxr_path_join(path, "lock");
    struct stat sb;
    int lock = -1;
    mlxr_status st;

    if (!lock_path) return mlxr_fail_nomem(err, "store");
    if (lstat(path, &sb) != 0 || !S_ISDIR(sb.st_mode)) {
        free(lock_path);
        return MLXR_OK;
    }
    /* Made when absent: so a lock that is lost is no session's, but one that cannot be looked at may be. */
    st = mlxr_io_lock(&lock, &sweep->store->io, lock_path, true, false, NULL, err);
    free(lock_path);
    if (st == MLXR_E_NOT_FOUND) return MLXR_OK; /* it just went */
    if (st == MLXR_E_NOMEM) return st;
    if (st != MLXR_OK) return mlxr_dir_each(path, need_noted, sweep->needed, err);
    if (mlxr_io_remove_tree(&sweep->store->io, path, err) != MLXR_OK)
        mlxr_log_at(&sweep->store->log, MLXR_LOG_WARN, "%s is of a dead process and cannot be removed", path);
    mlxr_io_unlock(lock);
    return MLXR_OK;
}

/* ---- all of it ---- */

mlxr_status mlxr_needed_read(mlxr_needed *out, mlxr_store *store, mlxr_error *err)
{
    struct sweep sweep = {out, store};
    char *sessions = mlxr_store_path(store, "sessions");
    mlxr_name *names = NULL;
    size_t n_names = 0;
    mlxr_status st;

    if (!sessions) return mlxr_fail_nomem(err, "store");
    if ((st = mlxr_names_read(&names, &n_names, store, err)) != MLXR_OK) goto done;
    for (size_t i = 0; i < n_names; i++) {
        mlxr_manifest m;
        mlxr_error why;
        st = mlxr_manifest_load(&m, store, &names[i], &why);
        if (st == MLXR_OK) {
            st = need_manifest(out, &m, err);
            mlxr_manifest_clear(&m);
        } else if (st == MLXR_E_NOMEM) {
            st = mlxr_fail(err, st, "%s", why.message);
        } else {
            if (!out->broken && !(out->broken = mlxr_strdup(why.message)))
                st = mlxr_fail_nomem(err, "store");
            else
                st = MLXR_OK;
        }
        if (st != MLXR_OK) goto done;
    }
    st = mlxr_dir_each(sessions, look_at_session, &sweep, err);
done:
    free(names);
    free(sessions);
    return st;
}

void mlxr_needed_clear(mlxr_needed *n)
{
    if (!n) return;
    mlxr_strtab_clear(&n->digests);
    mlxr_strtab_clear(&n->manifests);
    mlxr_arena_clear(&n->arena);
    free(n->broken);
    *n = (mlxr_needed){0};
}

unsigned mlxr_needed_by(const mlxr_needed *n, const char *digest)
{
    size_t by = mlxr_strtab_get(&n->digests, digest, strlen(digest));
    return by == SIZE_MAX ? 0 : (unsigned)by;
}

/* ---- removing ---- */

static mlxr_status drop(mlxr_store *store, const mlxr_manifest *m, const mlxr_needed *needed, uint64_t *freed,
                        mlxr_error *err)
{
    mlxr_status st = MLXR_OK;
    char *path;

    if (needed->broken)
        return mlxr_fail(err, MLXR_E_CORRUPT,
                         "what no other model needs is kept, since that is not known of %s", needed->broken);
    if (mlxr_strtab_get(&needed->manifests, m->digest, strlen(m->digest)) != SIZE_MAX) return MLXR_OK;
    /* Before the blobs, see mlxr_view_remove. */
    if ((st = mlxr_view_remove(store, m->digest + 7, err)) != MLXR_OK) return st;
    for (size_t i = 0; i <= m->n_layers; i++) {
        const mlxr_layer *l = i < m->n_layers ? &m->layers[i] : &m->config;
        if (mlxr_needed_by(needed, l->digest)) continue;
        if ((st = mlxr_blob_remove(store, l->digest + 7, freed, err)) != MLXR_OK) return st;
    }
    path = mlxr_store_path(store, "origins/%s", m->digest + 7);
    st = path ? mlxr_io_unlink(&store->io, path, err) : mlxr_fail_nomem(err, "store");
    free(path);
    return st;
}

void mlxr_store_drop(mlxr_store *store, const mlxr_manifest *m, uint64_t *freed)
{
    mlxr_needed needed = {0};
    mlxr_error err;
    mlxr_status st = mlxr_needed_read(&needed, store, &err);

    if (st == MLXR_OK) st = drop(store, m, &needed, freed, &err);
    if (st != MLXR_OK)
        mlxr_log_at(&store->log, MLXR_LOG_WARN, "store: not all of it is cleared away: %s", err.message);
    mlxr_needed_clear(&needed);
}
