/* bench_sampler: microseconds of one draw, medians, for vocabularies and options. bench_sampler [REPEATS]. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/sampler.h"

enum { N_ROWS = 4, HISTORY = 2000, MOST = 100000 };

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A few likely tokens over a bell of unlikely ones, as models give them. */
static void fill(float *row, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        double u = 0;
        for (uint64_t j = 0; j < 6; j++) u += mlxr_sampler_uniform(seed + j, i);
        row[i] = (float)((u - 3) * 2.5);
    }
    for (uint64_t j = 0; j < 60; j++) {
        size_t i = (size_t)(mlxr_sampler_uniform(seed + 99, j) * (double)n);
        row[i] = (float)(14 - 2.2 * log((double)j + 1));
    }
}

static void measure(const char *name, mlxr_sampling p, size_t vocab_size, size_t n_logprobs, size_t repeats)
{
    static double times[MOST];
    static int32_t history[HISTORY];
    float *rows = malloc(N_ROWS * vocab_size * sizeof *rows);
    mlxr_sampler *s = NULL;
    mlxr_logprob top[20];

    if (!rows || mlxr_sampler_create(&s, vocab_size, NULL) != MLXR_OK) exit(1);
    for (size_t i = 0; i < N_ROWS; i++) fill(rows + i * vocab_size, vocab_size, i * 1000);
    for (size_t i = 0; i < HISTORY; i++) history[i] = (int32_t)(i * i % 317);
    for (size_t i = 0; i < repeats; i++) {
        mlxr_draw d = {.logits = rows + i % N_ROWS * vocab_size,
                       .history = history,
                       .n_history = HISTORY,
                       .seed = 1,
                       .i_token = i};
        mlxr_sampled out;
        size_t n_top = n_logprobs;
        double logprob;
        uint64_t start = mlxr_now_ns();
        if (mlxr_sampler_sample(&out, s, &p, &d, NULL) != MLXR_OK) exit(1);
        if (n_logprobs && mlxr_sampler_logprobs(&logprob, top, &n_top, s, d.logits, out.id, NULL) != MLXR_OK)
            exit(1);
        times[i] = (double)(mlxr_now_ns() - start) / 1e3;
    }
    qsort(times, repeats, sizeof *times, compare);
    printf("%-28s %7zu %9.1f %9.1f\n", name, vocab_size, times[repeats / 2], times[repeats * 9 / 10]);
    mlxr_sampler_free(s);
    free(rows);
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {49152, 151936, 262144};
    size_t repeats = argc > 1 ? strtoul(argv[1], NULL, 10) : 400;

    if (repeats < 1 || repeats > MOST) return 2;
    printf("%-28s %7s %9s %9s\n", "options", "V", "us p50", "us p90");
    for (size_t i = 0; i < MLXR_COUNT(sizes); i++) {
        mlxr_sampling defaults = mlxr_sampling_default(), p;
        p = defaults, p.temperature = 0;
        measure("greedy", p, sizes[i], 0, repeats);
        measure("defaults", defaults, sizes[i], 0, repeats);
        p = defaults, p.top_k = 1000;
        measure("top_k 1000", p, sizes[i], 0, repeats);
        p = defaults, p.repeat_penalty = 1.1f;
        measure("repeat_penalty", p, sizes[i], 0, repeats);
        p = defaults, p.dry_multiplier = 0.8f;
        measure("dry, 2000 tokens", p, sizes[i], 0, repeats);
        p = defaults, p.top_k = 0;
        measure("top_k 0, top_p 0.9", p, sizes[i], 0, repeats);
        p = defaults, p.top_k = 0, p.top_p = 1;
        measure("temperature alone", p, sizes[i], 0, repeats);
        p = defaults, p.top_k = 0, p.top_p = 1, p.min_p = 0.05f;
        measure("min_p alone", p, sizes[i], 0, repeats);
        p = defaults, p.mirostat = 2;
        measure("mirostat 2", p, sizes[i], 0, repeats);
        measure("defaults, 20 logprobs", defaults, sizes[i], 20, repeats);
    }
    return 0;
}
