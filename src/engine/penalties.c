/* penalties: all that changes logits before the choice: min_tokens, logit_bias, the three penalties, DRY. The row is
 * changed in place and what it was is kept, so that a row costs no copy.
 *
 * Repeat penalty: CTRL (arXiv 1909.05858), its sign taken care of as llama.cpp does. Presence and frequency penalty:
 * OpenAI's. DRY ("don't repeat yourself"): text-generation-webui's pull request 5677. */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "engine/candidates.h"

static bool is_id(const mlxr_sampler *s, int32_t id)
{
    return id >= 0 && (size_t)id < s->vocab_size;
}

/* A logit that is no number, or infinite, stays as it is: the scan finds the one, the other is forbidden already. No
 * sum leaves the floats: only a bias of -inf forbids. */
static void set_logit(mlxr_sampler *s, float *row, int32_t id, double to)
{
    if (!isfinite(row[id])) return;
    s->saved[s->n_saved++] = (struct mlxr_saved_logit){id, row[id]};
    if (to > FLT_MAX) to = FLT_MAX;
    if (to < -FLT_MAX && !isinf(to)) to = -FLT_MAX;
    row[id] = (float)to;
}

void mlxr_row_restore(mlxr_sampler *s, float *row)
{
    while (s->n_saved > 0) {
        s->n_saved--;
        row[s->saved[s->n_saved].id] = s->saved[s->n_saved].logit;
    }
}

/* A penalty may be as large as it likes: it makes a token the last choice, and forbids none. */
static double bounded(double x)
{
    return x < -FLT_MAX ? -FLT_MAX : x;
}

/* ---- tallies ---- */

/* An empty tally for up to n ids. */
static mlxr_status tally_start(mlxr_sampler *s, size_t n, mlxr_error *err)
{
    size_t cap = 16;
    while (cap / 2 < n) {
        if (cap > SIZE_MAX / 4) return mlxr_fail_nomem(err, "sampler: history");
        cap *= 2;
    }
    if (cap > s->cap_tally) {
        struct mlxr_tally_entry *tally = mlxr_malloc_array(cap, sizeof *tally);
        if (!tally) return mlxr_fail_nomem(err, "sampler: history");
        free(s->tally);
        s->tally = tally;
        s->cap_tally = cap;
    }
    for (size_t i = 0; i < s->cap_tally; i++) s->tally[i] = (struct mlxr_tally_entry){.id = -1};
    return MLXR_OK;
}

/* id's number, 0 when it is new. */
static uint32_t *tally_of(mlxr_sampler *s, int32_t id)
{
    size_t i = ((uint32_t)id * 0x9e3779b1u >> 7) & (s->cap_tally - 1);
    while (s->tally[i].id >= 0 && s->tally[i].id != id) i = (i + 1) & (s->cap_tally - 1);
    s->tally[i].id = id;
    return &s->tally[i].number;
}

/* ---- repeat, presence and frequency penalty ---- */

static size_t window(int32_t last_n, size_t n_history)
{
    return last_n < 0 || (size_t)last_n > n_history ? n_history : (size_t)last_n;
}

static bool has_penalties(const mlxr_sampling *p)
{
    return p->repeat_penalty != 1.0f || p->presence_penalty != 0 || p->frequency_penalty != 0;
}

static mlxr_status penalise(mlxr_sampler *s, const mlxr_sampling *p, const mlxr_draw *d, size_t n,
                            mlxr_error *err)
{
    const int32_t *last = d->history + (d->n_history - n);
    mlxr_status st = tally_start(s, n, err);

    if (st != MLXR_OK) return st;
    for (size_t i = 0; i < n; i++)
        if (is_id(s, last[i])) (*tally_of(s, last[i]))++;
    for (size_t i = 0; i < s->cap_tally; i++) {
        const struct mlxr_tally_entry *t = &s->tally[i];
        double l;
        if (t->id < 0) continue;
        l = (double)d->logits[t->id];
        l = l > 0 ? l / (double)p->repeat_penalty : l * (double)p->repeat_penalty;
        l -= t->number * (double)p->frequency_penalty + (double)p->presence_penalty;
        set_logit(s, d->logits, t->id, bounded(l));
    }
    return MLXR_OK;
}

/* ---- DRY ---- */

static bool breaks(const mlxr_sampler *s, const mlxr_draw *d, int32_t id)
{
    return d->dry_breakers && is_id(s, id) && mlxr_mask_has(d->dry_breakers, id);
}

/* The token r steps back in the history. */
static int32_t back(const mlxr_draw *d, size_t r)
{
    return d->history[d->n_history - 1 - r];
}

/* z[i]: how many tokens, going back, are the same from the end and from i steps before it: the Z function of the
 * window read backwards, in linear time where comparing each place by itself would be quadratic for a text that
 * repeats, which is the one that DRY is for. */
static void matches_back(uint32_t *z, const mlxr_draw *d, size_t n)
{
    size_t l = 0, r = 0; /* the match that reaches furthest: [l, r) equals [0, r - l) */
    z[0] = 0;
    for (size_t i = 1; i < n; i++) {
        size_t m = 0;
        if (i < r) m = z[i - l] < r - i ? z[i - l] : r - i;
        while (i + m < n && back(d, m) == back(d, i + m)) m++;
        if (i + m > r) {
            l = i;
            r = i + m;
        }
        z[i] = (uint32_t)m;
    }
}

static mlxr_status dry(mlxr_sampler *s, const mlxr_sampling *p, const mlxr_draw *d, size_t n, mlxr_error *err)
{
    size_t longest = 0; /* no match goes past a breaker */
    uint32_t allowed = p->dry_allowed_length > 0 ? (uint32_t)p->dry_allowed_length : 1;
    mlxr_status st;

    while (longest < n && !breaks(s, d, back(d, longest))) longest++;
    if (longest < allowed) return MLXR_OK;
    if (n > UINT32_MAX) return mlxr_fail(err, MLXR_E_LIMIT, "sampler: a history of %zu tokens", n);
    if (n > s->cap_matches) {
        uint32_t *matches = mlxr_malloc_array(n, sizeof *matches);
        if (!matches) return mlxr_fail_nomem(err, "sampler: history");
        free(s->matches);
        s->matches = matches;
        s->cap_matches = n;
    }
    if ((st = tally_start(s, n, err)) != MLXR_OK) return st;
    matches_back(s->matches, d, n);
    for (size_t i = 1; i < n; i++) {
        uint32_t m = s->matches[i] < longest ? s->matches[i] : (uint32_t)longest, *most;
        int32_t next = back(d, i - 1); /* what came after it then */
        if (m < allowed || !is_id(s, next) || breaks(s, d, next)) continue;
        most = tally_of(s, next);
        if (m > *most) *most = m;
    }
    for (size_t i = 0; i < s->cap_tally; i++) {
        const struct mlxr_tally_entry *t = &s->tally[i];
        double l;
        if (t->id < 0) continue;
        l = (double)d->logits[t->id] -
            (double)p->dry_multiplier *
                pow((double)p->dry_base, (double)t->number - (double)p->dry_allowed_length);
        set_logit(s, d->logits, t->id, bounded(l));
    }
    return MLXR_OK;
}

/* ---- all of them ---- */

static mlxr_status reserve_saved(mlxr_sampler *s, size_t n, mlxr_error *err)
{
    struct mlxr_saved_logit *saved;
    if (n <= s->cap_saved) return MLXR_OK;
    if (!(saved = mlxr_malloc_array(n, sizeof *saved))) return mlxr_fail_nomem(err, "sampler: logits");
    free(s->saved);
    s->saved = saved;
    s->cap_saved = n;
    return MLXR_OK;
}

mlxr_status mlxr_row_adjust(mlxr_sampler *s, const mlxr_sampling *p, const mlxr_draw *d, bool hold_eos,
                            mlxr_error *err)
{
    size_t n_eos = hold_eos ? d->n_eos : 0;
    size_t n_penalised = has_penalties(p) ? window(p->repeat_last_n, d->n_history) : 0;
    size_t n_dry = p->dry_multiplier > 0 ? window(p->dry_penalty_last_n, d->n_history) : 0;
    size_t n_saved;
    mlxr_status st;

    if (!mlxr_add_size(&n_saved, n_eos, p->n_logit_bias) || !mlxr_add_size(&n_saved, n_saved, n_penalised) ||
        !mlxr_add_size(&n_saved, n_saved, n_dry))
        return mlxr_fail_nomem(err, "sampler: logits");
    if ((st = reserve_saved(s, n_saved, err)) != MLXR_OK) return st;

    for (size_t i = 0; i < n_eos; i++)
        if (is_id(s, d->eos_ids[i])) set_logit(s, d->logits, d->eos_ids[i], -INFINITY);
    for (size_t i = 0; i < p->n_logit_bias; i++) {
        const mlxr_logit_bias *b = &p->logit_bias[i];
        if (is_id(s, b->id)) set_logit(s, d->logits, b->id, (double)d->logits[b->id] + (double)b->bias);
    }
    if (n_penalised && (st = penalise(s, p, d, n_penalised, err)) != MLXR_OK) return st;
    return n_dry ? dry(s, p, d, n_dry, err) : MLXR_OK;
}
