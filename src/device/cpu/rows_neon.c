/* The kernels for one row, with NEON. */
#define MLXR_SIMD neon
#include "device/cpu/simd_neon.h"

#include "device/cpu/rows.inc.h"
