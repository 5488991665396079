// What C sees of the module: a device's operations. Nothing is thrown past this file, and nothing of MLX is seen
// behind it.
#include "device/mlx/shim.hpp"

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <new>
#include <stdexcept>

namespace mlxr_mlx
{
const mlxr_mlx_host *host;

Failure::Failure(mlxr_status status, const char *fmt, ...) : status(status)
{
    char buf[1024];
    va_list ap;
    va_start(ap, fmt);
    if (std::vsnprintf(buf, sizeof buf, fmt, ap) < 0) buf[0] = '\0';
    va_end(ap);
    text = buf;
}

void Device::reserve(size_t n, const char *what) const
{
    size_t active = mx::get_active_memory();
    if (memory_limit && (active > memory_limit || n > memory_limit - active))
        throw Failure(MLXR_E_NOMEM, "%zu bytes for %s do not fit: %zu are in use, the limit is %zu", n, what,
                      active, memory_limit);
}

namespace
{
mlxr_status fail(mlxr_error *err, mlxr_status code, const char *text)
{
    if (!err) return code;
    err->code = code;
    std::snprintf(err->message, sizeof err->message, "device mlx: %s", text);
    for (char *p = err->message; *p; p++)
        if (*p == '\n' || *p == '\r') *p = ' ';
    return code;
}

// The border: whatever fn throws becomes a status.
template <typename F> mlxr_status guard(mlxr_error *err, F fn)
{
    try {
        return fn();
    } catch (const Failure &f) {
        return fail(err, f.status, f.what());
    } catch (const std::bad_alloc &) {
        return fail(err, MLXR_E_NOMEM, "out of memory");
    } catch (const std::length_error &) {
        return fail(err, MLXR_E_NOMEM, "out of memory");
    } catch (const std::exception &x) {
        return fail(err, MLXR_E_DEVICE, x.what());
    } catch (...) {
        return fail(err, MLXR_E_DEVICE, "MLX threw something that is no exception");
    }
}

template <typename F> void guard_quietly(F fn)
{
    try {
        fn();
    } catch (...) { // closing cannot fail, and nothing is left to tell it to
    }
}

void tell(const mlxr_log &log, mlxr_log_level level, const char *fmt, ...) MLXR_PRINTF(3, 4);
void tell(const mlxr_log &log, mlxr_log_level level, const char *fmt, ...)
{
    char buf[512];
    va_list ap;
    if (!log.fn) return;
    va_start(ap, fmt);
    if (std::vsnprintf(buf, sizeof buf, fmt, ap) < 0) buf[0] = '\0';
    va_end(ap);
    log.fn(level, buf, log.ud);
}

// ---- device ----

// MLX never ends a stream, and each has a thread or a queue of its own: those of closed devices are used again.
struct Streams {
    std::mutex lock;
    std::vector<mx::Stream> free;
};

Streams &streams()
{
    static Streams *s = new Streams; // outlives whatever closes a device at exit
    return *s;
}

mx::Stream take_stream(mx::Device d)
{
    std::lock_guard<std::mutex> hold(streams().lock);
    std::vector<mx::Stream> &free = streams().free;
    for (size_t i = 0; i < free.size(); i++) {
        if (free[i].device == d) {
            mx::Stream s = free[i];
            free.erase(free.begin() + (ptrdiff_t)i);
            return s;
        }
    }
    return mx::new_thread_unsafe_stream(d);
}

std::string text_of(const mx::Device &d, const char *key)
{
    const auto &info = mx::device_info(d);
    auto found = info.find(key);
    if (found == info.end() || !std::holds_alternative<std::string>(found->second)) return "";
    return std::get<std::string>(found->second);
}

size_t number_of(const mx::Device &d, const char *key)
{
    const auto &info = mx::device_info(d);
    auto found = info.find(key);
    if (found == info.end() || !std::holds_alternative<size_t>(found->second)) return 0;
    return std::get<size_t>(found->second);
}

mx::Device choose(const char *variant)
{
    bool gpu = mx::is_available(mx::Device(mx::Device::gpu));
    if (!variant || !*variant) return gpu ? mx::Device(mx::Device::gpu) : mx::Device(mx::Device::cpu);
    if (std::strcmp(variant, "cpu") == 0) return mx::Device(mx::Device::cpu);
    if (std::strcmp(variant, "gpu") != 0)
        throw Failure(MLXR_E_DEVICE, "\"%.32s\" is not known; there is: mlx, mlx:gpu, mlx:cpu", variant);
    if (!gpu) throw Failure(MLXR_E_DEVICE, "this MLX (%s) has no GPU; there is: mlx:cpu", mx::version());
    return mx::Device(mx::Device::gpu);
}

void describe_device(Device &d)
{
    std::string name = text_of(mx::Device(d.stream.device), "device_name");
    const char *words = d.precision == MLXR_PRECISION_EXACT ? "float32" : "the model's precision";
    std::snprintf(d.description, sizeof d.description, "mlx %s, %s%s%.60s%s, %s", mx::version(),
                  d.gpu() ? "gpu" : "cpu", name.empty() ? "" : " (", name.c_str(), name.empty() ? "" : ")",
                  words);
}

mlxr_status open(mlxr_device **out, const mlxr_device_options *options, mlxr_error *err);

void close(mlxr_device *base)
{
    Device *d = static_cast<Device *>(base);
    guard_quietly([&] {
        if (d->memory_limit) mx::set_memory_limit(d->former_limit);
        mx::clear_cache();
        std::lock_guard<std::mutex> hold(streams().lock);
        streams().free.push_back(d->stream);
    });
    delete d;
}

// ---- executable ----

void executable_free(mlxr_executable *base)
{
    Executable *e = static_cast<Executable *>(base);
    guard_quietly([&] { mx::synchronize(e->dev().stream); });
    delete e;
    guard_quietly([] { mx::clear_cache(); });
}

void measure(Executable &e, const mlxr_program *p)
{
    size_t values = 0;
    for (size_t i = 0; i < p->n_slots; i++) {
        const mlxr_slot &sl = p->slots[i];
        size_t floats;
        if (sl.kind != MLXR_SLOT_KV) continue;
        if (!mlxr_mul_size(&floats, sl.n_kv_heads, sl.k_head_dim + sl.v_head_dim) ||
            !mlxr_add_size(&values, values, floats))
            throw std::bad_alloc();
    }
    if (!mlxr_mul_size(&e.block_bytes, values, MLXR_KV_BLOCK * mx::size_of(e.type))) throw std::bad_alloc();
    for (size_t i = 0; i < p->n_ops; i++)
        if (p->ops[i].kind == MLXR_OP_ATTEND || p->ops[i].kind == MLXR_OP_SHORT_CONV ||
            p->ops[i].kind == MLXR_OP_GATED_DELTA)
            e.i_tail = i + 1;
}

// What it refuses is named: "operation 16 (ACT_MUL, layer 0): ...".
Prepared prepare(const Executable &e, size_t i)
{
#define MLXR_OP_NAME(name, text) #name,
    static const char *const names[] = {MLXR_OP_LIST(MLXR_OP_NAME)};
#undef MLXR_OP_NAME
    const mlxr_op &op = e.program->ops[i];
    try {
        return Step::prepare(e, op);
    } catch (const Failure &f) {
        throw Failure(f.status, "operation %zu (%s, layer %d): %s", i,
                      (unsigned)op.kind < MLXR_OP_COUNT ? names[op.kind] : "unknown", (int)op.i_layer,
                      f.what());
    }
}

mlxr_status compile(mlxr_executable **out, mlxr_device *base, const mlxr_program *p, mlxr_error *err)
{
    *out = nullptr;
    return guard(err, [&] {
        Device &d = *static_cast<Device *>(base);
        auto e = std::make_unique<Executable>();
        size_t before = mx::get_active_memory();
        e->device = base;
        e->program = p;
        if (d.precision == MLXR_PRECISION_FAST) e->type = checkpoint_type(p);
        measure(*e, p);
        e->weights = upload(*e, p);
        for (size_t i = 0; i < p->n_ops; i++) e->prepared.push_back(prepare(*e, i));
        mx::clear_cache(); // what the weights came through
        tell(d.log, MLXR_LOG_INFO, "device mlx: %.1f MB of weights in %s",
             (double)(mx::get_active_memory() - before) / 1e6,
             e->type == mx::float32   ? "float32"
             : e->type == mx::float16 ? "float16"
                                      : "bfloat16");
        *out = e.release();
        return MLXR_OK;
    });
}

size_t block_bytes(const mlxr_executable *e)
{
    return static_cast<const Executable *>(e)->block_bytes;
}

// ---- state ----

// Arrays come with the sequences that need them; the blocks only bound what the engine lets run.
mlxr_status state_create(mlxr_state **out, mlxr_executable *base, size_t n_blocks, size_t n_sequences,
                         mlxr_error *err)
{
    *out = nullptr;
    return guard(err, [&] {
        const Executable &e = *static_cast<Executable *>(base);
        // Not that of our options: it bounds what is used, not what could be.
        size_t bytes, limit = e.dev().memory_limit ? e.dev().former_limit : mx::get_memory_limit();
        if (!mlxr_mul_size(&bytes, n_blocks, e.block_bytes) || bytes > limit)
            throw Failure(MLXR_E_NOMEM,
                          "%zu blocks of %zu bytes of keys and values are above MLX's memory limit of %zu",
                          n_blocks, e.block_bytes, limit);
        auto st = std::make_unique<State>();
        st->sequences.resize(n_sequences);
        for (Sequence &q : st->sequences) {
            q.caches.resize(base->program->n_slots);
            for (auto &version : q.recurrent) version.resize(base->program->n_slots);
        }
        *out = st.release();
        return MLXR_OK;
    });
}

void state_free(mlxr_state *base)
{
    State *st = static_cast<State *>(base);
    guard_quietly([&] { mx::synchronize(static_cast<Device *>(base->executable->device)->stream); });
    delete st;
    guard_quietly([] { mx::clear_cache(); });
}

mlxr_status run(mlxr_executable *e, mlxr_state *s, const mlxr_batch *batch, const volatile int *cancel,
                float *logits, mlxr_error *err)
{
    return guard(err, [&] {
        return run_batch(*static_cast<Executable *>(e), *static_cast<State *>(s), batch, cancel, logits);
    });
}

const mlxr_device_ops ops = {
    "mlx",
    open,
    close,
    compile,
    executable_free,
    block_bytes,
    state_create,
    state_free,
    run,
    nullptr,
    true,
    // A sequence has arrays of its own: there are no blocks to share.
    nullptr,
    nullptr,
    nullptr,
};

mlxr_status open(mlxr_device **out, const mlxr_device_options *options, mlxr_error *err)
{
    *out = nullptr;
    return guard(err, [&] {
        mx::Device chosen = choose(options->variant);
        auto d = std::make_unique<Device>(take_stream(chosen));
        d->ops = &ops;
        d->precision = options->precision;
        if (d->precision == MLXR_PRECISION_DEFAULT)
            d->precision = d->gpu() ? MLXR_PRECISION_FAST : MLXR_PRECISION_EXACT;
        d->log = options->log;
        d->ahead = options->ahead == MLXR_AHEAD_ON || (options->ahead == MLXR_AHEAD_DEFAULT && d->gpu());
        d->preferred_tokens_per_step = d->gpu() ? 2048 : 0;
        if (options->memory_limit_bytes) {
            d->memory_limit = options->memory_limit_bytes;
            d->former_limit = mx::set_memory_limit(d->memory_limit);
        }
        describe_device(*d);
        *out = d.release();
        return MLXR_OK;
    });
}

// ---- for mlxctl doctor ----

bool describe(char *text, size_t n_text)
{
    mlxr_error err;
    mlxr_status st = guard(&err, [&] {
        std::string line = std::string("MLX ") + mx::version();
        for (auto type : {mx::Device::gpu, mx::Device::cpu}) {
            for (int i = 0; i < mx::device_count(type); i++) {
                mx::Device d(type, i);
                char part[256];
                std::string name = text_of(d, "device_name");
                size_t memory = number_of(d, "memory_size");
                if (!memory) memory = number_of(d, "total_memory");
                std::snprintf(part, sizeof part, "; %s%s%s", type == mx::Device::gpu ? "gpu" : "cpu",
                              name.empty() ? "" : " ", name.c_str());
                line += part;
                if (memory) {
                    std::snprintf(part, sizeof part, " with %.1f GB", (double)memory / 1e9);
                    line += part;
                }
            }
        }
        std::snprintf(text, n_text, "%s", line.c_str());
        return MLXR_OK;
    });
    if (st != MLXR_OK) std::snprintf(text, n_text, "%s", err.message);
    return st == MLXR_OK;
}

void memory(size_t *active, size_t *cached)
{
    *active = *cached = 0;
    guard_quietly([&] {
        *active = mx::get_active_memory();
        *cached = mx::get_cache_memory();
    });
}
} // namespace
} // namespace mlxr_mlx

extern "C" const mlxr_mlx_module *mlxr_mlx_module_get(const mlxr_mlx_host *host)
{
    mlxr_mlx::host = host;
    static const mlxr_mlx_module module = {mlxr_mlx_fingerprint(), &mlxr_mlx::ops, mlxr_mlx::describe,
                                           mlxr_mlx::memory};
    return &module;
}
