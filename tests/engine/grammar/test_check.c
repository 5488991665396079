/* The check of values against a grammar made by hand: orders of members, where what does not fit is told, and bounds. */
#include "test.h"

#include "engine/grammar/schema.h"

static mlxr_error err;

static mlxr_expr text(mlxr_grammar_builder *b, const char *s)
{
    return mlxr_gb_text(b, s, strlen(s));
}
#define SEQ(b, ...)                                  \
    mlxr_gb_seq(b, (const mlxr_expr[]){__VA_ARGS__}, \
                sizeof((const mlxr_expr[]){__VA_ARGS__}) / sizeof(mlxr_expr))
#define ALT(b, ...)                                  \
    mlxr_gb_alt(b, (const mlxr_expr[]){__VA_ARGS__}, \
                sizeof((const mlxr_expr[]){__VA_ARGS__}) / sizeof(mlxr_expr))

static mlxr_expr digits(mlxr_grammar_builder *b, size_t min, size_t max)
{
    const mlxr_char_range range = {'0', '9'};
    mlxr_dfa *d;

    assert_ok(mlxr_dfa_ranges(&d, &range, 1, &err), &err);
    return mlxr_gb_repeat(b, mlxr_gb_dfa(b, d), min, max);
}

static mlxr_schema_checker *finish(mlxr_grammar_builder *b, mlxr_rule root)
{
    mlxr_schema_checker *c;
    mlxr_grammar *g;

    assert_ok(mlxr_grammar_finish(&g, b, root, &err), &err);
    mlxr_grammar_builder_free(b);
    assert_ok(mlxr_schema_checker_create(&c, g, &err), &err);
    mlxr_grammar_unref(g);
    return c;
}

/* value = {"a": NN[N], "b": "x" or "yes" (may be missing)}
 *       | {"c": value, "a": true}
 *       | [value, ... up to three]
 *       | a string of two to four characters
 *       | 1.5 */
static mlxr_schema_checker *values(void)
{
    static const mlxr_text order_ab[] = {{"a", 1}, {"b", 1}}, order_ca[] = {{"c", 1}, {"a", 1}};
    mlxr_grammar_builder *b;
    mlxr_rule value, ab, ca, list;

    assert_ok(mlxr_grammar_builder_create(&b, NULL, &err), &err);
    value = mlxr_gb_rule(b, "value");
    ab = mlxr_gb_rule(b, "ab");
    ca = mlxr_gb_rule(b, "ca");
    list = mlxr_gb_rule(b, "list");
    mlxr_gb_define(
        b, ab,
        SEQ(b, text(b, "{\"a\":"), digits(b, 2, 3),
            mlxr_gb_optional(b, SEQ(b, text(b, ",\"b\":"), ALT(b, text(b, "\"x\""), text(b, "\"yes\"")))),
            text(b, "}")));
    mlxr_gb_members(b, ab, order_ab, 2);
    mlxr_gb_define(b, ca, SEQ(b, text(b, "{\"c\":"), mlxr_gb_call(b, value), text(b, ",\"a\":true}")));
    mlxr_gb_members(b, ca, order_ca, 2);
    mlxr_gb_define(b, list,
                   SEQ(b, text(b, "["), mlxr_gb_call(b, value),
                       mlxr_gb_repeat(b, SEQ(b, text(b, ","), mlxr_gb_call(b, value)), 0, 2), text(b, "]")));
    mlxr_gb_define(b, value,
                   ALT(b, mlxr_gb_call(b, ab), mlxr_gb_call(b, ca), mlxr_gb_call(b, list),
                       SEQ(b, text(b, "\""), mlxr_gb_chars(b, 2, 4), text(b, "\"")), text(b, "1.5")));
    return finish(b, value);
}

static mlxr_status check(mlxr_schema_verdict *v, mlxr_schema_checker *c, const char *instance)
{
    mlxr_value_doc d;
    mlxr_status st;

    assert_ok(mlxr_value_parse(&d, instance, strlen(instance), "instance", &err), &err);
    st = mlxr_schema_check(v, c, d.root, &err);
    mlxr_value_clear(&d);
    return st;
}

static void takes(mlxr_schema_checker *c, const char *instance)
{
    mlxr_schema_verdict v;

    assert_ok(check(&v, c, instance), &err);
    if (!v.valid) fail_msg("%s: at \"%s\", expected %s", instance, v.at, v.expected);
    assert_string_equal(v.at, "");
    assert_string_equal(v.expected, "");
}

static void refuses(mlxr_schema_checker *c, const char *instance, const char *at, const char *expected)
{
    mlxr_schema_verdict v;

    assert_ok(check(&v, c, instance), &err);
    if (v.valid || strcmp(v.at, at) != 0 || strcmp(v.expected, expected) != 0)
        fail_msg("%s: valid %d at \"%s\", expected %s", instance, v.valid, v.at, v.expected);
}

static void members_come_in_any_order(void **state)
{
    mlxr_schema_checker *c = values();

    takes(c, "{\"a\": 12}");
    takes(c, "{\"a\": 12, \"b\": \"x\"}");
    takes(c, "{\"b\": \"yes\", \"a\": 123}");
    takes(c, "{\"a\": true, \"c\": {\"b\": \"x\", \"a\": 45}}");
    takes(c, "[{\"a\": true, \"c\": [{\"a\": true, \"c\": \"text\"}, {\"b\": \"x\", \"a\": 45}]}, \"abc\"]");
    mlxr_schema_checker_free(c);
}

static void forms_of_scalars_are_tried(void **state)
{
    mlxr_schema_checker *c = values();

    takes(c, "1.5");
    takes(c, "15e-1");
    takes(c, "0.15E+1");
    takes(c, "{\"a\": 1.2e1}");
    takes(c, "\"\\u0061\\u00e9\\ud83d\\ude00\"");
    takes(c, "\"\\\"\\u0000\"");
    refuses(c, "1.50001", "", "behind 1.5: the end of the number");
    mlxr_schema_checker_free(c);
}

static void failures_are_told(void **state)
{
    mlxr_schema_checker *c = values();

    refuses(c, "{\"b\":\"z\",\"a\":12}", "/b", "\"x\" or \"yes\"");
    refuses(c, "{\"a\":1}", "/a", "behind 1: a digit");
    refuses(c, "{\"a\":1234}", "/a", "behind 123: the end of the number");
    refuses(c, "{\"a\":12,\"q/~\":1}", "/q~1~0", "the member \"b\" or \"}\"");
    refuses(c, "{\"b\":\"x\"}", "", "one of the members \"a\", \"c\"");
    refuses(c, "{}", "", "one of the members \"a\", \"c\"");
    refuses(c, "{\"c\":\"abc\",\"a\":false}", "/a", "true");
    refuses(c, "[\"abc\",[\"\xc3\xa9\"]]", "/1/0", "behind \"\xc3\xa9\": any character");
    refuses(c, "[\"abc\",\"abc\",\"abc\",\"abc\"]", "/3", "\"]\"");
    refuses(c, "\"abcde\"", "", "behind \"abcd\": the end of the string");
    refuses(c, "[{\"a\":true,\"c\":[{\"c\":{\"a\":12,\"b\":\"nope\"},\"a\":true}]}]", "/0/c/0/c/b",
            "\"x\" or \"yes\"");
    mlxr_schema_checker_free(c);
}

static void long_words_are_cut(void **state)
{
    mlxr_schema_checker *c = values();
    mlxr_schema_verdict v;
    mlxr_buf instance = {0};

    for (int i = 0; i < 300; i++) mlxr_buf_str(&instance, "{\"a\":true,\"c\":");
    mlxr_buf_str(&instance, "null");
    for (int i = 0; i < 300; i++) mlxr_buf_str(&instance, "}");
    assert_ok(check(&v, c, instance.data), &err);
    assert_false(v.valid);
    assert_int_equal(strlen(v.at), sizeof v.at - 1);
    assert_memory_equal(v.at, "...", 3);
    assert_string_equal(v.at + strlen(v.at) - 6, "/c/c/a");
    mlxr_buf_clear(&instance);
    mlxr_schema_checker_free(c);
}

/* Two ways for each object, whose members come in two orders: 2^depth ways in all. */
static void steps_are_bounded(void **state)
{
    static const mlxr_text order_cd[] = {{"c", 1}, {"d", 1}}, order_dc[] = {{"d", 1}, {"c", 1}};
    mlxr_grammar_builder *b;
    mlxr_schema_checker *c;
    mlxr_rule value, cd, dc;
    mlxr_schema_verdict v;
    mlxr_buf instance = {0};

    assert_ok(mlxr_grammar_builder_create(&b, NULL, &err), &err);
    value = mlxr_gb_rule(b, "value");
    cd = mlxr_gb_rule(b, "cd");
    dc = mlxr_gb_rule(b, "dc");
    mlxr_gb_define(b, cd,
                   SEQ(b, text(b, "{\"c\":"), mlxr_gb_call(b, value), text(b, ",\"d\":"),
                       mlxr_gb_call(b, value), text(b, "}")));
    mlxr_gb_members(b, cd, order_cd, 2);
    mlxr_gb_define(b, dc,
                   SEQ(b, text(b, "{\"d\":"), mlxr_gb_call(b, value), text(b, ",\"c\":"),
                       mlxr_gb_call(b, value), text(b, "}")));
    mlxr_gb_members(b, dc, order_dc, 2);
    mlxr_gb_define(b, value, ALT(b, mlxr_gb_call(b, cd), mlxr_gb_call(b, dc), text(b, "0")));
    c = finish(b, value);
    takes(c, "{\"c\":{\"d\":0,\"c\":0},\"d\":{\"d\":{\"c\":0,\"d\":0},\"c\":0}}");
    for (int i = 0; i < 60; i++) mlxr_buf_str(&instance, "{\"d\":0,\"c\":");
    mlxr_buf_str(&instance, "0");
    for (int i = 0; i < 60; i++) mlxr_buf_str(&instance, "}");
    assert_fails(check(&v, c, instance.data), MLXR_E_LIMIT, "too many ways", &err);
    takes(c, "0"); /* good for the next one */
    mlxr_buf_clear(&instance);
    mlxr_schema_checker_free(c);
}

static void texts_are_checked_as_they_are(void **state)
{
    mlxr_schema_checker *c = values();
    mlxr_schema_verdict v;

    assert_ok(mlxr_schema_check_text(&v, c, "{\"a\":12}", 8, &err), &err);
    assert_true(v.valid);
    assert_ok(mlxr_schema_check_text(&v, c, "{\"b\":12}", 8, &err), &err);
    assert_false(v.valid);
    assert_string_equal(v.at, "2");
    assert_string_equal(v.expected, "\"a\" or \"c\"");
    assert_ok(mlxr_schema_check_text(&v, c, "\"\xc3\xa9\"", 4, &err), &err);
    assert_string_equal(v.at, "2");
    assert_ok(mlxr_schema_check_text(&v, c, "1.5 ", 4, &err), &err);
    assert_string_equal(v.at, "3");
    assert_string_equal(v.expected, "nothing more");
    assert_ok(mlxr_schema_check_text(&v, c, "", 0, &err), &err);
    assert_false(v.valid);
    mlxr_schema_checker_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_come_in_any_order), cmocka_unit_test(forms_of_scalars_are_tried),
        cmocka_unit_test(failures_are_told),         cmocka_unit_test(long_words_are_cut),
        cmocka_unit_test(steps_are_bounded),         cmocka_unit_test(texts_are_checked_as_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
