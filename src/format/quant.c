/* Element types by name, and quantized matrices one row at a time: the plain reading of the layout in
 * quant.h, which every faster kernel is compared with.
 *
 * Follows MLX: affine_dequantize in mlx/ops.cpp (a product and a sum, each rounded by itself: no fma) and
 * quantize in mlx/backend/cpu/quantized.cpp; the modes of floats follow what mx.quantize and mx.dequantize give. */
#include "format/quant.h"

#include <math.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "weights are read in place and are little-endian"
#endif

static const struct {
    const char *name;
    unsigned bits;
} dtypes[MLXR_DTYPE_COUNT] = {
#define ROW(name, text, bits) [MLXR_##name] = {text, bits},
    MLXR_DTYPE_LIST(ROW)
#undef ROW
};

const char *mlxr_dtype_name(mlxr_dtype t)
{
    return (unsigned)t < MLXR_DTYPE_COUNT ? dtypes[t].name : "?";
}

unsigned mlxr_dtype_bits(mlxr_dtype t)
{
    return (unsigned)t < MLXR_DTYPE_COUNT ? dtypes[t].bits : 0;
}

mlxr_dtype mlxr_dtype_from_name(const char *name)
{
    unsigned t = 0;
    while (t < MLXR_DTYPE_COUNT && strcmp(dtypes[t].name, name) != 0) t++;
    return (mlxr_dtype)t;
}

const char *mlxr_quant_mode_name(mlxr_quant_mode m)
{
    switch (m) {
    case MLXR_QUANT_NONE: return "none";
    case MLXR_QUANT_AFFINE: return "affine";
    case MLXR_QUANT_MXFP4: return "mxfp4";
    case MLXR_QUANT_NVFP4: return "nvfp4";
    case MLXR_QUANT_MXFP8: return "mxfp8";
    }
    return "?";
}

mlxr_quant_mode mlxr_quant_mode_from_name(const char *name)
{
    for (int m = MLXR_QUANT_AFFINE; m <= MLXR_QUANT_MXFP8; m++) {
        if (strcmp(mlxr_quant_mode_name((mlxr_quant_mode)m), name) == 0) return (mlxr_quant_mode)m;
    }
    return MLXR_QUANT_NONE;
}

mlxr_quant mlxr_quant_default(mlxr_quant_mode m)
{
    switch (m) {
    case MLXR_QUANT_NONE: break;
    case MLXR_QUANT_AFFINE: return (mlxr_quant){m, 4, 64};
    case MLXR_QUANT_MXFP4: return (mlxr_quant){m, 4, 32};
    case MLXR_QUANT_NVFP4: return (mlxr_quant){m, 4, 16};
    case MLXR_QUANT_MXFP8: return (mlxr_quant){m, 8, 32};
    }
    return (mlxr_quant){MLXR_QUANT_NONE, 0, 0};
}

bool mlxr_quant_supported(mlxr_quant q)
{
    switch (q.mode) {
    case MLXR_QUANT_NONE: return true;
    case MLXR_QUANT_AFFINE:
        return (q.bits == 2 || q.bits == 3 || q.bits == 4 || q.bits == 5 || q.bits == 6 || q.bits == 8) &&
               (q.group_size == 32 || q.group_size == 64 || q.group_size == 128);
    case MLXR_QUANT_MXFP4: return q.bits == 4 && q.group_size == 32;
    case MLXR_QUANT_NVFP4: return q.bits == 4 && q.group_size == 16;
    case MLXR_QUANT_MXFP8: return q.bits == 8 && q.group_size == 32;
    }
    return false;
}

const float mlxr_e2m1[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                             -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

const float mlxr_e4m3[256] = {
#define EIGHT(a, b, c, d, e, f, g, h, unit) \
    a *(unit), b *(unit), c *(unit), d *(unit), e *(unit), f *(unit), g *(unit), h *(unit)
#define NORMAL(unit) EIGHT(8, 9, 10, 11, 12, 13, 14, 15, unit)
#define HALF(s)                                                                                           \
    EIGHT(0.0f, 1, 2, 3, 4, 5, 6, 7, s 0x1p-9f), NORMAL(s 0x1p-9f), NORMAL(s 0x1p-8f), NORMAL(s 0x1p-7f), \
        NORMAL(s 0x1p-6f), NORMAL(s 0x1p-5f), NORMAL(s 0x1p-4f), NORMAL(s 0x1p-3f), NORMAL(s 0x1p-2f),    \
        NORMAL(s 0x1p-1f), NORMAL(s 0x1p0f), NORMAL(s 0x1p1f), NORMAL(s 0x1p2f), NORMAL(s 0x1p3f),        \
        NORMAL(s 0x1p4f), EIGHT(8, 9, 10, 11, 12, 13, 14, NAN, s 0x1p5f)
    HALF(+), HALF(-)
#undef HALF
#undef NORMAL
#undef EIGHT
};

float mlxr_matrix_factor(const mlxr_matrix *m)
{
    return m->quant.mode == MLXR_QUANT_NVFP4 && m->global_scale != 0 ? m->global_scale / 2688.0f : 1.0f;
}

float mlxr_load_float(const void *p, mlxr_dtype dtype, size_t i)
{
    const uint8_t *b = p;
    uint16_t h;
    float f;

    switch (dtype) {
    case MLXR_F16: memcpy(&h, b + 2 * i, sizeof h); return mlxr_f16_to_f32(h);
    case MLXR_BF16: memcpy(&h, b + 2 * i, sizeof h); return mlxr_bf16_to_f32(h);
    case MLXR_F32: memcpy(&f, b + 4 * i, sizeof f); return f;
    default: return NAN; /* not a float type of weights: our own mistake, made visible */
    }
}

void mlxr_store_float(void *p, mlxr_dtype dtype, size_t i, float value)
{
    uint8_t *b = p;
    uint16_t h;

    switch (dtype) {
    case MLXR_F16:
        h = mlxr_f32_to_f16(value);
        memcpy(b + 2 * i, &h, sizeof h);
        break;
    case MLXR_BF16:
        h = mlxr_f32_to_bf16(value);
        memcpy(b + 2 * i, &h, sizeof h);
        break;
    case MLXR_F32: memcpy(b + 4 * i, &value, sizeof value); break;
    default: break;
    }
}

size_t mlxr_matrix_bytes(const mlxr_matrix *m)
{
    size_t n = m->n_rows * m->row_bytes;
    if (m->quant.mode == MLXR_QUANT_AFFINE)
        n += 2 * m->n_rows * (m->n_cols / m->quant.group_size) * (mlxr_dtype_bits(m->dtype) / 8);
    else if (mlxr_quant_is_fp(m->quant.mode))
        n += m->n_rows * (m->n_cols / m->quant.group_size);
    return n;
}

/* Eight codes of any width fill `bits` whole bytes, so a row is read in runs of eight. */
static inline void affine_row(const mlxr_matrix *m, size_t i, unsigned bits, float *out)
{
    const size_t group_size = m->quant.group_size, n_groups = m->n_cols / group_size;
    const uint64_t mask = ((uint64_t)1 << bits) - 1;
    const uint8_t *p = (const uint8_t *)m->data + i * m->row_bytes;

    for (size_t g = 0; g < n_groups; g++) {
        const float scale = mlxr_load_float(m->scales, m->dtype, i * n_groups + g);
        const float bias = mlxr_load_float(m->biases, m->dtype, i * n_groups + g);
        for (size_t j = 0; j < group_size; j += 8) {
            uint64_t run = 0;
            memcpy(&run, p, bits);
            p += bits;
            for (unsigned k = 0; k < 8; k++) out[j + k] = scale * (float)(run >> (k * bits) & mask) + bias;
        }
        out += group_size;
    }
}

static void fp_row(const mlxr_matrix *m, size_t i, float *out)
{
    const size_t group_size = m->quant.group_size, n_groups = m->n_cols / group_size;
    const float factor = mlxr_matrix_factor(m);
    const uint8_t *p = (const uint8_t *)m->data + i * m->row_bytes;
    const uint8_t *scales = (const uint8_t *)m->scales + i * n_groups;

    for (size_t g = 0; g < n_groups; g++) {
        const float scale = m->quant.mode == MLXR_QUANT_NVFP4 ? mlxr_e4m3[scales[g]] * factor
                                                              : mlxr_e8m0_to_f32(scales[g]);
        if (m->quant.mode == MLXR_QUANT_MXFP8) {
            for (size_t j = 0; j < group_size; j++) *out++ = scale * mlxr_e4m3[*p++];
        } else {
            for (size_t j = 0; j < group_size; j += 2, p++) {
                *out++ = scale * mlxr_e2m1[*p & 15];
                *out++ = scale * mlxr_e2m1[*p >> 4];
            }
        }
    }
}

void mlxr_matrix_row(const mlxr_matrix *m, size_t i, float *out)
{
    if (mlxr_quant_is_fp(m->quant.mode)) {
        fp_row(m, i, out);
        return;
    }
    if (m->quant.mode == MLXR_QUANT_AFFINE) {
        switch (m->quant.bits) { /* a constant width lets the compiler unroll the run */
        case 2: affine_row(m, i, 2, out); break;
        case 3: affine_row(m, i, 3, out); break;
        case 4: affine_row(m, i, 4, out); break;
        case 5: affine_row(m, i, 5, out); break;
        case 6: affine_row(m, i, 6, out); break;
        case 8: affine_row(m, i, 8, out); break;
        default: break; /* mlxr_quant_supported says no */
        }
        return;
    }
    if (m->dtype == MLXR_F32) {
        memcpy(out, (const uint8_t *)m->data + i * m->row_bytes, m->n_cols * sizeof *out);
        return;
    }
    for (size_t j = 0; j < m->n_cols; j++)
        out[j] = mlxr_load_float((const uint8_t *)m->data + i * m->row_bytes, m->dtype, j);
}

/* One group. The edge is the value farthest from zero; the scale's sign puts it at code 0, and the scale is
 * then adjusted so that zero is a whole number of steps away from it: both are exact after dequantizing. NaN
 * takes no part in the range and gets code 0. */
static void affine_group(const float *w, size_t n, unsigned bits, float *scale_out, float *bias_out,
                         uint8_t *packed)
{
    const float n_steps = (float)((1u << bits) - 1), eps = 1e-7f;
    float lo = INFINITY, hi = -INFINITY, scale, bias = 0, edge, steps_to_edge;

    for (size_t j = 0; j < n; j++) {
        if (w[j] > hi) hi = w[j];
        if (w[j] < lo) lo = w[j];
    }
    scale = (hi - lo) / n_steps;
    if (!(scale >= eps)) scale = eps;
    if (fabsf(lo) > fabsf(hi)) {
        edge = lo;
    } else {
        edge = hi;
        scale = -scale;
    }
    steps_to_edge = rintf(edge / scale);
    if (steps_to_edge != 0) {
        scale = edge / steps_to_edge;
        bias = edge;
    }
    for (size_t j = 0; j < n; j += 8) {
        uint64_t run = 0;
        for (unsigned k = 0; k < 8; k++) {
            float q = rintf((w[j + k] - bias) / scale);
            if (!(q > 0)) q = 0;
            if (q > n_steps) q = n_steps;
            run |= (uint64_t)q << (k * bits);
        }
        memcpy(packed, &run, bits);
        packed += bits;
    }
    *scale_out = scale;
    *bias_out = bias;
}

void mlxr_affine_quantize_row(const float *w, size_t n_cols, mlxr_quant quant, mlxr_dtype dtype, void *packed,
                              void *scales, void *biases)
{
    const size_t n_groups = n_cols / quant.group_size;

    for (size_t g = 0; g < n_groups; g++) {
        float scale, bias;
        affine_group(w + g * quant.group_size, quant.group_size, quant.bits, &scale, &bias,
                     (uint8_t *)packed + g * quant.group_size * quant.bits / 8);
        mlxr_store_float(scales, dtype, g, scale);
        mlxr_store_float(biases, dtype, g, bias);
    }
}

/* f rounded to a float type. MLX works in the type of the array throughout; a value over its scale lies on the same side
 * of every tie rounded or not, so that only the scale shows it. */
static float rounded(float f, mlxr_dtype dtype)
{
    float wide;
    mlxr_store_float(&wide, dtype, 0, f);
    return mlxr_load_float(&wide, dtype, 0);
}

/* To the nearest, ties to even; what is not below the largest, NaN too, is the largest. */
static uint8_t to_e4m3(float f)
{
    const uint8_t sign = signbit(f) ? 0x80 : 0;
    const float size = fabsf(f);
    int e;

    if (!(size < 448.0f)) return sign | 0x7e;
    if (size < 0x1p-6f) return sign | (uint8_t)rintf(size * 0x1p9f);
    frexpf(size, &e); /* size in [2^(e - 1), 2^e): 8 to 16 steps of 2^(e - 4) */
    return sign | (uint8_t)((e + 5) * 8 + (int)rintf(ldexpf(size, 4 - e)));
}

/* To the nearest, ties to the smaller; 0 has no sign. */
static uint8_t to_e2m1(float f)
{
    const float size = fabsf(f);
    uint8_t code = 0;

    while (code < 7 && size > (mlxr_e2m1[code] + mlxr_e2m1[code + 1]) / 2) code++;
    return code && signbit(f) ? code | 8 : code;
}

/* The least power of two that is not below f, which is not negative; 1 for 0. */
static uint8_t to_e8m0(float f)
{
    int e;

    if (f == 0) return 127;
    if (f > 0x1p127f) return 254;
    if (frexpf(f, &e) == 0.5f) e--;
    return e < -127 ? 0 : (uint8_t)(e + 127);
}

void mlxr_fp_quantize_row(const float *w, size_t n_cols, mlxr_quant quant, mlxr_dtype dtype, void *packed,
                          void *scales)
{
    uint8_t *codes = packed, *scale_codes = scales;

    for (size_t g = 0; g < n_cols / quant.group_size; g++, w += quant.group_size) {
        float most = 0, scale;
        for (size_t j = 0; j < quant.group_size; j++) {
            if (fabsf(w[j]) > most) most = fabsf(w[j]);
        }
        most = rounded(most / (quant.bits == 8 ? 448.0f : 6.0f), dtype);
        scale_codes[g] = quant.mode == MLXR_QUANT_NVFP4 ? to_e4m3(most) : to_e8m0(most);
        scale = quant.mode == MLXR_QUANT_NVFP4 ? mlxr_e4m3[scale_codes[g]] : mlxr_e8m0_to_f32(scale_codes[g]);
        for (size_t j = 0; j < quant.group_size; j += 8 / quant.bits) {
            if (quant.bits == 8) {
                *codes++ = to_e4m3(w[j] / scale);
            } else if (scale == 0) {
                *codes++ = 0;
            } else {
                *codes++ = (uint8_t)(to_e2m1(w[j] / scale) | to_e2m1(w[j + 1] / scale) << 4);
            }
        }
    }
}
