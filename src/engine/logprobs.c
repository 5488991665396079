/* logprobs: what the model itself says of a token, before any option. */
#include <math.h>

#include "engine/candidates.h"

mlxr_status mlxr_sampler_logprobs(double *logprob, mlxr_logprob *top, size_t *n_top, mlxr_sampler *s,
                                  const float *logits, int32_t id, mlxr_error *err)
{
    mlxr_candidates c;
    double max, log_sum;
    size_t n_most = *n_top;
    int32_t best;
    mlxr_status st;

    *logprob = -INFINITY;
    *n_top = 0;
    if (id < 0 || (size_t)id >= s->vocab_size)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "sampler: logprobs of token %d, the vocabulary has %zu", id, s->vocab_size);
    if ((st = mlxr_row_scan(&best, s, logits, NULL, err)) != MLXR_OK) return st;
    if (best < 0) return mlxr_fail(err, MLXR_E_DEVICE, "sampler: no logit is finite");
    max = (double)logits[best];
    log_sum = log(mlxr_row_sum(logits, s->vocab_size, max));
    if (n_most > 0) {
        if ((st = mlxr_candidates_gather(&c, s, logits, NULL, n_most, err)) != MLXR_OK) return st;
        mlxr_candidates_rank(&c);
        for (size_t i = 0; i < c.n && i < n_most; i++) {
            uint64_t key = c.keys[c.n - 1 - i];
            top[i] = (mlxr_logprob){mlxr_candidate_id(key),
                                    (double)mlxr_candidate_logit(key) - max - log_sum};
        }
        *n_top = c.n < n_most ? c.n : n_most;
    }
    *logprob = (double)logits[id] - max - log_sum;
    return MLXR_OK;
}
