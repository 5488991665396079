/* manifest: a model as an OCI image manifest. https://github.com/opencontainers/image-spec (manifest.md, descriptor.md)
 *
 *   { "schemaVersion": 2,
 *     "mediaType": "application/vnd.oci.image.manifest.v1+json",
 *     "artifactType": "application/vnd.mlxr.model.v1",
 *     "config": { "mediaType": "application/vnd.mlxr.config.v1+json", "digest": "sha256:...", "size": N },
 *     "layers": [ { "mediaType": MLXR_MEDIA_..., "digest": ..., "size": N,
 *                   "annotations": { "org.opencontainers.image.title": "model.safetensors" } }, ... ],
 *     "annotations": { ... } }
 *
 * One layer a file, its path within the model folder as its title. The config is a small JSON object that says what the model is
 * (struct mlxr_description). Nothing in either depends on when or where it was made: the same files give the same digest. */
#ifndef MLXR_STORE_MANIFEST_H
#define MLXR_STORE_MANIFEST_H

#include "base/json.h"

#define MLXR_MEDIA_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define MLXR_MEDIA_INDEX    "application/vnd.oci.image.index.v1+json"
#define MLXR_MEDIA_ARTIFACT "application/vnd.mlxr.model.v1"
#define MLXR_MEDIA_CONFIG   "application/vnd.mlxr.config.v1+json"
#define MLXR_MEDIA_WEIGHTS  "application/vnd.mlxr.weights.v1.safetensors"
#define MLXR_MEDIA_TOKENIZER \
    "application/vnd.mlxr.tokenizer.v1" /* tokenizer.json, vocab.json, tokenizer_config.json ... */
#define MLXR_MEDIA_TEMPLATE "application/vnd.mlxr.template.v1.jinja"
#define MLXR_MEDIA_RECIPE   "application/vnd.mlxr.recipe.v1+json" /* mlxr.json */
#define MLXR_MEDIA_LICENSE  "application/vnd.mlxr.license.v1"
#define MLXR_MEDIA_FILE \
    "application/vnd.mlxr.file.v1" /* every other: config.json, generation_config.json ... */
#define MLXR_ANNOTATION_TITLE "org.opencontainers.image.title"

/* The kind of a file by its path in the folder. */
const char *mlxr_media_type(const char *path);

enum { MLXR_MANIFEST_MAX_BYTES = 4 << 20, MLXR_MANIFEST_MAX_LAYERS = 4096, MLXR_CONFIG_MAX_BYTES = 1 << 20 };

typedef struct mlxr_layer {
    char *path; /* of the file in the model's folder; NULL: the config */
    char *media_type;
    char digest[72]; /* "sha256:<64 hex>" */
    uint64_t size;
} mlxr_layer;

/* Immutable once parsed. init to {0}, clear it. */
typedef struct mlxr_manifest {
    mlxr_layer config;
    mlxr_layer *layers;
    size_t n_layers;
    json_t *annotations; /* an object of texts, or NULL */
    uint64_t n_bytes;    /* of config and layers, each digest once */
    char *text;          /* the bytes it was read from, or that it is written as */
    size_t n_text;
    char digest[72]; /* of text */
} mlxr_manifest;

/* what: how messages call it. Refused, by name: other schema versions and media types, digests that are none, or that are there with two
 * sizes, sizes below 0 or in sum over 2^62, layers without a title, titles that lead out of the folder ("..", "/", "\", NUL, empty parts, over
 * 1024 bytes), that are twice there (also when only the case differs), or one of which is the folder of another. MLXR_E_UNSUPPORTED: a manifest of OCI,
 * but of something else than a model. */
mlxr_status mlxr_manifest_parse(mlxr_manifest *out, const char *text, size_t n, const char *what,
                                mlxr_error *err);
/* The bytes for config and layers (which are copied, and sorted by path), then parsed as above. annotations may be NULL. */
mlxr_status mlxr_manifest_make(mlxr_manifest *out, const mlxr_layer *config, const mlxr_layer *layers,
                               size_t n_layers, const json_t *annotations, mlxr_error *err);
void mlxr_manifest_clear(mlxr_manifest *m);
const mlxr_layer *mlxr_manifest_find(const mlxr_manifest *m, const char *path); /* NULL when absent */
/* Bytes of config and layers, each digest once. */
uint64_t mlxr_manifest_bytes(const mlxr_manifest *m);
void mlxr_layers_free(mlxr_layer *layers, size_t n);

/* What a model is, as its config blob has it: {"mlxr": 1, "family", "quantization", "dtype", "parameters", "context_length", "source", "base"};
 * what is not known is absent there, and NULL or 0 here. Texts have no control characters. */
typedef struct mlxr_description {
    char *family, *quantization; /* as in mlxr_store_entry */
    char *dtype;                 /* of the weights that are not quantized: "bf16" */
    uint64_t n_parameters, context_length;
    /* Where it was pulled from ("huggingface.co/org/repo@<commit>", "ghcr.io/org/x:tag"); NULL: nowhere. */
    char *source;
    char *base; /* of a model made from another: digest of its manifest, or NULL */
} mlxr_description;
mlxr_status mlxr_description_parse(mlxr_description *out, const char *text, size_t n, const char *what,
                                   mlxr_error *err);
mlxr_status mlxr_description_write(mlxr_buf *out, const mlxr_description *d, mlxr_error *err);
void mlxr_description_clear(mlxr_description *d);
/* Of a model folder: model_type, quantization and max_position_embeddings of config.json (also of its text_config), parameters and
 * dtype of the safetensors headers (a quantized matrix counts its elements). A folder without config.json or weights is
 * MLXR_E_FORMAT. source and base stay NULL. (describe.c) */
mlxr_status mlxr_description_of_folder(mlxr_description *out, const char *dir, mlxr_error *err);

#endif
