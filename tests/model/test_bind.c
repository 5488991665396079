/* Binding over checkpoints made here, all zeros, from a list of names and shapes: every defect is named, all of them
 * in one message. */
#include "model/model.h"
#include "test.h"

enum { MAX_TENSORS = 64 };

typedef struct tensor {
    char name[128];
    const char *dtype;
    size_t n_dims, shape[3];
} tensor;

typedef struct checkpoint {
    tensor t[MAX_TENSORS];
    size_t n;
} checkpoint;

static tensor *find(checkpoint *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->t[i].name, name) == 0) return &c->t[i];
    return NULL;
}

static void add(checkpoint *c, const char *name, const char *dtype, size_t n_dims, size_t rows, size_t cols)
{
    tensor *t = &c->t[c->n++];
    assert_true(c->n <= MAX_TENSORS);
    snprintf(t->name, sizeof t->name, "%s", name);
    t->dtype = dtype;
    t->n_dims = n_dims;
    t->shape[0] = rows;
    t->shape[1] = cols;
}

/* A matrix as affine codes, scales and biases. */
static void add_affine(checkpoint *c, const char *name, size_t rows, size_t cols, size_t bits, size_t group)
{
    char full[128];
    snprintf(full, sizeof full, "%s.weight", name);
    add(c, full, "U32", 2, rows, cols * bits / 32);
    snprintf(full, sizeof full, "%s.scales", name);
    add(c, full, "F16", 2, rows, cols / group);
    snprintf(full, sizeof full, "%s.biases", name);
    add(c, full, "F16", 2, rows, cols / group);
}

/* The same as floats of 4 or 8 bits with scales of one byte. */
static void add_fp(checkpoint *c, const char *name, size_t rows, size_t cols, size_t bits, size_t group)
{
    char full[128];
    snprintf(full, sizeof full, "%s.weight", name);
    add(c, full, "U32", 2, rows, cols * bits / 32);
    snprintf(full, sizeof full, "%s.scales", name);
    add(c, full, "U8", 2, rows, cols / group);
}

static void drop(checkpoint *c, const char *name)
{
    tensor *t = find(c, name);
    assert_non_null(t);
    *t = c->t[--c->n];
}

static void drop_affine(checkpoint *c, const char *name)
{
    char full[128];
    static const char *const parts[] = {"weight", "scales", "biases"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(full, sizeof full, "%s.%s", name, parts[i]);
        drop(c, full);
    }
}

/* The safetensors file of c; free it. */
static uint8_t *file_of(const checkpoint *c, size_t *n_bytes)
{
    mlxr_buf head = {0};
    size_t at = 0;
    uint8_t *bytes;
    uint64_t n;

    for (size_t i = 0; i < c->n; i++) {
        const tensor *t = &c->t[i];
        size_t size = (mlxr_dtype_bits(mlxr_dtype_from_name(t->dtype)) / 8);
        mlxr_buf_printf(&head, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "{", t->name, t->dtype);
        for (size_t d = 0; d < t->n_dims; d++) {
            mlxr_buf_printf(&head, "%s%zu", d ? "," : "", t->shape[d]);
            size *= t->shape[d];
        }
        mlxr_buf_printf(&head, "],\"data_offsets\":[%zu,%zu]}", at, at + size);
        at += size;
    }
    mlxr_buf_str(&head, c->n ? "}" : "{}");
    assert_false(head.failed);
    *n_bytes = 8 + head.len + at;
    bytes = calloc(1, *n_bytes);
    assert_non_null(bytes);
    n = head.len;
    for (size_t i = 0; i < 8; i++) bytes[i] = (uint8_t)(n >> (8 * i));
    memcpy(bytes + 8, head.data, head.len);
    mlxr_buf_clear(&head);
    return bytes;
}

/* What a one-layer model of hidden 64 stores; every matrix dense, or quantized so. */
static checkpoint whole_as(mlxr_quant q)
{
    static const struct {
        const char *name;
        size_t rows, cols; /* rows 0: a vector */
    } parts[] = {
        {"model.embed_tokens", 20, 64},
        {"model.layers.0.input_layernorm", 0, 64},
        {"model.layers.0.self_attn.q_proj", 64, 64},
        {"model.layers.0.self_attn.k_proj", 32, 64},
        {"model.layers.0.self_attn.v_proj", 32, 64},
        {"model.layers.0.self_attn.o_proj", 64, 64},
        {"model.layers.0.post_attention_layernorm", 0, 64},
        {"model.layers.0.mlp.gate_proj", 96, 64},
        {"model.layers.0.mlp.up_proj", 96, 64},
        {"model.layers.0.mlp.down_proj", 64, 96},
        {"model.norm", 0, 64},
        {"lm_head", 20, 64},
    };
    checkpoint c = {0};
    for (size_t i = 0; i < MLXR_COUNT(parts); i++) {
        char name[128];
        snprintf(name, sizeof name, "%s.weight", parts[i].name);
        if (parts[i].rows == 0)
            add(&c, name, "F16", 1, parts[i].cols, 0);
        else if (q.mode == MLXR_QUANT_AFFINE)
            add_affine(&c, parts[i].name, parts[i].rows, parts[i].cols, q.bits, q.group_size);
        else if (q.mode != MLXR_QUANT_NONE)
            add_fp(&c, parts[i].name, parts[i].rows, parts[i].cols, q.bits, q.group_size);
        else
            add(&c, name, "BF16", 2, parts[i].rows, parts[i].cols);
    }
    return c;
}

static const mlxr_quant dense = {0};
static const mlxr_quant q4g32 = {MLXR_QUANT_AFFINE, 4, 32};
static const mlxr_quant fp_modes[] = {
    {MLXR_QUANT_MXFP4, 4, 32}, {MLXR_QUANT_NVFP4, 4, 16}, {MLXR_QUANT_MXFP8, 8, 32}};

static checkpoint whole(bool affine)
{
    return whole_as(affine ? q4g32 : dense);
}

#define AFFINE "\"quantization\": {\"bits\": 4, \"group_size\": 32"

/* extra: more members of config.json. */
static mlxr_status bind(mlxr_model **out, const checkpoint *c, const char *extra, uint8_t **bytes,
                        mlxr_error *err)
{
    json_t *root = NULL;
    mlxr_checkpoint *parsed = NULL;
    size_t n_bytes;
    mlxr_status st;
    char *config = mlxr_asprintf("{\"model_type\": \"llama\", \"hidden_size\": 64, \"num_hidden_layers\": 1, "
                                 "\"num_attention_heads\": 4,"
                                 "\"num_key_value_heads\": 2, \"intermediate_size\": 96, \"vocab_size\": 20, "
                                 "\"rms_norm_eps\": 1e-5%s%s}",
                                 *extra ? "," : "", extra);

    assert_non_null(config);
    *bytes = file_of(c, &n_bytes);
    assert_ok(mlxr_json_parse(&root, config, strlen(config), "config.json", err), err);
    assert_ok(mlxr_checkpoint_open_bytes(&parsed, *bytes, n_bytes, "model.safetensors", err), err);
    st = mlxr_model_open_parts(out, root, parsed, "config.json", err);
    if (st != MLXR_OK) {
        mlxr_checkpoint_close(parsed);
        json_decref(root);
    }
    free(config);
    return st;
}

static void expect_ok(const checkpoint *c, const char *extra, const char *weight, mlxr_quant want)
{
    mlxr_model *m;
    uint8_t *bytes;
    mlxr_error err;
    const mlxr_program *p;
    bool seen = false;

    assert_ok(bind(&m, c, extra, &bytes, &err), &err);
    p = mlxr_model_program(m);
    for (size_t i = 0; i < p->n_weights; i++) {
        const mlxr_weight *w = &p->weights[i];
        assert_true(w->bound && w->m.n_rows == w->n_rows && w->m.n_cols == w->n_cols && w->m.data);
        if (strcmp(w->name, weight) != 0) continue;
        seen = true;
        assert_int_equal(w->m.quant.mode, want.mode);
        assert_int_equal(w->m.quant.bits, want.bits);
        assert_int_equal(w->m.quant.group_size, want.group_size);
        if (mlxr_quant_is_fp(want.mode)) assert_int_equal(w->m.dtype, MLXR_U8);
        assert_true(!w->m.scales == !want.mode);
        assert_true(!w->m.biases == (want.mode != MLXR_QUANT_AFFINE));
        assert_true(w->m.global_scale == 0);
        assert_int_equal(w->m.row_bytes, want.mode ? w->n_cols * want.bits / 8 : w->n_cols * 2);
    }
    assert_true(seen);
    assert_ptr_equal(json_object_get(mlxr_model_config(m), "no such key"), NULL);
    assert_int_equal(mlxr_checkpoint_count(mlxr_model_checkpoint(m)), c->n);
    mlxr_model_close(m);
    free(bytes);
}

static void expect_failure(const checkpoint *c, const char *extra, mlxr_status status, const char *text)
{
    mlxr_model *m;
    uint8_t *bytes;
    mlxr_error err = {0};
    assert_fails(bind(&m, c, extra, &bytes, &err), status, text, &err);
    assert_null(m);
    free(bytes);
}

#define UNTIED "\"tie_word_embeddings\": false"

static void whole_checkpoints_bind(void **state)
{
    checkpoint c = whole(false);
    (void)state;
    expect_ok(&c, UNTIED, "lm_head", dense);
    expect_ok(&c, "", "model.embed_tokens",
              dense); /* tied: the lm_head that is there all the same is let be */
    add(&c, "model.layers.0.self_attn.rotary_emb.inv_freq", "F32", 1, 8, 0);
    expect_ok(&c, UNTIED, "lm_head", dense);
    c = whole(true);
    expect_ok(&c, UNTIED "," AFFINE "}", "lm_head", q4g32);
    expect_ok(&c, AFFINE "}", "model.embed_tokens", q4g32);
    expect_ok(&c, UNTIED ",\"quantization_config\": {\"bits\": 4, \"group_size\": 32, \"mode\": \"affine\"}",
              "lm_head", q4g32);
    expect_ok(&c,
              UNTIED ",\"quantization\": null, \"quantization_config\": {\"bits\": 4, \"group_size\": 32}",
              "lm_head", q4g32);
}

static void misfits_are_listed_by_kind(void **state)
{
    static const char text[] =
        "{\"model_type\": \"llama\", \"hidden_size\": 64, \"num_hidden_layers\": 1, \"num_attention_heads\": "
        "4, "
        "\"num_key_value_heads\": 2, \"intermediate_size\": 96, \"vocab_size\": 20, \"rms_norm_eps\": "
        "1e-5, \"tie_word_embeddings\": false}";
    checkpoint c = whole(false);
    mlxr_config config = {.what = "config.json"};
    const mlxr_family *family;
    mlxr_program *p;
    mlxr_checkpoint *ck;
    mlxr_misfits m;
    mlxr_error err = {0};
    size_t n;
    uint8_t *bytes;
    (void)state;

    drop(&c, "model.layers.0.mlp.up_proj.weight");
    drop(&c, "model.norm.weight");
    find(&c, "model.layers.0.self_attn.q_proj.weight")->shape[0] += 1;
    for (int i = 0; i < 30; i++) {
        char name[32];
        snprintf(name, sizeof name, "spare.%02d", i);
        add(&c, name, "F16", 1, 4, 0);
    }
    bytes = file_of(&c, &n);
    assert_ok(mlxr_checkpoint_open_bytes(&ck, bytes, n, "f", &err), &err);
    assert_ok(mlxr_json_parse(&config.root, text, sizeof text - 1, "config.json", &err), &err);
    assert_ok(mlxr_family_find(&family, &config, &err), &err);
    assert_ok(family->build(&p, &config, &err), &err);
    assert_fails(mlxr_weights_bind_listing(&m, p, ck, family, &config, &err), MLXR_E_FORMAT,
                 "2 missing: model.layers.0.mlp.up_proj.weight, model.norm.weight; 1 misshapen: ", &err);
    assert_int_equal(m.missing.n, 2);
    assert_string_equal(m.missing.text.data, "model.layers.0.mlp.up_proj.weight, model.norm.weight");
    assert_int_equal(m.misshapen.n, 1);
    assert_non_null(strstr(m.misshapen.text.data, "model.layers.0.self_attn.q_proj.weight ["));
    assert_int_equal(m.extra.n, 30);
    assert_non_null(strstr(m.extra.text.data, "spare.23 and 6 more"));
    mlxr_misfits_clear(&m);
    assert_int_equal(m.extra.n, 0);
    mlxr_program_free(p);
    mlxr_checkpoint_close(ck);
    json_decref(config.root);
    free(bytes);
}

static void entries_by_module_override_the_settings(void **state)
{
    checkpoint c = whole(true);
    (void)state;
    drop_affine(&c, "lm_head");
    add_affine(&c, "lm_head", 20, 64, 8, 64);
    expect_ok(&c, UNTIED "," AFFINE ", \"lm_head\": {\"bits\": 8, \"group_size\": 64}}", "lm_head",
              (mlxr_quant){MLXR_QUANT_AFFINE, 8, 64});
    /* What an entry leaves out is MLX's default, not the model's setting. */
    expect_ok(&c, UNTIED "," AFFINE ", \"lm_head\": {\"bits\": 8}}", "lm_head",
              (mlxr_quant){MLXR_QUANT_AFFINE, 8, 64});
    expect_failure(
        &c, UNTIED "," AFFINE ", \"lm_head\": {\"bits\": 6}}", MLXR_E_FORMAT,
        "1 misshapen: lm_head.weight [20, 16] U32 with scales [20, 1] F16 (wanted [20, 12] U32 with scales "
        "[20, 1], for 6 bits in groups of 64)");
    /* Without an entry the shapes are believed, as in mlx-lm. */
    expect_ok(&c, UNTIED "," AFFINE "}", "lm_head", (mlxr_quant){MLXR_QUANT_AFFINE, 8, 64});

    drop_affine(&c, "lm_head");
    add(&c, "lm_head.weight", "F16", 2, 20, 64);
    expect_ok(&c, UNTIED "," AFFINE ", \"lm_head\": false}", "lm_head", dense);
    expect_ok(&c, UNTIED "," AFFINE "}", "lm_head", dense); /* no scales: not quantized */
    expect_failure(&c, UNTIED "," AFFINE ", \"lm_head\": true}", MLXR_E_FORMAT,
                   "2 missing: lm_head.scales, lm_head.biases");
    expect_failure(&c, UNTIED "," AFFINE ", \"lm_head\": 4}", MLXR_E_FORMAT,
                   "quantization of lm_head is neither an object nor a boolean");
}

static void quantizations_that_are_not_ours_are_named(void **state)
{
    static const struct {
        const char *extra;
        mlxr_status status;
        const char *text;
    } cases[] = {
        {"\"quantization\": 4", MLXR_E_FORMAT, "\"quantization\" is not an object"},
        {"\"quantization\": {}", MLXR_E_FORMAT, "\"quantization\" has no \"bits\""},
        {"\"quantization\": {\"bits\": 4}", MLXR_E_FORMAT, "\"quantization\" has no \"group_size\""},
        {"\"quantization\": {\"bits\": 7, \"group_size\": 32}", MLXR_E_UNSUPPORTED,
         "to 7 bits in groups of 32 is not supported; supported: affine to 2, 3, 4, 5, 6 or 8 bits in groups "
         "of "
         "32, 64 or 128, mxfp4 to 4 in groups of 32, nvfp4 to 4 in groups of 16, mxfp8 to 8 in groups of 32"},
        {"\"quantization\": {\"bits\": 4, \"group_size\": 48}", MLXR_E_UNSUPPORTED,
         "to 4 bits in groups of 48"},
        {"\"quantization\": {\"bits\": -4, \"group_size\": 32}", MLXR_E_FORMAT, "\"bits\" is -4"},
        {"\"quantization\": {\"bits\": 4, \"group_size\": 99999999999}", MLXR_E_FORMAT,
         "\"group_size\" is 99999999999"},
        {"\"quantization\": {\"bits\": \"4\", \"group_size\": 32}", MLXR_E_FORMAT, "\"bits\" is a string"},
        {"\"quantization\": {\"bits\": 4, \"group_size\": 32, \"mode\": \"mxfp6\"}", MLXR_E_UNSUPPORTED,
         "mode \"mxfp6\" is not supported; supported: affine, mxfp4, nvfp4, mxfp8"},
        {"\"quantization\": {\"bits\": 4, \"group_size\": 32, \"mode\": \"none\"}", MLXR_E_UNSUPPORTED,
         "mode \"none\" is not supported"},
        {"\"quantization\": {\"bits\": 8, \"group_size\": 32, \"mode\": \"mxfp4\"}", MLXR_E_UNSUPPORTED,
         "mxfp4 to 8 bits in groups of 32 is not supported; supported: affine to 2, "},
        {"\"quantization\": {\"bits\": 4, \"group_size\": 16, \"mode\": \"mxfp4\"}", MLXR_E_UNSUPPORTED,
         "mxfp4 to 4 bits in groups of 16"},
        {"\"quantization\": {\"group_size\": 32, \"mode\": \"nvfp4\"}", MLXR_E_UNSUPPORTED,
         "nvfp4 to 4 bits in groups of 32"},
        {"\"quantization\": {\"bits\": 4, \"mode\": \"mxfp8\"}", MLXR_E_UNSUPPORTED,
         "mxfp8 to 4 bits in groups of 32"},
        {"\"quantization\": {\"bits\": 4, \"group_size\": 32, \"mode\": []}", MLXR_E_FORMAT,
         "\"mode\" is a list"},
        {AFFINE ", \"lm_head\": {\"mode\": \"nvfp5\"}}", MLXR_E_UNSUPPORTED,
         "quantization of lm_head: mode \"nvfp5\" is not supported"},
        {AFFINE ", \"lm_head\": {\"mode\": \"nvfp4\", \"bits\": 8}}", MLXR_E_UNSUPPORTED,
         "quantization of lm_head: nvfp4 to 8 bits in groups of 16"},
        {AFFINE ", \"lm_head\": {\"bits\": 1}}", MLXR_E_UNSUPPORTED,
         "quantization of lm_head: affine to 1 bits in groups of 64"},
        {"\"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 4, \"group_size\": 128}",
         MLXR_E_UNSUPPORTED,
         "quant_method \"gptq\" is not supported; supported: mxfp4, mxfp8, and MLX's "
         "\"quantization\" with mode affine, mxfp4, nvfp4 or mxfp8"},
        {"\"quantization_config\": {\"quant_method\": \"awq\"}", MLXR_E_UNSUPPORTED, "quant_method \"awq\""},
        {"\"quantization_config\": {\"quant_method\": \"fp8\"}", MLXR_E_UNSUPPORTED, "quant_method \"fp8\""},
        {"\"quantization_config\": {\"quant_method\": \"bitsandbytes\", \"load_in_4bit\": true}",
         MLXR_E_UNSUPPORTED, "quant_method \"bitsandbytes\""},
        {"\"quantization_config\": {\"quant_method\": \"nvfp4\"}", MLXR_E_UNSUPPORTED,
         "quant_method \"nvfp4\""},
        {"\"quantization_config\": {\"quant_method\": 3}", MLXR_E_UNSUPPORTED, "(not a string)"},
        {"\"head_dim\": 16", MLXR_E_FORMAT,
         "no \"quantization\", but the checkpoint has quantized model.embed_tokens"},
    };
    checkpoint c = whole(true);
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        char extra[512];
        snprintf(extra, sizeof extra, "%s,%s", UNTIED, cases[i].extra);
        expect_failure(&c, extra, cases[i].status, cases[i].text);
    }
}

static void all_defects_are_in_one_message(void **state)
{
    checkpoint c = whole(false);
    tensor *t;

    (void)state;
    drop(&c, "model.layers.0.self_attn.q_proj.weight");
    drop(&c, "model.norm.weight");
    add(&c, "model.layers.1.mlp.up_proj.weight", "BF16", 2, 96, 64);
    t = find(&c, "model.layers.0.mlp.down_proj.weight");
    t->shape[0] = 96, t->shape[1] = 64;
    expect_failure(&c, UNTIED, MLXR_E_FORMAT,
                   "config.json: the tensors of the checkpoint do not fit: 2 missing: "
                   "model.layers.0.self_attn.q_proj.weight, model.norm.weight; 1 misshapen: "
                   "model.layers.0.mlp.down_proj.weight [96, 64] BF16 (wanted [64, 96]); 1 extra: "
                   "model.layers.1.mlp.up_proj.weight");
    c.n = 0;
    expect_failure(&c, UNTIED, MLXR_E_FORMAT, "12 missing: model.embed_tokens.weight, ");
    expect_failure(&c, UNTIED, MLXR_E_FORMAT, "model.norm.weight, lm_head.weight"); /* every one of them */
    expect_failure(&c, UNTIED "," AFFINE "}", MLXR_E_FORMAT, "12 missing");

    c = whole(false); /* a list is cut where it would no longer be read */
    for (int i = 0; i < 30; i++) {
        char name[32];
        snprintf(name, sizeof name, "extra.%d.weight", i);
        add(&c, name, "BF16", 2, 8, 8);
    }
    expect_failure(&c, UNTIED, MLXR_E_FORMAT, "30 extra: extra.0.weight, ");
    expect_failure(&c, UNTIED, MLXR_E_FORMAT, "extra.23.weight and 6 more");
}

static void shapes_and_dtypes_are_checked(void **state)
{
    static const struct {
        const char *name;
        const char *dtype; /* NULL: keep */
        size_t n_dims, shape[3];
        const char *text;
    } cases[] = {
        {"model.norm.weight", NULL, 1, {63}, "model.norm.weight [63] F16 (wanted [64])"},
        {"model.norm.weight", NULL, 2, {1, 64}, "model.norm.weight [1, 64] F16 (wanted [64])"},
        {"model.norm.weight", NULL, 0, {0}, "model.norm.weight [] F16 (wanted [64])"},
        {"model.norm.weight", "I32", 1, {64}, "model.norm.weight [64] I32 (wanted F16, BF16 or F32)"},
        {"model.norm.weight", "F64", 1, {64}, "model.norm.weight [64] F64 (wanted F16, BF16 or F32)"},
        {"model.norm.weight", NULL, 1, {0}, "model.norm.weight [0] F16 (wanted [64])"},
        {"lm_head.weight", "F32", 2, {20, 64}, "lm_head.weight [20, 64] F32 with scales"},
        {"lm_head.weight", "I32", 2, {20, 8}, "lm_head.weight [20, 8] I32 with scales"},
        {"lm_head.weight", NULL, 2, {20, 9}, "lm_head.weight [20, 9] U32 with scales"},
        {"lm_head.weight", NULL, 2, {21, 8}, "lm_head.weight [21, 8] U32 with scales"},
        {"lm_head.weight", NULL, 2, {20, 0}, "lm_head.weight [20, 0] U32 with scales"},
        {"lm_head.weight", NULL, 1, {160}, "lm_head.weight [160] U32 with scales"},
        {"lm_head.weight", NULL, 3, {20, 8, 1}, "lm_head.weight [20, 8, 1] U32 with scales"},
        {"lm_head.scales",
         NULL,
         2,
         {20, 3},
         "with scales [20, 3] F16 (wanted [20, 8] U32 with scales [20, 2]"},
        {"lm_head.scales", NULL, 2, {20, 0}, "with scales [20, 0] F16"},
        {"lm_head.scales", NULL, 1, {40}, "with scales [40] F16"},
        {"lm_head.scales", "I8", 2, {20, 2}, "lm_head.scales [20, 2] I8 (wanted F16, BF16 or F32)"},
        {"lm_head.scales", "U8", 2, {20, 2}, "1 extra: lm_head.biases"}, /* read as mxfp4 */
        {"lm_head.biases",
         "BF16",
         2,
         {20, 2},
         "lm_head.biases [20, 2] BF16 (wanted as its scales, [20, 2] F16)"},
        {"lm_head.biases", NULL, 2, {2, 20}, "lm_head.biases [2, 20] F16 (wanted as its scales"},
    };
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        checkpoint c = whole(true);
        tensor *t = find(&c, cases[i].name);
        assert_non_null(t);
        if (cases[i].dtype) t->dtype = cases[i].dtype;
        t->n_dims = cases[i].n_dims;
        memcpy(t->shape, cases[i].shape, sizeof t->shape);
        expect_failure(&c, UNTIED "," AFFINE "}", MLXR_E_FORMAT, cases[i].text);
    }
}

static void floats_bind(void **state)
{
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(fp_modes); i++) {
        const mlxr_quant q = fp_modes[i];
        const char *mode = mlxr_quant_mode_name(q.mode);
        checkpoint c = whole_as(q);
        char extra[256];

        snprintf(extra, sizeof extra, UNTIED ",\"quantization\": {\"mode\": \"%s\"}", mode);
        expect_ok(&c, extra, "lm_head", q);
        snprintf(extra, sizeof extra,
                 UNTIED ",\"quantization\": {\"mode\": \"%s\", \"bits\": %u, \"group_size\": %u}", mode,
                 q.bits, q.group_size);
        expect_ok(&c, extra, "model.embed_tokens", q);
        /* From the shapes, when the setting of the whole model does not fit; and by name. */
        expect_ok(&c, UNTIED "," AFFINE "}", "lm_head", q);
        drop(&c, "lm_head.weight");
        drop(&c, "lm_head.scales");
        add_affine(&c, "lm_head", 20, 64, 8, 64);
        expect_ok(&c, extra, "lm_head", (mlxr_quant){MLXR_QUANT_AFFINE, 8, 64});
        snprintf(extra, sizeof extra,
                 UNTIED
                 ",\"quantization\": {\"mode\": \"%s\", \"lm_head\": {\"group_size\": 64, \"bits\": 8}}",
                 mode);
        expect_ok(&c, extra, "lm_head", (mlxr_quant){MLXR_QUANT_AFFINE, 8, 64});
        c = whole(true);
        drop_affine(&c, "lm_head");
        add_fp(&c, "lm_head", 20, 64, q.bits, q.group_size);
        snprintf(extra, sizeof extra, UNTIED "," AFFINE ", \"lm_head\": {\"mode\": \"%s\"}}", mode);
        expect_ok(&c, extra, "lm_head", q);
        expect_ok(&c, extra, "model.embed_tokens", q4g32);
    }
    /* Scales of a float type tell affine from mxfp4 where bits and groups do not. */
    {
        checkpoint c = whole(true);
        expect_ok(&c, UNTIED ",\"quantization\": {\"mode\": \"mxfp4\"}", "lm_head", q4g32);
    }
}

/* As Hugging Face's own files name them. What is not quantized there has no scales. */
static void quant_methods_that_are_mlx_modes(void **state)
{
    const mlxr_quant mxfp4 = fp_modes[0], mxfp8 = fp_modes[2];
    checkpoint c = whole_as(mxfp4);

    (void)state;
    drop(&c, "lm_head.weight");
    drop(&c, "lm_head.scales");
    add(&c, "lm_head.weight", "BF16", 2, 20, 64);
    expect_ok(&c,
              UNTIED ",\"quantization_config\": {\"quant_method\": \"mxfp4\", \"modules_to_not_convert\": "
                     "[\"lm_head\"]}",
              "model.embed_tokens", mxfp4);
    expect_ok(&c, UNTIED ",\"quantization_config\": {\"quant_method\": \"mxfp4\"}", "lm_head", dense);
    c = whole_as(mxfp8);
    expect_ok(&c, UNTIED ",\"quantization_config\": {\"quant_method\": \"mxfp8\"}", "lm_head", mxfp8);
}

static void misfits_of_floats_are_named(void **state)
{
    static const struct {
        const char *name, *dtype;
        size_t shape[2];
        const char *text;
    } cases[] = {
        {"lm_head.scales", "F16", {20, 2}, "lm_head.scales [20, 2] F16 (wanted U8)"},
        {"lm_head.scales", "F8_E8M0", {20, 2}, "lm_head.scales [20, 2] F8_E8M0 (wanted U8)"},
        {"lm_head.scales",
         "U8",
         {20, 4},
         "lm_head.weight [20, 8] U32 with scales [20, 4] U8 (wanted [20, 8] U32 with scales [20, 2], for "
         "floats of 4 bits in groups of 32)"},
        {"lm_head.weight", "U32", {20, 7}, "lm_head.weight [20, 7] U32 with scales [20, 2] U8"},
        {"lm_head.weight", "U8", {20, 8}, "lm_head.weight [20, 8] U8 with scales"},
    };
    static const char extra[] = UNTIED
        ",\"quantization\": {\"mode\": \"mxfp4\", \"lm_head\": {\"mode\": \"mxfp4\"}}";
    checkpoint c;

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        tensor *t;
        c = whole_as(fp_modes[0]);
        t = find(&c, cases[i].name);
        t->dtype = cases[i].dtype;
        memcpy(t->shape, cases[i].shape, sizeof cases[i].shape);
        expect_failure(&c, extra, MLXR_E_FORMAT, cases[i].text);
    }
    c = whole_as(fp_modes[0]);
    add(&c, "lm_head.biases", "U8", 2, 20, 2);
    expect_failure(&c, extra, MLXR_E_FORMAT, "1 extra: lm_head.biases");
    c = whole_as(fp_modes[0]);
    drop(&c, "lm_head.scales");
    expect_failure(&c, extra, MLXR_E_FORMAT, "do not fit: 1 missing: lm_head.scales");
    /* Shapes that no mode has: byte scales for 4 bits in groups of 64. */
    c = whole_as(fp_modes[0]);
    find(&c, "lm_head.scales")->shape[1] = 1;
    expect_failure(&c, UNTIED ",\"quantization\": {\"mode\": \"mxfp4\"}", MLXR_E_FORMAT,
                   "lm_head.weight [20, 8] U32 with scales [20, 1] U8 (wanted");
}

/* 96 columns do not divide into groups of 64. */
static void groups_that_do_not_divide(void **state)
{
    checkpoint c = whole(true);
    (void)state;
    expect_failure(
        &c, UNTIED "," AFFINE ", \"model.layers.0.mlp.down_proj\": {\"bits\": 4, \"group_size\": 64}}",
        MLXR_E_FORMAT, "model.layers.0.mlp.down_proj.weight (96 columns do not divide into groups of 64)");
}

/* A name that a hostile file makes long or strange is cut, and the message stays one line. */
static void strange_names_stay_one_line(void **state)
{
    checkpoint c = whole(false);
    mlxr_model *m;
    uint8_t *bytes;
    mlxr_error err;

    (void)state;
    add(&c, "line\\nbreak\\u0007\\u00e9", "F16", 1, 1, 0);
    assert_fails(bind(&m, &c, UNTIED, &bytes, &err), MLXR_E_FORMAT, "1 extra: line break", &err);
    assert_null(strchr(err.message, '\n'));
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_checkpoints_bind),
        cmocka_unit_test(entries_by_module_override_the_settings),
        cmocka_unit_test(misfits_are_listed_by_kind),
        cmocka_unit_test(quantizations_that_are_not_ours_are_named),
        cmocka_unit_test(all_defects_are_in_one_message),
        cmocka_unit_test(shapes_and_dtypes_are_checked),
        cmocka_unit_test(floats_bind),
        cmocka_unit_test(quant_methods_that_are_mlx_modes),
        cmocka_unit_test(misfits_of_floats_are_named),
        cmocka_unit_test(groups_that_do_not_divide),
        cmocka_unit_test(strange_names_stay_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
