/* The linear kernels, with NEON. */
#define MLXR_SIMD neon
#include "device/cpu/simd_neon.h"

#include "device/cpu/linear.inc.h"
