/* From nondeterministic automata to deterministic ones, by sets of states.
 *
 * An element of a set is a thread: a state, and what is still owed to the lookaheads it has passed (an interned set of places
 * in their automata). Assertions about what is in front (^) are decided when a thread reaches them; those that need to know
 * what follows ($, \b) wait in the set and are decided for each kind of next character. So every assertion is exact. */
#include <stdlib.h>

#include "engine/grammar/lang_build.h"

mlxr_status lang_nfa_add(uint32_t *state, lang_nfa *n, lang_nfa_kind kind, uint32_t first, uint32_t to,
                         lang_work *w)
{
    size_t max = w->limits.max_states < UINT32_MAX / 16 ? w->limits.max_states * 4 : UINT32_MAX / 4;
    if (n->n_states >= max)
        return mlxr_fail(w->err, MLXR_E_LIMIT,
                         "%s: needs more than %zu places before it is made deterministic (max_states * 4)",
                         w->what, max);
    if (n->n_states == n->cap_states) {
        uint32_t cap = n->cap_states ? n->cap_states * 2 : 32;
        lang_nfa_state *states = mlxr_realloc_array(n->states, cap, sizeof *states);
        if (!states) return lang_nomem(w);
        n->states = states;
        n->cap_states = cap;
    }
    n->states[n->n_states] = (lang_nfa_state){kind, first, to};
    *state = n->n_states++;
    return MLXR_OK;
}

mlxr_status lang_nfa_edge_add(lang_nfa *n, uint16_t first, uint16_t last, uint32_t to, lang_work *w)
{
    lang_nfa_state *s = &n->states[n->n_states - 1];
    mlxr_status st;
    if ((st = lang_steps(w, 1)) != MLXR_OK) return st;
    if (n->n_edges == n->cap_edges) {
        uint32_t cap = n->cap_edges ? n->cap_edges * 2 : 64;
        lang_nfa_edge *edges = mlxr_realloc_array(n->edges, cap, sizeof *edges);
        if (!edges) return lang_nomem(w);
        n->edges = edges;
        n->cap_edges = cap;
    }
    if (s->n == 0) s->first = n->n_edges;
    n->edges[n->n_edges++] = (lang_nfa_edge){first, last, to};
    s->n++;
    return MLXR_OK;
}

void lang_nfa_clear(lang_nfa *n)
{
    free(n->states);
    free(n->edges);
    n->states = NULL;
    n->edges = NULL;
    n->n_states = n->cap_states = n->n_edges = n->cap_edges = 0;
}

/* Lists of numbers, numbered. Each is stored as its length and its numbers. */
typedef struct interned {
    lang_list data;
    lang_list where; /* [n] in data */
    uint32_t *slots;
    size_t n_slots;
} interned;

static void interned_clear(interned *t)
{
    free(t->data.v);
    free(t->where.v);
    free(t->slots);
}

static const uint32_t *interned_get(const interned *t, uint32_t id, uint32_t *n)
{
    const uint32_t *p = t->data.v + t->where.v[id];
    *n = p[0];
    return p + 1;
}

static size_t hash_list(const uint32_t *v, size_t n)
{
    uint64_t h = n;
    for (size_t i = 0; i < n; i++) h = (h ^ v[i]) * 0x9e3779b97f4a7c15u + (h >> 47);
    h *= 0xd6e8feb86659fd93u;
    return (size_t)(h ^ h >> 32);
}

/* LANG_NONE: out of memory. */
static uint32_t intern(interned *t, const uint32_t *v, size_t n, bool *is_new)
{
    size_t at;
    uint32_t id = (uint32_t)t->where.n;

    if (t->where.n * 2 >= t->n_slots) {
        size_t n_slots = t->n_slots ? t->n_slots * 4 : 64;
        uint32_t *slots = mlxr_malloc_array(n_slots, sizeof *slots);
        if (!slots) return LANG_NONE;
        memset(slots, 0xff, n_slots * sizeof *slots);
        for (uint32_t i = 0; i < id; i++) {
            uint32_t m;
            const uint32_t *x = interned_get(t, i, &m);
            for (at = hash_list(x, m) & (n_slots - 1); slots[at] != LANG_NONE;
                 at = (at + 1) & (n_slots - 1)) {
            }
            slots[at] = i;
        }
        free(t->slots);
        t->slots = slots;
        t->n_slots = n_slots;
    }
    for (at = hash_list(v, n) & (t->n_slots - 1); t->slots[at] != LANG_NONE;
         at = (at + 1) & (t->n_slots - 1)) {
        uint32_t m;
        const uint32_t *x = interned_get(t, t->slots[at], &m);
        if (m == n && (n == 0 || memcmp(x, v, n * sizeof *v) == 0)) {
            *is_new = false;
            return t->slots[at];
        }
    }
    if (t->data.n > UINT32_MAX - n - 1) return LANG_NONE;
    if (t->data.n + n + 1 > t->data.cap && !lang_list_grow(&t->data, n + 1)) return LANG_NONE;
    if (!lang_list_push(&t->where, (uint32_t)t->data.n)) return LANG_NONE;
    t->data.v[t->data.n++] = (uint32_t)n;
    if (n) memcpy(t->data.v + t->data.n, v, n * sizeof *v);
    t->data.n += n;
    t->slots[at] = id;
    *is_new = true;
    return id;
}

typedef struct builder {
    const lang_nfa *nfa;
    lang_work *w;
    lang_raw *out;
    interned sets;    /* of the states of out: what was in front, then threads */
    interned debts;   /* pairs of look and place, by look; 0: none */
    lang_list steps;  /* [debts, n_symbols] what is left, + 1; LANG_NONE: not known yet */
    lang_pairs owing; /* (state, debt) for debts other than 0: thread n_states + number */
    lang_list mark;   /* [threads] the round in which it was met */
    uint32_t round;
    lang_list stack, set, resolved, moves, sorted, debt;
    lang_list chain, chain_next,
        before_drop; /* [2 n_states] round and first member; [members of a set] by NFA state */
    lang_list count; /* [n_symbols + 1] */
    bool waiting;    /* the set in hand has threads that wait for what follows */
} builder;

enum { NEXT_UNKNOWN, NEXT_END, NEXT_WORD, NEXT_OTHER };
#define DEBT_DEAD UINT32_MAX /* cannot be paid */

static void thread_parts(const builder *b, uint32_t thread, uint32_t *state, uint32_t *debt)
{
    if (thread < b->nfa->n_states) {
        *state = thread;
        *debt = 0;
    } else {
        uint64_t key = b->owing.keys[thread - b->nfa->n_states];
        *state = (uint32_t)(key >> 32);
        *debt = (uint32_t)key;
    }
}

/* The thread's number, LANG_NONE: out of memory. */
static uint32_t thread_of(builder *b, uint32_t state, uint32_t debt)
{
    uint32_t id;
    bool is_new;
    if (debt == 0) return state;
    id = lang_pairs_get(&b->owing, state, debt, &is_new);
    if (id == LANG_NONE || id > UINT32_MAX - 1 - b->nfa->n_states) return LANG_NONE;
    if (is_new && !lang_list_push(&b->mark, 0)) return LANG_NONE;
    return b->nfa->n_states + id;
}

/* *out: debt and one more place; DEBT_DEAD when that cannot be. */
static bool debt_add(uint32_t *out, builder *b, uint32_t debt, uint32_t look, uint32_t place)
{
    const lang_look *l = &b->nfa->looks[look];
    uint32_t n, i;
    const uint32_t *v;
    bool is_new, placed = false;

    *out = debt;
    if (place == LANG_NONE) {
        if (!l->negative) *out = DEBT_DEAD;
        return true;
    }
    if (place == l->always) {
        if (l->negative) *out = DEBT_DEAD;
        return true;
    }
    v = interned_get(&b->debts, debt, &n);
    b->debt.n = 0;
    for (i = 0; i < n; i += 2) {
        if (!placed && (v[i] > look || (v[i] == look && v[i + 1] >= place))) {
            placed = true;
            if (v[i] == look && v[i + 1] == place) return true;
            if (!lang_list_push(&b->debt, look) || !lang_list_push(&b->debt, place)) return false;
        }
        if (!lang_list_push(&b->debt, v[i]) || !lang_list_push(&b->debt, v[i + 1])) return false;
    }
    if (!placed && (!lang_list_push(&b->debt, look) || !lang_list_push(&b->debt, place))) return false;
    *out = intern(&b->debts, b->debt.v, b->debt.n, &is_new);
    return *out != LANG_NONE;
}

/* What is left of a debt behind one more symbol. */
static bool debt_step_anew(uint32_t *out, builder *b, uint32_t debt, uint32_t symbol)
{
    uint32_t n, now = 0;
    interned_get(&b->debts, debt, &n);
    for (uint32_t i = 0; i < n && now != DEBT_DEAD; i += 2) {
        const uint32_t *v = interned_get(&b->debts, debt, &n); /* debts may move */
        const lang_look *l = &b->nfa->looks[v[i]];
        uint32_t place = l->dfa.next[(size_t)v[i + 1] * l->dfa.n_symbols + symbol];
        if (!debt_add(&now, b, now, v[i], place)) return false;
    }
    *out = now;
    return true;
}

static bool debt_step(uint32_t *out, builder *b, uint32_t debt, uint32_t symbol)
{
    enum { MAX_CELLS = 1 << 20 };
    size_t cell = (size_t)debt * b->nfa->n_symbols + symbol;

    if (cell >= MAX_CELLS) return debt_step_anew(out, b, debt, symbol);
    if (cell >= b->steps.n) {
        size_t n = b->steps.n;
        if (cell >= b->steps.cap && !lang_list_grow(&b->steps, cell + 1 - n)) return false;
        b->steps.n = b->steps.cap;
        memset(b->steps.v + n, 0xff, (b->steps.n - n) * sizeof *b->steps.v);
    }
    if (b->steps.v[cell] != LANG_NONE) {
        *out = b->steps.v[cell] - 1; /* 0: DEBT_DEAD */
        return true;
    }
    if (!debt_step_anew(out, b, debt, symbol)) return false;
    b->steps.v[cell] = *out + 1;
    return true;
}

static bool debt_is_paid_at_end(const builder *b, uint32_t debt)
{
    uint32_t n;
    const uint32_t *v;
    if (debt == 0) return true;
    v = interned_get(&b->debts, debt, &n);
    for (uint32_t i = 0; i < n; i += 2) {
        const lang_look *l = &b->nfa->looks[v[i]];
        if ((l->dfa.accepts[v[i + 1]] != 0) == l->negative) return false;
    }
    return true;
}

/* Puts on the stack what a thread leads to without reading, and itself into `set` where it reads, accepts or waits. */
static mlxr_status close_over(builder *b, lang_list *set, unsigned before, unsigned next)
{
    const lang_nfa *nfa = b->nfa;
    mlxr_status st;

    while (b->stack.n) {
        uint32_t thread = b->stack.v[--b->stack.n], state, debt, to[2] = {LANG_NONE, LANG_NONE};
        bool word, passes = false;
        if (b->mark.v[thread] == b->round) continue;
        b->mark.v[thread] = b->round;
        if ((st = lang_steps(b->w, 1)) != MLXR_OK) return st;
        thread_parts(b, thread, &state, &debt);
        switch ((lang_nfa_kind)nfa->states[state].kind) {
        case NFA_EDGES:
        case NFA_LABEL:
        case NFA_FINAL:
        case NFA_ANY_END:
            if (!lang_list_push(set, thread)) return lang_nomem(b->w);
            continue;
        case NFA_SPLIT:
            to[0] = nfa->states[state].first;
            to[1] = nfa->states[state].n;
            break;
        case NFA_ASSERT_BEGIN:
            if (before == LANG_BEFORE_NOTHING) to[0] = nfa->states[state].n;
            break;
        case NFA_ASSERT_END:
        case NFA_ASSERT_WORD:
        case NFA_ASSERT_NO_WORD:
            if (next == NEXT_UNKNOWN) {
                b->waiting = true;
                if (!lang_list_push(set, thread)) return lang_nomem(b->w);
                continue;
            }
            word = (before == LANG_BEFORE_WORD) != (next == NEXT_WORD);
            passes = nfa->states[state].kind == NFA_ASSERT_END    ? next == NEXT_END
                     : nfa->states[state].kind == NFA_ASSERT_WORD ? word
                                                                  : !word;
            if (passes) to[0] = nfa->states[state].n;
            break;
        case NFA_LOOK: {
            uint32_t look = nfa->states[state].first;
            if (!debt_add(&debt, b, debt, look, nfa->looks[look].starts[before])) return lang_nomem(b->w);
            if (debt != DEBT_DEAD) to[0] = nfa->states[state].n;
            break;
        }
        }
        for (int i = 1; i >= 0; i--) {
            uint32_t t;
            if (to[i] == LANG_NONE) continue;
            t = thread_of(b, to[i], debt);
            if (t == LANG_NONE || !lang_list_push(&b->stack, t)) return lang_nomem(b->w);
        }
    }
    return MLXR_OK;
}

static mlxr_status next_round(builder *b)
{
    if (b->round == UINT32_MAX) return lang_too_many_steps(b->w);
    b->round++;
    b->stack.n = 0;
    return MLXR_OK;
}

/* Whether all of one debt is in another. */
static bool debt_is_part(const builder *b, uint32_t a, uint32_t of)
{
    uint32_t n, m, j = 0;
    const uint32_t *v, *x;
    if (a == 0) return true;
    v = interned_get(&b->debts, a, &n);
    x = interned_get(&b->debts, of, &m);
    for (uint32_t i = 0; i < n; i += 2, j += 2) {
        while (j < m && (x[j] != v[i] || x[j + 1] != v[i + 1])) j += 2;
        if (j >= m) return false;
    }
    return true;
}

/* A thread that owes all that another one in the same place owes, and more, finds nothing that the other does not. set[0] is
 * no thread. */
static mlxr_status drop_needless(builder *b, lang_list *set)
{
    mlxr_status st;
    size_t kept = 1, n = set->n;
    uint32_t *chain, n_states = b->nfa->n_states;

    if (set->v[n - 1] < n_states) return MLXR_OK; /* sorted: none owes anything */
    if (!b->chain.n) {
        if (!lang_list_grow(&b->chain, (size_t)2 * n_states)) return lang_nomem(b->w);
        b->chain.n = (size_t)2 * n_states;
        memset(b->chain.v, 0, b->chain.n * sizeof *b->chain.v);
    }
    if (n > b->chain_next.cap && !lang_list_grow(&b->chain_next, n)) return lang_nomem(b->w);
    chain = b->chain.v;
    for (size_t i = 1; i < n; i++) {
        uint32_t state, debt;
        thread_parts(b, set->v[i], &state, &debt);
        b->chain_next.v[i] = chain[2 * state] == b->round ? chain[2 * state + 1] : 0;
        chain[2 * state] = b->round;
        chain[2 * state + 1] = (uint32_t)i;
    }
    b->before_drop.n = 0;
    if (n > b->before_drop.cap && !lang_list_grow(&b->before_drop, n)) return lang_nomem(b->w);
    memcpy(b->before_drop.v, set->v, n * sizeof *set->v);
    for (size_t i = 1; i < n; i++) {
        uint32_t state, debt, other_state, other_debt;
        bool needless = false;
        thread_parts(b, set->v[i], &state, &debt);
        for (uint32_t j = debt ? chain[2 * state + 1] : 0; j && !needless; j = b->chain_next.v[j]) {
            if (j == i) continue;
            if ((st = lang_steps(b->w, 1)) != MLXR_OK) return st;
            thread_parts(b, b->before_drop.v[j], &other_state, &other_debt);
            needless = debt_is_part(b, other_debt, debt);
        }
        if (!needless) set->v[kept++] = set->v[i];
    }
    set->n = kept;
    return MLXR_OK;
}

/* The state of out for the threads on the stack; LANG_NONE for no thread. */
static mlxr_status state_of(uint32_t *state, builder *b, unsigned before)
{
    mlxr_status st;
    lang_list *set = &b->set;
    bool is_new;
    uint32_t id;

    *state = LANG_NONE;
    set->n = 0;
    b->waiting = false;
    if (!lang_list_push(set, 0)) return lang_nomem(b->w);
    if ((st = close_over(b, set, before, NEXT_UNKNOWN)) != MLXR_OK) return st;
    if (set->n == 1) return MLXR_OK;
    lang_sort(set->v + 1, set->n - 1);
    if ((st = drop_needless(b, set)) != MLXR_OK) return st;
    for (size_t i = 1; i < set->n; i++)
        if (set->v[i] < b->nfa->n_states && b->nfa->states[set->v[i]].kind == NFA_ANY_END) {
            set->v[1] = set->v[i]; /* whatever follows is in: the others do not matter */
            set->n = 2;
            b->waiting = false;
            break;
        }
    set->v[0] = b->waiting ? before + 1 : 0;
    id = intern(&b->sets, set->v, set->n, &is_new);
    if (id == LANG_NONE) return lang_nomem(b->w);
    *state = id;
    if (!is_new) return MLXR_OK;
    return lang_raw_add(state, b->out, false, b->w);
}

static bool any_accepts(const builder *b, const uint32_t *set, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t state, debt;
        thread_parts(b, set[i], &state, &debt);
        if ((b->nfa->states[state].kind == NFA_FINAL || b->nfa->states[state].kind == NFA_ANY_END) &&
            debt_is_paid_at_end(b, debt))
            return true;
    }
    return false;
}

/* The threads of a set once it is known what follows: b->resolved. */
static mlxr_status resolve(builder *b, const uint32_t *set, size_t n, unsigned before, unsigned next)
{
    mlxr_status st;
    b->resolved.n = 0;
    if ((st = next_round(b)) != MLXR_OK) return st;
    for (size_t i = 0; i < n; i++)
        if (!lang_list_push(&b->stack, set[i])) return lang_nomem(b->w);
    return close_over(b, &b->resolved, before, next);
}

/* Moves of the threads on symbols of one kind (next; NEXT_UNKNOWN: on all): pairs of symbol and thread. */
static mlxr_status collect_moves(builder *b, const uint32_t *set, size_t n, unsigned next)
{
    const lang_nfa *nfa = b->nfa;
    static const lang_nfa_edge none = {1, 0, 0};
    mlxr_status st;

    for (size_t i = 0; i < n; i++) {
        uint32_t thread = set[i], state, debt, n_runs = 0, to = LANG_NONE;
        const lang_nfa_edge *runs = &none;
        lang_nfa_edge all = {0, (uint16_t)(nfa->n_symbols - 1), 0};
        thread_parts(b, thread, &state, &debt);
        switch ((lang_nfa_kind)nfa->states[state].kind) {
        case NFA_EDGES:
            runs = nfa->edges + nfa->states[state].first;
            n_runs = nfa->states[state].n;
            break;
        case NFA_LABEL:
            runs = nfa->labels[nfa->states[state].first].runs;
            n_runs = nfa->labels[nfa->states[state].first].n;
            to = nfa->states[state].n;
            break;
        case NFA_ANY_END:
            runs = &all;
            n_runs = 1;
            to = state;
            break;
        default: break;
        }
        for (uint32_t j = 0; j < n_runs; j++) {
            uint32_t width = (uint32_t)runs[j].last - runs[j].first + 1;
            if ((st = lang_steps(b->w, width)) != MLXR_OK) return st;
            for (uint32_t c = runs[j].first; c <= runs[j].last; c++) {
                uint32_t left = 0, t;
                if (next != NEXT_UNKNOWN &&
                    (nfa->is_word && nfa->is_word[c] ? NEXT_WORD : NEXT_OTHER) != next)
                    continue;
                if (debt) {
                    if (!debt_step(&left, b, debt, c)) return lang_nomem(b->w);
                    if (left == DEBT_DEAD) continue;
                }
                t = thread_of(b, to == LANG_NONE ? runs[j].to : to, left);
                if (t == LANG_NONE || !lang_list_push(&b->moves, c) || !lang_list_push(&b->moves, t))
                    return lang_nomem(b->w);
                b->count.v[c + 1]++;
            }
        }
    }
    return MLXR_OK;
}

/* Fills the row of a state. */
static mlxr_status expand(builder *b, uint32_t state)
{
    const lang_nfa *nfa = b->nfa;
    uint32_t k = nfa->n_symbols, n, *count = b->count.v, last_to = LANG_NONE, last_first = 0, last_n = 0;
    const uint32_t *set = interned_get(&b->sets, state, &n);
    unsigned before = set[0] ? set[0] - 1 : LANG_BEFORE_OTHER, last_before = 0;
    mlxr_status st;

    memset(count, 0, ((size_t)k + 1) * sizeof *count);
    b->moves.n = 0;
    if (set[0] == 0) {
        b->out->accepts[state] = any_accepts(b, set + 1, n - 1);
        if ((st = collect_moves(b, set + 1, n - 1, NEXT_UNKNOWN)) != MLXR_OK) return st;
    } else {
        if ((st = resolve(b, set + 1, n - 1, before, NEXT_END)) != MLXR_OK) return st;
        b->out->accepts[state] = any_accepts(b, b->resolved.v, b->resolved.n);
        for (unsigned next = NEXT_WORD; next <= NEXT_OTHER; next++) {
            if ((st = resolve(b, set + 1, n - 1, before, next)) != MLXR_OK) return st;
            if ((st = collect_moves(b, b->resolved.v, b->resolved.n, next)) != MLXR_OK) return st;
        }
    }
    /* By symbol. */
    if (b->moves.n / 2 > b->sorted.cap && !lang_list_grow(&b->sorted, b->moves.n / 2))
        return lang_nomem(b->w);
    for (uint32_t c = 0; c < k; c++) count[c + 1] += count[c];
    for (size_t i = 0; i < b->moves.n; i += 2) b->sorted.v[count[b->moves.v[i]]++] = b->moves.v[i + 1];
    for (uint32_t c = 0; c < k; c++) {
        uint32_t first = c ? count[c - 1] : 0, to, n_moves = count[c] - first;
        unsigned now = nfa->is_word && nfa->is_word[c] ? LANG_BEFORE_WORD : LANG_BEFORE_OTHER;
        if (n_moves == 0) continue;
        if (n_moves == last_n && now == last_before && /* as often: neighbours go the same way */
            memcmp(b->sorted.v + first, b->sorted.v + last_first, n_moves * sizeof *b->sorted.v) == 0) {
            to = last_to;
        } else {
            if ((st = next_round(b)) != MLXR_OK) return st;
            for (uint32_t i = 0; i < n_moves; i++)
                if (!lang_list_push(&b->stack, b->sorted.v[first + i])) return lang_nomem(b->w);
            if ((st = state_of(&to, b, now)) != MLXR_OK) return st;
        }
        last_to = to;
        last_first = first;
        last_n = n_moves;
        last_before = now;
        b->out->next[(size_t)state * k + c] = to;
    }
    return MLXR_OK;
}

mlxr_status lang_determinise(lang_raw *out, uint32_t *starts, const lang_nfa *nfa, const uint32_t *begin,
                             size_t n_begin, const uint8_t *before, size_t n_starts, lang_work *w)
{
    builder b = {.nfa = nfa, .w = w, .out = out};
    mlxr_status st = MLXR_E_NOMEM;
    bool is_new;

    *out = lang_raw_init(nfa->n_symbols);
    if (!lang_list_grow(&b.mark, nfa->n_states) || !lang_list_grow(&b.count, (size_t)nfa->n_symbols + 1) ||
        intern(&b.debts, NULL, 0, &is_new) != 0)
        goto done;
    memset(b.mark.v, 0, nfa->n_states * sizeof *b.mark.v);
    b.mark.n = nfa->n_states;
    for (size_t i = 0; i < n_starts; i++) {
        if ((st = next_round(&b)) != MLXR_OK) goto done;
        for (size_t j = 0; j < n_begin; j++)
            if (!lang_list_push(&b.stack, begin[j])) {
                st = MLXR_E_NOMEM;
                goto done;
            }
        if ((st = state_of(&starts[i], &b, before[i])) != MLXR_OK) goto done;
    }
    for (uint32_t s = 0; s < out->n; s++)
        if ((st = expand(&b, s)) != MLXR_OK) goto done;
    st = MLXR_OK;
done:
    interned_clear(&b.sets);
    interned_clear(&b.debts);
    lang_pairs_clear(&b.owing);
    free(b.mark.v);
    free(b.stack.v);
    free(b.set.v);
    free(b.resolved.v);
    free(b.moves.v);
    free(b.sorted.v);
    free(b.debt.v);
    free(b.count.v);
    free(b.steps.v);
    free(b.chain.v);
    free(b.chain_next.v);
    free(b.before_drop.v);
    if (st != MLXR_OK) lang_raw_clear(out);
    return st == MLXR_E_NOMEM ? lang_nomem(w) : st;
}
