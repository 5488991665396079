/* call_writer: the calls of an answer as expressions of a grammar builder. Private to the files of tools.h.
 *
 * A format's layout (answers.h) says byte for byte how its models write a call. That form is what the grammar has:
 *
 *   calls_open  CALL between CALL ...  calls_close
 *   CALL: head NAME middle ARGUMENTS tail
 *
 * In the JSON styles white space of the layout may be other white space, as anywhere in JSON. Failures are the builder's
 * (mlxr_gb_fail); what is made behind one is MLXR_EXPR_NONE. */
#ifndef MLXR_GRAMMAR_CALL_WRITER_H
#define MLXR_GRAMMAR_CALL_WRITER_H

#include "engine/grammar/grammar.h"
#include "engine/grammar/schema.h"
#include "engine/grammar/tool_list.h"
#include "text/answers/answers.h"

enum { MLXR_CALL_MAX_TEXTS = 32 };

/* Texts to look for or to keep out, in every form that they have among special tokens. */
typedef struct mlxr_call_texts {
    const char *text[MLXR_CALL_MAX_TEXTS];
    size_t n;
} mlxr_call_texts;

typedef struct mlxr_call_writer {
    mlxr_grammar_builder *b;
    const mlxr_answer_format *f;
    const mlxr_tool *tools; /* those that may be called; borrowed */
    size_t n_tools;
    bool parallel;
    mlxr_rule *arguments; /* [n_tools] */
    mlxr_dfa *space; /* in place of a layout's white space: nothing, or a line end or none and a few blanks */
    mlxr_rule call;  /* head to tail */
    mlxr_rule calls; /* calls_open to calls_close */
    mlxr_rule marked; /* the same, beginning with one of the openings */
    bool has_marked;
    mlxr_arena arena;
} mlxr_call_writer;

/* Makes the rules; none with n_tools 0. */
void mlxr_call_writer_init(mlxr_call_writer *w, mlxr_grammar_builder *b, const mlxr_answer_format *f,
                           const mlxr_tool *tools, size_t n_tools, bool parallel);
void mlxr_call_writer_clear(mlxr_call_writer *w); /* {0} is fine */

/* Adds the texts with which calls begin, anywhere in an answer. */
void mlxr_call_openings(mlxr_call_writer *w, mlxr_call_texts *t);
void mlxr_call_add_text(mlxr_call_writer *w, mlxr_call_texts *t, const char *text);
/* Adds what free text must not have besides. */
void mlxr_call_inner_openings(mlxr_call_writer *w, mlxr_call_texts *t);
/* Any tokens with none of the texts among them, that do not begin as thinking does where it counts. Where calls need no marker: nor
 * as a call, or not with a bracket at all (whoever reads the answer looks for the other bracket first and for markers
 * behind it). */
typedef enum mlxr_call_beginning {
    MLXR_CALL_BEGINS_ANYHOW,
    MLXR_CALL_BEGINS_NO_CALL,
    MLXR_CALL_BEGINS_NO_BRACKET
} mlxr_call_beginning;
mlxr_expr mlxr_call_free_text(mlxr_call_writer *w, const mlxr_call_texts *apart,
                              mlxr_call_beginning beginning);
/* Further calls may follow `call` without a frame around all of them. */
bool mlxr_call_repeats(const mlxr_answer_format *f);

/* ---- pieces ---- */

/* Text of which parts may be special tokens: "\n```<|call_end|>". */
mlxr_expr mlxr_call_marker(mlxr_call_writer *w, const char *text);
/* A regular expression that is right by construction. */
mlxr_expr mlxr_call_regex(mlxr_grammar_builder *b, const char *pattern);
void mlxr_call_fail(mlxr_grammar_builder *b, mlxr_status st, const char *fmt, ...) MLXR_PRINTF(3, 4);
void mlxr_call_nomem(mlxr_grammar_builder *b);

/* ---- call_arguments.c ---- */

/* The arguments of a tool, as the format writes them. */
mlxr_rule mlxr_call_arguments(mlxr_call_writer *w, const mlxr_tool *t);

#endif
