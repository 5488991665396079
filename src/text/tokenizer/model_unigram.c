/* Unigram: the path of tokens through a text with the best sum of scores (Viterbi), as SentencePiece's
 * unigram_model.cc, with the reference's ties: a later path must be better, not equal. */
#include <math.h>
#include <stdlib.h>

#include "text/tokenizer/config.h"

enum { UNK_PENALTY = 10 };

typedef struct best_path {
    double score;
    uint32_t from; /* UINT32_MAX: not reached */
    uint32_t id;
} best_path;

typedef struct sorted_token {
    tok_str s;
    uint32_t id;
} sorted_token;

static int compare_token(const void *a, const void *b)
{
    const sorted_token *x = a, *y = b;
    int c = memcmp(x->s.s, y->s.s, x->s.n < y->s.n ? x->s.n : y->s.n);
    return c ? c : x->s.n < y->s.n ? -1 : x->s.n > y->s.n;
}

typedef struct span {
    uint32_t lo, hi, node;
    uint32_t depth;
} span;

/* Breadth first over sorted tokens: a span is a node's tokens, which share `depth` bytes. */
static mlxr_status build_trie(tok_model *m, mlxr_arena *arena, mlxr_error *err)
{
    const tok_vocab *v = &m->vocab;
    size_t most = v->n_bytes + 2, n = 0, n_tokens = 0, head = 0, tail = 0;
    sorted_token *t = mlxr_malloc_array(v->n_ids, sizeof *t);
    span *queue = mlxr_malloc_array(most, sizeof *queue);
    tok_trie_node *nodes = mlxr_malloc_array(most, sizeof *nodes), *kept;
    mlxr_status st = MLXR_OK;

    if (!t || !queue || !nodes) {
        st = mlxr_fail_nomem(err, "tokenizer: trie");
        goto done;
    }
    for (uint32_t id = 0; id < v->n_ids; id++) {
        tok_str s = tok_vocab_token(v, id);
        if (!s.n || tok_vocab_id(v, s.s, s.n) != (int32_t)id) continue; /* said again later */
        t[n_tokens++] = (sorted_token){s, id};
    }
    qsort(t, n_tokens, sizeof *t, compare_token);
    nodes[n++] = (tok_trie_node){.id = -1};
    queue[tail++] = (span){0, (uint32_t)n_tokens, 0, 0};
    while (head < tail) {
        span q = queue[head++];
        uint32_t i = q.lo;
        nodes[q.node].first = (uint32_t)n;
        if (i < q.hi && t[i].s.n == q.depth) nodes[q.node].id = (int32_t)t[i++].id;
        while (i < q.hi) {
            uint8_t byte = (uint8_t)t[i].s.s[q.depth];
            uint32_t j = i;
            while (j < q.hi && (uint8_t)t[j].s.s[q.depth] == byte) j++;
            nodes[n] = (tok_trie_node){.byte = byte, .id = -1};
            queue[tail++] = (span){i, j, (uint32_t)n, q.depth + 1};
            nodes[q.node].n++;
            n++;
            i = j;
        }
    }
    kept = mlxr_arena_alloc(arena, n * sizeof *kept);
    if (!kept) {
        st = mlxr_fail_nomem(err, "tokenizer: trie");
        goto done;
    }
    memcpy(kept, nodes, n * sizeof *kept);
    m->unigram.trie = kept;
    m->unigram.n_trie = (uint32_t)n;
done:
    free(t);
    free(queue);
    free(nodes);
    return st;
}

mlxr_status tok_unigram_build(tok_model *m, mlxr_arena *arena, const tok_source *src, const json_t *config,
                              const char *file, mlxr_error *err)
{
    tok_cfg c = tok_cfg_root(config, file, "model"), v = tok_cfg_get(&c, "unk_id");
    tok_unigram *u = &m->unigram;
    mlxr_status st;

    m->type = TOK_UNIGRAM;
    if (src) {
        double *scores;
        if ((st = tok_vocab_build(&m->vocab, arena, src->tokens, src->ids, src->n_tokens, true, file, err)) !=
            MLXR_OK)
            return st;
        scores = mlxr_arena_alloc(arena, (src->n_tokens + 1) * sizeof *scores);
        if (!scores) return mlxr_fail_nomem(err, "tokenizer: scores");
        if (src->n_tokens) memcpy(scores, src->scores, src->n_tokens * sizeof *scores);
        u->scores = scores;
        if ((st = build_trie(m, arena, err)) != MLXR_OK) return st;
    }
    u->unk_id = -1;
    if (!tok_cfg_is_null(&v)) {
        size_t unk = 0;
        if ((st = tok_cfg_size(&unk, &c, "unk_id", true, err)) != MLXR_OK) return st;
        if (unk >= m->vocab.n_ids)
            return mlxr_fail(err, MLXR_E_FORMAT,
                             "tokenizer: %s: model.unk_id is %zu, the vocabulary has %u tokens", file, unk,
                             (unsigned)m->vocab.n_ids);
        u->unk_id = (int64_t)unk;
    }
    if ((st = tok_cfg_bool(&u->byte_fallback, &c, "byte_fallback", false, err)) != MLXR_OK) return st;
    u->min_score = INFINITY;
    for (uint32_t i = 0; i < m->vocab.n_ids; i++)
        if (u->scores[i] < u->min_score) u->min_score = u->scores[i];
    tok_fallback_ids(u->fallback, &m->vocab);
    return MLXR_OK;
}

static const tok_trie_node *child(const tok_unigram *u, const tok_trie_node *node, uint8_t byte)
{
    const tok_trie_node *c = u->trie + node->first;
    size_t lo = 0, hi = node->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (c[mid].byte < byte)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < node->n && c[lo].byte == byte ? c + lo : NULL;
}

static mlxr_status no_unk(mlxr_error *err)
{
    return mlxr_fail(err, MLXR_E_FORMAT,
                     "tokenizer: a character that no token has, and model.unk_id is missing");
}

/* The ids of one piece of the path: its token; else its bytes; else unk. */
static mlxr_status emit(const tok_model *m, tok_scratch *sc, const char *s, size_t n, mlxr_error *err)
{
    const tok_unigram *u = &m->unigram;
    int32_t id = tok_vocab_id(&m->vocab, s, n);
    uint32_t v = (uint32_t)id;
    bool ok = true;

    if (id < 0 && u->byte_fallback) {
        size_t i = 0;
        while (i < n && u->fallback[(unsigned char)s[i]] >= 0) i++;
        if (i == n) {
            for (i = 0; i < n && ok; i++) {
                v = (uint32_t)u->fallback[(unsigned char)s[i]];
                ok = tok_ids_append(&sc->ids, &v, 1);
            }
            return ok ? MLXR_OK : mlxr_fail_nomem(err, "tokenizer: ids");
        }
    }
    if (id < 0) {
        if (u->unk_id < 0) return no_unk(err);
        v = (uint32_t)u->unk_id;
    }
    return tok_ids_append(&sc->ids, &v, 1) ? MLXR_OK : mlxr_fail_nomem(err, "tokenizer: ids");
}

mlxr_status tok_unigram_word(const tok_model *m, tok_scratch *sc, const char *s, size_t n, mlxr_error *err)
{
    const tok_unigram *u = &m->unigram;
    double unk_score = u->min_score - UNK_PENALTY;
    best_path *best;
    size_t at;
    mlxr_status st;

    if (n >= UINT32_MAX - 1) return mlxr_fail(err, MLXR_E_LIMIT, "tokenizer: a word of %zu bytes", n);
    if (n + 1 > sc->cap_lattice) {
        best = mlxr_realloc_array(sc->lattice, n + 1, sizeof *best);
        if (!best) return mlxr_fail_nomem(err, "tokenizer: best path");
        sc->lattice = best;
        sc->cap_lattice = n + 1;
    }
    best = sc->lattice;
    for (size_t i = 0; i <= n; i++) best[i] = (best_path){.from = UINT32_MAX};
    for (at = 0; at < n;) {
        size_t n_char = tok_char_len(s + at);
        double so_far = best[at].score;
        const tok_trie_node *node = u->trie;
        bool single = false;
        for (size_t i = at; i < n && (node = child(u, node, (uint8_t)s[i])) != NULL; i++) {
            best_path *b = &best[i + 1];
            double score;
            if (node->id < 0) continue;
            score = u->scores[node->id] + so_far;
            if (b->from == UINT32_MAX || score > b->score)
                *b = (best_path){score, (uint32_t)at, (uint32_t)node->id};
            if (i + 1 - at == n_char) single = true;
        }
        if (!single) {
            best_path *b = &best[at + n_char];
            double score = unk_score + so_far;
            if (b->from == UINT32_MAX || score > b->score) {
                if (u->unk_id < 0) return no_unk(err);
                *b = (best_path){score, (uint32_t)at, (uint32_t)u->unk_id};
            }
        }
        at += n_char;
    }
    /* The ends of the path's pieces, from the last to the first; then forth, neighbouring unks as one piece. */
    sc->start.n = 0;
    for (at = n; at > 0; at = best[at].from) {
        uint32_t end = (uint32_t)at;
        if (!tok_ids_append(&sc->start, &end, 1)) return mlxr_fail_nomem(err, "tokenizer: best path");
    }
    for (size_t i = sc->start.n, from = 0; i-- > 0;) {
        size_t end = sc->start.data[i];
        if (i > 0 && best[end].id == u->unk_id && best[sc->start.data[i - 1]].id == u->unk_id) continue;
        if ((st = emit(m, sc, s + from, end - from, err)) != MLXR_OK) return st;
        from = end;
    }
    return MLXR_OK;
}
