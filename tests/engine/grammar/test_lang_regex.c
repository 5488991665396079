/* lang: regular expressions, against what an ECMA-262 engine finds (regex.json, by make_regex.py), and what is refused. With
 * an argument: another file of that form. */
#include "test.h"

#include "base/fs.h"
#include "base/json.h"
#include "engine/grammar/lang.h"

static mlxr_error err;
static const char *path = MLXR_TEST_DIR "/regex.json";

static bool has(const mlxr_dfa *d, const json_t *text)
{
    return mlxr_dfa_has(d, json_string_value(text), json_string_length(text));
}

static bool listed(const json_t *list, const json_t *text)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_equal(json_array_get(list, i), text)) return true;
    return false;
}

static void matches_are_those_of_ecma_262(void **state)
{
    json_error_t json_err;
    json_t *all = json_load_file(path, JSON_ALLOW_NUL, &json_err);
    size_t n_texts = 0, n_wrong = 0, n_refused = 0;
    assert_non_null(all);
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *entry = json_array_get(all, i), *whole = json_array_get(entry, 3);
        const char *pattern = json_string_value(json_array_get(entry, 0));
        size_t n = json_string_length(json_array_get(entry, 0));
        mlxr_dfa *find, *match;
        mlxr_status st = mlxr_dfa_regex(&find, pattern, n, false, NULL, &err);
        if (st == MLXR_E_LIMIT) { /* random ones may be too large; those listed are not */
            n_refused++;
            continue;
        }
        if (st != MLXR_OK) fail_msg("%s: %s", pattern, err.message);
        assert_ok(mlxr_dfa_regex(&match, pattern, n, true, NULL, &err), &err);
        for (int yes = 0; yes < 2; yes++) {
            const json_t *texts = json_array_get(entry, yes ? 1 : 2);
            for (size_t j = 0; j < json_array_size(texts); j++, n_texts++) {
                const json_t *text = json_array_get(texts, j);
                bool is_whole = listed(whole, text);
                if (has(find, text) != (yes == 1)) {
                    n_wrong++;
                    print_message("%s: \"%s\" %s\n", pattern, json_string_value(text),
                                  yes ? "is missing" : "is in");
                }
                if (has(match, text) != is_whole) {
                    n_wrong++;
                    print_message("whole %s: \"%s\" %s\n", pattern, json_string_value(text),
                                  is_whole ? "is missing" : "is in");
                }
            }
        }
        mlxr_dfa_unref(find);
        mlxr_dfa_unref(match);
    }
    print_message("%zu patterns, %zu texts, %zu too large\n", json_array_size(all), n_texts, n_refused);
    assert_true(n_texts > 1000 && n_refused * 50 < json_array_size(all));
    assert_int_equal(n_wrong, 0);
    json_decref(all);
}

static void check(const char *pattern, mlxr_status wanted, const char *message)
{
    mlxr_dfa *d = NULL;
    mlxr_status st;
    err.message[0] = '\0';
    st = mlxr_dfa_regex(&d, pattern, strlen(pattern), false, NULL, &err);
    if (st != wanted || !strstr(err.message, message))
        fail_msg("%s: %s \"%s\", wanted %s with \"%s\"", pattern, mlxr_status_name(st), err.message,
                 mlxr_status_name(wanted), message);
    assert_int_equal(d == NULL, wanted != MLXR_OK);
    mlxr_dfa_unref(d);
}

static void mistakes_have_their_place(void **state)
{
    static const char *const wrong[][2] = {
        {"a(b", "byte 1: ( without )"},
        {"ab)c", "byte 2: ) without ("},
        {"a**", "byte 2: a quantifier with nothing"},
        {"*a", "byte 0: a quantifier with nothing"},
        {"a|+", "byte 2: a quantifier with nothing"},
        {"{2}", "byte 0: a quantifier with nothing"},
        {"a{3,2}", "byte 1: the quantifier's numbers"},
        {"^*", "byte 1: a quantifier behind an assertion"},
        {"(?=a)*", "byte 5: a quantifier behind an assertion"},
        {"[b-a]", "byte 1: the range's ends"},
        {"x[a", "byte 1: [ without ]"},
        {"[\\", "byte 1: \\ at the end"},
        {"a\\", "byte 1: \\ at the end"},
        {"\\a", "byte 0: this escape is not known"},
        {"a\\Z", "byte 1: this escape is not known"},
        {"\\u12", "byte 0: \\u must"},
        {"\\u{110000}", "beyond U+10FFFF"},
        {"\\u{}", "\\u{ must"},
        {"\\xg0", "\\x must"},
        {"\\c1", "\\c must"},
        {"\\01", "\\0 before a digit"},
        {"\\pL", "\\p must"},
        {"\\p{", "\\p{ without"},
        {"\\p{}", "\\p{ without"},
        {"(?P<a>b)", "(? must"},
        {"(?<1>b)", "(?< must"},
        {"(?>a)", "(? must"},
        {"a\xff", "byte 1: no UTF-8"},
    };
    static const char *const refused[][2] = {
        {"(a)\\1", "byte 3: back references"},
        {"(?<n>a)\\k<n>", "byte 7: back references"},
        {"(?<=a)b", "byte 0: lookbehind"},
        {"b(?<!a)", "byte 1: lookbehind"},
        {"(?i)a", "byte 0: flags"},
        {"\\p{Script=Klingon}", "\"Script=Klingon\" is not supported"},
        {"\\p{Bidi_M}", "\"Bidi_M\""},
    };
    for (size_t i = 0; i < MLXR_COUNT(wrong); i++) check(wrong[i][0], MLXR_E_FORMAT, wrong[i][1]);
    for (size_t i = 0; i < MLXR_COUNT(refused); i++) check(refused[i][0], MLXR_E_UNSUPPORTED, refused[i][1]);
}

/* What ECMA-262 has without the flag u, and schemas use. */
static void harmless_liberties_are_taken(void **state)
{
    static const struct {
        const char *pattern, *yes, *no;
    } cases[] = {
        {"^a{$", "a{", "a"},
        {"^{a}$", "{a}", "a"},
        {"^a{,2}$", "a{,2}", "aa"},
        {"^]}$", "]}", "]"},
        {"^\\-\\_\\@\\ $", "-_@ ", "\\-"},
        {"^[\\w-.]+$", "a-.", "a,"},
        {"^[a-\\d]$", "-", "b"},
        {"^[--a]$", "A", "b"},
    };
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        mlxr_dfa *d;
        assert_ok(mlxr_dfa_regex(&d, cases[i].pattern, strlen(cases[i].pattern), false, NULL, &err), &err);
        if (!mlxr_dfa_has(d, cases[i].yes, strlen(cases[i].yes)) ||
            mlxr_dfa_has(d, cases[i].no, strlen(cases[i].no)))
            fail_msg("%s", cases[i].pattern);
        mlxr_dfa_unref(d);
    }
}

static char *repeated(const char *before, const char *middle, const char *after, int n)
{
    mlxr_buf b = {0};
    for (int i = 0; i < n; i++) mlxr_buf_str(&b, before);
    mlxr_buf_str(&b, middle);
    for (int i = 0; i < n; i++) mlxr_buf_str(&b, after);
    assert_false(b.failed);
    return b.data;
}

static void hostile_patterns_end_at_a_limit(void **state)
{
    static const char *const patterns[] = {
        "^(a|b)*a(a|b){30}$",
        "^(((((a{0,99}){0,99}){0,99}){0,99}){0,99}){0,99}$",
        "^((a{1000}){1000}){1000}$",
        "^.{1000000}$",
        "^(\\b|a){999999999}$",
        "^(?:(?=.*a.{9})(?=.*b.{9})(?=.*c.{9})(?=.*d.{9}).)*$",
        "^(?=(.*a){9})(?=(.*b){9})(?=(.*c){9})(?=(.*d){9})(?=(.*e){9}).*$",
        "^[\\p{L}\\p{N}]{1,5000}$",
        "(?!(?!(?!(.*a.{20}))))b.*c.{20}",
    };
    uint64_t slowest = 0;
    for (size_t i = 0; i < MLXR_COUNT(patterns); i++) {
        uint64_t start = mlxr_now_ns(), time;
        check(patterns[i], MLXR_E_LIMIT, "max_");
        time = mlxr_now_ns() - start;
        if (time > slowest) slowest = time;
    }
    print_message("slowest: %.1f ms\n", (double)slowest / 1e6);
    for (int i = 0; i < 3; i++) {
        static const char *const nested[][3] = {{"(", "a", ")"}, {"(?:", "a", ")*"}, {"(?=", "a", ")"}};
        char *p = repeated(nested[i][0], nested[i][1], nested[i][2], 20000);
        check(p, MLXR_E_LIMIT, "groups in each other");
        free(p);
        p = repeated(nested[i][0], nested[i][1], nested[i][2], 150);
        check(p, MLXR_OK, "");
        free(p);
    }
    char *flat = repeated("ab|", "c", "|[^d]", 20000);
    check(flat, MLXR_E_LIMIT, "max_");
    free(flat);
    /* These are large, but fine. */
    check("^(){999999999}(?:|){5}$", MLXR_OK, "");
    check("^[a-z]{0,2000}$", MLXR_OK, "");
    check("^(.*a){40}$", MLXR_OK, "");
    check("(a|b)*a(a|b){30}|", MLXR_OK, "");
    check("^(?:[^<]|<(?!script))*$", MLXR_OK, "");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_are_those_of_ecma_262),
        cmocka_unit_test(mistakes_have_their_place),
        cmocka_unit_test(harmless_liberties_are_taken),
        cmocka_unit_test(hostile_patterns_end_at_a_limit),
    };
    if (argc > 1) path = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
