/* The GGUF reader on good and hostile files, and ggml's block types against gguf-py (ggml_types.safetensors,
 * made by make_ggml_types.py). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "gguf_builder.h"

/* Opens a copy of exactly these bytes, so that a read past the end is seen. */
static mlxr_status open_copy(const mlxr_buf *file, size_t n, mlxr_error *err)
{
    uint8_t *exact = malloc(n ? n : 1);
    mlxr_gguf *g = NULL;
    mlxr_status st;

    assert_non_null(exact);
    memcpy(exact, file->data, n);
    st = mlxr_gguf_open_bytes(&g, exact, n, "f.gguf", err);
    assert_true((st == MLXR_OK) == (g != NULL));
    mlxr_gguf_close(g);
    free(exact);
    return st;
}

/* Builds and opens; wants a refusal with these words. */
static void refused(gguf_builder *b, mlxr_status status, const char *words)
{
    mlxr_buf file = {0};
    mlxr_error err = {0};
    mlxr_status st;

    build(&file, b);
    st = open_copy(&file, file.len, &err);
    if (st != status || !strstr(err.message, words) || !strstr(err.message, "gguf: f.gguf: "))
        fail_msg("%s \"%s\", wanted \"%s\"", mlxr_status_name(st), err.message, words);
    mlxr_buf_clear(&file);
}

static const uint64_t d32[] = {32};
static const float floats[] = {1, 2, 3, 4, 5, 6};

static void good_file(void **state)
{
    static const char *const words[] = {"", "caf\xc3\xa9", "z"};
    static const int32_t ints[] = {-1, 7};
    gguf_builder b = {0};
    mlxr_buf file = {0};
    mlxr_gguf *g;
    mlxr_error err;
    int64_t i = 99;
    double r = 0;
    bool yes = false;
    mlxr_gguf_str s = {0};
    const mlxr_gguf_value *v;
    const mlxr_gguf_tensor *t;
    const uint8_t *at;

    key_u32(&b, "u32", 4000000000u);
    key_f32(&b, "f32", 0.5f);
    key_bool(&b, "bool", true);
    key_str(&b, "str", "hello");
    key_strs(&b, "words", words, 3);
    key_i32s(&b, "ints", ints, 2);
    key_of(&b, "i8", MLXR_GGUF_I8);
    mlxr_buf_char(&b.pairs, (char)-5);
    key_of(&b, "u64", MLXR_GGUF_U64);
    put_u64(&b.pairs, UINT64_MAX);
    key_array(&b, "nested", MLXR_GGUF_ARRAY, 2); /* [["z"], []] */
    put_u32(&b.pairs, MLXR_GGUF_STRING);
    put_u64(&b.pairs, 1);
    put_str(&b.pairs, "z");
    put_u32(&b.pairs, MLXR_GGUF_U8);
    put_u64(&b.pairs, 0);
    key_f32(&b, "nan", NAN);
    key_str(&b, "not text", "\xff");
    tensor(&b, "v", MLXR_GGML_F32, 0, 3, floats, 12);
    tensor(&b, "m", MLXR_GGML_F32, 2, 3, floats, 24);
    build(&file, &b);

    assert_int_equal(mlxr_gguf_open_bytes(&g, file.data, file.len, "f.gguf", &err), MLXR_OK);
    assert_string_equal(mlxr_gguf_path(g), "f.gguf");
    assert_int_equal(mlxr_gguf_pair_count(g), 11);
    assert_int_equal(mlxr_gguf_pair_get(g, 2, &v).n, 4);
    assert_int_equal(v->kind, MLXR_GGUF_BOOL);

    assert_int_equal(mlxr_gguf_get_int(&i, g, "absent", 0, 1, &err), MLXR_OK);
    assert_int_equal(i, 99);
    assert_int_equal(mlxr_gguf_get_int(&i, g, "u32", 0, UINT32_MAX, &err), MLXR_OK);
    assert_int_equal(i, 4000000000u);
    assert_int_equal(mlxr_gguf_get_int(&i, g, "i8", -10, 0, &err), MLXR_OK);
    assert_int_equal(i, -5);
    assert_int_equal(mlxr_gguf_get_int(&i, g, "u32", 0, 10, &err), MLXR_E_FORMAT);
    assert_non_null(strstr(err.message, "\"u32\" is 4000000000, wanted 0 to 10"));
    assert_int_equal(mlxr_gguf_get_int(&i, g, "u64", 0, INT64_MAX - 1, &err), MLXR_E_FORMAT);
    assert_int_equal(mlxr_gguf_get_int(&i, g, "str", 0, 10, &err), MLXR_E_FORMAT);
    assert_non_null(strstr(err.message, "\"str\" is of kind string, wanted an integer"));
    assert_int_equal(mlxr_gguf_get_real(&r, g, "f32", &err), MLXR_OK);
    assert_true(r == 0.5);
    assert_int_equal(mlxr_gguf_get_real(&r, g, "i8", &err), MLXR_OK);
    assert_true(r == -5);
    assert_int_equal(mlxr_gguf_get_real(&r, g, "bool", &err), MLXR_E_FORMAT);
    assert_int_equal(mlxr_gguf_get_real(&r, g, "nan", &err), MLXR_E_FORMAT);
    assert_int_equal(mlxr_gguf_get_bool(&yes, g, "bool", &err), MLXR_OK);
    assert_true(yes);
    assert_int_equal(mlxr_gguf_get_bool(&yes, g, "i8", &err), MLXR_E_FORMAT);
    assert_int_equal(mlxr_gguf_get_str(&s, g, "str", &err), MLXR_OK);
    assert_true(s.n == 5 && memcmp(s.s, "hello", 5) == 0);
    assert_int_equal(mlxr_gguf_get_str(&s, g, "not text", &err), MLXR_E_FORMAT);
    assert_int_equal(mlxr_gguf_get_str(&s, g, "words", &err), MLXR_E_FORMAT);

    v = mlxr_gguf_find(g, "words");
    assert_int_equal(v->n_items, 3);
    at = v->data;
    for (size_t k = 0; k < 3; k++) {
        s = mlxr_gguf_next_str(&at);
        assert_true(s.n == strlen(words[k]) && memcmp(s.s, words[k], s.n) == 0);
    }
    v = mlxr_gguf_find(g, "ints");
    assert_int_equal(mlxr_gguf_item_int(v, 0), -1);
    assert_true(mlxr_gguf_item_real(v, 1) == 7);
    assert_int_equal(mlxr_gguf_find(g, "nested")->item_kind, MLXR_GGUF_ARRAY);
    assert_null(mlxr_gguf_find(g, "absent"));

    assert_int_equal(mlxr_gguf_tensor_count(g), 2);
    t = mlxr_gguf_tensor_find(g, "m");
    assert_non_null(t);
    assert_ptr_equal(t, mlxr_gguf_tensor_get(g, 1));
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->shape[0], 2); /* fastest-first in the file, reversed here */
    assert_int_equal(t->shape[1], 3);
    assert_int_equal(t->n_bytes, 24);
    assert_memory_equal(t->data, floats, 24);
    assert_null(mlxr_gguf_tensor_find(g, "absent"));
    assert_null(mlxr_gguf_tensor_get(g, 2));
    mlxr_gguf_close(g);
    mlxr_gguf_close(NULL);

    for (size_t n = 0; n < file.len; n++) /* whatever is cut off, something is missed */
        assert_int_equal(open_copy(&file, n, &err), MLXR_E_FORMAT);
    assert_int_equal(open_copy(&file, file.len, &err), MLXR_OK);
    mlxr_buf_clear(&file);
}

static void hostile_headers(void **state)
{
    static const struct {
        uint32_t version;
        mlxr_status status;
        const char *words;
    } versions[] = {{0, MLXR_E_UNSUPPORTED, "version 0"},
                    {1, MLXR_E_UNSUPPORTED, "version 1, supported are 2 and 3"},
                    {2, MLXR_OK, ""},
                    {3, MLXR_OK, ""},
                    {4, MLXR_E_UNSUPPORTED, "version 4"},
                    {0x03000000, MLXR_E_UNSUPPORTED, "big-endian"}};
    gguf_builder b = {0};
    mlxr_buf file = {0};
    mlxr_error err = {0};

    build(&file, &b);
    for (size_t i = 0; i < MLXR_COUNT(versions); i++) {
        memcpy(file.data + 4, &versions[i].version, 4);
        assert_int_equal(open_copy(&file, file.len, &err), versions[i].status);
        assert_non_null(strstr(err.message, versions[i].words));
    }
    file.data[0] = 'g';
    assert_int_equal(open_copy(&file, file.len, &err), MLXR_E_FORMAT);
    assert_non_null(strstr(err.message, "does not begin with \"GGUF\""));
    mlxr_buf_clear(&file);
    b.n_pairs = UINT64_MAX;
    refused(&b, MLXR_E_FORMAT, "18446744073709551615 pairs do not fit");
    b.n_tensors = (uint64_t)1 << 60;
    refused(&b, MLXR_E_FORMAT, "tensors do not fit");
    b.n_pairs = 1;
    refused(&b, MLXR_E_FORMAT, "1 pairs do not fit");
}

static void hostile_pairs(void **state)
{
    gguf_builder b = {0};

    key_u32(&b, "a", 1);
    key_u32(&b, "a", 2);
    refused(&b, MLXR_E_FORMAT, "the key \"a\" is there twice");
    key_u32(&b, "\xff", 1);
    refused(&b, MLXR_E_FORMAT, "a key is not valid UTF-8");
    put_u64(&b.pairs, 3);
    mlxr_buf_append(&b.pairs, "a\0b", 3);
    put_u32(&b.pairs, MLXR_GGUF_BOOL);
    mlxr_buf_char(&b.pairs, 1);
    b.n_pairs = 1;
    refused(&b, MLXR_E_FORMAT, "a key is not valid UTF-8");
    put_u64(&b.pairs, UINT64_MAX);
    put_u64(&b.pairs, 0);
    b.n_pairs = 1;
    refused(&b, MLXR_E_FORMAT, "the file ends inside a key");
    key_of(&b, "k", 13);
    refused(&b, MLXR_E_FORMAT, "\"k\" is of unknown kind 13");
    key_of(&b, "k", MLXR_GGUF_U64);
    put_u32(&b.pairs, 1);
    refused(&b, MLXR_E_FORMAT, "the file ends inside the value of \"k\"");
    key_of(&b, "k", MLXR_GGUF_STRING);
    put_u64(&b.pairs, (uint64_t)1 << 63);
    refused(&b, MLXR_E_FORMAT, "the file ends inside the string of \"k\"");
    key_array(&b, "k", 13, 1);
    refused(&b, MLXR_E_FORMAT, "an array of unknown kind 13");
    key_array(&b, "k", MLXR_GGUF_U64, ((uint64_t)1 << 61) + 1); /* times eight overflows to 8 */
    put_u64(&b.pairs, 0);
    refused(&b, MLXR_E_FORMAT, "the file ends inside the array of \"k\"");
    key_array(&b, "k", MLXR_GGUF_STRING, UINT64_MAX);
    put_str(&b.pairs, "");
    refused(&b, MLXR_E_FORMAT, "the file ends inside the string of \"k\"");
    key_of(&b, "k", MLXR_GGUF_ARRAY);
    for (int i = 0; i < 100; i++) {
        put_u32(&b.pairs, MLXR_GGUF_ARRAY);
        put_u64(&b.pairs, 1);
    }
    refused(&b, MLXR_E_LIMIT, "\"k\": arrays nested more than 4 deep");
    key_f32(&b, "general.alignment", 32);
    refused(&b, MLXR_E_FORMAT, "\"general.alignment\" is of kind float32");
    key_u32(&b, "general.alignment", 0);
    refused(&b, MLXR_E_FORMAT, "\"general.alignment\" is 0");
    key_u32(&b, "general.alignment", 48);
    refused(&b, MLXR_E_FORMAT, "wanted a power of two");
}

static void hostile_tensors(void **state)
{
    static const uint64_t five[] = {1, 1, 1, 1, 1}, large[] = {(uint64_t)1 << 32, (uint64_t)1 << 32},
                          bytes[] = {(uint64_t)1 << 62}, odd[] = {33}, thin[] = {1, 32};
    gguf_builder b = {0};

    tensor(&b, "t", MLXR_GGML_F32, 0, 3, floats, 12);
    tensor(&b, "t", MLXR_GGML_F32, 0, 3, floats, 12);
    refused(&b, MLXR_E_FORMAT, "the tensor \"t\" is there twice");
    tensor(&b, "\xc3", MLXR_GGML_F32, 0, 3, floats, 12);
    refused(&b, MLXR_E_FORMAT, "a tensor's name is not valid UTF-8");
    tensor_info(&b, "t", 5, five, MLXR_GGML_F32, 0);
    refused(&b, MLXR_E_FORMAT, "\"t\": 5 dimensions");
    tensor_info(&b, "t", 2, large, MLXR_GGML_F32, 0);
    refused(&b, MLXR_E_FORMAT, "the shape's product overflows");
    tensor_info(&b, "t", 1, bytes, MLXR_GGML_F32, 0);
    refused(&b, MLXR_E_FORMAT, "the shape's bytes overflow");
    for (uint32_t type = 0; type < 64; type++) { /* gaps of the table and past its end */
        if (mlxr_ggml_type_get(type)) continue;
        tensor_info(&b, "t", 1, d32, type, 0);
        refused(&b, MLXR_E_UNSUPPORTED, "\"t\" is of unknown type");
    }
    tensor_info(&b, "t", 1, odd, MLXR_GGML_Q8_0, 0);
    refused(&b, MLXR_E_FORMAT, "rows of 33 do not fill blocks of 32 (Q8_0)");
    tensor_info(&b, "t", 2, thin, MLXR_GGML_Q8_0, 0);
    refused(&b, MLXR_E_FORMAT, "rows of 1 do not fill blocks of 32");
    tensor_info(&b, "t", 0, NULL, MLXR_GGML_Q8_0, 0);
    refused(&b, MLXR_E_FORMAT, "do not fill blocks");
    tensor_info(&b, "t", 1, d32, MLXR_GGML_F32, 8);
    refused(&b, MLXR_E_FORMAT, "\"t\" at 8 is not aligned to 32");
    tensor_info(&b, "t", 1, d32, MLXR_GGML_F32, 32);
    mlxr_buf_append(&b.data, floats, 24);
    refused(&b, MLXR_E_FORMAT, "128 bytes at 32 lie outside the 24 bytes of data");
    tensor_info(&b, "t", 1, d32, MLXR_GGML_F32, UINT64_MAX - 31);
    refused(&b, MLXR_E_FORMAT, "lie outside the 0 bytes of data");
    tensor(&b, "t", MLXR_GGML_F32, 0, 6, floats, 24);
    tensor_info(&b, "u", 1, (uint64_t[]){1}, MLXR_GGML_F32, 0);
    refused(&b, MLXR_E_FORMAT, "overlap");
    key_u32(&b, "general.alignment", 1u << 30);
    tensor(&b, "t", MLXR_GGML_F32, 0, 6, floats, 24);
    refused(&b, MLXR_E_FORMAT, "lie outside the 0 bytes of data");
}

/* The float32 values of every type that requantizing reads are gguf-py's, bit for bit. */
static void block_types(void **state)
{
    static const mlxr_ggml_type types[] = {MLXR_GGML_Q2_K, MLXR_GGML_Q3_K,   MLXR_GGML_Q4_K,  MLXR_GGML_Q5_K,
                                           MLXR_GGML_Q6_K, MLXR_GGML_IQ4_NL, MLXR_GGML_IQ4_XS};
    mlxr_checkpoint *c;
    mlxr_error err;

    assert_int_equal(mlxr_checkpoint_open_file(&c, MLXR_TEST_DIR "/ggml_types.safetensors", &err), MLXR_OK);
    for (size_t i = 0; i < MLXR_COUNT(types); i++) {
        const mlxr_ggml_type_info *info = mlxr_ggml_type_get(types[i]);
        const mlxr_tensor *blocks, *values;
        char name[32];
        snprintf(name, sizeof name, "%s.blocks", info->name);
        blocks = mlxr_checkpoint_find(c, name);
        snprintf(name, sizeof name, "%s.values", info->name);
        values = mlxr_checkpoint_find(c, name);
        assert_true(blocks && values && info->dequantize);
        assert_int_equal(blocks->shape[1], info->block_bytes);
        assert_int_equal(values->shape[1], info->block_size);
        for (size_t k = 0; k < blocks->shape[0]; k++) {
            float out[256];
            info->dequantize((const uint8_t *)blocks->data + k * info->block_bytes, out);
            assert_memory_equal(out, (const uint8_t *)values->data + k * info->block_size * 4,
                                info->block_size * 4);
        }
    }
    mlxr_checkpoint_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_file),       cmocka_unit_test(hostile_headers), cmocka_unit_test(hostile_pairs),
        cmocka_unit_test(hostile_tensors), cmocka_unit_test(block_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
