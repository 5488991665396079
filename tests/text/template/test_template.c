/* Hostile templates and contexts end in a status, never in a crash, a hang or a full memory; and the public calls
 * keep what their comments promise. What renderings look like is test_template_cases.c's. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/base.h"

static mlxr_status try(const char *source, size_t n, const char *context, const mlxr_template_limits *limits,
                       char **text, mlxr_error *err)
{
    mlxr_template *t;
    size_t n_text;
    mlxr_status st = mlxr_template_create(&t, source, n, "t", err);
    *text = NULL;
    if (st != MLXR_OK) return st;
    st = mlxr_template_render(text, &n_text, t, context, strlen(context), 0, limits, err);
    mlxr_template_free(t);
    return st;
}

/* Small bounds, so that reaching them is quick. */
static mlxr_template_limits small(void)
{
    mlxr_template_limits l = mlxr_template_limits_default();
    l.max_steps = 300000;
    l.max_memory_bytes = 16 << 20;
    l.max_output_bytes = 1 << 20;
    return l;
}

static void expect_status(const char *source, mlxr_status want)
{
    mlxr_template_limits l = small();
    mlxr_error err = {0};
    char *text;
    mlxr_status st = try(source, strlen(source), "{\"l\": [1, 2, 3], \"s\": \"abc\"}", &l, &text, &err);
    mlxr_free(text);
    if (st != want)
        fail_msg("%.60s: %s, wanted %s (%s)", source, mlxr_status_name(st), mlxr_status_name(want),
                 err.message);
    if (want != MLXR_OK) {
        assert_int_equal(err.code, want);
        assert_null(strchr(err.message, '\n'));
    }
}

static void test_limits(void **state)
{
    static const char *const sources[] = {
        "{{ 'x' * 10**12 }}",
        "{{ ('x' * 1000000) * 1000000 }}",
        "{{ [0] * 10**12 }}",
        "{{ 'x'|center(10**12) }}",
        "{{ 'x'.ljust(9223372036854775807) }}",
        "{{ 'x'.zfill(10**15) }}",
        "{{ 'x\\ty'.expandtabs(2000000000) }}",
        "{{ 's'|indent(10**12) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%.1000000000f' % 1.0 }}",
        "{{ '%.1000000000d' % 1 }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:.1000000000f}'.format(1.5) }}",
        "{{ '{:>1000000000}'.format('a') }}",
        "{{ '{:01000000000,}'.format(1) }}",
        "{{ [1]|tojson(indent=10**12) }}",
        "{{ l|batch(10**12, 0)|list }}",
        "{{ l|slice(10**10)|list }}",
        "{{ lipsum(10**9) }}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{{ i }}{% endfor %}{% endfor %}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{% for i in range(100000) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' }}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m(x) %}{% for y in [1] %}{{ m(x ~ x) }}{% endfor %}{% endmacro %}{{ m('ab') }}",
        "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
        "{% macro m() %}{{ caller }}{% call m() %}{% endcall %}{% endmacro %}{{ m() }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{% block a %}{{ self.a() }}{% endblock %}",
        "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ "
        "ns.x }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(3000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ "
        "ns.x|tojson }}",
        "{% set ns = namespace(x=(), y=()) %}{% for i in range(3000) %}{% set ns.x = (ns.x,) %}{% set ns.y = "
        "(ns.y,) %}"
        "{% endfor %}{{ ns.x == ns.y }}",
        "{% set ns = namespace(x=()) %}{% for i in range(3000) %}{% set ns.x = (ns.x,) %}{% endfor %}{{ "
        "{ns.x: 1} }}",
        "{% set ns = namespace(x=['a']) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=['a']) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor "
        "%}{{ ns.x }}",
        "{% set ns = namespace(x=['a'], y=['a']) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}"
        "{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s|replace('a', ns.s) %}{% "
        "endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{{ s.count('b') }}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{{ 'b' in s }}{% endfor %}",
        "{% set s = 'é' * 1000000 %}{% for i in range(100000) %}{{ s[500000] }}{% endfor %}",
        "{% set s = 'é' * 1000000 %}{% for i in range(100000) %}{{ s[1:2] }}{% endfor %}",
        "{{ ('a' * 1000000).rfind('a' * 500000 ~ 'b') }}{{ ('a' * 1000000).rpartition('b' ~ 'a' * 500000) }}"
        "{{ ('a' * 1000000).rpartition('b' ~ 'a' * 500000) }}",
    };
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(sources); i++) expect_status(sources[i], MLXR_E_LIMIT);
}

static void test_sandbox(void **state)
{
    (void)state;
    expect_status("{{ range(100001) }}", MLXR_E_TEMPLATE);
    expect_status("{{ l.append(1) }}", MLXR_E_TEMPLATE);
    expect_status("{{ ''.__class__.__mro__ }}", MLXR_E_TEMPLATE);
    expect_status("{{ '{0.__class__.__mro__}'.format('') }}", MLXR_E_TEMPLATE);
    expect_status("{{ (l|attr('__class__')).__mro__ }}", MLXR_E_TEMPLATE);
    expect_status("{{ 9223372036854775807 + 1 }}", MLXR_E_UNSUPPORTED);
    expect_status("{{ 99999999999999999999 }}", MLXR_E_UNSUPPORTED);
    expect_status("{{ (-8) ** 0.5 }}", MLXR_E_UNSUPPORTED);
    expect_status("{{ -9223372036854775807 - 1 }}", MLXR_OK);
    expect_status("{{ (-9223372036854775807 - 1) // -1 }}", MLXR_E_UNSUPPORTED);
    expect_status("{{ (-9223372036854775807 - 1) % -1 }}", MLXR_OK);
    expect_status("{{ (-9223372036854775807 - 1)|abs }}", MLXR_E_UNSUPPORTED);
    expect_status("{{ s[-9223372036854775807 - 1:9223372036854775807:-9223372036854775807 - 1] }}", MLXR_OK);
    expect_status("{{ l[9223372036854775807:-9223372036854775807:-1] }}", MLXR_OK);
    expect_status("{{ range(-9223372036854775807, 9223372036854775807, 9223372036854775807)|list }}",
                  MLXR_OK);
    expect_status("{{ 1e308 * 10 }}{{ (1e308 * 10)|int(7) }}", MLXR_E_TEMPLATE);
    expect_status("{{ 'a' + raise_exception }}", MLXR_E_TEMPLATE);
}

/* open * n, middle, close * n */
static void expect_nested(const char *open, const char *middle, const char *close, size_t n)
{
    mlxr_template_limits l = small();
    mlxr_error err = {0};
    mlxr_buf b = {0};
    char *text;
    mlxr_status st;
    for (size_t i = 0; i < n; i++) mlxr_buf_str(&b, open);
    mlxr_buf_str(&b, middle);
    for (size_t i = 0; i < n; i++) mlxr_buf_str(&b, close);
    st = try(b.data, b.len, "{}", &l, &text, &err);
    mlxr_free(text);
    mlxr_buf_clear(&b);
    if (st != MLXR_E_LIMIT) fail_msg("%s: %s (%s)", open, mlxr_status_name(st), err.message);
}

static void test_nesting(void **state)
{
    static const char *const pairs[][3] = {
        {"(", "1", ")"},    {"[", "1", "]"},           {"{1:", "1", "}"},     {"not ", "1", ""},
        {"-", "1", ""},     {"1 if 1 else ", "1", ""}, {"a(", "1", ")"},      {"1|default(", "1", ")"},
        {"a[", "1", "]"},   {"1 + ", "1", ""},         {"1 is eq ", "1", ""}, {"", "a", ".b"},
        {"", "a", "[0]"},   {"", "a", "|upper"},       {"", "a", "()"},       {"1 ** ", "1", ""},
        {"", "1", " if 1"},
    };
    static const char *const blocks[][2] = {
        {"{% if 1 %}", "{% endif %}"},
        {"{% for x in [1] %}", "{% endfor %}"},
        {"{% macro m() %}", "{% endmacro %}"},
        {"{% filter upper %}", "{% endfilter %}"},
        {"{% with %}", "{% endwith %}"},
        {"{% set x %}", "{% endset %}"},
        {"{% autoescape 1 %}", "{% endautoescape %}"},
        {"{% generation %}", "{% endgeneration %}"},
        {"{% call a() %}", "{% endcall %}"},
    };
    mlxr_error err;
    mlxr_template *t;
    mlxr_buf b = {0};
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(pairs); i++) {
        char *open = mlxr_strdup(pairs[i][0]);
        mlxr_buf_clear(&b);
        mlxr_buf_str(&b, "{{ ");
        for (size_t k = 0; k < 100000; k++) mlxr_buf_str(&b, open);
        mlxr_buf_str(&b, pairs[i][1]);
        for (size_t k = 0; k < 100000; k++) mlxr_buf_str(&b, pairs[i][2]);
        mlxr_buf_str(&b, " }}");
        if (mlxr_template_create(&t, b.data, b.len, "nested", &err) != MLXR_E_LIMIT &&
            !(i == 10 && err.code == MLXR_E_TEMPLATE)) /* tests cannot be chained */
            fail_msg("%s...%s: %s", pairs[i][0], pairs[i][2], err.message);
        free(open);
    }
    mlxr_buf_clear(&b);
    for (size_t i = 0; i < MLXR_COUNT(blocks); i++) expect_nested(blocks[i][0], "x", blocks[i][1], 20000);
}

static void test_many_names(void **state)
{
    mlxr_buf b = {0};
    mlxr_template *t = NULL;
    mlxr_error err;
    mlxr_status st;
    (void)state;
    for (int i = 0; i < 20000; i++)
        mlxr_buf_printf(&b, "{%% if a%d %%}{%% set b%d = a%d %%}{%% endif %%}", i, i, i);
    st = mlxr_template_create(&t, b.data, b.len, "names", &err);
    assert_true(st == MLXR_OK || st == MLXR_E_LIMIT);
    mlxr_template_free(t);
    mlxr_buf_clear(&b);
}

static void test_deep_context(void **state)
{
    mlxr_template *t;
    mlxr_error err;
    mlxr_buf b = {0};
    char *text;
    size_t n;
    (void)state;
    assert_int_equal(mlxr_template_create(&t, "{{ a }}", 7, "t", &err), MLXR_OK);
    mlxr_buf_str(&b, "{\"a\": ");
    for (int i = 0; i < 100000; i++) mlxr_buf_char(&b, '[');
    for (int i = 0; i < 100000; i++) mlxr_buf_char(&b, ']');
    mlxr_buf_char(&b, '}');
    assert_int_equal(mlxr_template_render(&text, &n, t, b.data, b.len, 0, NULL, &err), MLXR_E_LIMIT);
    assert_null(text);
    mlxr_buf_clear(&b);
    mlxr_template_free(t);
}

static void test_bad_calls(void **state)
{
    static const struct {
        const char *context;
        mlxr_status want;
    } bad[] = {
        {"", MLXR_E_FORMAT},
        {"[]", MLXR_E_INVALID_ARGUMENT},
        {"3", MLXR_E_INVALID_ARGUMENT},
        {"{", MLXR_E_FORMAT},
        {"{} x", MLXR_E_FORMAT},
        {"{\"a\": 1, }", MLXR_E_FORMAT},
        {"{\"a\": \"\xff\"}", MLXR_E_FORMAT},
        {"{\"a\": \"\xed\xa0\x80\"}", MLXR_E_FORMAT},
        {"{\"a\": \"x", MLXR_E_FORMAT},
        {"{\"a\": \"x\\", MLXR_E_FORMAT},
        {"{\"a\": \"\\x\"}", MLXR_E_FORMAT},
        {"{\"a\": \"\\u12\"}", MLXR_E_FORMAT},
        {"{\"a\": \"line\nline\"}", MLXR_E_FORMAT},
        {"{\"a\": 01}", MLXR_E_FORMAT},
        {"{\"a\": 1.}", MLXR_E_FORMAT},
        {"{\"a\": -}", MLXR_E_FORMAT},
        {"{\"a\": 1e}", MLXR_E_FORMAT},
        {"{\"a\": tru}", MLXR_E_FORMAT},
        {"{\"a\" 1}", MLXR_E_FORMAT},
        {"{\"a\": [1 2]}", MLXR_E_FORMAT},
        {"{a: 1}", MLXR_E_FORMAT},
        {"{\"a\": 99999999999999999999}", MLXR_E_UNSUPPORTED},
    };
    mlxr_template *t = NULL;
    mlxr_error err = {0};
    char *text;
    size_t n;
    (void)state;
    assert_int_equal(mlxr_template_create(&t, "\xff", 1, "t", &err), MLXR_E_INVALID_ARGUMENT);
    assert_null(t);
    assert_int_equal(mlxr_template_create(&t, "a\n{{ b }", 8, "the name", &err), MLXR_E_TEMPLATE);
    assert_string_equal(err.message, "template the name: line 2: unexpected '}'");
    assert_int_equal(mlxr_template_create(&t, "{{ b }", 6, "t", NULL), MLXR_E_TEMPLATE);
    assert_int_equal(mlxr_template_create(&t, "{{ a }}", 7, NULL, NULL), MLXR_OK);
    for (size_t i = 0; i < MLXR_COUNT(bad); i++) {
        mlxr_status st = mlxr_template_render(&text, &n, t, bad[i].context, strlen(bad[i].context), 0, NULL,
                                              &err);
        if (st != bad[i].want) fail_msg("%s: %s", bad[i].context, err.message);
        assert_null(text);
        assert_int_equal(
            mlxr_template_render(&text, &n, t, bad[i].context, strlen(bad[i].context), 0, NULL, NULL),
            bad[i].want);
    }
    assert_int_equal(mlxr_template_render(&text, &n, t, "{\"a\": {\"\\u0000k\": 1}}", 21, 0, NULL, &err),
                     MLXR_OK);
    assert_string_equal(text, "{'\\x00k': 1}");
    mlxr_free(text);
    mlxr_template_free(t);
    assert_int_equal(mlxr_template_create(&t, "{{ a|list }}{{ b }}", 19, "t", NULL), MLXR_OK);
    {
        static const char json[] = " {\"b\": 1, \"a\": \"12345678\\u00e9\\ud83d\\ude00\\/\\\"\\ud800x\\n\", "
                                   "\"b\" : [ -0, -9223372036854775808,"
                                   " 1.5e3, 9223372036854775807, true, null, {} ,[] ] }\n";
        assert_int_equal(mlxr_template_render(&text, &n, t, json, strlen(json), 0, NULL, &err), MLXR_OK);
        assert_string_equal(
            text, "['1', '2', '3', '4', '5', '6', '7', '8', 'é', '😀', '/', '\"', '\xef\xbf\xbd', 'x', '\\n']"
                  "[0, -9223372036854775808, 1500.0, 9223372036854775807, True, None, {}, []]");
        mlxr_free(text);
    }
    mlxr_template_free(t);
    assert_int_equal(mlxr_template_create(&t, "", 0, "t", NULL), MLXR_OK);
    assert_int_equal(mlxr_template_render(&text, &n, t, "{}", 2, 0, NULL, NULL), MLXR_OK);
    assert_int_equal(n, 0);
    assert_string_equal(text, "");
    mlxr_free(text);
    mlxr_template_free(t);
    mlxr_template_free(NULL);
}

static void test_raise_exception(void **state)
{
    mlxr_error err = {0};
    char *text;
    (void)state;
    assert_int_equal(try("{{ raise_exception('roles must alternate: ' ~ 1) }}", 51, "{}", NULL, &text, &err),
                     MLXR_E_TEMPLATE);
    assert_string_equal(err.message, "template t: roles must alternate: 1");
}

static void test_appending_is_linear(void **state)
{
    mlxr_template_limits l = mlxr_template_limits_default();
    mlxr_error err = {0};
    char *text;
    static const char source[] = "{% set ns = namespace(s='') %}{% for i in range(50000) %}"
                                 "{% set ns.s = ns.s + 'twenty characters...' %}{% set ns.t = ns.s ~ 'x' %}"
                                 "{% endfor %}{{ ns.s|length }} {{ ns.s[-20:] }} {{ ns.t|length }}";
    (void)state;
    l.max_memory_bytes = 64 << 20;
    if (try(source, strlen(source), "{}", &l, &text, &err) == MLXR_OK) {
        assert_string_equal(text, "1000000 twenty characters... 1000001");
        mlxr_free(text);
    } else {
        /* the second append shares no room with the first: that one may run into the bound, and nothing else */
        assert_int_equal(err.code, MLXR_E_LIMIT);
    }
    {
        static const char one[] =
            "{% set ns = namespace(s='') %}{% for i in range(50000) %}"
            "{% set ns.s = ns.s + 'twenty characters...' %}{% endfor %}{{ ns.s|length }}";
        assert_int_equal(try(one, strlen(one), "{}", &l, &text, &err), MLXR_OK);
        assert_string_equal(text, "1000000");
        mlxr_free(text);
    }
}

static void *render_thread(void *arg)
{
    const mlxr_template *t = arg;
    for (int i = 0; i < 200; i++) {
        char *text;
        size_t n;
        if (mlxr_template_render(&text, &n, t, "{\"m\": [{\"é\": 1}, 2]}", 21, 0, NULL, NULL) != MLXR_OK)
            return arg;
        if (strcmp(text, "1é2é{'é': 1}22") != 0) return arg;
        mlxr_free(text);
    }
    return NULL;
}

static void test_threads_share_a_template(void **state)
{
    static const char source[] =
        "{% for x in m %}{{ loop.index ~ 'é' }}{% endfor %}{% for x in m %}{{ x }}{% endfor %}"
        "{{ ['é', 'b']|length }}";
    mlxr_template *t;
    pthread_t th[4];
    void *bad;
    (void)state;
    assert_int_equal(mlxr_template_create(&t, source, strlen(source), "t", NULL), MLXR_OK);
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&th[i], NULL, render_thread, t), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(th[i], &bad), 0);
        assert_null(bad);
    }
    mlxr_template_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_sandbox),
        cmocka_unit_test(test_nesting),
        cmocka_unit_test(test_many_names),
        cmocka_unit_test(test_deep_context),
        cmocka_unit_test(test_bad_calls),
        cmocka_unit_test(test_raise_exception),
        cmocka_unit_test(test_appending_is_linear),
        cmocka_unit_test(test_threads_share_a_template),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
