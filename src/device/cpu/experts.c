/* ROUTE and EXPERTS on the cpu device.
 *
 * The tokens of a pass are sorted by the experts they chose: a slot is one (token, expert) pair, a group the slots of
 * one expert, which lie side by side. Then two runs over the pool:
 *   1. gate and up, in ranges of F of one group, and the activation of what they give, to the slots' hidden rows;
 *   2. down, in ranges of D for all groups one after the other, and the sum over each token's experts.
 * A range's results stay in the thread's own tile; the whole [slots, D] is never there.
 *
 *     slots (k = 2):   group 0: expert 3    group 1: expert 5    group 2: expert 8
 *                      token 0, token 2     token 1              token 0, token 1, token 2
 *
 * Weights are unpacked once a range for all tokens of a group. The kernels promise the same bits for a token
 * whatever is beside it, and the sum follows the order of the token's own list, so company does not show. */
#include <math.h>
#include <stdlib.h>

#include "device/cpu/cpu.h"

typedef struct stack {
    const mlxr_matrix *m;      /* [n_experts] */
    const float *bias;         /* [n_experts, rows] or NULL */
    mlxr_cpu_linear_fn floats; /* products in float32, or */
    mlxr_ints_kernel ints;     /* in integers, where its .few is set */
} stack;

/* An EXPERTS operation, made at compile. */
struct cpu_mixture {
    stack gate, up, down;      /* up is gate unless APART */
    bool alike;                /* gate and up read the same integers */
    size_t n_experts, k, F, D; /* D: of dst */
};

typedef struct group {
    size_t expert, begin, n; /* slots */
} group;

/* Rows of integers, of the widest matrix that reads such. */
typedef struct kept_ints {
    size_t n_kinds, columns, groups; /* 0: none are read */
    mlxr_ints *rows;
    void *memory;
} kept_ints;

/* What the operations share: memory for the largest of them. */
struct cpu_mixing {
    size_t most_k, most_experts, stride; /* stride: of hidden, for the largest F */
    size_t most_rows;                    /* of an expert's matrix */
    size_t n_tile;                       /* floats of a thread's tile */
    size_t n_slots, n_tokens;            /* there is memory for */
    float *hidden;                       /* [slot, stride], zero from F to a multiple of MLXR_CPU_CHUNK */
    float *tiles;                        /* [n_threads, most_rows + n_tile]: see thread_tile */
    float **tile_rows;                   /* [n_threads, 2, slot] where a range's results go */
    const float **x, **h;                /* [slot] inputs of the first run, and of the second */
    kept_ints tokens, hiddens;           /* [kind, token] and [slot]: the same in integers */
    mlxr_ints *gate_x, *up_x;            /* [slot] of tokens */
    uint32_t *chosen, *place;            /* [token, k] the expert, and the slot */
    size_t *begin;                       /* [n_experts + 1] */
    group *groups;                       /* [n_experts] */
};

/* ---- ROUTE ---- */

/* NaN goes behind all numbers. */
static inline bool better(float a, float b)
{
    return a > b || (isnan(b) && !isnan(a));
}

/* The k best of scores [E] into dst [2 k] with their weights; of equal scores the lower number first. */
void mlxr_cpu_route(const cpu_op *c, size_t n_experts, const float *scores, float *dst)
{
    const mlxr_op *op = c->op;
    size_t k = op->u.route.k, n = 0;
    float *weights = dst + k, max, sum = 0;

    for (size_t i = 0; i < n_experts; i++) {
        size_t at;
        if (n == k && !better(scores[i], weights[k - 1])) continue;
        at = n < k ? n++ : k - 1;
        for (; at > 0 && better(scores[i], weights[at - 1]); at--) {
            weights[at] = weights[at - 1];
            dst[at] = dst[at - 1];
        }
        weights[at] = scores[i];
        dst[at] = (float)i;
    }
    max = weights[0];
    if (op->u.route.router == MLXR_ROUTER_SOFTMAX_TOPK && !op->u.route.normalize) {
        for (size_t i = 0; i < n_experts; i++) sum += expf(scores[i] - max);
        for (size_t j = 0; j < k; j++) weights[j] = expf(weights[j] - max);
    } else { /* a softmax over all, divided by the sum of the k best, is the softmax over those */
        for (size_t j = 0; j < k; j++) sum += weights[j] = expf(weights[j] - max);
    }
    for (size_t j = 0; j < k; j++) {
        weights[j] = weights[j] / sum * op->u.route.scale;
        if (c->vector) weights[j] *= c->vector[(size_t)dst[j]];
    }
}

/* ---- compile ---- */

static mlxr_status prepare_stack(cpu_executable *e, stack *s, kept_ints *kept, const mlxr_op *op, size_t i_op,
                                 mlxr_weight_id id, mlxr_error *err)
{
    const mlxr_weight *w = &e->base.program->weights[id];
    const cpu_device *d = (const cpu_device *)e->base.device;
    size_t other = mlxr_stack_unlike(w), scratch;

    if (other < w->n_experts) {
        return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                         "device cpu: operation %zu (EXPERTS, layer %d): %s%s: expert %zu is not stored as "
                         "expert 0 is",
                         i_op, (int)op->i_layer, w->name, w->suffix, other);
    }
    s->m = w->experts;
    s->floats = d->kernels->linear(s->m);
    if (!s->floats) {
        const mlxr_matrix *m = s->m;
        return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                         "device cpu: operation %zu (EXPERTS, layer %d): no kernel for %s%s: %s, %u bits in "
                         "groups of %u, %s",
                         i_op, (int)op->i_layer, w->name, w->suffix, mlxr_quant_mode_name(m->quant.mode),
                         m->quant.bits, m->quant.group_size, mlxr_dtype_name(m->dtype));
    }
    if (!mlxr_cpu_linear_scratch(&scratch, w->n_cols)) return mlxr_fail_nomem(err, "device cpu");
    if (scratch > e->scratch_floats) e->scratch_floats = scratch;
    if (w->n_rows > e->mixing->most_rows) e->mixing->most_rows = w->n_rows;
    if (d->fast && d->kernels->ints) s->ints = d->kernels->ints->find(s->m);
    if (s->ints.few) {
        size_t groups = mlxr_ints_groups(w->n_cols, s->ints.group), columns = groups * s->ints.group;
        scratch = mlxr_ints_scratch(w->n_cols, s->ints.group) / sizeof(float) + 1;
        if (scratch > e->scratch_floats) e->scratch_floats = scratch;
        if (groups > kept->groups) kept->groups = groups;
        if (columns > kept->columns) kept->columns = columns;
        if (kept->n_kinds == 0) kept->n_kinds = 1;
    }
    return MLXR_OK;
}

static bool same_integers(const mlxr_ints_kernel *a, const mlxr_ints_kernel *b)
{
    return a->few && b->few && a->order == b->order && a->group == b->group;
}

/* [n_experts, rows] as floats; *out stays NULL where there is none. */
static mlxr_status prepare_bias(cpu_executable *e, const float **out, const mlxr_op *op, size_t i_op,
                                mlxr_weight_id id, mlxr_error *err)
{
    const mlxr_weight *w;
    size_t n;
    float *v;

    *out = NULL;
    if (id == MLXR_NONE) return MLXR_OK;
    w = &e->base.program->weights[id];
    if (w->m.quant.mode != MLXR_QUANT_NONE) {
        return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                         "device cpu: operation %zu (EXPERTS, layer %d): %s%s: a bias that is quantized",
                         i_op, (int)op->i_layer, w->name, w->suffix);
    }
    v = mlxr_mul_size(&n, w->n_rows, w->n_cols) ? mlxr_arena_calloc(&e->arena, n, sizeof *v) : NULL;
    if (!v) return mlxr_fail_nomem(err, "device cpu");
    for (size_t i = 0; i < w->n_rows; i++) mlxr_matrix_row(&w->m, i, v + i * w->n_cols);
    *out = v;
    return MLXR_OK;
}

mlxr_status mlxr_cpu_prepare_experts(cpu_executable *e, cpu_op *c, size_t i_op, mlxr_error *err)
{
    const mlxr_program *p = e->base.program;
    const mlxr_op *op = c->op;
    bool apart = op->u.experts.gate_up == MLXR_GATE_UP_APART;
    struct cpu_mixing *x;
    struct cpu_mixture *m = mlxr_arena_calloc(&e->arena, 1, sizeof *m);
    mlxr_status st;
    size_t stride;

    if (!e->mixing) e->mixing = mlxr_arena_calloc(&e->arena, 1, sizeof *e->mixing);
    if (!m || !e->mixing || !mlxr_add_size(&stride, op->u.experts.width, MLXR_CPU_CHUNK + 16)) {
        return mlxr_fail_nomem(err, "device cpu");
    }
    x = e->mixing;
    m->n_experts = p->weights[op->u.experts.gate].n_experts;
    m->k = op->u.experts.k;
    m->F = op->u.experts.width;
    m->D = p->regs[op->dst].width;
    if ((st = prepare_stack(e, &m->gate, &x->tokens, op, i_op, op->u.experts.gate, err)) != MLXR_OK ||
        (st = prepare_stack(e, &m->down, &x->hiddens, op, i_op, op->u.experts.down, err)) != MLXR_OK ||
        (st = prepare_bias(e, &m->gate.bias, op, i_op, op->u.experts.gate_bias, err)) != MLXR_OK ||
        (st = prepare_bias(e, &m->down.bias, op, i_op, op->u.experts.down_bias, err)) != MLXR_OK) {
        return st;
    }
    m->up = m->gate;
    if (apart && ((st = prepare_stack(e, &m->up, &x->tokens, op, i_op, op->u.experts.up, err)) != MLXR_OK ||
                  (st = prepare_bias(e, &m->up.bias, op, i_op, op->u.experts.up_bias, err)) != MLXR_OK)) {
        return st;
    }
    m->alike = same_integers(&m->gate.ints, &m->up.ints);
    if (m->gate.ints.few && m->up.ints.few && !m->alike) x->tokens.n_kinds = 2;
    /* 16 more, so that rows of a power of two do not all fall into the same cache sets. */
    stride = mlxr_round_up(m->F, MLXR_CPU_CHUNK) + 16;
    if (stride > x->stride) x->stride = stride;
    if (m->k > x->most_k) x->most_k = m->k;
    if (m->n_experts > x->most_experts) x->most_experts = m->n_experts;
    c->mixture = m;
    return MLXR_OK;
}

/* ---- memory ---- */

static void release_ints(kept_ints *i)
{
    free(i->rows);
    mlxr_aligned_free(i->memory);
    i->rows = NULL;
    i->memory = NULL;
}

void mlxr_cpu_release_experts(cpu_executable *e)
{
    struct cpu_mixing *x = e->mixing;

    if (!x) return;
    release_ints(&x->tokens);
    release_ints(&x->hiddens);
    mlxr_aligned_free(x->hidden);
    mlxr_aligned_free(x->tiles);
    free(x->tile_rows);
    free(x->x);
    free(x->h);
    free(x->gate_x);
    free(x->up_x);
    free(x->chosen);
    free(x->place);
    free(x->begin);
    free(x->groups);
    *x = (struct cpu_mixing){.most_k = x->most_k,
                             .most_experts = x->most_experts,
                             .most_rows = x->most_rows,
                             .stride = x->stride,
                             .tokens = x->tokens,
                             .hiddens = x->hiddens};
}

static float *aligned_floats(size_t n, size_t width)
{
    size_t bytes;

    if (!mlxr_mul_size(&bytes, n, width) || !mlxr_mul_size(&bytes, bytes, sizeof(float))) return NULL;
    return mlxr_aligned_alloc(bytes);
}

bool mlxr_cpu_reserve_experts(cpu_executable *e, size_t n_tokens)
{
    struct cpu_mixing *x = e->mixing;
    size_t n_threads = mlxr_pool_n_threads(((cpu_device *)e->base.device)->pool), n, n_thread;

    if (!x) return true;
    /* n_tokens are at most MLXR_CPU_MAX_TOKENS and a stack's experts some thousands: this fits. */
    n = n_tokens * x->most_k;
    x->n_slots = n;
    x->n_tokens = n_tokens;
    /* 32 rows, gate and up, for a group of every token, or of down for every slot; for a few tokens 2,000 rows. */
    x->n_tile = n_tokens * (x->most_k < 3 ? 3 : x->most_k) * 32;
    if (x->n_tile < 8192) x->n_tile = 8192;
    if (!mlxr_add_size(&n_thread, x->n_tile, mlxr_round_up(x->most_rows, 16))) return false;
    x->hidden = aligned_floats(n, x->stride);
    x->tiles = aligned_floats(n_threads, n_thread);
    x->tile_rows = mlxr_malloc_array(n_threads * 2 * n, sizeof *x->tile_rows);
    x->x = mlxr_malloc_array(n, sizeof *x->x);
    x->h = mlxr_malloc_array(n, sizeof *x->h);
    x->gate_x = mlxr_malloc_array(n, sizeof *x->gate_x);
    x->up_x = mlxr_malloc_array(n, sizeof *x->up_x);
    x->chosen = mlxr_malloc_array(n, sizeof *x->chosen);
    x->place = mlxr_malloc_array(n, sizeof *x->place);
    x->begin = mlxr_malloc_array(x->most_experts + 1, sizeof *x->begin);
    x->groups = mlxr_malloc_array(x->most_experts, sizeof *x->groups);
    if (!x->hidden || !x->tiles || !x->tile_rows || !x->x || !x->h || !x->gate_x || !x->up_x || !x->chosen ||
        !x->place || !x->begin || !x->groups) {
        return false; /* the caller releases */
    }
    for (size_t i = 0; i < n; i++) x->h[i] = x->hidden + i * x->stride;
    return mlxr_cpu_alloc_ints(&x->tokens.rows, &x->tokens.memory, n_tokens * x->tokens.n_kinds,
                               x->tokens.columns, x->tokens.groups) &&
           mlxr_cpu_alloc_ints(&x->hiddens.rows, &x->hiddens.memory, n * x->hiddens.n_kinds,
                               x->hiddens.columns, x->hiddens.groups);
}

/* ---- a step ---- */

typedef struct mix {
    cpu_executable *e;
    struct cpu_mixing *x;
    const struct cpu_mixture *m;
    mlxr_gate_up gate_up;
    mlxr_cpu_act act;
    const mlxr_cpu_kernels *kernels;
    const float *const *inputs; /* [n_tokens] */
    const float *const *route;  /* [n_tokens] */
    float *const *dst;
    size_t n_tokens, n_slots, n_groups, n_largest;
    size_t n_rows;   /* of a range */
    size_t n_ranges; /* of a group, in the first run */
} mix;

/* Sorts by expert, stably; fills groups, place and the first run's inputs. */
static void sort_slots(mix *s)
{
    struct cpu_mixing *x = s->x;
    size_t k = s->m->k, n_experts = s->m->n_experts;

    memset(x->begin, 0, (n_experts + 1) * sizeof *x->begin);
    for (size_t i = 0; i < s->n_slots; i++) {
        float number = s->route[i / k][i % k];
        /* Only a ROUTE writes these: but nothing outside the stack is read, whatever is there. */
        x->chosen[i] = number >= 0 && number < (float)n_experts ? (uint32_t)number : 0;
        x->begin[x->chosen[i] + 1]++;
    }
    for (size_t expert = 0, at = 0; expert < n_experts; expert++) {
        size_t n = x->begin[expert + 1];
        if (n) x->groups[s->n_groups++] = (group){expert, at, n};
        if (n > s->n_largest) s->n_largest = n;
        at += n;
        x->begin[expert + 1] = at;
    }
    for (size_t i = 0; i < s->n_slots; i++) {
        size_t at = x->begin[x->chosen[i]]++;
        x->place[i] = (uint32_t)at;
        x->x[at] = s->inputs[i / k];
        if (x->tokens.n_kinds == 0) continue;
        x->gate_x[at] = x->tokens.rows[i / k];
        x->up_x[at] = x->tokens.rows[s->m->alike ? i / k : (x->tokens.n_kinds - 1) * x->n_tokens + i / k];
    }
}

/* What takes about as long as handing it out, in floats that become integers. */
enum { INTS_AT_ONCE = 8192 };

static size_t ints_grain(size_t width)
{
    return width < INTS_AT_ONCE ? INTS_AT_ONCE / width : 1;
}

static void tokens_to_ints(void *arg, size_t begin, size_t end, size_t i_thread)
{
    const mix *s = arg;
    const kept_ints *to = &s->x->tokens;
    const mlxr_ints_kernel *gate = &s->m->gate.ints, *up = &s->m->up.ints;
    size_t width = s->m->gate.m->n_cols;

    (void)i_thread;
    for (size_t t = begin; t < end; t++) {
        if (gate->few) {
            s->kernels->ints->from_floats(&to->rows[t], s->inputs[t], width, gate->group, gate->order);
        }
        if (up->few && !s->m->alike) {
            s->kernels->ints->from_floats(&to->rows[(to->n_kinds - 1) * s->x->n_tokens + t], s->inputs[t],
                                          width, up->group, up->order);
        }
    }
}

static void hiddens_to_ints(void *arg, size_t begin, size_t end, size_t i_thread)
{
    const mix *s = arg;
    const mlxr_ints_kernel *down = &s->m->down.ints;

    (void)i_thread;
    for (size_t i = begin; i < end; i++) {
        s->kernels->ints->from_floats(&s->x->hiddens.rows[i], s->x->h[i], s->m->F, down->group, down->order);
    }
}

/* A thread's tile. Before it there is room for as many floats as a matrix has rows: a kernel's y counts from row 0,
 * which then lies in that room where a range begins later, and is not written. */
static float *thread_tile(const struct cpu_mixing *x, size_t i_thread)
{
    size_t room = mlxr_round_up(x->most_rows, 16);
    return x->tiles + i_thread * (room + x->n_tile) + room;
}

static void spread(float **rows, size_t n, float *tile, size_t width)
{
    for (size_t i = 0; i < n; i++) rows[i] = tile + i * width;
}

typedef struct row_range {
    size_t begin, end;
    mlxr_stream
        after; /* what the thread reads then; w 0: the rows that follow these, as good a guess as any */
} row_range;

/* Rows of a group's expert for its tokens: y[t][row]. */
static void multiply(const mix *s, const stack *w, const group *g, const float *const *x,
                     const mlxr_ints *ints, float *const *y, row_range r, size_t i_thread)
{
    float *scratch = s->e->scratch + i_thread * s->e->scratch_floats;
    const mlxr_matrix *m = &w->m[g->expert];
    const float *bias = w->bias ? w->bias + g->expert * m->n_rows : NULL;

    if (w->ints.few) {
        mlxr_linear_ints a = {.m = m,
                              .bias = bias,
                              .x = ints + g->begin,
                              .y = y,
                              .n_tokens = g->n,
                              .run_end = r.end,
                              .after = r.after.w ? r.after : mlxr_stream_from(m, r.end)};
        mlxr_ints_linear(&w->ints, g->n)(&a, r.begin, r.end, scratch);
    } else {
        mlxr_cpu_linear a = {.m = m, .bias = bias, .x = x + g->begin, .y = y, .n_tokens = g->n};
        w->floats(&a, r.begin, r.end, scratch);
    }
}

/* hidden [begin, end) of a group's slots. */
static void gate_and_up(const mix *s, const group *g, size_t begin, size_t end, mlxr_stream after,
                        size_t i_thread)
{
    const struct cpu_mixture *m = s->m;
    const struct cpu_mixing *x = s->x;
    float *tile = thread_tile(x, i_thread);
    float **gates = x->tile_rows + i_thread * 2 * x->n_slots, **ups = gates + x->n_slots;
    size_t n = end - begin, padded = mlxr_round_up(m->F, MLXR_CPU_CHUNK);

    if (s->gate_up == MLXR_GATE_UP_INTERLEAVED) {
        float *up = tile + g->n * 2 * n;
        spread(gates, g->n, tile - 2 * begin, 2 * n);
        multiply(s, &m->gate, g, x->x, x->gate_x, gates, (row_range){2 * begin, 2 * end, after}, i_thread);
        for (size_t t = 0; t < g->n; t++) {
            const float *both = gates[t] + 2 * begin;
            float *y = x->hidden + (g->begin + t) * x->stride + begin;
            for (size_t i = 0; i < n; i++) y[i] = both[2 * i], up[i] = both[2 * i + 1];
            s->kernels->act_mul(y, y, up, n, s->act);
        }
    } else {
        size_t from = s->gate_up == MLXR_GATE_UP_HALVES ? m->F + begin : begin;
        spread(gates, g->n, tile - begin, n);
        spread(ups, g->n, tile + g->n * n - from, n);
        multiply(s, &m->gate, g, x->x, x->gate_x, gates,
                 (row_range){begin, end, mlxr_stream_from(&m->up.m[g->expert], from)}, i_thread);
        multiply(s, &m->up, g, x->x, x->up_x, ups, (row_range){from, from + n, after}, i_thread);
        for (size_t t = 0; t < g->n; t++) {
            s->kernels->act_mul(x->hidden + (g->begin + t) * x->stride + begin, gates[t] + begin,
                                ups[t] + from, n, s->act);
        }
    }
    if (end == m->F) { /* another operation's F may have been larger */
        for (size_t t = 0; t < g->n; t++) {
            memset(x->hidden + (g->begin + t) * x->stride + m->F, 0, (padded - m->F) * sizeof(float));
        }
    }
}

static void first_run(void *arg, size_t begin, size_t end, size_t i_thread)
{
    const mix *s = arg;
    const bool interleaved = s->gate_up == MLXR_GATE_UP_INTERLEAVED;

    for (size_t i = begin; i < end; i++) {
        size_t from = i % s->n_ranges * s->n_rows, to = from + s->n_rows, next = (i + 1) % s->n_ranges;
        mlxr_stream after = {0};
        if (i + 1 < s->n_groups * s->n_ranges) {
            const group *g = &s->x->groups[(i + 1) / s->n_ranges];
            after = mlxr_stream_from(&s->m->gate.m[g->expert], next * s->n_rows * (interleaved ? 2 : 1));
        }
        gate_and_up(s, &s->x->groups[i / s->n_ranges], from, to < s->m->F ? to : s->m->F, after, i_thread);
    }
}

/* dst [begin, end) of every token. */
static void down_and_sum(const mix *s, size_t begin, size_t end, size_t i_thread)
{
    const struct cpu_mixture *m = s->m;
    const struct cpu_mixing *x = s->x;
    float **y = x->tile_rows + i_thread * 2 * x->n_slots;

    spread(y, s->n_slots, thread_tile(x, i_thread) - begin, end - begin);
    for (size_t i = 0; i < s->n_groups; i++) {
        const group *g = &x->groups[i];
        bool last = i + 1 == s->n_groups;
        mlxr_stream after = mlxr_stream_from(&m->down.m[x->groups[last ? 0 : i + 1].expert],
                                             last ? end : begin);
        multiply(s, &m->down, g, x->h, x->hiddens.rows, y + g->begin, (row_range){begin, end, after},
                 i_thread);
    }
    for (size_t i = 0; i < s->n_slots; i++) y[i] += begin;
    for (size_t t = 0; t < s->n_tokens; t++) {
        s->kernels->mix(s->dst[t] + begin, (const float *const *)y, x->place + t * m->k, s->route[t] + m->k,
                        m->k, end - begin);
    }
}

static void second_run(void *arg, size_t begin, size_t end, size_t i_thread)
{
    const mix *s = arg;

    for (size_t i = begin; i < end; i++) {
        size_t from = i * s->n_rows, to = from + s->n_rows;
        down_and_sum(s, from, to < s->m->D ? to : s->m->D, i_thread);
    }
}

/* Rows of a range out of n: about `want`; at least so many that they have 16K weights, `weights` each (below, the
 * hand-out itself shows); at most `most`, not below `unit`; in units, and all ranges of about the same size. */
static size_t range_rows(size_t n, size_t want, size_t weights, size_t most, size_t unit)
{
    size_t least = 16384 / (weights ? weights : 1), rows = want < least ? least : want, n_ranges;

    rows = rows > most ? most : rows;
    rows = rows < unit ? unit : rows / unit * unit;
    n_ranges = 1 + (n - 1) / rows; /* n > 0 */
    rows = mlxr_round_up((n + n_ranges - 1) / n_ranges, unit);
    return rows ? rows : unit;
}

/* Rows that many tokens want in one range: a panel, or panels; nothing is gained by more. */
static size_t most_rows(const stack *s)
{
    return s->ints.few ? 64 : mlxr_cpu_panel_rows(s->m->n_cols);
}

/* What rows go in for many tokens: a panel of integers that is not full costs as much as one that is. */
static size_t unit_rows(const stack *s, bool many)
{
    return s->ints.few && many ? 16 : 4;
}

static size_t least_of(size_t a, size_t b)
{
    return a < b ? a : b;
}

void mlxr_cpu_run_experts(cpu_executable *e, const cpu_op *c, const float *const *inputs,
                          const float *const *route, float *const *dst, size_t n_tokens)
{
    const cpu_device *d = (const cpu_device *)e->base.device;
    const struct cpu_mixture *m = c->mixture;
    const struct cpu_mixing *x = e->mixing;
    size_t n_threads = mlxr_pool_n_threads(d->pool), width = m->gate.m->n_cols;
    mix s = {.e = e,
             .x = e->mixing,
             .m = m,
             .gate_up = c->op->u.experts.gate_up,
             .act = c->act,
             .kernels = d->kernels,
             .inputs = inputs,
             .route = route,
             .dst = dst,
             .n_tokens = n_tokens,
             .n_slots = n_tokens * m->k};
    size_t most_first = SIZE_MAX, most_second = SIZE_MAX;
    bool many;

    sort_slots(&s);
    many = s.n_largest >= 8;
    if (m->gate.ints.few || m->up.ints.few) {
        mlxr_pool_for(d->pool, n_tokens, ints_grain(width), tokens_to_ints, &s);
    }
    if (many) {
        most_first = most_rows(&m->gate);
        most_second = most_rows(&m->down);
    }
    most_first = least_of(most_first, x->n_tile / (2 * s.n_largest + 1));
    most_second = least_of(most_second, x->n_tile / s.n_slots);
    s.n_rows = range_rows(m->F, s.n_groups * m->F / (n_threads * 8), 2 * width, most_first,
                          unit_rows(&m->gate, many));
    s.n_ranges = (m->F + s.n_rows - 1) / s.n_rows;
    mlxr_pool_split(d->pool, s.n_groups * s.n_ranges, 1, 1, first_run, &s);
    if (m->down.ints.few) mlxr_pool_for(d->pool, s.n_slots, ints_grain(m->F), hiddens_to_ints, &s);
    /* Four ranges a thread: each is a short stream of every expert, and half as long ones cost one token 3 %
     * (Zen 5, 4 bits, 8 experts of 1024 by 512). */
    s.n_rows = range_rows(m->D, m->D / (n_threads * 4), m->F * s.n_groups, most_second,
                          unit_rows(&m->down, many));
    mlxr_pool_split(d->pool, (m->D + s.n_rows - 1) / s.n_rows, 1, 1, second_run, &s);
}
