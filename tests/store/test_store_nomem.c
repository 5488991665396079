/* The store with every allocation failing in turn: MLXR_E_NOMEM, or the call is done all the same; nothing leaked (LeakSanitizer sees it in
 * the asan build), the store consistent, and the next call as ever. The linker sends the library's own allocations through the wrappers
 * here (--wrap). */
#include "nomem.h"
#include "test.h"

#include "made.h"

static mlxr_status add(mlxr_store *s)
{
    return make_model(NULL, s, "org/a", 1, &err);
}

static mlxr_status replace(mlxr_store *s)
{
    return make_model(NULL, s, "B", 3, &err);
}

static mlxr_status list(mlxr_store *s)
{
    mlxr_store_entry *e;
    size_t n;
    mlxr_status st = mlxr_store_list(&e, &n, s, &err);
    if (st == MLXR_OK) {
        assert_int_equal(n, 1);
        assert_null(e[0].broken);
        assert_string_equal(e[0].family, "llama");
    }
    mlxr_store_entries_free(e, n);
    return st;
}

static mlxr_status view(mlxr_store *s)
{
    char *path;
    mlxr_status st = mlxr_store_model_path(&path, s, "b", &err);
    free(path);
    return st;
}

static mlxr_status copy(mlxr_store *s)
{
    return mlxr_store_copy(s, "b", "c", &err);
}

static mlxr_status take_away(mlxr_store *s)
{
    return mlxr_store_remove(s, "b", NULL, &err);
}

static mlxr_status gc(mlxr_store *s)
{
    return mlxr_store_gc(NULL, s, NULL, &err);
}

static mlxr_status find(mlxr_store *s)
{
    mlxr_manifest m;
    mlxr_status st = mlxr_store_find(&m, NULL, s, "bb", &err);
    assert_true(st == MLXR_E_NOT_FOUND || st == MLXR_E_NOMEM);
    if (st == MLXR_E_NOT_FOUND) st = mlxr_store_find(&m, NULL, s, "B", &err);
    mlxr_manifest_clear(&m);
    return st;
}

static mlxr_status quota(mlxr_store *s)
{
    uint64_t q, used;
    mlxr_status st = mlxr_store_set_quota(s, 1 << 20, &err);
    if (st == MLXR_OK) st = mlxr_store_quota(&q, &used, s, &err);
    return st;
}

static mlxr_status link_file(mlxr_store *s)
{
    mlxr_session *session = NULL;
    char digest[72] = "sha256:";
    struct stat seen;
    bool present;
    mlxr_status st;

    assert_int_equal(stat(in_dir("f"), &seen), 0);
    if ((st = mlxr_sha256_hex(digest + 7, "hello", 5, &err)) != MLXR_OK) return st;
    if ((st = mlxr_session_begin(&session, s, &err)) != MLXR_OK) return st;
    st = mlxr_session_link(session, in_dir("f"), &seen, digest, &err);
    if (st == MLXR_OK) st = mlxr_session_want(session, digest, 5, &present, &err);
    if (st == MLXR_OK) assert_true(present);
    mlxr_session_end(session);
    return st;
}

static mlxr_status reopen(mlxr_store *s)
{
    mlxr_store *again;
    mlxr_status st = mlxr_store_open(&again, in_dir("s"), NULL, &err);
    mlxr_store_close(again);
    return st;
}

static void each_allocation_fails_once(void **state)
{
    static const struct {
        const char *what;
        mlxr_status (*run)(mlxr_store *s);
    } ops[] = {{"add", add},     {"replace", replace}, {"list", list},  {"view", view},
               {"cp", copy},     {"rm", take_away},    {"gc", gc},      {"find", find},
               {"quota", quota}, {"link", link_file},  {"open", reopen}};
    mlxr_store_options o = mlxr_store_options_default();

    o.grace_seconds = 0;
    for (size_t i = 0; i < MLXR_COUNT(ops); i++) {
        size_t at, n_failed = 0;
        for (at = 1; at < 5000; at++) {
            mlxr_store *s;
            const char *bad;
            mlxr_status st;
            size_t n;

            assert_ok(mlxr_io_remove_tree(NULL, in_dir("s"), &err), &err);
            s = open_made(&o);
            assert_ok(make_model(NULL, s, "b", 2, &err), &err);
            if (access(in_dir("f"), F_OK) != 0) write_text(in_dir("f"), "hello");
            err = (mlxr_error){0};
            n_calls = 0;
            fail_at = at;
            st = ops[i].run(s);
            fail_at = SIZE_MAX;
            n = n_calls;
            if (st != MLXR_OK && (st != MLXR_E_NOMEM || !*err.message))
                fail_msg("%s, allocation %zu: %s \"%s\"", ops[i].what, at, mlxr_status_name(st), err.message);
            n_failed += st != MLXR_OK;
            if ((bad = inconsistent(s)) != NULL) fail_msg("%s, allocation %zu: %s", ops[i].what, at, bad);
            if (ops[i].run != take_away || st != MLXR_OK) {
                st = ops[i].run(s);
                if (st != MLXR_OK && !(ops[i].run == take_away && st == MLXR_E_NOT_FOUND))
                    fail_msg("%s again after allocation %zu: %s", ops[i].what, at, err.message);
            }
            mlxr_store_close(s);
            if (n < at) break;
        }
        printf("%s: %zu allocations, %zu of them needed\n", ops[i].what, at - 1, n_failed);
        assert_in_range(n_failed, 1, 4999);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_allocation_fails_once, made_begin, made_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
