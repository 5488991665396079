/* The bodies of the operations on one row; see kernels.h. Included by rows_<isa>.c after its simd header. */
#include "device/cpu/simd_math.h"

void EXPORTED(rms_norm)(float *y, const float *x, const float *w, size_t n, float eps)
{
    vf sum[4] = {v_set1(0.0f), v_set1(0.0f), v_set1(0.0f), v_set1(0.0f)}, all, scale;
    size_t i = 0;

    for (; i + 4 * V_W <= n; i += 4 * V_W) {
        UNROLL
        for (unsigned k = 0; k < 4; k++) {
            vf v = v_load(x + i + k * V_W);
            sum[k] = v_fma(v, v, sum[k]);
        }
    }
    for (; i < n; i += V_W) {
        vf v = n - i < V_W ? v_load_n(x + i, n - i) : v_load(x + i);
        sum[0] = v_fma(v, v, sum[0]);
    }
    all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    scale = v_set1(1.0f / sqrtf(v_reduce_add(all) / (float)n + eps));
    for (i = 0; i + V_W <= n; i += V_W) v_store(y + i, v_load(x + i) * scale * v_load(w + i));
    if (i < n) v_store_n(y + i, v_load_n(x + i, n - i) * scale * v_load_n(w + i, n - i), n - i);
}

/* y = x - mean; the sum of each y times itself, or times 1. */
INLINE float take_off(float *y, const float *x, float mean, size_t n, bool squared)
{
    vf sum = v_set1(0.0f), factor = v_set1(1.0f);

    for (size_t i = 0; i < n; i += V_W) {
        size_t left = min_size(V_W, n - i);
        vf v;
        v_store_n(y + i, v_load_n(x + i, left) - v_set1(mean), left);
        v = v_load_n(y + i, left); /* 0 behind the row */
        if (squared) factor = v;
        sum = v_fma(v, factor, sum);
    }
    return v_reduce_add(sum);
}

/* The squares are of differences, which are small. */
void EXPORTED(layer_norm)(float *y, const float *x, const float *w, const float *bias, size_t n, float eps)
{
    float mean = take_off(y, x, 0.0f, n, false) / (float)n;
    vf scale = v_set1(1.0f / sqrtf(take_off(y, y, mean, n, true) / (float)n + eps));

    for (size_t i = 0; i < n; i += V_W) {
        size_t left = min_size(V_W, n - i);
        vf v = v_load_n(y + i, left) * scale * v_load_n(w + i, left);
        if (bias) v = v + v_load_n(bias + i, left);
        v_store_n(y + i, v, left);
    }
}

void EXPORTED(rope)(float *x, size_t n_heads, size_t head_dim, size_t n_rot, mlxr_rope_pairing pairing,
                    const float *cos, const float *sin)
{
    size_t half = n_rot / 2;

    for (size_t h = 0; h < n_heads; h++, x += head_dim) {
        size_t i = 0;
        if (pairing == MLXR_ROPE_INTERLEAVED) {
            for (; i < half; i++) {
                float a = x[2 * i], b = x[2 * i + 1];
                x[2 * i] = a * cos[i] - b * sin[i];
                x[2 * i + 1] = b * cos[i] + a * sin[i];
            }
            continue;
        }
        for (; i < half; i += V_W) {
            size_t n = min_size(V_W, half - i);
            vf c = v_load_n(cos + i, n), s = v_load_n(sin + i, n);
            vf a = v_load_n(x + i, n), b = v_load_n(x + half + i, n);
            v_store_n(x + i, a * c - b * s, n);
            v_store_n(x + half + i, b * c + a * s, n);
        }
    }
}

INLINE void act_mul(float *y, const float *a, const float *b, size_t n, mlxr_act act, const mlxr_cpu_act *how)
{
    const vf ones = v_set1(1.0f), first = v_set1(*a);
    const bool one = how->a_is_one;
    size_t i = 0;

    for (; i + V_W <= n; i += V_W) {
        v_store(y + i,
                v_gated(act, one ? first : v_load(a + i), b ? v_load(b + i) : ones, how->alpha, how->limit));
    }
    if (i < n) {
        v_store_n(y + i,
                  v_gated(act, one ? first : v_load_n(a + i, n - i), b ? v_load_n(b + i, n - i) : ones,
                          how->alpha, how->limit),
                  n - i);
    }
}

void EXPORTED(act_mul)(float *y, const float *a, const float *b, size_t n, mlxr_cpu_act how)
{
    switch (how.act) {
    case MLXR_ACT_NONE: act_mul(y, a, b, n, MLXR_ACT_NONE, &how); break;
    case MLXR_ACT_SILU: act_mul(y, a, b, n, MLXR_ACT_SILU, &how); break;
    case MLXR_ACT_GELU: act_mul(y, a, b, n, MLXR_ACT_GELU, &how); break;
    case MLXR_ACT_GELU_TANH: act_mul(y, a, b, n, MLXR_ACT_GELU_TANH, &how); break;
    case MLXR_ACT_SIGMOID: act_mul(y, a, b, n, MLXR_ACT_SIGMOID, &how); break;
    case MLXR_ACT_SWIGLU_OAI: act_mul(y, a, b, n, MLXR_ACT_SWIGLU_OAI, &how); break;
    }
}

void EXPORTED(softcap)(float *y, const float *a, float cap, size_t n)
{
    size_t i = 0;
    for (; i + V_W <= n; i += V_W) v_store(y + i, v_tanh(v_load(a + i) / v_set1(cap)) * v_set1(cap));
    if (i < n) v_store_n(y + i, v_tanh(v_load_n(a + i, n - i) / v_set1(cap)) * v_set1(cap), n - i);
}

void EXPORTED(add)(float *y, const float *a, const float *b, size_t n)
{
    size_t i = 0;
    for (; i + V_W <= n; i += V_W) v_store(y + i, v_load(a + i) + v_load(b + i));
    if (i < n) v_store_n(y + i, v_load_n(a + i, n - i) + v_load_n(b + i, n - i), n - i);
}

void EXPORTED(scale)(float *y, const float *a, float factor, size_t n)
{
    size_t i = 0;
    for (; i + V_W <= n; i += V_W) v_store(y + i, v_load(a + i) * v_set1(factor));
    if (i < n) v_store_n(y + i, v_load_n(a + i, n - i) * v_set1(factor), n - i);
}

INLINE vf mixed(const float *const *x, const uint32_t *which, const float *w, size_t k, size_t i, size_t n)
{
    vf sum = v_set1(0.0f);
    for (size_t j = 0; j < k; j++) {
        const float *from = x[which[j]] + i;
        sum = v_fma(v_set1(w[j]), n < V_W ? v_load_n(from, n) : v_load(from), sum);
    }
    return sum;
}

void EXPORTED(mix)(float *y, const float *const *x, const uint32_t *which, const float *w, size_t k, size_t n)
{
    size_t i = 0;
    for (; i + V_W <= n; i += V_W) v_store(y + i, mixed(x, which, w, k, i, V_W));
    if (i < n) v_store_n(y + i, mixed(x, which, w, k, i, n - i), n - i);
}

/* Floats in the order of their values as integers; 0 and -0 are one. Plain loops over integers, which compilers turn into
 * vectors of any instruction set. */
INLINE int32_t float_key(float x)
{
    int32_t bits;
    x += 0.0f;
    memcpy(&bits, &x, sizeof bits);
    return bits ^ (bits < 0 ? INT32_MAX : 0);
}

int32_t EXPORTED(likeliest)(const float *x, size_t n)
{
    enum { RUN = 1024 };
    const int32_t infinite = 0x7f800000;
    int32_t best = INT32_MIN, most = 0;
    size_t first = 0;

    for (size_t at = 0; at < n; at += RUN) {
        size_t end = min_size(n, at + RUN);
        int32_t key = INT32_MIN, magnitude = 0;
        for (size_t i = at; i < end; i++) {
            int32_t k = float_key(x[i]), bits;
            memcpy(&bits, &x[i], sizeof bits);
            bits &= INT32_MAX;
            key = k > key ? k : key;
            magnitude = bits > magnitude ? bits : magnitude;
        }
        if (key > best) {
            best = key;
            first = at;
        }
        most = magnitude > most ? magnitude : most;
    }
    if (most > infinite || best >= infinite || best <= float_key(-INFINITY)) return -1;
    while (float_key(x[first]) != best) first++;
    return (int32_t)first;
}
