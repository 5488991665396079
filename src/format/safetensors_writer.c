/* Writes one safetensors file: declare the tensors, then commit asks for their bytes chunk by chunk. The
 * header is padded with spaces so that the data begins at a multiple of 64 bytes; the format allows that and
 * vector loads like it. Reading is in safetensors.c. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/fs.h"
#include "format/format.h"

/* A multiple of the bytes of a group of 32 to 128 codes of any width, of blocks and of every element, so that
 * a fill is never asked for half of one. */
static const size_t chunk_bytes = (size_t)15 << 16;
enum { DATA_ALIGNMENT = 64 };

typedef struct entry {
    char *name;
    mlxr_dtype dtype;
    unsigned n_dims;
    size_t shape[MLXR_MAX_DIMS];
    size_t n_bytes;
    mlxr_tensor_fill fill;
    void *ud;
} entry;

struct mlxr_safetensors_writer {
    char *path;
    entry *entries;
    size_t n, cap;
    uint64_t n_data;            /* bytes of all tensors */
    const volatile int *cancel; /* or NULL */
    mlxr_strtab by_name;
};

mlxr_status mlxr_safetensors_writer_create(mlxr_safetensors_writer **out, const char *path, mlxr_error *err)
{
    mlxr_safetensors_writer *w = calloc(1, sizeof *w);

    *out = NULL;
    if (w) w->path = mlxr_strdup(path);
    if (!w || !w->path) {
        mlxr_safetensors_writer_free(w);
        return mlxr_fail_nomem(err, path);
    }
    *out = w;
    return MLXR_OK;
}

void mlxr_safetensors_writer_set_cancel(mlxr_safetensors_writer *w, const volatile int *cancel)
{
    w->cancel = cancel;
}

void mlxr_safetensors_writer_free(mlxr_safetensors_writer *w)
{
    if (!w) return;
    for (size_t i = 0; i < w->n; i++) free(w->entries[i].name);
    free(w->entries);
    free(w->path);
    mlxr_strtab_clear(&w->by_name);
    free(w);
}

mlxr_status mlxr_safetensors_writer_add(mlxr_safetensors_writer *w, const char *name, mlxr_dtype dtype,
                                        unsigned n_dims, const size_t *shape, mlxr_tensor_fill fill, void *ud,
                                        mlxr_error *err)
{
    const size_t n_name = strlen(name);
    entry e = {.dtype = dtype, .n_dims = n_dims, .fill = fill, .ud = ud};
    size_t n_bits = mlxr_dtype_bits(dtype);

    if ((unsigned)dtype >= MLXR_DTYPE_COUNT || n_dims > MLXR_MAX_DIMS || !fill)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "safetensors: %s: \"%s\": no such type, shape or filling", w->path, name);
    if (strcmp(name, "__metadata__") == 0 || mlxr_utf8_valid(name, n_name) != n_name)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "safetensors: %s: a tensor cannot be named \"%s\"",
                         w->path, name);
    if (mlxr_strtab_get(&w->by_name, name, n_name) != SIZE_MAX)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "safetensors: %s: \"%s\" is declared twice", w->path,
                         name);
    for (unsigned i = 0; i < n_dims; i++) {
        e.shape[i] = shape[i];
        if (!mlxr_mul_size(&n_bits, n_bits, shape[i]))
            return mlxr_fail(err, MLXR_E_LIMIT, "safetensors: %s: \"%s\": the shape's bytes overflow",
                             w->path, name);
    }
    if (n_bits % 8 || n_bits / 8 > INT64_MAX - w->n_data)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "safetensors: %s: \"%s\": %zu bits cannot be stored",
                         w->path, name, n_bits);
    e.n_bytes = n_bits / 8;
    if (w->n == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 64;
        entry *p = mlxr_realloc_array(w->entries, cap, sizeof *p);
        if (!p) return mlxr_fail_nomem(err, w->path);
        w->entries = p;
        w->cap = cap;
    }
    e.name = mlxr_strdup(name);
    if (!e.name || !mlxr_strtab_put(&w->by_name, e.name, n_name, w->n, NULL)) {
        free(e.name);
        return mlxr_fail_nomem(err, w->path);
    }
    w->entries[w->n++] = e;
    w->n_data += e.n_bytes;
    return MLXR_OK;
}

static mlxr_status build_header(mlxr_buf *out, const mlxr_safetensors_writer *w, const json_t *metadata,
                                mlxr_error *err)
{
    static const char zeros[8] = {0};
    uint64_t at = 0, n_header;
    const char *separator = "";

    mlxr_buf_append(out, zeros, sizeof zeros);
    mlxr_buf_char(out, '{');
    if (metadata) {
        char *text = json_dumps(metadata, JSON_COMPACT);
        if (!text) return mlxr_fail_nomem(err, w->path);
        mlxr_buf_printf(out, "\"__metadata__\":");
        mlxr_buf_str(out, text);
        free(text);
        separator = ",";
    }
    for (size_t i = 0; i < w->n; i++) {
        const entry *e = &w->entries[i];
        mlxr_buf_str(out, separator);
        mlxr_json_escape(out, e->name, strlen(e->name));
        mlxr_buf_printf(out, ":{\"dtype\":\"%s\",\"shape\":[", mlxr_dtype_name(e->dtype));
        for (unsigned d = 0; d < e->n_dims; d++) mlxr_buf_printf(out, d ? ",%zu" : "%zu", e->shape[d]);
        mlxr_buf_printf(out, "],\"data_offsets\":[%" PRIu64, at);
        at += e->n_bytes;
        mlxr_buf_printf(out, ",%" PRIu64 "]}", at);
        separator = ",";
    }
    mlxr_buf_char(out, '}');
    while (!out->failed && out->len % DATA_ALIGNMENT) mlxr_buf_char(out, ' ');
    if (out->failed) return mlxr_fail_nomem(err, w->path);
    n_header = out->len - sizeof zeros;
    memcpy(out->data, &n_header, sizeof n_header);
    return MLXR_OK;
}

static bool only_strings(const json_t *metadata)
{
    const char *key;
    const json_t *v;

    if (!json_is_object(metadata)) return false;
    json_object_foreach((json_t *)(uintptr_t)metadata, key, v)
    {
        if (!json_is_string(v)) return false;
    }
    return true;
}

mlxr_status mlxr_safetensors_writer_commit(mlxr_safetensors_writer *w, const json_t *metadata,
                                           const mlxr_progress *progress, mlxr_error *err)
{
    mlxr_atomic_file *file = NULL;
    mlxr_buf header = {0};
    uint8_t *chunk = NULL;
    uint64_t done = 0;
    mlxr_status st;

    if (metadata && !only_strings(metadata))
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "safetensors: %s: metadata is not an object of strings", w->path);
    if ((st = build_header(&header, w, metadata, err)) != MLXR_OK) goto done;
    chunk = mlxr_aligned_alloc(chunk_bytes);
    if (!chunk) {
        st = mlxr_fail_nomem(err, w->path);
        goto done;
    }
    if ((st = mlxr_atomic_file_open(&file, w->path, err)) != MLXR_OK) goto done;
    if ((st = mlxr_atomic_file_write(file, header.data, header.len, err)) != MLXR_OK) goto done;
    for (size_t i = 0; i < w->n; i++) {
        const entry *e = &w->entries[i];
        for (size_t begin = 0; begin < e->n_bytes; begin += chunk_bytes) {
            size_t n = e->n_bytes - begin < chunk_bytes ? e->n_bytes - begin : chunk_bytes;
            if (mlxr_cancelled(w->cancel)) {
                st = mlxr_fail(err, MLXR_E_CANCELLED, "safetensors: %s: cancelled", w->path);
                goto done;
            }
            if ((st = e->fill(e->ud, chunk, begin, n, err)) != MLXR_OK) goto done;
            if ((st = mlxr_atomic_file_write(file, chunk, n, err)) != MLXR_OK) goto done;
            done += n;
            if (progress && progress->fn) progress->fn(done, w->n_data, progress->ud);
        }
    }
    st = mlxr_atomic_file_commit(file, err);
done:
    mlxr_atomic_file_close(file);
    mlxr_aligned_free(chunk);
    mlxr_buf_clear(&header);
    return st;
}
