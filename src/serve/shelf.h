/* shelf: what the daemon keeps in mind of its store: what each model is (read once for each manifest, since a manifest's digest
 * stands for all of it), which blobs were uploaded and wait for a create that uses them, and which long jobs run, so that they can be
 * stopped. Locked inside; any thread may make any call. What reads the disk says so: those calls are for workers. */
#ifndef MLXR_SERVE_SHELF_H
#define MLXR_SERVE_SHELF_H

#include "store/store.h"

typedef struct mlxr_shelf mlxr_shelf;
mlxr_status mlxr_shelf_create(mlxr_shelf **out, mlxr_store *store, mlxr_error *err); /* store NULL: none */
/* No job may run any more. NULL is fine. */
void mlxr_shelf_free(mlxr_shelf *s);

/* ---- models ---- */

enum {
    MLXR_HAS_COMPLETION = 1,
    MLXR_HAS_TOOLS = 2,
    MLXR_HAS_THINKING = 4,
    MLXR_HAS_INSERT = 8,
    MLXR_HAS_EMBEDDING = 16
};
/* "completion" ... of one of these, NULL past the last: i counts from 0. */
const char *mlxr_capability_word(size_t i, unsigned *bit);

/* A value: nothing in it is borrowed. */
typedef struct mlxr_model_facts {
    char digest[72];  /* of the manifest */
    char family[64];  /* model_type */
    char quant[32];   /* "int4", "mxfp4", "BF16" */
    char size[24];    /* of its parameters: "134.52M", "8.0B" */
    uint64_t n_bytes; /* of its files */
    uint64_t n_parameters, context_length, embedding_length;
    unsigned capabilities;
} mlxr_model_facts;

typedef struct mlxr_shelf_model {
    mlxr_name name;
    int64_t modified_ns; /* since 1970 */
    mlxr_model_facts facts;
} mlxr_shelf_model;

/* Every model of the store, newest first; those whose manifest or description cannot be read are left out. Costs a stat a model, and reading
 * for those that are new. *out: free it. Disk. */
mlxr_status mlxr_shelf_list(mlxr_shelf_model **out, size_t *out_n, mlxr_shelf *s, mlxr_error *err);
/* One by its name, as the store takes it. m (may be NULL): its manifest, clear it. Disk. */
mlxr_status mlxr_shelf_find(mlxr_shelf_model *out, mlxr_manifest *m, mlxr_shelf *s, const char *name,
                            mlxr_error *err);
/* Of a manifest's digest, if it is in mind. */
bool mlxr_shelf_recall(mlxr_model_facts *out, mlxr_shelf *s, const char *digest);

/* ---- uploads ---- */

/* session (taken) keeps the blob from being removed until the store's grace period is over, or until mlxr_shelf_release. Disk. */
void mlxr_shelf_keep(mlxr_shelf *s, const char *digest, mlxr_session *session);
/* It is in a model now. Disk. */
void mlxr_shelf_release(mlxr_shelf *s, const char *digest);

/* ---- jobs ---- */

/* *cancel is set by mlxr_shelf_stop, and at once when it has been called. */
void mlxr_shelf_job_begin(mlxr_shelf *s, volatile int *cancel);
void mlxr_shelf_job_end(mlxr_shelf *s, volatile int *cancel);
void mlxr_shelf_stop(mlxr_shelf *s); /* all jobs, those that come too; NULL is fine */

#endif
