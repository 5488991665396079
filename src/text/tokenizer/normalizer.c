/* Normalizers. A sequence is flattened into one list of steps; each step reads one text and writes another, and
 * follows how many first bytes still go back to the start of the input (tok_piece.zero). */
#include <stdio.h>
#include <stdlib.h>

#include "text/tokenizer/config.h"

typedef enum step_type {
    STEP_BERT,
    STEP_STRIP,
    STEP_STRIP_ACCENTS,
    STEP_NFC,
    STEP_NFD,
    STEP_NFKC,
    STEP_NFKD,
    STEP_LOWERCASE,
    STEP_NMT,
    STEP_PRECOMPILED,
    STEP_REPLACE,
    STEP_PREPEND,
    STEP_BYTE_LEVEL,
    STEP_SEQUENCE
} step_type;
static const char *const type_names[] = {
    "BertNormalizer", "Strip", "StripAccents", "NFC",     "NFD",     "NFKC",      "NFKD",
    "Lowercase",      "Nmt",   "Precompiled",  "Replace", "Prepend", "ByteLevel", "Sequence"};

typedef struct step {
    step_type type;
    bool clean, chinese, accents, lower; /* Bert */
    bool left, right;                    /* Strip */
    tok_pattern *pattern;                /* Replace */
    char *text;                          /* Replace, Prepend */
    size_t n_text;
    tok_charsmap *map;
} step;

struct tok_normalizer {
    step *steps;
    size_t n, cap;
};

static mlxr_status add_steps(tok_normalizer *n, const tok_cfg *c, mlxr_error *err)
{
    step *s;
    size_t type, count;
    tok_str text = {0};
    mlxr_status st = tok_cfg_type(&type, c, "a normalizer", type_names, MLXR_COUNT(type_names), err);

    if (st != MLXR_OK) return st;
    if (type == STEP_SEQUENCE) {
        tok_cfg list = tok_cfg_get(c, "normalizers");
        if ((st = tok_cfg_array(&list, &count, err)) != MLXR_OK) return st;
        for (size_t i = 0; i < count; i++) {
            tok_cfg item = tok_cfg_at(&list, i);
            if ((st = add_steps(n, &item, err)) != MLXR_OK) return st;
        }
        return MLXR_OK;
    }
    if (n->n == n->cap) {
        size_t cap = n->cap ? 2 * n->cap : 4;
        step *grown = cap <= 4096 ? mlxr_realloc_array(n->steps, cap, sizeof *grown) : NULL;
        if (!grown) return mlxr_fail_nomem(err, "tokenizer: normalizer");
        n->steps = grown;
        n->cap = cap;
    }
    s = &n->steps[n->n++];
    *s = (step){.type = (step_type)type};
    switch (s->type) {
    case STEP_BERT:
        s->clean = s->chinese = s->lower = true;
        if ((st = tok_cfg_bool(&s->clean, c, "clean_text", true, err)) != MLXR_OK) return st;
        if ((st = tok_cfg_bool(&s->chinese, c, "handle_chinese_chars", true, err)) != MLXR_OK) return st;
        if ((st = tok_cfg_bool(&s->lower, c, "lowercase", true, err)) != MLXR_OK) return st;
        s->accents = s->lower;
        return tok_cfg_bool(&s->accents, c, "strip_accents", false, err);
    case STEP_STRIP:
        if ((st = tok_cfg_bool(&s->left, c, "strip_left", true, err)) != MLXR_OK) return st;
        return tok_cfg_bool(&s->right, c, "strip_right", true, err);
    case STEP_PRECOMPILED: {
        tok_cfg v = tok_cfg_get(c, "precompiled_charsmap");
        char what[480];
        if ((st = tok_cfg_str(&text, c, "precompiled_charsmap", true, err)) != MLXR_OK) return st;
        snprintf(what, sizeof what, "%.300s: %s", c->file, v.path);
        return tok_charsmap_create(&s->map, text, what, err);
    }
    case STEP_REPLACE:
        if ((st = tok_cfg_pattern(&s->pattern, c, "pattern", err)) != MLXR_OK) return st;
        if ((st = tok_cfg_str(&text, c, "content", true, err)) != MLXR_OK) return st;
        break;
    case STEP_PREPEND:
        if ((st = tok_cfg_str(&text, c, "prepend", true, err)) != MLXR_OK) return st;
        break;
    default: return MLXR_OK;
    }
    s->text = mlxr_strndup(text.s, text.n);
    s->n_text = text.n;
    return s->text ? MLXR_OK : mlxr_fail_nomem(err, "tokenizer: normalizer");
}

mlxr_status tok_normalizer_create(tok_normalizer **out, const json_t *config, const char *file,
                                  mlxr_error *err)
{
    tok_cfg c = tok_cfg_root(config, file, "normalizer");
    tok_normalizer *n;
    mlxr_status st;

    *out = NULL;
    if (tok_cfg_is_null(&c)) return MLXR_OK;
    n = calloc(1, sizeof *n);
    if (!n) return mlxr_fail_nomem(err, "tokenizer: normalizer");
    st = add_steps(n, &c, err);
    if (st == MLXR_OK && n->n) {
        *out = n;
        n = NULL;
    }
    tok_normalizer_free(n);
    return st;
}

void tok_normalizer_free(tok_normalizer *n)
{
    if (!n) return;
    for (size_t i = 0; i < n->n; i++) {
        tok_pattern_free(n->steps[i].pattern);
        tok_charsmap_free(n->steps[i].map);
        free(n->steps[i].text);
    }
    free(n->steps);
    free(n);
}

/* ---- running ---- */

typedef enum char_job { JOB_MARKS, JOB_BERT_MARKS, JOB_BERT_CLEAN, JOB_NMT, JOB_LOWER, JOB_CHINESE } char_job;

static bool is_chinese(uint32_t c)
{
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) ||
           (c >= 0x2a700 && c <= 0x2b73f) || (c >= 0x2b740 && c <= 0x2b81f) ||
           (c >= 0x2b920 && c <= 0x2ceaf) || (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

/* Nmt's table: what is removed, and what becomes a space. */
static bool nmt_removed(uint32_t c)
{
    return (c >= 1 && c <= 8) || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f || c == 0x8f || c == 0x9f;
}

static bool nmt_space(uint32_t c)
{
    return c == 9 || c == 0xa || c == 0xc || c == 0xd || c == 0x1680 || (c >= 0x200b && c <= 0x200f) ||
           c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xfeff || c == 0xfffd;
}

/* A step that looks at one character at a time. */
static void each_char(mlxr_buf *out, char_job job, tok_piece *p)
{
    const char *s = p->s, *end = s + p->n, *zero = s + p->zero;
    size_t zero_out = 0;

    while (s < end) {
        const char *at = s;
        uint32_t c = tok_next(&s), u;
        switch (job) {
        case JOB_MARKS:
            if (!(c >= 0x80 && (tok_unicode(c) & TOK_U_MARK))) mlxr_buf_append(out, at, (size_t)(s - at));
            break;
        case JOB_BERT_MARKS:
            if (!(c >= 0x80 && (tok_unicode(c) & TOK_U_BERT_MN))) mlxr_buf_append(out, at, (size_t)(s - at));
            break;
        case JOB_BERT_CLEAN:
            u = tok_unicode(c);
            if (u & TOK_U_BERT_REMOVED) break;
            if (u & TOK_U_SPACE)
                mlxr_buf_char(out, ' ');
            else
                mlxr_buf_append(out, at, (size_t)(s - at));
            break;
        case JOB_NMT:
            if (nmt_removed(c)) break;
            if (nmt_space(c))
                mlxr_buf_char(out, ' ');
            else
                mlxr_buf_append(out, at, (size_t)(s - at));
            break;
        case JOB_LOWER:
            mlxr_buf_utf8(out, tok_lower(c));
            if (c == 0x130) mlxr_buf_utf8(out, 0x307);
            break;
        case JOB_CHINESE:
            if (is_chinese(c)) mlxr_buf_char(out, ' ');
            mlxr_buf_append(out, at, (size_t)(s - at));
            if (is_chinese(c)) mlxr_buf_char(out, ' ');
            break;
        }
        if (at < zero) zero_out = out->len;
    }
    p->zero = zero_out;
}

static void strip(const step *st, tok_piece *p)
{
    const char *s = p->s, *end = s + p->n;
    while (st->left && s < end) {
        const char *next = s;
        if (!(tok_unicode(tok_next(&next)) & TOK_U_SPACE)) break;
        s = next;
    }
    while (st->right && end > s && (tok_unicode(tok_prev(end)) & TOK_U_SPACE)) {
        do end--;
        while (((unsigned char)*end & 0xc0u) == 0x80u);
    }
    p->zero = p->zero > (size_t)(s - p->s) ? p->zero - (size_t)(s - p->s) : 0;
    p->s = s;
    p->n = (size_t)(end - s);
    if (p->zero > p->n) p->zero = p->n;
}

/* A replacement goes back to the last character of what it replaces, and one of nothing at the start to there. */
static mlxr_status replace(const step *st, mlxr_buf *out, tok_matches *m, tok_piece *p, mlxr_error *err)
{
    size_t from = 0, begin = 0, end = 0, zero_out = 0;
    bool found;
    mlxr_status status;

    if (!p->zero)
        return tok_pattern_replace(out, st->pattern, m, p->s, p->n, (tok_str){st->text, st->n_text}, err);
    tok_matches_begin(m, st->pattern, p->s, p->n);
    for (;;) {
        if ((status = tok_matches_next(m, &found, &begin, &end, err)) != MLXR_OK) return status;
        if (!found) break;
        if (begin < from) continue;
        if (from < p->zero) zero_out = out->len + ((begin < p->zero ? begin : p->zero) - from);
        mlxr_buf_append(out, p->s + from, begin - from);
        mlxr_buf_append(out, st->text, st->n_text);
        if (end == 0 || end - 1 < p->zero) zero_out = out->len;
        from = end;
    }
    if (from < p->zero) zero_out = out->len + p->zero - from;
    mlxr_buf_append(out, p->s + from, p->n - from);
    p->zero = zero_out;
    return MLXR_OK;
}

static void form(mlxr_buf *out, tok_form f, tok_piece *p)
{
    /* The stretch that goes back to the start is normalized with the rest; its length is taken from itself. */
    size_t zero_out = 0;
    if (p->zero) {
        tok_normalize_form(out, f, p->s, p->zero);
        zero_out = out->len;
        out->len = 0;
    }
    tok_normalize_form(out, f, p->s, p->n);
    if (zero_out > out->len) zero_out = out->len;
    while (zero_out && zero_out < out->len && ((unsigned char)out->data[zero_out] & 0xc0u) == 0x80u)
        zero_out++;
    p->zero =
        zero_out; /* up to a whole character: one that the first ones were joined to goes back there too */
}

/* The step's output buffer becomes the piece. */
static mlxr_status turn(tok_piece *p, mlxr_buf **out, mlxr_buf **other, mlxr_error *err)
{
    mlxr_buf *b = *out;
    if (b->failed) return mlxr_fail_nomem(err, "tokenizer: normalizing a text");
    if (b->len > TOK_MAX_TEXT_BYTES)
        return mlxr_fail(err, MLXR_E_LIMIT, "tokenizer: the normalized text has %zu bytes, more than %zu",
                         b->len, TOK_MAX_TEXT_BYTES);
    p->s = b->data ? b->data : "";
    p->n = b->len;
    *out = *other;
    *other = b;
    (*out)->len = 0;
    return MLXR_OK;
}

mlxr_status tok_normalize(const tok_normalizer *n, tok_scratch *sc, tok_piece *p, mlxr_error *err)
{
    mlxr_buf *out = &sc->norm[0], *other = &sc->norm[1];
    mlxr_status st = MLXR_OK;

    out->len = other->len = 0;
    out->failed = other->failed = false;
    for (size_t i = 0; i < n->n && st == MLXR_OK; i++) {
        const step *s = &n->steps[i];
        tok_form f = TOK_NFC;
        switch (s->type) {
        case STEP_BERT:
            if (s->clean) {
                each_char(out, JOB_BERT_CLEAN, p);
                if ((st = turn(p, &out, &other, err)) != MLXR_OK) return st;
            }
            if (s->chinese) {
                each_char(out, JOB_CHINESE, p);
                if ((st = turn(p, &out, &other, err)) != MLXR_OK) return st;
            }
            if (s->accents) {
                form(out, TOK_NFD, p);
                if ((st = turn(p, &out, &other, err)) != MLXR_OK) return st;
                each_char(out, JOB_BERT_MARKS, p);
                if ((st = turn(p, &out, &other, err)) != MLXR_OK) return st;
            }
            if (!s->lower) continue;
            each_char(out, JOB_LOWER, p);
            break;
        case STEP_STRIP: strip(s, p); continue;
        case STEP_STRIP_ACCENTS: each_char(out, JOB_MARKS, p); break;
        case STEP_NFC:
        case STEP_NFD:
        case STEP_NFKC:
        case STEP_NFKD:
            f = s->type == STEP_NFC    ? TOK_NFC
                : s->type == STEP_NFD  ? TOK_NFD
                : s->type == STEP_NFKC ? TOK_NFKC
                                       : TOK_NFKD;
            if (tok_is_normal(f, p->s, p->n)) continue;
            form(out, f, p);
            break;
        case STEP_LOWERCASE: each_char(out, JOB_LOWER, p); break;
        case STEP_NMT: each_char(out, JOB_NMT, p); break;
        case STEP_PRECOMPILED:
            if (!tok_charsmap_apply(s->map, out, p->s, p->n, &p->zero)) continue;
            break;
        case STEP_REPLACE:
            /* The reference lets a search that fails pass: the text stays. */
            st = replace(s, out, &sc->norm_matches, p, err);
            if (st == MLXR_OK) break;
            if (st == MLXR_E_NOMEM) return st;
            st = MLXR_OK;
            out->len = 0;
            continue;
        case STEP_PREPEND:
            if (!p->n) continue;
            mlxr_buf_append(out, s->text, s->n_text);
            mlxr_buf_append(out, p->s, p->n);
            if (p->zero) p->zero += s->n_text;
            break;
        case STEP_BYTE_LEVEL:
            if (!p->n) continue;
            tok_bytes_to_chars(out, p->s, p->zero);
            p->zero = out->len;
            out->len = 0;
            tok_bytes_to_chars(out, p->s, p->n);
            break;
        case STEP_SEQUENCE: continue;
        }
        st = turn(p, &out, &other, err);
    }
    return st;
}
