/* What mlxr_description_of_folder says of folders of many shapes. */
#include "store/folder.h"
#include "store/manifest.h"

static mlxr_error err;

static void forget(mlxr_description *d)
{
    free(d->family);
    free(d->quantization);
    free(d->dtype);
    *d = (mlxr_description){0};
}

/* config and one file of weights. */
static void expect(const char *config, const tensor_spec *specs, size_t n, const char *family,
                   const char *quantization, const char *dtype, uint64_t n_parameters, uint64_t context)
{
    mlxr_description d;

    put_text(temp_path("config.json"), config);
    put_tensors(temp_path("model.safetensors"), specs, n, 1);
    assert_ok(mlxr_description_of_folder(&d, temp_path(""), &err), &err);
    assert_string_equal(d.family, family);
    assert_string_equal(d.quantization, quantization);
    assert_string_equal(d.dtype, dtype);
    assert_int_equal(d.n_parameters, n_parameters);
    assert_int_equal(d.context_length, context);
    assert_null(d.source);
    assert_null(d.base);
    forget(&d);
}

static void dense(void **state)
{
    const tensor_spec t[] = {{"model.norm.weight", MLXR_F32, {64}}, {"lm_head.weight", MLXR_BF16, {32, 64}}};

    expect("{\"model_type\": \"llama\", \"max_position_embeddings\": 4096}", t, 2, "llama", "bf16", "bf16",
           64 + 32 * 64, 4096);
    expect("{\"model_type\": \"gpt2\", \"n_positions\": 1024.0}", t, 2, "gpt2", "bf16", "bf16", 2112, 1024);
    expect("{}", t, 2, "unknown", "bf16", "bf16", 2112, 0);
}

static void affine(void **state)
{
    /* 128 columns in 4 bits: 16 words; groups of 64: 2 scales */
    const tensor_spec t[] = {{"up.weight", MLXR_U32, {32, 16}},
                             {"up.scales", MLXR_F16, {32, 2}},
                             {"up.biases", MLXR_F16, {32, 2}},
                             {"up.bias", MLXR_F16, {32}},
                             {"norm.weight", MLXR_F16, {128}}};

    expect("{\"model_type\": \"qwen3\", \"quantization\": {\"bits\": 4, \"group_size\": 64}}", t, 5, "qwen3",
           "4-bit, groups of 64", "f16", 32 * 128 + 32 + 128, 0);
    expect("{\"model_type\": \"qwen3\", \"quantization\": {\"bits\": 4, \"group_size\": 64}, "
           "\"quantization_config\": {\"bits\": 2, \"group_size\": 32}}",
           t, 5, "qwen3", "4-bit, groups of 64", "f16", 32 * 128 + 32 + 128, 0);
}

/* Values of a module of its own, one that stays dense, and a stack of experts; the larger part gives the name. */
static void per_layer(void **state)
{
    const tensor_spec t[] = {{"small.weight", MLXR_U32, {4, 16}}, /* base: 4 bits */
                             {"small.scales", MLXR_BF16, {4, 2}},   {"small.biases", MLXR_BF16, {4, 2}},
                             {"big.weight", MLXR_U32, {2, 32, 32}}, /* 8 bits in groups of 32: 128 columns */
                             {"big.scales", MLXR_BF16, {2, 32, 4}}, {"big.biases", MLXR_BF16, {2, 32, 4}},
                             {"dense.weight", MLXR_BF16, {8, 8}}};

    expect(
        "{\"model_type\": \"m\", \"quantization\": {\"bits\": 4, \"group_size\": 64, \"big\": {\"bits\": 8, "
        "\"group_size\": 32}, \"dense\": false}}",
        t, 7, "m", "8-bit, groups of 32", "bf16", 4 * 128 + 2 * 32 * 128 + 64, 0);
}

static void floats(void **state)
{
    const tensor_spec mlx[] = {{"up.weight", MLXR_U32, {32, 16}}, {"up.scales", MLXR_U8, {32, 4}}},
                      hf[] = {{"mlp.experts.up_blocks", MLXR_U8, {4, 16, 16}},
                              {"mlp.experts.up_scales", MLXR_U8, {4, 16}},
                              {"norm.weight", MLXR_BF16, {8}}};

    expect(
        "{\"model_type\": \"m\", \"quantization\": {\"mode\": \"mxfp4\", \"bits\": 4, \"group_size\": 32}}",
        mlx, 2, "m", "mxfp4", "none", 32 * 128, 0);
    expect("{\"model_type\": \"m\", \"quantization\": {\"mode\": \"nvfp4\"}}", mlx, 2, "m", "nvfp4", "none",
           32 * 4 * 16, 0);
    expect("{\"model_type\": \"gpt_oss\", \"quantization_config\": {\"quant_method\": \"mxfp4\"}}", hf, 3,
           "gpt_oss", "mxfp4", "bf16", 4 * 16 * 32 + 8, 0);
}

static void nested(void **state)
{
    const tensor_spec t[] = {{"w.weight", MLXR_F16, {8, 8}}};

    expect("{\"model_type\": \"gemma3\", \"text_config\": {\"model_type\": \"gemma3_text\", "
           "\"max_position_embeddings\": 131072}}",
           t, 1, "gemma3", "f16", "f16", 64, 131072);
    expect("{\"text_config\": {\"model_type\": \"inner\"}}", t, 1, "inner", "f16", "f16", 64, 0);
}

/* Tensors whose names end like scales but have no codes beside them are parameters like others. */
static void lookalikes(void **state)
{
    const tensor_spec t[] = {{"a.scales", MLXR_F32, {8}},
                             {"b.weight", MLXR_F32, {4}},
                             {"b.scales", MLXR_F32, {2}},
                             {".scales", MLXR_F32, {1}}};

    expect("{\"model_type\": \"m\"}", t, 4, "m", "f32", "f32", 8 + 4 + 2 + 1, 0);
}

static void odd_values(void **state)
{
    const tensor_spec t[] = {{"w.weight", MLXR_U32, {4, 16}}, {"w.scales", MLXR_F16, {4, 2}}};

    expect("{\"model_type\": 3, \"max_position_embeddings\": -5, \"quantization\": {\"bits\": \"4\", "
           "\"group_size\": "
           "1e300, \"w\": [1]}}",
           t, 2, "unknown", "4-bit, groups of 64", "none", 4 * 128, 0);
    expect("{\"model_type\": \"a\\u0000b\", \"quantization\": []}", t, 2, "unknown", "4-bit, groups of 64",
           "none", 4 * 128, 0);
}

static void shards(void **state)
{
    mlxr_description d;

    put_model(temp_path("m"), 1);
    assert_ok(mlxr_description_of_folder(&d, temp_path("m"), &err), &err);
    assert_int_equal(d.n_parameters, 16 * 8 + 32 + 64);
    assert_string_equal(d.quantization, "f32");
    forget(&d);
    assert_int_equal(unlink(temp_path("m/model-00002-of-00002.safetensors")), 0);
    assert_fails(mlxr_description_of_folder(&d, temp_path("m"), &err), MLXR_E_FORMAT, "model-00002-of-00002",
                 &err);
    assert_null(d.family);
}

static void no_models(void **state)
{
    const tensor_spec t[] = {{"w.weight", MLXR_F16, {8, 8}}};
    mlxr_description d;

    assert_fails(mlxr_description_of_folder(&d, temp_path("nowhere"), &err), MLXR_E_FORMAT, "no config.json",
                 &err);
    assert_int_equal(err.code, MLXR_E_FORMAT);
    assert_fails(mlxr_description_of_folder(&d, temp_path(""), &err), MLXR_E_FORMAT, "no config.json", &err);
    put_text(temp_path("config.json"), "{\"model_type\": \"m\"}");
    assert_fails(mlxr_description_of_folder(&d, temp_path(""), &err), MLXR_E_FORMAT, "no weights", &err);
    assert_int_equal(err.code, MLXR_E_FORMAT);
    put_tensors(temp_path("model.safetensors"), t, 0, 0);
    assert_fails(mlxr_description_of_folder(&d, temp_path(""), &err), MLXR_E_FORMAT, "no tensor", &err);
    put_tensors(temp_path("model.safetensors"), t, 1, 0);
    put_text(temp_path("config.json"), "[]");
    assert_fails(mlxr_description_of_folder(&d, temp_path(""), &err), MLXR_E_FORMAT, "not an object", &err);
    put_text(temp_path("config.json"), "{");
    assert_fails(mlxr_description_of_folder(&d, temp_path(""), &err), MLXR_E_FORMAT, "config.json", &err);
    put_text(temp_path("config.json"), "{}");
    assert_int_equal(truncate(temp_path("model.safetensors"), 90), 0);
    assert_fails(mlxr_description_of_folder(&d, temp_path(""), &err), MLXR_E_FORMAT, "model.safetensors",
                 &err);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, temp_dir_make, temp_dir_remove)
    const struct CMUnitTest tests[] = {T(dense),      T(affine),     T(per_layer), T(floats),   T(nested),
                                       T(lookalikes), T(odd_values), T(shards),    T(no_models)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
