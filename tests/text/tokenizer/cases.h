/* What the tests of fixtures and of the shared cases have in common: encoding, decoding at once and as a stream,
 * each compared with what the reference gave. */
#ifndef MLXR_TEST_TOKENIZER_CASES_H
#define MLXR_TEST_TOKENIZER_CASES_H

#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/json.h"

typedef struct tally {
    size_t passed, failed;
} tally;

static inline void judge(tally *t, bool good, const char *name, size_t i, const char *what, const char *more)
{
    if (good) {
        t->passed++;
    } else if (t->failed++ < 20) {
        printf("FAIL %s, case %zu: %s%s%s\n", name, i, what, more ? ": " : "", more ? more : "");
    }
}

/* Decodes ids in one go, and token by token with every piece checked to be whole characters. */
static inline void check_decode(tally *t, const mlxr_tokenizer *tok, const int32_t *ids, size_t n, bool skip,
                                const json_t *want, const char *name, size_t i)
{
    mlxr_error err = {0};
    char *text = NULL;
    const char *piece;
    size_t n_text = 0, n_piece;
    mlxr_buf all = {0};
    mlxr_detokenizer *d = NULL;
    bool good = mlxr_tokenizer_decode(&text, &n_text, tok, ids, n, skip, &err) == MLXR_OK, whole = true;

    judge(t, good && n_text == json_string_length(want) && memcmp(text, json_string_value(want), n_text) == 0,
          name, i, skip ? "decode_skip" : "decode", good ? text : err.message);
    if (mlxr_detokenizer_create(&d, tok, skip, &err) == MLXR_OK) {
        for (size_t k = 0; k <= n; k++) {
            if (k < n)
                good = mlxr_detokenizer_push(d, ids[k], &piece, &n_piece, &err) == MLXR_OK;
            else
                good = mlxr_detokenizer_finish(d, &piece, &n_piece, &err) == MLXR_OK;
            whole = whole && good && mlxr_utf8_valid(piece, n_piece) == n_piece;
            mlxr_buf_append(&all, piece, n_piece);
        }
    }
    judge(t, whole && all.len == n_text && (n_text == 0 || memcmp(all.data, text, n_text) == 0), name, i,
          "stream differs from decode", all.data);
    mlxr_detokenizer_free(d);
    mlxr_buf_clear(&all);
    mlxr_free(text);
}

static inline int32_t *read_ids(const json_t *list, size_t *n)
{
    int32_t *ids;
    *n = json_array_size(list);
    ids = calloc(*n + 1, sizeof *ids);
    for (size_t k = 0; ids && k < *n; k++) {
        json_int_t v = json_integer_value(json_array_get(list, k));
        ids[k] = v > INT32_MAX ? -1 : (int32_t)v;
    }
    return ids;
}

/* One case, in the form of the shared cases and of the fixtures; special: the key of add_special_tokens. */
static inline void check_case(tally *t, const mlxr_tokenizer *tok, const json_t *c, const char *special,
                              const char *name, size_t i)
{
    const json_t *text = json_object_get(c, "text"), *pair = json_object_get(c, "pair"),
                 *ids = json_object_get(c, "ids");
    mlxr_error err = {0};
    size_t n_want, n = 0;
    int32_t *want = read_ids(ids, &n_want), *got = NULL;

    if (text) {
        bool add = json_is_true(json_object_get(c, special));
        mlxr_status st;
        if (json_is_string(pair)) {
            mlxr_text_pair p = {json_string_value(text), json_string_value(pair), json_string_length(text),
                                json_string_length(pair)};
            st = mlxr_tokenizer_encode_pair(&got, &n, tok, &p, add, &err);
        } else {
            st = mlxr_tokenizer_encode(&got, &n, tok, json_string_value(text), json_string_length(text), add,
                                       &err);
        }
        if (!json_is_array(ids))
            judge(t, st != MLXR_OK, name, i, "an error was due", json_string_value(text));
        else
            judge(t, st == MLXR_OK && n == n_want && (n == 0 || memcmp(got, want, n * sizeof *got) == 0),
                  name, i, "encode", st == MLXR_OK ? json_string_value(text) : err.message);
    }
    if (json_is_array(ids)) {
        check_decode(t, tok, want, n_want, false, json_object_get(c, "decoded"), name, i);
        check_decode(t, tok, want, n_want, true, json_object_get(c, "decoded_skip"), name, i);
    }
    free(want);
    mlxr_free(got);
}

/* A file of cases, one a line. */
static inline void check_lines(tally *t, const mlxr_tokenizer *tok, const char *path, const char *name)
{
    mlxr_error err = {0};
    mlxr_buf text = {0};
    size_t at = 0;

    judge(t, mlxr_file_read(&text, path, (size_t)1 << 30, &err) == MLXR_OK, name, 0, "read the cases", path);
    for (size_t i = 1; at < text.len; i++) {
        const char *nl = memchr(text.data + at, '\n', text.len - at);
        size_t end = nl ? (size_t)(nl - text.data) : text.len;
        json_t *c = NULL;
        if (end > at) {
            judge(t, mlxr_json_parse(&c, text.data + at, end - at, path, &err) == MLXR_OK, name, i, "parse",
                  err.message);
            check_case(t, tok, c, "add_special_tokens", name, i);
            json_decref(c);
        }
        at = end + 1;
    }
    mlxr_buf_clear(&text);
}

#endif
