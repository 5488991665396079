/* From a text to the model's ids: the pipeline, the scratch that a call works in, and the word cache.
 *
 * The cache belongs to the scratch and so to one thread at a time; a word's ids do not depend on anything but
 * the word, so it changes no result. Two ways each: the newer entry first. */
#include <stdatomic.h>
#include <stdlib.h>

#include "text/tokenizer/tokenizer.h"

enum { CACHE_FROM_BYTES = 64 }; /* shorter texts are not worth its pages */

bool tok_ids_grow(tok_ids *ids, const uint32_t *src, size_t n)
{
    if (ids->n + n > ids->cap) {
        size_t cap = ids->cap ? 2 * ids->cap : 64;
        uint32_t *data;
        while (cap < ids->n + n) cap *= 2;
        data = mlxr_realloc_array(ids->data, cap, sizeof *data);
        if (!data) return false;
        ids->data = data;
        ids->cap = cap;
    }
    if (n == 1)
        ids->data[ids->n] = src[0];
    else if (n)
        memcpy(ids->data + ids->n, src, n * sizeof *src);
    ids->n += n;
    return true;
}

/* ---- scratch ---- */

void tok_scratch_free(tok_scratch *sc)
{
    if (!sc) return;
    for (size_t i = 0; i < MLXR_COUNT(sc->norm); i++) mlxr_buf_clear(&sc->norm[i]);
    for (size_t i = 0; i < sc->n_stages; i++) {
        mlxr_buf_clear(&sc->stage[i]);
        tok_matches_clear(&sc->matches[i]);
    }
    tok_matches_clear(&sc->norm_matches);
    mlxr_buf_clear(&sc->word);
    free(sc->stage);
    free(sc->matches);
    free(sc->ids.data);
    free(sc->start.data);
    free(sc->first.data);
    free(sc->front);
    free(sc->symbols);
    free(sc->heap);
    free(sc->lattice);
    free(sc->cache_short);
    free(sc->cache_long);
    free(sc);
}

static tok_scratch *scratch_new(const mlxr_tokenizer *tok)
{
    tok_scratch *sc = calloc(1, sizeof *sc);
    size_t n = tok_pretokenizer_n_stages(tok->pretokenizer);
    if (!sc) return NULL;
    sc->stage = mlxr_calloc_array(n, sizeof *sc->stage);
    sc->matches = mlxr_calloc_array(n, sizeof *sc->matches);
    if (tok->model.type == TOK_BPE) {
        sc->front = mlxr_malloc_array((size_t)1 << TOK_FRONT_BITS, sizeof *sc->front);
        if (sc->front) memset(sc->front, 0xff, sizeof *sc->front << TOK_FRONT_BITS);
    }
    if (!sc->stage || !sc->matches || (tok->model.type == TOK_BPE && !sc->front)) {
        tok_scratch_free(sc);
        return NULL;
    }
    sc->n_stages = n;
    return sc;
}

/* The tokenizer is const for its callers, its slots of idle scratches are not. */
static struct tok_scratch *_Atomic *slots_of(const mlxr_tokenizer *tok)
{
    return ((mlxr_tokenizer *)(uintptr_t)tok)->scratch;
}

tok_scratch *tok_scratch_take(const mlxr_tokenizer *tok, size_t n_text)
{
    struct tok_scratch *_Atomic *slots = slots_of(tok);
    tok_scratch *sc = NULL;

    for (size_t i = 0; i < TOK_N_SCRATCH && !sc; i++) sc = atomic_exchange(&slots[i], NULL);
    if (!sc) sc = scratch_new(tok);
    if (!sc) return NULL;
    if (n_text >= CACHE_FROM_BYTES && !sc->cache_short) { /* without them everything works, slower */
        sc->cache_short = mlxr_calloc_array((size_t)1 << TOK_CACHE_SHORT_BITS, sizeof *sc->cache_short);
        sc->cache_long = mlxr_calloc_array((size_t)1 << TOK_CACHE_LONG_BITS, sizeof *sc->cache_long);
        if (!sc->cache_short || !sc->cache_long) {
            free(sc->cache_short);
            free(sc->cache_long);
            sc->cache_short = NULL;
            sc->cache_long = NULL;
        }
    }
    sc->ids.n = sc->first.n = 0;
    return sc;
}

/* What one huge text made grow is given back to the system. */
static void trim(tok_scratch *sc)
{
    const size_t most = (size_t)1 << 20;
    for (size_t i = 0; i < MLXR_COUNT(sc->norm); i++)
        if (sc->norm[i].cap > most) mlxr_buf_clear(&sc->norm[i]);
    for (size_t i = 0; i < sc->n_stages; i++)
        if (sc->stage[i].cap > most) mlxr_buf_clear(&sc->stage[i]);
    if (sc->ids.cap > most) {
        free(sc->ids.data);
        sc->ids = (tok_ids){0};
    }
    if (sc->start.cap > most) {
        free(sc->start.data);
        sc->start = (tok_ids){0};
    }
    if (sc->cap_symbols > most) {
        free(sc->symbols);
        free(sc->heap);
        sc->symbols = NULL;
        sc->heap = NULL;
        sc->cap_symbols = sc->cap_heap = 0;
    }
    if (sc->cap_lattice > most) {
        free(sc->lattice);
        sc->lattice = NULL;
        sc->cap_lattice = 0;
    }
}

void tok_scratch_give(const mlxr_tokenizer *tok, tok_scratch *sc)
{
    struct tok_scratch *_Atomic *slots = slots_of(tok);
    if (!sc) return;
    trim(sc);
    sc->word.failed = false;
    for (size_t i = 0; i < TOK_N_SCRATCH; i++) {
        tok_scratch *empty = NULL;
        if (atomic_compare_exchange_strong(&slots[i], &empty, sc)) return;
    }
    tok_scratch_free(sc);
}

/* ---- words ---- */

static mlxr_status model_word(const tok_model *m, tok_scratch *sc, const char *s, size_t n, mlxr_error *err)
{
    switch (m->type) {
    case TOK_BPE: return tok_bpe_word(m, sc, s, n, err);
    case TOK_UNIGRAM: return tok_unigram_word(m, sc, s, n, err);
    case TOK_WORDPIECE: return tok_wordpiece_word(m, sc, s, n, err);
    default: return tok_wordlevel_word(m, sc, s, n, err);
    }
}

/* 1 to 15 bytes as two numbers, the length in the last byte. */
static inline void short_key(uint64_t key[2], const char *s, size_t n)
{
    uint64_t a = 0, b = 0;
    if (n >= 8) {
        memcpy(&a, s, 8);
        if (n > 8) {
            memcpy(&b, s + n - 8, 8);
            b >>= 8 * (16 - n);
        }
    } else if (n >= 4) {
        uint32_t lo, hi;
        memcpy(&lo, s, 4);
        memcpy(&hi, s + n - 4, 4);
        a = lo | (uint64_t)hi << 8 * (n - 4);
    } else {
        a = (unsigned char)s[0] | (uint64_t)(unsigned char)s[n / 2] << 8 * (n / 2) |
            (uint64_t)(unsigned char)s[n - 1] << 8 * (n - 1);
    }
    key[0] = a;
    key[1] = b | (uint64_t)n << 56;
}

static inline size_t key_slot(const uint64_t key[2], unsigned bits)
{
    uint64_t h = (key[0] ^ 0x9e3779b97f4a7c15u) * 0xd6e8feb86659fd93u;
    h = (h ^ h >> 32 ^ key[1]) * 0xe7037ed1a0b428dbu;
    return (size_t)(h >> (64 - bits)) & ~(size_t)1;
}

static mlxr_status long_word(const tok_model *m, tok_scratch *sc, const char *s, size_t n, mlxr_error *err)
{
    size_t n_ids = sc->ids.n, n_new;
    tok_cache_long *e;
    char key[TOK_CACHE_LONG_BYTES + 1] = {0};
    mlxr_status st;

    if (n > TOK_CACHE_LONG_BYTES) return model_word(m, sc, s, n, err);
    memcpy(key, s, n);
    key[TOK_CACHE_LONG_BYTES] = (char)n;
    e = sc->cache_long + (tok_hash(s, n, 0x5bd1e995u) & (((size_t)1 << TOK_CACHE_LONG_BITS) - 2));
    for (int way = 0; way < 2; way++)
        if (memcmp(e[way].key, key, sizeof key) == 0)
            return tok_ids_append(&sc->ids, e[way].ids, e[way].n) ? MLXR_OK
                                                                  : mlxr_fail_nomem(err, "tokenizer: ids");
    if ((st = model_word(m, sc, s, n, err)) != MLXR_OK) return st;
    n_new = sc->ids.n - n_ids;
    if (n_new <= TOK_CACHE_LONG_IDS) {
        e[1] = e[0];
        memcpy(e[0].key, key, sizeof key);
        e[0].n = (uint32_t)n_new;
        if (n_new) memcpy(e[0].ids, sc->ids.data + n_ids, n_new * sizeof *e[0].ids);
    }
    return MLXR_OK;
}

static inline mlxr_status cached_word(const tok_model *m, tok_scratch *sc, const char *s, size_t n,
                                      mlxr_error *err)
{
    size_t n_ids = sc->ids.n, n_new;
    tok_cache_short *e;
    uint64_t key[2];
    mlxr_status st;

    if (!sc->cache_short) return model_word(m, sc, s, n, err);
    if (n > 15) return long_word(m, sc, s, n, err);
    short_key(key, s, n);
    e = sc->cache_short + key_slot(key, TOK_CACHE_SHORT_BITS);
    for (int way = 0; way < 2; way++) {
        if (e[way].key[0] == key[0] && e[way].key[1] == key[1]) {
            if (sc->ids.cap - n_ids < 3) {
                return tok_ids_append(&sc->ids, e[way].ids, e[way].n)
                           ? MLXR_OK
                           : mlxr_fail_nomem(err, "tokenizer: ids");
            }
            memcpy(sc->ids.data + n_ids, e[way].ids, 3 * sizeof *e[way].ids);
            sc->ids.n = n_ids + e[way].n;
            return MLXR_OK;
        }
    }
    if ((st = model_word(m, sc, s, n, err)) != MLXR_OK) return st;
    n_new = sc->ids.n - n_ids;
    if (n_new <= 3) {
        e[1] = e[0];
        e[0].key[0] = key[0];
        e[0].key[1] = key[1];
        e[0].n = (uint32_t)n_new;
        if (n_new) memcpy(e[0].ids, sc->ids.data + n_ids, n_new * sizeof *e[0].ids);
    }
    return MLXR_OK;
}

mlxr_status tok_model_word(const tok_model *m, tok_scratch *sc, const char *s, size_t n, mlxr_error *err)
{
    if (m->type == TOK_BPE && m->bpe.can_cut) {
        while (n) {
            size_t k = tok_bpe_cut(&m->bpe, s, n);
            mlxr_status st = cached_word(m, sc, s, k, err);
            if (st != MLXR_OK) return st;
            s += k;
            n -= k;
        }
        return MLXR_OK;
    }
    return cached_word(m, sc, s, n, err);
}

/* ---- the pipeline ---- */

typedef struct encoding {
    const mlxr_tokenizer *tok;
    tok_scratch *sc;
} encoding;

static mlxr_status emit_word(void *ud, const char *s, size_t n, mlxr_error *err)
{
    const encoding *e = ud;
    return tok_model_word(&e->tok->model, e->sc, s, n, err);
}

static mlxr_status added_token(encoding *e, int32_t id, mlxr_error *err)
{
    uint32_t u = (uint32_t)id;
    return tok_ids_append(&e->sc->ids, &u, 1) ? MLXR_OK : mlxr_fail_nomem(err, "tokenizer: ids");
}

static mlxr_status encode_piece(encoding *e, tok_piece piece, mlxr_error *err)
{
    const mlxr_tokenizer *tok = e->tok;
    tok_find find;
    tok_piece p;
    mlxr_status st = MLXR_OK;

    if (tok->normalizer && (st = tok_normalize(tok->normalizer, e->sc, &piece, err)) != MLXR_OK) return st;
    tok_find_begin(&find, &tok->added.normalized, piece);
    while (st == MLXR_OK && tok_find_next(&find, &p)) {
        if (p.id >= 0)
            st = added_token(e, p.id, err);
        else if (tok->pretokenizer)
            st = tok_pretokenize(tok->pretokenizer, e->sc, p, emit_word, e, err);
        else if (p.n)
            st = emit_word(e, p.s, p.n, err);
    }
    return st;
}

mlxr_status tok_encode_text(const mlxr_tokenizer *tok, tok_scratch *sc, const char *text, size_t n,
                            mlxr_error *err)
{
    encoding e = {.tok = tok, .sc = sc};
    tok_find find;
    tok_piece p;
    mlxr_status st = MLXR_OK;

    sc->ids.n = 0;
    tok_find_begin(&find, &tok->added.plain, (tok_piece){.s = text, .n = n, .id = -1});
    while (st == MLXR_OK && tok_find_next(&find, &p)) {
        if (p.id >= 0) {
            st = added_token(&e, p.id, err);
        } else {
            p.zero = p.s == text ? tok_char_len(text) : 0; /* what goes back to the text's first character */
            st = encode_piece(&e, p, err);
        }
    }
    return st;
}
