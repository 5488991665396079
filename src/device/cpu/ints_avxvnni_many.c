/* Integer products for many tokens, with AVX2 and its VNNI. */
#define MLXR_SIMD avxvnni
#include "device/cpu/ints_avx2_many.inc.h"
