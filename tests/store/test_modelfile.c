/* Modelfiles: instructions, quotes, faults and their places, and written ones read again. */
#include "store/recipe.h"
#include "test.h"

static mlxr_error err;
static mlxr_recipe recipe;

static mlxr_status parse(const char *text)
{
    err = (mlxr_error){0};
    return mlxr_modelfile_parse(&recipe, text, strlen(text), "Modelfile", &err);
}

static void every_instruction(void **state)
{
    (void)state;
    assert_ok(parse("# a comment\r\n"
                    "\n"
                    "FROM llama3.2:1b\r\n"
                    "  parameter temperature 0.7\n"
                    "PARAMETER stop \"<|im_end|>\"\n"
                    "Parameter Stop x # no comment\n"
                    "PARAMETER num_ctx 4096\n"
                    "PARAMETER num_gpu 99\n"
                    "PARAMETER use_mmap true\n"
                    "PARAMETER temperature 0.8\n"
                    "TEMPLATE \"\"\"{% for m in messages %}\n"
                    "{{ m.content }}{% endfor %}\"\"\"\n"
                    "SYSTEM first\n"
                    "SYSTEM \"\"\"\n"
                    "You said \"hi\".\n"
                    "# no comment\n"
                    "\"\"\"\n"
                    "ADAPTER ./lora\n"
                    "LICENSE MIT\n"
                    "LICENSE \"\"\"Two\n\nlines\"\"\"\n"
                    "MESSAGE user Is \"it\" warm?\n"
                    "MESSAGE assistant \"yes,\n"
                    "it is\"\n"
                    "REQUIRES 0.14.0\n"),
              &err);
    assert_string_equal(recipe.base_repo, "llama3.2:1b");
    assert_float_equal(json_number_value(json_object_get(recipe.defaults, "temperature")), 0.8, 0);
    assert_int_equal(json_integer_value(json_object_get(recipe.defaults, "num_ctx")), 4096);
    assert_null(json_object_get(recipe.defaults, "num_gpu"));
    assert_string_equal(recipe.template_text, "{% for m in messages %}\n{{ m.content }}{% endfor %}");
    assert_string_equal(recipe.system, "\nYou said \"hi\".\n# no comment\n");
    assert_string_equal(recipe.adapter, "./lora");
    assert_int_equal(recipe.n_licenses, 2);
    assert_string_equal(recipe.licenses[1], "Two\n\nlines");
    assert_int_equal(json_array_size(recipe.messages), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(recipe.messages, 0), "content")),
                        "Is \"it\" warm?");
    assert_string_equal(json_string_value(json_object_get(json_array_get(recipe.messages, 1), "content")),
                        "yes,\nit is");
    mlxr_recipe_clear(&recipe);
}

static void names_of_parameters_have_small_letters(void **state)
{
    (void)state;
    assert_ok(parse("FROM m\nPARAMETER STOP a\nPARAMETER stop b\n"), &err);
    assert_int_equal(json_array_size(json_object_get(recipe.defaults, "stop")), 2);
    mlxr_recipe_clear(&recipe);
}

static void values(void **state)
{
    static const struct {
        const char *text, *system;
    } cases[] = {
        {"FROM m\nSYSTEM   a b  \n", "a b"},
        {"FROM m\nSYSTEM \"\"\n", ""},
        {"FROM m\nSYSTEM \"\"\"\"\"\"\n", ""},
        {"FROM m\nSYSTEM \"\"\"a\"\"\"  \n", "a"},
        {"FROM m\nSYSTEM \"a\"b\"\n", "a\"b"},
        {"FROM m\nSYSTEM \"\"\"a\"\"\" b\n\"\"\"\n", "a\"\"\" b\n"},
        {"FROM m\nSYSTEM \"\"\"a\"\"\"\"\n", "a\""},
        {"FROM m\nSYSTEM \" a \"\n", " a "},
        {"FROM m\nSYSTEM a\\nb", "a\\nb"},
    };

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        assert_ok(parse(cases[i].text), &err);
        assert_string_equal(recipe.system, cases[i].system);
        mlxr_recipe_clear(&recipe);
    }
}

static void faults(void **state)
{
    static const struct {
        const char *text, *message;
        mlxr_status status;
    } cases[] = {
        {"", "Modelfile:1:1: a Modelfile wants a FROM", MLXR_E_FORMAT},
        {"SYSTEM x\n", "a Modelfile wants a FROM", MLXR_E_FORMAT},
        {"FROM a\nFROM b\n", "Modelfile:2:6: FROM is there twice, first in line 1", MLXR_E_FORMAT},
        {"FROM a\n\n COPY b\n", "Modelfile:3:2: there is no instruction \"COPY\"", MLXR_E_FORMAT},
        {"FROM\n", "Modelfile:1:1: FROM wants a value", MLXR_E_FORMAT},
        {"FROM a\nSYSTEM   \n", "Modelfile:2:1: SYSTEM wants a value", MLXR_E_FORMAT},
        {"FROM a\nPARAMETER top_k\n", "Modelfile:2:1: PARAMETER wants a word and a value", MLXR_E_FORMAT},
        {"FROM a\nPARAMETER top_k many\n", "Modelfile:2:17: the parameter top_k wants a whole number",
         MLXR_E_FORMAT},
        {"FROM a\nPARAMETER top_p 1.01\n", "Modelfile:2:17: the parameter top_p wants a number from 0 to 1",
         MLXR_E_FORMAT},
        {"FROM a\nPARAMETER heat 1\n", "Modelfile:2:16: there is no parameter \"heat\"", MLXR_E_FORMAT},
        {"FROM a\nPARAMETER stop \"\"\n", "PARAMETER has an empty value", MLXR_E_FORMAT},
        {"FROM a\nMESSAGE robot x\n", "Modelfile:2:15: the role \"robot\"", MLXR_E_FORMAT},
        {"FROM a\nSYSTEM \"\"\"b\nc\n", "Modelfile:2:8: no line from here on ends with the closing \"\"\"",
         MLXR_E_FORMAT},
        {"FROM a\nSYSTEM \"b\nc\n", "Modelfile:2:8: no line from here on ends with the closing \" of",
         MLXR_E_FORMAT},
        {"FROM a\nSYSTEM \xc3\xa9 \xc3(\n", "Modelfile:2:10: the byte 0xc3 is no UTF-8", MLXR_E_FORMAT},
        {"FROM a\nTEMPLATE {{ .Prompt }}\n", "Modelfile:2:10: a template in Go's language",
         MLXR_E_UNSUPPORTED},
        {"FROM a\nTEMPLATE \"\"\"{{- if .System }}x{{ end }}\"\"\"\n", "in Go's language",
         MLXR_E_UNSUPPORTED},
        {"FROM a\nTEMPLATE \"\"\"\n{{ range $i, $_ := .Messages }}x{{ end }}\"\"\"\n", "in Go's language",
         MLXR_E_UNSUPPORTED},
        {"FROM a\nTEMPLATE {{ end }}\n", "in Go's language", MLXR_E_UNSUPPORTED},
        {"FROM a\nTEMPLATE {{ $last }}\n", "in Go's language", MLXR_E_UNSUPPORTED},
    };
    static const char *const jinja[] = {"{{ messages[0].content }}", "{{ ending }}",
                                        "{{- 'a' if x else 'b' -}}", "{% if x %}{{ end }}{% endif %}",
                                        "{{ if_true }}"};
    char text[128];

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++)
        assert_fails(parse(cases[i].text), cases[i].status, cases[i].message, &err);
    for (size_t i = 0; i < MLXR_COUNT(jinja); i++) {
        snprintf(text, sizeof text, "FROM a\nTEMPLATE %s\n", jinja[i]);
        assert_ok(parse(text), &err);
        assert_string_equal(recipe.template_text, jinja[i]);
        mlxr_recipe_clear(&recipe);
    }
    assert_fails(mlxr_modelfile_parse(&recipe, "FROM a\0b", 8, "Modelfile", &err), MLXR_E_FORMAT,
                 "Modelfile:1:7: the character U+0000", &err);
}

static void limits(void **state)
{
    mlxr_buf b = {0};

    (void)state;
    mlxr_buf_str(&b, "FROM a\n");
    for (int i = 0; i < 65; i++) mlxr_buf_printf(&b, "PARAMETER stop x%d\n", i);
    assert_fails(parse(b.data), MLXR_E_LIMIT, "Modelfile:66:16: the parameter stop has more than 64 texts",
                 &err);
    b.len = 0;
    mlxr_buf_str(&b, "FROM a\nSYSTEM \"\"\"");
    for (int i = 0; i < 1 << 21; i++)
        mlxr_buf_str(&b, " \n"); /* takes time in square when it is done wrong */
    assert_fails(parse(b.data), MLXR_E_LIMIT, "and a Modelfile has 4194304 at most", &err);
    b.data[b.len - 100] = '\0';
    assert_fails(parse(b.data), MLXR_E_FORMAT, "no line from here on", &err);
    mlxr_buf_clear(&b);
}

static void what_is_written_is_read(void **state)
{
    static const char yaml[] =
        "base: m\n"
        "system: \"  two\\nlines \\\"quoted\\\"\"\n"
        "template: \"{{ '\\n' }}\\n\"\n"
        "adapter: ./a\n"
        "license: ['\"', 'x']\n"
        "defaults: {stop: [' a', \"b\\nc\"], temperature: 0.1, seed: 5, logit_bias: 5=-inf}\n"
        "messages: [{role: user, content: ''}, {role: assistant, content: \"a\\n\"}]\n";
    mlxr_recipe again;
    mlxr_buf out = {0}, second = {0};

    (void)state;
    assert_ok(mlxr_recipe_parse(&recipe, yaml, strlen(yaml), "r.yaml", &err), &err);
    assert_ok(mlxr_modelfile_write(&out, &recipe, "other:tag", &err), &err);
    assert_ok(mlxr_modelfile_parse(&again, out.data, out.len, "written", &err), &err);
    assert_string_equal(again.base_repo, "other:tag");
    assert_string_equal(again.system, recipe.system);
    assert_string_equal(again.template_text, recipe.template_text);
    assert_int_equal(again.n_licenses, 2);
    assert_string_equal(again.licenses[0], "\"");
    assert_true(json_equal(again.defaults, recipe.defaults));
    assert_true(json_equal(again.messages, recipe.messages));
    assert_ok(mlxr_modelfile_write(&second, &again, "other:tag", &err), &err);
    assert_string_equal(second.data, out.data);
    mlxr_recipe_clear(&again);
    free(recipe.system);
    recipe.system = mlxr_strdup("a\n\"\"\"\nb");
    assert_fails(mlxr_modelfile_write(&out, &recipe, "m", &err), MLXR_E_UNSUPPORTED, "three double quotes",
                 &err);
    mlxr_recipe_clear(&recipe);
    mlxr_buf_clear(&out);
    mlxr_buf_clear(&second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_instruction),
        cmocka_unit_test(names_of_parameters_have_small_letters),
        cmocka_unit_test(values),
        cmocka_unit_test(faults),
        cmocka_unit_test(limits),
        cmocka_unit_test(what_is_written_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
