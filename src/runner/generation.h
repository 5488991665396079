/* generation: what a folder's files say about answers: what ends one, and how its tokens are chosen. */
#ifndef MLXR_GENERATION_H
#define MLXR_GENERATION_H

#include <jansson.h>

#include "base/base.h"

/* A JSON object that a folder need not have: absent gives NULL. *out: json_decref it. */
mlxr_status mlxr_optional_json(json_t **out, const char *dir, const char *name, mlxr_error *err);

/* The ids that end an answer: eos_token_id (one or a list) of generation_config.json; if it has none, that of config.json; if
 * that has none, the eos_token of tokenizer_config.json. An empty set is no error. *out_ids: free it. */
mlxr_status mlxr_eos_ids(int32_t **out_ids, size_t *out_n, const char *dir, const json_t *config,
                         const mlxr_tokenizer *tok, mlxr_error *err);

/* mlxr_sampling_default with what generation_config.json has of temperature, top_k, top_p, min_p and repetition_penalty;
 * "do_sample": false is temperature 0. A value that is out of range is passed over and told to log. */
mlxr_status mlxr_folder_sampling(mlxr_sampling *out, const char *dir, const mlxr_log *log, mlxr_error *err);

/* How sentence-transformers would make one vector of a text's states: the module of type Pooling in modules.json, or
 * without that file 1_Pooling/config.json. LAST where neither is there. DEFAULT, with why in name [n_name]: the folder asks
 * for a pooling or a module that is not here. */
mlxr_status mlxr_folder_pooling(mlxr_pooling *out, char *name, size_t n_name, const char *dir,
                                mlxr_error *err);

#endif
