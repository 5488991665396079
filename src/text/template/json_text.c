/* JSON text straight to values. A render usually starts here, and reading the context with a general parser and then
 * turning its tree into values took most of a render's time: strings without escapes stay where they are in the
 * text, and nothing is built twice. Strict RFC 8259; a key given twice keeps its place and takes the last value, as
 * Python's json does; keys may hold any character. */
#include <errno.h>
#include <stdlib.h>

#include "text/template/template.h"

typedef struct reader {
    rt *r;
    const char *s;
    size_t n, i;
    unsigned depth;
    const char *why; /* what broke the format, at i */
} reader;

static val read_value(reader *p);

static val bad(reader *p, const char *why)
{
    if (!p->why) p->why = why;
    return v_err();
}

static void skip_space(reader *p)
{
    while (p->i < p->n) {
        char c = p->s[p->i];
        if (c != ' ' && c != '\n' && c != '\t' && c != '\r') break;
        p->i++;
    }
}

static bool hex4(reader *p, size_t at, uint32_t *cp)
{
    uint32_t v = 0;
    if (p->n - at < 4) return false;
    for (size_t k = 0; k < 4; k++) {
        char c = p->s[at + k];
        if (c >= '0' && c <= '9')
            v = v * 16 + (uint32_t)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            v = v * 16 + (uint32_t)((c | 32) - 'a' + 10);
        else
            return false;
    }
    *cp = v;
    return true;
}

/* The first byte from i on that a plain ASCII string cannot simply hold. */
static size_t plain_end(const char *s, size_t i, size_t n)
{
    const uint64_t ones = 0x0101010101010101u, highs = 0x8080808080808080u;
    while (n - i >= 8) {
        uint64_t w, quote, back;
        memcpy(&w, s + i, 8);
        quote = w ^ (ones * '"');
        back = w ^ (ones * '\\');
        /* a byte below 0x20, a quote, a backslash, or a byte above 0x7f */
        if ((((w - ones * 0x20) & ~w) | ((quote - ones) & ~quote) | ((back - ones) & ~back) | w) & highs)
            break;
        i += 8;
    }
    while (i < n && (unsigned char)s[i] >= 0x20 && (unsigned char)s[i] < 0x80 && s[i] != '"' && s[i] != '\\')
        i++;
    return i;
}

/* The rest of a string with an escape at p->i; what stands from `from` on is part of it. */
static val read_escaped(reader *p, size_t from)
{
    sb b = {0};
    sb_add(p->r, &b, p->s + from, p->i - from);
    while (!b.failed) {
        size_t k;
        uint32_t cp, low;
        char c;
        if (p->i >= p->n) return bad(p, "a string without an end");
        c = p->s[p->i];
        if (c == '"') {
            p->i++;
            return sb_val(p->r, &b);
        }
        if ((unsigned char)c < 0x20) return bad(p, "a control character in a string");
        if (c != '\\') {
            size_t end = plain_end(p->s, p->i, p->n);
            k = end > p->i ? end - p->i : mlxr_utf8_decode(p->s + p->i, p->n - p->i, &cp);
            if (!k) return bad(p, "not UTF-8");
            sb_add(p->r, &b, p->s + p->i, k);
            p->i += k;
            continue;
        }
        if (p->i + 1 >= p->n) return bad(p, "a string without an end");
        c = p->s[p->i + 1];
        p->i += 2;
        switch (c) {
        case '"':
        case '\\':
        case '/': sb_char(p->r, &b, c); continue;
        case 'b': sb_char(p->r, &b, '\b'); continue;
        case 'f': sb_char(p->r, &b, '\f'); continue;
        case 'n': sb_char(p->r, &b, '\n'); continue;
        case 'r': sb_char(p->r, &b, '\r'); continue;
        case 't': sb_char(p->r, &b, '\t'); continue;
        case 'u': break;
        default: return bad(p, "an unknown escape");
        }
        if (!hex4(p, p->i, &cp)) return bad(p, "\\u without four hex digits");
        p->i += 4;
        if (cp >= 0xd800 && cp < 0xdc00 && p->n - p->i >= 6 && p->s[p->i] == '\\' && p->s[p->i + 1] == 'u' &&
            hex4(p, p->i + 2, &low) && low >= 0xdc00 && low < 0xe000) {
            cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
            p->i += 6;
        }
        sb_cp(p->r, &b, cp >= 0xd800 && cp < 0xe000 ? 0xfffd : cp); /* half a pair stands for no character */
    }
    return v_err();
}

static val read_string(reader *p) /* at the opening quote */
{
    size_t from = ++p->i;
    bool ascii = true;
    for (;;) {
        uint32_t cp;
        size_t k;
        p->i = plain_end(p->s, p->i, p->n);
        if (p->i >= p->n) return bad(p, "a string without an end");
        if (p->s[p->i] == '"') {
            val v = v_str_borrow(p->r, p->s + from, p->i - from);
            if (IS_ERR(v)) return v;
            if (ascii) v.s->n_chars = v.s->n;
            p->i++;
            return v;
        }
        if (p->s[p->i] == '\\') return read_escaped(p, from);
        if ((unsigned char)p->s[p->i] < 0x20) return bad(p, "a control character in a string");
        ascii = false;
        k = mlxr_utf8_decode(p->s + p->i, p->n - p->i, &cp);
        if (!k) return bad(p, "not UTF-8");
        p->i += k;
    }
}

static val read_number(reader *p)
{
    size_t from = p->i, i = p->i;
    bool real = false, neg = p->s[i] == '-';
    uint64_t u = 0;
    char *copy;

    i += neg;
    if (i >= p->n || p->s[i] < '0' || p->s[i] > '9') return bad(p, "no value");
    if (p->s[i] == '0' && i + 1 < p->n && p->s[i + 1] >= '0' && p->s[i + 1] <= '9')
        return bad(p, "a number with a zero in front");
    for (; i < p->n && p->s[i] >= '0' && p->s[i] <= '9'; i++)
        if (u <= UINT64_MAX / 10 - 1) u = u * 10 + (uint64_t)(p->s[i] - '0');
    if (i < p->n && p->s[i] == '.') {
        size_t k = ++i;
        real = true;
        while (i < p->n && p->s[i] >= '0' && p->s[i] <= '9') i++;
        if (i == k) return bad(p, "a number without digits behind its point");
    }
    if (i < p->n && (p->s[i] | 32) == 'e') {
        size_t k;
        real = true;
        i++;
        if (i < p->n && (p->s[i] == '+' || p->s[i] == '-')) i++;
        k = i;
        while (i < p->n && p->s[i] >= '0' && p->s[i] <= '9') i++;
        if (i == k) return bad(p, "a number without an exponent");
    }
    p->i = i;
    if (!real) {
        if (i - from - neg > 19 || u > (uint64_t)INT64_MAX + neg)
            return raise(p->r, EXC_UNSUPPORTED, "an integer beyond 64 bits is not supported: %.*s",
                         (int)(i - from < 40 ? i - from : 40), p->s + from);
        return v_int(neg ? (int64_t)(0 - u) : (int64_t)u);
    }
    copy = rt_alloc(p->r, i - from + 1);
    if (!copy) return v_err();
    memcpy(copy, p->s + from, i - from);
    copy[i - from] = '\0';
    return v_float(strtod(copy, NULL));
}

static val read_list(reader *p)
{
    list *l = list_new(p->r, 0);
    if (!l) return v_err();
    p->i++;
    skip_space(p);
    if (p->i < p->n && p->s[p->i] == ']') {
        p->i++;
        return v_of_list(l);
    }
    for (;;) {
        if (!list_add(p->r, l, read_value(p))) return v_err();
        skip_space(p);
        if (p->i >= p->n) return bad(p, "a list without an end");
        if (p->s[p->i] == ']') break;
        if (p->s[p->i] != ',') return bad(p, "neither \",\" nor \"]\" in a list");
        p->i++;
    }
    p->i++;
    return v_of_list(l);
}

static val read_dict(reader *p)
{
    dict *d = dict_new(p->r, 0);
    if (!d) return v_err();
    p->i++;
    skip_space(p);
    if (p->i < p->n && p->s[p->i] == '}') {
        p->i++;
        return v_of_dict(d);
    }
    for (;;) {
        val k, v;
        skip_space(p);
        if (p->i >= p->n || p->s[p->i] != '"') return bad(p, "no key in an object");
        k = read_string(p);
        if (IS_ERR(k)) return k;
        skip_space(p);
        if (p->i >= p->n || p->s[p->i] != ':') return bad(p, "no \":\" behind a key");
        p->i++;
        v = read_value(p);
        if (IS_ERR(v) || !dict_put(p->r, d, k, v)) return v_err();
        skip_space(p);
        if (p->i >= p->n) return bad(p, "an object without an end");
        if (p->s[p->i] == '}') break;
        if (p->s[p->i] != ',') return bad(p, "neither \",\" nor \"}\" in an object");
        p->i++;
    }
    p->i++;
    return v_of_dict(d);
}

static val literal(reader *p, const char *word, val v)
{
    size_t n = strlen(word);
    if (p->n - p->i < n || memcmp(p->s + p->i, word, n) != 0) return bad(p, "no value");
    p->i += n;
    return v;
}

static val read_value(reader *p)
{
    val v;
    skip_space(p);
    if (p->i >= p->n) return bad(p, "no value");
    switch (p->s[p->i]) {
    case '"': return read_string(p);
    case '[':
    case '{':
        if (p->depth >= MAX_VALUE_DEPTH)
            return raise(p->r, EXC_LIMIT, "values are nested more than %d deep", MAX_VALUE_DEPTH);
        p->depth++;
        v = p->s[p->i] == '[' ? read_list(p) : read_dict(p);
        p->depth--;
        return v;
    case 't': return literal(p, "true", v_bool(true));
    case 'f': return literal(p, "false", v_bool(false));
    case 'n': return literal(p, "null", v_none());
    default: return read_number(p);
    }
}

val v_from_json_text(rt *r, const char *text, size_t n, mlxr_error *err)
{
    reader p = {.r = r, .s = text, .n = n};
    val v = read_value(&p);
    if (!IS_ERR(v)) {
        skip_space(&p);
        if (p.i < n) v = bad(&p, "something behind the value");
    }
    if (IS_ERR(v) && r->exc.kind == EXC_NONE)
        mlxr_fail(err, MLXR_E_FORMAT, "template context: not valid JSON at byte %zu: %s", p.i,
                  p.why ? p.why : "?");
    return v;
}
