/* io: see io.h. */
#include "store/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#ifdef __linux__
#include <linux/fs.h>
#include <sys/ioctl.h>
#endif
#ifdef __APPLE__
#include <sys/clonefile.h>
#endif

enum { N_TRIES = 100 }; /* of names that somebody else may have */

mlxr_status mlxr_io_fail(mlxr_error *err, const char *path, const char *verb, int e)
{
    mlxr_status st = MLXR_E_IO;

    switch (e) {
    case ENOSPC:
    case EDQUOT: st = MLXR_E_NO_SPACE; break;
    case EACCES:
    case EPERM:
    case EROFS: st = MLXR_E_DENIED; break;
    case ENOENT: st = MLXR_E_NOT_FOUND; break;
    case ENOMEM: st = MLXR_E_NOMEM; break;
    default: break;
    }
    return mlxr_fail(err, st, "%s: cannot %s: %s", path, verb, strerror(e));
}

/* What a test says to a change before it is made: 0, or the errno that it fails with. */
static int asked(const mlxr_io *io, const char *kind, const char *path)
{
    return io && io->fault ? io->fault(kind, path, io->ud) : 0;
}

/* ---- files ---- */

static mlxr_status open_file(int *out_fd, const mlxr_io *io, const char *path, int flags, const char *kind,
                             mlxr_error *err)
{
    int e = asked(io, kind, path);

    *out_fd = -1;
    if (e) return mlxr_io_fail(err, path, kind, e);
    do *out_fd = open(path, flags | O_CLOEXEC, 0666);
    while (*out_fd < 0 && errno == EINTR);
    return *out_fd < 0 ? mlxr_io_fail(err, path, kind, errno) : MLXR_OK;
}

mlxr_status mlxr_io_create(int *out_fd, const mlxr_io *io, const char *path, bool exclusive, mlxr_error *err)
{
    return open_file(out_fd, io, path, O_RDWR | O_CREAT | (exclusive ? O_EXCL : O_TRUNC), "create", err);
}

mlxr_status mlxr_io_open_write(int *out_fd, const mlxr_io *io, const char *path, mlxr_error *err)
{
    return open_file(out_fd, io, path, O_RDWR, "open", err);
}

mlxr_status mlxr_io_write(const mlxr_io *io, int fd, const char *path, const void *data, size_t n,
                          int64_t offset, mlxr_error *err)
{
    const char *p = data;
    int e = asked(io, "write", path);

    if (e) return mlxr_io_fail(err, path, "write", e);
    while (n > 0) {
        size_t k = n < ((size_t)1 << 30) ? n : (size_t)1 << 30;
        ssize_t did = offset < 0 ? write(fd, p, k) : pwrite(fd, p, k, (off_t)offset);
        if (did < 0 && errno == EINTR) continue;
        if (did < 0) return mlxr_io_fail(err, path, "write", errno);
        p += did;
        n -= (size_t)did;
        if (offset >= 0) offset += did;
    }
    return MLXR_OK;
}

mlxr_status mlxr_io_sync(const mlxr_io *io, int fd, const char *path, mlxr_error *err)
{
    int e = asked(io, "sync", path);

    if (e) return mlxr_io_fail(err, path, "sync", e);
    while (fsync(fd) != 0)
        if (errno != EINTR) return mlxr_io_fail(err, path, "sync", errno);
    return MLXR_OK;
}

mlxr_status mlxr_io_sync_dir(const mlxr_io *io, const char *dir, mlxr_error *err)
{
    int fd, e = asked(io, "sync", dir);

    if (e) return mlxr_io_fail(err, dir, "sync", e);
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return errno == EACCES ? MLXR_OK : mlxr_io_fail(err, dir, "open", errno);
    e = fsync(fd) == 0 ? 0 : errno;
    close(fd);
    if (e == 0 || e == EINVAL || e == EBADF || e == EROFS || e == ENOTSUP || e == EINTR) return MLXR_OK;
    return mlxr_io_fail(err, dir, "sync", e);
}

mlxr_status mlxr_io_truncate(const mlxr_io *io, int fd, const char *path, uint64_t n, mlxr_error *err)
{
    int e = asked(io, "truncate", path);

    if (e) return mlxr_io_fail(err, path, "resize", e);
    while (ftruncate(fd, (off_t)n) != 0)
        if (errno != EINTR) return mlxr_io_fail(err, path, "resize", errno);
    return MLXR_OK;
}

mlxr_status mlxr_io_rename(const mlxr_io *io, const char *from, const char *to, mlxr_error *err)
{
    int e = asked(io, "rename", to);

    if (!e && rename(from, to) != 0) e = errno;
    return e ? mlxr_io_fail(err, to, "rename to", e) : MLXR_OK;
}

mlxr_status mlxr_io_link(const mlxr_io *io, const char *from, const char *to, mlxr_error *err)
{
    int e = asked(io, "link", to);

    if (!e && linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW) != 0) {
        e = errno;
        if (e == EXDEV || e == EMLINK || e == EPERM || e == EACCES || e == ENOTSUP || e == ENOSYS)
            return mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s: cannot link: %s", to, strerror(e));
    }
    return e ? mlxr_io_fail(err, to, "link", e) : MLXR_OK;
}

mlxr_status mlxr_io_symlink(const mlxr_io *io, const char *target, const char *path, mlxr_error *err)
{
    int e = asked(io, "symlink", path);

    if (!e && symlink(target, path) != 0) e = errno;
    return e ? mlxr_io_fail(err, path, "make the link", e) : MLXR_OK;
}

mlxr_status mlxr_io_chmod(const mlxr_io *io, const char *path, mode_t mode, mlxr_error *err)
{
    int e = asked(io, "chmod", path);

    if (!e && chmod(path, mode) != 0) e = errno;
    return e ? mlxr_io_fail(err, path, "change the mode", e) : MLXR_OK;
}

mlxr_status mlxr_io_clone(const mlxr_io *io, const char *from, const char *to, mlxr_error *err)
{
    int e = asked(io, "clone", to);

    if (e) return mlxr_io_fail(err, to, "clone", e);
#if defined(__linux__) && defined(FICLONE)
    {
        int source = open(from, O_RDONLY | O_CLOEXEC), fd;
        mlxr_status st;

        if (source < 0) return mlxr_io_fail(err, from, "open", errno);
        fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0) {
            e = errno;
            close(source);
            return mlxr_io_fail(err, to, "create", e);
        }
        e = ioctl(fd, FICLONE, source) == 0 ? 0 : errno;
        close(source);
        close(fd);
        if (!e) return MLXR_OK;
        /* What remains there would be in the way of the copy that is made instead. */
        if ((st = mlxr_io_unlink(io, to, err)) != MLXR_OK) return st;
        if (e == ENOSPC || e == EDQUOT || e == EIO || e == ENOMEM) return mlxr_io_fail(err, to, "clone", e);
    }
#elif defined(__APPLE__)
    if (clonefile(from, to, 0) == 0) return MLXR_OK;
    e = errno;
    if (e != ENOTSUP && e != EXDEV) return mlxr_io_fail(err, to, "clone", e);
#else
    e = ENOTSUP;
#endif
    return mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s: cannot clone: %s", to, strerror(e));
}

mlxr_status mlxr_io_unlink(const mlxr_io *io, const char *path, mlxr_error *err)
{
    int e = asked(io, "unlink", path);

    if (!e && unlink(path) != 0 && errno != ENOENT) e = errno;
    return e ? mlxr_io_fail(err, path, "remove", e) : MLXR_OK;
}

/* ---- folders ---- */

static mlxr_status make_dir(const mlxr_io *io, const char *path, mlxr_error *err)
{
    char *parent;
    mlxr_status st;
    int e;

    if (mlxr_path_is_dir(path)) return MLXR_OK;
    e = asked(io, "mkdir", path);
    if (!e && mkdir(path, 0777) != 0) e = errno;
    if (e == EEXIST && mlxr_path_is_dir(path)) return MLXR_OK;
    if (e) return mlxr_io_fail(err, path, "make the folder", e);
    parent = mlxr_path_dirname(path);
    if (!parent) return mlxr_fail_nomem(err, path);
    st = mlxr_io_sync_dir(io, parent, err);
    free(parent);
    return st;
}

mlxr_status mlxr_io_make_dirs(const mlxr_io *io, const char *path, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;
    char *p;

    if (mlxr_path_is_dir(path)) return MLXR_OK;
    p = mlxr_strdup(path);
    if (!p) return mlxr_fail_nomem(err, path);
    for (char *s = p; *s && st == MLXR_OK; s++) {
        if (s == p || *s != '/' || s[-1] == '/') continue;
        *s = '\0';
        st = make_dir(io, p, err);
        *s = '/';
    }
    if (st == MLXR_OK) st = make_dir(io, p, err);
    free(p);
    return st;
}

mlxr_status mlxr_io_remove_dir(const mlxr_io *io, const char *path, mlxr_error *err)
{
    int e = asked(io, "rmdir", path);

    if (!e && rmdir(path) != 0 && errno != ENOENT && errno != ENOTEMPTY && errno != EEXIST) e = errno;
    return e ? mlxr_io_fail(err, path, "remove the folder", e) : MLXR_OK;
}

/* Removes what is no folder in dir; *inner: the name of a folder in it, or NULL. */
static mlxr_status remove_files(char **inner, const mlxr_io *io, const char *dir, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;
    const struct dirent *e;
    DIR *d = opendir(dir);

    *inner = NULL;
    if (!d) return errno == ENOENT ? MLXR_OK : mlxr_io_fail(err, dir, "open", errno);
    while (st == MLXR_OK && (e = readdir(d)) != NULL) {
        struct stat sb;
        char *path;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        path = mlxr_path_join(dir, e->d_name);
        if (!path) {
            st = mlxr_fail_nomem(err, dir);
        } else if (lstat(path, &sb) != 0) {
            if (errno != ENOENT) st = mlxr_io_fail(err, path, "stat", errno);
        } else if (!S_ISDIR(sb.st_mode)) {
            st = mlxr_io_unlink(io, path, err);
        } else if (!*inner) {
            *inner = mlxr_strdup(e->d_name);
            if (!*inner) st = mlxr_fail_nomem(err, dir);
        }
        free(path);
    }
    closedir(d);
    return st;
}

/* Down into the first folder that is left, up when there is none: no stack, however deep it goes. */
mlxr_status mlxr_io_remove_tree(const mlxr_io *io, const char *path, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;
    mlxr_buf at = {0};
    size_t n_top = strlen(path), n_before = SIZE_MAX;
    struct stat sb;

    if (lstat(path, &sb) != 0) return errno == ENOENT ? MLXR_OK : mlxr_io_fail(err, path, "stat", errno);
    if (!S_ISDIR(sb.st_mode)) return mlxr_io_unlink(io, path, err);
    mlxr_buf_str(&at, path);
    while ((st = mlxr_buf_check(&at, path, err)) == MLXR_OK) {
        char *inner;
        if ((st = remove_files(&inner, io, at.data, err)) != MLXR_OK) {
            free(inner);
            break;
        }
        if (inner) {
            mlxr_buf_char(&at, '/');
            mlxr_buf_str(&at, inner);
            free(inner);
            n_before = SIZE_MAX;
            continue;
        }
        if ((st = mlxr_io_remove_dir(io, at.data, err)) != MLXR_OK) break;
        if (lstat(at.data, &sb) == 0) { /* somebody puts files into it: once more, but not for ever */
            if (n_before == at.len) {
                st = mlxr_io_fail(err, at.data, "remove the folder", ENOTEMPTY);
                break;
            }
            n_before = at.len;
            continue;
        }
        if (at.len == n_top) break;
        while (at.data[at.len - 1] != '/') at.len--;
        at.data[--at.len] = '\0';
    }
    mlxr_buf_clear(&at);
    return st;
}

/* ---- locks ---- */

/* Whether path still leads to the file that fd is. */
static bool is_same(int fd, const char *path)
{
    struct stat a, b;
    return fstat(fd, &a) == 0 && lstat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* 0: locked; else why not. */
static int lock_fd(int fd, int how, bool wait, const volatile int *cancel)
{
    struct timespec pause = {0, 1000000};

    for (;;) {
        int flags = wait && !cancel ? how : how | LOCK_NB;
        if (flock(fd, flags) == 0) return 0;
        if (errno == EINTR) continue;
        if (errno != EWOULDBLOCK || !wait) return errno;
        if (mlxr_cancelled(cancel)) return ECANCELED;
        nanosleep(&pause, NULL);
        if (pause.tv_nsec < 50000000) pause.tv_nsec *= 2;
    }
}

static mlxr_status open_lock(int *out_fd, const mlxr_io *io, const char *path, mlxr_error *err)
{
    int e;

    do *out_fd = open(path, O_RDWR | O_CLOEXEC);
    while (*out_fd < 0 && errno == EINTR);
    if (*out_fd >= 0) return MLXR_OK;
    /* One that is there but not ours to write can be locked all the same. */
    if (errno == EACCES || errno == EROFS || errno == EPERM) *out_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*out_fd >= 0) return MLXR_OK;
    if (errno != ENOENT) return mlxr_io_fail(err, path, "open", errno);
    e = asked(io, "create", path);
    if (!e) {
        *out_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (*out_fd < 0) e = errno;
    }
    return e ? mlxr_io_fail(err, path, "create", e) : MLXR_OK;
}

mlxr_status mlxr_io_lock(int *out_fd, const mlxr_io *io, const char *path, bool exclusive, bool wait,
                         const volatile int *cancel, mlxr_error *err)
{
    *out_fd = -1;
    for (;;) {
        int fd, e;
        mlxr_status st = open_lock(&fd, io, path, err);
        if (st != MLXR_OK) return st;
        e = lock_fd(fd, exclusive ? LOCK_EX : LOCK_SH, wait, cancel);
        if (e == 0 && is_same(fd, path)) {
            *out_fd = fd;
            return MLXR_OK;
        }
        close(fd);
        if (e == 0) continue; /* it was removed while we waited */
        if (e == ECANCELED) return mlxr_fail(err, MLXR_E_CANCELLED, "%s: cancelled while waiting", path);
        if (e == EWOULDBLOCK) return mlxr_fail(err, MLXR_E_BUSY, "%s: another process holds the lock", path);
        return mlxr_io_fail(err, path, "lock", e);
    }
}

void mlxr_io_unlock(int fd)
{
    if (fd < 0) return;
    (void)flock(fd, LOCK_UN); /* a child made by fork may have the file open still */
    close(fd);
}

/* ---- small files ---- */

/* The name begins with ".", as no name of the store's does, and ends in ".tmp". */
static char *temp_path(const char *path, unsigned i)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    unsigned salt = (unsigned)(mlxr_now_ns() * 2654435761u) ^ (unsigned)getpid() << 16 ^
                    (unsigned)((uintptr_t)&salt >> 4) ^ i;

    return mlxr_asprintf("%.*s.%.100s.%08x.tmp", (int)(base - path), path, base, salt);
}

bool mlxr_io_is_temp(const char *name)
{
    size_t n = strlen(name);
    return n > 14 && name[0] == '.' && strcmp(name + n - 4, ".tmp") == 0;
}

/* Created, and locked before anybody who clears away could take it for a dead one. */
static mlxr_status make_temp(int *out_fd, char **out_path, const mlxr_io *io, const char *path,
                             mlxr_error *err)
{
    *out_fd = -1;
    *out_path = NULL;
    for (unsigned i = 0; i < N_TRIES; i++) {
        char *temp = temp_path(path, i);
        int fd, e;

        if (!temp) return mlxr_fail_nomem(err, path);
        e = asked(io, "create", temp);
        fd = e ? -1 : open(temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0 && (e || errno != EEXIST)) {
            mlxr_status st = mlxr_io_fail(err, path, "create", e ? e : errno);
            free(temp);
            return st;
        }
        if (fd >= 0) {
            e = lock_fd(fd, LOCK_EX, false, NULL);
            /* Where files cannot be locked at all, nobody clears away what is not locked either. */
            if ((e == 0 && is_same(fd, temp)) || (e != 0 && e != EWOULDBLOCK)) {
                *out_fd = fd;
                *out_path = temp;
                return MLXR_OK;
            }
            close(fd);
        }
        free(temp);
    }
    return mlxr_io_fail(err, path, "create", EEXIST);
}

mlxr_status mlxr_io_write_file(const mlxr_io *io, const char *path, const void *data, size_t n,
                               mlxr_error *err)
{
    char *temp = NULL, *dir = mlxr_path_dirname(path);
    int fd = -1;
    mlxr_status st;

    if (!dir) return mlxr_fail_nomem(err, path);
    if ((st = make_temp(&fd, &temp, io, path, err)) != MLXR_OK) goto done;
    if ((st = mlxr_io_write(io, fd, temp, data, n, -1, err)) != MLXR_OK) goto done;
    if ((st = mlxr_io_sync(io, fd, temp, err)) != MLXR_OK) goto done;
    if ((st = mlxr_io_rename(io, temp, path, err)) != MLXR_OK) goto done;
    free(temp);
    temp = NULL;
    st = mlxr_io_sync_dir(io, dir, err);
done:
    if (temp) (void)mlxr_io_unlink(io, temp, NULL);
    if (fd >= 0) mlxr_io_unlock(fd);
    free(temp);
    free(dir);
    return st;
}

mlxr_status mlxr_io_remove_temp(bool *removed, const mlxr_io *io, const char *path, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    *removed = false;
    if (fd < 0) return errno == ENOENT || errno == ELOOP ? MLXR_OK : mlxr_io_fail(err, path, "open", errno);
    if (lock_fd(fd, LOCK_EX, false, NULL) == 0) {
        st = mlxr_io_unlink(io, path, err);
        *removed = st == MLXR_OK;
    }
    mlxr_io_unlock(fd);
    return st;
}
