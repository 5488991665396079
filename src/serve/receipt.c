/* receipt: see receipt.h. docs/receipts.md has the format, a table of its members. */
#include "serve/receipt.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sha256.h"
#include "serve/serve.h"

enum { RECEIPT_VERSION = 1, MAX_KEPT_IDS = 65536 };

/* What came of one choice. */
struct output {
    mlxr_sha256 ids;
    size_t n_ids;
    int32_t *kept; /* full: the first MAX_KEPT_IDS of them */
    size_t cap_kept;
    char text[65], thinking[65], calls[65];
    mlxr_done_reason reason;
    bool complete;
};

struct mlxr_receipt {
    json_t *head; /* everything that is known before the answer */
    bool full, failed;
    struct output *outputs;
    size_t n_outputs;
};

/* ---- digests ---- */

static void hash_text(char out[65], const void *text, size_t n)
{
    mlxr_sha256 s;

    mlxr_sha256_init(&s);
    if (n) mlxr_sha256_update(&s, text, n);
    mlxr_sha256_final(out, &s);
}

static void hash_ids(mlxr_sha256 *s, const int32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t v = (uint32_t)ids[i];
        uint8_t bytes[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
        mlxr_sha256_update(s, bytes, sizeof bytes);
    }
}

/* null for NULL */
static json_t *digest_of(const char *text)
{
    char hex[65];

    if (!text) return json_null();
    hash_text(hex, text, strlen(text));
    return json_string(hex);
}

static json_t *text_or_null(const char *text)
{
    return text ? json_string(text) : json_null();
}

/* The first of the files that is there, hashed; null: none is. */
static json_t *digest_of_file(const char *dir, const char *const *names, size_t n_names)
{
    for (size_t i = 0; dir && i < n_names; i++) {
        char *path = mlxr_path_join(dir, names[i]), hex[65];
        FILE *f = path ? fopen(path, "rb") : NULL;
        mlxr_sha256 s;
        char bytes[16384];
        size_t n;
        bool bad;

        free(path);
        if (!f) continue;
        mlxr_sha256_init(&s);
        while ((n = fread(bytes, 1, sizeof bytes, f)) > 0) mlxr_sha256_update(&s, bytes, n);
        bad = ferror(f) != 0;
        fclose(f);
        mlxr_sha256_final(hex, &s);
        return bad ? json_null() : json_string(hex);
    }
    return json_null();
}

/* ---- the parts ---- */

static const char *const precisions[] = {"default", "fast", "exact"};
static const char *const kv_types[] = {"default", "f32", "f16", "int8"};
static const char *const overflows[] = {"error", "truncate", "shift"};
static const char *const choices[] = {"auto", "none", "required", "named"};
static const char *const thinks[] = {"default", "off", "on", "low", "medium", "high"};

static const char *word_of(const char *const *words, size_t n, unsigned i)
{
    return i < n ? words[i] : "?";
}

/* The device without its number of threads, which changes no bit of an answer. */
static json_t *build_json(const mlxr_turn *t)
{
    const mlxr_engine_options *o = &t->serve->options.engine;
    mlxr_engine *e = mlxr_served_engine(t->model);
    const char *device = e ? mlxr_engine_get_info(e).device_name : "mock";

    return json_pack("{s:s, s:s#, s:s, s:s}", "version", mlxr_version(), "device", device,
                     (int)strcspn(device, ","), "precision",
                     word_of(precisions, MLXR_COUNT(precisions), o->precision), "kv_type",
                     word_of(kv_types, MLXR_COUNT(kv_types), o->kv_type));
}

static json_t *model_json(const mlxr_turn *t)
{
    static const char *const tokenizers[] = {"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"};
    static const char *const configs[] = {"config.json"}, *const settings[] = {"mlxr.json"};
    const char *dir = mlxr_served_path(t->model), *digest = mlxr_resident_get_key(t->resident)->digest;
    mlxr_engine *e = mlxr_served_engine(t->model);

    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "name", t->model_name, "digest",
                     text_or_null(digest && *digest ? digest : NULL), "config_sha256",
                     digest_of_file(dir, configs, MLXR_COUNT(configs)), "tokenizer_sha256",
                     digest_of_file(dir, tokenizers, MLXR_COUNT(tokenizers)), "settings_sha256",
                     digest_of_file(dir, settings, MLXR_COUNT(settings)), "chat_template_sha256",
                     digest_of(e ? mlxr_engine_template_source(e) : NULL));
}

static json_t *sampling_json(const mlxr_sampling *s)
{
    json_t *v = json_pack(
        "{s:I, s:f, s:i, s:f, s:f, s:f, s:i, s:f, s:f, s:f, s:i, s:f, s:f, s:i, s:i, s:f, s:f, s:i, s:f, "
        "s:f, "
        "s:i, s:[], s:[]}",
        "seed", (json_int_t)s->seed, "temperature", (double)s->temperature, "top_k", (int)s->top_k, "top_p",
        (double)s->top_p, "min_p", (double)s->min_p, "typical_p", (double)s->typical_p, "min_keep",
        (int)s->min_keep, "repeat_penalty", (double)s->repeat_penalty, "presence_penalty",
        (double)s->presence_penalty, "frequency_penalty", (double)s->frequency_penalty, "repeat_last_n",
        (int)s->repeat_last_n, "dry_multiplier", (double)s->dry_multiplier, "dry_base", (double)s->dry_base,
        "dry_allowed_length", (int)s->dry_allowed_length, "dry_penalty_last_n", (int)s->dry_penalty_last_n,
        "xtc_probability", (double)s->xtc_probability, "xtc_threshold", (double)s->xtc_threshold, "mirostat",
        (int)s->mirostat, "mirostat_tau", (double)s->mirostat_tau, "mirostat_eta", (double)s->mirostat_eta,
        "min_tokens", (int)s->min_tokens, "logit_bias", "dry_sequence_breakers");
    bool failed = !v;

    for (size_t i = 0; i < s->n_logit_bias && !failed; i++)
        failed |= json_array_append_new(json_object_get(v, "logit_bias"),
                                        json_pack("[i, o]", (int)s->logit_bias[i].id,
                                                  isfinite(s->logit_bias[i].bias)
                                                      ? json_real((double)s->logit_bias[i].bias)
                                                      : json_string("-inf"))) != 0;
    for (size_t i = 0; i < s->n_dry_sequence_breakers && !failed; i++)
        failed |= json_array_append_new(json_object_get(v, "dry_sequence_breakers"),
                                        json_string(s->dry_sequence_breakers[i])) != 0;
    if (!failed) return v;
    json_decref(v);
    return NULL;
}

/* In its final form. What may be long or private is there by its digest. */
static json_t *request_json(const mlxr_turn *t)
{
    const mlxr_request *q = &t->request;
    json_t *v = json_pack(
        "{s:o, s:i, s:i, s:b, s:[], s:b, s:i, s:s, s:i, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:s, s:s, s:o, "
        "s:b, "
        "s:I, s:I}",
        "sampling", sampling_json(&q->sampling), "n_choices", (int)q->n_choices, "max_tokens",
        (int)q->max_tokens, "ignore_eos", q->ignore_eos, "stop", "logprobs", q->logprobs, "top_logprobs",
        (int)q->top_logprobs, "overflow", word_of(overflows, MLXR_COUNT(overflows), q->overflow), "num_keep",
        (int)q->num_keep, "raw", q->raw, "parts", q->parts, "format_sha256", digest_of(q->format),
        "grammar_sha256", digest_of(q->grammar), "regex_sha256", digest_of(q->regex), "tools_sha256",
        digest_of(q->tools_json), "answer_format", text_or_null(q->answer_format), "think",
        word_of(thinks, MLXR_COUNT(thinks), q->think), "tool_choice",
        word_of(choices, MLXR_COUNT(choices), q->tool_choice), "tool_name", text_or_null(q->tool_name),
        "parallel_tool_calls", q->parallel_tool_calls, "max_thinking", (json_int_t)t->max_thinking,
        "context_length", (json_int_t)mlxr_served_context(t->model));
    bool failed = !v;

    for (size_t i = 0; i < q->n_stop && !failed; i++)
        failed |= json_array_append_new(json_object_get(v, "stop"), json_string(q->stop[i])) != 0;
    if (!failed) return v;
    json_decref(v);
    return NULL;
}

static json_t *ids_json(const int32_t *ids, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n && list; i++)
        if (json_array_append_new(list, json_integer(ids[i])) != 0) {
            json_decref(list);
            list = NULL;
        }
    return list;
}

static mlxr_status add_prompt(json_t *prompts, const mlxr_turn *t, const mlxr_request *q, bool full,
                              mlxr_error *err)
{
    char hex[65], *text = NULL;
    size_t n_text = 0, n = 0;
    int32_t *ids = NULL;
    mlxr_sha256 s;
    json_t *v;
    mlxr_status st = mlxr_served_encode(&ids, &n, t->model, q, err);

    if (st == MLXR_OK && !q->prompt_ids) st = mlxr_served_render(&text, &n_text, t->model, q, err);
    if (st != MLXR_OK) goto done;
    mlxr_sha256_init(&s);
    hash_ids(&s, ids, n);
    mlxr_sha256_final(hex, &s);
    v = json_pack("{s:I, s:s}", "tokens", (json_int_t)n, "ids_sha256", hex);
    if (text) hash_text(hex, text, n_text);
    if (!v || json_object_set_new(v, "text_sha256", text ? json_string(hex) : json_null()) != 0 ||
        (full && json_object_set_new(v, "ids", ids_json(ids, n)) != 0) || json_array_append(prompts, v) != 0)
        st = mlxr_fail_nomem(err, "receipt");
    json_decref(v);
done:
    mlxr_free(ids);
    mlxr_free(text);
    return st;
}

/* The body as it came, but for what asks for the receipt. */
static json_t *body_json(const mlxr_turn *t)
{
    json_t *body = json_deep_copy(t->body);

    if (body) json_object_del(body, "receipt");
    return body;
}

/* ---- the receipt ---- */

/* Whether one is asked for, and how much of it. */
static bool asked(const mlxr_turn *t, bool *full)
{
    const json_t *v = json_object_get(t->body, "receipt");
    const char *header = mlxr_request_header(t->http, "X-Mlxr-Receipt");

    *full = (json_is_string(v) && strcmp(json_string_value(v), "full") == 0) ||
            (header && strcmp(header, "full") == 0);
    return *full || json_is_true(v) || (header && (strcmp(header, "1") == 0 || strcmp(header, "true") == 0));
}

bool mlxr_receipt_wanted(const mlxr_turn *t)
{
    bool full;

    return asked(t, &full);
}

/* 48 bits, which every JSON parser holds exactly. All prompts of a turn get the same, as they would with a seed of the client's. */
mlxr_status mlxr_receipt_seed(mlxr_turn *t, mlxr_error *err)
{
    const char *header = mlxr_request_header(t->http, "X-Mlxr-Seed");
    uint64_t drawn = 0;
    int64_t seed = t->request.sampling.seed;
    char *end = NULL;

    if (seed >= 0) return MLXR_OK;
    if (header && *header) {
        seed = strtoll(header, &end, 10);
        if (*end || seed < 0)
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                             "request: the header X-Mlxr-Seed is \"%.40s\", wanted an integer of 0 or more",
                             header);
    } else {
        if (getentropy(&drawn, sizeof drawn) != 0)
            return mlxr_fail(err, MLXR_E_IO, "receipt: the system gave no random seed");
        seed = (int64_t)(drawn >> 16);
    }
    t->request.sampling.seed = seed;
    for (size_t i = 0; i < t->n_more; i++)
        ((mlxr_request *)(uintptr_t)&t->more[i])->sampling.seed = seed; /* the turn's own */
    return MLXR_OK;
}

mlxr_status mlxr_receipt_create(mlxr_receipt **out, const mlxr_turn *t, mlxr_error *err)
{
    mlxr_receipt *r;
    json_t *prompts = NULL;
    size_t per = t->request.n_choices > 0 ? (size_t)t->request.n_choices : 1;
    bool full;
    mlxr_status st;

    *out = NULL;
    if (!asked(t, &full)) return MLXR_OK;
    if (!(r = calloc(1, sizeof *r))) return mlxr_fail_nomem(err, "receipt");
    r->full = full;
    r->n_outputs = per * (1 + t->n_more);
    r->outputs = mlxr_calloc_array(r->n_outputs, sizeof *r->outputs);
    r->head = json_pack("{s:i, s:s, s:s, s:o, s:o, s:o, s:[]}", "receipt", RECEIPT_VERSION, "id",
                        t->record->id, "endpoint", mlxr_request_path(t->http), "build", build_json(t),
                        "model", model_json(t), "request", request_json(t), "prompts");
    if (!r->outputs || !r->head) {
        mlxr_receipt_free(r);
        return mlxr_fail_nomem(err, "receipt");
    }
    for (size_t i = 0; i < r->n_outputs; i++) mlxr_sha256_init(&r->outputs[i].ids);
    prompts = json_object_get(r->head, "prompts");
    st = add_prompt(prompts, t, &t->request, full, err);
    for (size_t i = 0; i < t->n_more && st == MLXR_OK; i++)
        st = add_prompt(prompts, t, &t->more[i], full, err);
    if (st == MLXR_OK && full && json_object_set_new(r->head, "body", body_json(t)) != 0)
        st = mlxr_fail_nomem(err, "receipt");
    if (st != MLXR_OK) {
        mlxr_receipt_free(r);
        return st;
    }
    *out = r;
    return MLXR_OK;
}

void mlxr_receipt_free(mlxr_receipt *r)
{
    if (!r) return;
    for (size_t i = 0; r->outputs && i < r->n_outputs; i++) free(r->outputs[i].kept);
    free(r->outputs);
    json_decref(r->head);
    free(r);
}

static void keep_id(mlxr_receipt *r, struct output *o, int32_t id)
{
    hash_ids(&o->ids, &id, 1);
    if (r->full && o->n_ids < MAX_KEPT_IDS) {
        if (o->n_ids == o->cap_kept) {
            size_t cap = o->cap_kept ? 2 * o->cap_kept : 64;
            int32_t *more = mlxr_realloc_array(o->kept, cap, sizeof *more);
            if (!more) {
                r->failed = true;
                return;
            }
            o->kept = more;
            o->cap_kept = cap;
        }
        o->kept[o->n_ids] = id;
    }
    o->n_ids++;
}

static void hash_call(mlxr_sha256 *s, const mlxr_tool_call *c)
{
    const char *parts[] = {c->name ? c->name : "", c->arguments ? c->arguments : ""};

    for (size_t i = 0; i < MLXR_COUNT(parts); i++) mlxr_sha256_update(s, parts[i], strlen(parts[i]) + 1);
}

void mlxr_receipt_event(mlxr_receipt *r, const mlxr_event *e)
{
    struct output *o;
    mlxr_sha256 s;

    if (!r || e->choice < 0 || (size_t)e->choice >= r->n_outputs) return;
    o = &r->outputs[e->choice];
    if (e->type == MLXR_EVENT_TOKEN && e->id >= 0) keep_id(r, o, e->id);
    if (e->type != MLXR_EVENT_COMPLETED) return;
    hash_text(o->text, e->text, e->n_text);
    hash_text(o->thinking, e->thinking, e->n_thinking);
    mlxr_sha256_init(&s);
    for (size_t i = 0; i < e->n_calls; i++) hash_call(&s, &e->calls[i]);
    mlxr_sha256_final(o->calls, &s);
    o->reason = e->stats->done_reason;
    o->complete = true;
}

static json_t *output_json(const mlxr_receipt *r, const struct output *o)
{
    mlxr_sha256 s = o->ids;
    char ids[65];
    json_t *v;

    mlxr_sha256_final(ids, &s);
    v = json_pack("{s:I, s:s, s:s, s:s, s:s, s:s}", "tokens", (json_int_t)o->n_ids, "ids_sha256", ids,
                  "text_sha256", o->text, "thinking_sha256", o->thinking, "tool_calls_sha256", o->calls,
                  "done_reason", mlxr_done_reason_name(o->reason));
    if (v && r->full &&
        json_object_set_new(v, "ids", ids_json(o->kept, o->n_ids < MAX_KEPT_IDS ? o->n_ids : MAX_KEPT_IDS)) !=
            0) {
        json_decref(v);
        v = NULL;
    }
    return v;
}

void mlxr_receipt_put(mlxr_buf *out, const mlxr_receipt *r, const mlxr_turn *t)
{
    json_t *list, *whole;

    (void)t;
    if (!r) return;
    list = json_array();
    whole = json_copy(r->head);
    for (size_t i = 0; i < r->n_outputs && list; i++)
        if (json_array_append_new(list, output_json(r, &r->outputs[i])) != 0) {
            json_decref(list);
            list = NULL;
        }
    if (!r->failed && whole && list && json_object_set(whole, "choices", list) == 0)
        mlxr_put_json_member(out, "receipt", whole);
    else
        mlxr_buf_str(out, ",\"receipt\":{\"error\":\"out of memory\"}");
    json_decref(list);
    json_decref(whole);
}

/* ---- comparing ---- */

/* Members that tell of one making of an answer, not of the answer. */
static bool passed_over(const char *path)
{
    static const char *const paths[] = {"id", "body", "model.name"};
    size_t n = strlen(path);

    for (size_t i = 0; i < MLXR_COUNT(paths); i++)
        if (strcmp(path, paths[i]) == 0) return true;
    return n > 4 && strcmp(path + n - 4, ".ids") == 0; /* their digest is there */
}

struct comparison {
    json_t *out;
    char path[200];
    bool failed;
};

static void compare(struct comparison *c, const json_t *was, const json_t *is);

static void compare_member(struct comparison *c, const char *key, const json_t *was, const json_t *is)
{
    size_t n = strlen(c->path);

    snprintf(c->path + n, sizeof c->path - n, "%s%s", n ? "." : "", key);
    if (strcmp(c->path, "model.digest") == 0 && (json_is_null(was) || json_is_null(is)))
        ; /* a folder has none, and its files are compared in any case */
    else if (!passed_over(c->path))
        compare(c, was, is);
    c->path[n] = '\0';
}

static void differ(struct comparison *c, const json_t *was, const json_t *is)
{
    json_t *v = json_pack("{s:s, s:O, s:O}", "path", c->path, "was", was ? was : json_null(), "is",
                          is ? is : json_null());

    c->failed |= !v || json_array_append_new(c->out, v) != 0;
}

static void compare_objects(struct comparison *c, const json_t *was, const json_t *is)
{
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)was, key, v)
    {
        compare_member(c, key, v, json_object_get(is, key));
    }
    json_object_foreach((json_t *)(uintptr_t)is, key, v)
    {
        if (!json_object_get(was, key)) compare_member(c, key, NULL, v);
    }
}

/* Nesting is bounded by mlxr_json_parse. */
static void compare(struct comparison *c, const json_t *was, const json_t *is)
{
    if (json_is_object(was) && json_is_object(is)) {
        compare_objects(c, was, is);
    } else if (json_is_array(was) && json_is_array(is) && json_array_size(was) == json_array_size(is)) {
        for (size_t i = 0; i < json_array_size(was); i++) {
            char key[24];
            snprintf(key, sizeof key, "%zu", i);
            compare_member(c, key, json_array_get(was, i), json_array_get(is, i));
        }
    } else if (json_is_number(was) && json_is_number(is)) {
        if (json_number_value(was) != json_number_value(is)) differ(c, was, is);
    } else if (!was || !is || !json_equal(was, is)) {
        differ(c, was, is);
    }
}

mlxr_status mlxr_receipt_compare(json_t **out, const json_t *was, const json_t *is, mlxr_error *err)
{
    struct comparison c = {.out = json_array()};

    *out = NULL;
    if (!c.out) return mlxr_fail_nomem(err, "receipt");
    compare(&c, was, is);
    if (c.failed) {
        json_decref(c.out);
        return mlxr_fail_nomem(err, "receipt");
    }
    *out = c.out;
    return MLXR_OK;
}
