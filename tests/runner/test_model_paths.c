/* ModelPathResolver: ids, relative paths, "~", and everything that can be wrong with the file. */
#include "test.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"

static mlxr_error err;
static char root[] = "/tmp/mlxr_paths_XXXXXX";
static char json[256];

static void write_json(const char *text)
{
    assert_ok(mlxr_file_write(json, text, strlen(text), &err), &err);
}

static int setup(void **state)
{
    char dir[256];
    (void)state;
    if (!mkdtemp(root)) return -1;
    snprintf(json, sizeof json, "%s/conf/paths.json", root);
    snprintf(dir, sizeof dir, "%s/conf/models/a", root);
    assert_ok(mlxr_make_dirs(dir, &err), &err);
    snprintf(dir, sizeof dir, "%s/home/m", root);
    assert_ok(mlxr_make_dirs(dir, &err), &err);
    return 0;
}

static int teardown(void **state)
{
    const char *const names[] = {
        "conf/paths.json", "conf/models/a", "conf/models", "conf", "home/m", "home", "."};
    char path[300];
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(names); i++) {
        snprintf(path, sizeof path, "%s/%s", root, names[i]);
        if (unlink(path) != 0) (void)rmdir(path);
    }
    return rmdir(root);
}

static void expect(const char *id, const char *want_tail)
{
    char home[256], want[300], *got;
    snprintf(home, sizeof home, "%s/home", root);
    snprintf(want, sizeof want, "%s/%s", root, want_tail);
    assert_ok(mlxr_model_path_resolve(&got, json, id, home, &err), &err);
    assert_string_equal(got, want);
    mlxr_free(got);
}

static void paths_are_found(void **state)
{
    char text[600];
    (void)state;
    snprintf(text, sizeof text,
             "{\"rel\": \"models/a\", \"home\": \"~/m\", \"tilde\": \"~\", \"abs\": \"%s/home/m\"}", root);
    write_json(text);
    expect("rel", "conf/models/a");
    expect("home", "home/m");
    expect("tilde", "home");
    expect("abs", "home/m");
    expect(NULL, "conf/models/a");
}

static void what_is_missing_is_named(void **state)
{
    char *out = (char *)1;
    (void)state;
    write_json("{\"a\": \"nowhere\", \"b\": \"~/m\"}");
    assert_fails(mlxr_model_path_resolve(&out, json, "c", NULL, &err), MLXR_E_MODEL_PATH_MISSING, "\"c\"",
                 &err);
    assert_non_null(strstr(err.message, "paths.json"));
    assert_non_null(strstr(err.message, "a, b"));
    assert_null(out);
    assert_fails(mlxr_model_path_resolve(&out, json, "a", NULL, &err), MLXR_E_MODEL_PATH_MISSING,
                 "conf/nowhere", &err);
    assert_non_null(strstr(err.message, "\"a\""));
    /* without a home "~" is a folder like any other */
    assert_fails(mlxr_model_path_resolve(&out, json, "b", NULL, &err), MLXR_E_MODEL_PATH_MISSING, "conf/~/m",
                 &err);
    write_json("{}");
    assert_fails(mlxr_model_path_resolve(&out, json, NULL, NULL, &err), MLXR_E_MODEL_PATH_MISSING, "no model",
                 &err);
    assert_fails(mlxr_model_path_resolve(&out, "/nonexistent/x.json", "a", NULL, &err), MLXR_E_NOT_FOUND,
                 "x.json", &err);
}

static void broken_files_are_errors(void **state)
{
    static const char *const bad[] = {"",
                                      "{",
                                      "[]",
                                      "3",
                                      "{\"a\": 1}",
                                      "{\"a\": null}",
                                      "{\"a\": \"\"}",
                                      "{\"a\": [\"x\"]}",
                                      "{\"a\": \"x\\u0000y\"}",
                                      "{\"a\": \"b\", \"a\": \"c\"}"};
    char *out;
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(bad); i++) {
        write_json(bad[i]);
        assert_fails(mlxr_model_path_resolve(&out, json, "a", NULL, &err), MLXR_E_FORMAT, "paths.json", &err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_are_found),
        cmocka_unit_test(what_is_missing_is_named),
        cmocka_unit_test(broken_files_are_errors),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
