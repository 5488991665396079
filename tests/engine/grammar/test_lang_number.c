/* lang: numbers, against exact arithmetic on scaled integers. */
#include "test.h"

#include "engine/grammar/lang.h"

static mlxr_error err;

static uint32_t random_state = 99;
static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % n;
}

static void plain_form(void **state)
{
    static const char *const cases[][2] = {
        {"0", "0"},
        {"-0", "0"},
        {"-0.0", "0"},
        {"0e99999999999999999999", "0"},
        {"12.50", "12.5"},
        {"1.50e1", "15"},
        {"1e-7", "0.0000001"},
        {"-12.5E+3", "-12500"},
        {"0.00120e2", "0.12"},
        {"100", "100"},
        {"123e-2", "1.23"},
        {"120e-1", "12"},
        {"0.5", "0.5"},
        {"-0.05e1", "-0.5"},
        {"1e19", "10000000000000000000"},
        {"9007199254740993", "9007199254740993"},
        {"10.0e-1", "1"},
        {"0.10", "0.1"},
        {"", NULL},
        {"-", NULL},
        {"01", NULL},
        {"1.", NULL},
        {".5", NULL},
        {"+1", NULL},
        {"1e", NULL},
        {"1e+", NULL},
        {"1 ", NULL},
        {"0x1", NULL},
        {"1e21", NULL},
        {"1e-20", NULL},
        {"1e99999999999999999999", NULL},
        {"1e-99999999999999999999", NULL},
        {"--1", NULL},
        {"1.5.2", NULL},
        {"NaN", NULL},
    };
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        mlxr_buf b = {0};
        bool ok = mlxr_number_plain(&b, cases[i][0], strlen(cases[i][0]), 20);
        if (ok != (cases[i][1] != NULL) || (ok && strcmp(b.data, cases[i][1]) != 0))
            fail_msg("%s: %s", cases[i][0], ok ? b.data : "refused");
        mlxr_buf_clear(&b);
    }
}

/* Thousandths as a plain number. */
static void write_number(char out[32], int64_t thousandths)
{
    char text[40];
    mlxr_buf b = {0};
    snprintf(text, sizeof text, "%llde-3", (long long)thousandths);
    assert_true(mlxr_number_plain(&b, text, strlen(text), 30));
    assert_true(b.len < 32);
    memcpy(out, b.data, b.len + 1);
    mlxr_buf_clear(&b);
}

static void order(void **state)
{
    for (int i = 0; i < 20000; i++) {
        int64_t a = (int64_t)random_below(40000) - 20000,
                b = random_below(4) ? (int64_t)random_below(40000) - 20000 : a;
        char x[32], y[32];
        write_number(x, a);
        write_number(y, b);
        if (mlxr_number_compare(x, y) != (a > b) - (a < b)) fail_msg("%s %s", x, y);
    }
    assert_int_equal(mlxr_number_compare("9007199254740993", "9007199254740992.9999"), 1);
}

static int64_t random_bound(void)
{
    switch (random_below(4)) {
    case 0: return ((int64_t)random_below(41) - 20) * 1000;
    case 1: return ((int64_t)random_below(401) - 200) * 100;
    case 2: return (int64_t)random_below(40001) - 20000;
    default: return ((int64_t)random_below(2001) - 1000) * 1000;
    }
}

/* Sets at random; numbers with three digits behind the point at most, some with zeros at the end. */
static void sets_agree_with_arithmetic(void **state)
{
    static const int64_t steps[] = {1000, 2000, 3000, 7000, 10000,  100,    500, 250,
                                    10,   1,    1500, 125,  300000, 100000, 8,   333};
    for (int round = 0; round < 1500; round++) {
        mlxr_number_set set = {0};
        int64_t min = random_bound(), max = random_bound(), mul[2] = {1, 1}, not_mul[1] = {1},
                except[6] = {0};
        char min_text[32], max_text[32], mul_text[2][32], not_text[1][32], except_text[6][32];
        const char *mul_list[2], *not_list[1], *except_list[6];
        mlxr_dfa *d;
        if (random_below(2)) {
            write_number(min_text, min);
            set.min = min_text;
            set.min_exclusive = random_below(2);
        }
        if (random_below(2)) {
            write_number(max_text, max);
            set.max = max_text;
            set.max_exclusive = random_below(2);
        }
        set.integer = random_below(3) == 0;
        set.fraction = !set.integer && random_below(5) == 0;
        set.n_multiple_of = random_below(4) == 0 ? 1 + random_below(2) : 0;
        for (size_t i = 0; i < set.n_multiple_of; i++) {
            mul[i] = steps[random_below(MLXR_COUNT(steps))];
            write_number(mul_text[i], mul[i]);
            mul_list[i] = mul_text[i];
        }
        set.multiple_of = mul_list;
        if (random_below(5) == 0) {
            set.n_not_multiple_of = 1;
            not_mul[0] = steps[random_below(MLXR_COUNT(steps))];
            write_number(not_text[0], not_mul[0]);
            not_list[0] = not_text[0];
        }
        set.not_multiple_of = not_list;
        set.n_except = random_below(3) == 0 ? random_below(6) : 0;
        for (size_t i = 0; i < set.n_except; i++) {
            except[i] = random_bound();
            write_number(except_text[i], except[i]);
            except_list[i] = except_text[i];
        }
        set.except = except_list;
        bool plain_only = set.min || set.max || set.n_multiple_of || set.n_not_multiple_of || set.n_except ||
                          set.fraction;
        assert_ok(mlxr_dfa_number(&d, &set, NULL, &err), &err);
        for (int i = 0; i < 1500; i++) {
            int64_t v = i < 1200   ? (i - 600) * (int64_t)(1 + random_below(80))
                        : i < 1300 ? (i & 1 ? min : max) + i % 7 - 3
                                   : random_bound();
            char text[48];
            bool in = true, zeros = false;
            write_number(text, v);
            if (random_below(4) == 0) {
                if (!strchr(text, '.')) strcat(text, ".");
                strcat(text, random_below(2) ? "0" : "000");
                zeros = true;
            }
            if (set.min) in &= set.min_exclusive ? v > min : v >= min;
            if (set.max) in &= set.max_exclusive ? v < max : v <= max;
            if (set.integer) in &= v % 1000 == 0 && !zeros;
            if (set.fraction) in &= v % 1000 != 0;
            for (size_t k = 0; k < set.n_multiple_of; k++) in &= v % mul[k] == 0;
            for (size_t k = 0; k < set.n_not_multiple_of; k++) in &= v % not_mul[k] != 0;
            for (size_t k = 0; k < set.n_except; k++) in &= v != except[k];
            if (mlxr_dfa_has(d, text, strlen(text)) != in)
                fail_msg("%s %s: min %s%s max %s%s int %d frac %d mul %s %s not %s", text,
                         in ? "is missing" : "is in", set.min ? set.min : "-", set.min_exclusive ? "!" : "",
                         set.max ? set.max : "-", set.max_exclusive ? "!" : "", set.integer, set.fraction,
                         set.n_multiple_of ? mul_list[0] : "-", set.n_multiple_of > 1 ? mul_list[1] : "-",
                         set.n_not_multiple_of ? not_list[0] : "-");
        }
        for (const char *const *bad = (const char *const[]){"-0", "-0.0", "1e1", "01", "1.", ".5", "+1", "",
                                                            "-", "-.5", "1.5e0", NULL};
             *bad && plain_only; bad++)
            if (mlxr_dfa_has(d, *bad, strlen(*bad))) fail_msg("%s is in", *bad);
        mlxr_dfa_unref(d);
    }
}

static bool in_set(const mlxr_number_set *set, const char *text)
{
    mlxr_dfa *d;
    bool has;
    assert_ok(mlxr_dfa_number(&d, set, NULL, &err), &err);
    has = mlxr_dfa_has(d, text, strlen(text));
    mlxr_dfa_unref(d);
    return has;
}

static void unbounded_sets_have_every_form(void **state)
{
    mlxr_number_set any = {0}, integer = {.integer = true};
    for (const char *const *t =
             (const char *const[]){"0", "-0", "1e5", "-1.5E-07", "0.0", "1E+2", "12.00", NULL};
         *t; t++)
        assert_true(in_set(&any, *t));
    for (const char *const *t =
             (const char *const[]){"01", "1.", "1e", ".5", "+1", "", "-", "1.e5", "1e5.5", NULL};
         *t; t++)
        assert_false(in_set(&any, *t));
    for (const char *const *t = (const char *const[]){"0", "-0", "-17", "1000000000000000000000", NULL}; *t;
         t++)
        assert_true(in_set(&integer, *t));
    for (const char *const *t = (const char *const[]){"1.0", "1e5", "01", "-", NULL}; *t; t++)
        assert_false(in_set(&integer, *t));
}

static void nothing_is_rounded(void **state)
{
    mlxr_number_set s = {
        .min = "9007199254740993", .max = "9007199254740993.000000000000000000001", .max_exclusive = true};
    assert_true(in_set(&s, "9007199254740993"));
    assert_true(in_set(&s, "9007199254740993.0000000000000000000009"));
    assert_false(in_set(&s, "9007199254740992.9999999999999999999999"));
    assert_false(in_set(&s, "9007199254740993.000000000000000000001"));
    s.integer = true;
    mlxr_dfa *d;
    assert_ok(mlxr_dfa_number(&d, &s, NULL, &err), &err);
    assert_int_equal(mlxr_dfa_count(d), 1);
    mlxr_dfa_unref(d);
    const char *step = "0.00000001", *large = "1000000000000000000000000", *not_one[] = {"1"};
    mlxr_number_set m = {.multiple_of = &step, .n_multiple_of = 1};
    assert_true(in_set(&m, "123456789.12345678"));
    assert_true(in_set(&m, "0.0000000100"));
    assert_false(in_set(&m, "0.000000001"));
    m.multiple_of = &large;
    assert_true(in_set(&m, "17000000000000000000000000"));
    assert_true(in_set(&m, "-1000000000000000000000000.0"));
    assert_false(in_set(&m, "17000000000000000000000001"));
    assert_false(in_set(&m, "100000000000000000000000"));
    mlxr_number_set f = {.not_multiple_of = not_one, .n_not_multiple_of = 1};
    mlxr_number_set g = {.fraction = true};
    mlxr_dfa *x, *y;
    assert_ok(mlxr_dfa_number(&x, &f, NULL, &err), &err);
    assert_ok(mlxr_dfa_number(&y, &g, NULL, &err), &err);
    assert_true(mlxr_dfa_equal(x, y));
    mlxr_dfa_unref(x);
    mlxr_dfa_unref(y);
    mlxr_number_set none = {.min = "3", .max = "2"};
    assert_ok(mlxr_dfa_number(&d, &none, NULL, &err), &err);
    assert_true(mlxr_dfa_is_empty(d));
    mlxr_dfa_unref(d);
}

static void large_sets_end_at_a_limit(void **state)
{
    const char *prime = "1000003", *long_prime = "123456789123456789123", *two[] = {"19997", "19993"},
               *bad[] = {"0"};
    mlxr_number_set s = {.multiple_of = &prime, .n_multiple_of = 1};
    mlxr_dfa *d;
    assert_fails(mlxr_dfa_number(&d, &s, NULL, &err), MLXR_E_LIMIT, "multiples of 1000003 need", &err);
    s.multiple_of = &long_prime;
    assert_fails(mlxr_dfa_number(&d, &s, NULL, &err), MLXR_E_LIMIT, "max_states", &err);
    s.multiple_of = two;
    s.n_multiple_of = 2;
    assert_fails(mlxr_dfa_number(&d, &s, NULL, &err), MLXR_E_LIMIT, "max_", &err);
    s.multiple_of = bad;
    s.n_multiple_of = 1;
    assert_fails(mlxr_dfa_number(&d, &s, NULL, &err), MLXR_E_INVALID_ARGUMENT, "above 0", &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_form),
        cmocka_unit_test(order),
        cmocka_unit_test(sets_agree_with_arithmetic),
        cmocka_unit_test(unbounded_sets_have_every_form),
        cmocka_unit_test(nothing_is_rounded),
        cmocka_unit_test(large_sets_end_at_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
