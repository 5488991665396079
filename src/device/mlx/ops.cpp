// Operations on rows, and which function runs which kind.
#include "device/mlx/shim.hpp"

#include <cmath>

namespace mlxr_mlx
{
namespace
{
// MLX's name of a quantization.
const char *mode_name(mlxr_quant_mode m)
{
    switch (m) {
    case MLXR_QUANT_AFFINE: return "affine";
    case MLXR_QUANT_MXFP4: return "mxfp4";
    case MLXR_QUANT_NVFP4: return "nvfp4";
    case MLXR_QUANT_MXFP8: return "mxfp8";
    default: throw Failure(MLXR_E_UNSUPPORTED, "quantization mode %d is not supported", (int)m);
    }
}

mx::array gelu_tanh(const mx::array &x, const mx::Stream &s)
{
    mx::Dtype t = x.dtype();
    auto c = [&](double v) { return mx::array(v, t); };
    mx::array cube = mx::multiply(mx::multiply(x, x, s), x, s);
    mx::array inner = mx::multiply(c(std::sqrt(2 / M_PI)), mx::add(x, mx::multiply(c(0.044715), cube, s), s),
                                   s);
    return mx::multiply(mx::multiply(c(0.5), x, s), mx::add(c(1), mx::tanh(inner, s), s), s);
}

mx::array swiglu_oai(const mx::array &a, const mx::array &b, float alpha, float limit, const mx::Stream &s)
{
    mx::Dtype t = a.dtype();
    mx::array g = mx::minimum(a, mx::array(limit, t), s);
    mx::array u = mx::clip(b, mx::array(-limit, t), mx::array(limit, t), s);
    return mx::multiply(mx::add(u, mx::array(1, t), s),
                        mx::multiply(g, mx::sigmoid(mx::multiply(mx::array(alpha, t), g, s), s), s), s);
}

mx::array gate_plain(mlxr_act act, float alpha, float limit, const mx::array &a, const mx::array *b,
                     const mx::Stream &s)
{
    if (act == MLXR_ACT_SWIGLU_OAI) return swiglu_oai(a, *b, alpha, limit, s);
    mx::array x = activate(act, a, s);
    return b ? mx::multiply(x, *b, s) : x;
}
} // namespace

mx::array activate(mlxr_act act, const mx::array &x, const mx::Stream &s)
{
    mx::Dtype t = x.dtype();
    switch (act) {
    case MLXR_ACT_NONE: return x;
    case MLXR_ACT_SILU: return mx::multiply(x, mx::sigmoid(x, s), s);
    case MLXR_ACT_GELU:
        return mx::multiply(
            mx::multiply(mx::array(0.5, t), x, s),
            mx::add(mx::array(1, t), mx::erf(mx::multiply(x, mx::array(M_SQRT1_2, t), s), s), s), s);
    case MLXR_ACT_GELU_TANH: return gelu_tanh(x, s);
    case MLXR_ACT_SIGMOID: return mx::sigmoid(x, s);
    default: throw Failure(MLXR_E_UNSUPPORTED, "activation %d is not supported", (int)act);
    }
}

// MLX compiles a CPU's function with the system's C++ compiler, which need not be there: on GPUs alone.
Compiled fuse(mlxr_act act, float alpha, float limit, bool two, const Device &d)
{
    mx::Stream s = d.stream;
    if (!d.gpu() || (act == MLXR_ACT_NONE && !two)) return {};
    return mx::compile(Compiled([=](const std::vector<mx::array> &in) {
                           return std::vector<mx::array>{
                               gate_plain(act, alpha, limit, in[0], two ? &in[1] : nullptr, s)};
                       }),
                       true);
}

mx::array gate(mlxr_act act, float alpha, float limit, const mx::array &a, const mx::array *b,
               const Prepared &prep, const mx::Stream &s)
{
    if (!prep.fused) return gate_plain(act, alpha, limit, a, b, s);
    return prep.fused(b ? std::vector<mx::array>{a, *b} : std::vector<mx::array>{a})[0];
}

void Step::embed(const mlxr_op &op, const Prepared &)
{
    const Weight &w = e.weights[op.weight];
    mx::array out = mx::take(*w.data, ids, 0, s);
    if (w.quantized()) {
        std::optional<mx::array> biases;
        if (w.biases) biases = mx::take(*w.biases, ids, 0, s);
        out = mx::dequantize(out, mx::take(*w.scales, ids, 0, s), biases, (int)w.quant.group_size,
                             (int)w.quant.bits, mode_name(w.quant.mode), std::nullopt, type, s);
        if (w.factor) out = mx::multiply(out, mx::astype(*w.factor, type, s), s);
    }
    if (op.u.embed.scale != 1) out = mx::multiply(out, scalar(op.u.embed.scale), s);
    set(op.dst, out);
}

void Step::linear(const mlxr_op &op, const Prepared &)
{
    const Weight &w = e.weights[op.weight];
    const std::optional<mx::array> *bias = op.bias == MLXR_NONE ? nullptr : &e.weights[op.bias].data;
    mx::array x = rows(op.a);

    if (w.quantized()) {
        mx::array y = mx::quantized_matmul(x, *w.data, *w.scales, w.biases, true, (int)w.quant.group_size,
                                           (int)w.quant.bits, mode_name(w.quant.mode), s);
        if (w.factor) y = mx::multiply(y, mx::astype(*w.factor, type, s), s);
        set(op.dst, bias ? mx::add(y, **bias, s) : y);
    } else if (bias) {
        set(op.dst, mx::addmm(**bias, x, mx::transpose(*w.data, s), 1, 1, s));
    } else {
        set(op.dst, mx::matmul(x, mx::transpose(*w.data, s), s));
    }
}

// x [n, width of a register] as [n, runs, width], so that the last axis is what an operation works on.
static mx::array apart(const mx::array &x, size_t width, const mx::Stream &s)
{
    if ((size_t)x.shape(-1) == width) return x;
    return mx::reshape(x, {x.shape(0), x.shape(-1) / (int)width, (int)width}, s);
}

static mx::array together(const mx::array &x, const mx::Stream &s)
{
    return x.ndim() == 2 ? x : mx::flatten(x, 1, -1, s);
}

// A weight as wide as the register has values of its own for every run: it multiplies what is normalized.
void Step::rms_norm(const mlxr_op &op, const Prepared &prep)
{
    mx::array x = apart(rows(op.a), op.u.norm.width, s);
    if (prep.vector && prep.vector->size() != op.u.norm.width) {
        mx::array y = together(mx::fast::rms_norm(x, std::nullopt, op.u.norm.eps, s), s);
        set(op.dst, mx::multiply(y, *prep.vector, s));
    } else {
        set(op.dst, together(mx::fast::rms_norm(x, prep.vector, op.u.norm.eps, s), s));
    }
}

void Step::layer_norm(const mlxr_op &op, const Prepared &)
{
    mx::array x = apart(rows(op.a), op.u.norm.width, s);
    std::optional<mx::array> weight = e.weights[op.weight].data, bias;
    if (op.bias != MLXR_NONE) bias = e.weights[op.bias].data;
    if (weight->size() != op.u.norm.width) {
        mx::array y = together(mx::fast::layer_norm(x, std::nullopt, std::nullopt, op.u.norm.eps, s), s);
        y = mx::multiply(y, *weight, s);
        set(op.dst, bias ? mx::add(y, *bias, s) : y);
    } else {
        set(op.dst, together(mx::fast::layer_norm(x, weight, bias, op.u.norm.eps, s), s));
    }
}

void Step::act_mul(const mlxr_op &op, const Prepared &prep)
{
    mx::array a = rows(op.a);
    std::optional<mx::array> b;
    if (op.b != MLXR_NONE) b = rows(op.b);
    set(op.dst, gate(op.u.act.act, op.u.act.alpha, op.u.act.limit, a, b ? &*b : nullptr, prep, s));
}

void Step::add(const mlxr_op &op, const Prepared &)
{
    set(op.dst, mx::add(rows(op.a), rows(op.b), s));
}

void Step::scale(const mlxr_op &op, const Prepared &)
{
    mx::array out = rows(op.a);
    if (op.u.scale.factor != 1) out = mx::multiply(out, scalar(op.u.scale.factor), s);
    if (op.weight != MLXR_NONE) out = mx::multiply(out, *e.weights[op.weight].data, s);
    set(op.dst, out);
}

void Step::softcap(const mlxr_op &op, const Prepared &)
{
    mx::array cap = scalar(op.u.softcap.cap);
    set(op.dst, mx::multiply(mx::tanh(mx::divide(rows(op.a), cap, s), s), cap, s));
}

// One run is a slice; several, when whole steps lie within a, are a slice of a reshaped one; else they are gathered.
void Step::slice(const mlxr_op &op, const Prepared &prep)
{
    size_t width = p->regs[op.dst].width, from = p->regs[op.a].width, run = op.u.slice.run;
    size_t step = op.u.slice.step, first = op.u.slice.first, n_runs = width / run;
    mx::array a = rows(op.a);
    int T = a.shape(0);

    if (n_runs == 1 || step == run) {
        set(op.dst, mx::slice(a, {0, (int)first}, {T, (int)(first + width)}, {1, 1}, s));
    } else if (prep.vector) {
        set(op.dst, mx::take(a, *prep.vector, 1, s));
    } else {
        size_t begin = first / step * step, skip = first - begin;
        if (begin != 0 || n_runs * step != from)
            a = mx::slice(a, {0, (int)begin}, {T, (int)(begin + n_runs * step)}, {1, 1}, s);
        a = mx::reshape(a, {T, (int)n_runs, (int)step}, s);
        a = mx::slice(a, {0, 0, (int)skip}, {T, (int)n_runs, (int)(skip + run)}, {1, 1, 1}, s);
        set(op.dst, mx::reshape(a, {T, (int)width}, s));
    }
}

// A stable sort puts the best first, and of equal ones the lower number.
void Step::route(const mlxr_op &op, const Prepared &)
{
    bool after = op.u.route.router == MLXR_ROUTER_TOPK_SOFTMAX;
    int k = as_int(op.u.route.k);
    mx::array scores = rows(op.a), order = mx::argsort(mx::negative(scores, s), -1, s);
    if (!after) scores = mx::softmax(scores, std::vector<int>{-1}, true, s);
    mx::array index = mx::slice(order, {0, 0}, {(int)n, k}, {1, 1}, s);
    mx::array w = mx::take_along_axis(scores, index, -1, s);

    if (after)
        w = mx::softmax(w, std::vector<int>{-1}, true, s);
    else if (op.u.route.normalize)
        w = mx::divide(w, mx::sum(w, std::vector<int>{-1}, true, s), s);
    if (op.u.route.scale != 1) w = mx::multiply(w, scalar(op.u.route.scale), s);
    if (op.weight != MLXR_NONE) w = mx::multiply(w, mx::take(*e.weights[op.weight].data, index, 0, s), s);
    regs[op.dst] = Register{{}, {}, index, w};
}

// x [..., 1, K] through the matrix of its expert: [..., 1, N].
mx::array Step::per_expert(mlxr_weight_id weight, mlxr_weight_id bias, const mx::array &x,
                           const mx::array &index, bool sorted)
{
    const Weight &w = e.weights[weight];
    std::optional<mx::array> y;
    if (w.quantized()) {
        y = mx::gather_qmm(x, *w.data, *w.scales, w.biases, std::nullopt, index, true,
                           (int)w.quant.group_size, (int)w.quant.bits, mode_name(w.quant.mode), std::nullopt,
                           sorted, s);
        if (w.factor)
            y = mx::multiply(
                *y, mx::astype(mx::expand_dims(mx::take(*w.factor, index, 0, s), {-1, -2}, s), type, s), s);
    } else {
        y = mx::gather_mm(mx::astype(x, w.data->dtype(), s), mx::swapaxes(*w.data, -1, -2, s), std::nullopt,
                          index, sorted, s);
        y = mx::astype(*y, type, s);
    }
    if (bias != MLXR_NONE)
        y = mx::add(*y, mx::expand_dims(mx::take(*e.weights[bias].data, index, 0, s), -2, s), s);
    return *y;
}

// As mlx-lm's SwitchGLU: with many tokens the pairs of token and expert are sorted by expert, so that an expert's
// matrix is read once.
void Step::experts(const mlxr_op &op, const Prepared &prep)
{
    const auto &x = op.u.experts;
    int k = as_int(x.k), T = (int)n, D = as_int(p->regs[op.a].width), F = as_int(x.width);
    std::optional<mx::array> numbers = regs[op.b].index;
    mx::array weights = numbers ? *regs[op.b].weights : rows(op.b);
    if (!numbers) { // not from a ROUTE: numbers, then weights, as floats; one that no expert has counts nothing
        mx::array got = mx::slice(weights, {0, 0}, {T, k}, {1, 1}, s);
        mx::array most = scalar((float)p->weights[x.gate].n_experts);
        mx::array is_one = mx::logical_and(mx::greater_equal(got, scalar(0), s), mx::less(got, most, s), s);
        weights = mx::slice(weights, {0, k}, {T, 2 * k}, {1, 1}, s);
        weights = mx::where(is_one, weights, scalar(0), s);
        numbers = mx::astype(mx::where(is_one, got, scalar(0), s), mx::uint32, s);
    }
    mx::array index = *numbers;
    mx::array in = mx::reshape(rows(op.a), {T, 1, 1, D}, s);
    bool sorted = T * k >= 64;
    std::optional<mx::array> back, gate_rows, up_rows;

    if (sorted) {
        mx::array flat = mx::flatten(index, s), order = mx::argsort(flat, 0, s);
        back = mx::argsort(order, 0, s);
        mx::array token = mx::floor_divide(order, mx::array(k, order.dtype()), s);
        in = mx::take(mx::reshape(in, {T, 1, D}, s), token, 0, s);
        index = mx::take(flat, order, 0, s);
    }
    gate_rows = per_expert(x.gate, x.gate_bias, in, index, sorted);
    if (x.gate_up == MLXR_GATE_UP_APART) {
        up_rows = per_expert(x.up, x.up_bias, in, index, sorted);
    } else {
        mx::Shape begin(gate_rows->ndim(), 0), end = gate_rows->shape(), stride(gate_rows->ndim(), 1);
        mx::array both = *gate_rows;
        bool halves = x.gate_up == MLXR_GATE_UP_HALVES;
        mx::Shape second = begin;
        end.back() = halves ? F : 2 * F;
        stride.back() = halves ? 1 : 2;
        second.back() = halves ? F : 1;
        gate_rows = mx::slice(both, begin, end, stride, s);
        end.back() = 2 * F;
        up_rows = mx::slice(both, second, end, stride, s);
    }
    mx::array y = gate(x.act, x.alpha, x.limit, *gate_rows, &*up_rows, prep, s);
    y = per_expert(x.down, x.down_bias, y, index, sorted);
    if (sorted) y = mx::take(y, *back, 0, s);
    y = mx::reshape(y, {T, k, y.shape(-1)}, s);
    y = mx::sum(mx::multiply(y, mx::expand_dims(weights, -1, s), s), std::vector<int>{-2}, false, s);
    set(op.dst, mx::astype(y, type, s));
}

// ---- which function runs which kind ----

void Step::run_op(size_t i)
{
    const mlxr_op &op = p->ops[i];
    const Prepared &prep = e.prepared[i];

    switch (op.kind) {
    case MLXR_OP_EMBED: return embed(op, prep);
    case MLXR_OP_LINEAR: return linear(op, prep);
    case MLXR_OP_RMS_NORM: return rms_norm(op, prep);
    case MLXR_OP_LAYER_NORM: return layer_norm(op, prep);
    case MLXR_OP_ROPE: return rope(op, prep);
    case MLXR_OP_ATTEND: return attend(op, prep);
    case MLXR_OP_ACT_MUL: return act_mul(op, prep);
    case MLXR_OP_ADD: return add(op, prep);
    case MLXR_OP_SCALE: return scale(op, prep);
    case MLXR_OP_SOFTCAP: return softcap(op, prep);
    case MLXR_OP_SLICE: return slice(op, prep);
    case MLXR_OP_ROUTE: return route(op, prep);
    case MLXR_OP_EXPERTS: return experts(op, prep);
    case MLXR_OP_SHORT_CONV: return short_conv(op, prep);
    case MLXR_OP_GATED_DELTA: return gated_delta(op, prep);
    case MLXR_OP_COUNT: break;
    }
    throw Failure(MLXR_E_UNSUPPORTED, "operation %d is not supported", (int)op.kind);
}

static void prepare_rope(Prepared &out, const Executable &e, const mlxr_op &op)
{
    const mx::Stream &s = e.dev().stream;
    size_t half = op.u.rope.n_rot / 2, Dh = op.u.rope.head_dim;
    mx::array inverse = from_floats(op.u.rope.inv_freq, half);

    out.periods = mx::divide(mx::array(1.0f), inverse, s);
    if (op.u.rope.scale != 1) {
        std::vector<float> factors(Dh, 1.0f);
        std::fill(factors.begin(), factors.begin() + (ptrdiff_t)(2 * half), op.u.rope.scale);
        out.factors = mx::astype(from_floats(factors.data(), Dh), e.type, s);
    }
}

static void prepare_slice(Prepared &out, const Executable &e, const mlxr_op &op)
{
    size_t width = e.program->regs[op.dst].width, run = op.u.slice.run, step = op.u.slice.step;
    size_t first = op.u.slice.first, n_runs = width / run, begin = step ? first / step * step : 0;

    if (n_runs == 1 || step == run) return;
    if (step > 0 && begin + n_runs * step <= e.program->regs[op.a].width && first - begin + run <= step)
        return;
    std::vector<uint32_t> index(width);
    for (size_t i = 0; i < width; i++) index[i] = (uint32_t)(first + i / run * step + i % run);
    out.vector = from_bytes(index.data(), {as_int(width)}, mx::uint32);
}

static void check_act(mlxr_act act)
{
    switch (act) {
    case MLXR_ACT_NONE:
    case MLXR_ACT_SILU:
    case MLXR_ACT_GELU:
    case MLXR_ACT_GELU_TANH:
    case MLXR_ACT_SIGMOID:
    case MLXR_ACT_SWIGLU_OAI: return;
    }
    throw Failure(MLXR_E_UNSUPPORTED, "activation %d is not supported", (int)act);
}

Prepared Step::prepare(const Executable &e, const mlxr_op &op)
{
    const mx::Stream &s = e.dev().stream;
    Prepared out;

    if (op.dst != MLXR_NONE) as_int(e.program->regs[op.dst].width);
    switch (op.kind) {
    case MLXR_OP_RMS_NORM:
        if (op.weight == MLXR_NONE) break;
        out.vector = *e.weights[op.weight].data;
        if (op.u.norm.offset != 0) out.vector = mx::add(mx::array(op.u.norm.offset, e.type), *out.vector, s);
        break;
    case MLXR_OP_ROPE: prepare_rope(out, e, op); break;
    case MLXR_OP_SLICE: prepare_slice(out, e, op); break;
    case MLXR_OP_ACT_MUL:
        check_act(op.u.act.act);
        out.fused = fuse(op.u.act.act, op.u.act.alpha, op.u.act.limit, op.b != MLXR_NONE, e.dev());
        break;
    case MLXR_OP_EXPERTS:
        check_act(op.u.experts.act);
        out.fused = fuse(op.u.experts.act, op.u.experts.alpha, op.u.experts.limit, true, e.dev());
        break;
    case MLXR_OP_SHORT_CONV:
        check_act(op.u.conv.act);
        // [C, taps + 1] as conv1d takes depthwise filters: [C, taps + 1, 1]
        out.vector = mx::expand_dims(*e.weights[op.weight].data, -1, s);
        break;
    case MLXR_OP_EMBED:
    case MLXR_OP_LINEAR:
    case MLXR_OP_LAYER_NORM:
    case MLXR_OP_ATTEND:
    case MLXR_OP_ADD:
    case MLXR_OP_SCALE:
    case MLXR_OP_SOFTCAP:
    case MLXR_OP_ROUTE:
    case MLXR_OP_GATED_DELTA: break;
    default: throw Failure(MLXR_E_UNSUPPORTED, "operation %d is not supported", (int)op.kind);
    }
    for (std::optional<mx::array> *a : {&out.vector, &out.periods, &out.factors})
        if (*a) (*a)->eval();
    return out;
}
} // namespace mlxr_mlx
