/* Stop strings over every way to cut a text into pieces. */
#include "test.h"

#include "engine/stop.h"

static mlxr_error err;

/* The earliest stop string in text, the longest of those that start there, by plain search. */
static size_t first_stop(const char *text, const char *const *stops, size_t n, int *which)
{
    size_t len = strlen(text);
    for (size_t at = 0; at < len; at++) {
        *which = -1;
        for (size_t i = 0; i < n; i++)
            if (stops[i][0] && strncmp(text + at, stops[i], strlen(stops[i])) == 0 &&
                (*which < 0 || strlen(stops[i]) > strlen(stops[*which])))
                *which = (int)i;
        if (*which >= 0) return at;
    }
    *which = -1;
    return len;
}

/* Feeds text cut after the bytes that `cuts` marks; what came out must be the text before the stop, and at no time more. */
static void check(const char *text, const char *const *stops, size_t n, unsigned cuts)
{
    size_t len = strlen(text), begin = 0, want_len;
    int want, matched = -1;
    mlxr_buf out = {0};
    mlxr_stop *s;

    want_len = first_stop(text, stops, n, &want);
    assert_ok(mlxr_stop_create(&s, stops, n, &err), &err);
    for (size_t i = 1; i <= len && matched < 0; i++) {
        if (i < len && !(cuts >> (i - 1) & 1)) continue;
        assert_ok(mlxr_stop_push(s, text + begin, i - begin, &out, &matched, &err), &err);
        begin = i;
        assert_true(out.len <= want_len);
    }
    assert_ok(mlxr_stop_finish(s, &out, &err), &err);
    assert_int_equal(out.len, want_len);
    if (want_len) assert_memory_equal(out.data, text, want_len);
    /* Fed in one piece the longest of those that start there is told; byte by byte the first complete one is. */
    assert_true((matched >= 0) == (want >= 0));
    mlxr_buf_clear(&out);
    mlxr_stop_free(s);
}

static void every_cut_of_every_text(void **state)
{
    const char *const stops[] = {"ab", "abc", "", "bcd", "aab"};
    const char *const texts[] = {"xxabyy", "aaab", "aabc",   "bcbcd", "ababab",
                                 "xaaxa",  "bc",   "zzbcda", "abcd",  "aacaabb"};
    (void)state;
    for (size_t t = 0; t < MLXR_COUNT(texts); t++)
        for (size_t n = 0; n <= MLXR_COUNT(stops); n++)
            for (unsigned cuts = 0; cuts < 1u << (strlen(texts[t]) - 1); cuts++)
                check(texts[t], stops, n, cuts);
}

static void held_back_text_comes_at_the_end(void **state)
{
    const char *const stops[] = {"</s>"};
    mlxr_buf out = {0};
    mlxr_stop *s;
    int matched;
    (void)state;
    assert_ok(mlxr_stop_create(&s, stops, 1, &err), &err);
    assert_ok(mlxr_stop_push(s, "a</", 3, &out, &matched, &err), &err);
    assert_int_equal(out.len, 1);
    assert_ok(mlxr_stop_finish(s, &out, &err), &err);
    assert_string_equal(out.data, "a</");
    assert_ok(mlxr_stop_push(s, "more", 4, &out, &matched, &err), &err); /* nothing after the end */
    assert_string_equal(out.data, "a</");
    mlxr_buf_clear(&out);
    mlxr_stop_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut_of_every_text),
        cmocka_unit_test(held_back_text_comes_at_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
