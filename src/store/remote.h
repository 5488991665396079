/* remote: where models come from and go to. Two protocols stand behind pull and push of mlxr.h: a Hugging Face hub (hub.c) and OCI
 * registries (registry.c). Both bring blobs through mlxr_fetch_blob (download.c). */
#ifndef MLXR_STORE_REMOTE_H
#define MLXR_STORE_REMOTE_H

#include "store/http.h"
#include "store/store.h"

/* ---- one file (download.c) ---- */

/* A file by its digest from an url, which may redirect. Several ranges at a time when the server has ranges and the file is large; what is
 * fetched lies in <root>/partial/<hex> with <hex>.state beside it (which ranges are done, and how far), so that a later call goes on
 * from there, after a kill -9 too. flock on the state: a second process that wants the file waits, telling progress, and then finds it. */
typedef struct mlxr_fetch {
    const char *url;
    const char *authorization; /* as in mlxr_http_request */
    /* Called when a server answers 401 in the middle (a token that ran out, a signed url that did): new values for the two above, valid until the
     * next call. May be NULL. On the thread that got the answer, one at a time. */
    mlxr_status (*renew)(void *ud, const char **url, const char **authorization, mlxr_error *err);
    void *renew_ud;
    const char *digest; /* "sha256:..." */
    uint64_t size;
    const char *item; /* for progress and messages */
} mlxr_fetch;

/* The blob is in the store, whole and checked, when this is MLXR_OK, and wanted by the session. The pace hears of `size` bytes in all, also when
 * they were there already. *moved (may be NULL) grows by the bytes that came over the network. A wrong digest: what lies in partial/ is
 * removed and, when it was resumed, fetched once more from the start; then MLXR_E_CORRUPT with both digests; so is a file of another length.
 * MLXR_E_NO_SPACE, MLXR_E_NETWORK, MLXR_E_CANCELLED ...: what came stays for the next call. replace: a blob that is there is replaced
 * (repair). */
mlxr_status mlxr_fetch_blob(mlxr_session *s, const mlxr_fetch *fetch, const mlxr_remote_options *options,
                            bool replace, mlxr_store_pace *pace, uint64_t *moved, mlxr_error *err);

/* The options of a client for this remote. */
mlxr_http_options mlxr_remote_http_options(const mlxr_remote_options *options, const mlxr_store_job *job,
                                           const mlxr_log *log);

/* ---- protocols ---- */

/* The model at `from` into the store under `name`. */
mlxr_status mlxr_hub_pull(mlxr_transfer *out, mlxr_store *store, const mlxr_name *from, const mlxr_name *name,
                          const mlxr_remote_options *options, const mlxr_store_job *job, mlxr_error *err);
mlxr_status mlxr_registry_pull(mlxr_transfer *out, mlxr_store *store, const mlxr_name *from,
                               const mlxr_name *name, const mlxr_remote_options *options,
                               const mlxr_store_job *job, mlxr_error *err);
mlxr_status mlxr_registry_push(mlxr_transfer *out, mlxr_store *store, const mlxr_manifest *m,
                               const mlxr_name *to, const mlxr_remote_options *options,
                               const mlxr_store_job *job, mlxr_error *err);

/* For repair: layer of a model again from its source (mlxr_description.source), replacing the blob. */
mlxr_status mlxr_hub_fetch_layer(mlxr_session *s, const char *source, const mlxr_layer *layer,
                                 const mlxr_remote_options *options, mlxr_store_pace *pace, uint64_t *moved,
                                 mlxr_error *err);
mlxr_status mlxr_registry_fetch_layer(mlxr_session *s, const char *source, const mlxr_layer *layer,
                                      const mlxr_remote_options *options, mlxr_store_pace *pace,
                                      uint64_t *moved, mlxr_error *err);
/* Where the manifest of a name that was pulled from, or pushed to, a registry lies is written down beside the store's other local
 * knowledge: <root>/origins/<hex of the manifest> {"source": ...}, so that repair finds it although a config says nothing of it. */
mlxr_status mlxr_origin_write(mlxr_store *store, const char *manifest_digest, const char *source,
                              mlxr_error *err);
char *mlxr_origin_read(mlxr_store *store, const char *manifest_digest); /* free it; NULL: none */
/* Of either protocol, by origin and then by the config's source. */
mlxr_status mlxr_remote_fetch_layer(mlxr_session *s, const mlxr_manifest *m, const mlxr_layer *layer,
                                    const mlxr_remote_options *options, mlxr_store_pace *pace,
                                    uint64_t *moved, mlxr_error *err);

/* Of a hub's repository the files that a runtime needs: config.json and other *.json of the top folder that tokenizers, templates,
 * generation and pooling use, *.safetensors (not consolidated*, not of subfolders) and their index, tokenizer.model, vocab.txt,
 * merges.txt, *.jinja, LICENSE*. */
bool mlxr_hub_wants(const char *path);

#endif
