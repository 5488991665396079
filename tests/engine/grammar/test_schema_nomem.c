/* JSON Schema to a grammar with every allocation failing in turn: MLXR_E_NOMEM, nothing leaked (LeakSanitizer sees it in the asan
 * build). Counting a language's texts answers "many" instead, and then a grammar comes out. */
#include "nomem.h"
#include "test.h"

#include "engine/grammar/schema.h"

static void each_allocation_fails(void **state)
{
    static const char schema[] =
        "{\"$id\":\"http://a/b\",\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"c#/$defs/"
        "x\"},\"b\":{\"enum\":[1,\"x\",[2],{"
        "\"y\":null}]},\"s\":{\"pattern\":\"^a+$\",\"maxLength\":3},\"l\":{\"type\":\"array\","
        "\"prefixItems\":[{\"type\":\"string\"}],"
        "\"contains\":{\"const\":1},\"maxContains\":2,\"maxItems\":3},\"u\":{\"type\":\"array\",\"items\":{"
        "\"enum\":[1,2]},"
        "\"uniqueItems\":true}},\"patternProperties\":{\"^z\":{\"minimum\":1}},\"required\":[\"q\"],"
        "\"minProperties\":2,\"oneOf\":[{"
        "\"required\":[\"a\"]},{\"properties\":{\"b\":{\"const\":1}}}],\"unevaluatedProperties\":{\"type\":["
        "\"null\",\"object\"]},"
        "\"$defs\":{\"c\":{\"$id\":\"c\",\"$defs\":{\"x\":{\"not\":{\"type\":\"integer\",\"minimum\":1}}}}}}";
    mlxr_error err;
    mlxr_grammar *g;
    mlxr_status st;
    size_t total, n_made = 0;

    n_calls = 0;
    assert_ok(mlxr_grammar_from_schema(&g, schema, sizeof schema - 1, "schema", NULL, NULL, &err), &err);
    mlxr_grammar_unref(g);
    total = n_calls;
    for (size_t i = 1; i <= total; i += i < 400 ? 1 : total / 300 + 1) {
        n_calls = 0;
        fail_at = i;
        st = mlxr_grammar_from_schema(&g, schema, sizeof schema - 1, "schema", NULL, NULL, &err);
        fail_at = SIZE_MAX;
        n_made += st == MLXR_OK;
        if (st == MLXR_OK ? !g : st != MLXR_E_NOMEM || g)
            fail_msg("allocation %zu of %zu: %s \"%s\"", i, total, mlxr_status_name(st),
                     st ? err.message : "");
        mlxr_grammar_unref(g);
    }
    assert_true(n_made < 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_allocation_fails)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
