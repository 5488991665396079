/* form: the options that say what an answer must be and how it is told apart: --format, --tools, --think ... */
#ifndef MLXR_FORM_H
#define MLXR_FORM_H

#include "cli.h"

struct form_options {
    const char *format, *grammar, *regex, *tools, *tool_choice, *think, *answer_format, *messages;
    bool one_call;
    /* What apply has read; form_clear frees it. */
    char *format_text, *grammar_text, *tools_text, *messages_text;
};

enum { FORM_N_OPTIONS = 9 };
void form_option_table(struct cli_option table[FORM_N_OPTIONS], struct form_options *f);
/* Over what the request has, whose strings are then f's. Without raw the answer is told apart. */
mlxr_status form_apply(struct form_options *f, mlxr_request *r, mlxr_error *err);
void form_clear(struct form_options *f);

/* "off", "on", "low", "medium", "high". false: none of them. */
bool form_think(mlxr_think *out, const char *word);

#endif
