/* Binding of what dense models have not: stacks of experts in one tensor or many, convolutions, gpt-oss's blocks. The
 * checkpoints are made here, tensor t filled with its number, so that it shows where a matrix points. */
#include "model/model.h"
#include "test.h"

enum { MAX_TENSORS = 64, D = 32, F = 32, E = 3, V = 4 };

typedef struct tensor {
    char name[96];
    mlxr_dtype dtype;
    size_t n_dims, shape[4];
} tensor;

typedef struct checkpoint {
    tensor t[MAX_TENSORS];
    size_t n, skew; /* skew: bytes before the first tensor, in the place of a name */
    uint8_t *bytes;
    mlxr_model *model;
} checkpoint;

static void add(checkpoint *c, const char *name, mlxr_dtype dtype, size_t n_dims, const size_t *shape)
{
    tensor *t = &c->t[c->n++];
    assert_true(c->n <= MAX_TENSORS);
    snprintf(t->name, sizeof t->name, "%s", name);
    t->dtype = dtype;
    t->n_dims = n_dims;
    memcpy(t->shape, shape, n_dims * sizeof *shape);
}
#define SHAPE(...)                                                           \
    sizeof((const size_t[]){__VA_ARGS__}) / sizeof(size_t), (const size_t[]) \
    {                                                                        \
        __VA_ARGS__                                                          \
    }

static tensor *find(checkpoint *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->t[i].name, name) == 0) return &c->t[i];
    fail_msg("no %s", name);
    return NULL;
}

static void drop(checkpoint *c, const char *name)
{
    *find(c, name) = c->t[c->n - 1];
    c->n--;
}

static void write_file(checkpoint *c, size_t *n_bytes)
{
    mlxr_buf head = {0};
    size_t at = 0, total = 0;

    for (size_t i = 0; i < c->n; i++) {
        const tensor *t = &c->t[i];
        size_t size = mlxr_dtype_bits(t->dtype) / 8;
        mlxr_buf_printf(&head, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "{", t->name,
                        mlxr_dtype_name(t->dtype));
        for (size_t k = 0; k < t->n_dims; k++) {
            mlxr_buf_printf(&head, "%s%zu", k ? "," : "", t->shape[k]);
            size *= t->shape[k];
        }
        mlxr_buf_printf(&head, "],\"data_offsets\":[%zu,%zu]}", total, total + size);
        total += size;
    }
    mlxr_buf_str(&head, "}");
    for (size_t i = 0; i < c->skew; i++) mlxr_buf_char(&head, ' '); /* padding, as writers align the data */
    assert_false(head.failed);
    *n_bytes = 8 + head.len + total;
    c->bytes = calloc(1, *n_bytes);
    assert_non_null(c->bytes);
    for (size_t i = 0; i < 8; i++) c->bytes[i] = (uint8_t)(head.len >> (8 * i));
    memcpy(c->bytes + 8, head.data, head.len);
    at = 8 + head.len;
    for (size_t i = 0; i < c->n; i++) {
        size_t size = mlxr_dtype_bits(c->t[i].dtype) / 8;
        for (size_t k = 0; k < c->t[i].n_dims; k++) size *= c->t[i].shape[k];
        memset(c->bytes + at, (int)i, size);
        at += size;
    }
    mlxr_buf_clear(&head);
}

static mlxr_status bind(checkpoint *c, const char *config, mlxr_error *err)
{
    json_t *root;
    mlxr_checkpoint *parsed;
    size_t n_bytes;
    mlxr_status st;

    *err = (mlxr_error){0};
    write_file(c, &n_bytes);
    assert_ok(mlxr_json_parse(&root, config, strlen(config), "config.json", err), err);
    assert_ok(mlxr_checkpoint_open_bytes(&parsed, c->bytes, n_bytes, "model.safetensors", err), err);
    st = mlxr_model_open_parts(&c->model, root, parsed, "config.json", err);
    if (st == MLXR_OK) return st;
    mlxr_checkpoint_close(parsed);
    json_decref(root);
    return st;
}

static void unload(checkpoint *c)
{
    mlxr_model_close(c->model);
    free(c->bytes);
    c->model = NULL;
    c->bytes = NULL;
}

static void expect_failure(checkpoint *c, const char *config, mlxr_status status, const char *text)
{
    mlxr_error err;
    assert_fails(bind(c, config, &err), status, text, &err);
    unload(c);
}

static const mlxr_weight *weight_of(const checkpoint *c, const char *name, const char *suffix)
{
    const mlxr_program *p = mlxr_model_program(c->model);
    for (size_t i = 0; i < p->n_weights; i++)
        if (strcmp(p->weights[i].name, name) == 0 && strcmp(p->weights[i].suffix, suffix) == 0)
            return &p->weights[i];
    fail_msg("no weight %s%s", name, suffix);
    return NULL;
}

/* The bytes of tensor `name`, `offset` bytes into them. */
static const void *bytes_of(checkpoint *c, const char *name, size_t offset)
{
    const mlxr_tensor *t = mlxr_checkpoint_find(mlxr_model_checkpoint(c->model), name);
    assert_non_null(t);
    assert_true(offset < t->n_bytes);
    return (const char *)t->data + offset;
}

/* ---- mixtral ---- */

#define MIXTRAL                                                                                              \
    "{\"model_type\": \"mixtral\", \"hidden_size\": 32, \"num_hidden_layers\": 1, \"num_attention_heads\": " \
    "2,"                                                                                                     \
    "\"num_key_value_heads\": 1, \"intermediate_size\": 32, \"vocab_size\": 4, \"num_local_experts\": 3,"    \
    "\"tie_word_embeddings\": true"
#define MOE "model.layers.0.block_sparse_moe."

static void add_layer(checkpoint *c, mlxr_dtype dtype)
{
    static const char *const norms[] = {"model.norm.weight", "model.layers.0.input_layernorm.weight",
                                        "model.layers.0.post_attention_layernorm.weight"};

    add(c, "model.embed_tokens.weight", dtype, SHAPE(V, D));
    for (size_t i = 0; i < 3; i++) add(c, norms[i], dtype, SHAPE(D));
    add(c, "model.layers.0.self_attn.q_proj.weight", dtype, SHAPE(D, D));
    add(c, "model.layers.0.self_attn.k_proj.weight", dtype, SHAPE(D / 2, D));
    add(c, "model.layers.0.self_attn.v_proj.weight", dtype, SHAPE(D / 2, D));
    add(c, "model.layers.0.self_attn.o_proj.weight", dtype, SHAPE(D, D));
}

static checkpoint stacked(void)
{
    checkpoint c = {0};
    add_layer(&c, MLXR_F16);
    add(&c, MOE "gate.weight", MLXR_F16, SHAPE(E, D));
    add(&c, MOE "switch_mlp.gate_proj.weight", MLXR_F16, SHAPE(E, F, D));
    add(&c, MOE "switch_mlp.up_proj.weight", MLXR_F16, SHAPE(E, F, D));
    add(&c, MOE "switch_mlp.down_proj.weight", MLXR_F16, SHAPE(E, D, F));
    return c;
}

static checkpoint each(void)
{
    checkpoint c = {0};
    char name[96];
    add_layer(&c, MLXR_F16);
    add(&c, MOE "gate.weight", MLXR_F16, SHAPE(E, D));
    for (int e = 0; e < E; e++) {
        for (int w = 1; w <= 3; w++) {
            snprintf(name, sizeof name, MOE "experts.%d.w%d.weight", e, w);
            add(&c, name, MLXR_F16, SHAPE(32, 32));
        }
    }
    return c;
}

static void a_stack_in_one_tensor(void **state)
{
    checkpoint c = stacked();
    const mlxr_weight *w;
    mlxr_error err;

    (void)state;
    assert_ok(bind(&c, MIXTRAL "}", &err), &err);
    w = weight_of(&c, MOE "switch_mlp.up_proj", ".weight");
    assert_int_equal(w->n_experts, E);
    for (size_t e = 0; e < E; e++) {
        assert_int_equal(w->experts[e].n_rows, F);
        assert_int_equal(w->experts[e].n_cols, D);
        assert_ptr_equal(w->experts[e].data, bytes_of(&c, MOE "switch_mlp.up_proj.weight", e * F * D * 2));
    }
    unload(&c);

    find(&c, MOE "switch_mlp.up_proj.weight")->shape[0] = E - 1;
    expect_failure(&c, MIXTRAL "}", MLXR_E_FORMAT,
                   "1 misshapen: " MOE "switch_mlp.up_proj.weight [2, 32, 32] F16 (wanted [3, 32, 32])");
    c = stacked();
    find(&c, MOE "switch_mlp.up_proj.weight")->n_dims = 2;
    expect_failure(&c, MIXTRAL "}", MLXR_E_FORMAT, "up_proj.weight [3, 32] F16 (wanted [3, 32, 32])");
    c = stacked();
    drop(&c, MOE "switch_mlp.down_proj.weight");
    expect_failure(&c, MIXTRAL "}", MLXR_E_FORMAT, "fit: 1 missing: " MOE "switch_mlp.down_proj.weight");
    c = stacked();
    find(&c, MOE "switch_mlp.up_proj.weight")->dtype = MLXR_I32;
    expect_failure(&c, MIXTRAL "}", MLXR_E_FORMAT, "(wanted F16, BF16 or F32)");
}

static void a_quantized_stack(void **state)
{
    static const char *const parts[] = {"gate_proj", "up_proj", "down_proj"};
    static const struct {
        const char *quantization;
        mlxr_quant q;
        mlxr_dtype scales;
    } cases[] = {
        {"\"bits\": 4, \"group_size\": 32", {MLXR_QUANT_AFFINE, 4, 32}, MLXR_F16},
        {"\"bits\": 3, \"group_size\": 32", {MLXR_QUANT_AFFINE, 3, 32}, MLXR_F32},
        {"\"mode\": \"mxfp4\"", {MLXR_QUANT_MXFP4, 4, 32}, MLXR_U8},
        {"\"mode\": \"nvfp4\"", {MLXR_QUANT_NVFP4, 4, 16}, MLXR_U8},
    };
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        const mlxr_quant q = cases[i].q;
        checkpoint c = stacked();
        const mlxr_weight *w;
        char name[96], config[512];
        mlxr_error err;
        for (size_t k = 0; k < 3; k++) {
            snprintf(name, sizeof name, MOE "switch_mlp.%s.weight", parts[k]);
            drop(&c, name);
            add(&c, name, MLXR_U32, SHAPE(E, 32, 32 * q.bits / 32));
            snprintf(name, sizeof name, MOE "switch_mlp.%s.scales", parts[k]);
            add(&c, name, cases[i].scales, SHAPE(E, 32, 32 / q.group_size));
            if (q.mode != MLXR_QUANT_AFFINE) continue;
            snprintf(name, sizeof name, MOE "switch_mlp.%s.biases", parts[k]);
            add(&c, name, cases[i].scales, SHAPE(E, 32, 32 / q.group_size));
        }
        snprintf(config, sizeof config, MIXTRAL ", \"quantization\": {%s}}", cases[i].quantization);
        assert_ok(bind(&c, config, &err), &err);
        w = weight_of(&c, MOE "switch_mlp.down_proj", ".weight");
        for (size_t e = 0; e < E; e++) {
            const mlxr_matrix *m = &w->experts[e];
            size_t n_scales = 32 * 32 / q.group_size * (mlxr_dtype_bits(cases[i].scales) / 8);
            assert_int_equal(m->quant.mode, q.mode);
            assert_int_equal(m->row_bytes, 32 * q.bits / 8);
            assert_ptr_equal(m->data, bytes_of(&c, MOE "switch_mlp.down_proj.weight", e * 128 * q.bits));
            assert_ptr_equal(m->scales, bytes_of(&c, MOE "switch_mlp.down_proj.scales", e * n_scales));
            if (q.mode == MLXR_QUANT_AFFINE)
                assert_ptr_equal(m->biases, bytes_of(&c, MOE "switch_mlp.down_proj.biases", e * n_scales));
            else
                assert_null(m->biases);
        }
        unload(&c);
    }
}

static void a_stack_in_many_tensors(void **state)
{
    checkpoint c = each();
    const mlxr_weight *w;
    mlxr_error err;

    (void)state;
    assert_ok(bind(&c, MIXTRAL "}", &err), &err);
    w = weight_of(&c, MOE "experts.{expert}.w3", ".weight");
    assert_ptr_equal(w->experts[0].data, bytes_of(&c, MOE "experts.0.w3.weight", 0));
    assert_ptr_equal(w->experts[2].data, bytes_of(&c, MOE "experts.2.w3.weight", 0));
    assert_memory_equal(&w->m, &w->experts[0], sizeof w->m);
    unload(&c);

    /* One that is missing is told once; those before it are not extra, those after it are. */
    drop(&c, MOE "experts.1.w2.weight");
    expect_failure(&c, MIXTRAL "}", MLXR_E_FORMAT,
                   "fit: 1 missing: " MOE "experts.1.w2.weight (of 3 experts); 1 extra: " MOE
                   "experts.2.w2.weight");
    c = each();
    find(&c, MOE "experts.1.w2.weight")->dtype = MLXR_BF16;
    expect_failure(&c, MIXTRAL "}", MLXR_E_FORMAT,
                   "1 misshapen: " MOE "experts.1.w2.weight (stored otherwise than the first expert's)");
    c = each();
    find(&c, MOE "experts.2.w1.weight")->shape[0] = 31;
    expect_failure(&c, MIXTRAL "}", MLXR_E_FORMAT,
                   "1 misshapen: " MOE "experts.2.w1.weight [31, 32] F16 (wanted [32, 32])");
    c = each();
    add(&c, MOE "experts.3.w1.weight", MLXR_F16, SHAPE(32, 32));
    expect_failure(&c, MIXTRAL "}", MLXR_E_FORMAT, "fit: 1 extra: " MOE "experts.3.w1.weight");
    c = (checkpoint){0};
    add_layer(&c, MLXR_F16);
    expect_failure(&c, MIXTRAL "}", MLXR_E_FORMAT, "4 missing: " MOE "gate.weight, ");
}

static void experts_quantized_each_by_itself(void **state)
{
    checkpoint c = {0};
    const mlxr_weight *w;
    char name[96];
    mlxr_error err;

    (void)state;
    add_layer(&c, MLXR_F16);
    add(&c, MOE "gate.weight", MLXR_F16, SHAPE(E, D));
    for (int e = 0; e < E; e++) {
        for (int i = 1; i <= 3; i++) {
            snprintf(name, sizeof name, MOE "experts.%d.w%d.weight", e, i);
            add(&c, name, MLXR_U32, SHAPE(32, 4));
            snprintf(name, sizeof name, MOE "experts.%d.w%d.scales", e, i);
            add(&c, name, MLXR_F16, SHAPE(32, 1));
            snprintf(name, sizeof name, MOE "experts.%d.w%d.biases", e, i);
            add(&c, name, MLXR_F16, SHAPE(32, 1));
        }
    }
    assert_ok(bind(&c, MIXTRAL ", \"quantization\": {\"bits\": 4, \"group_size\": 32}}", &err), &err);
    w = weight_of(&c, MOE "experts.{expert}.w2", ".weight");
    assert_int_equal(w->experts[2].quant.bits, 4);
    assert_ptr_equal(w->experts[2].biases, bytes_of(&c, MOE "experts.2.w2.biases", 0));
    unload(&c);
    /* The last expert's scales are another width: its own shapes are believed, and it is not as the first. */
    find(&c, MOE "experts.2.w2.weight")->shape[1] = 8;
    expect_failure(&c, MIXTRAL ", \"quantization\": {\"bits\": 4, \"group_size\": 32}}", MLXR_E_FORMAT,
                   MOE "experts.2.w2.weight (stored otherwise than the first expert's)");
    /* Those before a missing one, with their scales, are no extra ones. */
    find(&c, MOE "experts.2.w2.weight")->shape[1] = 4;
    drop(&c, MOE "experts.2.w2.weight");
    expect_failure(&c, MIXTRAL ", \"quantization\": {\"bits\": 4, \"group_size\": 32}}", MLXR_E_FORMAT,
                   "1 missing: " MOE "experts.2.w2.weight (of 3 experts); 2 extra: ");
}

/* Values lie where they lie: the data of a file may begin at any byte. */
static void odd_offsets(void **state)
{
    (void)state;
    for (size_t skew = 0; skew < 8; skew++) {
        checkpoint c = stacked();
        const mlxr_weight *w;
        mlxr_error err;
        c.skew = skew;
        add(&c, "model.layers.0.rotary_emb.inv_freq", MLXR_U8, SHAPE(3));
        assert_ok(bind(&c, MIXTRAL "}", &err), &err);
        w = weight_of(&c, MOE "switch_mlp.down_proj", ".weight");
        assert_memory_equal(w->experts[2].data,
                            bytes_of(&c, MOE "switch_mlp.down_proj.weight", 2 * D * F * 2), D * F * 2);
        unload(&c);
    }
}

static void what_may_be_there_all_the_same(void **state)
{
    checkpoint c = stacked();
    mlxr_error err;

    (void)state;
    add(&c, "lm_head.weight", MLXR_F16, SHAPE(V, D)); /* tied */
    add(&c, "model.layers.0.self_attn.rotary_emb.inv_freq", MLXR_F32, SHAPE(8));
    assert_ok(bind(&c, MIXTRAL "}", &err), &err);
    unload(&c);
    add(&c, "my_lm_head.weight", MLXR_F16, SHAPE(V, D));
    expect_failure(&c, MIXTRAL "}", MLXR_E_FORMAT, "1 extra: my_lm_head.weight");
    drop(&c, "my_lm_head.weight");
    add(&c, "vision_tower.weight", MLXR_F16, SHAPE(2, 2)); /* mixtral has none */
    expect_failure(&c, MIXTRAL "}", MLXR_E_FORMAT, "1 extra: vision_tower.weight");
}

/* ---- gpt-oss ---- */

#define GPT_OSS                                                                                              \
    "{\"model_type\": \"gpt_oss\", \"hidden_size\": 32, \"num_hidden_layers\": 1, \"num_attention_heads\": " \
    "2,"                                                                                                     \
    "\"num_key_value_heads\": 1, \"head_dim\": 16, \"intermediate_size\": 32, \"vocab_size\": 4,"            \
    "\"num_local_experts\": 3, \"num_experts_per_tok\": 2,"                                                  \
    "\"quantization_config\": {\"quant_method\": \"mxfp4\"}}"
#define OSS "model.layers.0.mlp.experts."

static checkpoint blocks(void)
{
    static const struct {
        const char *name;
        size_t n;
    } biases[] = {{"self_attn.q_proj.bias", D},     {"self_attn.k_proj.bias", D / 2},
                  {"self_attn.v_proj.bias", D / 2}, {"self_attn.o_proj.bias", D},
                  {"self_attn.sinks", 2},           {"mlp.router.bias", E}};
    checkpoint c = {0};
    char name[96];

    add_layer(&c, MLXR_BF16);
    for (size_t i = 0; i < MLXR_COUNT(biases); i++) {
        snprintf(name, sizeof name, "model.layers.0.%s", biases[i].name);
        add(&c, name, MLXR_BF16, SHAPE(biases[i].n));
    }
    add(&c, "lm_head.weight", MLXR_BF16, SHAPE(V, D));
    add(&c, "model.layers.0.mlp.router.weight", MLXR_BF16, SHAPE(E, D));
    add(&c, OSS "gate_up_proj_blocks", MLXR_U8, SHAPE(E, 2 * F, D / 32, 16));
    add(&c, OSS "gate_up_proj_scales", MLXR_U8, SHAPE(E, 2 * F, D / 32));
    add(&c, OSS "gate_up_proj_bias", MLXR_BF16, SHAPE(E, 2 * F));
    add(&c, OSS "down_proj_blocks", MLXR_U8, SHAPE(E, D, F / 32, 16));
    add(&c, OSS "down_proj_scales", MLXR_U8, SHAPE(E, D, F / 32));
    add(&c, OSS "down_proj_bias", MLXR_BF16, SHAPE(E, D));
    return c;
}

static void blocks_of_gpt_oss(void **state)
{
    checkpoint c = blocks();
    const mlxr_weight *w;
    mlxr_error err;

    (void)state;
    assert_ok(bind(&c, GPT_OSS, &err), &err);
    w = weight_of(&c, OSS "gate_up_proj", "_blocks");
    for (size_t e = 0; e < E; e++) {
        assert_int_equal(w->experts[e].quant.mode, MLXR_QUANT_MXFP4);
        assert_int_equal(w->experts[e].row_bytes, D / 2);
        assert_ptr_equal(w->experts[e].data, bytes_of(&c, OSS "gate_up_proj_blocks", e * F * D));
        assert_ptr_equal(w->experts[e].scales, bytes_of(&c, OSS "gate_up_proj_scales", e * 2 * F));
        assert_null(w->experts[e].biases);
    }
    w = weight_of(&c, OSS "down_proj", "_bias");
    assert_int_equal(w->n_experts, 0);
    assert_true(w->m.n_rows == E && w->m.n_cols == D && w->m.quant.mode == MLXR_QUANT_NONE);
    unload(&c);

    find(&c, OSS "down_proj_blocks")->shape[3] = 15;
    expect_failure(&c, GPT_OSS, MLXR_E_FORMAT, OSS "down_proj_blocks [3, 32, 1, 15] U8 with scales");
    c = blocks();
    find(&c, OSS "down_proj_scales")->shape[2] = 2;
    expect_failure(&c, GPT_OSS, MLXR_E_FORMAT,
                   "down_proj_blocks [3, 32, 1, 16] U8 with scales [3, 32, 2] U8");
    c = blocks();
    drop(&c, OSS "down_proj_scales");
    expect_failure(&c, GPT_OSS, MLXR_E_FORMAT, "down_proj_");
    c = blocks();
    find(&c, OSS "down_proj_bias")->shape[1] = 31;
    expect_failure(&c, GPT_OSS, MLXR_E_FORMAT, OSS "down_proj_bias [3, 31] BF16 (wanted [3, 32])");
    c = blocks();
    find(&c, "model.layers.0.self_attn.sinks")->shape[0] = 3;
    expect_failure(&c, GPT_OSS, MLXR_E_FORMAT, "model.layers.0.self_attn.sinks [3] BF16 (wanted [2])");
    c = blocks(); /* the values dense, as no checkpoint of gpt-oss has them in rows */
    drop(&c, OSS "down_proj_blocks");
    expect_failure(&c, GPT_OSS, MLXR_E_FORMAT, "missing: " OSS "down_proj_blocks");
}

/* ---- lfm2 ---- */

#define LFM2                                                                                                \
    "{\"model_type\": \"lfm2\", \"hidden_size\": 32, \"num_hidden_layers\": 1, \"num_attention_heads\": 2," \
    "\"block_ff_dim\": 32, \"block_auto_adjust_ff_dim\": false, \"vocab_size\": 4, \"norm_eps\": 1e-5,"     \
    "\"conv_L_cache\": 3, \"layer_types\": [\"conv\"]}"

static checkpoint convolution(size_t n_dims, size_t second, size_t third)
{
    checkpoint c = {0};

    add(&c, "model.embed_tokens.weight", MLXR_F32, SHAPE(V, D));
    add(&c, "model.embedding_norm.weight", MLXR_F32, SHAPE(D));
    add(&c, "model.layers.0.operator_norm.weight", MLXR_F32, SHAPE(D));
    add(&c, "model.layers.0.ffn_norm.weight", MLXR_F32, SHAPE(D));
    add(&c, "model.layers.0.conv.in_proj.weight", MLXR_F32, SHAPE(3 * D, D));
    add(&c, "model.layers.0.conv.out_proj.weight", MLXR_F32, SHAPE(D, D));
    add(&c, "model.layers.0.feed_forward.w1.weight", MLXR_F32, SHAPE(F, D));
    add(&c, "model.layers.0.feed_forward.w2.weight", MLXR_F32, SHAPE(D, F));
    add(&c, "model.layers.0.feed_forward.w3.weight", MLXR_F32, SHAPE(F, D));
    add(&c, "model.layers.0.conv.conv.weight", MLXR_F32, SHAPE(D, second, third));
    c.t[c.n - 1].n_dims = n_dims;
    return c;
}

static void convolutions_in_both_layouts(void **state)
{
    static const size_t good[][3] = {{3, 1, 3}, {3, 3, 1}, {2, 3, 1}},
                        bad[][3] = {{3, 3, 3}, {3, 1, 4}, {3, 1, 1}};
    checkpoint c;
    mlxr_error err;

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(good); i++) {
        const mlxr_weight *w;
        c = convolution(good[i][0], good[i][1], good[i][2]);
        assert_ok(bind(&c, LFM2, &err), &err);
        w = weight_of(&c, "model.layers.0.conv.conv", ".weight");
        assert_true(w->m.n_rows == D && w->m.n_cols == 3 && w->m.row_bytes == 12);
        unload(&c);
    }
    for (size_t i = 0; i < MLXR_COUNT(bad); i++) {
        c = convolution(bad[i][0], bad[i][1], bad[i][2]);
        expect_failure(&c, LFM2, MLXR_E_FORMAT, "1 misshapen: model.layers.0.conv.conv.weight [32, ");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stack_in_one_tensor),
        cmocka_unit_test(a_quantized_stack),
        cmocka_unit_test(a_stack_in_many_tensors),
        cmocka_unit_test(experts_quantized_each_by_itself),
        cmocka_unit_test(odd_offsets),
        cmocka_unit_test(what_may_be_there_all_the_same),
        cmocka_unit_test(blocks_of_gpt_oss),
        cmocka_unit_test(convolutions_in_both_layouts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
