/* cost: see cost.h. */
#include "model/cost.h"

#include <math.h>

double mlxr_program_kv_numbers(const mlxr_program *p)
{
    double n = 0;

    for (size_t i = 0; i < p->n_slots; i++) {
        const mlxr_slot *s = &p->slots[i];
        if (s->kind == MLXR_SLOT_KV) n += (double)s->n_kv_heads * (double)(s->k_head_dim + s->v_head_dim);
    }
    return n;
}

static size_t n_sequences(const mlxr_cost_batch *b)
{
    size_t n = 0;

    for (size_t t = 0; t < b->n_tokens; t++) n += t == 0 || b->seqs[t] != b->seqs[t - 1];
    return n;
}

/* Each query meets the positions it sees; each sequence's are read once. */
static void attend_cost(mlxr_cost *cost, const mlxr_program *p, const mlxr_op *op, const mlxr_cost_batch *b)
{
    const mlxr_slot *s = &p->slots[op->u.attend.slot];
    double width = (double)(s->k_head_dim + s->v_head_dim), first = 0;

    for (size_t t = 0; t < b->n_tokens; t++) {
        double end = (double)b->positions[t] + 1;
        double seen = s->window && end > (double)s->window ? (double)s->window : end;
        if (t == 0 || b->seqs[t] != b->seqs[t - 1]) first = end - seen;
        cost->flops += 2 * (double)op->u.attend.n_heads * width * seen;
        if (t + 1 == b->n_tokens || b->seqs[t + 1] != b->seqs[t])
            cost->state_bytes += (end - first) * (double)s->n_kv_heads * width * b->kv_bytes;
    }
}

static double row_bytes(const mlxr_matrix *m)
{
    return m->n_rows ? (double)mlxr_matrix_bytes(m) / (double)m->n_rows : 0;
}

static void experts_cost(mlxr_cost *cost, const mlxr_program *p, const mlxr_op *op, const mlxr_cost_batch *b)
{
    mlxr_weight_id weights[MLXR_OP_MAX_WEIGHTS];
    size_t n = mlxr_op_weights(op, weights);
    double T = (double)b->n_tokens, k = (double)op->u.experts.k;
    double E = (double)p->weights[op->u.experts.gate].n_experts;
    double touched = E * (1 - pow(1 - fmin(k / E, 1), T));

    for (size_t i = 0; i < n; i++) {
        const mlxr_weight *w = &p->weights[weights[i]];
        if (w->n_experts) {
            cost->weight_bytes += touched * (double)mlxr_matrix_bytes(&w->m);
            cost->flops += 2 * T * k * (double)w->n_rows * (double)w->n_cols;
        } else { /* biases, a row for each expert */
            cost->weight_bytes += touched * row_bytes(&w->m);
        }
    }
}

void mlxr_op_cost(mlxr_cost *cost, const mlxr_program *p, const mlxr_op *op, const mlxr_cost_batch *b)
{
    mlxr_weight_id weights[MLXR_OP_MAX_WEIGHTS];
    double T = (double)b->n_tokens;
    mlxr_slot_id slot = mlxr_op_slot(op);
    size_t n;

    if (b->n_tokens == 0) return;
    switch (op->kind) {
    case MLXR_OP_EMBED: cost->weight_bytes += T * row_bytes(&p->weights[op->weight].m); return;
    case MLXR_OP_EXPERTS: experts_cost(cost, p, op, b); return;
    case MLXR_OP_LINEAR:
        cost->flops += 2 * T * (double)p->weights[op->weight].n_rows * (double)p->weights[op->weight].n_cols;
        break;
    case MLXR_OP_ATTEND: attend_cost(cost, p, op, b); break;
    case MLXR_OP_SHORT_CONV:
        cost->flops += 2 * T * (double)p->weights[op->weight].n_rows * (double)p->weights[op->weight].n_cols;
        break;
    case MLXR_OP_GATED_DELTA: cost->flops += 7 * T * (double)p->slots[slot].n_floats; break;
    default: cost->flops += 4 * T * (double)p->regs[op->dst].width; break; /* about */
    }
    if (slot != MLXR_NONE && p->slots[slot].kind != MLXR_SLOT_KV) /* read and written */
        cost->state_bytes += 2 * (double)n_sequences(b) * (double)p->slots[slot].n_floats * sizeof(float);
    n = mlxr_op_weights(op, weights);
    for (size_t i = 0; i < n; i++) cost->weight_bytes += (double)mlxr_matrix_bytes(&p->weights[weights[i]].m);
}
