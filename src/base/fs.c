/* Files: reads, mappings, atomic writes, paths. */
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static mlxr_status status_of(int errno_value)
{
    switch (errno_value) {
    case ENOENT:
    case ENOTDIR: return MLXR_E_NOT_FOUND;
    case ENOMEM: return MLXR_E_NOMEM;
    case ENOSPC:
    case EDQUOT: return MLXR_E_NO_SPACE;
    default: return MLXR_E_IO;
    }
}

static mlxr_status fail_errno(mlxr_error *err, const char *path, const char *doing)
{
    int e = errno;
    return mlxr_fail(err, status_of(e), "%s: cannot %s: %s", path, doing, strerror(e));
}

/* Opens a regular file; anything else (a folder, a pipe that would block) is refused by name. */
static mlxr_status open_regular(int *fd, struct stat *st, const char *path, mlxr_error *err)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) return fail_errno(err, path, "open");
    if (fstat(*fd, st) != 0) return fail_errno(err, path, "stat");
    if (!S_ISREG(st->st_mode))
        return mlxr_fail(err, MLXR_E_IO, "%s: is %s, not a regular file", path,
                         S_ISDIR(st->st_mode) ? "a folder" : "a special file");
    return MLXR_OK;
}

mlxr_status mlxr_file_read(mlxr_buf *out, const char *path, size_t max_bytes, mlxr_error *err)
{
    struct stat sb;
    int fd = -1;
    size_t total = 0, len = out->len;
    mlxr_status st = open_regular(&fd, &sb, path, err);

    if (st != MLXR_OK) goto done;
    if ((uint64_t)sb.st_size > max_bytes) {
        st = mlxr_fail(err, MLXR_E_LIMIT, "%s: %lld bytes, at most %zu are read here", path,
                       (long long)sb.st_size, max_bytes);
        goto done;
    }
    for (;;) { /* to its end, even if it grows or shrinks meanwhile */
        size_t room = total < (size_t)sb.st_size ? (size_t)sb.st_size - total : 4096;
        char *p = mlxr_buf_reserve(out, room);
        ssize_t n;
        if (!p) {
            st = mlxr_fail_nomem(err, path);
            goto done;
        }
        n = read(fd, p, room);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            st = fail_errno(err, path, "read");
            goto done;
        }
        if (n == 0) break;
        out->len += (size_t)n;
        total += (size_t)n;
        if (total > max_bytes) {
            st = mlxr_fail(err, MLXR_E_LIMIT, "%s: at most %zu bytes are read here", path, max_bytes);
            goto done;
        }
    }
done:
    if (st != MLXR_OK) out->len = len;
    if (out->data) out->data[out->len] = '\0';
    if (fd >= 0) close(fd);
    return st;
}

mlxr_status mlxr_map_open(mlxr_map *map, const char *path, mlxr_error *err)
{
    struct stat sb;
    int fd = -1;
    mlxr_status st;

    *map = (mlxr_map){.data = (const uint8_t *)""};
    st = open_regular(&fd, &sb, path, err);
    if (st != MLXR_OK) goto done;
    if ((uint64_t)sb.st_size > SIZE_MAX) {
        st = mlxr_fail(err, MLXR_E_LIMIT, "%s: too large to map", path);
        goto done;
    }
    if (sb.st_size > 0) {
        void *p = mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) {
            st = fail_errno(err, path, "map");
            goto done;
        }
        *map = (mlxr_map){.data = p, .n_bytes = (size_t)sb.st_size, .mapped = true};
        map->guard = mlxr_guard_add(p, map->n_bytes);
    }
done:
    if (fd >= 0) close(fd);
    return st;
}

void mlxr_map_close(mlxr_map *map)
{
    if (!map) return;
    mlxr_guard_remove(map->guard);
    if (map->mapped) munmap((void *)(uintptr_t)map->data, map->n_bytes);
    *map = (mlxr_map){0};
}

/* ---- atomic writes ---- */

struct mlxr_atomic_file {
    int fd;
    char *path, *temp;
    bool committed;
};

mlxr_status mlxr_atomic_file_open(mlxr_atomic_file **out, const char *path, mlxr_error *err)
{
    mlxr_atomic_file *f = calloc(1, sizeof *f);
    mlxr_status st = MLXR_OK;

    *out = NULL;
    if (!f) return mlxr_fail_nomem(err, path);
    f->fd = -1;
    f->path = mlxr_strdup(path);
    if (!f->path) {
        st = mlxr_fail_nomem(err, path);
        goto done;
    }
    /* Not mkstemp: its files are 0600 for ever, here the user's umask decides, as for any file of theirs. */
    for (unsigned i = 0; f->fd < 0 && i < 100; i++) {
        free(f->temp);
        f->temp = mlxr_asprintf("%s.tmp.%08x", path,
                                (unsigned)(mlxr_now_ns() * 2654435761u) ^ (unsigned)getpid() << 16 ^ i);
        if (!f->temp) {
            st = mlxr_fail_nomem(err, path);
            goto done;
        }
        f->fd = open(f->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (f->fd < 0 && errno != EEXIST) break;
    }
    if (f->fd < 0) {
        st = fail_errno(err, path, "create");
        goto done;
    }
    *out = f;
    f = NULL;
done:
    mlxr_atomic_file_close(f);
    return st;
}

mlxr_status mlxr_atomic_file_write(mlxr_atomic_file *f, const void *data, size_t n_bytes, mlxr_error *err)
{
    const char *p = data;
    while (n_bytes > 0) {
        ssize_t n = write(f->fd, p, n_bytes < ((size_t)1 << 30) ? n_bytes : (size_t)1 << 30);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno(err, f->path, "write");
        p += n;
        n_bytes -= (size_t)n;
    }
    return MLXR_OK;
}

mlxr_status mlxr_atomic_file_commit(mlxr_atomic_file *f, mlxr_error *err)
{
    char *dir = mlxr_path_dirname(f->path);
    mlxr_status st = MLXR_OK;
    int fd;

    if (!dir) return mlxr_fail_nomem(err, f->path);
    if (fsync(f->fd) != 0) {
        st = fail_errno(err, f->path, "sync");
        goto done;
    }
    if (rename(f->temp, f->path) != 0) {
        st = fail_errno(err, f->path, "rename to");
        goto done;
    }
    f->committed = true;
    fd = open(dir, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd); /* some file systems cannot sync a folder: the file itself is safe */
        close(fd);
    }
done:
    free(dir);
    return st;
}

void mlxr_atomic_file_close(mlxr_atomic_file *f)
{
    if (!f) return;
    if (f->fd >= 0) {
        close(f->fd);
        if (!f->committed) unlink(f->temp);
    }
    free(f->path);
    free(f->temp);
    free(f);
}

mlxr_status mlxr_file_write(const char *path, const void *data, size_t n_bytes, mlxr_error *err)
{
    mlxr_atomic_file *f = NULL;
    mlxr_status st = mlxr_atomic_file_open(&f, path, err);
    if (st == MLXR_OK) st = mlxr_atomic_file_write(f, data, n_bytes, err);
    if (st == MLXR_OK) st = mlxr_atomic_file_commit(f, err);
    mlxr_atomic_file_close(f);
    return st;
}

/* ---- paths ---- */

bool mlxr_path_is_dir(const char *path)
{
    struct stat sb;
    return stat(path, &sb) == 0 && S_ISDIR(sb.st_mode);
}

bool mlxr_path_is_file(const char *path)
{
    struct stat sb;
    return stat(path, &sb) == 0 && S_ISREG(sb.st_mode);
}

mlxr_status mlxr_make_dirs(const char *path, mlxr_error *err)
{
    char *p = mlxr_strdup(path);
    mlxr_status st = MLXR_OK;

    if (!p) return mlxr_fail_nomem(err, path);
    for (char *s = p + 1; p[0]; s++) {
        char c = *s;
        if (c != '/' && c != '\0') continue;
        *s = '\0';
        if (mkdir(p, 0777) != 0 && errno != EEXIST) {
            int e = errno; /* one that is there may also give EISDIR, EROFS or EACCES: those do no harm */
            if (!mlxr_path_is_dir(p)) {
                errno = e;
                st = fail_errno(err, p, "make the folder");
                break;
            }
        }
        *s = c;
        if (c == '\0') break;
    }
    if (st == MLXR_OK && !mlxr_path_is_dir(path)) st = mlxr_fail(err, MLXR_E_IO, "%s: is not a folder", path);
    free(p);
    return st;
}

char *mlxr_path_join(const char *dir, const char *name)
{
    size_t n = strlen(dir);
    if (name[0] == '/' || n == 0) return mlxr_strdup(name);
    return mlxr_asprintf("%s%s%s", dir, dir[n - 1] == '/' ? "" : "/", name);
}

char *mlxr_path_dirname(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash) return mlxr_strdup(".");
    while (slash > path && slash[-1] == '/') slash--;
    return slash == path ? mlxr_strdup("/") : mlxr_strndup(path, (size_t)(slash - path));
}
