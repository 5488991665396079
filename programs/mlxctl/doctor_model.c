/* doctor: config.json and the program it makes, the weights against that, then what turns text into ids and back: each
 * part alone, so that one that is broken does not hide the next. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/fs.h"
#include "device/device.h"
#include "doctor.h"
#include "mlxctl.h"
#include "model/model.h"
#include "runner/generation.h"
#include "runner/prompt.h"
#include "text/capabilities.h"

enum { MAX_CONFIG_BYTES = 16 << 20, MAX_TOKENIZER_CONFIG_BYTES = 256 << 20 };

typedef struct patient {
    doctor *d;
    const char *dir;
    json_t *config;           /* config.json; NULL: not there or not an object */
    json_t *generation;       /* generation_config.json */
    json_t *tokenizer_config; /* tokenizer_config.json */
    bool tokenizer_config_broken;
    mlxr_program *program; /* NULL: config.json makes none */
    mlxr_tokenizer *tok;
} patient;

/* ---- JSON files ---- */

/* A JSON object of the folder. NULL: *is_there says whether it is broken, which is told, or absent, which is not. */
static json_t *read_object(patient *p, const char *name, size_t max_bytes, bool *is_there)
{
    char *path = mlxr_path_join(p->dir, name);
    json_t *root = NULL;
    mlxr_error err = {0};
    mlxr_status st = path ? mlxr_json_read(&root, path, max_bytes, &err) : mlxr_fail_nomem(&err, "doctor");

    *is_there = st != MLXR_E_NOT_FOUND;
    if (st != MLXR_OK) {
        if (*is_there) doctor_message(p->d, DOCTOR_ERROR, name, &err);
    } else if (!json_is_object(root)) {
        doctor_say(p->d, DOCTOR_ERROR, name, "not a JSON object");
        json_decref(root);
        root = NULL;
    }
    free(path);
    return root;
}

/* ---- config.json, weights, devices ---- */

static void bind_weights(patient *p, const doctor_weights *w, const mlxr_family *family,
                         const mlxr_config *config)
{
    const struct {
        const char *name;
        doctor_level level;
    } kinds[] = {{"missing", DOCTOR_ERROR}, {"of another shape", DOCTOR_ERROR}, {"too many", DOCTOR_ERROR}};
    mlxr_checkpoint *empty = NULL;
    mlxr_misfits misfits = {0};
    mlxr_error err = {0};
    bool has_weights = w->checkpoint && mlxr_checkpoint_count(w->checkpoint) > 0;
    mlxr_status st = MLXR_OK;

    /* Without any file "quantization" is still read. */
    if (!w->checkpoint) st = mlxr_checkpoint_open_files(&empty, NULL, 0, &err);
    if (st == MLXR_OK)
        st = mlxr_weights_bind_listing(&misfits, p->program, w->checkpoint ? w->checkpoint : empty, family,
                                       config, &err);
    if (st == MLXR_OK) {
        doctor_say(p->d, DOCTOR_OK, "tensors", "all there, each with its shape");
    } else if (misfits.missing.n + misfits.misshapen.n + misfits.extra.n == 0) {
        doctor_message(p->d, DOCTOR_ERROR, "config.json", &err);
    } else if (!has_weights) {
        doctor_say(p->d, DOCTOR_ERROR, "tensors", "none of the %zu of config.json could be looked at",
                   misfits.missing.n);
    } else {
        const mlxr_misfit_list *lists[] = {&misfits.missing, &misfits.misshapen, &misfits.extra};
        for (size_t i = 0; i < MLXR_COUNT(lists); i++) {
            if (lists[i]->n == 0) continue;
            doctor_say(p->d, kinds[i].level, "tensors", "%zu %s%s: %s", lists[i]->n, kinds[i].name,
                       i == 0 && w->n_broken ? " (files are missing or broken)" : "",
                       lists[i]->text.data ? lists[i]->text.data : "");
        }
    }
    if (st != MLXR_OK) {
        mlxr_program_free(p->program); /* not bound: nothing compiles it */
        p->program = NULL;
    }
    mlxr_misfits_clear(&misfits);
    mlxr_checkpoint_close(empty);
}

static void check_devices(patient *p)
{
    static const char *const names[] = {"cpu", "ref"};
    size_t n_refused = 0;

    for (size_t i = 0; i < MLXR_COUNT(names); i++) {
        mlxr_device_options options = {.n_threads = 1, .isa = i == 0 ? cli_isa() : NULL};
        mlxr_device *device = NULL;
        mlxr_executable *executable = NULL;
        mlxr_error err = {0};
        char part[32];
        mlxr_status st = mlxr_device_open(&device, names[i], &options, &err);
        snprintf(part, sizeof part, "device %s", names[i]);
        if (st == MLXR_OK) st = mlxr_device_compile(&executable, device, p->program, &err);
        n_refused += st != MLXR_OK;
        if (st == MLXR_OK)
            doctor_say(p->d, DOCTOR_OK, part, "runs it");
        else if (n_refused == MLXR_COUNT(names))
            doctor_message(p->d, DOCTOR_ERROR, part, &err);
        else
            doctor_say(p->d, DOCTOR_WARN, part, "does not run it: %s", err.message);
        mlxr_executable_free(executable);
        mlxr_device_close(device);
    }
}

/* vocab_size is what ids are compared with; 0: not known. */
static size_t check_config(patient *p, const doctor_weights *w)
{
    mlxr_config config = {.what = "config.json", .checkpoint = w->checkpoint};
    const mlxr_family *family = NULL;
    mlxr_error err = {0};
    size_t vocab_size = 0;
    bool is_there;

    p->config = read_object(p, "config.json", MAX_CONFIG_BYTES, &is_there);
    if (!is_there) doctor_say(p->d, DOCTOR_ERROR, "config.json", "not there");
    if (!p->config) return 0;
    config.root = p->config;
    if (mlxr_family_find(&family, &config, &err) != MLXR_OK ||
        family->build(&p->program, &config, &err) != MLXR_OK) {
        p->program = NULL;
        doctor_message(p->d, DOCTOR_ERROR, "config.json", &err);
        doctor_say(p->d, DOCTOR_WARN, "tensors", "not compared with config.json, which is not usable");
        return 0;
    }
    doctor_say(p->d, DOCTOR_OK, "config.json", "%s, %zu layers, hidden size %zu, vocabulary %zu, context %zu",
               p->program->family, p->program->n_layers, p->program->hidden_size, p->program->vocab_size,
               p->program->context_length);
    vocab_size = p->program->vocab_size;
    bind_weights(p, w, family, &config);
    if (p->program) check_devices(p);
    return vocab_size;
}

/* ---- tokenizer ---- */

/* Text through the tokenizer and back, as a first answer would take it. */
static void check_round_trip(patient *p, size_t vocab_size)
{
    static const char text[] = "Hello, world! 1 + 1 = 2";
    int32_t *ids = NULL;
    char *back = NULL;
    size_t n = 0, n_back = 0, n_beyond = 0;
    mlxr_error err = {0};

    if (mlxr_tokenizer_encode(&ids, &n, p->tok, text, sizeof text - 1, true, &err) != MLXR_OK ||
        mlxr_tokenizer_decode(&back, &n_back, p->tok, ids, n, true, &err) != MLXR_OK) {
        doctor_message(p->d, DOCTOR_ERROR, "tokenizer", &err);
    } else if (n == 0) {
        doctor_say(p->d, DOCTOR_WARN, "tokenizer", "\"%s\" has no tokens", text);
    }
    for (size_t i = 0; i < n && vocab_size; i++) n_beyond += ids[i] < 0 || (size_t)ids[i] >= vocab_size;
    if (n_beyond)
        doctor_say(p->d, DOCTOR_ERROR, "tokenizer", "\"%s\" has %zu ids that the model's %zu do not hold",
                   text, n_beyond, vocab_size);
    mlxr_free(ids);
    mlxr_free(back);
}

static void check_vocabulary(patient *p, size_t vocab_size)
{
    size_t n = mlxr_tokenizer_vocab_size(p->tok), n_bytes = 0;
    doctor_names beyond = {0};

    for (size_t id = vocab_size; id < n && vocab_size; id++) {
        const char *token = mlxr_tokenizer_id_to_token(p->tok, (int32_t)id, &n_bytes);
        char *name = token ? mlxr_asprintf("%zu %.*s", id, n_bytes < 64 ? (int)n_bytes : 64, token) : NULL;
        if (name) doctor_names_add(&beyond, name);
        free(name);
    }
    if (beyond.n)
        doctor_say(p->d, DOCTOR_WARN, "tokenizer", "%zu tokens are beyond the model's vocabulary of %zu: %s",
                   beyond.n, vocab_size, doctor_names_text(&beyond));
    doctor_names_clear(&beyond);
}

static void check_tokenizer_config(patient *p, size_t vocab_size)
{
    static const char *const names[] = {"bos_token", "eos_token", "pad_token", "unk_token"};
    size_t n_right = 0;

    for (size_t i = 0; i < MLXR_COUNT(names); i++) {
        const json_t *v = json_object_get(p->tokenizer_config, names[i]);
        const char *text;
        int32_t id;
        if (!v || json_is_null(v)) continue;
        if (json_is_object(v)) v = json_object_get(v, "content");
        text = json_string_value(v);
        if (!text) {
            doctor_say(p->d, DOCTOR_WARN, "tokenizer_config.json", "\"%s\" is not a token", names[i]);
            continue;
        }
        id = p->tok ? mlxr_tokenizer_token_to_id(p->tok, text, json_string_length(v)) : 0;
        if (id < 0)
            doctor_say(p->d, DOCTOR_WARN, "tokenizer_config.json", "\"%s\" %.100s is not in the vocabulary",
                       names[i], text);
        else if (vocab_size && (size_t)id >= vocab_size)
            doctor_say(p->d, DOCTOR_ERROR, "tokenizer_config.json",
                       "\"%s\" %.100s has id %ld, the model has %zu", names[i], text, (long)id, vocab_size);
        else
            n_right++;
    }
    if (p->tokenizer_config)
        doctor_say(p->d, DOCTOR_OK, "tokenizer_config.json", "%zu special tokens are right", n_right);
}

static void check_tokenizer(patient *p, size_t vocab_size)
{
    mlxr_error err = {0};
    bool is_there;

    if (mlxr_tokenizer_open(&p->tok, p->dir, &err) != MLXR_OK) {
        doctor_message(p->d, DOCTOR_ERROR, "tokenizer", &err);
    } else {
        doctor_say(p->d, DOCTOR_OK, "tokenizer", "%s, %zu tokens", mlxr_tokenizer_kind(p->tok),
                   mlxr_tokenizer_vocab_size(p->tok));
        check_vocabulary(p, vocab_size);
        check_round_trip(p, vocab_size);
    }
    p->tokenizer_config = read_object(p, "tokenizer_config.json", MAX_TOKENIZER_CONFIG_BYTES, &is_there);
    p->tokenizer_config_broken = is_there && !p->tokenizer_config;
    check_tokenizer_config(p, vocab_size);
}

/* ---- templates ---- */

static void check_one_template(patient *p, const mlxr_chat_template *ct, const char *name, bool builtin)
{
    mlxr_template_capabilities c = {0};
    mlxr_error err = {0};

    if (mlxr_chat_template_capabilities(&c, ct, name, &err) != MLXR_OK)
        doctor_message(p->d, DOCTOR_ERROR, "chat template", &err);
    else if (c.user == MLXR_CAN && c.needs_tools)
        doctor_say(p->d, strcmp(name, "default") == 0 ? DOCTOR_WARN : DOCTOR_OK, "chat template",
                   "%.100s renders only when there are tools", name);
    else if (c.user == MLXR_CAN)
        doctor_say(p->d, DOCTOR_OK, "chat template", "%.100s%s renders; system %s, tools %s, thinking %s",
                   name, builtin ? " (built in)" : "", mlxr_capability_name(c.system),
                   mlxr_capability_name(c.tools), c.thinking_switch ? c.thinking_switch : "no switch");
    else /* the others are for occasions of their own ("rag", "tool_use") */
        doctor_say(p->d, strcmp(name, "default") == 0 ? DOCTOR_ERROR : DOCTOR_WARN, "chat template",
                   "%.100s does not render a user's message: %s", name, c.why);
}

static void check_templates(patient *p)
{
    mlxr_chat_template *ct = NULL;
    mlxr_error err = {0};
    bool builtin = false;
    char *file = mlxr_path_join(p->dir, "chat_template.jinja");
    mlxr_status st;

    if (p->tokenizer_config_broken && file && mlxr_path_is_file(file)) {
        st = mlxr_chat_template_open(&ct, file, &err); /* alone */
    } else if (p->tokenizer_config_broken) {
        doctor_say(p->d, DOCTOR_WARN, "chat template", "not looked for: tokenizer_config.json is broken");
        goto done;
    } else {
        st = mlxr_chat_template_open(&ct, p->dir, &err);
    }
    if (st == MLXR_E_NOT_FOUND) {
        doctor_say(p->d, DOCTOR_WARN, "chat template",
                   "none in the folder: the built-in Llama prompt is used");
        if (!p->tok) goto done;
        builtin = true;
        st = mlxr_chat_template_open_with(&ct, p->dir, mlxr_prompt_llama_source(p->tok), &err);
    }
    if (st != MLXR_OK) doctor_message(p->d, DOCTOR_ERROR, "chat template", &err);
    for (size_t i = 0; i < (ct ? mlxr_chat_template_count(ct) : 0); i++)
        check_one_template(p, ct, mlxr_chat_template_name(ct, i), builtin);
done:
    mlxr_chat_template_close(ct);
    free(file);
}

/* ---- generation ---- */

/* obj[key]: an id, a list of ids or nothing. Tells of wrong types, and at `level` of ids that no token of the model has.
 * Returns how many are right. */
static size_t check_ids(patient *p, const char *file, const json_t *obj, const char *key, size_t vocab_size,
                        doctor_level level)
{
    const json_t *v = json_object_get(obj, key);
    size_t n = json_is_array(v) ? json_array_size(v) : 1, n_right = 0, n_wrong = 0;
    doctor_names beyond = {0};

    if (!v || json_is_null(v)) return 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_is_array(v) ? json_array_get(v, i) : v;
        char text[32];
        if (!json_is_integer(id)) {
            n_wrong++;
        } else if (json_integer_value(id) < 0 ||
                   (uint64_t)json_integer_value(id) >= (vocab_size ? vocab_size : INT32_MAX)) {
            snprintf(text, sizeof text, "%lld", (long long)json_integer_value(id));
            doctor_names_add(&beyond, text);
        } else {
            n_right++;
        }
    }
    if (n_wrong)
        doctor_say(p->d, strcmp(key, "eos_token_id") == 0 ? DOCTOR_ERROR : DOCTOR_WARN, file,
                   "\"%s\" is not a token id or a list of them", key);
    if (beyond.n)
        doctor_say(p->d, level, file, "\"%s\": the model's ids are 0 to %zu, not %s", key,
                   (vocab_size ? vocab_size : INT32_MAX) - 1, doctor_names_text(&beyond));
    doctor_names_clear(&beyond);
    return n_right;
}

/* Defaults for sampling: nothing here reads them yet, but what reads them elsewhere is confused by these. */
static void check_sampling(patient *p)
{
    static const struct {
        const char *key;
        double min, max;
        bool is_whole;
    } fields[] = {
        {"temperature", 0, 100, false},
        {"top_p", 0, 1, false},
        {"min_p", 0, 1, false},
        {"top_k", 0, INT32_MAX, true},
        {"repetition_penalty", 0, 100, false},
        {"max_length", 0, INT32_MAX, true},
        {"max_new_tokens", 0, INT32_MAX, true},
    };
    const json_t *sample = json_object_get(p->generation, "do_sample");

    for (size_t i = 0; i < MLXR_COUNT(fields); i++) {
        const json_t *v = json_object_get(p->generation, fields[i].key);
        double x = json_number_value(v);
        if (!v || json_is_null(v)) continue;
        if (!json_is_number(v) || (fields[i].is_whole && !json_is_integer(v)))
            doctor_say(p->d, DOCTOR_WARN, "generation_config.json", "\"%s\" is not a %s", fields[i].key,
                       fields[i].is_whole ? "whole number" : "number");
        else if (!(x >= fields[i].min && x <= fields[i].max))
            doctor_say(p->d, DOCTOR_WARN, "generation_config.json", "\"%s\" is %g, wanted %g to %g",
                       fields[i].key, x, fields[i].min, fields[i].max);
    }
    if (sample && !json_is_boolean(sample) && !json_is_null(sample))
        doctor_say(p->d, DOCTOR_WARN, "generation_config.json", "\"do_sample\" is not true or false");
}

static void check_generation(patient *p, size_t vocab_size)
{
    static const char generation[] = "generation_config.json";
    int32_t *ids = NULL;
    size_t n = 0, n_right;
    mlxr_error err = {0};
    bool is_there;

    p->generation = read_object(p, generation, MAX_CONFIG_BYTES, &is_there);
    n_right = check_ids(p, generation, p->generation, "eos_token_id", vocab_size, DOCTOR_ERROR);
    check_ids(p, generation, p->generation, "bos_token_id", vocab_size, DOCTOR_WARN);
    check_ids(p, generation, p->generation, "pad_token_id", vocab_size, DOCTOR_WARN);
    check_sampling(p);
    /* These count only where generation_config.json has none. */
    check_ids(p, "config.json", p->config, "eos_token_id", vocab_size, n_right ? DOCTOR_WARN : DOCTOR_ERROR);
    check_ids(p, "config.json", p->config, "bos_token_id", vocab_size, DOCTOR_WARN);
    check_ids(p, "config.json", p->config, "pad_token_id", vocab_size, DOCTOR_WARN);
    if (!p->tok || !p->config || (is_there && !p->generation) || p->tokenizer_config_broken) return;
    if (mlxr_eos_ids(&ids, &n, p->dir, p->config, p->tok, &err) != MLXR_OK) {
        doctor_message(p->d, DOCTOR_ERROR, "end of answers", &err);
    } else if (n == 0) {
        doctor_say(p->d, DOCTOR_WARN, "end of answers", "no \"eos_token_id\": answers end by length alone");
    } else {
        doctor_names names = {0};
        for (size_t i = 0; i < n; i++) {
            size_t n_bytes = 0;
            const char *token = mlxr_tokenizer_id_to_token(p->tok, ids[i], &n_bytes);
            char *name = token ? mlxr_asprintf("%ld %.*s", (long)ids[i], n_bytes < 64 ? (int)n_bytes : 64,
                                               token)
                               : mlxr_asprintf("%ld (no token)", (long)ids[i]);
            if (name) doctor_names_add(&names, name);
            free(name);
        }
        doctor_say(p->d, DOCTOR_OK, "end of answers", "%s", doctor_names_text(&names));
        doctor_names_clear(&names);
    }
    free(ids);
}

void doctor_model(doctor *d, const doctor_weights *w, const char *dir)
{
    patient p = {.d = d, .dir = dir};
    size_t vocab_size = check_config(&p, w);

    check_tokenizer(&p, vocab_size);
    check_templates(&p);
    check_generation(&p, vocab_size);
    mlxr_program_free(p.program);
    mlxr_tokenizer_close(p.tok);
    json_decref(p.config);
    json_decref(p.generation);
    json_decref(p.tokenizer_config);
}
