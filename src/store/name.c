/* name: see name.h. */
#include "store/name.h"

enum { MAX_PART = 128, MAX_WHOLE = 255 /* hosts and namespaces: each is one folder */, MIN_DIGEST_HEX = 8 };

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
    return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'f');
}

static bool same_n(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (lower(a[i]) != lower(b[i])) return false;
    return true;
}

static bool same(const char *a, const char *b)
{
    size_t n = strlen(a);
    return n == strlen(b) && same_n(a, b, n);
}

/* ---- parts ---- */

static bool may_begin(char c)
{
    return is_digit(c) || c == '_' || (lower(c) >= 'a' && lower(c) <= 'z');
}

/* NULL: s[0, n) is a part of a name; else what it is not. */
static const char *part_wrong(const char *s, size_t n)
{
    if (n == 0) return "is empty";
    if (n > MAX_PART) return "is longer than 128 bytes";
    if (!may_begin(s[0])) return "does not begin with a letter, a digit or \"_\"";
    for (size_t i = 1; i < n; i++)
        if (!may_begin(s[i]) && s[i] != '-' && s[i] != '.')
            return "has more in it than letters, digits, \"_\", \"-\" and \".\"";
    return NULL;
}

/* Where the port's colon is, or n. An IPv6 address stands in brackets. */
static size_t host_end(const char *s, size_t n)
{
    size_t i = 0;
    if (n && s[0] == '[')
        while (i < n && s[i] != ']') i++;
    while (i < n && s[i] != ':') i++;
    return i;
}

static bool looks_like_host(const char *s, size_t n)
{
    return memchr(s, '.', n) || memchr(s, ':', n) || (n == 9 && same_n(s, "localhost", 9));
}

static const char *host_wrong(const char *s, size_t n)
{
    size_t end = host_end(s, n), start = 0;

    if (n > MAX_WHOLE) return "is longer than 255 bytes";
    if (end < n) {
        unsigned port = 0;
        size_t n_digits = n - end - 1;
        if (n_digits < 1 || n_digits > 5) return "has a port that is none";
        for (size_t i = end + 1; i < n; i++) {
            if (!is_digit(s[i])) return "has a port that is none";
            port = port * 10 + (unsigned)(s[i] - '0');
        }
        if (port < 1 || port > 65535 || s[end + 1] == '0') return "has a port that is none";
    }
    if (end && s[0] == '[') {
        if (end < 4 || s[end - 1] != ']') return "is no address";
        for (size_t i = 1; i < end - 1; i++)
            if (!is_hex(s[i]) && s[i] != ':' && s[i] != '.') return "is no address";
        return NULL;
    }
    for (size_t i = 0; i <= end; i++) {
        const char *wrong;
        if (i < end && s[i] != '.') continue;
        wrong = part_wrong(s + start, i - start);
        if (wrong) return wrong;
        start = i + 1;
    }
    return NULL;
}

static const char *namespace_wrong(const char *s, size_t n)
{
    size_t start = 0;

    if (n > MAX_WHOLE) return "is longer than 255 bytes";
    for (size_t i = 0; i <= n; i++) {
        const char *wrong;
        if (i < n && s[i] != '/') continue;
        wrong = part_wrong(s + start, i - start);
        if (wrong) return wrong;
        start = i + 1;
    }
    return NULL;
}

/* With zeros after it: equal names are equal bytes. */
static void set_n(char *to, size_t size, const char *s, size_t n)
{
    memset(to, 0, size);
    memcpy(to, s, n);
}
#define set(to, s, n) set_n((to), sizeof(to), (s), (n))

/* A name that would be read as the digest of a model. */
static bool is_like_digest(const mlxr_name *name)
{
    size_t n = strlen(name->tag);

    if (!mlxr_name_is_hub(name) || strcmp(name->namespace_, MLXR_NAME_NAMESPACE) != 0 ||
        !same(name->name, "sha256") || n < MIN_DIGEST_HEX)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!is_hex(name->tag[i])) return false;
    return true;
}

static mlxr_status refuse(mlxr_error *err, const char *text, const char *which, const char *wrong)
{
    return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "name \"%.300s\": the %s %s", text, which, wrong);
}

mlxr_status mlxr_name_parse(mlxr_name *out, const char *text, mlxr_error *err)
{
    const char *last = strrchr(text, '/'), *name = last ? last + 1 : text, *first = strchr(text, '/');
    const char *colon = strchr(name, ':'), *rest = text, *wrong;
    size_t n_name = colon ? (size_t)(colon - name) : strlen(name), n;
    mlxr_name r = {.host = MLXR_NAME_HOST, .tag = MLXR_NAME_TAG};

    *out = (mlxr_name){0};
    if (!*text) return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "name \"\": is empty");
    if (strchr(text, '@'))
        return mlxr_fail(
            err, MLXR_E_INVALID_ARGUMENT,
            "name \"%.300s\": has an \"@\"; a model of this store is found by its digest as sha256:...",
            text);
    if (first && looks_like_host(text, (size_t)(first - text))) {
        n = (size_t)(first - text);
        if ((wrong = host_wrong(text, n)) != NULL) return refuse(err, text, "host", wrong);
        set(r.host, text, n);
        for (size_t i = 0; i < n; i++) r.host[i] = lower(text[i]);
        if (strcmp(r.host, "hf.co") == 0) set(r.host, MLXR_NAME_HOST, strlen(MLXR_NAME_HOST));
        rest = first + 1;
    }
    if (last && rest <= last) {
        n = (size_t)(last - rest);
        if ((wrong = namespace_wrong(rest, n)) != NULL) return refuse(err, text, "namespace", wrong);
        set(r.namespace_, rest, n);
    }
    if (mlxr_name_is_hub(&r) && (!r.namespace_[0] || same(r.namespace_, MLXR_NAME_NAMESPACE)))
        set(r.namespace_, MLXR_NAME_NAMESPACE, strlen(MLXR_NAME_NAMESPACE));
    if ((wrong = part_wrong(name, n_name)) != NULL) return refuse(err, text, "name", wrong);
    set(r.name, name, n_name);
    if (colon) {
        n = strlen(colon + 1);
        if ((wrong = part_wrong(colon + 1, n)) != NULL) return refuse(err, text, "tag", wrong);
        set(r.tag, colon + 1, n);
    }
    if (is_like_digest(&r))
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "name \"%.300s\": is the digest of a model, not a name", text);
    *out = r;
    return MLXR_OK;
}

/* ---- texts ---- */

void mlxr_name_display(mlxr_buf *out, const mlxr_name *name)
{
    const char *ns = name->namespace_;
    size_t n_first = strcspn(ns, "/");

    if (!mlxr_name_is_hub(name) || looks_like_host(ns, n_first)) {
        mlxr_name_full(out, name);
    } else {
        if (strcmp(ns, MLXR_NAME_NAMESPACE) != 0) mlxr_buf_printf(out, "%s/", ns);
        mlxr_buf_printf(out, "%s:%s", name->name, name->tag);
    }
}

void mlxr_name_full(mlxr_buf *out, const mlxr_name *name)
{
    mlxr_buf_printf(out, "%s/%s%s%s:%s", name->host, name->namespace_, name->namespace_[0] ? "/" : "",
                    name->name, name->tag);
}

bool mlxr_name_same(const mlxr_name *a, const mlxr_name *b)
{
    return same(a->host, b->host) && same(a->namespace_, b->namespace_) && same(a->name, b->name) &&
           same(a->tag, b->tag);
}

void mlxr_name_repository(mlxr_buf *out, const mlxr_name *name)
{
    mlxr_buf_printf(out, "%s%s%s", name->namespace_, name->namespace_[0] ? "/" : "", name->name);
}

bool mlxr_name_is_hub(const mlxr_name *name)
{
    return strcmp(name->host, MLXR_NAME_HOST) == 0;
}

/* ---- paths ---- */

void mlxr_name_path(mlxr_buf *out, const mlxr_name *name)
{
    mlxr_buf_printf(out, "%s/", name->host);
    if (!name->namespace_[0]) mlxr_buf_char(out, '-');
    for (const char *s = name->namespace_; *s; s++) mlxr_buf_char(out, *s == '/' ? '+' : *s);
    mlxr_buf_printf(out, "/%s/%s", name->name, name->tag);
}

bool mlxr_name_from_path(mlxr_name *out, const char *path)
{
    const char *at[4];
    size_t n[4], k = 0;
    mlxr_name r = {0};

    *out = (mlxr_name){0};
    at[0] = path;
    for (const char *s = path;; s++) {
        if (*s && *s != '/') continue;
        n[k] = (size_t)(s - at[k]);
        if (++k == 4 || !*s) {
            if (*s || k != 4) return false;
            break;
        }
        at[k] = s + 1;
    }
    if (!looks_like_host(at[0], n[0]) || host_wrong(at[0], n[0])) return false;
    set(r.host, at[0], n[0]);
    for (size_t i = 0; i < n[0]; i++)
        if (r.host[i] != lower(r.host[i])) return false;
    if (strcmp(r.host, "hf.co") == 0) return false;
    if (n[1] == 1 && at[1][0] == '-') {
        if (mlxr_name_is_hub(&r)) return false;
    } else {
        if (n[1] > MAX_WHOLE) return false;
        for (size_t i = 0; i < n[1]; i++) r.namespace_[i] = at[1][i] == '+' ? '/' : at[1][i];
        if (namespace_wrong(r.namespace_, n[1])) return false;
        if (mlxr_name_is_hub(&r) && same(r.namespace_, MLXR_NAME_NAMESPACE) &&
            strcmp(r.namespace_, MLXR_NAME_NAMESPACE) != 0)
            return false;
    }
    if (part_wrong(at[2], n[2]) || part_wrong(at[3], n[3])) return false;
    set(r.name, at[2], n[2]);
    set(r.tag, at[3], n[3]);
    if (is_like_digest(&r)) return false;
    *out = r;
    return true;
}

bool mlxr_digest_valid(const char *digest)
{
    if (strncmp(digest, "sha256:", 7) != 0) return false;
    for (size_t i = 7; i < 71; i++)
        if (!is_digit(digest[i]) && !(digest[i] >= 'a' && digest[i] <= 'f')) return false;
    return digest[71] == '\0';
}
