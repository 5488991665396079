/* ggml's blocks to MLX's groups. The block types with one scale for 32 codes fit affine quantization exactly:
 * w = d * (q - z) is scale d, bias -z * d (a power of two times d: no rounding), and w = d * q + m is scale
 * d, bias m. The products d * q are exact in float32, so the values are the same ones (a zero may lose its
 * sign).
 *
 * Codes come as two halves of a block, low nibbles the first 16, and leave in order, as a bit stream. */
#include "format/gguf_weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

bool mlxr_gguf_same_quant(mlxr_quant a, mlxr_quant b)
{
    return a.mode == b.mode && a.bits == b.bits && a.group_size == b.group_size;
}

mlxr_status mlxr_gguf_weights_add(mlxr_gguf_weights *ws, const mlxr_gguf_weight *w, mlxr_error *err)
{
    if (ws->n == ws->cap) {
        size_t cap = ws->cap ? 2 * ws->cap : 64;
        mlxr_gguf_weight *p = mlxr_realloc_array(ws->v, cap, sizeof *p);
        if (!p) return mlxr_fail_nomem(err, "gguf: weights");
        ws->v = p;
        ws->cap = cap;
    }
    ws->v[ws->n++] = *w;
    return MLXR_OK;
}

static void drop_buffers(mlxr_gguf_weight *w)
{
    free(w->values);
    free(w->packed);
    free(w->scales);
    free(w->biases);
    w->values = NULL;
    w->packed = w->scales = w->biases = NULL;
}

void mlxr_gguf_weights_clear(mlxr_gguf_weights *ws)
{
    for (size_t i = 0; i < ws->n; i++) drop_buffers(&ws->v[i]);
    free(ws->v);
    *ws = (mlxr_gguf_weights){0};
}

/* ---- rows and blocks ---- */

/* The row of the file (or the element of a vector) that row i comes from. */
static size_t source_row(const mlxr_gguf_weight *w, size_t i)
{
    const size_t dh = w->rotary_head_dim;
    size_t in_head;

    if (dh == 0) return i;
    in_head = i % dh;
    return i - in_head + in_head % (dh / 2) * 2 + in_head / (dh / 2);
}

static const uint8_t *source_bytes(const mlxr_gguf_weight *w, size_t row)
{
    const mlxr_ggml_type_info *info = w->source->info;
    return w->source->data + source_row(w, row) * (w->n_cols / info->block_size * info->block_bytes);
}

static void block_scale(mlxr_ggml_type type, const uint8_t *block, float *scale, float *bias)
{
    const float d = mlxr_load_float(block, MLXR_F16, 0);

    *scale = d;
    switch (type) {
    case MLXR_GGML_Q4_0: *bias = -8 * d; break;
    case MLXR_GGML_Q5_0: *bias = -16 * d; break;
    case MLXR_GGML_Q8_0: *bias = -128 * d; break;
    default: *bias = mlxr_load_float(block, MLXR_F16, 1); break; /* Q4_1, Q5_1: {f16 d, m; ...} */
    }
}

static void nibbles(const uint8_t *qs, const uint8_t *qh, uint8_t q[32])
{
    for (unsigned j = 0; j < 16; j++) {
        q[j] = qs[j] & 15;
        q[j + 16] = qs[j] >> 4;
    }
    for (unsigned j = 0; qh && j < 32; j++) q[j] |= (uint8_t)((qh[j / 8] >> (j % 8) & 1) << 4);
}

static void block_codes(mlxr_ggml_type type, const uint8_t *b, uint8_t q[32])
{
    switch (type) {
    case MLXR_GGML_Q4_0: nibbles(b + 2, NULL, q); break;          /* {f16 d; qs[16]} */
    case MLXR_GGML_Q4_1: nibbles(b + 4, NULL, q); break;          /* {f16 d, m; qs[16]} */
    case MLXR_GGML_Q5_0: nibbles(b + 6, b + 2, q); break;         /* {f16 d; qh[4]; qs[16]} */
    case MLXR_GGML_Q5_1: nibbles(b + 8, b + 4, q); break;         /* {f16 d, m; qh[4]; qs[16]} */
    default:                                                      /* Q8_0 {f16 d; int8 qs[32]} */
        for (unsigned j = 0; j < 32; j++) q[j] = b[2 + j] ^ 0x80; /* + 128 */
    }
}

static void pack(const uint8_t q[32], unsigned bits, uint8_t *out)
{
    for (unsigned j = 0; j < 32; j += 8) {
        uint64_t run = 0;
        for (unsigned k = 0; k < 8; k++) run |= (uint64_t)q[j + k] << (k * bits);
        memcpy(out, &run, bits);
        out += bits;
    }
}

/* ---- how each is stored ---- */

/* Scales stay f16 unless -128 * d and the like leave its range; float32 holds all of them. */
static mlxr_status check_scales(mlxr_gguf_weight *w, mlxr_error *err)
{
    const mlxr_ggml_type_info *info = w->source->info;
    const size_t n_blocks = w->source->n_elements / info->block_size;

    w->dtype = MLXR_F16;
    for (size_t i = 0; i < n_blocks; i++) {
        float scale, bias;
        block_scale(w->source->type, w->source->data + i * info->block_bytes, &scale, &bias);
        if (!isfinite(scale) || !isfinite(bias))
            return mlxr_fail(err, MLXR_E_FORMAT, "gguf: %s: \"%s\": the scale of block %zu is not finite",
                             w->owner->path, w->source->name, i);
        if (fabsf(bias) > 65504.0f) w->dtype = MLXR_F32;
    }
    return MLXR_OK;
}

static bool affine_bits(mlxr_ggml_type t, unsigned *bits)
{
    switch (t) {
    case MLXR_GGML_Q4_0:
    case MLXR_GGML_Q4_1: *bits = 4; return true;
    case MLXR_GGML_Q5_0:
    case MLXR_GGML_Q5_1: *bits = 5; return true;
    case MLXR_GGML_Q8_0: *bits = 8; return true;
    default: return false;
    }
}

static mlxr_status refuse_types(const mlxr_gguf_weights *ws, const bool *refused, bool requantize,
                                mlxr_error *err)
{
    mlxr_buf text = {0};
    mlxr_status st;

    for (size_t i = 0; i < ws->n; i++) {
        size_t n = 0;
        bool first = true;
        if (!refused[i]) continue;
        for (size_t j = 0; j < i && first; j++)
            first = !refused[j] || ws->v[j].source->type != ws->v[i].source->type;
        if (!first) continue;
        for (size_t j = i; j < ws->n; j++) n += refused[j] && ws->v[j].source->type == ws->v[i].source->type;
        mlxr_buf_printf(&text, "%s%s (%zu tensor%s, such as \"%s\")", text.len ? ", " : "",
                        ws->v[i].source->info->name, n, n == 1 ? "" : "s", ws->v[i].source->name);
    }
    st = mlxr_buf_check(&text, ws->path, err);
    if (st == MLXR_OK && requantize)
        st = mlxr_fail(err, MLXR_E_UNSUPPORTED, "gguf: %s: cannot be requantized: %s", ws->path, text.data);
    else if (st == MLXR_OK)
        st = mlxr_fail(err, MLXR_E_UNSUPPORTED,
                       "gguf: %s: no lossless MLX form for %s; requantizing must be asked for", ws->path,
                       text.data);
    mlxr_buf_clear(&text);
    return st;
}

mlxr_status mlxr_gguf_weights_prepare(mlxr_gguf_weights *ws, const char *path, bool requantize,
                                      mlxr_quant requant, mlxr_error *err)
{
    bool *refused = mlxr_calloc_array(ws->n, sizeof *refused);
    bool any = false;
    mlxr_status st = MLXR_OK;

    ws->path = path;
    if (!refused) return mlxr_fail_nomem(err, path);
    for (size_t i = 0; i < ws->n; i++) {
        mlxr_gguf_weight *w = &ws->v[i];
        unsigned bits;
        w->owner = ws;
        switch (w->source->type) {
        case MLXR_GGML_F32: w->dtype = MLXR_F32; continue;
        case MLXR_GGML_F16: w->dtype = MLXR_F16; continue;
        case MLXR_GGML_BF16: w->dtype = MLXR_BF16; continue;
        default: break;
        }
        if (!w->is_vector && affine_bits(w->source->type, &bits)) {
            w->quant = (mlxr_quant){MLXR_QUANT_AFFINE, bits, 32};
        } else if (!w->is_vector && requantize && w->source->info->dequantize &&
                   w->n_cols % requant.group_size == 0) {
            w->quant = requant;
            w->dtype = MLXR_F16;
            w->lossy = true;
        } else {
            refused[i] = any = true;
        }
    }
    if (any) st = refuse_types(ws, refused, requantize, err);
    for (size_t i = 0; i < ws->n && st == MLXR_OK; i++)
        if (ws->v[i].quant.mode == MLXR_QUANT_AFFINE && !ws->v[i].lossy) st = check_scales(&ws->v[i], err);
    free(refused);
    return st;
}

/* ---- writing ---- */

/* Rows of whole elements, in the order of Hugging Face. */
static mlxr_status fill_dense(void *ud, void *dst, size_t begin, size_t n, mlxr_error *err)
{
    const mlxr_gguf_weight *w = ud;
    const size_t element = mlxr_dtype_bits(w->dtype) / 8;
    const bool by_element = w->is_vector && w->rotary_head_dim;
    const size_t row_bytes = by_element ? element : w->n_cols * element;
    uint8_t *out = dst;

    while (n > 0) {
        size_t row = begin / row_bytes, at = begin % row_bytes,
               take = row_bytes - at < n ? row_bytes - at : n;
        const uint8_t *from = by_element ? w->source->data + source_row(w, row) * element
                                         : source_bytes(w, row);
        memcpy(out, from + at, take);
        out += take;
        begin += take;
        n -= take;
    }
    return MLXR_OK;
}

static mlxr_status fill_codes(void *ud, void *dst, size_t begin, size_t n, mlxr_error *err)
{
    const mlxr_gguf_weight *w = ud;
    const size_t group_bytes = 4 * w->quant.bits, n_groups = w->n_cols / 32;
    uint8_t *out = dst;

    for (size_t g = begin / group_bytes; g < (begin + n) / group_bytes; g++) {
        uint8_t q[32];
        const uint8_t *block = source_bytes(w, g / n_groups) + g % n_groups * w->source->info->block_bytes;
        block_codes(w->source->type, block, q);
        pack(q, w->quant.bits, out);
        out += group_bytes;
    }
    return MLXR_OK;
}

static void fill_scale_or_bias(const mlxr_gguf_weight *w, uint8_t *dst, size_t begin, size_t n,
                               bool want_bias)
{
    const size_t element = mlxr_dtype_bits(w->dtype) / 8, first = begin / element, n_groups = w->n_cols / 32;

    for (size_t g = first; g < (begin + n) / element; g++) {
        float scale, bias;
        block_scale(w->source->type,
                    source_bytes(w, g / n_groups) + g % n_groups * w->source->info->block_bytes, &scale,
                    &bias);
        mlxr_store_float(dst, w->dtype, g - first, want_bias ? bias : scale);
    }
}

static mlxr_status fill_scales(void *ud, void *dst, size_t begin, size_t n, mlxr_error *err)
{
    fill_scale_or_bias(ud, dst, begin, n, false);
    return MLXR_OK;
}

static mlxr_status fill_biases(void *ud, void *dst, size_t begin, size_t n, mlxr_error *err)
{
    fill_scale_or_bias(ud, dst, begin, n, true);
    return MLXR_OK;
}

/* The codes' turn comes first and leaves scales and biases behind for theirs, so that nothing is worked out
 * twice. */
static mlxr_status fill_lossy_codes(void *ud, void *dst, size_t begin, size_t n, mlxr_error *err)
{
    mlxr_gguf_weight *w = ud;
    const mlxr_ggml_type_info *info = w->source->info;
    const size_t row_bytes = w->n_cols * w->quant.bits / 8, n_groups = w->n_cols / w->quant.group_size;
    uint8_t *out = dst;

    if (!w->values) {
        w->values = mlxr_malloc_array(w->n_cols, sizeof *w->values);
        w->packed = malloc(row_bytes);
        w->scales = mlxr_calloc_array(w->n_rows, n_groups * 2);
        w->biases = mlxr_calloc_array(w->n_rows, n_groups * 2);
        if (!w->values || !w->packed || !w->scales || !w->biases) return mlxr_fail_nomem(err, w->owner->path);
    }
    while (n > 0) {
        const size_t row = begin / row_bytes, at = begin % row_bytes,
                     take = row_bytes - at < n ? row_bytes - at : n;
        const uint8_t *block = source_bytes(w, row);
        uint8_t *scales = w->scales + row * n_groups * 2, *biases = w->biases + row * n_groups * 2;
        for (size_t j = 0; j < w->n_cols; j += info->block_size) {
            info->dequantize(block, w->values + j);
            block += info->block_bytes;
        }
        mlxr_affine_quantize_row(w->values, w->n_cols, w->quant, w->dtype, w->packed, scales, biases);
        for (size_t g = 0; g < n_groups; g++)
            if (!isfinite(mlxr_load_float(scales, w->dtype, g)) ||
                !isfinite(mlxr_load_float(biases, w->dtype, g)))
                return mlxr_fail(err, MLXR_E_UNSUPPORTED, "gguf: %s: \"%s\": row %zu does not fit f16 scales",
                                 w->owner->path, w->source->name, source_row(w, row));
        memcpy(out, w->packed + at, take);
        out += take;
        begin += take;
        n -= take;
    }
    return MLXR_OK;
}

static mlxr_status fill_lossy_scales(void *ud, void *dst, size_t begin, size_t n, mlxr_error *err)
{
    const mlxr_gguf_weight *w = ud;
    memcpy(dst, w->scales + begin, n);
    return MLXR_OK;
}

static mlxr_status fill_lossy_biases(void *ud, void *dst, size_t begin, size_t n, mlxr_error *err)
{
    mlxr_gguf_weight *w = ud;
    const size_t all = w->n_rows * (w->n_cols / w->quant.group_size) * 2;
    memcpy(dst, w->biases + begin, n);
    if (begin + n == all) drop_buffers(w);
    return MLXR_OK;
}

static mlxr_status add(mlxr_safetensors_writer *out, mlxr_gguf_weight *w, const char *suffix,
                       mlxr_dtype dtype, size_t n_cols, mlxr_tensor_fill fill, mlxr_error *err)
{
    const size_t shape[2] = {w->is_vector ? n_cols : w->n_rows, n_cols};
    char *name = mlxr_asprintf("%s.%s", w->module, suffix);
    mlxr_status st;

    if (!name) return mlxr_fail_nomem(err, w->owner->path);
    st = mlxr_safetensors_writer_add(out, name, dtype, w->is_vector ? 1 : 2, shape, fill, w, err);
    free(name);
    return st;
}

mlxr_status mlxr_gguf_weights_write(mlxr_gguf_weights *ws, const char *path, const mlxr_progress *progress,
                                    mlxr_error *err)
{
    mlxr_safetensors_writer *out = NULL;
    json_t *metadata = json_pack("{s:s}", "format", "mlx");
    mlxr_status st = metadata ? mlxr_safetensors_writer_create(&out, path, err) : mlxr_fail_nomem(err, path);

    for (size_t i = 0; i < ws->n && st == MLXR_OK; i++) {
        mlxr_gguf_weight *w = &ws->v[i];
        const size_t n_groups = w->quant.group_size ? w->n_cols / w->quant.group_size : 0;
        if (w->quant.mode == MLXR_QUANT_NONE) {
            st = add(out, w, w->is_bias ? "bias" : "weight", w->dtype, w->n_cols, fill_dense, err);
            continue;
        }
        st = add(out, w, "weight", MLXR_U32, w->n_cols * w->quant.bits / 32,
                 w->lossy ? fill_lossy_codes : fill_codes, err);
        if (st == MLXR_OK)
            st = add(out, w, "scales", w->dtype, n_groups, w->lossy ? fill_lossy_scales : fill_scales, err);
        if (st == MLXR_OK)
            st = add(out, w, "biases", w->dtype, n_groups, w->lossy ? fill_lossy_biases : fill_biases, err);
    }
    if (st == MLXR_OK) mlxr_safetensors_writer_set_cancel(out, ws->cancel);
    if (st == MLXR_OK) st = mlxr_safetensors_writer_commit(out, metadata, progress, err);
    mlxr_safetensors_writer_free(out);
    json_decref(metadata);
    return st;
}
