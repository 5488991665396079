/* Adapters: what is merged must be what mlx_lm.fuse makes (fixtures/adapters.json and dora.safetensors, made by make_adapters.py),
 * and what does not fit must be told as a whole. */
#include "compare.h"

#include <math.h>
#include <unistd.h>

#include "base/fs.h"

#define F16_BIAS  MLXR_SOURCE_DIR "/tests/model/models/f16_bias"
#define FIXTURES  MLXR_TEST_DIR "/fixtures"
#define TINY_CHAT MLXR_SOURCE_DIR "/tests/runner/fixtures/tiny_chat"

/* The largest difference that a sum in another order, a root and a quotient in float32 make of weights below 1. */
static const double max_dora_difference = 1e-6;

static void compare_numbers(const char *what, const char *adapter, const char *dir, const json_t *names)
{
    mlxr_checkpoint *found = NULL, *wanted = NULL;
    mlxr_error err = {0};

    assert_ok(mlxr_checkpoint_open(&found, dir, &err), &err);
    assert_ok(mlxr_checkpoint_open_file(&wanted, FIXTURES "/dora.safetensors", &err), &err);
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        char key[256];
        const mlxr_tensor *a = mlxr_checkpoint_find(found, name), *b;
        snprintf(key, sizeof key, "%s/%s", adapter, name);
        b = mlxr_checkpoint_find(wanted, key);
        assert_non_null(a);
        assert_non_null(b);
        assert_int_equal(a->n_elements, b->n_elements);
        for (size_t k = 0; k < a->n_elements; k++) {
            const float x = mlxr_load_float(a->data, a->dtype, k), y = mlxr_load_float(b->data, b->dtype, k);
            if (!(fabs((double)x - (double)y) <= max_dora_difference))
                fail_msg("%s: %s[%zu] is %.9g, wanted %.9g", what, name, k, (double)x, (double)y);
        }
    }
    mlxr_checkpoint_close(found);
    mlxr_checkpoint_close(wanted);
}

static void test_mlx_lm(void **state)
{
    json_t *root = read_json(FIXTURES "/adapters.json"), *cases = json_object_get(root, "cases");
    size_t n_bad = 0;

    assert_true(json_array_size(cases) >= 15);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i), *numbers = json_object_get(c, "numbers");
        const char *model = json_string_value(json_object_get(c, "model")),
                   *adapter = json_string_value(json_object_get(c, "adapter"));
        mlxr_convert_options options = options_of(json_object_get(c, "options"));
        char from[512], adapter_dir[512], what[512];
        mlxr_model *m = NULL;
        mlxr_error err = {0};

        snprintf(from, sizeof from, "%s/%s", MLXR_SOURCE_DIR, model);
        snprintf(adapter_dir, sizeof adapter_dir, FIXTURES "/adapters/%s", adapter);
        snprintf(what, sizeof what, "%zu: %s of %s", i, adapter, model);
        options.adapter = adapter_dir;
        assert_ok(mlxr_convert(from, temp_path("out"), &options, &err), &err);
        n_bad += compare_tensors(what, temp_path("out"), json_object_get(c, "tensors"), numbers);
        compare_numbers(what, adapter, temp_path("out"), numbers);
        assert_ok(mlxr_model_open(&m, temp_path("out"), &err), &err);
        mlxr_model_close(m);
        remove_tree(temp_path("out"));
    }
    json_decref(root);
    assert_int_equal(n_bad, 0);
}

/* ---- adapters made here ---- */

struct made_tensor {
    const char *name;
    size_t shape[3]; /* up to the first 0 */
    mlxr_dtype dtype;
};

/* Small numbers, which follow from the last part of the name. */
static mlxr_status fill(void *ud, void *dst, size_t begin, size_t n_bytes, mlxr_error *err)
{
    const struct made_tensor *t = ud;
    const size_t size = mlxr_dtype_bits(t->dtype) / 8;

    memset(dst, 0, n_bytes);
    for (size_t i = 0; i < n_bytes / size; i++)
        mlxr_store_float(
            dst, t->dtype, i,
            (float)((strlen(strrchr(t->name, '.') ? strrchr(t->name, '.') : "") + 7 * (begin / size + i)) %
                    5) /
                    64 -
                1.0f / 32);
    return MLXR_OK;
}

static void make_adapter(const char *dir, const char *config, bool peft, struct made_tensor *tensors,
                         size_t n)
{
    mlxr_safetensors_writer *w = NULL;
    mlxr_error err = {0};
    char path[600];

    assert_ok(mlxr_make_dirs(dir, &err), &err);
    snprintf(path, sizeof path, "%s/adapter_config.json", dir);
    assert_ok(mlxr_file_write(path, config, strlen(config), &err), &err);
    snprintf(path, sizeof path, "%s/%s.safetensors", dir, peft ? "adapter_model" : "adapters");
    assert_ok(mlxr_safetensors_writer_create(&w, path, &err), &err);
    for (size_t i = 0; i < n; i++) {
        unsigned n_dims = 0;
        while (n_dims < 3 && tensors[i].shape[n_dims]) n_dims++;
        assert_ok(mlxr_safetensors_writer_add(w, tensors[i].name, tensors[i].dtype, n_dims, tensors[i].shape,
                                              fill, &tensors[i], &err),
                  &err);
    }
    assert_ok(mlxr_safetensors_writer_commit(w, NULL, NULL, &err), &err);
    mlxr_safetensors_writer_free(w);
}

/* Merges what make_adapter would make; out is then the folder "merged" of the test, or absent after a failure. */
static mlxr_status merge(const char *model, const char *config, bool peft, struct made_tensor *tensors,
                         size_t n, mlxr_error *err)
{
    mlxr_convert_options options = mlxr_convert_options_default();
    mlxr_status st;

    remove_tree(temp_path("merged"));
    remove_tree(temp_path("adapter"));
    make_adapter(temp_path("adapter"), config, peft, tensors, n);
    options.adapter = temp_path("adapter");
    st = mlxr_convert(model, temp_path("merged"), &options, err);
    assert_true(st == MLXR_OK || !mlxr_path_is_dir(temp_path("merged")));
    return st;
}

#define Q      "model.layers.0.self_attn.q_proj" /* [32, 32] in f16_bias */
#define PEFT_Q "base_model.model." Q
#define LORA \
    "{\"fine_tune_type\": \"lora\", \"num_layers\": 1, \"lora_parameters\": {\"rank\": 2, \"scale\": 2.0}}"
#define DORA \
    "{\"fine_tune_type\": \"dora\", \"num_layers\": 1, \"lora_parameters\": {\"rank\": 2, \"scale\": 2.0}}"
#define FULL      "{\"fine_tune_type\": \"full\"}"
#define PEFT(...) "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 4" __VA_ARGS__ "}"

static void test_configs(void **state)
{
    struct made_tensor pair[] = {{Q ".lora_a", {32, 2}, MLXR_F32}, {Q ".lora_b", {2, 32}, MLXR_F32}};
    struct made_tensor peft[] = {{PEFT_Q ".lora_A.weight", {2, 32}, MLXR_F32},
                                 {PEFT_Q ".lora_B.weight", {32, 2}, MLXR_F32}};
    const struct {
        const char *config;
        bool peft;
        mlxr_status st;
        const char *text;
    } cases[] = {
        {LORA, false, MLXR_OK, ""},
        {"{\"lora_parameters\": {\"rank\": 2, \"scale\": 1}}", false, MLXR_OK, ""},
        {"", false, MLXR_E_FORMAT, "adapter_config.json"},
        {"[]", false, MLXR_E_FORMAT, "not a JSON object"},
        {"{\"a\": 1", false, MLXR_E_FORMAT, "adapter_config.json"},
        {"{}", false, MLXR_E_FORMAT, "no \"lora_parameters\""},
        {"{\"fine_tune_type\": \"qlora\"}", false, MLXR_E_UNSUPPORTED, "\"qlora\""},
        {"{\"fine_tune_type\": 3}", false, MLXR_E_FORMAT, "fine_tune_type"},
        {"{\"lora_parameters\": {\"rank\": 2, \"alpha\": 1}}", false, MLXR_E_FORMAT, "no \"scale\""},
        {"{\"lora_parameters\": {\"scale\": 2}}", false, MLXR_E_FORMAT, "no \"rank\""},
        {"{\"lora_parameters\": {\"rank\": 0, \"scale\": 1}}", false, MLXR_E_FORMAT, "rank"},
        {"{\"lora_parameters\": {\"rank\": 1e18, \"scale\": 1}}", false, MLXR_E_FORMAT, "rank"},
        {"{\"lora_parameters\": {\"rank\": 2, \"scale\": 1e99}}", false, MLXR_E_FORMAT, "scale"},
        {"{\"lora_parameters\": {\"rank\": 2, \"scale\": \"x\"}}", false, MLXR_E_FORMAT, "scale"},
        {"{\"lora_parameters\": {\"rank\": 3, \"scale\": 1}}", false, MLXR_E_FORMAT, "wanted [32, 3]"},
        {PEFT(), true, MLXR_OK, ""},
        {PEFT(", \"rank_pattern\": null, \"use_rslora\": true"), true, MLXR_OK, ""},
        {PEFT(", \"rank_pattern\": {\"k_proj\": 7, \"j_proj\": 9, \"proj\": 8}"), true, MLXR_OK, ""},
        {"{\"peft_type\": \"IA3\"}", true, MLXR_E_UNSUPPORTED, "\"IA3\""},
        {"{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": []}", true, MLXR_E_FORMAT, "lora_alpha"},
        {"{\"peft_type\": \"LORA\", \"lora_alpha\": 4}", true, MLXR_E_FORMAT, "wanted [8, 32]"},
        {PEFT(", \"rank_pattern\": {\"self_attn.q_proj\": 4}"), true, MLXR_E_FORMAT, "wanted [4, 32]"},
        {PEFT(", \"rank_pattern\": {\".*q_proj\": 4}"), true, MLXR_E_UNSUPPORTED, "regular expressions"},
        {PEFT(", \"rank_pattern\": {\"q_proj\": 0}"), true, MLXR_E_FORMAT, "out of its range"},
        {PEFT(", \"rank_pattern\": {\"q_proj\": 2.5}"), true, MLXR_E_FORMAT, "out of its range"},
        {PEFT(", \"alpha_pattern\": {\"q_proj\": \"x\"}"), true, MLXR_E_FORMAT, "out of its range"},
        {PEFT(", \"alpha_pattern\": [1]"), true, MLXR_E_FORMAT, "not an object"},
        {PEFT(", \"lora_bias\": true"), true, MLXR_E_UNSUPPORTED, "lora_bias"},
        {PEFT(", \"layer_replication\": [[0, 1]]"), true, MLXR_E_UNSUPPORTED, "layer_replication"},
        {PEFT(", \"use_dora\": true"), true, MLXR_E_FORMAT, "1 without a half: " Q},
        {PEFT(", \"use_dora\": 1"), true, MLXR_E_FORMAT, "use_dora"},
    };

    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        mlxr_error err = {0};
        mlxr_status st = merge(F16_BIAS, cases[i].config, cases[i].peft, cases[i].peft ? peft : pair, 2,
                               &err);
        if (st != cases[i].st || !strstr(err.message, cases[i].text))
            fail_msg("%s: %s \"%s\"", cases[i].config, mlxr_status_name(st), err.message);
    }
}

static void test_folders(void **state)
{
    mlxr_convert_options options = mlxr_convert_options_default();
    struct made_tensor pair[] = {{Q ".lora_a", {32, 2}, MLXR_F32}, {Q ".lora_b", {2, 32}, MLXR_F32}};
    mlxr_error err = {0};
    char part[512];

    options.adapter = temp_path("no-adapter");
    assert_fails(mlxr_convert(F16_BIAS, temp_path("x"), &options, &err), MLXR_E_NOT_FOUND, "no such folder",
                 &err);
    make_adapter(temp_path("part"), LORA, false, pair, 2);
    snprintf(part, sizeof part, "%s", temp_path("part"));
    options.adapter = part;
    assert_int_equal(unlink(temp_path("part/adapter_config.json")), 0);
    assert_fails(mlxr_convert(F16_BIAS, temp_path("x"), &options, &err), MLXR_E_NOT_FOUND,
                 "no adapter_config.json", &err);
    assert_int_equal(unlink(temp_path("part/adapters.safetensors")), 0);
    assert_fails(mlxr_convert(F16_BIAS, temp_path("x"), &options, &err), MLXR_E_NOT_FOUND,
                 "neither adapters.safetensors", &err);
    make_adapter(temp_path("part"), LORA, false, pair, 0);
    assert_fails(mlxr_convert(F16_BIAS, temp_path("x"), &options, &err), MLXR_E_FORMAT, "no tensors", &err);
    assert_int_equal(truncate(temp_path("part/adapters.safetensors"), 9), 0);
    assert_fails(mlxr_convert(F16_BIAS, temp_path("x"), &options, &err), MLXR_E_FORMAT,
                 "adapters.safetensors", &err);
    assert_false(mlxr_path_is_dir(temp_path("x")));
}

/* Everything that does not fit is in one message. */
static void test_misfits(void **state)
{
    struct made_tensor all[] = {
        {Q ".lora_a", {32, 2}, MLXR_F32},
        {Q ".lora_b", {2, 31}, MLXR_F32},
        {"model.layers.9.self_attn.q_proj.lora_a", {32, 2}, MLXR_F32},
        {"model.layers.0.input_layernorm.lora_a", {32, 2}, MLXR_F32},
        {"visual.layers.0.self_attn.q_proj.lora_a", {32, 2}, MLXR_F32},
        {"model.layers.0.self_attn.k_proj.lora_a", {32, 2}, MLXR_F32},
        {"model.layers.0.self_attn.v_proj.lora_b", {2, 8}, MLXR_F32},
        {"model.layers.1.self_attn.q_proj.lora_a", {32, 2}, MLXR_I32},
        {"model.layers.1.self_attn.q_proj.lora_b", {2, 32}, MLXR_F32},
        {Q ".m", {32}, MLXR_F32},
        {Q ".weight", {32, 32}, MLXR_F32},
        {"lora_a", {1}, MLXR_F32},
    };
    struct made_tensor dora[] = {
        {Q ".lora_a", {32, 2}, MLXR_F32}, {Q ".lora_b", {2, 32}, MLXR_F32}, {Q ".m", {31}, MLXR_F32}};
    struct made_tensor full[] = {{Q ".weight", {32, 33}, MLXR_F32},
                                 {"model.norm.weight", {1, 32}, MLXR_F32},
                                 {"model.norm.bias", {32}, MLXR_F32}};
    struct made_tensor peft[] = {
        {PEFT_Q ".lora_A.weight", {2, 32}, MLXR_F32},
        {PEFT_Q ".lora_A.default.weight", {2, 32}, MLXR_F32},
        {PEFT_Q ".lora_B.weight", {32, 2}, MLXR_F32},
        {Q ".lora_B.weight", {32, 2}, MLXR_F32},
        {PEFT_Q ".lora_magnitude_vector", {32}, MLXR_F32},
        {"base_model.model.model.embed_tokens.lora_A.weight", {2, 32}, MLXR_F32},
        {"base_model.model.model.layers.0.self_attn.v_proj.lora_embedding_A", {2, 32}, MLXR_F32},
        {"base_model.model.vision_tower.layers.0.self_attn.q_proj.lora_A.weight", {2, 32}, MLXR_F32},
        {"base_model.model.model.norm.modules_to_save.weight", {31}, MLXR_F32},
        {"base_model.model.score.weight", {2, 32}, MLXR_F32},
    };
    const char *const all_texts[] = {
        "3 of modules that the model has not: model.layers.9.self_attn.q_proj, "
        "model.layers.0.input_layernorm, "
        "visual.layers.0.self_attn.q_proj",
        Q ".lora_b [2, 31] F32 (wanted [2, 32]",
        "model.layers.1.self_attn.q_proj.lora_a [32, 2] I32",
        "2 without a half: model.layers.0.self_attn.k_proj, model.layers.0.self_attn.v_proj",
        "3 unused: " Q ".m, " Q ".weight, lora_a",
    };
    const char *const peft_texts[] = {
        "3 of modules that the model has not: model.embed_tokens, model.layers.0.self_attn.v_proj, "
        "vision_tower.layers.0.self_attn.q_proj",
        PEFT_Q ".lora_A.default.weight (there is another of the same weight)",
        "base_model.model.model.norm.modules_to_save.weight [31] F32 (wanted [32]",
        "3 unused: " Q ".lora_B.weight, " PEFT_Q ".lora_magnitude_vector, base_model.model.score.weight",
    };
    mlxr_error err = {0};

    assert_int_equal(merge(F16_BIAS, LORA, false, all, MLXR_COUNT(all), &err), MLXR_E_FORMAT);
    for (size_t i = 0; i < MLXR_COUNT(all_texts); i++)
        if (!strstr(err.message, all_texts[i])) fail_msg("no \"%s\" in: %s", all_texts[i], err.message);
    assert_fails(merge(F16_BIAS, DORA, false, dora, 3, &err), MLXR_E_FORMAT, Q ".m [31] F32 (wanted [32]",
                 &err);
    assert_fails(merge(F16_BIAS, FULL, false, full, 3, &err), MLXR_E_FORMAT,
                 "2 misshapen: " Q
                 ".weight [32, 33] F32 (wanted [32, 32] of F16, BF16 or F32), model.norm.weight [1, 32]",
                 &err);
    assert_non_null(strstr(err.message, "1 unused: model.norm.bias"));
    assert_int_equal(merge(F16_BIAS, PEFT(), true, peft, MLXR_COUNT(peft), &err), MLXR_E_FORMAT);
    for (size_t i = 0; i < MLXR_COUNT(peft_texts); i++)
        if (!strstr(err.message, peft_texts[i])) fail_msg("no \"%s\" in: %s", peft_texts[i], err.message);
}

#define EXPERTS "model.layers.0.block_sparse_moe.switch_mlp.up_proj"
static void test_experts_misfits(void **state)
{
    const char *const model = MLXR_SOURCE_DIR "/tests/model/models/mixtral_bf16"; /* 24 columns */
    struct made_tensor dora[] = {{EXPERTS ".lora_a", {5, 2, 24}, MLXR_F32},
                                 {EXPERTS ".lora_b", {5, 16, 2}, MLXR_F32},
                                 {EXPERTS ".m", {16}, MLXR_F32}};
    struct made_tensor peft[] = {{"base_model.model." EXPERTS ".lora_A.weight", {2, 24}, MLXR_F32},
                                 {"base_model.model." EXPERTS ".lora_B.weight", {16, 2}, MLXR_F32}};
    struct made_tensor flat[] = {{EXPERTS ".lora_a", {24, 2}, MLXR_F32},
                                 {EXPERTS ".lora_b", {2, 16}, MLXR_F32}};
    mlxr_error err = {0};

    assert_fails(merge(model, DORA, false, dora, 3, &err), MLXR_E_FORMAT, "experts have no DoRA", &err);
    assert_fails(merge(model, PEFT(), true, peft, 2, &err), MLXR_E_FORMAT, "wanted one for each expert",
                 &err);
    assert_fails(merge(model, LORA, false, flat, 2, &err), MLXR_E_FORMAT, "2 misshapen", &err);
}

/* The same change, whatever the adapter calls the text model. */
static void test_names(void **state)
{
    const char *const modules[] = {Q, "model.language_model.layers.0.self_attn.q_proj",
                                   "language_model.model.layers.0.self_attn.q_proj"};
    char first[65] = "", digest[65], names[2][256];
    mlxr_error err = {0};

    for (size_t i = 0; i < MLXR_COUNT(modules); i++) {
        struct made_tensor pair[] = {{names[0], {2, 32}, MLXR_F32}, {names[1], {32, 2}, MLXR_F32}};
        mlxr_checkpoint *c = NULL;
        const mlxr_tensor *t;
        snprintf(names[0], sizeof names[0], "base_model.model.%s.lora_A.weight", modules[i]);
        snprintf(names[1], sizeof names[1], "base_model.model.%s.lora_B.weight", modules[i]);
        assert_ok(merge(F16_BIAS, PEFT(), true, pair, 2, &err), &err);
        assert_ok(mlxr_checkpoint_open(&c, temp_path("merged"), &err), &err);
        t = mlxr_checkpoint_find(c, Q ".weight");
        assert_non_null(t);
        assert_int_equal(mlxr_sha256_hex(digest, t->data, t->n_bytes, NULL), MLXR_OK);
        mlxr_checkpoint_close(c);
        if (i == 0) memcpy(first, digest, sizeof first);
        assert_string_equal(first, digest);
    }
}

/* In halves too, DoRA gives each row its magnitude: within the rounding of its values. */
static void test_dora_in_half(void **state)
{
    struct made_tensor dora[] = {
        {Q ".lora_a", {32, 2}, MLXR_F32}, {Q ".lora_b", {2, 32}, MLXR_F32}, {Q ".m", {32}, MLXR_F32}};
    mlxr_checkpoint *c = NULL;
    const mlxr_tensor *t;
    mlxr_error err = {0};

    assert_ok(merge(F16_BIAS, DORA, false, dora, 3, &err), &err);
    assert_ok(mlxr_checkpoint_open(&c, temp_path("merged"), &err), &err);
    t = mlxr_checkpoint_find(c, Q ".weight");
    assert_non_null(t);
    assert_int_equal(t->dtype, MLXR_F16);
    for (size_t i = 0; i < 32; i++) {
        float magnitude;
        double sum = 0;
        (void)fill(&dora[2], &magnitude, 4 * i, 4, NULL);
        for (size_t k = 0; k < 32; k++) sum += pow((double)mlxr_load_float(t->data, t->dtype, 32 * i + k), 2);
        assert_true(fabs(sqrt(sum) - fabs((double)magnitude)) <= 1e-3 * fabs((double)magnitude) + 1e-6);
    }
    mlxr_checkpoint_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mlx_lm),          cmocka_unit_test(test_configs),
        cmocka_unit_test(test_folders),         cmocka_unit_test(test_misfits),
        cmocka_unit_test(test_experts_misfits), cmocka_unit_test(test_names),
        cmocka_unit_test(test_dora_in_half),
    };
    return cmocka_run_group_tests(tests, temp_dir_make, temp_dir_remove);
}
