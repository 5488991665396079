/* One tokenizer shared by many threads: every one gets what one alone gets, with more callers than kept scratches. */
#include <pthread.h>
#include <unistd.h>

#include "text/tokenizer/tests.h"

#include "base/json.h"

enum { N_THREADS = 8, ROUNDS = 60 };

static const mlxr_tokenizer *tok;
static const char *const texts[] = {
    "Hello world, it's 12345 o'clock and time for something that is longer than the cache asks for.",
    "caf\xc3\xa9 e\xcc\x81 \xe4\xb8\xad",
    "the the the",
    "a",
    "",
    "   \n\n x  y"};
static struct {
    int32_t *ids;
    size_t n;
    char *text;
    size_t n_text;
} want[6];

static void *work(void *arg)
{
    size_t *bad = arg;
    for (int r = 0; r < ROUNDS; r++) {
        for (size_t i = 0; i < 6; i++) {
            int32_t *ids = NULL;
            char *text = NULL;
            size_t n = 0, n_text = 0;
            if (mlxr_tokenizer_encode(&ids, &n, tok, texts[i], strlen(texts[i]), true, NULL) != MLXR_OK ||
                n != want[i].n || (n && memcmp(ids, want[i].ids, n * sizeof *ids) != 0))
                ++*bad;
            if (mlxr_tokenizer_decode(&text, &n_text, tok, ids, n, false, NULL) != MLXR_OK ||
                n_text != want[i].n_text || memcmp(text, want[i].text, n_text) != 0)
                ++*bad;
            mlxr_free(ids);
            mlxr_free(text);
        }
    }
    return NULL;
}

static void test_shared(void **state)
{
    char path[] = "/tmp/mlxr-threads-XXXXXX";
    mlxr_error err = {0};
    mlxr_tokenizer *opened = NULL;
    (void)state;
    for (int k = 1; k <= 6; k++) {
        char *fixture = mlxr_asprintf(MLXR_TEST_DIR "/fixtures/component_%02d.json", k);
        json_t *j = NULL;
        pthread_t threads[N_THREADS];
        size_t bad[N_THREADS] = {0};
        bool usable = true;
        int fd;
        assert_int_equal(mlxr_json_read(&j, fixture, 64 << 20, &err), MLXR_OK);
        memcpy(path, "/tmp/mlxr-threads-XXXXXX", sizeof path);
        fd = mkstemp(path);
        assert_true(fd >= 0);
        assert_int_equal(json_dumpfd(json_object_get(j, "tokenizer"), fd, 0), 0);
        close(fd);
        assert_int_equal(mlxr_tokenizer_open(&opened, path, &err), MLXR_OK);
        remove(path);
        tok = opened;
        for (size_t i = 0; i < 6; i++) {
            want[i].ids = NULL;
            want[i].text = NULL;
            if (mlxr_tokenizer_encode(&want[i].ids, &want[i].n, tok, texts[i], strlen(texts[i]), true,
                                      &err) != MLXR_OK ||
                mlxr_tokenizer_decode(&want[i].text, &want[i].n_text, tok, want[i].ids, want[i].n, false,
                                      &err) != MLXR_OK)
                usable = false; /* this one refuses one of the texts */
        }
        for (int i = 0; usable && i < N_THREADS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, work, &bad[i]), 0);
        for (int i = 0; usable && i < N_THREADS; i++) {
            assert_int_equal(pthread_join(threads[i], NULL), 0);
            assert_int_equal(bad[i], 0);
        }
        for (size_t i = 0; i < 6; i++) {
            mlxr_free(want[i].ids);
            mlxr_free(want[i].text);
        }
        mlxr_tokenizer_close(opened);
        json_decref(j);
        free(fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shared)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
