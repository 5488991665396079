/* sampler: see sampler.h. The order of the steps is here; the steps are in penalties.c, candidates.c (top_k, draw),
 * truncate.c and mirostat.c. */
#include <math.h>
#include <stdlib.h>

#include "engine/candidates.h"

mlxr_status mlxr_sampler_create(mlxr_sampler **out, size_t vocab_size, mlxr_error *err)
{
    mlxr_sampler *s = calloc(1, sizeof *s);

    *out = NULL;
    if (s) {
        s->vocab_size = vocab_size;
        s->n_blocks = vocab_size / MLXR_ROW_BLOCK + (vocab_size % MLXR_ROW_BLOCK != 0);
        s->block_max = mlxr_malloc_array(s->n_blocks, sizeof *s->block_max);
    }
    if (!s || !s->block_max) {
        mlxr_sampler_free(s);
        return mlxr_fail_nomem(err, "sampler");
    }
    *out = s;
    return MLXR_OK;
}

void mlxr_sampler_free(mlxr_sampler *s)
{
    if (!s) return;
    free(s->block_max);
    free(s->keys);
    free(s->saved);
    free(s->tally);
    free(s->matches);
    free(s);
}

mlxr_sampler_state mlxr_sampler_state_init(const mlxr_sampling *p)
{
    return (mlxr_sampler_state){.mu = 2 * (double)p->mirostat_tau};
}

/* ---- random numbers ---- */

/* Counter-based: a token's number can be had without those before it. One round of a 64-bit finalizer for the seed, one
 * for the index. */
static uint64_t scramble(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static double uniform(uint64_t seed, uint64_t index, uint64_t stream)
{
    uint64_t x = scramble(scramble(seed + stream) ^ (index * 0xd1342543de82ef95u + 1));
    return (double)(x >> 11) * 0x1p-53;
}

double mlxr_sampler_uniform(uint64_t seed, uint64_t index)
{
    return uniform(seed, index, 0x9e3779b97f4a7c15u);
}

double mlxr_sampler_coin(uint64_t seed, uint64_t index)
{
    return uniform(scramble(seed + 0xd6e8feb86659fd93u), index, 0xa0761d6478bd642fu);
}

/* ---- the order of the steps ---- */

static mlxr_status nothing_left(const mlxr_sampler *s, const float *row, mlxr_error *err)
{
    for (size_t i = 0; i < s->vocab_size; i++)
        if (isfinite(row[i]))
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                             "sampler: mask and logit_bias forbid every token that the model gives");
    return mlxr_fail(err, MLXR_E_DEVICE, "sampler: no logit is finite");
}

/* Adjusts the row, gathers what top_k or mirostat start from, and puts the row back. *out has n 0 when nothing is
 * left. */
static mlxr_status gather(mlxr_candidates *out, mlxr_sampler *s, const mlxr_sampling *p, const mlxr_draw *d,
                          bool hold_eos, mlxr_error *err)
{
    int32_t best = -1;
    size_t k = p->mirostat ? 0 : (size_t)p->top_k;
    mlxr_status st;

    *out = (mlxr_candidates){0};
    if ((st = mlxr_row_adjust(s, p, d, hold_eos, err)) != MLXR_OK) goto done;
    if ((st = mlxr_row_scan(&best, s, d->logits, d->mask, err)) != MLXR_OK || best < 0) goto done;
    if (p->temperature == 0) {
        if ((st = mlxr_candidates_reserve(s, 1, err)) != MLXR_OK) goto done;
        s->keys[0] = mlxr_candidate(d->logits[best], best);
        *out = (mlxr_candidates){.keys = s->keys, .n = 1};
    } else {
        st = mlxr_candidates_gather(out, s, d->logits, d->mask, k, err);
    }
done:
    mlxr_row_restore(s, d->logits);
    return st;
}

mlxr_status mlxr_sampler_candidates(mlxr_candidates *out, mlxr_mirostat *m, mlxr_sampler *s,
                                    const mlxr_sampling *p, const mlxr_draw *d, mlxr_error *err)
{
    bool hold_eos = p->min_tokens > 0 && d->i_token < (uint64_t)p->min_tokens && d->n_eos > 0;
    mlxr_status st = gather(out, s, p, d, hold_eos, err);

    if (st == MLXR_OK && out->n == 0 && hold_eos) st = gather(out, s, p, d, false, err);
    if (st != MLXR_OK) return st;
    if (out->n == 0) return nothing_left(s, d->logits, err);
    if (out->n == 1 && !p->mirostat) return MLXR_OK;
    if (p->temperature == 0) return MLXR_OK;
    if (p->mirostat)
        mlxr_mirostat_cut(m, out, p, s->vocab_size, d->state.mu);
    else
        mlxr_candidates_truncate(out, p, mlxr_sampler_coin(d->seed, d->i_token));
    return MLXR_OK;
}

mlxr_status mlxr_sampler_sample(mlxr_sampled *out, mlxr_sampler *s, const mlxr_sampling *p,
                                const mlxr_draw *draw, mlxr_error *err)
{
    mlxr_candidates c;
    mlxr_mirostat m = {0};
    uint64_t key;
    mlxr_status st;

    *out = (mlxr_sampled){.id = -1, .state = draw->state};
    if ((st = mlxr_sampler_candidates(&c, &m, s, p, draw, err)) != MLXR_OK) return st;
    if (!c.keys) return mlxr_fail(err, MLXR_E_INTERNAL, "sampler: no candidates");
    key = c.keys[0];
    if (c.n > 1)
        key = mlxr_candidates_draw(&c, (double)p->temperature,
                                   mlxr_sampler_uniform(draw->seed, draw->i_token));
    out->id = mlxr_candidate_id(key);
    if (p->mirostat && p->temperature > 0)
        out->state.mu = mlxr_mirostat_next(&m, p, draw->state.mu, mlxr_candidate_logit(key));
    return MLXR_OK;
}
