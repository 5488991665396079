/* The sampler's published order, its edge values, and its distribution. */
#include "test.h"

#include <math.h>

#include "engine/sampler.h"

static mlxr_error err;

static int32_t draw(mlxr_sampler *s, mlxr_sampling p, uint64_t seed, uint64_t i, const float *row, size_t n,
                    const int32_t *history, size_t n_history)
{
    float logits[64];
    mlxr_sampled out;
    mlxr_draw d = {.logits = logits, .history = history, .n_history = n_history, .seed = seed, .i_token = i};
    assert_true(n <= MLXR_COUNT(logits));
    memcpy(logits, row, n * sizeof *row);
    assert_ok(mlxr_sampler_sample(&out, s, &p, &d, &err), &err);
    return out.id;
}

static mlxr_sampling plain(float temperature)
{
    mlxr_sampling p = mlxr_sampling_default();
    p.temperature = temperature;
    p.top_k = 0;
    p.top_p = 1;
    return p;
}

static void greedy_takes_the_lowest_of_equals(void **state)
{
    const float row[] = {1, 5, 5, -3};
    mlxr_sampler *s;
    (void)state;
    assert_ok(mlxr_sampler_create(&s, 4, &err), &err);
    assert_int_equal(draw(s, plain(0), 1, 0, row, 4, NULL, 0), 1);
    mlxr_sampler_free(s);
}

/* Chi-square of 20,000 draws against the expected probabilities; cells of probability 0 must stay empty. The bound is
 * the 99.99 % quantile for the degrees of freedom (15 at most here: 44.3); the draws are fixed by the seeds. */
static void check_distribution(mlxr_sampling p, const float *row, size_t n, const double *want)
{
    enum { DRAWS = 20000 };
    size_t count[64] = {0};
    double chi = 0;
    mlxr_sampler *s;

    assert_ok(mlxr_sampler_create(&s, n, &err), &err);
    for (size_t i = 0; i < DRAWS; i++) count[draw(s, p, 7 + i % 5, i, row, n, NULL, 0)]++;
    for (size_t i = 0; i < n; i++) {
        double e = want[i] * DRAWS, d = (double)count[i] - e;
        if (want[i] == 0)
            assert_int_equal(count[i], 0);
        else
            chi += d * d / e;
    }
    if (chi > 44.3) fail_msg("chi-square %g", chi);
    mlxr_sampler_free(s);
}

static void normalise(double *w, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += w[i];
    for (size_t i = 0; i < n; i++) w[i] /= sum;
}

static void temperature_alone_is_softmax(void **state)
{
    float row[16];
    double want[16];
    (void)state;
    for (size_t i = 0; i < 16; i++) {
        row[i] = (float)((i * 7) % 16) * 0.3f - 2;
        want[i] = exp((double)row[i] / 0.7);
    }
    normalise(want, 16);
    check_distribution(plain(0.7f), row, 16, want);
}

static void cuts_come_before_temperature(void **state)
{
    /* probabilities at temperature 1: 0.5, 0.25, 0.125, 0.0625, 0.0625 */
    const float row[] = {0, (float)-M_LN2, (float)(-2 * M_LN2), (float)(-3 * M_LN2), (float)(-3 * M_LN2)};
    double two[5] = {0}, four[5] = {0}, three[5] = {0};
    mlxr_sampling p;
    (void)state;

    p = plain(2);
    p.top_k = 2;
    for (size_t i = 0; i < 2; i++) two[i] = exp((double)row[i] / 2);
    normalise(two, 5);
    check_distribution(p, row, 5, two);

    p = plain(2); /* 0.5 + 0.25 + 0.125 reaches 0.8, before temperature flattens it */
    p.top_p = 0.8f;
    for (size_t i = 0; i < 3; i++) three[i] = exp((double)row[i] / 2);
    normalise(three, 5);
    check_distribution(p, row, 5, three);

    p = plain(2); /* at least 0.2 of the best: 1, 0.5, 0.25 */
    p.min_p = 0.2f;
    check_distribution(p, row, 5, three);

    p = plain(1); /* top_k 4 of five, the lower id of the last two equals */
    p.top_k = 4;
    for (size_t i = 0; i < 4; i++) four[i] = exp((double)row[i]);
    normalise(four, 5);
    check_distribution(p, row, 5, four);
}

static void edge_values_leave_one(void **state)
{
    const float row[] = {0.5f, 2, 1, 1.9f};
    mlxr_sampler *s;
    mlxr_sampling p;
    (void)state;
    assert_ok(mlxr_sampler_create(&s, 4, &err), &err);
    for (uint64_t i = 0; i < 200; i++) {
        p = plain(50), p.top_k = 1;
        assert_int_equal(draw(s, p, 3, i, row, 4, NULL, 0), 1);
        p = plain(50), p.top_p = 0;
        assert_int_equal(draw(s, p, 3, i, row, 4, NULL, 0), 1);
        p = plain(50), p.min_p = 1;
        assert_int_equal(draw(s, p, 3, i, row, 4, NULL, 0), 1);
        p = plain(50), p.top_k = 1000; /* more than there are: all */
        assert_in_range(draw(s, p, 3, i, row, 4, NULL, 0), 0, 3);
    }
    mlxr_sampler_free(s);
}

static void penalty_counts_a_token_once_and_looks_back_n(void **state)
{
    const float row[] = {1.0f, 1.9f, 2.0f, -1.0f};
    const int32_t history[] = {2, 2, 2, 0, 99, -5};
    mlxr_sampler *s;
    mlxr_sampling p = plain(0);
    (void)state;
    assert_ok(mlxr_sampler_create(&s, 4, &err), &err);
    p.repeat_penalty = 1.1f; /* 2.0 / 1.1 = 1.82 < 1.9; three times would be the same choice, so see below */
    assert_int_equal(draw(s, p, 0, 0, row, 4, history, 6), 1);
    p.repeat_penalty = 1.04f; /* once 1.923 > 1.9; three times would be 1.778 */
    assert_int_equal(draw(s, p, 0, 0, row, 4, history, 6), 2);
    p.repeat_penalty = 1.5f;
    p.repeat_last_n = 2; /* only ids that no row has */
    assert_int_equal(draw(s, p, 0, 0, row, 4, history, 6), 2);
    p.repeat_last_n = 0;
    assert_int_equal(draw(s, p, 0, 0, row, 4, history, 6), 2);
    p.repeat_last_n = -1;
    assert_int_equal(draw(s, p, 0, 0, row, 4, history, 6), 1);
    mlxr_sampler_free(s);
}

static void the_draw_depends_on_seed_and_index_alone(void **state)
{
    float row[32];
    mlxr_sampler *a, *b;
    size_t differ = 0;
    (void)state;
    for (size_t i = 0; i < 32; i++) row[i] = (float)(i % 5);
    assert_ok(mlxr_sampler_create(&a, 32, &err), &err);
    assert_ok(mlxr_sampler_create(&b, 32, &err), &err);
    for (uint64_t i = 0; i < 100; i++) {
        int32_t x = draw(a, plain(1), 42, i, row, 32, NULL, 0);
        (void)draw(b, plain(1), 9, 1000 - i, row, 32, NULL, 0); /* b's own past must not matter */
        assert_int_equal(x, draw(b, plain(1), 42, i, row, 32, NULL, 0));
        differ += x != draw(a, plain(1), 43, i, row, 32, NULL, 0);
    }
    assert_true(differ > 50);
    mlxr_sampler_free(a);
    mlxr_sampler_free(b);
}

static void uniform_is_uniform(void **state)
{
    enum { BINS = 16, N = 32000 };
    size_t count[BINS] = {0};
    double chi = 0;
    (void)state;
    for (uint64_t i = 0; i < N; i++) {
        double u = mlxr_sampler_uniform(i / 100, i % 100);
        assert_true(u >= 0 && u < 1);
        count[(size_t)(u * BINS)]++;
    }
    for (size_t i = 0; i < BINS; i++) {
        double d = (double)count[i] - (double)N / BINS;
        chi += d * d / ((double)N / BINS);
    }
    if (chi > 44.3) fail_msg("chi-square %g", chi);
}

static void bad_rows_and_values_are_errors(void **state)
{
    float row[3] = {1, NAN, 2}, none[3] = {-INFINITY, -INFINITY, -INFINITY};
    mlxr_sampler *s;
    mlxr_sampling p = plain(1);
    mlxr_sampled out;
    mlxr_draw d = {.logits = row};
    (void)state;
    assert_ok(mlxr_sampler_create(&s, 3, &err), &err);
    assert_fails(mlxr_sampler_sample(&out, s, &p, &d, &err), MLXR_E_DEVICE, "token 1", &err);
    d.logits = none;
    assert_fails(mlxr_sampler_sample(&out, s, &p, &d, &err), MLXR_E_DEVICE, "finite", &err);
    row[1] = -INFINITY; /* a masked token is never drawn */
    for (uint64_t i = 0; i < 100; i++) assert_int_not_equal(draw(s, p, 1, i, row, 3, NULL, 0), 1);
    mlxr_sampler_free(s);
}

static void every_option_has_its_range(void **state)
{
    const mlxr_logit_bias outside = {-1, 0}, above = {10, 0}, nan = {0, NAN}, inf = {0, INFINITY};
    const mlxr_logit_bias fine[] = {{0, -INFINITY}, {9, -3e38f}, {9, 100}};
    const char *const empty[] = {"a", ""};
    mlxr_sampling p;
    (void)state;
#define REFUSED(field, value)                                                                   \
    do {                                                                                        \
        p = mlxr_sampling_default();                                                            \
        p.field = value;                                                                        \
        assert_fails(mlxr_sampling_check(&p, 10, &err), MLXR_E_INVALID_ARGUMENT, #field, &err); \
    } while (0)
#define TAKEN(field, value)                                 \
    do {                                                    \
        p = mlxr_sampling_default();                        \
        p.field = value;                                    \
        assert_ok(mlxr_sampling_check(&p, 10, &err), &err); \
    } while (0)
#define REAL(field)                \
    do {                           \
        REFUSED(field, NAN);       \
        REFUSED(field, INFINITY);  \
        REFUSED(field, -INFINITY); \
    } while (0)
#define SHARE(field)            \
    do {                        \
        REAL(field);            \
        REFUSED(field, -0.01f); \
        REFUSED(field, 1.01f);  \
        TAKEN(field, 0);        \
        TAKEN(field, 1);        \
    } while (0)
#define COUNT(field)               \
    do {                           \
        REFUSED(field, -1);        \
        REFUSED(field, INT32_MIN); \
        TAKEN(field, 0);           \
        TAKEN(field, INT32_MAX);   \
    } while (0)
    SHARE(top_p);
    SHARE(min_p);
    SHARE(typical_p);
    SHARE(xtc_probability);
    SHARE(xtc_threshold);
    SHARE(mirostat_eta);
    REAL(temperature);
    REFUSED(temperature, -0.01f);
    TAKEN(temperature, 0);
    TAKEN(temperature, 3e38f);
    REAL(repeat_penalty);
    REFUSED(repeat_penalty, 0);
    REFUSED(repeat_penalty, -1);
    REAL(presence_penalty);
    REAL(frequency_penalty);
    TAKEN(presence_penalty, -2);
    TAKEN(frequency_penalty, -2);
    REAL(dry_multiplier);
    REFUSED(dry_multiplier, -0.1f);
    REAL(dry_base);
    REFUSED(dry_base, 0.99f);
    TAKEN(dry_base, 1);
    REAL(mirostat_tau);
    REFUSED(mirostat_tau, -1);
    TAKEN(mirostat_tau, 0);
    COUNT(top_k);
    COUNT(min_keep);
    COUNT(dry_allowed_length);
    COUNT(min_tokens);
    REFUSED(repeat_last_n, -2);
    TAKEN(repeat_last_n, -1);
    REFUSED(dry_penalty_last_n, -2);
    TAKEN(dry_penalty_last_n, -1);
    REFUSED(mirostat, -1);
    REFUSED(mirostat, 3);
    TAKEN(mirostat, 2);

    p = mlxr_sampling_default();
    p.n_logit_bias = 1;
    assert_fails(mlxr_sampling_check(&p, 10, &err), MLXR_E_INVALID_ARGUMENT, "logit_bias", &err);
    p.logit_bias = &outside;
    assert_fails(mlxr_sampling_check(&p, 0, &err), MLXR_E_INVALID_ARGUMENT, "token -1", &err);
    p.logit_bias = &above;
    assert_fails(mlxr_sampling_check(&p, 10, &err), MLXR_E_INVALID_ARGUMENT, "token 10", &err);
    assert_ok(mlxr_sampling_check(&p, 0, &err), &err); /* who does not know the vocabulary lets it pass */
    p.logit_bias = &nan;
    assert_fails(mlxr_sampling_check(&p, 10, &err), MLXR_E_INVALID_ARGUMENT, "logit_bias", &err);
    p.logit_bias = &inf;
    assert_fails(mlxr_sampling_check(&p, 10, &err), MLXR_E_INVALID_ARGUMENT, "logit_bias", &err);
    p.logit_bias = fine;
    p.n_logit_bias = MLXR_COUNT(fine);
    assert_ok(mlxr_sampling_check(&p, 10, &err), &err);
    p.dry_sequence_breakers = empty;
    p.n_dry_sequence_breakers = 2;
    assert_fails(mlxr_sampling_check(&p, 10, &err), MLXR_E_INVALID_ARGUMENT, "dry_sequence_breakers 1", &err);
    p.dry_sequence_breakers = NULL;
    assert_fails(mlxr_sampling_check(&p, 10, &err), MLXR_E_INVALID_ARGUMENT, "dry_sequence_breakers", &err);
    p.n_dry_sequence_breakers = 0;
    assert_ok(mlxr_sampling_check(&p, 10, &err), &err);
}

/* A device may then answer with its likeliest id: for each option alone, whether that is what sampling gives. */
static void argmax_is_said_when_nothing_moves_it(void **state)
{
    const mlxr_logit_bias bias = {0, 1};
    mlxr_sampling p;
    (void)state;
#define ARGMAX(yes, setting)                                          \
    do {                                                              \
        p = mlxr_sampling_default();                                  \
        p.temperature = 0;                                            \
        setting;                                                      \
        if (mlxr_sampling_is_argmax(&p) != (yes)) fail_msg(#setting); \
    } while (0)
    ARGMAX(true, );
    ARGMAX(true, p.typical_p = 0.1f);
    ARGMAX(true, p.xtc_probability = 1);
    ARGMAX(true, p.mirostat = 2);
    ARGMAX(false, p.temperature = 0.1f);
    ARGMAX(true, (p.temperature = 1, p.top_k = 1));
    ARGMAX(false, (p.temperature = 1, p.top_k = 1, p.mirostat = 1));
    ARGMAX(false, p.repeat_penalty = 1.1f);
    ARGMAX(false, p.presence_penalty = 0.1f);
    ARGMAX(false, p.frequency_penalty = -0.1f);
    ARGMAX(true, (p.presence_penalty = 0.1f, p.repeat_last_n = 0));
    ARGMAX(false, p.dry_multiplier = 0.5f);
    ARGMAX(true, (p.dry_multiplier = 0.5f, p.dry_penalty_last_n = 0));
    ARGMAX(false, (p.logit_bias = &bias, p.n_logit_bias = 1));
    ARGMAX(false, p.min_tokens = 1);
}

/* Whatever is wrong with the row and wherever, under a mask and a bias as well; and the row is as it was. */
static void rows_that_no_token_can_come_from(void **state)
{
    enum { N = 150 };
    static const size_t places[] = {0, 31, 63, 64, 127, 128, 149};
    const float bad[] = {NAN, INFINITY};
    const mlxr_logit_bias biases[] = {{0, -INFINITY}, {64, -INFINITY}, {149, -5}};
    const int32_t history[] = {0, 64, 149};
    uint32_t mask[MLXR_MASK_WORDS(N)] = {2};
    float row[N], before[N];
    mlxr_sampler *s;
    (void)state;
    assert_ok(mlxr_sampler_create(&s, N, &err), &err);
    for (size_t t = 0; t < 2; t++)
        for (size_t i = 0; i < MLXR_COUNT(places); i++)
            for (int b = 0; b < 2; b++) {
                mlxr_sampling p = plain(t ? 1 : 0);
                mlxr_sampled out;
                double logprob;
                size_t n_top = 0;
                mlxr_draw d = {.logits = row, .mask = mask, .history = history, .n_history = 3};
                p.logit_bias = biases;
                p.n_logit_bias = 3;
                p.repeat_penalty = 1.5f;
                for (size_t j = 0; j < N; j++) row[j] = (float)(j % 7);
                row[places[i]] = bad[b];
                memcpy(before, row, sizeof row);
                assert_fails(mlxr_sampler_sample(&out, s, &p, &d, &err), MLXR_E_DEVICE, "logit of token",
                             &err);
                assert_int_equal(out.id, -1);
                assert_memory_equal(row, before, sizeof row);
                assert_fails(mlxr_sampler_logprobs(&logprob, NULL, &n_top, s, row, 1, &err), MLXR_E_DEVICE,
                             "logit of token", &err);
            }
    {
        mlxr_sampling p = plain(1);
        mlxr_sampled out;
        mlxr_draw d = {.logits = row, .mask = mask};
        mlxr_logit_bias all[2] = {{1, -INFINITY}, {1, 3}};
        double logprob;
        size_t n_top = 0;
        for (size_t j = 0; j < N; j++) row[j] = 1;
        p.logit_bias = all;
        p.n_logit_bias = 2; /* 1 is all that the mask allows */
        assert_fails(mlxr_sampler_sample(&out, s, &p, &d, &err), MLXR_E_INVALID_ARGUMENT, "forbid", &err);
        for (size_t j = 0; j < N; j++) row[j] = -INFINITY;
        assert_fails(mlxr_sampler_sample(&out, s, &p, &d, &err), MLXR_E_DEVICE, "finite", &err);
        assert_fails(mlxr_sampler_logprobs(&logprob, NULL, &n_top, s, row, 1, &err), MLXR_E_DEVICE, "finite",
                     &err);
        row[3] = 0;
        assert_fails(mlxr_sampler_logprobs(&logprob, NULL, &n_top, s, row, N, &err), MLXR_E_INVALID_ARGUMENT,
                     "token 150", &err);
        assert_ok(mlxr_sampler_logprobs(&logprob, NULL, &n_top, s, row, 1, &err), &err);
        assert_true(logprob == -INFINITY);
        assert_ok(mlxr_sampler_logprobs(&logprob, NULL, &n_top, s, row, 3, &err), &err);
        assert_true(logprob == 0);
    }
    mlxr_sampler_free(s);
}

static const char *text_of(void *ud, int32_t id, size_t *n)
{
    const char *const *texts = ud;
    *n = texts[id] ? strlen(texts[id]) : 0;
    return texts[id];
}

static void breakers_are_the_tokens_that_hold_one(void **state)
{
    const char *texts[40] = {"a", "\n", " :)", NULL, "", "x\n\n", "\"", "**", "-", "->", ">"};
    const char *const arrow[] = {"->", "\n"};
    uint32_t mask[MLXR_MASK_WORDS(40)];
    mlxr_sampling p = mlxr_sampling_default();
    (void)state;
    texts[39] = "*";
    memset(mask, 0xff, sizeof mask);
    mlxr_dry_breakers_fill(mask, 40, &p, text_of, texts);
    assert_int_equal(mask[0], 1u << 1 | 1u << 2 | 1u << 5 | 1u << 6 | 1u << 7);
    assert_int_equal(mask[1], 1u << 7);
    p.dry_sequence_breakers = arrow;
    p.n_dry_sequence_breakers = 2;
    mlxr_dry_breakers_fill(mask, 40, &p, text_of, texts);
    assert_int_equal(mask[0], 1u << 1 | 1u << 5 | 1u << 9);
    assert_int_equal(mask[1], 0);
    p.n_dry_sequence_breakers = 0;
    mlxr_dry_breakers_fill(mask, 40, &p, text_of, texts);
    assert_int_equal(mask[0] | mask[1], 0);
}

static void a_copy_has_its_own_arrays(void **state)
{
    mlxr_logit_bias bias[] = {{1, 2}, {3, 4}};
    mlxr_sampling p = mlxr_sampling_default(), copy;
    (void)state;
    assert_ok(mlxr_sampling_copy(&copy, &p, &err), &err);
    assert_null(copy.logit_bias);
    mlxr_sampling_clear(&copy);
    p.logit_bias = bias;
    p.n_logit_bias = 2;
    assert_ok(mlxr_sampling_copy(&copy, &p, &err), &err);
    bias[1].id = 9;
    assert_int_equal(copy.logit_bias[1].id, 3);
    assert_int_equal(copy.n_dry_sequence_breakers, 0);
    assert_ok(mlxr_sampling_check(&copy, 10, &err), &err);
    mlxr_sampling_clear(&copy);
    mlxr_sampling_clear(&copy);
    mlxr_sampling_clear(NULL);
}

/* A sampler that has served other options, rows and histories gives what a new one gives. */
static void the_scratch_carries_nothing_over(void **state)
{
    enum { N = 60 };
    float row[N];
    int32_t history[200];
    mlxr_sampler *used, *fresh;
    (void)state;
    for (size_t i = 0; i < N; i++) row[i] = (float)((i * 37) % 23) / 4;
    for (size_t i = 0; i < 200; i++) history[i] = (int32_t)((i * i) % 11);
    assert_ok(mlxr_sampler_create(&used, N, &err), &err);
    for (uint64_t i = 0; i < 400; i++) {
        mlxr_sampling p = plain(i % 5 ? 0.9f : 0);
        p.top_k = i % 3 ? 0 : (int32_t)(i % 50);
        p.typical_p = i % 4 ? 1 : 0.7f;
        p.top_p = i % 7 ? 0.8f : 1;
        p.repeat_penalty = i % 2 ? 1.2f : 1;
        p.dry_multiplier = i % 3 == 1 ? 0.7f : 0;
        p.mirostat = i % 11 < 2 ? (int32_t)(i % 11) + 1 : 0;
        p.xtc_probability = i % 6 ? 0 : 0.5f;
        assert_ok(mlxr_sampler_create(&fresh, N, &err), &err);
        assert_int_equal(draw(used, p, 5, i, row, N, history, i % 200),
                         draw(fresh, p, 5, i, row, N, history, i % 200));
        mlxr_sampler_free(fresh);
    }
    mlxr_sampler_free(used);
}

/* Over many tokens mirostat's mean surprise comes to tau. */
static void mirostat_comes_to_its_surprise(void **state)
{
    enum { N = 1000, TOKENS = 4000 };
    float *row = malloc(N * sizeof *row);
    mlxr_sampler *s;
    (void)state;
    for (size_t i = 0; i < N; i++) row[i] = -1.1f * logf((float)((i * 387) % N + 1)); /* Zipf */
    assert_ok(mlxr_sampler_create(&s, N, &err), &err);
    for (int32_t version = 1; version <= 2; version++) {
        mlxr_sampling p = plain(1);
        mlxr_sampler_state st;
        double surprise = 0;
        p.mirostat = version;
        p.mirostat_tau = 3;
        st = mlxr_sampler_state_init(&p);
        for (uint64_t i = 0; i < TOKENS; i++) {
            mlxr_draw d = {.logits = row, .seed = 3, .i_token = i, .state = st};
            mlxr_sampled out;
            double logprob;
            size_t n_top = 0;
            assert_ok(mlxr_sampler_sample(&out, s, &p, &d, &err), &err);
            st = out.state;
            assert_ok(mlxr_sampler_logprobs(&logprob, NULL, &n_top, s, row, out.id, &err), &err);
            surprise -= logprob / M_LN2;
        }
        if (fabs(surprise / TOKENS - 3) > 0.05) fail_msg("version %d: %g bits", version, surprise / TOKENS);
    }
    mlxr_sampler_free(s);
    free(row);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_lowest_of_equals),
        cmocka_unit_test(temperature_alone_is_softmax),
        cmocka_unit_test(cuts_come_before_temperature),
        cmocka_unit_test(edge_values_leave_one),
        cmocka_unit_test(penalty_counts_a_token_once_and_looks_back_n),
        cmocka_unit_test(the_draw_depends_on_seed_and_index_alone),
        cmocka_unit_test(uniform_is_uniform),
        cmocka_unit_test(bad_rows_and_values_are_errors),
        cmocka_unit_test(every_option_has_its_range),
        cmocka_unit_test(argmax_is_said_when_nothing_moves_it),
        cmocka_unit_test(rows_that_no_token_can_come_from),
        cmocka_unit_test(breakers_are_the_tokens_that_hold_one),
        cmocka_unit_test(a_copy_has_its_own_arrays),
        cmocka_unit_test(the_scratch_carries_nothing_over),
        cmocka_unit_test(mirostat_comes_to_its_surprise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
