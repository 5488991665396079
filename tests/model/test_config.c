/* config.json as the llama family reads it: defaults, variants, and hostile values, each refused by name. */
#include <math.h>

#include "base/fs.h"
#include "model/model.h"
#include "test.h"

/* A small good config; `change` is merged over it, a null value removes the key. */
static json_t *config_with(const char *change)
{
    static const char base[] =
        "{\"model_type\": \"llama\", \"hidden_size\": 32, \"num_hidden_layers\": 2, \"num_attention_heads\": "
        "4,"
        " \"num_key_value_heads\": 2, \"intermediate_size\": 48, \"vocab_size\": 20, \"rms_norm_eps\": 1e-5,"
        " \"max_position_embeddings\": 128, \"tie_word_embeddings\": false}";
    json_t *root = NULL, *over = NULL, *v;
    const char *key;
    mlxr_error err;

    assert_ok(mlxr_json_parse(&root, base, strlen(base), "base", &err), &err);
    assert_ok(mlxr_json_parse(&over, change, strlen(change), "change", &err), &err);
    json_object_foreach(over, key, v)
    {
        if (json_is_null(v))
            json_object_del(root, key);
        else
            json_object_set(root, key, v);
    }
    json_decref(over);
    return root;
}

static mlxr_status build(mlxr_program **out, const char *change, mlxr_error *err)
{
    mlxr_config config = {.root = config_with(change), .what = "config.json", .model_type = "llama"};
    mlxr_status st = mlxr_families[0]->build(out, &config, err);
    json_decref(config.root);
    return st;
}

static const mlxr_op *find_op(const mlxr_program *p, mlxr_op_kind kind, size_t nth)
{
    for (size_t i = 0; i < p->n_ops; i++)
        if (p->ops[i].kind == kind && nth-- == 0) return &p->ops[i];
    fail_msg("no %s", mlxr_op_name(kind));
    return NULL;
}

static bool has_weight(const mlxr_program *p, const char *name, const char *suffix, size_t n_rows,
                       size_t n_cols)
{
    for (size_t i = 0; i < p->n_weights; i++)
        if (strcmp(p->weights[i].name, name) == 0 && strcmp(p->weights[i].suffix, suffix) == 0)
            return p->weights[i].n_rows == n_rows && p->weights[i].n_cols == n_cols;
    return false;
}

static void a_layer_is_fifteen_operations_in_order(void **state)
{
    static const mlxr_op_kind layer[] = {
        MLXR_OP_RMS_NORM, MLXR_OP_LINEAR, MLXR_OP_LINEAR,  MLXR_OP_LINEAR, MLXR_OP_ROPE,
        MLXR_OP_ROPE,     MLXR_OP_ATTEND, MLXR_OP_LINEAR,  MLXR_OP_ADD,    MLXR_OP_RMS_NORM,
        MLXR_OP_LINEAR,   MLXR_OP_LINEAR, MLXR_OP_ACT_MUL, MLXR_OP_LINEAR, MLXR_OP_ADD,
    };
    mlxr_program *p;
    mlxr_error err;

    (void)state;
    assert_ok(build(&p, "{}", &err), &err);
    assert_int_equal(p->n_ops, 1 + 2 * MLXR_COUNT(layer) + 2);
    assert_int_equal(p->ops[0].kind, MLXR_OP_EMBED);
    for (size_t i = 0; i < 2 * MLXR_COUNT(layer); i++) {
        assert_int_equal(p->ops[1 + i].kind, layer[i % MLXR_COUNT(layer)]);
        assert_int_equal(p->ops[1 + i].i_layer, i / MLXR_COUNT(layer));
    }
    assert_int_equal(p->n_weights, 2 * 9 + 3);
    assert_true(has_weight(p, "model.layers.1.self_attn.k_proj", ".weight", 16, 32));
    assert_true(has_weight(p, "model.layers.0.mlp.down_proj", ".weight", 32, 48));
    assert_true(has_weight(p, "lm_head", ".weight", 20, 32));
    assert_true(has_weight(p, "model.norm", ".weight", 1, 32));
    mlxr_program_free(p);
}

static void absent_fields_have_mlx_lms_defaults(void **state)
{
    mlxr_program *p;
    mlxr_error err;

    (void)state;
    assert_ok(build(&p,
                    "{\"num_key_value_heads\": null, \"tie_word_embeddings\": null, "
                    "\"max_position_embeddings\": null}",
                    &err),
              &err);
    assert_int_equal(p->slots[0].n_kv_heads, 4);
    assert_int_equal(p->slots[0].k_head_dim, 8);
    assert_int_equal(p->slots[0].window, 0);
    assert_int_equal(p->ops[p->n_ops - 1].weight, p->ops[0].weight); /* tied */
    assert_int_equal(p->context_length, 2048);
    assert_int_equal(find_op(p, MLXR_OP_ROPE, 0)->u.rope.pairing, MLXR_ROPE_HALF);
    assert_int_equal(find_op(p, MLXR_OP_LINEAR, 0)->bias, MLXR_NONE);
    assert_true(find_op(p, MLXR_OP_ROPE, 0)->u.rope.inv_freq[1] == expf(-logf(10000) / 4));
    mlxr_program_free(p);
}

static void variants_are_fields_of_operations(void **state)
{
    mlxr_program *p;
    mlxr_error err;

    (void)state;
    assert_ok(build(&p, "{\"attention_bias\": true, \"head_dim\": 16, \"rope_traditional\": true}", &err),
              &err);
    assert_int_equal(find_op(p, MLXR_OP_ROPE, 1)->u.rope.pairing, MLXR_ROPE_INTERLEAVED);
    assert_true(has_weight(p, "model.layers.0.self_attn.q_proj", ".bias", 1, 64));
    assert_true(has_weight(p, "model.layers.0.self_attn.o_proj", ".bias", 1, 32));
    assert_true(has_weight(p, "model.layers.0.self_attn.o_proj", ".weight", 32, 64));
    assert_false(has_weight(p, "model.layers.0.mlp.up_proj", ".bias", 1, 48));
    mlxr_program_free(p);

    assert_ok(build(&p, "{\"mlp_bias\": true}", &err), &err);
    assert_true(has_weight(p, "model.layers.1.mlp.up_proj", ".bias", 1, 48));
    assert_true(has_weight(p, "model.layers.1.mlp.down_proj", ".bias", 1, 32));
    assert_false(has_weight(p, "model.layers.1.self_attn.q_proj", ".bias", 1, 32));
    mlxr_program_free(p);

    assert_ok(build(&p,
                    "{\"layer_types\": [\"full_attention\", \"sliding_attention\"], \"sliding_window\": 7,"
                    " \"hidden_size\": 32.0}",
                    &err),
              &err);
    assert_int_equal(p->slots[0].window, 0);
    assert_int_equal(p->slots[1].window, 7);
    mlxr_program_free(p);

    /* Without layer_types a sliding_window counts for nothing, as in mlx-lm. */
    assert_ok(build(&p, "{\"sliding_window\": 7}", &err), &err);
    assert_int_equal(p->slots[0].window, 0);
    mlxr_program_free(p);
}

static void rope_frequencies_follow_the_config(void **state)
{
    static const struct {
        const char *change;
        double want[4]; /* inv_freq of a head of 8 */
    } cases[] = {
        {"{}", {1, 0.1, 0.01, 0.001}},
        {"{\"rope_theta\": 625}", {1, 0.2, 0.04, 0.008}},
        {"{\"rope_parameters\": {\"rope_theta\": 625, \"rope_type\": \"default\"}}", {1, 0.2, 0.04, 0.008}},
        {"{\"rope_theta\": 16, \"rope_parameters\": {\"rope_theta\": 625}}", {1, 0.5, 0.25, 0.125}},
        {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}}", {0.25, 0.025, 0.0025, 0.00025}},
        {"{\"rope_scaling\": {\"rope_type\": \"default\"}}", {1, 0.1, 0.01, 0.001}},
        /* Wavelengths 6.28, 62.8, 628, 6283 against 512/4 and 512/1: kept, kept, divided by 8, divided by 8. */
        {"{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, "
         "\"original_max_position_embeddings\": 512}}",
         {1, 0.1, 0.00125, 0.000125}},
        /* ... against 2048/4 and 2048/1: the third lies between, at smooth = (2048/628.3 - 1) / 3. */
        {"{\"rope_parameters\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1,"
         " \"high_freq_factor\": 4, \"original_max_position_embeddings\": 2048}}",
         {1, 0.1, 0.0078401886, 0.000125}},
    };
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        mlxr_program *p;
        mlxr_error err;
        const mlxr_op *rope;
        assert_ok(build(&p, cases[i].change, &err), &err);
        rope = find_op(p, MLXR_OP_ROPE, 0);
        assert_int_equal(rope->u.rope.n_rot, 8);
        assert_true(rope->u.rope.scale == 1);
        for (size_t j = 0; j < 4; j++)
            if (fabs((double)rope->u.rope.inv_freq[j] / cases[i].want[j] - 1) > 2e-6)
                fail_msg("case %zu: frequency %zu is %.9g, wanted %.9g", i, j,
                         (double)rope->u.rope.inv_freq[j], cases[i].want[j]);
        mlxr_program_free(p);
    }
}

static void hostile_values_are_refused_by_name(void **state)
{
    static const struct {
        const char *change;
        mlxr_status status;
        const char *text;
    } cases[] = {
        {"{\"hidden_size\": null}", MLXR_E_FORMAT, "no \"hidden_size\""},
        {"{\"hidden_size\": 0}", MLXR_E_FORMAT, "\"hidden_size\" is 0"},
        {"{\"hidden_size\": -32}", MLXR_E_FORMAT, "\"hidden_size\" is -32"},
        {"{\"hidden_size\": 9007199254740993}", MLXR_E_FORMAT, "\"hidden_size\" is 9007199254740993"},
        {"{\"hidden_size\": 1e300}", MLXR_E_FORMAT, "\"hidden_size\" is a real number"},
        {"{\"hidden_size\": \"32\"}", MLXR_E_FORMAT, "\"hidden_size\" is a string"},
        {"{\"hidden_size\": [32]}", MLXR_E_FORMAT, "\"hidden_size\" is a list"},
        {"{\"hidden_size\": 32.5}", MLXR_E_FORMAT, "\"hidden_size\" is a real number"},
        {"{\"hidden_size\": 30}", MLXR_E_FORMAT, "wanted a multiple of num_attention_heads (4)"},
        {"{\"num_hidden_layers\": null}", MLXR_E_FORMAT, "no \"num_hidden_layers\""},
        {"{\"num_hidden_layers\": 0}", MLXR_E_FORMAT, "\"num_hidden_layers\" is 0"},
        {"{\"num_hidden_layers\": 2000000000}", MLXR_E_FORMAT, "\"num_hidden_layers\" is 2000000000"},
        {"{\"num_attention_heads\": null}", MLXR_E_FORMAT, "no \"num_attention_heads\""},
        {"{\"num_attention_heads\": 0}", MLXR_E_FORMAT, "\"num_attention_heads\" is 0"},
        {"{\"num_attention_heads\": 4611686018427387904, \"head_dim\": 8}", MLXR_E_FORMAT,
         "\"num_attention_heads\""},
        {"{\"num_attention_heads\": 16384, \"num_key_value_heads\": 1, \"head_dim\": 4096, \"hidden_size\": "
         "1048576}",
         MLXR_OK, ""},
        {"{\"num_key_value_heads\": 0}", MLXR_E_FORMAT, "\"num_key_value_heads\" is 0"},
        {"{\"num_key_value_heads\": 3}", MLXR_E_FORMAT, "wanted a multiple of num_key_value_heads (3)"},
        {"{\"num_key_value_heads\": 8}", MLXR_E_FORMAT, "wanted a multiple of num_key_value_heads (8)"},
        {"{\"head_dim\": 0}", MLXR_E_FORMAT, "\"head_dim\" is 0"},
        {"{\"head_dim\": 7}", MLXR_E_FORMAT, "a head is 7 wide"},
        {"{\"head_dim\": 1000000}", MLXR_E_FORMAT, "\"head_dim\" is 1000000"},
        {"{\"hidden_size\": 1048576, \"num_attention_heads\": 1, \"num_key_value_heads\": 1}", MLXR_E_FORMAT,
         "a head is 1048576 wide"},
        {"{\"hidden_size\": 12}", MLXR_E_FORMAT, "a head is 3 wide"},
        {"{\"intermediate_size\": null}", MLXR_E_FORMAT, "no \"intermediate_size\""},
        {"{\"intermediate_size\": -1}", MLXR_E_FORMAT, "\"intermediate_size\" is -1"},
        {"{\"vocab_size\": null}", MLXR_E_FORMAT, "no \"vocab_size\""},
        {"{\"vocab_size\": 0}", MLXR_E_FORMAT, "\"vocab_size\" is 0"},
        {"{\"vocab_size\": 100000000}", MLXR_E_FORMAT, "\"vocab_size\" is 100000000"},
        {"{\"rms_norm_eps\": null}", MLXR_E_FORMAT, "no \"rms_norm_eps\""},
        {"{\"rms_norm_eps\": -1e-5}", MLXR_E_FORMAT, "\"rms_norm_eps\" is -1e-05"},
        {"{\"rms_norm_eps\": \"small\"}", MLXR_E_FORMAT, "\"rms_norm_eps\" is a string"},
        {"{\"max_position_embeddings\": 0}", MLXR_E_FORMAT, "\"max_position_embeddings\" is 0"},
        {"{\"max_position_embeddings\": 99999999999}", MLXR_E_FORMAT, "\"max_position_embeddings\""},
        {"{\"tie_word_embeddings\": 1}", MLXR_E_FORMAT, "\"tie_word_embeddings\" is an integer"},
        {"{\"attention_bias\": \"no\"}", MLXR_E_FORMAT, "\"attention_bias\" is a string"},
        {"{\"hidden_act\": \"gelu\"}", MLXR_E_UNSUPPORTED, "\"hidden_act\" is \"gelu\""},
        {"{\"hidden_act\": {}}", MLXR_E_FORMAT, "\"hidden_act\" is an object"},
        {"{\"partial_rotary_factor\": 0.5}", MLXR_E_UNSUPPORTED, "\"partial_rotary_factor\" is 0.5"},
        {"{\"rope_theta\": 0}", MLXR_E_FORMAT, "\"rope_theta\" is 0"},
        {"{\"rope_theta\": -5}", MLXR_E_FORMAT, "\"rope_theta\" is -5"},
        {"{\"rope_parameters\": {\"rope_theta\": 0.5}}", MLXR_E_FORMAT, "\"rope_theta\" is 0.5"},
        {"{\"rope_scaling\": 8}", MLXR_E_FORMAT, "\"rope_scaling\" is not an object"},
        {"{\"rope_scaling\": {\"type\": \"ntk\", \"factor\": 4}}", MLXR_E_UNSUPPORTED,
         "rope scaling \"ntk\" is not supported; supported: default, linear, dynamic, llama3, yarn"},
        {"{\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 4}}", MLXR_E_UNSUPPORTED,
         "rope scaling \"dynamic\" is not supported in family llama"},
        {"{\"rope_scaling\": {\"type\": 3}}", MLXR_E_FORMAT, "\"type\" is an integer"},
        {"{\"rope_scaling\": {\"type\": \"linear\"}}", MLXR_E_FORMAT, "no \"factor\""},
        {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0}}", MLXR_E_FORMAT, "\"factor\" is 0"},
        {"{\"rope_scaling\": {\"type\": \"llama3\"}}", MLXR_E_FORMAT, "no \"factor\""},
        {"{\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4}}", MLXR_E_FORMAT,
         "\"high_freq_factor\" is 4, wanted more than low_freq_factor (4)"},
        {"{\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 0}}", MLXR_E_FORMAT,
         "\"low_freq_factor\" is 0"},
        {"{\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, \"original_max_position_embeddings\": "
         "-1}}",
         MLXR_E_FORMAT, "\"original_max_position_embeddings\" is -1"},
        {"{\"rope_parameters\": {\"full_attention\": {}}}", MLXR_E_UNSUPPORTED, "for each layer type"},
        {"{\"layer_types\": {}}", MLXR_E_FORMAT,
         "\"layer_types\" is not a list of num_hidden_layers (2) names"},
        {"{\"layer_types\": [\"full_attention\"]}", MLXR_E_FORMAT, "\"layer_types\" is not a list"},
        {"{\"layer_types\": [\"full_attention\", \"mamba\"]}", MLXR_E_UNSUPPORTED,
         "\"layer_types\"[1] is \"mamba\""},
        {"{\"layer_types\": [\"full_attention\", 5]}", MLXR_E_UNSUPPORTED, "\"layer_types\"[1]"},
        {"{\"layer_types\": [\"full_attention\", \"sliding_attention\"]}", MLXR_E_FORMAT,
         "no \"sliding_window\""},
        {"{\"layer_types\": [\"full_attention\", \"sliding_attention\"], \"sliding_window\": 0}",
         MLXR_E_FORMAT, "\"sliding_window\" is 0"},
    };
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        mlxr_program *p = NULL;
        mlxr_error err = {0};
        mlxr_status st = build(&p, cases[i].change, &err);
        if (st != cases[i].status || !strstr(err.message, cases[i].text) ||
            (st != MLXR_OK && strncmp(err.message, "config.json: ", 13) != 0))
            fail_msg("%s: got %s \"%s\", wanted %s with \"%s\"", cases[i].change, mlxr_status_name(st),
                     err.message, mlxr_status_name(cases[i].status), cases[i].text);
        assert_true((p != NULL) == (st == MLXR_OK));
        mlxr_program_free(p);
    }
}

/* ---- folders ---- */

static char *fresh_dir(char *path, size_t cap)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(path, cap, "%s/mlxr_config_XXXXXX", tmp && *tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(path));
    return path;
}

static void folders_without_a_usable_config(void **state)
{
    static const struct {
        const char *text; /* of config.json; NULL: none */
        mlxr_status status;
        const char *want;
    } cases[] = {
        {NULL, MLXR_E_NOT_FOUND, "config.json"},
        {"", MLXR_E_FORMAT, "config.json"},
        {"{\"model_type\": \"llama\"", MLXR_E_FORMAT, "not valid JSON"},
        {"[]", MLXR_E_FORMAT, "not a JSON object"},
        {"{}", MLXR_E_FORMAT, "no \"model_type\"; supported: llama, mistral"},
        {"{\"model_type\": 3}", MLXR_E_FORMAT, "\"model_type\" is an integer"},
        {"{\"model_type\": \"parrot\"}", MLXR_E_UNSUPPORTED,
         "model_type \"parrot\" is not supported; supported: llama, mistral"},
        {"{\"model_type\": \"llama\"}", MLXR_E_FORMAT, "no \"hidden_size\""},
        {"{\"model_type\": \"llama\", \"hidden_size\": 32, \"num_hidden_layers\": 2, "
         "\"num_attention_heads\": 4,"
         "\"intermediate_size\": 48, \"vocab_size\": 20, \"rms_norm_eps\": 1e-5}",
         MLXR_E_NOT_FOUND, "safetensors"},
    };
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        char dir[256], *path;
        mlxr_model *m;
        mlxr_error err;
        fresh_dir(dir, sizeof dir);
        path = mlxr_path_join(dir, "config.json");
        if (cases[i].text) assert_ok(mlxr_file_write(path, cases[i].text, strlen(cases[i].text), &err), &err);
        assert_fails(mlxr_model_open(&m, dir, &err), cases[i].status, cases[i].want, &err);
        assert_null(m);
        if (cases[i].text)
            assert_fails(mlxr_model_open(&m, path, &err), MLXR_E_NOT_FOUND, "a file, wanted a folder", &err);
        remove(path);
        remove(dir);
        free(path);
    }
}

static void a_folder_that_is_not_there(void **state)
{
    mlxr_model *m;
    mlxr_error err;
    (void)state;
    assert_fails(mlxr_model_open(&m, "/nowhere/at/all", &err), MLXR_E_NOT_FOUND,
                 "/nowhere/at/all: no such folder", &err);
    assert_null(m);
    mlxr_model_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_layer_is_fifteen_operations_in_order),
        cmocka_unit_test(absent_fields_have_mlx_lms_defaults),
        cmocka_unit_test(variants_are_fields_of_operations),
        cmocka_unit_test(rope_frequencies_follow_the_config),
        cmocka_unit_test(hostile_values_are_refused_by_name),
        cmocka_unit_test(folders_without_a_usable_config),
        cmocka_unit_test(a_folder_that_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
