/* residency: which models are loaded. Requests ask for one and are told when it is there; loads happen one at a time on a thread of
 * its own; a model nobody uses stays for its keep_alive, and goes earlier when another needs its place. Knows no engine: what a
 * model is, how much memory it takes and how it is opened are calls of its owner, so that tests need none either.
 *
 *   acquire -> [waiting] -> on_ready(resident) -> ... use ... -> release
 *
 * Rules: a model in use is never unloaded; two requests for a model that is not loaded load it once; a load that fails is told to those
 * who wait for it, and to nobody else; what is asked for first is loaded first. Any thread may make any call; callbacks are
 * made without a lock held. */
#ifndef MLXR_SERVE_RESIDENCY_H
#define MLXR_SERVE_RESIDENCY_H

#include "base/base.h"

typedef struct mlxr_residency mlxr_residency;
typedef struct mlxr_resident mlxr_resident; /* one loaded model */

/* Two requests are for the same when all of this is equal. Strings are copied. */
typedef struct mlxr_resident_key {
    const char *name;      /* what people call it; /api/ps shows it */
    const char *path;      /* of its folder */
    const char *digest;    /* of its content: a model that was replaced is another; "" when it has none */
    size_t context_length; /* 0: the default */
} mlxr_resident_key;

#define MLXR_KEEP_DEFAULT INT64_MIN /* the residency's own */
#define MLXR_KEEP_FOREVER INT64_MAX

typedef struct mlxr_residency_options {
    size_t max_loaded;     /* default 3 */
    uint64_t memory_bytes; /* all models together; 0: no limit */
    size_t max_waiting;    /* requests that wait for a model; a further one is MLXR_E_BUSY; default 512 */
    int64_t keep_alive_ns; /* default 5 minutes */
    uint64_t patience_ns;  /* how long models in use may be in the way of another, before one takes no new
                            * requests and makes way; default 2 seconds */
    uint64_t wait_ns; /* how long a request waits for its model at most; 0 (default): as long as it takes */
    /* plan: on the residency's thread, open: on one of its own. plan: what the model will take, before anything is loaded. open may look at *cancel now and then: it is
     * set when nobody waits any more. */
    mlxr_status (*plan)(void *ud, const mlxr_resident_key *key, uint64_t *n_bytes, mlxr_error *err);
    mlxr_status (*open)(void *ud, const mlxr_resident_key *key, const volatile int *cancel, void **model,
                        mlxr_error *err);
    void (*close)(void *ud, void *model);
    size_t (*context)(void *ud, void *model); /* tokens it holds, for the list; NULL: the key's */
    void *ud;
    mlxr_log log;
} mlxr_residency_options;
mlxr_residency_options mlxr_residency_options_default(void);

mlxr_status mlxr_residency_create(mlxr_residency **out, const mlxr_residency_options *options,
                                  mlxr_error *err);
/* Those who wait are told MLXR_E_CANCELLED; every resident must have been released. */
void mlxr_residency_free(mlxr_residency *r);

/* load_ns: how long this request waited for its model, 0 when it was there. resident: release it; NULL with a failure, in err. On the
 * residency's thread, or before acquire returns on the caller's. */
typedef void (*mlxr_on_ready)(void *ud, mlxr_resident *resident, uint64_t load_ns, const mlxr_error *err);
/* What fails at once (too many wait: MLXR_E_BUSY) is returned, and on_ready does not come. *ticket (may be NULL) is for forget. */
mlxr_status mlxr_residency_acquire(mlxr_residency *r, const mlxr_resident_key *key, mlxr_on_ready on_ready,
                                   void *ud, uint64_t *ticket, mlxr_error *err);
/* Who waits no longer wants it. true: on_ready will not come; false: it has come, or is under way. */
bool mlxr_residency_forget(mlxr_residency *r, uint64_t ticket);
/* keep_alive_ns: how long it stays when nobody uses it, from now on; 0: not at all; the last release counts. */
void mlxr_resident_release(mlxr_resident *m, int64_t keep_alive_ns);
/* What release will say, told early: the list shows it from now on. */
void mlxr_resident_keep(mlxr_resident *m, int64_t keep_alive_ns);
void *mlxr_resident_model(const mlxr_resident *m);
const mlxr_resident_key *mlxr_resident_get_key(const mlxr_resident *m);

/* Models of that name go as soon as nobody uses them. The number of them. */
size_t mlxr_residency_unload(mlxr_residency *r, const char *name);

typedef struct mlxr_resident_info {
    char *name, *digest;
    uint64_t n_bytes;
    size_t context_length, n_users;
    int64_t expires_ns; /* from now; MLXR_KEEP_FOREVER */
    void
        *model; /* borrowed as long as the caller keeps it from being unloaded; for the owner's own threads */
} mlxr_resident_info;
/* What is loaded, longest remaining first. *out: mlxr_resident_infos_free. */
mlxr_status mlxr_residency_list(mlxr_resident_info **out, size_t *out_n, mlxr_residency *r, mlxr_error *err);
void mlxr_resident_infos_free(mlxr_resident_info *infos, size_t n);
/* Calls visit for each, whose model is there until it returns; it must be quick and make no call of the residency. expires_ns is 0. */
void mlxr_residency_each(mlxr_residency *r, void (*visit)(void *ud, const mlxr_resident_info *info),
                         void *ud);

typedef struct mlxr_residency_counts {
    size_t n_loaded, n_waiting;
    uint64_t n_loads, n_failed_loads, n_evictions;
    uint64_t bytes;
} mlxr_residency_counts;
mlxr_residency_counts mlxr_residency_count(mlxr_residency *r);

#endif
