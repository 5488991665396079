/* served: a loaded model as the server uses it: the engine of a folder, or the mock adapter, which needs no model and answers what can be
 * foretold. Any thread; events come on the engine's thread, or for the mock on one of its own. */
#ifndef MLXR_SERVE_SERVED_H
#define MLXR_SERVE_SERVED_H

#include "base/base.h"

typedef struct mlxr_served mlxr_served;
mlxr_status mlxr_served_open(mlxr_served **out, const char *path, const mlxr_engine_options *options,
                             mlxr_error *err);
/* token_ms: a pause before each token. */
mlxr_status mlxr_served_open_mock(mlxr_served **out, const char *name, uint32_t token_ms, mlxr_error *err);
void mlxr_served_close(mlxr_served *m); /* ends what runs */

mlxr_engine *mlxr_served_engine(const mlxr_served *m);             /* NULL: the mock */
const mlxr_tokenizer *mlxr_served_tokenizer(const mlxr_served *m); /* NULL: the mock */
const char *mlxr_served_path(const mlxr_served *m);                /* of the folder; NULL: the mock */
size_t mlxr_served_context(const mlxr_served *m);
mlxr_sampling mlxr_served_sampling(const mlxr_served *m); /* the model's own */

/* As mlxr_engine_submit, with its rules. */
typedef struct mlxr_served_run mlxr_served_run;
mlxr_status mlxr_served_submit(mlxr_served_run **out, mlxr_served *m, const mlxr_request *request,
                               mlxr_on_event on_event, void *ud, mlxr_error *err);
/* Several requests as one run: choices of the i-th (request is the 0-th, then those of more) are numbered from i * request->n_choices,
 * which is the same for all; their callbacks never overlap. After one FAILED nothing comes of any. */
mlxr_status mlxr_served_submit_all(mlxr_served_run **out, mlxr_served *m, const mlxr_request *request,
                                   const mlxr_request *more, size_t n_more, mlxr_on_event on_event, void *ud,
                                   mlxr_error *err);
/* With a bound on the tokens of thinking, 0: none (mlxr_engine_submit_thinking); the mock does not think. */
mlxr_status mlxr_served_submit_thinking(mlxr_served_run **out, mlxr_served *m, const mlxr_request *request,
                                        size_t max_thinking, mlxr_on_event on_event, void *ud,
                                        mlxr_error *err);
void mlxr_served_cancel(mlxr_served_run *run);   /* any thread, callbacks too */
void mlxr_served_run_free(mlxr_served_run *run); /* cancels; no callback begins after it returned */

/* Prompts and tokens. The mock counts words. *out: mlxr_free it. */
mlxr_status mlxr_served_render(char **out, size_t *n, const mlxr_served *m, const mlxr_request *request,
                               mlxr_error *err);
mlxr_status mlxr_served_encode(int32_t **ids, size_t *n, const mlxr_served *m, const mlxr_request *request,
                               mlxr_error *err);
/* Without a thread that waits: on_done comes once, on the engine's thread or (the mock) before the call returns, with the rows, which
 * it may take, or with what failed (err->code). A run is freed behind on_done, or in it. */
typedef void (*mlxr_on_served_embedded)(mlxr_embeddings *e, const mlxr_error *err, void *ud);
mlxr_status mlxr_served_submit_embed(mlxr_served_run **out, mlxr_served *m, const mlxr_input *inputs,
                                     size_t n, const mlxr_embed_options *options,
                                     mlxr_on_served_embedded on_done, void *ud, mlxr_error *err);
mlxr_status mlxr_served_embed(mlxr_embeddings *out, mlxr_served *m, const mlxr_input *inputs, size_t n,
                              const mlxr_embed_options *options, mlxr_error *err);

#endif
