/* Every family from the tiny models of tests/fuzz/corpus/config (make_config_corpus.py): the operations they become,
 * what real folders write in other words, and hostile values of every field, which are refused by name. */
#include <sys/resource.h>
#include <time.h>

#include "base/fs.h"
#include "base/json.h"
#include "model/model.h"
#include "test.h"

/* One model of the corpus. */
typedef struct input {
    mlxr_buf bytes;
    json_t *config;
    json_t *fields; /* config or its text_config; borrowed */
    uint8_t *tensors;
    size_t n_tensors;
} input;

static void load(input *in, const char *name)
{
    char path[512];
    mlxr_error err;
    const char *zero;
    size_t n;

    *in = (input){0};
    snprintf(path, sizeof path, "%s/tests/fuzz/corpus/config/%s", MLXR_SOURCE_DIR, name);
    assert_ok(mlxr_file_read(&in->bytes, path, 1 << 20, &err), &err);
    zero = memchr(in->bytes.data, 0, in->bytes.len);
    assert_non_null(zero);
    n = (size_t)(zero - in->bytes.data);
    assert_ok(mlxr_json_parse(&in->config, in->bytes.data, n, "config.json", &err), &err);
    in->n_tensors = in->bytes.len - n - 1;
    in->tensors = malloc(in->n_tensors);
    assert_non_null(in->tensors);
    memcpy(in->tensors, zero + 1, in->n_tensors);
    in->fields = json_object_get(in->config, "text_config");
    if (!in->fields) in->fields = in->config;
}

static void unload(input *in)
{
    mlxr_buf_clear(&in->bytes);
    json_decref(in->config);
    free(in->tensors);
}

/* What `change` has takes the place in `fields`; an empty name there stands for config.json itself. */
static void change_fields(input *in, const char *change)
{
    mlxr_error err;
    json_t *c, *outer;

    assert_ok(mlxr_json_parse(&c, change, strlen(change), "change", &err), &err);
    outer = json_object_get(c, "");
    if (outer) {
        json_object_update(in->config, outer);
        json_object_del(c, "");
    }
    json_object_update(in->fields, c);
    json_decref(c);
}

static mlxr_status build(mlxr_program **out, const input *in, mlxr_error *err)
{
    const char *type = json_string_value(json_object_get(in->config, "model_type"));
    mlxr_config config = {.root = in->config, .what = "config.json", .model_type = type};
    size_t i = 0;

    *out = NULL;
    *err = (mlxr_error){0};
    while (mlxr_family_at(i) && strcmp(mlxr_family_at(i)->model_type, type) != 0) i++;
    assert_non_null(mlxr_family_at(i));
    return mlxr_family_at(i)->build(out, &config, err);
}

static mlxr_status open_model(mlxr_model **out, const input *in, mlxr_error *err)
{
    mlxr_checkpoint *c = NULL;
    mlxr_status st;

    *err = (mlxr_error){0};
    assert_ok(mlxr_checkpoint_open_bytes(&c, in->tensors, in->n_tensors, "model.safetensors", err), err);
    st = mlxr_model_open_parts(out, json_incref(in->config), c, "config.json", err);
    if (st != MLXR_OK) {
        mlxr_checkpoint_close(c);
        json_decref(in->config);
    }
    return st;
}

/* The listing of what opens has all the lines, separated by "|"; else the listing is the failure. */
static void assert_listing(const char *what, const input *in, const char *lines)
{
    mlxr_model *m = NULL;
    mlxr_buf text = {0};
    mlxr_error err;
    char part[256];

    if (open_model(&m, in, &err) != MLXR_OK) fail_msg("%s: %s", what, err.message);
    mlxr_program_print(mlxr_model_program(m), &text);
    assert_false(text.failed);
    while (*lines) {
        size_t n = strcspn(lines, "|");
        assert_true(n < sizeof part);
        memcpy(part, lines, n);
        part[n] = '\0';
        if (!strstr(text.data, part)) fail_msg("%s: no \"%s\" in\n%s", what, part, text.data);
        lines += n + (lines[n] == '|');
    }
    mlxr_buf_clear(&text);
    mlxr_model_close(m);
}

/* ---- what families become ---- */

static void families_are_operations(void **state)
{
    static const struct {
        const char *input, *lines;
    } cases[] = {
        {"plain", "program llama: hidden 8, vocabulary 4, 1 layers|q, 2 heads of 4, half pairs|"
                  "q, k, v, 2 heads, scale 0.5, slot kv.0\n|kv.0: 2 heads, keys 4, values 4, all positions|"
                  "silu(gate) * up|logits = x, model.embed_tokens.weight"},
        {"qwen2", "program qwen2|q = x, model.layers.0.self_attn.q_proj.weight + "
                  "model.layers.0.self_attn.q_proj.bias|r = a, model.layers.0.self_attn.o_proj.weight\n"},
        {"qwen3", "q = q, model.layers.0.self_attn.q_norm.weight, eps 1e-05, each 4|"
                  "k = k, model.layers.0.self_attn.k_norm.weight, eps 1e-05\n|logits = x, lm_head.weight"},
        {"qwen3_moe", "route = scores, best 2, of the softmax, normalized|r = x by route, 2 of width 5, silu|"
                      "gate model.layers.0.mlp.switch_mlp.gate_proj.weight,|"
                      "model.layers.0.mlp.switch_mlp.gate_proj.weight [3, 5, 8] F16"},
        {"qwen3_moe_each", "gate model.layers.0.mlp.experts.{expert}.gate_proj.weight,|"
                           "model.layers.0.mlp.experts.{expert}.down_proj.weight [3, 8, 5] F16"},
        {"mixtral", "route = scores, best 2, softmax of those|experts.{expert}.w1.weight, up "
                    "model.layers.0.block_sparse_moe.experts.{expert}.w3.weight, down "
                    "model.layers.0.block_sparse_moe.experts.{expert}.w2.weight"},
        {"gpt_oss",
         "window 2|sinks model.layers.0.self_attn.sinks|scale 1.34657|"
         "1 of width 32, swiglu_oai[alpha 1.702, limit 7], gate "
         "model.layers.0.mlp.experts.gate_up_proj_blocks (interleaved) + "
         "model.layers.0.mlp.experts.gate_up_proj_bias|down model.layers.0.mlp.experts.down_proj_blocks|"
         "gate_up_proj_blocks [2, 64, 32] mxfp4 4-bit group 32|+ model.layers.0.mlp.router.bias"},
        {"qwen3_5",
         "conv.0: the last 3 of 16 channels, a sequence|delta.0: 2 states of 4 times 4, a sequence|"
         "decay decay, beta beta, 1 key heads, language_model.model.layers.0.linear_attn.A_log|"
         "silu(conv(qkv_in, language_model.model.layers.0.linear_attn.conv1d.weight))|"
         "a = sigmoid(q_gates) * a|2 heads of 4, half pairs, first 2|"
         "x = h, language_model.model.norm.weight, eps 1e-05\n"},
        {"qwen3_5_moe", "gate model.language_model.layers.0.mlp.experts.gate_up_proj (halves)|"
                        "x = h, model.language_model.norm.weight, eps 1e-05, weight offset 1|"
                        "shared = sigmoid(shared_gate) * shared|of the softmax, normalized|"
                        "logits = x, lm_head.weight"},
        {"gemma2", "scale 0.5, softcap 5,|window 2|gelu_tanh(gate) * up|logits = 3 * tanh(logits / 3)|"
                   "[id] * 2.82843|weight offset 1"},
        {"gemma3",
         "kv.0: 1 heads, keys 4, values 4, window 2|kv.1: 1 heads, keys 4, values 4, all positions|"
         "language_model.model.layers.1.self_attn.q_norm.weight, eps 1e-05, weight offset 1, each 4"},
        {"gemma4", "kv.1: 1 heads, keys 8, values 8, all positions|slot kv.0 as it is|slot kv.1 as it is|"
                   "h = 1 * model.layers.0.layer_scalar[0] * h|input = inputs from 9|"
                   "up.12 = x, model.layers.2.mlp.up_proj.weight|logits = 30 * tanh"},
        {"gemma4_experts", " = 1 * k.8\n|softmax of those, * model.layers.0.router.per_expert_scale|"
                           "kv.1: 1 heads, keys 8|gate model.layers.0.experts.gate_up_proj (halves)"},
        {"phi3", "q = qkv from 0|v = qkv from 12|up = gate_up from 6|half pairs, first 2, scale 1.22474"},
        {"lfm2", "conv.0: the last 2 of 8 channels|none(conv(conv_x, model.layers.0.conv.conv.weight + "
                 "model.layers.0.conv.conv.bias))|model.embedding_norm.weight|self_attn.out_proj.weight"},
        {"granite", "[id] * 12|scale 0.5,|r = 0.22 * r|logits = 0.125 * logits"},
        {"cohere", "LAYER_NORM  x = h, model.layers.0.input_layernorm.weight, eps|interleaved pairs|"
                   "LAYER_NORM  q = q, model.layers.0.self_attn.q_norm.weight, eps 1e-05, each 4|"
                   "model.layers.0.self_attn.q_norm.weight [8] F16|"
                   "logits = 0.25 * logits"},
        {"starcoder2", "LAYER_NORM  x = h, model.norm.weight + model.norm.bias|up = gelu(up)\n|"
                       "model.layers.0.mlp.c_fc.weight"},
        {"ministral3", "queries * (1 + 0.1 ln(1 + floor(p / 2)))|window 2|language_model.lm_head.weight"},
    };
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        input in;
        load(&in, cases[i].input);
        assert_listing(cases[i].input, &in, cases[i].lines);
        unload(&in);
    }
}

/* ---- the words of real folders ---- */

static void real_folders_in_their_own_words(void **state)
{
    static const struct {
        const char *input, *change, *lines;
    } cases[] = {
        /* as transformers from 5 on writes them */
        {"phi3",
         "{\"partial_rotary_factor\": null, \"rope_scaling\": null, \"original_max_position_embeddings\": "
         "null,"
         "\"rope_parameters\": {\"partial_rotary_factor\": 0.5, \"rope_type\": \"longrope\", \"rope_theta\": "
         "1e4,"
         "\"long_factor\": [2.5], \"short_factor\": [1.0], \"original_max_position_embeddings\": 16}}",
         "half pairs, first 2, scale 1.22474"},
        {"qwen3_moe", "{\"num_experts\": null, \"num_local_experts\": 3}", "best 2, of the softmax"},
        {"qwen3_5",
         "{\"full_attention_interval\": null, \"layer_types\": [\"linear_attention\", \"full_attention\"]}",
         "delta.0|kv.1"},
        {"gemma4_experts", "{\"per_layer_config\": {\"01\": {\"head_dim\": 8, \"num_key_value_heads\": 1}}}",
         "kv.1: 1 heads, keys 8"},
        {"gemma4_experts", "{\"per_layer_config\": null, \"global_head_dim\": 8}", "kv.1: 1 heads, keys 8"},
        {"gemma4_experts", "{\"hidden_size_per_layer_input\": null}", "kv.1: 1 heads, keys 8"},
        {"gemma3",
         "{\"attn_logit_softcapping\": null, \"_sliding_window_pattern\": 6, \"vocab_size\": 9,"
         "\"use_bidirectional_attention\": false, \"hidden_activation\": \"gelu_pytorch_tanh\"}",
         "kv.1: 1 heads, keys 4, values 4, all positions"},
        {"gpt_oss", "{\"swiglu_alpha\": 1.5}", "swiglu_oai[alpha 1.5, limit 7]"},
        {"lfm2", "{\"rope_theta\": 7, \"rope_parameters\": {\"rope_theta\": 1e6}, \"tie_embedding\": true}",
         "none(conv("},
        {"llama3", "{\"head_dim\": null, \"layer_types\": null, \"rope_parameters\": null}",
         "q, 2 heads of 4, half pairs\n"},
        /* null */
        {"mixtral", "{\"head_dim\": null, \"sliding_window\": null, \"rope_scaling\": null}",
         "best 2, softmax of those"},
        {"gemma2", "{\"sliding_window\": null, \"final_logit_softcapping\": null}", "all positions"},
        {"gemma2", "{\"attn_logit_softcapping\": null}", "2 heads, scale 0.5, slot kv.0"},
        {"gemma4", "{\"final_logit_softcapping\": null, \"num_experts\": null, \"top_k_experts\": null}",
         "logits = x, model.embed_tokens.weight"},
        {"lfm2", "{\"full_attn_idxs\": null, \"block_ff_dim\": null, \"intermediate_size\": 8}", "conv.0: "},
        {"lfm2", "{\"full_attn_idxs\": [1], \"layer_types\": null, \"block_ffn_dim_multiplier\": null}",
         "conv.0: "},
        /* gemma2 without a word has Hugging Face's window */
        {"gemma2", "{\"sliding_window\": 4096}", "window 4096"},
        {"cohere", "{\"layer_norm_bias\": null, \"rope_scaling\": null}", "interleaved pairs"},
        /* the wrapper's word, and the text model's */
        {"ministral3", "{\"\": {\"tie_word_embeddings\": true, \"quantization_config\": null}}",
         "logits = x, language_model.lm_head.weight"},
        {"ministral3", "{\"tie_word_embeddings\": true}",
         "logits = x, language_model.model.embed_tokens.weight"},
        {"ministral3", "{\"rope_theta\": 7.0, \"sliding_window\": 2}", "queries * (1 + 0.1"},
        /* the same under other names */
        {"gemma4", "{\"\": {\"model_type\": \"gemma4\"}}", "program gemma4: "},
        {"gemma4_experts", "{\"\": {\"model_type\": \"gemma4_unified\"}}", "program gemma4_unified: "},
        {"qwen3_5", "{\"\": {\"model_type\": \"qwen3_5_text\"}}", "program qwen3_5_text: "},
        {"qwen3_5_moe", "{\"\": {\"model_type\": \"qwen3_5_moe_text\"}}", "program qwen3_5_moe_text: "},
        {"plain", "{\"model_type\": \"mistral\", \"sliding_window\": 2}", "all positions"},
    };
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        char what[512];
        input in;
        load(&in, cases[i].input);
        change_fields(&in, cases[i].change);
        snprintf(what, sizeof what, "%s with %s", cases[i].input, cases[i].change);
        assert_listing(what, &in, cases[i].lines);
        unload(&in);
    }
}

/* The file of the same tensors with other names: what begins with `from` begins with `to`. */
static void rename_tensors(input *in, const char *from, const char *to)
{
    json_t *head, *renamed = json_object(), *v;
    const char *name;
    char *text;
    size_t n = 0, n_text;
    mlxr_error err;
    uint8_t *file;

    for (unsigned i = 0; i < 8; i++) n |= (size_t)in->tensors[i] << (8 * i);
    assert_ok(mlxr_json_parse(&head, (const char *)in->tensors + 8, n, "head", &err), &err);
    json_object_foreach(head, name, v)
    {
        char other[256];
        bool is = strncmp(name, from, strlen(from)) == 0;
        snprintf(other, sizeof other, "%s%s", is ? to : "", is ? name + strlen(from) : name);
        json_object_set(renamed, other, v);
    }
    text = json_dumps(renamed, JSON_COMPACT);
    assert_non_null(text);
    n_text = strlen(text);
    file = malloc(8 + n_text + in->n_tensors - 8 - n);
    assert_non_null(file);
    for (unsigned i = 0; i < 8; i++) file[i] = (uint8_t)(n_text >> (8 * i));
    memcpy(file + 8, text, n_text);
    memcpy(file + 8 + n_text, in->tensors + 8 + n, in->n_tensors - 8 - n);
    free(in->tensors);
    in->tensors = file;
    in->n_tensors = 8 + n_text + in->n_tensors - 8 - n;
    free(text);
    json_decref(head);
    json_decref(renamed);
}

static void text_models_lie_in_three_places(void **state)
{
    static const struct {
        const char *input, *from, *to, *from2, *to2, *line;
    } cases[] = {
        {"gemma3", "language_model.model.", "model.language_model.", "", "",
         "logits = x, model.language_model.embed_tokens.weight"},
        {"gemma3", "language_model.model.", "model.", "", "", "logits = x, model.embed_tokens.weight"},
        {"ministral3", "language_model.model.", "model.language_model.", "language_model.lm_head", "lm_head",
         "logits = x, lm_head.weight"},
        {"qwen3_5", "language_model.model.", "model.", "language_model.lm_head", "lm_head",
         "logits = x, lm_head.weight"},
        {"qwen3_5_moe", "model.language_model.", "language_model.model.", "lm_head", "language_model.lm_head",
         "logits = x, language_model.lm_head.weight"},
        {"gemma4", "model.", "language_model.model.", "", "", "language_model.model.layers.3.layer_scalar"},
        {"gemma4", "model.", "model.language_model.", "", "", "model.language_model.layers.3.layer_scalar"},
    };
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        input in;
        load(&in, cases[i].input);
        if (*cases[i].from2) rename_tensors(&in, cases[i].from2, cases[i].to2);
        rename_tensors(&in, cases[i].from, cases[i].to);
        assert_listing(cases[i].to, &in, cases[i].line);
        unload(&in);
    }
}

static void a_wrapper_may_say_that_it_is_tied(void **state)
{
    input in;

    (void)state;
    load(&in, "ministral3"); /* a text model without a word on it and without a head */
    rename_tensors(&in, "language_model.lm_head", "vision_tower.head");
    change_fields(&in, "{\"\": {\"tie_word_embeddings\": true}}");
    assert_listing("tied outside", &in, "logits = x, language_model.model.embed_tokens.weight");
    unload(&in);
}

/* ---- hostile values ---- */

#define USUAL                                                                               \
    "hidden_size num_hidden_layers vocab_size max_position_embeddings num_attention_heads " \
    "num_key_value_heads "
#define FF "intermediate_size "

/* Fields of each input by type, each of them a value that the family reads. */
static const struct family_fields {
    const char *input, *integers, *reals, *bools;
} all_fields[] = {
    {"plain", USUAL FF "head_dim", "rms_norm_eps rope_theta partial_rotary_factor",
     "tie_word_embeddings attention_bias mlp_bias rope_traditional"},
    {"sliding", USUAL FF "sliding_window", "rms_norm_eps", "tie_word_embeddings"},
    {"qwen2", USUAL FF, "rms_norm_eps rope_theta", "tie_word_embeddings rope_traditional"},
    {"qwen3", USUAL FF "head_dim", "rms_norm_eps rope_theta", "tie_word_embeddings"},
    {"qwen3_moe",
     USUAL FF "num_experts num_experts_per_tok moe_intermediate_size decoder_sparse_step head_dim",
     "rms_norm_eps", "norm_topk_prob tie_word_embeddings"},
    {"mixtral", USUAL FF "num_local_experts num_experts_per_tok", "rms_norm_eps rope_theta",
     "tie_word_embeddings"},
    {"gpt_oss", USUAL FF "num_local_experts num_experts_per_tok head_dim sliding_window",
     "rms_norm_eps swiglu_limit swiglu_alpha rope_scaling.factor rope_scaling.beta_fast "
     "rope_scaling.beta_slow",
     "tie_word_embeddings"},
    {"qwen3_5",
     USUAL FF
     "head_dim linear_num_key_heads linear_num_value_heads linear_key_head_dim linear_value_head_dim "
     "linear_conv_kernel_dim full_attention_interval",
     "rms_norm_eps rope_parameters.partial_rotary_factor rope_parameters.rope_theta",
     "tie_word_embeddings attention_bias"},
    {"qwen3_5_moe",
     USUAL "head_dim num_experts_per_tok moe_intermediate_size shared_expert_intermediate_size",
     "rms_norm_eps", "norm_topk_prob"},
    {"gemma2", USUAL FF "head_dim sliding_window",
     "rms_norm_eps query_pre_attn_scalar attn_logit_softcapping final_logit_softcapping", ""},
    {"gemma3",
     "hidden_size num_hidden_layers max_position_embeddings num_attention_heads num_key_value_heads " FF
     "head_dim sliding_window sliding_window_pattern",
     "rms_norm_eps query_pre_attn_scalar rope_parameters.full_attention.factor "
     "rope_parameters.full_attention.rope_theta rope_parameters.sliding_attention.rope_theta",
     ""},
    {"gemma4", USUAL FF "head_dim sliding_window sliding_window_pattern vocab_size_per_layer_input",
     "rms_norm_eps final_logit_softcapping rope_parameters.full_attention.partial_rotary_factor",
     "tie_word_embeddings use_double_wide_mlp attention_k_eq_v enable_moe_block rope_traditional"},
    {"gemma4_experts",
     USUAL FF "num_experts top_k_experts moe_intermediate_size num_global_key_value_heads "
              "per_layer_config.1.head_dim",
     "", ""},
    {"phi3", USUAL FF "original_max_position_embeddings", "rms_norm_eps rope_theta partial_rotary_factor",
     "tie_word_embeddings"},
    {"lfm2", USUAL "head_dim conv_L_cache block_ff_dim block_multiple_of",
     "norm_eps rope_theta block_ffn_dim_multiplier", "conv_bias block_auto_adjust_ff_dim"},
    {"granite", USUAL FF "head_dim",
     "rms_norm_eps attention_multiplier embedding_multiplier residual_multiplier logits_scaling",
     "attention_bias mlp_bias tie_word_embeddings"},
    {"cohere", USUAL FF "head_dim", "layer_norm_eps logit_scale",
     "attention_bias layer_norm_bias use_qk_norm"},
    {"starcoder2", USUAL FF "head_dim", "norm_epsilon rope_theta", "tie_word_embeddings"},
    {"ministral3", USUAL FF "head_dim sliding_window rope_parameters.original_max_position_embeddings",
     "rms_norm_eps rope_parameters.rope_theta rope_parameters.factor rope_parameters.mscale",
     "tie_word_embeddings"},
};

/* The object that has the field and the field's own name in it. */
static json_t *holder_of(const input *in, const char *path, const char **key)
{
    json_t *object = in->fields;
    const char *dot;

    while ((dot = strchr(path, '.')) != NULL) {
        char part[64];
        snprintf(part, sizeof part, "%.*s", (int)(dot - path), path);
        object = json_object_get(object, part);
        assert_non_null(object);
        path = dot + 1;
    }
    *key = path;
    return object;
}

static void refuse(const char *name, const char *path, const char *value)
{
    char quoted[80], outer[80], text[80];
    const char *key;
    mlxr_program *p;
    mlxr_error err;
    json_t *v, *object;
    input in;

    load(&in, name);
    object = holder_of(&in, path, &key);
    snprintf(quoted, sizeof quoted, "\"%s\"", key);
    snprintf(outer, sizeof outer, "\"%.*s\"", (int)strcspn(path, "."), path);
    snprintf(text, sizeof text, "[%s]", value);
    assert_ok(mlxr_json_parse(&v, text, strlen(text), "value", &err), &err);
    json_object_set(object, key, json_array_get(v, 0));
    if (build(&p, &in, &err) == MLXR_OK) fail_msg("%s: %s of %s is taken", name, value, path);
    if (strncmp(err.message, "config.json: ", 13) != 0 ||
        !(strstr(err.message, quoted) || strstr(err.message, outer)))
        fail_msg("%s: %s of %s: \"%s\"", name, value, path, err.message);
    assert_null(p);
    json_decref(v);
    unload(&in);
}

static void refuse_all(const char *name, const char *paths, const char *const *values)
{
    char path[128];

    while (*paths) {
        size_t n = strcspn(paths, " ");
        snprintf(path, sizeof path, "%.*s", (int)n, paths);
        for (size_t i = 0; values[i]; i++) refuse(name, path, values[i]);
        paths += n + (paths[n] == ' ');
    }
}

static void hostile_values_are_refused_by_name(void **state)
{
    static const char *const integers[] = {"-1",
                                           "-9223372036854775808",
                                           "9223372036854775807",
                                           "1e300",
                                           "0.5",
                                           "\"NaN\"",
                                           "\"8\"",
                                           "[]",
                                           "{}",
                                           "[8]",
                                           "true",
                                           NULL};
    static const char *const reals[] = {"1e300", "-1", "\"NaN\"", "\"Infinity\"", "[1]", "{}", "false", NULL};
    static const char *const bools[] = {"1", "0", "\"true\"", "[]", "{}", NULL};

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(all_fields); i++) {
        refuse_all(all_fields[i].input, all_fields[i].integers, integers);
        refuse_all(all_fields[i].input, all_fields[i].reals, reals);
        refuse_all(all_fields[i].input, all_fields[i].bools, bools);
    }
}

/* Zero is a value of few fields. */
static void zero_is_refused_by_name(void **state)
{
    static const char *const zero[] = {"0", NULL};

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(all_fields); i++)
        refuse_all(all_fields[i].input, all_fields[i].integers, zero);
}

/* Values that are fine alone and not together, and what is not supported. */
static void what_does_not_fit_is_said(void **state)
{
    static const struct {
        const char *input, *change;
        mlxr_status status;
        const char *text;
    } cases[] = {
        {"qwen2", "{\"num_attention_heads\": 3}", MLXR_E_FORMAT,
         "\"hidden_size\" is 8, wanted a multiple of num_attention_heads (3)"},
        {"qwen3", "{\"num_key_value_heads\": 4}", MLXR_E_FORMAT, "a multiple of num_key_value_heads (4)"},
        {"qwen3", "{\"head_dim\": 5}", MLXR_E_FORMAT, "a head is 5 wide, wanted an even number"},
        {"qwen3_moe", "{\"num_experts\": 4097}", MLXR_E_FORMAT, "\"num_experts\" is 4097"},
        {"qwen3_moe", "{\"num_experts_per_tok\": 4}", MLXR_E_FORMAT, "\"num_experts_per_tok\" is 4"},
        {"qwen3_moe", "{\"num_experts\": null}", MLXR_E_FORMAT, "no \"num_"},
        {"qwen3_moe", "{\"mlp_only_layers\": {}}", MLXR_E_FORMAT, "\"mlp_only_layers\" is not a list"},
        {"qwen3_moe", "{\"mlp_only_layers\": [1]}", MLXR_E_FORMAT,
         "\"mlp_only_layers\"[0] is not a layer's number, wanted 0 to 0"},
        {"qwen3_moe", "{\"mlp_only_layers\": [0, 0, 0]}", MLXR_E_FORMAT, "at most num_hidden_layers (1)"},
        {"qwen3_moe", "{\"decoder_sparse_step\": 1025}", MLXR_E_FORMAT, "\"decoder_sparse_step\" is 1025"},
        {"mixtral", "{\"num_local_experts\": 1}", MLXR_E_FORMAT, "\"num_experts_per_tok\" is 2"},
        {"gpt_oss", "{\"layer_types\": [\"conv\"]}", MLXR_E_UNSUPPORTED,
         "\"layer_types\"[0] is \"conv\", wanted \"full_attention\" or \"sliding_attention\""},
        {"gpt_oss", "{\"rope_scaling\": {\"rope_type\": \"ntk\"}}", MLXR_E_UNSUPPORTED,
         "rope scaling \"ntk\" is not supported; supported: default, linear"},
        {"gpt_oss", "{\"rope_theta\": 1}", MLXR_E_FORMAT, "\"rope_theta\" is 1, rope scaling \"yarn\""},
        {"qwen3_5", "{\"linear_num_value_heads\": 3, \"linear_num_key_heads\": 2}", MLXR_E_FORMAT,
         "\"linear_num_value_heads\" is 3, wanted a multiple of linear_num_key_heads (2)"},
        {"qwen3_5", "{\"linear_conv_kernel_dim\": 1}", MLXR_E_FORMAT, "\"linear_conv_kernel_dim\" is 1"},
        {"qwen3_5", "{\"rope_parameters\": {\"partial_rotary_factor\": 0.3}}", MLXR_E_FORMAT,
         "\"partial_rotary_factor\" is 0.3, wanted one by which an even number of a head's 4"},
        {"qwen3_5", "{\"layer_types\": [\"mamba\", \"full_attention\"]}", MLXR_E_UNSUPPORTED,
         "\"layer_types\"[0] is \"mamba\", wanted \"linear_attention\" or \"full_attention\""},
        {"qwen3_5",
         "{\"linear_key_head_dim\": 4096, \"linear_value_head_dim\": 4096, "
         "\"linear_num_value_heads\": 16384}",
         MLXR_E_FORMAT, "slot delta.0 has 16384 states of 4096 times 4096 values"},
        {"qwen3_5_moe", "{\"num_experts\": 1000000}", MLXR_E_FORMAT, "\"num_experts\" is 1000000"},
        {"qwen3_5_moe", "{\"shared_expert_intermediate_size\": null}", MLXR_E_FORMAT,
         "no \"shared_expert_intermediate_size\""},
        {"gemma2", "{\"layer_types\": [\"sliding\"]}", MLXR_E_UNSUPPORTED,
         "\"layer_types\"[0] is \"sliding\""},
        {"gemma3", "{\"rope_parameters\": {\"sliding_attention\": {}}}", MLXR_E_FORMAT,
         "\"rope_parameters\" has no \"full_attention\""},
        {"gemma3", "{\"\": {\"vocab_size\": -4}}", MLXR_E_FORMAT, "\"vocab_size\" is -4"},
        {"gemma3", "{\"\": {\"text_config\": 3}}", MLXR_E_FORMAT, "\"text_config\" is not an object"},
        {"gemma4", "{\"num_kv_shared_layers\": 4}", MLXR_E_FORMAT, "\"num_kv_shared_layers\" is 4"},
        {"gemma4", "{\"num_kv_shared_layers\": 3}", MLXR_E_FORMAT,
         "layer 1 shares keys and values, but no layer of its type before it has any"},
        {"gemma4", "{\"vocab_size_per_layer_input\": 3}", MLXR_E_UNSUPPORTED,
         "\"vocab_size_per_layer_input\" is 3, wanted vocab_size (4)"},
        {"gemma4", "{\"global_head_dim\": 7}", MLXR_E_FORMAT, "\"global_head_dim\" is 7"},
        {"gemma4", "{\"hidden_size_per_layer_input\": -1}", MLXR_E_FORMAT,
         "\"hidden_size_per_layer_input\" is -1"},
        {"gemma4_experts", "{\"top_k_experts\": 3}", MLXR_E_FORMAT, "\"top_k_experts\" is 3"},
        {"gemma4_experts", "{\"num_experts\": null}", MLXR_E_FORMAT, "no \"num_experts\""},
        {"gemma4_experts", "{\"per_layer_config\": []}", MLXR_E_UNSUPPORTED, "\"per_layer_config\" is not"},
        {"gemma4_experts", "{\"per_layer_config\": {\"0\": {}}}", MLXR_E_UNSUPPORTED,
         "\"per_layer_config\" of layer \"0\""},
        {"gemma4_experts", "{\"per_layer_config\": {\"one\": {}}}", MLXR_E_UNSUPPORTED,
         "\"per_layer_config\" of layer \"one\""},
        {"gemma4_experts",
         "{\"num_attention_heads\": 3, \"num_key_value_heads\": 1, \"attention_k_eq_v\": true,"
         "\"num_global_key_value_heads\": 2, \"per_layer_config\": null}",
         MLXR_E_FORMAT, "a multiple of num_global_key_value_heads (2)"},
        {"phi3", "{\"rope_scaling\": {\"type\": \"longrope\", \"long_factor\": [1, 2]}}", MLXR_E_FORMAT,
         "\"long_factor\" is a list of 2, wanted 1 numbers"},
        {"phi3", "{\"partial_rotary_factor\": 0}", MLXR_E_FORMAT, "\"partial_rotary_factor\" is 0"},
        {"lfm2", "{\"full_attn_idxs\": \"1\"}", MLXR_E_FORMAT, "\"full_attn_idxs\" is not a list"},
        {"lfm2", "{\"full_attn_idxs\": [-1]}", MLXR_E_FORMAT, "\"full_attn_idxs\"[0]"},
        {"lfm2", "{\"full_attn_idxs\": null, \"layer_types\": null}", MLXR_E_FORMAT,
         "neither \"full_attn_idxs\" nor \"layer_types\""},
        {"lfm2", "{\"block_ff_dim\": 1048576, \"block_ffn_dim_multiplier\": 1000}", MLXR_E_FORMAT,
         "\"block_ff_dim\" becomes"},
        {"lfm2", "{\"conv_L_cache\": 65}", MLXR_E_FORMAT, "\"conv_L_cache\" is 65"},
        {"granite", "{\"logits_scaling\": 0}", MLXR_E_FORMAT, "\"logits_scaling\" is 0"},
        {"granite", "{\"embedding_multiplier\": null}", MLXR_E_FORMAT, "no \"embedding_multiplier\""},
        {"granite", "{\"hidden_act\": \"relu2\"}", MLXR_E_UNSUPPORTED,
         "\"hidden_act\" is \"relu2\", wanted silu, swish, gelu"},
        {"ministral3", "{\"\": {\"text_config\": {\"model_type\": \"mistral4\"}}}", MLXR_E_UNSUPPORTED,
         "\"text_config\" is of model_type \"mistral4\"; supported: ministral3, mistral, llama"},
        {"ministral3", "{\"\": {\"text_config\": null}}", MLXR_E_FORMAT, "no \"text_config\" object"},
        {"ministral3", "{\"rope_parameters\": null}", MLXR_E_FORMAT, "no \"rope_parameters\""},
        {"ministral3", "{\"rope_parameters\": {}}", MLXR_E_FORMAT, "no \"llama_4_scaling_beta\""},
    };
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        mlxr_program *p;
        mlxr_error err;
        mlxr_status st;
        input in;
        load(&in, cases[i].input);
        change_fields(&in, cases[i].change);
        st = build(&p, &in, &err);
        if (st != cases[i].status || !strstr(err.message, cases[i].text))
            fail_msg("%s with %s: got %s \"%s\", wanted %s with \"%s\"", cases[i].input, cases[i].change,
                     mlxr_status_name(st), err.message, mlxr_status_name(cases[i].status), cases[i].text);
        assert_null(p);
        unload(&in);
    }
}

static void quantization_of_other_methods_is_refused_by_name(void **state)
{
    static const char *const methods[] = {"awq", "gptq", "fp8", "compressed-tensors", "modelopt", "bitnet"};

    (void)state;
    for (size_t i = 0; i < 2 * MLXR_COUNT(methods); i++) {
        const char *name = methods[i / 2];
        char change[128];
        mlxr_model *m = NULL;
        mlxr_error err;
        input in;
        load(&in, "ministral3");
        snprintf(change, sizeof change,
                 i % 2 ? "{\"\": {\"quantization_config\": {\"quant_method\": \"%s\"}}}"
                       : "{\"quantization_config\": {\"quant_method\": \"%s\"}}",
                 name);
        change_fields(&in, change);
        assert_fails(open_model(&m, &in, &err), MLXR_E_UNSUPPORTED,
                     "is not supported; supported: mxfp4, mxfp8", &err);
        assert_non_null(strstr(err.message, name));
        unload(&in);
    }
}

/* As many layers and experts as may be: what the file does not have costs no memory and little time. */
static void giants_are_refused_cheaply(void **state)
{
    static const struct {
        const char *input, *change;
    } cases[] = {
        {"qwen3_moe", "{\"num_hidden_layers\": 1024, \"num_experts\": 4096, \"num_experts_per_tok\": 4096}"},
        {"qwen3_moe_each", "{\"num_hidden_layers\": 1024, \"num_experts\": 4096}"},
        {"mixtral", "{\"num_hidden_layers\": 1024, \"num_local_experts\": 4096}"},
        {"gpt_oss", "{\"num_hidden_layers\": 1024, \"num_local_experts\": 4096, \"layer_types\": null}"},
        {"qwen3_5_moe", "{\"num_hidden_layers\": 1024, \"num_experts\": 4096, \"layer_types\": null}"},
        {"gemma4",
         "{\"num_hidden_layers\": 1024, \"hidden_size_per_layer_input\": 262144, \"layer_types\": null}"},
        {"gemma4_experts", "{\"num_hidden_layers\": 1024, \"num_experts\": 4096, \"layer_types\": null,"
                           "\"per_layer_config\": null}"},
        {"lfm2", "{\"num_hidden_layers\": 1024, \"hidden_size\": 1048576, \"num_attention_heads\": 16384,"
                 "\"layer_types\": null}"},
    };
    struct rusage usage;
    clock_t start = clock();

    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        mlxr_model *m = NULL;
        mlxr_error err;
        input in;
        load(&in, cases[i].input);
        change_fields(&in, cases[i].change);
        assert_fails(open_model(&m, &in, &err), MLXR_E_FORMAT, "", &err);
        if (strcmp(cases[i].input, "qwen3_moe_each") == 0)
            assert_non_null(
                strstr(err.message, "model.layers.0.mlp.experts.3.gate_proj.weight (of 4096 experts)"));
        unload(&in);
    }
    getrusage(RUSAGE_SELF, &usage);
    assert_in_range(usage.ru_maxrss, 1, 512 << 10); /* KB; the sanitizers' own included */
    assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 20);
}

/* A family that is added comes with an input here, so that all of the above is true of it. */
static void every_family_has_an_input(void **state)
{
    static const char *const same[] = {"mistral",        "gemma3_text",      "gemma4",
                                       "gemma4_unified", "qwen3_5_moe_text", "qwen3_5_text"};

    (void)state;
    for (size_t i = 0; mlxr_family_at(i); i++) {
        const char *type = mlxr_family_at(i)->model_type;
        bool found = false;
        for (size_t j = 0; j < MLXR_COUNT(same); j++) found |= strcmp(same[j], type) == 0;
        for (size_t j = 0; j < MLXR_COUNT(all_fields) && !found; j++) {
            const json_t *text;
            input in;
            load(&in, all_fields[j].input);
            text = json_object_get(in.fields, "model_type");
            found = strcmp(json_string_value(json_object_get(in.config, "model_type")), type) == 0 ||
                    (text && strcmp(json_string_value(text), type) == 0);
            unload(&in);
        }
        if (!found) fail_msg("no input of model_type %s", type);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_are_operations),
        cmocka_unit_test(real_folders_in_their_own_words),
        cmocka_unit_test(text_models_lie_in_three_places),
        cmocka_unit_test(a_wrapper_may_say_that_it_is_tied),
        cmocka_unit_test(hostile_values_are_refused_by_name),
        cmocka_unit_test(zero_is_refused_by_name),
        cmocka_unit_test(what_does_not_fit_is_said),
        cmocka_unit_test(quantization_of_other_methods_is_refused_by_name),
        cmocka_unit_test(giants_are_refused_cheaply),
        cmocka_unit_test(every_family_has_an_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
