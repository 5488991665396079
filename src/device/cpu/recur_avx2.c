/* The kernels that move a state on, with AVX2, FMA and F16C. */
#define MLXR_SIMD avx2
#include "device/cpu/simd_avx2.h"

#include "device/cpu/recur.inc.h"
