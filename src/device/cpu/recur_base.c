/* The kernels that move a state on, with portable vectors. */
#define MLXR_SIMD base
#include "device/cpu/simd_base.h"

#include "device/cpu/recur.inc.h"
