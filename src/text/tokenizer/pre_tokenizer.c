/* Pre-tokenizers. A sequence is flattened into stages; a text is pushed through them, every stage handing each
 * of its splits to the next as soon as it is certain, and the last one to the model. So no list of splits is
 * ever kept. */
#include <stdlib.h>

#include "text/tokenizer/config.h"

/* BertPreTokenizer becomes WhitespaceSplit and Punctuation, ByteLevel its splitting and STAGE_BYTES. */
typedef enum stage_type {
    STAGE_BERT,
    STAGE_BYTE_LEVEL,
    STAGE_DELIMITER,
    STAGE_METASPACE,
    STAGE_WHITESPACE,
    STAGE_SPLIT,
    STAGE_PUNCTUATION,
    STAGE_WHITESPACE_SPLIT,
    STAGE_DIGITS,
    STAGE_SCRIPTS,
    STAGE_FIXED_LENGTH,
    STAGE_SEQUENCE,
    STAGE_BYTES
} stage_type;
static const char *const type_names[] = {"BertPreTokenizer", "ByteLevel",       "CharDelimiterSplit",
                                         "Metaspace",        "Whitespace",      "Split",
                                         "Punctuation",      "WhitespaceSplit", "Digits",
                                         "UnicodeScripts",   "FixedLength",     "Sequence"};

typedef enum behavior { REMOVED, ISOLATED, MERGED_PREVIOUS, MERGED_NEXT, CONTIGUOUS } behavior;
static const char *const behavior_names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext",
                                             "Contiguous"};

typedef enum scheme { SCHEME_FIRST, SCHEME_NEVER, SCHEME_ALWAYS } scheme;
static const char *const scheme_names[] = {"first", "never", "always"};

typedef struct stage {
    stage_type type;
    behavior behavior;
    tok_pattern *pattern; /* Split; ByteLevel's own */
    bool invert;
    bool prefix_space; /* ByteLevel */
    uint32_t c;        /* the delimiter; Metaspace's replacement */
    scheme scheme;
    bool split; /* Metaspace */
    size_t length;
} stage;

struct tok_pretokenizer {
    stage *stages;
    size_t n;
};

static mlxr_status add_metaspace(stage *s, const tok_cfg *c, mlxr_error *err)
{
    bool prefix = true;
    size_t choice = SCHEME_ALWAYS;
    mlxr_status st = tok_cfg_char(&s->c, c, "replacement", err);
    if (st != MLXR_OK) return st;
    if ((st = tok_cfg_choice(&choice, c, "prepend_scheme", scheme_names, MLXR_COUNT(scheme_names), false,
                             err)) != MLXR_OK)
        return st;
    if ((st = tok_cfg_bool(&prefix, c, "add_prefix_space", false, err)) != MLXR_OK) return st;
    if (!prefix) { /* the older field */
        tok_cfg v = tok_cfg_get(c, "add_prefix_space"), scheme_cfg = tok_cfg_get(c, "prepend_scheme");
        if (choice != SCHEME_NEVER && !tok_cfg_is_null(&scheme_cfg))
            return mlxr_fail(err, MLXR_E_FORMAT, "tokenizer: %s: %s is false, but prepend_scheme is \"%s\"",
                             c->file, v.path, scheme_names[choice]);
        choice = SCHEME_NEVER;
    }
    s->scheme = (scheme)choice;
    s->split = true;
    return tok_cfg_bool(&s->split, c, "split", false, err);
}

static mlxr_status add_stages(tok_pretokenizer *p, const tok_cfg *c, mlxr_error *err)
{
    stage *s;
    size_t type, count, choice;
    bool use_regex = true, individual = false;
    mlxr_status st = tok_cfg_type(&type, c, "a pre-tokenizer", type_names, MLXR_COUNT(type_names), err);

    if (st != MLXR_OK) return st;
    if (type == STAGE_SEQUENCE) {
        tok_cfg list = tok_cfg_get(c, "pretokenizers");
        if ((st = tok_cfg_array(&list, &count, err)) != MLXR_OK) return st;
        for (size_t i = 0; i < count; i++) {
            tok_cfg item = tok_cfg_at(&list, i);
            if ((st = add_stages(p, &item, err)) != MLXR_OK) return st;
        }
        return MLXR_OK;
    }
    if (p->n + 2 > TOK_MAX_STAGES)
        return mlxr_fail(err, MLXR_E_LIMIT, "tokenizer: %s: %s: more than %d pre-tokenizers", c->file,
                         c->path, TOK_MAX_STAGES);
    s = &p->stages[p->n++];
    *s = (stage){.type = (stage_type)type, .behavior = ISOLATED, .length = 5};
    switch (s->type) {
    case STAGE_BERT:
        s->type = STAGE_WHITESPACE_SPLIT;
        s->behavior = REMOVED;
        p->stages[p->n++] = (stage){.type = STAGE_PUNCTUATION, .behavior = ISOLATED};
        return MLXR_OK;
    case STAGE_BYTE_LEVEL:
        p->stages[p->n++] = (stage){.type = STAGE_BYTES};
        if ((st = tok_cfg_bool(&s->prefix_space, c, "add_prefix_space", true, err)) != MLXR_OK) return st;
        if ((st = tok_cfg_bool(&use_regex, c, "use_regex", false, err)) != MLXR_OK) return st;
        if (use_regex) {
            const char *gpt2 = tok_scanner_pattern(TOK_SCAN_GPT2);
            return tok_pattern_create(&s->pattern, gpt2, strlen(gpt2), true, c->path, err);
        }
        return MLXR_OK;
    case STAGE_DELIMITER: s->behavior = REMOVED; return tok_cfg_char(&s->c, c, "delimiter", err);
    case STAGE_METASPACE: return add_metaspace(s, c, err);
    case STAGE_SPLIT:
        if ((st = tok_cfg_pattern(&s->pattern, c, "pattern", err)) != MLXR_OK) return st;
        if ((st = tok_cfg_bool(&s->invert, c, "invert", true, err)) != MLXR_OK) return st;
        if ((st = tok_cfg_choice(&choice, c, "behavior", behavior_names, MLXR_COUNT(behavior_names), true,
                                 err)) != MLXR_OK)
            return st;
        s->behavior = (behavior)choice;
        return MLXR_OK;
    case STAGE_PUNCTUATION:
        choice = ISOLATED;
        st = tok_cfg_choice(&choice, c, "behavior", behavior_names, MLXR_COUNT(behavior_names), false, err);
        s->behavior = (behavior)choice;
        return st;
    case STAGE_WHITESPACE_SPLIT: s->behavior = REMOVED; return MLXR_OK;
    case STAGE_DIGITS:
        if ((st = tok_cfg_bool(&individual, c, "individual_digits", true, err)) != MLXR_OK) return st;
        s->behavior = individual ? ISOLATED : CONTIGUOUS;
        return MLXR_OK;
    case STAGE_FIXED_LENGTH:
        if ((st = tok_cfg_size(&s->length, c, "length", false, err)) != MLXR_OK) return st;
        if (s->length == 0) {
            tok_cfg v = tok_cfg_get(c, "length");
            return tok_cfg_wrong(&v, "1 or more", err);
        }
        return MLXR_OK;
    default: return MLXR_OK;
    }
}

mlxr_status tok_pretokenizer_create(tok_pretokenizer **out, const json_t *config, const char *file,
                                    mlxr_error *err)
{
    tok_cfg c = tok_cfg_root(config, file, "pre_tokenizer");
    tok_pretokenizer *p;
    mlxr_status st;

    *out = NULL;
    if (tok_cfg_is_null(&c)) return MLXR_OK;
    p = calloc(1, sizeof *p);
    if (p) p->stages = mlxr_calloc_array(TOK_MAX_STAGES, sizeof *p->stages);
    if (!p || !p->stages) {
        free(p);
        return mlxr_fail_nomem(err, "tokenizer: pre-tokenizer");
    }
    st = add_stages(p, &c, err);
    if (st == MLXR_OK && p->n) {
        *out = p;
        p = NULL;
    }
    tok_pretokenizer_free(p);
    return st;
}

void tok_pretokenizer_free(tok_pretokenizer *p)
{
    if (!p) return;
    for (size_t i = 0; i < p->n; i++) tok_pattern_free(p->stages[i].pattern);
    free(p->stages);
    free(p);
}

bool tok_pretokenizer_ends_in_bytes(const tok_pretokenizer *p)
{
    size_t n = 0;
    for (size_t i = 0; i < p->n; i++) n += p->stages[i].type == STAGE_BYTES;
    return n == 1 && p->stages[p->n - 1].type == STAGE_BYTES;
}

void tok_pretokenizer_drop_bytes(tok_pretokenizer *p)
{
    const stage *level = &p->stages[p->n - 2];
    p->n -= !level->prefix_space && !level->pattern ? 2 : 1;
}

size_t tok_pretokenizer_n_stages(const tok_pretokenizer *p)
{
    return p ? p->n : 0;
}

/* ---- running ---- */

typedef struct run {
    const tok_pretokenizer *p;
    tok_scratch *sc;
    tok_emit_fn emit;
    void *ud;
    mlxr_error *err;
} run;

static mlxr_status push(run *r, size_t i, tok_piece piece);

static mlxr_status push_part(run *r, size_t i, const tok_piece *of, size_t begin, size_t end)
{
    tok_piece part = {.s = of->s + begin, .n = end - begin, .id = -1};
    if (begin >= end) return MLXR_OK;
    if (i == r->p->n) return r->emit(r->ud, part.s, part.n, r->err);
    if (of->zero > begin) part.zero = of->zero < end ? of->zero - begin : part.n;
    return push(r, i, part);
}

/* Takes the matches of a text, in order and without gaps, and gives on what the behavior makes of them. */
typedef struct splitter {
    run *r;
    size_t next; /* the stage that gets the splits */
    const tok_piece *of;
    behavior behavior;
    size_t begin, end; /* of the split that is not yet certain */
    bool have, previous;
} splitter;

static mlxr_status split_flush(splitter *sp)
{
    bool have = sp->have;
    sp->have = false;
    return have ? push_part(sp->r, sp->next, sp->of, sp->begin, sp->end) : MLXR_OK;
}

static inline mlxr_status split_add(splitter *sp, size_t begin, size_t end, bool is_match)
{
    mlxr_status st;
    bool joins;

    switch (sp->behavior) {
    case REMOVED: return is_match ? MLXR_OK : push_part(sp->r, sp->next, sp->of, begin, end);
    case ISOLATED: return push_part(sp->r, sp->next, sp->of, begin, end);
    case CONTIGUOUS: joins = sp->have && is_match == sp->previous; break;
    case MERGED_PREVIOUS: joins = sp->have && is_match && !sp->previous; break;
    default: joins = sp->have && !is_match && sp->previous; break; /* a match waits for what follows it */
    }
    sp->previous = is_match;
    if (joins) {
        sp->end = end;
        return sp->behavior == MERGED_NEXT ? split_flush(sp) : MLXR_OK;
    }
    if ((st = split_flush(sp)) != MLXR_OK) return st;
    sp->begin = begin;
    sp->end = end;
    sp->have = true;
    return MLXR_OK;
}

static mlxr_status split_pattern(run *r, size_t i, const tok_piece *of, const tok_pattern *pattern,
                                 behavior b, bool invert)
{
    splitter sp = {.r = r, .next = i + 1, .of = of, .behavior = b};
    tok_matches *m = &r->sc->matches[i];
    size_t from = 0, begin = 0, end = 0;
    bool found;
    mlxr_status st;

    tok_matches_begin(m, pattern, of->s, of->n);
    for (;;) {
        if ((st = tok_matches_next(m, &found, &begin, &end, r->err)) != MLXR_OK) return st;
        if (!found) break;
        if (begin < from) continue; /* only \K can do that */
        if (begin > from && (st = split_add(&sp, from, begin, invert)) != MLXR_OK) return st;
        if ((st = split_add(&sp, begin, end, !invert)) != MLXR_OK) return st;
        from = end;
    }
    if (from < of->n && (st = split_add(&sp, from, of->n, invert)) != MLXR_OK) return st;
    return split_flush(&sp);
}

/* Splits at single characters: with `flags`, or equal to c if flags is 0. */
static mlxr_status split_chars(run *r, size_t next, const tok_piece *of, uint32_t flags, uint32_t c,
                               behavior b)
{
    splitter sp = {.r = r, .next = next, .of = of, .behavior = b};
    const char *s = of->s, *end = s + of->n, *from = s;
    mlxr_status st;

    while (s < end) {
        const char *at = s;
        uint32_t cp = tok_next(&s);
        if (!(flags ? (tok_unicode(cp) & flags) != 0 : cp == c)) continue;
        if (at > from &&
            (st = split_add(&sp, (size_t)(from - of->s), (size_t)(at - of->s), false)) != MLXR_OK)
            return st;
        if ((st = split_add(&sp, (size_t)(at - of->s), (size_t)(s - of->s), true)) != MLXR_OK) return st;
        from = s;
    }
    if (from < end && (st = split_add(&sp, (size_t)(from - of->s), of->n, false)) != MLXR_OK) return st;
    return split_flush(&sp);
}

/* \w+|[^\w\s]+ kept, by the regex crate's \w. */
static mlxr_status whitespace(run *r, size_t i, const tok_piece *of)
{
    const char *s = of->s, *end = s + of->n;
    mlxr_status st;
    while (s < end) {
        const char *from = s, *p;
        uint32_t kind = tok_unicode(tok_next(&s)) & (TOK_U_RUST_WORD | TOK_U_SPACE);
        if (kind & TOK_U_SPACE) continue;
        for (; s < end; s = p) {
            p = s;
            if ((tok_unicode(tok_next(&p)) & (TOK_U_RUST_WORD | TOK_U_SPACE)) != kind) break;
        }
        if ((st = push_part(r, i + 1, of, (size_t)(from - of->s), (size_t)(s - of->s))) != MLXR_OK) return st;
    }
    return MLXR_OK;
}

/* Characters of no script of their own that begin the text are lost, as in the reference. */
static mlxr_status scripts(run *r, size_t i, const tok_piece *of)
{
    const char *s = of->s, *end = s + of->n;
    size_t from = of->n;
    unsigned last = 0;
    mlxr_status st;
    while (s < end) {
        size_t at = (size_t)(s - of->s);
        unsigned script = tok_script(tok_next(&s));
        if (!script) continue;
        if (last && script != last && (st = push_part(r, i + 1, of, from, at)) != MLXR_OK) return st;
        if (script != last) from = at;
        last = script;
    }
    return push_part(r, i + 1, of, from, of->n);
}

static mlxr_status fixed_length(run *r, size_t i, const tok_piece *of, size_t length)
{
    const char *s = of->s, *end = s + of->n;
    mlxr_status st;
    while (s < end) {
        size_t from = (size_t)(s - of->s);
        for (size_t k = 0; k < length && s < end; k++) s += tok_char_len(s);
        if ((st = push_part(r, i + 1, of, from, (size_t)(s - of->s))) != MLXR_OK) return st;
    }
    return MLXR_OK;
}

/* A stage's own text becomes the piece. */
static mlxr_status own(tok_piece *p, const mlxr_buf *b, mlxr_error *err)
{
    if (b->failed) return mlxr_fail_nomem(err, "tokenizer: splitting a text");
    if (b->len > TOK_MAX_TEXT_BYTES)
        return mlxr_fail(err, MLXR_E_LIMIT, "tokenizer: the text grows past %zu bytes", TOK_MAX_TEXT_BYTES);
    p->s = b->data ? b->data : "";
    p->n = b->len;
    return MLXR_OK;
}

static mlxr_status metaspace(run *r, size_t i, const stage *s, tok_piece p)
{
    mlxr_buf *b = &r->sc->stage[i];
    char mark[4];
    size_t n_mark = mlxr_utf8_encode(mark, s->c), zero = 0, from = 0;
    const char *hit;
    mlxr_status st;

    b->len = 0;
    b->failed = false;
    /* The text may begin with the replacement, or with the space that becomes it. */
    if (p.n && p.s[0] != ' ' && !(p.n >= n_mark && memcmp(p.s, mark, n_mark) == 0) &&
        (s->scheme == SCHEME_ALWAYS || (s->scheme == SCHEME_FIRST && p.zero)))
        mlxr_buf_append(b, mark, n_mark);
    if (p.zero) zero = b->len;
    while (from < p.n) {
        size_t at;
        hit = memchr(p.s + from, ' ', p.n - from);
        at = hit ? (size_t)(hit - p.s) : p.n;
        mlxr_buf_append(b, p.s + from, at - from);
        if (from < p.zero) zero = b->len - (at > p.zero ? at - p.zero : 0);
        if (!hit) break;
        mlxr_buf_append(b, mark, n_mark);
        if (at < p.zero) zero = b->len;
        from = at + 1;
    }
    p.zero = zero;
    if ((st = own(&p, b, r->err)) != MLXR_OK) return st;
    return s->split ? split_chars(r, i + 1, &p, 0, s->c, MERGED_NEXT) : push_part(r, i + 1, &p, 0, p.n);
}

static mlxr_status byte_level(run *r, size_t i, const stage *s, tok_piece p)
{
    mlxr_buf *b = &r->sc->stage[i];
    mlxr_status st;

    if (s->prefix_space && p.n && p.s[0] != ' ') {
        b->len = 0;
        b->failed = false;
        mlxr_buf_char(b, ' ');
        mlxr_buf_append(b, p.s, p.n);
        if (p.zero) p.zero++;
        if ((st = own(&p, b, r->err)) != MLXR_OK) return st;
    }
    return s->pattern ? split_pattern(r, i, &p, s->pattern, ISOLATED, false)
                      : push_part(r, i + 1, &p, 0, p.n);
}

static mlxr_status bytes(run *r, size_t i, tok_piece p)
{
    mlxr_buf *b = &r->sc->stage[i];
    size_t zero;
    mlxr_status st;

    b->len = 0;
    b->failed = false;
    tok_bytes_to_chars(b, p.s, p.zero);
    zero = b->len;
    tok_bytes_to_chars(b, p.s + p.zero, p.n - p.zero);
    p.zero = zero;
    if ((st = own(&p, b, r->err)) != MLXR_OK) return st;
    return push_part(r, i + 1, &p, 0, p.n);
}

static mlxr_status push(run *r, size_t i, tok_piece p)
{
    const stage *s = &r->p->stages[i];

    switch (s->type) {
    case STAGE_BYTE_LEVEL: return byte_level(r, i, s, p);
    case STAGE_BYTES: return bytes(r, i, p);
    case STAGE_DELIMITER: return split_chars(r, i + 1, &p, 0, s->c, REMOVED);
    case STAGE_METASPACE: return metaspace(r, i, s, p);
    case STAGE_WHITESPACE: return whitespace(r, i, &p);
    case STAGE_SPLIT: return split_pattern(r, i, &p, s->pattern, s->behavior, s->invert);
    case STAGE_PUNCTUATION: return split_chars(r, i + 1, &p, TOK_U_RUST_PUNCT, 0, s->behavior);
    case STAGE_WHITESPACE_SPLIT: return split_chars(r, i + 1, &p, TOK_U_SPACE, 0, REMOVED);
    case STAGE_DIGITS: return split_chars(r, i + 1, &p, TOK_U_RUST_NUMERIC, 0, s->behavior);
    case STAGE_SCRIPTS: return scripts(r, i, &p);
    case STAGE_FIXED_LENGTH: return fixed_length(r, i, &p, s->length);
    case STAGE_BERT:
    case STAGE_SEQUENCE: break; /* taken apart when created */
    }
    return mlxr_fail(r->err, MLXR_E_INTERNAL, "tokenizer: a pre-tokenizer stage of type %d", (int)s->type);
}

mlxr_status tok_pretokenize(const tok_pretokenizer *p, tok_scratch *sc, tok_piece piece, tok_emit_fn emit,
                            void *ud, mlxr_error *err)
{
    run r = {.p = p, .sc = sc, .emit = emit, .ud = ud, .err = err};
    return push_part(&r, 0, &piece, 0, piece.n);
}
