/* prompt: see prompt.h. */
#include "runner/prompt.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/json.h"
#include "runner/prompt_tools.h"
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
    const mlxr_settings *settings; /* or NULL */
    mlxr_chat_template *chat;
    bool builtin;
    const mlxr_answer_format *format, *tools_format; /* the latter as templates for tools show it */
    pthread_mutex_t lock;                            /* guards the next two */
    bool knows_capabilities[2];
    mlxr_template_capabilities capabilities[2]; /* of the default template; of the one for tools */
};

static const char *source_of(const mlxr_prompt_builder *p, const char *name)
{
    for (size_t i = 0; i < mlxr_chat_template_count(p->chat); i++)
        if (strcmp(mlxr_chat_template_name(p->chat, i), name) == 0)
            return mlxr_chat_template_source(p->chat, i);
    return NULL;
}

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
    if (pthread_mutex_init(&p->lock, NULL) != 0) {
        free(p);
        return mlxr_fail_nomem(err, "prompt");
    }
    p->tok = tok;
    st = mlxr_chat_template_open(&p->chat, dir, err);
    if (st == MLXR_E_NOT_FOUND) {
        p->builtin = true;
        st = mlxr_chat_template_open_with(&p->chat, dir, mlxr_prompt_llama_source(tok), err);
    }
    if (st == MLXR_OK) {
        const char *for_tools = source_of(p, "tool_use");
        p->format = mlxr_answer_format_detect(mlxr_prompt_template_source(p));
        p->tools_format = for_tools ? mlxr_answer_format_detect(for_tools) : p->format;
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
    pthread_mutex_destroy(&p->lock);
    free(p);
}

void mlxr_prompt_use_settings(mlxr_prompt_builder *p, const mlxr_settings *settings)
{
    p->settings = settings;
}

bool mlxr_prompt_builder_is_builtin(const mlxr_prompt_builder *p)
{
    return p->builtin;
}

/* ---- what the template can ---- */

static mlxr_status get_capabilities(mlxr_template_capabilities *out, mlxr_prompt_builder *p, bool for_tools,
                                    mlxr_error *err)
{
    const char *name = for_tools && source_of(p, "tool_use") ? "tool_use" : NULL;
    mlxr_status st = MLXR_OK;

    pthread_mutex_lock(&p->lock);
    if (!p->knows_capabilities[for_tools]) {
        st = mlxr_chat_template_capabilities(&p->capabilities[for_tools], p->chat, name, err);
        p->knows_capabilities[for_tools] = st == MLXR_OK;
    }
    *out = p->capabilities[for_tools];
    pthread_mutex_unlock(&p->lock);
    return st;
}

mlxr_status mlxr_prompt_capabilities(mlxr_template_capabilities *out, mlxr_prompt_builder *p, mlxr_error *err)
{
    return get_capabilities(out, p, false, err);
}

const mlxr_answer_format *mlxr_prompt_answer_format(const mlxr_prompt_builder *p)
{
    return p->format;
}

/* Whether the template that renders a conversation with tools does something with them. One that speaks of them, but not
 * of those that were tried, is trusted. */
mlxr_status mlxr_prompt_knows_tools(bool *out, mlxr_prompt_builder *p, mlxr_error *err)
{
    const char *source = source_of(p, "tool_use");
    mlxr_template_capabilities can = {0};
    mlxr_status st = MLXR_OK;

    *out = strstr(source ? source : mlxr_prompt_template_source(p), "tools") != NULL;
    if (!*out && (st = get_capabilities(&can, p, true, err)) == MLXR_OK) *out = can.tools == MLXR_CAN;
    return st;
}

mlxr_status mlxr_prompt_tools_format(const mlxr_answer_format **out, mlxr_prompt_builder *p, mlxr_error *err)
{
    static const char written[] = "hermes"; /* by mlxr_messages_write_tools */
    bool knows;
    mlxr_status st = mlxr_prompt_knows_tools(&knows, p, err);

    *out = p->tools_format;
    if (!knows || p->tools_format->style == MLXR_CALLS_NONE) *out = mlxr_answer_format_find(written);
    return st;
}

bool mlxr_prompt_thinks(const mlxr_prompt_builder *p, const mlxr_answer_format *f)
{
    const char *source = mlxr_prompt_template_source(p);
    const char *const signs[] = {f->think_open, f->think_close, "enable_thinking", "reasoning_effort"};

    if (!f->think_open && !f->think_close) return false;
    if (f->style == MLXR_CALLS_HARMONY) return true;
    for (size_t i = 0; i < MLXR_COUNT(signs); i++)
        if (signs[i] && strstr(source, signs[i])) return true;
    return false;
}

/* "none" is an effort that some templates know. */
static bool knows_no_effort(const mlxr_prompt_builder *p)
{
    const char *source = mlxr_prompt_template_source(p);
    return strstr(source, "'none'") || strstr(source, "\"none\"");
}

bool mlxr_prompt_can_stop_thinking(const mlxr_prompt_builder *p, const mlxr_template_capabilities *can)
{
    return can->thinking_switch &&
           (strcmp(can->thinking_switch, "reasoning_effort") != 0 || knows_no_effort(p));
}

/* The variables by which templates switch thinking; one that a template does not know does nothing. */
static bool set_thinking(json_t *context, const mlxr_prompt_builder *p, mlxr_think think)
{
    static const char *const efforts[] = {
        [MLXR_THINK_LOW] = "low", [MLXR_THINK_MEDIUM] = "medium", [MLXR_THINK_HIGH] = "high"};
    bool on = think != MLXR_THINK_OFF;
    const char *effort = think >= MLXR_THINK_LOW ? efforts[think] : !on && knows_no_effort(p) ? "none" : NULL;

    if (think == MLXR_THINK_DEFAULT) return true;
    return json_object_set_new(context, "enable_thinking", json_boolean(on)) == 0 &&
           json_object_set_new(context, "thinking", json_boolean(on)) == 0 &&
           (!effort || json_object_set_new(context, "reasoning_effort", json_string(effort)) == 0);
}

/* ---- the context ---- */

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

/* Tools, calls and answers in words, where the template would pass them over. */
static mlxr_status write_tools(json_t **messages, json_t **tools, mlxr_prompt_builder *p, mlxr_error *err)
{
    mlxr_template_capabilities can;
    json_t *written;
    bool knows;
    mlxr_status st;

    if (!*tools && !mlxr_messages_have_calls(*messages)) return MLXR_OK;
    if ((st = mlxr_prompt_knows_tools(&knows, p, err)) != MLXR_OK) return st;
    if (knows) return mlxr_messages_set_arguments(*messages, false, err);
    if ((st = get_capabilities(&can, p, false, err)) != MLXR_OK) return st;
    st = mlxr_messages_write_tools(&written, *messages, *tools, can.system == MLXR_CAN, err);
    if (st != MLXR_OK) return st;
    json_decref(*messages);
    json_decref(*tools);
    *messages = written;
    *tools = NULL;
    return MLXR_OK;
}

/* Stands for the end of a text that the answer goes on with: what a template writes behind it is cut off. */
static const char goes_on[] = "@@mlxr:the-answer-goes-on@@";

/* The last message's text, if it is the assistant's to be gone on with, with the mark behind it. */
static mlxr_status mark_end(bool *marked, json_t *messages, mlxr_error *err)
{
    json_t *last = json_array_get(messages, json_array_size(messages) - 1), *text;
    const char *role = json_string_value(json_object_get(last, "role"));
    const char *content = json_string_value(json_object_get(last, "content"));

    *marked = role && strcmp(role, "assistant") == 0 && content &&
              json_array_size(json_object_get(last, "tool_calls")) == 0;
    if (!*marked) return MLXR_OK;
    text = json_sprintf("%s%s", content, goes_on);
    return text && json_object_set_new(last, "content", text) == 0 ? MLXR_OK : mlxr_fail_nomem(err, "prompt");
}

static mlxr_status cut_at_mark(char *text, size_t *n, mlxr_error *err)
{
    char *at = strstr(text, goes_on);

    if (!at)
        return mlxr_fail(
            err, MLXR_E_TEMPLATE,
            "prompt: the chat template changes the assistant's last message, which then cannot be "
            "gone on with");
    *at = '\0';
    *n = (size_t)(at - text);
    return MLXR_OK;
}

/* The template context of a request; *out is the caller's. marked: it ends as mark_end says. */
static mlxr_status request_context(json_t **out, bool *marked, mlxr_prompt_builder *p,
                                   const mlxr_request *request, const mlxr_prompt_extra *extra,
                                   mlxr_error *err)
{
    mlxr_settings settings = p->settings ? *p->settings : (mlxr_settings){0};
    bool has_own;
    json_t *messages = NULL, *tools = NULL, *context = json_object();
    mlxr_status st = MLXR_OK;

    *out = NULL;
    if (!context) return mlxr_fail_nomem(err, "prompt");
    if (request->messages_json) {
        st = mlxr_json_parse(&messages, request->messages_json, strlen(request->messages_json), "messages",
                             err);
        if (st == MLXR_OK && !json_is_array(messages))
            st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "prompt: messages are not a JSON list");
    } else if (!(messages = json_array())) {
        st = mlxr_fail_nomem(err, "prompt");
    } else {
        if (request->system) st = add_message(messages, "system", request->system, err);
        if (st == MLXR_OK) st = add_message(messages, "user", request->prompt ? request->prompt : "", err);
    }
    /* The model's own examples may end with the assistant too; those it is not to go on with. */
    has_own = json_array_size(messages) > 0;
    if (extra->without_messages) settings.messages = NULL;
    if (st == MLXR_OK) st = mlxr_settings_messages(&settings, messages, request->system != NULL, err);
    if (st == MLXR_OK && request->messages_json) st = alias_reasoning(messages, err);
    if (st == MLXR_OK && request->tools_json) {
        st = mlxr_json_parse(&tools, request->tools_json, strlen(request->tools_json), "tools", err);
        if (st == MLXR_OK && !json_is_array(tools))
            st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "prompt: tools are not a JSON list");
    }
    if (st == MLXR_OK) st = write_tools(&messages, &tools, p, err);
    if (st == MLXR_OK && has_own) st = mark_end(marked, messages, err);
    if (st == MLXR_OK &&
        (json_object_set(context, "messages", messages) != 0 ||
         (tools && json_object_set(context, "tools", tools) != 0) ||
         !set_thinking(context, p, request->think) ||
         json_object_set_new(context, "add_generation_prompt", json_boolean(!*marked)) != 0 ||
         (extra->variables && json_object_update(context, (json_t *)(uintptr_t)extra->variables) != 0)))
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
    const char *source = source_of(p, "default");
    return source ? source : mlxr_chat_template_source(p->chat, 0);
}

/* By another template than the folder's, with the folder's special tokens. */
static mlxr_status render_by(char **out_text, size_t *out_n, const mlxr_prompt_builder *p, const char *source,
                             json_t *context, int64_t now, mlxr_error *err)
{
    mlxr_template *t = NULL;
    char *text = NULL;
    mlxr_status st = mlxr_template_create(&t, source, strlen(source), "template", err);

    if (st != MLXR_OK) return st;
    if (json_object_update_missing(context, (json_t *)(uintptr_t)mlxr_chat_template_tokens(p->chat)) != 0 ||
        !(text = json_dumps(context, JSON_COMPACT | JSON_REAL_PRECISION(17))))
        st = mlxr_fail_nomem(err, "prompt");
    if (st == MLXR_OK) st = mlxr_template_render(out_text, out_n, t, text, strlen(text), now, NULL, err);
    free(text);
    mlxr_template_free(t);
    return st;
}

static mlxr_status render(char **out_text, size_t *out_n, mlxr_prompt_builder *p,
                          const mlxr_prompt_extra *extra, json_t *context, int64_t now, mlxr_error *err)
{
    return extra->source ? render_by(out_text, out_n, p, extra->source, context, now, err)
                         : mlxr_chat_template_render(out_text, out_n, p->chat, context, NULL, now, NULL, err);
}

mlxr_status mlxr_prompt_render(char **out_text, size_t *out_n, mlxr_prompt_builder *p,
                               const mlxr_request *request, int64_t now, mlxr_error *err)
{
    return mlxr_prompt_render_with(out_text, out_n, p, request, &(mlxr_prompt_extra){0}, now, err);
}

mlxr_status mlxr_prompt_render_with(char **out_text, size_t *out_n, mlxr_prompt_builder *p,
                                    const mlxr_request *request, const mlxr_prompt_extra *extra, int64_t now,
                                    mlxr_error *err)
{
    json_t *context = NULL;
    bool marked = false;
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
    if ((st = request_context(&context, &marked, p, request, extra, err)) == MLXR_OK)
        st = render(out_text, out_n, p, extra, context, now, err);
    if (st == MLXR_E_TEMPLATE && mlxr_messages_have_calls(json_object_get(context, "messages"))) {
        /* Some templates write the arguments of a call as they are, and want text. */
        mlxr_error first = err ? *err : (mlxr_error){0};
        st = mlxr_messages_set_arguments(json_object_get(context, "messages"), true, err);
        if (st == MLXR_OK) st = render(out_text, out_n, p, extra, context, now, err);
        if (st == MLXR_E_TEMPLATE && err) *err = first;
    }
    if (st == MLXR_OK && marked) st = cut_at_mark(*out_text, out_n, err);
    if (st != MLXR_OK) {
        free(*out_text);
        *out_text = NULL;
        *out_n = 0;
    }
    json_decref(context);
    return st;
}

mlxr_status mlxr_prompt_encode(int32_t **out_ids, size_t *out_n, char **out_text, mlxr_prompt_builder *p,
                               const mlxr_request *request, int64_t now, mlxr_error *err)
{
    char *text = NULL;
    size_t n = 0;
    mlxr_status st;

    *out_ids = NULL;
    *out_n = 0;
    if (out_text) *out_text = NULL;
    if (request->prompt_ids) {
        *out_ids = mlxr_malloc_array(request->n_prompt_ids, sizeof **out_ids);
        if (!*out_ids) return mlxr_fail_nomem(err, "prompt");
        memcpy(*out_ids, request->prompt_ids, request->n_prompt_ids * sizeof **out_ids);
        *out_n = request->n_prompt_ids;
        return MLXR_OK;
    }
    if ((st = mlxr_prompt_render(&text, &n, p, request, now, err)) == MLXR_OK)
        st = mlxr_tokenizer_encode(out_ids, out_n, p->tok, text, n, request->raw, err);
    if (st == MLXR_OK && out_text) {
        *out_text = text;
        text = NULL;
    }
    free(text);
    return st;
}
