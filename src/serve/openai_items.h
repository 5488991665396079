/* openai_items: what POST /v1/responses is given, in the form of chat completions. */
#ifndef MLXR_SERVE_OPENAI_ITEMS_H
#define MLXR_SERVE_OPENAI_ITEMS_H

#include "serve/openai.h"

/* input (a text, or a list of items) behind instructions (or NULL), as messages for templates. *out: a new list. Calls that follow one
 * another, or what an assistant said, are one message with it; reasoning belongs to the assistant's next one. */
mlxr_status mlxr_openai_items(json_t **out, const char *instructions, const json_t *input, mlxr_error *err);
/* Functions, and those of namespaces as "namespace.member", in the form of chat completions. *out: a new list. Tools that only OpenAI's
 * servers have are refused; searching, which clients offer without being asked, is left out with a warning. */
mlxr_status mlxr_openai_item_tools(json_t **out, mlxr_turn *t, const json_t *tools, mlxr_error *err);

#endif
