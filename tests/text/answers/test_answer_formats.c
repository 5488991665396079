/* The table of formats: what each says it writes is what the parser reads, and templates are known by their text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/fs.h"
#include "text/answers/collect.h"

static void test_names(void **state)
{
    size_t n = mlxr_answer_format_count();

    (void)state;
    assert_true(n >= 30);
    for (size_t i = 0; i < n; i++) {
        const mlxr_answer_format *f = mlxr_answer_format_at(i);
        assert_ptr_equal(mlxr_answer_format_find(f->name), f);
        assert_true((f->think_open != NULL) == (f->think_close != NULL));
        assert_non_null(f->families);
    }
    assert_null(mlxr_answer_format_at(n));
    assert_null(mlxr_answer_format_find("no such format"));
    assert_null(mlxr_answer_format_find(NULL));
}

/* ---- layout ---- */

/* text with its placeholders filled in. */
static void fill(mlxr_buf *out, const char *text, const char *name, int i_call, bool string)
{
    for (const char *s = text; *s; s++) {
        if (s[0] != '$' || !s[1] || !strchr("IDSTN", s[1])) {
            mlxr_buf_char(out, *s);
            continue;
        }
        switch (*++s) {
        case 'I': mlxr_buf_printf(out, "%d", i_call); break;
        case 'D': mlxr_buf_str(out, "a1b2c3d4e5"); break;
        case 'S': mlxr_buf_str(out, string ? "true" : "false"); break;
        case 'T': mlxr_buf_str(out, string ? "string" : "number"); break;
        default: mlxr_buf_str(out, name);
        }
    }
}

static void write_argument(mlxr_buf *out, const mlxr_answer_format *f, const char *key, const char *value,
                           bool string, bool first)
{
    static const char *const quotes[] = {[MLXR_VALUES_JSON] = "\"",
                                         [MLXR_VALUES_BARE] = "",
                                         [MLXR_VALUES_PYTHON] = "'",
                                         [MLXR_VALUES_BRACED] = "<|\"|>"};
    const char *q = string ? quotes[f->values] : "";

    if (!first) mlxr_buf_str(out, f->layout.value_between);
    mlxr_buf_str(out, f->layout.key_open);
    mlxr_buf_str(out, key);
    fill(out, f->layout.value_open, "", 0, string);
    mlxr_buf_printf(out, "%s%s%s", q, value, q);
    mlxr_buf_str(out, f->layout.value_close);
}

static void write_call(mlxr_buf *out, const mlxr_answer_format *f, const char *name, int i_call, bool empty)
{
    bool one_by_one = f->style == MLXR_CALLS_XML || f->style == MLXR_CALLS_PYTHONIC ||
                      f->style == MLXR_CALLS_BRACED;

    fill(out, f->layout.head, name, i_call, false);
    mlxr_buf_str(out, name);
    fill(out, f->layout.middle, name, i_call, false);
    if (!one_by_one) {
        mlxr_buf_str(out, empty ? "{}" : "{\"city\": \"S\xc3\xa3o\", \"days\": 3}");
    } else if (!empty) {
        write_argument(out, f, "city", "S\xc3\xa3o", true, true);
        write_argument(out, f, "days", "3", false, false);
    }
    mlxr_buf_str(out, f->layout.tail);
}

typedef struct kind {
    bool thinking, content;
    int n_calls;
} kind;

static void write_answer(mlxr_buf *out, const mlxr_answer_format *f, const kind *k)
{
    const mlxr_call_layout *l = &f->layout;

    if (k->thinking) {
        mlxr_buf_printf(out, "%sLet me\nsee.%s", l->think_open, l->think_close);
        mlxr_buf_str(out, l->behind_thinking);
    }
    if (k->content) {
        mlxr_buf_printf(out, "%sHello you.%s", l->content_open, l->content_close);
        if (k->n_calls) mlxr_buf_str(out, l->before);
    }
    if (!k->n_calls) return;
    mlxr_buf_str(out, l->calls_open);
    for (int i = 0; i < k->n_calls; i++) {
        if (i) mlxr_buf_str(out, l->between);
        write_call(out, f, i ? "now" : "get_weather", i, i > 0);
    }
    mlxr_buf_str(out, l->calls_close);
}

static size_t one_byte(void *ud, size_t at, size_t left)
{
    return 1;
}

static void check_kind(const mlxr_answer_format *f, const kind *k)
{
    mlxr_answer_parser_options o = mlxr_answer_parser_options_default();
    mlxr_buf text = {0}, want = {0}, got = {0};
    collected c, cut;
    char *all, *rest, *note;

    write_answer(&text, f, k);
    if (k->thinking) mlxr_buf_str(&want, "HLet me\nsee.|");
    if (k->content) mlxr_buf_str(&want, "CHello you.|");
    if (k->n_calls > 0) mlxr_buf_str(&want, "=get_weather {\"city\":\"S\xc3\xa3o\",\"days\":3}|");
    if (k->n_calls > 1) mlxr_buf_str(&want, "=now {}|");
    o.format = f;
    assert_int_equal(collect_run(&c, &o, text.data, text.len, NULL, NULL, NULL), MLXR_OK);
    assert_int_equal(collect_run(&cut, &o, text.data, text.len, one_byte, NULL, NULL), MLXR_OK);
    assert_string_equal(c.notes.data, cut.notes.data);
    rest = all = mlxr_strdup(c.notes.data);
    while ((note = strsep(&rest, "\x1e")) != NULL) {
        if (note[0] == 'P') continue;
        if (note[0] == '=') {
            char *name = strsep(&note, "\x1f");
            strsep(&note, "\x1f");
            mlxr_buf_printf(&got, "%s %s|", name, strsep(&note, "\x1f"));
        } else {
            mlxr_buf_printf(&got, "%s|", note);
        }
    }
    if (strcmp(got.data, want.data) != 0)
        fail_msg("%s:\n%s\n-- gave\n%s\n-- not\n%s\n", f->name, text.data, got.data, want.data);
    mlxr_free(all);
    collect_clear(&c);
    collect_clear(&cut);
    mlxr_buf_clear(&text);
    mlxr_buf_clear(&want);
    mlxr_buf_clear(&got);
}

static void test_layouts(void **state)
{
    static const kind kinds[] = {{false, true, 0}, {true, true, 0},   {false, false, 1}, {false, true, 1},
                                 {true, false, 1}, {false, false, 2}, {true, true, 2}};

    (void)state;
    for (size_t i = 0; i < mlxr_answer_format_count(); i++) {
        const mlxr_answer_format *f = mlxr_answer_format_at(i);
        for (size_t k = 0; k < MLXR_COUNT(kinds); k++) {
            if (kinds[k].thinking && !f->think_open) continue;
            if (kinds[k].n_calls && f->style == MLXR_CALLS_NONE) continue;
            if (kinds[k].n_calls > 1 && !f->parallel) continue;
            if (kinds[k].n_calls && kinds[k].content && f->bare) continue; /* the call is the answer */
            check_kind(f, &kinds[k]);
        }
    }
}

/* ---- detection ---- */

typedef struct known {
    const char *text, *format;
} known;

static void test_detection(void **state)
{
    /* The telling parts of templates that are not among the shared ones. */
    static const known sources[] = {
        {NULL, "plain"},
        {"", "plain"},
        {"{{ messages }}", "plain"},
        {"{{ '<think>' }}", "think"},
        {"<tool_call>\\n{\\\"name\\\": <function-name>, \\\"arguments\\\": "
         "<args-json-object>}\\n</tool_call>",
         "hermes"},
        {"<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>", "qwen3-coder"},
        {"{{- '<|start_header_id|>' }}{{- '\"parameters\": ' }}", "llama3-json"},
        {"{{ \"<|python_tag|>\" + x }}", "llama3-json"},
        {"<|header_start|>assistant<|header_end|>", "llama-pythonic"},
        {"<|header_start|> {{- '\"parameters\": ' }}", "llama4-json"},
        {"[func_name1(params_name1=params_value1, params_name2=params_value2...), func_name2(params)]",
         "llama-pythonic"},
        {"{{ \"[TOOL_CALLS][\" }}", "mistral"},
        {"{{- '[TOOL_CALLS]' + name + '[ARGS]' + arguments }}", "mistral-v11"},
        {"{{- '[TOOL_CALLS]' + name + '[CALL_ID]' + id + '[ARGS]' + arguments }}", "mistral-v11"},
        {"<|start|>assistant<|channel|>final<|message|>", "harmony"},
        {"{{'<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + tool['type'] + '<｜tool▁sep｜>' + name + '\\n' + "
         "'```json'",
         "deepseek-v3"},
        {"{{'<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>'+ name + '<｜tool▁sep｜>' + arguments}}",
         "deepseek-v3.1"},
        {"{%- set dsml_token = '｜DSML｜' -%}", "deepseek-v3.2"},
        {"<tool_call>{function-name}\n<arg_key>{arg-key-1}</arg_key>\n<arg_value>{arg-value-1}</arg_value>",
         "glm"},
        {"<tool_call>{function-name}<arg_key>{arg-key-1}</arg_key><arg_value>{arg-value-1}</arg_value>",
         "glm4.7"},
        {"<|start_of_role|>assistant<|end_of_role|><|tool_call|>", "granite"},
        {"<|start_of_role|> Here is my thought process: Here is my response:", "granite3.2"},
        {"<|start_of_role|><tool_call>\\n{\"name\": \"", "hermes"},
        {"<|START_ACTION|>[", "cohere"},
        {"Action:\\n```json\\n[\\n { \"tool_name\"", "command-r"},
        {"<start_of_turn>model", "gemma"},
        {"<|tool_call>call: <tool_call|>", "gemma4"},
        {"<|tool|>{{ tools }}<|/tool|>", "phi4"},
        {"<|tool_call|>{\"name\": \"foo\"}<|/tool_call|>", "phi4"},
        {"functools[{", "phi4"},
        {"<|tool_call_start|>[", "lfm2"},
        {"List of tools: <|tool_list_start|>[", "lfm2"},
        {"<minimax:tool_call>", "minimax"},
        {"<|tool_calls_section_begin|>", "kimi"},
        {"<seed:tool_call>", "seed-oss"},
        {"<TOOLCALL>[", "nemotron"},
        {"<tool_calls>[ [BEGIN FINAL RESPONSE]", "apriel"},
        {"<tool_calls>[", "tool-calls-json"},
        {"<function_calls>", "olmo3"},
        {"<|action_start|><|plugin|>", "internlm2"}};

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(sources); i++) {
        const char *name = mlxr_answer_format_detect(sources[i].text)->name;
        if (strcmp(name, sources[i].format) != 0)
            fail_msg("%s: %s, not %s", sources[i].text, name, sources[i].format);
    }
}

static void test_detection_of_real_templates(void **state)
{
    static const known files[] = {{"Bielik-11B-v3.0-Instruct", "hermes"},
                                  {"Cohere2MoE", "cohere"},
                                  {"CohereForAI-c4ai-command-r-plus-tool_use", "command-r"},
                                  {"GLM-4.7-Flash", "glm4.7"},
                                  {"GigaChat3.1-10B-A1.8B", "gigachat"},
                                  {"HuggingFaceTB-SmolLM3-3B", "think"},
                                  {"Kimi-K3", "kimi-k3"},
                                  {"MiMo-VL", "hermes"},
                                  {"Reka-Edge", "hermes"},
                                  {"aya_expanse-default", "plain"},
                                  {"command_r_plus-default", "plain"},
                                  {"deepseek-ai-DeepSeek-V3.2", "deepseek-v3.2"},
                                  {"deepseek_v3", "deepseek-v3"},
                                  {"e2e-CISCai_Mistral-7B-Instruct-v0.3-SOTA-GGUF", "mistral"},
                                  {"e2e-CohereForAI_c4ai-command-r-v01_JSON_Schema_", "command-r"},
                                  {"e2e-CohereLabs_c4ai-command-a-03-2025", "cohere"},
                                  {"e2e-CohereLabs_command-a-reasoning-08-2025", "cohere"},
                                  {"e2e-Deci_DeciLM-7B-instruct", "plain"},
                                  {"e2e-HuggingFaceH4_zephyr-7b-gemma-v0.1", "plain"},
                                  {"e2e-HuggingFaceTB_SmolLM3-3B", "hermes"},
                                  {"e2e-HuggingFaceTB_SmolVLM-Instruct", "plain"},
                                  {"e2e-LiquidAI_LFM2.5-VL-450M", "lfm2"},
                                  {"e2e-MadeAgents_Hammer2.1", "json-list"},
                                  {"e2e-NousResearch_Hermes-2-Pro-Llama-3-8B_JSON_Schema_", "hermes"},
                                  {"e2e-Qwen_Qwen1.5-72B-Chat", "plain"},
                                  {"e2e-Qwen_Qwen2.5-VL-7B-Instruct", "plain"},
                                  {"e2e-Qwen_Qwen3.5-4B", "qwen3-coder"},
                                  {"e2e-TheBloke_Mistral-7B-Instruct-v0.1-GPTQ", "plain"},
                                  {"e2e-_base", "plain"},
                                  {"e2e-ai21labs_AI21-Jamba-Large-1.6", "tool-calls-json"},
                                  {"e2e-codellama_CodeLlama-70b-Instruct-hf", "plain"},
                                  {"e2e-deepseek-ai_DeepSeek-R1", "deepseek-v3"},
                                  {"e2e-deepseek-ai_deepseek-llm-7b-chat", "plain"},
                                  {"e2e-fireworks-ai_firefunction-v1", "firefunction"},
                                  {"e2e-llama", "plain"},
                                  {"e2e-meta-llama_Llama-3.2-11B-Vision-Instruct", "llama3-json"},
                                  {"e2e-meta-llama_Llama-Guard-3-11B-Vision", "plain"},
                                  {"e2e-mistralai_Mistral-7B-Instruct-v0.3_JSON_Schema_", "mistral"},
                                  {"e2e-mistralai_Mixtral-8x7B-Instruct-v0.1", "plain"},
                                  {"e2e-moonshotai_Kimi-K2-Thinking", "kimi"},
                                  {"e2e-openbmb_MiniCPM3-4B", "minicpm3"},
                                  {"e2e-zai-org_GLM-5.1", "glm4.7"},
                                  {"gemma3", "gemma"},
                                  {"google-gemma-4-31B-it", "gemma4"},
                                  {"google-gemma-4-31B-it-interleaved", "gemma4"},
                                  {"ibm-granite-granite-4.0", "hermes"},
                                  {"ibm-granite-granite-4.1", "hermes"},
                                  {"inclusionai-ling-3.0-flash", "glm"},
                                  {"llama3", "plain"},
                                  {"llama3_2", "llama3-json"},
                                  {"meetkai-functionary-medium-v3.1", "functionary-v3.1"},
                                  {"meta-llama-Llama-3.1-8B-Instruct", "llama3-json"},
                                  {"microsoft-Phi-3.5-mini-instruct", "plain"},
                                  {"mistral_nemo", "mistral"},
                                  {"muse-glimmer", "atem"},
                                  {"openai-gpt-oss-120b", "harmony"},
                                  {"poolside-Laguna-S-2.1", "glm4.7"},
                                  {"qwen3", "hermes"},
                                  {"tencent-Hy3", "hunyuan3"},
                                  {"upstage-Solar-Open-100B", "solar"}};
    size_t n_found = 0;

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(files); i++) {
        char *path = mlxr_asprintf(MLXR_SHARED_DIR "/cases/templates/%s.jinja", files[i].text);
        mlxr_buf text = {0};
        if (mlxr_file_read(&text, path, 1 << 20, NULL) == MLXR_OK) {
            const char *name = mlxr_answer_format_detect(text.data)->name;
            if (strcmp(name, files[i].format) != 0)
                fail_msg("%s: %s, not %s", files[i].text, name, files[i].format);
            n_found++;
        }
        mlxr_buf_clear(&text);
        mlxr_free(path);
    }
    if (!n_found) {
        printf("SKIP: no templates of real models in " MLXR_SHARED_DIR "\n");
        skip();
    }
}

static void test_prompts_that_open_thinking(void **state)
{
    static const struct {
        const char *format, *prompt;
        bool opens;
    } prompts[] = {{"hermes", "<|im_start|>assistant\n<think>\n", true},
                   {"hermes", "<|im_start|>assistant\n", false},
                   {"hermes", "<|im_start|>assistant\n<think>\n\n</think>\n\n", false},
                   {"hermes", "<|im_start|>user\nWhat is <think>?<|im_end|>\n<|im_start|>assistant\n", false},
                   {"glm4.7", "<|assistant|><think>", true},
                   {"glm4.7", "<|assistant|></think>", false},
                   {"nemotron", "<SPECIAL_11>Assistant\n<think>\n\n", true},
                   {"apriel", "<|begin_assistant|>\nHere are my reasoning steps:\n", true},
                   {"kimi-k3", "<|open|>message role=\"assistant\"<|sep|><|open|>think<|sep|>", true},
                   {"cohere", "<|CHATBOT_TOKEN|><|START_THINKING|><|END_THINKING|>", false},
                   {"harmony", "<|start|>assistant", false},
                   {"plain", "<think>", false},
                   {"think", "", false}};

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(prompts); i++)
        if (mlxr_answer_prompt_opens_thinking(mlxr_answer_format_find(prompts[i].format), prompts[i].prompt,
                                              strlen(prompts[i].prompt)) != prompts[i].opens)
            fail_msg("%s: %s", prompts[i].format, prompts[i].prompt);
    assert_false(mlxr_answer_prompt_opens_thinking(NULL, "<think>", 7));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names), cmocka_unit_test(test_layouts),
                                       cmocka_unit_test(test_detection),
                                       cmocka_unit_test(test_detection_of_real_templates),
                                       cmocka_unit_test(test_prompts_that_open_thinking)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
