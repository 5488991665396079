/* Speed of one device on one model folder, below tokenizer and engine:
 *
 *     bench_device MODEL [-D DEVICE] [-i ISA] [-t THREADS] [-P exact|fast] [-p PROMPT] [-n TOKENS] [-d CONTEXT]
 *                  [-r REPEATS] [-m MODULE] [-g]
 *
 * Prefill of PROMPT tokens in one step, then TOKENS steps of one token from position CONTEXT on (-g: of the likeliest
 * token, as a greedy answer goes, which a device may compute ahead); medians of the repeats. MODULE: MLX's, for
 * device mlx. Beside tokens/s stands how fast the weights were read: bytes of all matrices of the program, once a
 * step, and of the embedding only when it is the output matrix too. */
#include <stdio.h>
#include <stdlib.h>

#include "device/device.h"
#include "model/model.h"

typedef struct options {
    const char *model, *device, *isa, *module;
    mlxr_precision precision;
    bool greedy;
    size_t n_threads, n_prompt, n_tokens, n_context, n_repeats;
} options;

typedef struct bench {
    options o;
    mlxr_model *model;
    mlxr_device *device;
    mlxr_executable *executable;
    mlxr_state *state;
    size_t n_most;
    int32_t *ids;
    uint32_t *positions, *seqs, *blocks;
    float *logits;
    int32_t likeliest;
} bench;

static int fail(const mlxr_error *err)
{
    fprintf(stderr, "bench_device: %s\n", err->message);
    return 1;
}

/* n tokens from `position` on, the logits of the last; seconds, or below 0. */
static double step(bench *b, size_t n, size_t position, mlxr_error *err)
{
    uint32_t last = (uint32_t)(n - 1);
    mlxr_block_table table = {.blocks = b->blocks, .n_blocks = b->state->n_blocks};
    mlxr_batch batch = {.n_tokens = n,
                        .ids = b->ids + position,
                        .positions = b->positions + position,
                        .seqs = b->seqs,
                        .tables = &table,
                        .n_seqs = 1,
                        .rows = &last,
                        .n_rows = 1,
                        .likeliest = b->o.greedy ? &b->likeliest : NULL};
    uint64_t start = mlxr_now_ns();
    if (mlxr_run(b->executable, b->state, &batch, NULL, b->logits, err) != MLXR_OK) return -1;
    return (double)(mlxr_now_ns() - start) / 1e9;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static uint64_t bytes_per_token(const mlxr_program *p)
{
    uint64_t n = 0;
    for (size_t i = 0; i < p->n_ops; i++) {
        const mlxr_op *op = &p->ops[i];
        if (op->kind == MLXR_OP_LINEAR) n += mlxr_matrix_bytes(&p->weights[op->weight].m);
        if (op->kind == MLXR_OP_EXPERTS) { /* k of each stack's matrices */
            const mlxr_weight_id stacks[] = {op->u.experts.gate, op->u.experts.up, op->u.experts.down};
            for (size_t j = 0; j < MLXR_COUNT(stacks); j++)
                if (stacks[j] != MLXR_NONE)
                    n += op->u.experts.k * mlxr_matrix_bytes(&p->weights[stacks[j]].m);
        }
    }
    return n;
}

static bool set_up(bench *b, mlxr_error *err)
{
    mlxr_device_options how = {.precision = b->o.precision,
                               .n_threads = b->o.n_threads,
                               .isa = b->o.isa,
                               .mlx_library = b->o.module};
    const mlxr_program *p;
    size_t n_blocks;

    if (mlxr_model_open(&b->model, b->o.model, err) != MLXR_OK) return false;
    p = mlxr_model_program(b->model);
    b->n_most = b->o.n_prompt > b->o.n_context + b->o.n_tokens ? b->o.n_prompt
                                                               : b->o.n_context + b->o.n_tokens;
    n_blocks = b->n_most / MLXR_KV_BLOCK + 1;
    if (mlxr_device_open(&b->device, b->o.device, &how, err) != MLXR_OK) return false;
    if (mlxr_device_compile(&b->executable, b->device, p, err) != MLXR_OK) return false;
    if (mlxr_state_create(&b->state, b->executable, n_blocks, 1, err) != MLXR_OK) return false;
    b->ids = mlxr_calloc_array(b->n_most, sizeof *b->ids);
    b->positions = mlxr_calloc_array(b->n_most, sizeof *b->positions);
    b->seqs = mlxr_calloc_array(b->n_most, sizeof *b->seqs);
    b->blocks = mlxr_calloc_array(n_blocks, sizeof *b->blocks);
    b->logits = mlxr_calloc_array(p->vocab_size, sizeof *b->logits);
    if (!b->ids || !b->positions || !b->seqs || !b->blocks || !b->logits) {
        mlxr_fail_nomem(err, "bench_device");
        return false;
    }
    for (size_t i = 0; i < n_blocks; i++) b->blocks[i] = (uint32_t)i;
    for (size_t i = 0; i < b->n_most; i++) {
        b->ids[i] = (int32_t)(i * 7919 % p->vocab_size);
        b->positions[i] = (uint32_t)i;
    }
    return true;
}

/* The likeliest id after the last step becomes that of `position`. */
static void choose(bench *b, size_t position)
{
    b->ids[position] = b->likeliest < 0 ? 0 : b->likeliest;
}

static bool measure(bench *b, mlxr_error *err)
{
    double *prefill = mlxr_calloc_array(b->o.n_repeats, sizeof *prefill);
    double *decode = mlxr_calloc_array(b->o.n_repeats, sizeof *decode), s = 0;
    double bytes = (double)bytes_per_token(mlxr_model_program(b->model));

    /* Once for the pages. */
    s = step(b, b->o.n_prompt ? b->o.n_prompt : 1, 0, err);
    for (size_t r = 0; r < b->o.n_repeats && s >= 0; r++) {
        if (b->o.n_tokens) {
            uint64_t start;
            if (b->o.n_context) s = step(b, b->o.n_context, 0, err);
            start = mlxr_now_ns();
            for (size_t i = 0; i < b->o.n_tokens && s >= 0; i++) {
                if (b->o.greedy && b->o.n_context + i > 0) choose(b, b->o.n_context + i);
                s = step(b, 1, b->o.n_context + i, err);
            }
            decode[r] = (double)b->o.n_tokens / ((double)(mlxr_now_ns() - start) / 1e9);
        }
        if (b->o.n_prompt && s >= 0) {
            s = step(b, b->o.n_prompt, 0, err);
            prefill[r] = (double)b->o.n_prompt / s;
        }
    }
    if (s >= 0) {
        printf("%s", mlxr_device_description(b->device));
        if (b->o.n_prompt)
            printf("  prefill(%zu) %.1f tok/s", b->o.n_prompt, median(prefill, b->o.n_repeats));
        if (b->o.n_tokens) {
            double d = median(decode, b->o.n_repeats);
            printf("  decode(%zu at %zu) %.1f tok/s, %.1f to %.1f, %.1f MB a token, %.1f GB/s", b->o.n_tokens,
                   b->o.n_context, d, decode[0], decode[b->o.n_repeats - 1], bytes / 1e6, d * bytes / 1e9);
        }
        printf("\n");
    }
    free(prefill);
    free(decode);
    return s >= 0;
}

int main(int argc, char **argv)
{
    bench b = {.o = {.device = "cpu", .n_prompt = 512, .n_tokens = 64, .n_repeats = 5}};
    mlxr_error err;
    int rc;

    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (a[0] != '-') {
            b.o.model = a;
        } else if (strcmp(a, "-g") == 0) {
            b.o.greedy = true;
        } else if (i + 1 < argc && strlen(a) == 2 && strchr("DitPmpndr", a[1])) {
            const char *v = argv[++i];
            size_t n = (size_t)strtoull(v, NULL, 10);
            switch (a[1]) {
            case 'D': b.o.device = v; break;
            case 'i': b.o.isa = v; break;
            case 't': b.o.n_threads = n; break;
            case 'm': b.o.module = v; break;
            case 'P':
                b.o.precision = strcmp(v, "exact") == 0 ? MLXR_PRECISION_EXACT : MLXR_PRECISION_FAST;
                break;
            case 'p': b.o.n_prompt = n; break;
            case 'n': b.o.n_tokens = n; break;
            case 'd': b.o.n_context = n; break;
            default: b.o.n_repeats = n ? n : 1; break;
            }
        } else {
            b.o.model = NULL;
            break;
        }
    }
    if (!b.o.model) {
        fprintf(stderr,
                "usage: bench_device MODEL [-D DEVICE] [-i ISA] [-t THREADS] [-P exact|fast] [-p PROMPT] "
                "[-n TOKENS] [-d CONTEXT] [-r REPEATS] [-m MODULE] [-g]\n");
        return 2;
    }
    rc = set_up(&b, &err) && measure(&b, &err) ? 0 : fail(&err);
    mlxr_state_free(b.state);
    mlxr_executable_free(b.executable);
    mlxr_device_close(b.device);
    mlxr_model_close(b.model);
    free(b.ids);
    free(b.positions);
    free(b.seqs);
    free(b.blocks);
    free(b.logits);
    return rc;
}
