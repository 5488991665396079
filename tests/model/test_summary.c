/* What a program holds: the published parameter counts of models by their configurations alone, how layers are grouped,
 * and the sums over the tiny checkpoints. */
#include "model/model.h"
#include "model/summary.h"
#include "test.h"

#define MODELS MLXR_TEST_DIR "/models/"

/* Binds every weight to nothing, as bf16: the counts need shapes and storage alone. */
static void pretend_bound(mlxr_program *p)
{
    for (size_t i = 0; i < p->n_weights; i++) {
        mlxr_weight *w = &p->weights[i];
        w->bound = true;
        w->m = (mlxr_matrix){
            .dtype = MLXR_BF16, .n_rows = w->n_rows, .n_cols = w->n_cols, .row_bytes = 2 * w->n_cols};
        if (w->n_experts) {
            mlxr_matrix *experts = mlxr_arena_calloc(&p->arena, w->n_experts, sizeof *experts);
            assert_non_null(experts);
            for (size_t k = 0; k < w->n_experts; k++) experts[k] = w->m;
            w->experts = experts;
        }
    }
}

static mlxr_program *program_of(const char *config_text)
{
    mlxr_config config = {.what = "config.json"};
    const mlxr_family *family;
    mlxr_program *p = NULL;
    mlxr_error err = {0};

    assert_ok(mlxr_json_parse(&config.root, config_text, strlen(config_text), "config.json", &err), &err);
    assert_ok(mlxr_family_find(&family, &config, &err), &err);
    assert_ok(family->build(&p, &config, &err), &err);
    json_decref(config.root);
    pretend_bound(p);
    return p;
}

static void published_counts(void **state)
{
    static const struct {
        const char *config;
        uint64_t n_parameters, n_active;
    } models[] = {
        /* Llama 3.2 1B */
        {"{\"model_type\": \"llama\", \"hidden_size\": 2048, \"intermediate_size\": 8192, "
         "\"num_hidden_layers\": "
         "16, \"num_attention_heads\": 32, \"num_key_value_heads\": 8, \"head_dim\": 64, \"vocab_size\": "
         "128256, "
         "\"rms_norm_eps\": 1e-5, \"tie_word_embeddings\": true, \"max_position_embeddings\": 131072}",
         1235814400, 1235814400},
        /* Qwen2.5 0.5B: biases in q, k and v */
        {"{\"model_type\": \"qwen2\", \"hidden_size\": 896, \"intermediate_size\": 4864, "
         "\"num_hidden_layers\": 24, "
         "\"num_attention_heads\": 14, \"num_key_value_heads\": 2, \"vocab_size\": 151936, \"rms_norm_eps\": "
         "1e-6, "
         "\"tie_word_embeddings\": true, \"max_position_embeddings\": 32768}",
         494032768, 494032768},
        /* Mixtral 8x7B: 12.9 of 46.7 billion */
        {"{\"model_type\": \"mixtral\", \"hidden_size\": 4096, \"intermediate_size\": 14336, "
         "\"num_hidden_layers\": "
         "32, \"num_attention_heads\": 32, \"num_key_value_heads\": 8, \"vocab_size\": 32000, "
         "\"rms_norm_eps\": "
         "1e-5, \"num_local_experts\": 8, \"num_experts_per_tok\": 2, \"tie_word_embeddings\": false, "
         "\"max_position_embeddings\": 32768, \"rope_theta\": 1000000.0}",
         46702792704, 12879925248},
        /* Qwen3 30B A3B */
        {"{\"model_type\": \"qwen3_moe\", \"hidden_size\": 2048, \"intermediate_size\": 6144, "
         "\"num_hidden_layers\": 48, \"num_attention_heads\": 32, \"num_key_value_heads\": 4, \"head_dim\": "
         "128, "
         "\"vocab_size\": 151936, \"rms_norm_eps\": 1e-6, \"num_experts\": 128, \"num_experts_per_tok\": 8, "
         "\"moe_intermediate_size\": 768, \"decoder_sparse_step\": 1, \"mlp_only_layers\": [], "
         "\"norm_topk_prob\": true, \"tie_word_embeddings\": false, \"max_position_embeddings\": 40960, "
         "\"rope_theta\": 1000000.0}",
         30532122624, 3353032704},
        /* gpt-oss 20B: the experts' biases are matrices, a token uses its experts' rows */
        {"{\"model_type\": \"gpt_oss\", \"hidden_size\": 2880, \"intermediate_size\": 2880, "
         "\"num_hidden_layers\": "
         "24, \"num_attention_heads\": 64, \"num_key_value_heads\": 8, \"head_dim\": 64, \"vocab_size\": "
         "201088, "
         "\"rms_norm_eps\": 1e-5, \"num_local_experts\": 32, \"num_experts_per_tok\": 4, \"sliding_window\": "
         "128, "
         "\"max_position_embeddings\": 131072, \"rope_theta\": 150000, \"rope_scaling\": {\"rope_type\": "
         "\"yarn\", "
         "\"factor\": 32.0, \"original_max_position_embeddings\": 4096, \"beta_fast\": 32.0, \"beta_slow\": "
         "1.0}}",
         20914757184, 4187440704},
    };
    (void)state;

    for (size_t i = 0; i < MLXR_COUNT(models); i++) {
        mlxr_program *p = program_of(models[i].config);
        mlxr_summary s;
        mlxr_error err;
        assert_ok(mlxr_summary_init(&s, p, &err), &err);
        assert_int_equal(s.n_parameters, models[i].n_parameters);
        assert_int_equal(s.n_active_parameters, models[i].n_active);
        assert_int_equal(s.n_weight_bytes, 2 * models[i].n_parameters);
        mlxr_summary_clear(&s);
        mlxr_program_free(p);
    }
}

static char *layers_text(const mlxr_layers *l)
{
    mlxr_buf out = {0};
    mlxr_layers_print(&out, l);
    return mlxr_buf_take(&out, NULL);
}

static void expect_layers(const mlxr_layers *l, const char *want)
{
    char *text = layers_text(l);
    assert_non_null(text);
    assert_string_equal(text, want);
    free(text);
}

static void layers_in_words(void **state)
{
    static const size_t index[] = {0, 1, 2, 4, 6, 8, 10, 11, 13, 20};
    (void)state;

    expect_layers(&(mlxr_layers){index, 0}, "");
    expect_layers(&(mlxr_layers){index, 1}, "0");
    expect_layers(&(mlxr_layers){index, 2}, "0-1");
    expect_layers(&(mlxr_layers){index, MLXR_COUNT(index)}, "0-2, 4-10 by 2, 11, 13, 20");
    expect_layers(&(mlxr_layers){index + 7, 3}, "11, 13, 20");
}

/* gpt-oss alternates windows; the last of lfm2's kinds is attention; qwen3.5 has a delta rule and a shared expert. */
static void layers_are_grouped_by_make(void **state)
{
    mlxr_program *p;
    mlxr_summary s;
    mlxr_error err;
    (void)state;

    p = program_of("{\"model_type\": \"gpt_oss\", \"hidden_size\": 64, \"intermediate_size\": 32, "
                   "\"num_hidden_layers\": 8, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
                   "\"head_dim\": 32, \"vocab_size\": 64, \"rms_norm_eps\": 1e-5, \"num_local_experts\": 6, "
                   "\"num_experts_per_tok\": 2, \"sliding_window\": 12, \"max_position_embeddings\": 4096, "
                   "\"rope_theta\": 150000}");
    assert_ok(mlxr_summary_init(&s, p, &err), &err);
    assert_int_equal(s.n_shapes, 2);
    expect_layers(&s.shapes[0].layers, "0-6 by 2");
    expect_layers(&s.shapes[1].layers, "1-7 by 2");
    assert_int_equal(s.shapes[0].shape.window, 12);
    assert_int_equal(s.shapes[1].shape.window, 0);
    assert_int_equal(s.shapes[0].shape.n_heads, 4);
    assert_int_equal(s.shapes[0].shape.n_kv_heads, 2);
    assert_int_equal(s.shapes[0].shape.k_head_dim, 32);
    assert_int_equal(s.shapes[0].shape.n_experts, 6);
    assert_int_equal(s.shapes[0].shape.n_active_experts, 2);
    assert_int_equal(s.shapes[0].shape.expert_width, 32);
    assert_int_equal(s.shapes[0].shape.ffn_width, 0);
    assert_int_equal(s.n_storages, 1); /* all alike */
    expect_layers(&s.storages[0].layers, "0-7");
    mlxr_summary_clear(&s);
    mlxr_program_free(p);

    p = program_of(
        "{\"model_type\": \"lfm2\", \"hidden_size\": 64, \"num_hidden_layers\": 4, "
        "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"vocab_size\": 64, \"norm_eps\": 1e-5, "
        "\"max_position_embeddings\": 4096, \"conv_bias\": false, \"conv_L_cache\": 3, "
        "\"block_dim\": 64, \"block_ff_dim\": 96, \"block_multiple_of\": 8, "
        "\"block_ffn_dim_multiplier\": 1.0, \"block_auto_adjust_ff_dim\": false, "
        "\"full_attn_idxs\": [2], \"rope_theta\": 1000000.0}");
    assert_ok(mlxr_summary_init(&s, p, &err), &err);
    assert_int_equal(s.n_shapes, 2);
    expect_layers(&s.shapes[0].layers, "0-1, 3");
    assert_int_equal(s.shapes[0].shape.n_channels, 64);
    assert_int_equal(s.shapes[0].shape.n_taps, 2);
    assert_int_equal(s.shapes[0].shape.n_heads, 0);
    assert_int_equal(s.shapes[0].shape.ffn_width, 96);
    assert_int_equal(s.shapes[1].shape.n_heads, 4);
    assert_int_equal(s.shapes[1].shape.n_channels, 0);
    mlxr_summary_clear(&s);
    mlxr_program_free(p);

    p = program_of(
        "{\"model_type\": \"qwen3_5_moe_text\", \"hidden_size\": 64, \"intermediate_size\": 96, "
        "\"num_hidden_layers\": 4, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 16, "
        "\"vocab_size\": 64, \"rms_norm_eps\": 1e-6, \"max_position_embeddings\": 4096, "
        "\"full_attention_interval\": "
        "4, \"linear_num_value_heads\": 4, \"linear_num_key_heads\": 2, \"linear_key_head_dim\": 16, "
        "\"linear_value_head_dim\": 24, \"linear_conv_kernel_dim\": 4, \"num_experts\": 6, "
        "\"num_experts_per_tok\": 2, \"moe_intermediate_size\": 32, \"shared_expert_intermediate_size\": 48, "
        "\"norm_topk_prob\": true, \"decoder_sparse_step\": 1, \"mlp_only_layers\": [], "
        "\"tie_word_embeddings\": "
        "false, \"rope_theta\": 10000.0, \"partial_rotary_factor\": 0.5}");
    assert_ok(mlxr_summary_init(&s, p, &err), &err);
    assert_int_equal(s.n_shapes, 2);
    expect_layers(&s.shapes[0].layers, "0-2");
    assert_int_equal(s.shapes[0].shape.n_states, 4);
    assert_int_equal(s.shapes[0].shape.n_key_heads, 2);
    assert_int_equal(s.shapes[0].shape.state_k_dim, 16);
    assert_int_equal(s.shapes[0].shape.state_v_dim, 24);
    assert_int_equal(s.shapes[0].shape.n_channels, 2 * 2 * 16 + 4 * 24);
    assert_int_equal(s.shapes[0].shape.ffn_width, 48); /* the shared expert, not its gate */
    assert_int_equal(s.shapes[0].shape.n_experts, 6);
    assert_int_equal(s.shapes[1].shape.n_heads, 4);
    assert_int_equal(s.shapes[1].shape.ffn_width, 48);
    mlxr_summary_clear(&s);
    mlxr_program_free(p);
}

static void expect_exception(const mlxr_exception *e, const char *module, const char *storage)
{
    char text[MLXR_STORAGE_TEXT];
    assert_string_equal(e->module, module);
    assert_string_equal(mlxr_storage_text(text, e->storage), storage);
}

static void storage_by_layer(void **state)
{
    mlxr_model *m;
    mlxr_summary s;
    mlxr_error err;
    char text[MLXR_STORAGE_TEXT];
    (void)state;

    assert_ok(mlxr_model_open(&m, MODELS "mixed", &err), &err);
    assert_ok(mlxr_summary_init(&s, mlxr_model_program(m), &err), &err);
    assert_int_equal(s.n_storages, 2);
    expect_layers(&s.storages[0].layers, "0");
    assert_string_equal(mlxr_storage_text(text, s.storages[0].storage), "affine 4-bit group 32 BF16");
    assert_int_equal(s.storages[0].n_exceptions, 2);
    expect_exception(&s.storages[0].exceptions[0], "self_attn.v_proj", "affine 8-bit group 64 BF16");
    expect_exception(&s.storages[0].exceptions[1], "mlp.down_proj", "BF16");
    assert_int_equal(s.storages[1].n_exceptions, 1);
    expect_exception(&s.storages[1].exceptions[0], "mlp.gate_proj", "affine 3-bit group 32 BF16");
    assert_int_equal(s.n_outside, 2);
    expect_exception(&s.outside[0], "model.embed_tokens", "affine 6-bit group 64 BF16");
    expect_exception(&s.outside[1], "lm_head", "affine 8-bit group 32 BF16");
    mlxr_summary_clear(&s);
    mlxr_model_close(m);

    assert_ok(mlxr_model_open(&m, MODELS "llama_mxfp4", &err), &err);
    assert_ok(mlxr_summary_init(&s, mlxr_model_program(m), &err), &err);
    assert_string_equal(mlxr_storage_text(text, s.storages[0].storage), "mxfp4 group 32");
    mlxr_summary_clear(&s);
    mlxr_model_close(m);
}

/* Every tensor of these checkpoints is a weight: the sums over the files are those over the program, whether a stack of
 * experts is one tensor (mixtral_bf16) or many (mixtral_hf_f16). */
static void sums_are_those_of_the_files(void **state)
{
    static const char *const dense[] = {
        "f32",          "f16_bias",       "bf16_shards", "qwen2_untied_f32",
        "mixtral_bf16", "mixtral_hf_f16", "phi3_f32",    "gemma3_text_untied_f16"};
    static const char *const quantized[] = {"q4_g32", "mixed", "mixtral_q4", "mixtral_hf_q4", "llama_mxfp8"};
    mlxr_error err;
    (void)state;

    for (size_t i = 0; i < MLXR_COUNT(dense) + MLXR_COUNT(quantized); i++) {
        bool is_dense = i < MLXR_COUNT(dense);
        char *dir = mlxr_asprintf(MODELS "%s", is_dense ? dense[i] : quantized[i - MLXR_COUNT(dense)]);
        uint64_t n_elements = 0, n_bytes = 0;
        mlxr_model *m;
        mlxr_summary s;
        assert_non_null(dir);
        assert_ok(mlxr_model_open(&m, dir, &err), &err);
        assert_ok(mlxr_summary_init(&s, mlxr_model_program(m), &err), &err);
        for (size_t k = 0; k < mlxr_checkpoint_count(mlxr_model_checkpoint(m)); k++) {
            const mlxr_tensor *t = mlxr_checkpoint_get(mlxr_model_checkpoint(m), k);
            n_elements += t->n_elements;
            n_bytes += t->n_bytes;
        }
        if (is_dense) assert_int_equal(s.n_parameters, n_elements);
        assert_int_equal(s.n_weight_bytes, n_bytes);
        mlxr_summary_clear(&s);
        mlxr_model_close(m);
        free(dir);
    }
}

static void an_unbound_program_is_refused(void **state)
{
    mlxr_program *p = program_of(
        "{\"model_type\": \"llama\", \"hidden_size\": 64, \"intermediate_size\": 96, "
        "\"num_hidden_layers\": 1, \"num_attention_heads\": 4, \"vocab_size\": 64, "
        "\"rms_norm_eps\": 1e-5}");
    mlxr_summary s;
    mlxr_error err;
    (void)state;

    p->weights[3].bound = false;
    assert_fails(mlxr_summary_init(&s, p, &err), MLXR_E_INVALID_ARGUMENT, "is not bound", &err);
    mlxr_program_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_counts),
        cmocka_unit_test(layers_in_words),
        cmocka_unit_test(layers_are_grouped_by_make),
        cmocka_unit_test(storage_by_layer),
        cmocka_unit_test(sums_are_those_of_the_files),
        cmocka_unit_test(an_unbound_program_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
