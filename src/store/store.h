/* store: the parts inside the store room. The calls for everybody are in mlxr.h.
 *
 *   <root>/blobs/sha256/<hex>            a file's bytes; or a symbolic link to a file outside (import --link)
 *   <root>/links/sha256/<hex>            of such a link: JSON {"path", "size", "mtime_ns"}
 *   <root>/sums/sha256/<hex>             states of SHA-256 on its way (sums.c), which may be missing
 *   <root>/sums/manifests/<hex>          digests of the manifest a name was given (recall.c)
 *   <root>/manifests/<host>/<namespace>/<name>/<tag>   the manifest's bytes; there lies what makes a model exist
 *   <root>/views/<hex of the manifest>/  a folder with links to the blobs under the files' names
 *   <root>/sessions/<id>/                of each call that adds something, see below
 *   <root>/partial/<hex>[.state]         downloads that are not whole yet (download.c)
 *   <root>/uploads/<hex>.json, .lock     uploads that are not whole yet (upload.c)
 *   <root>/lock                          flock: shared to add, exclusive to remove
 *   <root>/config.json                   {"quota_bytes": N}
 *   <root>/cache/, <root>/logs/          not the store's
 *
 * A blob is written within a session's folder, hashed, synced and renamed to its place; a manifest is written and synced, then the
 * folders of blobs are, then it is renamed and the folders above it are synced. So whatever stops a process or the machine, what a
 * manifest names was there before it.
 *
 * Sessions keep what is added from being removed before its manifest is there, without clocks: a session's folder has a file
 * `lock`, which its process holds (flock), and an empty file for each digest it wants. Who removes blobs holds <root>/lock alone,
 * reads the manifests and the digests of sessions whose lock is held, and removes the rest; who adds holds it shared from
 * writing down a digest to knowing whether the blob is there. Folders of sessions whose lock is free are of dead processes.
 * Order of locks: <root>/lock before any other; a partial download's lock is never waited for with <root>/lock held. */
#ifndef MLXR_STORE_H
#define MLXR_STORE_H

#include "store/io.h"
#include "store/manifest.h"
#include "store/name.h"

struct mlxr_store {
    char *root;
    mlxr_io io;
    mlxr_log log;
    uint64_t quota_bytes; /* of the options; 0: config.json's */
    int64_t grace_seconds;
};

/* <root>/part, formatted; NULL when out of memory. */
char *mlxr_store_path(const mlxr_store *store, const char *fmt, ...) MLXR_PRINTF(2, 3);
/* .../blobs/sha256/<hex> of "sha256:<hex>". */
char *mlxr_store_blob_path(const mlxr_store *store, const char *digest);

/* Tells a job's steps and stops it. all_* and the pace are kept here; threads of one call share it (locked inside). */
typedef struct mlxr_store_pace {
    const mlxr_store_job *job; /* or NULL */
    uint64_t done_all, total_all;
    uint64_t last_ns;
    void *mutex;
} mlxr_store_pace;
mlxr_status mlxr_store_pace_init(mlxr_store_pace *p, const mlxr_store_job *job, uint64_t total_all,
                                 mlxr_error *err);
/* n more bytes of the item are done (of the whole too). MLXR_E_CANCELLED when the job is stopped. */
mlxr_status mlxr_store_pace_add(mlxr_store_pace *p, const char *what, const char *item, uint64_t n,
                                uint64_t done, uint64_t total, mlxr_error *err);
bool mlxr_store_pace_cancelled(const mlxr_store_pace *p);
void mlxr_store_pace_clear(mlxr_store_pace *p);

/* ---- sessions and blobs (session.c, blob.c) ---- */

typedef struct mlxr_session mlxr_session; /* of one call and its threads; locked inside */
mlxr_status mlxr_session_begin(mlxr_session **out, mlxr_store *store, mlxr_error *err);
/* Its folder, for temporary files; borrowed until end. */
const char *mlxr_session_dir(const mlxr_session *s);
mlxr_store *mlxr_session_store(const mlxr_session *s);
void mlxr_session_end(mlxr_session *s); /* removes its folder; NULL is fine */

/* A new path in it for a temporary file; free it. NULL when out of memory. */
char *mlxr_session_temp(mlxr_session *s);
/* Copies that the session makes are told to it, and stopped by it; borrowed until end. NULL: no more. */
void mlxr_session_set_pace(mlxr_session *s, mlxr_store_pace *pace);

/* Writes the digest down, so that nobody removes the blob until end. *present: it is there, with this size (a link: its target is
 * unchanged). What is there with another size is wrong and counts as absent: the next commit replaces it. */
mlxr_status mlxr_session_want(mlxr_session *s, const char *digest, uint64_t size, bool *present,
                              mlxr_error *err);

/* A finished file of the session's folder, or of <root>/partial, whose digest and size are known to be right, becomes the blob:
 * synced, renamed, made read-only. Quota is checked first (MLXR_E_NO_SPACE). Also wants it. A blob that is there already, whole, is left
 * and `path` removed; with replace it is replaced. */
mlxr_status mlxr_session_commit(mlxr_session *s, const char *path, const char *digest, uint64_t size,
                                bool replace, mlxr_error *err);
/* The same for a file outside: cloned, hard-linked (unless copy) or copied. It is looked at (size, mtime) before and after, against
 * `seen`, which was taken before it was hashed: a file that changed meanwhile is MLXR_E_BUSY. */
mlxr_status mlxr_session_take(mlxr_session *s, const char *path, const struct stat *seen, const char *digest,
                              bool copy, mlxr_error *err);
/* The blob becomes a link to path (made absolute), with its size and mtime written down. A whole blob that is there stays. */
mlxr_status mlxr_session_link(mlxr_session *s, const char *path, const struct stat *seen, const char *digest,
                              mlxr_error *err);
/* Bytes at hand (configs, templates, recipes) as a blob; fills digest and size of *out, path and media_type stay. */
mlxr_status mlxr_session_put(mlxr_session *s, mlxr_layer *out, const void *data, size_t n, mlxr_error *err);
/* The name stands for this manifest from now on. Looks first that every blob is there (MLXR_E_INTERNAL: it was not wanted). The
 * blobs of a manifest that it replaces go like in mlxr_store_remove. */
mlxr_status mlxr_session_name(mlxr_session *s, const mlxr_name *name, const mlxr_manifest *m,
                              mlxr_error *err);
/* The quota, 0 when there is none, and the bytes that count for it: of blobs that are files, links cost nothing. */
mlxr_status mlxr_store_quota(uint64_t *out_quota, uint64_t *out_used, mlxr_store *store, mlxr_error *err);
/* Into config.json, whose other keys stay; 0: none. */
mlxr_status mlxr_store_set_quota(mlxr_store *store, uint64_t quota_bytes, mlxr_error *err);
/* Room for n more bytes under the quota? Cheap enough to ask before a long call; commits ask again. */
mlxr_status mlxr_store_check_quota(mlxr_store *store, uint64_t n, mlxr_error *err);

/* How a blob is, without reading it. */
typedef enum mlxr_blob_state {
    MLXR_BLOB_ABSENT,
    MLXR_BLOB_WHOLE,
    MLXR_BLOB_WRONG_SIZE,
    MLXR_BLOB_LINK,
    MLXR_BLOB_LINK_CHANGED
} mlxr_blob_state;
mlxr_blob_state mlxr_blob_look(const mlxr_store *store, const char *digest, uint64_t size);

/* ---- names to manifests (catalog.c) ---- */

/* name: as the calls of mlxr.h take it. out_name may be NULL. MLXR_E_NOT_FOUND names near misses. */
mlxr_status mlxr_store_find(mlxr_manifest *out, mlxr_name *out_name, mlxr_store *store, const char *name,
                            mlxr_error *err);
/* Every name, sorted; a manifest that cannot be read has n_text 0 and `broken`. */
typedef struct mlxr_catalog_item {
    mlxr_name name;
    mlxr_manifest manifest;
    int64_t modified_seconds;
    char *broken; /* or NULL */
} mlxr_catalog_item;
typedef struct mlxr_catalog {
    mlxr_catalog_item *items;
    size_t n;
} mlxr_catalog;
mlxr_status mlxr_catalog_read(mlxr_catalog *out, mlxr_store *store, mlxr_error *err);
void mlxr_catalog_clear(mlxr_catalog *c);

/* ---- hashing (sums.c) ---- */

enum { MLXR_SUMS_CHUNK = 4 << 20 };

/* SHA-256 of a file's n bytes, read once on the caller's thread. sums (may be NULL; init to {0}): gets states on the way, for
 * mlxr_sums_write. A file that ends before n bytes is MLXR_E_IO. */
mlxr_status mlxr_hash_file(char digest[72], mlxr_buf *sums, const char *path, uint64_t n,
                           mlxr_store_pace *pace, const char *what, const char *item, mlxr_error *err);
/* Keeps the states of a blob; failing is no harm. Who hashes otherwise brings the state after every mlxr_sums_grain bytes (or every
 * MLXR_SUMS_CHUNK, which is as good but for saying where damage is): 8 words of 4 bytes, big-endian as in a digest. */
uint64_t mlxr_sums_grain(uint64_t size);
void mlxr_sums_write(mlxr_store *store, const char *digest, uint64_t size, const mlxr_buf *sums);
/* Reads the blob at path on several threads by its sums when there are any; bad (init to {0}) gets {begin, end} pairs of uint64_t, the
 * parts that are wrong, in order; without sums the whole file is one, and a good one gets its sums. */
mlxr_status mlxr_sums_check(mlxr_buf *bad, mlxr_store *store, const char *digest, uint64_t size,
                            const char *path, size_t n_threads, mlxr_store_pace *pace, const char *item,
                            mlxr_error *err);

#endif
