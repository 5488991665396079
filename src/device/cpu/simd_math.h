/* Functions of vectors made of the primitives, for every instruction set. Included after a simd header. */
#ifndef MLXR_CPU_SIMD_MATH_H
#define MLXR_CPU_SIMD_MATH_H

/* Near 0 a polynomial, x + x^3 P(x^2), else 1 - 2 / (exp(2 |x|) + 1) with the sign of x. P is a Chebyshev fit of
 * degree 4 on [0, 0.625]; the whole is within 2e-7 of tanh, relatively. */
INLINE vf v_tanh(vf x)
{
    vf size = v_max(x, -x), u = x * x, p, far;

    p = v_set1(-0.00610434767f);
    p = v_fma(p, u, v_set1(0.0210031135f));
    p = v_fma(p, u, v_set1(-0.0538523428f));
    p = v_fma(p, u, v_set1(0.133327806f));
    p = v_fma(p, u, v_set1(-0.333333291f));
    far = v_set1(1.0f) - v_set1(2.0f) / (v_exp(size + size) + v_set1(1.0f));
    far = v_if_less(x, v_set1(0.0f), -far, far);
    return v_if_less(size, v_set1(0.625f), v_fma(p * u, x, x), far);
}

/* The normal distribution: erfc(z) / 2 below 0 and 1 - erfc(z) / 2 above, z = |x| / sqrt 2. erfc(z) is exp(-z^2) times
 * a polynomial in 1 / (1 + z / 2), a Chebyshev fit of degree 7 for z up to 6.5, where exp(-z^2) ends it. Within 2e-6 of
 * it, relatively, for |x| < 4, where z^2 rounds; 1e-7 absolutely. */
INLINE vf v_normal(vf x)
{
    vf z = v_max(x, -x) * v_set1(0.707106781f), t = v_set1(1.0f) / v_fma(z, v_set1(0.5f), v_set1(1.0f)), p;

    p = v_set1(0.0884682031f);
    p = v_fma(p, t, v_set1(-0.353024194f));
    p = v_fma(p, t, v_set1(0.374195807f));
    p = v_fma(p, t, v_set1(0.0599121081f));
    p = v_fma(p, t, v_set1(0.265433905f));
    p = v_fma(p, t, v_set1(0.283802926f));
    p = v_fma(p, t, v_set1(0.281118206f));
    p = v_fma(p, t, v_set1(9.31976648e-05f));
    p = p * v_exp(-(z * z)) * v_set1(0.5f);
    return v_if_less(x, v_set1(0.0f), p, v_set1(1.0f) - p);
}

/* a * b once a is activated; SWIGLU_OAI is a function of both. The caller's switch makes act a constant. */
INLINE vf v_gated(mlxr_act act, vf a, vf b, float alpha, float limit)
{
    switch (act) {
    case MLXR_ACT_NONE: break;
    case MLXR_ACT_SILU: return a / (v_set1(1.0f) + v_exp(-a)) * b;
    case MLXR_ACT_GELU: return a * v_normal(a) * b;
    case MLXR_ACT_GELU_TANH: {
        /* (1 + tanh(y)) / 2 = 1 / (1 + exp(-2 y)), y = sqrt(2 / pi) (a + 0.044715 a^3) */
        vf y = v_fma(a * a * a, v_set1(0.044715f), a) * v_set1(-2 * 0.797884561f);
        return a / (v_set1(1.0f) + v_exp(y)) * b;
    }
    case MLXR_ACT_SIGMOID: return v_set1(1.0f) / (v_set1(1.0f) + v_exp(-a)) * b;
    case MLXR_ACT_SWIGLU_OAI:
        a = v_min(v_set1(limit), a);
        b = v_max(v_set1(-limit), v_min(v_set1(limit), b));
        return a / (v_set1(1.0f) + v_exp(a * v_set1(-alpha))) * (b + v_set1(1.0f));
    }
    return a * b;
}

#endif
