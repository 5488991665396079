/* recall: which manifest a name was given, written down apart from it. A blob has its digest for a name, so that damage shows; a
 * manifest lies under the model's name, and a flipped bit may leave one that can be read.
 *
 *   <root>/sums/manifests/<hex of SHA-256 of the name's path>    digests, one a line: this one, and the one before it
 *
 * It is written before the manifest is put in place, and names the one before it too, so that whatever stops a process in between, the
 * manifest that lies there is in it. */
#include <stdio.h>
#include <stdlib.h>

#include "store/keep.h"

enum { LINE_BYTES = 72, MAX_LINES = 2 };

static char *recall_path(const mlxr_store *store, const mlxr_name *name)
{
    mlxr_buf path = {0};
    char hex[65];

    mlxr_name_path(&path, name);
    if (path.failed || mlxr_sha256_hex(hex, path.data, path.len, NULL) != MLXR_OK) {
        mlxr_buf_clear(&path);
        return NULL;
    }
    mlxr_buf_clear(&path);
    return mlxr_store_path(store, "sums/manifests/%s", hex);
}

mlxr_status mlxr_manifest_remember(const mlxr_store *store, const mlxr_name *name, const char *digest,
                                   const char *before, mlxr_error *err)
{
    char *path = recall_path(store, name), *dir = mlxr_store_path(store, "sums/manifests");
    mlxr_buf text = {0};
    mlxr_status st;

    mlxr_buf_printf(&text, "%s\n", digest);
    if (before && *before) mlxr_buf_printf(&text, "%s\n", before);
    st = path && dir ? mlxr_buf_check(&text, "store", err) : mlxr_fail_nomem(err, "store");
    if (st == MLXR_OK) st = mlxr_io_make_dirs(&store->io, dir, err);
    if (st == MLXR_OK) st = mlxr_io_write_file(&store->io, path, text.data, text.len, err);
    mlxr_buf_clear(&text);
    free(path);
    free(dir);
    return st;
}

mlxr_status mlxr_manifest_recall(const mlxr_store *store, const mlxr_name *name, const char *digest,
                                 mlxr_error *err)
{
    char *path = recall_path(store, name);
    mlxr_buf text = {0};
    mlxr_status st;
    size_t n = 0;

    if (!path) return mlxr_fail_nomem(err, "store");
    st = mlxr_file_read(&text, path, LINE_BYTES * MAX_LINES, err);
    free(path);
    if (st == MLXR_E_NOMEM) goto done;
    if (st != MLXR_OK) { /* nothing can be said */
        st = MLXR_OK;
        goto done;
    }
    for (size_t at = 0; at + LINE_BYTES <= text.len; at += LINE_BYTES) {
        text.data[at + LINE_BYTES - 1] = '\0';
        if (!mlxr_digest_valid(text.data + at)) goto done; /* what is damaged is this file */
        if (strcmp(text.data + at, digest) == 0) goto done;
        n++;
    }
    if (n)
        st = mlxr_fail(err, MLXR_E_CORRUPT,
                       "is damaged: its digest is %s, it was stored as %s; pull or import the model again",
                       digest, text.data);
done:
    mlxr_buf_clear(&text);
    return st;
}

void mlxr_manifest_forget(const mlxr_store *store, const mlxr_name *name)
{
    char *path = recall_path(store, name);

    if (path) (void)mlxr_io_unlink(&store->io, path, NULL);
    free(path);
}
