/* From a program to the steps of the cpu device: which tokens each operation is for, what runs together, and the
 * memory a pass needs. */
#include <math.h>
#include <stdlib.h>

#include "device/cpu/cpu.h"

/* ---- which tokens ---- */

typedef enum need { NEED_NONE, NEED_WANTED, NEED_ALL } need;

static void need_more(need *of, mlxr_reg_id r, need n)
{
    if (r != MLXR_NONE && of[r] < n) of[r] = n;
}

/* Backwards: an operation is for the tokens that later operations need its register for. Keys and values are stored
 * for every token, and every token moves the other states on; the logits are for the wanted ones. needs[i] for
 * operation i. */
static void find_needs(need *needs, need *of_reg, const mlxr_program *p)
{
    for (size_t r = 0; r < p->n_regs; r++) of_reg[r] = NEED_NONE;
    of_reg[p->logits] = NEED_WANTED;
    for (size_t i = p->n_ops; i-- > 0;) {
        const mlxr_op *op = &p->ops[i];
        bool looks = op->kind == MLXR_OP_ATTEND;
        mlxr_reg_id inputs[MLXR_OP_MAX_INPUTS];
        size_t n = mlxr_op_inputs(op, inputs);
        needs[i] = !looks && mlxr_op_mixes_tokens(op->kind) ? NEED_ALL : of_reg[op->dst];
        of_reg[op->dst] = NEED_NONE; /* what it held before is written over */
        for (size_t j = 0; j < n; j++) need_more(of_reg, inputs[j], needs[i]);
        if (looks) {
            need_more(of_reg, op->b, NEED_ALL);
            need_more(of_reg, op->c, NEED_ALL);
        }
    }
}

/* ---- operations ---- */

static const float *vector_floats(cpu_executable *e, const mlxr_matrix *m, float offset)
{
    float *v = mlxr_arena_calloc(&e->arena, m->n_cols, sizeof *v);
    if (!v) return NULL;
    for (size_t i = 0; i < m->n_cols; i++) v[i] = offset + mlxr_load_float(m->data, m->dtype, i);
    return v;
}

/* A weight that may be absent: MLXR_OK and NULL. */
static mlxr_status take_vector(const float **out, cpu_executable *e, mlxr_weight_id id, mlxr_error *err)
{
    *out = id == MLXR_NONE ? NULL : vector_floats(e, &e->base.program->weights[id].m, 0.0f);
    return *out || id == MLXR_NONE ? MLXR_OK : mlxr_fail_nomem(err, "device cpu");
}

static mlxr_status refuse(const mlxr_op *op, size_t i, const char *why, mlxr_error *err)
{
    return mlxr_fail(err, MLXR_E_UNSUPPORTED, "device cpu: operation %zu (%s, layer %d): %s", i,
                     mlxr_op_name(op->kind), (int)op->i_layer, why);
}

static mlxr_status prepare_linear(cpu_executable *e, cpu_op *c, size_t i, mlxr_error *err)
{
    const mlxr_op *op = c->op;
    const mlxr_weight *w = &e->base.program->weights[op->weight];
    const mlxr_cpu_kernels *k = ((cpu_device *)e->base.device)->kernels;
    size_t scratch;

    if (((cpu_device *)e->base.device)->fast && k->ints) c->ints = k->ints->find(&w->m);
    if (c->ints.few) {
        size_t groups = mlxr_ints_groups(w->m.n_cols, c->ints.group), columns = groups * c->ints.group;
        size_t floats = mlxr_ints_scratch(w->m.n_cols, c->ints.group) / sizeof(float) + 1;
        if (groups > e->ints_groups) e->ints_groups = groups;
        if (columns > e->ints_columns) e->ints_columns = columns;
        if (floats > e->scratch_floats) e->scratch_floats = floats;
    }
    c->linear = k->linear(&w->m);
    if (!c->linear) {
        return mlxr_fail(
            err, MLXR_E_UNSUPPORTED,
            "device cpu: operation %zu (LINEAR, layer %d): no kernel for %s%s: %s, %u bits in groups "
            "of %u, %s",
            i, (int)op->i_layer, w->name, w->suffix, mlxr_quant_mode_name(w->m.quant.mode), w->m.quant.bits,
            w->m.quant.group_size, mlxr_dtype_name(w->m.dtype));
    }
    if (op->bias != MLXR_NONE) {
        c->vector = vector_floats(e, &e->base.program->weights[op->bias].m, 0.0f);
        if (!c->vector) return mlxr_fail_nomem(err, "device cpu");
    }
    if (!mlxr_cpu_linear_scratch(&scratch, w->m.n_cols)) return mlxr_fail_nomem(err, "device cpu");
    if (scratch > e->scratch_floats) e->scratch_floats = scratch;
    return MLXR_OK;
}

static bool same_rotation(const mlxr_op *a, const mlxr_op *b)
{
    return a->u.rope.inv_freq == b->u.rope.inv_freq && a->u.rope.n_rot == b->u.rope.n_rot &&
           a->u.rope.scale == b->u.rope.scale && a->u.rope.dynamic_context == b->u.rope.dynamic_context &&
           a->u.rope.dynamic_theta == b->u.rope.dynamic_theta &&
           a->u.rope.dynamic_factor == b->u.rope.dynamic_factor;
}

static mlxr_status prepare_rope(cpu_executable *e, cpu_op *c)
{
    size_t i = 0;

    while (i < e->n_ropes && !same_rotation(e->ropes[i].op, c->op)) i++;
    c->i_rope = i;
    if (i == e->n_ropes) e->ropes[e->n_ropes++] = (cpu_rope){.op = c->op, .half = c->op->u.rope.n_rot / 2};
    return MLXR_OK;
}

static mlxr_status prepare_norm(cpu_executable *e, cpu_op *c, mlxr_error *err)
{
    const mlxr_op *op = c->op;
    float *ones;

    c->n_vector = op->weight == MLXR_NONE ? op->u.norm.width : e->base.program->weights[op->weight].n_cols;
    if (op->weight != MLXR_NONE) {
        c->vector = vector_floats(e, &e->base.program->weights[op->weight].m, op->u.norm.offset);
    } else if ((ones = mlxr_arena_calloc(&e->arena, op->u.norm.width, sizeof *ones)) != NULL) {
        for (size_t i = 0; i < op->u.norm.width; i++) ones[i] = 1.0f;
        c->vector = ones;
    }
    return c->vector ? take_vector(&c->bias, e, op->bias, err) : mlxr_fail_nomem(err, "device cpu");
}

static mlxr_status prepare_act(cpu_op *c, mlxr_act act, size_t i, mlxr_error *err)
{
    c->act.act = act;
    return (unsigned)act <= MLXR_ACT_SWIGLU_OAI ? MLXR_OK : refuse(c->op, i, "no such activation here", err);
}

static mlxr_status prepare_conv(cpu_executable *e, cpu_op *c, size_t i, mlxr_error *err)
{
    const mlxr_matrix *m = &e->base.program->weights[c->op->weight].m;
    float *transposed = mlxr_arena_calloc(&e->arena, m->n_rows * m->n_cols, sizeof *transposed);
    float *row = mlxr_arena_calloc(&e->arena, m->n_cols, sizeof *row);

    if (!transposed || !row) return mlxr_fail_nomem(err, "device cpu");
    for (size_t r = 0; r < m->n_rows; r++) {
        mlxr_matrix_row(m, r, row);
        for (size_t j = 0; j < m->n_cols; j++) transposed[j * m->n_rows + r] = row[j];
    }
    c->vector = transposed;
    if (prepare_act(c, c->op->u.conv.act, i, err) != MLXR_OK) return MLXR_E_UNSUPPORTED;
    return take_vector(&c->bias, e, c->op->bias, err);
}

static mlxr_status prepare_delta(cpu_executable *e, cpu_op *c, mlxr_error *err)
{
    const mlxr_matrix *m = &e->base.program->weights[c->op->weight].m;
    float *rates = mlxr_arena_calloc(&e->arena, m->n_cols, sizeof *rates);

    if (!rates) return mlxr_fail_nomem(err, "device cpu");
    for (size_t h = 0; h < m->n_cols; h++) rates[h] = -expf(mlxr_load_float(m->data, m->dtype, h));
    c->vector = rates;
    if (e->scratch_floats < MLXR_CPU_DELTA_SCRATCH) e->scratch_floats = MLXR_CPU_DELTA_SCRATCH;
    return take_vector(&c->bias, e, c->op->bias, err);
}

/* Fills c for its operation; refuses what there is no code for. */
static mlxr_status prepare(cpu_executable *e, cpu_op *c, size_t i, mlxr_error *err)
{
    const mlxr_program *p = e->base.program;
    const mlxr_op *op = c->op;
    size_t scratch;

    switch (op->kind) {
    case MLXR_OP_EMBED:
    case MLXR_OP_ADD:
    case MLXR_OP_SOFTCAP:
    case MLXR_OP_SLICE: return MLXR_OK;
    case MLXR_OP_SCALE:
        c->factor = op->u.scale.factor;
        if (op->weight != MLXR_NONE) {
            const mlxr_matrix *m = &p->weights[op->weight].m;
            c->factor *= mlxr_load_float(m->data, m->dtype, 0);
        }
        return MLXR_OK;
    case MLXR_OP_LINEAR: return prepare_linear(e, c, i, err);
    case MLXR_OP_RMS_NORM:
    case MLXR_OP_LAYER_NORM: return prepare_norm(e, c, err);
    case MLXR_OP_ROPE: return prepare_rope(e, c);
    case MLXR_OP_ATTEND:
        if (!mlxr_cpu_attend_scratch(&scratch, &e->slots[op->u.attend.slot].kv)) {
            return mlxr_fail_nomem(err, "device cpu");
        }
        if (scratch > e->scratch_floats) e->scratch_floats = scratch;
        return take_vector(&c->vector, e, op->weight, err);
    case MLXR_OP_ROUTE: return take_vector(&c->vector, e, op->weight, err);
    case MLXR_OP_EXPERTS:
        c->act = (mlxr_cpu_act){.alpha = op->u.experts.alpha, .limit = op->u.experts.limit};
        if (prepare_act(c, op->u.experts.act, i, err) != MLXR_OK) return MLXR_E_UNSUPPORTED;
        return mlxr_cpu_prepare_experts(e, c, i, err);
    case MLXR_OP_ACT_MUL:
        c->act = (mlxr_cpu_act){.alpha = op->u.act.alpha,
                                .limit = op->u.act.limit,
                                .a_is_one = p->regs[op->a].width != p->regs[op->dst].width};
        return prepare_act(c, op->u.act.act, i, err);
    case MLXR_OP_SHORT_CONV: return prepare_conv(e, c, i, err);
    case MLXR_OP_GATED_DELTA: return prepare_delta(e, c, err);
    default: return refuse(op, i, "no such operation here", err);
    }
}

static mlxr_status list_ops(cpu_executable *e, mlxr_error *err)
{
    const mlxr_program *p = e->base.program;
    need *needs = mlxr_arena_calloc(&e->arena, p->n_ops, sizeof *needs);
    need *of_reg = mlxr_arena_calloc(&e->arena, p->n_regs, sizeof *of_reg);

    if (!needs || !of_reg) return mlxr_fail_nomem(err, "device cpu");
    find_needs(needs, of_reg, p);
    for (size_t i = 0; i < p->n_ops; i++) {
        const mlxr_op *op = &p->ops[i];
        cpu_op c = {.op = op, .wanted_only = needs[i] == NEED_WANTED};
        mlxr_status st = prepare(e, &c, i, err);
        if (st != MLXR_OK) return st;
        if (op->dst == p->logits && needs[i] == NEED_ALL) {
            return refuse(op, i, "the logits' register is read for other tokens than the wanted ones", err);
        }
        if (op->kind == MLXR_OP_ATTEND && op->b != MLXR_NONE) {
            e->ops[e->n_ops++] = (cpu_op){.op = op, .part = CPU_STORE};
        }
        if (op->kind == MLXR_OP_ATTEND) c.part = CPU_LOOK;
        if (needs[i] != NEED_NONE) e->ops[e->n_ops++] = c;
    }
    return MLXR_OK;
}

/* ---- steps ---- */

static cpu_step_kind step_kind(const cpu_op *c)
{
    if (c->part == CPU_LOOK) return CPU_LOOKING;
    switch (c->op->kind) {
    case MLXR_OP_LINEAR: return CPU_LINEARS;
    case MLXR_OP_EXPERTS: return CPU_EXPERTS;
    case MLXR_OP_SHORT_CONV: return CPU_CONV;
    case MLXR_OP_GATED_DELTA: return CPU_DELTA;
    default: return CPU_ROWS;
    }
}

/* Whether c comes behind the final hidden state. */
static bool is_head(const cpu_executable *e, const cpu_op *c)
{
    const mlxr_program *p = e->base.program;
    return p->hidden != MLXR_NONE && c->op >= p->ops + p->n_ops_hidden;
}

/* Whether operation c may run beside those of the step, with no meeting of the threads before it. */
static bool joins(const cpu_executable *e, const cpu_step *s, const cpu_op *c)
{
    const cpu_op *first = &e->ops[s->first];

    if (step_kind(c) != s->kind || c->wanted_only != s->wanted_only) return false;
    if (is_head(e, c) != is_head(e, first)) return false;
    if (s->kind == CPU_ROWS) return true;
    if (s->kind != CPU_LINEARS) return false;
    if (s->n == MLXR_CPU_MAX_LINEARS || c->op->a != first->op->a) return false;
    for (size_t i = 0; i < s->n; i++) {
        if (first[i].op->dst == c->op->dst || first[i].op->dst == c->op->a) return false;
    }
    return true;
}

static void list_steps(cpu_executable *e)
{
    for (size_t i = 0; i < e->n_ops; i++) {
        if (e->n_steps > 0 && joins(e, &e->steps[e->n_steps - 1], &e->ops[i])) {
            e->steps[e->n_steps - 1].n++;
        } else {
            e->steps[e->n_steps++] = (cpu_step){
                .kind = step_kind(&e->ops[i]), .first = i, .n = 1, .wanted_only = e->ops[i].wanted_only};
        }
        if (!is_head(e, &e->ops[i])) e->n_steps_hidden = e->n_steps;
    }
}

/* How many rows the steps of linears have, and which one follows which. */
static void count_rows(cpu_executable *e)
{
    for (size_t i = e->n_steps, next = SIZE_MAX; i-- > 0;) {
        cpu_step *s = &e->steps[i];
        s->next = next == SIZE_MAX ? i : next;
        if (s->kind != CPU_LINEARS) continue;
        next = i;
        for (size_t j = 0; j < s->n; j++)
            s->n_rows += e->base.program->weights[e->ops[s->first + j].op->weight].m.n_rows;
    }
}

/* Linears of one step that read the same kind of integers share them. */
static void list_ints(cpu_executable *e)
{
    for (size_t i = 0; i < e->n_steps; i++) {
        cpu_op *ops = e->ops + e->steps[i].first;
        size_t n = 0;
        for (size_t j = 0; j < e->steps[i].n; j++) {
            size_t k = 0;
            if (!ops[j].ints.few) continue;
            while (k < j && !(ops[k].ints.few && ops[k].ints.order == ops[j].ints.order &&
                              ops[k].ints.group == ops[j].ints.group)) {
                k++;
            }
            ops[j].i_ints = k < j ? ops[k].i_ints : n++;
        }
        if (n > e->n_ints) e->n_ints = n;
    }
}

/* ---- memory ---- */

bool mlxr_cpu_kv_layout(mlxr_cpu_kv *kv, mlxr_kv_type type, size_t k_dim, size_t v_dim)
{
    size_t size = type == MLXR_KV_F16 ? 2 : type == MLXR_KV_INT8 ? 1 : sizeof(float), values;

    *kv = (mlxr_cpu_kv){.type = type, .k_dim = k_dim, .v_dim = v_dim};
    if (!mlxr_mul_size(&kv->v_at, k_dim, MLXR_KV_BLOCK * size) ||
        !mlxr_add_size(&kv->v_stride, v_dim, MLXR_CPU_V_ALIGN - 1)) {
        return false;
    }
    kv->v_stride = kv->v_stride / MLXR_CPU_V_ALIGN * MLXR_CPU_V_ALIGN;
    if (!mlxr_mul_size(&values, kv->v_stride, MLXR_KV_BLOCK * size) ||
        !mlxr_add_size(&kv->k_scales_at, kv->v_at, values)) {
        return false;
    }
    kv->v_scales_at = kv->k_scales_at + MLXR_KV_BLOCK * sizeof(float);
    return mlxr_add_size(&kv->head_bytes, kv->k_scales_at,
                         type == MLXR_KV_INT8 ? 2 * MLXR_KV_BLOCK * sizeof(float) + 63 : 63) &&
           (kv->head_bytes = kv->head_bytes / 64 * 64) > 0;
}

/* Each KV slot's heads, one slot after the other. */
static bool lay_out_block(cpu_executable *e)
{
    const mlxr_program *p = e->base.program;
    mlxr_kv_type type = e->base.device->kv_type;

    for (size_t i = 0; i < p->n_slots; i++) {
        const mlxr_slot *sl = &p->slots[i];
        cpu_slot *s = &e->slots[i];
        size_t bytes;
        if (sl->kind != MLXR_SLOT_KV) continue;
        s->at = e->block_bytes;
        if (!mlxr_cpu_kv_layout(&s->kv, type, sl->k_head_dim, sl->v_head_dim) ||
            !mlxr_mul_size(&bytes, sl->n_kv_heads, s->kv.head_bytes) ||
            !mlxr_add_size(&e->block_bytes, e->block_bytes, bytes)) {
            return false;
        }
    }
    return true;
}

static bool allocate(cpu_executable *e)
{
    const mlxr_program *p = e->base.program;
    size_t n_most;

    if (!mlxr_mul_size(&n_most, p->n_ops, 2)) return false; /* ATTEND becomes two */
    e->ops = mlxr_arena_calloc(&e->arena, n_most, sizeof *e->ops);
    e->steps = mlxr_arena_calloc(&e->arena, n_most, sizeof *e->steps);
    e->ropes = mlxr_arena_calloc(&e->arena, p->n_ops, sizeof *e->ropes);
    e->slots = mlxr_arena_calloc(&e->arena, p->n_slots, sizeof *e->slots);
    e->stride = mlxr_arena_calloc(&e->arena, p->n_regs, sizeof *e->stride);
    e->regs = mlxr_arena_calloc(&e->arena, p->n_regs, sizeof *e->regs);
    if (!e->ops || !e->steps || !e->ropes || !e->slots || !e->stride || !e->regs) return false;
    for (size_t r = 0; r < p->n_regs; r++) {
        if (!mlxr_add_size(&e->stride[r], p->regs[r].width, MLXR_CPU_CHUNK)) return false;
        /* 16 more, so that rows of a power of two do not all fall into the same cache sets. */
        e->stride[r] = mlxr_round_up(p->regs[r].width, MLXR_CPU_CHUNK) + 16;
    }
    return lay_out_block(e);
}

mlxr_status mlxr_cpu_compile(mlxr_executable **out, mlxr_device *d, const mlxr_program *p, mlxr_error *err)
{
    mlxr_status st;
    size_t bytes;
    cpu_executable *e = calloc(1, sizeof *e);

    *out = NULL;
    if (!e) return mlxr_fail_nomem(err, "device cpu");
    e->base.device = d;
    e->base.program = p;
    if (!allocate(e)) {
        st = mlxr_fail_nomem(err, "device cpu");
        goto done;
    }
    if ((st = list_ops(e, err)) != MLXR_OK) goto done;
    list_steps(e);
    list_ints(e);
    count_rows(e);
    if (((cpu_device *)d)->profile && !mlxr_cpu_profile_create(e)) {
        st = mlxr_fail_nomem(err, "device cpu");
        goto done;
    }
    e->scratch_floats = mlxr_round_up(e->scratch_floats, 16); /* threads do not share a cache line */
    if (mlxr_mul_size(&bytes, e->scratch_floats, mlxr_pool_n_threads(((cpu_device *)d)->pool)) &&
        mlxr_mul_size(&bytes, bytes, sizeof *e->scratch)) {
        e->scratch = mlxr_aligned_alloc(bytes);
    }
    if (!e->scratch || !mlxr_cpu_reserve(e, 1)) {
        st = mlxr_fail_nomem(err, "device cpu");
        goto done;
    }
    *out = &e->base;
    e = NULL;
done:
    if (e) mlxr_cpu_executable_free(&e->base);
    return st;
}

static void release(cpu_executable *e)
{
    for (size_t r = 0; e->regs && r < e->base.program->n_regs; r++) {
        mlxr_aligned_free(e->regs[r]);
        e->regs[r] = NULL;
    }
    for (size_t i = 0; i < e->n_ropes; i++) {
        free(e->ropes[i].cos);
        free(e->ropes[i].sin);
        e->ropes[i].cos = e->ropes[i].sin = NULL;
    }
    mlxr_cpu_release_experts(e);
    free(e->ints);
    mlxr_aligned_free(e->ints_memory);
    e->ints = NULL;
    e->ints_memory = NULL;
    free(e->x);
    free(e->y);
    free(e->every);
    free(e->wanted);
    free(e->tiles);
    e->x = NULL;
    e->y = NULL;
    e->every = e->wanted = NULL;
    e->tiles = NULL;
    e->cap_tokens = 0;
}

void mlxr_cpu_executable_free(mlxr_executable *base)
{
    cpu_executable *e = (cpu_executable *)base;

    release(e);
    mlxr_cpu_release_look(e);
    mlxr_aligned_free(e->scratch);
    mlxr_arena_clear(&e->arena);
    free(e);
}

static float *zeroed_rows(size_t n_rows, size_t stride)
{
    size_t bytes;
    float *p;

    if (!mlxr_mul_size(&bytes, n_rows, stride) || !mlxr_mul_size(&bytes, bytes, sizeof *p)) return NULL;
    p = mlxr_aligned_alloc(bytes);
    if (p) memset(p, 0, bytes);
    return p;
}

bool mlxr_cpu_alloc_ints(mlxr_ints **rows, void **memory, size_t n, size_t columns, size_t groups)
{
    size_t row, bytes, x_bytes = mlxr_round_up(columns * sizeof(int16_t), 64);
    uint8_t *p;

    *rows = NULL;
    *memory = NULL;
    if (n == 0) return true;
    row = x_bytes + mlxr_round_up(groups * 32, 64);
    if (!mlxr_mul_size(&bytes, n, row)) return false;
    *rows = mlxr_malloc_array(n, sizeof **rows);
    *memory = mlxr_aligned_alloc(bytes);
    if (!*rows || !*memory) return false;
    p = *memory;
    for (size_t i = 0; i < n; i++, p += row) {
        mlxr_ints *x = *rows + i;
        x->x = (int16_t *)(void *)p;
        x->scales = (float *)(void *)(p + x_bytes);
        x->sums = x->scales + groups * 4;
    }
    return true;
}

bool mlxr_cpu_reserve(cpu_executable *e, size_t n)
{
    const mlxr_program *p = e->base.program;

    if (n <= e->cap_tokens) return true;
    if (n > 1) n = n <= MLXR_CPU_MAX_TOKENS / 8 ? MLXR_CPU_MAX_TOKENS / 8 : MLXR_CPU_MAX_TOKENS;
    release(e);
    for (size_t r = 0; r < p->n_regs; r++) {
        if (r != p->logits && !(e->regs[r] = zeroed_rows(n, e->stride[r]))) goto fail;
    }
    for (size_t i = 0; i < e->n_ropes; i++) {
        e->ropes[i].cos = mlxr_malloc_array(n * e->ropes[i].half, sizeof(float));
        e->ropes[i].sin = mlxr_malloc_array(n * e->ropes[i].half, sizeof(float));
        if (!e->ropes[i].cos || !e->ropes[i].sin) goto fail;
    }
    e->x = mlxr_malloc_array(n, sizeof *e->x);
    e->y = mlxr_malloc_array(n * MLXR_CPU_MAX_LINEARS, sizeof *e->y);
    e->every = mlxr_malloc_array(n, sizeof *e->every);
    e->wanted = mlxr_malloc_array(n, sizeof *e->wanted);
    e->tiles = mlxr_malloc_array(n, sizeof *e->tiles);
    if (!e->x || !e->y || !e->every || !e->wanted || !e->tiles) goto fail;
    if (!mlxr_cpu_reserve_experts(e, n) ||
        !mlxr_cpu_alloc_ints(&e->ints, &e->ints_memory, n * e->n_ints, e->ints_columns, e->ints_groups))
        goto fail;
    for (size_t i = 0; i < n; i++) e->every[i] = (uint32_t)i;
    e->cap_tokens = n;
    return true;
fail:
    release(e);
    return false;
}
