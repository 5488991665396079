/* plan: what becomes of every weight of a model. Two programs of the same config.json stand side by side: one as the folder
 * has its tensors, bound, and one in mlx-lm's layout, which is what gets written. Their operations are the same, so weights
 * pair off by where they are used, and the operation says what a weight is: a matrix that may be quantized, or not.
 *
 * Private to the convert room. A plan is changed by one thread until it is complete, then threads share it. */
#ifndef MLXR_CONVERT_PLAN_H
#define MLXR_CONVERT_PLAN_H

#include "convert/convert.h"

/* One factor of a low-rank change in a tensor of the adapter: value(i, k) is element first + i * step + k * rank_step; i
 * counts rows or columns of the weight, k the rank. */
typedef struct mlxr_factor {
    const mlxr_tensor *tensor;
    size_t first, step, rank_step;
} mlxr_factor;

/* W + scale * left right, left [n_rows, rank], right [rank, n_cols]; then, with a magnitude [n_rows] (DoRA, arXiv
 * 2402.09353), each row scaled to be of that length. */
typedef struct mlxr_low_rank {
    size_t rank; /* 0: no change */
    mlxr_factor left, right;
    float scale;
    mlxr_dtype rounding; /* the type that scale * left and the product are rounded to */
    const mlxr_tensor *magnitude;
} mlxr_low_rank;

/* A weight of the model to be written. */
typedef struct mlxr_target {
    const mlxr_weight *w;    /* names and sizes there; not bound */
    const mlxr_weight *from; /* where its values are */
    /* Row i of a matrix is row first_row + i * row_step of the other, and so for columns: gate and up may lie in one. */
    size_t first_row, row_step, first_col, col_step;
    size_t n_rows;     /* of all matrices of a stack */
    bool is_matrix;    /* of a linear layer, an embedding or experts: may be quantized */
    bool is_embedding; /* the table of one */
    bool is_conv;      /* its tensor is [n_rows, n_cols, 1] */
    bool keeps_dtype;
    float add;        /* to every value: norms that one layout stores as w - 1 */
    mlxr_quant quant; /* as it is written */
    mlxr_dtype dtype; /* of values, or of scales and biases; what is dequantized or merged is rounded to it */
    const mlxr_tensor *whole; /* of an adapter: values that take the place of the weight's; NULL: none */
    mlxr_low_rank *low_rank;  /* [n_experts, or 1]; NULL: none. Owned by the plan */
} mlxr_target;

typedef struct mlxr_plan {
    const mlxr_model *model;
    const mlxr_family *family;
    mlxr_program *program; /* in mlx-lm's layout, unbound */
    mlxr_target *targets;
    size_t n;
    mlxr_quant base;      /* "quantization" of the new config.json; MLXR_QUANT_NONE: nothing is quantized */
    size_t n_requantized; /* matrices whose quantization is changed into another one */
    mlxr_arena arena;
} mlxr_plan;

/* what: how messages call the model. init to {0}; clear it also after a failure. */
mlxr_status mlxr_plan_init(mlxr_plan *plan, const mlxr_model *model, const char *what, mlxr_error *err);
/* Chooses quant and dtype of every target. */
void mlxr_plan_choose(mlxr_plan *plan, const mlxr_convert_options *options);
void mlxr_plan_clear(mlxr_plan *plan);
/* config.json of what is written: a new reference, NULL when out of memory. */
json_t *mlxr_plan_config(const mlxr_plan *plan, const mlxr_convert_options *options);

/* Reads an adapter's folder and sets whole and low_rank of the targets. Its tensors stay mapped until *out is closed, which the plan
 * must not outlive. Everything that does not fit is in one message. */
mlxr_status mlxr_adapter_open(mlxr_checkpoint **out, mlxr_plan *plan, const char *dir, const mlxr_log *log,
                              mlxr_error *err);
/* The same from parts at hand. peft: as PEFT names its tensors. */
mlxr_status mlxr_adapter_apply(mlxr_plan *plan, const mlxr_checkpoint *tensors, const json_t *config,
                               bool peft, const char *what, const mlxr_log *log, mlxr_error *err);

/* ---- rows.c ---- */

/* The factors of a target's changes as floats: left [n_rows, rank], times scale, and right [rank, n_cols], of each matrix. */
typedef struct mlxr_merge {
    struct mlxr_merge_part {
        float *left, *right, *magnitude; /* magnitude may be NULL */
    } * parts;
    size_t n;
} mlxr_merge;
mlxr_status mlxr_merge_init(mlxr_merge *m, const mlxr_target *t, mlxr_error *err);
void mlxr_merge_clear(mlxr_merge *m);

/* Bytes of a row's values or codes, and of its scales or biases (0 where there are none). */
size_t mlxr_target_row_bytes(const mlxr_target *t);
size_t mlxr_target_scale_bytes(const mlxr_target *t);
bool mlxr_target_has_biases(const mlxr_target *t);
/* Floats that mlxr_target_row wants as scratch. */
size_t mlxr_target_scratch(const mlxr_target *t);
/* Row i of n_rows as it is written. scales and biases may be NULL where the target has none. */
void mlxr_target_row(const mlxr_target *t, const mlxr_merge *merge, size_t i, void *values, void *scales,
                     void *biases, float *scratch);

/* ---- folder.c ---- */

/* Names of what was made in a folder, so that a failure leaves nothing behind. init to {0} */
typedef struct mlxr_made {
    char **paths;
    bool *are_dirs;
    size_t n, cap;
} mlxr_made;
mlxr_status mlxr_made_add(mlxr_made *made, const char *path, bool is_dir, mlxr_error *err);
void mlxr_made_remove(mlxr_made *made); /* from the disk, the last first */
void mlxr_made_clear(mlxr_made *made);
/* dir is made, and must be empty or absent. */
mlxr_status mlxr_new_folder(mlxr_made *made, const char *dir, mlxr_error *err);
/* Everything of a model folder but its weights, its config.json and hidden files. */
mlxr_status mlxr_copy_rest(mlxr_made *made, const char *from_dir, const char *dir, const volatile int *cancel,
                           mlxr_error *err);

/* mlxr_convert with shards of at most max_shard_bytes each; a matrix that is larger has one to itself. */
mlxr_status mlxr_convert_sharded(const char *from_dir, const char *dir, const mlxr_convert_options *options,
                                 uint64_t max_shard_bytes, mlxr_error *err);

#endif
