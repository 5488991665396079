/* generation: see generation.h. */
#include "runner/generation.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/json.h"
#include "engine/sampler.h"

enum { MAX_CONFIG_FILE = 64 << 20 };

mlxr_status mlxr_optional_json(json_t **out, const char *dir, const char *name, mlxr_error *err)
{
    char *path = mlxr_path_join(dir, name);
    mlxr_status st;

    *out = NULL;
    if (!path) return mlxr_fail_nomem(err, name);
    st = mlxr_json_read(out, path, MAX_CONFIG_FILE, err);
    if (st == MLXR_E_NOT_FOUND) st = MLXR_OK;
    if (st == MLXR_OK && *out && !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        st = mlxr_fail(err, MLXR_E_FORMAT, "%s: is not a JSON object", path);
    }
    free(path);
    return st;
}

static bool is_id(const json_t *v)
{
    return json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) <= INT32_MAX;
}

/* eos_token_id of obj: an id, a list of ids, or nothing (then *out_n stays 0). */
static mlxr_status read_ids(int32_t **out_ids, size_t *out_n, const json_t *obj, const char *what,
                            mlxr_error *err)
{
    const json_t *v = json_object_get(obj, "eos_token_id");
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    int32_t *ids;

    if (!v || json_is_null(v) || n == 0) return MLXR_OK;
    ids = mlxr_malloc_array(n, sizeof *ids);
    if (!ids) return mlxr_fail_nomem(err, what);
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_is_array(v) ? json_array_get(v, i) : v;
        if (!is_id(id)) {
            free(ids);
            return mlxr_fail(err, MLXR_E_FORMAT, "%s: \"eos_token_id\" is not a token id or a list of them",
                             what);
        }
        ids[i] = (int32_t)json_integer_value(id);
    }
    *out_ids = ids;
    *out_n = n;
    return MLXR_OK;
}

static mlxr_status read_token(int32_t **out_ids, size_t *out_n, const json_t *obj, const mlxr_tokenizer *tok,
                              mlxr_error *err)
{
    const json_t *v = json_object_get(obj, "eos_token");
    int32_t id;

    if (json_is_object(v)) v = json_object_get(v, "content");
    if (!json_is_string(v)) return MLXR_OK;
    id = mlxr_tokenizer_token_to_id(tok, json_string_value(v), json_string_length(v));
    if (id < 0) return MLXR_OK;
    *out_ids = malloc(sizeof **out_ids);
    if (!*out_ids) return mlxr_fail_nomem(err, "tokenizer_config.json");
    (*out_ids)[0] = id;
    *out_n = 1;
    return MLXR_OK;
}

mlxr_status mlxr_eos_ids(int32_t **out_ids, size_t *out_n, const char *dir, const json_t *config,
                         const mlxr_tokenizer *tok, mlxr_error *err)
{
    json_t *generation = NULL, *tokenizer = NULL;
    mlxr_status st;

    *out_ids = NULL;
    *out_n = 0;
    if ((st = mlxr_optional_json(&generation, dir, "generation_config.json", err)) != MLXR_OK) goto done;
    if ((st = read_ids(out_ids, out_n, generation, "generation_config.json", err)) != MLXR_OK || *out_n)
        goto done;
    if ((st = read_ids(out_ids, out_n, config, "config.json", err)) != MLXR_OK || *out_n) goto done;
    if ((st = mlxr_optional_json(&tokenizer, dir, "tokenizer_config.json", err)) != MLXR_OK) goto done;
    st = read_token(out_ids, out_n, tokenizer, tok, err);
done:
    json_decref(generation);
    json_decref(tokenizer);
    return st;
}

/* ---- sampling ---- */

/* A number of the file into *out, unless the options would then be wrong. */
static void take_number(mlxr_sampling *s, const json_t *doc, const char *key, const mlxr_log *log)
{
    const json_t *v = json_object_get(doc, key);
    mlxr_sampling tried = *s;
    double x = json_number_value(v);
    mlxr_error err;

    if (!v || json_is_null(v)) return;
    if (strcmp(key, "temperature") == 0) tried.temperature = (float)x;
    if (strcmp(key, "top_k") == 0) tried.top_k = x >= 0 && x <= INT32_MAX ? (int32_t)x : -1;
    if (strcmp(key, "top_p") == 0) tried.top_p = (float)x;
    if (strcmp(key, "min_p") == 0) tried.min_p = (float)x;
    if (strcmp(key, "repetition_penalty") == 0) tried.repeat_penalty = (float)x;
    if (!json_is_number(v))
        mlxr_log_at(log, MLXR_LOG_WARN, "generation_config.json: \"%s\" is not a number: passed over", key);
    else if (mlxr_sampling_check(&tried, 0, &err) != MLXR_OK)
        mlxr_log_at(log, MLXR_LOG_WARN, "generation_config.json: \"%s\" is %g, out of range: passed over",
                    key, x);
    else
        *s = tried;
}

mlxr_status mlxr_folder_sampling(mlxr_sampling *out, const char *dir, const mlxr_log *log, mlxr_error *err)
{
    static const char *const keys[] = {"temperature", "top_k", "top_p", "min_p", "repetition_penalty"};
    json_t *doc;
    mlxr_status st;

    *out = mlxr_sampling_default();
    if ((st = mlxr_optional_json(&doc, dir, "generation_config.json", err)) != MLXR_OK) return st;
    for (size_t i = 0; i < MLXR_COUNT(keys); i++) take_number(out, doc, keys[i], log);
    if (json_is_false(json_object_get(doc, "do_sample"))) out->temperature = 0;
    json_decref(doc);
    return MLXR_OK;
}

/* ---- pooling ---- */

static bool ends_in(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

/* A path that a file of the folder names stays in the folder. */
static bool stays_inside(const char *path)
{
    if (path[0] == '/') return false;
    for (const char *p = path; p; p = strchr(p, '/')) {
        if (*p == '/') p++;
        if (p[0] == '.' && p[1] == '.' && (p[2] == '/' || p[2] == '\0')) return false;
    }
    return true;
}

/* The path of the Pooling module (borrowed from doc), or NULL when there is none; `other` is a module that is neither it nor
 * known to change nothing here, or NULL. */
static const char *pooling_path(const json_t *modules, const char **other)
{
    const char *found = NULL;

    *other = NULL;
    for (size_t i = 0; i < json_array_size(modules); i++) {
        const json_t *m = json_array_get(modules, i);
        const char *type = json_string_value(json_object_get(m, "type"));
        const char *path = json_string_value(json_object_get(m, "path"));
        if (!type || !path) continue;
        if (ends_in(type, ".Pooling"))
            found = path;
        else if (!ends_in(type, ".Transformer") && !ends_in(type, ".Normalize") && !*other)
            *other = type;
    }
    return found;
}

static mlxr_pooling pooling_of(const json_t *config, char *name, size_t n_name)
{
    static const char *const modes[] = {"pooling_mode_mean_tokens",
                                        "pooling_mode_lasttoken",
                                        "pooling_mode_cls_token",
                                        "pooling_mode_max_tokens",
                                        "pooling_mode_mean_sqrt_len_tokens",
                                        "pooling_mode_weightedmean_tokens"};
    const char *mode = json_string_value(json_object_get(config, "pooling_mode"));
    size_t n = 0, which = 0;

    if (mode) {
        if (strcmp(mode, "mean") == 0) return MLXR_POOLING_MEAN;
        if (strcmp(mode, "lasttoken") == 0) return MLXR_POOLING_LAST;
        snprintf(name, n_name, "pooling_mode \"%s\"", mode);
        return MLXR_POOLING_DEFAULT;
    }
    for (size_t i = 0; i < MLXR_COUNT(modes); i++) {
        if (!json_is_true(json_object_get(config, modes[i]))) continue;
        which = i;
        n++;
    }
    if (n == 1 && which == 0) return MLXR_POOLING_MEAN;
    if (n == 1 && which == 1) return MLXR_POOLING_LAST;
    snprintf(name, n_name, "%s",
             n == 1 ? modes[which]
             : n    ? "several poolings side by side"
                    : "no pooling_mode");
    return MLXR_POOLING_DEFAULT;
}

mlxr_status mlxr_folder_pooling(mlxr_pooling *out, char *name, size_t n_name, const char *dir,
                                mlxr_error *err)
{
    enum { MAX_FILE = 1 << 20 };
    const char *path = "1_Pooling", *other = NULL;
    char *file = mlxr_path_join(dir, "modules.json"), *config_name = NULL;
    json_t *modules = NULL, *config = NULL;
    mlxr_status st;

    *out = MLXR_POOLING_LAST;
    name[0] = '\0';
    if (!file) return mlxr_fail_nomem(err, "modules.json");
    st = mlxr_json_read(&modules, file, MAX_FILE, err);
    if (st == MLXR_E_NOT_FOUND) st = MLXR_OK;
    if (st != MLXR_OK) goto done;
    if (modules) path = pooling_path(modules, &other);
    if (other) {
        *out = MLXR_POOLING_DEFAULT;
        snprintf(name, n_name, "the module %s", other);
    }
    if (other || !path) goto done;
    if (!stays_inside(path)) {
        st = mlxr_fail(err, MLXR_E_FORMAT, "%s: the path \"%s\" leads out of the folder", file, path);
        goto done;
    }
    /* An empty path is the folder itself, as for its Transformer. */
    config_name = path[0] ? mlxr_asprintf("%s/config.json", path) : mlxr_strdup("config.json");
    if (!config_name) {
        st = mlxr_fail_nomem(err, "modules.json");
        goto done;
    }
    if ((st = mlxr_optional_json(&config, dir, config_name, err)) != MLXR_OK) goto done;
    if (config) *out = pooling_of(config, name, n_name);
done:
    json_decref(modules);
    json_decref(config);
    free(config_name);
    free(file);
    return st;
}
