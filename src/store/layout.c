/* layout: models in an OCI image layout, a folder with oci-layout, index.json and blobs/sha256/<hex>.
 * https://github.com/opencontainers/image-spec/blob/main/image-layout.md
 *
 * Nothing in one is believed: each blob is hashed, the manifest and the config too, before it comes into the store. */
#include <stdlib.h>

#include "store/bring.h"

enum { INDEX_BYTES = 4 << 20, MAX_DEPTH = 4, MAX_CANDIDATES = 256, MAX_DESCRIPTORS = 4096 };

#define REF_NAME "org.opencontainers.image.ref.name"

mlxr_status mlxr_is_oci_layout(bool *out, const char *dir, mlxr_error *err)
{
    char *marker = mlxr_path_join(dir, "oci-layout"), *index = mlxr_path_join(dir, "index.json");

    *out = marker && index && mlxr_path_is_file(marker) && mlxr_path_is_file(index);
    free(marker);
    free(index);
    return marker && index ? MLXR_OK : mlxr_fail_nomem(err, dir);
}

/* A manifest that the index lists. */
typedef struct candidate {
    char digest[72];
    uint64_t size;
    char *ref; /* "latest", or NULL */
} candidate;

typedef struct layout {
    const char *dir;
    candidate found[MAX_CANDIDATES];
    size_t n, n_seen; /* n_seen: descriptors, in all indexes */
} layout;

static char *blob_path(const layout *l, const char *digest)
{
    return mlxr_asprintf("%s/blobs/sha256/%s", l->dir, digest + 7);
}

/* A small blob, which has to be what its digest says. *out: append; what: how messages call it. */
static mlxr_status read_blob(mlxr_buf *out, const layout *l, const char *digest, uint64_t size,
                             size_t max_bytes, const char *what, mlxr_error *err)
{
    char hex[65], *path = blob_path(l, digest);
    mlxr_status st;

    if (!path) return mlxr_fail_nomem(err, l->dir);
    st = mlxr_file_read(out, path, max_bytes, err);
    if (st == MLXR_OK) st = mlxr_sha256_hex(hex, out->data ? out->data : "", out->len, err);
    if (st == MLXR_OK && out->len != size)
        st = mlxr_fail(err, MLXR_E_CORRUPT, "%s: %s has %zu bytes, its descriptor says %llu", path, what,
                       out->len, (unsigned long long)size);
    if (st == MLXR_OK && strcmp(hex, digest + 7) != 0)
        st = mlxr_fail(err, MLXR_E_CORRUPT, "%s: the digest of %s is sha256:%s, its descriptor says %s", path,
                       what, hex, digest);
    free(path);
    return st;
}

/* ---- the index ---- */

static mlxr_status read_index(layout *l, const json_t *index, const char *what, unsigned depth,
                              mlxr_error *err);

static mlxr_status read_descriptor(layout *l, const json_t *d, const char *what, unsigned depth,
                                   mlxr_error *err)
{
    const char *type = NULL, *digest = NULL, *artifact = NULL, *ref = NULL;
    int64_t size = -1;
    mlxr_status st;

    if (++l->n_seen > MAX_DESCRIPTORS)
        return mlxr_fail(err, MLXR_E_LIMIT, "%s: more than %d descriptors", what, MAX_DESCRIPTORS);
    if (!json_is_object(d)) return mlxr_fail(err, MLXR_E_FORMAT, "%s: a descriptor is not an object", what);
    if ((st = mlxr_json_get_str(&type, d, "mediaType", what, err)) != MLXR_OK) return st;
    if ((st = mlxr_json_get_str(&digest, d, "digest", what, err)) != MLXR_OK) return st;
    if ((st = mlxr_json_get_str(&artifact, d, "artifactType", what, err)) != MLXR_OK) return st;
    if ((st = mlxr_json_get_int(&size, d, "size", 0, INT64_MAX, what, err)) != MLXR_OK) return st;
    if ((st = mlxr_json_get_str(&ref, json_object_get(d, "annotations"), REF_NAME, what, err)) != MLXR_OK)
        return st;
    if (!digest || !mlxr_digest_valid(digest) || size < 0)
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: a descriptor has no digest, or no size, that can be used",
                         what);
    if (type && strcmp(type, MLXR_MEDIA_INDEX) == 0) {
        mlxr_buf text = {0};
        json_t *inner = NULL;
        if (depth == MAX_DEPTH)
            return mlxr_fail(err, MLXR_E_LIMIT, "%s: indexes within indexes, more than %d deep", what,
                             MAX_DEPTH);
        st = read_blob(&text, l, digest, (uint64_t)size, INDEX_BYTES, "an index", err);
        if (st == MLXR_OK) st = mlxr_json_parse(&inner, text.data ? text.data : "", text.len, what, err);
        if (st == MLXR_OK) st = read_index(l, inner, what, depth + 1, err);
        json_decref(inner);
        mlxr_buf_clear(&text);
        return st;
    }
    if (type && strcmp(type, MLXR_MEDIA_MANIFEST) != 0) return MLXR_OK; /* of something else */
    if (artifact && strcmp(artifact, MLXR_MEDIA_ARTIFACT) != 0) return MLXR_OK;
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->found[i].digest, digest) == 0 &&
            (!ref || (l->found[i].ref && !strcmp(ref, l->found[i].ref))))
            return MLXR_OK;
    if (l->n == MAX_CANDIDATES)
        return mlxr_fail(err, MLXR_E_LIMIT, "%s: more than %d manifests", what, MAX_CANDIDATES);
    l->found[l->n] = (candidate){.size = (uint64_t)size, .ref = ref ? mlxr_strdup(ref) : NULL};
    memcpy(l->found[l->n].digest, digest, sizeof l->found[l->n].digest);
    if (ref && !l->found[l->n].ref) return mlxr_fail_nomem(err, what);
    l->n++;
    return MLXR_OK;
}

static mlxr_status read_index(layout *l, const json_t *index, const char *what, unsigned depth,
                              mlxr_error *err)
{
    const json_t *manifests = json_object_get(index, "manifests"), *d;
    size_t i;

    if (!json_is_array(manifests)) return mlxr_fail(err, MLXR_E_FORMAT, "%s: no list \"manifests\"", what);
    json_array_foreach(manifests, i, d)
    {
        mlxr_status st = read_descriptor(l, d, what, depth, err);
        if (st != MLXR_OK) return st;
    }
    return MLXR_OK;
}

static mlxr_status read_layout(layout *l, mlxr_error *err)
{
    char *marker = mlxr_path_join(l->dir, "oci-layout"), *index = mlxr_path_join(l->dir, "index.json");
    json_t *root = NULL;
    const char *version = NULL;
    mlxr_status st;

    if (!marker || !index) {
        st = mlxr_fail_nomem(err, l->dir);
        goto done;
    }
    if ((st = mlxr_json_read(&root, marker, INDEX_BYTES, err)) != MLXR_OK) goto done;
    if ((st = mlxr_json_get_str(&version, root, "imageLayoutVersion", marker, err)) != MLXR_OK) goto done;
    if (!version || strncmp(version, "1.", 2) != 0) {
        st = mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s: an image layout of version \"%.32s\", wanted 1", marker,
                       version ? version : "");
        goto done;
    }
    json_decref(root);
    root = NULL;
    if ((st = mlxr_json_read(&root, index, INDEX_BYTES, err)) != MLXR_OK) goto done;
    st = read_index(l, root, index, 0, err);
done:
    json_decref(root);
    free(marker);
    free(index);
    return st;
}

/* The only one; of several the one whose name is the tag. */
static mlxr_status choose(const candidate **out, const layout *l, const mlxr_name *name, mlxr_error *err)
{
    size_t n = 0, n_digests = 0;
    mlxr_status st;

    for (size_t i = 0; i < l->n; i++) {
        const char *ref = l->found[i].ref, *colon = ref ? strrchr(ref, ':') : NULL;
        n_digests += i == 0 || strcmp(l->found[i].digest, l->found[0].digest) != 0;
        if (!ref || (strcmp(ref, name->tag) != 0 && !(colon && strcmp(colon + 1, name->tag) == 0))) continue;
        *out = &l->found[i];
        n++;
    }
    if (n == 1) return MLXR_OK;
    if (l->n && n_digests == 1) {
        *out = &l->found[0];
        return MLXR_OK;
    }
    if (l->n == 0) return mlxr_fail(err, MLXR_E_NOT_FOUND, "%s/index.json: lists no model", l->dir);
    st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                   "%s/index.json: %zu models, and %s called by the tag \"%s\": ", l->dir, l->n,
                   n ? "several are" : "none is", name->tag);
    for (size_t i = 0; i < l->n && i < 8; i++)
        mlxr_error_append(err, "%s%s", i ? ", " : "", l->found[i].ref ? l->found[i].ref : l->found[i].digest);
    return st;
}

/* ---- the model ---- */

static mlxr_status bring_config(mlxr_session *s, const layout *l, const mlxr_layer *config, mlxr_error *err)
{
    mlxr_description d = {0};
    mlxr_layer stored = {0};
    mlxr_buf text = {0};
    mlxr_status st;

    st = read_blob(&text, l, config->digest, config->size, MLXR_CONFIG_MAX_BYTES, "the config", err);
    if (st == MLXR_OK)
        st = mlxr_description_parse(&d, text.data ? text.data : "", text.len, "the model's config", err);
    if (st == MLXR_OK) st = mlxr_session_put(s, &stored, text.data ? text.data : "", text.len, err);
    mlxr_description_clear(&d);
    mlxr_buf_clear(&text);
    return st;
}

mlxr_status mlxr_bring_layout(mlxr_manifest *out, mlxr_session *s, const char *dir, const mlxr_name *name,
                              mlxr_files_how how, const mlxr_store_job *job, mlxr_error *err)
{
    layout *l = calloc(1, sizeof *l);
    mlxr_model_files files = {0};
    mlxr_manifest m = {0};
    mlxr_store_pace pace = {0};
    const candidate *c = NULL;
    mlxr_buf text = {0};
    bool paced = false;
    mlxr_status st;

    *out = (mlxr_manifest){0};
    if (!l) return mlxr_fail_nomem(err, dir);
    l->dir = dir;
    if ((st = read_layout(l, err)) != MLXR_OK) goto done;
    if ((st = choose(&c, l, name, err)) != MLXR_OK) goto done;
    st = read_blob(&text, l, c->digest, c->size, MLXR_MANIFEST_MAX_BYTES, "the manifest", err);
    if (st != MLXR_OK) goto done;
    if ((st = mlxr_manifest_parse(&m, text.data ? text.data : "", text.len, dir, err)) != MLXR_OK) goto done;
    for (size_t i = 0; i < m.n_layers && st == MLXR_OK; i++) {
        char *path = blob_path(l, m.layers[i].digest);
        st = path ? mlxr_model_files_add(&files, m.layers[i].path, path, &m.layers[i], err)
                  : mlxr_fail_nomem(err, dir);
        if (st == MLXR_E_NOT_FOUND)
            st = mlxr_fail(err, MLXR_E_CORRUPT, "%s: %s is missing (%s)", dir, m.layers[i].path, path);
        free(path);
    }
    if (st != MLXR_OK) goto done;
    if ((st = mlxr_store_pace_init(&pace, job, mlxr_model_files_bytes(&files), err)) != MLXR_OK) goto done;
    paced = true;
    if ((st = mlxr_model_files_hash(&files, &pace, err)) != MLXR_OK) goto done;
    if ((st = mlxr_model_files_check(&files, dir, err)) != MLXR_OK) goto done;
    if ((st = bring_config(s, l, &m.config, err)) != MLXR_OK) goto done;
    if ((st = mlxr_model_files_store(s, &files, how, &pace, err)) != MLXR_OK) goto done;
    *out = m;
    m = (mlxr_manifest){0};
done:
    if (paced) mlxr_store_pace_clear(&pace);
    mlxr_model_files_clear(&files);
    mlxr_manifest_clear(&m);
    mlxr_buf_clear(&text);
    for (size_t i = 0; i < l->n; i++) free(l->found[i].ref);
    free(l);
    return st;
}
