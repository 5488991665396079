/* folder: what a model folder says about answering, beside its weights: tokenizer, chat template, the tokens that end an
 * answer, its own sampling and settings, how its states become embeddings. Immutable once open: threads share it. */
#ifndef MLXR_FOLDER_H
#define MLXR_FOLDER_H

#include "model/model.h"
#include "runner/prompt.h"
#include "runner/settings.h"

typedef struct mlxr_folder {
    char *dir;
    mlxr_model *model;
    mlxr_tokenizer *tok;
    mlxr_settings settings; /* mlxr.json */
    mlxr_prompt_builder *prompt;
    int32_t *eos_ids;
    size_t n_eos;
    mlxr_sampling sampling;
    mlxr_pooling pooling; /* DEFAULT: one this library has not, named in pooling_name */
    char pooling_name[128];
} mlxr_folder;

/* *out is cleared by the caller in either case. What is odd but no failure goes to log. */
mlxr_status mlxr_folder_open(mlxr_folder *out, const char *dir, const char *cache_dir, const mlxr_log *log,
                             mlxr_error *err);
void mlxr_folder_clear(mlxr_folder *f); /* {0} is fine */

#endif
