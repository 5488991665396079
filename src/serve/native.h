/* native: Ollama's own API. native.c has what its endpoints share; native_generate.c generate and chat; native_models.c tags, show, ps,
 * copy, delete, blobs, create; native_transfer.c pull and push; native_text.c embed, tokenize and the like. */
#ifndef MLXR_SERVE_NATIVE_H
#define MLXR_SERVE_NATIVE_H

#include "base/parameters.h"
#include "serve/serve.h"

/* {"error": text} */
void mlxr_native_fail(mlxr_request_in *http, int status, const char *text);
void mlxr_native_turn_fail(mlxr_turn *t, const mlxr_turn_error *error);

/* keep_alive: seconds, or a Go duration as text ("5m", "1h30m", "300ms"); below 0 is forever. */
mlxr_status mlxr_native_keep_alive(int64_t *out_ns, const json_t *value, mlxr_error *err);
/* A Go duration in nanoseconds. */
bool mlxr_duration_parse(int64_t *out_ns, const char *text);
/* options: into the turn's request (texts borrowed from `options`); unknown names and those without effect go to t->warnings, if it has
 * any. Of those beyond Ollama's range the nearest that means the same is taken (num_predict -2 is -1). */
mlxr_status mlxr_native_options(mlxr_turn *t, const json_t *options, mlxr_error *err);
/* A warning for the answer. */
mlxr_status mlxr_native_warn(mlxr_turn *t, mlxr_error *err, const char *fmt, ...) MLXR_PRINTF(3, 4);
/* ,"warnings":[...]; nothing when there are none. */
void mlxr_native_put_warnings(const mlxr_turn *t, mlxr_buf *out);
/* What all of /api reads before anything else: the model's name into the turn (missing_status 404 or 400 when there is none, in that
 * case's words) and keep_alive. */
mlxr_status mlxr_native_read_model(mlxr_turn *t, const char *model, int missing_status,
                                   const json_t *keep_alive, mlxr_error *err);
/* A list of integers as token ids, in the turn's arena. what: how messages call it. */
mlxr_status mlxr_native_ids(int32_t **out, size_t *n, mlxr_turn *t, const json_t *list, const char *what,
                            mlxr_error *err);
/* The type of an option as Ollama's messages call it: "integer", "float32", "boolean", "array", "string". */
const char *mlxr_native_option_type(const mlxr_parameter *p);
/* Whether a number below its range counts as the least of it. */
bool mlxr_native_option_is_open(const mlxr_parameter *p);
/* A conversation, in place, into the turn's request in the form that templates know. */
mlxr_status mlxr_native_messages(mlxr_turn *t, const json_t *messages, mlxr_error *err);
/* think: true, false or a level. */
mlxr_status mlxr_native_think(mlxr_think *out, const json_t *value, mlxr_error *err);

/* Whether a vocabulary, of which `has` tells whether a token is in it, has the tokens of a way to fill in the middle. */
bool mlxr_native_knows_fim(bool (*has)(void *ud, const char *token), void *ud);
/* Tokens (int32_t, appended to ids) that make the model write what stands between prompt and suffix; 400 where its vocabulary has no such
 * tokens. */
mlxr_status mlxr_native_fill_in(mlxr_buf *ids, mlxr_turn *t, const char *prompt, const char *suffix,
                                mlxr_error *err);

/* Handlers of routes; ud is the mlxr_serve. */
void mlxr_native_root(mlxr_request_in *http, void *ud);
void mlxr_native_version(mlxr_request_in *http, void *ud);
void mlxr_native_status(mlxr_request_in *http, void *ud);
void mlxr_native_health(mlxr_request_in *http, void *ud);
void mlxr_native_tags(mlxr_request_in *http, void *ud);
void mlxr_native_ps(mlxr_request_in *http, void *ud);
void mlxr_native_copy(mlxr_request_in *http, void *ud);
void mlxr_native_delete(mlxr_request_in *http, void *ud);

extern const mlxr_front mlxr_native_generate, mlxr_native_chat;
extern const mlxr_fields mlxr_native_generate_fields, mlxr_native_chat_fields;

#endif
