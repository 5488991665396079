/* JSON values: what is read, what is refused and where, and how values compare and are written. */
#include "test.h"

#include "engine/grammar/lang.h"
#include "engine/grammar/value.h"

static mlxr_error err;

static mlxr_status parse(mlxr_value_doc *d, const char *text)
{
    return mlxr_value_parse(d, text, strlen(text), "text", &err);
}

static void writes_n(const char *text, size_t n, const char *wanted)
{
    mlxr_value_doc d;
    mlxr_buf out = {0};

    assert_ok(mlxr_value_parse(&d, text, n, "text", &err), &err);
    mlxr_value_write(&out, d.root);
    assert_string_equal(out.data, wanted);
    mlxr_buf_clear(&out);
    mlxr_value_clear(&d);
}

static void writes(const char *text, const char *wanted)
{
    writes_n(text, strlen(text), wanted);
}

static void values_are_written_in_one_form(void **state)
{
    writes(" null ", "null");
    writes("true", "true");
    writes("\tfalse\r\n", "false");
    writes("[ ]", "[]");
    writes("{ }", "{}");
    writes("[[],[[]],{}]", "[[],[[]],{}]");
    writes("[1 , -2.50,3e2, -0, -0.0, 0e9 ,1E-3, 0.10e+1]", "[1,-2.5,300,0,0,0,0.001,1]");
    writes("{\"b\" : 1, \"a\":{ \"c\":[ ] } }", "{\"b\":1,\"a\":{\"c\":[]}}");
    writes("\"\\u0000\\u001F\\b\\f\\n\\r\\t\\/\\\\\\\"\\u007f\\u00e9\\uD83D\\ude00\"",
           "\"\\u0000\\u001f\\b\\f\\n\\r\\t/\\\\\\\"\x7f\xc3\xa9\xf0\x9f\x98\x80\"");
    writes("{\"\":\"\"}", "{\"\":\"\"}");
}

static void numbers_keep_their_text(void **state)
{
    mlxr_value_doc d;

    assert_ok(parse(&d, "[1.50e1, 18446744073709551616, 1e99999, 1e-1098, 1e-1100]"), &err);
    assert_string_equal(d.root->items[0]->text, "1.50e1");
    assert_string_equal(d.root->items[0]->plain, "15");
    assert_string_equal(d.root->items[1]->plain, "18446744073709551616");
    assert_string_equal(d.root->items[2]->text, "1e99999");
    assert_null(d.root->items[2]->plain);
    assert_int_equal(strlen(d.root->items[3]->plain), 1100);
    assert_null(d.root->items[4]->plain);
    mlxr_value_clear(&d);
}

static void members_are_found(void **state)
{
    mlxr_value_doc d;
    mlxr_buf text = {0};
    char name[32];

    assert_ok(parse(&d, "\n{\"a\": 1,\n\"a\\u0000b\": \"x\\u0000y\", \"c\": [\n\n2]}"), &err);
    assert_int_equal(d.root->line, 2);
    assert_int_equal(d.root->n, 3);
    assert_string_equal(mlxr_value_get(d.root, "a")->text, "1");
    assert_int_equal(mlxr_value_get(d.root, "a")->line, 2);
    assert_int_equal(mlxr_value_get_n(d.root, "a\0b", 3)->n_text, 3);
    assert_memory_equal(mlxr_value_get_n(d.root, "a\0b", 3)->text, "x\0y", 4);
    assert_int_equal(mlxr_value_get(d.root, "c")->items[0]->line, 5);
    assert_null(mlxr_value_get(d.root, "a\\u0000b"));
    assert_null(mlxr_value_get(d.root, ""));
    assert_null(mlxr_value_get(mlxr_value_get(d.root, "a"), "a"));
    assert_null(mlxr_value_get(NULL, "a"));
    mlxr_value_clear(&d);

    /* Many, in an order that is not sorted. */
    for (int i = 0; i < 1000; i++) mlxr_buf_printf(&text, "%s\"m%d\":%d", i ? "," : "{", i * 7 % 1000, i);
    mlxr_buf_char(&text, '}');
    assert_ok(parse(&d, text.data), &err);
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "m%d", i * 7 % 1000);
        assert_int_equal(atoi(mlxr_value_get(d.root, name)->text), i);
        assert_ptr_equal(mlxr_value_get(d.root, name), d.root->items[i]);
    }
    assert_null(mlxr_value_get(d.root, "m1000"));
    assert_null(mlxr_value_get(d.root, "m"));
    assert_null(mlxr_value_get(d.root, "z"));
    mlxr_value_clear(&d);
    mlxr_buf_clear(&text);
}

static bool same(const char *a, const char *b)
{
    mlxr_value_doc x, y;
    bool equal;

    assert_ok(parse(&x, a), &err);
    assert_ok(parse(&y, b), &err);
    equal = mlxr_value_equal(x.root, y.root);
    assert_int_equal(mlxr_value_equal(y.root, x.root), equal);
    assert_true(mlxr_value_equal(x.root, x.root));
    mlxr_value_clear(&x);
    mlxr_value_clear(&y);
    return equal;
}

static void values_compare_as_schemas_do(void **state)
{
    assert_true(same("1", "1.0"));
    assert_true(same("-0", "0e5"));
    assert_true(same("100", "1e2"));
    assert_false(same("1", "1.0000000000000000000000001"));
    assert_false(same("9007199254740993", "9007199254740992"));
    assert_true(same("1e99999", "1e99999"));
    assert_false(same("1e99999", "1e99998"));
    assert_false(same("1", "\"1\""));
    assert_false(same("0", "false"));
    assert_false(same("null", "false"));
    assert_true(same("\"\\u0041\"", "\"A\""));
    assert_false(same("\"a\"", "\"a\\u0000\""));
    assert_true(same("{\"a\":1,\"b\":[1,{\"c\":2,\"d\":3}]}", "{\"b\":[1.0,{\"d\":3,\"c\":2}],\"a\":1}"));
    assert_false(same("{\"a\":1,\"b\":2}", "{\"a\":1,\"c\":2}"));
    assert_false(same("{\"a\":1}", "{\"a\":1,\"b\":2}"));
    assert_false(same("[1,2]", "[2,1]"));
    assert_false(same("[]", "{}"));
    assert_false(same("[1]", "[1,1]"));
}

static void refuses_n(const char *text, size_t n, const char *message)
{
    mlxr_value_doc d;

    assert_fails(mlxr_value_parse(&d, text, n, "text", &err), MLXR_E_FORMAT, message, &err);
    assert_null(d.root);
    assert_null(d.arena.head);
}

static void refuses(const char *text, const char *message)
{
    refuses_n(text, strlen(text), message);
}

static void what_is_no_json_is_refused(void **state)
{
    refuses("", "text: not valid JSON: line 1 column 1: the text ends too early");
    refuses("  ", "line 1 column 3: the text ends too early");
    refuses("\n\n [1,", "line 3 column 5: the text ends too early");
    refuses("[1 2]", "column 4: \",\" or \"]\" is wanted");
    refuses("[1,]", "column 4: a value is wanted");
    refuses("[,1]", "column 2: a value is wanted");
    refuses("[1}", "column 3: \",\" or \"]\" is wanted");
    refuses("{\"a\":1]", "column 7: \",\" or \"}\" is wanted");
    refuses("{\"a\":1,}", "column 8: the name of a member");
    refuses("{a:1}", "column 2: the name of a member");
    refuses("{\"a\" 1}", "column 6: \":\" is wanted");
    refuses("{\"a\":}", "column 6: a value is wanted");
    refuses("1 1", "column 3: more text behind the value");
    refuses("]", "column 1: a value is wanted");
    refuses("nul", "a value is wanted");
    refuses("nulll", "column 5: more text");
    refuses("True", "a value is wanted");
    refuses("NaN", "a value is wanted");
    refuses("'a'", "a value is wanted");
    refuses("/**/1", "a value is wanted");
    refuses("\xef\xbb\xbf"
            "1",
            "column 1: a value is wanted");
    refuses("01", "column 1: a number with a zero in front");
    refuses("-01", "column 2: a number with a zero in front");
    refuses("-", "ends too early");
    refuses("-a", "column 2: a digit is wanted");
    refuses("+1", "a value is wanted");
    refuses(".5", "a value is wanted");
    refuses("1.", "ends too early");
    refuses("[1.]", "column 4: a digit is wanted");
    refuses("[1e]", "column 4: a digit is wanted");
    refuses("[1e+]", "column 5: a digit is wanted");
    refuses("0x10", "column 2: more text");
    refuses("\"a", "column 3: the text ends too early");
    refuses("\"\\", "ends too early");
    refuses("\"a\nb\"", "line 1 column 3: a control character");
    refuses_n("\"\0\"", 3, "column 2: a control character");
    refuses_n("1\0", 2, "column 2: more text");
    refuses("\"\xc3\xa9\\x\"", "column 3: there is no such escape");
    refuses("\"\\u12g4\"", "column 2: \\u wants four");
    refuses("\"\\u12", "column 2: \\u wants four");
    refuses("\"\\ud800\"", "half a surrogate pair");
    refuses("\"\\udc00\"", "half a surrogate pair");
    refuses("\"\\ud800\\u0041\"", "half a surrogate pair");
    refuses("\"\\ud800x\\udc00\"", "half a surrogate pair");
    refuses("\"\xff\"", "line 1 column 2: not valid UTF-8");
    refuses("[\n\"\xed\xa0\x80\"]", "line 2 column 2: not valid UTF-8");
    refuses("\"\xc0\xaf\"", "not valid UTF-8");
    refuses("{\"a\":1,\"b\":2,\"\\u0061\":3}", "column 14: a second member of the same name");
    refuses("{\"1\":0,\"2\":0,\"3\":0,\"4\":0,\"5\":0,\"6\":0,\"7\":0,\"8\":0,\"9\":0,\"a\":0,\"3\":0}",
            "column 62: a second member of the same name");
}

static void depth_is_bounded(void **state)
{
    mlxr_value_doc d;
    mlxr_buf text = {0}, out = {0};

    for (int i = 0; i < MLXR_VALUE_MAX_DEPTH; i++) mlxr_buf_str(&text, i % 2 ? "{\"a\":" : "[");
    mlxr_buf_char(&text, '1');
    for (int i = MLXR_VALUE_MAX_DEPTH; i-- > 0;) mlxr_buf_char(&text, i % 2 ? '}' : ']');
    assert_ok(parse(&d, text.data), &err);
    mlxr_value_write(&out, d.root);
    assert_string_equal(out.data, text.data);
    assert_true(mlxr_value_equal(d.root, d.root));
    mlxr_value_clear(&d);
    mlxr_buf_clear(&text);
    mlxr_buf_clear(&out);
    for (int i = 0; i < 1000000; i++) mlxr_buf_char(&text, '[');
    assert_fails(parse(&d, text.data), MLXR_E_LIMIT, "column 513: nested deeper than 512", &err);
    mlxr_buf_clear(&text);
}

/* Several megabytes of few long and many short parts; each part of it is linear or nearly so. */
static void big_texts_are_read(void **state)
{
    mlxr_value_doc d;
    mlxr_buf text = {0}, out = {0};
    uint64_t from;

    mlxr_buf_char(&text, '{');
    for (int i = 0; i < 100000; i++) mlxr_buf_printf(&text, "\"name %d\":[%d,\"text\\n\",{}],", i, i);
    mlxr_buf_str(&text, "\"long\":\"");
    for (int i = 0; i < 1000000; i++) mlxr_buf_char(&text, 'x');
    mlxr_buf_str(&text, "\",\"digits\":1");
    for (int i = 0; i < 1000000; i++) mlxr_buf_char(&text, '0');
    mlxr_buf_char(&text, '}');
    from = mlxr_now_ns();
    assert_ok(parse(&d, text.data), &err);
    print_message("%zu bytes read in %.1f ms\n", text.len, (double)(mlxr_now_ns() - from) / 1e6);
    assert_null(mlxr_value_get(d.root, "digits")->plain);
    mlxr_value_write(&out, d.root);
    assert_string_equal(out.data, text.data);
    mlxr_value_clear(&d);
    mlxr_buf_clear(&text);
    mlxr_buf_clear(&out);
}

static void plain(const char *text, size_t max_digits, const char *wanted)
{
    mlxr_buf out = {0};
    bool ok;

    mlxr_buf_str(&out, "<");
    ok = mlxr_number_plain(&out, text, strlen(text), max_digits);
    if (ok != (wanted != NULL)) fail_msg("%s: %d", text, ok);
    assert_string_equal(out.data + 1, wanted ? wanted : "");
    mlxr_buf_clear(&out);
}

static void numbers_have_one_plain_form(void **state)
{
    plain("0", 1, "0");
    plain("-0", 1, "0");
    plain("0", 0, NULL);
    plain("-0.000e99999999999999999999", 1, "0");
    plain("1.50e1", 2, "15");
    plain("1.50e0", 9, "1.5");
    plain("-12.50", 9, "-12.5");
    plain("0.00120e2", 9, "0.12");
    plain("0.00120e3", 9, "1.2");
    plain("0.00120e4", 9, "12");
    plain("0.00120e5", 9, "120");
    plain("1e-7", 8, "0.0000001");
    plain("1e-7", 7, NULL);
    plain("1E+5", 6, "100000");
    plain("1e5", 5, NULL);
    plain("123456", 5, NULL);
    plain("123.456", 6, "123.456");
    plain("123.456", 5, NULL);
    plain("100000.0000000", 6, "100000");
    plain("1e999999999999999999999999", 1000, NULL);
    plain("1e-999999999999999999999999", 1000, NULL);
    plain("0.00000000000000000000000000000000000000000001e44", 1, "1");
    plain("", 9, NULL);
    plain("-", 9, NULL);
    plain("01", 9, NULL);
    plain("1.", 9, NULL);
    plain(".1", 9, NULL);
    plain("1e", 9, NULL);
    plain("1e+", 9, NULL);
    plain("+1", 9, NULL);
    plain("1 ", 9, NULL);
    plain("1.2.3", 9, NULL);
    plain("1e2.5", 9, NULL);
    plain("NaN", 9, NULL);
}

static void plain_numbers_compare(void **state)
{
    static const char *const rising[] = {
        "-1000", "-999.5", "-100", "-99.99",   "-99.9",   "-99", "-1.25", "-1.2",      "-1",  "-0.2",
        "-0.15", "-0.1",   "0",    "0.000001", "0.00001", "0.1", "0.15",  "0.2",       "1",   "1.2",
        "1.25",  "9",      "9.99", "10",       "10.01",   "99",  "100",   "100.00001", "101", "12345678"};

    for (size_t i = 0; i < MLXR_COUNT(rising); i++)
        for (size_t j = 0; j < MLXR_COUNT(rising); j++)
            assert_int_equal(mlxr_number_compare(rising[i], rising[j]), i < j ? -1 : i > j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_written_in_one_form),
        cmocka_unit_test(numbers_keep_their_text),
        cmocka_unit_test(members_are_found),
        cmocka_unit_test(values_compare_as_schemas_do),
        cmocka_unit_test(what_is_no_json_is_refused),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(big_texts_are_read),
        cmocka_unit_test(numbers_have_one_plain_form),
        cmocka_unit_test(plain_numbers_compare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
