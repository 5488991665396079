/* The listing of a program, for people: one line a slot, register, weight and operation. */
#include "model/program.h"

static const char *reg_name(const mlxr_program *p, mlxr_reg_id r)
{
    return r < p->n_regs ? p->regs[r].name : "?";
}

static void print_weight_name(const mlxr_program *p, mlxr_buf *out, mlxr_weight_id id)
{
    if (id < p->n_weights)
        mlxr_buf_printf(out, "%s%s", p->weights[id].name, p->weights[id].suffix);
    else
        mlxr_buf_str(out, "?");
}

static void print_weight(const mlxr_program *p, mlxr_buf *out, size_t i)
{
    const mlxr_weight *w = &p->weights[i];

    mlxr_buf_printf(out, "  %4zu  %s%s ", i, w->name, w->suffix);
    if (w->is_vector)
        mlxr_buf_printf(out, "[%zu]", w->n_cols);
    else
        mlxr_buf_printf(out, "[%zu, %zu]", w->n_rows, w->n_cols);
    if (!w->bound)
        mlxr_buf_str(out, " unbound\n");
    else if (w->m.quant.mode == MLXR_QUANT_NONE)
        mlxr_buf_printf(out, " %s\n", mlxr_dtype_name(w->m.dtype));
    else
        mlxr_buf_printf(out, " %s %u-bit group %u %s\n", mlxr_quant_mode_name(w->m.quant.mode),
                        w->m.quant.bits, w->m.quant.group_size, mlxr_dtype_name(w->m.dtype));
}

static void print_op(const mlxr_program *p, mlxr_buf *out, size_t i)
{
    const mlxr_op *op = &p->ops[i];

    mlxr_buf_printf(out, "  %4zu  ", i);
    if (op->i_layer >= 0)
        mlxr_buf_printf(out, "%3d  ", (int)op->i_layer);
    else
        mlxr_buf_str(out, "  -  ");
    mlxr_buf_printf(out, "%-9s%s = ", mlxr_op_name(op->kind), reg_name(p, op->dst));
    switch (op->kind) {
    case MLXR_OP_EMBED:
        print_weight_name(p, out, op->weight);
        mlxr_buf_str(out, "[id]");
        if (op->u.embed.scale != 1) mlxr_buf_printf(out, " * %g", (double)op->u.embed.scale);
        break;
    case MLXR_OP_LINEAR:
        mlxr_buf_printf(out, "%s, ", reg_name(p, op->a));
        print_weight_name(p, out, op->weight);
        if (op->bias != MLXR_NONE) {
            mlxr_buf_str(out, " + ");
            print_weight_name(p, out, op->bias);
        }
        break;
    case MLXR_OP_RMS_NORM:
        mlxr_buf_printf(out, "%s, ", reg_name(p, op->a));
        print_weight_name(p, out, op->weight);
        mlxr_buf_printf(out, ", eps %g", (double)op->u.norm.eps);
        if (op->u.norm.offset != 0) mlxr_buf_printf(out, ", weight offset %g", (double)op->u.norm.offset);
        if (op->dst < p->n_regs && op->u.norm.width != p->regs[op->dst].width)
            mlxr_buf_printf(out, ", each %zu", op->u.norm.width);
        break;
    case MLXR_OP_ROPE:
        mlxr_buf_printf(out, "%s, %zu heads of %zu, %s pairs", reg_name(p, op->a), op->u.rope.n_heads,
                        op->u.rope.head_dim, op->u.rope.pairing == MLXR_ROPE_HALF ? "half" : "interleaved");
        if (op->u.rope.n_rot != op->u.rope.head_dim) mlxr_buf_printf(out, ", first %zu", op->u.rope.n_rot);
        if (op->u.rope.scale != 1) mlxr_buf_printf(out, ", scale %g", (double)op->u.rope.scale);
        break;
    case MLXR_OP_ATTEND:
        mlxr_buf_printf(out, "%s, %s, %s, %zu heads, scale %g, slot %s", reg_name(p, op->a),
                        reg_name(p, op->b), reg_name(p, op->c), op->u.attend.n_heads,
                        (double)op->u.attend.scale,
                        op->u.attend.slot < p->n_slots ? p->slots[op->u.attend.slot].name : "?");
        break;
    case MLXR_OP_ACT_MUL:
        mlxr_buf_printf(out, "%s(%s) * %s", mlxr_act_name(op->u.act.act), reg_name(p, op->a),
                        reg_name(p, op->b));
        break;
    case MLXR_OP_ADD: mlxr_buf_printf(out, "%s + %s", reg_name(p, op->a), reg_name(p, op->b)); break;
    case MLXR_OP_SCALE:
        mlxr_buf_printf(out, "%g * %s", (double)op->u.scale.factor, reg_name(p, op->a));
        break;
    case MLXR_OP_COUNT: break;
    }
    mlxr_buf_char(out, '\n');
}

void mlxr_program_print(const mlxr_program *p, mlxr_buf *out)
{
    mlxr_buf_printf(out, "program %s: hidden %zu, vocabulary %zu, %zu layers, context %zu, logits in %s\n",
                    p->family, p->hidden_size, p->vocab_size, p->n_layers, p->context_length,
                    reg_name(p, p->logits));
    mlxr_buf_printf(out, "slots (%zu)\n", p->n_slots);
    for (size_t i = 0; i < p->n_slots; i++) {
        const mlxr_slot *s = &p->slots[i];
        mlxr_buf_printf(out, "  %4zu  %s: %zu heads, keys %zu, values %zu, ", i, s->name, s->n_kv_heads,
                        s->k_head_dim, s->v_head_dim);
        if (s->window)
            mlxr_buf_printf(out, "window %zu\n", s->window);
        else
            mlxr_buf_str(out, "all positions\n");
    }
    mlxr_buf_printf(out, "registers (%zu)\n", p->n_regs);
    for (size_t i = 0; i < p->n_regs; i++)
        mlxr_buf_printf(out, "  %4zu  %s [%zu]\n", i, p->regs[i].name, p->regs[i].width);
    mlxr_buf_printf(out, "weights (%zu)\n", p->n_weights);
    for (size_t i = 0; i < p->n_weights; i++) print_weight(p, out, i);
    mlxr_buf_printf(out, "operations (%zu)\n", p->n_ops);
    for (size_t i = 0; i < p->n_ops; i++) print_op(p, out, i);
}
