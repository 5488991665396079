/* What characters are to the reference, its normalization forms, grapheme clusters and the byte alphabet.
 *
 * Forms follow UAX #15, clusters UAX #29 (extended), both with the data of
 * unicode_tables.inc.h. */
#include <stdlib.h>

#define TOK_UNICODE_TABLES
#include "text/tokenizer/tokenizer.h"

uint32_t tok_unicode(uint32_t cp)
{
    if (cp > 0x10ffff) return 0;
    return unicode_records[unicode_stage2[(size_t)unicode_stage1[cp >> 7] << 7 | (cp & 127)]];
}

/* The index of the last of n sorted values that is <= key, SIZE_MAX if none is. */
static size_t find_u32(const uint32_t *a, size_t n, size_t step, uint32_t key)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (a[mid * step] <= key)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo - 1;
}

uint32_t tok_lower(uint32_t cp)
{
    size_t i;
    if (cp < 0x80) return cp >= 'A' && cp <= 'Z' ? cp + 32 : cp;
    if (!(tok_unicode(cp) & TOK_U_LOWERABLE)) return cp;
    i = find_u32(lower_from, MLXR_COUNT(lower_from), 1, cp);
    return lower_to[i];
}

unsigned tok_script(uint32_t cp)
{
    size_t lo = 0, hi = MLXR_COUNT(script_runs);
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (script_runs[mid] >> 8 <= cp)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo ? script_runs[lo - 1] & 0xff : 0;
}

static uint32_t combining_class(uint32_t cp)
{
    size_t i;
    if (!(tok_unicode(cp) & TOK_U_CCC)) return 0;
    i = find_u32(ccc_ranges, MLXR_COUNT(ccc_ranges) / 2, 2, cp);
    return ccc_ranges[2 * i + 1] & 0xff;
}

/* ---- normalization forms ---- */

enum { S_BASE = 0xac00, L_BASE = 0x1100, V_BASE = 0x1161, T_BASE = 0x11a7 };
enum { L_COUNT = 19, V_COUNT = 21, T_COUNT = 28, S_COUNT = L_COUNT * V_COUNT * T_COUNT };

static uint32_t busy_mask(tok_form form)
{
    switch (form) {
    case TOK_NFC: return TOK_U_NFC_BUSY;
    case TOK_NFD: return TOK_U_NFD | TOK_U_CCC;
    case TOK_NFKC: return TOK_U_NFC_BUSY | TOK_U_NFKD;
    default: return TOK_U_NFD | TOK_U_NFKD | TOK_U_CCC;
    }
}

static bool is_busy(tok_form form, uint32_t mask, uint32_t cp)
{
    return (tok_unicode(cp) & mask) || ((form == TOK_NFD || form == TOK_NFKD) && cp - S_BASE < S_COUNT);
}

/* A decomposed character: combining class, its place, and itself, so that sorting numbers puts marks in
 * canonical order and keeps equals in theirs. */
#define CHAR_OF(v)  ((uint32_t)((v)&0x1fffff))
#define CLASS_OF(v) ((uint32_t)((v) >> 53))

typedef struct chars {
    uint64_t *v;
    size_t n, cap;
    bool failed;
} chars;

static void chars_add(chars *c, uint32_t cp)
{
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 64;
        uint64_t *v = mlxr_realloc_array(c->v, cap, sizeof *v);
        if (!v) {
            c->failed = true;
            return;
        }
        c->v = v;
        c->cap = cap;
    }
    c->v[c->n] = (uint64_t)combining_class(cp) << 53 | (uint64_t)(uint32_t)c->n << 21 | cp;
    c->n++;
}

static void decompose(chars *out, tok_form form, uint32_t cp)
{
    uint32_t flags = tok_unicode(cp), at;
    size_t i;

    if (cp - S_BASE < S_COUNT) {
        uint32_t s = cp - S_BASE;
        chars_add(out, L_BASE + s / (V_COUNT * T_COUNT));
        chars_add(out, V_BASE + s % (V_COUNT * T_COUNT) / T_COUNT);
        if (s % T_COUNT) chars_add(out, T_BASE + s % T_COUNT);
        return;
    }
    if ((flags & TOK_U_NFKD) && (form == TOK_NFKC || form == TOK_NFKD)) {
        i = find_u32(nfkd_from, MLXR_COUNT(nfkd_from), 1, cp);
        at = nfkd_at[i];
    } else if (flags & TOK_U_NFD) {
        i = find_u32(nfd_from, MLXR_COUNT(nfd_from), 1, cp);
        at = nfd_at[i];
    } else {
        chars_add(out, cp);
        return;
    }
    for (uint32_t k = 0; k < (at & 31); k++) chars_add(out, decomposition_pool[(at >> 5) + k]);
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void order(chars *c)
{
    size_t i = 0;
    while (i < c->n) {
        size_t e = i;
        while (e < c->n && CLASS_OF(c->v[e])) e++;
        if (e - i > 1) qsort(c->v + i, e - i, sizeof *c->v, compare_u64);
        i = e + 1;
    }
}

/* 0 if a and b do not make one character. */
static uint32_t compose_pair(uint32_t a, uint32_t b)
{
    uint64_t key = (uint64_t)a << 32 | b;
    size_t lo = 0, hi = MLXR_COUNT(compose_from);

    if (a - L_BASE < L_COUNT && b - V_BASE < V_COUNT)
        return S_BASE + ((a - L_BASE) * V_COUNT + (b - V_BASE)) * T_COUNT;
    if (a - S_BASE < S_COUNT && (a - S_BASE) % T_COUNT == 0 && b - (T_BASE + 1) < T_COUNT - 1)
        return a + (b - T_BASE);
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (compose_from[mid] < key)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < MLXR_COUNT(compose_from) && compose_from[lo] == key ? compose_to[lo] : 0;
}

static void compose(chars *c)
{
    size_t n = 0, starter = SIZE_MAX;
    uint32_t last = 0; /* class of the character before, among those kept since the starter */

    for (size_t i = 0; i < c->n; i++) {
        uint32_t cls = CLASS_OF(c->v[i]), cp = CHAR_OF(c->v[i]), made;
        bool adjacent = starter != SIZE_MAX && n == starter + 1;
        if (starter != SIZE_MAX && (adjacent || last < cls) &&
            (made = compose_pair(CHAR_OF(c->v[starter]), cp)) != 0) {
            c->v[starter] = made;
            continue;
        }
        if (cls == 0) starter = n;
        last = cls;
        c->v[n++] = c->v[i];
    }
    c->n = n;
}

bool tok_is_normal(tok_form form, const char *s, size_t n)
{
    const char *end = s + n;
    uint32_t mask = busy_mask(form);

    while (s < end) {
        uint64_t w;
        while (end - s >= 8) {
            memcpy(&w, s, 8);
            if (w & 0x8080808080808080u) break;
            s += 8;
        }
        if (s == end) break;
        if ((unsigned char)*s < 0x80) {
            s++;
            continue;
        }
        if (is_busy(form, mask, tok_next(&s))) return false;
    }
    return true;
}

void tok_normalize_form(mlxr_buf *out, tok_form form, const char *s, size_t n)
{
    const char *end = s + n, *from = s, *before = s;
    uint32_t mask = busy_mask(form);
    bool composes = form == TOK_NFC || form == TOK_NFKC;
    chars c = {0};

    while (s < end) {
        const char *at = s, *stop;
        uint32_t cp = tok_next(&s);
        if (cp < 0x80 || !is_busy(form, mask, cp)) {
            before = at;
            continue;
        }
        /* A busy character: with the one before it, which it may join, up to the next that is not busy. */
        if (!composes || at == from) before = at;
        mlxr_buf_append(out, from, (size_t)(before - from));
        for (stop = s; stop < end;) {
            const char *next = stop;
            if (!is_busy(form, mask, tok_next(&next))) break;
            stop = next;
        }
        c.n = 0;
        while (before < stop) decompose(&c, form, tok_next(&before));
        order(&c);
        if (composes) compose(&c);
        for (size_t i = 0; i < c.n; i++) mlxr_buf_utf8(out, CHAR_OF(c.v[i]));
        s = from = before = stop;
    }
    mlxr_buf_append(out, from, (size_t)(end - from));
    if (c.failed) out->failed = true;
    free(c.v);
}

/* ---- grapheme clusters ---- */

typedef enum hangul { NO_HANGUL, HANGUL_L, HANGUL_V, HANGUL_T, HANGUL_LV, HANGUL_LVT } hangul;

static hangul hangul_of(uint32_t cp)
{
    if (cp < 0x1100) return NO_HANGUL;
    if (cp <= 0x115f || (cp >= 0xa960 && cp <= 0xa97c)) return HANGUL_L;
    if (cp <= 0x11a7 || (cp >= 0xd7b0 && cp <= 0xd7c6)) return HANGUL_V;
    if (cp <= 0x11ff || (cp >= 0xd7cb && cp <= 0xd7fb)) return HANGUL_T;
    if (cp - S_BASE < S_COUNT) return (cp - S_BASE) % T_COUNT ? HANGUL_LVT : HANGUL_LV;
    return NO_HANGUL;
}

static bool hangul_joins(hangul a, hangul b)
{
    switch (a) {
    case HANGUL_L: return b == HANGUL_L || b == HANGUL_V || b == HANGUL_LV || b == HANGUL_LVT;
    case HANGUL_V:
    case HANGUL_LV: return b == HANGUL_V || b == HANGUL_T;
    case HANGUL_T:
    case HANGUL_LVT: return b == HANGUL_T;
    default: return false;
    }
}

size_t tok_grapheme(const char *s, size_t n)
{
    const char *p = s, *end = s + n;
    uint32_t prev = tok_next(&p), flags = tok_unicode(prev);
    bool pict = (flags & TOK_U_GB_PICT) != 0, flag = prev - 0x1f1e6 < 26;
    bool consonant = (flags & TOK_U_GB_CONSONANT) != 0, linked = false; /* GB9c */

    while (p < end) {
        const char *next = p;
        uint32_t cp = tok_next(&next), f = tok_unicode(cp);
        bool joins;
        if (prev == '\r' && cp == '\n') return (size_t)(next - s);
        if ((flags | f) & TOK_U_GB_CONTROL) break;
        joins = (f & TOK_U_GB_EXTEND) || (flags & TOK_U_GB_PREPEND) ||
                hangul_joins(hangul_of(prev), hangul_of(cp));
        if (!joins && pict && prev == 0x200d && (f & TOK_U_GB_PICT)) joins = true;
        if (!joins && consonant && linked && (f & TOK_U_GB_CONSONANT)) joins = true;
        if (!joins && flag && cp - 0x1f1e6 < 26) {
            joins = true;
            flag = false;
        } else {
            flag = !joins && cp - 0x1f1e6 < 26;
        }
        if (!joins) break;
        if (f & TOK_U_GB_CONSONANT) {
            consonant = true;
            linked = false;
        } else if (f & TOK_U_GB_LINKER) {
            linked = true;
        } else if (!(f & TOK_U_GB_EXTEND) || (f & TOK_GC_MASK) == TOK_GC_MC || cp == 0x200c) {
            consonant = false;
        }
        if (f & TOK_U_GB_PICT)
            pict = true;
        else if (!(f & TOK_U_GB_EXTEND) || (f & TOK_GC_MASK) == TOK_GC_MC)
            pict = false;
        prev = cp;
        flags = f;
        p = next;
    }
    return (size_t)(p - s);
}

/* ---- the byte alphabet of GPT-2: printable Latin-1 stands for itself, the rest moves to U+0100 and up ---- */

uint32_t tok_byte_to_char(unsigned char b)
{
    if ((b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae) return b;
    if (b <= 0x20) return 0x100u + b;
    if (b <= 0xa0) return 0x121u + (b - 0x7fu);
    return 0x143; /* 0xad */
}

int tok_char_to_byte(uint32_t cp)
{
    if (cp < 0x100) return tok_byte_to_char((unsigned char)cp) == cp ? (int)cp : -1;
    if (cp <= 0x120) return (int)(cp - 0x100);
    if (cp <= 0x142) return (int)(cp - 0x121 + 0x7f);
    return cp == 0x143 ? 0xad : -1;
}

void tok_bytes_to_chars(mlxr_buf *out, const char *s, size_t n)
{
    char *p = n <= SIZE_MAX / 2 ? mlxr_buf_reserve(out, 2 * n) : NULL;
    char *start = p;
    if (!p) {
        out->failed = true;
        return;
    }
    for (size_t i = 0; i < n; i++) p += mlxr_utf8_encode(p, tok_byte_to_char((unsigned char)s[i]));
    out->len += (size_t)(p - start);
    out->data[out->len] = '\0';
}
