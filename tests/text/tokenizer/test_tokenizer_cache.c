/* The compiled cache: used when it is right, passed over when it is cut short, flipped, stale or unwritable, and
 * whole whatever many processes do to it at once. */
#include <dirent.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

#include "text/tokenizer/tests.h"

#include "base/fs.h"

static char folder[] = "/tmp/mlxr-cache-XXXXXX";
static char *source, *cache;
static mlxr_error err;

static const char *const first =
    "{\"model\": {\"type\": \"BPE\", \"byte_fallback\": false, \"unk_token\": \"?\", \"vocab\": {\"?\": 0, "
    "\"a\": 1, \"b\": 2, \"ab\": 3}, \"merges\": [\"a b\"]},"
    " \"added_tokens\": [{\"content\": \"<s>\", \"special\": true, \"single_word\": false, \"lstrip\": true, "
    "\"rstrip\": false, \"normalized\": false}]}";
static const char *const second =
    "{\"model\": {\"type\": \"BPE\", \"byte_fallback\": false, \"unk_token\": \"?\", \"vocab\": {\"?\": 0, "
    "\"a\": 7, \"b\": 5, \"ab\": 4}, \"merges\": [\"a b\"]},"
    " \"added_tokens\": [{\"content\": \"<s>\", \"special\": true, \"single_word\": false, \"lstrip\": true, "
    "\"rstrip\": false, \"normalized\": false}]}";

/* The source with this text, as old as a file that nobody is writing. */
static void put_source(const char *text)
{
    struct utimbuf old = {.actime = time(NULL) - 1000, .modtime = time(NULL) - 1000};
    assert_int_equal(mlxr_file_write(source, text, strlen(text), NULL), MLXR_OK);
    assert_int_equal(utime(source, &old), 0);
}

/* Opens with the cache and checks that "ab x <s>" gives what the text of the source says. */
static void check_open(const char *dir, const char *text)
{
    mlxr_tokenizer_options options = mlxr_tokenizer_options_default();
    mlxr_tokenizer *tok = NULL;
    int32_t *ids;
    size_t n;

    options.cache_dir = dir;
    assert_int_equal(mlxr_tokenizer_open_with(&tok, source, &options, &err), MLXR_OK);
    assert_int_equal(mlxr_tokenizer_encode(&ids, &n, tok, "ab  <s>b", 8, true, &err), MLXR_OK);
    assert_int_equal(n, 3);
    assert_int_equal(ids[0], text == first ? 3 : 4);
    assert_int_equal(ids[1],
                     text == first ? 4 : 5 - 1); /* next free id: four tokens; 4 is taken in the second */
    assert_int_equal(ids[2], text == first ? 2 : 5);
    mlxr_free(ids);
    mlxr_tokenizer_close(tok);
}

/* The compiled files in the cache; the last one's path in *path (free it). */
static size_t n_compiled(char **path)
{
    char *dir_path = mlxr_path_join(cache, "tokenizers");
    DIR *dir = opendir(dir_path);
    struct dirent *e;
    size_t n = 0;
    if (path) *path = NULL;
    while (dir && (e = readdir(dir)) != NULL) {
        size_t len = strlen(e->d_name);
        if (len < 4 || strcmp(e->d_name + len - 4, ".tok") != 0) continue;
        n++;
        if (path) {
            free(*path);
            *path = mlxr_path_join(dir_path, e->d_name);
        }
    }
    if (dir) closedir(dir);
    free(dir_path);
    return n;
}

static void clear_cache(void)
{
    system_rm(cache);
}

static void test_used(void **state)
{
    char *path;
    struct stat before, after;
    (void)state;
    clear_cache();
    put_source(first);
    check_open(cache, first);
    assert_int_equal(n_compiled(&path), 1);
    assert_int_equal(stat(path, &before), 0);
    check_open(cache, first);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino); /* read, not written again */
    free(path);
}

static void test_stale(void **state)
{
    (void)state;
    clear_cache();
    put_source(first);
    check_open(cache, first);
    put_source(second); /* the same size and modification time: the inode and the change time tell */
    check_open(cache, second);
    check_open(cache, second);
    assert_int_equal(n_compiled(NULL), 2);
    put_source(first);
    check_open(cache, first);
}

static void test_broken(void **state)
{
    char *path;
    mlxr_buf whole = {0};
    (void)state;
    clear_cache();
    put_source(first);
    check_open(cache, first);
    assert_int_equal(n_compiled(&path), 1);
    assert_int_equal(mlxr_file_read(&whole, path, 1 << 26, &err), MLXR_OK);
    for (size_t n = 0; n < whole.len; n += n < 1024 ? 37 : 997) { /* cut short anywhere */
        assert_int_equal(mlxr_file_write(path, whole.data, n, NULL), MLXR_OK);
        check_open(cache, first);
    }
    for (size_t i = 0; i < whole.len * 8; i += i < 8192 ? 13 : 4999) { /* any bit flipped */
        whole.data[i / 8] ^= (char)(1 << i % 8);
        assert_int_equal(mlxr_file_write(path, whole.data, whole.len, NULL), MLXR_OK);
        whole.data[i / 8] ^= (char)(1 << i % 8);
        check_open(cache, first);
    }
    mlxr_buf_clear(&whole);
    free(path);
}

static void test_unwritable(void **state)
{
    (void)state;
    put_source(first);
    check_open("/proc/nowhere", first);
    check_open(source, first); /* a file where the folder should be */
}

static void test_writers(void **state)
{
    (void)state;
    clear_cache();
    put_source(first);
    for (int p = 0; p < 6; p++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            for (int i = 0; i < 40; i++) {
                if (i % 4 == p % 4) clear_cache();
                check_open(cache, first);
            }
            _exit(0);
        }
    }
    for (int p = 0; p < 6; p++) {
        int status = 1;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    check_open(cache, first);
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return 1;
    source = mlxr_path_join(folder, "tokenizer.json");
    cache = mlxr_path_join(folder, "cache");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(source);
    free(cache);
    return system_rm(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_used), cmocka_unit_test(test_stale),
                                       cmocka_unit_test(test_broken), cmocka_unit_test(test_unwritable),
                                       cmocka_unit_test(test_writers)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
