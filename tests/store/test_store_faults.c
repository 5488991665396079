/* Every change of the file system that a call makes fails once, or the disk is full from it on, or the process is killed at it: the store
 * is consistent each time, what is not concerned is as it was, the call can be made again, and gc leaves nothing behind. */
#include "test.h"

#include <errno.h>
#include <sys/wait.h>

#include "made.h"

enum mode { ONCE, FULL, KILL, N_MODES };
enum { MAX_CHANGES = 400, EXIT_KILLED = 77 };

struct fault {
    enum mode mode;
    int n, at;
    char kind[16], path[512]; /* of the change that failed */
};

static int fault(const char *kind, const char *path, void *ud)
{
    struct fault *f = ud;

    if (++f->n < f->at) return 0;
    if (f->n == f->at) {
        snprintf(f->kind, sizeof f->kind, "%s", kind);
        snprintf(f->path, sizeof f->path, "%s", path);
    }
    switch (f->mode) {
    case ONCE: return f->n == f->at ? EIO : 0;
    case KILL: _exit(EXIT_KILLED);
    default: break;
    }
    /* What takes no room can be done on a full disk. */
    return strcmp(kind, "unlink") == 0 || strcmp(kind, "rmdir") == 0 || strcmp(kind, "chmod") == 0 ||
                   strcmp(kind, "open") == 0 || strcmp(kind, "sync") == 0
               ? 0
               : ENOSPC;
}

/* ---- the calls ---- */

struct op {
    const char *what;
    void (*prepare)(mlxr_store *s); /* or NULL; "b" is there already */
    mlxr_status (*run)(mlxr_store *s);
    size_t n_blobs; /* after it and gc */
};

static void nothing(mlxr_store *s) {}

static void with_a(mlxr_store *s)
{
    assert_ok(make_model(NULL, s, "a", 1, &err), &err);
}

static void with_a_alone(mlxr_store *s)
{
    with_a(s);
    drop_views();
}

static void with_viewed_a(mlxr_store *s)
{
    char *path;
    with_a(s);
    assert_ok(mlxr_store_model_path(&path, s, "a", &err), &err);
    mlxr_free(path);
}

static mlxr_status add(mlxr_store *s)
{
    return make_model(NULL, s, "org/a:v1", 1, &err);
}

static mlxr_status replace(mlxr_store *s)
{
    return make_model(NULL, s, "A", 3, &err);
}

static mlxr_status take_away(mlxr_store *s)
{
    mlxr_status st = mlxr_store_remove(s, "a", NULL, &err);
    return st == MLXR_E_NOT_FOUND ? MLXR_OK : st;
}

static mlxr_status copy(mlxr_store *s)
{
    return mlxr_store_copy(s, "a", "other/c", &err);
}

static mlxr_status view(mlxr_store *s)
{
    char *path = NULL;
    mlxr_status st = mlxr_store_model_path(&path, s, "a", &err);
    mlxr_free(path);
    return st;
}

/* What no model needs, of every kind. */
static void with_litter(mlxr_store *s)
{
    static const char text[] = "of a view that no model has";
    mlxr_session *session;
    mlxr_layer l = {0};
    char hex[65];

    with_viewed_a(s);
    assert_ok(mlxr_sha256_hex(hex, text, strlen(text), &err), &err);
    assert_ok(mlxr_session_begin(&session, s, &err), &err);
    assert_ok(mlxr_session_put(session, &l, text, strlen(text), &err), &err);
    mlxr_session_end(session);
    assert_int_equal(mkdir(in_dir("s/views/%s", hex), 0777), 0);
    write_text(in_dir("s/views/%s/x", hex), text);
    hex[0] = hex[0] == '0' ? '1' : '0';
    assert_ok(mlxr_io_make_dirs(NULL, in_dir("s/links/sha256"), &err), &err);
    write_text(in_dir("s/links/sha256/%s", hex), text);
    assert_ok(mlxr_io_make_dirs(NULL, in_dir("s/origins"), &err), &err);
    write_text(in_dir("s/origins/%s", hex), text);
    assert_ok(mlxr_io_make_dirs(NULL, in_dir("s/partial"), &err), &err);
    write_text(in_dir("s/partial/%s", hex), text);
    write_text(in_dir("s/partial/%s.state", hex), text);
    assert_ok(mlxr_io_make_dirs(NULL, in_dir("s/sessions/123-dead/inner"), &err), &err);
    write_text(in_dir("s/sessions/123-dead/lock"), "");
    write_text(in_dir("s/sessions/123-dead/inner/t0"), text);
    write_text(in_dir("s/.config.json.12345678.tmp"), text);
}

static mlxr_status gc(mlxr_store *s)
{
    return mlxr_store_gc(NULL, s, NULL, &err);
}

/* A file from outside, and one that stays there. */
static void with_files(mlxr_store *s)
{
    char bytes[4096];
    with_a(s);
    for (unsigned k = 0; k < MADE_FILES; k++) {
        size_t n = made_bytes(bytes, 5, k);
        if (access(in_dir("f%u", k), F_OK) != 0)
            assert_ok(mlxr_file_write(in_dir("f%u", k), bytes, n, &err), &err);
    }
}

static mlxr_status take_files(mlxr_store *s)
{
    mlxr_layer config = {0}, layers[MADE_FILES] = {{0}};
    mlxr_manifest m = {0};
    mlxr_session *session = NULL;
    mlxr_name name;
    char bytes[4096];
    mlxr_status st;

    if ((st = mlxr_session_begin(&session, s, &err)) != MLXR_OK) goto done;
    if ((st = mlxr_session_put(session, &config, "{\"mlxr\":1}", 10, &err)) != MLXR_OK) goto done;
    for (unsigned k = 0; k < MADE_FILES; k++) {
        struct stat sb;
        size_t n = made_bytes(bytes, 5, k);
        layers[k] = (mlxr_layer){.path = (char *)(uintptr_t)made_path(k), .digest = "sha256:", .size = n};
        if ((st = mlxr_sha256_hex(layers[k].digest + 7, bytes, n, &err)) != MLXR_OK) goto done;
        assert_int_equal(stat(in_dir("f%u", k), &sb), 0);
        if (k == 1)
            st = mlxr_session_link(session, in_dir("f%u", k), &sb, layers[k].digest, &err);
        else
            st = mlxr_session_take(session, in_dir("f%u", k), &sb, layers[k].digest, k == 2, &err);
        if (st != MLXR_OK) goto done;
    }
    if ((st = mlxr_manifest_make(&m, &config, layers, MADE_FILES, NULL, &err)) != MLXR_OK) goto done;
    if ((st = mlxr_name_parse(&name, "taken", &err)) != MLXR_OK) goto done;
    st = mlxr_session_name(session, &name, &m, &err);
done:
    mlxr_session_end(session);
    mlxr_manifest_clear(&m);
    return st;
}

static mlxr_status set_quota(mlxr_store *s)
{
    return mlxr_store_set_quota(s, 1 << 20, &err);
}

/* Of each model: a config, config.json, which is the same in all, weights and a text. */
static const struct op ops[] = {
    {"add", nothing, add, 7},
    {"replace", with_viewed_a, replace, 7},
    {"rm", with_viewed_a, take_away, 4},
    {"cp", with_a, copy, 7},
    {"view", with_a_alone, view, 7},
    {"gc", with_litter, gc, 7},
    {"take", with_files, take_files, 10},
    {"quota", nothing, set_quota, 4},
};

/* ---- one fault ---- */

static void prepare(const struct op *op)
{
    mlxr_store *s;

    assert_ok(mlxr_io_remove_tree(NULL, in_dir("s"), &err), &err);
    s = open_made(NULL);
    assert_ok(make_model(NULL, s, "b", 2, &err), &err);
    op->prepare(s);
    mlxr_store_close(s);
}

static void check_after(const struct op *op, const struct fault *f)
{
    mlxr_store_options o = mlxr_store_options_default();
    mlxr_store_gc_result result;
    const char *bad;
    mlxr_store *s;
    char *path;

    o.grace_seconds = 0;
    s = open_made(&o);
    if ((bad = inconsistent(s)) != NULL)
        fail_msg("%s, fault %d at %s %s: %s", op->what, f->at, f->kind, f->path, bad);
    assert_ok(mlxr_store_model_path(&path, s, "b", &err), &err);
    mlxr_free(path);
    if (op->run(s) != MLXR_OK)
        fail_msg("%s again after fault %d at %s %s: %s", op->what, f->at, f->kind, f->path, err.message);
    assert_null(inconsistent(s));
    assert_ok(mlxr_store_gc(&result, s, NULL, &err), &err);
    assert_int_equal(result.n_kept, 0);
    assert_null(inconsistent(s));
    if (count_in(in_dir("s/blobs/sha256")) != op->n_blobs)
        fail_msg("%s, fault %d at %s %s: %zu blobs, wanted %zu", op->what, f->at, f->kind, f->path,
                 count_in(in_dir("s/blobs/sha256")), op->n_blobs);
    assert_int_equal(count_in(in_dir("s/sessions")), 0);
    assert_int_equal(count_in(in_dir("s/origins")), 0);
    assert_int_equal(count_in(in_dir("s/partial")), 0);
    assert_true(count_in(in_dir("s/views")) <=
                (op->n_blobs - 1) / 3); /* one a model, of three blobs of its own */
    assert_true(count_in(in_dir("s/links/sha256")) <= 1);
    assert_int_not_equal(access(in_dir("s/.config.json.12345678.tmp"), F_OK), 0);
    mlxr_store_close(s);
}

/* false: the call has fewer changes than that. */
static bool run_with(const struct op *op, struct fault *f)
{
    mlxr_store_options o = mlxr_store_options_default();
    mlxr_store *s;
    mlxr_status st;

    o.grace_seconds = 0;
    o.fault = fault;
    o.fault_ud = f;
    s = open_made(&o);
    *err.message = '\0';
    if (f->mode == KILL) {
        int status;
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) _exit(op->run(s) == MLXR_OK ? 0 : 1);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == EXIT_KILLED));
        mlxr_store_close(s);
        return WEXITSTATUS(status) == EXIT_KILLED;
    }
    st = op->run(s);
    mlxr_store_close(s);
    if (st != MLXR_OK && (st != (f->mode == ONCE ? MLXR_E_IO : MLXR_E_NO_SPACE) || !*err.message))
        fail_msg("%s, fault %d at %s %s: %s \"%s\"", op->what, f->at, f->kind, f->path, mlxr_status_name(st),
                 err.message);
    return f->n >= f->at;
}

static void each_change(enum mode mode)
{
    for (size_t i = 0; i < MLXR_COUNT(ops); i++) {
        struct fault f;
        int at = 1;
        for (; at < MAX_CHANGES; at++) {
            bool reached;
            f = (struct fault){.mode = mode, .at = at};
            prepare(&ops[i]);
            reached = run_with(&ops[i], &f);
            check_after(&ops[i], &f);
            if (!reached) break;
        }
        assert_in_range(at, 4, MAX_CHANGES - 1); /* there were faults, and an end of them */
        printf("%s: %d changes\n", ops[i].what, at - 1);
    }
}

static void each_change_fails_once(void **state)
{
    each_change(ONCE);
}

static void the_disk_is_full_from_each_change_on(void **state)
{
    each_change(FULL);
}

static void killed_at_each_change(void **state)
{
    each_change(KILL);
}

/* What a store says that may not be written: a folder of another user, or a file system mounted for reading. */
static int refuse_all(const char *kind, const char *path, void *ud)
{
    return *(const int *)ud;
}

static void a_store_that_is_only_read(void **state)
{
    int e = EROFS;
    mlxr_store_options o = mlxr_store_options_default();
    mlxr_store *s = open_made(NULL), *r;
    mlxr_store_entry *entries;
    mlxr_manifest m;
    char *path;
    size_t n;

    assert_ok(make_model(NULL, s, "a", 1, &err), &err);
    assert_ok(make_model(NULL, s, "b", 2, &err), &err);
    o.fault = refuse_all;
    o.fault_ud = &e;
    assert_ok(mlxr_store_open(&r, in_dir("s"), &o, &err), &err);
    assert_ok(mlxr_store_model_path(&path, r, "b", &err), &err); /* made when it was named */
    mlxr_free(path);
    drop_views();
    assert_ok(mlxr_store_model_path(&path, s, "a", &err), &err);
    mlxr_free(path);
    for (int turn = 0; turn < 2; turn++) {
        assert_ok(mlxr_store_list(&entries, &n, r, &err), &err);
        assert_int_equal(n, 2);
        assert_null(entries[1].broken);
        mlxr_store_entries_free(entries, n);
        assert_ok(mlxr_store_find(&m, NULL, r, "B", &err), &err);
        mlxr_manifest_clear(&m);
        assert_ok(mlxr_store_model_path(&path, r, "a", &err), &err);
        mlxr_free(path);
        assert_fails(mlxr_store_model_path(&path, r, "b", &err), MLXR_E_DENIED, "has to be made once", &err);
        assert_null(path);
        assert_fails(make_model(NULL, r, "c", 3, &err), MLXR_E_DENIED, "cannot", &err);
        assert_fails(mlxr_store_remove(r, "a", NULL, &err), MLXR_E_DENIED, "cannot remove", &err);
        assert_fails(mlxr_store_copy(r, "a", "c", &err), MLXR_E_DENIED, "cannot", &err);
        assert_fails(mlxr_store_set_quota(r, 1, &err), MLXR_E_DENIED, "cannot", &err);
        e = EACCES;
    }
    assert_null(inconsistent(s));
    mlxr_store_close(r);
    mlxr_store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_change_fails_once, made_begin, made_end),
        cmocka_unit_test_setup_teardown(the_disk_is_full_from_each_change_on, made_begin, made_end),
        cmocka_unit_test_setup_teardown(killed_at_each_change, made_begin, made_end),
        cmocka_unit_test_setup_teardown(a_store_that_is_only_read, made_begin, made_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
