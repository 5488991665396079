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
    /* What the folder has, for families that come in more than one layout; NULL when it is not known, and then they take
     * mlx-lm's. */
    const mlxr_checkpoint *checkpoint;
    /* Weights by the names and in the layout that mlx-lm writes, whichever the checkpoint has: for whoever makes a model
     * of this one. What is a feature and not a layout (a head of its own, inputs by layer) still follows the checkpoint. */
    bool mlx_layout;
} mlxr_config;

/* One entry a model_type, in families/families.c. */
typedef struct mlxr_family {
    const char *model_type;
    mlxr_status (*build)(mlxr_program **out, const mlxr_config *config, mlxr_error *err);
    /* Whether a checkpoint tensor that the program does not want may be there all the same. NULL: none. Beside those,
     * "rotary_emb.inv_freq" always may, and "lm_head" where the embedding table serves for it. */
    bool (*may_ignore)(const mlxr_config *config, const char *tensor_name);
    /* How the names of modules end that mlx-lm quantizes to 8 bits in groups of 64, whatever the rest is quantized to;
     * NULL-terminated, or NULL for none. */
    const char *const *eight_bits;
} mlxr_family;
/* In the order of their names; NULL past the end. */
const mlxr_family *mlxr_family_at(size_t i);

/* Matches every weight of the program with a tensor and fills its mlxr_matrix: NAME.weight, and where config.json's
 * "quantization" says so NAME.scales and, for affine, NAME.biases. All missing, extra and misshapen tensors are in one
 * message. The checkpoint must outlive the program's use. */
mlxr_status mlxr_weights_bind(mlxr_program *program, const mlxr_checkpoint *checkpoint,
                              const mlxr_family *family, const mlxr_config *config, mlxr_error *err);

/* The same, with what does not fit counted and listed by kind, for whoever tells more than one line. Each list begins
 * with as many names as a message takes. Filled also when the call fails; clear it. */
typedef struct mlxr_misfit_list {
    size_t n;
    mlxr_buf text; /* "a, b, c and 7 more"; no data when n is 0 */
} mlxr_misfit_list;
typedef struct mlxr_misfits {
    mlxr_misfit_list missing, misshapen, extra;
} mlxr_misfits;
mlxr_status mlxr_weights_bind_listing(mlxr_misfits *misfits, mlxr_program *program,
                                      const mlxr_checkpoint *checkpoint, const mlxr_family *family,
                                      const mlxr_config *config, mlxr_error *err);
void mlxr_misfits_clear(mlxr_misfits *m);

/* config->model_type and the family that builds it; MLXR_E_UNSUPPORTED lists those there are. */
mlxr_status mlxr_family_find(const mlxr_family **out, mlxr_config *config, mlxr_error *err);

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
