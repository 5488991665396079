/* Reads tokenizer.json in one pass of yajl's events: the vocabulary and the merges, which are nearly all of the
 * file, go to flat arrays of strings that point into the text; the rest becomes a small jansson tree. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <yajl/yajl_parse.h>

#include "text/tokenizer/load.h"

enum { MAX_DEPTH = 64 };

typedef enum mode { MODE_TREE, MODE_VOCAB_MAP, MODE_VOCAB_LIST, MODE_MERGES } mode;

typedef struct loader {
    const char *text, *file;
    size_t n_text, n_head;
    mlxr_arena *arena;
    mlxr_error *err;
    mlxr_status st;
    tok_source *src;
    size_t cap_tokens, cap_merges, n_items; /* n_items: of the array that is open in a flat mode */
    json_t *root, *stack[MAX_DEPTH];
    char *keys[MAX_DEPTH];
    size_t depth;
    mode mode;
    size_t inner; /* arrays open within a flat mode */
    tok_str pair[2];
    bool have_score;
} loader;

static int fail(loader *l, mlxr_status st, const char *what)
{
    l->st = mlxr_fail(l->err, st, "tokenizer: %s: %s", l->file, what);
    return 0;
}

static int nomem(loader *l)
{
    l->st = mlxr_fail_nomem(l->err, l->file);
    return 0;
}

static int wrong(loader *l, const char *path, size_t i, const char *want)
{
    l->st = mlxr_fail(l->err, MLXR_E_FORMAT, "tokenizer: %s: %s[%zu] must be %s", l->file, path, i, want);
    return 0;
}

/* The string where it can stay: in the text, or, when it had escapes, in the arena. */
static bool keep(loader *l, tok_str *out, const unsigned char *s, size_t n)
{
    const char *p = (const char *)s;
    uintptr_t at = (uintptr_t)p, from = (uintptr_t)l->text;
    if (n && !(at >= from && at < from + l->n_text)) {
        p = mlxr_arena_strndup(l->arena, p, n);
        if (!p) return false;
    }
    *out = (tok_str){n ? p : "", n};
    return true;
}

static bool grow(void *array, size_t *cap, size_t want, size_t size)
{
    void **a = array, *p;
    size_t c = *cap ? *cap : 1024;
    while (c < want) c *= 2;
    if (c == *cap) return true;
    p = mlxr_realloc_array(*a, c, size);
    if (!p) return false;
    *a = p;
    *cap = c;
    return true;
}

static int add_token(loader *l, tok_str s, uint32_t id, double score)
{
    tok_source *src = l->src;
    if (src->n_tokens == l->cap_tokens) {
        size_t cap = l->cap_tokens, cap2 = cap, cap3 = cap;
        if (!grow(&src->tokens, &cap, src->n_tokens + 1, sizeof *src->tokens) ||
            !grow(&src->ids, &cap2, src->n_tokens + 1, sizeof *src->ids) ||
            (l->mode == MODE_VOCAB_LIST &&
             !grow(&src->scores, &cap3, src->n_tokens + 1, sizeof *src->scores)))
            return nomem(l);
        l->cap_tokens = cap;
    }
    src->tokens[src->n_tokens] = s;
    src->ids[src->n_tokens] = id;
    if (l->mode == MODE_VOCAB_LIST) src->scores[src->n_tokens] = score;
    src->n_tokens++;
    return 1;
}

static int add_merge(loader *l, tok_str a, tok_str b)
{
    tok_source *src = l->src;
    if (2 * src->n_merges + 2 > l->cap_merges &&
        !grow(&src->merges, &l->cap_merges, 2 * src->n_merges + 2, sizeof *src->merges))
        return nomem(l);
    src->merges[2 * src->n_merges] = a;
    src->merges[2 * src->n_merges + 1] = b;
    src->n_merges++;
    return 1;
}

/* A number as serde_json reads it without its float_roundtrip feature: up to 19 or 20 digits as an integer, then
 * one multiplication or division by a power of ten. The scores of a unigram model must be the reference's bits. */
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
            if (!point) exponent++;
            continue;
        }
        v = v * 10 + d;
        if (point) exponent--;
    }
    if (i < n && (s[i] == 'e' || s[i] == 'E')) {
        bool down = false;
        i++;
        if (i < n && (s[i] == '+' || s[i] == '-')) down = s[i++] == '-';
        for (; i < n && e < 100000; i++) e = e * 10 + (s[i] - '0');
        exponent += down ? -e : e;
    }
    f = (double)v;
    while (exponent != 0 && f != 0) {
        long k = exponent < 0 ? -exponent : exponent;
        double p;
        if (k > 308) k = 308;
        p = k < (long)MLXR_COUNT(p10) ? p10[k] : pow(10, (double)k);
        if (exponent < 0) {
            f /= p;
            exponent += k;
        } else {
            f *= p;
            exponent -= k;
        }
        if (isinf(f)) break;
    }
    return negative ? -f : f;
}

/* A value for the tree: into the open container, which takes the reference. */
static int put(loader *l, json_t *v)
{
    json_t *up;
    int rc;
    if (!v) return nomem(l);
    if (!l->depth) {
        if (l->root) json_decref(l->root);
        l->root = v;
        return 1;
    }
    up = l->stack[l->depth - 1];
    if (json_is_array(up))
        rc = json_array_append_new(up, v);
    else
        rc = json_object_set_new(up, l->keys[l->depth - 1], v);
    return rc == 0 ? 1 : nomem(l);
}

static int on_scalar(loader *l, json_t *v)
{
    if (l->mode == MODE_TREE) return put(l, v);
    json_decref(v);
    if (l->mode == MODE_MERGES) return wrong(l, "model.merges", l->n_items, "a string or a pair of strings");
    if (l->mode == MODE_VOCAB_MAP) return wrong(l, "model.vocab", l->n_items, "an id");
    return wrong(l, "model.vocab", l->n_items, "a token with its score");
}

static int on_null(void *ud)
{
    return on_scalar(ud, json_null());
}

static int on_boolean(void *ud, int v)
{
    return on_scalar(ud, json_boolean(v));
}

static int on_number(void *ud, const char *s, size_t n)
{
    loader *l = ud;
    bool real = false;
    long long v = 0;

    for (size_t i = 0; i < n; i++) real |= s[i] == '.' || s[i] == 'e' || s[i] == 'E';
    if (l->mode == MODE_VOCAB_LIST && l->inner == 1 && l->pair[0].s && !l->have_score) {
        l->have_score = true;
        return add_token(l, l->pair[0], (uint32_t)l->n_items, serde_number(s, n));
    }
    if (!real) {
        size_t i = s[0] == '-';
        for (; i < n; i++) {
            if (v > (LLONG_MAX - 9) / 10) {
                real = true;
                break;
            }
            v = v * 10 + (s[i] - '0');
        }
        if (s[0] == '-') v = -v;
    }
    if (l->mode == MODE_VOCAB_MAP && !l->inner) {
        if (real || v < 0 || v > INT32_MAX) {
            l->st = mlxr_fail(l->err, MLXR_E_FORMAT, "tokenizer: %s: model.vocab: the id of \"%.*s\" is %.*s",
                              l->file, l->pair[0].n < 100 ? (int)l->pair[0].n : 100, l->pair[0].s,
                              n < 40 ? (int)n : 40, s);
            return 0;
        }
        return add_token(l, l->pair[0], (uint32_t)v, 0);
    }
    return on_scalar(l, real ? json_real(serde_number(s, n)) : json_integer(v));
}

static int on_string(void *ud, const unsigned char *s, size_t n)
{
    loader *l = ud;
    tok_str str;

    if (l->mode == MODE_TREE) return put(l, json_stringn_nocheck((const char *)s, n));
    if (!keep(l, &str, s, n)) return nomem(l);
    if (l->mode == MODE_MERGES && l->inner == 0) { /* "left right" */
        const char *space = memchr(str.s, ' ', str.n);
        tok_str a, b;
        if (str.n >= 8 && memcmp(str.s, "#version", 8) == 0) return 1;
        if (!space) return wrong(l, "model.merges", l->n_items, "two tokens and a space between them");
        a = (tok_str){str.s, (size_t)(space - str.s)};
        b = (tok_str){space + 1, str.n - a.n - 1};
        if (memchr(b.s, ' ', b.n))
            return wrong(l, "model.merges", l->n_items, "two tokens and one space between them");
        l->n_items++;
        return add_merge(l, a, b);
    }
    if (l->mode == MODE_MERGES && l->inner == 1 && !l->pair[1].s) {
        l->pair[l->pair[0].s != NULL] = str;
        return 1;
    }
    if (l->mode == MODE_VOCAB_LIST && l->inner == 1 && !l->pair[0].s) {
        l->pair[0] = str;
        return 1;
    }
    return on_scalar(l, json_null());
}

static int on_key(void *ud, const unsigned char *s, size_t n)
{
    loader *l = ud;
    if (l->mode == MODE_VOCAB_MAP) return keep(l, &l->pair[0], s, n) ? 1 : nomem(l);
    free(l->keys[l->depth - 1]);
    l->keys[l->depth - 1] = mlxr_strndup((const char *)s, n);
    return l->keys[l->depth - 1] ? 1 : nomem(l);
}

static int open_container(loader *l, json_t *v)
{
    if (!v) return nomem(l);
    if (l->depth == MAX_DEPTH) {
        json_decref(v);
        return fail(l, MLXR_E_LIMIT, "nested too deep");
    }
    if (!put(l, v)) return 0;
    l->stack[l->depth++] = v;
    return 1;
}

/* Whether the value that begins is model.NAME. */
static bool is_model(const loader *l, const char *name)
{
    return l->depth == 2 && json_is_object(l->stack[0]) && json_is_object(l->stack[1]) &&
           strcmp(l->keys[0], "model") == 0 && strcmp(l->keys[1], name) == 0;
}

static void restart(loader *l, mode m)
{
    l->mode = m;
    l->n_items = l->inner = 0;
    if (m == MODE_MERGES)
        l->src->n_merges = 0;
    else
        l->src->n_tokens = 0;
}

static int on_start_map(void *ud)
{
    loader *l = ud;
    if (l->mode != MODE_TREE) return on_scalar(l, json_null());
    if (is_model(l, "vocab")) {
        if (l->src->scores) return fail(l, MLXR_E_FORMAT, "model.vocab is there twice");
        restart(l, MODE_VOCAB_MAP);
        return 1;
    }
    return open_container(l, json_object());
}

static int close_container(loader *l)
{
    free(l->keys[--l->depth]);
    l->keys[l->depth] = NULL;
    return 1;
}

static int on_end_map(void *ud)
{
    loader *l = ud;
    if (l->mode == MODE_VOCAB_MAP) {
        l->mode = MODE_TREE;
        return put(l, json_object());
    }
    return close_container(l);
}

static int on_start_array(void *ud)
{
    loader *l = ud;
    if (l->mode == MODE_VOCAB_LIST || l->mode == MODE_MERGES) {
        if (l->inner) return on_scalar(l, json_null());
        l->inner = 1;
        l->pair[0] = l->pair[1] = (tok_str){0};
        l->have_score = false;
        return 1;
    }
    if (l->mode == MODE_VOCAB_MAP) return on_scalar(l, json_null());
    if (is_model(l, "vocab")) {
        if (l->src->n_tokens) return fail(l, MLXR_E_FORMAT, "model.vocab is there twice");
        restart(l, MODE_VOCAB_LIST);
        if (!l->src->scores) {
            size_t cap = 0;
            if (!grow(&l->src->scores, &cap, l->cap_tokens + 1, sizeof *l->src->scores)) return nomem(l);
        }
        return 1;
    }
    if (is_model(l, "merges")) {
        restart(l, MODE_MERGES);
        return 1;
    }
    return open_container(l, json_array());
}

static int on_end_array(void *ud)
{
    loader *l = ud;
    if (l->mode == MODE_TREE) return close_container(l);
    if (!l->inner) {
        l->mode = MODE_TREE;
        return put(l, json_array());
    }
    l->inner = 0;
    if (l->mode == MODE_MERGES) {
        if (!l->pair[1].s) return wrong(l, "model.merges", l->n_items, "a pair of strings");
        l->n_items++;
        return add_merge(l, l->pair[0], l->pair[1]);
    }
    if (!l->have_score) return wrong(l, "model.vocab", l->n_items, "a token with its score");
    l->n_items++;
    return 1;
}

static mlxr_status syntax_error(loader *l, yajl_handle h)
{
    size_t at = yajl_get_bytes_consumed(h), line = 1, column = 1;
    unsigned char *text = yajl_get_error(h, 0, (const unsigned char *)l->text, l->n_text);
    const char *why = text ? (const char *)text : "malformed";
    mlxr_status st;

    for (size_t i = l->n_head; i < at && i < l->n_text; i++) {
        if (l->text[i] == '\n')
            line++, column = 1;
        else
            column++;
    }
    st = mlxr_fail(l->err, MLXR_E_FORMAT, "tokenizer: %s: line %zu, column %zu: %.*s", l->file, line, column,
                   (int)strcspn(why, "\n"), why);
    if (text) yajl_free_error(h, text);
    return st;
}

void tok_source_clear(tok_source *src)
{
    free(src->tokens);
    free(src->ids);
    free(src->scores);
    free(src->merges);
    *src = (tok_source){0};
}

mlxr_status tok_load_json(json_t **config, tok_source *src, mlxr_arena *arena, const char *text, size_t n,
                          size_t n_head, const char *file, mlxr_error *err)
{
    static const yajl_callbacks callbacks = {.yajl_null = on_null,
                                             .yajl_boolean = on_boolean,
                                             .yajl_number = on_number,
                                             .yajl_string = on_string,
                                             .yajl_start_map = on_start_map,
                                             .yajl_map_key = on_key,
                                             .yajl_end_map = on_end_map,
                                             .yajl_start_array = on_start_array,
                                             .yajl_end_array = on_end_array};
    loader l = {
        .text = text, .file = file, .n_text = n, .n_head = n_head, .arena = arena, .err = err, .src = src};
    yajl_handle h = yajl_alloc(&callbacks, NULL, &l);
    yajl_status ys;
    mlxr_status st = MLXR_OK;

    *config = NULL;
    if (!h) return mlxr_fail_nomem(err, file);
    ys = yajl_parse(h, (const unsigned char *)text, n);
    if (ys == yajl_status_ok) ys = yajl_complete_parse(h);
    if (l.st != MLXR_OK)
        st = l.st;
    else if (ys != yajl_status_ok)
        st = syntax_error(&l, h);
    else if (!json_is_object(l.root))
        st = mlxr_fail(err, MLXR_E_FORMAT, "tokenizer: %s: is not a JSON object", file);
    yajl_free(h);
    for (size_t i = 0; i < MAX_DEPTH; i++) free(l.keys[i]);
    if (st == MLXR_OK)
        *config = l.root;
    else
        json_decref(l.root);
    return st;
}
