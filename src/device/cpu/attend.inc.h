/* The attention kernel's body; see kernels.h for what it computes. Included by attend_<isa>.c after its simd header.
 *
 * Softmax runs online over spans of MLXR_CPU_SPAN absolute positions (Milakov, arXiv 1805.02867; the tiling is that
 * of FlashAttention, arXiv 2205.14135): per span scores, their maximum, exp and sum, values. Queries share the
 * loads of keys and values, but what happens to one query is a function of its own range: its score of a position
 * is one chain over k_dim, its sum adds whole vectors from the span's start, its values come position by position.
 * So a query has the same bits alone and among others. */

#include "device/cpu/simd_math.h"

enum { QUERIES = 4 }; /* that share a load */

/* scores[j][0 .. 2 V_W) of n queries for the positions from `at` in one block; keys [k_dim, MLXR_KV_BLOCK]. */
INLINE void score_tile(const mlxr_cpu_attend *a, unsigned n, size_t i_query, const float *keys, float *scores)
{
    vf acc[QUERIES][2];

    UNROLL
    for (unsigned j = 0; j < n; j++) acc[j][0] = acc[j][1] = v_set1(0.0f);
    for (size_t d = 0; d < a->k_dim; d++) {
        vf k0 = v_load(keys + d * MLXR_KV_BLOCK), k1 = v_load(keys + d * MLXR_KV_BLOCK + V_W);
        UNROLL
        for (unsigned j = 0; j < n; j++) {
            vf q = v_set1(a->q[i_query + j][d]);
            acc[j][0] = v_fma(q, k0, acc[j][0]);
            acc[j][1] = v_fma(q, k1, acc[j][1]);
        }
    }
    UNROLL
    for (unsigned j = 0; j < n; j++) {
        v_store(scores + j * MLXR_CPU_SPAN, acc[j][0]);
        v_store(scores + j * MLXR_CPU_SPAN + V_W, acc[j][1]);
    }
}

/* acc[j][0 .. n_vec V_W) += sum over p in [lo, hi) of weights[j][p] * V[p], p counted from the span's start. */
INLINE void value_tile(const mlxr_cpu_attend *a, unsigned n, unsigned n_vec, const uint32_t *blocks,
                       size_t lo, size_t hi, size_t column, const float *weights, float *acc)
{
    vf sum[QUERIES][4];

    UNROLL
    for (unsigned j = 0; j < n; j++) {
        UNROLL
        for (unsigned v = 0; v < n_vec; v++) {
            sum[j][v] = v_load(acc + j * a->v_stride + column + v * V_W);
        }
    }
    for (size_t p = lo; p < hi;) {
        size_t stop = min_size(hi, p / MLXR_KV_BLOCK * MLXR_KV_BLOCK + MLXR_KV_BLOCK);
        const float *values = a->kv + blocks[p / MLXR_KV_BLOCK] * a->block_floats + a->v_offset + column;
        for (; p < stop; p++) {
            const float *row = values + p % MLXR_KV_BLOCK * a->v_stride;
            vf x[4];
            UNROLL
            for (unsigned v = 0; v < n_vec; v++) x[v] = v_load(row + v * V_W);
            UNROLL
            for (unsigned j = 0; j < n; j++) {
                vf w = v_set1(weights[j * MLXR_CPU_SPAN + p]);
                UNROLL
                for (unsigned v = 0; v < n_vec; v++) sum[j][v] = v_fma(w, x[v], sum[j][v]);
            }
        }
    }
    UNROLL
    for (unsigned j = 0; j < n; j++) {
        UNROLL
        for (unsigned v = 0; v < n_vec; v++) {
            v_store(acc + j * a->v_stride + column + v * V_W, sum[j][v]);
        }
    }
}

INLINE void value_columns(const mlxr_cpu_attend *a, unsigned n, const uint32_t *blocks, size_t lo, size_t hi,
                          const float *weights, float *acc)
{
    size_t c = 0;
    if (lo >= hi) return;
    for (; c + 4 * V_W <= a->v_stride; c += 4 * V_W) value_tile(a, n, 4, blocks, lo, hi, c, weights, acc);
    for (; c < a->v_stride; c += V_W) value_tile(a, n, 1, blocks, lo, hi, c, weights, acc);
}

/* The part of a span that a query sees, from the span's start. lo >= hi: nothing. */
typedef struct range {
    size_t lo, hi;
} range;

static void span_scores(const mlxr_cpu_attend *a, size_t span, const range *r, float *scores)
{
    const uint32_t *blocks = a->blocks + span / MLXR_KV_BLOCK;

    for (size_t i = 0; i < a->n_queries; i += QUERIES) {
        size_t n = min_size(QUERIES, a->n_queries - i), lo = MLXR_CPU_SPAN, hi = 0;
        for (size_t j = i; j < i + n; j++) {
            if (r[j].lo >= r[j].hi) continue;
            lo = min_size(lo, r[j].lo);
            hi = max_size(hi, r[j].hi);
        }
        for (size_t p = lo / (2 * V_W) * (2 * V_W); p < hi; p += 2 * V_W) {
            const float *keys = a->kv + blocks[p / MLXR_KV_BLOCK] * a->block_floats + a->k_offset +
                                p % MLXR_KV_BLOCK;
            float *out = scores + i * MLXR_CPU_SPAN + p;
            switch (n) {
            case 1: score_tile(a, 1, i, keys, out); break;
            case 2: score_tile(a, 2, i, keys, out); break;
            case 3: score_tile(a, 3, i, keys, out); break;
            default: score_tile(a, 4, i, keys, out); break;
            }
        }
    }
}

static void span_values(const mlxr_cpu_attend *a, size_t span, const range *r, const float *weights,
                        float *acc)
{
    const uint32_t *blocks = a->blocks + span / MLXR_KV_BLOCK;

    for (size_t i = 0; i < a->n_queries; i += QUERIES) {
        size_t n = min_size(QUERIES, a->n_queries - i), lo = 0, hi = MLXR_CPU_SPAN;
        for (size_t j = i; j < i + n; j++) { /* what all of them see */
            lo = max_size(lo, r[j].lo);
            hi = min_size(hi, r[j].hi);
        }
        if (lo > hi) lo = hi; /* none: each on its own, whole; lo <= every r[j].hi either way */
        for (size_t j = i; j < i + n; j++) {
            value_columns(a, 1, blocks, r[j].lo, lo, weights + j * MLXR_CPU_SPAN, acc + j * a->v_stride);
        }
        switch (n) {
        case 1:
            value_columns(a, 1, blocks, lo, hi, weights + i * MLXR_CPU_SPAN, acc + i * a->v_stride);
            break;
        case 2:
            value_columns(a, 2, blocks, lo, hi, weights + i * MLXR_CPU_SPAN, acc + i * a->v_stride);
            break;
        case 3:
            value_columns(a, 3, blocks, lo, hi, weights + i * MLXR_CPU_SPAN, acc + i * a->v_stride);
            break;
        default:
            value_columns(a, 4, blocks, lo, hi, weights + i * MLXR_CPU_SPAN, acc + i * a->v_stride);
            break;
        }
        for (size_t j = i; j < i + n; j++) {
            value_columns(a, 1, blocks, max_size(hi, r[j].lo), r[j].hi, weights + j * MLXR_CPU_SPAN,
                          acc + j * a->v_stride);
        }
    }
}

/* Products [lo, hi) of one query to weights exp(score - max), in place; the running maximum, sum and acc follow.
 * Lanes outside get the score -inf. */
static void span_softmax(float *s, range r, float scale, float cap, float *max, float *sum, float *acc,
                         size_t n_acc)
{
    size_t from = r.lo / V_W * V_W, to = mlxr_round_up(r.hi, V_W);
    vf most = v_set1(-INFINITY), part = v_set1(0.0f), v_most;
    float new_max, shrink;

    for (size_t p = from; p < to; p += V_W) {
        vf score = v_load(s + p) * v_set1(scale);
        if (cap > 0) score = v_tanh(score / v_set1(cap)) * v_set1(cap);
        v_store(s + p, score);
    }
    for (size_t p = from; p < r.lo; p++) s[p] = -INFINITY;
    for (size_t p = r.hi; p < to; p++) s[p] = -INFINITY;
    for (size_t p = from; p < to; p += V_W) most = v_max(v_load(s + p), most);
    new_max = v_reduce_max(most);
    if (new_max < *max) new_max = *max;
    shrink = expf(*max - new_max); /* exp(-inf) = 0 in the first span */
    v_most = v_set1(new_max);
    for (size_t p = from; p < to; p += V_W) {
        vf e = v_exp(v_load(s + p) - v_most);
        v_store(s + p, e);
        part = part + e;
    }
    *sum = *sum * shrink + v_reduce_add(part);
    *max = new_max;
    if (shrink != 1.0f) {
        for (size_t c = 0; c < n_acc; c += V_W) v_store(acc + c, v_load(acc + c) * v_set1(shrink));
    }
}

void EXPORTED(attend)(const mlxr_cpu_attend *a, float *scratch)
{
    float *scores = scratch, *acc = scratch + MLXR_CPU_QUERIES * MLXR_CPU_SPAN;
    float max[MLXR_CPU_QUERIES], sum[MLXR_CPU_QUERIES];
    size_t begin = SIZE_MAX, end = 0;

    for (size_t i = 0; i < a->n_queries; i++) {
        begin = min_size(begin, a->first[i]);
        end = max_size(end, a->limit[i]);
        /* A sink is a score that came before all others. */
        max[i] = a->sink[i];
        sum[i] = a->sink[i] == -INFINITY ? 0.0f : 1.0f;
    }
    memset(acc, 0, a->n_queries * a->v_stride * sizeof *acc);
    for (size_t span = begin / MLXR_CPU_SPAN * MLXR_CPU_SPAN; span < end; span += MLXR_CPU_SPAN) {
        range r[MLXR_CPU_QUERIES];
        for (size_t i = 0; i < a->n_queries; i++) {
            size_t lo = max_size(a->first[i], span), hi = min_size(a->limit[i], span + MLXR_CPU_SPAN);
            r[i] = lo < hi ? (range){lo - span, hi - span} : (range){0, 0};
        }
        span_scores(a, span, r, scores);
        for (size_t i = 0; i < a->n_queries; i++) {
            if (r[i].lo < r[i].hi) {
                span_softmax(scores + i * MLXR_CPU_SPAN, r[i], a->scale[i], a->cap, &max[i], &sum[i],
                             acc + i * a->v_stride, a->v_stride);
            }
        }
        span_values(a, span, r, scores, acc);
    }
    for (size_t i = 0; i < a->n_queries; i++) {
        float *out = a->out[i], *from = acc + i * a->v_stride;
        for (size_t c = 0; c < a->v_dim; c++) out[c] = from[c] / sum[i];
    }
}
