/* mlxr.json of a folder: what it does to prompts and requests of an engine, and files that are wrong or hostile. */
#include "runner/settings.h"

#include "base/json.h"
#include "format/temp_dir.h"
#include "runner/prompt.h"
#include "test.h"

#define TINY MLXR_TEST_DIR "/fixtures/tiny_chat"

static mlxr_error err;

static void put(const char *text)
{
    if (text)
        assert_ok(mlxr_file_write(temp_path("mlxr.json"), text, strlen(text), &err), &err);
    else
        (void)unlink(temp_path("mlxr.json"));
}

/* A copy of the tiny model with this mlxr.json. */
static int make_model(void **state)
{
    static const char *const files[] = {"config.json", "generation_config.json", "model.safetensors",
                                        "tokenizer.json", "tokenizer_config.json"};

    if (temp_dir_make(state) != 0) return -1;
    for (size_t i = 0; i < MLXR_COUNT(files); i++) {
        char *from = mlxr_path_join(TINY, files[i]);
        mlxr_buf text = {0};
        assert_ok(mlxr_file_read(&text, from, 64 << 20, &err), &err);
        assert_ok(mlxr_file_write(temp_path(files[i]), text.data, text.len, &err), &err);
        mlxr_buf_clear(&text);
        free(from);
    }
    return 0;
}

static mlxr_engine *open_engine(void)
{
    mlxr_engine_options options = mlxr_engine_options_default();
    mlxr_engine *engine;

    options.device = "ref";
    assert_ok(mlxr_engine_open(&engine, temp_dir, &options, &err), &err);
    return engine;
}

/* ---- what it does ---- */

static void assert_renders(const mlxr_engine *engine, const mlxr_request *r, const char *wanted)
{
    char *text;
    size_t n;

    assert_ok(mlxr_engine_render(&text, &n, engine, r, &err), &err);
    assert_string_equal(text, wanted);
    mlxr_free(text);
}

#define OWN "<|user|>ex<|end|><|assistant|>ample<|end|>"
#define WHOLE                                                                                             \
    "{\"mlxr\": 1, \"system\": \"S\", \"metadata\": {\"a\": \"b\"}, \"messages\": [{\"role\": \"user\", " \
    "\"content\": \"ex\"}, {\"role\": \"assistant\", \"content\": \"ample\"}]}"

static void system_and_messages(void **state)
{
    mlxr_request r = mlxr_request_default();
    mlxr_engine *engine;

    (void)state;
    put(WHOLE);
    engine = open_engine();
    r.prompt = "hi";
    assert_renders(engine, &r, "<s><|system|>S<|end|>" OWN "<|user|>hi<|end|><|assistant|>");
    r.system = "T";
    assert_renders(engine, &r, "<s><|system|>T<|end|>" OWN "<|user|>hi<|end|><|assistant|>");
    r.system = NULL;
    r.messages_json = "[{\"role\": \"user\", \"content\": \"hi\"}]";
    assert_renders(engine, &r, "<s><|system|>S<|end|>" OWN "<|user|>hi<|end|><|assistant|>");
    r.messages_json =
        "[{\"role\": \"system\", \"content\": \"T\"}, {\"role\": \"user\", \"content\": \"hi\"}]";
    assert_renders(engine, &r, "<s><|system|>T<|end|>" OWN "<|user|>hi<|end|><|assistant|>");
    r.system = ""; /* none is wanted */
    r.messages_json = "[{\"role\": \"user\", \"content\": \"hi\"}]";
    assert_renders(engine, &r, "<s>" OWN "<|user|>hi<|end|><|assistant|>");
    r.messages_json = "[]";
    r.system = NULL;
    assert_renders(engine, &r, "<s><|system|>S<|end|>" OWN "<|assistant|>");
    r.raw = true;
    assert_renders(engine, &r, "hi");
    mlxr_engine_close(engine);
}

static void one_system_text(void **state)
{
    mlxr_request r = mlxr_request_default();
    mlxr_engine *engine;

    (void)state;
    put("{\"mlxr\": 1, \"messages\": [{\"role\": \"system\", \"content\": \"A\"}, {\"role\": \"user\", "
        "\"content\": \"b\"}]}");
    engine = open_engine();
    r.prompt = "hi";
    assert_renders(engine, &r, "<s><|system|>A<|end|><|user|>b<|end|><|user|>hi<|end|><|assistant|>");
    r.system = "T";
    assert_renders(engine, &r, "<s><|system|>T<|end|><|user|>b<|end|><|user|>hi<|end|><|assistant|>");
    mlxr_engine_close(engine);
}

static char *answer(mlxr_engine *engine, const mlxr_request *r, mlxr_done_reason *reason)
{
    mlxr_generation *g;
    mlxr_event ev;
    char *text = NULL;

    assert_ok(mlxr_engine_submit(&g, engine, r, NULL, NULL, &err), &err);
    while (mlxr_generation_next(g, -1, &ev)) {
        assert_int_not_equal(ev.type, MLXR_EVENT_FAILED);
        if (ev.type != MLXR_EVENT_COMPLETED) continue;
        text = mlxr_strndup(ev.text, ev.n_text);
        *reason = ev.stats->done_reason;
    }
    mlxr_generation_free(g);
    return text;
}

static void parameters(void **state)
{
    mlxr_request r = mlxr_request_default();
    mlxr_sampling s;
    mlxr_done_reason reason;
    mlxr_engine *engine;
    char *plain, *cut, json[256];

    (void)state;
    put(NULL);
    engine = open_engine();
    r.prompt = "hi";
    r.sampling.temperature = 0;
    r.max_tokens = 12;
    plain = answer(engine, &r, &reason);
    assert_true(strlen(plain) > 5);
    mlxr_engine_close(engine);

    put("{\"mlxr\": 1, \"parameters\": {\"temperature\": 0.25, \"top_k\": 7, \"seed\": 3, \"num_ctx\": 48, "
        "\"num_predict\": 3,"
        "\"num_gpu\": 1, \"logit_bias\": [\"3=-inf\"], \"dry_sequence_breaker\": \"x\", \"overflow\": "
        "\"shift\"}}");
    engine = open_engine();
    s = mlxr_engine_sampling_default(engine);
    assert_float_equal(s.temperature, 0.25, 1e-7);
    assert_int_equal(s.top_k, 7);
    assert_int_equal(s.seed, 3);
    assert_int_equal(s.n_logit_bias, 1);
    assert_int_equal(s.logit_bias[0].id, 3);
    assert_int_equal(s.n_dry_sequence_breakers, 1);
    assert_int_equal(mlxr_engine_get_info(engine).context_length, 48);
    r.max_tokens = -1;
    cut = answer(engine, &r, &reason); /* ends by num_predict, at three tokens */
    assert_int_equal(reason, MLXR_DONE_LENGTH);
    assert_true(strncmp(plain, cut, strlen(cut) - 3) == 0 && strlen(cut) < strlen(plain));
    free(cut);
    r.max_tokens = 5; /* the request's own counts */
    {
        mlxr_generation *g;
        mlxr_stats stats;
        assert_ok(mlxr_engine_submit(&g, engine, &r, NULL, NULL, &err), &err);
        assert_ok(mlxr_generation_wait(g, &stats, &err), &err);
        assert_int_equal(stats.generated_token_count, 5);
        mlxr_generation_free(g);
    }
    mlxr_engine_close(engine);

    /* A stop string of the folder, beside the request's own: the fourth byte of the plain answer is cut off. */
    {
        const char *never[] = {"never in it"};
        size_t at = 0;
        while (plain[at] & 0x80 || plain[at] == '"' || plain[at] == '\\' || (unsigned char)plain[at] < 0x20)
            at++;
        snprintf(json, sizeof json, "{\"mlxr\": 1, \"parameters\": {\"stop\": [\"%c\"]}}", plain[at]);
        put(json);
        engine = open_engine();
        r.max_tokens = 12;
        r.stop = never;
        r.n_stop = 1;
        cut = answer(engine, &r, &reason);
        assert_int_equal(reason, MLXR_DONE_STOP);
        assert_int_equal(strlen(cut), (size_t)(strchr(plain, plain[at]) - plain));
        free(cut);
        mlxr_engine_close(engine);
    }
    free(plain);
}

static void the_first_of_two_names_counts(void **state)
{
    mlxr_request r = mlxr_request_default();
    mlxr_settings s;

    (void)state;
    put("{\"mlxr\": 1, \"parameters\": {\"num_predict\": 3, \"max_tokens\": 4, \"num_keep\": 2}}");
    assert_ok(mlxr_settings_read(&s, temp_dir, &err), &err);
    mlxr_settings_apply(&s, &r);
    assert_int_equal(r.max_tokens, 4);
    assert_int_equal(r.num_keep, 2);
    mlxr_settings_clear(&s);
}

/* ---- wrong ones ---- */

static void wrong(void **state)
{
    static const struct {
        const char *text, *message;
        mlxr_status status;
    } cases[] = {
        {"", "not valid JSON", MLXR_E_FORMAT},
        {"[]", "is not a JSON object", MLXR_E_FORMAT},
        {"{}", "has no \"mlxr\": 1", MLXR_E_FORMAT},
        {"{\"mlxr\": 2}", "\"mlxr\" is 2, and this library knows 1", MLXR_E_UNSUPPORTED},
        {"{\"mlxr\": \"1\"}", "\"mlxr\" is a string", MLXR_E_FORMAT},
        {"{\"mlxr\": 1, \"mlxr\": 1}", "not valid JSON", MLXR_E_FORMAT},
        {"{\"mlxr\": 1, \"system\": 5}", "\"system\" is an integer", MLXR_E_FORMAT},
        {"{\"mlxr\": 1, \"system\": \"a\\u0000b\"}", "NUL", MLXR_E_FORMAT},
        {"{\"mlxr\": 1, \"parameters\": []}", "\"parameters\" is not an object", MLXR_E_FORMAT},
        {"{\"mlxr\": 1, \"parameters\": {\"heat\": 1}}", "there is no parameter \"heat\"", MLXR_E_FORMAT},
        {"{\"mlxr\": 1, \"parameters\": {\"top_p\": 2}}", "the parameter top_p wants a number from 0 to 1",
         MLXR_E_FORMAT},
        {"{\"mlxr\": 1, \"parameters\": {\"top_p\": \"0.5\"}}", "the parameter top_p wants", MLXR_E_FORMAT},
        {"{\"mlxr\": 1, \"parameters\": {\"stop\": [1]}}", "the parameter stop wants", MLXR_E_FORMAT},
        {"{\"mlxr\": 1, \"parameters\": {\"stop\": \"\"}}", "the parameter stop wants", MLXR_E_FORMAT},
        {"{\"mlxr\": 1, \"parameters\": {\"num_ctx\": 0}}", "the parameter num_ctx wants", MLXR_E_FORMAT},
        {"{\"mlxr\": 1, \"parameters\": {\"logit_bias\": \"x=1\"}}", "the parameter logit_bias wants",
         MLXR_E_FORMAT},
        {"{\"mlxr\": 1, \"messages\": {}}", "\"messages\" is not a list", MLXR_E_FORMAT},
        {"{\"mlxr\": 1, \"messages\": [5]}", "message 0 has no", MLXR_E_FORMAT},
        {"{\"mlxr\": 1, \"messages\": [{\"role\": \"user\", \"content\": [\"x\"]}]}", "message 0 has no",
         MLXR_E_FORMAT},
        {"{\"mlxr\": 1, \"messages\": [{\"role\": \"tool\", \"content\": \"x\"}]}", "the role \"tool\"",
         MLXR_E_FORMAT},
    };
    mlxr_engine_options options = mlxr_engine_options_default();
    mlxr_engine *engine;
    mlxr_settings s;
    mlxr_buf deep = {0};

    (void)state;
    options.device = "ref";
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        put(cases[i].text);
        assert_fails(mlxr_settings_read(&s, temp_dir, &err), cases[i].status, cases[i].message, &err);
        assert_non_null(strstr(err.message, "mlxr.json"));
        mlxr_settings_clear(&s);
        assert_fails(mlxr_engine_open(&engine, temp_dir, &options, &err), cases[i].status, cases[i].message,
                     &err);
    }
    mlxr_buf_str(&deep, "{\"mlxr\": 1, \"metadata\": ");
    for (int i = 0; i < 100000; i++) mlxr_buf_char(&deep, '[');
    put(deep.data);
    mlxr_buf_clear(&deep);
    assert_fails(mlxr_settings_read(&s, temp_dir, &err), MLXR_E_FORMAT, "mlxr.json", &err);
    mlxr_settings_clear(&s);
    put("{\"mlxr\": 1, \"parameters\": {\"logit_bias\": \"100000=1\"}}"); /* no such token here */
    assert_fails(mlxr_engine_open(&engine, temp_dir, &options, &err), MLXR_E_FORMAT, "mlxr.json: ", &err);
    put("{\"mlxr\": 1, \"system\": null, \"parameters\": null, \"messages\": null, \"later\": {}}");
    assert_ok(mlxr_settings_read(&s, temp_dir, &err), &err);
    assert_null(s.system);
    mlxr_settings_clear(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(system_and_messages, make_model, temp_dir_remove),
        cmocka_unit_test_setup_teardown(one_system_text, make_model, temp_dir_remove),
        cmocka_unit_test_setup_teardown(parameters, make_model, temp_dir_remove),
        cmocka_unit_test_setup_teardown(the_first_of_two_names_counts, make_model, temp_dir_remove),
        cmocka_unit_test_setup_teardown(wrong, make_model, temp_dir_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
