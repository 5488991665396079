/* Any bytes as a GGUF file: refused, or all that is in it can be read, and an import finds its way through it
 * up to the writing. */
#include <stdlib.h>

#include "format/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mlxr_gguf *g = NULL;
    mlxr_error err;
    mlxr_gguf_import_options options = mlxr_gguf_import_options_default();
    mlxr_buf tokenizer = {0}, config = {0};
    mlxr_gguf_vocab vocab;
    volatile double sink = 0;

    if (mlxr_gguf_open_bytes(&g, data, size, "input", &err) != MLXR_OK) {
        if (g || err.message[0] == '\0') abort();
        return 0;
    }
    for (size_t i = 0; i < mlxr_gguf_pair_count(g); i++) {
        const mlxr_gguf_value *v;
        (void)mlxr_gguf_pair_get(g, i, &v);
        if (v->kind != MLXR_GGUF_ARRAY || v->item_kind == MLXR_GGUF_ARRAY) continue;
        if (v->item_kind == MLXR_GGUF_STRING) {
            const uint8_t *at = v->data;
            for (uint64_t k = 0; k < v->n_items; k++) sink = sink + (double)mlxr_gguf_next_str(&at).n;
        } else {
            for (uint64_t k = 0; k < v->n_items; k++) sink = sink + mlxr_gguf_item_real(v, k);
        }
    }
    for (size_t i = 0; i < mlxr_gguf_tensor_count(g); i++) {
        const mlxr_gguf_tensor *t = mlxr_gguf_tensor_get(g, i);
        const uint8_t *p = t->data;
        for (size_t k = 0; k < t->n_bytes; k += t->info->block_bytes) {
            float out[256];
            if (t->info->dequantize) t->info->dequantize(p + k, out);
            sink = sink + p[k] + p[k + t->info->block_bytes - 1];
        }
    }
    (void)mlxr_gguf_tokenizer(&tokenizer, &config, &vocab, g, 1, NULL, &err);
    mlxr_buf_clear(&tokenizer);
    mlxr_buf_clear(&config);
    (void)mlxr_gguf_import_check(g, &options, &err);
    options.requantize = true;
    (void)mlxr_gguf_import_check(g, &options, &err);
    mlxr_gguf_close(g);
    return 0;
}
