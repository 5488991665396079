#include "engine/fake_device.h"

#include <math.h>

#include "test.h"

struct fake_state {
    mlxr_state base;
    int32_t *ids;  /* [n_blocks][MLXR_KV_BLOCK] */
    uint64_t *own; /* [n_sequences][2] */
};

static mlxr_status fake_compile(mlxr_executable **out, mlxr_device *d, const mlxr_program *program,
                                mlxr_error *err)
{
    mlxr_executable *e = calloc(1, sizeof *e);

    *out = e;
    if (!e) return mlxr_fail_nomem(err, "fake");
    e->device = d;
    e->program = program;
    return MLXR_OK;
}

static void fake_executable_free(mlxr_executable *e)
{
    free(e);
}

static size_t fake_block_bytes(const mlxr_executable *e)
{
    (void)e;
    return MLXR_KV_BLOCK * sizeof(int32_t);
}

static void fake_state_free(mlxr_state *base)
{
    struct fake_state *s = (struct fake_state *)base;

    if (!s) return;
    free(s->ids);
    free(s->own);
    free(s);
}

static mlxr_status fake_state_create(mlxr_state **out, mlxr_executable *e, size_t n_blocks,
                                     size_t n_sequences, mlxr_error *err)
{
    struct fake_state *s = calloc(1, sizeof *s);

    (void)e;
    *out = NULL;
    if (s) s->ids = mlxr_malloc_array(n_blocks * MLXR_KV_BLOCK, sizeof *s->ids);
    if (s) s->own = mlxr_malloc_array(n_sequences * 2, sizeof *s->own);
    if (!s || !s->ids || !s->own) {
        fake_state_free(s ? &s->base : NULL);
        return mlxr_fail_nomem(err, "fake");
    }
    for (size_t i = 0; i < n_blocks * MLXR_KV_BLOCK; i++) s->ids[i] = -1;
    *out = &s->base;
    return MLXR_OK;
}

static int32_t *cell(struct fake_state *s, const mlxr_block_table *t, uint32_t position)
{
    assert_true(position / MLXR_KV_BLOCK < t->n_blocks);
    return &s->ids[t->blocks[position / MLXR_KV_BLOCK] * MLXR_KV_BLOCK + position % MLXR_KV_BLOCK];
}

static uint64_t hash_step(uint64_t h, int32_t id)
{
    return (h ^ (uint64_t)id) * 0x9e3779b97f4a7c15u + (h >> 29);
}

static uint64_t own_step(uint64_t h, int32_t id)
{
    return (h + (uint64_t)id + 1) * 0xd1342543de82ef95u + (h >> 31);
}

static void hash_row(float *row, size_t n, uint64_t h)
{
    for (size_t i = 0; i < n; i++) row[i] = (float)(hash_step(h, (int32_t)i) >> 44) / 131072.0f;
}

static mlxr_status fake_run(mlxr_executable *e, mlxr_state *base, const mlxr_batch *b,
                            const volatile int *cancel, float *logits, mlxr_error *err)
{
    fake_device *d = (fake_device *)e->device;
    struct fake_state *s = (struct fake_state *)base;
    size_t i_row = 0;

    d->n_runs++;
    d->n_tokens += b->n_tokens;
    if (b->n_tokens > d->max_tokens) d->max_tokens = b->n_tokens;
    if (b->n_rows > d->max_rows) d->max_rows = b->n_rows;
    for (size_t t = 0; t < b->n_tokens; t++) {
        const mlxr_block_table *table = &b->tables[b->seqs[t]];
        const mlxr_sequence_step *step = &b->steps[b->seqs[t]];
        uint64_t *own = s->own + table->sequence * (size_t)2, h = 1;
        bool first = t == 0 || b->seqs[t] != b->seqs[t - 1];

        *cell(s, table, b->positions[t]) = b->ids[t];
        if (first) own[step->to] = step->fresh ? 0 : own[step->from];
        own[step->to] = own_step(own[step->to], b->ids[t]);
        if (t == b->n_tokens / 2 && d->cancel_runs > 0) {
            d->cancel_runs--;
            d->cancel = 1;
        }
        if (mlxr_cancelled(cancel)) return mlxr_fail(err, MLXR_E_CANCELLED, "fake: cancelled");
        if (i_row == b->n_rows || b->rows[i_row] != t) continue;
        for (uint32_t p = 0; p <= b->positions[t]; p++) h = hash_step(h, *cell(s, table, p));
        if (e->program->n_sequence_floats > 0) h ^= own[step->to];
        if (b->hidden)
            hash_row(b->hidden + i_row * FAKE_HIDDEN, FAKE_HIDDEN, h);
        else
            hash_row(logits + i_row * FAKE_VOCAB, FAKE_VOCAB, h);
        i_row++;
        if (d->nan_runs > 0 && i_row == b->n_rows) {
            logits[(i_row - 1) * FAKE_VOCAB + FAKE_VOCAB / 2] = NAN;
            d->nan_runs--;
        }
    }
    assert_int_equal(i_row, b->n_rows);
    if (d->fail_runs > 0) {
        d->fail_runs--;
        return mlxr_fail(err, MLXR_E_DEVICE, "fake: failed");
    }
    return MLXR_OK;
}

static void fake_copy_block(mlxr_state *base, uint32_t to, uint32_t from)
{
    struct fake_state *s = (struct fake_state *)base;
    memcpy(s->ids + to * MLXR_KV_BLOCK, s->ids + from * MLXR_KV_BLOCK, MLXR_KV_BLOCK * sizeof *s->ids);
}

static void fake_read_sequence(void *to, const mlxr_state *base, uint32_t sequence, unsigned version)
{
    memcpy(to, ((const struct fake_state *)base)->own + sequence * (size_t)2 + version, sizeof(uint64_t));
}

static void fake_write_sequence(mlxr_state *base, uint32_t sequence, unsigned version, const void *from)
{
    memcpy(((struct fake_state *)base)->own + sequence * (size_t)2 + version, from, sizeof(uint64_t));
}

static const mlxr_device_ops alone_ops = {.name = "fake",
                                          .compile = fake_compile,
                                          .executable_free = fake_executable_free,
                                          .block_bytes = fake_block_bytes,
                                          .state_create = fake_state_create,
                                          .state_free = fake_state_free,
                                          .run = fake_run},
                             sharing_ops = {.name = "fake",
                                            .compile = fake_compile,
                                            .executable_free = fake_executable_free,
                                            .block_bytes = fake_block_bytes,
                                            .state_create = fake_state_create,
                                            .state_free = fake_state_free,
                                            .run = fake_run,
                                            .copy_block = fake_copy_block,
                                            .read_sequence = fake_read_sequence,
                                            .write_sequence = fake_write_sequence};

void fake_init(fake_device *d, bool recurrent, bool shares_blocks)
{
    *d = (fake_device){.base.ops = shares_blocks ? &sharing_ops : &alone_ops,
                       .program = {.family = "fake",
                                   .hidden_size = FAKE_HIDDEN,
                                   .vocab_size = FAKE_VOCAB,
                                   .context_length = FAKE_CONTEXT,
                                   .n_sequence_floats = recurrent ? sizeof(uint64_t) / sizeof(float) : 0}};
}

static uint64_t hash_of(const int32_t *ids, size_t n, bool recurrent)
{
    uint64_t h = 1, own = 0;

    for (size_t i = 0; i < n; i++) {
        h = hash_step(h, ids[i]);
        own = own_step(own, ids[i]);
    }
    return recurrent ? h ^ own : h;
}

void fake_logits(float row[FAKE_VOCAB], const int32_t *ids, size_t n, bool recurrent)
{
    hash_row(row, FAKE_VOCAB, hash_of(ids, n, recurrent));
}

void fake_hidden(float row[FAKE_HIDDEN], const int32_t *ids, size_t n, bool recurrent)
{
    hash_row(row, FAKE_HIDDEN, hash_of(ids, n, recurrent));
}

void fake_answer(int32_t *out, double *logprobs, const int32_t *ids, size_t n, size_t n_new, bool recurrent,
                 const mlxr_sampling *sampling, uint64_t seed)
{
    mlxr_sampler_state state = mlxr_sampler_state_init(sampling);
    int32_t *all = malloc((n + n_new) * sizeof *all);
    mlxr_sampler *s;
    mlxr_error err;

    assert_non_null(all);
    assert_ok(mlxr_sampler_create(&s, FAKE_VOCAB, &err), &err);
    memcpy(all, ids, n * sizeof *all);
    for (size_t i = 0; i < n_new; i++) {
        float row[FAKE_VOCAB];
        mlxr_draw draw = {
            .logits = row, .history = all, .n_history = n + i, .seed = seed, .i_token = i, .state = state};
        mlxr_sampled drawn;
        size_t none = 0;
        fake_logits(row, all, n + i, recurrent);
        assert_ok(mlxr_sampler_sample(&drawn, s, sampling, &draw, &err), &err);
        if (logprobs)
            assert_ok(mlxr_sampler_logprobs(&logprobs[i], NULL, &none, s, row, drawn.id, &err), &err);
        all[n + i] = out[i] = drawn.id;
        state = drawn.state;
    }
    mlxr_sampler_free(s);
    free(all);
}
