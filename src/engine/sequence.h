/* sequence: what scheduler.c (objects, queue) and step.c (batches) share; nobody else includes it. */
#ifndef MLXR_SEQUENCE_H
#define MLXR_SEQUENCE_H

#include "engine/grammar/grammar.h"
#include "engine/kv_cache.h"
#include "engine/scheduler.h"

struct mlxr_sequence {
    mlxr_sequence *next, *prev; /* all sequences in the order they came */
    mlxr_scheduler *scheduler;
    mlxr_sequence_phase phase;
    mlxr_sequence *follows; /* waits for this one's first row; NULL: for itself */

    int32_t *tokens; /* prompt, then what was sampled, without what was dropped */
    size_t n_tokens, cap_tokens;
    size_t n_prompt;    /* of these */
    size_t n_left;      /* tokens the answer may still have; SIZE_MAX: no bound but the context */
    size_t n_generated; /* index of the next draw */
    size_t n_computed;  /* tokens whose keys and values are in the state */
    size_t n_rows_done; /* tokens whose SCORE or HIDDEN result is out: never computed for it again */

    /* While it runs. */
    uint32_t *blocks; /* [n_blocks] */
    size_t n_blocks, cap_blocks;
    size_t n_named;   /* of these, from the first on */
    uint32_t i_state; /* the device's number for it */

    mlxr_sampling sampling;
    mlxr_sampler_state sampler_state;
    const uint32_t *dry_breakers;
    mlxr_matcher *matcher;      /* where its answer is in its grammar; NULL: it may be anything */
    mlxr_matcher *next_matcher; /* behind the token that was drawn, until that is taken */
    int32_t *forced;            /* [n_forced]: what comes instead of drawn tokens, from i_forced on */
    size_t n_forced, i_forced;
    uint64_t seed;
    int32_t *eos_ids;
    size_t n_eos;
    bool logprobs, score_prompt;
    size_t n_top_logprobs;
    mlxr_hidden_rows hidden;
    mlxr_overflow overflow;
    size_t n_keep;
    void *ud;
    char *failure; /* text of a result's message */

    /* In the batch at hand. */
    size_t n_in_batch;
    uint32_t i_table;
    bool waits; /* for the same tokens of one before it */

    mlxr_sequence_stats stats;
    uint64_t since_ns; /* when the phase began */
    size_t n_peak;     /* tokens that were in the state before a preemption or a shift */
    size_t n_pending_dropped;
};

/* A row that is wanted of the batch. */
typedef struct mlxr_wanted {
    mlxr_sequence *sequence;
    mlxr_result_kind kind;
    size_t position; /* of the token whose row it is */
} mlxr_wanted;

struct mlxr_scheduler {
    const mlxr_program *program;
    mlxr_executable *executable;
    mlxr_state *state;
    mlxr_sampler *sampler;
    mlxr_kv_cache *kv;
    bool shares_blocks;
    size_t snapshot_bytes;          /* 0: the model has nothing beside its blocks */
    void *snapshot;                 /* [snapshot_bytes], for forks */
    mlxr_scheduler_options options; /* resolved */
    size_t context_length, budget, score_rows;
    uint32_t *free_states; /* a stack */
    size_t n_free_states;
    mlxr_sequence *first, *last;
    size_t n_sequences, n_running, n_waiting;
    bool hidden_turn; /* the next batch is for hidden states, when some wait */

    /* The batch: tokens [cap_tokens], rows [cap_tokens], tables [max_sequences]. */
    size_t cap_tokens;
    size_t n_decoding; /* rows of the batch that decode */
    int32_t *ids;
    uint32_t *positions, *seqs, *rows;
    mlxr_wanted *wanted;
    mlxr_block_table *tables;
    mlxr_sequence **prompts; /* [max_sequences] */
    size_t *shares;          /* [max_sequences] */
    uint32_t *found;         /* [blocks of a context] */

    /* Results, grown to what a step needs. */
    float *logits, *hidden; /* [cap_logits], [cap_hidden] */
    size_t cap_logits, cap_hidden;
    int32_t *likeliest; /* [cap_likeliest] */
    size_t cap_likeliest;
    mlxr_step_result *results;
    mlxr_sampler_state *states; /* of each result's sequence after it */
    size_t cap_results, cap_states;
    mlxr_logprob *top;
    size_t cap_top;
    uint32_t *mask; /* [MLXR_MASK_WORDS(V)]: what a grammar allows, with EOS */

    uint64_t n_steps, n_prompt_tokens, n_decode_tokens, n_hit_tokens, n_copied_blocks, n_preemptions;
    uint64_t device_ns, sampling_ns, own_ns;
};

static inline size_t mlxr_blocks_for(size_t n_tokens)
{
    return (n_tokens + MLXR_KV_BLOCK - 1) / MLXR_KV_BLOCK;
}

static inline bool mlxr_sequence_runs(const mlxr_sequence *q)
{
    return q->phase == MLXR_SEQUENCE_PREFILL || q->phase == MLXR_SEQUENCE_DECODE;
}

/* ---- scheduler.c ---- */

/* Moves to a phase; the time in the one before goes to its count. */
void mlxr_sequence_enter(mlxr_sequence *q, mlxr_sequence_phase phase);
/* From waiting to running with no blocks yet; false when no state is left. */
bool mlxr_sequence_take_state(mlxr_sequence *q);
/* Back to waiting, or to the end: blocks and state are given up. */
void mlxr_sequence_give_up(mlxr_sequence *q, mlxr_sequence_phase phase);
/* The child goes on where the parent, which runs, is now; false where that cannot be. */
bool mlxr_sequence_share(mlxr_sequence *child, const mlxr_sequence *parent);
/* Room for n tokens. */
bool mlxr_sequence_reserve_tokens(mlxr_sequence *q, size_t n);
/* Those that follow q are to follow the first of them, which waits for itself. */
void mlxr_sequence_lose_followers(mlxr_sequence *q);

#endif
