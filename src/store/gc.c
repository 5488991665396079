/* gc: taking names away, giving second ones, and removing what no model needs. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "store/keep.h"

/* ---- remove ---- */

/* By its digest a model may have several names: which of them goes is not for us to choose. */
static mlxr_status check_one_name(mlxr_store *store, const char *text, const mlxr_name *name, mlxr_error *err)
{
    mlxr_manifest m = {0};
    mlxr_catalog c = {0};
    mlxr_buf names = {0};
    size_t n = 0;
    mlxr_status st;

    if ((st = mlxr_catalog_read(&c, store, err)) != MLXR_OK) return st;
    if ((st = mlxr_manifest_load(&m, store, name, err)) != MLXR_OK) goto done;
    for (size_t i = 0; i < c.n; i++) {
        if (strcmp(c.items[i].manifest.digest, m.digest) != 0) continue;
        if (n++) mlxr_buf_str(&names, ", ");
        mlxr_name_display(&names, &c.items[i].name);
    }
    if ((st = mlxr_buf_check(&names, "store", err)) != MLXR_OK) goto done;
    if (n > 1)
        st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "store %s: \"%s\" has several names: %s; say which",
                       store->root, text, names.data);
done:
    mlxr_buf_clear(&names);
    mlxr_manifest_clear(&m);
    mlxr_catalog_clear(&c);
    return st;
}

/* The folders of a name, as far as nothing else is in them. */
static void remove_empty_dirs(const mlxr_store *store, const char *path)
{
    char *at = mlxr_strdup(path), *slash;

    for (int i = 0; at && i < 3 && (slash = strrchr(at, '/')) != NULL; i++) {
        *slash = '\0';
        if (mlxr_io_remove_dir(&store->io, at, NULL) != MLXR_OK) break;
    }
    free(at);
}

mlxr_status mlxr_store_remove(mlxr_store *store, const char *name, uint64_t *out_freed, mlxr_error *err)
{
    char *path = NULL, *dir = NULL;
    mlxr_manifest m = {0};
    mlxr_name spelled;
    uint64_t freed = 0;
    int lock = -1;
    mlxr_status st;

    if (out_freed) *out_freed = 0;
    /* Before the lock, which would make a file in a store that is not there. */
    if ((st = mlxr_store_resolve(&spelled, store, name, err)) != MLXR_OK) return st;
    if ((st = mlxr_store_lock(&lock, store, true, NULL, err)) != MLXR_OK) goto done;
    if ((st = mlxr_store_resolve(&spelled, store, name, err)) != MLXR_OK) goto done;
    if (strncasecmp(name, "sha256:", 7) == 0 && (st = check_one_name(store, name, &spelled, err)) != MLXR_OK)
        goto done;
    path = mlxr_manifest_path(store, &spelled);
    dir = path ? mlxr_path_dirname(path) : NULL;
    if (!dir) {
        st = mlxr_fail_nomem(err, "store");
        goto done;
    }
    /* One that cannot be read goes too; what it needed is then mlxr_store_gc's. */
    if (mlxr_manifest_load(&m, store, &spelled, err) == MLXR_E_NOMEM) {
        st = MLXR_E_NOMEM;
        goto done;
    }
    if ((st = mlxr_io_remove_tree(&store->io, path, err)) != MLXR_OK) goto done;
    if ((st = mlxr_io_sync_dir(&store->io, dir, err)) != MLXR_OK) goto done;
    remove_empty_dirs(store, path);
    mlxr_manifest_forget(store, &spelled);
    if (m.n_text) mlxr_store_drop(store, &m, &freed);
    if (out_freed) *out_freed = freed;
done:
    mlxr_io_unlock(lock);
    mlxr_manifest_clear(&m);
    free(path);
    free(dir);
    return st;
}

/* ---- copy ---- */

/* The model with all of its blobs written down for the session: with the lock held, so that nothing of it goes in between. */
static mlxr_status hold_model(mlxr_manifest *m, mlxr_session *s, const char *name, mlxr_error *err)
{
    mlxr_store *store = mlxr_session_store(s);
    mlxr_blob_state state;
    int lock;
    mlxr_status st;

    if ((st = mlxr_store_lock(&lock, store, false, NULL, err)) != MLXR_OK) return st;
    st = mlxr_store_find(m, NULL, store, name, err);
    for (size_t i = 0; st == MLXR_OK && i <= m->n_layers; i++) {
        const mlxr_layer *l = i < m->n_layers ? &m->layers[i] : &m->config;
        mlxr_buf trouble = {0};
        if ((st = mlxr_session_note(s, l->digest, err)) != MLXR_OK) break;
        if ((st = mlxr_blob_state_of(&state, store, l->digest, l->size, err)) != MLXR_OK) break;
        mlxr_blob_trouble(&trouble, store, l, state);
        if (trouble.len)
            st = mlxr_fail(err, MLXR_E_CORRUPT, "model %s: %s", name, trouble.data);
        else
            st = mlxr_buf_check(&trouble, "store", err);
        mlxr_buf_clear(&trouble);
    }
    mlxr_io_unlock(lock);
    return st;
}

mlxr_status mlxr_store_copy(mlxr_store *store, const char *from, const char *to, mlxr_error *err)
{
    mlxr_session *s = NULL;
    mlxr_manifest m = {0};
    mlxr_name name;
    mlxr_status st;

    if ((st = mlxr_name_parse(&name, to, err)) != MLXR_OK) return st;
    /* Before a session, which would make a store that is not there. */
    if ((st = mlxr_store_resolve(&(mlxr_name){0}, store, from, err)) != MLXR_OK) return st;
    if ((st = mlxr_session_begin(&s, store, err)) != MLXR_OK) return st;
    st = hold_model(&m, s, from, err);
    if (st == MLXR_OK) st = mlxr_session_name(s, &name, &m, err);
    mlxr_session_end(s);
    mlxr_manifest_clear(&m);
    return st;
}

/* ---- gc ---- */

struct gc {
    mlxr_store *store;
    const mlxr_store_job *job;
    mlxr_needed needed;
    mlxr_store_gc_result result;
    int64_t now;
};

static mlxr_status check_cancel(const struct gc *gc, mlxr_error *err)
{
    return gc->job && mlxr_cancelled(gc->job->cancel)
               ? mlxr_fail(err, MLXR_E_CANCELLED, "store: gc cancelled")
               : MLXR_OK;
}

/* Younger than the time of grace? A clock that was set back does no harm: what is of the future is young. */
static bool is_young(const struct gc *gc, const struct stat *sb)
{
    int64_t age = gc->now - (int64_t)sb->st_mtime;
    return (age < 0 ? 0 : age) < gc->store->grace_seconds;
}

static mlxr_status sweep_blob(void *ud, const char *name, const char *path, mlxr_error *err)
{
    struct gc *gc = ud;
    char digest[72] = "sha256:";
    struct stat sb;
    unsigned by;
    mlxr_status st = check_cancel(gc, err);

    if (st != MLXR_OK || !mlxr_hex_valid(name)) return st;
    memcpy(digest + 7, name, 65);
    by = mlxr_needed_by(&gc->needed, digest);
    if (by == MLXR_NEEDED_MANIFEST || lstat(path, &sb) != 0) return MLXR_OK;
    if (by || is_young(gc, &sb)) {
        gc->result.n_kept++;
        return MLXR_OK;
    }
    if ((st = mlxr_blob_remove(gc->store, name, &gc->result.freed_bytes, err)) == MLXR_OK)
        gc->result.n_files++;
    return st;
}

/* What belongs to a blob and is called like it. */
static mlxr_status sweep_beside_blob(struct gc *gc, const char *name, const char *path, bool of_links,
                                     mlxr_error *err)
{
    struct stat sb;
    bool removed, needed;
    char *blob;
    mlxr_status st = check_cancel(gc, err);

    if (st != MLXR_OK) return st;
    if (mlxr_io_is_temp(name)) {
        st = mlxr_io_remove_temp(&removed, &gc->store->io, path, err);
        gc->result.n_files += removed;
        return st;
    }
    if (!mlxr_hex_valid(name)) return MLXR_OK;
    blob = mlxr_store_path(gc->store, "blobs/sha256/%s", name);
    if (!blob) return mlxr_fail_nomem(err, "store");
    needed = lstat(blob, &sb) == 0 ? !of_links || S_ISLNK(sb.st_mode) : errno != ENOENT;
    free(blob);
    if (needed) return MLXR_OK;
    st = mlxr_io_unlink(&gc->store->io, path, err);
    if (st == MLXR_OK) gc->result.n_files++;
    return st;
}

/* Who makes a link writes its record first, but holds <root>/lock meanwhile. */
static mlxr_status sweep_link(void *ud, const char *name, const char *path, mlxr_error *err)
{
    return sweep_beside_blob(ud, name, path, true, err);
}

/* They may be written before their blob is there: then it goes without. */
static mlxr_status sweep_sums(void *ud, const char *name, const char *path, mlxr_error *err)
{
    return sweep_beside_blob(ud, name, path, false, err);
}

/* What belongs to a manifest and is called like it: views/, origins/. */
static mlxr_status sweep_beside_manifest(void *ud, const char *name, const char *path, mlxr_error *err)
{
    struct gc *gc = ud;
    char digest[72] = "sha256:";
    struct stat sb;
    bool removed;
    mlxr_status st = check_cancel(gc, err);

    if (st != MLXR_OK || lstat(path, &sb) != 0) return st;
    if (mlxr_io_is_temp(name) && !S_ISDIR(sb.st_mode)) {
        st = mlxr_io_remove_temp(&removed, &gc->store->io, path, err);
        gc->result.n_files += removed;
        return st;
    }
    if (mlxr_hex_valid(name)) {
        memcpy(digest + 7, name, 65);
        if (mlxr_strtab_get(&gc->needed.manifests, digest, 71) != SIZE_MAX) return MLXR_OK;
        /* An origin may be written before its model is named. */
        if (!S_ISDIR(sb.st_mode) && is_young(gc, &sb)) return MLXR_OK;
    } else if (!mlxr_io_is_temp(name)) {
        return MLXR_OK;
    }
    st = mlxr_io_remove_tree(&gc->store->io, path, err);
    if (st == MLXR_OK) gc->result.n_files++;
    return st;
}

/* Downloads that are not whole: whoever works on one holds the lock of its state. Removing is done with that lock held, and mlxr_io_lock
 * sees that its file went. */
static mlxr_status sweep_partial(void *ud, const char *name, const char *path, mlxr_error *err)
{
    struct gc *gc = ud;
    char digest[72] = "sha256:", *state = NULL, *part = NULL, *blob = NULL;
    struct stat sb, ssb, bsb;
    unsigned by;
    int lock = -1;
    mlxr_status st = check_cancel(gc, err);

    if (st != MLXR_OK) return st;
    if (mlxr_io_is_temp(name)) {
        bool removed;
        st = mlxr_io_remove_temp(&removed, &gc->store->io, path, err);
        gc->result.n_files += removed;
        return st;
    }
    if (strlen(name) < 64 || (name[64] && name[64] != '.')) return MLXR_OK;
    memcpy(digest + 7, name, 64);
    digest[71] = '\0';
    if (!mlxr_digest_valid(digest) || lstat(path, &sb) != 0) return MLXR_OK;
    state = mlxr_store_path(gc->store, "partial/%s.state", digest + 7);
    part = mlxr_store_path(gc->store, "partial/%s", digest + 7);
    blob = mlxr_store_blob_path(gc->store, digest);
    if (!state || !part || !blob) {
        st = mlxr_fail_nomem(err, "store");
        goto done;
    }
    /* Of one that became a blob, and whose process died just then, only the state is left: that is not needed any more. */
    by = lstat(blob, &bsb) == 0 ? 0 : mlxr_needed_by(&gc->needed, digest);
    if ((lstat(state, &ssb) == 0 && is_young(gc, &ssb)) || is_young(gc, &sb) || by) {
        gc->result.n_kept += strcmp(name, digest + 7) == 0;
        goto done;
    }
    st = mlxr_io_lock(&lock, &gc->store->io, state, true, false, NULL, err);
    if (st == MLXR_E_BUSY) {
        gc->result.n_kept += strcmp(name, digest + 7) == 0;
        st = MLXR_OK;
        goto done;
    }
    if (st != MLXR_OK) goto done;
    if (lstat(part, &sb) == 0) {
        if ((st = mlxr_io_unlink(&gc->store->io, part, err)) != MLXR_OK) goto done;
        gc->result.n_files++;
        gc->result.freed_bytes += (uint64_t)sb.st_blocks * 512; /* mostly holes as a rule */
    }
    if (strcmp(path, part) != 0 && strcmp(path, state) != 0) st = mlxr_io_unlink(&gc->store->io, path, err);
    if (st == MLXR_OK) st = mlxr_io_unlink(&gc->store->io, state, err);
done:
    mlxr_io_unlock(lock);
    free(state);
    free(part);
    free(blob);
    return st;
}

static mlxr_status sweep_temps(void *ud, const char *name, const char *path, mlxr_error *err)
{
    struct gc *gc = ud;
    bool removed = false;
    mlxr_status st = MLXR_OK;

    if (mlxr_io_is_temp(name)) st = mlxr_io_remove_temp(&removed, &gc->store->io, path, err);
    gc->result.n_files += removed;
    return st;
}

/* How far uploads were that did not end (upload.c), NAME.json with NAME.lock: registries keep the other half for about so long. */
static mlxr_status sweep_uploads(void *ud, const char *name, const char *path, mlxr_error *err)
{
    enum { KEEP_SECONDS = 7 * 24 * 3600 };
    struct gc *gc = ud;
    size_t n = strlen(path);
    char *json = NULL, *lock_path = NULL;
    struct stat sb;
    int lock = -1;
    bool removed;
    mlxr_status st = check_cancel(gc, err);

    if (st != MLXR_OK || lstat(path, &sb) != 0) return st;
    if (mlxr_io_is_temp(name)) {
        st = mlxr_io_remove_temp(&removed, &gc->store->io, path, err);
        gc->result.n_files += removed;
        return st;
    }
    if (n < 5 || (strcmp(path + n - 5, ".json") != 0 && strcmp(path + n - 5, ".lock") != 0)) return MLXR_OK;
    json = mlxr_asprintf("%.*s.json", (int)(n - 5), path);
    lock_path = mlxr_asprintf("%.*s.lock", (int)(n - 5), path);
    if (!json || !lock_path) {
        st = mlxr_fail_nomem(err, "store");
        goto done;
    }
    if (sb.st_mtime > gc->now - KEEP_SECONDS && sb.st_mtime <= gc->now + KEEP_SECONDS) goto done;
    /* The lock's time is that of the beginning: the state's counts. */
    if (strcmp(path, lock_path) == 0 && lstat(json, &sb) == 0) goto done;
    st = mlxr_io_lock(&lock, &gc->store->io, lock_path, true, false, NULL, err);
    if (st == MLXR_E_BUSY) st = MLXR_OK;
    if (st != MLXR_OK || lock < 0) goto done;
    if ((st = mlxr_io_unlink(&gc->store->io, json, err)) != MLXR_OK) goto done;
    if ((st = mlxr_io_unlink(&gc->store->io, lock_path, err)) != MLXR_OK) goto done;
    gc->result.n_files++;
done:
    mlxr_io_unlock(lock);
    free(json);
    free(lock_path);
    return st;
}

/* Folders of names that a process made and died before it put something into them. */
static mlxr_status sweep_name_dirs(void *ud, const char *name, const char *path, mlxr_error *err)
{
    struct gc *gc = ud;
    size_t n_root = strlen(gc->store->root), depth = 0;
    struct stat sb;
    mlxr_status st;

    for (const char *s = path + n_root; *s; s++) depth += *s == '/';
    if (depth > 4 || lstat(path, &sb) != 0 || !S_ISDIR(sb.st_mode)) return MLXR_OK; /* manifests/h/n/n */
    if ((st = mlxr_dir_each(path, sweep_name_dirs, gc, err)) != MLXR_OK) return st;
    return mlxr_io_remove_dir(&gc->store->io, path, err);
}

mlxr_status mlxr_store_gc(mlxr_store_gc_result *out, mlxr_store *store, const mlxr_store_job *job,
                          mlxr_error *err)
{
    const struct {
        const char *dir;
        mlxr_dir_fn sweep;
    } steps[] = {{"blobs/sha256", sweep_blob},       {"links/sha256", sweep_link},
                 {"sums/sha256", sweep_sums},        {"views", sweep_beside_manifest},
                 {"origins", sweep_beside_manifest}, {"partial", sweep_partial},
                 {"uploads", sweep_uploads},         {"manifests", sweep_name_dirs},
                 {"sums/manifests", sweep_temps},    {"", sweep_temps}};
    struct gc gc = {.store = store, .job = job, .now = (int64_t)time(NULL)};
    int lock = -1;
    mlxr_status st = MLXR_OK;

    if (out) *out = gc.result;
    if (!mlxr_path_is_dir(store->root)) return MLXR_OK;
    if ((st = mlxr_store_lock(&lock, store, true, job ? job->cancel : NULL, err)) != MLXR_OK) goto done;
    if ((st = mlxr_needed_read(&gc.needed, store, err)) != MLXR_OK) goto done;
    if (gc.needed.broken) {
        st = mlxr_fail(
            err, MLXR_E_CORRUPT,
            "store: nothing is removed, since what this model needs is not known: %s; remove its name first "
            "(\"mlxctl store rm\"), or pull or import it again",
            gc.needed.broken);
        goto done;
    }
    for (size_t i = 0; i < MLXR_COUNT(steps) && st == MLXR_OK; i++) {
        char *dir = mlxr_store_path(store, "%s", steps[i].dir);
        st = dir ? mlxr_dir_each(dir, steps[i].sweep, &gc, err) : mlxr_fail_nomem(err, "store");
        free(dir);
    }
done:
    if (out) *out = gc.result;
    mlxr_io_unlock(lock);
    mlxr_needed_clear(&gc.needed);
    return st;
}
