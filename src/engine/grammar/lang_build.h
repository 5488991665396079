/* Automata in the making: what the makers of lang.h share. Private to lang's own files.
 *
 *   NFA over symbols -> lang_determinise -> lang_raw over symbols -> lang_minimise -> lang_finish -> mlxr_dfa over bytes
 *
 * A symbol is what no edge tells apart: a class of bytes in the operations, a class of characters in regular
 * expressions, which become bytes behind their determinisation (lang_utf8_finish). */
#ifndef MLXR_GRAMMAR_LANG_BUILD_H
#define MLXR_GRAMMAR_LANG_BUILD_H

#include "engine/grammar/lang.h"

#define LANG_NONE      UINT32_MAX
#define LANG_NO_SYMBOL UINT16_MAX

/* One call of lang.h: its bounds and what it has used up of them. */
typedef struct lang_work {
    mlxr_lang_limits limits;
    size_t n_steps;
    const char *what; /* for messages: "regex", "union" */
    mlxr_error *err;
} lang_work;

lang_work lang_begin(const char *what, const mlxr_lang_limits *limits, mlxr_error *err);
mlxr_status lang_nomem(lang_work *w);
mlxr_status lang_too_many_states(lang_work *w);
mlxr_status lang_too_many_steps(lang_work *w);
#ifdef __clang_analyzer__ /* what comes back is no MLXR_OK, see base.h */
#define lang_nomem(w)           mlxr_failed_with(MLXR_E_NOMEM, lang_nomem(w))
#define lang_too_many_states(w) mlxr_failed_with(MLXR_E_LIMIT, lang_too_many_states(w))
#define lang_too_many_steps(w)  mlxr_failed_with(MLXR_E_LIMIT, lang_too_many_steps(w))
#endif

static inline mlxr_status lang_steps(lang_work *w, size_t n)
{
    w->n_steps += n;
    return w->n_steps > w->limits.max_steps ? lang_too_many_steps(w) : MLXR_OK;
}

/* A deterministic automaton, not yet minimal. init by lang_raw_init. */
typedef struct lang_raw {
    uint32_t n, cap, n_symbols;
    uint32_t *next;   /* [n, n_symbols], LANG_NONE: no edge */
    uint8_t *accepts; /* [n] */
} lang_raw;

static inline lang_raw lang_raw_init(uint32_t n_symbols)
{
    return (lang_raw){.n_symbols = n_symbols};
}
/* One more state without edges. */
mlxr_status lang_raw_add(uint32_t *state, lang_raw *r, bool accepts, lang_work *w);
void lang_raw_clear(lang_raw *r);

/* Leaves the states that matter, each language once (dfa_minimise.c). starts[n_starts] are renumbered, LANG_NONE for one from
 * which nothing is accepted. The order of states is no particular one. */
mlxr_status lang_minimise(lang_raw *r, uint32_t *starts, size_t n_starts, lang_work *w);

/* The automaton over bytes; symbol_of: LANG_NO_SYMBOL for bytes that no edge has. minimal: r is minimal and trimmed. */
mlxr_status lang_finish(mlxr_dfa **out, lang_raw *r, uint32_t start, const uint16_t symbol_of[256],
                        bool minimal, lang_work *w);

/* A growing array of numbers. */
typedef struct lang_list {
    uint32_t *v;
    size_t n, cap;
} lang_list;
bool lang_list_grow(lang_list *l, size_t n_more);
static inline bool lang_list_push(lang_list *l, uint32_t value)
{
    if (l->n == l->cap && !lang_list_grow(l, 1)) return false;
    l->v[l->n++] = value;
    return true;
}

void lang_sort(uint32_t *v, size_t n); /* rising; fast for few */

/* Pairs of numbers, numbered in the order in which they come. init to {0} */
typedef struct lang_pairs {
    uint64_t *keys; /* [n] by number */
    uint32_t *slots;
    size_t n, cap, n_slots;
} lang_pairs;
/* The pair's number; *is_new tells whether it had one. LANG_NONE: out of memory. */
uint32_t lang_pairs_get(lang_pairs *p, uint32_t a, uint32_t b, bool *is_new);
void lang_pairs_clear(lang_pairs *p);

/* ---- nondeterministic automata (lang_nfa.c) ---- */

typedef enum lang_nfa_kind {
    NFA_EDGES,        /* edges[first .. first + n) */
    NFA_LABEL,        /* symbols of labels[first], to n */
    NFA_SPLIT,        /* to first and to n, reading nothing */
    NFA_FINAL,        /* accepts */
    NFA_ANY_END,      /* accepts, whatever follows */
    NFA_ASSERT_BEGIN, /* reading nothing, to n, where the text begins */
    NFA_ASSERT_END,
    NFA_ASSERT_WORD, /* a word character on one side alone */
    NFA_ASSERT_NO_WORD,
    NFA_LOOK, /* reading nothing, to n, where looks[first] holds */
} lang_nfa_kind;

typedef struct lang_nfa_state {
    uint32_t kind, first, n;
} lang_nfa_state;

typedef struct lang_nfa_edge {
    uint16_t first, last; /* symbols */
    uint32_t to;
} lang_nfa_edge;

/* A set of symbols as runs. */
typedef struct lang_label {
    const lang_nfa_edge *runs; /* `to` is not used */
    uint32_t n;
} lang_label;

/* What the text from here on begins with (or must not): a minimal automaton that stays in `always` once that is sure.
 * It begins by what comes before: nothing, a word character, another one. */
typedef struct lang_look {
    lang_raw dfa;
    uint32_t starts[3];
    uint32_t always;
    bool negative;
} lang_look;
enum { LANG_BEFORE_NOTHING, LANG_BEFORE_WORD, LANG_BEFORE_OTHER };

typedef struct lang_nfa {
    uint32_t n_symbols;
    const uint8_t *is_word; /* [n_symbols], NULL: words do not matter */
    lang_nfa_state *states;
    uint32_t n_states, cap_states;
    lang_nfa_edge *edges;
    uint32_t n_edges, cap_edges;
    const lang_label *labels; /* borrowed */
    const lang_look *looks;   /* borrowed */
    uint32_t n_looks;
} lang_nfa;

mlxr_status lang_nfa_add(uint32_t *state, lang_nfa *n, lang_nfa_kind kind, uint32_t first, uint32_t to,
                         lang_work *w);
/* Edges are added to the state that was added last, of kind NFA_EDGES. */
mlxr_status lang_nfa_edge_add(lang_nfa *n, uint16_t first, uint16_t last, uint32_t to, lang_work *w);
void lang_nfa_clear(lang_nfa *n);
/* *out begins in starts[i] for the NFA's begin[i] (a list of states) with before[i] in front of the text. */
mlxr_status lang_determinise(lang_raw *out, uint32_t *starts, const lang_nfa *n, const uint32_t *begin,
                             size_t n_begin, const uint8_t *before, size_t n_starts, lang_work *w);

#endif
