/* scheduler: many sequences over one device.
 *
 *   waiting --admit--> prefill --last known token--> decode --EOS, length, removed--> done
 *      ^                  |                             |
 *      +---- preempted: its blocks are given up, its tokens computed again later ----+
 *
 * A step is one batch. It has a row of every decoding sequence, and tokens of prompts up to the budget of
 * max_tokens_per_step (at least an eighth of it, so that decoding never starves a prompt). Of the prompts' part the
 * sequence that came first has half, the others share the other half equally, and what one does not need goes to the
 * others in the order they came: a long prompt in front is read at half the rate at least, a short one behind it is not
 * held up.
 *
 * Admission is first come, first served, by exact memory: a sequence begins when blocks for all its tokens so far can be
 * had beside one for each that runs, and then takes blocks as it grows. When there are none left, cached prefixes go
 * first (least recently used), then the youngest sequence that runs is preempted: it waits in its old place, and its
 * tokens are computed again. A sequence alone always fits, because the context is never above what all blocks hold: the
 * oldest one always moves, so there is no deadlock.
 *
 * A device's answer to a row does not depend on the batch, so neither company, chunks, cached prefixes nor preemption
 * change a bit of a sequence's logits (ref and cpu).
 *
 * One thread owns a scheduler and its sequences. The program and the device are borrowed. */
#ifndef MLXR_SCHEDULER_H
#define MLXR_SCHEDULER_H

#include "device/device.h"
#include "engine/grammar/grammar.h"
#include "engine/sampler.h"

typedef struct mlxr_scheduler mlxr_scheduler;
typedef struct mlxr_sequence mlxr_sequence;

typedef struct mlxr_scheduler_options {
    size_t context_length;      /* tokens a sequence may hold; 0: the model's, at most MLXR_DEFAULT_CONTEXT */
    size_t max_tokens_per_step; /* the budget; 0 (default): what the device prefers, or else 256 */
    size_t max_sequences;       /* that run at once, the others wait; default 16 */
    size_t max_waiting;         /* that wait; one more is MLXR_E_BUSY; default SIZE_MAX */
    size_t
        max_kv_tokens; /* positions in blocks, of sequences and cached prefixes; 0 (default): one context */
    size_t
        max_kv_bytes; /* the same in bytes; the smaller counts; default SIZE_MAX. Below a context's need the
                                 * context is what fits */
    size_t
        max_cached_bytes; /* of prefixes no sequence uses, snapshots included; 0: none are kept; default SIZE_MAX:
                                 * all blocks that are not needed */
    size_t
        snapshot_blocks; /* models with other state than keys and values: a snapshot every so many blocks, beside
                                 * that at the end of a prompt; 0: those at the ends alone; default 32 */
    size_t
        max_score_rows; /* rows of V logits that scores of prompts take in a step; 0 (default): 16 to 256, as 64 MiB hold */
} mlxr_scheduler_options;
enum { MLXR_DEFAULT_CONTEXT = 8192 };
mlxr_scheduler_options mlxr_scheduler_options_default(void);

mlxr_status mlxr_scheduler_open(mlxr_scheduler **out, mlxr_device *device, const mlxr_program *program,
                                const mlxr_scheduler_options *options, mlxr_error *err);
/* Its sequences are gone with it. */
void mlxr_scheduler_close(mlxr_scheduler *s);
/* What a sequence may hold: the option, or less where the blocks hold less. */
size_t mlxr_scheduler_context_length(const mlxr_scheduler *s);

/* Which final hidden states a sequence gives (after the last norm, what the head reads), instead of an answer. */
typedef enum mlxr_hidden_rows { MLXR_HIDDEN_NONE, MLXR_HIDDEN_LAST, MLXR_HIDDEN_ALL } mlxr_hidden_rows;

/* Fill it with mlxr_sequence_params_default first. */
typedef struct mlxr_sequence_params {
    const int32_t *ids; /* the prompt, copied */
    size_t n_ids;
    int64_t max_tokens;     /* -1 (default): until the context is full */
    const int32_t *eos_ids; /* ids that end the answer, copied; they are not part of it */
    size_t n_eos;
    mlxr_sampling sampling;
    const uint32_t
        *dry_breakers; /* of sampling, see mlxr_dry_breakers_fill; NULL: none. Borrowed until it is removed,
                                   * and its forks are */
    /* What the answer has to be, from its first token on; NULL: anything. It is the sequence's once add succeeds; its masker
     * outlives the sequence. EOS can come when the text is complete; when nothing else can, the answer ends by itself. */
    mlxr_matcher *matcher;
    uint64_t seed;         /* used as it is; sampling.seed is the caller's to resolve */
    bool logprobs;         /* results have the log-probability of their id, before any penalty or cut */
    size_t n_top_logprobs; /* and of the likeliest ids */
    bool
        score_prompt; /* a SCORE result for every token of the prompt but the first, then the answer (max_tokens 0:
                              * none). No cached prefix is used */
    mlxr_hidden_rows hidden; /* HIDDEN results, then the end; max_tokens and sampling mean nothing */
    mlxr_overflow overflow;
    size_t n_keep;
    void *ud; /* handed back in results */
} mlxr_sequence_params;
mlxr_sequence_params mlxr_sequence_params_default(void);

/* Queues a sequence. An empty prompt, an id outside the vocabulary, n_keep above the context's three quarters are
 * MLXR_E_INVALID_ARGUMENT; a prompt that leaves no room for one token in the context is MLXR_E_CONTEXT_OVERFLOW with both
 * numbers (a prompt without an answer may fill it); too many that wait are MLXR_E_BUSY. */
mlxr_status mlxr_scheduler_add(mlxr_sequence **out, mlxr_scheduler *s, const mlxr_sequence_params *params,
                               mlxr_error *err);

/* Another sequence with the tokens of `parent` so far, which goes on by itself: n choices of a prompt are an add and
 * n - 1 forks. It shares the parent's blocks; the last, partly filled one is copied when one of them writes to it. Forked
 * while the parent waits or its prompt is read, it waits for that and takes its first token from the same row. Where the
 * device does not share blocks, or there is no room, it waits and is computed for itself. The answer counts from the
 * parent's prompt; what the parent's results have said is not said again. Its grammar goes on from where the parent's is. A parent that has ended, scores or gives
 * hidden states is MLXR_E_INVALID_ARGUMENT. */
typedef struct mlxr_fork_params {
    mlxr_sampling sampling;
    uint64_t seed;
    void *ud;
} mlxr_fork_params;
mlxr_status mlxr_scheduler_fork(mlxr_sequence **out, mlxr_scheduler *s, mlxr_sequence *parent,
                                const mlxr_fork_params *params, mlxr_error *err);

/* Its next tokens are these (copied) instead of drawn ones, as far as its grammar and its length allow; then it goes on by itself.
 * Nothing for one that has ended. */
mlxr_status mlxr_scheduler_force(mlxr_sequence *sequence, const int32_t *ids, size_t n, mlxr_error *err);

/* Ends a sequence in any state and frees what it holds at once. NULL is fine. */
void mlxr_scheduler_remove(mlxr_scheduler *s, mlxr_sequence *sequence);

typedef enum mlxr_result_kind {
    MLXR_RESULT_TOKEN, /* a token of the answer, or its end */
    MLXR_RESULT_SCORE, /* a token of the prompt */
    MLXR_RESULT_HIDDEN /* a hidden state */
} mlxr_result_kind;

typedef struct mlxr_step_result {
    mlxr_sequence *sequence;
    void *ud;
    mlxr_result_kind kind;
    int32_t id;      /* TOKEN: -1 for an end without one (EOS). SCORE, HIDDEN: the token at position */
    size_t position; /* of the token among the sequence's; tokens that were dropped do not count */
    bool done;       /* no more results come; the caller still removes the sequence */
    mlxr_done_reason reason; /* when done */
    mlxr_status status;  /* not MLXR_OK: the sequence failed (logits that are no numbers, say) and is done */
    const char *message; /* then */
    size_t n_dropped;    /* tokens dropped just before this one, to go on within the context */
    double logprob;      /* of id, in SCORE, or when asked for; of an EOS that ended the answer too */
    const mlxr_logprob *top; /* [n_top] likeliest first; borrowed as the results are */
    size_t n_top;
    const float *hidden; /* HIDDEN: [hidden_size]; borrowed as the results are */
} mlxr_step_result;

/* Runs one batch. *results is borrowed until the next call on the scheduler; *n_results is 0 while prompts are being
 * read. With nothing to run it is MLXR_OK and *idle (may be NULL) is true. Cancelled, out of memory or a device that
 * failed: no sequence has moved, so the step may be tried again or sequences removed. */
mlxr_status mlxr_scheduler_step(mlxr_scheduler *s, const volatile int *cancel,
                                const mlxr_step_result **results, size_t *n_results, bool *idle,
                                mlxr_error *err);

/* ---- what is going on ---- */

typedef enum mlxr_sequence_phase {
    MLXR_SEQUENCE_WAITING,
    MLXR_SEQUENCE_PREFILL,
    MLXR_SEQUENCE_DECODE,
    MLXR_SEQUENCE_DONE
} mlxr_sequence_phase;

typedef struct mlxr_sequence_stats {
    mlxr_sequence_phase phase;
    uint64_t queue_ns;   /* waiting to be admitted, after preemption too */
    uint64_t prefill_ns; /* from admission to the first token */
    uint64_t decode_ns;  /* from the first token on */
    size_t n_prompt;     /* tokens of the prompt, those dropped included */
    size_t n_cached;     /* of these: had from a cached prefix, or from a fork's parent */
    size_t n_computed;   /* of these: computed */
    size_t n_generated;
    size_t n_dropped;     /* to fit the context, of the prompt and later */
    size_t n_recomputed;  /* computed again after preemption or a shift */
    size_t n_preemptions; /* how often it had to give up its blocks */
} mlxr_sequence_stats;
mlxr_sequence_stats mlxr_sequence_get_stats(const mlxr_sequence *sequence);
/* Every token it has now, prompt included; borrowed until the next step. */
const int32_t *mlxr_sequence_tokens(const mlxr_sequence *sequence, size_t *n);
/* Whether the answer so far is a whole text of its grammar; true without one. */
bool mlxr_sequence_may_end(const mlxr_sequence *sequence);
/* Tokens whose keys and values are in the state. */
size_t mlxr_sequence_n_cached(const mlxr_sequence *sequence);

typedef struct mlxr_scheduler_stats {
    size_t n_running, n_waiting; /* now */
    size_t n_blocks;             /* all there are, of MLXR_KV_BLOCK positions and block_bytes each */
    size_t n_blocks_used;        /* by sequences */
    size_t n_blocks_cached;      /* kept for prefixes alone; the others are free */
    size_t block_bytes, snapshot_bytes;
    size_t n_snapshots;
    size_t cached_bytes; /* of blocks kept for prefixes alone, and of all snapshots */
    /* since it was opened: */
    uint64_t n_steps, n_prompt_tokens, n_decode_tokens; /* tokens computed */
    uint64_t n_hit_tokens;                              /* of prompts, not computed */
    uint64_t n_evicted_blocks, n_copied_blocks, n_preemptions;
    uint64_t device_ns, sampling_ns, own_ns; /* in the device, the sampler, the scheduler itself */
} mlxr_scheduler_stats;
mlxr_scheduler_stats mlxr_scheduler_get_stats(const mlxr_scheduler *s);

/* Forgets all prefixes no sequence uses. */
void mlxr_scheduler_clear_cache(mlxr_scheduler *s);

/* For tests: whether counts, lists and references agree; the first that does not is in err. Takes a pass over all. */
mlxr_status mlxr_scheduler_check(const mlxr_scheduler *s, mlxr_error *err);

#endif
