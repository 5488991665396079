/* Running out of memory at every allocation in turn: loading tiny_chat and answering a prompt either works or ends in
 * MLXR_E_NOMEM, leaks nothing (LeakSanitizer sees it in the asan build) and leaves a runner that was open usable.
 * The linker sends the library's own allocations through the wrappers here (--wrap). Those inside jansson stay as they are: it
 * calls a text broken, loses a key or leaks a string of its own when it runs out of memory. */
#include "test.h"

#include "base/json.h"
#include "format/temp_dir.h"
#include "runner/runner.h"
#include "runner/settings.h"

#define TINY MLXR_TEST_DIR "/fixtures/tiny_chat"

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
int __real_posix_memalign(void **p, size_t align, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
int __wrap_posix_memalign(void **p, size_t align, size_t n);

static size_t n_calls, fail_at = SIZE_MAX; /* the allocation that fails; those after it succeed again */

static bool fails(void)
{
    return __atomic_add_fetch(&n_calls, 1, __ATOMIC_RELAXED) == fail_at;
}

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}
void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}
int __wrap_posix_memalign(void **p, size_t align, size_t n)
{
    return fails() ? 12 : __real_posix_memalign(p, align, n);
}

static mlxr_error err;

static mlxr_status load(mlxr_runner **r, const char *device)
{
    mlxr_runner_options o = mlxr_runner_options_default();
    o.device = device;
    o.n_threads = 2;
    return mlxr_runner_open(r, TINY, &o, &err);
}

static mlxr_status answer(mlxr_runner *r)
{
    const char *const stops[] = {"never"};
    mlxr_request q = mlxr_request_default();
    q.prompt = "the other 🙂";
    q.max_tokens = 4;
    q.ignore_eos = true;
    q.stop = stops;
    q.n_stop = 1;
    q.sampling.seed = 1;
    return mlxr_runner_generate(r, &q, NULL, NULL, NULL, &err);
}

/* Fails allocation 1, 2, 3, ... of a run until one gets through untouched. After the first hundreds, of which every one is
 * tried, a growing stride keeps the test short where loading makes thousands of the same kind. */
static size_t each_failure(mlxr_status (*run)(void *ud), void *ud)
{
    size_t n_failed = 0;
    for (size_t at = 1;; at += 1 + at / 400) {
        mlxr_status st;
        n_calls = 0;
        fail_at = at;
        st = run(ud);
        fail_at = SIZE_MAX;
        if (n_calls < at) {
            assert_ok(st, &err);
            return n_failed;
        }
        /* A failure may be one that the code can do without (a cache, a bigger buffer). */
        if (st != MLXR_OK) {
            if (st != MLXR_E_NOMEM) fail_msg("allocation %zu: %s: %s", at, mlxr_status_name(st), err.message);
            assert_non_null(strstr(err.message, "memory"));
            n_failed++;
        }
    }
}

static mlxr_status load_and_close(void *ud)
{
    mlxr_runner *r = NULL;
    mlxr_status st = load(&r, ud);
    assert_true((st == MLXR_OK) == (r != NULL));
    mlxr_runner_close(r);
    return st;
}

static mlxr_status answer_again(void *ud)
{
    mlxr_status st = answer(ud);
    size_t armed = fail_at;
    fail_at = SIZE_MAX;
    assert_ok(answer(ud), &err);
    fail_at = armed;
    if (st != MLXR_OK) (void)mlxr_fail(&err, st, "out of memory (the message was overwritten)");
    return st;
}

static void loading(void **state)
{
    (void)state;
    assert_true(each_failure(load_and_close, (void *)(uintptr_t) "ref") > 50);
    assert_true(each_failure(load_and_close, (void *)(uintptr_t) "cpu") > 50);
}

static void answering(void **state)
{
    static const char *const devices[] = {"ref", "cpu"};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        mlxr_runner *r;
        assert_ok(load(&r, devices[i]), &err);
        assert_true(each_failure(answer_again, r) > 10);
        mlxr_runner_close(r);
    }
}

/* mlxr.json read, and what it adds to a request and a conversation. */
static mlxr_status settle(void *ud)
{
    static const char *const stops[] = {"mine"};
    const char **joined = NULL;
    mlxr_request r = mlxr_request_default(), settled;
    json_t *messages = json_array();
    mlxr_settings s;
    mlxr_status st = mlxr_settings_read(&s, temp_dir, &err);

    r.stop = stops;
    r.n_stop = 1;
    if (st == MLXR_OK) st = mlxr_settings_request(&s, &settled, &joined, &r, &err);
    if (st == MLXR_OK) st = mlxr_settings_messages(&s, messages, false, &err);
    free((void *)joined);
    json_decref(messages);
    mlxr_settings_clear(&s);
    return st;
}

static void settings(void **state)
{
    static const char text[] =
        "{\"mlxr\": 1, \"system\": \"S\", \"messages\": [{\"role\": \"user\", \"content\": \"x\"}],"
        "\"parameters\": {\"stop\": [\"a\"], \"logit_bias\": \"1=2\", \"dry_sequence_breaker\": \"b\"}}";

    assert_ok(mlxr_file_write(temp_path("mlxr.json"), text, strlen(text), &err), &err);
    assert_true(each_failure(settle, NULL) > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loading), cmocka_unit_test(answering),
        cmocka_unit_test_setup_teardown(settings, temp_dir_make, temp_dir_remove)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
