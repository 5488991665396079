/* anthropic: the API of Anthropic: POST /v1/messages and /v1/messages/count_tokens. */
#ifndef MLXR_SERVE_ANTHROPIC_H
#define MLXR_SERVE_ANTHROPIC_H

#include "serve/serve.h"

/* "invalid_request_error" and the like, of an HTTP status. */
const char *mlxr_anthropic_error_type(int status);

/* {"type": "error", "error": {"type", "message"}, "request_id"} */
void mlxr_anthropic_fail(mlxr_request_in *http, int status, const char *text);

/* system (a text or a list of text blocks, or NULL) and messages as the templates know them: results of tools before what the user says beside
 * them, turns of one role that follow each other as one, a system message where it stands. warnings: a list, to which a text is added for each
 * kind of block that is passed over; strict: those are refused. *out: a new list. */
mlxr_status mlxr_anthropic_messages(json_t **out, const json_t *system, const json_t *messages,
                                    json_t *warnings, bool strict, mlxr_error *err);
/* tools with input_schema as functions with parameters. *out: a new list. */
mlxr_status mlxr_anthropic_tools(json_t **out, const json_t *tools, mlxr_error *err);

extern const mlxr_front mlxr_anthropic_messages_front, mlxr_anthropic_count_front;
extern const mlxr_fields mlxr_anthropic_messages_fields, mlxr_anthropic_count_fields;

#endif
