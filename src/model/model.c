/* Opening a model folder: config.json, its family's program, the checkpoint, and the binding of the two. */
#include <stdlib.h>

#include "base/fs.h"
#include "model/model.h"

/* The largest config.json seen is some 100 KB (per-layer quantization of a big mixture of experts). */
enum { MAX_CONFIG_BYTES = 16 << 20 };

struct mlxr_model {
    json_t *config;
    mlxr_checkpoint *checkpoint;
    mlxr_program *program;
};

mlxr_status mlxr_family_find(const mlxr_family **out, mlxr_config *config, mlxr_error *err)
{
    mlxr_buf known = {0};
    mlxr_status st;

    *out = NULL;
    if (!json_is_object(config->root))
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: not a JSON object", config->what);
    config->model_type = NULL;
    st = mlxr_json_get_str(&config->model_type, config->root, "model_type", config->what, err);
    if (st != MLXR_OK) return st;
    for (size_t i = 0; mlxr_family_at(i); i++) {
        const char *name = mlxr_family_at(i)->model_type;
        if (config->model_type && strcmp(config->model_type, name) == 0) {
            *out = mlxr_family_at(i);
            mlxr_buf_clear(&known);
            return MLXR_OK;
        }
        mlxr_buf_printf(&known, "%s%s", i ? ", " : "", name);
    }
    if (mlxr_buf_check(&known, config->what, err) != MLXR_OK)
        st = MLXR_E_NOMEM;
    else if (!config->model_type)
        st = mlxr_fail(err, MLXR_E_FORMAT, "%s: no \"model_type\"; supported: %s", config->what, known.data);
    else
        st = mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s: model_type \"%.64s\" is not supported; supported: %s",
                       config->what, config->model_type, known.data);
    mlxr_buf_clear(&known);
    return st;
}

static mlxr_status build_program(mlxr_program **out, const mlxr_family **family, mlxr_config *config,
                                 mlxr_error *err)
{
    mlxr_status st = mlxr_family_find(family, config, err);

    *out = NULL;
    return st == MLXR_OK ? (*family)->build(out, config, err) : st;
}

mlxr_status mlxr_model_open_parts(mlxr_model **out, json_t *root, mlxr_checkpoint *checkpoint,
                                  const char *what, mlxr_error *err)
{
    mlxr_config config = {.root = root, .what = what, .checkpoint = checkpoint};
    const mlxr_family *family;
    mlxr_model *m = calloc(1, sizeof *m);
    mlxr_status st;

    *out = NULL;
    if (!m) return mlxr_fail_nomem(err, what);
    if ((st = build_program(&m->program, &family, &config, err)) != MLXR_OK) goto done;
    if ((st = mlxr_weights_bind(m->program, checkpoint, family, &config, err)) != MLXR_OK) goto done;
    m->config = root;
    m->checkpoint = checkpoint;
    *out = m;
    m = NULL;
done:
    mlxr_model_close(m);
    return st;
}

mlxr_status mlxr_model_open(mlxr_model **out, const char *dir, mlxr_error *err)
{
    mlxr_config config = {0};
    const mlxr_family *family;
    mlxr_error unopened = {0};
    char *path = NULL;
    mlxr_model *m = calloc(1, sizeof *m);
    mlxr_status st;

    *out = NULL;
    path = mlxr_path_join(dir, "config.json");
    if (!m || !path) {
        st = mlxr_fail_nomem(err, "model");
        goto done;
    }
    if (!mlxr_path_is_dir(dir)) {
        st = mlxr_fail(err, MLXR_E_NOT_FOUND, "model %s: %s", dir,
                       mlxr_path_is_file(dir) ? "a file, wanted a folder with config.json and *.safetensors"
                                              : "no such folder");
        goto done;
    }
    if ((st = mlxr_json_read(&m->config, path, MAX_CONFIG_BYTES, err)) != MLXR_OK) goto done;
    config.root = m->config;
    config.what = path;
    /* What is wrong with config.json is told before what is wrong with the weights: it is wrong more often. */
    if ((st = mlxr_checkpoint_open(&m->checkpoint, dir, &unopened)) != MLXR_OK && st == MLXR_E_NOMEM) {
        st = mlxr_fail_nomem(err, path);
        goto done;
    }
    config.checkpoint = m->checkpoint;
    if ((st = build_program(&m->program, &family, &config, err)) != MLXR_OK) goto done;
    if (!m->checkpoint) {
        if (err) *err = unopened;
        st = unopened.code;
        goto done;
    }
    if ((st = mlxr_weights_bind(m->program, m->checkpoint, family, &config, err)) != MLXR_OK) goto done;
    *out = m;
    m = NULL;
done:
    mlxr_model_close(m);
    free(path);
    return st;
}

void mlxr_model_close(mlxr_model *m)
{
    if (!m) return;
    mlxr_program_free(m->program);
    mlxr_checkpoint_close(m->checkpoint);
    json_decref(m->config);
    free(m);
}

const mlxr_program *mlxr_model_program(const mlxr_model *m)
{
    return m->program;
}

const mlxr_checkpoint *mlxr_model_checkpoint(const mlxr_model *m)
{
    return m->checkpoint;
}

const json_t *mlxr_model_config(const mlxr_model *m)
{
    return m->config;
}
