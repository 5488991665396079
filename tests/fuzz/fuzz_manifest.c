/* Manifests and descriptions from hostile bytes: what is read can be written again and is then read as the same; titles stay in their
 * folder. The first byte tells which of the two it is: '{' a manifest, every other is cut off before a description. */
#include <stdlib.h>

#include "store/manifest.h"
#include "store/name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static void manifest(const char *text, size_t n)
{
    mlxr_manifest m, again, third;
    mlxr_error err = {0};

    if (mlxr_manifest_parse(&m, text, n, "input", &err) != MLXR_OK) {
        if (err.code == MLXR_OK || !*err.message) abort();
        return;
    }
    if (m.n_text != n || memcmp(m.text, text, n) != 0 || !mlxr_digest_valid(m.digest)) abort();
    for (size_t i = 0; i < m.n_layers; i++) {
        const char *path = m.layers[i].path;
        if (!*path || *path == '/' || strcmp(path, "..") == 0 || strncmp(path, "../", 3) == 0 ||
            strstr(path, "/../"))
            abort();
        if (mlxr_manifest_find(&m, path) != &m.layers[i]) abort();
    }
    if (mlxr_manifest_make(&again, &m.config, m.layers, m.n_layers, m.annotations, &err) != MLXR_OK) {
        /* Compact as we write, but sorted keys and names of types may be longer than they were. */
        if (err.code != MLXR_E_LIMIT) abort();
    } else {
        if (again.n_layers != m.n_layers || again.n_bytes != m.n_bytes) abort();
        for (size_t i = 0; i < m.n_layers; i++) {
            const mlxr_layer *l = mlxr_manifest_find(&again, m.layers[i].path);
            if (!l || l->size != m.layers[i].size || strcmp(l->digest, m.layers[i].digest) != 0 ||
                strcmp(l->media_type, m.layers[i].media_type) != 0)
                abort();
        }
        if (mlxr_manifest_make(&third, &again.config, again.layers, again.n_layers, again.annotations,
                               &err) != MLXR_OK ||
            strcmp(third.digest, again.digest) != 0)
            abort();
        mlxr_manifest_clear(&third);
    }
    mlxr_manifest_clear(&again);
    mlxr_manifest_clear(&m);
}

static void description(const char *text, size_t n)
{
    mlxr_description d, again;
    mlxr_error err = {0};
    mlxr_buf b = {0};

    if (mlxr_description_parse(&d, text, n, "input", &err) != MLXR_OK) {
        if (err.code == MLXR_OK || !*err.message) abort();
        return;
    }
    if (mlxr_description_write(&b, &d, &err) != MLXR_OK ||
        mlxr_description_parse(&again, b.data, b.len, "again", &err) != MLXR_OK)
        abort();
    if (!same_text(d.family, again.family) || !same_text(d.quantization, again.quantization) ||
        !same_text(d.dtype, again.dtype) || !same_text(d.source, again.source) ||
        !same_text(d.base, again.base) || d.n_parameters != again.n_parameters ||
        d.context_length != again.context_length)
        abort();
    mlxr_buf_clear(&b);
    mlxr_description_clear(&again);
    mlxr_description_clear(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] == '{')
        manifest((const char *)data, size);
    else if (size > 0)
        description((const char *)data + 1, size - 1);
    return 0;
}
