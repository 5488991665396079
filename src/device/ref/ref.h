/* ref: scalar C to read beside the papers, and the oracle that the other devices are tested against.
 *
 * Values between operations are float32. Within one, sums (dot products, the mean of a norm, a softmax's total, the
 * weighted sum of values) run in double from the first term to the last and are rounded once, so that what differs
 * from another device is that device's rounding. A row is computed from its own inputs alone, in one order:
 * batch and chunking cannot change its bits.
 *
 * Stored keys and values stay floats; the device's kv_type says how they are rounded on the way (kv.h).
 *
 * The registers of one step are matrices [n, width], n the tokens of the batch. Once the last operation that mixes
 * tokens has run, only the rows whose logits are wanted go on: the registers are compacted to them. */
#ifndef MLXR_REF_H
#define MLXR_REF_H

#include "device/device.h"

typedef struct ref_executable {
    mlxr_executable base;
    /* [n_slots] of a KV slot: floats from a block's start to its keys; its values follow them */
    size_t *slot_offset;
    size_t block_floats;
    size_t i_tail;     /* first operation after the last one that mixes tokens */
    bool *in_tail;     /* [n_regs] whether only the tail touches the register */
    size_t row_floats; /* widest matrix row, or frequencies of a ROPE */
    size_t max_v_head_dim;

    /* Scratch, grown to the largest step so far. */
    float **regs; /* [n_regs] */
    size_t cap_tokens, cap_rows, cap_scores;
    int32_t *ids;
    uint32_t *positions, *seqs;
    float *row;    /* one dequantized row of a matrix, or the frequencies at one position */
    float *scores; /* [positions] of one token and head */
    double *sum;   /* [max_v_head_dim] */
    size_t n_hidden;
    float *hidden; /* [n_hidden]: a token's experts before their last matrix */
} ref_executable;

typedef struct ref_state {
    mlxr_state base;
    float *blocks;    /* [n_blocks, block_floats] */
    float *sequences; /* [n_sequences, 2, n_sequence_floats] */
} ref_state;

/* What an operation works on. */
typedef struct ref_step {
    ref_executable *e;
    ref_state *state;
    const mlxr_program *p;
    size_t n; /* rows of every register */
    float **regs;
    const int32_t *ids;
    const uint32_t *positions, *seqs;
    const mlxr_block_table *tables;
    const mlxr_sequence_step *steps; /* one a table */
} ref_step;

/* act(a) * b; MLXR_ACT_SWIGLU_OAI is a function of both. */
float mlxr_ref_gated(mlxr_act act, float alpha, float limit, float a, float b);

/* One function an operation; registers and weights fit, as the program's builder checked. */
void mlxr_ref_embed(const ref_step *s, const mlxr_op *op);
void mlxr_ref_linear(const ref_step *s, const mlxr_op *op);
void mlxr_ref_rms_norm(const ref_step *s, const mlxr_op *op);
void mlxr_ref_layer_norm(const ref_step *s, const mlxr_op *op);
void mlxr_ref_rope(const ref_step *s, const mlxr_op *op);
void mlxr_ref_attend(const ref_step *s, const mlxr_op *op);
void mlxr_ref_act_mul(const ref_step *s, const mlxr_op *op);
void mlxr_ref_add(const ref_step *s, const mlxr_op *op);
void mlxr_ref_scale(const ref_step *s, const mlxr_op *op);
void mlxr_ref_route(const ref_step *s, const mlxr_op *op);
void mlxr_ref_experts(const ref_step *s, const mlxr_op *op);
void mlxr_ref_softcap(const ref_step *s, const mlxr_op *op);
void mlxr_ref_slice(const ref_step *s, const mlxr_op *op);
void mlxr_ref_short_conv(const ref_step *s, const mlxr_op *op);
void mlxr_ref_gated_delta(const ref_step *s, const mlxr_op *op);

/* What EXPERTS needs beyond what the builder checked; its scratch is counted. */
mlxr_status mlxr_ref_prepare_experts(ref_executable *e, const mlxr_op *op, size_t i_op, mlxr_error *err);

#endif
