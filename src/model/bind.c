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

/* In the names of stacks that the checkpoint has matrix by matrix. */
#define EXPERT "{expert}"

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

/* What is looked for: one matrix, a vector, or a stack that lies in one tensor. */
typedef struct piece {
    const char *name, *suffix;
    size_t n_stacked; /* 0: no stack */
    size_t n_rows, n_cols;
    bool is_vector;
} piece;

/* The shape of a piece whose rows take n_cols elements; a convolution's has a 1 more, where PyTorch or MLX puts it,
 * and the original mxfp4 blocks have 16 bytes each. */
static bool has_shape(const mlxr_tensor *t, const piece *p, size_t n_cols)
{
    const size_t *shape = t->shape;
    unsigned n_dims = t->n_dims;

    /* A norm's weights for each head are two dimensions, [heads, head_dim]. */
    if (p->is_vector && n_dims == 2)
        return shape[0] > 1 && n_cols % shape[0] == 0 && shape[1] == n_cols / shape[0];
    if (p->is_vector) return n_dims == 1 && shape[0] == n_cols;
    if (p->n_stacked) {
        if (n_dims < 1 || shape[0] != p->n_stacked) return false;
        shape++;
        n_dims--;
    } else if (n_dims == 3 && shape[0] == p->n_rows && is_float(t->dtype)) {
        return (shape[1] == 1 && shape[2] == n_cols) || (shape[1] == n_cols && shape[2] == 1);
    }
    if (n_dims == 3 && t->dtype == MLXR_U8)
        return shape[0] == p->n_rows && shape[2] == 16 && shape[1] == n_cols / 16 && n_cols % 16 == 0;
    return n_dims == 2 && shape[0] == p->n_rows && shape[1] == n_cols;
}

/* "[96, 64]", as messages say what was wanted. */
static const char *wanted_text(char text[static 160], const piece *p, size_t n_cols)
{
    if (p->is_vector)
        snprintf(text, 160, "[%zu]", n_cols);
    else if (p->n_stacked)
        snprintf(text, 160, "[%zu, %zu, %zu]", p->n_stacked, p->n_rows, n_cols);
    else
        snprintf(text, 160, "[%zu, %zu]", p->n_rows, n_cols);
    return text;
}

static bool bind_dense(binder *b, mlxr_matrix *m, const piece *p)
{
    const mlxr_tensor *t = take(b, p->name, p->suffix);
    char text[160], wanted[160];

    if (!t) {
        list(&b->missing, "%.*s%s", MAX_NAME, p->name, p->suffix);
    } else if (!has_shape(t, p, p->n_cols)) {
        list(&b->misfit, "%.*s%s %s (wanted %s)", MAX_NAME, p->name, p->suffix, shape_text(text, t),
             wanted_text(wanted, p, p->n_cols));
    } else if (!is_float(t->dtype)) {
        list(&b->misfit, "%.*s%s %s (wanted F16, BF16 or F32)", MAX_NAME, p->name, p->suffix,
             shape_text(text, t));
    } else {
        *m = (mlxr_matrix){.dtype = t->dtype,
                           .n_rows = p->n_rows,
                           .n_cols = p->n_cols,
                           .row_bytes = p->n_cols * (mlxr_dtype_bits(t->dtype) / 8),
                           .data = t->data};
        return true;
    }
    return false;
}

/* What gpt-oss's own files call the values and scales of a matrix; theirs are bytes where MLX's are words. */
static bool is_blocks(const piece *p)
{
    return strcmp(p->suffix, "_blocks") == 0;
}

static const char *scales_suffix(const piece *p)
{
    return is_blocks(p) ? "_scales" : ".scales";
}

static size_t code_cols(mlxr_quant q, const piece *p)
{
    return p->n_cols * q.bits / (is_blocks(p) ? 8 : 32);
}

/* Whether packed codes and scales have the shapes that q gives the piece. */
static bool quant_fits(mlxr_quant q, const piece *p, const mlxr_tensor *codes, const mlxr_tensor *scales)
{
    return mlxr_quant_supported(q) && p->n_cols % q.group_size == 0 && has_shape(codes, p, code_cols(q, p)) &&
           has_shape(scales, p, p->n_cols / q.group_size);
}

static bool scales_fit(mlxr_quant q, const mlxr_tensor *scales)
{
    return mlxr_quant_is_fp(q.mode) ? scales->dtype == MLXR_U8 : is_float(scales->dtype);
}

/* What the tensors themselves say. mlx-lm believes them before the global settings, for files whose config.json
 * forgot some overrides. Byte scales tell the modes of floats, and each of those has one width and group. */
static mlxr_quant quant_of_shapes(const piece *p, const mlxr_tensor *codes, const mlxr_tensor *scales)
{
    size_t n_codes = codes->n_dims ? codes->shape[codes->n_dims - 1] : 0;
    size_t n_groups = scales->n_dims ? scales->shape[scales->n_dims - 1] : 0;
    mlxr_quant q = {0};

    if (n_groups == 0 || p->n_cols / n_groups > 128 || n_codes > p->n_cols) return q;
    q.mode = MLXR_QUANT_AFFINE;
    q.group_size = (unsigned)(p->n_cols / n_groups);
    q.bits = (unsigned)(n_codes * 32 / p->n_cols);
    if (scales->dtype == MLXR_U8)
        q.mode = q.bits == 8 ? MLXR_QUANT_MXFP8 : q.group_size == 16 ? MLXR_QUANT_NVFP4 : MLXR_QUANT_MXFP4;
    return q;
}

static bool bind_quantized(binder *b, mlxr_matrix *m, const piece *p, mlxr_quant q, bool named)
{
    const mlxr_tensor *codes = take(b, p->name, p->suffix), *scales = take(b, p->name, scales_suffix(p)),
                      *biases = NULL;
    char text[160], text2[160], wanted[160], wanted2[160];
    bool fp;

    if (!named && codes && scales && !(quant_fits(q, p, codes, scales) && scales_fit(q, scales))) {
        mlxr_quant seen = quant_of_shapes(p, codes, scales);
        if (seen.mode != MLXR_QUANT_NONE && quant_fits(seen, p, codes, scales)) q = seen;
    }
    fp = mlxr_quant_is_fp(q.mode);
    if (!fp) biases = take(b, p->name, ".biases");
    if (!codes) list(&b->missing, "%.*s%s", MAX_NAME, p->name, p->suffix);
    if (!scales) list(&b->missing, "%.*s%s", MAX_NAME, p->name, scales_suffix(p));
    if (!biases && !fp) list(&b->missing, "%.*s.biases", MAX_NAME, p->name);
    if (!codes || !scales || !(biases || fp)) return false;
    if (p->n_cols % q.group_size) {
        list(&b->misfit, "%.*s%s (%zu columns do not divide into groups of %u)", MAX_NAME, p->name, p->suffix,
             p->n_cols, q.group_size);
    } else if (codes->dtype != (is_blocks(p) ? MLXR_U8 : MLXR_U32) || !quant_fits(q, p, codes, scales)) {
        list(&b->misfit,
             "%.*s%s %s with scales %s (wanted %s %s with scales %s, for %s%u bits in groups of %u)",
             MAX_NAME, p->name, p->suffix, shape_text(text, codes), shape_text(text2, scales),
             wanted_text(wanted, p, code_cols(q, p)), is_blocks(p) ? "U8" : "U32",
             wanted_text(wanted2, p, p->n_cols / q.group_size), fp ? "floats of " : "", q.bits, q.group_size);
    } else if (!scales_fit(q, scales)) {
        list(&b->misfit, "%.*s%s %s (wanted %s)", MAX_NAME, p->name, scales_suffix(p),
             shape_text(text, scales), fp ? "U8" : "F16, BF16 or F32");
    } else if (biases &&
               (biases->dtype != scales->dtype || !has_shape(biases, p, p->n_cols / q.group_size))) {
        list(&b->misfit, "%.*s.biases %s (wanted as its scales, %s)", MAX_NAME, p->name,
             shape_text(text, biases), shape_text(text2, scales));
    } else {
        *m = (mlxr_matrix){.quant = q,
                           .dtype = scales->dtype,
                           .n_rows = p->n_rows,
                           .n_cols = p->n_cols,
                           .row_bytes = p->n_cols * q.bits / 8,
                           .data = codes->data,
                           .scales = scales->data,
                           .biases = biases ? biases->data : NULL};
        return true;
    }
    return false;
}

/* One piece, quantized or not as config.json and the checkpoint say. *bound: whether *m is filled. */
static mlxr_status bind_piece(bool *bound, binder *b, mlxr_matrix *m, const piece *p, mlxr_error *err)
{
    const json_t *entry = json_object_get(b->quantization, p->name);
    const char *scales = mlxr_arena_printf(&b->arena, "%s%s", p->name, scales_suffix(p));
    mlxr_quant q = b->base;
    mlxr_status st;

    *bound = false;
    if (!scales) {
        b->failed = true;
        return MLXR_OK;
    }
    if (p->is_vector || (strcmp(p->suffix, ".weight") != 0 && !is_blocks(p))) {
        *bound = bind_dense(b, m, p);
        return MLXR_OK;
    }
    if (!b->quantization && mlxr_checkpoint_find(b->checkpoint, scales))
        return mlxr_fail(err, MLXR_E_FORMAT,
                         "%s: no \"quantization\", but the checkpoint has quantized %.120s", b->what,
                         p->name);
    if (json_is_object(entry)) {
        if ((st = read_quant(&q, entry, p->name, b->what, err)) != MLXR_OK) return st;
    } else if (entry && !json_is_boolean(entry)) {
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: quantization of %.120s is neither an object nor a boolean",
                         b->what, p->name);
    }
    if (entry ? !json_is_false(entry) : mlxr_checkpoint_find(b->checkpoint, scales) != NULL)
        *bound = bind_quantized(b, m, p, q, entry != NULL);
    else
        *bound = bind_dense(b, m, p);
    return MLXR_OK;
}

/* ---- stacks ---- */

static const void *advance(const void *p, size_t n_bytes)
{
    return p ? (const char *)p + n_bytes : NULL;
}

/* The i-th matrix of a stack whose first is m. */
static mlxr_matrix stacked_matrix(const mlxr_matrix *m, size_t i)
{
    mlxr_matrix one = *m;

    one.data = advance(m->data, i * m->n_rows * m->row_bytes);
    if (m->quant.mode != MLXR_QUANT_NONE) {
        size_t n_groups = m->n_rows * (m->n_cols / m->quant.group_size);
        size_t n_bytes = i * n_groups * (mlxr_dtype_bits(m->dtype) / 8);
        one.scales = advance(m->scales, n_bytes);
        one.biases = advance(m->biases, n_bytes);
    }
    return one;
}

/* name with the number in the place of "{expert}"; NULL when out of memory. */
static const char *expert_name(binder *b, const char *name, size_t i)
{
    const char *at = strstr(name, EXPERT);
    return mlxr_arena_printf(&b->arena, "%.*s%zu%s", (int)(at - name), name, i, at + strlen(EXPERT));
}

static bool alike(const mlxr_matrix *a, const mlxr_matrix *b)
{
    return a->dtype == b->dtype && a->quant.mode == b->quant.mode && a->quant.bits == b->quant.bits &&
           a->quant.group_size == b->quant.group_size;
}

/* Nothing is taken for experts that are not there: a hostile config.json can ask for millions. */
static mlxr_status new_experts(mlxr_matrix **out, binder *b, const mlxr_weight *w, mlxr_error *err)
{
    *out = mlxr_arena_calloc(&b->program->arena, w->n_experts, sizeof **out);
    return *out ? MLXR_OK : mlxr_fail_nomem(err, b->what);
}

/* A stack that the checkpoint has matrix by matrix. When the first is missing the others are not looked for. */
static mlxr_status bind_experts(binder *b, mlxr_weight *w, mlxr_error *err)
{
    piece p = {.suffix = w->suffix, .n_rows = w->n_rows, .n_cols = w->n_cols};
    mlxr_matrix *experts = NULL, first;
    bool bound, all = true;
    mlxr_status st;

    for (size_t i = 0; i < w->n_experts; i++) {
        p.name = expert_name(b, w->name, i);
        if (!p.name) {
            b->failed = true;
            return MLXR_OK;
        }
        if ((st = bind_piece(&bound, b, experts ? &experts[i] : &first, &p, err)) != MLXR_OK) return st;
        all &= bound;
        if (!experts) {
            if (!bound) return MLXR_OK;
            if ((st = new_experts(&experts, b, w, err)) != MLXR_OK) return st;
            experts[0] = first;
        }
        if (bound && !alike(&experts[i], &experts[0])) {
            list(&b->misfit, "%.*s%s (stored otherwise than the first expert's)", MAX_NAME, p.name, p.suffix);
            all = false;
        }
    }
    w->experts = experts;
    w->m = experts[0];
    w->bound = all;
    return MLXR_OK;
}

static mlxr_status bind_weight(binder *b, mlxr_weight *w, mlxr_error *err)
{
    piece p = {.name = w->name,
               .suffix = w->suffix,
               .n_stacked = w->n_experts,
               .n_rows = w->n_rows,
               .n_cols = w->n_cols,
               .is_vector = w->is_vector};
    mlxr_matrix *experts;
    mlxr_status st;

    if (w->n_experts && strstr(w->name, EXPERT)) return bind_experts(b, w, err);
    st = bind_piece(&w->bound, b, &w->m, &p, err);
    if (st != MLXR_OK || !w->bound || !w->n_experts) return st;
    if ((st = new_experts(&experts, b, w, err)) != MLXR_OK) return st;
    for (size_t i = 0; i < w->n_experts; i++) experts[i] = stacked_matrix(&w->m, i);
    w->experts = experts;
    return MLXR_OK;
}

/* ---- what is left over ---- */

/* Some files carry the rotary frequencies, and a head beside tied embeddings. */
static bool may_ignore(const binder *b, const mlxr_family *family, const mlxr_config *config,
                       const char *name)
{
    const char *head = strstr(name, "lm_head.");

    if (strstr(name, "rotary_emb.inv_freq")) return true;
    if (head && (head == name || head[-1] == '.')) {
        for (size_t i = 0; i < b->program->n_weights; i++) {
            const char *wanted = strstr(b->program->weights[i].name, "lm_head");
            if (wanted && strcmp(wanted, "lm_head") == 0) return false;
        }
        return true;
    }
    return family->may_ignore && family->may_ignore(config, name);
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
        st = bind_weight(&b, &program->weights[i], err);
    }
    for (size_t i = 0; i < mlxr_checkpoint_count(checkpoint) && st == MLXR_OK; i++) {
        const char *name = mlxr_checkpoint_get(checkpoint, i)->name;
        if (mlxr_strtab_get(&b.used, name, strlen(name)) != SIZE_MAX) continue;
        if (may_ignore(&b, family, config, name)) continue;
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
