/* form: see form.h. */
#include "form.h"

#include <stdlib.h>

#include "base/fs.h"

void form_option_table(struct cli_option table[FORM_N_OPTIONS], struct form_options *f)
{
    const struct cli_option options[] = {
        {"format", CLI_STRING, "json|SCHEMA.json", &f->format, 0, 0,
         "the answer is a JSON object, or what a JSON Schema says (a file, or the schema itself)"},
        {"grammar", CLI_STRING, "FILE", &f->grammar, 0, 0, "the answer follows a GBNF grammar"},
        {"regex", CLI_STRING, "PATTERN", &f->regex, 0, 0, "a regular expression matches the answer"},
        {"tools", CLI_STRING, "TOOLS.json", &f->tools, 0, 0, "tools that the model may call, a JSON list"},
        {"tool-choice", CLI_STRING, "auto|none|required|NAME", &f->tool_choice, 0, 0,
         "whether it calls tools, or which (default: auto)"},
        {"one-call", CLI_FLAG, NULL, &f->one_call, 0, 0, "at most one call of a tool"},
        {"think", CLI_CHOICE, "off|on|low|medium|high", &f->think, 0, 0,
         "thinking before the answer (default: as the chat template has it)"},
        {"answer-format", CLI_STRING, "NAME", &f->answer_format, 0, 0,
         "how the model writes thinking and calls (default: what its chat template shows)"},
        {"messages", CLI_STRING, "FILE.json", &f->messages, 0, 0,
         "the conversation so far, a JSON list of messages, in place of the prompt"},
    };
    _Static_assert(MLXR_COUNT(options) == FORM_N_OPTIONS, "the table's size");

    memcpy(table, options, sizeof options);
}

bool form_think(mlxr_think *out, const char *word)
{
    static const struct {
        const char *word;
        mlxr_think think;
    } words[] = {{"off", MLXR_THINK_OFF},       {"on", MLXR_THINK_ON},     {"low", MLXR_THINK_LOW},
                 {"medium", MLXR_THINK_MEDIUM}, {"high", MLXR_THINK_HIGH}, {"default", MLXR_THINK_DEFAULT}};

    for (size_t i = 0; i < MLXR_COUNT(words); i++)
        if (strcmp(word, words[i].word) == 0) {
            *out = words[i].think;
            return true;
        }
    return false;
}

static mlxr_status read_text(char **out, const char *path, mlxr_error *err)
{
    enum { MOST = 64 << 20 };
    mlxr_buf text = {0};
    size_t n = 0;
    mlxr_status st = mlxr_file_read(&text, path, MOST, err);

    if (st == MLXR_OK && !(*out = mlxr_buf_take(&text, &n))) st = mlxr_fail_nomem(err, path);
    if (st == MLXR_OK && strlen(*out) != n)
        st = mlxr_fail(err, MLXR_E_FORMAT, "%s: it holds a NUL character", path);
    mlxr_buf_clear(&text);
    return st;
}

static mlxr_status apply_tools(struct form_options *f, mlxr_request *r, mlxr_error *err)
{
    static const char *const choices[] = {"auto", "none", "required"};
    mlxr_status st;

    if (f->tools) {
        if ((st = read_text(&f->tools_text, f->tools, err)) != MLXR_OK) return st;
        r->tools_json = f->tools_text;
    }
    r->parallel_tool_calls = !f->one_call;
    if (!f->tool_choice) return MLXR_OK;
    r->tool_choice = MLXR_TOOL_CHOICE_NAMED;
    r->tool_name = f->tool_choice;
    for (size_t i = 0; i < MLXR_COUNT(choices); i++)
        if (strcmp(f->tool_choice, choices[i]) == 0) r->tool_choice = (mlxr_tool_choice)i;
    return MLXR_OK;
}

mlxr_status form_apply(struct form_options *f, mlxr_request *r, mlxr_error *err)
{
    mlxr_status st;

    form_clear(f);
    if (f->format && (strcmp(f->format, "json") == 0 || f->format[0] == '{')) {
        r->format = f->format;
    } else if (f->format) {
        if ((st = read_text(&f->format_text, f->format, err)) != MLXR_OK) return st;
        r->format = f->format_text;
    }
    if (f->grammar) {
        if ((st = read_text(&f->grammar_text, f->grammar, err)) != MLXR_OK) return st;
        r->grammar = f->grammar_text;
    }
    r->regex = f->regex;
    if (f->messages) {
        if ((st = read_text(&f->messages_text, f->messages, err)) != MLXR_OK) return st;
        r->messages_json = f->messages_text;
    }
    if ((st = apply_tools(f, r, err)) != MLXR_OK) return st;
    if (f->think) form_think(&r->think, f->think);
    r->parts = !r->raw;
    r->answer_format = f->answer_format;
    return MLXR_OK;
}

void form_clear(struct form_options *f)
{
    char **texts[] = {&f->format_text, &f->grammar_text, &f->tools_text, &f->messages_text};

    for (size_t i = 0; i < MLXR_COUNT(texts); i++) {
        free(*texts[i]);
        *texts[i] = NULL;
    }
}
