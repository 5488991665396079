/* prompt_tools: tools in a conversation, put so that a chat template can render them. Private to prompt.c. */
#ifndef MLXR_PROMPT_TOOLS_H
#define MLXR_PROMPT_TOOLS_H

#include <jansson.h>

#include "base/base.h"

/* Whether a message has calls, or is a tool's answer. */
bool mlxr_messages_have_calls(const json_t *messages);

/* The arguments of calls become JSON objects (most templates), or with as_text JSON texts (some), whichever way they came.
 * Text that is no JSON stays as it is. Changes messages. */
mlxr_status mlxr_messages_set_arguments(json_t *messages, bool as_text, mlxr_error *err);

/* For a template that knows no tools: they are described in the system text, in the notation that the format "hermes"
 * reads back; calls and answers of tools become text of the assistant's and the user's messages. can_system: the template
 * takes a system message; else the description stands before the first user text. tools may be NULL. *out: a new list. */
mlxr_status mlxr_messages_write_tools(json_t **out, const json_t *messages, const json_t *tools,
                                      bool can_system, mlxr_error *err);

#endif
