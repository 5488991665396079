/* How keys and values are rounded when a device keeps them in fewer bits than it computes with. The one place that
 * says so: `ref` rounds by these functions and keeps floats, `cpu` stores what they give.
 *
 * f16: nearest, ties to even; beyond 65504, infinities included, +-65504; NaN stays NaN.
 * int8: the K (or V) of one head at one position has a scale, its largest size / 127; codes -127 .. 127, nearest,
 *   ties to even. A scale below FLT_MIN is 0, and so is all of it. A value that is not finite makes the scale NaN,
 *   and so all of it. */
#ifndef MLXR_KV_H
#define MLXR_KV_H

#include <float.h>
#include <math.h>

#include "base/base.h"

#define MLXR_KV_F16_MOST 65504.0f

static inline uint16_t mlxr_kv_to_f16(float x)
{
    return mlxr_f32_to_f16(x > MLXR_KV_F16_MOST    ? MLXR_KV_F16_MOST
                           : x < -MLXR_KV_F16_MOST ? -MLXR_KV_F16_MOST
                                                   : x);
}

static inline float mlxr_kv_int8_scale(const float *x, size_t n)
{
    float most = 0;

    for (size_t i = 0; i < n; i++) {
        float size = fabsf(x[i]);
        if (!(size <= FLT_MAX)) return NAN;
        most = size > most ? size : most;
    }
    return most / 127 < FLT_MIN ? 0 : most / 127;
}

/* What values are multiplied by on the way to codes. */
static inline float mlxr_kv_int8_inverse(float scale)
{
    return scale > 0 ? 1 / scale : 0;
}

/* Adding 1.5 * 2^23 rounds to an integer, ties to even. */
static inline int8_t mlxr_kv_to_int8(float x, float inverse)
{
    float code = inverse == 0 ? 0 : x * inverse;

    code = code > 127 ? 127 : code < -127 ? -127 : code;
    return (int8_t)(code + 12582912.0f - 12582912.0f);
}

#endif
