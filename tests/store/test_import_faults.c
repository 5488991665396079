/* Import, export and verify at a file system that fails: each change fails once, or the disk is full from it on, or the process is killed
 * at it. Each time the store is consistent by a deep verify, the model that was there is whole, the call can be made again, and gc
 * leaves nothing behind. */
#include <errno.h>
#include <sys/wait.h>

#include "store/folder.h"
#include "store/store.h"
#include "store/tiny_gguf.h"

enum mode { ONCE, FULL, KILL, N_MODES };
enum { MAX_CHANGES = 600, EXIT_KILLED = 77 };

static mlxr_error err;

typedef struct fault {
    enum mode mode;
    int n, at; /* at 0: never */
    char kind[16];
} fault;

static int on_change(const char *kind, const char *path, void *ud)
{
    fault *f = ud;

    if (++f->n < f->at || f->at == 0) return 0;
    if (f->n == f->at) snprintf(f->kind, sizeof f->kind, "%s", kind);
    if (f->mode == ONCE) return f->n == f->at ? EIO : 0;
    if (f->mode == KILL) _exit(EXIT_KILLED);
    /* what takes no room can be done on a full disk */
    return strcmp(kind, "unlink") == 0 || strcmp(kind, "rmdir") == 0 || strcmp(kind, "chmod") == 0 ||
                   strcmp(kind, "open") == 0 || strcmp(kind, "sync") == 0
               ? 0
               : ENOSPC;
}

static mlxr_store *open_store(fault *f)
{
    mlxr_store_options o = mlxr_store_options_default();
    mlxr_store *s;

    o.grace_seconds = 0;
    o.fault = on_change;
    o.fault_ud = f;
    assert_ok(mlxr_store_open(&s, temp_path("store"), f ? &o : NULL, &err), &err);
    return s;
}

/* ---- the calls ---- */

static mlxr_status import(mlxr_store *s, const char *path, mlxr_store_import_options o)
{
    return mlxr_store_import(NULL, s, temp_path(path), "m", &o, NULL, &err);
}

static mlxr_status import_folder(mlxr_store *s)
{
    return import(s, "new", (mlxr_store_import_options){0});
}
static mlxr_status import_copy(mlxr_store *s)
{
    return import(s, "new", (mlxr_store_import_options){.copy = true});
}
static mlxr_status import_link(mlxr_store *s)
{
    return import(s, "new", (mlxr_store_import_options){.link = true});
}
static mlxr_status import_gguf(mlxr_store *s)
{
    return import(s, "new.gguf", (mlxr_store_import_options){0});
}
static mlxr_status import_layout(mlxr_store *s)
{
    return import(s, "layout", (mlxr_store_import_options){0});
}

static mlxr_status export_to(mlxr_store *s, bool layout)
{
    mlxr_status st;

    remove_tree(temp_path("out"));
    st = mlxr_store_export(s, "m", temp_path("out"), layout, NULL, &err);
    if (st != MLXR_OK && err.code != MLXR_E_IO && mlxr_path_is_dir(temp_path("out")))
        fail_msg("half an export");
    return st;
}
static mlxr_status export_folder(mlxr_store *s)
{
    return export_to(s, false);
}
static mlxr_status export_layout(mlxr_store *s)
{
    return export_to(s, true);
}

/* Writes sums that are gone, the record of a link that was touched, and a view. */
static mlxr_status verify_all(mlxr_store *s)
{
    struct timespec times[2] = {{.tv_sec = 5000}, {.tv_sec = 5000}};
    mlxr_store_verify_options o = mlxr_store_verify_options_default();
    static long turn;

    times[0].tv_sec = times[1].tv_sec = 5000 + turn++;
    remove_tree(temp_path("store/sums/sha256"));
    if (mlxr_path_is_dir(temp_path("linked")))
        assert_int_equal(utimensat(AT_FDCWD, temp_path("linked/model-00001-of-00002.safetensors"), times, 0),
                         0);
    o.deep = o.repair = true;
    return mlxr_store_verify(NULL, s, NULL, 0, &o, NULL, &err);
}

/* ---- a store at each change ---- */

static void print_finding(const char *name, const char *file, const char *tensor, const char *text,
                          bool repaired, void *ud)
{
    size_t *n_touched = ud;

    if (strstr(text, "was touched since"))
        ++*n_touched; /* that is what verify_all was to mend */
    else
        print_message("%s %s %s: %s\n", name, file, tensor ? tensor : "-", text);
}

static void assert_consistent(mlxr_store *s)
{
    mlxr_store_verify_options o = mlxr_store_verify_options_default();
    mlxr_store_verify_result r;
    mlxr_manifest m;
    size_t n_touched = 0;

    o.deep = true;
    o.on_finding = print_finding;
    o.ud = &n_touched;
    assert_ok(mlxr_store_verify(&r, s, NULL, 0, &o, NULL, &err), &err);
    assert_int_equal(r.n_bad, n_touched);
    assert_ok(mlxr_store_find(&m, NULL, s, "m", &err), &err); /* the old one or the new one */
    mlxr_manifest_clear(&m);
}

static size_t n_entries(const char *dir)
{
    DIR *d = opendir(dir);
    const struct dirent *e;
    size_t n = 0;

    while (d && (e = readdir(d)) != NULL) n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    if (d) closedir(d);
    return n;
}

/* What a store has after gc that has nothing too much: as many blobs as its models name. */
static void assert_clean(mlxr_store *s)
{
    mlxr_catalog c;
    mlxr_strtab seen = {0};

    assert_ok(mlxr_store_gc(NULL, s, NULL, &err), &err);
    assert_int_equal(n_entries(temp_path("store/sessions")), 0);
    assert_ok(mlxr_catalog_read(&c, s, &err), &err);
    for (size_t i = 0; i < c.n; i++)
        for (size_t k = 0; k <= c.items[i].manifest.n_layers; k++) {
            const mlxr_manifest *m = &c.items[i].manifest;
            assert_true(
                mlxr_strtab_put(&seen, (k < m->n_layers ? &m->layers[k] : &m->config)->digest, 71, 1, NULL));
        }
    assert_int_equal(n_entries(temp_path("store/blobs/sha256")), seen.n);
    mlxr_strtab_clear(&seen);
    mlxr_catalog_clear(&c);
}

static int set_up(void **state)
{
    return temp_dir_make(state);
}

/* "m" is there; "new" is imported over it, or "m" is exported. */
static void prepare(bool link)
{
    mlxr_store *s = open_store(NULL), *other;
    mlxr_store_import_options copy = {.copy = true}, linked = {.link = true};

    put_model(temp_path("old"), 1);
    put_model(temp_path("new"), 50);
    put_gguf(temp_path("new.gguf"));
    assert_ok(mlxr_store_import(NULL, s, temp_path("old"), "m", &copy, NULL, &err), &err);
    if (link) {
        put_model(temp_path("linked"), 90);
        assert_ok(mlxr_store_import(NULL, s, temp_path("linked"), "l", &linked, NULL, &err), &err);
    }
    assert_ok(mlxr_store_open(&other, temp_path("other"), NULL, &err), &err);
    assert_ok(mlxr_store_import(NULL, other, temp_path("new"), "m", &copy, NULL, &err), &err);
    assert_ok(mlxr_store_export(other, "m", temp_path("layout"), true, NULL, &err), &err);
    mlxr_store_close(other);
    mlxr_store_close(s);
}

/* One run with the fault at change `at`; false: there are fewer changes. */
static bool run_once(mlxr_status (*run)(mlxr_store *), enum mode mode, int at)
{
    fault f = {.mode = mode, .at = at};
    bool reached;

    if (mode == KILL) {
        pid_t pid = fork();
        int status;
        assert_true(pid >= 0);
        if (pid == 0) {
            (void)run(open_store(&f));
            _exit(0); /* nothing is left to be freed by a process that ends like this */
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == EXIT_KILLED);
        reached = WEXITSTATUS(status) == EXIT_KILLED;
    } else {
        mlxr_store *s = open_store(&f);
        mlxr_status st = run(s);
        reached = f.n >= at;
        if (!reached) assert_int_equal(st, MLXR_OK);
        if (st != MLXR_OK) assert_true(err.message[0] != '\0');
        mlxr_store_close(s);
    }
    return reached;
}

static void sweep(mlxr_status (*run)(mlxr_store *), bool link)
{
    mlxr_store_import_options copy = {.copy = true};

    for (int mode = 0; mode < N_MODES; mode++) {
        int at = 1;
        remove_tree(temp_path(""));
        assert_int_equal(mkdir(temp_path(""), 0700), 0);
        prepare(link);
        for (;; at++) {
            fault none = {0};
            mlxr_store *s;
            bool reached = run_once(run, (enum mode)mode, at);
            s = open_store(&none);
            assert_consistent(s);
            assert_ok(run(s), &err); /* again */
            assert_consistent(s);
            assert_clean(s);
            assert_ok(mlxr_store_import(NULL, s, temp_path("old"), "m", &copy, NULL, &err), &err);
            mlxr_store_close(s);
            if (!reached) break;
            assert_true(at < MAX_CHANGES);
        }
        print_message("mode %d: %d changes\n", mode, at - 1);
        assert_true(at > 3);
    }
}

#define SWEEP(name, link)               \
    static void at_##name(void **state) \
    {                                   \
        sweep(name, link);              \
    }
SWEEP(import_folder, false)
SWEEP(import_copy, false)
SWEEP(import_link, false)
SWEEP(import_gguf, false)
SWEEP(import_layout, false)
SWEEP(export_folder, false)
SWEEP(export_layout, false)
SWEEP(verify_all, true)

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, temp_dir_remove)
    const struct CMUnitTest tests[] = {T(at_import_folder), T(at_import_copy),   T(at_import_link),
                                       T(at_import_gguf),   T(at_import_layout), T(at_export_folder),
                                       T(at_export_layout), T(at_verify_all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
