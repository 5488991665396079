/* The vocabulary's flat arrays and their hash table. */
#include <stdlib.h>

#include "text/tokenizer/tokenizer.h"

static inline uint64_t mum(uint64_t a, uint64_t b)
{
    unsigned __int128 r = (unsigned __int128)a * b;
    return (uint64_t)r ^ (uint64_t)(r >> 64);
}

static inline uint64_t load(const char *s, size_t n) /* n < 8 */
{
    uint64_t v = 0;
    memcpy(&v, s, n);
    return v;
}

/* Folded multiplication, eight bytes at a time; the seed keeps a file from choosing collisions. */
uint64_t tok_hash(const char *s, size_t n, uint64_t seed)
{
    uint64_t h = seed ^ (n * 0x9e3779b97f4a7c15u), w;
    for (; n >= 8; s += 8, n -= 8) {
        memcpy(&w, s, 8);
        h = mum(h ^ w, 0xa0761d6478bd642fu);
    }
    if (n) h = mum(h ^ load(s, n), 0xe7037ed1a0b428dbu);
    return mum(h ^ seed, 0x8ebc6af09c88c6e3u);
}

static inline bool is_record(const tok_vocab *v, uint32_t at, const char *s, size_t n)
{
    return tok_record_n(v, at) == n && memcmp(v->bytes + at, s, n) == 0;
}

/* The slot of s, or the free one where it would go. */
static inline uint32_t find_slot(const tok_vocab *v, const char *s, size_t n, uint64_t hash)
{
    uint32_t i = (uint32_t)hash & v->mask;
    for (;; i = (i + 1) & v->mask) {
        uint64_t slot = v->slots[i];
        if (!slot || (slot >> 32 == hash >> 32 && is_record(v, (uint32_t)slot, s, n))) return i;
    }
}

int32_t tok_vocab_id2(const tok_vocab *v, tok_str a, tok_str b)
{
    char small[256], *joined = small;
    int32_t id;
    if (a.n + b.n > sizeof small && (joined = malloc(a.n + b.n)) == NULL) return -1;
    memcpy(joined, a.s, a.n);
    memcpy(joined + a.n, b.s, b.n);
    id = tok_vocab_id(v, joined, a.n + b.n);
    if (joined != small) free(joined);
    return id;
}

int32_t tok_vocab_id(const tok_vocab *v, const char *s, size_t n)
{
    uint64_t slot;
    if (!v->n_tokens) return -1;
    slot = v->slots[find_slot(v, s, n, tok_hash(s, n, v->seed))];
    return slot ? (int32_t)tok_record_id(v, (uint32_t)slot) : -1;
}

void tok_vocab_lookup_many(const tok_vocab *v, tok_lookup *l, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        l[k].hash = tok_hash(l[k].s.s, l[k].s.n, v->seed);
        __builtin_prefetch(&v->slots[(uint32_t)l[k].hash & v->mask]);
    }
    for (size_t k = 0; k < n; k++) { /* the first slot with the hash's upper half is nearly always the one */
        uint32_t i = (uint32_t)l[k].hash & v->mask;
        while (v->slots[i] && v->slots[i] >> 32 != l[k].hash >> 32) i = (i + 1) & v->mask;
        l[k].id = (int32_t)i;
        if (v->slots[i]) __builtin_prefetch(v->bytes + (uint32_t)v->slots[i] - 8);
    }
    for (size_t k = 0; k < n; k++) {
        uint32_t i = (uint32_t)l[k].id;
        if (v->slots[i] && !is_record(v, (uint32_t)v->slots[i], l[k].s.s, l[k].s.n))
            i = find_slot(v, l[k].s.s, l[k].s.n, l[k].hash);
        l[k].id = v->slots[i] ? (int32_t)tok_record_id(v, (uint32_t)v->slots[i]) : -1;
    }
}

mlxr_status tok_vocab_build(tok_vocab *v, mlxr_arena *arena, const tok_str *tokens, const uint32_t *ids,
                            size_t n, bool keep_duplicates, const char *what, mlxr_error *err)
{
    enum { BLOCK = 32 };
    size_t n_bytes = 8, n_slots = 16, at = 8;
    uint32_t max_id = 0;
    char *bytes;
    uint32_t *by_id;
    uint64_t *slots;

    if (n > UINT32_MAX / 8)
        return mlxr_fail(err, MLXR_E_LIMIT, "tokenizer: %s: %zu tokens are too many", what, n);
    for (size_t i = 0; i < n; i++) {
        if (tokens[i].n > UINT32_MAX || !mlxr_add_size(&n_bytes, n_bytes, tokens[i].n + 16))
            n_bytes = SIZE_MAX;
        if (ids[i] > max_id) max_id = ids[i];
    }
    if (n_bytes > UINT32_MAX)
        return mlxr_fail(err, MLXR_E_LIMIT, "tokenizer: %s: more than 4 GiB of tokens", what);
    if (n && max_id >= 4 * n + TOK_ID_SLACK)
        return mlxr_fail(err, MLXR_E_LIMIT, "tokenizer: %s: id %u is out of all proportion to %zu tokens",
                         what, (unsigned)max_id, n);
    while (n_slots < 2 * n) n_slots *= 2;
    bytes = mlxr_arena_alloc(arena, n_bytes);
    slots = mlxr_arena_calloc(arena, n_slots, sizeof *slots);
    by_id = mlxr_arena_calloc(arena, n ? (size_t)max_id + 1 : 1, sizeof *by_id);
    if (!bytes || !slots || !by_id) return mlxr_fail_nomem(err, "tokenizer: vocabulary");
    memset(bytes, 0, 8);
    *v = (tok_vocab){.bytes = bytes,
                     .by_id = by_id,
                     .slots = slots,
                     .seed = (uint64_t)(uintptr_t)slots ^ mlxr_now_ns(),
                     .n_ids = n ? max_id + 1 : 0,
                     .mask = (uint32_t)n_slots - 1};
    for (size_t i = 0; i < n; i += BLOCK) {
        uint64_t hash[BLOCK];
        for (size_t k = 0; k < BLOCK && i + k < n; k++) {
            hash[k] = tok_hash(tokens[i + k].s, tokens[i + k].n, v->seed);
            __builtin_prefetch(&slots[(uint32_t)hash[k] & v->mask], 1);
        }
        for (size_t k = 0; k < BLOCK && i + k < n; k++) {
            tok_str t = tokens[i + k];
            uint32_t slot = find_slot(v, t.s, t.n, hash[k]), n_token = (uint32_t)t.n;
            if (slots[slot] && !keep_duplicates) { /* a key said again: the later id */
                uint32_t old = (uint32_t)slots[slot], old_id = tok_record_id(v, old);
                if (by_id[old_id] == old) by_id[old_id] = 0;
                memcpy(bytes + old - 8, &ids[i + k], 4);
                by_id[ids[i + k]] = old;
                continue;
            }
            v->n_tokens += !slots[slot];
            at += 8;
            memcpy(bytes + at - 8, &ids[i + k], 4);
            memcpy(bytes + at - 4, &n_token, 4);
            memcpy(bytes + at, t.s, t.n);
            memset(bytes + at + t.n, 0, 4 - (t.n & 3));
            slots[slot] = (hash[k] & 0xffffffff00000000u) | at;
            by_id[ids[i + k]] = (uint32_t)at;
            at += (t.n & ~(size_t)3) + 4;
        }
    }
    v->n_bytes = at;
    return MLXR_OK;
}
