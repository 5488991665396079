/* pieces: the automata that a grammar makes for itself: characters of JSON strings (RFC 8259 in UTF-8, RFC 3629), and texts
 * without or up to certain words (Aho and Corasick, 1975). */
#include <stdlib.h>

#include "engine/grammar/machine.h"

/* ---- characters of a JSON string ---- */

enum {
    C_BETWEEN,
    C_ESCAPE, /* behind a backslash */
    C_HEX4,   /* behind \u */
    C_HEX3,   /* so many digits of any kind to come */
    C_HEX2,
    C_HEX1,
    C_HEX_D, /* behind \ud */
    C_HIGH2, /* inside of a high surrogate */
    C_HIGH1,
    C_LOW, /* behind it: the low one has to come */
    C_LOW_U,
    C_LOW_D,
    C_LOW_CDEF,
    C_MORE1, /* so many bytes of a character to come */
    C_MORE2,
    C_MORE_E0, /* behind this byte */
    C_MORE_ED,
    C_MORE_F0,
    C_MORE_F4,
    C_MORE3 /* behind 0xf1 to 0xf3 */
};
_Static_assert(C_MORE3 + 1 == GM_CHARS_STATES, "the header says how many there are");

static bool is_hex(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

uint8_t gm_chars_step(uint8_t state, uint8_t c)
{
    uint8_t lower = c | 0x20;
    switch (state) {
    case C_BETWEEN:
        if (c < 0x20 || c == '"') return GM_CHARS_DEAD;
        if (c == '\\') return C_ESCAPE;
        if (c < 0x80) return C_BETWEEN;
        if (c < 0xc2) return GM_CHARS_DEAD;
        if (c < 0xe0) return C_MORE1;
        if (c == 0xe0) return C_MORE_E0;
        if (c == 0xed) return C_MORE_ED;
        if (c < 0xf0) return C_MORE2;
        if (c == 0xf0) return C_MORE_F0;
        if (c < 0xf4) return C_MORE3;
        return c == 0xf4 ? C_MORE_F4 : GM_CHARS_DEAD;
    case C_ESCAPE:
        if (c == 'u') return C_HEX4;
        return c && strchr("\"\\/bfnrt", c) ? C_BETWEEN : GM_CHARS_DEAD;
    case C_HEX4: return !is_hex(c) ? GM_CHARS_DEAD : lower == 'd' ? C_HEX_D : C_HEX3;
    case C_HEX3: return is_hex(c) ? C_HEX2 : GM_CHARS_DEAD;
    case C_HEX2: return is_hex(c) ? C_HEX1 : GM_CHARS_DEAD;
    case C_HEX1: return is_hex(c) ? C_BETWEEN : GM_CHARS_DEAD;
    case C_HEX_D:
        if (c >= '0' && c <= '7') return C_HEX2;
        return c == '8' || c == '9' || lower == 'a' || lower == 'b' ? C_HIGH2 : GM_CHARS_DEAD;
    case C_HIGH2: return is_hex(c) ? C_HIGH1 : GM_CHARS_DEAD;
    case C_HIGH1: return is_hex(c) ? C_LOW : GM_CHARS_DEAD;
    case C_LOW: return c == '\\' ? C_LOW_U : GM_CHARS_DEAD;
    case C_LOW_U: return c == 'u' ? C_LOW_D : GM_CHARS_DEAD;
    case C_LOW_D: return lower == 'd' ? C_LOW_CDEF : GM_CHARS_DEAD;
    case C_LOW_CDEF: return lower >= 'c' && lower <= 'f' ? C_HEX2 : GM_CHARS_DEAD;
    case C_MORE1: return (c & 0xc0) == 0x80 ? C_BETWEEN : GM_CHARS_DEAD;
    case C_MORE2: return (c & 0xc0) == 0x80 ? C_MORE1 : GM_CHARS_DEAD;
    case C_MORE3: return (c & 0xc0) == 0x80 ? C_MORE2 : GM_CHARS_DEAD;
    case C_MORE_E0: return c >= 0xa0 && c <= 0xbf ? C_MORE1 : GM_CHARS_DEAD;
    case C_MORE_ED: return c >= 0x80 && c <= 0x9f ? C_MORE1 : GM_CHARS_DEAD;
    case C_MORE_F0: return c >= 0x90 && c <= 0xbf ? C_MORE2 : GM_CHARS_DEAD;
    case C_MORE_F4: return c >= 0x80 && c <= 0x8f ? C_MORE2 : GM_CHARS_DEAD;
    default: return GM_CHARS_DEAD;
    }
}

/* ---- making an mlxr_dfa that is not counted ---- */

void gm_dfa_free_own(mlxr_dfa *d)
{
    if (!d) return;
    free(d->next);
    free(d->accepts);
    free(d);
}

/* All states dead, no classes joined yet: next is [n_states, 256] until own_finish. */
static mlxr_dfa *own_create(size_t n_states)
{
    mlxr_dfa *d = calloc(1, sizeof *d);
    if (!d) return NULL;
    d->n_states = (uint32_t)n_states;
    d->n_classes = 256;
    d->next = mlxr_malloc_array(n_states, 256 * sizeof *d->next);
    d->accepts = calloc(n_states, 1);
    d->n_refs = 1;
    if (!d->next || !d->accepts) {
        gm_dfa_free_own(d);
        return NULL;
    }
    memset(d->next, 0xff, n_states * 256 * sizeof *d->next);
    for (unsigned i = 0; i < 256; i++) d->class_of[i] = (uint8_t)i;
    return d;
}

static bool same_column(const mlxr_dfa *d, unsigned a, unsigned b)
{
    for (size_t s = 0; s < d->n_states; s++)
        if (d->next[s * 256 + a] != d->next[s * 256 + b]) return false;
    return true;
}

/* Joins the bytes that no state tells apart, and hashes. */
static void own_finish(mlxr_dfa *d)
{
    uint8_t byte_of[256];
    unsigned n = 0, c;
    for (unsigned b = 0; b < 256; b++) {
        for (c = 0; c < n && !same_column(d, b, byte_of[c]); c++) {
        }
        if (c == n) byte_of[n++] = (uint8_t)b;
        d->class_of[b] = (uint8_t)c;
    }
    for (size_t s = 0; s < d->n_states; s++)
        for (c = 0; c < n; c++) d->next[s * n + c] = d->next[s * 256 + byte_of[c]];
    d->n_classes = n;
    d->hash = mlxr_hash_bytes(d->class_of, 256, 0x6f776e);
    d->hash = mlxr_hash_bytes(d->next, (size_t)d->n_states * n * sizeof *d->next, d->hash);
    d->hash = mlxr_hash_bytes(d->accepts, d->n_states, d->hash);
}

bool gm_chars_any(mlxr_dfa **out)
{
    mlxr_dfa *d = own_create(GM_CHARS_STATES);
    *out = d;
    if (!d) return false;
    for (unsigned s = 0; s < GM_CHARS_STATES; s++)
        for (unsigned b = 0; b < 256; b++) {
            uint8_t to = gm_chars_step((uint8_t)s, (uint8_t)b);
            if (to != GM_CHARS_DEAD) d->next[s * 256 + b] = to;
        }
    d->accepts[0] = 1;
    own_finish(d);
    return true;
}

/* ---- searching ---- */

/* The words' trie with Aho and Corasick's links: a state is how much of a word the text so far ends with. */
mlxr_status gm_search(mlxr_dfa **out, const char *const *texts, size_t n, bool until, size_t max_states,
                      mlxr_error *err)
{
    size_t total = 1, n_states = 1, head = 0, tail = 0;
    mlxr_dfa *d = NULL;
    uint32_t *link = NULL, *queue = NULL;
    uint8_t *hit = NULL;
    mlxr_status st = MLXR_OK;

    *out = NULL;
    for (size_t i = 0; i < n; i++)
        if (!mlxr_add_size(&total, total, strlen(texts[i])) || total > max_states)
            return mlxr_fail(err, MLXR_E_LIMIT, "grammar: words to search for need more than %zu states",
                             max_states);
    d = own_create(total + 1);
    link = mlxr_calloc_array(total + 1, sizeof *link);
    queue = mlxr_calloc_array(total + 1, sizeof *queue);
    hit = calloc(total + 1, 1);
    if (!d || !link || !queue || !hit) {
        st = mlxr_fail_nomem(err, "grammar");
        goto done;
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t s = 0;
        for (const char *p = texts[i]; *p; p++) {
            uint32_t *to = &d->next[(size_t)s * 256 + (uint8_t)*p];
            if (*to == MLXR_DFA_NONE) *to = (uint32_t)n_states++;
            s = *to;
        }
        hit[s] = 1;
    }
    queue[tail++] = 0;
    while (head < tail) {
        uint32_t s = queue[head++];
        if (s && hit[link[s]]) hit[s] = 1;
        for (unsigned b = 0; b < 256; b++) {
            uint32_t *to = &d->next[(size_t)s * 256 + b];
            uint32_t back = s ? d->next[(size_t)link[s] * 256 + b] : 0;
            if (*to == MLXR_DFA_NONE) {
                *to = back;
            } else {
                link[*to] = back;
                queue[tail++] = *to;
            }
        }
    }
    /* States of a hit: until has one end for all of them, otherwise they are no states at all. Behind the first word of
     * a shorter one that is part of it, nothing is reached any more. */
    if (until) {
        for (size_t s = 0; s < n_states; s++)
            for (unsigned b = 0; b < 256; b++) {
                uint32_t *to = &d->next[s * 256 + b];
                if (hit[s])
                    *to = MLXR_DFA_NONE;
                else if (hit[*to])
                    *to = (uint32_t)n_states;
            }
        d->accepts[n_states] = 1;
    }
    {
        /* Only what can be reached, in the order it is. */
        uint32_t *number = link;
        memset(number, 0xff, (total + 1) * sizeof *number);
        head = tail = 0;
        if (until ? n > 0 : !hit[0]) {
            number[0] = 0;
            queue[tail++] = 0;
            if (hit[0]) d->accepts[0] = 1; /* the empty word: at once */
        }
        while (head < tail) {
            uint32_t s = queue[head++];
            for (unsigned b = 0; b < 256; b++) {
                uint32_t to = d->next[(size_t)s * 256 + b];
                if (to == MLXR_DFA_NONE || (!until && hit[to])) continue;
                if (number[to] != UINT32_MAX) continue;
                number[to] = (uint32_t)tail;
                queue[tail++] = to;
            }
        }
        if (tail) {
            mlxr_dfa *small = own_create(tail);
            if (!small) {
                st = mlxr_fail_nomem(err, "grammar");
                goto done;
            }
            for (size_t i = 0; i < tail; i++) {
                uint32_t s = queue[i];
                small->accepts[i] = until ? d->accepts[s] : 1;
                for (unsigned b = 0; b < 256; b++) {
                    uint32_t to = d->next[(size_t)s * 256 + b];
                    if (to != MLXR_DFA_NONE) small->next[i * 256 + b] = number[to];
                }
            }
            gm_dfa_free_own(d);
            d = small;
        } else {
            d->n_states = 0;
        }
    }
    own_finish(d);
    *out = d;
    d = NULL;
done:
    gm_dfa_free_own(d);
    free(link);
    free(queue);
    free(hit);
    return st;
}
