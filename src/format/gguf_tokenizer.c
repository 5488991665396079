/* The tokenizer of a GGUF file as tokenizer.json and tokenizer_config.json.
 *
 * tokenizer.ggml.model "gpt2" is byte-level BPE: its pre-tokenizer is known by name only
 * (tokenizer.ggml.pre), so the table here holds what the Hugging Face tokenizer.json of those models says.
 * "llama" is sentencepiece's BPE, whose merges are implied by the scores; they are written out as
 * transformers' convert_slow_tokenizer.py does. The names are those of llama.cpp's convert_hf_to_gguf.py and
 * src/llama-vocab.cpp. */
#include <math.h>
#include <stdlib.h>

#include "format/gguf.h"

/* tokenizer.ggml.token_type */
enum {
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN = 2,
    TOKEN_CONTROL = 3,
    TOKEN_USER_DEFINED = 4,
    TOKEN_UNUSED = 5,
    TOKEN_BYTE = 6
};

enum { MAX_SPLITS = 4, MAX_PIECE_BYTES = 1024 };

#define GPT2_REGEX "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define LLAMA3_REGEX                                                                                        \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" \
    "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define QWEN2_REGEX                                                                                    \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" \
    "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define TEKKEN_REGEX                                                                                    \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"         \
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}" \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* Splits by these regexes in turn, digits each alone, then ByteLevel with or without its own (GPT-2's)
 * regex. */
typedef struct pre_tokenizer {
    const char *name;
    bool digits, byte_level_regex, nfc, ignore_merges, add_bos;
    const char *splits[MAX_SPLITS];
} pre_tokenizer;

static const pre_tokenizer pre_tokenizers[] = {
    {"gpt-2", false, true, false, false, false, {NULL}},
    {"gpt2", false, true, false, false, false, {NULL}},
    {"smollm", true, true, false, false, false, {NULL}},
    {"starcoder", true, true, false, false, false, {NULL}},
    {"refact", true, true, false, false, false, {NULL}},
    {"llama-bpe", false, false, false, true, true, {LLAMA3_REGEX}},
    {"llama3", false, false, false, true, true, {LLAMA3_REGEX}},
    {"llama-v3", false, false, false, true, true, {LLAMA3_REGEX}},
    {"qwen2", false, false, true, false, false, {QWEN2_REGEX}},
    {"deepseek-r1-qwen", false, false, true, false, true, {QWEN2_REGEX}},
    {"tekken", false, false, false, true, true, {TEKKEN_REGEX}},
    /* No model's own, but what llama.cpp does for a file that names none. */
    {"default",
     false,
     false,
     false,
     false,
     false,
     {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2_REGEX, "\\p{N}+", "[0-9][0-9][0-9]"}},
};

typedef struct token {
    mlxr_gguf_str text;
    int type;
    bool duplicate; /* of one with a lower id: left out, as a JSON object cannot hold it */
} token;

typedef struct builder {
    const mlxr_gguf *g;
    const mlxr_log *log;
    mlxr_error *err;
    token *tokens;
    size_t n_tokens;
    mlxr_strtab ids; /* text to id */
    mlxr_gguf_vocab *vocab;
    bool add_bos, add_eos;
} builder;

static mlxr_status bad(const builder *b, mlxr_status st, const char *text)
{
    return mlxr_fail(b->err, st, "gguf: %s: %s", mlxr_gguf_path(b->g), text);
}

/* ---- tokens ---- */

static mlxr_status array_of(const mlxr_gguf_value **out, const builder *b, const char *key, bool strings,
                            bool wanted)
{
    const mlxr_gguf_value *v = mlxr_gguf_find(b->g, key);

    *out = v;
    if (!v)
        return wanted ? mlxr_fail(b->err, MLXR_E_FORMAT, "gguf: %s: no \"%s\"", mlxr_gguf_path(b->g), key)
                      : MLXR_OK;
    if (v->kind != MLXR_GGUF_ARRAY || (v->item_kind == MLXR_GGUF_STRING) != strings ||
        v->item_kind == MLXR_GGUF_ARRAY || v->item_kind == MLXR_GGUF_BOOL)
        return mlxr_fail(b->err, MLXR_E_FORMAT, "gguf: %s: \"%s\" is not an array of %s",
                         mlxr_gguf_path(b->g), key, strings ? "strings" : "numbers");
    return MLXR_OK;
}

/* An array of one number for each token. */
static mlxr_status numbers_of(const mlxr_gguf_value **out, const builder *b, const char *key, bool wanted)
{
    mlxr_status st = array_of(out, b, key, false, wanted);

    if (st == MLXR_OK && *out && (*out)->n_items != b->n_tokens)
        return mlxr_fail(b->err, MLXR_E_FORMAT, "gguf: %s: \"%s\" has %llu items for %zu tokens",
                         mlxr_gguf_path(b->g), key, (unsigned long long)(*out)->n_items, b->n_tokens);
    return st;
}

static mlxr_status read_tokens(builder *b)
{
    const mlxr_gguf_value *texts, *types;
    const uint8_t *at;
    size_t n_duplicates = 0;
    mlxr_status st;

    if ((st = array_of(&texts, b, "tokenizer.ggml.tokens", true, true)) != MLXR_OK) return st;
    if (texts->n_items == 0 || texts->n_items > INT32_MAX)
        return bad(b, MLXR_E_FORMAT, "no tokens, or too many");
    b->n_tokens = (size_t)texts->n_items;
    if ((st = numbers_of(&types, b, "tokenizer.ggml.token_type", false)) != MLXR_OK) return st;
    b->tokens = mlxr_calloc_array(b->n_tokens, sizeof *b->tokens);
    if (!b->tokens) return bad(b, MLXR_E_NOMEM, "out of memory");
    at = texts->data;
    for (size_t i = 0; i < b->n_tokens; i++) {
        token *t = &b->tokens[i];
        t->text = mlxr_gguf_next_str(&at);
        if (mlxr_utf8_valid(t->text.s, t->text.n) != t->text.n)
            return mlxr_fail(b->err, MLXR_E_FORMAT, "gguf: %s: token %zu is not valid UTF-8",
                             mlxr_gguf_path(b->g), i);
        t->type = TOKEN_NORMAL;
        if (types) {
            int64_t type = mlxr_gguf_kind_is_int(types->item_kind) ? mlxr_gguf_item_int(types, i) : -1;
            if (type < 0 || type > TOKEN_BYTE)
                return mlxr_fail(b->err, MLXR_E_FORMAT, "gguf: %s: token %zu is of unknown type",
                                 mlxr_gguf_path(b->g), i);
            t->type = (int)type;
        }
        if (mlxr_strtab_get(&b->ids, t->text.s, t->text.n) != SIZE_MAX) {
            t->duplicate = true;
            n_duplicates++;
        } else if (!mlxr_strtab_put(&b->ids, t->text.s, t->text.n, i, NULL)) {
            return bad(b, MLXR_E_NOMEM, "out of memory");
        }
    }
    if (n_duplicates)
        mlxr_log_at(b->log, MLXR_LOG_WARN, "gguf: %s: %zu tokens repeat the text of another and are left out",
                    mlxr_gguf_path(b->g), n_duplicates);
    return MLXR_OK;
}

/* An id of tokenizer.ggml.NAME_token_id, or what *out was. */
static mlxr_status special_id(int64_t *out, const builder *b, const char *key)
{
    mlxr_status st = mlxr_gguf_get_int(out, b->g, key, 0, UINT32_MAX, b->err);

    if (st == MLXR_OK && *out == UINT32_MAX) *out = -1; /* llama.cpp's "none" */
    if (st == MLXR_OK && *out >= 0 && (uint64_t)*out >= b->n_tokens)
        return mlxr_fail(b->err, MLXR_E_FORMAT, "gguf: %s: \"%s\" is %lld, the tokens end at %zu",
                         mlxr_gguf_path(b->g), key, (long long)*out, b->n_tokens);
    return st;
}

static void add_eos_id(mlxr_gguf_vocab *v, int64_t id)
{
    if (id < 0 || v->n_eos == MLXR_COUNT(v->eos_set)) return;
    for (size_t i = 0; i < v->n_eos; i++)
        if (v->eos_set[i] == id) return;
    v->eos_set[v->n_eos++] = id;
}

/* The ids that end a text: the file's, and the usual ends of a turn where they are control tokens, since a
 * chat model's file often names only the end of text. */
static mlxr_status read_special_ids(builder *b, bool sentencepiece)
{
    static const char *const keys[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    static const char *const turn_ends[] = {"<|eot_id|>", "<|eom_id|>", "<|im_end|>"};
    mlxr_gguf_vocab *v = b->vocab;
    mlxr_status st;

    v->n_tokens = b->n_tokens;
    if (sentencepiece && b->n_tokens > 2) {
        v->unk = 0;
        v->bos = 1;
        v->eos = 2;
    }
    if ((st = special_id(&v->bos, b, "tokenizer.ggml.bos_token_id")) != MLXR_OK) return st;
    if ((st = special_id(&v->eos, b, "tokenizer.ggml.eos_token_id")) != MLXR_OK) return st;
    if ((st = special_id(&v->unk, b, "tokenizer.ggml.unknown_token_id")) != MLXR_OK) return st;
    if ((st = special_id(&v->pad, b, "tokenizer.ggml.padding_token_id")) != MLXR_OK) return st;
    add_eos_id(v, v->eos);
    for (size_t i = 0; i < MLXR_COUNT(keys); i++) {
        int64_t id = -1;
        if ((st = special_id(&id, b, keys[i])) != MLXR_OK) return st;
        add_eos_id(v, id);
    }
    for (size_t i = 0; i < MLXR_COUNT(turn_ends); i++) {
        size_t id = mlxr_strtab_get(&b->ids, turn_ends[i], strlen(turn_ends[i]));
        if (id != SIZE_MAX && b->tokens[id].type == TOKEN_CONTROL) add_eos_id(v, (int64_t)id);
    }
    if ((st = mlxr_gguf_get_bool(&b->add_bos, b->g, "tokenizer.ggml.add_bos_token", b->err)) != MLXR_OK)
        return st;
    if ((st = mlxr_gguf_get_bool(&b->add_eos, b->g, "tokenizer.ggml.add_eos_token", b->err)) != MLXR_OK)
        return st;
    if (v->bos < 0) b->add_bos = false;
    if (v->eos < 0) b->add_eos = false;
    return MLXR_OK;
}

/* ---- tokenizer.json ---- */

static void put_text(mlxr_buf *out, const builder *b, int64_t id)
{
    mlxr_json_escape(out, b->tokens[id].text.s, b->tokens[id].text.n);
}

/* Fills of a vocabulary up to the embedding's rows; no text ever becomes one. */
static bool is_filler(const token *t)
{
    return t->type == TOKEN_UNUSED && t->text.n > 5 && memcmp(t->text.s, "[PAD", 4) == 0;
}

static void put_added_tokens(mlxr_buf *out, const builder *b)
{
    const char *separator = "";

    mlxr_buf_str(out, "\"added_tokens\": [");
    for (size_t i = 0; i < b->n_tokens; i++) {
        const token *t = &b->tokens[i];
        bool special = t->type == TOKEN_CONTROL || t->type == TOKEN_UNKNOWN;
        if ((!special && t->type != TOKEN_USER_DEFINED) || t->duplicate || t->text.n == 0) continue;
        mlxr_buf_printf(out, "%s\n    {\"id\": %zu, \"content\": ", separator, i);
        put_text(out, b, (int64_t)i);
        mlxr_buf_printf(
            out,
            ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
            "\"special\": %s}",
            special ? "true" : "false");
        separator = ",";
    }
    mlxr_buf_str(out, "\n  ],\n");
}

static void put_vocab(mlxr_buf *out, const builder *b)
{
    const char *separator = "";

    mlxr_buf_str(out, "    \"vocab\": {");
    for (size_t i = 0; i < b->n_tokens; i++) {
        if (b->tokens[i].duplicate || is_filler(&b->tokens[i])) continue;
        mlxr_buf_printf(out, "%s\n      ", separator);
        put_text(out, b, (int64_t)i);
        mlxr_buf_printf(out, ": %zu", i);
        separator = ",";
    }
    mlxr_buf_str(out, "\n    },\n");
}

static void put_template_side(mlxr_buf *out, const builder *b, const char *sequence, int type_id)
{
    const struct {
        bool there;
        int64_t id;
    } ends[2] = {{b->add_bos, b->vocab->bos}, {b->add_eos, b->vocab->eos}};

    for (int i = 0; i < 2; i++) {
        if (ends[i].there) {
            mlxr_buf_str(out, i ? ", {\"SpecialToken\": {\"id\": " : "{\"SpecialToken\": {\"id\": ");
            put_text(out, b, ends[i].id);
            mlxr_buf_printf(out, ", \"type_id\": %d}}%s", type_id, i ? "" : ", ");
        }
        if (i == 0)
            mlxr_buf_printf(out, "{\"Sequence\": {\"id\": \"%s\", \"type_id\": %d}}", sequence, type_id);
    }
}

static void put_special_entry(mlxr_buf *out, const builder *b, int64_t id)
{
    put_text(out, b, id);
    mlxr_buf_str(out, ": {\"id\": ");
    put_text(out, b, id);
    mlxr_buf_printf(out, ", \"ids\": [%lld], \"tokens\": [", (long long)id);
    put_text(out, b, id);
    mlxr_buf_str(out, "]}");
}

static void put_post_processor(mlxr_buf *out, const builder *b)
{
    if (!b->add_bos && !b->add_eos) {
        mlxr_buf_str(out, "  \"post_processor\": null,\n");
        return;
    }
    mlxr_buf_str(out, "  \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [");
    put_template_side(out, b, "A", 0);
    mlxr_buf_str(out, "], \"pair\": [");
    put_template_side(out, b, "A", 0);
    mlxr_buf_str(out, ", ");
    put_template_side(out, b, "B", 1);
    mlxr_buf_str(out, "], \"special_tokens\": {");
    if (b->add_bos) put_special_entry(out, b, b->vocab->bos);
    if (b->add_eos && (!b->add_bos || b->vocab->eos != b->vocab->bos)) {
        if (b->add_bos) mlxr_buf_str(out, ", ");
        put_special_entry(out, b, b->vocab->eos);
    }
    mlxr_buf_str(out, "}},\n");
}

/* "a b" of tokenizer.ggml.merges: two tokens whose sum is one. Tokens of byte-level BPE hold no space, and
 * one that is first (a space of its own) belongs to the left one. */
static mlxr_status put_merges(mlxr_buf *out, const builder *b)
{
    const mlxr_gguf_value *merges;
    const uint8_t *at;
    mlxr_buf sum = {0};
    mlxr_status st = array_of(&merges, b, "tokenizer.ggml.merges", true, true);

    if (st != MLXR_OK) return st;
    at = merges->data;
    mlxr_buf_str(out, "    \"merges\": [");
    for (uint64_t i = 0; i < merges->n_items; i++) {
        mlxr_gguf_str m = mlxr_gguf_next_str(&at), right;
        const char *space = m.n > 2 ? memchr(m.s + 1, ' ', m.n - 2) : NULL;
        bool known = false;
        if (space) {
            right.s = space + 1;
            right.n = m.n - (size_t)(right.s - m.s);
            sum.len = 0;
            mlxr_buf_append(&sum, m.s, (size_t)(space - m.s));
            mlxr_buf_append(&sum, right.s, right.n);
            if (sum.failed) break;
            known = mlxr_strtab_get(&b->ids, m.s, (size_t)(space - m.s)) != SIZE_MAX &&
                    mlxr_strtab_get(&b->ids, right.s, right.n) != SIZE_MAX &&
                    mlxr_strtab_get(&b->ids, sum.data, sum.len) != SIZE_MAX;
        }
        if (!known) {
            st = mlxr_fail(b->err, MLXR_E_FORMAT,
                           "gguf: %s: merge %llu \"%.*s\" is not of two tokens into a third",
                           mlxr_gguf_path(b->g), (unsigned long long)i, (int)(m.n < 100 ? m.n : 100), m.s);
            goto done;
        }
        mlxr_buf_str(out, i ? ",\n      [" : "\n      [");
        mlxr_json_escape(out, m.s, (size_t)(space - m.s));
        mlxr_buf_str(out, ", ");
        mlxr_json_escape(out, right.s, right.n);
        mlxr_buf_char(out, ']');
    }
    mlxr_buf_str(out, "\n    ]\n");
    st = mlxr_buf_check(&sum, "gguf: merges", b->err);
done:
    mlxr_buf_clear(&sum);
    return st;
}

static void put_pre_tokenizer(mlxr_buf *out, const pre_tokenizer *p)
{
    mlxr_buf_str(out, "  \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [");
    if (p->digits) mlxr_buf_str(out, "{\"type\": \"Digits\", \"individual_digits\": true}, ");
    for (int i = 0; i < MAX_SPLITS && p->splits[i]; i++) {
        mlxr_buf_str(out, "{\"type\": \"Split\", \"pattern\": {\"Regex\": ");
        mlxr_json_escape(out, p->splits[i], strlen(p->splits[i]));
        mlxr_buf_str(out, "}, \"behavior\": \"Isolated\", \"invert\": false}, ");
    }
    mlxr_buf_printf(
        out,
        "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": "
        "%s}]},\n",
        p->byte_level_regex ? "true" : "false");
}

static mlxr_status find_pre_tokenizer(const pre_tokenizer **out, const builder *b)
{
    mlxr_gguf_str name = {"default", 7};
    mlxr_buf known = {0};
    mlxr_status st = mlxr_gguf_get_str(&name, b->g, "tokenizer.ggml.pre", b->err);

    if (st != MLXR_OK) return st;
    for (size_t i = 0; i < MLXR_COUNT(pre_tokenizers); i++) {
        const char *n = pre_tokenizers[i].name;
        if (strlen(n) == name.n && memcmp(n, name.s, name.n) == 0) {
            *out = &pre_tokenizers[i];
            mlxr_buf_clear(&known);
            return MLXR_OK;
        }
        mlxr_buf_printf(&known, "%s%s", i ? ", " : "", n);
    }
    if ((st = mlxr_buf_check(&known, "gguf: pre-tokenizers", b->err)) == MLXR_OK)
        st = mlxr_fail(b->err, MLXR_E_UNSUPPORTED,
                       "gguf: %s: tokenizer.ggml.pre \"%.*s\" is not supported, supported are %s",
                       mlxr_gguf_path(b->g), (int)(name.n < 100 ? name.n : 100), name.s, known.data);
    mlxr_buf_clear(&known);
    return st;
}

static mlxr_status put_byte_level(mlxr_buf *out, builder *b)
{
    const pre_tokenizer *pre = NULL;
    mlxr_status st = find_pre_tokenizer(&pre, b);

    if (st != MLXR_OK) return st;
    b->add_bos = pre->add_bos;
    if ((st = read_special_ids(b, false)) != MLXR_OK) return st;
    put_added_tokens(out, b);
    mlxr_buf_str(out, pre->nfc ? "  \"normalizer\": {\"type\": \"NFC\"},\n" : "  \"normalizer\": null,\n");
    put_pre_tokenizer(out, pre);
    put_post_processor(out, b);
    mlxr_buf_printf(
        out,
        "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, "
        "\"use_regex\": true},\n"
        "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n"
        "    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n"
        "    \"fuse_unk\": false,\n    \"byte_fallback\": false,\n    \"ignore_merges\": %s,\n",
        pre->ignore_merges ? "true" : "false");
    put_vocab(out, b);
    st = put_merges(out, b);
    mlxr_buf_str(out, "  }\n}\n");
    return st;
}

/* ---- sentencepiece ---- */

/* One way to make a token of two: higher scores come first, longer left and right parts next, then lower
 * ids. */
typedef struct merge {
    double score;
    size_t n_left, n_right; /* characters */
    size_t id, left, right;
    size_t n_left_bytes;
} merge;

static int compare(size_t a, size_t b)
{
    return a < b ? -1 : a > b;
}

static int by_rank(const void *a, const void *b)
{
    const merge *x = a, *y = b;
    int c;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if ((c = compare(y->n_left, x->n_left)) != 0) return c;
    if ((c = compare(y->n_right, x->n_right)) != 0) return c;
    if ((c = compare(x->id, y->id)) != 0) return c;
    if ((c = compare(x->left, y->left)) != 0) return c;
    return compare(x->right, y->right);
}

static bool is_start(char c)
{
    return ((unsigned char)c & 0xc0u) != 0x80u;
}

static size_t count_characters(const char *s, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += is_start(s[i]);
    return count;
}

/* The token of this text if merges may use it, else SIZE_MAX. */
static size_t normal_token(const builder *b, const char *s, size_t n)
{
    size_t id = mlxr_strtab_get(&b->ids, s, n);
    return id != SIZE_MAX && b->tokens[id].type == TOKEN_NORMAL ? id : SIZE_MAX;
}

static mlxr_status put_scored_merges(mlxr_buf *out, const builder *b)
{
    const mlxr_gguf_value *scores;
    mlxr_buf list = {0};
    merge *merges;
    size_t n;
    mlxr_status st = numbers_of(&scores, b, "tokenizer.ggml.scores", true);

    if (st != MLXR_OK) return st;
    for (size_t i = 0; i < b->n_tokens && !list.failed; i++) {
        const token *t = &b->tokens[i];
        const double score = mlxr_gguf_item_real(scores, i);
        if (t->type != TOKEN_NORMAL || t->duplicate) continue;
        if (isnan(score)) {
            st = bad(b, MLXR_E_FORMAT, "a token's score is not a number");
            goto done;
        }
        if (t->text.n > MAX_PIECE_BYTES) {
            st = mlxr_fail(b->err, MLXR_E_LIMIT,
                           "gguf: %s: token %zu has %zu bytes, at most %d are supported",
                           mlxr_gguf_path(b->g), i, t->text.n, MAX_PIECE_BYTES);
            goto done;
        }
        for (size_t cut = 1; cut < t->text.n; cut++) {
            merge m = {.score = score, .id = i, .n_left_bytes = cut};
            if (!is_start(t->text.s[cut])) continue;
            if ((m.left = normal_token(b, t->text.s, cut)) == SIZE_MAX) continue;
            if ((m.right = normal_token(b, t->text.s + cut, t->text.n - cut)) == SIZE_MAX) continue;
            m.n_left = count_characters(t->text.s, cut);
            m.n_right = count_characters(t->text.s + cut, t->text.n - cut);
            mlxr_buf_append(&list, &m, sizeof m);
        }
    }
    if ((st = mlxr_buf_check(&list, "gguf: merges", b->err)) != MLXR_OK) goto done;
    merges = (merge *)(void *)list.data;
    n = list.len / sizeof *merges;
    if (n) qsort(merges, n, sizeof *merges, by_rank);
    mlxr_buf_str(out, "    \"merges\": [");
    for (size_t i = 0; i < n; i++) {
        mlxr_gguf_str s = b->tokens[merges[i].id].text;
        mlxr_buf_str(out, i ? ",\n      [" : "\n      [");
        mlxr_json_escape(out, s.s, merges[i].n_left_bytes);
        mlxr_buf_str(out, ", ");
        mlxr_json_escape(out, s.s + merges[i].n_left_bytes, s.n - merges[i].n_left_bytes);
        mlxr_buf_char(out, ']');
    }
    mlxr_buf_str(out, "\n    ]\n");
done:
    mlxr_buf_clear(&list);
    return st;
}

static mlxr_status put_sentencepiece(mlxr_buf *out, builder *b)
{
    static const char space[] = "\xe2\x96\x81"; /* U+2581, sentencepiece's visible space */
    bool prefix = true, bytes = false;
    mlxr_status st;

    b->add_bos = true;
    if ((st = read_special_ids(b, true)) != MLXR_OK) return st;
    if ((st = mlxr_gguf_get_bool(&prefix, b->g, "tokenizer.ggml.add_space_prefix", b->err)) != MLXR_OK)
        return st;
    for (size_t i = 0; i < b->n_tokens; i++) bytes |= b->tokens[i].type == TOKEN_BYTE;
    put_added_tokens(out, b);
    mlxr_buf_str(out, "  \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [");
    if (prefix) mlxr_buf_printf(out, "{\"type\": \"Prepend\", \"prepend\": \"%s\"}, ", space);
    mlxr_buf_printf(out,
                    "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"%s\"}]},\n"
                    "  \"pre_tokenizer\": null,\n",
                    space);
    put_post_processor(out, b);
    mlxr_buf_printf(
        out,
        "  \"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": "
        "{\"String\": \"%s\"}, \"content\": \" \"}, {\"type\": \"ByteFallback\"}, {\"type\": "
        "\"Fuse\"}%s]},\n",
        space, prefix ? ", {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}" : "");
    mlxr_buf_str(out, "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": ");
    if (b->vocab->unk >= 0)
        put_text(out, b, b->vocab->unk);
    else
        mlxr_buf_str(out, "null");
    mlxr_buf_printf(out,
                    ",\n    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n"
                    "    \"fuse_unk\": true,\n    \"byte_fallback\": %s,\n    \"ignore_merges\": false,\n",
                    bytes ? "true" : "false");
    put_vocab(out, b);
    st = put_scored_merges(out, b);
    mlxr_buf_str(out, "  }\n}\n");
    return st;
}

/* ---- tokenizer_config.json ---- */

/* The chat template: a string, or a list of named ones with "default" first when the file holds more. */
static mlxr_status put_chat_template(mlxr_buf *out, const builder *b)
{
    static const char key[] = "tokenizer.chat_template";
    mlxr_gguf_str text = {NULL, 0};
    size_t n_named = 0;
    mlxr_status st = mlxr_gguf_get_str(&text, b->g, key, b->err);

    if (st != MLXR_OK) return st;
    for (size_t i = 0; i < mlxr_gguf_pair_count(b->g); i++) {
        const mlxr_gguf_value *v;
        mlxr_gguf_str k = mlxr_gguf_pair_get(b->g, i, &v);
        const uint8_t *at = v->data;
        mlxr_gguf_str named;
        if (k.n <= sizeof key || memcmp(k.s, key, sizeof key - 1) != 0 || k.s[sizeof key - 1] != '.')
            continue;
        if (v->kind != MLXR_GGUF_STRING) return bad(b, MLXR_E_FORMAT, "a chat template is not a string");
        named = mlxr_gguf_next_str(&at);
        if (mlxr_utf8_valid(named.s, named.n) != named.n)
            return bad(b, MLXR_E_FORMAT, "a chat template is not valid UTF-8");
        mlxr_buf_str(out, n_named ? ",\n" : "  \"chat_template\": [\n");
        if (n_named++ == 0 && text.s) {
            mlxr_buf_str(out, "    {\"name\": \"default\", \"template\": ");
            mlxr_json_escape(out, text.s, text.n);
            mlxr_buf_str(out, "},\n");
        }
        mlxr_buf_str(out, "    {\"name\": ");
        mlxr_json_escape(out, k.s + sizeof key, k.n - sizeof key);
        mlxr_buf_str(out, ", \"template\": ");
        mlxr_json_escape(out, named.s, named.n);
        mlxr_buf_char(out, '}');
    }
    if (n_named) {
        mlxr_buf_str(out, "\n  ],\n");
    } else if (text.s) {
        mlxr_buf_str(out, "  \"chat_template\": ");
        mlxr_json_escape(out, text.s, text.n);
        mlxr_buf_str(out, ",\n");
    }
    return MLXR_OK;
}

static mlxr_status put_config(mlxr_buf *out, const builder *b, int64_t context_length)
{
    const struct {
        const char *key;
        int64_t id;
    } named[] = {{"bos_token", b->vocab->bos},
                 {"eos_token", b->vocab->eos},
                 {"unk_token", b->vocab->unk},
                 {"pad_token", b->vocab->pad}};
    mlxr_status st;

    mlxr_buf_str(out, "{\n");
    for (size_t i = 0; i < MLXR_COUNT(named); i++) {
        if (named[i].id < 0) continue;
        mlxr_buf_printf(out, "  \"%s\": ", named[i].key);
        put_text(out, b, named[i].id);
        mlxr_buf_str(out, ",\n");
    }
    if ((st = put_chat_template(out, b)) != MLXR_OK) return st;
    mlxr_buf_printf(out,
                    "  \"clean_up_tokenization_spaces\": false,\n  \"model_max_length\": %lld,\n"
                    "  \"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n",
                    (long long)context_length);
    return MLXR_OK;
}

mlxr_status mlxr_gguf_tokenizer(mlxr_buf *tokenizer_json, mlxr_buf *tokenizer_config_json,
                                mlxr_gguf_vocab *vocab, const mlxr_gguf *g, int64_t context_length,
                                const mlxr_log *log, mlxr_error *err)
{
    builder b = {.g = g, .log = log, .err = err, .vocab = vocab};
    mlxr_gguf_str model = {NULL, 0};
    mlxr_status st;

    *vocab = (mlxr_gguf_vocab){.bos = -1, .eos = -1, .unk = -1, .pad = -1};
    if ((st = mlxr_gguf_get_str(&model, g, "tokenizer.ggml.model", err)) != MLXR_OK) goto done;
    if (!model.s) {
        st = bad(&b, MLXR_E_FORMAT, "no \"tokenizer.ggml.model\": the file has no tokenizer");
        goto done;
    }
    if ((st = read_tokens(&b)) != MLXR_OK) goto done;
    mlxr_buf_str(tokenizer_json,
                 "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  ");
    if (model.n == 4 && memcmp(model.s, "gpt2", 4) == 0)
        st = put_byte_level(tokenizer_json, &b);
    else if (model.n == 5 && memcmp(model.s, "llama", 5) == 0)
        st = put_sentencepiece(tokenizer_json, &b);
    else
        st = mlxr_fail(
            err, MLXR_E_UNSUPPORTED,
            "gguf: %s: tokenizer.ggml.model \"%.*s\" is not supported, supported are gpt2 and llama",
            mlxr_gguf_path(g), (int)(model.n < 100 ? model.n : 100), model.s);
    if (st != MLXR_OK) goto done;
    if ((st = put_config(tokenizer_config_json, &b, context_length)) != MLXR_OK) goto done;
    if ((st = mlxr_buf_check(tokenizer_json, mlxr_gguf_path(g), err)) != MLXR_OK) goto done;
    st = mlxr_buf_check(tokenizer_config_json, mlxr_gguf_path(g), err);
done:
    mlxr_strtab_clear(&b.ids);
    free(b.tokens);
    return st;
}
