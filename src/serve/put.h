/* put: pieces of JSON that answers of every API are made of. */
#ifndef MLXR_SERVE_PUT_H
#define MLXR_SERVE_PUT_H

#include "base/json.h"

/* A string as JSON, null for NULL; what is no UTF-8 ends it. */
void mlxr_put_string(mlxr_buf *out, const char *s);
void mlxr_put_string_n(mlxr_buf *out, const char *s, size_t n);
/* ,"key":"s"; nothing for NULL. */
void mlxr_put_text_member(mlxr_buf *out, const char *key, const char *s);
/* ,"key":n; nothing for 0. */
void mlxr_put_count_member(mlxr_buf *out, const char *key, uint64_t n);
/* ,"key":value, compact; nothing for NULL and for an empty list. */
void mlxr_put_json_member(mlxr_buf *out, const char *key, const json_t *value);
/* 2026-01-02T03:04:05.123456789Z of now, without quotes. */
void mlxr_put_time(mlxr_buf *out);
/* 2026-01-02T03:04:05Z, without quotes. */
void mlxr_put_seconds(mlxr_buf *out, int64_t seconds_since_1970);
/* n lower-case hex digits (at most 64), or n of [a-z0-9], at random. */
void mlxr_put_random_hex(mlxr_buf *out, size_t n);
void mlxr_put_random_word(mlxr_buf *out, size_t n);
/* One token of logprobs, {"token":...,"logprob":...,"bytes":[...] without the last brace: what the tokenizer writes for it, its bytes whole
 * even when they are part of a character. tok NULL (the mock): the text is text [n_text]. */
void mlxr_put_logprob(mlxr_buf *out, const mlxr_tokenizer *tok, int32_t id, double logprob, const char *text,
                      size_t n_text);
/* An event's token with its top_logprobs, a whole object. with_top: the list is there when it is empty too. */
void mlxr_put_event_logprob(mlxr_buf *out, const mlxr_tokenizer *tok, const mlxr_event *e, bool with_top);

#endif
