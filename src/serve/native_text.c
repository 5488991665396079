/* native_text: what works on texts without an answer: POST /api/embed, the older /api/embeddings, /api/tokenize, /api/detokenize. All are
 * turns, since a model is waited for; none waits for the engine on a worker. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/parameters.h"
#include "serve/native.h"
#include "text/tokenizer/token_bytes.h"

struct text_state {
    const char *model, *prompt; /* of the body, as all below */
    const char *text, *content;
    const json_t *input, *keep_alive, *options, *messages, *tokens;
    bool truncate, add_special, with_pieces, pieces, skip_special, old;
    int64_t dimensions;
};

#define AT(member) offsetof(struct text_state, member)
#define COMMON_FIELDS                                                                                  \
    {.name = "model", .types = MLXR_FIELD_STRING, .offset = AT(model), .help = "name of a model"},     \
        {.name = "options",                                                                            \
         .types = MLXR_FIELD_OBJECT,                                                                   \
         .offset = AT(options),                                                                        \
         .help = "num_ctx; what is about sampling has no effect"},                                     \
    {                                                                                                  \
        .name = "keep_alive", .types = MLXR_FIELD_ANY, .offset = AT(keep_alive), .fallback = "\"5m\"", \
        .help = "how long the model stays: seconds or a duration; below 0 for ever, 0 not at all"      \
    }

static const mlxr_field embed_fields[] = {
    COMMON_FIELDS,
    {.name = "input",
     .types = MLXR_FIELD_ANY,
     .offset = AT(input),
     .help = "a text or a list of them; a list of token ids stands for a text"},
    {.name = "truncate",
     .types = MLXR_FIELD_BOOL,
     .offset = AT(truncate),
     .fallback = "true",
     .help = "cut what is longer than the context"},
    {.name = "dimensions",
     .types = MLXR_FIELD_INT,
     .min = 0,
     .max = 1e6,
     .offset = AT(dimensions),
     .fallback = "0",
     .help = "the first so many of each vector, of length 1 again; 0: all"},
};
static const mlxr_field embeddings_fields[] = {
    COMMON_FIELDS,
    {.name = "prompt", .types = MLXR_FIELD_STRING, .offset = AT(prompt), .fallback = "\"\""},
};
static const mlxr_field tokenize_fields[] = {
    COMMON_FIELDS,
    {.name = "text", .types = MLXR_FIELD_STRING, .offset = AT(text), .help = "what is taken apart"},
    {.name = "content", .types = MLXR_FIELD_STRING, .offset = AT(content), .help = "another name of text"},
    {.name = "prompt", .types = MLXR_FIELD_STRING, .offset = AT(prompt), .help = "another name of text"},
    {.name = "messages",
     .types = MLXR_FIELD_LIST,
     .offset = AT(messages),
     .help = "instead: a conversation, as the chat template writes it"},
    {.name = "add_special",
     .types = MLXR_FIELD_BOOL,
     .offset = AT(add_special),
     .fallback = "false",
     .help = "with the tokens that the tokenizer puts around a text"},
    {.name = "pieces",
     .types = MLXR_FIELD_BOOL,
     .offset = AT(pieces),
     .fallback = "false",
     .help = "a list of the tokens' texts too; the bytes of what is no whole character"},
    {.name = "with_pieces",
     .types = MLXR_FIELD_BOOL,
     .offset = AT(with_pieces),
     .fallback = "false",
     .help = "tokens as objects with \"id\" and \"piece\""},
};
static const mlxr_field detokenize_fields[] = {
    COMMON_FIELDS,
    {.name = "tokens", .types = MLXR_FIELD_LIST, .required = true, .offset = AT(tokens), .help = "token ids"},
    {.name = "skip_special",
     .types = MLXR_FIELD_BOOL,
     .offset = AT(skip_special),
     .fallback = "false",
     .help = "without the texts of special tokens"},
};
static const mlxr_fields embed_table = {embed_fields, MLXR_COUNT(embed_fields), "request"};
static const mlxr_fields embeddings_table = {embeddings_fields, MLXR_COUNT(embeddings_fields), "request"};
static const mlxr_fields tokenize_table = {tokenize_fields, MLXR_COUNT(tokenize_fields), "request"};
static const mlxr_fields detokenize_table = {detokenize_fields, MLXR_COUNT(detokenize_fields), "request"};

/* ---- reading ---- */

static mlxr_status warn_of_sampling(mlxr_turn *t, const json_t *options, mlxr_error *err)
{
    const char *name;
    json_t *value;
    mlxr_status st;

    json_object_foreach((json_t *)(uintptr_t)options, name, value)
    {
        const mlxr_parameter *p = mlxr_parameter_find(name);
        if (json_is_null(value) || !p || p->kind == MLXR_PARAMETER_CONTEXT || p->kind == MLXR_PARAMETER_OTHER)
            continue;
        if ((st = mlxr_native_warn(t, err, "options: \"%s\" has no effect here", name)) != MLXR_OK) return st;
    }
    return MLXR_OK;
}

static mlxr_status read_common(mlxr_turn *t, const mlxr_fields *fields, int missing_status, mlxr_error *err)
{
    struct text_state *s = t->state;
    mlxr_status st;

    s->truncate = true;
    st = mlxr_fields_read(s, fields, t->body, t->serve->strict ? NULL : t->warnings, &t->error_field, err);
    if (st == MLXR_OK) st = mlxr_native_read_model(t, s->model, missing_status, s->keep_alive, err);
    if (st == MLXR_OK && s->options) st = mlxr_native_options(t, s->options, err);
    return st == MLXR_OK && s->options ? warn_of_sampling(t, s->options, err) : st;
}

/* A whole number, whichever way it is written. */
static bool is_id(const json_t *v)
{
    return json_is_integer(v) || (json_is_real(v) && json_real_value(v) == floor(json_real_value(v)) &&
                                  fabs(json_real_value(v)) <= INT32_MAX);
}

static mlxr_status take_input(mlxr_input *out, mlxr_turn *t, const json_t *v, mlxr_error *err)
{
    int32_t *ids;

    if (json_is_string(v)) {
        *out = (mlxr_input){.text = json_string_value(v), .n_text = json_string_length(v)};
        return MLXR_OK;
    }
    if (!json_is_array(v) || !json_array_size(v))
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "invalid input type");
    for (size_t i = 0; i < json_array_size(v); i++)
        if (!is_id(json_array_get(v, i)))
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "invalid input type");
    out->text = NULL;
    if (mlxr_native_ids(&ids, &out->n_ids, t, v, "input", err) != MLXR_OK) return MLXR_E_INVALID_ARGUMENT;
    out->ids = ids;
    return MLXR_OK;
}

/* Into t->inputs, a text or a list; none: the model is loaded alone. */
static mlxr_status take_inputs(mlxr_turn *t, const json_t *v, mlxr_error *err)
{
    bool one = json_is_string(v) || (json_is_array(v) && is_id(json_array_get(v, 0)));
    size_t n = one ? 1 : json_array_size(v);
    mlxr_input *inputs;
    mlxr_status st = MLXR_OK;

    t->error_field = "input";
    if (json_is_null(v)) v = NULL;
    if (v && !one && !json_is_array(v)) return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "invalid input type");
    if (json_is_string(v) && !json_string_length(v)) n = 0;
    if (!(inputs = mlxr_arena_calloc(&t->arena, n + 1, sizeof *inputs)))
        return mlxr_fail_nomem(err, "request");
    for (size_t i = 0; i < n && st == MLXR_OK; i++)
        st = take_input(&inputs[i], t, one ? v : json_array_get(v, i), err);
    if (st != MLXR_OK) return st;
    t->error_field = NULL;
    t->inputs = inputs;
    t->n_inputs = n;
    t->load_only = n == 0;
    return MLXR_OK;
}

static mlxr_status read_embed(mlxr_turn *t, mlxr_error *err)
{
    struct text_state *s = t->state;
    mlxr_status st = read_common(t, &embed_table, 404, err);

    t->embed = mlxr_embed_options_default();
    t->embed.truncate = s->truncate;
    t->embed.dimensions = (size_t)s->dimensions;
    return st == MLXR_OK ? take_inputs(t, s->input, err) : st;
}

static mlxr_status read_embeddings(mlxr_turn *t, mlxr_error *err)
{
    struct text_state *s = t->state;
    mlxr_status st = read_common(t, &embeddings_table, 400, err);

    s->old = true;
    t->embed = mlxr_embed_options_default();
    t->embed.truncate = true;
    return st == MLXR_OK ? take_inputs(t, json_object_get(t->body, "prompt"), err) : st;
}

static mlxr_status read_tokenize(mlxr_turn *t, mlxr_error *err)
{
    struct text_state *s = t->state;
    mlxr_status st = read_common(t, &tokenize_table, 400, err);
    size_t n;

    if (st != MLXR_OK) return st;
    n = (s->text != NULL) + (s->content != NULL) + (s->prompt != NULL) + (s->messages != NULL);
    if (n != 1)
        return mlxr_turn_bad(
            t, "text", err,
            n ? "request: \"text\", \"content\", \"prompt\" and \"messages\" are names of one thing"
              : "request: \"text\" is required");
    s->text = s->text ? s->text : s->content ? s->content : s->prompt;
    return s->messages ? mlxr_native_messages(t, s->messages, err) : MLXR_OK;
}

static mlxr_status read_detokenize(mlxr_turn *t, mlxr_error *err)
{
    return read_common(t, &detokenize_table, 400, err);
}

/* ---- embeddings ---- */

static void put_vector(mlxr_buf *out, const float *values, size_t n)
{
    mlxr_buf_char(out, '[');
    for (size_t i = 0; i < n; i++) mlxr_buf_printf(out, i ? ",%.9g" : "%.9g", (double)values[i]);
    mlxr_buf_char(out, ']');
}

static void answer_vectors(mlxr_turn *t, const mlxr_embeddings *e)
{
    const struct text_state *s = t->state;
    mlxr_buf out = {0};

    if (s->old) {
        mlxr_buf_str(&out, "{\"embedding\":");
        put_vector(&out, e->values, e->n ? e->n_dimensions : 0);
    } else {
        mlxr_buf_str(&out, "{\"model\":");
        mlxr_put_string(&out, t->model_name);
        mlxr_buf_str(&out, ",\"embeddings\":[");
        for (size_t i = 0; i < e->n; i++) {
            if (i) mlxr_buf_char(&out, ',');
            put_vector(&out, e->values + i * e->n_dimensions, e->n_dimensions);
        }
        mlxr_buf_char(&out, ']');
        mlxr_put_count_member(&out, "total_duration", mlxr_turn_total_ns(t));
        mlxr_put_count_member(&out, "load_duration", t->load_ns ? t->load_ns : 1);
        mlxr_put_count_member(&out, "prompt_eval_count", e->n_tokens);
    }
    mlxr_native_put_warnings(t, &out);
    mlxr_buf_char(&out, '}');
    mlxr_turn_answer(t, 200, &out);
}

static mlxr_status prepare_embed(mlxr_turn *t, mlxr_error *err)
{
    mlxr_engine *e = mlxr_served_engine(t->model);
    size_t most = e ? mlxr_engine_get_info(e).hidden_size : 0;
    static const mlxr_embeddings none;

    if (t->load_only) {
        answer_vectors(t, &none);
        t->answered = true;
        return MLXR_OK;
    }
    if (e && t->embed.dimensions > most) {
        t->embed.dimensions = 0;
        return mlxr_native_warn(t, err, "request: \"dimensions\" has no effect: the model has %zu", most);
    }
    return MLXR_OK;
}

static void embedded(mlxr_turn *t, const mlxr_embeddings *e)
{
    for (size_t i = 0; i < e->n * e->n_dimensions; i++)
        if (!isfinite(e->values[i])) {
            mlxr_native_fail(t->http, 400,
                             "the model's embedding has values that are no numbers (NaN or Inf)");
            return;
        }
    answer_vectors(t, e);
}

/* In the words that Ollama has for these endpoints. */
static void fail_embed(mlxr_turn *t, const mlxr_turn_error *error)
{
    char text[300];

    if (error->status == 404 && !t->resident && t->model_name) {
        snprintf(text, sizeof text, "model \"%.200s\" not found, try pulling it first", t->model_name);
        text[mlxr_utf8_valid(text, strlen(text))] = '\0';
        mlxr_native_fail(t->http, 404, text);
    } else if (t->resident && !t->embed.truncate && error->status == 400 &&
               strstr(error->message, "the context holds")) {
        mlxr_native_fail(t->http, 400, "the input length exceeds the context length");
    } else {
        mlxr_native_fail(t->http, error->status, error->message);
    }
}

/* ---- tokens ---- */

/* A token's text, or a list of its bytes where they are no whole characters. */
static void put_piece(mlxr_buf *out, const mlxr_tokenizer *tok, int32_t id)
{
    mlxr_buf b = {0};
    const char *s;
    size_t n;

    if (tok) tok_token_bytes((void *)(uintptr_t)tok, id, &b);
    s = b.data ? b.data : "";
    n = b.len;
    if (n && (uint8_t)s[0] == 0xff) {
        s++;
        n--;
    }
    if (mlxr_utf8_valid(s, n) == n) {
        mlxr_put_string_n(out, s, n);
    } else {
        for (size_t i = 0; i < n; i++) mlxr_buf_printf(out, i ? ",%u" : "[%u", (unsigned)(uint8_t)s[i]);
        mlxr_buf_char(out, ']');
    }
    mlxr_buf_clear(&b);
}

static void answer_tokens(mlxr_turn *t, const int32_t *ids, size_t n)
{
    const struct text_state *s = t->state;
    const mlxr_tokenizer *tok = mlxr_served_tokenizer(t->model);
    mlxr_buf out = {0};

    mlxr_buf_str(&out, "{\"tokens\":[");
    for (size_t i = 0; i < n; i++) {
        if (i) mlxr_buf_char(&out, ',');
        mlxr_buf_printf(&out, s->with_pieces ? "{\"id\":%d,\"piece\":" : "%d", (int)ids[i]);
        if (!s->with_pieces) continue;
        put_piece(&out, tok, ids[i]);
        mlxr_buf_char(&out, '}');
    }
    mlxr_buf_printf(&out, "],\"count\":%zu", n);
    if (s->pieces) {
        mlxr_buf_str(&out, ",\"pieces\":[");
        for (size_t i = 0; i < n; i++) {
            if (i) mlxr_buf_char(&out, ',');
            put_piece(&out, tok, ids[i]);
        }
        mlxr_buf_char(&out, ']');
    }
    mlxr_native_put_warnings(t, &out);
    mlxr_buf_char(&out, '}');
    mlxr_turn_answer(t, 200, &out);
    t->answered = true;
}

static mlxr_status prepare_tokenize(mlxr_turn *t, mlxr_error *err)
{
    const struct text_state *s = t->state;
    const mlxr_tokenizer *tok = mlxr_served_tokenizer(t->model);
    int32_t *ids = NULL;
    size_t n = 0;
    mlxr_status st;

    if (tok && s->text) {
        st = mlxr_tokenizer_encode(&ids, &n, tok, s->text, strlen(s->text), s->add_special, err);
    } else {
        t->request.prompt = s->text;
        st = mlxr_served_encode(&ids, &n, t->model, &t->request, err);
    }
    if (st == MLXR_OK) answer_tokens(t, ids, n);
    mlxr_free(ids);
    return st;
}

static mlxr_status prepare_detokenize(mlxr_turn *t, mlxr_error *err)
{
    const struct text_state *s = t->state;
    const mlxr_tokenizer *tok = mlxr_served_tokenizer(t->model);
    char *text = NULL;
    int32_t *ids;
    size_t n, n_text = 0;
    mlxr_buf out = {0};
    mlxr_status st;

    t->error_field = "tokens";
    if ((st = mlxr_native_ids(&ids, &n, t, s->tokens, "tokens", err)) != MLXR_OK) return st;
    if (!tok) return mlxr_fail(err, MLXR_E_UNSUPPORTED, "\"%s\" does not support detokenize", t->model_name);
    for (size_t i = 0; i < n; i++)
        if ((size_t)ids[i] >= mlxr_tokenizer_vocab_size(tok))
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                             "tokens: element %zu is %d, the vocabulary has %zu", i, (int)ids[i],
                             mlxr_tokenizer_vocab_size(tok));
    if ((st = mlxr_tokenizer_decode(&text, &n_text, tok, ids, n, s->skip_special, err)) != MLXR_OK) return st;
    mlxr_buf_str(&out, "{\"text\":");
    mlxr_put_string_n(&out, text, n_text);
    mlxr_buf_str(&out, ",\"content\":");
    mlxr_put_string_n(&out, text, n_text);
    mlxr_native_put_warnings(t, &out);
    mlxr_buf_char(&out, '}');
    mlxr_free(text);
    mlxr_turn_answer(t, 200, &out);
    t->answered = true;
    return MLXR_OK;
}

/* ---- routes ---- */

static const mlxr_front embed_front = {.name = "embed",
                                       .state_size = sizeof(struct text_state),
                                       .read = read_embed,
                                       .prepare = prepare_embed,
                                       .embedded = embedded,
                                       .fail = fail_embed};
static const mlxr_front embeddings_front = {.name = "embeddings",
                                            .state_size = sizeof(struct text_state),
                                            .read = read_embeddings,
                                            .prepare = prepare_embed,
                                            .embedded = embedded,
                                            .fail = fail_embed};
static const mlxr_front tokenize_front = {.name = "tokenize",
                                          .state_size = sizeof(struct text_state),
                                          .read = read_tokenize,
                                          .prepare = prepare_tokenize,
                                          .fail = mlxr_native_turn_fail};
static const mlxr_front detokenize_front = {.name = "detokenize",
                                            .state_size = sizeof(struct text_state),
                                            .read = read_detokenize,
                                            .prepare = prepare_detokenize,
                                            .fail = mlxr_native_turn_fail};

static const mlxr_endpoint endpoints[] = {
    {.method = "POST",
     .path = "/api/embed",
     .summary = "Vectors of texts",
     .front = &embed_front,
     .fields = &embed_table,
     .answer = "EmbedAnswer"},
    {.method = "POST",
     .path = "/api/embeddings",
     .summary = "A vector of one text, the older form",
     .front = &embeddings_front,
     .fields = &embeddings_table,
     .answer = "EmbeddingsAnswer"},
    {.method = "POST",
     .path = "/api/tokenize",
     .summary = "Tokens of a text",
     .front = &tokenize_front,
     .fields = &tokenize_table,
     .answer = "TokenizeAnswer"},
    {.method = "POST",
     .path = "/api/detokenize",
     .summary = "The text of tokens",
     .front = &detokenize_front,
     .fields = &detokenize_table,
     .answer = "DetokenizeAnswer"},
};
const mlxr_endpoints mlxr_native_text_endpoints = {endpoints, MLXR_COUNT(endpoints)};
