/* tools: a grammar for an answer that may, must or must not call tools, in the model's own format of calls.
 *
 *   [thinking] [content] [calls], with the arguments of each call held to its tool's JSON Schema from the call's first byte on.
 *
 * Also what stands before an answer that has a format: the thinking block, which is free text. What is written is the form in which
 * the model's own template renders it (layout in answers.h), and the parser of answers.h reads every call back as it was meant.
 * What each choice enforces in each format is in docs/grammars-tools.md. */
#ifndef MLXR_GRAMMAR_TOOLS_H
#define MLXR_GRAMMAR_TOOLS_H

#include "engine/grammar/schema.h"
#include "text/answers/answers.h"

typedef enum mlxr_tool_choice_kind {
    MLXR_TOOLS_AUTO,     /* free text, and any calls: held once the marker of one is complete */
    MLXR_TOOLS_NONE,     /* free text in which no call begins */
    MLXR_TOOLS_REQUIRED, /* one call at least, and nothing but calls */
    MLXR_TOOLS_NAMED     /* the same, of one tool */
} mlxr_tool_choice_kind;

/* Fill it with _default first. Borrowed during the call. */
typedef struct mlxr_answer_grammar {
    const mlxr_answer_format *format;
    bool starts_thinking; /* the prompt has opened the thinking block */
    bool may_think;       /* the answer may begin with one (the format has markers for it) */
    /* Tools: NULL when there are none. A JSON list as in the request: {"type": "function", "function": {"name", "parameters"}}
     * or the inner object by itself. Arguments are held to the schema whatever "strict" says; no "parameters": any object. */
    const char *tools_json;
    mlxr_tool_choice_kind tool_choice;
    const char *tool_name; /* NAMED */
    bool parallel;         /* more than one call, where the format has several */
    /* What the content must be, when the answer is no call; all NULL: free text. One at most. REQUIRED and NAMED leave no content, so
     * there it does not count. */
    const char *schema_json; /* a JSON Schema; or the word json: any object */
    const char *gbnf;
    const char *regex;
} mlxr_answer_grammar;
mlxr_answer_grammar mlxr_answer_grammar_default(void);

/* *out NULL with MLXR_OK: nothing is to be enforced. MLXR_E_UNSUPPORTED: the format has no calls (REQUIRED, NAMED), or a tool's
 * schema cannot be enforced, or not in this format: the message names tools[i] and the path. MLXR_E_INVALID_ARGUMENT: a call must come,
 * and there is no such tool, or none of its arguments is possible. MLXR_E_FORMAT: tools or schema are wrong. */
mlxr_status mlxr_grammar_for_answer(mlxr_grammar **out, const mlxr_answer_grammar *params,
                                    const mlxr_grammar_limits *limits, mlxr_error *err);

#endif
