/* What a sequence has beside its blocks (convolution tails, states of a delta rule), on every device: the bits of a
 * token do not depend on chunks, company, threads or on steps that were given up; and which steps are refused because
 * no version of the state is the one before them. */
#include <math.h>
#include <pthread.h>

#include "device/cpu/kernels.h"
#include "device/device.h"
#include "test.h"

#define N_DEVICES SIZE_MAX
enum { V = 13, N_SEQUENCES = 3, MOST = 1100, N_BLOCKS = MOST / MLXR_KV_BLOCK + 1 };

/* ---- a program: convolution -> delta rule -> (attention ->) logits ---- */

static mlxr_reg_id linear(mlxr_builder *b, mlxr_reg_id a, size_t k, const char *name, size_t n)
{
    mlxr_op op = mlxr_op_init(MLXR_OP_LINEAR, 0);
    op.a = a;
    op.dst = mlxr_build_reg(b, name, n);
    op.weight = mlxr_build_matrix(b, n, k, "%s", name);
    mlxr_build_op(b, &op);
    return op.dst;
}

static mlxr_program *make_program(bool with_attention)
{
    enum { D = 21, TAPS = 3, H = 4, HK = 2, DK = 10, DV = 7 };
    mlxr_op embed = mlxr_op_init(MLXR_OP_EMBED, -1), conv = mlxr_op_init(MLXR_OP_SHORT_CONV, 0);
    mlxr_op delta = mlxr_op_init(MLXR_OP_GATED_DELTA, 1), attend = mlxr_op_init(MLXR_OP_ATTEND, 2);
    mlxr_op norm = mlxr_op_init(MLXR_OP_RMS_NORM, 1);
    mlxr_builder *b;
    mlxr_program *p;
    mlxr_reg_id last, logits;
    mlxr_error err;
    uint32_t x = 4711;

    assert_ok(mlxr_builder_create(&b, "made", &err), &err);
    conv.a = embed.dst = mlxr_build_reg(b, "x", D);
    embed.weight = mlxr_build_matrix(b, V, D, "embed");
    mlxr_build_op(b, &embed);
    conv.dst = mlxr_build_reg(b, "c", D);
    conv.weight = mlxr_build_matrix(b, D, TAPS + 1, "conv");
    conv.bias = mlxr_build_vector(b, D, ".bias", "conv");
    conv.u.conv.slot = mlxr_build_conv_slot(b, "conv", D, TAPS);
    conv.u.conv.act = MLXR_ACT_SILU;
    mlxr_build_op(b, &conv);
    delta.a = linear(b, conv.dst, D, "q", HK * DK);
    delta.b = norm.a = norm.dst = linear(b, conv.dst, D, "k", HK * DK);
    norm.u.norm.width = DK;
    norm.weight = mlxr_build_vector(b, DK, ".weight", "norm");
    mlxr_build_op(b, &norm);
    delta.c = linear(b, conv.dst, D, "v", H * DV);
    delta.d = linear(b, conv.dst, D, "step", H);
    delta.e = linear(b, conv.dst, D, "beta", H);
    delta.dst = mlxr_build_reg(b, "y", H * DV);
    delta.weight = mlxr_build_vector(b, H, "", "A_log");
    delta.bias = mlxr_build_vector(b, H, "", "dt_bias");
    delta.u.delta.slot = mlxr_build_delta_slot(b, "delta", H, DK, DV);
    delta.u.delta.n_k_heads = HK;
    mlxr_build_op(b, &delta);
    last = delta.dst;
    if (with_attention) {
        attend.a = linear(b, last, H * DV, "query", H * DV);
        attend.b = linear(b, last, H * DV, "key", DV);
        attend.c = linear(b, last, H * DV, "value", DV);
        attend.dst = mlxr_build_reg(b, "mixed", H * DV);
        attend.u.attend.slot = mlxr_build_slot(b, "kv", 1, DV, DV, 50);
        attend.u.attend.n_heads = H;
        attend.u.attend.scale = 1;
        mlxr_build_op(b, &attend);
        last = attend.dst;
    }
    logits = linear(b, last, H * DV, "logits", V);
    assert_ok(mlxr_builder_finish(&p, b, V, V, 3, 4096, logits, &err), &err);
    mlxr_builder_free(b);
    for (size_t i = 0; i < p->n_weights; i++) {
        mlxr_weight *w = &p->weights[i];
        float *data = mlxr_arena_calloc(&p->arena, w->n_rows * w->n_cols, sizeof *data);
        assert_non_null(data);
        for (size_t j = 0; j < w->n_rows * w->n_cols; j++) {
            x = x * 1664525u + 1013904223u;
            data[j] = (float)(int32_t)x / 4294967296.0f;
        }
        w->m = (mlxr_matrix){.dtype = MLXR_F32,
                             .n_rows = w->n_rows,
                             .n_cols = w->n_cols,
                             .row_bytes = w->n_cols * sizeof *data,
                             .data = data};
        w->bound = true;
    }
    return p;
}

/* ---- devices ---- */

typedef struct rig {
    const mlxr_program *p;
    mlxr_device *device;
    mlxr_executable *executable;
    mlxr_state *state;
    uint32_t number[N_SEQUENCES]; /* of each text among the state's sequences */
} rig;

/* The i-th kind of device there is: ref, then cpu with every instruction set on one and on two threads. */
static bool open_rig(rig *r, size_t i, const mlxr_program *p)
{
    mlxr_device_options options = {.precision = MLXR_PRECISION_EXACT,
                                   .n_threads = i == 0 ? 1 : 1 + (i - 1) % 2};
    mlxr_error err;

    if (i >= N_DEVICES) return false;
    if (i > 0) {
        const mlxr_cpu_kernels *k = mlxr_cpu_kernels_at((i - 1) / 2);
        if (!k) return false;
        options.isa = k->isa;
    }
    *r = (rig){.p = p};
    assert_ok(mlxr_device_open(&r->device, i == 0 ? "ref" : "cpu", &options, &err), &err);
    assert_ok(mlxr_device_compile(&r->executable, r->device, p, &err), &err);
    assert_ok(mlxr_state_create(&r->state, r->executable, N_SEQUENCES * (size_t)N_BLOCKS, N_SEQUENCES, &err),
              &err);
    for (size_t s = 0; s < N_SEQUENCES; s++) r->number[s] = (uint32_t)(N_SEQUENCES - 1 - s);
    return true;
}

static void close_rig(rig *r)
{
    mlxr_state_free(r->state);
    mlxr_executable_free(r->executable);
    mlxr_device_close(r->device);
}

/* ---- steps ---- */

/* Tokens [from, from + n) of a text, which is a sequence of made-up ids. */
typedef struct part {
    size_t text, from, n;
} part;

static int32_t id_of(size_t text, size_t position)
{
    return (int32_t)((position * (7 + 2 * text) + position / 5 + text) % V);
}

/* Every `every`-th row is wanted. shift: of the ids, to run other tokens in the same places. out: [wanted, V] */
static mlxr_status run_rows(rig *r, const part *parts, size_t n_parts, int32_t shift, size_t every,
                            const volatile int *cancel, float *out, mlxr_error *err)
{
    static uint32_t blocks[N_SEQUENCES][N_BLOCKS], positions[N_SEQUENCES * MOST], seqs[N_SEQUENCES * MOST],
        rows[N_SEQUENCES * MOST];
    static int32_t ids[N_SEQUENCES * MOST];
    mlxr_block_table tables[N_SEQUENCES];
    mlxr_batch batch = {.ids = ids, .positions = positions, .seqs = seqs, .tables = tables, .rows = rows};

    batch.n_seqs = N_SEQUENCES;
    for (size_t i = 0; i < N_SEQUENCES; i++) {
        for (size_t j = 0; j < N_BLOCKS; j++) blocks[i][j] = (uint32_t)(j * N_SEQUENCES + r->number[i]);
        tables[i] = (mlxr_block_table){.blocks = blocks[i], .n_blocks = N_BLOCKS, .sequence = r->number[i]};
    }
    for (size_t i = 0; i < n_parts; i++) {
        for (size_t t = 0; t < parts[i].n; t++) {
            ids[batch.n_tokens] = (id_of(parts[i].text, parts[i].from + t) + shift) % V;
            positions[batch.n_tokens] = (uint32_t)(parts[i].from + t);
            seqs[batch.n_tokens] = (uint32_t)parts[i].text;
            if (++batch.n_tokens % every == 0) rows[batch.n_rows++] = (uint32_t)batch.n_tokens - 1;
        }
    }
    return mlxr_run(r->executable, r->state, &batch, cancel, out, err);
}

static mlxr_status run_parts(rig *r, const part *parts, size_t n_parts, int32_t shift,
                             const volatile int *cancel, float *out, mlxr_error *err)
{
    return run_rows(r, parts, n_parts, shift, 1, cancel, out, err);
}

static void must_run(rig *r, size_t text, size_t from, size_t n, float *out)
{
    const part one = {text, from, n};
    mlxr_error err;
    assert_ok(run_parts(r, &one, 1, 0, NULL, out, &err), &err);
}

static void assert_refused(rig *r, const part *parts, size_t n_parts, const char *text)
{
    static float out[N_SEQUENCES * MOST * V];
    mlxr_error err;
    assert_fails(run_parts(r, parts, n_parts, 0, NULL, out, &err), MLXR_E_INVALID_ARGUMENT, text, &err);
}

static float *new_logits(size_t n)
{
    float *p = malloc(n * V * sizeof *p);
    assert_non_null(p);
    for (size_t i = 0; i < n * V; i++) p[i] = NAN;
    return p;
}

static void assert_same(const float *got, const float *want, size_t n)
{
    for (size_t i = 0; i < n * V; i++)
        if (memcmp(&got[i], &want[i], sizeof *got) != 0)
            fail_msg("token %zu, logit %zu: got %.9g, wanted %.9g", i / V, i % V, (double)got[i],
                     (double)want[i]);
}

/* ---- bits ---- */

/* 1,100 tokens at once are several passes on the cpu. */
static void chunks_change_no_bit(void **state)
{
    static const size_t chunks[] = {1, 2, 5, 97, 511, 512, 513, 700};
    float *whole = new_logits(MOST), *parts = new_logits(MOST);
    rig r;

    (void)state;
    for (int with_attention = 0; with_attention < 2; with_attention++) {
        mlxr_program *p = make_program(with_attention);
        for (size_t i = 0; open_rig(&r, i, p); i++) {
            must_run(&r, 0, 0, MOST, whole);
            for (size_t c = 0; c < MLXR_COUNT(chunks); c++) {
                for (size_t t = 0; t < MOST; t += chunks[c])
                    must_run(&r, 0, t, t + chunks[c] < MOST ? chunks[c] : MOST - t, parts + t * V);
                assert_same(parts, whole, MOST);
            }
            close_rig(&r);
        }
        mlxr_program_free(p);
    }
    free(whole);
    free(parts);
}

/* States move on by every token, also by those of which nothing is wanted, in passes of which nothing is. */
static void unwanted_rows_change_no_bit(void **state)
{
    static const size_t every[] = {2, 300, 600, 2000};
    float *whole = new_logits(MOST), *some = new_logits(MOST);
    rig r;

    (void)state;
    for (int with_attention = 0; with_attention < 2; with_attention++) {
        mlxr_program *p = make_program(with_attention);
        for (size_t i = 0; open_rig(&r, i, p); i++) {
            must_run(&r, 0, 0, MOST, whole);
            for (size_t c = 0; c < MLXR_COUNT(every); c++) {
                const part one = {0, 0, MOST - 1};
                mlxr_error err;
                assert_ok(run_rows(&r, &one, 1, 0, every[c], NULL, some, &err), &err);
                for (size_t j = 0; j < (MOST - 1) / every[c]; j++)
                    assert_same(some + j * V, whole + ((j + 1) * every[c] - 1) * V, 1);
                must_run(&r, 0, MOST - 1, 1, some);
                assert_same(some, whole + (MOST - 1) * V, 1);
            }
            close_rig(&r);
        }
        mlxr_program_free(p);
    }
    free(whole);
    free(some);
}

/* The cpu equals ref up to rounding, and itself on any number of threads. */
static void devices_agree(void **state)
{
    enum { N = 300 };
    float *want = new_logits(N), *one_thread = new_logits(N), *got = new_logits(N);
    mlxr_program *p = make_program(true);
    rig r;

    (void)state;
    for (size_t i = 0; open_rig(&r, i, p); i++) {
        must_run(&r, 0, 0, N, i == 0 ? want : i % 2 ? one_thread : got);
        if (i > 0 && i % 2 == 0) assert_same(got, one_thread, N);
        for (size_t j = 0; i % 2 && j < (size_t)N * V; j++)
            if (!(fabsf(one_thread[j] - want[j]) <= 2e-6f)) /* values of about 0.1 through five sums */
                fail_msg("%s: token %zu: %.9g, wanted %.9g", mlxr_device_description(r.device), j / V,
                         (double)one_thread[j], (double)want[j]);
        close_rig(&r);
    }
    mlxr_program_free(p);
    free(want);
    free(one_thread);
    free(got);
}

/* Three texts in steps of changing size and order, some of them left out of a step; before some steps the same places
 * are run with other tokens, or cancelled. Each must end as it does alone. */
static void company_and_lost_steps_change_no_bit(void **state)
{
    enum { N = 200 };
    float *alone[N_SEQUENCES], *out = new_logits(N_SEQUENCES * (size_t)N);
    mlxr_program *p = make_program(true);
    const int cancelled = 1;
    rig r;

    (void)state;
    for (size_t s = 0; s < N_SEQUENCES; s++) alone[s] = new_logits(N);
    for (size_t i = 0; open_rig(&r, i, p); i++) {
        size_t at[N_SEQUENCES] = {0}, left = N_SEQUENCES * (size_t)N;
        uint32_t x = 99;
        for (size_t s = 0; s < N_SEQUENCES; s++) must_run(&r, s, 0, N, alone[s]);
        while (left > 0) {
            part parts[N_SEQUENCES];
            size_t n_parts = 0, done = 0;
            mlxr_error err;
            for (size_t j = 0, first = x >> 8; j < N_SEQUENCES; j++) {
                size_t s = (first + j) % N_SEQUENCES, n;
                x = x * 1664525u + 1013904223u;
                n = (x >> 16) % 4 == 0 ? (x >> 24) % 40 : (x >> 24) % 3;
                if (n > N - at[s]) n = N - at[s];
                if (n > 0) parts[n_parts++] = (part){s, at[s], n};
            }
            x = x * 1664525u + 1013904223u;
            if (n_parts > 0 && (x >> 20) % 2)
                assert_ok(run_parts(&r, parts, n_parts, 1 + (int32_t)(x >> 28) % 3, NULL, out, &err), &err);
            if (n_parts > 0 && (x >> 24) % 3 == 0)
                assert_int_equal(run_parts(&r, parts, n_parts, 0, &cancelled, out, &err), MLXR_E_CANCELLED);
            assert_ok(run_parts(&r, parts, n_parts, 0, NULL, out, &err), &err);
            for (size_t j = 0; j < n_parts; j++) {
                assert_same(out + done * V, alone[parts[j].text] + parts[j].from * V, parts[j].n);
                at[parts[j].text] += parts[j].n;
                done += parts[j].n;
                left -= parts[j].n;
            }
        }
        close_rig(&r);
    }
    for (size_t s = 0; s < N_SEQUENCES; s++) free(alone[s]);
    free(out);
    mlxr_program_free(p);
}

typedef struct alarm_clock {
    volatile int cancel;
    unsigned delay;
} alarm_clock;

static void *cancel_later(void *arg)
{
    alarm_clock *a = arg;
    for (volatile unsigned i = 0; i < a->delay; i++) {
    }
    __atomic_store_n(&a->cancel, 1, __ATOMIC_RELAXED);
    return NULL;
}

/* Cancelled at any moment, also in a later pass of the step: the step before is still there. */
static void a_step_cut_short_can_be_run_again(void **state)
{
    enum { FIRST = 40, N = 1000 };
    float *want = new_logits(N), *got = new_logits(N);
    mlxr_program *p = make_program(false);
    rig r;

    (void)state;
    for (size_t i = 0; open_rig(&r, i, p); i++) {
        size_t n_cut = 0;
        must_run(&r, 0, 0, FIRST, got);
        must_run(&r, 0, FIRST, N, want);
        for (unsigned j = 0; j < 25; j++) {
            const part again = {0, FIRST, N};
            alarm_clock a = {.delay = j * j * 2000};
            pthread_t thread;
            mlxr_error err;
            mlxr_status st;
            assert_int_equal(pthread_create(&thread, NULL, cancel_later, &a), 0);
            st = run_parts(&r, &again, 1, 5, &a.cancel, got, &err);
            assert_int_equal(pthread_join(thread, NULL), 0);
            assert_true(st == MLXR_OK || st == MLXR_E_CANCELLED);
            n_cut += st == MLXR_E_CANCELLED;
            must_run(&r, 0, FIRST, N, got);
            assert_same(got, want, N);
        }
        (void)n_cut; /* how often depends on the machine */
        close_rig(&r);
    }
    free(want);
    free(got);
    mlxr_program_free(p);
}

/* ---- versions ---- */

static void steps_without_their_state_are_refused(void **state)
{
    mlxr_program *p = make_program(true);
    static float out[MOST * V];
    const int cancelled = 1;
    rig r;

    (void)state;
    for (size_t i = 0; open_rig(&r, i, p); i++) {
        const part at_10 = {0, 10, 4}, at_14 = {0, 14, 1}, at_3 = {0, 3, 2}, at_11 = {0, 11, 1};
        mlxr_error err;
        assert_refused(&r, &at_10, 1, "sequence 2 begins at position 10");
        must_run(&r, 0, 0, 10, out);
        assert_refused(&r, &at_3, 1, "after 10 and 0 tokens");
        assert_refused(&r, &at_14, 1, "begins at position 14");
        must_run(&r, 0, 10, 4, out); /* 10 and 14 */
        assert_refused(&r, &at_11, 1, "begins at position 11");
        must_run(&r, 0, 10, 4, out); /* again after success */
        must_run(&r, 0, 10, 4, out);
        must_run(&r, 0, 14, 1, out); /* 15 and 14 */
        assert_refused(&r, &at_10, 1, "begins at position 10");
        assert_int_equal(run_parts(&r, &at_14, 1, 0, &cancelled, out, &err), MLXR_E_CANCELLED);
        assert_refused(&r, &(part){0, 15, 1}, 1, "begins at position 15"); /* what failed is no state */
        must_run(&r, 0, 14, 1, out);                                       /* but that before it is */
        must_run(&r, 0, 15, 1, out);
        close_rig(&r);
    }
    mlxr_program_free(p);
}

/* A number that another sequence had before: of its states none is taken for the new one's, not even one after just as
 * many tokens. */
static void a_number_used_again_begins_with_zeros(void **state)
{
    static const size_t before[][3] = {{32, 1, 1}, {5, 28, 1}, {33, 1, 0}, {32, 2, 0}, {7, 26, 4}};
    enum { FIRST = 33, N = 38 };
    mlxr_program *p = make_program(true);
    static float want[N * V], got[N * V], lost[N * V];
    rig r;

    (void)state;
    for (size_t i = 0; open_rig(&r, i, p); i++) {
        const uint32_t own = r.number[1];
        must_run(&r, 1, 0, N, want);
        for (size_t c = 0; c < MLXR_COUNT(before); c++) {
            const part far = {1, 34, 1};
            size_t at = 0;
            for (size_t j = 0; j < MLXR_COUNT(before[c]); j++) {
                if (before[c][j]) must_run(&r, 0, at, before[c][j], lost);
                at += before[c][j];
            }
            r.number[1] = r.number[0];
            r.number[0] = own;
            must_run(&r, 1, 0, FIRST, got);
            assert_refused(&r, &far, 1, "begins at position 34");
            must_run(&r, 1, FIRST, 1, got + FIRST * V);
            must_run(&r, 1, FIRST + 1, N - FIRST - 1, got + (FIRST + 1) * V);
            assert_same(got, want, N);
            r.number[0] = r.number[1];
            r.number[1] = own;
        }
        close_rig(&r);
    }
    mlxr_program_free(p);
}

static void sequences_are_told_apart(void **state)
{
    mlxr_program *p = make_program(true);
    static float out[N_SEQUENCES * MOST * V];
    rig r;

    (void)state;
    for (size_t i = 0; open_rig(&r, i, p); i++) {
        const part twice[] = {{0, 0, 3}, {1, 0, 2}, {0, 3, 1}}, good[] = {{0, 0, 3}, {1, 0, 2}};
        const uint32_t kept = r.number[1];
        mlxr_error err;
        assert_refused(&r, twice, 3, "sequence 2 are in two places");
        r.number[1] = r.number[0];
        assert_refused(&r, good, 2, "both sequence 2");
        r.number[1] = N_SEQUENCES;
        assert_refused(&r, good, 2, "the state has 3");
        r.number[1] = kept;
        assert_ok(run_parts(&r, good, 2, 0, NULL, out, &err), &err);
        close_rig(&r);
    }
    mlxr_program_free(p);
}

static void too_many_sequences_are_out_of_memory(void **state)
{
    mlxr_program *p = make_program(false);
    mlxr_state *s;
    mlxr_error err;
    rig r;

    (void)state;
    for (size_t i = 0; open_rig(&r, i, p); i++) {
        assert_int_equal(mlxr_executable_block_bytes(r.executable), 0);
        assert_int_equal(mlxr_state_create(&s, r.executable, 1, SIZE_MAX / 4, &err), MLXR_E_NOMEM);
        assert_null(s);
        assert_int_equal(r.device->ops->state_create(&s, r.executable, 1, SIZE_MAX / 64, &err), MLXR_E_NOMEM);
        assert_null(s);
        close_rig(&r);
    }
    mlxr_program_free(p);
}

/* ---- copies ---- */

/* A sequence goes on in another's place with copies of its blocks and of its own state, from either version. */
static void a_copy_goes_on_as_the_first_would(void **state)
{
    enum { N = 90, MORE = 60 };
    float *want = new_logits(MORE), *got = new_logits(N + MORE);

    (void)state;
    for (int with_attention = 0; with_attention < 2; with_attention++) {
        mlxr_program *p = make_program(with_attention);
        rig r;
        for (size_t i = 0; open_rig(&r, i, p); i++) {
            size_t n_bytes = mlxr_executable_snapshot_bytes(r.executable);
            void *now = malloc(n_bytes), *before = malloc(n_bytes);
            mlxr_error err;
            assert_non_null(now);
            assert_non_null(before);
            assert_true(mlxr_executable_shares_blocks(r.executable));
            assert_int_equal(2 * n_bytes, mlxr_executable_sequence_bytes(r.executable));
            for (size_t n = N; n < N + 2; n++) {
                uint32_t own = r.number[0], other = r.number[1];
                must_run(&r, 0, 0, n - 1, got);
                must_run(&r, 0, n - 1, 1, got);
                assert_ok(mlxr_state_read_sequence(now, r.state, own, n, &err), &err);
                assert_ok(mlxr_state_read_sequence(before, r.state, own, n - 1, &err), &err);
                assert_fails(mlxr_state_read_sequence(now, r.state, own, n - 2, &err),
                             MLXR_E_INVALID_ARGUMENT, "it has those after", &err);
                must_run(&r, 0, n, MORE, want);
                must_run(&r, 1, 0, 7, got); /* what was there before does not matter */
                for (size_t j = 0; j < N_BLOCKS; j++)
                    assert_ok(mlxr_state_copy_block(r.state, (uint32_t)(j * N_SEQUENCES + other),
                                                    (uint32_t)(j * N_SEQUENCES + own), &err),
                              &err);
                r.number[0] = other;
                r.number[1] = own;
                assert_ok(mlxr_state_write_sequence(r.state, other, n, now, &err), &err);
                must_run(&r, 0, n, MORE, got);
                assert_same(got, want, MORE);
                assert_ok(mlxr_state_write_sequence(r.state, other, n - 1, before, &err), &err);
                assert_refused(&r, &(part){0, n, 1}, 1, "begins at position");
                must_run(&r, 0, n - 1, 1, got);
                must_run(&r, 0, n, MORE, got);
                assert_same(got, want, MORE);
                assert_fails(mlxr_state_copy_block(r.state, 0, N_SEQUENCES * N_BLOCKS, &err),
                             MLXR_E_INVALID_ARGUMENT, "device: block", &err);
                assert_fails(mlxr_state_write_sequence(r.state, N_SEQUENCES, n, now, &err),
                             MLXR_E_INVALID_ARGUMENT, "the state has 3", &err);
                assert_fails(mlxr_state_read_sequence(now, r.state, N_SEQUENCES, n, &err),
                             MLXR_E_INVALID_ARGUMENT, "the state has 3", &err);
                assert_int_equal(mlxr_state_write_sequence(r.state, 0, 0, now, &err),
                                 MLXR_E_INVALID_ARGUMENT);
            }
            free(now);
            free(before);
            close_rig(&r);
        }
        mlxr_program_free(p);
    }
    free(want);
    free(got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_change_no_bit),
        cmocka_unit_test(unwanted_rows_change_no_bit),
        cmocka_unit_test(devices_agree),
        cmocka_unit_test(company_and_lost_steps_change_no_bit),
        cmocka_unit_test(a_step_cut_short_can_be_run_again),
        cmocka_unit_test(steps_without_their_state_are_refused),
        cmocka_unit_test(a_number_used_again_begins_with_zeros),
        cmocka_unit_test(a_copy_goes_on_as_the_first_would),
        cmocka_unit_test(sequences_are_told_apart),
        cmocka_unit_test(too_many_sequences_are_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
