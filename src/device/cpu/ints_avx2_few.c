/* Integer products for few tokens, with AVX2. */
#define MLXR_SIMD avx2
#include "device/cpu/ints_avx2_few.inc.h"
