/* The parser with every allocation failing in turn: MLXR_E_NOMEM, or all went well and the parts are the same; nothing leaked
 * (LeakSanitizer sees it in the asan build). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/base.h"
#include "nomem.h"
#include "text/answers/answers.h"

/* Adds up what comes, without memory of its own. */
static void add_up(const mlxr_part_event *e, void *ud)
{
    uint64_t *sum = ud;

    *sum = mlxr_hash_bytes(e->text, e->n_text, *sum + (uint64_t)e->part * 3 + e->ends + (e->warning != NULL));
    if (e->name) *sum = mlxr_hash_bytes(e->name, strlen(e->name), *sum);
    if (e->id) *sum = mlxr_hash_bytes(e->id, strlen(e->id), *sum);
    if (e->ends) *sum = mlxr_hash_bytes(e->arguments_json, strlen(e->arguments_json), *sum);
}

static mlxr_status parse(uint64_t *sum, const char *format, const char *text)
{
    mlxr_answer_parser_options o = mlxr_answer_parser_options_default();
    mlxr_answer_parser *p;
    mlxr_status st;
    mlxr_error err;

    *sum = 1;
    o.format = mlxr_answer_format_find(format);
    o.tools_json = "[{\"name\": \"f\", \"parameters\": {\"properties\": {\"l\": {\"type\": \"array\"}}}}]";
    o.on_part = add_up;
    o.ud = sum;
    st = mlxr_answer_parser_create(&p, &o, &err);
    for (size_t at = 0, n = strlen(text); st == MLXR_OK && at < n; at += 7)
        st = mlxr_answer_parser_push(p, text + at, n - at < 7 ? n - at : 7, false, &err);
    if (st == MLXR_OK) st = mlxr_answer_parser_finish(p, &err);
    mlxr_answer_parser_free(p);
    return st;
}

static void test_every_allocation(void **state)
{
    static const struct {
        const char *format, *text;
    } answers[] = {
        {"hermes", "<think>a</think>\nHello  \n\n <tool_call>\n{\"id\": \"7\", \"name\": \"f\", "
                   "\"arguments\": {\"a\": [1, "
                   "\"b\"]}}\n</tool_call>\n<tool_call>{\"name\": x</tool_call>"},
        {"hermes",
         "<tool_call>{\"arguments\": \"{\\\"a\\\": 1}\", \"name\": \"f\"}</tool_call><tool_call>{\"type\": "
         "\"function\", \"function\": {\"name\": \"g\", \"arguments\": {}}}</tool_call>"},
        {"qwen3-coder",
         "Hi \n<tool_call>\n<function=f>\n<parameter=l>\n['a', 1]\n</parameter>\n<parameter=b>\ntext that is "
         "a bit longer than the first buffer that it is put into, so that it has to grow\n"
         "</parameter>\n</function>\n</tool_call>"},
        {"llama-pythonic", "[f(a='x', b=\"\"\"y\"\"\", c={'k': [1.5, None]}), g(d='a' 'b')]"},
        {"gemma4", "<|tool_call>call:f{a:<|\"|>x<|\"|>,b:[1,{c:\"d\"}]}<tool_call|>"},
        {"kimi",
         "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{\"a\": "
         "1}<|tool_call_end|><|tool_calls_section_end|>"},
        {"harmony", "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary "
                    "to=functions.f<|message|>{\"a\": 1}<|call|>"}};

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(answers); i++) {
        uint64_t want, sum;
        size_t n_all, n_failed = 0;

        n_calls = 0;
        fail_at = SIZE_MAX;
        assert_int_equal(parse(&want, answers[i].format, answers[i].text), MLXR_OK);
        n_all = n_calls;
        for (size_t k = 1; k <= n_all; k++) {
            mlxr_status st;
            n_calls = 0;
            fail_at = k;
            st = parse(&sum, answers[i].format, answers[i].text);
            fail_at = SIZE_MAX;
            if (st == MLXR_E_NOMEM)
                n_failed++;
            else if (st != MLXR_OK || sum != want)
                fail_msg("%s: allocation %zu of %zu: status %d, other parts", answers[i].format, k, n_all,
                         (int)st);
        }
        assert_true(n_failed > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
