/* openai: the API of OpenAI. openai.c has what its endpoints share: errors, and the fields of everything that generates; openai_messages.c
 * conversations and tools; openai_chat.c chat completions; openai_completions.c completions; openai_embeddings.c; openai_models.c;
 * openai_items.c and openai_responses.c responses. */
#ifndef MLXR_SERVE_OPENAI_H
#define MLXR_SERVE_OPENAI_H

#include "serve/serve.h"

/* ---- errors ---- */

/* {"error": {"message", "type", "param", "code"}} */
void mlxr_openai_fail(mlxr_request_in *http, int status, const char *text, const char *param);
/* The same in a stream: data: {"error": ...}, then [DONE]. */
void mlxr_openai_turn_fail(mlxr_turn *t, const mlxr_turn_error *error);
const char *mlxr_openai_error_type(int status);
/* "model_not_found" and the like, or NULL. */
const char *mlxr_openai_error_code(const mlxr_turn_error *error);
/* {"message", "type", "param", "code"} */
void mlxr_openai_put_error(mlxr_buf *out, int status, const char *text, const char *param, const char *code);

/* ---- what endpoints that generate have in common ---- */

/* The first member of their states; filled by mlxr_fields_read after mlxr_openai_common_init. */
typedef struct mlxr_openai_common {
    const char *model;
    const json_t *stop, *stream_options, *logit_bias, *keep_alive, *options;
    bool stream, include_usage;
    double temperature, top_p, frequency_penalty, presence_penalty, min_p, repeat_penalty; /* NAN: absent */
    int64_t seed, top_k, n; /* MLXR_OPENAI_ABSENT */
    char id[48];
    long long created;
} mlxr_openai_common;
#define MLXR_OPENAI_ABSENT INT64_MIN

#define MLXR_OPENAI_AT(member) offsetof(mlxr_openai_common, member)
/* Their rows of the tables. */
#define MLXR_OPENAI_FIELDS_SAMPLING                                                                       \
    {.name = "temperature",                                                                               \
     .types = MLXR_FIELD_REAL,                                                                            \
     .offset = MLXR_OPENAI_AT(temperature),                                                               \
     .max = 100,                                                                                          \
     .fallback = "1"},                                                                                    \
        {.name = "top_p",                                                                                 \
         .types = MLXR_FIELD_REAL,                                                                        \
         .offset = MLXR_OPENAI_AT(top_p),                                                                 \
         .max = 1,                                                                                        \
         .fallback = "1"},                                                                                \
        {.name = "top_k",                                                                                 \
         .types = MLXR_FIELD_INT,                                                                         \
         .offset = MLXR_OPENAI_AT(top_k),                                                                 \
         .max = 2147483647,                                                                               \
         .help = "0: off; absent: the model's own"},                                                      \
        {.name = "min_p",                                                                                 \
         .types = MLXR_FIELD_REAL,                                                                        \
         .offset = MLXR_OPENAI_AT(min_p),                                                                 \
         .max = 1,                                                                                        \
         .help = "absent: the model's own"},                                                              \
        {.name = "repeat_penalty",                                                                        \
         .types = MLXR_FIELD_REAL,                                                                        \
         .offset = MLXR_OPENAI_AT(repeat_penalty),                                                        \
         .min = 0.001,                                                                                    \
         .max = 100,                                                                                      \
         .help = "absent: the model's own"},                                                              \
        {.name = "options",                                                                               \
         .types = MLXR_FIELD_OBJECT,                                                                      \
         .offset = MLXR_OPENAI_AT(options),                                                               \
         .help = "as in /api/chat: num_ctx and the like; fields of the request go before them"},          \
        {.name = "keep_alive",                                                                            \
         .types = MLXR_FIELD_STRING | MLXR_FIELD_REAL,                                                    \
         .offset = MLXR_FIELD_NOWHERE,                                                                    \
         .take = mlxr_openai_take_keep_alive,                                                             \
         .help =                                                                                          \
             "how long the model stays loaded: seconds, or a duration such as \"5m\"; below 0: forever"}, \
        MLXR_FIELD_RECEIPT
#define MLXR_OPENAI_FIELDS_CLASSIC                                                                         \
    {.name = "seed",                                                                                       \
     .types = MLXR_FIELD_INT,                                                                              \
     .offset = MLXR_OPENAI_AT(seed),                                                                       \
     .help = "below 0 or absent: another each time"},                                                      \
        {.name = "stop",                                                                                   \
         .types = MLXR_FIELD_STRING | MLXR_FIELD_LIST,                                                     \
         .offset = MLXR_FIELD_NOWHERE,                                                                     \
         .take = mlxr_openai_take_stop,                                                                    \
         .help = "texts that end the answer and are cut from it",                                          \
         .schema = "{\"oneOf\":[{\"type\":[\"string\",\"null\"]},{\"type\":\"array\",\"items\":{\"type\":" \
                   "\"string\"},\"maxItems\":64}]}"},                                                      \
        {.name = "frequency_penalty",                                                                      \
         .types = MLXR_FIELD_REAL,                                                                         \
         .offset = MLXR_OPENAI_AT(frequency_penalty),                                                      \
         .min = -100,                                                                                      \
         .max = 100,                                                                                       \
         .fallback = "0"},                                                                                 \
        {.name = "presence_penalty",                                                                       \
         .types = MLXR_FIELD_REAL,                                                                         \
         .offset = MLXR_OPENAI_AT(presence_penalty),                                                       \
         .min = -100,                                                                                      \
         .max = 100,                                                                                       \
         .fallback = "0"},                                                                                 \
        {.name = "logit_bias",                                                                             \
         .types = MLXR_FIELD_OBJECT,                                                                       \
         .offset = MLXR_OPENAI_AT(logit_bias),                                                             \
         .help = "token ids to numbers from -100 to 100, which are added to their logits",                 \
         .schema = "{\"$ref\":\"#/components/schemas/LogitBias\"}"},                                       \
        {.name = "n",                                                                                      \
         .types = MLXR_FIELD_INT,                                                                          \
         .offset = MLXR_OPENAI_AT(n),                                                                      \
         .min = 1,                                                                                         \
         .max = 64,                                                                                        \
         .fallback = "1",                                                                                  \
         .help = "answers; the i-th has seed + i"},                                                        \
    {                                                                                                      \
        .name = "stream_options", .types = MLXR_FIELD_OBJECT, .offset = MLXR_OPENAI_AT(stream_options),    \
        .help = "{\"include_usage\": true}: a last chunk with the usage",                                  \
        .schema = "{\"type\":[\"object\",\"null\"],\"properties\":{\"include_usage\":{\"type\":["          \
                  "\"boolean\",\"null\"]},\"include_obfuscation\":{\"type\":[\"boolean\",\"null\"]}}}"     \
    }
/* Fields of the hosted service. */
#define MLXR_OPENAI_FIELDS_HOSTED                                                                           \
    {                                                                                                       \
        .name = "user", .types = MLXR_FIELD_STRING, .offset = MLXR_FIELD_NOWHERE, .help = "changes nothing" \
    }

mlxr_status mlxr_openai_take_keep_alive(void *into, const mlxr_field *f, const json_t *v, mlxr_error *err);
mlxr_status mlxr_openai_take_stop(void *into, const mlxr_field *f, const json_t *v, mlxr_error *err);

void mlxr_openai_common_init(mlxr_openai_common *c);
/* In read, behind mlxr_fields_read: stream, the model's name, keep_alive, stop, options, n, and the answer's id ("chatcmpl-" and 24 hex
 * digits). */
mlxr_status mlxr_openai_common_read(mlxr_turn *t, mlxr_openai_common *c, const char *id_prefix,
                                    mlxr_error *err);
/* In prepare: sampling. */
mlxr_status mlxr_openai_common_prepare(mlxr_turn *t, mlxr_openai_common *c, double default_temperature,
                                       double default_top_p, mlxr_error *err);
/* Most tokens of the answer: the first of a and b that is there (>= 0), or what options said. */
void mlxr_openai_max_tokens(mlxr_turn *t, int64_t a, int64_t b);
mlxr_status mlxr_openai_warn(mlxr_turn *t, mlxr_error *err, const char *fmt, ...) MLXR_PRINTF(3, 4);

/* reasoning_effort: a word; field: its name. */
mlxr_status mlxr_openai_effort(mlxr_turn *t, const char *word, const char *field, mlxr_error *err);
/* chat_template_kwargs: what switches thinking is taken; the rest goes to the template (in prepare). */
mlxr_status mlxr_openai_template_kwargs(mlxr_turn *t, const json_t *kwargs, mlxr_error *err);
/* In prepare: what a template is given besides, and whether the model thinks as it is asked to. field: of the failure. */
mlxr_status mlxr_openai_thinking(mlxr_turn *t, const json_t *kwargs, const char *field, mlxr_error *err);

/* What the last object of an answer has besides: ,"warnings":[...],"receipt":{...}; nothing where there is neither. */
void mlxr_openai_put_last(mlxr_turn *t, mlxr_buf *out);

/* ---- conversations ---- */

/* messages of the API as the templates know them: content parts joined, "developer" as system, reasoning as reasoning_content, arguments as
 * objects, names of tools found for their results. *out: a new list. */
mlxr_status mlxr_openai_messages(json_t **out, const json_t *messages, mlxr_error *err);
/* tools of chat completions: checked, each a function; choice: tool_choice, or NULL. Into the turn's request. */
mlxr_status mlxr_openai_tools(mlxr_turn *t, const json_t *tools, const json_t *choice, mlxr_error *err);
/* A picture's address, as it may be; MLXR_E_INVALID_ARGUMENT for every one, since no model here sees: only the texts differ. */
mlxr_status mlxr_openai_refuse_image(const json_t *url, const char *where, mlxr_error *err);

extern const mlxr_front mlxr_openai_chat, mlxr_openai_completions, mlxr_openai_embeddings,
    mlxr_openai_responses;
extern const mlxr_fields mlxr_openai_chat_fields, mlxr_openai_completions_fields,
    mlxr_openai_embeddings_fields, mlxr_openai_responses_fields;
void mlxr_openai_list_models(mlxr_request_in *http, void *ud);
void mlxr_openai_get_model(mlxr_request_in *http, void *ud);
void mlxr_openai_no_response(mlxr_request_in *http, void *ud);

#endif
