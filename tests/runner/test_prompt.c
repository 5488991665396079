/* From requests to prompts: the folder's template, the built-in Llama prompts, tools and reasoning in messages. */
#include "test.h"

#include <unistd.h>

#include "base/fs.h"
#include "runner/prompt.h"

#define TINY MLXR_TEST_DIR "/fixtures/tiny_chat"

static mlxr_error err;
static char folder[] = "/tmp/mlxr_prompt_XXXXXX";

static void put(const char *name, const char *text)
{
    char *path = mlxr_path_join(folder, name);
    assert_ok(mlxr_file_write(path, text, strlen(text), &err), &err);
    free(path);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    const char *const names[] = {"tokenizer.json", "tokenizer_config.json"};
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(names); i++) {
        char *path = mlxr_path_join(folder, names[i]);
        (void)unlink(path);
        free(path);
    }
    return rmdir(folder);
}

/* Encodes the request with the folder's template and decodes it again, special tokens kept: the prompt's text. */
static void expect(const mlxr_request *q, bool builtin, const char *want)
{
    mlxr_tokenizer *tok;
    mlxr_prompt_builder *p;
    int32_t *ids;
    size_t n, n_text;
    char *text;

    assert_ok(mlxr_tokenizer_open(&tok, folder, &err), &err);
    assert_ok(mlxr_prompt_builder_open(&p, folder, tok, &err), &err);
    assert_int_equal(mlxr_prompt_builder_is_builtin(p), builtin);
    assert_ok(mlxr_prompt_encode(&ids, &n, NULL, p, q, 0, &err), &err);
    assert_ok(mlxr_tokenizer_decode(&text, &n_text, tok, ids, n, false, &err), &err);
    assert_string_equal(text, want);
    mlxr_free(ids);
    mlxr_free(text);
    mlxr_prompt_builder_close(p);
    mlxr_tokenizer_close(tok);
}

/* tiny_chat's tokenizer with one of its special tokens under another name. */
static void put_tokenizer(const char *special)
{
    mlxr_buf b = {0};
    char *at;

    assert_ok(mlxr_file_read(&b, TINY "/tokenizer.json", 1 << 20, &err), &err);
    at = strstr(b.data, "<|system|>");
    assert_non_null(at);
    *at = '\0';
    {
        char *text = mlxr_asprintf("%s%s%s", b.data, special, at + strlen("<|system|>"));
        put("tokenizer.json", text);
        free(text);
    }
    mlxr_buf_clear(&b);
}

static void a_folder_without_a_template_gets_the_llama_prompt(void **state)
{
    mlxr_request q = mlxr_request_default();
    (void)state;
    put("tokenizer_config.json", "{\"bos_token\": \"<s>\", \"eos_token\": \"<|end|>\"}");
    q.prompt = " Hi ";
    q.system = "Be kind.";
    put_tokenizer("<|system|>"); /* no Llama 3 tokens: Llama 2's form */
    expect(&q, true, "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST]");
    q.system = NULL;
    expect(&q, true, "<s>[INST] Hi [/INST]");
    q.messages_json = "[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"A\"},"
                      "{\"role\":\"assistant\",\"content\":\"B\"},{\"role\":\"user\",\"content\":\"C\"}]";
    expect(&q, true, "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nA [/INST] B <|end|><s>[INST] C [/INST]");

    put("tokenizer_config.json", "{}"); /* no BOS, no EOS are named: none are written */
    expect(&q, true, "[INST] <<SYS>>\nS\n<</SYS>>\n\nA [/INST] B [INST] C [/INST]");
    put("tokenizer_config.json", "{\"bos_token\": \"<s>\", \"eos_token\": \"<|end|>\"}");

    put_tokenizer("<|start_header_id|>"); /* Llama 3's form */
    expect(&q, true,
           "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
           "<|start_header_id|>user<|end_header_id|>\n\nA<|eot_id|>"
           "<|start_header_id|>assistant<|end_header_id|>\n\nB<|eot_id|>"
           "<|start_header_id|>user<|end_header_id|>\n\nC<|eot_id|>"
           "<|start_header_id|>assistant<|end_header_id|>\n\n");
    put("tokenizer_config.json", "{}");
    q.messages_json = NULL;
    expect(&q, true,
           "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
           "<|start_header_id|>assistant<|end_header_id|>\n\n");
}

static void the_folders_template_sees_tools_and_reasoning(void **state)
{
    mlxr_request q = mlxr_request_default();
    (void)state;
    put_tokenizer("<|system|>");
    put("tokenizer_config.json",
        "{\"chat_template\": \"{% for t in tools or [] %}({{ t.name }}){% endfor %}{% for m in messages %}"
        "{{ m.role }}:{{ m.reasoning_content }}/{{ m.thinking }};{% endfor %}{{ add_generation_prompt }}\"}");
    q.messages_json =
        "[{\"role\":\"u\"},{\"role\":\"a\",\"thinking\":\"t\"},{\"role\":\"b\",\"reasoning\":\"r\"},"
        "{\"role\":\"c\",\"reasoning_content\":\"x\",\"thinking\":\"y\"},"
        "{\"role\":\"d\",\"reasoning_content\":null,\"reasoning\":\"z\"}]";
    q.tools_json = "[{\"name\": \"f\"}, {\"name\": \"g\"}]";
    expect(&q, false, "(f)(g)u:/;a:t/t;b:r/r;c:x/y;d:z/z;True");
}

/* A prompt ends where a last text of the assistant's does, whatever the template writes behind it. */
static void the_assistants_text_is_gone_on_with(void **state)
{
    mlxr_request q = mlxr_request_default();
    mlxr_prompt_builder *p;
    mlxr_tokenizer *tok;
    char *text;
    size_t n;
    json_t *variables = json_pack("{s:s}", "word", "w");

    (void)state;
    put_tokenizer("<|system|>");
    put("tokenizer_config.json",
        "{\"bos_token\": \"<s>\", \"chat_template\": \"{% for m in messages %}{{ m.role }}:{{ m.content | "
        "trim }}<end>{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}\"}");
    q.messages_json = "[{\"role\":\"user\",\"content\":\"A\"},{\"role\":\"assistant\",\"content\":\"So, \"}]";
    expect(&q, false, "user:A<end>assistant:So, ");
    q.messages_json = "[{\"role\":\"user\",\"content\":\"A\"},{\"role\":\"assistant\",\"content\":\"\"}]";
    expect(&q, false, "user:A<end>assistant:");
    q.messages_json = "[{\"role\":\"assistant\",\"content\":\"B\"},{\"role\":\"user\",\"content\":\"A\"}]";
    expect(&q, false, "assistant:B<end>user:A<end>assistant:");
    /* one whose text does not come out */
    q.messages_json = "[{\"role\":\"user\",\"content\":\"A\"},{\"role\":\"assistant\",\"content\":\"B\"}]";
    put("tokenizer_config.json", "{\"bos_token\": \"<s>\", \"chat_template\": \"{{ messages | length }}\"}");
    assert_ok(mlxr_tokenizer_open(&tok, folder, &err), &err);
    assert_ok(mlxr_prompt_builder_open(&p, folder, tok, &err), &err);
    assert_fails(mlxr_prompt_render(&text, &n, p, &q, 0, &err), MLXR_E_TEMPLATE, "gone on with", &err);
    assert_null(text);
    /* another template than the folder's */
    q.messages_json = NULL;
    q.prompt = "P";
    assert_ok(mlxr_prompt_render_with(
                  &text, &n, p, &q,
                  &(mlxr_prompt_extra){.source = "{{ bos_token }}{{ word }}{{ messages[0].content }}",
                                       .variables = variables},
                  0, &err),
              &err);
    assert_string_equal(text, "<s>wP");
    mlxr_free(text);
    assert_fails(mlxr_prompt_render_with(&text, &n, p, &q, &(mlxr_prompt_extra){.source = "{% if"}, 0, &err),
                 MLXR_E_TEMPLATE, "template", &err);
    mlxr_prompt_builder_close(p);
    mlxr_tokenizer_close(tok);
    json_decref(variables);
}

static void a_template_without_tools_gets_them_in_words(void **state)
{
    mlxr_request q = mlxr_request_default();
    (void)state;
    put_tokenizer("<|system|>");
    put("tokenizer_config.json",
        "{\"chat_template\": \"{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}\"}");
    q.tools_json = "[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]";
    q.messages_json = "[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"A\"},"
                      "{\"role\":\"assistant\",\"content\":\"c\",\"tool_calls\":[{\"function\":{\"name\":"
                      "\"f\",\"arguments\":"
                      "\"{\\\"x\\\":1}\"}}]},"
                      "{\"role\":\"tool\",\"content\":\"2\"},{\"role\":\"tool\",\"content\":[{\"type\":"
                      "\"text\",\"text\":\"3\"}]}]";
    expect(&q, false,
           "system:S\n\nYou can call functions. Each line between the tags describes one as JSON:\n<tools>\n"
           "{\"name\": \"f\"}\n</tools>\nTo call a function, answer with its name and arguments as JSON "
           "between these "
           "tags, once for each call:\n<tool_call>\n{\"name\": \"...\", \"arguments\": "
           "{...}}\n</tool_call>\nWhat it "
           "returns comes back between <tool_response> tags.;user:A;"
           "assistant:c\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\":1}}\n</tool_call>;"
           "user:<tool_response>\n2\n</tool_response>\n<tool_response>\n3\n</tool_response>;");
    /* No system message there: before the first question. Without tools the calls are still written out. */
    put("tokenizer_config.json", "{\"chat_template\": \"{% for m in messages %}{% if m.role == 'system' %}{{ "
                                 "raise_exception('no') }}{% endif %}"
                                 "{{ m.role }}:{{ m.content | length }};{% endfor %}\"}");
    q.messages_json = "[{\"role\":\"user\",\"content\":\"A\"}]";
    expect(&q, false, "user:328;");
    q.tools_json = NULL;
    q.messages_json = "[{\"role\":\"tool\",\"content\":\"2\"}]";
    expect(&q, false, "user:34;");
}

static void arguments_of_calls_are_what_the_template_wants(void **state)
{
    static const char *const messages[] = {
        "[{\"role\":\"a\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"x\":[1]}}}]}]",
        "[{\"role\":\"a\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\": "
        "[1]}\"}}]}]",
    };
    mlxr_request q = mlxr_request_default();
    (void)state;
    put_tokenizer("<|system|>");
    q.tools_json = "[{\"name\": \"f\"}]";
    for (size_t i = 0; i < 2; i++) { /* an object, or text, whichever it was */
        q.messages_json = messages[i];
        put("tokenizer_config.json", "{\"chat_template\": \"{{ tools | length }}{% for m in messages %}{{ "
                                     "m.tool_calls[0].function.arguments | tojson }}{% endfor %}\"}");
        expect(&q, false, "1{\"x\": [1]}");
        put("tokenizer_config.json",
            "{\"chat_template\": \"{{ tools | length }}{% for m in messages %}{{ '>' + "
            "m.tool_calls[0].function.arguments }}{% endfor %}\"}");
        expect(&q, false, "1>{\"x\": [1]}");
    }
}

static void thinking_is_switched_by_the_names_that_templates_know(void **state)
{
    static const struct {
        mlxr_think think;
        const char *want;
    } cases[] = {{MLXR_THINK_DEFAULT, "--/"},
                 {MLXR_THINK_OFF, "FalseFalse/"},
                 {MLXR_THINK_ON, "TrueTrue/"},
                 {MLXR_THINK_LOW, "TrueTrue/low"},
                 {MLXR_THINK_MEDIUM, "TrueTrue/medium"},
                 {MLXR_THINK_HIGH, "TrueTrue/high"}};
    mlxr_request q = mlxr_request_default();
    (void)state;
    put_tokenizer("<|system|>");
    q.prompt = "A";
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        put("tokenizer_config.json",
            "{\"chat_template\": \"{{ enable_thinking if enable_thinking is defined else '-' }}"
            "{{ thinking if thinking is defined else '-' }}/{{ reasoning_effort }}\"}");
        q.think = cases[i].think;
        expect(&q, false, cases[i].want);
    }
    put("tokenizer_config.json", "{\"chat_template\": \"{{ reasoning_effort or 'none' }}\"}");
    q.think = MLXR_THINK_OFF;
    expect(&q, false, "none");
}

static void what_is_no_message_is_refused(void **state)
{
    static const struct {
        const char *messages, *tools, *text;
        mlxr_status status;
    } cases[] = {
        {"{}", NULL, "messages are not", MLXR_E_INVALID_ARGUMENT},
        {"[", NULL, "messages: not valid JSON", MLXR_E_FORMAT},
        {"[]", "{}", "tools are not", MLXR_E_INVALID_ARGUMENT},
        {"[]", "nope", "tools: not valid JSON", MLXR_E_FORMAT},
        {"[{\"role\": \"stop\"}]", NULL, "no such role", MLXR_E_TEMPLATE},
    };
    mlxr_tokenizer *tok;
    mlxr_prompt_builder *p;
    (void)state;
    put_tokenizer("<|system|>");
    put("tokenizer_config.json",
        "{\"chat_template\": \"{% for m in messages %}{{ raise_exception('no such role') }}{% endfor %}\"}");
    assert_ok(mlxr_tokenizer_open(&tok, folder, &err), &err);
    assert_ok(mlxr_prompt_builder_open(&p, folder, tok, &err), &err);
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        mlxr_request q = mlxr_request_default();
        int32_t *ids;
        size_t n;
        q.messages_json = cases[i].messages;
        q.tools_json = cases[i].tools;
        assert_fails(mlxr_prompt_encode(&ids, &n, NULL, p, &q, 0, &err), cases[i].status, cases[i].text,
                     &err);
        assert_null(ids);
    }
    mlxr_prompt_builder_close(p);
    mlxr_tokenizer_close(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_without_a_template_gets_the_llama_prompt),
        cmocka_unit_test(the_folders_template_sees_tools_and_reasoning),
        cmocka_unit_test(the_assistants_text_is_gone_on_with),
        cmocka_unit_test(a_template_without_tools_gets_them_in_words),
        cmocka_unit_test(arguments_of_calls_are_what_the_template_wants),
        cmocka_unit_test(thinking_is_switched_by_the_names_that_templates_know),
        cmocka_unit_test(what_is_no_message_is_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
