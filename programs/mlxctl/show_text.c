/* show, for people: a name and a value a line, what belongs to it indented below. */
#include <stdio.h>
#include <stdlib.h>

#include "show.h"

#define NAME     "%-14s"
#define SUB_NAME "  %-12s"

static void print_storage(mlxr_buf *out, mlxr_storage s)
{
    char text[MLXR_STORAGE_TEXT];
    mlxr_buf_str(out, mlxr_storage_text(text, s));
}

/* "1.24 B", with as many digits as one compares models by. */
static void print_count(mlxr_buf *out, uint64_t n)
{
    static const struct {
        double unit;
        const char *name;
    } units[] = {{1e12, "T"}, {1e9, "B"}, {1e6, "M"}};

    mlxr_buf_printf(out, "%llu", (unsigned long long)n);
    for (size_t i = 0; i < MLXR_COUNT(units); i++) {
        if ((double)n < units[i].unit) continue;
        mlxr_buf_printf(out, " (%.2f %s)", (double)n / units[i].unit, units[i].name);
        return;
    }
}

/* ---- layers ---- */

static void print_shape(mlxr_buf *out, const mlxr_layer_shape *s)
{
    const char *sep = "";

    if (s->n_heads) {
        mlxr_buf_printf(out, "%zu heads of %zu, %zu of keys and values", s->n_heads, s->k_head_dim,
                        s->n_kv_heads);
        if (s->v_head_dim != s->k_head_dim) mlxr_buf_printf(out, " (values %zu)", s->v_head_dim);
        if (s->window) mlxr_buf_printf(out, ", window %zu", s->window);
        if (s->reads_kv) mlxr_buf_str(out, ", those of an earlier layer");
        sep = "; ";
    }
    if (s->n_states) {
        mlxr_buf_printf(out, "%s%zu delta-rule states of %zu x %zu, %zu key heads", sep, s->n_states,
                        s->state_v_dim, s->state_k_dim, s->n_key_heads);
        sep = "; ";
    }
    if (s->n_channels) {
        mlxr_buf_printf(out, "%sconvolution of %zu over %zu channels", sep, s->n_taps + 1, s->n_channels);
        sep = "; ";
    }
    if (s->n_experts) {
        mlxr_buf_printf(out, "%s%zu experts of %zu, %zu a token", sep, s->n_experts, s->expert_width,
                        s->n_active_experts);
        sep = "; ";
    }
    if (s->ffn_width)
        mlxr_buf_printf(out, "%s%s %zu", sep, s->n_experts ? "shared feed-forward" : "feed-forward",
                        s->ffn_width);
}

/* "24 layers", as the name of a line below. */
static void print_layers_name(mlxr_buf *out, size_t n)
{
    char name[32];
    snprintf(name, sizeof name, "%zu layer%s", n, n == 1 ? "" : "s");
    mlxr_buf_printf(out, SUB_NAME, name);
}

/* Which layers those were, where they are not all. */
static void print_layers_end(mlxr_buf *out, const mlxr_layers *l, size_t n_groups)
{
    if (n_groups > 1) {
        mlxr_buf_str(out, "  [");
        mlxr_layers_print(out, l);
        mlxr_buf_char(out, ']');
    }
    mlxr_buf_char(out, '\n');
}

/* The modules of a list by how they are stored: "X: a, b; Y: c". */
static void print_exceptions(mlxr_buf *out, const mlxr_exception *e, size_t n)
{
    char text[MLXR_STORAGE_TEXT], other[MLXR_STORAGE_TEXT];

    for (size_t i = 0; i < n; i++) {
        bool told = false;
        const char *sep = ": ";
        mlxr_storage_text(text, e[i].storage);
        for (size_t j = 0; j < i && !told; j++)
            told = strcmp(mlxr_storage_text(other, e[j].storage), text) == 0;
        if (told) continue;
        mlxr_buf_printf(out, "%s%s", i ? "; " : "", text);
        for (size_t j = i; j < n; j++) {
            if (strcmp(mlxr_storage_text(other, e[j].storage), text) != 0) continue;
            mlxr_buf_printf(out, "%s%s", sep, e[j].module);
            sep = ", ";
        }
    }
}

static void print_sizes(mlxr_buf *out, const show *s)
{
    const mlxr_program *p = s->program;

    mlxr_buf_printf(out, NAME "%zu, hidden size %zu, vocabulary %zu, context %zu\n", "layers", p->n_layers,
                    p->hidden_size, p->vocab_size, p->context_length);
    for (size_t i = 0; i < s->summary.n_shapes; i++) {
        const mlxr_shape_group *g = &s->summary.shapes[i];
        print_layers_name(out, g->layers.n);
        print_shape(out, &g->shape);
        print_layers_end(out, &g->layers, s->summary.n_shapes);
    }
}

static size_t count_files(const mlxr_checkpoint *c)
{
    const char *last = NULL;
    size_t n = 0;

    for (size_t i = 0; i < mlxr_checkpoint_count(c); i++) { /* file after file */
        const char *file = mlxr_checkpoint_get(c, i)->file;
        n += file != last;
        last = file;
    }
    return n;
}

static void print_weights(mlxr_buf *out, const show *s)
{
    const mlxr_summary *m = &s->summary;
    const mlxr_checkpoint *c = mlxr_model_checkpoint(s->model);
    size_t n_files = count_files(c);

    mlxr_buf_printf(out, NAME "%.2f bits each, %zu tensors in %zu file%s of %llu bytes\n", "weights",
                    m->n_parameters ? 8.0 * (double)m->n_weight_bytes / (double)m->n_parameters : 0.0,
                    mlxr_checkpoint_count(c), n_files, n_files == 1 ? "" : "s",
                    (unsigned long long)mlxr_checkpoint_bytes(c));
    for (size_t i = 0; i < m->n_storages; i++) {
        const mlxr_storage_group *g = &m->storages[i];
        print_layers_name(out, g->layers.n);
        print_storage(out, g->storage);
        if (g->n_exceptions) mlxr_buf_str(out, "; but ");
        print_exceptions(out, g->exceptions, g->n_exceptions);
        print_layers_end(out, &g->layers, m->n_storages);
    }
    if (m->n_outside) {
        mlxr_buf_printf(out, SUB_NAME, "outside");
        print_exceptions(out, m->outside, m->n_outside);
        mlxr_buf_char(out, '\n');
    }
}

/* ---- memory ---- */

static void print_bytes(mlxr_buf *out, const char *name, uint64_t n)
{
    mlxr_buf_printf(out, SUB_NAME "%15llu bytes", name, (unsigned long long)n);
}

static void print_memory(mlxr_buf *out, const show *s)
{
    const mlxr_memory *m = &s->memory;

    mlxr_buf_printf(out, NAME, "memory");
    if (s->compiled)
        report_clean(out, s->device);
    else
        mlxr_buf_str(out, "in float32 without a device's padding");
    mlxr_buf_printf(out, ", %zu sequence%s of %zu positions%s\n", s->request.n_sequences,
                    s->request.n_sequences == 1 ? "" : "s", s->request.n_positions,
                    s->request.n_positions > s->program->context_length ? " (more than the model's context)"
                                                                        : "");
    if (!s->compiled) mlxr_buf_printf(out, SUB_NAME "%s\n", "refused", s->refused.message);
    print_bytes(out, "weights", m->weight_bytes);
    mlxr_buf_str(out, "  mapped from the files\n");
    print_bytes(out, "KV cache", m->kv_bytes);
    mlxr_buf_printf(out, "  %llu blocks of %llu bytes and %d positions\n", (unsigned long long)m->n_blocks,
                    (unsigned long long)m->block_bytes, MLXR_KV_BLOCK);
    if (m->sequence_bytes) {
        print_bytes(out, "states", m->states_bytes);
        mlxr_buf_printf(out, "  %llu a sequence\n", (unsigned long long)m->sequence_bytes);
    }
    print_bytes(out, "activations", m->activation_bytes);
    mlxr_buf_printf(out, "  about, for %zu tokens a step\n", s->request.n_tokens_per_step);
    print_bytes(out, "together", m->total_bytes);
    mlxr_buf_printf(out, m->total_bytes < 1000000000 ? "  %.2f MB\n" : "  %.2f GB\n",
                    (double)m->total_bytes / (m->total_bytes < 1000000000 ? 1e6 : 1e9));
}

/* ---- text ---- */

static void print_capabilities(mlxr_buf *out, const mlxr_template_capabilities *c)
{
    const struct {
        const char *name;
        mlxr_capability c;
    } all[] = {
        {"system", c->system},        {"tools", c->tools},         {"calls", c->tool_calls},
        {"results", c->tool_results}, {"parts", c->content_parts}, {"reasoning", c->reasoning},
    };

    if (c->user != MLXR_CAN) {
        mlxr_buf_printf(out, "does not render a plain message: %s\n", c->why);
        return;
    }
    for (size_t i = 0; i < MLXR_COUNT(all); i++)
        mlxr_buf_printf(out, "%s%s %s", i ? ", " : "", all[i].name, mlxr_capability_name(all[i].c));
    if (c->needs_tools) mlxr_buf_str(out, ", only with tools");
    mlxr_buf_printf(out, ", thinking %s%s\n", c->thinking_switch ? "by " : "no switch",
                    c->thinking_switch ? c->thinking_switch : "");
}

static void print_template(mlxr_buf *out, const show *s)
{
    size_t n = mlxr_chat_template_count(s->chat);

    if (s->builtin_template)
        mlxr_buf_printf(out, NAME "the folder has none: the built-in Llama prompt\n", "template");
    else
        mlxr_buf_printf(out, NAME "%zu in the folder\n", "template", n);
    for (size_t i = 0; i < n; i++) {
        mlxr_buf name = {0};
        report_clean(&name, mlxr_chat_template_name(s->chat, i));
        mlxr_buf_printf(out, SUB_NAME, name.data ? name.data : "?");
        if (name.len >= 12) mlxr_buf_char(out, ' ');
        print_capabilities(out, &s->capabilities[i]);
        out->failed |= name.failed;
        mlxr_buf_clear(&name);
    }
}

static void print_token(mlxr_buf *out, const show *s, int32_t id)
{
    size_t n;
    const char *text = mlxr_tokenizer_id_to_token(s->tok, id, &n);
    char *copy = text ? mlxr_strndup(text, n) : NULL;

    mlxr_buf_printf(out, "%ld ", (long)id);
    if (!text) mlxr_buf_str(out, "(no token)");
    if (copy) report_clean(out, copy);
    out->failed |= text && !copy;
    free(copy);
}

static void print_special_tokens(mlxr_buf *out, const show *s)
{
    static const char *const names[] = {"bos_token", "eos_token", "pad_token", "unk_token"};
    const json_t *tokens = s->chat ? mlxr_chat_template_tokens(s->chat) : NULL;
    size_t n = 0;

    for (size_t i = 0; i < MLXR_COUNT(names); i++) {
        const json_t *text = json_object_get(tokens, names[i]);
        int32_t id;
        if (!text) continue;
        id = mlxr_tokenizer_token_to_id(s->tok, json_string_value(text), json_string_length(text));
        if (n++ == 0) mlxr_buf_printf(out, SUB_NAME, "special");
        mlxr_buf_printf(out, "%s%.3s ", n > 1 ? ", " : "", names[i]);
        if (id >= 0) {
            print_token(out, s, id);
        } else {
            report_clean(out, json_string_value(text));
            mlxr_buf_str(out, " (not in the vocabulary)");
        }
    }
    if (n) mlxr_buf_char(out, '\n');
}

static void print_tokenizer(mlxr_buf *out, const show *s)
{
    if (!s->tok) {
        mlxr_buf_printf(out, NAME "%s\n", "tokenizer", s->no_tokenizer.message);
        return;
    }
    mlxr_buf_printf(out, NAME "%s, %zu tokens\n", "tokenizer", mlxr_tokenizer_kind(s->tok),
                    mlxr_tokenizer_vocab_size(s->tok));
    print_special_tokens(out, s);
    mlxr_buf_printf(out, SUB_NAME, "answers end");
    if (s->no_eos.message[0])
        mlxr_buf_str(out, s->no_eos.message);
    else if (s->n_eos == 0)
        mlxr_buf_str(out, "by length alone: no eos_token_id");
    for (size_t i = 0; i < s->n_eos; i++) {
        mlxr_buf_str(out, i ? ", " : "at ");
        print_token(out, s, s->eos_ids[i]);
    }
    mlxr_buf_char(out, '\n');
}

/* ---- tensors ---- */

static void print_tensor_shape(mlxr_buf *out, const mlxr_tensor *t)
{
    mlxr_buf_char(out, '[');
    for (unsigned i = 0; i < t->n_dims; i++) mlxr_buf_printf(out, "%s%zu", i ? ", " : "", t->shape[i]);
    mlxr_buf_char(out, ']');
}

static void pad(mlxr_buf *out, size_t from, size_t width)
{
    for (size_t n = out->len - from; n < width; n++) mlxr_buf_char(out, ' ');
}

static mlxr_status print_tensors(mlxr_buf *out, const show *s, mlxr_error *err)
{
    const mlxr_checkpoint *c = mlxr_model_checkpoint(s->model);
    size_t n = mlxr_checkpoint_count(c), n_bindings, longest = 0;
    show_binding *bindings;
    mlxr_status st = show_bindings(&bindings, &n_bindings, s->program, err);

    if (st != MLXR_OK) return st;
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(mlxr_checkpoint_get(c, i)->name);
        if (len > longest && len <= 80) longest = len;
    }
    mlxr_buf_printf(out, "tensors (%zu)\n", n);
    for (size_t i = 0; i < n; i++) {
        const mlxr_tensor *t = mlxr_checkpoint_get(c, i);
        const show_binding *b = show_find_binding(bindings, n_bindings, t);
        size_t from = out->len;
        mlxr_buf_str(out, "  ");
        report_clean(out, t->name);
        pad(out, from, longest + 4);
        mlxr_buf_printf(out, "%-5s", mlxr_dtype_name(t->dtype));
        from = out->len;
        print_tensor_shape(out, t);
        pad(out, from, 18);
        mlxr_buf_printf(out, "%12zu  ", t->n_bytes);
        report_clean(out, t->file);
        if (!b) {
            mlxr_buf_str(out, "  ignored\n");
            continue;
        }
        mlxr_buf_printf(out, "  weight %zu", b->i_weight);
        if (b->i_expert != SIZE_MAX) mlxr_buf_printf(out, " expert %zu", b->i_expert);
        mlxr_buf_printf(out, "%s%s\n", strcmp(b->part, "weight") == 0 ? "" : " ",
                        strcmp(b->part, "weight") == 0 ? "" : b->part);
    }
    free(bindings);
    return MLXR_OK;
}

mlxr_status show_print_text(const show *s, mlxr_error *err)
{
    const char *model_type = json_string_value(json_object_get(mlxr_model_config(s->model), "model_type"));
    mlxr_buf out = {0};
    mlxr_status st = MLXR_OK;

    mlxr_buf_printf(&out, NAME, "model");
    report_clean(&out, s->dir);
    mlxr_buf_printf(&out, "\n" NAME "%s", "family", s->program->family);
    if (model_type && strcmp(model_type, s->program->family) != 0)
        mlxr_buf_printf(&out, " (model_type %s)", model_type); /* one of those known */
    mlxr_buf_printf(&out, "\n" NAME, "parameters");
    print_count(&out, s->summary.n_parameters);
    if (s->summary.n_active_parameters != s->summary.n_parameters) {
        mlxr_buf_str(&out, ", of which a token uses ");
        print_count(&out, s->summary.n_active_parameters);
    }
    mlxr_buf_char(&out, '\n');
    print_sizes(&out, s);
    print_weights(&out, s);
    print_memory(&out, s);
    if (s->chat)
        print_template(&out, s);
    else
        mlxr_buf_printf(&out, NAME "%s\n", "template", s->no_template.message);
    print_tokenizer(&out, s);
    if (s->with_tensors) st = print_tensors(&out, s, err);
    if (s->listing.data) mlxr_buf_append(&out, s->listing.data, s->listing.len);
    if (st == MLXR_OK) st = report_write_text(&out, err);
    mlxr_buf_clear(&out);
    return st;
}
