/* Turns a llama-family GGUF file into an MLX folder: names, shapes and config.json here, the bytes of the
 * weights in gguf_weights.c, the tokenizer in gguf_tokenizer.c.
 *
 * Names and the meaning of the keys follow llama.cpp's gguf-py (constants.py, tensor_mapping.py) and the
 * class for LlamaForCausalLM in convert_hf_to_gguf.py, backwards; config.json is what mlx-lm's llama
 * reads. */
#include "format/gguf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"
#include "format/gguf_weights.h"

enum { MAX_LAYERS = 10000, MAX_DIM = 1 << 30 };

/* The words of config.json, from the file's. */
typedef struct llama {
    int64_t num_hidden_layers, hidden_size, intermediate_size, num_attention_heads, num_key_value_heads,
        head_dim;
    int64_t max_position_embeddings, vocab_size;
    double rms_norm_eps, rope_theta;
    double rope_linear_factor; /* 0: none */
    struct {
        bool there;
        double factor, low_freq_factor, high_freq_factor;
        int64_t original_max_position_embeddings;
    } llama3;
    bool tie_word_embeddings, attention_bias, mlp_bias;
} llama;

typedef struct import {
    const mlxr_gguf *g;
    const char *path, *dir;
    const mlxr_gguf_import_options *options;
    mlxr_error *err;
    llama config;
    mlxr_gguf_weights weights;
    mlxr_gguf_vocab vocab;
    mlxr_buf tokenizer, tokenizer_config; /* the files' texts */
    mlxr_arena arena;
} import;

mlxr_gguf_import_options mlxr_gguf_import_options_default(void)
{
    return (mlxr_gguf_import_options){.requantize_bits = 4, .requantize_group_size = 32};
}

static mlxr_status unsupported(const import *im, const char *text)
{
    return mlxr_fail(im->err, MLXR_E_UNSUPPORTED, "gguf: %s: %s", im->path, text);
}

/* ---- the keys ---- */

/* An integer, or an array that says the same one for each layer. */
static mlxr_status get_uniform(int64_t *out, const import *im, const char *key, int64_t min, int64_t max)
{
    const mlxr_gguf_value *v = mlxr_gguf_find(im->g, key);
    int64_t first;

    if (!v || v->kind != MLXR_GGUF_ARRAY) return mlxr_gguf_get_int(out, im->g, key, min, max, im->err);
    if (!mlxr_gguf_kind_is_int(v->item_kind) || v->n_items == 0)
        return mlxr_fail(im->err, MLXR_E_FORMAT, "gguf: %s: \"%s\" is not of integers", im->path, key);
    first = mlxr_gguf_item_int(v, 0);
    for (uint64_t i = 1; i < v->n_items; i++)
        if (mlxr_gguf_item_int(v, i) != first)
            return mlxr_fail(im->err, MLXR_E_UNSUPPORTED, "gguf: %s: \"%s\" differs from layer to layer",
                             im->path, key);
    if (first < min || first > max)
        return mlxr_fail(im->err, MLXR_E_FORMAT, "gguf: %s: \"%s\" is %lld, wanted %lld to %lld", im->path,
                         key, (long long)first, (long long)min, (long long)max);
    *out = first;
    return MLXR_OK;
}

static mlxr_status missing(const import *im, const char *key)
{
    return mlxr_fail(im->err, MLXR_E_FORMAT, "gguf: %s: no \"%s\"", im->path, key);
}

/* What a llama of Hugging Face does not have: refused unless it is the value that changes nothing. */
static mlxr_status refuse_extras(const import *im)
{
    static const struct {
        const char *key;
        double neutral;
    } reals[] = {{"llama.expert_count", 0},    {"llama.attention.sliding_window", 0},
                 {"llama.logit_scale", 1},     {"llama.embedding_scale", 1},
                 {"llama.residual_scale", 1},  {"llama.attention.clamp_kqv", 0},
                 {"llama.attention.scale", 0}, {"llama.leading_dense_block_count", 0}};
    bool causal = true, parallel = false;
    mlxr_status st;

    for (size_t i = 0; i < MLXR_COUNT(reals); i++) {
        double x = reals[i].neutral;
        if ((st = mlxr_gguf_get_real(&x, im->g, reals[i].key, im->err)) != MLXR_OK) return st;
        if (x != reals[i].neutral)
            return mlxr_fail(im->err, MLXR_E_UNSUPPORTED,
                             "gguf: %s: \"%s\" is %g, which a llama in MLX cannot express", im->path,
                             reals[i].key, x);
    }
    if ((st = mlxr_gguf_get_bool(&causal, im->g, "llama.attention.causal", im->err)) != MLXR_OK) return st;
    if ((st = mlxr_gguf_get_bool(&parallel, im->g, "llama.use_parallel_residual", im->err)) != MLXR_OK)
        return st;
    if (!causal) return unsupported(im, "attention that is not causal");
    if (parallel) return unsupported(im, "parallel residuals");
    return MLXR_OK;
}

/* Frequency of rotary pair i, before scaling. */
static double rope_frequency(const llama *c, size_t i)
{
    return pow(c->rope_theta, -2.0 * (double)i / (double)c->head_dim);
}

/* What Llama 3.1's scaling divides a frequency by: 1 for short waves, factor for long ones, a blend in
 * between. */
static double llama3_divisor(double frequency, double factor, double low, double high, double original)
{
    double wave = 2 * 3.14159265358979323846 / frequency, smooth;

    if (wave < original / high) return 1;
    if (wave > original / low) return factor;
    smooth = (original / wave - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
}

/* rope_freqs.weight holds the divisors that the converter worked out from config.json's rope_scaling. low,
 * high and original only count in their ratios, so low is taken as 1; the rest is searched among what models
 * use, Llama 3's first, and is right if it gives the file's numbers. */
static mlxr_status recover_llama3(import *im, const mlxr_gguf_tensor *t)
{
    static const double highs[] = {4, 2, 8, 16, 32};
    llama *c = &im->config;
    const size_t n = (size_t)c->head_dim / 2;
    double factor = 1;
    bool all_one = true;

    if (t->type != MLXR_GGML_F32 || t->n_elements != n)
        return mlxr_fail(im->err, MLXR_E_FORMAT, "gguf: %s: \"%s\": %zu values of %s, wanted %zu of F32",
                         im->path, t->name, t->n_elements, t->info->name, n);
    for (size_t i = 0; i < n; i++) {
        double f = mlxr_load_float(t->data, MLXR_F32, i);
        if (!isfinite(f))
            return mlxr_fail(im->err, MLXR_E_FORMAT, "gguf: %s: \"%s\" is not finite", im->path, t->name);
        all_one = all_one && f == 1;
        if (f > factor) factor = f;
    }
    if (all_one) return MLXR_OK;
    for (size_t h = 0; h < MLXR_COUNT(highs); h++)
        for (int k = -1; k <= 20; k++) {
            double original = k < 9 ? 8192 : (double)((int64_t)1 << k);
            size_t i = 0;
            if (k >= 0 && k < 9) continue;
            while (i < n && fabs(llama3_divisor(rope_frequency(c, i), factor, 1, highs[h], original) /
                                     mlxr_load_float(t->data, MLXR_F32, i) -
                                 1) < 1e-3)
                i++;
            if (i < n) continue;
            c->llama3.there = true;
            c->llama3.factor = factor;
            c->llama3.low_freq_factor = 1;
            c->llama3.high_freq_factor = highs[h];
            c->llama3.original_max_position_embeddings = (int64_t)original;
            return MLXR_OK;
        }
    return mlxr_fail(im->err, MLXR_E_UNSUPPORTED,
                     "gguf: %s: the rotary factors of \"%s\" are not those of rope_scaling \"llama3\"",
                     im->path, t->name);
}

static mlxr_status read_rope(import *im)
{
    llama *c = &im->config;
    int64_t n_rot = c->head_dim;
    double factor = 0;
    mlxr_gguf_str type = {NULL, 0};
    const mlxr_gguf_tensor *freqs = mlxr_gguf_tensor_find(im->g, "rope_freqs.weight");
    mlxr_status st;

    c->rope_theta = 10000;
    if ((st = mlxr_gguf_get_real(&c->rope_theta, im->g, "llama.rope.freq_base", im->err)) != MLXR_OK)
        return st;
    if (!(c->rope_theta > 0))
        return mlxr_fail(im->err, MLXR_E_FORMAT, "gguf: %s: \"llama.rope.freq_base\" is %g", im->path,
                         c->rope_theta);
    st = mlxr_gguf_get_int(&n_rot, im->g, "llama.rope.dimension_count", 1, MAX_DIM, im->err);
    if (st != MLXR_OK) return st;
    if (n_rot != c->head_dim) return unsupported(im, "rotary embedding over a part of the head");
    if ((st = mlxr_gguf_get_str(&type, im->g, "llama.rope.scaling.type", im->err)) != MLXR_OK) return st;
    if ((st = mlxr_gguf_get_real(&factor, im->g, "llama.rope.scale_linear", im->err)) != MLXR_OK) return st;
    if ((st = mlxr_gguf_get_real(&factor, im->g, "llama.rope.scaling.factor", im->err)) != MLXR_OK) return st;
    if (type.s && type.n == 4 && memcmp(type.s, "none", 4) == 0) {
        factor = 0;
    } else if (type.s && !(type.n == 6 && memcmp(type.s, "linear", 6) == 0)) {
        return mlxr_fail(im->err, MLXR_E_UNSUPPORTED, "gguf: %s: rotary scaling \"%.*s\" is not supported",
                         im->path, (int)(type.n < 100 ? type.n : 100), type.s);
    }
    if (factor < 0)
        return mlxr_fail(im->err, MLXR_E_FORMAT, "gguf: %s: rotary scaling by %g", im->path, factor);
    c->rope_linear_factor = factor == 1 ? 0 : factor;
    if (freqs && (st = recover_llama3(im, freqs)) != MLXR_OK) return st;
    if (c->llama3.there && c->rope_linear_factor != 0)
        return unsupported(im, "two kinds of rotary scaling at once");
    return MLXR_OK;
}

static mlxr_status read_config(import *im)
{
    llama *c = &im->config;
    const mlxr_gguf_tensor *embed = mlxr_gguf_tensor_find(im->g, "token_embd.weight");
    mlxr_gguf_str arch = {NULL, 0};
    int64_t v_dim;
    mlxr_status st;

    if ((st = mlxr_gguf_get_str(&arch, im->g, "general.architecture", im->err)) != MLXR_OK) return st;
    if (!arch.s) return missing(im, "general.architecture");
    if (arch.n != 5 || memcmp(arch.s, "llama", 5) != 0)
        return mlxr_fail(im->err, MLXR_E_UNSUPPORTED,
                         "gguf: %s: architecture \"%.*s\" is not supported, supported is llama", im->path,
                         (int)(arch.n < 100 ? arch.n : 100), arch.s);
    if ((st = refuse_extras(im)) != MLXR_OK) return st;

#define GET(field, key, min, max) \
    if ((st = get_uniform(&c->field, im, "llama." key, min, max)) != MLXR_OK) return st
#define NEED(field, key, max) \
    GET(field, key, 1, max);  \
    if (c->field < 1) return missing(im, "llama." key)
    NEED(num_hidden_layers, "block_count", MAX_LAYERS);
    NEED(hidden_size, "embedding_length", MAX_DIM);
    NEED(intermediate_size, "feed_forward_length", MAX_DIM);
    NEED(num_attention_heads, "attention.head_count", MAX_DIM);
    NEED(max_position_embeddings, "context_length", INT32_MAX);
    c->num_key_value_heads = c->num_attention_heads;
    GET(num_key_value_heads, "attention.head_count_kv", 1, MAX_DIM);
    c->head_dim = c->hidden_size / c->num_attention_heads;
    GET(head_dim, "attention.key_length", 1, MAX_DIM);
#undef GET
#undef NEED
    v_dim = c->head_dim;
    if ((st = get_uniform(&v_dim, im, "llama.attention.value_length", 1, MAX_DIM)) != MLXR_OK) return st;
    if (v_dim != c->head_dim) return unsupported(im, "values of another width than keys");
    if (c->head_dim < 2 || c->head_dim % 2) return unsupported(im, "heads of an odd width");
    if (c->num_attention_heads % c->num_key_value_heads)
        return mlxr_fail(im->err, MLXR_E_FORMAT,
                         "gguf: %s: %lld heads do not share %lld heads of keys evenly", im->path,
                         (long long)c->num_attention_heads, (long long)c->num_key_value_heads);
    c->rms_norm_eps = -1;
    st = mlxr_gguf_get_real(&c->rms_norm_eps, im->g, "llama.attention.layer_norm_rms_epsilon", im->err);
    if (st != MLXR_OK) return st;
    if (c->rms_norm_eps < 0)
        return mlxr_fail(im->err, MLXR_E_FORMAT, "gguf: %s: no \"llama.attention.layer_norm_rms_epsilon\"",
                         im->path);
    if (!embed || embed->n_dims != 2 || embed->shape[0] == 0 || embed->shape[0] > MAX_DIM)
        return mlxr_fail(im->err, MLXR_E_FORMAT, "gguf: %s: no \"token_embd.weight\" of [vocabulary, hidden]",
                         im->path);
    c->vocab_size = (int64_t)embed->shape[0];
    c->tie_word_embeddings = !mlxr_gguf_tensor_find(im->g, "output.weight");
    c->attention_bias = mlxr_gguf_tensor_find(im->g, "blk.0.attn_q.bias") != NULL;
    c->mlp_bias = mlxr_gguf_tensor_find(im->g, "blk.0.ffn_up.bias") != NULL;
    return read_rope(im);
}

/* ---- the tensors ---- */

/* Dimensions in terms of the configuration. */
typedef enum dim { ONE, D, Q, KV, F, V } dim;

static size_t dim_size(const llama *c, dim d)
{
    switch (d) {
    case ONE: return 1;
    case D: return (size_t)c->hidden_size;
    case Q: return (size_t)(c->num_attention_heads * c->head_dim);
    case KV: return (size_t)(c->num_key_value_heads * c->head_dim);
    case F: return (size_t)c->intermediate_size;
    case V: return (size_t)c->vocab_size;
    }
    return 0;
}

typedef enum bias { NO_BIAS, ATTENTION_BIAS, MLP_BIAS } bias;

/* One row a module; rows ONE makes it a vector of `cols`. */
typedef struct row {
    const char *gguf, *mlx;
    dim rows, cols;
    bias bias;
    bool rotary; /* rows are permuted in the file, head by head */
} row;

static const row layer_rows[] = {
    {"attn_norm", "input_layernorm", ONE, D, NO_BIAS, false},
    {"attn_q", "self_attn.q_proj", Q, D, ATTENTION_BIAS, true},
    {"attn_k", "self_attn.k_proj", KV, D, ATTENTION_BIAS, true},
    {"attn_v", "self_attn.v_proj", KV, D, ATTENTION_BIAS, false},
    {"attn_output", "self_attn.o_proj", D, Q, ATTENTION_BIAS, false},
    {"ffn_norm", "post_attention_layernorm", ONE, D, NO_BIAS, false},
    {"ffn_gate", "mlp.gate_proj", F, D, MLP_BIAS, false},
    {"ffn_up", "mlp.up_proj", F, D, MLP_BIAS, false},
    {"ffn_down", "mlp.down_proj", D, F, MLP_BIAS, false},
};
static const row embed_row = {"token_embd", "model.embed_tokens", V, D, NO_BIAS, false};
static const row norm_row = {"output_norm", "model.norm", ONE, D, NO_BIAS, false};
static const row output_row = {"output", "lm_head", V, D, NO_BIAS, false};

/* Finds one tensor and adds it to the weights; what is wrong with it goes to problems. */
static mlxr_status plan_tensor(import *im, const row *r, const char *prefix, const char *mlx_prefix,
                               bool is_bias, bool *seen, mlxr_buf *problems)
{
    const char *suffix = is_bias ? "bias" : "weight";
    const char *name = mlxr_arena_printf(&im->arena, "%s%s.%s", prefix, r->gguf, suffix);
    const bool vector = is_bias || r->rows == ONE;
    const size_t n_rows = vector ? 1 : dim_size(&im->config, r->rows);
    const size_t n_cols = dim_size(&im->config, is_bias ? r->rows : r->cols);
    const mlxr_gguf_tensor *t;
    mlxr_gguf_weight w = {.is_vector = vector, .is_bias = is_bias, .n_rows = n_rows, .n_cols = n_cols};

    w.module = mlxr_arena_printf(&im->arena, "%s%s", mlx_prefix, r->mlx);
    if (!name || !w.module) return mlxr_fail_nomem(im->err, im->path);
    t = mlxr_gguf_tensor_find(im->g, name);
    if (!t) {
        mlxr_buf_printf(problems, "%s missing \"%s\"", problems->len ? "," : "", name);
        return MLXR_OK;
    }
    seen[t - mlxr_gguf_tensor_get(im->g, 0)] = true;
    if (t->n_dims != (vector ? 1u : 2u) || t->shape[0] != (vector ? n_cols : n_rows) ||
        (!vector && t->shape[1] != n_cols)) {
        mlxr_buf_printf(problems, "%s \"%s\" is [", problems->len ? "," : "", name);
        for (unsigned i = 0; i < t->n_dims; i++) mlxr_buf_printf(problems, i ? ", %zu" : "%zu", t->shape[i]);
        mlxr_buf_printf(problems, vector ? "], wanted [%zu]" : "], wanted [%zu, %zu]",
                        vector ? n_cols : n_rows, n_cols);
        return MLXR_OK;
    }
    w.source = t;
    w.rotary_head_dim = r->rotary ? (size_t)im->config.head_dim : 0;
    return mlxr_gguf_weights_add(&im->weights, &w, im->err);
}

static mlxr_status plan_row(import *im, const row *r, const char *prefix, const char *mlx_prefix, bool *seen,
                            mlxr_buf *problems)
{
    const bool has_bias = (r->bias == ATTENTION_BIAS && im->config.attention_bias) ||
                          (r->bias == MLP_BIAS && im->config.mlp_bias);
    mlxr_status st = plan_tensor(im, r, prefix, mlx_prefix, false, seen, problems);

    if (st == MLXR_OK && has_bias) st = plan_tensor(im, r, prefix, mlx_prefix, true, seen, problems);
    return st;
}

/* All tensors the configuration asks for, and none that it does not; everything amiss in one message. */
static mlxr_status plan_tensors(import *im)
{
    const size_t n = mlxr_gguf_tensor_count(im->g);
    bool *seen = mlxr_calloc_array(n, sizeof *seen);
    mlxr_buf problems = {0};
    mlxr_status st;

    if (!seen) return mlxr_fail_nomem(im->err, im->path);
    if ((st = plan_row(im, &embed_row, "", "", seen, &problems)) != MLXR_OK) goto done;
    for (int64_t i = 0; i < im->config.num_hidden_layers && problems.len < 4096; i++) {
        char prefix[48], mlx_prefix[48];
        snprintf(prefix, sizeof prefix, "blk.%lld.", (long long)i);
        snprintf(mlx_prefix, sizeof mlx_prefix, "model.layers.%lld.", (long long)i);
        for (size_t k = 0; k < MLXR_COUNT(layer_rows); k++)
            if ((st = plan_row(im, &layer_rows[k], prefix, mlx_prefix, seen, &problems)) != MLXR_OK)
                goto done;
    }
    if ((st = plan_row(im, &norm_row, "", "", seen, &problems)) != MLXR_OK) goto done;
    if (!im->config.tie_word_embeddings &&
        (st = plan_row(im, &output_row, "", "", seen, &problems)) != MLXR_OK)
        goto done;
    for (size_t i = 0; i < n && problems.len < 4096; i++) {
        const mlxr_gguf_tensor *t = mlxr_gguf_tensor_get(im->g, i);
        if (seen[i] || strcmp(t->name, "rope_freqs.weight") == 0) continue;
        mlxr_buf_printf(&problems, "%s \"%s\" belongs to no part of a llama", problems.len ? "," : "",
                        t->name);
    }
    if ((st = mlxr_buf_check(&problems, im->path, im->err)) != MLXR_OK) goto done;
    if (problems.len) st = mlxr_fail(im->err, MLXR_E_FORMAT, "gguf: %s: tensors:%s", im->path, problems.data);
done:
    mlxr_buf_clear(&problems);
    free(seen);
    return st;
}

/* ---- config.json ---- */

/* The shortest decimal that is still this float32: 1e-05, not 9.99999975e-06. */
static json_t *real_of_float(double x)
{
    char text[40];

    for (int digits = 1; digits < 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtof(text, NULL) == (float)x) return json_real(strtod(text, NULL));
    }
    return json_real(x);
}

static json_t *quant_of(mlxr_quant q)
{
    return json_pack("{s:i, s:i}", "group_size", (int)q.group_size, "bits", (int)q.bits);
}

/* mlx-lm's "quantization": the commonest width and group for all, and by module what differs. */
static json_t *quantization_of(const import *im)
{
    const mlxr_gguf_weights *ws = &im->weights;
    struct {
        mlxr_quant quant;
        size_t n_elements;
    } kinds[4] = {
        {{MLXR_QUANT_NONE, 0, 0}, 0}}; /* 4, 5 and 8 bits in groups of 32, and the one requantized to */
    size_t n_kinds = 0, common = 0;
    json_t *out;
    bool ok = true;

    for (size_t i = 0; i < ws->n; i++) {
        size_t k = 0;
        if (ws->v[i].quant.mode != MLXR_QUANT_AFFINE) continue;
        while (k < n_kinds && !mlxr_gguf_same_quant(kinds[k].quant, ws->v[i].quant)) k++;
        if (k == n_kinds) kinds[n_kinds++].quant = ws->v[i].quant;
        kinds[k].n_elements += ws->v[i].source->n_elements;
        if (kinds[k].n_elements > kinds[common].n_elements) common = k;
    }
    if (n_kinds == 0) return json_null();
    out = quant_of(kinds[common].quant);
    for (size_t i = 0; i < ws->n && out && ok; i++) {
        const mlxr_gguf_weight *w = &ws->v[i];
        if (w->is_vector || mlxr_gguf_same_quant(w->quant, kinds[common].quant)) continue;
        ok = json_object_set_new(out, w->module,
                                 w->quant.mode == MLXR_QUANT_AFFINE ? quant_of(w->quant) : json_false()) == 0;
    }
    if (ok) return out;
    json_decref(out);
    return NULL;
}

static json_t *rope_scaling_of(const llama *c)
{
    if (c->llama3.there)
        return json_pack("{s:o, s:f, s:f, s:I, s:s}", "factor", real_of_float(c->llama3.factor),
                         "low_freq_factor", c->llama3.low_freq_factor, "high_freq_factor",
                         c->llama3.high_freq_factor, "original_max_position_embeddings",
                         (json_int_t)c->llama3.original_max_position_embeddings, "rope_type", "llama3");
    if (c->rope_linear_factor != 0)
        return json_pack("{s:o, s:s, s:s}", "factor", real_of_float(c->rope_linear_factor), "rope_type",
                         "linear", "type", "linear");
    return json_null();
}

static json_t *eos_of(const mlxr_gguf_vocab *v)
{
    json_t *list;

    if (v->n_eos == 0) return json_null();
    if (v->n_eos == 1) return json_integer(v->eos_set[0]);
    list = json_array();
    for (size_t i = 0; i < v->n_eos && list; i++)
        if (json_array_append_new(list, json_integer(v->eos_set[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *id_of(int64_t id)
{
    return id < 0 ? json_null() : json_integer(id);
}

/* Sets key to a value just made, whose reference it takes; null is left out. false: out of memory. */
static bool set(json_t *obj, const char *key, json_t *value)
{
    if (!value) return false;
    if (json_is_null(value)) return true;
    return json_object_set_new(obj, key, value) == 0;
}

static mlxr_status write_json(const import *im, const char *name, const json_t *obj)
{
    char *text = json_dumps(obj, JSON_INDENT(4) | JSON_REAL_PRECISION(9));
    char *path = mlxr_path_join(im->dir, name);
    mlxr_buf out = {0};
    mlxr_status st;

    if (text) {
        mlxr_buf_str(&out, text);
        mlxr_buf_char(&out, '\n');
    }
    if (!text || !path || out.failed)
        st = mlxr_fail_nomem(im->err, im->dir);
    else
        st = mlxr_file_write(path, out.data, out.len, im->err);
    mlxr_buf_clear(&out);
    free(text);
    free(path);
    return st;
}

static mlxr_status write_generation_config(const import *im)
{
    const mlxr_gguf_vocab *vocab = &im->vocab;
    json_t *o = json_object();
    bool ok = o && set(o, "bos_token_id", id_of(vocab->bos)) && set(o, "eos_token_id", eos_of(vocab)) &&
              set(o, "pad_token_id", id_of(vocab->pad));
    mlxr_status st = ok ? write_json(im, "generation_config.json", o) : mlxr_fail_nomem(im->err, im->dir);

    json_decref(o);
    return st;
}

static mlxr_status write_config(const import *im)
{
    const mlxr_gguf_vocab *vocab = &im->vocab;
    const llama *c = &im->config;
    json_t *o = json_object(), *quantization = quantization_of(im);
    bool own_head_dim = c->head_dim * c->num_attention_heads != c->hidden_size;
    bool ok = o && quantization;
    mlxr_status st;

    ok = ok && set(o, "architectures", json_pack("[s]", "LlamaForCausalLM")) &&
         set(o, "model_type", json_string("llama"));
    ok = ok && set(o, "hidden_size", json_integer(c->hidden_size));
    ok = ok && set(o, "intermediate_size", json_integer(c->intermediate_size));
    ok = ok && set(o, "num_hidden_layers", json_integer(c->num_hidden_layers));
    ok = ok && set(o, "num_attention_heads", json_integer(c->num_attention_heads));
    ok = ok && set(o, "num_key_value_heads", json_integer(c->num_key_value_heads));
    ok = ok && set(o, "head_dim", own_head_dim ? json_integer(c->head_dim) : json_null());
    ok = ok && set(o, "hidden_act", json_string("silu"));
    ok = ok && set(o, "max_position_embeddings", json_integer(c->max_position_embeddings));
    ok = ok && set(o, "rms_norm_eps", real_of_float(c->rms_norm_eps));
    ok = ok && set(o, "rope_theta", real_of_float(c->rope_theta));
    ok = ok && set(o, "rope_scaling", rope_scaling_of(c));
    ok = ok && set(o, "attention_bias", json_boolean(c->attention_bias));
    ok = ok && set(o, "mlp_bias", json_boolean(c->mlp_bias));
    ok = ok && set(o, "tie_word_embeddings", json_boolean(c->tie_word_embeddings));
    ok = ok && set(o, "vocab_size", json_integer(c->vocab_size));
    ok = ok && set(o, "bos_token_id", id_of(vocab->bos)) && set(o, "eos_token_id", eos_of(vocab));
    ok = ok && set(o, "pad_token_id", id_of(vocab->pad));
    ok = ok && set(o, "quantization", json_incref(quantization));
    ok = ok && set(o, "quantization_config", json_incref(quantization)); /* mlx-lm writes both names */
    st = ok ? write_json(im, "config.json", o) : mlxr_fail_nomem(im->err, im->dir);
    json_decref(quantization);
    json_decref(o);
    return st;
}

/* ---- the folder ---- */

static mlxr_status write_text(const import *im, const char *name, const mlxr_buf *text)
{
    char *path = mlxr_path_join(im->dir, name);
    mlxr_status st = path ? mlxr_file_write(path, text->data, text->len, im->err)
                          : mlxr_fail_nomem(im->err, im->dir);

    free(path);
    return st;
}

/* A folder that has a config.json is a model, and would be a mixture of two while its files are replaced. */
static mlxr_status check_folder(const import *im)
{
    static const char *const taken[] = {"config.json", "model.safetensors.index.json"};

    for (size_t i = 0; i < MLXR_COUNT(taken); i++) {
        char *path = mlxr_path_join(im->dir, taken[i]);
        bool is = path && mlxr_path_is_file(path);
        free(path);
        if (!path) return mlxr_fail_nomem(im->err, im->dir);
        if (is)
            return mlxr_fail(im->err, MLXR_E_INVALID_ARGUMENT,
                             "gguf: %s: holds a model already (%s): remove it first", im->dir, taken[i]);
    }
    return MLXR_OK;
}

/* Everything that can be found wrong with the file, before the folder is touched. */
static mlxr_status prepare(import *im)
{
    const mlxr_gguf_import_options *o = im->options;
    mlxr_quant requant = {MLXR_QUANT_AFFINE, o->requantize_bits, o->requantize_group_size};
    mlxr_status st;

    if (o->requantize && !mlxr_quant_supported(requant))
        return mlxr_fail(im->err, MLXR_E_INVALID_ARGUMENT,
                         "gguf: requantizing to %u bits in groups of %u is not supported", o->requantize_bits,
                         o->requantize_group_size);
    if ((st = read_config(im)) != MLXR_OK) return st;
    if ((st = plan_tensors(im)) != MLXR_OK) return st;
    st = mlxr_gguf_weights_prepare(&im->weights, im->path, o->requantize, requant, im->err);
    if (st != MLXR_OK) return st;
    st = mlxr_gguf_tokenizer(&im->tokenizer, &im->tokenizer_config, &im->vocab, im->g,
                             im->config.max_position_embeddings, &o->log, im->err);
    if (st != MLXR_OK) return st;
    if (im->vocab.n_tokens > (size_t)im->config.vocab_size)
        return mlxr_fail(im->err, MLXR_E_FORMAT,
                         "gguf: %s: %zu tokens, but \"token_embd.weight\" has %lld rows", im->path,
                         im->vocab.n_tokens, (long long)im->config.vocab_size);
    return MLXR_OK;
}

static mlxr_status write_folder(import *im)
{
    char *weights_path = mlxr_path_join(im->dir, "model.safetensors");
    mlxr_status st;

    if (!weights_path) return mlxr_fail_nomem(im->err, im->dir);
    if ((st = mlxr_make_dirs(im->dir, im->err)) != MLXR_OK) goto done;
    im->weights.cancel = im->options->cancel;
    st = mlxr_gguf_weights_write(&im->weights, weights_path, &im->options->progress, im->err);
    if (st != MLXR_OK) goto done;
    if ((st = write_text(im, "tokenizer.json", &im->tokenizer)) != MLXR_OK) goto done;
    if ((st = write_text(im, "tokenizer_config.json", &im->tokenizer_config)) != MLXR_OK) goto done;
    if ((st = write_generation_config(im)) != MLXR_OK) goto done;
    st = write_config(im);
done:
    free(weights_path);
    return st;
}

static void import_clear(import *im)
{
    mlxr_gguf_weights_clear(&im->weights);
    mlxr_buf_clear(&im->tokenizer);
    mlxr_buf_clear(&im->tokenizer_config);
    mlxr_arena_clear(&im->arena);
}

mlxr_status mlxr_gguf_import_check(const mlxr_gguf *g, const mlxr_gguf_import_options *options,
                                   mlxr_error *err)
{
import im = {.g = g, .path = mlxr_gguf_path(g), .options = options, .err = err };
    mlxr_status st = prepare(&im);

    import_clear(&im);
    return st;
}

mlxr_status mlxr_gguf_import_open(const mlxr_gguf *g, const char *dir,
                                  const mlxr_gguf_import_options *options, mlxr_error *err)
{
import im = {.g = g, .path = mlxr_gguf_path(g), .dir = dir, .options = options, .err = err };
    mlxr_status st = check_folder(&im);

    if (st == MLXR_OK) st = prepare(&im);
    if (st == MLXR_OK) st = write_folder(&im);
    import_clear(&im);
    return st;
}

mlxr_status mlxr_gguf_import(const char *gguf_path, const char *dir, const mlxr_gguf_import_options *options,
                             mlxr_error *err)
{
    const mlxr_gguf_import_options defaults = mlxr_gguf_import_options_default();
    mlxr_gguf *g = NULL;
    mlxr_status st = mlxr_gguf_open(&g, gguf_path, err);

    if (st != MLXR_OK) return st;
    st = mlxr_gguf_import_open(g, dir, options ? options : &defaults, err);
    mlxr_gguf_close(g);
    return st;
}
