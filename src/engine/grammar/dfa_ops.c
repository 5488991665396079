/* Operations on automata over bytes. Union, intersection and difference walk both at once; concatenation and repetition go
 * through a nondeterministic automaton made of their copies. */
#include <stdlib.h>

#include "engine/grammar/lang_build.h"

/* ---- two at once ---- */

typedef enum product_op { OP_UNION, OP_INTERSECT, OP_MINUS } product_op;

/* Classes that neither tells apart: symbols, with the class of each in a and in b. */
typedef struct joint {
    uint16_t symbol_of[256];
    uint8_t class_a[256], class_b[256]; /* [n] */
    uint32_t n;
} joint;

static bool joint_make(joint *j, const mlxr_dfa *a, const mlxr_dfa *b)
{
    size_t n = (size_t)a->n_classes * b->n_classes;
    uint16_t few[1024], *table = few;
    if (n > MLXR_COUNT(few) && !(table = mlxr_malloc_array(n, sizeof *table))) return false;
    memset(table, 0xff, n * sizeof *table);
    j->n = 0;
    for (unsigned byte = 0; byte < 256; byte++) {
        uint16_t *p = &table[(size_t)a->class_of[byte] * b->n_classes + b->class_of[byte]];
        if (*p == LANG_NO_SYMBOL) {
            j->class_a[j->n] = a->class_of[byte];
            j->class_b[j->n] = b->class_of[byte];
            *p = (uint16_t)j->n++;
        }
        j->symbol_of[byte] = *p;
    }
    if (table != few) free(table);
    return true;
}

static bool product_accepts(product_op op, bool a, bool b)
{
    return op == OP_UNION ? a || b : op == OP_INTERSECT ? a && b : a && !b;
}

static mlxr_status product(mlxr_dfa **out, const mlxr_dfa *a, const mlxr_dfa *b, product_op op,
                           const mlxr_lang_limits *limits, mlxr_error *err)
{
    static const char *const names[] = {"union", "intersection", "difference"};
    lang_work w = lang_begin(names[op], limits, err);
    lang_pairs pairs = {0};
    lang_raw r = {0};
    joint j;
    mlxr_status st = MLXR_OK;
    uint32_t s;
    bool is_new;

    *out = NULL;
    /* What needs no walk. References are counted, so sharing is fine. */
    if (a == b || b->n_states == 0 || a->n_states == 0) {
        const mlxr_dfa *same = a == b               ? (op == OP_MINUS ? NULL : a)
                               : op == OP_INTERSECT ? NULL
                               : a->n_states        ? a
                               : op == OP_UNION     ? b
                                                    : NULL;
        if (!same) return mlxr_dfa_empty(out, err);
        *out = mlxr_dfa_ref((mlxr_dfa *)same);
        return MLXR_OK;
    }
    if (!joint_make(&j, a, b)) return lang_nomem(&w);
    r = lang_raw_init(j.n);
    if (lang_pairs_get(&pairs, 0, 0, &is_new) == LANG_NONE) {
        st = lang_nomem(&w);
        goto done;
    }
    if ((st = lang_raw_add(&s, &r, product_accepts(op, a->accepts[0], b->accepts[0]), &w)) != MLXR_OK)
        goto done;
    for (uint32_t i = 0; i < r.n; i++) {
        uint32_t sa = (uint32_t)(pairs.keys[i] >> 32), sb = (uint32_t)pairs.keys[i];
        const uint32_t *row_a = sa == LANG_NONE ? NULL : a->next + (size_t)sa * a->n_classes;
        const uint32_t *row_b = sb == LANG_NONE ? NULL : b->next + (size_t)sb * b->n_classes;
        if ((st = lang_steps(&w, j.n)) != MLXR_OK) goto done;
        for (uint32_t c = 0; c < j.n; c++) {
            uint32_t to_a = row_a ? row_a[j.class_a[c]] : LANG_NONE;
            uint32_t to_b = row_b ? row_b[j.class_b[c]] : LANG_NONE, id;
            if (op == OP_UNION ? to_a == LANG_NONE && to_b == LANG_NONE
                               : to_a == LANG_NONE || (op == OP_INTERSECT && to_b == LANG_NONE))
                continue;
            if ((id = lang_pairs_get(&pairs, to_a, to_b, &is_new)) == LANG_NONE) {
                st = lang_nomem(&w);
                goto done;
            }
            if (is_new) {
                bool acc_a = to_a != LANG_NONE && a->accepts[to_a],
                     acc_b = to_b != LANG_NONE && b->accepts[to_b];
                if ((st = lang_raw_add(&s, &r, product_accepts(op, acc_a, acc_b), &w)) != MLXR_OK) goto done;
            }
            r.next[(size_t)i * j.n + c] = id;
        }
    }
    st = lang_finish(out, &r, 0, j.symbol_of, false, &w);
done:
    lang_pairs_clear(&pairs);
    lang_raw_clear(&r);
    return st;
}

mlxr_status mlxr_dfa_union(mlxr_dfa **out, const mlxr_dfa *a, const mlxr_dfa *b,
                           const mlxr_lang_limits *limits, mlxr_error *err)
{
    return product(out, a, b, OP_UNION, limits, err);
}

mlxr_status mlxr_dfa_intersect(mlxr_dfa **out, const mlxr_dfa *a, const mlxr_dfa *b,
                               const mlxr_lang_limits *limits, mlxr_error *err)
{
    return product(out, a, b, OP_INTERSECT, limits, err);
}

mlxr_status mlxr_dfa_minus(mlxr_dfa **out, const mlxr_dfa *a, const mlxr_dfa *b,
                           const mlxr_lang_limits *limits, mlxr_error *err)
{
    return product(out, a, b, OP_MINUS, limits, err);
}

/* ---- one behind the other ---- */

/* What is copied into an NFA, whose states read or accept, not both: an accepting state becomes two, a split to its edges and
 * to `exit`, where what comes behind begins. */
typedef struct copy {
    const mlxr_dfa *d;
    const uint8_t *class_of_symbol; /* [n_symbols] */
    uint32_t *place;                /* [d->n_states] of a state in its copy */
} copy;

static mlxr_status copy_init(copy *c, const mlxr_dfa *d, const uint8_t *class_of_symbol, lang_work *w)
{
    uint32_t n = 0;
    *c = (copy){d, class_of_symbol, mlxr_malloc_array(d->n_states, sizeof *c->place)};
    if (!c->place) return lang_nomem(w);
    for (uint32_t s = 0; s < d->n_states; s++) {
        c->place[s] = n;
        n += d->accepts[s] ? 2 : 1;
    }
    return MLXR_OK;
}

/* The copy begins at the NFA's state that is added first. */
static mlxr_status copy_add(lang_nfa *n, const copy *c, uint32_t exit, lang_work *w)
{
    mlxr_status st;
    uint32_t base = n->n_states, id;

    for (uint32_t s = 0; s < c->d->n_states; s++) {
        const uint32_t *row = c->d->next + (size_t)s * c->d->n_classes;
        if (c->d->accepts[s] &&
            (st = lang_nfa_add(&id, n, NFA_SPLIT, base + c->place[s] + 1, exit, w)) != MLXR_OK)
            return st;
        if ((st = lang_nfa_add(&id, n, NFA_EDGES, 0, 0, w)) != MLXR_OK) return st;
        for (uint32_t symbol = 0; symbol < n->n_symbols;) {
            uint32_t to = row[c->class_of_symbol[symbol]], last = symbol;
            while (last + 1 < n->n_symbols && row[c->class_of_symbol[last + 1]] == to) last++;
            if (to != MLXR_DFA_NONE && (st = lang_nfa_edge_add(n, (uint16_t)symbol, (uint16_t)last,
                                                               base + c->place[to], w)) != MLXR_OK)
                return st;
            symbol = last + 1;
        }
    }
    return MLXR_OK;
}

mlxr_status mlxr_dfa_concat(mlxr_dfa **out, const mlxr_dfa *a, const mlxr_dfa *b,
                            const mlxr_lang_limits *limits, mlxr_error *err)
{
    lang_work w = lang_begin("concatenation", limits, err);
    lang_nfa n = {0};
    lang_raw r = {0};
    joint j;
    copy copy_a = {0}, copy_b = {0};
    mlxr_status st;
    uint32_t id, start, begin;
    static const uint8_t before = LANG_BEFORE_OTHER;

    *out = NULL;
    if (a->n_states == 0 || b->n_states == 0) return mlxr_dfa_empty(out, err);
    if (!joint_make(&j, a, b)) return lang_nomem(&w);
    n.n_symbols = j.n;
    /* 0: accepts; then b; then a, which leaves to b */
    if ((st = copy_init(&copy_a, a, j.class_a, &w)) != MLXR_OK) goto done;
    if ((st = copy_init(&copy_b, b, j.class_b, &w)) != MLXR_OK) goto done;
    if ((st = lang_nfa_add(&id, &n, NFA_FINAL, 0, 0, &w)) != MLXR_OK) goto done;
    if ((st = copy_add(&n, &copy_b, 0, &w)) != MLXR_OK) goto done;
    begin = n.n_states;
    if ((st = copy_add(&n, &copy_a, 1, &w)) != MLXR_OK) goto done;
    if ((st = lang_determinise(&r, &start, &n, &begin, 1, &before, 1, &w)) != MLXR_OK) goto done;
    st = lang_finish(out, &r, start, j.symbol_of, false, &w);
done:
    free(copy_a.place);
    free(copy_b.place);
    lang_nfa_clear(&n);
    lang_raw_clear(&r);
    return st;
}

mlxr_status mlxr_dfa_repeat(mlxr_dfa **out, const mlxr_dfa *a, size_t min, size_t max,
                            const mlxr_lang_limits *limits, mlxr_error *err)
{
    lang_work w = lang_begin("repetition", limits, err);
    lang_nfa n = {0};
    lang_raw r = {0};
    uint8_t class_of_symbol[256];
    uint16_t symbol_of[256];
    copy one = {0};
    mlxr_status st;
    uint32_t id, start, entry;
    static const uint8_t before = LANG_BEFORE_OTHER;
    bool only_empty;

    *out = NULL;
    if (min > max) return mlxr_dfa_empty(out, err);
    only_empty = a->n_states == 1 && a->accepts[0] && mlxr_dfa_count(a) == 1;
    if (max == 0 || a->n_states == 0 || only_empty) {
        if (max != 0 && a->n_states == 0 && min > 0) return mlxr_dfa_empty(out, err);
        return mlxr_dfa_literal(out, "", 0, err);
    }
    n.n_symbols = a->n_classes;
    for (unsigned c = 0; c < a->n_classes; c++) class_of_symbol[c] = (uint8_t)c;
    for (unsigned b = 0; b < 256; b++) symbol_of[b] = a->class_of[b];
    if ((st = copy_init(&one, a, class_of_symbol, &w)) != MLXR_OK) goto done;
    if ((st = lang_nfa_add(&id, &n, NFA_FINAL, 0, 0, &w)) != MLXR_OK) goto done;
    /* From the back: what comes behind a copy is known when it is made. */
    entry = 0;
    if (max == SIZE_MAX) { /* a loop: entry is a split to the end and to a copy that comes back to it */
        if ((st = lang_nfa_add(&entry, &n, NFA_SPLIT, 0, 0, &w)) != MLXR_OK) goto done;
        n.states[entry].n = n.n_states;
        if ((st = copy_add(&n, &one, entry, &w)) != MLXR_OK) goto done;
    }
    for (size_t i = max == SIZE_MAX ? min : max; i-- > 0;) {
        uint32_t at = n.n_states;
        if ((st = copy_add(&n, &one, entry, &w)) != MLXR_OK) goto done;
        entry = at;
        /* may end here */
        if (i >= min && (st = lang_nfa_add(&entry, &n, NFA_SPLIT, at, 0, &w)) != MLXR_OK) goto done;
    }
    if ((st = lang_determinise(&r, &start, &n, &entry, 1, &before, 1, &w)) != MLXR_OK) goto done;
    st = lang_finish(out, &r, start, symbol_of, false, &w);
done:
    free(one.place);
    lang_nfa_clear(&n);
    lang_raw_clear(&r);
    return st;
}

/* ---- as JSON writes it ---- */

/* Where the escape of an ASCII character leads: its states are made for each state that has such an edge. */
static mlxr_status escape_edge(lang_raw *r, uint32_t via, const char *path, const uint16_t symbol_of[256],
                               uint32_t to, lang_work *w)
{
    mlxr_status st;
    uint32_t at = via, next;
    for (; path[1]; path++) {
        uint32_t *cell = &r->next[(size_t)at * r->n_symbols + symbol_of[(uint8_t)*path]];
        if (*cell == LANG_NONE) {
            if ((st = lang_raw_add(&next, r, false, w)) != MLXR_OK) return st;
            r->next[(size_t)at * r->n_symbols + symbol_of[(uint8_t)*path]] = next;
            at = next;
        } else {
            at = *cell;
        }
    }
    r->next[(size_t)at * r->n_symbols + symbol_of[(uint8_t)*path]] = to;
    return MLXR_OK;
}

static bool is_escaped(unsigned byte)
{
    return byte < 0x20 || byte == '"' || byte == '\\';
}

static void escape_path(char out[6], unsigned byte)
{
    static const char hex[] = "0123456789abcdef", *const from = "\b\f\n\r\t\"\\", *const to = "bfnrt\"\\";
    const char *at = byte ? strchr(from, (int)byte) : NULL;
    if (at) {
        out[0] = to[at - from];
        out[1] = '\0';
    } else {
        memcpy(out, "u00", 3);
        out[3] = hex[byte >> 4];
        out[4] = hex[byte & 15];
        out[5] = '\0';
    }
}

mlxr_status mlxr_dfa_json_string(mlxr_dfa **out, const mlxr_dfa *a, const mlxr_lang_limits *limits,
                                 mlxr_error *err)
{
    static const char escape_bytes[] = "\\\"0123456789abcdefnrtu";
    lang_work w = lang_begin("JSON string", limits, err);
    lang_raw r = {0};
    uint16_t symbol_of[256], plain_symbol[256];
    uint32_t n_symbols = 0, id;
    mlxr_status st = MLXR_OK;
    bool any = false;

    *out = NULL;
    for (unsigned b = 0; b < 256 && !any; b++) {
        if (!is_escaped(b)) continue;
        for (uint32_t s = 0; s < a->n_states && !any; s++)
            any = mlxr_dfa_step(a, s, (uint8_t)b) != MLXR_DFA_NONE;
    }
    if (!any) { /* it is written as it is */
        *out = mlxr_dfa_ref((mlxr_dfa *)a);
        return MLXR_OK;
    }
    /* Classes of a, and bytes that escapes use each for itself. */
    memset(plain_symbol, 0xff, sizeof plain_symbol);
    for (unsigned b = 0; b < 256; b++) {
        uint16_t *p = &plain_symbol[a->class_of[b]];
        if (b && strchr(escape_bytes, (int)b)) {
            symbol_of[b] = (uint16_t)n_symbols++;
        } else if (is_escaped(b)) {
            symbol_of[b] = LANG_NO_SYMBOL;
        } else {
            if (*p == LANG_NO_SYMBOL) *p = (uint16_t)n_symbols++;
            symbol_of[b] = *p;
        }
    }
    r = lang_raw_init(n_symbols);
    for (uint32_t s = 0; s < a->n_states; s++)
        if ((st = lang_raw_add(&id, &r, a->accepts[s], &w)) != MLXR_OK) goto done;
    for (uint32_t s = 0; s < a->n_states; s++) {
        uint32_t via = LANG_NONE;
        for (unsigned b = 0; b < 256; b++) {
            uint32_t to = mlxr_dfa_step(a, s, (uint8_t)b);
            char path[6];
            if (to == MLXR_DFA_NONE) continue;
            if (!is_escaped(b)) {
                r.next[(size_t)s * n_symbols + symbol_of[b]] = to;
                continue;
            }
            if (via == LANG_NONE && (st = lang_raw_add(&via, &r, false, &w)) != MLXR_OK) goto done;
            escape_path(path, b);
            if ((st = escape_edge(&r, via, path, symbol_of, to, &w)) != MLXR_OK) goto done;
        }
        if (via != LANG_NONE) r.next[(size_t)s * n_symbols + symbol_of['\\']] = via;
    }
    st = lang_finish(out, &r, 0, symbol_of, false, &w);
done:
    lang_raw_clear(&r);
    return st;
}
