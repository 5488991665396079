/* What a folder's own files say about answers and embeddings, and files that are wrong or hostile: generation_config.json,
 * tokenizer_config.json, modules.json and 1_Pooling/config.json. What a good one does to an engine is in
 * test_engine_api.c. */
#include "runner/generation.h"

#include <math.h>

#include "base/json.h"
#include "engine/sampler.h"
#include "format/temp_dir.h"
#include "test.h"

#define TINY MLXR_TEST_DIR "/fixtures/tiny_chat"

static mlxr_error err;

static void put(const char *name, const char *text)
{
    const char *path = temp_path(name);

    if (text)
        assert_ok(mlxr_file_write(path, text, strlen(text), &err), &err);
    else
        (void)unlink(path);
}

/* The folder's answer: the ids in out [8], their number. */
static mlxr_status eos(const char *generation, const char *config, const char *tokenizer, int32_t *out,
                       size_t *out_n)
{
    mlxr_tokenizer *tok;
    json_t *doc = NULL;
    int32_t *ids;
    mlxr_status st;

    put("generation_config.json", generation);
    put("tokenizer_config.json", tokenizer);
    assert_ok(mlxr_tokenizer_open(&tok, TINY, &err), &err);
    if (config) assert_ok(mlxr_json_parse(&doc, config, strlen(config), "config.json", &err), &err);
    st = mlxr_eos_ids(&ids, out_n, temp_dir, doc, tok, &err);
    assert_true(*out_n <= 8);
    if (*out_n) memcpy(out, ids, *out_n * sizeof *ids);
    assert_true((ids != NULL) == (*out_n > 0));
    free(ids);
    json_decref(doc);
    mlxr_tokenizer_close(tok);
    return st;
}

static void the_first_file_that_names_an_end(void **state)
{
    int32_t ids[8];
    size_t n;

    (void)state;
    assert_ok(eos("{\"eos_token_id\": [5, 7]}", "{\"eos_token_id\": 9}", NULL, ids, &n), &err);
    assert_int_equal(n, 2);
    assert_int_equal(ids[0], 5);
    assert_int_equal(ids[1], 7);
    assert_ok(eos("{\"eos_token_id\": []}", "{\"eos_token_id\": 9}", NULL, ids, &n), &err);
    assert_int_equal(n, 1);
    assert_int_equal(ids[0], 9);
    assert_ok(eos("{\"eos_token_id\": null}", "{\"eos_token_id\": 2147483647}", NULL, ids, &n), &err);
    assert_int_equal(n, 1);
    assert_int_equal(ids[0], INT32_MAX);
    assert_ok(eos(NULL, "{}", "{\"eos_token\": \"no token of this tokenizer\"}", ids, &n), &err);
    assert_int_equal(n, 0);
    assert_ok(eos(NULL, NULL, "{\"eos_token\": {\"content\": 3}}", ids, &n), &err);
    assert_int_equal(n, 0);
    assert_ok(eos(NULL, NULL, NULL, ids, &n), &err);
    assert_int_equal(n, 0);
}

static void ends_that_are_no_ids(void **state)
{
    static const char *const wrong[] = {
        "-1",    "2147483648", "9223372036854775807", "1.5", "\"2\"", "true", "{}", "[1, -1]",
        "[[1]]", "[1, null]"};
    int32_t ids[8];
    size_t n;

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(wrong); i++) {
        char text[80];
        snprintf(text, sizeof text, "{\"eos_token_id\": %s}", wrong[i]);
        assert_int_equal(eos(text, NULL, NULL, ids, &n), MLXR_E_FORMAT);
        assert_non_null(strstr(err.message, "generation_config.json: \"eos_token_id\""));
        assert_int_equal(eos(NULL, text, NULL, ids, &n), MLXR_E_FORMAT);
        assert_non_null(strstr(err.message, "config.json: \"eos_token_id\""));
    }
}

static void files_that_are_no_objects(void **state)
{
    static const char *const wrong[] = {"",    "[]",       "1",    "null",           "{\"a\": 1",
                                        "{}{", "\xff\xfe", "\"\"", "{\"a\": 1e999}", "{\"a\\u0000\": 1}"};
    static char deep[100001];
    mlxr_sampling s;
    int32_t ids[8];
    size_t n;

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(wrong); i++) {
        assert_int_equal(eos(wrong[i], NULL, NULL, ids, &n), MLXR_E_FORMAT);
        assert_non_null(strstr(err.message, "generation_config.json"));
        assert_int_equal(mlxr_folder_sampling(&s, temp_dir, &(mlxr_log){0}, &err), MLXR_E_FORMAT);
        assert_int_equal(eos(NULL, NULL, wrong[i], ids, &n), MLXR_E_FORMAT);
        assert_non_null(strstr(err.message, "tokenizer_config.json"));
    }
    memset(deep, '[', sizeof deep - 1);
    assert_int_equal(eos(deep, NULL, NULL, ids, &n), MLXR_E_FORMAT);
}

static void count_warnings(mlxr_log_level level, const char *message, void *ud)
{
    assert_int_equal(level, MLXR_LOG_WARN);
    assert_non_null(strstr(message, "generation_config.json"));
    ++*(size_t *)ud;
}

/* Each key alone: passed over with a warning, and the others stay. */
static void sampling_out_of_range(void **state)
{
    static const char *const wrong[] = {
        "\"temperature\": -0.1",
        "\"temperature\": 1e300",
        "\"temperature\": [1]",
        "\"top_k\": -1",
        "\"top_k\": 2147483648",
        "\"top_k\": 1e300",
        "\"top_p\": 1.5",
        "\"top_p\": -1",
        "\"min_p\": 2",
        "\"min_p\": \"0.1\"",
        "\"repetition_penalty\": 0",
        "\"repetition_penalty\": -1e300",
        "\"repetition_penalty\": true",
    };
    mlxr_sampling d = mlxr_sampling_default(), s;

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(wrong); i++) {
        char text[120];
        size_t n = 0;
        snprintf(text, sizeof text, "{%s}", wrong[i]);
        put("generation_config.json", text);
        assert_ok(mlxr_folder_sampling(&s, temp_dir, &(mlxr_log){count_warnings, &n}, &err), &err);
        assert_int_equal(n, 1);
        assert_true(s.temperature == d.temperature && s.top_k == d.top_k && s.top_p == d.top_p &&
                    s.min_p == d.min_p && s.repeat_penalty == d.repeat_penalty);
        assert_ok(mlxr_sampling_check(&s, 0, &err), &err);
    }
    put("generation_config.json", "{\"temperature\": null, \"top_k\": 0, \"do_sample\": null, \"x\": [[]]}");
    assert_ok(mlxr_folder_sampling(&s, temp_dir, &(mlxr_log){0}, &err), &err);
    assert_true(s.temperature == d.temperature && s.top_k == 0);
}

/* config may be NULL; name [48]. */
static mlxr_status pooling(const char *modules, const char *config, mlxr_pooling *out, char *name)
{
    put("modules.json", modules);
    (void)mkdir(temp_path("1_Pooling"), 0700);
    put("1_Pooling/config.json", config);
    return mlxr_folder_pooling(out, name, 48, temp_dir, &err);
}

static void no_path_leads_out_of_the_folder(void **state)
{
    static const char *const paths[] = {
        "..", "../", "/", "/tmp", "../1_Pooling", "1_Pooling/..", "1_Pooling/../..", "a/../../b"};
    mlxr_pooling p;
    char name[48];

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(paths); i++) {
        char text[120];
        snprintf(text, sizeof text, "[{\"path\": \"%s\", \"type\": \"x.Pooling\"}]", paths[i]);
        assert_int_equal(pooling(text, "{}", &p, name), MLXR_E_FORMAT);
        assert_non_null(strstr(err.message, "leads out of the folder"));
    }
    /* No name at all is the folder itself, and not the root. */
    put("config.json", "{\"pooling_mode\": \"mean\"}");
    assert_ok(pooling("[{\"path\": \"\", \"type\": \"x.Pooling\"}]", NULL, &p, name), &err);
    assert_int_equal(p, MLXR_POOLING_MEAN);
    put("config.json", NULL);
    assert_ok(pooling("[{\"path\": \"\", \"type\": \"x.Pooling\"}]", NULL, &p, name), &err);
    assert_int_equal(p, MLXR_POOLING_LAST);
    /* Dots in names are names. */
    assert_ok(pooling("[{\"path\": \"..a\", \"type\": \"x.Pooling\"}]", NULL, &p, name), &err);
    assert_int_equal(p, MLXR_POOLING_LAST);
}

static void modules_of_other_kinds(void **state)
{
    static const char *const nothing[] = {
        "[]", "{}", "[1, null, \"x\", [[]]]", "[{\"type\": 1, \"path\": 2}]", "[{}]", "{\"path\": \"..\"}"};
    static const char *const wrong[] = {"", "[", "[{\"path\": \"\\ud800\"}]", "\xff"};
    mlxr_pooling p;
    char name[48];

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(nothing); i++) {
        assert_ok(pooling(nothing[i], "{\"pooling_mode\": \"mean\"}", &p, name), &err);
        assert_int_equal(p, MLXR_POOLING_LAST);
        assert_string_equal(name, "");
    }
    for (size_t i = 0; i < MLXR_COUNT(wrong); i++) {
        assert_int_equal(pooling(wrong[i], NULL, &p, name), MLXR_E_FORMAT);
        assert_non_null(strstr(err.message, "modules.json"));
    }
    assert_ok(pooling("[{\"path\": \"2\", \"type\": \"a name of a module that is longer than what there is "
                      "room for\"}]",
                      NULL, &p, name),
              &err);
    assert_int_equal(p, MLXR_POOLING_DEFAULT);
    assert_int_equal(strlen(name), 47);
}

static void pooling_of_other_kinds(void **state)
{
    static const char *const other[] = {"{}", "{\"pooling_mode\": \"cls\"}", "{\"pooling_mode\": 3}",
                                        "{\"pooling_mode_mean_tokens\": 1}",
                                        "{\"pooling_mode_max_tokens\": true}"};
    static const char *const wrong[] = {"", "[]", "nothing", "{\"pooling_mode\": }"};
    mlxr_pooling p;
    char name[48];

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(other); i++) {
        assert_ok(pooling(NULL, other[i], &p, name), &err);
        assert_int_equal(p, MLXR_POOLING_DEFAULT);
        assert_true(name[0] != '\0');
    }
    for (size_t i = 0; i < MLXR_COUNT(wrong); i++) {
        assert_int_equal(pooling(NULL, wrong[i], &p, name), MLXR_E_FORMAT);
        assert_non_null(strstr(err.message, "1_Pooling/config.json"));
    }
}

int main(void)
{
#define IN_A_FOLDER(test) cmocka_unit_test_setup_teardown(test, temp_dir_make, temp_dir_remove)
    const struct CMUnitTest tests[] = {
        IN_A_FOLDER(the_first_file_that_names_an_end), IN_A_FOLDER(ends_that_are_no_ids),
        IN_A_FOLDER(files_that_are_no_objects),        IN_A_FOLDER(sampling_out_of_range),
        IN_A_FOLDER(no_path_leads_out_of_the_folder),  IN_A_FOLDER(modules_of_other_kinds),
        IN_A_FOLDER(pooling_of_other_kinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
