/* call_arguments: what call_arguments.c and call_values.c share. Private to them. */
#ifndef MLXR_GRAMMAR_CALL_ARGUMENTS_H
#define MLXR_GRAMMAR_CALL_ARGUMENTS_H

#include "engine/grammar/call_writer.h"
#include "engine/grammar/schema_parts.h"

/* The arguments of one tool while they are written. */
typedef struct mlxr_arguments {
    mlxr_call_writer *w;
    mlxr_grammar_builder *b;
    const mlxr_answer_format *f;
    const mlxr_tool *t;
    mlxr_sc maker, *s; /* the schema's; s points to it */
    const mlxr_sc_node *root;
    mlxr_error *err;
} mlxr_arguments;

/* Everything behind the name of a member: value_open, a value that is f, value_close. schema: what the tool lists under the name,
 * or NULL; whoever reads the call looks there to tell a string from JSON. */
mlxr_status mlxr_call_value(mlxr_expr *out, mlxr_arguments *a, mlxr_sc_formula f, const mlxr_value *schema);

#endif
