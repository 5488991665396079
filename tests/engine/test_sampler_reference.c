/* The sampler against the model of docs/sampling.md in make_sampling.py: the candidates and their probabilities one by
 * one, the drawn ids, mirostat's mu, the logprobs, and the distribution of many draws. */
#include "test.h"

#include <math.h>

#include "engine/candidates.h"

enum { MOST_IDS = 512, MOST_HISTORY = 4096, DRAWS = 20000, SEED = 11 };

struct outcome {
    size_t n;
    int32_t ids[MOST_IDS];
    double probabilities[MOST_IDS], mu[MOST_IDS];
};

struct reference {
    char name[64];
    float row[MOST_IDS];
    size_t n;
    mlxr_sampling p;
    mlxr_logit_bias bias[MOST_IDS];
    int32_t history[MOST_HISTORY], eos[8];
    size_t n_history, n_eos;
    uint32_t breakers[MLXR_MASK_WORDS(MOST_IDS)], mask[MLXR_MASK_WORDS(MOST_IDS)];
    bool has_mask;
    unsigned long long index;
    double mu;
    struct outcome by_coin[2];
    int32_t drawn[32];
    int32_t logprob_id;
    double logprob;
    mlxr_logprob top[20];
    size_t n_top;
};

static mlxr_error err;

/* ---- reading ---- */

static void set_option(mlxr_sampling *p, const char *name, const char *value)
{
    const struct {
        const char *name;
        float *real;
        int32_t *integer;
    } options[] = {
        {"temperature", &p->temperature, NULL},
        {"top_k", NULL, &p->top_k},
        {"top_p", &p->top_p, NULL},
        {"min_p", &p->min_p, NULL},
        {"typical_p", &p->typical_p, NULL},
        {"min_keep", NULL, &p->min_keep},
        {"repeat_penalty", &p->repeat_penalty, NULL},
        {"presence_penalty", &p->presence_penalty, NULL},
        {"frequency_penalty", &p->frequency_penalty, NULL},
        {"repeat_last_n", NULL, &p->repeat_last_n},
        {"dry_multiplier", &p->dry_multiplier, NULL},
        {"dry_base", &p->dry_base, NULL},
        {"dry_allowed_length", NULL, &p->dry_allowed_length},
        {"dry_penalty_last_n", NULL, &p->dry_penalty_last_n},
        {"xtc_probability", &p->xtc_probability, NULL},
        {"xtc_threshold", &p->xtc_threshold, NULL},
        {"mirostat", NULL, &p->mirostat},
        {"mirostat_tau", &p->mirostat_tau, NULL},
        {"mirostat_eta", &p->mirostat_eta, NULL},
        {"min_tokens", NULL, &p->min_tokens},
    };
    for (size_t i = 0; i < MLXR_COUNT(options); i++) {
        if (strcmp(options[i].name, name) != 0) continue;
        if (options[i].real)
            *options[i].real = strtof(value, NULL);
        else
            *options[i].integer = (int32_t)strtol(value, NULL, 10);
        return;
    }
    fail_msg("sampling.txt sets %s", name);
}

static bool word(char **line, char *out, size_t n)
{
    size_t i = 0;
    while (**line == ' ') (*line)++;
    while (**line && **line != ' ' && **line != '\n') {
        assert_true(i + 1 < n);
        out[i++] = *(*line)++;
    }
    out[i] = '\0';
    return i > 0;
}

static double real(char **line)
{
    char *end;
    double x = strtod(*line, &end);
    assert_true(end != *line);
    *line = end;
    return x;
}

static int32_t integer(char **line)
{
    return (int32_t)real(line);
}

static size_t integers(int32_t *out, size_t most, char *line)
{
    char w[32];
    size_t n = 0;
    while (word(&line, w, sizeof w)) {
        assert_true(n < most);
        out[n++] = (int32_t)strtol(w, NULL, 10);
    }
    return n;
}

static void outcome(struct outcome *o, char *line)
{
    o->n = (size_t)integer(&line);
    assert_in_range(o->n, 1, MOST_IDS);
    for (size_t i = 0; i < o->n; i++) {
        o->ids[i] = integer(&line);
        o->probabilities[i] = real(&line);
        o->mu[i] = real(&line);
    }
}

static bool read_case(struct reference *r, FILE *f, char **buf, size_t *cap)
{
    char what[32], value[64];
    int32_t ids[MOST_IDS];

    *r = (struct reference){.p = mlxr_sampling_default()};
    r->p.logit_bias = r->bias;
    while (getline(buf, cap, f) > 0) {
        char *line = *buf;
        size_t n;
        if (*line == '#' || !word(&line, what, sizeof what)) continue;
        if (strcmp(what, "case") == 0) {
            word(&line, r->name, sizeof r->name);
        } else if (strcmp(what, "row") == 0) {
            while (word(&line, value, sizeof value)) r->row[r->n++] = strtof(value, NULL);
        } else if (strcmp(what, "set") == 0) {
            word(&line, value, sizeof value);
            word(&line, what, sizeof what);
            set_option(&r->p, value, what);
        } else if (strcmp(what, "bias") == 0) {
            mlxr_logit_bias *b = &r->bias[r->p.n_logit_bias++];
            b->id = integer(&line);
            b->bias = (float)real(&line);
        } else if (strcmp(what, "history") == 0) {
            r->n_history = integers(r->history, MOST_HISTORY, line);
        } else if (strcmp(what, "eos") == 0) {
            r->n_eos = integers(r->eos, MLXR_COUNT(r->eos), line);
        } else if (strcmp(what, "breakers") == 0) {
            n = integers(ids, MOST_IDS, line);
            for (size_t i = 0; i < n; i++) r->breakers[ids[i] / 32] |= (uint32_t)1 << ids[i] % 32;
        } else if (strcmp(what, "forbid") == 0) {
            n = integers(ids, MOST_IDS, line);
            r->has_mask = true;
            memset(r->mask, 0xff, sizeof r->mask);
            for (size_t i = 0; i < n; i++) r->mask[ids[i] / 32] &= ~((uint32_t)1 << ids[i] % 32);
        } else if (strcmp(what, "at") == 0) {
            r->index = (unsigned long long)real(&line);
            r->mu = real(&line);
        } else if (strcmp(what, "plain") == 0 || strcmp(what, "coin") == 0) {
            outcome(&r->by_coin[*what == 'c'], line);
        } else if (strcmp(what, "drawn") == 0) {
            assert_int_equal(integers(r->drawn, 32, line), 32);
        } else if (strcmp(what, "logprobs") == 0) {
            r->logprob_id = integer(&line);
            r->logprob = real(&line);
            r->n_top = (size_t)integer(&line);
            for (size_t i = 0; i < r->n_top; i++) {
                r->top[i].id = integer(&line);
                r->top[i].logprob = real(&line);
            }
        } else {
            assert_string_equal(what, "end");
            return true;
        }
    }
    return false;
}

/* ---- checking ---- */

static mlxr_draw draw_of(struct reference *r, uint64_t seed, uint64_t index)
{
    return (mlxr_draw){.logits = r->row,
                       .mask = r->has_mask ? r->mask : NULL,
                       .history = r->history,
                       .n_history = r->n_history,
                       .eos_ids = r->eos,
                       .n_eos = r->n_eos,
                       .dry_breakers = r->breakers,
                       .seed = seed,
                       .i_token = index,
                       .state = {r->mu}};
}

static const struct outcome *expected(const struct reference *r, uint64_t seed, uint64_t index)
{
    return &r->by_coin[mlxr_sampler_coin(seed, index) < (double)r->p.xtc_probability];
}

static bool near(double a, double b, double tolerance)
{
    return a == b || fabs(a - b) <= tolerance * (1 + fabs(b));
}

/* Candidates, probabilities and mu, for one seed of each side of the coin. */
static void check_outcomes(struct reference *r, mlxr_sampler *s)
{
    bool seen[2] = {false, false};
    for (uint64_t seed = 0; seed < 64; seed++) {
        const struct outcome *o = expected(r, seed, r->index);
        mlxr_draw d = draw_of(r, seed, r->index);
        mlxr_candidates c;
        mlxr_mirostat m;
        double sum, max;
        if (seen[o == &r->by_coin[1]]) continue;
        seen[o == &r->by_coin[1]] = true;
        assert_ok(mlxr_sampler_candidates(&c, &m, s, &r->p, &d, &err), &err);
        if (c.n != o->n) fail_msg("%s: %zu candidates, wanted %zu", r->name, c.n, o->n);
        mlxr_candidates_draw(&c, r->p.temperature > 0 ? (double)r->p.temperature : 1, 0.5); /* sorts by id */
        max = (double)mlxr_candidate_logit(mlxr_candidates_best(&c));
        sum = r->p.temperature > 0 ? mlxr_candidates_sum(&c, max, (double)r->p.temperature) : 1;
        for (size_t i = 0; i < c.n; i++) {
            float logit = mlxr_candidate_logit(c.keys[i]);
            double w = 1, p;
            if (mlxr_candidate_id(c.keys[i]) != o->ids[i])
                fail_msg("%s: candidate %zu is %d, wanted %d", r->name, i, mlxr_candidate_id(c.keys[i]),
                         o->ids[i]);
            if (r->p.temperature > 0)
                mlxr_candidates_weights(&w, &c.keys[i], 1, max, (double)r->p.temperature);
            p = w / sum;
            if (!near(p, o->probabilities[i], 1e-12))
                fail_msg("%s: probability of %d is %.17g, wanted %.17g", r->name, o->ids[i], p,
                         o->probabilities[i]);
            if (r->p.mirostat && r->p.temperature > 0 &&
                !near(mlxr_mirostat_next(&m, &r->p, r->mu, logit), o->mu[i], 1e-12))
                fail_msg("%s: mu after %d is %.17g, wanted %.17g", r->name, o->ids[i],
                         mlxr_mirostat_next(&m, &r->p, r->mu, logit), o->mu[i]);
        }
    }
}

static void check_drawn(struct reference *r, mlxr_sampler *s)
{
    float before[MOST_IDS];
    memcpy(before, r->row, sizeof before);
    for (uint64_t i = 0; i < 32; i++) {
        mlxr_draw d = draw_of(r, SEED, r->index + i);
        const struct outcome *o = expected(r, SEED, r->index + i);
        mlxr_sampled out;
        if (r->p.min_tokens > 0 &&
            (r->index < (uint64_t)r->p.min_tokens) != (r->index + i < (uint64_t)r->p.min_tokens))
            return; /* another distribution */
        assert_ok(mlxr_sampler_sample(&out, s, &r->p, &d, &err), &err);
        if (out.id != r->drawn[i])
            fail_msg("%s: draw %zu is %d, wanted %d", r->name, (size_t)i, out.id, r->drawn[i]);
        for (size_t j = 0; j < o->n; j++)
            if (o->ids[j] == out.id && !near(out.state.mu, o->mu[j], 1e-12))
                fail_msg("%s: mu is %.17g, wanted %.17g", r->name, out.state.mu, o->mu[j]);
    }
    assert_memory_equal(before, r->row, sizeof before);
}

/* The 99.99 % quantile of chi-square, by Wilson and Hilferty's approximation. */
static double chi_bound(size_t freedom)
{
    double k = (double)freedom, x = 1 - 2 / (9 * k) + 3.719 * sqrt(2 / (9 * k));
    return k * x * x * x;
}

/* Many draws with one index and many seeds. Ids of which fewer than 5 are expected share a cell; an id that cannot be
 * drawn must not be. */
static void check_distribution(struct reference *r, mlxr_sampler *s)
{
    double want[MOST_IDS] = {0}, chi = 0, rest = 0;
    size_t count[MOST_IDS] = {0}, n_rest = 0, n_cells = 0;

    for (int coin = 0; coin < 2; coin++) {
        double share = coin ? (double)r->p.xtc_probability : 1 - (double)r->p.xtc_probability;
        for (size_t i = 0; i < r->by_coin[coin].n; i++)
            want[r->by_coin[coin].ids[i]] += share * r->by_coin[coin].probabilities[i];
    }
    for (uint64_t i = 0; i < DRAWS; i++) {
        mlxr_draw d = draw_of(r, i * 0x9e3779b97f4a7c15u, r->index);
        mlxr_sampled out;
        assert_ok(mlxr_sampler_sample(&out, s, &r->p, &d, &err), &err);
        count[out.id]++;
    }
    for (size_t i = 0; i < r->n; i++) {
        double e = want[i] * DRAWS, x = (double)count[i] - e;
        if (want[i] == 0 && count[i]) fail_msg("%s: %zu has probability 0 and was drawn", r->name, i);
        if (e < 5) {
            rest += e;
            n_rest += count[i];
        } else {
            chi += x * x / e;
            n_cells++;
        }
    }
    if (rest >= 5) {
        chi += ((double)n_rest - rest) * ((double)n_rest - rest) / rest;
        n_cells++;
    } else if (n_rest > 25) {
        fail_msg("%s: the rare ones were drawn %zu times, wanted %g", r->name, n_rest, rest);
    }
    if (n_cells > 1 && chi > chi_bound(n_cells - 1))
        fail_msg("%s: chi-square %g with %zu degrees of freedom, at most %g", r->name, chi, n_cells - 1,
                 chi_bound(n_cells - 1));
}

static void check_logprobs(struct reference *r, mlxr_sampler *s)
{
    for (size_t n_asked = 0; n_asked <= 20; n_asked += 5) {
        mlxr_logprob top[20];
        size_t n = n_asked, want = n_asked < r->n_top ? n_asked : r->n_top;
        double logprob;
        assert_ok(mlxr_sampler_logprobs(&logprob, top, &n, s, r->row, r->logprob_id, &err), &err);
        assert_int_equal(n, want);
        if (!near(logprob, r->logprob, 1e-12))
            fail_msg("%s: logprob %.17g, wanted %.17g", r->name, logprob, r->logprob);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(top[i].id, r->top[i].id);
            assert_true(near(top[i].logprob, r->top[i].logprob, 1e-12));
        }
    }
}

static void check_all(void (*check)(struct reference *r, mlxr_sampler *s))
{
    FILE *f = fopen(MLXR_TEST_DIR "/sampling.txt", "r");
    struct reference *r = calloc(1, sizeof *r);
    char *buf = NULL;
    size_t cap = 0, n = 0;

    assert_non_null(f);
    assert_non_null(r);
    for (; read_case(r, f, &buf, &cap); n++) {
        mlxr_sampler *s;
        assert_ok(mlxr_sampling_check(&r->p, r->n, &err), &err);
        assert_ok(mlxr_sampler_create(&s, r->n, &err), &err);
        check(r, s);
        mlxr_sampler_free(s);
    }
    assert_true(n > 200);
    free(buf);
    free(r);
    fclose(f);
}

static void candidates_and_probabilities(void **state)
{
    (void)state;
    check_all(check_outcomes);
}
static void drawn_ids(void **state)
{
    (void)state;
    check_all(check_drawn);
}
static void distributions(void **state)
{
    (void)state;
    check_all(check_distribution);
}
static void logprobs(void **state)
{
    (void)state;
    check_all(check_logprobs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(candidates_and_probabilities),
        cmocka_unit_test(drawn_ids),
        cmocka_unit_test(distributions),
        cmocka_unit_test(logprobs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
