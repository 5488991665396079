/* Errors and log lines: always one line of valid UTF-8 that fits, whatever the pieces are. */
#include "test.h"

enum { ROOM = sizeof((mlxr_error *)0)->message };

static void status_names_and_texts(void **state)
{
    for (int i = 0; i < MLXR_STATUS_COUNT; i++) {
        assert_memory_equal(mlxr_status_name((mlxr_status)i), "MLXR_", 5);
        assert_true(strlen(mlxr_status_text((mlxr_status)i)) > 0);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(mlxr_status_name((mlxr_status)i), mlxr_status_name((mlxr_status)j));
    }
    assert_int_equal(MLXR_OK, 0);
    assert_string_equal(mlxr_status_name(MLXR_E_MODEL_PATH_MISSING), "MLXR_E_MODEL_PATH_MISSING");
    assert_string_equal(mlxr_status_name((mlxr_status)-1), "MLXR_E_UNKNOWN");
    assert_string_equal(mlxr_status_name(MLXR_STATUS_COUNT), "MLXR_E_UNKNOWN");
    assert_string_equal(mlxr_status_text((mlxr_status)9999), "unknown status");
}

static void a_failure_fills_the_error(void **state)
{
    mlxr_error err;
    assert_int_equal(mlxr_fail(&err, MLXR_E_IO, "%s: %d", "file", 7), MLXR_E_IO);
    assert_int_equal(err.code, MLXR_E_IO);
    assert_string_equal(err.message, "file: 7");
    assert_int_equal(mlxr_fail_nomem(&err, "vocab"), MLXR_E_NOMEM);
    assert_string_equal(err.message, "vocab: out of memory");
}

static void no_error_is_fine(void **state)
{
    assert_int_equal(mlxr_fail(NULL, MLXR_E_FORMAT, "%s", "x"), MLXR_E_FORMAT);
    mlxr_error_prefix(NULL, "%s", "x");
    mlxr_error_append(NULL, "%s", "x");
}

static void control_characters_are_taken_out(void **state)
{
    mlxr_error err;
    mlxr_fail(&err, MLXR_E_FORMAT, "a\nb\rc\033[31m\x7f\td");
    assert_string_equal(err.message, "a b?c?[31m??d");
    /* U+009B is the CSI of terminals, U+0085 a line break; U+00A0 is the first that is no control. */
    mlxr_fail(&err, MLXR_E_FORMAT, "\xc2\x9b|\xc2\x85|\xc2\xa0");
    assert_string_equal(err.message, "??|??|\xc2\xa0");
    mlxr_fail(&err, MLXR_E_FORMAT, "%s", "caf\xc3\xa9 \xff\xfe \xe4\xb8\xad \xe4\xb8");
    assert_string_equal(err.message, "caf\xc3\xa9 ?? \xe4\xb8\xad ??");
}

/* A message of n bytes "aaa...", followed by characters of three bytes. */
static char *long_text(size_t n_ascii, size_t n_wide)
{
    char *s = malloc(n_ascii + 3 * n_wide + 1);
    assert_non_null(s);
    memset(s, 'a', n_ascii);
    for (size_t i = 0; i < n_wide; i++) memcpy(s + n_ascii + 3 * i, "\xe4\xb8\xad", 3);
    s[n_ascii + 3 * n_wide] = '\0';
    return s;
}

static void check_cut(const mlxr_error *err)
{
    size_t n = strlen(err->message);
    assert_in_range(n, ROOM - 8, ROOM - 1);
    assert_string_equal(err->message + n - 3, "...");
    assert_int_equal(mlxr_utf8_valid(err->message, n), n);
    assert_null(strchr(err->message, '?'));
}

static void what_does_not_fit_is_cut_at_a_character(void **state)
{
    mlxr_error err;
    char *s = long_text(ROOM - 1, 0);

    mlxr_fail(&err, MLXR_E_FORMAT, "%s", s); /* just fits */
    assert_string_equal(err.message, s);
    free(s);
    for (size_t shift = 0; shift < 6; shift++) {
        s = long_text(shift, ROOM);
        mlxr_fail(&err, MLXR_E_FORMAT, "%s", s);
        check_cut(&err);
        free(s);
    }
}

static void prefix_and_append(void **state)
{
    mlxr_error err;
    mlxr_fail(&err, MLXR_E_IO, "shard 2");
    mlxr_error_prefix(&err, "model %s: ", "foo");
    mlxr_error_append(&err, " (%d of %d)", 2, 3);
    assert_string_equal(err.message, "model foo: shard 2 (2 of 3)");
    assert_int_equal(err.code, MLXR_E_IO);
    mlxr_error_append(&err, "\n\033");
    assert_string_equal(err.message, "model foo: shard 2 (2 of 3) ?");
}

static void prefix_and_append_cut_at_a_character(void **state)
{
    mlxr_error err;
    for (size_t shift = 0; shift < 4; shift++) {
        char *s = long_text(shift, (ROOM - 8) / 3), *t = long_text(shift, ROOM);
        mlxr_fail(&err, MLXR_E_FORMAT, "%s", s);
        mlxr_error_prefix(&err, "prefix that makes it too long: ");
        check_cut(&err);
        assert_memory_equal(err.message, "prefix that", 11);

        mlxr_fail(&err, MLXR_E_FORMAT, "%s", s);
        mlxr_error_append(&err, " and more than there is room for");
        check_cut(&err);

        mlxr_fail(&err, MLXR_E_FORMAT, "end");
        mlxr_error_prefix(&err, "%s", t); /* by itself too long */
        check_cut(&err);
        mlxr_error_append(&err, "nothing fits any more");
        check_cut(&err);
        free(s);
        free(t);
    }
}

static char logged[2048];
static int n_logged;

static void keep(mlxr_log_level level, const char *message, void *ud)
{
    assert_int_equal(level, MLXR_LOG_WARN);
    assert_ptr_equal(ud, &n_logged);
    snprintf(logged, sizeof logged, "%s", message);
    n_logged++;
}

static void log_lines(void **state)
{
    mlxr_log log = {keep, &n_logged}, none = {0};
    char *s = long_text(1, 1000);

    mlxr_log_at(NULL, MLXR_LOG_WARN, "x");
    mlxr_log_at(&none, MLXR_LOG_WARN, "x");
    assert_int_equal(n_logged, 0);
    mlxr_log_at(&log, MLXR_LOG_WARN, "tensor \"%s\" is left out", "h\033[2J.0\n");
    assert_string_equal(logged, "tensor \"h?[2J.0 \" is left out");
    mlxr_log_at(&log, MLXR_LOG_WARN, "%s", s);
    assert_int_equal(mlxr_utf8_valid(logged, strlen(logged)), strlen(logged));
    assert_string_equal(logged + strlen(logged) - 3, "...");
    assert_int_equal(n_logged, 2);
    free(s);
}

static void the_version_is_one(void **state)
{
    int major, minor, patch;
    char end;
    assert_int_equal(sscanf(mlxr_version(), "%d.%d.%d%c", &major, &minor, &patch, &end), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_names_and_texts),
        cmocka_unit_test(a_failure_fills_the_error),
        cmocka_unit_test(no_error_is_fine),
        cmocka_unit_test(control_characters_are_taken_out),
        cmocka_unit_test(what_does_not_fit_is_cut_at_a_character),
        cmocka_unit_test(prefix_and_append),
        cmocka_unit_test(prefix_and_append_cut_at_a_character),
        cmocka_unit_test(log_lines),
        cmocka_unit_test(the_version_is_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
