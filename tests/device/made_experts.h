/* Programs with ROUTE and EXPERTS for tests, and steps of them on a device. Their values are made from what they are
 * of, so that a row is the same wherever it lies. Everything here ends the test when it fails. */
#ifndef MLXR_MADE_EXPERTS_H
#define MLXR_MADE_EXPERTS_H

#include "device/device.h"

/* How matrices are stored: dense in dtype, or quantized with scales of it. */
typedef struct storage {
    mlxr_quant_mode mode;
    unsigned bits, group_size;
    mlxr_dtype dtype;
} storage;

typedef struct spec {
    size_t E, k, D, F, n_ids; /* n_ids: tokens that differ, the logits' width */
    storage stored;
    mlxr_gate_up gate_up;
    mlxr_act act;
    mlxr_router router;
    bool normalize, biases, expert_weights;
    float scale;
    /* Width of another EXPERTS, with a ROUTE of its own, whose result this one reads; gate and up in halves. 0: none */
    size_t first_F;
    bool attends; /* an ATTEND behind, which needs every token's result */
} spec;

/* f32, SILU, weights that are divided by their sum, no biases. */
spec plain(size_t E, size_t k, size_t D, size_t F);

enum { ALPHA_TENTHS = 17, LIMIT = 1 }; /* of SWIGLU_OAI; inputs are about 1, so that the limit counts */

/* What values are of. */
enum {
    OF_X = 1,
    OF_SCORES,
    OF_EXPERT_WEIGHTS,
    OF_GATE,
    OF_UP,
    OF_DOWN,
    OF_FIRST_SCORES,
    OF_FIRST_GATE,
    OF_FIRST_DOWN,
    OF_BIAS = 16
};
/* In [-1, 1). */
float unit(uint64_t what, uint64_t a, uint64_t b, uint64_t c);
float bias_of(uint64_t what, size_t e, size_t i);

/* x and scores of a token's id, ROUTE, EXPERTS, whose result, or an ATTEND over it, are the logits.
 * given_route: the list is a token's own, no ROUTE. */
mlxr_program *experts_program(const spec *s, bool given_route);
/* ROUTE alone; its list is the logits. */
mlxr_program *route_program(const spec *s);
/* NULL when there is none. */
mlxr_weight *weight_named(mlxr_program *p, const char *name);
/* Of a dense float32 weight. */
float *floats_of(mlxr_program *p, const char *name);
/* Values of `what` in [-size, size) for a dense weight that the program has, or nothing. */
void bind_dense(mlxr_program *p, const char *name, uint64_t what, float size);
/* Where row i of gate or up lies in its stack. */
size_t laid_row(const spec *s, bool up, size_t i);

/* ---- running ---- */

/* On which device; isa: NULL where there is no choice. */
typedef struct how {
    const char *device, *isa;
    bool fast;
} how;

enum { MOST_TOKENS = 1100, N_BLOCKS = MOST_TOKENS / MLXR_KV_BLOCK + 1 };

typedef struct session {
    mlxr_device *device;
    mlxr_executable *executable;
    mlxr_state *state;
} session;

session open_session(how h, size_t n_threads, const mlxr_program *p);
void close_session(session *s);
/* Tokens [from, to), their ids their positions modulo n_ids; the rows of those at a multiple of `every`. */
size_t step(session *s, const spec *sp, size_t from, size_t to, size_t every, float *logits);
/* NaN; the caller's. */
float *new_floats(size_t n);
/* All n tokens at once; [n, width of the logits], the caller's. */
float *run_on(how h, size_t n_threads, const mlxr_program *p, const spec *sp, size_t n);

#endif
