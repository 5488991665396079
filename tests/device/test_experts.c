/* ROUTE and EXPERTS: ref against arithmetic in double written here, cpu against ref, and what must not show in the
 * bits: how gate and up lie in the checkpoint, the tokens beside one, the number of threads. */
#include <math.h>

#include "device/cpu/kernels.h"
#include "device/made_experts.h"
#include "test.h"

static const how on_ref = {.device = "ref"};

/* The i-th way of the cpu device here: each instruction set, exact, and those that have them in integers. */
static bool nth_cpu(size_t i, how *h)
{
    const mlxr_cpu_kernels *k;

    for (size_t i_isa = 0; (k = mlxr_cpu_kernels_at(i_isa)) != NULL; i_isa++) {
        size_t n = k->ints ? 2 : 1;
        *h = (how){"cpu", k->isa, i == 1};
        if (i < n) return true;
        i -= n;
    }
    return false;
}

/* 0 is ref. */
static bool nth_how(size_t i, how *h)
{
    *h = on_ref;
    return i == 0 || nth_cpu(i - 1, h);
}

/* How far from ref: float32 sums in another order, or 16 bits of each activation. */
static double tolerance_of(how h)
{
    return h.fast ? 2e-4 : 1e-5;
}

/* Relative to the largest value of a row: sums of values of both signs have no better. */
static void assert_rows_close(const char *what, const float *got, const double *want, size_t n, size_t width,
                              double tolerance)
{
    for (size_t t = 0; t < n; t++) {
        double most = 0;
        for (size_t i = 0; i < width; i++) most = fmax(most, fabs(want[t * width + i]));
        for (size_t i = 0; i < width; i++) {
            double g = got[t * width + i], w = want[t * width + i];
            if (!(fabs(g - w) <= tolerance * most)) {
                fail_msg("%s: token %zu [%zu] is %.9g, wanted %.9g", what, t, i, g, w);
            }
        }
    }
}

/* ---- the same in double ---- */

static void route_in_double(const spec *s, mlxr_program *p, size_t id, size_t *numbers, double *weights)
{
    const float *scores = floats_of(p, "scores") + id * s->E;
    bool *taken = calloc(s->E, sizeof *taken);
    double all = 0, of_best = 0;

    assert_non_null(taken);
    for (size_t j = 0; j < s->k; j++) {
        size_t best = s->E;
        for (size_t i = 0; i < s->E; i++) {
            if (!taken[i] && (best == s->E || scores[i] > scores[best])) best = i;
        }
        taken[best] = true;
        numbers[j] = best;
        of_best += exp(scores[best]);
    }
    for (size_t i = 0; i < s->E; i++) all += exp(scores[i]);
    for (size_t j = 0; j < s->k; j++) {
        double e = exp(scores[numbers[j]]), best_part = of_best / all;
        if (s->router == MLXR_ROUTER_TOPK_SOFTMAX) {
            weights[j] = e / of_best;
        } else {
            weights[j] = s->normalize ? e / all / best_part : e / all;
        }
        weights[j] *= s->scale;
        if (s->expert_weights) weights[j] *= floats_of(p, "expert_weights")[numbers[j]];
    }
    free(taken);
}

static double activated(const spec *s, double g, double u)
{
    const double pi = 3.14159265358979323846, alpha = (float)(ALPHA_TENTHS / 10.0f);
    switch (s->act) {
    case MLXR_ACT_SILU: return g / (1 + exp(-g)) * u;
    case MLXR_ACT_GELU: return g * erfc(-g / sqrt(2.0)) / 2 * u;
    case MLXR_ACT_GELU_TANH: return g / 2 * (1 + tanh(sqrt(2 / pi) * (g + 0.044715 * pow(g, 3)))) * u;
    case MLXR_ACT_SIGMOID: return 1 / (1 + exp(-g)) * u;
    case MLXR_ACT_SWIGLU_OAI:
        g = fmin(g, LIMIT);
        return (fmax(fmin(u, LIMIT), -LIMIT) + 1) * g / (1 + exp(-alpha * g));
    default: return g * u;
    }
}

static double dot_in_double(const mlxr_matrix *m, size_t row, const double *x)
{
    float *w = new_floats(m->n_cols);
    double sum = 0;

    mlxr_matrix_row(m, row, w);
    for (size_t i = 0; i < m->n_cols; i++) sum += w[i] * x[i];
    free(w);
    return sum;
}

static void experts_in_double(const spec *s, mlxr_program *p, size_t id, double *out)
{
    double *x = calloc(s->D, sizeof *x), *h = calloc(s->F, sizeof *h),
           *weights = calloc(s->k, sizeof *weights);
    size_t *numbers = calloc(s->k, sizeof *numbers);
    const mlxr_weight *gate = weight_named(p, "gate"), *up = weight_named(p, "up");

    assert_true(x && h && weights && numbers);
    route_in_double(s, p, id, numbers, weights);
    for (size_t i = 0; i < s->D; i++) {
        out[i] = 0;
        x[i] = floats_of(p, "x")[id * s->D + i];
    }
    for (size_t j = 0; j < s->k; j++) {
        size_t e = numbers[j];
        for (size_t i = 0; i < s->F; i++) {
            double g = dot_in_double(&gate->experts[e], laid_row(s, false, i), x);
            double u = dot_in_double(up ? &up->experts[e] : &gate->experts[e], laid_row(s, true, i), x);
            if (s->biases) g += bias_of(OF_GATE, e, i), u += bias_of(OF_UP, e, i);
            h[i] = activated(s, g, u);
        }
        for (size_t i = 0; i < s->D; i++) {
            double y = dot_in_double(&weight_named(p, "down")->experts[e], i, h);
            if (s->biases) y += bias_of(OF_DOWN, e, i);
            out[i] += weights[j] * y;
        }
    }
    free(x);
    free(h);
    free(weights);
    free(numbers);
}

/* ---- the cases ---- */

static const storage stores[] = {
    {MLXR_QUANT_NONE, 0, 0, MLXR_F32},     {MLXR_QUANT_NONE, 0, 0, MLXR_F16},
    {MLXR_QUANT_NONE, 0, 0, MLXR_BF16},    {MLXR_QUANT_AFFINE, 4, 32, MLXR_F16},
    {MLXR_QUANT_AFFINE, 8, 64, MLXR_BF16}, {MLXR_QUANT_AFFINE, 3, 32, MLXR_F32},
    {MLXR_QUANT_MXFP4, 4, 32, MLXR_U8},    {MLXR_QUANT_NVFP4, 4, 16, MLXR_U8},
    {MLXR_QUANT_MXFP8, 8, 32, MLXR_U8},
};
static const mlxr_act acts[] = {MLXR_ACT_SILU,    MLXR_ACT_GELU,       MLXR_ACT_GELU_TANH,
                                MLXR_ACT_SIGMOID, MLXR_ACT_SWIGLU_OAI, MLXR_ACT_NONE};

/* Every storage, layout, activation and router, biases or none, k from 1 to E; what one case has follows from its
 * number. false: no such case. */
static bool nth_case(size_t i, spec *s)
{
    static const size_t shapes[][4] = {
        /* E, k, D, F; dense ones are odd */
        {1, 1, 7, 3},  {4, 1, 33, 17}, {4, 2, 50, 41},  {5, 5, 31, 65}, {8, 3, 97, 33},
        {16, 4, 5, 9}, {64, 8, 37, 5}, {64, 64, 9, 12}, {3, 2, 130, 1},
    };
    const size_t *shape = shapes[i % MLXR_COUNT(shapes)];

    if (i >= 4 * MLXR_COUNT(shapes) * MLXR_COUNT(stores)) return false;
    *s = plain(shape[0], shape[1], shape[2], shape[3]);
    s->stored = stores[i / MLXR_COUNT(shapes) % MLXR_COUNT(stores)];
    if (s->stored.mode != MLXR_QUANT_NONE) {
        s->D = mlxr_round_up(s->D, s->stored.group_size);
        s->F = mlxr_round_up(s->F, s->stored.group_size);
    }
    s->n_ids = s->D;
    s->gate_up = (mlxr_gate_up)(i % 3 + i / 9) % 3;
    s->act = acts[(i + i / 11) % MLXR_COUNT(acts)];
    s->router = i % 2 ? MLXR_ROUTER_TOPK_SOFTMAX : MLXR_ROUTER_SOFTMAX_TOPK;
    s->normalize = i / 2 % 2;
    s->biases = i / 3 % 2;
    s->expert_weights = i / 5 % 2;
    s->scale = i % 4 ? 1.0f : 2.5f;
    return true;
}

static void ref_equals_double(void **state)
{
    enum { N = 7 };
    spec s;

    (void)state;
    for (size_t i = 0; nth_case(i, &s); i++) {
        mlxr_program *p = experts_program(&s, false);
        float *got = run_on(on_ref, 1, p, &s, N);
        double *want = calloc(N * s.D, sizeof *want);
        char what[64];
        assert_non_null(want);
        snprintf(what, sizeof what, "ref, case %zu", i);
        for (size_t t = 0; t < N; t++) experts_in_double(&s, p, t % s.n_ids, want + t * s.D);
        /* gate, up, what comes of them, and the weights are rounded to float32 */
        assert_rows_close(what, got, want, N, s.D, 1e-6);
        free(got);
        free(want);
        mlxr_program_free(p);
    }
}

static void layouts_are_the_same_on_ref(void **state)
{
    enum { N = 5 };
    spec s;

    (void)state;
    for (size_t i = 0; nth_case(i, &s); i += 5) {
        float *first = NULL;
        for (size_t layout = 0; layout < 3; layout++) {
            mlxr_program *p;
            float *out;
            s.gate_up = (mlxr_gate_up)layout;
            p = experts_program(&s, false);
            out = run_on(on_ref, 1, p, &s, N);
            if (first) {
                assert_memory_equal(out, first, N * s.D * sizeof *out);
                free(out);
            } else {
                first = out;
            }
            mlxr_program_free(p);
        }
        free(first);
    }
}

/* ---- ROUTE ---- */

static void run_route(how h, const mlxr_program *p, const spec *s, size_t n, float *out)
{
    session se = open_session(h, 1, p);
    assert_int_equal(step(&se, s, 0, n, 1, out), n);
    close_session(&se);
}

static void routes_equal_double(void **state)
{
    enum { N = 9 };
    how h;

    (void)state;
    for (size_t i_how = 0; nth_how(i_how, &h); i_how++) {
        for (size_t E = 1; E <= 64; E += E < 6 ? 1 : 29) {
            for (size_t k = 1; k <= E; k += E < 6 ? 1 : 9) {
                for (size_t variant = 0; variant < 8; variant++) {
                    spec s = plain(E, k, 1, 1);
                    mlxr_program *p;
                    float *got = new_floats(N * 2 * k);
                    size_t *numbers = calloc(k, sizeof *numbers);
                    double *weights = calloc(k, sizeof *weights);
                    assert_true(numbers && weights);
                    s.n_ids = 2 * k;
                    s.router = variant & 1 ? MLXR_ROUTER_TOPK_SOFTMAX : MLXR_ROUTER_SOFTMAX_TOPK;
                    s.normalize = variant & 2;
                    s.expert_weights = variant & 4;
                    s.scale = variant & 4 ? 0.3f : 1.0f;
                    p = route_program(&s);
                    bind_dense(p, "scores", OF_SCORES + 1000 * variant, 3.0f);
                    run_route(h, p, &s, N, got);
                    for (size_t t = 0; t < N; t++) {
                        route_in_double(&s, p, t % s.n_ids, numbers, weights);
                        for (size_t j = 0; j < k; j++) {
                            assert_true(got[t * 2 * k + j] == (float)numbers[j]);
                            assert_true(fabs(got[t * 2 * k + k + j] - weights[j]) <= 1e-6 * fabs(weights[j]));
                        }
                    }
                    free(got);
                    free(numbers);
                    free(weights);
                    mlxr_program_free(p);
                }
            }
        }
    }
}

/* Equal scores, infinite ones, and NaN: what is chosen is in an order, and always k experts of the E. */
static void routes_have_an_order(void **state)
{
    enum { E = 6, K = 4, N = 8 };
    static const float scores[N][E] = {
        {1, 2, 2, 1, 2, 1},
        {0, 0, 0, 0, 0, 0},
        {NAN, 1, NAN, 3, 2, NAN},
        {NAN, NAN, NAN, NAN, NAN, NAN},
        {-INFINITY, INFINITY, 0, NAN, INFINITY, -INFINITY},
        {-INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY},
        {3e38f, -3e38f, 0, 1, 2, 3},
        {-0.0f, 0.0f, -0.0f, 0.0f, -1.0f, 1.0f},
    };
    static const float want[N][K] = {
        {1, 2, 4, 0}, {0, 1, 2, 3}, {3, 4, 1, 0}, {0, 1, 2, 3},
        {1, 4, 2, 0}, {0, 1, 2, 3}, {0, 5, 4, 3}, {5, 0, 1, 2},
    };
    how h;

    (void)state;
    for (size_t i_how = 0; nth_how(i_how, &h); i_how++) {
        for (size_t variant = 0; variant < 4; variant++) {
            spec s = plain(E, K, 1, 1);
            float got[N * 2 * K];
            mlxr_program *p;
            s.n_ids = 2 * K;
            s.router = variant & 1 ? MLXR_ROUTER_TOPK_SOFTMAX : MLXR_ROUTER_SOFTMAX_TOPK;
            s.normalize = variant & 2;
            p = route_program(&s);
            memcpy(floats_of(p, "scores"), scores, sizeof scores);
            run_route(h, p, &s, N, got);
            for (size_t t = 0; t < N; t++) assert_memory_equal(got + t * 2 * K, want[t], sizeof want[t]);
            /* of equal scores equal weights; of one far above the others all the weight */
            assert_true(got[2 * K + K] == got[2 * K + K + 3] && got[2 * K + K] > 0);
            assert_true(got[6 * 2 * K + K] == 1 && got[6 * 2 * K + K + 1] == 0);
            mlxr_program_free(p);
        }
    }
}

/* What no ROUTE writes: an expert is read all the same, and one that is there. */
static void numbers_out_of_range_are_harmless(void **state)
{
    static const float numbers[] = {-1, 3, 1e9f, -1e30f, INFINITY, NAN, 2.9f, -0.5f};
    how h;
    enum { N = 16 };

    (void)state;
    for (size_t i_how = 0; nth_how(i_how, &h); i_how++) {
        spec s = plain(3, 2, 24, 10);
        mlxr_program *p = experts_program(&s, true);
        float *route = floats_of(p, "route"), *out;
        for (size_t t = 0; t < N; t++) {
            route[4 * t] = numbers[t % MLXR_COUNT(numbers)];
            route[4 * t + 1] = numbers[t * 3 % MLXR_COUNT(numbers)];
        }
        out = run_on(h, 1, p, &s, N);
        for (size_t i = 0; i < N * s.D; i++) assert_true(isfinite(out[i]));
        free(out);
        mlxr_program_free(p);
    }
}

/* ---- cpu ---- */

static double *to_double(const float *v, size_t n)
{
    double *d = calloc(n, sizeof *d);
    assert_non_null(d);
    for (size_t i = 0; i < n; i++) d[i] = v[i];
    return d;
}

/* Tokens in batches of 1, 2, 3, ... and all of them at once: against ref, and the same bits either way. */
static void cpu_equals_ref(void **state)
{
    enum { N = 40 };
    how h;
    spec s;

    (void)state;
    for (size_t i = 0; nth_case(i, &s); i++) {
        mlxr_program *p = experts_program(&s, false);
        float *ref = run_on(on_ref, 1, p, &s, N);
        double *want = to_double(ref, N * s.D);
        for (size_t i_how = 0; nth_cpu(i_how, &h); i_how++) {
            float *got = run_on(h, 1, p, &s, N), *parts = new_floats(N * s.D);
            session se = open_session(h, 1, p);
            char what[64];
            snprintf(what, sizeof what, "%s%s, case %zu", h.isa, h.fast ? " fast" : "", i);
            assert_rows_close(what, got, want, N, s.D, tolerance_of(h));
            for (size_t t = 0, n = 1; t < N; t += n, n++) {
                size_t to = t + n < N ? t + n : N;
                step(&se, &s, t, to, 1, parts + t * s.D);
            }
            assert_memory_equal(got, parts, N * s.D * sizeof *got);
            close_session(&se);
            free(got);
            free(parts);
        }
        free(ref);
        free(want);
        mlxr_program_free(p);
    }
}

/* Shapes that are cut into several ranges, of one token and of many. */
static spec large(size_t i)
{
    static const spec shapes[] = {
        {.E = 12, .k = 3, .D = 192, .F = 320, .stored = {MLXR_QUANT_AFFINE, 4, 32, MLXR_F16}},
        {.E = 6, .k = 2, .D = 515, .F = 231, .stored = {MLXR_QUANT_NONE, 0, 0, MLXR_BF16}},
        {.E = 4, .k = 2, .D = 320, .F = 448, .stored = {MLXR_QUANT_AFFINE, 6, 64, MLXR_BF16}},
        {.E = 9, .k = 4, .D = 288, .F = 224, .stored = {MLXR_QUANT_MXFP4, 4, 32, MLXR_U8}},
    };
    spec s = shapes[i % MLXR_COUNT(shapes)];
    s.n_ids = s.D;
    s.gate_up = (mlxr_gate_up)(i % 3);
    s.act = i % 2 ? MLXR_ACT_SWIGLU_OAI : MLXR_ACT_SILU;
    s.normalize = s.biases = true;
    s.scale = 1.0f;
    return s;
}

static void threads_and_company_change_no_bit(void **state)
{
    enum { N = 90 };
    how h;

    (void)state;
    for (size_t i = 0; i < 12; i++) {
        spec s = large(i);
        mlxr_program *p = experts_program(&s, false);
        float *ref = run_on(on_ref, 1, p, &s, 3);
        double *want = to_double(ref, 3 * s.D);
        for (size_t i_how = 0; nth_cpu(i_how, &h); i_how++) {
            float *first = run_on(h, 1, p, &s, N);
            assert_rows_close(h.isa, first, want, 3, s.D, tolerance_of(h));
            for (size_t n_threads = 1; n_threads <= 5; n_threads += n_threads == 2 ? 3 : 1) {
                float *other = new_floats(N * s.D);
                session se = open_session(h, n_threads, p);
                step(&se, &s, 0, 60, 1, other);
                step(&se, &s, 60, 63, 1, other + 60 * s.D);
                for (size_t t = 63; t < N; t++) step(&se, &s, t, t + 1, 1, other + t * s.D);
                assert_memory_equal(first, other, N * s.D * sizeof *first);
                close_session(&se);
                free(other);
            }
            free(first);
        }
        free(ref);
        free(want);
        mlxr_program_free(p);
    }
}

/* Three passes; EXPERTS for every token, the ATTEND over them for the wanted ones. All tokens choose one expert in
 * one case: a group of a whole pass. */
static void passes_and_wanted_rows_change_no_bit(void **state)
{
    enum { N = MOST_TOKENS };
    static const size_t every[] = {1, 7, 600};

    (void)state;
    for (size_t i = 0; i < 6; i++) {
        spec s = plain(i % 3 ? 5 : 1, i % 3 ? 2 : 1, 40, 36);
        mlxr_program *p;
        float *parts, *whole;
        session se;
        if (i >= 3) {
            s.stored = (storage){MLXR_QUANT_AFFINE, 4, 32, MLXR_BF16};
            s.D = s.n_ids = 64;
            s.F = 96;
        }
        s.attends = i % 3 < 2;
        p = experts_program(&s, false);
        parts = new_floats(N * s.D);
        whole = new_floats(N * s.D);
        se = open_session((how){"cpu", NULL, i >= 3}, 2, p);
        for (size_t t = 0; t < N; t += 20) step(&se, &s, t, t + 20, 1, parts + t * s.D);
        for (size_t j = 0; j < MLXR_COUNT(every); j++) {
            size_t n_rows = step(&se, &s, 0, N, every[j], whole);
            assert_int_equal(n_rows, (N + every[j] - 1) / every[j]);
            for (size_t r = 0; r < n_rows; r++) {
                assert_memory_equal(whole + r * s.D, parts + r * every[j] * s.D, s.D * sizeof *whole);
            }
        }
        close_session(&se);
        free(parts);
        free(whole);
        mlxr_program_free(p);
    }
}

/* One token's NaN stays its own: also what a wider EXPERTS before left of it in memory that both use. */
static void nan_stays_with_its_token(void **state)
{
    enum { N = 24 };
    how h;

    (void)state;
    for (size_t i_how = 0; nth_how(i_how, &h); i_how++) {
        for (size_t i = 0; i < 6; i++) {
            spec s = plain(4, 2, N, 18);
            mlxr_program *p;
            float *before, *after;
            s.first_F = i % 3 * 45;
            if (i >= 3) {
                s.stored = (storage){MLXR_QUANT_AFFINE, 4, 32, MLXR_F16};
                s.D = s.n_ids = 64;
                s.F = 32;
                s.first_F = i % 3 * 64;
            }
            p = experts_program(&s, false);
            before = run_on(h, 1, p, &s, N);
            for (size_t j = 0; j < s.E; j++) floats_of(p, "scores")[5 * s.E + j] = NAN;
            floats_of(p, "x")[7 * s.D + 3] = NAN;
            after = run_on(h, 1, p, &s, N);
            for (size_t t = 0; t < N; t++) {
                if (t != 5 && t != 7) {
                    assert_memory_equal(before + t * s.D, after + t * s.D, s.D * sizeof *after);
                } else {
                    for (size_t j = 0; j < s.D; j++) assert_true(isnan(after[t * s.D + j]));
                }
            }
            free(before);
            free(after);
            mlxr_program_free(p);
        }
    }
}

/* ---- what is refused ---- */

static void assert_refused(const mlxr_program *p, const char *text)
{
    static const char *const devices[] = {"ref", "cpu"};

    for (size_t i = 0; i < MLXR_COUNT(devices); i++) {
        mlxr_device_options options = {.n_threads = 1};
        mlxr_device *d;
        mlxr_executable *e;
        mlxr_error err;
        assert_ok(mlxr_device_open(&d, devices[i], &options, &err), &err);
        assert_fails(mlxr_device_compile(&e, d, p, &err), MLXR_E_UNSUPPORTED, text, &err);
        assert_null(e);
        mlxr_device_close(d);
    }
}

static void unlike_experts_are_refused(void **state)
{
    spec s = plain(4, 2, 64, 32);
    mlxr_program *p;
    mlxr_matrix *stack;

    (void)state;
    s.biases = true;
    p = experts_program(&s, false);
    stack = (mlxr_matrix *)(uintptr_t)weight_named(p, "down")->experts;
    stack[2].dtype = MLXR_F16;
    stack[2].row_bytes /= 2;
    assert_refused(p, "down.weight: expert 2");
    stack[2] = stack[1];
    for (size_t e = 0; e < s.E; e++) stack[e].quant = (mlxr_quant){MLXR_QUANT_AFFINE, 7, 32};
    weight_named(p, "down")->m = stack[0];
    assert_refused(p, "down.weight");
    mlxr_program_free(p);

    p = experts_program(&s, false);
    weight_named(p, "up_bias")->m.quant = (mlxr_quant){MLXR_QUANT_AFFINE, 4, 32};
    assert_refused(p, "up_bias.bias");
    mlxr_program_free(p);

    s.act = (mlxr_act)(MLXR_ACT_SWIGLU_OAI + 1);
    p = experts_program(&s, false);
    assert_refused(p, "EXPERTS, layer 5): no such activation");
    mlxr_program_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ref_equals_double),
        cmocka_unit_test(layouts_are_the_same_on_ref),
        cmocka_unit_test(routes_equal_double),
        cmocka_unit_test(routes_have_an_order),
        cmocka_unit_test(numbers_out_of_range_are_harmless),
        cmocka_unit_test(cpu_equals_ref),
        cmocka_unit_test(threads_and_company_change_no_bit),
        cmocka_unit_test(passes_and_wanted_rows_change_no_bit),
        cmocka_unit_test(nan_stays_with_its_token),
        cmocka_unit_test(unlike_experts_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
