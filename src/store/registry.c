/* registry: requests to an OCI registry, pulling models from it, and single files for repair. Follows the distribution specification 1.1
 * and, for hosts, what docker does: https, http only on this machine. Pushing is upload.c. */
#include "store/registry.h"

#include <ctype.h>
#include <curl/curl.h>
#include <stdlib.h>
#include <strings.h>

#include "base/fs.h"

/* A host that people write otherwise than its registry is called, and the key that docker keeps its credentials under. */
static const char hub_host[] = "docker.io", hub_api[] = "registry-1.docker.io", hub_key[] = "index.docker.io";

#define MEDIA_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define MEDIA_DOCKER_LIST     "application/vnd.docker.distribution.manifest.list.v2+json"

/* ---- names ---- */

/* Registries take parts of [a-z0-9]+ with single ".", "_", "__" or any number of "-" between. */
mlxr_status mlxr_registry_repository_check(const char *repository, mlxr_error *err)
{
    const char *s = repository;

    for (; *s; s++)
        if (isupper((unsigned char)*s))
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                             "registry: repository \"%s\": registries take no letters in upper case; give "
                             "the model another name there",
                             repository);
    for (s = repository;;) {
        const char *part = s;
        while (*s && *s != '/') {
            size_t n = 0;
            if (islower((unsigned char)*s) || isdigit((unsigned char)*s)) {
                s++;
                continue;
            }
            if (s == part) goto bad; /* begins with a separator */
            if (*s == '-')
                n = strspn(s, "-");
            else if (*s == '.')
                n = 1;
            else if (*s == '_')
                n = s[1] == '_' ? 2 : 1;
            if (n == 0 || !(islower((unsigned char)s[n]) || isdigit((unsigned char)s[n]))) goto bad;
            s += n;
        }
        if (s == part) goto bad;
        if (!*s) break;
        s++;
    }
    if (s - repository > 255)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "registry: repository \"%.40s...\": longer than 255 letters", repository);
    return MLXR_OK;
bad:
    return mlxr_fail(
        err, MLXR_E_INVALID_ARGUMENT,
        "registry: repository \"%s\": registries take parts of a-z and 0-9 with single \".\", \"_\", "
        "\"__\" or \"-\" between them",
        repository);
}

char *mlxr_registry_reference(const mlxr_registry *r, const char *reference)
{
    return mlxr_asprintf("%s/%s%c%s", r->host, r->repository, mlxr_digest_valid(reference) ? '@' : ':',
                         reference);
}

mlxr_status mlxr_registry_reference_split(char **host, char **repository, const char *text, mlxr_error *err)
{
    const char *slash = strchr(text, '/'), *end, *colon; /* the tag's */

    *host = *repository = NULL;
    if (!slash || slash == text || !slash[1])
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "registry: \"%s\" is no model of a registry", text);
    end = slash + strcspn(slash, "@");
    for (colon = end; colon > slash && *colon != ':' && *colon != '/';) colon--;
    if (*colon == ':') end = colon;
    *host = mlxr_strndup(text, (size_t)(slash - text));
    *repository = mlxr_strndup(slash + 1, (size_t)(end - slash - 1));
    if (*host && *repository) return MLXR_OK;
    free(*host);
    free(*repository);
    *host = *repository = NULL;
    return mlxr_fail_nomem(err, "registry: reference");
}

/* ---- urls ---- */

char *mlxr_registry_url(const mlxr_registry *r, const char *fmt, ...)
{
    mlxr_buf b = {0};
    va_list args;
    char path[1024];
    int n;

    va_start(args, fmt);
    n = vsnprintf(path, sizeof path, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof path) return NULL;
    mlxr_buf_printf(&b, "%s/v2/%s/%s", r->base, r->repository, path);
    return mlxr_buf_take(&b, NULL);
}

struct origin {
    char *scheme, *host, *port;
};

static void origin_clear(struct origin *o)
{
    curl_free(o->scheme);
    curl_free(o->host);
    curl_free(o->port);
    *o = (struct origin){0};
}

static bool origin_of(struct origin *out, CURLU *u)
{
    return curl_url_get(u, CURLUPART_SCHEME, &out->scheme, 0) == CURLUE_OK &&
           curl_url_get(u, CURLUPART_HOST, &out->host, 0) == CURLUE_OK &&
           curl_url_get(u, CURLUPART_PORT, &out->port, CURLU_DEFAULT_PORT) == CURLUE_OK;
}

/* Whether the url is of the registry itself: scheme, host and port. */
static bool is_own(const mlxr_registry *r, const char *url)
{
    size_t n = strlen(r->base);
    return strncasecmp(url, r->base, n) == 0 && (url[n] == '/' || url[n] == '?' || url[n] == '\0');
}

mlxr_status mlxr_registry_location(char **out, const mlxr_registry *r, const char *request_url,
                                   const char *location, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;
    CURLU *u = curl_url(), *base = curl_url();
    struct origin there = {0}, own = {0};
    char *url = NULL;

    *out = NULL;
    if (!u || !base) {
        st = mlxr_fail_nomem(err, "registry: url");
        goto done;
    }
    if (curl_url_set(u, CURLUPART_URL, request_url, 0) != CURLUE_OK ||
        curl_url_set(u, CURLUPART_URL, location, 0) != CURLUE_OK ||
        curl_url_set(base, CURLUPART_URL, r->base, 0) != CURLUE_OK || !origin_of(&there, u) ||
        !origin_of(&own, base) ||
        (strcasecmp(there.scheme, "http") != 0 && strcasecmp(there.scheme, "https") != 0)) {
        st = mlxr_fail(err, MLXR_E_NETWORK, "registry %s: a Location that is no http(s) url", r->host);
        goto done;
    }
    if (strcasecmp(there.scheme, own.scheme) != 0 && strcasecmp(there.host, own.host) == 0) {
        bool default_port = strcmp(there.port, strcasecmp(there.scheme, "https") == 0 ? "443" : "80") == 0;
        if (strcmp(there.port, own.port) == 0 || default_port) {
            curl_url_set(u, CURLUPART_SCHEME, own.scheme, 0);
            curl_url_set(u, CURLUPART_PORT, own.port, 0);
            origin_clear(&there);
            if (!origin_of(&there, u)) {
                st = mlxr_fail_nomem(err, "registry: url");
                goto done;
            }
        }
    }
    if (strcasecmp(there.scheme, "http") == 0 && strcasecmp(own.scheme, "https") == 0) {
        st = mlxr_fail(err, MLXR_E_DENIED, "registry %s: wants files sent to %s without TLS", r->host,
                       there.host);
        goto done;
    }
    if (strcasecmp(there.host, own.host) == 0 && strcmp(there.port, own.port) == 0) {
        /* Spelled as base is, so that it is known as the registry's own. */
        char *path = NULL, *query = NULL;
        if (curl_url_get(u, CURLUPART_PATH, &path, 0) == CURLUE_OK) {
            if (curl_url_get(u, CURLUPART_QUERY, &query, 0) != CURLUE_OK) query = NULL;
            *out = mlxr_asprintf("%s%s%s%s", r->base, path, query ? "?" : "", query ? query : "");
        }
        curl_free(path);
        curl_free(query);
    } else if (curl_url_get(u, CURLUPART_URL, &url, 0) == CURLUE_OK) {
        *out = mlxr_strdup(url);
    }
    if (!*out) st = mlxr_fail_nomem(err, "registry: url");
done:
    curl_free(url);
    origin_clear(&there);
    origin_clear(&own);
    curl_url_cleanup(u);
    curl_url_cleanup(base);
    return st;
}

/* ---- requests ---- */

mlxr_status mlxr_registry_do(mlxr_http_answer *out, mlxr_registry *r, mlxr_http *http,
                             const mlxr_http_request *rq, const char *scope, mlxr_error *err)
{
    mlxr_status st;
    mlxr_http_request mine = *rq;
    char *authorization = NULL;

    if (!scope) scope = r->scope;
    /* Unasked, asked, and once more with a new token where one had run out. */
    for (int i_try = 0;; i_try++) {
        bool again = false;
        free(authorization);
        authorization = NULL;
        if (is_own(r, rq->url) && (st = mlxr_auth_get(&authorization, r->auth, scope, err)) != MLXR_OK) break;
        mine.authorization = authorization;
        mlxr_http_answer_clear(out);
        if ((st = mlxr_http_do(out, http, &mine, err)) != MLXR_OK) break;
        if (out->status != 401 || !is_own(r, rq->url)) break;
        if ((st = mlxr_auth_refused(&again, r->auth, &out->headers, authorization, err)) != MLXR_OK) break;
        if (!again || i_try == 2) break;
    }
    free(authorization);
    return st;
}

mlxr_status mlxr_registry_fail(mlxr_registry *r, const mlxr_http_answer *answer, const char *what,
                               mlxr_error *err)
{
    mlxr_status st = mlxr_http_status_fail(answer, what, err);
    mlxr_error_prefix(err, "registry %s/%s: ", r->host, r->repository);
    if (st == MLXR_E_DENIED) mlxr_auth_explain(r->auth, err);
    return st;
}

/* ---- open ---- */

/* Asks scheme://host/v2/ whether somebody talks this scheme there, and learns what it wants for authorization. *other: somebody is
 * there and talks another. */
static mlxr_status probe(bool *other, mlxr_registry *r, const char *scheme, const char *host, bool patient,
                         mlxr_error *err)
{
    mlxr_status st;
    mlxr_http *http = NULL;
    mlxr_http_answer answer = {0};
    char *base = mlxr_asprintf("%s://%s", scheme, host), *url = mlxr_asprintf("%s://%s/v2/", scheme, host);
    mlxr_http_request rq = {.url = url, .no_retries = !patient, .no_redirects = true, .max_body = 1 << 20};
    bool again;

    *other = false;
    if (!base || !url) {
        st = mlxr_fail_nomem(err, "registry: url");
        goto done;
    }
    if ((st = mlxr_http_create(&http, &r->http_options, err)) != MLXR_OK) goto done;
    if ((st = mlxr_http_do(&answer, http, &rq, err)) != MLXR_OK) goto done;
    /* Servers of TLS answer plain requests with 400, if they do, or send them on. */
    if ((answer.status == 400 || answer.status / 100 == 3) && strcmp(scheme, "http") == 0) {
        *other = true;
        st = mlxr_fail(err, MLXR_E_NETWORK, "registry %s: does not talk HTTP without TLS", host);
        goto done;
    }
    if (answer.status == 401 &&
        (st = mlxr_auth_refused(&again, r->auth, &answer.headers, NULL, err)) != MLXR_OK)
        goto done;
    r->base = base;
    base = NULL;
done:
    free(base);
    free(url);
    mlxr_http_answer_clear(&answer);
    mlxr_http_free(http);
    return st;
}

/* The scheme that is left, or meant; what is wrong with it is the caller's to know. */
static mlxr_status probe_for_good(mlxr_registry *r, const char *scheme, const char *host, mlxr_error *err)
{
    bool other;
    mlxr_status st = probe(&other, r, scheme, host, true, err);
    if (st == MLXR_E_NETWORK && err && !r->options->insecure && strcmp(scheme, "https") == 0 &&
        (strstr(err->message, "SSL") || strstr(err->message, "TLS") || strstr(err->message, "certificate")))
        mlxr_error_append(err,
                          " (a registry without TLS, or with a certificate of its own, needs --insecure)");
    return st;
}

static mlxr_status connect_to(mlxr_registry *r, const char *host, bool loopback, mlxr_error *err)
{
    mlxr_status st;
    bool other = false;
    const char *first = loopback ? "http" : "https", *second = loopback ? "https" : "http";

    if (!loopback && !r->options->insecure) return probe_for_good(r, first, host, err);
    /* Either scheme may be meant: each is tried once, and the first with patience when there is nobody. */
    if ((st = probe(&other, r, first, host, false, err)) != MLXR_E_NETWORK) return st;
    if (other) return probe_for_good(r, second, host, err);
    if ((st = probe(&other, r, second, host, false, err)) != MLXR_E_NETWORK) return st;
    return probe_for_good(r, first, host, err);
}

static bool is_host(const char *host)
{
    size_t n = strspn(host, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_:[]");
    return n > 0 && n < 256 && !host[n] && host[0] != '-' && host[0] != ':';
}

mlxr_status mlxr_registry_open(mlxr_registry **out, const char *host, const char *repository, bool push,
                               const mlxr_remote_options *options, const mlxr_store_job *job,
                               const mlxr_log *log, mlxr_error *err)
{
    mlxr_status st;
    mlxr_registry *r = NULL;
    mlxr_auth_options auth = {0};
    char *url = NULL;

    *out = NULL;
    if ((st = mlxr_registry_repository_check(repository, err)) != MLXR_OK) return st;
    /* Not all hosts come from names: a model's config may say where it is from. */
    if (!is_host(host))
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "registry: \"%.255s\" is no host", host);
    if (!(r = calloc(1, sizeof *r))) return mlxr_fail_nomem(err, "registry");
    r->options = options;
    r->job = job;
    r->http_options = mlxr_remote_http_options(options, job, log);
    r->host = mlxr_strdup(host);
    r->repository = mlxr_strdup(repository);
    r->scope = mlxr_asprintf("repository:%s:%s", repository, push ? "pull,push" : "pull");
    url = mlxr_asprintf("http://%s/", host);
    if (!r->host || !r->repository || !r->scope || !url) {
        st = mlxr_fail_nomem(err, "registry");
        goto done;
    }
    auth = (mlxr_auth_options){.host = host,
                               .alias = strcasecmp(host, hub_host) == 0 ? hub_key : NULL,
                               .repository = repository,
                               .loopback = mlxr_url_is_loopback(url),
                               .insecure = options->insecure,
                               .user = options->user,
                               .password = options->password,
                               .files = options->auth_files,
                               .n_files = options->n_auth_files,
                               .http = r->http_options};
    if ((st = mlxr_auth_create(&r->auth, &auth, err)) != MLXR_OK) goto done;
    st = connect_to(r, strcasecmp(host, hub_host) == 0 ? hub_api : host, auth.loopback, err);
    if (st != MLXR_OK) goto done;
    *out = r;
    r = NULL;
done:
    free(url);
    mlxr_registry_close(r);
    return st;
}

void mlxr_registry_close(mlxr_registry *r)
{
    if (!r) return;
    mlxr_auth_free(r->auth);
    free(r->host);
    free(r->base);
    free(r->repository);
    free(r->scope);
    free(r);
}

/* ---- manifests ---- */

static const char *media_of(const json_t *obj, const char *key)
{
    const char *s = json_string_value(json_object_get(obj, key));
    return s ? s : "";
}

static bool is_index(const json_t *doc)
{
    const char *type = media_of(doc, "mediaType");
    if (*type) return strcmp(type, MLXR_MEDIA_INDEX) == 0 || strcmp(type, MEDIA_DOCKER_LIST) == 0;
    return json_is_array(json_object_get(doc, "manifests"));
}

/* Says of a manifest that is not a model what it is; the rest is for mlxr_manifest_parse to judge. */
static mlxr_status check_is_model(const json_t *doc, const char *what, mlxr_error *err)
{
    const char *artifact = media_of(doc, "artifactType"),
               *config = media_of(json_object_get(doc, "config"), "mediaType");

    if (strcmp(artifact, MLXR_MEDIA_ARTIFACT) == 0 || strcmp(config, MLXR_MEDIA_CONFIG) == 0) return MLXR_OK;
    if (strstr(config, ".image.") || strstr(config, ".container."))
        return mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s is a container image (%.100s), not a model", what,
                         config);
    return mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s is not a model of mlxr: it is of type %.100s, not %s", what,
                     *artifact ? artifact
                     : *config ? config
                               : "that it does not tell",
                     MLXR_MEDIA_ARTIFACT);
}

/* The one manifest of an index that can be meant: ours, or the only one. */
static mlxr_status index_choose(char digest[72], const json_t *doc, const char *what, mlxr_error *err)
{
    const json_t *manifests = json_object_get(doc, "manifests"), *one = NULL;
    size_t n_ours = 0, n = json_array_size(manifests);
    const char *text;

    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(manifests, i);
        if (strcmp(media_of(entry, "artifactType"), MLXR_MEDIA_ARTIFACT) != 0) continue;
        one = entry;
        n_ours++;
    }
    if (n_ours == 0 && n == 1) one = json_array_get(manifests, 0);
    if (n_ours > 1 || !one)
        return mlxr_fail(
            err, MLXR_E_UNSUPPORTED,
            "%s is an index of %zu manifests, of which %zu are models; one is wanted: pull it by "
            "its digest or a tag of its own",
            what, n, n_ours);
    text = media_of(one, "digest");
    if (!mlxr_digest_valid(text))
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: its index names a manifest without a sha256 digest", what);
    memcpy(digest, text, 72);
    return MLXR_OK;
}

/* The bytes that a tag or a digest stands for, checked against every digest that is known. */
static mlxr_status manifest_get(mlxr_http_answer *answer, mlxr_registry *r, mlxr_http *http,
                                const char *reference, const char *what, mlxr_error *err)
{
    static const char *const accept[] = {"Accept: " MLXR_MEDIA_MANIFEST ", " MLXR_MEDIA_INDEX
                                         ", " MEDIA_DOCKER_MANIFEST ", " MEDIA_DOCKER_LIST};
    mlxr_status st;
    char *url = mlxr_registry_url(r, "manifests/%s", reference), digest[72] = "sha256:";
    mlxr_http_request rq = {
        .url = url, .headers = accept, .n_headers = 1, .max_body = MLXR_MANIFEST_MAX_BYTES};
    const char *told;

    if (!url) {
        st = mlxr_fail_nomem(err, "registry: url");
        goto done;
    }
    if ((st = mlxr_registry_do(answer, r, http, &rq, NULL, err)) != MLXR_OK) goto done;
    if (answer->status != 200) {
        if (answer->status == 404)
            st = mlxr_fail(err, MLXR_E_NOT_FOUND, "%s: the registry has no such model", what);
        else
            st = mlxr_registry_fail(r, answer, "manifest", err);
        goto done;
    }
    st = mlxr_sha256_hex(digest + 7, answer->body.data ? answer->body.data : "", answer->body.len, err);
    if (st != MLXR_OK) goto done;
    told = mlxr_http_header(&answer->headers, "Docker-Content-Digest");
    if (told && strncmp(told, "sha256:", 7) == 0 && strcmp(told, digest) != 0)
        st = mlxr_fail(err, MLXR_E_CORRUPT, "%s: the manifest's digest is %s, the registry says %.80s", what,
                       digest, told);
    else if (mlxr_digest_valid(reference) && strcmp(reference, digest) != 0)
        st = mlxr_fail(err, MLXR_E_CORRUPT, "%s: the manifest's digest is %s, wanted was %s", what, digest,
                       reference);
done:
    free(url);
    return st;
}

static mlxr_status manifest_fetch(mlxr_manifest *out, mlxr_registry *r, const char *reference,
                                  mlxr_error *err)
{
    mlxr_status st;
    mlxr_http *http = NULL;
    mlxr_http_answer answer = {0};
    json_t *doc = NULL;
    char *what = mlxr_registry_reference(r, reference), digest[72];

    if (!what) return mlxr_fail_nomem(err, "registry: manifest");
    if ((st = mlxr_http_create(&http, &r->http_options, err)) != MLXR_OK) goto done;
    /* An index leads to a manifest, and not to another index. */
    for (int depth = 0; depth < 2; depth++) {
        if ((st = manifest_get(&answer, r, http, depth == 0 ? reference : digest, what, err)) != MLXR_OK)
            goto done;
        json_decref(doc);
        doc = NULL;
        if ((st = mlxr_json_parse(&doc, answer.body.data ? answer.body.data : "", answer.body.len, what,
                                  err)) != MLXR_OK)
            goto done;
        if (depth > 0 || !is_index(doc)) break;
        if ((st = index_choose(digest, doc, what, err)) != MLXR_OK) goto done;
    }
    if ((st = check_is_model(doc, what, err)) != MLXR_OK) goto done;
    st = mlxr_manifest_parse(out, answer.body.data, answer.body.len, what, err);
done:
    json_decref(doc);
    free(what);
    mlxr_http_answer_clear(&answer);
    mlxr_http_free(http);
    return st;
}

/* ---- blobs ---- */

/* Where a blob is got, and with what; kept for the threads of mlxr_fetch_blob. */
struct source {
    mlxr_registry *registry;
    char *url, *authorization;
};

static void source_clear(struct source *s)
{
    free(s->url);
    free(s->authorization);
}

/* A token ran out: HEAD finds out what is wanted now. */
static mlxr_status source_renew(void *ud, const char **url, const char **authorization, mlxr_error *err)
{
    mlxr_status st;
    struct source *s = ud;
    mlxr_http *http = NULL;
    mlxr_http_answer answer = {0};
    mlxr_http_request rq = {.method = "HEAD", .url = s->url};

    mlxr_auth_drop(s->registry->auth, s->authorization);
    if ((st = mlxr_http_create(&http, &s->registry->http_options, err)) != MLXR_OK) goto done;
    if ((st = mlxr_registry_do(&answer, s->registry, http, &rq, NULL, err)) != MLXR_OK) goto done;
    if (answer.status < 200 || answer.status > 299) {
        st = mlxr_registry_fail(s->registry, &answer, "blob", err);
        goto done;
    }
    free(s->authorization);
    s->authorization = NULL;
    if ((st = mlxr_auth_get(&s->authorization, s->registry->auth, s->registry->scope, err)) != MLXR_OK)
        goto done;
    *url = s->url;
    *authorization = s->authorization;
done:
    mlxr_http_answer_clear(&answer);
    mlxr_http_free(http);
    return st;
}

static mlxr_status blob_fetch(mlxr_registry *r, mlxr_session *session, const mlxr_layer *layer, bool replace,
                              mlxr_store_pace *pace, uint64_t *moved, mlxr_error *err)
{
    mlxr_status st;
    struct source source = {.registry = r, .url = mlxr_registry_url(r, "blobs/%s", layer->digest)};
    mlxr_fetch fetch = {0};

    if (!source.url) return mlxr_fail_nomem(err, "registry: url");
    if ((st = mlxr_auth_get(&source.authorization, r->auth, r->scope, err)) != MLXR_OK) goto done;
    fetch = (mlxr_fetch){.url = source.url,
                         .authorization = source.authorization,
                         .renew = source_renew,
                         .renew_ud = &source,
                         .digest = layer->digest,
                         .size = layer->size,
                         .item = layer->path ? layer->path : "config"};
    st = mlxr_fetch_blob(session, &fetch, r->options, replace, pace, moved, err);
done:
    source_clear(&source);
    return st;
}

/* ---- pull ---- */

static int by_size(const void *a, const void *b)
{
    const mlxr_layer *x = *(const mlxr_layer *const *)a, *y = *(const mlxr_layer *const *)b;
    return x->size != y->size ? (x->size > y->size) - (x->size < y->size) : strcmp(x->digest, y->digest);
}

/* The config, by which nothing that is large has to be fetched to see that it is no model. */
static mlxr_status config_check(mlxr_store *store, const mlxr_manifest *m, const char *what, mlxr_error *err)
{
    mlxr_status st;
    mlxr_buf text = {0};
    mlxr_description d = {0};
    char *path = mlxr_store_blob_path(store, m->config.digest);

    if (!path) {
        st = mlxr_fail_nomem(err, "registry: config");
        goto done;
    }
    if ((st = mlxr_file_read(&text, path, MLXR_CONFIG_MAX_BYTES, err)) != MLXR_OK) goto done;
    st = mlxr_description_parse(&d, text.data ? text.data : "", text.len, what, err);
done:
    mlxr_description_clear(&d);
    mlxr_buf_clear(&text);
    free(path);
    return st;
}

/* Layers that are not here, smallest first, each digest once; what is here is wanted and counted. */
static mlxr_status missing_layers(const mlxr_layer ***out, size_t *out_n, mlxr_transfer *t, uint64_t *n_bytes,
                                  mlxr_session *session, const mlxr_manifest *m, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;
    const mlxr_layer **list = mlxr_malloc_array(m->n_layers + 1, sizeof *list);
    size_t n = 0, n_missing = 0;

    if (!list) return mlxr_fail_nomem(err, "registry: layers");
    for (size_t i = 0; i < m->n_layers; i++) list[n++] = &m->layers[i];
    qsort(list, n, sizeof *list, by_size);
    for (size_t i = 0; i < n; i++) {
        const mlxr_layer *layer = list[i];
        bool present;
        if (i > 0 && strcmp(layer->digest, list[i - 1]->digest) == 0) continue;
        if (strcmp(layer->digest, m->config.digest) == 0) continue;
        if ((st = mlxr_session_want(session, layer->digest, layer->size, &present, err)) != MLXR_OK) {
            free(list);
            return st;
        }
        if (present) {
            t->present_bytes += layer->size;
        } else {
            list[n_missing++] = layer;
            *n_bytes += layer->size;
        }
    }
    *out = list;
    *out_n = n_missing;
    return MLXR_OK;
}

/* The config first, then the rest. */
static mlxr_status blobs_pull(mlxr_transfer *t, mlxr_registry *r, mlxr_session *session,
                              const mlxr_manifest *m, const char *what, mlxr_error *err)
{
    mlxr_status st;
    mlxr_store *store = mlxr_session_store(session);
    const mlxr_layer **missing = NULL;
    size_t n_missing = 0;
    uint64_t n_bytes = 0, moved;
    bool has_config;
    mlxr_store_pace pace = {0};

    if (m->config.size > MLXR_CONFIG_MAX_BYTES) {
        st = mlxr_fail(err, MLXR_E_LIMIT, "%s: its config has %llu bytes, %d at most are read", what,
                       (unsigned long long)m->config.size, MLXR_CONFIG_MAX_BYTES);
        goto done;
    }
    st = mlxr_session_want(session, m->config.digest, m->config.size, &has_config, err);
    if (st != MLXR_OK) goto done;
    if (has_config)
        t->present_bytes += m->config.size;
    else
        n_bytes += m->config.size;
    if ((st = missing_layers(&missing, &n_missing, t, &n_bytes, session, m, err)) != MLXR_OK) goto done;
    if ((st = mlxr_store_check_quota(store, n_bytes, err)) != MLXR_OK) goto done;
    if ((st = mlxr_store_pace_init(&pace, r->job, n_bytes, err)) != MLXR_OK) goto done;
    if (!has_config) {
        moved = 0;
        st = blob_fetch(r, session, &m->config, false, &pace, &moved, err);
        t->moved_bytes += moved;
        if (st != MLXR_OK) goto done;
    }
    if ((st = config_check(store, m, what, err)) != MLXR_OK) goto done;
    for (size_t i = 0; i < n_missing; i++) {
        if (mlxr_store_pace_cancelled(&pace)) {
            st = mlxr_fail(err, MLXR_E_CANCELLED, "%s: pull was stopped", what);
            goto done;
        }
        moved = 0;
        st = blob_fetch(r, session, missing[i], false, &pace, &moved, err);
        t->moved_bytes += moved;
        if (st != MLXR_OK) goto done;
    }
done:
    mlxr_store_pace_clear(&pace);
    free(missing);
    return st;
}

mlxr_status mlxr_registry_pull(mlxr_transfer *out, mlxr_store *store, const mlxr_name *from,
                               const mlxr_name *name, const mlxr_remote_options *options,
                               const mlxr_store_job *job, mlxr_error *err)
{
    mlxr_status st;
    mlxr_registry *r = NULL;
    mlxr_session *session = NULL;
    mlxr_manifest m = {0};
    mlxr_transfer t = {0};
    mlxr_buf repository = {0};
    char *what = NULL;

    mlxr_name_repository(&repository, from);
    if ((st = mlxr_buf_check(&repository, "registry: name", err)) != MLXR_OK) goto done;
    if ((st = mlxr_registry_open(&r, from->host, repository.data, false, options, job, &store->log, err)) !=
        MLXR_OK)
        goto done;
    if (!(what = mlxr_registry_reference(r, from->tag))) {
        st = mlxr_fail_nomem(err, "registry: name");
        goto done;
    }
    if ((st = manifest_fetch(&m, r, from->tag, err)) != MLXR_OK) goto done;
    memcpy(t.digest, m.digest, sizeof t.digest);
    t.total_bytes = mlxr_manifest_bytes(&m);
    if ((st = mlxr_session_begin(&session, store, err)) != MLXR_OK) goto done;
    if ((st = blobs_pull(&t, r, session, &m, what, err)) != MLXR_OK) goto done;
    /* Before the name: a model that is there can be repaired. */
    if ((st = mlxr_origin_write(store, m.digest, what, err)) != MLXR_OK) goto done;
    st = mlxr_session_name(session, name, &m, err);
done:
    if (out) *out = t;
    mlxr_session_end(session);
    mlxr_manifest_clear(&m);
    mlxr_registry_close(r);
    mlxr_buf_clear(&repository);
    free(what);
    return st;
}

/* ---- repair ---- */

mlxr_status mlxr_registry_fetch_layer(mlxr_session *s, const char *source, const mlxr_layer *layer,
                                      const mlxr_remote_options *options, mlxr_store_pace *pace,
                                      uint64_t *moved, mlxr_error *err)
{
    mlxr_status st;
    mlxr_registry *r = NULL;
    mlxr_http *http = NULL;
    mlxr_http_answer answer = {0};
    mlxr_http_request rq = {.method = "HEAD"};
    char *host = NULL, *repository = NULL, *url = NULL;

    if ((st = mlxr_registry_reference_split(&host, &repository, source, err)) != MLXR_OK) goto done;
    if ((st = mlxr_registry_open(&r, host, repository, false, options, pace ? pace->job : NULL,
                                 &mlxr_session_store(s)->log, err)) != MLXR_OK)
        goto done;
    if (!(url = mlxr_registry_url(r, "blobs/%s", layer->digest))) {
        st = mlxr_fail_nomem(err, "registry: url");
        goto done;
    }
    /* Asked for first: that brings the authorization, and a clear word when it is not there any more. */
    if ((st = mlxr_http_create(&http, &r->http_options, err)) != MLXR_OK) goto done;
    rq.url = url;
    if ((st = mlxr_registry_do(&answer, r, http, &rq, NULL, err)) != MLXR_OK) goto done;
    if (answer.status < 200 || answer.status > 299) {
        st = mlxr_registry_fail(r, &answer, layer->path ? layer->path : "config", err);
        goto done;
    }
    st = blob_fetch(r, s, layer, true, pace, moved, err);
done:
    mlxr_http_answer_clear(&answer);
    mlxr_http_free(http);
    mlxr_registry_close(r);
    free(host);
    free(repository);
    free(url);
    return st;
}
