/* Hashing of files, and what sums find, with every kind of damage to the file and to the sums. */
#include "base/sha256.h"
#include "store/folder.h"
#include "store/store.h"

enum {
    CHUNK = 64 << 10,
    N_CHUNKS = 261,
    MAX = N_CHUNKS * CHUNK + 1000
}; /* over 16 MiB and four MLXR_SUMS_CHUNK */

static mlxr_error err;
static mlxr_store *store;
static uint8_t *bytes; /* [MAX] */

static int set_up(void **state)
{
    if (temp_dir_make(state) != 0) return -1;
    if (mlxr_store_open(&store, temp_path("store"), NULL, &err) != MLXR_OK) return -1;
    bytes = malloc(MAX);
    for (size_t i = 0; i < MAX; i++) bytes[i] = (uint8_t)((i * 2654435761u) >> 11 ^ i >> 17);
    return 0;
}

static int tear_down(void **state)
{
    mlxr_store_close(store);
    free(bytes);
    return temp_dir_remove(state);
}

static void digest_of(char out[72], size_t n)
{
    memcpy(out, "sha256:", 7);
    assert_ok(mlxr_sha256_hex(out + 7, bytes, n, &err), &err);
}

static const char *sums_path(const char *digest)
{
    static char path[1200];
    snprintf(path, sizeof path, "%s/sums/sha256/%s", temp_path("store"), digest + 7);
    return path;
}

static size_t grain_of(size_t n)
{
    return n <= 16 << 20 ? 4 << 10 : CHUNK;
}

/* The file "f" of n bytes; with sums kept when `sums`. */
static void make(char digest[72], size_t n, bool sums)
{
    char want[72];
    mlxr_buf b = {0};

    put_bytes(temp_path("f"), bytes, n);
    digest_of(want, n);
    assert_ok(mlxr_hash_file(digest, sums ? &b : NULL, temp_path("f"), n, NULL, "hashing", "f", &err), &err);
    assert_string_equal(digest, want);
    if (sums) {
        assert_int_equal(b.len, n / grain_of(n) * 32);
        mlxr_sums_write(store, digest, n, &b);
        assert_int_equal(mlxr_path_is_file(sums_path(digest)), n >= grain_of(n));
    }
    mlxr_buf_clear(&b);
}

/* Checks "f"; pairs: what has to be found, n of them. */
static void expect_bad(const char *digest, size_t size, size_t n_threads, const uint64_t (*pairs)[2],
                       size_t n)
{
    mlxr_buf bad = {0};

    assert_ok(mlxr_sums_check(&bad, store, digest, size, temp_path("f"), n_threads, NULL, "f", &err), &err);
    assert_int_equal(bad.len, n * 16);
    for (size_t i = 0; i < n; i++) {
        uint64_t found[2];
        memcpy(found, bad.data + 16 * i, 16);
        assert_int_equal(found[0], pairs[i][0]);
        assert_int_equal(found[1], pairs[i][1]);
    }
    mlxr_buf_clear(&bad);
}

static void hashes_at_borders(void **state)
{
    const size_t sizes[] = {0,
                            1,
                            55,
                            56,
                            63,
                            64,
                            65,
                            CHUNK - 1,
                            CHUNK,
                            CHUNK + 1,
                            4 * CHUNK - 1,
                            4 * CHUNK,
                            4 * CHUNK + 1,
                            MLXR_SUMS_CHUNK - 64,
                            MLXR_SUMS_CHUNK,
                            MLXR_SUMS_CHUNK + 65,
                            128 * CHUNK,
                            MAX};

    for (size_t i = 0; i < MLXR_COUNT(sizes); i++) {
        char digest[72];
        make(digest, sizes[i], true);
        expect_bad(digest, sizes[i], 1, NULL, 0);
        expect_bad(digest, sizes[i], 3, NULL, 0);
        make(digest, sizes[i], false);
    }
}

static void refuses_what_is_no_file(void **state)
{
    char digest[72];

    put_text(temp_path("short"), "abc");
    assert_fails(mlxr_hash_file(digest, NULL, temp_path("short"), 4, NULL, "hashing", NULL, &err), MLXR_E_IO,
                 "ends after 3 bytes", &err);
    assert_fails(mlxr_hash_file(digest, NULL, temp_path("none"), 4, NULL, "hashing", NULL, &err),
                 MLXR_E_NOT_FOUND, "none", &err);
    assert_fails(mlxr_hash_file(digest, NULL, temp_path(""), 4, NULL, "hashing", NULL, &err), MLXR_E_FORMAT,
                 "a folder", &err);
    assert_int_equal(mkfifo(temp_path("pipe"), 0600), 0);
    assert_fails(mlxr_hash_file(digest, NULL, temp_path("pipe"), 4, NULL, "hashing", NULL, &err),
                 MLXR_E_FORMAT, "a special file", &err);
}

/* A flipped bit in each chunk, in two, in neighbours, and in the end that fills none. */
static void finds_each_chunk(void **state)
{
    const uint64_t tail[][2] = {{N_CHUNKS * (uint64_t)CHUNK, MAX}}, whole[][2] = {{0, MAX}},
                   two[][2] = {{0, CHUNK}, {N_CHUNKS * (uint64_t)CHUNK, MAX}},
                   joined[][2] = {{0, 2 * (uint64_t)CHUNK}, {N_CHUNKS * (uint64_t)CHUNK, MAX}};
    const uint64_t chunks[] = {0, 1, 63, 64, 100, N_CHUNKS - 1};
    char digest[72];

    for (size_t n_threads = 1; n_threads <= 4; n_threads += 3) {
        make(digest, MAX, true);
        for (size_t i = 0; i < MLXR_COUNT(chunks); i++) {
            const uint64_t one[][2] = {{chunks[i] * CHUNK, (chunks[i] + 1) * CHUNK}};
            const uint64_t places[] = {one[0][0], one[0][0] + 12345, one[0][1] - 1};
            flip_bit(temp_path("f"), places[i % 3], (unsigned)i);
            expect_bad(digest, MAX, n_threads, one, 1);
            flip_bit(temp_path("f"), places[i % 3], (unsigned)i);
        }
        flip_bit(temp_path("f"), MAX - 1, 7);
        expect_bad(digest, MAX, n_threads, tail, 1);
        flip_bit(temp_path("f"), 5, 0);
        expect_bad(digest, MAX, n_threads, two, 2);
        flip_bit(temp_path("f"), CHUNK + 5, 0);
        expect_bad(digest, MAX, n_threads, joined, 2);
        assert_int_equal(unlink(sums_path(digest)), 0);
        expect_bad(digest, MAX, n_threads, whole, 1);
        assert_false(mlxr_path_is_file(sums_path(digest))); /* nothing is made of a bad file */
    }
}

/* States of somebody else's hashing, every MLXR_SUMS_CHUNK bytes. */
static void coarse_sums(void **state)
{
    const uint64_t first[][2] = {{0, MLXR_SUMS_CHUNK}}, last[][2] = {{4 * (uint64_t)MLXR_SUMS_CHUNK, MAX}};
    mlxr_buf fine = {0}, coarse = {0};
    char digest[72];

    put_bytes(temp_path("f"), bytes, MAX);
    assert_ok(mlxr_hash_file(digest, &fine, temp_path("f"), MAX, NULL, "hashing", "f", &err), &err);
    for (size_t i = 63; i < N_CHUNKS; i += 64) mlxr_buf_append(&coarse, fine.data + 32 * i, 32);
    mlxr_sums_write(store, digest, MAX, &coarse);
    expect_bad(digest, MAX, 2, NULL, 0);
    flip_bit(temp_path("f"), 77, 0);
    expect_bad(digest, MAX, 2, first, 1);
    flip_bit(temp_path("f"), 77, 0);
    flip_bit(temp_path("f"), MAX - 2000, 0);
    expect_bad(digest, MAX, 2, last, 1);
    mlxr_buf_clear(&fine);
    mlxr_buf_clear(&coarse);
}

static void short_and_long_files(void **state)
{
    const uint64_t from_second[][2] = {{CHUNK, MAX}}, whole[][2] = {{0, MAX}};
    char digest[72];

    make(digest, MAX, true);
    assert_int_equal(truncate(temp_path("f"), CHUNK + 100), 0);
    expect_bad(digest, MAX, 2, from_second, 1);
    assert_int_equal(unlink(sums_path(digest)), 0);
    expect_bad(digest, MAX, 2, whole, 1);
}

static void makes_what_is_missing(void **state)
{
    char digest[72];

    make(digest, MAX, false);
    assert_false(mlxr_path_is_file(sums_path(digest)));
    expect_bad(digest, MAX, 2, NULL, 0);
    assert_true(mlxr_path_is_file(sums_path(digest)));
    expect_bad(digest, MAX, 2, NULL, 0);
}

/* Each byte of the sums wrong: a good file stays good, and a bad one is found. */
static void damaged_sums(void **state)
{
    const size_t size = 4096 + 10, n_sums = 56 + 32 + 32;
    const uint64_t whole[][2] = {{0, 4096 + 10}};
    char digest[72];

    for (size_t i = 0; i < n_sums; i += 5) {
        make(digest, size, true);
        flip_bit(sums_path(digest), i, i % 8);
        expect_bad(digest, size, 2, NULL, 0);
        make(digest, size, true);
        flip_bit(sums_path(digest), i, i % 8);
        flip_bit(temp_path("f"), 3, 1);
        expect_bad(digest, size, 2, whole, 1);
    }
    make(digest, size, true);
    assert_int_equal(truncate(sums_path(digest), 60), 0);
    expect_bad(digest, size, 2, NULL, 0);
    put_text(sums_path(digest), "");
    expect_bad(digest, size, 2, NULL, 0);
    assert_int_equal(unlink(sums_path(digest)), 0);
    assert_int_equal(mkdir(sums_path(digest), 0700), 0);
    expect_bad(digest, size, 2, NULL, 0);
}

/* Sums that are whole in themselves but lead nowhere, as no hashing ever wrote them. */
static void forged_sums(void **state)
{
    const size_t sizes[] = {2 * 4096, 2 * 4096 + 9};

    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < 2; i++) {
            char digest[72];
            mlxr_buf b = {0}, bad = {0};
            put_bytes(temp_path("f"), bytes, sizes[k]);
            assert_ok(mlxr_hash_file(digest, &b, temp_path("f"), sizes[k], NULL, "hashing", "f", &err), &err);
            b.data[32 * i + 4] ^= 1;
            mlxr_sums_write(store, digest, sizes[k], &b);
            expect_bad(digest, sizes[k], 2, NULL, 0);
            mlxr_sums_write(store, digest, sizes[k], &b);
            flip_bit(temp_path("f"), sizes[k] - 1, 0);
            assert_ok(mlxr_sums_check(&bad, store, digest, sizes[k], temp_path("f"), 2, NULL, "f", &err),
                      &err);
            assert_true(bad.len >= 16);
            mlxr_buf_clear(&b);
            mlxr_buf_clear(&bad);
        }
}

static void wrong_sums_are_not_written(void **state)
{
    char digest[72];
    mlxr_buf b = {0};

    make(digest, CHUNK + 1, false);
    mlxr_buf_append(&b, bytes, 31);
    mlxr_sums_write(store, digest, CHUNK + 1, &b);
    mlxr_sums_write(store, "sha256:short", CHUNK + 1, &b);
    assert_false(mlxr_path_is_file(sums_path(digest)));
    mlxr_buf_clear(&b);
}

/* A cancel in the middle, on one thread and on several, with sums and without. */
static int cancel;
static uint64_t last_done, n_steps;
static void on_step(const mlxr_store_step *step, void *ud)
{
    n_steps++;
    last_done = step->done;
    assert_true(step->done <= step->total && step->done_all <= step->total_all);
    if (step->done >= CHUNK && *(bool *)ud) __atomic_store_n(&cancel, 1, __ATOMIC_RELAXED);
}

static void stops_and_tells(void **state)
{
    char digest[72];
    bool stop = true;
    mlxr_store_job job = {.on_step = on_step, .ud = &stop, .cancel = &cancel};
    mlxr_store_pace pace;
    mlxr_buf bad = {0};

    make(digest, MAX, true);
    for (int i = 0; i < 3; i++) {
        mlxr_status st;
        cancel = i == 2;
        stop = i < 2;
        n_steps = 0;
        assert_ok(mlxr_store_pace_init(&pace, &job, MAX, &err), &err);
        st = mlxr_sums_check(&bad, store, digest, MAX, temp_path("f"), i == 0 ? 1 : 2, &pace, "f", &err);
        /* the file may be read before the first step is due, which is when nothing stops it */
        assert_true(st == MLXR_E_CANCELLED || (i < 2 && st == MLXR_OK));
        assert_int_equal(bad.len, 0);
        mlxr_store_pace_clear(&pace);
    }
    stop = false;
    cancel = 0;
    assert_ok(mlxr_store_pace_init(&pace, &job, MAX, &err), &err);
    assert_ok(mlxr_hash_file(digest, NULL, temp_path("f"), MAX, &pace, "hashing", "f", &err), &err);
    assert_int_equal(last_done, MAX); /* the last of each item is told */
    assert_int_equal(pace.done_all, MAX);
    mlxr_store_pace_clear(&pace);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(hashes_at_borders),          T(refuses_what_is_no_file), T(finds_each_chunk), T(coarse_sums),
        T(short_and_long_files),       T(makes_what_is_missing),   T(damaged_sums),     T(forged_sums),
        T(wrong_sums_are_not_written), T(stops_and_tells)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
