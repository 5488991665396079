/* Conversion without adapters. What is written must be what mlx_lm.convert writes, tensor by tensor and bit by bit
 * (fixtures/convert.json, made by make_convert.py), must open, and must survive what can go wrong on the way. */
#include "compare.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static bool has_scales(const json_t *tensors)
{
    const json_t *value;
    const char *name;

    json_object_foreach((json_t *)(uintptr_t)tensors, name, value)
    {
        if (strstr(name, ".scales")) return true;
    }
    return false;
}

static void test_mlx_lm(void **state)
{
    json_t *root = read_json(MLXR_TEST_DIR "/fixtures/convert.json"), *cases = json_object_get(root, "cases");
    size_t n_bad = 0;

    assert_true(json_array_size(cases) > 50);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i), *quantization = json_object_get(c, "quantization");
        const char *model = json_string_value(json_object_get(c, "model"));
        char *args = json_dumps(json_object_get(c, "options"), JSON_COMPACT);
        mlxr_convert_options options = options_of(json_object_get(c, "options"));
        char from[512], what[512], dir[64];
        mlxr_model *m = NULL;
        mlxr_error err = {0};
        json_t *config;

        snprintf(from, sizeof from, "%s/%s", MLXR_SOURCE_DIR, model);
        snprintf(what, sizeof what, "%s %s", strrchr(model, '/') + 1, args);
        snprintf(dir, sizeof dir, "case-%zu", i);
        assert_ok(mlxr_convert(from, temp_path(dir), &options, &err), &err);
        n_bad += compare_tensors(what, temp_path(dir), json_object_get(c, "tensors"), NULL);
        config = read_json(temp_path(strcat(dir, "/config.json")));
        *strchr(dir, '/') = '\0';
        /* mlx-lm says how it would have quantized where no matrix could be. */
        if (json_is_null(quantization) || !has_scales(json_object_get(c, "tensors"))) quantization = NULL;
        if (json_object_get(config, "quantization") != quantization &&
            !json_equal(json_object_get(config, "quantization"), quantization)) {
            char *text = json_dumps(json_object_get(config, "quantization"), JSON_COMPACT);
            print_message("%s: \"quantization\" is %s\n", what, text ? text : "not there");
            free(text);
            n_bad++;
        }
        assert_true(!quantization ||
                    json_equal(json_object_get(config, "quantization_config"), quantization));
        assert_ok(mlxr_model_open(&m, temp_path(dir), &err), &err);
        mlxr_model_close(m);
        json_decref(config);
        remove_tree(temp_path(dir));
        free(args);
    }
    json_decref(root);
    assert_int_equal(n_bad, 0);
}

/* ---- what can go another way ---- */

#define F16_BIAS MLXR_SOURCE_DIR "/tests/model/models/f16_bias"
#define Q4_G32   MLXR_SOURCE_DIR "/tests/model/models/q4_g32"

static const mlxr_quant affine_4_32 = {MLXR_QUANT_AFFINE, 4, 32};

static void write_text(const char *path, const char *text)
{
    mlxr_error err = {0};
    assert_ok(mlxr_file_write(path, text, strlen(text), &err), &err);
}

static char *read_text(const char *path)
{
    mlxr_buf b = {0};
    mlxr_error err = {0};
    assert_ok(mlxr_file_read(&b, path, 1 << 20, &err), &err);
    return mlxr_buf_take(&b, NULL);
}

/* The folder's tensors are those of the other, whatever files they lie in. */
static void assert_same_tensors(const char *dir, const char *other)
{
    mlxr_checkpoint *a = NULL, *b = NULL;
    mlxr_error err = {0};

    assert_ok(mlxr_checkpoint_open(&a, dir, &err), &err);
    assert_ok(mlxr_checkpoint_open(&b, other, &err), &err);
    assert_int_equal(mlxr_checkpoint_count(a), mlxr_checkpoint_count(b));
    for (size_t i = 0; i < mlxr_checkpoint_count(a); i++) {
        const mlxr_tensor *x = mlxr_checkpoint_get(a, i), *y = mlxr_checkpoint_find(b, x->name);
        assert_non_null(y);
        assert_int_equal(x->dtype, y->dtype);
        assert_int_equal(x->n_bytes, y->n_bytes);
        assert_memory_equal(x->data, y->data, x->n_bytes);
    }
    mlxr_checkpoint_close(a);
    mlxr_checkpoint_close(b);
}

static void test_shards(void **state)
{
    mlxr_convert_options options = mlxr_convert_options_default();
    const uint64_t most = 8000;
    json_t *index, *map;
    const json_t *value;
    const char *name;
    mlxr_model *m = NULL;
    mlxr_error err = {0};
    size_t n = 0;
    struct stat sb;

    options.quantize = true;
    options.quant = affine_4_32;
    assert_ok(mlxr_convert(F16_BIAS, temp_path("one"), &options, &err), &err);
    assert_ok(mlxr_convert_sharded(F16_BIAS, temp_path("several"), &options, most, &err), &err);
    assert_int_equal(stat(temp_path("one/model.safetensors.index.json"), &sb), -1);
    assert_int_equal(stat(temp_path("several/model.safetensors"), &sb), -1);
    assert_same_tensors(temp_path("several"), temp_path("one"));
    assert_ok(mlxr_model_open(&m, temp_path("several"), &err), &err);
    mlxr_model_close(m);
    index = read_json(temp_path("several/model.safetensors.index.json"));
    map = json_object_get(index, "weight_map");
    json_object_foreach(map, name, value)
    {
        char path[128], module[128];
        const char *end = strstr(name, ".scales");
        snprintf(path, sizeof path, "several/%s", json_string_value(value));
        assert_int_equal(stat(temp_path(path), &sb), 0);
        assert_true((uint64_t)sb.st_size < most + 4000); /* and its header */
        n++;
        if (!end) continue;
        snprintf(module, sizeof module, "%.*s.weight", (int)(end - name), name);
        assert_string_equal(json_string_value(value), json_string_value(json_object_get(map, module)));
    }
    assert_true(n > 40);
    assert_true(json_integer_value(json_object_get(json_object_get(index, "metadata"), "total_size")) >
                2 * (int)most);
    json_decref(index);
    /* A limit below every tensor: each matrix has a file to itself. */
    assert_ok(mlxr_convert_sharded(F16_BIAS, temp_path("each"), &options, 1, &err), &err);
    assert_same_tensors(temp_path("each"), temp_path("one"));
}

static void test_rest_of_the_folder(void **state)
{
    static const char *const copied[] = {"tokenizer.json", "LICENSE", "mlxr.json", "1_Pooling/config.json",
                                         "additional_chat_templates/tool_use.jinja"};
    static const char *const left[] = {
        ".hidden", "big.gguf", "pytorch_model.bin", "model.safetensors.index.json", ".cache", "__pycache__",
        "loop",    "nowhere",  "empty.lock"};
    const char *const folders[] = {"src", "src/1_Pooling", "src/additional_chat_templates", "src/.cache",
                                   "src/__pycache__"};
    mlxr_error err = {0};
    char name[128];
    char *text;
    struct stat sb;

    for (size_t i = 0; i < MLXR_COUNT(folders); i++) assert_int_equal(mkdir(temp_path(folders[i]), 0777), 0);
    assert_int_equal(symlink(F16_BIAS "/model.safetensors", temp_path("src/model.safetensors")), 0);
    assert_int_equal(symlink(F16_BIAS "/config.json", temp_path("src/config.json")), 0);
    assert_int_equal(symlink(F16_BIAS "/expected.json", temp_path("src/LICENSE")), 0);
    assert_int_equal(symlink(".", temp_path("src/loop")), 0);
    assert_int_equal(symlink("there-is-no-such-file", temp_path("src/nowhere")), 0);
    assert_int_equal(mkfifo(temp_path("src/pipe"), 0666), 0);
    write_text(temp_path("src/tokenizer.json"), "{}");
    write_text(temp_path("src/mlxr.json"), "{\"mlxr\": 1}");
    write_text(temp_path("src/1_Pooling/config.json"), "{\"a\": 1}");
    write_text(temp_path("src/additional_chat_templates/tool_use.jinja"), "x");
    write_text(temp_path("src/.hidden"), "x");
    write_text(temp_path("src/.cache/x"), "x");
    write_text(temp_path("src/__pycache__/x"), "x");
    write_text(temp_path("src/big.gguf"), "x");
    write_text(temp_path("src/empty.lock"), "");
    write_text(temp_path("src/pytorch_model.bin"), "x");
    assert_ok(mlxr_convert(temp_path("src"), temp_path("copy"), NULL, &err), &err);
    for (size_t i = 0; i < MLXR_COUNT(copied); i++) {
        snprintf(name, sizeof name, "copy/%s", copied[i]);
        assert_int_equal(lstat(temp_path(name), &sb), 0);
        assert_true(S_ISREG(sb.st_mode));
    }
    for (size_t i = 0; i < MLXR_COUNT(left); i++) {
        snprintf(name, sizeof name, "copy/%s", left[i]);
        assert_int_equal(lstat(temp_path(name), &sb), -1);
    }
    assert_int_equal(lstat(temp_path("copy/pipe"), &sb), -1);
    text = read_text(temp_path("copy/1_Pooling/config.json"));
    assert_string_equal(text, "{\"a\": 1}");
    free(text);
    assert_same_tensors(temp_path("copy"), F16_BIAS);
}

static void count_warnings(mlxr_log_level level, const char *message, void *ud)
{
    if (level != MLXR_LOG_WARN) return;
    assert_non_null(strstr(message, "quantized anew"));
    ++*(int *)ud;
}

/* What is quantized as it is to be stays, and nobody is warned. */
static void test_quantized_already(void **state)
{
    mlxr_convert_options options = mlxr_convert_options_default();
    mlxr_error err = {0};
    int n = 0;

    options.quantize = true;
    options.quant = affine_4_32;
    options.log = (mlxr_log){count_warnings, &n};
    assert_ok(mlxr_convert(Q4_G32, temp_path("again"), &options, &err), &err);
    assert_same_tensors(temp_path("again"), Q4_G32);
    assert_int_equal(n, 0);
    options.quant.bits = 5;
    assert_ok(mlxr_convert(Q4_G32, temp_path("wider"), &options, &err), &err);
    assert_int_equal(n, 1);
    options.quant = (mlxr_quant){0};
    assert_ok(mlxr_convert(Q4_G32, temp_path("plain"), &options, &err), &err);
    assert_int_equal(n, 1);
}

static void test_dtype_words(void **state)
{
    mlxr_convert_options options = mlxr_convert_options_default();
    mlxr_error err = {0};
    json_t *config;
    char *text;

    assert_int_equal(mkdir(temp_path("typed"), 0777), 0);
    assert_int_equal(symlink(F16_BIAS "/model.safetensors", temp_path("typed/model.safetensors")), 0);
    config = read_json(F16_BIAS "/config.json");
    json_object_set_new(config, "torch_dtype", json_string("float16"));
    json_object_set_new(config, "_name_or_path", json_string("x"));
    json_object_set_new(config, "vision_config", json_object());
    text = json_dumps(config, 0);
    write_text(temp_path("typed/config.json"), text);
    free(text);
    json_decref(config);
    options.dtype = MLXR_BF16;
    assert_ok(mlxr_convert(temp_path("typed"), temp_path("bf16"), &options, &err), &err);
    config = read_json(temp_path("bf16/config.json"));
    assert_string_equal(json_string_value(json_object_get(config, "torch_dtype")), "bfloat16");
    assert_null(json_object_get(config, "_name_or_path"));
    assert_null(json_object_get(config, "vision_config"));
    assert_null(json_object_get(config, "quantization"));
    json_decref(config);
}

/* ---- what can go wrong: nothing is left then ---- */

static void assert_absent(const char *path)
{
    struct stat sb;
    assert_int_equal(lstat(path, &sb), -1);
}

static void test_refused(void **state)
{
    mlxr_convert_options options = mlxr_convert_options_default();
    mlxr_error err = {0};

    assert_fails(mlxr_convert(temp_path("no-model"), temp_path("x"), &options, &err), MLXR_E_NOT_FOUND,
                 "no-model", &err);
    options.quantize = true;
    options.quant = (mlxr_quant){MLXR_QUANT_AFFINE, 7, 64};
    assert_fails(mlxr_convert(F16_BIAS, temp_path("x"), &options, &err), MLXR_E_INVALID_ARGUMENT,
                 "7 bits in groups of 64", &err);
    options.quant = affine_4_32;
    options.dtype = MLXR_I32;
    assert_fails(mlxr_convert(F16_BIAS, temp_path("x"), &options, &err), MLXR_E_INVALID_ARGUMENT, "I32",
                 &err);
    options.dtype = MLXR_DTYPE_COUNT;
    assert_absent(temp_path("x"));
    assert_int_equal(mkdir(temp_path("full"), 0777), 0);
    write_text(temp_path("full/mine"), "x");
    assert_fails(mlxr_convert(F16_BIAS, temp_path("full"), &options, &err), MLXR_E_INVALID_ARGUMENT,
                 "not empty", &err);
    assert_int_equal(count_files(temp_path("full")), 1);
    write_text(temp_path("file"), "x");
    assert_fails(mlxr_convert(F16_BIAS, temp_path("file"), &options, &err), MLXR_E_IO, "file", &err);
    assert_fails(mlxr_convert(F16_BIAS, temp_path("file/below"), &options, &err), MLXR_E_NOT_FOUND,
                 "file/below", &err);
    /* A folder that is there and empty will do. */
    assert_int_equal(mkdir(temp_path("empty"), 0777), 0);
    assert_ok(mlxr_convert(F16_BIAS, temp_path("empty"), &options, &err), &err);
}

struct stop {
    int cancel;
    uint64_t at, last, total;
};

static void stop_there(uint64_t done, uint64_t total, void *ud)
{
    struct stop *s = ud;

    assert_true(done >= s->last && done <= total);
    s->last = done;
    s->total = total;
    if (done >= s->at) s->cancel = 1;
}

static void test_cancel(void **state)
{
    struct stop s = {.at = UINT64_MAX};
    mlxr_convert_options options = mlxr_convert_options_default();
    mlxr_error err = {0};
    uint64_t total;

    options.progress = (mlxr_progress){stop_there, &s};
    options.cancel = &s.cancel;
    assert_ok(mlxr_convert_sharded(F16_BIAS, temp_path("whole"), &options, 20000, &err), &err);
    assert_true(s.total > 0);
    assert_int_equal(s.last, s.total);
    total = s.total;
    for (unsigned i = 0; i < 4; i++) {
        s = (struct stop){.at = total * i / 4};
        assert_fails(mlxr_convert_sharded(F16_BIAS, temp_path("stopped"), &options, 20000, &err),
                     MLXR_E_CANCELLED, "cancelled", &err);
        assert_absent(temp_path("stopped"));
    }
    s = (struct stop){.cancel = 1};
    assert_fails(mlxr_convert(F16_BIAS, temp_path("stopped"), &options, &err), MLXR_E_CANCELLED, "cancelled",
                 &err);
    assert_absent(temp_path("stopped"));
}

/* A file that may not grow is as full as a disk. */
static void test_full_disk(void **state)
{
    const mlxr_convert_options options = mlxr_convert_options_default();
    struct rlimit old, small;
    mlxr_error err = {0};

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(mkdir(temp_path("mine"), 0777), 0);
    for (rlim_t n = 500; n < 40000; n += 3950) {
        small = old;
        small.rlim_cur = n;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        mlxr_status st = mlxr_convert_sharded(F16_BIAS, temp_path("limited"), &options, 1 << 16, &err);
        mlxr_status st2 = mlxr_convert_sharded(F16_BIAS, temp_path("mine"), &options, 1 << 16, &err);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        assert_int_equal(st, MLXR_E_IO);
        assert_int_equal(st2, MLXR_E_IO);
        assert_non_null(strstr(err.message, "cannot write"));
        assert_absent(temp_path("limited"));
        assert_int_equal(count_files(temp_path("mine")), 0);
    }
    (void)signal(SIGXFSZ, SIG_DFL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mlx_lm),
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_rest_of_the_folder),
        cmocka_unit_test(test_quantized_already),
        cmocka_unit_test(test_dtype_words),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_full_disk),
    };
    return cmocka_run_group_tests(tests, temp_dir_make, temp_dir_remove);
}
