/* The ref device: what a program needs is laid out at compile; a step runs its operations one after the other. */
#include "device/ref/ref.h"

#include <stdio.h>
#include <stdlib.h>

typedef void (*ref_fn)(const ref_step *s, const mlxr_op *op);

/* By kind; a kind without a function is refused at compile. */
static const ref_fn functions[MLXR_OP_COUNT] = {
    [MLXR_OP_EMBED] = mlxr_ref_embed,
    [MLXR_OP_LINEAR] = mlxr_ref_linear,
    [MLXR_OP_RMS_NORM] = mlxr_ref_rms_norm,
    [MLXR_OP_LAYER_NORM] = mlxr_ref_layer_norm,
    [MLXR_OP_ROPE] = mlxr_ref_rope,
    [MLXR_OP_ATTEND] = mlxr_ref_attend,
    [MLXR_OP_ACT_MUL] = mlxr_ref_act_mul,
    [MLXR_OP_ADD] = mlxr_ref_add,
    [MLXR_OP_SCALE] = mlxr_ref_scale,
    [MLXR_OP_SOFTCAP] = mlxr_ref_softcap,
    [MLXR_OP_SLICE] = mlxr_ref_slice,
    [MLXR_OP_SHORT_CONV] = mlxr_ref_short_conv,
    [MLXR_OP_GATED_DELTA] = mlxr_ref_gated_delta,
    [MLXR_OP_ROUTE] = mlxr_ref_route,
    [MLXR_OP_EXPERTS] = mlxr_ref_experts,
};

static mlxr_status ref_open(mlxr_device **out, const mlxr_device_options *options, mlxr_error *err)
{
    mlxr_device *d = calloc(1, sizeof *d);

    *out = NULL;
    if (!d) return mlxr_fail_nomem(err, "device ref");
    d->ops = &mlxr_device_ref;
    d->n_threads = 1; /* always exact, always one thread */
    d->kv_type = options->kv_type == MLXR_KV_DEFAULT ? MLXR_KV_F32 : options->kv_type;
    snprintf(d->description, sizeof d->description, "ref, 1 thread");
    *out = d;
    return MLXR_OK;
}

static void ref_close(mlxr_device *d)
{
    free(d);
}

/* ---- compile ---- */

static void ref_executable_free(mlxr_executable *base)
{
    ref_executable *e = (ref_executable *)base;

    if (e->regs)
        for (size_t r = 0; r < base->program->n_regs; r++) free(e->regs[r]);
    free(e->regs);
    free(e->slot_offset);
    free(e->in_tail);
    free(e->ids);
    free(e->positions);
    free(e->seqs);
    free(e->row);
    free(e->scores);
    free(e->sum);
    free(e->hidden);
    free(e);
}

/* The registers that operations before the tail touch hold a row for every token; the others only wanted rows. */
static void find_tail(ref_executable *e, const mlxr_program *p)
{
    e->i_tail = 0;
    for (size_t i = 0; i < p->n_ops; i++)
        if (mlxr_op_mixes_tokens(p->ops[i].kind)) e->i_tail = i + 1;
    for (size_t r = 0; r < p->n_regs; r++) e->in_tail[r] = true;
    for (size_t i = 0; i < e->i_tail; i++) {
        mlxr_reg_id inputs[MLXR_OP_MAX_INPUTS];
        size_t n = mlxr_op_inputs(&p->ops[i], inputs);
        for (size_t j = 0; j < n; j++) e->in_tail[inputs[j]] = false;
        e->in_tail[p->ops[i].dst] = false;
    }
}

/* Every KV slot's keys, then its values, one slot after the other; false when a block would not fit a size_t. */
static bool lay_out_block(ref_executable *e, const mlxr_program *p)
{
    size_t total = 0;

    for (size_t i = 0; i < p->n_slots; i++) {
        const mlxr_slot *sl = &p->slots[i];
        size_t floats;
        if (sl->kind != MLXR_SLOT_KV) continue;
        e->slot_offset[i] = total;
        if (!mlxr_mul_size(&floats, sl->n_kv_heads * (sl->k_head_dim + sl->v_head_dim), MLXR_KV_BLOCK) ||
            !mlxr_add_size(&total, total, floats))
            return false;
        if (sl->v_head_dim > e->max_v_head_dim) e->max_v_head_dim = sl->v_head_dim;
    }
    e->block_floats = total;
    return total <= SIZE_MAX / sizeof(float);
}

/* What of an operation is not known here, or NULL. */
static const char *unsupported(const mlxr_op *op)
{
    mlxr_act act = MLXR_ACT_NONE;

    if ((unsigned)op->kind >= MLXR_OP_COUNT || !functions[op->kind]) return "no such operation here";
    if (op->kind == MLXR_OP_ACT_MUL) act = op->u.act.act;
    if (op->kind == MLXR_OP_SHORT_CONV) act = op->u.conv.act;
    if (op->kind == MLXR_OP_EXPERTS) act = op->u.experts.act;
    return (unsigned)act > MLXR_ACT_SWIGLU_OAI ? "no such activation here" : NULL;
}

static mlxr_status ref_compile(mlxr_executable **out, mlxr_device *d, const mlxr_program *p, mlxr_error *err)
{
    ref_executable *e = calloc(1, sizeof *e);
    mlxr_status st = MLXR_OK;

    *out = NULL;
    if (!e) return mlxr_fail_nomem(err, "device ref");
    e->base.device = d;
    e->base.program = p;
    e->regs = mlxr_calloc_array(p->n_regs, sizeof *e->regs);
    e->slot_offset = mlxr_calloc_array(p->n_slots, sizeof *e->slot_offset);
    e->in_tail = mlxr_calloc_array(p->n_regs, sizeof *e->in_tail);
    for (size_t i = 0; i < p->n_ops && st == MLXR_OK; i++) {
        const mlxr_op *op = &p->ops[i];
        const char *why = unsupported(op);
        if (why)
            st = mlxr_fail(err, MLXR_E_UNSUPPORTED, "device ref: operation %zu (%s, layer %d): %s", i,
                           mlxr_op_name(op->kind), (int)op->i_layer, why);
        else if (op->kind == MLXR_OP_ROPE && op->u.rope.n_rot / 2 > e->row_floats)
            e->row_floats = op->u.rope.n_rot / 2;
        else if (op->kind == MLXR_OP_EXPERTS)
            st = mlxr_ref_prepare_experts(e, op, i, err);
    }
    for (size_t i = 0; i < p->n_weights && st == MLXR_OK; i++) {
        if (!mlxr_quant_supported(p->weights[i].m.quant))
            st = mlxr_fail(err, MLXR_E_UNSUPPORTED, "device ref: %s%s: quantization is not supported",
                           p->weights[i].name, p->weights[i].suffix);
        if (p->weights[i].n_cols > e->row_floats) e->row_floats = p->weights[i].n_cols;
    }
    if (st == MLXR_OK && (!e->regs || !e->slot_offset || !e->in_tail || !lay_out_block(e, p)))
        st = mlxr_fail_nomem(err, "device ref");
    if (st == MLXR_OK) {
        e->row = mlxr_malloc_array(e->row_floats, sizeof *e->row);
        e->sum = mlxr_malloc_array(e->max_v_head_dim, sizeof *e->sum);
        e->hidden = mlxr_malloc_array(e->n_hidden, sizeof *e->hidden);
        if (!e->row || !e->sum || !e->hidden) st = mlxr_fail_nomem(err, "device ref");
    }
    if (st == MLXR_OK) {
        find_tail(e, p);
        *out = &e->base;
        return MLXR_OK;
    }
    ref_executable_free(&e->base);
    return st;
}

/* ---- state ---- */

static size_t ref_block_bytes(const mlxr_executable *base)
{
    return ((const ref_executable *)base)->block_floats * sizeof(float);
}

static void ref_state_free(mlxr_state *base)
{
    ref_state *s = (ref_state *)base;

    free(s->blocks);
    free(s->sequences);
    free(s);
}

static mlxr_status ref_state_create(mlxr_state **out, mlxr_executable *base, size_t n_blocks,
                                    size_t n_sequences, mlxr_error *err)
{
    ref_state *s = calloc(1, sizeof *s);

    *out = NULL;
    if (s) s->blocks = mlxr_calloc_array(n_blocks, ref_block_bytes(base));
    if (s) s->sequences = mlxr_calloc_array(n_sequences, mlxr_executable_sequence_bytes(base));
    if (!s || !s->blocks || !s->sequences) {
        if (s) ref_state_free(&s->base);
        return mlxr_fail(
            err, MLXR_E_NOMEM,
            "device ref: out of memory for %zu blocks of %zu bytes and %zu sequences of %zu bytes", n_blocks,
            ref_block_bytes(base), n_sequences, mlxr_executable_sequence_bytes(base));
    }
    *out = &s->base;
    return MLXR_OK;
}

static void ref_copy_block(mlxr_state *base, uint32_t to, uint32_t from)
{
    ref_state *s = (ref_state *)base;
    size_t n = ((const ref_executable *)base->executable)->block_floats;

    memcpy(s->blocks + to * n, s->blocks + from * n, n * sizeof *s->blocks);
}

static void ref_read_sequence(void *to, const mlxr_state *base, uint32_t sequence, unsigned version)
{
    const ref_state *s = (const ref_state *)base;
    size_t n = base->executable->program->n_sequence_floats;

    memcpy(to, s->sequences + (sequence * (size_t)2 + version) * n, n * sizeof *s->sequences);
}

static void ref_write_sequence(mlxr_state *base, uint32_t sequence, unsigned version, const void *from)
{
    ref_state *s = (ref_state *)base;
    size_t n = base->executable->program->n_sequence_floats;

    memcpy(s->sequences + (sequence * (size_t)2 + version) * n, from, n * sizeof *s->sequences);
}

/* ---- a step ---- */

/* A bigger block in place of *p, whose content is no longer needed; *p stays valid when there is none. */
static bool replace(void *p, size_t n, size_t size)
{
    void **at = p, *bigger = mlxr_malloc_array(n, size);

    if (!bigger) return false;
    free(*at);
    *at = bigger;
    return true;
}

static bool reserve(ref_executable *e, const mlxr_batch *batch)
{
    const mlxr_program *p = e->base.program;
    size_t n_tokens = batch->n_tokens, n_rows = batch->n_rows, n_positions = 0;

    for (size_t t = 0; t < n_tokens; t++)
        if (batch->positions[t] >= n_positions) n_positions = (size_t)batch->positions[t] + 1;
    if (n_positions > e->cap_scores) {
        if (!replace(&e->scores, n_positions, sizeof *e->scores)) return false;
        e->cap_scores = n_positions;
    }
    if (n_tokens > e->cap_tokens) {
        e->cap_tokens = 0; /* whatever fails below, the next step starts over */
        if (!replace(&e->ids, n_tokens, sizeof *e->ids) ||
            !replace(&e->positions, n_tokens, sizeof *e->positions) ||
            !replace(&e->seqs, n_tokens, sizeof *e->seqs))
            return false;
        for (size_t r = 0; r < p->n_regs; r++)
            if (!e->in_tail[r] && !replace(&e->regs[r], n_tokens, p->regs[r].width * sizeof(float)))
                return false;
        e->cap_tokens = n_tokens;
    }
    if (n_rows > e->cap_rows) {
        e->cap_rows = 0;
        for (size_t r = 0; r < p->n_regs; r++)
            if (e->in_tail[r] && !replace(&e->regs[r], n_rows, p->regs[r].width * sizeof(float)))
                return false;
        e->cap_rows = n_rows;
    }
    return true;
}

/* Moves the wanted rows to the front. They rise, so no row is overwritten before it has moved. */
static void keep_rows(ref_step *s, const mlxr_batch *batch)
{
    ref_executable *e = s->e;

    for (size_t r = 0; r < s->p->n_regs; r++) {
        size_t width = s->p->regs[r].width;
        for (size_t i = 0; i < batch->n_rows && !e->in_tail[r]; i++)
            memmove(s->regs[r] + i * width, s->regs[r] + batch->rows[i] * width, width * sizeof(float));
    }
    for (size_t i = 0; i < batch->n_rows; i++) {
        e->ids[i] = e->ids[batch->rows[i]];
        e->positions[i] = e->positions[batch->rows[i]];
        e->seqs[i] = e->seqs[batch->rows[i]];
    }
    s->n = batch->n_rows;
}

static mlxr_status ref_run(mlxr_executable *base, mlxr_state *state, const mlxr_batch *batch,
                           const volatile int *cancel, float *logits, mlxr_error *err)
{
    ref_executable *e = (ref_executable *)base;
    const mlxr_program *p = base->program;
    ref_step s = {.e = e,
                  .state = (ref_state *)state,
                  .p = p,
                  .n = batch->n_tokens,
                  .tables = batch->tables,
                  .steps = batch->steps};

    if (!reserve(e, batch))
        return mlxr_fail(err, MLXR_E_NOMEM, "device ref: out of memory for a step of %zu tokens",
                         batch->n_tokens);
    s.regs = e->regs;
    s.ids = e->ids;
    s.positions = e->positions;
    s.seqs = e->seqs;
    memcpy(e->ids, batch->ids, batch->n_tokens * sizeof *e->ids);
    memcpy(e->positions, batch->positions, batch->n_tokens * sizeof *e->positions);
    memcpy(e->seqs, batch->seqs, batch->n_tokens * sizeof *e->seqs);
    for (size_t i = 0; i < (batch->hidden ? p->n_ops_hidden : p->n_ops); i++) {
        if (i == e->i_tail) keep_rows(&s, batch);
        if (s.n == 0) return MLXR_OK;
        if (mlxr_cancelled(cancel))
            return mlxr_fail(err, MLXR_E_CANCELLED, "device ref: cancelled before operation %zu (%s)", i,
                             mlxr_op_name(p->ops[i].kind));
        functions[p->ops[i].kind](&s, &p->ops[i]);
    }
    if (batch->hidden)
        memcpy(batch->hidden, e->regs[p->hidden], s.n * p->hidden_size * sizeof *batch->hidden);
    else
        memcpy(logits, e->regs[p->logits], s.n * p->vocab_size * sizeof *logits);
    return MLXR_OK;
}

const mlxr_device_ops mlxr_device_ref = {
    .name = "ref",
    .open = ref_open,
    .close = ref_close,
    .compile = ref_compile,
    .executable_free = ref_executable_free,
    .block_bytes = ref_block_bytes,
    .state_create = ref_state_create,
    .state_free = ref_state_free,
    .run = ref_run,
    .copy_block = ref_copy_block,
    .read_sequence = ref_read_sequence,
    .write_sequence = ref_write_sequence,
};
