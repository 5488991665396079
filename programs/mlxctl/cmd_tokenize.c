/* mlxctl tokenize MODEL: JSON lines in, JSON lines out.
 *
 *   {"text": T, "pair": T2, "add_special_tokens": true} -> {"ids": [...]}
 *   {"ids": [...], "skip_special_tokens": false}        -> {"text": T}
 *
 * pair and the two flags may be left out; a request that fails is answered {"error": "..."}, and the next one
 * goes on. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/json.h"

int cmd_tokenize(int argc, char **argv);

typedef struct totals {
    size_t n_requests, n_errors, n_tokens, n_bytes;
    uint64_t ns;
} totals;

static void put_error(mlxr_buf *out, const char *message)
{
    mlxr_buf_str(out, "{\"error\": ");
    mlxr_json_escape(out, message, strlen(message));
    mlxr_buf_str(out, "}\n");
}

static mlxr_status encode(const mlxr_tokenizer *tok, const json_t *request, mlxr_buf *out, totals *t,
                          mlxr_error *err)
{
    const json_t *text = json_object_get(request, "text"), *pair = json_object_get(request, "pair");
    bool special = true;
    int32_t *ids = NULL;
    size_t n = 0;
    uint64_t from;
    mlxr_status st;

    if (!json_is_string(text))
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "request: \"text\" must be a string");
    if (pair && !json_is_null(pair) && !json_is_string(pair))
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "request: \"pair\" must be a string");
    if ((st = mlxr_json_get_bool(&special, request, "add_special_tokens", "request", err)) != MLXR_OK)
        return st;
    from = mlxr_now_ns();
    if (json_is_string(pair)) {
        mlxr_text_pair p = {.first = json_string_value(text),
                            .second = json_string_value(pair),
                            .n_first = json_string_length(text),
                            .n_second = json_string_length(pair)};
        st = mlxr_tokenizer_encode_pair(&ids, &n, tok, &p, special, err);
        t->n_bytes += p.n_second;
    } else {
        st = mlxr_tokenizer_encode(&ids, &n, tok, json_string_value(text), json_string_length(text), special,
                                   err);
    }
    t->ns += mlxr_now_ns() - from;
    t->n_bytes += json_string_length(text);
    t->n_tokens += n;
    if (st == MLXR_OK) {
        char *p;
        mlxr_buf_str(out, "{\"ids\": [");
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
        mlxr_buf_str(out, "]}\n");
    }
    mlxr_free(ids);
    return st;
}

static mlxr_status decode(const mlxr_tokenizer *tok, const json_t *request, mlxr_buf *out, totals *t,
                          mlxr_error *err)
{
    const json_t *list = json_object_get(request, "ids");
    bool skip = false;
    size_t n = json_array_size(list), n_text = 0;
    int32_t *ids = NULL;
    char *text = NULL;
    uint64_t from;
    mlxr_status st = MLXR_OK;

    if (!json_is_array(list))
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "request: it has neither \"text\" nor a list \"ids\"");
    if ((st = mlxr_json_get_bool(&skip, request, "skip_special_tokens", "request", err)) != MLXR_OK)
        return st;
    ids = calloc(n + 1, sizeof *ids);
    if (!ids) return mlxr_fail_nomem(err, "request");
    for (size_t i = 0; i < n && st == MLXR_OK; i++) {
        const json_t *v = json_array_get(list, i);
        json_int_t id = json_integer_value(v);
        if (!json_is_integer(v) || id < 0 || id > UINT32_MAX)
            st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "request: ids[%zu] must be a token id", i);
        else
            ids[i] = id > INT32_MAX ? -1 : (int32_t)id; /* no token has it */
    }
    from = mlxr_now_ns();
    if (st == MLXR_OK) st = mlxr_tokenizer_decode(&text, &n_text, tok, ids, n, skip, err);
    t->ns += mlxr_now_ns() - from;
    if (st == MLXR_OK) {
        t->n_tokens += n;
        t->n_bytes += n_text;
        mlxr_buf_str(out, "{\"text\": ");
        mlxr_json_escape(out, text, n_text);
        mlxr_buf_str(out, "}\n");
    }
    free(ids);
    mlxr_free(text);
    return st;
}

static void answer(const mlxr_tokenizer *tok, const char *line, size_t n, mlxr_buf *out, totals *t)
{
    mlxr_error err = {0};
    json_t *request = NULL;
    size_t mark = out->len;
    mlxr_status st = mlxr_json_parse(&request, line, n, "request", &err);

    if (st == MLXR_OK && !json_is_object(request))
        st = mlxr_fail(&err, MLXR_E_INVALID_ARGUMENT, "request: it is not an object");
    if (st == MLXR_OK)
        st = json_object_get(request, "text") ? encode(tok, request, out, t, &err)
                                              : decode(tok, request, out, t, &err);
    if (st != MLXR_OK) {
        out->len = mark;
        put_error(out, err.message);
        t->n_errors++;
    }
    t->n_requests++;
    json_decref(request);
}

/* Whether reading now would wait: then what is answered is written first. */
static bool would_wait(void)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&p, 1, 0) == 0;
}

static bool flush(mlxr_buf *out)
{
    size_t n = out->len;
    bool ok = !out->failed && (n == 0 || fwrite(out->data, 1, n, stdout) == n) && fflush(stdout) == 0;
    out->len = 0;
    return ok;
}

static int serve(const mlxr_tokenizer *tok, totals *t)
{
    enum { CHUNK = 1 << 16, FLUSH_AT = 1 << 20 };
    mlxr_buf in = {0}, out = {0};
    size_t done = 0, seen = 0; /* bytes of `in` answered, and searched for a line's end */
    int rc = 0;

    for (;;) {
        char *p;
        const char *nl;
        ssize_t n;
        while (in.len > seen && (nl = memchr(in.data + seen, '\n', in.len - seen)) != NULL) {
            size_t end = (size_t)(nl - in.data);
            if (end > done) answer(tok, in.data + done, end - done, &out, t);
            done = seen = end + 1;
            if (out.len > FLUSH_AT && !flush(&out)) goto broken;
        }
        seen = in.len;
        if (done) {
            memmove(in.data, in.data + done, in.len - done);
            in.len -= done;
            seen -= done;
            done = 0;
        }
        if (out.len && would_wait() && !flush(&out)) goto broken;
        p = mlxr_buf_reserve(&in, CHUNK);
        if (!p) goto broken;
        n = read(STDIN_FILENO, p, CHUNK);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) goto broken;
        if (n == 0) break;
        in.len += (size_t)n;
    }
    if (in.len) answer(tok, in.data, in.len, &out, t);
    if (flush(&out)) goto done;
broken:
    fprintf(stderr, "mlxctl tokenize: %s\n", in.failed || out.failed ? "out of memory" : strerror(errno));
    rc = 1;
done:
    mlxr_buf_clear(&in);
    mlxr_buf_clear(&out);
    return rc;
}

int cmd_tokenize(int argc, char **argv)
{
    const char *model = NULL;
    bool stats = false, usage = false;
    mlxr_tokenizer *tok = NULL;
    mlxr_error err = {0};
    totals t = {0};
    uint64_t from, open_ns;
    int rc;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--stats") == 0)
            stats = true;
        else if (argv[i][0] == '-' && argv[i][1])
            usage = true;
        else if (model)
            usage = true;
        else
            model = argv[i];
    }
    if (!model || usage) {
        fprintf(stderr, "usage: mlxctl tokenize MODEL_DIR [--stats] < requests.jsonl\n");
        return 2;
    }
    from = mlxr_now_ns();
    if (mlxr_tokenizer_open(&tok, model, &err) != MLXR_OK) {
        fprintf(stderr, "mlxctl tokenize: %s\n", err.message);
        return 1;
    }
    open_ns = mlxr_now_ns() - from;
    rc = serve(tok, &t);
    if (stats)
        fprintf(stderr,
                "%zu requests, %zu errors, %zu tokens, %zu bytes; opened in %.1f ms, tokenized in %.1f ms "
                "(%.1f MB/s)\n",
                t.n_requests, t.n_errors, t.n_tokens, t.n_bytes, (double)open_ns / 1e6, (double)t.ns / 1e6,
                t.ns ? (double)t.n_bytes * 1e3 / (double)t.ns : 0.0);
    mlxr_tokenizer_close(tok);
    return rc;
}
