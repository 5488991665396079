/* Rotary embeddings: the inverse frequencies that config.json asks for (RoFormer, arXiv 2104.09864).
 *
 * Follows mlx-lm's rope_utils.py and mlx's rope in float32, step by step, because position * inv_freq turns
 * the last bit of inv_freq into a visible angle at far positions. Kinds: default, linear (positions divided by a
 * factor), llama3 (low frequencies divided by it, high ones kept, a ramp between: Llama 3.1). */
#include <math.h>

#include "model/model.h"

#define SUPPORTED "default, linear, llama3"

/* The object with the scaling's fields, or NULL: "rope_scaling", or "rope_parameters" as newer files call it. */
static mlxr_status scaling_of(const json_t **out, const mlxr_config *config, mlxr_error *err)
{
    static const char *const keys[] = {"rope_scaling", "rope_parameters"};

    *out = NULL;
    for (size_t i = 0; i < MLXR_COUNT(keys) && !*out; i++) {
        const json_t *v = json_object_get(config->root, keys[i]);
        if (!v || json_is_null(v)) continue;
        if (!json_is_object(v))
            return mlxr_fail(err, MLXR_E_FORMAT, "%s: \"%s\" is not an object", config->what, keys[i]);
        if (json_object_get(v, "full_attention") || json_object_get(v, "sliding_attention"))
            return mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s: \"%s\" for each layer type is not supported",
                             config->what, keys[i]);
        *out = v;
    }
    return MLXR_OK;
}

static mlxr_status theta_of(double *theta, const mlxr_config *config, mlxr_error *err)
{
    const json_t *parameters = json_object_get(config->root, "rope_parameters");
    const double max = 1e12;
    mlxr_status st;

    *theta = 10000;
    if (json_is_object(parameters)) {
        st = mlxr_json_get_real(theta, parameters, "rope_theta", 1, max, config->what, err);
        if (st != MLXR_OK) return st;
    }
    return mlxr_json_get_real(theta, config->root, "rope_theta", 1, max, config->what, err);
}

static void default_frequencies(float *inv_freq, size_t n_rot, double theta)
{
    size_t half = n_rot / 2;
    float step = logf((float)theta) / (float)half;

    for (size_t i = 0; i < half; i++) inv_freq[i] = expf(-(float)i * step);
}

static mlxr_status read_factor(double *factor, const json_t *scaling, const mlxr_config *config,
                               mlxr_error *err)
{
    mlxr_status st;

    *factor = NAN;
    st = mlxr_json_get_real(factor, scaling, "factor", 1e-3, 1e6, config->what, err);
    if (st == MLXR_OK && isnan(*factor))
        st = mlxr_fail(err, MLXR_E_FORMAT, "%s: the rope scaling has no \"factor\"", config->what);
    return st;
}

static mlxr_status llama3_frequencies(float *inv_freq, size_t n_rot, double theta, const json_t *scaling,
                                      const mlxr_config *config, mlxr_error *err)
{
    double factor, low = 1, high = 4, old_context = 8192;
    float low_wavelength, high_wavelength;
    mlxr_status st;

    if ((st = read_factor(&factor, scaling, config, err)) != MLXR_OK) return st;
    st = mlxr_json_get_real(&low, scaling, "low_freq_factor", 1e-3, 1e6, config->what, err);
    if (st != MLXR_OK) return st;
    st = mlxr_json_get_real(&high, scaling, "high_freq_factor", 1e-3, 1e6, config->what, err);
    if (st != MLXR_OK) return st;
    st = mlxr_json_get_real(&old_context, scaling, "original_max_position_embeddings", 1, 1e9, config->what,
                            err);
    if (st != MLXR_OK) return st;
    if (!(high > low))
        return mlxr_fail(err, MLXR_E_FORMAT,
                         "%s: \"high_freq_factor\" is %g, wanted more than low_freq_factor (%g)",
                         config->what, high, low);

    low_wavelength = (float)(old_context / low);
    high_wavelength = (float)(old_context / high);
    for (size_t i = 0; i < n_rot / 2; i++) {
        float freq = powf((float)theta,
                          (float)(2 * i) / (float)n_rot); /* radians^-1: the wavelength over 2 pi */
        float wavelength = (float)(2 * M_PI) * freq;
        float smooth = ((float)old_context / wavelength - (float)low) / (float)(high - low);
        if (wavelength > low_wavelength)
            freq *= (float)factor;
        else if (wavelength > high_wavelength && wavelength < low_wavelength)
            freq /= (1 - smooth) / (float)factor + smooth;
        inv_freq[i] = 1.0f / freq;
    }
    return MLXR_OK;
}

mlxr_status mlxr_rope_frequencies(float *inv_freq, size_t n_rot, float *scale, const mlxr_config *config,
                                  mlxr_error *err)
{
    const json_t *scaling;
    const char *kind = NULL;
    double theta, factor;
    mlxr_status st;

    *scale = 1;
    if ((st = scaling_of(&scaling, config, err)) != MLXR_OK) return st;
    if ((st = theta_of(&theta, config, err)) != MLXR_OK) return st;
    if (scaling) {
        st = mlxr_json_get_str(&kind, scaling, "rope_type", config->what, err);
        if (st != MLXR_OK) return st;
        st = mlxr_json_get_str(&kind, scaling, "type", config->what, err);
        if (st != MLXR_OK) return st;
    }
    if (!kind || strcmp(kind, "default") == 0) {
        default_frequencies(inv_freq, n_rot, theta);
        return MLXR_OK;
    }
    if (strcmp(kind, "llama3") == 0) return llama3_frequencies(inv_freq, n_rot, theta, scaling, config, err);
    if (strcmp(kind, "linear") != 0)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                         "%s: rope scaling \"%.64s\" is not supported; supported: " SUPPORTED, config->what,
                         kind);
    if ((st = read_factor(&factor, scaling, config, err)) != MLXR_OK) return st;
    default_frequencies(inv_freq, n_rot, theta);
    for (size_t i = 0; i < n_rot / 2; i++) inv_freq[i] *= (float)(1 / factor);
    return MLXR_OK;
}
