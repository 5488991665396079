/* The cpu device: opening it, its state, and a pass over an executable's steps. */
#include "device/cpu/cpu.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "model/rope.h"

static void cpu_close(mlxr_device *base)
{
    cpu_device *d = (cpu_device *)base;

    mlxr_pool_free(d->pool);
    free(d);
}

static mlxr_status cpu_open(mlxr_device **out, const mlxr_device_options *options, mlxr_error *err)
{
    mlxr_status st;
    size_t n_threads;
    cpu_device *d = calloc(1, sizeof *d);

    *out = NULL;
    if (!d) return mlxr_fail_nomem(err, "device cpu");
    d->base.ops = &mlxr_device_cpu;
    d->fast = options->precision != MLXR_PRECISION_EXACT;
    if ((st = mlxr_cpu_kernels_get(&d->kernels, options->isa, err)) != MLXR_OK) goto done;
    d->base.kv_type = options->kv_type;
    if (d->base.kv_type == MLXR_KV_DEFAULT)
        d->base.kv_type = d->fast && d->kernels->converts_halves ? MLXR_KV_F16 : MLXR_KV_F32;
    if ((st = mlxr_pool_create(&d->pool, options->n_threads, err)) != MLXR_OK) goto done;
    n_threads = mlxr_pool_n_threads(d->pool);
    d->base.isa = d->kernels->isa;
    d->base.n_threads = n_threads;
    d->profile = options->profile;
    snprintf(d->base.description, sizeof d->base.description, "cpu %s, %zu thread%s", d->kernels->isa,
             n_threads, n_threads == 1 ? "" : "s");
    *out = &d->base;
    d = NULL;
done:
    if (d) cpu_close(&d->base);
    return st;
}

/* ---- state ---- */

static size_t cpu_block_bytes(const mlxr_executable *base)
{
    return ((const cpu_executable *)base)->block_bytes;
}

static void cpu_state_free(mlxr_state *base)
{
    cpu_state *s = (cpu_state *)base;

    free(s->memory);
    free(s);
}

enum { HUGE_FROM = 4 << 20 }; /* bytes of blocks */

static mlxr_status cpu_state_create(mlxr_state **out, mlxr_executable *base, size_t n_blocks,
                                    size_t n_sequences, mlxr_error *err)
{
    size_t bytes, of_blocks = 0, sequence_bytes = 2 * base->program->n_sequence_floats * sizeof(float);
    cpu_state *s = calloc(1, sizeof *s);

    *out = NULL;
    /* From calloc, so that pages nobody has written cost nothing; then brought to a cache line. */
    if (s && mlxr_mul_size(&of_blocks, n_blocks, cpu_block_bytes(base)) &&
        mlxr_mul_size(&bytes, n_sequences, sequence_bytes) && mlxr_add_size(&bytes, bytes, of_blocks) &&
        mlxr_add_size(&bytes, bytes, 64)) {
        s->memory = calloc(1, bytes);
    }
    if (!s || !s->memory) {
        free(s);
        return mlxr_fail(
            err, MLXR_E_NOMEM,
            "device cpu: out of memory for %zu blocks of %zu bytes and %zu sequences of %zu bytes", n_blocks,
            cpu_block_bytes(base), n_sequences, sequence_bytes);
    }
    s->blocks = (uint8_t *)(((uintptr_t)s->memory + 63) / 64 * 64);
#ifdef MADV_HUGEPAGE
    /* A long context reads its blocks all over: a fifth of that time went into finding small pages. */
    if (of_blocks >= HUGE_FROM) {
        uintptr_t from = ((uintptr_t)s->blocks + 4095) / 4096 * 4096;
        (void)madvise((void *)from, of_blocks - 4096, MADV_HUGEPAGE);
    }
#endif
    s->sequences = (float *)(void *)(s->blocks + of_blocks); /* blocks are whole cache lines */
    *out = &s->base;
    return MLXR_OK;
}

static void cpu_copy_block(mlxr_state *base, uint32_t to, uint32_t from)
{
    cpu_state *s = (cpu_state *)base;
    size_t n = ((const cpu_executable *)base->executable)->block_bytes;

    memcpy(s->blocks + to * n, s->blocks + from * n, n);
}

static void cpu_read_sequence(void *to, const mlxr_state *base, uint32_t sequence, unsigned version)
{
    const cpu_state *s = (const cpu_state *)base;
    size_t n = base->executable->program->n_sequence_floats;

    memcpy(to, s->sequences + (sequence * (size_t)2 + version) * n, n * sizeof *s->sequences);
}

static void cpu_write_sequence(mlxr_state *base, uint32_t sequence, unsigned version, const void *from)
{
    cpu_state *s = (cpu_state *)base;
    size_t n = base->executable->program->n_sequence_floats;

    memcpy(s->sequences + (sequence * (size_t)2 + version) * n, from, n * sizeof *s->sequences);
}

/* ---- a pass: up to MLXR_CPU_MAX_TOKENS tokens through all steps ---- */

typedef struct pass {
    cpu_executable *e;
    cpu_device *d;
    cpu_state *state;
    size_t n_tokens;
    const int32_t *ids;
    const uint32_t *positions, *seqs;
    const mlxr_block_table *tables;
    const mlxr_sequence_step *steps; /* one a table */
    bool continues;                  /* the first token's sequence was in the pass before */
    size_t n_wanted;                 /* e->wanted has them */
    float *logits;                   /* [n_wanted, V] */
    float *hidden;                   /* [n_wanted, D]: wanted instead of logits; or NULL */

    /* The step at hand. */
    const cpu_op *ops;
    size_t n_ops;
    const cpu_step *step;
    const uint32_t *list; /* its tokens */
    size_t n_list;
} pass;

/* The row of the i-th token of the step's list. */
static inline float *row_of(const pass *s, mlxr_reg_id r, size_t i)
{
    const mlxr_program *p = s->e->base.program;

    if (r == p->logits) return s->logits + i * p->regs[r].width;
    return s->e->regs[r] + s->list[i] * s->e->stride[r];
}

/* ---- ROWS ---- */

static void row_op(const pass *s, const cpu_op *c, size_t i)
{
    const mlxr_cpu_kernels *k = s->d->kernels;
    const mlxr_program *p = s->e->base.program;
    const mlxr_op *op = c->op;
    const cpu_rope *rope;
    uint32_t token = s->list[i];
    size_t width = p->regs[op->dst].width;
    float *dst;

    if (c->part == CPU_STORE) {
        mlxr_cpu_store(s->e, s->state, op, s->tables[s->seqs[token]].blocks, s->positions[token],
                       row_of(s, op->b, i), row_of(s, op->c, i));
        return;
    }
    dst = row_of(s, op->dst, i);
    switch (op->kind) {
    case MLXR_OP_EMBED:
        mlxr_matrix_row(&p->weights[op->weight].m, (size_t)s->ids[token], dst);
        if (op->u.embed.scale != 1.0f) k->scale(dst, dst, op->u.embed.scale, width);
        break;
    case MLXR_OP_RMS_NORM:
    case MLXR_OP_LAYER_NORM: {
        const float *a = row_of(s, op->a, i);
        for (size_t at = 0; at < width; at += op->u.norm.width) {
            size_t w = at % c->n_vector; /* the same for every run, or each its own */
            if (op->kind == MLXR_OP_RMS_NORM) {
                k->rms_norm(dst + at, a + at, c->vector + w, op->u.norm.width, op->u.norm.eps);
            } else {
                k->layer_norm(dst + at, a + at, c->vector + w, c->bias ? c->bias + w : NULL, op->u.norm.width,
                              op->u.norm.eps);
            }
        }
        break;
    }
    case MLXR_OP_ROPE:
        rope = &s->e->ropes[c->i_rope];
        k->rope(dst, op->u.rope.n_heads, op->u.rope.head_dim, op->u.rope.n_rot, op->u.rope.pairing,
                rope->cos + token * rope->half, rope->sin + token * rope->half);
        break;
    case MLXR_OP_ACT_MUL:
        k->act_mul(dst, row_of(s, op->a, i), op->b == MLXR_NONE ? NULL : row_of(s, op->b, i), width, c->act);
        break;
    case MLXR_OP_ADD: k->add(dst, row_of(s, op->a, i), row_of(s, op->b, i), width); break;
    case MLXR_OP_SCALE: k->scale(dst, row_of(s, op->a, i), c->factor, width); break;
    case MLXR_OP_SOFTCAP: k->softcap(dst, row_of(s, op->a, i), op->u.softcap.cap, width); break;
    case MLXR_OP_SLICE: {
        const float *run = row_of(s, op->a, i) + op->u.slice.first;
        for (size_t at = 0; at < width; at += op->u.slice.run, run += op->u.slice.step) {
            memcpy(dst + at, run, op->u.slice.run * sizeof *run);
        }
        break;
    }
    case MLXR_OP_ROUTE: mlxr_cpu_route(c, p->regs[op->a].width, row_of(s, op->a, i), dst); break;
    default: break; /* refused at compile */
    }
}

static void rows_range(void *arg, size_t begin, size_t end, size_t i_thread)
{
    const pass *s = arg;

    (void)i_thread;
    for (size_t i = begin; i < end; i++) {
        for (size_t j = 0; j < s->n_ops; j++) row_op(s, &s->ops[j], i);
    }
}

/* A row's worth of work is up to a microsecond: a few are not worth another thread. */
static size_t rows_grain(const pass *s)
{
    size_t n = s->n_list / (mlxr_pool_n_threads(s->d->pool) * 4);
    return n < 4 ? 4 : n;
}

/* ---- LINEARS: the rows of all matrices of the step one after the other ---- */

enum { SHARED_BELOW = 17 }; /* tokens; from here on rows are handed out as threads come */
enum { UNIT = 4 };          /* rows of a thread's share of few tokens begin at a multiple of this */

/* The first rows that a thread reads in the next step of linears. */
static mlxr_stream ahead_in_next(const pass *s, size_t i_thread)
{
    const cpu_executable *e = s->e;
    const cpu_step *next = &e->steps[s->step->next];
    size_t at = mlxr_pool_share(next->n_rows, UNIT, i_thread, mlxr_pool_n_threads(s->d->pool));

    for (size_t j = 0; next != s->step && j < next->n; j++) {
        const mlxr_matrix *m = &e->base.program->weights[e->ops[next->first + j].op->weight].m;
        if (at < m->n_rows) return mlxr_stream_from(m, at);
        at -= m->n_rows;
    }
    return (mlxr_stream){0};
}

/* Rows [begin, end) of the step's matrices, for n tokens of its list from `first` on. */
static void linear_rows(const pass *s, size_t begin, size_t end, size_t i_thread, size_t first, size_t n)
{
    const cpu_executable *e = s->e;
    size_t at = 0, n_threads = mlxr_pool_n_threads(s->d->pool);
    size_t share = mlxr_pool_share(s->step->n_rows, UNIT, i_thread, n_threads);
    size_t share_end = mlxr_pool_share(s->step->n_rows, UNIT, i_thread + 1, n_threads);

    if (begin < share || end > share_end) share_end = end; /* another thread's, or no shares at all */

    for (size_t j = 0; j < s->n_ops && at < end; j++) {
        const mlxr_matrix *m = &e->base.program->weights[s->ops[j].op->weight].m;
        size_t from = begin > at ? begin - at : 0, to = end - at < m->n_rows ? end - at : m->n_rows;
        if (from < to && s->ops[j].ints.few) {
            mlxr_linear_ints a = {.m = m,
                                  .bias = s->ops[j].vector,
                                  .x = e->ints + s->ops[j].i_ints * e->cap_tokens + first,
                                  .y = e->y + j * e->cap_tokens + first,
                                  .n_tokens = n};
            a.run_end = share_end - at < m->n_rows ? share_end - at : m->n_rows;
            if (share_end <= at + m->n_rows)
                a.after = ahead_in_next(s, i_thread);
            else if (j + 1 < s->n_ops)
                a.after = mlxr_stream_from(&e->base.program->weights[s->ops[j + 1].op->weight].m, 0);
            mlxr_ints_linear(&s->ops[j].ints, a.n_tokens)(&a, from, to,
                                                          e->scratch + i_thread * e->scratch_floats);
        } else if (from < to) {
            mlxr_cpu_linear a = {.m = m,
                                 .bias = s->ops[j].vector,
                                 .x = e->x + first,
                                 .y = e->y + j * e->cap_tokens + first,
                                 .n_tokens = n};
            s->ops[j].linear(&a, from, to, e->scratch + i_thread * e->scratch_floats);
        }
        at += m->n_rows;
    }
}

static void linears_range(void *arg, size_t begin, size_t end, size_t i_thread)
{
    const pass *s = arg;

    linear_rows(s, begin, end, i_thread, 0, s->n_list);
}

/* Many tokens go in as many parts as there are threads, the rows of one part after those of the other: a thread's own part
 * of the activations stays in its cache from one panel of rows to the next. A panel is made anew for each part, which costs
 * about as much as eight tokens do. */
enum { PART_TOKENS = 128 };

typedef struct parts {
    const pass *s;
    size_t n, n_rows; /* n_rows: of one part, up to a whole panel */
} parts;

static void parts_range(void *arg, size_t begin, size_t end, size_t i_thread)
{
    const parts *p = arg;

    for (size_t i = begin / p->n_rows; i * p->n_rows < end; i++) {
        size_t at = i * p->n_rows, from = begin > at ? begin - at : 0,
               to = end - at < p->n_rows ? end - at : p->n_rows;
        size_t first = p->s->n_list * i / p->n / 8 * 8, last = p->s->n_list * (i + 1) / p->n / 8 * 8;
        if (i + 1 == p->n) last = p->s->n_list;
        if (to > p->s->step->n_rows) to = p->s->step->n_rows;
        if (from < to) linear_rows(p->s, from, to, i_thread, first, last - first);
    }
}

/* The rows that the step reads, in every kind of integers that it needs. */
static void ints_range(void *arg, size_t begin, size_t end, size_t i_thread)
{
    const pass *s = arg;
    const cpu_executable *e = s->e;
    size_t n_done = 0;

    (void)i_thread;
    for (size_t j = 0; j < s->n_ops; j++) {
        const cpu_op *c = &s->ops[j];
        if (!c->ints.few || c->i_ints < n_done) continue;
        n_done = c->i_ints + 1;
        for (size_t i = begin; i < end; i++) {
            s->d->kernels->ints->from_floats(&e->ints[c->i_ints * e->cap_tokens + i], e->x[i],
                                             e->base.program->regs[c->op->a].width, c->ints.group,
                                             c->ints.order);
        }
    }
}

static void run_linears(pass *s)
{
    cpu_executable *e = s->e;
    size_t n_rows = s->step->n_rows, grain = n_rows / (mlxr_pool_n_threads(s->d->pool) * 8), least, n_cols;

    for (size_t i = 0; i < s->n_list; i++) e->x[i] = row_of(s, s->ops[0].op->a, i);
    for (size_t j = 0; j < s->n_ops; j++) {
        for (size_t i = 0; i < s->n_list; i++) e->y[j * e->cap_tokens + i] = row_of(s, s->ops[j].op->dst, i);
    }
    if (e->n_ints) mlxr_pool_for(s->d->pool, s->n_list, rows_grain(s), ints_range, s);
    /* Eight pieces a thread even out what cores are slowed by. For few tokens a share is read in one go; below 8K weights
     * the hand-out itself shows. For many, above a panel's rows nothing is gained. */
    n_cols = e->base.program->weights[s->ops[0].op->weight].m.n_cols;
    if (s->n_list < SHARED_BELOW) {
        least = 8192 / n_cols;
        mlxr_pool_split(s->d->pool, n_rows, UNIT, grain > least ? grain : least, linears_range, s);
    } else {
        size_t most = mlxr_cpu_panel_rows(n_cols), n_threads = mlxr_pool_n_threads(s->d->pool);
        parts p = {s, s->n_list / PART_TOKENS, mlxr_round_up(n_rows, MLXR_INTS_PANEL_ROWS)};
        if (p.n > n_threads) p.n = n_threads;
        grain = grain < 4 ? 4 : grain > most ? most : grain;
        if (p.n < 2)
            mlxr_pool_for(s->d->pool, n_rows, mlxr_round_up(grain, 16), linears_range, s);
        else
            mlxr_pool_split(s->d->pool, p.n * p.n_rows, MLXR_INTS_PANEL_ROWS, MLXR_INTS_PANEL_ROWS,
                            parts_range, &p);
    }
}

/* ---- LOOK ---- */

static mlxr_status run_look(pass *s, mlxr_error *err)
{
    cpu_executable *e = s->e;
    const mlxr_op *op = s->ops[0].op;
    cpu_look l = {.e = e,
                  .state = s->state,
                  .c = &s->ops[0],
                  .tables = s->tables,
                  .n = s->n_list,
                  .list = s->list,
                  .positions = s->positions,
                  .seqs = s->seqs,
                  .q = e->x,
                  .dst = e->y};

    for (size_t i = 0; i < s->n_list; i++) {
        e->x[i] = row_of(s, op->a, i);
        e->y[i] = row_of(s, op->dst, i);
    }
    return mlxr_cpu_run_look(&l, err);
}

/* ---- EXPERTS ---- */

static void run_experts(pass *s)
{
    cpu_executable *e = s->e;
    const mlxr_op *op = s->ops[0].op;
    float **dst = e->y, **route = e->y + e->cap_tokens;

    for (size_t i = 0; i < s->n_list; i++) {
        e->x[i] = row_of(s, op->a, i);
        route[i] = row_of(s, op->b, i);
        dst[i] = row_of(s, op->dst, i);
    }
    mlxr_cpu_run_experts(e, &s->ops[0], e->x, (const float *const *)route, dst, s->n_list);
}

/* ---- CONV, DELTA ---- */

/* Where the state of a run's sequence is read and where it goes; fresh: zeros are to be written there first. */
typedef struct moved {
    const float *from;
    float *to;
    bool fresh;
} moved;

static moved state_of(const pass *s, mlxr_slot_id slot, const cpu_tile *run)
{
    const mlxr_program *p = s->e->base.program;
    uint32_t seq = s->seqs[s->list[run->begin]];
    const mlxr_sequence_step *step = &s->steps[seq];
    float *versions = s->state->sequences + (size_t)s->tables[seq].sequence * 2 * p->n_sequence_floats +
                      p->slots[slot].offset;
    float *to = versions + step->to * p->n_sequence_floats;

    if (run->begin == 0 && s->continues) return (moved){to, to, false};
    if (step->fresh) return (moved){to, to, true};
    return (moved){versions + step->from * p->n_sequence_floats, to, false};
}

/* Channels of one unit of work. */
enum { CHANNELS = 128 };

static void conv_range(void *arg, size_t begin, size_t end, size_t i_thread)
{
    const pass *s = arg;
    const cpu_executable *e = s->e;
    const cpu_op *c = s->ops;
    const mlxr_slot *sl = &e->base.program->slots[c->op->u.conv.slot];
    size_t n_parts = (sl->n_channels + CHANNELS - 1) / CHANNELS;

    (void)i_thread;
    for (size_t i = begin; i < end; i++) {
        const cpu_tile *run = &e->tiles[i / n_parts];
        size_t first = i % n_parts * CHANNELS;
        size_t n = sl->n_channels - first < CHANNELS ? sl->n_channels - first : CHANNELS;
        moved state = state_of(s, c->op->u.conv.slot, run);
        mlxr_cpu_conv a = {.w = c->vector,
                           .bias = c->bias,
                           .taps = state.to,
                           .x = row_of(s, c->op->a, run->begin),
                           .y = row_of(s, c->op->dst, run->begin),
                           .x_stride = e->stride[c->op->a],
                           .y_stride = e->stride[c->op->dst],
                           .n_channels = sl->n_channels,
                           .n_taps = sl->n_taps,
                           .n_tokens = run->n};
        for (size_t j = 0; j < sl->n_taps; j++) {
            size_t at = j * sl->n_channels + first;
            if (state.fresh) {
                memset(state.to + at, 0, n * sizeof *state.to);
            } else if (state.from != state.to) {
                memcpy(state.to + at, state.from + at, n * sizeof *state.to);
            }
        }
        s->d->kernels->conv(&a, first, first + n);
        for (size_t t = 0; t < run->n && c->act.act != MLXR_ACT_NONE; t++) {
            float *y = a.y + t * a.y_stride + first;
            s->d->kernels->act_mul(y, y, NULL, n, c->act);
        }
    }
}

/* decay[t] and beta[t] of one head. */
static void delta_gates(const pass *s, const cpu_tile *run, size_t h, float *decay, float *beta)
{
    const cpu_op *c = s->ops;

    for (size_t t = 0; t < run->n; t++) {
        double x = (double)row_of(s, c->op->d, run->begin + t)[h] + c->bias[h];
        double softplus = fmax(x, 0) + log1p(exp(-fabs(x)));
        decay[t] = (float)exp(c->vector[h] * softplus);
        beta[t] = (float)(1 / (1 + exp(-(double)row_of(s, c->op->e, run->begin + t)[h])));
    }
}

static void delta_range(void *arg, size_t begin, size_t end, size_t i_thread)
{
    const pass *s = arg;
    const cpu_executable *e = s->e;
    const mlxr_op *op = s->ops[0].op;
    const mlxr_slot *sl = &e->base.program->slots[op->u.delta.slot];
    size_t H = sl->n_kv_heads, per_k_head = H / op->u.delta.n_k_heads;
    size_t n_state = sl->k_head_dim * sl->v_head_dim;
    float *decay = e->scratch + i_thread * e->scratch_floats, *beta = decay + MLXR_CPU_MAX_TOKENS;

    for (size_t i = begin; i < end; i++) {
        const cpu_tile *run = &e->tiles[i / H];
        size_t h = i % H, k_at = h / per_k_head * sl->k_head_dim;
        moved state = state_of(s, op->u.delta.slot, run);
        mlxr_cpu_delta a = {.old = state.from + h * n_state,
                            .state = state.to + h * n_state,
                            .k_dim = sl->k_head_dim,
                            .v_dim = sl->v_head_dim,
                            .n_tokens = run->n,
                            .q = row_of(s, op->a, run->begin) + k_at,
                            .k = row_of(s, op->b, run->begin) + k_at,
                            .v = row_of(s, op->c, run->begin) + h * sl->v_head_dim,
                            .y = row_of(s, op->dst, run->begin) + h * sl->v_head_dim,
                            .q_stride = e->stride[op->a],
                            .k_stride = e->stride[op->b],
                            .v_stride = e->stride[op->c],
                            .y_stride = e->stride[op->dst],
                            .decay = decay,
                            .beta = beta};
        if (state.fresh) memset(a.state, 0, n_state * sizeof *a.state);
        delta_gates(s, run, h, decay, beta);
        s->d->kernels->delta(&a);
    }
}

/* Both are for every token, whose rows follow each other in every register. */
static void run_recurrent(pass *s)
{
    const mlxr_program *p = s->e->base.program;
    const mlxr_op *op = s->ops[0].op;
    const mlxr_slot *sl = &p->slots[mlxr_op_slot(op)];
    bool conv = op->kind == MLXR_OP_SHORT_CONV;
    size_t n_parts = conv ? (sl->n_channels + CHANNELS - 1) / CHANNELS : sl->n_kv_heads, n_runs = 0;

    for (size_t i = 0; i < s->n_list; i++) {
        if (i > 0 && s->seqs[i] == s->seqs[i - 1]) {
            s->e->tiles[n_runs - 1].n++;
        } else {
            s->e->tiles[n_runs++] = (cpu_tile){i, 1};
        }
    }
    mlxr_pool_for(s->d->pool, n_runs * n_parts, 1, conv ? conv_range : delta_range, s);
}

/* ---- run ---- */

/* Frequencies of a position's own lie in the row of sines until they are turned into these. */
static const float *frequencies_at(const mlxr_op *op, size_t position, float *room)
{
    if (!op->u.rope.dynamic_context || position < op->u.rope.dynamic_context) return op->u.rope.inv_freq;
    mlxr_rope_frequencies_at(room, op->u.rope.n_rot, op->u.rope.dynamic_theta, op->u.rope.dynamic_factor,
                             op->u.rope.dynamic_context, position);
    return room;
}

static void turn_range(void *arg, size_t begin, size_t end, size_t i_thread)
{
    const pass *s = arg;

    (void)i_thread;
    for (size_t r = 0; r < s->e->n_ropes; r++) {
        const cpu_rope *rope = &s->e->ropes[r];
        for (size_t t = begin; t < end; t++) {
            float *cosines = rope->cos + t * rope->half, *sines = rope->sin + t * rope->half;
            const float *inv_freq = frequencies_at(rope->op, s->positions[t], sines);
            for (size_t i = 0; i < rope->half; i++) {
                float angle = (float)s->positions[t] * inv_freq[i];
                cosines[i] = cosf(angle) * rope->op->u.rope.scale;
                sines[i] = sinf(angle) * rope->op->u.rope.scale;
            }
        }
    }
}

/* What the step at hand took since `began`. */
static void note_step(pass *s, const cpu_step *step, uint64_t began)
{
    mlxr_cpu_profile_note(s->e, (size_t)(step - s->e->steps), mlxr_now_ns() - began,
                          &(cpu_noted){s->list, s->n_list, s->positions, s->seqs});
}

static mlxr_status run_pass(pass *s, const volatile int *cancel, mlxr_error *err)
{
    const cpu_executable *e = s->e;
    const mlxr_program *p = e->base.program;
    size_t n_steps = s->hidden ? e->n_steps_hidden : e->n_steps;
    uint64_t began;
    mlxr_status st = MLXR_OK;

    s->list = e->every;
    s->n_list = s->n_tokens;
    mlxr_pool_for(s->d->pool, s->n_tokens, rows_grain(s), turn_range, s);
    for (size_t i = 0; i < n_steps; i++) {
        const cpu_step *step = &e->steps[i];
        s->ops = e->ops + step->first;
        s->step = step;
        s->n_ops = step->n;
        s->list = step->wanted_only ? e->wanted : e->every;
        s->n_list = step->wanted_only ? s->n_wanted : s->n_tokens;
        if (s->n_list == 0) continue;
        if (mlxr_cancelled(cancel)) {
            return mlxr_fail(err, MLXR_E_CANCELLED, "device cpu: cancelled before step %zu of %zu (%s)", i,
                             n_steps, mlxr_op_name(s->ops[0].op->kind));
        }
        began = e->profile ? mlxr_now_ns() : 0;
        switch (step->kind) {
        case CPU_ROWS: mlxr_pool_for(s->d->pool, s->n_list, rows_grain(s), rows_range, s); break;
        case CPU_LINEARS: run_linears(s); break;
        case CPU_LOOKING: st = run_look(s, err); break;
        case CPU_EXPERTS: run_experts(s); break;
        case CPU_CONV:
        case CPU_DELTA: run_recurrent(s); break;
        }
        if (st != MLXR_OK) return st;
        if (e->profile) note_step(s, step, began);
    }
    for (size_t i = 0; i < s->n_wanted && s->hidden; i++) {
        mlxr_reg_id r = p->hidden;
        memcpy(s->hidden + i * p->hidden_size, e->regs[r] + e->wanted[i] * e->stride[r],
               p->hidden_size * sizeof *s->hidden);
    }
    return MLXR_OK;
}

/* ---- the likeliest ids of a batch's rows ---- */

typedef struct ids {
    const mlxr_cpu_kernels *kernels;
    const float *logits;
    size_t n_vocab;
    int32_t *ids;
} ids;

static void ids_range(void *arg, size_t begin, size_t end, size_t i_thread)
{
    const ids *a = arg;

    (void)i_thread;
    for (size_t i = begin; i < end; i++)
        a->ids[i] = a->kernels->likeliest(a->logits + i * a->n_vocab, a->n_vocab);
}

static mlxr_status cpu_run(mlxr_executable *base, mlxr_state *state, const mlxr_batch *batch,
                           const volatile int *cancel, float *logits, mlxr_error *err)
{
    cpu_executable *e = (cpu_executable *)base;
    pass s = {.e = e,
              .d = (cpu_device *)base->device,
              .state = (cpu_state *)state,
              .tables = batch->tables,
              .steps = batch->steps};
    size_t i_row = 0;
    mlxr_status st = MLXR_OK;

    for (size_t t = 0; t < batch->n_tokens && st == MLXR_OK; t += s.n_tokens) {
        s.n_tokens = batch->n_tokens - t < MLXR_CPU_MAX_TOKENS ? batch->n_tokens - t : MLXR_CPU_MAX_TOKENS;
        if (!mlxr_cpu_reserve(e, s.n_tokens)) {
            return mlxr_fail(err, MLXR_E_NOMEM, "device cpu: out of memory for a step of %zu tokens",
                             s.n_tokens);
        }
        s.continues = t > 0 && batch->seqs[t] == batch->seqs[t - 1];
        s.ids = batch->ids + t;
        s.positions = batch->positions + t;
        s.seqs = batch->seqs + t;
        s.logits = logits ? logits + i_row * base->program->vocab_size : NULL;
        s.hidden = batch->hidden ? batch->hidden + i_row * base->program->hidden_size : NULL;
        for (s.n_wanted = 0; i_row < batch->n_rows && batch->rows[i_row] < t + s.n_tokens; i_row++) {
            e->wanted[s.n_wanted++] = (uint32_t)(batch->rows[i_row] - t);
        }
        st = run_pass(&s, cancel, err);
    }
    if (st == MLXR_OK && batch->likeliest) {
        ids a = {s.d->kernels, logits, base->program->vocab_size, batch->likeliest};
        mlxr_pool_for(s.d->pool, batch->n_rows, 1, ids_range, &a);
    }
    return st;
}

const mlxr_device_ops mlxr_device_cpu = {
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .compile = mlxr_cpu_compile,
    .executable_free = mlxr_cpu_executable_free,
    .block_bytes = cpu_block_bytes,
    .state_create = cpu_state_create,
    .state_free = cpu_state_free,
    .run = cpu_run,
    .profile = mlxr_cpu_profile_rows,
    .copy_block = cpu_copy_block,
    .read_sequence = cpu_read_sequence,
    .write_sequence = cpu_write_sequence,
    .fills_likeliest = true,
};
