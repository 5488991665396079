/* mlxctl bench MODEL [-p N] [-n N] [-t THREADS] [-b BATCH] [-d CONTEXT] [-r REPEATS] [--device NAME]
 *              [--precision exact|fast] [--json] [--profile]
 *
 * How fast a model runs here, below tokenizer and engine: prefill of one prompt, then decode steps of `batch` sequences
 * that already hold `context` tokens each; medians of the repeats. Ids are fixed pseudo-random ones, so that every run
 * does the same work. Beside it stands the bound: the bytes a token must at least read (weights once a step, shared by
 * the batch; its own sequence's keys and values), and the rate at which this machine reads memory, probed between
 * the repeats. The time to the first token is that of another process, from its start to the first byte it writes. */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bandwidth.h"
#include "base/json.h"
#include "device/device.h"
#include "mlxctl.h"
#include "model/cost.h"
#include "model/model.h"

/* CHUNK: tokens a step while the context is filled. */
enum { CHUNK = 512, MAX_REPEATS = 1000, MAX_BATCH = 1024, PROBE_RUNS = 4, FIRST_TOKEN_RUNS = 3 };
#define FIRST_TOKEN_PROMPT "What is the capital of France?"

typedef struct series {
    double *v; /* [cap] */
    size_t n;
} series;

/* Where the time of the counted repeats went, with --profile. */
typedef struct phase {
    mlxr_profile_row *rows; /* [n_rows] */
    size_t n_rows;
    uint64_t ns; /* of the whole phase */
} phase;

typedef struct bench {
    size_t n_prompt, n_tokens, n_batch, n_context, n_repeats;
    const char *dir, *device_name, *precision, *kv; /* kv NULL: the device's own */
    mlxr_model *model;
    mlxr_device *device;
    mlxr_executable *executable;
    mlxr_state *state;
    mlxr_pool *pool; /* the probe's; the device's own is asleep meanwhile */
    uint32_t *blocks;
    mlxr_block_table *tables; /* [n_batch] */
    size_t n_step;            /* tokens that the arrays below have room for */
    int32_t *ids;
    uint32_t *positions, *seqs, *rows;
    float *logits; /* [n_batch, V] */
    volatile int cancel;

    series prefill, decode; /* tokens a second */
    phase prefill_phase, decode_phase;
    double load_ms, first_token_ms;
    double bandwidth; /* bytes a second, the best of all probes */
    double bytes_per_token;
    uint64_t peak_memory_bytes;
    bool first_token_is_of_child; /* else without tokenizer and exec */
} bench;

/* ---- numbers ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Sorts; 0 for none. */
static double median(const series *s)
{
    if (s->n == 0) return 0;
    qsort(s->v, s->n, sizeof *s->v, by_value);
    return s->n % 2 ? s->v[s->n / 2] : (s->v[s->n / 2 - 1] + s->v[s->n / 2]) / 2;
}

static double seconds_since(uint64_t start_ns)
{
    return (double)(mlxr_now_ns() - start_ns) / 1e9;
}

/* The most memory this process ever had. getrusage alone would count what its parent had before exec. */
static uint64_t peak_memory(void)
{
    struct rusage usage = {0};
    char line[128];
    unsigned long long kib;
    FILE *f = fopen("/proc/self/status", "r");

    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "VmHWM:", 6) == 0) {
            kib = strtoull(line + 6, NULL, 10);
            fclose(f);
            return (uint64_t)kib * 1024;
        }
    }
    if (f) fclose(f);
    getrusage(RUSAGE_SELF, &usage);
#ifdef __APPLE__
    return (uint64_t)usage.ru_maxrss;
#else
    return (uint64_t)usage.ru_maxrss * 1024;
#endif
}

/* What a token of the middle decode step reads. */
static double bytes_per_token(const bench *b)
{
    const mlxr_program *p = mlxr_model_program(b->model);
    double kv_numbers = mlxr_program_kv_numbers(p);
    mlxr_cost_batch batch = {.n_tokens = b->n_batch, .positions = b->positions, .seqs = b->seqs};
    mlxr_cost cost = {0};

    if (kv_numbers > 0)
        batch.kv_bytes = (double)mlxr_executable_block_bytes(b->executable) / (MLXR_KV_BLOCK * kv_numbers);
    for (size_t i = 0; i < b->n_batch; i++) {
        b->positions[i] = (uint32_t)(b->n_context + b->n_tokens / 2);
        b->seqs[i] = (uint32_t)i;
    }
    for (size_t i = 0; i < p->n_ops; i++) mlxr_op_cost(&cost, p, &p->ops[i], &batch);
    return (cost.weight_bytes + cost.state_bytes) / (double)b->n_batch;
}

/* ---- the model at work ---- */

static int32_t id_at(const bench *b, size_t seq, size_t position)
{
    uint32_t h = (uint32_t)position * 2654435761u + (uint32_t)seq * 40503u + 12345u;
    h ^= h >> 15;
    h *= 2246822519u;
    h ^= h >> 13;
    return (int32_t)(h % mlxr_model_program(b->model)->vocab_size);
}

static void put(bench *b, size_t t, size_t seq, size_t position)
{
    b->ids[t] = id_at(b, seq, position);
    b->positions[t] = (uint32_t)position;
    b->seqs[t] = (uint32_t)seq;
}

static mlxr_status run(bench *b, size_t n, size_t n_rows, mlxr_error *err)
{
    mlxr_batch batch = {.n_tokens = n,
                        .ids = b->ids,
                        .positions = b->positions,
                        .seqs = b->seqs,
                        .tables = b->tables,
                        .n_seqs = b->n_batch,
                        .rows = b->rows,
                        .n_rows = n_rows};
    for (size_t i = 0; i < n_rows; i++) b->rows[i] = (uint32_t)(n - n_rows + i);
    return mlxr_run(b->executable, b->state, &batch, &b->cancel, b->logits, err);
}

/* n tokens of one sequence from the start, the logits of the last one if wanted; `step` at a time. */
static mlxr_status prefill(bench *b, size_t seq, size_t n, size_t step, bool wanted, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;

    for (size_t at = 0; at < n && st == MLXR_OK; at += step) {
        size_t n_now = n - at < step ? n - at : step;
        for (size_t i = 0; i < n_now; i++) put(b, i, seq, at + i);
        st = run(b, n_now, wanted && at + n_now == n, err);
    }
    return st;
}

static mlxr_status decode(bench *b, size_t n_tokens, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;

    for (size_t i = 0; i < n_tokens && st == MLXR_OK; i++) {
        for (size_t s = 0; s < b->n_batch; s++) put(b, s, s, b->n_context + i);
        st = run(b, b->n_batch, b->n_batch, err);
    }
    return st;
}

static mlxr_status fill_contexts(bench *b, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;

    for (size_t s = 0; s < b->n_batch && st == MLXR_OK; s++)
        st = prefill(b, s, b->n_context, CHUNK, false, err);
    return st;
}

static mlxr_status check_sizes(const bench *b, mlxr_error *err)
{
    size_t context = mlxr_model_program(b->model)->context_length;

    if (b->n_prompt > context)
        return mlxr_fail(err, MLXR_E_CONTEXT_OVERFLOW,
                         "a prompt of %zu tokens (-p) does not fit the model's context of %zu", b->n_prompt,
                         context);
    if (b->n_tokens > context || b->n_context > context - b->n_tokens)
        return mlxr_fail(err, MLXR_E_CONTEXT_OVERFLOW,
                         "%zu tokens (-n) after %zu (-d) do not fit the model's context of %zu", b->n_tokens,
                         b->n_context, context);
    return MLXR_OK;
}

/* Sequence 0 also holds the prompt. */
static mlxr_status make_state(bench *b, mlxr_error *err)
{
    size_t each = (b->n_context + b->n_tokens + MLXR_KV_BLOCK - 1) / MLXR_KV_BLOCK, n_blocks;
    size_t of_prompt = (b->n_prompt + MLXR_KV_BLOCK - 1) / MLXR_KV_BLOCK;
    size_t first = of_prompt > each ? of_prompt : each;

    if (first == 0) first = 1;
    if (!mlxr_mul_size(&n_blocks, each, b->n_batch - 1) || !mlxr_add_size(&n_blocks, n_blocks, first) ||
        n_blocks > UINT32_MAX)
        return mlxr_fail(err, MLXR_E_LIMIT, "%zu sequences of %zu tokens are too many", b->n_batch,
                         b->n_context + b->n_tokens);
    b->blocks = mlxr_malloc_array(n_blocks, sizeof *b->blocks);
    b->tables = mlxr_calloc_array(b->n_batch, sizeof *b->tables);
    if (!b->blocks || !b->tables) return mlxr_fail_nomem(err, "bench");
    for (size_t i = 0; i < n_blocks; i++) b->blocks[i] = (uint32_t)i;
    for (size_t s = 0; s < b->n_batch; s++)
        b->tables[s] = (mlxr_block_table){.blocks = b->blocks + (s ? first + (s - 1) * each : 0),
                                          .n_blocks = s ? each : first,
                                          .sequence = (uint32_t)s};
    return mlxr_state_create(&b->state, b->executable, n_blocks, b->n_batch, err);
}

static mlxr_status make_arrays(bench *b, mlxr_error *err)
{
    size_t V = mlxr_model_program(b->model)->vocab_size, n_logits;

    b->n_step = b->n_prompt > CHUNK ? b->n_prompt : CHUNK;
    if (b->n_step < b->n_batch) b->n_step = b->n_batch;
    if (!mlxr_mul_size(&n_logits, V, b->n_batch)) return mlxr_fail_nomem(err, "bench");
    b->ids = mlxr_malloc_array(b->n_step, sizeof *b->ids);
    b->positions = mlxr_malloc_array(b->n_step, sizeof *b->positions);
    b->seqs = mlxr_malloc_array(b->n_step, sizeof *b->seqs);
    b->rows = mlxr_malloc_array(b->n_step, sizeof *b->rows);
    b->logits = mlxr_malloc_array(n_logits, sizeof *b->logits);
    b->prefill.v = mlxr_malloc_array(b->n_repeats, sizeof *b->prefill.v);
    b->decode.v = mlxr_malloc_array(b->n_repeats, sizeof *b->decode.v);
    return b->ids && b->positions && b->seqs && b->rows && b->logits && b->prefill.v && b->decode.v
               ? MLXR_OK
               : mlxr_fail_nomem(err, "bench");
}

static mlxr_status set_up(bench *b, const mlxr_device_options *options, mlxr_error *err)
{
    mlxr_status st;
    uint64_t start = mlxr_now_ns();

    if ((st = mlxr_model_open(&b->model, b->dir, err)) != MLXR_OK) return st;
    if ((st = check_sizes(b, err)) != MLXR_OK) return st;
    if ((st = mlxr_device_open(&b->device, b->device_name, options, err)) != MLXR_OK) return st;
    st = mlxr_device_compile(&b->executable, b->device, mlxr_model_program(b->model), err);
    if (st != MLXR_OK) return st;
    if ((st = make_state(b, err)) != MLXR_OK) return st;
    b->load_ms = seconds_since(start) * 1e3;
    if ((st = make_arrays(b, err)) != MLXR_OK) return st;
    b->bytes_per_token = bytes_per_token(b);
    return mlxr_pool_create(&b->pool, mlxr_device_n_threads(b->device), err);
}

static mlxr_status probe(bench *b, mlxr_error *err)
{
    double rate;
    mlxr_status st = mlxr_read_bandwidth(&rate, b->pool, 0, PROBE_RUNS, &b->cancel, err);

    if (rate > b->bandwidth) b->bandwidth = rate;
    return st;
}

/* Moves what the executable's profile holds to the phase it belongs to. */
static mlxr_status keep_profile(bench *b, phase *f, uint64_t ns, mlxr_error *err)
{
    size_t n;
    const mlxr_profile_row *rows = mlxr_executable_profile(b->executable, &n);

    if (n == 0) return MLXR_OK;
    if (!f->rows) {
        f->rows = mlxr_calloc_array(n, sizeof *f->rows);
        if (!f->rows) return mlxr_fail_nomem(err, "bench");
        f->n_rows = n;
        for (size_t i = 0; i < n; i++) memcpy(f->rows[i].name, rows[i].name, sizeof rows[i].name);
    }
    f->ns += ns;
    for (size_t i = 0; i < n; i++) {
        f->rows[i].n_calls += rows[i].n_calls;
        f->rows[i].ns += rows[i].ns;
        f->rows[i].bytes += rows[i].bytes;
        f->rows[i].flops += rows[i].flops;
    }
    mlxr_executable_profile_reset(b->executable);
    return MLXR_OK;
}

static mlxr_status measure_prefill(bench *b, bool counted, mlxr_error *err)
{
    uint64_t start, ns;
    mlxr_status st;

    mlxr_executable_profile_reset(b->executable);
    start = mlxr_now_ns();
    st = prefill(b, 0, b->n_prompt, b->n_prompt, true, err);
    ns = mlxr_now_ns() - start;
    if (st != MLXR_OK || !counted) return st;
    b->prefill.v[b->prefill.n++] = (double)b->n_prompt * 1e9 / (double)(ns ? ns : 1);
    return keep_profile(b, &b->prefill_phase, ns, err);
}

static mlxr_status measure_decode(bench *b, bool counted, mlxr_error *err)
{
    uint64_t start, ns;
    mlxr_status st;

    mlxr_executable_profile_reset(b->executable);
    start = mlxr_now_ns();
    st = decode(b, b->n_tokens, err);
    ns = mlxr_now_ns() - start;
    if (st != MLXR_OK || !counted) return st;
    b->decode.v[b->decode.n++] = (double)b->n_tokens * (double)b->n_batch * 1e9 / (double)(ns ? ns : 1);
    return keep_profile(b, &b->decode_phase, ns, err);
}

static mlxr_status repeat(bench *b, bool counted, bool refill, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;

    if (b->n_prompt) st = measure_prefill(b, counted, err);
    if (b->n_tokens && st == MLXR_OK && refill) st = fill_contexts(b, err);
    if (b->n_tokens && st == MLXR_OK) st = measure_decode(b, counted, err);
    return st;
}

static mlxr_status measure(bench *b, mlxr_error *err)
{
    /* Keys and values stay where the context was filled; a recurrent state has gone on and is made anew. */
    bool recurrent = mlxr_model_program(b->model)->n_sequence_floats > 0;
    mlxr_status st = repeat(b, false, true, err); /* the warm-up does all there is to do once */

    b->peak_memory_bytes = peak_memory();
    for (size_t r = 0; r < b->n_repeats && st == MLXR_OK; r++) {
        st = repeat(b, true, recurrent, err);
        if (st == MLXR_OK) st = probe(b, err);
    }
    return st;
}

/* ---- the first token, in a process of its own ---- */

extern char **environ;

/* Milliseconds from the start of `mlxctl run` to its first byte, below 0 when there is none. */
static double first_token_of_child(const bench *b, const char *program)
{
    char threads[32];
    const char *argv[] = {program,
                          "run",
                          "--model",
                          b->dir,
                          "--prompt",
                          FIRST_TOKEN_PROMPT,
                          "--raw",
                          "--max-tokens",
                          "1",
                          "--device",
                          b->device_name,
                          "--precision",
                          b->precision,
                          "--threads",
                          threads,
                          b->kv ? "--kv" : NULL,
                          b->kv,
                          NULL};
    posix_spawn_file_actions_t actions;
    int ends[2], status = 0;
    uint64_t start;
    double ms = -1;
    pid_t pid;
    char c;

    snprintf(threads, sizeof threads, "%zu", mlxr_device_n_threads(b->device));
    if (pipe(ends) != 0) return -1;
    if (posix_spawn_file_actions_init(&actions) != 0) {
        close(ends[0]);
        close(ends[1]);
        return -1;
    }
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", 0, 0);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", 1, 0);
    start = mlxr_now_ns();
    if (posix_spawn(&pid, program, &actions, NULL, (char *const *)(uintptr_t)argv, environ) == 0) {
        ssize_t n;
        close(ends[1]);
        ends[1] = -1;
        do n = read(ends[0], &c, 1);
        while (n < 0 && errno == EINTR && !b->cancel);
        if (n == 1) ms = seconds_since(start) * 1e3;
        if (n < 0) kill(pid, SIGTERM);
        while (n == 1 && read(ends[0], &c, 1) > 0) {
        }
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        }
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) ms = -1;
    }
    posix_spawn_file_actions_destroy(&actions);
    close(ends[0]);
    if (ends[1] >= 0) close(ends[1]);
    return ms;
}

/* The median of a few children; without one (no tokenizer in the folder, no /proc) what this process measured. */
static void measure_first_token(bench *b)
{
    char program[4096];
    double v[FIRST_TOKEN_RUNS];
    series s = {.v = v};
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);

    if (n <= 0) return;
    program[n] = '\0';
    for (int i = 0; i < FIRST_TOKEN_RUNS && !b->cancel; i++) {
        double ms = first_token_of_child(b, program);
        if (ms < 0) return;
        v[s.n++] = ms;
    }
    if (s.n == FIRST_TOKEN_RUNS) {
        b->first_token_ms = median(&s);
        b->first_token_is_of_child = true;
    }
}

/* ---- what is printed ---- */

static double share(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}

static double read_rate(const bench *b, double decode_rate)
{
    return decode_rate * b->bytes_per_token;
}

/* A range like "(1700.1 to 1750.2)" of sorted values. */
static void print_range(mlxr_buf *out, const series *s)
{
    if (s->n > 1) mlxr_buf_printf(out, "   (%.1f to %.1f)", s->v[0], s->v[s->n - 1]);
    mlxr_buf_char(out, '\n');
}

static void print_profile_row(mlxr_buf *out, const bench *b, const phase *f, const mlxr_profile_row *r)
{
    double s = (double)r->ns / 1e9, rate = s > 0 ? r->bytes / s : 0;

    mlxr_buf_printf(out, "  %-48s %8llu %10.2f %6.1f %% %8.2f %6.1f %% %9.1f\n", r->name,
                    (unsigned long long)r->n_calls, s * 1e3, 100 * share((double)r->ns, (double)f->ns),
                    rate / 1e9, 100 * share(rate, b->bandwidth), s > 0 ? r->flops / s / 1e9 : 0);
}

/* The rows of a phase, then what no row has: the calls' own work, and keeping the profile. */
static void print_profile(mlxr_buf *out, const bench *b, const char *title, const phase *f)
{
    mlxr_profile_row rest = {.name = "(between steps)"}, all = {.name = "all"};

    if (f->n_rows == 0) return;
    mlxr_buf_printf(out, "\n%s\n  %-48s %8s %10s %8s %8s %8s %9s\n", title, "step", "calls", "ms", "time",
                    "GB/s", "of bound", "GFLOP/s");
    for (size_t i = 0; i < f->n_rows; i++) {
        if (f->rows[i].n_calls == 0) continue;
        print_profile_row(out, b, f, &f->rows[i]);
        all.bytes += f->rows[i].bytes;
        all.flops += f->rows[i].flops;
        all.ns += f->rows[i].ns;
        all.n_calls += f->rows[i].n_calls;
    }
    rest.ns = f->ns > all.ns ? f->ns - all.ns : 0;
    print_profile_row(out, b, f, &rest);
    all.ns = f->ns;
    print_profile_row(out, b, f, &all);
}

static void print_text(mlxr_buf *out, bench *b)
{
    double prefill_rate = median(&b->prefill), decode_rate = median(&b->decode);
    uint64_t file = mlxr_checkpoint_bytes(mlxr_model_checkpoint(b->model));

    mlxr_buf_printf(out, "model         %s, %.1f MB\n", b->dir, (double)file / 1e6);
    mlxr_buf_printf(out, "device        %s, %s, keys and values %s\n", mlxr_device_description(b->device),
                    b->precision, mlxr_device_kv(b->device));
    mlxr_buf_printf(out, "load          %.1f ms\n", b->load_ms);
    mlxr_buf_printf(out, "first token   %.1f ms %s\n", b->first_token_ms,
                    b->first_token_is_of_child ? "from the start of a process"
                                               : "from the start, without tokenizer");
    if (b->n_prompt) {
        mlxr_buf_printf(out, "prefill       %.1f tokens/s, %zu tokens", prefill_rate, b->n_prompt);
        print_range(out, &b->prefill);
    }
    if (b->n_tokens) {
        mlxr_buf_printf(out, "decode        %.1f tokens/s, %zu tokens at %zu, batch of %zu", decode_rate,
                        b->n_tokens, b->n_context, b->n_batch);
        print_range(out, &b->decode);
        mlxr_buf_printf(out, "read          %.1f MB a token, %.1f of %.1f GB/s, %.1f %%\n",
                        b->bytes_per_token / 1e6, read_rate(b, decode_rate) / 1e9, b->bandwidth / 1e9,
                        100 * share(read_rate(b, decode_rate), b->bandwidth));
    } else {
        mlxr_buf_printf(out, "bandwidth     %.1f GB/s\n", b->bandwidth / 1e9);
    }
    mlxr_buf_printf(out, "peak memory   %.1f MB\n", (double)b->peak_memory_bytes / 1e6);
    print_profile(out, b, "prefill", &b->prefill_phase);
    print_profile(out, b, "decode", &b->decode_phase);
}

static void print_json_profile(mlxr_buf *out, const bench *b, const char *key, const phase *f)
{
    bool first = true;

    mlxr_buf_printf(out, "\"%s\":[", key);
    for (size_t i = 0; i < f->n_rows; i++) {
        const mlxr_profile_row *r = &f->rows[i];
        double s = (double)r->ns / 1e9, rate = s > 0 ? r->bytes / s : 0;
        if (r->n_calls == 0) continue;
        mlxr_buf_str(out, first ? "{\"step\":" : ",{\"step\":");
        first = false;
        mlxr_json_escape(out, r->name, mlxr_utf8_valid(r->name, strlen(r->name)));
        mlxr_buf_printf(out,
                        ",\"calls\":%llu,\"ms\":%.3f,\"share\":%.4f,\"gb_s\":%.3f,\"bandwidth_share\":%.4f,"
                        "\"gflop_s\":%.3f}",
                        (unsigned long long)r->n_calls, s * 1e3, share((double)r->ns, (double)f->ns),
                        rate / 1e9, share(rate, b->bandwidth), s > 0 ? r->flops / s / 1e9 : 0);
    }
    mlxr_buf_char(out, ']');
}

static void print_json(mlxr_buf *out, bench *b)
{
    double prefill_rate = median(&b->prefill), decode_rate = median(&b->decode);
    const char *isa = mlxr_device_isa(b->device);

    mlxr_buf_printf(out, "{\"prefill_tokens_per_second\":%.3f,\"decode_tokens_per_second\":%.3f,",
                    prefill_rate, decode_rate);
    mlxr_buf_printf(out, "\"bytes_per_token\":%.0f,\"bandwidth_gb_s\":%.3f,\"peak_bandwidth_gb_s\":%.3f,",
                    b->bytes_per_token, read_rate(b, decode_rate) / 1e9, b->bandwidth / 1e9);
    mlxr_buf_printf(out, "\"bandwidth_share\":%.4f,", share(read_rate(b, decode_rate), b->bandwidth));
    mlxr_buf_printf(out, "\"load_ms\":%.3f,\"first_token_ms\":%.3f,\"peak_memory_bytes\":%llu,", b->load_ms,
                    b->first_token_ms, (unsigned long long)b->peak_memory_bytes);
    mlxr_buf_printf(out, "\"file_bytes\":%llu,\"threads\":%zu,\"batch\":%zu,\"context\":%zu,",
                    (unsigned long long)mlxr_checkpoint_bytes(mlxr_model_checkpoint(b->model)),
                    mlxr_device_n_threads(b->device), b->n_batch, b->n_context);
    mlxr_buf_printf(out, "\"prompt\":%zu,\"tokens\":%zu,\"repeats\":%zu,\"precision\":\"%s\",", b->n_prompt,
                    b->n_tokens, b->n_repeats, b->precision);
    mlxr_buf_printf(out, "\"kv\":\"%s\",\"kv_block_bytes\":%zu,", mlxr_device_kv(b->device),
                    mlxr_executable_block_bytes(b->executable));
    mlxr_buf_str(out, "\"isa\":");
    mlxr_json_escape(out, isa, strlen(isa));
    mlxr_buf_str(out, ",\"device\":");
    mlxr_json_escape(out, b->device_name, mlxr_utf8_valid(b->device_name, strlen(b->device_name)));
    mlxr_buf_str(out, ",\"model\":");
    mlxr_json_escape(out, b->dir, mlxr_utf8_valid(b->dir, strlen(b->dir)));
    if (b->prefill_phase.n_rows || b->decode_phase.n_rows) {
        mlxr_buf_str(out, ",\"profile\":{");
        print_json_profile(out, b, "prefill", &b->prefill_phase);
        mlxr_buf_char(out, ',');
        print_json_profile(out, b, "decode", &b->decode_phase);
        mlxr_buf_char(out, '}');
    }
    mlxr_buf_str(out, "}\n");
}

/* ---- the command ---- */

static void cancel_bench(void *ud)
{
    __atomic_store_n(&((bench *)ud)->cancel, 1, __ATOMIC_RELAXED);
}

static void tear_down(bench *b)
{
    mlxr_pool_free(b->pool);
    mlxr_state_free(b->state);
    mlxr_executable_free(b->executable);
    mlxr_device_close(b->device);
    mlxr_model_close(b->model);
    free(b->blocks);
    free(b->tables);
    free(b->ids);
    free(b->positions);
    free(b->seqs);
    free(b->rows);
    free(b->logits);
    free(b->prefill.v);
    free(b->decode.v);
    free(b->prefill_phase.rows);
    free(b->decode_phase.rows);
}

static mlxr_status bench_model(bench *b, const mlxr_device_options *options, uint64_t start, mlxr_error *err)
{
    enum { FEW = 8 }; /* tokens of a short prompt */
    mlxr_status st = set_up(b, options, err);
    size_t context;

    if (st != MLXR_OK) return st;
    context = mlxr_model_program(b->model)->context_length;
    st = prefill(b, 0, context < FEW ? context : FEW, CHUNK, true, err);
    b->first_token_ms = seconds_since(start) * 1e3;
    if (st == MLXR_OK) st = measure(b, err);
    if (st != MLXR_OK) return st;
    measure_first_token(b);
    return b->cancel ? mlxr_fail(err, MLXR_E_CANCELLED, "cancelled") : MLXR_OK;
}

int cmd_bench(int argc, char **argv)
{
    const char *model_paths = NULL, *device = "cpu", *precision = "fast", *kv = NULL, *args[1];
    int64_t n_prompt = 512, n_tokens = 128, n_threads = 0, n_batch = 1, n_context = 0, n_repeats = 5;
    bool json = false, profile = false;
    uint64_t start = mlxr_now_ns();
    const double most = 1 << 24;
    const struct cli_option options[] = {
        {"p", CLI_INT, "N", &n_prompt, 0, most, "tokens of the prompt (512; 0: no prefill)"},
        {"n", CLI_INT, "N", &n_tokens, 0, most, "tokens to decode, each sequence (128; 0: no decode)"},
        {"t", CLI_INT, "THREADS", &n_threads, 0, MLXR_POOL_MAX_THREADS, "threads; 0 (default): one a core"},
        {"b", CLI_INT, "BATCH", &n_batch, 1, MAX_BATCH, "sequences that are decoded together (1)"},
        {"d", CLI_INT, "CONTEXT", &n_context, 0, most, "tokens each sequence has before (0)"},
        {"r", CLI_INT, "REPEATS", &n_repeats, 1, MAX_REPEATS, "medians of so many (5), after a warm-up"},
        {"device", CLI_STRING, "NAME", &device, 0, 0, CLI_DEVICES},
        {"precision", CLI_CHOICE, "exact|fast", &precision, 0, 0,
         "exact: float32 throughout (default: fast)"},
        {"kv", CLI_CHOICE, "f32|f16|int8", &kv, 0, 0, CLI_KV},
        {"profile", CLI_FLAG, NULL, &profile, 0, 0, "also the time of every kind of step (device cpu)"},
        {"json", CLI_FLAG, NULL, &json, 0, 0, "as one JSON object"},
        {"model-paths-json", CLI_STRING, "FILE", &model_paths, 0, 0, "where model ids are looked up"},
    };
    static const struct cli_example examples[] = {
        {"mlxctl bench smollm2 -p 64 -n 16", "a prompt of 64 tokens, then 16 one by one", NULL},
        {"mlxctl bench smollm2 -p 16 -n 8 -b 4 --json", "four sequences at a time, for a program", NULL},
    };
    const struct cli cli = {
        .program = "mlxctl bench",
        .synopsis = "MODEL [-p 512] [-n 128] [-t THREADS] [-b BATCH] [-d CONTEXT] [-r REPEATS] [--json]",
        .summary = "How fast a model runs here: tokens a second of prefill and decode, bytes read for a "
                   "token and the\n"
                   "share of the memory's bandwidth, times to load and to the first token, peak memory.",
        .options = options,
        .n_options = MLXR_COUNT(options),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "model",
    };
    mlxr_device_options device_options = {0};
    bench b = {0};
    mlxr_buf out = {0};
    char *dir = NULL;
    mlxr_error err = {0};
    mlxr_status st;
    size_t n_args;
    int code;

    if (!cli_parse(&cli, argc, argv, args, 1, &n_args, &code)) return code;
    if (n_args < 1) return cli_usage(&cli, "MODEL is needed");
    if (n_prompt == 0 && n_tokens == 0) return cli_usage(&cli, "-p 0 and -n 0 leave nothing to measure");
    code = 0;
    cli_on_interrupt(cancel_bench, &b);
    device_options.precision = cli_precision(precision);
    device_options.kv_type = cli_kv_type(kv);
    device_options.n_threads = (size_t)n_threads;
    device_options.isa = cli_isa();
    device_options.mlx_library = cli_mlx_library();
    device_options.profile = profile;
    device_options.log = cli_log(cli.program, false);
    b.device_name = device;
    b.precision = precision;
    b.kv = kv;
    b.n_prompt = (size_t)n_prompt;
    b.n_tokens = (size_t)n_tokens;
    b.n_batch = (size_t)n_batch;
    b.n_context = (size_t)n_context;
    b.n_repeats = (size_t)n_repeats;
    st = cli_model_dir(&dir, args[0], model_paths, &err);
    b.dir = dir;
    if (st == MLXR_OK) st = bench_model(&b, &device_options, start, &err);
    if (st == MLXR_OK) {
        if (json)
            print_json(&out, &b);
        else
            print_text(&out, &b);
        st = mlxr_buf_check(&out, "bench", &err);
    }
    if (st == MLXR_OK && (fwrite(out.data, 1, out.len, stdout) != out.len || fflush(stdout) != 0))
        st = mlxr_fail(&err, MLXR_E_IO, "the answer could not be written");
    if (st != MLXR_OK) code = cli_fail(cli.program, &err);
    if (st == MLXR_E_CANCELLED && cli_interrupted()) code = 128 + cli_interrupted();
    cli_on_interrupt(NULL, NULL);
    mlxr_buf_clear(&out);
    tear_down(&b);
    free(dir);
    return code;
}
