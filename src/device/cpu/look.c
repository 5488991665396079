/* ATTEND on the cpu device: storing keys and values, and how looking at them is cut for the threads.
 *
 * The queries that read the same keys, of a head and of a few consecutive tokens, are one call of a kernel. Where there
 * are too few such calls for the threads (one token of one sequence is n_kv_heads of them), each span of positions is a
 * unit of its own; whoever ends the last unit of a call adds the spans' parts up. The bits are the same either way. */
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "device/cpu/cpu.h"

enum {
    UNITS_A_THREAD = 8,   /* fewer calls than this a thread: spans are units */
    MOST_PARTS = 4 << 20, /* floats of parts; calls that would leave more are not cut */
    ALONE = 1 << 17,      /* products that one thread has done before another has come */
};

/* A call: the queries of `n_heads` heads that read kv_head, for the tokens of a tile. */
typedef struct call {
    size_t tile, kv_head, head, n_heads;
    size_t i_unit;        /* the first; where calls are cut */
    size_t span, n_spans; /* from its first query's first to its last query's last */
    size_t i_part; /* the first query's, of its first span; then the other spans', then the other queries' */
    atomic_size_t n_to_come; /* units */
} call;

typedef struct cpu_looking {
    call *calls; /* [cap_calls] */
    size_t cap_calls;
    float *parts; /* [cap_parts] floats */
    size_t cap_parts;
} cpu_looking;

void mlxr_cpu_release_look(cpu_executable *e)
{
    if (!e->looking) return;
    free(e->looking->calls);
    mlxr_aligned_free(e->looking->parts);
    free(e->looking);
    e->looking = NULL;
}

void mlxr_cpu_store(const cpu_executable *e, cpu_state *s, const mlxr_op *op, const uint32_t *blocks,
                    size_t position, const float *k, const float *v)
{
    const mlxr_slot *sl = &e->base.program->slots[op->u.attend.slot];
    const cpu_slot *at = &e->slots[op->u.attend.slot];
    const mlxr_cpu_kernels *kernels = ((const cpu_device *)e->base.device)->kernels;
    uint8_t *head = s->blocks + blocks[position / MLXR_KV_BLOCK] * e->block_bytes + at->at;

    for (size_t h = 0; h < sl->n_kv_heads; h++, head += at->kv.head_bytes) {
        kernels->kv_store(&at->kv, head, position % MLXR_KV_BLOCK, k + h * sl->k_head_dim,
                          v + h * sl->v_head_dim);
    }
}

/* ---- looking ---- */

typedef struct job {
    const cpu_look *l;
    const mlxr_cpu_kernels *kernels;
    const mlxr_slot *slot;
    const cpu_slot *at;
    size_t per_head;     /* queries of one token that read the same keys */
    size_t heads_a_call; /* of them, in one call */
    size_t calls_a_head;
    size_t n_tiles, n_calls;
    cpu_looking *looking; /* where calls are cut */
} job;

/* What the scores of a query at this position are multiplied by. */
static float score_scale(const mlxr_op *op, size_t position)
{
    size_t span = op->u.attend.position_span, n_spans = span ? position / span : 0;

    if (n_spans == 0) return op->u.attend.scale;
    return op->u.attend.scale * (float)(1 + op->u.attend.position_beta * log(1 + (double)n_spans));
}

static size_t first_seen(const mlxr_slot *sl, size_t position)
{
    return sl->window && position >= sl->window ? position + 1 - sl->window : 0;
}

static void set_call(const job *j, call *c, size_t i)
{
    c->tile = i / (j->slot->n_kv_heads * j->calls_a_head);
    c->kv_head = i / j->calls_a_head % j->slot->n_kv_heads;
    c->head = i % j->calls_a_head * j->heads_a_call;
    c->n_heads = j->per_head - c->head < j->heads_a_call ? j->per_head - c->head : j->heads_a_call;
    c->head += c->kv_head * j->per_head;
}

static void set_kernel_call(const job *j, const call *c, mlxr_cpu_attend *a)
{
    const cpu_look *l = j->l;
    const mlxr_op *op = l->c->op;
    const cpu_tile *tile = &l->e->tiles[c->tile];
    const float *sinks = l->c->vector;

    a->kv = &j->at->kv;
    a->heads = l->state->blocks + j->at->at + c->kv_head * j->at->kv.head_bytes;
    a->block_bytes = l->e->block_bytes;
    a->blocks = l->tables[l->seqs[l->list[tile->begin]]].blocks;
    a->cap = op->u.attend.softcap;
    a->n_queries = 0;
    for (size_t t = tile->begin; t < tile->begin + tile->n; t++) {
        size_t position = l->positions[l->list[t]];
        float scale = score_scale(op, position);
        for (size_t h = c->head; h < c->head + c->n_heads; h++, a->n_queries++) {
            a->q[a->n_queries] = l->q[t] + h * j->slot->k_head_dim;
            a->scale[a->n_queries] = scale;
            a->sink[a->n_queries] = sinks ? sinks[h] : -INFINITY;
            a->out[a->n_queries] = l->dst[t] + h * j->slot->v_head_dim;
            a->limit[a->n_queries] = position + 1;
            a->first[a->n_queries] = first_seen(j->slot, position);
        }
    }
}

static void calls_range(void *arg, size_t begin, size_t end, size_t i_thread)
{
    const job *j = arg;
    const cpu_executable *e = j->l->e;
    mlxr_cpu_attend a;

    for (size_t i = begin; i < end; i++) {
        call c;
        set_call(j, &c, i);
        set_kernel_call(j, &c, &a);
        j->kernels->attend(&a, e->scratch + i_thread * e->scratch_floats);
    }
}

/* ---- calls cut into spans ---- */

static void add_up(const job *j, const call *c, const mlxr_cpu_attend *a, float *scratch)
{
    size_t part_floats = mlxr_cpu_part_floats(a->kv->v_stride);

    for (size_t i = 0; i < a->n_queries; i++) {
        size_t first = a->first[i] / MLXR_CPU_SPAN, last = (a->limit[i] - 1) / MLXR_CPU_SPAN;
        const float *parts = j->looking->parts + c->i_part + (i * c->n_spans + first - c->span) * part_floats;
        j->kernels->attend_fold(a->kv, a->out[i], parts, last + 1 - first, a->sink[i], scratch);
    }
}

static void units_range(void *arg, size_t begin, size_t end, size_t i_thread)
{
    const job *j = arg;
    const cpu_executable *e = j->l->e;
    float *scratch = e->scratch + i_thread * e->scratch_floats;
    call *c = j->looking->calls;
    mlxr_cpu_attend a;
    size_t part_floats = mlxr_cpu_part_floats(j->at->kv.v_stride);

    while (begin < end) {
        size_t stop, n;
        while (begin >= c->i_unit + c->n_spans) c++;
        stop = end < c->i_unit + c->n_spans ? end : c->i_unit + c->n_spans;
        n = stop - begin;
        set_kernel_call(j, c, &a);
        j->kernels->attend_span(&a, (c->span + begin - c->i_unit) * MLXR_CPU_SPAN, n,
                                j->looking->parts + c->i_part + (begin - c->i_unit) * part_floats,
                                c->n_spans * part_floats, scratch);
        begin = stop;
        /* Release what this thread wrote, acquire what the others did. */
        if (atomic_fetch_sub_explicit(&c->n_to_come, n, memory_order_acq_rel) == n) add_up(j, c, &a, scratch);
    }
}

/* The spans that the queries of a tile see. */
static void set_spans(const job *j, call *c)
{
    const cpu_look *l = j->l;
    const cpu_tile *tile = &l->e->tiles[c->tile];
    size_t first = l->positions[l->list[tile->begin]],
           last = l->positions[l->list[tile->begin + tile->n - 1]];

    c->span = first_seen(j->slot, first) / MLXR_CPU_SPAN;
    c->n_spans = last / MLXR_CPU_SPAN + 1 - c->span;
}

/* Products of all of it; only to tell little work from much. */
static double n_products(const job *j)
{
    double n = 0;

    for (size_t i = 0; i < j->l->n; i++) {
        size_t position = j->l->positions[j->l->list[i]];
        n += (double)(position + 1 - first_seen(j->slot, position));
    }
    return n * (double)(j->per_head * j->slot->n_kv_heads) *
           (double)(j->slot->k_head_dim + j->slot->v_head_dim);
}

static bool reserve_calls(cpu_executable *e, size_t n)
{
    if (!e->looking) e->looking = calloc(1, sizeof *e->looking);
    if (!e->looking || n <= e->looking->cap_calls) return e->looking != NULL;
    free(e->looking->calls);
    e->looking->calls = mlxr_calloc_array(n, sizeof *e->looking->calls);
    e->looking->cap_calls = e->looking->calls ? n : 0;
    return e->looking->calls != NULL;
}

static bool reserve_parts(cpu_looking *l, size_t n)
{
    if (n <= l->cap_parts) return true;
    mlxr_aligned_free(l->parts);
    n += n / 2; /* a context that grows by a span does not come back at once */
    l->parts = mlxr_aligned_alloc(n * sizeof *l->parts);
    l->cap_parts = l->parts ? n : 0;
    return l->parts != NULL;
}

/* Cuts the calls into spans: the number of units, or 0 where that would leave too much to add up. */
static mlxr_status cut_calls(size_t *n_units, job *j, mlxr_error *err)
{
    cpu_executable *e = j->l->e;
    size_t n_floats = 0, part_floats = mlxr_cpu_part_floats(j->at->kv.v_stride);

    *n_units = 0;
    if (!reserve_calls(e, j->n_calls)) goto nomem;
    for (size_t i = 0; i < j->n_calls; i++) {
        call *c = &e->looking->calls[i];
        set_call(j, c, i);
        set_spans(j, c);
        c->i_unit = *n_units;
        c->i_part = n_floats;
        atomic_store_explicit(&c->n_to_come, c->n_spans, memory_order_relaxed);
        *n_units += c->n_spans;
        n_floats += e->tiles[c->tile].n * c->n_heads * c->n_spans * part_floats;
        if (n_floats > MOST_PARTS) {
            *n_units = 0;
            return MLXR_OK;
        }
    }
    if (!reserve_parts(e->looking, n_floats)) goto nomem;
    j->looking = e->looking;
    return MLXR_OK;
nomem:
    return mlxr_fail(err, MLXR_E_NOMEM, "device cpu: out of memory for the parts of attention");
}

mlxr_status mlxr_cpu_run_look(const cpu_look *l, mlxr_error *err)
{
    const mlxr_op *op = l->c->op;
    const cpu_device *d = (const cpu_device *)l->e->base.device;
    job j = {.l = l,
             .kernels = d->kernels,
             .slot = &l->e->base.program->slots[op->u.attend.slot],
             .at = &l->e->slots[op->u.attend.slot]};
    size_t most, grain, n_threads = mlxr_pool_n_threads(d->pool), n_units = 0;
    mlxr_status st;

    j.per_head = op->u.attend.n_heads / j.slot->n_kv_heads;
    j.heads_a_call = j.per_head < MLXR_CPU_QUERIES ? j.per_head : MLXR_CPU_QUERIES;
    j.calls_a_head = (j.per_head + j.heads_a_call - 1) / j.heads_a_call;
    most = MLXR_CPU_QUERIES / j.heads_a_call;
    for (size_t i = 0; i < l->n;) {
        cpu_tile *tile = &l->e->tiles[j.n_tiles++];
        *tile = (cpu_tile){i, 1};
        for (i++; i < l->n && tile->n < most && l->seqs[l->list[i]] == l->seqs[l->list[i - 1]]; i++)
            tile->n++;
    }
    j.n_calls = j.n_tiles * j.slot->n_kv_heads * j.calls_a_head;
    if (n_threads == 1 || n_products(&j) < ALONE) {
        calls_range(&j, 0, j.n_calls, 0);
        return MLXR_OK;
    }
    if (j.n_calls < n_threads * UNITS_A_THREAD) {
        if ((st = cut_calls(&n_units, &j, err)) != MLXR_OK) return st;
    }
    if (n_units > j.n_calls) {
        grain = n_units / (n_threads * 8);
        mlxr_pool_for(d->pool, n_units, grain ? grain : 1, units_range, &j);
    } else {
        grain = j.n_calls / (n_threads * 16);
        mlxr_pool_for(d->pool, j.n_calls, grain ? grain : 1, calls_range, &j);
    }
    return MLXR_OK;
}
