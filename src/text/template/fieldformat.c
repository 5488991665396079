/* str.format and the format mini-language, as the sandbox's formatter runs them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/template/template.h"

enum { MAX_PRECISION = 100000, MAX_FIELD_DEPTH = 2 };

typedef struct spec {
    uint32_t fill;
    char align; /* 0: the type's own */
    char sign;
    bool z, alt, zero;
    int64_t width, precision; /* -1: none */
    char group;
    char type;
} spec;

static bool bad_spec(rt *r, str *s, val v)
{
    raise(r, EXC_VALUE, "Invalid format specifier '%.*s' for object of type '%s'",
          (int)(s->n < 100 ? s->n : 100), s->s, type_name(v));
    return false;
}

static bool is_align(uint32_t cp)
{
    return cp == '<' || cp == '>' || cp == '=' || cp == '^';
}

static bool parse_number(rt *r, const str *s, size_t *i, int64_t *out)
{
    int64_t v = 0;
    bool any = false;
    while (*i < s->n && s->s[*i] >= '0' && s->s[*i] <= '9') {
        v = v * 10 + (s->s[*i] - '0');
        if (v > INT32_MAX) {
            raise(r, EXC_VALUE, "Too many decimal digits in format string");
            return false;
        }
        any = true;
        ++*i;
    }
    if (any) *out = v;
    return true;
}

static bool parse_spec(rt *r, str *s, val v, spec *f)
{
    size_t i = 0, j = 0;
    bool own_fill = false;
    *f = (spec){.fill = ' ', .width = -1, .precision = -1};
    if (s->n) {
        uint32_t cp = next_cp(s->s, s->n, &j);
        if (j < s->n && is_align((unsigned char)s->s[j])) {
            f->fill = cp;
            own_fill = true;
            f->align = s->s[j];
            i = j + 1;
        } else if (is_align(cp)) {
            f->align = (char)cp;
            i = 1;
        }
    }
    if (i < s->n && (s->s[i] == '+' || s->s[i] == '-' || s->s[i] == ' ')) f->sign = s->s[i++];
    if (i < s->n && s->s[i] == 'z') {
        f->z = true;
        i++;
    }
    if (i < s->n && s->s[i] == '#') {
        f->alt = true;
        i++;
    }
    if (i < s->n && s->s[i] == '0' && !own_fill) {
        f->fill = '0';
        f->zero = !f->align;
        i++;
    }
    if (!parse_number(r, s, &i, &f->width)) return false;
    if (i < s->n && (s->s[i] == ',' || s->s[i] == '_')) {
        f->group = s->s[i++];
        if (i < s->n && (s->s[i] == ',' || s->s[i] == '_')) {
            raise(r, EXC_VALUE,
                  f->group == s->s[i] ? "Cannot specify '%c' with '%c'." : "Cannot specify both ',' and '_'.",
                  f->group, s->s[i]);
            return false;
        }
    }
    if (i < s->n && s->s[i] == '.') {
        size_t k = ++i;
        if (!parse_number(r, s, &i, &f->precision)) return false;
        if (i == k) {
            raise(r, EXC_VALUE, "Format specifier missing precision");
            return false;
        }
    }
    if (i < s->n) {
        if (i + 1 != s->n || (unsigned char)s->s[i] >= 0x80) return bad_spec(r, s, v);
        f->type = s->s[i];
    }
    return true;
}

static val unknown_code(rt *r, const spec *f, val v)
{
    return raise(r, EXC_VALUE, "Unknown format code '%c' for object of type '%s'", f->type, type_name(v));
}

static val format_str(rt *r, val v, const spec *f)
{
    size_t n;
    int where;
    if (f->type && f->type != 's') return unknown_code(r, f, v_of_str(v.s));
    if (f->sign) return raise(r, EXC_VALUE, "Sign not allowed in string format specifier");
    if (f->z) return raise(r, EXC_VALUE, "Negative zero coercion (z) not allowed in string format specifier");
    if (f->alt) return raise(r, EXC_VALUE, "Alternate form (#) not allowed in string format specifier");
    if (f->group) return raise(r, EXC_VALUE, "Cannot specify '%c' with 's'.", f->group);
    if (f->align == '=') return raise(r, EXC_VALUE, "'=' alignment not allowed in string format specifier");
    n = str_len(v.s);
    v = v_of_str(v.s);
    if (f->precision >= 0 && (size_t)f->precision < n) {
        v = str_sub(r, v, 0, str_offset(v.s, (size_t)f->precision));
        if (IS_ERR(v)) return v;
    }
    if (f->width < 0) return v;
    where = f->align == '>' ? 1 : f->align == '^' ? 0 : -1;
    if (where == 0) {
        /* the odd one goes right here, unlike str.center */
        int64_t pad = f->width - (int64_t)str_len(v.s);
        sb b = {0};
        if (pad <= 0) return v;
        sb_fill(r, &b, f->fill, (size_t)(pad / 2));
        sb_add(r, &b, v.s->s, v.s->n);
        sb_fill(r, &b, f->fill, (size_t)(pad - pad / 2));
        return sb_val(r, &b);
    }
    return str_pad(r, v, f->width, f->fill, where);
}

/* sign, prefix ("0x"), digits (grouped), tail (".5e+3"), in the width. */
static val put_number(rt *r, const spec *f, char sign, const char *prefix, const char *digits,
                      size_t n_digits, const char *tail, size_t n_tail, size_t every)
{
    sb b = {0}, body = {0};
    size_t n_prefix = strlen(prefix), zeros = 0, fixed, n_body, total;
    int64_t pad, left;
    char align = f->align ? f->align : f->zero ? '=' : '>';

    fixed = (sign ? 1 : 0) + n_prefix + n_tail;
    if (f->group) {
        size_t n = n_digits;
        if (f->fill == '0' && align == '=' && f->width > 0)
            while (n + (n ? (n - 1) / every : 0) + fixed < (size_t)f->width) n++;
        zeros = n - n_digits;
        for (size_t i = 0; i < n && !body.failed; i++) {
            if (i && (n - i) % every == 0) sb_char(r, &body, f->group);
            sb_char(r, &body, i < zeros ? '0' : digits[i - zeros]);
        }
    } else {
        sb_add(r, &body, digits, n_digits);
    }
    if (body.failed) return v_err();
    n_body = body.n;
    total = fixed + n_body;
    pad = f->width > (int64_t)total ? f->width - (int64_t)total : 0;
    left = align == '>' ? pad : align == '^' ? pad / 2 : 0;
    sb_fill(r, &b, f->fill, (size_t)left);
    if (sign) sb_char(r, &b, sign);
    sb_add(r, &b, prefix, n_prefix);
    if (align == '=') sb_fill(r, &b, f->fill, (size_t)pad);
    sb_add(r, &b, body.p, n_body);
    sb_add(r, &b, tail, n_tail);
    if (align == '<' || align == '^') sb_fill(r, &b, f->fill, (size_t)(pad - left));
    return sb_val(r, &b);
}

static char sign_of(const spec *f, bool negative)
{
    if (negative) return '-';
    return f->sign == '+' || f->sign == ' ' ? f->sign : '\0';
}

static val format_float(rt *r, double x, const spec *f, val v);

static val format_int(rt *r, val v, const spec *f)
{
    char digits[72];
    size_t k = sizeof digits;
    uint64_t u = v.i < 0 ? 0 - (uint64_t)v.i : (uint64_t)v.i;
    unsigned base = 10;
    const char *prefix = "";

    switch (f->type) {
    case 0:
    case 'd':
    case 'n': break;
    case 'b':
        base = 2;
        prefix = "0b";
        break;
    case 'o':
        base = 8;
        prefix = "0o";
        break;
    case 'x':
        base = 16;
        prefix = "0x";
        break;
    case 'X':
        base = 16;
        prefix = "0X";
        break;
    case 'c':
        if (f->sign) return raise(r, EXC_VALUE, "Sign not allowed with integer format specifier 'c'");
        if (f->alt)
            return raise(r, EXC_VALUE, "Alternate form (#) not allowed with integer format specifier 'c'");
        if (f->precision >= 0)
            return raise(r, EXC_VALUE, "Precision not allowed in integer format specifier");
        if (f->group) return raise(r, EXC_VALUE, "Cannot specify '%c' with 'c'.", f->group);
        if (v.i < 0 || v.i > 0x10ffff) return raise(r, EXC_OVERFLOW, "%%c arg not in range(0x110000)");
        if (v.i >= 0xd800 && v.i < 0xe000)
            return raise(r, EXC_UNSUPPORTED, "a lone surrogate is not supported");
        {
            spec g = *f;
            val c = v_cp(r, (uint32_t)v.i);
            g.type = 0;
            if (g.zero && !g.align) g.align = '>';
            if (g.align == '=' || !g.align) g.align = g.align == '=' ? '>' : '<';
            return IS_ERR(c) ? c : format_str(r, c, &g);
        }
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
    case '%': return format_float(r, (double)v.i, f, v);
    default: return unknown_code(r, f, v);
    }
    if (f->precision >= 0) return raise(r, EXC_VALUE, "Precision not allowed in integer format specifier");
    if (f->z)
        return raise(
            r, EXC_VALUE,
            "Negative zero coercion (z) not allowed in format specifier with integer presentation type");
    if (f->group == ',' && base != 10) return raise(r, EXC_VALUE, "Cannot specify ',' with '%c'.", f->type);
    if (f->group && f->type == 'n') return raise(r, EXC_VALUE, "Cannot specify '%c' with 'n'.", f->group);
    do digits[--k] = (f->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[u % base];
    while (u /= base);
    return put_number(r, f, sign_of(f, v.i < 0), f->alt ? prefix : "", digits + k, sizeof digits - k, "", 0,
                      base == 10 ? 3 : 4);
}

/* %g of Python: p significant digits; add_dot: the type-less form, which keeps ".0". */
static size_t general(char *out, size_t cap, double x, int p, bool alt, bool add_dot, bool upper)
{
    char *e;
    int exp;
    size_t n;
    if (p == 0) p = 1;
    snprintf(out, cap, "%.*e", p - 1, x);
    e = strchr(out, 'e');
    if (!e) return strlen(out); /* only a number that is not finite has none */
    exp = atoi(e + 1);
    if (exp < -4 || exp >= p - (add_dot ? 1 : 0)) {
        if (!alt) {
            /* zeros at the mantissa's end go */
            char tail[16], *q = e;
            snprintf(tail, sizeof tail, "%s", e);
            if (memchr(out, '.', (size_t)(e - out))) {
                while (q[-1] == '0') q--;
                if (q[-1] == '.') q--;
            }
            memmove(q, tail, strlen(tail) + 1);
        }
    } else {
        snprintf(out, cap, "%.*f", p - 1 - exp > 0 ? p - 1 - exp : 0, x);
        n = strlen(out);
        if (strchr(out, '.') && !alt) {
            while (out[n - 1] == '0') n--;
            if (out[n - 1] == '.') n--;
            out[n] = '\0';
        }
        if (!strchr(out, '.') && (add_dot || alt))
            memcpy(out + n, alt && !add_dot ? "." : ".0", alt && !add_dot ? 2 : 3);
    }
    if (upper)
        for (char *q = out; *q; q++)
            if (*q == 'e') *q = 'E';
    return strlen(out);
}

static val format_float(rt *r, double x, const spec *f, val v)
{
    char *buf, type = f->type;
    size_t cap, n, n_digits;
    int64_t p = f->precision;
    bool negative, percent = type == '%';

    if (type && !strchr("eEfFgGn%", type)) return unknown_code(r, f, v);
    if (type == 'n' && f->group) return raise(r, EXC_VALUE, "Cannot specify '%c' with 'n'.", f->group);
    if (p > MAX_PRECISION) return raise(r, EXC_LIMIT, "a format precision over %d", MAX_PRECISION);
    if (percent) {
        x *= 100;
        type = 'f';
    }
    cap = (size_t)(p > 0 ? p : 0) + 400;
    buf = rt_alloc(r, cap);
    if (!buf) return v_err();
    negative = signbit(x) && !isnan(x);
    x = fabs(x);
    if (isnan(x) || isinf(x)) {
        n = (size_t)snprintf(buf, cap, "%s",
                             isnan(x) ? (strchr("EFG", type ? type : ' ') ? "NAN" : "nan")
                                      : (strchr("EFG", type ? type : ' ') ? "INF" : "inf"));
    } else if (type == 0 && p < 0) {
        char rep[40];
        size_t k = format_float_repr(rep, x);
        memcpy(buf, rep, k);
        buf[n = k] = '\0';
    } else if (type == 'f' || type == 'F') {
        n = (size_t)snprintf(buf, cap, f->alt ? "%#.*f" : "%.*f", (int)(p < 0 ? 6 : p), x);
    } else if (type == 'e' || type == 'E') {
        n = (size_t)snprintf(buf, cap,
                             f->alt        ? (type == 'e' ? "%#.*e" : "%#.*E")
                             : type == 'e' ? "%.*e"
                                           : "%.*E",
                             (int)(p < 0 ? 6 : p), x);
    } else {
        n = general(buf, cap, x, (int)(p < 0 ? 6 : p), f->alt, type == 0, type == 'G');
    }
    if (f->alt && isfinite(x) && !memchr(buf, '.', n)) {
        /* the alternate form always has its point: "1.e+16" */
        size_t at = 0;
        while (at < n && buf[at] >= '0' && buf[at] <= '9') at++;
        memmove(buf + at + 1, buf + at, n - at + 1);
        buf[at] = '.';
        n++;
    }
    if (f->z && negative) {
        bool zero = true;
        for (size_t i = 0; i < n && buf[i] != 'e' && buf[i] != 'E'; i++)
            if (buf[i] >= '1' && buf[i] <= '9') zero = false;
        if (zero && isfinite(x)) negative = false;
    }
    if (percent) buf[n++] = '%';
    for (n_digits = 0; n_digits < n && buf[n_digits] >= '0' && buf[n_digits] <= '9';) n_digits++;
    return put_number(r, f, sign_of(f, negative), "", buf, n_digits, buf + n_digits, n - n_digits, 3);
}

val format_field(rt *r, val v, str *s)
{
    spec f;
    if (IS_ERR(v)) return v;
    if (s->n == 0) return to_str(r, v);
    switch ((vtype)v.type) {
    case T_STR: return parse_spec(r, s, v, &f) ? format_str(r, v, &f) : v_err();
    case T_BOOL:
    case T_INT: return parse_spec(r, s, v, &f) ? format_int(r, v, &f) : v_err();
    case T_FLOAT: return parse_spec(r, s, v, &f) ? format_float(r, v.f, &f, v) : v_err();
    default: return raise(r, EXC_TYPE, "unsupported format string passed to %s.__format__", type_name(v));
    }
}

/* ---- str.format ---- */

typedef struct brace {
    rt *r;
    const args *a;
    val map; /* format_map */
    bool markup;
    int64_t next; /* the next automatic index; -1: indices are given */
} brace;

static val field_root(brace *f, const char *s, size_t n)
{
    rt *r = f->r;
    int64_t idx = -1;
    val key, v;
    if (n == 0) {
        if (f->next < 0)
            return raise(r, EXC_VALUE,
                         "cannot switch from manual field specification to automatic field numbering");
        idx = f->next++;
    } else {
        size_t i = 0;
        idx = 0;
        while (i < n && s[i] >= '0' && s[i] <= '9') {
            if (idx > INT32_MAX) return raise(r, EXC_VALUE, "Too many decimal digits in format string");
            idx = idx * 10 + (s[i++] - '0');
        }
        if (i < n) {
            idx = -1;
        } else {
            if (f->next > 0)
                return raise(r, EXC_VALUE,
                             "cannot switch from automatic field numbering to manual field specification");
            f->next = -1;
        }
    }
    if (idx >= 0) {
        if (f->map.type != T_MISSING || (uint64_t)idx >= f->a->n)
            return raise(r, EXC_INDEX, "tuple index out of range");
        return f->a->pos[idx];
    }
    key = v_str_copy(r, s, n);
    if (IS_ERR(key)) return key;
    if (f->map.type != T_MISSING) return get_item_strict(r, f->map, key);
    for (size_t i = 0; i < f->a->n_kw; i++)
        if (str_eq(f->a->kw_name[i], key.s)) return f->a->kw[i];
    (void)v;
    return raise(r, EXC_KEY, "'%.*s'", (int)(n < 200 ? n : 200), s);
}

static val field_value(brace *f, const char *s, size_t n)
{
    rt *r = f->r;
    size_t i = 0;
    val v;
    while (i < n && s[i] != '.' && s[i] != '[') i++;
    v = field_root(f, s, i);
    while (i < n && !IS_ERR(v)) {
        size_t from = ++i;
        bool attr = s[from - 1] == '.', number = !attr;
        val key;
        int64_t idx = 0;
        while (i < n && (attr ? s[i] != '.' && s[i] != '[' : s[i] != ']')) i++;
        if (!attr && i == n) return raise(r, EXC_VALUE, "Missing ']' in format string");
        if (i == from) return raise(r, EXC_VALUE, "Empty attribute in format string");
        for (size_t k = from; k < i && number; k++) {
            number = s[k] >= '0' && s[k] <= '9';
            if (number && idx > INT64_MAX / 10 - 1)
                return raise(r, EXC_VALUE, "Too many decimal digits in format string");
            if (number) idx = idx * 10 + (s[k] - '0');
        }
        key = number ? v_int(idx) : v_str_copy(r, s + from, i - from);
        if (IS_ERR(key)) return key;
        v = attr ? get_attr(r, v, key.s) : get_item(r, v, key);
        if (!attr) {
            i++;
            if (i < n && s[i] != '.' && s[i] != '[')
                return raise(r, EXC_VALUE, "Only '.' or '[' may follow ']' in format field specifier");
        }
    }
    return v;
}

static val brace_text(brace *f, const char *s, size_t n, int depth)
{
    rt *r = f->r;
    sb b = {0};
    size_t i = 0;

    if (depth < 0) return raise(r, EXC_VALUE, "Max string recursion exceeded");
    while (i < n && !b.failed) {
        size_t from = i, name_end, end;
        char conv = 0;
        int level = 1;
        val v, out;
        str spec_text = {.s = "", .n_chars = SIZE_MAX};
        while (i < n && s[i] != '{' && s[i] != '}') i++;
        sb_add(r, &b, s + from, i - from);
        if (i == n) break;
        if (s[i] == '}') {
            if (i + 1 >= n || s[i + 1] != '}')
                return raise(r, EXC_VALUE, "Single '}' encountered in format string");
            sb_char(r, &b, '}');
            i += 2;
            continue;
        }
        if (i + 1 < n && s[i + 1] == '{') {
            sb_char(r, &b, '{');
            i += 2;
            continue;
        }
        if (i + 1 >= n) return raise(r, EXC_VALUE, "Single '{' encountered in format string");
        /* the field's name reaches to "!", ":" or "}"; inside "[...]" all of them count for nothing */
        from = ++i;
        while (i < n && s[i] != '!' && s[i] != ':' && s[i] != '}') {
            if (s[i] == '{') return raise(r, EXC_VALUE, "unexpected '{' in field name");
            if (s[i] == '[') {
                while (i < n && s[i] != ']') i++;
                continue;
            }
            i++;
        }
        name_end = i;
        if (i < n && s[i] == '!') {
            if (i + 1 >= n)
                return raise(r, EXC_VALUE, "end of string while looking for conversion specifier");
            conv = s[++i];
            i++;
            if (i < n && s[i] != ':' && s[i] != '}')
                return raise(r, EXC_VALUE, "expected ':' after conversion specifier");
        }
        if (i < n && s[i] == ':') {
            size_t at = ++i;
            while (i < n) {
                if (s[i] == '{') level++;
                if (s[i] == '}' && --level == 0) break;
                i++;
            }
            end = i;
            spec_text.s = s + at;
            spec_text.n = end - at;
        }
        if (i >= n) return raise(r, EXC_VALUE, "expected '}' before end of string");
        i++;
        v = field_value(f, s + from, name_end - from);
        if (IS_ERR(v)) return v;
        if (conv == 'r' || conv == 'a') {
            sb rep = {0};
            if (!write_repr(r, &rep, v)) return v_err();
            v = sb_val(r, &rep);
            if (conv == 'a' && !IS_ERR(v) && !str_ascii(v.s)) {
                sb esc = {0};
                for (size_t k = 0; k < v.s->n;) {
                    uint32_t cp = next_cp(v.s->s, v.s->n, &k);
                    char buf[16];
                    if (cp < 0x80) {
                        sb_char(r, &esc, (char)cp);
                        continue;
                    }
                    snprintf(buf, sizeof buf,
                             cp < 0x100     ? "\\x%02x"
                             : cp < 0x10000 ? "\\u%04x"
                                            : "\\U%08x",
                             cp);
                    sb_str(r, &esc, buf);
                }
                v = sb_val(r, &esc);
            }
        } else if (conv == 's') {
            v = to_str(r, v);
        } else if (conv) {
            return raise(r, EXC_VALUE, "Unknown conversion specifier %c", conv);
        }
        if (IS_ERR(v)) return v;
        if (spec_text.n) {
            val t = brace_text(f, spec_text.s, spec_text.n, depth - 1);
            if (IS_ERR(t)) return t;
            spec_text = *t.s;
        }
        if (f->markup && is_markup(v)) {
            if (spec_text.n) return raise(r, EXC_VALUE, "Unsupported format specification for Markup.");
            out = v;
        } else {
            out = format_field(r, v, &spec_text);
            if (!IS_ERR(out) && f->markup) out = escape_html(r, out);
        }
        if (IS_ERR(out)) return out;
        sb_add(r, &b, out.s->s, out.s->n);
    }
    return sb_val(r, &b);
}

val brace_format(rt *r, val fmt, const args *a, bool is_map)
{
    brace f = {.r = r, .a = a, .map = is_map ? a->pos[0] : v_missing(), .markup = is_markup(fmt)};
    val v = brace_text(&f, fmt.s->s, fmt.s->n, MAX_FIELD_DEPTH);
    return f.markup ? v_markup(v) : v;
}
