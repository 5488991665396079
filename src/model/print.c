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
    else if (w->n_experts)
        mlxr_buf_printf(out, "[%zu, %zu, %zu]", w->n_experts, w->n_rows, w->n_cols);
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

/* " + NAME" for a bias and the like; nothing when absent. */
static void print_weight_if(const mlxr_program *p, mlxr_buf *out, const char *before, mlxr_weight_id id)
{
    if (id == MLXR_NONE) return;
    mlxr_buf_str(out, before);
    print_weight_name(p, out, id);
}

static void print_slot_name(const mlxr_program *p, mlxr_buf *out, mlxr_slot_id id)
{
    mlxr_buf_printf(out, ", slot %s", id < p->n_slots ? p->slots[id].name : "?");
}

static void print_act(mlxr_buf *out, mlxr_act act, float alpha, float limit)
{
    mlxr_buf_str(out, mlxr_act_name(act));
    if (act == MLXR_ACT_SWIGLU_OAI)
        mlxr_buf_printf(out, "[alpha %g, limit %g]", (double)alpha, (double)limit);
}

static void print_attend(const mlxr_program *p, mlxr_buf *out, const mlxr_op *op)
{
    mlxr_buf_str(out, reg_name(p, op->a));
    if (op->b != MLXR_NONE) mlxr_buf_printf(out, ", %s, %s", reg_name(p, op->b), reg_name(p, op->c));
    mlxr_buf_printf(out, ", %zu heads, scale %g", op->u.attend.n_heads, (double)op->u.attend.scale);
    if (op->u.attend.softcap != 0) mlxr_buf_printf(out, ", softcap %g", (double)op->u.attend.softcap);
    if (op->u.attend.position_span)
        mlxr_buf_printf(out, ", queries * (1 + %g ln(1 + floor(p / %zu)))",
                        (double)op->u.attend.position_beta, op->u.attend.position_span);
    print_weight_if(p, out, ", sinks ", op->weight);
    print_slot_name(p, out, op->u.attend.slot);
    if (op->b == MLXR_NONE) mlxr_buf_str(out, " as it is");
}

static void print_experts(const mlxr_program *p, mlxr_buf *out, const mlxr_op *op)
{
    static const char *const layouts[] = {"", " (halves)", " (interleaved)"};

    mlxr_buf_printf(out, "%s by %s, %zu of width %zu, ", reg_name(p, op->a), reg_name(p, op->b),
                    op->u.experts.k, op->u.experts.width);
    print_act(out, op->u.experts.act, op->u.experts.alpha, op->u.experts.limit);
    print_weight_if(p, out, ", gate ", op->u.experts.gate);
    if ((unsigned)op->u.experts.gate_up < MLXR_COUNT(layouts))
        mlxr_buf_str(out, layouts[op->u.experts.gate_up]);
    print_weight_if(p, out, " + ", op->u.experts.gate_bias);
    print_weight_if(p, out, ", up ", op->u.experts.up);
    print_weight_if(p, out, " + ", op->u.experts.up_bias);
    print_weight_if(p, out, ", down ", op->u.experts.down);
    print_weight_if(p, out, " + ", op->u.experts.down_bias);
}

static void print_op(const mlxr_program *p, mlxr_buf *out, size_t i)
{
    const mlxr_op *op = &p->ops[i];
    const char *a = reg_name(p, op->a), *b = reg_name(p, op->b);

    mlxr_buf_printf(out, "  %4zu  ", i);
    if (op->i_layer >= 0)
        mlxr_buf_printf(out, "%3d  ", (int)op->i_layer);
    else
        mlxr_buf_str(out, "  -  ");
    mlxr_buf_printf(out, "%-11s %s = ", mlxr_op_name(op->kind), reg_name(p, op->dst));
    switch (op->kind) {
    case MLXR_OP_EMBED:
        print_weight_name(p, out, op->weight);
        mlxr_buf_str(out, "[id]");
        if (op->u.embed.scale != 1) mlxr_buf_printf(out, " * %g", (double)op->u.embed.scale);
        break;
    case MLXR_OP_LINEAR:
        mlxr_buf_printf(out, "%s, ", a);
        print_weight_name(p, out, op->weight);
        print_weight_if(p, out, " + ", op->bias);
        break;
    case MLXR_OP_RMS_NORM:
    case MLXR_OP_LAYER_NORM:
        mlxr_buf_str(out, a);
        print_weight_if(p, out, ", ", op->weight);
        print_weight_if(p, out, " + ", op->bias);
        mlxr_buf_printf(out, ", eps %g", (double)op->u.norm.eps);
        if (op->u.norm.offset != 0) mlxr_buf_printf(out, ", weight offset %g", (double)op->u.norm.offset);
        if (op->dst < p->n_regs && op->u.norm.width != p->regs[op->dst].width)
            mlxr_buf_printf(out, ", each %zu", op->u.norm.width);
        break;
    case MLXR_OP_ROPE:
        mlxr_buf_printf(out, "%s, %zu heads of %zu, %s pairs", a, op->u.rope.n_heads, op->u.rope.head_dim,
                        op->u.rope.pairing == MLXR_ROPE_HALF ? "half" : "interleaved");
        if (op->u.rope.n_rot != op->u.rope.head_dim) mlxr_buf_printf(out, ", first %zu", op->u.rope.n_rot);
        if (op->u.rope.scale != 1) mlxr_buf_printf(out, ", scale %g", (double)op->u.rope.scale);
        if (op->u.rope.dynamic_context)
            mlxr_buf_printf(out, ", dynamic from %zu by %g", op->u.rope.dynamic_context,
                            (double)op->u.rope.dynamic_factor);
        break;
    case MLXR_OP_ATTEND: print_attend(p, out, op); break;
    case MLXR_OP_ACT_MUL:
        print_act(out, op->u.act.act, op->u.act.alpha, op->u.act.limit);
        mlxr_buf_printf(out, "(%s)", a);
        if (op->b != MLXR_NONE) mlxr_buf_printf(out, " * %s", b);
        break;
    case MLXR_OP_ADD: mlxr_buf_printf(out, "%s + %s", a, b); break;
    case MLXR_OP_SCALE:
        mlxr_buf_printf(out, "%g * ", (double)op->u.scale.factor);
        if (op->weight != MLXR_NONE) {
            print_weight_name(p, out, op->weight);
            mlxr_buf_str(out, "[0] * ");
        }
        mlxr_buf_str(out, a);
        break;
    case MLXR_OP_SOFTCAP:
        mlxr_buf_printf(out, "%g * tanh(%s / %g)", (double)op->u.softcap.cap, a, (double)op->u.softcap.cap);
        break;
    case MLXR_OP_SLICE:
        mlxr_buf_printf(out, "%s from %zu", a, op->u.slice.first);
        if (op->dst < p->n_regs && op->u.slice.run != p->regs[op->dst].width)
            mlxr_buf_printf(out, ", %zu of every %zu", op->u.slice.run, op->u.slice.step);
        break;
    case MLXR_OP_ROUTE:
        mlxr_buf_printf(out, "%s, best %zu, %s", a, op->u.route.k,
                        op->u.route.router == MLXR_ROUTER_TOPK_SOFTMAX ? "softmax of those"
                                                                       : "of the softmax");
        if (op->u.route.normalize) mlxr_buf_str(out, ", normalized");
        if (op->u.route.scale != 1) mlxr_buf_printf(out, ", * %g", (double)op->u.route.scale);
        print_weight_if(p, out, ", * ", op->weight);
        break;
    case MLXR_OP_EXPERTS: print_experts(p, out, op); break;
    case MLXR_OP_SHORT_CONV:
        mlxr_buf_printf(out, "%s(conv(%s, ", mlxr_act_name(op->u.conv.act), a);
        print_weight_name(p, out, op->weight);
        print_weight_if(p, out, " + ", op->bias);
        mlxr_buf_str(out, "))");
        print_slot_name(p, out, op->u.conv.slot);
        break;
    case MLXR_OP_GATED_DELTA:
        mlxr_buf_printf(out, "%s, %s, %s, decay %s, beta %s, %zu key heads, ", a, b, reg_name(p, op->c),
                        reg_name(p, op->d), reg_name(p, op->e), op->u.delta.n_k_heads);
        print_weight_name(p, out, op->weight);
        print_weight_if(p, out, ", ", op->bias);
        print_slot_name(p, out, op->u.delta.slot);
        break;
    case MLXR_OP_COUNT: break;
    }
    mlxr_buf_char(out, '\n');
}

static void print_slot(const mlxr_program *p, mlxr_buf *out, size_t i)
{
    const mlxr_slot *s = &p->slots[i];

    mlxr_buf_printf(out, "  %4zu  %s: ", i, s->name);
    switch (s->kind) {
    case MLXR_SLOT_KV:
        mlxr_buf_printf(out, "%zu heads, keys %zu, values %zu, ", s->n_kv_heads, s->k_head_dim,
                        s->v_head_dim);
        if (s->window)
            mlxr_buf_printf(out, "window %zu\n", s->window);
        else
            mlxr_buf_str(out, "all positions\n");
        break;
    case MLXR_SLOT_CONV:
        mlxr_buf_printf(out, "the last %zu of %zu channels, a sequence\n", s->n_taps, s->n_channels);
        break;
    case MLXR_SLOT_DELTA:
        mlxr_buf_printf(out, "%zu states of %zu times %zu, a sequence\n", s->n_kv_heads, s->v_head_dim,
                        s->k_head_dim);
        break;
    }
}

void mlxr_program_print(const mlxr_program *p, mlxr_buf *out)
{
    mlxr_buf_printf(out, "program %s: hidden %zu, vocabulary %zu, %zu layers, context %zu, logits in %s\n",
                    p->family, p->hidden_size, p->vocab_size, p->n_layers, p->context_length,
                    reg_name(p, p->logits));
    mlxr_buf_printf(out, "slots (%zu)\n", p->n_slots);
    for (size_t i = 0; i < p->n_slots; i++) print_slot(p, out, i);
    mlxr_buf_printf(out, "registers (%zu)\n", p->n_regs);
    for (size_t i = 0; i < p->n_regs; i++)
        mlxr_buf_printf(out, "  %4zu  %s [%zu]\n", i, p->regs[i].name, p->regs[i].width);
    mlxr_buf_printf(out, "weights (%zu)\n", p->n_weights);
    for (size_t i = 0; i < p->n_weights; i++) print_weight(p, out, i);
    mlxr_buf_printf(out, "operations (%zu)\n", p->n_ops);
    for (size_t i = 0; i < p->n_ops; i++) print_op(p, out, i);
}
