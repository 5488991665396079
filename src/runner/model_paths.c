/* model_paths: model ids to folders, from a JSON file { "model-id": "path", ... }. */
#include <stdlib.h>

#include "base/fs.h"
#include "base/json.h"
#include "runner/runner.h"

enum { MAX_PATHS_FILE = 1 << 20 };

static char *expand(const char *path, const char *json_file, const char *home)
{
    char *dir, *joined;

    if (home && path[0] == '~' && (path[1] == '/' || path[1] == '\0'))
        return path[1] ? mlxr_path_join(home, path + 2) : mlxr_strdup(home);
    dir = mlxr_path_dirname(json_file);
    if (!dir) return NULL;
    joined = mlxr_path_join(dir, path);
    free(dir);
    return joined;
}

/* The ids a file has, for the message of one it has not. */
static void append_known(mlxr_error *err, const json_t *paths)
{
    const char *key;
    json_t *value;
    size_t n = 0;

    json_object_foreach((json_t *)(uintptr_t)paths, key, value)
    {
        if (n == 12) {
            mlxr_error_append(err, ", ...");
            return;
        }
        mlxr_error_append(err, "%s%s", n++ ? ", " : "; it has: ", key);
    }
    if (n == 0) mlxr_error_append(err, "; it has none");
}

mlxr_status mlxr_model_path_resolve(char **out_path, const char *json_file, const char *model_id,
                                    const char *home, mlxr_error *err)
{
    json_t *paths = NULL, *value;
    char *path = NULL;
    mlxr_status st;

    *out_path = NULL;
    if ((st = mlxr_json_read(&paths, json_file, MAX_PATHS_FILE, err)) != MLXR_OK) {
        mlxr_error_prefix(err, "model paths: ");
        goto done;
    }
    if (!json_is_object(paths)) {
        st = mlxr_fail(err, MLXR_E_FORMAT,
                       "model paths: %s: wanted an object { \"model-id\": \"path\", ... }", json_file);
        goto done;
    }
    if (!model_id) model_id = json_object_iter_key(json_object_iter(paths));
    if (!model_id) {
        st = mlxr_fail(err, MLXR_E_MODEL_PATH_MISSING, "model paths: %s names no model", json_file);
        goto done;
    }
    value = json_object_get(paths, model_id);
    if (!value) {
        st = mlxr_fail(err, MLXR_E_MODEL_PATH_MISSING, "model paths: no path for model \"%s\" in %s",
                       model_id, json_file);
        append_known(err, paths);
        goto done;
    }
    if (!json_is_string(value) || json_string_length(value) == 0 ||
        strlen(json_string_value(value)) != json_string_length(value)) {
        st = mlxr_fail(err, MLXR_E_FORMAT,
                       "model paths: %s: the path of \"%s\" is not a string with a path in it", json_file,
                       model_id);
        goto done;
    }
    path = expand(json_string_value(value), json_file, home);
    if (!path) {
        st = mlxr_fail_nomem(err, "model paths");
        goto done;
    }
    if (!mlxr_path_is_dir(path)) {
        st = mlxr_fail(err, MLXR_E_MODEL_PATH_MISSING,
                       "model paths: model \"%s\" in %s: there is no folder %s", model_id, json_file, path);
        goto done;
    }
    *out_path = path;
    path = NULL;
done:
    free(path);
    json_decref(paths);
    return st;
}
