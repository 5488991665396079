/* jsonl: commands that answer JSON requests, one object a line in, one a line out. */
#ifndef MLXCTL_JSONL_H
#define MLXCTL_JSONL_H

#include "base/json.h"
#include "mlxctl.h"

/* Appends the answer to one request (n bytes of text, one line), without the line's end. On failure what it
 * appended is dropped and {"error": message} stands in its place; the next request goes on. */
typedef mlxr_status (*jsonl_answer)(void *ud, const char *line, size_t n, mlxr_buf *out, mlxr_error *err);

/* The request as an object; *out: json_decref it. */
mlxr_status jsonl_object(json_t **out, const char *line, size_t n, mlxr_error *err);

/* Answers standard input to its end. Answers are written when the next request would have to be waited for, so that a
 * caller who sends one line gets its answer, and one who sends thousands does not pay for each. *n_errors (may be NULL)
 * counts the failed ones. Exit code: 0, or 1 with a line on standard error when reading or writing fails. */
int jsonl_serve(const char *program, jsonl_answer answer, void *ud, size_t *n_errors);

/* Appends the ids as a JSON list. */
void jsonl_ids(mlxr_buf *out, const int32_t *ids, size_t n);

#endif
