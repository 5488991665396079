/* answer_walk: a small vocabulary with a format's markers in it, random walks of a grammar with it, and what the answer
 * parser makes of them. */
#ifndef MLXR_TESTS_ANSWER_WALK_H
#define MLXR_TESTS_ANSWER_WALK_H

#include <stdlib.h>

#include "engine/grammar/tools.h"

enum { WALK_MAX_TOKENS = 400, WALK_MAX_CALLS = 64, WALK_BYTES = 96 };

typedef struct walk_token {
    char text[64];
    size_t n;
    bool special;
} walk_token;

typedef struct walk_vocabulary {
    walk_token t[WALK_MAX_TOKENS];
    size_t n, n_plain; /* those before n_plain are characters */
    mlxr_vocabulary *v;
} walk_vocabulary;

static inline void walk_add(walk_vocabulary *v, const char *text, size_t n, bool special)
{
    if (n == 0 || n >= sizeof v->t[0].text || v->n == WALK_MAX_TOKENS) return;
    for (size_t i = 0; i < v->n; i++)
        if (v->t[i].n == n && v->t[i].special == special && !memcmp(v->t[i].text, text, n)) return;
    memcpy(v->t[v->n].text, text, n);
    v->t[v->n].n = n;
    v->t[v->n++].special = special;
}

/* A marker as one token, or as its tokens <...> and [...] where it has several. */
static inline void walk_add_marker(walk_vocabulary *v, const char *text, bool special)
{
    size_t n = text ? strlen(text) : 0, i, j;
    if (!n) return;
    walk_add(v, text, n, false);
    if (!special) return;
    for (i = 0; i < n; i++) {
        if (text[i] != '<' && text[i] != '[') continue;
        for (j = i + 1; j < n && !strchr("<>[] \n=", text[j]); j++) {
        }
        if (j < n && j > i + 1 && text[j] == (text[i] == '<' ? '>' : ']'))
            walk_add(v, text + i, j + 1 - i, true);
    }
}

static inline void walk_token_bytes(void *ud, int32_t id, mlxr_buf *out)
{
    const walk_vocabulary *v = ud;
    if ((size_t)id >= v->n) return;
    if (v->t[id].special) mlxr_buf_char(out, '\xff');
    mlxr_buf_append(out, v->t[id].text, v->t[id].n);
}

static inline void walk_vocabulary_init(walk_vocabulary *v, const mlxr_answer_format *f, bool special)
{
    static const char *const more[] = {
        "\n", "\t", "é", "日", "😀", "  ", "\":", "true", "null", "{\"", "\"}", "｜", "▁"};
    mlxr_vocabulary_params p = {0};
    mlxr_error err;
    size_t i;

    memset(v, 0, sizeof *v);
    for (char c = 0x20; c < 0x7f; c++) walk_add(v, &c, 1, false);
    for (i = 0; i < MLXR_COUNT(more); i++) walk_add(v, more[i], strlen(more[i]), false);
    v->n_plain = v->n;
    if (f) {
        const char *marks[] = {f->think_open,
                               f->think_close,
                               f->calls_open,
                               f->calls_close,
                               f->call_open,
                               f->call_close,
                               f->calls_open_other,
                               f->name_open,
                               f->name_close,
                               f->key_open,
                               f->key_close,
                               f->value_open,
                               f->value_close,
                               f->body_close,
                               f->name_prefix,
                               f->arguments_close,
                               f->id_open,
                               f->layout.head,
                               f->layout.middle,
                               f->layout.tail,
                               f->layout.calls_open,
                               f->layout.calls_close,
                               f->layout.think_open,
                               f->layout.think_close,
                               f->layout.content_open,
                               f->layout.content_close,
                               f->layout.before};
        for (i = 0; i < MLXR_COUNT(marks); i++) walk_add_marker(v, marks[i], special);
        for (i = 0; i < MLXR_ANSWER_MAX_DROPPED && f->dropped[i]; i++)
            walk_add_marker(v, f->dropped[i], special);
    }
    if (f && f->values == MLXR_VALUES_BRACED) walk_add(v, "<|\"|>", 5, special);
    p.vocab_size = v->n;
    p.bytes = walk_token_bytes;
    p.ud = v;
    if (mlxr_vocabulary_create(&v->v, &p, &err) != MLXR_OK) abort();
}

/* ---- what came of it ---- */

typedef struct walk_call {
    char name[128];
    mlxr_buf arguments;
} walk_call;

typedef struct walk_result {
    mlxr_buf text; /* as the model's, special tokens behind 0xff */
    mlxr_buf content, thinking;
    walk_call calls[WALK_MAX_CALLS];
    size_t n_calls, n_warnings;
    char warning[256];
    bool ended; /* the grammar let it */
} walk_result;

static inline void walk_on_part(const mlxr_part_event *e, void *ud)
{
    walk_result *r = ud;
    if (e->warning) {
        r->n_warnings++;
        snprintf(r->warning, sizeof r->warning, "%s", e->warning);
    }
    if (e->part == MLXR_PART_CONTENT) mlxr_buf_append(&r->content, e->text, e->n_text);
    if (e->part == MLXR_PART_THINKING) mlxr_buf_append(&r->thinking, e->text, e->n_text);
    if (e->part == MLXR_PART_TOOL_CALL && e->ends && r->n_calls < WALK_MAX_CALLS) {
        walk_call *c = &r->calls[r->n_calls++];
        snprintf(c->name, sizeof c->name, "%s", e->name);
        mlxr_buf_str(&c->arguments, e->arguments_json);
    }
}

static inline void walk_result_clear(walk_result *r)
{
    mlxr_buf_clear(&r->text);
    mlxr_buf_clear(&r->content);
    mlxr_buf_clear(&r->thinking);
    for (size_t i = 0; i < r->n_calls; i++) mlxr_buf_clear(&r->calls[i].arguments);
    memset(r, 0, sizeof *r);
}

static inline uint32_t walk_random(uint64_t *seed, uint32_t n)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33) % n;
}

/* Markers and what closes JSON are likelier than characters, and more so as the answer grows. */
static inline uint32_t walk_weight(const walk_token *t, size_t i, const walk_vocabulary *v, size_t n_so_far)
{
    bool closes = t->n == 1 && strchr("\"}])\n", t->text[0]);
    if (i >= v->n_plain) return n_so_far > 60 ? 4000 : 40;
    if (closes) return n_so_far > 120 ? 100000 : n_so_far > 40 ? 1000 : 60;
    if (t->n == 1 && t->text[0] == '\\') return 2;
    return 10;
}

/* Walks g at random until it ends; the parser reads along. false: it did not end within max_tokens. */
static inline bool walk_once(walk_result *r, mlxr_masker *k, const walk_vocabulary *v,
                             mlxr_answer_parser *parser, uint64_t seed, size_t max_tokens)
{
    mlxr_matcher *m = NULL;
    mlxr_error err;
    const uint32_t *mask;
    size_t n;

    memset(r, 0, sizeof *r);
    if (mlxr_matcher_create(&m, k, &err) != MLXR_OK) abort();
    for (n = 0; n < max_tokens; n++) {
        uint64_t total = 0, at;
        size_t i;
        if (mlxr_matcher_must_end(m) ||
            (mlxr_matcher_may_end(m) && walk_random(&seed, n > 100 ? 2 : 12) == 0)) {
            r->ended = true;
            break;
        }
        if (mlxr_matcher_mask(&mask, m, &err) != MLXR_OK) abort();
        for (i = 0; i < v->n; i++)
            if (mask[i / 32] >> i % 32 & 1) total += walk_weight(&v->t[i], i, v, n);
        if (!total) {
            r->ended = mlxr_matcher_may_end(m);
            break;
        }
        at = ((uint64_t)walk_random(&seed, 1u << 30) << 20 | walk_random(&seed, 1u << 20)) % total;
        for (i = 0; i < v->n; i++) {
            uint32_t weight = walk_weight(&v->t[i], i, v, n);
            if (!(mask[i / 32] >> i % 32 & 1)) continue;
            if (at < weight) break;
            at -= weight;
        }
        if (mlxr_matcher_accept(m, (int32_t)i, &err) != MLXR_OK) abort();
        if (v->t[i].special) mlxr_buf_char(&r->text, '\xff');
        mlxr_buf_append(&r->text, v->t[i].text, v->t[i].n);
        if (parser &&
            mlxr_answer_parser_push(parser, v->t[i].text, v->t[i].n, v->t[i].special, &err) != MLXR_OK)
            abort();
    }
    if (parser && mlxr_answer_parser_finish(parser, &err) != MLXR_OK) abort();
    mlxr_matcher_free(m);
    return r->ended;
}

#endif
