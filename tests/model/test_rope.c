/* Rotary embeddings against mlx-lm's own numbers (rope.json, by make_rope.py), and hostile scaling objects. */
#include "model/rope.h"

#include <float.h>
#include <math.h>

#include "test.h"

/* The same float32 steps on the same libm give the same bits; of another libm powf, expf or log may differ in the last
 * one, and a division after it makes that two. */
#ifdef __GLIBC__
enum { MAX_ULPS = 1 };
#else
enum { MAX_ULPS = 2 };
#endif

static json_t *parse(const char *text)
{
    json_t *v = NULL;
    mlxr_error err;

    assert_ok(mlxr_json_parse(&v, text, strlen(text), "test", &err), &err);
    return v;
}

/* How many floats from a to b; for numbers of 0 and above. */
static int64_t ulps(float a, float b)
{
    int32_t x, y;

    if (!(a >= 0 && b >= 0)) return INT64_MAX;
    memcpy(&x, &a, sizeof x);
    memcpy(&y, &b, sizeof y);
    return llabs((int64_t)x - y);
}

static float float_at(const json_t *list, size_t i)
{
    return (float)json_number_value(json_array_get(list, i));
}

static void assert_floats(size_t i_case, const char *name, const float *got, const json_t *want, size_t n)
{
    assert_int_equal(json_array_size(want), n);
    for (size_t i = 0; i < n; i++)
        if (ulps(got[i], float_at(want, i)) > MAX_ULPS)
            fail_msg("case %zu, %s[%zu]: %.9g, wanted %.9g", i_case, name, i, (double)got[i],
                     (double)float_at(want, i));
}

/* mlx's exp on the CPU multiplies with log2(e) first, which costs it a rounding of the exponent: a relative error that
 * grows with -ln(inv_freq), and so an absolute one that never leaves float32's last bit of 1. (Its GPU kernels start
 * from log2(theta) and differ from both.) */
static void assert_near(size_t i_case, const float *got, const json_t *want, size_t n, float scale)
{
    assert_int_equal(json_array_size(want), n);
    for (size_t i = 0; i < n; i++) {
        double a = (double)got[i], b = (double)float_at(want, i);
        if (!(fabs(a / b - 1) <= 1.5e-6 && fabs(a - b) <= (double)(FLT_EPSILON * scale)))
            fail_msg("case %zu, inv_freq[%zu]: %.9g, mlx has %.9g", i_case, i, a, b);
    }
}

static json_t *read_cases(void)
{
    json_t *root = NULL;
    mlxr_error err;

    assert_ok(mlxr_json_read(&root, MLXR_TEST_DIR "/rope.json", 1 << 20, &err), &err);
    return root;
}

static mlxr_rope_source source_of(const json_t *c)
{
    const json_t *scaling = json_object_get(c, "scaling");
    return (mlxr_rope_source){
        .dims = (size_t)json_integer_value(json_object_get(c, "dims")),
        .theta = json_number_value(json_object_get(c, "theta")),
        .scaling = json_is_null(scaling) ? NULL : scaling,
        .max_position_embeddings = json_integer_value(json_object_get(c, "max_position_embeddings")),
        .original_max_position_embeddings = json_integer_value(
            json_object_get(c, "original_max_position_embeddings")),
    };
}

static void frequencies_are_mlx_lms(void **state)
{
    json_t *root = read_cases(), *cases = json_object_get(root, "cases");

    (void)state;
    assert_true(json_array_size(cases) >= 40);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i), *mlx = json_object_get(c, "mlx");
        mlxr_rope_source src = source_of(c);
        mlxr_rope rope;
        mlxr_error err;
        float scale = (float)json_number_value(json_object_get(c, "scale"));

        assert_ok(mlxr_rope_init(&rope, &src, "config.json", &err), &err);
        assert_int_equal(rope.n_rot, src.dims);
        if (ulps(rope.scale, scale) > MAX_ULPS)
            fail_msg("case %zu: scale %.9g, wanted %.9g", i, (double)rope.scale, (double)scale);
        assert_floats(i, "inv_freq", rope.inv_freq, json_object_get(c, "inv_freq"), src.dims / 2);
        if (mlx) assert_near(i, rope.inv_freq, mlx, src.dims / 2, rope.inv_freq[0]);
        assert_int_equal(rope.dynamic_context != 0, json_object_get(c, "at") != NULL);
        mlxr_rope_clear(&rope);
        assert_null(rope.inv_freq);
    }
    json_decref(root);
}

static void dynamic_frequencies_follow_the_position(void **state)
{
    json_t *root = read_cases(), *cases = json_object_get(root, "cases");
    size_t n_seen = 0;

    (void)state;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i), *at = json_object_get(c, "at");
        mlxr_rope_source src = source_of(c);
        mlxr_rope rope;
        mlxr_error err;
        float *f;

        if (!at) continue;
        n_seen++;
        assert_ok(mlxr_rope_init(&rope, &src, "config.json", &err), &err);
        assert_int_equal(rope.dynamic_context, src.max_position_embeddings);
        f = calloc(src.dims / 2, sizeof *f);
        assert_non_null(f);
        for (size_t j = 0; j < json_array_size(at); j++) {
            const json_t *one = json_array_get(at, j);
            size_t position = (size_t)json_integer_value(json_array_get(one, 0));
            mlxr_rope_frequencies_at(f, rope.n_rot, rope.dynamic_theta, rope.dynamic_factor,
                                     rope.dynamic_context, position);
            assert_floats(i, "at", f, json_array_get(one, 1), src.dims / 2);
            assert_near(i, f, json_array_get(one, 2), src.dims / 2, 1);
            if (position < rope.dynamic_context)
                assert_memory_equal(f, rope.inv_freq, src.dims / 2 * sizeof *f);
            else if (position > rope.dynamic_context)
                assert_true(f[1] < rope.inv_freq[1]);
        }
        free(f);
        mlxr_rope_clear(&rope);
    }
    assert_true(n_seen >= 4);
    json_decref(root);
}

static void a_far_dynamic_position_stays_finite(void **state)
{
    float f[2];

    (void)state;
    /* theta past float32: the smallest frequency is one over its square root, not 0 and not NaN. */
    mlxr_rope_frequencies_at(f, 4, 1e12f, 1e6f, 1, (size_t)1 << 40);
    assert_true(f[0] == 1 && f[1] > 0 && f[1] < 1e-18f);
    mlxr_rope_frequencies_at(f, 4, 10000, 2, 0, 7); /* context 0: not dynamic */
    assert_true(f[0] == 1 && ulps(f[1], 0.01f) <= 4);
}

static void a_pair_that_does_not_turn_has_frequency_0(void **state)
{
    json_t *scaling = parse("{\"rope_type\": \"proportional\", \"partial_rotary_factor\": 0.25}");
    mlxr_rope_source src = {.dims = 16, .theta = 1e6, .scaling = scaling};
    mlxr_rope rope;
    mlxr_error err;

    (void)state;
    assert_ok(mlxr_rope_init(&rope, &src, "config.json", &err), &err);
    assert_int_equal(rope.n_rot, 16);
    assert_true(rope.inv_freq[0] == 1 && rope.inv_freq[1] > 0);
    for (size_t i = 2; i < 8; i++) assert_true(rope.inv_freq[i] == 0);
    mlxr_rope_clear(&rope);
    json_decref(scaling);
}

static void hostile_scalings_are_refused_by_name(void **state)
{
    static const struct {
        const char *scaling;
        mlxr_status status;
        const char *text;
    } cases[] = {
        {"{\"type\": \"ntk-aware\"}", MLXR_E_UNSUPPORTED,
         "rope scaling \"ntk-aware\" is not supported; supported: default, linear, dynamic, llama3, yarn, "
         "deepseek_yarn, telechat3-yarn, longrope, su, proportional, mrope"},
        {"{\"type\": \"Yarn\", \"rope_type\": \"yarn\", \"factor\": 2}", MLXR_E_UNSUPPORTED, "\"Yarn\""},
        {"{\"type\": 3}", MLXR_E_FORMAT, "\"type\" is an integer"},
        {"{\"rope_type\": [\"yarn\"]}", MLXR_E_FORMAT, "\"rope_type\" is a list"},
        {"{\"type\": \"yarn\\u0000\"}", MLXR_E_FORMAT, "NUL"},

        {"{\"type\": \"linear\"}", MLXR_E_FORMAT, "no \"factor\""},
        {"{\"type\": \"linear\", \"factor\": null}", MLXR_E_FORMAT, "no \"factor\""},
        {"{\"type\": \"linear\", \"factor\": 0}", MLXR_E_FORMAT, "\"factor\" is 0, wanted 0.001 to 1e+06"},
        {"{\"type\": \"linear\", \"factor\": -4}", MLXR_E_FORMAT, "\"factor\" is -4"},
        {"{\"type\": \"linear\", \"factor\": 1e300}", MLXR_E_FORMAT, "\"factor\" is 1e+300"},
        {"{\"type\": \"linear\", \"factor\": 1e-300}", MLXR_E_FORMAT, "\"factor\" is 1e-300"},
        {"{\"type\": \"linear\", \"factor\": \"8\"}", MLXR_E_FORMAT, "\"factor\" is a string"},
        {"{\"type\": \"linear\", \"factor\": true}", MLXR_E_FORMAT, "\"factor\" is a boolean"},
        {"{\"type\": \"linear\", \"factor\": {}}", MLXR_E_FORMAT, "\"factor\" is an object"},

        {"{\"type\": \"dynamic\"}", MLXR_E_FORMAT, "no \"factor\""},
        {"{\"type\": \"dynamic\", \"factor\": -1}", MLXR_E_FORMAT, "\"factor\" is -1"},

        {"{\"type\": \"llama3\"}", MLXR_E_FORMAT, "no \"factor\""},
        {"{\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 0}", MLXR_E_FORMAT,
         "\"low_freq_factor\" is 0"},
        {"{\"type\": \"llama3\", \"factor\": 8, \"high_freq_factor\": 1}", MLXR_E_FORMAT,
         "\"high_freq_factor\" is 1, wanted more than low_freq_factor (1)"},
        {"{\"type\": \"llama3\", \"factor\": 8, \"high_freq_factor\": 1e99}", MLXR_E_FORMAT,
         "\"high_freq_factor\" is 1e+99"},
        {"{\"type\": \"llama3\", \"factor\": 8, \"original_max_position_embeddings\": 0}", MLXR_E_FORMAT,
         "\"original_max_position_embeddings\" is 0"},
        {"{\"type\": \"llama3\", \"factor\": 8, \"original_max_position_embeddings\": []}", MLXR_E_FORMAT,
         "\"original_max_position_embeddings\" is a list"},

        {"{\"type\": \"yarn\"}", MLXR_E_FORMAT, "no \"factor\""},
        {"{\"type\": \"yarn\", \"factor\": 1e7}", MLXR_E_FORMAT, "\"factor\" is 1e+07"},
        {"{\"type\": \"yarn\", \"factor\": 4, \"beta_fast\": 0}", MLXR_E_FORMAT, "\"beta_fast\" is 0"},
        {"{\"type\": \"yarn\", \"factor\": 4, \"beta_slow\": -1}", MLXR_E_FORMAT, "\"beta_slow\" is -1"},
        {"{\"type\": \"yarn\", \"factor\": 4, \"beta_fast\": \"32\"}", MLXR_E_FORMAT,
         "\"beta_fast\" is a string"},
        {"{\"type\": \"yarn\", \"factor\": 4, \"mscale\": -10}", MLXR_E_FORMAT, "\"mscale\" is -10"},
        {"{\"type\": \"yarn\", \"factor\": 4, \"mscale_all_dim\": -10}", MLXR_E_FORMAT,
         "\"mscale_all_dim\" is -10"},
        {"{\"type\": \"yarn\", \"factor\": 4, \"mscale_all_dim\": 1e30}", MLXR_E_FORMAT,
         "\"mscale_all_dim\" is 1e+30"},
        {"{\"type\": \"yarn\", \"factor\": 4, \"original_max_position_embeddings\": -4096}", MLXR_E_FORMAT,
         "\"original_max_position_embeddings\" is -4096"},

        {"{\"type\": \"longrope\", \"long_factor\": [1, 1, 1, 1]}", MLXR_E_FORMAT,
         "no \"original_max_position_embeddings\""},
        {"{\"type\": \"longrope\", \"original_max_position_embeddings\": 1}", MLXR_E_FORMAT,
         "\"original_max_position_embeddings\" is 1, wanted 2 to"},
        {"{\"type\": \"su\", \"original_max_position_embeddings\": 64}", MLXR_E_FORMAT,
         "the rope scaling has no \"long_factor\""},
        {"{\"type\": \"su\", \"original_max_position_embeddings\": 64, \"long_factor\": 2}", MLXR_E_FORMAT,
         "\"long_factor\" is not a list"},
        {"{\"type\": \"longrope\", \"original_max_position_embeddings\": 64, \"long_factor\": []}",
         MLXR_E_FORMAT, "\"long_factor\" is a list of 0, wanted 4 numbers, one for each rotated pair"},
        {"{\"type\": \"longrope\", \"original_max_position_embeddings\": 64, \"long_factor\": [1, 1, 1, 1, "
         "1]}",
         MLXR_E_FORMAT, "\"long_factor\" is a list of 5, wanted 4"},
        {"{\"type\": \"longrope\", \"original_max_position_embeddings\": 64, \"long_factor\": [1, 1, null, "
         "1]}",
         MLXR_E_FORMAT, "\"long_factor\"[2] is not a number"},
        {"{\"type\": \"longrope\", \"original_max_position_embeddings\": 64, \"long_factor\": [1, 0, 1, 1]}",
         MLXR_E_FORMAT, "\"long_factor\"[1] is 0, wanted 0.001 to 1e+06"},
        {"{\"type\": \"longrope\", \"original_max_position_embeddings\": 64, \"long_factor\": [1, 1, 1, -2]}",
         MLXR_E_FORMAT, "\"long_factor\"[3] is -2"},

        {"{\"type\": \"proportional\", \"factor\": 0}", MLXR_E_FORMAT, "\"factor\" is 0"},
        {"{\"type\": \"proportional\", \"partial_rotary_factor\": 1.5}", MLXR_E_FORMAT,
         "\"partial_rotary_factor\" is 1.5, wanted 0 to 1"},
        {"{\"type\": \"proportional\", \"partial_rotary_factor\": -0.25}", MLXR_E_FORMAT,
         "\"partial_rotary_factor\" is -0.25"},

        {"{\"type\": \"mrope\"}", MLXR_E_FORMAT, "the rope scaling has no \"mrope_section\""},
        {"{\"type\": \"mrope\", \"mrope_section\": 3}", MLXR_E_FORMAT, "\"mrope_section\" is not a list"},
        {"{\"type\": \"mrope\", \"mrope_section\": [2, 2]}", MLXR_E_FORMAT,
         "\"mrope_section\" is a list of 2, wanted 3"},
    };
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        json_t *scaling = NULL;
        mlxr_rope_source src = {.dims = 8, .theta = 10000, .max_position_embeddings = 128};
        mlxr_rope rope = {.n_rot = 99};
        mlxr_error err = {0};
        mlxr_status st;

        /* By hand: mlxr_json_parse refuses a NUL before rope.c could. */
        scaling = json_loads(cases[i].scaling, JSON_ALLOW_NUL, NULL);
        assert_non_null(scaling);
        src.scaling = scaling;
        st = mlxr_rope_init(&rope, &src, "config.json", &err);
        if (st != cases[i].status || !strstr(err.message, cases[i].text) ||
            strncmp(err.message, "config.json: ", 13) != 0)
            fail_msg("%s: got %s \"%s\", wanted %s with \"%s\"", cases[i].scaling, mlxr_status_name(st),
                     err.message, mlxr_status_name(cases[i].status), cases[i].text);
        assert_true(rope.inv_freq == NULL && rope.n_rot == 0);
        json_decref(scaling);
    }
}

static void arguments_out_of_range_are_refused_by_name(void **state)
{
    json_t *linear = parse("{\"type\": \"linear\", \"factor\": 2}");
    json_t *dynamic = parse("{\"type\": \"dynamic\", \"factor\": 2}");
    json_t *yarn = parse("{\"type\": \"yarn\", \"factor\": 2}");
    json_t *longrope = parse("{\"type\": \"longrope\", \"long_factor\": [1, 2, 3, 4]}");
    const int64_t huge = INT64_MAX;
    const struct {
        mlxr_rope_source src;
        const char *text;
    } cases[] = {
        {{.dims = 0, .theta = 10}, "0 values of a head are rotated, wanted an even number"},
        {{.dims = 7, .theta = 10}, "7 values of a head are rotated"},
        {{.dims = SIZE_MAX - 1, .theta = 10}, "values of a head are rotated"},
        {{.dims = 8, .theta = 0}, "\"rope_theta\" is 0, wanted 1 to 1e+12"},
        {{.dims = 8, .theta = -1e4}, "\"rope_theta\" is -10000"},
        {{.dims = 8, .theta = NAN, .scaling = linear}, "\"rope_theta\" is"},
        {{.dims = 8, .theta = INFINITY}, "\"rope_theta\" is inf"},
        {{.dims = 8, .theta = 1e13}, "\"rope_theta\" is 1e+13"},
        {{.dims = 8, .theta = 1, .scaling = yarn}, "\"rope_theta\" is 1, rope scaling \"yarn\" wants more"},
        {{.dims = 2, .theta = 10, .scaling = dynamic, .max_position_embeddings = 9},
         "rope scaling \"dynamic\" of 2 rotated values, wanted more than 2"},
        {{.dims = 8, .theta = 10, .scaling = dynamic}, "\"max_position_embeddings\" is 0"},
        {{.dims = 8, .theta = 10, .scaling = dynamic, .max_position_embeddings = huge},
         "\"max_position_embeddings\" is 9223372036854775807"},
        {{.dims = 8, .theta = 10, .scaling = dynamic, .max_position_embeddings = INT64_MIN},
         "\"max_position_embeddings\" is -9223372036854775808"},
        {{.dims = 8, .theta = 10, .scaling = longrope, .original_max_position_embeddings = 64},
         "\"max_position_embeddings\" is 0, rope scaling \"longrope\" wants 1 to"},
        {{.dims = 8,
          .theta = 10,
          .scaling = longrope,
          .max_position_embeddings = 64,
          .original_max_position_embeddings = 1},
         "\"original_max_position_embeddings\" is 1, wanted 2 to"},
        {{.dims = 8,
          .theta = 10,
          .scaling = longrope,
          .max_position_embeddings = 64,
          .original_max_position_embeddings = -5},
         "\"original_max_position_embeddings\" is -5"},
        {{.dims = 8,
          .theta = 10,
          .scaling = longrope,
          .max_position_embeddings = 64,
          .original_max_position_embeddings = huge},
         "\"original_max_position_embeddings\" is 9223372036854775807"},
    };
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        mlxr_rope rope;
        mlxr_error err;
        assert_fails(mlxr_rope_init(&rope, &cases[i].src, "config.json", &err), MLXR_E_FORMAT, cases[i].text,
                     &err);
        assert_null(rope.inv_freq);
    }
    json_decref(linear);
    json_decref(dynamic);
    json_decref(yarn);
    json_decref(longrope);
}

/* Whatever passes the bounds must give numbers that rotate. */
static void the_ends_of_all_bounds_give_finite_numbers(void **state)
{
    static const char *const scalings[] = {
        "{}",
        "{\"type\": \"linear\", \"factor\": 1e-3}",
        "{\"type\": \"linear\", \"factor\": 1e6}",
        "{\"type\": \"dynamic\", \"factor\": 1e6}",
        "{\"type\": \"llama3\", \"factor\": 1e-3, \"low_freq_factor\": 1e-3, \"high_freq_factor\": 1e6}",
        "{\"type\": \"llama3\", \"factor\": 1e6, \"high_freq_factor\": 1.0000000000001}",
        "{\"type\": \"llama3\", \"factor\": 1e6, \"original_max_position_embeddings\": 1099511627776}",
        "{\"type\": \"yarn\", \"factor\": 1e6, \"mscale\": 1000}",
        "{\"type\": \"yarn\", \"factor\": 1e6, \"mscale\": 0, \"mscale_all_dim\": 1000}",
        "{\"type\": \"yarn\", \"factor\": 1e-3, \"beta_fast\": 1e-3, \"beta_slow\": 1e6}",
        "{\"type\": \"yarn\", \"factor\": 1e6, \"beta_fast\": 1e6, \"beta_slow\": 1e-3}",
        "{\"type\": \"yarn\", \"factor\": 1e6, \"original_max_position_embeddings\": 1099511627776}",
        "{\"type\": \"longrope\", \"long_factor\": [1e-3, 1e6, 1e6, 1e-3]}",
        "{\"type\": \"proportional\", \"factor\": 1e6, \"partial_rotary_factor\": 0}",
    };
    static const double thetas[] = {1, 1.0000001, 2, 1e12};

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(scalings); i++)
        for (size_t t = 0; t < MLXR_COUNT(thetas); t++) {
            json_t *scaling = parse(scalings[i]);
            mlxr_rope_source src = {.dims = 8,
                                    .theta = thetas[t],
                                    .scaling = scaling,
                                    .max_position_embeddings = (int64_t)1 << 40,
                                    .original_max_position_embeddings = 2};
            mlxr_rope rope = {0};
            mlxr_error err;
            if (t > 0 || !strstr(scalings[i], "yarn")) {
                assert_ok(mlxr_rope_init(&rope, &src, "config.json", &err), &err);
                for (size_t j = 0; j < 4; j++)
                    if (!(rope.inv_freq[j] >= 0 && rope.inv_freq[j] <= 1001))
                        fail_msg("%s, theta %g: inv_freq[%zu] is %g", scalings[i], thetas[t], j,
                                 (double)rope.inv_freq[j]);
                assert_true(isfinite(rope.scale) && rope.scale > 0);
            }
            mlxr_rope_clear(&rope);
            json_decref(scaling);
        }
}

static void the_scaling_is_found_in_both_places_and_by_layer_type(void **state)
{
    static const struct {
        const char *config, *layer_type;
        mlxr_status status;
        const char *text; /* of the error, or the "type" found; NULL: no scaling */
        double theta;     /* with 10000 as the default */
    } cases[] = {
        {"{}", NULL, MLXR_OK, NULL, 10000},
        {"{}", "full_attention", MLXR_OK, NULL, 10000},
        {"{\"rope_theta\": 5}", NULL, MLXR_OK, NULL, 5},
        {"{\"rope_scaling\": null, \"rope_parameters\": null, \"rope_theta\": null}", NULL, MLXR_OK, NULL,
         10000},
        {"{\"rope_scaling\": {\"type\": \"a\"}}", NULL, MLXR_OK, "a", 10000},
        {"{\"rope_parameters\": {\"type\": \"b\", \"rope_theta\": 7}}", NULL, MLXR_OK, "b", 7},
        {"{\"rope_parameters\": {\"type\": \"b\", \"rope_theta\": 7}, \"rope_theta\": 5}", NULL, MLXR_OK, "b",
         5},
        {"{\"rope_scaling\": null, \"rope_parameters\": {\"type\": \"b\"}}", "full_attention", MLXR_OK, "b",
         10000},
        {"{\"rope_scaling\": {\"type\": \"a\"}, \"rope_parameters\": {\"type\": \"b\", \"rope_theta\": 7}}",
         NULL, MLXR_OK, "a", 7},
        {"{\"rope_theta\": 5, \"rope_parameters\": {\"full_attention\": {\"type\": \"f\", \"rope_theta\": 9},"
         " \"sliding_attention\": {\"type\": \"s\"}}}",
         "full_attention", MLXR_OK, "f", 9},
        {"{\"rope_theta\": 5, \"rope_parameters\": {\"full_attention\": {\"type\": \"f\", \"rope_theta\": 9},"
         " \"sliding_attention\": {\"type\": \"s\"}}}",
         "sliding_attention", MLXR_OK, "s", 5},
        {"{\"rope_scaling\": {\"chunked\": {\"type\": \"c\"}}}", "chunked", MLXR_OK, "c", 10000},
        {"{\"rope_scaling\": {\"chunked\": {\"type\": \"c\"}}}", NULL, MLXR_E_UNSUPPORTED,
         "\"rope_scaling\" for each layer type is not supported", 0},
        {"{\"rope_parameters\": {\"full_attention\": {}}}", NULL, MLXR_E_UNSUPPORTED,
         "\"rope_parameters\" for each layer type is not supported", 0},
        {"{\"rope_parameters\": {\"full_attention\": {}}}", "sliding_attention", MLXR_E_FORMAT,
         "\"rope_parameters\" has no \"sliding_attention\"", 0},
        {"{\"rope_parameters\": {\"full_attention\": 4}}", "full_attention", MLXR_E_FORMAT,
         "\"rope_parameters\": \"full_attention\" is not an object", 0},
        {"{\"rope_scaling\": [4]}", NULL, MLXR_E_FORMAT, "\"rope_scaling\" is not an object", 0},
        {"{\"rope_parameters\": \"yarn\"}", NULL, MLXR_E_FORMAT, "\"rope_parameters\" is not an object", 0},
        {"{\"rope_theta\": 0}", NULL, MLXR_E_FORMAT, "\"rope_theta\" is 0", 0},
        {"{\"rope_theta\": \"1e4\"}", NULL, MLXR_E_FORMAT, "\"rope_theta\" is a string", 0},
        {"{\"rope_parameters\": {\"rope_theta\": 1e13}}", NULL, MLXR_E_FORMAT, "\"rope_theta\" is 1e+13", 0},
        {"{\"rope_parameters\": {\"full_attention\": {\"rope_theta\": -1}}}", "full_attention", MLXR_E_FORMAT,
         "\"rope_theta\" is -1", 0},
    };
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        json_t *config = parse(cases[i].config);
        const json_t *scaling = config;
        double theta = 10000;
        const char *type;
        mlxr_error err = {0};
        mlxr_status st = mlxr_rope_scaling_of(&scaling, config, cases[i].layer_type, "config.json", &err);

        if (st == MLXR_OK) st = mlxr_rope_theta_of(&theta, config, scaling, "config.json", &err);
        if (st != cases[i].status || (st != MLXR_OK && !strstr(err.message, cases[i].text)))
            fail_msg("%s: got %s \"%s\"", cases[i].config, mlxr_status_name(st), err.message);
        if (st == MLXR_OK) {
            type = json_string_value(json_object_get(scaling, "type"));
            if (cases[i].text ? !type || strcmp(type, cases[i].text) != 0 : scaling != NULL)
                fail_msg("%s: found the scaling \"%s\"", cases[i].config, type ? type : "(none)");
            if (theta != cases[i].theta) fail_msg("%s: theta %g", cases[i].config, theta);
        }
        json_decref(config);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frequencies_are_mlx_lms),
        cmocka_unit_test(dynamic_frequencies_follow_the_position),
        cmocka_unit_test(a_far_dynamic_position_stays_finite),
        cmocka_unit_test(a_pair_that_does_not_turn_has_frequency_0),
        cmocka_unit_test(hostile_scalings_are_refused_by_name),
        cmocka_unit_test(arguments_out_of_range_are_refused_by_name),
        cmocka_unit_test(the_ends_of_all_bounds_give_finite_numbers),
        cmocka_unit_test(the_scaling_is_found_in_both_places_and_by_layer_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
