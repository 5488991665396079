/* Binding: every weight the program wants is matched once with a tensor of the checkpoint, and every tensor with a
 * weight. What does not fit is collected and told in one message, since a wrong config.json or a missing shard shows
 * as dozens of tensors at once.
 *
 * Quantized modules are found as mlx-lm finds them: config.json's "quantization" has bits, group_size and mode
 * for all, and entries by module name that override them or, when false, say that the module is not quantized;
 * a module without an entry is quantized if it has scales. */
#include <stdio.h>

#include "model/model.h"

enum { MAX_LISTED = 24, MAX_NAME = 120 };

/* One kind of trouble: how many tensors have it, and the first of them in words. */
typedef struct listing {
    size_t n;
    mlxr_buf text;
} listing;

typedef struct binder {
    mlxr_program *program;
    const mlxr_checkpoint *checkpoint;
    const char *what;           /* config.json, for messages */
    const json_t *quantization; /* NULL: nothing is quantized */
    mlxr_quant base;
    mlxr_strtab used; /* names of tensors that some weight took */
    mlxr_arena arena;
    listing missing, extra, misfit;
    bool failed; /* out of memory */
} binder;

static void list(listing *l, const char *fmt, ...) MLXR_PRINTF(2, 3);
static void list(listing *l, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    if (l->n++ >= MAX_LISTED) return;
    va_start(ap, fmt);
    if (vsnprintf(text, sizeof text, fmt, ap) < 0) text[0] = '\0';
    va_end(ap);
    mlxr_buf_printf(&l->text, "%s%s", l->n > 1 ? ", " : "", text);
}

/* ---- quantization in config.json ---- */

/* bits, group_size and mode of obj; what it leaves out is what MLX takes for that mode, except that affine for the
 * whole model must say both, as in mlx-lm. where: the module, or "" for the whole model. */
static mlxr_status read_quant(mlxr_quant *q, const json_t *obj, const char *where, const char *what,
                              mlxr_error *err)
{
    const char *mode = "affine";
    int64_t bits = 0, group_size = 0;
    mlxr_status st;

    if ((st = mlxr_json_get_str(&mode, obj, "mode", what, err)) != MLXR_OK) return st;
    *q = mlxr_quant_default(mlxr_quant_mode_from_name(mode));
    if (q->mode == MLXR_QUANT_NONE)
        return mlxr_fail(
            err, MLXR_E_UNSUPPORTED,
            "%s: quantization%s%.120s: mode \"%.32s\" is not supported; supported: affine, mxfp4, "
            "nvfp4, mxfp8",
            what, *where ? " of " : "", where, mode);
    if (*where || q->mode != MLXR_QUANT_AFFINE) bits = q->bits, group_size = q->group_size;
    if ((st = mlxr_json_get_int(&bits, obj, "bits", 1, 64, what, err)) != MLXR_OK) return st;
    if ((st = mlxr_json_get_int(&group_size, obj, "group_size", 1, 1 << 20, what, err)) != MLXR_OK) return st;
    if (bits == 0 || group_size == 0)
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: \"quantization\" has no \"%s\"", what,
                         bits ? "group_size" : "bits");
    q->bits = (unsigned)bits;
    q->group_size = (unsigned)group_size;
    if (!mlxr_quant_supported(*q))
        return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                         "%s: quantization%s%.120s: %s to %u bits in groups of %u is not supported; "
                         "supported: affine to 2, "
                         "3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128, mxfp4 to 4 in groups of 32, nvfp4 "
                         "to 4 in groups "
                         "of 16, mxfp8 to 8 in groups of 32",
                         what, *where ? " of " : "", where, mlxr_quant_mode_name(q->mode), q->bits,
                         q->group_size);
    return MLXR_OK;
}

/* "quant_method" is how Hugging Face's own files say it. Two of them pack their values as MLX does; everything else
 * beside the method is then left unread, as in mlx-lm. */
static mlxr_status read_quantization(binder *b, const json_t *root, mlxr_error *err)
{
    const json_t *q = json_object_get(root, "quantization"), *method;
    const char *name;

    if (!q || json_is_null(q)) q = json_object_get(root, "quantization_config");
    if (!q || json_is_null(q)) return MLXR_OK;
    if (!json_is_object(q))
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: \"quantization\" is not an object", b->what);
    b->quantization = q;
    method = json_object_get(q, "quant_method");
    if (!method) return read_quant(&b->base, q, "", b->what, err);
    name = json_is_string(method) ? json_string_value(method) : "(not a string)";
    if (strcmp(name, "mxfp4") != 0 && strcmp(name, "mxfp8") != 0)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                         "%s: quant_method \"%.32s\" is not supported; supported: mxfp4, mxfp8, and MLX's "
                         "\"quantization\" with mode affine, mxfp4, nvfp4 or mxfp8",
                         b->what, name);
    b->base = mlxr_quant_default(mlxr_quant_mode_from_name(name));
    return MLXR_OK;
}

/* ---- tensors ---- */

static bool is_float(mlxr_dtype t)
{
    return t == MLXR_F16 || t == MLXR_BF16 || t == MLXR_F32;
}

static const char *shape_text(char text[static 160], const mlxr_tensor *t)
{
    size_t n = 0;

    text[n++] = '[';
    for (unsigned i = 0; i < t->n_dims && n < 120; i++)
        n += (size_t)snprintf(text + n, 160 - n, "%s%zu", i ? ", " : "", t->shape[i]);
    snprintf(text + n, 160 - n, "] %s", mlxr_dtype_name(t->dtype));
    return text;
}

/* The tensor name + suffix, marked as used; NULL, without complaint, when it is not there. */
static const mlxr_tensor *take(binder *b, const char *name, const char *suffix)
{
    const char *full = mlxr_arena_printf(&b->arena, "%s%s", name, suffix);
    const mlxr_tensor *t = full ? mlxr_checkpoint_find(b->checkpoint, full) : NULL;

    if (!full || (t && !mlxr_strtab_put(&b->used, t->name, strlen(t->name), 1, NULL))) b->failed = true;
    return t;
}

static bool has_shape(const mlxr_tensor *t, size_t n_rows, size_t n_cols)
{
    return t->n_dims == 2 && t->shape[0] == n_rows && t->shape[1] == n_cols;
}

static void bind_dense(binder *b, mlxr_weight *w)
{
    const mlxr_tensor *t = take(b, w->name, w->suffix);
    char text[160];
    bool fits;

    if (!t) {
        list(&b->missing, "%.*s%s", MAX_NAME, w->name, w->suffix);
        return;
    }
    fits = w->is_vector ? t->n_dims == 1 && t->shape[0] == w->n_cols : has_shape(t, w->n_rows, w->n_cols);
    if (!fits && w->is_vector) {
        list(&b->misfit, "%.*s%s %s (wanted [%zu])", MAX_NAME, w->name, w->suffix, shape_text(text, t),
             w->n_cols);
    } else if (!fits) {
        list(&b->misfit, "%.*s%s %s (wanted [%zu, %zu])", MAX_NAME, w->name, w->suffix, shape_text(text, t),
             w->n_rows, w->n_cols);
    } else if (!is_float(t->dtype)) {
        list(&b->misfit, "%.*s%s %s (wanted F16, BF16 or F32)", MAX_NAME, w->name, w->suffix,
             shape_text(text, t));
    } else {
        w->m = (mlxr_matrix){.dtype = t->dtype,
                             .n_rows = w->n_rows,
                             .n_cols = w->n_cols,
                             .row_bytes = w->n_cols * (mlxr_dtype_bits(t->dtype) / 8),
                             .data = t->data};
        w->bound = true;
    }
}

/* Whether packed codes and scales have the shapes that q gives a [n_rows, n_cols] matrix. */
static bool quant_fits(mlxr_quant q, const mlxr_weight *w, const mlxr_tensor *codes,
                       const mlxr_tensor *scales)
{
    return mlxr_quant_supported(q) && w->n_cols % q.group_size == 0 &&
           has_shape(codes, w->n_rows, w->n_cols * q.bits / 32) &&
           has_shape(scales, w->n_rows, w->n_cols / q.group_size);
}

static bool scales_fit(mlxr_quant q, const mlxr_tensor *scales)
{
    return mlxr_quant_is_fp(q.mode) ? scales->dtype == MLXR_U8 : is_float(scales->dtype);
}

/* What the tensors themselves say. mlx-lm believes them before the global settings, for files whose config.json
 * forgot some overrides. Byte scales tell the modes of floats, and each of those has one width and group. */
static mlxr_quant quant_of_shapes(const mlxr_weight *w, const mlxr_tensor *codes, const mlxr_tensor *scales)
{
    mlxr_quant q = {0};

    if (codes->n_dims != 2 || scales->n_dims != 2 || scales->shape[1] == 0 ||
        w->n_cols / scales->shape[1] > 128 || codes->shape[1] > w->n_cols)
        return q;
    q.mode = MLXR_QUANT_AFFINE;
    q.group_size = (unsigned)(w->n_cols / scales->shape[1]);
    q.bits = (unsigned)(codes->shape[1] * 32 / w->n_cols);
    if (scales->dtype == MLXR_U8)
        q.mode = q.bits == 8 ? MLXR_QUANT_MXFP8 : q.group_size == 16 ? MLXR_QUANT_NVFP4 : MLXR_QUANT_MXFP4;
    return q;
}

static void bind_quantized(binder *b, mlxr_weight *w, mlxr_quant q, bool named)
{
    const mlxr_tensor *codes = take(b, w->name, ".weight"), *scales = take(b, w->name, ".scales"),
                      *biases = NULL;
    char text[160], text2[160];
    bool fp;

    if (!named && codes && scales && !(quant_fits(q, w, codes, scales) && scales_fit(q, scales))) {
        mlxr_quant seen = quant_of_shapes(w, codes, scales);
        if (seen.mode != MLXR_QUANT_NONE && quant_fits(seen, w, codes, scales)) q = seen;
    }
    fp = mlxr_quant_is_fp(q.mode);
    if (!fp) biases = take(b, w->name, ".biases");
    if (!codes) list(&b->missing, "%.*s.weight", MAX_NAME, w->name);
    if (!scales) list(&b->missing, "%.*s.scales", MAX_NAME, w->name);
    if (!biases && !fp) list(&b->missing, "%.*s.biases", MAX_NAME, w->name);
    if (!codes || !scales || !(biases || fp)) return;
    if (w->n_cols % q.group_size) {
        list(&b->misfit, "%.*s.weight (%zu columns do not divide into groups of %u)", MAX_NAME, w->name,
             w->n_cols, q.group_size);
    } else if (codes->dtype != MLXR_U32 || !quant_fits(q, w, codes, scales)) {
        list(&b->misfit,
             "%.*s.weight %s with scales %s (wanted [%zu, %zu] U32 with scales [%zu, %zu], for %s%u bits in "
             "groups of %u)",
             MAX_NAME, w->name, shape_text(text, codes), shape_text(text2, scales), w->n_rows,
             w->n_cols * q.bits / 32, w->n_rows, w->n_cols / q.group_size, fp ? "floats of " : "", q.bits,
             q.group_size);
    } else if (!scales_fit(q, scales)) {
        list(&b->misfit, "%.*s.scales %s (wanted %s)", MAX_NAME, w->name, shape_text(text, scales),
             fp ? "U8" : "F16, BF16 or F32");
    } else if (biases &&
               (biases->dtype != scales->dtype || !has_shape(biases, w->n_rows, w->n_cols / q.group_size))) {
        list(&b->misfit, "%.*s.biases %s (wanted as its scales, %s)", MAX_NAME, w->name,
             shape_text(text, biases), shape_text(text2, scales));
    } else {
        w->m = (mlxr_matrix){.quant = q,
                             .dtype = scales->dtype,
                             .n_rows = w->n_rows,
                             .n_cols = w->n_cols,
                             .row_bytes = w->n_cols * q.bits / 8,
                             .data = codes->data,
                             .scales = scales->data,
                             .biases = biases ? biases->data : NULL};
        w->bound = true;
    }
}

static mlxr_status bind_matrix(binder *b, mlxr_weight *w, mlxr_error *err)
{
    const json_t *entry = json_object_get(b->quantization, w->name);
    const char *scales = mlxr_arena_printf(&b->arena, "%s.scales", w->name);
    mlxr_quant q = b->base;
    mlxr_status st;

    if (!scales) {
        b->failed = true;
        return MLXR_OK;
    }
    if (!b->quantization && mlxr_checkpoint_find(b->checkpoint, scales))
        return mlxr_fail(err, MLXR_E_FORMAT,
                         "%s: no \"quantization\", but the checkpoint has quantized %.120s", b->what,
                         w->name);
    if (json_is_object(entry)) {
        if ((st = read_quant(&q, entry, w->name, b->what, err)) != MLXR_OK) return st;
    } else if (entry && !json_is_boolean(entry)) {
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: quantization of %.120s is neither an object nor a boolean",
                         b->what, w->name);
    }
    if (entry ? !json_is_false(entry) : mlxr_checkpoint_find(b->checkpoint, scales) != NULL)
        bind_quantized(b, w, q, entry != NULL);
    else
        bind_dense(b, w);
    return MLXR_OK;
}

static void append_listing(mlxr_buf *out, const char *title, const listing *l)
{
    if (l->n == 0) return;
    mlxr_buf_printf(out, "%s %zu %s: %s", out->len ? ";" : "", l->n, title, l->text.data ? l->text.data : "");
    if (l->n > MAX_LISTED) mlxr_buf_printf(out, " and %zu more", l->n - MAX_LISTED);
}

static mlxr_status report(binder *b, mlxr_error *err)
{
    mlxr_buf text = {0};
    mlxr_status st = MLXR_OK;

    append_listing(&text, "missing", &b->missing);
    append_listing(&text, "misshapen", &b->misfit);
    append_listing(&text, "extra", &b->extra);
    b->failed |= text.failed || b->missing.text.failed || b->misfit.text.failed || b->extra.text.failed;
    if (b->failed)
        st = mlxr_fail_nomem(err, b->what);
    else if (text.len)
        st = mlxr_fail(err, MLXR_E_FORMAT, "%s: the tensors of the checkpoint do not fit:%s", b->what,
                       text.data);
    mlxr_buf_clear(&text);
    return st;
}

mlxr_status mlxr_weights_bind(mlxr_program *program, const mlxr_checkpoint *checkpoint,
                              const mlxr_family *family, const mlxr_config *config, mlxr_error *err)
{
    binder b = {.program = program, .checkpoint = checkpoint, .what = config->what};
    mlxr_status st = read_quantization(&b, config->root, err);

    if (st != MLXR_OK) return st;
    for (size_t i = 0; i < program->n_weights && st == MLXR_OK; i++) {
        mlxr_weight *w = &program->weights[i];
        if (w->is_vector)
            bind_dense(&b, w);
        else
            st = bind_matrix(&b, w, err);
    }
    for (size_t i = 0; i < mlxr_checkpoint_count(checkpoint) && st == MLXR_OK; i++) {
        const char *name = mlxr_checkpoint_get(checkpoint, i)->name;
        if (mlxr_strtab_get(&b.used, name, strlen(name)) != SIZE_MAX) continue;
        if (family->may_ignore && family->may_ignore(config, name)) continue;
        list(&b.extra, "%.*s", MAX_NAME, name);
    }
    if (st == MLXR_OK) st = report(&b, err);
    mlxr_strtab_clear(&b.used);
    mlxr_arena_clear(&b.arena);
    mlxr_buf_clear(&b.missing.text);
    mlxr_buf_clear(&b.misfit.text);
    mlxr_buf_clear(&b.extra.text);
    return st;
}
