/* Integer products for few tokens, with AVX2 and its VNNI. */
#define MLXR_SIMD avxvnni
#include "device/cpu/ints_avx2_few.inc.h"
