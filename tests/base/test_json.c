/* JSON glue: what is refused, and what the typed getters make of right, absent, odd and wrong values. */
#include <float.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "test.h"

static json_t *parse(const char *text)
{
    json_t *root = NULL;
    mlxr_error err;
    if (mlxr_json_parse(&root, text, strlen(text), "config.json", &err) != MLXR_OK)
        fail_msg("%s", err.message);
    return root;
}

static void bad_texts_are_refused_with_their_place(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "line 1 column 0"},
        {"{", "line 1 column 1"},
        {"{\"a\": 1,\n \"b\": }", "line 2 column"},
        {"{\"a\": 1} x", "line 1 column"},
        {"{\"a\": 1, \"a\": 2}", "duplicate"},
        {"[1, 2", "line 1"},
        {"\"\xff\"", "0xff"},
        {"\"\\ud800\"", "line 1"},
        {"99999999999999999999999", "too big"},
        {"NaN", "line 1"},
    };
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        json_t *root = (json_t *)&root;
        mlxr_error err;
        assert_int_equal(mlxr_json_parse(&root, cases[i].text, strlen(cases[i].text), "config.json", &err),
                         MLXR_E_FORMAT);
        assert_null(root);
        assert_memory_equal(err.message, "config.json: ", 13);
        if (!strstr(err.message, cases[i].says)) fail_msg("%s: %s", cases[i].text, err.message);
        assert_int_equal(mlxr_json_parse(&root, cases[i].text, strlen(cases[i].text), "c", NULL),
                         MLXR_E_FORMAT);
    }
}

static void no_text_at_all_is_refused(void **state)
{
    json_t *root;
    mlxr_error err;
    assert_int_equal(mlxr_json_parse(&root, NULL, 0, "request", &err), MLXR_E_FORMAT);
    assert_null(strstr(err.message, "-1"));
}

static void deep_texts_are_refused(void **state)
{
    enum { N = 200000 };
    char *text = malloc(N);
    json_t *root;
    assert_non_null(text);
    memset(text, '[', N);
    assert_int_equal(mlxr_json_parse(&root, text, N, "deep", NULL), MLXR_E_FORMAT);
    for (size_t i = 0; i < N; i++) text[i] = "{\"a\":"[i % 5];
    assert_int_equal(mlxr_json_parse(&root, text, N, "deep", NULL), MLXR_E_FORMAT);
    free(text);
}

static void any_value_may_be_the_text(void **state)
{
    json_t *root = parse(" 42 ");
    assert_true(json_is_integer(root));
    json_decref(root);
    root = parse("\"caf\\u00e9\"");
    assert_string_equal(json_string_value(root), "caf\xc3\xa9");
    json_decref(root);
}

static void integers(void **state)
{
    json_t *o = parse(
        "{\"a\": 7, \"whole\": 4096.0, \"frac\": 1.5, \"big\": 1e300, \"neg\": -3, \"null\": null,"
        "\"max\": 9223372036854775807, \"str\": \"7\", \"bool\": true, \"list\": [1]}");
    mlxr_error err;
    int64_t v = 11;

    assert_int_equal(mlxr_json_get_int(&v, o, "absent", 0, 10, "c", &err), MLXR_OK);
    assert_int_equal(mlxr_json_get_int(&v, o, "null", 0, 10, "c", &err), MLXR_OK);
    assert_int_equal(v, 11);
    assert_int_equal(mlxr_json_get_int(&v, o, "a", 0, 10, "c", &err), MLXR_OK);
    assert_int_equal(v, 7);
    assert_int_equal(mlxr_json_get_int(&v, o, "a", 7, 7, "c", &err), MLXR_OK);
    assert_int_equal(mlxr_json_get_int(&v, o, "whole", 0, 5000, "c", &err), MLXR_OK);
    assert_int_equal(v, 4096);
    assert_int_equal(mlxr_json_get_int(&v, o, "max", 0, INT64_MAX, "c", &err), MLXR_OK);
    assert_true(v == INT64_MAX);
    v = 11;
    assert_int_equal(mlxr_json_get_int(&v, o, "neg", 0, 10, "config.json", &err), MLXR_E_FORMAT);
    assert_string_equal(err.message, "config.json: \"neg\" is -3, wanted 0 to 10");
    assert_int_equal(mlxr_json_get_int(&v, o, "whole", 0, 4095, "c", NULL), MLXR_E_FORMAT);
    assert_int_equal(mlxr_json_get_int(&v, o, "frac", 0, 10, "config.json", &err), MLXR_E_FORMAT);
    assert_string_equal(err.message, "config.json: \"frac\" is a real number, wanted an integer");
    assert_int_equal(mlxr_json_get_int(&v, o, "big", INT64_MIN, INT64_MAX, "c", &err), MLXR_E_FORMAT);
    assert_int_equal(mlxr_json_get_int(&v, o, "str", 0, 10, "c", &err), MLXR_E_FORMAT);
    assert_int_equal(mlxr_json_get_int(&v, o, "bool", 0, 10, "c", &err), MLXR_E_FORMAT);
    assert_int_equal(mlxr_json_get_int(&v, o, "list", 0, 10, "c", &err), MLXR_E_FORMAT);
    assert_int_equal(v, 11);
    json_decref(o);
}

static void reals(void **state)
{
    json_t *o = parse("{\"a\": 1e-5, \"int\": 3, \"str\": \"x\", \"null\": null}");
    mlxr_error err;
    double v = 0.25;

    assert_int_equal(mlxr_json_get_real(&v, o, "absent", 0, 1, "c", &err), MLXR_OK);
    assert_int_equal(mlxr_json_get_real(&v, o, "null", 0, 1, "c", &err), MLXR_OK);
    assert_true(v == 0.25);
    assert_int_equal(mlxr_json_get_real(&v, o, "a", 0, 1, "c", &err), MLXR_OK);
    assert_true(v == 1e-5);
    assert_int_equal(mlxr_json_get_real(&v, o, "int", -DBL_MAX, DBL_MAX, "c", &err), MLXR_OK);
    assert_true(v == 3.0);
    assert_int_equal(mlxr_json_get_real(&v, o, "int", 0, 2.5, "config.json", &err), MLXR_E_FORMAT);
    assert_string_equal(err.message, "config.json: \"int\" is 3, wanted 0 to 2.5");
    assert_int_equal(mlxr_json_get_real(&v, o, "str", 0, 1, "c", &err), MLXR_E_FORMAT);
    assert_string_equal(err.message, "c: \"str\" is a string, wanted a number");
    assert_true(v == 3.0);
    json_decref(o);
}

static void booleans(void **state)
{
    json_t *o = parse("{\"t\": true, \"f\": false, \"n\": null, \"one\": 1}");
    mlxr_error err;
    bool v = true;

    assert_int_equal(mlxr_json_get_bool(&v, o, "absent", "c", &err), MLXR_OK);
    assert_int_equal(mlxr_json_get_bool(&v, o, "n", "c", &err), MLXR_OK);
    assert_true(v);
    assert_int_equal(mlxr_json_get_bool(&v, o, "f", "c", &err), MLXR_OK);
    assert_false(v);
    assert_int_equal(mlxr_json_get_bool(&v, o, "t", "c", &err), MLXR_OK);
    assert_true(v);
    assert_int_equal(mlxr_json_get_bool(&v, o, "one", "c", &err), MLXR_E_FORMAT);
    assert_string_equal(err.message, "c: \"one\" is an integer, wanted true or false");
    json_decref(o);
}

static void strings(void **state)
{
    json_t *o = parse("{\"s\": \"llama\", \"nul\": \"llama\\u0000x\", \"n\": null, \"o\": {}, \"l\": []}");
    mlxr_error err;
    const char *v = "default";

    assert_int_equal(mlxr_json_get_str(&v, o, "absent", "c", &err), MLXR_OK);
    assert_int_equal(mlxr_json_get_str(&v, o, "n", "c", &err), MLXR_OK);
    assert_string_equal(v, "default");
    assert_int_equal(mlxr_json_get_str(&v, o, "s", "c", &err), MLXR_OK);
    assert_string_equal(v, "llama");
    assert_int_equal(mlxr_json_get_str(&v, o, "o", "c", &err), MLXR_E_FORMAT);
    assert_string_equal(err.message, "c: \"o\" is an object, wanted a string");
    assert_int_equal(mlxr_json_get_str(&v, o, "l", "c", &err), MLXR_E_FORMAT);
    assert_int_equal(mlxr_json_get_str(&v, o, "nul", "c", &err), MLXR_E_FORMAT); /* not taken for "llama" */
    assert_string_equal(err.message, "c: \"nul\" has a NUL character in it");
    assert_string_equal(v, "llama");
    json_decref(o);
}

static void escaped_text_parses_back(void **state)
{
    static const char text[] =
        "quote \" back \\ slash / nl \n cr \r tab \t nul \0 bell \a del \x7f caf\xc3\xa9 \xf0\x9f\x98\x80";
    mlxr_buf b = {0};
    json_t *back = NULL;

    mlxr_json_escape(&b, text, sizeof text - 1);
    for (size_t i = 0; i < b.len; i++) assert_true((unsigned char)b.data[i] >= 0x20);
    assert_int_equal(mlxr_json_parse(&back, b.data, b.len, "escaped", NULL), MLXR_OK);
    assert_int_equal(json_string_length(back), sizeof text - 1);
    assert_memory_equal(json_string_value(back), text, sizeof text - 1);
    json_decref(back);
    mlxr_buf_clear(&b);
    mlxr_json_escape(&b, NULL, 0);
    assert_string_equal(b.data, "\"\"");
    mlxr_buf_clear(&b);
}

static void files(void **state)
{
    char path[] = "mlxr-json-XXXXXX";
    int fd = mkstemp(path);
    mlxr_error err;
    json_t *root;

    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(mlxr_json_read(&root, path, 100, &err), MLXR_E_FORMAT); /* empty */
    assert_non_null(strstr(err.message, path));
    assert_int_equal(mlxr_file_write(path, "{\"a\": 1}", 8, &err), MLXR_OK);
    assert_int_equal(mlxr_json_read(&root, path, 7, &err), MLXR_E_LIMIT);
    assert_null(root);
    assert_int_equal(mlxr_json_read(&root, path, 8, &err), MLXR_OK);
    assert_int_equal(json_integer_value(json_object_get(root, "a")), 1);
    json_decref(root);
    unlink(path);
    assert_int_equal(mlxr_json_read(&root, path, 8, &err), MLXR_E_NOT_FOUND);
    assert_null(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_texts_are_refused_with_their_place),
        cmocka_unit_test(no_text_at_all_is_refused),
        cmocka_unit_test(deep_texts_are_refused),
        cmocka_unit_test(any_value_may_be_the_text),
        cmocka_unit_test(integers),
        cmocka_unit_test(reals),
        cmocka_unit_test(booleans),
        cmocka_unit_test(strings),
        cmocka_unit_test(escaped_text_parses_back),
        cmocka_unit_test(files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
