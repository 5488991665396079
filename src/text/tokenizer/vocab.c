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

static uint32_t find_slot(const tok_vocab *v, const char *s, size_t n)
{
    uint32_t i = (uint32_t)tok_hash(s, n, v->seed) & v->mask;
    for (;;) {
        uint32_t e = v->slots[i];
        if (!e) return i;
        if (v->entries[e - 1].n == n && memcmp(v->bytes + v->entries[e - 1].at, s, n) == 0) return i;
        i = (i + 1) & v->mask;
    }
}

int32_t tok_vocab_id(const tok_vocab *v, const char *s, size_t n)
{
    uint32_t e;
    if (!v->n_entries) return -1;
    e = v->slots[find_slot(v, s, n)];
    return e ? (int32_t)v->entries[e - 1].id : -1;
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

mlxr_status tok_vocab_build(tok_vocab *v, mlxr_arena *arena, const tok_str *tokens, const uint32_t *ids,
                            size_t n, bool keep_duplicates, const char *what, mlxr_error *err)
{
    size_t n_bytes = 0, n_slots = 16, at = 0;
    uint32_t max_id = 0;
    char *bytes;
    tok_entry *entries;
    uint32_t *slots, *by_id;
    uint32_t n_entries = 0;

    if (n > UINT32_MAX / 8)
        return mlxr_fail(err, MLXR_E_LIMIT, "tokenizer: %s: %zu tokens are too many", what, n);
    for (size_t i = 0; i < n; i++) {
        if (!mlxr_add_size(&n_bytes, n_bytes, tokens[i].n + 1)) n_bytes = SIZE_MAX;
        if (ids[i] > max_id) max_id = ids[i];
    }
    if (n_bytes > UINT32_MAX)
        return mlxr_fail(err, MLXR_E_LIMIT, "tokenizer: %s: more than 4 GiB of tokens", what);
    if (n && max_id >= 4 * n + TOK_ID_SLACK)
        return mlxr_fail(err, MLXR_E_LIMIT, "tokenizer: %s: id %u is out of all proportion to %zu tokens",
                         what, (unsigned)max_id, n);
    while (n_slots < 2 * n) n_slots *= 2;
    bytes = mlxr_arena_alloc(arena, n_bytes + 1);
    entries = mlxr_arena_alloc(arena, (n + 1) * sizeof *entries);
    slots = mlxr_arena_calloc(arena, n_slots, sizeof *slots);
    by_id = mlxr_arena_calloc(arena, n ? (size_t)max_id + 1 : 1, sizeof *by_id);
    if (!bytes || !entries || !slots || !by_id) return mlxr_fail_nomem(err, "tokenizer: vocabulary");
    *v = (tok_vocab){.bytes = bytes,
                     .entries = entries,
                     .by_id = by_id,
                     .slots = slots,
                     .seed = (uint64_t)(uintptr_t)slots ^ mlxr_now_ns(),
                     .n_ids = n ? max_id + 1 : 0,
                     .mask = (uint32_t)n_slots - 1};
    for (size_t i = 0; i < n; i++) {
        uint32_t slot;
        memcpy(bytes + at, tokens[i].s, tokens[i].n);
        bytes[at + tokens[i].n] = '\0';
        entries[n_entries] = (tok_entry){(uint32_t)at, (uint32_t)tokens[i].n, ids[i]};
        slot = find_slot(v, bytes + at, tokens[i].n);
        if (slots[slot] && !keep_duplicates) { /* a key said again: the later id */
            tok_entry *e = &entries[slots[slot] - 1];
            if (by_id[e->id] == slots[slot]) by_id[e->id] = 0;
            e->id = ids[i];
            by_id[ids[i]] = slots[slot];
            continue;
        }
        slots[slot] = n_entries + 1;
        by_id[ids[i]] = n_entries + 1;
        at += tokens[i].n + 1;
        n_entries++;
    }
    v->n_entries = n_entries;
    v->n_bytes = at;
    return MLXR_OK;
}
