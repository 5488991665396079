/* Rotary embeddings (RoFormer, arXiv 2104.09864): from config.json to the numbers that ROPE operations are made of.
 *
 * The pair i of a head, 0 <= i < n_rot / 2, turns by the angle position * inv_freq[i]; n_rot is what of a head is
 * rotated. The kinds are those of initialize_rope in mlx-lm's rope_utils.py, as its "type" or else "rope_type" names
 * them (absent, null or an empty string: default). b is theta^(2i / n_rot), the period over 2 pi:
 *
 *     default              inv_freq = 1 / b
 *     linear               1 / (b * factor)
 *     dynamic              default below the context, from there on a larger theta at each position
 *     llama3               1 / b for short waves, 1 / (b * factor) for long ones, a ramp between (Llama 3.1)
 *     yarn, deepseek_yarn, telechat3-yarn
 *                          the same with a ramp over i from beta_fast to beta_slow turns in the original context
 *                          (arXiv 2309.00071); scale is mscale. "truncate" and "attention_factor" count for
 *                          nothing, as in mlx-lm
 *     longrope, su         1 / (b * long_factor[i]) at every position, also below the original context, as mlx-lm
 *                          does (arXiv 2402.13753); scale is sqrt(1 + ln(max / original) / ln(original)). short_factor,
 *                          short_mscale and long_mscale count for nothing
 *     proportional         1 / (b * factor) for the first partial_rotary_factor of the pairs, 0 for the others: they
 *                          stay as they are, yet count in n_rot and in the exponent (Gemma 4)
 *     mrope                default: text has the same position in all three of mrope_section
 *
 * All is computed in float32 by mlx-lm's steps, because position * inv_freq turns the last bit of inv_freq into a
 * visible angle at far positions. Kinds whose periods mlx-lm works out itself (llama3, yarn, longrope, proportional)
 * have its bits, given the same powf. The others are made inside mlx::fast::rope, by each of its backends in another
 * way; here it is the CPU's formula, exp(-i * ln(theta) / half), with libm's expf: within 1e-6 of inv_freq and 3e-8 of 1
 * from mlx's own exp. linear has its factor in inv_freq, where mlx multiplies the position: the angle's last bit. */
#ifndef MLXR_ROPE_H
#define MLXR_ROPE_H

#include "base/json.h"

/* A rotary embedding with all its numbers: what ROPE operations are made from. init to {0}. */
typedef struct mlxr_rope {
    size_t n_rot;    /* first values of a head that are rotated; even */
    float *inv_freq; /* [n_rot / 2], finite; owned. 0 (proportional): no rotation there */
    float scale;     /* multiplies the rotated part (mscale of yarn and longrope), usually 1 */
    /* Dynamic NTK; context 0: not dynamic. From position dynamic_context on a position has frequencies of its own:
     * mlxr_rope_frequencies_at. inv_freq holds those of all positions before. */
    float dynamic_theta, dynamic_factor;
    size_t dynamic_context;
} mlxr_rope;

/* What config.json gave, in the words of initialize_rope. Borrowed for the call. */
typedef struct mlxr_rope_source {
    size_t dims;                     /* head_dim, or its rotated part; even */
    double theta;                    /* 1 to 1e12; more than 1 for yarn */
    const json_t *scaling;           /* "rope_scaling" / "rope_parameters", or NULL: default */
    int64_t max_position_embeddings; /* dynamic and longrope need it; 0: not known */
    /* longrope: where config.json has it beside the scaling object (phi3), which then has no say in it.
     * 0: as the scaling object says. */
    int64_t original_max_position_embeddings;
} mlxr_rope_source;

/* what: how messages call the config. An unknown kind is MLXR_E_UNSUPPORTED and lists the known ones; a number that is
 * missing, of a wrong type or out of bounds is MLXR_E_FORMAT and named. On failure *out is {0}. */
mlxr_status mlxr_rope_init(mlxr_rope *out, const mlxr_rope_source *src, const char *what, mlxr_error *err);
void mlxr_rope_clear(mlxr_rope *r); /* frees */

/* Dynamic NTK's frequencies of one position, inv_freq [n_rot / 2], n_rot more than 2: default ones with
 *
 *     theta * (factor * (position + 1) / context - (factor - 1)) ^ (n_rot / (n_rot - 2))
 *
 * from context on, with theta before. The arguments are the fields of mlxr_rope. mlx-lm takes the length of all it has
 * seen after a pass for position + 1, at every position of the pass: one token at a time, as it decodes, is the same;
 * a prompt longer than context that is fed at once is not. Here the size of a chunk changes nothing. */
void mlxr_rope_frequencies_at(float *inv_freq, size_t n_rot, float dynamic_theta, float dynamic_factor,
                              size_t dynamic_context, size_t position);

/* *out: the scaling's object in config, "rope_scaling" or else "rope_parameters"; NULL when there is neither. Borrowed.
 * When that object has objects by layer type inside ("full_attention", "sliding_attention"), it is the one of
 * layer_type; NULL for layer_type is then MLXR_E_UNSUPPORTED. */
mlxr_status mlxr_rope_scaling_of(const json_t **out, const json_t *config, const char *layer_type,
                                 const char *what, mlxr_error *err);
/* *theta, the family's default before the call: "rope_theta" of config itself, or else of its "rope_parameters". When
 * scaling is one layer type's object, as mlxr_rope_scaling_of gave it, its own "rope_theta" comes before both. */
mlxr_status mlxr_rope_theta_of(double *theta, const json_t *config, const json_t *scaling, const char *what,
                               mlxr_error *err);

#endif
