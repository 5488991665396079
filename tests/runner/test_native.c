/* The native adapter on tiny_chat (see make_tiny_chat.py): mlx-lm's greedy answers, events, ends, cancelling, and every
 * way a model folder can be broken. */
#include "test.h"

#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "runner/runner.h"

#define TINY MLXR_TEST_DIR "/fixtures/tiny_chat"

static mlxr_error err;
static const char *const devices[] = {"ref", "cpu"};

struct seen {
    mlxr_runner *runner;
    int32_t ids[600];
    size_t n_ids, n_completed, cancel_at;
    mlxr_buf pieces;
    char *whole;
    mlxr_stats stats;
};

static void on_event(const mlxr_event *ev, void *ud)
{
    struct seen *s = ud;
    assert_int_equal(s->n_completed, 0);
    assert_int_equal(mlxr_utf8_valid(ev->text, ev->n_text), ev->n_text);
    if (ev->type == MLXR_EVENT_TOKEN) {
        if (ev->id >= 0) s->ids[s->n_ids++] = ev->id;
        mlxr_buf_append(&s->pieces, ev->text, ev->n_text);
        if (s->cancel_at && s->n_ids == s->cancel_at) mlxr_runner_cancel(s->runner);
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

static mlxr_runner *open_tiny(const char *device)
{
    mlxr_runner_options o = mlxr_runner_options_default();
    mlxr_runner *r;
    o.device = device;
    o.precision = MLXR_PRECISION_EXACT;
    assert_ok(mlxr_runner_open(&r, TINY, &o, &err), &err);
    return r;
}

static mlxr_request greedy(const char *prompt, int32_t max_tokens)
{
    mlxr_request q = mlxr_request_default();
    q.prompt = prompt;
    q.max_tokens = max_tokens;
    q.sampling.temperature = 0;
    return q;
}

static void answers_are_mlx_lms(void **state)
{
    json_t *doc, *c;
    size_t i;
    (void)state;
    assert_ok(mlxr_json_read(&doc, MLXR_TEST_DIR "/fixtures/tiny_chat.json", 1 << 20, &err), &err);
    for (size_t d = 0; d < MLXR_COUNT(devices); d++) {
        struct seen s = {.runner = open_tiny(devices[d])};
        json_array_foreach(json_object_get(doc, "cases"), i, c)
        {
            const json_t *want = json_object_get(c, "greedy");
            mlxr_request q = greedy(json_string_value(json_object_get(c, "prompt")),
                                    (int32_t)json_array_size(want));
            q.ignore_eos = true; /* mlx-lm's ids were taken without looking for one */
            assert_ok(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), &err);
            assert_int_equal(s.n_ids, json_array_size(want));
            for (size_t k = 0; k < s.n_ids; k++)
                assert_int_equal(s.ids[k], json_integer_value(json_array_get(want, k)));
            assert_int_equal(s.stats.prompt_token_count, json_array_size(json_object_get(c, "prompt_ids")));
            assert_string_equal(s.whole, json_string_value(json_object_get(c, "text")));
            assert_string_equal(s.pieces.data, s.whole);
            assert_int_equal(s.stats.done_reason, MLXR_DONE_LENGTH);
            seen_clear(&s);
        }
        mlxr_runner_close(s.runner);
    }
    json_decref(doc);
}

/* The first answer tells what loading took, in its event and in the stats; the next ones do not. */
static void loading_is_told_once(void **state)
{
    struct seen s = {.runner = open_tiny("ref")};
    mlxr_request q = greedy("Hello", 2);
    mlxr_stats stats;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        assert_ok(mlxr_runner_generate(s.runner, &q, on_event, &s, &stats, &err), &err);
        assert_true((stats.load_ns > 0) == (i == 0));
        assert_true(s.stats.load_ns == stats.load_ns);
        assert_int_equal(stats.prompt_token_count, 8);
        seen_clear(&s);
    }
    mlxr_runner_close(s.runner);
}

static void seeds_fix_the_answer(void **state)
{
    struct seen s = {.runner = open_tiny("cpu")};
    int32_t first[40];
    mlxr_request q = greedy("Hello", 40);
    (void)state;
    q.ignore_eos = true;
    q.sampling = mlxr_sampling_default();
    q.sampling.seed = 11;
    assert_ok(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), &err);
    assert_int_equal(s.n_ids, 40);
    memcpy(first, s.ids, sizeof first);
    seen_clear(&s);
    assert_ok(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), &err);
    assert_memory_equal(first, s.ids, sizeof first);
    seen_clear(&s);
    q.sampling.seed = 12;
    assert_ok(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), &err);
    assert_memory_not_equal(first, s.ids, sizeof first);
    seen_clear(&s);
    mlxr_runner_close(s.runner);
}

static void ends_and_overflows(void **state)
{
    struct seen s = {.runner = open_tiny("cpu")};
    mlxr_request q = greedy("Hello", -1);
    char *longer = malloc(600);
    const char *stop[1];
    size_t at;
    (void)state;

    q.ignore_eos = true; /* until the context of 512 is full */
    assert_ok(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), &err);
    assert_int_equal(s.stats.prompt_token_count + s.n_ids, 512);
    assert_int_equal(s.stats.done_reason, MLXR_DONE_LENGTH);
    /* a stop string from the middle of the answer cuts it there */
    for (at = 5; (unsigned char)s.whole[at] >= 0x80; at++) {
    }
    stop[0] = mlxr_strndup(s.whole + at, 1);
    seen_clear(&s);
    q.stop = stop;
    q.n_stop = 1;
    assert_ok(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), &err);
    assert_null(strstr(s.whole, stop[0]));
    assert_int_equal(s.stats.done_reason, MLXR_DONE_STOP);
    free((void *)(uintptr_t)stop[0]);
    seen_clear(&s);

    memset(longer, 'x', 599);
    longer[599] = '\0';
    q = greedy(longer, 5);
    assert_fails(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), MLXR_E_CONTEXT_OVERFLOW, "512",
                 &err);
    assert_non_null(strstr(err.message, "603")); /* 599 bytes, <s>, <|user|>, <|end|>, <|assistant|> */
    assert_int_equal(s.n_completed, 0);

    q = greedy("raw", 3); /* no template: three bytes, three tokens */
    q.raw = true;
    assert_ok(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), &err);
    assert_int_equal(s.stats.prompt_token_count, 3);
    seen_clear(&s);
    q.prompt = "";
    assert_fails(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), MLXR_E_INVALID_ARGUMENT,
                 "no tokens", &err);
    q.prompt = "\xc3(";
    assert_fails(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), MLXR_E_INVALID_ARGUMENT,
                 "UTF-8", &err);
    q.raw = false;
    assert_fails(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), MLXR_E_INVALID_ARGUMENT,
                 "UTF-8", &err);
    q = greedy("x", 3);
    q.sampling.top_p = 2;
    assert_fails(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), MLXR_E_INVALID_ARGUMENT,
                 "top_p", &err);
    q = greedy("x", 3); /* and after all these errors it still works */
    assert_ok(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), &err);
    seen_clear(&s);
    free(longer);
    mlxr_runner_close(s.runner);
}

static void *cancel_soon(void *ud)
{
    usleep(2000);
    mlxr_runner_cancel(ud);
    return NULL;
}

static void cancelling_keeps_the_model_usable(void **state)
{
    (void)state;
    for (size_t d = 0; d < MLXR_COUNT(devices); d++) {
        struct seen s = {.runner = open_tiny(devices[d])};
        mlxr_request q = greedy("Hello", 30);
        int32_t want[30];
        q.ignore_eos = true;
        assert_ok(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), &err);
        memcpy(want, s.ids, sizeof want);
        seen_clear(&s);
        for (size_t at = 1; at < 20; at += 6) { /* from the callback: not one token more */
            s.cancel_at = at;
            assert_int_equal(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), MLXR_E_CANCELLED);
            assert_int_equal(s.n_ids, at);
            assert_int_equal(s.n_completed, 0);
            seen_clear(&s);
        }
        for (int i = 0; i < 10; i++) { /* from another thread, wherever it falls */
            mlxr_request endless = greedy("Hello again", 500);
            mlxr_status st;
            pthread_t t;
            endless.ignore_eos = true;
            endless.max_tokens = 480;
            assert_int_equal(pthread_create(&t, NULL, cancel_soon, s.runner), 0);
            st = mlxr_runner_generate(s.runner, &endless, on_event, &s, NULL, &err);
            pthread_join(t, NULL);
            assert_true(st == MLXR_E_CANCELLED || st == MLXR_OK);
            seen_clear(&s);
        }
        assert_ok(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), &err);
        assert_memory_equal(want, s.ids, sizeof want);
        seen_clear(&s);
        mlxr_runner_close(s.runner);
    }
}

/* ---- broken folders ---- */

static char folder[] = "/tmp/mlxr_native_XXXXXX";
static const char *const files[] = {"config.json", "generation_config.json", "model.safetensors",
                                    "tokenizer.json", "tokenizer_config.json"};

static void put(const char *name, const void *data, size_t n)
{
    char *path = mlxr_path_join(folder, name);
    assert_ok(mlxr_file_write(path, data, n, &err), &err);
    free(path);
}

static void restore(void)
{
    for (size_t i = 0; i < MLXR_COUNT(files); i++) {
        char *from = mlxr_path_join(TINY, files[i]);
        mlxr_buf b = {0};
        assert_ok(mlxr_file_read(&b, from, 1 << 24, &err), &err);
        put(files[i], b.data, b.len);
        mlxr_buf_clear(&b);
        free(from);
    }
}

static void drop(const char *name)
{
    char *path = mlxr_path_join(folder, name);
    assert_int_equal(unlink(path), 0);
    free(path);
}

static void refused(mlxr_status status, const char *text)
{
    mlxr_runner *r = (mlxr_runner *)1;
    mlxr_status st = mlxr_runner_open(&r, folder, NULL, &err);
    if (st != status || !strstr(err.message, text))
        fail_msg("got %s \"%s\", wanted %s with \"%s\"", mlxr_status_name(st), err.message,
                 mlxr_status_name(status), text);
    assert_null(strchr(err.message, '\n'));
    assert_null(r);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(files); i++) {
        char *path = mlxr_path_join(folder, files[i]);
        (void)unlink(path);
        free(path);
    }
    return rmdir(folder);
}

static void broken_folders_are_one_clear_line(void **state)
{
    mlxr_runner *r;
    mlxr_runner_options o = mlxr_runner_options_default();
    mlxr_buf config = {0};
    (void)state;

    assert_fails(mlxr_runner_open(&r, "/nonexistent/model", NULL, &err), MLXR_E_MODEL_PATH_MISSING,
                 "/nonexistent/model", &err);
    restore();
    assert_ok(mlxr_runner_open(&r, folder, NULL, &err), &err);
    mlxr_runner_close(r);

    o.device = "quantum";
    assert_fails(mlxr_runner_open(&r, folder, &o, &err), MLXR_E_DEVICE, "quantum", &err);
    o.device = "cpu";
    o.isa = "mmx";
    assert_fails(mlxr_runner_open(&r, folder, &o, &err), MLXR_E_DEVICE, "mmx", &err);
    o.isa = NULL;
    o.context_length = 513;
    assert_fails(mlxr_runner_open(&r, folder, &o, &err), MLXR_E_CONTEXT_OVERFLOW, "513", &err);

    drop("config.json");
    refused(MLXR_E_NOT_FOUND, "config.json");
    restore(), drop("model.safetensors");
    refused(MLXR_E_NOT_FOUND, "model.safetensors");
    restore(), drop("tokenizer.json");
    refused(MLXR_E_NOT_FOUND, "tokenizer.json");
    restore(), put("config.json", "{\"model_type\": \"llama\",", 23);
    refused(MLXR_E_FORMAT, "config.json");
    put("config.json", "{\"model_type\": \"mamba9\"}", 24);
    refused(MLXR_E_UNSUPPORTED, "mamba9");
    assert_non_null(strstr(err.message, "llama"));
    restore(), put("tokenizer.json", "{\"model\":", 9);
    refused(MLXR_E_FORMAT, "tokenizer.json");
    restore(), put("generation_config.json", "[1", 2);
    refused(MLXR_E_FORMAT, "generation_config.json");
    put("generation_config.json", "{\"eos_token_id\": \"x\"}", 21);
    refused(MLXR_E_FORMAT, "eos_token_id");
    restore(), put("model.safetensors", "\xff\xff\xff\xff\0\0\0\0{}", 10);
    refused(MLXR_E_FORMAT, "model.safetensors");
    restore(), put("tokenizer_config.json", "{\"chat_template\": \"{% if %}\"}", 29);
    refused(MLXR_E_TEMPLATE, "");

    /* three layers asked for, two there; the third's tensors are all in the one message */
    restore();
    assert_ok(mlxr_file_read(&config, TINY "/config.json", 1 << 16, &err), &err);
    {
        char *p = strstr(config.data, "\"num_hidden_layers\": 2");
        assert_non_null(p);
        p[strlen("\"num_hidden_layers\": ")] = '3';
        put("config.json", config.data, config.len);
        refused(MLXR_E_FORMAT, "model.layers.2.self_attn.q_proj");
        assert_non_null(strstr(err.message, "model.layers.2.mlp.down_proj"));
        p[strlen("\"num_hidden_layers\": ")] = '1';
        put("config.json", config.data, config.len);
        refused(MLXR_E_FORMAT, "model.layers.1.self_attn.q_proj");
    }
    mlxr_buf_clear(&config);
}

static void eos_comes_from_the_first_file_that_names_one(void **state)
{
    struct seen s = {0};
    mlxr_request q = greedy("Hello", 5);
    char text[64];
    int32_t second;
    (void)state;

    restore();
    assert_ok(mlxr_runner_open(&s.runner, folder, NULL, &err), &err);
    q.ignore_eos = true;
    assert_ok(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), &err);
    second = s.ids[1];
    assert_int_not_equal(second, s.ids[0]);
    seen_clear(&s);
    mlxr_runner_close(s.runner);
    q.ignore_eos = false;

    snprintf(text, sizeof text, "{\"eos_token_id\": [7000, %d]}", second);
    put("generation_config.json", text, strlen(text));
    assert_ok(mlxr_runner_open(&s.runner, folder, NULL, &err), &err);
    assert_ok(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), &err);
    assert_int_equal(s.n_ids, 1);
    assert_int_equal(s.stats.generated_token_count, 1);
    assert_int_equal(s.stats.done_reason, MLXR_DONE_STOP);
    seen_clear(&s);
    mlxr_runner_close(s.runner);

    /* config.json says 9999, which never comes: generation_config.json without one must not fall to the tokenizer's */
    put("generation_config.json", "{}", 2);
    assert_ok(mlxr_runner_open(&s.runner, folder, NULL, &err), &err);
    assert_ok(mlxr_runner_generate(s.runner, &q, on_event, &s, NULL, &err), &err);
    assert_int_equal(s.n_ids, 5);
    seen_clear(&s);
    mlxr_runner_close(s.runner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_mlx_lms),
        cmocka_unit_test(loading_is_told_once),
        cmocka_unit_test(seeds_fix_the_answer),
        cmocka_unit_test(ends_and_overflows),
        cmocka_unit_test(cancelling_keeps_the_model_usable),
        cmocka_unit_test_setup_teardown(broken_folders_are_one_clear_line, NULL, NULL),
        cmocka_unit_test_setup_teardown(eos_comes_from_the_first_file_that_names_one, NULL, NULL),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
