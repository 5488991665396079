/* auth: credentials, challenges and tokens of OCI registries. Follows RFC 7235 (challenges), RFC 7617 (Basic) and the token
 * authentication of https://distribution.github.io/distribution/spec/auth/ (token, oauth). */
#include "store/auth.h"

#include <ctype.h>
#include <pthread.h>
#include <stdlib.h>
#include <strings.h>

#include "base/fs.h"
#include "base/json.h"

enum { MAX_AUTH_FILE = 4 << 20, MAX_TOKEN = 64 << 10, N_TOKENS = 4 };
/* A token is taken to be at its end so much earlier, for requests take time. */
static const uint64_t token_margin_ns = 10ull * 1000000000;
/* What a token server that says nothing means by it. */
static const int64_t token_default_seconds = 60;

/* ---- base64 ---- */

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void base64_encode(mlxr_buf *out, const char *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text;
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)s[i] << 16;
        if (i + 1 < n) v |= (uint32_t)s[i + 1] << 8;
        if (i + 2 < n) v |= s[i + 2];
        mlxr_buf_char(out, base64_digits[v >> 18]);
        mlxr_buf_char(out, base64_digits[v >> 12 & 63]);
        mlxr_buf_char(out, i + 1 < n ? base64_digits[v >> 6 & 63] : '=');
        mlxr_buf_char(out, i + 2 < n ? base64_digits[v & 63] : '=');
    }
}

/* With or without its padding; false: it is none. */
static bool base64_decode(mlxr_buf *out, const char *s)
{
    uint32_t v = 0, n_bits = 0;
    for (; *s && *s != '='; s++) {
        const char *d = strchr(base64_digits, *s);
        if (!d) return false;
        v = v << 6 | (uint32_t)(d - base64_digits);
        n_bits += 6;
        if (n_bits >= 8) mlxr_buf_char(out, (char)(v >> (n_bits -= 8) & 255));
    }
    while (*s == '=') s++;
    return !*s;
}

/* ---- credentials ---- */

void mlxr_credentials_clear(mlxr_credentials *c)
{
    free(c->user);
    free(c->password);
    free(c->identity_token);
    free(c->registry_token);
    free(c->helper);
    *c = (mlxr_credentials){0};
}

bool mlxr_credentials_empty(const mlxr_credentials *c)
{
    return !c->user && !c->identity_token && !c->registry_token && !c->helper;
}

/* How well a key of "auths" fits: 0 not at all, else 1 and the bytes of the repository that it has. */
static size_t key_fits(const char *key, const char *host, const char *repository)
{
    size_t n = strlen(key), n_host = strlen(host), n_path;
    const char *scheme = strstr(key, "://"), *path;

    if (scheme) {
        n -= (size_t)(scheme + 3 - key);
        key = scheme + 3;
    }
    while (n > 0 && key[n - 1] == '/') n--;
    if (n < n_host || strncasecmp(key, host, n_host) != 0) return 0;
    path = key + n_host;
    n_path = n - n_host;
    if (n_path == 0) return 1;
    if (*path != '/') return 0;
    if (n_path == 3 && (memcmp(path, "/v1", 3) == 0 || memcmp(path, "/v2", 3) == 0)) return 1;
    path++;
    n_path--;
    if (strncmp(repository, path, n_path) != 0) return 0;
    return repository[n_path] == '\0' || repository[n_path] == '/' ? 1 + n_path : 0;
}

/* A string of obj, when it is one with something in it. */
static const char *text_of(const json_t *obj, const char *key)
{
    json_t *v = json_object_get(obj, key);
    const char *s = json_string_value(v);
    return s && *s && strlen(s) == json_string_length(v) ? s : NULL;
}

static mlxr_status keep_text(char **out, const char *text, mlxr_error *err)
{
    if (!text) return MLXR_OK;
    *out = mlxr_strdup(text);
    return *out ? MLXR_OK : mlxr_fail_nomem(err, "registry: credentials");
}

static mlxr_status entry_read(mlxr_credentials *out, const json_t *entry, const char *what, const char *key,
                              mlxr_error *err)
{
    mlxr_status st = MLXR_OK;
    mlxr_buf plain = {0};
    const char *auth = text_of(entry, "auth"), *user = text_of(entry, "username"),
               *password = text_of(entry, "password");
    char *colon;

    if (auth) {
        if (!base64_decode(&plain, auth) && !plain.failed) {
            st = mlxr_fail(err, MLXR_E_FORMAT, "registry: %s: \"auth\" of \"%s\" is no base64", what, key);
            goto done;
        }
        if ((st = mlxr_buf_check(&plain, "registry: credentials", err)) != MLXR_OK) goto done;
        while (plain.len > 0 && plain.data[plain.len - 1] == '\0') plain.len--;
        if (plain.len > 0) {
            if (strlen(plain.data) < plain.len || !(colon = strchr(plain.data, ':'))) {
                st = mlxr_fail(err, MLXR_E_FORMAT,
                               "registry: %s: \"auth\" of \"%s\" is not \"user:password\"", what, key);
                goto done;
            }
            *colon = '\0';
            user = plain.data;
            password = colon + 1;
        }
    }
    if ((st = keep_text(&out->identity_token, text_of(entry, "identitytoken"), err)) != MLXR_OK) goto done;
    if ((st = keep_text(&out->registry_token, text_of(entry, "registrytoken"), err)) != MLXR_OK) goto done;
    if (!user || !password) goto done;
    /* This user stands for a password that is an identity token. */
    if (strcmp(user, "<token>") == 0) {
        if (!out->identity_token && *password) st = keep_text(&out->identity_token, password, err);
        goto done;
    }
    if ((st = keep_text(&out->user, user, err)) != MLXR_OK) goto done;
    st = keep_text(&out->password, password, err);
done:
    mlxr_buf_clear(&plain);
    return st;
}

mlxr_status mlxr_credentials_find(mlxr_credentials *out, const char *text, size_t n, const char *what,
                                  const char *host, const char *repository, mlxr_error *err)
{
    mlxr_status st;
    json_t *root = NULL, *entry, *best = NULL;
    const char *key, *best_key = NULL, *helper = NULL;
    size_t best_fit = 0, helper_fit = 0, fit;

    if ((st = mlxr_json_parse(&root, text, n, what, err)) != MLXR_OK) goto done;
    json_object_foreach(json_object_get(root, "auths"), key, entry)
    {
        if (!json_is_object(entry) || (fit = key_fits(key, host, repository)) <= best_fit) continue;
        best_fit = fit;
        best = entry;
        best_key = key;
    }
    if (best && (st = entry_read(out, best, what, best_key, err)) != MLXR_OK) goto done;
    if (!mlxr_credentials_empty(out)) goto done;
    /* An entry with nothing in it says that whatever credsStore names has them. */
    json_object_foreach(json_object_get(root, "credHelpers"), key, entry)
    {
        if ((fit = key_fits(key, host, repository)) <= helper_fit) continue;
        helper_fit = fit;
        helper = text_of(json_object_get(root, "credHelpers"), key);
    }
    if (!helper && best) helper = text_of(root, "credsStore");
    st = keep_text(&out->helper, helper, err);
done:
    if (st != MLXR_OK) mlxr_credentials_clear(out);
    json_decref(root);
    return st;
}

/* ---- challenges ---- */

void mlxr_challenge_clear(mlxr_challenge *c)
{
    free(c->realm);
    free(c->service);
    free(c->scope);
    *c = (mlxr_challenge){0};
}

static bool is_token_char(char c)
{
    return isalnum((unsigned char)c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

/* The better of the two stays in *best, the other is cleared. */
static void challenge_offer(mlxr_challenge *best, mlxr_challenge *c)
{
    if (c->scheme == MLXR_CHALLENGE_BEARER && !c->realm) c->scheme = MLXR_CHALLENGE_NONE;
    if (c->scheme > best->scheme) {
        mlxr_challenge_clear(best);
        *best = *c;
        *c = (mlxr_challenge){0};
    }
    mlxr_challenge_clear(c);
}

/* value of name="value" or name=value at *s, which moves on. */
static mlxr_status parameter_value(mlxr_buf *out, const char **s, mlxr_error *err)
{
    const char *p = *s;
    out->len = 0;
    mlxr_buf_str(out, "");
    if (*p == '"') {
        for (p++; *p && *p != '"'; p++) {
            if (*p == '\\' && p[1]) p++;
            mlxr_buf_char(out, *p);
        }
        if (*p) p++;
    } else {
        for (; *p && *p != ',' && *p != ' ' && *p != '\t'; p++) mlxr_buf_char(out, *p);
    }
    *s = p;
    return mlxr_buf_check(out, "registry: WWW-Authenticate", err);
}

mlxr_status mlxr_challenge_parse(mlxr_challenge *out, const char *value, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;
    mlxr_challenge c = {0};
    mlxr_buf text = {0};
    const char *s = value;

    while (*s) {
        const char *word = s;
        size_t n = 0;
        char **to = NULL;

        if (!is_token_char(*s)) {
            s++;
            continue;
        }
        while (is_token_char(word[n])) n++;
        for (s = word + n; *s == ' ' || *s == '\t';) s++;
        if (*s != '=') { /* a scheme */
            challenge_offer(out, &c);
            if (n == 5 && strncasecmp(word, "Basic", n) == 0) c.scheme = MLXR_CHALLENGE_BASIC;
            if (n == 6 && strncasecmp(word, "Bearer", n) == 0) c.scheme = MLXR_CHALLENGE_BEARER;
            continue;
        }
        for (s++; *s == ' ' || *s == '\t';) s++;
        if ((st = parameter_value(&text, &s, err)) != MLXR_OK) goto done;
        if (n == 5 && strncasecmp(word, "realm", n) == 0) to = &c.realm;
        if (n == 7 && strncasecmp(word, "service", n) == 0) to = &c.service;
        if (n == 5 && strncasecmp(word, "scope", n) == 0) to = &c.scope;
        if (!to || *to) continue;
        if (!(*to = mlxr_strdup(text.data))) {
            st = mlxr_fail_nomem(err, "registry: WWW-Authenticate");
            goto done;
        }
    }
    challenge_offer(out, &c);
done:
    mlxr_challenge_clear(&c);
    mlxr_buf_clear(&text);
    return st;
}

/* ---- one registry ---- */

struct token {
    char *scope, *value; /* "Bearer ..." */
    uint64_t until_ns;
};

struct mlxr_auth {
    pthread_mutex_t mutex; /* guards challenge, tokens, next_token and http */
    mlxr_challenge challenge;
    struct token tokens[N_TOKENS];
    size_t next_token; /* the place that is taken for another scope */
    mlxr_http *http;
    /* fixed */
    char *host, *from; /* from: the file that had the credentials, or NULL */
    bool loopback, insecure;
    mlxr_credentials credentials;
    char *basic; /* "Basic ...", or NULL */
};

static mlxr_status basic_make(char **out, const char *user, const char *password, mlxr_error *err)
{
    mlxr_status st;
    mlxr_buf plain = {0}, text = {0};

    if (strchr(user, ':'))
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "registry: a user's name has no colon: \"%s\"", user);
    mlxr_buf_printf(&plain, "%s:%s", user, password);
    mlxr_buf_str(&text, "Basic ");
    if ((st = mlxr_buf_check(&plain, "registry: credentials", err)) != MLXR_OK) goto done;
    base64_encode(&text, plain.data, plain.len);
    if ((st = mlxr_buf_check(&text, "registry: credentials", err)) != MLXR_OK) goto done;
    *out = mlxr_buf_take(&text, NULL);
done:
    mlxr_buf_clear(&plain);
    mlxr_buf_clear(&text);
    return st;
}

static mlxr_status files_read(mlxr_auth *a, const mlxr_auth_options *o, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;
    mlxr_buf text = {0};

    for (size_t i = 0; i < o->n_files && mlxr_credentials_empty(&a->credentials); i++) {
        mlxr_error why = {0};
        text.len = 0;
        st = mlxr_file_read(&text, o->files[i], MAX_AUTH_FILE, &why);
        if (st == MLXR_OK)
            st = mlxr_credentials_find(&a->credentials, text.data ? text.data : "", text.len, o->files[i],
                                       o->host, o->repository, &why);
        if (st == MLXR_OK && o->alias && mlxr_credentials_empty(&a->credentials))
            st = mlxr_credentials_find(&a->credentials, text.data ? text.data : "", text.len, o->files[i],
                                       o->alias, o->repository, &why);
        /* A file for other things that is broken is no reason not to pull what is public. */
        if (st == MLXR_E_NOMEM) {
            st = mlxr_fail_nomem(err, "registry: credentials");
            goto done;
        }
        if (st != MLXR_OK && st != MLXR_E_NOT_FOUND)
            mlxr_log_at(&o->http.log, MLXR_LOG_WARN, "registry: credentials passed over: %s", why.message);
        st = MLXR_OK;
        if (!mlxr_credentials_empty(&a->credentials) && !(a->from = mlxr_strdup(o->files[i]))) {
            st = mlxr_fail_nomem(err, "registry: credentials");
            goto done;
        }
    }
done:
    mlxr_buf_clear(&text);
    return st;
}

mlxr_status mlxr_auth_create(mlxr_auth **out, const mlxr_auth_options *o, mlxr_error *err)
{
    mlxr_status st;
    mlxr_auth *a = calloc(1, sizeof *a);

    *out = NULL;
    if (!a) return mlxr_fail_nomem(err, "registry: credentials");
    if (pthread_mutex_init(&a->mutex, NULL) != 0) {
        free(a);
        return mlxr_fail_nomem(err, "registry: credentials");
    }
    a->loopback = o->loopback;
    a->insecure = o->insecure;
    if (!(a->host = mlxr_strdup(o->host))) {
        st = mlxr_fail_nomem(err, "registry: credentials");
        goto done;
    }
    if (o->user) {
        if ((st = keep_text(&a->credentials.user, o->user, err)) != MLXR_OK) goto done;
        if ((st = keep_text(&a->credentials.password, o->password ? o->password : "", err)) != MLXR_OK)
            goto done;
    } else if ((st = files_read(a, o, err)) != MLXR_OK) {
        goto done;
    }
    if (a->credentials.user &&
        (st = basic_make(&a->basic, a->credentials.user, a->credentials.password, err)) != MLXR_OK)
        goto done;
    if ((st = mlxr_http_create(&a->http, &o->http, err)) != MLXR_OK) goto done;
    *out = a;
    a = NULL;
done:
    mlxr_auth_free(a);
    return st;
}

void mlxr_auth_free(mlxr_auth *a)
{
    if (!a) return;
    for (size_t i = 0; i < N_TOKENS; i++) {
        free(a->tokens[i].scope);
        free(a->tokens[i].value);
    }
    mlxr_challenge_clear(&a->challenge);
    mlxr_credentials_clear(&a->credentials);
    mlxr_http_free(a->http);
    free(a->basic);
    free(a->host);
    free(a->from);
    pthread_mutex_destroy(&a->mutex);
    free(a);
}

/* ---- tokens ---- */

/* Whether the token server may have credentials: over TLS, or where they do not leave this machine. */
static bool realm_is_safe(const mlxr_auth *a, const char *realm)
{
    if (strncasecmp(realm, "https://", 8) == 0) return true;
    return a->insecure || (a->loopback && mlxr_url_is_loopback(realm));
}

static bool realm_is_url(const char *realm)
{
    if (strncasecmp(realm, "https://", 8) != 0 && strncasecmp(realm, "http://", 7) != 0) return false;
    for (const char *s = realm; *s; s++)
        if ((unsigned char)*s <= ' ' || *s == 127) return false;
    return true;
}

/* name=value behind what is there already. */
static void form_add(mlxr_buf *b, char before, const char *name, const char *value, size_t n,
                     mlxr_buf *scratch)
{
    scratch->len = 0;
    mlxr_buf_append(scratch, value, n);
    mlxr_buf_str(scratch, "");
    if (before) mlxr_buf_char(b, before);
    mlxr_buf_printf(b, "%s=", name);
    if (scratch->data) mlxr_url_encode(b, scratch->data, false);
    if (scratch->failed) b->failed = true;
}

/* service and scopes, as a query (a parameter each) or as a form (one, with spaces). The scope that the registry itself named comes
 * too where ours have not got it. */
static void form_scopes(mlxr_buf *b, const mlxr_auth *a, const char *scope, bool form, char before)
{
    mlxr_buf scratch = {0}, all = {0};
    const char *asked = a->challenge.scope;

    if (a->challenge.service) {
        form_add(b, before, "service", a->challenge.service, strlen(a->challenge.service), &scratch);
        before = '&';
    }
    mlxr_buf_str(&all, scope);
    if (asked && *asked && !strstr(scope, asked)) mlxr_buf_printf(&all, "%s%s", *scope ? " " : "", asked);
    if (all.failed) {
        b->failed = true;
    } else if (form) {
        form_add(b, before, "scope", all.data, all.len, &scratch);
    } else {
        for (const char *s = all.data; *s;) {
            size_t n = strcspn(s, " ");
            if (n > 0) {
                form_add(b, before, "scope", s, n, &scratch);
                before = '&';
            }
            s += n + (s[n] == ' ');
        }
    }
    mlxr_buf_clear(&scratch);
    mlxr_buf_clear(&all);
}

/* {"token" | "access_token", "expires_in"} */
static mlxr_status token_read(char **out, uint64_t *lasts_ns, const mlxr_http_answer *answer,
                              const char *realm, mlxr_error *err)
{
    mlxr_status st;
    json_t *root = NULL;
    const char *token;
    int64_t seconds = token_default_seconds;

    if ((st = mlxr_json_parse(&root, answer->body.data ? answer->body.data : "", answer->body.len,
                              "the token server's answer", err)) != MLXR_OK)
        goto done;
    token = text_of(root, "token");
    if (!token) token = text_of(root, "access_token");
    if (!token || strlen(token) > MAX_TOKEN) {
        st = mlxr_fail(err, MLXR_E_FORMAT, "registry: token server %s: its answer has no \"token\"", realm);
        goto done;
    }
    for (const char *s = token; *s; s++)
        if (*s <= ' ' || *s > '~') {
            st = mlxr_fail(err, MLXR_E_FORMAT,
                           "registry: token server %s: its token has characters that no header has", realm);
            goto done;
        }
    if ((st = mlxr_json_get_int(&seconds, root, "expires_in", INT64_MIN, INT64_MAX,
                                "the token server's answer", err)) != MLXR_OK)
        goto done;
    if (seconds <= 0) seconds = token_default_seconds;
    if (seconds > 24 * 3600) seconds = 24 * 3600;
    *lasts_ns = (uint64_t)seconds * 1000000000;
    if (!(*out = mlxr_asprintf("Bearer %s", token))) st = mlxr_fail_nomem(err, "registry: token");
done:
    json_decref(root);
    return st;
}

/* One request to the token server: with Basic or nothing by GET; an identity token, or a password where GET is not known, by POST. */
static mlxr_status token_request(mlxr_http_answer *answer, mlxr_auth *a, const char *scope, bool post,
                                 mlxr_error *err)
{
    static const char *const form_header[] = {"Content-Type: application/x-www-form-urlencoded"};
    mlxr_status st;
    const char *realm = a->challenge.realm;
    mlxr_buf url = {0}, body = {0}, scratch = {0};
    mlxr_http_request rq = {.max_body = 1 << 20};

    mlxr_buf_append(&url, realm, strcspn(realm, "#"));
    if (post) {
        mlxr_buf_str(&body, "client_id=mlxr");
        if (a->credentials.identity_token) {
            mlxr_buf_str(&body, "&grant_type=refresh_token");
            form_add(&body, '&', "refresh_token", a->credentials.identity_token,
                     strlen(a->credentials.identity_token), &scratch);
        } else {
            mlxr_buf_str(&body, "&grant_type=password");
            form_add(&body, '&', "username", a->credentials.user, strlen(a->credentials.user), &scratch);
            form_add(&body, '&', "password", a->credentials.password, strlen(a->credentials.password),
                     &scratch);
        }
        form_scopes(&body, a, scope, true, '&');
        rq.method = "POST";
        rq.headers = form_header;
        rq.n_headers = 1;
        rq.no_redirects = true; /* the body has what no other host may have */
    } else {
        form_scopes(&url, a, scope, false, strchr(realm, '?') ? '&' : '?');
        if (a->basic && realm_is_safe(a, realm)) rq.authorization = a->basic;
    }
    if ((st = mlxr_buf_check(&url, "registry: token", err)) != MLXR_OK) goto done;
    if ((st = mlxr_buf_check(&body, "registry: token", err)) != MLXR_OK) goto done;
    rq.url = url.data;
    rq.body = body.data;
    rq.n_body = body.len;
    st = mlxr_http_do(answer, a->http, &rq, err);
done:
    mlxr_buf_clear(&url);
    mlxr_buf_clear(&body);
    mlxr_buf_clear(&scratch);
    return st;
}

static mlxr_status token_fetch(char **out, uint64_t *lasts_ns, mlxr_auth *a, const char *scope,
                               mlxr_error *err)
{
    mlxr_status st;
    mlxr_http_answer answer = {0};
    const char *realm = a->challenge.realm;
    bool known = a->credentials.user || a->credentials.identity_token;
    bool post = a->credentials.identity_token != NULL;

    if (!realm_is_url(realm)) {
        st = mlxr_fail(err, MLXR_E_NETWORK, "registry %s: names a token server that is no http(s) url",
                       a->host);
        goto done;
    }
    if (known && !realm_is_safe(a, realm)) {
        st = mlxr_fail(err, MLXR_E_DENIED,
                       "registry %s: wants the credentials sent to %.*s without TLS, which needs --insecure",
                       a->host, (int)strcspn(realm, "?#"), realm);
        goto done;
    }
    if ((st = token_request(&answer, a, scope, post, err)) != MLXR_OK) goto done;
    if ((answer.status == 404 || answer.status == 405) && !post && a->credentials.user) {
        mlxr_http_answer_clear(&answer);
        if ((st = token_request(&answer, a, scope, true, err)) != MLXR_OK) goto done;
    }
    if (answer.status < 200 || answer.status > 299) {
        st = mlxr_http_status_fail(&answer, "token server", err);
        mlxr_error_prefix(err, "registry %s: ", a->host);
        if (st == MLXR_E_DENIED) mlxr_auth_explain(a, err);
        goto done;
    }
    st = token_read(out, lasts_ns, &answer, realm, err);
done:
    mlxr_http_answer_clear(&answer);
    return st;
}

static struct token *token_find(mlxr_auth *a, const char *scope)
{
    for (size_t i = 0; i < N_TOKENS; i++)
        if (a->tokens[i].scope && strcmp(a->tokens[i].scope, scope) == 0) return &a->tokens[i];
    return NULL;
}

/* The scope's place among the tokens, of which the oldest goes for a new one; NULL when out of memory. */
static struct token *token_place(mlxr_auth *a, const char *scope)
{
    struct token *t = token_find(a, scope);
    char *copy;

    if (t) return t;
    if (!(copy = mlxr_strdup(scope))) return NULL;
    t = &a->tokens[a->next_token++ % N_TOKENS];
    free(t->scope);
    t->scope = copy;
    return t;
}

/* A token for the scope that lasts a while yet; borrowed until the mutex is left. */
static mlxr_status token_get(const char **out, mlxr_auth *a, const char *scope, mlxr_error *err)
{
    mlxr_status st;
    struct token *t = token_find(a, scope);
    char *value = NULL;
    uint64_t lasts_ns = 0;

    if (t && t->value && mlxr_now_ns() < t->until_ns) {
        *out = t->value;
        return MLXR_OK;
    }
    if ((st = token_fetch(&value, &lasts_ns, a, scope, err)) != MLXR_OK) goto done;
    if (!(t = token_place(a, scope))) {
        st = mlxr_fail_nomem(err, "registry: token");
        goto done;
    }
    free(t->value);
    t->value = value;
    value = NULL;
    /* One that is short-lived is used for half of its time at least. */
    t->until_ns = mlxr_now_ns() +
                  (lasts_ns > 2 * token_margin_ns ? lasts_ns - token_margin_ns : lasts_ns / 2);
    *out = t->value;
done:
    free(value);
    return st;
}

mlxr_status mlxr_auth_get(char **out, mlxr_auth *a, const char *scope, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;
    const char *value = NULL;

    *out = NULL;
    pthread_mutex_lock(&a->mutex);
    if (a->credentials.registry_token && a->challenge.scheme != MLXR_CHALLENGE_BASIC) {
        if (a->challenge.scheme == MLXR_CHALLENGE_BEARER &&
            !(*out = mlxr_asprintf("Bearer %s", a->credentials.registry_token)))
            st = mlxr_fail_nomem(err, "registry: token");
    } else if (a->challenge.scheme == MLXR_CHALLENGE_BASIC) {
        value = a->basic;
    } else if (a->challenge.scheme == MLXR_CHALLENGE_BEARER) {
        st = token_get(&value, a, scope, err);
    }
    if (st == MLXR_OK && value && !(*out = mlxr_strdup(value))) st = mlxr_fail_nomem(err, "registry: token");
    pthread_mutex_unlock(&a->mutex);
    return st;
}

static void drop(mlxr_auth *a, const char *used)
{
    for (size_t i = 0; used && i < N_TOKENS; i++)
        if (a->tokens[i].value && strcmp(a->tokens[i].value, used) == 0) {
            free(a->tokens[i].value);
            a->tokens[i].value = NULL;
        }
}

void mlxr_auth_drop(mlxr_auth *a, const char *used)
{
    pthread_mutex_lock(&a->mutex);
    drop(a, used);
    pthread_mutex_unlock(&a->mutex);
}

mlxr_status mlxr_auth_refused(bool *again, mlxr_auth *a, const mlxr_http_headers *headers, const char *used,
                              mlxr_error *err)
{
    mlxr_status st = MLXR_OK;
    mlxr_challenge c = {0};

    *again = false;
    for (size_t i = 0; i < headers->n; i++)
        if (strcasecmp(headers->names[i], "WWW-Authenticate") == 0 &&
            (st = mlxr_challenge_parse(&c, headers->values[i], err)) != MLXR_OK)
            goto done;
    pthread_mutex_lock(&a->mutex);
    drop(a, used);
    if (c.scheme != MLXR_CHALLENGE_NONE) {
        mlxr_challenge_clear(&a->challenge);
        a->challenge = c;
        c = (mlxr_challenge){0};
    }
    switch (a->challenge.scheme) {
    case MLXR_CHALLENGE_BASIC: *again = a->basic && (!used || strcmp(used, a->basic) != 0); break;
    case MLXR_CHALLENGE_BEARER: *again = !used || !a->credentials.registry_token; break;
    case MLXR_CHALLENGE_NONE: break;
    }
    pthread_mutex_unlock(&a->mutex);
done:
    mlxr_challenge_clear(&c);
    return st;
}

void mlxr_auth_explain(mlxr_auth *a, mlxr_error *err)
{
    const mlxr_credentials *c = &a->credentials;
    if (c->helper)
        mlxr_error_append(err,
                          " (the credentials for %s are with docker-credential-%s, which is not started from "
                          "here: give --user and --password-stdin)",
                          a->host, c->helper);
    else if (c->user && a->from)
        mlxr_error_append(err, " (as \"%s\" of %s)", c->user, a->from);
    else if (c->user)
        mlxr_error_append(err, " (as \"%s\")", c->user);
    else if (a->from)
        mlxr_error_append(err, " (with the token of %s)", a->from);
    else
        mlxr_error_append(
            err, " (without credentials: no file knows any for %s; give --user and --password-stdin)",
            a->host);
}
