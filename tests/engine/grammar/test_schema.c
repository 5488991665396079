/* JSON Schema to grammars: what is written, in which order and form, and what is refused in which words. Verdicts on many more
 * schemas are test_schema_corpus's. */
#include "test.h"

#include "engine/grammar/schema.h"

static mlxr_error err;

static mlxr_grammar *make(const char *schema)
{
    mlxr_grammar *g = NULL;
    mlxr_status st = mlxr_grammar_from_schema(&g, schema, strlen(schema), "schema", NULL, NULL, &err);

    if (st != MLXR_OK) fail_msg("%s: %s", schema, err.message);
    return g;
}

/* Whether the grammar writes exactly this text. */
static bool writes(mlxr_grammar *g, const char *text, size_t n)
{
    mlxr_masker *k = NULL;
    mlxr_matcher *m = NULL;
    size_t taken;
    bool whole;

    assert_ok(mlxr_masker_create(&k, g, NULL, &err), &err);
    assert_ok(mlxr_matcher_create(&m, k, &err), &err);
    assert_ok(mlxr_matcher_push(&taken, m, text, n, &err), &err);
    whole = taken == n && mlxr_matcher_may_end(m);
    mlxr_matcher_free(m);
    mlxr_masker_free(k);
    return whole;
}

/* Texts in a list that ends in NULL. */
static void expect(const char *schema, const char *const *good, const char *const *bad)
{
    mlxr_grammar *g = make(schema);

    for (; good && *good; good++)
        if (!writes(g, *good, strlen(*good))) fail_msg("%s does not write %s", schema, *good);
    for (; bad && *bad; bad++)
        if (writes(g, *bad, strlen(*bad))) fail_msg("%s writes %s", schema, *bad);
    mlxr_grammar_unref(g);
}
#define TEXTS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void refuse(const char *schema, mlxr_status status, const char *message)
{
    mlxr_grammar *g = (mlxr_grammar *)&err;
    mlxr_status st = mlxr_grammar_from_schema(&g, schema, strlen(schema), "schema", NULL, NULL, &err);

    assert_null(g);
    if (st != status || !strstr(err.message, message))
        fail_msg("%s: got %s \"%s\", wanted %s with \"%s\"", schema, mlxr_status_name(st), err.message,
                 mlxr_status_name(status), message);
}

static void members_come_in_order(void **state)
{
    expect("{\"type\":\"object\",\"properties\":{\"b\":{\"type\":\"integer\"},\"a\":{\"type\":\"boolean\"}},"
           "\"required\":[\"c\",\"a\"],\"additionalProperties\":{\"type\":\"null\"}}",
           NULL, TEXTS("{}", "{\"a\":true}", "{\"b\":1}"));
    expect("{\"type\":\"object\",\"properties\":{\"b\":{\"type\":\"integer\"},\"a\":{\"type\":\"boolean\"}},"
           "\"required\":[\"c\",\"a\"]}",
           TEXTS("{\"b\":1,\"a\":true,\"c\":[]}", "{\"a\":true,\"c\":0}",
                 "{\"a\":true,\"c\":0,\"z\":{},\"d\":1}"),
           TEXTS("{\"a\":true,\"b\":1,\"c\":[]}", "{\"c\":0,\"a\":true}", "{\"a\":true,\"c\":0,\"b\":1}",
                 "{\"a\":true,\"c\":0,\"z\":1,\"z\":1}", "{\"a\":1,\"c\":0}"));
    /* In the order in which the text of the schema tells of them. */
    expect("{\"allOf\":[{\"properties\":{\"x\":{\"const\":1}}}],\"properties\":{\"y\":{\"const\":2}},"
           "\"type\":\"object\"}",
           TEXTS("{\"x\":1,\"y\":2}"), TEXTS("{\"y\":2,\"x\":1}"));
    expect("{\"properties\":{\"y\":{\"const\":2}},\"allOf\":[{\"properties\":{\"x\":{\"const\":1}}}],"
           "\"type\":\"object\"}",
           TEXTS("{\"y\":2,\"x\":1}"), TEXTS("{\"x\":1,\"y\":2}"));
}

static void values_have_one_form(void **state)
{
    expect("{\"enum\":[\"a\\/\\u00e9\\n\",1.50,null,[1,{\"a\":true}]]}",
           TEXTS("\"a/é\\n\"", "1.5", "null", "[1,{\"a\":true}]", "[1, { \"a\": true }]"),
           TEXTS("\"a\\/é\\n\"", "1.50", "[1]", "\"a/\\u00e9\\n\"", "15e-1"));
    expect("{\"type\":\"string\",\"pattern\":\"^a.$\"}", TEXTS("\"ab\"", "\"a\\\"\"", "\"a\\u0001\""),
           TEXTS("\"a\\u0062\"", "\"a\\n\"", "\"abc\""));
    /* Free strings in any form. */
    expect("{\"type\":\"string\",\"minLength\":1,\"maxLength\":2}",
           TEXTS("\"\\u0061b\"", "\"\\ud83d\\ude00\"", "\"\\/\\\"\"", "\"éé\""),
           TEXTS("\"\"", "\"abc\"", "\"\\ud83d\"", "\"a\nb\""));
    expect("{\"type\":\"integer\",\"minimum\":-2,\"maximum\":10,\"multipleOf\":3}", TEXTS("0", "9", "3"),
           TEXTS("-3", "12", "1", "3.0", "09"));
}

static void white_space_is_bounded(void **state)
{
    const char *schema =
        "{\"properties\":{\"a\":{\"type\":\"array\"}},\"required\":[\"a\"],\"additionalProperties\":false,"
        "\"type\":\"object\"}";
    mlxr_schema_options options = mlxr_schema_options_default();
    mlxr_grammar *g = NULL;
    char text[200];
    int n;

    expect(schema,
           TEXTS("{\"a\":[]}", "{ \"a\": [ ] }", "{\n  \"a\": [\n\t1,\n\t2\n  ]\n}", "{\"a\":[1, 2]}",
                 "{\r\n\"a\":[1]\r\n}"),
           TEXTS("{  \"a\":[]}", "{\"a\" :[]}", "{\n\n\"a\":[]}", "{\"a\":[1 ,2]}", "{\"a\":\n[]}",
                 "{\"a\":[]} ", "\n{\"a\":[]}"));
    n = snprintf(text, sizeof text, "{\n%64s\"a\":[]}", "");
    g = make(schema);
    assert_true(writes(g, text, (size_t)n));
    n = snprintf(text, sizeof text, "{\n%65s\"a\":[]}", "");
    assert_false(writes(g, text, (size_t)n));
    mlxr_grammar_unref(g);

    options.white_space = false;
    assert_ok(mlxr_grammar_from_schema(&g, schema, strlen(schema), "schema", &options, NULL, &err), &err);
    assert_true(writes(g, "{\"a\": [1, 2,3]}", 15));
    assert_false(writes(g, "{ \"a\":[]}", 9));
    assert_false(writes(g, "{\"a\":[1\n]}", 10));
    mlxr_grammar_unref(g);
}

static void counts_are_exact(void **state)
{
    expect("{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{},\"c\":{}},\"minProperties\":2,"
           "\"maxProperties\":2}",
           TEXTS("{\"a\":1,\"b\":1}", "{\"a\":1,\"c\":1}", "{\"b\":1,\"x\":1}", "{\"x\":1,\"y\":1}"),
           TEXTS("{}", "{\"a\":1}", "{\"x\":1}", "{\"a\":1,\"b\":1,\"c\":1}", "{\"a\":1,\"b\":1,\"x\":1}"));
    expect("{\"type\":\"array\",\"prefixItems\":[{\"const\":1},{\"const\":2}],\"items\":{\"const\":3},"
           "\"minItems\":1,"
           "\"maxItems\":4}",
           TEXTS("[1]", "[1,2]", "[1,2,3]", "[1,2,3,3]"),
           TEXTS("[]", "[2]", "[1,3]", "[1,2,3,3,3]", "[1,2,]"));
    expect("{\"type\":\"array\",\"items\":{\"enum\":[0,1,2]},\"contains\":{\"const\":1},\"minContains\":1,"
           "\"maxContains\":2}",
           TEXTS("[1]", "[0,1,1]", "[1,0,2,1,0]"), TEXTS("[]", "[0]", "[1,1,1]", "[1,0,1,1]"));
    expect("{\"type\":\"array\",\"items\":{\"enum\":[\"a\",\"b\",1]},\"uniqueItems\":true,\"minItems\":2}",
           TEXTS("[\"a\",1]", "[\"b\",\"a\",1]"),
           TEXTS("[\"a\",\"a\"]", "[1,\"b\",1]", "[\"a\"]", "[\"a\",\"b\",1,1]"));
    expect("{\"type\":\"array\",\"maxItems\":1000000000000,\"items\":{\"type\":\"null\"}}",
           TEXTS("[]", "[null,null]"), TEXTS("[1]"));
}

static void opposites_are_exact(void **state)
{
    expect("{\"type\":\"object\",\"not\":{\"required\":[\"a\"]}}", TEXTS("{}", "{\"b\":1}"),
           TEXTS("{\"a\":1}", "[]"));
    expect("{\"not\":{\"type\":[\"object\",\"array\",\"string\",\"boolean\",\"null\"]},\"type\":[\"number\","
           "\"string\"]}",
           TEXTS("1", "-2.5e3"), TEXTS("\"\"", "null"));
    expect("{\"type\":\"object\",\"not\":{\"additionalProperties\":{\"type\":\"integer\"}}}",
           TEXTS("{\"a\":\"\"}", "{\"a\":1,\"b\":null}", "{\"a\":null,\"b\":1}"), TEXTS("{}", "{\"a\":1}"));
    expect("{\"type\":\"array\",\"not\":{\"items\":{\"type\":\"integer\"}},\"maxItems\":2}",
           TEXTS("[\"\"]", "[1,null]", "[null,2]"), TEXTS("[]", "[1]", "[1,2]", "[null,1,1]"));
    expect("{\"type\":\"object\",\"if\":{\"properties\":{\"k\":{\"const\":1}},\"required\":[\"k\"]},\"then\":"
           "{\"required\":"
           "[\"x\"]},\"else\":{\"required\":[\"y\"]}}",
           TEXTS("{\"k\":1,\"x\":0}", "{\"k\":2,\"y\":0}", "{\"y\":0}"),
           TEXTS("{\"k\":1}", "{\"k\":2}", "{\"x\":0}"));
    expect("{\"oneOf\":[{\"type\":\"integer\"},{\"minimum\":5,\"type\":\"number\"}]}",
           TEXTS("4", "5.5", "-1"), TEXTS("5", "6", "4.5", "\"\""));
    expect("{\"type\":\"object\",\"properties\":{\"a\":{}},\"allOf\":[{\"properties\":{\"b\":{}}}],"
           "\"unevaluatedProperties\":false}",
           TEXTS("{}", "{\"a\":1,\"b\":2}"), TEXTS("{\"c\":1}"));
}

static void references_lead_somewhere(void **state)
{
    expect("{\"$defs\":{\"a/b~%\":{\"type\":\"object\",\"properties\":{\"next\":{\"$ref\":\"#/$defs/"
           "a~1b~0%25\"}},"
           "\"additionalProperties\":false}},\"$ref\":\"#/$defs/a~1b~0%25\"}",
           TEXTS("{}", "{\"next\":{\"next\":{}}}"), TEXTS("{\"next\":1}", "{\"next\":{\"x\":1}}"));
    expect("{\"$id\":\"http://example.com/"
           "root.json\",\"$ref\":\"item.json#name\",\"$defs\":{\"i\":{\"$id\":\"item.json\","
           "\"$defs\":{\"n\":{\"$anchor\":\"name\",\"const\":\"x\"}}}}}",
           TEXTS("\"x\""), TEXTS("\"y\""));
    expect("{\"$schema\":\"http://json-schema.org/draft-07/"
           "schema#\",\"definitions\":{\"p\":{\"type\":\"integer\"}},\"type\":"
           "\"array\",\"items\":[{\"$ref\":\"#/definitions/p\",\"minimum\":5}],\"additionalItems\":false}",
           TEXTS("[1]", "[]"), TEXTS("[\"\"]", "[1,2]"));
    expect("{\"type\":\"number\",\"minimum\":1,\"exclusiveMinimum\":true}", TEXTS("1.5"), TEXTS("1"));
    expect("{\"type\":\"string\",\"nullable\":true,\"x-order\":3,\"example\":\"e\"}", TEXTS("null", "\"\""),
           TEXTS("1"));
}

static void refusals_name_their_path(void **state)
{
    refuse("{\"$ref\":\"other.json#/a\"}", MLXR_E_UNSUPPORTED,
           "schema#/$ref: \"other.json\" is another document");
    refuse("{\"$ref\":\"#/$defs/a\"}", MLXR_E_FORMAT, "schema#/$ref: \"#/$defs/a\" leads to nothing");
    refuse("{\"properties\":{\"a/b\":{\"pattern\":\"(\"}}}", MLXR_E_FORMAT,
           "schema#/properties/a~1b/pattern: ");
    refuse("{\"items\":{\"pattern\":\"(a)\\\\1\"}}", MLXR_E_UNSUPPORTED, "schema#/items/pattern: ");
    refuse("{\"format\":\"no-such\"}", MLXR_E_UNSUPPORTED, "schema#/format: ");
    refuse("{\"anyOf\":[true,{\"minLength\":\"a\"}]}", MLXR_E_FORMAT,
           "schema#/anyOf/1/minLength: wanted a whole number from 0");
    refuse("{\"type\":\"strin\"}", MLXR_E_FORMAT, "schema#/type: wanted");
    refuse("{\"required\":\"a\"}", MLXR_E_FORMAT, "schema#/required: wanted a list of names");
    refuse("{\"multipleOf\":0}", MLXR_E_FORMAT, "schema#/multipleOf: wanted a number above 0");
    refuse("{\"properties\":{\"a\":5}}", MLXR_E_FORMAT,
           "schema#/properties/a: a schema is an object, true or false");
    refuse("{\"items\":[{}],\"prefixItems\":[{}]}", MLXR_E_FORMAT, "schema#/items: ");
    refuse("{\"divisibleBy\":2}", MLXR_E_UNSUPPORTED, "schema#/divisibleBy: ");
    refuse("{\"type\":\"array\",\"uniqueItems\":true}", MLXR_E_UNSUPPORTED, "schema#/uniqueItems: ");
    refuse("{\"type\":\"array\",\"not\":{\"uniqueItems\":true}}", MLXR_E_UNSUPPORTED,
           "schema#/not/uniqueItems: ");
    refuse("{\"$schema\":\"http://json-schema.org/draft-03/schema#\"}", MLXR_E_UNSUPPORTED,
           "schema#/$schema: ");
    refuse("{\"a\":", MLXR_E_FORMAT, "schema");
    refuse("[]", MLXR_E_FORMAT, "schema#: a schema is an object, true or false");
}

static void nothing_fits(void **state)
{
    refuse("false", MLXR_E_INVALID_ARGUMENT, "schema#: no value is accepted");
    refuse("{\"enum\":[]}", MLXR_E_INVALID_ARGUMENT, "schema#: no value is accepted");
    refuse("{\"type\":\"integer\",\"minimum\":0.1,\"maximum\":0.9}", MLXR_E_INVALID_ARGUMENT,
           "no value is accepted");
    refuse("{\"type\":\"string\",\"pattern\":\"^a\",\"not\":{\"pattern\":\"^a\"}}", MLXR_E_INVALID_ARGUMENT,
           "no value is accepted");
    refuse("{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{\"$ref\":\"#\"}}}",
           MLXR_E_INVALID_ARGUMENT, "schema#: no value is accepted");
    refuse("{\"type\":\"object\",\"required\":[\"a\"],\"additionalProperties\":false}",
           MLXR_E_INVALID_ARGUMENT, "no value is accepted");
}

static void any_json(void **state)
{
    mlxr_grammar *g = NULL;

    assert_ok(mlxr_grammar_json(&g, false, NULL, &err), &err);
    assert_true(writes(g, "[1,\"a\",{\"b\":null}]", 18));
    assert_true(writes(g, "-0.5E+3", 7));
    assert_false(writes(g, "{\"a\":1,\"a\":2}", 13));
    assert_false(writes(g, "01", 2));
    mlxr_grammar_unref(g);
    assert_ok(mlxr_grammar_json(&g, true, NULL, &err), &err);
    assert_true(writes(g, "{\"a\":[1]}", 9));
    assert_false(writes(g, "[1]", 3));
    mlxr_grammar_unref(g);
}

static void regular_expressions(void **state)
{
    mlxr_grammar *g = NULL;

    assert_ok(mlxr_grammar_from_regex(&g, "a|bc*", 5, NULL, &err), &err);
    assert_true(writes(g, "bcc", 3));
    assert_false(writes(g, "ab", 2));
    mlxr_grammar_unref(g);
    assert_fails(mlxr_grammar_from_regex(&g, "(", 1, NULL, &err), MLXR_E_FORMAT, "", &err);
    assert_fails(mlxr_grammar_from_regex(&g, "a^b", 3, NULL, &err), MLXR_E_INVALID_ARGUMENT,
                 "no text matches", &err);
}

static void many_in_one_builder(void **state)
{
    static const char first[] = "{\"const\":1}",
                      second[] = "{\"type\":\"object\",\"properties\":{\"a\":{}},\"required\":[\"a\"]}";
    mlxr_grammar_builder *b = NULL;
    mlxr_value_doc one = {0}, two = {0};
    mlxr_grammar *g = NULL;
    mlxr_rule r1, r2, root;
    mlxr_expr e[3];

    assert_ok(mlxr_value_parse(&one, first, sizeof first - 1, "one", &err), &err);
    assert_ok(mlxr_value_parse(&two, second, sizeof second - 1, "two", &err), &err);
    assert_ok(mlxr_grammar_builder_create(&b, NULL, &err), &err);
    assert_ok(mlxr_gb_schema(&r1, b, one.root, "one", NULL, &err), &err);
    assert_ok(mlxr_gb_schema(&r2, b, two.root, "two", NULL, &err), &err);
    mlxr_value_clear(&one); /* nothing of a schema is kept */
    mlxr_value_clear(&two);
    root = mlxr_gb_rule(b, "root");
    e[0] = mlxr_gb_call(b, r1);
    e[1] = mlxr_gb_call(b, r2);
    e[2] = mlxr_gb_call(b, mlxr_gb_json(b, true, NULL));
    mlxr_gb_define(b, root, mlxr_gb_seq(b, e, 3));
    assert_ok(mlxr_grammar_finish(&g, b, root, &err), &err);
    mlxr_grammar_builder_free(b);
    assert_true(writes(g, "1{\"a\":2}{}", 10));
    assert_false(writes(g, "1{}{}", 5));
    mlxr_grammar_unref(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_come_in_order),
        cmocka_unit_test(values_have_one_form),
        cmocka_unit_test(white_space_is_bounded),
        cmocka_unit_test(counts_are_exact),
        cmocka_unit_test(opposites_are_exact),
        cmocka_unit_test(references_lead_somewhere),
        cmocka_unit_test(refusals_name_their_path),
        cmocka_unit_test(nothing_fits),
        cmocka_unit_test(any_json),
        cmocka_unit_test(regular_expressions),
        cmocka_unit_test(many_in_one_builder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
