// A program's weights as MLX arrays: copied from the mapped file once, in the type that the operations compute in.
#include "device/mlx/shim.hpp"

#include <cstdlib>
#include <cstring>

namespace mlxr_mlx
{
namespace
{
// What weights pass through on their way to a GPU, before MLX is asked to give it back.
constexpr size_t staging_bytes = (size_t)1 << 30;

mx::Dtype dtype_of(mlxr_dtype t)
{
    switch (t) {
    case MLXR_F32: return mx::float32;
    case MLXR_F16: return mx::float16;
    case MLXR_BF16: return mx::bfloat16;
    case MLXR_U8: return mx::uint8;
    default: throw Failure(MLXR_E_UNSUPPORTED, "a weight of element type %d is not supported", (int)t);
    }
}

// MLX's CPU allocator hands out a null buffer when there is no memory, and its kernels then write to it.
void check_memory(size_t n)
{
    void *p;
    if (n < (1u << 20)) return;
    p = std::malloc(n);
    if (!p) throw std::bad_alloc();
    std::free(p);
}

mx::array uninitialized(mx::Shape shape, mx::Dtype type, size_t n_bytes)
{
    check_memory(n_bytes);
    return mx::array(mx::allocator::malloc(n_bytes), std::move(shape), type);
}

void evaluate(std::optional<mx::array> &a)
{
    if (a) a->eval();
}

// What host memory filled, in the GPU's own. MLX keeps an array that the host has touched in memory that both sides
// see; an operation's result is the GPU's alone.
mx::array settle(const mx::array &host, const Device &d)
{
    mx::Dtype bits = host.itemsize() == 4 ? mx::uint32 : host.itemsize() == 2 ? mx::uint16 : mx::uint8;
    if (!d.gpu()) return host;
    mx::array same = mx::view(mx::bitwise_or(mx::view(host, bits, d.stream), mx::array(0, bits), d.stream),
                              host.dtype(), d.stream);
    same.eval(); // while `host` is held, so that the result does not take its buffer
    if (mx::get_cache_memory() > staging_bytes) mx::clear_cache();
    return same;
}

// The parts of a matrix or of a stack's matrices: `part` gives each one's bytes.
template <typename Part>
std::optional<mx::array> gather(const mlxr_weight &w, mx::Shape shape, mx::Dtype type, size_t n_bytes,
                                const Device &d, Part part)
{
    size_t n = w.n_experts ? w.n_experts : 1, total;
    if (!part(w.m)) return std::nullopt;
    if (w.n_experts) shape.insert(shape.begin(), as_int(w.n_experts));
    if (!mlxr_mul_size(&total, n, n_bytes)) throw std::bad_alloc();
    d.reserve(total, w.name);
    mx::array a = uninitialized(shape, type, total);
    for (size_t i = 0; i < n; i++)
        std::memcpy(a.data<uint8_t>() + i * n_bytes, part(w.n_experts ? w.experts[i] : w.m), n_bytes);
    return settle(a, d);
}

size_t codes_words(const mlxr_weight &w)
{
    return w.n_cols * w.m.quant.bits / 32;
}

// nvfp4's scale of a whole matrix: MLX multiplies the block scales by it over the largest value that one can have.
void upload_factor(Weight &out, const mlxr_weight &w)
{
    constexpr float largest = 2688; // 6 * 448
    size_t n = w.n_experts ? w.n_experts : 1;
    std::vector<float> factors;
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        float g = (w.n_experts ? w.experts[i] : w.m).global_scale;
        any = any || g != 0;
        factors.push_back(g != 0 ? g / largest : 1);
    }
    if (any) out.factor = from_floats(factors.data(), n);
}

Weight upload_one(const mlxr_weight &w, mx::Dtype type, const Device &d)
{
    const mlxr_matrix &m = w.m;
    Weight out;
    int rows = as_int(w.n_rows), cols = as_int(w.n_cols);

    out.quant = m.quant;
    if (m.quant.mode != MLXR_QUANT_NONE && (!host->quant_supported(m.quant) || !m.scales))
        throw Failure(MLXR_E_UNSUPPORTED, "%s%s: its quantization is not supported", w.name, w.suffix);
    if (w.n_experts && mlxr_stack_unlike(&w) < w.n_experts)
        throw Failure(MLXR_E_UNSUPPORTED, "%s%s: expert %zu is stored otherwise than expert 0", w.name,
                      w.suffix, mlxr_stack_unlike(&w));
    if (m.quant.mode == MLXR_QUANT_NONE) {
        mx::Dtype stored = dtype_of(m.dtype);
        out.data = gather(w, w.is_vector ? mx::Shape{cols} : mx::Shape{rows, cols}, stored,
                          w.n_rows * w.n_cols * mx::size_of(stored), d,
                          [](const mlxr_matrix &x) { return x.data; });
        out.data = mx::astype(*out.data, type, d.stream);
    } else {
        mx::Dtype stored = dtype_of(m.dtype);
        int groups = as_int(w.n_cols / m.quant.group_size);
        size_t scale_bytes = w.n_rows * (w.n_cols / m.quant.group_size) * mx::size_of(stored);
        out.data = gather(w, {rows, as_int(codes_words(w))}, mx::uint32, w.n_rows * codes_words(w) * 4, d,
                          [](const mlxr_matrix &x) { return x.data; });
        out.scales = gather(w, {rows, groups}, stored, scale_bytes, d,
                            [](const mlxr_matrix &x) { return x.scales; });
        out.biases = gather(w, {rows, groups}, stored, scale_bytes, d,
                            [](const mlxr_matrix &x) { return x.biases; });
        if (m.quant.mode == MLXR_QUANT_AFFINE) {
            out.scales = mx::astype(*out.scales, type, d.stream);
            out.biases = mx::astype(*out.biases, type, d.stream);
        } else {
            upload_factor(out, w);
        }
    }
    evaluate(out.data);
    evaluate(out.scales);
    evaluate(out.biases);
    return out;
}
} // namespace

mx::array from_bytes(const void *data, mx::Shape shape, mx::Dtype type)
{
    size_t n = mx::size_of(type);
    for (int d : shape) n *= (size_t)d;
    mx::array a = uninitialized(std::move(shape), type, n);
    std::memcpy(a.data<uint8_t>(), data, n);
    return a;
}

mx::array from_floats(const float *v, size_t n)
{
    return from_bytes(v, {as_int(n)}, mx::float32);
}

// mlx-lm runs a model in the type of its checkpoint: that of the embedding, or of its scales. Scales of one byte say
// nothing: then that of the first vector.
mx::Dtype checkpoint_type(const mlxr_program *p)
{
    for (size_t i = 0; i < p->n_ops; i++) {
        const mlxr_op &op = p->ops[i];
        if (op.weight == MLXR_NONE) continue;
        const mlxr_matrix &m = p->weights[op.weight].m;
        if (op.kind != MLXR_OP_EMBED && op.kind != MLXR_OP_RMS_NORM && op.kind != MLXR_OP_LAYER_NORM)
            continue;
        if (m.quant.mode == MLXR_QUANT_NONE || m.quant.mode == MLXR_QUANT_AFFINE) return dtype_of(m.dtype);
    }
    return mx::float32;
}

std::vector<Weight> upload(const Executable &e, const mlxr_program *p)
{
    std::vector<mx::Dtype> types(p->n_weights, e.type);
    std::vector<Weight> out;

    // A delta rule's decay is an exponential of an exponential: float32 always, as its state.
    for (size_t i = 0; i < p->n_ops; i++)
        if (p->ops[i].kind == MLXR_OP_GATED_DELTA)
            types[p->ops[i].weight] = types[p->ops[i].bias] = mx::float32;
    // MLX's CPU has gather_mm for float32 alone.
    for (size_t i = 0; i < p->n_weights; i++)
        if (p->weights[i].n_experts && p->weights[i].m.quant.mode == MLXR_QUANT_NONE && !e.dev().gpu())
            types[i] = mx::float32;
    out.reserve(p->n_weights);
    for (size_t i = 0; i < p->n_weights; i++) {
        try {
            out.push_back(upload_one(p->weights[i], types[i], e.dev()));
        } catch (const std::bad_alloc &) {
            throw Failure(MLXR_E_NOMEM, "out of memory for %s%s", p->weights[i].name, p->weights[i].suffix);
        }
    }
    return out;
}
} // namespace mlxr_mlx
