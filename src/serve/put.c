/* put: see put.h. */
#include "serve/put.h"

#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "text/tokenizer/token_bytes.h"

void mlxr_put_string_n(mlxr_buf *out, const char *s, size_t n)
{
    mlxr_json_escape(out, s, mlxr_utf8_valid(s, n));
}

void mlxr_put_string(mlxr_buf *out, const char *s)
{
    if (s)
        mlxr_put_string_n(out, s, strlen(s));
    else
        mlxr_buf_str(out, "null");
}

void mlxr_put_text_member(mlxr_buf *out, const char *key, const char *s)
{
    if (!s) return;
    mlxr_buf_printf(out, ",\"%s\":", key);
    mlxr_put_string(out, s);
}

void mlxr_put_count_member(mlxr_buf *out, const char *key, uint64_t n)
{
    if (n) mlxr_buf_printf(out, ",\"%s\":%llu", key, (unsigned long long)n);
}

void mlxr_put_json_member(mlxr_buf *out, const char *key, const json_t *value)
{
    char *text;

    if (!value || (json_is_array(value) && !json_array_size(value))) return;
    text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    if (text) mlxr_buf_printf(out, ",\"%s\":%s", key, text);
    free(text);
}

static void put_date(mlxr_buf *out, time_t t)
{
    struct tm tm;
    char text[40] = "";

    if (gmtime_r(&t, &tm)) strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    mlxr_buf_str(out, text);
}

void mlxr_put_time(mlxr_buf *out)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    put_date(out, now.tv_sec);
    mlxr_buf_printf(out, ".%09ldZ", now.tv_nsec);
}

void mlxr_put_seconds(mlxr_buf *out, int64_t seconds_since_1970)
{
    put_date(out, (time_t)seconds_since_1970);
    mlxr_buf_char(out, 'Z');
}

static void random_bytes(uint8_t *out, size_t n)
{
    static uint64_t count; /* only where the system gives no randomness: names stay different at least */
    uint64_t seed[2];

    if (getentropy(out, n) == 0) return;
    for (size_t i = 0; i < n; i++) {
        seed[0] = mlxr_now_ns();
        seed[1] = __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
        out[i] = (uint8_t)mlxr_hash_bytes(seed, sizeof seed, i);
    }
}

void mlxr_put_random_hex(mlxr_buf *out, size_t n)
{
    uint8_t bytes[32];

    random_bytes(bytes, sizeof bytes);
    for (size_t i = 0; i < n && i / 2 < sizeof bytes; i++)
        mlxr_buf_char(out, "0123456789abcdef"[bytes[i / 2] >> (4 * (i % 2)) & 15]);
}

void mlxr_put_random_word(mlxr_buf *out, size_t n)
{
    uint8_t bytes[64];

    random_bytes(bytes, sizeof bytes);
    for (size_t i = 0; i < n && i < sizeof bytes; i++)
        mlxr_buf_char(out, "abcdefghijklmnopqrstuvwxyz0123456789"[bytes[i] % 36]);
}

/* A special token is the byte 0xFF and its text. */
static void put_bytes(mlxr_buf *out, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) mlxr_buf_printf(out, i ? ",%u" : "%u", bytes[i]);
}

void mlxr_put_logprob(mlxr_buf *out, const mlxr_tokenizer *tok, int32_t id, double logprob, const char *text,
                      size_t n_text)
{
    mlxr_buf b = {0};
    const char *s;
    size_t n;

    if (tok)
        tok_token_bytes((void *)(uintptr_t)tok, id, &b);
    else
        mlxr_buf_append(&b, text ? text : "", n_text);
    s = b.data ? b.data : "";
    n = b.len;
    if (tok && n && (uint8_t)s[0] == 0xff) {
        s++;
        n--;
    }
    mlxr_buf_str(out, "{\"token\":\"");
    for (size_t at = 0; at < n;) { /* parts of characters show as U+FFFD; "bytes" has them */
        size_t ok = mlxr_utf8_valid(s + at, n - at);
        if (ok) {
            mlxr_buf quoted = {0};
            mlxr_json_escape(&quoted, s + at, ok);
            if (!quoted.failed && quoted.len >= 2) mlxr_buf_append(out, quoted.data + 1, quoted.len - 2);
            mlxr_buf_clear(&quoted);
        }
        at += ok;
        if (at < n) {
            mlxr_buf_str(out, "\xef\xbf\xbd");
            at++;
        }
    }
    mlxr_buf_printf(out, "\",\"logprob\":%.9g,\"bytes\":[", logprob < -1e300 ? -1e300 : logprob);
    put_bytes(out, (const uint8_t *)s, n);
    mlxr_buf_char(out, ']');
    mlxr_buf_clear(&b);
}

void mlxr_put_event_logprob(mlxr_buf *out, const mlxr_tokenizer *tok, const mlxr_event *e, bool with_top)
{
    mlxr_put_logprob(out, tok, e->id, e->logprob, e->text, e->n_text);
    if (e->n_top || with_top) {
        mlxr_buf_str(out, ",\"top_logprobs\":[");
        for (size_t i = 0; i < e->n_top; i++) {
            if (i) mlxr_buf_char(out, ',');
            mlxr_put_logprob(out, tok, e->top[i].id, e->top[i].logprob, NULL, 0);
            mlxr_buf_char(out, '}');
        }
        mlxr_buf_char(out, ']');
    }
    mlxr_buf_char(out, '}');
}
