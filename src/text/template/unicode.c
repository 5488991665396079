/* Characters as Python's str methods see them: utf8proc's categories and simple mappings, corrected by the tables
 * of unicode_data.c (special casing, numeric types). */
#include <utf8proc.h>

#include "text/template/template.h"
#include "text/template/unicode_data.h"

static bool in_ranges(const uint32_t (*t)[2], size_t n, uint32_t cp)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (cp > t[mid][1])
            lo = mid + 1;
        else if (cp < t[mid][0])
            hi = mid;
        else
            return true;
    }
    return false;
}
#define IN(table, cp) in_ranges(table, n_##table, cp)

static int category(uint32_t cp)
{
    if (cp > 0x10ffff || IN(newer, cp)) return UTF8PROC_CATEGORY_CN;
    return utf8proc_category((utf8proc_int32_t)cp);
}

uint32_t prev_cp(const char *s, size_t *i)
{
    size_t k = *i - 1, end = *i, j;
    while (k > 0 && ((unsigned char)s[k] & 0xc0) == 0x80) k--;
    *i = k;
    j = k;
    return next_cp(s, end, &j);
}

bool cp_is_space(uint32_t cp)
{
    if (cp < 0x80) return (cp >= 9 && cp <= 13) || (cp >= 0x1c && cp <= 0x20);
    return cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 ||
           cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

bool cp_is_printable(uint32_t cp)
{
    if (cp < 0x7f) return cp >= 0x20;
    switch (category(cp)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS: return false;
    default: return true;
    }
}

bool cp_is_alpha(uint32_t cp)
{
    if (cp < 0x80) return (cp | 32) >= 'a' && (cp | 32) <= 'z';
    switch (category(cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return true;
    default: return false;
    }
}

bool cp_is_decimal(uint32_t cp)
{
    return cp < 0x80 ? cp >= '0' && cp <= '9' : IN(decimal_digits, cp);
}

bool cp_is_digit(uint32_t cp)
{
    return cp_is_decimal(cp) || (cp >= 0x80 && IN(digit_only, cp));
}

bool cp_is_numeric(uint32_t cp)
{
    return cp_is_digit(cp) || (cp >= 0x80 && IN(numeric_only, cp));
}

int cp_decimal_value(uint32_t cp)
{
    size_t lo = 0, hi = n_decimal_zeros;
    if (cp < 0x80) return cp >= '0' && cp <= '9' ? (int)(cp - '0') : -1;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (decimal_zeros[mid] <= cp)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo && cp - decimal_zeros[lo - 1] < 10 ? (int)(cp - decimal_zeros[lo - 1]) : -1;
}

bool cp_is_lower(uint32_t cp)
{
    if (cp < 0x80) return cp >= 'a' && cp <= 'z';
    return (category(cp) == UTF8PROC_CATEGORY_LL) != IN(other_lower, cp);
}

bool cp_is_upper(uint32_t cp)
{
    if (cp < 0x80) return cp >= 'A' && cp <= 'Z';
    return category(cp) == UTF8PROC_CATEGORY_LU || IN(other_upper, cp);
}

bool cp_is_title(uint32_t cp)
{
    return cp >= 0x80 && category(cp) == UTF8PROC_CATEGORY_LT;
}

bool cp_is_cased(uint32_t cp)
{
    return cp_is_lower(cp) || cp_is_upper(cp) || cp_is_title(cp);
}

bool cp_is_case_ignorable(uint32_t cp)
{
    return IN(case_ignorable, cp);
}

bool cp_is_word(uint32_t cp)
{
    return cp == '_' || cp_is_alpha(cp) || cp_is_numeric(cp);
}

static bool id_start_category(uint32_t cp)
{
    return cp == '_' || cp_is_alpha(cp) || category(cp) == UTF8PROC_CATEGORY_NL;
}

bool cp_is_id_start(uint32_t cp)
{
    if (cp < 0x80) return cp == '_' || cp_is_alpha(cp);
    return id_start_category(cp) != IN(id_start_but, cp);
}

bool cp_is_id_continue(uint32_t cp)
{
    bool yes;
    if (cp < 0x80) return cp == '_' || cp_is_alpha(cp) || (cp >= '0' && cp <= '9');
    yes = id_start_category(cp);
    switch (category(cp)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_PC: yes = true; break;
    default: break;
    }
    return yes != IN(id_continue_but, cp);
}

static size_t special(const special_case *t, size_t n, uint32_t cp, uint32_t out[3])
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (t[mid].cp < cp)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == n || t[lo].cp != cp) return 0;
    memcpy(out, t[lo].to, sizeof t[lo].to);
    return out[2] ? 3 : out[1] ? 2 : 1;
}

size_t cp_upper(uint32_t cp, uint32_t out[3])
{
    size_t n = cp < 0x80 ? 0 : special(special_upper, n_special_upper, cp, out);
    if (n) return n;
    out[0] = IN(newer, cp) ? cp : (uint32_t)utf8proc_toupper((utf8proc_int32_t)cp);
    return 1;
}

size_t cp_lower(uint32_t cp, uint32_t out[3])
{
    size_t n = cp < 0x80 ? 0 : special(special_lower, n_special_lower, cp, out);
    if (n) return n;
    out[0] = IN(newer, cp) ? cp : (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
    return 1;
}

size_t cp_title(uint32_t cp, uint32_t out[3])
{
    size_t n = cp < 0x80 ? 0 : special(special_title, n_special_title, cp, out);
    if (n) return n;
    out[0] = IN(newer, cp) ? cp : (uint32_t)utf8proc_totitle((utf8proc_int32_t)cp);
    return 1;
}

size_t cp_fold(uint32_t cp, uint32_t out[3])
{
    utf8proc_int32_t buf[8];
    int last = 0;
    utf8proc_ssize_t n;
    n = utf8proc_decompose_char((utf8proc_int32_t)cp, buf, 8, UTF8PROC_CASEFOLD, &last);
    if (n < 1 || n > 3) {
        out[0] = cp;
        return 1;
    }
    for (utf8proc_ssize_t i = 0; i < n; i++) out[i] = (uint32_t)buf[i];
    return (size_t)n;
}
