/* Matrix products in integers: `--precision fast`.
 *
 * Activations become integers of 16 bits with a scale for each group of the weights, weights are integers as they lie
 * in the file, and a group's dot product is exact in int32:
 *
 *     y[r] = sum over groups g of  (w_scale[r, g] x_scale[g]) dot(r, g) + w_bias[r, g] x_sum[g],   x_sum = x_scale * sum of X
 *
 * The sum over groups has one order, whatever path computes it: four classes g mod 4, each from the first group to the
 * last with two fused multiply-adds a group, then (0 + 2) + (1 + 3). So one token, several and many give the same bits.
 * 16 bits leave an error of 1.5e-5 of a group's largest value, next to nothing beside 4-bit weights; 8 would be coarser
 * than llama.cpp's and twice as fast only where the processor and not the memory is the limit. */
#ifndef MLXR_CPU_INTS_H
#define MLXR_CPU_INTS_H

#include "device/cpu/kernels.h"

enum {
    MLXR_INTS_UNIT = 128,      /* columns whose order within the row of integers is permuted */
    MLXR_INTS_PANEL_ROWS = 32, /* whose weights `many` has at hand at once */
};

/* The order in which a unit's columns k lie: vector m of 4, int16 lane L of 32.
 * NIBBLES: k = 4 L + m. OCTETS: k = 32 (L / 8) + 8 m + L % 8.
 *
 * PLANES, PLANES_EVEN: for products of bytes. 32 columns are 64 bytes, the upper bytes of their integers, then the lower
 * ones; each 32 in the columns' order, or the even columns and then the odd ones. */
typedef enum mlxr_ints_order {
    MLXR_INTS_NIBBLES,
    MLXR_INTS_OCTETS,
    MLXR_INTS_PLANES,
    MLXR_INTS_PLANES_EVEN
} mlxr_ints_order;

/* One row of activations. Groups are padded with zeros to a multiple of 4, columns to whole units of those. With PLANES
 * scales and sums have each group once, in order, and [n_groups padded] int32 follow the sums: 32768 times the sum of a
 * group's upper bytes; PLANES_EVEN: -12 times the sum of its integers (ints_dotprod.h says what for). */
typedef struct mlxr_ints {
    int16_t *x;    /* [n_cols padded] */
    float *scales; /* [n_groups padded / 4, 16]: each group's four times, class by class */
    float *sums;   /* the same */
} mlxr_ints;

/* Where weights lie that a thread is going to read, to be fetched ahead. Only hints: any address will do. */
typedef struct mlxr_stream {
    uintptr_t w, scales, biases; /* w 0: none */
} mlxr_stream;
/* From a row of m on. */
static inline mlxr_stream mlxr_stream_from(const mlxr_matrix *m, size_t row)
{
    size_t scales = m->scales ? row * (m->n_cols / m->quant.group_size) * mlxr_dtype_bits(m->dtype) / 8 : 0;

    return (mlxr_stream){(uintptr_t)m->data + row * m->row_bytes, (uintptr_t)m->scales + scales,
                         (uintptr_t)m->biases + scales};
}

typedef struct mlxr_linear_ints {
    const mlxr_matrix *m;
    const float *bias;  /* [n_rows] or NULL */
    const mlxr_ints *x; /* n_tokens rows */
    float *const *y;
    size_t n_tokens;
    size_t run_end; /* the rows up to here are the same thread's, in order, then comes `after` */
    mlxr_stream after;
} mlxr_linear_ints;
typedef void (*mlxr_linear_ints_fn)(const mlxr_linear_ints *a, size_t row_begin, size_t row_end,
                                    void *scratch);

/* What a matrix wants of its activations, and the kernels for it: the same bits from all. */
typedef struct mlxr_ints_kernel {
    mlxr_linear_ints_fn few;     /* NULL: none for how m is stored */
    mlxr_linear_ints_fn some;    /* NULL: as for few */
    mlxr_linear_ints_fn many;    /* takes scratch, mlxr_ints_scratch */
    size_t some_from, many_from; /* tokens from which these are the faster ones */
    mlxr_ints_order order;
    unsigned group;
} mlxr_ints_kernel;

static inline mlxr_linear_ints_fn mlxr_ints_linear(const mlxr_ints_kernel *k, size_t n_tokens)
{
    if (n_tokens >= k->many_from) return k->many;
    return n_tokens >= k->some_from && k->some ? k->some : k->few;
}
static inline size_t mlxr_ints_groups(size_t n_cols, unsigned group)
{
    return mlxr_round_up(n_cols / group, 4);
}
/* Bytes of scratch of a thread, 64-byte aligned. */
static inline size_t mlxr_ints_scratch(size_t n_cols, unsigned group)
{
    size_t n_groups = mlxr_ints_groups(n_cols, group);
    return MLXR_INTS_PANEL_ROWS * (n_groups * group * sizeof(int16_t) + 2 * n_groups * sizeof(float)) + 64;
}

/* Of a group whose largest magnitude this is: X = round(x / scale). What is not finite has no integers: such a group's
 * integers are 0 and its scale NaN, so that what comes of it is NaN. */
static inline float mlxr_ints_scale(float max)
{
    return max * (1.0f / 32767) - max * 0; /* infinity - infinity is NaN */
}
static inline float mlxr_ints_inverse(float scale)
{
    return scale >= 1e-35f ? 1 / scale
                           : 0; /* what is smaller counts for nothing: its inverse may not be finite */
}

/* Fills a row from n_cols floats: all instruction sets give the same. */
typedef void (*mlxr_ints_from_floats_fn)(const mlxr_ints *out, const float *x, size_t n_cols, unsigned group,
                                         mlxr_ints_order order);

/* What an instruction set has of these. */
typedef struct mlxr_ints_kernels {
    mlxr_ints_kernel (*find)(const mlxr_matrix *m);
    mlxr_ints_from_floats_fn from_floats;
} mlxr_ints_kernels;
extern const mlxr_ints_kernels mlxr_ints_vnni, mlxr_ints_avx2, mlxr_ints_avxvnni, mlxr_ints_dotprod;

#endif
