/* The engine of mlxr.h on tiny_chat: events, choices, cancelling, ends of every kind, embeddings and scores against mlx-lm
 * (make_engine_api.py), and many threads at once. The build under the thread sanitizer runs all of it. */
#include "test.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "runner/engine_api.h"

#define TINY MLXR_TEST_DIR "/fixtures/tiny_chat"

static _Thread_local mlxr_error err;

static mlxr_engine_options exact(const char *device)
{
    mlxr_engine_options o = mlxr_engine_options_default();
    o.device = device;
    o.precision = MLXR_PRECISION_EXACT;
    o.n_threads = 2;
    return o;
}

static mlxr_engine *open_tiny(const char *device)
{
    mlxr_engine_options o = exact(device);
    mlxr_engine *e;
    assert_ok(mlxr_engine_open(&e, TINY, &o, &err), &err);
    return e;
}

static mlxr_request greedy(const char *prompt, int32_t max_tokens)
{
    mlxr_request q = mlxr_request_default();
    q.prompt = prompt;
    q.max_tokens = max_tokens;
    q.sampling.temperature = 0;
    q.ignore_eos = true;
    return q;
}

static void sleep_ms(long ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* What a generation gave, pulled to its end. */
struct seen {
    int32_t ids[600];
    double logprobs[600];
    size_t n_ids, n_completed;
    mlxr_buf pieces;
    char whole[8192];
    mlxr_stats stats;
    mlxr_status failed;
};

static void take(struct seen *s, const mlxr_event *ev)
{
    assert_int_equal(s->failed, MLXR_OK);
    switch (ev->type) {
    case MLXR_EVENT_TOKEN:
        assert_int_equal(s->n_completed, 0);
        if (ev->id >= 0) {
            s->logprobs[s->n_ids] = ev->has_logprob ? ev->logprob : NAN;
            s->ids[s->n_ids++] = ev->id;
        }
        mlxr_buf_append(&s->pieces, ev->text, ev->n_text);
        break;
    case MLXR_EVENT_COMPLETED:
        s->n_completed++;
        s->stats = *ev->stats;
        assert_in_range(ev->n_text, 0, sizeof s->whole - 1);
        memcpy(s->whole, ev->text, ev->n_text + 1);
        break;
    case MLXR_EVENT_TOOL_CALL: fail_msg("nobody asked for tools"); break;
    case MLXR_EVENT_FAILED:
        s->failed = ev->status;
        assert_int_not_equal(ev->status, MLXR_OK);
        assert_true(ev->n_text > 0);
        s->stats = *ev->stats;
        break;
    }
}

static void pull(struct seen *s, mlxr_generation *g)
{
    mlxr_event ev;
    mlxr_status st;

    *s = (struct seen){0};
    while (mlxr_generation_next(g, -1, &ev)) take(s, &ev);
    assert_true(mlxr_generation_ended(g));
    st = mlxr_generation_wait(g, NULL, &err);
    assert_int_equal(st, s->failed);
    assert_int_equal(s->n_completed, st == MLXR_OK);
    if (s->n_completed && s->pieces.len) assert_string_equal(s->pieces.data, s->whole);
    mlxr_buf_clear(&s->pieces);
}

static mlxr_generation *submit(mlxr_engine *e, const mlxr_request *q)
{
    mlxr_generation *g;
    assert_ok(mlxr_engine_submit(&g, e, q, NULL, NULL, &err), &err);
    return g;
}

static void run(struct seen *s, mlxr_engine *e, const mlxr_request *q)
{
    mlxr_generation *g = submit(e, q);
    pull(s, g);
    mlxr_generation_free(g);
}

/* ---- answers ---- */

static void answers_are_mlx_lms(void **state)
{
    static const char *const devices[] = {"ref", "cpu"};
    json_t *doc, *c;
    size_t i;

    (void)state;
    assert_ok(mlxr_json_read(&doc, MLXR_TEST_DIR "/fixtures/tiny_chat.json", 1 << 20, &err), &err);
    for (size_t d = 0; d < MLXR_COUNT(devices); d++) {
        mlxr_engine *e = open_tiny(devices[d]);
        mlxr_generation *g[8] = {0};
        mlxr_engine_info info = mlxr_engine_get_info(e);
        assert_string_equal(info.family, "llama");
        assert_int_equal(info.hidden_size, 64);
        assert_int_equal(info.context_length, 512);
        assert_non_null(strstr(info.device_name, devices[d]));
        /* All at once, and what comes of each is what it is alone. */
        json_array_foreach(json_object_get(doc, "cases"), i, c)
        {
            mlxr_request q = greedy(json_string_value(json_object_get(c, "prompt")), 24);
            g[i] = submit(e, &q);
        }
        json_array_foreach(json_object_get(doc, "cases"), i, c)
        {
            const json_t *want = json_object_get(c, "greedy");
            struct seen s;
            pull(&s, g[i]);
            assert_int_equal(s.n_ids, json_array_size(want));
            for (size_t k = 0; k < s.n_ids; k++)
                assert_int_equal(s.ids[k], json_integer_value(json_array_get(want, k)));
            assert_string_equal(s.whole, json_string_value(json_object_get(c, "text")));
            assert_int_equal(s.stats.prompt_token_count, json_array_size(json_object_get(c, "prompt_ids")));
            assert_int_equal(s.stats.generated_token_count, s.n_ids);
            assert_int_equal(s.stats.done_reason, MLXR_DONE_LENGTH);
            assert_true(s.stats.duration_ns > 0);
            mlxr_generation_free(g[i]);
        }
        mlxr_engine_close(e);
    }
    json_decref(doc);
}

static void a_prompt_by_ids_is_the_same(void **state)
{
    mlxr_engine *e = open_tiny("ref");
    mlxr_request q = greedy("Hello", 12);
    struct seen by_text, by_ids;
    int32_t *ids;
    char *text;
    size_t n, n_text;

    (void)state;
    assert_ok(mlxr_engine_encode(&ids, &n, e, &q, &err), &err);
    assert_ok(mlxr_engine_render(&text, &n_text, e, &q, &err), &err);
    assert_string_equal(text, "<s><|user|>Hello<|end|><|assistant|>");
    mlxr_free(text);
    assert_non_null(strstr(mlxr_engine_template_source(e), "add_generation_prompt"));
    run(&by_text, e, &q);
    q.prompt = NULL;
    q.prompt_ids = ids;
    q.n_prompt_ids = n;
    assert_fails(mlxr_engine_render(&text, &n_text, e, &q, &err), MLXR_E_INVALID_ARGUMENT, "tokens", &err);
    run(&by_ids, e, &q);
    assert_int_equal(by_ids.stats.prompt_token_count, n);
    assert_memory_equal(by_text.ids, by_ids.ids, sizeof by_ids.ids);
    mlxr_free(ids);
    mlxr_engine_close(e);
}

/* n choices are what requests with their seeds give one by one; they come mixed and each completes once. */
static void choices_are_requests_of_their_own(void **state)
{
    enum { N = 3 };
    mlxr_engine *e = open_tiny("cpu");
    mlxr_request q = greedy("a b c", 20);
    int32_t ids[N][32];
    size_t n_ids[N] = {0}, n_completed[N] = {0}, n_generated = 0;
    mlxr_generation *g;
    mlxr_event ev;
    mlxr_stats stats;

    (void)state;
    q.sampling = mlxr_sampling_default();
    q.sampling.seed = 40;
    q.n_choices = N;
    g = submit(e, &q);
    while (mlxr_generation_next(g, -1, &ev)) {
        assert_in_range(ev.choice, 0, N - 1);
        if (ev.type == MLXR_EVENT_TOKEN && ev.id >= 0) ids[ev.choice][n_ids[ev.choice]++] = ev.id;
        if (ev.type == MLXR_EVENT_COMPLETED) n_completed[ev.choice]++;
    }
    assert_ok(mlxr_generation_wait(g, &stats, &err), &err);
    mlxr_generation_free(g);
    q.n_choices = 1;
    for (size_t i = 0; i < N; i++) {
        struct seen s;
        q.sampling.seed = 40 + (int64_t)i;
        run(&s, e, &q);
        assert_int_equal(n_completed[i], 1);
        assert_int_equal(n_ids[i], s.n_ids);
        assert_memory_equal(ids[i], s.ids, s.n_ids * sizeof s.ids[0]);
        n_generated += s.n_ids;
    }
    assert_int_equal(stats.generated_token_count, n_generated);
    assert_memory_not_equal(ids[0], ids[1], sizeof ids[0]);
    mlxr_engine_close(e);
}

/* Log-probabilities of a greedy answer are those a score of the whole text tells, and its token is the likeliest. */
static void logprobs_agree_with_scores(void **state)
{
    mlxr_engine *e = open_tiny("ref");
    mlxr_request q = greedy("Hello", 10);
    int32_t all[64], *prompt;
    size_t n_prompt, n = 0;
    mlxr_generation *g;
    mlxr_event ev;
    mlxr_score score;
    mlxr_input input = {.ids = all};
    double logprobs[16];

    (void)state;
    assert_ok(mlxr_engine_encode(&prompt, &n_prompt, e, &q, &err), &err);
    memcpy(all, prompt, n_prompt * sizeof *prompt);
    q.logprobs = true;
    q.top_logprobs = 3;
    g = submit(e, &q);
    while (mlxr_generation_next(g, -1, &ev)) {
        if (ev.type != MLXR_EVENT_TOKEN || ev.id < 0) continue;
        assert_true(ev.has_logprob);
        assert_int_equal(ev.n_top, 3);
        assert_int_equal(ev.top[0].id, ev.id);
        assert_true(fabs(ev.top[0].logprob - ev.logprob) < 1e-6);
        assert_true(ev.top[0].logprob >= ev.top[1].logprob && ev.top[1].logprob >= ev.top[2].logprob);
        logprobs[n] = ev.logprob;
        all[n_prompt + n++] = ev.id;
    }
    assert_int_equal(n, 10);
    mlxr_generation_free(g);
    input.n_ids = n_prompt + n;
    assert_ok(mlxr_engine_score(&score, e, &input, &err), &err);
    for (size_t i = 0; i < n; i++) assert_true(fabs(score.logprobs[n_prompt + i] - logprobs[i]) < 1e-5);
    mlxr_score_clear(&score);
    mlxr_free(prompt);
    mlxr_engine_close(e);
}

/* ---- what is refused at once ---- */

static void impossible_requests_fail_here_and_now(void **state)
{
    mlxr_engine *e = open_tiny("ref");
    char longer[700];
    mlxr_generation *g;
    mlxr_request q;
    int32_t none = 0;

    (void)state;
#define REFUSED(field, value, status, text)                                            \
    q = greedy("Hello", 5);                                                            \
    q.field = value;                                                                   \
    assert_fails(mlxr_engine_submit(&g, e, &q, NULL, NULL, &err), status, text, &err); \
    assert_null(g)
    REFUSED(n_choices, 0, MLXR_E_INVALID_ARGUMENT, "n_choices");
    REFUSED(max_tokens, -2, MLXR_E_INVALID_ARGUMENT, "max_tokens");
    REFUSED(top_logprobs, 21, MLXR_E_INVALID_ARGUMENT, "top_logprobs");
    REFUSED(num_keep, -1, MLXR_E_INVALID_ARGUMENT, "num_keep");
    REFUSED(overflow, (mlxr_overflow)7, MLXR_E_INVALID_ARGUMENT, "overflow");
    REFUSED(sampling.temperature, -1, MLXR_E_INVALID_ARGUMENT, "temperature");
    REFUSED(sampling.top_p, NAN, MLXR_E_INVALID_ARGUMENT, "top_p");
    REFUSED(messages_json, "{", MLXR_E_FORMAT, "messages");
    REFUSED(messages_json, "{}", MLXR_E_INVALID_ARGUMENT, "list");
    REFUSED(tools_json, "3", MLXR_E_INVALID_ARGUMENT, "tools");
    REFUSED(prompt, "\xff", MLXR_E_INVALID_ARGUMENT, "UTF-8");
    REFUSED(prompt_ids, &none, MLXR_E_INVALID_ARGUMENT, "no tokens");
#undef REFUSED
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    q = greedy(longer, 5);
    assert_fails(mlxr_engine_submit(&g, e, &q, NULL, NULL, &err), MLXR_E_CONTEXT_OVERFLOW, "512", &err);
    none = 267;
    q = greedy(NULL, 5);
    q.prompt_ids = &none;
    q.n_prompt_ids = 1;
    assert_fails(mlxr_engine_submit(&g, e, &q, NULL, NULL, &err), MLXR_E_INVALID_ARGUMENT, "267", &err);
    mlxr_engine_close(e);
}

static void opening_fails_cleanly(void **state)
{
    mlxr_engine_options o = exact("ref");
    mlxr_engine *e;

    (void)state;
    assert_fails(mlxr_engine_open(&e, "/nowhere", &o, &err), MLXR_E_MODEL_PATH_MISSING, "nowhere", &err);
    assert_null(e);
    o.device = "quantum";
    assert_fails(mlxr_engine_open(&e, TINY, &o, &err), MLXR_E_DEVICE, "quantum", &err);
    o.device = "ref";
    o.context_length = 100000;
    assert_fails(mlxr_engine_open(&e, TINY, &o, &err), MLXR_E_CONTEXT_OVERFLOW, "512", &err);
    assert_null(e);
    mlxr_engine_close(NULL);
    mlxr_generation_free(NULL);
    mlxr_generation_cancel(NULL);
}

/* ---- cancelling and closing ---- */

static void cancelled_generations_end(void **state)
{
    mlxr_engine *e = open_tiny("ref");
    mlxr_request q = greedy("Hello", -1);
    mlxr_generation *g = submit(e, &q), *other;
    mlxr_event ev;
    struct seen s;

    (void)state;
    assert_true(mlxr_generation_next(g, -1, &ev));
    assert_false(mlxr_generation_ended(g));
    mlxr_generation_cancel(g);
    mlxr_generation_cancel(g);
    q = greedy("Hello", 8);
    other = submit(e, &q); /* is not held up */
    pull(&s, g);
    assert_int_equal(s.failed, MLXR_E_CANCELLED);
    assert_int_equal(s.stats.done_reason, MLXR_DONE_CANCELLED);
    assert_true(s.stats.generated_token_count > 0 && s.stats.generated_token_count < 500);
    mlxr_generation_cancel(g); /* too late, and no harm */
    mlxr_generation_free(g);
    pull(&s, other);
    assert_int_equal(s.failed, MLXR_OK);
    mlxr_generation_free(other);
    for (int i = 0; i < 200 && mlxr_engine_get_load(e).n_running; i++) sleep_ms(10);
    assert_int_equal(mlxr_engine_get_load(e).n_running, 0);
    assert_int_equal(mlxr_engine_get_load(e).kv_bytes_used, 0);
    mlxr_engine_close(e);
}

static void closing_ends_what_runs(void **state)
{
    enum { N = 6 };
    mlxr_engine *e = open_tiny("ref");
    mlxr_request q = greedy("Hello", -1);
    mlxr_generation *g[N];
    mlxr_event ev;

    (void)state;
    for (size_t i = 0; i < N; i++) g[i] = submit(e, &q);
    assert_true(mlxr_generation_next(g[0], -1, &ev));
    mlxr_engine_close(e);
    for (size_t i = 0; i < N; i++) {
        struct seen s;
        mlxr_generation_cancel(g[i]); /* there is no engine any more, and it is still allowed */
        pull(&s, g[i]);
        assert_int_equal(s.failed, MLXR_E_CANCELLED);
        mlxr_generation_free(g[i]);
    }
}

struct listener {
    mlxr_generation *g;
    size_t n_tokens, n_ends, cancel_at, free_at;
    mlxr_status status;
    int done; /* atomic */
};

static void listen(const mlxr_event *ev, void *ud)
{
    struct listener *l = ud;

    if (ev->type == MLXR_EVENT_TOKEN) {
        l->n_tokens++;
        if (l->n_tokens == l->cancel_at) mlxr_generation_cancel(l->g);
        if (l->n_tokens == l->free_at) {
            mlxr_generation_free(l->g);
            __atomic_store_n(&l->done, 1, __ATOMIC_RELEASE);
        }
    } else {
        l->n_ends++;
        l->status = ev->status;
        __atomic_store_n(&l->done, 1, __ATOMIC_RELEASE);
    }
}

static void callbacks_may_cancel_and_free(void **state)
{
    mlxr_engine *e = open_tiny("ref");
    mlxr_request q = greedy("Hello", 40);
    struct listener l = {0};
    size_t n;

    (void)state;
    assert_ok(mlxr_engine_submit(&l.g, e, &q, listen, &l, &err), &err);
    assert_ok(mlxr_generation_wait(l.g, NULL, &err), &err);
    assert_int_equal(l.n_ends, 1);
    assert_int_equal(l.n_tokens, 40);
    mlxr_generation_free(l.g);

    l = (struct listener){.cancel_at = 3};
    q.max_tokens = -1;
    assert_ok(mlxr_engine_submit(&l.g, e, &q, listen, &l, &err), &err);
    assert_int_equal(mlxr_generation_wait(l.g, NULL, &err), MLXR_E_CANCELLED);
    assert_int_equal(l.n_ends, 1);
    assert_int_equal(l.status, MLXR_E_CANCELLED);
    assert_in_range(l.n_tokens, 3, 5);
    mlxr_generation_free(l.g);

    l = (struct listener){.free_at = 2};
    assert_ok(mlxr_engine_submit(&l.g, e, &q, listen, &l, &err), &err);
    while (!__atomic_load_n(&l.done, __ATOMIC_ACQUIRE)) sleep_ms(1);
    n = l.n_tokens;
    sleep_ms(30);
    assert_int_equal(l.n_tokens, n); /* not a word after free */
    assert_int_equal(l.n_ends, 0);

    /* free from here while it talks */
    l = (struct listener){0};
    assert_ok(mlxr_engine_submit(&l.g, e, &q, listen, &l, &err), &err);
    sleep_ms(5);
    mlxr_generation_free(l.g);
    n = l.n_tokens;
    sleep_ms(30);
    assert_int_equal(l.n_tokens, n);
    mlxr_engine_close(e);
}

static void waiting_has_its_time(void **state)
{
    mlxr_engine *e = open_tiny("ref");
    mlxr_request q = greedy("Hello", -1);
    mlxr_generation *g[17];
    uint64_t start;
    mlxr_event ev;

    (void)state;
    for (size_t i = 0; i < 17; i++) g[i] = submit(e, &q); /* one more than run at once */
    start = mlxr_now_ns();
    while (mlxr_generation_next(g[16], 0, &ev)) {
    }
    assert_false(mlxr_generation_next(g[16], 20, &ev));
    assert_true(mlxr_now_ns() - start < 5000000000u);
    assert_false(mlxr_generation_ended(g[16]));
    for (size_t i = 0; i < 17; i++) mlxr_generation_free(g[i]);
    mlxr_engine_close(e);
}

/* ---- a device that fails ---- */

static mlxr_device_ops failing_ops;
static int runs_left; /* atomic; below 0: fails */
static int answers_nan;

static mlxr_status failing_run(mlxr_executable *x, mlxr_state *s, const mlxr_batch *batch,
                               const volatile int *cancel, float *logits, mlxr_error *e)
{
    mlxr_status st;

    if (__atomic_fetch_sub(&runs_left, 1, __ATOMIC_RELAXED) <= 0 && !answers_nan)
        return mlxr_fail(e, MLXR_E_DEVICE, "device broken: it fell off the bus");
    st = mlxr_device_ref.run(x, s, batch, cancel, logits, e);
    if (answers_nan && batch->n_rows && !batch->hidden) logits[0] = NAN;
    return st;
}

static mlxr_engine *open_failing(int n_good_runs)
{
    mlxr_device_options options = {0};
    mlxr_engine_options o = exact("ref");
    mlxr_device *d;
    mlxr_engine *e;

    failing_ops = mlxr_device_ref;
    failing_ops.run = failing_run;
    __atomic_store_n(&runs_left, n_good_runs, __ATOMIC_RELAXED);
    assert_ok(mlxr_device_open(&d, "ref", &options, &err), &err);
    d->ops = &failing_ops;
    assert_ok(mlxr_engine_open_on(&e, TINY, d, &o, &err), &err);
    return e;
}

static void a_failing_device_ends_everyone(void **state)
{
    enum { N = 20 }; /* more than run at once */
    mlxr_engine *e = open_failing(4);
    mlxr_request q = greedy("Hello", -1);
    mlxr_generation *g[N];
    mlxr_input input = {.text = "abc", .n_text = 3};
    mlxr_embeddings v;
    mlxr_score s;
    struct seen seen;

    (void)state;
    for (size_t i = 0; i < N; i++) g[i] = submit(e, &q);
    for (size_t i = 0; i < N; i++) {
        pull(&seen, g[i]);
        assert_int_equal(seen.failed, MLXR_E_DEVICE);
        assert_non_null(strstr(err.message, "bus"));
        mlxr_generation_free(g[i]);
    }
    assert_fails(mlxr_engine_embed(&v, e, &input, 1, NULL, &err), MLXR_E_DEVICE, "bus", &err);
    assert_fails(mlxr_engine_score(&s, e, &input, &err), MLXR_E_DEVICE, "bus", &err);
    /* It comes back. */
    __atomic_store_n(&runs_left, 1000000, __ATOMIC_RELAXED);
    q = greedy("Hello", 5);
    run(&seen, e, &q);
    assert_int_equal(seen.n_ids, 5);
    mlxr_engine_close(e);
}

static void a_row_that_is_no_number_ends_its_own(void **state)
{
    mlxr_engine *e = open_failing(0);
    mlxr_request q = greedy("Hello", 8);
    struct seen s;

    (void)state;
    answers_nan = 1;
    q.sampling.temperature = 1;
    run(&s, e, &q);
    assert_int_equal(s.failed, MLXR_E_DEVICE);
    answers_nan = 0;
    mlxr_engine_close(e);
}

/* ---- embeddings, scores, what the folder says ---- */

static void assert_near(const float *got, const json_t *want, size_t n, double tolerance)
{
    assert_int_equal(json_array_size(want), n);
    for (size_t i = 0; i < n; i++)
        if (fabs((double)got[i] - json_number_value(json_array_get(want, i))) > tolerance)
            fail_msg("value %zu is %g, wanted %g", i, (double)got[i],
                     json_number_value(json_array_get(want, i)));
}

static void embeddings_and_scores_are_mlx_lms(void **state)
{
    static const char *const devices[] = {"ref", "cpu"};
    json_t *doc, *cases;

    (void)state;
    assert_ok(mlxr_json_read(&doc, MLXR_TEST_DIR "/fixtures/engine_api.json", 1 << 20, &err), &err);
    cases = json_object_get(doc, "cases");
    for (size_t d = 0; d < MLXR_COUNT(devices); d++) {
        mlxr_engine *e = open_tiny(devices[d]);
        mlxr_input inputs[8];
        size_t n = json_array_size(cases), n_tokens = 0;
        mlxr_embed_options o = mlxr_embed_options_default();
        mlxr_embeddings v;

        assert_int_equal(mlxr_engine_pooling_default(e), MLXR_POOLING_LAST);
        for (size_t i = 0; i < n; i++) {
            const char *text = json_string_value(json_object_get(json_array_get(cases, i), "text"));
            inputs[i] = (mlxr_input){.text = text, .n_text = strlen(text)};
            n_tokens += json_array_size(json_object_get(json_array_get(cases, i), "ids"));
        }
        assert_ok(mlxr_engine_embed(&v, e, inputs, n, NULL, &err), &err);
        assert_int_equal(v.n, n);
        assert_int_equal(v.n_dimensions, 64);
        assert_int_equal(v.n_tokens, n_tokens);
        for (size_t i = 0; i < n; i++)
            assert_near(v.values + i * 64, json_object_get(json_array_get(cases, i), "last"), 64, 1e-4);
        mlxr_embeddings_clear(&v);
        o.pooling = MLXR_POOLING_MEAN;
        assert_ok(mlxr_engine_embed(&v, e, inputs, n, &o, &err), &err);
        for (size_t i = 0; i < n; i++)
            assert_near(v.values + i * 64, json_object_get(json_array_get(cases, i), "mean"), 64, 1e-4);
        mlxr_embeddings_clear(&v);
        o.pooling = MLXR_POOLING_LAST;
        o.dimensions = 16;
        assert_ok(mlxr_engine_embed(&v, e, inputs, n, &o, &err), &err);
        assert_int_equal(v.n_dimensions, 16);
        for (size_t i = 0; i < n; i++)
            assert_near(v.values + i * 16, json_object_get(json_array_get(cases, i), "last_16"), 16, 1e-4);
        mlxr_embeddings_clear(&v);

        for (size_t i = 0; i < n; i++) {
            const json_t *c = json_array_get(cases, i);
            mlxr_score s;
            double sum = 0;
            assert_ok(mlxr_engine_score(&s, e, &inputs[i], &err), &err);
            assert_near(s.logprobs, json_object_get(c, "logprobs"), s.n_tokens, 2e-3);
            for (size_t k = 0; k < s.n_tokens; k++) {
                assert_int_equal(s.ids[k], json_integer_value(json_array_get(json_object_get(c, "ids"), k)));
                sum += (double)s.logprobs[k];
            }
            assert_true(fabs(sum - s.sum) < 1e-9);
            mlxr_score_clear(&s);
        }
        mlxr_engine_close(e);
    }
    json_decref(doc);
}

static void inputs_that_cannot_be_read_are_refused(void **state)
{
    mlxr_engine *e = open_tiny("ref");
    static int32_t ids[513];
    static const int32_t wrong = 267;
    mlxr_input long_one = {.ids = ids, .n_ids = 513}, none = {.text = "", .n_text = 0},
               outside = {.ids = &wrong, .n_ids = 1};
    mlxr_input whole = {.ids = ids, .n_ids = 512}, two[2] = {whole, outside};
    mlxr_embed_options o = mlxr_embed_options_default();
    mlxr_embeddings v;
    mlxr_score s;

    (void)state;
    assert_fails(mlxr_engine_embed(&v, e, &long_one, 1, NULL, &err), MLXR_E_CONTEXT_OVERFLOW, "513", &err);
    assert_fails(mlxr_engine_score(&s, e, &long_one, &err), MLXR_E_CONTEXT_OVERFLOW, "512", &err);
    assert_null(s.ids);
    o.truncate = true;
    assert_ok(mlxr_engine_embed(&v, e, &long_one, 1, &o, &err), &err);
    assert_int_equal(v.n_tokens, 512);
    mlxr_embeddings_clear(&v);
    assert_ok(mlxr_engine_score(&s, e, &whole, &err),
              &err); /* a text without an answer may fill the context */
    mlxr_score_clear(&s);
    assert_fails(mlxr_engine_embed(&v, e, &none, 1, NULL, &err), MLXR_E_INVALID_ARGUMENT, "no tokens", &err);
    assert_fails(mlxr_engine_embed(&v, e, two, 2, NULL, &err), MLXR_E_INVALID_ARGUMENT, "input 1", &err);
    assert_null(v.values);
    assert_ok(mlxr_engine_embed(&v, e, NULL, 0, NULL, &err), &err);
    assert_int_equal(v.n, 0);
    o.dimensions = 65;
    assert_fails(mlxr_engine_embed(&v, e, &whole, 1, &o, &err), MLXR_E_INVALID_ARGUMENT, "65", &err);
    mlxr_engine_close(e);
}

/* A copy of tiny_chat with other files in it. */
static char *folder_with(const char *const *names, const char *const *texts, size_t n)
{
    static const char *const same[] = {"config.json", "model.safetensors", "tokenizer.json",
                                       "tokenizer_config.json"};
    char *dir = mlxr_strdup("/tmp/mlxr-engine-XXXXXX");

    assert_non_null(mkdtemp(dir));
    for (size_t i = 0; i < MLXR_COUNT(same); i++) {
        char *to = mlxr_path_join(dir, same[i]), *from = mlxr_path_join(TINY, same[i]);
        assert_int_equal(symlink(from, to), 0);
        free(to);
        free(from);
    }
    for (size_t i = 0; i < n; i++) {
        char *path = mlxr_path_join(dir, names[i]), *parent = mlxr_path_dirname(path);
        assert_ok(mlxr_make_dirs(parent, &err), &err);
        assert_ok(mlxr_file_write(path, texts[i], strlen(texts[i]), &err), &err);
        free(path);
        free(parent);
    }
    return dir;
}

static void remove_folder(char *dir)
{
    char *command = mlxr_asprintf("rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
    free(command);
    free(dir);
}

static void the_folder_chooses_pooling(void **state)
{
    static const char *const names[] = {"1_Pooling/config.json", "modules.json"};
    static const char sentence[] =
        "[{\"path\": \"\", \"type\": \"sentence_transformers.models.Transformer\"},"
        " {\"path\": \"1_Pooling\", \"type\": \"sentence_transformers.models.Pooling\"},"
        " {\"path\": \"2_N\", \"type\": \"sentence_transformers.models.Normalize\"}]";
    static const struct {
        const char *texts[2];
        size_t n;
        mlxr_pooling want;
        mlxr_status open;
    } cases[] = {
        {{"{\"pooling_mode_mean_tokens\": true}"}, 1, MLXR_POOLING_MEAN, MLXR_OK},
        {{"{\"pooling_mode_mean_tokens\": false, \"pooling_mode_lasttoken\": true}", sentence},
         2,
         MLXR_POOLING_LAST,
         MLXR_OK},
        {{"{\"pooling_mode_mean_tokens\": true}", sentence}, 2, MLXR_POOLING_MEAN, MLXR_OK},
        {{"{\"pooling_mode\": \"mean\"}"}, 1, MLXR_POOLING_MEAN, MLXR_OK},
        {{"{\"pooling_mode_cls_token\": true}"}, 1, MLXR_POOLING_DEFAULT, MLXR_OK},
        {{"{\"pooling_mode_mean_tokens\": true, \"pooling_mode_lasttoken\": true}"},
         1,
         MLXR_POOLING_DEFAULT,
         MLXR_OK},
        {{"{\"pooling_mode_mean_tokens\": true}", "[]"}, 2, MLXR_POOLING_LAST, MLXR_OK},
        {{"{\"pooling_mode_mean_tokens\": true}", "[{\"path\": \"2_Dense\", \"type\": \"x.Dense\"}]"},
         2,
         MLXR_POOLING_DEFAULT,
         MLXR_OK},
        {{"{}", "[{\"path\": \"../elsewhere\", \"type\": \"x.Pooling\"}]"},
         2,
         MLXR_POOLING_DEFAULT,
         MLXR_E_FORMAT},
        {{"{}", "[{\"path\": \"/etc\", \"type\": \"x.Pooling\"}]"}, 2, MLXR_POOLING_DEFAULT, MLXR_E_FORMAT},
        {{"[1", "[]"}, 1, MLXR_POOLING_DEFAULT, MLXR_E_FORMAT},
        {{"{}", "nothing"}, 2, MLXR_POOLING_DEFAULT, MLXR_E_FORMAT},
    };
    mlxr_input input = {.text = "abc", .n_text = 3};

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        char *dir = folder_with(names, cases[i].texts, cases[i].n);
        mlxr_engine_options o = exact("ref");
        mlxr_engine *e;
        mlxr_embeddings v;
        assert_int_equal(mlxr_engine_open(&e, dir, &o, &err), cases[i].open);
        if (e) {
            assert_int_equal(mlxr_engine_pooling_default(e), cases[i].want);
            if (cases[i].want == MLXR_POOLING_DEFAULT)
                assert_int_equal(mlxr_engine_embed(&v, e, &input, 1, NULL, &err), MLXR_E_UNSUPPORTED);
            else
                assert_ok(mlxr_engine_embed(&v, e, &input, 1, NULL, &err), &err);
            mlxr_embeddings_clear(&v);
        }
        mlxr_engine_close(e);
        remove_folder(dir);
    }
}

static void count_warnings(mlxr_log_level level, const char *message, void *ud)
{
    (void)message;
    *(size_t *)ud += level == MLXR_LOG_WARN;
}

static void the_folder_chooses_sampling(void **state)
{
    static const char *const name[] = {"generation_config.json"};
    static const char first[] =
        "{\"eos_token_id\": 262, \"temperature\": 0.6, \"top_k\": 20, \"top_p\": 0.95, "
        "\"repetition_penalty\": 1.1}";
    static const char *const text[] = {
        first, "{\"eos_token_id\": 262, \"do_sample\": false, \"temperature\": 0.7}",
        "{\"eos_token_id\": 262, \"temperature\": \"hot\", \"top_k\": -3, \"top_p\": 7, \"min_p\": 0.05}"};
    mlxr_sampling d = mlxr_sampling_default(), s;

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(text); i++) {
        char *dir = folder_with(name, &text[i], 1);
        size_t n_warnings = 0;
        mlxr_engine_options o = exact("ref");
        mlxr_engine *e;
        o.log = (mlxr_log){count_warnings, &n_warnings};
        assert_ok(mlxr_engine_open(&e, dir, &o, &err), &err);
        s = mlxr_engine_sampling_default(e);
        assert_float_equal(s.temperature, i == 0 ? 0.6f : i == 1 ? 0.0f : d.temperature, 1e-7);
        assert_int_equal(s.top_k, i == 0 ? 20 : d.top_k);
        assert_float_equal(s.top_p, i == 0 ? 0.95f : d.top_p, 1e-7);
        assert_float_equal(s.min_p, i == 2 ? 0.05f : d.min_p, 1e-7);
        assert_float_equal(s.repeat_penalty, i == 0 ? 1.1f : d.repeat_penalty, 1e-7);
        assert_int_equal(n_warnings, i == 2 ? 3 : 0);
        mlxr_engine_close(e);
        remove_folder(dir);
    }
}

/* ---- many threads ---- */

enum { N_THREADS = 8, N_ROUNDS = 12 };

struct crowd {
    mlxr_engine *engine;
    unsigned seed;
    struct seen *alone; /* the greedy answer to "Hello", 12 tokens */
    size_t n_right, n_cancelled;
    pthread_t thread;
};

static uint32_t next_random(unsigned *x)
{
    *x = *x * 1664525u + 1013904223u;
    return *x >> 16;
}

static void *be_one_of_many(void *arg)
{
    struct crowd *c = arg;

    for (size_t i = 0; i < N_ROUNDS; i++) {
        mlxr_request q = greedy("Hello", 12);
        uint32_t what = next_random(&c->seed) % 6;
        mlxr_input input = {.text = "the other", .n_text = 9};
        struct listener l = {0};
        struct seen s;
        mlxr_embeddings v;
        mlxr_score score;
        mlxr_error e;
        mlxr_generation *g = NULL;
        mlxr_event ev;

        (void)mlxr_engine_get_load(c->engine);
        switch (what) {
        case 0: /* pulled to the end */
        case 1:
            if (mlxr_engine_submit(&g, c->engine, &q, NULL, NULL, &e) != MLXR_OK) return "submit failed";
            pull(&s, g);
            if (s.failed || s.n_ids != 12 || memcmp(s.ids, c->alone->ids, 12 * sizeof s.ids[0]) != 0)
                return "another answer in company";
            c->n_right++;
            break;
        case 2: /* cancelled some time */
            q.max_tokens = -1;
            if (mlxr_engine_submit(&g, c->engine, &q, NULL, NULL, &e) != MLXR_OK) return "submit failed";
            for (uint32_t k = next_random(&c->seed) % 5; k > 0; k--) mlxr_generation_next(g, 50, &ev);
            mlxr_generation_cancel(g);
            if (mlxr_generation_wait(g, NULL, NULL) == MLXR_E_CANCELLED) c->n_cancelled++;
            break;
        case 3: /* freed while it runs */
            q.max_tokens = -1;
            q.n_choices = 2;
            if (mlxr_engine_submit(&g, c->engine, &q, NULL, NULL, &e) != MLXR_OK) return "submit failed";
            mlxr_generation_next(g, (int64_t)(next_random(&c->seed) % 10), &ev);
            break;
        case 4: /* by callback */
            if (mlxr_engine_submit(&l.g, c->engine, &q, listen, &l, &e) != MLXR_OK) return "submit failed";
            g = l.g;
            if (next_random(&c->seed) % 2) {
                if (mlxr_generation_wait(g, NULL, NULL) != MLXR_OK || l.n_tokens < 12)
                    return "too few callbacks";
            }
            break;
        default:
            if (mlxr_engine_embed(&v, c->engine, &input, 1, NULL, &e) != MLXR_OK) return "embed failed";
            mlxr_embeddings_clear(&v);
            if (mlxr_engine_score(&score, c->engine, &input, &e) != MLXR_OK) return "score failed";
            mlxr_score_clear(&score);
            break;
        }
        mlxr_generation_free(g);
    }
    return NULL;
}

static void many_threads_share_an_engine(void **state)
{
    struct crowd crowd[N_THREADS];
    struct seen alone;
    mlxr_engine *e = open_tiny("cpu");
    mlxr_request q = greedy("Hello", 12);
    size_t n_right = 0;

    (void)state;
    run(&alone, e, &q);
    for (size_t i = 0; i < N_THREADS; i++) {
        crowd[i] = (struct crowd){.engine = e, .seed = (unsigned)i * 7919 + 3, .alone = &alone};
        assert_int_equal(pthread_create(&crowd[i].thread, NULL, be_one_of_many, &crowd[i]), 0);
    }
    for (size_t i = 0; i < N_THREADS; i++) {
        void *why;
        pthread_join(crowd[i].thread, &why);
        if (why) fail_msg("thread %zu: %s", i, (const char *)why);
        n_right += crowd[i].n_right;
    }
    assert_true(n_right > N_THREADS);
    for (int i = 0; i < 200 && mlxr_engine_get_load(e).n_running; i++) sleep_ms(10);
    assert_int_equal(mlxr_engine_get_load(e).kv_bytes_used, 0);
    mlxr_engine_close(e);
}

/* Threads that wait on generations of their own while the engine is closed under them. */
static void *wait_for_the_end(void *arg)
{
    mlxr_generation *g = arg;
    mlxr_event ev;
    mlxr_status st;

    while (mlxr_generation_next(g, -1, &ev)) {
    }
    st = mlxr_generation_wait(g, NULL, NULL);
    mlxr_generation_free(g);
    return (void *)(uintptr_t)st;
}

static void closing_wakes_every_thread(void **state)
{
    (void)state;
    for (int round = 0; round < 5; round++) {
        enum { N = 12 };
        mlxr_engine *e = open_tiny("ref");
        mlxr_request q = greedy("Hello", -1);
        pthread_t threads[N];
        for (size_t i = 0; i < N; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, wait_for_the_end, submit(e, &q)), 0);
        sleep_ms(round * 3);
        mlxr_engine_close(e);
        for (size_t i = 0; i < N; i++) {
            void *st;
            pthread_join(threads[i], &st);
            assert_int_equal((mlxr_status)(uintptr_t)st, MLXR_E_CANCELLED);
        }
    }
}

struct embedded {
    pthread_mutex_t lock;
    pthread_cond_t told;
    mlxr_embeddings rows;
    mlxr_status status;
    size_t n;
};

static void on_embedded(mlxr_embeddings *e, const mlxr_error *why, void *ud)
{
    struct embedded *got = ud;

    pthread_mutex_lock(&got->lock);
    got->rows = *e;
    *e = (mlxr_embeddings){0};
    got->status = why->code;
    got->n++;
    pthread_cond_signal(&got->told);
    pthread_mutex_unlock(&got->lock);
}

static void embeddings_come_without_waiting(void **state)
{
    mlxr_engine *e = open_tiny("cpu");
    mlxr_embed_options o = mlxr_embed_options_default();
    int32_t ids[] = {1, 2, 3};
    mlxr_input inputs[] = {{.text = "Hello", .n_text = 5}, {.ids = ids, .n_ids = 3}};
    mlxr_embeddings want;

    (void)state;
    assert_ok(mlxr_engine_embed(&want, e, inputs, 2, &o, &err), &err);
    for (int round = 0; round < 3; round++) {
        struct embedded got = {.lock = PTHREAD_MUTEX_INITIALIZER, .told = PTHREAD_COND_INITIALIZER};
        mlxr_embedding *m;
        assert_ok(mlxr_embedding_start(&m, e, inputs, 2, &o, on_embedded, &got, &err), &err);
        memset(ids, 0, sizeof ids); /* they were copied */
        if (round == 1) mlxr_embedding_cancel(m);
        if (round == 2) mlxr_engine_close(e);
        pthread_mutex_lock(&got.lock);
        while (!got.n) pthread_cond_wait(&got.told, &got.lock);
        pthread_mutex_unlock(&got.lock);
        mlxr_embedding_free(m);
        assert_int_equal(got.n, 1);
        if (round == 0) assert_ok(got.status, &err);
        if (got.status == MLXR_OK) {
            assert_int_equal(got.rows.n, 2);
            assert_int_equal(got.rows.n_tokens, want.n_tokens);
            assert_memory_equal(got.rows.values, want.values, 2 * want.n_dimensions * sizeof *want.values);
        } else {
            assert_int_equal(got.status, MLXR_E_CANCELLED);
        }
        mlxr_embeddings_clear(&got.rows);
        memcpy(ids, (int32_t[]){1, 2, 3}, sizeof ids);
    }
    mlxr_embeddings_clear(&want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_mlx_lms),
        cmocka_unit_test(a_prompt_by_ids_is_the_same),
        cmocka_unit_test(choices_are_requests_of_their_own),
        cmocka_unit_test(logprobs_agree_with_scores),
        cmocka_unit_test(impossible_requests_fail_here_and_now),
        cmocka_unit_test(opening_fails_cleanly),
        cmocka_unit_test(cancelled_generations_end),
        cmocka_unit_test(closing_ends_what_runs),
        cmocka_unit_test(callbacks_may_cancel_and_free),
        cmocka_unit_test(waiting_has_its_time),
        cmocka_unit_test(a_failing_device_ends_everyone),
        cmocka_unit_test(a_row_that_is_no_number_ends_its_own),
        cmocka_unit_test(embeddings_and_scores_are_mlx_lms),
        cmocka_unit_test(embeddings_come_without_waiting),
        cmocka_unit_test(inputs_that_cannot_be_read_are_refused),
        cmocka_unit_test(the_folder_chooses_pooling),
        cmocka_unit_test(the_folder_chooses_sampling),
        cmocka_unit_test(many_threads_share_an_engine),
        cmocka_unit_test(closing_wakes_every_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
