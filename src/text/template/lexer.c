/* Source to tokens, as jinja2's lexer with trim_blocks and lstrip_blocks: newlines become \n, one newline at the
 * end of the source goes, comments and raw markers vanish, strings are unescaped. */
#include <errno.h>
#include <stdlib.h>

#include "text/template/template.h"

typedef struct lexer {
    parse *p;
    const char *s;
    size_t n, i;
    uint32_t line;
    bool line_starting;
    char *balance; /* closing brackets that are due */
    size_t n_balance, cap_balance;
} lexer;

static const char *const tok_names[] = {
    [TK_EOF] = "end of template",
    [TK_DATA] = "template data / text",
    [TK_BLOCK_BEGIN] = "begin of statement block",
    [TK_BLOCK_END] = "end of statement block",
    [TK_VAR_BEGIN] = "begin of print statement",
    [TK_VAR_END] = "end of print statement",
    [TK_NAME] = "name",
    [TK_STRING] = "string",
    [TK_INTEGER] = "integer",
    [TK_FLOAT] = "float",
    [TK_ADD] = "+",
    [TK_SUB] = "-",
    [TK_DIV] = "/",
    [TK_FLOORDIV] = "//",
    [TK_MUL] = "*",
    [TK_MOD] = "%",
    [TK_POW] = "**",
    [TK_TILDE] = "~",
    [TK_LBRACKET] = "[",
    [TK_RBRACKET] = "]",
    [TK_LPAREN] = "(",
    [TK_RPAREN] = ")",
    [TK_LBRACE] = "{",
    [TK_RBRACE] = "}",
    [TK_EQ] = "==",
    [TK_NE] = "!=",
    [TK_GT] = ">",
    [TK_GTEQ] = ">=",
    [TK_LT] = "<",
    [TK_LTEQ] = "<=",
    [TK_ASSIGN] = "=",
    [TK_DOT] = ".",
    [TK_COLON] = ":",
    [TK_PIPE] = "|",
    [TK_COMMA] = ",",
    [TK_SEMICOLON] = ";",
};

const char *tok_name(tok t)
{
    return tok_names[t];
}

static bool emit(lexer *x, tok type, const char *s, size_t n, uint32_t line)
{
    parse *p = x->p;
    if (p->n_tokens == p->cap_tokens) {
        size_t cap = p->cap_tokens ? p->cap_tokens * 2 : 256;
        token *t = mlxr_realloc_array(p->tokens, cap, sizeof *t);
        if (!t) return parse_fail_status(p, MLXR_E_NOMEM, "out of memory");
        p->tokens = t;
        p->cap_tokens = cap;
    }
    p->tokens[p->n_tokens++] = (token){.type = type, .line = line, .s = s, .n = n};
    return true;
}

static uint32_t count_lines(const char *s, size_t n)
{
    uint32_t k = 0;
    const char *e = s + n;
    while ((s = memchr(s, '\n', (size_t)(e - s))) != NULL) {
        k++;
        s++;
    }
    return k;
}

static size_t skip_space(const lexer *x, size_t i)
{
    while (i < x->n) {
        size_t j = i;
        if (!cp_is_space(next_cp(x->s, x->n, &j))) break;
        i = j;
    }
    return i;
}

/* End of the text without the whitespace at its end. */
static size_t rstrip_end(const lexer *x, size_t from, size_t to)
{
    while (to > from) {
        size_t j = to;
        if (!cp_is_space(prev_cp(x->s, &j))) break;
        to = j;
    }
    return to;
}

static bool at(const lexer *x, size_t i, const char *lit)
{
    size_t n = strlen(lit);
    return x->n - i >= n && memcmp(x->s + i, lit, n) == 0;
}

/* The end of a tag at i: "-%}" with the space behind it, "+%}", "%}" with one newline (trim_blocks); 0: none. */
static size_t block_end(const lexer *x, size_t i, const char *close, bool plus, bool trim)
{
    if (at(x, i, "-") && at(x, i + 1, close)) return skip_space(x, i + 3);
    if (plus && at(x, i, "+") && at(x, i + 1, close)) return i + 3;
    if (!at(x, i, close)) return 0;
    i += 2;
    return trim && i < x->n && x->s[i] == '\n' ? i + 1 : i;
}

/* The text before a tag. sign: its whitespace control; lstrip: whether lstrip_blocks applies to the tag. */
static bool emit_data(lexer *x, size_t from, size_t to, char sign, bool lstrip)
{
    size_t end = to;
    uint32_t line = x->line;

    if (sign == '-') {
        end = rstrip_end(x, from, to);
    } else if (sign != '+' && lstrip) {
        size_t l = to;
        while (l > from && x->s[l - 1] != '\n') l--;
        if ((l > from || x->line_starting) && l < to && skip_space(x, l) >= to) end = l;
    }
    x->line += count_lines(x->s + from, to - from);
    return end == from || emit(x, TK_DATA, x->s + from, end - from, line);
}

/* After "{%" and its sign: the position behind a raw tag's end, or 0. */
static size_t raw_begin(const lexer *x, size_t i)
{
    i = skip_space(x, i);
    if (!at(x, i, "raw")) return 0;
    i = skip_space(x, i + 3);
    if (at(x, i, "-%}")) return skip_space(x, i + 3);
    return at(x, i, "%}") ? i + 2 : 0;
}

static bool lex_raw(lexer *x)
{
    size_t from = x->i, k = x->i;
    for (;; k++) {
        const char *f = k < x->n ? memchr(x->s + k, '{', x->n - k) : NULL;
        size_t j, end;
        char sign = 0;
        if (!f) break;
        k = (size_t)(f - x->s);
        if (!at(x, k, "{%")) continue;
        j = k + 2;
        if (at(x, j, "-") || at(x, j, "+")) sign = x->s[j++];
        j = skip_space(x, j);
        if (!at(x, j, "endraw")) continue;
        j = skip_space(x, j + 6);
        end = block_end(x, j, "%}", true, true);
        if (!end) continue;
        if (!emit_data(x, from, k, sign, true)) return false;
        x->line += count_lines(x->s + k, end - k);
        x->line_starting = x->s[end - 1] == '\n';
        x->i = end;
        return true;
    }
    if (x->i >= x->n) return true; /* as the reference: nothing left to match, the text just ends */
    return parse_fail(x->p, x->line, "Missing end of raw directive");
}

static bool lex_comment(lexer *x)
{
    for (size_t k = x->i; k < x->n; k++) {
        const char *f = memchr(x->s + k, '#', x->n - k);
        size_t end, m;
        if (!f) break;
        k = (size_t)(f - x->s);
        if (!at(x, k, "#}")) continue;
        /* the sign, if any, stands before the "#}" */
        m = k > x->i && (x->s[k - 1] == '-' || x->s[k - 1] == '+') ? k - 1 : k;
        end = block_end(x, m, "#}", true, true);
        x->line += count_lines(x->s + x->i, end - x->i);
        x->line_starting = x->s[end - 1] == '\n';
        x->i = end;
        return true;
    }
    if (x->i >= x->n) return true;
    return parse_fail(x->p, x->line, "Missing end of comment tag");
}

/* ---- inside tags ---- */

static size_t digits(const lexer *x, size_t i)
{
    size_t k = i;
    while (k < x->n && x->s[k] >= '0' && x->s[k] <= '9') {
        k++;
        if (k + 1 < x->n && x->s[k] == '_' && x->s[k + 1] >= '0' && x->s[k + 1] <= '9') k++;
    }
    return k;
}

/* The end of a float at i, or i. */
static size_t float_end(const lexer *x, size_t i)
{
    size_t k, e, frac;
    if (i > 0 && x->s[i - 1] == '.') return i;
    k = digits(x, i);
    if (k == i) return i;
    frac = k;
    if (k < x->n && x->s[k] == '.' && digits(x, k + 1) > k + 1) frac = digits(x, k + 1);
    e = frac;
    if (e < x->n && (x->s[e] | 32) == 'e') {
        e++;
        if (e < x->n && (x->s[e] == '+' || x->s[e] == '-')) e++;
        if (digits(x, e) > e) return digits(x, e);
    }
    return frac > k ? frac : i;
}

static int digit_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
}

static bool lex_number(lexer *x)
{
    size_t end = float_end(x, x->i), k = x->i;
    token *t;

    if (end > x->i) {
        char buf[400];
        size_t n = 0;
        if (!emit(x, TK_FLOAT, x->s + x->i, end - x->i, x->line)) return false;
        for (size_t j = x->i; j < end && n + 1 < sizeof buf; j++)
            if (x->s[j] != '_') buf[n++] = x->s[j];
        buf[n] = '\0';
        x->p->tokens[x->p->n_tokens - 1].f = strtod(buf, NULL);
    } else {
        int base = 10;
        uint64_t v = 0;
        if (x->s[k] == '0' && k + 1 < x->n) {
            char c = (char)(x->s[k + 1] | 32);
            int b = c == 'b' ? 2 : c == 'o' ? 8 : c == 'x' ? 16 : 0;
            size_t j = k + 2;
            if (b && j < x->n && x->s[j] == '_') j++;
            if (b && j < x->n && digit_value(x->s[j]) < b) {
                base = b;
                k += 2;
            }
        }
        for (end = k; end < x->n;) {
            size_t j = end;
            if (x->s[j] == '_' && (end > k || base != 10)) j++;
            if (j >= x->n || digit_value(x->s[j]) >= base) break;
            if (base == 10 && x->s[x->i] == '0' && x->s[j] != '0') break; /* "012" is 0, then 12 */
            if (__builtin_mul_overflow(v, (uint64_t)base, &v) ||
                __builtin_add_overflow(v, (uint64_t)digit_value(x->s[j]), &v) || v > INT64_MAX)
                return parse_fail_status(x->p, MLXR_E_UNSUPPORTED,
                                         "an integer beyond 64 bits is not supported (line %u)", x->line);
            end = j + 1;
        }
        if (!emit(x, TK_INTEGER, x->s + x->i, end - x->i, x->line)) return false;
        t = &x->p->tokens[x->p->n_tokens - 1];
        t->i = (int64_t)v;
    }
    x->i = end;
    return true;
}

static bool hex_escape(lexer *x, const char *s, size_t n, size_t *i, size_t width, uint32_t *cp)
{
    static const char *const what[] = {[2] = "truncated \\xXX escape",
                                       [4] = "truncated \\uXXXX escape",
                                       [8] = "truncated \\UXXXXXXXX escape"};
    uint32_t v = 0;
    for (size_t k = 0; k < width; k++, ++*i) {
        if (*i >= n || digit_value(s[*i]) > 15) return parse_fail(x->p, x->line, "%s", what[width]);
        v = v * 16 + (uint32_t)digit_value(s[*i]);
    }
    if (v > 0x10ffff) return parse_fail(x->p, x->line, "illegal Unicode character");
    *cp = v;
    return true;
}

/* Python's unicode-escape of what stands between the quotes. */
static bool unescape(lexer *x, const char *s, size_t n, const char **out, size_t *n_out)
{
    char *d = mlxr_arena_alloc(&x->p->t->arena, n + 1);
    size_t k = 0, i = 0;

    if (!d) return parse_fail_status(x->p, MLXR_E_NOMEM, "out of memory");
    while (i < n) {
        char c = s[i++];
        uint32_t cp, low;
        if (c != '\\' || i == n) {
            d[k++] = c;
            continue;
        }
        c = s[i++];
        switch (c) {
        case '\n': continue;
        case '\\':
        case '\'':
        case '"': d[k++] = c; continue;
        case 'a': d[k++] = '\a'; continue;
        case 'b': d[k++] = '\b'; continue;
        case 'f': d[k++] = '\f'; continue;
        case 'n': d[k++] = '\n'; continue;
        case 'r': d[k++] = '\r'; continue;
        case 't': d[k++] = '\t'; continue;
        case 'v': d[k++] = '\v'; continue;
        case 'x':
            if (!hex_escape(x, s, n, &i, 2, &cp)) return false;
            break;
        case 'u':
            if (!hex_escape(x, s, n, &i, 4, &cp)) return false;
            break;
        case 'U':
            if (!hex_escape(x, s, n, &i, 8, &cp)) return false;
            break;
        case 'N':
            return parse_fail_status(x->p, MLXR_E_UNSUPPORTED, "\\N{...} escapes are not supported (line %u)",
                                     x->line);
        default:
            if (c >= '0' && c <= '7') {
                cp = (uint32_t)(c - '0');
                for (int m = 0; m < 2 && i < n && s[i] >= '0' && s[i] <= '7'; m++)
                    cp = cp * 8 + (uint32_t)(s[i++] - '0');
                break;
            }
            d[k++] = '\\';
            d[k++] = c;
            continue;
        }
        if (cp >= 0xd800 && cp < 0xdc00 && i + 1 < n && s[i] == '\\' && s[i + 1] == 'u') {
            size_t j = i + 2;
            if (!hex_escape(x, s, n, &j, 4, &low)) return false;
            if (low >= 0xdc00 && low < 0xe000) {
                cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
                i = j;
            }
        }
        if (cp >= 0xd800 && cp < 0xe000)
            return parse_fail_status(x->p, MLXR_E_UNSUPPORTED,
                                     "a lone surrogate in a string is not supported (line %u)", x->line);
        k += mlxr_utf8_encode(d + k, cp); /* never longer than its escape */
    }
    *out = d;
    *n_out = k;
    return true;
}

/* A string token at i; false with *matched unset when the quote never closes. */
static bool lex_string(lexer *x, bool *matched)
{
    char q = x->s[x->i];
    size_t k = x->i + 1;
    const char *text = NULL;
    size_t n_text = 0;

    *matched = false;
    while (k < x->n && x->s[k] != q) k += x->s[k] == '\\' ? 2 : 1;
    if (k >= x->n) return true;
    *matched = true;
    if (!unescape(x, x->s + x->i + 1, k - x->i - 1, &text, &n_text)) return false;
    if (!emit(x, TK_STRING, text, n_text, x->line)) return false;
    x->line += count_lines(x->s + x->i, k + 1 - x->i);
    x->i = k + 1;
    return true;
}

static bool lex_name(lexer *x, bool *matched)
{
    size_t k = x->i, j;
    bool valid = true;
    *matched = false;
    while (k < x->n) {
        uint32_t cp;
        j = k;
        cp = next_cp(x->s, x->n, &j);
        if (!cp_is_word(cp) && !(cp >= 0x80 && cp_is_id_continue(cp))) break;
        if (!(k == x->i ? cp_is_id_start(cp) : cp_is_id_continue(cp))) valid = false;
        k = j;
    }
    if (k == x->i) return true;
    *matched = true;
    if (!valid) return parse_fail(x->p, x->line, "Invalid character in identifier");
    if (!emit(x, TK_NAME, x->s + x->i, k - x->i, x->line)) return false;
    x->i = k;
    return true;
}

static bool balance(lexer *x, char c)
{
    if (c == '{' || c == '(' || c == '[') {
        if (x->n_balance == x->cap_balance) {
            size_t cap = x->cap_balance ? x->cap_balance * 2 : 64;
            char *b = realloc(x->balance, cap);
            if (!b) return parse_fail_status(x->p, MLXR_E_NOMEM, "out of memory");
            x->balance = b;
            x->cap_balance = cap;
        }
        x->balance[x->n_balance++] = c == '{' ? '}' : c == '(' ? ')' : ']';
    } else if (c == '}' || c == ')' || c == ']') {
        char want;
        if (!x->n_balance) return parse_fail(x->p, x->line, "unexpected '%c'", c);
        want = x->balance[--x->n_balance];
        if (want != c) return parse_fail(x->p, x->line, "unexpected '%c', expected '%c'", c, want);
    }
    return true;
}

static bool lex_operator(lexer *x, bool *matched)
{
    static const struct {
        char s[3];
        uint8_t t;
    } ops[] = {
        {"//", TK_FLOORDIV}, {"**", TK_POW},   {"==", TK_EQ},      {"!=", TK_NE},      {">=", TK_GTEQ},
        {"<=", TK_LTEQ},     {"+", TK_ADD},    {"-", TK_SUB},      {"/", TK_DIV},      {"*", TK_MUL},
        {"%", TK_MOD},       {"~", TK_TILDE},  {"[", TK_LBRACKET}, {"]", TK_RBRACKET}, {"(", TK_LPAREN},
        {")", TK_RPAREN},    {"{", TK_LBRACE}, {"}", TK_RBRACE},   {">", TK_GT},       {"<", TK_LT},
        {"=", TK_ASSIGN},    {".", TK_DOT},    {":", TK_COLON},    {"|", TK_PIPE},     {",", TK_COMMA},
        {";", TK_SEMICOLON},
    };
    for (size_t k = 0; k < MLXR_COUNT(ops); k++) {
        if (!at(x, x->i, ops[k].s)) continue;
        *matched = true;
        if (!balance(x, x->s[x->i])) return false;
        if (!emit(x, (tok)ops[k].t, x->s + x->i, strlen(ops[k].s), x->line)) return false;
        x->i += strlen(ops[k].s);
        return true;
    }
    *matched = false;
    return true;
}

static size_t chars_before(const lexer *x)
{
    size_t n = 0;
    for (size_t i = 0; i < x->i; i++) n += ((unsigned char)x->s[i] & 0xc0) != 0x80;
    return n;
}

static bool lex_tag(lexer *x, bool block)
{
    while (x->i < x->n) {
        size_t end, k = skip_space(x, x->i);
        bool matched = false;
        char c;
        if (!x->n_balance) {
            end = block ? block_end(x, x->i, "%}", true, true) : block_end(x, x->i, "}}", false, false);
            if (end) {
                if (!emit(x, block ? TK_BLOCK_END : TK_VAR_END, x->s + x->i, 2, x->line)) return false;
                x->line += count_lines(x->s + x->i, end - x->i);
                x->line_starting = x->s[end - 1] == '\n';
                x->i = end;
                return true;
            }
        }
        if (k > x->i) {
            x->line += count_lines(x->s + x->i, k - x->i);
            x->i = k;
            continue;
        }
        c = x->s[x->i];
        if (c >= '0' && c <= '9') {
            if (!lex_number(x)) return false;
            continue;
        }
        if (!lex_name(x, &matched)) return false;
        if (matched) continue;
        if (c == '\'' || c == '"') {
            if (!lex_string(x, &matched)) return false;
            if (matched) continue;
        }
        if (!lex_operator(x, &matched)) return false;
        if (matched) continue;
        k = x->i;
        next_cp(x->s, x->n, &k);
        if (c == '\'') return parse_fail(x->p, x->line, "unexpected char \"'\" at %zu", chars_before(x));
        return parse_fail(x->p, x->line, "unexpected char '%s%.*s' at %zu", c == '\\' ? "\\" : "",
                          (int)(k - x->i), x->s + x->i, chars_before(x));
    }
    return true;
}

static bool lex_root(lexer *x)
{
    size_t from, k;
    while (x->i < x->n) {
        char kind = 0, sign = 0;
        size_t tag, raw = 0;
        from = x->i;
        for (k = from; k < x->n; k++) {
            const char *f = memchr(x->s + k, '{', x->n - k);
            k = f ? (size_t)(f - x->s) : x->n;
            if (k + 1 < x->n && (x->s[k + 1] == '%' || x->s[k + 1] == '{' || x->s[k + 1] == '#')) {
                kind = x->s[k + 1];
                break;
            }
        }
        if (!kind) {
            uint32_t line = x->line;
            x->line += count_lines(x->s + from, x->n - from);
            x->i = x->n;
            return emit(x, TK_DATA, x->s + from, x->n - from, line);
        }
        tag = k + 2;
        if (at(x, tag, "-") || at(x, tag, "+")) sign = x->s[tag++];
        if (!emit_data(x, from, k, sign, kind != '{')) return false;
        if (kind == '%') raw = raw_begin(x, tag);
        x->i = raw ? raw : tag;
        x->line += count_lines(x->s + k, x->i - k);
        x->line_starting = x->s[x->i - 1] == '\n';
        if (raw) {
            if (!lex_raw(x)) return false;
        } else if (kind == '#') {
            if (!lex_comment(x)) return false;
        } else {
            if (!emit(x, kind == '%' ? TK_BLOCK_BEGIN : TK_VAR_BEGIN, x->s + k, 2, x->line)) return false;
            if (!lex_tag(x, kind == '%')) return false;
        }
    }
    return true;
}

bool lex_source(parse *p, const char *source, size_t n)
{
    lexer x = {.p = p, .line = 1, .line_starting = true};
    char *s = mlxr_arena_alloc(&p->t->arena, n + 8); /* next_cp may look past the end */
    size_t k = 0;
    bool ok;

    if (!s) return parse_fail_status(p, MLXR_E_NOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        if (source[i] == '\r') {
            s[k++] = '\n';
            if (i + 1 < n && source[i + 1] == '\n') i++;
        } else {
            s[k++] = source[i];
        }
    }
    if (k && s[k - 1] == '\n') k--;
    memset(s + k, 0, n + 8 - k);
    x.s = s;
    x.n = k;
    ok = lex_root(&x) && emit(&x, TK_EOF, s + k, 0, p->n_tokens ? p->tokens[p->n_tokens - 1].line : 1);
    free(x.balance);
    return ok;
}
