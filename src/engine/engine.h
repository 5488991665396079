/* engine: sequences over one device.
 *
 *   waiting --admit--> prefill --last prompt token--> decode --EOS, stop, length--> done
 *
 * Each step is one batch: a decode row of every running sequence first, then prompt tokens of sequences in prefill,
 * in the order they were added, up to a token budget. A sequence is admitted when the KV blocks it can need at most
 * are free; until then it waits, first come first served. A device's answer to a row does not depend on the batch,
 * so a sequence's tokens do not depend on the others.
 *
 * One thread owns an engine and its sequences. The program and the device are borrowed. */
#ifndef MLXR_ENGINE_H
#define MLXR_ENGINE_H

#include "device/device.h"
#include "engine/sampler.h"

typedef struct mlxr_engine mlxr_engine;
typedef struct mlxr_sequence mlxr_sequence;

typedef struct mlxr_engine_options {
    size_t context_length;      /* tokens a sequence may hold; 0: the model's, at most MLXR_DEFAULT_CONTEXT */
    size_t max_tokens_per_step; /* the budget; 0 (default): what the device prefers, or else 256 */
    size_t max_kv_tokens;       /* positions all sequences may hold together; 0: one whole context */
    size_t max_sequences;       /* sequences that run at once, the others wait; default 16 */
} mlxr_engine_options;
enum { MLXR_DEFAULT_CONTEXT = 8192 };
mlxr_engine_options mlxr_engine_options_default(void);

mlxr_status mlxr_engine_open(mlxr_engine **out, mlxr_device *device, const mlxr_program *program,
                             const mlxr_engine_options *options, mlxr_error *err);
/* Its sequences are gone with it. */
void mlxr_engine_close(mlxr_engine *e);
size_t mlxr_engine_context_length(const mlxr_engine *e);
size_t mlxr_engine_free_blocks(const mlxr_engine *e);
size_t mlxr_engine_total_blocks(const mlxr_engine *e);

typedef struct mlxr_sequence_params {
    const int32_t *ids; /* the prompt, copied */
    size_t n_ids;
    int64_t max_tokens;     /* -1: until the context is full */
    const int32_t *eos_ids; /* ids that end the answer, copied; they are not part of it */
    size_t n_eos;
    mlxr_sampling sampling;
    uint64_t seed; /* used as it is; sampling.seed is the caller's to resolve */
    void *ud;      /* handed back in results */
} mlxr_sequence_params;

/* Queues a sequence. An empty prompt or an id outside the vocabulary is MLXR_E_INVALID_ARGUMENT; a prompt that leaves
 * no room for one token in the context is MLXR_E_CONTEXT_OVERFLOW with both numbers. */
mlxr_status mlxr_engine_add(mlxr_sequence **out, mlxr_engine *e, const mlxr_sequence_params *params,
                            mlxr_error *err);
/* Ends a sequence in any state and frees what it holds. NULL is fine. */
void mlxr_engine_remove(mlxr_engine *e, mlxr_sequence *s);

typedef struct mlxr_step_result {
    mlxr_sequence *sequence;
    void *ud;
    int32_t id;              /* the token sampled; -1 when the sequence ended without one (EOS) */
    bool done;               /* no more tokens come; the caller still removes the sequence */
    mlxr_done_reason reason; /* when done */
} mlxr_step_result;

/* Runs one batch. *results is borrowed until the next call on the engine; *n_results is 0 while prompts are being read. With
 * nothing to run it is MLXR_OK and *idle (may be NULL) is true. Cancelled or failed: no sequence has moved, so the
 * step may be tried again or sequences removed. */
mlxr_status mlxr_engine_step(mlxr_engine *e, const volatile int *cancel, const mlxr_step_result **results,
                             size_t *n_results, bool *idle, mlxr_error *err);

/* Tokens whose keys and values are in the cache. */
size_t mlxr_sequence_n_cached(const mlxr_sequence *s);
/* Every token so far, prompt included; borrowed until the next step. */
const int32_t *mlxr_sequence_tokens(const mlxr_sequence *s, size_t *n);

#endif
