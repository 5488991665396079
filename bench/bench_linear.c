/* Speed of the linear kernels alone, one thread, for every instruction set this machine has:
 *
 *     bench_linear [BITS [GROUP [ROWS COLS [TOKENS]]]]     BITS 16: bf16, 32: f32; or
 *                                                          mxfp4, nvfp4, mxfp8
 *
 * Weights of about 100 MB of such matrices, one after the other, so that they come from memory; and one of them
 * again and again, so that it comes from a cache. Where there are kernels in integers, each of them, whatever the
 * number of tokens from which the device would take it. */
#include <stdio.h>
#include <stdlib.h>

#include "device/cpu/ints.h"

enum { MOST_TOKENS = 512 };

typedef struct work {
    mlxr_cpu_linear_fn fn;
    mlxr_linear_ints_fn ints; /* NULL: fn */
    mlxr_matrix *m;
    mlxr_cpu_linear a;
    mlxr_linear_ints b;
    float *scratch;
} work;

/* Passes over n matrices for a fifth of a second; seconds of the fastest. */
static double fastest(work *w, size_t n)
{
    double best = 1e9, all = 0;
    while (all < 0.2) {
        uint64_t start = mlxr_now_ns();
        double s;
        for (size_t i = 0; i < n; i++) {
            const mlxr_matrix *next = &w->m[i + 1 < n ? i + 1 : 0];
            w->a.m = w->b.m = &w->m[i];
            w->b.run_end = next->n_rows;
            w->b.after = (mlxr_stream){(uintptr_t)next->data, (uintptr_t)next->scales,
                                       (uintptr_t)next->biases};
            if (w->ints)
                w->ints(&w->b, 0, w->m[i].n_rows, w->scratch);
            else
                w->fn(&w->a, 0, w->m[i].n_rows, w->scratch);
        }
        s = (double)(mlxr_now_ns() - start) / 1e9;
        all += s;
        best = s < best ? s : best;
    }
    return best;
}

static void print(const char *isa, const char *what, work *w, size_t n)
{
    double s = fastest(w, n), values = (double)(w->m[0].n_rows * w->m[0].n_cols * n);
    printf("%-9s %-11s %6.2f GB/s  %6.2f G weights/s  %7.1f GFLOP/s\n", isa, what,
           (double)(mlxr_matrix_bytes(&w->m[0]) * n) / s / 1e9, values / s / 1e9,
           2 * values * (double)w->a.n_tokens / s / 1e9);
}

static bool print_ints(const mlxr_cpu_kernels *cpu, work *w, size_t n)
{
    const mlxr_matrix *m = w->m;
    const mlxr_ints_kernel k = cpu->ints->find(m);
    const struct {
        const char *name;
        mlxr_linear_ints_fn fn;
    } all[] = {{"ints few", k.few}, {"ints some", k.some}, {"ints many", k.many}};
    size_t n_groups = mlxr_ints_groups(m->n_cols, k.group);
    mlxr_ints x[MOST_TOKENS];
    float *floats;

    if (!k.few) return true;
    for (size_t t = 0; t < w->a.n_tokens; t++) {
        x[t].x = mlxr_aligned_alloc(n_groups * k.group * sizeof(int16_t));
        x[t].scales = mlxr_aligned_alloc(n_groups * 4 * sizeof(float));
        x[t].sums = mlxr_aligned_alloc(n_groups * 4 * sizeof(float));
        if (!x[t].x || !x[t].scales || !x[t].sums) return false;
        cpu->ints->from_floats(&x[t], w->a.x[t], m->n_cols, k.group, k.order);
    }
    floats = w->scratch;
    w->scratch = mlxr_aligned_alloc(mlxr_ints_scratch(m->n_cols, k.group));
    if (!w->scratch) return false;
    w->b = (mlxr_linear_ints){.x = x, .y = w->a.y, .n_tokens = w->a.n_tokens};
    for (size_t i = 0; i < MLXR_COUNT(all); i++) {
        w->ints = all[i].fn;
        if (!w->ints) continue;
        print(all[i].name, "from memory", w, n);
        print(all[i].name, "from cache", w, 1);
    }
    w->ints = NULL;
    w->scratch = floats;
    return true;
}

int main(int argc, char **argv)
{
    unsigned arg[5] = {4, 32, 576, 576, 1};
    const mlxr_cpu_kernels *k;
    mlxr_matrix m = {.dtype = MLXR_F16};
    size_t bytes, n, scratch;
    float *x[MOST_TOKENS], *y[MOST_TOKENS];
    uint8_t *memory;
    work w = {0};

    for (int i = 1; i < argc && i <= 5; i++) arg[i - 1] = (unsigned)strtoul(argv[i], NULL, 10);
    m.n_rows = arg[2];
    m.n_cols = arg[3];
    w.a.n_tokens = arg[4] < MOST_TOKENS ? arg[4] : MOST_TOKENS;
    if (arg[0] >= 16) {
        m.dtype = arg[0] == 16 ? MLXR_BF16 : MLXR_F32;
    } else if (argc > 1 && mlxr_quant_is_fp(mlxr_quant_mode_from_name(argv[1]))) {
        m.quant = mlxr_quant_default(mlxr_quant_mode_from_name(argv[1]));
        m.dtype = MLXR_U8;
        arg[0] = m.quant.bits;
    } else {
        m.quant = (mlxr_quant){MLXR_QUANT_AFFINE, arg[0], arg[1]};
    }
    m.row_bytes = m.n_cols * arg[0] / 8;
    bytes = mlxr_round_up(mlxr_matrix_bytes(&m), 64);
    n = 100000000 / bytes + 1;
    memory = mlxr_aligned_alloc(bytes * n);
    w.m = mlxr_calloc_array(n, sizeof *w.m);
    if (!memory || !w.m || !mlxr_cpu_linear_scratch(&scratch, m.n_cols)) return 1;
    w.scratch = mlxr_aligned_alloc(scratch * sizeof *w.scratch);
    if (!w.scratch) return 1;
    for (size_t i = 0; i < bytes * n; i++) memory[i] = (uint8_t)(i * 37 >> 3 & 0x3b);
    for (size_t i = 0; i < n; i++) {
        size_t params = m.quant.group_size ? m.n_rows * (m.n_cols / m.quant.group_size) * 2 : 0;
        w.m[i] = m;
        /* As scales of one byte most of these are next to nothing, and denormal weights are slow. */
        if (m.dtype == MLXR_U8)
            memset(memory + i * bytes + m.n_rows * m.row_bytes, 0x70, bytes - m.n_rows * m.row_bytes);
        w.m[i].data = memory + i * bytes;
        w.m[i].scales = memory + i * bytes + m.n_rows * m.row_bytes;
        w.m[i].biases = memory + i * bytes + m.n_rows * m.row_bytes + params;
    }
    for (size_t t = 0; t < w.a.n_tokens; t++) {
        x[t] = mlxr_aligned_alloc((m.n_cols + 64) * sizeof(float));
        y[t] = mlxr_aligned_alloc(m.n_rows * sizeof(float));
        if (!x[t] || !y[t]) return 1;
        for (size_t i = 0; i < m.n_cols + 64; i++) x[t][i] = i < m.n_cols ? (float)(i % 17) - 8 : 0;
    }
    w.a.x = (const float *const *)x;
    w.a.y = y;
    for (size_t i = 0; (k = mlxr_cpu_kernels_at(i)) != NULL; i++) {
        w.fn = k->linear(&m);
        if (!w.fn) {
            printf("%s: no such kernel\n", k->isa);
            continue;
        }
        print(k->isa, "from memory", &w, n);
        print(k->isa, "from cache", &w, 1);
        if (k->ints && !print_ints(k, &w, n)) return 1;
    }
    return 0;
}
