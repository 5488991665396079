/* Recipes in YAML and JSON: what a good one comes to, where messages point, texts that are hostile. */
#include "store/recipe.h"

#include "format/temp_dir.h"
#include "store/yaml.h"
#include "test.h"

static mlxr_error err;
static mlxr_recipe recipe;

static mlxr_status parse(const char *text)
{
    err = (mlxr_error){0};
    return mlxr_recipe_parse(&recipe, text, strlen(text), "r.yaml", &err);
}

#define assert_refused(text, status, message)             \
    do {                                                  \
        assert_fails(parse(text), status, message, &err); \
        assert_null(recipe.base_repo);                    \
        assert_null(recipe.defaults);                     \
    } while (0)

/* ---- good ones ---- */

static const char whole[] = "name: team/assistant\n"
                            "version: \"1.2\"\n"
                            "base:\n"
                            "  repo: mlx-community/Qwen3-4B-4bit\n"
                            "  revision: main\n"
                            "format: mlx\n"
                            "quantization: {bits: 4, group_size: 32, mode: affine}\n"
                            "tokenizer: ./tok\n"
                            "template: |\n"
                            "  {% for m in messages %}{{ m.content }}{% endfor %}\n"
                            "system: You are short of words.\n"
                            "defaults: {temperature: 0.3, stop: [\"###\"], num_ctx: 4096, seed: -1}\n"
                            "messages: [{role: user, content: Hi}, {role: assistant, content: Hello}]\n"
                            "adapter: ./adapters\n"
                            "license: Apache-2.0\n"
                            "metadata: {team: search, year: 2025, ratio: 1.10}\n";

static void every_key(void **state)
{
    (void)state;
    assert_ok(parse(whole), &err);
    assert_string_equal(recipe.name, "team/assistant");
    assert_string_equal(recipe.version, "1.2");
    assert_string_equal(recipe.base_repo, "mlx-community/Qwen3-4B-4bit");
    assert_string_equal(recipe.base_revision, "main");
    assert_null(recipe.base_path);
    assert_string_equal(recipe.format, "mlx");
    assert_true(recipe.quantize);
    assert_string_equal(recipe.quant_mode, "affine");
    assert_int_equal(recipe.quant_bits, 4);
    assert_int_equal(recipe.quant_group_size, 32);
    assert_string_equal(recipe.tokenizer, "./tok");
    assert_string_equal(recipe.template_text, "{% for m in messages %}{{ m.content }}{% endfor %}\n");
    assert_null(recipe.template_path);
    assert_string_equal(recipe.system, "You are short of words.");
    assert_float_equal(json_number_value(json_object_get(recipe.defaults, "temperature")), 0.3, 0);
    assert_string_equal(json_string_value(json_array_get(json_object_get(recipe.defaults, "stop"), 0)),
                        "###");
    assert_int_equal(json_integer_value(json_object_get(recipe.defaults, "num_ctx")), 4096);
    assert_int_equal(json_array_size(recipe.messages), 2);
    assert_string_equal(recipe.adapter, "./adapters");
    assert_int_equal(recipe.n_licenses, 1);
    assert_string_equal(recipe.licenses[0], "Apache-2.0");
    assert_string_equal(json_string_value(json_object_get(recipe.metadata, "year")), "2025");
    assert_string_equal(json_string_value(json_object_get(recipe.metadata, "ratio")), "1.10");
    mlxr_recipe_clear(&recipe);
}

static void json_is_yaml(void **state)
{
    (void)state;
    assert_ok(
        parse(
            "{\"base\": {\"path\": \"./m\"},\n\t\"system\": \"smile \\ud83d\\ude00 \\\\ud83d \\/ \\u00e9\",\n"
            "\t\"defaults\":{\"top_k\":5,\"stop\":\"x\"}}"),
        &err);
    assert_string_equal(recipe.base_path, "./m");
    assert_string_equal(recipe.system, "smile \xf0\x9f\x98\x80 \\ud83d / \xc3\xa9");
    assert_int_equal(json_integer_value(json_object_get(recipe.defaults, "top_k")), 5);
    assert_int_equal(json_array_size(json_object_get(recipe.defaults, "stop")), 1);
    mlxr_recipe_clear(&recipe);
}

static void a_base_as_text(void **state)
{
    static const char *const paths[] = {"/m", "./m", "../m", ".", "m/", "m.gguf"};
    static const char *const names[] = {"m", "org/m:4bit", "localhost:5000/m"};
    char text[64];

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(paths); i++) {
        snprintf(text, sizeof text, "base: %s", paths[i]);
        assert_ok(parse(text), &err);
        assert_string_equal(recipe.base_path, paths[i]);
        assert_null(recipe.base_repo);
        mlxr_recipe_clear(&recipe);
    }
    for (size_t i = 0; i < MLXR_COUNT(names); i++) {
        snprintf(text, sizeof text, "base: %s", names[i]);
        assert_ok(parse(text), &err);
        assert_string_equal(recipe.base_repo, names[i]);
        assert_null(recipe.base_path);
        mlxr_recipe_clear(&recipe);
    }
}

static void quantizations(void **state)
{
    static const struct {
        const char *text, *mode;
        uint32_t bits, group_size;
    } good[] = {
        {"4bit", "affine", 4, 0},       {"6bit", "affine", 6, 0},
        {"mxfp4", "mxfp4", 0, 0},       {"none", "none", 0, 0},
        {"{bits: 8}", "affine", 8, 0},  {"{mode: nvfp4, bits: 4, group_size: 16}", "nvfp4", 4, 16},
        {"{mode: none}", "none", 0, 0}, {"{bits: 3, group_size: 128}", "affine", 3, 128},
    };
    static const char *const bad[] = {"7bit",
                                      "4bits",
                                      "{bits: 7}",
                                      "{bits: 4, group_size: 48}",
                                      "{bits: four}",
                                      "{mode: mxfp4, bits: 8}",
                                      "{mode: none, bits: 4}",
                                      "{mode: 4bit}",
                                      "[4]",
                                      "{width: 4}",
                                      "true",
                                      "{bits: 4294967300}"};
    char text[128];

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(good); i++) {
        snprintf(text, sizeof text, "base: m\nquantization: %s\n", good[i].text);
        assert_ok(parse(text), &err);
        assert_true(recipe.quantize);
        assert_string_equal(recipe.quant_mode, good[i].mode);
        assert_int_equal(recipe.quant_bits, good[i].bits);
        assert_int_equal(recipe.quant_group_size, good[i].group_size);
        mlxr_recipe_clear(&recipe);
    }
    for (size_t i = 0; i < MLXR_COUNT(bad); i++) {
        snprintf(text, sizeof text, "base: m\nquantization: %s\n", bad[i]);
        assert_refused(text, MLXR_E_FORMAT, "r.yaml:2:");
    }
}

static void aliases(void **state)
{
    (void)state;
    assert_ok(parse("base: m\nsystem: &s Be kind.\nmetadata: {said: *s}\nlicense: &l [a, b]\n"), &err);
    assert_string_equal(json_string_value(json_object_get(recipe.metadata, "said")), "Be kind.");
    mlxr_recipe_clear(&recipe);
}

/* ---- scalars ---- */

static void plain_scalars_follow_the_core_schema(void **state)
{
    static const struct {
        const char *text;
        mlxr_yaml_kind kind;
        double number;
    } cases[] = {
        {"null", MLXR_YAML_NULL, 0},
        {"~", MLXR_YAML_NULL, 0},
        {"true", MLXR_YAML_BOOL, 1},
        {"FALSE", MLXR_YAML_BOOL, 0},
        {"yes", MLXR_YAML_TEXT, 0},
        {"no", MLXR_YAML_TEXT, 0},
        {"on", MLXR_YAML_TEXT, 0},
        {"tRue", MLXR_YAML_TEXT, 0},
        {"12", MLXR_YAML_INT, 12},
        {"-12", MLXR_YAML_INT, -12},
        {"+3", MLXR_YAML_INT, 3},
        {"0777", MLXR_YAML_INT, 777},
        {"0o17", MLXR_YAML_INT, 15},
        {"0xfF", MLXR_YAML_INT, 255},
        {"0x", MLXR_YAML_TEXT, 0},
        {"-0x1", MLXR_YAML_TEXT, 0},
        {"1.5", MLXR_YAML_REAL, 1.5},
        {".5", MLXR_YAML_REAL, .5},
        {"5.", MLXR_YAML_REAL, 5},
        {"1e3", MLXR_YAML_REAL, 1000},
        {"-1.5E-1", MLXR_YAML_REAL, -.15},
        {".", MLXR_YAML_TEXT, 0},
        {"1e", MLXR_YAML_TEXT, 0},
        {"1_000", MLXR_YAML_TEXT, 0},
        {"12:30", MLXR_YAML_TEXT, 0},
        {"'12'", MLXR_YAML_TEXT, 0},
        {"\"true\"", MLXR_YAML_TEXT, 0},
        {"!!str 12", MLXR_YAML_TEXT, 0},
        {"2025-01-01", MLXR_YAML_TEXT, 0},
        {"nan", MLXR_YAML_TEXT, 0},
        {"18446744073709551616", MLXR_YAML_REAL, 18446744073709551616.0},
    };

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        mlxr_arena arena = {0};
        mlxr_yaml *node;
        assert_ok(mlxr_yaml_parse(&node, &arena, cases[i].text, strlen(cases[i].text), "t", &err), &err);
        if (node->kind != cases[i].kind)
            fail_msg("%s is %s, wanted %s", cases[i].text, mlxr_yaml_kind_name(node->kind),
                     mlxr_yaml_kind_name(cases[i].kind));
        if (node->kind == MLXR_YAML_BOOL) assert_int_equal(node->boolean, cases[i].number);
        if (node->kind == MLXR_YAML_INT) assert_int_equal(node->integer, (int64_t)cases[i].number);
        if (node->kind == MLXR_YAML_REAL) assert_float_equal(node->real, cases[i].number, 0);
        mlxr_arena_clear(&arena);
    }
}

static void texts_are_asked_for_as_texts(void **state)
{
    (void)state;
    assert_refused("base: m\nsystem: 5\n", MLXR_E_FORMAT,
                   "r.yaml:2:9: \"system\" is a number, wanted a text");
    assert_refused("base: m\nsystem: true\n", MLXR_E_FORMAT, "r.yaml:2:9: \"system\" is a boolean");
    assert_refused("base: m\ndefaults: {temperature: \"0.3\"}\n", MLXR_E_FORMAT,
                   "r.yaml:2:25: the parameter temperature wants a number from 0 to 100");
    assert_ok(parse("base: m\nsystem: yes\nadapter:\n"), &err);
    assert_string_equal(recipe.system, "yes");
    assert_null(recipe.adapter);
    mlxr_recipe_clear(&recipe);
}

/* ---- faults and their places ---- */

static void messages_have_places(void **state)
{
    static const struct {
        const char *text, *message;
        mlxr_status status;
    } cases[] = {
        {"", "r.yaml:1:1: there is nothing in it", MLXR_E_FORMAT},
        {"# nothing\n", "r.yaml:1:1: there is nothing in it", MLXR_E_FORMAT},
        {"- a\n", "r.yaml:1:1: a recipe is a map, and this is a list", MLXR_E_FORMAT},
        {"system: x\n", "r.yaml:1:1: a recipe wants a \"base\"", MLXR_E_FORMAT},
        {"base:\nsystem: x\n", "a recipe wants a \"base\"", MLXR_E_FORMAT},
        {"base: m\nsystme: x\n", "r.yaml:2:1: there is no key \"systme\" in a recipe", MLXR_E_FORMAT},
        {"base: m\nsystem: a\nsystem: b\n", "r.yaml:3:1: the key \"system\" is there twice, first in line 2",
         MLXR_E_FORMAT},
        {"base: {repo: a, path: b}\n", "r.yaml:1:7: \"base\" has both", MLXR_E_FORMAT},
        {"base: {}\n", "r.yaml:1:7: \"base\" has neither", MLXR_E_FORMAT},
        {"base: {path: a, revision: b}\n", "r.yaml:1:27: \"revision\" is of a \"repo\"", MLXR_E_FORMAT},
        {"base: {repo: a, branch: b}\n", "r.yaml:1:17: there is no key \"branch\" in \"base\"",
         MLXR_E_FORMAT},
        {"base: [m]\n", "r.yaml:1:7: \"base\" is a list", MLXR_E_FORMAT},
        {"base: m\nname: ../x\n", "r.yaml:2:7:", MLXR_E_FORMAT},
        {"base: m\nformat: onnx\n", "r.yaml:2:9: \"format\" wants mlx or gguf", MLXR_E_FORMAT},
        {"base: m\ndefaults:\n  heat: 1\n", "r.yaml:3:3: there is no parameter \"heat\"", MLXR_E_FORMAT},
        {"base: m\ndefaults:\n  top_p: 2\n", "r.yaml:3:10: the parameter top_p wants a number from 0 to 1",
         MLXR_E_FORMAT},
        {"base: m\ndefaults: {stop: ['']}\n", "the parameter stop wants a text that is not empty",
         MLXR_E_FORMAT},
        {"base: m\ndefaults: {top_k: 1.5}\n", "the parameter top_k wants a whole number", MLXR_E_FORMAT},
        {"base: m\ndefaults: {top_k: .inf}\n", "r.yaml:2:19: a number that is infinite", MLXR_E_FORMAT},
        {"base: m\ndefaults: {top_k: 1e999}\n", "r.yaml:2:19: a number that is infinite", MLXR_E_FORMAT},
        {"base: m\nmessages: [{role: robot, content: x}]\n", "r.yaml:2:19: the role \"robot\"",
         MLXR_E_FORMAT},
        {"base: m\nmessages: [{role: user}]\n", "r.yaml:2:12: a message wants \"role\" and \"content\"",
         MLXR_E_FORMAT},
        {"base: m\nmessages: hi\n", "\"messages\" is a text, wanted a list", MLXR_E_FORMAT},
        {"base: m\nlicense: []\nmetadata: {a: {}}\n", "r.yaml:3:15: \"a\" is a map, wanted a text",
         MLXR_E_FORMAT},
        {"base: m\ntemplate: '{{ .Prompt }}'\n", "r.yaml:2:11: a template in Go's language",
         MLXR_E_UNSUPPORTED},
        {"base: m\n---\nbase: n\n", "r.yaml:2:1: a second document", MLXR_E_FORMAT},
        {"base: !!int 5\n", "r.yaml:1:7: a tag", MLXR_E_FORMAT},
        {"base: *x\n", "r.yaml:1:7: there is no anchor \"&x\"", MLXR_E_FORMAT},
        {"base: m\nmetadata: &x {a: *x}\n", "r.yaml:2:18: an alias inside", MLXR_E_FORMAT},
        {"? [a]\n: b\n", "a key that is a list or a map", MLXR_E_FORMAT},
        {"base: m\n\tsystem: x\n", "r.yaml:2:1: no valid YAML", MLXR_E_FORMAT},
        {"base: 'm\n", "no valid YAML", MLXR_E_FORMAT},
        {"base: m\nsystem: a\xff\n", "r.yaml:2:10: the byte 0xff is no UTF-8", MLXR_E_FORMAT},
        {"base: m\nsystem: \xc3\xa9\x01\n", "r.yaml:2:10: the character U+0001", MLXR_E_FORMAT},
        {"base: m\nsystem: \"a\\0b\"\n", "r.yaml:2:9: a text with a NUL", MLXR_E_FORMAT},
        {"{\"base\": \"\\ud83d\"}", "no valid YAML", MLXR_E_FORMAT},
    };

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++)
        assert_refused(cases[i].text, cases[i].status, cases[i].message);
    assert_fails(mlxr_recipe_parse(&recipe, "base: m\0", 8, "r.yaml", &err), MLXR_E_FORMAT,
                 "r.yaml:1:8: the character U+0000", &err);
}

static size_t n_faults;
static void on_fault(const char *message, void *ud)
{
    assert_ptr_equal(ud, &n_faults);
    assert_non_null(strstr(message, n_faults == 0   ? "r.yaml:2:1: there is no key"
                                    : n_faults == 1 ? "r.yaml:3:9:"
                                    : n_faults == 2 ? "r.yaml:4:25:"
                                                    : "r.yaml:4:29:"));
    n_faults++;
}

static void every_fault_is_told(void **state)
{
    static const char text[] = "base: m\nsystme: x\nsystem: 5\ndefaults: {temperature: -1, heat: 5}\n";

    (void)state;
    n_faults = 0;
    assert_fails(mlxr_recipe_parse_with(&recipe, text, strlen(text), "r.yaml", on_fault, &n_faults, &err),
                 MLXR_E_FORMAT, "r.yaml:2:1", &err);
    assert_int_equal(n_faults, 4);
}

/* ---- hostile ---- */

static void laughs(void **state)
{
    mlxr_buf b = {0};

    (void)state;
    mlxr_buf_str(&b, "metadata:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for (int i = 1; i < 12; i++) {
        mlxr_buf_printf(&b, "  a%d: &a%d [", i, i);
        for (int k = 0; k < 10; k++) mlxr_buf_printf(&b, "%s*a%d", k ? ", " : "", i - 1);
        mlxr_buf_str(&b, "]\n");
    }
    assert_refused(b.data, MLXR_E_LIMIT, "more than 10000 values, aliases counted out");
    /* few nodes, much text */
    b.len = 0;
    mlxr_buf_str(&b, "base: m\nsystem: &s \"");
    for (int i = 0; i < 1 << 20; i++) mlxr_buf_char(&b, 'x');
    mlxr_buf_str(&b, "\"\nlicense: [*s, *s, *s, *s, *s]\n");
    assert_refused(b.data, MLXR_E_LIMIT, "bytes of text, aliases counted out");
    mlxr_buf_clear(&b);
}

static void depth_and_size(void **state)
{
    static const char *const openings[] = {"[", "{a: ", "- ", "? "};
    mlxr_buf b = {0};

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(openings); i++) {
        b.len = 0;
        for (int k = 0; k < 100000; k++) mlxr_buf_str(&b, openings[i]);
        assert_refused(b.data, MLXR_E_LIMIT, "nested deeper than 32 levels");
    }
    b.len = 0;
    mlxr_buf_str(&b, "base: m\nmetadata:\n");
    for (int k = 0; k < 10001; k++) mlxr_buf_printf(&b, "  k%d: x\n", k);
    assert_refused(b.data, MLXR_E_LIMIT, "more than 10000 values");
    b.len = 0;
    mlxr_buf_str(&b, "base: m\nsystem: ");
    for (int k = 0; k < MLXR_RECIPE_MAX_BYTES - 20; k++) mlxr_buf_char(&b, 'x');
    assert_ok(parse(b.data), &err); /* a huge text that fits is a text */
    assert_int_equal(strlen(recipe.system), MLXR_RECIPE_MAX_BYTES - 20);
    mlxr_recipe_clear(&recipe);
    for (int k = 0; k < 20; k++) mlxr_buf_char(&b, 'x');
    assert_refused(b.data, MLXR_E_LIMIT, "and a recipe has 4194304 at most");
    mlxr_buf_clear(&b);
}

/* ---- files and mlxr.json ---- */

static void licenses_from_files(void **state)
{
    static const char text[] = "base: m\nlicense: [Apache-2.0, LICENSE, ./missing.txt]\n";
    static const char good[] = "base: m\nlicense: [Apache-2.0, LICENSE]\n";

    (void)state;
    assert_ok(mlxr_file_write(temp_path("LICENSE"), "All of it.\n", 11, &err), &err);
    assert_ok(mlxr_file_write(temp_path("r.yaml"), good, strlen(good), &err), &err);
    assert_ok(mlxr_recipe_read(&recipe, temp_path("r.yaml"), &err), &err);
    assert_int_equal(recipe.n_licenses, 2);
    assert_string_equal(recipe.licenses[0], "Apache-2.0");
    assert_string_equal(recipe.licenses[1], "All of it.\n");
    mlxr_recipe_clear(&recipe);
    assert_ok(mlxr_file_write(temp_path("r.yaml"), text, strlen(text), &err), &err);
    assert_fails(mlxr_recipe_read(&recipe, temp_path("r.yaml"), &err), MLXR_E_NOT_FOUND, "missing.txt", &err);
    assert_fails(mlxr_recipe_read(&recipe, temp_path("no.yaml"), &err), MLXR_E_NOT_FOUND, "no.yaml", &err);
    assert_ok(mlxr_file_write(temp_path("Modelfile"), "# x\n\n  from m\n", 14, &err), &err);
    assert_ok(mlxr_recipe_read(&recipe, temp_path("Modelfile"), &err), &err);
    assert_string_equal(recipe.base_repo, "m");
    mlxr_recipe_clear(&recipe);
}

static void folder_json(void **state)
{
    mlxr_buf out = {0};

    (void)state;
    assert_ok(parse(whole), &err);
    assert_ok(mlxr_recipe_folder_json(&out, &recipe, &err), &err);
    assert_non_null(strstr(out.data, "\"temperature\": 0.3"));
    assert_non_null(strstr(out.data, "\"mlxr\": 1"));
    assert_non_null(strstr(out.data, "\"system\": \"You are short of words.\""));
    assert_null(strstr(out.data, "Qwen3"));
    mlxr_recipe_clear(&recipe);
    mlxr_buf_clear(&out);
    assert_ok(parse("base: m\nlicense: MIT\nmetadata: {}\n"), &err);
    assert_ok(mlxr_recipe_folder_json(&out, &recipe, &err), &err);
    assert_int_equal(out.len, 0);
    mlxr_recipe_clear(&recipe);
}

static void parameters_by_name(void **state)
{
    json_t *v = json_string("0.5");

    (void)state;
    assert_null(mlxr_recipe_check_parameter("temperature", &v));
    assert_float_equal(json_real_value(v), 0.5, 0);
    json_decref(v);
    v = json_string("99");
    assert_null(mlxr_recipe_check_parameter("num_gpu", &v));
    assert_null(v); /* passed over */
    v = json_real(4.0);
    assert_null(mlxr_recipe_check_parameter("top_k", &v));
    assert_true(json_is_integer(v));
    assert_string_equal(mlxr_recipe_check_parameter("heat", &v), "is no parameter");
    assert_string_equal(mlxr_recipe_check_parameter("overflow", &v), "\"error\", \"truncate\" or \"shift\"");
    assert_non_null(mlxr_recipe_check_parameter("stop", &v));
    json_decref(v);
    v = json_string("inf");
    assert_non_null(mlxr_recipe_check_parameter("temperature", &v));
    json_decref(v);
    v = json_string("5=x");
    assert_non_null(mlxr_recipe_check_parameter("logit_bias", &v));
    json_decref(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key),
        cmocka_unit_test(json_is_yaml),
        cmocka_unit_test(a_base_as_text),
        cmocka_unit_test(quantizations),
        cmocka_unit_test(aliases),
        cmocka_unit_test(plain_scalars_follow_the_core_schema),
        cmocka_unit_test(texts_are_asked_for_as_texts),
        cmocka_unit_test(messages_have_places),
        cmocka_unit_test(every_fault_is_told),
        cmocka_unit_test(laughs),
        cmocka_unit_test(depth_and_size),
        cmocka_unit_test_setup_teardown(licenses_from_files, temp_dir_make, temp_dir_remove),
        cmocka_unit_test(folder_json),
        cmocka_unit_test(parameters_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
