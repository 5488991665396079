/* Bytes and operations of single operations, counted by hand. */
#include "test.h"

#include "model/cost.h"

enum { D = 64, V = 10, HQ = 4, HKV = 2, DH = 16 };

static void test_linear_reads_its_weights_once(void **state)
{
    const uint32_t positions[3] = {0, 1, 2}, seqs[3] = {0};
    mlxr_weight w = {.name = "w",
                     .n_rows = V,
                     .n_cols = D,
                     .m = {.quant = {MLXR_QUANT_AFFINE, 4, 32},
                           .dtype = MLXR_F16,
                           .n_rows = V,
                           .n_cols = D,
                           .row_bytes = D / 2}};
    mlxr_program p = {.weights = &w, .n_weights = 1};
    mlxr_op op = mlxr_op_init(MLXR_OP_LINEAR, 0);
    mlxr_cost_batch batch = {.n_tokens = 3, .positions = positions, .seqs = seqs};
    mlxr_cost cost = {0};

    op.weight = 0;
    mlxr_op_cost(&cost, &p, &op, &batch);
    assert_true(cost.weight_bytes == V * (D / 2 + 2 * 2 * D / 32));
    assert_true(cost.state_bytes == 0);
    assert_true(cost.flops == 3.0 * 2 * V * D);
    batch.n_tokens = 0;
    mlxr_op_cost(&cost, &p, &op, &batch);
    assert_true(cost.flops == 3.0 * 2 * V * D);

    /* A table of rows: only those of the tokens. */
    cost = (mlxr_cost){0};
    batch.n_tokens = 3;
    op.kind = MLXR_OP_EMBED;
    mlxr_op_cost(&cost, &p, &op, &batch);
    assert_true(cost.weight_bytes == 3 * (D / 2 + 2 * 2 * D / 32));
}

static void test_attention_reads_what_it_sees(void **state)
{
    /* Sequence 0 from position 10 on, sequence 1 at position 99. */
    const uint32_t positions[4] = {10, 11, 12, 99}, seqs[4] = {0, 0, 0, 1};
    mlxr_slot slot = {
        .name = "kv", .kind = MLXR_SLOT_KV, .n_kv_heads = HKV, .k_head_dim = DH, .v_head_dim = DH};
    mlxr_program p = {.slots = &slot, .n_slots = 1};
    mlxr_op op = mlxr_op_init(MLXR_OP_ATTEND, 0);
    mlxr_cost_batch batch = {.n_tokens = 4, .positions = positions, .seqs = seqs, .kv_bytes = 2};
    mlxr_cost cost = {0};

    op.u.attend.slot = 0;
    op.u.attend.n_heads = HQ;
    assert_true(mlxr_program_kv_numbers(&p) == HKV * 2 * DH);
    mlxr_op_cost(&cost, &p, &op, &batch);
    assert_true(cost.state_bytes == (13.0 + 100) * HKV * 2 * DH * 2);
    assert_true(cost.flops == 2.0 * HQ * 2 * DH * (11 + 12 + 13 + 100));

    /* A window of 8: the first of three tokens sees 3..10, the last ..12. */
    slot.window = 8;
    cost = (mlxr_cost){0};
    mlxr_op_cost(&cost, &p, &op, &batch);
    assert_true(cost.state_bytes == (10.0 + 8) * HKV * 2 * DH * 2);
    assert_true(cost.flops == 2.0 * HQ * 2 * DH * 8 * 4);
}

static void test_experts_are_read_as_far_as_they_are_met(void **state)
{
    enum { E = 8, K = 2, F = 32 };
    const uint32_t positions[200] = {0}, seqs[200] = {0};
    mlxr_matrix m = {.dtype = MLXR_F32, .n_rows = F, .n_cols = D, .row_bytes = D * 4};
    mlxr_weight weights[4] = {
        {.n_experts = E, .n_rows = F, .n_cols = D, .m = m},
        {.n_experts = E, .n_rows = F, .n_cols = D, .m = m},
        {.n_experts = E, .n_rows = D, .n_cols = F, .m = m},
        {.n_rows = E, .n_cols = F, .m = {.dtype = MLXR_F32, .n_rows = E, .n_cols = F, .row_bytes = F * 4}}};
    mlxr_program p = {.weights = weights, .n_weights = 4};
    mlxr_op op = mlxr_op_init(MLXR_OP_EXPERTS, 0);
    mlxr_cost_batch batch = {.n_tokens = 1, .positions = positions, .seqs = seqs};
    mlxr_cost one = {0}, many = {0};
    double each = 3.0 * F * D * 4 + F * 4;

    op.u.experts.k = K;
    op.u.experts.gate = 0;
    op.u.experts.up = 1;
    op.u.experts.down = 2;
    op.u.experts.gate_bias = 3;
    mlxr_op_cost(&one, &p, &op, &batch);
    assert_true(one.weight_bytes > K * each * 0.999 && one.weight_bytes < K * each * 1.001);
    assert_true(one.flops == 2.0 * K * 3 * F * D);
    batch.n_tokens = 200;
    mlxr_op_cost(&many, &p, &op, &batch);
    assert_true(many.weight_bytes > E * each * 0.999 && many.weight_bytes <= E * each);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear_reads_its_weights_once),
        cmocka_unit_test(test_attention_reads_what_it_sees),
        cmocka_unit_test(test_experts_are_read_as_far_as_they_are_met),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
