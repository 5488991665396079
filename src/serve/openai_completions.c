/* openai_completions: POST /v1/completions. Text goes to the model as it is, without a chat template, unless "template" asks for it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "serve/native.h"
#include "serve/openai.h"
#include "text/tokenizer/token_bytes.h"

enum { MAX_PROMPTS = 256, MAX_CHOICES = 1024 };

/* What one choice has brought so far. The lists are JSON without their brackets. */
struct choice {
    mlxr_buf text, tokens, logprobs, tops, offsets;
    size_t n_characters; /* of its text so far: where the next token stands */
    mlxr_done_reason done_reason;
    bool begun;
};

struct prompt {
    char *text; /* with echo; free it */
    size_t n_text;
    int32_t *ids; /* with echo and logprobs, or as given; in the turn's arena */
    size_t n_ids;
    size_t n_tokens, n_cached;
};

struct completion {
    mlxr_openai_common c; /* first */
    const json_t *prompt;
    const char *suffix;
    int64_t max_tokens, best_of, logprobs;
    bool echo, with_template;
    struct prompt *prompts;
    size_t n_prompts;
    struct choice *choices;
    size_t n_choices, n_complete, i_last; /* i_last: the choice that was complete last */
    size_t n_generated, n_reasoning_tokens;
};

static mlxr_status take_prompt(void *into, const mlxr_field *f, const json_t *v, mlxr_error *err)
{
    ((struct completion *)into)->prompt = v;
    return MLXR_OK;
}

#define AT(member) offsetof(struct completion, member)
static const mlxr_field fields[] = {
    {.name = "model", .types = MLXR_FIELD_STRING, .required = true, .offset = MLXR_OPENAI_AT(model)},
    {.name = "prompt",
     .types = MLXR_FIELD_STRING | MLXR_FIELD_LIST,
     .required = true,
     .offset = MLXR_FIELD_NOWHERE,
     .take = take_prompt,
     .help = "a text, texts, token ids, or several lists of them",
     .schema =
         "{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"minItems\":1,\"maxItems\":256,\"items\":{"
         "\"type\":\"string\"}},{\"$ref\":\"#/components/schemas/TokenIds\"},"
         "{\"type\":\"array\",\"minItems\":1,\"maxItems\":256,\"items\":{\"$ref\":\"#/components/schemas/"
         "TokenIds\"}}]}"},
    {.name = "stream", .types = MLXR_FIELD_BOOL, .offset = MLXR_OPENAI_AT(stream), .fallback = "false"},
    {.name = "max_tokens", .types = MLXR_FIELD_INT, .offset = AT(max_tokens), .min = -1, .max = 2147483647},
    {.name = "suffix",
     .types = MLXR_FIELD_STRING,
     .offset = AT(suffix),
     .help = "what comes behind the completion; for models that can insert"},
    {.name = "echo",
     .types = MLXR_FIELD_BOOL,
     .offset = AT(echo),
     .fallback = "false",
     .help = "the prompt stands before its completion"},
    {.name = "best_of",
     .types = MLXR_FIELD_INT,
     .offset = AT(best_of),
     .min = 1,
     .max = 64,
     .help = "not supported but as 1 or as n"},
    {.name = "logprobs",
     .types = MLXR_FIELD_INT,
     .offset = AT(logprobs),
     .help = "so many likeliest tokens beside each, 0 to 20",
     .schema = "{\"type\":[\"integer\",\"null\"],\"minimum\":0,\"maximum\":20}"},
    {.name = "template",
     .types = MLXR_FIELD_BOOL,
     .offset = AT(with_template),
     .fallback = "false",
     .help = "the prompt is a user's message, and goes through the chat template"},
    MLXR_OPENAI_FIELDS_CLASSIC,
    MLXR_OPENAI_FIELDS_SAMPLING,
    MLXR_OPENAI_FIELDS_HOSTED,
};
const mlxr_fields mlxr_openai_completions_fields = {fields, MLXR_COUNT(fields), "request"};

/* ---- reading ---- */

static mlxr_status bad_prompt(mlxr_turn *t, mlxr_error *err)
{
    return mlxr_turn_bad(
        t, "prompt", err,
        "request: \"prompt\" is none of a text, a list of texts, a list of token ids, and a list of "
        "such lists");
}

static mlxr_status read_ids(mlxr_turn *t, mlxr_request *q, const json_t *list, mlxr_error *err)
{
    size_t n = json_array_size(list);
    int32_t *ids = mlxr_arena_calloc(&t->arena, n + 1, sizeof *ids);

    if (!ids) return mlxr_fail_nomem(err, "request");
    if (!n) return mlxr_turn_bad(t, "prompt", err, "request: a prompt has no tokens");
    for (size_t i = 0; i < n; i++) {
        int64_t id;
        if (!mlxr_field_whole(&id, json_array_get(list, i))) return bad_prompt(t, err);
        if (id < 0 || id > INT32_MAX)
            return mlxr_turn_bad(t, "prompt", err, "request: %lld in \"prompt\" is no token", (long long)id);
        ids[i] = (int32_t)id;
    }
    q->prompt_ids = ids;
    q->n_prompt_ids = n;
    return MLXR_OK;
}

/* One prompt into its own request. */
static mlxr_status read_prompt(mlxr_turn *t, mlxr_request *q, const json_t *v, mlxr_error *err)
{
    struct completion *c = t->state;

    if (json_is_string(v) && strlen(json_string_value(v)) != json_string_length(v))
        return mlxr_turn_bad(t, "prompt", err, "request: \"prompt\" has a NUL character");
    if (json_is_string(v)) {
        q->prompt = json_string_value(v);
        q->raw = !c->with_template;
        q->parts = c->with_template;
        return MLXR_OK;
    }
    if (!json_is_array(v)) return bad_prompt(t, err);
    if (c->with_template)
        return mlxr_turn_bad(t, "template", err, "request: \"template\" is for prompts that are texts");
    return read_ids(t, q, v, err);
}

static mlxr_status read_prompts(mlxr_turn *t, mlxr_error *err)
{
    struct completion *c = t->state;
    bool several = json_is_array(c->prompt) && !json_is_number(json_array_get(c->prompt, 0));
    mlxr_request *more;
    mlxr_status st;

    c->n_prompts = several ? json_array_size(c->prompt) : 1;
    if (json_is_array(c->prompt) && !json_array_size(c->prompt))
        return mlxr_turn_bad(t, "prompt", err, "[] is too short - 'prompt'");
    if (c->n_prompts > MAX_PROMPTS || c->n_prompts * (size_t)t->request.n_choices > MAX_CHOICES)
        return mlxr_turn_bad(
            t, "prompt", err,
            "request: %zu prompts with %d answers each, wanted at most %d prompts and %d answers",
            c->n_prompts, (int)t->request.n_choices, MAX_PROMPTS, MAX_CHOICES);
    more = mlxr_arena_calloc(&t->arena, c->n_prompts, sizeof *more);
    c->prompts = mlxr_calloc_array(c->n_prompts, sizeof *c->prompts);
    if (!more || !c->prompts) return mlxr_fail_nomem(err, "request");
    t->more = more;
    t->n_more = c->n_prompts - 1;
    for (size_t i = c->n_prompts; i-- > 0;) {
        mlxr_request *q = i ? &more[i - 1] : &t->request;
        if (several &&
            json_is_string(json_array_get(c->prompt, i)) != json_is_string(json_array_get(c->prompt, 0)))
            return bad_prompt(t, err);
        st = read_prompt(t, q, several ? json_array_get(c->prompt, i) : c->prompt, err);
        if (st != MLXR_OK) return st;
    }
    return MLXR_OK;
}

static mlxr_status read_body(mlxr_turn *t, mlxr_error *err)
{
    struct completion *c = t->state;
    mlxr_request *q = &t->request;
    mlxr_status st;

    mlxr_openai_common_init(&c->c);
    c->max_tokens = c->logprobs = -1;
    c->best_of = 1;
    st = mlxr_fields_read(c, &mlxr_openai_completions_fields, t->body, t->serve->strict ? NULL : t->warnings,
                          &t->error_field, err);
    if (st != MLXR_OK) return st;
    if (json_is_integer(json_object_get(t->body, "logprobs")) &&
        (c->logprobs < 0 || c->logprobs > MLXR_MAX_TOP_LOGPROBS))
        return mlxr_turn_bad(t, "logprobs", err, "logprobs must be between 0 and 20");
    if ((st = mlxr_openai_common_read(t, &c->c, "cmpl-", err)) != MLXR_OK) return st;
    if (c->best_of != 1 && c->best_of != q->n_choices)
        return mlxr_turn_bad(t, "best_of", err,
                             "request: \"best_of\" is not supported here but as 1 or as \"n\"");
    if ((st = read_prompts(t, err)) != MLXR_OK) return st;
    if (c->suffix && *c->suffix && (c->with_template || q->prompt_ids))
        return mlxr_turn_bad(t, "suffix", err,
                             "request: \"suffix\" is for prompts that are texts as they are");
    if (c->suffix && *c->suffix && c->echo && c->logprobs >= 0)
        return mlxr_turn_bad(t, "echo", err,
                             "request: \"echo\" with \"logprobs\" does not go with \"suffix\"");
    if (t->n_more && json_is_true(json_object_get(t->body, "receipt")))
        return mlxr_turn_bad(t, "receipt", err, "request: \"receipt\" is for one prompt, not several");
    mlxr_openai_max_tokens(t, c->max_tokens, -1);
    q->logprobs = c->logprobs >= 0;
    q->top_logprobs = c->logprobs > 0 ? (int32_t)c->logprobs : 0;
    c->n_choices = c->n_prompts * (size_t)q->n_choices;
    c->choices = mlxr_calloc_array(c->n_choices, sizeof *c->choices);
    return c->choices ? MLXR_OK : mlxr_fail_nomem(err, "request");
}

/* ---- what needs the model ---- */

static size_t count_characters(const char *s, size_t n)
{
    size_t count = 0;

    for (size_t i = 0; i < n; i++) count += ((unsigned char)s[i] & 0xc0) != 0x80;
    return count;
}

/* Adds to the lists of the logprobs: token is JSON; logprob NAN and top NULL are null. */
static void add_logprob(struct choice *choice, const char *token, size_t n_token, double logprob,
                        const char *top)
{
    if (choice->tokens.len) {
        mlxr_buf_char(&choice->tokens, ',');
        mlxr_buf_char(&choice->logprobs, ',');
        mlxr_buf_char(&choice->tops, ',');
        mlxr_buf_char(&choice->offsets, ',');
    }
    mlxr_buf_append(&choice->tokens, token, n_token);
    if (isnan(logprob))
        mlxr_buf_str(&choice->logprobs, "null");
    else
        mlxr_buf_printf(&choice->logprobs, "%.9g", logprob < -9999 ? -9999.0 : logprob);
    mlxr_buf_str(&choice->tops, top ? top : "null");
    mlxr_buf_printf(&choice->offsets, "%zu", choice->n_characters);
}

/* A token as a JSON string; one that is no whole characters by its bytes, as OpenAI does: "bytes:\\xe4\\xb8". tok NULL (the mock): text is
 * the token's. */
static void put_token(mlxr_buf *out, const mlxr_tokenizer *tok, int32_t id, const char *text, size_t n_text)
{
    mlxr_buf bytes = {0};
    const char *s;
    size_t n;

    if (tok)
        tok_token_bytes((void *)(uintptr_t)tok, id, &bytes);
    else
        mlxr_buf_append(&bytes, text ? text : "", n_text);
    s = bytes.data ? bytes.data : "";
    n = bytes.len;
    if (tok && n && (uint8_t)*s == 0xff) { /* before the text of a special token */
        s++;
        n--;
    }
    if (mlxr_utf8_valid(s, n) == n) {
        mlxr_json_escape(out, s, n);
    } else {
        mlxr_buf_str(out, "\"bytes:");
        for (size_t i = 0; i < n; i++) mlxr_buf_printf(out, "\\\\x%02x", (unsigned)(uint8_t)s[i]);
        mlxr_buf_char(out, '"');
    }
    mlxr_buf_clear(&bytes);
}

/* Tokens of a prompt with their probabilities, into the choices that echo it. */
static mlxr_status echo_logprobs(mlxr_turn *t, size_t i_prompt, mlxr_error *err)
{
    struct completion *c = t->state;
    struct prompt *p = &c->prompts[i_prompt];
    const mlxr_tokenizer *tok = mlxr_served_tokenizer(t->model);
    mlxr_engine *e = mlxr_served_engine(t->model);
    size_t n = (size_t)t->request.n_choices;
    mlxr_score score = {0};
    mlxr_input input = {.ids = p->ids, .n_ids = p->n_ids};
    mlxr_detokenizer *d = NULL;
    mlxr_buf token = {0};
    mlxr_status st;

    if (!e)
        return mlxr_turn_bad(t, "echo", err, "request: \"echo\" with \"logprobs\" works with a model alone");
    if ((st = mlxr_engine_score(&score, e, &input, err)) != MLXR_OK) return st;
    st = mlxr_detokenizer_create(&d, tok, false, err);
    for (size_t k = 0; k < score.n_tokens && st == MLXR_OK; k++) {
        const char *piece;
        size_t n_piece;
        token.len = 0;
        put_token(&token, tok, score.ids[k], NULL, 0);
        for (size_t i = i_prompt * n; i < (i_prompt + 1) * n; i++)
            add_logprob(&c->choices[i], token.data, token.len, k ? score.logprobs[k] : NAN, NULL);
        if ((st = mlxr_detokenizer_push(d, score.ids[k], &piece, &n_piece, err)) != MLXR_OK) break;
        for (size_t i = i_prompt * n; i < (i_prompt + 1) * n; i++)
            c->choices[i].n_characters += count_characters(piece, n_piece);
    }
    mlxr_detokenizer_free(d);
    mlxr_score_clear(&score);
    mlxr_buf_clear(&token);
    return st;
}

static mlxr_status prepare_echo(mlxr_turn *t, size_t i_prompt, const mlxr_request *q, mlxr_error *err)
{
    struct completion *c = t->state;
    struct prompt *p = &c->prompts[i_prompt];
    const mlxr_tokenizer *tok = mlxr_served_tokenizer(t->model);
    int32_t *ids = NULL;
    size_t n_ids, n = (size_t)t->request.n_choices;
    mlxr_status st = MLXR_OK;

    if (q->prompt_ids) {
        if (!tok) return mlxr_turn_bad(t, "echo", err, "request: the mock has no texts of tokens to echo");
        st = mlxr_tokenizer_decode(&p->text, &p->n_text, tok, q->prompt_ids, q->n_prompt_ids, false, err);
        if (st != MLXR_OK) return st;
    } else {
        p->n_text = strlen(q->prompt);
        if (!(p->text = mlxr_strdup(q->prompt))) return mlxr_fail_nomem(err, "request");
    }
    if (!q->logprobs) {
        for (size_t i = i_prompt * n; i < (i_prompt + 1) * n; i++)
            c->choices[i].n_characters = count_characters(p->text, p->n_text);
        return MLXR_OK;
    }
    if ((st = mlxr_served_encode(&ids, &n_ids, t->model, q, err)) != MLXR_OK) return st;
    p->ids = mlxr_arena_calloc(&t->arena, n_ids + 1, sizeof *ids);
    if (p->ids) memcpy(p->ids, ids, n_ids * sizeof *ids);
    p->n_ids = n_ids;
    mlxr_free(ids);
    return p->ids ? echo_logprobs(t, i_prompt, err) : mlxr_fail_nomem(err, "request");
}

/* A prompt and the suffix behind it, as tokens. */
static mlxr_status prepare_suffix(mlxr_turn *t, mlxr_request *q, mlxr_error *err)
{
    struct completion *c = t->state;
    mlxr_buf ids = {0};
    int32_t *own = NULL;
    mlxr_status st = mlxr_native_fill_in(&ids, t, q->prompt, c->suffix, err);

    if (st == MLXR_OK) st = mlxr_buf_check(&ids, "request", err);
    if (st == MLXR_OK && !(own = mlxr_arena_alloc(&t->arena, ids.len + 1)))
        st = mlxr_fail_nomem(err, "request");
    if (st == MLXR_OK) {
        memcpy(own, ids.data, ids.len);
        q->prompt_ids = own;
        q->n_prompt_ids = ids.len / sizeof *own;
        q->raw = false;
    } else {
        t->error_field = "suffix";
    }
    mlxr_buf_clear(&ids);
    return st;
}

static mlxr_status prepare(mlxr_turn *t, mlxr_error *err)
{
    struct completion *c = t->state;
    mlxr_request *more = (mlxr_request *)(uintptr_t)t->more; /* our own, from read */
    mlxr_status st;

    if ((st = mlxr_openai_common_prepare(t, &c->c, 1, 1, err)) != MLXR_OK) return st;
    if (c->with_template && (st = mlxr_openai_thinking(t, NULL, "template", err)) != MLXR_OK) return st;
    for (size_t i = 0; i < t->n_more; i++) { /* all alike but for what they are asked */
        mlxr_request own = t->request;
        own.prompt = more[i].prompt;
        own.prompt_ids = more[i].prompt_ids;
        own.n_prompt_ids = more[i].n_prompt_ids;
        own.raw = more[i].raw;
        own.parts = more[i].parts;
        more[i] = own;
    }
    for (size_t i = 0; c->echo && i < c->n_prompts; i++)
        if ((st = prepare_echo(t, i, i ? &more[i - 1] : &t->request, err)) != MLXR_OK) return st;
    for (size_t i = 0; c->suffix && *c->suffix && i < c->n_prompts; i++)
        if ((st = prepare_suffix(t, i ? &more[i - 1] : &t->request, err)) != MLXR_OK) return st;
    return MLXR_OK;
}

/* ---- writing ---- */

static void put_head(mlxr_turn *t, mlxr_buf *out)
{
    struct completion *c = t->state;

    mlxr_buf_printf(out, "{\"id\":\"%s\",\"object\":\"text_completion\",\"created\":%lld,\"model\":", c->c.id,
                    c->c.created);
    mlxr_put_string(out, t->model_name);
    mlxr_buf_str(out, ",\"system_fingerprint\":\"fp_mlxr\",\"choices\":[");
}

static void put_usage(mlxr_turn *t, mlxr_buf *out)
{
    struct completion *c = t->state;
    size_t n_prompt = 0, n_cached = 0;

    for (size_t i = 0; i < c->n_prompts; i++) {
        n_prompt += c->prompts[i].n_tokens;
        n_cached += c->prompts[i].n_cached;
    }
    mlxr_buf_printf(out,
                    "\"usage\":{\"prompt_tokens\":%zu,\"completion_tokens\":%zu,\"total_tokens\":%zu,"
                    "\"prompt_tokens_details\":{\"cached_tokens\":%zu},"
                    "\"completion_tokens_details\":{\"reasoning_tokens\":%zu}}",
                    n_prompt, c->n_generated, n_prompt + c->n_generated, n_cached, c->n_reasoning_tokens);
}

static void put_lists(mlxr_buf *out, struct choice *choice, bool has_tops)
{
    mlxr_buf *lists[] = {&choice->tokens, &choice->logprobs, &choice->tops, &choice->offsets};
    static const char *const names[] = {"tokens", "token_logprobs", "top_logprobs", "text_offset"};

    mlxr_buf_char(out, '{');
    for (size_t i = 0; i < MLXR_COUNT(lists); i++) {
        mlxr_buf_printf(out, i ? ",\"%s\":" : "\"%s\":", names[i]);
        if (i == 2 && !has_tops) {
            mlxr_buf_str(out, "null");
        } else {
            mlxr_buf_char(out, '[');
            if (lists[i]->len) mlxr_buf_append(out, lists[i]->data, lists[i]->len);
            mlxr_buf_char(out, ']');
        }
        lists[i]->len = 0;
    }
    mlxr_buf_char(out, '}');
}

/* A choice with what it has gathered, which is then gone. done: it is complete. */
static void put_choice(mlxr_turn *t, mlxr_buf *out, size_t i, bool done)
{
    struct completion *c = t->state;
    struct choice *choice = &c->choices[i];

    mlxr_buf_str(out, "{\"text\":");
    mlxr_put_string_n(out, choice->text.len ? choice->text.data : "", choice->text.len);
    choice->text.len = 0;
    mlxr_buf_printf(out, ",\"index\":%zu,\"logprobs\":", i);
    if (c->logprobs >= 0 && (!t->stream || choice->tokens.len))
        put_lists(out, choice, c->logprobs > 0);
    else
        mlxr_buf_str(out, "null");
    mlxr_buf_str(out, ",\"finish_reason\":");
    mlxr_buf_str(out, !done                                     ? "null}"
                      : choice->done_reason == MLXR_DONE_LENGTH ? "\"length\"}"
                                                                : "\"stop\"}");
}

static void send_chunk(mlxr_turn *t, size_t i, bool done, bool last)
{
    struct completion *c = t->state;

    t->out.len = 0;
    mlxr_buf_str(&t->out, "data: ");
    put_head(t, &t->out);
    put_choice(t, &t->out, i, done);
    mlxr_buf_char(&t->out, ']');
    if (c->c.include_usage)
        mlxr_buf_str(&t->out, ",\"usage\":null");
    else if (last)
        mlxr_openai_put_last(t, &t->out);
    mlxr_buf_str(&t->out, "}\n\n");
    mlxr_turn_push(t, &t->out);
}

static void begin_choice(mlxr_turn *t, size_t i)
{
    struct completion *c = t->state;
    struct choice *choice = &c->choices[i];
    const struct prompt *p = &c->prompts[i / (size_t)t->request.n_choices];

    if (choice->begun) return;
    choice->begun = true;
    if (c->echo && p->n_text) mlxr_buf_append(&choice->text, p->text, p->n_text);
    if (t->stream && choice->text.len) send_chunk(t, i, false, false);
}

static void take_logprob(mlxr_turn *t, struct choice *choice, const mlxr_event *e)
{
    const mlxr_tokenizer *tok = mlxr_served_tokenizer(t->model);
    mlxr_buf token = {0}, top = {0};

    put_token(&token, tok, e->id, e->text, e->n_text);
    mlxr_buf_char(&top, '{');
    for (size_t i = 0; i < e->n_top && !top.failed; i++) {
        double x = e->top[i].logprob;
        mlxr_buf key = {0};
        put_token(&key, tok, e->top[i].id, NULL, 0);
        mlxr_buf_char(&key, ':');
        /* Two tokens may have one text: the likelier one stays. */
        if (!key.failed && !(top.data && strstr(top.data, key.data))) {
            if (top.len > 1) mlxr_buf_char(&top, ',');
            mlxr_buf_append(&top, key.data, key.len);
            mlxr_buf_printf(&top, "%.9g", x < -9999 ? -9999.0 : x);
        }
        mlxr_buf_clear(&key);
    }
    mlxr_buf_char(&top, '}');
    if (!token.failed && !top.failed) add_logprob(choice, token.data, token.len, e->logprob, top.data);
    mlxr_buf_clear(&token);
    mlxr_buf_clear(&top);
}

static void on_event(mlxr_turn *t, const mlxr_event *e)
{
    struct completion *c = t->state;
    size_t i = e->choice >= 0 ? (size_t)e->choice : 0;
    struct choice *choice;
    struct prompt *p;

    if (i >= c->n_choices) return;
    choice = &c->choices[i];
    p = &c->prompts[i / (size_t)t->request.n_choices];
    begin_choice(t, i);
    if (e->warning) mlxr_openai_warn(t, NULL, "%s", e->warning);
    if (e->type == MLXR_EVENT_TOKEN && e->part == MLXR_PART_THINKING) c->n_reasoning_tokens += e->id >= 0;
    if (e->type == MLXR_EVENT_TOKEN && e->part == MLXR_PART_CONTENT) {
        if (e->has_logprob) take_logprob(t, choice, e);
        mlxr_buf_append(&choice->text, e->text, e->n_text);
        choice->n_characters += count_characters(e->text, e->n_text);
    } else if (e->type == MLXR_EVENT_COMPLETED) {
        choice->done_reason = e->stats->done_reason;
        c->n_generated += e->stats->generated_token_count;
        p->n_tokens = e->stats->prompt_token_count;
        if (e->stats->cached_token_count > p->n_cached) p->n_cached = e->stats->cached_token_count;
        c->n_complete++;
        c->i_last = i;
    }
    if (!t->stream) return;
    if (e->type == MLXR_EVENT_COMPLETED) {
        /* The last one is for end: it may carry what is told once. */
        if (c->n_complete < c->n_choices) send_chunk(t, i, true, false);
    } else if (choice->text.len) {
        send_chunk(t, i, false, false);
    }
}

static void end(mlxr_turn *t)
{
    struct completion *c = t->state;
    mlxr_buf out = {0};

    if (t->stream) {
        send_chunk(t, c->i_last, true, true);
        if (c->c.include_usage) {
            mlxr_buf_str(&t->out, "data: ");
            put_head(t, &t->out);
            mlxr_buf_str(&t->out, "],");
            put_usage(t, &t->out);
            mlxr_openai_put_last(t, &t->out);
            mlxr_buf_str(&t->out, "}\n\n");
        }
        mlxr_buf_str(&t->out, "data: [DONE]\n\n");
        mlxr_turn_push(t, &t->out);
        return;
    }
    put_head(t, &out);
    for (size_t i = 0; i < c->n_choices; i++) {
        if (i) mlxr_buf_char(&out, ',');
        put_choice(t, &out, i, true);
    }
    mlxr_buf_str(&out, "],");
    put_usage(t, &out);
    mlxr_openai_put_last(t, &out);
    mlxr_buf_char(&out, '}');
    mlxr_turn_answer(t, 200, &out);
}

static void clear(mlxr_turn *t)
{
    struct completion *c = t->state;

    for (size_t i = 0; c->choices && i < c->n_choices; i++) {
        mlxr_buf_clear(&c->choices[i].text);
        mlxr_buf_clear(&c->choices[i].tokens);
        mlxr_buf_clear(&c->choices[i].logprobs);
        mlxr_buf_clear(&c->choices[i].tops);
        mlxr_buf_clear(&c->choices[i].offsets);
    }
    for (size_t i = 0; c->prompts && i < c->n_prompts; i++) mlxr_free(c->prompts[i].text);
    free(c->choices);
    free(c->prompts);
}

const mlxr_front mlxr_openai_completions = {.name = "completions",
                                            .stream_type = "text/event-stream",
                                            .heartbeat = ": keep-alive\n\n",
                                            .state_size = sizeof(struct completion),
                                            .read = read_body,
                                            .prepare = prepare,
                                            .event = on_event,
                                            .end = end,
                                            .fail = mlxr_openai_turn_fail,
                                            .clear = clear};
