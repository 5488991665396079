/* The folder around the weights: made new, the rest of the old one copied into it, and taken away again after a failure. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "convert/plan.h"

enum { MAX_DEPTH = 4, CHUNK = 1 << 20 };

/* ---- what was made: noted before it is, so that nothing is forgotten ---- */

mlxr_status mlxr_made_add(mlxr_made *made, const char *path, bool is_dir, mlxr_error *err)
{
    char *copy = mlxr_strdup(path);

    if (made->n == made->cap) {
        const size_t cap = made->cap ? 2 * made->cap : 16;
        char **paths = mlxr_realloc_array(made->paths, cap, sizeof *paths);
        bool *are_dirs = NULL;
        if (paths) {
            made->paths = paths;
            are_dirs = mlxr_realloc_array(made->are_dirs, cap, sizeof *are_dirs);
        }
        if (are_dirs) {
            made->are_dirs = are_dirs;
            made->cap = cap;
        }
    }
    if (!copy || made->n == made->cap) {
        free(copy);
        return mlxr_fail_nomem(err, "convert");
    }
    made->paths[made->n] = copy;
    made->are_dirs[made->n++] = is_dir;
    return MLXR_OK;
}

void mlxr_made_remove(mlxr_made *made)
{
    for (size_t i = made->n; i-- > 0;) {
        if (made->are_dirs[i])
            (void)rmdir(made->paths[i]);
        else
            (void)unlink(made->paths[i]);
    }
}

void mlxr_made_clear(mlxr_made *made)
{
    for (size_t i = 0; i < made->n; i++) free(made->paths[i]);
    free(made->paths);
    free(made->are_dirs);
    *made = (mlxr_made){0};
}

static mlxr_status fail_errno(mlxr_error *err, const char *path, const char *verb)
{
    const int e = errno;
    const mlxr_status code = e == ENOSPC || e == EDQUOT                ? MLXR_E_NO_SPACE
                             : e == EACCES || e == EPERM || e == EROFS ? MLXR_E_DENIED
                                                                       : MLXR_E_IO;
    return mlxr_fail(err, code, "%s: cannot %s: %s", path, verb, strerror(e));
}

mlxr_status mlxr_new_folder(mlxr_made *made, const char *dir, mlxr_error *err)
{
    const struct dirent *e;
    mlxr_status st;
    DIR *d;

    if (mlxr_path_is_dir(dir)) {
        if (!(d = opendir(dir))) return fail_errno(err, dir, "read the folder");
        st = MLXR_OK;
        while ((e = readdir(d)) != NULL && st == MLXR_OK) {
            if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
                st = mlxr_fail(
                    err, MLXR_E_INVALID_ARGUMENT,
                    "convert: %s is there and is not empty; the new model wants a folder of its own", dir);
        }
        closedir(d);
        return st;
    }
    if ((st = mlxr_made_add(made, dir, true, err)) != MLXR_OK) return st;
    return mlxr_make_dirs(dir, err);
}

/* ---- the rest of the folder ---- */

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), n_end = strlen(end);
    return n >= n_end && strcmp(s + n - n_end, end) == 0;
}

/* Weights in whatever form, which would not be those of the new model, and what tools leave lying about. */
static bool stays_behind(const char *name, bool is_dir)
{
    static const char *const endings[] = {".safetensors",
                                          ".safetensors.index.json",
                                          ".gguf",
                                          ".bin",
                                          ".bin.index.json",
                                          ".pt",
                                          ".pth",
                                          ".ckpt",
                                          ".h5",
                                          ".msgpack",
                                          ".onnx",
                                          ".npz",
                                          ".tflite",
                                          ".pyc",
                                          ".lock",
                                          ".incomplete"};

    if (name[0] == '.') return true;
    if (is_dir) return strcmp(name, "__pycache__") == 0;
    for (size_t i = 0; i < MLXR_COUNT(endings); i++)
        if (ends_with(name, endings[i])) return true;
    return false;
}

static mlxr_status copy_file(mlxr_made *made, const char *from, const char *to, const volatile int *cancel,
                             mlxr_error *err)
{
    mlxr_atomic_file *out = NULL;
    char *chunk = malloc(CHUNK);
    int fd = open(from, O_RDONLY | O_CLOEXEC);
    mlxr_status st = MLXR_OK;
    ssize_t n;

    if (!chunk)
        st = mlxr_fail_nomem(err, "convert");
    else if (fd < 0)
        st = fail_errno(err, from, "open");
    if (st == MLXR_OK) st = mlxr_made_add(made, to, false, err);
    if (st == MLXR_OK) st = mlxr_atomic_file_open(&out, to, err);
    while (st == MLXR_OK && (n = read(fd, chunk, CHUNK)) != 0) {
        if (n < 0 && errno == EINTR) continue;
        if (n < 0)
            st = fail_errno(err, from, "read");
        else if (mlxr_cancelled(cancel))
            st = mlxr_fail(err, MLXR_E_CANCELLED, "convert: cancelled");
        else
            st = mlxr_atomic_file_write(out, chunk, (size_t)n, err);
    }
    if (st == MLXR_OK) st = mlxr_atomic_file_commit(out, err);
    mlxr_atomic_file_close(out);
    if (fd >= 0) close(fd);
    free(chunk);
    return st;
}

static mlxr_status copy_folder(mlxr_made *made, const char *from, const char *to, const volatile int *cancel,
                               int depth, mlxr_error *err);

/* One entry; a folder is made only when something of it is copied, and one behind a link is left out: it could lead anywhere. */
static mlxr_status copy_entry(mlxr_made *made, const char *from, const char *to, const char *name,
                              const volatile int *cancel, int depth, mlxr_error *err)
{
    char *from_path = mlxr_path_join(from, name), *to_path = mlxr_path_join(to, name);
    struct stat link, sb;
    mlxr_status st = MLXR_OK;

    if (!from_path || !to_path)
        st = mlxr_fail_nomem(err, "convert");
    else if (lstat(from_path, &link) != 0 || stat(from_path, &sb) != 0)
        st = errno == ENOENT ? MLXR_OK : fail_errno(err, from_path, "read"); /* gone, or a link to nothing */
    else if (stays_behind(name, S_ISDIR(sb.st_mode)))
        st = MLXR_OK;
    else if (S_ISREG(sb.st_mode) && !(depth == 0 && strcmp(name, "config.json") == 0))
        st = copy_file(made, from_path, to_path, cancel, err);
    else if (S_ISDIR(link.st_mode) && depth < MAX_DEPTH)
        st = copy_folder(made, from_path, to_path, cancel, depth + 1, err);
    free(from_path);
    free(to_path);
    return st;
}

static mlxr_status copy_folder(mlxr_made *made, const char *from, const char *to, const volatile int *cancel,
                               int depth, mlxr_error *err)
{
    DIR *d = opendir(from);
    const struct dirent *e;
    mlxr_status st = MLXR_OK;

    if (!d) return fail_errno(err, from, "read the folder");
    if (depth > 0) st = mlxr_made_add(made, to, true, err);
    if (st == MLXR_OK && depth > 0 && mkdir(to, 0777) != 0) st = fail_errno(err, to, "make the folder");
    while (st == MLXR_OK && (e = readdir(d)) != NULL)
        st = copy_entry(made, from, to, e->d_name, cancel, depth, err);
    closedir(d);
    return st;
}

mlxr_status mlxr_copy_rest(mlxr_made *made, const char *from_dir, const char *dir, const volatile int *cancel,
                           mlxr_error *err)
{
    return copy_folder(made, from_dir, dir, cancel, 0, err);
}
