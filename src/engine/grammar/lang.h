/* lang: regular languages of texts, as deterministic automata over bytes. What grammars are made of where nothing nests:
 * strings with a pattern, a length or a format, numbers within bounds, names of members.
 *
 * A text is UTF-8. Languages of decoded strings (what a JSON string means) are built, combined and measured first, and turned
 * into how JSON writes them last (mlxr_dfa_json_string). Every automaton here is trimmed: from each of its states an
 * accepting one can be reached, so a writer that follows it never meets a dead end; and minimal, so equal languages
 * have equal automata.
 *
 * An mlxr_dfa is immutable once made and counted: ref and unref from any thread. */
#ifndef MLXR_GRAMMAR_LANG_H
#define MLXR_GRAMMAR_LANG_H

#include "base/base.h"

#define MLXR_DFA_NONE UINT32_MAX /* no next state */

typedef struct mlxr_dfa {
    uint32_t n_states;  /* the first is where texts begin; 0: the language has no text at all */
    uint32_t n_classes; /* bytes that no state tells apart have one class */
    uint8_t class_of[256];
    uint32_t *next;   /* [n_states, n_classes], MLXR_DFA_NONE where no text goes on */
    uint8_t *accepts; /* [n_states], 0 or 1 */
    uint64_t hash;    /* of all the above */
    unsigned n_refs;  /* atomic */
} mlxr_dfa;

mlxr_dfa *mlxr_dfa_ref(mlxr_dfa *d);
void mlxr_dfa_unref(mlxr_dfa *d); /* NULL is fine */

static inline uint32_t mlxr_dfa_step(const mlxr_dfa *d, uint32_t state, uint8_t byte)
{
    return d->next[(size_t)state * d->n_classes + d->class_of[byte]];
}

/* Bounds on what building may cost; a breach is MLXR_E_LIMIT that says which. Fill with _default first. */
typedef struct mlxr_lang_limits {
    size_t max_states; /* of any automaton on the way; default 20,000 */
    size_t max_steps;  /* transitions looked at in one call; default 4,000,000 */
} mlxr_lang_limits;
mlxr_lang_limits mlxr_lang_limits_default(void);

/* All of these give *out with one reference, on failure NULL. limits NULL: the defaults. Arguments are borrowed. */

/* ---- makers ---- */
mlxr_status mlxr_dfa_empty(mlxr_dfa **out, mlxr_error *err); /* no text at all */
mlxr_status mlxr_dfa_any(mlxr_dfa **out, mlxr_error *err);   /* every text: valid UTF-8 */
/* One text. Bytes as they are, valid UTF-8 or not. */
mlxr_status mlxr_dfa_literal(mlxr_dfa **out, const void *bytes, size_t n, mlxr_error *err);
/* Any of several; MLXR_E_LIMIT beyond 4 MiB of texts, or the default number of states. */
typedef struct mlxr_text {
    const char *bytes;
    size_t n;
} mlxr_text;
mlxr_status mlxr_dfa_literals(mlxr_dfa **out, const mlxr_text *texts, size_t n_texts, mlxr_error *err);
/* One character of any of the ranges (code points, both ends in; surrogates are left out). */
typedef struct mlxr_char_range {
    uint32_t first, last;
} mlxr_char_range;
mlxr_status mlxr_dfa_ranges(mlxr_dfa **out, const mlxr_char_range *ranges, size_t n, mlxr_error *err);
/* Texts of min to max characters (code points); max SIZE_MAX: no bound. */
mlxr_status mlxr_dfa_length(mlxr_dfa **out, size_t min, size_t max, const mlxr_lang_limits *limits,
                            mlxr_error *err);
/* A regular expression as ECMA-262 reads it with the flag u (docs/grammars.md says which parts): texts in which it finds a
 * match anywhere, or with whole: which it matches from end to end. What is no expression is MLXR_E_FORMAT, with the place;
 * what is one, but not regular or not supported (back references, ...) MLXR_E_UNSUPPORTED, naming it. */
mlxr_status mlxr_dfa_regex(mlxr_dfa **out, const char *pattern, size_t n, bool whole,
                           const mlxr_lang_limits *limits, mlxr_error *err);
/* Texts of a JSON Schema "format": date-time, date, time, duration, email, idn-email, hostname, idn-hostname, ipv4, ipv6, uri,
 * uri-reference, iri, iri-reference, uuid (and uuid1, 3, 4, 5), uri-template, json-pointer, relative-json-pointer, byte (base64),
 * base64url; docs/grammars.md says where they are stricter than their RFC. MLXR_E_UNSUPPORTED for one that cannot be had (regex) or
 * is not known. */
mlxr_status mlxr_dfa_format(mlxr_dfa **out, const char *format, const mlxr_lang_limits *limits,
                            mlxr_error *err);

/* ---- operations ---- */
mlxr_status mlxr_dfa_union(mlxr_dfa **out, const mlxr_dfa *a, const mlxr_dfa *b,
                           const mlxr_lang_limits *limits, mlxr_error *err);
mlxr_status mlxr_dfa_intersect(mlxr_dfa **out, const mlxr_dfa *a, const mlxr_dfa *b,
                               const mlxr_lang_limits *limits, mlxr_error *err);
/* Texts of a that are not in b. mlxr_dfa_any as a: the complement. */
mlxr_status mlxr_dfa_minus(mlxr_dfa **out, const mlxr_dfa *a, const mlxr_dfa *b,
                           const mlxr_lang_limits *limits, mlxr_error *err);
mlxr_status mlxr_dfa_concat(mlxr_dfa **out, const mlxr_dfa *a, const mlxr_dfa *b,
                            const mlxr_lang_limits *limits, mlxr_error *err);
mlxr_status mlxr_dfa_repeat(mlxr_dfa **out, const mlxr_dfa *a, size_t min, size_t max,
                            const mlxr_lang_limits *limits, mlxr_error *err);
/* From decoded strings (UTF-8) to how JSON writes them between the quotes, one way for each: a short escape where there is one
 * (\b \f \n \r \t \" \\), \u00XX in lower-case for other characters below U+0020, everything else as it is. */
mlxr_status mlxr_dfa_json_string(mlxr_dfa **out, const mlxr_dfa *a, const mlxr_lang_limits *limits,
                                 mlxr_error *err);

/* ---- questions ---- */
static inline bool mlxr_dfa_is_empty(const mlxr_dfa *d)
{
    return d->n_states == 0;
}
bool mlxr_dfa_has(const mlxr_dfa *d, const void *bytes, size_t n);
bool mlxr_dfa_equal(const mlxr_dfa *a, const mlxr_dfa *b);
/* How many texts there are; UINT64_MAX: no end of them, more than that, or no memory to find out. */
uint64_t mlxr_dfa_count(const mlxr_dfa *d);
/* From each state on: counts[n_states], as above. */
void mlxr_dfa_counts(uint64_t *counts, const mlxr_dfa *d);
/* All texts of a language that has at most max_texts, in the order of their bytes, to fn (stops when that returns false).
 * MLXR_E_LIMIT: it has more. */
mlxr_status mlxr_dfa_each(const mlxr_dfa *d, size_t max_texts,
                          bool (*fn)(const char *text, size_t n, void *ud), void *ud, mlxr_error *err);

/* ---- numbers ----
 *
 * Decimal numbers as exact texts ("-12.50", "1e-7"), so that no bound is rounded. */

/* A number in the one form that mlxr writes: digits, no exponent, no sign of zero, no zeros in front or at the end of the
 * fraction ("-0.0" is "0", "1.50e1" is "15"). false: no JSON number, or longer than max_digits. */
bool mlxr_number_plain(mlxr_buf *out, const char *text, size_t n, size_t max_digits);
/* -1, 0, 1; both in the plain form. */
int mlxr_number_compare(const char *a, const char *b);

/* A set of numbers. Texts are plain, NULL where there is none; borrowed. */
typedef struct mlxr_number_set {
    const char *min, *max;
    bool min_exclusive, max_exclusive;
    bool integer;                   /* whole numbers alone */
    const char *const *multiple_of; /* each > 0 */
    size_t n_multiple_of;
    const char *const *not_multiple_of; /* what none of the numbers is a multiple of */
    size_t n_not_multiple_of;
    const char *const *except; /* numbers that are left out */
    size_t n_except;
    bool fraction; /* numbers that are not whole alone (what is left of "number" without "integer") */
} mlxr_number_set;
/* How they are written: a set with no condition at all, or with `integer` alone, in every form JSON has (for integers: no fraction,
 * no exponent); a set with a bound, multiples or exceptions in the plain form, to which zeros at the end of a fraction may be
 * added where the set is not one of whole numbers. Nothing in the set: the empty language. */
mlxr_status mlxr_dfa_number(mlxr_dfa **out, const mlxr_number_set *set, const mlxr_lang_limits *limits,
                            mlxr_error *err);

#endif
