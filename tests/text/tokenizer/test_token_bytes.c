/* The bytes of single tokens add up to what decoding gives: pairs of ids behind a third, for the project's fixtures and for
 * the real tokenizers where they are. */
#include <dirent.h>
#include <unistd.h>

#include "text/tokenizer/cases.h"
#include "text/tokenizer/tests.h"

#include "text/tokenizer/token_bytes.h"

static char folder[] = "/tmp/mlxr-token-bytes-XXXXXX";

static uint64_t rng = 88172645463325252u;
static size_t draw(size_t n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (size_t)((rng >> 11) % n);
}

static bool is_special(const mlxr_buf *b)
{
    return b->len && (uint8_t)b->data[0] == 0xff;
}

/* decode(x a b) is decode(x) and the bytes of a and b, wherever all of it is UTF-8. real: no odd decoder, so
 * that the first token can be told too. */
static void check_pairs(tally *t, const mlxr_tokenizer *tok, const char *name, size_t n_rounds, bool real)
{
    size_t n_ids = mlxr_tokenizer_vocab_size(tok), n_compared = 0;
    bool strips = tok_strips_first_space(tok);
    for (size_t i = 0; i < n_rounds; i++) {
        int32_t ids[3];
        mlxr_buf want = {0}, one = {0};
        char *first = NULL, *all = NULL;
        size_t n_first, n_all, k;
        for (k = 0; k < 3; k++) {
            do {
                ids[k] = (int32_t)draw(n_ids);
                one.len = 0;
                tok_token_bytes((void *)tok, ids[k], &one);
            } while (is_special(&one) || !one.len);
            if (k == 0) {
                bool space = strips && one.data[0] == ' ';
                judge(t, mlxr_tokenizer_decode(&first, &n_first, tok, ids, 1, true, NULL) == MLXR_OK, name, i,
                      "decode", NULL);
                /* of "__" the real decoders of this kind drop both */
                if (real && mlxr_utf8_valid(one.data, one.len) == one.len &&
                    !(space && one.len > 1 && one.data[1] == ' '))
                    judge(t, n_first == one.len - space && !memcmp(first, one.data + space, n_first), name, i,
                          "the first token", first);
                mlxr_buf_append(&want, first, n_first);
            } else {
                mlxr_buf_append(&want, one.data, one.len);
            }
            if (mlxr_utf8_valid(one.data, one.len) != one.len) break;
        }
        if (k == 3) {
            judge(t, mlxr_tokenizer_decode(&all, &n_all, tok, ids, 3, true, NULL) == MLXR_OK, name, i,
                  "decode", NULL);
            judge(t, n_all == want.len && !memcmp(all, want.data, n_all), name, i, "a pair", all);
            n_compared++;
        }
        mlxr_buf_clear(&want);
        mlxr_buf_clear(&one);
        mlxr_free(first);
        mlxr_free(all);
    }
    if (real) judge(t, n_compared > n_rounds / 4, name, 0, "pairs compared", NULL);
}

/* Decoders that look at one token at a time, and at no neighbours. */
static bool is_plain(const json_t *decoder)
{
    static const char *const types[] = {"Fuse", "ByteLevel", "Replace", "ByteFallback"};
    const char *type = json_string_value(json_object_get(decoder, "type"));
    size_t i;
    json_t *d;
    if (!type) return true;
    if (!strcmp(type, "WordPiece")) return !json_is_true(json_object_get(decoder, "cleanup"));
    if (!strcmp(type, "Metaspace"))
        return !strcmp(json_string_value(json_object_get(decoder, "replacement")), "\xe2\x96\x81");
    if (!strcmp(type, "Sequence")) {
        json_array_foreach(json_object_get(decoder, "decoders"), i, d) if (!is_plain(d)) return false;
        return json_array_size(json_object_get(decoder, "decoders")) < 2;
    }
    for (i = 0; i < MLXR_COUNT(types); i++)
        if (!strcmp(type, types[i])) return true;
    return false;
}

static void fixtures(void **state)
{
    tally t = {0};
    DIR *dir = opendir(MLXR_TEST_DIR "/fixtures");
    struct dirent *e;
    size_t n_plain = 0;
    char *file;

    (void)state;
    assert_non_null(dir);
    assert_non_null(mkdtemp(folder));
    file = mlxr_path_join(folder, "tokenizer.json");
    while ((e = readdir(dir)) != NULL) {
        char *path = mlxr_path_join(MLXR_TEST_DIR "/fixtures", e->d_name);
        mlxr_tokenizer *tok = NULL;
        mlxr_error err = {0};
        json_t *fixture = NULL;
        if (strncmp(e->d_name, "component_", 10) == 0) {
            assert_int_equal(mlxr_json_read(&fixture, path, 64 << 20, &err), MLXR_OK);
            if (is_plain(json_object_get(json_object_get(fixture, "tokenizer"), "decoder"))) {
                n_plain++;
                assert_int_equal(json_dump_file(json_object_get(fixture, "tokenizer"), file, 0), 0);
                assert_int_equal(mlxr_tokenizer_open(&tok, file, &err), MLXR_OK);
                check_pairs(&t, tok, e->d_name, 500, false);
            }
            json_decref(fixture);
        } else if (strncmp(e->d_name, "sentencepiece", 13) == 0) {
            assert_int_equal(mlxr_tokenizer_open(&tok, path, &err), MLXR_OK);
            check_pairs(&t, tok, e->d_name, 2000, true);
            assert_true(tok_strips_first_space(tok));
        }
        mlxr_tokenizer_close(tok);
        free(path);
    }
    closedir(dir);
    free(file);
    printf("%zu passed, %zu failed\n", t.passed, t.failed);
    assert_true(n_plain >= 8 && t.passed > 5000);
    assert_int_equal(t.failed, 0);
    assert_int_equal(system_rm(folder), 0);
}

static void real_ones(void **state)
{
    static const struct {
        const char *name, *special;
        bool strips;
    } real[] = {{"qwen3", "<|im_end|>", false},
                {"llama3_2", "<|eot_id|>", false},
                {"llama2", "</s>", true},
                {"gemma3", "<end_of_turn>", false},
                {"mistral_nemo", "[TOOL_CALLS]", false},
                {"deepseek_v3", NULL, false}};
    char dir[] = "/tmp/mlxr-token-bytes-XXXXXX", command[1024];
    tally t = {0};
    (void)state;
    if (access(MLXR_SHARED_DIR "/tokenizers", R_OK) != 0) {
        printf("SKIP: no real tokenizers in %s\n", MLXR_SHARED_DIR);
        return;
    }
    assert_non_null(mkdtemp(dir));
    for (size_t i = 0; i < MLXR_COUNT(real); i++) {
        mlxr_tokenizer *tok = NULL;
        mlxr_error err = {0};
        char *path = mlxr_path_join(dir, real[i].name);
        snprintf(command, sizeof command, "tar -xJf '%s/tokenizers/%s.tar.xz' -C %s 2>/dev/null",
                 MLXR_SHARED_DIR, real[i].name, dir);
        if (system(command) != 0) {
            printf("SKIP: %s: its archive cannot be unpacked (tar with xz)\n", real[i].name);
        } else {
            mlxr_status st = mlxr_tokenizer_open(&tok, path, &err);
            judge(&t, st == MLXR_OK, real[i].name, 0, "open", err.message);
            if (st == MLXR_OK) {
                judge(&t, tok_strips_first_space(tok) == real[i].strips, real[i].name, 0, "first space",
                      NULL);
                check_pairs(&t, tok, real[i].name, 3000, true);
                if (real[i].special) {
                    mlxr_buf b = {0};
                    int32_t id = mlxr_tokenizer_token_to_id(tok, real[i].special, strlen(real[i].special));
                    tok_token_bytes(tok, id, &b);
                    judge(&t,
                          b.len == strlen(real[i].special) + 1 && is_special(&b) &&
                              !strcmp(b.data + 1, real[i].special),
                          real[i].name, 0, real[i].special, b.data);
                    mlxr_buf_clear(&b);
                }
            }
        }
        mlxr_tokenizer_close(tok);
        free(path);
    }
    assert_int_equal(system_rm(dir), 0);
    printf("%zu passed, %zu failed\n", t.passed, t.failed);
    assert_int_equal(t.failed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(fixtures), cmocka_unit_test(real_ones)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
