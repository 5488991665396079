/* The builder: what it accepts becomes the program, what does not fit is one message and sticks. */
#include <math.h>

#include "model/program.h"
#include "test.h"

static const float frequencies[] = {1, 0.5f};

/* What a case changes in an otherwise good program of two heads of four, window 5. */
typedef struct edits {
    void (*before)(mlxr_builder *b); /* after the embedding */
    void (*attend)(mlxr_op *op);
    void (*rope)(mlxr_op *op);
    void (*norm)(mlxr_op *op);
    void (*linear)(mlxr_op *op);
    size_t vocab_size; /* 0: as built */
} edits;

static mlxr_status build(mlxr_program **out, const edits *e, mlxr_error *err)
{
    enum { D = 8, V = 12 };
    mlxr_builder *b;
    mlxr_op op;
    mlxr_reg_id h, x, q, k, v, a, logits;
    mlxr_weight_id table;
    mlxr_status st = mlxr_builder_create(&b, "tiny", err);

    *out = NULL;
    if (st != MLXR_OK) return st;
    h = mlxr_build_reg(b, "h", D);
    x = mlxr_build_reg(b, "x", D);
    q = mlxr_build_reg(b, "q", D);
    k = mlxr_build_reg(b, "k", D / 2);
    v = mlxr_build_reg(b, "v", D / 2);
    a = mlxr_build_reg(b, "a", D);
    logits = mlxr_build_reg(b, "logits", V);
    table = mlxr_build_matrix(b, V, D, "embed");
    op = mlxr_op_init(MLXR_OP_EMBED, -1);
    op.dst = h;
    op.weight = table;
    op.u.embed.scale = 2;
    mlxr_build_op(b, &op);
    if (e->before) e->before(b);

    op = mlxr_op_init(MLXR_OP_RMS_NORM, 0);
    op.dst = x;
    op.a = h;
    op.weight = mlxr_build_vector(b, D, ".weight", "layers.%d.norm", 0);
    op.u.norm.eps = 1e-5f;
    op.u.norm.width = D;
    if (e->norm) e->norm(&op);
    mlxr_build_op(b, &op);

    op = mlxr_op_init(MLXR_OP_LINEAR, 0);
    op.dst = q;
    op.a = x;
    op.weight = mlxr_build_matrix(b, D, D, "layers.%d.q", 0);
    op.bias = mlxr_build_vector(b, D, ".bias", "layers.%d.q", 0);
    if (e->linear) e->linear(&op);
    mlxr_build_op(b, &op);
    op.bias = MLXR_NONE;
    op.dst = k;
    op.weight = mlxr_build_matrix(b, D / 2, D, "layers.%d.k", 0);
    mlxr_build_op(b, &op);
    op.dst = v;
    op.weight = mlxr_build_matrix(b, D / 2, D, "layers.%d.v", 0);
    mlxr_build_op(b, &op);

    op = mlxr_op_init(MLXR_OP_ROPE, 0);
    op.dst = op.a = q;
    op.u.rope.n_heads = 2;
    op.u.rope.head_dim = op.u.rope.n_rot = 4;
    op.u.rope.inv_freq = mlxr_build_floats(b, frequencies, 2);
    op.u.rope.scale = 1;
    if (e->rope) e->rope(&op);
    mlxr_build_op(b, &op);

    op = mlxr_op_init(MLXR_OP_ATTEND, 0);
    op.dst = a;
    op.a = q;
    op.b = k;
    op.c = v;
    op.u.attend.slot = mlxr_build_slot(b, "kv.0", 1, 4, 4, 5);
    op.u.attend.n_heads = 2;
    op.u.attend.scale = 0.5f;
    if (e->attend) e->attend(&op);
    mlxr_build_op(b, &op);

    op = mlxr_op_init(MLXR_OP_LINEAR, -1);
    op.dst = logits;
    op.a = a;
    op.weight = mlxr_build_matrix(b, V, D, "embed"); /* tied */
    mlxr_build_op(b, &op);
    st = mlxr_builder_finish(out, b, D, e->vocab_size ? e->vocab_size : V, 1, 64, logits, err);
    mlxr_builder_free(b);
    return st;
}

static void a_program_is_what_was_built(void **state)
{
    static const edits none = {0};
    mlxr_program *p;
    mlxr_error err;

    (void)state;
    assert_ok(build(&p, &none, &err), &err);
    assert_string_equal(p->family, "tiny");
    assert_int_equal(p->n_ops, 8);
    assert_int_equal(p->n_weights, 6); /* the tied table once */
    assert_int_equal(p->n_slots, 1);
    assert_int_equal(p->slots[0].window, 5);
    assert_int_equal(p->ops[0].weight, p->ops[7].weight);
    assert_int_equal(p->context_length, 64);
    assert_string_equal(p->regs[p->logits].name, "logits");
    assert_string_equal(p->weights[2].name, "layers.0.q");
    assert_string_equal(p->weights[3].name, "layers.0.q");
    assert_string_equal(p->weights[3].suffix, ".bias");
    assert_true(p->weights[3].is_vector && !p->weights[2].is_vector && !p->weights[0].bound);
    assert_ptr_not_equal(p->ops[5].u.rope.inv_freq, frequencies);
    mlxr_program_free(p);
    mlxr_program_free(NULL);
}

static void the_listing_has_a_line_for_everything(void **state)
{
    static const edits none = {0};
    static const char want[] =
        "program tiny: hidden 8, vocabulary 12, 1 layers, context 64, logits in logits\n"
        "slots (1)\n"
        "     0  kv.0: 1 heads, keys 4, values 4, window 5\n"
        "registers (7)\n"
        "     0  h [8]\n"
        "     1  x [8]\n"
        "     2  q [8]\n"
        "     3  k [4]\n"
        "     4  v [4]\n"
        "     5  a [8]\n"
        "     6  logits [12]\n"
        "weights (6)\n"
        "     0  embed.weight [12, 8] affine 4-bit group 32 BF16\n"
        "     1  layers.0.norm.weight [8] F16\n"
        "     2  layers.0.q.weight [8, 8] unbound\n"
        "     3  layers.0.q.bias [8] unbound\n"
        "     4  layers.0.k.weight [4, 8] unbound\n"
        "     5  layers.0.v.weight [4, 8] unbound\n"
        "operations (8)\n"
        "     0    -  EMBED       h = embed.weight[id] * 2\n"
        "     1    0  RMS_NORM    x = h, layers.0.norm.weight, eps 1e-05\n"
        "     2    0  LINEAR      q = x, layers.0.q.weight + layers.0.q.bias\n"
        "     3    0  LINEAR      k = x, layers.0.k.weight\n"
        "     4    0  LINEAR      v = x, layers.0.v.weight\n"
        "     5    0  ROPE        q = q, 2 heads of 4, half pairs\n"
        "     6    0  ATTEND      a = q, k, v, 2 heads, scale 0.5, slot kv.0\n"
        "     7    -  LINEAR      logits = a, embed.weight\n";
    mlxr_program *p;
    mlxr_buf out = {0};
    mlxr_error err;

    (void)state;
    assert_ok(build(&p, &none, &err), &err);
    p->weights[0].bound = p->weights[1].bound = true;
    p->weights[0].m.quant = (mlxr_quant){MLXR_QUANT_AFFINE, 4, 32};
    p->weights[0].m.dtype = MLXR_BF16;
    p->weights[1].m.dtype = MLXR_F16;
    mlxr_program_print(p, &out);
    assert_string_equal(out.data, want);
    mlxr_buf_clear(&out);
    mlxr_program_free(p);
}

/* ---- what is refused ---- */

static void reg_with_two_widths(mlxr_builder *b)
{
    mlxr_build_reg(b, "h", 9);
}
static void reg_without_width(mlxr_builder *b)
{
    mlxr_build_reg(b, "none", 0);
}
static void reg_too_wide(mlxr_builder *b)
{
    mlxr_build_reg(b, "wide", SIZE_MAX / 2);
}
static void weight_with_two_shapes(mlxr_builder *b)
{
    mlxr_build_matrix(b, 8, 12, "embed");
}
static void weight_without_rows(mlxr_builder *b)
{
    mlxr_build_matrix(b, 0, 12, "empty");
}
static void weight_too_large(mlxr_builder *b)
{
    mlxr_build_matrix(b, 8, SIZE_MAX, "large");
}
static void weight_with_long_name(mlxr_builder *b)
{
    mlxr_build_matrix(b, 8, 8, "%0300d", 1);
}
static void slot_without_heads(mlxr_builder *b)
{
    mlxr_build_slot(b, "kv", 0, 4, 4, 0);
}
static void slot_too_wide(mlxr_builder *b)
{
    mlxr_build_slot(b, "kv", SIZE_MAX / 2, 4, 4, 0);
}
static void table_of_another_size(mlxr_builder *b)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_EMBED, -1);
    op.dst = mlxr_build_reg(b, "h", 8);
    op.weight = mlxr_build_matrix(b, 11, 8, "other_table");
    mlxr_build_op(b, &op);
}
static void read_of_nothing(mlxr_builder *b)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_ADD, 3);
    op.dst = op.a = mlxr_build_reg(b, "h", 8);
    op.b = mlxr_build_reg(b, "q", 8);
    mlxr_build_op(b, &op);
}
static void logits_too_early(mlxr_builder *b)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_LINEAR, 0);
    op.a = mlxr_build_reg(b, "h", 8);
    op.dst = mlxr_build_reg(b, "logits", 12);
    op.weight = mlxr_build_matrix(b, 12, 8, "embed");
    mlxr_build_op(b, &op);
}
static void scale_by_nan(mlxr_builder *b)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_SCALE, 0);
    op.dst = op.a = mlxr_build_reg(b, "h", 8);
    op.u.scale.factor = NAN;
    mlxr_build_op(b, &op);
}

static void norm_no_weight(mlxr_op *op)
{
    op->weight = 999;
}
static void norm_matrix(mlxr_op *op)
{
    op->weight = 0;
}
static void norm_width(mlxr_op *op)
{
    op->u.norm.width = 3;
}
static void norm_no_width(mlxr_op *op)
{
    op->u.norm.width = 0;
}
static void norm_eps(mlxr_op *op)
{
    op->u.norm.eps = -1;
}
static void no_dst(mlxr_op *op)
{
    op->dst = MLXR_NONE;
}
static void linear_in_place(mlxr_op *op)
{
    op->dst = op->a;
}
static void linear_bias_is_matrix(mlxr_op *op)
{
    op->bias = op->weight;
}
static void linear_transposed(mlxr_op *op)
{
    op->dst = 6; /* the logits, 12 wide */
}
static void rope_elsewhere(mlxr_op *op)
{
    op->dst = 1;
}
static void rope_odd(mlxr_op *op)
{
    op->u.rope.n_rot = 3;
}
static void rope_too_many(mlxr_op *op)
{
    op->u.rope.n_rot = 6;
}
static void rope_heads(mlxr_op *op)
{
    op->u.rope.n_heads = 3;
}
static void rope_no_frequencies(mlxr_op *op)
{
    op->u.rope.inv_freq = NULL;
}
static void attend_no_slot(mlxr_op *op)
{
    op->u.attend.slot = 1;
}
static void attend_no_heads(mlxr_op *op)
{
    op->u.attend.n_heads = 0;
}
static void attend_more_heads(mlxr_op *op)
{
    op->u.attend.n_heads = 4;
}
static void attend_in_place(mlxr_op *op)
{
    op->dst = op->a;
}
static void attend_huge(mlxr_op *op)
{
    op->u.attend.n_heads = SIZE_MAX;
}

static void what_does_not_fit_is_refused(void **state)
{
    static const struct {
        edits e;
        mlxr_status status;
        const char *text;
    } cases[] = {
        {{.before = reg_with_two_widths},
         MLXR_E_FORMAT,
         "register h is 8 wide in one place and 9 in another"},
        {{.before = reg_without_width}, MLXR_E_FORMAT, "register none is 0 wide"},
        {{.before = reg_too_wide}, MLXR_E_FORMAT, "register wide"},
        {{.before = weight_with_two_shapes},
         MLXR_E_FORMAT,
         "embed.weight has shape [12, 8] in one place and [8, 12]"},
        {{.before = weight_without_rows}, MLXR_E_FORMAT, "empty.weight has shape [0, 12]"},
        {{.before = weight_too_large}, MLXR_E_FORMAT, "large.weight has shape [8, "},
        {{.before = weight_with_long_name}, MLXR_E_INTERNAL, "too long"},
        {{.before = slot_without_heads}, MLXR_E_FORMAT, "slot kv has 0 heads"},
        {{.before = slot_too_wide}, MLXR_E_FORMAT, "slot kv has"},
        {{.before = table_of_another_size},
         MLXR_E_INTERNAL,
         "EMBED reads a table of 11 rows, wanted 12 or more"},
        {{.before = read_of_nothing}, MLXR_E_INTERNAL, "(ADD, layer 3): b reads register q before"},
        {{.before = logits_too_early}, MLXR_E_INTERNAL, "after the last operation that mixes tokens"},
        {{.before = scale_by_nan}, MLXR_E_INTERNAL, "(SCALE, layer 0): a field"},
        {{.norm = norm_no_weight}, MLXR_E_INTERNAL, "(RMS_NORM, layer 0): weight is not a weight"},
        {{.norm = norm_matrix}, MLXR_E_INTERNAL, "embed.weight is a matrix [12, 8], wanted a vector [1, 8]"},
        {{.norm = norm_width}, MLXR_E_INTERNAL, "(RMS_NORM, layer 0): eps is below 0, or the width"},
        {{.norm = norm_no_width}, MLXR_E_INTERNAL, "(RMS_NORM, layer 0): eps is below 0, or the width"},
        {{.norm = norm_eps}, MLXR_E_INTERNAL, "(RMS_NORM, layer 0): eps is below 0, or the width"},
        {{.norm = no_dst}, MLXR_E_INTERNAL, "dst is not a register"},
        {{.linear = linear_in_place}, MLXR_E_INTERNAL, "dst is the input"},
        {{.linear = linear_bias_is_matrix}, MLXR_E_INTERNAL, "bias layers.0.q.weight is a matrix"},
        {{.linear = linear_transposed}, MLXR_E_INTERNAL, "is a matrix [8, 8], wanted a matrix [12, 8]"},
        {{.rope = rope_elsewhere}, MLXR_E_INTERNAL, "rotates in place"},
        {{.rope = rope_odd}, MLXR_E_INTERNAL, "n_rot"},
        {{.rope = rope_too_many}, MLXR_E_INTERNAL, "n_rot"},
        {{.rope = rope_heads}, MLXR_E_INTERNAL, "a is register q of width 8, wanted 12"},
        {{.rope = rope_no_frequencies}, MLXR_E_INTERNAL, "no frequencies"},
        {{.attend = attend_no_slot}, MLXR_E_INTERNAL, "slot is not a slot"},
        {{.attend = attend_no_heads}, MLXR_E_INTERNAL, "n_heads"},
        {{.attend = attend_more_heads}, MLXR_E_INTERNAL, "a is register q of width 8, wanted 16"},
        {{.attend = attend_in_place}, MLXR_E_INTERNAL, "dst is one of the inputs"},
        {{.attend = attend_huge}, MLXR_E_INTERNAL, "too many heads"},
        {{.vocab_size = 13}, MLXR_E_INTERNAL, "the logits are not a register of width 13"},
    };
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        mlxr_program *p;
        mlxr_error err;
        assert_fails(build(&p, &cases[i].e, &err), cases[i].status, cases[i].text, &err);
        assert_null(p);
    }
}

/* Two layers that append to one slot would overwrite each other's keys. */
static void a_slot_is_appended_to_once(void **state)
{
    mlxr_builder *b;
    mlxr_program *p;
    mlxr_op op = mlxr_op_init(MLXR_OP_EMBED, -1);
    mlxr_error err;

    (void)state;
    assert_ok(mlxr_builder_create(&b, "tiny", &err), &err);
    op.dst = mlxr_build_reg(b, "h", 4);
    op.weight = mlxr_build_matrix(b, 4, 4, "embed");
    mlxr_build_op(b, &op);
    op = mlxr_op_init(MLXR_OP_ATTEND, 0);
    op.a = op.b = op.c = mlxr_build_reg(b, "h", 4);
    op.dst = mlxr_build_reg(b, "x", 4);
    op.u.attend.slot = mlxr_build_slot(b, "kv", 1, 4, 4, 0);
    op.u.attend.n_heads = 1;
    mlxr_build_op(b, &op);
    mlxr_build_op(b, &op);
    assert_fails(mlxr_builder_finish(&p, b, 4, 4, 1, 8, mlxr_build_reg(b, "x", 4), &err), MLXR_E_INTERNAL,
                 "another operation appends to the same slot", &err);
    mlxr_builder_free(b);
}

/* The first failure is the one told, whatever is built after it. */
static void the_first_failure_sticks(void **state)
{
    mlxr_builder *b;
    mlxr_program *p;
    mlxr_op op = mlxr_op_init(MLXR_OP_EMBED, -1);
    mlxr_error err;

    (void)state;
    assert_ok(mlxr_builder_create(&b, "tiny", &err), &err);
    assert_int_equal(mlxr_build_reg(b, "first", 0), MLXR_NONE);
    assert_int_equal(mlxr_build_reg(b, "second", 4), MLXR_NONE);
    assert_int_equal(mlxr_build_matrix(b, 4, 4, "w"), MLXR_NONE);
    assert_int_equal(mlxr_build_vector(b, 4, ".bias", "w"), MLXR_NONE);
    assert_int_equal(mlxr_build_slot(b, "kv", 1, 4, 4, 0), MLXR_NONE);
    assert_null(mlxr_build_floats(b, frequencies, 2));
    mlxr_build_op(b, &op);
    assert_fails(mlxr_builder_finish(&p, b, 4, 4, 1, 8, 0, &err), MLXR_E_FORMAT, "register first", &err);
    assert_null(p);
    assert_int_equal(mlxr_builder_finish(&p, b, 4, 4, 1, 8, 0, NULL), MLXR_E_FORMAT);
    mlxr_builder_free(b);
    mlxr_builder_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_is_what_was_built),
        cmocka_unit_test(the_listing_has_a_line_for_everything),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(a_slot_is_appended_to_once),
        cmocka_unit_test(the_first_failure_sticks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
