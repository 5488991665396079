/* Schemas that ask for too much: each ends soon, in a grammar or in a failure that names a limit or a mistake. */
#include "test.h"

#include "engine/grammar/schema.h"

enum { MOST_MS = 10000 }; /* far above what they take; sanitizers and a busy machine slow them down */

static mlxr_error err;

/* status MLXR_OK: a grammar comes out. */
static void try(const char *what, const char *schema, mlxr_status status, const char *message)
{
    uint64_t start = mlxr_now_ns();
    mlxr_grammar *g = NULL;
    mlxr_status st = mlxr_grammar_from_schema(&g, schema, strlen(schema), "schema", NULL, NULL, &err);
    uint64_t ms = (mlxr_now_ns() - start) / 1000000;

    if (st != status || (st != MLXR_OK && !strstr(err.message, message)))
        fail_msg("%s: got %s \"%s\", wanted %s with \"%s\"", what, mlxr_status_name(st),
                 st == MLXR_OK ? "" : err.message, mlxr_status_name(status), message);
    if (ms > MOST_MS) fail_msg("%s: took %u ms", what, (unsigned)ms);
    mlxr_grammar_unref(g);
}

/* head, then n times what the format makes of i, with commas between, then tail. */
static void many(mlxr_buf *out, const char *head, size_t n, void (*one)(mlxr_buf *out, size_t i),
                 const char *tail)
{
    out->len = 0;
    mlxr_buf_str(out, head);
    for (size_t i = 0; i < n; i++) {
        if (i) mlxr_buf_char(out, ',');
        one(out, i);
    }
    mlxr_buf_str(out, tail);
}

static void nested(mlxr_buf *out, const char *open, const char *inner, const char *close, size_t n)
{
    out->len = 0;
    for (size_t i = 0; i < n; i++) mlxr_buf_str(out, open);
    mlxr_buf_str(out, inner);
    for (size_t i = 0; i < n; i++) mlxr_buf_str(out, close);
}

static void cycles(void **state)
{
    try("two refs",
        "{\"$ref\":\"#/$defs/a\",\"$defs\":{\"a\":{\"$ref\":\"#/$defs/b\"},\"b\":{\"$ref\":\"#/$defs/a\"}}}",
        MLXR_E_FORMAT, "refers to itself");
    try("itself", "{\"$ref\":\"#\"}", MLXR_E_FORMAT, "schema#: refers to itself");
    try("not itself", "{\"not\":{\"$ref\":\"#\"}}", MLXR_E_FORMAT, "refers to itself");
    try("with something beside",
        "{\"minLength\":1,\"anyOf\":[{\"type\":\"null\"},{\"$ref\":\"#/$defs/"
        "a\"}],\"$defs\":{\"a\":{\"maxLength\":3,\"allOf\":"
        "[{\"$ref\":\"#\"}]}}}",
        MLXR_E_FORMAT, "applies itself to the same value");
    try("branches that meet",
        "{\"oneOf\":[{\"type\":\"null\"},{\"type\":\"object\",\"properties\":{\"n\":{\"$ref\":\"#\"}},"
        "\"required\":[\"n\"]},{"
        "\"type\":\"object\",\"properties\":{\"m\":{\"$ref\":\"#\"}},\"required\":[\"m\"]}]}",
        MLXR_OK, "");
    try("growing conjunctions",
        "{\"properties\":{\"a\":{\"allOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#/$defs/x\"}]},\"b\":{\"$ref\":\"#/"
        "$defs/x\"}},\"$defs\":{"
        "\"x\":{\"properties\":{\"a\":{\"$ref\":\"#/$defs/"
        "y\"},\"b\":{\"$ref\":\"#\"}}},\"y\":{\"properties\":{\"a\":{\"$ref\":"
        "\"#/$defs/x\"},\"b\":{\"not\":{\"$ref\":\"#\"}}}}}}",
        MLXR_OK, "");
}

static void four_branches(mlxr_buf *out, size_t i)
{
    mlxr_buf_str(out, "{\"anyOf\":[");
    for (int j = 0; j < 4; j++) mlxr_buf_printf(out, "%s{\"required\":[\"a%zu_%d\"]}", j ? "," : "", i, j);
    mlxr_buf_str(out, "]}");
}

static void doubling(mlxr_buf *out, size_t i)
{
    mlxr_buf_printf(out, "\"d%zu\":{\"allOf\":[{\"$ref\":\"#/$defs/d%zu\"},{\"$ref\":\"#/$defs/d%zu\"}]}", i,
                    i + 1, i + 1);
}

static void branching(mlxr_buf *out, size_t i)
{
    mlxr_buf_printf(out,
                    "\"d%zu\":{\"anyOf\":[{\"allOf\":[{\"$ref\":\"#/$defs/"
                    "d%zu\"},{\"minLength\":%zu}]},{\"allOf\":[{\"$ref\":"
                    "\"#/$defs/d%zu\"},{\"maxLength\":%zu}]}]}",
                    i, i + 1, i, i + 1, 1000 - i);
}

static void optional_member(mlxr_buf *out, size_t i)
{
    mlxr_buf_printf(out, "{\"properties\":{\"a%zu\":{\"type\":\"string\"}}}", i);
}

static void pattern(mlxr_buf *out, size_t i)
{
    mlxr_buf_printf(out, "\"^.*%c.*$\":{\"minimum\":%zu}", (char)('a' + i), i);
}

static void value(mlxr_buf *out, size_t i)
{
    mlxr_buf_printf(out, "{\"a\":%zu,\"b\":[%zu]}", i, i);
}

static void products(void **state)
{
    mlxr_buf b = {0};

    many(&b, "{\"type\":\"object\",\"allOf\":[", 20, four_branches, "]}");
    try("a product of unions", b.data, MLXR_E_LIMIT, "max_cases");
    many(&b, "{\"$ref\":\"#/$defs/d0\",\"$defs\":{", 60, doubling, ",\"d60\":{\"type\":\"string\"}}}");
    try("doubling that comes to nothing", b.data, MLXR_OK, "");
    many(&b, "{\"$ref\":\"#/$defs/d0\",\"$defs\":{", 25, branching, ",\"d25\":{\"type\":\"string\"}}}");
    try("branches of branches", b.data, MLXR_E_LIMIT, "max_cases");
    many(&b, "{\"oneOf\":[", 60, optional_member, "]}");
    try("sixty branches that overlap", b.data, MLXR_OK, "");
    many(&b, "{\"patternProperties\":{", 16, pattern, "}}");
    try("patterns that overlap", b.data, MLXR_E_LIMIT, "max_states");
    many(&b, "{\"not\":{\"enum\":[", 30, value, "]}}");
    try("none of thirty objects", b.data, MLXR_E_LIMIT, "max_cases");
    many(&b, "{\"not\":{\"enum\":[", 6, value, "]}}");
    try("none of six objects", b.data, MLXR_OK, "");
    mlxr_buf_clear(&b);
}

static void depth(void **state)
{
    mlxr_buf b = {0};

    nested(&b, "{\"minLength\":1,\"allOf\":[", "true", ",true]}", 200);
    try("deep allOf", b.data, MLXR_E_LIMIT, "within each other");
    nested(&b, "{\"properties\":{\"a\":", "true", "}}", 200);
    try("deep properties", b.data, MLXR_OK, "");
    nested(&b, "{\"not\":", "{\"type\":\"null\"}", "}", 400);
    try("deep not", b.data, MLXR_OK, "");
    nested(&b, "[", "", "]", 600);
    try("deep JSON", b.data, MLXR_E_LIMIT, "");
    mlxr_buf_clear(&b);
}

static void huge_counts(void **state)
{
    try("a long string", "{\"type\":\"string\",\"minLength\":1000000000,\"maxLength\":1e30}", MLXR_OK, "");
    try("a long pattern", "{\"type\":\"string\",\"pattern\":\"^a\",\"maxLength\":1000000000}", MLXR_E_LIMIT,
        "schema#: ");
    try("many items",
        "{\"type\":\"array\",\"minItems\":1000000000,\"maxItems\":2000000000,\"items\":{\"type\":\"null\"}}",
        MLXR_OK, "");
    try("many members", "{\"type\":\"object\",\"minProperties\":1000000000}", MLXR_OK, "");
    try("many kinds", "{\"type\":\"array\",\"contains\":{\"type\":\"null\"},\"minContains\":1000000}",
        MLXR_E_LIMIT, "schema#: counting the items");
    try("between",
        "{\"type\":\"array\",\"contains\":{\"type\":\"null\"},\"maxContains\":1000,\"maxItems\":1000}",
        MLXR_E_LIMIT, "schema#: counting the items");
    try("more than there is", "{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}",
        MLXR_E_INVALID_ARGUMENT, "no value is accepted");
}

static void options_are_kept(void **state)
{
    static const char schema[] = "{\"anyOf\":[{\"minLength\":1},{\"maxLength\":1},{\"pattern\":\"a\"}]}";
    mlxr_schema_options options = mlxr_schema_options_default();
    mlxr_grammar_limits limits = mlxr_grammar_limits_default();
    mlxr_grammar *g;

    options.max_cases = 8;
    assert_fails(mlxr_grammar_from_schema(&g, schema, sizeof schema - 1, "tool", &options, NULL, &err),
                 MLXR_E_LIMIT, "tool: more than 8 cases (max_cases)", &err);
    options.max_cases = 100;
    assert_ok(mlxr_grammar_from_schema(&g, schema, sizeof schema - 1, "tool", &options, NULL, &err), &err);
    mlxr_grammar_unref(g);
    limits.lang.max_states = 3;
    assert_fails(mlxr_grammar_from_schema(&g, schema, sizeof schema - 1, "tool", &options, &limits, &err),
                 MLXR_E_LIMIT, "max_states", &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(cycles), cmocka_unit_test(products),
                                       cmocka_unit_test(depth), cmocka_unit_test(huge_counts),
                                       cmocka_unit_test(options_are_kept)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
