/* memory: see memory.h. */
#include "device/memory.h"

mlxr_memory_request mlxr_memory_request_default(size_t n_positions)
{
    return (mlxr_memory_request){.n_positions = n_positions, .n_sequences = 1, .n_tokens_per_step = 256};
}

/* *sum += a * b. */
static bool add_product(uint64_t *sum, uint64_t a, uint64_t b)
{
    uint64_t product;
    return !__builtin_mul_overflow(a, b, &product) && !__builtin_add_overflow(*sum, product, sum);
}

/* Keys and values of MLXR_KV_BLOCK positions of every slot in float32. */
static bool plain_block_bytes(uint64_t *out, const mlxr_program *p)
{
    *out = 0;
    for (size_t i = 0; i < p->n_slots; i++) {
        const mlxr_slot *s = &p->slots[i];
        uint64_t width;
        if (s->kind != MLXR_SLOT_KV) continue;
        if (__builtin_add_overflow((uint64_t)s->k_head_dim, (uint64_t)s->v_head_dim, &width) ||
            __builtin_mul_overflow(width, MLXR_KV_BLOCK * sizeof(float), &width) ||
            !add_product(out, s->n_kv_heads, width))
            return false;
    }
    return true;
}

static bool register_floats(uint64_t *out, const mlxr_program *p)
{
    *out = 0;
    for (size_t i = 0; i < p->n_regs; i++)
        if ((mlxr_reg_id)i != p->logits && !add_product(out, p->regs[i].width, 1)) return false;
    return true;
}

mlxr_status mlxr_memory_plan(mlxr_memory *out, const mlxr_program *p, const mlxr_executable *e,
                             uint64_t weight_bytes, const mlxr_memory_request *request, mlxr_error *err)
{
    mlxr_memory m = {.weight_bytes = weight_bytes};
    uint64_t blocks_each = request->n_positions / MLXR_KV_BLOCK + (request->n_positions % MLXR_KV_BLOCK != 0);
    uint64_t width;
    bool fits = e || plain_block_bytes(&m.block_bytes, p);

    if (e) {
        m.block_bytes = mlxr_executable_block_bytes(e);
        m.sequence_bytes = mlxr_executable_sequence_bytes(e);
    } else {
        fits = fits && add_product(&m.sequence_bytes, p->n_sequence_floats, 2 * sizeof(float));
    }
    fits = fits && add_product(&m.n_blocks, blocks_each, request->n_sequences) &&
           add_product(&m.kv_bytes, m.n_blocks, m.block_bytes) &&
           add_product(&m.states_bytes, m.sequence_bytes, request->n_sequences) &&
           register_floats(&width, p) && add_product(&m.activation_bytes, width, sizeof(float)) &&
           !__builtin_mul_overflow(m.activation_bytes, request->n_tokens_per_step, &m.activation_bytes) &&
           /* A row of logits for each sequence. */
           add_product(&m.activation_bytes, (uint64_t)p->vocab_size * sizeof(float), request->n_sequences) &&
           add_product(&m.total_bytes, m.weight_bytes, 1) && add_product(&m.total_bytes, m.kv_bytes, 1) &&
           add_product(&m.total_bytes, m.states_bytes, 1) &&
           add_product(&m.total_bytes, m.activation_bytes, 1);
    if (!fits)
        return mlxr_fail(err, MLXR_E_LIMIT,
                         "memory: %zu sequences of %zu positions take more bytes than can be counted",
                         request->n_sequences, request->n_positions);
    *out = m;
    return MLXR_OK;
}
