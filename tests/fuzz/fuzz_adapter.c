/* An adapter from hostile bytes for a tiny model with a tied table and one layer: a byte whose lowest bit says whether the names are PEFT's,
 * adapter_config.json, a zero byte, then the safetensors file. What fits is merged row by row, to plain values and quantized. */
#include <stdlib.h>

#include "convert/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char config_text[] =
    "{\"model_type\": \"qwen3_moe\", \"hidden_size\": 32, \"num_hidden_layers\": 1, \"vocab_size\": 40, "
    "\"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"head_dim\": 8, \"intermediate_size\": 32, "
    "\"rms_norm_eps\": 1e-5, \"tie_word_embeddings\": true, \"num_experts\": 2, \"num_experts_per_tok\": 1, "
    "\"moe_intermediate_size\": 32}";

static mlxr_model *model;
static mlxr_buf weights;

/* Half-precision zeros for every weight that the config asks for. */
static void make_weights(const mlxr_program *p)
{
    mlxr_buf header = {0};
    uint64_t n = 0, n_header;
    char *zeros;

    for (size_t i = 0; i < p->n_weights; i++) {
        const mlxr_weight *w = &p->weights[i];
        const size_t n_experts = w->n_experts ? w->n_experts : 1,
                     n_bytes = 2 * n_experts * w->n_rows * w->n_cols;
        mlxr_buf_printf(&header, "%s\"%s%s\":{\"dtype\":\"F16\",\"shape\":[", i ? "," : "{", w->name,
                        w->suffix);
        if (w->n_experts) mlxr_buf_printf(&header, "%zu,", w->n_experts);
        if (!w->is_vector) mlxr_buf_printf(&header, "%zu,", w->n_rows);
        mlxr_buf_printf(&header, "%zu],\"data_offsets\":[%llu,%llu]}", w->n_cols, (unsigned long long)n,
                        (unsigned long long)(n + n_bytes));
        n += n_bytes;
    }
    mlxr_buf_char(&header, '}');
    n_header = header.len;
    mlxr_buf_append(&weights, &n_header, sizeof n_header);
    mlxr_buf_append(&weights, header.data, header.len);
    zeros = calloc(1, n);
    mlxr_buf_append(&weights, zeros, n);
    free(zeros);
    mlxr_buf_clear(&header);
}

static void clean_up(void)
{
    mlxr_model_close(model);
    mlxr_buf_clear(&weights);
}

static void set_up(void)
{
    mlxr_config config = {.what = "config.json"};
    const mlxr_family *family;
    mlxr_program *program = NULL;
    mlxr_checkpoint *checkpoint = NULL;
    mlxr_error err;

    if (mlxr_json_parse(&config.root, config_text, strlen(config_text), "config.json", &err) != MLXR_OK ||
        mlxr_family_find(&family, &config, &err) != MLXR_OK ||
        family->build(&program, &config, &err) != MLXR_OK)
        abort();
    make_weights(program);
    mlxr_program_free(program);
    if (mlxr_checkpoint_open_bytes(&checkpoint, weights.data, weights.len, "model", &err) != MLXR_OK ||
        mlxr_model_open_parts(&model, config.root, checkpoint, "config.json", &err) != MLXR_OK)
        abort();
    atexit(clean_up);
}

static void merge(mlxr_plan *plan, mlxr_quant quant)
{
    mlxr_convert_options options = mlxr_convert_options_default();
    float scratch[128];
    uint8_t values[512], scales[64], biases[64];

    options.quantize = true;
    options.quant = quant;
    mlxr_plan_choose(plan, &options);
    for (size_t i = 0; i < plan->n; i++) {
        const mlxr_target *t = &plan->targets[i];
        mlxr_merge m;
        if (!t->whole && !t->low_rank) continue;
        if (mlxr_target_scratch(t) > MLXR_COUNT(scratch) || mlxr_target_row_bytes(t) > sizeof values) abort();
        if (mlxr_merge_init(&m, t, NULL) == MLXR_OK)
            for (size_t k = 0; k < t->n_rows; k++) mlxr_target_row(t, &m, k, values, scales, biases, scratch);
        mlxr_merge_clear(&m);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size > 1 ? memchr(data + 1, 0, size - 1) : NULL;
    size_t at = zero ? (size_t)(zero - data) + 1 : size;
    mlxr_checkpoint *tensors = NULL;
    json_t *config = NULL;
    mlxr_plan plan = {0};
    const mlxr_log log = {0};
    mlxr_error err = {0};

    if (!model) set_up();
    if (!zero ||
        mlxr_json_parse(&config, (const char *)data + 1, at - 2, "adapter_config.json", &err) != MLXR_OK ||
        mlxr_checkpoint_open_bytes(&tensors, data + at, size - at, "adapters.safetensors", &err) != MLXR_OK)
        goto done;
    if (mlxr_plan_init(&plan, model, "config.json", &err) != MLXR_OK) abort();
    if (mlxr_adapter_apply(&plan, tensors, config, data[0] & 1, "adapter_config.json", &log, &err) ==
        MLXR_OK) {
        merge(&plan, (mlxr_quant){0});
        merge(&plan, (mlxr_quant){MLXR_QUANT_AFFINE, 3, 32});
    } else if (err.code == MLXR_OK || !*err.message) {
        abort(); /* every failure says what it is */
    }
done:
    mlxr_plan_clear(&plan);
    mlxr_checkpoint_close(tensors);
    json_decref(config);
    return 0;
}
