/* parameters: see parameters.h. */
#include "parameters.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Where a value goes. A list has its own place in struct parameters. */
enum target { SAMPLING_INT, SAMPLING_REAL, REQUEST_INT, SEED, STOP, BIAS, BREAKER, OVERFLOW };

struct parameter {
    const char *name, *option; /* "top_k", "top-k" */
    enum target target;
    size_t offset; /* in mlxr_sampling or mlxr_request */
    const char *value;
    double min, max;
    const char *help;
};

#define MOST     2147483647.0
#define S(field) offsetof(mlxr_sampling, field)
#define R(field) offsetof(mlxr_request, field)
static const struct parameter table[] = {
    {"max_tokens", "max-tokens", REQUEST_INT, R(max_tokens), "N", -1, MOST,
     "most tokens to answer with (-1: until the context is full)"},
    {"num_predict", "num-predict", REQUEST_INT, R(max_tokens), "N", -1, MOST, "the same, by Ollama's name"},
    {"min_tokens", "min-tokens", SAMPLING_INT, S(min_tokens), "N", 0, MOST,
     "no end of text before so many (0)"},
    {"temperature", "temperature", SAMPLING_REAL, S(temperature), "T", 0, 100,
     "0: the likeliest token, always"},
    {"top_k", "top-k", SAMPLING_INT, S(top_k), "K", 0, MOST, "sample from the K likeliest (40; 0: all)"},
    {"top_p", "top-p", SAMPLING_REAL, S(top_p), "P", 0, 1,
     "... from the likeliest that hold P (0.9; 1: all)"},
    {"min_p", "min-p", SAMPLING_REAL, S(min_p), "P", 0, 1,
     "... from those at least P times the likeliest (0)"},
    {"typical_p", "typical-p", SAMPLING_REAL, S(typical_p), "P", 0, 1,
     "... from those nearest to the expected surprise that hold P (1: all)"},
    {"min_keep", "min-keep", SAMPLING_INT, S(min_keep), "N", 0, MOST, "candidates these leave at least (1)"},
    {"repeat_penalty", "repeat-penalty", SAMPLING_REAL, S(repeat_penalty), "R", 0.001, 100,
     "against tokens seen lately, a factor (1: off)"},
    {"presence_penalty", "presence-penalty", SAMPLING_REAL, S(presence_penalty), "X", -100, 100,
     "the same, taken off once (0: off)"},
    {"frequency_penalty", "frequency-penalty", SAMPLING_REAL, S(frequency_penalty), "X", -100, 100,
     "the same, taken off for each time (0: off)"},
    {"repeat_last_n", "repeat-last-n", SAMPLING_INT, S(repeat_last_n), "N", -1, MOST,
     "how many tokens are lately (64; -1: all)"},
    {"logit_bias", "logit-bias", BIAS, 0, "ID=X", 0, 0, "added to a token's logit; may be given again"},
    {"dry_multiplier", "dry-multiplier", SAMPLING_REAL, S(dry_multiplier), "X", 0, 100,
     "against repeated sequences (0: off)"},
    {"dry_base", "dry-base", SAMPLING_REAL, S(dry_base), "X", 1, 100,
     "how fast that grows with length (1.75)"},
    {"dry_allowed_length", "dry-allowed-length", SAMPLING_INT, S(dry_allowed_length), "N", 0, MOST,
     "repeated tokens that are allowed (2)"},
    {"dry_penalty_last_n", "dry-penalty-last-n", SAMPLING_INT, S(dry_penalty_last_n), "N", -1, MOST,
     "tokens it looks back (-1: all)"},
    {"dry_sequence_breaker", "dry-sequence-breaker", BREAKER, 0, "TEXT", 0, 0,
     "ends a repetition, instead of the usual ones; may be given again"},
    {"xtc_probability", "xtc-probability", SAMPLING_REAL, S(xtc_probability), "P", 0, 1,
     "how often the likeliest are left out (0: never)"},
    {"xtc_threshold", "xtc-threshold", SAMPLING_REAL, S(xtc_threshold), "P", 0, 1,
     "those above P, but the last of them (0.1)"},
    {"mirostat", "mirostat", SAMPLING_INT, S(mirostat), "0|1|2", 0, 2, "instead of all cuts (0: off)"},
    {"mirostat_tau", "mirostat-tau", SAMPLING_REAL, S(mirostat_tau), "X", 0, 100,
     "the surprise aimed at (5)"},
    {"mirostat_eta", "mirostat-eta", SAMPLING_REAL, S(mirostat_eta), "X", 0, 1,
     "how fast it gets there (0.1)"},
    {"seed", "seed", SEED, 0, "N", -1, 9007199254740992.0, "the same seed, the same answer (-1: random)"},
    {"stop", "stop", STOP, 0, "TEXT", 0, 0, "end before this text; may be given again"},
    {"overflow", "overflow", OVERFLOW, 0, "error|truncate|shift", 0, 0,
     "what to do when the context is full (error)"},
    {"num_keep", "num-keep", REQUEST_INT, R(num_keep), "N", 0, MOST, "tokens that is never to drop (0)"},
    {"num_choices", "choices", REQUEST_INT, R(n_choices), "N", 1, 1024, "answers to the one prompt (1)"},
};
#undef S
#undef R

static bool is_real(const struct parameter *t)
{
    return t->target == SAMPLING_REAL;
}

static bool is_int(const struct parameter *t)
{
    return t->target == SAMPLING_INT || t->target == REQUEST_INT || t->target == SEED;
}

static bool is_list(const struct parameter *t)
{
    return t->target == STOP || t->target == BIAS || t->target == BREAKER;
}

static struct cli_list *list_of(struct parameters *p, const struct parameter *t)
{
    return t->target == STOP ? &p->stop : t->target == BIAS ? &p->logit_bias : &p->breakers;
}

static void forget(struct parameters *p, size_t i)
{
    if (is_list(&table[i]))
        list_of(p, &table[i])->n = 0;
    else if (is_real(&table[i]))
        p->values[i].r = NAN;
    else if (is_int(&table[i]))
        p->values[i].i = INT64_MIN;
    else
        p->values[i].s = NULL;
}

void parameters_init(struct parameters *p)
{
    memset(p, 0, sizeof *p);
    for (size_t i = 0; i < MLXR_COUNT(table); i++) forget(p, i);
}

void parameters_options(struct cli_option *options, struct parameters *p)
{
    _Static_assert(MLXR_COUNT(table) == PARAMETERS_N, "the table's size");
    for (size_t i = 0; i < MLXR_COUNT(table); i++) {
        const struct parameter *t = &table[i];
        bool list = is_list(t);
        options[i] = (struct cli_option){.name = t->option,
                                         .kind = list         ? CLI_LIST
                                                 : is_real(t) ? CLI_REAL
                                                 : is_int(t)  ? CLI_INT
                                                              : CLI_CHOICE,
                                         .value = t->value,
                                         .out = list ? (void *)list_of(p, t) : &p->values[i],
                                         .min = t->min,
                                         .max = t->max,
                                         .help = t->help};
    }
}

/* Its index, or MLXR_COUNT(table). */
static size_t find(const char *name, mlxr_error *err)
{
    size_t i = 0;

    while (i < MLXR_COUNT(table) && strcmp(table[i].name, name) != 0 && strcmp(table[i].option, name) != 0)
        i++;
    if (i == MLXR_COUNT(table)) mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "there is no parameter \"%s\"", name);
    return i;
}

bool parameters_set(struct parameters *p, const char *name, const char *text, mlxr_error *err)
{
    size_t i = find(name, err);
    const struct parameter *t;
    char *end = NULL;

    if (i == MLXR_COUNT(table)) return false;
    t = &table[i];
    errno = 0;
    if (is_list(t)) {
        struct cli_list *list = list_of(p, t);
        if (list->n == MLXR_COUNT(list->items)) {
            mlxr_fail(err, MLXR_E_LIMIT, "%s: given more than %zu times", t->name, MLXR_COUNT(list->items));
            return false;
        }
        list->items[list->n++] = text;
    } else if (is_real(t)) {
        double x = strtod(text, &end);
        if (end == text || *end || !isfinite(x) || x < t->min || x > t->max) {
            mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s: \"%s\" is not a number from %g to %g", t->name, text,
                      t->min, t->max);
            return false;
        }
        p->values[i].r = x;
    } else if (is_int(t)) {
        long long x = strtoll(text, &end, 10);
        if (errno || end == text || *end || (double)x < t->min || (double)x > t->max) {
            mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s: \"%s\" is not a whole number from %.0f to %.0f",
                      t->name, text, t->min, t->max);
            return false;
        }
        p->values[i].i = x;
    } else {
        if (strcmp(text, "error") != 0 && strcmp(text, "truncate") != 0 && strcmp(text, "shift") != 0) {
            mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s: \"%s\" is not one of %s", t->name, text, t->value);
            return false;
        }
        p->values[i].s = text;
    }
    return true;
}

bool parameters_unset(struct parameters *p, const char *name, mlxr_error *err)
{
    size_t i = find(name, err);

    if (i == MLXR_COUNT(table)) return false;
    forget(p, i);
    return true;
}

/* "123=-1.5", "123=-inf" */
static mlxr_status read_bias(mlxr_logit_bias *out, const char *text, mlxr_error *err)
{
    char *end, *end_of_id;
    long id = strtol(text, &end_of_id, 10);
    double bias = 0;
    bool ok = end_of_id != text && *end_of_id == '=' && id >= 0 && id <= INT32_MAX;

    if (ok) {
        bias = strtod(end_of_id + 1, &end);
        ok = end != end_of_id + 1 && *end == '\0' && !isnan(bias);
    }
    if (!ok) return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "logit_bias: \"%s\" is not ID=NUMBER", text);
    *out = (mlxr_logit_bias){(int32_t)id, (float)bias};
    return MLXR_OK;
}

mlxr_status parameters_apply(struct parameters *p, mlxr_request *r, mlxr_error *err)
{
    for (size_t i = 0; i < MLXR_COUNT(table); i++) {
        const struct parameter *t = &table[i];
        char *sampling = (char *)&r->sampling + t->offset, *request = (char *)r + t->offset;
        if (is_real(t) && !isnan(p->values[i].r)) *(float *)(void *)sampling = (float)p->values[i].r;
        if (is_int(t) && p->values[i].i != INT64_MIN) {
            if (t->target == SEED)
                r->sampling.seed = p->values[i].i;
            else
                *(int32_t *)(void *)(t->target == SAMPLING_INT ? sampling
                                                               : request) = (int32_t)p->values[i].i;
            /* -1 would be as not given, and a model's own limit would count. */
            if (t->target == REQUEST_INT && t->offset == offsetof(mlxr_request, max_tokens) &&
                p->values[i].i < 0)
                r->max_tokens = INT32_MAX;
        }
        if (t->target == OVERFLOW && p->values[i].s)
            r->overflow = *p->values[i].s == 'e'   ? MLXR_OVERFLOW_ERROR
                          : *p->values[i].s == 't' ? MLXR_OVERFLOW_TRUNCATE
                                                   : MLXR_OVERFLOW_SHIFT;
    }
    if (p->stop.n) {
        r->stop = p->stop.items;
        r->n_stop = p->stop.n;
    }
    if (p->breakers.n) {
        r->sampling.dry_sequence_breakers = p->breakers.items;
        r->sampling.n_dry_sequence_breakers = p->breakers.n;
    }
    for (size_t i = 0; i < p->logit_bias.n; i++) {
        mlxr_status st = read_bias(&p->biases[i], p->logit_bias.items[i], err);
        if (st != MLXR_OK) return st;
    }
    if (p->logit_bias.n) {
        r->sampling.logit_bias = p->biases;
        r->sampling.n_logit_bias = p->logit_bias.n;
    }
    return MLXR_OK;
}

static bool is_given(const struct parameters *p, size_t i)
{
    return is_list(&table[i])   ? list_of((struct parameters *)(uintptr_t)p, &table[i])->n > 0
           : is_real(&table[i]) ? !isnan(p->values[i].r)
           : is_int(&table[i])  ? p->values[i].i != INT64_MIN
                                : p->values[i].s != NULL;
}

void parameters_default(struct parameters *p, const char *name, const char *text)
{
    size_t i = find(name, NULL);

    if (i < MLXR_COUNT(table) && !is_given(p, i)) parameters_set(p, name, text, NULL);
}

/* What the native API calls it; NULL: it has no such option. */
static const char *api_name(const struct parameter *t)
{
    static const char *const names[] = {"num_predict",
                                        "temperature",
                                        "top_k",
                                        "top_p",
                                        "min_p",
                                        "typical_p",
                                        "repeat_penalty",
                                        "presence_penalty",
                                        "repeat_last_n",
                                        "num_keep",
                                        "frequency_penalty",
                                        "seed",
                                        "stop"};

    if (strcmp(t->name, "max_tokens") == 0) return "num_predict";
    for (size_t i = 0; i < MLXR_COUNT(names); i++)
        if (strcmp(names[i], t->name) == 0) return names[i];
    return NULL;
}

bool parameters_to_options(json_t *options, const struct parameters *p, const char **overflow,
                           const char **missing)
{
    *overflow = *missing = NULL;
    for (size_t i = 0; i < MLXR_COUNT(table); i++) {
        const struct parameter *t = &table[i];
        const char *name = api_name(t);
        json_t *value;
        if (!is_given(p, i)) continue;
        if (t->target == OVERFLOW) {
            *overflow = p->values[i].s;
            continue;
        }
        if (!name) {
            *missing = t->name;
            return false;
        }
        value = is_list(t)   ? json_array()
                : is_real(t) ? json_real(p->values[i].r)
                             : json_integer(p->values[i].i);
        for (size_t k = 0; is_list(t) && k < p->stop.n; k++)
            if (json_array_append_new(value, json_string(p->stop.items[k])) != 0) {
                json_decref(value);
                return false;
            }
        if (json_object_set_new(options, name, value) != 0) return false;
    }
    return true;
}

bool parameters_at(const struct parameters *p, size_t i, const char **name, const char **help,
                   mlxr_buf *value)
{
    if (i >= MLXR_COUNT(table)) return false;
    *name = table[i].name;
    *help = table[i].help;
    value->len = 0;
    mlxr_buf_str(value, "");
    if (is_list(&table[i])) {
        const struct cli_list *list = list_of((struct parameters *)(uintptr_t)p, &table[i]);
        for (size_t k = 0; k < list->n; k++) mlxr_buf_printf(value, "%s\"%s\"", k ? " " : "", list->items[k]);
    } else if (is_real(&table[i])) {
        if (!isnan(p->values[i].r)) mlxr_buf_printf(value, "%g", p->values[i].r);
    } else if (is_int(&table[i])) {
        if (p->values[i].i != INT64_MIN) mlxr_buf_printf(value, "%lld", (long long)p->values[i].i);
    } else if (p->values[i].s) {
        mlxr_buf_str(value, p->values[i].s);
    }
    return true;
}

json_t *parameters_to_json(const struct parameters *p)
{
    json_t *out = json_object();
    mlxr_buf text = {0};
    const char *name, *help;
    bool ok = out != NULL;

    for (size_t i = 0; ok && parameters_at(p, i, &name, &help, &text); i++) {
        if (text.failed) ok = false;
        if (!ok || text.len == 0) continue;
        if (is_list(&table[i])) {
            const struct cli_list *list = list_of((struct parameters *)(uintptr_t)p, &table[i]);
            json_t *items = json_array();
            for (size_t k = 0; k < list->n; k++)
                ok = ok && json_array_append_new(items, json_string(list->items[k])) == 0;
            ok = ok && json_object_set_new(out, name, items) == 0;
        } else {
            ok = json_object_set_new(out, name, json_string(text.data)) == 0;
        }
    }
    mlxr_buf_clear(&text);
    if (ok) return out;
    json_decref(out);
    return NULL;
}
