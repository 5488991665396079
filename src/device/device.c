/* The devices there are, and the calls that pass to the one at hand. Whatever a caller could get wrong about a
 * batch is checked here once, so that no device has to. */
#include <stdio.h>

#include "device/device.h"

static const mlxr_device_ops *const devices[] = {
    &mlxr_device_cpu,
    &mlxr_device_ref,
};

mlxr_status mlxr_device_open(mlxr_device **out, const char *name, const mlxr_device_options *options,
                             mlxr_error *err)
{
    static const mlxr_device_options none = {0};
    char known[256] = "";

    *out = NULL;
    for (size_t i = 0; i < MLXR_COUNT(devices); i++)
        if (strcmp(name, devices[i]->name) == 0) return devices[i]->open(out, options ? options : &none, err);
    for (size_t i = 0; i < MLXR_COUNT(devices); i++) {
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", devices[i]->name);
    }
    return mlxr_fail(err, MLXR_E_DEVICE, "device \"%.64s\" is not known; there is: %s", name, known);
}

void mlxr_device_close(mlxr_device *d)
{
    if (d) d->ops->close(d);
}

const char *mlxr_device_description(const mlxr_device *d)
{
    return d->description;
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

size_t mlxr_executable_block_bytes(const mlxr_executable *e)
{
    return e->device->ops->block_bytes(e);
}

mlxr_status mlxr_state_create(mlxr_state **out, mlxr_executable *e, size_t n_blocks, mlxr_error *err)
{
    *out = NULL;
    return e->device->ops->state_create(out, e, n_blocks, err);
}

void mlxr_state_free(mlxr_state *s)
{
    if (s) s->executable->device->ops->state_free(s);
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
    for (size_t i = 0; i < batch->n_seqs; i++)
        for (size_t j = 0; j < batch->tables[i].n_blocks; j++)
            if (batch->tables[i].blocks[j] >= s->n_blocks)
                return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                                 "device: sequence %zu has block %u, the state has %zu", i,
                                 (unsigned)batch->tables[i].blocks[j], s->n_blocks);
    for (size_t i = 0; i < batch->n_rows; i++)
        if (batch->rows[i] >= batch->n_tokens || (i > 0 && batch->rows[i] <= batch->rows[i - 1]))
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                             "device: wanted row %zu is token %u, wanted rising indices below %zu", i,
                             (unsigned)batch->rows[i], batch->n_tokens);
    return MLXR_OK;
}

mlxr_status mlxr_run(mlxr_executable *e, mlxr_state *s, const mlxr_batch *batch, const volatile int *cancel,
                     float *logits, mlxr_error *err)
{
    mlxr_status st = check_batch(e, s, batch, err);

    if (st != MLXR_OK || batch->n_tokens == 0) return st;
    return e->device->ops->run(e, s, batch, cancel, logits, err);
}
