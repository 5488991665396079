/* Any bytes as a safetensors file: refused, or every tensor's bytes are there to read. */
#include <stdlib.h>

#include "format/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mlxr_checkpoint *c = NULL;
    mlxr_error err;
    uint64_t total = 0;
    volatile uint8_t sink = 0;

    if (mlxr_checkpoint_open_bytes(&c, data, size, "input", &err) != MLXR_OK) {
        if (c || err.message[0] == '\0') abort();
        return 0;
    }
    for (size_t i = 0; i < mlxr_checkpoint_count(c); i++) {
        const mlxr_tensor *t = mlxr_checkpoint_get(c, i);
        const uint8_t *p = t->data;
        if (mlxr_checkpoint_find(c, t->name) != t) abort();
        for (size_t k = 0; k < t->n_bytes; k++) sink = (uint8_t)(sink + p[k]);
        total += t->n_bytes;
    }
    if (total > size) abort();
    mlxr_checkpoint_close(c);
    return 0;
}
