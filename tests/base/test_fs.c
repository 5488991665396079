/* Files: reads with bounds, mappings, atomic writes that leave nothing behind, folders and paths. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "test.h"

static char dir[64]; /* of the running test, empty at its start */

static int make_dir(void **state)
{
    snprintf(dir, sizeof dir, "mlxr-fs-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static size_t n_entries(const char *path)
{
    DIR *d = opendir(path);
    size_t n = 0;
    struct dirent *e;
    assert_non_null(d);
    while ((e = readdir(d)) != NULL)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) n++;
    closedir(d);
    return n;
}

static void remove_tree(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e;
    while (d && (e = readdir(d)) != NULL) {
        char sub[512];
        struct stat sb;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        snprintf(sub, sizeof sub, "%s/%s", path, e->d_name);
        if (lstat(sub, &sb) == 0 && S_ISDIR(sb.st_mode))
            remove_tree(sub);
        else
            unlink(sub);
    }
    if (d) closedir(d);
    rmdir(path);
}

static int clean_dir(void **state)
{
    chmod(dir, 0700);
    remove_tree(dir);
    return 0;
}

/* dir/name, in one of four places that take turns. */
static const char *in(const char *name)
{
    static char text[4][256];
    static unsigned turn;
    char *s = text[turn++ % 4];
    snprintf(s, sizeof text[0], "%s/%s", dir, name);
    return s;
}

static void assert_content(const char *path, const void *data, size_t n)
{
    mlxr_buf b = {0};
    mlxr_error err;
    if (mlxr_file_read(&b, path, 1 << 24, &err) != MLXR_OK) fail_msg("%s", err.message);
    assert_int_equal(b.len, n);
    assert_memory_equal(b.data, data, n);
    mlxr_buf_clear(&b);
}

static void write_and_read_back(void **state)
{
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 1000000};
    for (size_t i = 0; i < MLXR_COUNT(sizes); i++) {
        char *data = malloc(sizes[i] + 1);
        for (size_t k = 0; k < sizes[i]; k++) data[k] = (char)(k * 31 >> 3);
        assert_int_equal(mlxr_file_write(in("f"), data, sizes[i], NULL), MLXR_OK);
        assert_content(in("f"), data, sizes[i]);
        assert_int_equal(n_entries(dir), 1);
        free(data);
    }
}

static void a_read_appends(void **state)
{
    mlxr_buf b = {0};
    assert_int_equal(mlxr_file_write(in("f"), "two", 3, NULL), MLXR_OK);
    mlxr_buf_str(&b, "one ");
    assert_int_equal(mlxr_file_read(&b, in("f"), 3, NULL), MLXR_OK);
    assert_string_equal(b.data, "one two");
    assert_int_equal(mlxr_file_read(&b, in("f"), 2, NULL), MLXR_E_LIMIT);
    assert_int_equal(mlxr_file_read(&b, in("none"), 2, NULL), MLXR_E_NOT_FOUND);
    assert_int_equal(mlxr_file_read(&b, dir, 100, NULL), MLXR_E_IO);
    assert_string_equal(b.data, "one two"); /* a failed read leaves what was there */
    assert_int_equal(b.len, 7);
    mlxr_buf_clear(&b);
}

static void what_cannot_be_read_is_named(void **state)
{
    mlxr_buf b = {0};
    mlxr_map map;
    mlxr_error err;

    assert_int_equal(mlxr_file_read(&b, in("none"), 10, &err), MLXR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, in("none")));
    assert_non_null(strstr(err.message, strerror(ENOENT)));
    assert_int_equal(mlxr_file_write(in("f"), "0123456789", 10, NULL), MLXR_OK);
    assert_int_equal(mlxr_file_read(&b, in("f/below"), 10, &err), MLXR_E_NOT_FOUND);
    assert_int_equal(mlxr_file_read(&b, dir, 10, &err), MLXR_E_IO);
    assert_non_null(strstr(err.message, "is a folder"));
    assert_int_equal(mlxr_file_read(&b, in("f"), 9, &err), MLXR_E_LIMIT);
    assert_non_null(strstr(err.message, "10 bytes, at most 9"));
    assert_int_equal(mkfifo(in("pipe"), 0600), 0); /* without a writer: a plain open would wait for ever */
    assert_int_equal(mlxr_file_read(&b, in("pipe"), 10, &err), MLXR_E_IO);
    assert_non_null(strstr(err.message, "special file"));
    assert_int_equal(mlxr_file_read(&b, "/dev/zero", 10, &err), MLXR_E_IO);
    assert_null(b.data);

    assert_int_equal(mlxr_map_open(&map, in("none"), &err), MLXR_E_NOT_FOUND);
    mlxr_map_close(&map);
    assert_int_equal(mlxr_map_open(&map, dir, &err), MLXR_E_IO);
    mlxr_map_close(&map);
    assert_int_equal(mlxr_map_open(&map, in("pipe"), &err), MLXR_E_IO);
    mlxr_map_close(&map);
}

/* Root may read and write everywhere: as another user from here to as_root. */
static void as_nobody(void)
{
    if (geteuid() == 0) assert_int_equal(seteuid(65534), 0);
}

static void as_root(void)
{
    if (getuid() == 0) assert_int_equal(seteuid(0), 0);
}

static void a_file_without_permission(void **state)
{
    mlxr_buf b = {0};
    mlxr_error err;
    mlxr_status st;

    assert_int_equal(mlxr_file_write(in("f"), "x", 1, NULL), MLXR_OK);
    assert_int_equal(chmod(in("f"), 0), 0);
    assert_int_equal(chmod(dir, 0755), 0);
    as_nobody();
    st = mlxr_file_read(&b, in("f"), 10, &err);
    as_root();
    assert_int_equal(st, MLXR_E_IO);
    assert_non_null(strstr(err.message, strerror(EACCES)));
    assert_null(b.data);
}

static void mappings(void **state)
{
    mlxr_map map = {0};
    mlxr_map_close(&map);
    mlxr_map_close(NULL);
    assert_int_equal(mlxr_file_write(in("f"), "mapped", 6, NULL), MLXR_OK);
    assert_int_equal(mlxr_map_open(&map, in("f"), NULL), MLXR_OK);
    assert_int_equal(map.n_bytes, 6);
    assert_memory_equal(map.data, "mapped", 6);
    /* Replacing the file by rename does not change what is mapped. */
    assert_int_equal(mlxr_file_write(in("f"), "newer!", 6, NULL), MLXR_OK);
    assert_memory_equal(map.data, "mapped", 6);
    mlxr_map_close(&map);
    assert_null(map.data);
    mlxr_map_close(&map);
    assert_int_equal(mlxr_file_write(in("f"), "", 0, NULL), MLXR_OK);
    assert_int_equal(mlxr_map_open(&map, in("f"), NULL), MLXR_OK);
    assert_int_equal(map.n_bytes, 0);
    assert_non_null(map.data);
    mlxr_map_close(&map);
}

static void the_old_file_stays_until_commit(void **state)
{
    mlxr_atomic_file *f = NULL;
    assert_int_equal(mlxr_file_write(in("f"), "old", 3, NULL), MLXR_OK);
    assert_int_equal(mlxr_atomic_file_open(&f, in("f"), NULL), MLXR_OK);
    assert_int_equal(mlxr_atomic_file_write(f, "ne", 2, NULL), MLXR_OK);
    assert_int_equal(mlxr_atomic_file_write(f, "", 0, NULL), MLXR_OK);
    assert_int_equal(mlxr_atomic_file_write(f, "w", 1, NULL), MLXR_OK);
    assert_content(in("f"), "old", 3);
    assert_int_equal(mlxr_atomic_file_commit(f, NULL), MLXR_OK);
    assert_content(in("f"), "new", 3);
    mlxr_atomic_file_close(f);
    assert_content(in("f"), "new", 3);
    assert_int_equal(n_entries(dir), 1);
}

static void without_commit_nothing_is_left(void **state)
{
    mlxr_atomic_file *f = NULL;
    assert_int_equal(mlxr_atomic_file_open(&f, in("f"), NULL), MLXR_OK);
    assert_int_equal(mlxr_atomic_file_write(f, "half", 4, NULL), MLXR_OK);
    mlxr_atomic_file_close(f);
    assert_int_equal(n_entries(dir), 0);
    mlxr_atomic_file_close(NULL);
}

static void two_writers_of_one_file_do_not_meet(void **state)
{
    mlxr_atomic_file *a = NULL, *b = NULL;
    assert_int_equal(mlxr_atomic_file_open(&a, in("f"), NULL), MLXR_OK);
    assert_int_equal(mlxr_atomic_file_open(&b, in("f"), NULL), MLXR_OK);
    assert_int_equal(mlxr_atomic_file_write(a, "from a", 6, NULL), MLXR_OK);
    assert_int_equal(mlxr_atomic_file_write(b, "b's text", 8, NULL), MLXR_OK);
    assert_int_equal(mlxr_atomic_file_commit(a, NULL), MLXR_OK);
    assert_content(in("f"), "from a", 6);
    assert_int_equal(mlxr_atomic_file_commit(b, NULL), MLXR_OK);
    assert_content(in("f"), "b's text", 8);
    mlxr_atomic_file_close(a);
    mlxr_atomic_file_close(b);
    assert_int_equal(n_entries(dir), 1);
}

static void the_umask_decides_the_mode(void **state)
{
    struct stat sb;
    mode_t old = umask(027);
    assert_int_equal(mlxr_file_write(in("f"), "x", 1, NULL), MLXR_OK);
    umask(old);
    assert_int_equal(stat(in("f"), &sb), 0);
    assert_int_equal(sb.st_mode & 0777, 0640);
}

static void a_folder_in_the_way(void **state)
{
    mlxr_error err;
    assert_int_equal(mkdir(in("f"), 0700), 0);
    assert_int_equal(mlxr_file_write(in("f"), "x", 1, &err), MLXR_E_IO);
    assert_non_null(strstr(err.message, in("f")));
    assert_int_equal(n_entries(dir), 1);
}

static void a_folder_that_is_not_there_or_not_writable(void **state)
{
    mlxr_atomic_file *f = (mlxr_atomic_file *)dir;
    mlxr_error err;
    mlxr_status st;

    assert_int_equal(mlxr_atomic_file_open(&f, in("none/f"), &err), MLXR_E_NOT_FOUND);
    assert_null(f);
    assert_non_null(strstr(err.message, in("none/f")));
    assert_int_not_equal(mlxr_file_write("/proc/mlxr-test", "x", 1, &err), MLXR_OK);
    assert_int_equal(chmod(dir, 0555), 0);
    as_nobody();
    st = mlxr_file_write(in("f"), "x", 1, &err);
    as_root();
    assert_int_equal(st, MLXR_E_IO);
    assert_non_null(strstr(err.message, strerror(EACCES)));
    assert_int_equal(n_entries(dir), 0);
}

/* As on a full disk: writes end in an error part of the way. */
static void a_write_that_fails_leaves_the_old_file(void **state)
{
    enum { LIMIT = 65536 };
    struct rlimit old, small;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    char *data = calloc(1, 4 * LIMIT);
    mlxr_error err = {0};
    mlxr_status st;

    assert_non_null(data);
    assert_int_equal(mlxr_file_write(in("f"), "old", 3, NULL), MLXR_OK);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = LIMIT;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    st = mlxr_file_write(in("f"), data, 4 * LIMIT, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, handler);
    free(data);
    assert_int_equal(st, MLXR_E_IO);
    assert_non_null(strstr(err.message, "cannot write"));
    assert_non_null(strstr(err.message, in("f")));
    assert_content(in("f"), "old", 3);
    assert_int_equal(n_entries(dir), 1);
}

static void folders(void **state)
{
    mlxr_error err;
    assert_int_equal(mlxr_make_dirs(in("a/b//c/"), &err), MLXR_OK);
    assert_true(mlxr_path_is_dir(in("a/b/c")));
    assert_int_equal(mlxr_make_dirs(in("a/b/c"), &err), MLXR_OK);
    assert_int_equal(mlxr_make_dirs("/", &err), MLXR_OK);
    assert_int_equal(mlxr_make_dirs("//", &err), MLXR_OK);
    assert_int_equal(mlxr_make_dirs(".", &err), MLXR_OK);
    assert_int_not_equal(mlxr_make_dirs("", &err), MLXR_OK);
    assert_int_equal(mlxr_file_write(in("f"), "x", 1, NULL), MLXR_OK);
    assert_int_not_equal(mlxr_make_dirs(in("f"), &err), MLXR_OK);
    assert_non_null(strstr(err.message, in("f")));
    assert_int_not_equal(mlxr_make_dirs(in("f/g"), &err), MLXR_OK);
    assert_int_not_equal(mlxr_make_dirs("/proc/mlxr/test", &err), MLXR_OK);
    assert_true(mlxr_path_is_file(in("f")));
    assert_false(mlxr_path_is_file(dir));
    assert_false(mlxr_path_is_file(in("none")));
    assert_false(mlxr_path_is_dir(in("f")));
    assert_false(mlxr_path_is_dir(in("none")));
}

static void paths(void **state)
{
    static const struct {
        const char *a, *b, *want;
    } joins[] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"},
                 {"a", "/b", "/b"}, {"", "b", "b"},     {"a/b", "../c", "a/b/../c"}};
    static const struct {
        const char *path, *want;
    } dirs[] = {{"a/b", "a"},  {"/a", "/"},  {"a", "."},         {"", "."}, {"/a/b", "/a"},
                {"a//b", "a"}, {"//a", "/"}, {"/a/b/c", "/a/b"}, {"/", "/"}};

    for (size_t i = 0; i < MLXR_COUNT(joins); i++) {
        char *p = mlxr_path_join(joins[i].a, joins[i].b);
        assert_string_equal(p, joins[i].want);
        free(p);
    }
    for (size_t i = 0; i < MLXR_COUNT(dirs); i++) {
        char *p = mlxr_path_dirname(dirs[i].path);
        assert_string_equal(p, dirs[i].want);
        free(p);
    }
}

/* Of a file that is cut off what was there stays, the rest is zeros, and that is told; other mappings are not concerned. */
static void a_file_that_is_cut_off_reads_as_zeros(void **state)
{
    enum { N = 1 << 20, LEFT = 4096 };
    static char bytes[N];
    mlxr_error err = {0};
    mlxr_map cut, whole, early;
    unsigned sum = 0;

    memset(bytes, 1, sizeof bytes);
    assert_ok(mlxr_file_write(in("cut"), bytes, N, &err), &err);
    assert_ok(mlxr_file_write(in("whole"), bytes, N, &err), &err);
    assert_ok(mlxr_map_open(&early, in("whole"), &err), &err);
    assert_ok(mlxr_map_guard(&err), &err);
    assert_ok(mlxr_map_guard(&err), &err); /* a second time is fine */
    assert_ok(mlxr_map_open(&cut, in("cut"), &err), &err);
    assert_ok(mlxr_map_open(&whole, in("whole"), &err), &err);
    assert_false(mlxr_map_damaged(&cut));
    assert_int_equal(truncate(in("cut"), LEFT), 0);
    for (size_t i = 0; i < N; i++) sum += cut.data[i];
    assert_int_equal(sum, LEFT);
    assert_true(mlxr_map_damaged(&cut));
    assert_false(mlxr_map_damaged(&whole));
    assert_false(mlxr_map_damaged(&early));
    for (size_t i = sum = 0; i < N; i++) sum += whole.data[i];
    assert_int_equal(sum, N);
    mlxr_map_close(&cut);
    assert_ok(mlxr_map_open(&cut, in("whole"), &err), &err); /* in the place that became free */
    assert_false(mlxr_map_damaged(&cut));
    mlxr_map_close(&cut);
    mlxr_map_close(&whole);
    mlxr_map_close(&early);
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, clean_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIR(write_and_read_back),
        IN_DIR(a_read_appends),
        IN_DIR(what_cannot_be_read_is_named),
        IN_DIR(a_file_without_permission),
        IN_DIR(mappings),
        IN_DIR(the_old_file_stays_until_commit),
        IN_DIR(without_commit_nothing_is_left),
        IN_DIR(two_writers_of_one_file_do_not_meet),
        IN_DIR(the_umask_decides_the_mode),
        IN_DIR(a_folder_in_the_way),
        IN_DIR(a_folder_that_is_not_there_or_not_writable),
        IN_DIR(a_write_that_fails_leaves_the_old_file),
        IN_DIR(folders),
        IN_DIR(a_file_that_is_cut_off_reads_as_zeros),
        cmocka_unit_test(paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
