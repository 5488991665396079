/* Reads GGUF, versions 2 and 3, little-endian. One pass of a cursor that never leaves the mapping; see
 * gguf.h. */
#include "format/gguf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"

enum {
    MAX_NESTING = 4,
    MAX_GGUF_DIMS = 4,
    DEFAULT_ALIGNMENT = 32,
    MIN_PAIR_BYTES = 13,
    MIN_TENSOR_BYTES = 24
};

typedef struct pair {
    mlxr_gguf_str key;
    mlxr_gguf_value value;
} pair;

struct mlxr_gguf {
    mlxr_map map;
    char *path;
    pair *pairs;
    size_t n_pairs;
    mlxr_gguf_tensor *tensors; /* in the file's order */
    size_t n_tensors;
    mlxr_strtab by_key, by_name;
    mlxr_arena arena; /* names */
};

/* ---- kinds ---- */

static const struct {
    const char *name;
    unsigned n_bytes; /* 0: of its own length */
} kinds[MLXR_GGUF_KIND_COUNT] = {
    [MLXR_GGUF_U8] = {"uint8", 1},    [MLXR_GGUF_I8] = {"int8", 1},    [MLXR_GGUF_U16] = {"uint16", 2},
    [MLXR_GGUF_I16] = {"int16", 2},   [MLXR_GGUF_U32] = {"uint32", 4}, [MLXR_GGUF_I32] = {"int32", 4},
    [MLXR_GGUF_F32] = {"float32", 4}, [MLXR_GGUF_BOOL] = {"bool", 1},  [MLXR_GGUF_STRING] = {"string", 0},
    [MLXR_GGUF_ARRAY] = {"array", 0}, [MLXR_GGUF_U64] = {"uint64", 8}, [MLXR_GGUF_I64] = {"int64", 8},
    [MLXR_GGUF_F64] = {"float64", 8},
};

const char *mlxr_gguf_kind_name(mlxr_gguf_kind k)
{
    return (unsigned)k < MLXR_GGUF_KIND_COUNT ? kinds[k].name : "?";
}

bool mlxr_gguf_kind_is_int(mlxr_gguf_kind k)
{
    switch (k) {
    case MLXR_GGUF_U8:
    case MLXR_GGUF_I8:
    case MLXR_GGUF_U16:
    case MLXR_GGUF_I16:
    case MLXR_GGUF_U32:
    case MLXR_GGUF_I32:
    case MLXR_GGUF_U64:
    case MLXR_GGUF_I64: return true;
    default: return false;
    }
}

#define LOAD(type)               \
    {                            \
        type x;                  \
        memcpy(&x, p, sizeof x); \
        return x;                \
    }

/* A uint64 past INT64_MAX becomes INT64_MAX: out of every range that is asked for. */
static int64_t load_int(mlxr_gguf_kind k, const uint8_t *p)
{
    uint64_t u;

    switch (k) {
    case MLXR_GGUF_U8: LOAD(uint8_t)
    case MLXR_GGUF_I8: LOAD(int8_t)
    case MLXR_GGUF_U16: LOAD(uint16_t)
    case MLXR_GGUF_I16: LOAD(int16_t)
    case MLXR_GGUF_U32: LOAD(uint32_t)
    case MLXR_GGUF_I32: LOAD(int32_t)
    case MLXR_GGUF_I64: LOAD(int64_t)
    case MLXR_GGUF_U64: memcpy(&u, p, sizeof u); return u > INT64_MAX ? INT64_MAX : (int64_t)u;
    default: return 0;
    }
}

static double load_real(mlxr_gguf_kind k, const uint8_t *p)
{
    switch (k) {
    case MLXR_GGUF_F32: LOAD(float)
    case MLXR_GGUF_F64: LOAD(double)
    default: return (double)load_int(k, p);
    }
}

/* ---- cursor ---- */

typedef struct cursor {
    const uint8_t *at, *end;
    const char *path;
    mlxr_error *err;
} cursor;

static size_t left(const cursor *c)
{
    return (size_t)(c->end - c->at);
}

static mlxr_status cut_short(const cursor *c, const char *what, const char *of)
{
    return mlxr_fail(c->err, MLXR_E_FORMAT, "gguf: %s: the file ends inside %s%s%s%s", c->path, what,
                     of ? " \"" : "", of ? of : "", of ? "\"" : "");
}

static mlxr_status take_u32(cursor *c, uint32_t *out, const char *what, const char *of)
{
    if (left(c) < sizeof *out) return cut_short(c, what, of);
    memcpy(out, c->at, sizeof *out);
    c->at += sizeof *out;
    return MLXR_OK;
}

static mlxr_status take_u64(cursor *c, uint64_t *out, const char *what, const char *of)
{
    if (left(c) < sizeof *out) return cut_short(c, what, of);
    memcpy(out, c->at, sizeof *out);
    c->at += sizeof *out;
    return MLXR_OK;
}

static mlxr_status take_str(cursor *c, mlxr_gguf_str *out, const char *what, const char *of)
{
    uint64_t n = 0;
    mlxr_status st = take_u64(c, &n, what, of);

    if (st != MLXR_OK) return st;
    if (n > left(c)) return cut_short(c, what, of);
    *out = (mlxr_gguf_str){(const char *)c->at, (size_t)n};
    c->at += n;
    return MLXR_OK;
}

/* A name that may be printed and put in a table: UTF-8 without NUL. */
static mlxr_status take_name(cursor *c, mlxr_gguf_str *out, const char *what)
{
    mlxr_status st = take_str(c, out, what, NULL);

    if (st != MLXR_OK) return st;
    if (memchr(out->s, 0, out->n) || mlxr_utf8_valid(out->s, out->n) != out->n)
        return mlxr_fail(c->err, MLXR_E_FORMAT, "gguf: %s: %s is not valid UTF-8 text", c->path, what);
    return MLXR_OK;
}

/* Steps over one value, checking it whole; arrays in arrays down to MAX_NESTING. */
static mlxr_status take_value(cursor *c, mlxr_gguf_value *out, mlxr_gguf_kind kind, const char *key,
                              unsigned depth)
{
    uint32_t item_kind = 0;
    mlxr_gguf_str s;
    mlxr_gguf_value item;
    mlxr_status st;

    *out = (mlxr_gguf_value){.kind = kind, .data = c->at};
    if (kind == MLXR_GGUF_STRING) return take_str(c, &s, "the string of", key);
    if (kind != MLXR_GGUF_ARRAY) {
        if (left(c) < kinds[kind].n_bytes) return cut_short(c, "the value of", key);
        c->at += kinds[kind].n_bytes;
        return MLXR_OK;
    }
    if (depth >= MAX_NESTING)
        return mlxr_fail(c->err, MLXR_E_LIMIT, "gguf: %s: \"%s\": arrays nested more than %d deep", c->path,
                         key, MAX_NESTING);
    if ((st = take_u32(c, &item_kind, "the array of", key)) != MLXR_OK) return st;
    if ((st = take_u64(c, &out->n_items, "the array of", key)) != MLXR_OK) return st;
    if (item_kind >= MLXR_GGUF_KIND_COUNT)
        return mlxr_fail(c->err, MLXR_E_FORMAT, "gguf: %s: \"%s\": an array of unknown kind %u", c->path, key,
                         item_kind);
    out->item_kind = (mlxr_gguf_kind)item_kind;
    out->data = c->at;
    if (kinds[item_kind].n_bytes) {
        if (out->n_items > left(c) / kinds[item_kind].n_bytes) return cut_short(c, "the array of", key);
        c->at += out->n_items * kinds[item_kind].n_bytes;
        return MLXR_OK;
    }
    for (uint64_t i = 0; i < out->n_items; i++) /* each item takes bytes, so the file's end bounds this */
        if ((st = take_value(c, &item, (mlxr_gguf_kind)item_kind, key, depth + 1)) != MLXR_OK) return st;
    return MLXR_OK;
}

/* ---- the file's parts ---- */

static mlxr_status read_pairs(mlxr_gguf *g, cursor *c, uint64_t n)
{
    mlxr_status st;

    if (n > left(c) / MIN_PAIR_BYTES)
        return mlxr_fail(c->err, MLXR_E_FORMAT, "gguf: %s: %llu pairs do not fit the file", c->path,
                         (unsigned long long)n);
    g->pairs = mlxr_calloc_array((size_t)n, sizeof *g->pairs);
    if (!g->pairs) return mlxr_fail_nomem(c->err, c->path);
    for (; g->n_pairs < n; g->n_pairs++) {
        pair *p = &g->pairs[g->n_pairs];
        uint32_t kind = 0;
        size_t old;
        const char *key;
        if ((st = take_name(c, &p->key, "a key")) != MLXR_OK) return st;
        key = mlxr_arena_strndup(&g->arena, p->key.s, p->key.n);
        if (!key) return mlxr_fail_nomem(c->err, c->path);
        if ((st = take_u32(c, &kind, "the kind of", key)) != MLXR_OK) return st;
        if (kind >= MLXR_GGUF_KIND_COUNT)
            return mlxr_fail(c->err, MLXR_E_FORMAT, "gguf: %s: \"%s\" is of unknown kind %u", c->path, key,
                             kind);
        if ((st = take_value(c, &p->value, (mlxr_gguf_kind)kind, key, 0)) != MLXR_OK) return st;
        if (!mlxr_strtab_put(&g->by_key, key, p->key.n, g->n_pairs, &old))
            return mlxr_fail_nomem(c->err, c->path);
        if (old != SIZE_MAX)
            return mlxr_fail(c->err, MLXR_E_FORMAT, "gguf: %s: the key \"%s\" is there twice", c->path, key);
    }
    return MLXR_OK;
}

/* The info of one tensor, its offset still unchecked against the data, which begins after all infos. */
static mlxr_status read_info(mlxr_gguf *g, cursor *c, mlxr_gguf_tensor *t, uint64_t *offset)
{
    mlxr_gguf_str name;
    mlxr_status st;

    if ((st = take_name(c, &name, "a tensor's name")) != MLXR_OK) return st;
    t->name = mlxr_arena_strndup(&g->arena, name.s, name.n);
    if (!t->name) return mlxr_fail_nomem(c->err, c->path);
    if ((st = take_u32(c, &t->n_dims, "the info of", t->name)) != MLXR_OK) return st;
    if (t->n_dims > MAX_GGUF_DIMS)
        return mlxr_fail(c->err, MLXR_E_FORMAT, "gguf: %s: \"%s\": %u dimensions, at most %d are allowed",
                         c->path, t->name, t->n_dims, MAX_GGUF_DIMS);
    t->n_elements = 1;
    for (unsigned i = 0; i < t->n_dims; i++) {
        uint64_t d = 0;
        if ((st = take_u64(c, &d, "the info of", t->name)) != MLXR_OK) return st;
        if (d > SIZE_MAX || !mlxr_mul_size(&t->n_elements, t->n_elements, (size_t)d))
            return mlxr_fail(c->err, MLXR_E_FORMAT, "gguf: %s: \"%s\": the shape's product overflows",
                             c->path, t->name);
        t->shape[t->n_dims - 1 - i] = (size_t)d;
    }
    if ((st = take_u32(c, &t->type, "the info of", t->name)) != MLXR_OK) return st;
    if ((st = take_u64(c, offset, "the info of", t->name)) != MLXR_OK) return st;
    t->info = mlxr_ggml_type_get(t->type);
    if (!t->info)
        return mlxr_fail(c->err, MLXR_E_UNSUPPORTED, "gguf: %s: \"%s\" is of unknown type %u", c->path,
                         t->name, t->type);
    if ((t->n_dims ? t->shape[t->n_dims - 1] : 1) % t->info->block_size)
        return mlxr_fail(c->err, MLXR_E_FORMAT, "gguf: %s: \"%s\": rows of %zu do not fill blocks of %u (%s)",
                         c->path, t->name, t->shape[t->n_dims ? t->n_dims - 1 : 0], t->info->block_size,
                         t->info->name);
    if (!mlxr_mul_size(&t->n_bytes, t->n_elements / t->info->block_size, t->info->block_bytes))
        return mlxr_fail(c->err, MLXR_E_FORMAT, "gguf: %s: \"%s\": the shape's bytes overflow", c->path,
                         t->name);
    return MLXR_OK;
}

static int by_place(const void *a, const void *b)
{
    const mlxr_gguf_tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return x->n_bytes < y->n_bytes ? -1 : x->n_bytes > y->n_bytes;
}

static mlxr_status check_apart(const mlxr_gguf *g, mlxr_error *err)
{
    mlxr_gguf_tensor *sorted = mlxr_malloc_array(g->n_tensors, sizeof *sorted);
    mlxr_status st = MLXR_OK;

    if (!sorted) return mlxr_fail_nomem(err, g->path);
    if (g->n_tensors) {
        memcpy(sorted, g->tensors, g->n_tensors * sizeof *sorted);
        qsort(sorted, g->n_tensors, sizeof *sorted, by_place);
    }
    for (size_t i = 1; i < g->n_tensors && st == MLXR_OK; i++)
        if (sorted[i].data < sorted[i - 1].data + sorted[i - 1].n_bytes)
            st = mlxr_fail(err, MLXR_E_FORMAT, "gguf: %s: \"%s\" and \"%s\" overlap", g->path,
                           sorted[i - 1].name, sorted[i].name);
    free(sorted);
    return st;
}

static mlxr_status read_tensors(mlxr_gguf *g, cursor *c, uint64_t n)
{
    int64_t alignment = DEFAULT_ALIGNMENT;
    uint64_t *offsets = NULL;
    size_t start, n_data;
    mlxr_status st;

    if ((st = mlxr_gguf_get_int(&alignment, g, "general.alignment", 1, 1 << 30, c->err)) != MLXR_OK)
        return st;
    if (alignment & (alignment - 1))
        return mlxr_fail(c->err, MLXR_E_FORMAT,
                         "gguf: %s: \"general.alignment\" is %lld, wanted a power of two", c->path,
                         (long long)alignment);
    if (n > left(c) / MIN_TENSOR_BYTES)
        return mlxr_fail(c->err, MLXR_E_FORMAT, "gguf: %s: %llu tensors do not fit the file", c->path,
                         (unsigned long long)n);
    g->tensors = mlxr_calloc_array((size_t)n, sizeof *g->tensors);
    offsets = mlxr_calloc_array((size_t)n, sizeof *offsets);
    if (!g->tensors || !offsets) {
        st = mlxr_fail_nomem(c->err, c->path);
        goto done;
    }
    for (; g->n_tensors < n; g->n_tensors++) {
        mlxr_gguf_tensor *t = &g->tensors[g->n_tensors];
        size_t old;
        if ((st = read_info(g, c, t, &offsets[g->n_tensors])) != MLXR_OK) goto done;
        if (!mlxr_strtab_put(&g->by_name, t->name, strlen(t->name), g->n_tensors, &old)) {
            st = mlxr_fail_nomem(c->err, c->path);
            goto done;
        }
        if (old != SIZE_MAX) {
            st = mlxr_fail(c->err, MLXR_E_FORMAT, "gguf: %s: the tensor \"%s\" is there twice", c->path,
                           t->name);
            goto done;
        }
    }
    start = (size_t)(c->at - g->map.data);
    start += (size_t)(-start & (size_t)(alignment - 1));
    n_data = start < g->map.n_bytes ? g->map.n_bytes - start : 0;
    for (size_t i = 0; i < g->n_tensors; i++) {
        mlxr_gguf_tensor *t = &g->tensors[i];
        if (offsets[i] % (uint64_t)alignment) {
            st = mlxr_fail(c->err, MLXR_E_FORMAT, "gguf: %s: \"%s\" at %llu is not aligned to %lld", c->path,
                           t->name, (unsigned long long)offsets[i], (long long)alignment);
            goto done;
        }
        if (offsets[i] > n_data || t->n_bytes > n_data - offsets[i]) {
            st = mlxr_fail(
                c->err, MLXR_E_FORMAT,
                "gguf: %s: \"%s\": %zu bytes at %llu lie outside the %zu bytes of data (cut short?)", c->path,
                t->name, t->n_bytes, (unsigned long long)offsets[i], n_data);
            goto done;
        }
        t->data = n_data ? g->map.data + start + offsets[i] : c->end;
    }
    st = check_apart(g, c->err);
done:
    free(offsets);
    return st;
}

static mlxr_status read_file(mlxr_gguf *g, mlxr_error *err)
{
    cursor c = {g->map.data, g->map.data + g->map.n_bytes, g->path, err};
    uint32_t version = 0;
    uint64_t n_tensors = 0, n_pairs = 0;
    mlxr_status st;

    if (left(&c) < 4 || memcmp(c.at, "GGUF", 4) != 0)
        return mlxr_fail(err, MLXR_E_FORMAT, "gguf: %s: does not begin with \"GGUF\"", g->path);
    c.at += 4;
    if ((st = take_u32(&c, &version, "the header", NULL)) != MLXR_OK) return st;
    if ((version & 0xffff) == 0 && version != 0)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED, "gguf: %s: a big-endian file", g->path);
    if (version != 2 && version != 3)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED, "gguf: %s: version %u, supported are 2 and 3", g->path,
                         version);
    if ((st = take_u64(&c, &n_tensors, "the header", NULL)) != MLXR_OK) return st;
    if ((st = take_u64(&c, &n_pairs, "the header", NULL)) != MLXR_OK) return st;
    if ((st = read_pairs(g, &c, n_pairs)) != MLXR_OK) return st;
    return read_tensors(g, &c, n_tensors);
}

static mlxr_status open_map(mlxr_gguf **out, mlxr_map map, const char *path, mlxr_error *err)
{
    mlxr_gguf *g = calloc(1, sizeof *g);
    mlxr_status st;

    if (!g) {
        mlxr_map_close(&map);
        return mlxr_fail_nomem(err, path);
    }
    g->map = map;
    g->path = mlxr_strdup(path);
    st = g->path ? read_file(g, err) : mlxr_fail_nomem(err, path);
    if (st == MLXR_OK)
        *out = g;
    else
        mlxr_gguf_close(g);
    return st;
}

mlxr_status mlxr_gguf_open(mlxr_gguf **out, const char *path, mlxr_error *err)
{
    mlxr_map map = {0};
    mlxr_status st;

    *out = NULL;
    if ((st = mlxr_map_open(&map, path, err)) != MLXR_OK) {
        mlxr_error_prefix(err, "gguf: ");
        return st;
    }
    return open_map(out, map, path, err);
}

mlxr_status mlxr_gguf_open_bytes(mlxr_gguf **out, const void *data, size_t n_bytes, const char *name,
                                 mlxr_error *err)
{
    *out = NULL;
    return open_map(out, (mlxr_map){.data = data, .n_bytes = n_bytes}, name, err);
}

void mlxr_gguf_close(mlxr_gguf *g)
{
    if (!g) return;
    mlxr_map_close(&g->map);
    mlxr_strtab_clear(&g->by_key);
    mlxr_strtab_clear(&g->by_name);
    mlxr_arena_clear(&g->arena);
    free(g->pairs);
    free(g->tensors);
    free(g->path);
    free(g);
}

/* ---- what is in it ---- */

const char *mlxr_gguf_path(const mlxr_gguf *g)
{
    return g->path;
}

size_t mlxr_gguf_tensor_count(const mlxr_gguf *g)
{
    return g->n_tensors;
}

const mlxr_gguf_tensor *mlxr_gguf_tensor_get(const mlxr_gguf *g, size_t i)
{
    return i < g->n_tensors ? &g->tensors[i] : NULL;
}

const mlxr_gguf_tensor *mlxr_gguf_tensor_find(const mlxr_gguf *g, const char *name)
{
    size_t i = mlxr_strtab_get(&g->by_name, name, strlen(name));
    return i == SIZE_MAX ? NULL : &g->tensors[i];
}

const mlxr_gguf_value *mlxr_gguf_find(const mlxr_gguf *g, const char *key)
{
    size_t i = mlxr_strtab_get(&g->by_key, key, strlen(key));
    return i == SIZE_MAX ? NULL : &g->pairs[i].value;
}

size_t mlxr_gguf_pair_count(const mlxr_gguf *g)
{
    return g->n_pairs;
}

mlxr_gguf_str mlxr_gguf_pair_get(const mlxr_gguf *g, size_t i, const mlxr_gguf_value **value)
{
    *value = &g->pairs[i].value;
    return g->pairs[i].key;
}

static mlxr_status wrong_kind(const mlxr_gguf *g, const char *key, mlxr_gguf_kind kind, const char *wanted,
                              mlxr_error *err)
{
    return mlxr_fail(err, MLXR_E_FORMAT, "gguf: %s: \"%s\" is of kind %s, wanted %s", g->path, key,
                     mlxr_gguf_kind_name(kind), wanted);
}

mlxr_status mlxr_gguf_get_int(int64_t *out, const mlxr_gguf *g, const char *key, int64_t min, int64_t max,
                              mlxr_error *err)
{
    const mlxr_gguf_value *v = mlxr_gguf_find(g, key);
    int64_t x;

    if (!v) return MLXR_OK;
    if (!mlxr_gguf_kind_is_int(v->kind)) return wrong_kind(g, key, v->kind, "an integer", err);
    x = load_int(v->kind, v->data);
    if (x < min || x > max)
        return mlxr_fail(err, MLXR_E_FORMAT, "gguf: %s: \"%s\" is %lld, wanted %lld to %lld", g->path, key,
                         (long long)x, (long long)min, (long long)max);
    *out = x;
    return MLXR_OK;
}

mlxr_status mlxr_gguf_get_real(double *out, const mlxr_gguf *g, const char *key, mlxr_error *err)
{
    const mlxr_gguf_value *v = mlxr_gguf_find(g, key);
    double x;

    if (!v) return MLXR_OK;
    if (v->kind != MLXR_GGUF_F32 && v->kind != MLXR_GGUF_F64 && !mlxr_gguf_kind_is_int(v->kind))
        return wrong_kind(g, key, v->kind, "a number", err);
    x = load_real(v->kind, v->data);
    if (!isfinite(x)) return mlxr_fail(err, MLXR_E_FORMAT, "gguf: %s: \"%s\" is not finite", g->path, key);
    *out = x;
    return MLXR_OK;
}

mlxr_status mlxr_gguf_get_bool(bool *out, const mlxr_gguf *g, const char *key, mlxr_error *err)
{
    const mlxr_gguf_value *v = mlxr_gguf_find(g, key);

    if (!v) return MLXR_OK;
    if (v->kind != MLXR_GGUF_BOOL) return wrong_kind(g, key, v->kind, "bool", err);
    *out = v->data[0] != 0;
    return MLXR_OK;
}

mlxr_status mlxr_gguf_get_str(mlxr_gguf_str *out, const mlxr_gguf *g, const char *key, mlxr_error *err)
{
    const mlxr_gguf_value *v = mlxr_gguf_find(g, key);
    const uint8_t *at;
    mlxr_gguf_str s;

    if (!v) return MLXR_OK;
    if (v->kind != MLXR_GGUF_STRING) return wrong_kind(g, key, v->kind, "string", err);
    at = v->data;
    s = mlxr_gguf_next_str(&at);
    if (mlxr_utf8_valid(s.s, s.n) != s.n)
        return mlxr_fail(err, MLXR_E_FORMAT, "gguf: %s: \"%s\" is not valid UTF-8", g->path, key);
    *out = s;
    return MLXR_OK;
}

mlxr_gguf_str mlxr_gguf_next_str(const uint8_t **at)
{
    uint64_t n;
    mlxr_gguf_str s;

    memcpy(&n, *at, sizeof n);
    s = (mlxr_gguf_str){(const char *)*at + sizeof n, (size_t)n};
    *at += sizeof n + n;
    return s;
}

int64_t mlxr_gguf_item_int(const mlxr_gguf_value *v, uint64_t i)
{
    return load_int(v->item_kind, v->data + i * kinds[v->item_kind].n_bytes);
}

double mlxr_gguf_item_real(const mlxr_gguf_value *v, uint64_t i)
{
    return load_real(v->item_kind, v->data + i * kinds[v->item_kind].n_bytes);
}
