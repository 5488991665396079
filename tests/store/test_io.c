/* The layer under the store: what failures are called, small files, locks and their files, trees. */
#include "test.h"

#include <errno.h>
#include <sys/wait.h>

#include "made.h"

static int fail_with(const char *kind, const char *path, void *ud)
{
    const struct {
        const char *kind;
        int e;
    } *f = ud;
    return strcmp(kind, f->kind) == 0 ? f->e : 0;
}

static void failures_have_their_status(void **state)
{
    static const struct {
        int e;
        mlxr_status st;
    } cases[] = {{ENOSPC, MLXR_E_NO_SPACE}, {EDQUOT, MLXR_E_NO_SPACE}, {EACCES, MLXR_E_DENIED},
                 {EPERM, MLXR_E_DENIED},    {EROFS, MLXR_E_DENIED},    {ENOENT, MLXR_E_NOT_FOUND},
                 {EIO, MLXR_E_IO},          {ENOTDIR, MLXR_E_IO}};
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        struct {
            const char *kind;
            int e;
        } f = {"write", cases[i].e};
        const mlxr_io io = {fail_with, &f};
        assert_int_equal(mlxr_io_write_file(&io, in_dir("x"), "abc", 3, &err), cases[i].st);
        assert_non_null(strstr(err.message, ": cannot write: "));
        assert_int_equal(count_in(made_dir), 0);
    }
}

static void small_files_are_old_or_new(void **state)
{
    static const char *const kinds[] = {"create", "write", "sync", "rename"};
    bool removed;

    assert_ok(mlxr_io_write_file(NULL, in_dir("x"), "old", 3, &err), &err);
    for (size_t i = 0; i < MLXR_COUNT(kinds); i++) {
        struct {
            const char *kind;
            int e;
        } f = {kinds[i], EIO};
        const mlxr_io io = {fail_with, &f};
        assert_int_equal(mlxr_io_write_file(&io, in_dir("x"), "new", 3, &err), MLXR_E_IO);
        assert_true(file_is(in_dir("x"), "old", 3));
        assert_int_equal(count_in(made_dir), 1);
    }
    assert_ok(mlxr_io_write_file(NULL, in_dir("x"), "newer", 5, &err), &err);
    assert_true(file_is(in_dir("x"), "newer", 5));
    assert_true(mlxr_io_is_temp(".x.01234567.tmp"));
    assert_false(mlxr_io_is_temp("x.tmp"));
    assert_false(mlxr_io_is_temp(".tmp"));
    write_text(in_dir(".x.01234567.tmp"), "of a dead process");
    assert_ok(mlxr_io_remove_temp(&removed, NULL, in_dir(".x.01234567.tmp"), &err), &err);
    assert_true(removed);
    assert_ok(mlxr_io_remove_temp(&removed, NULL, in_dir(".x.01234567.tmp"), &err), &err);
    assert_false(removed);
}

/* A writer that stops before its rename: who clears away meanwhile leaves its file. */
static int look_at_temp(const char *kind, const char *path, void *ud)
{
    bool removed = true;
    if (strcmp(kind, "write") == 0) {
        assert_ok(mlxr_io_remove_temp(&removed, NULL, path, &err), &err);
        assert_false(removed);
        *(bool *)ud = true;
    }
    return 0;
}

static void a_temporary_file_in_use_stays(void **state)
{
    bool seen = false;
    const mlxr_io io = {look_at_temp, &seen};
    assert_ok(mlxr_io_write_file(&io, in_dir("x"), "abc", 3, &err), &err);
    assert_true(seen);
    assert_true(file_is(in_dir("x"), "abc", 3));
}

static void locks(void **state)
{
    const int stop = 1;
    int a, b, c;

    assert_ok(mlxr_io_lock(&a, NULL, in_dir("l"), false, false, NULL, &err), &err);
    assert_ok(mlxr_io_lock(&b, NULL, in_dir("l"), false, false, NULL, &err), &err);
    assert_fails(mlxr_io_lock(&c, NULL, in_dir("l"), true, false, NULL, &err), MLXR_E_BUSY, "holds the lock",
                 &err);
    assert_int_equal(c, -1);
    assert_fails(mlxr_io_lock(&c, NULL, in_dir("l"), true, true, &stop, &err), MLXR_E_CANCELLED, "cancelled",
                 &err);
    mlxr_io_unlock(a);
    mlxr_io_unlock(b);
    mlxr_io_unlock(-1);
    assert_ok(mlxr_io_lock(&c, NULL, in_dir("l"), true, true, &stop, &err), &err);
    mlxr_io_unlock(c);
}

/* A child holds the lock, removes the file, and goes: who waited gets a lock on a file that is there. */
static void a_lock_whose_file_was_removed(void **state)
{
    int ready[2], fd, status;
    struct stat a, b;
    char c;
    pid_t pid;

    assert_int_equal(pipe(ready), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (mlxr_io_lock(&fd, NULL, in_dir("l"), true, true, NULL, NULL) != MLXR_OK ||
            write(ready[1], "x", 1) != 1)
            _exit(1);
        usleep(50000);
        unlink(in_dir("l"));
        _exit(0); /* the lock goes with the process */
    }
    assert_int_equal(read(ready[0], &c, 1), 1);
    assert_ok(mlxr_io_lock(&fd, NULL, in_dir("l"), true, true, NULL, &err), &err);
    assert_int_equal(fstat(fd, &a), 0);
    assert_int_equal(stat(in_dir("l"), &b), 0);
    assert_int_equal(a.st_ino, b.st_ino);
    mlxr_io_unlock(fd);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(ready[0]);
    close(ready[1]);
}

static void trees(void **state)
{
    mlxr_buf deep = {0};

    mlxr_buf_str(&deep, in_dir("tree"));
    for (int i = 0; i < 900; i++) mlxr_buf_str(&deep, "/d");
    assert_ok(mlxr_io_make_dirs(NULL, deep.data, &err), &err);
    assert_ok(mlxr_io_make_dirs(NULL, deep.data, &err), &err);
    for (int i = 0; i < 20; i++) {
        assert_ok(mlxr_io_make_dirs(NULL, in_dir("tree/e%d/f", i), &err), &err);
        write_text(in_dir("tree/e%d/x", i), "x");
    }
    assert_ok(mlxr_io_make_dirs(NULL, in_dir("stays"), &err), &err);
    write_text(in_dir("stays/x"), "x");
    assert_int_equal(symlink(in_dir("stays"), in_dir("tree/link")), 0);
    assert_int_equal(symlink("nowhere", in_dir("tree/e1/f/link")), 0);
    assert_ok(mlxr_io_remove_tree(NULL, in_dir("tree"), &err), &err);
    assert_ok(mlxr_io_remove_tree(NULL, in_dir("tree"), &err), &err);
    assert_int_equal(count_in(made_dir), 1);
    assert_true(file_is(in_dir("stays/x"), "x", 1));
    assert_fails(mlxr_io_make_dirs(NULL, in_dir("stays/x/y"), &err), MLXR_E_IO, "cannot make the folder",
                 &err);
    assert_ok(mlxr_io_remove_dir(NULL, in_dir("stays"), &err), &err); /* not empty: stays */
    assert_true(mlxr_path_is_dir(in_dir("stays")));
    assert_ok(mlxr_io_remove_tree(NULL, in_dir("stays/x"), &err), &err); /* a file is a small tree */
    assert_ok(mlxr_io_remove_dir(NULL, in_dir("stays"), &err), &err);
    assert_false(mlxr_path_is_dir(in_dir("stays")));
    mlxr_buf_clear(&deep);
}

static void links_lead_to_files(void **state)
{
    struct stat a, b;
    mlxr_status st;

    write_text(in_dir("x"), "text");
    assert_int_equal(symlink(in_dir("x"), in_dir("s")), 0);
    assert_ok(mlxr_io_link(NULL, in_dir("s"), in_dir("h"), &err), &err);
    assert_int_equal(lstat(in_dir("h"), &a), 0);
    assert_int_equal(stat(in_dir("x"), &b), 0);
    assert_int_equal(a.st_ino, b.st_ino);
    assert_fails(mlxr_io_link(NULL, in_dir("gone"), in_dir("h2"), &err), MLXR_E_NOT_FOUND, "cannot link",
                 &err);
    st = mlxr_io_clone(NULL, in_dir("x"), in_dir("c"), &err);
    assert_true(st == MLXR_OK || st == MLXR_E_UNSUPPORTED);
    if (st == MLXR_OK)
        assert_true(file_is(in_dir("c"), "text", 4));
    else
        assert_int_not_equal(access(in_dir("c"), F_OK), 0);
}

static void files_in_pieces(void **state)
{
    int fd;
    assert_ok(mlxr_io_create(&fd, NULL, in_dir("x"), true, &err), &err);
    assert_ok(mlxr_io_write(NULL, fd, "x", "abc", 3, -1, &err), &err);
    assert_ok(mlxr_io_write(NULL, fd, "x", "de", 2, -1, &err), &err);
    assert_ok(mlxr_io_write(NULL, fd, "x", "BC", 2, 1, &err), &err);
    assert_ok(mlxr_io_sync(NULL, fd, "x", &err), &err);
    close(fd);
    assert_true(file_is(in_dir("x"), "aBCde", 5));
    assert_fails(mlxr_io_create(&fd, NULL, in_dir("x"), true, &err), MLXR_E_IO, "cannot create", &err);
    assert_int_equal(fd, -1);
    assert_ok(mlxr_io_open_write(&fd, NULL, in_dir("x"), &err), &err);
    assert_ok(mlxr_io_truncate(NULL, fd, "x", 2, &err), &err);
    close(fd);
    assert_true(file_is(in_dir("x"), "aB", 2));
    assert_fails(mlxr_io_open_write(&fd, NULL, in_dir("y"), &err), MLXR_E_NOT_FOUND, "cannot open", &err);
}

#define WITH_DIR(test) cmocka_unit_test_setup_teardown(test, made_begin, made_end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_DIR(failures_have_their_status),    WITH_DIR(small_files_are_old_or_new),
        WITH_DIR(a_temporary_file_in_use_stays), WITH_DIR(locks),
        WITH_DIR(a_lock_whose_file_was_removed), WITH_DIR(trees),
        WITH_DIR(links_lead_to_files),           WITH_DIR(files_in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
