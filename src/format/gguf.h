/* GGUF inside the format room: the reader (gguf.c), the block types of ggml (ggml_types.c) and the two halves
 * of the import (gguf_import.c for weights and config.json, gguf_tokenizer.c). Other rooms see
 * mlxr_gguf_import alone.
 *
 * A file is, little-endian: "GGUF", u32 version, u64 tensors, u64 pairs; the pairs (string key, u32 kind,
 * value); the tensor infos (string name, u32 n_dims, u64 dims[], u32 type, u64 offset); padding to the
 * alignment; the data. A string is u64 length and bytes; an array u32 kind, u64 count and values.
 * https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 *
 * An open file is immutable; everything handed out is borrowed from it. */
#ifndef MLXR_GGUF_H
#define MLXR_GGUF_H

#include "format/format.h"

/* ---- block types ---- */

/* A type's number, or one no ggml has: names and sizes come from mlxr_ggml_type_get. */
typedef uint32_t mlxr_ggml_type;
enum {
    MLXR_GGML_F32 = 0,
    MLXR_GGML_F16 = 1,
    MLXR_GGML_Q4_0 = 2,
    MLXR_GGML_Q4_1 = 3,
    MLXR_GGML_Q5_0 = 6,
    MLXR_GGML_Q5_1 = 7,
    MLXR_GGML_Q8_0 = 8,
    MLXR_GGML_Q2_K = 10,
    MLXR_GGML_Q3_K = 11,
    MLXR_GGML_Q4_K = 12,
    MLXR_GGML_Q5_K = 13,
    MLXR_GGML_Q6_K = 14,
    MLXR_GGML_IQ4_NL = 20,
    MLXR_GGML_IQ4_XS = 23,
    MLXR_GGML_BF16 = 30
};

typedef struct mlxr_ggml_type_info {
    const char *name;
    unsigned block_size, block_bytes; /* elements and bytes of a block; a row is whole blocks */
    /* One block to block_size floats; NULL where this is not known. */
    void (*dequantize)(const uint8_t *block, float *out);
} mlxr_ggml_type_info;
/* NULL when there is no such type. */
const mlxr_ggml_type_info *mlxr_ggml_type_get(mlxr_ggml_type t);

/* ---- reader ---- */

typedef enum mlxr_gguf_kind {
    MLXR_GGUF_U8,
    MLXR_GGUF_I8,
    MLXR_GGUF_U16,
    MLXR_GGUF_I16,
    MLXR_GGUF_U32,
    MLXR_GGUF_I32,
    MLXR_GGUF_F32,
    MLXR_GGUF_BOOL,
    MLXR_GGUF_STRING,
    MLXR_GGUF_ARRAY,
    MLXR_GGUF_U64,
    MLXR_GGUF_I64,
    MLXR_GGUF_F64,
    MLXR_GGUF_KIND_COUNT
} mlxr_gguf_kind;

/* Bytes in the file, not NUL-terminated. */
typedef struct mlxr_gguf_str {
    const char *s;
    size_t n;
} mlxr_gguf_str;

/* One value: a pair's, or one of an array's while it is walked. */
typedef struct mlxr_gguf_value {
    mlxr_gguf_kind kind, item_kind; /* item_kind and n_items: arrays only */
    uint64_t n_items;
    const uint8_t *data; /* the scalar, the string's length, or the array's first item; any alignment */
} mlxr_gguf_value;

typedef struct mlxr_gguf_tensor {
    const char *name; /* NUL-terminated, valid UTF-8 */
    mlxr_ggml_type type;
    const mlxr_ggml_type_info *info;
    unsigned n_dims;
    size_t shape[MLXR_MAX_DIMS]; /* [rows, cols]: reversed from the file, last index contiguous */
    size_t n_elements, n_bytes;
    const uint8_t *data;
} mlxr_gguf_tensor;

typedef struct mlxr_gguf mlxr_gguf;

/* Everything is checked before it returns: each count, length and nesting against the bytes there are, names
 * and keys for UTF-8 and being single, tensors for lying inside the data apart from each other. */
mlxr_status mlxr_gguf_open(mlxr_gguf **out, const char *path, mlxr_error *err);
/* The same over bytes at hand, borrowed until close. */
mlxr_status mlxr_gguf_open_bytes(mlxr_gguf **out, const void *data, size_t n_bytes, const char *name,
                                 mlxr_error *err);
void mlxr_gguf_close(mlxr_gguf *g);

const char *mlxr_gguf_path(const mlxr_gguf *g);
size_t mlxr_gguf_tensor_count(const mlxr_gguf *g);
const mlxr_gguf_tensor *mlxr_gguf_tensor_get(const mlxr_gguf *g, size_t i);
const mlxr_gguf_tensor *mlxr_gguf_tensor_find(const mlxr_gguf *g, const char *name); /* NULL when absent */

/* The pair's value; NULL when absent. */
const mlxr_gguf_value *mlxr_gguf_find(const mlxr_gguf *g, const char *key);
size_t mlxr_gguf_pair_count(const mlxr_gguf *g);
mlxr_gguf_str mlxr_gguf_pair_get(const mlxr_gguf *g, size_t i, const mlxr_gguf_value **value);

/* Typed reads with the manners of mlxr_json_get_*: absent leaves *out as it was; a wrong kind or a value out
 * of range is MLXR_E_FORMAT naming file and key. Any integer kind is taken for an integer, any number for a
 * real. */
mlxr_status mlxr_gguf_get_int(int64_t *out, const mlxr_gguf *g, const char *key, int64_t min, int64_t max,
                              mlxr_error *err);
mlxr_status mlxr_gguf_get_real(double *out, const mlxr_gguf *g, const char *key, mlxr_error *err);
mlxr_status mlxr_gguf_get_bool(bool *out, const mlxr_gguf *g, const char *key, mlxr_error *err);
/* Valid UTF-8. */
mlxr_status mlxr_gguf_get_str(mlxr_gguf_str *out, const mlxr_gguf *g, const char *key, mlxr_error *err);

/* Walks an array: start with *at = value->data, call n_items times. */
mlxr_gguf_str mlxr_gguf_next_str(const uint8_t **at);
/* Item i of an array of integers, or of any numbers. */
int64_t mlxr_gguf_item_int(const mlxr_gguf_value *v, uint64_t i);
double mlxr_gguf_item_real(const mlxr_gguf_value *v, uint64_t i);
bool mlxr_gguf_kind_is_int(mlxr_gguf_kind k);
const char *mlxr_gguf_kind_name(mlxr_gguf_kind k);

/* ---- import ---- */

/* mlxr_gguf_import of an open file. */
mlxr_status mlxr_gguf_import_open(const mlxr_gguf *g, const char *dir,
                                  const mlxr_gguf_import_options *options, mlxr_error *err);

/* All of an import but the writing: a file that passes can only fail for the folder's sake. */
mlxr_status mlxr_gguf_import_check(const mlxr_gguf *g, const mlxr_gguf_import_options *options,
                                   mlxr_error *err);

/* What the other files of a folder need to know of the tokenizer. Ids are -1 when the file has none. */
typedef struct mlxr_gguf_vocab {
    size_t n_tokens;
    int64_t bos, eos, unk, pad;
    int64_t eos_set[8]; /* eos first, then the ends of turns */
    size_t n_eos;
} mlxr_gguf_vocab;

/* Texts of tokenizer.json and tokenizer_config.json. Refuses a model or a pre-tokenizer it does not know, by
 * name. */
mlxr_status mlxr_gguf_tokenizer(mlxr_buf *tokenizer_json, mlxr_buf *tokenizer_config_json,
                                mlxr_gguf_vocab *vocab, const mlxr_gguf *g, int64_t context_length,
                                const mlxr_log *log, mlxr_error *err);

#endif
