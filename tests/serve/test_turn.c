/* Turns: clients that leave in every phase, full queues, models that go, names, what is told of a request. */
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "serving.h"

static int begin_mock_at_socket(uint32_t token_ms)
{
    mlxr_serve_options o = serving_options();

    o.server.host = "127.0.0.1";
    o.mock = true;
    o.mock_token_ms = token_ms;
    return serving_open(&o);
}

static int send_post(const char *path, const char *body)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(mlxr_server_port(serving->server))};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char text[4096];

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    snprintf(text, sizeof text, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s", path,
             strlen(body), body);
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
    return fd;
}

static size_t users(void)
{
    mlxr_resident_info *list;
    size_t n, sum = 0;

    assert_ok(mlxr_residency_list(&list, &n, serving->residency, &err), &err);
    for (size_t i = 0; i < n; i++) sum += list[i].n_users;
    mlxr_resident_infos_free(list, n);
    return sum;
}

static const char *const long_prompt =
    "a b c d e f g h i j k l m n o p q r s t u v w x y z a b c d e f g h i j k l m n o p q r s t u v w x y z";

/* In whatever phase a client leaves, its turn ends within a token and the model is free. */
static void test_leaving(void **state)
{
    static const char *const paths[] = {"/api/generate", "/v1/completions"};
    static const long waits[] = {0, 1, 5, 60};

    assert_int_equal(begin_mock_at_socket(50), 0);
    for (size_t p = 0; p < 2; p++)
        for (int stream = 0; stream < 2; stream++)
            for (size_t w = 0; w < MLXR_COUNT(waits); w++) {
                int fd = send_post(paths[p], Jf("{'model':'m','prompt':'%s','stream':%s,'max_tokens':50}",
                                                long_prompt, stream ? "true" : "false"));
                uint64_t begin;
                if (waits[w]) sleep_ms(waits[w]);
                close(fd);
                begin = mlxr_now_ns();
                WAIT_FOR(users() == 0 && mlxr_server_requests(serving->server) == 0);
                assert_in_range((mlxr_now_ns() - begin) / 1000000, 0, 1500); /* all 50 tokens take 2500 ms */
            }
    assert_int_equal(serving_end(), 0);
}

static void *drain_now(void *ud)
{
    *(bool *)ud = mlxr_serve_drain(serving, 50);
    return NULL;
}

/* An answer that does not end in time ends with its API's error, and its stream is whole. */
static void test_drain_tells(void **state)
{
    static const struct {
        const char *path, *error;
    } of[] = {{"/api/generate", "{\"error\":"}, {"/v1/completions", "data: [DONE]"}};

    for (size_t i = 0; i < MLXR_COUNT(of); i++) {
        static char got[65536];
        size_t n = 0;
        ssize_t k;
        pthread_t t;
        bool all = true;
        int fd;

        assert_int_equal(begin_mock_at_socket(50), 0);
        fd = send_post(of[i].path,
                       Jf("{'model':'m','prompt':'%s','stream':true,'max_tokens':50}", long_prompt));
        assert_true((k = recv(fd, got, sizeof got - 1, 0)) > 0);
        n = (size_t)k;
        assert_int_equal(pthread_create(&t, NULL, drain_now, &all), 0);
        while ((k = recv(fd, got + n, sizeof got - 1 - n, 0)) > 0) {
            n += (size_t)k;
            got[n] = '\0';
            if (strstr(got, "\r\n0\r\n\r\n")) break;
        }
        pthread_join(t, NULL);
        assert_false(all);
        if (!strstr(got, of[i].error) || !strstr(got, "\r\n0\r\n\r\n")) fail_msg("%s: %s", of[i].path, got);
        close(fd);
        assert_int_equal(serving_end(), 0);
    }
}

struct poster {
    const char *body;
    mlxr_exchange x;
};

static void *post_it(void *ud)
{
    struct poster *p = ud;
    mlxr_error e;

    if (mlxr_server_exchange(&p->x, serving->server, "POST", "/api/generate", NULL, p->body, strlen(p->body),
                             &e) != MLXR_OK)
        abort();
    return NULL;
}

/* The engine's own queue. */
static void test_queue_is_full(void **state)
{
    mlxr_serve_options o = serving_options();
    struct poster p[8];
    pthread_t t[8];
    int n_ok = 0, n_busy = 0;

    o.engine.max_sequences = 1;
    o.engine.max_waiting = 1;
    assert_int_equal(serving_begin_store_with(o), 0);
    json_decref(post_json("/api/generate", J("{'model':'tiny'}"), 200));
    for (int i = 0; i < 8; i++) {
        p[i].body = "{\"model\":\"tiny\",\"prompt\":\"one two "
                    "three\",\"stream\":false,\"options\":{\"num_predict\":100,\"seed\":1}}";
        assert_int_equal(pthread_create(&t[i], NULL, post_it, &p[i]), 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(t[i], NULL);
        if (p[i].x.status == 200) {
            n_ok++;
        } else {
            assert_int_equal(p[i].x.status, 503);
            assert_string_equal(
                p[i].x.body,
                "{\"error\":\"server busy, please try again.  maximum pending requests exceeded\"}");
            assert_non_null(header_of(&p[i].x, "Retry-After"));
            n_busy++;
        }
        mlxr_exchange_clear(&p[i].x);
    }
    assert_true(n_ok >= 1);
    (void)n_busy;
    assert_int_equal(serving_end(), 0);
}

static void test_names(void **state)
{
    json_t *v;

    assert_int_equal(serving_begin_store(), 0);
    json_decref(post_json("/api/generate", J("{'model':'tiny'}"), 200));
    json_decref(post_json("/api/generate", J("{'model':'TINY:latest'}"), 200));
    json_decref(post_json("/api/generate", J("{'model':'tiny:local'}"), 200));
    v = get_json("/api/ps", 200);
    assert_int_equal(json_array_size(at(v, "models")), 1);
    assert_string_equal(text_at(v, "models.0.name"), "tiny:latest");
    assert_true(int_at(v, "models.0.size") > 0);
    assert_true(int_at(v, "models.0.context_length") > 0);
    json_decref(v);
    refuses("/api/generate", J("{'model':'tiny:cloud'}"), 404, "not found");
    refuses("/api/generate", J("{'model':'tiny:8b-cloud'}"), 404, "not found");
    refuses("/api/generate", J("{'model':'/etc'}"), 400, "invalid model name");
    refuses("/api/generate", Jf("{'model':'%s'}", TINY), 400, "invalid model name");
    json_decref(post_json("/api/generate", J("{'model':'Tiny','keep_alive':0}"), 200));
    WAIT_FOR(mlxr_residency_count(serving->residency).n_loaded == 0);
    assert_int_equal(serving_end(), 0);
}

static void test_context(void **state)
{
    mlxr_exchange x;
    json_t *v;

    assert_int_equal(serving_begin_store(), 0);
    refuses("/api/generate", Jf("{'model':'tiny','prompt':'%s','options':{'num_ctx':32}}", long_prompt), 400,
            "exceeds the model's maximum context length (32 tokens)");
    /* More than the model has is what it has. */
    json_decref(post_json("/api/generate", J("{'model':'tiny','options':{'num_ctx':100000000}}"), 200));
    v = get_json("/api/ps", 200);
    assert_int_equal(json_array_size(at(v, "models")), 1);
    assert_in_range(int_at(v, "models.0.context_length"), 33, 100000);
    json_decref(v);
    x = post("/api/generate", J("{'model':'tiny','prompt':'a','stream':false,'options':{'num_predict':2}}"));
    assert_int_equal(x.status, 200);
    assert_int_equal(strlen(header_of(&x, "X-Mlxr-Model-Digest")), 71);
    mlxr_exchange_clear(&x);
    assert_int_equal(serving_end(), 0);
}

static void test_never_fits(void **state)
{
    mlxr_serve_options o = serving_options();

    o.residency.memory_bytes = 1000;
    assert_int_equal(serving_begin_store_with(o), 0);
    refuses("/api/generate", J("{'model':'tiny','prompt':'a'}"), 503, "of memory, and at most");
    assert_int_equal(serving_end(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leaving),       cmocka_unit_test(test_drain_tells),
        cmocka_unit_test(test_queue_is_full), cmocka_unit_test(test_names),
        cmocka_unit_test(test_context),       cmocka_unit_test(test_never_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
