/* vocabulary: built once for a model, shared by all its grammars. */
#include <stdlib.h>

#include "engine/grammar/vocabulary.h"

enum { MAX_TOKEN_BYTES = 60000 }; /* a longer one is in no mask */

bool gm_vocabulary_strips(const mlxr_vocabulary *v)
{
    return v->strips_first_space;
}

typedef struct sort_token {
    uint64_t key; /* the first eight bytes, as a number that orders alike */
    const uint8_t *bytes;
    uint32_t n;
    int32_t id;
} sort_token;

static int by_bytes(const void *a, const void *b)
{
    const sort_token *x = a, *y = b;
    int c;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    c = memcmp(x->bytes, y->bytes, x->n < y->n ? x->n : y->n);
    if (c) return c;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* The bytes of every id, one behind the other. An ordinary token that holds the byte of special ones could be taken for
 * the beginning of one: it is left out. */
static mlxr_status read_tokens(mlxr_vocabulary *v, const mlxr_vocabulary_params *p, mlxr_error *err)
{
    bool *eos = calloc(p->vocab_size + 1, sizeof *eos);
    mlxr_buf all = {0};
    mlxr_status st = MLXR_OK;

    v->offset = mlxr_malloc_array(p->vocab_size + 1, sizeof *v->offset);
    if (!eos || !v->offset) {
        st = mlxr_fail_nomem(err, "grammar: vocabulary");
        goto done;
    }
    for (size_t i = 0; i < p->n_eos; i++)
        if (p->eos_ids[i] >= 0 && (size_t)p->eos_ids[i] < p->vocab_size) eos[p->eos_ids[i]] = true;
    for (size_t id = 0; id < p->vocab_size; id++) {
        size_t at = all.len, n;
        v->offset[id] = (uint32_t)at;
        if (eos[id]) continue;
        p->bytes(p->ud, (int32_t)id, &all);
        if (all.failed) break;
        n = all.len - at;
        if (n > MAX_TOKEN_BYTES || (n == 1 && (uint8_t)all.data[at] == 0xff) ||
            (n > 1 && memchr(all.data + at + 1, 0xff, n - 1)))
            all.len = at;
        if (all.len > UINT32_MAX / 2) {
            st = mlxr_fail(err, MLXR_E_LIMIT, "grammar: vocabulary: tokens have more than %u bytes",
                           UINT32_MAX / 2);
            goto done;
        }
        n = all.len - at;
        if (n > v->max_bytes) v->max_bytes = n;
    }
    v->offset[p->vocab_size] = (uint32_t)all.len;
    mlxr_buf_char(&all, '\0');
    if ((st = mlxr_buf_check(&all, "grammar: vocabulary", err)) != MLXR_OK) goto done;
    v->bytes = (uint8_t *)all.data;
    all = (mlxr_buf){0};
done:
    free(eos);
    mlxr_buf_clear(&all);
    return st;
}

static bool build_trie(mlxr_vocabulary *v)
{
    sort_token *t = mlxr_malloc_array(v->vocab_size, sizeof *t);
    uint32_t *open = mlxr_malloc_array(v->max_bytes + 1, sizeof *open), n = 0, n_nodes = 1, at;
    uint64_t total = 1;
    bool ok = false;
    if (!t || !open) goto done;
    for (size_t id = 0; id < v->vocab_size; id++) {
        sort_token *x = &t[n];
        *x = (sort_token){.bytes = v->bytes + v->offset[id], .id = (int32_t)id};
        x->n = v->offset[id + 1] - v->offset[id];
        if (!x->n) continue;
        for (uint32_t i = 0; i < 8; i++) x->key = x->key << 8 | (i < x->n ? x->bytes[i] : 0);
        n++;
    }
    qsort(t, n, sizeof *t, by_bytes);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t same = 0;
        if (i)
            while (same < t[i].n && same < t[i - 1].n && t[i].bytes[same] == t[i - 1].bytes[same]) same++;
        total += t[i].n - same;
    }
    if (total >= UINT32_MAX) goto done;
    v->n_nodes = (uint32_t)total;
    v->n_tokens = n;
    v->byte = calloc(total, 1);
    v->depth = mlxr_calloc_array(total, sizeof *v->depth);
    v->skip = mlxr_calloc_array(total, sizeof *v->skip);
    v->first = mlxr_calloc_array(total + 1, sizeof *v->first);
    v->tokens = mlxr_malloc_array(n, sizeof *v->tokens);
    if (!v->byte || !v->depth || !v->skip || !v->first || !v->tokens) goto done;
    /* open[d]: the node at depth d on the way to the last token. */
    open[0] = 0;
    at = 0; /* depth of the last token */
    for (uint32_t i = 0; i < n; i++) {
        uint32_t same = 0;
        if (i)
            while (same < t[i].n && same < t[i - 1].n && t[i].bytes[same] == t[i - 1].bytes[same]) same++;
        for (; at > same; at--) v->skip[open[at]] = n_nodes;
        for (; at < t[i].n; at++) {
            v->byte[n_nodes] = t[i].bytes[at];
            v->depth[n_nodes] = (uint16_t)(at + 1);
            v->first[n_nodes] = i;
            open[at + 1] = n_nodes++;
        }
        v->tokens[i] = t[i].id;
    }
    for (; at > 0; at--) v->skip[open[at]] = n_nodes;
    v->skip[0] = n_nodes;
    v->first[n_nodes] = n;
    /* A node was given the first token at or behind it; those that end at the node itself come before its children's. */
    v->emits = mlxr_malloc_array(n_nodes, sizeof *v->emits);
    if (!v->emits) goto done;
    for (uint32_t i = 0; i < n_nodes; i++) {
        uint32_t count = v->first[i + 1] - v->first[i];
        v->emits[i] = count == 0   ? (uint32_t)v->n_words * 32
                      : count == 1 ? (uint32_t)v->tokens[v->first[i]]
                                   : GM_SEVERAL;
    }
    for (uint32_t i = 1; i < n_nodes; i++)
        if (v->depth[i] == 1 && v->byte[i] == ' ') v->space = i;
    ok = true;
done:
    free(t);
    free(open);
    return ok;
}

static int by_length(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x > *y ? -1 : *x < *y;
}

/* The walk through the inside of a JSON string that every grammar of JSON would do. */
static bool walk_json(mlxr_vocabulary *v, gm_universe *u, bool counts)
{
    uint32_t *state = mlxr_calloc_array(v->max_bytes + 1, sizeof *state);
    uint32_t *chars = mlxr_calloc_array(v->max_bytes + 1, sizeof *chars);
    uint64_t *longer = mlxr_malloc_array(v->n_tokens, sizeof *longer);
    size_t cap = 0;
    bool ok = false;
    u->stay = mlxr_calloc_array(v->n_words, sizeof *u->stay);
    for (int i = 0; counts && i < GM_NEAR; i++) {
        u->near[i] = mlxr_calloc_array(v->n_words, sizeof *u->near[i]);
        if (!u->near[i]) goto done;
    }
    if (!state || !chars || !longer || !u->stay) goto done;
    for (uint32_t i = 1; i < v->n_nodes;) {
        uint32_t d = v->depth[i], s = mlxr_dfa_step(u->dfa, state[d - 1], v->byte[i]);
        if (state[d - 1] == 0 && v->byte[i] == '"') {
            if (!gm_grow(&u->quotes, &cap, u->n_quotes, 1, sizeof *u->quotes)) goto done;
            u->quotes[u->n_quotes++] = (gm_quote){i, chars[d - 1]};
        }
        if (s == MLXR_DFA_NONE) {
            i = v->skip[i];
            continue;
        }
        state[d] = s;
        chars[d] = chars[d - 1] + (s == 0);
        for (uint32_t t = v->first[i]; t < v->first[i + 1]; t++) {
            /* One that ends inside of a character needs room for that one too. */
            uint32_t id = (uint32_t)v->tokens[t], n = chars[d] + (s != 0);
            gm_set_bit(u->stay, id);
            for (uint32_t k = n; counts && k <= GM_NEAR; k++) gm_set_bit(u->near[k - 1], id);
            if (n > GM_NEAR) longer[u->n_longer++] = (uint64_t)n << 32 | id;
        }
        i++;
    }
    qsort(longer, u->n_longer, sizeof *longer, by_length);
    u->longer = mlxr_malloc_array(u->n_longer, sizeof *u->longer);
    u->longer_chars = mlxr_malloc_array(u->n_longer, sizeof *u->longer_chars);
    if (!u->longer || !u->longer_chars) goto done;
    for (size_t i = 0; i < u->n_longer; i++) {
        u->longer[i] = (uint32_t)longer[i];
        u->longer_chars[i] = (uint32_t)(longer[i] >> 32);
    }
    ok = true;
done:
    free(state);
    free(chars);
    free(longer);
    return ok;
}

static mlxr_status make_universes(mlxr_vocabulary *v, mlxr_error *err)
{
    mlxr_dfa *any = NULL;
    mlxr_status st = mlxr_dfa_any(&any, err);
    if (st == MLXR_OK) st = mlxr_dfa_json_string(&v->universe[GM_ONE_ESCAPE].dfa, any, NULL, err);
    mlxr_dfa_unref(any);
    v->universe[GM_ANY_ESCAPES].own = true;
    if (st == MLXR_OK && (!gm_chars_any(&v->universe[GM_ANY_ESCAPES].dfa) ||
                          !walk_json(v, &v->universe[GM_ANY_ESCAPES], true) ||
                          !walk_json(v, &v->universe[GM_ONE_ESCAPE], false)))
        st = mlxr_fail_nomem(err, "grammar: vocabulary");
    return st;
}

mlxr_status mlxr_vocabulary_create(mlxr_vocabulary **out, const mlxr_vocabulary_params *params,
                                   mlxr_error *err)
{
    mlxr_vocabulary *v = NULL;
    mlxr_status st;

    *out = NULL;
    if (params->vocab_size > INT32_MAX / 2)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "grammar: vocabulary: %zu ids", params->vocab_size);
    v = calloc(1, sizeof *v);
    if (!v) return mlxr_fail_nomem(err, "grammar: vocabulary");
    v->vocab_size = params->vocab_size;
    v->n_words = (params->vocab_size + 31) / 32;
    v->strips_first_space = params->strips_first_space;
    st = read_tokens(v, params, err);
    if (st == MLXR_OK && !build_trie(v)) st = mlxr_fail_nomem(err, "grammar: vocabulary");
    if (st == MLXR_OK) st = make_universes(v, err);
    if (st == MLXR_OK) {
        *out = v;
        v = NULL;
    }
    mlxr_vocabulary_free(v);
    return st;
}

void mlxr_vocabulary_free(mlxr_vocabulary *v)
{
    if (!v) return;
    free(v->byte);
    free(v->depth);
    free(v->skip);
    free(v->first);
    free(v->tokens);
    free(v->emits);
    free(v->offset);
    free(v->bytes);
    for (int k = 0; k < GM_UNIVERSES; k++) {
        gm_universe *u = &v->universe[k];
        if (u->own)
            gm_dfa_free_own(u->dfa);
        else
            mlxr_dfa_unref(u->dfa);
        for (int i = 0; i < GM_NEAR; i++) free(u->near[i]);
        free(u->stay);
        free(u->longer);
        free(u->longer_chars);
        free(u->quotes);
    }
    free(v);
}
