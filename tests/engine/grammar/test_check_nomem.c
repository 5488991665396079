/* Values and their check with every allocation failing in turn: MLXR_E_NOMEM, nothing leaked (LeakSanitizer sees it in the asan
 * build), and never a wrong verdict; what a failure says may be told less exactly. */
#include "nomem.h"
#include "test.h"

#include "engine/grammar/schema.h"

static mlxr_error err;

/* {"b": 12, "a": [ "x" | "y" , ...]} or {"a": ..., "b": 13}: two orders. */
static mlxr_grammar *grammar(void)
{
    static const mlxr_text orders[2][2] = {{{"b", 1}, {"a", 1}}, {{"a", 1}, {"b", 1}}};
    mlxr_grammar_builder *b;
    mlxr_grammar *g;
    mlxr_rule root, list, object[2];
    mlxr_expr e[5], either[2];

#define TEXT(s) mlxr_gb_text(b, s, strlen(s))
    assert_ok(mlxr_grammar_builder_create(&b, NULL, &err), &err);
    root = mlxr_gb_rule(b, "root");
    list = mlxr_gb_rule(b, "list");
    for (int i = 0; i < 2; i++) {
        object[i] = mlxr_gb_rule(b, "object");
        e[0] = i == 0 ? TEXT("{\"b\":12,\"a\":") : TEXT("{\"a\":");
        e[1] = mlxr_gb_call(b, list);
        e[2] = i == 0 ? TEXT("}") : TEXT(",\"b\":13}");
        mlxr_gb_define(b, object[i], mlxr_gb_seq(b, e, 3));
        mlxr_gb_members(b, object[i], orders[i], 2);
        either[i] = mlxr_gb_call(b, object[i]);
    }
    mlxr_gb_define(b, root, mlxr_gb_alt(b, either, 2));
    either[0] = TEXT("\"x\"");
    either[1] = TEXT("\"y\"");
    e[0] = TEXT("[");
    e[1] = mlxr_gb_alt(b, either, 2);
    either[0] = TEXT(",\"x\"");
    either[1] = TEXT(",\"yy\"");
    e[2] = mlxr_gb_repeat(b, mlxr_gb_alt(b, either, 2), 0, 3);
    e[3] = TEXT("]");
    mlxr_gb_define(b, list, mlxr_gb_seq(b, e, 4));
    assert_ok(mlxr_grammar_finish(&g, b, root, &err), &err);
    mlxr_grammar_builder_free(b);
    return g;
}

static mlxr_status run(mlxr_grammar *g, const char *text, bool valid)
{
    mlxr_schema_checker *c = NULL;
    mlxr_schema_verdict v;
    mlxr_value_doc d = {0};
    mlxr_buf out = {0};
    mlxr_status st = mlxr_value_parse(&d, text, strlen(text), "text", &err);

    if (st == MLXR_OK) st = mlxr_schema_checker_create(&c, g, &err);
    if (st == MLXR_OK) st = mlxr_schema_check(&v, c, d.root, &err);
    if (st == MLXR_OK) {
        assert_int_equal(v.valid, valid);
        if (!valid) assert_string_equal(v.at, "/a/2");
        mlxr_value_write(&out, d.root);
        st = mlxr_buf_check(&out, "text", &err);
    }
    mlxr_buf_clear(&out);
    mlxr_schema_checker_free(c);
    mlxr_value_clear(&d);
    return st;
}

static void each_allocation_fails_once(void **state)
{
    static const struct {
        const char *text;
        bool valid;
    } cases[] = {
        {"{\"a\": [\"x\", \"\\u0078\"], \"b\": 1.2e1}", true},
        {"{\"b\": 13.0, \"a\": [\"x\"]}", true},
        {"{\"b\": 12, \"a\": [\"x\", \"yy\", \"z\"]}", false},
    };
    mlxr_grammar *g = grammar();

    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        size_t at;
        for (at = 1;; at++) {
            mlxr_status st;
            n_calls = 0;
            fail_at = at;
            st = run(g, cases[i].text, cases[i].valid);
            fail_at = SIZE_MAX;
            if (st == MLXR_OK && n_calls < at) break;
            if (st == MLXR_OK) continue;
            assert_int_equal(st, MLXR_E_NOMEM);
            assert_non_null(strstr(err.message, "memory"));
        }
        assert_true(at > 10);
    }
    mlxr_grammar_unref(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_allocation_fails_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
