/* The builder and the matcher by bytes: what each expression takes, what is refused, and limits. */
#include "engine/grammar/grammar.h"
#include "test.h"

static mlxr_error err;

typedef struct fixture {
    mlxr_grammar_builder *b;
    mlxr_rule root;
} fixture;

static fixture begin(void)
{
    fixture f;
    assert_ok(mlxr_grammar_builder_create(&f.b, NULL, &err), &err);
    f.root = mlxr_gb_rule(f.b, "root");
    return f;
}

static mlxr_grammar *end(fixture f, mlxr_expr e)
{
    mlxr_grammar *g;
    mlxr_gb_define(f.b, f.root, e);
    assert_ok(mlxr_grammar_finish(&g, f.b, f.root, &err), &err);
    mlxr_grammar_builder_free(f.b);
    return g;
}

/* How many of the bytes fit; *ends: the text behind them is complete. */
static size_t taken(mlxr_grammar *g, const char *text, size_t n, bool *ends)
{
    mlxr_masker *k;
    mlxr_matcher *m;
    size_t n_taken;
    assert_ok(mlxr_masker_create(&k, g, NULL, &err), &err);
    assert_ok(mlxr_matcher_create(&m, k, &err), &err);
    assert_ok(mlxr_matcher_push(&n_taken, m, text, n, &err), &err);
    *ends = mlxr_matcher_may_end(m);
    mlxr_matcher_free(m);
    mlxr_masker_free(k);
    return n_taken;
}

static void expect(mlxr_grammar *g, const char *text, size_t want, bool want_end, int line)
{
    bool ends;
    size_t n = taken(g, text, strlen(text), &ends);
    if (n != want || (n == strlen(text) && ends != want_end))
        fail_msg("line %d: \"%s\": %zu bytes fit, ends %d; wanted %zu, %d", line, text, n, ends, want,
                 want_end);
}
#define COMPLETE(g, text)   expect(g, text, strlen(text), true, __LINE__)
#define STARTS(g, text)     expect(g, text, strlen(text), false, __LINE__)
#define REFUSES(g, text, n) expect(g, text, n, false, __LINE__)

#define TEXT(b, s) mlxr_gb_text(b, s, strlen(s))
#define SEQ(b, ...) \
    mlxr_gb_seq(b, (const mlxr_expr[]){__VA_ARGS__}, sizeof((mlxr_expr[]){__VA_ARGS__}) / sizeof(mlxr_expr))
#define ALT(b, ...) \
    mlxr_gb_alt(b, (const mlxr_expr[]){__VA_ARGS__}, sizeof((mlxr_expr[]){__VA_ARGS__}) / sizeof(mlxr_expr))

static void texts_and_alternatives(void **state)
{
    fixture f = begin();
    mlxr_grammar *g = end(f, SEQ(f.b, TEXT(f.b, "a"),
                                 ALT(f.b, TEXT(f.b, "bc"), TEXT(f.b, "bd"), mlxr_gb_empty(f.b)),
                                 mlxr_gb_optional(f.b, TEXT(f.b, "e"))));
    STARTS(g, "");
    COMPLETE(g, "a");
    STARTS(g, "ab");
    COMPLETE(g, "abc");
    COMPLETE(g, "abde");
    COMPLETE(g, "ae");
    REFUSES(g, "aee", 2);
    REFUSES(g, "x", 0);
    mlxr_grammar_unref(g);
}

static void nesting(void **state)
{
    fixture f = begin();
    mlxr_rule v = mlxr_gb_rule(f.b, "value");
    mlxr_grammar *g;
    mlxr_gb_define(
        f.b, v,
        ALT(f.b, TEXT(f.b, "1"),
            SEQ(f.b, TEXT(f.b, "["),
                mlxr_gb_optional(f.b, SEQ(f.b, mlxr_gb_call(f.b, v),
                                          mlxr_gb_repeat(f.b, SEQ(f.b, TEXT(f.b, ","), mlxr_gb_call(f.b, v)),
                                                         0, SIZE_MAX))),
                TEXT(f.b, "]"))));
    g = end(f, mlxr_gb_call(f.b, v));
    COMPLETE(g, "[]");
    COMPLETE(g, "[[1,[],1],1]");
    STARTS(g, "[[1,[],1],1");
    REFUSES(g, "[1]]", 3);
    REFUSES(g, "[,", 1);
    mlxr_grammar_unref(g);
}

static void repeats(void **state)
{
    for (size_t n = 1; n <= 400; n += 133) {
        fixture f = begin();
        mlxr_grammar *g = end(f, SEQ(f.b, mlxr_gb_repeat(f.b, TEXT(f.b, "ab"), n, n + 2), TEXT(f.b, ".")));
        for (size_t k = 0; k < n + 4; k++) {
            mlxr_buf t = {0};
            bool ends;
            for (size_t i = 0; i < k; i++) mlxr_buf_str(&t, "ab");
            mlxr_buf_str(&t, ".");
            assert_int_equal(taken(g, t.data, t.len, &ends) == t.len && ends, k >= n && k <= n + 2);
            mlxr_buf_clear(&t);
        }
        mlxr_grammar_unref(g);
    }
}

static void characters(void **state)
{
    fixture f = begin();
    mlxr_grammar *g = end(f, SEQ(f.b, TEXT(f.b, "\""), mlxr_gb_chars(f.b, 2, 3), TEXT(f.b, "\"")));
    COMPLETE(g, "\"ab\"");
    COMPLETE(g, "\"a\xc3\xa4\xf0\x9f\x98\x80\"");
    COMPLETE(g, "\"\\n\\u00e4\\ud83d\\ude00\"");
    REFUSES(g, "\"a\"", 2);
    REFUSES(g, "\"abcd", 4);
    REFUSES(g, "\"\\udc00", 4);
    REFUSES(g, "\"\\ud83dx", 7);
    REFUSES(g, "\"\xff", 1);
    REFUSES(g, "\"\n", 1);
    mlxr_grammar_unref(g);
}

static void free_and_until(void **state)
{
    static const char *const words[] = {"<call>", "<ca", "</x>"};
    fixture f = begin();
    mlxr_grammar *g = end(
        f, SEQ(f.b, mlxr_gb_free(f.b, words, 1), mlxr_gb_marker(f.b, "<call>"), TEXT(f.b, "1")));
    STARTS(g, "x<<ca<cal");
    COMPLETE(g, "x<<call>1");
    COMPLETE(g, "\xff<call>1");
    STARTS(g, "x<call>");
    REFUSES(g, "x<call>2", 7);
    mlxr_grammar_unref(g);
    f = begin();
    g = end(f, mlxr_gb_until(f.b, words, 3));
    COMPLETE(g, "a<<ca");
    COMPLETE(g, "a</x>");
    REFUSES(g, "a</x>b", 5);
    STARTS(g, "a</x");
    mlxr_grammar_unref(g);
}

static void unique_names(void **state)
{
    fixture f = begin();
    static const mlxr_text names[] = {{"a", 1}, {"ab", 2}, {"b", 1}};
    mlxr_dfa *d;
    mlxr_grammar *g;
    assert_ok(mlxr_dfa_literals(&d, names, 3, &err), &err);
    g = end(f, mlxr_gb_repeat(f.b, SEQ(f.b, mlxr_gb_unique(f.b, d), TEXT(f.b, ",")), 2, SIZE_MAX));
    COMPLETE(g, "a,b,ab,");
    COMPLETE(g, "ab,a,");
    REFUSES(g, "a,a,", 3);
    REFUSES(g, "a,ab,a", 5);
    REFUSES(g, "ab,b,b", 5);
    REFUSES(g, "a,ab,b,a", 7);
    mlxr_grammar_unref(g);
}

/* One name is kept for what comes behind a repeat, counted or written out. */
static void unique_names_behind(void **state)
{
    static const mlxr_text names[] = {{"a", 1}, {"ab", 2}, {"b", 1}};
    for (size_t max = 5; max <= 500; max *= 100) {
        fixture f = begin();
        mlxr_dfa *d;
        mlxr_grammar *g;
        mlxr_expr e;
        assert_ok(mlxr_dfa_literals(&d, names, 3, &err), &err);
        e = mlxr_gb_repeat(f.b, SEQ(f.b, mlxr_gb_unique(f.b, mlxr_dfa_ref(d)), TEXT(f.b, ",")), 1, max);
        g = end(f, SEQ(f.b, e, mlxr_gb_unique(f.b, d), TEXT(f.b, ".")));
        COMPLETE(g, "a,b,ab.");
        COMPLETE(g, "ab,b.");
        REFUSES(g, "a,b,ab,", 6);
        REFUSES(g, "a,b,b", 4);
        REFUSES(g, "a.", 1);
        mlxr_grammar_unref(g);
    }
}

static void refusals(void **state)
{
    mlxr_grammar *g;
    fixture f = begin();
    mlxr_rule a = mlxr_gb_rule(f.b, "alpha");
    mlxr_gb_define(f.b, f.root, mlxr_gb_call(f.b, a));
    mlxr_gb_define(f.b, a,
                   ALT(f.b,
                       SEQ(f.b, mlxr_gb_optional(f.b, TEXT(f.b, "x")), mlxr_gb_call(f.b, a), TEXT(f.b, "y")),
                       TEXT(f.b, "z")));
    assert_fails(mlxr_grammar_finish(&g, f.b, f.root, &err), MLXR_E_INVALID_ARGUMENT,
                 "rule alpha can call itself", &err);
    mlxr_grammar_builder_free(f.b);

    f = begin();
    mlxr_gb_define(f.b, f.root, mlxr_gb_call(f.b, mlxr_gb_rule(f.b, "beta")));
    assert_fails(mlxr_grammar_finish(&g, f.b, f.root, &err), MLXR_E_INVALID_ARGUMENT,
                 "rule beta is not defined", &err);
    mlxr_grammar_builder_free(f.b);

    f = begin();
    mlxr_gb_define(f.b, f.root, SEQ(f.b, TEXT(f.b, "a"), mlxr_gb_call(f.b, f.root)));
    assert_fails(mlxr_grammar_finish(&g, f.b, f.root, &err), MLXR_E_INVALID_ARGUMENT,
                 "no text can be completed", &err);
    mlxr_grammar_builder_free(f.b);

    f = begin();
    a = mlxr_gb_text(f.b, "a", 1);
    mlxr_gb_define(f.b, f.root, SEQ(f.b, a, a));
    assert_fails(mlxr_grammar_finish(&g, f.b, f.root, &err), MLXR_E_INVALID_ARGUMENT, "used in two places",
                 &err);
    mlxr_grammar_builder_free(f.b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_and_alternatives),
        cmocka_unit_test(nesting),
        cmocka_unit_test(repeats),
        cmocka_unit_test(characters),
        cmocka_unit_test(free_and_until),
        cmocka_unit_test(unique_names),
        cmocka_unit_test(unique_names_behind),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
