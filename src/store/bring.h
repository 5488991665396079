/* bring: files of models on their way into the store and out of it; what import, OCI layouts, export and verify have in
 * common. */
#ifndef MLXR_STORE_BRING_H
#define MLXR_STORE_BRING_H

#include "format/format.h"
#include "store/store.h"

/* ---- hashing while copying (sums.c) ---- */

/* As mlxr_hash_file, and what is read goes to the new file `to`, synced, too. On failure there is no such file. */
mlxr_status mlxr_copy_hashed(char digest[72], mlxr_buf *sums, const mlxr_io *io, const char *from,
                             const char *to, uint64_t n, mlxr_store_pace *pace, const char *what,
                             const char *item, mlxr_error *err);

/* ---- descriptions (describe.c) ---- */

/* config.json of a folder, an object. Absent: MLXR_E_FORMAT. */
mlxr_status mlxr_model_config_read(json_t **out, const char *dir, mlxr_error *err);

/* Of a config.json and weights that are open. what: how messages call the model. */
mlxr_status mlxr_description_of(mlxr_description *out, const json_t *config, const mlxr_checkpoint *c,
                                const char *what, mlxr_error *err);

/* ---- a model's files (files.c) ---- */

typedef struct mlxr_model_file {
    char *title;      /* in the model's folder */
    char *path;       /* where it lies: absolute, links followed */
    struct stat seen; /* before it was hashed */
    char digest[72];  /* "" before */
    mlxr_buf sums;
    const mlxr_layer *layer; /* of an OCI layout: what it has to be; borrowed, or NULL */
} mlxr_model_file;

/* init to {0} */
typedef struct mlxr_model_files {
    mlxr_model_file *v;
    size_t n, cap;
} mlxr_model_files;
void mlxr_model_files_clear(mlxr_model_files *files);
/* Looks at the file (MLXR_E_FORMAT: no regular file). */
mlxr_status mlxr_model_files_add(mlxr_model_files *files, const char *title, const char *path,
                                 const mlxr_layer *layer, mlxr_error *err);
/* What of a model folder belongs to the model, and whether it is one: config.json and all other JSON can be read, headers and offsets
 * of the weights are right, all shards there. Fills description too. What it passes over for a reason is logged. */
mlxr_status mlxr_model_files_of_folder(mlxr_model_files *files, mlxr_description *description,
                                       const char *dir, const mlxr_log *log, mlxr_error *err);
uint64_t mlxr_model_files_bytes(const mlxr_model_files *files);
/* Fills the digests, several files at a time; of a layer it must be that one (MLXR_E_CORRUPT). */
mlxr_status mlxr_model_files_hash(mlxr_model_files *files, mlxr_store_pace *pace, mlxr_error *err);

typedef enum mlxr_files_how {
    MLXR_FILES_SHARE, /* weights are cloned or hard-linked where that can be, the rest copied: people edit it */
    MLXR_FILES_COPY,
    MLXR_FILES_LINK, /* weights become links, the rest is copied */
    MLXR_FILES_MOVE  /* they lie in the session's folder */
} mlxr_files_how;
/* All of them, hashed before, become blobs of the store. */
mlxr_status mlxr_model_files_store(mlxr_session *s, mlxr_model_files *files, mlxr_files_how how,
                                   mlxr_store_pace *pace, mlxr_error *err);

/* Whether the files together are a model, as mlxr_check_files has it: its first finding is the error. what: their folder. */
mlxr_status mlxr_model_files_check(const mlxr_model_files *files, const char *what, mlxr_error *err);
/* The manifest of files that are stored; the description becomes its config. */
mlxr_status mlxr_model_files_manifest(mlxr_manifest *out, mlxr_session *s, const mlxr_model_files *files,
                                      const mlxr_description *d, const json_t *annotations, mlxr_error *err);

/* A model folder as a model of the session's store, but for its name: checks, hashes and stores its files, and the
 * description with source and base (each may be NULL) as config. *out: mlxr_manifest_clear it. */
mlxr_status mlxr_bring_folder(mlxr_manifest *out, mlxr_session *s, const char *dir, mlxr_files_how how,
                              const char *source, const char *base, const json_t *annotations,
                              const mlxr_store_job *job, mlxr_error *err);
/* An OCI image layout (layout.c). name: whose tag says which, when there are several. */
mlxr_status mlxr_is_oci_layout(bool *out, const char *dir, mlxr_error *err);
mlxr_status mlxr_bring_layout(mlxr_manifest *out, mlxr_session *s, const char *dir, const mlxr_name *name,
                              mlxr_files_how how, const mlxr_store_job *job, mlxr_error *err);

/* ---- checking a model without reading its weights (check.c) ---- */

/* A file by what it is called and where it lies; path NULL: it is known to be bad, and passed over. */
typedef struct mlxr_check_file {
    const char *title, *path;
} mlxr_check_file;
/* file is a title; tensor may be NULL. The texts are the callback's until it returns. */
typedef void (*mlxr_on_bad)(void *ud, const char *file, const char *tensor, const char *text);
/* JSON can be parsed, headers and offsets are right, shards and index agree, no tensor is there twice. MLXR_E_NOMEM at worst. */
mlxr_status mlxr_check_files(const mlxr_check_file *files, size_t n, mlxr_on_bad on_bad, void *ud,
                             mlxr_error *err);

#endif
