/* candidates: see candidates.h. One pass over the row gives the best of each block of 64; everything after it looks at
 * the blocks that matter. Those with one of the k best are among the k blocks with the best maxima, and no candidate
 * below the k-th of these maxima can be one of the k best. */
#include "engine/candidates.h"

#include <math.h>
#include <stdlib.h>

mlxr_status mlxr_candidates_reserve(mlxr_sampler *s, size_t n, mlxr_error *err)
{
    uint64_t *keys;
    if (n <= s->cap_keys) return MLXR_OK;
    if (!(keys = mlxr_malloc_array(n, sizeof *keys))) return mlxr_fail_nomem(err, "sampler: candidates");
    free(s->keys);
    s->keys = keys;
    s->cap_keys = n;
    return MLXR_OK;
}

/* ---- the row ---- */

/* The greatest of 64 numbers, NaN passed over, and whether one of them is a NaN. Eight lanes, for the compiler to make
 * vectors of. */
static inline float block_max(const float *x, uint32_t *nan)
{
    float m[8];
    uint32_t bad[8] = {0};
    float best = -INFINITY;

    for (size_t l = 0; l < 8; l++) m[l] = -INFINITY;
    for (size_t i = 0; i < MLXR_ROW_BLOCK; i += 8)
        for (size_t l = 0; l < 8; l++) {
            float v = x[i + l];
            m[l] = v > m[l] ? v : m[l];
            bad[l] |= (uint32_t)(v != v);
        }
    for (size_t l = 0; l < 8; l++) {
        best = m[l] > best ? m[l] : best;
        *nan |= bad[l];
    }
    return best;
}

static float some_max(const float *x, size_t n, uint32_t *nan)
{
    float best = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        best = x[i] > best ? x[i] : best;
        *nan |= (uint32_t)(x[i] != x[i]);
    }
    return best;
}

/* The mask's bits of a block of n ids. */
static uint64_t block_bits(const uint32_t *mask, size_t i_block, size_t n)
{
    uint64_t bits = mask[2 * i_block];
    if (n > 32) bits |= (uint64_t)mask[2 * i_block + 1] << 32;
    return n < 64 ? bits & (((uint64_t)1 << n) - 1) : bits;
}

static float masked_max(const float *x, uint64_t bits)
{
    float best = -INFINITY;
    for (; bits; bits &= bits - 1) {
        float v = x[__builtin_ctzll(bits)];
        best = v > best ? v : best;
    }
    return best;
}

static size_t block_size(const mlxr_sampler *s, size_t i_block)
{
    size_t left = s->vocab_size - i_block * MLXR_ROW_BLOCK;
    return left < MLXR_ROW_BLOCK ? left : MLXR_ROW_BLOCK;
}

static uint64_t all_bits(size_t n)
{
    return n < 64 ? ((uint64_t)1 << n) - 1 : UINT64_MAX;
}

static mlxr_status bad_row(const mlxr_sampler *s, const float *row, mlxr_error *err)
{
    for (size_t i = 0; i < s->vocab_size; i++) {
        if (isnan(row[i]))
            return mlxr_fail(err, MLXR_E_DEVICE, "sampler: the logit of token %zu is not a number", i);
        if (row[i] == INFINITY)
            return mlxr_fail(err, MLXR_E_DEVICE, "sampler: the logit of token %zu is infinite", i);
    }
    return mlxr_fail(err, MLXR_E_INTERNAL, "sampler: the row changed while it was read");
}

mlxr_status mlxr_row_scan(int32_t *best, mlxr_sampler *s, const float *row, const uint32_t *mask,
                          mlxr_error *err)
{
    uint32_t nan = 0;
    float most = -INFINITY; /* of the whole row, for +inf */
    size_t i_best = 0;

    *best = -1;
    for (size_t b = 0; b < s->n_blocks; b++) {
        const float *x = row + b * MLXR_ROW_BLOCK;
        size_t n = block_size(s, b);
        float m = n == MLXR_ROW_BLOCK ? block_max(x, &nan) : some_max(x, n, &nan);
        most = m > most ? m : most;
        if (mask) {
            uint64_t bits = block_bits(mask, b, n);
            if (bits != all_bits(n)) m = masked_max(x, bits);
        }
        s->block_max[b] = m;
        if (m > s->block_max[i_best]) i_best = b;
    }
    if (nan || most == INFINITY) return bad_row(s, row, err);
    if (s->n_blocks == 0 || s->block_max[i_best] == -INFINITY) return MLXR_OK;
    for (size_t i = i_best * MLXR_ROW_BLOCK; *best < 0; i++)
        if (row[i] == s->block_max[i_best] && (!mask || mlxr_mask_has(mask, (int32_t)i))) *best = (int32_t)i;
    return MLXR_OK;
}

/* ---- heaps ---- */

/* Restores the heap of a[0..n) below i, the greatest at the root. */
static void sift_down(uint64_t *a, size_t n, size_t i)
{
    uint64_t v = a[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n) break;
        if (child + 1 < n && a[child + 1] > a[child]) child++;
        if (a[child] <= v) break;
        a[i] = a[child];
        i = child;
    }
    a[i] = v;
}

uint64_t mlxr_candidates_next(mlxr_candidates *c, size_t i)
{
    size_t n = c->n - i; /* the heap's */
    uint64_t best;

    if (c->ranked) return c->keys[n - 1];
    if (i == 0)
        for (size_t j = n / 2; j-- > 0;) sift_down(c->keys, n, j);
    best = c->keys[0];
    c->keys[0] = c->keys[n - 1];
    c->keys[n - 1] = best;
    if (n > 2) sift_down(c->keys, n - 1, 0);
    return best;
}

void mlxr_candidates_keep_best(mlxr_candidates *c, size_t m)
{
    if (m > c->n) m = c->n;
    if (!c->ranked)
        for (size_t i = 0; i < m; i++) mlxr_candidates_next(c, i);
    c->keys += c->n - m;
    c->n = m;
    c->ranked = true;
}

void mlxr_candidates_rank(mlxr_candidates *c)
{
    mlxr_candidates_keep_best(c, c->n);
}

uint64_t mlxr_candidates_best(const mlxr_candidates *c)
{
    uint64_t best = c->keys[c->n - 1];
    if (!c->ranked)
        for (size_t i = 0; i < c->n; i++) best = c->keys[i] > best ? c->keys[i] : best;
    return best;
}

/* ---- gathering ---- */

/* The k-th greatest of the blocks' maxima, 1 <= k <= n_blocks. A heap of the k greatest so far, the least at the
 * root, as keys upside down. */
static float kth_block_max(mlxr_sampler *s, size_t k)
{
    uint64_t *heap = s->keys;
    for (size_t b = 0; b < k; b++) heap[b] = ~mlxr_candidate(s->block_max[b], 0);
    for (size_t b = k / 2; b-- > 0;) sift_down(heap, k, b);
    for (size_t b = k; b < s->n_blocks; b++) {
        if (!(s->block_max[b] > mlxr_candidate_logit(~heap[0]))) continue;
        heap[0] = ~mlxr_candidate(s->block_max[b], 0);
        sift_down(heap, k, 0);
    }
    return mlxr_candidate_logit(~heap[0]);
}

mlxr_status mlxr_candidates_gather(mlxr_candidates *out, mlxr_sampler *s, const float *row,
                                   const uint32_t *mask, size_t k, mlxr_error *err)
{
    float least = -INFINITY;
    size_t n = 0, n_most = 0;
    mlxr_status st;

    if (k > 0 && k <= s->n_blocks) {
        if ((st = mlxr_candidates_reserve(s, k, err)) != MLXR_OK) return st;
        least = kth_block_max(s, k);
    }
    for (size_t b = 0; b < s->n_blocks; b++)
        if (s->block_max[b] >= least && s->block_max[b] > -INFINITY) n_most += block_size(s, b);
    if ((st = mlxr_candidates_reserve(s, n_most, err)) != MLXR_OK) return st;
    for (size_t b = 0; b < s->n_blocks; b++) {
        const float *x = row + b * MLXR_ROW_BLOCK;
        size_t n_ids = block_size(s, b);
        uint64_t bits;
        if (!(s->block_max[b] >= least && s->block_max[b] > -INFINITY)) continue;
        bits = mask ? block_bits(mask, b, n_ids) : all_bits(n_ids);
        for (size_t i = 0; i < n_ids; i++) {
            s->keys[n] = mlxr_candidate(x[i], (int32_t)(b * MLXR_ROW_BLOCK + i));
            n += (bits >> i & 1) && x[i] >= least && x[i] > -INFINITY; /* else the next takes its place */
        }
    }
    *out = (mlxr_candidates){.keys = s->keys, .n = n};
    if (k > 0 && k < n) mlxr_candidates_keep_best(out, k);
    return MLXR_OK;
}

void mlxr_candidates_drop_below(mlxr_candidates *c, double least, size_t min_keep)
{
    size_t n = 0, n_kept = 0;
    for (size_t i = 0; i < c->n; i++) n += (double)mlxr_candidate_logit(c->keys[i]) >= least;
    if (n < min_keep || n == 0) {
        mlxr_candidates_keep_best(c, min_keep > 0 ? min_keep : 1);
        return;
    }
    for (size_t i = 0; i < c->n && n_kept < n; i++) {
        c->keys[n_kept] = c->keys[i];
        n_kept += (double)mlxr_candidate_logit(c->keys[i]) >= least;
    }
    c->n = n;
}

/* ---- weights ---- */

/* x[i] = exp(x[i]) for x[i] <= 0, within 2 units in the last place; below -708 it stays at exp(-708), which is as good as 0
 * in any sum with a 1 in it. Ours, because it is added up for whole vocabularies, and for the same bits on every
 * machine: two at a time, each lane by itself. n is even. */
static void exp_all(double *x, size_t n)
{
    typedef double lanes __attribute__((vector_size(16)));
    typedef uint64_t bits __attribute__((vector_size(16)));
    static const double terms[] = {/* Taylor's series from r^13 / 13! down to r^0; |r| <= ln 2 / 2 */
                                   1.0 / 6227020800.0,
                                   1.0 / 479001600.0,
                                   1.0 / 39916800.0,
                                   1.0 / 3628800.0,
                                   1.0 / 362880.0,
                                   1.0 / 40320.0,
                                   1.0 / 5040.0,
                                   1.0 / 720.0,
                                   1.0 / 120.0,
                                   1.0 / 24.0,
                                   1.0 / 6.0,
                                   0.5,
                                   1.0,
                                   1.0};
    const double magic = 0x1.8p52; /* adding it leaves the nearest integer in the low bits */
    const lanes least = {-708.0, -708.0};

    for (size_t i = 0; i < n; i += 2) {
        lanes v, t, k, r, y;
        bits above;
        memcpy(&v, x + i, sizeof v);
        above = (bits)(v > least);
        v = (lanes)((above & (bits)v) | (~above & (bits)least));
        t = v * 0x1.71547652b82fep0 + magic;
        k = t - magic;
        r = v - k * 0x1.62e42fefa3800p-1 - k * 0x1.ef35793c76730p-45;
        y = r * terms[0] + terms[1];
        for (size_t j = 2; j < MLXR_COUNT(terms); j++) y = y * r + terms[j];
        y *= (lanes)(((bits)t << 52) + ((uint64_t)1023 << 52)); /* 2^k */
        memcpy(x + i, &y, sizeof y);
    }
}

void mlxr_candidates_weights(double *out, const uint64_t *keys, size_t n, double max, double temperature)
{
    double x[MLXR_ROW_BLOCK];
    for (size_t i = 0; i < n; i++) x[i] = ((double)mlxr_candidate_logit(keys[i]) - max) / temperature;
    if (n % 2) x[n] = 0;
    exp_all(x, n + n % 2);
    memcpy(out, x, n * sizeof *x);
}

double mlxr_candidates_sum(const mlxr_candidates *c, double max, double temperature)
{
    double w[MLXR_ROW_BLOCK], sum = 0;
    for (size_t i = 0; i < c->n; i += MLXR_ROW_BLOCK) {
        size_t n = c->n - i < MLXR_ROW_BLOCK ? c->n - i : MLXR_ROW_BLOCK;
        mlxr_candidates_weights(w, c->keys + i, n, max, temperature);
        for (size_t j = 0; j < n; j++) sum += w[j];
    }
    return sum;
}

double mlxr_row_sum(const float *row, size_t n, double max)
{
    double w[MLXR_ROW_BLOCK], sum = 0;
    for (size_t i = 0; i < n; i += MLXR_ROW_BLOCK) {
        size_t m = n - i < MLXR_ROW_BLOCK ? n - i : MLXR_ROW_BLOCK;
        for (size_t j = 0; j < m; j++) w[j] = (double)row[i + j] - max;
        if (m % 2) w[m] = 0;
        exp_all(w, m + m % 2);
        for (size_t j = 0; j < m; j++) sum += w[j];
    }
    return sum;
}

/* ---- the draw ---- */

/* Ranked ones back into the order of ids: the halves of the keys change places for it. */
static void sort_by_id(mlxr_candidates *c)
{
    mlxr_candidates turned = {.keys = c->keys, .n = c->n};
    if (!c->ranked) return;
    for (size_t i = 0; i < c->n; i++) c->keys[i] = ~(c->keys[i] << 32 | c->keys[i] >> 32);
    mlxr_candidates_rank(&turned);
    for (size_t i = 0; i < c->n; i++) c->keys[i] = ~(c->keys[i] << 32 | c->keys[i] >> 32);
    c->ranked = false;
}

uint64_t mlxr_candidates_draw(mlxr_candidates *c, double temperature, double u)
{
    double w[MLXR_ROW_BLOCK], max, left;
    uint64_t key = 0;

    sort_by_id(c);
    max = (double)mlxr_candidate_logit(mlxr_candidates_best(c));
    left = u * mlxr_candidates_sum(c, max, temperature);
    for (size_t i = 0; i < c->n; i += MLXR_ROW_BLOCK) {
        size_t n = c->n - i < MLXR_ROW_BLOCK ? c->n - i : MLXR_ROW_BLOCK;
        mlxr_candidates_weights(w, c->keys + i, n, max, temperature);
        for (size_t j = 0; j < n; j++) {
            key = c->keys[i + j];
            left -= w[j];
            if (left < 0) return key;
        }
    }
    return key; /* rounding has used up the last one's share */
}
