/* The "%" operator of strings. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/template/template.h"

enum { MAX_PRECISION = 100000 };

typedef struct conv {
    bool minus, plus, space, alt, zero;
    int64_t width, precision; /* -1: none */
} conv;

typedef struct fmt_args {
    val arg;
    size_t i, n;  /* of a tuple, or of the one value */
    bool mapping; /* a value that needs not be used up */
    bool markup;
} fmt_args;

static bool is_mapping(val v)
{
    switch ((vtype)v.type) {
    case T_DICT:
    case T_LIST:
    case T_RANGE:
    case T_UNDEF:
    case T_BYTES:
    case T_SELF: return true;
    default: return false;
    }
}

static val next_arg(rt *r, fmt_args *f)
{
    if (f->i >= f->n) return raise(r, EXC_TYPE, "not enough arguments for format string");
    f->i++;
    return f->arg.type == T_TUPLE ? f->arg.l->v[f->i - 1] : f->arg;
}

/* sign and digits in the field; the zeros of "0" go between them */
static void put(rt *r, sb *b, const conv *c, const char *sign, const char *text, size_t n, size_t n_chars,
                bool number)
{
    size_t total = strlen(sign) + n_chars;
    size_t pad = c->width > 0 && (size_t)c->width > total ? (size_t)c->width - total : 0;
    bool zero = number && c->zero && !c->minus;
    if (!c->minus && !zero) sb_fill(r, b, ' ', pad);
    sb_str(r, b, sign);
    if (zero) sb_fill(r, b, '0', pad);
    sb_add(r, b, text, n);
    if (c->minus) sb_fill(r, b, ' ', pad);
}

static bool put_str(rt *r, sb *b, const conv *c, val v, char type, bool markup)
{
    val s;
    size_t n;
    if (type == 's') {
        s = to_str(r, v);
        if (markup) s = is_markup(v) ? v : escape_html(r, s);
    } else {
        sb rep = {0};
        if (!write_repr(r, &rep, v)) return false;
        s = sb_val(r, &rep);
        if (markup && !IS_ERR(s)) s = escape_html(r, s);
        if (type == 'a' && !IS_ERR(s)) {
            sb esc = {0};
            for (size_t k = 0; k < s.s->n;) {
                uint32_t cp = next_cp(s.s->s, s.s->n, &k);
                char buf[16];
                if (cp < 0x80) {
                    sb_char(r, &esc, (char)cp);
                    continue;
                }
                snprintf(buf, sizeof buf, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
                sb_str(r, &esc, buf);
            }
            s = sb_val(r, &esc);
        }
    }
    if (IS_ERR(s)) return false;
    n = str_len(s.s);
    if (c->precision >= 0 && (size_t)c->precision < n) {
        s = str_sub(r, s, 0, str_offset(s.s, (size_t)c->precision));
        if (IS_ERR(s)) return false;
        n = (size_t)c->precision;
    }
    put(r, b, c, "", s.s->s, s.s->n, n, false);
    return !b->failed;
}

static bool put_int(rt *r, sb *b, const conv *c, val v, char type)
{
    char digits[32], sign[4] = "";
    size_t k = sizeof digits, n, n_sign = 0;
    unsigned base = type == 'o' ? 8 : type == 'x' || type == 'X' ? 16 : 10;
    uint64_t u;
    sb body = {0};

    if (v.type == T_UNDEF && base == 10) {
        raise_undef(r, v.u);
        return false;
    }
    if (v.type == T_FLOAT && base == 10) {
        v = float_to_int(r, v.f);
        if (IS_ERR(v)) return false;
    }
    if (!is_int_like(v)) {
        raise(r, EXC_TYPE,
              base == 10 ? "%%%c format: a real number is required, not %s"
                         : "%%%c format: an integer is required, not %s",
              type, type_name(v));
        return false;
    }
    u = v.i < 0 ? 0 - (uint64_t)v.i : (uint64_t)v.i;
    do digits[--k] = (type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[u % base];
    while (u /= base);
    n = sizeof digits - k;
    if (c->precision > (int64_t)n) sb_fill(r, &body, '0', (size_t)c->precision - n);
    sb_add(r, &body, digits + k, n);
    if (body.failed) return false;
    if (v.i < 0)
        sign[n_sign++] = '-';
    else if (c->plus)
        sign[n_sign++] = '+';
    else if (c->space)
        sign[n_sign++] = ' ';
    if (c->alt && base != 10) {
        sign[n_sign++] = '0';
        sign[n_sign] = type;
    }
    put(r, b, c, sign, body.p, body.n, body.n, true);
    return !b->failed;
}

static bool as_double(rt *r, val v, double *x)
{
    if (v.type == T_FLOAT)
        *x = v.f;
    else if (is_int_like(v))
        *x = (double)v.i;
    else if (v.type == T_UNDEF)
        return raise_undef(r, v.u).type == T_MISSING;
    else
        return raise(r, EXC_TYPE, "must be real number, not %s", type_name(v)).type == T_MISSING;
    return true;
}

static bool put_float(rt *r, sb *b, const conv *c, val v, char type)
{
    double x = 0;
    char *buf, sign[2] = "";
    size_t cap, n;
    int64_t p = c->precision < 0 ? 6 : c->precision;

    if (!as_double(r, v, &x)) return false;
    if (p > MAX_PRECISION) {
        raise(r, EXC_LIMIT, "a format precision over %d", MAX_PRECISION);
        return false;
    }
    cap = (size_t)p + 400;
    buf = rt_alloc(r, cap);
    if (!buf) return false;
    if (signbit(x) && !isnan(x))
        sign[0] = '-';
    else if (c->plus)
        sign[0] = '+';
    else if (c->space)
        sign[0] = ' ';
    if (isfinite(x)) {
        x = fabs(x);
        switch (type) {
        case 'e': n = (size_t)snprintf(buf, cap, c->alt ? "%#.*e" : "%.*e", (int)p, x); break;
        case 'E': n = (size_t)snprintf(buf, cap, c->alt ? "%#.*E" : "%.*E", (int)p, x); break;
        case 'g': n = (size_t)snprintf(buf, cap, c->alt ? "%#.*g" : "%.*g", (int)p, x); break;
        case 'G': n = (size_t)snprintf(buf, cap, c->alt ? "%#.*G" : "%.*G", (int)p, x); break;
        default: n = (size_t)snprintf(buf, cap, c->alt ? "%#.*f" : "%.*f", (int)p, x); break;
        }
    } else {
        bool upper = type >= 'A' && type <= 'Z';
        n = (size_t)snprintf(buf, cap, "%s", isnan(x) ? (upper ? "NAN" : "nan") : upper ? "INF" : "inf");
    }
    put(r, b, c, sign, buf, n, n, true);
    return !b->failed;
}

static bool put_char(rt *r, sb *b, const conv *c, val v)
{
    val s = v;
    if (v.type != T_STR) {
        if (!is_int_like(v)) {
            raise(r, EXC_TYPE, "%%c requires int or char");
            return false;
        }
        if (v.i < 0 || v.i > 0x10ffff) {
            raise(r, EXC_OVERFLOW, "%%c arg not in range(0x110000)");
            return false;
        }
        if (v.i >= 0xd800 && v.i < 0xe000) {
            raise(r, EXC_UNSUPPORTED, "a lone surrogate is not supported");
            return false;
        }
        s = v_cp(r, (uint32_t)v.i);
        if (IS_ERR(s)) return false;
    } else if (str_len(s.s) != 1) {
        raise(r, EXC_TYPE, "%%c requires int or char");
        return false;
    }
    put(r, b, c, "", s.s->s, s.s->n, 1, false);
    return !b->failed;
}

static bool number(rt *r, const str *s, size_t *i, fmt_args *f, int64_t *out, bool *star_minus)
{
    if (*i < s->n && s->s[*i] == '*') {
        val v = next_arg(r, f);
        if (IS_ERR(v)) return false;
        if (!is_int_like(v)) {
            raise(r, EXC_TYPE, "* wants int");
            return false;
        }
        if (v.i > INT32_MAX || v.i < -INT32_MAX) {
            raise(r, EXC_OVERFLOW, "Python int too large to convert to C int");
            return false;
        }
        *out = v.i;
        if (v.i < 0) {
            if (star_minus) *star_minus = true;
            *out = star_minus ? -v.i : 0;
        }
        ++*i;
        return true;
    }
    *out = star_minus ? -1 : 0;
    for (; *i < s->n && s->s[*i] >= '0' && s->s[*i] <= '9'; ++*i) {
        if (*out < 0) *out = 0;
        *out = *out * 10 + (s->s[*i] - '0');
        if (*out > INT32_MAX) {
            raise(r, EXC_VALUE, star_minus ? "width too big" : "precision too big");
            return false;
        }
    }
    return true;
}

static bool put_field(rt *r, sb *b, const str *s, size_t *at, fmt_args *f)
{
    size_t i = *at;
    conv c = {.width = -1, .precision = -1};
    val v = v_missing();
    bool keyed = false;
    char type;

    if (i < s->n && s->s[i] == '%') { /* only with nothing between the two */
        sb_char(r, b, '%');
        *at = i + 1;
        return !b->failed;
    }
    if (i < s->n && s->s[i] == '(') {
        size_t from = ++i, level = 1;
        val key;
        if (!f->mapping || f->arg.type == T_TUPLE) {
            raise(r, EXC_TYPE, "format requires a mapping");
            return false;
        }
        while (i < s->n && level) {
            if (s->s[i] == '(') level++;
            if (s->s[i] == ')') level--;
            i++;
        }
        if (level) {
            raise(r, EXC_VALUE, "incomplete format key");
            return false;
        }
        key = v_str_copy(r, s->s + from, i - 1 - from);
        if (IS_ERR(key)) return false;
        v = get_item_strict(r, f->arg, key);
        if (IS_ERR(v)) return false;
        keyed = true;
        f->i = 0;
        f->n = 1;
    }
    for (;; i++) {
        char ch = i < s->n ? s->s[i] : '\0';
        if (ch == '-')
            c.minus = true;
        else if (ch == '+')
            c.plus = true;
        else if (ch == ' ')
            c.space = true;
        else if (ch == '#')
            c.alt = true;
        else if (ch == '0')
            c.zero = true;
        else
            break;
    }
    if (!number(r, s, &i, f, &c.width, &c.minus)) return false;
    if (i < s->n && s->s[i] == '.') {
        i++;
        if (!number(r, s, &i, f, &c.precision, NULL)) return false;
    }
    if (i < s->n && (s->s[i] == 'h' || s->s[i] == 'l' || s->s[i] == 'L')) i++;
    if (i >= s->n) {
        raise(r, EXC_VALUE, "incomplete format");
        return false;
    }
    type = s->s[i];
    *at = i + 1;
    if (!keyed) v = next_arg(r, f);
    if (IS_ERR(v)) return false;
    if (!strchr("srdiuoxXeEfFgGca", type)) {
        raise(r, EXC_VALUE, "unsupported format character '%c' (0x%x) at index %zu",
              (unsigned char)type < 0x80 ? type : '?', (unsigned char)type, i);
        return false;
    }
    if (keyed) f->i = 1;
    switch (type) {
    case 's':
    case 'r':
    case 'a': return put_str(r, b, &c, v, type, f->markup);
    case 'c': return put_char(r, b, &c, v);
    case 'd':
    case 'i':
    case 'u': return put_int(r, b, &c, v, type == 'u' ? 'd' : type);
    case 'o':
    case 'x':
    case 'X': return put_int(r, b, &c, v, type);
    default: return put_float(r, b, &c, v, type);
    }
}

val percent_format(rt *r, val fmt, val arg)
{
    const str *s = fmt.s;
    fmt_args f = {.arg = arg, .n = arg.type == T_TUPLE ? arg.l->n : 1, .markup = is_markup(fmt)};
    sb b = {0};
    size_t i = 0;

    f.mapping = is_mapping(arg) && arg.type != T_TUPLE;
    while (i < s->n) {
        const char *p = memchr(s->s + i, '%', s->n - i);
        size_t k = p ? (size_t)(p - s->s) : s->n;
        sb_add(r, &b, s->s + i, k - i);
        if (k == s->n) break;
        i = k + 1;
        if (b.failed || !put_field(r, &b, s, &i, &f)) return v_err();
    }
    if (f.i < f.n && !f.mapping)
        return raise(r, EXC_TYPE, "not all arguments converted during string formatting");
    return f.markup ? v_markup(sb_val(r, &b)) : sb_val(r, &b);
}
