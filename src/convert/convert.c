/* Conversion of a model folder: the plan carried out. Tensors go through the writer one after the other; of a quantized matrix the
 * codes, scales and biases come from one pass over its rows, of which as many as fill a slab are computed at a time by all threads.
 *
 * What is written is what mlx_lm.convert writes: mlx-lm's names and layout (experts in stacks, gate and up apart), and only the tensors
 * that the text model has. Follows convert.py, fuse.py and utils.py of mlx-lm. */
#include "convert/convert.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/pool.h"
#include "convert/plan.h"

static const uint64_t max_shard_bytes_usual = 5000000000u;
enum { SLAB_BYTES = 8 << 20 };

typedef enum part_kind { PART_VALUES, PART_SCALES, PART_BIASES } part_kind;

typedef struct converter converter;

/* One tensor that is written. */
typedef struct part {
    converter *c;
    size_t i_target;
    part_kind kind;
    char *name;
    size_t n_bytes, i_shard;
} part;

struct converter {
    const mlxr_convert_options *options;
    mlxr_plan plan;
    part *parts;
    size_t n_parts, n_shards;
    uint64_t n_bytes, n_done; /* of all tensors; of the shards before the one at hand */
    mlxr_pool *pool;

    /* The target at hand, its rows [slab_begin, slab_end), and its scales and biases as far as rows have been computed. */
    const mlxr_target *target;
    mlxr_merge merge;
    uint8_t *slab, *scales, *biases;
    size_t slab_begin, slab_end, slab_rows;
    float *scratch; /* of each thread */
    size_t n_scratch;
};

/* ---- rows ---- */

static void end_target(converter *c)
{
    mlxr_merge_clear(&c->merge);
    free(c->slab);
    free(c->scales);
    free(c->biases);
    free(c->scratch);
    c->slab = c->scales = c->biases = NULL;
    c->scratch = NULL;
    c->target = NULL;
}

static mlxr_status begin_target(converter *c, const mlxr_target *t, mlxr_error *err)
{
    const size_t row_bytes = mlxr_target_row_bytes(t), scale_bytes = mlxr_target_scale_bytes(t);
    const size_t read_bytes = t->w->n_cols * sizeof(float);
    mlxr_status st;

    end_target(c);
    c->slab_rows = SLAB_BYTES / (read_bytes > row_bytes ? read_bytes : row_bytes);
    if (c->slab_rows == 0) c->slab_rows = 1;
    if (c->slab_rows > t->n_rows) c->slab_rows = t->n_rows;
    c->slab_begin = c->slab_end = 0;
    c->n_scratch = (mlxr_target_scratch(t) + 15) / 16 * 16;
    c->slab = mlxr_malloc_array(c->slab_rows, row_bytes);
    c->scratch = mlxr_malloc_array(mlxr_pool_n_threads(c->pool), c->n_scratch * sizeof *c->scratch);
    if (scale_bytes) c->scales = mlxr_malloc_array(t->n_rows, scale_bytes);
    if (mlxr_target_has_biases(t)) c->biases = mlxr_malloc_array(t->n_rows, scale_bytes);
    if (!c->slab || !c->scratch || (scale_bytes && !c->scales) || (mlxr_target_has_biases(t) && !c->biases))
        return mlxr_fail_nomem(err, t->w->name);
    if ((st = mlxr_merge_init(&c->merge, t, err)) != MLXR_OK) return st;
    c->target = t;
    return MLXR_OK;
}

/* Rows of the slab, numbered from its beginning. */
static void compute_rows(void *arg, size_t begin, size_t end, size_t i_thread)
{
    converter *c = arg;
    const mlxr_target *t = c->target;
    const size_t row_bytes = mlxr_target_row_bytes(t), scale_bytes = mlxr_target_scale_bytes(t);

    for (size_t i = begin; i < end; i++) {
        const size_t row = c->slab_begin + i;
        mlxr_target_row(
            t, &c->merge, row, c->slab + i * row_bytes, c->scales ? c->scales + row * scale_bytes : NULL,
            c->biases ? c->biases + row * scale_bytes : NULL, c->scratch + i_thread * c->n_scratch);
    }
}

static void next_slab(converter *c)
{
    size_t n_rows = c->target->n_rows - c->slab_end, grain;

    if (n_rows > c->slab_rows) n_rows = c->slab_rows;
    c->slab_begin = c->slab_end;
    c->slab_end += n_rows;
    grain = n_rows / (8 * mlxr_pool_n_threads(c->pool)) + 1;
    mlxr_pool_for(c->pool, n_rows, grain, compute_rows, c);
}

/* The writer asks in order, first for a target's values: its scales and biases have come out of the same rows when their turn is. */
static mlxr_status fill(void *ud, void *dst, size_t begin, size_t n, mlxr_error *err)
{
    const part *p = ud;
    converter *c = p->c;
    const mlxr_target *t = &c->plan.targets[p->i_target];
    const size_t row_bytes = mlxr_target_row_bytes(t);
    uint8_t *to = dst;
    mlxr_status st;

    if (mlxr_cancelled(c->options->cancel)) return mlxr_fail(err, MLXR_E_CANCELLED, "convert: cancelled");
    if (p->kind == PART_VALUES && begin == 0 && (st = begin_target(c, t, err)) != MLXR_OK) return st;
    if (p->kind != PART_VALUES) {
        memcpy(dst, (p->kind == PART_SCALES ? c->scales : c->biases) + begin, n);
        return MLXR_OK;
    }
    while (n > 0) {
        size_t at, left;
        if (begin >= c->slab_end * row_bytes) next_slab(c);
        at = begin - c->slab_begin * row_bytes;
        left = (c->slab_end - c->slab_begin) * row_bytes - at;
        if (left > n) left = n;
        memcpy(to, c->slab + at, left);
        to += left;
        begin += left;
        n -= left;
    }
    return MLXR_OK;
}

/* ---- tensors ---- */

static unsigned part_shape(size_t shape[MLXR_MAX_DIMS], mlxr_dtype *dtype, const part *p)
{
    const mlxr_target *t = &p->c->plan.targets[p->i_target];
    const mlxr_weight *w = t->w;
    size_t n_cols = w->n_cols;
    unsigned n = 0;

    *dtype = t->dtype;
    if (p->kind != PART_VALUES) {
        n_cols /= t->quant.group_size;
        if (mlxr_quant_is_fp(t->quant.mode)) *dtype = MLXR_U8;
    } else if (t->quant.mode != MLXR_QUANT_NONE) {
        n_cols = n_cols * t->quant.bits / 32;
        *dtype = MLXR_U32;
    }
    if (w->is_vector) {
        if (w->n_runs) shape[n++] = w->n_runs;
        shape[n++] = w->n_runs ? n_cols / w->n_runs : n_cols;
        return n;
    }
    if (w->n_experts) shape[n++] = w->n_experts;
    shape[n++] = w->n_rows;
    shape[n++] = n_cols;
    if (t->is_conv) shape[n++] = 1;
    return n;
}

static bool add_part(converter *c, size_t i_target, part_kind kind, size_t row_bytes)
{
    static const char *const suffixes[] = {NULL, ".scales", ".biases"};
    const mlxr_target *t = &c->plan.targets[i_target];
    part p = {.c = c, .i_target = i_target, .kind = kind, .n_bytes = t->n_rows * row_bytes};

    p.name = mlxr_arena_printf(&c->plan.arena, "%s%s", t->w->name, kind ? suffixes[kind] : t->w->suffix);
    c->parts[c->n_parts++] = p;
    return p.name != NULL;
}

/* Codes, scales and biases of a matrix stay together: they are computed together. */
static mlxr_status plan_parts(converter *c, uint64_t max_shard_bytes, mlxr_error *err)
{
    uint64_t n_shard = 0;

    c->parts = mlxr_calloc_array(3 * c->plan.n, sizeof *c->parts);
    if (!c->parts) return mlxr_fail_nomem(err, "convert");
    c->n_shards = 1;
    for (size_t i = 0; i < c->plan.n; i++) {
        const mlxr_target *t = &c->plan.targets[i];
        const size_t first = c->n_parts, scale_bytes = mlxr_target_scale_bytes(t);
        uint64_t n = 0;
        bool ok = add_part(c, i, PART_VALUES, mlxr_target_row_bytes(t));
        if (scale_bytes) ok &= add_part(c, i, PART_SCALES, scale_bytes);
        if (mlxr_target_has_biases(t)) ok &= add_part(c, i, PART_BIASES, scale_bytes);
        if (!ok) return mlxr_fail_nomem(err, "convert");
        for (size_t k = first; k < c->n_parts; k++) n += c->parts[k].n_bytes;
        if (n_shard > 0 && n_shard + n > max_shard_bytes) {
            c->n_shards++;
            n_shard = 0;
        }
        n_shard += n;
        c->n_bytes += n;
        for (size_t k = first; k < c->n_parts; k++) c->parts[k].i_shard = c->n_shards - 1;
    }
    return MLXR_OK;
}

/* ---- files ---- */

enum { NAME_BYTES = 64 };

static const char *shard_name(char name[NAME_BYTES], const converter *c, size_t i)
{
    if (c->n_shards == 1) return "model.safetensors";
    snprintf(name, NAME_BYTES, "model-%05zu-of-%05zu.safetensors", i + 1, c->n_shards);
    return name;
}

static void tell_progress(uint64_t done, uint64_t total, void *ud)
{
    const converter *c = ud;
    const mlxr_progress *p = &c->options->progress;

    if (p->fn) p->fn(c->n_done + done, c->n_bytes, p->ud);
}

static mlxr_status write_shard(converter *c, size_t i_shard, const char *path, mlxr_error *err)
{
    const mlxr_progress progress = {tell_progress, c};
    mlxr_safetensors_writer *w = NULL;
    json_t *metadata = json_pack("{s:s}", "format", "mlx");
    uint64_t n = 0;
    mlxr_status st = mlxr_safetensors_writer_create(&w, path, err);

    if (st == MLXR_OK && !metadata) st = mlxr_fail_nomem(err, path);
    for (size_t i = 0; i < c->n_parts && st == MLXR_OK; i++) {
        part *p = &c->parts[i];
        size_t shape[MLXR_MAX_DIMS];
        mlxr_dtype dtype;
        unsigned n_dims;
        if (p->i_shard != i_shard) continue;
        n_dims = part_shape(shape, &dtype, p);
        st = mlxr_safetensors_writer_add(w, p->name, dtype, n_dims, shape, fill, p, err);
        n += p->n_bytes;
    }
    if (st == MLXR_OK) st = mlxr_safetensors_writer_commit(w, metadata, &progress, err);
    c->n_done += n;
    end_target(c);
    mlxr_safetensors_writer_free(w);
    json_decref(metadata);
    return st;
}

static mlxr_status write_json(mlxr_made *made, const char *path, const json_t *value, size_t flags,
                              mlxr_error *err)
{
    char *text = value ? json_dumps(value, JSON_INDENT(4) | JSON_ENSURE_ASCII | flags) : NULL;
    mlxr_status st = text ? mlxr_made_add(made, path, false, err) : mlxr_fail_nomem(err, path);

    if (st == MLXR_OK) st = mlxr_file_write(path, text, strlen(text), err);
    free(text);
    return st;
}

static mlxr_status write_weights(converter *c, mlxr_made *made, const char *dir, mlxr_error *err)
{
    json_t *map = json_object(), *index;
    char name[NAME_BYTES], *path = NULL;
    mlxr_status st = map ? MLXR_OK : mlxr_fail_nomem(err, "convert");

    for (size_t i = 0; i < c->n_shards && st == MLXR_OK; i++) {
        free(path);
        path = mlxr_path_join(dir, shard_name(name, c, i));
        st = path ? mlxr_made_add(made, path, false, err) : mlxr_fail_nomem(err, "convert");
        if (st == MLXR_OK) st = write_shard(c, i, path, err);
    }
    free(path);
    path = NULL;
    if (st == MLXR_OK && c->n_shards > 1) {
        for (size_t i = 0; i < c->n_parts && st == MLXR_OK; i++)
            if (json_object_set_new(map, c->parts[i].name,
                                    json_string(shard_name(name, c, c->parts[i].i_shard))) != 0)
                st = mlxr_fail_nomem(err, "convert");
        index = json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)c->n_bytes, "weight_map",
                          map);
        path = mlxr_path_join(dir, "model.safetensors.index.json");
        if (st == MLXR_OK && (!index || !path)) st = mlxr_fail_nomem(err, "convert");
        if (st == MLXR_OK) st = write_json(made, path, index, JSON_SORT_KEYS, err);
        json_decref(index);
    }
    free(path);
    json_decref(map);
    return st;
}

static mlxr_status write_folder(converter *c, mlxr_made *made, const char *from_dir, const char *dir,
                                mlxr_error *err)
{
    json_t *config = NULL;
    char *path = NULL;
    mlxr_status st;

    if ((st = mlxr_new_folder(made, dir, err)) != MLXR_OK) goto done;
    if ((st = mlxr_copy_rest(made, from_dir, dir, c->options->cancel, err)) != MLXR_OK) goto done;
    if ((st = write_weights(c, made, dir, err)) != MLXR_OK) goto done;
    config = mlxr_plan_config(&c->plan, c->options);
    path = mlxr_path_join(dir, "config.json");
    st = config && path ? write_json(made, path, config, 0, err) : mlxr_fail_nomem(err, "convert");
done:
    json_decref(config);
    free(path);
    return st;
}

/* ---- the call ---- */

static mlxr_status check_options(const mlxr_convert_options *o, mlxr_error *err)
{
    if (o->quantize && !mlxr_quant_supported(o->quant))
        return mlxr_fail(
            err, MLXR_E_INVALID_ARGUMENT,
            "convert: %s to %u bits in groups of %u is not supported; supported: affine to 2, 3, 4, 5, "
            "6 or 8 bits in groups of 32, 64 or 128, mxfp4 to 4 in groups of 32, nvfp4 to 4 in groups "
            "of 16, mxfp8 to 8 in groups of 32",
            mlxr_quant_mode_name(o->quant.mode), o->quant.bits, o->quant.group_size);
    if (o->dtype != MLXR_DTYPE_COUNT && o->dtype != MLXR_F16 && o->dtype != MLXR_BF16 && o->dtype != MLXR_F32)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "convert: type %s is not supported; supported: F16, BF16, F32",
                         mlxr_dtype_name(o->dtype));
    return MLXR_OK;
}

/* How many tensors of the old folder a weight takes. */
static size_t n_tensors_of(const mlxr_weight *w)
{
    const size_t n = w->n_experts && strstr(w->name, "{expert}") ? w->n_experts : 1;
    return n * (1 + (w->m.scales != NULL) + (w->m.biases != NULL));
}

static void tell(const converter *c)
{
    const mlxr_program *p = mlxr_model_program(c->plan.model);
    const mlxr_log *log = &c->options->log;
    size_t n = mlxr_checkpoint_count(mlxr_model_checkpoint(c->plan.model));

    for (size_t i = 0; i < p->n_weights; i++) n -= n_tensors_of(&p->weights[i]);
    if (n) mlxr_log_at(log, MLXR_LOG_INFO, "%zu tensors that the text model does not use are left out", n);
    if (c->plan.n_requantized)
        mlxr_log_at(log, MLXR_LOG_WARN,
                    "the model is quantized already: %zu of its matrices are quantized anew from what they "
                    "dequantize "
                    "to, which loses more than quantizing the original would",
                    c->plan.n_requantized);
}

mlxr_status mlxr_convert_sharded(const char *from_dir, const char *dir, const mlxr_convert_options *options,
                                 uint64_t max_shard_bytes, mlxr_error *err)
{
    const mlxr_convert_options defaults = mlxr_convert_options_default();
    converter c = {.options = options ? options : &defaults};
    mlxr_checkpoint *adapter = NULL;
    mlxr_model *model = NULL;
    mlxr_made made = {0};
    mlxr_status st;

    if ((st = check_options(c.options, err)) != MLXR_OK) return st;
    if ((st = mlxr_model_open(&model, from_dir, err)) != MLXR_OK) goto done;
    if ((st = mlxr_plan_init(&c.plan, model, from_dir, err)) != MLXR_OK) goto done;
    if (c.options->adapter &&
        (st = mlxr_adapter_open(&adapter, &c.plan, c.options->adapter, &c.options->log, err)) != MLXR_OK)
        goto done;
    mlxr_plan_choose(&c.plan, c.options);
    if ((st = plan_parts(&c, max_shard_bytes, err)) != MLXR_OK) goto done;
    if ((st = mlxr_pool_create(&c.pool, 0, err)) != MLXR_OK) goto done;
    tell(&c);
    st = write_folder(&c, &made, from_dir, dir, err);
    if (st != MLXR_OK) mlxr_made_remove(&made);
done:
    mlxr_made_clear(&made);
    end_target(&c);
    mlxr_pool_free(c.pool);
    free(c.parts);
    mlxr_plan_clear(&c.plan);
    mlxr_checkpoint_close(adapter);
    mlxr_model_close(model);
    return st;
}

mlxr_status mlxr_convert(const char *from_dir, const char *dir, const mlxr_convert_options *options,
                         mlxr_error *err)
{
    return mlxr_convert_sharded(from_dir, dir, options, max_shard_bytes_usual, err);
}
