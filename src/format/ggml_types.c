/* ggml's block types: names, sizes, and the values of those that have no lossless MLX form.
 *
 * Layouts follow ggml-common.h and ggml-quants.c of ggml; the order of roundings is that of gguf-py's
 * quants.py, so that the float32 values are the same bits. Legend: a block of 256 has sub-blocks of 16 or 32
 * with small scales of their own under the block's f16 d (and dmin). */
#include "format/gguf.h"

static float f16_at(const uint8_t *p)
{
    return mlxr_load_float(p, MLXR_F16, 0);
}

/* {scales[16]: scale low, min high nibble; qs[64]: 2 bits; f16 d, dmin} */
static void q2_k(const uint8_t *b, float *out)
{
    const uint8_t *scales = b, *qs = b + 16;
    const float d = f16_at(b + 80), dmin = f16_at(b + 82);

    for (unsigned e = 0; e < 256; e++) {
        unsigned q = qs[e / 128 * 32 + e % 32] >> (e % 128 / 32 * 2) & 3;
        float dl = d * (float)(scales[e / 16] & 15), ml = dmin * (float)(scales[e / 16] >> 4);
        out[e] = dl * (float)q - ml;
    }
}

/* {hmask[32]: third bits, inverted; qs[64]: two low bits; scales[12]: 16 of 6 bits, low nibbles in 8 bytes,
 * then the high pairs in 4; f16 d} */
static void q3_k(const uint8_t *b, float *out)
{
    const uint8_t *hmask = b, *qs = b + 32, *scales = b + 96;
    const float d = f16_at(b + 108);

    for (unsigned e = 0; e < 256; e++) {
        unsigned i = e / 16;
        int scale = (int)((scales[i % 8] >> (i / 8 * 4) & 15) | (scales[8 + i % 4] >> (i / 4 * 2) & 3) << 4) -
                    32;
        int q = qs[e / 128 * 32 + e % 32] >> (e % 128 / 32 * 2) & 3;
        if (!(hmask[e % 32] >> (e / 32) & 1)) q -= 4;
        out[e] = d * (float)scale * (float)q;
    }
}

/* Scale and min of sub-block i of 8, 6 bits each, packed in 12 bytes: the first four lie whole in bytes 0..3
 * and 4..7; of the others the low nibbles are in bytes 8..11 and the high pairs above the first four. */
static void k_scale_min(const uint8_t *s, unsigned i, unsigned *scale, unsigned *min)
{
    if (i < 4) {
        *scale = s[i] & 63u;
        *min = s[4 + i] & 63u;
    } else {
        *scale = (s[4 + i] & 15u) | (s[i - 4] >> 2 & 0x30u);
        *min = (unsigned)(s[4 + i] >> 4) | (s[i] >> 2 & 0x30u);
    }
}

/* Q4_K {f16 d, dmin; scales[12]; qs[128]}, Q5_K {f16 d, dmin; scales[12]; qh[32]: fifth bits; qs[128]} */
static void q45_k(const uint8_t *b, const uint8_t *qh, const uint8_t *qs, float *out)
{
    const float d = f16_at(b), dmin = f16_at(b + 2);

    for (unsigned i = 0; i < 8; i++) {
        unsigned scale, min;
        float dl, ml;
        k_scale_min(b + 4, i, &scale, &min);
        dl = d * (float)scale;
        ml = dmin * (float)min;
        for (unsigned j = 0; j < 32; j++) {
            unsigned q = qs[i / 2 * 32 + j] >> (i % 2 * 4) & 15u;
            if (qh) q |= (qh[j] >> i & 1u) << 4;
            out[i * 32 + j] = dl * (float)q - ml;
        }
    }
}

static void q4_k(const uint8_t *b, float *out)
{
    q45_k(b, NULL, b + 16, out);
}

static void q5_k(const uint8_t *b, float *out)
{
    q45_k(b, b + 16, b + 48, out);
}

/* {ql[128]: low nibbles; qh[64]: high pairs; int8 scales[16]; f16 d} */
static void q6_k(const uint8_t *b, float *out)
{
    const uint8_t *ql = b, *qh = b + 128, *scales = b + 192;
    const float d = f16_at(b + 208);

    for (unsigned e = 0; e < 256; e++) {
        unsigned half = e / 128, g = e / 32 % 4, j = e % 32;
        unsigned q = (ql[half * 64 + g % 2 * 32 + j] >> (g / 2 * 4) & 15u) |
                     (qh[half * 32 + j] >> (g * 2) & 3u) << 4;
        out[e] = d * (float)(int8_t)scales[e / 16] * (float)((int)q - 32);
    }
}

static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                      1,    13,   25,  38,  53,  69,  89,  113};

/* {f16 d; qs[16]} */
static void iq4_nl(const uint8_t *b, float *out)
{
    const float d = f16_at(b);

    for (unsigned e = 0; e < 32; e++) out[e] = d * (float)iq4_values[b[2 + e % 16] >> (e / 16 * 4) & 15];
}

/* {f16 d; u16 high pairs and u8[4] low nibbles of 8 scales; qs[128]} */
static void iq4_xs(const uint8_t *b, float *out)
{
    const float d = f16_at(b);
    const unsigned high = b[2] | (unsigned)b[3] << 8;

    for (unsigned e = 0; e < 256; e++) {
        unsigned i = e / 32;
        int scale = (int)((b[4 + i / 2] >> (i % 2 * 4) & 15u) | (high >> (2 * i) & 3u) << 4) - 32;
        out[e] = d * (float)scale * (float)iq4_values[b[8 + i * 16 + e % 16] >> (e % 32 / 16 * 4) & 15];
    }
}

static const mlxr_ggml_type_info types[] = {
    [MLXR_GGML_F32] = {"F32", 1, 4, NULL},
    [MLXR_GGML_F16] = {"F16", 1, 2, NULL},
    [MLXR_GGML_Q4_0] = {"Q4_0", 32, 18, NULL},
    [MLXR_GGML_Q4_1] = {"Q4_1", 32, 20, NULL},
    [MLXR_GGML_Q5_0] = {"Q5_0", 32, 22, NULL},
    [MLXR_GGML_Q5_1] = {"Q5_1", 32, 24, NULL},
    [MLXR_GGML_Q8_0] = {"Q8_0", 32, 34, NULL},
    [9] = {"Q8_1", 32, 36, NULL},
    [MLXR_GGML_Q2_K] = {"Q2_K", 256, 84, q2_k},
    [MLXR_GGML_Q3_K] = {"Q3_K", 256, 110, q3_k},
    [MLXR_GGML_Q4_K] = {"Q4_K", 256, 144, q4_k},
    [MLXR_GGML_Q5_K] = {"Q5_K", 256, 176, q5_k},
    [MLXR_GGML_Q6_K] = {"Q6_K", 256, 210, q6_k},
    [15] = {"Q8_K", 256, 292, NULL},
    [16] = {"IQ2_XXS", 256, 66, NULL},
    [17] = {"IQ2_XS", 256, 74, NULL},
    [18] = {"IQ3_XXS", 256, 98, NULL},
    [19] = {"IQ1_S", 256, 50, NULL},
    [MLXR_GGML_IQ4_NL] = {"IQ4_NL", 32, 18, iq4_nl},
    [21] = {"IQ3_S", 256, 110, NULL},
    [22] = {"IQ2_S", 256, 82, NULL},
    [MLXR_GGML_IQ4_XS] = {"IQ4_XS", 256, 136, iq4_xs},
    [24] = {"I8", 1, 1, NULL},
    [25] = {"I16", 1, 2, NULL},
    [26] = {"I32", 1, 4, NULL},
    [27] = {"I64", 1, 8, NULL},
    [28] = {"F64", 1, 8, NULL},
    [29] = {"IQ1_M", 256, 56, NULL},
    [MLXR_GGML_BF16] = {"BF16", 1, 2, NULL},
    [34] = {"TQ1_0", 256, 54, NULL},
    [35] = {"TQ2_0", 256, 66, NULL},
    [39] = {"MXFP4", 32, 17, NULL},
    [40] = {"NVFP4", 64, 36, NULL},
    [41] = {"Q1_0", 128, 18, NULL},
};

const mlxr_ggml_type_info *mlxr_ggml_type_get(mlxr_ggml_type t)
{
    return t < MLXR_COUNT(types) && types[t].name ? &types[t] : NULL;
}
