/* Decoders, as streams: a token goes through the stages as far as no later token can change what it gives, and
 * what waits is kept in the stage that has to wait. So decoding at once and decoding token by token are the same
 * code.
 *
 * Behind Fuse and ByteLevel the tokens are one: a stage there gets chunks of it (whole characters) and then its
 * end. Where the reference would stop with a panic (Strip of more than a token has) this strips what is there. */
#include <stdlib.h>

#include "text/tokenizer/config.h"

typedef enum dec_type {
    DEC_BPE,
    DEC_BYTE_LEVEL,
    DEC_WORDPIECE,
    DEC_METASPACE,
    DEC_CTC,
    DEC_REPLACE,
    DEC_FUSE,
    DEC_STRIP,
    DEC_BYTE_FALLBACK,
    DEC_SEQUENCE
} dec_type;
static const char *const type_names[] = {"BPEDecoder", "ByteLevel", "WordPiece", "Metaspace",    "CTC",
                                         "Replace",    "Fuse",      "Strip",     "ByteFallback", "Sequence"};

typedef struct dec_stage {
    dec_type type;
    bool fused;  /* gets chunks of one token */
    char *a, *b; /* suffix; prefix; pad and delimiter; the replacement */
    size_t n_a, n_b;
    tok_pattern *pattern; /* Replace */
    char *literal;        /* Replace of a plain string: for chunks */
    size_t n_literal;
    uint32_t c; /* Metaspace, Strip */
    size_t start, stop;
    bool cleanup, drop_first; /* Metaspace: the first token's replacements vanish */
} dec_stage;

struct tok_decoder {
    dec_stage *stages;
    size_t n, cap;
};

static mlxr_status keep(char **out, size_t *n_out, const tok_cfg *c, const char *key, mlxr_error *err)
{
    tok_str s = {0};
    mlxr_status st = tok_cfg_str(&s, c, key, true, err);
    if (st != MLXR_OK) return st;
    *out = mlxr_strndup(s.s, s.n);
    *n_out = s.n;
    return *out ? MLXR_OK : mlxr_fail_nomem(err, "tokenizer: decoder");
}

static mlxr_status add_stages(tok_decoder *d, const tok_cfg *c, mlxr_error *err)
{
    static const char *const schemes[] = {"first", "never", "always"};
    dec_stage *s;
    size_t type, n, scheme = 2;
    bool prefix = true;
    mlxr_status st = tok_cfg_type(&type, c, "a decoder", type_names, MLXR_COUNT(type_names), err);

    if (st != MLXR_OK) return st;
    if (type == DEC_SEQUENCE) {
        tok_cfg list = tok_cfg_get(c, "decoders");
        if ((st = tok_cfg_array(&list, &n, err)) != MLXR_OK) return st;
        for (size_t i = 0; i < n; i++) {
            tok_cfg item = tok_cfg_at(&list, i);
            if ((st = add_stages(d, &item, err)) != MLXR_OK) return st;
        }
        return MLXR_OK;
    }
    if (d->n == TOK_MAX_STAGES)
        return mlxr_fail(err, MLXR_E_LIMIT, "tokenizer: %s: %s: more than %d decoders", c->file, c->path,
                         TOK_MAX_STAGES);
    s = &d->stages[d->n++];
    *s = (dec_stage){.type = (dec_type)type};
    for (size_t i = 0; i + 1 < d->n; i++)
        s->fused |= d->stages[i].type == DEC_FUSE || d->stages[i].type == DEC_BYTE_LEVEL;
    switch (s->type) {
    case DEC_BPE: return keep(&s->a, &s->n_a, c, "suffix", err);
    case DEC_WORDPIECE:
        if ((st = tok_cfg_bool(&s->cleanup, c, "cleanup", true, err)) != MLXR_OK) return st;
        return keep(&s->a, &s->n_a, c, "prefix", err);
    case DEC_METASPACE:
        if ((st = tok_cfg_char(&s->c, c, "replacement", err)) != MLXR_OK) return st;
        if ((st = tok_cfg_choice(&scheme, c, "prepend_scheme", schemes, 3, false, err)) != MLXR_OK) return st;
        if ((st = tok_cfg_bool(&prefix, c, "add_prefix_space", false, err)) != MLXR_OK) return st;
        s->drop_first = scheme != 1 && prefix;
        return MLXR_OK;
    case DEC_CTC:
        if ((st = tok_cfg_bool(&s->cleanup, c, "cleanup", true, err)) != MLXR_OK) return st;
        if ((st = keep(&s->a, &s->n_a, c, "pad_token", err)) != MLXR_OK) return st;
        return keep(&s->b, &s->n_b, c, "word_delimiter_token", err);
    case DEC_REPLACE: {
        tok_cfg pattern = tok_cfg_get(c, "pattern"), string = tok_cfg_get(&pattern, "String");
        if ((st = tok_cfg_pattern(&s->pattern, c, "pattern", err)) != MLXR_OK) return st;
        if (string.j && (st = keep(&s->literal, &s->n_literal, &pattern, "String", err)) != MLXR_OK)
            return st;
        return keep(&s->a, &s->n_a, c, "content", err);
    }
    case DEC_STRIP:
        if ((st = tok_cfg_char(&s->c, c, "content", err)) != MLXR_OK) return st;
        if ((st = tok_cfg_size(&s->start, c, "start", true, err)) != MLXR_OK) return st;
        return tok_cfg_size(&s->stop, c, "stop", true, err);
    default: return MLXR_OK;
    }
}

mlxr_status tok_decoder_create(tok_decoder **out, const json_t *config, const char *file, mlxr_error *err)
{
    tok_cfg c = tok_cfg_root(config, file, "decoder");
    tok_decoder *d;
    mlxr_status st;

    *out = NULL;
    if (tok_cfg_is_null(&c)) return MLXR_OK;
    d = calloc(1, sizeof *d);
    if (d) d->stages = mlxr_calloc_array(TOK_MAX_STAGES, sizeof *d->stages);
    if (!d || !d->stages) {
        free(d);
        return mlxr_fail_nomem(err, "tokenizer: decoder");
    }
    st = add_stages(d, &c, err);
    if (st == MLXR_OK) {
        *out = d;
        d = NULL;
    }
    tok_decoder_free(d);
    return st;
}

void tok_decoder_free(tok_decoder *d)
{
    if (!d) return;
    for (size_t i = 0; i < d->n; i++) {
        tok_pattern_free(d->stages[i].pattern);
        free(d->stages[i].literal);
        free(d->stages[i].a);
        free(d->stages[i].b);
    }
    free(d->stages);
    free(d);
}

/* ---- state ---- */

typedef struct stage_state {
    mlxr_buf hold, text; /* what waits; the stage's output */
    size_t n_tokens;     /* seen */
    size_t cut;          /* Strip of chunks: how many were stripped at the start */
    bool past;           /* Strip: something else came; ByteFallback: it is no byte token */
    tok_matches matches;
} stage_state;

struct tok_decode_state {
    const tok_decoder *d;
    stage_state *stages;
    size_t n_tokens;
    mlxr_buf *out;
    mlxr_error *err;
};

mlxr_status tok_decode_begin(tok_decode_state **out, const tok_decoder *d, mlxr_error *err)
{
    tok_decode_state *s = calloc(1, sizeof *s);
    *out = NULL;
    if (s) s->stages = mlxr_calloc_array(d ? d->n : 0, sizeof *s->stages);
    if (!s || !s->stages) {
        free(s);
        return mlxr_fail_nomem(err, "tokenizer: decoding");
    }
    s->d = d;
    *out = s;
    return MLXR_OK;
}

void tok_decode_reset(tok_decode_state *s)
{
    for (size_t i = 0; s->d && i < s->d->n; i++) {
        stage_state *t = &s->stages[i];
        t->hold.len = t->text.len = 0;
        t->hold.failed = t->text.failed = false;
        t->n_tokens = t->cut = 0;
        t->past = false;
    }
    s->n_tokens = 0;
}

void tok_decode_free(tok_decode_state *s)
{
    if (!s) return;
    for (size_t i = 0; s->d && i < s->d->n; i++) {
        mlxr_buf_clear(&s->stages[i].hold);
        mlxr_buf_clear(&s->stages[i].text);
        tok_matches_clear(&s->stages[i].matches);
    }
    free(s->stages);
    free(s);
}

/* ---- pieces of text ---- */

static bool starts(const char *s, size_t n, const char *with, size_t n_with)
{
    return n >= n_with && (n_with == 0 || (s && with && memcmp(s, with, n_with) == 0));
}

static bool ends(const char *s, size_t n, const char *with, size_t n_with)
{
    return n >= n_with && starts(s ? s + n - n_with : s, n_with, with, n_with);
}

/* Every `from` becomes `to`; an empty `from` stands between all characters and at both ends. */
static void replace_all(mlxr_buf *out, const char *s, size_t n, const char *from, size_t n_from,
                        const char *to, size_t n_to)
{
    size_t i = 0;
    if (!n_from) {
        for (; i < n; i += tok_char_len(s + i)) {
            mlxr_buf_append(out, to, n_to);
            mlxr_buf_append(out, s + i, tok_char_len(s + i));
        }
        mlxr_buf_append(out, to, n_to);
        return;
    }
    while (i < n) {
        const char *hit = memmem(s + i, n - i, from, n_from);
        size_t at = hit ? (size_t)(hit - s) : n;
        mlxr_buf_append(out, s + i, at - i);
        if (hit) mlxr_buf_append(out, to, n_to);
        i = at + (hit ? n_from : 0);
    }
}

/* The reference's cleanup of English punctuation, one replacement after the other. */
static void cleanup(mlxr_buf *b, mlxr_buf *spare)
{
    static const char *const pairs[][2] = {
        {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
        {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (size_t i = 0; i < MLXR_COUNT(pairs); i++) {
        mlxr_buf swap;
        if (!b->len || !memmem(b->data, b->len, pairs[i][0], strlen(pairs[i][0]))) continue;
        spare->len = 0;
        replace_all(spare, b->data, b->len, pairs[i][0], strlen(pairs[i][0]), pairs[i][1],
                    strlen(pairs[i][1]));
        swap = *b;
        *b = *spare;
        *spare = swap;
    }
}

/* <0xNN>: its byte, or -1. A sign is taken as Rust's from_str_radix takes it. */
static int byte_token(const char *s, size_t n)
{
    int v = 0, k = 3;
    if (n != 6 || !s || memcmp(s, "<0x", 3) != 0 || s[5] != '>') return -1;
    if (s[3] == '+') k = 4;
    for (; k < 5; k++) {
        char c = s[k];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0) return -1;
        v = v * 16 + d;
    }
    return v;
}

/* A token's bytes, if all its characters stand for bytes; else its text. */
static void token_bytes(mlxr_buf *out, const char *s, size_t n)
{
    size_t mark = out->len;
    const char *p = s, *end = s + n;
    char *to = mlxr_buf_reserve(out, n);
    if (!to) return;
    while (p < end) {
        int b = tok_char_to_byte(tok_next(&p));
        if (b < 0) {
            out->len = mark;
            mlxr_buf_append(out, s, n);
            return;
        }
        *to++ = (char)b;
        out->len++;
    }
    out->data[out->len] = '\0';
}

/* Moves what is certain of the bytes in `hold` to out, bytes that are no UTF-8 as U+FFFD, one for each longest
 * start of a character; the start of one that may go on stays, unless `last`. */
static void lossy(mlxr_buf *out, mlxr_buf *hold, bool last)
{
    size_t i = 0;
    while (i < hold->len) {
        const char *s = hold->data + i;
        size_t left = hold->len - i, k = mlxr_utf8_valid(s, left);
        if (k) {
            mlxr_buf_append(out, s, k);
            i += k;
            continue;
        }
        if (!last && left < 4 && mlxr_utf8_is_partial(s, left)) break;
        for (k = left < 3 ? left : 3; k > 1 && !mlxr_utf8_is_partial(s, k);) k--;
        mlxr_buf_utf8(out, 0xfffd);
        i += k;
    }
    if (i) memmove(hold->data, hold->data + i, hold->len - i);
    hold->len -= i;
}

/* ---- stages ---- */

static mlxr_status token(tok_decode_state *s, size_t i, const char *t, size_t n);
static mlxr_status chunk(tok_decode_state *s, size_t i, const char *t, size_t n);

static mlxr_status check(const mlxr_buf *b, mlxr_error *err)
{
    return b->failed ? mlxr_fail_nomem(err, "tokenizer: decoding") : MLXR_OK;
}

/* A stage's text, to the next one. */
static mlxr_status pass(tok_decode_state *s, size_t i, const mlxr_buf *b)
{
    bool fused = s->d->stages[i].fused;
    if (b->failed) return check(b, s->err);
    return fused ? chunk(s, i + 1, b->data ? b->data : "", b->len)
                 : token(s, i + 1, b->data ? b->data : "", b->len);
}

static void strip_token(const dec_stage *d, const char **t, size_t *n)
{
    char c[4];
    size_t n_c = mlxr_utf8_encode(c, d->c);
    for (size_t k = 0; k < d->start && starts(*t, *n, c, n_c); k++) {
        *t += n_c;
        *n -= n_c;
    }
    for (size_t k = 0; k < d->stop && ends(*t, *n, c, n_c); k++) *n -= n_c;
}

static mlxr_status flush_bytes(tok_decode_state *s, size_t i)
{
    mlxr_buf *hold = &s->stages[i].hold;
    size_t n = hold->len;
    mlxr_status st = MLXR_OK;
    hold->len = 0;
    if (!n) return MLXR_OK;
    if (mlxr_utf8_valid(hold->data, n) == n) return token(s, i + 1, hold->data, n);
    for (size_t k = 0; k < n && st == MLXR_OK; k++) st = token(s, i + 1, "\xef\xbf\xbd", 3);
    return st;
}

static void ctc(const dec_stage *d, stage_state *t, const char *s, size_t n, mlxr_buf *spare)
{
    replace_all(&t->text, s, n, d->a, d->n_a, "", 0);
    if (!d->cleanup) return;
    cleanup(&t->text, spare);
    spare->len = 0;
    replace_all(spare, t->text.data ? t->text.data : "", t->text.len, d->b, d->n_b, " ", 1);
    t->text.len = 0;
    mlxr_buf_append(&t->text, spare->data, spare->len);
    t->text.failed |= spare->failed;
}

static mlxr_status token(tok_decode_state *s, size_t i, const char *t, size_t n)
{
    const dec_stage *d;
    stage_state *g;
    mlxr_buf spare = {0};
    mlxr_status st = MLXR_OK;
    size_t index;
    int b;

    if (!s->d || i == s->d->n) {
        mlxr_buf_append(s->out, t, n);
        return check(s->out, s->err);
    }
    d = &s->d->stages[i];
    g = &s->stages[i];
    index = g->n_tokens++;
    g->text.len = 0;
    switch (d->type) {
    case DEC_FUSE: return chunk(s, i + 1, t, n);
    case DEC_BYTE_LEVEL:
        token_bytes(&g->hold, t, n);
        lossy(&g->text, &g->hold, false);
        if (g->hold.failed || g->text.failed) return mlxr_fail_nomem(s->err, "tokenizer: decoding");
        return chunk(s, i + 1, g->text.data ? g->text.data : "", g->text.len);
    case DEC_BYTE_FALLBACK:
        b = byte_token(t, n);
        if (b >= 0) {
            mlxr_buf_char(&g->hold, (char)b);
            return check(&g->hold, s->err);
        }
        if ((st = flush_bytes(s, i)) != MLXR_OK) return st;
        return token(s, i + 1, t, n);
    case DEC_STRIP: strip_token(d, &t, &n); return token(s, i + 1, t, n);
    case DEC_REPLACE:
        st = tok_pattern_replace(&g->text, d->pattern, &g->matches, t, n, (tok_str){d->a, d->n_a}, s->err);
        return st == MLXR_OK ? pass(s, i, &g->text) : st;
    case DEC_METASPACE:
        for (const char *p = t, *end = t + n; p < end;) {
            const char *at = p;
            uint32_t c = tok_next(&p);
            if (c != d->c)
                mlxr_buf_append(&g->text, at, (size_t)(p - at));
            else if (index > 0 || !d->drop_first)
                mlxr_buf_char(&g->text, ' ');
        }
        return pass(s, i, &g->text);
    case DEC_WORDPIECE:
        if (index > 0) {
            if (starts(t, n, d->a, d->n_a))
                t += d->n_a, n -= d->n_a;
            else
                mlxr_buf_char(&g->text, ' ');
        }
        mlxr_buf_append(&g->text, t, n);
        if (d->cleanup) cleanup(&g->text, &spare);
        break;
    case DEC_BPE: /* the last token is another case, so each waits for the next */
        if (index > 0) {
            replace_all(&g->text, g->hold.data, g->hold.len, d->a, d->n_a, " ", 1);
            st = pass(s, i, &g->text);
        }
        g->hold.len = 0;
        mlxr_buf_append(&g->hold, t, n);
        return st != MLXR_OK ? st : check(&g->hold, s->err);
    case DEC_CTC:
        if (index > 0 && g->hold.len == n && starts(g->hold.data, n, t, n)) return MLXR_OK;
        g->hold.len = 0;
        mlxr_buf_append(&g->hold, t, n);
        ctc(d, g, t, n, &spare);
        if (!g->text.len && !g->text.failed && !spare.failed) {
            mlxr_buf_clear(&spare);
            return MLXR_OK;
        }
        break;
    case DEC_SEQUENCE: break;
    }
    st = spare.failed ? mlxr_fail_nomem(s->err, "tokenizer: decoding") : pass(s, i, &g->text);
    mlxr_buf_clear(&spare);
    return st;
}

/* Replaces in what waits of one long token; a start of the literal at the end waits on. */
static void replace_stream(const dec_stage *d, stage_state *g, const char *from, size_t n_from, bool last)
{
    mlxr_buf *h = &g->hold;
    size_t i = 0;
    const char *hit;
    if (!h->data) return;
    while (h->len - i >= n_from && (hit = memmem(h->data + i, h->len - i, from, n_from)) != NULL) {
        mlxr_buf_append(&g->text, h->data + i, (size_t)(hit - h->data) - i);
        if (d->type == DEC_REPLACE) mlxr_buf_append(&g->text, d->a, d->n_a);
        i = (size_t)(hit - h->data) + n_from;
    }
    while (i < h->len) {
        size_t left = h->len - i, k = left < n_from ? left : n_from;
        if (!last && k == left && memcmp(h->data + i, from, k) == 0) break;
        k = tok_char_len(h->data + i);
        mlxr_buf_append(&g->text, h->data + i, k);
        i += k;
    }
    if (i) memmove(h->data, h->data + i, h->len - i);
    h->len -= i;
}

static mlxr_status chunk(tok_decode_state *s, size_t i, const char *t, size_t n)
{
    const dec_stage *d;
    stage_state *g;
    char c[4];
    size_t n_c, k;

    if (i == s->d->n) {
        mlxr_buf_append(s->out, t, n);
        return check(s->out, s->err);
    }
    d = &s->d->stages[i];
    g = &s->stages[i];
    g->text.len = 0;
    switch (d->type) {
    case DEC_FUSE: return chunk(s, i + 1, t, n);
    case DEC_METASPACE:
        for (const char *p = t, *end = t + n; p < end;) {
            const char *at = p;
            uint32_t cp = tok_next(&p);
            if (cp != d->c)
                mlxr_buf_append(&g->text, at, (size_t)(p - at));
            else if (!d->drop_first)
                mlxr_buf_char(&g->text, ' ');
        }
        return pass(s, i, &g->text);
    case DEC_STRIP:
        n_c = mlxr_utf8_encode(c, d->c);
        mlxr_buf_append(&g->hold, t, n);
        if (g->hold.failed) return check(&g->hold, s->err);
        for (k = 0; !g->past && g->cut < d->start && starts(g->hold.data + k, g->hold.len - k, c, n_c);
             k += n_c)
            g->cut++;
        if (g->hold.len > k) g->past = true;
        n = g->hold.len;
        for (size_t cut = 0; cut < d->stop && ends(g->hold.data + k, n - k, c, n_c); cut++) n -= n_c;
        mlxr_buf_append(&g->text, g->hold.data + k, n - k);
        memmove(g->hold.data, g->hold.data + n, g->hold.len - n);
        g->hold.len -= n;
        return pass(s, i, &g->text);
    case DEC_BYTE_FALLBACK:
        if (g->past) return chunk(s, i + 1, t, n);
        mlxr_buf_append(&g->hold, t, n);
        if (g->hold.failed || g->hold.len <= 6) return check(&g->hold, s->err);
        g->past = true;
        return chunk(s, i + 1, g->hold.data, g->hold.len);
    case DEC_BPE:
        if (!d->n_a) return chunk(s, i + 1, t, n);
        mlxr_buf_append(&g->hold, t, n);
        if (g->hold.failed) return check(&g->hold, s->err);
        replace_stream(d, g, d->a, d->n_a, false);
        return pass(s, i, &g->text);
    case DEC_REPLACE:
        mlxr_buf_append(&g->hold, t, n);
        if (g->hold.failed || !d->n_literal) return check(&g->hold, s->err);
        replace_stream(d, g, d->literal, d->n_literal, false);
        return pass(s, i, &g->text);
    case DEC_WORDPIECE:
        if (!d->cleanup) return chunk(s, i + 1, t, n);
        break;
    default: break;
    }
    mlxr_buf_append(&g->hold, t, n); /* only the whole token tells */
    return check(&g->hold, s->err);
}

/* The end of the tokens, or of the one token, at stage i; then at the next. */
static mlxr_status end_stage(tok_decode_state *s, size_t i)
{
    const dec_stage *d = &s->d->stages[i];
    stage_state *g = &s->stages[i];
    mlxr_buf spare = {0};
    const char *h = g->hold.data ? g->hold.data : "";
    size_t n = g->hold.len;
    mlxr_status st = MLXR_OK;
    int b;

    g->text.len = 0;
    switch (d->type) {
    case DEC_BYTE_LEVEL:
        if (d->fused) {
            mlxr_buf_append(&spare, h, n);
            g->hold.len = 0;
            token_bytes(&g->hold, spare.data ? spare.data : "", spare.len);
        }
        lossy(&g->text, &g->hold, true);
        if (g->hold.failed || g->text.failed || spare.failed)
            st = mlxr_fail_nomem(s->err, "tokenizer: decoding");
        else
            st = chunk(s, i + 1, g->text.data ? g->text.data : "", g->text.len);
        break;
    case DEC_BYTE_FALLBACK:
        if (!d->fused) {
            st = flush_bytes(s, i);
        } else if (!g->past) {
            b = byte_token(h, n);
            if (b >= 0x80)
                st = chunk(s, i + 1, "\xef\xbf\xbd", 3);
            else if (b >= 0)
                st = chunk(s, i + 1, (char[]){(char)b}, 1);
            else
                st = chunk(s, i + 1, h, n);
        }
        break;
    case DEC_BPE:
        if (!d->fused && g->n_tokens) {
            replace_all(&g->text, h, n, d->a, d->n_a, "", 0);
            st = pass(s, i, &g->text);
        } else if (d->fused && d->n_a) {
            replace_stream(d, g, d->a, d->n_a, true);
            st = pass(s, i, &g->text);
        }
        break;
    case DEC_REPLACE:
        if (!d->fused) break;
        if (d->n_literal)
            replace_stream(d, g, d->literal, d->n_literal, true);
        else
            st = tok_pattern_replace(&g->text, d->pattern, &g->matches, h, n, (tok_str){d->a, d->n_a},
                                     s->err);
        if (st == MLXR_OK) st = pass(s, i, &g->text);
        break;
    case DEC_WORDPIECE:
        if (!d->fused || !d->cleanup) break;
        mlxr_buf_append(&g->text, h, n);
        cleanup(&g->text, &spare);
        st = pass(s, i, &g->text);
        break;
    case DEC_CTC:
        if (!d->fused) break;
        ctc(d, g, h, n, &spare);
        st = pass(s, i, &g->text);
        break;
    default: break; /* Strip: what waits at the end is what is stripped there */
    }
    mlxr_buf_clear(&spare);
    return st;
}

mlxr_status tok_decode_push(tok_decode_state *s, tok_str t, mlxr_buf *out, mlxr_error *err)
{
    s->out = out;
    s->err = err;
    if (!s->d && s->n_tokens) mlxr_buf_char(out, ' ');
    s->n_tokens++;
    return token(s, 0, t.s, t.n);
}

mlxr_status tok_decode_finish(tok_decode_state *s, mlxr_buf *out, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;
    s->out = out;
    s->err = err;
    for (size_t i = 0; s->d && i < s->d->n && st == MLXR_OK; i++) st = end_stage(s, i);
    tok_decode_reset(s);
    return st;
}

/* ---- one token by itself ---- */

bool tok_decoder_strips_space(const tok_decoder *d)
{
    if (!d) return true; /* joined by spaces */
    for (size_t i = 0; i < d->n; i++) {
        const dec_stage *s = &d->stages[i];
        if (s->type == DEC_WORDPIECE || (s->type == DEC_METASPACE && s->drop_first && !s->fused)) return true;
        if (s->type == DEC_STRIP && s->fused && s->start && s->c == ' ') return true;
    }
    return false;
}

/* b by one stage, in the middle of a text; false: it is bytes now, which no later stage looks at. */
static bool one_token(const dec_stage *d, mlxr_buf *b, mlxr_buf *spare)
{
    const char *t = b->data ? b->data : "", *end = t + b->len;
    size_t n = b->len;
    tok_matches matches = {0};
    bool goes_on = true;
    mlxr_buf swap;

    spare->len = 0;
    switch (d->type) {
    case DEC_BYTE_LEVEL:
        token_bytes(spare, t, n);
        goes_on = false;
        break;
    case DEC_BYTE_FALLBACK:
        if (byte_token(t, n) < 0) return true;
        mlxr_buf_char(spare, (char)byte_token(t, n));
        goes_on = false;
        break;
    case DEC_METASPACE:
        for (const char *p = t; p < end;) {
            const char *at = p;
            if (tok_next(&p) == d->c)
                mlxr_buf_char(spare, ' ');
            else
                mlxr_buf_append(spare, at, (size_t)(p - at));
        }
        break;
    case DEC_REPLACE:
        if (d->n_literal)
            replace_all(spare, t, n, d->literal, d->n_literal, d->a, d->n_a);
        else if (tok_pattern_replace(spare, d->pattern, &matches, t, n, (tok_str){d->a, d->n_a}, NULL) !=
                 MLXR_OK)
            spare->failed = true;
        tok_matches_clear(&matches);
        break;
    case DEC_WORDPIECE:
        if (starts(t, n, d->a, d->n_a))
            t += d->n_a, n -= d->n_a;
        else
            mlxr_buf_char(spare, ' ');
        mlxr_buf_append(spare, t, n);
        break;
    case DEC_BPE: replace_all(spare, t, n, d->a, d->n_a, " ", 1); break;
    case DEC_STRIP:
        if (d->fused) return true; /* of the whole text */
        strip_token(d, &t, &n);
        mlxr_buf_append(spare, t, n);
        break;
    default: return true;
    }
    swap = *b;
    *b = *spare;
    *spare = swap;
    return goes_on;
}

void tok_decoder_token(const tok_decoder *d, tok_str t, mlxr_buf *out)
{
    mlxr_buf b = {0}, spare = {0};
    if (!d) mlxr_buf_char(&b, ' ');
    mlxr_buf_append(&b, t.s, t.n);
    for (size_t i = 0; d && i < d->n; i++)
        if (!one_token(&d->stages[i], &b, &spare)) break;
    if (b.failed || spare.failed)
        out->failed = true;
    else if (b.len)
        mlxr_buf_append(out, b.data, b.len);
    mlxr_buf_clear(&b);
    mlxr_buf_clear(&spare);
}
