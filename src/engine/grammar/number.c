/* The languages of sets of decimal numbers as texts (their plain form and order: number_plain.c). No number is ever rounded: bounds
 * are compared digit by digit, multiples by remainders.
 *
 * A set's language is the intersection of small automata over plain numbers, -?int(.frac)?, one for each condition. */
#include <stdlib.h>

#include "engine/grammar/lang_build.h"

/* A plain number in parts. */
typedef struct decimal {
    bool negative;
    const char *whole, *frac;
    size_t n_whole, n_frac;
} decimal;

static decimal decimal_of(const char *plain)
{
    decimal d = {0};
    const char *point;
    if (*plain == '-') {
        d.negative = true;
        plain++;
    }
    point = strchr(plain, '.');
    d.whole = plain;
    d.n_whole = point ? (size_t)(point - plain) : strlen(plain);
    d.frac = point ? point + 1 : "";
    d.n_frac = strlen(d.frac);
    return d;
}

static bool is_zero(const decimal *d)
{
    return d->n_whole == 1 && d->whole[0] == '0' && d->n_frac == 0;
}

/* ---- automata ---- */

enum { SYM_MINUS = 10, SYM_POINT = 11, N_SYMBOLS = 12 };

static void number_symbols(uint16_t symbol_of[256])
{
    memset(symbol_of, 0xff, 256 * sizeof *symbol_of);
    for (unsigned i = 0; i < 10; i++) symbol_of['0' + i] = (uint16_t)i;
    symbol_of['-'] = SYM_MINUS;
    symbol_of['.'] = SYM_POINT;
}

static uint32_t *edge(lang_raw *r, uint32_t from, unsigned symbol)
{
    return &r->next[(size_t)from * N_SYMBOLS + symbol];
}

static void digits(lang_raw *r, uint32_t from, unsigned first, unsigned last, uint32_t to)
{
    for (unsigned i = first; i <= last; i++) *edge(r, from, i) = to;
}

static mlxr_status finish(mlxr_dfa **out, lang_raw *r, uint32_t start, lang_work *w)
{
    uint16_t symbol_of[256];
    number_symbols(symbol_of);
    return lang_finish(out, r, start, symbol_of, false, w);
}

/* Plain numbers, where zeros may stand at the end of a fraction; -0 and -0.00 are left out. */
static mlxr_status plain_numbers(mlxr_dfa **out, bool whole, bool frac, lang_work *w)
{
    lang_raw r = lang_raw_init(N_SYMBOLS);
    mlxr_status st;
    uint32_t s[10];
    enum { START, MINUS, ZERO, INT, POINT, FRAC_ZEROS, FRAC, NEG_ZERO, NEG_POINT, COUNT };
    /* whole numbers with a point are let in where both kinds are */
    bool point = frac, accepts_whole = whole;

    for (int i = 0; i < COUNT; i++) {
        bool acc = i == ZERO || i == INT ? accepts_whole
                   : i == FRAC_ZEROS     ? whole && frac
                   : i == FRAC           ? frac
                                         : false;
        if ((st = lang_raw_add(&s[i], &r, acc, w)) != MLXR_OK) goto done;
    }
    *edge(&r, s[START], SYM_MINUS) = s[MINUS];
    digits(&r, s[START], 0, 0, s[ZERO]);
    digits(&r, s[START], 1, 9, s[INT]);
    digits(&r, s[MINUS], 0, 0, s[NEG_ZERO]);
    digits(&r, s[MINUS], 1, 9, s[INT]);
    digits(&r, s[INT], 0, 9, s[INT]);
    if (point) {
        *edge(&r, s[ZERO], SYM_POINT) = s[POINT];
        *edge(&r, s[INT], SYM_POINT) = s[POINT];
        *edge(&r, s[NEG_ZERO], SYM_POINT) = s[NEG_POINT];
        digits(&r, s[POINT], 0, 0, s[FRAC_ZEROS]);
        digits(&r, s[POINT], 1, 9, s[FRAC]);
        digits(&r, s[FRAC_ZEROS], 0, 0, s[FRAC_ZEROS]);
        digits(&r, s[FRAC_ZEROS], 1, 9, s[FRAC]);
        digits(&r, s[FRAC], 0, 9, s[FRAC]);
        digits(&r, s[NEG_POINT], 0, 0, s[NEG_POINT]);
        digits(&r, s[NEG_POINT], 1, 9, s[FRAC]);
    }
    st = finish(out, &r, s[START], w);
done:
    lang_raw_clear(&r);
    return st;
}

enum { WANT_LESS = 1, WANT_EQUAL = 2, WANT_GREATER = 4 };

/* From the state *entry on, behind the sign: plain digits whose value compared with b is wanted. What is read is compared as far
 * as it goes; a longer whole part is greater. */
static mlxr_status compare_part(uint32_t *entry, lang_raw *r, const decimal *b, unsigned wanted, lang_work *w)
{
    mlxr_status st = MLXR_OK;
    size_t n = b->n_whole;
    /* by digits read: whole[3 i + order]; order 0 less, 1 equal, 2 greater */
    uint32_t *whole = mlxr_malloc_array(n + 1, 3 * sizeof *whole), *frac = NULL, longer, done[3];
    bool less = wanted & WANT_LESS, equal = wanted & WANT_EQUAL, greater = wanted & WANT_GREATER;
    bool frac_zero = b->n_frac == 0; /* equal to b behind its whole part */

    if (!whole || !(frac = mlxr_malloc_array(b->n_frac + 1, sizeof *frac))) {
        st = lang_nomem(w);
        goto done;
    }
#define ADD(state, accepts)                                                       \
    do {                                                                          \
        if ((st = lang_raw_add(&(state), r, (accepts), w)) != MLXR_OK) goto done; \
    } while (0)
    /* In the fraction: decided (0 less, 2 greater), or equal so far: frac[i] behind i digits. */
    ADD(done[0], less);
    ADD(done[2], greater);
    digits(r, done[0], 0, 9, done[0]);
    digits(r, done[2], 0, 9, done[2]);
    for (size_t i = 0; i <= b->n_frac; i++) ADD(frac[i], i == b->n_frac ? equal : less);
    for (size_t i = 0; i < b->n_frac; i++) {
        unsigned d = (unsigned)(b->frac[i] - '0');
        if (d > 0) digits(r, frac[i], 0, d - 1, done[0]);
        digits(r, frac[i], d, d, frac[i + 1]);
        if (d < 9) digits(r, frac[i], d + 1, 9, done[2]);
    }
    digits(r, frac[b->n_frac], 0, 0, frac[b->n_frac]);
    digits(r, frac[b->n_frac], 1, 9, done[2]);
    /* In the whole part. Fewer digits than b has: less; more: greater. */
    ADD(longer, greater);
    digits(r, longer, 0, 9, longer);
    *edge(r, longer, SYM_POINT) = done[2];
    for (size_t i = 0; i <= n; i++)
        for (int order = 0; order < 3; order++) {
            bool acc;
            if (i == 0 && order != 1) continue;
            if (i < n)
                acc = i > 0 && less;
            else
                acc = order == 0 ? less : order == 2 ? greater : frac_zero ? equal : less;
            ADD(whole[3 * i + order], acc);
        }
    for (size_t i = 0; i <= n; i++)
        for (int order = 0; order < 3; order++) {
            uint32_t at;
            unsigned d;
            if (i == 0 && order != 1) continue;
            at = whole[3 * i + order];
            if (i == n) {
                digits(r, at, 0, 9, longer);
                *edge(r, at, SYM_POINT) = order == 1 ? frac[0] : done[order];
                continue;
            }
            if (i > 0) *edge(r, at, SYM_POINT) = done[0];
            if (order != 1) {
                digits(r, at, 0, 9, whole[3 * (i + 1) + order]);
                continue;
            }
            d = (unsigned)(b->whole[i] - '0');
            if (d > 0) digits(r, at, 0, d - 1, whole[3 * (i + 1)]);
            digits(r, at, d, d, whole[3 * (i + 1) + 1]);
            if (d < 9) digits(r, at, d + 1, 9, whole[3 * (i + 1) + 2]);
        }
#undef ADD
    *entry = whole[1];
done:
    free(whole);
    free(frac);
    return st;
}

/* Digits and at most one point, of any shape. */
static mlxr_status any_part(uint32_t *entry, lang_raw *r, lang_work *w)
{
    mlxr_status st;
    uint32_t frac;
    if ((st = lang_raw_add(entry, r, true, w)) != MLXR_OK) return st;
    if ((st = lang_raw_add(&frac, r, true, w)) != MLXR_OK) return st;
    digits(r, *entry, 0, 9, *entry);
    *edge(r, *entry, SYM_POINT) = frac;
    digits(r, frac, 0, 9, frac);
    return MLXR_OK;
}

/* Numbers (their shape is another's to see to) on the wanted side of b. */
static mlxr_status bound(mlxr_dfa **out, const char *plain, unsigned wanted, lang_work *w)
{
    decimal b = decimal_of(plain);
    lang_raw r = lang_raw_init(N_SYMBOLS);
    uint32_t start, entry;
    /* Turned for negative numbers. */
    unsigned turned = (wanted & WANT_EQUAL) | (wanted & WANT_LESS ? WANT_GREATER : 0) |
                      (wanted & WANT_GREATER ? WANT_LESS : 0);
    mlxr_status st;

    if ((st = lang_raw_add(&start, &r, false, w)) != MLXR_OK) goto done;
    if (!b.negative) { /* what has no sign is compared; what has one is less */
        if ((st = compare_part(&entry, &r, &b, wanted, w)) != MLXR_OK) goto done;
        for (unsigned i = 0; i < 10; i++) *edge(&r, start, i) = *edge(&r, entry, i);
        if (wanted & WANT_LESS) {
            if ((st = any_part(&entry, &r, w)) != MLXR_OK) goto done;
            *edge(&r, start, SYM_MINUS) = entry;
        }
    } else {
        if ((st = compare_part(&entry, &r, &b, turned, w)) != MLXR_OK) goto done;
        *edge(&r, start, SYM_MINUS) = entry;
        if (wanted & WANT_GREATER) {
            if ((st = any_part(&entry, &r, w)) != MLXR_OK) goto done;
            digits(&r, start, 0, 9, entry);
        }
    }
    st = finish(out, &r, start, w);
done:
    lang_raw_clear(&r);
    return st;
}

/* Numbers that are multiples of q * 10^zeros / 10^scale, where zeros or scale is 0.
 *
 * Whole part: a state knows how many zeros the digits end in, up to `zeros` of them, and the rest's remainder by q. Fraction: how many
 * digits were read and the remainder of all digits; behind `scale` of them only zeros can come. */
static mlxr_status multiples_of(mlxr_dfa **out, uint32_t q, size_t zeros, size_t scale, lang_work *w)
{
    lang_raw r = lang_raw_init(N_SYMBOLS);
    mlxr_status st;
    uint32_t start, zero, only_zeros, whole, frac, id, power = 1; /* 10^t by q */

    if (zeros > w->limits.max_states || scale > w->limits.max_states ||
        (zeros + scale + 1) * (uint64_t)q > w->limits.max_states)
        return lang_too_many_states(w);
    if ((st = lang_raw_add(&start, &r, false, w)) != MLXR_OK) goto done;
    if ((st = lang_raw_add(&zero, &r, true, w)) != MLXR_OK) goto done;
    if ((st = lang_raw_add(&only_zeros, &r, true, w)) != MLXR_OK) goto done;
    whole = r.n; /* whole + t * q + remainder */
    for (size_t t = 0; t <= zeros; t++)
        for (uint32_t rem = 0; rem < q; rem++) {
            uint64_t left = rem;
            for (size_t i = 0; i < scale && left; i++) left = left * 10 % q;
            if ((st = lang_steps(w, scale)) != MLXR_OK) goto done;
            if ((st = lang_raw_add(&id, &r, t == zeros && left == 0, w)) != MLXR_OK) goto done;
        }
    frac = r.n; /* frac + i * q + remainder; 0 digits: right behind the point */
    for (size_t i = 0; scale && i <= scale; i++)
        for (uint32_t rem = 0; rem < q; rem++) {
            uint64_t left = rem;
            for (size_t k = i; k < scale && left; k++) left = left * 10 % q;
            if ((st = lang_steps(w, scale - i)) != MLXR_OK) goto done;
            if ((st = lang_raw_add(&id, &r, left == 0, w)) != MLXR_OK) goto done;
        }

    *edge(&r, start, SYM_MINUS) = start; /* shape is another's to see to */
    *edge(&r, start, 0) = zero;
    for (unsigned d = 1; d < 10; d++) *edge(&r, start, d) = whole + d % q;
    *edge(&r, zero, SYM_POINT) = scale ? frac : only_zeros;
    *edge(&r, only_zeros, 0) = only_zeros;
    for (size_t t = 0; t <= zeros; t++) {
        for (uint32_t rem = 0; rem < q; rem++) {
            uint32_t at = whole + (uint32_t)t * q + rem, all = (uint32_t)((uint64_t)rem * power % q);
            *edge(&r, at, 0) = t < zeros ? at + q
                                         : whole + (uint32_t)t * q + (uint32_t)((uint64_t)rem * 10 % q);
            for (unsigned d = 1; d < 10; d++)
                *edge(&r, at, d) = whole + (uint32_t)(((uint64_t)all * 10 + d) % q);
            if (scale)
                *edge(&r, at, SYM_POINT) = frac + rem;
            else if (t == zeros && rem == 0)
                *edge(&r, at, SYM_POINT) = only_zeros;
        }
        power = (uint32_t)((uint64_t)power * 10 % q);
    }
    for (size_t i = 0; i < scale; i++)
        for (uint32_t rem = 0; rem < q; rem++)
            for (unsigned d = 0; d < 10; d++)
                *edge(&r, frac + (uint32_t)i * q + rem, d) = frac + (uint32_t)(i + 1) * q +
                                                             (uint32_t)(((uint64_t)rem * 10 + d) % q);
    if (scale) *edge(&r, frac + (uint32_t)scale * q, 0) = only_zeros;
    st = finish(out, &r, start, w);
done:
    lang_raw_clear(&r);
    return st;
}

static mlxr_status multiples(mlxr_dfa **out, const char *plain, lang_work *w)
{
    decimal m = decimal_of(plain);
    size_t zeros = 0;
    uint64_t q = 0;

    *out = NULL;
    if (m.negative || is_zero(&m))
        return mlxr_fail(w->err, MLXR_E_INVALID_ARGUMENT, "%s: multiples of %s: must be above 0", w->what,
                         plain);
    if (m.n_frac == 0)
        while (m.whole[m.n_whole - 1 - zeros] == '0') zeros++;
    for (size_t i = 0; i + zeros < m.n_whole + m.n_frac; i++) {
        q = q * 10 + (uint64_t)((i < m.n_whole ? m.whole[i] : m.frac[i - m.n_whole]) - '0');
        if (q > w->limits.max_states || q > UINT32_MAX / 16)
            return mlxr_fail(w->err, MLXR_E_LIMIT,
                             "%s: multiples of %s need an automaton of more than %zu states (max_states)",
                             w->what, plain, w->limits.max_states);
    }
    if (q == 0) return mlxr_fail(w->err, MLXR_E_INTERNAL, "%s: a multiple without digits", w->what);
    return multiples_of(out, (uint32_t)q, zeros, m.n_frac, w);
}

/* -?int frac? exp? as JSON has it; or -?int. */
static mlxr_status any_number(mlxr_dfa **out, bool integer, lang_work *w)
{
    enum { START, MINUS, ZERO, INT, POINT, FRAC, E, SIGN, EXP, COUNT, SYM_E = N_SYMBOLS, SYM_PLUS, N };
    lang_raw r = lang_raw_init(N);
    uint16_t symbol_of[256];
    mlxr_status st;
    uint32_t id;

    for (int i = 0; i < COUNT; i++)
        if ((st = lang_raw_add(&id, &r, i == ZERO || i == INT || (!integer && (i == FRAC || i == EXP)), w)) !=
            MLXR_OK)
            goto done;
#define EDGE(from, symbol, to) r.next[(size_t)(from)*N + (symbol)] = (to)
    EDGE(START, SYM_MINUS, MINUS);
    EDGE(START, 0, ZERO);
    EDGE(MINUS, 0, ZERO);
    for (unsigned d = 0; d < 10; d++) {
        if (d) {
            EDGE(START, d, INT);
            EDGE(MINUS, d, INT);
        }
        EDGE(INT, d, INT);
        EDGE(POINT, d, FRAC);
        EDGE(FRAC, d, FRAC);
        EDGE(E, d, EXP);
        EDGE(SIGN, d, EXP);
        EDGE(EXP, d, EXP);
    }
    if (!integer) {
        EDGE(ZERO, SYM_POINT, POINT);
        EDGE(INT, SYM_POINT, POINT);
        EDGE(ZERO, SYM_E, E);
        EDGE(INT, SYM_E, E);
        EDGE(FRAC, SYM_E, E);
        EDGE(E, SYM_PLUS, SIGN);
        EDGE(E, SYM_MINUS, SIGN);
    }
#undef EDGE
    number_symbols(symbol_of);
    symbol_of['e'] = symbol_of['E'] = SYM_E;
    symbol_of['+'] = SYM_PLUS;
    st = lang_finish(out, &r, START, symbol_of, false, w);
done:
    lang_raw_clear(&r);
    return st;
}

/* Zeros, any number of them; behind a point, at least one. */
static mlxr_status zeros_at_end(mlxr_dfa **out, bool with_point, lang_work *w)
{
    lang_raw r = lang_raw_init(N_SYMBOLS);
    mlxr_status st;
    uint32_t start, point = 0, zeros;

    if ((st = lang_raw_add(&start, &r, true, w)) != MLXR_OK) goto done;
    if (with_point && (st = lang_raw_add(&point, &r, false, w)) != MLXR_OK) goto done;
    if ((st = lang_raw_add(&zeros, &r, true, w)) != MLXR_OK) goto done;
    if (with_point) *edge(&r, start, SYM_POINT) = point;
    *edge(&r, with_point ? point : start, 0) = zeros;
    *edge(&r, zeros, 0) = zeros;
    st = finish(out, &r, start, w);
done:
    lang_raw_clear(&r);
    return st;
}

/* Texts of numbers: all that are whole, or all that are not, with what zeros may follow them. */
static mlxr_status listed(mlxr_dfa **out, const mlxr_number_set *set, bool whole, lang_work *w)
{
    mlxr_text *texts = mlxr_malloc_array(set->n_except, sizeof *texts);
    mlxr_dfa *plain = NULL, *zeros = NULL;
    size_t n = 0;
    mlxr_status st;

    *out = NULL;
    if (!texts) return lang_nomem(w);
    for (size_t i = 0; i < set->n_except; i++)
        if ((strchr(set->except[i], '.') == NULL) == whole)
            texts[n++] = (mlxr_text){set->except[i], strlen(set->except[i])};
    if ((st = mlxr_dfa_literals(&plain, texts, n, w->err)) != MLXR_OK) goto done;
    if (n == 0 || set->integer) {
        *out = plain;
        plain = NULL;
        goto done;
    }
    if ((st = zeros_at_end(&zeros, whole, w)) != MLXR_OK) goto done;
    st = mlxr_dfa_concat(out, plain, zeros, &w->limits, w->err);
done:
    free(texts);
    mlxr_dfa_unref(plain);
    mlxr_dfa_unref(zeros);
    return st;
}

/* *d becomes its part inside (or outside) of cond, which is taken. */
static mlxr_status narrow(mlxr_dfa **d, mlxr_dfa *cond, bool inside, lang_work *w)
{
    mlxr_dfa *r;
    mlxr_status st = inside ? mlxr_dfa_intersect(&r, *d, cond, &w->limits, w->err)
                            : mlxr_dfa_minus(&r, *d, cond, &w->limits, w->err);
    mlxr_dfa_unref(cond);
    if (st != MLXR_OK) return st;
    mlxr_dfa_unref(*d);
    *d = r;
    return MLXR_OK;
}

mlxr_status mlxr_dfa_number(mlxr_dfa **out, const mlxr_number_set *set, const mlxr_lang_limits *limits,
                            mlxr_error *err)
{
    lang_work w = lang_begin("number", limits, err);
    mlxr_dfa *d = NULL, *cond;
    mlxr_status st;

    *out = NULL;
    if (set->integer && set->fraction) return mlxr_dfa_empty(out, err);
    if (!set->min && !set->max && !set->n_multiple_of && !set->n_not_multiple_of && !set->n_except &&
        !set->fraction)
        return any_number(out, set->integer, &w);

    if ((st = plain_numbers(&d, !set->fraction, !set->integer, &w)) != MLXR_OK) goto done;
    if (set->min) {
        if ((st = bound(&cond, set->min, WANT_GREATER | (set->min_exclusive ? 0 : WANT_EQUAL), &w)) !=
                MLXR_OK ||
            (st = narrow(&d, cond, true, &w)) != MLXR_OK)
            goto done;
    }
    if (set->max) {
        if ((st = bound(&cond, set->max, WANT_LESS | (set->max_exclusive ? 0 : WANT_EQUAL), &w)) != MLXR_OK ||
            (st = narrow(&d, cond, true, &w)) != MLXR_OK)
            goto done;
    }
    for (size_t i = 0; i < set->n_multiple_of; i++)
        if ((st = multiples(&cond, set->multiple_of[i], &w)) != MLXR_OK ||
            (st = narrow(&d, cond, true, &w)) != MLXR_OK)
            goto done;
    for (size_t i = 0; i < set->n_not_multiple_of; i++)
        if ((st = multiples(&cond, set->not_multiple_of[i], &w)) != MLXR_OK ||
            (st = narrow(&d, cond, false, &w)) != MLXR_OK)
            goto done;
    for (int whole = 0; whole < 2 && set->n_except; whole++)
        if ((st = listed(&cond, set, whole, &w)) != MLXR_OK || (st = narrow(&d, cond, false, &w)) != MLXR_OK)
            goto done;
    *out = d;
    d = NULL;
done:
    mlxr_dfa_unref(d);
    return st;
}
