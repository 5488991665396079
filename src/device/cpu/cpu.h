/* The cpu device's own structures: plan.c makes an executable from a program, cpu.c runs it.
 *
 * A program becomes a list of steps; between steps all threads meet:
 *   - ROWS: consecutive operations on single rows (embed, norm, rope, add, ..., storing keys and values), all of them
 *     for one token after the other;
 *   - LINEARS: consecutive linear operations that read the same register (q, k, v; gate, up), as one run of rows;
 *   - LOOK: attention over what is stored (look.c);
 *   - CONV, DELTA: one operation that moves the state of each sequence on, token by token;
 *   - EXPERTS: one such operation (experts.c).
 * What leads only to logits runs for the wanted tokens alone. A token's values stay in its own row of every register
 * either way; the register of the logits is the caller's buffer, by wanted row. */
#ifndef MLXR_CPU_H
#define MLXR_CPU_H

#include "base/pool.h"
#include "device/cpu/ints.h"
#include "device/cpu/kernels.h"

enum {
    MLXR_CPU_MAX_TOKENS = 512, /* of one pass over the program; a longer batch takes several */
    MLXR_CPU_MAX_LINEARS = 8,  /* of one step */
    MLXR_CPU_DELTA_SCRATCH = 2 * MLXR_CPU_MAX_TOKENS, /* floats */
};

typedef struct cpu_device {
    mlxr_device base;
    const mlxr_cpu_kernels *kernels;
    mlxr_pool *pool;
    bool fast;    /* products in integers where there is a kernel */
    bool profile; /* executables keep times */
} cpu_device;

/* ATTEND is two: storing this batch's keys and values, which every token does, and looking. */
typedef enum cpu_op_part { CPU_WHOLE, CPU_STORE, CPU_LOOK } cpu_op_part;

typedef struct cpu_op {
    const mlxr_op *op;
    cpu_op_part part;
    bool wanted_only;
    /* Owned by the arena. RMS_NORM: offset + weight; LAYER_NORM: weight; LINEAR: bias or NULL; ATTEND: sinks or NULL; ROUTE: weight or NULL;
     * SHORT_CONV: weight, transposed; GATED_DELTA: -exp(weight). */
    const float *vector;
    size_t n_vector;                   /* of RMS_NORM and LAYER_NORM */
    const float *bias;                 /* LAYER_NORM, SHORT_CONV: bias or NULL; GATED_DELTA: bias */
    mlxr_cpu_linear_fn linear;         /* LINEAR */
    mlxr_ints_kernel ints;             /* LINEAR in integers, where its .few is set */
    size_t i_ints;                     /* which of the step's kinds of integers it reads */
    size_t i_rope;                     /* ROPE: index into ropes */
    float factor;                      /* SCALE */
    mlxr_cpu_act act;                  /* ACT_MUL, SHORT_CONV, EXPERTS */
    const struct cpu_mixture *mixture; /* EXPERTS */
} cpu_op;

typedef enum cpu_step_kind {
    CPU_ROWS,
    CPU_LINEARS,
    CPU_LOOKING,
    CPU_CONV,
    CPU_DELTA,
    CPU_EXPERTS
} cpu_step_kind;

typedef struct cpu_step {
    cpu_step_kind kind;
    size_t first, n; /* of ops */
    bool wanted_only;
    size_t n_rows; /* of LINEARS, all together */
    size_t next;   /* the next step of LINEARS; its own index: there is none */
} cpu_step;

/* Cosines and sines of this pass's positions, shared by all ROPE with the same frequencies. */
typedef struct cpu_rope {
    const mlxr_op *op; /* the first of them */
    size_t half;       /* n_rot / 2 */
    float *cos, *sin;  /* [cap_tokens, half] */
} cpu_rope;

/* A slot's heads within a block of the state: the first from `at`, in bytes. */
typedef struct cpu_slot {
    size_t at;
    mlxr_cpu_kv kv;
} cpu_slot;

/* Consecutive tokens of one sequence in a step's list. Those of a LOOK are few: their heads share the loads of keys and
 * values. */
typedef struct cpu_tile {
    size_t begin, n;
} cpu_tile;

typedef struct cpu_executable {
    mlxr_executable base;
    cpu_op *ops;
    size_t n_ops;
    cpu_step *steps;
    size_t n_steps;
    size_t n_steps_hidden; /* those up to the final hidden state; all where the program has none */
    cpu_rope *ropes;
    size_t n_ropes;
    cpu_slot *slots;
    size_t block_bytes;
    mlxr_arena arena; /* all of the above but the tables of ropes */

    size_t n_ints;                    /* most kinds of integers in one step */
    size_t ints_columns, ints_groups; /* of the widest row, padded */
    size_t scratch_floats;            /* a thread's */
    float *scratch;                   /* [n_threads, scratch_floats] */

    /* Grown to the largest pass so far. Rows are zero behind their width: linear kernels read on there. */
    size_t *stride; /* [n_regs] floats from row to row */
    float **regs;   /* [n_regs] of [cap_tokens, stride]; NULL for the logits */
    size_t cap_tokens;
    mlxr_ints *ints; /* [n_ints, cap_tokens] the rows of a step in integers, in each kind it needs */
    void *ints_memory;
    const float **x;           /* [cap_tokens] */
    float **y;                 /* [MLXR_CPU_MAX_LINEARS, cap_tokens] */
    uint32_t *every;           /* [cap_tokens] 0, 1, 2, ... */
    uint32_t *wanted;          /* [cap_tokens] */
    cpu_tile *tiles;           /* [cap_tokens] */
    struct cpu_mixing *mixing; /* NULL without EXPERTS */

    struct cpu_looking *looking; /* look.c's own: what spans left to be added up; NULL before the first */

    struct cpu_profile *profile; /* NULL: no times are kept */
} cpu_executable;

typedef struct cpu_state {
    mlxr_state base;
    uint8_t *blocks;  /* [n_blocks, block_bytes] */
    float *sequences; /* [n_sequences, 2, n_sequence_floats] */
    void *memory;     /* what both lie in */
} cpu_state;

mlxr_status mlxr_cpu_compile(mlxr_executable **out, mlxr_device *d, const mlxr_program *p, mlxr_error *err);
void mlxr_cpu_executable_free(mlxr_executable *e);
/* Room for a pass of n_tokens. */
bool mlxr_cpu_reserve(cpu_executable *e, size_t n_tokens);
/* n rows of so many padded columns and groups, and the memory they lie in: both the caller's, also when this failed.
 * No rows are NULL. */
bool mlxr_cpu_alloc_ints(mlxr_ints **rows, void **memory, size_t n, size_t columns, size_t groups);

/* ---- profile.c: the time of every step, when the device was opened for it ---- */

/* The tokens a step ran for. */
typedef struct cpu_noted {
    const uint32_t *list; /* [n] */
    size_t n;
    const uint32_t *positions, *seqs; /* by list[i] */
} cpu_noted;
/* Fills e->profile, once the steps are known; its memory is the arena's. */
bool mlxr_cpu_profile_create(cpu_executable *e);
void mlxr_cpu_profile_note(cpu_executable *e, size_t i_step, uint64_t ns, const cpu_noted *noted);
mlxr_profile_row *mlxr_cpu_profile_rows(mlxr_executable *e, size_t *n_rows);

/* ---- look.c: ATTEND ---- */

/* The keys and values of one token, at its position. */
void mlxr_cpu_store(const cpu_executable *e, cpu_state *s, const mlxr_op *op, const uint32_t *blocks,
                    size_t position, const float *k, const float *v);

typedef struct cpu_look {
    cpu_executable *e;
    const cpu_state *state;
    const cpu_op *c;
    const mlxr_block_table *tables;
    size_t n;                         /* tokens */
    const uint32_t *list;             /* [n] */
    const uint32_t *positions, *seqs; /* by list[i] */
    const float *const *q;            /* [n] rows */
    float *const *dst;
} cpu_look;
mlxr_status mlxr_cpu_run_look(const cpu_look *l, mlxr_error *err);
void mlxr_cpu_release_look(cpu_executable *e);

/* ---- experts.c ---- */
void mlxr_cpu_route(const cpu_op *c, size_t n_experts, const float *scores, float *dst);
/* Fills c->mixture; counts the scratch and the memory of a pass. */
mlxr_status mlxr_cpu_prepare_experts(cpu_executable *e, cpu_op *c, size_t i_op, mlxr_error *err);
/* What EXPERTS needs for n_tokens, where there was nothing or release was called; false: release it. */
bool mlxr_cpu_reserve_experts(cpu_executable *e, size_t n_tokens);
void mlxr_cpu_release_experts(cpu_executable *e);
/* The rows of n_tokens tokens. inputs: zero from their width up to a multiple of MLXR_CPU_CHUNK. */
void mlxr_cpu_run_experts(cpu_executable *e, const cpu_op *c, const float *const *inputs,
                          const float *const *route, float *const *dst, size_t n_tokens);

#endif
