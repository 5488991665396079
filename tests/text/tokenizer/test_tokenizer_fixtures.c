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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fixtures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
