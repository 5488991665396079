/* Speed of the attention kernel alone, one thread, for every instruction set this machine has and every type of keys
 * and values:
 *
 *     bench_attend [CONTEXT [TOKENS [HEADS [DIM [KV_HEADS]]]]]
 *
 * TOKENS, the last of CONTEXT, look at all before them; HEADS queries of a token read the same keys. As many layers as
 * make 200 MB, blocks of all layers between each other, as in a state: so keys and values come from memory. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "device/cpu/kernels.h"

typedef struct shape {
    size_t context, n_tokens, heads, dim, kv_heads;
} shape;

static float value(size_t i)
{
    return (float)(i * 2654435761u % 1000) / 500.0f - 1.0f;
}

/* Seconds of a pass over n_layers. */
static double pass(const mlxr_cpu_kernels *k, const mlxr_cpu_kv *kv, const shape *s, size_t n_layers,
                   const uint8_t *memory, const uint32_t *blocks, const float *q, float *out, float *scratch)
{
    uint64_t start = mlxr_now_ns();
    size_t per_call = MLXR_CPU_QUERIES / s->heads;

    for (size_t i = 0; i < n_layers * s->kv_heads; i++) {
        for (size_t t = 0; t < s->n_tokens; t += per_call) {
            mlxr_cpu_attend a = {.kv = kv,
                                 .heads = memory + i * kv->head_bytes,
                                 .block_bytes = n_layers * s->kv_heads * kv->head_bytes,
                                 .blocks = blocks};
            for (size_t j = t; j < s->n_tokens && j < t + per_call; j++) {
                for (size_t h = 0; h < s->heads; h++, a.n_queries++) {
                    a.scale[a.n_queries] = 0.125f;
                    a.sink[a.n_queries] = -INFINITY;
                    a.q[a.n_queries] = q + (j * s->heads + h) * s->dim;
                    a.out[a.n_queries] = out + (j * s->heads + h) * s->dim;
                    a.limit[a.n_queries] = s->context - s->n_tokens + j + 1;
                }
            }
            k->attend(&a, scratch);
        }
    }
    return (double)(mlxr_now_ns() - start) / 1e9;
}

static int measure(const mlxr_cpu_kernels *k, mlxr_kv_type type, const char *name, const shape *s)
{
    mlxr_cpu_kv kv;
    size_t n_blocks = mlxr_round_up(s->context, MLXR_KV_BLOCK) / MLXR_KV_BLOCK, n_layers, bytes, n_scratch;
    uint32_t *blocks = mlxr_calloc_array(n_blocks, sizeof *blocks);
    float *q = mlxr_calloc_array(s->n_tokens * s->heads, s->dim * sizeof *q), *out, *scratch;
    uint8_t *memory;
    double best = 1e9, all = 0, products = 0;

    if (!mlxr_cpu_kv_layout(&kv, type, s->dim, s->dim) || !mlxr_cpu_attend_scratch(&n_scratch, &kv)) return 1;
    n_layers = 200000000 / (n_blocks * s->kv_heads * kv.head_bytes) + 1;
    if (s->n_tokens > 64 && n_layers > 2) n_layers = 2;
    bytes = n_layers * n_blocks * s->kv_heads * kv.head_bytes;
    memory = mlxr_aligned_alloc(bytes);
    out = mlxr_calloc_array(s->n_tokens * s->heads, s->dim * sizeof *out);
    scratch = mlxr_aligned_alloc(n_scratch * sizeof *scratch);
    if (!blocks || !q || !out || !memory || !scratch) return 1;
#ifdef __linux__
    madvise((void *)(((uintptr_t)memory + 4095) / 4096 * 4096), bytes - 4096, MADV_HUGEPAGE);
#endif
    for (size_t i = 0; i < s->n_tokens * s->heads * s->dim; i++) q[i] = value(i);
    for (size_t i = 0; i < n_blocks; i++) blocks[i] = (uint32_t)(i * 7 % n_blocks);
    for (size_t i = 1; i < n_blocks && n_blocks % 7 == 0; i++) blocks[i] = (uint32_t)i;
    for (size_t p = 0; p < s->context; p++) {
        uint8_t *block = memory + blocks[p / MLXR_KV_BLOCK] * n_layers * s->kv_heads * kv.head_bytes;
        for (size_t i = 0; i < n_layers * s->kv_heads; i++) {
            size_t at = (p + i) % (s->n_tokens * s->heads) * s->dim;
            k->kv_store(&kv, block + i * kv.head_bytes, p % MLXR_KV_BLOCK, q + at, q + at);
        }
    }
    while (all < 0.3) {
        double t = pass(k, &kv, s, n_layers, memory, blocks, q, out, scratch);
        all += t;
        best = t < best ? t : best;
    }
    for (size_t j = 0; j < s->n_tokens; j++)
        products += (double)(s->context - j) * 2 * (double)(s->dim * s->heads);
    printf("%-9s %-5s %7.2f GB/s  %7.1f GFLOP/s  %8.2f us a layer\n", k->isa, name,
           (double)bytes / best / 1e9, 2 * products * (double)(n_layers * s->kv_heads) / best / 1e9,
           best / (double)n_layers * 1e6);
    free(blocks);
    free(q);
    free(out);
    mlxr_aligned_free(memory);
    mlxr_aligned_free(scratch);
    return 0;
}

int main(int argc, char **argv)
{
    size_t arg[5] = {4000, 1, 3, 64, 3};
    const mlxr_cpu_kernels *k;
    shape s;

    for (int i = 1; i < argc && i <= 5; i++) arg[i - 1] = strtoul(argv[i], NULL, 10);
    s = (shape){arg[0], arg[1], arg[2], arg[3], arg[4]};
    if (!s.context || !s.n_tokens || s.n_tokens > s.context || !s.heads || s.heads > MLXR_CPU_QUERIES ||
        !s.dim || !s.kv_heads) {
        return 2;
    }
    for (size_t i = 0; (k = mlxr_cpu_kernels_at(i)) != NULL; i++) {
        if (measure(k, MLXR_KV_F32, "f32", &s) || measure(k, MLXR_KV_F16, "f16", &s) ||
            measure(k, MLXR_KV_INT8, "int8", &s)) {
            return 1;
        }
    }
    return 0;
}
