/* Activations as integers. */
#include <math.h>

#include "device/cpu/ints.h"

static size_t place(mlxr_ints_order order, size_t k)
{
    size_t unit = k / MLXR_INTS_UNIT, in = k % MLXR_INTS_UNIT;

    if (order == MLXR_INTS_NIBBLES) return unit * MLXR_INTS_UNIT + in % 4 * 32 + in / 4;
    return unit * MLXR_INTS_UNIT + in / 8 % 4 * 32 + in / 32 * 8 + in % 8;
}

void mlxr_ints_from_floats(const mlxr_ints *out, const float *x, size_t n_cols, unsigned group,
                           mlxr_ints_order order)
{
    size_t n_groups = n_cols / group, n_padded = mlxr_ints_groups(n_cols, group);

    for (size_t g = 0; g < n_padded; g++) {
        const float *v = x + g * group;
        float max = 0, scale, inverse;
        int32_t total = 0;

        for (size_t i = 0; i < group && g < n_groups; i++)
            if (!isnan(max) && !(fabsf(v[i]) <= max)) max = fabsf(v[i]);
        scale = mlxr_ints_scale(max);
        inverse = mlxr_ints_inverse(scale);
        for (size_t i = 0; i < group; i++) {
            float q = g < n_groups ? v[i] * inverse : 0;
            int16_t n = (int16_t)(q > -32768 && q < 32768 ? lrintf(q) : 0);
            out->x[place(order, g * group + i)] = n;
            total += n;
        }
        for (size_t r = 0; r < 4; r++) {
            out->scales[g * 4 + r] = scale;
            out->sums[g * 4 + r] = scale * (float)total;
        }
    }
}
