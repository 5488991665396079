/* cost: what an operation has to read and to compute at the least, for rooflines. Reading is what a step cannot do
 * without: its weights once, however many tokens share them, and the states of its sequences. Registers live in
 * caches and are not counted. */
#ifndef MLXR_COST_H
#define MLXR_COST_H

#include "model/program.h"

/* The tokens an operation runs for; those of one sequence are consecutive. */
typedef struct mlxr_cost_batch {
    size_t n_tokens;
    const uint32_t *positions, *seqs; /* [n_tokens] */
    double kv_bytes;                  /* of one stored number of a key or value */
} mlxr_cost_batch;

typedef struct mlxr_cost {
    double weight_bytes, state_bytes;
    double flops; /* a multiplication and an addition are two */
} mlxr_cost;

/* Adds op's cost to *cost. Of EXPERTS' matrices as many are read as random choices would touch. */
void mlxr_op_cost(mlxr_cost *cost, const mlxr_program *p, const mlxr_op *op, const mlxr_cost_batch *batch);
/* Numbers that one position has in all slots of keys and values. */
double mlxr_program_kv_numbers(const mlxr_program *p);

#endif
