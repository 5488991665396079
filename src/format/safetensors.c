/* Reads safetensors: one file, or a folder's shards as one checkpoint. The files are mapped and tensors point
 * into them; everything a header says is checked against the file before anything is handed out.
 *
 * Follows the format's description (README.md, and the checks of safetensors/src/tensor.rs, in
 * huggingface/safetensors) and, for which files of a folder count, mlx-lm and transformers. Writing is in
 * safetensors_writer.c. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fs.h"
#include "format/format.h"

enum { LENGTH_BYTES = 8 };
static const size_t max_header_bytes = 100000000; /* the reference's limit */
static const size_t prefetch_chunk_bytes = (size_t)64 << 20;

typedef struct shard {
    mlxr_map map;
    const char *path, *file; /* the whole path for messages, the base name for people; of the arena */
    const uint8_t *data;     /* after the header */
    size_t n_data;
} shard;

struct mlxr_checkpoint {
    shard *shards;
    size_t n_shards, cap_shards;
    mlxr_tensor *tensors;
    size_t n_tensors, cap_tensors;
    mlxr_strtab by_name; /* name to index in tensors */
    mlxr_arena arena;    /* names and paths */
};

static mlxr_status fail_nomem(mlxr_error *err, const char *path)
{
    return mlxr_fail(err, MLXR_E_NOMEM, "safetensors: %s: out of memory", path);
}

/* The array with room for one more item of `size` bytes, perhaps moved; NULL when out of memory, and then the
 * old one is as it was. */
static void *grown(void *items, size_t *cap, size_t n, size_t size)
{
    const size_t more = *cap ? *cap * 2 : 16;
    void *p;

    if (n < *cap) return items;
    p = mlxr_realloc_array(items, more, size);
    if (p) *cap = more;
    return p;
}

/* ---- one header ---- */

/* "[64, 128]" into text, for messages. */
static const char *shape_text(char *text, size_t cap, const mlxr_tensor *t)
{
    size_t n = 0;
    text[n++] = '[';
    for (unsigned i = 0; i < t->n_dims && n < cap; i++)
        n += (size_t)snprintf(text + n, cap - n, "%s%zu", i ? ", " : "", t->shape[i]);
    if (n < cap) snprintf(text + n, cap - n, "]");
    return text;
}

static mlxr_status read_offset(size_t *out, const json_t *v, const shard *sh, const char *name,
                               mlxr_error *err)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return mlxr_fail(err, MLXR_E_FORMAT,
                         "safetensors: %s: \"%s\": \"data_offsets\" is not two whole numbers", sh->path,
                         name);
    if ((uint64_t)json_integer_value(v) > sh->n_data)
        return mlxr_fail(
            err, MLXR_E_FORMAT,
            "safetensors: %s: \"%s\": offset %lld lies outside the file's %zu bytes of data (cut short?)",
            sh->path, name, (long long)json_integer_value(v), sh->n_data);
    *out = (size_t)json_integer_value(v);
    return MLXR_OK;
}

/* Fills t from one entry of the header. */
static mlxr_status read_tensor(mlxr_tensor *t, const shard *sh, const char *name, const json_t *entry,
                               mlxr_error *err)
{
    const json_t *dtype = json_object_get(entry, "dtype"), *shape = json_object_get(entry, "shape"),
                 *offsets = json_object_get(entry, "data_offsets");
    char text[256];
    size_t begin = 0, end = 0, n_bits;
    mlxr_status st;

    *t = (mlxr_tensor){.name = name, .file = sh->file, .n_elements = 1};
    if (!json_is_object(entry))
        return mlxr_fail(err, MLXR_E_FORMAT, "safetensors: %s: \"%s\": not an object", sh->path, name);
    if (!json_is_string(dtype))
        return mlxr_fail(err, MLXR_E_FORMAT, "safetensors: %s: \"%s\": no \"dtype\"", sh->path, name);
    t->dtype = mlxr_dtype_from_name(json_string_value(dtype));
    if (t->dtype == MLXR_DTYPE_COUNT)
        return mlxr_fail(err, MLXR_E_FORMAT, "safetensors: %s: \"%s\": unknown dtype \"%s\"", sh->path, name,
                         json_string_value(dtype));
    if (!json_is_array(shape))
        return mlxr_fail(err, MLXR_E_FORMAT, "safetensors: %s: \"%s\": no \"shape\"", sh->path, name);
    if (json_array_size(shape) > MLXR_MAX_DIMS)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                         "safetensors: %s: \"%s\": %zu dimensions, at most %d are supported", sh->path, name,
                         json_array_size(shape), MLXR_MAX_DIMS);
    t->n_dims = (unsigned)json_array_size(shape);
    for (unsigned i = 0; i < t->n_dims; i++) {
        const json_t *d = json_array_get(shape, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0 || (uint64_t)json_integer_value(d) > SIZE_MAX)
            return mlxr_fail(err, MLXR_E_FORMAT,
                             "safetensors: %s: \"%s\": dimension %u is not a whole number", sh->path, name,
                             i);
        t->shape[i] = (size_t)json_integer_value(d);
        if (!mlxr_mul_size(&t->n_elements, t->n_elements, t->shape[i]))
            return mlxr_fail(err, MLXR_E_FORMAT, "safetensors: %s: \"%s\": the shape's product overflows",
                             sh->path, name);
    }
    if (!mlxr_mul_size(&n_bits, t->n_elements, mlxr_dtype_bits(t->dtype)))
        return mlxr_fail(err, MLXR_E_FORMAT, "safetensors: %s: \"%s\": the shape's bytes overflow", sh->path,
                         name);
    if (n_bits % 8)
        return mlxr_fail(err, MLXR_E_FORMAT, "safetensors: %s: \"%s\": shape %s %s does not fill whole bytes",
                         sh->path, name, shape_text(text, sizeof text, t), mlxr_dtype_name(t->dtype));
    t->n_bytes = n_bits / 8;

    if (!json_is_array(offsets) || json_array_size(offsets) != 2)
        return mlxr_fail(err, MLXR_E_FORMAT, "safetensors: %s: \"%s\": no \"data_offsets\" of two numbers",
                         sh->path, name);
    if ((st = read_offset(&begin, json_array_get(offsets, 0), sh, name, err)) != MLXR_OK) return st;
    if ((st = read_offset(&end, json_array_get(offsets, 1), sh, name, err)) != MLXR_OK) return st;
    if (end < begin)
        return mlxr_fail(err, MLXR_E_FORMAT, "safetensors: %s: \"%s\": ends at %zu, before its begin at %zu",
                         sh->path, name, end, begin);
    if (end - begin != t->n_bytes)
        return mlxr_fail(err, MLXR_E_FORMAT,
                         "safetensors: %s: \"%s\": shape %s %s needs %zu bytes, its offsets span %zu",
                         sh->path, name, shape_text(text, sizeof text, t), mlxr_dtype_name(t->dtype),
                         t->n_bytes, end - begin);
    t->data = sh->data + begin;
    return MLXR_OK;
}

static mlxr_status check_metadata(const json_t *metadata, const shard *sh, mlxr_error *err)
{
    const char *key;
    const json_t *v;

    if (json_is_null(metadata)) return MLXR_OK; /* what mx.save_safetensors writes for none */
    if (!json_is_object(metadata))
        return mlxr_fail(err, MLXR_E_FORMAT, "safetensors: %s: \"__metadata__\" is not an object", sh->path);
    json_object_foreach((json_t *)(uintptr_t)metadata, key, v)
    {
        if (!json_is_string(v))
            return mlxr_fail(err, MLXR_E_FORMAT, "safetensors: %s: \"__metadata__\": \"%s\" is not a string",
                             sh->path, key);
    }
    return MLXR_OK;
}

static int by_place(const void *a, const void *b)
{
    const mlxr_tensor *x = a, *y = b;
    const uint8_t *dx = x->data, *dy = y->data;
    if (dx != dy) return dx < dy ? -1 : 1;
    if (x->n_bytes != y->n_bytes) return x->n_bytes < y->n_bytes ? -1 : 1; /* empty ones come first */
    return strcmp(x->name, y->name);
}

/* Sorts the tensors of one shard, from `first` on, by place; they must tile its data from the first byte to
 * the last. */
static mlxr_status check_tiling(mlxr_checkpoint *c, size_t first, const shard *sh, mlxr_error *err)
{
    size_t at = 0;

    if (c->n_tensors > first) qsort(c->tensors + first, c->n_tensors - first, sizeof *c->tensors, by_place);
    for (size_t i = first; i < c->n_tensors; i++) {
        const mlxr_tensor *t = &c->tensors[i];
        size_t begin = (size_t)((const uint8_t *)t->data - sh->data);
        if (begin < at)
            return mlxr_fail(err, MLXR_E_FORMAT,
                             "safetensors: %s: \"%s\" at %zu overlaps \"%s\", which ends at %zu", sh->path,
                             t->name, begin, t[-1].name, at);
        if (begin > at)
            return mlxr_fail(err, MLXR_E_FORMAT, "safetensors: %s: a hole of %zu bytes before \"%s\" at %zu",
                             sh->path, begin - at, t->name, begin);
        at = begin + t->n_bytes;
    }
    if (at != sh->n_data)
        return mlxr_fail(err, MLXR_E_FORMAT,
                         "safetensors: %s: %zu bytes after the last tensor belong to none", sh->path,
                         sh->n_data - at);
    return MLXR_OK;
}

/* Adds the tensors of a shard whose bytes are at hand. */
static mlxr_status add_tensors(mlxr_checkpoint *c, shard *sh, mlxr_error *err)
{
    const uint8_t *bytes = sh->map.data;
    const size_t n_bytes = sh->map.n_bytes, first = c->n_tensors;
    uint64_t n_header = 0;
    json_t *root = NULL;
    const char *key;
    json_t *entry;
    mlxr_status st = MLXR_OK;

    if (n_bytes < LENGTH_BYTES)
        return mlxr_fail(err, MLXR_E_FORMAT, "safetensors: %s: %zu bytes, too short for a header", sh->path,
                         n_bytes);
    memcpy(&n_header, bytes, LENGTH_BYTES);
    if (n_header > max_header_bytes)
        return mlxr_fail(err, MLXR_E_FORMAT,
                         "safetensors: %s: a header of %llu bytes, at most %zu are allowed", sh->path,
                         (unsigned long long)n_header, max_header_bytes);
    if (n_header > n_bytes - LENGTH_BYTES)
        return mlxr_fail(err, MLXR_E_FORMAT,
                         "safetensors: %s: a header of %llu bytes in a file of %zu (cut short?)", sh->path,
                         (unsigned long long)n_header, n_bytes);
    if (n_header == 0 || bytes[LENGTH_BYTES] != '{')
        return mlxr_fail(err, MLXR_E_FORMAT, "safetensors: %s: the header does not begin with '{'", sh->path);
    sh->data = bytes + LENGTH_BYTES + n_header;
    sh->n_data = n_bytes - LENGTH_BYTES - (size_t)n_header;

    st = mlxr_json_parse(&root, (const char *)bytes + LENGTH_BYTES, (size_t)n_header, sh->path, err);
    if (st != MLXR_OK) {
        mlxr_error_prefix(err, "safetensors: header of ");
        goto done;
    }
    json_object_foreach(root, key, entry)
    {
        size_t n_key = strlen(key);
        mlxr_tensor t;
        mlxr_tensor *tensors;
        char *name;
        if (strcmp(key, "__metadata__") == 0) {
            if ((st = check_metadata(entry, sh, err)) != MLXR_OK) goto done;
            continue;
        }
        name = mlxr_arena_strndup(&c->arena, key, n_key);
        tensors = grown(c->tensors, &c->cap_tensors, c->n_tensors, sizeof *tensors);
        if (tensors) c->tensors = tensors;
        if (!name || !tensors) {
            st = fail_nomem(err, sh->path);
            goto done;
        }
        if ((st = read_tensor(&t, sh, name, entry, err)) != MLXR_OK) goto done;
        c->tensors[c->n_tensors++] = t;
    }
    if ((st = check_tiling(c, first, sh, err)) != MLXR_OK) goto done;
    for (size_t i = first; i < c->n_tensors; i++) {
        size_t old;
        if (!mlxr_strtab_put(&c->by_name, c->tensors[i].name, strlen(c->tensors[i].name), i, &old)) {
            st = fail_nomem(err, sh->path);
            goto done;
        }
        if (old != SIZE_MAX) { /* twice in one header is an error of the JSON reader already */
            st = mlxr_fail(err, MLXR_E_FORMAT, "safetensors: %s: \"%s\" is in %s already", sh->path,
                           c->tensors[i].name, c->tensors[old].file);
            goto done;
        }
    }
done:
    json_decref(root);
    return st;
}

/* ---- files ---- */

/* A new, still empty shard; NULL when out of memory. */
static shard *push_shard(mlxr_checkpoint *c, const char *path)
{
    const char *slash = strrchr(path, '/');
    shard sh = {0}, *shards = grown(c->shards, &c->cap_shards, c->n_shards, sizeof sh);

    if (!shards) return NULL;
    c->shards = shards;
    sh.path = mlxr_arena_strndup(&c->arena, path, strlen(path));
    if (!sh.path) return NULL;
    sh.file = slash ? sh.path + (slash - path) + 1 : sh.path;
    c->shards[c->n_shards] = sh;
    return &c->shards[c->n_shards++];
}

static mlxr_status add_file(mlxr_checkpoint *c, const char *path, mlxr_error *err)
{
    shard *sh = push_shard(c, path);
    mlxr_status st;

    if (!sh) return fail_nomem(err, path);
    st = mlxr_map_open(&sh->map, path, err);
    if (st != MLXR_OK) {
        mlxr_error_prefix(err, "safetensors: ");
        return st;
    }
    return add_tensors(c, sh, err);
}

/* A growing list of file names. */
typedef struct names {
    char **v;
    size_t n, cap;
} names;

static bool names_push(names *l, const char *name)
{
    char **v = grown(l->v, &l->cap, l->n, sizeof(char *));

    if (!v) return false;
    l->v = v;
    l->v[l->n] = mlxr_strdup(name);
    return l->v[l->n] && ++l->n;
}

static void names_clear(names *l)
{
    for (size_t i = 0; i < l->n; i++) free(l->v[i]);
    free(l->v);
    *l = (names){0};
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_sort(names *l)
{
    if (l->n) qsort(l->v, l->n, sizeof *l->v, by_text);
}

static bool file_in(const char *dir, const char *name)
{
    char *path = mlxr_path_join(dir, name);
    bool is = path && mlxr_path_is_file(path);
    free(path);
    return is;
}

/* The shards an index names, each once and sorted. */
static mlxr_status index_shards(names *out, const json_t *weight_map, const char *index_path, mlxr_error *err)
{
    const char *key;
    const json_t *v;
    size_t n = 0;

    if (!json_is_object(weight_map) || json_object_size(weight_map) == 0)
        return mlxr_fail(err, MLXR_E_FORMAT, "safetensors: %s: no \"weight_map\" of tensors to files",
                         index_path);
    json_object_foreach((json_t *)(uintptr_t)weight_map, key, v)
    {
        const char *file = json_string_value(v);
        if (!file)
            return mlxr_fail(err, MLXR_E_FORMAT, "safetensors: %s: \"%s\" is not mapped to a file's name",
                             index_path, key);
        if (file[0] == '\0' || file[0] == '.' || strchr(file, '/') || strlen(file) != json_string_length(v))
            return mlxr_fail(err, MLXR_E_FORMAT,
                             "safetensors: %s: \"%s\" is mapped to \"%s\", no file of this folder",
                             index_path, key, file);
        if (n && strcmp(out->v[out->n - 1], file) == 0) continue; /* neighbours mostly share theirs */
        if (!names_push(out, file)) return fail_nomem(err, index_path);
        n++;
    }
    names_sort(out);
    n = 0;
    for (size_t i = 0; i < out->n; i++) {
        if (i && strcmp(out->v[i], out->v[n - 1]) == 0)
            free(out->v[i]);
        else
            out->v[n++] = out->v[i];
    }
    out->n = n;
    return MLXR_OK;
}

static mlxr_status add_index(mlxr_checkpoint *c, const char *dir, const char *index_path,
                             const json_t *weight_map, const names *files, mlxr_error *err)
{
    const char *key;
    const json_t *v;

    for (size_t i = 0; i < files->n; i++) {
        char *path = mlxr_path_join(dir, files->v[i]);
        mlxr_status st = path ? add_file(c, path, err) : fail_nomem(err, dir);
        free(path);
        if (st == MLXR_E_NOT_FOUND) mlxr_error_append(err, " (a shard of %s)", index_path);
        if (st != MLXR_OK) return st;
    }
    json_object_foreach((json_t *)(uintptr_t)weight_map, key, v)
    {
        const mlxr_tensor *t = mlxr_checkpoint_find(c, key);
        if (!t || strcmp(t->file, json_string_value(v)) != 0)
            return mlxr_fail(err, MLXR_E_FORMAT,
                             "safetensors: %s: \"%s\" is said to be in %s, which lacks it", index_path, key,
                             json_string_value(v));
    }
    return MLXR_OK;
}

/* The names in dir of the form model*.safetensors, sorted. */
static mlxr_status list_models(names *out, const char *dir, mlxr_error *err)
{
    static const char suffix[] = ".safetensors";
    DIR *d = opendir(dir);
    const struct dirent *e;
    mlxr_status st = MLXR_OK;

    if (!d)
        return mlxr_fail(err, errno == ENOENT || errno == ENOTDIR ? MLXR_E_NOT_FOUND : MLXR_E_IO,
                         "safetensors: %s: cannot open the folder: %s", dir, strerror(errno));
    while (st == MLXR_OK && (e = readdir(d)) != NULL) {
        size_t n = strlen(e->d_name);
        if (strncmp(e->d_name, "model", 5) == 0 && n >= sizeof suffix &&
            strcmp(e->d_name + n - (sizeof suffix - 1), suffix) == 0 && !names_push(out, e->d_name))
            st = fail_nomem(err, dir);
    }
    closedir(d);
    names_sort(out);
    return st;
}

/* Opens what the folder has, in this order: the index and its shards, model.safetensors,
 * model*.safetensors. */
static mlxr_status add_folder(mlxr_checkpoint *c, const char *dir, mlxr_error *err)
{
    char *index_path = mlxr_path_join(dir, "model.safetensors.index.json");
    json_t *index = NULL;
    const json_t *weight_map;
    names files = {0};
    mlxr_status st;

    if (!index_path) return fail_nomem(err, dir);
    st = mlxr_json_read(&index, index_path, max_header_bytes, err);
    if (st == MLXR_OK) {
        size_t n_present = 0;
        weight_map = json_object_get(index, "weight_map");
        if ((st = index_shards(&files, weight_map, index_path, err)) != MLXR_OK) goto done;
        for (size_t i = 0; i < files.n; i++) n_present += file_in(dir, files.v[i]);
        /* An index left behind after its shards were merged into one file names none that is there. */
        if (n_present > 0 || !file_in(dir, "model.safetensors")) {
            st = add_index(c, dir, index_path, weight_map, &files, err);
            goto done;
        }
        names_clear(&files);
    } else if (st != MLXR_E_NOT_FOUND) {
        mlxr_error_prefix(err, "safetensors: ");
        goto done;
    }
    if ((st = list_models(&files, dir, err)) != MLXR_OK) goto done;
    if (files.n == 0) {
        st = mlxr_fail(
            err, MLXR_E_NOT_FOUND,
            "safetensors: %s: no weights: looked for model.safetensors.index.json, model.safetensors and "
            "model*.safetensors",
            dir);
        goto done;
    }
    for (size_t i = 0; i < files.n; i++) {
        char *path;
        if (strcmp(files.v[i], "model.safetensors") != 0 && file_in(dir, "model.safetensors")) continue;
        path = mlxr_path_join(dir, files.v[i]);
        st = path ? add_file(c, path, err) : fail_nomem(err, dir);
        free(path);
        if (st != MLXR_OK) goto done;
    }
done:
    names_clear(&files);
    json_decref(index);
    free(index_path);
    return st;
}

static mlxr_status finish(mlxr_checkpoint **out, mlxr_checkpoint *c, mlxr_status st)
{
    if (st != MLXR_OK) {
        mlxr_checkpoint_close(c);
        return st;
    }
    *out = c;
    return MLXR_OK;
}

mlxr_status mlxr_checkpoint_open(mlxr_checkpoint **out, const char *dir, mlxr_error *err)
{
    mlxr_checkpoint *c = calloc(1, sizeof *c);

    *out = NULL;
    if (!c) return fail_nomem(err, dir);
    return finish(out, c, add_folder(c, dir, err));
}

mlxr_status mlxr_checkpoint_open_file(mlxr_checkpoint **out, const char *path, mlxr_error *err)
{
    return mlxr_checkpoint_open_files(out, &path, 1, err);
}

mlxr_status mlxr_checkpoint_open_files(mlxr_checkpoint **out, const char *const *paths, size_t n_paths,
                                       mlxr_error *err)
{
    mlxr_checkpoint *c = calloc(1, sizeof *c);
    mlxr_status st = MLXR_OK;

    *out = NULL;
    if (!c) return fail_nomem(err, n_paths ? paths[0] : "files");
    for (size_t i = 0; i < n_paths && st == MLXR_OK; i++) st = add_file(c, paths[i], err);
    return finish(out, c, st);
}

mlxr_status mlxr_checkpoint_open_bytes(mlxr_checkpoint **out, const void *data, size_t n_bytes,
                                       const char *name, mlxr_error *err)
{
    mlxr_checkpoint *c = calloc(1, sizeof *c);
    shard *sh;

    *out = NULL;
    if (!c) return fail_nomem(err, name);
    sh = push_shard(c, name);
    if (!sh) return finish(out, c, fail_nomem(err, name));
    sh->map = (mlxr_map){.data = data, .n_bytes = n_bytes};
    return finish(out, c, add_tensors(c, sh, err));
}

void mlxr_checkpoint_close(mlxr_checkpoint *c)
{
    if (!c) return;
    for (size_t i = 0; i < c->n_shards; i++) mlxr_map_close(&c->shards[i].map);
    free(c->shards);
    free(c->tensors);
    mlxr_strtab_clear(&c->by_name);
    mlxr_arena_clear(&c->arena);
    free(c);
}

size_t mlxr_checkpoint_count(const mlxr_checkpoint *c)
{
    return c->n_tensors;
}

const mlxr_tensor *mlxr_checkpoint_get(const mlxr_checkpoint *c, size_t i)
{
    return i < c->n_tensors ? &c->tensors[i] : NULL;
}

const mlxr_tensor *mlxr_checkpoint_find(const mlxr_checkpoint *c, const char *name)
{
    size_t i = mlxr_strtab_get(&c->by_name, name, strlen(name));
    return i == SIZE_MAX ? NULL : &c->tensors[i];
}

bool mlxr_checkpoint_damaged(const mlxr_checkpoint *c)
{
    for (size_t i = 0; i < c->n_shards; i++)
        if (mlxr_map_damaged(&c->shards[i].map)) return true;
    return false;
}

uint64_t mlxr_checkpoint_bytes(const mlxr_checkpoint *c)
{
    uint64_t n = 0;
    for (size_t i = 0; i < c->n_shards; i++) n += c->shards[i].map.n_bytes;
    return n;
}

/* Asking alone returns at once and tells nothing of how far the disk is, so each chunk is then touched, a
 * byte a page, while the next one is already on its way. */
void mlxr_checkpoint_prefetch(const mlxr_checkpoint *c, const mlxr_progress *progress)
{
    const uint64_t total = mlxr_checkpoint_bytes(c);
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint64_t done = 0;

    for (size_t i = 0; i < c->n_shards; i++) {
        const mlxr_map *map = &c->shards[i].map;
        size_t asked = 0;
        for (size_t at = 0; at < map->n_bytes; at += prefetch_chunk_bytes) {
            size_t end = map->n_bytes - at < prefetch_chunk_bytes ? map->n_bytes : at + prefetch_chunk_bytes;
            size_t want = map->n_bytes - end < prefetch_chunk_bytes ? map->n_bytes
                                                                    : end + prefetch_chunk_bytes;
            if (map->mapped && want > asked) /* a mapping starts on a page and chunks are whole pages */
                (void)madvise((void *)(uintptr_t)(map->data + asked), want - asked, MADV_WILLNEED);
            asked = want;
            for (size_t p = at; p < end; p += page) (void)*(const volatile uint8_t *)(map->data + p);
            done += end - at;
            if (progress && progress->fn) progress->fn(done, total, progress->ud);
        }
    }
}
