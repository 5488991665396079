/* Files: whole reads, read-only mappings, atomic writes, paths. Errors name the path and errno's text. */
#ifndef MLXR_FS_H
#define MLXR_FS_H

#include "base/base.h"

/* Appends the file's bytes to out. Larger than max_bytes is MLXR_E_LIMIT; absent is MLXR_E_NOT_FOUND. */
mlxr_status mlxr_file_read(mlxr_buf *out, const char *path, size_t max_bytes, mlxr_error *err);

/* A whole file mapped for reading. init to {0}; an empty file maps to data "" and n_bytes 0. */
typedef struct mlxr_map {
    const uint8_t *data;
    size_t n_bytes;
    bool mapped;
    int guard; /* its place among the guarded mappings, from 1; 0: it has none */
} mlxr_map;
mlxr_status mlxr_map_open(mlxr_map *map, const char *path, mlxr_error *err);
void mlxr_map_close(mlxr_map *map);

/* Reading a mapping behind the end of a file that somebody cut off is SIGBUS, which ends the process. A daemon calls this once, early: from
 * then on such a place reads as zeros, and mlxr_map_damaged tells it. It installs a handler of SIGBUS; other causes of it end the
 * process as before. Mappings opened before it, and more than a thousand at a time, are not guarded. */
mlxr_status mlxr_map_guard(mlxr_error *err);
/* Whether reading it has met the end of its file. Any thread. */
bool mlxr_map_damaged(const mlxr_map *map);
/* For map_open and map_close. */
int mlxr_guard_add(const void *data, size_t n_bytes);
void mlxr_guard_remove(int guard);

/* A file written under a temporary name beside `path`, synced and renamed over it on commit: readers see the
 * old file or the whole new one. */
typedef struct mlxr_atomic_file mlxr_atomic_file;
mlxr_status mlxr_atomic_file_open(mlxr_atomic_file **out, const char *path, mlxr_error *err);
mlxr_status mlxr_atomic_file_write(mlxr_atomic_file *f, const void *data, size_t n_bytes, mlxr_error *err);
mlxr_status mlxr_atomic_file_commit(mlxr_atomic_file *f, mlxr_error *err); /* then close it */
void mlxr_atomic_file_close(mlxr_atomic_file *f); /* uncommitted: the temporary file is removed */

/* The above for bytes at hand. */
mlxr_status mlxr_file_write(const char *path, const void *data, size_t n_bytes, mlxr_error *err);

bool mlxr_path_is_dir(const char *path);
bool mlxr_path_is_file(const char *path);
mlxr_status mlxr_make_dirs(const char *path, mlxr_error *err); /* like mkdir -p */
/* dir + "/" + name (name alone if absolute); new string, NULL when out of memory. */
char *mlxr_path_join(const char *dir, const char *name);
/* The folder part of a path, "." when it has none; new string. */
char *mlxr_path_dirname(const char *path);

#endif
