/* As much of cmocka as the tests here use, for one source file a program: tests run in turn, each until its first failure. */
#ifndef STAND_IN_CMOCKA_H
#define STAND_IN_CMOCKA_H

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*fn)(void **state);
};
#define cmocka_unit_test(f) \
    {                       \
#f, f               \
    }
#define cmocka_run_group_tests(tests, set_up, tear_down) stand_in_run(tests, sizeof(tests) / sizeof(tests)[0])

enum { STAND_IN_FAILED = 1, STAND_IN_SKIPPED = 2 };
extern jmp_buf stand_in_out;
int stand_in_run(const struct CMUnitTest *tests, size_t n);

#define stand_in_fail(...)                      \
    do {                                        \
        printf("%s:%d: ", __FILE__, __LINE__);  \
        printf(__VA_ARGS__);                    \
        printf("\n");                           \
        longjmp(stand_in_out, STAND_IN_FAILED); \
    } while (0)
#define fail_msg(...) stand_in_fail(__VA_ARGS__)
#define skip()        longjmp(stand_in_out, STAND_IN_SKIPPED)
#define assert_true(c)                               \
    do {                                             \
        if (!(c)) stand_in_fail("not true: %s", #c); \
    } while (0)
#define assert_false(c)        assert_true(!(c))
#define assert_null(p)         assert_true((p) == NULL)
#define assert_non_null(p)     assert_true((p) != NULL)
#define assert_ptr_equal(a, b) assert_true((const void *)(a) == (const void *)(b))
#define assert_int_equal(a, b)                                                                           \
    do {                                                                                                 \
        long long stand_in_a = (long long)(a), stand_in_b = (long long)(b);                              \
        if (stand_in_a != stand_in_b) stand_in_fail("%s is %lld, not %lld", #a, stand_in_a, stand_in_b); \
    } while (0)
#define assert_string_equal(a, b)                                          \
    do {                                                                   \
        const char *stand_in_a = (a), *stand_in_b = (b);                   \
        if (strcmp(stand_in_a, stand_in_b) != 0)                           \
            stand_in_fail("\"%s\" is not \"%s\"", stand_in_a, stand_in_b); \
    } while (0)
#define assert_memory_equal(a, b, n) assert_true(memcmp(a, b, n) == 0)

#endif
