/* show, as one JSON object. Keys that config.json has keep its words. */
#include <stdlib.h>

#include "show.h"

/* A borrowed fresh child. */
static json_t *new_object(report_json *r, json_t *obj, const char *key)
{
    return report_put(r, obj, key, json_object());
}

static json_t *new_list(report_json *r, json_t *obj, const char *key)
{
    return report_put(r, obj, key, json_array());
}

static void put_string(report_json *r, json_t *obj, const char *key, const char *text)
{
    report_put(r, obj, key, report_string(text));
}

static void put_storage(report_json *r, json_t *obj, mlxr_storage s)
{
    put_string(r, obj, "mode", mlxr_quant_mode_name(s.quant.mode));
    report_put_count(r, obj, "bits", s.quant.mode ? s.quant.bits : mlxr_dtype_bits(s.dtype));
    report_put_count(r, obj, "group_size", s.quant.group_size);
    put_string(r, obj, "dtype", mlxr_dtype_name(s.dtype));
}

static void put_layers(report_json *r, json_t *obj, const mlxr_layers *l)
{
    json_t *list = new_list(r, obj, "layers");
    for (size_t i = 0; i < l->n; i++) report_add(r, list, json_integer((json_int_t)l->index[i]));
}

/* The first layer's that has heads: what the keys of config.json say of the whole model. */
static const mlxr_layer_shape *first_attention(const mlxr_summary *s)
{
    static const mlxr_layer_shape none = {0};
    for (size_t i = 0; i < s->n_shapes; i++)
        if (s->shapes[i].shape.n_heads) return &s->shapes[i].shape;
    return &none;
}

static size_t first_ffn_width(const mlxr_summary *s)
{
    for (size_t i = 0; i < s->n_shapes; i++)
        if (s->shapes[i].shape.ffn_width) return s->shapes[i].shape.ffn_width;
    return 0;
}

static void put_sizes(report_json *r, const show *s)
{
    const mlxr_program *p = s->program;
    const mlxr_layer_shape *a = first_attention(&s->summary);

    report_put_count(r, r->root, "parameters", s->summary.n_parameters);
    report_put_count(r, r->root, "active_parameters", s->summary.n_active_parameters);
    report_put_count(r, r->root, "num_hidden_layers", p->n_layers);
    report_put_count(r, r->root, "hidden_size", p->hidden_size);
    report_put_count(r, r->root, "intermediate_size", first_ffn_width(&s->summary));
    report_put_count(r, r->root, "num_attention_heads", a->n_heads);
    report_put_count(r, r->root, "num_key_value_heads", a->n_kv_heads);
    report_put_count(r, r->root, "head_dim", a->k_head_dim);
    report_put_count(r, r->root, "vocab_size", p->vocab_size);
    report_put_count(r, r->root, "context_length", p->context_length);
}

static void put_shapes(report_json *r, const mlxr_summary *m)
{
    json_t *list = new_list(r, r->root, "layers");

    for (size_t i = 0; i < m->n_shapes; i++) {
        const mlxr_layer_shape *s = &m->shapes[i].shape;
        json_t *o = report_add(r, list, json_object()), *part;
        put_layers(r, o, &m->shapes[i].layers);
        if (s->n_heads) {
            part = new_object(r, o, "attention");
            report_put_count(r, part, "heads", s->n_heads);
            report_put_count(r, part, "key_value_heads", s->n_kv_heads);
            report_put_count(r, part, "key_width", s->k_head_dim);
            report_put_count(r, part, "value_width", s->v_head_dim);
            report_put_count(r, part, "window", s->window);
            report_put(r, part, "shares_earlier_keys", json_boolean(s->reads_kv));
        }
        if (s->n_states) {
            part = new_object(r, o, "delta_rule");
            report_put_count(r, part, "states", s->n_states);
            report_put_count(r, part, "key_heads", s->n_key_heads);
            report_put_count(r, part, "key_width", s->state_k_dim);
            report_put_count(r, part, "value_width", s->state_v_dim);
        }
        if (s->n_channels) {
            part = new_object(r, o, "convolution");
            report_put_count(r, part, "channels", s->n_channels);
            report_put_count(r, part, "width", s->n_taps + 1);
        }
        if (s->n_experts) {
            part = new_object(r, o, "experts");
            report_put_count(r, part, "experts", s->n_experts);
            report_put_count(r, part, "per_token", s->n_active_experts);
            report_put_count(r, part, "width", s->expert_width);
        }
        if (s->ffn_width) report_put_count(r, o, "feed_forward", s->ffn_width);
    }
}

static void put_exceptions(report_json *r, json_t *obj, const char *key, const mlxr_exception *e, size_t n)
{
    json_t *list = new_list(r, obj, key);

    for (size_t i = 0; i < n; i++) {
        json_t *o = report_add(r, list, json_object());
        put_string(r, o, "module", e[i].module);
        put_storage(r, o, e[i].storage);
    }
}

static void put_weights(report_json *r, const show *s)
{
    const mlxr_summary *m = &s->summary;
    const mlxr_checkpoint *c = mlxr_model_checkpoint(s->model);
    json_t *list, *o;

    report_put_count(r, r->root, "weight_bytes", m->n_weight_bytes);
    report_put_count(r, r->root, "file_bytes", mlxr_checkpoint_bytes(c));
    report_put_count(r, r->root, "tensors", mlxr_checkpoint_count(c));
    list = new_list(r, r->root, "weights");
    for (size_t i = 0; i < m->n_uses; i++) {
        o = report_add(r, list, json_object());
        put_storage(r, o, m->uses[i].storage);
        report_put_count(r, o, "matrices", m->uses[i].n_matrices);
        report_put_count(r, o, "parameters", m->uses[i].n_parameters);
        report_put_count(r, o, "bytes", m->uses[i].n_bytes);
    }
    list = new_list(r, r->root, "storage");
    for (size_t i = 0; i < m->n_storages; i++) {
        o = report_add(r, list, json_object());
        put_layers(r, o, &m->storages[i].layers);
        put_storage(r, o, m->storages[i].storage);
        put_exceptions(r, o, "except", m->storages[i].exceptions, m->storages[i].n_exceptions);
    }
    put_exceptions(r, r->root, "outside_layers", m->outside, m->n_outside);
}

static void put_memory(report_json *r, const show *s)
{
    const mlxr_memory *m = &s->memory;
    json_t *o = new_object(r, r->root, "memory");

    report_put(r, o, "device", s->compiled ? report_string(s->device) : json_null());
    if (!s->compiled) put_string(r, o, "refused", s->refused.message);
    report_put_count(r, o, "context", s->request.n_positions);
    report_put_count(r, o, "sequences", s->request.n_sequences);
    report_put_count(r, o, "tokens_per_step", s->request.n_tokens_per_step);
    report_put_count(r, o, "weight_bytes", m->weight_bytes);
    report_put_count(r, o, "block_positions", MLXR_KV_BLOCK);
    report_put_count(r, o, "block_bytes", m->block_bytes);
    report_put_count(r, o, "blocks", m->n_blocks);
    report_put_count(r, o, "kv_bytes", m->kv_bytes);
    report_put_count(r, o, "sequence_bytes", m->sequence_bytes);
    report_put_count(r, o, "states_bytes", m->states_bytes);
    report_put_count(r, o, "activation_bytes", m->activation_bytes);
    report_put_count(r, o, "total_bytes", m->total_bytes);
}

static void put_template(report_json *r, const show *s)
{
    json_t *o, *list, *t;

    if (!s->chat) {
        report_put(r, r->root, "template", json_null());
        put_string(r, r->root, "template_error", s->no_template.message);
        return;
    }
    o = new_object(r, r->root, "template");
    report_put(r, o, "built_in", json_boolean(s->builtin_template));
    list = new_list(r, o, "templates");
    for (size_t i = 0; i < mlxr_chat_template_count(s->chat); i++) {
        const mlxr_template_capabilities *c = &s->capabilities[i];
        t = report_add(r, list, json_object());
        put_string(r, t, "name", mlxr_chat_template_name(s->chat, i));
        put_string(r, t, "user", mlxr_capability_name(c->user));
        if (c->user != MLXR_CAN) put_string(r, t, "why", c->why);
        report_put(r, t, "needs_tools", json_boolean(c->needs_tools));
        put_string(r, t, "generation_prompt", mlxr_capability_name(c->generation_prompt));
        put_string(r, t, "system", mlxr_capability_name(c->system));
        put_string(r, t, "tools", mlxr_capability_name(c->tools));
        put_string(r, t, "tool_calls", mlxr_capability_name(c->tool_calls));
        put_string(r, t, "tool_results", mlxr_capability_name(c->tool_results));
        put_string(r, t, "content_parts", mlxr_capability_name(c->content_parts));
        put_string(r, t, "reasoning", mlxr_capability_name(c->reasoning));
        report_put(r, t, "thinking_switch",
                   c->thinking_switch ? report_string(c->thinking_switch) : json_null());
    }
}

static void put_tokenizer(report_json *r, const show *s)
{
    const json_t *value;
    const char *key;
    json_t *o, *tokens, *list;

    if (!s->tok) {
        report_put(r, r->root, "tokenizer", json_null());
        put_string(r, r->root, "tokenizer_error", s->no_tokenizer.message);
        return;
    }
    o = new_object(r, r->root, "tokenizer");
    put_string(r, o, "kind", mlxr_tokenizer_kind(s->tok));
    report_put_count(r, o, "tokens", mlxr_tokenizer_vocab_size(s->tok));
    tokens = new_object(r, o, "special_tokens");
    json_object_foreach(s->chat ? (json_t *)(uintptr_t)mlxr_chat_template_tokens(s->chat) : NULL, key, value)
    {
        json_t *t = new_object(r, tokens, key);
        int32_t id = mlxr_tokenizer_token_to_id(s->tok, json_string_value(value), json_string_length(value));
        put_string(r, t, "text", json_string_value(value));
        report_put(r, t, "id", id >= 0 ? json_integer(id) : json_null());
    }
    list = new_list(r, o, "eos_token_ids");
    for (size_t i = 0; i < s->n_eos; i++) report_add(r, list, json_integer(s->eos_ids[i]));
    if (s->no_eos.message[0]) put_string(r, o, "eos_error", s->no_eos.message);
}

static mlxr_status put_tensors(report_json *r, const show *s, mlxr_error *err)
{
    const mlxr_checkpoint *c = mlxr_model_checkpoint(s->model);
    json_t *list = new_list(r, r->root, "tensor_list"), *o, *shape;
    show_binding *bindings;
    size_t n_bindings;
    mlxr_status st = show_bindings(&bindings, &n_bindings, s->program, err);

    if (st != MLXR_OK) return st;
    for (size_t i = 0; i < mlxr_checkpoint_count(c) && !r->failed; i++) {
        const mlxr_tensor *t = mlxr_checkpoint_get(c, i);
        const show_binding *b = show_find_binding(bindings, n_bindings, t);
        o = report_add(r, list, json_object());
        put_string(r, o, "name", t->name);
        put_string(r, o, "dtype", mlxr_dtype_name(t->dtype));
        shape = new_list(r, o, "shape");
        for (unsigned d = 0; d < t->n_dims; d++) report_add(r, shape, json_integer((json_int_t)t->shape[d]));
        put_string(r, o, "file", t->file);
        report_put_count(r, o, "bytes", t->n_bytes);
        if (!b) {
            report_put(r, o, "weight", json_null());
            continue;
        }
        report_put_count(r, o, "weight", b->i_weight);
        put_string(r, o, "part", b->part);
        if (b->i_expert != SIZE_MAX) report_put_count(r, o, "expert", b->i_expert);
    }
    free(bindings);
    return MLXR_OK;
}

mlxr_status show_print_json(const show *s, mlxr_error *err)
{
    report_json r = {.root = json_object()};
    mlxr_status st = MLXR_OK;

    r.failed = !r.root;
    put_string(&r, r.root, "model", s->dir);
    put_string(&r, r.root, "family", s->program->family);
    put_string(&r, r.root, "model_type",
               json_string_value(json_object_get(mlxr_model_config(s->model), "model_type")));
    put_sizes(&r, s);
    put_shapes(&r, &s->summary);
    put_weights(&r, s);
    put_memory(&r, s);
    put_template(&r, s);
    put_tokenizer(&r, s);
    if (s->with_tensors) st = put_tensors(&r, s, err);
    if (s->listing.data) /* its lines are ours: the names of weights come from families */
        report_put(&r, r.root, "program", json_stringn(s->listing.data, s->listing.len));
    if (st == MLXR_OK) st = report_write_json(&r, err);
    json_decref(r.root);
    return st;
}
