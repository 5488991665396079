/* families: from config.json to a program, one file a family; families.c lists them. */
#ifndef MLXR_FAMILIES_H
#define MLXR_FAMILIES_H

#include "model/families/decoder.h"

/* All of this type: mlxr_family.build of model.h. */
#define MLXR_FAMILY(name) \
    mlxr_status mlxr_##name##_build(mlxr_program **out, const mlxr_config *config, mlxr_error *err)
MLXR_FAMILY(cohere);
MLXR_FAMILY(gemma2);
MLXR_FAMILY(gemma3);
MLXR_FAMILY(gemma4);
MLXR_FAMILY(gpt_oss);
MLXR_FAMILY(granite);
MLXR_FAMILY(lfm2);
MLXR_FAMILY(llama);
MLXR_FAMILY(ministral3);
MLXR_FAMILY(mistral3);
MLXR_FAMILY(mixtral);
MLXR_FAMILY(phi3);
MLXR_FAMILY(qwen2);
MLXR_FAMILY(qwen3);
MLXR_FAMILY(qwen3_5);
MLXR_FAMILY(qwen3_moe);
MLXR_FAMILY(starcoder2);

bool mlxr_gemma4_may_ignore(const mlxr_config *config, const char *tensor_name);

#endif
