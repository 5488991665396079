/* keep: what a store needs of what lies in it, and how the rest goes; between the files of the store's core alone.
 *
 * The functions that remove want <root>/lock held alone; store.h says why that is enough. */
#ifndef MLXR_STORE_KEEP_H
#define MLXR_STORE_KEEP_H

#include "store/store.h"

/* <root>/lock; exclusive or shared. The root has to be there. */
mlxr_status mlxr_store_lock(int *out_fd, const mlxr_store *store, bool exclusive, const volatile int *cancel,
                            mlxr_error *err);

/* 64 lower-case hex digits, as blobs, views, origins are called. */
bool mlxr_hex_valid(const char *name);

/* fn for each name in dir but "." and "..", which are all read before the first call; an absent dir has none. What fn returns other than
 * MLXR_OK ends it. */
typedef mlxr_status (*mlxr_dir_fn)(void *ud, const char *name, const char *path, mlxr_error *err);
mlxr_status mlxr_dir_each(const char *dir, mlxr_dir_fn fn, void *ud, mlxr_error *err);

/* ---- blobs (blob.c) ---- */

/* mlxr_blob_look that tells of a failure to look. */
mlxr_status mlxr_blob_state_of(mlxr_blob_state *out, const mlxr_store *store, const char *digest,
                               uint64_t size, mlxr_error *err);
/* "model.safetensors is missing" and the like; nothing for one that is all right. */
void mlxr_blob_trouble(mlxr_buf *out, const mlxr_store *store, const mlxr_layer *layer,
                       mlxr_blob_state state);
/* The blob with its link's record and its sums. *freed grows by its bytes. */
mlxr_status mlxr_blob_remove(const mlxr_store *store, const char *hex, uint64_t *freed, mlxr_error *err);

/* ---- names (catalog.c) ---- */

/* Every name there is, in no order, without a look at the manifests. free it. */
mlxr_status mlxr_names_read(mlxr_name **out, size_t *out_n, const mlxr_store *store, mlxr_error *err);
/* What the store calls the model that people call `name`. */
mlxr_status mlxr_store_resolve(mlxr_name *out, mlxr_store *store, const char *name, mlxr_error *err);
/* The name as the store spells it: a model that is there with other letters' cases, or its own spelling. */
mlxr_status mlxr_name_spelling(mlxr_name *out, const mlxr_store *store, const mlxr_name *name,
                               mlxr_error *err);
/* The manifest's file. NULL when out of memory. */
char *mlxr_manifest_path(const mlxr_store *store, const mlxr_name *name);
mlxr_status mlxr_manifest_load(mlxr_manifest *out, const mlxr_store *store, const mlxr_name *name,
                               mlxr_error *err);

/* ---- which manifest a name was given (recall.c) ---- */

/* To be called before the name gets it. before: the digest of the one it has now, or NULL or "". */
mlxr_status mlxr_manifest_remember(const mlxr_store *store, const mlxr_name *name, const char *digest,
                                   const char *before, mlxr_error *err);
/* MLXR_E_CORRUPT: the name was given another one. MLXR_OK also when nothing is known. */
mlxr_status mlxr_manifest_recall(const mlxr_store *store, const mlxr_name *name, const char *digest,
                                 mlxr_error *err);
void mlxr_manifest_forget(const mlxr_store *store, const mlxr_name *name);

/* ---- what is needed (keep.c) ---- */

enum { MLXR_NEEDED_MANIFEST = 1, MLXR_NEEDED_SESSION = 2 };

/* init to {0}, clear it. */
typedef struct mlxr_needed {
    mlxr_strtab digests;   /* of blobs: MLXR_NEEDED_... */
    mlxr_strtab manifests; /* digests of manifests that a name stands for */
    mlxr_arena arena;
    char *broken; /* NULL; else a manifest that cannot be read, and why: what it needs is not known */
} mlxr_needed;

/* Of all manifests and of the sessions of living processes; folders of dead sessions are removed on the way. */
mlxr_status mlxr_needed_read(mlxr_needed *out, mlxr_store *store, mlxr_error *err);
void mlxr_needed_clear(mlxr_needed *n);
/* 0: nobody needs it. */
unsigned mlxr_needed_by(const mlxr_needed *n, const char *digest);

/* A manifest stands for no name any more: its blobs that nobody needs, its view and its origin go. What fails is told to the log alone, since
 * mlxr_store_gc does it again. */
void mlxr_store_drop(mlxr_store *store, const mlxr_manifest *m, uint64_t *freed);

/* The view of a manifest that was just named, so that who may only read the store can run the model. What fails is made up for when the model
 * is run. (view.c) */
void mlxr_view_make(const mlxr_store *store, const mlxr_manifest *m);
/* The view called so goes at once, and then its links one by one: who opens a model from it finds all of it, or sees that it went.
 * Absent is fine. (view.c) */
mlxr_status mlxr_view_remove(const mlxr_store *store, const char *hex, mlxr_error *err);

/* ---- sessions (session.c) ---- */

/* Writes a digest down without a look; <root>/lock is held. */
mlxr_status mlxr_session_note(mlxr_session *s, const char *digest, mlxr_error *err);
/* The pace of mlxr_session_set_pace, or NULL. */
mlxr_store_pace *mlxr_session_pace(const mlxr_session *s);

#endif
