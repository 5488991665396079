/* The project's own fixtures: small tokenizers for every component, with the reference's answers
 * (make_fixtures.py). Each is opened from its file, and once more through a compiled cache. */
#include <dirent.h>
#include <unistd.h>

#include "text/tokenizer/cases.h"
#include "text/tokenizer/tests.h"

#include "base/fs.h"

static char folder[] = "/tmp/mlxr-tokenizer-XXXXXX";

static void check_fixture(tally *t, const char *path, const char *name)
{
    mlxr_error err = {0};
    json_t *fixture = NULL, *c;
    size_t i;
    char *file = mlxr_path_join(folder, "tokenizer.json"), *cache = mlxr_path_join(folder, "cache");
    mlxr_tokenizer_options options = mlxr_tokenizer_options_default();

    assert_int_equal(mlxr_json_read(&fixture, path, 64 << 20, &err), MLXR_OK);
    assert_int_equal(json_dump_file(json_object_get(fixture, "tokenizer"), file, JSON_ENSURE_ASCII), 0);
    options.cache_dir = cache;
    for (int round = 0; round < 3; round++) { /* plain; written to the cache; read from it */
        mlxr_tokenizer *tok = NULL;
        mlxr_status st = mlxr_tokenizer_open_with(&tok, file, round ? &options : NULL, &err);
        judge(t, st == MLXR_OK, name, 0, "open", err.message);
        if (st == MLXR_OK)
            json_array_foreach(json_object_get(fixture, "cases"), i, c)
                check_case(t, tok, c, "special", name, i);
        mlxr_tokenizer_close(tok);
    }
    json_decref(fixture);
    free(file);
    free(cache);
}

static void test_fixtures(void **state)
{
    tally t = {0};
    DIR *dir = opendir(MLXR_TEST_DIR "/fixtures");
    struct dirent *e;

    (void)state;
    assert_non_null(dir);
    assert_non_null(mkdtemp(folder));
    while ((e = readdir(dir)) != NULL) {
        char *path;
        if (strncmp(e->d_name, "component_", 10) != 0) continue;
        path = mlxr_path_join(MLXR_TEST_DIR "/fixtures", e->d_name);
        check_fixture(&t, path, e->d_name);
        free(path);
    }
    closedir(dir);
    printf("%zu passed, %zu failed\n", t.passed, t.failed);
    assert_true(t.passed > 1000);
    assert_int_equal(t.failed, 0);
    assert_int_equal(system_rm(folder), 0);
}

/* Folders that hold a tokenizer.model alone (make_sentencepiece.py). */
static void test_sentencepiece(void **state)
{
    static const char *const folders[] = {"/fixtures/sentencepiece_bpe", "/fixtures/sentencepiece_unigram"};
    tally t = {0};
    (void)state;
    for (size_t k = 0; k < 2; k++) {
        char *dir = mlxr_asprintf("%s%s", MLXR_TEST_DIR, folders[k]),
             *cases = mlxr_path_join(dir, "cases.jsonl");
        mlxr_error err = {0};
        mlxr_tokenizer *tok = NULL;
        mlxr_status st = mlxr_tokenizer_open(&tok, dir, &err);
        judge(&t, st == MLXR_OK, folders[k], 0, "open", err.message);
        if (st == MLXR_OK) check_lines(&t, tok, cases, folders[k]);
        mlxr_tokenizer_close(tok);
        free(dir);
        free(cases);
    }
    printf("%zu passed, %zu failed\n", t.passed, t.failed);
    assert_true(t.passed > 100);
    assert_int_equal(t.failed, 0);
}

/* A model cut short or with any byte changed is refused or read, and never more than that. */
static void test_sentencepiece_broken(void **state)
{
    mlxr_buf whole = {0};
    char dir[] = "/tmp/mlxr-spm-XXXXXX", *path;
    mlxr_error err = {0};
    size_t refused = 0;
    (void)state;
    assert_int_equal(
        mlxr_file_read(&whole, MLXR_TEST_DIR "/fixtures/sentencepiece_bpe/tokenizer.model", 1 << 26, &err),
        MLXR_OK);
    assert_non_null(mkdtemp(dir));
    path = mlxr_path_join(dir, "tokenizer.model");
    for (size_t i = 0; i < 300; i++) {
        mlxr_tokenizer *tok = NULL;
        size_t at = i * whole.len / 300;
        bool cut = i % 2;
        char old = whole.data[at];
        if (!cut) whole.data[at] = (char)(old ^ (1 << i % 7 | 128));
        assert_int_equal(mlxr_file_write(path, whole.data, cut ? at : whole.len, NULL), MLXR_OK);
        whole.data[at] = old;
        refused += mlxr_tokenizer_open(&tok, dir, &err) != MLXR_OK;
        mlxr_tokenizer_close(tok);
    }
    assert_true(refused > 50);
    free(path);
    mlxr_buf_clear(&whole);
    assert_int_equal(system_rm(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fixtures), cmocka_unit_test(test_sentencepiece),
                                       cmocka_unit_test(test_sentencepiece_broken)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
