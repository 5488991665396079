/* bench_engine MODEL STREAMS[,STREAMS...] [PROMPT [NEW [THREADS [FIRST [TEMPERATURE]]]]]: the public engine as a server uses
 * it, in this process. Prompts of PROMPT (64) made-up ids, all different, are submitted at once, STREAMS of them; each
 * token of the NEW (128) of an answer comes with its text to a callback. After a warm-up, one run for each of the numbers
 * of streams; FIRST (0) is the number of the first prompt. One JSON object goes to standard output; of each run:
 *
 *   rate          tokens a second of all, from before the first is submitted to the end of the last
 *   steady_rate   the same from when every stream has its first token to when one has its last
 *   first_ms      to the first token, the median of the streams
 *
 * compare_llama_server.py runs it beside llama-server. Temperature 0 is greedy; above 0 the sampling is the default one. */
#include <mlxr.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"

enum { MOST_STREAMS = 64, MOST_TOKENS = 1 << 14, WARM_UP = 8 };

typedef struct stream {
    mlxr_generation *generation;
    uint64_t *at; /* [new]: when each token came */
    size_t n;
} stream;

typedef struct plan {
    mlxr_engine *engine;
    size_t n_prompt, n_new, vocab;
    float temperature;
    uint32_t next; /* number of the next prompt */
} plan;

static void on_event(const mlxr_event *event, void *ud)
{
    stream *s = ud;
    if (event->type == MLXR_EVENT_TOKEN && event->id >= 0) s->at[s->n++] = mlxr_now_ns();
}

/* The ids of `mlxctl bench` and llama_child.py. */
static void fill(int32_t *ids, size_t n, uint32_t seq, size_t vocab)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t h = (uint32_t)i * 2654435761u + seq * 40503u + 12345u;
        h ^= h >> 15;
        h *= 2246822519u;
        ids[i] = (int32_t)((h ^ h >> 13) % vocab);
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void print_run(const stream *streams, size_t n, uint64_t began, uint64_t ended, bool first)
{
    double firsts[MOST_STREAMS];
    uint64_t from = 0, to = UINT64_MAX;
    size_t n_tokens = 0, n_steady = 0;

    for (size_t i = 0; i < n; i++) {
        const stream *s = &streams[i];
        if (s->at[0] > from) from = s->at[0];
        if (s->at[s->n - 1] < to) to = s->at[s->n - 1];
        firsts[i] = (double)(s->at[0] - began) / 1e6;
        n_tokens += s->n;
    }
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < streams[i].n; k++)
            n_steady += streams[i].at[k] > from && streams[i].at[k] <= to;
    qsort(firsts, n, sizeof *firsts, by_value);
    printf("%s{\"streams\": %zu, \"tokens\": %zu, \"rate\": %.2f, \"steady_rate\": %.2f, \"first_ms\": %.2f}",
           first ? "" : ", ", n, n_tokens, (double)n_tokens * 1e9 / (double)(ended - began),
           to > from ? (double)n_steady * 1e9 / (double)(to - from) : 0.0, firsts[n / 2]);
}

/* n answers of n_new tokens at once. told: it is printed, as the first of the list or a further one. */
static mlxr_status run(plan *p, size_t n, size_t n_new, bool told, bool first, mlxr_error *err)
{
    static stream streams[MOST_STREAMS];
    mlxr_request q = mlxr_request_default();
    int32_t *ids = mlxr_malloc_array(p->n_prompt, sizeof *ids);
    uint64_t began = mlxr_now_ns();
    mlxr_status st = ids ? MLXR_OK : mlxr_fail_nomem(err, "ids");

    q.prompt_ids = ids;
    q.n_prompt_ids = p->n_prompt;
    q.max_tokens = (int32_t)n_new;
    q.ignore_eos = true;
    q.sampling.temperature = p->temperature;
    for (size_t i = 0; i < n && st == MLXR_OK; i++) {
        stream *s = &streams[i];
        *s = (stream){.at = mlxr_malloc_array(n_new, sizeof *s->at)};
        if (!s->at) st = mlxr_fail_nomem(err, "times");
        fill(ids, p->n_prompt, p->next, p->vocab);
        q.sampling.seed = p->next++;
        if (st == MLXR_OK) st = mlxr_engine_submit(&s->generation, p->engine, &q, on_event, s, err);
    }
    for (size_t i = 0; i < n && st == MLXR_OK; i++)
        st = mlxr_generation_wait(streams[i].generation, NULL, err);
    for (size_t i = 0; i < n && st == MLXR_OK; i++)
        if (streams[i].n != n_new)
            st = mlxr_fail(err, MLXR_E_DEVICE, "stream %zu has %zu tokens, wanted %zu", i, streams[i].n,
                           n_new);
    if (st == MLXR_OK && told) print_run(streams, n, began, mlxr_now_ns(), first);
    for (size_t i = 0; i < MOST_STREAMS; i++) {
        mlxr_generation_free(streams[i].generation);
        free(streams[i].at);
        streams[i] = (stream){0};
    }
    free(ids);
    return st;
}

static size_t number(int argc, char **argv, int i, size_t otherwise)
{
    return argc > i ? strtoul(argv[i], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
    mlxr_engine_options o = mlxr_engine_options_default();
    plan p = {.n_prompt = number(argc, argv, 3, 64), .n_new = number(argc, argv, 4, 128)};
    bool first = true;
    mlxr_error err = {0};
    mlxr_status st = MLXR_OK;

    if (argc < 3 || p.n_prompt < 1 || p.n_prompt > MOST_TOKENS || p.n_new < 2 || p.n_new > MOST_TOKENS) {
        fprintf(stderr, "usage: bench_engine MODEL STREAMS[,STREAMS...] [PROMPT [NEW [THREADS [FIRST "
                        "[TEMPERATURE]]]]]\n");
        return 2;
    }
    o.n_threads = (int32_t)number(argc, argv, 5, 2);
    o.context_length = p.n_prompt + p.n_new;
    o.max_sequences = MOST_STREAMS;
    o.kv_bytes = (size_t)1 << 30;
    p.next = (uint32_t)number(argc, argv, 6, 0);
    p.temperature = argc > 7 ? strtof(argv[7], NULL) : 0;
    if ((st = mlxr_engine_open(&p.engine, argv[1], &o, &err)) != MLXR_OK) goto done;
    p.vocab = mlxr_engine_get_info(p.engine).vocab_size;
    printf("{\"device\": \"%s\", \"runs\": [", mlxr_engine_get_info(p.engine).device_name);
    for (const char *at = argv[2]; at && st == MLXR_OK; at = strchr(at, ',')) {
        size_t n = strtoul(at += *at == ',', NULL, 10);
        if (n < 1 || n > MOST_STREAMS) {
            st = mlxr_fail(&err, MLXR_E_INVALID_ARGUMENT, "%zu streams, wanted 1 to %d", n, MOST_STREAMS);
            goto done;
        }
        if ((st = run(&p, n, p.n_new < WARM_UP ? p.n_new : WARM_UP, false, false, &err)) != MLXR_OK)
            goto done;
        st = run(&p, n, p.n_new, true, first, &err);
        first = false;
    }
    printf("]}\n");
done:
    if (st != MLXR_OK) fprintf(stderr, "bench_engine: %s\n", err.message);
    mlxr_engine_close(p.engine);
    return st != MLXR_OK;
}
