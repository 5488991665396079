/* Sets of characters, the symbols that a pattern's sets tell apart, and the way from symbols to bytes. Private to lang. */
#ifndef MLXR_GRAMMAR_LANG_CHARS_H
#define MLXR_GRAMMAR_LANG_CHARS_H

#include "engine/grammar/lang_build.h"

/* Ranges in rising order that neither meet nor touch. */
typedef struct lang_chars {
    const mlxr_char_range *ranges;
    uint32_t n;
} lang_chars;

/* Sorts and joins ranges in place; their number. Surrogates stay, characters beyond U+10FFFF are the caller's to avoid. */
size_t lang_ranges_tidy(mlxr_char_range *ranges, size_t n);

/* A set in the making. init to {0}; running out of memory sets failed, later calls do nothing. */
typedef struct lang_ranges {
    mlxr_char_range *v;
    size_t n, cap;
    bool failed;
} lang_ranges;
void lang_ranges_add(lang_ranges *r, uint32_t first, uint32_t last);
void lang_ranges_not(lang_ranges *r); /* tidies, and turns into the others */
void lang_ranges_clear(lang_ranges *r);
/* Adds what \d \D \s \S \w \W stand for; `dot` what . does. false: no such class. (regex_class.c) */
bool lang_ranges_add_class(lang_ranges *r, char escape);
void lang_ranges_add_dot(lang_ranges *r);
/* Adds what \p{name} stands for, or with negated \P{name}. MLXR_E_UNSUPPORTED names a property that is not to be had. */
mlxr_status lang_ranges_add_property(lang_ranges *r, const char *name, size_t n, bool negated, lang_work *w);

/* Characters that no set tells apart are one symbol; surrogates are none. */
typedef struct lang_alphabet {
    struct lang_interval {
        uint32_t first, symbol; /* up to the next one's first; LANG_NONE: no symbol */
    } * intervals;
    uint32_t n_intervals, n_symbols;
    lang_label *labels; /* of each set */
} lang_alphabet;

/* Everything lies in the arena. */
mlxr_status lang_alphabet_make(lang_alphabet *out, mlxr_arena *arena, const lang_chars *sets, uint32_t n_sets,
                               lang_work *w);

/* The automaton over the bytes of UTF-8 for one over symbols, which must be minimal. */
mlxr_status lang_utf8_finish(mlxr_dfa **out, const lang_raw *r, uint32_t start, const lang_alphabet *alphabet,
                             lang_work *w);

#endif
