/* The devices there are, and the calls that pass to the one at hand. Whatever a caller could get wrong about a
 * batch is checked here once, so that no device has to. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "device/device.h"

static const struct known_device {
    const mlxr_device_ops *ops;
    bool has_variants; /* "mlx:cpu" */
} devices[] = {
    {&mlxr_device_cpu, false},
    {&mlxr_device_ref, false},
    {&mlxr_device_mlx, true},
};

mlxr_status mlxr_device_open(mlxr_device **out, const char *name, const mlxr_device_options *options,
                             mlxr_error *err)
{
    mlxr_device_options with_variant = options ? *options : (mlxr_device_options){0};
    size_t n_name = strcspn(name, ":");
    char known[256] = "";

    *out = NULL;
    with_variant.variant = name[n_name] ? name + n_name + 1 : "";
    for (size_t i = 0; i < MLXR_COUNT(devices); i++) {
        const mlxr_device_ops *ops = devices[i].ops;
        if (strlen(ops->name) == n_name && memcmp(name, ops->name, n_name) == 0 &&
            (name[n_name] == '\0' || devices[i].has_variants))
            return ops->open(out, &with_variant, err);
    }
    for (size_t i = 0; i < MLXR_COUNT(devices); i++) {
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", devices[i].ops->name);
    }
    return mlxr_fail(err, MLXR_E_DEVICE, "device \"%.64s\" is not known; there is: %s, mlx:gpu, mlx:cpu",
                     name, known);
}

size_t mlxr_device_preferred_tokens(const mlxr_device *d)
{
    return d->preferred_tokens_per_step;
}

void mlxr_device_close(mlxr_device *d)
{
    if (d) d->ops->close(d);
}

const char *mlxr_device_description(const mlxr_device *d)
{
    return d->description;
}

const char *mlxr_device_kv(const mlxr_device *d)
{
    static const char *const names[] = {"", "f32", "f16", "int8"};
    return names[d->kv_type];
}

const char *mlxr_device_isa(const mlxr_device *d)
{
    return d->isa ? d->isa : "";
}

size_t mlxr_device_n_threads(const mlxr_device *d)
{
    return d->n_threads;
}

mlxr_status mlxr_device_compile(mlxr_executable **out, mlxr_device *d, const mlxr_program *program,
                                mlxr_error *err)
{
    *out = NULL;
    for (size_t i = 0; i < program->n_weights; i++)
        if (!program->weights[i].bound)
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "device %s: weight %s%s is not bound",
                             d->ops->name, program->weights[i].name, program->weights[i].suffix);
    return d->ops->compile(out, d, program, err);
}

void mlxr_executable_free(mlxr_executable *e)
{
    if (e) e->device->ops->executable_free(e);
}

const mlxr_profile_row *mlxr_executable_profile(const mlxr_executable *e, size_t *n_rows)
{
    *n_rows = 0;
    return e->device->ops->profile ? e->device->ops->profile((mlxr_executable *)(uintptr_t)e, n_rows) : NULL;
}

void mlxr_executable_profile_reset(mlxr_executable *e)
{
    size_t n = 0;
    mlxr_profile_row *rows = e->device->ops->profile ? e->device->ops->profile(e, &n) : NULL;

    for (size_t i = 0; i < n; i++) {
        rows[i].n_calls = rows[i].ns = 0;
        rows[i].bytes = rows[i].flops = 0;
    }
}

size_t mlxr_executable_block_bytes(const mlxr_executable *e)
{
    return e->device->ops->block_bytes(e);
}

size_t mlxr_executable_sequence_bytes(const mlxr_executable *e)
{
    return 2 * e->program->n_sequence_floats * sizeof(float);
}

/* ---- sequences: two versions of a state each, so that a step reads one and writes the other ---- */

/* After how many tokens each version is; 0: it holds nothing. */
struct mlxr_sequence_versions {
    size_t n_tokens[2];
};

mlxr_status mlxr_state_create(mlxr_state **out, mlxr_executable *e, size_t n_blocks, size_t n_sequences,
                              mlxr_error *err)
{
    struct mlxr_sequence_versions *versions = mlxr_calloc_array(n_sequences, sizeof *versions);
    mlxr_sequence_step *steps = mlxr_calloc_array(n_sequences, sizeof *steps);
    mlxr_status st;

    *out = NULL;
    st = versions && steps ? e->device->ops->state_create(out, e, n_blocks, n_sequences, err)
                           : mlxr_fail_nomem(err, "device: state");
    if (st != MLXR_OK) {
        free(versions);
        free(steps);
        return st;
    }
    (*out)->executable = e;
    (*out)->n_blocks = n_blocks;
    (*out)->n_sequences = n_sequences;
    (*out)->versions = versions;
    (*out)->steps = steps;
    return MLXR_OK;
}

void mlxr_state_free(mlxr_state *s)
{
    struct mlxr_sequence_versions *versions;
    mlxr_sequence_step *steps;

    if (!s) return;
    versions = s->versions;
    steps = s->steps;
    s->executable->device->ops->state_free(s);
    free(versions);
    free(steps);
}

/* ---- what prefix caches and forks need ---- */

bool mlxr_executable_shares_blocks(const mlxr_executable *e)
{
    return e->device->ops->copy_block != NULL;
}

static mlxr_status shares_no_blocks(const mlxr_executable *e, mlxr_error *err)
{
    return mlxr_fail(err, MLXR_E_UNSUPPORTED, "device %s: its sequences share no blocks",
                     e->device->ops->name);
}

mlxr_status mlxr_state_copy_block(mlxr_state *s, uint32_t to, uint32_t from, mlxr_error *err)
{
    const mlxr_executable *e = s->executable;

    if (!e->device->ops->copy_block) return shares_no_blocks(e, err);
    if (to >= s->n_blocks || from >= s->n_blocks)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "device: block %u to %u, the state has %zu",
                         (unsigned)from, (unsigned)to, s->n_blocks);
    if (to != from) e->device->ops->copy_block(s, to, from);
    return MLXR_OK;
}

size_t mlxr_executable_snapshot_bytes(const mlxr_executable *e)
{
    return e->program->n_sequence_floats * sizeof(float);
}

mlxr_status mlxr_state_read_sequence(void *to, const mlxr_state *s, uint32_t sequence, size_t n_tokens,
                                     mlxr_error *err)
{
    const mlxr_executable *e = s->executable;
    const struct mlxr_sequence_versions *v;

    if (!e->device->ops->read_sequence) return shares_no_blocks(e, err);
    if (sequence >= s->n_sequences)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "device: sequence %u, the state has %zu",
                         (unsigned)sequence, s->n_sequences);
    if (mlxr_executable_snapshot_bytes(e) == 0) return MLXR_OK;
    v = &s->versions[sequence];
    if (n_tokens == 0 || (v->n_tokens[0] != n_tokens && v->n_tokens[1] != n_tokens))
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "device: the state of sequence %u after %zu tokens is wanted, it has those after "
                         "%zu and %zu",
                         (unsigned)sequence, n_tokens, v->n_tokens[0], v->n_tokens[1]);
    e->device->ops->read_sequence(to, s, sequence, v->n_tokens[1] == n_tokens);
    return MLXR_OK;
}

mlxr_status mlxr_state_write_sequence(mlxr_state *s, uint32_t sequence, size_t n_tokens, const void *from,
                                      mlxr_error *err)
{
    const mlxr_executable *e = s->executable;

    if (!e->device->ops->write_sequence) return shares_no_blocks(e, err);
    if (sequence >= s->n_sequences || n_tokens == 0)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "device: sequence %u after %zu tokens, the state has %zu sequences",
                         (unsigned)sequence, n_tokens, s->n_sequences);
    if (mlxr_executable_snapshot_bytes(e) > 0) e->device->ops->write_sequence(s, sequence, 0, from);
    s->versions[sequence] = (struct mlxr_sequence_versions){{n_tokens, 0}};
    return MLXR_OK;
}

enum { NOT_BEGUN = 2 }; /* mlxr_sequence_step.to before the batch's first token of it */

/* Chooses the versions of the sequence whose first token of this batch is at `position`. */
static mlxr_status begin_sequence(const mlxr_executable *e, mlxr_state *s, size_t i,
                                  const mlxr_block_table *table, size_t position, mlxr_error *err)
{
    struct mlxr_sequence_versions *v = &s->versions[table->sequence];
    mlxr_sequence_step *step = &s->steps[i];

    if (step->to != NOT_BEGUN)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "device: the tokens of sequence %u are in two places",
                         (unsigned)table->sequence);
    *step = (mlxr_sequence_step){.fresh = position == 0, .from = v->n_tokens[1] == position};
    if (position > 0 && v->n_tokens[step->from] != position && e->program->n_sequence_floats > 0)
        return mlxr_fail(
            err, MLXR_E_INVALID_ARGUMENT,
            "device: sequence %u begins at position %zu, but its states are those after %zu and %zu "
            "tokens",
            (unsigned)table->sequence, position, v->n_tokens[0], v->n_tokens[1]);
    step->to = !step->from;
    v->n_tokens[step->to] = 0;
    if (step->fresh) v->n_tokens[step->from] = 0; /* another sequence's, which had the number before */
    return MLXR_OK;
}

static mlxr_status check_batch(const mlxr_executable *e, const mlxr_state *s, const mlxr_batch *batch,
                               mlxr_error *err)
{
    for (size_t t = 0; t < batch->n_tokens; t++) {
        uint32_t seq = batch->seqs[t], position = batch->positions[t];
        const mlxr_block_table *table;
        if (batch->ids[t] < 0 || (size_t)batch->ids[t] >= e->program->vocab_size)
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "device: token %zu has id %d, wanted 0 to %zu", t,
                             (int)batch->ids[t], e->program->vocab_size - 1);
        if (seq >= batch->n_seqs)
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "device: token %zu is of sequence %u of %zu", t,
                             (unsigned)seq, batch->n_seqs);
        if (t > 0 && seq == batch->seqs[t - 1] && position != batch->positions[t - 1] + 1)
            return mlxr_fail(
                err, MLXR_E_INVALID_ARGUMENT,
                "device: token %zu is at position %u, wanted %u, the one after the token before it", t,
                (unsigned)position, (unsigned)batch->positions[t - 1] + 1);
        table = &batch->tables[seq];
        if (position / MLXR_KV_BLOCK >= table->n_blocks)
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                             "device: token %zu is at position %u, but its sequence has %zu blocks of %d", t,
                             (unsigned)position, table->n_blocks, MLXR_KV_BLOCK);
    }
    for (size_t i = 0; i < batch->n_seqs; i++) {
        if (batch->tables[i].sequence >= s->n_sequences)
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                             "device: table %zu is sequence %u, the state has %zu", i,
                             (unsigned)batch->tables[i].sequence, s->n_sequences);
        for (size_t j = 0; j < i; j++)
            if (batch->tables[j].sequence == batch->tables[i].sequence)
                return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                                 "device: tables %zu and %zu are both sequence %u", j, i,
                                 (unsigned)batch->tables[i].sequence);
        for (size_t j = 0; j < batch->tables[i].n_blocks; j++)
            if (batch->tables[i].blocks[j] >= s->n_blocks)
                return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                                 "device: sequence %zu has block %u, the state has %zu", i,
                                 (unsigned)batch->tables[i].blocks[j], s->n_blocks);
    }
    for (size_t i = 0; i < batch->n_rows; i++)
        if (batch->rows[i] >= batch->n_tokens || (i > 0 && batch->rows[i] <= batch->rows[i - 1]))
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                             "device: wanted row %zu is token %u, wanted rising indices below %zu", i,
                             (unsigned)batch->rows[i], batch->n_tokens);
    return MLXR_OK;
}

/* Whether token t is the first of its sequence's run in the batch. */
static bool begins_run(const mlxr_batch *b, size_t t)
{
    return t == 0 || b->seqs[t] != b->seqs[t - 1];
}

static int32_t likeliest(const float *row, size_t n)
{
    size_t best = 0;

    for (size_t i = 0; i < n; i++) {
        if (isnan(row[i])) return -1;
        if (row[i] > row[best]) best = i;
    }
    return isfinite(row[best]) ? (int32_t)best : -1;
}

mlxr_status mlxr_run(mlxr_executable *e, mlxr_state *s, const mlxr_batch *caller_batch,
                     const volatile int *cancel, float *logits, mlxr_error *err)
{
    mlxr_batch batch = *caller_batch;
    mlxr_status st = check_batch(e, s, &batch, err);

    if (st != MLXR_OK || batch.n_tokens == 0) return st;
    if (batch.hidden && e->program->hidden == MLXR_NONE)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                         "device: the program does not say where its hidden state is");
    if (batch.hidden) batch.likeliest = NULL;
    for (size_t i = 0; i < batch.n_seqs; i++) s->steps[i].to = NOT_BEGUN;
    for (size_t t = 0; t < batch.n_tokens && st == MLXR_OK; t++)
        if (begins_run(&batch, t))
            st = begin_sequence(e, s, batch.seqs[t], &batch.tables[batch.seqs[t]], batch.positions[t], err);
    batch.steps = s->steps;
    if (st == MLXR_OK) st = e->device->ops->run(e, s, &batch, cancel, logits, err);
    for (size_t t = 0; t < batch.n_tokens && st == MLXR_OK; t++)
        s->versions[batch.tables[batch.seqs[t]].sequence].n_tokens[s->steps[batch.seqs[t]].to] =
            (size_t)batch.positions[t] + 1;
    for (size_t i = 0;
         i < batch.n_rows && st == MLXR_OK && batch.likeliest && !e->device->ops->fills_likeliest; i++)
        batch.likeliest[i] = likeliest(logits + i * e->program->vocab_size, e->program->vocab_size);
    return st;
}
