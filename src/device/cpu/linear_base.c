/* The linear kernels, with portable vectors. */
#define MLXR_SIMD base
#include "device/cpu/simd_base.h"

#include "device/cpu/linear.inc.h"
