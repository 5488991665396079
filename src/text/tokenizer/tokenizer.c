/* The public calls: open, encode, decode, look-ups. */
#include <stdatomic.h>
#include <stdlib.h>

#include "text/tokenizer/load.h"
#include "text/tokenizer/token_bytes.h"

void mlxr_tokenizer_close(mlxr_tokenizer *tok)
{
    if (!tok) return;
    for (size_t i = 0; i < TOK_N_SCRATCH; i++) tok_scratch_free(atomic_load(&tok->scratch[i]));
    tok_added_clear(&tok->added);
    tok_normalizer_free(tok->normalizer);
    tok_pretokenizer_free(tok->pretokenizer);
    tok_postprocessor_free(tok->postprocessor);
    tok_decoder_free(tok->decoder);
    mlxr_arena_clear(&tok->arena);
    mlxr_map_close(&tok->map);
    free(tok);
}

mlxr_status tok_build_all(mlxr_tokenizer *tok, const json_t *config, const tok_source *src, const char *file,
                          mlxr_error *err)
{
    tok_added_list added;
    mlxr_status st = tok_added_read(&added, json_object_get(config, "added_tokens"), file, err);
    if (st == MLXR_OK) st = tok_build(tok, config, src, &added, file, err);
    free(added.tokens);
    return st;
}

static mlxr_status open_json(mlxr_tokenizer *tok, const char *path, const char *cache_dir, const char *digest,
                             const mlxr_log *log, mlxr_error *err)
{
    mlxr_map map = {0};
    mlxr_arena arena = {0};
    tok_source src = {0};
    tok_added_list added = {0};
    json_t *config = NULL;
    mlxr_status st = mlxr_map_open(&map, path, err);

    if (st != MLXR_OK) goto done;
    if (map.n_bytes > TOK_MAX_FILE_BYTES) {
        st = mlxr_fail(err, MLXR_E_LIMIT, "tokenizer: %s: %zu bytes, at most %d are read", path, map.n_bytes,
                       TOK_MAX_FILE_BYTES);
        goto done;
    }
    if ((st = tok_load_json(&config, &src, &arena, (const char *)map.data, map.n_bytes, 0, path, err)) !=
        MLXR_OK)
        goto done;
    if ((st = tok_added_read(&added, json_object_get(config, "added_tokens"), path, err)) != MLXR_OK)
        goto done;
    if ((st = tok_build(tok, config, &src, &added, path, err)) != MLXR_OK) goto done;
    if (cache_dir) tok_cache_write(tok, config, &added, digest, cache_dir, path, log);
done:
    tok_source_clear(&src);
    free(added.tokens);
    json_decref(config);
    mlxr_arena_clear(&arena);
    mlxr_map_close(&map);
    return st;
}

/* From the cache if it can be, else from the file. */
static mlxr_status open_file(mlxr_tokenizer **tok, const char *path, const mlxr_tokenizer_options *options,
                             mlxr_error *err)
{
    char digest[65] = "";
    bool hit;
    mlxr_status st;
    if (options->cache_dir) {
        st = tok_cache_open(*tok, &hit, digest, options->cache_dir, path, &options->log, err);
        if (st != MLXR_OK || hit) return st;
        mlxr_tokenizer_close(*tok);
        *tok = calloc(1, sizeof **tok);
        if (!*tok) return mlxr_fail_nomem(err, "tokenizer");
    }
    return open_json(*tok, path, options->cache_dir, digest, &options->log, err);
}

mlxr_tokenizer_options mlxr_tokenizer_options_default(void)
{
    return (mlxr_tokenizer_options){0};
}

mlxr_status mlxr_tokenizer_open(mlxr_tokenizer **out, const char *path, mlxr_error *err)
{
    return mlxr_tokenizer_open_with(out, path, NULL, err);
}

mlxr_status mlxr_tokenizer_open_with(mlxr_tokenizer **out, const char *path,
                                     const mlxr_tokenizer_options *options, mlxr_error *err)
{
    const mlxr_tokenizer_options defaults = mlxr_tokenizer_options_default();
    mlxr_tokenizer *tok;
    char *file = NULL;
    mlxr_status st;

    *out = NULL;
    if (!options) options = &defaults;
    tok = calloc(1, sizeof *tok);
    if (!tok) return mlxr_fail_nomem(err, "tokenizer");
    if (mlxr_path_is_dir(path)) {
        file = mlxr_path_join(path, "tokenizer.json");
        if (!file)
            st = mlxr_fail_nomem(err, "tokenizer");
        else
            st = mlxr_path_is_file(file) ? open_file(&tok, file, options, err)
                                         : tok_open_folder(tok, path, err);
    } else {
        st = open_file(&tok, path, options, err);
    }
    if (st == MLXR_OK) {
        *out = tok;
        tok = NULL;
    }
    free(file);
    mlxr_tokenizer_close(tok);
    return st;
}

/* ---- encoding ---- */

/* The first most ids, or with left the last ones. */
static mlxr_status cut(tok_ids *ids, size_t most, const tok_truncation *t, mlxr_error *err)
{
    if (most >= ids->n) return MLXR_OK;
    if (most > 0 && t->stride >= most)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "tokenizer: truncation: stride %zu is not less than the %zu ids to keep", t->stride,
                         most);
    if (t->left && most) memmove(ids->data, ids->data + ids->n - most, most * sizeof *ids->data);
    ids->n = most;
    return MLXR_OK;
}

/* As the reference divides a pair: the shorter one keeps its ids if it can, else each gets half. */
static mlxr_status truncate_ids(const mlxr_tokenizer *tok, tok_ids *a, tok_ids *b, bool add_special_tokens,
                                mlxr_error *err)
{
    const tok_truncation *t = &tok->truncation;
    size_t added = tok_postprocessor_n_added(tok->postprocessor, b != NULL), most = t->max_length, total, n1,
           n2;
    tok_ids *target;
    mlxr_status st;

    if (!t->on) return MLXR_OK;
    if (add_special_tokens) most -= added; /* below 0 it wraps and nothing is cut, as in the reference */
    if (most == 0) {
        a->n = 0;
        if (b) b->n = 0;
        return MLXR_OK;
    }
    total = a->n + (b ? b->n : 0);
    if (total <= most) return MLXR_OK;
    if (t->strategy == TOK_LONGEST_FIRST) {
        bool swap = b && a->n > b->n;
        if (!b) return cut(a, most, t, err);
        n1 = swap ? b->n : a->n;
        if (n1 > most)
            n2 = n1;
        else
            n2 = n1 > most - n1 ? n1 : most - n1;
        if (n1 + n2 > most) {
            n1 = most / 2;
            n2 = n1 + most % 2;
        }
        if ((st = cut(a, swap ? n2 : n1, t, err)) != MLXR_OK) return st;
        return cut(b, swap ? n1 : n2, t, err);
    }
    target = t->strategy == TOK_ONLY_FIRST ? a : b;
    if (!target)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "tokenizer: truncation of only the second text, and there is none");
    if (target->n <= total - most)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "tokenizer: truncation: the text to cut is too short for %zu ids in all", most);
    return cut(target, target->n - (total - most), t, err);
}

static mlxr_status pad(const mlxr_tokenizer *tok, tok_ids *ids, mlxr_error *err)
{
    const tok_padding *p = &tok->padding;
    size_t want = p->fixed == SIZE_MAX ? ids->n : p->fixed, n = ids->n, more;

    if (!p->on) return MLXR_OK;
    if (p->multiple && want % p->multiple) want += p->multiple - want % p->multiple;
    if (want <= n) return MLXR_OK;
    more = want - n;
    for (size_t i = 0; i < more; i++)
        if (!tok_ids_append(ids, &p->id, 1)) return mlxr_fail_nomem(err, "tokenizer: ids");
    if (p->left) {
        memmove(ids->data + more, ids->data, n * sizeof *ids->data);
        for (size_t i = 0; i < more; i++) ids->data[i] = p->id;
    }
    return MLXR_OK;
}

static mlxr_status check_text(const char *text, size_t n, mlxr_error *err)
{
    size_t valid;
    if (n > TOK_MAX_TEXT_BYTES)
        return mlxr_fail(err, MLXR_E_LIMIT, "tokenizer: a text of %zu bytes, at most %zu", n,
                         TOK_MAX_TEXT_BYTES);
    valid = n ? mlxr_utf8_valid(text, n) : 0;
    if (valid < n)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "tokenizer: the text is not valid UTF-8 at byte %zu",
                         valid);
    return MLXR_OK;
}

static mlxr_status encode(int32_t **out_ids, size_t *out_n, const mlxr_tokenizer *tok, const char *text,
                          size_t n_text, const char *pair, size_t n_pair, bool add_special_tokens,
                          mlxr_error *err)
{
    tok_scratch *sc = NULL;
    tok_ids ids = {0}, *a, *b = NULL;
    mlxr_status st;

    *out_ids = NULL;
    *out_n = 0;
    if ((st = check_text(text, n_text, err)) != MLXR_OK) return st;
    if (pair && (st = check_text(pair, n_pair, err)) != MLXR_OK) return st;
    sc = tok_scratch_take(tok, n_text + n_pair);
    if (!sc) return mlxr_fail_nomem(err, "tokenizer: encoding");
    if ((st = tok_encode_text(tok, sc, text, n_text, err)) != MLXR_OK) goto done;
    a = &sc->ids;
    if (pair) {
        tok_ids swap = sc->first;
        sc->first = sc->ids;
        sc->ids = swap;
        if ((st = tok_encode_text(tok, sc, pair, n_pair, err)) != MLXR_OK) goto done;
        a = &sc->first;
        b = &sc->ids;
    }
    if ((st = truncate_ids(tok, a, b, add_special_tokens, err)) != MLXR_OK) goto done;
    ids.data = mlxr_malloc_array(a->n + (b ? b->n : 0) + 4, sizeof *ids.data);
    if (!ids.data) {
        st = mlxr_fail_nomem(err, "tokenizer: ids");
        goto done;
    }
    ids.cap = a->n + (b ? b->n : 0) + 4;
    if ((st = tok_postprocess(tok->postprocessor, &ids, a, b, add_special_tokens, err)) != MLXR_OK) goto done;
    if ((st = pad(tok, &ids, err)) != MLXR_OK) goto done;
    if (ids.n) {
        *out_ids = (int32_t *)ids.data;
        *out_n = ids.n;
        ids.data = NULL;
    }
done:
    free(ids.data);
    tok_scratch_give(tok, sc);
    return st;
}

mlxr_status mlxr_tokenizer_encode(int32_t **out_ids, size_t *out_n, const mlxr_tokenizer *tok,
                                  const char *text, size_t n_text, bool add_special_tokens, mlxr_error *err)
{
    return encode(out_ids, out_n, tok, text, n_text, NULL, 0, add_special_tokens, err);
}

mlxr_status mlxr_tokenizer_encode_pair(int32_t **out_ids, size_t *out_n, const mlxr_tokenizer *tok,
                                       const mlxr_text_pair *pair, bool add_special_tokens, mlxr_error *err)
{
    return encode(out_ids, out_n, tok, pair->first, pair->n_first, pair->second ? pair->second : "",
                  pair->n_second, add_special_tokens, err);
}

/* ---- tokens ---- */

size_t mlxr_tokenizer_vocab_size(const mlxr_tokenizer *tok)
{
    return tok->added.n_ids;
}

const char *mlxr_tokenizer_kind(const mlxr_tokenizer *tok)
{
    switch (tok->model.type) {
    case TOK_BPE: return "BPE";
    case TOK_UNIGRAM: return "Unigram";
    case TOK_WORDPIECE: return "WordPiece";
    case TOK_WORDLEVEL: break;
    }
    return "WordLevel";
}

static const tok_added *added_of(const mlxr_tokenizer *tok, int32_t id)
{
    if (id < 0 || (uint32_t)id >= tok->added.n_ids || !tok->added.by_id[id]) return NULL;
    return &tok->added.tokens[tok->added.by_id[id] - 1];
}

const char *mlxr_tokenizer_id_to_token(const mlxr_tokenizer *tok, int32_t id, size_t *n_bytes)
{
    const tok_added *t = added_of(tok, id);
    tok_str s = {0};

    if (t)
        s = t->content;
    else if (id >= 0)
        s = tok_vocab_token(&tok->model.vocab, (uint32_t)id);
    if (n_bytes) *n_bytes = s.n;
    return s.s;
}

int32_t mlxr_tokenizer_token_to_id(const mlxr_tokenizer *tok, const char *token, size_t n_bytes)
{
    size_t i = mlxr_strtab_get(&tok->added.by_content, token, n_bytes);
    if (i != SIZE_MAX) return (int32_t)tok->added.tokens[i].id;
    return tok_vocab_id(&tok->model.vocab, token, n_bytes);
}

bool mlxr_tokenizer_is_special(const mlxr_tokenizer *tok, int32_t id)
{
    const tok_added *t = added_of(tok, id);
    return t && (t->flags & TOK_ADDED_SPECIAL);
}

/* ---- decoding ---- */

/* The token as decoders take it: an added token in its normalized form. .s NULL: left out. */
tok_str tok_decode_token(const mlxr_tokenizer *tok, int32_t id, bool skip_special_tokens)
{
    const tok_added *t = added_of(tok, id);
    if (id < 0 || (skip_special_tokens && (uint32_t)id < tok->added.n_ids && tok->added.skip[id]))
        return (tok_str){0};
    return t ? t->pattern : tok_vocab_token(&tok->model.vocab, (uint32_t)id);
}

void tok_token_bytes(void *tokenizer, int32_t id, mlxr_buf *out)
{
    const mlxr_tokenizer *tok = tokenizer;
    tok_str t = tok_decode_token(tok, id, true);
    size_t at = out->len;
    if (!t.s) {
        const tok_added *special = added_of(tok, id);
        if (!special || !special->content.n) return;
        mlxr_buf_char(out, '\xff');
        mlxr_buf_append(out, special->content.s, special->content.n);
        return;
    }
    tok_decoder_token(tok->decoder, t, out);
    if (!out->failed && out->len > at && memchr(out->data + at, 0xff, out->len - at)) out->len = at;
}

bool tok_strips_first_space(const mlxr_tokenizer *tok)
{
    return tok_decoder_strips_space(tok->decoder);
}

mlxr_status mlxr_tokenizer_decode(char **out_text, size_t *out_n, const mlxr_tokenizer *tok,
                                  const int32_t *ids, size_t n_ids, bool skip_special_tokens, mlxr_error *err)
{
    tok_decode_state *s = NULL;
    mlxr_buf out = {0};
    mlxr_status st;

    *out_text = NULL;
    *out_n = 0;
    if ((st = tok_decode_begin(&s, tok->decoder, err)) != MLXR_OK) return st;
    for (size_t i = 0; i < n_ids && st == MLXR_OK; i++) {
        tok_str t = tok_decode_token(tok, ids[i], skip_special_tokens);
        if (t.s) st = tok_decode_push(s, t, &out, err);
    }
    if (st == MLXR_OK) st = tok_decode_finish(s, &out, err);
    if (st == MLXR_OK) st = mlxr_buf_check(&out, "tokenizer: decoding", err);
    tok_decode_free(s);
    if (st == MLXR_OK && (*out_text = mlxr_buf_take(&out, out_n)) == NULL)
        st = mlxr_fail_nomem(err, "tokenizer: decoding");
    mlxr_buf_clear(&out);
    return st;
}
