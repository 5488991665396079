/* Import, export and verify with every allocation failing in turn: MLXR_E_NOMEM, or the call is done all the same; nothing leaked
 * (LeakSanitizer sees it in the asan build), and the store is consistent. The linker sends the library's own allocations through the
 * wrappers here (--wrap). */
#include "nomem.h"
#include "test.h"

#include "store/folder.h"
#include "store/store.h"
#include "store/tiny_gguf.h"

static mlxr_error err;

static mlxr_status import(mlxr_store *s, const char *path, mlxr_store_import_options o)
{
    char *digest = NULL;
    mlxr_status st = mlxr_store_import(&digest, s, temp_path(path), "m", &o, NULL, &err);

    assert_int_equal(st == MLXR_OK, digest != NULL);
    mlxr_free(digest);
    return st;
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
static mlxr_status export_folder(mlxr_store *s)
{
    remove_tree(temp_path("out"));
    return mlxr_store_export(s, "m", temp_path("out"), false, NULL, &err);
}
static mlxr_status export_layout(mlxr_store *s)
{
    remove_tree(temp_path("out"));
    return mlxr_store_export(s, "m", temp_path("out"), true, NULL, &err);
}

static size_t n_bad;
static void on_finding(const char *name, const char *file, const char *tensor, const char *text,
                       bool repaired, void *ud)
{
    n_bad++;
}

static mlxr_status verify(mlxr_store *s, const char *name)
{
    mlxr_store_verify_options o = mlxr_store_verify_options_default();
    mlxr_store_verify_result r;
    mlxr_status st;

    n_bad = 0;
    o.deep = true;
    o.on_finding = on_finding;
    st = mlxr_store_verify(&r, s, &name, 1, &o, NULL, &err);
    if (st == MLXR_OK) assert_int_equal(n_bad, r.n_bad);
    return st;
}
static mlxr_status verify_good(mlxr_store *s)
{
    mlxr_status st = verify(s, "m");
    assert_true(n_bad == 0);
    return st;
}
static mlxr_status verify_bad(mlxr_store *s)
{
    mlxr_status st = verify(s, "bad");
    if (st == MLXR_OK && n_bad != 1) fail_msg("allocation %zu: %zu findings", fail_at, n_bad);
    return st;
}

static int set_up(void **state)
{
    mlxr_store_import_options copy = {.copy = true};
    mlxr_store *s;
    char *view;

    if (temp_dir_make(state) != 0) return -1;
    put_model(temp_path("old"), 1);
    put_model(temp_path("new"), 50);
    put_model(temp_path("bad"), 80);
    put_gguf(temp_path("new.gguf"));
    if (mlxr_store_open(&s, temp_path("store"), NULL, &err) != MLXR_OK) return -1;
    if (mlxr_store_import(NULL, s, temp_path("bad"), "bad", NULL, NULL, &err) != MLXR_OK) return -1;
    if (mlxr_store_import(NULL, s, temp_path("new"), "n", &copy, NULL, &err) != MLXR_OK) return -1;
    if (mlxr_store_export(s, "n", temp_path("layout"), true, NULL, &err) != MLXR_OK) return -1;
    if (mlxr_store_remove(s, "n", NULL, &err) != MLXR_OK) return -1;
    if (mlxr_store_model_path(&view, s, "bad", &err) != MLXR_OK) return -1;
    flip_bit(in(view, "model-00001-of-00002.safetensors"), 300, 0);
    mlxr_free(view);
    if (mlxr_store_import(NULL, s, temp_path("old"), "m", &copy, NULL, &err) != MLXR_OK) return -1;
    mlxr_store_close(s);
    return 0;
}

static void sweep(mlxr_status (*run)(mlxr_store *))
{
    mlxr_store_import_options copy = {.copy = true};
    mlxr_status st;
    size_t n = 0;

    do {
        mlxr_store *s;
        assert_ok(mlxr_store_open(&s, temp_path("store"), NULL, &err), &err);
        n_calls = 0;
        fail_at = ++n;
        st = run(s);
        fail_at = SIZE_MAX;
        if (st != MLXR_OK && st != MLXR_E_NOMEM)
            fail_msg("allocation %zu: %s: %s", n, mlxr_status_name(st), err.message);
        if (n % 16 == 0) {
            assert_ok(verify_good(s), &err);
            assert_ok(mlxr_store_import(NULL, s, temp_path("old"), "m", &copy, NULL, &err), &err);
        }
        mlxr_store_close(s);
    } while (n_calls >= n || st != MLXR_OK);
    print_message("%zu allocations\n", n - 1);
    assert_true(n > 20);
}

#define SWEEP(name)                     \
    static void at_##name(void **state) \
    {                                   \
        sweep(name);                    \
    }
SWEEP(import_folder)
SWEEP(import_copy)
SWEEP(import_link)
SWEEP(import_gguf)
SWEEP(import_layout)
SWEEP(export_folder)
SWEEP(export_layout)
SWEEP(verify_good)
SWEEP(verify_bad)

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, temp_dir_remove)
    const struct CMUnitTest tests[] = {T(at_import_folder), T(at_import_copy),   T(at_import_link),
                                       T(at_import_gguf),   T(at_import_layout), T(at_export_folder),
                                       T(at_export_layout), T(at_verify_good),   T(at_verify_bad)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
