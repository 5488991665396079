/* Bodies read by a table of fields: exact types and bounds, what is refused, warned of and unknown, and values that mean harm. */
#include "serve/fields.h"

#include <stdlib.h>

#include "test.h"

struct got {
    const char *text, *word;
    bool yes;
    int64_t count, small;
    double share;
    const json_t *list, *either;
    int n_taken;
};

static mlxr_status take(void *into, const mlxr_field *f, const json_t *v, mlxr_error *err)
{
    struct got *g = into;

    (void)f;
    g->n_taken++;
    return json_is_true(v) ? MLXR_OK : mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "taken: only true will do");
}

#define AT(member) offsetof(struct got, member)
static const mlxr_field table[] = {
    {.name = "text", .types = MLXR_FIELD_STRING, .required = true, .offset = AT(text)},
    {.name = "word", .types = MLXR_FIELD_STRING, .words = "low|high", .offset = AT(word)},
    {.name = "yes", .types = MLXR_FIELD_BOOL, .offset = AT(yes)},
    {.name = "count", .types = MLXR_FIELD_INT, .offset = AT(count)},
    {.name = "small", .types = MLXR_FIELD_INT, .offset = AT(small), .min = -1, .max = 9007199254740992.0},
    {.name = "share",
     .types = MLXR_FIELD_REAL,
     .offset = AT(share),
     .max = 1,
     .fallback = "0.5",
     .help = "of all"},
    {.name = "list", .types = MLXR_FIELD_LIST, .offset = AT(list)},
    {.name = "either", .types = MLXR_FIELD_STRING | MLXR_FIELD_REAL, .offset = AT(either)},
    {.name = "taken", .types = MLXR_FIELD_ANY, .take = take},
    {.name = "mode",
     .types = MLXR_FIELD_STRING | MLXR_FIELD_BOOL,
     .words = "full",
     .fallback = "false",
     .offset = MLXR_FIELD_NOWHERE},
    {.name = "idle", .types = MLXR_FIELD_STRING, .use = MLXR_FIELD_WARNED, .neutral = "\"auto\""},
    {.name = "images",
     .types = MLXR_FIELD_LIST,
     .use = MLXR_FIELD_REFUSED,
     .neutral = "[]",
     .help = "models of text alone"},
    {.name = "n", .types = MLXR_FIELD_INT, .use = MLXR_FIELD_REFUSED, .neutral = "1"},
};
static const mlxr_fields fields = {table, MLXR_COUNT(table), "request"};

static mlxr_status read_text(struct got *g, json_t **body, const char *text, json_t *warnings,
                             const char **field, mlxr_error *err)
{
    mlxr_status st;

    memset(g, 0, sizeof *g);
    *err = (mlxr_error){0};
    st = mlxr_body_object(body, text, strlen(text), err);
    return st == MLXR_OK ? mlxr_fields_read(g, &fields, *body, warnings, field, err) : st;
}

static void takes_plain_values(void **state)
{
    struct got g;
    json_t *body, *warnings = json_array();
    const char *field;
    mlxr_error err;

    (void)state;
    assert_int_equal(
        read_text(
            &g, &body,
            "{\"text\": \"h\xc3\xa9\", \"word\": \"high\", \"yes\": true, \"count\": -9223372036854775808, "
            "\"small\": 9007199254740992, \"share\": 1, \"list\": [1], \"either\": 2.5, \"taken\": true, "
            "\"idle\": \"auto\", \"images\": [], \"n\": 1.0}",
            warnings, &field, &err),
        MLXR_OK);
    assert_string_equal(g.text, "h\xc3\xa9");
    assert_string_equal(g.word, "high");
    assert_true(g.yes);
    assert_true(g.count == INT64_MIN);
    assert_true(g.small == 9007199254740992);
    assert_true(g.share == 1);
    assert_int_equal(json_array_size(g.list), 1);
    assert_true(json_real_value(g.either) == 2.5);
    assert_int_equal(g.n_taken, 1);
    assert_int_equal(json_array_size(warnings), 0);
    assert_null(field);
    json_decref(body);
    json_decref(warnings);
}

/* An integer is a whole real too, and null is as absent. */
static void takes_other_forms(void **state)
{
    struct got g;
    json_t *body;
    mlxr_error err;

    (void)state;
    assert_int_equal(
        read_text(&g, &body,
                  "{\"text\": \"\", \"count\": 4096.0, \"small\": -1.0, \"share\": null, \"n\": null}", NULL,
                  NULL, &err),
        MLXR_OK);
    assert_true(g.count == 4096 && g.small == -1 && g.share == 0);
    json_decref(body);
}

/* Numbers that int64_t cannot hold are numbers all the same. */
static void takes_wide_numbers(void **state)
{
    struct got g;
    json_t *body, *warnings = json_array();
    mlxr_error err;
    static const char *const bodies[] = {
        "{\"text\": \"99999999999999999999\", \"either\": 99999999999999999999}",
        ("{\"text\": \"99999999999999999999\", \"either\":-0.99999999999999999999e+99, \"x\": "
         "[-99999999999999999999]}"),
        "{\"text\": \"\\\"99999999999999999999\", \"either\": 1, \"y\\\\\": 99999999999999999999}",
    };

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(bodies); i++) {
        assert_int_equal(read_text(&g, &body, bodies[i], warnings, NULL, &err), MLXR_OK);
        assert_non_null(strstr(g.text, "99999999999999999999"));
        assert_int_equal(strlen(g.text), g.text[0] == '"' ? 21 : 20);
        if (i == 0) assert_true(json_number_value(g.either) == 1e20);
        if (i == 1) assert_true(json_number_value(g.either) == -1e99);
        json_decref(body);
    }
    assert_int_equal(
        read_text(&g, &body, "{\"text\": \"\", \"count\": 99999999999999999999}", warnings, NULL, &err),
        MLXR_E_INVALID_ARGUMENT);
    assert_string_equal(err.message, "request: \"count\" is a number, wanted an integer");
    json_decref(body);
    json_decref(warnings);
}

static const struct {
    const char *body, *field, *message;
} refused[] = {
    {"{}", "text", "request: \"text\" is required"},
    {"{\"text\": null}", "text", "request: \"text\" is required"},
    {"{\"text\": 1}", "text", "request: \"text\" is an integer, wanted a string"},
    {"{\"text\": \"\", \"yes\": 1}", "yes", "request: \"yes\" is an integer, wanted true or false"},
    {"{\"text\": \"\", \"yes\": \"true\"}", "yes", "request: \"yes\" is a string, wanted true or false"},
    {"{\"text\": \"\", \"count\": 1.5}", "count", "request: \"count\" is a number, wanted an integer"},
    {"{\"text\": \"\", \"count\": \"1\"}", "count", "request: \"count\" is a string, wanted an integer"},
    {"{\"text\": \"\", \"count\": 1e300}", "count", "request: \"count\" is a number, wanted an integer"},
    {"{\"text\": \"\", \"small\": -2}", "small",
     "request: \"small\" is -2, wanted -1 to 9.00719925474099e+15"},
    /* As doubles the two are one. */
    {"{\"text\": \"\", \"small\": 9007199254740993}", "small",
     "request: \"small\" is 9007199254740993, wanted -1 to 9.00719925474099e+15"},
    {"{\"text\": \"\", \"share\": 1.0000001}", "share", "request: \"share\" is 1.0000001, wanted 0 to 1"},
    {"{\"text\": \"\", \"share\": [0]}", "share", "request: \"share\" is a list, wanted a number"},
    {"{\"text\": \"\", \"word\": \"lo\"}", "word", "request: \"word\" is \"lo\", wanted one of low|high"},
    {"{\"text\": \"\", \"word\": \"low|high\"}", "word",
     "request: \"word\" is \"low|high\", wanted one of low|high"},
    {"{\"text\": \"\", \"word\": \"\"}", "word", "request: \"word\" is \"\", wanted one of low|high"},
    {"{\"text\": \"\", \"either\": true}", "either",
     "request: \"either\" is true or false, wanted a string or a number"},
    {"{\"text\": \"\", \"taken\": false}", "taken", "taken: only true will do"},
    {"{\"text\": \"\", \"images\": [1]}", "images",
     "request: \"images\" is not supported here: models of text alone"},
    {"{\"text\": \"\", \"images\": \"x\"}", "images",
     "request: \"images\" is not supported here: models of text alone"},
    {"{\"text\": \"\", \"n\": 2}", "n", "request: \"n\" is not supported here"},
    {"{\"text\": \"\", \"txt\": 2}", "txt", "request: \"txt\" is unknown here, is \"text\" meant?"},
    {"{\"text\": \"\", \"k\": 2}", "k", "request: \"k\" is unknown here, is \"n\" meant?"},
    {"{\"text\": \"\", \"metadata\": 2}", "metadata", "request: \"metadata\" is unknown here"},
    {"{\"text\": \"\", \"\": 2}", "", "request: \"\" is unknown here, is \"n\" meant?"},
};

static void refuses_by_name(void **state)
{
    struct got g;
    json_t *body;
    const char *field;
    mlxr_error err;

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(refused); i++) {
        assert_int_equal(read_text(&g, &body, refused[i].body, NULL, &field, &err), MLXR_E_INVALID_ARGUMENT);
        assert_string_equal(err.message, refused[i].message);
        assert_string_equal(field, refused[i].field);
        json_decref(body);
    }
}

static void warns(void **state)
{
    struct got g;
    json_t *body, *warnings = json_array();
    mlxr_error err;

    (void)state;
    assert_int_equal(read_text(&g, &body, "{\"text\": \"\", \"idle\": \"x\", \"txt\": 1, \"taken\": null}",
                               warnings, NULL, &err),
                     MLXR_OK);
    assert_int_equal(json_array_size(warnings), 2);
    assert_string_equal(json_string_value(json_array_get(warnings, 0)),
                        "request: \"idle\" has no effect here");
    assert_string_equal(json_string_value(json_array_get(warnings, 1)),
                        "request: \"txt\" is unknown here, is \"text\" meant?");
    json_decref(body);
    json_decref(warnings);
}

/* A field without effect is taken without a word where nobody is told, but of its own type. */
static void checks_what_has_no_effect(void **state)
{
    struct got g;
    json_t *body;
    mlxr_error err;

    (void)state;
    assert_int_equal(read_text(&g, &body, "{\"text\": \"\", \"idle\": \"x\"}", NULL, NULL, &err), MLXR_OK);
    json_decref(body);
    assert_int_equal(read_text(&g, &body, "{\"text\": \"\", \"idle\": 1}", NULL, NULL, &err),
                     MLXR_E_INVALID_ARGUMENT);
    json_decref(body);
}

/* Long names are cut between characters, else the warning would be no text; many are told as many. */
static void bounds_what_it_says(void **state)
{
    struct got g;
    json_t *body, *warnings = json_array();
    mlxr_buf text = {0};
    mlxr_error err;
    const char *first;

    (void)state;
    mlxr_buf_str(&text, "{\"text\": \"\", \"a");
    for (int i = 0; i < 200; i++) mlxr_buf_str(&text, "\xf0\x9f\x98\x80");
    mlxr_buf_str(&text, "\": 1");
    for (int i = 0; i < 1000; i++) mlxr_buf_printf(&text, ", \"unknown %d\": {\"a\": []}", i);
    mlxr_buf_str(&text, "}");
    assert_int_equal(read_text(&g, &body, text.data, warnings, NULL, &err), MLXR_OK);
    assert_int_equal(json_array_size(warnings), 33);
    first = json_string_value(json_array_get(warnings, 0));
    assert_int_equal(mlxr_utf8_valid(first, strlen(first)), strlen(first));
    assert_true(strlen(first) < 160);
    json_decref(body);
    assert_int_equal(read_text(&g, &body, text.data, NULL, NULL, &err), MLXR_E_INVALID_ARGUMENT);
    assert_int_equal(mlxr_utf8_valid(err.message, strlen(err.message)), strlen(err.message));
    json_decref(body);
    mlxr_buf_clear(&text);
    json_decref(warnings);
}

static const struct {
    const char *text, *message;
} bodies[] = {
    {"", "missing request body"},
    {"[]", "request: the body is not a JSON object"},
    {"null", "request: the body is not a JSON object"},
    {"{\"text\": \"a\\u0000b\"}", "request: a text in it has a NUL character, which no prompt can have"},
    {"{\"text\": \"\", \"list\": [{\"x\": [\"\\u0000\"]}]}",
     "request: a text in it has a NUL character, which no prompt can have"},
    {"{\"text\": \"\"", NULL},
    {"{\"text\": \"\"} x", NULL},
    {"{\"text\": \"\", \"text\": \"\"}", NULL},
    {"{\"\\u0000\": 1}", NULL},
    {"{\"text\": \"\xff\"}", NULL},
    {"{\"text\": \"\\ud800\"}", NULL},
    {"{\"text\": 1e999}", NULL},
    {"{\"text\": 99999999999999999999", NULL},
    {"{\"text\": \"99999999999999999999", NULL},
    {"{\"x\": 99999999999999999999e999}", NULL},
    {"{\"text\": NaN}", NULL},
};

static void refuses_bodies(void **state)
{
    json_t *body;
    mlxr_error err;

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(bodies); i++) {
        err = (mlxr_error){0};
        assert_int_not_equal(mlxr_body_object(&body, bodies[i].text, strlen(bodies[i].text), &err), MLXR_OK);
        assert_null(body);
        if (bodies[i].message)
            assert_string_equal(err.message, bodies[i].message);
        else
            assert_non_null(strstr(err.message, "request: not valid JSON: line 1"));
    }
    assert_int_not_equal(mlxr_body_object(&body, "{\"a\":\0}", 7, NULL), MLXR_OK);
}

static void refuses_depth(void **state)
{
    mlxr_buf text = {0};
    json_t *body;
    mlxr_error err = {0};

    (void)state;
    mlxr_buf_str(&text, "{\"a\":");
    for (int i = 0; i < 100000; i++) mlxr_buf_char(&text, '[');
    assert_int_equal(mlxr_body_object(&body, text.data, text.len, &err), MLXR_E_FORMAT);
    mlxr_buf_clear(&text);
}

/* What the description says of a field is what reading it does. */
static void describes(void **state)
{
    static const char expected[] =
        "{\"type\":\"object\",\"properties\":{"
        "\"text\":{\"type\":\"string\"},"
        "\"word\":{\"type\":[\"string\",\"null\"],\"enum\":[\"low\",\"high\",null]},"
        "\"yes\":{\"type\":[\"boolean\",\"null\"]},"
        "\"count\":{\"type\":[\"integer\",\"null\"],\"minimum\":-9223372036854775808,\"maximum\":"
        "9223372036854775807},"
        "\"small\":{\"type\":[\"integer\",\"null\"],\"minimum\":-1,\"maximum\":9007199254740992},"
        "\"share\":{\"type\":[\"number\",\"null\"],\"minimum\":0,\"maximum\":1,\"description\":\"of "
        "all\",\"default\":0.5},"
        "\"list\":{\"type\":[\"array\",\"null\"]},"
        "\"either\":{\"type\":[\"string\",\"number\",\"null\"]},"
        "\"taken\":{},"
        "\"mode\":{\"anyOf\":[{\"type\":\"string\",\"enum\":[\"full\"]},{\"type\":[\"boolean\",\"null\"]}],"
        "\"default\":false},"
        "\"idle\":{\"type\":[\"string\",\"null\"]},"
        "\"images\":{\"enum\":[[],null],\"description\":\"models of text alone\"},"
        "\"n\":{\"enum\":[1,null]}},"
        "\"required\":[\"text\"],\"additionalProperties\":false}";
    json_t *schema = mlxr_fields_schema(&fields, true);
    char *text = json_dumps(schema, JSON_COMPACT);

    (void)state;
    assert_string_equal(text, expected);
    free(text);
    json_decref(schema);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_plain_values),
        cmocka_unit_test(takes_other_forms),
        cmocka_unit_test(takes_wide_numbers),
        cmocka_unit_test(refuses_by_name),
        cmocka_unit_test(warns),
        cmocka_unit_test(checks_what_has_no_effect),
        cmocka_unit_test(bounds_what_it_says),
        cmocka_unit_test(refuses_bodies),
        cmocka_unit_test(refuses_depth),
        cmocka_unit_test(describes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
