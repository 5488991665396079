/* The profile of a device: every step counted, nothing kept when it was not asked for, bytes as the program has them. */
#include "test.h"

#include "device/device.h"
#include "model/cost.h"
#include "model/model.h"

enum { N = 5 };
#define MODEL MLXR_SOURCE_DIR "/tests/runner/fixtures/tiny_chat"

typedef struct fixture {
    mlxr_model *model;
    mlxr_device *device;
    mlxr_executable *executable;
    mlxr_state *state;
    float *logits;
} fixture;

static void open_fixture(fixture *f, const char *device, bool profile)
{
    mlxr_device_options options = {.n_threads = 2, .profile = profile};
    mlxr_error err;

    assert_ok(mlxr_model_open(&f->model, MODEL, &err), &err);
    assert_ok(mlxr_device_open(&f->device, device, &options, &err), &err);
    assert_ok(mlxr_device_compile(&f->executable, f->device, mlxr_model_program(f->model), &err), &err);
    assert_ok(mlxr_state_create(&f->state, f->executable, 1, 1, &err), &err);
    f->logits = calloc(mlxr_model_program(f->model)->vocab_size, sizeof *f->logits);
    assert_non_null(f->logits);
}

static void close_fixture(fixture *f)
{
    free(f->logits);
    mlxr_state_free(f->state);
    mlxr_executable_free(f->executable);
    mlxr_device_close(f->device);
    mlxr_model_close(f->model);
}

/* N tokens from position 0, the logits of the last. */
static void run(fixture *f)
{
    const int32_t ids[N] = {1, 2, 3, 4, 5};
    const uint32_t positions[N] = {0, 1, 2, 3, 4}, seqs[N] = {0}, blocks[1] = {0}, rows[1] = {N - 1};
    mlxr_block_table table = {.blocks = blocks, .n_blocks = 1};
    mlxr_batch batch = {.n_tokens = N,
                        .ids = ids,
                        .positions = positions,
                        .seqs = seqs,
                        .tables = &table,
                        .n_seqs = 1,
                        .rows = rows,
                        .n_rows = 1};
    mlxr_error err;

    assert_ok(mlxr_run(f->executable, f->state, &batch, NULL, f->logits, &err), &err);
}

static void test_counts_every_step(void **state)
{
    const mlxr_program *p;
    const mlxr_profile_row *rows;
    double linear = 0, found = 0;
    bool has_attend = false;
    size_t n;
    fixture f = {0};

    open_fixture(&f, "cpu", true);
    p = mlxr_model_program(f.model);
    for (size_t i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind == MLXR_OP_LINEAR)
            linear += (double)mlxr_matrix_bytes(&p->weights[p->ops[i].weight].m);
    }
    run(&f);
    run(&f);
    rows = mlxr_executable_profile(f.executable, &n);
    assert_true(n > 3 && n < p->n_ops);
    for (size_t i = 0; i < n; i++) {
        assert_true(rows[i].n_calls > 0 && rows[i].n_calls % 2 == 0);
        assert_true(rows[i].ns > 0);
        for (size_t j = 0; j < i; j++) assert_string_not_equal(rows[i].name, rows[j].name);
        if (strncmp(rows[i].name, "LINEAR ", 7) == 0) found += rows[i].bytes;
        if (strncmp(rows[i].name, "ATTEND", 6) == 0) has_attend = true;
    }
    assert_true(has_attend);
    assert_true(found == 2 * linear);
    mlxr_executable_profile_reset(f.executable);
    rows = mlxr_executable_profile(f.executable, &n);
    for (size_t i = 0; i < n; i++) {
        assert_true(rows[i].n_calls == 0 && rows[i].ns == 0 && rows[i].bytes == 0 && rows[i].flops == 0);
        assert_true(rows[i].name[0] != '\0');
    }
    close_fixture(&f);
}

static void test_keeps_nothing_unasked(void **state)
{
    static const struct {
        const char *device;
        bool profile;
    } without[] = {{"cpu", false}, {"ref", true}, {"ref", false}};

    for (size_t i = 0; i < MLXR_COUNT(without); i++) {
        fixture f = {0};
        size_t n = 1;
        open_fixture(&f, without[i].device, without[i].profile);
        run(&f);
        mlxr_executable_profile(f.executable, &n);
        assert_int_equal(n, 0);
        mlxr_executable_profile_reset(f.executable);
        close_fixture(&f);
    }
}

static void test_device_says_what_it_is(void **state)
{
    fixture f = {0};

    open_fixture(&f, "cpu", false);
    assert_int_equal(mlxr_device_n_threads(f.device), 2);
    assert_true(strlen(mlxr_device_isa(f.device)) > 0);
    close_fixture(&f);
    open_fixture(&f, "ref", false);
    assert_int_equal(mlxr_device_n_threads(f.device), 1);
    assert_string_equal(mlxr_device_isa(f.device), "");
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts_every_step),
        cmocka_unit_test(test_keeps_nothing_unasked),
        cmocka_unit_test(test_device_says_what_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
