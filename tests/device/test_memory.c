/* Memory before anything is allocated: over every tiny checkpoint, what is computed from the program alone is what a
 * device that pads nothing reports, and what a device reports goes into the plan as it is. */
#include <dirent.h>

#include "device/memory.h"
#include "model/model.h"
#include "test.h"

#define MODELS MLXR_SOURCE_DIR "/tests/model/models"

static size_t n_compared;

static void compare(const char *dir, const char *device_name)
{
    mlxr_memory_request request = mlxr_memory_request_default(100);
    mlxr_device_options options = {
        .n_threads = 1, .kv_type = strcmp(device_name, "cpu") == 0 ? MLXR_KV_F32 : MLXR_KV_DEFAULT};
    mlxr_model *m = NULL;
    mlxr_device *d = NULL;
    mlxr_executable *e = NULL;
    mlxr_state *state = NULL;
    mlxr_memory plain, planned;
    mlxr_error err;

    request.n_sequences = 3;
    assert_ok(mlxr_model_open(&m, dir, &err), &err);
    assert_ok(mlxr_device_open(&d, device_name, &options, &err), &err);
    if (mlxr_device_compile(&e, d, mlxr_model_program(m), &err) != MLXR_OK) {
        assert_string_equal(device_name, "cpu"); /* which does not run all of them yet */
        goto done;
    }
    assert_ok(mlxr_memory_plan(&plain, mlxr_model_program(m), NULL, 1000, &request, &err), &err);
    assert_ok(mlxr_memory_plan(&planned, mlxr_model_program(m), e, 1000, &request, &err), &err);
    assert_int_equal(planned.block_bytes, mlxr_executable_block_bytes(e));
    assert_int_equal(planned.sequence_bytes, mlxr_executable_sequence_bytes(e));
    assert_int_equal(planned.sequence_bytes, plain.sequence_bytes);
    assert_int_equal(planned.n_blocks, 3 * 4); /* 100 positions are four blocks of 32 */
    assert_int_equal(planned.kv_bytes, 12 * planned.block_bytes);
    assert_int_equal(planned.states_bytes, 3 * planned.sequence_bytes);
    assert_int_equal(planned.total_bytes,
                     1000 + planned.kv_bytes + planned.states_bytes + planned.activation_bytes);
    if (strcmp(device_name, "ref") == 0)
        assert_int_equal(planned.block_bytes, plain.block_bytes);
    else
        assert_true(planned.block_bytes >= plain.block_bytes); /* values are padded to whole vectors */
    assert_ok(mlxr_state_create(&state, e, planned.n_blocks, 3, &err), &err);
    n_compared++;
done:
    mlxr_state_free(state);
    mlxr_executable_free(e);
    mlxr_device_close(d);
    mlxr_model_close(m);
}

static void plans_are_what_devices_report(void **state)
{
    DIR *d = opendir(MODELS);
    const struct dirent *e;
    (void)state;

    assert_non_null(d);
    while ((e = readdir(d)) != NULL) {
        char *dir = mlxr_asprintf(MODELS "/%s", e->d_name), *config = mlxr_asprintf("%s/config.json", dir);
        FILE *f = config ? fopen(config, "r") : NULL;
        if (f) {
            fclose(f);
            compare(dir, "ref");
            compare(dir, "cpu");
        }
        free(dir);
        free(config);
    }
    closedir(d);
    assert_true(n_compared > 40);
}

/* llama with 2 layers, 3 heads of keys and values of width 8: 2 * 3 * (8 + 8) floats a position. */
static const char config[] = "{\"model_type\": \"llama\", \"hidden_size\": 24, \"intermediate_size\": 16, "
                             "\"num_hidden_layers\": 2, \"num_attention_heads\": 3, \"vocab_size\": 10, "
                             "\"rms_norm_eps\": 1e-5}";

static mlxr_program *program_of(const char *text)
{
    mlxr_config c = {.what = "config.json"};
    const mlxr_family *family;
    mlxr_program *p = NULL;
    mlxr_error err;

    assert_ok(mlxr_json_parse(&c.root, text, strlen(text), "config.json", &err), &err);
    assert_ok(mlxr_family_find(&family, &c, &err), &err);
    assert_ok(family->build(&p, &c, &err), &err);
    json_decref(c.root);
    return p;
}

static void by_hand(void **state)
{
    mlxr_program *p = program_of(config);
    mlxr_memory_request request = mlxr_memory_request_default(33);
    size_t n_floats = 0;
    mlxr_memory m;
    mlxr_error err;
    (void)state;

    assert_int_equal(request.n_sequences, 1);
    assert_ok(mlxr_memory_plan(&m, p, NULL, 7, &request, &err), &err);
    assert_int_equal(m.block_bytes, 32 * 2 * 3 * 16 * 4);
    assert_int_equal(m.n_blocks, 2);
    assert_int_equal(m.kv_bytes, 2 * m.block_bytes);
    assert_int_equal(m.states_bytes, 0);
    for (size_t i = 0; i < p->n_regs; i++) n_floats += i == p->logits ? 0 : p->regs[i].width;
    assert_int_equal(m.activation_bytes, 256 * 4 * n_floats + 4 * 10);
    assert_int_equal(m.total_bytes, 7 + m.kv_bytes + m.activation_bytes);
    request.n_positions = 0;
    assert_ok(mlxr_memory_plan(&m, p, NULL, 7, &request, &err), &err);
    assert_int_equal(m.kv_bytes, 0);
    mlxr_program_free(p);
}

static void sums_that_overflow_are_refused(void **state)
{
    mlxr_program *p = program_of(config);
    mlxr_memory_request request = mlxr_memory_request_default(SIZE_MAX);
    mlxr_memory m = {.kv_bytes = 5};
    mlxr_error err;
    (void)state;

    assert_fails(mlxr_memory_plan(&m, p, NULL, 0, &request, &err), MLXR_E_LIMIT, "more bytes than", &err);
    assert_int_equal(m.kv_bytes, 5);
    request = mlxr_memory_request_default(32);
    request.n_sequences = SIZE_MAX;
    assert_fails(mlxr_memory_plan(&m, p, NULL, 0, &request, &err), MLXR_E_LIMIT, "sequences of 32", &err);
    request = mlxr_memory_request_default(32);
    request.n_tokens_per_step = SIZE_MAX;
    assert_fails(mlxr_memory_plan(&m, p, NULL, 0, &request, &err), MLXR_E_LIMIT, "more bytes", &err);
    request = mlxr_memory_request_default(32);
    assert_fails(mlxr_memory_plan(&m, p, NULL, UINT64_MAX, &request, &err), MLXR_E_LIMIT, "more bytes", &err);
    mlxr_program_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_are_what_devices_report),
        cmocka_unit_test(by_hand),
        cmocka_unit_test(sums_that_overflow_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
