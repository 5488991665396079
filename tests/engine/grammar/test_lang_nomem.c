/* lang with every allocation failing in turn: MLXR_E_NOMEM, *out NULL, nothing leaked (LeakSanitizer sees it in the asan build). The
 * linker sends the library's own allocations through the wrappers here (--wrap). */
#include "nomem.h"
#include "test.h"

#include "engine/grammar/lang.h"

static mlxr_error err;
static mlxr_dfa *a, *b; /* made before */

enum {
    REGEX,
    LOOKS,
    PROPERTY,
    FORMAT,
    EMAIL,
    NUMBER,
    LITERALS,
    RANGES,
    LENGTH,
    UNION,
    MINUS,
    CONCAT,
    REPEAT,
    JSON,
    EACH,
    N_CALLS
};

static bool see(const char *text, size_t n, void *ud)
{
    return true;
}

static mlxr_status call(mlxr_dfa **out, int which)
{
    static const char *const except[] = {"1", "2.5"}, *const multiple[] = {"0.25"},
                             *const not_multiple[] = {"20"};
    static const mlxr_number_set set = {.min = "-1.5",
                                        .max = "1000",
                                        .multiple_of = multiple,
                                        .n_multiple_of = 1,
                                        .not_multiple_of = not_multiple,
                                        .n_not_multiple_of = 1,
                                        .except = except,
                                        .n_except = 2};
    static const mlxr_text texts[] = {{"ab", 2}, {"cb", 2}, {"", 0}};
    static const mlxr_char_range ranges[] = {{'a', 'z'}, {0x100, 0x2000}};
    static const char looks[] = "^(?=.*[A-Z]\\b)(?!(?=a)b)\\w{3,9}(a|\\.é){2}$";
    switch (which) {
    case REGEX: return mlxr_dfa_regex(out, "[a-zé]+|(b[^c])*", 16, false, NULL, &err);
    case LOOKS: return mlxr_dfa_regex(out, looks, sizeof looks - 1, true, NULL, &err);
    case PROPERTY: return mlxr_dfa_regex(out, "^\\p{Sc}\\P{Zs}", 13, false, NULL, &err);
    case FORMAT: return mlxr_dfa_format(out, "date", NULL, &err);
    case EMAIL: return mlxr_dfa_format(out, "email", NULL, &err);
    case NUMBER: return mlxr_dfa_number(out, &set, NULL, &err);
    case LITERALS: return mlxr_dfa_literals(out, texts, MLXR_COUNT(texts), &err);
    case RANGES: return mlxr_dfa_ranges(out, ranges, MLXR_COUNT(ranges), &err);
    case LENGTH: return mlxr_dfa_length(out, 1, 5, NULL, &err);
    case UNION: return mlxr_dfa_union(out, a, b, NULL, &err);
    case MINUS: return mlxr_dfa_minus(out, a, b, NULL, &err);
    case CONCAT: return mlxr_dfa_concat(out, a, b, NULL, &err);
    case REPEAT: return mlxr_dfa_repeat(out, b, 2, SIZE_MAX, NULL, &err);
    case JSON: return mlxr_dfa_json_string(out, a, NULL, &err);
    default: return mlxr_dfa_each(b, 10, see, NULL, &err);
    }
}

static void every_allocation_may_fail(void **state)
{
    size_t n_failed = 0;
    assert_ok(mlxr_dfa_any(&a, &err), &err);
    assert_ok(mlxr_dfa_literal(&b, "abc", 3, &err), &err);
    for (int which = 0; which < N_CALLS; which++) {
        size_t n;
        mlxr_dfa *out = NULL;
        n_calls = 0;
        fail_at = SIZE_MAX;
        assert_ok(call(&out, which), &err);
        n = n_calls;
        mlxr_dfa_unref(out);
        for (size_t i = 1; i <= n; i += n > 2000 ? 1 + n / 500 : 1) {
            mlxr_status st;
            out = NULL;
            n_calls = 0;
            fail_at = i;
            st = call(&out, which);
            fail_at = SIZE_MAX;
            if (st == MLXR_OK) { /* one that it can do without */
                mlxr_dfa_unref(out);
                continue;
            }
            if (st != MLXR_E_NOMEM || out)
                fail_msg("call %d, allocation %zu: %s", which, i, mlxr_status_name(st));
            n_failed++;
        }
    }
    assert_true(n_failed > 500);
    mlxr_dfa_unref(a);
    mlxr_dfa_unref(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_may_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
