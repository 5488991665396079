/* memory: what a program takes on a device before anything is allocated or any weight is read. */
#ifndef MLXR_DEVICE_MEMORY_H
#define MLXR_DEVICE_MEMORY_H

#include "device/device.h"

/* Fill it with mlxr_memory_request_default first. */
typedef struct mlxr_memory_request {
    size_t n_positions;       /* a sequence's context */
    size_t n_sequences;       /* 1 */
    size_t n_tokens_per_step; /* 256, what the engine takes at once */
} mlxr_memory_request;
mlxr_memory_request mlxr_memory_request_default(size_t n_positions);

/* All in bytes. Weights and what is kept for sequences are exact: they are what the device allocates, or maps.
 * Activations are the program's registers for a step in float32; a device adds scratch of its own. */
typedef struct mlxr_memory {
    uint64_t weight_bytes;
    uint64_t block_bytes, n_blocks, kv_bytes; /* a block has MLXR_KV_BLOCK positions; kv = block times n */
    uint64_t sequence_bytes, states_bytes;    /* of one sequence, of all */
    uint64_t activation_bytes;
    uint64_t total_bytes; /* of weights, kv, states and activations */
} mlxr_memory;

/* e: the program compiled on the device that is asked about; NULL: as a device lays it out that stores every key and value
 * as float32 and nothing else, which is what `ref` does. weight_bytes: of the bound weights. A sum that does not fit
 * 64 bits is MLXR_E_LIMIT. */
mlxr_status mlxr_memory_plan(mlxr_memory *out, const mlxr_program *p, const mlxr_executable *e,
                             uint64_t weight_bytes, const mlxr_memory_request *request, mlxr_error *err);

#endif
