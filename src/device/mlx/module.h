/* The border between mlxr and its MLX module: one C function of a shared object that is opened at run time, so that
 * programs start and run where MLX is not. The module is the only C++ of the tree; no type of MLX and no exception
 * passes here. Both sides are built from the same source: the fingerprint tells when they were not. */
#ifndef MLXR_MLX_MODULE_H
#define MLXR_MLX_MODULE_H

#include "device/device.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mlxr_mlx_module {
    uint64_t fingerprint;
    const mlxr_device_ops *ops;
    /* One line about MLX: its version, its devices, their memory. false: MLX failed, and the line says how. */
    bool (*describe)(char *text, size_t n_text);
    /* Bytes that MLX's arrays use now, and those it keeps for reuse. */
    void (*memory)(size_t *active, size_t *cached);
} mlxr_mlx_module;

/* What the module takes from the library: it is not linked with it. */
typedef struct mlxr_mlx_host {
    /* of format/quant.h */
    bool (*quant_supported)(mlxr_quant q);
    /* mlxr_rope_frequencies_at of model/rope.h */
    void (*rope_frequencies_at)(float *inv_freq, size_t n_rot, float theta, float factor, size_t context,
                                size_t position);
} mlxr_mlx_host;

/* Of the structs that both sides read. */
static inline uint64_t mlxr_mlx_fingerprint(void)
{
    const size_t sizes[] = {sizeof(mlxr_mlx_module), sizeof(mlxr_mlx_host),
                            sizeof(mlxr_device_ops), sizeof(mlxr_device_options),
                            sizeof(mlxr_device),     sizeof(mlxr_executable),
                            sizeof(mlxr_state),      sizeof(mlxr_batch),
                            sizeof(mlxr_program),    sizeof(mlxr_op),
                            sizeof(mlxr_weight),     sizeof(mlxr_slot),
                            sizeof(mlxr_matrix),     sizeof(mlxr_error),
                            MLXR_OP_COUNT,           MLXR_STATUS_COUNT};
    uint64_t h = 2; /* goes up when the same sizes mean another thing */

    for (size_t i = 0; i < MLXR_COUNT(sizes); i++) h = h * 1000003 + sizes[i];
    return h;
}

/* The module's one symbol. Borrowed for as long as the module is loaded; the host is borrowed as long. */
#define MLXR_MLX_SYMBOL "mlxr_mlx_module_get"
__attribute__((visibility("default"))) const mlxr_mlx_module *mlxr_mlx_module_get(const mlxr_mlx_host *host);

#ifdef __cplusplus
}
#endif

#endif
