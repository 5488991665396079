/* Any bytes as a text, through small tokenizers that take every splitting pattern, every form and each model: the
 * first byte chooses. Encoding must not depend on the word cache, and the stream must equal the decoding. */
#include <stdlib.h>

#include "text/tokenizer/load.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { N_TOKENIZERS = 13 };
static mlxr_tokenizer *tokenizers[N_TOKENIZERS];

static mlxr_tokenizer *build(const mlxr_buf *text)
{
    mlxr_tokenizer *tok = calloc(1, sizeof *tok);
    mlxr_arena arena = {0};
    tok_source src = {0};
    json_t *config = NULL;
    mlxr_error err;
    if (!tok || tok_load_json(&config, &src, &arena, text->data, text->len, 0, "built in", &err) != MLXR_OK ||
        tok_build_all(tok, config, &src, "built in", &err) != MLXR_OK)
        abort();
    tok_source_clear(&src);
    json_decref(config);
    mlxr_arena_clear(&arena);
    return tok;
}

static void json_string_to(mlxr_buf *b, const char *s)
{
    json_t *j = json_string(s);
    char *text = json_dumps(j, JSON_ENCODE_ANY);
    mlxr_buf_str(b, text);
    free(text);
    json_decref(j);
}

static void byte_level_model(mlxr_buf *b)
{
    mlxr_buf_str(b, "\"model\": {\"type\": \"BPE\", \"ignore_merges\": false, \"vocab\": {");
    for (unsigned i = 0; i < 256; i++) {
        char c[5] = {0};
        mlxr_utf8_encode(c, tok_byte_to_char((unsigned char)i));
        json_string_to(b, c);
        mlxr_buf_printf(b, ": %u, ", i);
    }
    mlxr_buf_str(b, "\"th\": 256, \"the\": 257, \"\xc4\xa0t\": 258, \"\xc4\xa0the\": 259, \"aa\": 260, "
                    "\"aaaa\": 261, \"\xc3\x83\xc2\xa9\": 262},"
                    "\"merges\": [\"t h\", \"th e\", \"\xc4\xa0 t\", \"\xc4\xa0 the\", \"a a\", \"aa aa\", "
                    "\"\xc3\x83 \xc2\xa9\"]}, "
                    "\"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": "
                    "true, \"use_regex\": true}");
}

static void added(mlxr_buf *b)
{
    mlxr_buf_str(b, ", \"added_tokens\": [{\"content\": \"<s>\", \"special\": true, \"single_word\": false, "
                    "\"lstrip\": true, \"rstrip\": true, \"normalized\": false},"
                    "{\"content\": \"aba\", \"special\": false, \"single_word\": true, \"lstrip\": false, "
                    "\"rstrip\": false, \"normalized\": true}]}");
}

static void make(int i)
{
    static const char *const others[] = {
        "{\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", \"prepend\": "
        "\"\xe2\x96\x81\"}, {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": "
        "\"\xe2\x96\x81\"}]},"
        "\"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": "
        "{\"String\": \"\xe2\x96\x81\"}, \"content\": \" \"}, {\"type\": \"ByteFallback\"}, {\"type\": "
        "\"Fuse\"}, {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}]},"
        "\"model\": {\"type\": \"BPE\", \"byte_fallback\": true, \"fuse_unk\": true, \"unk_token\": \"?\", "
        "\"merges\": [\"a b\", \"\xe2\x96\x81 ab\"], \"vocab\": {\"?\": 0, \"a\": 1, \"b\": 2, \"ab\": 3, "
        "\"\xe2\x96\x81\": 4, \"\xe2\x96\x81"
        "ab\": 5",
        "{\"normalizer\": {\"type\": \"NFKC\"}, \"pre_tokenizer\": {\"type\": \"Metaspace\", "
        "\"replacement\": \"\xe2\x96\x81\", \"prepend_scheme\": \"first\", \"split\": true}, \"decoder\": "
        "{\"type\": \"Metaspace\", \"replacement\": \"\xe2\x96\x81\", \"prepend_scheme\": \"first\", "
        "\"split\": true},"
        "\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"?\", 0], [\"a\", -1], [\"b\", "
        "-1.5], [\"ab\", -2], [\"\xe2\x96\x81\", -1], [\"\xe2\x96\x81"
        "a\", -0.5]]}",
        "{\"normalizer\": {\"type\": \"BertNormalizer\", \"clean_text\": true, \"handle_chinese_chars\": "
        "true, \"strip_accents\": null, \"lowercase\": true}, \"pre_tokenizer\": {\"type\": "
        "\"BertPreTokenizer\"}, \"decoder\": {\"type\": \"WordPiece\", \"prefix\": \"##\", \"cleanup\": "
        "true},"
        "\"model\": {\"type\": \"WordPiece\", \"unk_token\": \"?\", \"continuing_subword_prefix\": \"##\", "
        "\"max_input_chars_per_word\": 20, \"vocab\": {\"?\": 0, \"a\": 1, \"##b\": 2, \"##a\": 3, \".\": 4, "
        "\"'\": 5}}",
        "{\"normalizer\": {\"type\": \"NFD\"}, \"pre_tokenizer\": {\"type\": \"Sequence\", "
        "\"pretokenizers\": [{\"type\": \"UnicodeScripts\"}, {\"type\": \"Split\", \"pattern\": {\"Regex\": "
        "\"(?i)ab+|\\\\bq\\\\w*|[^\\\\s\\\\p{L}]+(?=a)\"}, \"behavior\": \"MergedWithNext\", \"invert\": "
        "true}, {\"type\": \"FixedLength\", \"length\": 3}]}, \"decoder\": {\"type\": \"CTC\", "
        "\"pad_token\": \"?\", \"word_delimiter_token\": \"|\", \"cleanup\": true},"
        "\"model\": {\"type\": \"WordLevel\", \"unk_token\": \"?\", \"vocab\": {\"?\": 0, \"a\": 1, \"abc\": "
        "2, \"|\": 3}}",
        "{\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Nmt\"}, {\"type\": "
        "\"NFKD\"}, {\"type\": \"StripAccents\"}, {\"type\": \"Lowercase\"}, {\"type\": \"Strip\", "
        "\"strip_left\": true, \"strip_right\": true}]}, \"pre_tokenizer\": {\"type\": \"Sequence\", "
        "\"pretokenizers\": [{\"type\": \"Whitespace\"}, {\"type\": \"Digits\", \"individual_digits\": "
        "false}, {\"type\": \"Punctuation\", \"behavior\": \"Contiguous\"}]}, \"decoder\": {\"type\": "
        "\"BPEDecoder\", \"suffix\": \"</w>\"},"
        "\"model\": {\"type\": \"BPE\", \"continuing_subword_prefix\": \"##\", \"end_of_word_suffix\": "
        "\"</w>\", \"unk_token\": \"?\", \"merges\": [[\"a\", \"##b\"]], \"vocab\": {\"?\": 0, \"a\": 1, "
        "\"##b\": 2, \"ab\": 3, \"##b</w>\": 4, \"a</w>\": 5}}",
    };
    mlxr_buf b = {0};
    if (i < TOK_SCAN_COUNT - 1) {
        mlxr_buf_str(&b, "{");
        if (i % 2) mlxr_buf_str(&b, "\"normalizer\": {\"type\": \"NFC\"}, ");
        mlxr_buf_str(&b,
                     "\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", "
                     "\"behavior\": \"Isolated\", \"invert\": false, \"pattern\": {\"Regex\": ");
        json_string_to(&b, tok_scanner_pattern((tok_scanner)(i + 1)));
        mlxr_buf_str(&b, "}}, {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
                         "\"use_regex\": false}]}, ");
        byte_level_model(&b);
    } else {
        size_t k = (size_t)(i - (TOK_SCAN_COUNT - 1));
        mlxr_buf_str(&b, others[k < 5 ? k : 4]);
        if (k == 0) {
            for (unsigned v = 0; v < 256; v++) mlxr_buf_printf(&b, ", \"<0x%02X>\": %u", v, v + 6);
            mlxr_buf_str(&b, "}}");
        }
    }
    added(&b);
    tokenizers[i] = build(&b);
    mlxr_buf_clear(&b);
}

/* The same text piece by piece of the decoding. */
static void check_stream(const mlxr_tokenizer *tok, const int32_t *ids, size_t n, bool skip)
{
    mlxr_detokenizer *d = NULL;
    mlxr_buf all = {0};
    char *text = NULL;
    const char *piece;
    size_t n_text, n_piece;

    if (mlxr_tokenizer_decode(&text, &n_text, tok, ids, n, skip, NULL) != MLXR_OK) abort();
    if (mlxr_detokenizer_create(&d, tok, skip, NULL) != MLXR_OK) abort();
    for (size_t i = 0; i < n; i++) {
        if (mlxr_detokenizer_push(d, ids[i], &piece, &n_piece, NULL) != MLXR_OK ||
            mlxr_utf8_valid(piece, n_piece) != n_piece)
            abort();
        mlxr_buf_append(&all, piece, n_piece);
    }
    if (mlxr_detokenizer_finish(d, &piece, &n_piece, NULL) != MLXR_OK ||
        mlxr_utf8_valid(piece, n_piece) != n_piece)
        abort();
    mlxr_buf_append(&all, piece, n_piece);
    if (all.len != n_text || (n_text && memcmp(all.data, text, n_text) != 0)) abort();
    mlxr_buf_clear(&all);
    mlxr_free(text);
    mlxr_detokenizer_free(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int32_t *ids = NULL, *again = NULL;
    size_t n, n_again;
    const mlxr_tokenizer *tok;
    const char *text = (const char *)data + 1;

    if (size < 1) return 0;
    if (!tokenizers[data[0] % N_TOKENIZERS]) make(data[0] % N_TOKENIZERS);
    tok = tokenizers[data[0] % N_TOKENIZERS];
    if (mlxr_tokenizer_encode(&ids, &n, tok, text, size - 1, false, NULL) == MLXR_OK) {
        if (mlxr_tokenizer_encode(&again, &n_again, tok, text, size - 1, false, NULL) != MLXR_OK ||
            n != n_again || (n && memcmp(ids, again, n * sizeof *ids) != 0))
            abort();
        check_stream(tok, ids, n, true);
        mlxr_free(ids);
        mlxr_free(again);
    }
    n = (size - 1) / 2; /* and as ids */
    ids = calloc(n + 1, sizeof *ids);
    if (!ids) return 0;
    for (size_t i = 0; i < n; i++) ids[i] = (data[1 + 2 * i] | data[2 + 2 * i] << 8) % 300;
    check_stream(tok, ids, n, false);
    free(ids);
    return 0;
}
