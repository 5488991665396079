/* summary: see summary.h. Everything is read off the operations, never off names of families: which layer a weight
 * belongs to is the first that uses it, which product of two registers is a feed-forward shows in where they come
 * from. */
#include "model/summary.h"

#include <stdio.h>
#include <stdlib.h>

const char *mlxr_storage_text(char text[static MLXR_STORAGE_TEXT], mlxr_storage s)
{
    if (s.quant.mode == MLXR_QUANT_NONE)
        snprintf(text, MLXR_STORAGE_TEXT, "%s", mlxr_dtype_name(s.dtype));
    else if (mlxr_quant_is_fp(s.quant.mode))
        snprintf(text, MLXR_STORAGE_TEXT, "%s group %u", mlxr_quant_mode_name(s.quant.mode),
                 s.quant.group_size);
    else
        snprintf(text, MLXR_STORAGE_TEXT, "%s %u-bit group %u %s", mlxr_quant_mode_name(s.quant.mode),
                 s.quant.bits, s.quant.group_size, mlxr_dtype_name(s.dtype));
    return text;
}

/* How far the run from i goes whose neighbours are `step` apart: the index of its last. */
static size_t run_end(const mlxr_layers *l, size_t i, size_t step)
{
    while (i + 1 < l->n && l->index[i + 1] - l->index[i] == step) i++;
    return i;
}

void mlxr_layers_print(mlxr_buf *out, const mlxr_layers *l)
{
    for (size_t i = 0; i < l->n;) {
        size_t step = i + 1 < l->n ? l->index[i + 1] - l->index[i] : 1, end = run_end(l, i, step);
        if (step > 1 && end - i < 3) end = i; /* too short to be a pattern */
        mlxr_buf_printf(out, "%s%zu", i ? ", " : "", l->index[i]);
        if (end > i) mlxr_buf_printf(out, "-%zu", l->index[end]);
        if (end > i && step > 1) mlxr_buf_printf(out, " by %zu", step);
        i = end + 1;
    }
}

/* ---- which layer a weight is of ---- */

enum { NO_LAYER = -1 };

typedef struct maker {
    mlxr_summary *s;
    const mlxr_program *p;
    size_t n_layers;   /* one more than the last that an operation names */
    int32_t *layer_of; /* [n_weights] */
    bool *is_small;    /* [n_weights] a vector, or the experts' biases, which are one for each */
    size_t *n_active;  /* [n_weights] experts a token takes of a stack; 0: the whole */
    size_t *list;      /* [n_layers], for the group at hand */
} maker;

static void find_layers(maker *m)
{
    for (size_t i = 0; i < m->p->n_weights; i++) {
        m->layer_of[i] = NO_LAYER;
        m->is_small[i] = m->p->weights[i].is_vector;
    }
    for (size_t i = m->p->n_ops; i-- > 0;) { /* backwards, so that the first one's layer stays */
        const mlxr_op *op = &m->p->ops[i];
        mlxr_weight_id ids[MLXR_OP_MAX_WEIGHTS];
        size_t n = mlxr_op_weights(op, ids);
        for (size_t k = 0; k < n; k++) m->layer_of[ids[k]] = op->i_layer;
        if (op->kind != MLXR_OP_EXPERTS) continue;
        for (size_t k = 0; k < n; k++) {
            m->n_active[ids[k]] = op->u.experts.k;
            m->is_small[ids[k]] = ids[k] == op->u.experts.gate_bias || ids[k] == op->u.experts.up_bias ||
                                  ids[k] == op->u.experts.down_bias;
        }
    }
}

static size_t count_layers(const mlxr_program *p)
{
    size_t n = 0;
    for (size_t i = 0; i < p->n_ops; i++)
        if (p->ops[i].i_layer >= 0 && (size_t)p->ops[i].i_layer >= n) n = (size_t)p->ops[i].i_layer + 1;
    return n;
}

/* ---- parameters and bytes ---- */

static size_t n_matrices(const mlxr_weight *w)
{
    return w->n_experts ? w->n_experts : 1;
}

static uint64_t n_parameters(const mlxr_weight *w)
{
    return (uint64_t)n_matrices(w) * w->n_rows * w->n_cols;
}

static uint64_t n_bytes(const mlxr_weight *w)
{
    uint64_t n = 0;

    if (!w->n_experts) return mlxr_matrix_bytes(&w->m);
    for (size_t i = 0; i < w->n_experts; i++) n += mlxr_matrix_bytes(&w->experts[i]);
    return n;
}

/* Of the experts' biases, which are matrices [E, F] and no stacks, a token's part is k rows. */
static uint64_t n_active_parameters(const maker *m, size_t i_weight)
{
    const mlxr_weight *w = &m->p->weights[i_weight];
    size_t k = m->n_active[i_weight], n = w->n_experts ? w->n_experts : w->n_rows;

    if (k == 0 || k >= n) return n_parameters(w);
    return w->n_experts ? (uint64_t)k * w->n_rows * w->n_cols : (uint64_t)k * w->n_cols;
}

static mlxr_storage storage_of(const mlxr_weight *w)
{
    return (mlxr_storage){.quant = w->m.quant, .dtype = w->m.dtype};
}

static bool same_storage(mlxr_storage a, mlxr_storage b)
{
    return a.dtype == b.dtype && a.quant.mode == b.quant.mode && a.quant.bits == b.quant.bits &&
           a.quant.group_size == b.quant.group_size;
}

static int by_parameters(const void *a, const void *b)
{
    const mlxr_storage_use *x = a, *y = b;
    return x->n_parameters == y->n_parameters ? 0 : x->n_parameters > y->n_parameters ? -1 : 1;
}

static bool count_uses(maker *m)
{
    mlxr_summary *s = m->s;

    s->uses = mlxr_arena_calloc(&s->arena, m->p->n_weights, sizeof *s->uses);
    if (!s->uses) return false;
    for (size_t i = 0; i < m->p->n_weights; i++) {
        const mlxr_weight *w = &m->p->weights[i];
        size_t k = 0;
        s->n_parameters += n_parameters(w);
        s->n_active_parameters += n_active_parameters(m, i);
        s->n_weight_bytes += n_bytes(w);
        if (m->is_small[i]) continue;
        while (k < s->n_uses && !same_storage(s->uses[k].storage, storage_of(w))) k++;
        if (k == s->n_uses) s->uses[s->n_uses++] = (mlxr_storage_use){.storage = storage_of(w)};
        s->uses[k].n_matrices += n_matrices(w);
        s->uses[k].n_parameters += n_parameters(w);
        s->uses[k].n_bytes += n_bytes(w);
    }
    if (s->n_uses) qsort(s->uses, s->n_uses, sizeof *s->uses, by_parameters);
    return true;
}

/* ---- how layers are made ---- */

/* The operation before `i` that wrote register r last, through SLICE: both halves of a fused projection come from
 * one LINEAR. NULL: none. */
static const mlxr_op *written_by(const mlxr_program *p, size_t i, mlxr_reg_id r)
{
    while (i-- > 0) {
        const mlxr_op *op = &p->ops[i];
        if (op->dst != r) continue;
        if (op->kind != MLXR_OP_SLICE) return op;
        r = op->a;
    }
    return NULL;
}

/* Whether ACT_MUL number i is a feed-forward: act(x W) or act(x W) * (x V) over one input x. Gates of attention, of
 * recurrences and of shared experts multiply what no LINEAR has written, or without an activation. */
static bool is_ffn(const mlxr_program *p, size_t i)
{
    const mlxr_op *op = &p->ops[i], *a, *b;

    if (op->u.act.act == MLXR_ACT_NONE || op->u.act.act == MLXR_ACT_SIGMOID) return false;
    a = written_by(p, i, op->a);
    if (!a || a->kind != MLXR_OP_LINEAR || a->i_layer != op->i_layer) return false;
    if (op->b == MLXR_NONE) return true;
    b = written_by(p, i, op->b);
    return b && b->kind == MLXR_OP_LINEAR && b->i_layer == op->i_layer && a->a == b->a;
}

static void read_shape(mlxr_layer_shape *s, const mlxr_program *p, size_t i)
{
    const mlxr_op *op = &p->ops[i];
    mlxr_slot_id slot = mlxr_op_slot(op);
    const mlxr_slot *sl = slot < p->n_slots ? &p->slots[slot] : NULL;

    switch (op->kind) {
    case MLXR_OP_ATTEND:
        s->n_heads = op->u.attend.n_heads;
        s->reads_kv = op->b == MLXR_NONE;
        if (!sl) break;
        s->n_kv_heads = sl->n_kv_heads;
        s->k_head_dim = sl->k_head_dim;
        s->v_head_dim = sl->v_head_dim;
        s->window = sl->window;
        break;
    case MLXR_OP_GATED_DELTA:
        s->n_key_heads = op->u.delta.n_k_heads;
        if (!sl) break;
        s->n_states = sl->n_kv_heads;
        s->state_k_dim = sl->k_head_dim;
        s->state_v_dim = sl->v_head_dim;
        break;
    case MLXR_OP_SHORT_CONV:
        if (!sl) break;
        s->n_channels += sl->n_channels;
        s->n_taps = sl->n_taps;
        break;
    case MLXR_OP_ACT_MUL:
        if (is_ffn(p, i) && p->regs[op->dst].width > s->ffn_width) s->ffn_width = p->regs[op->dst].width;
        break;
    case MLXR_OP_EXPERTS:
        s->n_experts = p->weights[op->u.experts.down].n_experts;
        s->n_active_experts = op->u.experts.k;
        s->expert_width = op->u.experts.width;
        break;
    default: break;
    }
}

static bool same_shape(const mlxr_layer_shape *a, const mlxr_layer_shape *b)
{
    return a->n_heads == b->n_heads && a->n_kv_heads == b->n_kv_heads && a->k_head_dim == b->k_head_dim &&
           a->v_head_dim == b->v_head_dim && a->window == b->window && a->reads_kv == b->reads_kv &&
           a->n_states == b->n_states && a->n_key_heads == b->n_key_heads &&
           a->state_k_dim == b->state_k_dim && a->state_v_dim == b->state_v_dim &&
           a->n_channels == b->n_channels && a->n_taps == b->n_taps && a->ffn_width == b->ffn_width &&
           a->n_experts == b->n_experts && a->n_active_experts == b->n_active_experts &&
           a->expert_width == b->expert_width;
}

/* The first n of m->list, for good. */
static bool keep_list(maker *m, mlxr_layers *out, size_t n)
{
    size_t *index = mlxr_arena_calloc(&m->s->arena, n, sizeof *index);

    if (!index) return false;
    memcpy(index, m->list, n * sizeof *index);
    *out = (mlxr_layers){index, n};
    return true;
}

static bool group_shapes(maker *m)
{
    mlxr_summary *s = m->s;
    mlxr_layer_shape *shapes = mlxr_arena_calloc(&s->arena, m->n_layers, sizeof *shapes);
    bool *done = mlxr_arena_calloc(&s->arena, m->n_layers, sizeof *done);

    s->shapes = mlxr_arena_calloc(&s->arena, m->n_layers, sizeof *s->shapes);
    if (!shapes || !done || !s->shapes) return false;
    for (size_t i = 0; i < m->p->n_ops; i++)
        if (m->p->ops[i].i_layer >= 0) read_shape(&shapes[m->p->ops[i].i_layer], m->p, i);
    for (size_t i = 0; i < m->n_layers; i++) {
        mlxr_shape_group *g = &s->shapes[s->n_shapes];
        size_t n = 0;
        if (done[i]) continue;
        for (size_t j = i; j < m->n_layers; j++) {
            if (done[j] || !same_shape(&shapes[i], &shapes[j])) continue;
            done[j] = true;
            m->list[n++] = j;
        }
        g->shape = shapes[i];
        if (!keep_list(m, &g->layers, n)) return false;
        s->n_shapes++;
    }
    return true;
}

/* ---- how layers are stored ---- */

/* "mlp.down_proj" of "model.layers.3.mlp.down_proj": what follows the layer's number; the whole name where it has
 * none. */
static const char *module_of(const mlxr_weight *w, int32_t layer)
{
    char number[24];
    size_t n;
    const char *at = w->name;

    if (layer < 0) return w->name;
    n = (size_t)snprintf(number, sizeof number, ".%d.", (int)layer);
    at = strstr(at, number);
    return at ? at + n : w->name;
}

/* The module, with the suffix where it is not the usual one. */
static const char *exception_name(maker *m, const mlxr_weight *w, int32_t layer)
{
    const char *name = module_of(w, layer);

    if (strcmp(w->suffix, ".weight") == 0) return name;
    return mlxr_arena_printf(&m->s->arena, "%s%s", name, w->suffix);
}

/* The storage with the most parameters among the matrices of a layer; false: it has no matrix. */
static bool main_storage(mlxr_storage *out, const maker *m, const size_t *ids, size_t n)
{
    uint64_t best = 0;
    bool found = false;

    for (size_t i = 0; i < n; i++) {
        mlxr_storage s = storage_of(&m->p->weights[ids[i]]);
        uint64_t sum = 0;
        for (size_t j = 0; j < n; j++)
            if (same_storage(s, storage_of(&m->p->weights[ids[j]])))
                sum += n_parameters(&m->p->weights[ids[j]]);
        if (found && sum <= best) continue;
        best = sum;
        *out = s;
        found = true;
    }
    return found;
}

/* The group a layer would be alone: ids are its matrices. */
static bool layer_storage(maker *m, mlxr_storage_group *g, int32_t layer, const size_t *ids, size_t n)
{
    mlxr_exception *e = mlxr_arena_calloc(&m->s->arena, n, sizeof *e);
    size_t n_exceptions = 0;

    if (!e) return false;
    if (!main_storage(&g->storage, m, ids, n)) return true;
    for (size_t i = 0; i < n; i++) {
        const mlxr_weight *w = &m->p->weights[ids[i]];
        if (same_storage(g->storage, storage_of(w))) continue;
        e[n_exceptions] = (mlxr_exception){exception_name(m, w, layer), storage_of(w)};
        if (!e[n_exceptions++].module) return false;
    }
    g->exceptions = e;
    g->n_exceptions = n_exceptions;
    return true;
}

static bool same_group(const mlxr_storage_group *a, const mlxr_storage_group *b)
{
    if (!same_storage(a->storage, b->storage) || a->n_exceptions != b->n_exceptions) return false;
    for (size_t i = 0; i < a->n_exceptions; i++)
        if (strcmp(a->exceptions[i].module, b->exceptions[i].module) != 0 ||
            !same_storage(a->exceptions[i].storage, b->exceptions[i].storage))
            return false;
    return true;
}

/* The matrices of every layer, layer after layer: those of i are ids[first[i]] to ids[first[i + 1]]. */
static bool sort_matrices(const maker *m, size_t **ids, size_t **first)
{
    const mlxr_program *p = m->p;
    size_t *at;

    *ids = mlxr_arena_calloc(&m->s->arena, p->n_weights, sizeof **ids);
    *first = mlxr_arena_calloc(&m->s->arena, m->n_layers + 2, sizeof **first);
    if (!*ids || !*first) return false;
    at = *first + 1; /* while filling, at[i] is where layer i's next goes */
    for (size_t i = 0; i < p->n_weights; i++)
        if (!m->is_small[i] && m->layer_of[i] >= 0) at[m->layer_of[i] + 1]++;
    for (size_t i = 1; i <= m->n_layers; i++) at[i] += at[i - 1];
    for (size_t i = 0; i < p->n_weights; i++)
        if (!m->is_small[i] && m->layer_of[i] >= 0) (*ids)[at[m->layer_of[i]]++] = i;
    return true;
}

static bool group_storages(maker *m)
{
    mlxr_summary *s = m->s;
    mlxr_storage_group *of = mlxr_arena_calloc(&s->arena, m->n_layers, sizeof *of);
    bool *done = mlxr_arena_calloc(&s->arena, m->n_layers, sizeof *done);
    size_t *ids, *first;

    s->storages = mlxr_arena_calloc(&s->arena, m->n_layers, sizeof *s->storages);
    if (!of || !done || !s->storages || !sort_matrices(m, &ids, &first)) return false;
    for (size_t i = 0; i < m->n_layers; i++) {
        if (!layer_storage(m, &of[i], (int32_t)i, ids + first[i], first[i + 1] - first[i])) return false;
        done[i] = first[i] == first[i + 1]; /* no matrix of its own */
    }
    for (size_t i = 0; i < m->n_layers; i++) {
        mlxr_storage_group *g = &s->storages[s->n_storages];
        size_t n = 0;
        if (done[i]) continue;
        for (size_t j = i; j < m->n_layers; j++) {
            if (done[j] || !same_group(&of[i], &of[j])) continue;
            done[j] = true;
            m->list[n++] = j;
        }
        *g = of[i];
        if (!keep_list(m, &g->layers, n)) return false;
        s->n_storages++;
    }
    return true;
}

static bool list_outside(maker *m)
{
    mlxr_summary *s = m->s;

    s->outside = mlxr_arena_calloc(&s->arena, m->p->n_weights, sizeof *s->outside);
    if (!s->outside) return false;
    for (size_t i = 0; i < m->p->n_weights; i++) {
        const mlxr_weight *w = &m->p->weights[i];
        if (m->is_small[i] || m->layer_of[i] >= 0) continue;
        s->outside[s->n_outside] = (mlxr_exception){exception_name(m, w, NO_LAYER), storage_of(w)};
        if (!s->outside[s->n_outside++].module) return false;
    }
    return true;
}

mlxr_status mlxr_summary_init(mlxr_summary *out, const mlxr_program *p, mlxr_error *err)
{
    maker m = {.s = out, .p = p, .n_layers = count_layers(p)};

    *out = (mlxr_summary){0};
    for (size_t i = 0; i < p->n_weights; i++)
        if (!p->weights[i].bound)
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "summary: weight %s%s is not bound",
                             p->weights[i].name, p->weights[i].suffix);
    m.layer_of = mlxr_arena_calloc(&out->arena, p->n_weights, sizeof *m.layer_of);
    m.is_small = mlxr_arena_calloc(&out->arena, p->n_weights, sizeof *m.is_small);
    m.n_active = mlxr_arena_calloc(&out->arena, p->n_weights, sizeof *m.n_active);
    m.list = mlxr_arena_calloc(&out->arena, m.n_layers, sizeof *m.list);
    if (m.layer_of && m.is_small && m.n_active && m.list) {
        find_layers(&m);
        if (count_uses(&m) && group_shapes(&m) && group_storages(&m) && list_outside(&m)) return MLXR_OK;
    }
    mlxr_summary_clear(out);
    return mlxr_fail_nomem(err, "summary");
}

void mlxr_summary_clear(mlxr_summary *s)
{
    if (!s) return;
    mlxr_arena_clear(&s->arena);
    *s = (mlxr_summary){0};
}
