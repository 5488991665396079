/* gbnf: grammars in llama.cpp's notation, as its grammars/README.md describes it. What is supported, and how, is in docs.
 *
 * One pass from front to back by recursive descent into the builder; rules are declared where they are first named. */
#include <stdlib.h>

#include "engine/grammar/machine.h"

enum { MAX_GROUPS = 500, MAX_CLASS = 4096 };

typedef struct name {
    mlxr_rule rule;
    bool defined;
    size_t at; /* where it was first named */
    const char *text;
    size_t n;
} name;

typedef struct parser {
    mlxr_grammar_builder *b;
    const char *start, *p, *end;
    const char *what;
    mlxr_strtab by_name; /* index in names */
    name *names;
    size_t n_names, cap_names;
    unsigned depth;
    mlxr_status st;
    mlxr_error *err;
} parser;

static mlxr_expr parse_alternatives(parser *s, bool nested);

static mlxr_expr mistake_at(parser *s, const char *at, mlxr_status st, const char *message,
                            const char *detail, size_t n_detail)
{
    size_t line = 1, column = 1;
    if (s->st != MLXR_OK) return MLXR_EXPR_NONE;
    for (const char *p = s->start; p < at; p++) {
        column++;
        if (*p == '\n') line++, column = 1;
    }
    s->st = mlxr_fail(s->err, st, "%s: line %zu, column %zu: %s%.*s", s->what, line, column, message,
                      (int)(n_detail > 80 ? 80 : n_detail), detail);
    return MLXR_EXPR_NONE;
}

static mlxr_expr mistake(parser *s, const char *message)
{
    return mistake_at(s, s->p, MLXR_E_FORMAT, message, "", 0);
}

static mlxr_expr nomem(parser *s)
{
    if (s->st == MLXR_OK) s->st = mlxr_fail_nomem(s->err, s->what);
    return MLXR_EXPR_NONE;
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static bool here(const parser *s, char c)
{
    return s->p < s->end && *s->p == c;
}

/* White space and comments; line ends only where the rule goes on behind them. */
static void space(parser *s, bool lines)
{
    while (s->p < s->end) {
        char c = *s->p;
        if (c == '#') {
            while (s->p < s->end && *s->p != '\n' && *s->p != '\r') s->p++;
        } else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'))) {
            s->p++;
        } else {
            return;
        }
    }
}

/* ---- names ---- */

/* Index of the rule with the name at p; SIZE_MAX: out of memory. */
static size_t name_of(parser *s, const char *p, size_t n)
{
    size_t i = mlxr_strtab_get(&s->by_name, p, n);
    name x = {.at = (size_t)(p - s->start), .text = p, .n = n};
    char *text;
    if (i != SIZE_MAX) return i;
    text = mlxr_strndup(p, n);
    if (text) x.rule = mlxr_gb_rule(s->b, text);
    free(text);
    if (!text || !gm_grow(&s->names, &s->cap_names, s->n_names, 1, sizeof *s->names) ||
        !mlxr_strtab_put(&s->by_name, p, n, s->n_names, NULL)) {
        nomem(s);
        return SIZE_MAX;
    }
    s->names[s->n_names] = x;
    return s->n_names++;
}

/* ---- characters ---- */

/* One character of a literal or a class, escapes taken. */
static bool character(parser *s, uint32_t *cp)
{
    const char *at = s->p;
    size_t n, digits;
    if (*s->p != '\\') {
        n = mlxr_utf8_decode(s->p, (size_t)(s->end - s->p), cp);
        if (!n) {
            mistake(s, "not valid UTF-8");
            return false;
        }
        s->p += n;
        return true;
    }
    if (s->p + 1 >= s->end) {
        mistake(s, "the text ends in an escape");
        return false;
    }
    s->p += 2;
    switch (s->p[-1]) {
    case 'n': *cp = '\n'; return true;
    case 'r': *cp = '\r'; return true;
    case 't': *cp = '\t'; return true;
    case '\\':
    case '"':
    case '[':
    case ']': *cp = (unsigned char)s->p[-1]; return true;
    case 'x': digits = 2; break;
    case 'u': digits = 4; break;
    case 'U': digits = 8; break;
    default: mistake_at(s, at, MLXR_E_FORMAT, "an escape that GBNF does not have: ", at, 2); return false;
    }
    *cp = 0;
    for (n = 0; n < digits; n++, s->p++) {
        char c = s->p < s->end ? *s->p : '\0', lower = c | 0x20;
        unsigned v;
        if (c >= '0' && c <= '9') {
            v = (unsigned)(c - '0');
        } else if (lower >= 'a' && lower <= 'f') {
            v = (unsigned)(lower - 'a' + 10);
        } else {
            mistake(s, "a hexadecimal digit is missing");
            return false;
        }
        *cp = *cp << 4 | v;
    }
    if (*cp > 0x10ffff || (*cp >= 0xd800 && *cp < 0xe000)) {
        mistake_at(s, at, MLXR_E_FORMAT, "no character: ", at, (size_t)(s->p - at));
        return false;
    }
    return true;
}

static mlxr_expr parse_literal(parser *s)
{
    const char *at = s->p++;
    mlxr_buf text = {0};
    uint32_t cp;
    mlxr_expr e = MLXR_EXPR_NONE;
    while (s->p < s->end && *s->p != '"' && *s->p != '\n') {
        if (!character(s, &cp)) goto done;
        mlxr_buf_utf8(&text, cp);
    }
    if (!here(s, '"')) {
        mistake_at(s, at, MLXR_E_FORMAT, "a string without an end", "", 0);
        goto done;
    }
    s->p++;
    e = text.failed ? nomem(s) : mlxr_gb_text(s->b, text.data ? text.data : "", text.len);
done:
    mlxr_buf_clear(&text);
    return e;
}

static int by_first(const void *a, const void *b)
{
    const mlxr_char_range *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* The ranges' complement, in place; r has room for one more. */
static size_t negate(mlxr_char_range *r, size_t n)
{
    uint32_t next = 0;
    size_t k = 0;
    qsort(r, n, sizeof *r, by_first);
    for (size_t i = 0; i < n; i++) {
        mlxr_char_range now = r[i];
        if (now.first > next) r[k++] = (mlxr_char_range){next, now.first - 1};
        if (now.last + 1 > next) next = now.last + 1;
    }
    if (next <= 0x10ffff) r[k++] = (mlxr_char_range){next, 0x10ffff};
    return k;
}

static mlxr_expr class_of(parser *s, const mlxr_char_range *r, size_t n)
{
    mlxr_dfa *d = NULL;
    if (s->st != MLXR_OK) return MLXR_EXPR_NONE;
    s->st = mlxr_dfa_ranges(&d, r, n, s->err);
    return s->st == MLXR_OK ? mlxr_gb_dfa(s->b, d) : MLXR_EXPR_NONE;
}

static mlxr_expr parse_class(parser *s)
{
    const char *at = s->p++;
    mlxr_char_range *r = NULL;
    size_t n = 0, cap = 0;
    bool negative = here(s, '^');
    mlxr_expr e = MLXR_EXPR_NONE;
    if (negative) s->p++;
    while (s->p < s->end && *s->p != ']' && *s->p != '\n') {
        mlxr_char_range x;
        const char *from = s->p;
        if (!character(s, &x.first)) goto done;
        x.last = x.first;
        if (here(s, '-') && s->p + 1 < s->end && s->p[1] != ']') {
            s->p++;
            if (!character(s, &x.last)) goto done;
            if (x.last < x.first) {
                mistake_at(s, from, MLXR_E_FORMAT, "a range that ends before it begins: ", from,
                           (size_t)(s->p - from));
                goto done;
            }
        }
        if (n >= MAX_CLASS) {
            mistake_at(s, at, MLXR_E_LIMIT, "a class of more than 4096 ranges", "", 0);
            goto done;
        }
        if (!gm_grow(&r, &cap, n, 2, sizeof *r)) {
            nomem(s);
            goto done;
        }
        r[n++] = x;
    }
    if (!here(s, ']')) {
        mistake_at(s, at, MLXR_E_FORMAT, "a class without an end", "", 0);
        goto done;
    }
    s->p++;
    if (negative && !n) {
        const mlxr_char_range any = {0, 0x10ffff};
        e = class_of(s, &any, 1);
    } else {
        if (negative) n = negate(r, n);
        e = n ? class_of(s, r, n) : mlxr_gb_never(s->b);
    }
done:
    free(r);
    return e;
}

/* <text>: the token with that text, which is what a marker is. */
static mlxr_expr parse_token(parser *s)
{
    const char *at = s->p, *close;
    char *text;
    mlxr_expr e;
    if (here(s, '!'))
        return mistake_at(s, at, MLXR_E_UNSUPPORTED, "negated tokens (!<...>) are not supported", "", 0);
    if (s->p + 1 < s->end && s->p[1] == '[')
        return mistake_at(s, at, MLXR_E_UNSUPPORTED,
                          "tokens by their id (<[...]>) are not supported: write the token's text", "", 0);
    close = memchr(at, '>', (size_t)(s->end - at));
    if (!close || memchr(at, '\n', (size_t)(close - at)) || close == at + 1)
        return mistake(s, "a token without an end");
    if (mlxr_utf8_valid(at, (size_t)(close - at)) != (size_t)(close - at) ||
        memchr(at, '\0', (size_t)(close - at)))
        return mistake(s, "not valid UTF-8");
    s->p = close + 1;
    text = mlxr_strndup(at, (size_t)(s->p - at));
    if (!text) return nomem(s);
    e = mlxr_gb_marker(s->b, text);
    free(text);
    return e;
}

static mlxr_expr parse_group(parser *s)
{
    const char *at = s->p++;
    mlxr_expr e;
    if (++s->depth > MAX_GROUPS)
        return mistake_at(s, at, MLXR_E_LIMIT, "parentheses nest deeper than 500", "", 0);
    space(s, true);
    e = parse_alternatives(s, true);
    s->depth--;
    if (s->st != MLXR_OK) return MLXR_EXPR_NONE;
    if (!here(s, ')')) return mistake_at(s, at, MLXR_E_FORMAT, "a parenthesis without an end", "", 0);
    s->p++;
    return e;
}

/* ---- repeats ---- */

static bool number(parser *s, size_t *out)
{
    const char *at = s->p;
    *out = 0;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') {
        *out = *out * 10 + (size_t)(*s->p++ - '0');
        if (*out > 1000000000) {
            mistake_at(s, at, MLXR_E_LIMIT, "a count above 1000000000", "", 0);
            return false;
        }
    }
    if (s->p == at) mistake(s, "a count is missing");
    return s->p != at;
}

/* What comes behind an item, any number of times. */
static mlxr_expr parse_repeats(parser *s, mlxr_expr e, bool nested)
{
    while (s->st == MLXR_OK && s->p < s->end) {
        const char *at = s->p;
        size_t min = 0, max = SIZE_MAX;
        if (*s->p == '*') {
            s->p++;
        } else if (*s->p == '+') {
            s->p++;
            min = 1;
        } else if (*s->p == '?') {
            s->p++;
            max = 1;
        } else if (*s->p == '{') {
            s->p++;
            space(s, nested);
            if (!number(s, &min)) break;
            max = min;
            space(s, nested);
            if (here(s, ',')) {
                s->p++;
                space(s, nested);
                max = SIZE_MAX;
                if (s->p < s->end && *s->p >= '0' && *s->p <= '9' && !number(s, &max)) break;
                space(s, nested);
            }
            if (!here(s, '}')) return mistake(s, "a repeat without an end: '}' is missing");
            s->p++;
            if (max < min)
                return mistake_at(s, at, MLXR_E_FORMAT, "a repeat with more at least than at most: ", at,
                                  (size_t)(s->p - at));
        } else {
            break;
        }
        e = mlxr_gb_repeat(s->b, e, min, max);
        space(s, nested);
    }
    return e;
}

/* ---- sequences and alternatives ---- */

typedef struct list {
    mlxr_expr *e;
    size_t n, cap;
} list;

static void list_add(parser *s, list *l, mlxr_expr e)
{
    if (s->st != MLXR_OK) return;
    if (!gm_grow(&l->e, &l->cap, l->n, 1, sizeof *l->e)) {
        nomem(s);
        return;
    }
    l->e[l->n++] = e;
}

static mlxr_expr parse_sequence(parser *s, bool nested)
{
    list l = {0};
    mlxr_expr e;
    while (s->st == MLXR_OK && s->p < s->end) {
        const char *at = s->p;
        char c = *s->p;
        if (c == '"') {
            e = parse_literal(s);
        } else if (c == '[') {
            e = parse_class(s);
        } else if (c == '(') {
            e = parse_group(s);
        } else if (c == '<' || c == '!') {
            e = parse_token(s);
        } else if (c == '.') {
            const mlxr_char_range any = {0, 0x10ffff};
            s->p++;
            e = class_of(s, &any, 1);
        } else if (is_word(c)) {
            size_t i;
            while (s->p < s->end && is_word(*s->p)) s->p++;
            i = name_of(s, at, (size_t)(s->p - at));
            e = i == SIZE_MAX ? MLXR_EXPR_NONE : mlxr_gb_call(s->b, s->names[i].rule);
        } else {
            break;
        }
        space(s, nested);
        e = parse_repeats(s, e, nested);
        list_add(s, &l, e);
    }
    if (s->st == MLXR_OK && s->p < s->end && *s->p && strchr("*+?{", *s->p))
        mistake(s, "a repeat of nothing: an item must come before it");
    e = s->st == MLXR_OK ? mlxr_gb_seq(s->b, l.e, l.n) : MLXR_EXPR_NONE;
    free(l.e);
    return e;
}

static mlxr_expr parse_alternatives(parser *s, bool nested)
{
    list l = {0};
    mlxr_expr e;
    list_add(s, &l, parse_sequence(s, nested));
    while (s->st == MLXR_OK && here(s, '|')) {
        s->p++;
        space(s, true);
        list_add(s, &l, parse_sequence(s, nested));
    }
    e = s->st == MLXR_OK ? mlxr_gb_alt(s->b, l.e, l.n) : MLXR_EXPR_NONE;
    free(l.e);
    return e;
}

static void parse_rule(parser *s)
{
    const char *at = s->p;
    size_t n, i;
    while (s->p < s->end && is_word(*s->p)) s->p++;
    n = (size_t)(s->p - at);
    if (!n) {
        mistake(s, "a rule's name is missing");
        return;
    }
    space(s, false);
    if (s->end - s->p < 3 || memcmp(s->p, "::=", 3) != 0) {
        mistake(s, "'::=' is missing");
        return;
    }
    s->p += 3;
    space(s, true);
    i = name_of(s, at, n);
    if (i == SIZE_MAX || !s->names) return;
    if (s->names[i].defined) {
        mistake_at(s, at, MLXR_E_FORMAT, "a rule that is defined twice: ", at, n);
        return;
    }
    s->names[i].defined = true;
    mlxr_gb_define(s->b, s->names[i].rule, parse_alternatives(s, false));
    if (s->st == MLXR_OK && s->p < s->end && *s->p != '\n' && *s->p != '\r')
        mistake(s, "neither an item nor the end of the rule");
}

mlxr_status mlxr_gb_gbnf(mlxr_rule *out, mlxr_grammar_builder *b, const char *text, size_t n,
                         const char *what, mlxr_error *err)
{
    parser s = {.b = b, .start = text, .p = text, .end = text + n, .what = what, .err = err};
    size_t root;
    *out = GM_NONE;
    space(&s, true);
    while (s.st == MLXR_OK && s.p < s.end && !b->failed) {
        parse_rule(&s);
        space(&s, true);
    }
    if (s.st == MLXR_OK && b->failed) s.st = mlxr_fail(err, b->error.code, "%s: %s", what, b->error.message);
    for (size_t i = 0; i < s.n_names && s.st == MLXR_OK; i++)
        if (!s.names[i].defined)
            mistake_at(&s, text + s.names[i].at, MLXR_E_FORMAT, "no rule has this name: ", s.names[i].text,
                       s.names[i].n);
    root = mlxr_strtab_get(&s.by_name, "root", 4);
    if (s.st == MLXR_OK && root == SIZE_MAX)
        s.st = mlxr_fail(err, MLXR_E_FORMAT, "%s: there is no rule \"root\"", what);
    if (s.st == MLXR_OK && s.names) *out = s.names[root].rule;
    mlxr_strtab_clear(&s.by_name);
    free(s.names);
    return s.st;
}

mlxr_status mlxr_grammar_from_gbnf(mlxr_grammar **out, const char *text, size_t n, const char *what,
                                   const mlxr_grammar_limits *limits, mlxr_error *err)
{
    mlxr_grammar_builder *b = NULL;
    mlxr_rule root;
    mlxr_status st;
    *out = NULL;
    if ((st = mlxr_grammar_builder_create(&b, limits, err)) != MLXR_OK) return st;
    st = mlxr_gb_gbnf(&root, b, text, n, what, err);
    if (st == MLXR_OK && (st = mlxr_grammar_finish(out, b, root, err)) != MLXR_OK)
        mlxr_error_prefix(err, "%s: ", what);
    mlxr_grammar_builder_free(b);
    return st;
}
