/* candidates: the tokens that a draw chooses among, and what the sampler's files share. Private to them.
 *
 * A candidate is one integer: the logit's bits, turned so that they order as the logits do, above the id's complement. The
 * greater integer is then the better candidate (higher logit, lower id), and sorting needs no comparison function. */
#ifndef MLXR_CANDIDATES_H
#define MLXR_CANDIDATES_H

#include "engine/sampler.h"

enum { MLXR_ROW_BLOCK = 64 }; /* ids; two words of a mask */

struct mlxr_saved_logit {
    int32_t id;
    float logit;
};

/* How often, or how long: a number for each of a few ids. Open addressing, linear probing, id -1: free. */
struct mlxr_tally_entry {
    int32_t id;
    uint32_t number;
};

struct mlxr_sampler {
    size_t vocab_size, n_blocks;
    float *block_max; /* [n_blocks]: the best logit of each block of the row */
    uint64_t *keys;   /* the candidates */
    size_t cap_keys;
    struct mlxr_saved_logit *saved; /* what the row was, oldest first; one id may be there twice */
    size_t n_saved, cap_saved;
    struct mlxr_tally_entry *tally; /* [cap_tally], a power of two */
    size_t cap_tally;
    uint32_t *matches; /* DRY: [cap_matches] */
    size_t cap_matches;
};

/* Either in the order of ids, or ranked: ascending, so the best is keys[n - 1]. Both survive dropping some. */
typedef struct mlxr_candidates {
    uint64_t *keys;
    size_t n;
    bool ranked;
} mlxr_candidates;

static inline uint64_t mlxr_candidate(float logit, int32_t id)
{
    float f = logit + 0.0f; /* -0 is 0 */
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    u ^= u >> 31 ? 0xffffffffu : 0x80000000u;
    return (uint64_t)u << 32 | (0xffffffffu - (uint32_t)id);
}

static inline float mlxr_candidate_logit(uint64_t key)
{
    uint32_t u = (uint32_t)(key >> 32);
    float f;
    u ^= u >> 31 ? 0x80000000u : 0xffffffffu;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline int32_t mlxr_candidate_id(uint64_t key)
{
    return (int32_t)(0xffffffffu - (uint32_t)key);
}

/* ---- candidates.c ---- */

/* Room for n candidates; those there are lost. */
mlxr_status mlxr_candidates_reserve(mlxr_sampler *s, size_t n, mlxr_error *err);

/* Looks over the row once: fills block_max and finds the likeliest id that mask (NULL: all) allows, *best -1 when none is
 * finite. MLXR_E_DEVICE for a NaN or +inf anywhere, allowed or not. */
mlxr_status mlxr_row_scan(int32_t *best, mlxr_sampler *s, const float *row, const uint32_t *mask,
                          mlxr_error *err);

/* The k best of a row that was scanned with this mask, ranked; with k 0 or above their number, all that are not
 * -inf, in the order of ids. At least one, as the scan found one. */
mlxr_status mlxr_candidates_gather(mlxr_candidates *out, mlxr_sampler *s, const float *row,
                                   const uint32_t *mask, size_t k, mlxr_error *err);

/* Ranks them step by step: the i-th call (0, 1, ...) puts the i-th best in its place, keys[n - 1 - i], and returns it.
 * To be called with i = 0 first, until i + 1 == n or those not reached are cut off. */
uint64_t mlxr_candidates_next(mlxr_candidates *c, size_t i);
/* Leaves the m best, ranked. */
void mlxr_candidates_keep_best(mlxr_candidates *c, size_t m);
void mlxr_candidates_rank(mlxr_candidates *c);
uint64_t mlxr_candidates_best(const mlxr_candidates *c);

/* out[i] = exp((logit of keys[i] - max) / temperature), for n <= MLXR_ROW_BLOCK of them. */
void mlxr_candidates_weights(double *out, const uint64_t *keys, size_t n, double max, double temperature);
/* The sum of all their weights, added in their order. */
double mlxr_candidates_sum(const mlxr_candidates *c, double max, double temperature);
/* The same over a whole row. */
double mlxr_row_sum(const float *row, size_t n, double max);

/* Drops, in place, those whose logit is less; if fewer than min_keep (at least 1) would stay, the best min_keep do. */
void mlxr_candidates_drop_below(mlxr_candidates *c, double least, size_t min_keep);

/* One of them by the uniform number u, each as likely as its weight; they are in the order of ids after it. */
uint64_t mlxr_candidates_draw(mlxr_candidates *c, double temperature, double u);

/* ---- penalties.c ---- */

/* All that changes logits in place. The row is as before after mlxr_row_restore, whatever the status. */
mlxr_status mlxr_row_adjust(mlxr_sampler *s, const mlxr_sampling *p, const mlxr_draw *d, bool hold_eos,
                            mlxr_error *err);
void mlxr_row_restore(mlxr_sampler *s, float *row);

/* ---- truncate.c: the cuts after top_k, in their order ---- */

void mlxr_candidates_truncate(mlxr_candidates *c, const mlxr_sampling *p, double coin);

/* ---- mirostat.c ---- */

/* The distribution before the cut: what surprise is measured by. */
typedef struct mlxr_mirostat {
    double max, sum; /* the best logit; the sum of all weights */
} mlxr_mirostat;
void mlxr_mirostat_cut(mlxr_mirostat *m, mlxr_candidates *c, const mlxr_sampling *p, size_t vocab_size,
                       double mu);
/* mu after a token with this logit. */
double mlxr_mirostat_next(const mlxr_mirostat *m, const mlxr_sampling *p, double mu, float logit);

/* ---- sampler.c ---- */

/* What the draw chooses among: all steps of the published order but temperature and draw. Greedy: one. */
mlxr_status mlxr_sampler_candidates(mlxr_candidates *out, mlxr_mirostat *m, mlxr_sampler *s,
                                    const mlxr_sampling *p, const mlxr_draw *d, mlxr_error *err);

#endif
