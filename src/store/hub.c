/* hub: models of a Hugging Face hub, or of what speaks its protocol (HF_ENDPOINT). https://huggingface.co/docs/hub/api
 *
 *   GET /api/models/REPO/revision/REV?blobs=true          commit, and files with sizes and digests
 *   GET /api/models/REPO/tree/COMMIT?recursive=true       the files again, where the first tells no digests; pages by Link
 *   HEAD /REPO/resolve/COMMIT/PATH                        size and digest of a file, where neither tells them
 *   GET /REPO/resolve/COMMIT/PATH                         a file; large ones redirect to where they lie
 *
 * A file of LFS is known by its SHA-256, so what the store has is not fetched. Others are small, known by the SHA-1 that git gives
 * them, and become blobs when that is right. What was got is put together as a folder of links and looked at as import does,
 * before a name stands for it. */
#include <errno.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "store/bring.h"
#include "store/hub.h"
#include "store/keep.h"
#include "store/remote.h"

enum {
    MAX_INFO_BYTES = 128 << 20,
    MAX_SMALL_BYTES = 128 << 20, /* of a file that is not LFS */
    MAX_PAGES = 1000,
    MAX_LISTED = 12 /* in a message */
};

typedef struct hub {
    mlxr_store *store;
    const mlxr_remote_options *o;
    mlxr_http *http;
    char *repo; /* "org/name", as messages call it */
    char *url;  /* endpoint without a slash at its end */
    char *authorization;
    char *revision;
    mlxr_hub_list list;
    mlxr_session *session;
    mlxr_store_pace pace;
    bool paced;
    mlxr_transfer t;
} hub;

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n > k && strcasecmp(s + n - k, end) == 0;
}

/* ---- which files ---- */

/* The config of a step of a sentence-transformers model: "1_Pooling/config.json". */
static bool is_module_config(const char *path)
{
    size_t n = strspn(path, "0123456789");

    if (n == 0 || path[n] != '_') return false;
    n += strcspn(path + n, "/");
    return strcmp(path + n, "/config.json") == 0;
}

bool mlxr_hub_wants(const char *path)
{
    static const char *const names[] = {"config.json",
                                        "generation_config.json",
                                        "model.safetensors.index.json",
                                        "tokenizer.json",
                                        "tokenizer_config.json",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "vocab.json",
                                        "chat_template.json",
                                        "processor_config.json",
                                        "preprocessor_config.json",
                                        "modules.json",
                                        "sentence_bert_config.json",
                                        "config_sentence_transformers.json",
                                        "mlxr.json",
                                        "tokenizer.model",
                                        "vocab.txt",
                                        "merges.txt"};
    static const char templates[] = "additional_chat_templates/";

    if (is_module_config(path)) return true;
    if (strncmp(path, templates, sizeof templates - 1) == 0)
        return !strchr(path + sizeof templates - 1, '/') && path[sizeof templates - 1] != '.' &&
               ends_with(path, ".jinja");
    if (strchr(path, '/') || path[0] == '.') return false;
    for (size_t i = 0; i < MLXR_COUNT(names); i++)
        if (strcmp(path, names[i]) == 0) return true;
    if (ends_with(path, ".safetensors")) return strncasecmp(path, "consolidated", 12) != 0;
    return ends_with(path, ".jinja") || strncasecmp(path, "license", 7) == 0 ||
           strncasecmp(path, "licence", 7) == 0;
}

static mlxr_hub_file *find_file(hub *h, const char *path)
{
    for (size_t i = 0; i < h->list.n; i++)
        if (strcmp(h->list.v[i].path, path) == 0) return &h->list.v[i];
    return NULL;
}

static bool has_ending(const hub *h, const char *end)
{
    for (size_t i = 0; i < h->list.n; i++)
        if (ends_with(h->list.v[i].path, end)) return true;
    return false;
}

/* "a.gguf (4.1 GB), b.gguf (2.0 GB)" */
static void list_files(mlxr_buf *out, const hub *h, const char *end)
{
    size_t n = 0;

    for (size_t i = 0; i < h->list.n; i++) {
        if (!ends_with(h->list.v[i].path, end)) continue;
        if (n == MAX_LISTED) {
            mlxr_buf_str(out, " ...");
            return;
        }
        mlxr_buf_printf(out, "%s%.200s (%.1f MB)", n++ ? ", " : "", h->list.v[i].path,
                        (double)h->list.v[i].size / 1e6);
    }
}

/* Why there are no weights to take. */
static mlxr_status no_weights(const hub *h, mlxr_error *err)
{
    static const char *const torch[] = {".bin", ".pt", ".pth", ".ckpt"};
    mlxr_buf list = {0};
    mlxr_status st;

    if (has_ending(h, ".gguf")) {
        list_files(&list, h, ".gguf");
        if ((st = mlxr_buf_check(&list, h->repo, err)) != MLXR_OK) goto done;
        st = mlxr_fail(err, MLXR_E_UNSUPPORTED,
                       "%s: has weights as GGUF only; choose one of its files with --file: %s", h->repo,
                       list.data);
        goto done;
    }
    for (size_t i = 0; i < MLXR_COUNT(torch); i++) {
        if (!has_ending(h, torch[i])) continue;
        list_files(&list, h, torch[i]);
        if ((st = mlxr_buf_check(&list, h->repo, err)) != MLXR_OK) goto done;
        st = mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s: has no *.safetensors, only weights of PyTorch: %s",
                       h->repo, list.data);
        goto done;
    }
    st = mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s: has no weights (*.safetensors)", h->repo);
done:
    mlxr_buf_clear(&list);
    return st;
}

/* ---- requests ---- */

static mlxr_status hub_open(hub *h, mlxr_store *store, const mlxr_name *from, const char *revision,
                            const mlxr_remote_options *options, const mlxr_store_job *job, mlxr_error *err)
{
    mlxr_http_options http = mlxr_remote_http_options(options, job, &store->log);
    const char *endpoint = options->hub_endpoint ? options->hub_endpoint : "https://" MLXR_NAME_HOST;
    size_t n = strlen(endpoint);
    mlxr_buf repo = {0};
    mlxr_status st;

    h->store = store;
    h->o = options;
    /* the first models had no namespace, and can still be asked for without one */
    if (strcmp(from->namespace_, MLXR_NAME_NAMESPACE) == 0)
        mlxr_buf_str(&repo, from->name);
    else
        mlxr_name_repository(&repo, from);
    while (n > 0 && endpoint[n - 1] == '/') n--;
    h->repo = mlxr_buf_take(&repo, NULL);
    h->url = mlxr_strndup(endpoint, n);
    h->revision = mlxr_strdup(revision);
    if (options->hub_token && *options->hub_token) {
        h->authorization = mlxr_asprintf("Bearer %s", options->hub_token);
        if (!h->authorization) return mlxr_fail_nomem(err, "hub");
    }
    if (!h->repo || !h->url || !h->revision) return mlxr_fail_nomem(err, "hub");
    if ((st = mlxr_store_pace_init(&h->pace, job, 0, err)) != MLXR_OK) return st;
    h->paced = true;
    return mlxr_http_create(&h->http, &http, err);
}

static void hub_close(hub *h)
{
    mlxr_hub_list_clear(&h->list);
    mlxr_session_end(h->session);
    if (h->paced) mlxr_store_pace_clear(&h->pace);
    mlxr_http_free(h->http);
    free(h->repo);
    free(h->url);
    free(h->authorization);
    free(h->revision);
}

/* What can be done about a refusal. */
static void add_advice(const hub *h, int status, const char *code, mlxr_error *err)
{
    if (!code) code = "";
    if (status == 401 && h->authorization)
        mlxr_error_append(err, "; the token (HF_TOKEN) was not accepted, or its account may not see %s",
                          h->repo);
    else if (status == 401)
        mlxr_error_append(
            err,
            "; either there is no %s, or it is private or gated: then set HF_TOKEN to a token of an account "
            "that may read it",
            h->repo);
    else if (status == 403 && !h->authorization)
        mlxr_error_append(err, "; accept its terms at %s/%s, and set HF_TOKEN to a token of that account",
                          h->url, h->repo);
    else if (status == 403)
        mlxr_error_append(
            err, "; accept its terms at %s/%s with the account of the token, or use a token that may read it",
            h->url, h->repo);
    else if (status == 404 && strcmp(code, "RevisionNotFound") == 0)
        mlxr_error_append(err, "; %s has no revision \"%s\"", h->repo, h->revision);
    else if (status == 404)
        mlxr_error_append(
            err, "; look for the name at %s: a model is called \"org/name\", as in: mlxctl pull org/name",
            h->url);
}

static mlxr_status hub_fail(const hub *h, const mlxr_http_answer *a, const char *what, mlxr_error *err)
{
    mlxr_status st = mlxr_http_status_fail(a, what, err);

    add_advice(h, a->status, mlxr_http_header(&a->headers, "X-Error-Code"), err);
    return st;
}

/* 200 with its body, or a failure. */
static mlxr_status hub_get(mlxr_http_answer *a, hub *h, const char *url, const char *what, size_t max_body,
                           mlxr_error *err)
{
    mlxr_http_request q = {.url = url, .authorization = h->authorization, .max_body = max_body};
    mlxr_status st = mlxr_http_do(a, h->http, &q, err);

    h->t.moved_bytes += a->n_received;
    if (st == MLXR_OK && a->status != 200) st = hub_fail(h, a, what, err);
    return st;
}

static char *api_url(const hub *h, const char *kind, const char *revision, const char *query)
{
    mlxr_buf b = {0};

    mlxr_buf_printf(&b, "%s/api/models/", h->url);
    mlxr_url_encode(&b, h->repo, true);
    mlxr_buf_printf(&b, "/%s/", kind);
    mlxr_url_encode(&b, revision, false);
    mlxr_buf_str(&b, query);
    return mlxr_buf_take(&b, NULL);
}

static char *file_url(const hub *h, const char *path)
{
    mlxr_buf b = {0};

    mlxr_buf_printf(&b, "%s/", h->url);
    mlxr_url_encode(&b, h->repo, true);
    mlxr_buf_printf(&b, "/resolve/%s/", h->list.commit);
    mlxr_url_encode(&b, path, true);
    return mlxr_buf_take(&b, NULL);
}

/* ---- the list of files ---- */

static mlxr_status read_tree(hub *h, mlxr_error *err)
{
    char *url = api_url(h, "tree", h->list.commit, "?recursive=true");
    mlxr_http_answer a = {0};
    mlxr_status st = url ? MLXR_OK : mlxr_fail_nomem(err, "hub");

    for (size_t n_pages = 0; url && st == MLXR_OK; n_pages++) {
        if (n_pages == MAX_PAGES) {
            st = mlxr_fail(err, MLXR_E_LIMIT, "%s: the list of its files has more than %d pages", h->repo,
                           MAX_PAGES);
            break;
        }
        if ((st = hub_get(&a, h, url, h->repo, MAX_INFO_BYTES, err)) != MLXR_OK) break;
        st = mlxr_hub_list_tree(&h->list, a.body.data ? a.body.data : "", a.body.len, h->repo, err);
        free(url);
        url = mlxr_hub_link_next(&a.headers);
        if (st == MLXR_OK && url && !mlxr_url_same_origin(url, h->url)) /* the token goes with it */
            st = mlxr_fail(err, MLXR_E_NETWORK, "%s: the list of its files goes on at another host", h->repo);
    }
    mlxr_http_answer_clear(&a);
    free(url);
    return st;
}

/* The digest that a header tells as an entity tag: quotes and "W/" go. false: it is neither a SHA-256 nor git's. */
static bool take_etag(mlxr_hub_file *f, const char *etag)
{
    char hex[65];
    size_t n;

    if (!etag) return false;
    if (strncmp(etag, "W/", 2) == 0) etag += 2;
    if (*etag == '"') etag++;
    n = strspn(etag, "0123456789abcdef");
    if ((n != 40 && n != 64) || (etag[n] && etag[n] != '"')) return false;
    memcpy(hex, etag, n);
    hex[n] = '\0';
    f->lfs = n == 64;
    if (f->lfs) {
        memcpy(f->digest, "sha256:", sizeof "sha256:");
        memcpy(f->digest + 7, hex, sizeof hex);
    } else {
        memcpy(f->git_id, hex, sizeof f->git_id);
    }
    return true;
}

static bool take_size(mlxr_hub_file *f, const char *text)
{
    size_t n = text ? strspn(text, "0123456789") : 0;

    if (n == 0 || n > 18 || text[n]) return false;
    f->size = strtoull(text, NULL, 10);
    return true;
}

/* As the official client asks: the answer of the hub itself, before it leads elsewhere, has X-Linked-... for files of LFS. */
static mlxr_status ask_file(hub *h, mlxr_hub_file *f, mlxr_error *err)
{
    char *url = file_url(h, f->path);
    mlxr_http_answer a = {0};
    mlxr_http_request q = {
        .method = "HEAD", .url = url, .authorization = h->authorization, .no_redirects = true};
    mlxr_status st;
    bool linked;

    if (!url) return mlxr_fail_nomem(err, "hub");
    if ((st = mlxr_http_do(&a, h->http, &q, err)) != MLXR_OK) goto done;
    if (a.status >= 300 && a.status < 400 && !mlxr_http_header(&a.headers, "X-Linked-Etag")) {
        q.no_redirects = false;
        mlxr_http_answer_clear(&a);
        if ((st = mlxr_http_do(&a, h->http, &q, err)) != MLXR_OK) goto done;
    }
    if (a.status < 200 || a.status >= 400) {
        st = hub_fail(h, &a, f->path, err);
        goto done;
    }
    linked = mlxr_http_header(&a.headers, "X-Linked-Etag") != NULL;
    if (!take_etag(f, mlxr_http_header(&a.headers, linked ? "X-Linked-Etag" : "ETag")))
        st = mlxr_fail(err, MLXR_E_NETWORK, "%s: the hub does not tell by what digest %s can be checked",
                       h->repo, f->path);
    else if (!take_size(f, mlxr_http_header(&a.headers, linked ? "X-Linked-Size" : "Content-Length")))
        st = mlxr_fail(err, MLXR_E_NETWORK, "%s: the hub does not tell how large %s is", h->repo, f->path);
done:
    mlxr_http_answer_clear(&a);
    free(url);
    return st;
}

/* The files that may be of the model, one by one. */
static mlxr_status ask_files(hub *h, mlxr_error *err)
{
    for (size_t i = 0; i < h->list.n; i++) {
        mlxr_hub_file *f = &h->list.v[i];
        bool wanted = h->o->file ? strcmp(f->path, h->o->file) == 0 : mlxr_hub_wants(f->path);
        mlxr_status st;
        if (!wanted || (f->size != UINT64_MAX && (f->lfs || f->git_id[0]))) continue;
        if ((st = ask_file(h, f, err)) != MLXR_OK) return st;
    }
    return MLXR_OK;
}

static mlxr_status read_info(hub *h, mlxr_error *err)
{
    char *url = api_url(h, "revision", h->revision, "?blobs=true");
    mlxr_http_answer a = {0};
    mlxr_status st;

    if (!url) return mlxr_fail_nomem(err, "hub");
    if ((st = hub_get(&a, h, url, h->repo, MAX_INFO_BYTES, err)) != MLXR_OK) goto done;
    st = mlxr_hub_list_info(&h->list, a.body.data ? a.body.data : "", a.body.len, h->repo, err);
    if (st != MLXR_OK) goto done;
    if (!mlxr_hub_list_complete(&h->list)) {
        mlxr_hub_list names = h->list;
        h->list.v = NULL;
        h->list.n = h->list.cap = 0;
        st = read_tree(h, err);
        /* A hub without that call has the names at least. */
        if (names.n > 0 &&
            (st == MLXR_E_NOT_FOUND || st == MLXR_E_NETWORK || (st == MLXR_OK && h->list.n == 0))) {
            mlxr_hub_list_clear(&h->list);
            h->list = names;
            names = (mlxr_hub_list){0};
            st = MLXR_OK;
        }
        mlxr_hub_list_clear(&names);
        if (st == MLXR_OK) st = ask_files(h, err);
    }
done:
    mlxr_http_answer_clear(&a);
    free(url);
    return st;
}

/* ---- files ---- */

/* git's name of n bytes: SHA-1 of "blob N", a NUL and the bytes. */
static bool git_id_is(const char *id, const void *data, size_t n)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned n_sum = 0;
    char head[32], hex[41];
    int n_head = snprintf(head, sizeof head, "blob %zu", n);
    bool ok = ctx && EVP_DigestInit_ex(ctx, EVP_sha1(), NULL) &&
              EVP_DigestUpdate(ctx, head, (size_t)n_head + 1) && EVP_DigestUpdate(ctx, data, n) &&
              EVP_DigestFinal_ex(ctx, sum, &n_sum) && n_sum == 20;

    EVP_MD_CTX_free(ctx);
    if (!ok) return false;
    for (unsigned i = 0; i < 20; i++) snprintf(hex + 2 * i, 3, "%02x", sum[i]);
    return strcmp(hex, id) == 0;
}

/* The same file of the model that has the name now, by git's name: it is not fetched again. */
static void reuse_small(hub *h, mlxr_hub_file *f, const mlxr_manifest *old)
{
    const mlxr_layer *layer = mlxr_manifest_find(old, f->path);
    char *path;
    mlxr_buf text = {0};
    bool present = false;

    if (!layer || layer->size != f->size || !f->git_id[0]) return;
    path = mlxr_store_blob_path(h->store, layer->digest);
    if (path && mlxr_file_read(&text, path, MAX_SMALL_BYTES, NULL) == MLXR_OK &&
        git_id_is(f->git_id, text.data ? text.data : "", text.len) &&
        mlxr_session_want(h->session, layer->digest, layer->size, &present, NULL) == MLXR_OK && present) {
        memcpy(f->digest, layer->digest, sizeof f->digest);
        h->t.present_bytes += f->size;
    }
    mlxr_buf_clear(&text);
    free(path);
}

/* A file that is not LFS: fetched as a whole, checked by git's name. text (may be NULL; init to {0}) gets it. */
static mlxr_status fetch_small(hub *h, mlxr_hub_file *f, mlxr_error *err)
{
    char *url = file_url(h, f->path);
    mlxr_http_answer a = {0};
    mlxr_layer layer = {0};
    mlxr_status st;

    if (!url) return mlxr_fail_nomem(err, "hub");
    if (f->size > MAX_SMALL_BYTES) {
        st = mlxr_fail(err, MLXR_E_LIMIT, "%s: %s has %llu bytes and is not kept by LFS, which is too much",
                       h->repo, f->path, (unsigned long long)f->size);
        goto done;
    }
    st = mlxr_store_pace_add(&h->pace, "pulling", f->path, 0, 0, f->size, err);
    if (st != MLXR_OK) goto done;
    if ((st = hub_get(&a, h, url, f->path, (size_t)f->size + (64 << 10), err)) != MLXR_OK) goto done;
    if (a.body.len != f->size) {
        st = mlxr_fail(err, MLXR_E_CORRUPT, "%s: %s has %zu bytes, %llu are wanted", h->repo, f->path,
                       a.body.len, (unsigned long long)f->size);
        goto done;
    }
    if (!git_id_is(f->git_id, a.body.data ? a.body.data : "", a.body.len)) {
        st = mlxr_fail(err, MLXR_E_CORRUPT, "%s: %s is not what its commit has (git blob %s)", h->repo,
                       f->path, f->git_id);
        goto done;
    }
    if ((st = mlxr_session_put(h->session, &layer, a.body.data ? a.body.data : "", a.body.len, err)) !=
        MLXR_OK)
        goto done;
    memcpy(f->digest, layer.digest, sizeof f->digest);
    free(layer.path);
    free(layer.media_type);
    st = mlxr_store_pace_add(&h->pace, "pulling", f->path, f->size, f->size, f->size, err);
done:
    mlxr_http_answer_clear(&a);
    free(url);
    return st;
}

static mlxr_status fetch_large(hub *h, const mlxr_hub_file *f, bool replace, mlxr_store_pace *pace,
                               mlxr_error *err)
{
    char *url = file_url(h, f->path);
    mlxr_fetch fetch = {
        .url = url, .authorization = h->authorization, .digest = f->digest, .size = f->size, .item = f->path};
    mlxr_status st;

    if (!url) return mlxr_fail_nomem(err, "hub");
    st = mlxr_fetch_blob(h->session, &fetch, h->o, replace, pace, &h->t.moved_bytes, err);
    if (st == MLXR_E_DENIED && err && strstr(err->message, " answered "))
        add_advice(h, strstr(err->message, "answered 401") ? 401 : 403, NULL, err);
    free(url);
    return st;
}

/* ---- which weights ---- */

/* The shards that the index names are chosen; *n: how many of them there are. */
static mlxr_status choose_shards(hub *h, const char *index_digest, size_t *n, mlxr_error *err)
{
    char *path = mlxr_store_blob_path(h->store, index_digest);
    const char *tensor, *missing = NULL;
    json_t *root = NULL;
    const json_t *map;
    json_t *file;
    mlxr_status st;

    *n = 0;
    if (!path) return mlxr_fail_nomem(err, "hub");
    if ((st = mlxr_json_read(&root, path, MAX_SMALL_BYTES, err)) != MLXR_OK) goto done;
    map = json_object_get(root, "weight_map");
    json_object_foreach((json_t *)(uintptr_t)map, tensor, file)
    {
        const char *name = json_string_value(file);
        mlxr_hub_file *f = name && mlxr_hub_wants(name) && ends_with(name, ".safetensors")
                               ? find_file(h, name)
                               : NULL;
        if (!f) {
            if (!missing) missing = name ? name : "?";
        } else if (!f->chosen) {
            f->chosen = true;
            ++*n;
        }
    }
    if (*n > 0 && missing) {
        st = mlxr_fail(err, MLXR_E_FORMAT,
                       "%s: model.safetensors.index.json names \"%.200s\", which is not there", h->repo,
                       missing);
    }
done:
    json_decref(root);
    free(path);
    return st;
}

/* As mlxr_checkpoint_open would take them from a folder. */
static mlxr_status choose_weights(hub *h, mlxr_error *err)
{
    mlxr_hub_file *index = find_file(h, "model.safetensors.index.json"),
                  *single = find_file(h, "model.safetensors");
    size_t n = 0;
    mlxr_status st;

    if (index) {
        if (!index->digest[0] || index->lfs) {
            st = index->lfs ? fetch_large(h, index, false, &h->pace, err) : fetch_small(h, index, err);
            if (st != MLXR_OK) return st;
        }
        if ((st = choose_shards(h, index->digest, &n, err)) != MLXR_OK) return st;
        if (n > 0) return MLXR_OK;
    }
    if (single) {
        single->chosen = true;
        return MLXR_OK;
    }
    for (size_t i = 0; i < h->list.n; i++) {
        mlxr_hub_file *f = &h->list.v[i];
        if (!mlxr_hub_wants(f->path) || !ends_with(f->path, ".safetensors") ||
            strncmp(f->path, "model", 5) != 0)
            continue;
        f->chosen = true;
        n++;
    }
    return n > 0 ? MLXR_OK : no_weights(h, err);
}

static mlxr_status choose(hub *h, mlxr_error *err)
{
    mlxr_status st;

    /* said before anything is fetched */
    if (!has_ending(h, ".safetensors")) return no_weights(h, err);
    if (!find_file(h, "config.json"))
        return mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s: has no config.json, so it is no model that can be run",
                         h->repo);
    if ((st = choose_weights(h, err)) != MLXR_OK) return st;
    for (size_t i = 0; i < h->list.n; i++) {
        mlxr_hub_file *f = &h->list.v[i];
        if (mlxr_hub_wants(f->path) && !ends_with(f->path, ".safetensors")) f->chosen = true;
        if (f->chosen && (f->size == UINT64_MAX || (!f->lfs && !f->git_id[0])))
            return mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s: the hub tells no digest of %s", h->repo, f->path);
    }
    return MLXR_OK;
}

/* ---- the model ---- */

/* What is missing, small files first: a model whose config cannot be had is not worth its weights. */
static mlxr_status fetch_chosen(hub *h, mlxr_error *err)
{
    uint64_t missing = 0;
    mlxr_status st;

    for (size_t i = 0; i < h->list.n; i++) {
        mlxr_hub_file *f = &h->list.v[i];
        if (!f->chosen || (!f->lfs && f->digest[0])) continue;
        if (f->lfs && (st = mlxr_session_want(h->session, f->digest, f->size, &f->present, err)) != MLXR_OK)
            return st;
        if (f->present) {
            h->t.present_bytes += f->size;
        } else {
            missing += f->size;
        }
    }
    if ((st = mlxr_store_check_quota(h->store, missing, err)) != MLXR_OK) return st;
    h->pace.total_all = h->pace.done_all + missing;
    for (int large = 0; large < 2; large++)
        for (size_t i = 0; i < h->list.n; i++) {
            mlxr_hub_file *f = &h->list.v[i];
            if (!f->chosen || f->present || f->lfs != (large == 1) || (!f->lfs && f->digest[0])) continue;
            st = f->lfs ? fetch_large(h, f, false, &h->pace, err) : fetch_small(h, f, err);
            if (st != MLXR_OK) return st;
        }
    return MLXR_OK;
}

mlxr_status mlxr_hub_link(const mlxr_store *store, const char *dir, const char *path, const char *digest,
                          mlxr_error *err)
{
    char *blob = mlxr_store_blob_path(store, digest), *real = NULL, *link = mlxr_path_join(dir, path),
         *parent = NULL;
    mlxr_status st;

    if (link) parent = mlxr_path_dirname(link);
    if (!blob || !parent) {
        st = mlxr_fail_nomem(err, "hub");
    } else if (!(real = realpath(blob, NULL))) {
        st = mlxr_io_fail(err, blob, "find", errno);
    } else {
        st = mlxr_io_make_dirs(&store->io, parent, err);
        if (st == MLXR_OK) st = mlxr_io_symlink(&store->io, real, link, err);
    }
    free(parent);
    free(link);
    free(real);
    free(blob);
    return st;
}

/* A folder within the session with links to the blobs under the files' names. free it. */
static mlxr_status make_view(char **out, hub *h, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;

    if (!(*out = mlxr_session_temp(h->session))) return mlxr_fail_nomem(err, "hub");
    for (size_t i = 0; i < h->list.n && st == MLXR_OK; i++)
        if (h->list.v[i].chosen)
            st = mlxr_hub_link(h->store, *out, h->list.v[i].path, h->list.v[i].digest, err);
    return st;
}

/* Messages about a folder that nobody knows name the repository. */
static void call_it(mlxr_error *err, const char *dir, const char *repo)
{
    char text[sizeof err->message];
    size_t n = strlen(dir), k = strlen(repo);
    const char *from;
    char *to = text;

    if (!err) return;
    for (from = err->message; *from && (size_t)(to - text) + k + 1 < sizeof text;) {
        if (strncmp(from, dir, n) == 0) {
            memcpy(to, repo, k);
            to += k;
            from += n;
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
    memcpy(err->message, text, (size_t)(to - text) + 1);
}

static mlxr_status make_manifest(mlxr_manifest *out, hub *h, const char *source, mlxr_error *err)
{
    mlxr_model_files files = {0};
    mlxr_description d = {0};
    char *dir = NULL;
    mlxr_status st;

    if ((st = make_view(&dir, h, err)) != MLXR_OK) goto done;
    if ((st = mlxr_model_files_of_folder(&files, &d, dir, &h->store->log, err)) != MLXR_OK) {
        call_it(err, dir, h->repo);
        goto done;
    }
    for (size_t i = 0; i < files.n; i++) {
        const mlxr_hub_file *f = find_file(h, files.v[i].title);
        if (!f || (uint64_t)files.v[i].seen.st_size != f->size) {
            st = mlxr_fail(err, MLXR_E_INTERNAL, "%s: %s is not what was fetched", h->repo, files.v[i].title);
            goto done;
        }
        memcpy(files.v[i].digest, f->digest, sizeof files.v[i].digest);
    }
    if (!(d.source = mlxr_strdup(source))) {
        st = mlxr_fail_nomem(err, "hub");
        goto done;
    }
    st = mlxr_model_files_manifest(out, h->session, &files, &d, NULL, err);
done:
    mlxr_model_files_clear(&files);
    mlxr_description_clear(&d);
    free(dir);
    return st;
}

typedef struct converting {
    mlxr_store_pace pace;
    const char *item;
    uint64_t told;
} converting;

static void on_converted(uint64_t done, uint64_t total, void *ud)
{
    converting *c = ud;

    (void)mlxr_store_pace_add(&c->pace, "converting", c->item, done - c->told, done, total, NULL);
    c->told = done;
}

/* A GGUF file of the repository, turned into a folder of the session's as import does. */
static mlxr_status pull_gguf(mlxr_manifest *out, hub *h, const mlxr_hub_file **got, const char *source,
                             const mlxr_store_job *job, mlxr_error *err)
{
    mlxr_gguf_import_options o = mlxr_gguf_import_options_default();
    mlxr_hub_file *f = find_file(h, h->o->file);
    converting c = {.item = h->o->file};
    char *dir = NULL, *blob = NULL;
    bool present;
    mlxr_status st;

    if (!f || !ends_with(f->path, ".gguf")) {
        mlxr_buf list = {0};
        list_files(&list, h, ".gguf");
        st = mlxr_buf_check(&list, h->repo, err);
        if (st == MLXR_OK)
            st = mlxr_fail(err, MLXR_E_NOT_FOUND, "%s: has no GGUF file \"%s\"%s%s", h->repo, h->o->file,
                           list.len ? "; it has " : "", list.len ? list.data : "");
        mlxr_buf_clear(&list);
        return st;
    }
    if (!f->lfs)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s: the hub tells no SHA-256 of %s", h->repo, f->path);
    if ((st = mlxr_session_want(h->session, f->digest, f->size, &present, err)) != MLXR_OK) return st;
    if (!present) {
        h->pace.total_all = f->size;
        if ((st = mlxr_store_check_quota(h->store, f->size, err)) != MLXR_OK) return st;
        if ((st = fetch_large(h, f, false, &h->pace, err)) != MLXR_OK) return st;
        *got = f;
    } else {
        h->t.present_bytes += f->size;
    }
    blob = mlxr_store_blob_path(h->store, f->digest);
    dir = mlxr_session_temp(h->session);
    if (!blob || !dir) {
        st = mlxr_fail_nomem(err, "hub");
        goto done;
    }
    o.requantize =
        true; /* this very file was asked for, and most have types that MLX has no exact form for */
    o.log = h->store->log;
    if ((st = mlxr_store_pace_init(&c.pace, job, 0, err)) != MLXR_OK) goto done;
    o.progress = (mlxr_progress){on_converted, &c};
    st = mlxr_gguf_import(blob, dir, &o, err);
    if (st != MLXR_OK)
        call_it(err, blob, f->path);
    else if (mlxr_store_pace_cancelled(&c.pace))
        st = mlxr_fail(err, MLXR_E_CANCELLED, "%s: cancelled", f->path);
    mlxr_store_pace_clear(&c.pace);
    if (st != MLXR_OK) goto done;
    st = mlxr_bring_folder(out, h->session, dir, MLXR_FILES_MOVE, source, NULL, NULL, job, err);
done:
    free(dir);
    free(blob);
    return st;
}

/* A GGUF file is not needed once it was turned into a model, and is as large as that. */
static void drop_gguf(mlxr_store *store, const char *digest)
{
    mlxr_needed needed = {0};
    uint64_t freed;
    int lock;

    if (mlxr_store_lock(&lock, store, true, NULL, NULL) != MLXR_OK) return; /* gc does it later */
    if (mlxr_needed_read(&needed, store, NULL) == MLXR_OK && !needed.broken &&
        !mlxr_needed_by(&needed, digest))
        (void)mlxr_blob_remove(store, digest + 7, &freed, NULL);
    mlxr_needed_clear(&needed);
    mlxr_io_unlock(lock);
}

mlxr_status mlxr_hub_pull(mlxr_transfer *out, mlxr_store *store, const mlxr_name *from, const mlxr_name *name,
                          const mlxr_remote_options *options, const mlxr_store_job *job, mlxr_error *err)
{
    const char *revision = options->revision && *options->revision ? options->revision
                           : strcmp(from->tag, MLXR_NAME_TAG) == 0 ? "main"
                                                                   : from->tag;
    hub h = {0};
    mlxr_manifest m = {0}, old = {0};
    mlxr_buf full = {0};
    const mlxr_hub_file *gguf = NULL;
    char *source = NULL, gguf_digest[72] = "";
    mlxr_status st;

    if ((st = hub_open(&h, store, from, revision, options, job, err)) != MLXR_OK) goto done;
    if ((st = read_info(&h, err)) != MLXR_OK) goto done;
    source = mlxr_asprintf(MLXR_NAME_HOST "/%s@%s%s%s", h.repo, h.list.commit, options->file ? ":" : "",
                           options->file ? options->file : "");
    mlxr_name_full(&full, name);
    if (!source || full.failed) {
        st = mlxr_fail_nomem(err, "hub");
        goto done;
    }
    if ((st = mlxr_session_begin(&h.session, store, err)) != MLXR_OK) goto done;
    if (options->file) {
        st = pull_gguf(&m, &h, &gguf, source, job, err);
        if (gguf) memcpy(gguf_digest, gguf->digest, sizeof gguf_digest);
        if (st != MLXR_OK) goto done;
    } else {
        if (mlxr_store_find(&old, NULL, store, full.data, NULL) == MLXR_OK)
            for (size_t i = 0; i < h.list.n; i++)
                if (!h.list.v[i].lfs && mlxr_hub_wants(h.list.v[i].path)) reuse_small(&h, &h.list.v[i], &old);
        if ((st = choose(&h, err)) != MLXR_OK) goto done;
        if ((st = fetch_chosen(&h, err)) != MLXR_OK) goto done;
        if ((st = make_manifest(&m, &h, source, err)) != MLXR_OK) goto done;
    }
    if ((st = mlxr_origin_write(store, m.digest, source, err)) != MLXR_OK) goto done;
    if ((st = mlxr_session_name(h.session, name, &m, err)) != MLXR_OK) goto done;
    memcpy(h.t.digest, m.digest, sizeof h.t.digest);
    h.t.total_bytes = mlxr_manifest_bytes(&m);
done:
    *out = h.t;
    mlxr_manifest_clear(&old);
    mlxr_manifest_clear(&m);
    mlxr_buf_clear(&full);
    hub_close(&h);
    free(source);
    if (st == MLXR_OK && gguf_digest[0]) drop_gguf(store, gguf_digest);
    return st;
}

/* ---- repair ---- */

mlxr_status mlxr_hub_fetch_layer(mlxr_session *s, const char *source, const mlxr_layer *layer,
                                 const mlxr_remote_options *options, mlxr_store_pace *pace, uint64_t *moved,
                                 mlxr_error *err)
{
    const char *at = strrchr(source, '@'), *item = layer->path ? layer->path : "config";
    char *text = at ? mlxr_strndup(source, (size_t)(at - source)) : NULL;
    hub h = {0};
    mlxr_hub_file f = {.path = layer->path, .size = layer->size, .lfs = true};
    mlxr_name from;
    mlxr_status st;

    if (at && strchr(at, ':')) {
        st = mlxr_fail(err, MLXR_E_UNSUPPORTED,
                       "%s: it was made from %s, which has no such file: pull the model again", item,
                       strchr(at, ':') + 1);
        goto done;
    }
    if (!layer->path) {
        st = mlxr_fail(err, MLXR_E_UNSUPPORTED, "config: %s has no such file", source);
        goto done;
    }
    if (!text || !mlxr_hub_is_hex(at + 1, 40, 64)) {
        st = mlxr_fail(err, MLXR_E_FORMAT, "%s: \"%s\" is no source", item, source);
        goto done;
    }
    if ((st = mlxr_name_parse(&from, text, err)) != MLXR_OK) goto done;
    if ((st = hub_open(&h, mlxr_session_store(s), &from, at + 1, options, pace ? pace->job : NULL, err)) !=
        MLXR_OK)
        goto done;
    memcpy(h.list.commit, at + 1, strlen(at + 1) + 1);
    memcpy(f.digest, layer->digest, sizeof f.digest);
    h.session = s;
    st = fetch_large(&h, &f, true, pace, err);
    h.session = NULL; /* the caller's */
done:
    if (moved) *moved += h.t.moved_bytes;
    hub_close(&h);
    free(text);
    return st;
}
