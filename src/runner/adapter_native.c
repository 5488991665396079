/* adapter_native: a model folder through an engine of its own, one request at a time. */
#include <stdlib.h>

#include "runner/runner.h"

static void native_unload(void *context)
{
    mlxr_engine_close(context);
}

static mlxr_status native_load(void **context, const char *model, const mlxr_runner_options *options,
                               mlxr_error *err)
{
    mlxr_engine_options o = mlxr_engine_options_default();
    mlxr_engine *engine;
    mlxr_status st;

    o.device = options->device;
    o.isa = options->isa;
    o.mlx_library = options->mlx_library;
    o.memory_limit_bytes = options->memory_limit_bytes;
    o.precision = options->precision;
    o.kv_type = options->kv_type;
    o.n_threads = options->n_threads;
    o.context_length = options->context_length;
    o.cache_dir = options->cache_dir;
    o.log = options->log;
    o.progress = options->progress;
    st = mlxr_engine_open(&engine, model, &o, err);
    *context = engine;
    return st;
}

/* Events are the caller's thread's, and so is looking at the flag; a signal handler set it, perhaps, that no engine knows
 * of. */
enum { LOOK_EVERY_MS = 10 };

static mlxr_status native_generate(void *context, const mlxr_request *request, const volatile int *cancel,
                                   mlxr_on_event on_event, void *ud, mlxr_stats *stats, mlxr_error *err)
{
    mlxr_generation *g;
    mlxr_event ev;
    mlxr_stats completed_stats;
    uint64_t load_ns = stats->load_ns; /* the runner's, who tells it once */
    bool cancelled = false, completed = false;
    mlxr_status st = mlxr_engine_submit(&g, context, request, NULL, NULL, err);

    if (st != MLXR_OK) return st;
    while (!mlxr_generation_ended(g)) {
        if (mlxr_cancelled(cancel) && !cancelled) {
            mlxr_generation_cancel(g);
            cancelled = true;
        }
        /* A caller that cancelled wants to hear no more, whatever was under way. */
        if (!mlxr_generation_next(g, LOOK_EVERY_MS, &ev) || ev.type == MLXR_EVENT_FAILED ||
            mlxr_cancelled(cancel))
            continue;
        completed |= ev.type == MLXR_EVENT_COMPLETED;
        if (ev.stats) {
            completed_stats = *ev.stats;
            completed_stats.load_ns = load_ns;
            ev.stats = &completed_stats;
        }
        if (on_event) on_event(&ev, ud);
    }
    st = mlxr_generation_wait(g, stats, err);
    mlxr_generation_free(g);
    stats->load_ns = load_ns;
    if (st == MLXR_OK && !completed) st = mlxr_fail(err, MLXR_E_CANCELLED, "engine: cancelled");
    return st;
}

static const char *native_device_name(const void *context)
{
    return mlxr_engine_get_info(context).device_name;
}

static mlxr_engine *native_engine(void *context)
{
    return context;
}

const mlxr_adapter mlxr_adapter_native = {.name = "native",
                                          .load = native_load,
                                          .generate = native_generate,
                                          .device_name = native_device_name,
                                          .engine = native_engine,
                                          .unload = native_unload};
