/* truncate: the cuts between top_k and temperature. Each works on the distribution that the one before it left, made to
 * sum to 1 again, at temperature 1.
 *
 * typical_p: locally typical sampling, Meister et al. (arXiv 2202.00666). top_p: nucleus sampling, Holtzman et al. (arXiv
 * 1904.09751). min_p: Nguyen et al. (arXiv 2407.01082). XTC ("exclude top choices"): text-generation-webui's pull request
 * 6335. */
#include <math.h>

#include "engine/candidates.h"

static double logit_of(uint64_t key)
{
    return (double)mlxr_candidate_logit(key);
}

static double weight_of(uint64_t key, double max)
{
    double w;
    mlxr_candidates_weights(&w, &key, 1, max, 1);
    return w;
}

/* Takes candidates by how near their surprise is to the entropy until they hold typical_p. The surprise falls as the logit
 * rises, so what is nearest lies on the one or the other side of what has been taken already:
 *
 *   keys, ascending:  ... below | kept [lo, hi) | above: m of the group [hi, end) of equal logits ...
 *
 * Of equals the lower id comes first, and that is a group's end; a group that is only begun when the cut comes has its
 * rest between the two parts of what is kept, which are then pushed together. */
static void typical(mlxr_candidates *c, double typical_p, size_t min_keep)
{
    double max, sum, log_sum, entropy = 0, want, have = 0;
    size_t n, lo, hi, end, m = 0;

    mlxr_candidates_rank(c);
    n = c->n;
    max = logit_of(c->keys[n - 1]);
    sum = mlxr_candidates_sum(c, max, 1);
    log_sum = log(sum);
    want = typical_p * sum;
    for (size_t i = 0; i < n; i++)
        entropy += weight_of(c->keys[i], max) / sum * (log_sum - (logit_of(c->keys[i]) - max));
    for (lo = 0; lo < n && log_sum - (logit_of(c->keys[lo]) - max) > entropy;) lo++;
    hi = end = lo;
    while (hi - lo + m < n) {
        double above = INFINITY, below = INFINITY;
        uint64_t a = 0, b = 0;
        if (hi + m == end) { /* the group is in; the next one */
            hi = end;
            m = 0;
            while (end < n && mlxr_candidate_logit(c->keys[end]) == mlxr_candidate_logit(c->keys[hi])) end++;
        }
        if (hi < n) {
            a = c->keys[end - 1 - m];
            above = fabs(log_sum - (logit_of(a) - max) - entropy);
        }
        if (lo > 0) {
            b = c->keys[lo - 1];
            below = fabs(log_sum - (logit_of(b) - max) - entropy);
        }
        if (above < below || (above == below && mlxr_candidate_id(a) < mlxr_candidate_id(b))) {
            m++;
            have += weight_of(a, max);
        } else {
            lo--;
            have += weight_of(b, max);
        }
        if (have >= want && hi - lo + m >= min_keep) break;
    }
    memmove(c->keys + end - m - (hi - lo), c->keys + lo, (hi - lo) * sizeof *c->keys);
    c->keys += end - m - (hi - lo);
    c->n = hi - lo + m;
}

/* The fewest of the best that hold top_p. */
static void nucleus(mlxr_candidates *c, double top_p, size_t min_keep)
{
    double max = logit_of(mlxr_candidates_best(c)), want = top_p * mlxr_candidates_sum(c, max, 1), have = 0;
    size_t m = 0;

    do have += weight_of(mlxr_candidates_next(c, m++), max);
    while (m < c->n && (have < want || m < min_keep));
    c->keys += c->n - m;
    c->n = m;
    c->ranked = true;
}

/* Drops all that hold threshold each, but the last of them. */
static void exclude_top_choices(mlxr_candidates *c, double threshold, size_t min_keep)
{
    double max = logit_of(mlxr_candidates_best(c)), least = threshold * mlxr_candidates_sum(c, max, 1);
    uint64_t last = UINT64_MAX;
    size_t n_top = 0, n = 0;

    for (size_t i = 0; i < c->n; i++) {
        if (weight_of(c->keys[i], max) < least) continue;
        n_top++;
        last = c->keys[i] < last ? c->keys[i] : last;
    }
    if (n_top < 2 || c->n - (n_top - 1) < min_keep) return;
    for (size_t i = 0; i < c->n; i++)
        if (c->keys[i] <= last) c->keys[n++] = c->keys[i];
    c->n = n;
}

void mlxr_candidates_truncate(mlxr_candidates *c, const mlxr_sampling *p, double coin)
{
    size_t min_keep = p->min_keep > 0 ? (size_t)p->min_keep : 1;

    if (p->typical_p < 1) typical(c, (double)p->typical_p, min_keep);
    if (p->top_p < 1) nucleus(c, (double)p->top_p, min_keep);
    if (p->min_p > 0)
        mlxr_candidates_drop_below(c, logit_of(mlxr_candidates_best(c)) + log((double)p->min_p), min_keep);
    if (coin < (double)p->xtc_probability) exclude_top_choices(c, (double)p->xtc_threshold, min_keep);
}
