/* model: from a folder to a bound program. config.json chooses a family (families/), the family builds the program,
 * and every weight of the program is matched once with the checkpoint; after that no name is looked up.
 * An open model is immutable: devices and threads share it. */
#ifndef MLXR_MODEL_H
#define MLXR_MODEL_H

#include "format/format.h"
#include "model/program.h"

/* What config.json says, for families. `what` is the path messages use. */
typedef struct mlxr_config {
    json_t *root;
    const char *what;
    const char *model_type;
} mlxr_config;

/* One entry a family, in families/families.c. */
typedef struct mlxr_family {
    const char *model_type;
    mlxr_status (*build)(mlxr_program **out, const mlxr_config *config, mlxr_error *err);
    /* Whether a checkpoint tensor that the program does not want may be there all the same ("rotary_emb.inv_freq",
     * lm_head beside tied embeddings). NULL: none. */
    bool (*may_ignore)(const mlxr_config *config, const char *tensor_name);
} mlxr_family;
extern const mlxr_family *const mlxr_families[]; /* NULL-terminated */

/* Matches every weight of the program with a tensor and fills its mlxr_matrix: NAME.weight, and where config.json's
 * "quantization" says so NAME.scales and, for affine, NAME.biases. All missing, extra and misshapen tensors are in one
 * message. The checkpoint must outlive the program's use. */
mlxr_status mlxr_weights_bind(mlxr_program *program, const mlxr_checkpoint *checkpoint,
                              const mlxr_family *family, const mlxr_config *config, mlxr_error *err);

typedef struct mlxr_model mlxr_model;

/* dir: a folder with config.json and *.safetensors. Missing, extra and misshapen tensors are all in one message;
 * an unknown model_type lists the known ones. */
mlxr_status mlxr_model_open(mlxr_model **out, const char *dir, mlxr_error *err);
/* The same from parts at hand. what: how messages call the config. On success both parts are the model's; on
 * failure they stay the caller's. */
mlxr_status mlxr_model_open_parts(mlxr_model **out, json_t *config, mlxr_checkpoint *checkpoint,
                                  const char *what, mlxr_error *err);
void mlxr_model_close(mlxr_model *m);
const mlxr_program *mlxr_model_program(const mlxr_model *m);       /* borrowed until close */
const mlxr_checkpoint *mlxr_model_checkpoint(const mlxr_model *m); /* borrowed until close */
const json_t *mlxr_model_config(const mlxr_model *m);              /* borrowed until close */

#endif
