/* schema: JSON Schema (draft 2020-12) to a grammar.
 *
 * What cannot be enforced while an answer is written is refused with its path; nothing is ignored but annotations. How
 * members are ordered, how values are written, what is refused and every limit is in docs/grammars.md. */
#ifndef MLXR_GRAMMAR_SCHEMA_H
#define MLXR_GRAMMAR_SCHEMA_H

#include "engine/grammar/grammar.h"
#include "engine/grammar/value.h"

typedef struct mlxr_schema_options {
    /* White space between tokens of JSON: false: none but one space behind ':' and ','; true (default): also line ends with
     * indentation, bounded, as models like to write it. */
    bool white_space;
    /* Numbers that int64 and double hold: at most 18 digits before the point and 20 behind it, exponents of two. Listed ones
     * (enum, const) stay as they are. Default false. */
    bool machine_numbers;
    size_t max_cases; /* of a normalised schema, in all; default 20,000: MLXR_E_LIMIT */
} mlxr_schema_options;
mlxr_schema_options mlxr_schema_options_default(void);

/* The rule of one JSON value that the schema accepts, without white space around it. name: what messages call the schema ("schema",
 * "tools[2].function.parameters"); the path of a keyword comes behind it as a JSON pointer: "schema#/properties/a/not: ...".
 * MLXR_E_UNSUPPORTED: a keyword that cannot be enforced; MLXR_E_FORMAT: one that is wrong; MLXR_E_INVALID_ARGUMENT: no value is
 * accepted; MLXR_E_LIMIT. */
mlxr_status mlxr_gb_schema(mlxr_rule *out, mlxr_grammar_builder *b, const mlxr_value *schema,
                           const char *name, const mlxr_schema_options *options, mlxr_error *err);
/* Any JSON value; any JSON object (Ollama's and OpenAI's JSON mode). */
mlxr_rule mlxr_gb_json(mlxr_grammar_builder *b, bool object_only, const mlxr_schema_options *options);

/* Whole grammars: the value, with no white space before or behind it. */
mlxr_status mlxr_grammar_from_schema(mlxr_grammar **out, const char *text, size_t n, const char *name,
                                     const mlxr_schema_options *options, const mlxr_grammar_limits *limits,
                                     mlxr_error *err);
mlxr_status mlxr_grammar_json(mlxr_grammar **out, bool object_only, const mlxr_grammar_limits *limits,
                              mlxr_error *err);
/* A regular expression that the whole answer matches. */
mlxr_status mlxr_grammar_from_regex(mlxr_grammar **out, const char *pattern, size_t n,
                                    const mlxr_grammar_limits *limits, mlxr_error *err);

/* ---- check: could the grammar have written this value, the order of members aside? (check.c) ---- */

typedef struct mlxr_schema_checker mlxr_schema_checker; /* one thread */
mlxr_status mlxr_schema_checker_create(mlxr_schema_checker **out, mlxr_grammar *g, mlxr_error *err);
void mlxr_schema_checker_free(mlxr_schema_checker *c);
typedef struct mlxr_schema_verdict {
    bool valid;
    char at[512];       /* JSON pointer of the part that does not fit; "" is the whole */
    char expected[512]; /* what could have come there, in words */
} mlxr_schema_verdict;
/* MLXR_E_LIMIT: too many ways to write it had to be tried. */
mlxr_status mlxr_schema_check(mlxr_schema_verdict *out, mlxr_schema_checker *c, const mlxr_value *instance,
                              mlxr_error *err);
/* The same for a text as it is, of any grammar; at: how many of its characters fit. */
mlxr_status mlxr_schema_check_text(mlxr_schema_verdict *out, mlxr_schema_checker *c, const char *text,
                                   size_t n, mlxr_error *err);

#endif
