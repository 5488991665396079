/* GBNF: what each part of the notation takes, and where mistakes are told. */
#include "engine/grammar/grammar.h"
#include "test.h"

static mlxr_error err;

static mlxr_grammar *parse(const char *text)
{
    mlxr_grammar *g;
    assert_ok(mlxr_grammar_from_gbnf(&g, text, strlen(text), "g", NULL, &err), &err);
    return g;
}

static void check(const char *grammar, const char *text, bool want, int line)
{
    mlxr_grammar *g = parse(grammar);
    mlxr_masker *k;
    mlxr_matcher *m;
    size_t n;
    bool got;
    assert_ok(mlxr_masker_create(&k, g, NULL, &err), &err);
    assert_ok(mlxr_matcher_create(&m, k, &err), &err);
    assert_ok(mlxr_matcher_push(&n, m, text, strlen(text), &err), &err);
    got = n == strlen(text) && mlxr_matcher_may_end(m);
    if (got != want) fail_msg("line %d: \"%s\": %zu bytes fit, complete %d", line, text, n, got);
    mlxr_matcher_free(m);
    mlxr_masker_free(k);
    mlxr_grammar_unref(g);
}
#define TAKES(g, t)   check(g, t, true, __LINE__)
#define REFUSES(g, t) check(g, t, false, __LINE__)

static void notation(void **state)
{
    TAKES("root ::= \"a\" | \"b\"", "b");
    REFUSES("root ::= \"a\" | \"b\"", "ab");
    TAKES("# first\nroot ::= (\n  \"x\" # inside\n  | item+\n)\nitem ::= [0-9a-f] |\n  \"-\"\n", "09-f");
    TAKES("root ::= \"a\"* \"b\"+ \"c\"? \"d\"{2} \"e\"{1,} \"f\"{1,3} \"g\"{0,2}", "aabddefffg");
    REFUSES("root ::= \"d\"{2}", "ddd");
    REFUSES("root ::= \"f\"{1,3}", "");
    TAKES("root ::= [^\\n\"\\\\]*", "\xc3\xa4\xf0\x9f\x98\x80 x");
    REFUSES("root ::= [^\\n]*", "a\n");
    TAKES("root ::= \"\\x41\\u00e4\\U0001F600\\t\\r\\n\\\\\\\"\\[\\]\"",
          "A\xc3\xa4\xf0\x9f\x98\x80\t\r\n\\\"[]");
    TAKES("root ::= [\\]\\[a\\\\-]+", "][a\\-");
    TAKES("root ::= [\xe3\x81\x81-\xe3\x82\x9f]+", "\xe3\x81\x82\xe3\x81\x84");
    REFUSES("root ::= [\xe3\x81\x81-\xe3\x82\x9f]+", "\xe3\x82\xa2");
    TAKES("root ::= . .", "\n\xc3\xa4");
    REFUSES("root ::= .", "\xc3");
    TAKES("root ::= \"abc\"{2}", "abcabc");
    TAKES("root ::= | \"a\"", "");
    TAKES("root ::=\n  \"a\"", "a");
    TAKES("root ::= a-b_C1\na-b_C1 ::= \"z\"\r\n", "z");
    TAKES("root ::= <think> [a-z]+ </think>", "\xff<think>ab</think>");
    TAKES("root ::= \"(\" root \")\" | \"\"", "((()))");
    TAKES("root ::= ((\"a\")){70,90}",
          "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    REFUSES("root ::= ((\"a\")){70,90}", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    TAKES("root ::= [a-z]{0,1000000000}", "abc");
}

static void refusal(const char *text, mlxr_status st, const char *message)
{
    mlxr_grammar *g;
    assert_fails(mlxr_grammar_from_gbnf(&g, text, strlen(text), "g", NULL, &err), st, message, &err);
    assert_null(g);
}

static void refusals(void **state)
{
    refusal("", MLXR_E_FORMAT, "no rule \"root\"");
    refusal("x ::= \"a\"", MLXR_E_FORMAT, "no rule \"root\"");
    refusal("root ::= \"a", MLXR_E_FORMAT, "line 1, column 10: a string without an end");
    refusal("root ::= [a", MLXR_E_FORMAT, "column 10: a class without an end");
    refusal("root ::= (\"a\"\n", MLXR_E_FORMAT, "column 10: a parenthesis without an end");
    refusal("root ::= a\n\nb ::= c", MLXR_E_FORMAT, "line 1, column 10: no rule has this name: a");
    refusal("root ::= \"a\"\nroot ::= \"b\"", MLXR_E_FORMAT,
            "line 2, column 1: a rule that is defined twice: root");
    refusal("root ::= *", MLXR_E_FORMAT, "a repeat of nothing");
    refusal("root ::= \"a\"{3,2}", MLXR_E_FORMAT, "more at least than at most: {3,2}");
    refusal("root ::= \"a\"{,2}", MLXR_E_FORMAT, "a count is missing");
    refusal("root ::= \"a\"{2", MLXR_E_FORMAT, "'}' is missing");
    refusal("root ::= \"\\q\"", MLXR_E_FORMAT, "column 11: an escape that GBNF does not have: \\q");
    refusal("root ::= \"\\ud800\"", MLXR_E_FORMAT, "no character: \\ud800");
    refusal("root ::= \"\\x4\"", MLXR_E_FORMAT, "hexadecimal digit");
    refusal("root ::= [z-a]", MLXR_E_FORMAT, "ends before it begins: z-a");
    refusal("root = \"a\"", MLXR_E_FORMAT, "'::=' is missing");
    refusal("root ::= \"a\" )", MLXR_E_FORMAT, "neither an item nor the end");
    refusal("root ::= \"\xc3\"", MLXR_E_FORMAT, "UTF-8");
    refusal("root ::= <[12]>", MLXR_E_UNSUPPORTED, "by their id");
    refusal("root ::= !<x>", MLXR_E_UNSUPPORTED, "negated tokens");
    refusal("root ::= \"a\"{9999999999}", MLXR_E_LIMIT, "count above");
    refusal("root ::= expr\nexpr ::= expr \"+\" | \"1\"", MLXR_E_INVALID_ARGUMENT,
            "rule expr can call itself");
    refusal("root ::= \"a\" root", MLXR_E_INVALID_ARGUMENT, "no text can be completed");
    refusal("root ::= []", MLXR_E_INVALID_ARGUMENT, "no text can be completed");
}

static void deep(void **state)
{
    mlxr_buf t = {0};
    mlxr_grammar *g;
    mlxr_buf_str(&t, "root ::= ");
    for (int i = 0; i < 100000; i++) mlxr_buf_char(&t, '(');
    refusal(t.data, MLXR_E_LIMIT, "nest deeper");
    t.len = 0;
    mlxr_buf_str(&t, "root ::= ");
    for (int i = 0; i < 400; i++) mlxr_buf_char(&t, '(');
    mlxr_buf_str(&t, "\"a\"");
    for (int i = 0; i < 400; i++) mlxr_buf_str(&t, ")?");
    assert_ok(mlxr_grammar_from_gbnf(&g, t.data, t.len, "g", NULL, &err), &err);
    mlxr_grammar_unref(g);
    mlxr_buf_clear(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(notation), cmocka_unit_test(refusals),
                                       cmocka_unit_test(deep)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
