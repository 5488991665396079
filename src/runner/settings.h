/* settings: what mlxr.json of a model folder says about answering: the part of a recipe that is no weights, no tokenizer and no template.
 *
 *   { "mlxr": 1,
 *     "system": "You are short of words.",        of requests that have no system text
 *     "parameters": { "temperature": 0.3, "stop": ["###"], "num_ctx": 4096 },      by the names of base/parameters.h
 *     "messages": [ {"role": "user", "content": "Hi"}, ... ],       behind the system text, before the conversation
 *     "metadata": { "team": "search" } }
 *
 * Every member but "mlxr" may be absent; unknown ones are passed over. Immutable once read: threads share it. */
#ifndef MLXR_SETTINGS_H
#define MLXR_SETTINGS_H

#include "base/json.h"

typedef struct mlxr_settings {
    json_t *doc;              /* NULL: the folder has none. What follows is borrowed from it */
    const char *system;       /* or NULL */
    const json_t *messages;   /* a list, or NULL */
    const json_t *parameters; /* an object, each in its own form, or NULL */
    const char **stop, **breakers;
    size_t n_stop, n_breakers;
    mlxr_logit_bias *biases;
    size_t n_biases;
    size_t context_length; /* 0: nothing is said */
} mlxr_settings;

/* Absent is fine. *out is cleared by the caller in either case; init to {0}. */
mlxr_status mlxr_settings_read(mlxr_settings *out, const char *dir, mlxr_error *err);
void mlxr_settings_clear(mlxr_settings *s);

/* Sampling parameters over those of *out, whose arrays are then the settings'. */
void mlxr_settings_sampling(const mlxr_settings *s, mlxr_sampling *out);
/* Those and max_tokens, num_keep and overflow; stop strings are not touched, since mlxr_settings_request adds them. */
void mlxr_settings_apply(const mlxr_settings *s, mlxr_request *r);
/* What every request gets, in *out, a copy of r: its stop strings and the settings' (*stops: free it behind the request), and
 * max_tokens, num_keep and overflow where r has what mlxr_request_default gives. */
mlxr_status mlxr_settings_request(const mlxr_settings *s, mlxr_request *out, const char ***stops,
                                  const mlxr_request *r, mlxr_error *err);
/* System text and messages into a conversation, a list of messages that the caller alone has. has_system: the request says what the
 * system text is, though the list has none. */
mlxr_status mlxr_settings_messages(const mlxr_settings *s, json_t *messages, bool has_system,
                                   mlxr_error *err);

/* Of the model that an engine runs, borrowed until it is closed. */
const mlxr_settings *mlxr_engine_settings(const mlxr_engine *engine);

#endif
