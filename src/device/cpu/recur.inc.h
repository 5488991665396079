/* The kernels of what moves on token by token within a sequence; see kernels.h. Included by recur_<isa>.c after its simd
 * header. */

/* The next V_W lanes, or the last ones. */
INLINE vf load_next(const float *p, size_t left)
{
    return left < V_W ? v_load_n(p, left) : v_load(p);
}

INLINE void store_next(float *p, vf v, size_t left)
{
    if (left < V_W) {
        v_store_n(p, v, left);
    } else {
        v_store(p, v);
    }
}

/* Tap j of a token is the input n_taps - j tokens before it. */
INLINE const float *tap_of(const mlxr_cpu_conv *a, size_t token, size_t j)
{
    size_t at = token + j;
    return at < a->n_taps ? a->taps + at * a->n_channels : a->x + (at - a->n_taps) * a->x_stride;
}

void EXPORTED(conv)(const mlxr_cpu_conv *a, size_t begin, size_t end)
{
    for (size_t t = 0; t < a->n_tokens; t++) {
        for (size_t c = begin; c < end; c += V_W) {
            size_t n = end - c;
            vf sum = v_set1(0.0f);
            for (size_t j = 0; j <= a->n_taps; j++) {
                sum = v_fma(load_next(a->w + j * a->n_channels + c, n), load_next(tap_of(a, t, j) + c, n),
                            sum);
            }
            if (a->bias) sum = sum + load_next(a->bias + c, n);
            store_next(a->y + t * a->y_stride + c, sum, n);
        }
    }
    /* The first n_taps inputs of a token after the last one; what is read has not been written yet. */
    for (size_t j = 0; j < a->n_taps; j++) {
        memmove(a->taps + j * a->n_channels + begin, tap_of(a, a->n_tokens, j) + begin,
                (end - begin) * sizeof *a->taps);
    }
}

/* n rows of the state through all tokens: they stay in the first cache. A row's sums have one order, whatever n. */
INLINE void delta_rows(const mlxr_cpu_delta *a, size_t row, unsigned n)
{
    const float *old = a->old + row * a->k_dim;
    float *state = a->state + row * a->k_dim;

    for (size_t t = 0; t < a->n_tokens; t++, old = state) {
        const float *q = a->q + t * a->q_stride, *k = a->k + t * a->k_stride;
        const float *v = a->v + t * a->v_stride + row;
        vf sum[4] = {v_set1(0.0f), v_set1(0.0f), v_set1(0.0f), v_set1(0.0f)}, decay = v_set1(a->decay[t]);
        float delta[4];

        for (size_t i = 0; i < a->k_dim; i += V_W) {
            size_t w = a->k_dim - i;
            vf x = load_next(k + i, w);
            UNROLL
            for (unsigned r = 0; r < n; r++) {
                vf s = load_next(old + r * a->k_dim + i, w) * decay;
                store_next(state + r * a->k_dim + i, s, w);
                sum[r] = v_fma(s, x, sum[r]);
            }
        }
        v4_store_n(delta, v_reduce4(sum[0], sum[1], sum[2], sum[3]), 4);
        UNROLL
        for (unsigned r = 0; r < n; r++) {
            delta[r] = (v[r] - delta[r]) * a->beta[t];
            sum[r] = v_set1(0.0f);
        }
        for (size_t i = 0; i < a->k_dim; i += V_W) {
            size_t w = a->k_dim - i;
            vf x = load_next(k + i, w), y = load_next(q + i, w);
            UNROLL
            for (unsigned r = 0; r < n; r++) {
                vf s = v_fma(x, v_set1(delta[r]), load_next(state + r * a->k_dim + i, w));
                store_next(state + r * a->k_dim + i, s, w);
                sum[r] = v_fma(s, y, sum[r]);
            }
        }
        v4_store_n(a->y + t * a->y_stride + row, v_reduce4(sum[0], sum[1], sum[2], sum[3]), n);
    }
}

void EXPORTED(delta)(const mlxr_cpu_delta *a)
{
    size_t row = 0;

    for (; row + 4 <= a->v_dim; row += 4) delta_rows(a, row, 4);
    for (; row < a->v_dim; row++) delta_rows(a, row, 1);
}
