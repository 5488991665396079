/* Grammars of calls with every allocation failing in turn: MLXR_E_NOMEM and no grammar, or the grammar; nothing leaked (LeakSanitizer
 * sees it in the asan build). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/grammar/tools.h"
#include "nomem.h"

static const char tools[] =
    "[{\"name\":\"send\",\"parameters\":{\"properties\":{\"to\":{\"type\":[\"string\",\"null\"]},\"n\":{"
    "\"type\":\"integer\","
    "\"minimum\":1},\"list\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/e\"}}},\"required\":[\"to\"],"
    "\"additionalProperties\":{\"type\":\"boolean\"},\"$defs\":{\"e\":{\"enum\":[\"a\",\"</"
    "parameter>\",null]}}}},{\"name\":\"halt\"}]";

static void run(const char *format, mlxr_tool_choice_kind choice, const char *schema)
{
    mlxr_answer_grammar p = mlxr_answer_grammar_default();
    size_t n_all, n_failed = 0;
    mlxr_grammar *g;
    mlxr_error err;

    p.format = mlxr_answer_format_find(format);
    p.tool_choice = choice;
    p.tools_json = tools;
    p.may_think = true;
    p.schema_json = schema;
    assert_non_null(p.format);
    n_calls = 0;
    fail_at = SIZE_MAX;
    if (mlxr_grammar_for_answer(&g, &p, NULL, &err) != MLXR_OK) fail_msg("%s: %s", format, err.message);
    mlxr_grammar_unref(g);
    n_all = n_calls;
    assert_true(n_all > 50);
    for (size_t k = 1; k <= n_all; k += k < 400 ? 1 : 1 + n_all / 400) {
        mlxr_status st;
        n_calls = 0;
        fail_at = k;
        st = mlxr_grammar_for_answer(&g, &p, NULL, &err);
        fail_at = SIZE_MAX;
        if (st == MLXR_OK) {
            mlxr_grammar_unref(g);
            continue;
        }
        n_failed++;
        assert_null(g);
        if (st != MLXR_E_NOMEM)
            fail_msg("%s: allocation %zu: %s: %s", format, k, mlxr_status_name(st), err.message);
    }
    assert_true(n_failed > 50);
}

static void test_nomem(void **state)
{
    run("hermes", MLXR_TOOLS_AUTO, NULL);
    run("qwen3-coder", MLXR_TOOLS_AUTO, NULL);
    run("kimi-k3", MLXR_TOOLS_REQUIRED, NULL);
    run("llama-pythonic", MLXR_TOOLS_AUTO, NULL);
    run("gemma4", MLXR_TOOLS_REQUIRED, NULL);
    run("harmony", MLXR_TOOLS_AUTO, "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_nomem)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
