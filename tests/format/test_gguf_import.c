/* Imports of tiny llama files built in memory: every lossless type against gguf-py's values
 * (ggml_types.safetensors), names, row order, config.json, tokenizers, refusals, and imports that do not come
 * to their end. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "gguf_builder.h"
#include "temp_dir.h"

/* ---- a tiny llama ---- */

static const char *const tokens[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "a", "b", "ab"};
static const int32_t token_types[] = {3, 3, 3, 1, 1, 1};
static const char *const merges[] = {"a b"};

/* What differs from the plain one: all zero is 64 wide, F32, tied, with a byte-level tokenizer. */
typedef struct tiny {
    mlxr_ggml_type types[8]; /* the matrices take these in turn */
    size_t n_types;
    bool wide;         /* 256, for blocks of that size */
    bool untied, bias; /* lm_head; attention and mlp biases */
    uint16_t d;        /* not 0: every block's f16 scale */
    const char *without_key, *without_tensor, *misshapen;
    void (*more)(gguf_builder *b);
    bool no_tokenizer; /* `more` brings its own */
} tiny;

enum { ROWS_OF_VOCAB = 8 };
static mlxr_checkpoint *fixture;
static size_t turn; /* in tiny.types */

static int open_fixture(void **state)
{
    mlxr_error err = {0};
    if (mlxr_checkpoint_open_file(&fixture, MLXR_TEST_DIR "/ggml_types.safetensors", &err) == MLXR_OK)
        return 0;
    fprintf(stderr, "%s\n", err.message);
    return -1;
}

static int close_fixture(void **state)
{
    mlxr_checkpoint_close(fixture);
    return 0;
}

static const mlxr_tensor *part_of(mlxr_ggml_type type, const char *part)
{
    char name[32];
    snprintf(name, sizeof name, "%s.%s", mlxr_ggml_type_get(type)->name, part);
    return mlxr_checkpoint_find(fixture, name);
}

static bool is_dense(mlxr_ggml_type t)
{
    return t == MLXR_GGML_F32 || t == MLXR_GGML_F16 || t == MLXR_GGML_BF16;
}

/* Element (row, col) of every dense tensor: exact in all three types. */
static float dense_value(size_t row, size_t col)
{
    return ((float)((row * 31 + col * 7) % 64) - 32) / 8;
}

/* Element (row, col) of a quantized matrix whose blocks are the fixture's, one after the other. */
static float block_value(const tiny *t, mlxr_ggml_type type, size_t row, size_t col, size_t n_cols)
{
    const mlxr_tensor *values = part_of(type, "values"), *blocks = part_of(type, "blocks");
    const size_t size = values->shape[1], k = (row * (n_cols / size) + col / size) % values->shape[0];
    float v = mlxr_load_float(values->data, MLXR_F32, k * size + col % size);
    if (t->d) /* types without a minimum: as many steps of the new scale */
        v = rintf(v / mlxr_load_float((const uint8_t *)blocks->data + k * blocks->shape[1], MLXR_F16, 0)) *
            mlxr_f16_to_f32(t->d);
    return v;
}

static void add_tensor(gguf_builder *b, const tiny *t, const char *name, size_t n_rows, size_t n_cols)
{
    const mlxr_ggml_type type = n_rows && t->n_types ? t->types[turn++ % t->n_types] : MLXR_GGML_F32;
    mlxr_buf bytes = {0};

    if (t->without_tensor && strcmp(name, t->without_tensor) == 0) return;
    if (t->misshapen && strcmp(name, t->misshapen) == 0) n_rows += 32;
    if (is_dense(type)) {
        const mlxr_dtype dtype = type == MLXR_GGML_F32   ? MLXR_F32
                                 : type == MLXR_GGML_F16 ? MLXR_F16
                                                         : MLXR_BF16;
        const size_t n = (n_rows ? n_rows : 1) * n_cols, size = mlxr_dtype_bits(dtype) / 8;
        char *p = mlxr_buf_reserve(&bytes, n * size);
        assert_non_null(p);
        for (size_t i = 0; i < n; i++) mlxr_store_float(p, dtype, i, dense_value(i / n_cols, i % n_cols));
        bytes.len = n * size;
    } else {
        const mlxr_ggml_type_info *info = mlxr_ggml_type_get(type);
        const mlxr_tensor *blocks = part_of(type, "blocks");
        for (size_t k = 0; k < n_rows * n_cols / info->block_size; k++) {
            size_t at = bytes.len;
            if (blocks) {
                mlxr_buf_append(&bytes,
                                (const uint8_t *)blocks->data + k % blocks->shape[0] * info->block_bytes,
                                info->block_bytes);
            } else {
                for (unsigned i = 0; i < info->block_bytes; i++) mlxr_buf_char(&bytes, 0);
            }
            if (t->d && bytes.data) memcpy(bytes.data + at, &t->d, 2);
        }
    }
    tensor(b, name, type, n_rows, n_cols, bytes.data, bytes.len);
    mlxr_buf_clear(&bytes);
}

static void add_module(gguf_builder *b, const tiny *t, int layer, const char *module, size_t n_rows,
                       size_t n_cols)
{
    char name[64];
    snprintf(name, sizeof name, "blk.%d.%s.weight", layer, module);
    add_tensor(b, t, name, n_rows, n_cols);
    snprintf(name, sizeof name, "blk.%d.%s.bias", layer, module);
    if (t->bias && n_rows) add_tensor(b, t, name, 0, n_rows);
}

static size_t width(const tiny *t)
{
    return t->wide ? 256 : 64;
}

static size_t ffn_width(const tiny *t)
{
    return t->wide ? 512 : 96;
}

#define UNLESS(key) if (!t->without_key || strcmp(t->without_key, key) != 0)

static void make_tiny(mlxr_buf *file, const tiny *t)
{
    const size_t d = width(t), kv = d / 2;
    gguf_builder b = {0};

    turn = 0;
    UNLESS("general.architecture") key_str(&b, "general.architecture", "llama");
    UNLESS("llama.block_count") key_u32(&b, "llama.block_count", 2);
    key_u32(&b, "llama.context_length", 128);
    key_u32(&b, "llama.embedding_length", (uint32_t)d);
    key_u32(&b, "llama.feed_forward_length", (uint32_t)ffn_width(t));
    UNLESS("llama.attention.head_count") key_u32(&b, "llama.attention.head_count", 2);
    key_u32(&b, "llama.attention.head_count_kv", 1);
    UNLESS("llama.rope.freq_base") key_f32(&b, "llama.rope.freq_base", 500000.0f);
    UNLESS("eps") key_f32(&b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    if (!t->no_tokenizer) {
        UNLESS("tokenizer.ggml.model") key_str(&b, "tokenizer.ggml.model", "gpt2");
        UNLESS("tokenizer.ggml.pre") key_str(&b, "tokenizer.ggml.pre", "smollm");
        UNLESS("tokenizer.ggml.tokens") key_strs(&b, "tokenizer.ggml.tokens", tokens, MLXR_COUNT(tokens));
        UNLESS("tokenizer.ggml.token_type") key_i32s(&b, "tokenizer.ggml.token_type", token_types, 6);
        UNLESS("tokenizer.ggml.merges") key_strs(&b, "tokenizer.ggml.merges", merges, 1);
        UNLESS("tokenizer.ggml.bos_token_id") key_u32(&b, "tokenizer.ggml.bos_token_id", 1);
        UNLESS("tokenizer.ggml.eos_token_id") key_u32(&b, "tokenizer.ggml.eos_token_id", 2);
        key_str(&b, "tokenizer.chat_template", "{{ \"hi\" }}\n");
    }
    if (t->more) t->more(&b);
    add_tensor(&b, t, "token_embd.weight", ROWS_OF_VOCAB, d);
    for (int i = 0; i < 2; i++) {
        add_module(&b, t, i, "attn_norm", 0, d);
        add_module(&b, t, i, "attn_q", d, d);
        add_module(&b, t, i, "attn_k", kv, d);
        add_module(&b, t, i, "attn_v", kv, d);
        add_module(&b, t, i, "attn_output", d, d);
        add_module(&b, t, i, "ffn_norm", 0, d);
        add_module(&b, t, i, "ffn_gate", ffn_width(t), d);
        add_module(&b, t, i, "ffn_up", ffn_width(t), d);
        add_module(&b, t, i, "ffn_down", d, ffn_width(t));
    }
    add_tensor(&b, t, "output_norm.weight", 0, d);
    if (t->untied) add_tensor(&b, t, "output.weight", ROWS_OF_VOCAB, d);
    build(file, &b);
    assert_false(file->failed);
}

/* Imports into a folder of the test's own. */
static mlxr_status import(const tiny *t, const char *name, const mlxr_gguf_import_options *options,
                          mlxr_error *err)
{
    mlxr_gguf_import_options o = options ? *options : mlxr_gguf_import_options_default();
    mlxr_buf file = {0};
    mlxr_gguf *g = NULL;
    mlxr_status st;

    *err = (mlxr_error){0};
    make_tiny(&file, t);
    st = mlxr_gguf_open_bytes(&g, file.data, file.len, "f.gguf", err);
    if (st == MLXR_OK) st = mlxr_gguf_import_open(g, temp_path(name), &o, err);
    mlxr_gguf_close(g);
    mlxr_buf_clear(&file);
    return st;
}

static json_t *read_json(const char *dir, const char *name)
{
    char path[128];
    json_t *j;
    mlxr_error err;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (mlxr_json_read(&j, temp_path(path), 1 << 24, &err) != MLXR_OK) fail_msg("%s", err.message);
    return j;
}

/* A module's weights as config.json describes them. */
static mlxr_matrix matrix_of(const mlxr_checkpoint *c, const json_t *config, const char *module)
{
    char name[96];
    const mlxr_tensor *w, *scales, *biases;
    const json_t *q = json_object_get(config, "quantization"), *own = json_object_get(q, module);
    mlxr_matrix m = {0};

    snprintf(name, sizeof name, "%s.weight", module);
    w = mlxr_checkpoint_find(c, name);
    snprintf(name, sizeof name, "%s.scales", module);
    scales = mlxr_checkpoint_find(c, name);
    snprintf(name, sizeof name, "%s.biases", module);
    biases = mlxr_checkpoint_find(c, name);
    if (!w) fail_msg("no %s", module);
    assert_int_equal(!scales, !biases);
    m.n_rows = w->shape[0];
    m.n_cols = w->shape[1];
    m.dtype = w->dtype;
    m.data = w->data;
    m.row_bytes = w->n_bytes / m.n_rows;
    if (!scales) {
        if (q && !json_is_false(own)) fail_msg("%s is dense, config.json does not say so", module);
        return m;
    }
    if (!own) own = q;
    m.quant = (mlxr_quant){MLXR_QUANT_AFFINE, (unsigned)json_integer_value(json_object_get(own, "bits")),
                           (unsigned)json_integer_value(json_object_get(own, "group_size"))};
    assert_true(mlxr_quant_supported(m.quant));
    assert_int_equal(w->dtype, MLXR_U32);
    m.n_cols = w->shape[1] * 32 / m.quant.bits;
    m.dtype = scales->dtype;
    m.scales = scales->data;
    m.biases = biases->data;
    assert_int_equal(scales->shape[1], m.n_cols / m.quant.group_size);
    return m;
}

/* Hugging Face's row r of q or k is the file's: halves there, neighbours here. */
static size_t file_row(size_t r, size_t head_dim)
{
    size_t in = r % head_dim;
    return r - in + (in < head_dim / 2 ? 2 * in : 2 * (in - head_dim / 2) + 1);
}

static void check_matrix(const tiny *t, const mlxr_checkpoint *c, const json_t *config, const char *module,
                         bool rotary, size_t n_rows, size_t n_cols)
{
    const mlxr_ggml_type type = t->types[turn++ % t->n_types];
    mlxr_matrix m = matrix_of(c, config, module);
    float *row = malloc(n_cols * sizeof *row);
    char name[96];

    assert_non_null(row);
    assert_int_equal(m.n_rows, n_rows);
    assert_int_equal(m.n_cols, n_cols);
    assert_int_equal(m.quant.mode == MLXR_QUANT_NONE, is_dense(type));
    for (size_t i = 0; i < n_rows; i++) {
        const size_t from = rotary ? file_row(i, width(t) / 2) : i;
        mlxr_matrix_row(&m, i, row);
        for (size_t j = 0; j < n_cols; j++) {
            float want = is_dense(type) ? dense_value(from, j) : block_value(t, type, from, j, n_cols);
            if (row[j] != want)
                fail_msg("%s %s [%zu, %zu]: %.9g, wanted %.9g", module, mlxr_ggml_type_get(type)->name, i, j,
                         row[j], want);
        }
    }
    free(row);
    snprintf(name, sizeof name, "%s.bias", module);
    if (t->bias && strncmp(module, "model.layers.", 13) == 0) {
        const mlxr_tensor *b = mlxr_checkpoint_find(c, name);
        assert_non_null(b);
        assert_int_equal(b->n_dims, 1);
        for (size_t i = 0; i < n_rows; i++)
            assert_true(mlxr_load_float(b->data, b->dtype, i) ==
                        dense_value(0, rotary ? file_row(i, width(t) / 2) : i));
    } else {
        assert_null(mlxr_checkpoint_find(c, name));
    }
}

/* Imports and compares every value of every tensor with what the file's blocks mean. */
static void check_lossless(const tiny *t, const char *dir)
{
    const size_t d = width(t), f = ffn_width(t);
    mlxr_checkpoint *c;
    mlxr_error err;
    json_t *config;
    char module[64];

    if (import(t, dir, NULL, &err) != MLXR_OK) fail_msg("%s", err.message);
    config = read_json(dir, "config.json");
    if (mlxr_checkpoint_open(&c, temp_path(dir), &err) != MLXR_OK) fail_msg("%s", err.message);
    turn = 0;
    check_matrix(t, c, config, "model.embed_tokens", false, ROWS_OF_VOCAB, d);
    for (int i = 0; i < 2; i++) {
        const struct {
            const char *name;
            size_t n_rows, n_cols;
        } rows[] = {{"self_attn.q_proj", d, d},     {"self_attn.k_proj", d / 2, d},
                    {"self_attn.v_proj", d / 2, d}, {"self_attn.o_proj", d, d},
                    {"mlp.gate_proj", f, d},        {"mlp.up_proj", f, d},
                    {"mlp.down_proj", d, f}};
        for (size_t k = 0; k < MLXR_COUNT(rows); k++) {
            snprintf(module, sizeof module, "model.layers.%d.%s", i, rows[k].name);
            check_matrix(t, c, config, module, k < 2, rows[k].n_rows, rows[k].n_cols);
        }
        snprintf(module, sizeof module, "model.layers.%d.post_attention_layernorm.weight", i);
        assert_int_equal(mlxr_checkpoint_find(c, module)->n_dims, 1);
        snprintf(module, sizeof module, "model.layers.%d.input_layernorm.weight", i);
        assert_true(mlxr_load_float(mlxr_checkpoint_find(c, module)->data, MLXR_F32, 5) == dense_value(0, 5));
    }
    assert_non_null(mlxr_checkpoint_find(c, "model.norm.weight"));
    if (t->untied) check_matrix(t, c, config, "lm_head", false, ROWS_OF_VOCAB, d);
    assert_int_equal(json_is_true(json_object_get(config, "tie_word_embeddings")), !t->untied);
    assert_int_equal(json_is_true(json_object_get(config, "attention_bias")), t->bias);
    assert_int_equal(json_is_true(json_object_get(config, "mlp_bias")), t->bias);
    mlxr_checkpoint_close(c);
    json_decref(config);
}

static void lossless_types(void **state)
{
    static const mlxr_ggml_type types[] = {MLXR_GGML_F32,  MLXR_GGML_F16,  MLXR_GGML_BF16, MLXR_GGML_Q4_0,
                                           MLXR_GGML_Q4_1, MLXR_GGML_Q5_0, MLXR_GGML_Q5_1, MLXR_GGML_Q8_0};
    tiny mixed = {.n_types = MLXR_COUNT(types), .untied = true, .bias = true};

    for (size_t i = 0; i < MLXR_COUNT(types); i++) {
        tiny t = {.types = {types[i]}, .n_types = 1};
        json_t *config;
        check_lossless(&t, mlxr_ggml_type_get(types[i])->name);
        config = read_json(mlxr_ggml_type_get(types[i])->name, "config.json");
        if (is_dense(types[i]))
            assert_null(json_object_get(config, "quantization"));
        else /* nothing differs: no module is named */
            assert_int_equal(json_object_size(json_object_get(config, "quantization")), 2);
        json_decref(config);
    }
    memcpy(mixed.types, types, sizeof types);
    check_lossless(&mixed, "mixed");
}

/* -8 * d past f16's range moves the scales to float32; a scale that is no number is refused. */
static void wide_scales(void **state)
{
    tiny t = {.types = {MLXR_GGML_Q4_0}, .n_types = 1, .d = 0x70e2}; /* 10000 */
    mlxr_checkpoint *c;
    mlxr_error err;

    check_lossless(&t, "wide");
    assert_int_equal(mlxr_checkpoint_open(&c, temp_path("wide"), &err), MLXR_OK);
    assert_int_equal(mlxr_checkpoint_find(c, "model.embed_tokens.scales")->dtype, MLXR_F32);
    mlxr_checkpoint_close(c);
    t.types[0] = MLXR_GGML_Q8_0;
    t.d = 0x5fff; /* 511.75: -128 * d just fits */
    check_lossless(&t, "edge");
    assert_int_equal(mlxr_checkpoint_open(&c, temp_path("edge"), &err), MLXR_OK);
    assert_int_equal(mlxr_checkpoint_find(c, "model.embed_tokens.scales")->dtype, MLXR_F16);
    mlxr_checkpoint_close(c);
    t.d = 0x7c00;
    assert_int_equal(import(&t, "inf", NULL, &err), MLXR_E_FORMAT);
    assert_non_null(strstr(err.message, "\"token_embd.weight\": the scale of block 0 is not finite"));
    t.d = 0x7e00;
    assert_int_equal(import(&t, "inf", NULL, &err), MLXR_E_FORMAT);
}

/* ---- the other files ---- */

static void more_config(gguf_builder *b)
{
    key_str(b, "llama.rope.scaling.type", "linear");
    key_f32(b, "llama.rope.scaling.factor", 4);
    key_u32(b, "llama.attention.key_length", 32);
    key_u32(b, "tokenizer.ggml.eot_token_id", 0);
    key_u32(b, "tokenizer.ggml.padding_token_id", 2);
    key_u32(b, "tokenizer.ggml.unknown_token_id", 4294967295u);
    key_bool(b, "tokenizer.ggml.add_bos_token", true);
    key_bool(b, "tokenizer.ggml.add_eos_token", true);
    key_str(b, "tokenizer.chat_template.tool_use", "tools");
}

static void other_files(void **state)
{
    tiny t = {.more = more_config};
    mlxr_error err;
    json_t *j, *k, *x;
    char *text;

    if (import(&t, "a/b/c", NULL, &err) != MLXR_OK) fail_msg("%s", err.message);
    assert_int_equal(count_files(temp_path("a/b/c")), 5);

    j = read_json("a/b/c", "config.json");
    assert_string_equal(json_string_value(json_object_get(j, "model_type")), "llama");
    assert_int_equal(json_integer_value(json_object_get(j, "hidden_size")), 64);
    assert_int_equal(json_integer_value(json_object_get(j, "intermediate_size")), 96);
    assert_int_equal(json_integer_value(json_object_get(j, "num_hidden_layers")), 2);
    assert_int_equal(json_integer_value(json_object_get(j, "num_key_value_heads")), 1);
    assert_int_equal(json_integer_value(json_object_get(j, "max_position_embeddings")), 128);
    assert_int_equal(json_integer_value(json_object_get(j, "vocab_size")), ROWS_OF_VOCAB);
    assert_true(json_real_value(json_object_get(j, "rms_norm_eps")) == 1e-5); /* not 9.99999975e-06 */
    assert_true(json_number_value(json_object_get(j, "rope_theta")) == 500000);
    assert_null(json_object_get(j, "head_dim"));
    k = json_object_get(j, "rope_scaling");
    assert_string_equal(json_string_value(json_object_get(k, "rope_type")), "linear");
    assert_true(json_number_value(json_object_get(k, "factor")) == 4);
    k = json_object_get(j, "eos_token_id");
    assert_int_equal(json_array_size(k), 2);
    json_decref(j);

    j = read_json("a/b/c", "generation_config.json");
    k = json_object_get(j, "eos_token_id"); /* the file's, its end of turn; <|im_end|> is the first already */
    assert_int_equal(json_integer_value(json_array_get(k, 0)), 2);
    assert_int_equal(json_integer_value(json_array_get(k, 1)), 0);
    assert_int_equal(json_integer_value(json_object_get(j, "bos_token_id")), 1);
    assert_int_equal(json_integer_value(json_object_get(j, "pad_token_id")), 2);
    json_decref(j);

    j = read_json("a/b/c", "tokenizer_config.json");
    assert_string_equal(json_string_value(json_object_get(j, "eos_token")), "<|im_end|>");
    assert_null(json_object_get(j, "unk_token"));
    k = json_object_get(j, "chat_template");
    assert_int_equal(json_array_size(k), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(k, 0), "name")), "default");
    assert_string_equal(json_string_value(json_object_get(json_array_get(k, 0), "template")),
                        "{{ \"hi\" }}\n");
    assert_string_equal(json_string_value(json_object_get(json_array_get(k, 1), "name")), "tool_use");
    json_decref(j);

    j = read_json("a/b/c", "tokenizer.json");
    assert_int_equal(json_array_size(json_object_get(j, "added_tokens")), 3);
    k = json_object_get(j, "model");
    assert_int_equal(json_object_size(json_object_get(k, "vocab")), 6);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(k, "vocab"), "ab")), 5);
    x = json_array_get(json_object_get(k, "merges"), 0);
    assert_string_equal(json_string_value(json_array_get(x, 1)), "b");
    text = json_dumps(json_object_get(json_object_get(j, "post_processor"), "single"), JSON_COMPACT);
    assert_string_equal(
        text, "[{\"SpecialToken\":{\"id\":\"<|im_start|>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\","
              "\"type_id\":0}},{\"SpecialToken\":{\"id\":\"<|im_end|>\",\"type_id\":0}}]");
    free(text);
    text = json_dumps(json_object_get(j, "pre_tokenizer"), JSON_COMPACT);
    assert_non_null(strstr(text, "{\"type\":\"Digits\",\"individual_digits\":true},{\"type\":\"ByteLevel\""));
    free(text);
    json_decref(j);
}

static void sentencepiece(gguf_builder *b)
{
    static const char *const texts[] = {"<unk>", "<s>", "</s>", "<0x41>", "\u2581", "a", "b", "\u2581ab"};
    static const int32_t types[] = {2, 3, 3, 6, 1, 1, 1, 1};
    static const float scores[] = {0, 0, 0, 0, -9, -8, -7, -1};

    key_str(b, "tokenizer.ggml.model", "llama");
    key_strs(b, "tokenizer.ggml.tokens", texts, 8);
    key_i32s(b, "tokenizer.ggml.token_type", types, 8);
    key_f32s(b, "tokenizer.ggml.scores", scores, 8);
}

static void sentencepiece_merging(gguf_builder *b)
{
    /* "abab": from "ab" + "ab", "a" + "bab" and "aba" + "b" if those are tokens; better scores come first. */
    static const char *const texts[] = {"<unk>", "<s>", "</s>", "a", "b", "ab", "abab", "bab"};
    static const int32_t types[] = {2, 3, 3, 1, 1, 1, 1, 1};
    static const float scores[] = {0, 0, 0, -5, -6, -1, -3, -2};

    key_str(b, "tokenizer.ggml.model", "llama");
    key_strs(b, "tokenizer.ggml.tokens", texts, 8);
    key_i32s(b, "tokenizer.ggml.token_type", types, 8);
    key_f32s(b, "tokenizer.ggml.scores", scores, 8);
    key_bool(b, "tokenizer.ggml.add_space_prefix", false);
}

static void sentencepiece_tokenizers(void **state)
{
    tiny t = {.more = sentencepiece, .no_tokenizer = true};
    mlxr_error err;
    json_t *j, *model;
    char *text;

    if (import(&t, "sp", NULL, &err) != MLXR_OK) fail_msg("%s", err.message);
    j = read_json("sp", "tokenizer.json");
    model = json_object_get(j, "model");
    assert_true(json_is_true(json_object_get(model, "byte_fallback")));
    assert_true(json_is_true(json_object_get(model, "fuse_unk")));
    assert_string_equal(json_string_value(json_object_get(model, "unk_token")), "<unk>");
    assert_int_equal(json_array_size(json_object_get(model, "merges")), 0); /* "_ab" is not of two tokens */
    assert_int_equal(json_array_size(json_object_get(json_object_get(j, "normalizer"), "normalizers")), 2);
    assert_int_equal(json_array_size(json_object_get(json_object_get(j, "decoder"), "decoders")), 4);
    assert_true(json_is_null(json_object_get(j, "pre_tokenizer")));
    text = json_dumps(json_object_get(json_object_get(j, "post_processor"), "special_tokens"), JSON_COMPACT);
    assert_string_equal(text, "{\"<s>\":{\"id\":\"<s>\",\"ids\":[1],\"tokens\":[\"<s>\"]}}");
    free(text);
    json_decref(j);

    t.more = sentencepiece_merging;
    if (import(&t, "sp2", NULL, &err) != MLXR_OK) fail_msg("%s", err.message);
    j = read_json("sp2", "tokenizer.json");
    text = json_dumps(json_object_get(json_object_get(j, "model"), "merges"), JSON_COMPACT);
    assert_string_equal(text, "[[\"a\",\"b\"],[\"b\",\"ab\"],[\"ab\",\"ab\"],[\"a\",\"bab\"]]");
    free(text);
    assert_int_equal(json_array_size(json_object_get(json_object_get(j, "normalizer"), "normalizers")), 1);
    assert_int_equal(json_array_size(json_object_get(json_object_get(j, "decoder"), "decoders")), 3);
    json_decref(j);
}

#define MORE(name, code)              \
    static void name(gguf_builder *b) \
    {                                 \
        code;                         \
    }

static const char *pre_name; /* of the next file */
MORE(with_pre, key_str(b, "tokenizer.ggml.pre", pre_name))

MORE(asks_for_bos, key_bool(b, "tokenizer.ggml.add_bos_token", true))

/* Every pre-tokenizer that is known, and what a file that names none gets. */
static void pre_tokenizers(void **state)
{
    static const struct {
        const char *name;
        size_t n_stages;
        const char *says;
        bool nfc, ignore_merges, bos;
    } cases[] = {
        {"gpt-2", 1, "\"use_regex\":true", false, false, false},
        {"gpt2", 1, "\"use_regex\":true", false, false, false},
        {"smollm", 2, "Digits", false, false, false},
        {"starcoder", 2, "Digits", false, false, false},
        {"refact", 2, "Digits", false, false, false},
        {"llama-bpe", 2, "\\\\p{N}{1,3}|", false, true, true},
        {"llama3", 2, "\\\\p{N}{1,3}|", false, true, true},
        {"llama-v3", 2, "\\\\p{N}{1,3}|", false, true, true},
        {"qwen2", 2, "|\\\\p{N}| ?", true, false, false},
        {"deepseek-r1-qwen", 2, "|\\\\p{N}| ?", true, false, true},
        {"tekken", 2, "\\\\p{Lu}", false, true, true},
        {"default", 5, "[0-9][0-9][0-9]", false, false, false},
        {NULL, 5, "[0-9][0-9][0-9]", false, false, false},
    };

    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        tiny t = {.without_key = "tokenizer.ggml.pre", .more = cases[i].name ? with_pre : NULL};
        json_t *j, *stages;
        mlxr_error err;
        char dir[16], *text;
        pre_name = cases[i].name;
        snprintf(dir, sizeof dir, "pre%zu", i);
        if (import(&t, dir, NULL, &err) != MLXR_OK) fail_msg("%s", err.message);
        j = read_json(dir, "tokenizer.json");
        stages = json_object_get(json_object_get(j, "pre_tokenizer"), "pretokenizers");
        assert_int_equal(json_array_size(stages), cases[i].n_stages);
        text = json_dumps(stages, JSON_COMPACT);
        if (!strstr(text, cases[i].says)) fail_msg("%s: %s", cases[i].name, text);
        free(text);
        assert_int_equal(!json_is_null(json_object_get(j, "normalizer")), cases[i].nfc);
        assert_int_equal(!json_is_null(json_object_get(j, "post_processor")), cases[i].bos);
        assert_int_equal(json_is_true(json_object_get(json_object_get(j, "model"), "ignore_merges")),
                         cases[i].ignore_merges);
        json_decref(j);
    }
}

/* A pre-tokenizer that adds a first token adds none when the file does not say which. */
static void no_bos_id(void **state)
{
    tiny t = {.without_key = "tokenizer.ggml.bos_token_id", .more = asks_for_bos};
    json_t *j;
    mlxr_error err;

    if (import(&t, "bos", NULL, &err) != MLXR_OK) fail_msg("%s", err.message);
    j = read_json("bos", "tokenizer.json");
    assert_true(json_is_null(json_object_get(j, "post_processor")));
    json_decref(j);
    j = read_json("bos", "config.json");
    assert_null(json_object_get(j, "bos_token_id"));
    json_decref(j);
}

/* ---- rotary scaling ---- */

static double rope_factor, rope_original; /* of the next file; a head is 32 wide */

static void add_rope_factors(gguf_builder *b)
{
    float f[16];
    for (int i = 0; i < 16; i++) { /* as the paper of Llama 3.1's code has it, low 1, high 4 */
        double wave = 2 * M_PI * pow(500000.0, 2.0 * i / 32), s = (rope_original / wave - 1) / 3;
        f[i] = (float)(s > 1 ? 1 : s < 0 ? rope_factor : 1 / ((1 - s) / rope_factor + s));
    }
    tensor(b, "rope_freqs.weight", MLXR_GGML_F32, 0, 16, f, sizeof f);
}

static void add_odd_factors(gguf_builder *b)
{
    float f[16];
    for (int i = 0; i < 16; i++) f[i] = 1 + (float)i;
    tensor(b, "rope_freqs.weight", MLXR_GGML_F32, 0, 16, f, sizeof f);
}

static void rope_factors(void **state)
{
    static const double cases[][2] = {{8, 8192}, {32, 8192}, {4, 4096}, {1, 8192}};
    tiny t = {.more = add_rope_factors};
    mlxr_error err;

    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        char dir[16];
        json_t *j, *r;
        rope_factor = cases[i][0];
        rope_original = cases[i][1];
        snprintf(dir, sizeof dir, "rope%zu", i);
        if (import(&t, dir, NULL, &err) != MLXR_OK) fail_msg("%s", err.message);
        j = read_json(dir, "config.json");
        r = json_object_get(j, "rope_scaling");
        if (rope_factor == 1) {
            assert_null(r);
        } else {
            assert_string_equal(json_string_value(json_object_get(r, "rope_type")), "llama3");
            assert_true(json_number_value(json_object_get(r, "factor")) == rope_factor);
            assert_true(json_number_value(json_object_get(r, "low_freq_factor")) == 1);
            assert_true(json_number_value(json_object_get(r, "high_freq_factor")) == 4);
            assert_true(json_number_value(json_object_get(r, "original_max_position_embeddings")) ==
                        rope_original);
        }
        json_decref(j);
    }
    t.more = add_odd_factors;
    assert_int_equal(import(&t, "odd", NULL, &err), MLXR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "\"rope_freqs.weight\" are not those of rope_scaling \"llama3\""));
}

/* ---- refusals ---- */

MORE(arch_gemma, key_str(b, "general.architecture", "gemma3"))
MORE(experts, key_u32(b, "llama.expert_count", 8))
MORE(yarn, key_str(b, "llama.rope.scaling.type", "yarn"))
MORE(partial, key_u32(b, "llama.rope.dimension_count", 16))
MORE(odd_values, key_u32(b, "llama.attention.value_length", 16))
MORE(no_base, key_f32(b, "llama.rope.freq_base", -1))
MORE(uneven, key_i32s(b, "llama.attention.head_count", ((const int32_t[]){2, 1}), 2))
MORE(three_heads, key_u32(b, "llama.attention.head_count", 0))
MORE(extra_tensor, tensor(b, "blk.0.attn_sinks.weight", MLXR_GGML_F32, 0, 2, "12345678", 8))
MORE(model_t5, key_str(b, "tokenizer.ggml.model", "t5"))
MORE(model_number, key_u32(b, "tokenizer.ggml.model", 1))
MORE(pre_unknown, key_str(b, "tokenizer.ggml.pre", "viking"))
MORE(merge_alien, key_strs(b, "tokenizer.ggml.merges", ((const char *const[]){"a b", "b a"}), 2))
MORE(merge_single, key_strs(b, "tokenizer.ggml.merges", ((const char *const[]){"ab"}), 1))
MORE(tokens_bytes,
     key_strs(b, "tokenizer.ggml.tokens", ((const char *const[]){"a", "b", "\xff", "", "c", "d"}), 6))
MORE(tokens_many, key_strs(b, "tokenizer.ggml.tokens",
                           ((const char *const[]){"0", "1", "2", "a", "b", "ab", "6", "7", "8"}), 9))
MORE(types_few, key_i32s(b, "tokenizer.ggml.token_type", token_types, 5))
MORE(types_wrong, key_i32s(b, "tokenizer.ggml.token_type", ((const int32_t[]){1, 2, 3, 4, 5, 7}), 6))
MORE(bos_far, key_u32(b, "tokenizer.ggml.bos_token_id", 6))
MORE(both_scalings, rope_factor = 8; rope_original = 8192; add_rope_factors(b);
     key_f32(b, "llama.rope.scale_linear", 2))

static const struct {
    tiny tiny;
    mlxr_status status;
    const char *words;
} refusals[] = {
    {{.without_key = "general.architecture"}, MLXR_E_FORMAT, "no \"general.architecture\""},
    {{.without_key = "general.architecture", .more = arch_gemma},
     MLXR_E_UNSUPPORTED,
     "architecture \"gemma3\" is not supported, supported is llama"},
    {{.without_key = "llama.block_count"}, MLXR_E_FORMAT, "no \"llama.block_count\""},
    {{.without_key = "eps"}, MLXR_E_FORMAT, "layer_norm_rms_epsilon"},
    {{.more = experts}, MLXR_E_UNSUPPORTED, "\"llama.expert_count\" is 8"},
    {{.more = yarn}, MLXR_E_UNSUPPORTED, "rotary scaling \"yarn\" is not supported"},
    {{.more = both_scalings}, MLXR_E_UNSUPPORTED, "two kinds of rotary scaling"},
    {{.more = partial}, MLXR_E_UNSUPPORTED, "a part of the head"},
    {{.more = odd_values}, MLXR_E_UNSUPPORTED, "values of another width"},
    {{.without_key = "llama.rope.freq_base", .more = no_base},
     MLXR_E_FORMAT,
     "\"llama.rope.freq_base\" is -1"},
    {{.without_key = "llama.attention.head_count", .more = uneven},
     MLXR_E_UNSUPPORTED,
     "differs from layer to layer"},
    {{.without_key = "llama.attention.head_count", .more = three_heads}, MLXR_E_FORMAT, "head_count\" is 0"},
    {{.more = extra_tensor}, MLXR_E_FORMAT, "\"blk.0.attn_sinks.weight\" belongs to no part of a llama"},
    {{.without_tensor = "token_embd.weight"}, MLXR_E_FORMAT, "no \"token_embd.weight\""},
    {{.without_tensor = "blk.1.ffn_up.weight", .misshapen = "blk.0.attn_k.weight", .more = extra_tensor},
     MLXR_E_FORMAT,
     "\"blk.0.attn_k.weight\" is [64, 64], wanted [32, 64], missing \"blk.1.ffn_up.weight\", "
     "\"blk.0.attn_sinks"},
    {{.bias = true, .without_tensor = "blk.0.attn_output.bias"},
     MLXR_E_FORMAT,
     "missing \"blk.0.attn_output.bias\""},
    {{.without_key = "tokenizer.ggml.model"}, MLXR_E_FORMAT, "the file has no tokenizer"},
    {{.without_key = "tokenizer.ggml.model", .more = model_t5},
     MLXR_E_UNSUPPORTED,
     "\"t5\" is not supported"},
    {{.without_key = "tokenizer.ggml.model", .more = model_number},
     MLXR_E_FORMAT,
     "is of kind uint32, wanted string"},
    {{.without_key = "tokenizer.ggml.pre", .more = pre_unknown},
     MLXR_E_UNSUPPORTED,
     "tokenizer.ggml.pre \"viking\" is not supported, supported are gpt-2"},
    {{.without_key = "tokenizer.ggml.tokens"}, MLXR_E_FORMAT, "no \"tokenizer.ggml.tokens\""},
    {{.without_key = "tokenizer.ggml.tokens", .more = tokens_bytes},
     MLXR_E_FORMAT,
     "token 2 is not valid UTF-8"},
    {{.without_key = "tokenizer.ggml.tokens", .more = tokens_many},
     MLXR_E_FORMAT,
     "has 6 items for 9 tokens"},
    {{.without_key = "tokenizer.ggml.token_type", .more = types_few},
     MLXR_E_FORMAT,
     "has 5 items for 6 tokens"},
    {{.without_key = "tokenizer.ggml.token_type", .more = types_wrong},
     MLXR_E_FORMAT,
     "token 5 is of unknown type"},
    {{.without_key = "tokenizer.ggml.merges"}, MLXR_E_FORMAT, "no \"tokenizer.ggml.merges\""},
    {{.without_key = "tokenizer.ggml.merges", .more = merge_alien}, MLXR_E_FORMAT, "merge 1 \"b a\""},
    {{.without_key = "tokenizer.ggml.merges", .more = merge_single}, MLXR_E_FORMAT, "merge 0 \"ab\""},
    {{.without_key = "tokenizer.ggml.bos_token_id", .more = bos_far},
     MLXR_E_FORMAT,
     "is 6, the tokens end at 6"},
    {{.types = {MLXR_GGML_Q4_K, MLXR_GGML_F32, MLXR_GGML_Q6_K}, .n_types = 3, .wide = true},
     MLXR_E_UNSUPPORTED,
     "no lossless MLX form for Q4_K (5 tensors, such as \"token_embd.weight\"), Q6_K (5 tensors, such as "
     "\"blk.0.attn_k.weight\"); requantizing must be asked for"},
};

static void refused_files(void **state)
{
    for (size_t i = 0; i < MLXR_COUNT(refusals); i++) {
        mlxr_error err;
        mlxr_status st = import(&refusals[i].tiny, "refused", NULL, &err);
        if (st != refusals[i].status || !strstr(err.message, refusals[i].words))
            fail_msg("case %zu: %s \"%s\", wanted \"%s\"", i, mlxr_status_name(st), err.message,
                     refusals[i].words);
        assert_int_equal(count_files(temp_dir), 0); /* not even the folder */
    }
}

static void tokens_more_than_rows(void **state)
{
    tiny t = {.without_key = "tokenizer.ggml.tokens", .more = tokens_many};
    mlxr_error err;
    mlxr_buf file = {0};
    mlxr_gguf *g;
    const mlxr_gguf_import_options o = mlxr_gguf_import_options_default();

    make_tiny(&file, &t);
    for (size_t i = 0; i + 25 < file.len; i++) /* another key, so that the types are absent */
        if (memcmp(file.data + i, "tokenizer.ggml.token_type", 25) == 0) file.data[i] = 'T';
    assert_int_equal(mlxr_gguf_open_bytes(&g, file.data, file.len, "f.gguf", &err), MLXR_OK);
    assert_int_equal(mlxr_gguf_import_check(g, &o, &err), MLXR_E_FORMAT);
    assert_non_null(strstr(err.message, "9 tokens, but \"token_embd.weight\" has 8 rows"));
    mlxr_gguf_close(g);
    mlxr_buf_clear(&file);
}

/* ---- requantizing ---- */

static void requantized(void **state)
{
    static const unsigned widths[][2] = {{4, 32}, {3, 64}, {6, 128}};
    tiny t = {.types = {MLXR_GGML_Q2_K, MLXR_GGML_Q3_K, MLXR_GGML_Q4_K, MLXR_GGML_Q5_K, MLXR_GGML_Q6_K,
                        MLXR_GGML_IQ4_NL, MLXR_GGML_IQ4_XS, MLXR_GGML_Q8_0},
              .n_types = 8,
              .wide = true};
    const size_t d = width(&t);
    mlxr_error err;

    for (size_t w = 0; w < MLXR_COUNT(widths); w++) {
        mlxr_gguf_import_options o = mlxr_gguf_import_options_default();
        char dir[16], module[64] = "model.embed_tokens";
        mlxr_checkpoint *c;
        json_t *config;
        o.requantize = true;
        o.requantize_bits = widths[w][0];
        o.requantize_group_size = widths[w][1];
        snprintf(dir, sizeof dir, "q%zu", w);
        if (import(&t, dir, &o, &err) != MLXR_OK) fail_msg("%s", err.message);
        config = read_json(dir, "config.json");
        assert_int_equal(mlxr_checkpoint_open(&c, temp_path(dir), &err), MLXR_OK);
        turn = 0;
        for (int k = 0; k < 8; k++) { /* the embedding and the first layer's matrices: each type once */
            static const char *const names[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                                "self_attn.o_proj", "mlp.gate_proj",    "mlp.up_proj",
                                                "mlp.down_proj"};
            float row[512], want[512];
            uint8_t packed[512], scales[512], biases[512];
            mlxr_matrix m, expected;
            mlxr_ggml_type type = t.types[turn++ % 8];
            if (k) snprintf(module, sizeof module, "model.layers.0.%s", names[k - 1]);
            if (type == MLXR_GGML_Q8_0) continue; /* stays as it is: see lossless_types */
            m = matrix_of(c, config, module);
            assert_int_equal(m.quant.bits, widths[w][0]);
            assert_int_equal(m.quant.group_size, widths[w][1]);
            expected = m;
            expected.data = packed;
            expected.scales = scales;
            expected.biases = biases;
            for (size_t i = 0; i < m.n_rows; i++) {
                const size_t from = k == 1 || k == 2 ? file_row(i, d / 2) : i;
                for (size_t j = 0; j < m.n_cols; j++) want[j] = block_value(&t, type, from, j, m.n_cols);
                mlxr_affine_quantize_row(want, m.n_cols, m.quant, MLXR_F16, packed, scales, biases);
                mlxr_matrix_row(&expected, 0, want);
                mlxr_matrix_row(&m, i, row);
                assert_memory_equal(row, want, m.n_cols * sizeof *row);
            }
        }
        mlxr_checkpoint_close(c);
        json_decref(config);
    }
}

static void not_requantizable(void **state)
{
    tiny t = {.types = {19}, .n_types = 1, .wide = true};
    mlxr_gguf_import_options o = mlxr_gguf_import_options_default();
    mlxr_error err;

    o.requantize = true;
    assert_int_equal(import(&t, "x", &o, &err), MLXR_E_UNSUPPORTED);
    assert_non_null(
        strstr(err.message, "cannot be requantized: IQ1_S (15 tensors, such as \"token_embd.weight\")"));
    o.requantize_bits = 7;
    assert_int_equal(import(&t, "x", &o, &err), MLXR_E_INVALID_ARGUMENT);
    assert_int_equal(count_files(temp_dir), 0);
}

/* ---- imports that do not end well ---- */

static void kill_at_half(uint64_t done, uint64_t total, void *ud)
{
    if (done > total / 2) kill(getpid(), SIGKILL);
}

static void killed_import_is_no_model(void **state)
{
    tiny t = {.types = {MLXR_GGML_Q4_0}, .n_types = 1};
    mlxr_gguf_import_options o = mlxr_gguf_import_options_default();
    mlxr_error err;
    mlxr_checkpoint *c;
    int status;
    pid_t pid;

    o.progress.fn = kill_at_half;
    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)import(&t, "killed", &o, &err);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_false(mlxr_path_is_file(temp_path("killed/config.json")));
    assert_int_equal(mlxr_checkpoint_open(&c, temp_path("killed"), &err), MLXR_E_NOT_FOUND);
    check_lossless(&t, "killed"); /* and the next import goes through */
}

static void failed_import_is_no_model(void **state)
{
    tiny t = {.types = {MLXR_GGML_Q4_0}, .n_types = 1};
    mlxr_error err;

    assert_int_equal(mlxr_make_dirs(temp_path("f/generation_config.json/x"), &err), MLXR_OK);
    assert_int_equal(import(&t, "f", NULL, &err), MLXR_E_IO);
    assert_non_null(strstr(err.message, "generation_config.json"));
    assert_true(mlxr_path_is_file(temp_path("f/tokenizer.json")));
    assert_false(mlxr_path_is_file(temp_path("f/config.json")));
}

static void taken_folder(void **state)
{
    tiny t = {0};
    mlxr_error err;

    assert_int_equal(import(&t, "m", NULL, &err), MLXR_OK);
    assert_int_equal(import(&t, "m", NULL, &err), MLXR_E_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "holds a model already (config.json)"));
    assert_int_equal(mlxr_gguf_import(temp_path("nothing.gguf"), temp_path("n"), NULL, &err),
                     MLXR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "nothing.gguf"));
    assert_int_equal(mlxr_gguf_import(temp_path("m/config.json"), temp_path("n"), NULL, &err), MLXR_E_FORMAT);
    assert_int_equal(count_files(temp_dir), 1);
}

#define IN_TEMP_DIR(f) cmocka_unit_test_setup_teardown(f, temp_dir_make, temp_dir_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(lossless_types),
        IN_TEMP_DIR(wide_scales),
        IN_TEMP_DIR(other_files),
        IN_TEMP_DIR(sentencepiece_tokenizers),
        IN_TEMP_DIR(pre_tokenizers),
        IN_TEMP_DIR(no_bos_id),
        IN_TEMP_DIR(rope_factors),
        IN_TEMP_DIR(refused_files),
        cmocka_unit_test(tokens_more_than_rows),
        IN_TEMP_DIR(requantized),
        IN_TEMP_DIR(not_requantizable),
        IN_TEMP_DIR(killed_import_is_no_model),
        IN_TEMP_DIR(failed_import_is_no_model),
        IN_TEMP_DIR(taken_folder),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
