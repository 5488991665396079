/* engine_plan: what an engine will take of memory, from the headers of its files. */
#include "device/memory.h"
#include "runner/engine_api.h"

/* Where it is cheap to ask, the device says how it lays keys and values out; MLX starts much more than that, and is taken for one
 * that keeps all in float32. */
static mlxr_status ask_device(mlxr_memory *out, const mlxr_program *p, uint64_t weight_bytes,
                              const mlxr_memory_request *request, const mlxr_engine_options *options,
                              mlxr_error *err)
{
    const char *name = options->device ? options->device : "cpu";
    mlxr_device_options device_options = {
        .precision = options->precision, .kv_type = options->kv_type, .n_threads = 1, .isa = options->isa};
    mlxr_device *device = NULL;
    mlxr_executable *executable = NULL;
    mlxr_status st = MLXR_OK;

    if (strncmp(name, "mlx", 3) != 0) {
        if ((st = mlxr_device_open(&device, name, &device_options, err)) != MLXR_OK) goto done;
        if ((st = mlxr_device_compile(&executable, device, p, err)) != MLXR_OK) goto done;
    }
    st = mlxr_memory_plan(out, p, executable, weight_bytes, request, err);
done:
    mlxr_executable_free(executable);
    mlxr_device_close(device);
    return st;
}

mlxr_status mlxr_engine_plan(mlxr_engine_memory *out, const char *model_dir,
                             const mlxr_engine_options *options, size_t context_length,
                             uint64_t most_kv_bytes, mlxr_error *err)
{
    const mlxr_program *p;
    mlxr_memory_request request = mlxr_memory_request_default(0);
    mlxr_settings settings = {0};
    mlxr_model *model = NULL;
    mlxr_memory m = {0};
    uint64_t n_blocks, wanted, kv_bytes;
    mlxr_status st;

    *out = (mlxr_engine_memory){0};
    if ((st = mlxr_settings_read(&settings, model_dir, err)) != MLXR_OK) goto done;
    if ((st = mlxr_model_open(&model, model_dir, err)) != MLXR_OK) goto done;
    p = mlxr_model_program(model);
    if (!context_length) context_length = settings.context_length;
    if (!context_length) context_length = options->context_length;
    if (!context_length)
        context_length = p->context_length < MLXR_DEFAULT_CONTEXT ? p->context_length : MLXR_DEFAULT_CONTEXT;
    if (context_length > p->context_length) context_length = p->context_length;

    request.n_sequences = options->max_sequences;
    st = ask_device(&m, p, mlxr_checkpoint_bytes(mlxr_model_checkpoint(model)), &request, options, err);
    if (st != MLXR_OK) goto done;
    /* One context at the least; several where they are cheap: answers are mostly far shorter. */
    n_blocks = context_length / MLXR_KV_BLOCK + (context_length % MLXR_KV_BLOCK != 0);
    if (__builtin_mul_overflow(n_blocks, m.block_bytes, &kv_bytes)) {
        st = mlxr_fail(err, MLXR_E_LIMIT, "model %s: a context of %zu tokens takes more than can be counted",
                       model_dir, context_length);
        goto done;
    }
    if (options->kv_bytes) {
        kv_bytes = options->kv_bytes;
    } else {
        wanted = (uint64_t)MLXR_ENGINE_PLAN_TOKENS / MLXR_KV_BLOCK * m.block_bytes;
        if (wanted > most_kv_bytes)
            wanted = most_kv_bytes / (m.block_bytes ? m.block_bytes : 1) * m.block_bytes;
        if (wanted > kv_bytes) kv_bytes = wanted;
    }
    out->context_length = context_length;
    out->weight_bytes = m.weight_bytes;
    out->kv_bytes = kv_bytes;
    out->scratch_bytes = m.states_bytes + m.activation_bytes;
    if (__builtin_add_overflow(m.weight_bytes, kv_bytes, &out->total_bytes) ||
        __builtin_add_overflow(out->total_bytes, out->scratch_bytes, &out->total_bytes))
        st = mlxr_fail(err, MLXR_E_LIMIT, "model %s takes more than can be counted", model_dir);
done:
    mlxr_model_close(model);
    mlxr_settings_clear(&settings);
    return st;
}
