/* The chat template of a model folder: found as transformers finds it, rendered with the folder's special tokens.
 * Immutable once open: any number of threads may share one without a lock. */
#ifndef MLXR_CHAT_TEMPLATE_H
#define MLXR_CHAT_TEMPLATE_H

#include <jansson.h>

#include "base/base.h"

typedef struct mlxr_chat_template mlxr_chat_template;

/* path: a model folder, or a template file itself (which then is the only template, without special tokens).
 * In a folder: chat_template.jinja and additional_chat_templates/NAME.jinja; without them "chat_template" of
 * tokenizer_config.json (one text, or a list of {"name", "template"}); without that chat_template.json.
 * MLXR_E_NOT_FOUND when the folder has none of these; every template found is compiled here, so a syntax error in
 * any of them fails the call. */
mlxr_status mlxr_chat_template_open(mlxr_chat_template **out, const char *path, mlxr_error *err);
/* The same for a folder, with `fallback` (NUL-terminated source) as the template where it has none. */
mlxr_status mlxr_chat_template_open_with(mlxr_chat_template **out, const char *dir, const char *fallback,
                                         mlxr_error *err);
void mlxr_chat_template_close(mlxr_chat_template *ct);

/* How many templates there are, and their names ("default", "tool_use", ...); borrowed until close. */
size_t mlxr_chat_template_count(const mlxr_chat_template *ct);
const char *mlxr_chat_template_name(const mlxr_chat_template *ct, size_t i);
/* The source of template i, borrowed until close. */
const char *mlxr_chat_template_source(const mlxr_chat_template *ct, size_t i);
/* Names and values of the special tokens ("bos_token": "<s>"), a JSON object borrowed until close. */
const json_t *mlxr_chat_template_tokens(const mlxr_chat_template *ct);

/* Renders with the variables of context (a JSON object, not changed), to which "messages", "tools" and
 * "documents" (null) and "add_generation_prompt" (false) are added where they are missing, as
 * apply_chat_template passes them, and the special tokens unless the context has one of the name. name: which
 * template; NULL: "tool_use" when the context has tools and there is one, else "default".
 * *out_text: free it with mlxr_free. */
mlxr_status mlxr_chat_template_render(char **out_text, size_t *out_n, const mlxr_chat_template *ct,
                                      json_t *context, const char *name, int64_t now,
                                      const mlxr_template_limits *limits, mlxr_error *err);
/* The same with the context as JSON text. */
mlxr_status mlxr_chat_template_render_text(char **out_text, size_t *out_n, const mlxr_chat_template *ct,
                                           const char *context_json, size_t n_context, const char *name,
                                           int64_t now, const mlxr_template_limits *limits, mlxr_error *err);

#endif
