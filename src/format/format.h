/* format: files of weights. safetensors folders (the way in), GGUF (imported into a folder), and the layout
 * of quantized matrices (quant.h). Knows bytes and shapes; what a tensor is for is the model room's business.
 *
 * Everything opened here is immutable and may be shared between threads. */
#ifndef MLXR_FORMAT_H
#define MLXR_FORMAT_H

#include "base/json.h"
#include "format/quant.h"

/* ---- safetensors ----
 *
 * A file is: u64 little-endian length N of the header, N bytes of JSON { name: {"dtype", "shape",
 * "data_offsets": [begin, end)}, "__metadata__": {...} }, then the data the offsets count from.
 * https://github.com/huggingface/safetensors */

typedef struct mlxr_tensor {
    const char *name; /* NUL-terminated, borrowed from the checkpoint */
    mlxr_dtype dtype;
    unsigned n_dims;
    size_t shape[MLXR_MAX_DIMS]; /* row-major, last index contiguous */
    size_t n_elements, n_bytes;
    const void *data; /* in the mapped file: little-endian, any alignment */
    const char *file; /* base name of the file it lies in */
} mlxr_tensor;

/* All tensors of a folder or of one file. */
typedef struct mlxr_checkpoint mlxr_checkpoint;

/* dir: a folder with model.safetensors.index.json and its shards, or with model.safetensors, or with
 * model*.safetensors. An index none of whose files exist counts for nothing beside a model.safetensors.
 * Tensors of a shard that the index does not list are there too. Errors name the file and the tensor: header
 * too long for the file or over 100 MB, not JSON, unknown dtype, shape overflow, offsets out of range,
 * overlapping, with holes, or not the shape's bytes, a name twice (in one file or two), a shard of the index
 * that is missing or lacks a tensor, a truncated file. */
mlxr_status mlxr_checkpoint_open(mlxr_checkpoint **out, const char *dir, mlxr_error *err);
mlxr_status mlxr_checkpoint_open_file(mlxr_checkpoint **out, const char *path, mlxr_error *err);
/* These files as one checkpoint, which is empty without any; an index beside them counts for nothing. */
mlxr_status mlxr_checkpoint_open_files(mlxr_checkpoint **out, const char *const *paths, size_t n_paths,
                                       mlxr_error *err);
/* One file's bytes at hand, borrowed until close; name: what messages call them. */
mlxr_status mlxr_checkpoint_open_bytes(mlxr_checkpoint **out, const void *data, size_t n_bytes,
                                       const char *name, mlxr_error *err);
void mlxr_checkpoint_close(mlxr_checkpoint *c);

size_t mlxr_checkpoint_count(const mlxr_checkpoint *c);
const mlxr_tensor *mlxr_checkpoint_get(const mlxr_checkpoint *c, size_t i); /* in the order of the files */
const mlxr_tensor *mlxr_checkpoint_find(const mlxr_checkpoint *c, const char *name); /* NULL when absent */
uint64_t mlxr_checkpoint_bytes(const mlxr_checkpoint *c);                            /* of all files */
/* Whether a file was cut off while it is mapped, as far as it was read (mlxr_map_guard). */
bool mlxr_checkpoint_damaged(const mlxr_checkpoint *c);
/* Reads the files into the page cache, telling progress as it goes. */
void mlxr_checkpoint_prefetch(const mlxr_checkpoint *c, const mlxr_progress *progress);

/* Writes one safetensors file, tensors in the order added. Nothing is on disk before commit. */
typedef struct mlxr_safetensors_writer mlxr_safetensors_writer;
mlxr_status mlxr_safetensors_writer_create(mlxr_safetensors_writer **out, const char *path, mlxr_error *err);
/* Declares a tensor; its bytes come later through `fill`, in the same order, when commit asks for them, so
 * that a converted model never lies in memory whole. fill writes n_bytes to dst; begin counts from the
 * tensor's start and is a multiple of 983040 = 15 * 2^16, which no element, quantized group or GGUF block of
 * codes straddles. */
typedef mlxr_status (*mlxr_tensor_fill)(void *ud, void *dst, size_t begin, size_t n_bytes, mlxr_error *err);
mlxr_status mlxr_safetensors_writer_add(mlxr_safetensors_writer *w, const char *name, mlxr_dtype dtype,
                                        unsigned n_dims, const size_t *shape, mlxr_tensor_fill fill, void *ud,
                                        mlxr_error *err);
/* Writes under a temporary name, syncs, renames; a failing fill's error is returned and leaves no file.
 * metadata: a JSON object of strings, or NULL. progress counts the tensors' bytes. */
mlxr_status mlxr_safetensors_writer_commit(mlxr_safetensors_writer *w, const json_t *metadata,
                                           const mlxr_progress *progress, mlxr_error *err);
/* *cancel not 0 while it is committed: MLXR_E_CANCELLED, and no file. Borrowed; NULL: it cannot be stopped. */
void mlxr_safetensors_writer_set_cancel(mlxr_safetensors_writer *w, const volatile int *cancel);
void mlxr_safetensors_writer_free(mlxr_safetensors_writer *w);

/* ---- GGUF ---- */

typedef struct mlxr_gguf_import_options {
    /* Types without a lossless MLX form (Q4_K, Q6_K, ...) are dequantized and quantized again to affine of
     * requantize_bits with requantize_group_size instead of being refused. */
    bool requantize;
    unsigned requantize_bits;       /* default 4 */
    unsigned requantize_group_size; /* default 32 */
    mlxr_progress progress;
    const volatile int *cancel; /* not 0: MLXR_E_CANCELLED; NULL: it cannot be stopped */
    mlxr_log log;
} mlxr_gguf_import_options;
mlxr_gguf_import_options mlxr_gguf_import_options_default(void);

/* Turns a llama-family GGUF file into an MLX folder (made if absent): config.json, model.safetensors,
 * tokenizer.json, tokenizer_config.json (with the chat template), generation_config.json. Lossless for F32,
 * F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0. A folder that holds a model already is refused
 * (MLXR_E_INVALID_ARGUMENT). Every file is written whole or not at all, config.json last, so that an
 * interrupted import is not a model. options may be NULL. */
mlxr_status mlxr_gguf_import(const char *gguf_path, const char *dir, const mlxr_gguf_import_options *options,
                             mlxr_error *err);

#endif
