/* export: a model out of the store, as a folder of its files or as an OCI image layout. It is built under another name beside the
 * target and renamed at the end, so that there is a whole one or none. What is exported belongs to people, who edit it: files are
 * cloned or copied, never linked to blobs, and what is copied is hashed on the way. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/bring.h"
#include "store/keep.h"

typedef struct exporting {
    mlxr_store *store;
    const mlxr_manifest *m;
    mlxr_name name;
    const char *temp; /* the folder that it is built in */
    mlxr_store_pace *pace;
} exporting;

/* Whether dir can become the export: absent, or an empty folder. *exists: it is there. */
static mlxr_status check_target(bool *exists, const char *dir, mlxr_error *err)
{
    DIR *d = opendir(dir);
    const struct dirent *e;
    mlxr_status st = MLXR_OK;

    *exists = d != NULL;
    if (!d)
        return errno == ENOENT ? MLXR_OK
               : errno == ENOTDIR
                   ? mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s: is there, and no folder", dir)
                   : mlxr_io_fail(err, dir, "open", errno);
    while (st == MLXR_OK && (e = readdir(d)) != NULL)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s: is not empty (%.100s is in it)", dir,
                           e->d_name);
    closedir(d);
    return st;
}

/* Where the folder really lies, without a slash at its end; it need not be there, its parent is made. NULL: failed. */
static char *resolve_target(const mlxr_io *io, const char *dir, bool exists, mlxr_error *err)
{
    char *copy = NULL, *parent = NULL, *real = NULL, *target = NULL, *slash;
    size_t n = strlen(dir);

    if (exists) {
        target = realpath(dir, NULL);
        if (!target) (void)mlxr_io_fail(err, dir, "find", errno);
        return target;
    }
    while (n > 1 && dir[n - 1] == '/') n--;
    copy = mlxr_strndup(dir, n);
    parent = copy ? mlxr_path_dirname(copy) : NULL;
    if (!parent) {
        (void)mlxr_fail_nomem(err, dir);
        goto done;
    }
    if (mlxr_io_make_dirs(io, parent, err) != MLXR_OK) goto done;
    real = realpath(parent, NULL);
    slash = strrchr(copy, '/');
    if (!real) {
        (void)mlxr_io_fail(err, parent, "find", errno);
        goto done;
    }
    target = mlxr_path_join(real, slash ? slash + 1 : copy);
    if (!target) (void)mlxr_fail_nomem(err, dir);
done:
    free(copy);
    free(parent);
    free(real);
    return target;
}

/* One blob as a file of the export. */
static mlxr_status put_blob(const exporting *x, const mlxr_layer *l, const char *path, mlxr_error *err)
{
    const char *what = l->path ? l->path : "config";
    char *from = mlxr_store_blob_path(x->store, l->digest), *dir = mlxr_path_dirname(path), digest[72];
    mlxr_blob_state state;
    mlxr_status st;

    if (!from || !dir) {
        st = mlxr_fail_nomem(err, path);
        goto done;
    }
    if ((st = mlxr_blob_state_of(&state, x->store, l->digest, l->size, err)) != MLXR_OK) goto done;
    if (state != MLXR_BLOB_WHOLE && state != MLXR_BLOB_LINK) {
        st = mlxr_fail(err, MLXR_E_CORRUPT, "export: %s is %s; \"mlxctl store verify\" says more", what,
                       state == MLXR_BLOB_ABSENT       ? "missing"
                       : state == MLXR_BLOB_WRONG_SIZE ? "of the wrong size"
                                                       : "a link to a file that has changed");
        goto done;
    }
    if ((st = mlxr_io_make_dirs(&x->store->io, dir, err)) != MLXR_OK) goto done;
    st = mlxr_io_clone(&x->store->io, from, path, err);
    if (st == MLXR_OK) st = mlxr_store_pace_add(x->pace, "exporting", what, l->size, l->size, l->size, err);
    if (st == MLXR_E_UNSUPPORTED) {
        st = mlxr_copy_hashed(digest, NULL, &x->store->io, from, path, l->size, x->pace, "exporting", what,
                              err);
        if (st == MLXR_OK && strcmp(digest, l->digest) != 0)
            st = mlxr_fail(err, MLXR_E_CORRUPT,
                           "export: %s is damaged: its digest is %s, wanted %s; \"mlxctl store verify --deep "
                           "--repair\" says where, and fetches it again when it can",
                           what, digest, l->digest);
    }
done:
    free(from);
    free(dir);
    return st;
}

static mlxr_status put_text(const exporting *x, const char *name, const char *text, size_t n, mlxr_error *err)
{
    char *path = mlxr_path_join(x->temp, name), *dir = path ? mlxr_path_dirname(path) : NULL;
    mlxr_status st;

    if (!dir)
        st = mlxr_fail_nomem(err, x->temp);
    else
        st = mlxr_io_make_dirs(&x->store->io, dir, err);
    if (st == MLXR_OK) st = mlxr_io_write_file(&x->store->io, path, text, n, err);
    free(path);
    free(dir);
    return st;
}

static mlxr_status export_folder(const exporting *x, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;

    for (size_t i = 0; i < x->m->n_layers && st == MLXR_OK; i++) {
        char *path = mlxr_path_join(x->temp, x->m->layers[i].path);
        st = path ? put_blob(x, &x->m->layers[i], path, err) : mlxr_fail_nomem(err, x->temp);
        free(path);
    }
    return st;
}

static mlxr_status export_layout(const exporting *x, mlxr_error *err)
{
    static const char marker[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
    char *name = mlxr_asprintf("blobs/sha256/%s", x->m->digest + 7);
    mlxr_buf index = {0};
    mlxr_status st = MLXR_OK;

    for (size_t i = 0; i <= x->m->n_layers && st == MLXR_OK; i++) {
        const mlxr_layer *l = i < x->m->n_layers ? &x->m->layers[i] : &x->m->config;
        char *path = mlxr_asprintf("%s/blobs/sha256/%s", x->temp, l->digest + 7);
        if (!path)
            st = mlxr_fail_nomem(err, x->temp);
        else if (access(path, F_OK) != 0) /* two files may be the same */
            st = put_blob(x, l, path, err);
        free(path);
    }
    if (st == MLXR_OK && !name) st = mlxr_fail_nomem(err, x->temp);
    if (st == MLXR_OK) st = put_text(x, name, x->m->text, x->m->n_text, err);
    mlxr_buf_printf(
        &index,
        "{\"schemaVersion\":2,\"mediaType\":\"" MLXR_MEDIA_INDEX
        "\",\"manifests\":[{\"mediaType\":\"" MLXR_MEDIA_MANIFEST "\",\"artifactType\":\"" MLXR_MEDIA_ARTIFACT
        "\",\"digest\":\"%s\",\"size\":%zu,\"annotations\":{\"org.opencontainers.image.ref.name\":\"%s\"}}]}",
        x->m->digest, x->m->n_text, x->name.tag); /* a tag has nothing that JSON escapes */
    if (st == MLXR_OK) st = mlxr_buf_check(&index, x->temp, err);
    if (st == MLXR_OK) st = put_text(x, "index.json", index.data, index.len, err);
    if (st == MLXR_OK) st = put_text(x, "oci-layout", marker, sizeof marker - 1, err);
    mlxr_buf_clear(&index);
    free(name);
    return st;
}

/* The folders of what was written, from the inside out. */
static mlxr_status sync_dirs(const exporting *x, bool oci_layout, mlxr_error *err)
{
    static const char *const of_layout[] = {"blobs/sha256", "blobs"};
    mlxr_status st = MLXR_OK;

    for (size_t i = 0; oci_layout && i < MLXR_COUNT(of_layout) && st == MLXR_OK; i++) {
        char *dir = mlxr_path_join(x->temp, of_layout[i]);
        st = dir ? mlxr_io_sync_dir(&x->store->io, dir, err) : mlxr_fail_nomem(err, x->temp);
        free(dir);
    }
    for (size_t i = 0; !oci_layout && i < x->m->n_layers && st == MLXR_OK; i++) {
        char *path, *dir;
        if (!strchr(x->m->layers[i].path, '/')) continue;
        path = mlxr_path_join(x->temp, x->m->layers[i].path);
        dir = path ? mlxr_path_dirname(path) : NULL;
        st = dir ? mlxr_io_sync_dir(&x->store->io, dir, err) : mlxr_fail_nomem(err, x->temp);
        free(path);
        free(dir);
    }
    return st == MLXR_OK ? mlxr_io_sync_dir(&x->store->io, x->temp, err) : st;
}

mlxr_status mlxr_store_export(mlxr_store *store, const char *name, const char *dir, bool oci_layout,
                              const mlxr_store_job *job, mlxr_error *err)
{
    mlxr_manifest m = {0};
    mlxr_store_pace pace = {0};
    exporting x = {.store = store, .m = &m, .pace = &pace};
    char *target = NULL, *parent = NULL, *temp = NULL;
    bool exists = false, made = false, paced = false;
    mlxr_error local;
    mlxr_status st;

    if (!err) err = &local;
    if ((st = mlxr_store_find(&m, &x.name, store, name, err)) != MLXR_OK) return st;
    if ((st = check_target(&exists, dir, err)) != MLXR_OK) goto done;
    target = resolve_target(&store->io, dir, exists, err);
    if (!target) {
        st = err->code;
        goto done;
    }
    parent = mlxr_path_dirname(target);
    temp = parent ? mlxr_asprintf("%s/.%.100s.%08x.tmp", parent, strrchr(target, '/') + 1,
                                  (unsigned)(mlxr_now_ns() * 2654435761u) ^ (unsigned)getpid())
                  : NULL;
    if (!temp) {
        st = mlxr_fail_nomem(err, dir);
        goto done;
    }
    if (access(temp, F_OK) == 0) {
        st = mlxr_io_fail(err, temp, "make the folder", EEXIST);
        goto done;
    }
    x.temp = temp;
    if ((st = mlxr_store_pace_init(&pace, job, mlxr_manifest_bytes(&m), err)) != MLXR_OK) goto done;
    paced = made = true;
    if ((st = mlxr_io_make_dirs(&store->io, temp, err)) != MLXR_OK) goto done;
    if ((st = oci_layout ? export_layout(&x, err) : export_folder(&x, err)) != MLXR_OK) goto done;
    if ((st = sync_dirs(&x, oci_layout, err)) != MLXR_OK) goto done;
    if ((st = mlxr_io_rename(&store->io, temp, target, err)) != MLXR_OK) goto done;
    made = false;
    st = mlxr_io_sync_dir(&store->io, parent, err);
done:
    if (made) (void)mlxr_io_remove_tree(&store->io, temp, NULL);
    if (paced) mlxr_store_pace_clear(&pace);
    mlxr_manifest_clear(&m);
    free(target);
    free(parent);
    free(temp);
    return st;
}
