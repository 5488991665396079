/* Answers with a form on tiny_chat, whose weights are random: whatever it is asked, only the grammar makes its answers what
 * they have to be. */
#include "test.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "runner/engine_api.h"

#define TINY MLXR_TEST_DIR "/fixtures/tiny_chat"

static mlxr_error err;

/* tiny_chat with a template that knows tools, in a folder of its own. */
static char folder[] = "/tmp/mlxr_structured_XXXXXX";
static const char *const files[] = {"config.json", "generation_config.json", "model.safetensors",
                                    "tokenizer.json", "tokenizer_config.json"};

static int make_folder(void **state)
{
    static const char config[] = "{\"bos_token\": \"<s>\", \"eos_token\": \"<|end|>\", \"chat_template\": "
                                 "\"{{ bos_token }}{% if tools %}"
                                 "<tool_call>{{ tools | length }}</tool_call>{% endif %}{% for m in messages "
                                 "%}{{ m.content }}{% endfor %}\"}";
    (void)state;
    if (!mkdtemp(folder)) return -1;
    for (size_t i = 0; i < MLXR_COUNT(files); i++) {
        char *to = mlxr_path_join(folder, files[i]), *from = mlxr_path_join(TINY, files[i]);
        bool own = strcmp(files[i], "tokenizer_config.json") == 0;
        if (own ? mlxr_file_write(to, config, sizeof config - 1, NULL) != MLXR_OK : symlink(from, to) != 0)
            return -1;
        free(from);
        free(to);
    }
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(files); i++) {
        char *path = mlxr_path_join(folder, files[i]);
        (void)unlink(path);
        free(path);
    }
    return rmdir(folder);
}

static mlxr_engine *open_tiny(int32_t n_threads)
{
    mlxr_engine_options o = mlxr_engine_options_default();
    mlxr_engine *e;

    o.precision = MLXR_PRECISION_EXACT;
    o.n_threads = n_threads;
    o.max_sequences = 8;
    assert_ok(mlxr_engine_open(&e, folder, &o, &err), &err);
    return e;
}

static mlxr_request hot(int64_t seed)
{
    mlxr_request q = mlxr_request_default();
    q.prompt = "Tell me.";
    q.max_tokens = 160;
    q.sampling.temperature = 1.5f;
    q.sampling.top_k = 0;
    q.sampling.top_p = 1;
    q.sampling.seed = seed;
    return q;
}

/* One answer of a generation. */
struct answer {
    char text[4096], thinking[256];
    int32_t ids[512];
    double logprobs[512];
    size_t n_ids, n_calls;
    char name[64], arguments[1024];
    mlxr_done_reason reason;
    bool completed;
};

static void take(struct answer *a, const mlxr_event *ev)
{
    if (ev->type == MLXR_EVENT_TOKEN && ev->id >= 0 && a->n_ids < MLXR_COUNT(a->ids)) {
        a->logprobs[a->n_ids] = ev->logprob;
        a->ids[a->n_ids++] = ev->id;
    }
    if (ev->type != MLXR_EVENT_COMPLETED) return;
    assert_true(ev->n_text < sizeof a->text && ev->n_thinking < sizeof a->thinking);
    memcpy(a->text, ev->text, ev->n_text + 1);
    memcpy(a->thinking, ev->thinking, ev->n_thinking + 1);
    a->reason = ev->stats->done_reason;
    a->n_calls = ev->n_calls;
    if (ev->n_calls) {
        assert_true(strlen(ev->calls[0].name) < sizeof a->name &&
                    strlen(ev->calls[0].arguments) < sizeof a->arguments);
        strcpy(a->name, ev->calls[0].name);
        strcpy(a->arguments, ev->calls[0].arguments);
    }
    a->completed = true;
}

/* Pulls a generation's answers to its end. */
static void pull(struct answer *a, size_t n, mlxr_generation *g)
{
    mlxr_event ev;

    while (!mlxr_generation_ended(g))
        if (mlxr_generation_next(g, -1, &ev)) {
            if (ev.type == MLXR_EVENT_FAILED) fail_msg("%s", ev.text);
            assert_in_range(ev.choice, 0, n - 1);
            take(&a[ev.choice], &ev);
        }
    for (size_t i = 0; i < n; i++) assert_true(a[i].completed);
    mlxr_generation_free(g);
}

static struct answer *ask(mlxr_engine *e, const mlxr_request *q)
{
    struct answer *a = calloc((size_t)q->n_choices, sizeof *a);
    mlxr_generation *g;

    assert_non_null(a);
    assert_ok(mlxr_engine_submit(&g, e, q, NULL, NULL, &err), &err);
    pull(a, (size_t)q->n_choices, g);
    return a;
}

static const char point[] =
    "{\"type\": \"object\", \"properties\": {\"kind\": {\"enum\": [\"dot\", \"line\"]}, "
    "\"x\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 99}, "
    "\"label\": {\"type\": \"string\", \"maxLength\": 3}}, "
    "\"required\": [\"kind\", \"x\"], \"additionalProperties\": false}";

static bool is_point(const char *text)
{
    json_t *v = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    const char *kind = json_string_value(json_object_get(v, "kind"));
    const json_t *x = json_object_get(v, "x"), *label = json_object_get(v, "label");
    bool ok = kind && (strcmp(kind, "dot") == 0 || strcmp(kind, "line") == 0) && json_is_integer(x) &&
              json_integer_value(x) >= 0 && json_integer_value(x) <= 99 &&
              json_object_size(v) == 2 + (label != NULL) && (!label || json_is_string(label));

    json_decref(v);
    return ok;
}

static void a_schema_holds_whatever_is_drawn(void **state)
{
    mlxr_engine *e = open_tiny(1);
    size_t n_stopped = 0;
    (void)state;
    for (int64_t seed = 0; seed < 12; seed++) {
        mlxr_request q = hot(seed * 10);
        q.format = point;
        q.n_choices = 4;
        struct answer *a = ask(e, &q);
        for (size_t i = 0; i < 4; i++) {
            n_stopped += a[i].reason == MLXR_DONE_STOP;
            if (a[i].reason == MLXR_DONE_STOP && !is_point(a[i].text)) fail_msg("not valid: %s", a[i].text);
        }
        free(a);
    }
    assert_in_range(n_stopped, 24, 48); /* most fit into 160 bytes */
    mlxr_engine_close(e);
}

static void json_gbnf_and_regex_hold(void **state)
{
    mlxr_engine *e = open_tiny(1);
    (void)state;
    for (int64_t seed = 0; seed < 10; seed++) {
        mlxr_request q = hot(seed);
        struct answer *a;
        json_t *v;

        q.format = "json";
        a = ask(e, &q);
        v = json_loads(a->text, 0, NULL);
        assert_true(a->reason == MLXR_DONE_LENGTH || json_is_object(v));
        assert_int_equal(a->text[strspn(a->text, " \n\r\t")], '{');
        json_decref(v);
        free(a);

        q.format = NULL;
        q.grammar = "root ::= (\"ab\" | \"c\" [0-9])+ \".\"";
        a = ask(e, &q);
        for (const char *p = a->text; *p && !(p[0] == '.' && !p[1]);) {
            bool ab = p[0] == 'a' && (p[1] == 'b' || !p[1]),
                 c = p[0] == 'c' && ((p[1] >= '0' && p[1] <= '9') || !p[1]);
            if (!ab && !c) fail_msg("not of the grammar: %s", a->text);
            p += p[1] ? 2 : 1;
        }
        free(a);

        q.grammar = NULL;
        q.regex = "[a-f]{3}-[0-9]{2}";
        a = ask(e, &q);
        assert_int_equal(a->reason, MLXR_DONE_STOP);
        assert_int_equal(a->n_ids, 6); /* it ends by itself: no EOS is needed */
        assert_int_equal(strlen(a->text), 6);
        assert_true(strspn(a->text, "abcdef") == 3 && a->text[3] == '-' &&
                    strspn(a->text + 4, "0123456789") == 2);
        free(a);
    }
    mlxr_engine_close(e);
}

/* Company, threads and a warm cache change no bit of an answer that has a form. */
static void masks_do_not_depend_on_company(void **state)
{
    static const char *const formats[] = {
        point, "json", "{\"type\": \"array\", \"items\": {\"type\": \"integer\"}, \"maxItems\": 5}",
        NULL,  point,  "{\"enum\": [\"a\", [1, 2], null]}"};
    enum { N = MLXR_COUNT(formats) };
    struct answer *alone[N];
    (void)state;
    for (int32_t n_threads = 1; n_threads <= 2; n_threads++) {
        mlxr_engine *e = open_tiny(n_threads);
        mlxr_generation *g[N];
        mlxr_request q[N];
        for (size_t i = 0; i < N; i++) {
            q[i] = hot((int64_t)i + 1);
            q[i].format = formats[i];
            q[i].logprobs = true;
            if (n_threads == 1) alone[i] = ask(e, &q[i]);
        }
        for (size_t i = 0; i < N; i++) assert_ok(mlxr_engine_submit(&g[i], e, &q[i], NULL, NULL, &err), &err);
        for (size_t i = 0; i < N; i++) {
            struct answer *a = calloc(1, sizeof *a);
            assert_non_null(a);
            pull(a, 1, g[i]);
            assert_string_equal(a->text, alone[i]->text);
            assert_int_equal(a->n_ids, alone[i]->n_ids);
            assert_memory_equal(a->ids, alone[i]->ids, a->n_ids * sizeof *a->ids);
            assert_memory_equal(a->logprobs, alone[i]->logprobs, a->n_ids * sizeof *a->logprobs);
            free(a);
        }
        mlxr_engine_close(e);
    }
    for (size_t i = 0; i < N; i++) free(alone[i]);
}

/* A stop string that cuts a text short leaves it incomplete, and the reason says so. */
static void a_stop_string_within_a_form_is_a_cut(void **state)
{
    static const char *const inside[] = {"-"}, *const outside[] = {"Z"};
    mlxr_engine *e = open_tiny(1);
    mlxr_request q = hot(3);
    struct answer *a;
    (void)state;
    q.regex = "[a-f]{3}-[0-9]{2}";
    q.stop = inside;
    q.n_stop = 1;
    a = ask(e, &q);
    assert_int_equal(a->reason, MLXR_DONE_LENGTH);
    assert_int_equal(strlen(a->text), 3);
    free(a);
    q.stop = outside;
    a = ask(e, &q);
    assert_int_equal(a->reason, MLXR_DONE_STOP);
    free(a);
    q.max_tokens = 4;
    a = ask(e, &q);
    assert_int_equal(a->reason, MLXR_DONE_LENGTH);
    free(a);
    q.max_tokens = 6; /* complete with its last token */
    a = ask(e, &q);
    assert_int_equal(a->reason, MLXR_DONE_STOP);
    free(a);
    mlxr_engine_close(e);
}

static const char tools[] =
    "[{\"type\": \"function\", \"function\": {\"name\": \"dice\", \"parameters\": {\"type\": \"object\", "
    "\"properties\": "
    "{\"sides\": {\"enum\": [4, 6, 20]}}, \"required\": [\"sides\"], \"additionalProperties\": false}}}, "
    "{\"type\": \"function\", \"function\": {\"name\": \"coin\", \"parameters\": {\"type\": \"object\", "
    "\"properties\": {}, "
    "\"additionalProperties\": false}}}]";

static void required_tools_are_called(void **state)
{
    mlxr_engine *e = open_tiny(1);
    (void)state;
    for (int64_t seed = 0; seed < 6; seed++) {
        mlxr_request q = hot(seed);
        struct answer *a;
        json_t *v;

        q.parts = true;
        q.tools_json = tools;
        q.parallel_tool_calls = false;
        q.max_tokens = 400;
        q.tool_choice = MLXR_TOOL_CHOICE_NAMED;
        q.tool_name = "dice";
        a = ask(e, &q);
        assert_int_equal(a->n_calls, 1);
        assert_string_equal(a->name, "dice");
        assert_string_equal(a->text, "");
        v = json_loads(a->arguments, 0, NULL);
        assert_int_equal(json_object_size(v), 1);
        assert_true(json_is_integer(json_object_get(v, "sides")));
        json_decref(v);
        free(a);

        q.tool_choice = MLXR_TOOL_CHOICE_REQUIRED;
        q.tool_name = NULL;
        a = ask(e, &q);
        assert_int_equal(a->n_calls, 1);
        assert_true(strcmp(a->name, "dice") == 0 || strcmp(a->name, "coin") == 0);
        free(a);

        q.tool_choice = MLXR_TOOL_CHOICE_NONE;
        q.max_tokens = 60;
        a = ask(e, &q);
        assert_int_equal(a->n_calls, 0);
        free(a);
    }
    mlxr_engine_close(e);
}

static void what_cannot_be_had_is_refused_by_name(void **state)
{
    static const struct {
        const char *format, *grammar, *regex, *tools, *answer_format, *text;
        mlxr_tool_choice choice;
        mlxr_think think;
        bool no_parts;
        mlxr_status status;
    } cases[] = {
        {.format = "{\"type\": \"array\", \"uniqueItems\": true}",
         .text = "uniqueItems",
         .status = MLXR_E_UNSUPPORTED},
        {.format = "{\"type\": \"nothing\"}", .text = "type", .status = MLXR_E_FORMAT},
        {.format = "{\"type\": ", .text = "schema", .status = MLXR_E_FORMAT},
        {.format = "false", .text = "schema", .status = MLXR_E_INVALID_ARGUMENT},
        {.grammar = "root ::= (", .text = "grammar", .status = MLXR_E_FORMAT},
        {.grammar = "root ::= root \"a\" | \"b\"", .text = "root", .status = MLXR_E_INVALID_ARGUMENT},
        {.regex = "(a", .text = "regex", .status = MLXR_E_FORMAT},
        {.format = "json", .regex = "a", .text = "one form", .status = MLXR_E_INVALID_ARGUMENT},
        {.answer_format = "nonsense", .text = "nonsense", .status = MLXR_E_NOT_FOUND},
        {.choice = MLXR_TOOL_CHOICE_REQUIRED, .text = "no tools", .status = MLXR_E_INVALID_ARGUMENT},
        {.choice = MLXR_TOOL_CHOICE_NAMED,
         .tools = tools,
         .text = "names no tool",
         .status = MLXR_E_INVALID_ARGUMENT},
        {.choice = MLXR_TOOL_CHOICE_NONE,
         .tools = tools,
         .no_parts = true,
         .text = "parts",
         .status = MLXR_E_INVALID_ARGUMENT},
        {.tools = "[{\"name\": \"f\", \"parameters\": {\"type\": \"object\", \"properties\": {\"x\": "
                  "{\"uniqueItems\": true}}}}]",
         .text = "tools[0]",
         .status = MLXR_E_UNSUPPORTED},
        {.think = MLXR_THINK_ON, .text = "thinking", .status = MLXR_E_UNSUPPORTED},
    };
    mlxr_engine *e = open_tiny(1);
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        mlxr_request q = hot(0);
        mlxr_generation *g;
        mlxr_status st;

        q.parts = !cases[i].no_parts;
        q.format = cases[i].format;
        q.grammar = cases[i].grammar;
        q.regex = cases[i].regex;
        q.tools_json = cases[i].tools;
        q.answer_format = cases[i].answer_format;
        q.tool_choice = cases[i].choice;
        q.think = cases[i].think;
        st = mlxr_engine_submit(&g, e, &q, NULL, NULL, &err);
        if (st != cases[i].status || !strstr(err.message, cases[i].text))
            fail_msg("case %zu: %s: %s", i, mlxr_status_name(st), st ? err.message : "");
        assert_null(g);
    }
    mlxr_engine_close(e);
}

/* Thinking off is what a model without thinking does anyway. */
static void no_thinking_to_turn_off(void **state)
{
    mlxr_engine *e = open_tiny(1);
    mlxr_request q = hot(0);
    (void)state;
    q.parts = true;
    q.think = MLXR_THINK_OFF;
    q.max_tokens = 3;
    free(ask(e, &q));
    mlxr_engine_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_schema_holds_whatever_is_drawn),
        cmocka_unit_test(json_gbnf_and_regex_hold),
        cmocka_unit_test(masks_do_not_depend_on_company),
        cmocka_unit_test(a_stop_string_within_a_form_is_a_cut),
        cmocka_unit_test(required_tools_are_called),
        cmocka_unit_test(what_cannot_be_had_is_refused_by_name),
        cmocka_unit_test(no_thinking_to_turn_off),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
