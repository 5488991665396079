/* Numbers as Python reads and writes them. */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/template/template.h"

/* The digits of the shortest decimal that reads back as f (finite, not 0) and its exponent (d.ddd * 10^exp). */
static size_t shortest_digits(double f, char digits[20], int *exponent)
{
    char buf[48];
    size_t n = 0;
    /* up to 15 digits survive the way to a double and back, so 15 hold every shorter form; not so where doubles
     * have fewer bits (subnormal) */
    for (int prec = f < DBL_MIN ? 0 : 14; prec <= 16; prec++) {
        snprintf(buf, sizeof buf, "%.*e", prec, f);
        if (prec == 16 || strtod(buf, NULL) == f) break;
    }
    for (const char *p = buf; *p && *p != 'e'; p++)
        if (*p >= '0' && *p <= '9' && n < 18) digits[n++] = *p;
    *exponent = atoi(strchr(buf, 'e') + 1);
    while (n > 1 && digits[n - 1] == '0') n--;
    digits[n] = '\0';
    return n;
}

size_t format_float_repr(char out[40], double f)
{
    char d[20];
    int e, k = 0;
    size_t n;
    if (isnan(f)) return (size_t)snprintf(out, 40, "nan");
    if (isinf(f)) return (size_t)snprintf(out, 40, f < 0 ? "-inf" : "inf");
    if (signbit(f)) out[k++] = '-';
    if (f == 0) return (size_t)k + (size_t)snprintf(out + k, 8, "0.0");
    n = shortest_digits(fabs(f), d, &e);
    if (e < -4 || e >= 16) {
        out[k++] = d[0];
        if (n > 1) {
            out[k++] = '.';
            memcpy(out + k, d + 1, n - 1);
            k += (int)n - 1;
        }
        return (size_t)k + (size_t)snprintf(out + k, 8, "e%c%02d", e < 0 ? '-' : '+', abs(e));
    }
    if (e < 0) {
        out[k++] = '0';
        out[k++] = '.';
        for (int i = -1; i > e; i--) out[k++] = '0';
        memcpy(out + k, d, n);
        return (size_t)k + n;
    }
    for (int i = 0; i <= e; i++) out[k++] = (size_t)i < n ? d[i] : '0';
    out[k++] = '.';
    if (n <= (size_t)e + 1) {
        out[k++] = '0';
    } else {
        memcpy(out + k, d + e + 1, n - (size_t)e - 1);
        k += (int)(n - (size_t)e - 1);
    }
    return (size_t)k;
}

void write_float_repr(rt *r, sb *b, double f)
{
    char buf[40];
    sb_add(r, b, buf, format_float_repr(buf, f));
}

val float_to_int(rt *r, double f)
{
    if (isnan(f)) return raise(r, EXC_VALUE, "cannot convert float NaN to integer");
    if (isinf(f)) return raise(r, EXC_OVERFLOW, "cannot convert float infinity to integer");
    f = trunc(f);
    if (f >= 9223372036854775808.0 || f < -9223372036854775808.0)
        return raise(r, EXC_UNSUPPORTED, "an integer beyond 64 bits is not supported");
    return v_int((int64_t)f);
}

static int any_digit(uint32_t cp)
{
    if (cp < 0x80) {
        if (cp >= '0' && cp <= '9') return (int)cp - '0';
        cp |= 32;
        return cp >= 'a' && cp <= 'z' ? (int)cp - 'a' + 10 : 99;
    }
    return cp_decimal_value(cp) < 0 ? 99 : cp_decimal_value(cp);
}

bool parse_py_int(rt *r, str *s, int base, val *out)
{
    val t = str_strip(r, v_of_str(s), v_none(), true, true);
    size_t i = 0, n, k;
    bool neg = false, digit = false, under = false, big = false;
    uint64_t v = 0;
    const char *p;
    sb rep = {0};
    int b = base;

    if (IS_ERR(t)) return false;
    if (base != 0 && (base < 2 || base > 36)) {
        raise(r, EXC_VALUE, "int() base must be >= 2 and <= 36, or 0");
        return false;
    }
    p = t.s->s;
    n = t.s->n;
    if (i < n && (p[i] == '+' || p[i] == '-')) neg = p[i++] == '-';
    if (i + 1 < n && p[i] == '0') {
        char c = (char)(p[i + 1] | 32);
        int pb = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;
        if (pb && (base == 0 || base == pb)) {
            b = pb;
            i += 2;
            if (i < n && p[i] == '_') i++;
        }
    }
    if (b == 0) {
        b = 10;
        /* "010" is no integer when the base is to be guessed */
        for (k = i; k < n && (p[k] == '0' || p[k] == '_'); k++) {
        }
        if (i < n && p[i] == '0' && k < n) goto bad;
    }
    while (i < n) {
        int d;
        if (p[i] == '_') {
            if (!digit || under) goto bad;
            under = true;
            i++;
            continue;
        }
        d = any_digit(next_cp(p, n, &i));
        if (d >= b) goto bad;
        digit = true;
        under = false;
        if (__builtin_mul_overflow(v, (uint64_t)b, &v) || __builtin_add_overflow(v, (uint64_t)d, &v))
            big = true;
    }
    if (!digit || under) goto bad;
    if (big || v > (uint64_t)INT64_MAX + neg) {
        raise(r, EXC_UNSUPPORTED, "an integer beyond 64 bits is not supported");
        return false;
    }
    *out = v_int(neg ? (int64_t)(0 - v) : (int64_t)v);
    return true;
bad:
    write_str_repr(r, &rep, s);
    if (!rep.failed)
        raise(r, EXC_VALUE, "invalid literal for int() with base %d: %.*s", base,
              (int)(rep.n < 200 ? rep.n : 200), rep.p);
    return false;
}

bool parse_py_float(rt *r, str *s, double *out)
{
    val t = str_strip(r, v_of_str(s), v_none(), true, true);
    sb b = {0}, rep = {0};
    size_t n = 0;
    char *end, *p;
    const char *w;
    bool prev_digit = false, ok = true, under = false;

    if (IS_ERR(t)) return false;
    for (size_t i = 0; i < t.s->n;) {
        uint32_t cp = next_cp(t.s->s, t.s->n, &i);
        int d = cp_decimal_value(cp);
        if (cp == '_') {
            if (!prev_digit || under) ok = false;
            under = true;
            continue;
        }
        if (under && d < 0) ok = false;
        under = false;
        prev_digit = d >= 0;
        sb_char(r, &b, d >= 0 ? (char)('0' + d) : cp < 0x80 ? (char)cp : '?');
    }
    sb_char(r, &b, '\0');
    if (b.failed) return false;
    p = b.p;
    n = b.n - 1;
    if (under || n == 0 || memchr(p, '\0', n)) ok = false;
    w = p + (*p == '+' || *p == '-');
    if (ok && !(*w >= '0' && *w <= '9') && *w != '.') {
        static const char *const words[] = {"inf", "infinity", "nan"};
        bool word = false;
        for (size_t i = 0; i < 3; i++) {
            size_t k = 0;
            while (words[i][k] && (w[k] | 32) == words[i][k]) k++;
            word |= !words[i][k] && !w[k];
        }
        ok = word;
    }
    if (ok && w[0] == '0' && (w[1] | 32) == 'x') ok = false; /* strtod would take it */
    if (ok) {
        *out = strtod(p, &end);
        ok = end == p + n;
    }
    if (ok) return true;
    write_str_repr(r, &rep, s);
    if (!rep.failed)
        raise(r, EXC_VALUE, "could not convert string to float: %.*s", (int)(rep.n < 200 ? rep.n : 200),
              rep.p);
    return false;
}

double round_to(double x, int64_t nd)
{
    char buf[400];
    if (!isfinite(x) || nd > 323) return x;
    if (nd < -308) return 0.0 * x;
    if (nd >= 0) {
        /* correctly rounded, halves of the exact value to even: what printf does */
        snprintf(buf, sizeof buf, "%.*f", (int)nd, x);
        return strtod(buf, NULL);
    }
    {
        /* round the decimal digits of the exact integer part */
        int cut = (int)-nd;
        size_t n;
        bool neg = signbit(x);
        char digits[340];
        double frac, whole = floor(fabs(x));
        bool up;
        frac = fabs(x) - whole;
        snprintf(digits, sizeof digits, "%.0f", whole);
        n = strlen(digits);
        if ((size_t)cut > n) return neg ? -0.0 : 0.0;
        {
            size_t keep = n - (size_t)cut;
            char c = digits[keep];
            bool exact_half = c == '5' && frac == 0;
            for (size_t i = keep + 1; i < n; i++) exact_half = exact_half && digits[i] == '0';
            up = c > '5' || (c == '5' && !exact_half) ||
                 (exact_half && keep && ((digits[keep - 1] - '0') & 1));
            for (size_t i = keep; i < n; i++) digits[i] = '0';
            if (up) {
                size_t i = keep;
                while (i > 0 && digits[i - 1] == '9') digits[--i] = '0';
                if (i > 0) {
                    digits[i - 1]++;
                } else {
                    memmove(digits + 1, digits, n + 1);
                    digits[0] = '1';
                }
            }
        }
        x = strtod(digits, NULL);
        return neg ? -x : x;
    }
}

val py_round(rt *r, val v, val ndigits, bool has_ndigits)
{
    int64_t nd = 0;
    if (!is_number(v)) {
        if (v.type == T_UNDEF) return raise(r, EXC_TYPE, "type Undefined doesn't define __round__ method");
        return raise(r, EXC_TYPE, "type %s doesn't define __round__ method", type_name(v));
    }
    if (has_ndigits && ndigits.type == T_NONE) has_ndigits = false;
    if (has_ndigits && !index_of(r, ndigits, &nd)) return v_err();
    if (v.type == T_FLOAT) {
        double x;
        if (!has_ndigits) return float_to_int(r, nearbyint(v.f));
        x = round_to(v.f, nd);
        if (isinf(x) && !isinf(v.f)) return raise(r, EXC_OVERFLOW, "rounded value too large to represent");
        return v_float(x);
    }
    if (nd >= 0) return v_int(v.i);
    if (nd < -18) return v_int(0);
    {
        int64_t p = 1, q, rem;
        for (int64_t i = 0; i < -nd; i++) p *= 10;
        q = v.i / p;
        rem = v.i % p;
        if (rem < 0) {
            rem += p;
            q--;
        }
        if (rem > p - rem || (rem == p - rem && (q & 1))) q++;
        if (__builtin_mul_overflow(q, p, &q))
            return raise(r, EXC_UNSUPPORTED, "an integer beyond 64 bits is not supported");
        return v_int(q);
    }
}

bool index_of(rt *r, val v, int64_t *out)
{
    if (is_int_like(v)) {
        *out = v.i;
        return true;
    }
    raise(r, EXC_TYPE, "'%s' object cannot be interpreted as an integer", type_name(v));
    return false;
}
