/* Integer products for many tokens, with AVX2. */
#define MLXR_SIMD avx2
#include "device/cpu/ints_avx2_many.inc.h"
