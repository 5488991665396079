/* What a template writes for an assistant's message is what its model writes: rendered, it must come back as the same thinking,
 * content and calls, in the format that is found out from the template itself, however it is cut.
 *
 * For every template: conversations that end in an assistant's message of several kinds. The model's output is what the message
 * adds to the prompt, up to the end of the turn. A template that cannot say a kind (it raises an error, or the words do not
 * come out) is not asked for it; which were asked is printed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <dirent.h>

#include <cmocka.h>

#include "base/json.h"
#include "text/answers/collect.h"
#include "text/chat_template.h"

static const char tools_text[] = "[{\"type\": \"function\", \"function\": {\"name\": \"get_weather\", "
                                 "\"description\": \"the weather\", \"parameters\": "
                                 "{\"type\": \"object\", \"properties\": {\"city\": {\"type\": \"string\", "
                                 "\"description\": \"where\"}, \"days\": {\"type\": "
                                 "\"integer\", \"description\": \"how many\"}, \"exact\": {\"type\": "
                                 "\"boolean\", \"description\": \"yes\"}, \"tags\": {\"type\": "
                                 "\"array\", \"items\": {\"type\": \"string\"}, \"description\": \"words\"}, "
                                 "\"where\": {\"type\": \"object\", \"properties\": "
                                 "{}, \"additionalProperties\": {\"type\": \"string\"}, \"description\": \"a "
                                 "place\"}, \"text\": {\"type\": \"string\", "
                                 "\"description\": \"a text\"}}, \"required\": "
                                 "[\"city\"]}}}, {\"type\": \"function\", \"function\": {\"name\": "
                                 "\"list_files\", \"description\": \"files\", "
                                 "\"parameters\": {\"type\": \"object\", \"properties\": {\"path\": "
                                 "{\"type\": \"string\", \"description\": \"which\"}}, "
                                 "\"required\": []}}}]";
static const char first_args[] = "{\"city\": \"S\\u00e3o Paulo\", \"days\": 3, \"exact\": true, \"tags\": "
                                 "[\"a\", \"b c\"], \"where\": {\"lat\": -1.5, "
                                 "\"note\": \"x, {y} z\"}, \"text\": \"line 1\\n  line 2: 007\"}";
static const char second_args[] = "{\"path\": \"/tmp\"}";
#define CONTENT  "The answer is 42.\n\n- one\n- two"
#define THINKING "Let me think.\nSecond line."

typedef struct kind {
    const char *name;
    bool thinking, content;
    int n_calls;
} kind;
static const kind kinds[] = {{"content", false, true, 0},
                             {"thinking+content", true, true, 0},
                             {"call", false, false, 1},
                             {"content+call", false, true, 1},
                             {"thinking+call", true, false, 1},
                             {"2 calls", false, false, 2},
                             {"thinking+content+2 calls", true, true, 2}};

static const char *const turn_ends[] = {"<|im_end|>",
                                        "<|eot_id|>",
                                        "<|eom_id|>",
                                        "<|end_of_text|>",
                                        "<｜end▁of▁sentence｜>",
                                        "</s>",
                                        "<|return|>",
                                        "<|call|>",
                                        "<|end|>",
                                        "<end_of_turn>",
                                        "<turn|>",
                                        "<|role_end|>",
                                        "<|END_OF_TURN_TOKEN|>",
                                        "</assistant>",
                                        "<|eom|>",
                                        "<|message_sep|>",
                                        "<|end_of_msg|>",
                                        "<|close|>message<|sep|>",
                                        "<sep>",
                                        "<|tool_response>",
                                        "<|eot|>",
                                        "[e~[",
                                        "<｜hy_eos:opensource｜>",
                                        "<|im_start|>",
                                        "<|user|>",
                                        "<|calls|>",
                                        "[/INST]"};

/* How conversations are tried until one is rendered with all its words. */
typedef struct attempt {
    bool text_args, empty_content; /* arguments as text; content "" and not null where there is none */
} attempt;

static json_t *message_of(const kind *k, const attempt *a, const mlxr_answer_format *f)
{
    json_t *m = json_object(), *calls, *one;
    static const char *const thinking_keys[] = {"reasoning_content", "reasoning", "thinking", "thought"};

    json_object_set_new(m, "role", json_string("assistant"));
    json_object_set_new(m, "content",
                        k->content         ? json_string(CONTENT)
                        : a->empty_content ? json_string("")
                                           : json_null());
    for (size_t i = 0; k->thinking && i < MLXR_COUNT(thinking_keys); i++)
        json_object_set_new(m, thinking_keys[i], json_string(THINKING));
    if (!k->n_calls) return m;
    calls = json_array();
    for (int i = 0; i < k->n_calls; i++) {
        const char *text = i ? second_args : first_args, *name = i ? "list_files" : "get_weather";
        char id[64];
        if (f->name_is_id)
            snprintf(id, sizeof id, "functions.%s:%d", name, i);
        else
            snprintf(id, sizeof id, "callid%03d", i + 1);
        one = json_pack("{s:s, s:s, s:{s:s, s:o}}", "type", "function", "id", id, "function", "name", name,
                        "arguments", a->text_args ? json_string(text) : json_loads(text, 0, NULL));
        assert_non_null(one);
        json_array_append_new(calls, one);
    }
    json_object_set_new(m, "tool_calls", calls);
    return m;
}

/* NULL: the template refuses. */
static char *render(const mlxr_chat_template *ct, json_t *message, bool prompt)
{
    json_t *tools = json_loads(tools_text, 0, NULL), *context, *messages = json_array();
    char *text = NULL;
    size_t n;
    mlxr_error err;

    json_array_append_new(messages, json_pack("{s:s, s:s}", "role", "user", "content", "What is up?"));
    if (message) json_array_append(messages, message);
    context = json_pack("{s:o, s:o, s:b, s:s, s:s, s:b}", "messages", messages, "tools", tools,
                        "add_generation_prompt", prompt, "bos_token", "<s>", "eos_token", "</s>",
                        "enable_thinking", 1);
    assert_non_null(context);
    json_object_set_new(context, "thinking", json_true());
    if (mlxr_chat_template_render(&text, &n, ct, context, NULL, 1741503903, NULL, &err) != MLXR_OK)
        text = NULL;
    json_decref(context);
    return text;
}

static bool starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static void trim_end(char *s)
{
    size_t n = strlen(s);

    while (n && strchr(" \n\r\t", s[n - 1])) s[--n] = '\0';
}

/* Without the marker of the turn's end and what the template writes behind it. */
static void cut_turn_end(char *s)
{
    static const char *const first_ends[] = {
        "<|im_end|>", "<|eot_id|>", "<|eom_id|>",    "<|END_OF_TURN_TOKEN|>", "<|START_OF_TURN_TOKEN|>",
        "<|EOT|>",    "</s>",       "<|endoftext|>", "<|end_of_turn|>",       "<step>"};
    bool cut = true;

    /* One answer is one turn: a template may write the second call as the next. */
    for (size_t i = 0; i < MLXR_COUNT(first_ends); i++) {
        char *end = strstr(s, first_ends[i]);
        if (end) *end = '\0';
    }
    while (cut) {
        size_t n, n_text = strlen(s), n_trimmed;
        cut = false;
        for (n_trimmed = n_text; n_trimmed && strchr(" \n\r\t", s[n_trimmed - 1]);) n_trimmed--;
        for (size_t i = 0; i < MLXR_COUNT(turn_ends); i++) {
            n = strlen(turn_ends[i]);
            if (n_trimmed < n || memcmp(s + n_trimmed - n, turn_ends[i], n) != 0) continue;
            s[n_trimmed - n] = '\0';
            cut = true;
        }
    }
}

/* The model's part of a rendering. NULL: the template cannot say this. */
static char *output_of(const mlxr_chat_template *ct, const mlxr_answer_format *f, json_t *message,
                       bool *starts_thinking)
{
    static const char chatbot[] = "<|CHATBOT_TOKEN|>";
    char *prompt = render(ct, NULL, true), *all = render(ct, message, false), *out = NULL;

    if (prompt && all) {
        *starts_thinking = mlxr_answer_prompt_opens_thinking(f, prompt, strlen(prompt));
        if (!starts_with(all, prompt)) {
            /* A message of the past need not begin as the prompt for the next one does. */
            trim_end(prompt);
            if (*starts_thinking) {
                prompt[strlen(prompt) - strlen(f->think_open)] = '\0';
                *starts_thinking = false;
            }
            if (!starts_with(all, prompt)) trim_end(prompt);
            if (!starts_with(all, prompt) && f->think_close && strlen(prompt) > strlen(f->think_close)) {
                char *end = prompt + strlen(prompt) - strlen(f->think_close);
                if (strcmp(end, f->think_close) == 0) *end = '\0';
                *starts_thinking = mlxr_answer_prompt_opens_thinking(f, prompt, strlen(prompt));
            }
        }
        if (starts_with(all, prompt)) {
            out = mlxr_strdup(all + strlen(prompt));
            cut_turn_end(out);
        } else if (strstr(all, chatbot)) { /* Command R: instructions come behind every message */
            for (const char *s = all; (s = strstr(s, chatbot)) != NULL;) {
                s += strlen(chatbot);
                mlxr_free(out);
                out = mlxr_strdup(s);
            }
            cut_turn_end(out);
        }
    }
    mlxr_free(prompt);
    mlxr_free(all);
    return out;
}

typedef struct want {
    bool thinking, content;
    int n_calls;
} want;

static void fail_with(const char *what, const char *file, const kind *k, const mlxr_answer_format *f,
                      const char *out, const collected *c)
{
    fail_msg("%s, %s (%s): %s\n--- output\n%s\n--- parts\n%s\n", file, k->name, f->name, what, out,
             c->notes.data);
}

static size_t one_byte(void *ud, size_t at, size_t left)
{
    return 1;
}

static size_t some_bytes(void *ud, size_t at, size_t left)
{
    uint32_t *x = ud;

    *x = *x * 1664525u + 1013904223u;
    return 1 + (*x >> 24) % 11;
}

/* Compares the notes with what was to come. */
static void check(const collected *c, const want *w, const char *file, const kind *k,
                  const mlxr_answer_format *f, const char *out)
{
    char *notes = mlxr_strdup(c->notes.data), *rest = notes, *note;
    int n_calls = 0;
    bool thinking = false, content = false;

    if (c->wrong) fail_with(c->wrong, file, k, f, out, c);
    while ((note = strsep(&rest, "\x1e")) != NULL) {
        if (note[0] == 'H') {
            thinking = true;
            if (strcmp(note + 1, THINKING) != 0) fail_with("other thinking", file, k, f, out, c);
        } else if (note[0] == 'C') {
            content = true;
            /* White space that some templates put at the ends of a turn is content as far as anybody can tell. */
            if (!w->n_calls) trim_end(note);
            if (!w->thinking) note += strspn(note + 1, " \n");
            if (strcmp(note + 1, CONTENT) != 0) fail_with("other content", file, k, f, out, c);
        } else if (note[0] == '=') {
            char *name = strsep(&note, "\x1f") + 1, *id = strsep(&note, "\x1f"),
                 *json = strsep(&note, "\x1f");
            json_t *got = json_loads(json, JSON_REJECT_DUPLICATES, NULL),
                   *args = json_loads(n_calls ? second_args : first_args, 0, NULL);
            (void)id;
            if (strcmp(name, n_calls ? "list_files" : "get_weather") != 0)
                fail_with("another name", file, k, f, out, c);
            if (!json_equal(got, args)) fail_with("other arguments", file, k, f, out, c);
            json_decref(got);
            json_decref(args);
            n_calls++;
        } else if (note[0] == '!') {
            fail_with("a warning", file, k, f, out, c);
        }
    }
    if (thinking != w->thinking) fail_with("thinking is not as it should be", file, k, f, out, c);
    if (content != w->content) fail_with("content is not as it should be", file, k, f, out, c);
    if (n_calls != w->n_calls) fail_with("not the calls that were made", file, k, f, out, c);
    mlxr_free(notes);
}

static void same(const collected *a, const mlxr_answer_parser_options *o, const char *out, collect_cut cut,
                 void *ud)
{
    collected b;

    assert_int_equal(collect_run(&b, o, out, strlen(out), cut, ud, NULL), MLXR_OK);
    assert_null(b.wrong);
    assert_string_equal(b.notes.data, a->notes.data);
    collect_clear(&b);
}

/* What of the message is in the output: a template may leave thinking or content away. */
static bool words_of(want *w, const kind *k, const char *out)
{
    *w = (want){k->thinking && strstr(out, "Let me think."), k->content && strstr(out, "The answer is 42."),
                0};
    if (!k->content && strstr(out, "None")) return false; /* a content of null, printed */
    if (k->n_calls > 0 && strstr(out, "get_weather") && strstr(out, "line 2: 007")) w->n_calls++;
    if (k->n_calls > 1 && strstr(out, "list_files") && strstr(out, "/tmp")) w->n_calls++;
    return w->n_calls == k->n_calls && (w->thinking || w->content || w->n_calls);
}

/* Our own fixtures for the template engine write calls as no model does; and formats that docs/answers.md lists as not known. */
static bool not_known(const char *file, const kind *k)
{
    if (strcmp(file, "e2e-meetkai_functionary-medium-v2.2.jinja") == 0) return true;
    /* Its template writes content beside a call as analysis. */
    if (strcmp(file, "openai-gpt-oss-120b.jinja") == 0) return k->n_calls && k->content;
    return k->n_calls && (strcmp(file, "thinking.jinja") == 0 || strcmp(file, "schema.jinja") == 0);
}

static bool try_kind(const mlxr_chat_template *ct, const mlxr_answer_format *f, const char *file,
                     const kind *k, const attempt *a)
{
    mlxr_answer_parser_options o = mlxr_answer_parser_options_default();
    json_t *message = message_of(k, a, f);
    uint32_t seed = 7;
    collected c;
    char *out;
    want w;
    bool done = false;

    o.format = f;
    o.tools_json = tools_text;
    out = output_of(ct, f, message, &o.starts_thinking);
    if (out && words_of(&w, k, out) && !not_known(file, k)) {
        assert_int_equal(collect_run(&c, &o, out, strlen(out), NULL, NULL, NULL), MLXR_OK);
        check(&c, &w, file, k, f, out);
        same(&c, &o, out, one_byte, NULL);
        for (int i = 0; i < 5; i++) same(&c, &o, out, some_bytes, &seed);
        collect_clear(&c);
        done = true;
    }
    mlxr_free(out);
    json_decref(message);
    return done;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_template(const struct dirent *d)
{
    size_t n = strlen(d->d_name);
    return n > 6 && strcmp(d->d_name + n - 6, ".jinja") == 0;
}

/* How many templates were asked for a call. */
static int run_folder(const char *dir)
{
    static const attempt attempts[] = {{false, false}, {true, false}, {false, true}, {true, true}};
    struct dirent **files;
    int n = scandir(dir, &files, is_template, by_name), n_with_calls = 0;

    if (n < 0) return -1;
    for (int i = 0; i < n; i++) {
        mlxr_chat_template *ct;
        mlxr_error err;
        char *path = mlxr_asprintf("%s/%s", dir, files[i]->d_name);
        const mlxr_answer_format *f;
        bool calls = false;

        if (mlxr_chat_template_open(&ct, path, &err) != MLXR_OK) fail_msg("%s", err.message);
        f = mlxr_answer_format_detect(mlxr_chat_template_source(ct, 0));
        printf("  %s: %s:", files[i]->d_name, f->name);
        for (size_t k = 0; k < MLXR_COUNT(kinds); k++) {
            for (size_t a = 0; a < MLXR_COUNT(attempts); a++) {
                if (!try_kind(ct, f, files[i]->d_name, &kinds[k], &attempts[a])) continue;
                printf(" [%s]", kinds[k].name);
                calls = calls || kinds[k].n_calls;
                break;
            }
        }
        printf("\n");
        n_with_calls += calls;
        mlxr_chat_template_close(ct);
        mlxr_free(path);
        free(files[i]);
    }
    free(files);
    printf("  %d templates, %d with calls\n", n, n_with_calls);
    return n_with_calls;
}

static void test_real_templates(void **state)
{
    int n = run_folder(MLXR_SHARED_DIR "/cases/templates");

    (void)state;
    if (n < 0) {
        printf("SKIP: no templates of real models in " MLXR_SHARED_DIR "\n");
        skip();
    }
    assert_true(n >= 25);
}

static void test_own_templates(void **state)
{
    (void)state;
    assert_true(run_folder(MLXR_SOURCE_DIR "/tests/text/template/chats") >= 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_own_templates),
                                       cmocka_unit_test(test_real_templates)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
