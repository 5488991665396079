/* native_show: POST /api/show: what a model is, from the files of its folder, without loading it: the chat template, mlxr.json, config.json,
 * licences, and with "verbose" the names of tensors and tokens. Keys of model_info are those of GGUF, which clients know
 * (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). */
#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/parameters.h"
#include "runner/settings.h"
#include "serve/native_store.h"
#include "store/bring.h"
#include "store/recipe.h"
#include "text/chat_template.h"

enum { MAX_LICENSE = 4 << 20, MAX_GENERATION = 1 << 20 };

struct show {
    const char *model, *name, *system;
    const json_t *options;
    bool verbose;
    /* what was found */
    mlxr_shelf_model found;
    mlxr_manifest manifest;
    char *dir;
    json_t *config, *generation; /* NULL: there is none */
    mlxr_settings settings;
    mlxr_chat_template *chat; /* NULL: none */
    json_t *parameters;
    char **licenses;
    size_t n_licenses;
    mlxr_buf modelfile;
    const char *template_;
};

#define AT(member) offsetof(struct show, member)
static const mlxr_field show_fields[] = {
    {.name = "model", .types = MLXR_FIELD_STRING, .offset = AT(model), .help = "name of a model"},
    {.name = "name", .types = MLXR_FIELD_STRING, .offset = AT(name), .help = "the same under its old name"},
    {.name = "verbose",
     .types = MLXR_FIELD_BOOL,
     .offset = AT(verbose),
     .fallback = "false",
     .help = "with the lists of tensors and tokens"},
    {.name = "system",
     .types = MLXR_FIELD_STRING,
     .offset = AT(system),
     .help = "shown in place of the model's own"},
    {.name = "options",
     .types = MLXR_FIELD_OBJECT,
     .offset = AT(options),
     .help = "parameters shown over the model's own"},
};
const mlxr_fields mlxr_native_show_fields = {show_fields, MLXR_COUNT(show_fields), "request"};

static void show_clear(struct show *w)
{
    mlxr_manifest_clear(&w->manifest);
    mlxr_free(w->dir);
    json_decref(w->config);
    json_decref(w->generation);
    mlxr_settings_clear(&w->settings);
    mlxr_chat_template_close(w->chat);
    json_decref(w->parameters);
    for (size_t i = 0; i < w->n_licenses; i++) free(w->licenses[i]);
    free(w->licenses);
    mlxr_buf_clear(&w->modelfile);
}

/* ---- gathering ---- */

static mlxr_status read_licenses(struct show *w, mlxr_serve *s, mlxr_error *err)
{
    const mlxr_manifest *m = &w->manifest;

    if (!(w->licenses = mlxr_calloc_array(m->n_layers, sizeof *w->licenses)))
        return mlxr_fail_nomem(err, "show");
    for (size_t i = 0; i < m->n_layers; i++) {
        const mlxr_layer *l = &m->layers[i];
        mlxr_buf text = {0};
        char *path;
        mlxr_status st;
        if (strcmp(l->media_type, MLXR_MEDIA_LICENSE) != 0 || l->size == 0 || l->size > MAX_LICENSE) continue;
        if (!(path = mlxr_store_blob_path(s->store, l->digest))) return mlxr_fail_nomem(err, "show");
        st = mlxr_file_read(&text, path, MAX_LICENSE, err);
        free(path);
        if (st == MLXR_OK) st = mlxr_buf_check(&text, "show", err);
        /* What is no text is no use to anybody who asks for one. */
        if (st == MLXR_OK && mlxr_utf8_valid(text.data, text.len) == text.len &&
            !memchr(text.data, 0, text.len))
            w->licenses[w->n_licenses++] = mlxr_buf_take(&text, NULL);
        mlxr_buf_clear(&text);
        if (st != MLXR_OK) return st;
    }
    return MLXR_OK;
}

/* The request's over the model's. */
static mlxr_status merge_parameters(struct show *w, mlxr_error *err)
{
    const char *name;
    json_t *value;

    w->parameters = w->settings.parameters ? json_copy((json_t *)(uintptr_t)w->settings.parameters)
                                           : json_object();
    if (!w->parameters) return mlxr_fail_nomem(err, "show");
    json_object_foreach((json_t *)(uintptr_t)w->options, name, value)
    {
        const mlxr_parameter *p = mlxr_parameter_find(name);
        json_t *own = json_incref(value);
        const char *wants = p && !json_is_null(value) ? mlxr_parameter_check(p, &own, false) : NULL;
        mlxr_status st = MLXR_OK;
        if (wants)
            st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "option \"%.100s\" must be %s", name, wants);
        else if (p && own && !json_is_null(own) && json_object_set(w->parameters, name, own) != 0)
            st = mlxr_fail_nomem(err, "show");
        json_decref(own);
        if (st != MLXR_OK) return st;
    }
    return MLXR_OK;
}

/* What create takes back. A text that this form cannot hold leaves it out. */
static mlxr_status write_modelfile(struct show *w, mlxr_error *err)
{
    mlxr_recipe r = {.defaults = w->parameters,
                     .messages = (json_t *)(uintptr_t)w->settings.messages,
                     .system = (char *)(uintptr_t)w->system,
                     .template_text = (char *)(uintptr_t)w->template_,
                     .licenses = w->licenses,
                     .n_licenses = w->n_licenses};
    mlxr_buf name = {0};
    mlxr_status st;

    mlxr_name_display(&name, &w->found.name);
    if ((st = mlxr_buf_check(&name, "show", err)) != MLXR_OK) goto done;
    mlxr_buf_str(&w->modelfile,
                 "# The model as a Modelfile: change it, and give it to create under another name.\n");
    st = mlxr_modelfile_write(&w->modelfile, &r, name.data, err);
    if (st == MLXR_E_UNSUPPORTED) {
        mlxr_buf_clear(&w->modelfile);
        st = MLXR_OK;
    }
done:
    mlxr_buf_clear(&name);
    return st;
}

static mlxr_status gather(struct show *w, mlxr_serve *s, mlxr_error *err)
{
    char *path = NULL;
    mlxr_status st;

    if ((st = mlxr_store_model_path(&w->dir, s->store, w->found.facts.digest, err)) != MLXR_OK) return st;
    if ((st = mlxr_model_config_read(&w->config, w->dir, err)) != MLXR_OK) return st;
    if (mlxr_manifest_find(&w->manifest, "generation_config.json")) {
        if (!(path = mlxr_path_join(w->dir, "generation_config.json"))) return mlxr_fail_nomem(err, "show");
        st = mlxr_json_read(&w->generation, path, MAX_GENERATION, err);
        free(path);
        if (st == MLXR_E_NOMEM) return st;
    }
    if ((st = mlxr_settings_read(&w->settings, w->dir, err)) != MLXR_OK) return st;
    st = mlxr_chat_template_open(&w->chat, w->dir, err);
    if (st == MLXR_E_NOMEM) return st;
    if (w->chat) w->template_ = mlxr_chat_template_source(w->chat, 0);
    for (size_t i = 0; w->chat && i < mlxr_chat_template_count(w->chat); i++)
        if (strcmp(mlxr_chat_template_name(w->chat, i), "default") == 0)
            w->template_ = mlxr_chat_template_source(w->chat, i);
    if (!w->system || !*w->system) w->system = w->settings.system;
    if ((st = read_licenses(w, s, err)) != MLXR_OK) return st;
    if ((st = merge_parameters(w, err)) != MLXR_OK) return st;
    return write_modelfile(w, err);
}

/* ---- parameters ---- */

/* "stop                           \"###\"" */
static void put_parameter(mlxr_buf *out, const char *name, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15));

    if (!text) {
        out->failed = true;
        return;
    }
    mlxr_buf_printf(out, "%s%-30s %s", out->len ? "\n" : "", name, text);
    free(text);
}

static void put_parameters(mlxr_buf *out, const struct show *w)
{
    mlxr_buf text = {0};
    const mlxr_parameter *p;

    for (size_t i = 0; (p = mlxr_parameter_at(i)) != NULL; i++) {
        const json_t *value = json_object_get(w->parameters, p->name);
        if (!value) continue;
        if (!json_is_array(value)) put_parameter(&text, p->name, value);
        for (size_t k = 0; k < json_array_size(value); k++)
            put_parameter(&text, p->name, json_array_get(value, k));
    }
    if (text.len) mlxr_put_text_member(out, "parameters", text.data);
    out->failed |= text.failed;
    mlxr_buf_clear(&text);
}

/* ---- model_info ---- */

static const json_t *config_value(const struct show *w, const char *key)
{
    const json_t *text = json_object_get(w->config, "text_config"), *v = json_object_get(text, key);

    if (!v || json_is_null(v)) v = json_object_get(w->config, key);
    return v && !json_is_null(v) ? v : NULL;
}

static void put_info(mlxr_buf *out, const char *arch, const char *key, const json_t *v)
{
    char *text;

    if (!json_is_number(v) && !json_is_boolean(v)) return;
    if (!(text = json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17)))) {
        out->failed = true;
        return;
    }
    mlxr_buf_char(out, ',');
    if (arch) {
        mlxr_buf full = {0};
        mlxr_buf_printf(&full, "%s.%s", arch, key);
        mlxr_put_string(out, full.failed ? key : full.data);
        mlxr_buf_clear(&full);
    } else {
        mlxr_put_string(out, key);
    }
    mlxr_buf_printf(out, ":%s", text);
    free(text);
}

/* An id, or the first of several. */
static const json_t *token_id(const struct show *w, const char *key)
{
    const json_t *v = json_object_get(w->generation, key);

    if (!v) v = config_value(w, key);
    return json_is_array(v) ? json_array_get(v, 0) : v;
}

static mlxr_status put_tokens(mlxr_buf *out, const struct show *w, mlxr_error *err)
{
    mlxr_tokenizer *tok = NULL;
    mlxr_status st = mlxr_tokenizer_open(&tok, w->dir, err);
    size_t n;

    if (st != MLXR_OK) return st == MLXR_E_NOMEM ? st : MLXR_OK;
    n = mlxr_tokenizer_vocab_size(tok);
    mlxr_put_text_member(out, "tokenizer.ggml.model",
                         strcmp(mlxr_tokenizer_kind(tok), "BPE") == 0 ? "gpt2" : mlxr_tokenizer_kind(tok));
    mlxr_buf_str(out, ",\"tokenizer.ggml.tokens\":[");
    for (size_t i = 0; i < n; i++) {
        size_t n_text = 0;
        const char *text = mlxr_tokenizer_id_to_token(tok, (int32_t)i, &n_text);
        if (i) mlxr_buf_char(out, ',');
        mlxr_put_string_n(out, text ? text : "", text ? n_text : 0);
    }
    mlxr_buf_char(out, ']');
    mlxr_tokenizer_close(tok);
    return MLXR_OK;
}

static mlxr_status put_model_info(mlxr_buf *out, const struct show *w, mlxr_error *err)
{
    static const struct {
        const char *key, *config[3];
    } keys[] = {
        {"context_length", {NULL}}, /* the description's */
        {"embedding_length", {"hidden_size", "n_embd", "d_model"}},
        {"block_count", {"num_hidden_layers", "n_layer", "num_layers"}},
        {"feed_forward_length", {"intermediate_size", "n_inner", "block_ff_dim"}},
        {"attention.head_count", {"num_attention_heads", "n_head"}},
        {"attention.head_count_kv", {"num_key_value_heads"}},
        {"attention.key_length", {"head_dim"}},
        {"attention.layer_norm_rms_epsilon", {"rms_norm_eps", "norm_eps"}},
        {"attention.layer_norm_epsilon", {"layer_norm_eps", "layer_norm_epsilon"}},
        {"attention.sliding_window", {"sliding_window"}},
        {"rope.freq_base", {"rope_theta"}},
        {"expert_count", {"num_experts", "num_local_experts", "n_routed_experts"}},
        {"expert_used_count", {"num_experts_per_tok", "num_experts_per_token", "top_k_experts"}},
        {"vocab_size", {"vocab_size"}},
    };
    const mlxr_model_facts *f = &w->found.facts;

    mlxr_buf_str(out, ",\"model_info\":{\"general.architecture\":");
    mlxr_put_string(out, f->family);
    mlxr_buf_printf(out, ",\"general.parameter_count\":%llu", (unsigned long long)f->n_parameters);
    mlxr_put_text_member(out, "general.quantization", f->quant);
    for (size_t i = 0; i < MLXR_COUNT(keys); i++) {
        const json_t *v = NULL;
        json_t *own = NULL;
        for (size_t k = 0; k < 3 && keys[i].config[k] && !v; k++) v = config_value(w, keys[i].config[k]);
        if (!keys[i].config[0] && f->context_length) v = own = json_integer((json_int_t)f->context_length);
        /* Without a number of its own every head has its keys. */
        if (!v && strcmp(keys[i].key, "attention.head_count_kv") == 0)
            v = config_value(w, "num_attention_heads");
        if (v) put_info(out, f->family, keys[i].key, v);
        json_decref(own);
    }
    put_info(out, NULL, "tokenizer.ggml.bos_token_id", token_id(w, "bos_token_id"));
    put_info(out, NULL, "tokenizer.ggml.eos_token_id", token_id(w, "eos_token_id"));
    if (w->verbose) {
        mlxr_status st = put_tokens(out, w, err);
        if (st != MLXR_OK) return st;
    }
    mlxr_buf_char(out, '}');
    return MLXR_OK;
}

static mlxr_status put_tensors(mlxr_buf *out, const struct show *w, mlxr_error *err)
{
    mlxr_checkpoint *c = NULL;
    mlxr_status st = mlxr_checkpoint_open(&c, w->dir, err);

    if (st != MLXR_OK) return st;
    mlxr_buf_str(out, ",\"tensors\":[");
    for (size_t i = 0; i < mlxr_checkpoint_count(c); i++) {
        const mlxr_tensor *t = mlxr_checkpoint_get(c, i);
        mlxr_buf_str(out, i ? ",{\"name\":" : "{\"name\":");
        mlxr_put_string(out, t->name);
        mlxr_buf_printf(out, ",\"type\":\"%s\",\"shape\":[", mlxr_dtype_name(t->dtype));
        for (unsigned k = 0; k < t->n_dims; k++) mlxr_buf_printf(out, k ? ",%zu" : "%zu", t->shape[k]);
        mlxr_buf_str(out, "]}");
    }
    mlxr_buf_char(out, ']');
    mlxr_checkpoint_close(c);
    return MLXR_OK;
}

/* ---- the answer ---- */

/* One text, as Ollama has it. */
static mlxr_status put_licenses(mlxr_buf *out, const struct show *w, mlxr_error *err)
{
    mlxr_buf all = {0};
    mlxr_status st;

    for (size_t i = 0; i < w->n_licenses; i++) {
        if (i) mlxr_buf_char(&all, '\n');
        mlxr_buf_str(&all, w->licenses[i]);
    }
    st = mlxr_buf_check(&all, "show", err);
    if (st == MLXR_OK && all.len) mlxr_put_text_member(out, "license", all.data);
    mlxr_buf_clear(&all);
    return st;
}

static mlxr_status put_show(mlxr_buf *out, const struct show *w, const json_t *warnings, mlxr_error *err)
{
    mlxr_status st;

    mlxr_buf_str(out, "{\"details\":");
    mlxr_native_put_details(out, &w->found.facts);
    if ((st = put_licenses(out, w, err)) != MLXR_OK) return st;
    if (w->modelfile.len) mlxr_put_text_member(out, "modelfile", w->modelfile.data);
    put_parameters(out, w);
    mlxr_put_text_member(out, "template", w->template_);
    mlxr_put_text_member(out, "system", w->system && *w->system ? w->system : NULL);
    mlxr_put_json_member(out, "messages", w->settings.messages);
    if ((st = put_model_info(out, w, err)) != MLXR_OK) return st;
    if (w->verbose && (st = put_tensors(out, w, err)) != MLXR_OK) return st;
    mlxr_native_put_capabilities(out, w->found.facts.capabilities);
    mlxr_buf_str(out, ",\"modified_at\":");
    mlxr_native_put_local_time(out, w->found.modified_ns);
    mlxr_buf_printf(out, ",\"digest\":\"%s\"", w->found.facts.digest + 7);
    mlxr_put_json_member(out, "warnings", warnings);
    mlxr_buf_char(out, '}');
    return mlxr_buf_check(out, "show", err);
}

/* The mock has no files. */
static void show_mock(mlxr_serve *s, mlxr_request_in *http)
{
    mlxr_model_facts f = {
        .family = "mock", .size = "0", .quant = "none", .capabilities = MLXR_HAS_COMPLETION};
    mlxr_buf out = {0};

    mlxr_buf_str(&out, "{\"details\":");
    mlxr_native_put_details(&out, &f);
    mlxr_buf_str(&out, ",\"model_info\":{\"general.architecture\":\"mock\",\"general.parameter_count\":0}");
    mlxr_native_put_capabilities(&out, f.capabilities);
    mlxr_buf_str(&out, ",\"modified_at\":");
    mlxr_native_put_local_time(&out, s->start_seconds * 1000000000);
    mlxr_buf_char(&out, '}');
    mlxr_serve_answer(http, &out);
}

static void show(mlxr_serve *s, mlxr_request_in *http)
{
    struct show w = {0};
    json_t *body, *warnings;
    const char *name;
    mlxr_error err = {0};
    mlxr_buf out = {0};
    mlxr_status st;

    if (!mlxr_native_read(&body, &warnings, &w, s, http, &mlxr_native_show_fields)) return;
    if ((name = mlxr_native_model_of(s, http, w.model, w.name, true)) == NULL) goto done;
    st = mlxr_shelf_find(&w.found, &w.manifest, s->shelf, name, &err);
    if (st == MLXR_E_NOT_FOUND && s->mock) {
        show_mock(s, http);
        goto done;
    }
    if (st == MLXR_OK) st = gather(&w, s, &err);
    if (st == MLXR_OK) st = put_show(&out, &w, warnings, &err);
    if (st == MLXR_OK)
        mlxr_serve_answer(http, &out);
    else
        mlxr_native_model_fail(http, st, name, &err);
done:
    mlxr_buf_clear(&out);
    show_clear(&w);
    json_decref(body);
    json_decref(warnings);
}

void mlxr_native_show(mlxr_request_in *http, void *ud)
{
    mlxr_serve_post(ud, http, show);
}
