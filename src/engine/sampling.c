/* sampling: the options of sampler.h: defaults, ranges, copies, and the tokens that break a repetition. */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "engine/sampler.h"

mlxr_sampling mlxr_sampling_default(void)
{
    static const char *const breakers[] = {"\n", ":", "\"", "*"};
    return (mlxr_sampling){.temperature = 0.8f,
                           .top_k = 40,
                           .top_p = 0.9f,
                           .typical_p = 1.0f,
                           .repeat_penalty = 1.0f,
                           .repeat_last_n = 64,
                           .dry_base = 1.75f,
                           .dry_allowed_length = 2,
                           .dry_penalty_last_n = -1,
                           .dry_sequence_breakers = breakers,
                           .n_dry_sequence_breakers = MLXR_COUNT(breakers),
                           .xtc_threshold = 0.1f,
                           .mirostat_tau = 5.0f,
                           .mirostat_eta = 0.1f,
                           .seed = -1};
}

/* ---- ranges ---- */

static mlxr_status check_reals(const mlxr_sampling *p, mlxr_error *err)
{
    const struct {
        const char *name;
        float value, least, most;
        const char *wanted;
    } reals[] = {
        {"temperature", p->temperature, 0, INFINITY, "0 or more"},
        {"top_p", p->top_p, 0, 1, "0 to 1"},
        {"min_p", p->min_p, 0, 1, "0 to 1"},
        {"typical_p", p->typical_p, 0, 1, "0 to 1"},
        {"repeat_penalty", p->repeat_penalty, FLT_TRUE_MIN, INFINITY, "more than 0"},
        {"presence_penalty", p->presence_penalty, -INFINITY, INFINITY, "a finite number"},
        {"frequency_penalty", p->frequency_penalty, -INFINITY, INFINITY, "a finite number"},
        {"dry_multiplier", p->dry_multiplier, 0, INFINITY, "0 or more"},
        {"dry_base", p->dry_base, 1, INFINITY, "1 or more"},
        {"xtc_probability", p->xtc_probability, 0, 1, "0 to 1"},
        {"xtc_threshold", p->xtc_threshold, 0, 1, "0 to 1"},
        {"mirostat_tau", p->mirostat_tau, 0, INFINITY, "0 or more"},
        {"mirostat_eta", p->mirostat_eta, 0, 1, "0 to 1"},
    };
    for (size_t i = 0; i < MLXR_COUNT(reals); i++)
        if (!isfinite(reals[i].value) || reals[i].value < reals[i].least || reals[i].value > reals[i].most)
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "sampling: %s is %g, wanted %s", reals[i].name,
                             (double)reals[i].value, reals[i].wanted);
    return MLXR_OK;
}

static mlxr_status check_integers(const mlxr_sampling *p, mlxr_error *err)
{
    const struct {
        const char *name;
        int32_t value, least, most;
        const char *wanted;
    } integers[] = {
        {"top_k", p->top_k, 0, INT32_MAX, "0 (off) or more"},
        {"min_keep", p->min_keep, 0, INT32_MAX, "0 or more"},
        {"repeat_last_n", p->repeat_last_n, -1, INT32_MAX, "-1 (all) or more"},
        {"dry_allowed_length", p->dry_allowed_length, 0, INT32_MAX, "0 or more"},
        {"dry_penalty_last_n", p->dry_penalty_last_n, -1, INT32_MAX, "-1 (all) or more"},
        {"mirostat", p->mirostat, 0, 2, "0 (off), 1 or 2"},
        {"min_tokens", p->min_tokens, 0, INT32_MAX, "0 or more"},
    };
    for (size_t i = 0; i < MLXR_COUNT(integers); i++)
        if (integers[i].value < integers[i].least || integers[i].value > integers[i].most)
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "sampling: %s is %d, wanted %s", integers[i].name,
                             integers[i].value, integers[i].wanted);
    return MLXR_OK;
}

static mlxr_status check_arrays(const mlxr_sampling *p, size_t vocab_size, mlxr_error *err)
{
    if (p->n_logit_bias && !p->logit_bias)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "sampling: logit_bias is NULL, wanted %zu of them",
                         p->n_logit_bias);
    for (size_t i = 0; i < p->n_logit_bias; i++) {
        const mlxr_logit_bias *b = &p->logit_bias[i];
        if (b->id < 0 || (vocab_size && (size_t)b->id >= vocab_size))
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                             "sampling: logit_bias %zu is for token %d, wanted one of the vocabulary's", i,
                             b->id);
        if (isnan(b->bias) || b->bias == INFINITY)
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                             "sampling: logit_bias %zu (token %d) is %g, wanted a finite number or -inf", i,
                             b->id, (double)b->bias);
    }
    if (p->n_dry_sequence_breakers && !p->dry_sequence_breakers)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "sampling: dry_sequence_breakers is NULL, wanted %zu texts",
                         p->n_dry_sequence_breakers);
    for (size_t i = 0; i < p->n_dry_sequence_breakers; i++)
        if (!p->dry_sequence_breakers[i] || !p->dry_sequence_breakers[i][0])
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                             "sampling: dry_sequence_breakers %zu is empty, wanted a text", i);
    return MLXR_OK;
}

mlxr_status mlxr_sampling_check(const mlxr_sampling *p, size_t vocab_size, mlxr_error *err)
{
    mlxr_status st;
    if ((st = check_reals(p, err)) != MLXR_OK) return st;
    if ((st = check_integers(p, err)) != MLXR_OK) return st;
    return check_arrays(p, vocab_size, err);
}

/* ---- copies ---- */

mlxr_status mlxr_sampling_copy(mlxr_sampling *out, const mlxr_sampling *p, mlxr_error *err)
{
    mlxr_logit_bias *biases = NULL;

    if (p->n_logit_bias) {
        if (!(biases = mlxr_malloc_array(p->n_logit_bias, sizeof *biases))) {
            *out = (mlxr_sampling){0};
            return mlxr_fail_nomem(err, "sampling: logit_bias");
        }
        memcpy(biases, p->logit_bias, p->n_logit_bias * sizeof *biases);
    }
    *out = *p;
    out->logit_bias = biases;
    out->dry_sequence_breakers = NULL;
    out->n_dry_sequence_breakers = 0;
    return MLXR_OK;
}

void mlxr_sampling_clear(mlxr_sampling *p)
{
    if (!p) return;
    free((void *)(uintptr_t)p->logit_bias);
    *p = (mlxr_sampling){0};
}

/* ---- what they come to ---- */

bool mlxr_sampling_is_argmax(const mlxr_sampling *p)
{
    bool one_left = p->temperature == 0 || (p->top_k == 1 && p->mirostat == 0);
    bool penalties = p->repeat_last_n != 0 &&
                     (p->repeat_penalty != 1.0f || p->presence_penalty != 0 || p->frequency_penalty != 0);
    bool dry = p->dry_multiplier != 0 && p->dry_penalty_last_n != 0;
    return one_left && !penalties && !dry && p->n_logit_bias == 0 && p->min_tokens == 0;
}

static bool holds_a_breaker(const mlxr_sampling *p, const char *text, size_t n_text)
{
    for (size_t i = 0; i < p->n_dry_sequence_breakers; i++) {
        const char *b = p->dry_sequence_breakers[i];
        size_t n = strlen(b);
        for (size_t at = 0; at + n <= n_text; at++)
            if (text[at] == b[0] && memcmp(text + at, b, n) == 0) return true;
    }
    return false;
}

void mlxr_dry_breakers_fill(uint32_t *mask, size_t vocab_size, const mlxr_sampling *p, mlxr_token_text text,
                            void *ud)
{
    memset(mask, 0, MLXR_MASK_WORDS(vocab_size) * sizeof *mask);
    for (size_t id = 0; id < vocab_size; id++) {
        size_t n = 0;
        const char *t = text(ud, (int32_t)id, &n);
        if (t && holds_a_breaker(p, t, n)) mask[id / 32] |= (uint32_t)1 << id % 32;
    }
}
