/* answerer: who answers requests: a runner in this process, or a daemon. Both tell an answer as mlxr_events, so that what shows it
 * need not know. One thread uses it; cancel is for signal handlers too. */
#ifndef MLXR_ANSWERER_H
#define MLXR_ANSWERER_H

#include "generate.h"

struct answerer;

/* A daemon when --host or the environment names one, or when one serves the store and MODEL is a name there; else the model is loaded
 * here. So it is for folders and ids of the model-paths file (unless --host is given), for the mock and with --local. */
mlxr_status answerer_open(struct answerer **out, const struct model_options *m, mlxr_error *err);
void answerer_close(struct answerer *a);
/* Has a daemon load the model now, so that what is wrong with it is told before the first question. Here it is loaded already. */
mlxr_status answerer_load(struct answerer *a, mlxr_error *err);

/* As mlxr_runner_generate. given: the parameters behind request->sampling and the rest, since a daemon has defaults of its own. What
 * it cannot be told is MLXR_E_UNSUPPORTED, by the option's name. */
mlxr_status answerer_generate(struct answerer *a, const mlxr_request *request, const struct parameters *given,
                              mlxr_on_event on_event, void *ud, mlxr_stats *stats, mlxr_error *err);
void answerer_cancel(struct answerer *a);

/* "cpu avx2, 2 threads"; "daemon http://127.0.0.1:11434". NULL for a NULL. */
const char *answerer_device_name(const struct answerer *a);
/* NULL: there is none in this process. */
mlxr_engine *answerer_engine(const struct answerer *a);
/* The model's chat template; *out: free it. */
mlxr_status answerer_template(char **out, struct answerer *a, mlxr_error *err);

/* Of the event whose callback runs: what its token and those of its `top` are called. A daemon tells their texts, the engine here
 * their ids: then NULL. */
struct token_texts {
    const char *token;
    const char *top[MLXR_MAX_TOP_LOGPROBS];
};
const struct token_texts *answerer_token_texts(const struct answerer *a);

#endif
