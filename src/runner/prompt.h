/* prompt: from a request to token ids, as transformers' apply_chat_template does it: the folder's chat template
 * renders the messages, and the text is encoded without adding special tokens, since the template has written them.
 * A folder without a template gets the built-in Llama prompt; tools are described in words to a template that does not
 * know them. Threads share one without a lock. */
#ifndef MLXR_PROMPT_H
#define MLXR_PROMPT_H

#include "base/base.h"
#include "runner/settings.h"
#include "text/answers/answers.h"
#include "text/capabilities.h"

/* The built-in Llama prompt as a template: Llama 3's where the vocabulary has its header tokens, else Llama 2's. */
const char *mlxr_prompt_llama_source(const mlxr_tokenizer *tok);

typedef struct mlxr_prompt_builder mlxr_prompt_builder;

/* tok is borrowed until close; it decides which Llama prompt is the built-in one. */
mlxr_status mlxr_prompt_builder_open(mlxr_prompt_builder **out, const char *dir, const mlxr_tokenizer *tok,
                                     mlxr_error *err);
void mlxr_prompt_builder_close(mlxr_prompt_builder *p);
/* Whose system text and messages conversations get; borrowed until close. Before the first other call. */
void mlxr_prompt_use_settings(mlxr_prompt_builder *p, const mlxr_settings *settings);
bool mlxr_prompt_builder_is_builtin(const mlxr_prompt_builder *p);

/* The source of the template that rendering uses without tools; borrowed until close. */
const char *mlxr_prompt_template_source(const mlxr_prompt_builder *p);
/* What the template understands, without tools; found out by the first who asks. */
mlxr_status mlxr_prompt_capabilities(mlxr_template_capabilities *out, mlxr_prompt_builder *p,
                                     mlxr_error *err);
/* How this model writes thinking and calls, as its template shows: in answers without tools, and with them. Never NULL. */
const mlxr_answer_format *mlxr_prompt_answer_format(const mlxr_prompt_builder *p);
mlxr_status mlxr_prompt_tools_format(const mlxr_answer_format **out, mlxr_prompt_builder *p, mlxr_error *err);
/* Whether the template does something with tools; else they are described to it in words. */
mlxr_status mlxr_prompt_knows_tools(bool *out, mlxr_prompt_builder *p, mlxr_error *err);
/* Whether the model may think in answers of this format: its template has the markers, or speaks of it. */
bool mlxr_prompt_thinks(const mlxr_prompt_builder *p, const mlxr_answer_format *f);
/* Whether MLXR_THINK_OFF does something. */
bool mlxr_prompt_can_stop_thinking(const mlxr_prompt_builder *p, const mlxr_template_capabilities *can);

/* The prompt as text: the template rendered, or a raw request's own. A conversation that ends with a text of the assistant's is
 * to be gone on with: the prompt ends where that text does. A request by ids has no text (MLXR_E_INVALID_ARGUMENT). *out_text: free it. */
mlxr_status mlxr_prompt_render(char **out_text, size_t *out_n, mlxr_prompt_builder *p,
                               const mlxr_request *request, int64_t now, mlxr_error *err);
/* What a rendering may take besides its request. */
typedef struct mlxr_prompt_extra {
    const char *source;      /* NUL-terminated: a template in place of the folder's; NULL: the folder's */
    const json_t *variables; /* an object, over those that the request makes; or NULL */
    bool without_messages;   /* not those of the folder's settings; their system text all the same */
} mlxr_prompt_extra;
mlxr_status mlxr_prompt_render_with(char **out_text, size_t *out_n, mlxr_prompt_builder *p,
                                    const mlxr_request *request, const mlxr_prompt_extra *extra, int64_t now,
                                    mlxr_error *err);
/* Its tokens, those of prompt_ids copied. *out_ids: free it. *out_text (may be NULL): the text too, where there is one; free
 * it. */
mlxr_status mlxr_prompt_encode(int32_t **out_ids, size_t *out_n, char **out_text, mlxr_prompt_builder *p,
                               const mlxr_request *request, int64_t now, mlxr_error *err);

#endif
