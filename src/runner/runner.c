/* runner: options, the choice of an adapter, one generate at a time, the cancel flag. */
#include "runner/runner.h"

#include <stdlib.h>

struct mlxr_runner {
    const mlxr_adapter *adapter;
    void *context;
    uint64_t load_ns;    /* told once, in the stats of the first request */
    volatile int cancel; /* atomic: set by any thread or a signal handler */
    int busy;            /* atomic */
};

mlxr_runner_options mlxr_runner_options_default(void)
{
    return (mlxr_runner_options){.adapter = "native", .device = "cpu", .precision = MLXR_PRECISION_DEFAULT};
}

mlxr_request mlxr_request_default(void)
{
    return (mlxr_request){
        .n_choices = 1, .max_tokens = -1, .sampling = mlxr_sampling_default(), .parallel_tool_calls = true};
}

const char *mlxr_part_name(mlxr_part part)
{
    switch (part) {
    case MLXR_PART_CONTENT: return "content";
    case MLXR_PART_THINKING: return "thinking";
    case MLXR_PART_TOOL_CALL: return "tool_call";
    }
    return "unknown";
}

const char *mlxr_done_reason_name(mlxr_done_reason reason)
{
    switch (reason) {
    case MLXR_DONE_STOP: return "stop";
    case MLXR_DONE_LENGTH: return "length";
    case MLXR_DONE_CANCELLED: return "cancelled";
    }
    return "unknown";
}

mlxr_status mlxr_runner_open_with(mlxr_runner **out, const mlxr_adapter *adapter, const char *model,
                                  const mlxr_runner_options *options, mlxr_error *err)
{
    uint64_t start = mlxr_now_ns();
    mlxr_runner *r = calloc(1, sizeof *r);
    mlxr_status st;

    *out = NULL;
    if (!r) return mlxr_fail_nomem(err, "runner");
    r->adapter = adapter;
    st = adapter->load(&r->context, model, options, err);
    if (st != MLXR_OK) {
        free(r);
        return st;
    }
    r->load_ns = mlxr_now_ns() - start;
    *out = r;
    return MLXR_OK;
}

mlxr_status mlxr_runner_open(mlxr_runner **out, const char *model, const mlxr_runner_options *options,
                             mlxr_error *err)
{
    static const mlxr_adapter *const adapters[] = {&mlxr_adapter_native, &mlxr_adapter_mock};
    mlxr_runner_options defaults = mlxr_runner_options_default();

    *out = NULL;
    if (!options) options = &defaults;
    for (size_t i = 0; i < MLXR_COUNT(adapters); i++)
        if (strcmp(options->adapter ? options->adapter : defaults.adapter, adapters[i]->name) == 0)
            return mlxr_runner_open_with(out, adapters[i], model, options, err);
    return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                     "runner: adapter \"%s\" is unknown, there are: native, mock", options->adapter);
}

void mlxr_runner_close(mlxr_runner *runner)
{
    if (!runner) return;
    runner->adapter->unload(runner->context);
    free(runner);
}

mlxr_status mlxr_runner_generate(mlxr_runner *runner, const mlxr_request *request, mlxr_on_event on_event,
                                 void *ud, mlxr_stats *stats, mlxr_error *err)
{
    uint64_t start = mlxr_now_ns();
    mlxr_stats local = {0};
    mlxr_status st;

    if (__atomic_exchange_n(&runner->busy, 1, __ATOMIC_ACQUIRE))
        return mlxr_fail(err, MLXR_E_BUSY, "runner: a request is running already");
    __atomic_store_n(&runner->cancel, 0, __ATOMIC_RELAXED);
    local.load_ns = runner->load_ns;
    runner->load_ns = 0;
    st = runner->adapter->generate(runner->context, request, &runner->cancel, on_event, ud, &local, err);
    if (st == MLXR_E_CANCELLED) local.done_reason = MLXR_DONE_CANCELLED;
    local.duration_ns = mlxr_now_ns() - start;
    if (stats) *stats = local;
    __atomic_store_n(&runner->busy, 0, __ATOMIC_RELEASE);
    return st;
}

void mlxr_runner_cancel(mlxr_runner *runner)
{
    if (runner) __atomic_store_n(&runner->cancel, 1, __ATOMIC_RELAXED);
}

const char *mlxr_runner_device_name(const mlxr_runner *runner)
{
    return runner->adapter->device_name(runner->context);
}

mlxr_engine *mlxr_runner_engine(mlxr_runner *runner)
{
    return runner->adapter->engine ? runner->adapter->engine(runner->context) : NULL;
}
