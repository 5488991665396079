/* A model folder from hostile bytes: config.json, a zero byte, then one safetensors file. What opens is listed,
 * compiled for ref and run for two tokens. tests/fuzz/make_config_corpus.py made the corpus. */
#include <stdlib.h>

#include "device/device.h"
#include "model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Weights lie in the input, so whatever a program computes with is no larger than that. */
static void run(const mlxr_program *p)
{
    static const uint32_t blocks[] = {0}, positions[] = {0, 1}, seqs[] = {0, 0}, rows[] = {1};
    static const int32_t ids[] = {0, 0};
    static const mlxr_block_table table = {.blocks = blocks, .n_blocks = 1};
    const mlxr_batch batch = {2, ids, positions, seqs, &table, 1, rows, 1};
    mlxr_device *device = NULL;
    mlxr_executable *executable = NULL;
    mlxr_state *state = NULL;
    float *logits = mlxr_calloc_array(p->vocab_size, sizeof *logits);

    if (logits && mlxr_device_open(&device, "ref", NULL, NULL) == MLXR_OK &&
        mlxr_device_compile(&executable, device, p, NULL) == MLXR_OK &&
        mlxr_state_create(&state, executable, 1, 4, NULL) == MLXR_OK &&
        mlxr_run(executable, state, &batch, NULL, logits, NULL) != MLXR_OK)
        abort();
    mlxr_state_free(state);
    mlxr_executable_free(executable);
    mlxr_device_close(device);
    free(logits);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t n_config = zero ? (size_t)(zero - data) : size, at = zero ? n_config + 1 : size;
    mlxr_checkpoint *checkpoint = NULL;
    mlxr_model *model = NULL;
    json_t *config = NULL;
    mlxr_buf text = {0};
    mlxr_error err = {0};

    if (mlxr_json_parse(&config, (const char *)data, n_config, "config.json", &err) == MLXR_OK &&
        mlxr_checkpoint_open_bytes(&checkpoint, data + at, size - at, "model.safetensors", &err) == MLXR_OK &&
        mlxr_model_open_parts(&model, config, checkpoint, "config.json", &err) == MLXR_OK) {
        mlxr_program_print(mlxr_model_program(model), &text);
        run(mlxr_model_program(model));
        mlxr_buf_clear(&text);
        mlxr_model_close(model);
        return 0;
    }
    if (err.code == MLXR_OK || !*err.message) abort(); /* every failure says what it is */
    mlxr_checkpoint_close(checkpoint);
    json_decref(config);
    return 0;
}
