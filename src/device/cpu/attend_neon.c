/* The attention kernel, with NEON. */
#define MLXR_SIMD neon
#include "device/cpu/simd_neon.h"

#include "device/cpu/attend.inc.h"
