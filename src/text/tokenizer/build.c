/* Puts a tokenizer together from its configuration. */
#include <stdlib.h>

#include "text/tokenizer/config.h"

void tok_fallback_ids(int32_t out[256], const tok_vocab *v)
{
    static const char hex[] = "0123456789ABCDEF";
    for (int i = 0; i < 256; i++) {
        char t[6] = {'<', '0', 'x', hex[i >> 4], hex[i & 15], '>'};
        out[i] = tok_vocab_id(v, t, sizeof t);
    }
}

/* Older files do not name the model's type: then its fields tell, as in the reference. */
static mlxr_status model_type(size_t *out, const tok_cfg *c, const tok_source *src, mlxr_error *err)
{
    static const char *const names[] = {"BPE", "Unigram", "WordPiece", "WordLevel"};
    tok_cfg type = tok_cfg_get(c, "type");
    mlxr_status st = tok_cfg_object(c, err);
    if (st != MLXR_OK) return st;
    if (type.j) return tok_cfg_type(out, c, "a model", names, MLXR_COUNT(names), err);
    if (json_object_get(c->j, "merges"))
        *out = TOK_BPE;
    else if (json_object_get(c->j, "continuing_subword_prefix"))
        *out = TOK_WORDPIECE;
    else if (src && src->scores)
        *out = TOK_UNIGRAM;
    else
        *out = TOK_WORDLEVEL;
    return MLXR_OK;
}

static mlxr_status build_model(mlxr_tokenizer *tok, const json_t *config, const tok_source *src,
                               const char *file, mlxr_error *err)
{
    tok_cfg c = tok_cfg_root(json_object_get(config, "model"), file, "model"), vocab, merges;
    size_t type = 0;
    mlxr_status st = model_type(&type, &c, src, err);

    if (st != MLXR_OK) return st;
    vocab = tok_cfg_get(&c, "vocab");
    merges = tok_cfg_get(&c, "merges");
    if (type == TOK_UNIGRAM ? !json_is_array(vocab.j) : !json_is_object(vocab.j))
        return tok_cfg_wrong(
            &vocab, type == TOK_UNIGRAM ? "an array of tokens and scores" : "an object of tokens and ids",
            err);
    if (type == TOK_BPE && !json_is_array(merges.j)) return tok_cfg_wrong(&merges, "an array", err);
    switch (type) {
    case TOK_BPE: return tok_bpe_build(&tok->model, &tok->arena, src, c.j, file, err);
    case TOK_UNIGRAM: return tok_unigram_build(&tok->model, &tok->arena, src, c.j, file, err);
    case TOK_WORDPIECE: return tok_wordpiece_build(&tok->model, &tok->arena, src, c.j, file, err);
    default: return tok_wordlevel_build(&tok->model, &tok->arena, src, c.j, file, err);
    }
}

static const char *const directions[] = {"Left", "Right"};

static mlxr_status build_truncation(tok_truncation *t, const json_t *config, const char *file,
                                    mlxr_error *err)
{
    static const char *const strategies[] = {"LongestFirst", "OnlyFirst", "OnlySecond"};
    tok_cfg c = tok_cfg_root(json_object_get(config, "truncation"), file, "truncation");
    size_t direction = 1, strategy = 0;
    mlxr_status st;

    if (tok_cfg_is_null(&c)) return MLXR_OK;
    if ((st = tok_cfg_object(&c, err)) != MLXR_OK) return st;
    if ((st = tok_cfg_choice(&direction, &c, "direction", directions, 2, false, err)) != MLXR_OK) return st;
    if ((st = tok_cfg_choice(&strategy, &c, "strategy", strategies, 3, true, err)) != MLXR_OK) return st;
    if ((st = tok_cfg_size(&t->max_length, &c, "max_length", true, err)) != MLXR_OK) return st;
    if ((st = tok_cfg_size(&t->stride, &c, "stride", true, err)) != MLXR_OK) return st;
    t->on = true;
    t->left = direction == 0;
    t->strategy = (tok_strategy)strategy;
    return MLXR_OK;
}

static mlxr_status build_padding(tok_padding *p, const json_t *config, const char *file, mlxr_error *err)
{
    enum { MOST = 1 << 24 }; /* a padded length that is a mistake or an attack */
    tok_cfg c = tok_cfg_root(json_object_get(config, "padding"), file, "padding"), strategy, fixed, v;
    size_t direction = 1, id = 0;
    mlxr_status st;

    if (tok_cfg_is_null(&c)) return MLXR_OK;
    if ((st = tok_cfg_object(&c, err)) != MLXR_OK) return st;
    strategy = tok_cfg_get(&c, "strategy");
    fixed = tok_cfg_get(&strategy, "Fixed");
    p->fixed = SIZE_MAX;
    if (fixed.j) {
        if ((st = tok_cfg_size(&p->fixed, &strategy, "Fixed", true, err)) != MLXR_OK) return st;
    } else if (!json_is_string(strategy.j) || strcmp(json_string_value(strategy.j), "BatchLongest") != 0) {
        return tok_cfg_wrong(&strategy, "\"BatchLongest\" or an object with \"Fixed\"", err);
    }
    if ((st = tok_cfg_choice(&direction, &c, "direction", directions, 2, true, err)) != MLXR_OK) return st;
    if ((st = tok_cfg_size(&p->multiple, &c, "pad_to_multiple_of", false, err)) != MLXR_OK) return st;
    if ((st = tok_cfg_size(&id, &c, "pad_id", true, err)) != MLXR_OK) return st;
    v = tok_cfg_get(&c, "pad_id");
    if (id > INT32_MAX) return tok_cfg_wrong(&v, "a token id", err);
    if ((p->fixed != SIZE_MAX && p->fixed > MOST) || p->multiple > MOST)
        return mlxr_fail(err, MLXR_E_LIMIT, "tokenizer: %s: padding: to more than %d ids", file, MOST);
    p->id = (uint32_t)id;
    p->on = true;
    p->left = direction == 0;
    return MLXR_OK;
}

mlxr_status tok_build(mlxr_tokenizer *tok, const json_t *config, const tok_source *src,
                      const tok_added_list *added, const char *file, mlxr_error *err)
{
    tok_cfg root = tok_cfg_root(config, file, "");
    tok_str version = {"1.0", 3};
    mlxr_status st;

    if ((st = tok_cfg_str(&version, &root, "version", false, err)) != MLXR_OK) return st;
    if (!tok_str_eq(version, "1.0"))
        return mlxr_fail(err, MLXR_E_UNSUPPORTED, "tokenizer: %s: version \"%.40s\", only 1.0 is known", file,
                         version.s);
    if ((st = build_model(tok, config, src, file, err)) != MLXR_OK) return st;
    if ((st = tok_normalizer_create(&tok->normalizer, json_object_get(config, "normalizer"), file, err)) !=
        MLXR_OK)
        return st;
    if ((st = tok_pretokenizer_create(&tok->pretokenizer, json_object_get(config, "pre_tokenizer"), file,
                                      err)) != MLXR_OK)
        return st;
    if ((st = tok_postprocessor_create(&tok->postprocessor, json_object_get(config, "post_processor"), file,
                                       err)) != MLXR_OK)
        return st;
    if ((st = tok_decoder_create(&tok->decoder, json_object_get(config, "decoder"), file, err)) != MLXR_OK)
        return st;
    if ((st = build_truncation(&tok->truncation, config, file, err)) != MLXR_OK) return st;
    if ((st = build_padding(&tok->padding, config, file, err)) != MLXR_OK) return st;
    if (tok->model.type == TOK_BPE && tok->pretokenizer &&
        tok_pretokenizer_ends_in_bytes(tok->pretokenizer)) {
        tok_bpe_set_bytes(&tok->model);
        if (tok->model.bpe.by_bytes) {
            tok_pretokenizer_drop_bytes(tok->pretokenizer);
            if (!tok_pretokenizer_n_stages(tok->pretokenizer)) {
                tok_pretokenizer_free(tok->pretokenizer);
                tok->pretokenizer = NULL;
            }
        }
    }
    return tok_added_build(tok, added, err);
}
