/* store: opening one, its paths and its lock, progress of long calls. */
#include "store/store.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/keep.h"

enum { MIN_STEP_NS = 50000000 };

/* ---- open, close ---- */

mlxr_status mlxr_store_open(mlxr_store **out, const char *root, const mlxr_store_options *options,
                            mlxr_error *err)
{
    mlxr_store_options o = options ? *options : mlxr_store_options_default();
    char *here = NULL;
    mlxr_store *s;
    mlxr_status st = MLXR_OK;
    struct stat sb;
    size_t n;

    *out = NULL;
    if (!root || !*root) return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "store: the folder's name is empty");
    if (o.grace_seconds < 0)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "store: grace_seconds is %lld, wanted 0 or more",
                         (long long)o.grace_seconds);
    s = calloc(1, sizeof *s);
    if (!s) return mlxr_fail_nomem(err, "store");
    if (root[0] != '/') { /* the process may go elsewhere */
        here = getcwd(NULL, 0);
        if (!here) {
            st = mlxr_io_fail(err, ".", "find", errno);
            goto done;
        }
    }
    s->root = mlxr_path_join(here ? here : "", root);
    if (!s->root) {
        st = mlxr_fail_nomem(err, "store");
        goto done;
    }
    for (n = strlen(s->root); n > 1 && s->root[n - 1] == '/'; n--) s->root[n - 1] = '\0';
    if (stat(s->root, &sb) == 0 && !S_ISDIR(sb.st_mode)) {
        st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "store: %s is a file, wanted a folder", s->root);
        goto done;
    }
    s->io = (mlxr_io){.fault = o.fault, .ud = o.fault_ud};
    s->log = o.log;
    s->quota_bytes = o.quota_bytes;
    s->grace_seconds = o.grace_seconds;
    *out = s;
    s = NULL;
done:
    free(here);
    mlxr_store_close(s);
    return st;
}

void mlxr_store_close(mlxr_store *store)
{
    if (!store) return;
    free(store->root);
    free(store);
}

/* ---- paths ---- */

char *mlxr_store_path(const mlxr_store *store, const char *fmt, ...)
{
    size_t n_root = strlen(store->root);
    va_list args;
    char *path;
    int n;

    va_start(args, fmt);
    n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0 || !(path = malloc(n_root + (size_t)n + 2))) return NULL;
    memcpy(path, store->root, n_root);
    path[n_root] = '/';
    va_start(args, fmt);
    vsnprintf(path + n_root + 1, (size_t)n + 1, fmt, args);
    va_end(args);
    return path;
}

char *mlxr_store_blob_path(const mlxr_store *store, const char *digest)
{
    return mlxr_store_path(store, "blobs/sha256/%s", digest + 7);
}

bool mlxr_hex_valid(const char *name)
{
    size_t i = 0;

    while ((name[i] >= '0' && name[i] <= '9') || (name[i] >= 'a' && name[i] <= 'f')) i++;
    return i == 64 && !name[i];
}

mlxr_status mlxr_dir_each(const char *dir, mlxr_dir_fn fn, void *ud, mlxr_error *err)
{
    DIR *d = opendir(dir);
    const struct dirent *e;
    mlxr_status st = MLXR_OK;
    mlxr_buf names = {0};

    if (!d) return errno == ENOENT || errno == ENOTDIR ? MLXR_OK : mlxr_io_fail(err, dir, "open", errno);
    while ((errno = 0, e = readdir(d)) != NULL)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            mlxr_buf_append(&names, e->d_name, strlen(e->d_name) + 1);
    if (errno) st = mlxr_io_fail(err, dir, "read", errno);
    closedir(d);
    if (st == MLXR_OK) st = mlxr_buf_check(&names, dir, err);
    for (size_t at = 0; st == MLXR_OK && at < names.len; at += strlen(names.data + at) + 1) {
        char *path = mlxr_path_join(dir, names.data + at);
        st = path ? fn(ud, names.data + at, path, err) : mlxr_fail_nomem(err, dir);
        free(path);
    }
    mlxr_buf_clear(&names);
    return st;
}

mlxr_status mlxr_store_lock(int *out_fd, const mlxr_store *store, bool exclusive, const volatile int *cancel,
                            mlxr_error *err)
{
    char *path = mlxr_store_path(store, "lock");
    mlxr_status st;

    *out_fd = -1;
    if (!path) return mlxr_fail_nomem(err, "store");
    st = mlxr_io_lock(out_fd, &store->io, path, exclusive, true, cancel, err);
    free(path);
    return st;
}

/* ---- progress ---- */

mlxr_status mlxr_store_pace_init(mlxr_store_pace *p, const mlxr_store_job *job, uint64_t total_all,
                                 mlxr_error *err)
{
    pthread_mutex_t *mutex = malloc(sizeof *mutex);

    *p = (mlxr_store_pace){.job = job, .total_all = total_all};
    if (!mutex) return mlxr_fail_nomem(err, "store");
    if (pthread_mutex_init(mutex, NULL) != 0) {
        free(mutex);
        return mlxr_fail_nomem(err, "store");
    }
    p->mutex = mutex;
    return MLXR_OK;
}

mlxr_status mlxr_store_pace_add(mlxr_store_pace *p, const char *what, const char *item, uint64_t n,
                                uint64_t done, uint64_t total, mlxr_error *err)
{
    uint64_t now;

    if (!p) return MLXR_OK;
    if (mlxr_store_pace_cancelled(p))
        return mlxr_fail(err, MLXR_E_CANCELLED, "store: cancelled while %s%s%s", what, item ? " " : "",
                         item ? item : "");
    pthread_mutex_lock(p->mutex);
    p->done_all += n;
    if (p->job && p->job->on_step) {
        now = mlxr_now_ns();
        if (done == total || now - p->last_ns >= MIN_STEP_NS) {
            const mlxr_store_step step = {.what = what,
                                          .item = item,
                                          .done = done,
                                          .total = total,
                                          .done_all = p->done_all,
                                          .total_all = p->total_all};
            p->last_ns = now;
            p->job->on_step(&step, p->job->ud);
        }
    }
    pthread_mutex_unlock(p->mutex);
    return MLXR_OK;
}

bool mlxr_store_pace_cancelled(const mlxr_store_pace *p)
{
    return p && p->job && mlxr_cancelled(p->job->cancel);
}

void mlxr_store_pace_clear(mlxr_store_pace *p)
{
    if (!p) return;
    if (p->mutex) pthread_mutex_destroy(p->mutex);
    free(p->mutex);
    *p = (mlxr_store_pace){0};
}
