/* Opening: what is refused, and what the messages say; folders of the older kinds; look-ups; texts that are no UTF-8. */
#include "text/tokenizer/tests.h"

#include "base/fs.h"

static char folder[] = "/tmp/mlxr-load-XXXXXX";
static mlxr_error err;

static char *put(const char *name, const char *text)
{
    char *path = mlxr_path_join(folder, name);
    assert_int_equal(mlxr_file_write(path, text, strlen(text), NULL), MLXR_OK);
    return path;
}

static mlxr_status open_text(mlxr_tokenizer **tok, const char *text)
{
    char *path = put("tokenizer.json", text);
    mlxr_status st = mlxr_tokenizer_open(tok, path, &err);
    free(path);
    return st;
}

#define WORDS                                                                                             \
    "\"model\": {\"type\": \"WordLevel\", \"vocab\": {\"a\": 0, \"b\": 1, \"[UNK]\": 2}, \"unk_token\": " \
    "\"[UNK]\"}"

static void test_refused(void **state)
{
    static const struct {
        const char *text;
        mlxr_status status;
        const char *says;
    } cases[] = {
        {"", MLXR_E_FORMAT, "line 1, column 1"},
        {"{\n \"model\": {,}", MLXR_E_FORMAT, "line 2, column 12"},
        {"[]", MLXR_E_FORMAT, "not a JSON object"},
        {"{} x", MLXR_E_FORMAT, "line 1, column 4"},
        {"{\"model\": 3}", MLXR_E_FORMAT, "model is an integer"},
        {"{}", MLXR_E_FORMAT, "model is missing"},
        {"{\"model\": {\"type\": \"Neural\"}}", MLXR_E_UNSUPPORTED, "Neural"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": \"x\"}, \"merges\": []}}", MLXR_E_FORMAT,
         "model.vocab"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": -1}, \"merges\": []}}", MLXR_E_FORMAT,
         "model.vocab"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 1.5}, \"merges\": []}}", MLXR_E_FORMAT,
         "model.vocab"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 2147483647}, \"merges\": []}}", MLXR_E_LIMIT,
         "2147483647"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a b c\"]}}", MLXR_E_FORMAT,
         "model.merges[0]"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [[\"a\", 3]]}}", MLXR_E_FORMAT,
         "model.merges[0]"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a a\"]}}", MLXR_E_FORMAT,
         "\"aa\" is not in"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}}}", MLXR_E_FORMAT, "model.merges"},
        {"{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\"]]}}", MLXR_E_FORMAT, "model.vocab[0]"},
        {"{\"model\": {\"type\": \"Unigram\", \"unk_id\": 7, \"vocab\": [[\"a\", 0]]}}", MLXR_E_FORMAT,
         "unk_id"},
        {"{\"version\": \"2.0\", " WORDS "}", MLXR_E_UNSUPPORTED, "2.0"},
        {"{" WORDS ", \"normalizer\": {\"type\": \"Magic\"}}", MLXR_E_UNSUPPORTED, "normalizer"},
        {"{" WORDS ", \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"}, "
         "{\"type\": \"Strip\", \"strip_left\": 1}]}}",
         MLXR_E_FORMAT, "normalizer.normalizers[1].strip_left"},
        {"{" WORDS ", \"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"AAAA\"}}",
         MLXR_E_FORMAT, "precompiled_charsmap"},
        {"{" WORDS ", \"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"?\"}}",
         MLXR_E_FORMAT, "base64"},
        {"{" WORDS ", \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"(\"}, "
         "\"behavior\": \"Isolated\", \"invert\": false}}",
         MLXR_E_FORMAT, "pre_tokenizer.pattern"},
        {"{" WORDS ", \"pre_tokenizer\": {\"type\": \"FixedLength\", \"length\": 0}}", MLXR_E_FORMAT,
         "length"},
        {"{" WORDS
         ", \"post_processor\": {\"type\": \"BertProcessing\", \"sep\": [\"a\"], \"cls\": [\"b\", 1]}}",
         MLXR_E_FORMAT, "post_processor.sep"},
        {"{" WORDS ", \"decoder\": {\"type\": \"Sequence\", \"decoders\": {}}}", MLXR_E_FORMAT,
         "decoder.decoders"},
        {"{" WORDS ", \"added_tokens\": [{\"content\": \"x\"}]}", MLXR_E_FORMAT, "added_tokens[0].special"},
        {"{" WORDS ", \"truncation\": {\"max_length\": -3}}", MLXR_E_FORMAT, "truncation"},
        {"{" WORDS
         ", \"padding\": {\"strategy\": {\"Fixed\": 99999999999}, \"direction\": \"Left\", \"pad_id\": 0}}",
         MLXR_E_LIMIT, "padding"},
        {"{\"a\": \"\\ud800\"}", MLXR_E_FORMAT, "surrogate"},
        {"{\"a\": \"\xff\"}", MLXR_E_FORMAT, "UTF-8"},
        {"{\"a\": \"\\x\"}", MLXR_E_FORMAT, "escape"},
        {"{\"a\": 01}", MLXR_E_FORMAT, "value"},
        {"{\"a\": tru}", MLXR_E_FORMAT, "value"},
        {"{\"a\": \"b", MLXR_E_FORMAT, "does not end"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mlxr_tokenizer *tok = NULL;
        mlxr_status st = open_text(&tok, cases[i].text);
        if (st != cases[i].status || tok || !strstr(err.message, cases[i].says) ||
            !strstr(err.message, "tokenizer.json"))
            fail_msg("%s: %s: %s", cases[i].text, mlxr_status_name(st), err.message);
    }
}

static void test_deep(void **state)
{
    mlxr_tokenizer *tok = NULL;
    mlxr_buf text = {0};
    (void)state;
    mlxr_buf_str(&text, "{\"a\": ");
    for (int i = 0; i < 100000; i++) mlxr_buf_char(&text, '[');
    assert_int_equal(open_text(&tok, text.data), MLXR_E_LIMIT);
    text.len = 0;
    mlxr_buf_str(&text, "{" WORDS ", \"normalizer\": ");
    for (int i = 0; i < 40; i++) mlxr_buf_str(&text, "{\"type\": \"Sequence\", \"normalizers\": [");
    for (int i = 0; i < 40; i++) mlxr_buf_str(&text, "]}");
    mlxr_buf_str(&text, "}");
    assert_int_equal(open_text(&tok, text.data), MLXR_E_LIMIT);
    mlxr_buf_clear(&text);
}

static void test_folders(void **state)
{
    mlxr_tokenizer *tok = NULL;
    char *path;
    int32_t *ids;
    size_t n;
    char *text;
    static const int32_t want[] = {4, 2}, bert[] = {2, 4, 5, 3};

    (void)state;
    path = mlxr_path_join(folder, "tokenizer.json");
    remove(path);
    free(path);
    assert_int_equal(mlxr_tokenizer_open(&tok, folder, &err), MLXR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "tokenizer.json"));
    assert_non_null(strstr(err.message, "merges.txt"));
    assert_int_equal(mlxr_tokenizer_open(&tok, "/does/not/exist", &err), MLXR_E_NOT_FOUND);

    free(put("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nhello\n##s\nworld\n"));
    assert_int_equal(mlxr_tokenizer_open(&tok, folder, &err), MLXR_OK);
    assert_int_equal(mlxr_tokenizer_encode(&ids, &n, tok, "HELLOs", 6, true, &err), MLXR_OK);
    assert_int_equal(n, 4);
    assert_memory_equal(ids, bert, sizeof bert);
    assert_int_equal(mlxr_tokenizer_decode(&text, &n, tok, ids, 4, true, &err), MLXR_OK);
    assert_string_equal(text, "hellos");
    mlxr_free(text);
    mlxr_free(ids);
    mlxr_tokenizer_close(tok);

    free(put("vocab.json", "{\"a\": 0, \"b\": 1, \"c\": 2, \"\\u0120\": 3, \"ab\": 4}"));
    free(put("merges.txt", "#version: 0.2\na b\n"));
    assert_int_equal(mlxr_tokenizer_open(&tok, folder, &err), MLXR_OK);
    assert_int_equal(mlxr_tokenizer_encode(&ids, &n, tok, "abc", 3, true, &err), MLXR_OK);
    assert_int_equal(n, 2);
    assert_memory_equal(ids, want, sizeof want);
    mlxr_free(ids);
    mlxr_tokenizer_close(tok);
    free(put("merges.txt", "a b c\n"));
    assert_int_equal(mlxr_tokenizer_open(&tok, folder, &err), MLXR_E_FORMAT);
    assert_non_null(strstr(err.message, "merges.txt: line 1"));
    free(put("vocab.json", "{\"a\": 0,\n]"));
    assert_int_equal(mlxr_tokenizer_open(&tok, folder, &err), MLXR_E_FORMAT);
    assert_non_null(strstr(err.message, "vocab.json: line 2, column 1"));
}

static void test_lookups(void **state)
{
    mlxr_tokenizer *tok = NULL;
    int32_t *ids;
    size_t n;
    char *text;
    const int32_t odd[] = {0, -1, 77, 3};

    (void)state;
    assert_int_equal(open_text(&tok,
                               "{" WORDS ", \"added_tokens\": [{\"content\": \"<s>\", \"special\": true, "
                               "\"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
                               "\"normalized\": false, \"id\": 9}]}"),
                     MLXR_OK);
    assert_int_equal(mlxr_tokenizer_vocab_size(tok), 4);
    assert_int_equal(mlxr_tokenizer_token_to_id(tok, "<s>", 3), 3); /* the reference does not look at "id" */
    assert_int_equal(mlxr_tokenizer_token_to_id(tok, "b", 1), 1);
    assert_int_equal(mlxr_tokenizer_token_to_id(tok, "nope", 4), -1);
    assert_string_equal(mlxr_tokenizer_id_to_token(tok, 3, &n), "<s>");
    assert_int_equal(n, 3);
    assert_null(mlxr_tokenizer_id_to_token(tok, 4, &n));
    assert_null(mlxr_tokenizer_id_to_token(tok, -1, NULL));
    assert_true(mlxr_tokenizer_is_special(tok, 3));
    assert_false(mlxr_tokenizer_is_special(tok, 0));
    assert_false(mlxr_tokenizer_is_special(tok, 99));
    assert_int_equal(mlxr_tokenizer_decode(&text, &n, tok, odd, 4, false, &err), MLXR_OK);
    assert_string_equal(text, "a <s>");
    mlxr_free(text);
    assert_int_equal(mlxr_tokenizer_encode(&ids, &n, tok, "", 0, true, &err), MLXR_OK);
    assert_int_equal(n, 0);
    assert_null(ids);
    assert_int_equal(mlxr_tokenizer_encode(&ids, &n, tok, "ab\xc3(", 4, true, &err), MLXR_E_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "byte 2"));
    assert_int_equal(mlxr_tokenizer_encode(&ids, &n, tok, "\xed\xa0\x80", 3, true, NULL),
                     MLXR_E_INVALID_ARGUMENT);
    mlxr_tokenizer_close(tok);
    mlxr_tokenizer_close(NULL);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : 1;
}

static int tear_down(void **state)
{
    (void)state;
    return system_rm(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_refused), cmocka_unit_test(test_deep),
                                       cmocka_unit_test(test_folders), cmocka_unit_test(test_lookups)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
