/* The runner over the mock adapter: events and their order, stop strings, lengths, cancelling, one caller at a time. */
#include "test.h"

#include <pthread.h>
#include <unistd.h>

#include "runner/runner.h"

static mlxr_error err;

struct seen {
    mlxr_runner *runner;
    size_t n_tokens, n_completed, n_rest, cancel_at;
    bool late; /* an event after COMPLETED */
    mlxr_buf pieces;
    char *whole;
    mlxr_stats stats;
    mlxr_status nested;
};

static void on_event(const mlxr_event *ev, void *ud)
{
    struct seen *s = ud;
    if (s->n_completed) s->late = true;
    assert_int_equal(strlen(ev->text), ev->n_text);
    if (ev->type == MLXR_EVENT_TOKEN) {
        assert_null(ev->stats);
        if (ev->id >= 0)
            s->n_tokens++;
        else
            s->n_rest++;
        mlxr_buf_append(&s->pieces, ev->text, ev->n_text);
        if (s->cancel_at && s->n_tokens == s->cancel_at) mlxr_runner_cancel(s->runner);
    } else {
        s->n_completed++;
        s->whole = mlxr_strdup(ev->text);
        s->stats = *ev->stats;
    }
}

static void seen_clear(struct seen *s)
{
    mlxr_buf_clear(&s->pieces);
    free(s->whole);
    *s = (struct seen){.runner = s->runner};
}

static mlxr_runner *open_mock(uint32_t token_ms)
{
    mlxr_runner_options o = mlxr_runner_options_default();
    mlxr_runner *r;
    o.adapter = "mock";
    o.mock_token_ms = token_ms;
    assert_ok(mlxr_runner_open(&r, "any", &o, &err), &err);
    return r;
}

static void tokens_then_completed(void **state)
{
    struct seen s = {.runner = open_mock(0)};
    mlxr_request q = mlxr_request_default();
    mlxr_stats stats;
    (void)state;
    q.prompt = "héllo  wörld\nagain";
    assert_ok(mlxr_runner_generate(s.runner, &q, on_event, &s, &stats, &err), &err);
    assert_int_equal(s.n_tokens, 5);
    assert_int_equal(s.n_completed, 1);
    assert_false(s.late);
    assert_string_equal(s.whole, "You said: héllo  wörld\nagain");
    assert_string_equal(s.pieces.data, s.whole);
    assert_int_equal(s.stats.generated_token_count, 5);
    assert_int_equal(s.stats.prompt_token_count, 3);
    assert_int_equal(s.stats.done_reason, MLXR_DONE_STOP);
    assert_true(stats.duration_ns >= stats.prefill_ns + stats.decode_ns);
    assert_string_equal(mlxr_runner_device_name(s.runner), "mock");
    seen_clear(&s);

    q.max_tokens = 2;
    assert_ok(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), &err);
    assert_string_equal(s.whole, "You said:");
    assert_int_equal(s.stats.done_reason, MLXR_DONE_LENGTH);
    seen_clear(&s);

    q.max_tokens = 0;
    assert_ok(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), &err);
    assert_string_equal(s.whole, "");
    assert_int_equal(s.n_completed, 1);
    seen_clear(&s);

    q = mlxr_request_default();
    q.messages_json = "[{\"role\":\"user\",\"content\":\"one\"},{\"role\":\"user\",\"content\":\"two\"}]";
    assert_ok(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), &err);
    assert_string_equal(s.whole, "You said: two");
    seen_clear(&s);
    q.messages_json = "{\"role\":";
    assert_fails(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), MLXR_E_FORMAT, "messages",
                 &err);
    q.messages_json = "{}";
    assert_fails(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), MLXR_E_INVALID_ARGUMENT,
                 "list", &err);
    q.messages_json = NULL;
    q.prompt = "bad \xff";
    assert_fails(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), MLXR_E_INVALID_ARGUMENT,
                 "byte 4", &err);
    assert_int_equal(s.n_completed, 0);
    mlxr_runner_close(s.runner);
}

static void stop_strings_span_tokens(void **state)
{
    const char *const stops[] = {"never", "b c"};
    struct seen s = {.runner = open_mock(0)};
    mlxr_request q = mlxr_request_default();
    (void)state;
    q.prompt = "a b x b c d";
    q.stop = stops;
    q.n_stop = 2;
    assert_ok(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), &err);
    assert_string_equal(s.whole, "You said: a b x ");
    assert_string_equal(s.pieces.data, s.whole);
    assert_int_equal(s.stats.done_reason, MLXR_DONE_STOP);
    assert_int_equal(s.stats.generated_token_count, 7);
    seen_clear(&s);
    q.prompt = "a neve"; /* what could have become a stop string comes at the end */
    assert_ok(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), &err);
    assert_string_equal(s.pieces.data, "You said: a neve");
    assert_int_equal(s.n_rest, 1);
    seen_clear(&s);
    mlxr_runner_close(s.runner);
}

static void a_cancelled_request_ends_within_a_token(void **state)
{
    struct seen s = {.runner = open_mock(0), .cancel_at = 3};
    mlxr_request q = mlxr_request_default();
    mlxr_stats stats;
    (void)state;
    q.prompt = "a b c d e f g";
    assert_fails(mlxr_runner_generate(s.runner, &q, on_event, &s, &stats, &err), MLXR_E_CANCELLED,
                 "cancelled", &err);
    assert_int_equal(s.n_tokens, 3);
    assert_int_equal(s.n_completed, 0);
    assert_int_equal(stats.generated_token_count, 3);
    assert_int_equal(stats.done_reason, MLXR_DONE_CANCELLED);
    seen_clear(&s);
    s.cancel_at = 0;
    assert_ok(mlxr_runner_generate(s.runner, &q, on_event, &s, &stats, &err), &err); /* as good as new */
    assert_string_equal(s.whole, "You said: a b c d e f g");
    seen_clear(&s);
    mlxr_runner_close(s.runner);
    mlxr_runner_cancel(NULL);
}

struct other {
    mlxr_runner *runner;
    mlxr_status busy;
};

static void *cancel_from_here(void *ud)
{
    struct other *o = ud;
    mlxr_request q = mlxr_request_default();
    usleep(50000);
    o->busy = mlxr_runner_generate(o->runner, &q, NULL, NULL, NULL, NULL);
    mlxr_runner_cancel(o->runner);
    return NULL;
}

static void another_thread_may_cancel_but_not_generate(void **state)
{
    struct seen s = {.runner = open_mock(60000)}; /* a minute a token: only a cancel ends this */
    struct other o = {.runner = s.runner};
    mlxr_request q = mlxr_request_default();
    uint64_t start = mlxr_now_ns();
    pthread_t t;
    (void)state;
    assert_int_equal(pthread_create(&t, NULL, cancel_from_here, &o), 0);
    assert_int_equal(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), MLXR_E_CANCELLED);
    pthread_join(t, NULL);
    assert_int_equal(o.busy, MLXR_E_BUSY);
    assert_true(mlxr_now_ns() - start < 30000000000u);
    mlxr_runner_close(s.runner);
}

static void an_unknown_adapter_is_named(void **state)
{
    mlxr_runner_options o = mlxr_runner_options_default();
    mlxr_runner *r;
    (void)state;
    o.adapter = "gpu";
    assert_fails(mlxr_runner_open(&r, "x", &o, &err), MLXR_E_INVALID_ARGUMENT, "\"gpu\"", &err);
    assert_null(r);
    mlxr_runner_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_then_completed),
        cmocka_unit_test(stop_strings_span_tokens),
        cmocka_unit_test(a_cancelled_request_ends_within_a_token),
        cmocka_unit_test(another_thread_may_cancel_but_not_generate),
        cmocka_unit_test(an_unknown_adapter_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
