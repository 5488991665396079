/* families: from config.json to a program, one file a family; families.c lists them. */
#ifndef MLXR_FAMILIES_H
#define MLXR_FAMILIES_H

#include "model/model.h"

mlxr_status mlxr_llama_build(mlxr_program **out, const mlxr_config *config, mlxr_error *err);
bool mlxr_llama_may_ignore(const mlxr_config *config, const char *tensor_name);

#endif
