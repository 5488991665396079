/* structured: from a request to the form of its answer: the grammar it is held to, and how it is told apart into parts.
 *
 *   request --any thread--> mlxr_structure (grammar, parser options) --engine's thread--> masker -> matcher
 *
 * Grammars are kept by the digest of what they were made from, maskers (what was found out about a grammar and the
 * vocabulary) as long as there is room: the second request with a schema pays for neither. */
#ifndef MLXR_STRUCTURED_H
#define MLXR_STRUCTURED_H

#include <pthread.h>

#include "engine/grammar/tools.h"
#include "runner/folder.h"

typedef struct mlxr_structures mlxr_structures; /* of one engine */
/* The folder is borrowed until free. */
mlxr_status mlxr_structures_create(mlxr_structures **out, const mlxr_folder *folder, mlxr_error *err);
void mlxr_structures_free(mlxr_structures *s); /* on the engine's thread, or when that has ended */

/* What a request asks of its answer. init to {0}. */
typedef struct mlxr_structure {
    mlxr_grammar *grammar; /* NULL: free text */
    bool has_parts;
    mlxr_answer_parser_options parts; /* with has_parts; its strings are the structure's */
    char *tools_json;
} mlxr_structure;

/* Checks what a request says of thinking, tools and form before its prompt is rendered. Any thread. */
mlxr_status mlxr_structure_check(mlxr_structures *s, const mlxr_request *request, mlxr_error *err);
/* prompt: the rendered text, NULL for one that was given as tokens. Any thread. Clear *out in either case. */
mlxr_status mlxr_structure_make(mlxr_structure *out, mlxr_structures *s, const mlxr_request *request,
                                const char *prompt, size_t n_prompt, mlxr_error *err);
void mlxr_structure_clear(mlxr_structure *t);

/* The engine's thread's: a matcher at the beginning of an answer. release is called once for each get, behind the matcher's
 * last use. */
mlxr_status mlxr_structures_get_masker(mlxr_masker **out, mlxr_structures *s, mlxr_grammar *grammar,
                                       mlxr_error *err);
void mlxr_structures_release_masker(mlxr_structures *s, mlxr_masker *masker);

#endif
