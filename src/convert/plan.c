/* Planning a conversion: pairing the weights of two layouts, and choosing how each is stored. The choice is that of quantize_model in
 * mlx-lm's utils.py with the models' quant_predicate, which families say as eight_bits. */
#include "convert/plan.h"

#include <stdlib.h>

/* ---- pairing ---- */

/* A pair of weights: gate or up where the folder has both in one. */
typedef struct pair {
    mlxr_weight_id to, from;
    size_t first, step;
    bool by_column; /* biases of experts: the rows are experts */
} pair;

static mlxr_status mismatch(const mlxr_plan *plan, size_t i_op, const char *what, mlxr_error *err)
{
    return mlxr_fail(
        err, MLXR_E_UNSUPPORTED,
        "convert: %s: operation %zu is not the same in mlx-lm's layout: this model cannot be converted", what,
        i_op);
}

/* false: they do not fit each other. */
static bool set_source(mlxr_plan *plan, const mlxr_program *bound, pair p)
{
    mlxr_target *t;
    const mlxr_weight *from;
    size_t n_rows, n_cols;

    if (p.to == MLXR_NONE || p.from == MLXR_NONE) return p.to == p.from;
    t = &plan->targets[p.to];
    from = &bound->weights[p.from];
    if (t->from) return t->from == from; /* a table that is used again */
    t->w = &plan->program->weights[p.to];
    t->from = from;
    t->first_row = p.by_column ? 0 : p.first;
    t->row_step = p.by_column ? 1 : p.step;
    t->first_col = p.by_column ? p.first : 0;
    t->col_step = p.by_column ? p.step : 1;
    t->n_rows = t->w->n_rows * (t->w->n_experts ? t->w->n_experts : 1);
    n_rows = t->first_row + (t->w->n_rows - 1) * t->row_step;
    n_cols = t->first_col + (t->w->n_cols - 1) * t->col_step;
    return from->n_experts == t->w->n_experts && n_rows < from->n_rows && n_cols < from->n_cols;
}

static bool pair_experts(mlxr_plan *plan, const mlxr_program *bound, const mlxr_op *to, const mlxr_op *from)
{
    const size_t F = to->u.experts.width;
    const mlxr_gate_up how = from->u.experts.gate_up;
    const bool apart = how == MLXR_GATE_UP_APART;
    const size_t step = how == MLXR_GATE_UP_INTERLEAVED ? 2 : 1, up = apart                             ? 0
                                                                      : how == MLXR_GATE_UP_INTERLEAVED ? 1
                                                                                                        : F;
    const pair pairs[] = {
        {to->u.experts.gate, from->u.experts.gate, 0, step, false},
        {to->u.experts.up, apart ? from->u.experts.up : from->u.experts.gate, up, step, false},
        {to->u.experts.down, from->u.experts.down, 0, 1, false},
        {to->u.experts.gate_bias, from->u.experts.gate_bias, 0, step, true},
        {to->u.experts.up_bias, apart ? from->u.experts.up_bias : from->u.experts.gate_bias, up, step, true},
        {to->u.experts.down_bias, from->u.experts.down_bias, 0, 1, true},
    };

    if (to->u.experts.gate_up != MLXR_GATE_UP_APART) return false;
    for (size_t i = 0; i < MLXR_COUNT(pairs); i++)
        if (!set_source(plan, bound, pairs[i])) return false;
    for (size_t i = 0; i < 3; i++) plan->targets[pairs[i].to].is_matrix = true;
    return true;
}

static bool pair_op(mlxr_plan *plan, const mlxr_program *bound, const mlxr_op *to, const mlxr_op *from)
{
    mlxr_target *t = to->weight == MLXR_NONE ? NULL : &plan->targets[to->weight];

    if (to->kind != from->kind) return false;
    if (to->kind == MLXR_OP_EXPERTS) return pair_experts(plan, bound, to, from);
    if (!set_source(plan, bound, (pair){to->weight, from->weight, 0, 1, false}) ||
        !set_source(plan, bound, (pair){to->bias, from->bias, 0, 1, false}))
        return false;
    if (!t) return true;
    switch (to->kind) {
    case MLXR_OP_EMBED: t->is_embedding = t->is_matrix = true; break;
    case MLXR_OP_LINEAR: t->is_matrix = true; break;
    case MLXR_OP_RMS_NORM: t->add = from->u.norm.offset - to->u.norm.offset; break;
    case MLXR_OP_SHORT_CONV: t->is_conv = true; break;
    /* An exponent of exponents: mlx-lm leaves it as precise as it comes. */
    case MLXR_OP_GATED_DELTA: t->keeps_dtype = true; break;
    default: break;
    }
    return true;
}

mlxr_status mlxr_plan_init(mlxr_plan *plan, const mlxr_model *model, const char *what, mlxr_error *err)
{
    const mlxr_program *bound = mlxr_model_program(model);
    mlxr_config config = {.root = (json_t *)(uintptr_t)mlxr_model_config(model),
                          .what = what,
                          .checkpoint = mlxr_model_checkpoint(model),
                          .mlx_layout = true};
    mlxr_status st;

    plan->model = model;
    if ((st = mlxr_family_find(&plan->family, &config, err)) != MLXR_OK) return st;
    if ((st = plan->family->build(&plan->program, &config, err)) != MLXR_OK) return st;
    plan->n = plan->program->n_weights;
    plan->targets = mlxr_calloc_array(plan->n, sizeof *plan->targets);
    if (!plan->targets) return mlxr_fail_nomem(err, "convert");
    if (plan->program->n_ops != bound->n_ops) return mismatch(plan, plan->program->n_ops, what, err);
    for (size_t i = 0; i < bound->n_ops; i++)
        if (!pair_op(plan, bound, &plan->program->ops[i], &bound->ops[i]))
            return mismatch(plan, i, what, err);
    for (size_t i = 0; i < plan->n; i++)
        if (!plan->targets[i].from) return mismatch(plan, bound->n_ops, what, err);
    return MLXR_OK;
}

void mlxr_plan_clear(mlxr_plan *plan)
{
    mlxr_program_free(plan->program);
    free(plan->targets);
    mlxr_arena_clear(&plan->arena);
    *plan = (mlxr_plan){0};
}

/* ---- choosing ---- */

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), n_end = strlen(end);
    return n >= n_end && strcmp(s + n - n_end, end) == 0;
}

static bool same_quant(mlxr_quant a, mlxr_quant b)
{
    return a.mode == b.mode && a.bits == b.bits && a.group_size == b.group_size;
}

static mlxr_quant choose_quant(const mlxr_plan *plan, const mlxr_target *t, mlxr_quant wanted)
{
    static const mlxr_quant none = {0};
    mlxr_quant careful = {MLXR_QUANT_AFFINE, 8, 64};
    const size_t n_cols = t->w->n_cols;

    if (wanted.mode == MLXR_QUANT_NONE || n_cols % wanted.group_size) return none;
    for (const char *const *end = plan->family->eight_bits; end && *end; end++) {
        if (!ends_with(t->w->name, *end)) continue;
        if (n_cols % careful.group_size) careful.group_size = 32; /* mlx-lm fails there */
        return n_cols % careful.group_size ? none : careful;
    }
    return wanted;
}

/* What most quantized matrices have, of all that are written. */
static mlxr_quant usual_quant(const mlxr_plan *plan)
{
    mlxr_quant best = {0};
    size_t n_best = 0;

    for (size_t i = 0; i < plan->n; i++) {
        size_t n = 0;
        if (plan->targets[i].quant.mode == MLXR_QUANT_NONE || same_quant(plan->targets[i].quant, best))
            continue;
        for (size_t j = i; j < plan->n; j++) n += same_quant(plan->targets[j].quant, plan->targets[i].quant);
        if (n <= n_best) continue;
        best = plan->targets[i].quant;
        n_best = n;
    }
    return best;
}

void mlxr_plan_choose(mlxr_plan *plan, const mlxr_convert_options *options)
{
    bool any = false;

    for (size_t i = 0; i < plan->n; i++) {
        mlxr_target *t = &plan->targets[i];
        const mlxr_matrix *m = &t->from->m;
        /* The values of the float modes have no type of their own; MLX gives them this one. */
        t->dtype = mlxr_quant_is_fp(m->quant.mode) ? MLXR_BF16 : m->dtype;
        if (options->dtype != MLXR_DTYPE_COUNT && !t->keeps_dtype) t->dtype = options->dtype;
        t->quant = (mlxr_quant){0};
        if (t->is_matrix) t->quant = options->quantize ? choose_quant(plan, t, options->quant) : m->quant;
        if (options->quantize && m->quant.mode != MLXR_QUANT_NONE && t->quant.mode != MLXR_QUANT_NONE)
            plan->n_requantized += !same_quant(t->quant, m->quant);
        any |= t->quant.mode != MLXR_QUANT_NONE;
    }
    plan->base = options->quantize && any ? options->quant : usual_quant(plan);
}

/* ---- config.json ---- */

static json_t *quant_json(mlxr_quant q, bool with_mode)
{
    json_t *o = json_pack("{s:i, s:i}", "group_size", (int)q.group_size, "bits", (int)q.bits);

    if (o && with_mode && json_object_set_new(o, "mode", json_string(mlxr_quant_mode_name(q.mode))) != 0) {
        json_decref(o);
        return NULL;
    }
    return o;
}

/* The settings for all, then those of each module that has others. */
static json_t *quantization_json(const mlxr_plan *plan)
{
    json_t *all = quant_json(plan->base, true);

    for (size_t i = 0; i < plan->n && all; i++) {
        const mlxr_target *t = &plan->targets[i];
        if (t->quant.mode == MLXR_QUANT_NONE || same_quant(t->quant, plan->base)) continue;
        /* affine is what a module's entry means without a mode, and mlx-lm writes it so. */
        if (json_object_set_new(all, t->w->name, quant_json(t->quant, t->quant.mode != MLXR_QUANT_AFFINE)) !=
            0) {
            json_decref(all);
            all = NULL;
        }
    }
    return all;
}

static const char *dtype_word(mlxr_dtype t)
{
    return t == MLXR_F16 ? "float16" : t == MLXR_BF16 ? "bfloat16" : "float32";
}

static bool set_dtype_words(json_t *config, mlxr_dtype dtype)
{
    static const char *const keys[] = {"torch_dtype", "dtype"};
    bool ok = true;

    for (size_t i = 0; i < MLXR_COUNT(keys); i++) {
        if (json_is_string(json_object_get(config, keys[i])))
            ok &= json_object_set_new(config, keys[i], json_string(dtype_word(dtype))) == 0;
    }
    return ok;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The keys in the order of their names, as mlx-lm writes them; what lies within stays in its own. */
static json_t *sorted(json_t *config)
{
    const char **keys = mlxr_malloc_array(json_object_size(config), sizeof *keys), *key;
    json_t *out = json_object(), *value;
    size_t n = 0;

    if (!keys || !out) {
        json_decref(out);
        out = NULL;
        goto done;
    }
    json_object_foreach(config, key, value) keys[n++] = key;
    if (n) qsort(keys, n, sizeof *keys, by_name);
    for (size_t i = 0; i < n && out; i++) {
        if (json_object_set(out, keys[i], json_object_get(config, keys[i])) == 0) continue;
        json_decref(out);
        out = NULL;
    }
done:
    free(keys);
    json_decref(config);
    return out;
}

json_t *mlxr_plan_config(const mlxr_plan *plan, const mlxr_convert_options *options)
{
    /* What is written has neither those towers nor that quantization any more. */
    static const char *const gone[] = {"_name_or_path", "vision_config", "quantization",
                                       "quantization_config"};
    json_t *config = json_deep_copy(mlxr_model_config(plan->model)), *text;
    bool ok = config != NULL;

    if (!config) return NULL;
    for (size_t i = 0; i < MLXR_COUNT(gone); i++) (void)json_object_del(config, gone[i]);
    text = json_object_get(config, "text_config");
    if (text) (void)json_object_del(text, "quantization_config");
    if (options->dtype != MLXR_DTYPE_COUNT) {
        ok &= set_dtype_words(config, options->dtype);
        if (json_is_object(text)) ok &= set_dtype_words(text, options->dtype);
    }
    if (plan->base.mode != MLXR_QUANT_NONE) {
        json_t *q = quantization_json(plan);
        ok &= q && json_object_set_new(config, "quantization", q) == 0 &&
              json_object_set(config, "quantization_config", q) == 0;
    }
    if (ok) return sorted(config);
    json_decref(config);
    return NULL;
}
