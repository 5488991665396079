/* gate: see gate.h. The rules for hosts and origins are Ollama's. */
#include "serve/gate.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <strings.h>

/* The host of "host", "host:port", "[v6]:port" in out [n]; false: it does not fit. */
static bool host_part(char *out, size_t n, const char *host)
{
    const char *end;

    if (*host == '[') {
        end = strchr(++host, ']');
        if (!end) return false;
    } else {
        const char *colon = strchr(host, ':');
        end = colon && !strchr(colon + 1, ':') ? colon : host + strlen(host);
    }
    if ((size_t)(end - host) >= n) return false;
    memcpy(out, host, (size_t)(end - host));
    out[end - host] = '\0';
    return true;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n > k && strcasecmp(s + n - k, end) == 0;
}

/* Loopback, private, link-local or unspecified: no name that somebody else can point here. */
static bool address_is_near(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (inet_pton(AF_INET, host, &v4) == 1) {
        uint32_t a = ntohl(v4.s_addr);
        return a >> 24 == 127 || a == 0 || a >> 24 == 10 || a >> 20 == 0xac1 || a >> 16 == 0xc0a8 ||
               a >> 16 == 0xa9fe;
    }
    if (inet_pton(AF_INET6, host, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6) || IN6_IS_ADDR_UNSPECIFIED(&v6) || IN6_IS_ADDR_LINKLOCAL(&v6) ||
               (v6.s6_addr[0] & 0xfe) == 0xfc;
    return false;
}

bool mlxr_gate_host_ok(const char *host, const char *own)
{
    char name[256];

    if (!host || !*host) return true; /* HTTP/1.0, Unix sockets: no browser */
    if (!host_part(name, sizeof name, host)) return false;
    return strcasecmp(name, "localhost") == 0 || (own && strcasecmp(name, own) == 0) ||
           ends_with(name, ".localhost") || ends_with(name, ".local") || ends_with(name, ".internal") ||
           address_is_near(name);
}

/* "*" stands for any text. */
static bool matches(const char *pattern, const char *s)
{
    const char *star = NULL, *at = NULL;

    while (*s) {
        if (*pattern == '*') {
            star = ++pattern;
            at = s;
        } else if (*pattern == *s) {
            pattern++;
            s++;
        } else if (star) {
            pattern = star;
            s = ++at;
        } else {
            return false;
        }
    }
    while (*pattern == '*') pattern++;
    return !*pattern;
}

bool mlxr_gate_origin_ok(const char *origin, const mlxr_gate_options *o)
{
    static const char *const schemes[] = {"app://", "file://", "tauri://", "vscode-webview://",
                                          "vscode-file://"};
    static const char *const hosts[] = {"localhost", "127.0.0.1", "0.0.0.0", "[::1]"};

    if (!origin) return true;
    for (size_t i = 0; i < o->n_origins; i++)
        if (matches(o->origins[i], origin)) return true;
    for (size_t i = 0; i < MLXR_COUNT(schemes); i++)
        if (strncmp(origin, schemes[i], strlen(schemes[i])) == 0) return true;
    for (size_t i = 0; i < MLXR_COUNT(hosts); i++) {
        size_t n = strlen(hosts[i]);
        const char *rest = strncmp(origin, "http://", 7) == 0    ? origin + 7
                           : strncmp(origin, "https://", 8) == 0 ? origin + 8
                                                                 : NULL;
        if (!rest || strncmp(rest, hosts[i], n) != 0) continue;
        if (rest[n] == '\0') return true;
        if (rest[n] == ':' && rest[n + 1] && strspn(rest + n + 1, "0123456789") == strlen(rest + n + 1))
            return true;
    }
    return false;
}

static bool same_key(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    unsigned differ = n != m;

    for (size_t i = 0; i < n; i++) differ |= (unsigned char)a[i] ^ (unsigned char)b[m ? i % m : 0];
    return !differ;
}

bool mlxr_gate_key_ok(const char *authorization, const char *x_api_key, const mlxr_gate_options *o)
{
    const mlxr_gate_keys fixed = {o->keys, o->n_keys}, *keys = __atomic_load_n(&o->current, __ATOMIC_ACQUIRE);
    const char *given = x_api_key;
    bool ok = false;

    if (!keys) keys = &fixed;
    if (!keys->n) return true;
    if (authorization && strncasecmp(authorization, "Bearer ", 7) == 0) given = authorization + 7;
    if (!given) return false;
    for (size_t i = 0; i < keys->n; i++) ok |= same_key(given, keys->keys[i]);
    return ok;
}

/* What needs no key: whether the server is there, and well. Both tell nothing of models or users. */
bool mlxr_gate_is_open(const char *path)
{
    return strcmp(path, "/") == 0 || strcmp(path, "/api/health") == 0;
}

mlxr_gate_verdict mlxr_gate_look(const mlxr_request_in *r, const mlxr_gate_options *o, const char *own)
{
    if (o->check_host && !mlxr_gate_host_ok(mlxr_request_header(r, "Host"), own)) return MLXR_GATE_HOST;
    if (!mlxr_gate_origin_ok(mlxr_request_header(r, "Origin"), o)) return MLXR_GATE_ORIGIN;
    if (strcmp(mlxr_request_method(r), "OPTIONS") == 0) return MLXR_GATE_PASS; /* preflights carry no key */
    if (mlxr_gate_is_open(mlxr_request_path(r))) return MLXR_GATE_PASS;
    if (!mlxr_gate_key_ok(mlxr_request_header(r, "Authorization"), mlxr_request_header(r, "x-api-key"), o))
        return MLXR_GATE_KEY;
    return MLXR_GATE_PASS;
}

void mlxr_gate_headers(mlxr_request_in *r)
{
    const char *origin = mlxr_request_header(r, "Origin");

    if (!origin) return;
    mlxr_reply_header(r, "Access-Control-Allow-Origin", origin);
    mlxr_reply_header(r, "Vary", "Origin");
}

bool mlxr_gate_preflight(mlxr_request_in *r)
{
    if (strcmp(mlxr_request_method(r), "OPTIONS") != 0) return false;
    mlxr_reply_header(r, "Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS");
    mlxr_reply_header(
        r, "Access-Control-Allow-Headers",
        "Authorization, Content-Type, User-Agent, Accept, X-Requested-With, OpenAI-Beta, x-api-key, "
        "anthropic-version, anthropic-beta, x-stainless-arch, x-stainless-async, "
        "x-stainless-custom-poll-interval, x-stainless-helper-method, x-stainless-lang, x-stainless-os, "
        "x-stainless-package-version, x-stainless-poll-helper, x-stainless-retry-count, "
        "x-stainless-runtime, x-stainless-runtime-version, x-stainless-timeout");
    mlxr_reply_header(r, "Access-Control-Max-Age", "43200");
    mlxr_reply_text(r, 204, NULL, "");
    return true;
}
