/* metrics: counts of what the server did, in Prometheus' text form (https://prometheus.io/docs/instrumenting/exposition_formats/).
 * Locked inside; any thread. docs/operations.md lists the names.
 *
 * Labels come of tables of the server, but for names of models: the first MLXR_METRICS_MODELS that answered have their own, the others
 * share "other". */
#ifndef MLXR_SERVE_METRICS_H
#define MLXR_SERVE_METRICS_H

#include "serve/record.h"

typedef struct mlxr_serve mlxr_serve;
typedef struct mlxr_metrics mlxr_metrics;

enum { MLXR_METRICS_MODELS = 32 };

mlxr_status mlxr_metrics_create(mlxr_metrics **out, mlxr_error *err);
void mlxr_metrics_free(mlxr_metrics *m);
/* A request is over. */
void mlxr_metrics_add(mlxr_metrics *m, const mlxr_record *r, const char *method, int status, uint64_t n_sent,
                      uint64_t duration_ns, bool complete);
/* The whole text, with gauges of the server, the loaded models and the process as they are now. */
void mlxr_metrics_write(mlxr_buf *out, mlxr_metrics *m, mlxr_serve *s);

#endif
