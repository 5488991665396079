/* WordPiece: the longest token that starts the rest of the word, again and again; unk for the whole word when
 * that ends nowhere. And WordLevel: a word is a token or unk. */
#include "text/tokenizer/config.h"

static mlxr_status unk(const tok_model *m, tok_scratch *sc, mlxr_error *err)
{
    const tok_wordpiece *w = &m->wordpiece;
    uint32_t id = (uint32_t)w->unk_id;
    if (w->unk_id < 0)
        return mlxr_fail(err, MLXR_E_FORMAT, "tokenizer: unk token \"%.*s\" is not in the vocabulary",
                         w->unk_token.n < 100 ? (int)w->unk_token.n : 100, w->unk_token.s);
    return tok_ids_append(&sc->ids, &id, 1) ? MLXR_OK : mlxr_fail_nomem(err, "tokenizer: ids");
}

static mlxr_status build(tok_model *m, mlxr_arena *arena, const tok_source *src, const tok_cfg *c,
                         mlxr_error *err)
{
    tok_wordpiece *w = &m->wordpiece;
    mlxr_status st;

    if (src && (st = tok_vocab_build(&m->vocab, arena, src->tokens, src->ids, src->n_tokens, false, c->file,
                                     err)) != MLXR_OK)
        return st;
    if ((st = tok_cfg_str(&w->unk_token, c, "unk_token", true, err)) != MLXR_OK) return st;
    w->unk_id = tok_vocab_id(&m->vocab, w->unk_token.s, w->unk_token.n);
    w->unk_token.s = mlxr_arena_strndup(arena, w->unk_token.s, w->unk_token.n);
    return w->unk_token.s ? MLXR_OK : mlxr_fail_nomem(err, "tokenizer: model");
}

mlxr_status tok_wordpiece_build(tok_model *m, mlxr_arena *arena, const tok_source *src, const json_t *config,
                                const char *file, mlxr_error *err)
{
    tok_cfg c = tok_cfg_root(config, file, "model");
    tok_wordpiece *w = &m->wordpiece;
    mlxr_status st;

    m->type = TOK_WORDPIECE;
    w->max_chars = 100;
    if ((st = build(m, arena, src, &c, err)) != MLXR_OK) return st;
    if ((st = tok_cfg_size(&w->max_chars, &c, "max_input_chars_per_word", true, err)) != MLXR_OK) return st;
    if ((st = tok_cfg_str(&w->prefix, &c, "continuing_subword_prefix", true, err)) != MLXR_OK) return st;
    w->prefix.s = mlxr_arena_strndup(arena, w->prefix.s, w->prefix.n);
    return w->prefix.s ? MLXR_OK : mlxr_fail_nomem(err, "tokenizer: model");
}

mlxr_status tok_wordlevel_build(tok_model *m, mlxr_arena *arena, const tok_source *src, const json_t *config,
                                const char *file, mlxr_error *err)
{
    tok_cfg c = tok_cfg_root(config, file, "model");
    m->type = TOK_WORDLEVEL;
    return build(m, arena, src, &c, err);
}

mlxr_status tok_wordpiece_word(const tok_model *m, tok_scratch *sc, const char *s, size_t n, mlxr_error *err)
{
    const tok_wordpiece *w = &m->wordpiece;
    size_t n_ids = sc->ids.n, n_chars = 0, from = 0;

    for (size_t i = 0; i < n; i++) n_chars += ((unsigned char)s[i] & 0xc0u) != 0x80u;
    if (n_chars > w->max_chars) return unk(m, sc, err);
    while (from < n) {
        size_t end = n, extra = from ? w->prefix.n : 0;
        uint32_t u;
        int32_t id = -1;
        sc->word.len = 0; /* the rest of the word behind its prefix; candidates are its beginnings */
        if (extra) mlxr_buf_append(&sc->word, w->prefix.s, extra);
        mlxr_buf_append(&sc->word, s + from, n - from);
        if (sc->word.failed) return mlxr_fail_nomem(err, "tokenizer: a word");
        while (end > from) {
            id = tok_vocab_id(&m->vocab, sc->word.data, extra + end - from);
            if (id >= 0) break;
            do end--;
            while (((unsigned char)s[end] & 0xc0u) == 0x80u);
        }
        if (id < 0) {
            sc->ids.n = n_ids;
            return unk(m, sc, err);
        }
        u = (uint32_t)id;
        if (!tok_ids_append(&sc->ids, &u, 1)) return mlxr_fail_nomem(err, "tokenizer: ids");
        from = end;
    }
    return MLXR_OK;
}

mlxr_status tok_wordlevel_word(const tok_model *m, tok_scratch *sc, const char *s, size_t n, mlxr_error *err)
{
    int32_t id = tok_vocab_id(&m->vocab, s, n);
    uint32_t u = (uint32_t)id;
    if (id < 0) return unk(m, sc, err);
    return tok_ids_append(&sc->ids, &u, 1) ? MLXR_OK : mlxr_fail_nomem(err, "tokenizer: ids");
}
