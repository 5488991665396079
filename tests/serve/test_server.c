/* The server over real sockets on loopback, with handlers of the test's own: what HTTP brings that endpoints never see. */
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "serving.h"

static mlxr_server *server;

static struct seen {
    pthread_mutex_t lock;
    int n_done, last_status, n_left;
    bool last_complete;
    mlxr_request_in *held;
} seen = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int seen_get(const int *what)
{
    int n;
    pthread_mutex_lock(&seen.lock);
    n = *what;
    pthread_mutex_unlock(&seen.lock);
    return n;
}

static void done(mlxr_request_in *r, int status, uint64_t n_sent, uint64_t duration_ns, bool complete,
                 void *ud)
{
    pthread_mutex_lock(&seen.lock);
    seen.n_done++;
    seen.last_status = status;
    seen.last_complete = complete;
    pthread_mutex_unlock(&seen.lock);
}

static void refuse(mlxr_request_in *r, int status, const char *text, void *ud)
{
    mlxr_reply_text(r, status, "text/plain", text);
}

/* Says what it was asked. */
static void echo(mlxr_request_in *r, void *ud)
{
    mlxr_buf out = {0};
    const char *q = mlxr_request_query(r, "q");
    size_t n;
    const char *body = mlxr_request_body(r, &n);

    mlxr_buf_printf(&out, "%s|%s|%s|%zu|", mlxr_request_path(r), mlxr_request_tail(r), q ? q : "-", n);
    mlxr_buf_append(&out, body, n < 40 ? n : 40);
    mlxr_reply(r, 200, "text/plain", &out);
}

static void on_leave(void *ud)
{
    pthread_mutex_lock(&seen.lock);
    seen.n_left++;
    pthread_mutex_unlock(&seen.lock);
}

/* Never answers by itself; held until let_held. */
static void hold(mlxr_request_in *r, void *ud)
{
    mlxr_request_ref(r);
    mlxr_request_on_leave(r, on_leave, NULL);
    if (ud) mlxr_reply_begin(r, 200, "text/event-stream", ": \n\n");
    pthread_mutex_lock(&seen.lock);
    seen.held = r;
    pthread_mutex_unlock(&seen.lock);
}

static mlxr_request_in *held(void)
{
    mlxr_request_in *r;
    pthread_mutex_lock(&seen.lock);
    r = seen.held;
    pthread_mutex_unlock(&seen.lock);
    return r;
}

static void let_held(void)
{
    mlxr_request_in *r;
    pthread_mutex_lock(&seen.lock);
    r = seen.held;
    seen.held = NULL;
    pthread_mutex_unlock(&seen.lock);
    mlxr_request_on_leave(r, NULL, NULL);
    mlxr_request_unref(r);
}

static void begin_at(const char *host)
{
    const mlxr_route routes[] = {
        {.method = "GET", .path = "/echo", .handler = echo},
        {.method = "POST", .path = "/echo", .handler = echo},
        {.method = "POST", .path = "/small", .handler = echo, .max_body = 100},
        {.method = "GET", .path = "/below/", .handler = echo},
        {.method = "GET", .path = "/hold", .handler = hold},
        {.method = "GET", .path = "/stream", .handler = hold, .ud = &server},
    };
    mlxr_server_options o = mlxr_server_options_default();

    seen = (struct seen){.lock = PTHREAD_MUTEX_INITIALIZER};
    o.host = host;
    o.routes = routes;
    o.n_routes = MLXR_COUNT(routes);
    o.refuse = refuse;
    o.done = done;
    o.heartbeat_seconds = 1;
    o.idle_seconds = 2;
    o.max_connections = 20;
    assert_ok(mlxr_server_open(&server, &o, &err), &err);
}

static void end(void)
{
    mlxr_server_close(server);
    server = NULL;
}

static int dial(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(mlxr_server_port(server))};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Reads until `until` is there, the peer closes, or ten seconds are over. */
static const char *hear(int fd, const char *until)
{
    static char got[65536];
    size_t n = 0;

    got[0] = '\0';
    while (n < sizeof got - 1 && (!until || !strstr(got, until))) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t k;
        if (poll(&p, 1, 10000) != 1) fail_msg("nothing came behind: %s", got);
        k = recv(fd, got + n, sizeof got - 1 - n, 0);
        if (k <= 0) break;
        n += (size_t)k;
        got[n] = '\0';
    }
    return got;
}

/* One request on a connection of its own. */
static const char *talk(const char *text, const char *until)
{
    int fd = dial();
    const char *got;

    say(fd, text);
    got = hear(fd, until);
    close(fd);
    return got;
}

#define HAS(text, part)                                                      \
    do {                                                                     \
        const char *has = text;                                              \
        if (!strstr(has, part)) fail_msg("wanted \"%s\" in: %s", part, has); \
    } while (0)

static void test_paths(void **state)
{
    begin_at("127.0.0.1");
    HAS(talk("GET /echo?q=a%20b&x HTTP/1.1\r\nHost: x\r\n\r\n", "|0|"), "/echo||a b|0|");
    HAS(talk("GET /below/a%2Fb%3Ac HTTP/1.1\r\nHost: x\r\n\r\n", "|0|"), "/below/a/b:c|a/b:c|-|0|");
    HAS(talk("GET /below/ HTTP/1.1\r\nHost: x\r\n\r\n", "found"), " 404 ");
    HAS(talk("GET /nope HTTP/1.1\r\nHost: x\r\n\r\n", "found"), "404 page not found");
    HAS(talk("GET /ech%00o HTTP/1.1\r\nHost: x\r\n\r\n", "found"), " 404 ");
    HAS(talk("GET /%ff%fe HTTP/1.1\r\nHost: x\r\n\r\n", "UTF-8"), " 400 ");
    HAS(talk("PUT /echo HTTP/1.1\r\nHost: x\r\n\r\n", "allowed"), "Allow: GET, HEAD, POST");
    HAS(talk("PUT /echo HTTP/1.1\r\nHost: x\r\n\r\n", "allowed"), "405 method not allowed");
    HAS(talk("HEAD /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", NULL), " 200 ");
    assert_null(strstr(talk("HEAD /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", NULL), "/echo|"));
    (void)talk("nonsense\r\n\r\n", NULL); /* ends, with an answer or without */
    end();
}

static void test_bodies(void **state)
{
    char big[400];
    int fd;

    begin_at("127.0.0.1");
    HAS(talk("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", "hello"), "|5|hello");
    HAS(talk("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
             "chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
             "|abcde"),
        "|5|abcde");
    HAS(talk("POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
             "100 Continue"),
        "100 Continue");
    /* Far too much: said at once, without reading it, and the connection ends. */
    HAS(talk("POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000000\r\n\r\n", NULL), " 413 ");
    HAS(talk("POST /small HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 101\r\n\r\n", NULL),
        " 413 ");
    HAS(talk("POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", NULL), " 404 ");
    snprintf(big, sizeof big,
             "POST /small HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nc8\r\n%0200d\r\n0\r\n\r\n",
             0);
    HAS(talk(big, "large"), " 413 ");
    /* Half a body, and the client goes. */
    fd = dial();
    say(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf");
    sleep_ms(20);
    close(fd);
    WAIT_FOR(mlxr_server_requests(server) == 0);
    assert_int_equal(seen_get(&seen.last_status), 499);
    end();
}

static void test_keep_alive_and_pipelines(void **state)
{
    const char *const one = "GET /echo?q=1 HTTP/1.1\r\nHost: x\r\n\r\n",
                      *const two = "GET /echo?q=2 HTTP/1.1\r\nHost: x\r\n\r\n";
    int fd;

    begin_at("127.0.0.1");
    fd = dial();
    say(fd, one);
    HAS(hear(fd, "|1|0|"), "200");
    for (const char *p = two; *p; p++) { /* byte by byte */
        char b[2] = {*p, 0};
        say(fd, b);
    }
    HAS(hear(fd, "|2|0|"), "200");
    say(fd, "GET /echo?q=1 HTTP/1.1\r\nHost: x\r\n\r\nGET /echo?q=2 HTTP/1.1\r\nHost: x\r\n\r\n");
    HAS(hear(fd, "|2|0|"), "|1|0|");
    /* Idle for idle_seconds: it is closed. */
    assert_string_equal(hear(fd, NULL), "");
    close(fd);
    end();
}

/* A connection that waits for its answer is not idle, nor is it forgotten when its client leaves. */
static void test_leaving(void **state)
{
    int fd;

    begin_at("127.0.0.1");
    fd = dial();
    say(fd, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT_FOR(held() != NULL);
    sleep_ms(2600); /* longer than idle_seconds */
    assert_int_equal(seen_get(&seen.n_left), 0);
    mlxr_reply_text(held(), 200, "text/plain", "late");
    HAS(hear(fd, "late"), "200");
    let_held();
    say(fd, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT_FOR(held() != NULL);
    close(fd);
    WAIT_FOR(seen_get(&seen.n_left) == 1);
    assert_true(mlxr_request_left(held()));
    mlxr_reply_text(held(), 200, "text/plain", "nobody");
    let_held();
    WAIT_FOR(seen_get(&seen.n_done) == 2);
    end();
}

static void test_streams(void **state)
{
    int fd;

    begin_at("127.0.0.1");
    fd = dial();
    say(fd, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT_FOR(held() != NULL);
    mlxr_reply_push(held(), "one", 3);
    HAS(hear(fd, "one"), "text/event-stream"); /* it comes before the next is pushed */
    HAS(hear(fd, ": \n"), ": \n");             /* silence */
    mlxr_reply_push(held(), "two", 3);
    HAS(hear(fd, "two"), "two");
    mlxr_reply_end(held());
    HAS(hear(fd, "0\r\n\r\n"), "0\r\n\r\n");
    let_held();
    WAIT_FOR(seen_get(&seen.n_done) == 1);
    assert_true(seen.last_complete);
    say(fd, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT_FOR(held() != NULL);
    hear(fd, "\r\n\r\n");
    close(fd);
    WAIT_FOR(seen_get(&seen.n_left) == 1);
    let_held();
    WAIT_FOR(seen_get(&seen.n_done) == 2);
    assert_false(seen.last_complete);
    end();
}

/* A client that does not read is cut off when too much has piled up; nobody waits for it. */
static void test_stalled_reader(void **state)
{
    static char block[1 << 20];
    int fd;

    begin_at("127.0.0.1");
    fd = dial();
    say(fd, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT_FOR(held() != NULL);
    for (int i = 0; i < 64 && !mlxr_request_left(held()); i++) {
        mlxr_reply_push(held(), block, sizeof block);
        sleep_ms(1);
    }
    assert_true(mlxr_request_left(held()));
    assert_int_equal(seen_get(&seen.n_left), 1);
    let_held();
    close(fd);
    WAIT_FOR(seen_get(&seen.n_done) == 1);
    end();
}

static void *drain(void *ud)
{
    *(bool *)ud = mlxr_server_drain(server, 10000);
    return NULL;
}

static void test_draining(void **state)
{
    pthread_t t;
    bool all = false;
    int fd, idle;

    begin_at("127.0.0.1");
    idle = dial();
    say(idle, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
    hear(idle, "|0|");
    fd = dial();
    say(fd, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT_FOR(held() != NULL);
    assert_int_equal(pthread_create(&t, NULL, drain, &all), 0);
    sleep_ms(50);
    say(idle, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n"); /* nothing new */
    HAS(hear(idle, NULL), " 503 ");
    mlxr_reply_text(held(), 200, "text/plain", "still");
    HAS(hear(fd, "still"), "200");
    let_held();
    pthread_join(t, NULL);
    assert_true(all);
    end();
    close(fd);
    close(idle);
}

/* It ends though a client stalls in its head, in its body and in reading. */
static void test_ends_with_stalled(void **state)
{
    int a, b;

    begin_at("127.0.0.1");
    a = dial();
    b = dial();
    say(a, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf");
    say(b, "GET /ec");
    WAIT_FOR(mlxr_server_requests(server) == 1);
    end();
    close(a);
    close(b);
}

static void test_unix(void **state)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    char host[100];
    mlxr_server_options o = mlxr_server_options_default();
    mlxr_server *other;
    struct stat sb;
    int fd;

    assert_int_equal(serving_make_dir(), 0);
    snprintf(a.sun_path, sizeof a.sun_path, "%s/s", serving_dir);
    snprintf(host, sizeof host, "unix:%s/s", serving_dir);
    begin_at(host);
    assert_int_equal(stat(a.sun_path, &sb), 0);
    assert_int_equal(sb.st_mode & 0777, 0600);
    assert_false(mlxr_server_checks_host(server));
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    say(fd, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
    HAS(hear(fd, "|0|"), "200");
    close(fd);
    o.host = host;
    assert_fails(mlxr_server_open(&other, &o, &err), MLXR_E_BUSY, "unix:", &err);
    end();
    assert_int_not_equal(stat(a.sun_path, &sb), 0);
    assert_ok(mlxr_file_write(a.sun_path, "mine", 4, &err), &err); /* no socket: it stays */
    assert_fails(mlxr_server_open(&other, &o, &err), MLXR_E_BUSY, "unix:", &err);
    assert_int_equal(stat(a.sun_path, &sb), 0);
    assert_ok(mlxr_io_remove_tree(NULL, serving_dir, &err), &err);
    serving_dir[0] = '\0';
}

static void test_many_connections(void **state)
{
    int fds[30];
    size_t n = 0;

    begin_at("127.0.0.1");
    for (size_t i = 0; i < 30; i++) fds[i] = dial();
    sleep_ms(50);
    assert_in_range(mlxr_server_connections(server), 1, 20);
    for (size_t i = 0; i < 30; i++) close(fds[i]);
    WAIT_FOR(mlxr_server_connections(server) == 0 || ++n > 5000);
    HAS(talk("GET /echo HTTP/1.1\r\nHost: x\r\n\r\n", "|0|"), "200");
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_keep_alive_and_pipelines),
        cmocka_unit_test(test_leaving),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_stalled_reader),
        cmocka_unit_test(test_draining),
        cmocka_unit_test(test_ends_with_stalled),
        cmocka_unit_test(test_unix),
        cmocka_unit_test(test_many_connections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
