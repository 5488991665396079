/* Requests, against a server of this process that answers from a script: one step a request, in their order. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "store/http.h"
#include "test.h"

typedef struct step {
    const char *reply;   /* NULL: the end of the script */
    size_t n_body;       /* after it so many bytes 'a', 'b', ... */
    bool keep;           /* the connection stays for the next step */
    int hold_ms;         /* before the connection is closed */
    size_t stop_reading; /* of the request's body; then the reply comes */
} step;

enum { MAX_REQUESTS = 16 };
typedef struct server {
    int listener, port;
    const step *steps;
    pthread_t thread;
    atomic_int stop;
    atomic_int n_requests, n_connections;
    mlxr_buf requests[MAX_REQUESTS]; /* head and body, as they came */
} server;

static bool read_some(server *s, int fd, mlxr_buf *b)
{
    struct pollfd p = {fd, POLLIN, 0};
    char bytes[4096];
    ssize_t n;

    while (poll(&p, 1, 20) == 0)
        if (s->stop) return false;
    n = read(fd, bytes, sizeof bytes);
    if (n > 0) mlxr_buf_append(b, bytes, (size_t)n);
    return n > 0;
}

static bool send_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
        if (k <= 0) return false;
        p += k;
        n -= (size_t)k;
    }
    return true;
}

static bool serve(server *s, int fd, const step *t)
{
    mlxr_buf *b = &s->requests[s->n_requests];
    const char *head, *length;
    size_t n_body = 0;

    while (!b->data || !(head = strstr(b->data, "\r\n\r\n")))
        if (!read_some(s, fd, b)) return false;
    length = strstr(b->data, "Content-Length: ");
    if (length && length < head) n_body = strtoul(length + 16, NULL, 10);
    if (t->stop_reading && n_body > t->stop_reading) n_body = t->stop_reading;
    while (b->len < (size_t)(strstr(b->data, "\r\n\r\n") + 4 - b->data) + n_body)
        if (!read_some(s, fd, b)) return false;
    s->n_requests++;
    if (!send_all(fd, t->reply, strlen(t->reply))) return false;
    for (size_t i = 0; i < t->n_body; i++) {
        char block[1024];
        size_t n = t->n_body - i < sizeof block ? t->n_body - i : sizeof block;
        for (size_t k = 0; k < n; k++) block[k] = (char)('a' + (i + k) % 26);
        if (!send_all(fd, block, n)) return false;
        i += n - 1;
    }
    for (int ms = 0; ms < t->hold_ms && !s->stop; ms += 5) nanosleep(&(struct timespec){0, 5000000}, NULL);
    return t->keep;
}

static void *serve_all(void *ud)
{
    server *s = ud;
    const step *t = s->steps;

    while (!s->stop) {
        struct pollfd p = {s->listener, POLLIN, 0};
        int fd;
        if (poll(&p, 1, 20) == 0) continue;
        fd = accept(s->listener, NULL, NULL);
        if (fd < 0) continue;
        s->n_connections++;
        while (t->reply && s->n_requests < MAX_REQUESTS && serve(s, fd, t++)) {
        }
        close(fd);
    }
    return NULL;
}

static void server_start(server *s, const step *steps)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;

    *s = (server){.steps = steps, .listener = socket(AF_INET, SOCK_STREAM, 0)};
    assert_int_equal(bind(s->listener, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(s->listener, 16), 0);
    assert_int_equal(getsockname(s->listener, (struct sockaddr *)&a, &n), 0);
    s->port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&s->thread, NULL, serve_all, s), 0);
}

static void server_stop(server *s)
{
    s->stop = 1;
    pthread_join(s->thread, NULL);
    close(s->listener);
    for (size_t i = 0; i < MAX_REQUESTS; i++) mlxr_buf_clear(&s->requests[i]);
}

static const char *url(const server *s, const char *path)
{
    static char text[4][256];
    static unsigned i;
    char *t = text[i++ % 4];
    snprintf(t, sizeof text[0], "http://127.0.0.1:%d%s", s->port, path);
    return t;
}

static mlxr_http *client(uint32_t n_tries)
{
    mlxr_http_options o = mlxr_http_options_default();
    mlxr_http *h;
    mlxr_error err;

    o.n_tries = n_tries;
    o.first_pause_ms = 10;
    o.stall_seconds = 1;
    assert_ok(mlxr_http_create(&h, &o, &err), &err);
    return h;
}

#define OK_HI "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

/* ---- ---- */

static void test_get(void **state)
{
    static const step steps[] = {
        {.reply = "HTTP/1.1 100 Continue\r\nX-First: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: "
                  "2\r\nX-Thing:  \t a: b \t\r\n"
                  "x-empty:\r\n\r\nhi",
         .keep = true},
        {.reply = "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nwrong", .keep = true},
        {.reply = "HTTP/1.1 204 No Content\r\n\r\n"},
        {0}};
    const char *headers[] = {"X-Mine: yes", "Accept: text/x"};
    server s;
    mlxr_http *h = client(1);
    mlxr_http_answer a = {0};
    mlxr_error err;
    mlxr_http_request q = {.headers = headers, .n_headers = 2};

    server_start(&s, steps);
    q.url = url(&s, "/a?b=c");
    assert_ok(mlxr_http_do(&a, h, &q, &err), &err);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body.data, "hi");
    assert_string_equal(a.url, q.url);
    assert_int_equal(a.n_received, 2);
    assert_string_equal(mlxr_http_header(&a.headers, "x-THING"), "a: b");
    assert_string_equal(mlxr_http_header(&a.headers, "X-Empty"), "");
    assert_null(mlxr_http_header(&a.headers, "X-First"));
    assert_null(mlxr_http_header(&a.headers, "X-Thin"));
    assert_memory_equal(s.requests[0].data, "GET /a?b=c HTTP/1.1\r\n", 21);
    assert_non_null(strstr(s.requests[0].data, "X-Mine: yes\r\n"));
    assert_non_null(strstr(s.requests[0].data, "Accept: text/x\r\n"));
    assert_non_null(strstr(s.requests[0].data, "User-Agent: mlxr/"));
    assert_null(strstr(s.requests[0].data, "Authorization"));

    q.method = "DELETE";
    assert_ok(mlxr_http_do(&a, h, &q, &err), &err);
    assert_int_equal(a.status, 404);
    assert_string_equal(a.body.data, "wrong");
    assert_memory_equal(s.requests[1].data, "DELETE ", 7);
    q.method = "HEAD";
    assert_ok(mlxr_http_do(&a, h, &q, &err), &err);
    assert_int_equal(a.status, 204);
    assert_int_equal(a.body.len, 0);
    assert_int_equal(s.n_connections, 1); /* kept */
    mlxr_http_answer_clear(&a);
    mlxr_http_free(h);
    server_stop(&s);
}

static void test_bad_requests(void **state)
{
    const char *headers[] = {"X: a\r\nInjected: yes"};
    mlxr_http *h = client(1);
    mlxr_http_answer a = {0};
    mlxr_error err;
    mlxr_http_request q = {.url = "http://127.0.0.1:1/", .headers = headers, .n_headers = 1};

    assert_fails(mlxr_http_do(&a, h, &q, &err), MLXR_E_INVALID_ARGUMENT, "line break", &err);
    q = (mlxr_http_request){.url = "http://127.0.0.1:1/", .authorization = "Bearer a\nb"};
    assert_fails(mlxr_http_do(&a, h, &q, &err), MLXR_E_INVALID_ARGUMENT, "line break", &err);
    q = (mlxr_http_request){.url = "file:///etc/passwd"};
    assert_fails(mlxr_http_do(&a, h, &q, &err), MLXR_E_INVALID_ARGUMENT, "http or https", &err);
    q = (mlxr_http_request){.url = "http://user:secret@127.0.0.1:1/x?token=secret#f"};
    assert_fails(mlxr_http_do(&a, h, &q, &err), MLXR_E_NETWORK, "http://127.0.0.1:1/x: ", &err);
    assert_null(strstr(err.message, "secret"));
    mlxr_http_answer_clear(&a);
    mlxr_http_answer_clear(&a);
    mlxr_http_free(h);
    mlxr_http_free(NULL);
}

static void test_limits(void **state)
{
    mlxr_buf many = {0}, large = {0};
    step steps[] = {{.reply = ""},
                    {.reply = ""},
                    {.reply = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", .n_body = 100},
                    {.reply = "HTTP/1.1 500 Broken\r\nConnection: close\r\n\r\n", .n_body = 40u << 20},
                    {0}};
    server s;
    mlxr_http *h = client(1);
    mlxr_http_answer a = {0};
    mlxr_error err;
    mlxr_http_request q = {0};

    mlxr_buf_str(&many, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; i < 300; i++) mlxr_buf_printf(&many, "X-%d: y\r\n", i);
    mlxr_buf_str(&many, "Content-Length: 0\r\n\r\n");
    mlxr_buf_str(&large, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; i < 5; i++) {
        mlxr_buf_printf(&large, "X-%d: ", i);
        for (int k = 0; k < 40000; k++) mlxr_buf_char(&large, 'x');
        mlxr_buf_str(&large, "\r\n");
    }
    mlxr_buf_str(&large, "Content-Length: 0\r\n\r\n");
    steps[0].reply = many.data;
    steps[1].reply = large.data;
    server_start(&s, steps);
    q.url = url(&s, "/x");
    assert_fails(mlxr_http_do(&a, h, &q, &err), MLXR_E_LIMIT, "more than 256 headers", &err);
    assert_fails(mlxr_http_do(&a, h, &q, &err), MLXR_E_LIMIT, "headers", &err);
    q.max_body = 99;
    assert_fails(mlxr_http_do(&a, h, &q, &err), MLXR_E_LIMIT, "longer than 99 bytes", &err);
    assert_non_null(strstr(err.message, "http://127.0.0.1"));
    /* of an error's body as much as can be of use, and no waiting for the rest */
    assert_ok(mlxr_http_do(&a, h, &q, &err), &err);
    assert_int_equal(a.status, 500);
    assert_int_equal(a.body.len, 64 << 10);
    assert_true(a.n_received < 4u << 20);
    mlxr_http_answer_clear(&a);
    mlxr_http_free(h);
    server_stop(&s);
    mlxr_buf_clear(&many);
    mlxr_buf_clear(&large);
}

static void test_unix_socket(void **state)
{
    static const step steps[] = {{.reply = OK_HI}, {0}};
    char dir[] = "/tmp/mlxr-http-XXXXXX", path[64];
    struct sockaddr_un u = {.sun_family = AF_UNIX};
    server s = {.steps = steps, .listener = socket(AF_UNIX, SOCK_STREAM, 0)};
    mlxr_http *h = client(2);
    mlxr_http_answer a = {0};
    mlxr_error err;
    mlxr_http_request q = {.url = "http://localhost/x", .socket = path};

    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/s", dir);
    assert_fails(mlxr_http_do(&a, h, &q, &err), MLXR_E_NETWORK, "tried 2 times", &err);
    memcpy(u.sun_path, path, strlen(path) + 1);
    assert_int_equal(bind(s.listener, (struct sockaddr *)&u, sizeof u), 0);
    assert_int_equal(listen(s.listener, 1), 0);
    assert_int_equal(pthread_create(&s.thread, NULL, serve_all, &s), 0);
    setenv("http_proxy", "http://127.0.0.1:1", 1); /* is not asked */
    assert_ok(mlxr_http_do(&a, h, &q, &err), &err);
    unsetenv("http_proxy");
    assert_string_equal(a.body.data, "hi");
    assert_non_null(strstr(s.requests[0].data, "Host: localhost\r\n"));
    mlxr_http_answer_clear(&a);
    mlxr_http_free(h);
    server_stop(&s);
    unlink(path);
    rmdir(dir);
}

static void test_redirects(void **state)
{
    char there[256], relative[] = "HTTP/1.1 302 Found\r\nLocation: ../y?q=1\r\nContent-Length: 4\r\n\r\ngone";
    step here_steps[] = {
        {.reply = relative},
        {.reply = there},
        {.reply = "HTTP/1.1 303 See Other\r\nLocation: /z\r\nContent-Length: 0\r\n\r\n"},
        {.reply = OK_HI},
        {.reply = "HTTP/1.1 307 Again\r\nLocation: /w\r\nContent-Length: 0\r\n\r\n"},
        {.reply = OK_HI},
        {.reply = "HTTP/1.1 301 Moved\r\nLocation: /k\r\nContent-Length: 0\r\n\r\n"},
        {.reply = "HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"},
        {.reply = "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"},
        {0}};
    static const step there_steps[] = {{.reply = OK_HI}, {0}};
    server here, other;
    mlxr_http *h = client(1);
    mlxr_http_answer a = {0};
    mlxr_error err;
    mlxr_http_request q = {.authorization = "Bearer secret"};

    server_start(&other, there_steps);
    snprintf(there, sizeof there, "HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n",
             url(&other, "/there?sig=1"));
    server_start(&here, here_steps);
    q.url = url(&here, "/a/x");
    assert_ok(mlxr_http_do(&a, h, &q, &err), &err);
    assert_string_equal(a.body.data, "hi");
    assert_string_equal(a.url, url(&other, "/there?sig=1"));
    assert_memory_equal(here.requests[1].data, "GET /y?q=1 HTTP", 15);
    assert_non_null(strstr(here.requests[0].data, "Authorization: Bearer secret\r\n"));
    assert_non_null(strstr(here.requests[1].data, "Authorization: Bearer secret\r\n"));
    assert_null(strstr(other.requests[0].data, "Authorization"));

    q.method = "POST";
    q.body = "abc";
    q.n_body = 3;
    assert_ok(mlxr_http_do(&a, h, &q, &err), &err);
    assert_memory_equal(here.requests[2].data, "POST /a/x", 9);
    assert_memory_equal(here.requests[3].data, "GET /z", 6);
    assert_ok(mlxr_http_do(&a, h, &q, &err), &err);
    assert_memory_equal(here.requests[5].data, "POST /w", 7);
    assert_non_null(strstr(here.requests[5].data, "\r\n\r\nabc"));
    q.no_redirects = true;
    assert_ok(mlxr_http_do(&a, h, &q, &err), &err);
    assert_int_equal(a.status, 301);
    assert_string_equal(mlxr_http_header(&a.headers, "location"), "/k");
    q = (mlxr_http_request){.url = q.url};
    assert_fails(mlxr_http_do(&a, h, &q, &err), MLXR_E_INVALID_ARGUMENT, "http or https", &err);
    assert_ok(mlxr_http_do(&a, h, &q, &err), &err);
    assert_int_equal(a.status, 302);
    mlxr_http_answer_clear(&a);
    mlxr_http_free(h);
    server_stop(&here);
    server_stop(&other);
}

static void test_redirects_without_end(void **state)
{
    step steps[MAX_REQUESTS];
    server s;
    mlxr_http *h = client(3);
    mlxr_http_answer a = {0};
    mlxr_error err;
    mlxr_http_request q = {0};

    for (size_t i = 0; i < MAX_REQUESTS; i++)
        steps[i] = (step){.reply = "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
                          .keep = true};
    server_start(&s, steps);
    q.url = url(&s, "/x");
    assert_fails(mlxr_http_do(&a, h, &q, &err), MLXR_E_NETWORK, "more than 10 redirects", &err);
    assert_int_equal(s.n_requests, 11);
    mlxr_http_answer_clear(&a);
    mlxr_http_free(h);
    server_stop(&s);
}

/* ---- bodies that go ---- */

typedef struct sending {
    uint64_t fail_at;
    unsigned n_from_start;
} sending;

static mlxr_status send_piece(void *ud, void *buffer, size_t n, uint64_t offset, size_t *n_read,
                              mlxr_error *err)
{
    sending *s = ud;
    char *to = buffer;

    if (offset == 0) s->n_from_start++;
    if (offset >= s->fail_at) return mlxr_fail(err, MLXR_E_IO, "the disk is gone");
    if (n > 1000) n = 1000;
    for (size_t i = 0; i < n; i++) to[i] = (char)('a' + (offset + i) % 26);
    *n_read = n;
    return MLXR_OK;
}

static void test_upload(void **state)
{
    static const step steps[] = {
        {.reply = "HTTP/1.1 503 Later\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
        {.reply = "", .stop_reading = 20000},
        {.reply = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\nLocation: /new\r\n\r\n"},
        {.reply = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"},
        {.reply = OK_HI},
        {0}};
    server s;
    mlxr_http *h = client(4);
    mlxr_http_answer a = {0};
    mlxr_error err;
    sending sent = {.fail_at = UINT64_MAX};
    mlxr_http_request q = {.method = "PUT", .n_body = 100000, .read = send_piece, .read_ud = &sent};
    const char *body;

    server_start(&s, steps);
    q.url = url(&s, "/x");
    assert_ok(mlxr_http_do(&a, h, &q, &err), &err);
    assert_int_equal(a.status, 201);
    assert_string_equal(mlxr_http_header(&a.headers, "Location"), "/new");
    assert_int_equal(sent.n_from_start, 3);
    body = strstr(s.requests[2].data, "\r\n\r\n") + 4;
    assert_int_equal(s.requests[2].len - (size_t)(body - s.requests[2].data), 100000);
    for (size_t i = 0; i < 100000; i++) assert_int_equal(body[i], 'a' + i % 26);
    assert_non_null(strstr(s.requests[2].data, "Content-Length: 100000\r\n"));
    assert_null(strstr(s.requests[2].data, "Expect"));
    assert_null(strstr(s.requests[2].data, "Transfer-Encoding"));

    q = (mlxr_http_request){.method = "POST", .url = q.url}; /* without a body: says so */
    assert_ok(mlxr_http_do(&a, h, &q, &err), &err);
    assert_non_null(strstr(s.requests[3].data, "Content-Length: 0\r\n"));

    sent = (sending){.fail_at = 5000};
    q = (mlxr_http_request){
        .method = "PATCH", .url = q.url, .n_body = 100000, .read = send_piece, .read_ud = &sent};
    assert_fails(mlxr_http_do(&a, h, &q, &err), MLXR_E_IO, "the disk is gone", &err);
    assert_string_equal(err.message, "the disk is gone");
    mlxr_http_answer_clear(&a);
    mlxr_http_free(h);
    server_stop(&s);
}

/* ---- bodies that come ---- */

typedef struct taking {
    char bytes[4096];
    size_t n, fail_at;
    unsigned n_starts;
    int last_status;
    bool no_resume, from_start;
} taking;

static mlxr_status take_start(void *ud, int status, const mlxr_http_headers *headers, mlxr_error *err)
{
    taking *t = ud;
    t->n_starts++;
    t->last_status = status;
    return MLXR_OK;
}

static mlxr_status take(void *ud, const void *data, size_t n, mlxr_error *err)
{
    taking *t = ud;
    if (t->fail_at && t->n + n > t->fail_at) return mlxr_fail(err, MLXR_E_NO_SPACE, "full");
    assert_true(t->n + n <= sizeof t->bytes);
    memcpy(t->bytes + t->n, data, n);
    t->n += n;
    return MLXR_OK;
}

static bool take_resume(void *ud, uint64_t *offset)
{
    taking *t = ud;
    if (t->no_resume) return false;
    if (t->from_start)
        t->n = 0;
    else
        *offset = t->n;
    return true;
}

static void test_resume(void **state)
{
    static const step steps[] = {
        {.reply = "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 10\r\n\r\n0123"},
        {.reply = "HTTP/1.1 503 Later\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!"},
        {.reply = "HTTP/1.1 206 Part\r\nETag: \"v1\"\r\nContent-Range: bytes 4-9/10\r\nContent-Length: "
                  "6\r\n\r\n45"},
        {.reply = "HTTP/1.1 206 Part\r\nContent-Range: bytes 6-9/10\r\nContent-Length: 4\r\n\r\n6789"},
        /* another file now */
        {.reply = "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 10\r\n\r\n0123"},
        {.reply = "HTTP/1.1 206 Part\r\nETag: \"v2\"\r\nContent-Range: bytes 4-9/10\r\nContent-Length: "
                  "6\r\n\r\n456789"},
        /* all of it */
        {.reply = "HTTP/1.1 200 OK\r\nLast-Modified: Mon, 02 Jan 2023 00:00:00 GMT\r\nContent-Length: "
                  "10\r\n\r\n0123"},
        {.reply = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789"},
        /* another part */
        {.reply = "HTTP/1.1 200 OK\r\nETag: W/\"v1\"\r\nContent-Length: 10\r\n\r\n0123"},
        {.reply = "HTTP/1.1 206 Part\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\n56789"},
        /* not resumed */
        {.reply = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123"},
        /* from the start */
        {.reply = "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 10\r\n\r\n0123"},
        {.reply = "HTTP/1.1 200 OK\r\nETag: \"v2\"\r\nContent-Length: 3\r\n\r\nnew"},
        {0}};
    server s;
    mlxr_http *h = client(5);
    mlxr_http_answer a = {0};
    mlxr_error err;
    taking t = {0};
    mlxr_http_request q = {.on_start = take_start, .write = take, .resume = take_resume, .write_ud = &t};

    server_start(&s, steps);
    q.url = url(&s, "/x");
    assert_ok(mlxr_http_do(&a, h, &q, &err), &err);
    assert_int_equal(t.n, 10);
    assert_memory_equal(t.bytes, "0123456789", 10);
    assert_int_equal(t.n_starts, 3);
    assert_int_equal(a.body.len, 0);
    assert_int_equal(a.n_received, 4 + 3 + 2 + 4);
    assert_null(strstr(s.requests[0].data, "Range"));
    assert_non_null(strstr(s.requests[2].data, "Range: bytes=4-\r\n"));
    assert_non_null(strstr(s.requests[2].data, "If-Range: \"v1\"\r\n"));
    assert_non_null(strstr(s.requests[3].data, "Range: bytes=6-\r\n"));
    t = (taking){0};
    assert_fails(mlxr_http_do(&a, h, &q, &err), MLXR_E_NETWORK, "it changed there", &err);
    t = (taking){0};
    assert_fails(mlxr_http_do(&a, h, &q, &err), MLXR_E_NETWORK, "it changed there", &err);
    assert_non_null(strstr(s.requests[7].data, "If-Range: Mon, 02 Jan 2023"));
    t = (taking){0};
    assert_fails(mlxr_http_do(&a, h, &q, &err), MLXR_E_NETWORK, "\"bytes 5-9/10\"", &err);
    assert_null(strstr(s.requests[9].data, "If-Range"));
    t = (taking){.no_resume = true};
    assert_fails(mlxr_http_do(&a, h, &q, &err), MLXR_E_NETWORK, "http://127.0.0.1", &err);
    t = (taking){.from_start = true};
    assert_ok(mlxr_http_do(&a, h, &q, &err), &err);
    assert_int_equal(t.n, 3);
    assert_null(strstr(s.requests[12].data, "Range"));
    mlxr_http_answer_clear(&a);
    mlxr_http_free(h);
    server_stop(&s);
}

static void test_ranges(void **state)
{
    static const step steps[] = {
        {.reply = "HTTP/1.1 206 Part\r\nContent-Range: bytes 100-104/1000\r\nContent-Length: 5\r\n\r\nab"},
        {.reply = "HTTP/1.1 206 Part\r\nContent-Range: bytes 102-104/1000\r\nContent-Length: 3\r\n\r\ncde"},
        {.reply = "HTTP/1.1 206 Part\r\nContent-Length: 5\r\n\r\nabcde"},
        {.reply = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
        {.reply = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde"},
        {0}};
    server s;
    mlxr_http *h = client(3);
    mlxr_http_answer a = {0};
    mlxr_error err;
    taking t = {0};
    mlxr_http_request q = {
        .write = take, .write_ud = &t, .range_begin = 100, .range_end = 105, .on_start = take_start};

    server_start(&s, steps);
    q.url = url(&s, "/x");
    q.resume = take_resume;
    t.n = 100; /* take_resume says where it is */
    memset(t.bytes, '-', 100);
    assert_ok(mlxr_http_do(&a, h, &q, &err), &err);
    assert_memory_equal(t.bytes + 100, "abcde", 5);
    assert_non_null(strstr(s.requests[0].data, "Range: bytes=100-104\r\n"));
    assert_non_null(strstr(s.requests[1].data, "Range: bytes=102-104\r\n"));
    assert_fails(mlxr_http_do(&a, h, &q, &err), MLXR_E_NETWORK, "no Content-Range", &err);
    t = (taking){0};
    assert_ok(mlxr_http_do(&a, h, &q, &err), &err); /* also of an empty body on_start hears */
    assert_int_equal(t.n_starts, 1);
    assert_int_equal(t.last_status, 200);
    t = (taking){.fail_at = 1};
    assert_fails(mlxr_http_do(&a, h, &q, &err), MLXR_E_NO_SPACE, "full", &err);
    assert_string_equal(err.message, "full");
    mlxr_http_answer_clear(&a);
    mlxr_http_free(h);
    server_stop(&s);
}

/* ---- tries ---- */

static unsigned n_logged;
static void count_log(mlxr_log_level level, const char *message, void *ud)
{
    n_logged++;
    assert_null(strstr(message, "secret"));
}

static void test_tries(void **state)
{
    static const step steps[] = {
        {.reply = "HTTP/1.1 429 Slow\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
        {.reply = ""},
        {.reply = OK_HI},
        {.reply = "HTTP/1.1 500 No\r\nContent-Length: 3\r\nConnection: close\r\n\r\none"},
        {.reply = "HTTP/1.1 502 No\r\nContent-Length: 3\r\nConnection: close\r\n\r\ntwo"},
        {.reply = "HTTP/1.1 504 No\r\nContent-Length: 5\r\nConnection: close\r\n\r\nthree"},
        {.reply = "HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
        {.reply = "HTTP/1.1 501 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
        {0}};
    mlxr_http_options o = mlxr_http_options_default();
    server s;
    mlxr_http *h;
    mlxr_http_answer a = {0};
    mlxr_error err;
    mlxr_http_request q = {0};
    uint64_t start;

    o.n_tries = 3;
    o.first_pause_ms = 5;
    o.log.fn = count_log;
    assert_ok(mlxr_http_create(&h, &o, &err), &err);
    server_start(&s, steps);
    q.url = url(&s, "/x?a=secret");
    start = mlxr_now_ns();
    assert_ok(mlxr_http_do(&a, h, &q, &err), &err);
    assert_true(mlxr_now_ns() - start >= 1000000000u);
    assert_int_equal(a.status, 200);
    assert_int_equal(n_logged, 2);
    assert_ok(mlxr_http_do(&a, h, &q, &err), &err); /* the last answer is the answer */
    assert_int_equal(a.status, 504);
    assert_string_equal(a.body.data, "three");
    q.no_retries = true;
    assert_ok(mlxr_http_do(&a, h, &q, &err), &err);
    assert_int_equal(a.status, 503);
    q.no_retries = false;
    assert_ok(mlxr_http_do(&a, h, &q, &err), &err);
    assert_int_equal(a.status, 501);
    assert_int_equal(s.n_requests, 8);
    mlxr_http_answer_clear(&a);
    mlxr_http_free(h);
    server_stop(&s);
}

static void test_stall(void **state)
{
    static const step steps[] = {
        {.reply = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", .hold_ms = 4000},
        {.reply = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", .hold_ms = 1500},
        {0}};
    server s;
    mlxr_http *h = client(1);
    mlxr_http_answer a = {0};
    mlxr_error err;
    mlxr_http_request q = {0};
    uint64_t start = mlxr_now_ns();

    server_start(&s, steps);
    q.url = url(&s, "/x");
    assert_fails(mlxr_http_do(&a, h, &q, &err), MLXR_E_NETWORK, "nothing came for 1 s", &err);
    assert_true(mlxr_now_ns() - start < 3500000000u);
    server_stop(&s);
    server_start(&s, steps + 1);
    q.url = url(&s, "/x");
    q.no_stall = true; /* broken off by the server in the end */
    assert_fails(mlxr_http_do(&a, h, &q, &err), MLXR_E_NETWORK, "http://127.0.0.1", &err);
    assert_null(strstr(err.message, "nothing came"));
    mlxr_http_answer_clear(&a);
    mlxr_http_free(h);
    server_stop(&s);
}

typedef struct canceller {
    int flag;
    uint64_t at_ns;
} canceller;

static void *cancel_soon(void *ud)
{
    canceller *c = ud;
    nanosleep(&(struct timespec){0, 200000000}, NULL);
    c->at_ns = mlxr_now_ns();
    __atomic_store_n(&c->flag, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void test_cancel(void **state)
{
    static const step
        silent[] = {{.reply = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", .hold_ms = 5000}, {0}},
        busy[] = {{.reply = "HTTP/1.1 503 Later\r\nRetry-After: 50\r\nContent-Length: 0\r\n\r\n"}, {0}};
    const step *scripts[] = {silent, busy};

    for (size_t i = 0; i < 2; i++) {
        mlxr_http_options o = mlxr_http_options_default();
        canceller c = {0};
        pthread_t thread;
        server s;
        mlxr_http *h;
        mlxr_http_answer a = {0};
        mlxr_error err;
        mlxr_http_request q = {0};

        o.cancel = &c.flag;
        assert_ok(mlxr_http_create(&h, &o, &err), &err);
        server_start(&s, scripts[i]);
        q.url = url(&s, "/x");
        assert_int_equal(pthread_create(&thread, NULL, cancel_soon, &c), 0);
        assert_fails(mlxr_http_do(&a, h, &q, &err), MLXR_E_CANCELLED, "cancelled", &err);
        pthread_join(thread, NULL);
        /* 0.1 s when nothing else runs here */
        assert_true(mlxr_now_ns() - c.at_ns < 1500000000u);
        mlxr_http_answer_clear(&a);
        mlxr_http_free(h);
        server_stop(&s);
    }
}

/* ---- statuses, urls ---- */

static void fail_with(mlxr_status want, int status, const char *body, const char *header, const char *text)
{
    char name[] = "X-Error-Message", value[256] = "", *names[] = {name}, *values[] = {value};
    char where[] = "https://u:secret@host/x/y?sig=secret";
    mlxr_http_answer a = {.status = status, .url = where};
    mlxr_error err = {0};

    if (body) mlxr_buf_str(&a.body, body);
    if (header) {
        snprintf(value, sizeof value, "%s", header);
        a.headers = (mlxr_http_headers){names, values, 1};
    }
    assert_int_equal(mlxr_http_status_fail(&a, "thing", &err), want);
    assert_int_equal(err.code, want);
    assert_string_equal(err.message, text);
    mlxr_buf_clear(&a.body);
}

static void test_status_fail(void **state)
{
    fail_with(MLXR_E_DENIED, 401, NULL, NULL, "thing: https://host/x/y answered 401 Unauthorized");
    fail_with(MLXR_E_DENIED, 403, "{\"error\": \"no entry\"}", NULL,
              "thing: https://host/x/y answered 403 Forbidden: no entry");
    fail_with(MLXR_E_NOT_FOUND, 404,
              "{\"errors\": [{\"code\": \"BLOB_UNKNOWN\", \"message\": \"not here\"}]}", NULL,
              "thing: https://host/x/y answered 404 Not Found: not here");
    fail_with(MLXR_E_NOT_FOUND, 410, "{\"errors\": [{\"code\": \"GONE\"}]}", NULL,
              "thing: https://host/x/y answered 410 Gone: GONE");
    fail_with(MLXR_E_NETWORK, 500, "{\"error\": {\"message\": \"deep\"}}", NULL,
              "thing: https://host/x/y answered 500 Internal Server Error: deep");
    fail_with(MLXR_E_NETWORK, 418, "\r\n  a first line\nsecond", NULL,
              "thing: https://host/x/y answered 418: a first line");
    fail_with(MLXR_E_NETWORK, 502, "<html><body>x", NULL, "thing: https://host/x/y answered 502 Bad Gateway");
    fail_with(MLXR_E_DENIED, 403, "", "accept the terms",
              "thing: https://host/x/y answered 403 Forbidden: accept the terms");
    fail_with(MLXR_E_NETWORK, 500, "{\"error\": \"a\\nb\\u001b[31m\"}", NULL,
              "thing: https://host/x/y answered 500 Internal Server Error: a b?[31m");
    fail_with(MLXR_E_NETWORK, 500, "{}", NULL, "thing: https://host/x/y answered 500 Internal Server Error");
    fail_with(MLXR_E_NETWORK, 500, "[[[[", NULL,
              "thing: https://host/x/y answered 500 Internal Server Error: [[[[");
}

static void test_urls(void **state)
{
    static const char *const loopback[] = {"http://localhost",         "http://LOCALHOST:80/x",
                                           "https://127.0.0.1:5000",   "http://127.255.1.2",
                                           "http://[::1]:11434/",      "http://user@localhost/",
                                           "http://a:b@127.0.0.1?x=y", "http://[::1]"},
                             *const not [] = {"http://localhost.example.org",
                                              "http://127.example.org",
                                              "http://127.0.0.1.example.org",
                                              "http://example.org/localhost",
                                              "http://[::2]",
                                              "http://localhost@example.org",
                                              "http://128.0.0.1",
                                              "http://127.0.0",
                                              "http://127.0.0.256",
                                              "localhost",
                                              "",
                                              "http://[::1].example.org"};
    mlxr_buf b = {0};

    for (size_t i = 0; i < MLXR_COUNT(loopback); i++)
        if (!mlxr_url_is_loopback(loopback[i])) fail_msg("%s is loopback", loopback[i]);
    for (size_t i = 0; i < MLXR_COUNT(not ); i++)
        if (mlxr_url_is_loopback(not [i])) fail_msg("%s is not loopback", not [i]);
    mlxr_url_encode(&b, "aZ9-._~ /%?\xc3\xa9", true);
    assert_string_equal(b.data, "aZ9-._~%20/%25%3F%C3%A9");
    b.len = 0;
    mlxr_url_encode(&b, "a/b", false);
    assert_string_equal(b.data, "a%2Fb");
    mlxr_buf_clear(&b);
    assert_true(mlxr_url_same_origin("https://a/x", "https://A:443/y?z"));
    assert_false(mlxr_url_same_origin("https://a/x", "http://a/x"));
    assert_false(mlxr_url_same_origin("https://a/x", "https://a:444/x"));
    assert_false(mlxr_url_same_origin("https://a/x", "https://a.b/x"));
    assert_false(mlxr_url_same_origin("https://a/x", "nonsense:"));
}

/* What a closed connection sends to who writes to it stays within the call. */
static void test_no_sigpipe(void **state)
{
    static const step steps[] = {{.reply = "", .stop_reading = 1}, {.reply = "", .stop_reading = 1}, {0}};
    sending sent = {.fail_at = UINT64_MAX};
    server s;
    mlxr_http *h = client(2);
    mlxr_http_answer a = {0};
    mlxr_error err;
    mlxr_http_request q = {.method = "PUT", .n_body = 20u << 20, .read = send_piece, .read_ud = &sent};
    sigset_t pending;

    signal(SIGPIPE, SIG_DFL);
    server_start(&s, steps);
    q.url = url(&s, "/x");
    assert_fails(mlxr_http_do(&a, h, &q, &err), MLXR_E_NETWORK, "tried 2 times", &err);
    sigpending(&pending);
    assert_false(sigismember(&pending, SIGPIPE));
    mlxr_http_answer_clear(&a);
    mlxr_http_free(h);
    server_stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get),         cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_limits),      cmocka_unit_test(test_unix_socket),
        cmocka_unit_test(test_redirects),   cmocka_unit_test(test_redirects_without_end),
        cmocka_unit_test(test_upload),      cmocka_unit_test(test_resume),
        cmocka_unit_test(test_ranges),      cmocka_unit_test(test_tries),
        cmocka_unit_test(test_stall),       cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_status_fail), cmocka_unit_test(test_urls),
        cmocka_unit_test(test_no_sigpipe),
    };
    unsetenv("http_proxy");
    unsetenv("HTTP_PROXY");
    unsetenv("all_proxy");
    unsetenv("ALL_PROXY");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
