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

#define REFUSED(field, value)                                                                  \
    do {                                                                                       \
        p = mlxr_sampling_default();                                                           \
        p.field = value;                                                                       \
        assert_fails(mlxr_sampling_check(&p, 0, &err), MLXR_E_INVALID_ARGUMENT, #field, &err); \
    } while (0)
    REFUSED(temperature, -1);
    REFUSED(temperature, NAN);
    REFUSED(temperature, INFINITY);
    REFUSED(top_k, -1);
    REFUSED(top_p, 1.5f);
    REFUSED(top_p, NAN);
    REFUSED(min_p, -0.1f);
    REFUSED(repeat_penalty, 0);
    REFUSED(repeat_last_n, -2);
    p = mlxr_sampling_default();
    assert_ok(mlxr_sampling_check(&p, 0, &err), &err);
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
