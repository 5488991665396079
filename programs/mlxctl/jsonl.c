/* jsonl: see jsonl.h. */
#include "jsonl.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

struct session {
    jsonl_answer answer;
    void *ud;
    mlxr_buf in, out;
    size_t n_errors;
};

mlxr_status jsonl_object(json_t **out, const char *line, size_t n, mlxr_error *err)
{
    mlxr_status st = mlxr_json_parse(out, line, n, "request", err);

    if (st != MLXR_OK || json_is_object(*out)) return st;
    json_decref(*out);
    *out = NULL;
    return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "request: not a JSON object");
}

static void answer_line(struct session *s, const char *line, size_t n)
{
    mlxr_error err = {0};
    size_t mark = s->out.len;
    mlxr_status st;

    while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == ' ')) n--;
    if (n == 0) return;
    st = s->answer(s->ud, line, n, &s->out, &err);
    if (st == MLXR_OK) st = mlxr_buf_check(&s->out, "answer", &err);
    if (st != MLXR_OK) {
        s->n_errors++;
        s->out.failed =
            false; /* what was appended before the failure is still there: answers not yet written */
        s->out.len = mark;
        mlxr_buf_str(&s->out, "{\"error\": ");
        mlxr_json_escape(&s->out, err.message, strlen(err.message));
        mlxr_buf_char(&s->out, '}');
    }
    mlxr_buf_char(&s->out, '\n');
}

static bool flush(mlxr_buf *out)
{
    size_t n = out->len;
    bool ok = !out->failed && (n == 0 || fwrite(out->data, 1, n, stdout) == n) && fflush(stdout) == 0;
    out->len = 0;
    return ok;
}

/* Whether reading now would wait. */
static bool would_wait(void)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&p, 1, 0) == 0;
}

int jsonl_serve(const char *program, jsonl_answer answer, void *ud, size_t *n_errors)
{
    enum { CHUNK = 1 << 16, FLUSH_AT = 1 << 20 };
    struct session s = {.answer = answer, .ud = ud};
    size_t done = 0, seen = 0; /* bytes of `in` answered, and searched for a line's end */
    int code = CLI_EXIT_FAILED;

    for (;;) {
        char *p;
        const char *nl;
        ssize_t n;
        while (s.in.len > seen && (nl = memchr(s.in.data + seen, '\n', s.in.len - seen)) != NULL) {
            size_t end = (size_t)(nl - s.in.data);
            answer_line(&s, s.in.data + done, end - done);
            done = seen = end + 1;
            if (s.out.len > FLUSH_AT && !flush(&s.out)) goto broken;
        }
        if (done) {
            memmove(s.in.data, s.in.data + done, s.in.len - done);
            s.in.len -= done;
            done = 0;
        }
        seen = s.in.len;
        if (s.out.len && would_wait() && !flush(&s.out)) goto broken;
        p = mlxr_buf_reserve(&s.in, CHUNK);
        if (!p) goto broken;
        n = read(STDIN_FILENO, p, CHUNK);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) goto broken;
        if (n == 0) break;
        s.in.len += (size_t)n;
    }
    if (s.in.len) answer_line(&s, s.in.data, s.in.len); /* a last line without its end */
    if (!flush(&s.out)) goto broken;
    code = 0;
broken:
    if (code)
        fprintf(stderr, "%s: %s\n", program, s.in.failed || s.out.failed ? "out of memory" : strerror(errno));
    if (n_errors) *n_errors = s.n_errors;
    mlxr_buf_clear(&s.in);
    mlxr_buf_clear(&s.out);
    return code;
}

void jsonl_ids(mlxr_buf *out, const int32_t *ids, size_t n)
{
    char *p;

    mlxr_buf_char(out, '[');
    p = mlxr_buf_reserve(out, n < SIZE_MAX / 16 ? n * 13 : SIZE_MAX);
    for (size_t i = 0; p && i < n; i++) { /* at most ten digits, a comma and a space each */
        char digits[12];
        uint32_t v = (uint32_t)ids[i];
        size_t k = sizeof digits;
        do digits[--k] = (char)('0' + v % 10);
        while ((v /= 10) != 0);
        if (i) *p++ = ',', *p++ = ' ';
        memcpy(p, digits + k, sizeof digits - k);
        p += sizeof digits - k;
    }
    if (p) out->len = (size_t)(p - out->data);
    mlxr_buf_char(out, ']');
}
