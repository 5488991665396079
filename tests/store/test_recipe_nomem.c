/* Recipes and Modelfiles with every allocation failing in turn: MLXR_E_NOMEM, nothing leaked (LeakSanitizer sees it in the asan
 * build). libyaml's and jansson's allocations are inside their own libraries and do not fail here. */
#include "nomem.h"
#include "test.h"

#include "store/recipe.h"

static mlxr_error err;

static const char yaml[] =
    "name: a\nversion: 1\nbase: {repo: m, revision: r}\nformat: mlx\nquantization: {bits: 4}\n"
    "tokenizer: t\ntemplate: \"{{ x }}\"\nsystem: &s s\ndefaults: {stop: [a], top_k: 3}\n"
    "messages: [{role: user, content: *s}]\nadapter: a\nlicense: [x, y]\nmetadata: {a: b}\n";
static const char modelfile[] =
    "FROM m\nPARAMETER stop a\nPARAMETER stop b\nPARAMETER top_p 0.5\nTEMPLATE x\nSYSTEM \"\"\"a\n"
    "b\"\"\"\nADAPTER a\nLICENSE l\nMESSAGE user hi\n";

static mlxr_status run(bool second)
{
    mlxr_recipe r;
    mlxr_buf out = {0};
    mlxr_status st = second ? mlxr_modelfile_parse(&r, modelfile, strlen(modelfile), "m", &err)
                            : mlxr_recipe_parse(&r, yaml, strlen(yaml), "r", &err);

    if (st == MLXR_OK) st = mlxr_recipe_folder_json(&out, &r, &err);
    if (st == MLXR_OK) st = mlxr_modelfile_write(&out, &r, "m", &err);
    mlxr_buf_clear(&out);
    mlxr_recipe_clear(&r);
    return st;
}

static void each_allocation_fails_once(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++) {
        size_t at;
        for (at = 1;; at++) {
            mlxr_status st;
            n_calls = 0;
            fail_at = at;
            err = (mlxr_error){0};
            st = run(which);
            fail_at = SIZE_MAX;
            if (n_calls < at) {
                assert_ok(st, &err);
                break;
            }
            if (st != MLXR_E_NOMEM) fail_msg("allocation %zu: %s: %s", at, mlxr_status_name(st), err.message);
            assert_non_null(strstr(err.message, "memory"));
        }
        assert_true(at > 10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_allocation_fails_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
