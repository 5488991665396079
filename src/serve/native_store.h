/* native_store: what the endpoints of Ollama's API about models have in common: finding a model with the API's own texts, pieces of their
 * JSON, and jobs: requests that take long, tell how far they are, line by line, and stop when their client leaves or the daemon
 * ends. Private to native_*.c. All of it is for workers. */
#ifndef MLXR_SERVE_NATIVE_STORE_H
#define MLXR_SERVE_NATIVE_STORE_H

#include "serve/native.h"
#include "serve/shelf.h"

/* ---- pieces ---- */

/* {"parent_model", "format", ...}. */
void mlxr_native_put_details(mlxr_buf *out, const mlxr_model_facts *f);
/* ,"capabilities":[...] */
void mlxr_native_put_capabilities(mlxr_buf *out, unsigned capabilities);
/* "2026-01-02T03:04:05.123456789+02:00", with quotes. */
void mlxr_native_put_local_time(mlxr_buf *out, int64_t ns);
/* A name as people write it, as a JSON string. */
void mlxr_native_put_name(mlxr_buf *out, const mlxr_name *name);

/* The body as an object read by its table into `into`; answers and returns false when it is none. warnings: a new list, or NULL when the
 * daemon is strict; it and *body are the caller's. */
bool mlxr_native_read(json_t **body, json_t **warnings, void *into, mlxr_serve *s, mlxr_request_in *http,
                      const mlxr_fields *fields);
/* "model" or its alias "name"; answers and returns NULL when there is neither, or it is no name (a digest is one where any_name). */
const char *mlxr_native_model_of(mlxr_serve *s, mlxr_request_in *http, const char *model, const char *name,
                                 bool digest_too);
/* Answers 404, 400 or what else came of looking for it. */
void mlxr_native_model_fail(mlxr_request_in *http, mlxr_status st, const char *name, const mlxr_error *err);

/* ---- jobs ---- */

typedef struct mlxr_native_job {
    mlxr_serve *serve;
    mlxr_request_in *http;
    bool stream;
    json_t *warnings;     /* taken; the last line has them */
    volatile int cancel;  /* set when the client has left, or the daemon ends */
    mlxr_store_job store; /* for the store's calls: cancel, and steps to `step` */
    mlxr_buf line;
    bool begun;
    char last[160]; /* status of the line before, so that states are told once */
    /* A step of the store's as a line, into out behind "{"; false: it is told nowhere. */
    bool (*step)(struct mlxr_native_job *job, mlxr_buf *out, const mlxr_store_step *step);
    void *ud;
} mlxr_native_job;

/* From now on the job can be stopped. */
void mlxr_native_job_begin(mlxr_native_job *job, mlxr_serve *s, mlxr_request_in *http, bool stream,
                           json_t *warnings);
/* {"status": text}, unless it is the line before's. Nothing in an answer that is no stream. */
void mlxr_native_job_status(mlxr_native_job *job, const char *text);
/* job->line as a line, which is emptied. */
void mlxr_native_job_push(mlxr_native_job *job);
/* The last line, or the whole answer: {"status":"success" and members (",\"key\":..."), or NULL}; or the error. */
void mlxr_native_job_end(mlxr_native_job *job, mlxr_status st, const mlxr_error *err, const char *members);
/* The same failure with a text and a status of its own. */
void mlxr_native_job_fail(mlxr_native_job *job, int status, const char *text);

/* ---- the endpoints' parts ---- */

extern const mlxr_fields mlxr_native_show_fields, mlxr_native_create_fields, mlxr_native_pull_fields,
    mlxr_native_push_fields, mlxr_native_verify_fields;
void mlxr_native_show(mlxr_request_in *http, void *ud);
void mlxr_native_create(mlxr_request_in *http, void *ud);
void mlxr_native_pull(mlxr_request_in *http, void *ud);
void mlxr_native_push(mlxr_request_in *http, void *ud);
void mlxr_native_verify(mlxr_request_in *http, void *ud);
void mlxr_native_blob_head(mlxr_request_in *http, void *ud);
void mlxr_native_blob_post(mlxr_request_in *http, void *ud);
mlxr_status mlxr_native_blob_body(mlxr_request_in *http, void *ud, const void *data, size_t n,
                                  mlxr_error *err);
/* "sha256:<hex>" or "sha256-<hex>" of any case, as the store writes it. */
bool mlxr_native_digest(char out[72], const char *text);

#endif
