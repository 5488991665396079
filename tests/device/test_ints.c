/* Products in integers: what ints.h promises. Every kernel against sums in double over the same integers and, bit for
 * bit, against the documented order of the sum in plain C; the same bits for one token, several and many, and however the
 * rows are cut; activations that are zero, huge, infinite or no numbers. */
#include <math.h>

#include "device/cpu/ints.h"
#include "test.h"

enum { MOST_COLS = 1152, MOST_TOKENS = 21, MOST_ROWS = 53 };

/* A generator of its own: the same numbers everywhere. */
static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static float uniform(uint32_t *state) /* -1 to 1 */
{
    return (float)next_random(state) / 8388608.0f - 1;
}

typedef struct work {
    mlxr_matrix m;
    uint8_t *memory;
    mlxr_ints_kernel k;
    mlxr_ints x[MOST_TOKENS];
    float values[MOST_TOKENS][MOST_COLS];
    float *y[MOST_TOKENS];
    void *scratch;
} work;

static void *aligned(size_t n_bytes)
{
    void *p = mlxr_aligned_alloc(n_bytes ? n_bytes : 1);
    assert_non_null(p);
    return p;
}

static void new_matrix(work *w, mlxr_quant q, mlxr_dtype dtype, size_t n_rows, size_t n_cols,
                       uint32_t *random)
{
    size_t n_groups = n_rows * (n_cols / q.group_size), size = mlxr_dtype_bits(dtype) / 8;
    size_t bytes = n_rows * n_cols * q.bits / 8;

    w->m = (mlxr_matrix){
        .quant = q, .dtype = dtype, .n_rows = n_rows, .n_cols = n_cols, .row_bytes = n_cols * q.bits / 8};
    /* To the byte, so that a sanitizer sees what reads past the end. */
    w->memory = malloc(bytes + 2 * n_groups * size);
    assert_non_null(w->memory);
    for (size_t i = 0; i < bytes; i++) w->memory[i] = (uint8_t)next_random(random);
    for (size_t i = 0; i < 2 * n_groups; i++) {
        if (dtype == MLXR_U8)
            w->memory[bytes + i] = (uint8_t)(i % 7 == 3 ? i / 7 % 3 : 118 + next_random(random) % 8);
        else
            mlxr_store_float(w->memory + bytes, dtype, i, uniform(random) / 8);
    }
    w->m.data = w->memory;
    w->m.scales = w->memory + bytes;
    w->m.biases = dtype == MLXR_U8 ? NULL : w->memory + bytes + n_groups * size;
}

static void new_work(work *w, const mlxr_ints_kernels *kernels, mlxr_quant q, mlxr_dtype dtype, size_t n_rows,
                     size_t n_cols, uint32_t *random)
{
    new_matrix(w, q, dtype, n_rows, n_cols, random);
    w->k = kernels->find(&w->m);
    assert_non_null(w->k.few);
    assert_int_equal(w->k.group, q.group_size);
    w->scratch = aligned(mlxr_ints_scratch(n_cols, q.group_size));
    for (size_t t = 0; t < MOST_TOKENS; t++) {
        size_t n_groups = mlxr_ints_groups(n_cols, q.group_size);
        for (size_t i = 0; i < n_cols; i++)
            w->values[t][i] = uniform(random) * (next_random(random) % 40 == 0 ? 50.0f : 1.0f);
        if (t == 3) memset(w->values[t], 0, n_cols * sizeof(float));
        w->x[t].x = aligned(n_groups * q.group_size * sizeof(int16_t));
        w->x[t].scales = aligned(n_groups * 4 * sizeof(float));
        w->x[t].sums = aligned(n_groups * 4 * sizeof(float));
        kernels->from_floats(&w->x[t], w->values[t], n_cols, q.group_size, w->k.order);
        w->y[t] = aligned(n_rows * sizeof(float));
    }
}

static void free_work(work *w)
{
    for (size_t t = 0; t < MOST_TOKENS; t++) {
        mlxr_aligned_free(w->x[t].x);
        mlxr_aligned_free(w->x[t].scales);
        mlxr_aligned_free(w->x[t].sums);
        mlxr_aligned_free(w->y[t]);
    }
    mlxr_aligned_free(w->scratch);
    free(w->memory);
}

static bool in_planes(mlxr_ints_order order)
{
    return order == MLXR_INTS_PLANES || order == MLXR_INTS_PLANES_EVEN;
}

/* Each group's scale and sum lie this far from the next one's. */
static size_t times(mlxr_ints_order order)
{
    return in_planes(order) ? 1 : 4;
}

/* Against the float weights and the floats that the integers stand for. */
static void check_values(const work *w, const float *bias, const char *what)
{
    size_t n_cols = w->m.n_cols, group = w->m.quant.group_size, next = times(w->k.order);
    float row[MOST_COLS];

    for (size_t r = 0; r < w->m.n_rows; r++) {
        mlxr_matrix_row(&w->m, r, row);
        for (size_t t = 0; t < MOST_TOKENS; t++) {
            double want = bias ? bias[r] : 0, size = fabs(want), bound;
            for (size_t i = 0; i < n_cols; i++) {
                double x = w->values[t][i], scale = w->x[t].scales[i / group * next];
                want += row[i] * x;
                size += fabs(row[i] * x) + fabs(row[i]) * scale * 10; /* rounding to integers, and float32 */
            }
            bound = size * 1e-5 + 1e-30;
            for (size_t i = 0; i < n_cols; i++)
                bound += fabs((double)row[i]) * (double)w->x[t].scales[i / group * next] * 0.5;
            if (!(fabs(w->y[t][r] - want) <= bound))
                fail_msg("%s: row %zu of token %zu is %g, wanted %g within %g", what, r, t,
                         (double)w->y[t][r], want, bound);
        }
    }
}

/* Integer k of a token. */
static int64_t activation(const work *w, size_t t, size_t k)
{
    size_t group = w->m.quant.group_size;
    return lrintf(w->values[t][k] * mlxr_ints_inverse(w->x[t].scales[k / group * times(w->k.order)]));
}

/* Row r's integer k; twice the value of mxfp4. */
static int64_t weight(const mlxr_matrix *m, size_t r, size_t k)
{
    const uint8_t *p = (const uint8_t *)m->data + r * m->row_bytes;
    unsigned code = 0;

    for (size_t i = 0, bit = k * m->quant.bits; i < m->quant.bits; i++, bit++)
        code |= (unsigned)(p[bit / 8] >> bit % 8 & 1) << i;
    return m->dtype == MLXR_U8 ? (int64_t)(2 * mlxr_e2m1[code]) : code;
}

/* The documented sum, in its order: its bits are those of every kernel. */
static void check_bits(const work *w, const float *bias, size_t r, size_t t, const char *what)
{
    size_t group = w->m.quant.group_size, n_groups = w->m.n_cols / group;
    bool fp = w->m.dtype == MLXR_U8;
    float class[4] = {0}, y;

    for (size_t g = 0; g < n_groups; g++) {
        size_t i = r * n_groups + g;
        float scale = fp ? mlxr_e8m0_to_f32(((const uint8_t *)w->m.scales)[i]) / 2
                         : mlxr_load_float(w->m.scales, w->m.dtype, i);
        int64_t dot = 0;
        for (size_t k = g * group; k < (g + 1) * group; k++) dot += weight(&w->m, r, k) * activation(w, t, k);
        class[g % 4] = fmaf((float)dot, scale * w->x[t].scales[g * times(w->k.order)], class[g % 4]);
        if (!fp)
            class[g % 4] = fmaf(mlxr_load_float(w->m.biases, w->m.dtype, i),
                                w->x[t].sums[g * times(w->k.order)], class[g % 4]);
    }
    y = (class[0] + class[2]) + (class[1] + class[3]) + bias[r];
    if (memcmp(&y, &w->y[t][r], sizeof y) != 0)
        fail_msg("%s: row %zu of token %zu is %.9g, and %.9g in plain C", what, r, t, (double)w->y[t][r],
                 (double)y);
}

static void check_kernel(const mlxr_ints_kernels *kernels, const char *isa, mlxr_quant q, mlxr_dtype dtype,
                         size_t n_rows, size_t n_cols)
{
    static const size_t cuts[] = {1, 2, 3, 4, 7, 8, 9, 11, 12, 16, 20, MOST_TOKENS};
    uint32_t random = (uint32_t)(q.bits * 131 + q.group_size + n_cols);
    float bias[MOST_ROWS], *again[MOST_TOKENS];
    char what[128];
    work *w = aligned(sizeof *w);
    mlxr_linear_ints a;

    snprintf(what, sizeof what, "%s %s %u bits group %u %s [%zu, %zu]", isa, mlxr_quant_mode_name(q.mode),
             q.bits, q.group_size, mlxr_dtype_name(dtype), n_rows, n_cols);
    new_work(w, kernels, q, dtype, n_rows, n_cols, &random);
    for (size_t i = 0; i < MOST_ROWS; i++) bias[i] = uniform(&random);
    a = (mlxr_linear_ints){.m = &w->m, .bias = bias, .x = w->x, .y = w->y, .n_tokens = MOST_TOKENS};
    mlxr_ints_linear(&w->k, a.n_tokens)(&a, 0, n_rows, w->scratch);
    check_values(w, bias, what);
    for (size_t t = 0; t < MOST_TOKENS; t += 5)
        for (size_t r = t / 5 % 2; r < n_rows; r += 3) check_bits(w, bias, r, t, what);

    for (size_t t = 0; t < MOST_TOKENS; t++) again[t] = aligned(n_rows * sizeof(float));
    for (size_t c = 0; c < MLXR_COUNT(cuts); c++) {
        /* The kernel for so many tokens, and each of the three, whatever they are meant for. */
        const mlxr_linear_ints_fn fns[] = {mlxr_ints_linear(&w->k, cuts[c]), w->k.few, w->k.some, w->k.many};
        for (size_t f = 0; f < MLXR_COUNT(fns); f++) {
            size_t mid = n_rows * (c + 1) / (MLXR_COUNT(cuts) + 1);
            if (!fns[f]) continue;
            for (size_t t = 0; t < MOST_TOKENS; t++) memset(again[t], 0xff, n_rows * sizeof(float));
            for (size_t t = 0; t < MOST_TOKENS; t += cuts[c]) {
                size_t n = MOST_TOKENS - t < cuts[c] ? MOST_TOKENS - t : cuts[c];
                mlxr_linear_ints part = {
                    .m = &w->m, .bias = bias, .x = w->x + t, .y = again + t, .n_tokens = n};
                fns[f](&part, 0, mid, w->scratch);
                fns[f](&part, mid, n_rows, w->scratch);
            }
            for (size_t t = 0; t < MOST_TOKENS; t++)
                if (memcmp(again[t], w->y[t], n_rows * sizeof(float)) != 0)
                    fail_msg("%s: token %zu in pieces of %zu by kernel %zu has other bits", what, t, cuts[c],
                             f);
        }
    }
    for (size_t t = 0; t < MOST_TOKENS; t++) mlxr_aligned_free(again[t]);
    free_work(w);
    mlxr_aligned_free(w);
}

/* Instruction sets of this machine that have integer kernels. */
static void each_isa(void (*fn)(const mlxr_ints_kernels *k, const char *isa))
{
    const mlxr_cpu_kernels *k;
    size_t n = 0;

    for (size_t i = 0; (k = mlxr_cpu_kernels_at(i)) != NULL; i++) {
        if (!k->ints) continue;
        fn(k->ints, k->isa);
        n++;
    }
    if (n == 0) {
        printf("SKIP: no integer kernels on this machine\n");
        skip();
    }
}

static void check_schemes(const mlxr_ints_kernels *k, const char *isa)
{
    static const unsigned bits[] = {2, 3, 4, 5, 6, 8}, groups[] = {32, 64, 128};
    static const mlxr_dtype dtypes[] = {MLXR_F16, MLXR_BF16, MLXR_F32};

    for (size_t b = 0; b < MLXR_COUNT(bits); b++) {
        for (size_t g = 0; g < MLXR_COUNT(groups); g++) {
            for (size_t d = 0; d < MLXR_COUNT(dtypes); d++) {
                mlxr_quant q = {MLXR_QUANT_AFFINE, bits[b], groups[g]};
                check_kernel(k, isa, q, dtypes[d], 5, groups[g]);
                check_kernel(k, isa, q, dtypes[d], 37, groups[g] * 9);
                check_kernel(k, isa, q, dtypes[d], 18, groups[g] * 8);
                check_kernel(k, isa, q, dtypes[d], 53, groups[g] * 2);
            }
        }
    }
    for (size_t n = 1; n < 8; n++)
        check_kernel(k, isa, mlxr_quant_default(MLXR_QUANT_MXFP4), MLXR_U8, 19, 32 * n);
}

static void kernels_equal_the_sums(void **state)
{
    (void)state;
    each_isa(check_schemes);
}

/* What a row of integers is, in plain C. */
static size_t place(mlxr_ints_order order, size_t k)
{
    size_t unit = k / MLXR_INTS_UNIT, in = k % MLXR_INTS_UNIT;

    if (order == MLXR_INTS_PLANES) return k / 32 * 64 + k % 32; /* of the upper byte */
    if (order == MLXR_INTS_PLANES_EVEN) return k / 32 * 64 + k % 2 * 16 + k % 32 / 2;
    if (order == MLXR_INTS_NIBBLES) return unit * MLXR_INTS_UNIT + in % 4 * 32 + in / 4;
    return unit * MLXR_INTS_UNIT + in / 8 % 4 * 32 + in / 32 * 8 + in % 8;
}

static void plain_integers(const mlxr_ints *out, const float *x, size_t n_cols, unsigned group,
                           mlxr_ints_order order)
{
    size_t n_groups = n_cols / group, n_padded = mlxr_ints_groups(n_cols, group);

    for (size_t g = 0; g < n_padded; g++) {
        const float *v = x + g * group;
        float max = 0, scale, inverse;
        int32_t total = 0, upper = 0, rest;

        for (size_t i = 0; i < group && g < n_groups; i++)
            if (!isnan(max) && !(fabsf(v[i]) <= max)) max = fabsf(v[i]);
        scale = mlxr_ints_scale(max);
        inverse = mlxr_ints_inverse(scale);
        for (size_t i = 0; i < group; i++) {
            float q = g < n_groups ? v[i] * inverse : 0;
            int16_t n = (int16_t)(q > -32768 && q < 32768 ? lrintf(q) : 0);
            if (in_planes(order)) {
                uint8_t *planes = (uint8_t *)out->x + place(order, g * group + i);
                planes[0] = (uint8_t)((uint16_t)n >> 8);
                planes[32] = (uint8_t)n;
            } else {
                out->x[place(order, g * group + i)] = n;
            }
            total += n;
            upper += (int32_t)floor(n / 256.0);
        }
        for (size_t r = 0; r < times(order); r++) {
            out->scales[g * times(order) + r] = scale;
            out->sums[g * times(order) + r] = scale * (float)total;
        }
        rest = order == MLXR_INTS_PLANES_EVEN ? -12 * total : 32768 * upper;
        if (in_planes(order)) memcpy(out->sums + n_padded + g, &rest, sizeof rest);
    }
}

/* All instruction sets make the same integers of the same floats, whatever those are. */
static void check_integers(const mlxr_ints_kernels *k, const char *isa)
{
    static const unsigned groups[] = {32, 64, 128};
    static const mlxr_matrix of_4 = {.quant = {MLXR_QUANT_AFFINE, 4, 64}, .dtype = MLXR_F16};
    static const mlxr_matrix of_8 = {.quant = {MLXR_QUANT_AFFINE, 8, 64}, .dtype = MLXR_F16};
    const mlxr_ints_order orders[] = {k->find(&of_4).order, k->find(&of_8).order};
    static float x[MOST_COLS];
    uint32_t random = 7;

    for (size_t g = 0; g < MLXR_COUNT(groups); g++) {
        for (size_t o = 0; o < MLXR_COUNT(orders); o++) {
            for (size_t n = 1; n <= 9; n++) {
                size_t n_cols = n * groups[g], n_groups = mlxr_ints_groups(n_cols, groups[g]);
                size_t n_x = n_groups * groups[g] * sizeof(int16_t), n_s = n_groups * 4 * sizeof(float);
                size_t n_scales = n_groups * times(orders[o]) * sizeof(float);
                size_t n_sums = in_planes(orders[o]) ? 2 * n_scales : n_scales;
                mlxr_ints a = {aligned(n_x), aligned(n_s), aligned(n_s)};
                mlxr_ints b = {aligned(n_x), aligned(n_s), aligned(n_s)};
                for (size_t i = 0; i < n_cols; i++) x[i] = uniform(&random) * powf(10, (float)(i % 11) - 5);
                x[0] = n % 3 == 0 ? 3e38f : n % 3 == 1 ? 1e-44f : -0.0f;
                plain_integers(&a, x, n_cols, groups[g], orders[o]);
                k->from_floats(&b, x, n_cols, groups[g], orders[o]);
                if (memcmp(a.x, b.x, n_x) || memcmp(a.scales, b.scales, n_scales) ||
                    memcmp(a.sums, b.sums, n_sums))
                    fail_msg("%s: other integers for %zu groups of %u", isa, n, groups[g]);
                mlxr_aligned_free(a.x), mlxr_aligned_free(a.scales), mlxr_aligned_free(a.sums);
                mlxr_aligned_free(b.x), mlxr_aligned_free(b.scales), mlxr_aligned_free(b.sums);
            }
        }
    }
}

static void integers_are_the_same_everywhere(void **state)
{
    (void)state;
    each_isa(check_integers);
}

/* What is no number stays one: the rows it touches are NaN, and nothing else is. */
static void check_no_numbers(const mlxr_ints_kernels *k, const char *isa)
{
    static const float bad[] = {INFINITY, -INFINITY, NAN};
    mlxr_quant q = {MLXR_QUANT_AFFINE, 4, 32};
    work *w = aligned(sizeof *w);
    uint32_t random = 3;

    new_work(w, k, q, MLXR_F16, 9, 160, &random);
    for (size_t i = 0; i < MLXR_COUNT(bad); i++) {
        mlxr_linear_ints a = {.m = &w->m, .x = w->x, .y = w->y, .n_tokens = MOST_TOKENS};
        w->values[2][40] = bad[i];
        k->from_floats(&w->x[2], w->values[2], 160, 32, w->k.order);
        mlxr_ints_linear(&w->k, a.n_tokens)(&a, 0, 9, w->scratch);
        for (size_t t = 0; t < MOST_TOKENS; t++)
            for (size_t r = 0; r < 9; r++)
                if (!!isnan(w->y[t][r]) != (t == 2 && (isinf(bad[i]) || isnan(bad[i]))))
                    fail_msg("%s: token %zu with %g gives %g", isa, t, (double)bad[i], (double)w->y[t][r]);
    }
    free_work(w);
    mlxr_aligned_free(w);
}

static void what_is_no_number_stays_none(void **state)
{
    (void)state;
    each_isa(check_no_numbers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_equal_the_sums),
        cmocka_unit_test(integers_are_the_same_everywhere),
        cmocka_unit_test(what_is_no_number_stays_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
