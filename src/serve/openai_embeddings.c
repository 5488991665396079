/* openai_embeddings: POST /v1/embeddings. */
#include <stdlib.h>

#include "serve/openai.h"

enum { MAX_INPUTS = 2048 };

struct embed {
    mlxr_openai_common c; /* first */
    const json_t *input;
    const char *encoding;
    int64_t dimensions;
    bool truncate;
    mlxr_input *inputs; /* in the turn's arena */
    size_t n_inputs;
};

static mlxr_status take_input(void *into, const mlxr_field *f, const json_t *v, mlxr_error *err)
{
    ((struct embed *)into)->input = v;
    return MLXR_OK;
}

#define AT(member) offsetof(struct embed, member)
static const mlxr_field fields[] = {
    {.name = "model", .types = MLXR_FIELD_STRING, .required = true, .offset = MLXR_OPENAI_AT(model)},
    {.name = "input",
     .types = MLXR_FIELD_ANY,
     .offset = MLXR_FIELD_NOWHERE,
     .take = take_input,
     .help = "a text, texts, token ids, or several lists of them; must be there",
     .schema = "{\"oneOf\":[{\"type\":\"string\",\"minLength\":1},{\"type\":\"array\",\"minItems\":1,"
               "\"maxItems\":2048,"
               "\"items\":{\"type\":\"string\",\"minLength\":1}},{\"type\":\"array\",\"minItems\":1,"
               "\"items\":{\"type\":"
               "\"integer\",\"minimum\":0}},{\"type\":\"array\",\"minItems\":1,\"maxItems\":2048,\"items\":{"
               "\"type\":"
               "\"array\",\"minItems\":1,\"items\":{\"type\":\"integer\",\"minimum\":0}}}]}"},
    {.name = "encoding_format",
     .types = MLXR_FIELD_STRING,
     .offset = AT(encoding),
     .fallback = "\"float\"",
     .help = "float, or base64 of little-endian 32-bit floats",
     .schema = "{\"type\":[\"string\",\"null\"],\"enum\":[\"float\",\"base64\",null]}"},
    {.name = "dimensions",
     .types = MLXR_FIELD_INT,
     .offset = AT(dimensions),
     .min = 1,
     .max = 1048576,
     .help = "the first so many of each vector, brought to length 1 again"},
    {.name = "truncate",
     .types = MLXR_FIELD_BOOL,
     .offset = AT(truncate),
     .fallback = "false",
     .help = "texts longer than the context are cut to it, not refused"},
    {.name = "keep_alive",
     .types = MLXR_FIELD_STRING | MLXR_FIELD_REAL,
     .offset = MLXR_FIELD_NOWHERE,
     .take = mlxr_openai_take_keep_alive,
     .help = "how long the model stays loaded: seconds, or a duration such as \"5m\"; below 0: forever"},
    MLXR_OPENAI_FIELDS_HOSTED,
};
const mlxr_fields mlxr_openai_embeddings_fields = {fields, MLXR_COUNT(fields), "request"};

/* ---- reading ---- */

static mlxr_status read_one(mlxr_turn *t, mlxr_input *out, const json_t *v, mlxr_error *err)
{
    int32_t *ids;

    if (json_is_string(v)) {
        out->text = json_string_value(v);
        out->n_text = json_string_length(v);
        return out->n_text ? MLXR_OK : mlxr_turn_bad(t, "input", err, "invalid input");
    }
    if (!json_array_size(v)) return mlxr_turn_bad(t, "input", err, "invalid input");
    if (!(ids = mlxr_arena_calloc(&t->arena, json_array_size(v), sizeof *ids)))
        return mlxr_fail_nomem(err, "request");
    for (size_t i = 0; i < json_array_size(v); i++) {
        int64_t id;
        if (!mlxr_field_whole(&id, json_array_get(v, i)))
            return mlxr_turn_bad(t, "input", err, "invalid input type");
        if (id < 0 || id > INT32_MAX)
            return mlxr_turn_bad(t, "input", err, "request: %lld in \"input\" is no token", (long long)id);
        ids[i] = (int32_t)id;
    }
    out->ids = ids;
    out->n_ids = json_array_size(v);
    return MLXR_OK;
}

static mlxr_status read_body(mlxr_turn *t, mlxr_error *err)
{
    struct embed *e = t->state;
    bool several;
    mlxr_status st;

    mlxr_openai_common_init(&e->c);
    e->encoding = "float";
    st = mlxr_fields_read(e, &mlxr_openai_embeddings_fields, t->body, t->serve->strict ? NULL : t->warnings,
                          &t->error_field, err);
    if (st != MLXR_OK) return st;
    if ((st = mlxr_openai_common_read(t, &e->c, "embd-", err)) != MLXR_OK) return st;
    if (strcmp(e->encoding, "float") != 0 && strcmp(e->encoding, "base64") != 0)
        return mlxr_turn_bad(
            t, "encoding_format", err,
            "Invalid value for 'encoding_format' = %.100s. Supported values: ['float', 'base64'].",
            e->encoding);
    if (!e->input) return mlxr_turn_bad(t, "input", err, "invalid input");
    if (!json_is_string(e->input) && !json_is_array(e->input))
        return mlxr_turn_bad(t, "input", err, "invalid input type");
    several = json_is_array(e->input) && !json_is_number(json_array_get(e->input, 0));
    e->n_inputs = several ? json_array_size(e->input) : 1;
    if (!e->n_inputs) return mlxr_turn_bad(t, "input", err, "invalid input");
    if (e->n_inputs > MAX_INPUTS)
        return mlxr_turn_bad(t, "input", err, "request: \"input\" has %zu texts, wanted at most %d",
                             e->n_inputs, MAX_INPUTS);
    if (!(e->inputs = mlxr_arena_calloc(&t->arena, e->n_inputs, sizeof *e->inputs)))
        return mlxr_fail_nomem(err, "request");
    for (size_t i = 0; i < e->n_inputs; i++) {
        const json_t *v = several ? json_array_get(e->input, i) : e->input;
        if (!json_is_string(v) && !json_is_array(v))
            return mlxr_turn_bad(t, "input", err, "invalid input type");
        if ((st = read_one(t, &e->inputs[i], v, err)) != MLXR_OK) return st;
    }
    t->stream = false;
    return MLXR_OK;
}

/* ---- answering ---- */

static void put_base64(mlxr_buf *out, const float *values, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0, word;
    unsigned n_bits = 0;

    mlxr_buf_char(out, '"');
    for (size_t i = 0; i < 4 * n; i++) {
        memcpy(&word, &values[i / 4], sizeof word);
        bits = bits << 8 | (word >> 8 * (i % 4) & 255); /* little-endian on any machine */
        n_bits += 8;
        while (n_bits >= 6) {
            n_bits -= 6;
            mlxr_buf_char(out, digits[bits >> n_bits & 63]);
        }
    }
    if (n_bits) {
        mlxr_buf_char(out, digits[bits << (6 - n_bits) & 63]);
        mlxr_buf_str(out, n_bits == 2 ? "==" : "=");
    }
    mlxr_buf_char(out, '"');
}

static void put_vector(mlxr_buf *out, const float *values, size_t n, bool base64)
{
    if (base64) {
        put_base64(out, values, n);
        return;
    }
    mlxr_buf_char(out, '[');
    for (size_t i = 0; i < n; i++) mlxr_buf_printf(out, i ? ",%.9g" : "%.9g", (double)values[i]);
    mlxr_buf_char(out, ']');
}

static bool is_finite(const mlxr_embeddings *v)
{
    for (size_t i = 0; i < v->n * v->n_dimensions; i++)
        if (!(v->values[i] - v->values[i] == 0)) return false;
    return true;
}

static mlxr_status prepare(mlxr_turn *t, mlxr_error *err)
{
    struct embed *e = t->state;

    t->inputs = e->inputs;
    t->n_inputs = e->n_inputs;
    t->embed = mlxr_embed_options_default();
    t->embed.dimensions = (size_t)e->dimensions;
    t->embed.truncate = e->truncate;
    t->error_field = "input"; /* of what fails from here on */
    return MLXR_OK;
}

static void embedded(mlxr_turn *t, const mlxr_embeddings *v)
{
    struct embed *e = t->state;
    mlxr_buf out = {0};

    if (!is_finite(v)) {
        mlxr_openai_fail(t->http, 400, "the embedding has values that are no numbers", "input");
        return;
    }
    mlxr_buf_str(&out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < v->n; i++) {
        if (i) mlxr_buf_char(&out, ',');
        mlxr_buf_str(&out, "{\"object\":\"embedding\",\"embedding\":");
        put_vector(&out, v->values + i * v->n_dimensions, v->n_dimensions, *e->encoding == 'b');
        mlxr_buf_printf(&out, ",\"index\":%zu}", i);
    }
    mlxr_buf_str(&out, "],\"model\":");
    mlxr_put_string(&out, t->model_name);
    mlxr_buf_printf(&out, ",\"usage\":{\"prompt_tokens\":%zu,\"total_tokens\":%zu}", v->n_tokens,
                    v->n_tokens);
    mlxr_put_json_member(&out, "warnings", t->warnings);
    mlxr_buf_char(&out, '}');
    mlxr_turn_answer(t, 200, &out);
}

static void fail(mlxr_turn *t, const mlxr_turn_error *error)
{
    mlxr_turn_error e = *error;

    if (e.code == MLXR_E_CONTEXT_OVERFLOW) e.message = "the input length exceeds the context length";
    mlxr_openai_turn_fail(t, &e);
}

const mlxr_front mlxr_openai_embeddings = {.name = "embeddings",
                                           .state_size = sizeof(struct embed),
                                           .read = read_body,
                                           .prepare = prepare,
                                           .embedded = embedded,
                                           .fail = fail};
