/* The kernels of the cpu device: what they take, what they promise. One body an operation (*.inc.h), compiled once
 * an instruction set (*_base.c, *_avx2.c, *_avx512.c, *_neon.c, each with its own flags) over one small set of vector
 * primitives (simd_*.h); the device takes one table when it opens.
 *
 * The promise that shapes them all: the bits of a token's result depend on that token's inputs alone. Each
 * (row, token) has one order of accumulation, the same in the path for one token and in the one for many, so that
 * batch, chunking and threads never show. Instruction sets differ from each other in the last bits.
 *
 * Kernels keep no state and know no threads: the caller cuts the work and gives each thread its own scratch. */
#ifndef MLXR_CPU_KERNELS_H
#define MLXR_CPU_KERNELS_H

#include "device/device.h"

enum {
    MLXR_CPU_CHUNK = 32,   /* columns unpacked at a time: one group at most, but two of nvfp4's 16 */
    MLXR_CPU_SPAN = 256,   /* cached positions of one softmax step, counted from position 0 */
    MLXR_CPU_QUERIES = 48, /* (token, head) pairs of one attention call */
};

static inline size_t mlxr_round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* y[t][r] = sum over k of W[r, k] * x[t][k] + bias[r], for rows [row_begin, row_end) and every token.
 * x rows: readable and zero from n_cols up to a multiple of MLXR_CPU_CHUNK. Sums in float32, 16 (8, 4) lanes in
 * column order, then the lanes as a tree. Reads each weight once, whatever n_tokens. */
typedef struct mlxr_cpu_linear {
    const mlxr_matrix *m;
    const float *bias;     /* [n_rows] or NULL */
    const float *const *x; /* n_tokens rows */
    float *const *y;
    size_t n_tokens;
} mlxr_cpu_linear;
typedef void (*mlxr_cpu_linear_fn)(const mlxr_cpu_linear *a, size_t row_begin, size_t row_end,
                                   float *scratch);

/* Columns unpacked to floats at once for many tokens: all, or of long rows a part (of whole groups), so that a tile of
 * tokens stays in the first cache and a panel has its 32 rows: 512 tokens of 14,336 columns are twice as fast (Zen 5, bf16). */
static inline size_t mlxr_cpu_panel_columns(size_t n_cols)
{
    size_t n_parts = n_cols <= 4096 ? 1 : (n_cols + 1023) / 1024;
    return n_parts < 2 ? n_cols : mlxr_round_up((n_cols + n_parts - 1) / n_parts, 128);
}

/* And rows: a panel fits half of a small L2. A multiple of 4. */
static inline size_t mlxr_cpu_panel_rows(size_t n_cols)
{
    size_t rows = 65536 / (n_cols ? mlxr_cpu_panel_columns(n_cols) : 1) / 4 * 4;
    return rows < 4 ? 4 : rows > 32 ? 32 : rows;
}

/* Tokens that go from part to part together: whole tiles of every instruction set. */
enum { MLXR_CPU_PART_TOKENS = 126 };

/* Floats that the scales of 16 rows take: with biases for groups of 32, without for groups of 16. */
static inline size_t mlxr_cpu_scale_floats(size_t n_cols)
{
    return mlxr_round_up(n_cols, MLXR_CPU_CHUNK) + 64;
}

/* Floats of scratch that a linear kernel uses: scales and biases, then a panel, whose last rows may take the place of
 * four each, then the sums between the parts of long rows. false: does not fit a size_t. */
static inline bool mlxr_cpu_linear_scratch(size_t *out, size_t n_cols)
{
    size_t panel, most, rows = mlxr_cpu_panel_rows(n_cols) + 12;
    if (!mlxr_add_size(&most, n_cols, MLXR_CPU_CHUNK + 64)) return false;
    return mlxr_mul_size(&panel, most, rows) &&
           mlxr_add_size(out, panel, (size_t)MLXR_CPU_PART_TOKENS * rows * 16);
}

/* How the keys and values of one head lie in a block of a state, in bytes from the head's start; one head after the
 * other. Keys [k_dim, MLXR_KV_BLOCK], one lane a position; values [MLXR_KV_BLOCK, v_stride], v_stride = v_dim rounded
 * up to MLXR_CPU_V_ALIGN; elements are float, IEEE half or int8. INT8 has the scales of the keys, then those of the
 * values, float [MLXR_KV_BLOCK] each. Heads begin at multiples of 64. kv.h says how values are rounded. */
enum { MLXR_CPU_V_ALIGN = 16 };
typedef struct mlxr_cpu_kv {
    mlxr_kv_type type; /* not DEFAULT */
    size_t k_dim, v_dim, v_stride;
    size_t v_at, k_scales_at, v_scales_at; /* the scales of INT8 alone */
    size_t head_bytes;
} mlxr_cpu_kv;
/* false: does not fit a size_t. */
bool mlxr_cpu_kv_layout(mlxr_cpu_kv *out, mlxr_kv_type type, size_t k_dim, size_t v_dim);

/* Attention of up to MLXR_CPU_QUERIES queries on one head of keys and values, one sequence:
 * out[i] = softmax over p in [first[i], limit[i]) of (scale[i] * q[i] . K[p]) . V. first < limit. With a cap above 0 a
 * score s becomes cap * tanh(s / cap). A sink above -inf is one more score, without a value.
 * Position p lies in block blocks[p / MLXR_KV_BLOCK].
 *
 * Spans of MLXR_CPU_SPAN absolute positions each have a softmax of their own, by their own maximum; then what they
 * gave is added up, first span first, after the sink. So it is the same whether one call takes all spans of a query
 * (attend), or each span is a call (attend_span), on any thread, and one adds them up (attend_fold). */
typedef struct mlxr_cpu_attend {
    const mlxr_cpu_kv *kv;
    const uint8_t *heads; /* this head in block 0 of the state */
    size_t block_bytes;   /* from one block to the next */
    const uint32_t *blocks;
    float cap;
    size_t n_queries;
    float scale[MLXR_CPU_QUERIES], sink[MLXR_CPU_QUERIES];
    const float *q[MLXR_CPU_QUERIES];
    float *out[MLXR_CPU_QUERIES];
    size_t first[MLXR_CPU_QUERIES], limit[MLXR_CPU_QUERIES];
} mlxr_cpu_attend;

/* What a span gave a query, in floats: the weighted sum of values [v_stride], then the maximum and the weights' sum. */
static inline size_t mlxr_cpu_part_floats(size_t v_stride)
{
    return v_stride + MLXR_CPU_V_ALIGN;
}

/* Floats of scratch of attend and attend_span: scores, running sums, a span's sums, the queries, a block as floats. */
static inline bool mlxr_cpu_attend_scratch(size_t *out, const mlxr_cpu_kv *kv)
{
    size_t columns;
    return mlxr_add_size(&columns, kv->k_dim, 3 * kv->v_stride) &&
           mlxr_add_size(&columns, columns, MLXR_CPU_SPAN + MLXR_CPU_V_ALIGN) &&
           mlxr_mul_size(out, columns, MLXR_CPU_QUERIES) &&
           mlxr_mul_size(&columns, kv->k_dim, MLXR_KV_BLOCK) && mlxr_add_size(out, *out, columns) &&
           mlxr_mul_size(&columns, kv->v_stride, MLXR_KV_BLOCK) && mlxr_add_size(out, *out, columns);
}

/* Of n_tokens consecutive tokens of a sequence, for channels [begin, end):
 * y[t] = sum over j <= n_taps of w[j] * x[t - n_taps + j] + bias, where taps stands for the x before x[0], the oldest
 * first. Then taps becomes the last n_taps inputs. Sums in float32 from j = 0. y is not x. */
typedef struct mlxr_cpu_conv {
    const float *w;    /* [n_taps + 1, n_channels] */
    const float *bias; /* [n_channels] or NULL */
    float *taps;       /* [n_taps, n_channels] */
    const float *x;
    float *y;
    size_t x_stride, y_stride; /* from token to token */
    size_t n_channels, n_taps, n_tokens;
} mlxr_cpu_conv;

/* One head of the gated delta rule through n_tokens consecutive tokens of a sequence; for each of them
 * S = decay S;  S += beta * (v - S k) k^T;  y = S q. The first token reads old, which may be state.
 * Sums over k_dim in float32, 16 (8, 4) lanes in column order, then the lanes as a tree. */
typedef struct mlxr_cpu_delta {
    const float *old;
    float *state; /* [v_dim, k_dim] */
    size_t k_dim, v_dim, n_tokens;
    const float *q, *k, *v; /* of this head; from token to token the strides */
    float *y;
    size_t q_stride, k_stride, v_stride, y_stride;
    const float *decay, *beta; /* [n_tokens] */
} mlxr_cpu_delta;

typedef struct mlxr_cpu_act {
    mlxr_act act;
    float alpha, limit; /* MLXR_ACT_SWIGLU_OAI */
    bool a_is_one;      /* a has one value, which counts for all of b */
} mlxr_cpu_act;

struct mlxr_ints_kernels; /* ints.h */

typedef struct mlxr_cpu_kernels {
    const char *isa;
    bool converts_halves;                 /* in one instruction */
    const struct mlxr_ints_kernels *ints; /* NULL: products are float32 in `--precision fast` too */
    /* NULL when there is no kernel for how m is stored. */
    mlxr_cpu_linear_fn (*linear)(const mlxr_matrix *m);
    void (*attend)(const mlxr_cpu_attend *a, float *scratch);
    /* What n_spans spans give, the first from position `span`: to query i at parts + i * stride, one part after the
     * other; where a query sees nothing of a span, its part is left. */
    void (*attend_span)(const mlxr_cpu_attend *a, size_t span, size_t n_spans, float *parts, size_t stride,
                        float *scratch);
    /* out from n_parts >= 1 parts, one after the other. */
    void (*attend_fold)(const mlxr_cpu_kv *kv, float *out, const float *parts, size_t n_parts, float sink,
                        float *scratch);
    /* One head's k and v, floats, to position in_block of its place in a block. */
    void (*kv_store)(const mlxr_cpu_kv *kv, uint8_t *head, size_t in_block, const float *k, const float *v);
    void (*conv)(const mlxr_cpu_conv *a, size_t begin, size_t end);
    void (*delta)(const mlxr_cpu_delta *a);
    /* The rest is for one row. w: offset + weight. */
    void (*rms_norm)(float *y, const float *x, const float *w, size_t n, float eps);
    /* bias may be NULL. */
    void (*layer_norm)(float *y, const float *x, const float *w, const float *bias, size_t n, float eps);
    /* x [n_heads, head_dim] in place; cos and sin [n_rot / 2]. */
    void (*rope)(float *x, size_t n_heads, size_t head_dim, size_t n_rot, mlxr_rope_pairing pairing,
                 const float *cos, const float *sin);
    /* y = act(a) * b, or act(a) where b is NULL; y may be a or b. */
    void (*act_mul)(float *y, const float *a, const float *b, size_t n, mlxr_cpu_act how);
    void (*add)(float *y, const float *a, const float *b, size_t n);
    void (*scale)(float *y, const float *a, float factor, size_t n);
    void (*softcap)(float *y, const float *a, float cap, size_t n); /* cap > 0 */
    /* Index of the largest, of equal ones the first; -1 with a NaN among them or when the largest is not finite. n > 0. */
    int32_t (*likeliest)(const float *x, size_t n);
    /* y = sum over j < k of w[j] * x[which[j]], in that order */
    void (*mix)(float *y, const float *const *x, const uint32_t *which, const float *w, size_t k, size_t n);
} mlxr_cpu_kernels;

/* One per instruction set, assembled in isa.c from what each file exports. */
#define MLXR_CPU_ISA_DECLARE(isa)                                                                          \
    mlxr_cpu_linear_fn mlxr_cpu_linear_##isa(const mlxr_matrix *m);                                        \
    void mlxr_cpu_attend_##isa(const mlxr_cpu_attend *a, float *scratch);                                  \
    void mlxr_cpu_attend_span_##isa(const mlxr_cpu_attend *a, size_t span, size_t n_spans, float *parts,   \
                                    size_t stride, float *scratch);                                        \
    void mlxr_cpu_attend_fold_##isa(const mlxr_cpu_kv *kv, float *out, const float *parts, size_t n_parts, \
                                    float sink, float *scratch);                                           \
    void mlxr_cpu_kv_store_##isa(const mlxr_cpu_kv *kv, uint8_t *head, size_t in_block, const float *k,    \
                                 const float *v);                                                          \
    void mlxr_cpu_conv_##isa(const mlxr_cpu_conv *a, size_t begin, size_t end);                            \
    void mlxr_cpu_delta_##isa(const mlxr_cpu_delta *a);                                                    \
    void mlxr_cpu_rms_norm_##isa(float *y, const float *x, const float *w, size_t n, float eps);           \
    void mlxr_cpu_layer_norm_##isa(float *y, const float *x, const float *w, const float *bias, size_t n,  \
                                   float eps);                                                             \
    void mlxr_cpu_rope_##isa(float *x, size_t n_heads, size_t head_dim, size_t n_rot,                      \
                             mlxr_rope_pairing pairing, const float *cos, const float *sin);               \
    void mlxr_cpu_act_mul_##isa(float *y, const float *a, const float *b, size_t n, mlxr_cpu_act how);     \
    void mlxr_cpu_add_##isa(float *y, const float *a, const float *b, size_t n);                           \
    void mlxr_cpu_scale_##isa(float *y, const float *a, float factor, size_t n);                           \
    void mlxr_cpu_softcap_##isa(float *y, const float *a, float cap, size_t n);                            \
    int32_t mlxr_cpu_likeliest_##isa(const float *x, size_t n);                                            \
    void mlxr_cpu_mix_##isa(float *y, const float *const *x, const uint32_t *which, const float *w,        \
                            size_t k, size_t n);
MLXR_CPU_ISA_DECLARE(base)
MLXR_CPU_ISA_DECLARE(avx2)
MLXR_CPU_ISA_DECLARE(avx512)
MLXR_CPU_ISA_DECLARE(neon)

/* name: NULL for the best here. MLXR_E_DEVICE lists what this machine has. */
mlxr_status mlxr_cpu_kernels_get(const mlxr_cpu_kernels **out, const char *name, mlxr_error *err);
/* The i-th this machine has, the best first; NULL past the end. */
const mlxr_cpu_kernels *mlxr_cpu_kernels_at(size_t i);

#endif
