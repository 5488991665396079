/* Patterns come in Oniguruma's syntax and with its meaning: \w, \s, \d, \h, \b, properties and POSIX brackets by
 * its Unicode data, ^ and $ at every line, (?m) for a dot that matches line breaks, nested and intersected
 * classes. All classes are worked out here to ranges of characters, so that PCRE2's own Unicode version has no
 * say; what is left to PCRE2 is the matching, and case folding under (?i). Not translated, and refused: subexp
 * calls, absent operators, conditionals, callouts. Folds of one character to several are not known.
 *
 * Syntax: doc/RE of Oniguruma 6.9. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#define TOK_REGEX_SCRIPTS
#include "text/tokenizer/regex.h"

/* ---- sets of characters: sorted ranges, both ends in ---- */

typedef struct range {
    uint32_t lo, hi;
} range;
typedef struct set {
    range *r;
    size_t n, cap;
    bool failed;
} set;

static void set_add(set *s, uint32_t lo, uint32_t hi)
{
    if (s->n && s->r[s->n - 1].hi + 1 == lo) {
        s->r[s->n - 1].hi = hi;
        return;
    }
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 16;
        range *r = mlxr_realloc_array(s->r, cap, sizeof *r);
        if (!r) {
            s->failed = true;
            return;
        }
        s->r = r;
        s->cap = cap;
    }
    s->r[s->n++] = (range){lo, hi};
}

static void set_clear(set *s)
{
    free(s->r);
    *s = (set){0};
}

static int compare_range(const void *a, const void *b)
{
    const range *x = a, *y = b;
    return x->lo < y->lo ? -1 : x->lo > y->lo;
}

static void set_tidy(set *s)
{
    size_t n = 0;
    if (s->n) qsort(s->r, s->n, sizeof *s->r, compare_range);
    for (size_t i = 0; i < s->n; i++) {
        if (n && s->r[i].lo <= s->r[n - 1].hi + 1) {
            if (s->r[i].hi > s->r[n - 1].hi) s->r[n - 1].hi = s->r[i].hi;
        } else {
            s->r[n++] = s->r[i];
        }
    }
    s->n = n;
}

static void set_union(set *s, const set *with)
{
    for (size_t i = 0; i < with->n; i++) set_add(s, with->r[i].lo, with->r[i].hi);
    s->failed |= with->failed;
    set_tidy(s);
}

static void set_negate(set *s)
{
    set out = {.failed = s->failed};
    uint32_t from = 0;
    set_tidy(s);
    for (size_t i = 0; i < s->n; i++) {
        if (s->r[i].lo > from) set_add(&out, from, s->r[i].lo - 1);
        from = s->r[i].hi + 1;
    }
    if (from <= 0x10ffff) set_add(&out, from, 0x10ffff);
    set_clear(s);
    *s = out;
}

static void set_intersect(set *s, const set *with)
{
    set a = {0};
    set_negate(s); /* not (not a or not b) */
    set_union(&a, with);
    set_negate(&a);
    set_union(s, &a);
    set_negate(s);
    set_clear(&a);
}

/* Characters whose category is in gc_mask (a bit each) or that have one of flags. */
static void set_add_unicode(set *s, uint32_t gc_mask, uint32_t flags)
{
    uint32_t from = 0;
    bool in = false;
    for (uint32_t cp = 0; cp <= 0x110000; cp++) {
        uint32_t u = cp < 0x110000 ? tok_unicode(cp) : 0;
        bool has = cp < 0x110000 && ((gc_mask >> (u & TOK_GC_MASK) & 1) || (u & flags));
        if (has && !in) from = cp;
        if (!has && in) set_add(s, from, cp - 1);
        in = has;
    }
    set_tidy(s);
}

#define BIT(name) (1u << TOK_GC_##name)
enum {
    GC_L = BIT(LL) | BIT(LM) | BIT(LO) | BIT(LT) | BIT(LU),
    GC_M = BIT(MC) | BIT(ME) | BIT(MN),
    GC_N = BIT(ND) | BIT(NL) | BIT(NO),
    GC_P = BIT(PC) | BIT(PD) | BIT(PE) | BIT(PF) | BIT(PI) | BIT(PO) | BIT(PS),
    GC_S = BIT(SC) | BIT(SK) | BIT(SM) | BIT(SO),
    GC_Z = BIT(ZL) | BIT(ZP) | BIT(ZS),
    GC_C = BIT(CC) | BIT(CF) | BIT(CN) | BIT(CO) | BIT(CS)
};

/* Properties by name, without case, spaces, '_' and '-'. */
static const struct {
    const char *name;
    uint32_t gc, flags;
} properties[] = {
    {"l", GC_L, 0},
    {"letter", GC_L, 0},
    {"lc", BIT(LL) | BIT(LT) | BIT(LU), 0},
    {"casedletter", BIT(LL) | BIT(LT) | BIT(LU), 0},
    {"ll", BIT(LL), 0},
    {"lowercaseletter", BIT(LL), 0},
    {"lm", BIT(LM), 0},
    {"modifierletter", BIT(LM), 0},
    {"lo", BIT(LO), 0},
    {"otherletter", BIT(LO), 0},
    {"lt", BIT(LT), 0},
    {"titlecaseletter", BIT(LT), 0},
    {"lu", BIT(LU), 0},
    {"uppercaseletter", BIT(LU), 0},
    {"m", GC_M, 0},
    {"mark", GC_M, 0},
    {"combiningmark", GC_M, 0},
    {"mc", BIT(MC), 0},
    {"spacingmark", BIT(MC), 0},
    {"me", BIT(ME), 0},
    {"enclosingmark", BIT(ME), 0},
    {"mn", BIT(MN), 0},
    {"nonspacingmark", BIT(MN), 0},
    {"n", GC_N, 0},
    {"number", GC_N, 0},
    {"nd", BIT(ND), 0},
    {"decimalnumber", BIT(ND), 0},
    {"digit", BIT(ND), 0},
    {"nl", BIT(NL), 0},
    {"letternumber", BIT(NL), 0},
    {"no", BIT(NO), 0},
    {"othernumber", BIT(NO), 0},
    {"p", GC_P, 0},
    {"punctuation", GC_P, 0},
    {"punct", GC_P, 0},
    {"pc", BIT(PC), 0},
    {"connectorpunctuation", BIT(PC), 0},
    {"pd", BIT(PD), 0},
    {"dashpunctuation", BIT(PD), 0},
    {"pe", BIT(PE), 0},
    {"closepunctuation", BIT(PE), 0},
    {"pf", BIT(PF), 0},
    {"finalpunctuation", BIT(PF), 0},
    {"pi", BIT(PI), 0},
    {"initialpunctuation", BIT(PI), 0},
    {"po", BIT(PO), 0},
    {"otherpunctuation", BIT(PO), 0},
    {"ps", BIT(PS), 0},
    {"openpunctuation", BIT(PS), 0},
    {"s", GC_S, 0},
    {"symbol", GC_S, 0},
    {"sc", BIT(SC), 0},
    {"currencysymbol", BIT(SC), 0},
    {"sk", BIT(SK), 0},
    {"modifiersymbol", BIT(SK), 0},
    {"sm", BIT(SM), 0},
    {"mathsymbol", BIT(SM), 0},
    {"so", BIT(SO), 0},
    {"othersymbol", BIT(SO), 0},
    {"z", GC_Z, 0},
    {"separator", GC_Z, 0},
    {"zl", BIT(ZL), 0},
    {"lineseparator", BIT(ZL), 0},
    {"zp", BIT(ZP), 0},
    {"paragraphseparator", BIT(ZP), 0},
    {"zs", BIT(ZS), 0},
    {"spaceseparator", BIT(ZS), 0},
    {"c", GC_C, 0},
    {"other", GC_C, 0},
    {"cc", BIT(CC), 0},
    {"control", BIT(CC), 0},
    {"cntrl", BIT(CC), 0},
    {"cf", BIT(CF), 0},
    {"format", BIT(CF), 0},
    {"cn", BIT(CN), 0},
    {"unassigned", BIT(CN), 0},
    {"co", BIT(CO), 0},
    {"privateuse", BIT(CO), 0},
    {"cs", BIT(CS), 0},
    {"surrogate", BIT(CS), 0},
    {"any", ~0u, 0},
    {"alpha", 0, TOK_U_ALPHA},
    {"alphabetic", 0, TOK_U_ALPHA},
    {"lower", 0, TOK_U_LOWER},
    {"lowercase", 0, TOK_U_LOWER},
    {"upper", 0, TOK_U_UPPER},
    {"uppercase", 0, TOK_U_UPPER},
    {"space", 0, TOK_U_SPACE},
    {"whitespace", 0, TOK_U_SPACE},
    {"word", 0, TOK_U_WORD},
    {"alnum", BIT(ND), TOK_U_ALPHA},
    {"graph", 0, 0}, /* the rest by hand, below */
    {"print", 0, 0},
    {"blank", 0, 0},
    {"xdigit", 0, 0},
    {"asciihexdigit", 0, 0},
    {"ascii", 0, 0},
};

static void add_ascii(set *s, const char *pairs)
{
    for (; *pairs; pairs += 2) set_add(s, (unsigned char)pairs[0], (unsigned char)pairs[1]);
    set_tidy(s);
}

/* \w outside of brackets takes six more characters of Latin-1, as Oniguruma's table for it does. */
static void add_latin_words(set *s)
{
    set_add(s, 0xb2, 0xb3);
    set_add(s, 0xb9, 0xb9);
    set_add(s, 0xbc, 0xbe);
    set_tidy(s);
}

/* name is folded. posix: in [: :], where punct has the symbols too. false: no such property. */
static bool add_property(set *s, const char *name, bool posix)
{
    size_t i;
    if (posix && strcmp(name, "punct") == 0) {
        set_add_unicode(s, GC_P | GC_S, 0);
        return true;
    }
    if (strcmp(name, "graph") == 0 || strcmp(name, "print") == 0) {
        set t = {0};
        set_add_unicode(&t, BIT(CC) | BIT(CN) | BIT(CS), name[0] == 'g' ? TOK_U_SPACE : 0);
        if (name[0] == 'p') set_add_unicode(&t, BIT(ZL) | BIT(ZP), 0);
        set_negate(&t);
        set_union(s, &t);
        set_clear(&t);
        return true;
    }
    if (strcmp(name, "blank") == 0) {
        set_add_unicode(s, BIT(ZS), 0);
        set_add(s, 9, 9);
        set_tidy(s);
        return true;
    }
    if (strcmp(name, "xdigit") == 0 || strcmp(name, "asciihexdigit") == 0) {
        add_ascii(s, "09AFaf");
        return true;
    }
    if (strcmp(name, "ascii") == 0) {
        set_add(s, 0, 0x7f);
        set_tidy(s);
        return true;
    }
    for (i = 0; i < MLXR_COUNT(properties); i++) {
        if (strcmp(name, properties[i].name) == 0) {
            set_add_unicode(s, properties[i].gc, properties[i].flags);
            if (!posix && strcmp(name, "word") == 0) add_latin_words(s);
            return true;
        }
    }
    for (i = 0; i < MLXR_COUNT(script_names); i++) {
        if (strcmp(name, script_names[i].name) == 0) {
            const uint32_t *r = &script_ranges[2 * (size_t)script_names[i].at];
            for (size_t k = 0; k < script_names[i].n; k++) set_add(s, r[2 * k], r[2 * k + 1]);
            set_tidy(s);
            return true;
        }
    }
    return false;
}

/* ---- the parser ---- */

typedef struct translator {
    const char *start, *s, *end, *what;
    mlxr_buf *out;
    mlxr_error *err;
    unsigned depth;
    bool extended, dot_all, fold; /* (?x), (?m), (?i) */
    bool compact;                 /* large classes once, behind the pattern, as groups to call */
    mlxr_buf classes;             /* their texts, each ended by a NUL */
    unsigned n_classes;
} translator;

static mlxr_status bad(translator *t, mlxr_status code, const char *why)
{
    return mlxr_fail(t->err, code, "tokenizer: %s: pattern, byte %zu: %s", t->what, (size_t)(t->s - t->start),
                     why);
}

static void put_char(mlxr_buf *out, uint32_t cp)
{
    if (cp < 0x80 && !isalnum((int)cp))
        mlxr_buf_printf(out, "\\x{%x}", (unsigned)cp);
    else
        mlxr_buf_utf8(out, cp);
}

/* Ends of a range may not be surrogates, which no text has anyway. */
static void put_set(mlxr_buf *out, const set *s, bool negated)
{
    bool any = false;
    size_t mark = out->len;
    mlxr_buf_str(out, negated ? "[^" : "[");
    for (size_t i = 0; i < s->n; i++) {
        uint32_t lo = s->r[i].lo, hi = s->r[i].hi;
        if (lo >= 0xd800 && lo < 0xe000) lo = 0xe000;
        if (hi >= 0xd800 && hi < 0xe000) hi = 0xd7ff;
        if (lo > hi) continue;
        any = true;
        if (lo == hi)
            mlxr_buf_printf(out, "\\x{%x}", (unsigned)lo);
        else
            mlxr_buf_printf(out, "\\x{%x}-\\x{%x}", (unsigned)lo, (unsigned)hi);
    }
    mlxr_buf_str(out, "]");
    if (!any && !out->failed) {
        out->len = mark;
        mlxr_buf_str(out, negated ? "[\\x{0}-\\x{10ffff}]" : "(?!)");
    }
}

/* A class that case folding does not widen: that of an escape always, one in brackets where there is none. */
static void put_plain_set(translator *t, const set *s, bool negated)
{
    enum { LARGE = 400 };
    mlxr_buf text = {0};
    unsigned k = 0;
    size_t at = 0;

    put_set(&text, s, false);
    if (text.failed) {
        t->out->failed = true;
    } else if (!t->compact || text.len < LARGE) {
        mlxr_buf_str(t->out, "(?-i:");
        put_set(t->out, s, negated);
        mlxr_buf_char(t->out, ')');
    } else {
        for (; k < t->n_classes && strcmp(t->classes.data + at, text.data) != 0; k++)
            at += strlen(t->classes.data + at) + 1;
        if (k == t->n_classes) {
            mlxr_buf_append(&t->classes, text.data, text.len + 1);
            t->n_classes++;
        }
        mlxr_buf_printf(t->out, negated ? "(?:(?!(?&mlxr%u))[\\x{0}-\\x{10ffff}])" : "(?&mlxr%u)", k);
    }
    mlxr_buf_clear(&text);
}

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Up to `most` hex digits. */
static uint32_t read_hex(translator *t, int most)
{
    uint32_t v = 0;
    for (int i = 0; i < most && t->s < t->end && hex(*t->s) >= 0 && v <= 0x10ffff; i++)
        v = v * 16 + (uint32_t)hex(*t->s++);
    return v;
}

/* An escape that stands for one character, t->s behind the backslash. A false result: it is no such escape, and
 * nothing was read. */
static bool escape_char(translator *t, uint32_t *cp)
{
    char c = *t->s;
    uint32_t v = 0;
    switch (c) {
    case 't': *cp = '\t'; break;
    case 'n': *cp = '\n'; break;
    case 'r': *cp = '\r'; break;
    case 'f': *cp = '\f'; break;
    case 'v': *cp = '\v'; break;
    case 'a': *cp = '\a'; break;
    case 'e': *cp = 27; break;
    case 'x':
        t->s++;
        if (t->s < t->end && *t->s == '{') {
            t->s++;
            *cp = read_hex(t, 8);
            if (t->s < t->end && *t->s == '}') t->s++;
        } else {
            *cp = read_hex(t, 2);
        }
        return true;
    case 'u':
        t->s++;
        *cp = read_hex(t, 4);
        return true;
    case '0':
        for (int i = 0; i < 3 && t->s < t->end && *t->s >= '0' && *t->s <= '7'; i++)
            v = v * 8 + (uint32_t)(*t->s++ - '0');
        *cp = v;
        return true;
    default: return false;
    }
    t->s++;
    return true;
}

/* {name}, {^name} behind \p or \P, or name:] behind [:. Folds it into name. */
static bool read_name(translator *t, char name[64], char close, bool *negated)
{
    size_t n = 0;
    if (t->s < t->end && *t->s == '^') {
        *negated = !*negated;
        t->s++;
    }
    while (t->s < t->end && *t->s != close) {
        char c = *t->s++;
        if (c == ' ' || c == '_' || c == '-') continue;
        if (n == 63 || (unsigned char)c >= 0x80) return false;
        name[n++] = (char)tolower((unsigned char)c);
    }
    name[n] = '\0';
    if (t->s == t->end) return false;
    t->s++;
    return true;
}

/* A class escape (\w, \P{L}, ...), t->s behind the backslash. *is false: it is none, and nothing was read. */
static mlxr_status escape_class(translator *t, set *out, bool in_brackets, bool *is, bool *negated)
{
    char c = *t->s, name[64];
    *is = true;
    *negated = c == 'W' || c == 'S' || c == 'D' || c == 'H' || c == 'P';
    switch (c) {
    case 'w':
    case 'W':
        set_add_unicode(out, 0, TOK_U_WORD);
        if (!in_brackets) add_latin_words(out);
        break;
    case 's':
    case 'S': set_add_unicode(out, 0, TOK_U_SPACE); break;
    case 'd':
    case 'D': set_add_unicode(out, BIT(ND), 0); break;
    case 'h':
    case 'H': add_ascii(out, "09AFaf"); break;
    case 'p':
    case 'P':
        if (t->end - t->s < 2 || t->s[1] != '{') {
            *is = false;
            return MLXR_OK;
        }
        t->s += 2;
        if (!read_name(t, name, '}', negated)) return bad(t, MLXR_E_FORMAT, "a property name does not end");
        if (!add_property(out, name, false))
            return mlxr_fail(t->err, MLXR_E_UNSUPPORTED,
                             "tokenizer: %s: pattern: property \"%s\" is not known here", t->what, name);
        return MLXR_OK;
    default: *is = false; return MLXR_OK;
    }
    t->s++;
    return MLXR_OK;
}

/* A bracketed class, t->s behind its '['. *negated: out is what it does not match. */
static mlxr_status bracket(translator *t, set *out, bool *negated)
{
    mlxr_status st = MLXR_OK;
    set all = {0}, inner = {0};
    bool have_all = false, first = true, is, neg, pending = false;
    uint32_t cp = 0, last = 0;

    *negated = false;
    if (++t->depth > TOK_MAX_DEPTH) return bad(t, MLXR_E_LIMIT, "nested too deep");
    if (t->s < t->end && *t->s == '^') {
        *negated = true;
        t->s++;
    }
    for (;; first = false) {
        if (t->s >= t->end) {
            st = bad(t, MLXR_E_FORMAT, "a class has no ]");
            goto done;
        }
        if (*t->s == ']' && !first) {
            t->s++;
            break;
        }
        if (t->end - t->s >= 2 && t->s[0] == '&' && t->s[1] == '&') {
            t->s += 2;
            set_tidy(out);
            if (have_all)
                set_intersect(&all, out);
            else
                set_union(&all, out);
            have_all = true;
            set_clear(out);
            pending = false;
            continue;
        }
        if (t->end - t->s >= 2 && t->s[0] == '[' && t->s[1] == ':') {
            char name[64];
            const char *back = t->s;
            t->s += 2;
            neg = false;
            if (read_name(t, name, ':', &neg) && t->s < t->end && *t->s == ']' &&
                add_property(&inner, name, true)) {
                t->s++;
                if (neg) set_negate(&inner);
                set_union(out, &inner);
                set_clear(&inner);
                pending = false;
                continue;
            }
            set_clear(&inner);
            t->s = back;
        }
        if (*t->s == '[') {
            t->s++;
            if ((st = bracket(t, &inner, &neg)) != MLXR_OK) goto done;
            if (neg) set_negate(&inner);
            set_union(out, &inner);
            set_clear(&inner);
            pending = false;
            continue;
        }
        if (*t->s == '-' && pending && t->end - t->s >= 2 && t->s[1] != ']') { /* a range */
            t->s++;
            if (*t->s == '\\' && t->end - t->s >= 2) {
                t->s++;
                if (!escape_char(t, &cp)) cp = tok_next(&t->s);
            } else if (*t->s == '[') {
                st = bad(t, MLXR_E_UNSUPPORTED, "a class at a range's end");
                goto done;
            } else {
                cp = tok_next(&t->s);
            }
            if (cp < last || cp > 0x10ffff) {
                st = bad(t, MLXR_E_FORMAT, "a range's end is before its start");
                goto done;
            }
            set_add(out, last, cp);
            pending = false;
            continue;
        }
        if (*t->s == '\\') {
            t->s++;
            if (t->s >= t->end) {
                st = bad(t, MLXR_E_FORMAT, "ends in a backslash");
                goto done;
            }
            if ((st = escape_class(t, &inner, true, &is, &neg)) != MLXR_OK) goto done;
            if (is) {
                if (neg) set_negate(&inner);
                set_union(out, &inner);
                set_clear(&inner);
                pending = false;
                continue;
            }
            if (*t->s == 'b') {
                cp = '\b';
                t->s++;
            } else if (!escape_char(t, &cp)) {
                cp = tok_next(&t->s);
            }
        } else {
            cp = tok_next(&t->s);
        }
        if (cp > 0x10ffff) {
            st = bad(t, MLXR_E_FORMAT, "a character above U+10FFFF");
            goto done;
        }
        set_add(out, cp, cp);
        last = cp;
        pending = true;
    }
    set_tidy(out);
    if (have_all) set_intersect(out, &all);
    if (out->failed || all.failed) st = mlxr_fail_nomem(t->err, t->what);
done:
    t->depth--;
    set_clear(&all);
    set_clear(&inner);
    return st;
}

static mlxr_status alternatives(translator *t, bool in_group);

/* (?...) behind its '(' and '?'. *empty: nothing that a quantifier could follow. */
static mlxr_status group(translator *t, bool *empty)
{
    static const char *const plain[] = {":", "=", "!", ">", "<=", "<!"};
    bool extended = t->extended, dot_all = t->dot_all, was_fold = t->fold, on = true, fold = false,
         no_fold = false;
    mlxr_status st;

    for (size_t i = 0; i < MLXR_COUNT(plain); i++) {
        size_t n = strlen(plain[i]);
        if ((size_t)(t->end - t->s) < n || memcmp(t->s, plain[i], n) != 0) continue;
        t->s += n;
        mlxr_buf_printf(t->out, "(?%s", plain[i]);
        if ((st = alternatives(t, true)) != MLXR_OK) return st;
        mlxr_buf_char(t->out, ')');
        goto restore;
    }
    if (t->s < t->end && *t->s == '#') {
        while (t->s < t->end && *t->s != ')') t->s += *t->s == '\\' && t->end - t->s > 1 ? 2 : 1;
        if (t->s == t->end) return bad(t, MLXR_E_FORMAT, "a comment does not end");
        t->s++;
        *empty = true;
        return MLXR_OK;
    }
    if (t->s < t->end && (*t->s == '<' || *t->s == '\'')) {
        char close = *t->s == '<' ? '>' : '\'';
        const char *name = ++t->s;
        while (t->s < t->end && *t->s != close) t->s++;
        if (t->s == t->end) return bad(t, MLXR_E_FORMAT, "a group's name does not end");
        mlxr_buf_str(t->out, "(?<");
        mlxr_buf_append(t->out, name, (size_t)(t->s - name));
        mlxr_buf_char(t->out, '>');
        t->s++;
        if ((st = alternatives(t, true)) != MLXR_OK) return st;
        mlxr_buf_char(t->out, ')');
        goto restore;
    }
    for (; t->s < t->end && *t->s != ':' && *t->s != ')'; t->s++) {
        if (*t->s == '-')
            on = false;
        else if (*t->s == 'i')
            t->fold = fold = on, no_fold = !on;
        else if (*t->s == 'm')
            t->dot_all = on;
        else if (*t->s == 'x')
            t->extended = on;
        else
            return bad(t, MLXR_E_UNSUPPORTED, "a group option that is not known here");
    }
    if (t->s == t->end) return bad(t, MLXR_E_FORMAT, "a group does not end");
    mlxr_buf_str(t->out, fold ? "(?i:" : no_fold ? "(?-i:" : "(?:");
    if (*t->s++ == ':') {
        if ((st = alternatives(t, true)) != MLXR_OK) return st;
    } else { /* an option by itself holds to the end of the group around it, over its alternatives too */
        if ((st = alternatives(t, false)) != MLXR_OK) return st;
        *empty = true;
    }
    mlxr_buf_char(t->out, ')');
restore:
    t->extended = extended;
    t->dot_all = dot_all;
    t->fold = was_fold;
    return MLXR_OK;
}

static void word_boundary(translator *t, bool negated)
{
    static const char *const between[2][5] = {{"(?:(?<=", ")(?!", ")|(?<!", ")(?=", "))"},
                                              {"(?:(?<=", ")(?=", ")|(?<!", ")(?!", "))"}};
    set w = {0};
    set_add_unicode(&w, 0, TOK_U_WORD);
    add_latin_words(&w);
    t->out->failed |= w.failed;
    for (int i = 0; i < 5; i++) {
        mlxr_buf_str(t->out, between[negated][i]);
        if (i < 4) put_plain_set(t, &w, false);
    }
    set_clear(&w);
}

static mlxr_status escape(translator *t)
{
    set s = {0};
    bool is, negated;
    uint32_t cp;
    mlxr_status st;

    if (t->s >= t->end) return bad(t, MLXR_E_FORMAT, "ends in a backslash");
    st = escape_class(t, &s, false, &is, &negated);
    if (st == MLXR_OK && is) put_plain_set(t, &s, negated);
    if (s.failed) st = mlxr_fail_nomem(t->err, t->what);
    set_clear(&s);
    if (st != MLXR_OK || is) return st;
    switch (*t->s) {
    case 'b': word_boundary(t, false); break;
    case 'B': word_boundary(t, true); break;
    case 'A':
    case 'z':
    case 'Z':
    case 'G':
    case 'K':
    case 'X': mlxr_buf_printf(t->out, "\\%c", *t->s); break;
    case 'R': mlxr_buf_str(t->out, "(?>\\x{d}\\x{a}|[\\x{a}-\\x{d}\\x{85}\\x{2028}\\x{2029}])"); break;
    case 'N': mlxr_buf_str(t->out, "[^\\x{a}]"); break;
    case 'O': mlxr_buf_str(t->out, "[\\x{0}-\\x{10ffff}]"); break;
    case 'k': {
        const char *name = t->s + 2, *e = name;
        char close = t->end - t->s > 2 && t->s[1] == '\'' ? '\'' : '>';
        if (t->end - t->s < 3 || (t->s[1] != '<' && t->s[1] != '\'')) {
            put_char(t->out, 'k');
            break;
        }
        while (e < t->end && *e != close) e++;
        if (e == t->end) return bad(t, MLXR_E_FORMAT, "a back reference does not end");
        mlxr_buf_str(t->out, *name == '-' || isdigit((unsigned char)*name) ? "\\g{" : "\\k{");
        mlxr_buf_append(t->out, name, (size_t)(e - name));
        mlxr_buf_char(t->out, '}');
        t->s = e + 1;
        return MLXR_OK;
    }
    case 'g':
        if (t->end - t->s > 1 && (t->s[1] == '<' || t->s[1] == '\''))
            return bad(t, MLXR_E_UNSUPPORTED, "subexpression calls are not supported");
        put_char(t->out, 'g');
        break;
    default:
        if (*t->s >= '1' && *t->s <= '9') {
            unsigned v = 0;
            while (t->s < t->end && isdigit((unsigned char)*t->s) && v < 1000)
                v = v * 10 + (unsigned)(*t->s++ - '0');
            mlxr_buf_printf(t->out, "\\g{%u}", v);
            return MLXR_OK;
        }
        if (!escape_char(t, &cp)) cp = tok_next(&t->s);
        if (cp > 0x10ffff) return bad(t, MLXR_E_FORMAT, "a character above U+10FFFF");
        put_char(t->out, cp);
        return MLXR_OK;
    }
    t->s++;
    return MLXR_OK;
}

/* {n}, {n,}, {,m}, {n,m} at t->s: false if it is none, and then the brace is a plain character. */
static bool interval(translator *t, char text[48], bool *fixed)
{
    const char *p = t->s + 1;
    unsigned long lo = 0, hi = 0;
    bool has_lo = false, has_hi = false, comma = false;

    for (; p < t->end && isdigit((unsigned char)*p) && lo < 100000; has_lo = true)
        lo = lo * 10 + (unsigned long)(*p++ - '0');
    if (p < t->end && *p == ',') {
        comma = true;
        for (p++; p < t->end && isdigit((unsigned char)*p) && hi < 100000; has_hi = true)
            hi = hi * 10 + (unsigned long)(*p++ - '0');
    }
    if (p >= t->end || *p != '}' || (!has_lo && !has_hi)) return false;
    *fixed = !comma;
    if (!comma)
        snprintf(text, 48, "{%lu}", lo);
    else if (has_hi)
        snprintf(text, 48, "{%lu,%lu}", lo < hi ? lo : hi, lo < hi ? hi : lo);
    else
        snprintf(text, 48, "{%lu,}", lo);
    t->s = p + 1;
    return true;
}

static void wrap(mlxr_buf *out, size_t at)
{
    if (!mlxr_buf_reserve(out, 4)) return;
    memmove(out->data + at + 3, out->data + at, out->len - at);
    memcpy(out->data + at, "(?:", 3);
    out->len += 3;
    mlxr_buf_char(out, ')');
}

static void skip_extended(translator *t)
{
    while (t->extended && t->s < t->end && (isspace((unsigned char)*t->s) || *t->s == '#')) {
        if (*t->s != '#') {
            t->s++;
            continue;
        }
        while (t->s < t->end && *t->s != '\n') t->s++;
    }
}

/* One atom and its quantifiers. */
static mlxr_status term(translator *t)
{
    size_t at = t->out->len;
    bool empty = false, quantified = false;
    mlxr_status st = MLXR_OK;
    char c = *t->s;

    switch (c) {
    case '(':
        t->s++;
        if (++t->depth > TOK_MAX_DEPTH) return bad(t, MLXR_E_LIMIT, "nested too deep");
        if (t->s < t->end && *t->s == '?') {
            t->s++;
            st = group(t, &empty);
        } else if (t->s < t->end && *t->s == '*') {
            st = bad(t, MLXR_E_UNSUPPORTED, "callouts are not supported");
        } else {
            bool extended = t->extended, dot_all = t->dot_all, fold = t->fold;
            mlxr_buf_char(t->out, '(');
            st = alternatives(t, true);
            mlxr_buf_char(t->out, ')');
            t->extended = extended;
            t->dot_all = dot_all;
            t->fold = fold;
        }
        t->depth--;
        break;
    case '[': {
        set s = {0};
        bool negated;
        t->s++;
        st = bracket(t, &s, &negated);
        if (st == MLXR_OK && t->fold)
            put_set(t->out, &s, negated);
        else if (st == MLXR_OK)
            put_plain_set(t, &s, negated);
        set_clear(&s);
        break;
    }
    case '\\':
        t->s++;
        st = escape(t);
        break;
    case '.':
        t->s++;
        mlxr_buf_str(t->out, t->dot_all ? "[\\x{0}-\\x{10ffff}]" : "[^\\x{a}]");
        break;
    case '^':
    case '$':
        t->s++;
        mlxr_buf_char(t->out, c);
        break;
    case '*':
    case '+':
    case '?': return bad(t, MLXR_E_FORMAT, "nothing to repeat");
    default: put_char(t->out, tok_next(&t->s)); break;
    }
    while (st == MLXR_OK && !empty) {
        char text[48];
        bool fixed = false;
        skip_extended(t);
        if (t->s >= t->end) break;
        if (*t->s == '*' || *t->s == '+' || *t->s == '?') {
            text[0] = *t->s++;
            text[1] = '\0';
        } else if (*t->s == '{' && interval(t, text, &fixed)) {
            if (quantified) wrap(t->out, at);
            quantified = true;
            mlxr_buf_str(t->out, text);
            if (t->s < t->end && *t->s == '?' && !fixed) {
                mlxr_buf_char(t->out, '?');
                t->s++;
            }
            continue;
        } else {
            break;
        }
        if (quantified || c == '^' || c == '$') wrap(t->out, at);
        quantified = true;
        mlxr_buf_str(t->out, text);
        if (t->s < t->end && (*t->s == '?' || *t->s == '+')) mlxr_buf_char(t->out, *t->s++);
    }
    return st;
}

/* Everything up to the ')' that ends the group, which it takes if in_group, or to the pattern's end. */
static mlxr_status alternatives(translator *t, bool in_group)
{
    mlxr_status st;
    for (;;) {
        skip_extended(t);
        if (t->s >= t->end) return in_group ? bad(t, MLXR_E_FORMAT, "a group has no )") : MLXR_OK;
        if (*t->s == ')') {
            if (in_group) t->s++;
            return MLXR_OK;
        }
        if (*t->s == '|') {
            mlxr_buf_char(t->out, '|');
            t->s++;
            continue;
        }
        if ((st = term(t)) != MLXR_OK) return st;
        if (t->out->len > (size_t)16 << 20) return bad(t, MLXR_E_LIMIT, "too large when translated");
    }
}

mlxr_status tok_regex_translate(mlxr_buf *out, const char *source, size_t n, bool compact, const char *what,
                                mlxr_error *err)
{
    translator t = {.start = source,
                    .s = source,
                    .end = source + n,
                    .what = what,
                    .out = out,
                    .err = err,
                    .compact = compact};
    mlxr_status st;
    if (n > TOK_MAX_REGEX_BYTES) return bad(&t, MLXR_E_LIMIT, "too long");
    st = alternatives(&t, false);
    if (st == MLXR_OK && t.s < t.end) st = bad(&t, MLXR_E_FORMAT, "a ) without its (");
    for (size_t k = 0, at = 0; k < t.n_classes && !t.classes.failed; k++) {
        mlxr_buf_printf(out, "%s(?<mlxr%zu>%s)%s", k ? "" : "(?(DEFINE)", k, t.classes.data + at,
                        k + 1 < t.n_classes ? "" : ")");
        at += strlen(t.classes.data + at) + 1;
    }
    out->failed |= t.classes.failed;
    mlxr_buf_clear(&t.classes);
    if (st == MLXR_OK) st = mlxr_buf_check(out, what, err);
    return st;
}
