/* decoder: the fields of config.json and the single operations. The blocks made of them are in blocks.c. */
#include "model/families/decoder.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- begin and end ---- */

bool mlxr_decoder_failed(const mlxr_decoder *d)
{
    return d->err.code != MLXR_OK;
}

void mlxr_decoder_fail(mlxr_decoder *d, mlxr_status st, const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    if (mlxr_decoder_failed(d)) return;
    va_start(ap, fmt);
    if (vsnprintf(text, sizeof text, fmt, ap) < 0) text[0] = '\0';
    va_end(ap);
    mlxr_fail(&d->err, st, "%s: %s", d->config->what, text);
}

static void out_of_memory(mlxr_decoder *d)
{
    if (!mlxr_decoder_failed(d)) mlxr_fail_nomem(&d->err, d->config->what);
}

/* Where the checkpoint has the text model; without a checkpoint, or with mlx_layout, where mlx-lm would write it. */
static void find_text(mlxr_decoder *d)
{
    static const struct {
        const char *model, *head;
    } places[] = {
        {"model.", "lm_head"},
        {"language_model.model.", "language_model.lm_head"},
        {"model.language_model.", "lm_head"},
    };
    const size_t usual = d->fields == d->config->root ? 0 : 1;
    size_t i = 0;

    while (i < MLXR_COUNT(places) && !mlxr_decoder_has(d, "%sembed_tokens.weight", places[i].model)) i++;
    if (i == MLXR_COUNT(places)) i = usual;
    d->found_model = places[i].model;
    d->found_head = places[i].head;
    if (d->config->mlx_layout) i = usual;
    d->model = places[i].model;
    d->head = places[i].head;
}

/* A field of the usual ones: its default, or required. */
static int64_t or_required(int64_t fallback)
{
    return fallback ? fallback : MLXR_REQUIRED;
}

void mlxr_decoder_begin(mlxr_decoder *d, const mlxr_config *config, const char *text,
                        const mlxr_decoder_defaults *defaults)
{
    static const mlxr_decoder_defaults none = {0};
    const json_t *sub = text ? json_object_get(config->root, text) : NULL;

    *d = (mlxr_decoder){
        .config = config, .fields = config->root, .defaults = defaults ? *defaults : none, .layer = -1};
    if (sub && !json_is_null(sub)) {
        d->fields = sub;
        if (!json_is_object(sub)) mlxr_decoder_fail(d, MLXR_E_FORMAT, "\"%s\" is not an object", text);
    }
    find_text(d);
    d->hidden_size = mlxr_field_size(d, "hidden_size", or_required(d->defaults.hidden_size), 1, MLXR_MAX_DIM);
    d->n_layers = mlxr_field_size(d, "num_hidden_layers", or_required(d->defaults.n_layers), 1,
                                  MLXR_MAX_LAYERS);
    d->vocab_size = mlxr_field_size(d, "vocab_size", or_required(d->defaults.vocab_size), 1, MLXR_MAX_VOCAB);
    /* 2048 is Hugging Face's default; mlx-lm has none, and no use for it. */
    d->context_length = mlxr_field_size(d, "max_position_embeddings",
                                        d->defaults.context_length ? d->defaults.context_length : 2048, 1,
                                        MLXR_MAX_CONTEXT);
    if (!mlxr_decoder_failed(d)) mlxr_builder_create(&d->b, config->model_type, &d->err);
}

mlxr_status mlxr_decoder_finish(mlxr_program **out, mlxr_decoder *d, mlxr_reg_id logits, mlxr_error *err)
{
    mlxr_status st;

    *out = NULL;
    if (mlxr_decoder_failed(d)) {
        if (err) *err = d->err;
        st = d->err.code;
    } else {
        st = mlxr_builder_finish(out, d->b, d->hidden_size, d->vocab_size, d->n_layers, d->context_length,
                                 logits, err);
    }
    mlxr_builder_free(d->b);
    mlxr_arena_clear(&d->arena);
    return st;
}

/* ---- fields ---- */

static const char *what_of(const mlxr_decoder *d)
{
    return d->config->what;
}

static bool is_absent(const mlxr_decoder *d, const char *key)
{
    const json_t *v = json_object_get(d->fields, key);
    return !v || json_is_null(v);
}

int64_t mlxr_field_int(mlxr_decoder *d, const char *key, int64_t fallback, int64_t min, int64_t max)
{
    int64_t v = fallback;

    if (mlxr_decoder_failed(d)) return min;
    if (fallback == MLXR_REQUIRED && is_absent(d, key)) {
        mlxr_decoder_fail(d, MLXR_E_FORMAT, "no \"%s\"", key);
        return min;
    }
    return mlxr_json_get_int(&v, d->fields, key, min, max, what_of(d), &d->err) == MLXR_OK ? v : min;
}

size_t mlxr_field_size(mlxr_decoder *d, const char *key, int64_t fallback, int64_t min, int64_t max)
{
    return (size_t)mlxr_field_int(d, key, fallback, min, max);
}

double mlxr_field_real(mlxr_decoder *d, const char *key, double fallback, double min, double max)
{
    double v = fallback;

    if (mlxr_decoder_failed(d)) return min;
    if (isnan(fallback) && is_absent(d, key)) {
        mlxr_decoder_fail(d, MLXR_E_FORMAT, "no \"%s\"", key);
        return min;
    }
    return mlxr_json_get_real(&v, d->fields, key, min, max, what_of(d), &d->err) == MLXR_OK ? v : min;
}

bool mlxr_field_bool(mlxr_decoder *d, const char *key, bool fallback)
{
    bool v = fallback;

    if (!mlxr_decoder_failed(d)) mlxr_json_get_bool(&v, d->fields, key, what_of(d), &d->err);
    return v;
}

const char *mlxr_field_str(mlxr_decoder *d, const char *key, const char *fallback)
{
    const char *v = fallback;

    if (!mlxr_decoder_failed(d)) mlxr_json_get_str(&v, d->fields, key, what_of(d), &d->err);
    return v;
}

const json_t *mlxr_field_layer_types(mlxr_decoder *d, const char *key, const char *const *known)
{
    const json_t *list = json_object_get(d->fields, key);
    char names[256] = "";

    if (mlxr_decoder_failed(d) || !list || json_is_null(list)) return NULL;
    if (!json_is_array(list) || json_array_size(list) != d->n_layers) {
        mlxr_decoder_fail(d, MLXR_E_FORMAT, "\"%s\" is not a list of num_hidden_layers (%zu) names", key,
                          d->n_layers);
        return NULL;
    }
    for (size_t i = 0; known[i]; i++) {
        size_t n = strlen(names);
        snprintf(names + n, sizeof names - n, "%s\"%s\"", i ? " or " : "", known[i]);
    }
    for (size_t i = 0; i < d->n_layers; i++) {
        const char *type = json_string_value(json_array_get(list, i));
        size_t k = 0;
        while (type && known[k] && strcmp(type, known[k]) != 0) k++;
        if (type && known[k]) continue;
        mlxr_decoder_fail(d, MLXR_E_UNSUPPORTED, "\"%s\"[%zu] is \"%.64s\", wanted %s", key, i,
                          type ? type : "(not a string)", names);
        return NULL;
    }
    return list;
}

bool mlxr_layer_is(const json_t *layer_types, size_t layer, const char *type)
{
    const char *found = json_string_value(json_array_get(layer_types, layer));
    return found && strcmp(found, type) == 0;
}

bool mlxr_field_layers(mlxr_decoder *d, const char *key, bool listed[MLXR_MAX_LAYERS])
{
    const json_t *list = json_object_get(d->fields, key);

    memset(listed, 0, MLXR_MAX_LAYERS * sizeof *listed);
    if (mlxr_decoder_failed(d) || is_absent(d, key)) return false;
    if (!json_is_array(list) || json_array_size(list) > d->n_layers)
        mlxr_decoder_fail(d, MLXR_E_FORMAT, "\"%s\" is not a list of at most num_hidden_layers (%zu) numbers",
                          key, d->n_layers);
    for (size_t i = 0; i < json_array_size(list) && !mlxr_decoder_failed(d); i++) {
        const json_t *v = json_array_get(list, i);
        json_int_t layer = json_is_integer(v) ? json_integer_value(v) : -1;
        if (layer < 0 || (size_t)layer >= d->n_layers)
            mlxr_decoder_fail(d, MLXR_E_FORMAT, "\"%s\"[%zu] is not a layer's number, wanted 0 to %zu", key,
                              i, d->n_layers - 1);
        else
            listed[layer] = true;
    }
    return true;
}

double mlxr_field_softcap(mlxr_decoder *d, const char *key, double fallback)
{
    return json_is_null(json_object_get(d->fields, key)) ? 0 : mlxr_field_real(d, key, fallback, 1e-3, 1e6);
}

size_t mlxr_field_rotated(mlxr_decoder *d, size_t head_dim, double fallback)
{
    const json_t *text = d->fields, *parameters = json_object_get(text, "rope_parameters");
    double partial = mlxr_field_real(d, "partial_rotary_factor", fallback, 0, 1);
    size_t n;

    if (json_is_object(parameters)) {
        d->fields = parameters;
        partial = mlxr_field_real(d, "partial_rotary_factor", partial, 0, 1);
        d->fields = text;
    }
    if (mlxr_decoder_failed(d)) return 2;
    n = (size_t)((double)head_dim * partial);
    if (n == 0 || n % 2)
        mlxr_decoder_fail(
            d, MLXR_E_FORMAT,
            "\"partial_rotary_factor\" is %g, wanted one by which an even number of a head's %zu "
            "values is rotated",
            partial, head_dim);
    return n;
}

mlxr_act mlxr_field_act(mlxr_decoder *d, const char *key, const char *fallback)
{
    static const struct {
        const char *name;
        mlxr_act act;
    } acts[] = {
        {"silu", MLXR_ACT_SILU},          {"swish", MLXR_ACT_SILU},
        {"gelu", MLXR_ACT_GELU},          {"gelu_pytorch_tanh", MLXR_ACT_GELU_TANH},
        {"gelu_new", MLXR_ACT_GELU_TANH}, {"gelu_fast", MLXR_ACT_GELU_TANH},
    };
    const char *name = mlxr_field_str(d, key, fallback);

    for (size_t i = 0; i < MLXR_COUNT(acts); i++)
        if (strcmp(name, acts[i].name) == 0) return acts[i].act;
    mlxr_decoder_fail(
        d, MLXR_E_UNSUPPORTED,
        "\"%s\" is \"%.64s\", wanted silu, swish, gelu, gelu_pytorch_tanh, gelu_new or gelu_fast", key, name);
    return MLXR_ACT_SILU;
}

void mlxr_field_heads(mlxr_decoder *d, size_t *n_heads, size_t *n_kv_heads)
{
    const json_t *given = json_object_get(d->fields, "num_key_value_heads");
    int64_t n_kv = json_is_null(given) ? 0 : d->defaults.n_kv_heads; /* null: as many as heads */

    *n_heads = mlxr_field_size(d, "num_attention_heads", or_required(d->defaults.n_heads), 1, MLXR_MAX_HEADS);
    *n_kv_heads = mlxr_field_size(d, "num_key_value_heads", n_kv ? n_kv : (int64_t)*n_heads, 1,
                                  MLXR_MAX_HEADS);
    if (*n_heads % *n_kv_heads)
        mlxr_decoder_fail(d, MLXR_E_FORMAT,
                          "\"num_attention_heads\" is %zu, wanted a multiple of num_key_value_heads (%zu)",
                          *n_heads, *n_kv_heads);
}

size_t mlxr_field_head_dim(mlxr_decoder *d, size_t n_heads)
{
    size_t dim = mlxr_field_size(d, "head_dim", d->defaults.head_dim, 1, MLXR_MAX_HEAD_DIM);

    if (mlxr_decoder_failed(d)) return 2;
    if (dim == 0) {
        if (d->hidden_size % n_heads)
            mlxr_decoder_fail(
                d, MLXR_E_FORMAT,
                "\"hidden_size\" is %zu, wanted a multiple of num_attention_heads (%zu) when there is "
                "no head_dim",
                d->hidden_size, n_heads);
        dim = d->hidden_size / n_heads;
    }
    if (dim % 2 || dim == 0 || dim > MLXR_MAX_HEAD_DIM)
        mlxr_decoder_fail(d, MLXR_E_FORMAT, "a head is %zu wide, wanted an even number up to %d", dim,
                          MLXR_MAX_HEAD_DIM);
    return dim;
}

bool mlxr_decoder_has(const mlxr_decoder *d, const char *fmt, ...)
{
    char name[256];
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    return n > 0 && (size_t)n < sizeof name && d->config->checkpoint &&
           mlxr_checkpoint_find(d->config->checkpoint, name) != NULL;
}

void mlxr_decoder_rope_init(mlxr_decoder *d, mlxr_decoder_rope *out, const mlxr_rope_source *src)
{
    mlxr_rope rope;

    *out = (mlxr_decoder_rope){.pairing = MLXR_ROPE_HALF};
    if (mlxr_decoder_failed(d)) return;
    if (mlxr_rope_init(&rope, src, what_of(d), &d->err) != MLXR_OK) return;
    out->rope = rope;
    /* A failure to copy is the builder's, and finish reports it. */
    out->rope.inv_freq = (float *)(uintptr_t)mlxr_build_floats(d->b, rope.inv_freq, rope.n_rot / 2);
    mlxr_rope_clear(&rope);
}

void mlxr_decoder_rope_from(mlxr_decoder *d, mlxr_decoder_rope *out, const mlxr_rope_source *src,
                            const char *layer_type)
{
    mlxr_rope_source full = *src;

    *out = (mlxr_decoder_rope){0};
    if (mlxr_decoder_failed(d)) return;
    if (mlxr_rope_scaling_of(&full.scaling, d->fields, layer_type, what_of(d), &d->err) != MLXR_OK) return;
    if (mlxr_rope_theta_of(&full.theta, d->fields, full.scaling, what_of(d), &d->err) != MLXR_OK) return;
    if (d->defaults.parameters_first &&
        mlxr_json_get_real(&full.theta, json_object_get(d->fields, "rope_parameters"), "rope_theta", 1, 1e12,
                           what_of(d), &d->err) != MLXR_OK)
        return;
    mlxr_decoder_rope_init(d, out, &full);
    if (mlxr_field_bool(d, "rope_traditional", false)) out->pairing = MLXR_ROPE_INTERLEAVED;
    /* Dynamic NTK is there to go past the positions a model was trained on. */
    if (out->rope.dynamic_context && out->rope.dynamic_factor > 1)
        d->context_length = (size_t)fmin((double)out->rope.dynamic_context * (double)out->rope.dynamic_factor,
                                         MLXR_MAX_CONTEXT);
}

void mlxr_decoder_rope_read(mlxr_decoder *d, mlxr_decoder_rope *out, size_t n_rot, const char *layer_type)
{
    mlxr_rope_source src = {.dims = n_rot,
                            .theta = d->defaults.rope_theta != 0 ? d->defaults.rope_theta : 10000,
                            .max_position_embeddings = (int64_t)d->context_length};

    mlxr_decoder_rope_from(d, out, &src, layer_type);
}

/* ---- names and registers ---- */

mlxr_reg_id mlxr_decoder_reg(mlxr_decoder *d, const char *name, size_t width)
{
    const char *own = name;
    mlxr_reg_id id;

    if (mlxr_decoder_failed(d)) return MLXR_NONE;
    for (size_t i = 0; i < d->n_regs; i++) {
        if (strcmp(d->regs[i].name, name) != 0) continue;
        if (d->regs[i].width == width) return d->regs[i].id;
        own = NULL; /* taken by another width */
    }
    if (!own) own = mlxr_arena_printf(&d->arena, "%s.%zu", name, width);
    name = mlxr_arena_strndup(&d->arena, name, strlen(name));
    if (!own || !name) {
        out_of_memory(d);
        return MLXR_NONE;
    }
    id = mlxr_build_reg(d->b, own, width);
    if (d->n_regs < MLXR_DECODER_REGS) {
        d->regs[d->n_regs].name = name;
        d->regs[d->n_regs].width = width;
        d->regs[d->n_regs++].id = id;
    } else {
        mlxr_decoder_fail(d, MLXR_E_UNSUPPORTED, "layers of more widths than %d registers hold",
                          MLXR_DECODER_REGS);
    }
    return id;
}

size_t mlxr_decoder_width(const mlxr_decoder *d, mlxr_reg_id r)
{
    for (size_t i = 0; i < d->n_regs; i++)
        if (d->regs[i].id == r) return d->regs[i].width;
    return 0;
}

/* "model.layers.3.self_attn.q_proj" */
static const char *module_name(mlxr_decoder *d, const char *part)
{
    const char *name = d->layer < 0
                           ? mlxr_arena_printf(&d->arena, "%s%s", d->model, part)
                           : mlxr_arena_printf(&d->arena, "%slayers.%d.%s", d->model, (int)d->layer, part);
    if (!name) out_of_memory(d);
    return name;
}

mlxr_weight_id mlxr_decoder_vector(mlxr_decoder *d, size_t n, const char *suffix, const char *part)
{
    const char *name = mlxr_decoder_failed(d) ? NULL : module_name(d, part);
    return name ? mlxr_build_vector(d->b, n, suffix, "%s", name) : MLXR_NONE;
}

mlxr_weight_id mlxr_decoder_matrix(mlxr_decoder *d, size_t n_rows, size_t n_cols, const char *part)
{
    const char *name = mlxr_decoder_failed(d) ? NULL : module_name(d, part);
    return name ? mlxr_build_matrix(d->b, n_rows, n_cols, "%s", name) : MLXR_NONE;
}

/* ---- operations ---- */

void mlxr_decoder_op(mlxr_decoder *d, mlxr_op op)
{
    if (!mlxr_decoder_failed(d)) mlxr_build_op(d->b, &op);
}

mlxr_op mlxr_decoder_op_init(const mlxr_decoder *d, mlxr_op_kind kind, mlxr_reg_id dst, mlxr_reg_id a)
{
    mlxr_op op = mlxr_op_init(kind, d->layer);

    op.dst = dst;
    op.a = a;
    return op;
}

void mlxr_decoder_embed(mlxr_decoder *d, mlxr_reg_id dst, const char *part, size_t n_rows, float scale)
{
    mlxr_op op = mlxr_decoder_op_init(d, MLXR_OP_EMBED, dst, MLXR_NONE);

    op.weight = mlxr_decoder_matrix(d, n_rows, mlxr_decoder_width(d, dst), part);
    op.u.embed.scale = scale;
    mlxr_decoder_op(d, op);
    if (strcmp(part, "embed_tokens") == 0) d->table = op.weight;
}

void mlxr_decoder_linear(mlxr_decoder *d, mlxr_reg_id dst, mlxr_reg_id a, bool bias, const char *part)
{
    mlxr_op op = mlxr_decoder_op_init(d, MLXR_OP_LINEAR, dst, a);
    size_t n_out = mlxr_decoder_width(d, dst);

    op.weight = mlxr_decoder_matrix(d, n_out, mlxr_decoder_width(d, a), part);
    if (bias) op.bias = mlxr_decoder_vector(d, n_out, ".bias", part);
    mlxr_decoder_op(d, op);
}

/* n_runs: norms with weights of their own, 0 for one. */
static void norm(mlxr_decoder *d, mlxr_reg_id dst, mlxr_reg_id a, size_t width, size_t n_runs,
                 const char *part)
{
    bool layer_norm = part && d->norm == MLXR_NORM_LAYER;
    mlxr_op op = mlxr_decoder_op_init(d, layer_norm ? MLXR_OP_LAYER_NORM : MLXR_OP_RMS_NORM, dst, a);
    const char *name = part && n_runs && !mlxr_decoder_failed(d) ? module_name(d, part) : NULL;

    op.u.norm.width = width;
    op.u.norm.eps = d->eps;
    if (name)
        op.weight = mlxr_build_vectors(d->b, n_runs, width, ".weight", "%s", name);
    else if (part)
        op.weight = mlxr_decoder_vector(d, width, ".weight", part);
    if (layer_norm && d->norm_bias && !n_runs) op.bias = mlxr_decoder_vector(d, width, ".bias", part);
    if (part && !layer_norm) op.u.norm.offset = d->norm_offset;
    mlxr_decoder_op(d, op);
}

void mlxr_decoder_norm(mlxr_decoder *d, mlxr_reg_id dst, mlxr_reg_id a, size_t width, const char *part)
{
    norm(d, dst, a, width ? width : mlxr_decoder_width(d, a), 0, part);
}

void mlxr_decoder_norm_by_run(mlxr_decoder *d, mlxr_reg_id dst, mlxr_reg_id a, size_t width, const char *part)
{
    norm(d, dst, a, width, mlxr_decoder_width(d, a) / width, part);
}

void mlxr_decoder_rotate(mlxr_decoder *d, mlxr_reg_id a, size_t n_heads, size_t head_dim,
                         const mlxr_decoder_rope *rope)
{
    mlxr_op op = mlxr_decoder_op_init(d, MLXR_OP_ROPE, a, a);

    op.u.rope.n_heads = n_heads;
    op.u.rope.head_dim = head_dim;
    op.u.rope.n_rot = rope->rope.n_rot;
    op.u.rope.pairing = rope->pairing;
    op.u.rope.inv_freq = rope->rope.inv_freq;
    op.u.rope.scale = rope->rope.scale;
    op.u.rope.dynamic_context = rope->rope.dynamic_context;
    op.u.rope.dynamic_theta = rope->rope.dynamic_theta;
    op.u.rope.dynamic_factor = rope->rope.dynamic_factor;
    mlxr_decoder_op(d, op);
}

void mlxr_decoder_add(mlxr_decoder *d, mlxr_reg_id dst, mlxr_reg_id a, mlxr_reg_id b)
{
    mlxr_op op = mlxr_decoder_op_init(d, MLXR_OP_ADD, dst, a);

    op.b = b;
    mlxr_decoder_op(d, op);
}

void mlxr_decoder_act_mul(mlxr_decoder *d, mlxr_reg_id dst, mlxr_act act, mlxr_reg_id a, mlxr_reg_id b)
{
    mlxr_op op = mlxr_decoder_op_init(d, MLXR_OP_ACT_MUL, dst, a);

    op.b = b;
    op.u.act.act = act;
    mlxr_decoder_op(d, op);
}

void mlxr_decoder_scale(mlxr_decoder *d, mlxr_reg_id dst, mlxr_reg_id a, double factor)
{
    mlxr_op op = mlxr_decoder_op_init(d, MLXR_OP_SCALE, dst, a);

    op.u.scale.factor = (float)factor;
    if (factor != 1 || dst != a) mlxr_decoder_op(d, op);
}

void mlxr_decoder_softcap(mlxr_decoder *d, mlxr_reg_id dst, mlxr_reg_id a, double cap)
{
    mlxr_op op = mlxr_decoder_op_init(d, MLXR_OP_SOFTCAP, dst, a);

    op.u.softcap.cap = (float)cap;
    if (cap != 0 || dst != a) mlxr_decoder_op(d, op);
}

void mlxr_decoder_slice(mlxr_decoder *d, mlxr_reg_id dst, mlxr_reg_id a, size_t first, size_t run,
                        size_t step)
{
    mlxr_op op = mlxr_decoder_op_init(d, MLXR_OP_SLICE, dst, a);

    op.u.slice.first = first;
    op.u.slice.run = run;
    op.u.slice.step = step;
    mlxr_decoder_op(d, op);
}

mlxr_reg_id mlxr_decoder_logits(mlxr_decoder *d, mlxr_reg_id h, const char *norm)
{
    mlxr_reg_id x = mlxr_decoder_reg(d, "x", d->hidden_size), logits;
    mlxr_op op;

    d->layer = -1;
    logits = mlxr_decoder_reg(d, "logits", d->vocab_size);
    mlxr_decoder_norm(d, x, h, 0, norm);
    if (!mlxr_decoder_failed(d)) mlxr_build_hidden(d->b, x);
    op = mlxr_decoder_op_init(d, MLXR_OP_LINEAR, logits, x);
    if (!mlxr_decoder_failed(d))
        op.weight = d->head ? mlxr_build_matrix(d->b, d->vocab_size, d->hidden_size, "%s", d->head)
                            : d->table;
    mlxr_decoder_op(d, op);
    return logits;
}

/* ---- what most families have ---- */

const char *const mlxr_attention_types[] = {"full_attention", "sliding_attention", NULL};

void mlxr_decoder_usual_fields(mlxr_decoder *d, mlxr_attention *attention, mlxr_mlp *mlp)
{
    mlxr_field_heads(d, &attention->n_heads, &attention->n_kv_heads);
    attention->head_dim = mlxr_field_head_dim(d, attention->n_heads);
    d->eps = (float)mlxr_field_real(d, "rms_norm_eps", d->defaults.eps != 0 ? d->defaults.eps : NAN, 0, 1);
    mlp->width = mlxr_field_size(d, "intermediate_size", or_required(d->defaults.intermediate_size), 1,
                                 MLXR_MAX_DIM);
    mlp->act = mlxr_field_act(d, "hidden_act", "silu");
    mlxr_decoder_tie(d);
}

void mlxr_decoder_tie(mlxr_decoder *d)
{
    bool tied = d->defaults.tied, outside = false;

    if (!is_absent(d, "tie_word_embeddings")) {
        tied = mlxr_field_bool(d, "tie_word_embeddings", false);
    } else if (d->fields != d->config->root && !mlxr_decoder_has(d, "%s.weight", d->found_head)) {
        /* The wrapper says so of its text model, and there is no head that could say otherwise. */
        mlxr_json_get_bool(&outside, d->config->root, "tie_word_embeddings", what_of(d), &d->err);
        tied |= outside;
    }
    if (tied) d->head = NULL;
}

void mlxr_decoder_moe_fields(mlxr_decoder *d, mlxr_moe *moe, const char *n_experts, bool default_normalize)
{
    moe->n_experts = mlxr_field_size(d, n_experts, MLXR_REQUIRED, 1, MLXR_MAX_N_EXPERTS);
    moe->k = mlxr_field_size(d, "num_experts_per_tok", MLXR_REQUIRED, 1, (int64_t)moe->n_experts);
    moe->width = mlxr_field_size(d, "moe_intermediate_size", MLXR_REQUIRED, 1, MLXR_MAX_DIM);
    moe->normalize = mlxr_field_bool(d, "norm_topk_prob", default_normalize);
}

mlxr_reg_id mlxr_decoder_hidden(mlxr_decoder *d, float scale)
{
    mlxr_reg_id h = mlxr_decoder_reg(d, "h", d->hidden_size);

    mlxr_decoder_embed(d, h, "embed_tokens", d->vocab_size, scale);
    return h;
}

size_t mlxr_decoder_window(mlxr_decoder *d, const json_t *layer_types)
{
    size_t window;

    if (!mlxr_layer_is(layer_types, (size_t)d->layer, "sliding_attention")) return 0;
    window = mlxr_field_size(d, "sliding_window", 0, 1, MLXR_MAX_CONTEXT);
    if (window == 0)
        mlxr_decoder_fail(d, MLXR_E_FORMAT,
                          "\"layer_types\" has sliding_attention, but there is no \"sliding_window\"");
    return window;
}

bool mlxr_other_modality(const mlxr_config *config, const char *tensor_name)
{
    static const char *const parts[] = {
        "vision_tower", "vision_model", "visual.",         "multi_modal_projector", "audio_tower",
        "embed_audio",  "embed_vision", "vision_embedder", "vision_projection",     "mtp."};

    (void)config;
    for (size_t i = 0; i < MLXR_COUNT(parts); i++)
        if (strstr(tensor_name, parts[i])) return true;
    return false;
}
