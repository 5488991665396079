/* The linear kernel's body; see kernels.h for what it computes. Included by linear_<isa>.c after its simd header.
 *
 * Rows go in fours, which share the loads of x and one reduction. Weights are unpacked MLXR_CPU_CHUNK columns of a
 * row at a time, w = scale * q + bias or scale * v in float32, and then either
 *   - one token: go straight into acc[r] = fma(w, x, acc[r]), or
 *   - many: to a panel [n_vectors, 4, V_W] of floats, which V_TILE tokens at a time pass over with the same fma in the
 *     same order. Twice the loads and stores, but each weight is unpacked once for all tokens. Of long rows a panel has
 *     a part of the columns, and the sums wait between the parts as they are.
 * The four lanes of a reduction do not mix, so neither the cut into fours nor what fills the last four shows. */
enum { N_VEC = MLXR_CPU_CHUNK / V_W }; /* vectors of a chunk */

/* How one format's rows are read: `dtype` for dense, bits and chunks a group for affine, bits for modes of floats.
 * Constants in every call, so each kernel is compiled for its own. */
typedef struct format {
    bool to_panel; /* many tokens: unpack to a panel; else acc and x are there */
    mlxr_quant_mode mode;
    unsigned bits, per_group;
    mlxr_dtype dtype;
} format;

INLINE void load_floats(vf *w, mlxr_dtype dtype, const uint8_t *p)
{
    UNROLL
    for (unsigned i = 0; i < N_VEC; i++) {
        if (dtype == MLXR_F16) {
            w[i] = v_from_f16(p + i * V_W * 2);
        } else if (dtype == MLXR_BF16) {
            w[i] = v_from_bf16(p + i * V_W * 2);
        } else {
            memcpy(&w[i], p + i * V_W * 4, sizeof w[i]);
        }
    }
}

/* One token's weights are read once and in order, but four rows at a time and in short bursts, which the hardware's
 * prefetchers follow badly: asking ahead makes a single thread 1.7 times as fast (Zen 5, 4 bits in groups of 32, rows of
 * 576; bf16 the same). What is asked for lies in order, so it has to be a whole four rows ahead, and where these are
 * long it goes to the second cache. An address past the end is only a hint. */
enum { AHEAD_BYTES = 8192, AHEAD_SCALES = 2048 };
/* Dense rows are longer and ask for each row's own bytes this far ahead, at its end for those of the row four further. */
enum { DENSE_AHEAD = 2048 };

INLINE void prefetch(uintptr_t p, size_t n)
{
    for (size_t i = 0; i < n; i += 64) __builtin_prefetch((const void *)(p + i));
}

INLINE size_t bytes_ahead(size_t row_bytes)
{
    return 4 * row_bytes > AHEAD_BYTES ? 4 * row_bytes : AHEAD_BYTES;
}

INLINE void prefetch_rows(uintptr_t p, size_t n, size_t n_ahead)
{
    if (n_ahead > AHEAD_BYTES) {
        for (size_t i = 0; i < n; i += 64) __builtin_prefetch((const void *)(p + i), 0, 2);
    } else {
        prefetch(p, n);
    }
}

/* n scales or biases to floats; writes up to a multiple of V_W. */
INLINE void widen(float *out, const uint8_t *p, mlxr_dtype dtype, size_t n)
{
    size_t i = 0;
    if (dtype == MLXR_F32) {
        memcpy(out, p, n * sizeof *out);
        return;
    }
    for (; i + V_W <= n; i += V_W) {
        prefetch((uintptr_t)p + AHEAD_SCALES + i * 2, 1);
        v_store(out + i, dtype == MLXR_F16 ? v_from_f16(p + i * 2) : v_from_bf16(p + i * 2));
    }
    if (i < n) {
        uint8_t last[V_W * 2] = {0};
        memcpy(last, p + i * 2, (n - i) * 2);
        v_store(out + i, dtype == MLXR_F16 ? v_from_f16(last) : v_from_bf16(last));
    }
}

INLINE vf byte_scales(mlxr_quant_mode mode, const uint8_t *p, float factor)
{
    if (mode == MLXR_QUANT_NVFP4) return v_from_e4m3(p) * v_set1(factor);
    return v_from_e8m0(p);
}

/* n scales of one byte to floats, the same way; nvfp4's times factor. */
INLINE void widen_bytes(float *out, const uint8_t *p, mlxr_quant_mode mode, float factor, size_t n)
{
    size_t i = 0;
    for (; i + V_W <= n; i += V_W) {
        prefetch((uintptr_t)p + AHEAD_SCALES / 2 + i, 1);
        v_store(out + i, byte_scales(mode, p + i, factor));
    }
    if (i < n) {
        uint8_t last[V_W] = {0};
        memcpy(last, p + i, n - i);
        v_store(out + i, byte_scales(mode, last, factor));
    }
}

/* Columns [from, to) of a matrix, to which its kernels go: all of them, or for many tokens a part that caches hold. */
typedef struct columns {
    size_t from, to;
} columns;

/* What becomes of a chunk of four rows: into the sums, or to the panel. */
INLINE void use_chunk(format f, vf (*w)[N_VEC], const float *x, vf *acc, float *panel)
{
    UNROLL
    for (unsigned i = 0; i < N_VEC; i++) {
        if (f.to_panel) {
            UNROLL
            for (unsigned r = 0; r < 4; r++) v_store(panel + (i * 4 + r) * V_W, w[r][i]);
        } else {
            vf xv = v_load(x + i * V_W);
            UNROLL
            for (unsigned r = 0; r < 4; r++) acc[r] = v_fma(w[r][i], xv, acc[r]);
        }
    }
}

/* Rows whose scales are widened together: a store of 16 and loads of one right behind it are slow. */
enum { BLOCK = 16 };

/* The rows of a block, and of a panel, go in fours and what is left one by one: four times the same row. */
INLINE size_t rows_together(size_t n_left)
{
    return n_left >= 4 ? 4 : 1;
}

INLINE size_t n_groups_of(format f, const mlxr_matrix *m)
{
    if (f.mode == MLXR_QUANT_NVFP4) return m->n_cols / (MLXR_CPU_CHUNK / 2);
    return m->n_cols / (f.per_group * MLXR_CPU_CHUNK);
}

/* Scales of rows [row, row + n), n <= BLOCK, to scratch; affine's biases behind them. */
INLINE void widen_block(format f, const mlxr_matrix *m, size_t row, size_t n, float *scratch)
{
    size_t n_groups = n_groups_of(f, m), row_bytes = n_groups * (m->dtype == MLXR_F32 ? 4 : 2);
    float *biases = scratch + mlxr_round_up(BLOCK * n_groups, V_W);

    if (f.mode != MLXR_QUANT_AFFINE) {
        widen_bytes(scratch, (const uint8_t *)m->scales + row * n_groups, f.mode, mlxr_matrix_factor(m),
                    n * n_groups);
        return;
    }
    widen(scratch, (const uint8_t *)m->scales + row * row_bytes, m->dtype, n * n_groups);
    widen(biases, (const uint8_t *)m->biases + row * row_bytes, m->dtype, n * n_groups);
}

/* n: 4 or 1 rows; i_block: of the first within its block. */
INLINE void affine_rows(format f, const mlxr_matrix *m, columns part, size_t row, size_t n, size_t i_block,
                        const float *x, vf *acc, float *panel, const float *scratch)
{
    const size_t n_groups = n_groups_of(f, m), chunk_bytes = f.bits * (MLXR_CPU_CHUNK / 8);
    const size_t next = n == 4 ? m->row_bytes : 0, next_scale = n == 4 ? n_groups : 0;
    const float *scales = scratch + i_block * n_groups;
    const float *biases = scales + mlxr_round_up(BLOCK * n_groups, V_W);
    const size_t first = part.from / (f.per_group * MLXR_CPU_CHUNK);
    const size_t stop = part.to / (f.per_group * MLXR_CPU_CHUNK);
    const uint8_t *p = (const uint8_t *)m->data + row * m->row_bytes + first * f.per_group * chunk_bytes;
    const size_t n_ahead = bytes_ahead(m->row_bytes);
    uintptr_t ahead = (uintptr_t)p + n_ahead;

    for (size_t g = first; g < stop; g++) {
        v_book book[4];
        UNROLL
        for (unsigned r = 0; r < 4; r++) {
            book[r] = v_book_make(f.bits, scales[r * next_scale + g], biases[r * next_scale + g]);
        }
        UNROLL
        for (unsigned c = 0; c < f.per_group; c++) {
            vf w[4][N_VEC];
            if (!f.to_panel) {
                prefetch_rows(ahead, 4 * chunk_bytes, n_ahead);
                ahead += 4 * chunk_bytes;
            }
            UNROLL
            for (unsigned r = 0; r < 4; r++) v_unpack(w[r], f.bits, p + r * next, book[r]);
            p += chunk_bytes;
            use_chunk(f, w, x, acc, panel);
            if (f.to_panel) {
                panel += 4 * MLXR_CPU_CHUNK;
            } else {
                x += MLXR_CPU_CHUNK;
            }
        }
    }
}

/* A chunk of nvfp4 has two scales, and half a chunk may be left at the end of a row. */
INLINE void fp_rows(format f, const mlxr_matrix *m, columns part, size_t row, size_t n, size_t i_block,
                    const float *x, vf *acc, float *panel, const float *scratch)
{
    const unsigned per_chunk = f.mode == MLXR_QUANT_NVFP4 ? 2 : 1;
    const size_t n_groups = n_groups_of(f, m), chunk_bytes = f.bits * (MLXR_CPU_CHUNK / 8);
    const size_t first = part.from / MLXR_CPU_CHUNK, stop = part.to / MLXR_CPU_CHUNK;
    const size_t next = n == 4 ? m->row_bytes : 0, next_scale = n == 4 ? n_groups : 0;
    const float *scales = scratch + i_block * n_groups + first * per_chunk;
    const uint8_t *p = (const uint8_t *)m->data + row * m->row_bytes + first * chunk_bytes;
    const size_t n_ahead = bytes_ahead(m->row_bytes);
    uintptr_t ahead = (uintptr_t)p + n_ahead;
    vf w[4][N_VEC];

    for (size_t c = first; c < stop; c++) {
        if (!f.to_panel) {
            prefetch_rows(ahead, 4 * chunk_bytes, n_ahead);
            ahead += 4 * chunk_bytes;
        }
        UNROLL
        for (unsigned r = 0; r < 4; r++) {
            const float *s = scales + r * next_scale;
            if (f.bits == 8) {
                v_unpack_e4m3(w[r], p + r * next, s[0]);
            } else {
                v_unpack_e2m1(w[r], p + r * next, s[0], s[per_chunk - 1]);
            }
        }
        scales += per_chunk;
        p += chunk_bytes;
        use_chunk(f, w, x, acc, panel);
        if (f.to_panel) {
            panel += 4 * MLXR_CPU_CHUNK;
        } else {
            x += MLXR_CPU_CHUNK;
        }
    }
    if (f.mode == MLXR_QUANT_NVFP4 && part.to % MLXR_CPU_CHUNK) {
        UNROLL
        for (unsigned r = 0; r < 4; r++) {
            uint8_t last[MLXR_CPU_CHUNK / 2] = {0};
            memcpy(last, p + r * next, sizeof last / 2);
            v_unpack_e2m1(w[r], last, scales[r * next_scale], 0.0f);
        }
        use_chunk(f, w, x, acc, panel);
    }
}

INLINE void dense_rows(format f, const mlxr_matrix *m, columns part, size_t row, size_t n, const float *x,
                       vf *acc, float *panel)
{
    const size_t value_bytes = f.dtype == MLXR_F32 ? 4 : 2, next = n == 4 ? m->row_bytes : 0;
    const size_t first = part.from / MLXR_CPU_CHUNK, stop = part.to / MLXR_CPU_CHUNK;
    const size_t n_left = part.to % MLXR_CPU_CHUNK;
    const uint8_t *p = (const uint8_t *)m->data + row * m->row_bytes + part.from * value_bytes;
    const size_t chunk_bytes = MLXR_CPU_CHUNK * value_bytes;
    const size_t n_ahead = min_size(DENSE_AHEAD / chunk_bytes, m->n_cols / MLXR_CPU_CHUNK);
    uintptr_t ahead = (uintptr_t)p + n_ahead * chunk_bytes;
    vf w[4][N_VEC];

    for (size_t c = first; c < stop; c++) {
        if (value_bytes == 2) { /* the hardware's prefetchers do as well for rows of twice the bytes */
            if (c + n_ahead == m->n_cols / MLXR_CPU_CHUNK) ahead += 3 * m->row_bytes;
            UNROLL
            for (unsigned r = 0; r < 4; r++) prefetch(ahead + r * m->row_bytes, chunk_bytes);
            ahead += chunk_bytes;
        }
        UNROLL
        for (unsigned r = 0; r < 4; r++) load_floats(w[r], f.dtype, p + r * next);
        p += MLXR_CPU_CHUNK * value_bytes;
        use_chunk(f, w, x, acc, panel);
        if (f.to_panel) {
            panel += 4 * MLXR_CPU_CHUNK;
        } else {
            x += MLXR_CPU_CHUNK;
        }
    }
    if (n_left) {
        uint8_t last[4][MLXR_CPU_CHUNK * 4] = {{0}};
        UNROLL
        for (unsigned r = 0; r < 4; r++) {
            memcpy(last[r], p + r * next, n_left * value_bytes);
            load_floats(w[r], f.dtype, last[r]);
        }
        use_chunk(f, w, x, acc, panel);
    }
}

INLINE void finish(const mlxr_cpu_linear *a, size_t row, size_t n, size_t t, const vf *acc)
{
    v4 y = v_reduce4(acc[0], acc[1], acc[2], acc[3]);
    if (a->bias) {
        v4 bias = {0};
        memcpy(&bias, a->bias + row, n * sizeof(float));
        y = y + bias;
    }
    v4_store_n(a->y[t] + row, y, n);
}

/* A panel and what becomes of it: the sums of columns before it are in `sums`, and those of more to come go there,
 * [token, set of rows, 4, V_W]; or NULL, where the panel has every column. */
typedef struct panel_use {
    const mlxr_cpu_linear *a;
    columns part;
    size_t begin, end;     /* rows */
    size_t t_begin, t_end; /* tokens */
    const float *panel;
    float *sums;
} panel_use;

/* Rows row..row+n of tokens t..t+n_tok from their panel. */
INLINE void tile(const panel_use *u, size_t row, size_t n, size_t t, unsigned n_tok, const float *panel,
                 float *sums, size_t sums_stride)
{
    const size_t n_vec = mlxr_round_up(u->part.to - u->part.from, MLXR_CPU_CHUNK) / V_W;
    const float *x[V_TILE];
    vf acc[V_TILE][4];

    UNROLL
    for (unsigned j = 0; j < n_tok; j++) {
        x[j] = u->a->x[t + j] + u->part.from;
        UNROLL
        for (unsigned r = 0; r < 4; r++)
            acc[j][r] = u->part.from ? v_load(sums + j * sums_stride + r * V_W) : v_set1(0.0f);
    }
    for (size_t i = 0; i < n_vec; i++) {
        vf xv[V_TILE];
        UNROLL
        for (unsigned j = 0; j < n_tok; j++) xv[j] = v_load(x[j] + i * V_W);
        UNROLL
        for (unsigned r = 0; r < 4; r++) {
            vf w = v_load(panel + (i * 4 + r) * V_W);
            UNROLL
            for (unsigned j = 0; j < n_tok; j++) acc[j][r] = v_fma(w, xv[j], acc[j][r]);
        }
    }
    UNROLL
    for (unsigned j = 0; j < n_tok; j++) {
        if (u->part.to == u->a->m->n_cols) {
            finish(u->a, row, n, t + j, acc[j]);
            continue;
        }
        UNROLL
        for (unsigned r = 0; r < 4; r++) v_store(sums + j * sums_stride + r * V_W, acc[j][r]);
    }
}

/* Compiled once for all formats: the panel is floats. */
static void panel_tokens(const panel_use *u)
{
    const size_t set_floats = mlxr_round_up(u->part.to - u->part.from, MLXR_CPU_CHUNK) * 4;
    const size_t stride = (mlxr_cpu_panel_rows(u->a->m->n_cols) / 4 + 3) * 4 * V_W; /* of a token's sums */

    for (size_t t = u->t_begin; t < u->t_end; t += V_TILE) {
        size_t n_tok = min_size(V_TILE, u->t_end - t), n;
        const float *w = u->panel;
        float *sums = u->sums ? u->sums + (t - u->t_begin) * stride : NULL;
        for (size_t row = u->begin; row < u->end; row += n, w += set_floats) {
            n = rows_together(u->end - row);
            switch (n_tok) {
            case 1: tile(u, row, n, t, 1, w, sums, stride); break;
#if V_TILE == 6
            case 2: tile(u, row, n, t, 2, w, sums, stride); break;
            case 3: tile(u, row, n, t, 3, w, sums, stride); break;
            case 4: tile(u, row, n, t, 4, w, sums, stride); break;
            case 5: tile(u, row, n, t, 5, w, sums, stride); break;
#elif V_TILE == 3
            case 2: tile(u, row, n, t, 2, w, sums, stride); break;
#endif
            default: tile(u, row, n, t, V_TILE, w, sums, stride); break;
            }
            if (sums) sums += 4 * V_W;
        }
    }
}

/* Rows [begin, end), block by block: one token's results, or the panel. */
INLINE void read_rows(format f, const mlxr_cpu_linear *a, columns part, size_t begin, size_t end,
                      float *panel, float *scratch)
{
    size_t padded = mlxr_round_up(part.to - part.from, MLXR_CPU_CHUNK), n;

    for (size_t block = begin; block < end; block += BLOCK) {
        size_t stop = min_size(end, block + BLOCK);
        if (f.mode != MLXR_QUANT_NONE) widen_block(f, a->m, block, stop - block, scratch);
        for (size_t row = block; row < stop; row += n) {
            vf acc[4] = {v_set1(0.0f), v_set1(0.0f), v_set1(0.0f), v_set1(0.0f)};
            n = rows_together(stop - row);
            if (f.mode == MLXR_QUANT_NONE) {
                dense_rows(f, a->m, part, row, n, a->x[0], acc, panel);
            } else if (f.mode == MLXR_QUANT_AFFINE) {
                affine_rows(f, a->m, part, row, n, row - block, a->x[0], acc, panel, scratch);
            } else {
                fp_rows(f, a->m, part, row, n, row - block, a->x[0], acc, panel, scratch);
            }
            if (f.to_panel) {
                panel += 4 * padded;
            } else {
                finish(a, row, n, 0, acc);
            }
        }
    }
}

INLINE void linear(format f, const mlxr_cpu_linear *a, size_t begin, size_t end, float *scratch)
{
    const size_t n_cols = a->m->n_cols, n_part = mlxr_cpu_panel_columns(n_cols);
    const size_t n_panel = mlxr_cpu_panel_rows(n_cols);
    const size_t most = n_part < n_cols ? MLXR_CPU_PART_TOKENS : a->n_tokens;
    panel_use u = {.a = a};
    float *panel = scratch + mlxr_cpu_scale_floats(n_cols);

    if (a->n_tokens == 1) {
        f.to_panel = false;
        read_rows(f, a, (columns){0, n_cols}, begin, end, NULL, scratch);
        return;
    }
    f.to_panel = true;
    u.panel = panel;
    if (n_part < n_cols) u.sums = panel + (n_panel + 12) * mlxr_round_up(n_part, MLXR_CPU_CHUNK);
    for (u.begin = begin; u.begin < end; u.begin = u.end) {
        u.end = min_size(end, u.begin + n_panel);
        for (u.t_begin = 0; u.t_begin < a->n_tokens; u.t_begin = u.t_end) {
            u.t_end = min_size(a->n_tokens, u.t_begin + most);
            for (u.part.from = 0; u.part.from < n_cols; u.part.from = u.part.to) {
                u.part.to = min_size(n_cols, u.part.from + n_part);
                read_rows(f, a, u.part, u.begin, u.end, panel, scratch);
                panel_tokens(&u);
            }
        }
    }
}

#define KERNEL(name, mode, bits, per_group, dtype)                                                  \
    static void name(const mlxr_cpu_linear *a, size_t begin, size_t end, float *scratch)            \
    {                                                                                               \
        linear((format){false, MLXR_QUANT_##mode, bits, per_group, dtype}, a, begin, end, scratch); \
    }
#define AFFINE(bits)                                      \
    KERNEL(affine_##bits##_32, AFFINE, bits, 1, MLXR_F32) \
    KERNEL(affine_##bits##_64, AFFINE, bits, 2, MLXR_F32) \
    KERNEL(affine_##bits##_128, AFFINE, bits, 4, MLXR_F32)
AFFINE(2)
AFFINE(3)
AFFINE(4)
AFFINE(5)
AFFINE(6)
AFFINE(8)
KERNEL(mxfp4, MXFP4, 4, 1, MLXR_U8)
KERNEL(nvfp4, NVFP4, 4, 0, MLXR_U8)
KERNEL(mxfp8, MXFP8, 8, 1, MLXR_U8)
KERNEL(dense_f16, NONE, 0, 0, MLXR_F16)
KERNEL(dense_bf16, NONE, 0, 0, MLXR_BF16)
KERNEL(dense_f32, NONE, 0, 0, MLXR_F32)

mlxr_cpu_linear_fn EXPORTED(linear)(const mlxr_matrix *m)
{
    static const struct {
        unsigned bits;
        mlxr_cpu_linear_fn by_group[3];
    } affine[] = {
#define ROW(bits)                                                       \
    {                                                                   \
        bits,                                                           \
        {                                                               \
            affine_##bits##_32, affine_##bits##_64, affine_##bits##_128 \
        }                                                               \
    }
        ROW(2), ROW(3), ROW(4), ROW(5), ROW(6), ROW(8),
#undef ROW
    };
    unsigned g = m->quant.group_size;

    if (!mlxr_quant_supported(m->quant) || (g && m->n_cols % g)) return NULL;
    if (mlxr_quant_is_fp(m->quant.mode)) {
        if (m->dtype != MLXR_U8) return NULL;
        return m->quant.mode == MLXR_QUANT_MXFP4 ? mxfp4 : m->quant.mode == MLXR_QUANT_NVFP4 ? nvfp4 : mxfp8;
    }
    if (m->dtype != MLXR_F16 && m->dtype != MLXR_BF16 && m->dtype != MLXR_F32) return NULL;
    if (m->quant.mode == MLXR_QUANT_NONE) {
        return m->dtype == MLXR_F16 ? dense_f16 : m->dtype == MLXR_BF16 ? dense_bf16 : dense_f32;
    }
    for (size_t i = 0; i < MLXR_COUNT(affine); i++) {
        if (affine[i].bits == m->quant.bits) return affine[i].by_group[g == 32 ? 0 : g == 64 ? 1 : 2];
    }
    return NULL;
}
