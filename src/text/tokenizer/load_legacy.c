/* Folders without tokenizer.json: vocab.json + merges.txt, vocab.txt, tokenizer.model. Their files hold the
 * vocabulary alone; what surrounds it is the convention of transformers' converters (convert_slow_tokenizer.py),
 * with what tokenizer_config.json and its companions say of classes, flags and added tokens. */
#include <stdlib.h>

#include "base/json.h"
#include "text/tokenizer/config.h"
#include "text/tokenizer/load.h"

enum { MAX_SIDE_FILE = 64 << 20 };

/* ---- the companions: tokenizer_config.json, special_tokens_map.json, added_tokens.json ---- */

/* NULL when the file is not there. */
static mlxr_status read_optional(json_t **out, const char *dir, const char *name, mlxr_error *err)
{
    char *path = mlxr_path_join(dir, name);
    mlxr_status st = MLXR_OK;
    *out = NULL;
    if (!path) return mlxr_fail_nomem(err, name);
    if (mlxr_path_is_file(path)) st = mlxr_json_read(out, path, MAX_SIDE_FILE, err);
    if (st == MLXR_OK && *out && !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
    }
    free(path);
    return st;
}

typedef struct added_item {
    json_int_t id; /* where it goes; -1: behind the others */
    json_t *token; /* borrowed or owned by `list` */
} added_item;

static int by_id(const void *a, const void *b)
{
    const added_item *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static bool flag_of(const json_t *token, const char *key, bool or_else)
{
    const json_t *v = json_object_get(token, key);
    return json_is_boolean(v) ? json_is_true(v) : or_else;
}

/* An entry of added_tokens, from a string or an object of tokenizer_config.json; NULL when it is neither. */
static json_t *added_entry(const json_t *token, bool special)
{
    const json_t *content = json_is_string(token) ? token : json_object_get(token, "content");
    if (!json_is_string(content)) return NULL;
    special = flag_of(token, "special", special);
    return json_pack("{s:O, s:b, s:b, s:b, s:b, s:b}", "content", content, "special", special, "single_word",
                     flag_of(token, "single_word", false), "lstrip", flag_of(token, "lstrip", false),
                     "rstrip", flag_of(token, "rstrip", false), "normalized",
                     flag_of(token, "normalized", !special));
}

static bool lists(const json_t *added, const json_t *entry)
{
    size_t i;
    json_t *v;
    json_array_foreach(added, i, v) if (json_equal(json_object_get(v, "content"),
                                                   json_object_get(entry, "content"))) return true;
    return false;
}

static mlxr_status append(json_t *added, const json_t *token, bool special, mlxr_error *err)
{
    json_t *e = added_entry(token, special);
    if (!e) return MLXR_OK;
    if (lists(added, e)) {
        json_decref(e);
        return MLXR_OK;
    }
    return json_array_append_new(added, e) == 0 ? MLXR_OK : mlxr_fail_nomem(err, "tokenizer: added tokens");
}

/* The folder's added tokens by id, then those only named (bos_token and the like). */
static mlxr_status collect_added(json_t *added, const char *dir, const json_t *config, mlxr_error *err)
{
    static const char *const names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                        "pad_token", "cls_token", "mask_token"};
    json_t *extra = NULL, *map = NULL, *v, *decoder = json_object_get(config, "added_tokens_decoder");
    const char *key;
    added_item *items = NULL;
    size_t n = 0, i;
    mlxr_status st = read_optional(&extra, dir, "added_tokens.json", err);

    if (st == MLXR_OK) st = read_optional(&map, dir, "special_tokens_map.json", err);
    if (st != MLXR_OK) goto done;
    items = mlxr_calloc_array(json_object_size(decoder) + json_object_size(extra), sizeof *items);
    if (!items) {
        st = mlxr_fail_nomem(err, "tokenizer: added tokens");
        goto done;
    }
    json_object_foreach(decoder, key, v) items[n++] = (added_item){strtoll(key, NULL, 10), v};
    qsort(items, n, sizeof *items, by_id);
    for (i = 0; i < n && st == MLXR_OK; i++) st = append(added, items[i].token, false, err);
    n = 0;
    json_object_foreach(extra, key, v)
    {
        json_t *name = json_string(key);
        if (name) items[n++] = (added_item){json_integer_value(v), name};
    }
    qsort(items, n, sizeof *items, by_id);
    for (i = 0; i < n; i++) {
        if (st == MLXR_OK) st = append(added, items[i].token, false, err);
        json_decref(items[i].token);
    }
    for (int k = 0; k < 2 && st == MLXR_OK; k++) {
        const json_t *from = k ? config : map;
        for (i = 0; i < MLXR_COUNT(names) && st == MLXR_OK; i++) {
            v = json_object_get(from, names[i]);
            if (v) st = append(added, v, true, err);
        }
        json_array_foreach(json_object_get(from, "additional_special_tokens"), i, v)
        {
            if (st == MLXR_OK) st = append(added, v, true, err);
        }
    }
done:
    free(items);
    json_decref(extra);
    json_decref(map);
    return st;
}

/* ---- vocab.json + merges.txt ---- */

static mlxr_status read_merges(tok_source *src, const mlxr_buf *text, const char *path, mlxr_error *err)
{
    const char *s = text->data ? text->data : "", *end = s + text->len;
    size_t n_lines = 0, cap = 0;

    for (const char *p = s; p < end; p++) n_lines += *p == '\n';
    cap = 2 * (n_lines + 1);
    free(src->merges);
    src->n_merges = 0;
    src->merges = mlxr_malloc_array(cap, sizeof *src->merges);
    if (!src->merges) return mlxr_fail_nomem(err, path);
    for (size_t line = 1; s < end; line++) {
        const char *nl = memchr(s, '\n', (size_t)(end - s)), *stop = nl ? nl : end, *space;
        size_t n = (size_t)(stop - s);
        if (n && s[n - 1] == '\r') n--;
        space = memchr(s, ' ', n);
        if (n && !(n >= 8 && memcmp(s, "#version", 8) == 0)) {
            const char *b = space ? space + 1 : s;
            if (!space || memchr(b, ' ', (size_t)(s + n - b)))
                return mlxr_fail(err, MLXR_E_FORMAT,
                                 "tokenizer: %s: line %zu: must be two tokens and a space", path, line);
            src->merges[2 * src->n_merges] = (tok_str){s, (size_t)(space - s)};
            src->merges[2 * src->n_merges + 1] = (tok_str){b, (size_t)(s + n - b)};
            src->n_merges++;
        }
        s = nl ? nl + 1 : end;
    }
    return MLXR_OK;
}

static bool class_is(const json_t *config, const char *name)
{
    const char *s = json_string_value(json_object_get(config, "tokenizer_class"));
    return s && strncmp(s, name, strlen(name)) == 0;
}

static json_t *byte_level(bool prefix_space, bool use_regex)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", prefix_space,
                     "trim_offsets", 1, "use_regex", use_regex);
}

/* The parts around a byte-level BPE: GPT-2's, or those of the class that tokenizer_config.json names. */
static json_t *bpe_parts(const json_t *config)
{
    bool prefix = flag_of(config, "add_prefix_space", false);
    json_t *root = json_object();
    if (!root) return NULL;
    if (class_is(config, "Qwen2")) {
        json_object_set_new(root, "normalizer", json_pack("{s:s}", "type", "NFC"));
        json_object_set_new(root, "pre_tokenizer",
                            json_pack("{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, o]}", "type", "Sequence",
                                      "pretokenizers", "type", "Split", "pattern", "Regex",
                                      tok_scanner_pattern(TOK_SCAN_QWEN2), "behavior", "Isolated", "invert",
                                      0, byte_level(prefix, false)));
    } else {
        json_object_set_new(root, "pre_tokenizer", byte_level(prefix, true));
    }
    json_object_set_new(root, "decoder", byte_level(true, true));
    return root;
}

/* cls and sep around a text, for the classes that add them; ids are looked up in the source. */
static json_t *named_token(const tok_source *src, const char *name)
{
    for (size_t i = 0; i < src->n_tokens; i++)
        if (tok_str_eq(src->tokens[i], name)) return json_pack("[s, I]", name, (json_int_t)src->ids[i]);
    return NULL;
}

static mlxr_status open_bpe(mlxr_tokenizer *tok, const char *dir, const char *vocab, const char *merges,
                            mlxr_error *err)
{
    static const char head[] = "{\"model\": {\"type\": \"BPE\", \"merges\": [], \"vocab\": ", tail[] = "}}";
    mlxr_buf text = {0}, merge_text = {0};
    mlxr_arena arena = {0};
    tok_source src = {0};
    json_t *root = NULL, *config = NULL, *parts = NULL, *added = json_array();
    mlxr_status st;

    mlxr_buf_str(&text, head);
    if ((st = mlxr_file_read(&text, vocab, TOK_MAX_FILE_BYTES, err)) != MLXR_OK) goto done;
    mlxr_buf_str(&text, tail);
    if ((st = mlxr_buf_check(&text, vocab, err)) != MLXR_OK) goto done;
    if ((st = mlxr_file_read(&merge_text, merges, TOK_MAX_FILE_BYTES, err)) != MLXR_OK) goto done;
    if (mlxr_utf8_valid(merge_text.data, merge_text.len) != merge_text.len) {
        st = mlxr_fail(err, MLXR_E_FORMAT, "tokenizer: %s: is not UTF-8", merges);
        goto done;
    }
    if ((st = tok_load_json(&root, &src, &arena, text.data, text.len, sizeof head - 1, vocab, err)) !=
        MLXR_OK)
        goto done;
    if ((st = read_merges(&src, &merge_text, merges, err)) != MLXR_OK) goto done;
    if ((st = read_optional(&config, dir, "tokenizer_config.json", err)) != MLXR_OK) goto done;
    parts = bpe_parts(config);
    if (!parts || !added || json_object_update(root, parts) != 0) {
        st = mlxr_fail_nomem(err, vocab);
        goto done;
    }
    if (class_is(config, "Roberta")) {
        json_t *cls = named_token(&src, "<s>"), *sep = named_token(&src, "</s>");
        if (cls && sep)
            json_object_set_new(
                root, "post_processor",
                json_pack("{s:s, s:O, s:O}", "type", "RobertaProcessing", "cls", cls, "sep", sep));
        json_decref(cls);
        json_decref(sep);
    }
    if ((st = collect_added(added, dir, config, err)) != MLXR_OK) goto done;
    json_object_set(root, "added_tokens", added);
    st = tok_build_all(tok, root, &src, vocab, err);
done:
    tok_source_clear(&src);
    json_decref(root);
    json_decref(config);
    json_decref(parts);
    json_decref(added);
    mlxr_arena_clear(&arena);
    mlxr_buf_clear(&text);
    mlxr_buf_clear(&merge_text);
    return st;
}

/* ---- vocab.txt: BERT ---- */

static mlxr_status open_wordpiece(mlxr_tokenizer *tok, const char *dir, const char *vocab, mlxr_error *err)
{
    mlxr_buf text = {0};
    tok_source src = {0};
    json_t *root = NULL, *config = NULL, *added = json_array(), *cls = NULL, *sep = NULL, *accents;
    const char *s, *end;
    size_t n_lines = 1;
    bool lower;
    mlxr_status st = mlxr_file_read(&text, vocab, TOK_MAX_FILE_BYTES, err);

    if (st != MLXR_OK) goto done;
    if (mlxr_utf8_valid(text.data, text.len) != text.len) {
        st = mlxr_fail(err, MLXR_E_FORMAT, "tokenizer: %s: is not UTF-8", vocab);
        goto done;
    }
    if ((st = read_optional(&config, dir, "tokenizer_config.json", err)) != MLXR_OK) goto done;
    s = text.data;
    end = s + text.len;
    for (const char *p = s; p < end; p++) n_lines += *p == '\n';
    src.tokens = mlxr_malloc_array(n_lines, sizeof *src.tokens);
    src.ids = mlxr_malloc_array(n_lines, sizeof *src.ids);
    if (!src.tokens || !src.ids || !added) {
        st = mlxr_fail_nomem(err, vocab);
        goto done;
    }
    while (s < end) { /* a token a line, without the white space at its end */
        const char *nl = memchr(s, '\n', (size_t)(end - s)), *stop = nl ? nl : end, *e = stop;
        while (e > s && (tok_unicode(tok_prev(e)) & TOK_U_SPACE)) {
            do e--;
            while (((unsigned char)*e & 0xc0u) == 0x80u);
        }
        src.tokens[src.n_tokens] = (tok_str){s, (size_t)(e - s)};
        src.ids[src.n_tokens] = (uint32_t)src.n_tokens;
        src.n_tokens++;
        s = nl ? nl + 1 : end;
    }
    lower = flag_of(config, "do_lower_case", true);
    accents = json_object_get(config, "strip_accents");
    root = json_pack(
        "{s:{s:s, s:s, s:s, s:i, s:{}}, s:{s:s, s:b, s:b, s:b, s:O}, s:{s:s}, s:{s:s, s:s, s:b}}", "model",
        "type", "WordPiece", "unk_token", "[UNK]", "continuing_subword_prefix", "##",
        "max_input_chars_per_word", 100, "vocab", "normalizer", "type", "BertNormalizer", "clean_text", 1,
        "handle_chinese_chars", flag_of(config, "tokenize_chinese_chars", true), "lowercase", lower,
        "strip_accents", json_is_boolean(accents) ? accents : json_null(), "pre_tokenizer", "type",
        "BertPreTokenizer", "decoder", "type", "WordPiece", "prefix", "##", "cleanup", 1);
    cls = named_token(&src, "[CLS]");
    sep = named_token(&src, "[SEP]");
    if (!root) {
        st = mlxr_fail_nomem(err, vocab);
        goto done;
    }
    if (cls && sep)
        json_object_set_new(root, "post_processor",
                            json_pack("{s:s, s:O, s:O}", "type", "BertProcessing", "cls", cls, "sep", sep));
    if ((st = collect_added(added, dir, config, err)) != MLXR_OK) goto done;
    if (json_array_size(added) == 0) { /* BERT's own, where no file names them */
        static const char *const names[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
        for (size_t i = 0; i < MLXR_COUNT(names) && st == MLXR_OK; i++) {
            json_t *t = named_token(&src, names[i]);
            if (t) st = append(added, json_array_get(t, 0), true, err);
            json_decref(t);
        }
    }
    json_object_set(root, "added_tokens", added);
    if (st == MLXR_OK) st = tok_build_all(tok, root, &src, vocab, err);
done:
    tok_source_clear(&src);
    json_decref(root);
    json_decref(config);
    json_decref(added);
    json_decref(cls);
    json_decref(sep);
    mlxr_buf_clear(&text);
    return st;
}

/* ---- choosing ---- */

mlxr_status tok_open_folder(mlxr_tokenizer *tok, const char *dir, mlxr_error *err)
{
    char *vocab = mlxr_path_join(dir, "vocab.json"), *merges = mlxr_path_join(dir, "merges.txt");
    char *words = mlxr_path_join(dir, "vocab.txt"), *pieces = mlxr_path_join(dir, "tokenizer.model");
    mlxr_status st;

    if (!vocab || !merges || !words || !pieces)
        st = mlxr_fail_nomem(err, "tokenizer");
    else if (mlxr_path_is_file(vocab) && mlxr_path_is_file(merges))
        st = open_bpe(tok, dir, vocab, merges, err);
    else if (mlxr_path_is_file(words))
        st = open_wordpiece(tok, dir, words, err);
    else if (mlxr_path_is_file(pieces))
        st = tok_open_sentencepiece(tok, pieces, err);
    else
        st = mlxr_fail(err, MLXR_E_NOT_FOUND,
                       "tokenizer: %s: none of tokenizer.json, vocab.json with merges.txt, vocab.txt or "
                       "tokenizer.model is there",
                       dir);
    free(vocab);
    free(merges);
    free(words);
    free(pieces);
    return st;
}
