/* Who may speak to the server: hosts, origins, keys, preflights. */
#include "serve/gate.h"
#include "serving.h"

static void test_hosts(void **state)
{
    static const char *const good[] = {"localhost",   "LOCALHOST:11434", "127.0.0.1",   "127.0.0.1:80",
                                       "127.9.9.9",   "[::1]",           "[::1]:11434", "0.0.0.0:11434",
                                       "10.1.2.3",    "172.16.0.1:5",    "192.168.1.7", "169.254.1.1",
                                       "[fe80::1]:1", "[fd00::1]",       "box",         "BOX:1",
                                       "a.localhost", "b.local:1",       "c.internal",  ""};
    static const char *const bad[] = {"evil.example",
                                      "evil.example:11434",
                                      "8.8.8.8",
                                      "172.32.0.1",
                                      "192.169.0.1",
                                      "[2001:db8::1]",
                                      "localhost.evil.example",
                                      ".local",
                                      "[::1",
                                      "box.example",
                                      "127.0.0.1.evil.example",
                                      "1.1",
                                      "::ffff:8.8.8.8"};

    for (size_t i = 0; i < MLXR_COUNT(good); i++)
        if (!mlxr_gate_host_ok(good[i], "box")) fail_msg("%s is refused", good[i]);
    for (size_t i = 0; i < MLXR_COUNT(bad); i++)
        if (mlxr_gate_host_ok(bad[i], "box")) fail_msg("%s is let in", bad[i]);
    assert_true(mlxr_gate_host_ok(NULL, "box"));
}

static void test_origins(void **state)
{
    static const char *const own[] = {"https://*.example.com", "http://lan:*"};
    const mlxr_gate_options o = {.origins = own, .n_origins = 2};
    static const char *const good[] = {"http://localhost",
                                       "http://localhost:3000",
                                       "https://127.0.0.1:1",
                                       "http://[::1]:9",
                                       "http://0.0.0.0",
                                       "app://x",
                                       "file://",
                                       "tauri://localhost",
                                       "vscode-webview://abc",
                                       "https://a.example.com",
                                       "http://lan:80"};
    static const char *const bad[] = {"http://evil",
                                      "http://localhost.evil",
                                      "http://localhost:80@evil",
                                      "http://localhost:",
                                      "null",
                                      "",
                                      "https://example.com",
                                      "ftp://localhost",
                                      "http://127.0.0.1.evil:80"};

    assert_true(mlxr_gate_origin_ok(NULL, &o));
    for (size_t i = 0; i < MLXR_COUNT(good); i++)
        if (!mlxr_gate_origin_ok(good[i], &o)) fail_msg("%s is refused", good[i]);
    for (size_t i = 0; i < MLXR_COUNT(bad); i++)
        if (mlxr_gate_origin_ok(bad[i], &o)) fail_msg("%s is let in", bad[i]);
}

static void test_keys(void **state)
{
    static const char *const two[] = {"first", "second-key"};
    mlxr_gate_options o = {.keys = two, .n_keys = 2};

    assert_true(mlxr_gate_key_ok("Bearer first", NULL, &o));
    assert_true(mlxr_gate_key_ok("bearer second-key", NULL, &o));
    assert_true(mlxr_gate_key_ok(NULL, "second-key", &o));
    assert_false(mlxr_gate_key_ok(NULL, NULL, &o));
    assert_false(mlxr_gate_key_ok("Bearer ", NULL, &o));
    assert_false(mlxr_gate_key_ok("Bearer firs", NULL, &o));
    assert_false(mlxr_gate_key_ok("Bearer firstfirst", NULL, &o));
    assert_false(mlxr_gate_key_ok("Basic first", NULL, &o));
    assert_false(mlxr_gate_key_ok(NULL, "", &o));
    o.n_keys = 0;
    assert_true(mlxr_gate_key_ok(NULL, NULL, &o));
}

/* Through a whole server. */
static void test_answers(void **state)
{
    static const char *const list[] = {"k1"};
    const char *const evil_host[] = {"Host: evil.example", "Authorization: Bearer k1", NULL};
    const char *const evil_origin[] = {"Origin: http://evil", "Authorization: Bearer k1", NULL};
    const char *const page[] = {"Origin: http://localhost:3000", NULL};
    const char *const with_key[] = {"x-api-key: k1", NULL};
    mlxr_serve_options o = serving_options();
    mlxr_exchange x;

    o.mock = true;
    o.gate.check_host = true;
    o.gate.keys = list;
    o.gate.n_keys = 1;
    assert_int_equal(serving_open(&o), 0);
    x = exchange("GET", "/api/tags", evil_host, NULL, 0);
    assert_int_equal(x.status, 403);
    assert_int_equal(x.n_body, 0);
    mlxr_exchange_clear(&x);
    x = exchange("GET", "/api/tags", evil_origin, NULL, 0);
    assert_int_equal(x.status, 403);
    mlxr_exchange_clear(&x);
    x = exchange("OPTIONS", "/api/chat", page, NULL, 0);
    assert_int_equal(x.status, 204);
    assert_string_equal(header_of(&x, "Access-Control-Allow-Origin"), "http://localhost:3000");
    assert_non_null(strstr(header_of(&x, "Access-Control-Allow-Headers"), "x-api-key"));
    mlxr_exchange_clear(&x);
    x = exchange("GET", "/api/version", NULL, NULL, 0);
    assert_int_equal(x.status, 401);
    mlxr_exchange_clear(&x);
    x = exchange("GET", "/nope", NULL, NULL, 0); /* what there is is not told either */
    assert_int_equal(x.status, 401);
    mlxr_exchange_clear(&x);
    x = exchange("GET", "/api/version", with_key, NULL, 0);
    assert_int_equal(x.status, 200);
    mlxr_exchange_clear(&x);
    x = exchange("GET", "/api/health", NULL, NULL, 0);
    assert_int_equal(x.status, 200);
    mlxr_exchange_clear(&x);
    x = exchange("HEAD", "/", NULL, NULL, 0);
    assert_int_equal(x.status, 200);
    assert_int_equal(x.n_body, 0);
    mlxr_exchange_clear(&x);
    x = exchange("POST", "/v1/messages", NULL, "{}", 2);
    assert_int_equal(x.status, 401);
    assert_non_null(header_of(&x, "request-id"));
    assert_non_null(strstr(x.body, "authentication_error"));
    mlxr_exchange_clear(&x);
    assert_int_equal(serving_end(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_origins),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
