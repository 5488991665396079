/* The attention kernels' bodies; see kernels.h for what they compute. Included by attend_<isa>.c after its simd header.
 *
 * Each span of MLXR_CPU_SPAN absolute positions has a softmax of its own; the spans' sums are then brought to a
 * common maximum (Milakov, arXiv 1805.02867; the tiling is that of FlashAttention, arXiv 2205.14135, the parts are
 * those of Flash-Decoding). What happens to one query is a function of its own range: its score of a position is one
 * chain over k_dim, its sum adds whole vectors from the span's start, its values come position by position. So a
 * query has the same bits alone and among others.
 *
 * Up to FEW queries read keys and values as they are stored, which converts an element once for all of them: memory
 * is the limit. For more, a block is turned to floats once, and queries are taken MANY at a time, as many as the
 * registers hold: arithmetic is. */

#include "device/cpu/simd_math.h"
#include "device/kv.h"

enum {
    FEW = 4,
    MANY = V_W == 16  ? 12
           : V_W == 8 ? 6
                      : 4,
    COLUMNS = V_W == 16 ? 4 : 2, /* vectors of values that few queries sum at once */
    AHEAD = 3, /* pieces of keys or of values, a block each, that are fetched before their turn */
};

/* The compiler makes a body for each type. */
INLINE vf kv_load(mlxr_kv_type type, const uint8_t *p)
{
    switch (type) {
    case MLXR_KV_F16: return v_from_f16(p);
    case MLXR_KV_INT8: return v_from_i8(p);
    default: return v_load((const float *)(const void *)p);
    }
}

INLINE size_t kv_size(mlxr_kv_type type)
{
    return type == MLXR_KV_F16 ? 2 : type == MLXR_KV_INT8 ? 1 : 4;
}

/* A call's scratch. */
typedef struct work {
    float *scores;                                        /* [n_queries, MLXR_CPU_SPAN], then weights */
    float *acc;                                           /* [n_queries, v_stride] of the span at hand */
    float *sum;                                           /* [n_queries, v_stride] of all spans before */
    float *q;                                             /* of many queries: groups [k_dim, n] */
    float *keys;                                          /* [k_dim, MLXR_KV_BLOCK] */
    float *values;                                        /* [MLXR_KV_BLOCK, v_stride] */
    float max[MLXR_CPU_QUERIES], total[MLXR_CPU_QUERIES]; /* of the span */
} work;

static void work_init(work *w, const mlxr_cpu_attend *a, float *scratch)
{
    const size_t Q = MLXR_CPU_QUERIES;

    w->scores = scratch;
    w->keys = w->scores + Q * MLXR_CPU_SPAN;
    w->values = w->keys + a->kv->k_dim * MLXR_KV_BLOCK;
    w->acc = w->values + a->kv->v_stride * MLXR_KV_BLOCK;
    w->sum = w->acc + Q * a->kv->v_stride;
    w->q = w->sum + Q * a->kv->v_stride;
}

/* The part of a span that a query sees, from the span's start. lo >= hi: nothing. */
typedef struct range {
    size_t lo, hi;
} range;

/* What n queries see, together. */
static range union_of(const range *r, size_t n)
{
    range u = {MLXR_CPU_SPAN, 0};

    for (size_t j = 0; j < n; j++) {
        if (r[j].lo >= r[j].hi) continue;
        u.lo = min_size(u.lo, r[j].lo);
        u.hi = max_size(u.hi, r[j].hi);
    }
    return u;
}

/* What all of them see. None: lo = hi, not above any r[j].hi. */
static range common_of(const range *r, size_t n)
{
    range c = {0, MLXR_CPU_SPAN};

    for (size_t j = 0; j < n; j++) {
        c.lo = max_size(c.lo, r[j].lo);
        c.hi = min_size(c.hi, r[j].hi);
    }
    if (c.lo > c.hi) c.lo = c.hi;
    return c;
}

/* The head in the block of position p of the span. */
INLINE const uint8_t *head_at(const mlxr_cpu_attend *a, size_t span, size_t p)
{
    return a->heads + a->blocks[(span + p) / MLXR_KV_BLOCK] * a->block_bytes;
}

/* Piece i of a span: the keys of its blocks from that of lo to that of hi - 1, then their values, then the keys of the
 * next span. Blocks lie far apart, so that the hardware knows nothing of the next one until it is read. NULL: none. */
INLINE const uint8_t *piece(const mlxr_cpu_attend *a, size_t span, range r, size_t i)
{
    size_t first = r.lo / MLXR_KV_BLOCK, n = (r.hi + MLXR_KV_BLOCK - 1) / MLXR_KV_BLOCK - first;

    if (i < n) return head_at(a, span, (first + i) * MLXR_KV_BLOCK);
    if (i < 2 * n) return head_at(a, span, (first + i - n) * MLXR_KV_BLOCK) + a->kv->v_at;
    i = (first + i - n) * MLXR_KV_BLOCK;
    return span + i < a->limit[a->n_queries - 1] ? head_at(a, span, i) : NULL;
}

INLINE size_t piece_bytes(const mlxr_cpu_attend *a, mlxr_kv_type type)
{
    return max_size(a->kv->k_dim, a->kv->v_stride) * MLXR_KV_BLOCK * kv_size(type);
}

/* All of a piece, at once. */
INLINE void fetch(const mlxr_cpu_attend *a, mlxr_kv_type type, size_t span, range r, size_t i)
{
    const uint8_t *p = piece(a, span, r, i);

    for (size_t at = 0; p && at < piece_bytes(a, type); at += 64) __builtin_prefetch(p + at);
}

/* Lines of a piece between the sums of another: at once they would fill what the core keeps of loads under way, and
 * the sums would wait for them. */
INLINE void fetch_lines(const uint8_t *p, size_t n_bytes)
{
    UNROLL
    for (size_t at = 0; at < n_bytes; at += 64) __builtin_prefetch(p + at);
}

/* The scales of a block, which lie behind its values. */
INLINE void fetch_scales(const mlxr_cpu_attend *a, mlxr_kv_type type, size_t span, size_t p, size_t limit)
{
    if (type == MLXR_KV_INT8 && p < limit) fetch_lines(head_at(a, span, p) + a->kv->k_scales_at, 256);
}

/* ---- few queries ---- */

/* scores[j][0 .. 2 V_W) of n queries for the positions from `at` in a block. */
INLINE void score_few(const mlxr_cpu_attend *a, mlxr_kv_type type, unsigned n, const uint8_t *head, size_t at,
                      const uint8_t *ahead, float *scores)
{
    const size_t size = kv_size(type);
    const uint8_t *keys = head + at * size;
    vf acc[FEW][2];

    UNROLL
    for (unsigned j = 0; j < n; j++) acc[j][0] = acc[j][1] = v_set1(0.0f);
    for (size_t d = 0; d < a->kv->k_dim; d++, keys += MLXR_KV_BLOCK * size) {
        vf k0 = kv_load(type, keys), k1 = kv_load(type, keys + V_W * size);
        fetch_lines(ahead, 2 * V_W * size);
        ahead += 2 * V_W * size;
        UNROLL
        for (unsigned j = 0; j < n; j++) {
            vf q = v_set1(a->q[j][d]);
            acc[j][0] = v_fma(q, k0, acc[j][0]);
            acc[j][1] = v_fma(q, k1, acc[j][1]);
        }
    }
    if (type == MLXR_KV_INT8) {
        const float *scales = (const float *)(const void *)(head + a->kv->k_scales_at) + at;
        vf s0 = v_load(scales), s1 = v_load(scales + V_W);
        UNROLL
        for (unsigned j = 0; j < n; j++) {
            acc[j][0] = acc[j][0] * s0;
            acc[j][1] = acc[j][1] * s1;
        }
    }
    UNROLL
    for (unsigned j = 0; j < n; j++) {
        v_store(scores + j * MLXR_CPU_SPAN, acc[j][0]);
        v_store(scores + j * MLXR_CPU_SPAN + V_W, acc[j][1]);
    }
}

INLINE void scores_of_few(const mlxr_cpu_attend *a, mlxr_kv_type type, size_t span, range u, float *scores)
{
    size_t i_piece = 0;

    for (size_t b = u.lo / MLXR_KV_BLOCK * MLXR_KV_BLOCK; b < u.hi; b += MLXR_KV_BLOCK, i_piece++) {
        const uint8_t *head = head_at(a, span, b), *ahead = piece(a, span, u, i_piece + AHEAD);
        fetch_scales(a, type, span, b + AHEAD * MLXR_KV_BLOCK, u.hi);
        if (!ahead) ahead = head;
        for (size_t at = 0; at < MLXR_KV_BLOCK; at += 2 * V_W) {
            if (b + at + 2 * V_W <= u.lo || b + at >= u.hi) continue;
            switch (a->n_queries) {
            case 1: score_few(a, type, 1, head, at, ahead, scores + b + at); break;
            case 2: score_few(a, type, 2, head, at, ahead, scores + b + at); break;
            case 3: score_few(a, type, 3, head, at, ahead, scores + b + at); break;
            default: score_few(a, type, 4, head, at, ahead, scores + b + at); break;
            }
            ahead += a->kv->k_dim * 2 * V_W * kv_size(type);
        }
    }
}

/* acc[j][column .. column + n_vec V_W) += sum over p in [lo, hi), of one block, of weights[j][p] * V[p]. */
INLINE void value_few(const mlxr_cpu_attend *a, mlxr_kv_type type, unsigned n, unsigned n_vec,
                      const uint8_t *head, const uint8_t *ahead, size_t lo, size_t hi, size_t column,
                      const float *weights, float *acc)
{
    const size_t size = kv_size(type), stride = a->kv->v_stride;
    const size_t first = (lo % MLXR_KV_BLOCK * stride + column) * size;
    const uint8_t *row = head + a->kv->v_at + first;
    vf sum[FEW][COLUMNS];

    UNROLL
    for (unsigned j = 0; j < n; j++) {
        UNROLL
        for (unsigned v = 0; v < n_vec; v++) sum[j][v] = v_load(acc + j * stride + column + v * V_W);
    }
    ahead += first;
    for (size_t p = lo; p < hi; p++, row += stride * size, ahead += stride * size) {
        vf x[COLUMNS];
        fetch_lines(ahead, n_vec * V_W * size);
        UNROLL
        for (unsigned v = 0; v < n_vec; v++) x[v] = kv_load(type, row + v * V_W * size);
        UNROLL
        for (unsigned j = 0; j < n; j++) {
            vf w = v_set1(weights[j * MLXR_CPU_SPAN + p]);
            UNROLL
            for (unsigned v = 0; v < n_vec; v++) sum[j][v] = v_fma(w, x[v], sum[j][v]);
        }
    }
    UNROLL
    for (unsigned j = 0; j < n; j++) {
        UNROLL
        for (unsigned v = 0; v < n_vec; v++) v_store(acc + j * stride + column + v * V_W, sum[j][v]);
    }
}

INLINE void value_columns(const mlxr_cpu_attend *a, mlxr_kv_type type, unsigned n, const uint8_t *head,
                          const uint8_t *ahead, size_t lo, size_t hi, const float *weights, float *acc)
{
    size_t c = 0;

    for (; c + COLUMNS * V_W <= a->kv->v_stride; c += COLUMNS * V_W) {
        value_few(a, type, n, COLUMNS, head, ahead, lo, hi, c, weights, acc);
    }
    for (; c < a->kv->v_stride; c += V_W) value_few(a, type, n, 1, head, ahead, lo, hi, c, weights, acc);
}

/* Positions [lo, hi) of one query alone. */
INLINE void values_of_one(const mlxr_cpu_attend *a, mlxr_kv_type type, size_t span, size_t lo, size_t hi,
                          const float *weights, float *acc)
{
    while (lo < hi) {
        size_t stop = min_size(hi, lo / MLXR_KV_BLOCK * MLXR_KV_BLOCK + MLXR_KV_BLOCK);
        const uint8_t *head = head_at(a, span, lo);
        value_columns(a, type, 1, head, head + a->kv->v_at, lo, stop, weights, acc);
        lo = stop;
    }
}

INLINE void values_of_few(const mlxr_cpu_attend *a, mlxr_kv_type type, size_t span, range u, const range *r,
                          const float *weights, float *acc)
{
    const size_t n = a->n_queries, stride = a->kv->v_stride;
    range c = common_of(r, n);
    size_t i_piece = (u.hi + MLXR_KV_BLOCK - 1) / MLXR_KV_BLOCK - u.lo / MLXR_KV_BLOCK;

    for (size_t j = 0; j < n; j++) {
        values_of_one(a, type, span, r[j].lo, c.lo, weights + j * MLXR_CPU_SPAN, acc + j * stride);
    }
    for (size_t p = c.lo; p < c.hi; i_piece++) {
        size_t stop = min_size(c.hi, p / MLXR_KV_BLOCK * MLXR_KV_BLOCK + MLXR_KV_BLOCK);
        const uint8_t *head = head_at(a, span, p), *ahead = piece(a, span, u, i_piece + AHEAD);
        if (!ahead) ahead = head + a->kv->v_at;
        switch (n) {
        case 1: value_columns(a, type, 1, head, ahead, p, stop, weights, acc); break;
        case 2: value_columns(a, type, 2, head, ahead, p, stop, weights, acc); break;
        case 3: value_columns(a, type, 3, head, ahead, p, stop, weights, acc); break;
        default: value_columns(a, type, 4, head, ahead, p, stop, weights, acc); break;
        }
        p = stop;
    }
    for (size_t j = 0; j < n; j++) {
        values_of_one(a, type, span, max_size(c.hi, r[j].lo), r[j].hi, weights + j * MLXR_CPU_SPAN,
                      acc + j * stride);
    }
}

/* ---- many queries, in groups ---- */

INLINE size_t group_size(size_t left)
{
    if (MANY >= 12 && left >= 12) return 12;
    if (MANY >= 6 && left >= 6) return 6;
    return left < 4 ? left : 4;
}

static void pack_queries(const mlxr_cpu_attend *a, float *out)
{
    for (size_t i = 0, n; i < a->n_queries; i += n) {
        n = group_size(a->n_queries - i);
        for (size_t j = 0; j < n; j++) {
            for (size_t d = 0; d < a->kv->k_dim; d++) out[d * n + j] = a->q[i + j][d];
        }
        out += n * a->kv->k_dim;
    }
}

/* As score_few, from floats: keys [k_dim, MLXR_KV_BLOCK] from the position on, q [k_dim, n]. scales may be NULL. */
INLINE void score_many(unsigned n, size_t k_dim, const float *keys, const float *q, const float *scales,
                       float *scores)
{
    vf acc[MANY][2];

    UNROLL
    for (unsigned j = 0; j < n; j++) acc[j][0] = acc[j][1] = v_set1(0.0f);
    for (size_t d = 0; d < k_dim; d++) {
        vf k0 = v_load(keys + d * MLXR_KV_BLOCK), k1 = v_load(keys + d * MLXR_KV_BLOCK + V_W);
        UNROLL
        for (unsigned j = 0; j < n; j++) {
            vf x = v_set1(q[d * n + j]);
            acc[j][0] = v_fma(x, k0, acc[j][0]);
            acc[j][1] = v_fma(x, k1, acc[j][1]);
        }
    }
    if (scales) {
        vf s0 = v_load(scales), s1 = v_load(scales + V_W);
        UNROLL
        for (unsigned j = 0; j < n; j++) {
            acc[j][0] = acc[j][0] * s0;
            acc[j][1] = acc[j][1] * s1;
        }
    }
    UNROLL
    for (unsigned j = 0; j < n; j++) {
        v_store(scores + j * MLXR_CPU_SPAN, acc[j][0]);
        v_store(scores + j * MLXR_CPU_SPAN + V_W, acc[j][1]);
    }
}

/* n elements, a multiple of V_W, as floats; as they are where they are floats already. */
INLINE const float *as_floats(mlxr_kv_type type, float *room, const uint8_t *p, size_t n)
{
    if (type == MLXR_KV_F32) return (const float *)(const void *)p;
    for (size_t i = 0; i < n; i += V_W) v_store(room + i, kv_load(type, p + i * kv_size(type)));
    return room;
}

INLINE void scores_of_many(const mlxr_cpu_attend *a, mlxr_kv_type type, size_t span, range u, const range *r,
                           const work *w)
{
    const size_t k_dim = a->kv->k_dim;
    size_t i_piece = 0;

    for (size_t b = u.lo / MLXR_KV_BLOCK * MLXR_KV_BLOCK; b < u.hi; b += MLXR_KV_BLOCK, i_piece++) {
        const uint8_t *head = head_at(a, span, b);
        const float *keys = as_floats(type, w->keys, head, k_dim * MLXR_KV_BLOCK), *q = w->q;
        const float *scales = type == MLXR_KV_INT8 ? (const float *)(const void *)(head + a->kv->k_scales_at)
                                                   : NULL;
        fetch(a, type, span, u, i_piece + AHEAD);
        for (size_t i = 0, n; i < a->n_queries; i += n, q += n * k_dim) {
            range g;
            n = group_size(a->n_queries - i);
            g = union_of(r + i, n);
            for (size_t at = 0; at < MLXR_KV_BLOCK; at += 2 * V_W) {
                float *out = w->scores + i * MLXR_CPU_SPAN + b + at;
                const float *s = scales ? scales + at : NULL;
                if (b + at + 2 * V_W <= g.lo || b + at >= g.hi) continue;
                switch (n) {
                case 1: score_many(1, k_dim, keys + at, q, s, out); break;
                case 2: score_many(2, k_dim, keys + at, q, s, out); break;
                case 3: score_many(3, k_dim, keys + at, q, s, out); break;
                case 4: score_many(4, k_dim, keys + at, q, s, out); break;
                case 6: score_many(MANY >= 6 ? 6 : MANY, k_dim, keys + at, q, s, out); break;
                default: score_many(MANY, k_dim, keys + at, q, s, out); break;
                }
            }
        }
    }
}

/* acc[j][0 .. n_vec V_W) += sum over p < n_positions of weights[j][p] * V[p], from floats. */
INLINE void value_many(unsigned n, unsigned n_vec, size_t n_positions, const float *values, size_t stride,
                       const float *weights, float *acc)
{
    vf sum[MANY][2];

    UNROLL
    for (unsigned j = 0; j < n; j++) {
        UNROLL
        for (unsigned v = 0; v < n_vec; v++) sum[j][v] = v_load(acc + j * stride + v * V_W);
    }
    for (size_t p = 0; p < n_positions; p++) {
        vf x[2];
        UNROLL
        for (unsigned v = 0; v < n_vec; v++) x[v] = v_load(values + p * stride + v * V_W);
        UNROLL
        for (unsigned j = 0; j < n; j++) {
            vf w = v_set1(weights[j * MLXR_CPU_SPAN + p]);
            UNROLL
            for (unsigned v = 0; v < n_vec; v++) sum[j][v] = v_fma(w, x[v], sum[j][v]);
        }
    }
    UNROLL
    for (unsigned j = 0; j < n; j++) {
        UNROLL
        for (unsigned v = 0; v < n_vec; v++) v_store(acc + j * stride + v * V_W, sum[j][v]);
    }
}

INLINE void value_many_columns(unsigned n, size_t n_positions, const float *values, size_t stride,
                               const float *weights, float *acc)
{
    size_t c = 0;

    for (; c + 2 * V_W <= stride; c += 2 * V_W) {
        value_many(n, 2, n_positions, values + c, stride, weights, acc + c);
    }
    for (; c < stride; c += V_W) value_many(n, 1, n_positions, values + c, stride, weights, acc + c);
}

INLINE void values_of_many(const mlxr_cpu_attend *a, mlxr_kv_type type, size_t span, range u, const range *r,
                           const work *w)
{
    const size_t stride = a->kv->v_stride;
    range common[MLXR_CPU_QUERIES];
    size_t i_piece = (u.hi + MLXR_KV_BLOCK - 1) / MLXR_KV_BLOCK - u.lo / MLXR_KV_BLOCK;

    for (size_t i = 0, n; i < a->n_queries; i += n) {
        n = group_size(a->n_queries - i);
        common[i] = common_of(r + i, n);
        for (size_t j = i; j < i + n; j++) {
            values_of_one(a, type, span, r[j].lo, common[i].lo, w->scores + j * MLXR_CPU_SPAN,
                          w->acc + j * stride);
        }
    }
    for (size_t b = u.lo / MLXR_KV_BLOCK * MLXR_KV_BLOCK; b < u.hi; b += MLXR_KV_BLOCK, i_piece++) {
        const float *values = as_floats(type, w->values, head_at(a, span, b) + a->kv->v_at,
                                        min_size(u.hi - b, MLXR_KV_BLOCK) * stride);
        fetch(a, type, span, u, i_piece + AHEAD);
        for (size_t i = 0, n; i < a->n_queries; i += n) {
            size_t lo = max_size(b, common[i].lo), hi = min_size(b + MLXR_KV_BLOCK, common[i].hi);
            const float *from, *weights;
            float *acc = w->acc + i * stride;
            n = group_size(a->n_queries - i);
            if (lo >= hi) continue;
            from = values + (lo - b) * stride;
            weights = w->scores + i * MLXR_CPU_SPAN + lo;
            switch (n) {
            case 1: value_many_columns(1, hi - lo, from, stride, weights, acc); break;
            case 2: value_many_columns(2, hi - lo, from, stride, weights, acc); break;
            case 3: value_many_columns(3, hi - lo, from, stride, weights, acc); break;
            case 4: value_many_columns(4, hi - lo, from, stride, weights, acc); break;
            case 6: value_many_columns(MANY >= 6 ? 6 : MANY, hi - lo, from, stride, weights, acc); break;
            default: value_many_columns(MANY, hi - lo, from, stride, weights, acc); break;
            }
        }
    }
    for (size_t i = 0, n; i < a->n_queries; i += n) {
        n = group_size(a->n_queries - i);
        for (size_t j = i; j < i + n; j++) {
            values_of_one(a, type, span, max_size(common[i].hi, r[j].lo), r[j].hi,
                          w->scores + j * MLXR_CPU_SPAN, w->acc + j * stride);
        }
    }
}

/* ---- a span ---- */

/* Products [lo, hi) of one query to weights exp(score - max), in place. Lanes outside get the score -inf. */
static void softmax(float *s, range r, float scale, float cap, float *max, float *total)
{
    size_t from = r.lo / V_W * V_W, to = mlxr_round_up(r.hi, V_W);
    vf most = v_set1(-INFINITY), sum = v_set1(0.0f), v_scale = v_set1(scale);

    for (size_t p = from; p < to; p += V_W) {
        vf score = v_load(s + p) * v_scale;
        if (cap > 0) score = v_tanh(score / v_set1(cap)) * v_set1(cap);
        v_store(s + p, score);
    }
    for (size_t p = from; p < r.lo; p++) s[p] = -INFINITY;
    for (size_t p = r.hi; p < to; p++) s[p] = -INFINITY;
    for (size_t p = from; p < to; p += V_W) most = v_max(v_load(s + p), most);
    *max = v_reduce_max(most);
    most = v_set1(*max);
    for (size_t p = from; p < to; p += V_W) {
        vf e = v_exp(v_load(s + p) - most);
        v_store(s + p, e);
        sum = sum + e;
    }
    *total = v_reduce_add(sum);
}

/* w->acc, max and total of the queries that see a part of the span; r: which. */
INLINE void span_of(const mlxr_cpu_attend *a, mlxr_kv_type type, size_t span, const range *r, bool first,
                    work *w)
{
    range u = union_of(r, a->n_queries);

    for (size_t i = 0; first && i < AHEAD; i++) {
        fetch(a, type, span, u, i);
        fetch_scales(a, type, span, u.lo + i * MLXR_KV_BLOCK, u.hi);
    }
    if (a->n_queries <= FEW) {
        scores_of_few(a, type, span, u, w->scores);
    } else {
        scores_of_many(a, type, span, u, r, w);
    }
    for (size_t i = 0; i < a->n_queries; i++) {
        float *s = w->scores + i * MLXR_CPU_SPAN;
        if (r[i].lo >= r[i].hi) continue;
        softmax(s, r[i], a->scale[i], a->cap, &w->max[i], &w->total[i]);
        for (size_t p = r[i].lo / V_W * V_W; type == MLXR_KV_INT8 && p < r[i].hi; p += V_W) {
            const uint8_t *scales = head_at(a, span, p) + a->kv->v_scales_at;
            v_store(s + p, v_load(s + p) * v_load((const float *)(const void *)scales + p % MLXR_KV_BLOCK));
        }
    }
    memset(w->acc, 0, a->n_queries * a->kv->v_stride * sizeof *w->acc);
    if (a->n_queries <= FEW) {
        values_of_few(a, type, span, u, r, w->scores, w->acc);
    } else {
        values_of_many(a, type, span, u, r, w);
    }
}

/* false: no query sees any of the span. first: the span before was not done just now. */
static bool do_span(const mlxr_cpu_attend *a, size_t span, range *r, bool first, work *w)
{
    bool any = false;

    for (size_t i = 0; i < a->n_queries; i++) {
        size_t lo = max_size(a->first[i], span), hi = min_size(a->limit[i], span + MLXR_CPU_SPAN);
        r[i] = lo < hi ? (range){lo - span, hi - span} : (range){0, 0};
        any = any || lo < hi;
    }
    if (!any) return false;
    switch (a->kv->type) {
    case MLXR_KV_F16: span_of(a, MLXR_KV_F16, span, r, first, w); break;
    case MLXR_KV_INT8: span_of(a, MLXR_KV_INT8, span, r, first, w); break;
    default: span_of(a, MLXR_KV_F32, span, r, first, w); break;
    }
    return true;
}

/* ---- spans together ---- */

/* A query's sums so far and those of one more span, both brought to the greater maximum. */
static void fold(float *sum, float *max, float *total, const float *acc, float span_max, float span_total,
                 size_t n)
{
    float most = span_max > *max ? span_max : *max;
    float old = expf(*max - most), more = expf(span_max - most); /* exp(-inf) = 0 in the first span */
    vf v_old = v_set1(old), v_more = v_set1(more);

    for (size_t c = 0; c < n; c += V_W) {
        v_store(sum + c, v_fma(v_load(acc + c), v_more, v_load(sum + c) * v_old));
    }
    *total = *total * old + span_total * more;
    *max = most;
}

/* A sink is a score that came before all others. */
static void fold_begin(float *sum, float *max, float *total, float sink, size_t n)
{
    *max = sink;
    *total = sink == -INFINITY ? 0.0f : 1.0f;
    memset(sum, 0, n * sizeof *sum);
}

static void fold_end(float *out, const float *sum, float total, size_t v_dim)
{
    vf by = v_set1(total);
    size_t c = 0;

    for (; c + V_W <= v_dim; c += V_W) v_store(out + c, v_load(sum + c) / by);
    if (c < v_dim) v_store_n(out + c, v_load(sum + c) / by, v_dim - c);
}

void EXPORTED(attend)(const mlxr_cpu_attend *a, float *scratch)
{
    const size_t stride = a->kv->v_stride;
    work w;
    range r[MLXR_CPU_QUERIES];
    float max[MLXR_CPU_QUERIES], total[MLXR_CPU_QUERIES];
    size_t begin = SIZE_MAX, end = 0;
    bool first = true;

    work_init(&w, a, scratch);
    if (a->n_queries > FEW) pack_queries(a, w.q);
    for (size_t i = 0; i < a->n_queries; i++) {
        begin = min_size(begin, a->first[i]);
        end = max_size(end, a->limit[i]);
        fold_begin(w.sum + i * stride, &max[i], &total[i], a->sink[i], stride);
    }
    for (size_t span = begin / MLXR_CPU_SPAN * MLXR_CPU_SPAN; span < end; span += MLXR_CPU_SPAN) {
        if (!do_span(a, span, r, first, &w)) continue;
        first = false;
        for (size_t i = 0; i < a->n_queries; i++) {
            if (r[i].lo >= r[i].hi) continue;
            fold(w.sum + i * stride, &max[i], &total[i], w.acc + i * stride, w.max[i], w.total[i], stride);
        }
    }
    for (size_t i = 0; i < a->n_queries; i++) {
        fold_end(a->out[i], w.sum + i * stride, total[i], a->kv->v_dim);
    }
}

void EXPORTED(attend_span)(const mlxr_cpu_attend *a, size_t span, size_t n_spans, float *parts, size_t stride,
                           float *scratch)
{
    const size_t n = a->kv->v_stride, part_floats = mlxr_cpu_part_floats(n);
    work w;
    range r[MLXR_CPU_QUERIES];

    work_init(&w, a, scratch);
    if (a->n_queries > FEW) pack_queries(a, w.q);
    for (size_t i_span = 0; i_span < n_spans; i_span++, span += MLXR_CPU_SPAN, parts += part_floats) {
        if (!do_span(a, span, r, i_span == 0, &w)) continue;
        for (size_t i = 0; i < a->n_queries; i++) {
            float *part = parts + i * stride;
            if (r[i].lo >= r[i].hi) continue;
            memcpy(part, w.acc + i * n, n * sizeof *part);
            part[n] = w.max[i];
            part[n + 1] = w.total[i];
        }
    }
}

void EXPORTED(attend_fold)(const mlxr_cpu_kv *kv, float *out, const float *parts, size_t n_parts, float sink,
                           float *scratch)
{
    const size_t n = kv->v_stride;
    float max, total;

    fold_begin(scratch, &max, &total, sink, n);
    for (size_t i = 0; i < n_parts; i++, parts += mlxr_cpu_part_floats(n)) {
        fold(scratch, &max, &total, parts, parts[n], parts[n + 1], n);
    }
    fold_end(out, scratch, total, kv->v_dim);
}

/* ---- storing ---- */

static void store_f16(uint8_t *out, const float *x, size_t n)
{
    const vf most = v_set1(MLXR_KV_F16_MOST), least = v_set1(-MLXR_KV_F16_MOST);
    size_t i = 0;

    /* A NaN is the second of both, which is what comes through. */
    for (; i + V_W <= n; i += V_W) v_to_f16(out + 2 * i, v_min(most, v_max(least, v_load(x + i))));
    for (; i < n; i++) {
        uint16_t h = mlxr_kv_to_f16(x[i]);
        memcpy(out + 2 * i, &h, sizeof h);
    }
}

static float store_int8(int8_t *out, const float *x, size_t n)
{
    float scale = mlxr_kv_int8_scale(x, n), inverse = mlxr_kv_int8_inverse(scale);

    for (size_t i = 0; i < n; i++) out[i] = mlxr_kv_to_int8(x[i], inverse);
    return scale;
}

enum { RUN = 64 }; /* keys converted at a time */

void EXPORTED(kv_store)(const mlxr_cpu_kv *kv, uint8_t *head, size_t in_block, const float *k, const float *v)
{
    if (kv->type == MLXR_KV_F16) {
        uint16_t *keys = (uint16_t *)(void *)head + in_block, run[RUN];
        for (size_t d = 0; d < kv->k_dim; d += RUN) {
            size_t n = min_size(RUN, kv->k_dim - d);
            store_f16((uint8_t *)run, k + d, n);
            for (size_t i = 0; i < n; i++) keys[(d + i) * MLXR_KV_BLOCK] = run[i];
        }
        store_f16(head + kv->v_at + 2 * in_block * kv->v_stride, v, kv->v_dim);
    } else if (kv->type == MLXR_KV_INT8) {
        int8_t *keys = (int8_t *)head + in_block;
        float *k_scales = (float *)(void *)(head + kv->k_scales_at);
        float *v_scales = (float *)(void *)(head + kv->v_scales_at);
        float inverse;
        k_scales[in_block] = mlxr_kv_int8_scale(k, kv->k_dim);
        inverse = mlxr_kv_int8_inverse(k_scales[in_block]);
        for (size_t d = 0; d < kv->k_dim; d++) keys[d * MLXR_KV_BLOCK] = mlxr_kv_to_int8(k[d], inverse);
        v_scales[in_block] = store_int8((int8_t *)head + kv->v_at + in_block * kv->v_stride, v, kv->v_dim);
    } else {
        float *keys = (float *)(void *)head + in_block;
        float *values = (float *)(void *)(head + kv->v_at) + in_block * kv->v_stride;
        for (size_t d = 0; d < kv->k_dim; d++) keys[d * MLXR_KV_BLOCK] = k[d];
        memcpy(values, v, kv->v_dim * sizeof *v);
    }
}
