/* mirostat: a cut that moves, so that the mean surprise of what is drawn comes to mirostat_tau bits. Basu et al. (arXiv
 * 2007.14966); version 2 is the one of the authors' later code, which cuts by surprise itself. The surprise is that of
 * the distribution at the temperature, before the cut, as in the paper. */
#include <math.h>

#include "engine/candidates.h"

enum { ZIPF_TOKENS = 100 }; /* how many of the best the exponent is estimated from */

/* Version 1: the number of candidates whose expected surprise is mu, if the probabilities followed Zipf's law with the
 * exponent s of the best hundred: k = ((e 2^mu) / (1 - V^-e))^(1/s), e = s - 1. */
static size_t zipf_k(mlxr_candidates *c, double temperature, size_t vocab_size, double mu)
{
    double s, e, k, st = 0, tt = 0, before = 0;

    for (size_t i = 0; i < c->n && i < ZIPF_TOKENS; i++) {
        double l = (double)mlxr_candidate_logit(mlxr_candidates_next(c, i));
        if (i > 0) {
            double t = log((double)(i + 1) / (double)i);
            st += t * (before - l) / temperature; /* the logarithm of the ratio of two neighbours */
            tt += t * t;
        }
        before = l;
    }
    s = tt > 0 ? st / tt : 1;
    e = s - 1;
    /* e near 0: both go to 0, and e / (1 - V^-e) to 1 / ln V. expm1 keeps their ratio good down to there. */
    k = e == 0 ? 1 / log((double)vocab_size) : e / -expm1(-e * log((double)vocab_size));
    k = pow(k * exp2(mu), 1 / s);
    if (!(k < (double)c->n)) return c->n; /* NaN too */
    return k < 1 ? 1 : (size_t)k;
}

void mlxr_mirostat_cut(mlxr_mirostat *m, mlxr_candidates *c, const mlxr_sampling *p, size_t vocab_size,
                       double mu)
{
    double temperature = (double)p->temperature;

    m->max = (double)mlxr_candidate_logit(mlxr_candidates_best(c));
    m->sum = mlxr_candidates_sum(c, m->max, temperature);
    if (p->mirostat == 1)
        mlxr_candidates_keep_best(c, zipf_k(c, temperature, vocab_size, mu));
    else
        mlxr_candidates_drop_below(c, m->max + temperature * (log(m->sum) - mu * log(2)), 1);
}

double mlxr_mirostat_next(const mlxr_mirostat *m, const mlxr_sampling *p, double mu, float logit)
{
    double surprise = (log(m->sum) - ((double)logit - m->max) / (double)p->temperature) / log(2);
    return mu - (double)p->mirostat_eta * (surprise - (double)p->mirostat_tau);
}
