/* parameters: see parameters.h. */
#include "base/parameters.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#define MOST      2147483647
#define SEED_MOST 9007199254740992
#define REAL(field, lo, hi) \
#field, MLXR_PARAMETER_REAL, offsetof(mlxr_sampling, field), lo, hi, "a number from " #lo " to " #hi
#define WHOLE(field, lo, hi, hi_text) \
#field, MLXR_PARAMETER_INT, offsetof(mlxr_sampling, field), lo, hi, "a whole number from " #lo hi_text
#define ANSWER(name, field, lo) \
    name, MLXR_PARAMETER_REQUEST, offsetof(mlxr_request, field), lo, MOST, "a whole number, " #lo " or more"
#define OTHER(name) name, MLXR_PARAMETER_OTHER, 0, -MOST, MOST, "a number or a boolean"

static const mlxr_parameter table[] = {
    {ANSWER("max_tokens", max_tokens, -1)},
    {ANSWER("num_predict", max_tokens, -1)},
    {ANSWER("num_keep", num_keep, 0)},
    {WHOLE(min_tokens, 0, MOST, " on")},
    {REAL(temperature, 0, 100)},
    {WHOLE(top_k, 0, MOST, " on")},
    {REAL(top_p, 0, 1)},
    {REAL(min_p, 0, 1)},
    {REAL(typical_p, 0, 1)},
    {WHOLE(min_keep, 0, MOST, " on")},
    {REAL(repeat_penalty, 0.001, 100)},
    {REAL(presence_penalty, -100, 100)},
    {REAL(frequency_penalty, -100, 100)},
    {WHOLE(repeat_last_n, -1, MOST, " on")},
    {REAL(dry_multiplier, 0, 100)},
    {REAL(dry_base, 1, 100)},
    {WHOLE(dry_allowed_length, 0, MOST, " on")},
    {WHOLE(dry_penalty_last_n, -1, MOST, " on")},
    {REAL(xtc_probability, 0, 1)},
    {REAL(xtc_threshold, 0, 1)},
    {WHOLE(mirostat, 0, 2, " to 2")},
    {REAL(mirostat_tau, 0, 100)},
    {REAL(mirostat_eta, 0, 1)},
    {"seed", MLXR_PARAMETER_SEED, 0, -1, SEED_MOST, "a whole number, -1 or more"},
    {"num_ctx", MLXR_PARAMETER_CONTEXT, 0, 1, MOST, "a whole number from 1 on"},
    {"overflow", MLXR_PARAMETER_OVERFLOW, 0, 0, 0, "\"error\", \"truncate\" or \"shift\""},
    {"stop", MLXR_PARAMETER_STOP, 0, 0, 0, "a text that is not empty, or a list of them, 64 at most"},
    {"dry_sequence_breaker", MLXR_PARAMETER_BREAKERS, 0, 0, 0,
     "a text that is not empty, or a list of them, 64 at most"},
    {"logit_bias", MLXR_PARAMETER_BIASES, 0, 0, 0, "a text \"ID=NUMBER\", or a list of them, 64 at most"},
    {OTHER("num_batch")},
    {OTHER("draft_num_predict")},
    {OTHER("num_gpu")},
    {OTHER("main_gpu")},
    {OTHER("num_thread")},
    {OTHER("num_gqa")},
    {OTHER("numa")},
    {OTHER("low_vram")},
    {OTHER("f16_kv")},
    {OTHER("logits_all")},
    {OTHER("vocab_only")},
    {OTHER("use_mmap")},
    {OTHER("use_mlock")},
    {OTHER("penalize_newline")},
    {OTHER("tfs_z")},
};

const mlxr_parameter *mlxr_parameter_find(const char *name)
{
    for (size_t i = 0; i < MLXR_COUNT(table); i++)
        if (strcmp(table[i].name, name) == 0) return &table[i];
    return NULL;
}

const mlxr_parameter *mlxr_parameter_at(size_t i)
{
    return i < MLXR_COUNT(table) ? &table[i] : NULL;
}

bool mlxr_parameter_bias(mlxr_logit_bias *out, const char *text)
{
    char *end, *end_of_id;
    long id = strtol(text, &end_of_id, 10);
    double bias;

    if (end_of_id == text || *end_of_id != '=' || id < 0 || id > INT32_MAX) return false;
    bias = strtod(end_of_id + 1, &end);
    if (end == end_of_id + 1 || *end || isnan(bias) || (float)bias == INFINITY) return false;
    *out = (mlxr_logit_bias){(int32_t)id, (float)bias};
    return true;
}

/* ---- forms ---- */

static void put(json_t **value, json_t *own)
{
    json_decref(*value);
    *value = own;
}

/* Decimal digits alone: strtod would take "0x10", "infinity" and spaces before. */
static bool looks_like_number(const char *s)
{
    return *s && strspn(s, "0123456789+-.eE") == strlen(s);
}

/* A text's number or boolean in its place; false: out of memory. */
static bool parse_text(json_t **value)
{
    const char *s = json_string_value(*value);
    size_t n = json_string_length(*value);
    json_t *own = NULL;
    char *end;

    if (strlen(s) != n) return true;
    if (strcmp(s, "true") == 0 || strcmp(s, "false") == 0) {
        own = json_boolean(*s == 't');
    } else if (looks_like_number(s)) {
        long long i;
        double x;
        errno = 0;
        i = strtoll(s, &end, 10);
        if (!*end && errno == 0) {
            own = json_integer(i);
        } else {
            x = strtod(s, &end);
            if (*end || !isfinite(x)) return true;
            own = json_real(x);
        }
    } else {
        return true;
    }
    if (own) put(value, own);
    return own != NULL;
}

static bool text_fits(const mlxr_parameter *p, const json_t *v)
{
    mlxr_logit_bias bias;

    return json_is_string(v) && json_string_length(v) > 0 &&
           json_string_length(v) <= MLXR_PARAMETER_MAX_TEXT_BYTES &&
           strlen(json_string_value(v)) == json_string_length(v) &&
           (p->kind != MLXR_PARAMETER_BIASES || mlxr_parameter_bias(&bias, json_string_value(v)));
}

static const char *check_list(const mlxr_parameter *p, json_t **value)
{
    if (json_is_string(*value)) {
        json_t *list = json_array();
        if (!list || json_array_append(list, *value) != 0) {
            json_decref(list);
            return "out of memory";
        }
        put(value, list);
    }
    if (!json_is_array(*value) || json_array_size(*value) > MLXR_PARAMETER_MAX_TEXTS) return p->wants;
    for (size_t i = 0; i < json_array_size(*value); i++)
        if (!text_fits(p, json_array_get(*value, i))) return p->wants;
    return NULL;
}

static const char *check_whole(const mlxr_parameter *p, json_t **value)
{
    double x = json_number_value(*value);
    json_t *own;

    if (json_is_integer(*value)) { /* compared as such: beyond 2^53 a double is rounded */
        json_int_t i = json_integer_value(*value);
        return i >= (json_int_t)p->min && i <= (json_int_t)p->max ? NULL : p->wants;
    }
    if (!json_is_real(*value) || !(x >= p->min && x <= p->max) || floor(x) != x) return p->wants;
    if (!(own = json_integer((json_int_t)x))) return "out of memory";
    put(value, own);
    return NULL;
}

bool mlxr_parameter_is_switch(const mlxr_parameter *p)
{
    static const char *const switches[] = {"numa",     "low_vram",   "f16_kv",    "logits_all",
                                           "use_mmap", "vocab_only", "use_mlock", "penalize_newline"};

    for (size_t i = 0; i < MLXR_COUNT(switches); i++)
        if (p->kind == MLXR_PARAMETER_OTHER && strcmp(p->name, switches[i]) == 0) return true;
    return false;
}

const char *mlxr_parameter_check(const mlxr_parameter *p, json_t **value, bool from_text)
{
    const char *word;
    double x;

    switch (p->kind) {
    case MLXR_PARAMETER_STOP:
    case MLXR_PARAMETER_BREAKERS:
    case MLXR_PARAMETER_BIASES: return check_list(p, value);
    case MLXR_PARAMETER_OVERFLOW:
        word = json_string_value(*value);
        return word && (strcmp(word, "error") == 0 || strcmp(word, "truncate") == 0 ||
                        strcmp(word, "shift") == 0)
                   ? NULL
                   : p->wants;
    default: break;
    }
    if (from_text && json_is_string(*value) && !parse_text(value)) return "out of memory";
    x = json_number_value(*value);
    switch (p->kind) {
    case MLXR_PARAMETER_REAL: return json_is_number(*value) && x >= p->min && x <= p->max ? NULL : p->wants;
    case MLXR_PARAMETER_OTHER:
        if (mlxr_parameter_is_switch(p)) return json_is_boolean(*value) ? NULL : "true or false";
        return json_is_number(*value) ? NULL : "a number";
    default: return check_whole(p, value);
    }
}
