/* The sampler with every allocation failing in turn: MLXR_E_NOMEM, the row as it was, nothing leaked (LeakSanitizer sees
 * it in the asan build), and the sampler good for the next draw. The linker sends the library's own allocations
 * through the wrappers here (--wrap). */
#include "nomem.h"
#include "test.h"

#include "engine/sampler.h"

enum { N = 500 };

static mlxr_error err;
static float row[N], before[N];

/* A new sampler for a draw that needs all its scratch, a copy of the options, and logprobs. */
static mlxr_status run(bool again)
{
    const mlxr_logit_bias bias = {3, 1};
    static const int32_t history[] = {1, 2, 3, 4, 1, 2, 3};
    mlxr_draw d = {.logits = row, .history = history, .n_history = MLXR_COUNT(history), .seed = 1};
    mlxr_sampling p = mlxr_sampling_default(), copy = {0};
    mlxr_sampler *s = NULL;
    mlxr_logprob top[5];
    mlxr_sampled out;
    double logprob;
    size_t n_top = 5;
    mlxr_status st;

    p.logit_bias = &bias;
    p.n_logit_bias = 1;
    p.repeat_penalty = 1.2f;
    p.dry_multiplier = 1;
    if ((st = mlxr_sampling_copy(&copy, &p, &err)) != MLXR_OK) goto done;
    if ((st = mlxr_sampler_create(&s, N, &err)) != MLXR_OK) goto done;
    st = mlxr_sampler_sample(&out, s, &copy, &d, &err);
    assert_memory_equal(row, before, sizeof row);
    if (st == MLXR_OK) {
        copy.top_k = 0;
        st = mlxr_sampler_sample(&out, s, &copy, &d, &err);
        assert_memory_equal(row, before, sizeof row);
    }
    if (st == MLXR_OK) st = mlxr_sampler_logprobs(&logprob, top, &n_top, s, row, 4, &err);
    if (st != MLXR_OK && again) {
        assert_int_equal(mlxr_sampler_sample(&out, s, &copy, &d, NULL), MLXR_OK);
        assert_in_range(out.id, 0, N - 1);
    }
done:
    mlxr_sampler_free(s);
    mlxr_sampling_clear(&copy);
    return st;
}

static void each_allocation_fails_once(void **state)
{
    size_t at;
    (void)state;
    for (size_t i = 0; i < N; i++) row[i] = before[i] = (float)((i * 31) % 97) / 10;
    for (at = 1;; at++) {
        mlxr_status st;
        n_calls = 0;
        fail_at = at;
        st = run(true);
        fail_at = SIZE_MAX;
        if (n_calls < at) {
            assert_ok(st, &err);
            break;
        }
        assert_int_equal(st, MLXR_E_NOMEM);
        assert_non_null(strstr(err.message, "memory"));
    }
    assert_true(at > 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_allocation_fails_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
