/* view: a model's files under their own names, for what takes a model folder: <root>/views/<hex of the manifest>/ with relative links
 *
 *   model.safetensors -> ../../blobs/sha256/<hex>        sub/x.json -> ../../../blobs/sha256/<hex>
 *
 * It is made as views/.<hex>.<salt>.tmp and renamed, all with <root>/lock held alone, so that such a folder met with that lock held is a
 * dead process's. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/keep.h"

/* What the link of a file leads to. */
static void link_target(mlxr_buf *out, const mlxr_layer *l)
{
    out->len = 0;
    mlxr_buf_str(out, "../../");
    for (const char *s = l->path; *s; s++)
        if (*s == '/') mlxr_buf_str(out, "../");
    mlxr_buf_printf(out, "blobs/sha256/%s", l->digest + 7);
}

/* Sizes, and links out of the store: every time, since they are cheap to look at and what comes after trusts them. */
static mlxr_status check_parts(const mlxr_store *store, const mlxr_manifest *m, const char *name,
                               mlxr_error *err)
{
    mlxr_status st = MLXR_OK;

    for (size_t i = 0; i <= m->n_layers && st == MLXR_OK; i++) {
        const mlxr_layer *l = i < m->n_layers ? &m->layers[i] : &m->config;
        mlxr_buf trouble = {0};
        mlxr_blob_state state;
        if ((st = mlxr_blob_state_of(&state, store, l->digest, l->size, err)) != MLXR_OK) break;
        mlxr_blob_trouble(&trouble, store, l, state);
        if (trouble.len)
            st = mlxr_fail(
                err, MLXR_E_CORRUPT, "model %s: %s; %s", name, trouble.data,
                state == MLXR_BLOB_LINK_CHANGED
                    ? "import it again"
                    : "\"mlxctl store verify --repair\" brings it again, or pull or import the model again");
        else
            st = mlxr_buf_check(&trouble, "store", err);
        mlxr_buf_clear(&trouble);
    }
    return st;
}

/* Whether every file of the model has its link there. */
static mlxr_status view_is_whole(bool *whole, const mlxr_manifest *m, const char *view, mlxr_error *err)
{
    char at[2048]; /* more than the target of any title that a manifest may have */
    mlxr_buf target = {0}, path = {0};
    mlxr_status st = MLXR_OK;

    *whole = mlxr_path_is_dir(view);
    for (size_t i = 0; i < m->n_layers && *whole && st == MLXR_OK; i++) {
        ssize_t n;
        path.len = 0;
        mlxr_buf_printf(&path, "%s/%s", view, m->layers[i].path);
        link_target(&target, &m->layers[i]);
        if ((st = mlxr_buf_check(&path, "store", err)) != MLXR_OK) break;
        if ((st = mlxr_buf_check(&target, "store", err)) != MLXR_OK) break;
        n = readlink(path.data, at, sizeof at);
        *whole = n == (ssize_t)target.len && memcmp(at, target.data, target.len) == 0;
    }
    mlxr_buf_clear(&target);
    mlxr_buf_clear(&path);
    return st;
}

static mlxr_status fill_view(const mlxr_store *store, const mlxr_manifest *m, const char *dir,
                             mlxr_error *err)
{
    mlxr_status st = mlxr_io_make_dirs(&store->io, dir, err);
    mlxr_buf target = {0};

    for (size_t i = 0; i < m->n_layers && st == MLXR_OK; i++) {
        char *path = mlxr_path_join(dir, m->layers[i].path), *parent = path ? mlxr_path_dirname(path) : NULL;
        link_target(&target, &m->layers[i]);
        st = parent ? mlxr_buf_check(&target, "store", err) : mlxr_fail_nomem(err, "store");
        if (st == MLXR_OK) st = mlxr_io_make_dirs(&store->io, parent, err);
        if (st == MLXR_OK) st = mlxr_io_symlink(&store->io, target.data, path, err);
        free(path);
        free(parent);
    }
    mlxr_buf_clear(&target);
    return st;
}

static char *temp_path(const mlxr_store *store, const char *hex)
{
    return mlxr_store_path(store, "views/.%s.%08x.tmp", hex,
                           (unsigned)(mlxr_now_ns() * 2654435761u) ^ (unsigned)getpid());
}

mlxr_status mlxr_view_remove(const mlxr_store *store, const char *hex, mlxr_error *err)
{
    char *view = mlxr_store_path(store, "views/%s", hex), *temp = temp_path(store, hex);
    struct stat sb;
    mlxr_status st = MLXR_OK;

    if (!view || !temp)
        st = mlxr_fail_nomem(err, "store");
    else if (lstat(view, &sb) == 0)
        st = mlxr_io_rename(&store->io, view, temp, err);
    else if (errno != ENOENT && errno != ENOTDIR)
        st = mlxr_io_fail(err, view, "stat", errno);
    if (st == MLXR_OK) st = mlxr_io_remove_tree(&store->io, temp, err);
    free(view);
    free(temp);
    return st;
}

/* With <root>/lock held alone. What is there and not whole was changed by somebody else: it goes. */
static mlxr_status make_view(const mlxr_store *store, const mlxr_manifest *m, const char *view,
                             mlxr_error *err)
{
    char *temp = temp_path(store, m->digest + 7);
    mlxr_status st;

    if (!temp) return mlxr_fail_nomem(err, "store");
    st = fill_view(store, m, temp, err);
    if (st == MLXR_OK) st = mlxr_io_remove_tree(&store->io, view, err);
    if (st == MLXR_OK) st = mlxr_io_rename(&store->io, temp, view, err);
    if (st != MLXR_OK) (void)mlxr_io_remove_tree(&store->io, temp, NULL);
    free(temp);
    return st;
}

void mlxr_view_make(const mlxr_store *store, const mlxr_manifest *m)
{
    char *view = mlxr_store_path(store, "views/%s", m->digest + 7);
    mlxr_error err;
    bool whole = false;
    mlxr_status st = view ? view_is_whole(&whole, m, view, &err) : mlxr_fail_nomem(&err, "store");

    if (st == MLXR_OK && !whole) st = make_view(store, m, view, &err);
    if (st != MLXR_OK) mlxr_log_at(&store->log, MLXR_LOG_DEBUG, "%s", err.message);
    free(view);
}

/* The model and its view; *whole false: the view has to be made. */
static mlxr_status look(mlxr_manifest *m, char **view, bool *whole, mlxr_store *store, const char *name,
                        mlxr_error *err)
{
    mlxr_status st;

    *whole = false;
    *view = NULL;
    if ((st = mlxr_store_find(m, NULL, store, name, err)) != MLXR_OK) return st;
    if ((st = check_parts(store, m, name, err)) != MLXR_OK) return st;
    *view = mlxr_store_path(store, "views/%s", m->digest + 7);
    if (!*view) return mlxr_fail_nomem(err, "store");
    return view_is_whole(whole, m, *view, err);
}

mlxr_status mlxr_store_model_path(char **out_path, mlxr_store *store, const char *name, mlxr_error *err)
{
    mlxr_manifest m = {0};
    char *view = NULL;
    bool whole;
    int lock = -1;
    mlxr_error local, why;
    mlxr_status st;

    *out_path = NULL;
    if (!err) err = &local;
    st = look(&m, &view, &whole, store, name, err);
    if (st == MLXR_E_CORRUPT || (st == MLXR_OK && !whole)) {
        /* Once more with the lock: without it, parts may have been missing since the model just went. */
        mlxr_status locked = mlxr_store_lock(&lock, store, true, NULL, &why);
        if (locked == MLXR_OK) {
            free(view);
            mlxr_manifest_clear(&m);
            st = look(&m, &view, &whole, store, name, err);
            if (st == MLXR_OK && !whole) st = make_view(store, &m, view, err);
        } else if (st == MLXR_OK) {
            st = mlxr_fail(err, locked, "%s", why.message);
        }
        if (st == MLXR_E_DENIED)
            mlxr_error_append(
                err,
                "; the folder that model %s is run from has to be made once by who may write there "
                "(\"mlxctl show %s\" does it), or export the model",
                name, name);
    }
    if (st == MLXR_OK) {
        *out_path = view;
        view = NULL;
    }
    mlxr_io_unlock(lock);
    free(view);
    mlxr_manifest_clear(&m);
    return st;
}
