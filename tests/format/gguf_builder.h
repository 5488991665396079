/* Builds GGUF files in memory for tests: pairs and tensors one after the other, then the whole file. */
#ifndef GGUF_BUILDER_H
#define GGUF_BUILDER_H

#include "format/gguf.h"

typedef struct gguf_builder {
    mlxr_buf pairs, infos, data;
    uint64_t n_pairs, n_tensors;
} gguf_builder;

static inline void put_u32(mlxr_buf *b, uint32_t x)
{
    mlxr_buf_append(b, &x, sizeof x);
}

static inline void put_u64(mlxr_buf *b, uint64_t x)
{
    mlxr_buf_append(b, &x, sizeof x);
}

static inline void put_str(mlxr_buf *b, const char *s)
{
    put_u64(b, strlen(s));
    mlxr_buf_str(b, s);
}

/* A pair's key and kind; its value is the caller's to append to b->pairs. */
static inline void key_of(gguf_builder *b, const char *key, uint32_t kind)
{
    put_str(&b->pairs, key);
    put_u32(&b->pairs, kind);
    b->n_pairs++;
}

static inline void key_u32(gguf_builder *b, const char *key, uint32_t x)
{
    key_of(b, key, MLXR_GGUF_U32);
    put_u32(&b->pairs, x);
}

static inline void key_f32(gguf_builder *b, const char *key, float x)
{
    key_of(b, key, MLXR_GGUF_F32);
    mlxr_buf_append(&b->pairs, &x, sizeof x);
}

static inline void key_bool(gguf_builder *b, const char *key, bool x)
{
    key_of(b, key, MLXR_GGUF_BOOL);
    mlxr_buf_char(&b->pairs, x);
}

static inline void key_str(gguf_builder *b, const char *key, const char *s)
{
    key_of(b, key, MLXR_GGUF_STRING);
    put_str(&b->pairs, s);
}

static inline void key_array(gguf_builder *b, const char *key, uint32_t kind, uint64_t n)
{
    key_of(b, key, MLXR_GGUF_ARRAY);
    put_u32(&b->pairs, kind);
    put_u64(&b->pairs, n);
}

static inline void key_strs(gguf_builder *b, const char *key, const char *const *s, size_t n)
{
    key_array(b, key, MLXR_GGUF_STRING, n);
    for (size_t i = 0; i < n; i++) put_str(&b->pairs, s[i]);
}

static inline void key_i32s(gguf_builder *b, const char *key, const int32_t *x, size_t n)
{
    key_array(b, key, MLXR_GGUF_I32, n);
    mlxr_buf_append(&b->pairs, x, n * sizeof *x);
}

static inline void key_f32s(gguf_builder *b, const char *key, const float *x, size_t n)
{
    key_array(b, key, MLXR_GGUF_F32, n);
    mlxr_buf_append(&b->pairs, x, n * sizeof *x);
}

/* The info alone, whatever it says. dims are the file's, fastest first. */
static inline void tensor_info(gguf_builder *b, const char *name, uint32_t n_dims, const uint64_t *dims,
                               uint32_t type, uint64_t offset)
{
    put_str(&b->infos, name);
    put_u32(&b->infos, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) put_u64(&b->infos, dims[i]);
    put_u32(&b->infos, type);
    put_u64(&b->infos, offset);
    b->n_tensors++;
}

/* A tensor [n_rows, n_cols] (a vector when n_rows is 0) with its bytes, at the next multiple of 32. */
static inline void tensor(gguf_builder *b, const char *name, uint32_t type, size_t n_rows, size_t n_cols,
                          const void *bytes, size_t n_bytes)
{
    const uint64_t dims[2] = {n_cols, n_rows};
    while (b->data.len % 32) mlxr_buf_char(&b->data, 0);
    tensor_info(b, name, n_rows ? 2 : 1, dims, type, b->data.len);
    mlxr_buf_append(&b->data, bytes, n_bytes);
}

/* The file; the builder is empty after it. */
static inline void build(mlxr_buf *out, gguf_builder *b)
{
    out->len = 0;
    mlxr_buf_str(out, "GGUF");
    put_u32(out, 3);
    put_u64(out, b->n_tensors);
    put_u64(out, b->n_pairs);
    mlxr_buf_append(out, b->pairs.data, b->pairs.len);
    mlxr_buf_append(out, b->infos.data, b->infos.len);
    if (b->data.len)
        while (out->len % 32) mlxr_buf_char(out, 0);
    mlxr_buf_append(out, b->data.data, b->data.len);
    mlxr_buf_clear(&b->pairs);
    mlxr_buf_clear(&b->infos);
    mlxr_buf_clear(&b->data);
    b->n_pairs = b->n_tensors = 0;
}

#endif
