/* Answers of every format to their parts, whole and cut everywhere (outputs.jsonl, written by make_outputs.py); special tokens; hostile
 * texts; what the parser refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/json.h"
#include "text/answers/collect.h"
#include "text/answers/parser.h"

static size_t one_byte(void *ud, size_t at, size_t left)
{
    return 1;
}

static size_t two_pieces(void *ud, size_t at, size_t left)
{
    const size_t *first = ud;
    return at ? left : *first;
}

static size_t some_bytes(void *ud, size_t at, size_t left)
{
    uint32_t *x = ud;

    *x = *x * 1664525u + 1013904223u;
    return 1 + (*x >> 24) % 13;
}

static void notes_of_part(mlxr_buf *out, const json_t *part)
{
    const char *content = json_string_value(json_object_get(part, "content")),
               *thinking = json_string_value(json_object_get(part, "thinking")),
               *name = json_string_value(json_object_get(part, "call")),
               *id = json_string_value(json_object_get(part, "id"));

    if (out->len) mlxr_buf_char(out, 0x1e);
    if (name)
        mlxr_buf_printf(out, "=%s\x1f%s\x1f%s", name, id ? id : "",
                        json_string_value(json_object_get(part, "json")));
    else if (thinking)
        mlxr_buf_printf(out, "H%s", thinking);
    else
        mlxr_buf_printf(out, "%sC%s", json_is_true(json_object_get(part, "warning")) ? "!\x1e" : "", content);
}

/* The notes without what outputs.jsonl does not say: pieces, the words of warnings, arguments as they were written. The pieces
 * of a call must be one of its two forms. */
static char *compared(const collected *c)
{
    mlxr_buf out = {0};
    char *all = mlxr_strdup(c->notes.data), *rest = all, *note, *pieces = NULL;

    if (!c->notes.len) rest = NULL;
    while ((note = strsep(&rest, "\x1e")) != NULL) {
        if (note[0] == 'P') {
            pieces = note + 1;
            continue;
        }
        if (out.len) mlxr_buf_char(&out, 0x1e);
        if (note[0] == '!') {
            mlxr_buf_char(&out, '!');
        } else if (note[0] == '=') {
            char *name = strsep(&note, "\x1f"), *id = strsep(&note, "\x1f"), *json = strsep(&note, "\x1f");
            assert_non_null(pieces);
            if (strcmp(pieces, note) != 0) assert_string_equal(pieces, json);
            mlxr_buf_printf(&out, "%s\x1f%s\x1f%s", name, id, json);
            pieces = NULL;
        } else {
            mlxr_buf_str(&out, note);
        }
    }
    mlxr_free(all);
    return mlxr_buf_take(&out, NULL);
}

static void same(const collected *a, const mlxr_answer_parser_options *o, const char *text, size_t n,
                 collect_cut cut, void *ud, const char *name)
{
    collected b;

    assert_int_equal(collect_run(&b, o, text, n, cut, ud, NULL), MLXR_OK);
    if (b.wrong) fail_msg("%s: %s", name, b.wrong);
    if (strcmp(a->notes.data, b.notes.data) != 0)
        fail_msg("%s: cut\n%s\n-- whole\n%s\n", name, b.notes.data, a->notes.data);
    collect_clear(&b);
}

/* As a tokenizer with special tokens gives it: markers alone, with special set, and tokens that mean nothing between them. */
static void with_special(const collected *a, const mlxr_answer_parser_options *o, const char *text,
                         const char *name)
{
    const mlxr_answer_format *f = o->format;
    const char *const markers[] = {f->think_open,  f->think_close, f->calls_open,
                                   f->calls_close, f->call_open,   f->call_close};
    mlxr_answer_parser_options options = *o;
    mlxr_answer_parser *p;
    collected b = {0};

    options.on_part = collect_part;
    options.ud = &b;
    assert_int_equal(mlxr_answer_parser_create(&p, &options, NULL), MLXR_OK);
    while (*text) {
        size_t n = 0;
        for (size_t k = 0; k < MLXR_COUNT(markers) && !n; k++)
            if (markers[k] && strncmp(text, markers[k], strlen(markers[k])) == 0) n = strlen(markers[k]);
        assert_int_equal(mlxr_answer_parser_push(p, text, n ? n : 1, n > 0, NULL), MLXR_OK);
        text += n ? n : 1;
        assert_int_equal(mlxr_answer_parser_push(p, "<unused17>", 10, true, NULL), MLXR_OK);
    }
    assert_int_equal(mlxr_answer_parser_finish(p, NULL), MLXR_OK);
    mlxr_answer_parser_free(p);
    mlxr_buf_append(&b.notes, "", 0);
    if (strcmp(a->notes.data, b.notes.data) != 0)
        fail_msg("%s: with special tokens\n%s\n-- without\n%s\n", name, b.notes.data, a->notes.data);
    collect_clear(&b);
}

static void run_case(const json_t *j)
{
    mlxr_answer_parser_options o = mlxr_answer_parser_options_default();
    const char *output = json_string_value(json_object_get(j, "output")),
               *format = json_string_value(json_object_get(j, "format"));
    char *name = mlxr_asprintf("%s: %s", format, json_string_value(json_object_get(j, "name")));
    size_t n = strlen(output), i;
    mlxr_buf want = {0};
    collected c;
    char *got, *tools = NULL;
    uint32_t seed = 11;
    json_t *part;

    o.format = mlxr_answer_format_find(format);
    if (!o.format) fail_msg("%s: no such format", name);
    o.starts_thinking = json_is_true(json_object_get(j, "starts_thinking"));
    o.calls = !json_is_false(json_object_get(j, "calls"));
    if (json_object_get(j, "tools")) o.tools_json = tools = json_dumps(json_object_get(j, "tools"), 0);
    json_array_foreach(json_object_get(j, "parts"), i, part) notes_of_part(&want, part);
    mlxr_buf_append(&want, "", 0);

    assert_int_equal(collect_run(&c, &o, output, n, NULL, NULL, NULL), MLXR_OK);
    if (c.wrong) fail_msg("%s: %s", name, c.wrong);
    got = compared(&c);
    if (strcmp(got, want.data) != 0)
        fail_msg("%s:\n%s\n-- gave\n%s\n-- not\n%s\n", name, output, got, want.data);
    same(&c, &o, output, n, one_byte, NULL, name);
    for (size_t cut = 1; cut < n && cut < 600; cut++) same(&c, &o, output, n, two_pieces, &cut, name);
    for (int k = 0; k < 20; k++) same(&c, &o, output, n, some_bytes, &seed, name);
    with_special(&c, &o, output, name);
    collect_clear(&c);
    mlxr_buf_clear(&want);
    mlxr_free(got);
    mlxr_free(name);
    free(tools);
}

static void test_outputs(void **state)
{
    mlxr_buf text = {0};
    mlxr_error err;
    char *line, *rest;
    size_t n_cases = 0, n_of[64] = {0};

    (void)state;
    if (mlxr_file_read(&text, MLXR_TEST_DIR "/outputs.jsonl", 1 << 24, &err) != MLXR_OK)
        fail_msg("%s", err.message);
    rest = text.data;
    while ((line = strsep(&rest, "\n")) != NULL) {
        json_t *j = NULL;
        if (!*line) continue;
        if (mlxr_json_parse(&j, line, strlen(line), "outputs.jsonl", &err) != MLXR_OK)
            fail_msg("%s", err.message);
        run_case(j);
        for (size_t i = 0; i < mlxr_answer_format_count() && i < 64; i++)
            if (strcmp(mlxr_answer_format_at(i)->name, json_string_value(json_object_get(j, "format"))) == 0)
                n_of[i]++;
        n_cases++;
        json_decref(j);
    }
    for (size_t i = 0; i < mlxr_answer_format_count() && i < 64; i++)
        if (!n_of[i]) fail_msg("no output of format %s", mlxr_answer_format_at(i)->name);
    printf("  %zu outputs of %zu formats\n", n_cases, mlxr_answer_format_count());
    mlxr_buf_clear(&text);
}

/* ---- hostile ---- */

/* Markers without end: the time is the text's length, not its square (the test's limit would tell). */
static void test_markers_without_end(void **state)
{
    enum { LENGTH = 1 << 16 };

    (void)state;
    for (size_t i = 0; i < mlxr_answer_format_count(); i++) {
        const mlxr_answer_format *f = mlxr_answer_format_at(i);
        const char *const repeated[] = {f->think_open,  f->think_close,
                                        f->calls_open,  f->call_open,
                                        f->call_close,  f->calls_open_other,
                                        f->name_open,   f->key_open,
                                        f->layout.head, f->layout.calls_open,
                                        f->dropped[0],  " \n",
                                        "{\"a\":[",     "<",
                                        "[f(a='",       "\xe6"};
        for (size_t k = 0; k < MLXR_COUNT(repeated); k++) {
            mlxr_answer_parser_options o = mlxr_answer_parser_options_default();
            mlxr_buf text = {0};
            collected a;
            uint32_t seed = 5;

            if (!repeated[k] || !*repeated[k]) continue;
            if (k % 3 == 0) mlxr_buf_str(&text, f->layout.calls_open);
            if (k % 3 == 0) mlxr_buf_str(&text, f->layout.head);
            while (text.len < LENGTH) mlxr_buf_str(&text, repeated[k]);
            o.format = f;
            assert_int_equal(collect_run(&a, &o, text.data, text.len, NULL, NULL, NULL), MLXR_OK);
            assert_null(a.wrong);
            same(&a, &o, text.data, text.len, some_bytes, &seed, f->name);
            collect_clear(&a);
            mlxr_buf_clear(&text);
        }
    }
}

static void test_nesting_without_end(void **state)
{
    static const struct {
        const char *format, *before, *open, *close, *after;
    } nests[] = {{"llama-pythonic", "[f(a=", "[", "]", ")]"},
                 {"llama-pythonic", "[f(a=", "{'a':", "}", ")]"},
                 {"gemma4", "<|tool_call>call:f{a:", "{a:", "}", "}<tool_call|>"},
                 {"gemma4", "<|tool_call>call:f{a:", "[", "]", "}<tool_call|>"},
                 {"qwen3-coder", "<tool_call><function=f><parameter=a>", "[", "]",
                  "</parameter></function></tool_call>"}};

    (void)state;
    for (size_t k = 0; k < MLXR_COUNT(nests); k++) {
        mlxr_answer_parser_options o = mlxr_answer_parser_options_default();
        mlxr_buf text = {0};
        collected a;
        bool bare = strcmp(nests[k].format, "qwen3-coder") == 0;

        mlxr_buf_str(&text, nests[k].before);
        for (int i = 0; i < 50000; i++) mlxr_buf_str(&text, nests[k].open);
        for (int i = 0; i < 50000; i++) mlxr_buf_str(&text, nests[k].close);
        mlxr_buf_str(&text, nests[k].after);
        o.format = mlxr_answer_format_find(nests[k].format);
        assert_int_equal(collect_run(&a, &o, text.data, text.len, NULL, NULL, NULL), MLXR_OK);
        /* A bare value that is no JSON is a string; the others are no calls. */
        if (bare) assert_non_null(strstr(a.notes.data, "=f"));
        if (!bare) assert_null(strstr(a.notes.data, "=f\x1f"));
        collect_clear(&a);
        mlxr_buf_clear(&text);
    }
}

/* Schemas that point at themselves, or nest, do not keep the parser. */
static void test_hostile_schemas(void **state)
{
    static const char *const schemas[] = {"{\"$ref\": \"#\"}",
                                          "{\"$ref\": \"#/properties/x\"}",
                                          "{\"anyOf\": [{\"$ref\": \"#/properties/x\"}, {\"$ref\": \"#\"}]}",
                                          "{\"type\": 3}",
                                          "{\"type\": []}",
                                          "{\"type\": [\"weird\"]}",
                                          "{\"enum\": []}",
                                          "true",
                                          "[]"};
    static const char text[] = "<tool_call><function=f><parameter=x>\n5\n</parameter></function></tool_call>";

    (void)state;
    for (size_t k = 0; k < MLXR_COUNT(schemas); k++) {
        mlxr_answer_parser_options o = mlxr_answer_parser_options_default();
        char *tools = mlxr_asprintf("[{\"name\": \"f\", \"parameters\": {\"properties\": {\"x\": %s}}}]",
                                    schemas[k]);
        collected a;

        o.format = mlxr_answer_format_find("qwen3-coder");
        o.tools_json = tools;
        assert_int_equal(collect_run(&a, &o, text, strlen(text), NULL, NULL, NULL), MLXR_OK);
        assert_non_null(strstr(a.notes.data, "=f\x1f\x1f{\"x\":5}"));
        collect_clear(&a);
        mlxr_free(tools);
    }
}

/* ---- the interface ---- */

static void ignore_part(const mlxr_part_event *e, void *ud)
{
    (void)e;
    (void)ud;
}

static void test_refusals(void **state)
{
    mlxr_answer_parser_options o = mlxr_answer_parser_options_default();
    mlxr_answer_parser *p = (mlxr_answer_parser *)1;
    mlxr_error err;

    (void)state;
    assert_int_equal(mlxr_answer_parser_create(&p, &o, &err), MLXR_E_INVALID_ARGUMENT);
    assert_null(p);
    o.format = mlxr_answer_format_find("hermes");
    o.on_part = ignore_part;
    o.tools_json = "{}";
    assert_int_equal(mlxr_answer_parser_create(&p, &o, &err), MLXR_E_FORMAT);
    o.tools_json = "[";
    assert_int_equal(mlxr_answer_parser_create(&p, &o, &err), MLXR_E_FORMAT);
    o.tools_json = "[1, {}, {\"name\": 2}, {\"function\": []}]";
    assert_int_equal(mlxr_answer_parser_create(&p, &o, &err), MLXR_OK);
    assert_int_equal(mlxr_answer_parser_push(p, "", 0, false, &err), MLXR_OK);
    assert_int_equal(mlxr_answer_parser_push(p, "", 0, true, &err), MLXR_OK);
    assert_int_equal(mlxr_answer_parser_finish(p, &err), MLXR_OK);
    assert_int_equal(mlxr_answer_parser_finish(p, &err), MLXR_OK);
    assert_int_equal(mlxr_answer_parser_push(p, "a", 1, false, &err), MLXR_E_INVALID_ARGUMENT);
    mlxr_answer_parser_free(p);
    mlxr_answer_parser_free(NULL);
}

typedef struct seen {
    mlxr_buf text;
    size_t n_content, n_pieces;
    bool ended;
} seen;

static void see(const mlxr_part_event *e, void *ud)
{
    seen *s = ud;

    if (e->part == MLXR_PART_CONTENT) s->n_content++;
    if (e->part == MLXR_PART_TOOL_CALL && !e->ends) s->n_pieces++;
    if (e->part == MLXR_PART_TOOL_CALL && e->ends) s->ended = true;
    mlxr_buf_append(&s->text, e->text, e->n_text);
}

/* What is certain comes at once: content with its word, arguments while they are written, the call with its last brace. */
static void test_nothing_waits_longer_than_it_must(void **state)
{
    mlxr_answer_parser_options o = mlxr_answer_parser_options_default();
    mlxr_answer_parser *p;
    seen s = {0};

    (void)state;
    o.format = mlxr_answer_format_find("hermes");
    o.on_part = see;
    o.ud = &s;
    assert_int_equal(mlxr_answer_parser_create(&p, &o, NULL), MLXR_OK);
    mlxr_answer_parser_push(p, "Hello", 5, false, NULL);
    assert_int_equal(s.text.len, 5);
    mlxr_answer_parser_push(p, " you", 4, false, NULL);
    assert_int_equal(s.text.len, 9);
    mlxr_answer_parser_push(p, " <", 2, false, NULL);
    assert_int_equal(s.text.len, 9);
    mlxr_answer_parser_push(p, "b>", 2, false, NULL);
    assert_int_equal(s.text.len, 13);
    mlxr_answer_parser_push(p, "\xe6\x97", 2, false, NULL); /* the first bytes of a character */
    assert_int_equal(s.text.len, 13);
    mlxr_answer_parser_push(p, "\xa5", 1, false, NULL);
    assert_int_equal(s.text.len, 16);
    s.text.len = 0;
    mlxr_answer_parser_push(p, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"long", 49, false, NULL);
    assert_string_equal(s.text.data, "{\"a\": \"long");
    assert_int_equal(s.n_pieces, 1);
    mlxr_answer_parser_push(p, " text\"}", 7, false, NULL);
    assert_string_equal(s.text.data, "{\"a\": \"long text\"}");
    assert_false(s.ended);
    mlxr_answer_parser_push(p, "}", 1, false, NULL);
    assert_true(s.ended);
    assert_int_equal(mlxr_answer_parser_finish(p, NULL), MLXR_OK);
    assert_string_equal(s.text.data, "{\"a\": \"long text\"}");
    mlxr_answer_parser_free(p);
    mlxr_buf_clear(&s.text);
}

/* The scanner agrees with jansson on what is JSON, and knows a value's end with its last byte. */
static void test_json_scanner(void **state)
{
    static const char *const texts[] = {"0",
                                        "-0",
                                        "01",
                                        "1.",
                                        ".5",
                                        "-",
                                        "+1",
                                        "1e5",
                                        "1E+05",
                                        "1e",
                                        "1e+",
                                        "0x1",
                                        "1 2",
                                        "true",
                                        "tru",
                                        "truex",
                                        "null",
                                        "nul",
                                        "NaN",
                                        "\"a\"",
                                        "\"a",
                                        "\"\\u00e9\"",
                                        "\"\\u00g9\"",
                                        "\"\\x\"",
                                        "\"\t\"",
                                        "\"\\t\"",
                                        "[]",
                                        "[ ]",
                                        "[1,]",
                                        "[,1]",
                                        "[1 2]",
                                        "[1,2]",
                                        "{}",
                                        "{ }",
                                        "{\"a\":1}",
                                        "{\"a\" : [ 1 , { } ] }",
                                        "{\"a\"}",
                                        "{\"a\":}",
                                        "{\"a\":1,}",
                                        "{a:1}",
                                        "{\"a\":1 \"b\":2}",
                                        "[}",
                                        "{]",
                                        "[[]",
                                        "[]]",
                                        "",
                                        " ",
                                        " 1 ",
                                        "\n[\t]\r",
                                        "'a'",
                                        "[1.5e-3, -2, \"x\", null, false]",
                                        "{\"a\":{\"b\":[{}]}}",
                                        "-a",
                                        "--1",
                                        "1.2.3",
                                        "\v1"};

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(texts); i++) {
        json_t *j = json_loads(texts[i], JSON_DECODE_ANY, NULL);
        mlxr_buf compact = {0};
        if (json_is_value(texts[i], strlen(texts[i])) != (j != NULL))
            fail_msg("%s: not as jansson has it", texts[i]);
        if (j) {
            json_t *again;
            json_compact(&compact, texts[i], strlen(texts[i]));
            again = json_loads(compact.data, JSON_DECODE_ANY, NULL);
            if (!again || !json_equal(j, again)) fail_msg("%s: %s", texts[i], compact.data);
            json_decref(again);
        }
        mlxr_buf_clear(&compact);
        json_decref(j);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_outputs),
                                       cmocka_unit_test(test_json_scanner),
                                       cmocka_unit_test(test_markers_without_end),
                                       cmocka_unit_test(test_nesting_without_end),
                                       cmocka_unit_test(test_hostile_schemas),
                                       cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_nothing_waits_longer_than_it_must)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
