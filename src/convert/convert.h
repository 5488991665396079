/* convert: a model folder into another one: quantized, dequantized, with an adapter's weights merged in. Which tensors are matrices of a
 * linear layer, an embedding or experts is the program's knowledge (model room), so every family it has can be converted; names and
 * the rest of the folder stay as they are. The weights go through tensor by tensor: memory is that of one. */
#ifndef MLXR_CONVERT_H
#define MLXR_CONVERT_H

#include "model/model.h"
#include "store/recipe.h"
#include "store/store.h"

typedef struct mlxr_convert_options {
    bool quantize;    /* change the quantization to `quant`; MLXR_QUANT_NONE: dequantize */
    mlxr_quant quant; /* as mlx_lm.convert -q would: same choice of layers, same bits */
    mlxr_dtype dtype; /* of what is not quantized; MLXR_DTYPE_COUNT: as it is */
    const char *
        adapter; /* folder of mlx-lm (adapters.safetensors, adapter_config.json) or PEFT (adapter_model.safetensors,
                                * adapter_config.json): LoRA and DoRA, merged; NULL: none */
    mlxr_progress progress;     /* bytes of weights written */
    const volatile int *cancel; /* or NULL */
    mlxr_log log;
} mlxr_convert_options;
mlxr_convert_options mlxr_convert_options_default(void);

/* dir is made, and must be empty or absent. Shards of at most 5 GB with an index when there are several; config.json is written last, so that
 * an interrupted conversion is no model. A model that is quantized is quantized anew only from what it dequantizes to, with a warning to log. */
mlxr_status mlxr_convert(const char *from_dir, const char *dir, const mlxr_convert_options *options,
                         mlxr_error *err);

/* ---- a model of the store from a recipe (create.c) ---- */

typedef struct mlxr_create_options {
    const char
        *recipe_dir; /* relative paths of the recipe count from here; NULL: from where the process stands */
    const mlxr_remote_options
        *remote; /* a base that the store has not is pulled; NULL: it is MLXR_E_NOT_FOUND */
    const mlxr_store_job *job;
} mlxr_create_options;
/* Layers that stay as they are in the base are shared with it. The recipe itself becomes mlxr.json (system, parameters, messages, metadata),
 * its template chat_template.jinja, its licences LICENSE files. Quantization and adapter make new weights, in a session's
 * folder. name NULL: the recipe's. *out_digest: free it with mlxr_free; may be NULL. */
mlxr_status mlxr_create(char **out_digest, mlxr_store *store, const char *name, const mlxr_recipe *recipe,
                        const mlxr_create_options *options, mlxr_error *err);

#endif
