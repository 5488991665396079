/* generation: what ends an answer. */
#ifndef MLXR_GENERATION_H
#define MLXR_GENERATION_H

#include <jansson.h>

#include "base/base.h"

/* The ids that end an answer: eos_token_id (one or a list) of generation_config.json; if it has none, that of config.json; if
 * that has none, the eos_token of tokenizer_config.json. An empty set is no error. *out_ids: free it. */
mlxr_status mlxr_eos_ids(int32_t **out_ids, size_t *out_n, const char *dir, const json_t *config,
                         const mlxr_tokenizer *tok, mlxr_error *err);

#endif
