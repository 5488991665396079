/* engine_api: the engine of mlxr.h. engine_api.c owns its thread, engine_generation.c what is submitted, engine_rows.c
 * embeddings and scores.
 *
 *   any thread --job--> inbox --engine's thread--> sequences of the scheduler --results--> the job
 *
 * The engine's thread alone touches device, scheduler and what a job has running. Others put a job into the inbox and look
 * at what the job's comment says its lock guards. The hub outlives the engine for generations that are not freed yet.
 *
 * Lock order: a generation's lock is never held when the hub's is taken, nor the other way round. */
#ifndef MLXR_ENGINE_API_H
#define MLXR_ENGINE_API_H

#include <pthread.h>

#include "engine/scheduler.h"
#include "runner/folder.h"
#include "runner/structured.h"

typedef struct engine_job engine_job;

typedef struct engine_hub {
    pthread_mutex_t lock; /* guards what is below, but interrupt */
    pthread_cond_t wake;  /* the engine's thread waits here for work */
    pthread_cond_t told;  /* others for it: to have opened, to have ended a job */
    size_t n_refs;
    engine_job *first, *last; /* the inbox, oldest first */
    enum {
        ENGINE_STARTING,
        ENGINE_HAS_DEVICE,
        ENGINE_MAY_COMPILE,
        ENGINE_RUNS,
        ENGINE_FAILED,
        ENGINE_CLOSING
    } phase;
    mlxr_scheduler_stats stats; /* after the last step */
    int interrupt; /* atomic: a job was cancelled: the step under way need not be finished. Set in signal handlers */
} engine_hub;

struct mlxr_engine {
    mlxr_folder folder;
    mlxr_structures *structures;
    engine_hub *hub;
    pthread_t thread;
    bool has_thread;
    uint64_t load_ns;
    mlxr_log log;
    size_t context_length;
    /* While it opens: what the thread is told to open, and how that went. */
    const mlxr_device_options *device_options;
    const char *device_name;
    mlxr_scheduler_options scheduler_options;
    mlxr_error *open_error;
    char description[160]; /* of the device */
    /* The engine's thread's own. */
    mlxr_device *device;
    mlxr_scheduler *scheduler;
    engine_job *active; /* jobs that have begun, newest first */
    pthread_mutex_t
        breakers_lock; /* guards the next: made by the first request that wants it, then immutable */
    uint32_t *default_breakers;
};

/* What a sequence's ud points at: a job's own struct begins with it. */
typedef struct engine_row {
    engine_job *job;
} engine_row;

/* All on the engine's thread. */
typedef struct engine_job_kind {
    /* Adds its sequences; on failure `end` follows. */
    mlxr_status (*start)(engine_job *job, mlxr_engine *e, mlxr_error *err);
    /* A result of one of its sequences. Makes no call on the scheduler: what is to be removed waits for settle. */
    void (*result)(engine_job *job, engine_row *row, const mlxr_step_result *r);
    /* After all results of a step: removes sequences that are done. true: the job is, in st. */
    bool (*settle)(engine_job *job, mlxr_engine *e, mlxr_status *st, mlxr_error *err);
    /* The job's last call: its sequences are removed, whoever waits for it is told. */
    void (*end)(engine_job *job, mlxr_engine *e, mlxr_status st, const mlxr_error *err);
} engine_job_kind;

struct engine_job {
    const engine_job_kind *kind;
    engine_job *next; /* in the inbox, then among the active */
    int cancel;       /* atomic */
    bool touched;     /* a result came in this step */
    uint64_t submitted_ns;
};

/* Hands a job to the engine's thread, whose it then is until its `end`. */
void mlxr_engine_post(mlxr_engine *e, engine_job *job);

engine_hub *mlxr_hub_ref(engine_hub *hub);
void mlxr_hub_unref(engine_hub *hub);
/* A condition whose timed waits go by mlxr_now_ns. */
bool mlxr_cond_init(pthread_cond_t *c);
/* Waits until *c is signalled or the clock says until_ns (UINT64_MAX: for ever); false: the time is over. */
bool mlxr_cond_wait_until(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t until_ns);

/* Embeddings as mlxr_engine_embed makes them, without a thread that waits: on_done comes once, on the engine's thread, with the rows
 * (which it may take, leaving *e empty) or with what failed. Inputs are copied. free: behind on_done, or in it. */
typedef struct mlxr_embedding mlxr_embedding;
typedef void (*mlxr_on_embedded)(mlxr_embeddings *e, const mlxr_error *err, void *ud);
mlxr_status mlxr_embedding_start(mlxr_embedding **out, mlxr_engine *e, const mlxr_input *inputs,
                                 size_t n_inputs, const mlxr_embed_options *options, mlxr_on_embedded on_done,
                                 void *ud, mlxr_error *err);
void mlxr_embedding_cancel(mlxr_embedding *m); /* any thread, until free */
void mlxr_embedding_free(mlxr_embedding *m);

/* mlxr_engine_open on a device at hand (NULL: the one of the options), for tests; it is the engine's thread that uses it
 * and the engine that closes it, when opening fails too. */
mlxr_status mlxr_engine_open_on(mlxr_engine **out, const char *model_dir, mlxr_device *device,
                                const mlxr_engine_options *options, mlxr_error *err);

/* As mlxr_engine_submit, with a bound on thinking: when max_thinking of its tokens have come, the next are the markers that end it, and the
 * model goes on behind them. 0: none; without effect where the answer's format has no thinking. */
mlxr_status mlxr_engine_submit_thinking(mlxr_generation **out, mlxr_engine *engine,
                                        const mlxr_request *request, size_t max_thinking,
                                        mlxr_on_event on_event, void *ud, mlxr_error *err);

/* What an engine of this folder takes, before anything of its weights is read. */
typedef struct mlxr_engine_memory {
    uint64_t weight_bytes, kv_bytes, scratch_bytes, total_bytes;
    size_t context_length; /* tokens a sequence may hold; never above the model's */
} mlxr_engine_memory;
enum { MLXR_ENGINE_PLAN_TOKENS = 32768 };
/* context_length: what somebody asks for, 0: mlxr.json's of the folder, else options', else the model's. options' kv_bytes 0: room for
 * MLXR_ENGINE_PLAN_TOKENS tokens of all sequences together, at most most_kv_bytes, and at the least for one context. To be opened so,
 * an engine is given context_length and kv_bytes as they come out. */
mlxr_status mlxr_engine_plan(mlxr_engine_memory *out, const char *model_dir,
                             const mlxr_engine_options *options, size_t context_length,
                             uint64_t most_kv_bytes, mlxr_error *err);

/* The mask of p's dry_sequence_breakers, MLXR_MASK_WORDS(V) words: one of one's own (*own is set to it too: free it), or the
 * engine's for the default list; NULL with MLXR_OK: p does not need one. */
mlxr_status mlxr_engine_dry_breakers(const uint32_t **mask, uint32_t **own, mlxr_engine *e,
                                     const mlxr_sampling *p, mlxr_error *err);

#endif
