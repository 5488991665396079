/* sampler: see sampler.h. */
#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>

struct candidate {
    float logit;
    int32_t id;
};

struct mlxr_sampler {
    size_t vocab_size;
    struct candidate *candidates; /* [V] */
    double *weights;              /* [V]: unnormalised probabilities of the candidates */
};

mlxr_status mlxr_sampler_create(mlxr_sampler **out, size_t vocab_size, mlxr_error *err)
{
    mlxr_sampler *s = calloc(1, sizeof *s);

    *out = NULL;
    if (s) {
        s->vocab_size = vocab_size;
        s->candidates = mlxr_malloc_array(vocab_size, sizeof *s->candidates);
        s->weights = mlxr_malloc_array(vocab_size, sizeof *s->weights);
    }
    if (!s || !s->candidates || !s->weights) {
        mlxr_sampler_free(s);
        return mlxr_fail_nomem(err, "sampler");
    }
    *out = s;
    return MLXR_OK;
}

void mlxr_sampler_free(mlxr_sampler *s)
{
    if (!s) return;
    free(s->candidates);
    free(s->weights);
    free(s);
}

/* Two rounds of a 64-bit finalizer over seed and index: counter-based, so a token's number can be had without
 * those before it. */
static uint64_t scramble(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

double mlxr_sampler_uniform(uint64_t seed, uint64_t index)
{
    uint64_t x = scramble(scramble(seed + 0x9e3779b97f4a7c15u) ^ (index * 0xd1342543de82ef95u + 1));
    return (double)(x >> 11) * 0x1p-53;
}

/* Keskar et al. (CTRL, arXiv 1909.05858): each token counts once however often it occurred. A token already
 * penalised is recognised by the sign bit of its candidate's id, used here as a mark. */
static void penalise(mlxr_sampler *s, const mlxr_sampling *p, float *logits, const int32_t *history, size_t n)
{
    size_t last = p->repeat_last_n < 0 ? n : (size_t)p->repeat_last_n;

    if (p->repeat_penalty == 1.0f || last == 0) return;
    if (n > last) {
        history += n - last;
        n = last;
    }
    for (size_t i = 0; i < n; i++)
        if (history[i] >= 0 && (size_t)history[i] < s->vocab_size) s->candidates[history[i]].id = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t id = history[i];
        if (id < 0 || (size_t)id >= s->vocab_size || s->candidates[id].id < 0) continue;
        s->candidates[id].id = -1;
        logits[id] = logits[id] > 0 ? logits[id] / p->repeat_penalty : logits[id] * p->repeat_penalty;
    }
}

/* Better first: higher logit, then lower id. */
static bool better(struct candidate a, struct candidate b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

static int compare(const void *x, const void *y)
{
    const struct candidate *a = x, *b = y;
    return better(*a, *b) ? -1 : better(*b, *a) ? 1 : 0;
}

/* Restores the heap below i; the root is the worst of the kept. */
static void sift_down(struct candidate *heap, size_t n, size_t i)
{
    for (;;) {
        size_t worst = i, l = 2 * i + 1, r = l + 1;
        struct candidate t;
        if (l < n && better(heap[worst], heap[l])) worst = l;
        if (r < n && better(heap[worst], heap[r])) worst = r;
        if (worst == i) return;
        t = heap[i];
        heap[i] = heap[worst];
        heap[worst] = t;
        i = worst;
    }
}

/* The k best of the row, sorted; returns how many. */
static size_t select_best(mlxr_sampler *s, const float *logits, size_t k)
{
    struct candidate *c = s->candidates;
    size_t n = s->vocab_size;

    if (k == 0 || k > n) k = n;
    for (size_t i = 0; i < k; i++) c[i] = (struct candidate){logits[i], (int32_t)i};
    if (k < n) {
        for (size_t i = k / 2; i-- > 0;) sift_down(c, k, i);
        for (size_t i = k; i < n; i++) {
            if (!(logits[i] > c[0].logit)) continue; /* an equal one has the higher id: it loses */
            c[0] = (struct candidate){logits[i], (int32_t)i};
            sift_down(c, k, 0);
        }
    }
    qsort(c, k, sizeof *c, compare);
    return k;
}

mlxr_sampler_state mlxr_sampler_state_init(const mlxr_sampling *p)
{
    return (mlxr_sampler_state){.mu = 2 * (double)p->mirostat_tau};
}

mlxr_status mlxr_sampler_sample(mlxr_sampled *out, mlxr_sampler *s, const mlxr_sampling *p,
                                const mlxr_draw *draw, mlxr_error *err)
{
    int32_t *id = &out->id;
    float *logits = draw->logits;
    size_t n, best = 0, i;
    double sum = 0, total, left;
    float max;

    *out = (mlxr_sampled){.id = -1, .state = draw->state};
    penalise(s, p, logits, draw->history, draw->n_history);
    for (i = 0; i < s->vocab_size; i++) {
        if (isnan(logits[i]))
            return mlxr_fail(err, MLXR_E_DEVICE, "sampler: the logit of token %zu is not a number", i);
        if (logits[i] > logits[best]) best = i;
    }
    if (!isfinite(logits[best])) return mlxr_fail(err, MLXR_E_DEVICE, "sampler: no logit is finite");
    if (p->temperature == 0) {
        *id = (int32_t)best;
        return MLXR_OK;
    }

    n = select_best(s, logits, (size_t)p->top_k);
    max = s->candidates[0].logit;
    for (i = 0; i < n; i++) sum += s->weights[i] = exp((double)(s->candidates[i].logit - max));
    if (p->top_p < 1) { /* the fewest candidates that hold top_p of the weight, at least one */
        double want = p->top_p * sum, have = 0;
        for (i = 0; i < n && (i == 0 || have < want); i++) have += s->weights[i];
        n = i;
    }
    if (p->min_p > 0) /* relative to the best one, whose weight is 1 */
        while (n > 1 && s->weights[n - 1] < (double)p->min_p) n--;

    total = 0;
    for (i = 0; i < n; i++)
        total += s->weights[i] = exp((double)(s->candidates[i].logit - max) / (double)p->temperature);
    left = mlxr_sampler_uniform(draw->seed, draw->i_token) * total;
    for (i = 0; i + 1 < n; i++) {
        left -= s->weights[i];
        if (left < 0) break;
    }
    *id = s->candidates[i].id;
    return MLXR_OK;
}
