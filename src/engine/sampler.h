/* sampler: one id from a row of logits.
 *
 * Published order (docs/sampling.md has the formulas):
 *
 *   mask, min_tokens -> logit_bias -> repeat, presence and frequency penalty -> DRY
 *     -> temperature 0: the likeliest
 *     -> mirostat 1 or 2: temperature, its own cut, draw
 *     -> else: top_k -> typical_p -> top_p -> min_p -> XTC -> temperature -> draw
 *
 * The cuts work on the distribution before temperature, so that raising the temperature never widens the choice.
 * Ties go to the lower id, always. The draw walks the candidates in the order of their ids.
 *
 * An answer's token depends on (seed, its index in the answer), the row, the options and the sequence's own past alone:
 * the same seed gives the same answer whatever else runs. The row is as before when a call returns, so that one row
 * serves several draws (choices that part here) and the logprobs. */
#ifndef MLXR_SAMPLER_H
#define MLXR_SAMPLER_H

#include "base/base.h"

/* ---- options ---- */

/* MLXR_E_INVALID_ARGUMENT naming the field that is outside the range mlxr.h states. vocab_size 0: the ids of
 * logit_bias are only checked to be no negative ones. */
mlxr_status mlxr_sampling_check(const mlxr_sampling *p, size_t vocab_size, mlxr_error *err);

/* *out gets arrays of its own, of all but dry_sequence_breakers, which it has not: the sampler takes those as a mask.
 * Clear it when done; clearing {0} is fine. On failure *out is {0}. */
mlxr_status mlxr_sampling_copy(mlxr_sampling *out, const mlxr_sampling *p, mlxr_error *err);
void mlxr_sampling_clear(mlxr_sampling *p);

/* Whether the sampled id is the likeliest of the logits as they are, when no mask forbids one. A device that finds the
 * likeliest itself then need not hand back the logits. min_tokens above 0 says no. */
bool mlxr_sampling_is_argmax(const mlxr_sampling *p);

/* ---- masks of ids: bit id % 32 of word id / 32, MLXR_MASK_WORDS(V) words; bits from V on are not looked at ---- */

#define MLXR_MASK_WORDS(vocab_size) (((vocab_size) + 31) / 32)

static inline bool mlxr_mask_has(const uint32_t *mask, int32_t id)
{
    return mask[(uint32_t)id / 32] >> ((uint32_t)id % 32) & 1;
}

/* The text of a token as it stands in an answer, borrowed until the next call; NULL: it has none. */
typedef const char *(*mlxr_token_text)(void *ud, int32_t id, size_t *n_bytes);

/* Sets in mask [MLXR_MASK_WORDS(vocab_size)], and clears elsewhere, the bits of the tokens whose text holds one of
 * p->dry_sequence_breakers. A breaker whose bytes are always spread over several tokens is in no mask. Goes once over the
 * vocabulary: make it once for a model and its list, and share it. */
void mlxr_dry_breakers_fill(uint32_t *mask, size_t vocab_size, const mlxr_sampling *p, mlxr_token_text text,
                            void *ud);

/* ---- a draw ---- */

/* Scratch that grows with what options need, from V / 64 floats up; owned by one thread, shared by all its
 * sequences. */
typedef struct mlxr_sampler mlxr_sampler;
mlxr_status mlxr_sampler_create(mlxr_sampler **out, size_t vocab_size, mlxr_error *err);
void mlxr_sampler_free(mlxr_sampler *s);

/* What a sequence carries from token to token beside its tokens. A fork copies it. */
typedef struct mlxr_sampler_state {
    double mu; /* mirostat: the bound on the surprise, in bits */
} mlxr_sampler_state;
mlxr_sampler_state mlxr_sampler_state_init(const mlxr_sampling *p);

/* What a draw depends on beside the options; all borrowed during the call. */
typedef struct mlxr_draw {
    float *logits;        /* [V]; changed during the call, the same bits as before after it */
    const uint32_t *mask; /* ids that are allowed; NULL: all */
    const int32_t
        *history; /* the sequence's tokens so far, prompt included; ids outside of V are passed over */
    size_t n_history;
    const int32_t *eos_ids; /* what min_tokens forbids */
    size_t n_eos;
    const uint32_t *dry_breakers; /* from mlxr_dry_breakers_fill; NULL: none */
    uint64_t seed;
    uint64_t i_token; /* index of the token in the answer */
    mlxr_sampler_state state;
} mlxr_draw;

typedef struct mlxr_sampled {
    int32_t id;               /* -1 on failure */
    mlxr_sampler_state state; /* the sequence's from now on, if it takes the token */
} mlxr_sampled;

/* The options have passed mlxr_sampling_check. A row with a NaN or +inf, or without a finite logit, is MLXR_E_DEVICE; one of
 * which mask and bias leave nothing is MLXR_E_INVALID_ARGUMENT. Where EOS is all that they leave, min_tokens gives way. */
mlxr_status mlxr_sampler_sample(mlxr_sampled *out, mlxr_sampler *s, const mlxr_sampling *p,
                                const mlxr_draw *draw, mlxr_error *err);

/* The log-softmax of the row as it is, in double: *logprob of id, and the *n_top likeliest in top, best first. *n_top is how
 * many top has room for and becomes how many there are (ids of probability 0 are left out). A row that sampling
 * refuses is refused here. */
mlxr_status mlxr_sampler_logprobs(double *logprob, mlxr_logprob *top, size_t *n_top, mlxr_sampler *s,
                                  const float *logits, int32_t id, mlxr_error *err);

/* The uniform number in [0, 1) of (seed, index): 53 bits. The draw's, and another for XTC's coin. */
double mlxr_sampler_uniform(uint64_t seed, uint64_t index);
double mlxr_sampler_coin(uint64_t seed, uint64_t index);

#endif
