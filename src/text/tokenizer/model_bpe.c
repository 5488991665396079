/* Byte-pair encoding.
 *
 * A word's characters (or bytes) become symbols; then, again and again, the pair of the lowest rank is merged,
 * the leftmost of equals. Short words look for it in a small array, long ones in a heap. Where the model makes
 * it certain that no merge ever joins two characters, a text is cut between them, so that its pieces are short
 * and can be found in the word cache; see tok_bpe.joins. */
#include <stdlib.h>

#include "text/tokenizer/config.h"

static inline uint64_t mix(uint64_t key, uint64_t seed)
{
    unsigned __int128 r = (unsigned __int128)(key ^ seed) * 0x9e3779b97f4a7c15u;
    return (uint64_t)r ^ (uint64_t)(r >> 64);
}

static const tok_merge *find_merge(const tok_bpe *b, uint64_t key)
{
    uint32_t i = (uint32_t)mix(key, b->seed) & b->merge_mask;
    for (;; i = (i + 1) & b->merge_mask) {
        if (b->merges[i].key == key) return &b->merges[i];
        if (b->merges[i].key == UINT64_MAX) return NULL;
    }
}

/* The merge of a pair, of rank UINT32_MAX if there is none. The table is larger than the processor's caches and
 * most pairs of a text are few: a small copy of what was asked for last stands before it. */
static inline tok_merge look_up(const tok_bpe *b, tok_merge *front, uint32_t left, uint32_t right)
{
    uint64_t key = (uint64_t)left << 32 | right;
    tok_merge *e = &front[(key ^ key >> 29) * 0x9e3779b97f4a7c15u >> (64 - TOK_FRONT_BITS)];
    if (e->key != key) {
        const tok_merge *m = find_merge(b, key);
        *e = (tok_merge){key, m ? m->rank : UINT32_MAX, m ? m->id : 0};
    }
    return *e;
}

/* ---- building ---- */

/* What merge i makes of its pair of looked-up tokens. Files list merges by what they make, in the vocabulary's
 * order: the token made last, or the one after it, is tried before searching. */
static mlxr_status made_of(const tok_model *m, size_t i, const tok_lookup pair[2], uint32_t *last,
                           uint32_t *out, const char *file, mlxr_error *err)
{
    const tok_str l = pair[0].s, r = pair[1].s, missing = pair[0].id < 0 ? l : r;
    size_t n_prefix = m->bpe.prefix.n;
    tok_str tail;
    int32_t id;

    if (pair[0].id < 0 || pair[1].id < 0)
        return mlxr_fail(err, MLXR_E_FORMAT,
                         "tokenizer: %s: model.merges[%zu]: \"%.*s\" is not in the vocabulary", file, i,
                         missing.n < 100 ? (int)missing.n : 100, missing.s);
    if (r.n < n_prefix)
        return mlxr_fail(
            err, MLXR_E_FORMAT,
            "tokenizer: %s: model.merges[%zu]: \"%.*s\" is shorter than continuing_subword_prefix", file, i,
            r.n < 100 ? (int)r.n : 100, r.s);
    tail = (tok_str){r.s + n_prefix, r.n - n_prefix};
    for (uint32_t guess = *last; guess < *last + 2; guess++) {
        tok_str t = tok_vocab_token(&m->vocab, guess);
        if (t.n == l.n + tail.n && t.s && memcmp(t.s, l.s, l.n) == 0 &&
            memcmp(t.s + l.n, tail.s, tail.n) == 0) {
            *out = *last = guess;
            return MLXR_OK;
        }
    }
    id = tok_vocab_id2(&m->vocab, l, tail);
    if (id < 0)
        return mlxr_fail(err, MLXR_E_FORMAT,
                         "tokenizer: %s: model.merges[%zu]: \"%.*s%.*s\" is not in the vocabulary", file, i,
                         l.n < 100 ? (int)l.n : 100, l.s, tail.n < 100 ? (int)tail.n : 100, tail.s);
    *out = *last = (uint32_t)id;
    return MLXR_OK;
}

static mlxr_status build_merges(tok_model *m, mlxr_arena *arena, const tok_source *src, const char *file,
                                mlxr_error *err)
{
    enum { BLOCK = 32 };
    tok_bpe *b = &m->bpe;
    size_t n_slots = 16;
    tok_merge *table;
    tok_lookup l[2 * BLOCK];
    uint64_t keys[BLOCK];
    uint32_t made[BLOCK], at[BLOCK], last = 0;
    mlxr_status st;

    if (src->n_merges > UINT32_MAX / 8)
        return mlxr_fail(err, MLXR_E_LIMIT, "tokenizer: %s: %zu merges are too many", file, src->n_merges);
    while (n_slots < 2 * src->n_merges) n_slots *= 2;
    table = mlxr_arena_alloc(arena, n_slots * sizeof *table);
    if (!table) return mlxr_fail_nomem(err, "tokenizer: merges");
    memset(table, 0xff, n_slots * sizeof *table);
    b->merges = table;
    b->merge_mask = (uint32_t)n_slots - 1;
    b->seed = m->vocab.seed;
    for (size_t i = 0; i < src->n_merges; i += BLOCK) {
        size_t n = src->n_merges - i < BLOCK ? src->n_merges - i : BLOCK;
        for (size_t k = 0; k < 2 * n; k++) l[k].s = src->merges[2 * i + k];
        tok_vocab_lookup_many(&m->vocab, l, 2 * n);
        for (size_t k = 0; k < n; k++)
            if ((st = made_of(m, i + k, &l[2 * k], &last, &made[k], file, err)) != MLXR_OK) return st;
        for (size_t k = 0; k < n; k++) {
            keys[k] = (uint64_t)(uint32_t)l[2 * k].id << 32 | (uint32_t)l[2 * k + 1].id;
            at[k] = (uint32_t)mix(keys[k], b->seed) & b->merge_mask;
            __builtin_prefetch(&table[at[k]], 1);
        }
        for (size_t k = 0; k < n; k++) {
            uint32_t j = at[k];
            while (table[j].key != UINT64_MAX && table[j].key != keys[k]) j = (j + 1) & b->merge_mask;
            table[j] = (tok_merge){keys[k], (uint32_t)(i + k), made[k]};
        }
    }
    return MLXR_OK;
}

static mlxr_status build_chars(tok_model *m, mlxr_arena *arena, mlxr_error *err)
{
    tok_bpe *b = &m->bpe;
    const tok_vocab *v = &m->vocab;
    uint16_t *page = mlxr_arena_calloc(arena, 0x1100, sizeof *page);
    int32_t *chars;
    uint32_t n_pages = 1;

    if (!page) return mlxr_fail_nomem(err, "tokenizer: characters");
    for (uint32_t id = 0; id < v->n_ids; id++) {
        tok_str t = tok_vocab_token(v, id);
        uint32_t cp;
        if (t.n == 0 || t.n > 4 || tok_char_len(t.s) != t.n) continue;
        cp = tok_next(&t.s);
        if (!page[cp >> 8]) page[cp >> 8] = (uint16_t)n_pages++;
    }
    chars = mlxr_arena_alloc(arena, (size_t)n_pages * 256 * sizeof *chars);
    if (!chars) return mlxr_fail_nomem(err, "tokenizer: characters");
    memset(chars, 0xff, (size_t)n_pages * 256 * sizeof *chars);
    for (uint32_t id = 0; id < v->n_ids; id++) {
        tok_str t = tok_vocab_token(v, id);
        uint32_t cp;
        if (t.n == 0 || t.n > 4 || tok_char_len(t.s) != t.n) continue;
        cp = tok_next(&t.s);
        chars[(size_t)page[cp >> 8] * 256 + (cp & 255)] = (int32_t)id;
    }
    b->char_page = page;
    b->chars = chars;
    b->n_pages = n_pages;
    return MLXR_OK;
}

static bool joins_has(const tok_bpe *b, uint64_t key)
{
    uint32_t i = (uint32_t)mix(key, b->seed) & b->join_mask;
    for (; b->joins[i] != UINT64_MAX; i = (i + 1) & b->join_mask)
        if (b->joins[i] == key) return true;
    return false;
}

/* The set of pairs of characters that a merge may join. Cutting is sound only if every character becomes symbols
 * of its own whatever is beside it: no prefix or suffix, no unk, no byte token in any merge. */
static mlxr_status build_joins(tok_model *m, mlxr_arena *arena, const tok_source *src, mlxr_error *err)
{
    tok_bpe *b = &m->bpe;
    size_t n_slots = 1024, n = 0;
    uint64_t *set;

    if (!b->byte_fallback || b->prefix.n || b->suffix.n || b->ignore_merges) return MLXR_OK;
    for (int i = 0; i < 256; i++)
        if (b->fallback[i] < 0) return MLXR_OK;
    set = mlxr_malloc_array(n_slots, sizeof *set);
    if (!set) return mlxr_fail_nomem(err, "tokenizer: merges");
    memset(set, 0xff, n_slots * sizeof *set);
    for (size_t i = 0; i < src->n_merges; i++) {
        tok_str l = src->merges[2 * i], r = src->merges[2 * i + 1];
        const char *first = r.s;
        uint64_t key;
        size_t k;
        if (!l.n || !r.n || (l.n == 6 && memcmp(l.s, "<0x", 3) == 0) ||
            (r.n == 6 && memcmp(r.s, "<0x", 3) == 0)) {
            free(set);
            return MLXR_OK;
        }
        key = (uint64_t)tok_prev(l.s + l.n) << 32 | tok_next(&first);
        for (k = mix(key, b->seed) & (n_slots - 1); set[k] != UINT64_MAX && set[k] != key;
             k = (k + 1) & (n_slots - 1)) {
        }
        if (set[k] == key) continue;
        set[k] = key;
        if (++n * 4 > n_slots) { /* sparse, so that absent pairs, the common case, are soon told */
            uint64_t *bigger = mlxr_malloc_array(4 * n_slots, sizeof *set);
            if (!bigger) {
                free(set);
                return mlxr_fail_nomem(err, "tokenizer: merges");
            }
            memset(bigger, 0xff, 4 * n_slots * sizeof *set);
            for (size_t j = 0; j < n_slots; j++) {
                if (set[j] == UINT64_MAX) continue;
                for (k = mix(set[j], b->seed) & (4 * n_slots - 1); bigger[k] != UINT64_MAX;)
                    k = (k + 1) & (4 * n_slots - 1);
                bigger[k] = set[j];
            }
            free(set);
            set = bigger;
            n_slots *= 4;
        }
    }
    b->joins = mlxr_arena_alloc(arena, n_slots * sizeof *set);
    if (b->joins) memcpy((void *)(uintptr_t)b->joins, set, n_slots * sizeof *set);
    b->join_mask = (uint32_t)n_slots - 1;
    b->can_cut = true;
    free(set);
    return b->joins ? MLXR_OK : mlxr_fail_nomem(err, "tokenizer: merges");
}

/* A string of the configuration, kept in the arena. */
static mlxr_status keep(tok_str *s, mlxr_arena *arena, mlxr_error *err)
{
    if (!s->s) return MLXR_OK;
    s->s = mlxr_arena_strndup(arena, s->s, s->n);
    return s->s ? MLXR_OK : mlxr_fail_nomem(err, "tokenizer: model");
}

mlxr_status tok_bpe_build(tok_model *m, mlxr_arena *arena, const tok_source *src, const json_t *config,
                          const char *file, mlxr_error *err)
{
    tok_cfg c = tok_cfg_root(config, file, "model"), v = tok_cfg_get(&c, "dropout");
    tok_bpe *b = &m->bpe;
    mlxr_status st;

    m->type = TOK_BPE;
    if (!tok_cfg_is_null(&v)) {
        double p = json_number_value(v.j);
        if (!json_is_number(v.j) || !(p >= 0 && p <= 1))
            return tok_cfg_wrong(&v, "a number from 0 to 1", err);
        b->no_merges = p == 1; /* what lies between is chance in the reference; here it merges */
    }
    if ((st = tok_cfg_str(&b->unk_token, &c, "unk_token", false, err)) != MLXR_OK) return st;
    if ((st = tok_cfg_str(&b->prefix, &c, "continuing_subword_prefix", false, err)) != MLXR_OK) return st;
    if ((st = tok_cfg_str(&b->suffix, &c, "end_of_word_suffix", false, err)) != MLXR_OK) return st;
    if ((st = tok_cfg_bool(&b->fuse_unk, &c, "fuse_unk", false, err)) != MLXR_OK) return st;
    if ((st = tok_cfg_bool(&b->byte_fallback, &c, "byte_fallback", false, err)) != MLXR_OK) return st;
    if ((st = tok_cfg_bool(&b->ignore_merges, &c, "ignore_merges", false, err)) != MLXR_OK) return st;
    if (b->no_merges) b->ignore_merges = false;
    if ((st = keep(&b->unk_token, arena, err)) != MLXR_OK || (st = keep(&b->prefix, arena, err)) != MLXR_OK ||
        (st = keep(&b->suffix, arena, err)) != MLXR_OK)
        return st;
    b->unk_id = TOK_UNK_NONE;
    if (src) {
        if ((st = tok_vocab_build(&m->vocab, arena, src->tokens, src->ids, src->n_tokens, false, file,
                                  err)) != MLXR_OK)
            return st;
        if ((st = build_merges(m, arena, src, file, err)) != MLXR_OK) return st;
        if ((st = build_chars(m, arena, err)) != MLXR_OK) return st;
    }
    tok_fallback_ids(b->fallback, &m->vocab);
    if (src && (st = build_joins(m, arena, src, err)) != MLXR_OK) return st;
    if (b->unk_token.s) {
        b->unk_id = tok_vocab_id(&m->vocab, b->unk_token.s, b->unk_token.n);
        if (b->unk_id < 0) b->unk_id = TOK_UNK_MISSING;
    }
    return MLXR_OK;
}

void tok_bpe_set_bytes(tok_model *m)
{
    tok_bpe *b = &m->bpe;
    if (b->prefix.n || b->suffix.n) return;
    for (unsigned i = 0; i < 256; i++) {
        char c[4];
        b->byte_id[i] = tok_vocab_id(&m->vocab, c, mlxr_utf8_encode(c, tok_byte_to_char((unsigned char)i)));
        if (b->byte_id[i] < 0) return;
    }
    b->by_bytes = true;
    b->can_cut = false; /* joins are told in characters */
}

/* ---- merging ---- */

enum { SHORT_WORD = 40 };

static bool merge_short(const tok_bpe *b, tok_scratch *sc)
{
    uint32_t id[SHORT_WORD], rank[SHORT_WORD], made[SHORT_WORD];
    size_t n = sc->start.n;
    tok_merge m;

    memcpy(id, sc->start.data, n * sizeof *id);
    for (size_t i = 0; i + 1 < n; i++) {
        m = look_up(b, sc->front, id[i], id[i + 1]);
        rank[i] = m.rank;
        made[i] = m.id;
    }
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == UINT32_MAX) break;
        id[best] = made[best];
        n--;
        for (size_t i = best + 1; i < n; i++) id[i] = id[i + 1];
        for (size_t i = best + 1; i + 1 < n; i++) {
            rank[i] = rank[i + 1];
            made[i] = made[i + 1];
        }
        if (best + 1 < n) {
            m = look_up(b, sc->front, id[best], id[best + 1]);
            rank[best] = m.rank;
            made[best] = m.id;
        }
        if (best > 0) {
            m = look_up(b, sc->front, id[best - 1], id[best]);
            rank[best - 1] = m.rank;
            made[best - 1] = m.id;
        }
    }
    return tok_ids_append(&sc->ids, id, n);
}

static inline bool before(const tok_heap_item *a, const tok_heap_item *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->pos < b->pos;
}

static void sift_down(tok_heap_item *h, size_t n, size_t i)
{
    tok_heap_item x = h[i];
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= n) break;
        if (c + 1 < n && before(&h[c + 1], &h[c])) c++;
        if (!before(&h[c], &x)) break;
        h[i] = h[c];
        i = c;
    }
    h[i] = x;
}

static void sift_up(tok_heap_item *h, size_t i)
{
    tok_heap_item x = h[i];
    while (i > 0 && before(&x, &h[(i - 1) / 2])) {
        h[i] = h[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    h[i] = x;
}

static mlxr_status merge_long(const tok_bpe *b, tok_scratch *sc, mlxr_error *err)
{
    size_t n = sc->start.n, n_heap = 0;
    tok_symbol *y;
    tok_heap_item *h;
    tok_merge m;

    if (n > INT32_MAX) return mlxr_fail(err, MLXR_E_LIMIT, "tokenizer: a word of %zu symbols", n);
    if (n > sc->cap_symbols) {
        y = mlxr_realloc_array(sc->symbols, n, sizeof *y);
        if (!y) return mlxr_fail_nomem(err, "tokenizer: a long word");
        sc->symbols = y;
        sc->cap_symbols = n;
    }
    if (3 * n > sc->cap_heap) { /* every merge takes one pair out and puts at most two in */
        h = mlxr_realloc_array(sc->heap, 3 * n, sizeof *h);
        if (!h) return mlxr_fail_nomem(err, "tokenizer: a long word");
        sc->heap = h;
        sc->cap_heap = 3 * n;
    }
    y = sc->symbols;
    h = sc->heap;
    for (size_t i = 0; i < n; i++)
        y[i] = (tok_symbol){
            .id = sc->start.data[i], .prev = (int32_t)i - 1, .next = i + 1 < n ? (int32_t)i + 1 : -1};
    for (size_t i = 0; i + 1 < n; i++) {
        m = look_up(b, sc->front, y[i].id, y[i + 1].id);
        if (m.rank != UINT32_MAX) h[n_heap++] = (tok_heap_item){m.rank, (uint32_t)i, m.id};
    }
    for (size_t i = n_heap / 2; i-- > 0;) sift_down(h, n_heap, i);
    while (n_heap) {
        tok_heap_item top = h[0];
        tok_symbol *l = &y[top.pos], *r;
        h[0] = h[--n_heap];
        if (n_heap) sift_down(h, n_heap, 0);
        if (l->gone || l->next < 0) continue;
        r = &y[l->next];
        m = look_up(b, sc->front, l->id, r->id); /* one of the two may have changed since */
        if (m.rank == UINT32_MAX || m.id != top.id) continue;
        l->id = top.id;
        r->gone = true;
        l->next = r->next;
        if (r->next >= 0) y[r->next].prev = (int32_t)top.pos;
        if (l->prev >= 0 && (m = look_up(b, sc->front, y[l->prev].id, l->id)).rank != UINT32_MAX) {
            h[n_heap] = (tok_heap_item){m.rank, (uint32_t)l->prev, m.id};
            sift_up(h, n_heap++);
        }
        if (l->next >= 0 && (m = look_up(b, sc->front, l->id, y[l->next].id)).rank != UINT32_MAX) {
            h[n_heap] = (tok_heap_item){m.rank, top.pos, m.id};
            sift_up(h, n_heap++);
        }
    }
    for (size_t i = 0; i < n; i++)
        if (!y[i].gone && !tok_ids_append(&sc->ids, &y[i].id, 1))
            return mlxr_fail_nomem(err, "tokenizer: ids");
    return MLXR_OK;
}

/* ---- a word's symbols ---- */

static inline int32_t char_id(const tok_bpe *b, uint32_t cp)
{
    return b->chars[(size_t)b->char_page[cp >> 8] * 256 + (cp & 255)];
}

static inline bool add(tok_scratch *sc, int32_t id)
{
    uint32_t u = (uint32_t)id;
    return tok_ids_append(&sc->start, &u, 1);
}

static mlxr_status symbols(const tok_model *m, tok_scratch *sc, const char *s, size_t n, mlxr_error *err)
{
    const tok_bpe *b = &m->bpe;
    const char *start = s, *end = s + n;
    bool ok = true, pending = false; /* an unk that may yet be fused with the next */

    sc->start.n = 0;
    while (s < end && ok) {
        const char *at = s, *bytes = s;
        uint32_t cp = tok_next(&s);
        size_t n_bytes = (size_t)(s - at);
        bool prefix = at > start && b->prefix.n, suffix = s == end && b->suffix.n;
        int32_t id;
        if (prefix || suffix) {
            sc->word.len = 0;
            if (prefix) mlxr_buf_append(&sc->word, b->prefix.s, b->prefix.n);
            mlxr_buf_append(&sc->word, at, n_bytes);
            if (suffix) mlxr_buf_append(&sc->word, b->suffix.s, b->suffix.n);
            if (sc->word.failed) return mlxr_fail_nomem(err, "tokenizer: a word");
            bytes = sc->word.data;
            n_bytes = sc->word.len;
            id = tok_vocab_id(&m->vocab, bytes, n_bytes);
        } else {
            id = char_id(b, cp);
        }
        if (id >= 0) {
            if (pending) ok = add(sc, b->unk_id);
            pending = false;
            ok = ok && add(sc, id);
            continue;
        }
        if (b->byte_fallback) {
            size_t i = 0;
            while (i < n_bytes && b->fallback[(unsigned char)bytes[i]] >= 0) i++;
            if (i == n_bytes) { /* a waiting unk stays behind them, as in the reference */
                for (i = 0; i < n_bytes && ok; i++) ok = add(sc, b->fallback[(unsigned char)bytes[i]]);
                continue;
            }
        }
        if (b->unk_id == TOK_UNK_NONE) continue;
        if (b->unk_id == TOK_UNK_MISSING)
            return mlxr_fail(err, MLXR_E_FORMAT, "tokenizer: unk token \"%.*s\" is not in the vocabulary",
                             b->unk_token.n < 100 ? (int)b->unk_token.n : 100, b->unk_token.s);
        if (pending && !b->fuse_unk) ok = add(sc, b->unk_id);
        pending = true;
    }
    if (pending && ok) ok = add(sc, b->unk_id);
    return ok ? MLXR_OK : mlxr_fail_nomem(err, "tokenizer: a word");
}

mlxr_status tok_bpe_word(const tok_model *m, tok_scratch *sc, const char *s, size_t n, mlxr_error *err)
{
    const tok_bpe *b = &m->bpe;
    mlxr_status st;

    if (b->ignore_merges) {
        int32_t id;
        uint32_t u;
        if (b->by_bytes) {
            sc->word.len = 0;
            tok_bytes_to_chars(&sc->word, s, n);
            if (sc->word.failed) return mlxr_fail_nomem(err, "tokenizer: a word");
            id = tok_vocab_id(&m->vocab, sc->word.data, sc->word.len);
        } else {
            id = tok_vocab_id(&m->vocab, s, n);
        }
        u = (uint32_t)id;
        if (id >= 0)
            return tok_ids_append(&sc->ids, &u, 1) ? MLXR_OK : mlxr_fail_nomem(err, "tokenizer: ids");
    }
    if (b->by_bytes) {
        sc->start.n = 0;
        for (size_t i = 0; i < n; i++)
            if (!add(sc, b->byte_id[(unsigned char)s[i]])) return mlxr_fail_nomem(err, "tokenizer: a word");
    } else if ((st = symbols(m, sc, s, n, err)) != MLXR_OK) {
        return st;
    }
    if (!sc->start.n) return MLXR_OK;
    if (b->no_merges)
        return tok_ids_append(&sc->ids, sc->start.data, sc->start.n) ? MLXR_OK
                                                                     : mlxr_fail_nomem(err, "tokenizer: ids");
    if (sc->start.n > SHORT_WORD) return merge_long(b, sc, err);
    return merge_short(b, sc) ? MLXR_OK : mlxr_fail_nomem(err, "tokenizer: ids");
}

/* The end of the piece of text that starts at s: the next place where no merge can reach across. */
size_t tok_bpe_cut(const tok_bpe *b, const char *s, size_t n)
{
    const char *p = s, *end = s + n;
    uint64_t left = tok_next(&p);
    while (p < end) {
        const char *at = p;
        uint32_t cp = tok_next(&p);
        if (!joins_has(b, left << 32 | cp)) return (size_t)(at - s);
        left = cp;
    }
    return n;
}
