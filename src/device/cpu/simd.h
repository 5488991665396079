/* What the bodies of the kernels share: names, unrolling, and the vector primitives of the instruction set that the
 * including file was compiled for. MLXR_SIMD names it: base, avx2, avx512 or neon.
 *
 * A primitive header gives: V_W lanes; vf, a vector of floats; v_book, what unpacking needs of a group;
 * v_load, v_store, v_load_n, v_store_n (the first n lanes, the rest 0 or left), v_set1, v_fma (a * b + c), v_max,
 * v_min, v_if_less (yes where a < b, no elsewhere), v_reduce_add, v_reduce_max, v_reduce4 (four sums, lanes added as
 * one tree), v_exp, v_book_make, v_unpack, v_unpack_e2m1, v_unpack_e4m3, v_from_f16, v_to_f16, v_from_i8, v_from_bf16, v_from_e8m0,
 * v_from_e4m3. Sums and products use the vector types' operators. */
#ifndef MLXR_CPU_SIMD_H
#define MLXR_CPU_SIMD_H

#include <math.h>

#include "device/cpu/kernels.h"

#define INLINE static inline __attribute__((always_inline))
#if defined(MLXR_NO_UNROLL) /* sanitizer builds: unrolled, each kernel's checks take minutes to compile */
#define UNROLL
#elif defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

/* exp(x) = 2^n * exp(r), r = x - n ln 2 in [-ln2/2, ln2/2]; ln 2 in two parts so that n * LN2_HI is exact. The
 * polynomial is the Taylor series of degree 7: its error there is below 2^-27. */
#define EXP_LOG2E  1.44269504088896341f
#define EXP_LN2_HI 0.693359375f
#define EXP_LN2_LO -2.12194440054690583e-4f
#define EXP_LEAST  -87.0f /* below: 0 */
#define EXP_MOST   88.0f  /* above: as there, 1.7e38 */

#define MLXR_PASTE_(a, b) a##b
#define MLXR_PASTE(a, b)  MLXR_PASTE_(a, b)
#define EXPORTED(name)    MLXR_PASTE(mlxr_cpu_##name##_, MLXR_SIMD)

INLINE uint32_t load_u32(const uint8_t *p)
{
    uint32_t u;
    memcpy(&u, p, sizeof u);
    return u;
}

INLINE uint64_t load_u64(const uint8_t *p)
{
    uint64_t u;
    memcpy(&u, p, sizeof u);
    return u;
}

INLINE size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

INLINE size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

#endif
