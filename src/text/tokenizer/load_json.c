/* Reads tokenizer.json in one pass. The file is nearly all vocabulary and merges, up to hundreds of thousands of
 * strings in up to tens of MB: they go to flat arrays of strings that point into the text (or, where they had
 * escapes, into an arena). All the rest becomes a small jansson tree. The grammar is RFC 8259's; text must be
 * UTF-8, lone surrogate escapes are refused, and nesting is bounded. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/tokenizer/load.h"

enum { MAX_DEPTH = 64 };

typedef struct reader {
    const char *start, *s, *end, *file;
    size_t n_head;
    mlxr_arena *arena;
    mlxr_error *err;
    tok_source *src;
    size_t cap_tokens, cap_merges;
} reader;

void tok_source_clear(tok_source *src)
{
    free(src->tokens);
    free(src->ids);
    free(src->scores);
    free(src->merges);
    *src = (tok_source){0};
}

/* ---- messages ---- */

static mlxr_status syntax(reader *r, const char *want)
{
    size_t line = 1, column = 1;
    for (const char *p = r->start + r->n_head; p < r->s && p < r->end; p++) {
        if (*p == '\n')
            line++, column = 1;
        else
            column++;
    }
    return mlxr_fail(r->err, MLXR_E_FORMAT, "tokenizer: %s: line %zu, column %zu: %s", r->file, line, column,
                     want);
}

static mlxr_status nomem(reader *r)
{
    return mlxr_fail_nomem(r->err, r->file);
}

static mlxr_status wrong(reader *r, const char *path, size_t i, const char *want)
{
    return mlxr_fail(r->err, MLXR_E_FORMAT, "tokenizer: %s: %s[%zu] must be %s", r->file, path, i, want);
}

/* ---- tokens of the grammar ---- */

static void skip_space_on(reader *r)
{
    static const uint64_t spaces = 0x2020202020202020u;
    const char *s = r->s;
    while (s < r->end && (*s == ' ' || *s == '\n' || *s == '\t' || *s == '\r')) {
        uint64_t w;
        uint32_t half;
        s++;
        while (r->end - s >= 8 && (memcpy(&w, s, 8), w == spaces))
            s += 8; /* indentation is most of the file */
        if (r->end - s >= 4 && (memcpy(&half, s, 4), half == (uint32_t)spaces)) s += 4;
    }
    r->s = s;
}

static inline void skip_space(reader *r)
{
    if (r->s < r->end && (unsigned char)*r->s <= ' ') skip_space_on(r);
}

static inline bool take(reader *r, char c)
{
    skip_space(r);
    if (r->s < r->end && *r->s == c) {
        r->s++;
        return true;
    }
    return false;
}

static int hex4(const char *s, uint32_t *out)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) {
        char c = s[i];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0) return 0;
        v = v << 4 | (uint32_t)d;
    }
    *out = v;
    return 1;
}

/* The rest of a string that has escapes: r->s is at the first. from: the string's start. */
static mlxr_status string_with_escapes(reader *r, const char *from, tok_str *out)
{
    const char *p = r->s;
    char *to, *at;

    while (p < r->end && *p != '"') p += *p == '\\' && r->end - p > 1 ? 2 : 1;
    to = mlxr_arena_alloc(r->arena,
                          (size_t)(p - from) + 1); /* an escape is never shorter than what it stands for */
    if (!to) return nomem(r);
    memcpy(to, from, (size_t)(r->s - from));
    at = to + (r->s - from);
    while (r->s < r->end && *r->s != '"') {
        uint32_t cp = 0, low = 0;
        char c = *r->s;
        if ((unsigned char)c < 0x20) return syntax(r, "a control character in a string");
        if (c != '\\') {
            *at++ = c;
            r->s++;
            continue;
        }
        if (r->end - r->s < 2) break;
        switch (r->s[1]) {
        case 'n': *at++ = '\n'; break;
        case 't': *at++ = '\t'; break;
        case 'r': *at++ = '\r'; break;
        case 'b': *at++ = '\b'; break;
        case 'f': *at++ = '\f'; break;
        case '"':
        case '\\':
        case '/': *at++ = r->s[1]; break;
        case 'u':
            if (r->end - r->s < 6 || !hex4(r->s + 2, &cp)) return syntax(r, "\\u must have four hex digits");
            if (cp >= 0xd800 && cp < 0xdc00) {
                if (r->end - r->s < 12 || r->s[6] != '\\' || r->s[7] != 'u' || !hex4(r->s + 8, &low) ||
                    low < 0xdc00 || low >= 0xe000)
                    return syntax(r, "a surrogate without its other half");
                cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
                r->s += 6;
            } else if (cp >= 0xdc00 && cp < 0xe000) {
                return syntax(r, "a surrogate without its other half");
            }
            at += mlxr_utf8_encode(at, cp);
            r->s += 4;
            break;
        default: return syntax(r, "an escape that JSON does not have");
        }
        r->s += 2;
    }
    *out = (tok_str){to, (size_t)(at - to)};
    return MLXR_OK;
}

/* mlxr_utf8_valid for strings of a few characters. */
static bool is_utf8(const char *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text, *end = s + n;
    while (s < end) {
        if (*s < 0x80) {
            s++;
        } else if (end - s >= 3 && *s > 0xe0 && *s < 0xed && (s[1] & 0xc0) == 0x80 && (s[2] & 0xc0) == 0x80) {
            s += 3;
        } else if (end - s >= 2 && *s >= 0xc2 && *s < 0xe0 && (s[1] & 0xc0) == 0x80) {
            s += 2;
        } else {
            uint32_t cp;
            size_t k = mlxr_utf8_decode((const char *)s, (size_t)(end - s), &cp);
            if (!k) return false;
            s += k;
        }
    }
    return true;
}

/* A string, its opening quote already read. */
static inline mlxr_status string(reader *r, tok_str *out)
{
    const char *from = r->s, *p = from;
    unsigned char high = 0;
    mlxr_status st;

    while (p < r->end && *p != '"' && *p != '\\' && (unsigned char)*p >= 0x20) high |= (unsigned char)*p++;
    r->s = p;
    if (p == r->end) return syntax(r, "a string does not end");
    if (*p == '"') {
        *out = (tok_str){from, (size_t)(p - from)};
    } else {
        if (*p != '\\') return syntax(r, "a control character in a string");
        if ((st = string_with_escapes(r, from, out)) != MLXR_OK) return st;
        if (r->s >= r->end) return syntax(r, "a string does not end");
        high = 0x80;
    }
    if (high >= 0x80 && !is_utf8(out->s, out->n)) {
        r->s = from;
        return syntax(r, "a string is not valid UTF-8");
    }
    r->s++;
    return MLXR_OK;
}

static double power_of_ten(long k)
{
    char text[16];
    snprintf(text, sizeof text, "1e%ld", k);
    return strtod(text, NULL); /* no point in it, so no locale matters */
}

/* A number as serde_json reads it without its float_roundtrip feature: the digits that fit an integer of 64 bits,
 * then one multiplication or division by a power of ten. A unigram model's scores must be the reference's bits. */
static double serde_number(const char *s, size_t n)
{
    static const double p10[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10,
                                 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21,
                                 1e22, 1e23, 1e24, 1e25, 1e26, 1e27, 1e28, 1e29, 1e30, 1e31};
    size_t i = 0;
    bool negative = n && s[0] == '-', full = false, point = false;
    uint64_t v = 0;
    long exponent = 0, e = 0;
    double f;

    if (negative) i++;
    for (; i < n && ((s[i] >= '0' && s[i] <= '9') || s[i] == '.'); i++) {
        uint64_t d, next;
        if (s[i] == '.') {
            point = true;
            continue;
        }
        d = (uint64_t)(s[i] - '0');
        if (!full &&
            (__builtin_mul_overflow(v, (uint64_t)10, &next) || __builtin_add_overflow(next, d, &next)))
            full = true;
        if (full) {
            if (!point && exponent < 100000) exponent++;
            continue;
        }
        v = v * 10 + d;
        if (point) exponent--;
    }
    if (i < n) {
        bool down = false;
        i++;
        if (i < n && (s[i] == '+' || s[i] == '-')) down = s[i++] == '-';
        for (; i < n && e < 100000; i++) e = e * 10 + (s[i] - '0');
        exponent += down ? -e : e;
    }
    f = (double)v;
    while (exponent != 0 && f != 0 && !isinf(f)) {
        long k = exponent < 0 ? -exponent : exponent;
        double p;
        if (k > 308) k = 308;
        p = k < (long)MLXR_COUNT(p10) ? p10[k] : power_of_ten(k);
        if (exponent < 0) {
            f /= p;
            exponent += k;
        } else {
            f *= p;
            exponent -= k;
        }
    }
    return negative ? -f : f;
}

typedef struct number {
    bool real;
    int64_t i;
    double f;
} number;

static mlxr_status read_number(reader *r, number *out)
{
    const char *from = r->s, *p = from, *digits;
    bool real = false;
    uint64_t v = 0;

    if (p < r->end && *p == '-') p++;
    digits = p;
    for (; p < r->end && *p >= '0' && *p <= '9'; p++)
        v = v < UINT64_MAX / 20 ? v * 10 + (uint64_t)(*p - '0') : UINT64_MAX;
    if (p == digits || (*digits == '0' && p - digits > 1)) return syntax(r, "a value is missing");
    if (p < r->end && *p == '.') {
        const char *q = ++p;
        real = true;
        while (p < r->end && *p >= '0' && *p <= '9') p++;
        if (p == q) return syntax(r, "a number ends in its point");
    }
    if (p < r->end && (*p == 'e' || *p == 'E')) {
        const char *q;
        real = true;
        p++;
        if (p < r->end && (*p == '+' || *p == '-')) p++;
        for (q = p; p < r->end && *p >= '0' && *p <= '9';) p++;
        if (p == q) return syntax(r, "a number has no exponent");
    }
    if (v > INT64_MAX) real = true;
    *out = (number){.real = real};
    if (!real) out->i = *from == '-' ? -(int64_t)v : (int64_t)v;
    out->f = real ? serde_number(from, (size_t)(p - from)) : (double)out->i;
    r->s = p;
    return MLXR_OK;
}

/* ---- the flat parts ---- */

static mlxr_status grow(reader *r, void *array, size_t cap, size_t size)
{
    void **a = array, *p = mlxr_realloc_array(*a, cap, size);
    if (!p) return nomem(r);
    *a = p;
    return MLXR_OK;
}

static mlxr_status add_token(reader *r, tok_str s, uint32_t id, const double *score)
{
    tok_source *src = r->src;
    mlxr_status st;
    if (src->n_tokens == r->cap_tokens) {
        size_t cap = r->cap_tokens ? 2 * r->cap_tokens : 4096;
        if ((st = grow(r, &src->tokens, cap, sizeof *src->tokens)) != MLXR_OK) return st;
        if ((st = grow(r, &src->ids, cap, sizeof *src->ids)) != MLXR_OK) return st;
        if (score && (st = grow(r, &src->scores, cap, sizeof *src->scores)) != MLXR_OK) return st;
        r->cap_tokens = cap;
    }
    src->tokens[src->n_tokens] = s;
    src->ids[src->n_tokens] = id;
    if (score) src->scores[src->n_tokens] = *score;
    src->n_tokens++;
    return MLXR_OK;
}

/* {"token": id, ...}, the brace read. */
static mlxr_status vocab_map(reader *r)
{
    mlxr_status st;
    if (take(r, '}')) return MLXR_OK;
    do {
        tok_str key = {0};
        number v = {0};
        if (!take(r, '"')) return syntax(r, "a key must begin here");
        if ((st = string(r, &key)) != MLXR_OK) return st;
        if (!take(r, ':')) return syntax(r, "a colon must be here");
        skip_space(r);
        v.real = true;
        if (r->s < r->end && *r->s >= '0' && *r->s <= '9' && (st = read_number(r, &v)) != MLXR_OK) return st;
        if (v.real || v.i > INT32_MAX)
            return mlxr_fail(r->err, MLXR_E_FORMAT,
                             "tokenizer: %s: model.vocab: the id of \"%.*s\" is no integer from 0 to %d",
                             r->file, key.n < 100 ? (int)key.n : 100, key.s, INT32_MAX);
        if ((st = add_token(r, key, (uint32_t)v.i, NULL)) != MLXR_OK) return st;
    } while (take(r, ','));
    return take(r, '}') ? MLXR_OK : syntax(r, "a comma or } must be here");
}

/* [["token", score], ...], the bracket read. */
static mlxr_status vocab_list(reader *r)
{
    static const char want[] = "a token with its score";
    mlxr_status st;
    if (take(r, ']')) return MLXR_OK;
    do {
        size_t i = r->src->n_tokens;
        tok_str token = {0};
        number v = {0};
        if (i > INT32_MAX || !take(r, '[') || !take(r, '"')) return wrong(r, "model.vocab", i, want);
        if ((st = string(r, &token)) != MLXR_OK) return st;
        if (!take(r, ',')) return wrong(r, "model.vocab", i, want);
        skip_space(r);
        if (r->s == r->end || (*r->s != '-' && (*r->s < '0' || *r->s > '9')))
            return wrong(r, "model.vocab", i, want);
        if ((st = read_number(r, &v)) != MLXR_OK) return st;
        if (!take(r, ']')) return wrong(r, "model.vocab", i, want);
        if ((st = add_token(r, token, (uint32_t)i, &v.f)) != MLXR_OK) return st;
    } while (take(r, ','));
    return take(r, ']') ? MLXR_OK : syntax(r, "a comma or ] must be here");
}

/* ["left right", ...] or [["left", "right"], ...], the bracket read. */
static mlxr_status merge_list(reader *r)
{
    static const char want[] = "two tokens: a string with one space, or a pair of strings";
    tok_source *src = r->src;
    mlxr_status st;
    if (take(r, ']')) return MLXR_OK;
    for (size_t i = 0;; i++) {
        tok_str a = {0}, b = {0};
        if (take(r, '[')) {
            if (!take(r, '"')) return wrong(r, "model.merges", i, want);
            if ((st = string(r, &a)) != MLXR_OK) return st;
            if (!take(r, ',') || !take(r, '"')) return wrong(r, "model.merges", i, want);
            if ((st = string(r, &b)) != MLXR_OK) return st;
            if (!take(r, ']')) return wrong(r, "model.merges", i, want);
        } else if (take(r, '"')) {
            const char *space;
            if ((st = string(r, &a)) != MLXR_OK) return st;
            space = memchr(a.s, ' ', a.n);
            if (a.n >= 8 && memcmp(a.s, "#version", 8) == 0) goto next;
            if (!space || memchr(space + 1, ' ', (size_t)(a.s + a.n - space - 1)))
                return wrong(r, "model.merges", i, want);
            b = (tok_str){space + 1, (size_t)(a.s + a.n - space - 1)};
            a.n = (size_t)(space - a.s);
        } else {
            return wrong(r, "model.merges", i, want);
        }
        if (src->n_merges == r->cap_merges) {
            size_t cap = r->cap_merges ? 2 * r->cap_merges : 4096;
            if ((st = grow(r, &src->merges, 2 * cap, sizeof *src->merges)) != MLXR_OK) return st;
            r->cap_merges = cap;
        }
        src->merges[2 * src->n_merges] = a;
        src->merges[2 * src->n_merges + 1] = b;
        src->n_merges++;
    next:
        if (!take(r, ',')) break;
    }
    return take(r, ']') ? MLXR_OK : syntax(r, "a comma or ] must be here");
}

/* ---- the tree ---- */

static mlxr_status value(reader *r, json_t **out, unsigned depth, const char *path);

/* Whether the value that begins is one of the flat ones; it is then read, and stands empty in the tree. */
static mlxr_status flat(reader *r, const char *path, json_t **out, bool *is)
{
    tok_source *src = r->src;
    mlxr_status st = MLXR_OK;
    *is = true;
    if (strcmp(path, "model.vocab") == 0 && (take(r, '{') || take(r, '['))) {
        bool map = r->s[-1] == '{';
        src->n_tokens = 0;
        if (r->cap_tokens && map == (src->scores != NULL))
            return syntax(r, "model.vocab is there twice, in two forms");
        st = map ? vocab_map(r) : vocab_list(r);
        *out = map ? json_object() : json_array();
    } else if (strcmp(path, "model.merges") == 0 && take(r, '[')) {
        src->n_merges = 0;
        st = merge_list(r);
        *out = json_array();
    } else {
        *is = false;
        return MLXR_OK;
    }
    return st != MLXR_OK ? st : *out ? MLXR_OK : nomem(r);
}

static mlxr_status object(reader *r, json_t *o, unsigned depth, const char *path)
{
    mlxr_status st;
    if (take(r, '}')) return MLXR_OK;
    do {
        tok_str key = {0};
        json_t *v = NULL;
        char *name;
        const char *below = "";
        if (!take(r, '"')) return syntax(r, "a key must begin here");
        if ((st = string(r, &key)) != MLXR_OK) return st;
        if (!take(r, ':')) return syntax(r, "a colon must be here");
        if (depth == 1 && key.n == 5 && memcmp(key.s, "model", 5) == 0) below = "model";
        if (depth == 2 && strcmp(path, "model") == 0 && key.n == 5 && memcmp(key.s, "vocab", 5) == 0)
            below = "model.vocab";
        if (depth == 2 && strcmp(path, "model") == 0 && key.n == 6 && memcmp(key.s, "merges", 6) == 0)
            below = "model.merges";
        if ((st = value(r, &v, depth, below)) != MLXR_OK) {
            json_decref(v);
            return st;
        }
        name = mlxr_strndup(key.s, key.n); /* jansson 2.12 has no keys by length: one with a NUL ends there */
        if (!name) json_decref(v);
        if (!name || json_object_set_new_nocheck(o, name, v) != 0) {
            free(name);
            return nomem(r);
        }
        free(name);
    } while (take(r, ','));
    return take(r, '}') ? MLXR_OK : syntax(r, "a comma or } must be here");
}

static mlxr_status array(reader *r, json_t *a, unsigned depth)
{
    mlxr_status st;
    if (take(r, ']')) return MLXR_OK;
    do {
        json_t *v = NULL;
        if ((st = value(r, &v, depth, "")) != MLXR_OK) {
            json_decref(v);
            return st;
        }
        if (json_array_append_new(a, v) != 0) return nomem(r);
    } while (take(r, ','));
    return take(r, ']') ? MLXR_OK : syntax(r, "a comma or ] must be here");
}

static bool word(reader *r, const char *w)
{
    size_t n = strlen(w);
    if ((size_t)(r->end - r->s) < n || memcmp(r->s, w, n) != 0) return false;
    r->s += n;
    return true;
}

/* *out may be set on failure too: it is what was read so far, for the caller to free. */
static mlxr_status value(reader *r, json_t **out, unsigned depth, const char *path)
{
    tok_str s = {0};
    number n = {0};
    bool is = false;
    mlxr_status st;

    if (depth == MAX_DEPTH)
        return mlxr_fail(r->err, MLXR_E_LIMIT, "tokenizer: %s: nested deeper than %d", r->file, MAX_DEPTH);
    if ((st = flat(r, path, out, &is)) != MLXR_OK || is) return st;
    skip_space(r);
    if (take(r, '{')) {
        *out = json_object();
        return *out ? object(r, *out, depth + 1, path) : nomem(r);
    }
    if (take(r, '[')) {
        *out = json_array();
        return *out ? array(r, *out, depth + 1) : nomem(r);
    }
    if (take(r, '"')) {
        if ((st = string(r, &s)) != MLXR_OK) return st;
        *out = json_stringn_nocheck(s.s, s.n);
    } else if (word(r, "true")) {
        *out = json_true();
    } else if (word(r, "false")) {
        *out = json_false();
    } else if (word(r, "null")) {
        *out = json_null();
    } else {
        if ((st = read_number(r, &n)) != MLXR_OK) return st;
        if (n.real && isinf(n.f)) return syntax(r, "a number is too large");
        *out = n.real ? json_real(n.f) : json_integer(n.i);
    }
    return *out ? MLXR_OK : nomem(r);
}

mlxr_status tok_load_json(json_t **config, tok_source *src, mlxr_arena *arena, const char *text, size_t n,
                          size_t n_head, const char *file, mlxr_error *err)
{
    reader r = {.start = text,
                .s = text,
                .end = text + n,
                .file = file,
                .n_head = n_head,
                .arena = arena,
                .err = err,
                .src = src};
    json_t *root = NULL;
    mlxr_status st = value(&r, &root, 0, "");

    *config = NULL;
    skip_space(&r);
    if (st == MLXR_OK && r.s < r.end) st = syntax(&r, "something follows the file's value");
    if (st == MLXR_OK && !json_is_object(root))
        st = mlxr_fail(err, MLXR_E_FORMAT, "tokenizer: %s: is not a JSON object", file);
    if (st == MLXR_OK)
        *config = root;
    else
        json_decref(root);
    return st;
}
