/* The well-known splitting patterns, by hand. Each takes exactly what a backtracking matcher takes for the
 * pattern beside it; the tests hold every one against PCRE2. How an alternative backtracks is said where it
 * matters. */
#include "text/tokenizer/tokenizer.h"

#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define REST        "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define UPPER       "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER       "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(tail) \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" tail "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" tail

static const char *const patterns[TOK_SCAN_COUNT] = {
    [TOK_SCAN_GPT2] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
    [TOK_SCAN_LLAMA3] = CONTRACTION
    "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" REST,
    [TOK_SCAN_QWEN2] = CONTRACTION
    "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" REST,
    [TOK_SCAN_O200K] = CASED(CONTRACTION "?") "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" REST,
    [TOK_SCAN_TEKKEN] = CASED("") "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" REST,
    [TOK_SCAN_DIGITS3] = "\\p{N}{1,3}",
    [TOK_SCAN_CJK] = "[一-龥぀-ゟ゠-ヿ]+",
    [TOK_SCAN_DEEPSEEK] = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|"
                          "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*"
                          "|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
};

const char *tok_scanner_pattern(tok_scanner scanner)
{
    return patterns[scanner];
}

tok_scanner tok_scanner_find(const char *pattern, size_t n)
{
    for (int i = TOK_SCAN_NONE + 1; i < TOK_SCAN_COUNT; i++)
        if (n == strlen(patterns[i]) && memcmp(pattern, patterns[i], n) == 0) return (tok_scanner)i;
    return TOK_SCAN_NONE;
}

/* What a character is to the patterns. */
enum {
    C_L = 1,  /* \p{L} */
    C_N = 2,  /* \p{N} */
    C_M = 4,  /* \p{M} */
    C_PS = 8, /* \p{P} or \p{S} */
    C_S = 16, /* \s */
    C_UP = 32,
    C_LOW = 64, /* the two classes of the cased patterns */
    C_NL = 128  /* \r or \n, which are also \s */
};

static const uint8_t of_category[TOK_GC_MASK + 1] = {
    [TOK_GC_LL] = C_L | C_LOW,
    [TOK_GC_LU] = C_L | C_UP,
    [TOK_GC_LT] = C_L | C_UP,
    [TOK_GC_LM] = C_L | C_UP | C_LOW,
    [TOK_GC_LO] = C_L | C_UP | C_LOW,
    [TOK_GC_MC] = C_M | C_UP | C_LOW,
    [TOK_GC_ME] = C_M | C_UP | C_LOW,
    [TOK_GC_MN] = C_M | C_UP | C_LOW,
    [TOK_GC_ND] = C_N,
    [TOK_GC_NL] = C_N,
    [TOK_GC_NO] = C_N,
    [TOK_GC_PC] = C_PS,
    [TOK_GC_PD] = C_PS,
    [TOK_GC_PE] = C_PS,
    [TOK_GC_PF] = C_PS,
    [TOK_GC_PI] = C_PS,
    [TOK_GC_PO] = C_PS,
    [TOK_GC_PS] = C_PS,
    [TOK_GC_SC] = C_PS,
    [TOK_GC_SK] = C_PS,
    [TOK_GC_SM] = C_PS,
    [TOK_GC_SO] = C_PS,
};

#define U (C_L | C_UP)
#define L (C_L | C_LOW)
#define P C_PS
#define N C_N
#define S C_S
static const uint8_t of_ascii[128] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, S, S | C_NL, S, S, S | C_NL, 0, 0, /* controls */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,        0, 0, 0,        0, 0, /* */
    S, P, P, P, P, P, P, P, P, P, P,        P, P, P,        P, P, /* space ! " # ... */
    N, N, N, N, N, N, N, N, N, N, P,        P, P, P,        P, P, /* digits : ... */
    P, U, U, U, U, U, U, U, U, U, U,        U, U, U,        U, U, /* @ A ... */
    U, U, U, U, U, U, U, U, U, U, U,        P, P, P,        P, P, /* P ... [ */
    P, L, L, L, L, L, L, L, L, L, L,        L, L, L,        L, L, /* ` a ... */
    L, L, L, L, L, L, L, L, L, L, L,        P, P, P,        P, 0, /* p ... { */
};
#undef U
#undef L
#undef P
#undef N
#undef S

static inline unsigned class_next(const char **s)
{
    unsigned char c = (unsigned char)**s;
    uint32_t f;
    if (c < 0x80) {
        *s += 1;
        return of_ascii[c];
    }
    f = tok_unicode(tok_next(s));
    return of_category[f & TOK_GC_MASK] | (f & TOK_U_SPACE ? C_S : 0u);
}

/* The end of the run of characters with any of `mask` from s. */
static inline const char *run_of(const char *s, const char *end, unsigned mask)
{
    while (s < end) {
        const char *p = s;
        if (!(class_next(&p) & mask)) break;
        s = p;
    }
    return s;
}

/* The end of the run of characters with none of `mask`. */
static inline const char *run_not(const char *s, const char *end, unsigned mask)
{
    while (s < end) {
        const char *p = s;
        if (class_next(&p) & mask) break;
        s = p;
    }
    return s;
}

static inline const char *run_newlines(const char *s, const char *end, bool slash)
{
    while (s < end && (*s == '\r' || *s == '\n' || (slash && *s == '/'))) s++;
    return s;
}

/* 's 't 're 've 'm 'll 'd at s (s[0] is the apostrophe): its end, or NULL. U+017F folds to s. */
static const char *contraction(const char *s, const char *end, bool fold)
{
    char a, b;
    if (end - s < 2) return NULL;
    a = s[1];
    if (fold && a >= 'A' && a <= 'Z') a = (char)(a + 32);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return s + 2;
    if (end - s < 3) return NULL;
    b = s[2];
    if (fold && s[1] == '\xc5' && b == '\xbf') return s + 3;
    if (fold && b >= 'A' && b <= 'Z') b = (char)(b + 32);
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? s + 3 : NULL;
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ at white space: up to the last line break of the run; else all but the last
 * character of it, which stays with what follows, unless nothing follows or it is alone. */
static const char *white(const char *s, const char *end, bool newlines)
{
    const char *p = s, *last = s, *break_end = NULL;
    while (p < end) {
        const char *q = p;
        unsigned c = class_next(&q);
        if (!(c & C_S)) break;
        last = p;
        p = q;
        if (c & C_NL) break_end = q;
    }
    if (newlines && break_end) return break_end;
    return p == end || last == s ? p : last;
}

static const char *scan_gpt2(const char *s, const char *end)
{
    const char *p = s, *q;
    unsigned c;
    if (*s == '\'' && (q = contraction(s, end, false)) != NULL) return q;
    c = class_next(&p);
    if (*s == ' ' && p < end) {
        q = p;
        c = class_next(&q);
        if (c & C_S) return white(s, end, false);
        p = q;
    } else if (c & C_S) {
        return white(s, end, false);
    }
    if (c & C_L) return run_of(p, end, C_L);
    if (c & C_N) return run_of(p, end, C_N);
    return run_not(p, end, C_L | C_N | C_S);
}

static inline const char *digits(const char *s, const char *end, int most)
{
    for (int i = 0; i < most && s < end; i++) {
        const char *p = s;
        if (!(class_next(&p) & C_N)) break;
        s = p;
    }
    return s;
}

/* What cl100k and the cased patterns share: \p{N}{1,n}, ` ?[^\s\p{L}\p{N}]+[\r\n]*`, white space. p is behind
 * the first character, which is no letter that was taken before. */
static const char *scan_rest(const char *s, const char *p, const char *end, unsigned c, int n_digits,
                             bool slash)
{
    if (c & C_N) return digits(p, end, n_digits - 1);
    if (*s == ' ' && p < end) {
        const char *q = p;
        if (!(class_next(&q) & (C_S | C_L | C_N)))
            return run_newlines(run_not(q, end, C_L | C_N | C_S), end, slash);
    }
    if (c & C_S) return white(s, end, true);
    return run_newlines(run_not(p, end, C_L | C_N | C_S), end, slash);
}

static inline const char *scan_cl100k(const char *s, const char *end, int n_digits)
{
    const char *p = s, *q;
    unsigned c;
    if (*s == '\'' && (q = contraction(s, end, true)) != NULL) return q;
    c = class_next(&p);
    if (c & C_L) return run_of(p, end, C_L);
    if (!(c & (C_N | C_NL)) && p < end) {
        q = p;
        if (class_next(&q) & C_L) return run_of(q, end, C_L);
    }
    return scan_rest(s, p, end, c, n_digits, false);
}

/* UPPER*LOWER+ from s: the run of UPPER gives back characters until what follows is LOWER. NULL: no match.
 * *upper is the end of the run of UPPER. */
static const char *upper_lower(const char *s, const char *end, const char **upper)
{
    const char *both = NULL;
    while (s < end) {
        const char *p = s;
        unsigned c = class_next(&p);
        if (!(c & C_UP)) {
            *upper = s;
            return c & C_LOW ? run_of(p, end, C_LOW) : both;
        }
        s = p;
        if (c & C_LOW) both = p;
    }
    *upper = s;
    return both;
}

static inline const char *scan_cased(const char *s, const char *end, int n_digits, bool contracts)
{
    const char *p = s, *e = NULL, *upper = s, *upper2 = s;
    unsigned c = class_next(&p);
    bool prefix = !(c & (C_L | C_N | C_NL)); /* the optional first character may be this one */

    if (prefix) e = upper_lower(p, end, &upper);
    if (!e && (c & (C_L | C_M))) e = upper_lower(s, end, &upper2);
    if (!e) { /* the second alternative: no LOWER is in or behind the run of UPPER */
        if (prefix && upper > p)
            e = upper;
        else if (c & C_L)
            e = upper2;
    }
    if (!e) return scan_rest(s, p, end, c, n_digits, true);
    if (contracts && e < end && *e == '\'') {
        const char *q = contraction(e, end, true);
        if (q) e = q;
    }
    return e;
}

/* NULL: nothing matches at s. */
static const char *scan_deepseek(const char *s, const char *end)
{
    const char *p = s, *q;
    unsigned c = class_next(&p);

    if ((unsigned char)*s < 0x80 && (c & C_PS)) {
        for (q = p; q < end && ((*q >= 'A' && *q <= 'Z') || (*q >= 'a' && *q <= 'z'));) q++;
        if (q > p) return q;
    }
    if (c & (C_L | C_M)) return run_of(p, end, C_L | C_M);
    if (!(c & (C_PS | C_NL)) && p < end) {
        q = p;
        if (class_next(&q) & (C_L | C_M)) return run_of(q, end, C_L | C_M);
    }
    if (c & C_PS) return run_newlines(run_of(p, end, C_PS), end, false);
    if (*s == ' ' && p < end) {
        q = p;
        if (class_next(&q) & C_PS) return run_newlines(run_of(q, end, C_PS), end, false);
    }
    return c & C_S ? white(s, end, true) : NULL;
}

static inline bool is_cjk(uint32_t cp)
{
    return (cp >= 0x4e00 && cp <= 0x9fa5) || (cp >= 0x3040 && cp <= 0x30ff);
}

bool tok_scan(tok_scanner scanner, const char *s, size_t n, size_t at, size_t *begin, size_t *end)
{
    const char *p = s + at, *stop = s + n, *e = NULL;

    if (at >= n) return false;
    switch (scanner) {
    case TOK_SCAN_GPT2: e = scan_gpt2(p, stop); break;
    case TOK_SCAN_LLAMA3: e = scan_cl100k(p, stop, 3); break;
    case TOK_SCAN_QWEN2: e = scan_cl100k(p, stop, 1); break;
    case TOK_SCAN_O200K: e = scan_cased(p, stop, 3, true); break;
    case TOK_SCAN_TEKKEN: e = scan_cased(p, stop, 1, false); break;
    case TOK_SCAN_DIGITS3:
        for (; p < stop; p = e) {
            e = p;
            if (class_next(&e) & C_N) break;
        }
        if (p >= stop) return false;
        e = digits(e, stop, 2);
        break;
    case TOK_SCAN_CJK:
        for (; p < stop; p = e) {
            e = p;
            if ((unsigned char)*p < 0xe3)
                e += tok_char_len(p);
            else if (is_cjk(tok_next(&e)))
                break;
        }
        if (p >= stop) return false;
        while (e < stop) {
            const char *q = e;
            if (!is_cjk(tok_next(&q))) break;
            e = q;
        }
        break;
    case TOK_SCAN_DEEPSEEK:
        while (p < stop && (e = scan_deepseek(p, stop)) == NULL) p += tok_char_len(p);
        if (p >= stop) return false;
        break;
    default: return false;
    }
    *begin = (size_t)(p - s);
    *end = (size_t)(e - s);
    return true;
}
