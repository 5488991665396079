/* generation: see generation.h. */
#include "runner/generation.h"

#include <stdlib.h>

#include "base/fs.h"
#include "base/json.h"

enum { MAX_CONFIG_FILE = 64 << 20 };

/* An optional file of the folder: absent gives NULL. */
static mlxr_status read_optional(json_t **out, const char *dir, const char *name, mlxr_error *err)
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
    if ((st = read_optional(&generation, dir, "generation_config.json", err)) != MLXR_OK) goto done;
    if ((st = read_ids(out_ids, out_n, generation, "generation_config.json", err)) != MLXR_OK || *out_n)
        goto done;
    if ((st = read_ids(out_ids, out_n, config, "config.json", err)) != MLXR_OK || *out_n) goto done;
    if ((st = read_optional(&tokenizer, dir, "tokenizer_config.json", err)) != MLXR_OK) goto done;
    st = read_token(out_ids, out_n, tokenizer, tok, err);
done:
    json_decref(generation);
    json_decref(tokenizer);
    return st;
}
