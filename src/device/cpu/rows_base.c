/* The kernels for one row, with portable vectors. */
#define MLXR_SIMD base
#include "device/cpu/simd_base.h"

#include "device/cpu/rows.inc.h"
