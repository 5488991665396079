/* answerer: see answerer.h. Here: who it is, and the one in this process. */
#include "answerer.h"

#include <stdlib.h>

#include "base/fs.h"
#include "remote.h"
#include "store/store.h"
#include "stores.h"

struct answerer {
    mlxr_runner *runner; /* or */
    struct remote *remote;
    volatile int cancelled; /* of the remote */
};

/* ---- who ---- */

/* An id of the model-paths file, which comes before names of the store. */
static bool is_id(const char *model)
{
    char *dir = NULL;
    bool found = mlxr_path_is_file(CLI_DEFAULT_PATHS) &&
                 mlxr_model_path_resolve(&dir, CLI_DEFAULT_PATHS, model, getenv("HOME"), NULL) == MLXR_OK;

    mlxr_free(dir);
    return found;
}

static bool is_in_store(const struct model_options *m)
{
    mlxr_store *store = NULL;
    mlxr_manifest manifest = {0};
    bool found = cli_store_open(&store, m->program, NULL) == MLXR_OK &&
                 mlxr_store_find(&manifest, NULL, store, m->model, NULL) == MLXR_OK;

    mlxr_manifest_clear(&manifest);
    mlxr_store_close(store);
    return found;
}

/* out->url NULL: this process. */
static mlxr_status choose(struct daemon_address *out, const struct model_options *m, mlxr_error *err)
{
    mlxr_status st;

    *out = (struct daemon_address){0};
    if (!m->may_ask_daemon || m->local || !m->model) return MLXR_OK;
    if (m->host) return daemon_address_given(out, m->host, err);
    if (strcmp(m->runner, "mock") == 0 || m->paths_json || mlxr_path_is_dir(m->model)) return MLXR_OK;
    if ((st = daemon_address_given(out, NULL, err)) != MLXR_OK || out->url) return st;
    if (is_id(m->model)) return MLXR_OK;
    /* What is wrong with the daemon's file is no reason not to answer here. */
    if (daemon_address_of_store(out, NULL) != MLXR_OK || (out->url && !is_in_store(m)))
        daemon_address_clear(out);
    return MLXR_OK;
}

mlxr_status answerer_open(struct answerer **out, const struct model_options *m, mlxr_error *err)
{
    struct answerer *a = calloc(1, sizeof *a);
    struct daemon_address address = {0};
    struct daemon *daemon;
    mlxr_status st;

    *out = NULL;
    if (!a) return mlxr_fail_nomem(err, "model");
    st = choose(&address, m, err);
    if (st == MLXR_OK && address.url) {
        st = daemon_open(&daemon, &address, &a->cancelled, err);
        if (st == MLXR_OK) st = remote_open(&a->remote, daemon, m, err);
    } else if (st == MLXR_OK) {
        st = model_open(&a->runner, m, err);
    }
    daemon_address_clear(&address);
    if (st == MLXR_OK)
        *out = a;
    else
        answerer_close(a);
    return st;
}

void answerer_close(struct answerer *a)
{
    if (!a) return;
    mlxr_runner_close(a->runner);
    remote_close(a->remote);
    free(a);
}

/* ---- one of the two ---- */

mlxr_status answerer_load(struct answerer *a, mlxr_error *err)
{
    return a->remote ? remote_load(a->remote, err) : MLXR_OK;
}

mlxr_status answerer_generate(struct answerer *a, const mlxr_request *request, const struct parameters *given,
                              mlxr_on_event on_event, void *ud, mlxr_stats *stats, mlxr_error *err)
{
    mlxr_status st;

    if (!a->remote) return mlxr_runner_generate(a->runner, request, on_event, ud, stats, err);
    st = remote_generate(a->remote, request, given, on_event, ud, stats, err);
    /* Only now: a cancel that came before the request began has ended it. */
    __atomic_store_n(&a->cancelled, 0, __ATOMIC_RELAXED);
    return st;
}

void answerer_cancel(struct answerer *a)
{
    if (!a) return;
    if (a->runner) mlxr_runner_cancel(a->runner);
    __atomic_store_n(&a->cancelled, 1, __ATOMIC_RELAXED);
}

const char *answerer_device_name(const struct answerer *a)
{
    return !a ? NULL : a->remote ? remote_name(a->remote) : mlxr_runner_device_name(a->runner);
}

mlxr_engine *answerer_engine(const struct answerer *a)
{
    return a->runner ? mlxr_runner_engine(a->runner) : NULL;
}

mlxr_status answerer_template(char **out, struct answerer *a, mlxr_error *err)
{
    mlxr_engine *engine = answerer_engine(a);

    if (a->remote) return remote_template(out, a->remote, err);
    *out = mlxr_strdup(engine ? mlxr_engine_template_source(engine) : "");
    return *out ? MLXR_OK : mlxr_fail_nomem(err, "template");
}

const struct token_texts *answerer_token_texts(const struct answerer *a)
{
    return a->remote ? remote_token_texts(a->remote) : NULL;
}
