/* Every scheme's kernel and where to find it. The includer has INTS_KERNEL(name, bits, group, dtype), which defines one. */
#define INTS_GROUPS(bits, suffix, dtype)                      \
    INTS_KERNEL(affine_##bits##_32_##suffix, bits, 32, dtype) \
    INTS_KERNEL(affine_##bits##_64_##suffix, bits, 64, dtype) \
    INTS_KERNEL(affine_##bits##_128_##suffix, bits, 128, dtype)
#define INTS_AFFINE(bits)              \
    INTS_GROUPS(bits, f16, MLXR_F16)   \
    INTS_GROUPS(bits, bf16, MLXR_BF16) \
    INTS_GROUPS(bits, f32, MLXR_F32)
INTS_AFFINE(2)
INTS_AFFINE(3)
INTS_AFFINE(4)
INTS_AFFINE(5)
INTS_AFFINE(6)
INTS_AFFINE(8)
INTS_KERNEL(mxfp4, 4, 32, MLXR_U8)

/* order: of all but 4-bit and mxfp4 weights where those have their own. */
static mlxr_ints_kernel find_ints(const mlxr_matrix *m, mlxr_ints_order order)
{
#define ONE(bits, group, suffix, dtype)                        \
    {                                                          \
        bits, group, dtype, affine_##bits##_##group##_##suffix \
    }
#define THREE(bits, suffix, dtype) \
    ONE(bits, 32, suffix, dtype), ONE(bits, 64, suffix, dtype), ONE(bits, 128, suffix, dtype)
#define NINE(bits) THREE(bits, f16, MLXR_F16), THREE(bits, bf16, MLXR_BF16), THREE(bits, f32, MLXR_F32)
    static const struct {
        unsigned bits, group;
        mlxr_dtype dtype;
        mlxr_linear_ints_fn fn;
    } all[] = {NINE(2), NINE(3), NINE(4), NINE(5), NINE(6), NINE(8)};
    mlxr_ints_order nibbles = order == MLXR_INTS_OCTETS ? MLXR_INTS_NIBBLES : order;

    if (m->quant.mode == MLXR_QUANT_MXFP4) return (mlxr_ints_kernel){mxfp4, nibbles, 32};
    for (size_t i = 0; i < MLXR_COUNT(all) && m->quant.mode == MLXR_QUANT_AFFINE; i++) {
        if (all[i].bits == m->quant.bits && all[i].group == m->quant.group_size && all[i].dtype == m->dtype)
            return (mlxr_ints_kernel){all[i].fn, all[i].bits == 4 ? nibbles : order, all[i].group};
    }
    return (mlxr_ints_kernel){0};
#undef ONE
#undef THREE
#undef NINE
}
