/* The mlx device beyond its numbers (test_reference.c has those): what is computed ahead, memory, limits, failures,
 * cancelling, and a module that is not there. On MLX's CPU; without the module what needs it is skipped. */
#include <math.h>
#include <pthread.h>
#include <unistd.h>

#include "device/device.h"
#include "model/model.h"
#include "test.h"

static mlxr_error err;
static bool have_mlx;

#define NEEDS_MLX()      \
    do {                 \
        (void)state;     \
        if (!have_mlx) { \
            skip();      \
        }                \
    } while (0)

enum { N_BLOCKS = 256, N_SEQUENCES = 4 };

typedef struct fixture {
    mlxr_model *model;
    mlxr_device *device;
    mlxr_executable *executable;
    mlxr_state *state;
    size_t V;
} fixture;

static mlxr_model *open_model(const char *name)
{
    char *dir = mlxr_asprintf("%s/tests/model/models/%s", MLXR_SOURCE_DIR, name);
    mlxr_model *m;

    assert_non_null(dir);
    assert_ok(mlxr_model_open(&m, dir, &err), &err);
    free(dir);
    return m;
}

static void open_fixture(fixture *f, const char *name, const mlxr_device_options *options)
{
    *f = (fixture){.model = open_model(name)};
    assert_ok(mlxr_device_open(&f->device, "mlx:cpu", options, &err), &err);
    assert_ok(mlxr_device_compile(&f->executable, f->device, mlxr_model_program(f->model), &err), &err);
    assert_ok(mlxr_state_create(&f->state, f->executable, N_BLOCKS, N_SEQUENCES, &err), &err);
    f->V = mlxr_model_program(f->model)->vocab_size;
}

static void close_fixture(fixture *f)
{
    mlxr_state_free(f->state);
    mlxr_executable_free(f->executable);
    mlxr_device_close(f->device);
    mlxr_model_close(f->model);
}

/* ---- steps ---- */

/* Tokens of one sequence in a step, n of them from `position` on. */
typedef struct part {
    uint32_t sequence;
    size_t position, n;
    const int32_t *ids;
} part;

/* The logits of every part's last token, [n_parts, V]. */
static mlxr_status run_parts(fixture *f, const part *parts, size_t n_parts, const volatile int *cancel,
                             float *logits)
{
    static uint32_t blocks[N_BLOCKS];
    mlxr_block_table tables[N_SEQUENCES];
    uint32_t rows[N_SEQUENCES], *positions, *seqs;
    int32_t *ids;
    size_t n = 0, at = 0;
    mlxr_status st;

    for (size_t i = 0; i < n_parts; i++) n += parts[i].n;
    ids = malloc(n * sizeof *ids);
    positions = malloc(n * sizeof *positions);
    seqs = malloc(n * sizeof *seqs);
    assert_true(ids && positions && seqs);
    for (size_t i = 0; i < N_BLOCKS; i++) blocks[i] = (uint32_t)i;
    for (size_t i = 0; i < n_parts; i++) {
        tables[i] = (mlxr_block_table){blocks, N_BLOCKS, parts[i].sequence};
        for (size_t k = 0; k < parts[i].n; k++, at++) {
            ids[at] = parts[i].ids[k];
            positions[at] = (uint32_t)(parts[i].position + k);
            seqs[at] = (uint32_t)i;
        }
        rows[i] = (uint32_t)at - 1;
    }
    st = mlxr_run(f->executable, f->state,
                  &(mlxr_batch){.n_tokens = n,
                                .ids = ids,
                                .positions = positions,
                                .seqs = seqs,
                                .tables = tables,
                                .n_seqs = n_parts,
                                .rows = rows,
                                .n_rows = n_parts},
                  cancel, logits, &err);
    free(ids);
    free(positions);
    free(seqs);
    return st;
}

static int32_t argmax(const float *x, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return (int32_t)best;
}

/* ---- ahead ---- */

/* Two sequences decode together, now greedily and now not, one of them goes back a token, is joined by a third's
 * prompt, or begins anew: with and without computing ahead every logit is the same. */
static void walk(fixture *f, float *out, size_t n_steps)
{
    static const int32_t prompt[] = {5, 17, 3, 44, 9, 28, 31};
    float *logits = malloc(3 * f->V * sizeof *logits);
    int32_t next[2], fresh[2];
    size_t position[2] = {MLXR_COUNT(prompt), 4};
    part parts[3] = {{0, 0, MLXR_COUNT(prompt), prompt}, {1, 0, 4, prompt + 2}};

    assert_non_null(logits);
    assert_ok(run_parts(f, parts, 2, NULL, logits), &err);
    for (size_t s = 0; s < n_steps; s++) {
        size_t n_parts = 2;
        for (size_t i = 0; i < 2; i++) next[i] = argmax(logits + i * f->V, f->V);
        if (s % 11 == 6) next[1] = (int32_t)((next[1] + 7) % (int32_t)f->V);
        if (s % 13 == 9) { /* the first is run again where it was */
            position[0]--;
            next[0] = (int32_t)(s % f->V);
        }
        if (s % 17 == 12) {
            position[1] = 0;
            next[1] = 21;
        }
        for (size_t i = 0; i < 2; i++) {
            fresh[i] = next[i];
            parts[i] = (part){(uint32_t)i, position[i]++, 1, &fresh[i]};
        }
        if (s % 19 == 14) parts[n_parts++] = (part){2, 0, MLXR_COUNT(prompt), prompt};
        assert_ok(run_parts(f, parts, n_parts, NULL, logits), &err);
        memcpy(out + s * 2 * f->V, logits, 2 * f->V * sizeof *out);
    }
    free(logits);
}

static void ahead_changes_no_logit_of(const char *name)
{
    enum { STEPS = 60 };
    float *logits[2];
    size_t n = 0;

    for (int on = 0; on < 2; on++) {
        mlxr_device_options options = {.precision = MLXR_PRECISION_EXACT,
                                       .ahead = on ? MLXR_AHEAD_ON : MLXR_AHEAD_OFF};
        fixture f;
        open_fixture(&f, name, &options);
        n = STEPS * 2 * f.V;
        logits[on] = malloc(n * sizeof(float));
        assert_non_null(logits[on]);
        walk(&f, logits[on], STEPS);
        close_fixture(&f);
    }
    for (size_t i = 0; i < n; i++)
        if (logits[0][i] != logits[1][i])
            fail_msg("%s: step %zu differs: %g, ahead %g", name, i / (n / STEPS), (double)logits[0][i],
                     (double)logits[1][i]);
    free(logits[0]);
    free(logits[1]);
}

static void ahead_changes_no_logit(void **state)
{
    static const char *const names[] = {"q4_g32", "bf16_sliding", "mixtral_q4", "lfm2_q4", "qwen3_5_q4"};

    NEEDS_MLX();
    for (size_t i = 0; i < MLXR_COUNT(names); i++) {
        char *config = mlxr_asprintf("%s/tests/model/models/%s/config.json", MLXR_SOURCE_DIR, names[i]);
        assert_non_null(config);
        if (access(config, R_OK) == 0) ahead_changes_no_logit_of(names[i]);
        free(config);
    }
}

/* ---- memory ---- */

static size_t resident_bytes(void)
{
    unsigned long size = 0, resident = 0;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return 0; /* what is freed stays with the sanitizer */
#endif
#ifdef __linux__
    FILE *f = fopen("/proc/self/statm", "r");
    if (f) {
        if (fscanf(f, "%lu %lu", &size, &resident) != 2) resident = 0;
        fclose(f);
    }
#endif
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static void loading_fifty_times_leaks_nothing(void **state)
{
    static const int32_t ids[] = {1, 2, 3, 4, 5};
    size_t active_before, active_after, cached, resident = 0;

    NEEDS_MLX();
    assert_true(mlxr_device_mlx_memory(&active_before, &cached, NULL));
    for (size_t i = 0; i < 50; i++) {
        mlxr_device_options options = {.ahead = MLXR_AHEAD_ON};
        fixture f;
        part p = {0, 0, MLXR_COUNT(ids), ids};
        float *logits;
        open_fixture(&f, "q4_g32", &options);
        logits = malloc(f.V * sizeof *logits);
        assert_non_null(logits);
        assert_ok(run_parts(&f, &p, 1, NULL, logits), &err);
        p = (part){0, MLXR_COUNT(ids), 1, ids};
        assert_ok(run_parts(&f, &p, 1, NULL, logits), &err);
        free(logits);
        close_fixture(&f);
        if (i == 9) resident = resident_bytes(); /* by then all that is made once is there */
    }
    assert_true(mlxr_device_mlx_memory(&active_after, &cached, NULL));
    assert_int_equal(active_after, active_before);
    assert_int_equal(cached, 0);
    if (resident_bytes() > resident + (4u << 20))
        fail_msg("%zu bytes resident after 10 times, %zu after 50", resident, resident_bytes());
}

static void a_memory_limit_is_kept(void **state)
{
    static const int32_t ids[300] = {1, 2, 3};
    size_t active, cached;
    mlxr_device_options options = {0};
    part p = {0, 0, 1, ids};
    float *logits, *again;
    fixture f;

    NEEDS_MLX();
    f.model = open_model("q4_g32");
    assert_true(mlxr_device_mlx_memory(&active, &cached, NULL));
    options.memory_limit_bytes = active + 1000;
    assert_ok(mlxr_device_open(&f.device, "mlx:cpu", &options, &err), &err);
    assert_fails(mlxr_device_compile(&f.executable, f.device, mlxr_model_program(f.model), &err),
                 MLXR_E_NOMEM, "the limit is", &err);
    assert_null(f.executable);
    mlxr_device_close(f.device);
    mlxr_model_close(f.model);

    /* Weights and 256 positions fit, 512 do not: the step fails, those before it are there still. */
    open_fixture(&f, "q4_g32", NULL);
    logits = malloc(2 * f.V * sizeof *logits);
    assert_non_null(logits);
    again = logits + f.V;
    assert_ok(run_parts(&f, &p, 1, NULL, logits), &err);
    assert_true(mlxr_device_mlx_memory(&active, &cached, NULL));
    close_fixture(&f);
    options.memory_limit_bytes = active + 2000;
    open_fixture(&f, "q4_g32", &options);
    assert_ok(run_parts(&f, &p, 1, NULL, logits), &err);
    p = (part){0, 1, 300, ids};
    assert_fails(run_parts(&f, &p, 1, NULL, again), MLXR_E_NOMEM, "keys and values", &err);
    p = (part){0, 1, 1, ids + 1};
    assert_ok(run_parts(&f, &p, 1, NULL, logits), &err);
    close_fixture(&f);
    open_fixture(&f, "q4_g32", NULL);
    p = (part){0, 0, 2, ids};
    assert_ok(run_parts(&f, &p, 1, NULL, again), &err);
    for (size_t i = 0; i < f.V; i++) assert_true(fabsf(logits[i] - again[i]) < 1e-4f);
    close_fixture(&f);
    free(logits);
}

/* ---- failures ---- */

/* What MLX throws is a status with its text, and the process goes on. */
static void what_mlx_throws_is_a_status(void **state)
{
    static const int32_t ids[] = {1, 2, 3};
    part p = {0, 0, MLXR_COUNT(ids), ids};
    float *before, *after;
    mlxr_program *program;
    mlxr_executable *odd;
    mlxr_state *odd_state, *kept;
    size_t n_rot = 0;
    fixture f;

    NEEDS_MLX();
    open_fixture(&f, "q4_g32", NULL);
    before = malloc(2 * f.V * sizeof *before);
    assert_non_null(before);
    after = before + f.V;
    assert_ok(run_parts(&f, &p, 1, NULL, before), &err);
    /* A rotation that MLX does not have: of an odd number of values. */
    program = (mlxr_program *)(uintptr_t)mlxr_model_program(f.model);
    for (size_t i = 0; i < program->n_ops; i++)
        if (program->ops[i].kind == MLXR_OP_ROPE) {
            n_rot = program->ops[i].u.rope.n_rot;
            program->ops[i].u.rope.n_rot = 3;
        }
    assert_ok(mlxr_device_compile(&odd, f.device, program, &err), &err);
    assert_ok(mlxr_state_create(&odd_state, odd, N_BLOCKS, N_SEQUENCES, &err), &err);
    kept = f.state;
    f.state = odd_state;
    {
        mlxr_executable *good = f.executable;
        f.executable = odd;
        for (int i = 0; i < 2; i++) {
            assert_fails(run_parts(&f, &p, 1, NULL, after), MLXR_E_DEVICE,
                         "device mlx: [rope] dims must be even", &err);
            assert_null(strchr(err.message, '\n'));
        }
        f.executable = good;
    }
    f.state = kept;
    mlxr_state_free(odd_state);
    mlxr_executable_free(odd);
    for (size_t i = 0; i < program->n_ops; i++)
        if (program->ops[i].kind == MLXR_OP_ROPE) program->ops[i].u.rope.n_rot = n_rot;
    assert_ok(run_parts(&f, &p, 1, NULL, after), &err);
    assert_memory_equal(before, after, f.V * sizeof *before);
    close_fixture(&f);
    free(before);
}

/* A step that goes on where nothing is cached is refused, and says so. */
static void a_gap_is_refused(void **state)
{
    static const int32_t ids[] = {1, 2, 3};
    part p = {1, 7, 1, ids};
    float *logits;
    fixture f;

    NEEDS_MLX();
    open_fixture(&f, "q4_g32", NULL);
    logits = malloc(f.V * sizeof *logits);
    assert_non_null(logits);
    assert_fails(run_parts(&f, &p, 1, NULL, logits), MLXR_E_DEVICE, "position 7, but 0 are cached", &err);
    p = (part){1, 0, 3, ids};
    assert_ok(run_parts(&f, &p, 1, NULL, logits), &err);
    free(logits);
    close_fixture(&f);
}

static volatile int cancel_flag;

static void *cancel_soon(void *arg)
{
    usleep(*(const unsigned *)arg);
    __atomic_store_n(&cancel_flag, 1, __ATOMIC_RELAXED);
    return NULL;
}

/* A long prompt is cancelled between its pieces, not at its end. */
static void a_long_prompt_is_cancelled(void **state)
{
    enum { N = 8000 };
    static int32_t ids[N];
    unsigned delay = 50 * 1000;
    part p = {0, 0, N, ids};
    uint64_t start;
    pthread_t thread;
    float *logits;
    fixture f;

    NEEDS_MLX();
    for (size_t i = 0; i < N; i++) ids[i] = (int32_t)(i % 50);
    open_fixture(&f, "q4_g32", NULL);
    logits = malloc(f.V * sizeof *logits);
    assert_non_null(logits);
    cancel_flag = 0;
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, &delay), 0);
    start = mlxr_now_ns();
    assert_int_equal(run_parts(&f, &p, 1, &cancel_flag, logits), MLXR_E_CANCELLED);
    print_message("cancelled after %.2f s\n", (double)(mlxr_now_ns() - start) / 1e9);
    pthread_join(thread, NULL);
    p.n = 40;
    assert_ok(run_parts(&f, &p, 1, NULL, logits), &err);
    free(logits);
    close_fixture(&f);
}

/* ---- the module ---- */

static void a_module_that_is_not_there_is_told(void **state)
{
    mlxr_device_options options = {.mlx_library = "/nonexistent/libmlxr_mlx.so"};
    mlxr_device *d;
    char text[1024];
    size_t active, cached;

    (void)state;
    assert_fails(mlxr_device_open(&d, "mlx", &options, &err), MLXR_E_DEVICE, "/nonexistent/libmlxr_mlx.so",
                 &err);
    assert_null(d);
    assert_non_null(strstr(err.message, "scripts/setup.sh mlx"));
    assert_null(strchr(err.message, '\n'));
    assert_false(mlxr_device_probe_mlx(text, sizeof text, options.mlx_library));
    assert_non_null(strstr(text, "/nonexistent/"));
    assert_false(mlxr_device_mlx_memory(&active, &cached, options.mlx_library));
#ifdef __linux__
    options.mlx_library = "libc.so.6";
    assert_fails(mlxr_device_open(&d, "mlx:cpu", &options, &err), MLXR_E_DEVICE,
                 "is not the module of this build", &err);
#endif
}

static void names_are_checked(void **state)
{
    static const char *const unknown[] = {"mlxx", "cpu:0", "ref:", "", ":", "mlx2:cpu"};
    mlxr_device *d;
    char text[1024];

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(unknown); i++)
        assert_fails(mlxr_device_open(&d, unknown[i], NULL, &err), MLXR_E_DEVICE, "is not known", &err);
    if (!have_mlx) return;
    assert_fails(mlxr_device_open(&d, "mlx:tpu", NULL, &err), MLXR_E_DEVICE, "mlx:gpu, mlx:cpu", &err);
    assert_ok(mlxr_device_open(&d, "mlx", NULL, &err), &err);
    print_message("%s\n", mlxr_device_description(d));
    mlxr_device_close(d);
    assert_true(mlxr_device_probe_mlx(text, sizeof text, NULL));
    print_message("%s\n", text);
    assert_non_null(strstr(text, "MLX "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_checked),           cmocka_unit_test(a_module_that_is_not_there_is_told),
        cmocka_unit_test(ahead_changes_no_logit),      cmocka_unit_test(a_memory_limit_is_kept),
        cmocka_unit_test(what_mlx_throws_is_a_status), cmocka_unit_test(a_gap_is_refused),
        cmocka_unit_test(a_long_prompt_is_cancelled),  cmocka_unit_test(loading_fifty_times_leaks_nothing),
    };
    char text[1024];

    have_mlx = mlxr_device_probe_mlx(text, sizeof text, NULL);
    if (!have_mlx) printf("SKIP: what needs MLX: %s\n", text);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
