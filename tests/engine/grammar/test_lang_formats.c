/* lang: formats, against what jsonschema takes (formats.json, by make_formats.py): no text that it refuses is in, and those
 * it takes are, but for what is listed here. */
#include "test.h"

#include "base/json.h"
#include "engine/grammar/lang.h"

static mlxr_error err;

static mlxr_dfa *format(const char *name)
{
    mlxr_dfa *d;
    assert_ok(mlxr_dfa_format(&d, name, NULL, &err), &err);
    return d;
}

static bool has(const mlxr_dfa *d, const char *text)
{
    return mlxr_dfa_has(d, text, strlen(text));
}

/* Where jsonschema looks less closely than the RFC, or at what no automaton can follow: texts it takes may be left out. What
 * must be in is listed below. */
static bool may_be_left_out(const char *name, const char *text)
{
    static const char *const lax[] = {"email", "idn-email", "idn-hostname", "duration", "uri-template"};
    for (size_t i = 0; i < MLXR_COUNT(lax); i++)
        if (strcmp(name, lax[i]) == 0) return true;
    return strcmp(name, "hostname") == 0 && (strstr(text, "--") || strchr(text, '\n') ||
                                             strstr(text, "aaaaaaaaa") || text[strlen(text) - 1] == '.');
}

static void nothing_refused_is_in(void **state)
{
    json_error_t json_err;
    json_t *all = json_load_file(MLXR_TEST_DIR "/formats.json", JSON_ALLOW_NUL, &json_err), *entry;
    const char *name;
    size_t n = 0, n_wrong = 0;
    assert_non_null(all);
    json_object_foreach(all, name, entry)
    {
        mlxr_dfa *d = format(name);
        size_t n_out = 0;
        for (size_t yes = 0; yes < 2; yes++) {
            const json_t *texts = json_array_get(entry, yes ? 0 : 1);
            for (size_t i = 0; i < json_array_size(texts); i++, n++) {
                const json_t *text = json_array_get(texts, i);
                const char *s = json_string_value(text);
                bool in = mlxr_dfa_has(d, s, json_string_length(text));
                if (in && !yes) {
                    n_wrong++;
                    print_message("%s: \"%s\" is in\n", name, s);
                }
                if (!in && yes) {
                    n_out++;
                    if (!may_be_left_out(name, s)) {
                        n_wrong++;
                        print_message("%s: \"%s\" is missing\n", name, s);
                    }
                }
            }
        }
        print_message("%-22s %5u states, %zu of its texts left out\n", name, d->n_states, n_out);
        mlxr_dfa_unref(d);
    }
    assert_true(n > 1000);
    assert_int_equal(n_wrong, 0);
    json_decref(all);
}

static void check(const char *name, const char *const *in, const char *const *out)
{
    mlxr_dfa *d = format(name);
    for (; *in; in++)
        if (!has(d, *in)) fail_msg("%s: \"%s\" is missing", name, *in);
    for (; *out; out++)
        if (has(d, *out)) fail_msg("%s: \"%s\" is in", name, *out);
    mlxr_dfa_unref(d);
}
#define LIST(...)         \
    (const char *const[]) \
    {                     \
        __VA_ARGS__, NULL \
    }

static void what_is_in_and_out(void **state)
{
    check(
        "hostname", LIST("a", "www.example.com", "1.2.3.4", "a-b.c", "a--b", "abc--d", "a.b.c.d.e.f.g.h"),
        LIST("", "-a", "a-", "a..b", "a.", ".a", "a_b", "xn--abc", "ab--c", "a.ab--c", "a.b.c.d.e.f.g.h.i"));
    check("email",
          LIST("joe.bloggs@example.com", "te~st@a.b", "\"joe bloggs\"@a.b", "\"a@b\\\"\"@c", "a@[127.0.0.1]",
               "a@[IPv6:::1]", "x@y"),
          LIST(".a@b", "a.@b", "a..b@c", "a@", "@a", "a b@c", "a@b_c", "a@[127.0.0.300]", "a@b@c",
               "\"a\"b\"@c", "a"));
    check("idn-email", LIST("joe@example.com", "실례@실례.테스트", "δοκιμή@example.com", "\"a b\"@c"),
          LIST("a", "@a", "é@", ".é@a", "é@é..a"));
    check("idn-hostname", LIST("실례.테스트", "straße.de", "日本語.jp", "example.com", "ö-ö"),
          LIST("", "-é", "é-", "é..a", "Éa", "a·l", "xn--a", "ab--é", "é--", "\xd7\x90"));
    check("duration", LIST("P4DT12H30M5S", "P1Y2M3DT4H5M6S", "PT36H", "P2W", "PT0S", "P01D"),
          LIST("P", "PT", "P1YT", "P1Y2D", "PT1H2S", "P1Y2W", "PT0.5S", "-P1D", "P1"));
    check("uri-template",
          LIST("http://example.com/{term:1}/{term}", "{+a,b*}{?c}{&d:999}", "a%41b", "é{x.y}", "a'b", ""),
          LIST("{", "}", "{}", "{a,,b}", "{a..b}", "{a:0}", "{a:01}", "{=a}", "a b", "a%4", "a\"b", "{a,}"));
    check("byte", LIST("", "AAAA", "QQ==", "QUI=", "QUJD", "+/+/"),
          LIST("A", "AA", "AAA", "QR==", "QUJ=", "====", "AA=A", "-_-_"));
    check("base64url", LIST("", "QQ", "QQ==", "-_-_"), LIST("A", "+/+/", "QR"));
    check("uuid4", LIST("123e4567-e89b-42d3-a456-426614174000"),
          LIST("123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-42d3-c456-426614174000"));
    check("relative-json-pointer", LIST("0", "10#", "2/a~1"), LIST("01", "#", "/a", "0#/a"));
    check("time", LIST("23:59:59Z"), LIST("23:59:60Z", "23:59:60+00:00"));
}

/* Every day of a cycle of the calendar and each that is none. */
static void dates_are_real(void **state)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    mlxr_dfa *d = format("date");
    char text[16];
    uint64_t n = 0;
    for (int year = 0; year < 10000; year += year >= 400 && year < 9500 ? 7 : 1)
        for (int month = 0; month <= 13; month++)
            for (int day = 0; day <= 32; day++) {
                bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
                bool real = year > 0 && month >= 1 && month <= 12 && day >= 1 &&
                            day <= days[month - 1] + (month == 2 && leap);
                snprintf(text, sizeof text, "%04d-%02d-%02d", year, month, day);
                if (has(d, text) != real) fail_msg("%s", text);
            }
    n = mlxr_dfa_count(d);
    assert_true(n == 3652059); /* days of the years 1 to 9999 */
    mlxr_dfa_unref(d);
}

static void unknown_ones_are_refused(void **state)
{
    mlxr_dfa *d;
    assert_fails(mlxr_dfa_format(&d, "regex", NULL, &err), MLXR_E_UNSUPPORTED, "format \"regex\"", &err);
    assert_null(d);
    assert_fails(mlxr_dfa_format(&d, "no-such", NULL, &err), MLXR_E_UNSUPPORTED, "format \"no-such\"", &err);
    mlxr_lang_limits few = {.max_states = 10, .max_steps = 1000000};
    assert_fails(mlxr_dfa_format(&d, "uri", &few, &err), MLXR_E_LIMIT, "format \"uri\": regex", &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_refused_is_in),
        cmocka_unit_test(what_is_in_and_out),
        cmocka_unit_test(dates_are_real),
        cmocka_unit_test(unknown_ones_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
