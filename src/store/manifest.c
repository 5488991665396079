/* manifest: see manifest.h. */
#include "store/manifest.h"

#include <stdlib.h>
#include <strings.h>

#include "base/sha256.h"
#include "store/name.h"

enum { MAX_TITLE = 1024, MAX_TITLE_PART = 255, MAX_TYPE = 255, MAX_TEXT = 4096 };
#define MAX_TOTAL ((int64_t)1 << 62)

/* ---- kinds of files ---- */

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcasecmp(s + n - k, end) == 0;
}

const char *mlxr_media_type(const char *path)
{
    static const char *const tokenizer[] = {
        "tokenizer.json", "tokenizer_config.json",   "tokenizer.model",   "vocab.json",        "vocab.txt",
        "merges.txt",     "special_tokens_map.json", "added_tokens.json", "chat_template.json"};
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;

    if (ends_with(name, ".safetensors")) return MLXR_MEDIA_WEIGHTS;
    for (size_t i = 0; i < MLXR_COUNT(tokenizer); i++)
        if (strcmp(name, tokenizer[i]) == 0) return MLXR_MEDIA_TOKENIZER;
    if (ends_with(name, ".jinja")) return MLXR_MEDIA_TEMPLATE;
    if (strcmp(path, "mlxr.json") == 0) return MLXR_MEDIA_RECIPE;
    if (strncasecmp(name, "license", 7) == 0 || strncasecmp(name, "licence", 7) == 0)
        return MLXR_MEDIA_LICENSE;
    return MLXR_MEDIA_FILE;
}

/* ---- reading ---- */

static bool has_control(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f) return true;
    return false;
}

/* NULL: a path that stays within its folder. */
static const char *title_wrong(const char *title)
{
    const char *part = title;

    if (!*title) return "is empty";
    if (strlen(title) > MAX_TITLE) return "is longer than 1024 bytes";
    if (strchr(title, '\\')) return "has a backslash";
    if (has_control(title)) return "has a control character";
    for (const char *s = title;; s++) {
        size_t n;
        if (*s && *s != '/') continue;
        n = (size_t)(s - part);
        if (n == 0) return "has an empty part";
        if (n > MAX_TITLE_PART) return "has a part of more than 255 bytes";
        if ((n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.'))
            return "leads out of the model's folder";
        if (!*s) return NULL;
        part = s + 1;
    }
}

/* One descriptor; which: "config", "layers[3]". */
static mlxr_status read_layer(mlxr_layer *out, const json_t *obj, bool titled, const char *what,
                              const char *which, mlxr_error *err)
{
    const char *media_type = NULL, *digest = NULL, *title = NULL, *wrong;
    int64_t size = -1;
    mlxr_status st;

    if (!json_is_object(obj))
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: %s is absent or no object", what, which);
    if ((st = mlxr_json_get_str(&media_type, obj, "mediaType", what, err)) != MLXR_OK) return st;
    if ((st = mlxr_json_get_str(&digest, obj, "digest", what, err)) != MLXR_OK) return st;
    if ((st = mlxr_json_get_int(&size, obj, "size", 0, MAX_TOTAL, what, err)) != MLXR_OK) return st;
    if (!media_type || !*media_type || strlen(media_type) > MAX_TYPE || has_control(media_type))
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: %s: \"mediaType\" is absent or none", what, which);
    if (!digest || !mlxr_digest_valid(digest))
        return mlxr_fail(err, MLXR_E_FORMAT,
                         "%s: %s: digest \"%.100s\", wanted \"sha256:\" and 64 hex digits in lower case",
                         what, which, digest ? digest : "");
    if (size < 0) return mlxr_fail(err, MLXR_E_FORMAT, "%s: %s: \"size\" is absent", what, which);
    if (titled) {
        const json_t *annotations = json_object_get(obj, "annotations");
        if (json_is_object(annotations) &&
            (st = mlxr_json_get_str(&title, annotations, MLXR_ANNOTATION_TITLE, what, err)) != MLXR_OK)
            return st;
        if (!title)
            return mlxr_fail(err, MLXR_E_FORMAT, "%s: %s has no annotation \"%s\"", what, which,
                             MLXR_ANNOTATION_TITLE);
        if ((wrong = title_wrong(title)) != NULL)
            return mlxr_fail(err, MLXR_E_FORMAT, "%s: %s: title \"%.100s\" %s", what, which, title, wrong);
        out->path = mlxr_strdup(title);
        if (!out->path) return mlxr_fail_nomem(err, what);
    }
    out->media_type = mlxr_strdup(media_type);
    if (!out->media_type) return mlxr_fail_nomem(err, what);
    memcpy(out->digest, digest, sizeof out->digest);
    out->size = (uint64_t)size;
    return MLXR_OK;
}

static unsigned fold(char c)
{
    if (c == '/') return 1; /* before every other: what lies in a folder follows it at once */
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

static int compare_folded(const void *pa, const void *pb)
{
    const char *a = (*(const mlxr_layer *const *)pa)->path, *b = (*(const mlxr_layer *const *)pb)->path;
    while (*a && fold(*a) == fold(*b)) a++, b++;
    return (fold(*a) > fold(*b)) - (fold(*a) < fold(*b));
}

static int compare_digest(const void *pa, const void *pb)
{
    return strcmp((*(const mlxr_layer *const *)pa)->digest, (*(const mlxr_layer *const *)pb)->digest);
}

/* Titles against each other, then digests with their sizes. */
static mlxr_status check_layers(mlxr_manifest *m, const char *what, mlxr_error *err)
{
    const mlxr_layer **sorted = mlxr_malloc_array(m->n_layers + 1, sizeof *sorted);
    mlxr_status st = MLXR_OK;

    if (!sorted) return mlxr_fail_nomem(err, what);
    for (size_t i = 0; i < m->n_layers; i++) sorted[i] = &m->layers[i];
    qsort(sorted, m->n_layers, sizeof *sorted, compare_folded);
    for (size_t i = 1; i < m->n_layers && st == MLXR_OK; i++) {
        const char *a = sorted[i - 1]->path, *b = sorted[i]->path;
        size_t k = 0;
        while (a[k] && fold(a[k]) == fold(b[k])) k++;
        if (a[k]) continue;
        if (!b[k]) st = mlxr_fail(err, MLXR_E_FORMAT, "%s: \"%s\" is there twice", what, b);
        if (b[k] == '/')
            st = mlxr_fail(err, MLXR_E_FORMAT, "%s: \"%s\" is a file, and the folder of \"%s\"", what, a, b);
    }
    sorted[m->n_layers] = &m->config;
    qsort(sorted, m->n_layers + 1, sizeof *sorted, compare_digest);
    for (size_t i = 0; i <= m->n_layers && st == MLXR_OK; i++) {
        if (i && compare_digest(&sorted[i - 1], &sorted[i]) == 0) {
            if (sorted[i - 1]->size != sorted[i]->size)
                st = mlxr_fail(err, MLXR_E_FORMAT, "%s: %s is there with two sizes, %llu and %llu", what,
                               sorted[i]->digest, (unsigned long long)sorted[i - 1]->size,
                               (unsigned long long)sorted[i]->size);
            continue;
        }
        m->n_bytes += sorted[i]->size;
        if (m->n_bytes > (uint64_t)MAX_TOTAL)
            st = mlxr_fail(err, MLXR_E_FORMAT, "%s: sizes of more than 2^62 bytes in sum", what);
    }
    free(sorted);
    return st;
}

/* What kind of thing the object says it is. */
static mlxr_status check_kind(const json_t *root, const char *what, mlxr_error *err)
{
    const char *media_type = MLXR_MEDIA_MANIFEST, *artifact = MLXR_MEDIA_ARTIFACT, *config = "none";
    int64_t version = 0;
    mlxr_status st;

    if (!json_is_object(root)) return mlxr_fail(err, MLXR_E_FORMAT, "%s: wanted an object", what);
    if ((st = mlxr_json_get_int(&version, root, "schemaVersion", INT64_MIN, INT64_MAX, what, err)) != MLXR_OK)
        return st;
    if ((st = mlxr_json_get_str(&media_type, root, "mediaType", what, err)) != MLXR_OK) return st;
    if ((st = mlxr_json_get_str(&artifact, root, "artifactType", what, err)) != MLXR_OK) return st;
    if (version != 2)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s: \"schemaVersion\" is %lld, wanted 2", what,
                         (long long)version);
    if (strcmp(media_type, MLXR_MEDIA_MANIFEST) != 0)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s: media type \"%.100s\", wanted \"%s\"", what,
                         media_type, MLXR_MEDIA_MANIFEST);
    if (strcmp(artifact, MLXR_MEDIA_ARTIFACT) != 0)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                         "%s: no model of ours: artifact type \"%.100s\", wanted \"%s\"", what, artifact,
                         MLXR_MEDIA_ARTIFACT);
    if (json_is_object(json_object_get(root, "config")) &&
        (st = mlxr_json_get_str(&config, json_object_get(root, "config"), "mediaType", what, err)) != MLXR_OK)
        return st;
    if (strcmp(config, MLXR_MEDIA_CONFIG) != 0)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                         "%s: no model of ours: a config of type \"%.100s\", wanted \"%s\"", what, config,
                         MLXR_MEDIA_CONFIG);
    return MLXR_OK;
}

static mlxr_status read_annotations(json_t **out, const json_t *root, const char *what, mlxr_error *err)
{
    json_t *annotations = json_object_get(root, "annotations"), *value;
    const char *key;

    if (!annotations || json_is_null(annotations)) return MLXR_OK;
    if (!json_is_object(annotations))
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: \"annotations\" is no object", what);
    json_object_foreach(annotations, key, value)
    {
        if (!json_is_string(value))
            return mlxr_fail(err, MLXR_E_FORMAT, "%s: annotation \"%.100s\" is no text", what, key);
    }
    *out = json_incref(annotations);
    return MLXR_OK;
}

mlxr_status mlxr_manifest_parse(mlxr_manifest *out, const char *text, size_t n, const char *what,
                                mlxr_error *err)
{
    json_t *root = NULL;
    const json_t *layers;
    mlxr_manifest m = {0};
    mlxr_status st;

    *out = m;
    if (n > MLXR_MANIFEST_MAX_BYTES)
        return mlxr_fail(err, MLXR_E_LIMIT, "%s: %zu bytes, a manifest has at most %d", what, n,
                         MLXR_MANIFEST_MAX_BYTES);
    if ((st = mlxr_json_parse(&root, text, n, what, err)) != MLXR_OK) goto done;
    if ((st = check_kind(root, what, err)) != MLXR_OK) goto done;
    if ((st = read_layer(&m.config, json_object_get(root, "config"), false, what, "config", err)) != MLXR_OK)
        goto done;
    if (m.config.size > MLXR_CONFIG_MAX_BYTES) {
        st = mlxr_fail(err, MLXR_E_LIMIT, "%s: a config of %llu bytes, at most %d are read", what,
                       (unsigned long long)m.config.size, MLXR_CONFIG_MAX_BYTES);
        goto done;
    }
    layers = json_object_get(root, "layers");
    if (!json_is_array(layers) || json_array_size(layers) > MLXR_MANIFEST_MAX_LAYERS) {
        st = mlxr_fail(err, MLXR_E_FORMAT, "%s: \"layers\" is absent, no list, or one of more than %d", what,
                       MLXR_MANIFEST_MAX_LAYERS);
        goto done;
    }
    m.layers = mlxr_calloc_array(json_array_size(layers), sizeof *m.layers);
    m.text = mlxr_strndup(text, n);
    if (!m.layers || !m.text) {
        st = mlxr_fail_nomem(err, what);
        goto done;
    }
    m.n_text = n;
    for (size_t i = 0; i < json_array_size(layers); i++) {
        char which[32];
        snprintf(which, sizeof which, "layers[%zu]", i);
        m.n_layers = i + 1;
        if ((st = read_layer(&m.layers[i], json_array_get(layers, i), true, what, which, err)) != MLXR_OK)
            goto done;
    }
    if ((st = check_layers(&m, what, err)) != MLXR_OK) goto done;
    if ((st = read_annotations(&m.annotations, root, what, err)) != MLXR_OK) goto done;
    memcpy(m.digest, "sha256:", 7);
    if ((st = mlxr_sha256_hex(m.digest + 7, text, n, err)) != MLXR_OK) goto done;
    *out = m;
    m = (mlxr_manifest){0};
done:
    mlxr_manifest_clear(&m);
    json_decref(root);
    return st;
}

void mlxr_layers_free(mlxr_layer *layers, size_t n)
{
    for (size_t i = 0; layers && i < n; i++) {
        free(layers[i].path);
        free(layers[i].media_type);
    }
    free(layers);
}

void mlxr_manifest_clear(mlxr_manifest *m)
{
    if (!m) return;
    free(m->config.path);
    free(m->config.media_type);
    mlxr_layers_free(m->layers, m->n_layers);
    json_decref(m->annotations);
    free(m->text);
    *m = (mlxr_manifest){0};
}

const mlxr_layer *mlxr_manifest_find(const mlxr_manifest *m, const char *path)
{
    for (size_t i = 0; i < m->n_layers; i++)
        if (strcmp(m->layers[i].path, path) == 0) return &m->layers[i];
    return NULL;
}

uint64_t mlxr_manifest_bytes(const mlxr_manifest *m)
{
    return m->n_bytes;
}

/* ---- writing ---- */

static void key_and_text(mlxr_buf *out, const char *key, const char *text)
{
    mlxr_buf_printf(out, "\"%s\":", key);
    mlxr_json_escape(out, text, strlen(text));
}

static void write_layer(mlxr_buf *out, const mlxr_layer *l, const char *default_type)
{
    mlxr_buf_char(out, '{');
    key_and_text(out, "mediaType", l->media_type ? l->media_type : default_type);
    mlxr_buf_char(out, ',');
    key_and_text(out, "digest", l->digest);
    mlxr_buf_printf(out, ",\"size\":%llu", (unsigned long long)l->size);
    if (l->path) {
        mlxr_buf_str(out, ",\"annotations\":{");
        key_and_text(out, MLXR_ANNOTATION_TITLE, l->path);
        mlxr_buf_char(out, '}');
    }
    mlxr_buf_char(out, '}');
}

static int compare_path(const void *pa, const void *pb)
{
    return strcmp((*(const mlxr_layer *const *)pa)->path, (*(const mlxr_layer *const *)pb)->path);
}

mlxr_status mlxr_manifest_make(mlxr_manifest *out, const mlxr_layer *config, const mlxr_layer *layers,
                               size_t n_layers, const json_t *annotations, mlxr_error *err)
{
    const mlxr_layer **sorted;
    mlxr_layer c = *config;
    char *dumped = NULL;
    mlxr_buf b = {0};
    mlxr_status st;

    *out = (mlxr_manifest){0};
    sorted = mlxr_malloc_array(n_layers, sizeof *sorted);
    if (!sorted) return mlxr_fail_nomem(err, "manifest");
    for (size_t i = 0; i < n_layers; i++) {
        const char *path = layers[i].path ? layers[i].path : "";
        if (mlxr_utf8_valid(path, strlen(path)) != strlen(path) || !*path) {
            st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                           "manifest: the name of file %zu is empty or not UTF-8", i + 1);
            goto done;
        }
        sorted[i] = &layers[i];
    }
    qsort(sorted, n_layers, sizeof *sorted, compare_path);
    c.path = NULL;
    mlxr_buf_str(&b, "{\"schemaVersion\":2,");
    key_and_text(&b, "mediaType", MLXR_MEDIA_MANIFEST);
    mlxr_buf_char(&b, ',');
    key_and_text(&b, "artifactType", MLXR_MEDIA_ARTIFACT);
    mlxr_buf_str(&b, ",\"config\":");
    write_layer(&b, &c, MLXR_MEDIA_CONFIG);
    mlxr_buf_str(&b, ",\"layers\":[");
    for (size_t i = 0; i < n_layers; i++) {
        if (i) mlxr_buf_char(&b, ',');
        write_layer(&b, sorted[i], mlxr_media_type(sorted[i]->path));
    }
    mlxr_buf_char(&b, ']');
    if (annotations && json_object_size(annotations) > 0) {
        dumped = json_dumps(annotations, JSON_COMPACT | JSON_SORT_KEYS);
        if (!dumped) {
            st = mlxr_fail_nomem(err, "manifest");
            goto done;
        }
        mlxr_buf_printf(&b, ",\"annotations\":%s", dumped);
    }
    mlxr_buf_char(&b, '}');
    if ((st = mlxr_buf_check(&b, "manifest", err)) != MLXR_OK) goto done;
    st = mlxr_manifest_parse(out, b.data, b.len, "manifest", err);
done:
    free(dumped);
    mlxr_buf_clear(&b);
    free(sorted);
    return st;
}

/* ---- descriptions ---- */

static mlxr_status copy_text(char **out, const json_t *obj, const char *key, const char *what,
                             mlxr_error *err)
{
    const char *s = NULL;
    mlxr_status st = mlxr_json_get_str(&s, obj, key, what, err);

    if (st != MLXR_OK || !s || !*s) return st;
    if (strlen(s) > MAX_TEXT || has_control(s))
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: \"%s\" has control characters or is longer than %d bytes",
                         what, key, MAX_TEXT);
    *out = mlxr_strdup(s);
    return *out ? MLXR_OK : mlxr_fail_nomem(err, what);
}

mlxr_status mlxr_description_parse(mlxr_description *out, const char *text, size_t n, const char *what,
                                   mlxr_error *err)
{
    mlxr_description d = {0};
    json_t *root = NULL;
    int64_t version = 0, n_parameters = 0, context_length = 0;
    mlxr_status st;

    *out = d;
    if ((st = mlxr_json_parse(&root, text, n, what, err)) != MLXR_OK) goto done;
    if (!json_is_object(root)) {
        st = mlxr_fail(err, MLXR_E_FORMAT, "%s: wanted an object", what);
        goto done;
    }
    if ((st = mlxr_json_get_int(&version, root, "mlxr", INT64_MIN, INT64_MAX, what, err)) != MLXR_OK)
        goto done;
    if (version != 1) {
        st = mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s: \"mlxr\" is %lld, wanted 1", what, (long long)version);
        goto done;
    }
    if ((st = copy_text(&d.family, root, "family", what, err)) != MLXR_OK) goto done;
    if ((st = copy_text(&d.quantization, root, "quantization", what, err)) != MLXR_OK) goto done;
    if ((st = copy_text(&d.dtype, root, "dtype", what, err)) != MLXR_OK) goto done;
    if ((st = copy_text(&d.source, root, "source", what, err)) != MLXR_OK) goto done;
    if ((st = copy_text(&d.base, root, "base", what, err)) != MLXR_OK) goto done;
    if ((st = mlxr_json_get_int(&n_parameters, root, "parameters", 0, INT64_MAX, what, err)) != MLXR_OK)
        goto done;
    if ((st = mlxr_json_get_int(&context_length, root, "context_length", 0, INT64_MAX, what, err)) != MLXR_OK)
        goto done;
    if (d.base && !mlxr_digest_valid(d.base)) {
        st = mlxr_fail(err, MLXR_E_FORMAT, "%s: \"base\" is no digest", what);
        goto done;
    }
    d.n_parameters = (uint64_t)n_parameters;
    d.context_length = (uint64_t)context_length;
    *out = d;
    d = (mlxr_description){0};
done:
    mlxr_description_clear(&d);
    json_decref(root);
    return st;
}

mlxr_status mlxr_description_write(mlxr_buf *out, const mlxr_description *d, mlxr_error *err)
{
    const struct {
        const char *key, *text;
    } texts[] = {{"family", d->family}, {"quantization", d->quantization}, {"dtype", d->dtype}},
      last[] = {{"source", d->source}, {"base", d->base}};

    mlxr_buf_str(out, "{\"mlxr\":1");
    for (size_t i = 0; i < MLXR_COUNT(texts); i++) {
        if (!texts[i].text) continue;
        mlxr_buf_char(out, ',');
        key_and_text(out, texts[i].key, texts[i].text);
    }
    if (d->n_parameters) mlxr_buf_printf(out, ",\"parameters\":%llu", (unsigned long long)d->n_parameters);
    if (d->context_length)
        mlxr_buf_printf(out, ",\"context_length\":%llu", (unsigned long long)d->context_length);
    for (size_t i = 0; i < MLXR_COUNT(last); i++) {
        if (!last[i].text) continue;
        mlxr_buf_char(out, ',');
        key_and_text(out, last[i].key, last[i].text);
    }
    mlxr_buf_char(out, '}');
    return mlxr_buf_check(out, "description", err);
}

void mlxr_description_clear(mlxr_description *d)
{
    if (!d) return;
    free(d->family);
    free(d->quantization);
    free(d->dtype);
    free(d->source);
    free(d->base);
    *d = (mlxr_description){0};
}
