/* Regular expressions: ECMA-262's patterns as they are with the flag u, and what Annex B adds where that is harmless, to automata.
 *
 *   text -> tree -> NFA over symbols (sets of characters) -> deterministic, minimal -> bytes
 *
 * Assertions are exact: see lang_nfa.c. A lookahead is an automaton of its own for all that can follow, which the threads that
 * passed it have to satisfy beside the rest of the pattern. Laziness and captures do not change what is matched. */
#include <stdlib.h>

#include "engine/grammar/lang_chars.h"

enum {
    PROPERTY_STEPS = 100000, /* for a first \p{...}, which takes that long */
    MAX_DEPTH = 200,         /* of groups in groups */
    MAX_PATTERN = 1 << 18,   /* bytes */
    MAX_COUNT = 1000000000,  /* of a quantifier; larger ones end as this one does */
};

typedef enum kind { EMPTY, SET, CONCAT, ALTERNATIVES, REPEAT, ASSERT, LOOK } kind;

typedef struct tree {
    kind kind;
    uint32_t value;     /* SET: the set; ASSERT: the lang_nfa_kind; LOOK: the look */
    uint32_t min, max;  /* REPEAT; max LANG_NONE: no bound */
    struct tree *first; /* CONCAT, ALTERNATIVES, REPEAT, LOOK */
    struct tree *next;  /* of the same parent */
} tree;

typedef struct look {
    tree *body;
    bool negative;
} look;

typedef struct parser {
    const char *start, *at, *end;
    lang_work *w;
    mlxr_arena arena;
    unsigned depth;
    lang_ranges class; /* in hand */
    lang_chars *sets;
    uint32_t n_sets, cap_sets;
    mlxr_strtab set_ids;    /* by their ranges */
    mlxr_strtab properties; /* sets of \p{...} */
    look *looks;
    uint32_t n_looks, cap_looks;
    bool words; /* \b or \B */
} parser;

static mlxr_status bad(const parser *p, const char *at, const char *what)
{
    return mlxr_fail(p->w->err, MLXR_E_FORMAT, "%s: at byte %zu: %s", p->w->what, (size_t)(at - p->start),
                     what);
}

static mlxr_status refuse(const parser *p, const char *at, const char *what)
{
    return mlxr_fail(p->w->err, MLXR_E_UNSUPPORTED, "%s: at byte %zu: %s", p->w->what,
                     (size_t)(at - p->start), what);
}

static mlxr_status new_tree(tree **out, parser *p, kind k)
{
    *out = mlxr_arena_calloc(&p->arena, 1, sizeof **out);
    if (!*out) return lang_nomem(p->w);
    (*out)->kind = k;
    return lang_steps(p->w, 1);
}

/* A new number for a set; the ranges are tidy. */
static mlxr_status keep_set(uint32_t *id, parser *p, const mlxr_char_range *ranges, size_t n)
{
    mlxr_char_range *copy;

    if (p->n_sets == p->cap_sets) {
        uint32_t cap = p->cap_sets ? p->cap_sets * 2 : 32;
        lang_chars *sets = mlxr_realloc_array(p->sets, cap, sizeof *sets);
        if (!sets) return lang_nomem(p->w);
        p->sets = sets;
        p->cap_sets = cap;
    }
    copy = mlxr_arena_calloc(&p->arena, n + 1, sizeof *copy);
    if (!copy) return lang_nomem(p->w);
    if (n) memcpy(copy, ranges, n * sizeof *copy);
    p->sets[p->n_sets] = (lang_chars){copy, (uint32_t)n};
    *id = p->n_sets++;
    return lang_steps(p->w, n);
}

/* The number of a set. */
static mlxr_status set_id(uint32_t *id, parser *p, const mlxr_char_range *ranges, size_t n)
{
    static const mlxr_char_range none = {0};
    size_t known;
    mlxr_status st;

    if (n == 0) ranges = &none;
    known = mlxr_strtab_get(&p->set_ids, (const char *)ranges, n * sizeof *ranges);
    if (known != SIZE_MAX) {
        *id = (uint32_t)known;
        return MLXR_OK;
    }
    if ((st = keep_set(id, p, ranges, n)) != MLXR_OK) return st;
    if (!mlxr_strtab_put(&p->set_ids, (const char *)p->sets[*id].ranges, n * sizeof *ranges, *id, NULL))
        return lang_nomem(p->w);
    return MLXR_OK;
}

static mlxr_status set_tree(tree **out, parser *p, const mlxr_char_range *ranges, size_t n)
{
    mlxr_status st = new_tree(out, p, SET);
    return st != MLXR_OK ? st : set_id(&(*out)->value, p, ranges, n);
}

/* ---- reading ---- */

static bool next_is(const parser *p, const char *text)
{
    size_t n = strlen(text);
    return (size_t)(p->end - p->at) >= n && memcmp(p->at, text, n) == 0;
}

static bool take(parser *p, const char *text)
{
    if (!next_is(p, text)) return false;
    p->at += strlen(text);
    return true;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool read_hex(parser *p, unsigned n_digits, uint32_t *value)
{
    uint32_t v = 0;
    if ((size_t)(p->end - p->at) < n_digits) return false;
    for (unsigned i = 0; i < n_digits; i++) {
        int d = hex_value(p->at[i]);
        if (d < 0) return false;
        v = v * 16 + (uint32_t)d;
    }
    p->at += n_digits;
    *value = v;
    return true;
}

/* Behind "\u". */
static mlxr_status read_unicode(parser *p, const char *at, uint32_t *cp)
{
    uint32_t low;
    if (take(p, "{")) {
        uint32_t v = 0;
        const char *first = p->at;
        for (; p->at < p->end && hex_value(*p->at) >= 0; p->at++) {
            v = v * 16 + (uint32_t)hex_value(*p->at);
            if (v > 0x10ffff) return bad(p, at, "\\u{...} is beyond U+10FFFF");
        }
        if (p->at == first || !take(p, "}")) return bad(p, at, "\\u{ must be followed by hex digits and }");
        *cp = v;
        return MLXR_OK;
    }
    if (!read_hex(p, 4, cp)) return bad(p, at, "\\u must be followed by four hex digits or {...}");
    if (*cp >= 0xd800 && *cp < 0xdc00 && next_is(p, "\\u")) {
        const char *back = p->at;
        p->at += 2;
        if (read_hex(p, 4, &low) && low >= 0xdc00 && low < 0xe000)
            *cp = 0x10000 + ((*cp - 0xd800) << 10) + (low - 0xdc00);
        else
            p->at = back;
    }
    return MLXR_OK;
}

/* Adds a property to p->class. Every character is asked for its category, so the answer is kept for the next time: the sets
 * of properties are numbered like the others, by "p" or "P" and the name. */
static mlxr_status add_property(parser *p, const char *name, const char *close, bool negated)
{
    size_t n_name = (size_t)(close - name), known;
    const char *key = name - 2; /* the letter, '{', the name */
    lang_ranges ranges = {0};
    mlxr_status st = MLXR_OK;
    uint32_t id;

    known = mlxr_strtab_get(&p->properties, key, n_name + 2);
    if (known == SIZE_MAX) {
        if ((st = lang_steps(p->w, PROPERTY_STEPS)) != MLXR_OK) return st;
        if ((st = lang_ranges_add_property(&ranges, name, n_name, negated, p->w)) != MLXR_OK) return st;
        ranges.n = lang_ranges_tidy(ranges.v, ranges.n);
        if (ranges.failed || !mlxr_strtab_put(&p->properties, key, n_name + 2, p->n_sets, NULL))
            st = lang_nomem(p->w);
        else
            st = keep_set(&id, p, ranges.v, ranges.n);
        lang_ranges_clear(&ranges);
        if (st != MLXR_OK) return st;
        known = id;
    }
    for (uint32_t i = 0; i < p->sets[known].n; i++)
        lang_ranges_add(&p->class, p->sets[known].ranges[i].first, p->sets[known].ranges[i].last);
    return lang_steps(p->w, p->sets[known].n);
}

/* An escape behind its backslash, inside a class or outside: one character (*cp), or a set that is added to p->class (*cp LANG_NONE).
 * Escapes that differ (\b, \B, \k, \1) have been dealt with. */
static mlxr_status read_escape(parser *p, const char *at, uint32_t *cp)
{
    char c = *p->at;

    *cp = LANG_NONE;
    switch (c) {
    case 't': *cp = '\t'; break;
    case 'n': *cp = '\n'; break;
    case 'v': *cp = '\v'; break;
    case 'f': *cp = '\f'; break;
    case 'r': *cp = '\r'; break;
    case '0':
        if (p->at + 1 < p->end && is_digit(p->at[1])) return bad(p, at, "\\0 before a digit");
        *cp = 0;
        break;
    case 'c':
        if (p->at + 1 == p->end || !is_letter(p->at[1]))
            return bad(p, at, "\\c must be followed by a letter");
        p->at++;
        *cp = (uint32_t)*p->at & 31;
        break;
    case 'x':
        p->at++;
        if (!read_hex(p, 2, cp)) return bad(p, at, "\\x must be followed by two hex digits");
        return MLXR_OK;
    case 'u': p->at++; return read_unicode(p, at, cp);
    case 'd':
    case 'D':
    case 's':
    case 'S':
    case 'w':
    case 'W': lang_ranges_add_class(&p->class, c); break;
    case 'p':
    case 'P': {
        const char *name, *close;
        mlxr_status st;
        p->at++;
        if (!take(p, "{")) return bad(p, at, "\\p must be followed by {...}");
        name = p->at;
        close = memchr(name, '}', (size_t)(p->end - name));
        if (!close || close == name) return bad(p, at, "\\p{ without a name and }");
        p->at = close + 1;
        if ((st = add_property(p, name, close, c == 'P')) != MLXR_OK) return st;
        return p->class.failed ? lang_nomem(p->w) : MLXR_OK;
    }
    default: {
        size_t n;
        if (is_letter(c) || is_digit(c)) return bad(p, at, "this escape is not known");
        n = mlxr_utf8_decode(p->at, (size_t)(p->end - p->at), cp);
        p->at += n ? n - 1 : 0;
        break;
    }
    }
    p->at++;
    return p->class.failed ? lang_nomem(p->w) : MLXR_OK;
}

static mlxr_status read_class_atom(parser *p, uint32_t *cp)
{
    const char *at = p->at;
    if (take(p, "\\")) {
        if (p->at == p->end) return bad(p, at, "\\ at the end");
        if (take(p, "b")) {
            *cp = '\b';
            return MLXR_OK;
        }
        return read_escape(p, at, cp);
    }
    p->at += mlxr_utf8_decode(p->at, (size_t)(p->end - p->at), cp);
    return MLXR_OK;
}

/* Behind "[". */
static mlxr_status read_class(tree **out, parser *p)
{
    const char *open = p->at - 1;
    bool negated = take(p, "^");
    mlxr_status st;

    p->class.n = 0;
    for (;;) {
        uint32_t first, last;
        const char *at = p->at;
        if (p->at == p->end) return bad(p, open, "[ without ]");
        if (take(p, "]")) break;
        if ((st = read_class_atom(p, &first)) != MLXR_OK) return st;
        if ((st = lang_steps(p->w, 1)) != MLXR_OK) return st;
        if (first == LANG_NONE) continue;
        last = first;
        if (next_is(p, "-") && p->at + 1 < p->end && p->at[1] != ']') {
            p->at++;
            if ((st = read_class_atom(p, &last)) != MLXR_OK) return st;
            if (last == LANG_NONE) { /* no range: the '-' is itself */
                lang_ranges_add(&p->class, '-', '-');
                last = first;
            }
            if (first > last) return bad(p, at, "the range's ends are in the wrong order");
        }
        lang_ranges_add(&p->class, first, last);
    }
    if (negated)
        lang_ranges_not(&p->class);
    else
        p->class.n = lang_ranges_tidy(p->class.v, p->class.n);
    if (p->class.failed) return lang_nomem(p->w);
    if ((st = lang_steps(p->w, p->class.n)) != MLXR_OK) return st;
    return set_tree(out, p, p->class.v, p->class.n);
}

static const char *read_count(const char *s, const char *end, uint32_t *count)
{
    uint64_t v = 0;
    if (s == end || !is_digit(*s)) return NULL;
    for (; s < end && is_digit(*s); s++) {
        v = v * 10 + (uint64_t)(*s - '0');
        if (v > MAX_COUNT) v = MAX_COUNT;
    }
    *count = (uint32_t)v;
    return s;
}

/* A quantifier at p->at: moves behind it; false when there is none. */
static bool read_quantifier(parser *p, uint32_t *min, uint32_t *max)
{
    const char *s = p->at;
    if (s == p->end) return false;
    *min = *s == '+';
    *max = *s == '?' ? 1 : LANG_NONE;
    if (*s == '{') {
        if (!(s = read_count(s + 1, p->end, min)) || s == p->end) return false;
        *max = *min;
        if (*s == ',') {
            s++;
            *max = LANG_NONE;
            if (s < p->end && is_digit(*s)) s = read_count(s, p->end, max);
        }
        if (s == p->end || *s != '}') return false;
    } else if (*s != '*' && *s != '+' && *s != '?') {
        return false;
    }
    p->at = s + 1;
    take(p, "?");
    return true;
}

static mlxr_status read_alternatives(tree **out, parser *p);

/* Behind "(" with what follows it read. */
static mlxr_status read_group_end(tree **out, parser *p, const char *open)
{
    mlxr_status st;
    if (++p->depth > MAX_DEPTH)
        return mlxr_fail(p->w->err, MLXR_E_LIMIT, "%s: at byte %zu: more than %d groups in each other",
                         p->w->what, (size_t)(open - p->start), MAX_DEPTH);
    if ((st = read_alternatives(out, p)) != MLXR_OK) return st;
    p->depth--;
    if (!take(p, ")")) return bad(p, open, "( without )");
    return MLXR_OK;
}

static mlxr_status read_look(tree **out, parser *p, const char *open, bool negative)
{
    tree *t, *body;
    mlxr_status st;
    if ((st = new_tree(&t, p, LOOK)) != MLXR_OK) return st;
    if ((st = read_group_end(&body, p, open)) != MLXR_OK) return st;
    if (p->n_looks == p->cap_looks) {
        uint32_t cap = p->cap_looks ? p->cap_looks * 2 : 8;
        look *looks = mlxr_realloc_array(p->looks, cap, sizeof *looks);
        if (!looks) return lang_nomem(p->w);
        p->looks = looks;
        p->cap_looks = cap;
    }
    p->looks[p->n_looks] = (look){body, negative}; /* those inside it come before it */
    t->value = p->n_looks++;
    *out = t;
    return MLXR_OK;
}

/* Behind "(". *quantifiable: a quantifier may follow. */
static mlxr_status read_group(tree **out, parser *p, bool *quantifiable)
{
    const char *open = p->at - 1;
    *quantifiable = true;
    if (take(p, "?=") || take(p, "?!")) {
        *quantifiable = false;
        return read_look(out, p, open, p->at[-1] == '!');
    }
    if (next_is(p, "?<=") || next_is(p, "?<!"))
        return refuse(p, open, "lookbehind ((?<= or (?<!) is not supported");
    if (take(p, "?<")) { /* (?<name> */
        const char *name = p->at;
        while (p->at < p->end && (is_letter(*p->at) || *p->at == '_' || *p->at == '$' ||
                                  (uint8_t)*p->at >= 0x80 || (p->at > name && is_digit(*p->at))))
            p->at++;
        if (p->at == name || !take(p, ">")) return bad(p, open, "(?< must be followed by a name and >");
    } else if (next_is(p, "?") && !take(p, "?:")) {
        char c = p->at + 1 < p->end ? p->at[1] : '\0';
        if (c == 'i' || c == 'm' || c == 's' || c == '-')
            return refuse(p, open, "flags inside a pattern ((?i and the like) are not supported");
        return bad(p, open, "(? must be followed by one of : = ! <");
    }
    return read_group_end(out, p, open);
}

static mlxr_status read_assertion(tree **out, parser *p, lang_nfa_kind k, bool *quantifiable)
{
    mlxr_status st = new_tree(out, p, ASSERT);
    *quantifiable = false;
    if (st != MLXR_OK) return st;
    (*out)->value = k;
    if (k == NFA_ASSERT_WORD || k == NFA_ASSERT_NO_WORD) p->words = true;
    return MLXR_OK;
}

static mlxr_status read_atom(tree **out, parser *p, bool *quantifiable)
{
    const char *at = p->at;
    mlxr_char_range one;
    uint32_t cp, min, max;

    *quantifiable = true;
    switch (*p->at) {
    case '^': p->at++; return read_assertion(out, p, NFA_ASSERT_BEGIN, quantifiable);
    case '$': p->at++; return read_assertion(out, p, NFA_ASSERT_END, quantifiable);
    case '(': p->at++; return read_group(out, p, quantifiable);
    case '[': p->at++; return read_class(out, p);
    case '.':
        p->at++;
        p->class.n = 0;
        lang_ranges_add_dot(&p->class);
        return p->class.failed ? lang_nomem(p->w) : set_tree(out, p, p->class.v, p->class.n);
    case '*':
    case '+':
    case '?': return bad(p, at, "a quantifier with nothing to repeat");
    case '{':
        if (read_quantifier(p, &min, &max)) return bad(p, at, "a quantifier with nothing to repeat");
        break;
    case '\\':
        p->at++;
        if (p->at == p->end) return bad(p, at, "\\ at the end");
        if (take(p, "b")) return read_assertion(out, p, NFA_ASSERT_WORD, quantifiable);
        if (take(p, "B")) return read_assertion(out, p, NFA_ASSERT_NO_WORD, quantifiable);
        if (*p->at == 'k' || (*p->at >= '1' && *p->at <= '9'))
            return refuse(p, at,
                          "back references (\\1, \\k<name>) are not supported: no regular language has them");
        p->class.n = 0;
        {
            mlxr_status st = read_escape(p, at, &cp);
            if (st != MLXR_OK) return st;
        }
        if (cp == LANG_NONE) {
            p->class.n = lang_ranges_tidy(p->class.v, p->class.n);
            return set_tree(out, p, p->class.v, p->class.n);
        }
        one = (mlxr_char_range){cp, cp};
        return set_tree(out, p, &one, 1);
    default: break;
    }
    p->at += mlxr_utf8_decode(p->at, (size_t)(p->end - p->at), &cp);
    one = (mlxr_char_range){cp, cp};
    return set_tree(out, p, &one, 1);
}

static mlxr_status read_sequence(tree **out, parser *p)
{
    tree *list, **link, *t;
    mlxr_status st;

    if ((st = new_tree(&list, p, CONCAT)) != MLXR_OK) return st;
    link = &list->first;
    while (p->at < p->end && *p->at != '|' && *p->at != ')') {
        uint32_t min, max;
        const char *at;
        bool quantifiable;
        if ((st = read_atom(&t, p, &quantifiable)) != MLXR_OK) return st;
        at = p->at;
        if (read_quantifier(p, &min, &max)) {
            tree *r;
            if (!quantifiable) return bad(p, at, "a quantifier behind an assertion");
            if (min > max) return bad(p, at, "the quantifier's numbers are in the wrong order");
            if ((st = new_tree(&r, p, REPEAT)) != MLXR_OK) return st;
            r->first = t;
            r->min = min;
            r->max = max;
            t = r;
        }
        *link = t;
        link = &t->next;
    }
    *out = !list->first ? list : list->first->next ? list : list->first;
    if (*out == list && !list->first) list->kind = EMPTY;
    return MLXR_OK;
}

static mlxr_status read_alternatives(tree **out, parser *p)
{
    tree *list, **link, *t = NULL;
    mlxr_status st;

    if ((st = new_tree(&list, p, ALTERNATIVES)) != MLXR_OK) return st;
    link = &list->first;
    do {
        if ((st = read_sequence(&t, p)) != MLXR_OK) return st;
        *link = t;
        link = &t->next;
    } while (take(p, "|"));
    *out = list->first->next ? list : list->first;
    return MLXR_OK;
}

/* ---- to an NFA. Depth is bounded by that of groups ---- */

static mlxr_status compile(uint32_t *entry, const tree *t, uint32_t next, lang_nfa *n, lang_work *w);

static mlxr_status compile_repeat(uint32_t *entry, const tree *t, uint32_t next, lang_nfa *n, lang_work *w)
{
    uint32_t at = next, copies = t->max == LANG_NONE ? t->min : t->max, body, before;
    mlxr_status st;

    if (t->max == LANG_NONE) { /* a loop, whose body is the last of the copies that must be */
        uint32_t loop;
        if ((st = lang_nfa_add(&loop, n, NFA_SPLIT, next, next, w)) != MLXR_OK) return st;
        if ((st = compile(&body, t->first, loop, n, w)) != MLXR_OK) return st;
        n->states[loop].first = body;
        at = t->min ? body : loop;
        copies = t->min ? t->min - 1 : 0;
    }
    for (uint32_t i = copies; i-- > 0;) {
        bool optional = t->max != LANG_NONE && i >= t->min;
        before = n->n_states;
        if ((st = compile(&body, t->first, at, n, w)) != MLXR_OK) return st;
        if (n->n_states == before) break; /* reads nothing: once is as often as any */
        at = body;
        if (optional && (st = lang_nfa_add(&at, n, NFA_SPLIT, body, next, w)) != MLXR_OK) return st;
    }
    *entry = at;
    return MLXR_OK;
}

static mlxr_status compile_sequence(uint32_t *entry, const tree *t, uint32_t next, lang_nfa *n, lang_work *w)
{
    /* From the back: the list is turned for the while. */
    const tree *few[32], **items = few;
    size_t n_items = 0, i = 0;
    mlxr_status st = MLXR_OK;

    for (const tree *c = t->first; c; c = c->next) n_items++;
    if (n_items > MLXR_COUNT(few) && !(items = mlxr_malloc_array(n_items, sizeof(const tree *))))
        return lang_nomem(w);
    for (const tree *c = t->first; c; c = c->next) items[i++] = c;
    while (i-- > 0 && st == MLXR_OK) st = compile(&next, items[i], next, n, w);
    if (items != few) free(items);
    *entry = next;
    return st;
}

static mlxr_status compile(uint32_t *entry, const tree *t, uint32_t next, lang_nfa *n, lang_work *w)
{
    mlxr_status st;
    uint32_t rest = LANG_NONE, one;

    switch (t->kind) {
    case EMPTY: *entry = next; return MLXR_OK;
    case SET: return lang_nfa_add(entry, n, NFA_LABEL, t->value, next, w);
    case ASSERT: return lang_nfa_add(entry, n, (lang_nfa_kind)t->value, 0, next, w);
    case LOOK: return lang_nfa_add(entry, n, NFA_LOOK, t->value, next, w);
    case REPEAT: return compile_repeat(entry, t, next, n, w);
    case CONCAT: return compile_sequence(entry, t, next, n, w);
    case ALTERNATIVES:
        for (const tree *c = t->first; c; c = c->next) {
            if ((st = compile(&one, c, next, n, w)) != MLXR_OK) return st;
            if (rest == LANG_NONE)
                rest = one;
            else if ((st = lang_nfa_add(&rest, n, NFA_SPLIT, rest, one, w)) != MLXR_OK)
                return st;
        }
        *entry = rest;
        return MLXR_OK;
    }
    return MLXR_OK;
}

/* Every match begins where the text does: there is no need to look for it further on. */
static bool begins_text(const tree *t)
{
    switch (t->kind) {
    case ASSERT: return t->value == NFA_ASSERT_BEGIN;
    case REPEAT: return t->min > 0 && begins_text(t->first);
    case CONCAT:
        for (const tree *c = t->first; c; c = c->next) {
            if (begins_text(c)) return true;
            if (c->kind != ASSERT && c->kind != LOOK) return false;
        }
        return false;
    case ALTERNATIVES:
        for (const tree *c = t->first; c; c = c->next)
            if (!begins_text(c)) return false;
        return true;
    default: return false;
    }
}

/* What follows a place begins with a match of the body. */
static mlxr_status make_look(lang_look *out, const look *l, const lang_nfa *like, lang_work *w)
{
    static const uint8_t before[] = {LANG_BEFORE_NOTHING, LANG_BEFORE_WORD, LANG_BEFORE_OTHER};
    lang_nfa n = *like; /* its symbols, labels, and the looks before this one */
    mlxr_status st;
    uint32_t end, begin;

    n.states = NULL;
    n.edges = NULL;
    n.n_states = n.cap_states = n.n_edges = n.cap_edges = 0;
    *out = (lang_look){.always = LANG_NONE, .negative = l->negative};
    if ((st = lang_nfa_add(&end, &n, NFA_ANY_END, 0, 0, w)) != MLXR_OK) goto done;
    if ((st = compile(&begin, l->body, end, &n, w)) != MLXR_OK) goto done;
    if ((st = lang_determinise(&out->dfa, out->starts, &n, &begin, 1, before, 3, w)) != MLXR_OK) goto done;
    if ((st = lang_minimise(&out->dfa, out->starts, 3, w)) != MLXR_OK) goto done;
    for (uint32_t s = 0; s < out->dfa.n && out->always == LANG_NONE; s++) {
        bool always = out->dfa.accepts[s];
        for (uint32_t c = 0; c < out->dfa.n_symbols && always; c++)
            always = out->dfa.next[(size_t)s * out->dfa.n_symbols + c] == s;
        if (always) out->always = s;
    }
done:
    lang_nfa_clear(&n);
    return st;
}

static mlxr_status build(mlxr_dfa **out, parser *p, const tree *t, bool whole)
{
    static const uint8_t before = LANG_BEFORE_NOTHING;
    lang_nfa n = {0};
    lang_raw r = {0};
    lang_alphabet alphabet = {0};
    lang_look *looks = NULL;
    uint8_t *is_word = NULL;
    uint32_t all, word = 0, end, entry, start, n_looks = 0;
    static const mlxr_char_range every = {0, 0x10ffff};
    mlxr_status st;

    if ((st = set_id(&all, p, &every, 1)) != MLXR_OK) return st;
    if (p->words) {
        p->class.n = 0;
        lang_ranges_add_class(&p->class, 'w');
        if (p->class.failed) return lang_nomem(p->w);
        if ((st = set_id(&word, p, p->class.v, p->class.n)) != MLXR_OK) return st;
    }
    if ((st = lang_alphabet_make(&alphabet, &p->arena, p->sets, p->n_sets, p->w)) != MLXR_OK) return st;
    if (p->words) {
        if (!(is_word = mlxr_arena_calloc(&p->arena, alphabet.n_symbols, 1))) return lang_nomem(p->w);
        for (uint32_t i = 0; i < alphabet.labels[word].n; i++)
            for (uint32_t c = alphabet.labels[word].runs[i].first; c <= alphabet.labels[word].runs[i].last;
                 c++)
                is_word[c] = 1;
    }
    if (!(looks = mlxr_arena_calloc(&p->arena, p->n_looks + 1, sizeof *looks))) return lang_nomem(p->w);
    n = (lang_nfa){
        .n_symbols = alphabet.n_symbols, .is_word = is_word, .labels = alphabet.labels, .looks = looks};
    for (; n_looks < p->n_looks; n_looks++) {
        n.n_looks = n_looks;
        if ((st = make_look(&looks[n_looks], &p->looks[n_looks], &n, p->w)) != MLXR_OK) {
            n_looks++;
            goto done;
        }
    }
    n.n_looks = n_looks;
    if ((st = lang_nfa_add(&end, &n, whole ? NFA_FINAL : NFA_ANY_END, 0, 0, p->w)) != MLXR_OK) goto done;
    if ((st = compile(&entry, t, end, &n, p->w)) != MLXR_OK) goto done;
    if (!whole && !begins_text(t)) { /* may begin further on */
        uint32_t skip, body = entry;
        if ((st = lang_nfa_add(&skip, &n, NFA_LABEL, all, n.n_states + 1, p->w)) != MLXR_OK) goto done;
        if ((st = lang_nfa_add(&entry, &n, NFA_SPLIT, body, skip, p->w)) != MLXR_OK) goto done;
    }
    if ((st = lang_determinise(&r, &start, &n, &entry, 1, &before, 1, p->w)) != MLXR_OK) goto done;
    if ((st = lang_minimise(&r, &start, 1, p->w)) != MLXR_OK) goto done;
    st = lang_utf8_finish(out, &r, start, &alphabet, p->w);
done:
    for (uint32_t i = 0; i < n_looks; i++) lang_raw_clear(&looks[i].dfa);
    lang_nfa_clear(&n);
    lang_raw_clear(&r);
    return st;
}

mlxr_status mlxr_dfa_regex(mlxr_dfa **out, const char *pattern, size_t n, bool whole,
                           const mlxr_lang_limits *limits, mlxr_error *err)
{
    lang_work w = lang_begin("regex", limits, err);
    parser p = {.start = pattern, .at = pattern, .end = pattern + n, .w = &w};
    mlxr_status st;
    tree *t = NULL;

    *out = NULL;
    if (n > MAX_PATTERN)
        return mlxr_fail(err, MLXR_E_LIMIT, "regex: a pattern of %zu bytes, more than %d", n, MAX_PATTERN);
    if (mlxr_utf8_valid(pattern, n) != n) return bad(&p, pattern + mlxr_utf8_valid(pattern, n), "no UTF-8");
    if ((st = read_alternatives(&t, &p)) != MLXR_OK) goto done;
    if (p.at < p.end) {
        st = bad(&p, p.at, ") without (");
        goto done;
    }
    st = build(out, &p, t, whole);
done:
    lang_ranges_clear(&p.class);
    mlxr_strtab_clear(&p.set_ids);
    mlxr_strtab_clear(&p.properties);
    free(p.sets);
    free(p.looks);
    mlxr_arena_clear(&p.arena);
    return st;
}
