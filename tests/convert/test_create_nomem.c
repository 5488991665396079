/* A model by a recipe with every allocation failing in turn: MLXR_E_NOMEM, nothing leaked (LeakSanitizer sees it in the asan build), and the
 * name stands for a whole model. What only makes things faster, or is told to the log, may fail without a failure of the call. */
#include "nomem.h"

#include "store/folder.h"

#include "convert/convert.h"

#define TINY MLXR_SOURCE_DIR "/tests/runner/fixtures/tiny_chat"

static mlxr_error err;

static mlxr_status run(mlxr_store *store, const mlxr_recipe *r)
{
    mlxr_create_options options = {.recipe_dir = temp_dir};
    char *digest;
    mlxr_status st = mlxr_create(&digest, store, "a", r, &options, &err);

    mlxr_free(digest);
    return st;
}

static void each_allocation_fails_once(void **state)
{
    static const char yaml[] =
        "base: tiny\nsystem: S\nlicense: [x, y]\nversion: v1\ntemplate: \"{{ messages }}\"\n"
        "defaults: {top_k: 3}\nmetadata: {a: b}\ntokenizer: tok\n";
    mlxr_store *store;
    mlxr_recipe r;
    mlxr_buf text = {0};
    size_t at;

    (void)state;
    assert_int_equal(mkdir(temp_path("tok"), 0755), 0);
    assert_ok(mlxr_file_read(&text, TINY "/tokenizer.json", 1 << 20, &err), &err);
    put_text(temp_path("tok/tokenizer.json"), text.data);
    mlxr_buf_clear(&text);
    assert_ok(mlxr_store_open(&store, temp_path("s"), NULL, &err), &err);
    assert_ok(mlxr_store_import(NULL, store, TINY, "tiny", NULL, NULL, &err), &err);
    assert_ok(mlxr_recipe_parse(&r, yaml, strlen(yaml), "r.yaml", &err), &err);
    assert_ok(run(store, &r), &err);
    for (at = 1;; at++) {
        mlxr_status st;
        char *path;
        n_calls = 0;
        fail_at = at;
        st = run(store, &r);
        fail_at = SIZE_MAX;
        if (n_calls < at) {
            assert_ok(st, &err);
            break;
        }
        if (st != MLXR_OK && st != MLXR_E_NOMEM)
            fail_msg("allocation %zu: %s: %s", at, mlxr_status_name(st), err.message);
        assert_ok(mlxr_store_model_path(&path, store, "a", &err), &err);
        mlxr_free(path);
    }
    assert_true(at > 100);
    mlxr_recipe_clear(&r);
    mlxr_store_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_allocation_fails_once, temp_dir_make, temp_dir_remove)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
