/* Random walks: whatever a grammar of tool calls lets be written, the answer parser reads back as calls of the tools, with
 * arguments that fit their schemas. For every format, with its markers as special tokens and as plain text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/json.h"
#include "engine/grammar/answer_walk.h"

enum { MAX_TOKENS = 6000 };

/* Strings of every kind, numbers, words, lists, objects, optional members, references, no parameters. */
static const char tools[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"weather\",\"parameters\":{\"type\":\"object\","
    "\"properties\":{"
    "\"city\":{\"type\":\"string\"},\"unit\":{\"enum\":[\"C\",\"F\",\"it's \\\"K\\\"\"]},"
    "\"days\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":14},\"exact\":{\"type\":\"boolean\"}},"
    "\"required\":[\"city\",\"days\"],\"additionalProperties\":false}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"note-it\",\"parameters\":{\"type\":\"object\","
    "\"properties\":{"
    "\"text\":{\"type\":\"string\",\"minLength\":2,\"maxLength\":9},\"tag\":{\"type\":[\"string\",\"null\"]},"
    "\"code\":{\"type\":\"string\",\"pattern\":\"^[A-Z]{2}-[0-9]+$\"},\"level\":{\"anyOf\":[{\"type\":"
    "\"string\","
    "\"minLength\":3},{\"type\":\"integer\",\"minimum\":10,\"maximum\":99}]},"
    "\"who\":{\"$ref\":\"#/$defs/"
    "person\"},\"list\":{\"type\":\"array\",\"items\":{\"type\":[\"boolean\",\"null\",\"string\"]},"
    "\"maxItems\":3},\"all\":{}},\"$defs\":{\"person\":{\"type\":\"object\",\"properties\":{\"name\":{"
    "\"type\":\"string\"},"
    "\"ok\":{\"const\":true},\"kids\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/"
    "person\"},\"maxItems\":2}},"
    "\"required\":[\"name\",\"ok\"],\"additionalProperties\":false}},\"additionalProperties\":false}}},"
    "{\"name\":\"go.on\"},"
    "{\"name\":\"map_of\",\"parameters\":{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\","
    "\"minimum\":0,"
    "\"maximum\":9},\"maxProperties\":3}},"
    "{\"name\":\"mix\",\"parameters\":{\"type\":\"object\",\"properties\":{\"u\":{\"type\":\"array\","
    "\"items\":{\"enum\":["
    "\"a\",\"b</"
    "parameter>\",1,true,null]},\"uniqueItems\":true,\"maxItems\":3},\"when\":{\"type\":\"string\",\"for"
    "mat\":\"date\"},\"m\":{\"type\":\"object\",\"additionalProperties\":{\"type\":\"array\",\"items\":{"
    "\"type\":\"strin"
    "g\"},\"minItems\":1,\"maxItems\":2},\"maxProperties\":2},\"step\":{\"type\":\"number\",\"multipleOf\":0."
    "25,\"mi"
    "nimum\":0,\"maximum\":5},\"long\":{\"type\":\"string\",\"minLength\":130,\"maxLength\":300},\"longs\":{"
    "\"type\":"
    "\"array\",\"items\":{\"type\":\"string\",\"minLength\":129,\"maxLength\":140},\"maxItems\":1},\"shape\":"
    "{\"oneOf"
    "\":[{\"type\":\"object\",\"properties\":{\"kind\":{\"const\":\"circle\"},\"r\":{\"type\":\"integer\"}},"
    "\"required\":"
    "[\"kind\"],\"additionalProperties\":false},{\"type\":\"object\",\"properties\":{\"kind\":{\"const\":"
    "\"box\"}},\""
    "required\":[\"kind\"],\"additionalProperties\":false}]}},\"required\":[\"u\"],\"additionalProperties\":"
    "fal"
    "se}}"
    "]";

/* ---- arguments against their schemas ---- */

typedef struct checkers {
    mlxr_value_doc tools;
    mlxr_grammar *g[8];
    mlxr_schema_checker *c[8];
} checkers;

static void checkers_init(checkers *k)
{
    mlxr_error err;
    memset(k, 0, sizeof *k);
    if (mlxr_value_parse(&k->tools, tools, strlen(tools), "tools", &err) != MLXR_OK)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < k->tools.root->n; i++) {
        const mlxr_value *v = k->tools.root->items[i], *f = mlxr_value_get(v, "function"), *p;
        mlxr_buf text = {0};
        p = mlxr_value_get(f ? f : v, "parameters");
        if (p)
            mlxr_value_write(&text, p);
        else
            mlxr_buf_str(&text, "{\"type\":\"object\"}");
        if (mlxr_grammar_from_schema(&k->g[i], text.data, text.len, "parameters", NULL, NULL, &err) !=
                MLXR_OK ||
            mlxr_schema_checker_create(&k->c[i], k->g[i], &err) != MLXR_OK)
            fail_msg("%s", err.message);
        mlxr_buf_clear(&text);
    }
}

static void checkers_clear(checkers *k)
{
    for (size_t i = 0; i < 8; i++) {
        mlxr_schema_checker_free(k->c[i]);
        mlxr_grammar_unref(k->g[i]);
    }
    mlxr_value_clear(&k->tools);
}

static void check_call(checkers *k, const walk_call *call, const char *where, const char *text)
{
    mlxr_schema_verdict verdict;
    mlxr_value_doc doc;
    mlxr_error err;

    for (size_t i = 0; i < k->tools.root->n; i++) {
        const mlxr_value *v = k->tools.root->items[i], *f = mlxr_value_get(v, "function");
        if (strcmp(mlxr_value_get(f ? f : v, "name")->text, call->name) != 0) continue;
        if (mlxr_value_parse(&doc, call->arguments.data, call->arguments.len, "arguments", &err) != MLXR_OK ||
            mlxr_schema_check(&verdict, k->c[i], doc.root, &err) != MLXR_OK)
            fail_msg("%s: %s: %s\n%s", where, err.message, call->arguments.data, text);
        if (!verdict.valid)
            fail_msg("%s: %s(%s): at %s: %s\n%s", where, call->name, call->arguments.data, verdict.at,
                     verdict.expected, text);
        mlxr_value_clear(&doc);
        return;
    }
    fail_msg("%s: there is no tool %s\n%s", where, call->name, text);
}

/* ---- walks ---- */

/* test_tools_walk [FORMAT [WALKS]], for longer. */
static const char *only_format;
static uint64_t n_walks = 40;

typedef struct totals {
    size_t walks, ended, calls, thought;
} totals;

static void walk_format(checkers *k, const mlxr_answer_grammar *p, bool special, totals *sum)
{
    static walk_vocabulary v;
    mlxr_grammar *g;
    mlxr_masker *masker;
    mlxr_error err;
    char where[160];
    bool must = p->tool_choice == MLXR_TOOLS_REQUIRED || p->tool_choice == MLXR_TOOLS_NAMED;

    snprintf(where, sizeof where, "%s, choice %d, %s%s%s", p->format->name, (int)p->tool_choice,
             special ? "special" : "plain", p->may_think ? ", may think" : "",
             p->starts_thinking ? ", thinks" : "");
    if (mlxr_grammar_for_answer(&g, p, NULL, &err) != MLXR_OK) fail_msg("%s: %s", where, err.message);
    assert_non_null(g);
    walk_vocabulary_init(&v, p->format, special);
    if (mlxr_masker_create(&masker, g, v.v, &err) != MLXR_OK) fail_msg("%s: %s", where, err.message);
    for (uint64_t seed = 0; seed < n_walks; seed++) {
        mlxr_answer_parser_options o = mlxr_answer_parser_options_default();
        mlxr_answer_parser *parser;
        walk_result r;
        o.format = p->format;
        o.starts_thinking = p->starts_thinking;
        o.calls = true;
        o.tools_json = p->tools_json;
        o.on_part = walk_on_part;
        o.ud = &r;
        if (mlxr_answer_parser_create(&parser, &o, &err) != MLXR_OK) fail_msg("%s: %s", where, err.message);
        sum->walks++;
        if (walk_once(&r, masker, &v, parser, seed * 77 + 5, MAX_TOKENS)) {
            sum->ended++;
            sum->calls += r.n_calls;
            sum->thought += r.thinking.len > 0;
            if (r.n_warnings) fail_msg("%s, seed %d: %s\n%s", where, (int)seed, r.warning, r.text.data);
            if (must && r.n_calls == 0) fail_msg("%s, seed %d: no call\n%s", where, (int)seed, r.text.data);
            if (must && r.content.len && strspn(r.content.data, " \t\r\n") != r.content.len)
                fail_msg("%s, seed %d: content \"%s\"\n%s", where, (int)seed, r.content.data, r.text.data);
            if (!p->parallel && r.n_calls > 1)
                fail_msg("%s, seed %d: %zu calls", where, (int)seed, r.n_calls);
            for (size_t i = 0; i < r.n_calls; i++) {
                check_call(k, &r.calls[i], where, r.text.data);
                if (p->tool_choice == MLXR_TOOLS_NAMED && strcmp(r.calls[i].name, p->tool_name) != 0)
                    fail_msg("%s, seed %d: a call of %s", where, (int)seed, r.calls[i].name);
            }
        }
        mlxr_answer_parser_free(parser);
        walk_result_clear(&r);
    }
    mlxr_masker_free(masker);
    mlxr_vocabulary_free(v.v);
    mlxr_grammar_unref(g);
}

static void walk_all(mlxr_tool_choice_kind choice, bool parallel, bool may_think, bool starts_thinking)
{
    checkers k;
    checkers_init(&k);
    for (size_t i = 0; i < mlxr_answer_format_count(); i++) {
        mlxr_answer_grammar p = mlxr_answer_grammar_default();
        totals sum = {0};
        p.format = mlxr_answer_format_at(i);
        if (only_format && strcmp(only_format, p.format->name) != 0) continue;
        if (p.format->style == MLXR_CALLS_NONE) continue;
        if ((may_think || starts_thinking) && !p.format->think_open) continue;
        /* A prompt that ends behind the head of a message: its readers begin with a head. */
        if (starts_thinking && p.format->style == MLXR_CALLS_HARMONY) continue;
        p.tools_json = tools;
        p.tool_choice = choice;
        p.tool_name = "note-it";
        p.parallel = parallel;
        p.may_think = may_think;
        p.starts_thinking = starts_thinking;
        walk_format(&k, &p, true, &sum);
        walk_format(&k, &p, false, &sum);
        print_message("%s: %zu walks, %zu ended, %zu calls, %zu thought\n", p.format->name, sum.walks,
                      sum.ended, sum.calls, sum.thought);
        /* A walk that cannot find its end tells nothing. */
        if (sum.ended * 10 < sum.walks * 9)
            fail_msg("%s: %zu of %zu walks ended", p.format->name, sum.ended, sum.walks);
    }
    checkers_clear(&k);
}

static void test_required(void **state)
{
    walk_all(MLXR_TOOLS_REQUIRED, true, false, false);
}

static void test_required_one(void **state)
{
    walk_all(MLXR_TOOLS_REQUIRED, false, true, false);
}

static void test_named(void **state)
{
    walk_all(MLXR_TOOLS_NAMED, false, false, true);
}

static void test_auto(void **state)
{
    walk_all(MLXR_TOOLS_AUTO, true, true, false);
}

static void test_auto_one(void **state)
{
    walk_all(MLXR_TOOLS_AUTO, false, false, false);
}

/* Free text under `none` has no calls for a reader that looks for them. */
static void test_none(void **state)
{
    walk_all(MLXR_TOOLS_NONE, true, false, false);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_required), cmocka_unit_test(test_required_one), cmocka_unit_test(test_named),
        cmocka_unit_test(test_auto),     cmocka_unit_test(test_auto_one),     cmocka_unit_test(test_none),
    };
    only_format = argc > 1 ? argv[1] : NULL;
    if (argc > 2) n_walks = strtoull(argv[2], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
