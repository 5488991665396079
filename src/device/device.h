/* device: runs programs. `ref` is scalar float32 C to read beside the papers and the oracle of all others; `cpu` is
 * the fast one on every machine. Nobody outside this room knows a device's types.
 *
 * Threads: one thread owns a device and all that was made from it. Executables and states are closed before it. */
#ifndef MLXR_DEVICE_H
#define MLXR_DEVICE_H

#include "model/program.h"

typedef struct mlxr_device mlxr_device;
typedef struct mlxr_executable mlxr_executable;
typedef struct mlxr_state mlxr_state;

/* Whether a device computes the step after a decoding one before it is asked for, on the likeliest ids: DEFAULT where
 * the host's part would keep it waiting. */
typedef enum mlxr_ahead { MLXR_AHEAD_DEFAULT, MLXR_AHEAD_ON, MLXR_AHEAD_OFF } mlxr_ahead;

typedef struct mlxr_device_options {
    mlxr_precision precision;
    mlxr_kv_type kv_type;      /* of what mlxr_executable_block_bytes counts */
    size_t n_threads;          /* 0: one a CPU this process may run on; MLX chooses its own */
    const char *isa;           /* cpu: NULL for the best the machine has, else one of those of mlxr.h */
    const char *mlx_library;   /* mlx: the module's file, NULL to look where it is installed and built */
    size_t memory_limit_bytes; /* mlx: for all arrays of this process; 0: MLX's own limit */
    mlxr_ahead ahead;          /* mlx */
    bool profile;              /* cpu: keeps the time of every step, see mlxr_executable_profile */
    mlxr_log log;
    const char *variant; /* what follows the colon of a device's name; mlxr_device_open's business */
} mlxr_device_options;

/* name: "cpu", "ref", or "mlx" (its GPU when there is one, else its CPU), "mlx:gpu", "mlx:cpu"; another, one that is
 * not there, or an ISA this machine lacks is MLXR_E_DEVICE saying what there is. */
mlxr_status mlxr_device_open(mlxr_device **out, const char *name, const mlxr_device_options *options,
                             mlxr_error *err);
void mlxr_device_close(mlxr_device *d);
/* "cpu avx2, 2 threads"; borrowed until close. */
const char *mlxr_device_description(const mlxr_device *d);
/* How it keeps keys and values: "f32", "f16" or "int8"; "" where that is its own business. */
const char *mlxr_device_kv(const mlxr_device *d);
/* "avx2", "" where there is no choice; borrowed until close. */
const char *mlxr_device_isa(const mlxr_device *d);
size_t mlxr_device_n_threads(const mlxr_device *d);
/* How many tokens of prompts a step should take for the device to be at its best; 0: it has no wish. */
size_t mlxr_device_preferred_tokens(const mlxr_device *d);

/* One line about MLX: where its module is, its version, its devices and their memory; or why it is not there, when
 * false is returned. library: as mlxr_device_options.mlx_library. */
bool mlxr_device_probe_mlx(char *text, size_t n_text, const char *library);
/* Bytes in MLX's arrays, and those it keeps for reuse; false without MLX. */
bool mlxr_device_mlx_memory(size_t *active, size_t *cached, const char *library);

/* The program is borrowed until the executable is freed. What the device cannot run is refused here,
 * naming the operation (MLXR_E_UNSUPPORTED). */
mlxr_status mlxr_device_compile(mlxr_executable **out, mlxr_device *d, const mlxr_program *program,
                                mlxr_error *err);
void mlxr_executable_free(mlxr_executable *e);

/* Keys and values live in blocks of MLXR_KV_BLOCK positions. A block holds those positions' K and V of every slot;
 * a sequence is a list of block ids: position p lies in block table[p / MLXR_KV_BLOCK]. */
enum { MLXR_KV_BLOCK = 32 };
size_t mlxr_executable_block_bytes(const mlxr_executable *e);
/* What a program has beside that for each sequence (convolution tails, states of a delta rule) is kept for
 * n_sequences of them, numbered from 0. A sequence that begins at position 0 begins with zeros. The state of the step
 * before is kept too: a step that failed, or whose answer was not used, may be run again from the same position. */
size_t mlxr_executable_sequence_bytes(const mlxr_executable *e);
mlxr_status mlxr_state_create(mlxr_state **out, mlxr_executable *e, size_t n_blocks, size_t n_sequences,
                              mlxr_error *err);
void mlxr_state_free(mlxr_state *s);

/* Whether blocks mean the same to every sequence, so that several may have one in their tables; and the calls that go with
 * it, which are MLXR_E_UNSUPPORTED elsewhere (mlx keeps a sequence's keys and values in arrays of its own). */
bool mlxr_executable_shares_blocks(const mlxr_executable *e);
/* Block `to` becomes as `from`. */
mlxr_status mlxr_state_copy_block(mlxr_state *s, uint32_t to, uint32_t from, mlxr_error *err);
/* What a sequence has beside its blocks after n_tokens tokens, in bytes [mlxr_executable_snapshot_bytes]: read from one of its
 * two versions (MLXR_E_INVALID_ARGUMENT when neither is of so many tokens), or written, so that the sequence goes on
 * at position n_tokens. 0 bytes: there is nothing to do. */
size_t mlxr_executable_snapshot_bytes(const mlxr_executable *e);
mlxr_status mlxr_state_read_sequence(void *to, const mlxr_state *s, uint32_t sequence, size_t n_tokens,
                                     mlxr_error *err);
mlxr_status mlxr_state_write_sequence(mlxr_state *s, uint32_t sequence, size_t n_tokens, const void *from,
                                      mlxr_error *err);

/* One step. Token t (id ids[t], at positions[t]) belongs to sequence seqs[t]. The tokens of one sequence are
 * consecutive in the batch and in position, and all positions before them are in the state already. A token sees the
 * positions up to its own, those of this batch included. Rows whose logits are wanted: `rows`, indices of tokens in
 * rising order. Ids and positions are the caller's to check (0 <= id < V, position inside the block table). */
typedef struct mlxr_block_table {
    const uint32_t *blocks;
    size_t n_blocks;
    uint32_t sequence; /* below the state's n_sequences; each sequence of a batch has its own */
} mlxr_block_table;

/* Where a sequence's own state is read and written by a step: version 0 or 1 of the two it has. `fresh`: there is
 * none yet, it is zeros. mlxr_run fills these for the device, one a table. */
typedef struct mlxr_sequence_step {
    bool fresh;
    unsigned from, to;
} mlxr_sequence_step;

typedef struct mlxr_batch {
    size_t n_tokens;
    const int32_t *ids;
    const uint32_t *positions;
    const uint32_t *seqs; /* index into tables */
    const mlxr_block_table *tables;
    size_t n_seqs;
    const uint32_t *rows;
    size_t n_rows;
    /* [n_rows], or NULL. When there, the caller wants each row's likeliest id alone, of equal ones the lowest, and -1 for
     * a row with a NaN or without a finite logit: so a device may leave the logits where they are. What is in `logits`
     * afterwards is then undefined, but it must be there. */
    int32_t *likeliest;
    /* [n_rows, D], or NULL. When there, it gets each row's final hidden state (program->hidden), no logits are computed,
     * and neither likeliest nor the logits' buffer is looked at. MLXR_E_UNSUPPORTED where the program has none. */
    float *hidden;
    const mlxr_sequence_step *steps; /* [n_seqs]; mlxr_run's business */
} mlxr_batch;

/* logits: [n_rows, V], the caller's. A row's bits depend on its own sequence alone: not on the rest of the batch,
 * on how the prompt was cut into steps, or on the number of threads (ref and cpu).
 * *cancel (may be NULL; see mlxr_cancelled) is looked at between operations: non-zero ends the step with MLXR_E_CANCELLED, and the
 * positions of this batch are then undefined in the state. */
mlxr_status mlxr_run(mlxr_executable *e, mlxr_state *s, const mlxr_batch *batch, const volatile int *cancel,
                     float *logits, mlxr_error *err);

/* Where the time of all runs went, by what a step does, layers together, in the order of the program. Bytes and
 * operations are the least the step needs (model/cost.h). n_rows 0: the device was not opened with `profile`, or keeps
 * none. Borrowed until the next run or the executable's end; reset sets all to 0. */
typedef struct mlxr_profile_row {
    char name[64]; /* "LINEAR gate_proj,up_proj" */
    uint64_t n_calls, ns;
    double bytes, flops;
} mlxr_profile_row;
const mlxr_profile_row *mlxr_executable_profile(const mlxr_executable *e, size_t *n_rows);
void mlxr_executable_profile_reset(mlxr_executable *e);

/* ---- what a device implements ---- */
typedef struct mlxr_device_ops {
    const char *name;
    mlxr_status (*open)(mlxr_device **out, const mlxr_device_options *options, mlxr_error *err);
    void (*close)(mlxr_device *d);
    mlxr_status (*compile)(mlxr_executable **out, mlxr_device *d, const mlxr_program *program,
                           mlxr_error *err);
    void (*executable_free)(mlxr_executable *e);
    size_t (*block_bytes)(const mlxr_executable *e);
    mlxr_status (*state_create)(mlxr_state **out, mlxr_executable *e, size_t n_blocks, size_t n_sequences,
                                mlxr_error *err);
    void (*state_free)(mlxr_state *s);
    mlxr_status (*run)(mlxr_executable *e, mlxr_state *s, const mlxr_batch *batch, const volatile int *cancel,
                       float *logits, mlxr_error *err);
    mlxr_profile_row *(*profile)(mlxr_executable *e, size_t *n_rows); /* NULL: keeps none */
    bool fills_likeliest; /* else mlxr_run finds them among the logits */
    /* NULL: its sequences share no blocks. All three or none. version: 0 or 1 */
    void (*copy_block)(mlxr_state *s, uint32_t to, uint32_t from);
    void (*read_sequence)(void *to, const mlxr_state *s, uint32_t sequence, unsigned version);
    void (*write_sequence)(mlxr_state *s, uint32_t sequence, unsigned version, const void *from);
} mlxr_device_ops;

/* A device's own structs begin with these. */
struct mlxr_device {
    const mlxr_device_ops *ops;
    const char *isa;      /* NULL: none to choose */
    mlxr_kv_type kv_type; /* DEFAULT: its own */
    size_t n_threads;
    char description[160];
    size_t preferred_tokens_per_step; /* of a prompt; 0: no wish */
};
struct mlxr_executable {
    mlxr_device *device;
    const mlxr_program *program;
};
struct mlxr_state {
    mlxr_executable *executable;
    size_t n_blocks, n_sequences;
    struct mlxr_sequence_versions *versions; /* [n_sequences]; device.c's */
    mlxr_sequence_step *steps;               /* [n_sequences]; device.c's */
};

/* The first matrix of a stack that is stored otherwise than matrix 0: another shape or quantization. n_experts when
 * all are alike. */
static inline size_t mlxr_stack_unlike(const mlxr_weight *w)
{
    size_t i = 0;
    for (; i < w->n_experts; i++) {
        const mlxr_matrix *m = &w->experts[i], *first = &w->experts[0];
        if (m->quant.mode != first->quant.mode || m->quant.bits != first->quant.bits ||
            m->quant.group_size != first->quant.group_size || m->dtype != first->dtype ||
            m->n_rows != first->n_rows || m->n_cols != first->n_cols || m->row_bytes != first->row_bytes)
            break;
    }
    return i;
}

extern const mlxr_device_ops mlxr_device_ref, mlxr_device_cpu, mlxr_device_mlx;

#endif
