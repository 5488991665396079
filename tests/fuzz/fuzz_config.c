/* A model folder from hostile bytes: config.json, a zero byte, then one safetensors file. What opens is listed,
 * compiled for ref and run for two steps. tests/fuzz/make_config_corpus.py made the corpus. */
#include <stdlib.h>

#include "device/device.h"
#include "model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a sequence has beside its blocks is not in the input: more of it than this is not worth a run. */
enum { MAX_SEQUENCE_FLOATS = 1 << 18, MAX_REG_FLOATS = 1 << 20 };

static bool is_small(const mlxr_program *p)
{
    size_t n = 0;

    for (size_t i = 0; i < p->n_regs; i++) n += p->regs[i].width;
    return p->n_sequence_floats <= MAX_SEQUENCE_FLOATS && n <= MAX_REG_FLOATS;
}

/* Two sequences: a prompt of three tokens, then one of each, the second's first. Weights lie in the input, so whatever
 * a program computes with is not much larger than that. */
static void run(const mlxr_program *p)
{
    static const uint32_t blocks[] = {0, 1}, first_positions[] = {0, 1, 2}, first_seqs[] = {0, 0, 0};
    static const uint32_t positions[] = {3, 0}, seqs[] = {0, 1}, last[] = {2}, both[] = {0, 1};
    const int32_t ids[] = {0, (int32_t)p->vocab_size - 1, 0};
    static const mlxr_block_table tables[] = {{&blocks[0], 1, 0}, {&blocks[1], 1, 1}};
    const mlxr_batch first = {.n_tokens = 3,
                              .ids = ids,
                              .positions = first_positions,
                              .seqs = first_seqs,
                              .tables = tables,
                              .n_seqs = 1,
                              .rows = last,
                              .n_rows = 1};
    const mlxr_batch second = {.n_tokens = 2,
                               .ids = ids,
                               .positions = positions,
                               .seqs = seqs,
                               .tables = tables,
                               .n_seqs = 2,
                               .rows = both,
                               .n_rows = 2};
    mlxr_device *device = NULL;
    mlxr_executable *executable = NULL;
    mlxr_state *state = NULL;
    float *logits = mlxr_calloc_array(2 * p->vocab_size, sizeof *logits);

    if (logits && mlxr_device_open(&device, "ref", NULL, NULL) == MLXR_OK &&
        mlxr_device_compile(&executable, device, p, NULL) == MLXR_OK &&
        mlxr_state_create(&state, executable, 2, 2, NULL) == MLXR_OK &&
        (mlxr_run(executable, state, &first, NULL, logits, NULL) != MLXR_OK ||
         mlxr_run(executable, state, &second, NULL, logits, NULL) != MLXR_OK))
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
        if (is_small(mlxr_model_program(model))) run(mlxr_model_program(model));
        mlxr_buf_clear(&text);
        mlxr_model_close(model);
        return 0;
    }
    if (err.code == MLXR_OK || !*err.message) abort(); /* every failure says what it is */
    mlxr_checkpoint_close(checkpoint);
    json_decref(config);
    return 0;
}
