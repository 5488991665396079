/* The kernels that move a state on, with AVX-512 (F, BW, DQ, VL, VBMI). */
#define MLXR_SIMD avx512
#include "device/cpu/simd_avx512.h"

#include "device/cpu/recur.inc.h"
