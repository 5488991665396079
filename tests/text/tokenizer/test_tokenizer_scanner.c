/* Every hand-written scanner against PCRE2 on random Unicode: the same pattern, put into a group so that it is not
 * recognized, goes through the translation and PCRE2, and both must split a text alike. */
#include "text/tokenizer/tests.h"

#include "text/tokenizer/tokenizer.h"

static uint64_t rng = 0x9e3779b97f4a7c15u;
static uint32_t next(uint32_t below)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)(rng >> 32) % below;
}

/* Characters of every kind that the patterns tell apart, and any at all. */
static uint32_t character(void)
{
    static const uint32_t kinds[] = {
        ' ',    ' ',     ' ',     '\n',   '\r',   '\t',   '\'',    's',      't',    'S',    'T',
        'r',    'e',     'v',     'E',    'm',    'M',    'l',     'L',      'd',    'D',    0x17f,
        'a',    'Z',     '1',     '9',    '/',    '.',    '-',     '_',      '$',    0xa0,   0x3000,
        0x2028, 0x85,    0x1c5,   0x2b0,  0x5d0,  0x4e00, 0x9fa5,  0x9fa6,   0x3042, 0x30ff, 0x300,
        0x301,  0x903,   0x20dd,  0x664,  0x2167, 0xb2,   0xbd,    0x200b,   0x200d, 0xfeff, 0,
        0x7f,   0x1f600, 0x1f1e6, 0xe000, 0xdf,   0x130,  0x1d7ce, 0x10ffff, 0x378,  0x3a3};
    uint32_t c;
    if (next(100) < 80) return kinds[next(MLXR_COUNT(kinds))];
    do c = next(4) ? next(0x3000) : next(0x110000);
    while (c >= 0xd800 && c < 0xe000);
    return c;
}

static void compare(tok_scanner scanner, const char *s, size_t n, tok_pattern *fast, tok_pattern *slow,
                    tok_matches *a, tok_matches *b)
{
    tok_matches_begin(a, fast, s, n);
    tok_matches_begin(b, slow, s, n);
    for (;;) {
        bool found_a, found_b;
        size_t begin_a = 0, end_a = 0, begin_b = 0, end_b = 0;
        assert_int_equal(tok_matches_next(a, &found_a, &begin_a, &end_a, NULL), MLXR_OK);
        assert_int_equal(tok_matches_next(b, &found_b, &begin_b, &end_b, NULL), MLXR_OK);
        if (found_a != found_b || begin_a != begin_b || end_a != end_b) {
            printf("scanner %d: [%zu, %zu) where PCRE2 has [%zu, %zu) of:", (int)scanner, begin_a, end_a,
                   begin_b, end_b);
            for (size_t i = 0; i < n; i++) printf(" %02x", (unsigned char)s[i]);
            printf("\n");
            fail();
        }
        if (!found_a) return;
    }
}

static void test_scanners(void **state)
{
    (void)state;
    for (int k = TOK_SCAN_NONE + 1; k < TOK_SCAN_COUNT; k++) {
        const char *pattern = tok_scanner_pattern((tok_scanner)k);
        mlxr_error err = {0};
        mlxr_buf group = {0}, text = {0};
        tok_pattern *fast = NULL, *slow = NULL;
        tok_matches a = {0}, b = {0};
        mlxr_buf_printf(&group, "(?:%s)", pattern);
        assert_int_equal(tok_pattern_create(&fast, pattern, strlen(pattern), true, "fast", &err), MLXR_OK);
        assert_int_equal(tok_pattern_create(&slow, group.data, group.len, true, "slow", &err), MLXR_OK);
        assert_int_equal(tok_pattern_scanner(fast), k);
        assert_int_equal(tok_pattern_scanner(slow), TOK_SCAN_NONE);
        for (int i = 0; i < 20000; i++) {
            text.len = 0;
            for (uint32_t j = next(24); j > 0; j--) {
                uint32_t c = character();
                for (uint32_t again = next(6) ? 1 : next(4) + 1; again > 0; again--) mlxr_buf_utf8(&text, c);
            }
            compare((tok_scanner)k, text.data ? text.data : "", text.len, fast, slow, &a, &b);
        }
        tok_matches_clear(&a);
        tok_matches_clear(&b);
        tok_pattern_free(fast);
        tok_pattern_free(slow);
        mlxr_buf_clear(&group);
        mlxr_buf_clear(&text);
    }
}

/* What Oniguruma says of a pattern and a text, replaced by "<>": recorded from the reference. */
static void test_syntax(void **state)
{
    static const char *const cases[][3] = {
        {"[\\w]", "a²b", "<>²<>"},
        {"\\w", "a²b", "<><><>"},
        {"[^\\w]", "a²b", "a<>b"},
        {"a.b", "a\nb", "a\nb"},
        {"(?m)a.b", "a\nb", "<>"},
        {"(?m:a.b)", "a\nb", "<>"},
        {"\\bab", "²ab ab", "²ab <>"},
        {"a{2}+", "aaaaa", "<>a"},
        {"a+?b", "aab", "<>"},
        {"b\\Z", "b\nb\n", "b\n<>\n"},
        {"$", "a\nb\n", "a<>\nb<>\n<>"},
        {"^", "a\nb\n", "<>a\n<>b\n"},
        {"(?i)[a-z]", "ſK", "<><>"},
        {"(?i)[^a-z]", "ſK1", "ſK<>"},
        {"\\O", "a\n", "<><>"},
        {"[[:punct:]]", "a+b,c", "a<>b<>c"},
        {"\\p{Punct}", "a+,", "a+<>"},
        {"\\p{Word}", "a²", "<><>"},
        {"\\p{Alnum}", "a²1", "<>²<>"},
        {"x*", "abc", "<>a<>b<>c<>"},
        {"", "abc", "<>a<>b<>c<>"},
        {"a|b*", "abc", "<><>c<>"},
        {"(?<=a|bc)d", "ad bcd", "a<> bc<>"},
        {"\\s{2,}$", "a  \nb  ", "a<>\nb<>"},
        {"(?i)a(?-i)B", "aB ab", "<> ab"},
        {"\\R", "a\r\n\nb", "a<><>b"},
        {"[\\]\\[]", "a[]", "a<><>"},
        {"[a\\-z]", "-b", "<>b"},
        {"\\v",
         "a\x0b"
         "b",
         "a<>b"},
        {"\\12", "\n", NULL},
        {"\\p{LC}", "aB1", "<><>1"},
        {"\\P{^L}", "a1", "<>1"},
        {"\\p{ASCII}", "aé", "<>é"},
        {"[a-z&&[^aeiou]]+", "abcde", "a<>e"},
        {"(?x) a b # c", "ab", "<>"},
        {"a{", "a{b", "<>b"},
        {"\\h+", "xyzab", "xyz<>"},
        {"[[:^alpha:]]", "a1", "a<>"},
    };
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        mlxr_error err = {0};
        tok_pattern *p = NULL;
        tok_matches m = {0};
        mlxr_buf out = {0};
        if (!cases[i][2]) continue;
        if (tok_pattern_create(&p, cases[i][0], strlen(cases[i][0]), true, "test", &err) != MLXR_OK)
            fail_msg("%s: %s", cases[i][0], err.message);
        assert_int_equal(
            tok_pattern_replace(&out, p, &m, cases[i][1], strlen(cases[i][1]), (tok_str){"<>", 2}, &err),
            MLXR_OK);
        if (strcmp(out.data, cases[i][2]) != 0)
            fail_msg("%s: got %s, want %s", cases[i][0], out.data, cases[i][2]);
        tok_matches_clear(&m);
        tok_pattern_free(p);
        mlxr_buf_clear(&out);
    }
}

static void test_refused(void **state)
{
    static const char *const patterns[] = {
        "(",      ")",      "[",  "a)",   "*a",  "a|*", "(?<n", "\\p{Nope}", "\\p{L",      "[b-a]",
        "(?~ab)", "\\g<1>", "\\", "(?z)", "(?#", "[a",  "[[a]", "(*FAIL)",   "\\x{110000}"};
    char deep[4096];
    tok_pattern *p = NULL;
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(patterns); i++) {
        mlxr_error err = {0};
        if (tok_pattern_create(&p, patterns[i], strlen(patterns[i]), true, "test", &err) == MLXR_OK)
            fail_msg("%s was taken", patterns[i]);
        assert_null(p);
        assert_true(strstr(err.message, "test") != NULL);
    }
    memset(deep, '(', sizeof deep);
    assert_int_equal(tok_pattern_create(&p, deep, sizeof deep, true, "test", NULL), MLXR_E_LIMIT);
    memset(deep, '[', sizeof deep);
    assert_int_equal(tok_pattern_create(&p, deep, sizeof deep, true, "test", NULL), MLXR_E_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_scanners), cmocka_unit_test(test_syntax),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
