/* A device made for tests of the scheduler: it keeps each position's id in the paged state and, when it is to be
 * recurrent, a hash of all ids in a sequence's own state. A row's logits are a hash of all ids the block table leads to, and
 * of that state. A wrong block, position, order, chunk, copy or snapshot changes the answer. */
#ifndef TESTS_ENGINE_FAKE_DEVICE_H
#define TESTS_ENGINE_FAKE_DEVICE_H

#include "engine/scheduler.h"

enum { FAKE_VOCAB = 97, FAKE_CONTEXT = 200, FAKE_HIDDEN = 3 };

typedef struct fake_device {
    mlxr_device base;
    mlxr_program program;
    volatile int cancel;
    int fail_runs, cancel_runs; /* the next so many runs fail, or set the cancel flag half-way */
    int nan_runs;               /* the next so many give a last row with a NaN */
    size_t n_runs, max_tokens, n_tokens, max_rows;
} fake_device;

void fake_init(fake_device *d, bool recurrent, bool shares_blocks);

/* What the answer to ids must be: `out` gets n_new tokens, logprobs (may be NULL) those of the tokens. */
void fake_answer(int32_t *out, double *logprobs, const int32_t *ids, size_t n, size_t n_new, bool recurrent,
                 const mlxr_sampling *sampling, uint64_t seed);
/* The logits after ids. */
void fake_logits(float row[FAKE_VOCAB], const int32_t *ids, size_t n, bool recurrent);
/* The hidden state after ids. */
void fake_hidden(float row[FAKE_HIDDEN], const int32_t *ids, size_t n, bool recurrent);

#endif
