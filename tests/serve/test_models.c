/* Ollama's API about models where the file system fails: at each of its changes in turn an upload and a create end with a status and one
 * line, nothing of theirs is left over, and the next of them does. The rest of that API: test_models.py. */
#include <dirent.h>
#include <errno.h>

#include "serving.h"

/* Of the store's calls that change the file system: the n-th from now on fails with this. */
static struct {
    int at, error;
} fault;

static int on_fault(const char *kind, const char *path, void *ud)
{
    /* A full disk hinders nobody from removing. */
    if (strcmp(kind, "unlink") == 0 || strcmp(kind, "rmdir") == 0) return 0;
    if (fault.at > 0 && --fault.at == 0) return fault.error;
    return 0;
}

static int begin(void **state)
{
    mlxr_serve_options o = serving_options();

    fault.at = 0;
    o.store.fault = on_fault;
    return serving_begin_store_with(o);
}

static int end(void **state)
{
    fault.at = 0;
    return serving_end();
}

static size_t count(const char *dir)
{
    char path[256];
    size_t n = 0;
    DIR *d;

    snprintf(path, sizeof path, "%s/%s", serving_dir, dir);
    if (!(d = opendir(path))) return 0;
    for (const struct dirent *e; (e = readdir(d)) != NULL;) n += e->d_name[0] != '.' || e->d_name[1] > '.';
    closedir(d);
    return n;
}

static void digest_of(char out[72], const char *data, size_t n)
{
    memcpy(out, "sha256:", 7);
    assert_ok(mlxr_sha256_hex(out + 7, data, n, &err), &err);
}

static mlxr_exchange upload(const char *data, size_t n, char digest[72])
{
    char path[128];

    digest_of(digest, data, n);
    snprintf(path, sizeof path, "/api/blobs/%s", digest);
    return exchange("POST", path, NULL, data, n);
}

static void assert_failed(const mlxr_exchange *x, int status)
{
    assert_int_equal(x->status, status);
    assert_non_null(strstr(x->body, "{\"error\":\""));
    assert_null(strchr(x->body, '\n'));
}

/* ENOSPC is told as such, wherever it comes. */
static void test_upload_on_a_full_disk(void **state)
{
    char data[5000], digest[72];
    size_t sessions = count("sessions");
    int n_failed = 0;

    for (int at = 1; at < 100; at++) {
        mlxr_exchange x;
        bool over;
        for (size_t i = 0; i < sizeof data; i++) data[i] = (char)(i * 7 + (size_t)at);
        fault.at = at;
        fault.error = ENOSPC;
        x = upload(data, sizeof data, digest);
        over = fault.at > 0;
        fault.at = 0;
        if (x.status != 201) {
            assert_failed(&x, 507);
            assert_int_equal(count("sessions"), sessions);
            n_failed++;
        } else {
            sessions++;
        }
        mlxr_exchange_clear(&x);
        assert_int_equal(count("partial"), 0);
        if (over) break;
        x = upload(data, sizeof data, digest);
        assert_in_range(x.status, 200, 201);
        mlxr_exchange_clear(&x);
        sessions = count("sessions");
    }
    assert_in_range(n_failed, 4, 50);
}

static void test_create_on_a_full_disk(void **state)
{
    int n_failed = 0, at;

    for (at = 1; at < 400; at++) {
        size_t sessions = count("sessions");
        mlxr_exchange x;
        bool over;
        fault.at = at;
        fault.error = ENOSPC;
        x = post("/api/create", Jf("{'model':'m%d','from':'tiny','system':'%d','stream':false}", at, at));
        over = fault.at > 0;
        fault.at = 0;
        if (x.status != 200) {
            assert_failed(&x, 507);
            n_failed++;
        }
        mlxr_exchange_clear(&x);
        assert_int_equal(count("sessions"), sessions);
        if (over) break;
    }
    assert_in_range(n_failed, 8, 200);
    /* Names stand for whole models. */
    json_decref(post_json("/api/generate", J("{'model':'tiny','stream':false}"), 200));
    json_t *v = post_json("/api/verify", J("{'deep':true,'stream':false}"), 200);
    assert_int_equal(json_integer_value(json_object_get(v, "bad")), 0);
    json_decref(v);
}

static void test_delete_that_may_not(void **state)
{
    mlxr_exchange x;
    const char *body = J("{'model':'tiny'}");

    fault.at = 1;
    fault.error = EACCES;
    x = exchange("DELETE", "/api/delete", NULL, body, strlen(body));
    fault.at = 0;
    assert_true(x.status == 200 || x.status == 401 || x.status == 403 || x.status == 500);
    mlxr_exchange_clear(&x);
}

/* Streams end with a line that says what went wrong; their status was 200. */
static void test_stream_of_a_failure(void **state)
{
    char digest[72], data[] = "{}";
    mlxr_exchange x = upload(data, 2, digest);

    mlxr_exchange_clear(&x);
    x = post("/api/create", Jf("{'model':'x','files':{'config.json':'%s'}}", digest));
    assert_int_equal(x.status, 200);
    assert_string_equal(x.content_type, "application/x-ndjson");
    assert_non_null(strstr(x.body, "{\"status\":\"converting model\"}\n"));
    assert_non_null(strstr(x.body, "\n{\"error\":\""));
    mlxr_exchange_clear(&x);
}

/* The grace period of the store is that of uploads too. */
static void test_uploads_have_their_time(void **state)
{
    mlxr_store_gc_result gc;
    char digest[72], path[128];
    mlxr_exchange x = upload("abc", 3, digest);

    assert_int_equal(x.status, 201);
    mlxr_exchange_clear(&x);
    assert_int_equal(count("sessions"), 1);
    x = upload("def", 3, digest);
    mlxr_exchange_clear(&x);
    /* The time of the first is over when the second comes: grace is 0 here. */
    assert_int_equal(count("sessions"), 1);
    assert_ok(mlxr_store_gc(&gc, serving->store, NULL, &err), &err);
    assert_int_equal(gc.n_files, 1);
    snprintf(path, sizeof path, "/api/blobs/%s", digest);
    x = exchange("HEAD", path, NULL, NULL, 0);
    assert_int_equal(x.status, 200);
    mlxr_exchange_clear(&x);
}

static int begin_without_grace(void **state)
{
    mlxr_serve_options o = serving_options();

    o.store.grace_seconds = 0;
    return serving_begin_store_with(o);
}

static int begin_without_store(void **state)
{
    mlxr_serve_options o = serving_options();

    return serving_open(&o);
}

static void test_without_a_store(void **state)
{
    const char *body = J("{'model':'x'}");
    mlxr_exchange x = get("/api/tags");

    assert_string_equal(x.body, "{\"models\":[]}");
    mlxr_exchange_clear(&x);
    json_decref(post_json("/api/show", body, 404));
    json_decref(post_json("/api/pull", body, 400));
    json_decref(post_json("/api/push", body, 400));
    json_decref(post_json("/api/create", J("{'model':'x','from':'y'}"), 400));
    json_decref(post_json("/api/verify", body, 404));
    json_decref(post_json("/api/copy", J("{'source':'a','destination':'b'}"), 404));
    x = exchange("DELETE", "/api/delete", NULL, body, strlen(body));
    assert_int_equal(x.status, 404);
    mlxr_exchange_clear(&x);
    x = post("/api/blobs/sha256:0000000000000000000000000000000000000000000000000000000000000000", "abc");
    assert_int_equal(x.status, 400);
    mlxr_exchange_clear(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_upload_on_a_full_disk, begin, end),
        cmocka_unit_test_setup_teardown(test_create_on_a_full_disk, begin, end),
        cmocka_unit_test_setup_teardown(test_delete_that_may_not, begin, end),
        cmocka_unit_test_setup_teardown(test_stream_of_a_failure, begin, end),
        cmocka_unit_test_setup_teardown(test_uploads_have_their_time, begin_without_grace, end),
        cmocka_unit_test_setup_teardown(test_without_a_store, begin_without_store, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
