/* The final hidden state of rows: every device against mlx-lm's inner model (make_hidden.py made hidden.safetensors), only
 * wanted rows, and steps that want logits before and after. */
#include <math.h>

#include "base/json.h"
#include "device/device.h"
#include "format/format.h"
#include "model/model.h"
#include "test.h"

/* Of the values' root mean square. Float32 devices differ by the order of sums, products in integers by more. */
static const struct variant {
    const char *name;
    mlxr_precision precision;
    double tolerance;
    bool same_bits;
} variants[] = {
    {"ref", MLXR_PRECISION_EXACT, 1e-3, true},
    {"cpu", MLXR_PRECISION_EXACT, 1e-3, true},
    {"cpu", MLXR_PRECISION_FAST, 3e-2, true},
    {"mlx:cpu", MLXR_PRECISION_EXACT, 2e-3, false},
};

static const char *const names[] = {"f32",          "q4_g32",       "cohere_bias_f32", "gemma2_q4",
                                    "gemma3_mixed", "gpt_oss_f32",  "granite_bf16",    "lfm2_bf16",
                                    "qwen3_5_bf16", "qwen3_moe_q4", "starcoder2_bf16"};

enum { MAX_TOKENS = 64, N_BLOCKS = 4 };

typedef struct rig {
    mlxr_model *model;
    mlxr_device *device;
    mlxr_executable *executable;
    mlxr_state *state;
    size_t V, D;
} rig;

/* false: there is no such device here. */
static bool open_rig(rig *r, const struct variant *v, const char *name)
{
    mlxr_device_options options = {.precision = v->precision, .n_threads = 2, .ahead = MLXR_AHEAD_ON};
    char *dir = mlxr_asprintf("%s/tests/model/models/%s", MLXR_SOURCE_DIR, name);
    mlxr_error err;

    *r = (rig){0};
    assert_non_null(dir);
    if (strncmp(v->name, "mlx", 3) == 0 && mlxr_device_open(&r->device, v->name, &options, &err) != MLXR_OK) {
        free(dir);
        return false;
    }
    if (!r->device) assert_ok(mlxr_device_open(&r->device, v->name, &options, &err), &err);
    assert_ok(mlxr_model_open(&r->model, dir, &err), &err);
    assert_ok(mlxr_device_compile(&r->executable, r->device, mlxr_model_program(r->model), &err), &err);
    assert_ok(mlxr_state_create(&r->state, r->executable, N_BLOCKS, 1, &err), &err);
    r->V = mlxr_model_program(r->model)->vocab_size;
    r->D = mlxr_model_program(r->model)->hidden_size;
    free(dir);
    return true;
}

static void close_rig(rig *r)
{
    mlxr_state_free(r->state);
    mlxr_executable_free(r->executable);
    mlxr_device_close(r->device);
    mlxr_model_close(r->model);
}

/* Tokens [at, at + n) of ids; hidden or logits of the last n_rows of them, whichever is there. */
static void step(rig *r, const int32_t *ids, size_t at, size_t n, size_t n_rows, float *hidden, float *logits)
{
    static const uint32_t blocks[N_BLOCKS] = {2, 0, 3, 1};
    mlxr_block_table table = {blocks, N_BLOCKS, 0};
    uint32_t positions[MAX_TOKENS], seqs[MAX_TOKENS] = {0}, rows[MAX_TOKENS];
    mlxr_batch batch = {.n_tokens = n,
                        .ids = ids + at,
                        .positions = positions,
                        .seqs = seqs,
                        .tables = &table,
                        .n_seqs = 1,
                        .rows = rows,
                        .n_rows = n_rows,
                        .hidden = hidden};
    mlxr_error err;

    for (size_t i = 0; i < n; i++) positions[i] = (uint32_t)(at + i);
    for (size_t i = 0; i < n_rows; i++) rows[i] = (uint32_t)(n - n_rows + i);
    assert_ok(mlxr_run(r->executable, r->state, &batch, NULL, logits, &err), &err);
}

static double difference(const float *a, const float *b, size_t n)
{
    double worst = 0, squares = 0;

    for (size_t i = 0; i < n; i++) {
        double x = fabs((double)a[i] - (double)b[i]);
        if (isnan(x)) return INFINITY;
        worst = x > worst ? x : worst;
        squares += (double)b[i] * (double)b[i];
    }
    return worst / sqrt(squares / (double)n);
}

static void assert_same(const struct variant *v, const float *a, const float *b, size_t n)
{
    if (v->same_bits)
        assert_memory_equal(a, b, n * sizeof *a);
    else
        assert_true(difference(a, b, n) <= v->tolerance);
}

static float *floats(size_t n)
{
    float *p = malloc((n + 1) * sizeof *p);
    assert_non_null(p);
    for (size_t i = 0; i <= n; i++)
        p[i] = NAN; /* what is not written shows, and what is written behind the end */
    return p;
}

static void one_case(rig *r, const struct variant *v, const json_t *ids_json, const float *want)
{
    int32_t ids[MAX_TOKENS] = {0};
    size_t n = json_array_size(ids_json), D = r->D, V = r->V;
    float *all = floats(n * D), *parts = floats(n * D), *logits = floats(V), *after = floats(V);

    assert_in_range(n, 1, MAX_TOKENS - 1);
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(ids_json, i));
    ids[n] = ids[0];
    step(r, ids, 0, n, n, all, NULL);
    assert_true(isnan(all[n * D]));
    assert_true(difference(all, want, n * D) <= v->tolerance);
    /* A step for logits on what these steps left in the state, and back. */
    step(r, ids, n, 1, 1, NULL, logits);
    step(r, ids, 0, n, 1, parts, NULL);
    assert_true(isnan(parts[D]));
    assert_same(v, parts, all + (n - 1) * D, D);
    step(r, ids, n, 1, 1, NULL, after);
    assert_same(v, after, logits, V);
    /* In chunks, with a row of logits between them that a device may have guessed on from. */
    for (size_t at = 0; at < n; at += 3) {
        size_t m = n - at < 3 ? n - at : 3;
        step(r, ids, at, m, m, parts + at * D, NULL);
    }
    assert_same(v, parts, all, n * D);
    step(r, ids, 0, 1, 1, NULL, after);
    for (size_t at = 1; at < n; at++) {
        if (at % 2)
            step(r, ids, at, 1, 1, parts + at * D, NULL);
        else
            step(r, ids, at, 1, 1, NULL, after);
    }
    for (size_t at = 1; at < n; at += 2) assert_same(v, parts + at * D, all + at * D, D);
    step(r, ids, n, 1, 1, NULL, after);
    assert_same(v, after, logits, V);
    free(all);
    free(parts);
    free(logits);
    free(after);
}

static void equals_the_reference(void **state)
{
    mlxr_checkpoint *expected;
    mlxr_error err;

    (void)state;
    assert_ok(mlxr_checkpoint_open_file(&expected, MLXR_TEST_DIR "/hidden.safetensors", &err), &err);
    for (size_t d = 0; d < MLXR_COUNT(variants); d++) {
        for (size_t i = 0; i < MLXR_COUNT(names); i++) {
            char *path = mlxr_asprintf("%s/tests/model/models/%s/expected.json", MLXR_SOURCE_DIR, names[i]);
            json_t *doc, *cases;
            rig r;

            if (!open_rig(&r, &variants[d], names[i])) {
                print_message("SKIP: device %s is not here\n", variants[d].name);
                free(path);
                break;
            }
            assert_ok(mlxr_json_read(&doc, path, 1 << 20, &err), &err);
            cases = json_object_get(doc, "cases");
            assert_true(json_array_size(cases) >= 3);
            for (size_t c = 0; c < json_array_size(cases); c++) {
                const json_t *one = json_array_get(cases, c);
                char *key = mlxr_asprintf("%s/%s", names[i], json_string_value(json_object_get(one, "name")));
                const mlxr_tensor *want = mlxr_checkpoint_find(expected, key);
                size_t n = json_array_size(json_object_get(one, "ids"));
                float *values = floats(n * r.D);
                assert_non_null(want);
                assert_int_equal(want->n_elements, n * r.D);
                for (size_t j = 0; j < n * r.D; j++) values[j] = mlxr_load_float(want->data, want->dtype, j);
                one_case(&r, &variants[d], json_object_get(one, "ids"), values);
                free(values);
                free(key);
            }
            json_decref(doc);
            free(path);
            close_rig(&r);
        }
    }
    mlxr_checkpoint_close(expected);
}

/* A program that does not say where its hidden state is. */
static void refused_without_one(void **state)
{
    rig r;
    mlxr_program without;
    mlxr_executable *executable;
    mlxr_state *st;
    int32_t id = 1;
    uint32_t zero = 0;
    float *hidden;
    mlxr_error err;

    (void)state;
    assert_true(open_rig(&r, &variants[0], "f32"));
    without = *mlxr_model_program(r.model);
    without.hidden = MLXR_NONE;
    without.n_ops_hidden = 0;
    hidden = floats(r.D);
    assert_ok(mlxr_device_compile(&executable, r.device, &without, &err), &err);
    assert_ok(mlxr_state_create(&st, executable, 1, 1, &err), &err);
    mlxr_block_table table = {&zero, 1, 0};
    mlxr_batch batch = {.n_tokens = 1,
                        .ids = &id,
                        .positions = &zero,
                        .seqs = &zero,
                        .tables = &table,
                        .n_seqs = 1,
                        .rows = &zero,
                        .n_rows = 1,
                        .hidden = hidden};
    assert_int_equal(mlxr_run(executable, st, &batch, NULL, NULL, &err), MLXR_E_UNSUPPORTED);
    mlxr_state_free(st);
    mlxr_executable_free(executable);
    close_rig(&r);
    free(hidden);
}

/* A cancelled pass says how many steps it would have had: without the head there are fewer. */
static void a_cancelled_pass_counts_its_own_steps(void **state)
{
    rig r;
    int32_t id = 1;
    uint32_t zero = 0;
    mlxr_block_table table = {&zero, 1, 0};
    volatile int cancel = 1;
    float *hidden, *logits;
    size_t n_steps[2] = {0, 0};

    (void)state;
    assert_true(open_rig(&r, &variants[1], "f32"));
    hidden = floats(r.D);
    logits = floats(r.V);
    for (size_t i = 0; i < 2; i++) {
        mlxr_batch batch = {.n_tokens = 1,
                            .ids = &id,
                            .positions = &zero,
                            .seqs = &zero,
                            .tables = &table,
                            .n_seqs = 1,
                            .rows = &zero,
                            .n_rows = 1,
                            .hidden = i ? hidden : NULL};
        mlxr_error err;
        const char *of;
        assert_int_equal(mlxr_run(r.executable, r.state, &batch, &cancel, i ? NULL : logits, &err),
                         MLXR_E_CANCELLED);
        of = strstr(err.message, "before step 0 of ");
        assert_non_null(of);
        n_steps[i] = strtoul(of + strlen("before step 0 of "), NULL, 10);
    }
    assert_in_range(n_steps[1], 1, n_steps[0] - 1);
    close_rig(&r);
    free(hidden);
    free(logits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_reference),
        cmocka_unit_test(a_cancelled_pass_counts_its_own_steps),
        cmocka_unit_test(refused_without_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
