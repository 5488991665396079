/* The attention kernel, with portable vectors. */
#define MLXR_SIMD base
#include "device/cpu/simd_base.h"

#include "device/cpu/attend.inc.h"
