/* io: every change that the store makes to the file system goes through here, so that a test can stop or fail it at any
 * of them (mlxr_store_options.fault), and so that messages are alike. Reading needs no detour.
 *
 * Failures: ENOSPC, EDQUOT are MLXR_E_NO_SPACE; EACCES, EPERM, EROFS MLXR_E_DENIED; ENOENT MLXR_E_NOT_FOUND; else
 * MLXR_E_IO; always "PATH: cannot VERB: errno's text". Threads may share one mlxr_io. */
#ifndef MLXR_STORE_IO_H
#define MLXR_STORE_IO_H

#include <sys/stat.h>

#include "base/fs.h"

typedef struct mlxr_io {
    int (*fault)(const char *kind, const char *path, void *ud); /* or NULL */
    void *ud;
} mlxr_io;

mlxr_status mlxr_io_fail(mlxr_error *err, const char *path, const char *verb, int errno_value);

/* kinds "create", "open" (for writing). New files are 0666 & ~umask; not exclusive: one that is there is emptied. *out_fd: close it. */
mlxr_status mlxr_io_create(int *out_fd, const mlxr_io *io, const char *path, bool exclusive, mlxr_error *err);
mlxr_status mlxr_io_open_write(int *out_fd, const mlxr_io *io, const char *path, mlxr_error *err);
/* "write": all n bytes at offset (-1: where the file stands). */
mlxr_status mlxr_io_write(const mlxr_io *io, int fd, const char *path, const void *data, size_t n,
                          int64_t offset, mlxr_error *err);
mlxr_status mlxr_io_sync(const mlxr_io *io, int fd, const char *path, mlxr_error *err); /* "sync" */
/* "sync" of a folder; file systems that cannot are passed over. */
mlxr_status mlxr_io_sync_dir(const mlxr_io *io, const char *dir, mlxr_error *err);
mlxr_status mlxr_io_truncate(const mlxr_io *io, int fd, const char *path, uint64_t n,
                             mlxr_error *err); /* "truncate" */
mlxr_status mlxr_io_rename(const mlxr_io *io, const char *from, const char *to,
                           mlxr_error *err); /* "rename" */
/* "link", hard, of what a link at `from` leads to; MLXR_E_UNSUPPORTED where the two places cannot share a file. */
mlxr_status mlxr_io_link(const mlxr_io *io, const char *from, const char *to, mlxr_error *err);
mlxr_status mlxr_io_symlink(const mlxr_io *io, const char *target, const char *path,
                            mlxr_error *err); /* "symlink" */
/* "chmod" */
mlxr_status mlxr_io_chmod(const mlxr_io *io, const char *path, mode_t mode, mlxr_error *err);
/* "clone": a copy that shares its blocks (btrfs, XFS, APFS); MLXR_E_UNSUPPORTED where the file system has none. */
mlxr_status mlxr_io_clone(const mlxr_io *io, const char *from, const char *to, mlxr_error *err);
mlxr_status mlxr_io_unlink(const mlxr_io *io, const char *path,
                           mlxr_error *err); /* "unlink"; absent is fine */
mlxr_status
mlxr_io_make_dirs(const mlxr_io *io, const char *path,
                  mlxr_error *err); /* "mkdir", with parents; each new one is synced into its own */
mlxr_status mlxr_io_remove_dir(const mlxr_io *io, const char *path,
                               mlxr_error *err); /* "rmdir"; absent, or not empty, is fine */
mlxr_status mlxr_io_remove_tree(const mlxr_io *io, const char *path, mlxr_error *err); /* follows no links */

/* A small file as a whole: temporary name beside it, write, sync, rename, sync of the folder. While it is written, the temporary
 * file is locked: one whose lock is free was left by a process that died. */
mlxr_status mlxr_io_write_file(const mlxr_io *io, const char *path, const void *data, size_t n,
                               mlxr_error *err);
/* Whether a file's name (without folder) is that of such a temporary file. */
bool mlxr_io_is_temp(const char *name);
/* Removes one that nobody writes; *removed false: it is in use. */
mlxr_status mlxr_io_remove_temp(bool *removed, const mlxr_io *io, const char *path, mlxr_error *err);

/* flock on path (made when absent). exclusive or shared; wait: until it is free, looking at *cancel (may be NULL) meanwhile,
 * else MLXR_E_BUSY. The lock goes with the process. Who holds a lock alone may remove its file: those that waited for it make it anew.
 * *out_fd: mlxr_io_unlock it. */
mlxr_status mlxr_io_lock(int *out_fd, const mlxr_io *io, const char *path, bool exclusive, bool wait,
                         const volatile int *cancel, mlxr_error *err);
void mlxr_io_unlock(int fd); /* -1 is fine */

#endif
