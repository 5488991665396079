/* blob: files by their digest: how they come to their place, how they are looked at, how much of the quota they take. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/sha256.h"
#include "store/keep.h"

enum { COPY_CHUNK = 4 << 20, MAX_RECORD = 64 << 10, MAX_CONFIG = 1 << 20, BLOB_MODE = 0444 };

static int64_t mtime_ns(const struct stat *sb)
{
#ifdef __APPLE__
    return (int64_t)sb->st_mtimespec.tv_sec * 1000000000 + sb->st_mtimespec.tv_nsec;
#else
    return (int64_t)sb->st_mtim.tv_sec * 1000000000 + sb->st_mtim.tv_nsec;
#endif
}

/* ---- looking ---- */

/* Where a link leads; NULL and MLXR_OK: it cannot be read. */
static mlxr_status read_link(char **out, const char *path)
{
    *out = NULL;
    for (size_t n = 256;; n *= 2) {
        char *to = malloc(n);
        ssize_t k;
        if (!to) return MLXR_E_NOMEM;
        k = readlink(path, to, n - 1);
        if (k >= 0 && (size_t)k < n - 1) {
            to[k] = '\0';
            *out = to;
            return MLXR_OK;
        }
        free(to);
        if (k < 0) return MLXR_OK;
    }
}

/* Whether a link leads to what its record says, and that is as it was. A record that cannot be used says no. */
static mlxr_status look_at_link(mlxr_blob_state *out, const mlxr_store *store, const char *path,
                                const char *hex, uint64_t size, mlxr_error *err)
{
    char *record = mlxr_store_path(store, "links/sha256/%s", hex), *target;
    const char *want = NULL;
    int64_t want_size = -1, want_mtime = -1;
    json_t *root = NULL;
    struct stat sb;
    mlxr_status st;

    *out = MLXR_BLOB_LINK_CHANGED;
    if (read_link(&target, path) != MLXR_OK || !record) {
        st = mlxr_fail_nomem(err, "store");
        goto done;
    }
    st = mlxr_json_read(&root, record, MAX_RECORD, err);
    if (st == MLXR_OK) st = mlxr_json_get_str(&want, root, "path", record, err);
    if (st == MLXR_OK) st = mlxr_json_get_int(&want_size, root, "size", 0, INT64_MAX, record, err);
    if (st == MLXR_OK)
        st = mlxr_json_get_int(&want_mtime, root, "mtime_ns", INT64_MIN, INT64_MAX, record, err);
    if (st == MLXR_OK && target && want && strcmp(target, want) == 0 && stat(target, &sb) == 0 &&
        S_ISREG(sb.st_mode) && (int64_t)sb.st_size == want_size && (uint64_t)sb.st_size == size &&
        mtime_ns(&sb) == want_mtime)
        *out = MLXR_BLOB_LINK;
    if (st != MLXR_E_NOMEM) st = MLXR_OK;
done:
    json_decref(root);
    free(record);
    free(target);
    return st;
}

mlxr_status mlxr_blob_state_of(mlxr_blob_state *out, const mlxr_store *store, const char *digest,
                               uint64_t size, mlxr_error *err)
{
    char *path = mlxr_store_blob_path(store, digest);
    mlxr_status st = MLXR_OK;
    struct stat sb;

    *out = MLXR_BLOB_ABSENT;
    if (!path) return mlxr_fail_nomem(err, "store");
    if (lstat(path, &sb) != 0) {
        if (errno != ENOENT && errno != ENOTDIR) st = mlxr_io_fail(err, path, "stat", errno);
    } else if (S_ISLNK(sb.st_mode)) {
        st = look_at_link(out, store, path, digest + 7, size, err);
    } else {
        *out = S_ISREG(sb.st_mode) && (uint64_t)sb.st_size == size ? MLXR_BLOB_WHOLE : MLXR_BLOB_WRONG_SIZE;
    }
    free(path);
    return st;
}

mlxr_blob_state mlxr_blob_look(const mlxr_store *store, const char *digest, uint64_t size)
{
    mlxr_blob_state state = MLXR_BLOB_ABSENT;
    (void)mlxr_blob_state_of(&state, store, digest, size, NULL);
    return state;
}

void mlxr_blob_trouble(mlxr_buf *out, const mlxr_store *store, const mlxr_layer *layer, mlxr_blob_state state)
{
    const char *name = layer->path ? layer->path : "the config";
    char *path = mlxr_store_blob_path(store, layer->digest), *target;
    struct stat sb;

    switch (state) {
    case MLXR_BLOB_WHOLE:
    case MLXR_BLOB_LINK: break;
    case MLXR_BLOB_ABSENT: mlxr_buf_printf(out, "%s is missing", name); break;
    case MLXR_BLOB_WRONG_SIZE:
        if (path && lstat(path, &sb) == 0)
            mlxr_buf_printf(out, "%s has %lld bytes, wanted %llu", name, (long long)sb.st_size,
                            (unsigned long long)layer->size);
        else
            mlxr_buf_printf(out, "%s has not the size it should have", name);
        break;
    case MLXR_BLOB_LINK_CHANGED:
        target = NULL;
        if (path) (void)read_link(&target, path);
        mlxr_buf_printf(out, "%s lies outside the store, at %s, and has %s since", name,
                        target ? target : "a path that cannot be read",
                        target && access(target, F_OK) == 0 ? "changed" : "gone");
        free(target);
        break;
    }
    free(path);
}

mlxr_status mlxr_blob_remove(const mlxr_store *store, const char *hex, uint64_t *freed, mlxr_error *err)
{
    static const char *const kinds[] = {"blobs", "links", "sums"};
    mlxr_status st = MLXR_OK;

    for (size_t i = 0; i < MLXR_COUNT(kinds) && st == MLXR_OK; i++) {
        char *path = mlxr_store_path(store, "%s/sha256/%s", kinds[i], hex);
        struct stat sb;
        if (!path) return mlxr_fail_nomem(err, "store");
        if (lstat(path, &sb) == 0) {
            if (S_ISDIR(sb.st_mode))
                st = mlxr_io_remove_tree(&store->io, path, err);
            else
                st = mlxr_io_unlink(&store->io, path, err);
            if (st == MLXR_OK && i == 0 && S_ISREG(sb.st_mode)) *freed += (uint64_t)sb.st_size;
        } else if (errno != ENOENT && errno != ENOTDIR) {
            st = mlxr_io_fail(err, path, "stat", errno);
        }
        free(path);
    }
    return st;
}

/* ---- quota ---- */

static mlxr_status read_config(json_t **out, const mlxr_store *store, mlxr_error *err)
{
    char *path = mlxr_store_path(store, "config.json");
    mlxr_status st;

    *out = NULL;
    if (!path) return mlxr_fail_nomem(err, "store");
    st = mlxr_json_read(out, path, MAX_CONFIG, err);
    if (st == MLXR_E_NOT_FOUND) {
        *out = json_object();
        st = *out ? MLXR_OK : mlxr_fail_nomem(err, "store");
    } else if (st == MLXR_OK && !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        st = mlxr_fail(err, MLXR_E_FORMAT, "%s: wanted an object", path);
    }
    free(path);
    return st;
}

/* 0: none. */
static mlxr_status read_quota(uint64_t *out, const mlxr_store *store, mlxr_error *err)
{
    json_t *config;
    int64_t quota = 0;
    mlxr_status st;

    *out = store->quota_bytes;
    if (*out) return MLXR_OK;
    if ((st = read_config(&config, store, err)) != MLXR_OK) return st;
    st = mlxr_json_get_int(&quota, config, "quota_bytes", 0, INT64_MAX, "the store's config.json", err);
    *out = (uint64_t)quota;
    json_decref(config);
    return st;
}

static mlxr_status add_size(void *ud, const char *name, const char *path, mlxr_error *err)
{
    uint64_t *used = ud;
    struct stat sb;

    if (lstat(path, &sb) == 0 && S_ISREG(sb.st_mode)) *used += (uint64_t)sb.st_size;
    return MLXR_OK;
}

static mlxr_status read_used(uint64_t *out, const mlxr_store *store, mlxr_error *err)
{
    char *dir = mlxr_store_path(store, "blobs/sha256");
    mlxr_status st;

    *out = 0;
    if (!dir) return mlxr_fail_nomem(err, "store");
    st = mlxr_dir_each(dir, add_size, out, err);
    free(dir);
    return st;
}

/* Room for n bytes, when `replaced` bytes go for them? */
static mlxr_status check_quota(const mlxr_store *store, uint64_t quota, uint64_t n, uint64_t replaced,
                               mlxr_error *err)
{
    uint64_t used;
    mlxr_status st;

    if (!quota || (st = read_used(&used, store, err)) != MLXR_OK) return quota ? st : MLXR_OK;
    used = used > replaced ? used - replaced : 0;
    if (n <= quota && used <= quota - n) return MLXR_OK;
    return mlxr_fail(err, MLXR_E_NO_SPACE,
                     "store %s: %llu bytes more go over its quota of %llu, of which %llu are in use",
                     store->root, (unsigned long long)n, (unsigned long long)quota, (unsigned long long)used);
}

mlxr_status mlxr_store_check_quota(mlxr_store *store, uint64_t n, mlxr_error *err)
{
    uint64_t quota;
    mlxr_status st = read_quota(&quota, store, err);
    return st == MLXR_OK ? check_quota(store, quota, n, 0, err) : st;
}

mlxr_status mlxr_store_quota(uint64_t *out_quota, uint64_t *out_used, mlxr_store *store, mlxr_error *err)
{
    mlxr_status st = read_quota(out_quota, store, err);
    return st == MLXR_OK ? read_used(out_used, store, err) : st;
}

mlxr_status mlxr_store_set_quota(mlxr_store *store, uint64_t quota_bytes, mlxr_error *err)
{
    char *path = mlxr_store_path(store, "config.json"), *text = NULL;
    json_t *config = NULL, *value = json_integer((json_int_t)quota_bytes);
    int lock = -1;
    mlxr_status st;

    if (!path || !value) {
        st = mlxr_fail_nomem(err, "store");
        goto done;
    }
    if (quota_bytes > INT64_MAX) {
        st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "store: a quota of %llu bytes, at most 2^63 - 1 can be",
                       (unsigned long long)quota_bytes);
        goto done;
    }
    if ((st = mlxr_io_make_dirs(&store->io, store->root, err)) != MLXR_OK) goto done;
    if ((st = mlxr_store_lock(&lock, store, true, NULL, err)) != MLXR_OK) goto done;
    if ((st = read_config(&config, store, err)) != MLXR_OK) goto done;
    if (quota_bytes == 0)
        (void)json_object_del(config, "quota_bytes");
    else if (json_object_set(config, "quota_bytes", value) != 0)
        st = mlxr_fail_nomem(err, "store");
    if (st == MLXR_OK && !(text = json_dumps(config, JSON_INDENT(2)))) st = mlxr_fail_nomem(err, "store");
    if (st == MLXR_OK) st = mlxr_io_write_file(&store->io, path, text, strlen(text), err);
done:
    mlxr_io_unlock(lock);
    json_decref(config);
    json_decref(value);
    free(path);
    free(text);
    return st;
}

/* ---- to their place ---- */

static mlxr_status sync_file(const mlxr_io *io, const char *path, mlxr_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    mlxr_status st;

    if (fd < 0) return mlxr_io_fail(err, path, "open", errno);
    st = mlxr_io_sync(io, fd, path, err);
    close(fd);
    return st;
}

/* Locked for a change that takes quota: alone when there is one, so that two processes do not both take the last of it. */
static mlxr_status lock_for_quota(int *lock, uint64_t *quota, mlxr_session *s, mlxr_error *err)
{
    const mlxr_store *store = mlxr_session_store(s);
    mlxr_status st = read_quota(quota, store, err);

    *lock = -1;
    return st == MLXR_OK ? mlxr_store_lock(lock, store, *quota > 0, NULL, err) : st;
}

/* The file at path, of the store's file system, becomes the blob. own: the store made it. */
static mlxr_status place(mlxr_session *s, const char *path, const char *digest, uint64_t size, bool replace,
                         bool own, mlxr_error *err)
{
    mlxr_store *store = mlxr_session_store(s);
    char *to = mlxr_store_blob_path(store, digest),
         *record = mlxr_store_path(store, "links/sha256/%s", digest + 7);
    mlxr_blob_state state;
    struct stat sb;
    uint64_t quota;
    int lock = -1;
    mlxr_status st;

    if (!to || !record) {
        st = mlxr_fail_nomem(err, "store");
        goto done;
    }
    if (stat(path, &sb) != 0) {
        st = mlxr_io_fail(err, path, "stat", errno);
        goto done;
    }
    if ((uint64_t)sb.st_size != size) {
        st = mlxr_fail(err, MLXR_E_CORRUPT, "%s: %lld bytes, wanted %llu for %s", path, (long long)sb.st_size,
                       (unsigned long long)size, digest);
        goto done;
    }
    if ((st = sync_file(&store->io, path, err)) != MLXR_OK) goto done;
    if ((st = lock_for_quota(&lock, &quota, s, err)) != MLXR_OK) goto done;
    if ((st = mlxr_session_note(s, digest, err)) != MLXR_OK) goto done;
    if ((st = mlxr_blob_state_of(&state, store, digest, size, err)) != MLXR_OK) goto done;
    if (!replace && (state == MLXR_BLOB_WHOLE || state == MLXR_BLOB_LINK)) {
        st = mlxr_io_unlink(&store->io, path, err);
        goto done;
    }
    if (quota) {
        uint64_t replaced = lstat(to, &sb) == 0 && S_ISREG(sb.st_mode) ? (uint64_t)sb.st_size : 0;
        if ((st = check_quota(store, quota, size, replaced, err)) != MLXR_OK) goto done;
    }
    if (mlxr_path_is_dir(to) && (st = mlxr_io_remove_tree(&store->io, to, err)) != MLXR_OK) goto done;
    if ((st = mlxr_io_rename(&store->io, path, to, err)) != MLXR_OK) goto done;
    /* After the rename, for who carries on with a file that is not whole has to be able to write it. Where there are no modes, there
     * are none. */
    if (own) (void)mlxr_io_chmod(&store->io, to, BLOB_MODE, NULL);
    if (state == MLXR_BLOB_LINK || state == MLXR_BLOB_LINK_CHANGED)
        st = mlxr_io_unlink(&store->io, record, err);
done:
    mlxr_io_unlock(lock);
    free(to);
    free(record);
    return st;
}

mlxr_status mlxr_session_commit(mlxr_session *s, const char *path, const char *digest, uint64_t size,
                                bool replace, mlxr_error *err)
{
    bool present;
    mlxr_status st = mlxr_session_want(s, digest, size, &present, err);

    if (st != MLXR_OK) return st;
    if (present && !replace) return mlxr_io_unlink(&mlxr_session_store(s)->io, path, err);
    return place(s, path, digest, size, replace, true, err);
}

/* As it was when it was hashed? */
static mlxr_status check_seen(const char *path, const struct stat *seen, mlxr_error *err)
{
    struct stat sb;

    if (stat(path, &sb) != 0) return mlxr_io_fail(err, path, "stat", errno);
    if (sb.st_size == seen->st_size && mtime_ns(&sb) == mtime_ns(seen) && sb.st_ino == seen->st_ino &&
        sb.st_dev == seen->st_dev)
        return MLXR_OK;
    return mlxr_fail(err, MLXR_E_BUSY, "%s: was changed while it was read; wait until it is finished", path);
}

static mlxr_status copy_file(mlxr_session *s, const char *from, const char *to, uint64_t size,
                             mlxr_error *err)
{
    const mlxr_io *io = &mlxr_session_store(s)->io;
    const char *slash = strrchr(from, '/');
    int in = open(from, O_RDONLY | O_CLOEXEC), fd = -1;
    char *chunk = malloc(COPY_CHUNK);
    uint64_t done = 0;
    mlxr_status st;

    if (in < 0) {
        st = mlxr_io_fail(err, from, "open", errno);
        goto done;
    }
    if (!chunk) {
        st = mlxr_fail_nomem(err, from);
        goto done;
    }
    if ((st = mlxr_io_create(&fd, io, to, true, err)) != MLXR_OK) goto done;
    while (done <= size) { /* one that grows for ever is not followed: the caller sees that it changed */
        ssize_t n = read(in, chunk, COPY_CHUNK);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            st = mlxr_io_fail(err, from, "read", errno);
            goto done;
        }
        if (n == 0) break;
        if ((st = mlxr_io_write(io, fd, to, chunk, (size_t)n, -1, err)) != MLXR_OK) goto done;
        done += (uint64_t)n;
        if (done > size) break;
        st = mlxr_store_pace_add(mlxr_session_pace(s), "copying", slash ? slash + 1 : from, (uint64_t)n, done,
                                 size, err);
        if (st != MLXR_OK) goto done;
    }
done:
    free(chunk);
    if (in >= 0) close(in);
    if (fd >= 0) close(fd);
    return st;
}

mlxr_status mlxr_session_take(mlxr_session *s, const char *path, const struct stat *seen, const char *digest,
                              bool copy, mlxr_error *err)
{
    const mlxr_io *io = &mlxr_session_store(s)->io;
    bool present, own = true;
    char *temp = NULL;
    mlxr_status st;

    if ((st = mlxr_session_want(s, digest, (uint64_t)seen->st_size, &present, err)) != MLXR_OK) return st;
    if (present) return MLXR_OK;
    if ((st = mlxr_store_check_quota(mlxr_session_store(s), (uint64_t)seen->st_size, err)) != MLXR_OK)
        return st;
    temp = mlxr_session_temp(s);
    if (!temp) return mlxr_fail_nomem(err, "store");
    if ((st = check_seen(path, seen, err)) != MLXR_OK) goto done;
    st = mlxr_io_clone(io, path, temp, err);
    if (st == MLXR_E_UNSUPPORTED && !copy) {
        st = mlxr_io_link(io, path, temp, err);
        own = st != MLXR_OK;
    }
    if (st == MLXR_E_UNSUPPORTED) st = copy_file(s, path, temp, (uint64_t)seen->st_size, err);
    if (st == MLXR_OK) st = check_seen(path, seen, err);
    if (st == MLXR_OK) st = place(s, temp, digest, (uint64_t)seen->st_size, false, own, err);
done:
    if (st != MLXR_OK) (void)mlxr_io_unlink(io, temp, NULL);
    free(temp);
    return st;
}

static mlxr_status write_record(const mlxr_store *store, const char *hex, const char *path,
                                const struct stat *seen, mlxr_error *err)
{
    char *dir = mlxr_store_path(store, "links/sha256"),
         *record = mlxr_store_path(store, "links/sha256/%s", hex);
    mlxr_buf b = {0};
    mlxr_status st;

    mlxr_buf_str(&b, "{\"path\":");
    mlxr_json_escape(&b, path, strlen(path));
    mlxr_buf_printf(&b, ",\"size\":%lld,\"mtime_ns\":%lld}", (long long)seen->st_size,
                    (long long)mtime_ns(seen));
    st = dir && record ? mlxr_buf_check(&b, "store", err) : mlxr_fail_nomem(err, "store");
    if (st == MLXR_OK) st = mlxr_io_make_dirs(&store->io, dir, err);
    if (st == MLXR_OK) st = mlxr_io_write_file(&store->io, record, b.data, b.len, err);
    mlxr_buf_clear(&b);
    free(dir);
    free(record);
    return st;
}

mlxr_status mlxr_session_link(mlxr_session *s, const char *path, const struct stat *seen, const char *digest,
                              mlxr_error *err)
{
    mlxr_store *store = mlxr_session_store(s);
    char *target = NULL, *temp = NULL, *to = NULL;
    mlxr_blob_state state;
    bool present;
    int lock = -1;
    mlxr_status st;

    if ((st = mlxr_session_want(s, digest, (uint64_t)seen->st_size, &present, err)) != MLXR_OK) return st;
    if (present) return MLXR_OK;
    target = realpath(path, NULL);
    if (!target) return mlxr_io_fail(err, path, "find", errno);
    temp = mlxr_session_temp(s);
    to = mlxr_store_blob_path(store, digest);
    if (!temp || !to) {
        st = mlxr_fail_nomem(err, "store");
        goto done;
    }
    if (mlxr_utf8_valid(target, strlen(target)) != strlen(target)) {
        st = mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s: a path that is not UTF-8 cannot be linked to", path);
        goto done;
    }
    if ((st = mlxr_io_symlink(&store->io, target, temp, err)) != MLXR_OK) goto done;
    /* Alone: record and link of two calls for one digest must not be mixed. */
    if ((st = mlxr_store_lock(&lock, store, true, NULL, err)) != MLXR_OK) goto done;
    if ((st = check_seen(target, seen, err)) != MLXR_OK) goto done;
    if ((st = mlxr_blob_state_of(&state, store, digest, (uint64_t)seen->st_size, err)) != MLXR_OK) goto done;
    if (state == MLXR_BLOB_WHOLE || state == MLXR_BLOB_LINK) goto done;
    if ((st = write_record(store, digest + 7, target, seen, err)) != MLXR_OK) goto done;
    if ((st = mlxr_io_rename(&store->io, temp, to, err)) != MLXR_OK) goto done;
    free(temp);
    temp = NULL;
done:
    mlxr_io_unlock(lock);
    if (temp) (void)mlxr_io_unlink(&store->io, temp, NULL);
    free(temp);
    free(to);
    free(target);
    return st;
}

mlxr_status mlxr_session_put(mlxr_session *s, mlxr_layer *out, const void *data, size_t n, mlxr_error *err)
{
    const mlxr_io *io = &mlxr_session_store(s)->io;
    char digest[72] = "sha256:", *temp = NULL;
    bool present;
    int fd = -1;
    mlxr_status st;

    if ((st = mlxr_sha256_hex(digest + 7, data, n, err)) != MLXR_OK) return st;
    if ((st = mlxr_session_want(s, digest, n, &present, err)) != MLXR_OK) return st;
    if (!present) {
        temp = mlxr_session_temp(s);
        if (!temp) return mlxr_fail_nomem(err, "store");
        if ((st = mlxr_io_create(&fd, io, temp, true, err)) != MLXR_OK) goto done;
        if ((st = mlxr_io_write(io, fd, temp, data, n, -1, err)) != MLXR_OK) goto done;
        if ((st = place(s, temp, digest, n, false, true, err)) != MLXR_OK) goto done;
    }
    memcpy(out->digest, digest, sizeof digest);
    out->size = n;
done:
    if (fd >= 0) close(fd);
    if (st != MLXR_OK && temp) (void)mlxr_io_unlink(io, temp, NULL);
    free(temp);
    return st;
}
