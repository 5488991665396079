/* bench_streams MODEL [STREAMS [THREADS]]: what the scheduler makes of a device. Answers of 64 tokens to prompts of 64,
 * alone and STREAMS (8) at a time: tokens a second in all, and the share of a step that the scheduler itself takes. Then
 * a prompt of 2,000 tokens and a second one with the same first 2,000 tokens: times to the first token. Greedy; ids are
 * made up. Medians of five. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/scheduler.h"
#include "model/model.h"

enum { N_PROMPT = 64, N_NEW = 64, N_PREFIX = 2000, N_RUNS = 5, MOST_STREAMS = 64 };

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *v)
{
    qsort(v, N_RUNS, sizeof *v, by_value);
    return v[N_RUNS / 2];
}

static void fill(int32_t *ids, size_t n, uint32_t seed, size_t vocab)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t h = (uint32_t)i * 2654435761u + seed * 40503u + 12345u;
        h ^= h >> 15;
        h *= 2246822519u;
        ids[i] = (int32_t)((h ^ h >> 13) % vocab);
    }
}

static mlxr_status add(mlxr_scheduler *s, const int32_t *ids, size_t n, int64_t n_new, mlxr_error *err)
{
    mlxr_sequence_params p = mlxr_sequence_params_default();
    mlxr_sequence *q;

    p.ids = ids;
    p.n_ids = n;
    p.max_tokens = n_new;
    p.sampling.temperature = 0;
    return mlxr_scheduler_add(&q, s, &p, err);
}

/* To the end of all; the seconds it took, and how many tokens there were. */
static mlxr_status drain(mlxr_scheduler *s, double *seconds, size_t *n_tokens, mlxr_error *err)
{
    uint64_t start = mlxr_now_ns();
    mlxr_status st = MLXR_OK;

    *n_tokens = 0;
    for (bool idle = false; !idle && st == MLXR_OK;) {
        const mlxr_step_result *r;
        size_t n;
        st = mlxr_scheduler_step(s, NULL, &r, &n, &idle, err);
        for (size_t i = 0; i < n; i++) {
            *n_tokens += r[i].id >= 0;
            if (r[i].done) mlxr_scheduler_remove(s, r[i].sequence);
        }
    }
    *seconds = (double)(mlxr_now_ns() - start) / 1e9;
    return st;
}

static mlxr_status streams(mlxr_scheduler *s, size_t n, size_t vocab, mlxr_error *err)
{
    mlxr_scheduler_stats before = mlxr_scheduler_get_stats(s), after;
    double rates[N_RUNS], spent;
    mlxr_status st = MLXR_OK;

    for (uint32_t run = 0; run < N_RUNS && st == MLXR_OK; run++) {
        double seconds = 1;
        size_t n_tokens = 0;
        for (uint32_t i = 0; i < n && st == MLXR_OK; i++) {
            int32_t ids[N_PROMPT];
            fill(ids, N_PROMPT, 1 + run * MOST_STREAMS + i + (uint32_t)n * 100000u, vocab);
            st = add(s, ids, N_PROMPT, N_NEW, err);
        }
        if (st == MLXR_OK) st = drain(s, &seconds, &n_tokens, err);
        rates[run] = (double)n_tokens / seconds;
    }
    if (st != MLXR_OK) return st;
    after = mlxr_scheduler_get_stats(s);
    after.own_ns -= before.own_ns;
    after.device_ns -= before.device_ns;
    after.sampling_ns -= before.sampling_ns;
    spent = (double)(after.own_ns + after.device_ns + after.sampling_ns);
    printf("%2zu streams: %7.1f tokens/s; scheduler %.3f %%, sampling %.3f %% of a step\n", n, median(rates),
           100 * (double)after.own_ns / spent, 100 * (double)after.sampling_ns / spent);
    return MLXR_OK;
}

static mlxr_status shared_prefix(mlxr_scheduler *s, size_t vocab, mlxr_error *err)
{
    double first[N_RUNS], second[N_RUNS];
    mlxr_status st = MLXR_OK;

    for (uint32_t run = 0; run < N_RUNS && st == MLXR_OK; run++) {
        int32_t ids[N_PREFIX + 16];
        size_t n_tokens;
        fill(ids, N_PREFIX, 1000 + run, vocab);
        fill(ids + N_PREFIX, 16, 2000 + run, vocab);
        mlxr_scheduler_clear_cache(s);
        st = add(s, ids, N_PREFIX + 16, 1, err);
        if (st == MLXR_OK) st = drain(s, &first[run], &n_tokens, err);
        fill(ids + N_PREFIX, 16, 3000 + run, vocab);
        if (st == MLXR_OK) st = add(s, ids, N_PREFIX + 16, 1, err);
        if (st == MLXR_OK) st = drain(s, &second[run], &n_tokens, err);
    }
    if (st != MLXR_OK) return st;
    printf("prefix of %d tokens: first token after %.1f ms, again after %.1f ms (%.2f %%)\n", N_PREFIX,
           median(first) * 1e3, median(second) * 1e3, 100 * median(second) / median(first));
    return MLXR_OK;
}

int main(int argc, char **argv)
{
    size_t n = argc > 2 ? strtoul(argv[2], NULL, 10) : 8;
    mlxr_device_options options = {.n_threads = argc > 3 ? strtoul(argv[3], NULL, 10) : 2};
    mlxr_scheduler_options o = mlxr_scheduler_options_default();
    mlxr_model *model = NULL;
    mlxr_device *device = NULL;
    mlxr_scheduler *s = NULL;
    mlxr_error err = {0};
    mlxr_status st = MLXR_E_INVALID_ARGUMENT;

    if (argc < 2 || n < 1 || n > MOST_STREAMS) {
        fprintf(stderr, "usage: bench_streams MODEL [STREAMS 1 to %d [THREADS]]\n", MOST_STREAMS);
        return 2;
    }
    o.max_sequences = MOST_STREAMS;
    o.context_length = N_PREFIX + 17;
    o.max_kv_tokens = 4 * o.context_length + n * (N_PROMPT + N_NEW);
    if ((st = mlxr_model_open(&model, argv[1], &err)) != MLXR_OK) goto done;
    if ((st = mlxr_device_open(&device, "cpu", &options, &err)) != MLXR_OK) goto done;
    if ((st = mlxr_scheduler_open(&s, device, mlxr_model_program(model), &o, &err)) != MLXR_OK) goto done;
    printf("%s\n", mlxr_device_description(device));
    if ((st = streams(s, 1, mlxr_model_program(model)->vocab_size, &err)) != MLXR_OK) goto done;
    if ((st = streams(s, n, mlxr_model_program(model)->vocab_size, &err)) != MLXR_OK) goto done;
    st = shared_prefix(s, mlxr_model_program(model)->vocab_size, &err);
done:
    if (st != MLXR_OK) fprintf(stderr, "bench_streams: %s\n", err.message);
    mlxr_scheduler_close(s);
    mlxr_device_close(device);
    mlxr_model_close(model);
    return st != MLXR_OK;
}
