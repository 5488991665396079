/* convert: a model folder into another one: quantized, dequantized, in another type, with an adapter's weights merged in. Which tensors
 * are matrices of a linear layer, an embedding or experts is the program's knowledge (model room), so every family it has can be
 * converted. What is written is what mlx_lm.convert writes: mlx-lm's names and layout, whichever the folder had (experts in stacks,
 * gate and up apart), without what the text model does not use (towers of other modalities, a head beside tied embeddings), and
 * config.json's "quantization" says each module's own. The rest of the folder is copied, other forms of weights apart. The weights go
 * through tensor by tensor: memory is that of one matrix's scales and a few megabytes of its rows. */
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
 * an interrupted conversion is no model, and after a failure nothing of it is left. options NULL: a copy in mlx-lm's layout.
 *
 * A matrix that is quantized already is left as it is when it is to be quantized as it is, else quantized anew from what it dequantizes to,
 * with a warning to log. (mlx_lm.convert leaves every quantized matrix as it is.) An adapter is merged before that; without
 * `quantize`, a quantized matrix that it changes is quantized again as it was. What of an adapter does not fit the model is in one message. */
mlxr_status mlxr_convert(const char *from_dir, const char *dir, const mlxr_convert_options *options,
                         mlxr_error *err);

/* ---- a model of the store from a recipe (create.c) ---- */

typedef struct mlxr_create_options {
    /* Relative paths of the recipe count from here; NULL: from where the process stands. */
    const char *recipe_dir;
    /* A base that no store has is pulled; NULL: it is MLXR_E_NOT_FOUND. */
    const mlxr_remote_options *remote;
    /* Where a base is looked for behind `store`; its files are hard-linked or copied. May be NULL. */
    mlxr_store *bases;
    const mlxr_store_job *job;
    mlxr_log log;
} mlxr_create_options;
/* The base is a name of the store, a folder, a GGUF file, or a name to pull. What stays as it is in the base is shared with it, file by
 * file. system, parameters, messages and metadata become mlxr.json, over that of a base which has one: system and messages in its place,
 * parameters and metadata name by name. The template becomes chat_template.jinja, licences LICENSE files beside the base's. Quantization and adapter
 * make new weights, in the session's folder; a base that is quantized as the recipe wants keeps its own. The same recipe of the same base gives the
 * same digest. name NULL: the recipe's, with its version as tag when it has none. *out_digest: free it with mlxr_free; may be NULL. options
 * NULL: none. */
mlxr_status mlxr_create(char **out_digest, mlxr_store *store, const char *name, const mlxr_recipe *recipe,
                        const mlxr_create_options *options, mlxr_error *err);

#endif
