/* The operations beyond llama's: each one good, as the builder takes it and the listing shows it, then with one field
 * after the other out of its range, which is refused in words that say which. */
#include <math.h>

#include "model/program.h"
#include "test.h"

/* A program around one operation: registers with something in them, and what the operation wants beside. */
typedef struct rig {
    mlxr_builder *b;
    mlxr_reg_id h, empty, one, scores, route, logits; /* 8 wide, 8 with nothing in it, 1, 5, 4 and 6 wide */
    mlxr_reg_id two[2];                               /* 2 wide */
    mlxr_reg_id wide, out;                            /* 16 wide, the second with nothing in it */
} rig;

static mlxr_reg_id filled(mlxr_builder *b, const char *name, size_t width)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_EMBED, -1);
    op.dst = mlxr_build_reg(b, name, width);
    op.weight = mlxr_build_matrix(b, 6, width, "table.%s", name);
    mlxr_build_op(b, &op);
    return op.dst;
}

static rig begin(void)
{
    rig r = {0};
    mlxr_error err;

    assert_ok(mlxr_builder_create(&r.b, "rig", &err), &err);
    r.h = filled(r.b, "h", 8);
    r.one = filled(r.b, "one", 1);
    r.scores = filled(r.b, "scores", 5);
    r.route = filled(r.b, "route", 4);
    r.two[0] = filled(r.b, "two", 2);
    r.two[1] = filled(r.b, "deux", 2);
    r.wide = filled(r.b, "wide", 16);
    r.empty = mlxr_build_reg(r.b, "empty", 8);
    r.out = mlxr_build_reg(r.b, "out", 16);
    return r;
}

static mlxr_status end(mlxr_program **out, rig *r, const mlxr_op *op, mlxr_error *err)
{
    mlxr_op logits = mlxr_op_init(MLXR_OP_LINEAR, -1);
    mlxr_status st;

    mlxr_build_op(r->b, op);
    logits.dst = mlxr_build_reg(r->b, "logits", 6);
    logits.a = r->h;
    logits.weight = mlxr_build_matrix(r->b, 6, 8, "table.h");
    mlxr_build_op(r->b, &logits);
    st = mlxr_builder_finish(out, r->b, 8, 6, 1, 64, logits.dst, err);
    mlxr_builder_free(r->b);
    return st;
}

/* ---- one good operation of each kind ---- */

static mlxr_op good_layer_norm(rig *r)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_LAYER_NORM, 0);
    op.dst = r->empty;
    op.a = r->h;
    op.weight = mlxr_build_vector(r->b, 4, ".weight", "norm");
    op.bias = mlxr_build_vector(r->b, 4, ".bias", "norm");
    op.u.norm.width = 4;
    op.u.norm.eps = 1e-3f;
    return op;
}

static mlxr_op good_act_mul(rig *r)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_ACT_MUL, 0);
    op.dst = r->empty;
    op.a = r->one;
    op.b = r->h;
    op.u.act.act = MLXR_ACT_SIGMOID;
    return op;
}

static mlxr_op good_swiglu(rig *r)
{
    mlxr_op op = good_act_mul(r);
    op.a = r->h;
    op.u.act.act = MLXR_ACT_SWIGLU_OAI;
    op.u.act.alpha = 1.5f;
    op.u.act.limit = 7;
    return op;
}

static mlxr_op good_scale(rig *r)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_SCALE, 0);
    op.dst = r->empty;
    op.a = r->h;
    op.weight = mlxr_build_vector(r->b, 1, "", "layer_scalar");
    op.u.scale.factor = 2;
    return op;
}

static mlxr_op good_softcap(rig *r)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_SOFTCAP, 0);
    op.dst = op.a = r->h;
    op.u.softcap.cap = 30;
    return op;
}

static mlxr_op good_slice(rig *r)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_SLICE, 0);
    op.dst = r->empty;
    op.a = r->wide;
    op.u.slice.first = 2;
    op.u.slice.run = 4;
    op.u.slice.step = 8;
    return op;
}

static mlxr_op good_look(rig *r)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_ATTEND, 0);
    op.dst = r->empty;
    op.a = op.b = op.c = r->h;
    op.u.attend.slot = mlxr_build_slot(r->b, "kv", 2, 4, 4, 3);
    op.u.attend.n_heads = 2;
    op.u.attend.scale = 1;
    mlxr_build_op(r->b, &op);
    op.b = op.c = MLXR_NONE;
    op.weight = mlxr_build_vector(r->b, 2, "", "sinks");
    op.u.attend.softcap = 50;
    op.u.attend.position_beta = 0.1f;
    op.u.attend.position_span = 16;
    return op;
}

static mlxr_op good_route(rig *r)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_ROUTE, 0);
    op.dst = r->route;
    op.a = r->scores;
    op.weight = mlxr_build_vector(r->b, 5, "", "expert_scale");
    op.u.route.k = 2;
    op.u.route.normalize = true;
    op.u.route.scale = 2.5f;
    return op;
}

static mlxr_op good_experts(rig *r)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_EXPERTS, 0);
    op.dst = r->empty;
    op.a = r->h;
    op.b = r->route;
    op.u.experts.k = 2;
    op.u.experts.width = 3;
    op.u.experts.act = MLXR_ACT_SILU;
    op.u.experts.gate = mlxr_build_stack(r->b, 5, 3, 8, ".weight", "e.{expert}.gate");
    op.u.experts.up = mlxr_build_stack(r->b, 5, 3, 8, ".weight", "e.{expert}.up");
    op.u.experts.down = mlxr_build_stack(r->b, 5, 8, 3, ".weight", "e.{expert}.down");
    return op;
}

static mlxr_op good_fused(rig *r)
{
    mlxr_op op = good_experts(r);
    op.u.experts.gate_up = MLXR_GATE_UP_INTERLEAVED;
    op.u.experts.act = MLXR_ACT_SWIGLU_OAI;
    op.u.experts.alpha = 1.5f;
    op.u.experts.limit = 7;
    op.u.experts.up = MLXR_NONE;
    op.u.experts.gate = mlxr_build_stack(r->b, 5, 6, 8, "_blocks", "e.gate_up");
    op.u.experts.gate_bias = mlxr_build_matrix_as(r->b, 5, 6, "_bias", "e.gate_up");
    op.u.experts.down_bias = mlxr_build_matrix_as(r->b, 5, 8, "_bias", "e.down");
    return op;
}

static mlxr_op good_conv(rig *r)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_SHORT_CONV, 0);
    op.dst = r->empty;
    op.a = r->h;
    op.weight = mlxr_build_matrix(r->b, 8, 4, "conv");
    op.bias = mlxr_build_vector(r->b, 8, ".bias", "conv");
    op.u.conv.slot = mlxr_build_conv_slot(r->b, "conv.0", 8, 3);
    op.u.conv.act = MLXR_ACT_SILU;
    return op;
}

static mlxr_op good_delta(rig *r)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_GATED_DELTA, 0);
    op.dst = r->out;
    op.a = op.b = r->h; /* one head of 8 */
    op.c = r->wide;     /* two heads of 8 */
    op.d = r->two[0];
    op.e = r->two[1];
    op.weight = mlxr_build_vector(r->b, 2, "", "A_log");
    op.bias = mlxr_build_vector(r->b, 2, "", "dt_bias");
    op.u.delta.slot = mlxr_build_delta_slot(r->b, "delta.0", 2, 8, 8);
    op.u.delta.n_k_heads = 1;
    return op;
}

static void good_ones_are_taken_and_listed(void **state)
{
    static const struct {
        mlxr_op (*good)(rig *);
        const char *line;
    } cases[] = {
        {good_layer_norm, "LAYER_NORM  empty = h, norm.weight + norm.bias, eps 0.001, each 4\n"},
        {good_act_mul, "ACT_MUL     empty = sigmoid(one) * h\n"},
        {good_swiglu, "ACT_MUL     empty = swiglu_oai[alpha 1.5, limit 7](h) * h\n"},
        {good_scale, "SCALE       empty = 2 * layer_scalar[0] * h\n"},
        {good_softcap, "SOFTCAP     h = 30 * tanh(h / 30)\n"},
        {good_slice, "SLICE       empty = wide from 2, 4 of every 8\n"},
        {good_look,
         "ATTEND      empty = h, 2 heads, scale 1, softcap 50, queries * (1 + 0.1 ln(1 + floor(p / "
         "16))), sinks sinks, slot kv as it is\n"},
        {good_route,
         "ROUTE       route = scores, best 2, of the softmax, normalized, * 2.5, * expert_scale\n"},
        {good_experts, "EXPERTS     empty = h by route, 2 of width 3, silu, gate e.{expert}.gate.weight, up "
                       "e.{expert}.up.weight, down e.{expert}.down.weight\n"},
        {good_fused, "EXPERTS     empty = h by route, 2 of width 3, swiglu_oai[alpha 1.5, limit 7], gate "
                     "e.gate_up_blocks (interleaved) + e.gate_up_bias, down e.{expert}.down.weight + "
                     "e.down_bias\n"},
        {good_conv, "SHORT_CONV  empty = silu(conv(h, conv.weight + conv.bias)), slot conv.0\n"},
        {good_delta, "GATED_DELTA out = h, h, wide, decay two, beta deux, 1 key heads, A_log, dt_bias, slot "
                     "delta.0\n"},
    };
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        rig r = begin();
        mlxr_op op = cases[i].good(&r);
        mlxr_program *p;
        mlxr_buf text = {0};
        mlxr_error err;
        assert_ok(end(&p, &r, &op, &err), &err);
        mlxr_program_print(p, &text);
        if (!strstr(text.data, cases[i].line)) fail_msg("no \"%s\" in\n%s", cases[i].line, text.data);
        mlxr_buf_clear(&text);
        mlxr_program_free(p);
    }
}

static void slots_and_stacks_are_listed(void **state)
{
    rig r = begin();
    mlxr_op op = good_delta(&r), conv = good_conv(&r), experts = good_experts(&r);
    mlxr_program *p;
    mlxr_buf text = {0};
    mlxr_error err;

    (void)state;
    mlxr_build_op(r.b, &conv);
    mlxr_build_op(r.b, &experts);
    assert_ok(end(&p, &r, &op, &err), &err);
    assert_int_equal(p->slots[0].offset, 0); /* 2 * 8 * 8 floats, then 3 * 8 */
    assert_int_equal(p->slots[1].offset, 128);
    assert_int_equal(p->n_sequence_floats, 152);
    mlxr_program_print(p, &text);
    assert_non_null(strstr(text.data, "delta.0: 2 states of 8 times 8, a sequence\n"));
    assert_non_null(strstr(text.data, "conv.0: the last 3 of 8 channels, a sequence\n"));
    assert_non_null(strstr(text.data, "e.{expert}.down.weight [5, 8, 3] unbound\n"));
    mlxr_buf_clear(&text);
    mlxr_program_free(p);
}

/* ---- one field out of its range ---- */

#define EDIT(name, change)                      \
    static void name(const rig *r, mlxr_op *op) \
    {                                           \
        (void)r;                                \
        change;                                 \
    }
EDIT(no_a, op->a = MLXR_NONE)
EDIT(no_b, op->b = MLXR_NONE)
EDIT(no_c, op->c = MLXR_NONE)
EDIT(no_d, op->d = MLXR_NONE)
EDIT(no_e, op->e = MLXR_NONE)
EDIT(no_dst, op->dst = 99)
EDIT(no_weight, op->weight = MLXR_NONE)
EDIT(no_bias, op->bias = MLXR_NONE)
EDIT(strange_weight, op->weight = 99)
EDIT(table_weight, op->weight = 0)
EDIT(empty_a, op->a = r->empty; op->dst = r->h)
EDIT(dst_is_a, op->dst = op->a)
EDIT(dst_is_b, op->dst = op->b)
EDIT(dst_is_c, op->dst = op->c)
EDIT(a_is_two, op->a = r->two[0])
EDIT(b_is_two, op->b = r->two[0])
EDIT(d_is_one, op->d = r->one)
EDIT(norm_width, op->u.norm.width = 3)
EDIT(norm_nan, op->u.norm.eps = NAN)
EDIT(norm_bias, op->bias = op->weight; op->u.norm.width = 8)
EDIT(cap_zero, op->u.softcap.cap = 0)
EDIT(cap_negative, op->u.softcap.cap = -1)
EDIT(cap_nan, op->u.softcap.cap = NAN)
EDIT(cap_infinite, op->u.softcap.cap = INFINITY)
EDIT(scale_infinite, op->u.scale.factor = INFINITY)
EDIT(slice_no_run, op->u.slice.run = 0)
EDIT(slice_odd_run, op->u.slice.run = 3)
EDIT(slice_far, op->u.slice.first = 5)
EDIT(slice_step, op->u.slice.step = 11)
EDIT(slice_huge_step, op->u.slice.step = SIZE_MAX)
EDIT(slice_huge_first, op->u.slice.first = SIZE_MAX - 1)
EDIT(look_softcap, op->u.attend.softcap = -1)
EDIT(look_softcap_nan, op->u.attend.softcap = NAN)
EDIT(look_scale, op->u.attend.scale = INFINITY)
EDIT(look_beta, op->u.attend.position_beta = NAN)
EDIT(look_slot, op->u.attend.slot = 7)
EDIT(look_appends, op->b = op->c = r->h)
EDIT(look_half, op->b = r->h)
EDIT(route_none, op->u.route.k = 0)
EDIT(route_many, op->u.route.k = 6)
EDIT(route_three, op->u.route.k = 3)
EDIT(route_nan, op->u.route.scale = NAN)
EDIT(experts_none, op->u.experts.k = 0)
EDIT(experts_three, op->u.experts.k = 3)
EDIT(experts_many, op->u.experts.k = 6)
EDIT(experts_no_width, op->u.experts.width = 0)
EDIT(experts_wide, op->u.experts.width = SIZE_MAX)
EDIT(experts_width, op->u.experts.width = 4)
EDIT(experts_no_gate, op->u.experts.gate = MLXR_NONE)
EDIT(experts_no_up, op->u.experts.up = MLXR_NONE)
EDIT(experts_no_down, op->u.experts.down = MLXR_NONE)
EDIT(experts_swapped, op->u.experts.down = op->u.experts.gate)
EDIT(experts_dense, op->u.experts.gate = 0)
EDIT(experts_bias, op->u.experts.down_bias = op->u.experts.gate)
EDIT(experts_halves, op->u.experts.gate_up = MLXR_GATE_UP_HALVES)
EDIT(fused_bias, op->u.experts.gate_bias = op->u.experts.down_bias)
EDIT(conv_no_slot, op->u.conv.slot = MLXR_NONE)
EDIT(conv_act, op->u.conv.act = MLXR_ACT_SWIGLU_OAI)
EDIT(conv_wide, op->a = r->wide; op->dst = r->out)
EDIT(delta_no_slot, op->u.delta.slot = MLXR_NONE)
EDIT(delta_no_heads, op->u.delta.n_k_heads = 0)
EDIT(delta_heads, op->u.delta.n_k_heads = 3)
EDIT(delta_two_heads, op->u.delta.n_k_heads = 2)
EDIT(delta_narrow, op->dst = r->empty)

static void each_field_is_checked(void **state)
{
    static const struct {
        mlxr_op (*good)(rig *);
        void (*edit)(const rig *, mlxr_op *);
        const char *text;
    } cases[] = {
        {good_layer_norm, no_weight, "(LAYER_NORM, layer 0): has no weight"},
        {good_layer_norm, norm_width, "(LAYER_NORM, layer 0): eps is below 0, or the width"},
        {good_layer_norm, norm_nan, "eps is below 0"},
        {good_layer_norm, norm_bias, "weight norm.weight is a vector [1, 4], wanted a vector [1, 8]"},
        {good_layer_norm, no_dst, "dst is not a register"},
        {good_layer_norm, empty_a, "a reads register empty before anything is in it"},
        {good_act_mul, no_a, "(ACT_MUL, layer 0): a is not a register"},
        {good_act_mul, a_is_two, "a is register two of width 2, wanted 1"},
        {good_act_mul, b_is_two, "b is register two of width 2, wanted 8"},
        {good_act_mul, no_b, "a is register one of width 1, wanted 8"},
        {good_swiglu, no_b, "swiglu_oai has no b"},
        {good_scale, scale_infinite, "(SCALE, layer 0): a field is out of its range"},
        {good_scale, table_weight, "wanted a vector [1, 1]"},
        {good_scale, strange_weight, "weight is not a weight"},
        {good_softcap, cap_zero, "(SOFTCAP, layer 0): a field is out of its range"},
        {good_softcap, cap_negative, "a field is out of its range"},
        {good_softcap, cap_nan, "a field is out of its range"},
        {good_softcap, cap_infinite, "a field is out of its range"},
        {good_slice, dst_is_a, "dst is the input"},
        {good_slice, no_a, "a is not a register"},
        {good_slice, slice_no_run, "the runs do not lie within a, or do not fill dst"},
        {good_slice, slice_odd_run, "the runs do not lie within a, or do not fill dst"},
        {good_slice, slice_far, "the runs do not lie within a"},
        {good_slice, slice_step, "the runs do not lie within a"},
        {good_slice, slice_huge_step, "the runs do not lie within a"},
        {good_slice, slice_huge_first, "the runs do not lie within a"},
        {good_look, look_softcap, "(ATTEND, layer 0): a factor is not a number"},
        {good_look, look_softcap_nan, "a factor is not a number"},
        {good_look, look_scale, "a factor is not a number"},
        {good_look, look_beta, "a factor is not a number"},
        {good_look, look_slot, "slot is not a slot of the operation's kind"},
        {good_look, look_appends, "another operation appends to the same slot"},
        {good_look, look_half, "another operation appends to the same slot"},
        {good_look, table_weight, "weight table.h.weight is a matrix [6, 8], wanted a vector [1, 2]"},
        {good_route, route_none, "(ROUTE, layer 0): k is not from 1 to the number of experts"},
        {good_route, route_many, "k is not from 1 to the number of experts"},
        {good_route, route_three, "dst is register route of width 4, wanted 6"},
        {good_route, route_nan, "k is not from 1 to the number of experts"},
        {good_route, dst_is_a, "k is not from 1"},
        {good_route, table_weight, "wanted a vector [1, 5]"},
        {good_experts, experts_none,
         "(EXPERTS, layer 0): gate is not a weight, or dst an input, or a width is 0"},
        {good_experts, experts_three, "b is register route of width 4, wanted 6"},
        {good_experts, experts_many, "k is above the number of experts"},
        {good_experts, experts_no_width, "a width is 0"},
        {good_experts, experts_wide, "a width is 0"},
        {good_experts, experts_width, "gate e.{expert}.gate.weight is 5 matrices [3, 8], wanted 5 of [4, 8]"},
        {good_experts, experts_no_gate, "gate is not a weight"},
        {good_experts, experts_no_up, "up is not a weight"},
        {good_experts, experts_no_down, "down is not a weight"},
        {good_experts, experts_swapped,
         "down e.{expert}.gate.weight is 5 matrices [3, 8], wanted 5 of [8, 3]"},
        {good_experts, experts_dense, "k is above the number of experts"},
        {good_experts, experts_bias, "down_bias e.{expert}.gate.weight is a stack of matrices [3, 8]"},
        {good_experts, experts_halves,
         "gate e.{expert}.gate.weight is 5 matrices [3, 8], wanted 5 of [6, 8]"},
        {good_experts, dst_is_a, "dst an input"},
        {good_experts, dst_is_b, "dst an input"},
        {good_experts, no_a, "a is not a register"},
        {good_fused, fused_bias, "gate_bias e.down_bias is a matrix [5, 8], wanted a matrix [5, 6]"},
        {good_conv, conv_no_slot, "(SHORT_CONV, layer 0): slot is not a slot of the operation's kind"},
        {good_conv, conv_act, "dst is the input, or the slot has not its channels"},
        {good_conv, conv_wide, "the slot has not its channels"},
        {good_conv, dst_is_a, "dst is the input"},
        {good_conv, no_weight, "weight is not a weight"},
        {good_conv, table_weight, "weight table.h.weight is a matrix [6, 8], wanted a matrix [8, 4]"},
        {good_conv, strange_weight, "weight is not a weight"},
        {good_delta, delta_no_slot, "(GATED_DELTA, layer 0): slot is not a slot of the operation's kind"},
        {good_delta, delta_no_heads, "the slot's heads are not a multiple of n_k_heads"},
        {good_delta, delta_heads, "the slot's heads are not a multiple of n_k_heads"},
        {good_delta, delta_two_heads, "a is register h of width 8, wanted 16"},
        {good_delta, delta_narrow, "dst is register empty of width 8, wanted 16"},
        {good_delta, dst_is_c, "dst is an input"},
        {good_delta, no_b, "b is not a register"},
        {good_delta, no_c, "c is not a register"},
        {good_delta, no_d, "d is not a register"},
        {good_delta, no_e, "e is not a register"},
        {good_delta, d_is_one, "d is register one of width 1, wanted 2"},
        {good_delta, no_weight, "weight is not a weight"},
        {good_delta, no_bias, "bias is not a weight"},
    };
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        rig r = begin();
        mlxr_op op = cases[i].good(&r);
        mlxr_program *p;
        mlxr_error err = {0};
        cases[i].edit(&r, &op);
        if (end(&p, &r, &op, &err) != MLXR_E_INTERNAL || !strstr(err.message, cases[i].text))
            fail_msg("case %zu: \"%s\", wanted \"%s\"", i, err.message, cases[i].text);
        assert_null(p);
    }
}

/* What moves on once a step has one operation. */
static void a_state_is_moved_once(void **state)
{
    static mlxr_op (*const goods[])(rig *) = {good_conv, good_delta};

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(goods); i++) {
        rig r = begin();
        mlxr_op op = goods[i](&r);
        mlxr_program *p;
        mlxr_error err;
        mlxr_build_op(r.b, &op);
        assert_fails(end(&p, &r, &op, &err), MLXR_E_INTERNAL, "another operation appends to the same slot",
                     &err);
    }
}

static void one_that_only_looks_comes_after(void **state)
{
    rig r = begin();
    mlxr_op op = good_look(&r);
    mlxr_program *p;
    mlxr_error err;

    (void)state;
    op.u.attend.slot = mlxr_build_slot(r.b, "other", 2, 4, 4, 0);
    assert_fails(end(&p, &r, &op, &err), MLXR_E_INTERNAL, "nothing was appended to the slot", &err);
}

static void slots_and_stacks_have_bounds(void **state)
{
    static const struct {
        size_t kind, n[3];
        const char *text;
    } cases[] = {
        {0, {0, 3, 0}, "slot s has 0 channels and 3 taps"},
        {0, {8, 0, 0}, "slot s has 8 channels and 0 taps"},
        {0, {SIZE_MAX, 2, 0}, "wanted at least 1 and at most"},
        {0, {1 << 20, 1 << 20, 0}, "slot s has 1048576 channels and 1048576 taps"},
        {1, {0, 4, 4}, "slot s has 0 heads of 4 and 4 values"},
        {1, {2, SIZE_MAX, 4}, "slot s has 2 heads"},
        {1, {16, 1 << 14, 1 << 14}, "slot s has 16 states of 16384 times 16384 values"},
        {2, {0, 4, 4}, "weight s.weight has 0 experts, wanted 1 to 16384"},
        {2, {16385, 4, 4}, "weight s.weight has 16385 experts"},
        {2, {4, 0, 4}, "weight s.weight has shape [0, 4]"},
        {2, {4, 4, SIZE_MAX}, "weight s.weight has shape [4, "},
    };
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        const size_t *n = cases[i].n;
        rig r = begin();
        mlxr_op op = good_softcap(&r);
        mlxr_program *p;
        mlxr_error err;
        if (cases[i].kind == 0)
            assert_int_equal(mlxr_build_conv_slot(r.b, "s", n[0], n[1]), MLXR_NONE);
        else if (cases[i].kind == 1)
            assert_int_equal(mlxr_build_delta_slot(r.b, "s", n[0], n[1], n[2]), MLXR_NONE);
        else
            assert_int_equal(mlxr_build_stack(r.b, n[0], n[1], n[2], ".weight", "s"), MLXR_NONE);
        assert_fails(end(&p, &r, &op, &err), MLXR_E_FORMAT, cases[i].text, &err);
    }
}

static void a_stack_is_no_matrix(void **state)
{
    rig r = begin();
    mlxr_op op = good_softcap(&r);
    mlxr_program *p;
    mlxr_error err;

    (void)state;
    mlxr_build_stack(r.b, 5, 6, 8, ".weight", "s");
    assert_int_equal(mlxr_build_matrix(r.b, 6, 8, "s"), MLXR_NONE);
    assert_fails(end(&p, &r, &op, &err), MLXR_E_FORMAT, "weight s.weight has shape", &err);
    r = begin();
    op = mlxr_op_init(MLXR_OP_LINEAR, 0);
    op.dst = mlxr_build_reg(r.b, "y", 6);
    op.a = r.h;
    op.weight = mlxr_build_stack(r.b, 5, 6, 8, ".weight", "s");
    assert_fails(end(&p, &r, &op, &err), MLXR_E_INTERNAL,
                 "weight s.weight is a stack of matrices [6, 8], wanted a matrix [6, 8]", &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_ones_are_taken_and_listed),
        cmocka_unit_test(slots_and_stacks_are_listed),
        cmocka_unit_test(each_field_is_checked),
        cmocka_unit_test(a_state_is_moved_once),
        cmocka_unit_test(one_that_only_looks_comes_after),
        cmocka_unit_test(slots_and_stacks_have_bounds),
        cmocka_unit_test(a_stack_is_no_matrix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
