/* The families there are. A new one is a file beside this and its entries here. */
#include "model/families/families.h"

/* As in mlx-lm, mistral is llama by another name: its "sliding_window" counts only together with "layer_types". */
static const mlxr_family llama = {"llama", mlxr_llama_build, mlxr_llama_may_ignore};
static const mlxr_family mistral = {"mistral", mlxr_llama_build, mlxr_llama_may_ignore};

const mlxr_family *const mlxr_families[] = {&llama, &mistral, NULL};
