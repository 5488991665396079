/* Conversion where each allocation in turn fails: it says so, frees what it has and leaves no folder. */
#include "test.h"

#include "convert/plan.h"
#include "format/temp_dir.h"
#include "nomem.h"

#define MODEL   MLXR_SOURCE_DIR "/tests/model/models/mixtral_hf_f16"
#define ADAPTER MLXR_TEST_DIR "/fixtures/adapters/peft_expert"

static void test_each_allocation(void **state)
{
    mlxr_convert_options options = mlxr_convert_options_default();
    mlxr_error err = {0};
    size_t n, n_failed = 0;

    options.quantize = true;
    options.quant = mlxr_quant_default(MLXR_QUANT_NVFP4);
    options.adapter = ADAPTER;
    n_calls = 0;
    assert_ok(mlxr_convert_sharded(MODEL, temp_path("out"), &options, 20000, &err), &err);
    remove_tree(temp_path("out"));
    n = n_calls;
    assert_true(n > 200);
    for (size_t i = 1; i <= n; i++) {
        mlxr_status st;
        err = (mlxr_error){0};
        n_calls = 0;
        fail_at = i;
        st = mlxr_convert_sharded(MODEL, temp_path("out"), &options, 20000, &err);
        fail_at = SIZE_MAX;
        if (st == MLXR_OK) { /* an allocation that can be done without */
            remove_tree(temp_path("out"));
            continue;
        }
        if (st != MLXR_E_NOMEM || !*err.message) fail_msg("allocation %zu of %zu: %s", i, n, err.message);
        assert_false(mlxr_path_is_dir(temp_path("out")));
        n_failed++;
    }
    assert_true(n_failed > n / 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_allocation),
    };
    return cmocka_run_group_tests(tests, temp_dir_make, temp_dir_remove);
}
