/* Every device against mlx-lm: the tiny checkpoints of tests/model/models, their float32 logits at all positions and
 * their greedy continuations (tests/model/make_models.py made them). And what the contract of device.h promises
 * about bits: a prompt in any chunks, in any company and in any blocks gives the same logits as whole and alone. MLX
 * promises no bits; there such logits agree within the bound against mlx-lm. */
#include <dirent.h>
#ifdef __linux__
#include <malloc.h>
#endif
#include <math.h>

#include "base/fs.h"
#include "base/json.h"
#include "device/device.h"
#include "model/model.h"
#include "test.h"

/* The devices compared. Float32 devices differ from mlx-lm by the order of sums alone: the largest difference seen
 * is 1.4e-4 of the logits' standard deviation, a wrong rounding step shows at 1e-3 and above. Products in
 * integers come within 4e-3 where tiny models have outliers. */
static const struct variant {
    const char *name;
    mlxr_precision precision;
    const char *isa;
    mlxr_kv_type kv_type;
    double tolerance; /* in the logits' standard deviation: of every logit, or of their root mean square */
    bool same_bits;
    bool exact; /* as good as float32: the tolerance is of every logit, and greedy ids are the reference's */
} all_devices[] = {
    {"ref", MLXR_PRECISION_EXACT, NULL, 0, 1e-3, true, true},
    {"cpu", MLXR_PRECISION_EXACT, "avx512", 0, 1e-3, true, true},
    {"cpu", MLXR_PRECISION_EXACT, "avx2", 0, 1e-3, true, true},
    {"cpu", MLXR_PRECISION_EXACT, "baseline", 0, 1e-3, true, true},
    {"cpu", MLXR_PRECISION_FAST, "vnni", MLXR_KV_F32, 5e-3, true, true},
    {"cpu", MLXR_PRECISION_FAST, "avxvnni", MLXR_KV_F32, 5e-3, true, true},
    {"cpu", MLXR_PRECISION_FAST, "avx2", MLXR_KV_F32, 5e-3, true, true},
    /* Keys and values in 11 bits, and in 8: root mean square. What it takes to send a token of a tiny model to another
     * expert is 0.31 of qwen3_moe_mixed. */
    {"cpu", MLXR_PRECISION_FAST, NULL, MLXR_KV_F16, 1e-2, true, false},
    {"cpu", MLXR_PRECISION_FAST, NULL, MLXR_KV_INT8, 0.6, true, false},
    {"cpu", MLXR_PRECISION_FAST, "baseline", MLXR_KV_INT8, 0.6, true, false},
    {"mlx:cpu", MLXR_PRECISION_EXACT, NULL, 0, 2e-3, false, true},
    /* In the checkpoint's own type, of 8 bits (bf16) or 11 (f16). mlx-lm run so is as far from its own float32
     * logits: 0.54 for gpt_oss_mixed, 0.21 for the next, 0.1 without experts. A rounding that sends a token to another
     * expert changes single logits by all they are. */
    {"mlx:cpu", MLXR_PRECISION_FAST, NULL, 0, 0.6, false, false},
};
/* Those this machine has; main finds them. */
static struct variant devices[MLXR_COUNT(all_devices)];
static size_t n_devices;

/* The folders of tests/model/models, in the order of their names; or those of the command line. */
static char *models[256];
static size_t n_models;

enum { N_BLOCKS = 16, MAX_TOKENS = 128 };

typedef struct fixture {
    mlxr_model *model;
    mlxr_device *device;
    mlxr_executable *executable;
    mlxr_state *state;
    size_t V;
    json_t *doc;
    mlxr_checkpoint *expected;
} fixture;

static char *path_of(const char *model, const char *file)
{
    char *path = mlxr_asprintf("%s/tests/model/models/%s%s%s", MLXR_SOURCE_DIR, model, *file ? "/" : "",
                               file);
    assert_non_null(path);
    return path;
}

static void open_device(fixture *f, size_t i_device)
{
    mlxr_device_options options = {.precision = devices[i_device].precision,
                                   .n_threads = 2,
                                   .isa = devices[i_device].isa,
                                   .kv_type = devices[i_device].kv_type};
    mlxr_error err;

    assert_ok(mlxr_device_open(&f->device, devices[i_device].name, &options, &err), &err);
    assert_ok(mlxr_device_compile(&f->executable, f->device, mlxr_model_program(f->model), &err), &err);
    assert_ok(mlxr_state_create(&f->state, f->executable, N_BLOCKS, 4, &err), &err);
    f->V = mlxr_model_program(f->model)->vocab_size;
}

static void open_fixture(fixture *f, size_t i_device, const char *name)
{
    char *dir = path_of(name, ""), *doc = path_of(name, "expected.json"),
         *expected = path_of(name, "expected.safetensors");
    mlxr_error err;

    *f = (fixture){0};
    assert_ok(mlxr_model_open(&f->model, dir, &err), &err);
    assert_ok(mlxr_json_read(&f->doc, doc, 1 << 20, &err), &err);
    assert_ok(mlxr_checkpoint_open_file(&f->expected, expected, &err), &err);
    open_device(f, i_device);
    free(dir);
    free(doc);
    free(expected);
}

static void close_fixture(fixture *f)
{
    mlxr_state_free(f->state);
    mlxr_executable_free(f->executable);
    mlxr_device_close(f->device);
    mlxr_model_close(f->model);
    mlxr_checkpoint_close(f->expected);
    json_decref(f->doc);
}

static size_t read_ids(int32_t *ids, const json_t *list)
{
    size_t n = json_array_size(list);
    assert_in_range(n, 1, MAX_TOKENS);
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return n;
}

/* One sequence's n tokens from `position` on in a step of their own; logits of all of them. */
static void step(fixture *f, const int32_t *ids, size_t n, size_t position, const mlxr_block_table *table,
                 float *logits)
{
    uint32_t positions[MAX_TOKENS], seqs[MAX_TOKENS] = {0}, rows[MAX_TOKENS];
    mlxr_batch batch = {.n_tokens = n,
                        .ids = ids,
                        .positions = positions,
                        .seqs = seqs,
                        .tables = table,
                        .n_seqs = 1,
                        .rows = rows,
                        .n_rows = n};
    mlxr_error err;

    for (size_t i = 0; i < n; i++) {
        positions[i] = (uint32_t)(position + i);
        rows[i] = (uint32_t)i;
    }
    assert_ok(mlxr_run(f->executable, f->state, &batch, NULL, logits, &err), &err);
}

static const uint32_t some_blocks[] = {3, 0, 7, 5};
static const uint32_t other_blocks[] = {12, 9, 1, 14};
static const uint32_t third_blocks[] = {2, 15, 4, 6};
#define TABLE(blocks) ((mlxr_block_table){blocks, MLXR_COUNT(blocks), 0})

static float *new_logits(const fixture *f, size_t n)
{
    float *p = malloc(n * f->V * sizeof *p);
    assert_non_null(p);
    for (size_t i = 0; i < n * f->V; i++) p[i] = NAN; /* what is not written shows */
    return p;
}

static size_t argmax(const float *x, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* How far n logits are from others, as device d is measured; not below infinity when one is no number. */
static double difference(size_t d, const float *a, const float *b, size_t n)
{
    double worst = 0, squares = 0;

    for (size_t i = 0; i < n; i++) {
        double x = fabs((double)a[i] - (double)b[i]);
        if (isnan(x)) return INFINITY;
        if (x > worst) worst = x;
        squares += x * x;
    }
    return devices[d].exact ? worst : sqrt(squares / (double)n);
}

/* Whether two runs of device d gave the same n logits: the same bits, or what its tolerance allows. */
static bool same(size_t d, const float *a, const float *b, size_t n)
{
    double sum = 0, squares = 0;

    if (devices[d].same_bits) return memcmp(a, b, n * sizeof *a) == 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)a[i];
        squares += (double)a[i] * (double)a[i];
    }
    return difference(d, a, b, n) <=
           devices[d].tolerance * sqrt(squares / (double)n - sum / (double)n * (sum / (double)n));
}

/* ---- against mlx-lm ---- */

static double worst_difference(fixture *f, size_t d)
{
    double std = json_number_value(json_object_get(f->doc, "logit_std")), worst = 0;
    const json_t *cases = json_object_get(f->doc, "cases");

    assert_true(std > 0.1);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i);
        const mlxr_tensor *want = mlxr_checkpoint_find(f->expected,
                                                       json_string_value(json_object_get(c, "name")));
        mlxr_block_table table = TABLE(some_blocks);
        int32_t ids[MAX_TOKENS];
        size_t n = read_ids(ids, json_object_get(c, "ids"));
        float *logits = new_logits(f, n), *wanted = new_logits(f, n);
        double x;

        assert_non_null(want);
        assert_int_equal(want->n_elements, n * f->V);
        step(f, ids, n, 0, &table, logits);
        for (size_t j = 0; j < n * f->V; j++) wanted[j] = mlxr_load_float(want->data, want->dtype, j);
        x = difference(d, logits, wanted, n * f->V) / std;
        if (x > worst) worst = x;
        free(logits);
        free(wanted);
    }
    return worst;
}

static void logits_equal_the_reference(void **state)
{
    (void)state;
    for (size_t d = 0; d < n_devices; d++) {
        for (size_t i = 0; i < n_models; i++) {
            fixture f;
            double worst;
            open_fixture(&f, d, models[i]);
            worst = worst_difference(&f, d);
            print_message("%-7s %-9s %-26s %s difference / std = %.1e\n", devices[d].name,
                          devices[d].isa                                ? devices[d].isa
                          : devices[d].precision == MLXR_PRECISION_FAST ? "fast"
                                                                        : "",
                          models[i], devices[d].exact ? "largest" : "root mean square", worst);
            if (!(worst <= devices[d].tolerance)) fail_msg("%s on %s: %g", models[i], devices[d].name, worst);
            close_fixture(&f);
        }
    }
}

static void greedy_ids_equal_the_reference(void **state)
{
    (void)state;
    for (size_t d = 0; d < n_devices; d++) {
        for (size_t i = 0; i < n_models && devices[d].exact; i++) {
            fixture f;
            const json_t *list;
            open_fixture(&f, d, models[i]);
            list = json_object_get(f.doc, "greedy");
            assert_true(json_array_size(list) >= 2);
            for (size_t g = 0; g < json_array_size(list); g++) {
                mlxr_block_table table = TABLE(some_blocks);
                const json_t *run = json_array_get(list, g);
                int32_t ids[MAX_TOKENS], want[MAX_TOKENS], id;
                size_t n = read_ids(ids, json_object_get(run, "ids"));
                size_t n_want = read_ids(want, json_object_get(run, "next"));
                float *logits = new_logits(&f, n);

                step(&f, ids, n, 0, &table, logits);
                id = (int32_t)argmax(logits + (n - 1) * f.V, f.V);
                for (size_t k = 0; k < n_want; k++) {
                    if (id != want[k])
                        fail_msg("%s on %s, run %zu: id %zu is %d, wanted %d", models[i], devices[d].name, g,
                                 k, (int)id, (int)want[k]);
                    step(&f, &id, 1, n + k, &table, logits);
                    id = (int32_t)argmax(logits, f.V);
                }
                free(logits);
            }
            close_fixture(&f);
        }
    }
}

/* ---- bits ---- */

static void chunks_change_no_bit(void **state)
{
    static const size_t cuts[] = {1, 2, 7, 32, 33};
    (void)state;
    for (size_t d = 0; d < n_devices; d++) {
        for (size_t i = 0; i < n_models; i++) {
            fixture f;
            mlxr_block_table table = TABLE(some_blocks), other = TABLE(other_blocks);
            int32_t ids[MAX_TOKENS];
            float *whole, *parts;
            size_t n;

            open_fixture(&f, d, models[i]);
            n = read_ids(ids, json_object_get(json_array_get(json_object_get(f.doc, "cases"), 2), "ids"));
            whole = new_logits(&f, n);
            parts = new_logits(&f, n);
            step(&f, ids, n, 0, &table, whole);
            for (size_t c = 0; c < MLXR_COUNT(cuts); c++) {
                for (size_t at = 0; at < n; at += cuts[c])
                    step(&f, ids + at, n - at < cuts[c] ? n - at : cuts[c], at, &other, parts + at * f.V);
                if (!same(d, whole, parts, n * f.V))
                    fail_msg("%s on %s: chunks of %zu differ", models[i], devices[d].name, cuts[c]);
            }
            free(whole);
            free(parts);
            close_fixture(&f);
        }
    }
}

/* Three sequences in one step: one in its middle, one at its start, one with a single token, as an engine mixes them. */
static void company_changes_no_bit(void **state)
{
    (void)state;
    for (size_t d = 0; d < n_devices; d++) {
        for (size_t i = 0; i < n_models; i++) {
            fixture f;
            mlxr_block_table tables[] = {
                {some_blocks, MLXR_COUNT(some_blocks), 0},
                {other_blocks, MLXR_COUNT(other_blocks), 1},
                {third_blocks, MLXR_COUNT(third_blocks), 2},
            };
            enum { A = 36, B = 19, C = 33, FIRST_A = 20, FIRST_C = C - 1, N = A - FIRST_A + B + 1 };
            int32_t a[A], b[B + 1], c[C], ids[N];
            uint32_t positions[N], seqs[N], rows[N];
            mlxr_batch batch = {.n_tokens = N,
                                .ids = ids,
                                .positions = positions,
                                .seqs = seqs,
                                .tables = tables,
                                .n_seqs = 3,
                                .rows = rows,
                                .n_rows = N};
            float *alone_a, *alone_b, *alone_c, *together, *some;
            size_t n = 0;
            mlxr_error err;

            open_fixture(&f, d, models[i]);
            for (size_t k = 0; k < A; k++) a[k] = (int32_t)((k * 37 + 11) % f.V);
            for (size_t k = 0; k < B + 1; k++) b[k] = (int32_t)((k * 53 + 5) % f.V);
            for (size_t k = 0; k < C; k++) c[k] = (int32_t)((k * 71 + 29) % f.V);
            alone_a = new_logits(&f, A);
            alone_b = new_logits(&f, B + 1);
            alone_c = new_logits(&f, C);
            together = new_logits(&f, N);
            some = new_logits(&f, N);
            step(&f, a, A, 0, &tables[0], alone_a);
            step(&f, b, B + 1, 0, &tables[0], alone_b);
            step(&f, c, C, 0, &tables[0], alone_c);

            step(&f, a, FIRST_A, 0, &tables[0], some);
            step(&f, c, FIRST_C, 0, &tables[2], some);
            for (size_t k = FIRST_A; k < A; k++, n++) ids[n] = a[k], positions[n] = (uint32_t)k, seqs[n] = 0;
            for (size_t k = 0; k < B; k++, n++) ids[n] = b[k], positions[n] = (uint32_t)k, seqs[n] = 1;
            ids[n] = c[C - 1], positions[n] = C - 1, seqs[n] = 2, n++;
            for (size_t k = 0; k < n; k++) rows[k] = (uint32_t)k;
            assert_ok(mlxr_run(f.executable, f.state, &batch, NULL, together, &err), &err);
            assert_true(same(d, together, alone_a + FIRST_A * f.V, (A - FIRST_A) * f.V));
            assert_true(same(d, together + (A - FIRST_A) * f.V, alone_b, B * f.V));
            assert_true(same(d, together + (N - 1) * f.V, alone_c + FIRST_C * f.V, f.V));

            /* The same with few rows wanted, and with none: the cache is then as good. */
            rows[0] = 3, rows[1] = 20, rows[2] = N - 1;
            batch.n_rows = 3;
            assert_ok(mlxr_run(f.executable, f.state, &batch, NULL, some, &err), &err);
            for (size_t k = 0; k < 3; k++)
                assert_true(same(d, some + k * f.V, together + rows[k] * f.V, f.V));
            batch.n_rows = 0;
            assert_ok(mlxr_run(f.executable, f.state, &batch, NULL, NULL, &err), &err);
            step(&f, b + B, 1, B, &tables[1], some);
            assert_true(same(d, some, alone_b + B * f.V, f.V));

            free(alone_a);
            free(alone_b);
            free(alone_c);
            free(together);
            free(some);
            close_fixture(&f);
        }
    }
}

/* Only the wanted rows are written. */
static void writes_only_wanted_rows(void **state)
{
    (void)state;
    for (size_t d = 0; d < n_devices; d++) {
        fixture f;
        mlxr_block_table table = TABLE(some_blocks);
        int32_t ids[] = {1, 2, 3, 4};
        uint32_t positions[] = {0, 1, 2, 3}, seqs[] = {0, 0, 0, 0}, rows[] = {1, 3};
        mlxr_batch batch = {4, ids, positions, seqs, &table, 1, rows, 2};
        float *logits;
        mlxr_error err;

        open_fixture(&f, d, "q4_g32");
        logits = new_logits(&f, 3);
        assert_ok(mlxr_run(f.executable, f.state, &batch, NULL, logits, &err), &err);
        for (size_t i = 0; i < 2 * f.V; i++) assert_true(isfinite(logits[i]));
        for (size_t i = 2 * f.V; i < 3 * f.V; i++) assert_true(isnan(logits[i]));
        free(logits);
        close_fixture(&f);
    }
}

/* A header may leave the data at any address: the same file, moved by one byte at a time. */
static void alignment_changes_no_bit(void **state)
{
    static const char *const some_models[] = {"f32",    "f16_bias", "q3_g64", "q4_g32",
                                              "q5_g32", "q6_g64",   "q8_g32"};
    (void)state;
    for (size_t d = 0; d < n_devices; d++) {
        for (size_t i = 0; i < MLXR_COUNT(some_models); i++) {
            char *file = path_of(some_models[i], "model.safetensors"),
                 *config = path_of(some_models[i], "config.json");
            mlxr_block_table table = TABLE(some_blocks);
            int32_t ids[] = {1, 22, 33, 44, 5};
            float *first = NULL;
            mlxr_map map = {0};
            mlxr_error err;

            assert_ok(mlxr_map_open(&map, file, &err), &err);
            for (size_t shift = 0; shift < 4; shift++) {
                uint8_t *bytes = malloc(map.n_bytes + 8 + shift);
                fixture f = {0};
                mlxr_checkpoint *checkpoint;
                json_t *root;
                float *logits;

                assert_non_null(bytes);
                memcpy(bytes + shift, map.data, map.n_bytes);
                assert_ok(mlxr_json_read(&root, config, 1 << 20, &err), &err);
                assert_ok(mlxr_checkpoint_open_bytes(&checkpoint, bytes + shift, map.n_bytes, "moved", &err),
                          &err);
                assert_ok(mlxr_model_open_parts(&f.model, root, checkpoint, config, &err), &err);
                open_device(&f, d);
                logits = new_logits(&f, MLXR_COUNT(ids));
                step(&f, ids, MLXR_COUNT(ids), 0, &table, logits);
                if (shift == 0) {
                    first = logits;
                } else {
                    assert_true(same(d, first, logits, MLXR_COUNT(ids) * f.V));
                    free(logits);
                }
                close_fixture(&f);
                free(bytes);
            }
            free(first);
            mlxr_map_close(&map);
            free(file);
            free(config);
        }
    }
}

/* A cancelled step fails as such, and the executable and state serve the next one. */
static void cancelling_leaves_the_device_usable(void **state)
{
    (void)state;
    for (size_t d = 0; d < n_devices; d++) {
        fixture f;
        mlxr_block_table table = TABLE(some_blocks);
        int32_t ids[] = {1, 2, 3};
        uint32_t positions[] = {0, 1, 2}, seqs[] = {0, 0, 0}, rows[] = {2};
        mlxr_batch batch = {3, ids, positions, seqs, &table, 1, rows, 1};
        volatile int cancel = 1;
        float *before, *after;
        mlxr_error err;

        open_fixture(&f, d, "q4_g32");
        before = new_logits(&f, 1);
        after = new_logits(&f, 1);
        assert_ok(mlxr_run(f.executable, f.state, &batch, NULL, before, &err), &err);
        assert_int_equal(mlxr_run(f.executable, f.state, &batch, &cancel, after, &err), MLXR_E_CANCELLED);
        assert_int_equal(err.code, MLXR_E_CANCELLED);
        cancel = 0;
        assert_ok(mlxr_run(f.executable, f.state, &batch, &cancel, after, &err), &err);
        assert_true(same(d, before, after, f.V));
        free(before);
        free(after);
        close_fixture(&f);
    }
}

/* A batch that wants ids alone gets those of the logits it would have got. */
static void likeliest_ids_are_those_of_the_logits(void **state)
{
    static const char *const some[] = {"q4_g32", "gemma2_q4", "f32"};

    (void)state;
    for (size_t d = 0; d < n_devices; d++) {
        for (size_t m = 0; m < MLXR_COUNT(some); m++) {
            enum { N = 5 };
            static const int32_t ids[N] = {3, 1, 4, 1, 5};
            static const uint32_t positions[N] = {0, 1, 2, 3, 4}, seqs[N] = {0}, rows[] = {1, 4};
            mlxr_block_table table = TABLE(some_blocks);
            mlxr_batch batch = {.n_tokens = N,
                                .ids = ids,
                                .positions = positions,
                                .seqs = seqs,
                                .tables = &table,
                                .n_seqs = 1,
                                .rows = rows,
                                .n_rows = 2};
            int32_t likeliest[2], rows_best[2];
            float *logits;
            mlxr_error err;
            fixture f;

            open_fixture(&f, d, some[m]);
            logits = new_logits(&f, 2);
            assert_ok(mlxr_run(f.executable, f.state, &batch, NULL, logits, &err), &err);
            for (size_t i = 0; i < 2; i++) {
                size_t best = 0;
                for (size_t k = 1; k < f.V; k++)
                    if (logits[i * f.V + k] > logits[i * f.V + best]) best = k;
                rows_best[i] = (int32_t)best;
            }
            batch.likeliest = likeliest;
            assert_ok(mlxr_run(f.executable, f.state, &batch, NULL, logits, &err), &err);
            assert_memory_equal(likeliest, rows_best, sizeof likeliest);
            free(logits);
            close_fixture(&f);
        }
    }
}

/* Bytes the process has from malloc; 0 where that is not told (a sanitizer's own malloc, other systems). */
static size_t bytes_in_use(void)
{
#ifdef __GLIBC__
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
#else
    return 0;
#endif
}

/* A model with experts and states, opened, compiled, run and closed fifty times over. */
static void loading_fifty_times_leaks_nothing(void **state)
{
    static const char *const some[] = {"q4_g32", "qwen3_5_moe_q4"};

    (void)state;
    for (size_t d = 0; d < n_devices; d++) {
        size_t before = 0;
        for (size_t i = 0; i < 51; i++) {
            for (size_t m = 0; m < MLXR_COUNT(some); m++) {
                fixture f;
                mlxr_block_table table = TABLE(some_blocks);
                static const int32_t ids[] = {1, 2, 3};
                float *logits;
                open_fixture(&f, d, some[m]);
                logits = new_logits(&f, 3);
                step(&f, ids, 3, 0, &table, logits);
                free(logits);
                close_fixture(&f);
            }
            if (i == 0) before = bytes_in_use(); /* what is made once and kept is there now */
        }
        /* malloc counts what it keeps at hand for threads; single bytes are LeakSanitizer's business. */
        if (bytes_in_use() > before + 65536)
            fail_msg("%s: %zu bytes in use after one time, %zu after fifty more", devices[d].name, before,
                     bytes_in_use());
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void find_models(int argc, char **argv)
{
    char *dir = path_of("", "");
    DIR *d = opendir(dir);
    const struct dirent *entry;

    for (int i = 1; i < argc && n_models < MLXR_COUNT(models); i++) models[n_models++] = strdup(argv[i]);
    assert_non_null(d);
    while (argc == 1 && (entry = readdir(d)) && n_models < MLXR_COUNT(models)) {
        if (entry->d_name[0] != '.' && !strchr(entry->d_name, '.'))
            models[n_models++] = strdup(entry->d_name);
    }
    closedir(d);
    free(dir);
    qsort(models, n_models, sizeof *models, by_name);
    assert_true(n_models > 0);
}

/* usage: test_reference [--device NAME] [MODEL...] */
static void keep_half(size_t first)
{
    size_t n = 0;

    for (size_t i = 0; i < n_models; i++) {
        if (i % 2 == first)
            models[n++] = models[i];
        else
            free(models[i]);
    }
    n_models = n;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_equal_the_reference),
        cmocka_unit_test(greedy_ids_equal_the_reference),
        cmocka_unit_test(chunks_change_no_bit),
        cmocka_unit_test(company_changes_no_bit),
        cmocka_unit_test(writes_only_wanted_rows),
        cmocka_unit_test(alignment_changes_no_bit),
        cmocka_unit_test(cancelling_leaves_the_device_usable),
        cmocka_unit_test(likeliest_ids_are_those_of_the_logits),
        cmocka_unit_test(loading_fifty_times_leaks_nothing),
    };
    const char *only = NULL, *half = NULL; /* half: "1" or "2", every other model */
    int rc;

    for (; argc > 2 && argv[1][0] == '-'; argc -= 2, argv += 2) {
        if (strcmp(argv[1], "--device") == 0) only = argv[2];
        if (strcmp(argv[1], "--half") == 0) half = argv[2];
    }
    for (size_t i = 0; i < MLXR_COUNT(all_devices); i++) {
        mlxr_device_options options = {.n_threads = 1, .isa = all_devices[i].isa};
        mlxr_device *d;
        mlxr_error err;
        if (only && strcmp(only, all_devices[i].name) != 0) continue;
        if (mlxr_device_open(&d, all_devices[i].name, &options, &err) == MLXR_OK) {
            devices[n_devices++] = all_devices[i];
            mlxr_device_close(d);
        } else {
            printf("SKIP: %s %s: %s\n", all_devices[i].name, all_devices[i].isa ? all_devices[i].isa : "",
                   err.message);
        }
    }
    find_models(argc, argv);
    if (half) keep_half(*half == '2');
    printf("%zu models, %zu devices\n", n_models, n_devices);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    for (size_t i = 0; i < n_models; i++) free(models[i]);
    return rc;
}
