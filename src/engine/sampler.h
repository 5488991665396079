/* sampler: one id from a row of logits.
 *
 * Published order: repeat penalty over the last repeat_last_n tokens, top_k, top_p, min_p, temperature, draw.
 * The cuts work on the distribution before temperature, so that raising the temperature never widens the choice.
 * Temperature 0 is the argmax after the penalty. Ties go to the lower id, always.
 *
 * The draw depends on (seed, index of the token in the answer) and the row alone: the same seed gives the same
 * answer whatever else runs. */
#ifndef MLXR_SAMPLER_H
#define MLXR_SAMPLER_H

#include "base/base.h"

/* Scratch for rows of V logits; owned by one thread, shared by all its sequences. */
typedef struct mlxr_sampler mlxr_sampler;
mlxr_status mlxr_sampler_create(mlxr_sampler **out, size_t vocab_size, mlxr_error *err);
void mlxr_sampler_free(mlxr_sampler *s);

/* MLXR_E_INVALID_ARGUMENT naming the field: temperature >= 0, top_k >= 0, 0 <= top_p <= 1, 0 <= min_p <= 1,
 * repeat_penalty > 0, repeat_last_n >= -1, all finite. */
mlxr_status mlxr_sampling_check(const mlxr_sampling *p, mlxr_error *err);

/* logits [V], changed in place by the penalty. history: the sequence's tokens so far, prompt included.
 * A row without a finite logit, or with a NaN, is MLXR_E_DEVICE. */
mlxr_status mlxr_sampler_sample(int32_t *id, mlxr_sampler *s, const mlxr_sampling *p, uint64_t seed,
                                uint64_t i_token, float *logits, const int32_t *history, size_t n_history,
                                mlxr_error *err);

/* Whether the sampled id is the likeliest of the logits as they are. */
bool mlxr_sampling_is_argmax(const mlxr_sampling *p);

/* The uniform number in [0, 1) of (seed, index): 53 bits. */
double mlxr_sampler_uniform(uint64_t seed, uint64_t index);

#endif
