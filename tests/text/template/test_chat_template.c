/* Finding the chat template of a model folder, and what it is rendered with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/json.h"
#include "text/chat_template.h"

#define MODELS MLXR_TEST_DIR "/models/"

static void expect(const char *folder, const char *name, const char *context, const char *want)
{
    mlxr_chat_template *ct = NULL;
    mlxr_error err = {0};
    char *text = NULL;
    size_t n = 0;
    json_t *j = NULL;

    if (mlxr_chat_template_open(&ct, folder, &err) != MLXR_OK) fail_msg("%s", err.message);
    if (mlxr_chat_template_render_text(&text, &n, ct, context, strlen(context), name, 0, NULL, &err) !=
        MLXR_OK)
        fail_msg("%s", err.message);
    assert_string_equal(text, want);
    assert_int_equal(n, strlen(want));
    mlxr_free(text);
    assert_int_equal(mlxr_json_parse(&j, context, strlen(context), "context", NULL), MLXR_OK);
    assert_int_equal(mlxr_chat_template_render(&text, &n, ct, j, name, 0, NULL, NULL), MLXR_OK);
    assert_string_equal(text, want);
    mlxr_free(text);
    json_decref(j);
    mlxr_chat_template_close(ct);
}

static void test_files_come_first(void **state)
{
    (void)state;
    expect(MODELS "jinja", NULL, "{\"messages\": [{\"content\": \"hi\"}]}", "<s>default hi</s>False");
    expect(MODELS "jinja", NULL, "{\"messages\": [{\"content\": \"hi\"}], \"tools\": null}",
           "<s>default hi</s>False");
    expect(MODELS "jinja", NULL, "{\"messages\": [{\"content\": \"hi\"}], \"tools\": [1, 2]}", "<s>tools 2");
    expect(MODELS "jinja", "default", "{\"messages\": [{\"content\": \"hi\"}], \"tools\": [1]}",
           "<s>default hi</s>False");
    expect(MODELS "jinja", "rag", "{}", "rag None");
}

static void test_context_wins_over_special_tokens(void **state)
{
    (void)state;
    expect(MODELS "jinja", NULL,
           "{\"bos_token\": \"B\", \"eos_token\": null, \"messages\": [{\"content\": \"x\"}]}",
           "Bdefault xNoneFalse");
}

static void test_list_in_config(void **state)
{
    (void)state;
    expect(MODELS "named", NULL, "{\"messages\": [1, 2]}", "<b>d2<img><audio>");
    expect(MODELS "named", NULL, "{\"messages\": [1, 2], \"tools\": []}", "t0<pad>");
}

static void test_string_in_config(void **state)
{
    (void)state;
    expect(MODELS "string", NULL, "{\"messages\": [{\"role\": \"user\"}]}", "one user None False");
}

static void test_legacy_file(void **state)
{
    (void)state;
    expect(MODELS "legacy", NULL, "{\"messages\": []}", "legacy 0");
}

static void test_single_file(void **state)
{
    (void)state;
    expect(MODELS "jinja/chat_template.jinja", NULL, "{\"messages\": [{\"content\": \"a\"}]}",
           "default aFalse");
}

static void test_absent(void **state)
{
    mlxr_chat_template *ct = (mlxr_chat_template *)1;
    mlxr_error err = {0};
    char *text;
    size_t n;
    (void)state;
    assert_int_equal(mlxr_chat_template_open(&ct, MODELS "none", &err), MLXR_E_NOT_FOUND);
    assert_null(ct);
    assert_non_null(strstr(err.message, "chat_template.jinja"));
    assert_int_equal(mlxr_chat_template_open(&ct, MODELS "nowhere", &err), MLXR_E_NOT_FOUND);
    assert_int_equal(mlxr_chat_template_open(&ct, MODELS "nowhere", NULL), MLXR_E_NOT_FOUND);
    assert_int_equal(mlxr_chat_template_open(&ct, MODELS "jinja", &err), MLXR_OK);
    assert_int_equal(mlxr_chat_template_render_text(&text, &n, ct, "{}", 2, "nope", 0, NULL, &err),
                     MLXR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "\"rag\""));
    assert_int_equal(mlxr_chat_template_render_text(&text, &n, ct, "[]", 2, NULL, 0, NULL, NULL),
                     MLXR_E_INVALID_ARGUMENT);
    assert_int_equal(mlxr_chat_template_count(ct), 3);
    assert_string_equal(mlxr_chat_template_name(ct, 0), "default");
    assert_null(mlxr_chat_template_name(ct, 3));
    assert_string_equal(json_string_value(json_object_get(mlxr_chat_template_tokens(ct), "bos_token")),
                        "<s>");
    mlxr_chat_template_close(ct);
    mlxr_chat_template_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_come_first), cmocka_unit_test(test_context_wins_over_special_tokens),
        cmocka_unit_test(test_list_in_config),   cmocka_unit_test(test_string_in_config),
        cmocka_unit_test(test_legacy_file),      cmocka_unit_test(test_single_file),
        cmocka_unit_test(test_absent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
