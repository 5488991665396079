/* Runs the parser over a text cut in some way and writes down what it gives out, neighbours of one kind joined: two runs are the
 * same when their notes are the same bytes. For tests and the fuzz target. */
#ifndef MLXR_TEST_COLLECT_H
#define MLXR_TEST_COLLECT_H

#include "base/base.h"
#include "text/answers/answers.h"

/* A note is a letter, its text, and a 0x1e: C content, H thinking, ! a warning, P pieces of a call that have come (of which
 * then `=` is the end), = NAME 0x1f ID 0x1f JSON 0x1f RAW. */
typedef struct collected {
    mlxr_buf notes;
    char last;
    size_t i_call;
    mlxr_buf pieces;
    const char *wrong; /* what broke the rules of answers.h */
} collected;

static inline void collect_begin(collected *c, char kind)
{
    if (c->last) mlxr_buf_char(&c->notes, 0x1e);
    mlxr_buf_char(&c->notes, kind);
    c->last = kind;
}

static inline void collect_part(const mlxr_part_event *e, void *ud)
{
    collected *c = ud;

    if (e->text[e->n_text] != '\0') c->wrong = "a text without its NUL";
    if (e->part == MLXR_PART_TOOL_CALL) {
        if (e->i_call != c->i_call) c->wrong = "a call out of turn";
        if (!e->name || !*e->name) c->wrong = "a call without a name";
        if (c->last != 'P') {
            c->pieces.len = 0;
            collect_begin(c, 'P');
        }
        mlxr_buf_append(&c->notes, e->text, e->n_text);
        mlxr_buf_append(&c->pieces, e->text, e->n_text);
        if (!e->ends) return;
        if (!e->arguments_raw || !e->arguments_json || e->arguments_json[0] != '{')
            c->wrong = "a call without arguments";
        collect_begin(c, '=');
        mlxr_buf_printf(&c->notes, "%s\x1f%s\x1f%s\x1f%s", e->name, e->id ? e->id : "", e->arguments_json,
                        e->arguments_raw);
        c->i_call++;
        return;
    }
    if (!e->n_text) c->wrong = "an empty part";
    if (e->warning) {
        if (e->part != MLXR_PART_CONTENT) c->wrong = "a warning that is not content's";
        collect_begin(c, '!');
        mlxr_buf_str(&c->notes, e->warning);
    }
    char kind = e->part == MLXR_PART_CONTENT ? 'C' : 'H';
    if (c->last != kind) collect_begin(c, kind);
    mlxr_buf_append(&c->notes, e->text, e->n_text);
}

static inline void collect_clear(collected *c)
{
    mlxr_buf_clear(&c->notes);
    mlxr_buf_clear(&c->pieces);
    memset(c, 0, sizeof *c);
}

/* The length of the next piece, at least 1. */
typedef size_t (*collect_cut)(void *ud, size_t at, size_t left);

static inline mlxr_status collect_run(collected *c, const mlxr_answer_parser_options *o, const char *text,
                                      size_t n, collect_cut cut, void *ud, mlxr_error *err)
{
    mlxr_answer_parser_options options = *o;
    mlxr_answer_parser *p = NULL;
    mlxr_status st;

    memset(c, 0, sizeof *c);
    options.on_part = collect_part;
    options.ud = c;
    st = mlxr_answer_parser_create(&p, &options, err);
    for (size_t at = 0; st == MLXR_OK && at < n;) {
        size_t k = cut ? cut(ud, at, n - at) : n;
        if (k > n - at) k = n - at;
        /* A copy of its own, so that a read past the piece is seen. */
        char *piece = mlxr_strndup(text + at, k);
        if (!piece) st = MLXR_E_NOMEM;
        if (piece) st = mlxr_answer_parser_push(p, piece, k, false, err);
        mlxr_free(piece);
        at += k;
    }
    if (st == MLXR_OK) st = mlxr_answer_parser_finish(p, err);
    mlxr_answer_parser_free(p);
    mlxr_buf_append(&c->notes, "", 0);
    return st;
}

#endif
