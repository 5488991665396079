/* prompt: see prompt.h. */
#include "runner/prompt.h"

#include <stdlib.h>

#include "base/json.h"
#include "text/chat_template.h"

/* PromptBuilder.llama, in the two forms that Llama checkpoints were trained on. Which one a folder means is told by its
 * vocabulary: Llama 3 has the header tokens. */
static const char llama3_source[] =
    "{{- bos_token or '' }}"
    "{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + (message['content'] | trim) + "
    "'<|eot_id|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}";

static const char llama2_source[] =
    "{%- if messages and messages[0]['role'] == 'system' %}"
    "{%- set system = '<<SYS>>\n' + (messages[0]['content'] | trim) + '\n<</SYS>>\n\n' %}"
    "{%- set turns = messages[1:] %}"
    "{%- else %}{%- set system = '' %}{%- set turns = messages %}{%- endif %}"
    "{%- for message in turns %}"
    "{%- if message['role'] == 'assistant' %}"
    "{{- ' ' + (message['content'] | trim) + ' ' + (eos_token or '') }}"
    "{%- else %}"
    "{{- (bos_token or '') + '[INST] ' + (system if loop.first else '') + (message['content'] | trim) + ' "
    "[/INST]' }}"
    "{%- endif %}"
    "{%- endfor %}";

struct mlxr_prompt_builder {
    const mlxr_tokenizer *tok;
    mlxr_chat_template *chat;
    bool builtin;
};

const char *mlxr_prompt_llama_source(const mlxr_tokenizer *tok)
{
    static const char header[] = "<|start_header_id|>";
    return mlxr_tokenizer_token_to_id(tok, header, strlen(header)) >= 0 ? llama3_source : llama2_source;
}

mlxr_status mlxr_prompt_builder_open(mlxr_prompt_builder **out, const char *dir, const mlxr_tokenizer *tok,
                                     mlxr_error *err)
{
    mlxr_prompt_builder *p = calloc(1, sizeof *p);
    mlxr_status st;

    *out = NULL;
    if (!p) return mlxr_fail_nomem(err, "prompt");
    p->tok = tok;
    st = mlxr_chat_template_open(&p->chat, dir, err);
    if (st == MLXR_E_NOT_FOUND) {
        p->builtin = true;
        st = mlxr_chat_template_open_with(&p->chat, dir, mlxr_prompt_llama_source(tok), err);
    }
    if (st == MLXR_OK) {
        *out = p;
        p = NULL;
    }
    mlxr_prompt_builder_close(p);
    return st;
}

void mlxr_prompt_builder_close(mlxr_prompt_builder *p)
{
    if (!p) return;
    mlxr_chat_template_close(p->chat);
    free(p);
}

bool mlxr_prompt_builder_is_builtin(const mlxr_prompt_builder *p)
{
    return p->builtin;
}

static mlxr_status add_message(json_t *messages, const char *role, const char *content, mlxr_error *err)
{
    json_t *text;

    if (mlxr_utf8_valid(content, strlen(content)) != strlen(content))
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "prompt: the %s text is not valid UTF-8 from byte %zu on", role,
                         mlxr_utf8_valid(content, strlen(content)));
    text = json_pack("{s:s, s:s}", "role", role, "content", content);
    return text && json_array_append_new(messages, text) == 0 ? MLXR_OK : mlxr_fail_nomem(err, "prompt");
}

/* A message's reasoning goes by several names; templates read the first or the second of these, so both are filled
 * from whichever there is, as apply_chat_template does. */
static mlxr_status alias_reasoning(const json_t *messages, mlxr_error *err)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};

    for (size_t i = 0; i < json_array_size(messages); i++) {
        json_t *message = json_array_get(messages, i), *reasoning = NULL;
        for (size_t k = 0; k < MLXR_COUNT(names) && (!reasoning || json_is_null(reasoning)); k++)
            reasoning = json_object_get(message, names[k]);
        if (!reasoning || json_is_null(reasoning)) continue;
        if (json_object_set(message, names[0], reasoning) != 0 ||
            (!json_object_get(message, names[1]) && json_object_set(message, names[1], reasoning) != 0))
            return mlxr_fail_nomem(err, "prompt");
    }
    return MLXR_OK;
}

/* The template context of a request; *out is the caller's. */
static mlxr_status request_context(json_t **out, const mlxr_request *request, mlxr_error *err)
{
    json_t *messages = NULL, *tools = NULL, *context = json_object();
    mlxr_status st = MLXR_OK;

    *out = NULL;
    if (!context) return mlxr_fail_nomem(err, "prompt");
    if (request->messages_json) {
        st = mlxr_json_parse(&messages, request->messages_json, strlen(request->messages_json), "messages",
                             err);
        if (st == MLXR_OK && !json_is_array(messages))
            st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "prompt: messages are not a JSON list");
        if (st == MLXR_OK) st = alias_reasoning(messages, err);
    } else if (!(messages = json_array())) {
        st = mlxr_fail_nomem(err, "prompt");
    } else {
        if (request->system) st = add_message(messages, "system", request->system, err);
        if (st == MLXR_OK) st = add_message(messages, "user", request->prompt ? request->prompt : "", err);
    }
    if (st == MLXR_OK && request->tools_json) {
        st = mlxr_json_parse(&tools, request->tools_json, strlen(request->tools_json), "tools", err);
        if (st == MLXR_OK && !json_is_array(tools))
            st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "prompt: tools are not a JSON list");
    }
    if (st == MLXR_OK && (json_object_set(context, "messages", messages) != 0 ||
                          (tools && json_object_set(context, "tools", tools) != 0) ||
                          json_object_set_new(context, "add_generation_prompt", json_true()) != 0))
        st = mlxr_fail_nomem(err, "prompt");
    if (st == MLXR_OK) {
        *out = context;
        context = NULL;
    }
    json_decref(messages);
    json_decref(tools);
    json_decref(context);
    return st;
}

const char *mlxr_prompt_template_source(const mlxr_prompt_builder *p)
{
    for (size_t i = 0; i < mlxr_chat_template_count(p->chat); i++)
        if (strcmp(mlxr_chat_template_name(p->chat, i), "default") == 0)
            return mlxr_chat_template_source(p->chat, i);
    return mlxr_chat_template_source(p->chat, 0);
}

mlxr_status mlxr_prompt_render(char **out_text, size_t *out_n, const mlxr_prompt_builder *p,
                               const mlxr_request *request, int64_t now, mlxr_error *err)
{
    json_t *context = NULL;
    mlxr_status st;

    *out_text = NULL;
    *out_n = 0;
    if (request->prompt_ids)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "prompt: it is given as tokens and has no text");
    if (request->raw) {
        *out_text = mlxr_strdup(request->prompt ? request->prompt : "");
        if (!*out_text) return mlxr_fail_nomem(err, "prompt");
        *out_n = strlen(*out_text);
        return MLXR_OK;
    }
    if ((st = request_context(&context, request, err)) == MLXR_OK)
        st = mlxr_chat_template_render(out_text, out_n, p->chat, context, NULL, now, NULL, err);
    json_decref(context);
    return st;
}

mlxr_status mlxr_prompt_encode(int32_t **out_ids, size_t *out_n, const mlxr_prompt_builder *p,
                               const mlxr_request *request, int64_t now, mlxr_error *err)
{
    char *text = NULL;
    size_t n = 0;
    mlxr_status st;

    *out_ids = NULL;
    *out_n = 0;
    if (request->prompt_ids) {
        *out_ids = mlxr_malloc_array(request->n_prompt_ids, sizeof **out_ids);
        if (!*out_ids) return mlxr_fail_nomem(err, "prompt");
        memcpy(*out_ids, request->prompt_ids, request->n_prompt_ids * sizeof **out_ids);
        *out_n = request->n_prompt_ids;
        return MLXR_OK;
    }
    if ((st = mlxr_prompt_render(&text, &n, p, request, now, err)) == MLXR_OK)
        st = mlxr_tokenizer_encode(out_ids, out_n, p->tok, text, n, request->raw, err);
    free(text);
    return st;
}
