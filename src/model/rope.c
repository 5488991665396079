/* Rotary embeddings: see rope.h. The steps are those of mlx-lm's rope_utils.py: what is a Python number there is a
 * double here and becomes a float where it meets an array. */
#include "model/rope.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

typedef enum rope_kind { DEFAULT, LINEAR, DYNAMIC, LLAMA3, YARN, LONGROPE, PROPORTIONAL, MROPE } rope_kind;

static const struct {
    const char *name;
    rope_kind kind;
} kinds[] = {
    {"default", DEFAULT},     {"linear", LINEAR},
    {"dynamic", DYNAMIC},     {"llama3", LLAMA3},
    {"yarn", YARN},           {"deepseek_yarn", YARN},
    {"telechat3-yarn", YARN}, {"longrope", LONGROPE},
    {"su", LONGROPE},         {"proportional", PROPORTIONAL},
    {"mrope", MROPE},
};

/* Bounds that no real model comes near. With them no product below leaves float32. */
#define MAX_DIMS    ((size_t)1 << 20)
#define MAX_THETA   1e12
#define MIN_FACTOR  1e-3
#define MAX_FACTOR  1e6
#define MAX_CONTEXT ((int64_t)1 << 40)

/* One reading of a scaling object. */
typedef struct reader {
    const mlxr_rope_source *src;
    const char *what;
    mlxr_error *err;
} reader;

/* ---- config.json ---- */

/* No kind has an object among its fields, so one inside can only be a layer type's. */
static bool is_by_layer_type(const json_t *scaling)
{
    for (void *it = json_object_iter((json_t *)scaling); it;
         it = json_object_iter_next((json_t *)scaling, it))
        if (json_is_object(json_object_iter_value(it))) return true;
    return json_object_get(scaling, "full_attention") || json_object_get(scaling, "sliding_attention");
}

mlxr_status mlxr_rope_scaling_of(const json_t **out, const json_t *config, const char *layer_type,
                                 const char *what, mlxr_error *err)
{
    static const char *const keys[] = {"rope_scaling", "rope_parameters"};
    const json_t *all = NULL, *one = NULL;
    const char *key = NULL;

    *out = NULL;
    for (size_t i = 0; i < MLXR_COUNT(keys) && !all; i++) {
        const json_t *v = json_object_get(config, keys[i]);
        if (!v || json_is_null(v)) continue;
        if (!json_is_object(v))
            return mlxr_fail(err, MLXR_E_FORMAT, "%s: \"%s\" is not an object", what, keys[i]);
        all = v;
        key = keys[i];
    }
    if (!all) return MLXR_OK;
    *out = all;
    if (!is_by_layer_type(all)) return MLXR_OK;

    *out = NULL;
    if (!layer_type)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                         "%s: \"%s\" for each layer type is not supported, wanted one for all layers", what,
                         key);
    one = json_object_get(all, layer_type);
    if (!one)
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: \"%s\" has no \"%s\", but has other layer types", what, key,
                         layer_type);
    if (!json_is_object(one))
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: \"%s\": \"%s\" is not an object", what, key, layer_type);
    *out = one;
    return MLXR_OK;
}

mlxr_status mlxr_rope_theta_of(double *theta, const json_t *config, const json_t *scaling, const char *what,
                               mlxr_error *err)
{
    const json_t *rope_scaling = json_object_get(config, "rope_scaling");
    const json_t *parameters = json_object_get(config, "rope_parameters");
    mlxr_status st = MLXR_OK;

    if (json_is_object(parameters))
        st = mlxr_json_get_real(theta, parameters, "rope_theta", 1, MAX_THETA, what, err);
    if (st == MLXR_OK) st = mlxr_json_get_real(theta, config, "rope_theta", 1, MAX_THETA, what, err);
    if (st == MLXR_OK && scaling && scaling != rope_scaling && scaling != parameters) /* one layer type's */
        st = mlxr_json_get_real(theta, scaling, "rope_theta", 1, MAX_THETA, what, err);
    return st;
}

static mlxr_status kind_of(const reader *r, rope_kind *kind)
{
    const char *name = NULL, *type = NULL;
    mlxr_buf known = {0};
    mlxr_status st;

    *kind = DEFAULT;
    if (!r->src->scaling) return MLXR_OK;
    st = mlxr_json_get_str(&name, r->src->scaling, "rope_type", r->what, r->err);
    if (st != MLXR_OK) return st;
    st = mlxr_json_get_str(&type, r->src->scaling, "type", r->what, r->err);
    if (st != MLXR_OK) return st;
    if (type && *type) name = type;
    if (!name || !*name) return MLXR_OK;
    for (size_t i = 0; i < MLXR_COUNT(kinds); i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            *kind = kinds[i].kind;
            return MLXR_OK;
        }
    }
    for (size_t i = 0; i < MLXR_COUNT(kinds); i++)
        mlxr_buf_printf(&known, "%s%s", i ? ", " : "", kinds[i].name);
    st = mlxr_buf_check(&known, r->what, r->err);
    if (st == MLXR_OK)
        st = mlxr_fail(r->err, MLXR_E_UNSUPPORTED,
                       "%s: rope scaling \"%.64s\" is not supported; supported: %s", r->what, name,
                       known.data);
    mlxr_buf_clear(&known);
    return st;
}

/* A number of the scaling object, from min to max; *out is the default before, NAN: required. */
static mlxr_status get_real(const reader *r, double *out, const char *key, double min, double max)
{
    mlxr_status st = mlxr_json_get_real(out, r->src->scaling, key, min, max, r->what, r->err);

    if (st == MLXR_OK && isnan(*out))
        st = mlxr_fail(r->err, MLXR_E_FORMAT, "%s: the rope scaling has no \"%s\"", r->what, key);
    return st;
}

/* A list of n of the scaling object; what_for ends the message about another length. */
static mlxr_status get_list(const reader *r, const json_t **out, const char *key, size_t n,
                            const char *what_for)
{
    const json_t *list = json_object_get(r->src->scaling, key);

    *out = list;
    if (!list || json_is_null(list))
        return mlxr_fail(r->err, MLXR_E_FORMAT, "%s: the rope scaling has no \"%s\"", r->what, key);
    if (!json_is_array(list))
        return mlxr_fail(r->err, MLXR_E_FORMAT, "%s: \"%s\" is not a list of %zu numbers, %s", r->what, key,
                         n, what_for);
    if (json_array_size(list) != n)
        return mlxr_fail(r->err, MLXR_E_FORMAT, "%s: \"%s\" is a list of %zu, wanted %zu numbers, %s",
                         r->what, key, json_array_size(list), n, what_for);
    return MLXR_OK;
}

static mlxr_status get_factor(const reader *r, double *factor)
{
    *factor = NAN;
    return get_real(r, factor, "factor", MIN_FACTOR, MAX_FACTOR);
}

static mlxr_status check_max_positions(const reader *r, const char *kind)
{
    int64_t n = r->src->max_position_embeddings;

    if (n < 1 || n > MAX_CONTEXT)
        return mlxr_fail(r->err, MLXR_E_FORMAT,
                         "%s: \"max_position_embeddings\" is %lld, rope scaling \"%s\" wants 1 to %lld",
                         r->what, (long long)n, kind, (long long)MAX_CONTEXT);
    return MLXR_OK;
}

/* ---- frequencies ---- */

static void default_frequencies(float *inv_freq, size_t n_rot, float theta)
{
    size_t half = n_rot / 2;
    float step = logf(theta) / (float)half;

    for (size_t i = 0; i < half; i++) inv_freq[i] = expf(-(float)i * step);
}

/* theta^(2i / dims): a wave's length over 2 pi. */
static float period(const mlxr_rope_source *src, size_t i)
{
    return powf((float)src->theta, (float)(2 * i) / (float)src->dims);
}

/* Positions are divided by factor. */
static mlxr_status init_linear(mlxr_rope *out, const reader *r)
{
    double factor;
    mlxr_status st = get_factor(r, &factor);

    if (st != MLXR_OK) return st;
    default_frequencies(out->inv_freq, out->n_rot, (float)r->src->theta);
    for (size_t i = 0; i < out->n_rot / 2; i++) out->inv_freq[i] *= (float)(1 / factor);
    return MLXR_OK;
}

void mlxr_rope_frequencies_at(float *inv_freq, size_t n_rot, float dynamic_theta, float dynamic_factor,
                              size_t dynamic_context, size_t position)
{
    double theta = dynamic_theta, factor = dynamic_factor, dims = (double)n_rot;

    if (dynamic_context > 0 && position >= dynamic_context)
        theta *= pow(factor * ((double)position + 1) / (double)dynamic_context - (factor - 1),
                     dims / (dims - 2));
    default_frequencies(inv_freq, n_rot, (float)fmin(theta, FLT_MAX));
}

static mlxr_status init_dynamic(mlxr_rope *out, const reader *r)
{
    double factor;
    mlxr_status st;

    if (out->n_rot <= 2)
        return mlxr_fail(r->err, MLXR_E_FORMAT,
                         "%s: rope scaling \"dynamic\" of %zu rotated values, wanted more than 2", r->what,
                         out->n_rot);
    if ((st = get_factor(r, &factor)) != MLXR_OK) return st;
    if ((st = check_max_positions(r, "dynamic")) != MLXR_OK) return st;
    out->dynamic_theta = (float)r->src->theta;
    out->dynamic_factor = (float)factor;
    out->dynamic_context = (size_t)r->src->max_position_embeddings;
    default_frequencies(out->inv_freq, out->n_rot, out->dynamic_theta);
    return MLXR_OK;
}

static mlxr_status init_llama3(mlxr_rope *out, const reader *r)
{
    double factor, low = 1, high = 4, context = 8192;
    mlxr_status st;

    if ((st = get_factor(r, &factor)) != MLXR_OK ||
        (st = get_real(r, &low, "low_freq_factor", 1e-3, 1e6)) != MLXR_OK ||
        (st = get_real(r, &high, "high_freq_factor", 1e-3, 1e6)) != MLXR_OK ||
        (st = get_real(r, &context, "original_max_position_embeddings", 1, (double)MAX_CONTEXT)) != MLXR_OK)
        return st;
    if (!(high > low))
        return mlxr_fail(r->err, MLXR_E_FORMAT,
                         "%s: \"high_freq_factor\" is %g, wanted more than low_freq_factor (%g)", r->what,
                         high, low);

    for (size_t i = 0; i < out->n_rot / 2; i++) {
        float freq = period(r->src, i), wavelength = (float)(2 * M_PI) * freq;
        float smooth = ((float)context / wavelength - (float)low) / (float)(high - low);
        if (wavelength > (float)(context / low))
            freq *= (float)factor;
        else if (wavelength > (float)(context / high) && wavelength < (float)(context / low))
            freq /= (1 - smooth) / (float)factor + smooth;
        out->inv_freq[i] = 1 / freq;
    }
    return MLXR_OK;
}

static double yarn_mscale(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

/* The pair, as a real number, whose wave makes n_turns in the original context. */
static double yarn_pair(const mlxr_rope_source *src, double context, double n_turns)
{
    return (double)src->dims * log(context / (n_turns * 2 * M_PI)) / (2 * log(src->theta));
}

static mlxr_status init_yarn(mlxr_rope *out, const reader *r)
{
    double factor, context = 4096, beta_fast = 32, beta_slow = 1, mscale = 1, mscale_all_dim = 0, low, high;
    mlxr_status st;

    if ((st = get_factor(r, &factor)) != MLXR_OK ||
        (st = get_real(r, &context, "original_max_position_embeddings", 1, (double)MAX_CONTEXT)) != MLXR_OK ||
        (st = get_real(r, &beta_fast, "beta_fast", 1e-3, 1e6)) != MLXR_OK ||
        (st = get_real(r, &beta_slow, "beta_slow", 1e-3, 1e6)) != MLXR_OK ||
        (st = get_real(r, &mscale, "mscale", 0, 1e3)) != MLXR_OK ||
        (st = get_real(r, &mscale_all_dim, "mscale_all_dim", 0, 1e3)) != MLXR_OK)
        return st;
    if (!(r->src->theta > 1))
        return mlxr_fail(r->err, MLXR_E_FORMAT,
                         "%s: \"rope_theta\" is %g, rope scaling \"yarn\" wants more than 1", r->what,
                         r->src->theta);

    out->scale = (float)(yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all_dim));
    low = fmax(floor(yarn_pair(r->src, context, beta_fast)), 0);
    high = fmin(ceil(yarn_pair(r->src, context, beta_slow)), (double)out->n_rot - 1);
    if (low == high) high += 0.001; /* a ramp needs a width; this one is mlx-lm's */
    for (size_t i = 0; i < out->n_rot / 2; i++) {
        float extra = period(r->src, i), inter = (float)factor * extra;
        float ramp = ((float)i - (float)low) / (float)(high - low);
        float mask = 1 - fminf(fmaxf(ramp, 0), 1);
        out->inv_freq[i] = 1 / ((inter * extra) / (inter * mask + extra * (1 - mask)));
    }
    return MLXR_OK;
}

static mlxr_status init_longrope(mlxr_rope *out, const reader *r)
{
    const json_t *list;
    double max = (double)r->src->max_position_embeddings, original = NAN;
    int64_t beside = r->src->original_max_position_embeddings;
    mlxr_status st;

    if ((st = check_max_positions(r, "longrope")) != MLXR_OK) return st;
    if (beside) {
        if (beside < 2 || beside > MAX_CONTEXT)
            return mlxr_fail(r->err, MLXR_E_FORMAT,
                             "%s: \"original_max_position_embeddings\" is %lld, wanted 2 to %lld", r->what,
                             (long long)beside, (long long)MAX_CONTEXT);
        original = (double)beside;
    } else {
        st = get_real(r, &original, "original_max_position_embeddings", 2, (double)MAX_CONTEXT);
        if (st != MLXR_OK) return st;
    }
    if ((st = get_list(r, &list, "long_factor", out->n_rot / 2, "one for each rotated pair")) != MLXR_OK)
        return st;

    if (max > original) out->scale = (float)sqrt(1 + log(max / original) / log(original));
    for (size_t i = 0; i < out->n_rot / 2; i++) {
        const json_t *v = json_array_get(list, i);
        double factor = json_number_value(v);
        if (!json_is_number(v))
            return mlxr_fail(r->err, MLXR_E_FORMAT, "%s: \"long_factor\"[%zu] is not a number", r->what, i);
        if (!(factor >= MIN_FACTOR && factor <= MAX_FACTOR))
            return mlxr_fail(r->err, MLXR_E_FORMAT, "%s: \"long_factor\"[%zu] is %g, wanted %g to %g",
                             r->what, i, factor, MIN_FACTOR, MAX_FACTOR);
        out->inv_freq[i] = 1 / ((float)factor * period(r->src, i));
    }
    return MLXR_OK;
}

static mlxr_status init_proportional(mlxr_rope *out, const reader *r)
{
    double factor = 1, partial = 1;
    size_t n_turning;
    mlxr_status st;

    if ((st = get_real(r, &factor, "factor", MIN_FACTOR, MAX_FACTOR)) != MLXR_OK ||
        (st = get_real(r, &partial, "partial_rotary_factor", 0, 1)) != MLXR_OK)
        return st;
    n_turning = ((size_t)((double)out->n_rot * partial) + 1) / 2;
    for (size_t i = 0; i < n_turning; i++) out->inv_freq[i] = 1 / ((float)factor * period(r->src, i));
    return MLXR_OK;
}

static mlxr_status init_mrope(mlxr_rope *out, const reader *r)
{
    const json_t *sections;
    mlxr_status st = get_list(r, &sections, "mrope_section", 3, "for time, height and width");

    if (st != MLXR_OK) return st;
    default_frequencies(out->inv_freq, out->n_rot, (float)r->src->theta);
    return MLXR_OK;
}

mlxr_status mlxr_rope_init(mlxr_rope *out, const mlxr_rope_source *src, const char *what, mlxr_error *err)
{
    const reader r = {src, what, err};
    rope_kind kind;
    mlxr_status st;

    *out = (mlxr_rope){0};
    if ((st = kind_of(&r, &kind)) != MLXR_OK) return st;
    if (src->dims == 0 || src->dims % 2 || src->dims > MAX_DIMS)
        return mlxr_fail(err, MLXR_E_FORMAT,
                         "%s: %zu values of a head are rotated, wanted an even number up to %zu", what,
                         src->dims, MAX_DIMS);
    if (!(src->theta >= 1 && src->theta <= MAX_THETA))
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: \"rope_theta\" is %g, wanted 1 to %g", what, src->theta,
                         MAX_THETA);
    out->n_rot = src->dims;
    out->scale = 1;
    out->inv_freq = mlxr_calloc_array(src->dims / 2, sizeof *out->inv_freq);
    if (!out->inv_freq) {
        st = mlxr_fail_nomem(err, what);
        goto done;
    }
    switch (kind) {
    case DEFAULT: default_frequencies(out->inv_freq, out->n_rot, (float)src->theta); break;
    case LINEAR: st = init_linear(out, &r); break;
    case DYNAMIC: st = init_dynamic(out, &r); break;
    case LLAMA3: st = init_llama3(out, &r); break;
    case YARN: st = init_yarn(out, &r); break;
    case LONGROPE: st = init_longrope(out, &r); break;
    case PROPORTIONAL: st = init_proportional(out, &r); break;
    case MROPE: st = init_mrope(out, &r); break;
    }
done:
    if (st != MLXR_OK) mlxr_rope_clear(out);
    return st;
}

void mlxr_rope_clear(mlxr_rope *r)
{
    if (!r) return;
    free(r->inv_freq);
    *r = (mlxr_rope){0};
}
