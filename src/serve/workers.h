/* workers: threads for what a request needs that may take a while: templates, tokenizers, folders, pulls. They grow with the work up to
 * a limit and go when there is none; what is posted is begun in order. Any thread may post. */
#ifndef MLXR_SERVE_WORKERS_H
#define MLXR_SERVE_WORKERS_H

#include "base/base.h"

typedef struct mlxr_workers mlxr_workers;
mlxr_status mlxr_workers_create(mlxr_workers **out, size_t max_threads, mlxr_error *err);
/* Everything posted runs before it returns. */
void mlxr_workers_free(mlxr_workers *w);
/* false: out of memory, or no thread could be started and none runs. */
bool mlxr_workers_post(mlxr_workers *w, void (*fn)(void *ud), void *ud);

#endif
