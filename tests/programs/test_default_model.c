/* The default model, when scripts/ have brought it: mlx-lm's 32 greedy tokens for five chats (make_default_model.py),
 * through the public runner, on the cpu device and on MLX's own CPU. Without the model: SKIP. */
#include "test.h"

#include "base/fs.h"
#include "base/json.h"
#include "device/device.h"

#define MODEL MLXR_SOURCE_DIR "/models/SmolLM2-135M-Instruct-4bit"

static mlxr_error err;

struct ids {
    int32_t ids[64];
    size_t n;
};

static void on_event(const mlxr_event *ev, void *ud)
{
    struct ids *got = ud;
    if (ev->type == MLXR_EVENT_TOKEN && ev->id >= 0 && got->n < MLXR_COUNT(got->ids))
        got->ids[got->n++] = ev->id;
}

static void check_device(const char *device)
{
    mlxr_runner_options o = mlxr_runner_options_default();
    mlxr_runner *r;
    json_t *doc, *c;
    size_t i;

    o.device = device;
    o.precision = MLXR_PRECISION_EXACT;
    o.context_length = 256;
    assert_ok(mlxr_runner_open(&r, MODEL, &o, &err), &err);
    assert_ok(mlxr_json_read(&doc, MLXR_TEST_DIR "/fixtures/default_model.json", 1 << 20, &err), &err);
    json_array_foreach(json_object_get(doc, "cases"), i, c)
    {
        const json_t *want = json_object_get(c, "greedy");
        mlxr_request q = mlxr_request_default();
        mlxr_stats stats;
        struct ids got = {.n = 0};
        q.prompt = json_string_value(json_object_get(c, "prompt"));
        q.max_tokens = (int32_t)json_array_size(want);
        q.ignore_eos = true;
        q.sampling.temperature = 0;
        assert_ok(mlxr_runner_generate(r, &q, on_event, &got, &stats, &err), &err);
        assert_int_equal(stats.prompt_token_count, json_array_size(json_object_get(c, "prompt_ids")));
        assert_int_equal(got.n, json_array_size(want));
        for (size_t k = 0; k < got.n; k++)
            assert_int_equal(got.ids[k], json_integer_value(json_array_get(want, k)));
    }
    json_decref(doc);
    mlxr_runner_close(r);
}

static void greedy_tokens_are_mlx_lms_on_cpu(void **state)
{
    (void)state;
    check_device("cpu");
}

static void greedy_tokens_are_mlx_lms_on_mlx(void **state)
{
    char text[512];
    (void)state;
    if (!mlxr_device_probe_mlx(text, sizeof text, NULL)) {
        printf("SKIP: mlx:cpu: %s\n", text);
        return;
    }
    check_device("mlx:cpu");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_tokens_are_mlx_lms_on_cpu),
        cmocka_unit_test(greedy_tokens_are_mlx_lms_on_mlx),
    };
    if (!mlxr_path_is_dir(MODEL)) {
        printf("SKIP: the default model is not there (%s); scripts/demo.sh brings it\n", MODEL);
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
