/* folder: see folder.h. */
#include "runner/folder.h"

#include <stdlib.h>

#include "base/fs.h"
#include "engine/sampler.h"
#include "runner/generation.h"

void mlxr_folder_clear(mlxr_folder *f)
{
    mlxr_prompt_builder_close(f->prompt);
    mlxr_settings_clear(&f->settings);
    mlxr_tokenizer_close(f->tok);
    mlxr_model_close(f->model);
    free(f->eos_ids);
    free(f->dir);
    *f = (mlxr_folder){0};
}

mlxr_status mlxr_folder_open(mlxr_folder *f, const char *dir, const char *cache_dir, const mlxr_log *log,
                             mlxr_error *err)
{
    mlxr_tokenizer_options tokenizer = mlxr_tokenizer_options_default();
    mlxr_status st;

    *f = (mlxr_folder){0};
    tokenizer.cache_dir = cache_dir;
    tokenizer.log = *log;
    if (!mlxr_path_is_dir(dir))
        return mlxr_fail(err, MLXR_E_MODEL_PATH_MISSING, "model %s: there is no such folder", dir);
    if (!(f->dir = mlxr_strdup(dir))) return mlxr_fail_nomem(err, dir);
    if ((st = mlxr_settings_read(&f->settings, dir, err)) != MLXR_OK) return st;
    if ((st = mlxr_model_open(&f->model, dir, err)) != MLXR_OK) return st;
    if ((st = mlxr_tokenizer_open_with(&f->tok, dir, &tokenizer, err)) != MLXR_OK) return st;
    if ((st = mlxr_prompt_builder_open(&f->prompt, dir, f->tok, err)) != MLXR_OK) return st;
    mlxr_prompt_use_settings(f->prompt, &f->settings);
    if (mlxr_prompt_builder_is_builtin(f->prompt))
        mlxr_log_at(log, MLXR_LOG_INFO, "model %s has no chat template: the built-in Llama prompt is used",
                    dir);
    st = mlxr_eos_ids(&f->eos_ids, &f->n_eos, dir, mlxr_model_config(f->model), f->tok, err);
    if (st != MLXR_OK) return st;
    if (f->n_eos == 0)
        mlxr_log_at(log, MLXR_LOG_WARN, "model %s names no end-of-text token: answers end by length alone",
                    dir);
    if ((st = mlxr_folder_sampling(&f->sampling, dir, log, err)) != MLXR_OK) return st;
    mlxr_settings_sampling(&f->settings, &f->sampling);
    st = mlxr_sampling_check(&f->sampling, mlxr_model_program(f->model)->vocab_size, err);
    if (st != MLXR_OK) {
        mlxr_error_prefix(err, "%s/mlxr.json: ", dir);
        return MLXR_E_FORMAT;
    }
    return mlxr_folder_pooling(&f->pooling, f->pooling_name, sizeof f->pooling_name, dir, err);
}
