/* Sessions and blobs: how files come into the store, what living and dead sessions keep, quota. */
#include "test.h"

#include <signal.h>
#include <sys/wait.h>

#include "made.h"
#include "store/keep.h"

static mlxr_store *store;
static mlxr_session *session;

static int begin(void **state)
{
    mlxr_store_options o = mlxr_store_options_default();
    o.grace_seconds = 0;
    if (made_begin(state) != 0) return -1;
    store = open_made(&o);
    assert_ok(mlxr_session_begin(&session, store, &err), &err);
    return 0;
}

static int end(void **state)
{
    mlxr_session_end(session);
    mlxr_store_close(store);
    return made_end(state);
}

static const char *digest_of(const char *text)
{
    static char digests[4][72];
    static unsigned turn;
    char *d = digests[turn++ % 4];
    strcpy(d, "sha256:");
    assert_ok(mlxr_sha256_hex(d + 7, text, strlen(text), &err), &err);
    return d;
}

static const char *blob(const char *digest)
{
    return in_dir("s/blobs/sha256/%s", digest + 7);
}

static mlxr_store_gc_result gc(void)
{
    mlxr_store_gc_result r;
    assert_ok(mlxr_store_gc(&r, store, NULL, &err), &err);
    return r;
}

static struct stat stat_of(const char *path)
{
    struct stat sb = {0};
    assert_int_equal(stat(path, &sb), 0);
    return sb;
}

static void put_and_commit(void **state)
{
    const char *d = digest_of("hello");
    struct stat sb;
    mlxr_layer l = {0};
    char *temp;
    bool present;

    assert_ok(mlxr_session_want(session, d, 5, &present, &err), &err);
    assert_false(present);
    assert_int_equal(mlxr_blob_look(store, d, 5), MLXR_BLOB_ABSENT);
    temp = mlxr_session_temp(session);
    write_text(temp, "hello");
    assert_ok(mlxr_session_commit(session, temp, d, 5, false, &err), &err);
    assert_true(file_is(blob(d), "hello", 5));
    sb = stat_of(blob(d));
    assert_int_equal(sb.st_mode & 07777, 0444);
    assert_int_not_equal(access(temp, F_OK), 0);
    assert_ok(mlxr_session_want(session, d, 5, &present, &err), &err);
    assert_true(present);
    /* What is there stays; the file goes. */
    write_text(temp, "hello");
    assert_ok(mlxr_session_commit(session, temp, d, 5, false, &err), &err);
    assert_int_equal(stat_of(blob(d)).st_ino, sb.st_ino);
    assert_int_not_equal(access(temp, F_OK), 0);
    write_text(temp, "hello");
    assert_ok(mlxr_session_commit(session, temp, d, 5, true, &err), &err);
    assert_int_not_equal(stat_of(blob(d)).st_ino, sb.st_ino);
    write_text(temp, "hell");
    assert_fails(mlxr_session_commit(session, temp, d, 5, true, &err), MLXR_E_CORRUPT, "4 bytes, wanted 5",
                 &err);
    free(temp);
    assert_ok(mlxr_session_put(session, &l, "hello", 5, &err), &err);
    assert_string_equal(l.digest, d);
    assert_int_equal(l.size, 5);
    assert_fails(mlxr_session_want(session, "sha256:../../x", 5, &present, &err), MLXR_E_INVALID_ARGUMENT,
                 "no digest", &err);
}

static void a_wrong_size_is_absent_and_replaced(void **state)
{
    const char *d = digest_of("hello");
    mlxr_layer l = {0};
    bool present;

    write_text(blob(d), "hel");
    assert_int_equal(mlxr_blob_look(store, d, 5), MLXR_BLOB_WRONG_SIZE);
    assert_ok(mlxr_session_want(session, d, 5, &present, &err), &err);
    assert_false(present);
    assert_ok(mlxr_session_put(session, &l, "hello", 5, &err), &err);
    assert_true(file_is(blob(d), "hello", 5));
    /* A folder in its place, too. */
    d = digest_of("there");
    assert_int_equal(mkdir(blob(d), 0777), 0);
    assert_ok(mlxr_session_put(session, &l, "there", 5, &err), &err);
    assert_true(file_is(blob(d), "there", 5));
}

static void files_are_taken(void **state)
{
    const char *d = digest_of("hello");
    struct stat seen;

    write_text(in_dir("f"), "hello");
    assert_int_equal(chmod(in_dir("f"), 0640), 0);
    assert_int_equal(symlink(in_dir("f"), in_dir("l")), 0);
    seen = stat_of(in_dir("l"));
    assert_ok(mlxr_session_take(session, in_dir("l"), &seen, d, false, &err), &err);
    assert_true(file_is(blob(d), "hello", 5));
    if (stat_of(blob(d)).st_ino == seen.st_ino) { /* a hard link: the user's file stays as it is */
        assert_int_equal(stat_of(blob(d)).st_mode & 07777, 0640);
    } else {
        assert_int_equal(stat_of(blob(d)).st_mode & 07777, 0444);
    }
    write_text(in_dir("g"), "there");
    seen = stat_of(in_dir("g"));
    d = digest_of("there");
    assert_ok(mlxr_session_take(session, in_dir("g"), &seen, d, true, &err), &err);
    assert_int_not_equal(stat_of(blob(d)).st_ino, seen.st_ino);
    assert_int_equal(stat_of(blob(d)).st_mode & 07777, 0444);
    assert_ok(mlxr_session_take(session, in_dir("g"), &seen, d, true, &err), &err);
    write_text(in_dir("g"), "changed");
    assert_fails(mlxr_session_take(session, in_dir("g"), &seen, digest_of("x"), false, &err), MLXR_E_BUSY,
                 "was changed", &err);
    assert_fails(mlxr_session_take(session, in_dir("gone"), &seen, digest_of("x"), false, &err),
                 MLXR_E_NOT_FOUND, "cannot stat", &err);
    assert_int_equal(count_in(mlxr_session_dir(session)), 4); /* the lock and three digests */
}

static int change_it(const char *kind, const char *path, void *ud)
{
    if (strcmp(kind, "write") == 0 && strstr(path, "/t0")) {
        FILE *f = fopen(in_dir("f"), "a");
        if (f) fputs("!", f), fclose(f);
    }
    return 0;
}

static void a_file_that_grows_while_it_is_copied(void **state)
{
    mlxr_store_options o = mlxr_store_options_default();
    mlxr_session *s;
    mlxr_store *st;
    struct stat seen;

    o.fault = change_it;
    write_text(in_dir("f"), "hello");
    seen = stat_of(in_dir("f"));
    st = open_made(&o);
    assert_ok(mlxr_session_begin(&s, st, &err), &err);
    assert_fails(mlxr_session_take(s, in_dir("f"), &seen, digest_of("hello"), true, &err), MLXR_E_BUSY,
                 "was changed", &err);
    assert_int_equal(mlxr_blob_look(store, digest_of("hello"), 5), MLXR_BLOB_ABSENT);
    mlxr_session_end(s);
    mlxr_store_close(st);
}

static void links_out_of_the_store(void **state)
{
    const char *d = digest_of("hello");
    struct stat seen;
    mlxr_layer l = {0};
    mlxr_buf trouble = {0};
    uint64_t quota, used;
    bool present;

    write_text(in_dir("f"), "hello");
    seen = stat_of(in_dir("f"));
    assert_ok(mlxr_session_link(session, in_dir("f"), &seen, d, &err), &err);
    assert_int_equal(mlxr_blob_look(store, d, 5), MLXR_BLOB_LINK);
    assert_int_equal(mlxr_blob_look(store, d, 6), MLXR_BLOB_LINK_CHANGED);
    assert_true(file_is(blob(d), "hello", 5));
    assert_ok(mlxr_store_quota(&quota, &used, store, &err), &err);
    assert_int_equal(quota, 0);
    assert_int_equal(used, 0);
    assert_ok(mlxr_session_link(session, in_dir("f"), &seen, d, &err), &err);
    assert_ok(mlxr_session_want(session, d, 5, &present, &err), &err);
    assert_true(present);
    write_text(in_dir("f"), "jello"); /* of that size, but of another time, however coarse the clock is */
    assert_int_equal(utimensat(AT_FDCWD, in_dir("f"), (const struct timespec[2]){{1000, 0}, {1000, 0}}, 0),
                     0);
    assert_int_equal(mlxr_blob_look(store, d, 5), MLXR_BLOB_LINK_CHANGED);
    l.path = (char[]){"model.safetensors"};
    strcpy(l.digest, d);
    l.size = 5;
    mlxr_blob_trouble(&trouble, store, &l, MLXR_BLOB_LINK_CHANGED);
    assert_non_null(strstr(trouble.data, "model.safetensors lies outside the store"));
    assert_ok(mlxr_session_want(session, d, 5, &present, &err), &err);
    assert_false(present);
    /* The bytes themselves take its place, and no record of the link stays. */
    assert_ok(mlxr_session_put(session, &l, "hello", 5, &err), &err);
    assert_int_equal(mlxr_blob_look(store, d, 5), MLXR_BLOB_WHOLE);
    assert_true(file_is(in_dir("f"), "jello", 5));
    assert_int_equal(count_in(in_dir("s/links/sha256")), 0);
    /* A whole blob is not made a link. */
    seen = stat_of(in_dir("f"));
    assert_ok(mlxr_session_link(session, in_dir("f"), &seen, d, &err), &err);
    assert_int_equal(mlxr_blob_look(store, d, 5), MLXR_BLOB_WHOLE);
    mlxr_buf_clear(&trouble);
}

static void records_that_are_garbage(void **state)
{
    static const char *const records[] = {"",
                                          "[]",
                                          "{}",
                                          "{\"path\":1}",
                                          "{\"path\":\"/x\",\"size\":5,\"mtime_ns\":0}",
                                          "{\"path\":\"\",\"size\":-5,\"mtime_ns\":\"\"}"};
    const char *d = digest_of("hello");
    struct stat seen;

    write_text(in_dir("f"), "hello");
    seen = stat_of(in_dir("f"));
    assert_ok(mlxr_session_link(session, in_dir("f"), &seen, d, &err), &err);
    for (size_t i = 0; i < MLXR_COUNT(records); i++) {
        write_text(in_dir("s/links/sha256/%s", d + 7), records[i]);
        assert_int_equal(mlxr_blob_look(store, d, 5), MLXR_BLOB_LINK_CHANGED);
    }
    assert_ok(mlxr_session_link(session, in_dir("f"), &seen, d, &err), &err);
    assert_int_equal(mlxr_blob_look(store, d, 5), MLXR_BLOB_LINK);
    assert_int_equal(unlink(in_dir("s/links/sha256/%s", d + 7)), 0);
    assert_int_equal(mlxr_blob_look(store, d, 5), MLXR_BLOB_LINK_CHANGED);
}

static void a_living_session_keeps_what_it_wants(void **state)
{
    mlxr_layer l = {0};
    mlxr_store_gc_result r;
    int go[2], ready[2], status;
    char c;
    pid_t pid;

    assert_ok(mlxr_session_put(session, &l, "hello", 5, &err), &err);
    r = gc(); /* our own */
    assert_int_equal(r.n_kept, 1);
    assert_int_equal(r.n_files, 0);

    assert_int_equal(pipe(go), 0);
    assert_int_equal(pipe(ready), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        mlxr_session *s;
        mlxr_layer k = {0};
        close(go[1]);
        if (mlxr_session_begin(&s, store, &err) != MLXR_OK ||
            mlxr_session_put(s, &k, "child", 5, &err) != MLXR_OK || write(ready[1], "x", 1) != 1)
            _exit(1);
        (void)!read(go[0], &c, 1);
        _exit(2); /* not reached: it is killed */
    }
    assert_int_equal(read(ready[0], &c, 1), 1);
    mlxr_session_end(session);
    session = NULL;
    r = gc();
    assert_int_equal(r.n_kept, 1);  /* the child's */
    assert_int_equal(r.n_files, 1); /* what was ours */
    assert_int_equal(r.freed_bytes, 5);
    assert_int_equal(mlxr_blob_look(store, digest_of("child"), 5), MLXR_BLOB_WHOLE);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(count_in(in_dir("s/sessions")), 1);
    r = gc();
    assert_int_equal(r.n_kept, 0);
    assert_int_equal(r.n_files, 1);
    assert_int_equal(count_in(in_dir("s/sessions")), 0);
    assert_int_equal(mlxr_blob_look(store, digest_of("child"), 5), MLXR_BLOB_ABSENT);
    for (int i = 0; i < 2; i++) close(go[i]), close(ready[i]);
}

static void what_another_call_wants_stays_when_a_model_goes(void **state)
{
    char bytes[4096], hex[65];
    char digest[72] = "sha256:";
    size_t n = made_bytes(bytes, 1, 1);
    bool present;

    assert_ok(make_model(NULL, store, "a", 1, &err), &err);
    assert_ok(mlxr_sha256_hex(hex, bytes, n, &err), &err);
    memcpy(digest + 7, hex, 65);
    assert_ok(mlxr_session_want(session, digest, n, &present, &err), &err);
    assert_true(present);
    assert_ok(mlxr_store_remove(store, "a", NULL, &err), &err);
    assert_int_equal(mlxr_blob_look(store, digest, n), MLXR_BLOB_WHOLE);
    assert_int_equal(count_in(in_dir("s/blobs/sha256")), 1);
}

static void grace(void **state)
{
    mlxr_store_options o = mlxr_store_options_default();
    const struct timespec old[2] = {{1000, 0}, {1000, 0}}, future[2] = {{4000000000, 0}, {4000000000, 0}};
    mlxr_layer l = {0};
    mlxr_store_gc_result r;
    mlxr_store *s;

    assert_ok(mlxr_session_put(session, &l, "hello", 5, &err), &err);
    mlxr_session_end(session);
    session = NULL;
    o.grace_seconds = 100;
    s = open_made(&o);
    assert_ok(mlxr_store_gc(&r, s, NULL, &err), &err);
    assert_int_equal(r.n_kept, 1);
    assert_int_equal(utimensat(AT_FDCWD, blob(l.digest), future, 0), 0);
    assert_ok(mlxr_store_gc(&r, s, NULL, &err), &err);
    assert_int_equal(r.n_kept, 1);
    assert_int_equal(utimensat(AT_FDCWD, blob(l.digest), old, 0), 0);
    assert_ok(mlxr_store_gc(&r, s, NULL, &err), &err);
    assert_int_equal(r.n_kept, 0);
    assert_int_equal(r.n_files, 1);
    mlxr_store_close(s);
}

static void a_name_wants_its_blobs(void **state)
{
    mlxr_layer config = {0}, l = {.path = (char[]){"x"}, .size = 5};
    mlxr_manifest m;
    mlxr_name n;

    assert_ok(mlxr_session_put(session, &config, "{\"mlxr\":1}", 10, &err), &err);
    strcpy(l.digest, digest_of("hello"));
    assert_ok(mlxr_manifest_make(&m, &config, &l, 1, NULL, &err), &err);
    assert_ok(mlxr_name_parse(&n, "a", &err), &err);
    assert_fails(mlxr_session_name(session, &n, &m, &err), MLXR_E_INTERNAL, "named before it is there", &err);
    assert_int_not_equal(access(in_dir("s/manifests"), F_OK), 0);
    mlxr_manifest_clear(&m);
}

static void quota(void **state)
{
    uint64_t q, used;
    mlxr_layer l = {0};
    mlxr_store_options o = mlxr_store_options_default();
    mlxr_store *s;
    struct stat seen;
    char *temp;

    write_text(in_dir("s/config.json"), "{\"other\": [1], \"quota_bytes\": 7}");
    assert_ok(mlxr_session_put(session, &l, "hello", 5, &err), &err);
    assert_ok(mlxr_store_quota(&q, &used, store, &err), &err);
    assert_int_equal(q, 7);
    assert_int_equal(used, 5);
    assert_ok(mlxr_store_check_quota(store, 2, &err), &err);
    assert_fails(mlxr_store_check_quota(store, 3, &err), MLXR_E_NO_SPACE,
                 "3 bytes more go over its quota of 7, of which 5 are in use", &err);
    assert_fails(mlxr_store_check_quota(store, UINT64_MAX, &err), MLXR_E_NO_SPACE, "quota", &err);
    assert_fails(mlxr_session_put(session, &l, "there", 5, &err), MLXR_E_NO_SPACE, "quota", &err);
    assert_ok(mlxr_session_put(session, &l, "hello", 5, &err), &err); /* is there */
    temp = mlxr_session_temp(session);
    write_text(temp, "hello");
    assert_ok(mlxr_session_commit(session, temp, l.digest, 5, true, &err), &err); /* takes its own place */
    free(temp);
    write_text(in_dir("f"), "there");
    seen = stat_of(in_dir("f"));
    assert_fails(mlxr_session_take(session, in_dir("f"), &seen, digest_of("there"), true, &err),
                 MLXR_E_NO_SPACE, "quota", &err);
    assert_ok(mlxr_session_link(session, in_dir("f"), &seen, digest_of("there"), &err),
              &err); /* costs nothing */
    assert_ok(mlxr_store_set_quota(store, 20, &err), &err);
    assert_ok(mlxr_session_put(session, &l, "wherever", 8, &err), &err);
    assert_ok(mlxr_store_set_quota(store, 0, &err), &err);
    assert_true(file_is(in_dir("s/config.json"), "{\n  \"other\": [\n    1\n  ]\n}", 26));
    o.quota_bytes = 14; /* options come before the file */
    s = open_made(&o);
    assert_fails(mlxr_store_check_quota(s, 2, &err), MLXR_E_NO_SPACE, "quota of 14", &err);
    assert_ok(mlxr_store_check_quota(s, 1, &err), &err);
    mlxr_store_close(s);
    write_text(in_dir("s/config.json"), "{\"quota_bytes\": \"7\"}");
    assert_fails(mlxr_store_check_quota(store, 2, &err), MLXR_E_FORMAT, "quota_bytes", &err);
    write_text(in_dir("s/config.json"), "[");
    assert_fails(mlxr_store_check_quota(store, 2, &err), MLXR_E_FORMAT, "config.json", &err);
}

static uint64_t told, n_told;
static void on_step(const mlxr_store_step *step, void *ud)
{
    told = step->done_all;
    n_told++;
    assert_true(step->done <= step->total);
}

static void copies_tell_how_far_they_are(void **state)
{
    const mlxr_store_job job = {.on_step = on_step};
    int cancel = 1;
    const mlxr_store_job stopped = {.on_step = on_step, .cancel = &cancel};
    mlxr_store_pace pace;
    struct stat seen;

    told = n_told = 0;
    write_text(in_dir("f"), "hello");
    seen = stat_of(in_dir("f"));
    assert_ok(mlxr_store_pace_init(&pace, &job, 5, &err), &err);
    mlxr_session_set_pace(session, &pace);
    assert_ok(mlxr_session_take(session, in_dir("f"), &seen, digest_of("hello"), true, &err), &err);
    assert_true(n_told <= 1 && (n_told == 0 || told == 5)); /* a clone has no steps */
    for (unsigned i = 0; i < 10000; i++)
        assert_ok(mlxr_store_pace_add(&pace, "hashing", "f", 1, i, 10000, &err), &err);
    assert_true(n_told < 1000);
    assert_ok(mlxr_store_pace_add(&pace, "hashing", "f", 1, 10000, 10000, &err), &err);
    assert_int_equal(told, pace.done_all); /* the last one always */
    mlxr_store_pace_clear(&pace);
    assert_ok(mlxr_store_pace_init(&pace, &stopped, 5, &err), &err);
    assert_true(mlxr_store_pace_cancelled(&pace));
    assert_fails(mlxr_store_pace_add(&pace, "hashing", "f", 1, 1, 5, &err), MLXR_E_CANCELLED,
                 "while hashing f", &err);
    assert_ok(mlxr_store_pace_add(NULL, "hashing", "f", 1, 1, 5, &err), &err);
    mlxr_session_set_pace(session, NULL);
    mlxr_store_pace_clear(&pace);
}

#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, begin, end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(put_and_commit),
        WITH_STORE(a_wrong_size_is_absent_and_replaced),
        WITH_STORE(files_are_taken),
        WITH_STORE(a_file_that_grows_while_it_is_copied),
        WITH_STORE(links_out_of_the_store),
        WITH_STORE(records_that_are_garbage),
        WITH_STORE(a_living_session_keeps_what_it_wants),
        WITH_STORE(what_another_call_wants_stays_when_a_model_goes),
        WITH_STORE(grace),
        WITH_STORE(a_name_wants_its_blobs),
        WITH_STORE(quota),
        WITH_STORE(copies_tell_how_far_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
