/* The tools of a request: both forms, what their arguments become, and every way to be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/grammar/tool_list.h"

static void test_forms(void **state)
{
    static const char json[] =
        "[{\"type\":\"function\",\"function\":{\"name\":\"a\",\"description\":\"x\",\"strict\":true,"
        "\"parameters\":{\"type\":\"object\",\"properties\":{}}}},"
        "{\"name\":\"b\",\"parameters\":{\"properties\":{\"x\":{\"type\":\"string\"}}}},"
        "{\"type\":\"function\",\"name\":\"c\"},"
        "{\"type\":null,\"function\":{\"name\":\"d\",\"parameters\":null}},"
        "{\"name\":\"e\",\"parameters\":{}},"
        "{\"name\":\"f\",\"parameters\":{\"type\":[\"null\",\"object\"],\"title\":\"t\"}}]";
    mlxr_tool_list l;
    mlxr_error err;
    const mlxr_value *type;

    assert_int_equal(mlxr_tool_list_read(&l, json, &err), MLXR_OK);
    assert_int_equal(l.n, 6);
    assert_string_equal(l.tools[0].name, "a");
    assert_string_equal(l.tools[0].label, "tools[0].function.parameters");
    assert_string_equal(l.tools[1].label, "tools[1].parameters");
    /* The type that was left open, or open to more, is closed. */
    type = mlxr_value_get(l.tools[1].parameters, "type");
    assert_non_null(type);
    assert_string_equal(type->text, "object");
    assert_non_null(mlxr_value_get(l.tools[1].parameters, "properties"));
    assert_null(l.tools[2].parameters);
    assert_null(l.tools[3].parameters);
    assert_null(l.tools[4].parameters);
    type = mlxr_value_get(l.tools[5].parameters, "type");
    assert_int_equal(type->type, MLXR_VALUE_STRING);
    assert_int_equal(l.tools[5].parameters->n, 2);
    assert_ptr_equal(mlxr_tool_list_find(&l, "c"), &l.tools[2]);
    assert_null(mlxr_tool_list_find(&l, "g"));
    mlxr_tool_list_clear(&l);
    mlxr_tool_list_clear(&l);
}

static void test_same_name(void **state)
{
    mlxr_tool_list l;
    mlxr_error err;
    assert_int_equal(
        mlxr_tool_list_read(&l,
                            "[{\"name\":\"a\",\"parameters\":{\"type\":\"object\",\"maxProperties\":1.0}},"
                            "{\"name\":\"a\",\"parameters\":{\"maxProperties\":1,\"type\":\"object\"}}]",
                            &err),
        MLXR_OK);
    assert_int_equal(l.n, 1);
    mlxr_tool_list_clear(&l);
}

static void test_wrong(void **state)
{
    static const struct {
        const char *json;
        mlxr_status st;
        const char *message;
    } cases[] = {
        {"{}", MLXR_E_FORMAT, "tools: found an object"},
        {"[", MLXR_E_FORMAT, "tools"},
        {"[1]", MLXR_E_FORMAT, "tools[0]: found a number"},
        {"[{\"name\":\"a\"},{}]", MLXR_E_FORMAT, "tools[1].name: found nothing"},
        {"[{\"name\":7}]", MLXR_E_FORMAT, "tools[0].name: found a number"},
        {"[{\"function\":{\"name\":7}}]", MLXR_E_FORMAT, "tools[0].function.name: found a number"},
        {"[{\"function\":[]}]", MLXR_E_FORMAT, "tools[0].function: found a list"},
        {"[{\"name\":\"\"}]", MLXR_E_FORMAT, "tools[0].name"},
        {"[{\"name\":\"a\\u0000\"}]", MLXR_E_FORMAT, "tools[0].name"},
        {"[{\"type\":\"web_search\"}]", MLXR_E_UNSUPPORTED, "tools[0].type: found \"web_search\""},
        {"[{\"name\":\"a\"},{\"name\":\"a\",\"parameters\":{\"type\":\"object\"}}]", MLXR_E_FORMAT,
         "tools[1]: the name \"a\" is that of tools[0]"},
        {"[{\"name\":\"a\",\"parameters\":[]}]", MLXR_E_FORMAT, "tools[0].parameters: found a list"},
        {"[{\"name\":\"a\",\"parameters\":false}]", MLXR_E_FORMAT, "tools[0].parameters: found false"},
        {"[{\"name\":\"a\",\"parameters\":{\"type\":\"string\"}}]", MLXR_E_FORMAT,
         "tools[0].parameters#/type"},
        {"[{\"name\":\"a\",\"parameters\":{\"type\":[\"string\"]}}]", MLXR_E_FORMAT,
         "tools[0].parameters#/type"},
        {"[{\"name\":\"a\",\"name\":\"b\"}]", MLXR_E_FORMAT, "tools"},
    };
    mlxr_tool_list l;
    mlxr_error err;

    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        mlxr_status st = mlxr_tool_list_read(&l, cases[i].json, &err);
        if (st != cases[i].st || !strstr(err.message, cases[i].message))
            print_message("%s: %s\n", cases[i].json, st ? err.message : "no error");
        assert_int_equal(st, cases[i].st);
        assert_non_null(strstr(err.message, cases[i].message));
        assert_int_equal(l.n, 0);
    }
}

static void test_many(void **state)
{
    for (int n = 512; n <= 513; n++) {
        mlxr_buf b = {0};
        mlxr_tool_list l;
        mlxr_error err;
        for (int i = 0; i < n; i++) mlxr_buf_printf(&b, "%s{\"name\":\"t%d\"}", i ? "," : "[", i);
        mlxr_buf_str(&b, "]");
        assert_int_equal(mlxr_tool_list_read(&l, b.data, &err), n == 512 ? MLXR_OK : MLXR_E_LIMIT);
        assert_int_equal(l.n, n == 512 ? 512 : 0);
        mlxr_tool_list_clear(&l);
        mlxr_buf_clear(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_same_name),
        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
