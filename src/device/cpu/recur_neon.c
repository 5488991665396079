/* The kernels that move a state on, with NEON. */
#define MLXR_SIMD neon
#include "device/cpu/simd_neon.h"

#include "device/cpu/recur.inc.h"
